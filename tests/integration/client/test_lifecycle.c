/* Opening, closing, forking, losing the broker, inspection. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- where the broker is ---- */

static void test_open_without_broker(void **state) {
  (void)state;
  slc_client *client = NULL;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.socket = "/nonexistent/broker.sock";
  check_status(slc_client_open(&options, &client), SLC_NO_BROKER);
  assert_non_null(strstr(slc_error_detail(), "/nonexistent/broker.sock"));
  assert_null(client);
}

static void test_open_paths(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = NULL;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.socket = broker->socket;
  setenv("SLOTCAST_SOCKET", "/nonexistent/broker.sock", 1);
  check_ok(slc_client_open(&options, &client)); /* the argument counts before the environment */
  assert_string_equal(slc_client_socket(client), broker->socket);
  slc_client_close(client);
  check_status(slc_client_open(NULL, &client), SLC_NO_BROKER);

  char session[128], socket[160];
  snprintf(session, sizeof session, "%s/slotcast", broker->directory);
  snprintf(socket, sizeof socket, "%s/broker.sock", session);
  assert_int_equal(mkdir(session, 0700), 0);
  assert_int_equal(symlink(broker->socket, socket), 0);
  unsetenv("SLOTCAST_SOCKET");
  setenv("XDG_RUNTIME_DIR", broker->directory, 1);
  check_ok(slc_client_open(NULL, &client));
  assert_string_equal(slc_client_socket(client), socket);
  slc_client_close(client);
  assert_int_equal(unlink(socket), 0);
  assert_int_equal(rmdir(session), 0);
}

static void test_names_that_can_not_be(void **state) {
  (void)state;
  slc_client *client = NULL;
  char name[300];
  memset(name, 'x', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.name = name;
  check_status(slc_client_open(&options, &client), SLC_INVALID);
  options.name = "a\nb";
  check_status(slc_client_open(&options, &client), SLC_INVALID);
}

/* ---- fork ---- */

/* In the child: the number of the first call that did not say FORKED; 0: all did. */
static int child_calls(slc_client *client, slc_publisher *publisher, slc_subscriber *subscriber, slc_loan *loan) {
  slc_message message = {0};
  slc_publisher_stats publisher_stats = {.size = sizeof publisher_stats};
  slc_subscriber_stats stats = {.size = sizeof stats};
  slc_channel_info *info;
  slc_publisher *new_publisher;
  slc_subscriber *new_subscriber;
  size_t count;
  int fd;
  if (slc_publisher_publish(publisher, loan, 1, NULL) != SLC_FORKED) return 1;
  if (slc_publisher_discard(publisher, loan) != SLC_FORKED) return 2;
  if (slc_publisher_loan(publisher, 1, loan) != SLC_FORKED) return 3;
  if (slc_publisher_send(publisher, "x", 1, NULL) != SLC_FORKED) return 4;
  if (slc_publisher_wait(publisher, 0) != SLC_FORKED) return 5;
  if (slc_publisher_stats_get(publisher, &publisher_stats) != SLC_FORKED) return 6;
  if (slc_subscriber_take(subscriber, &message) != SLC_FORKED) return 7;
  if (slc_subscriber_take_newest(subscriber, &message) != SLC_FORKED) return 8;
  if (slc_subscriber_release(subscriber, &message) != SLC_FORKED) return 9;
  if (slc_subscriber_wait(subscriber, 0) != SLC_FORKED) return 10;
  if (slc_subscriber_fd(subscriber, &fd) != SLC_FORKED) return 11;
  if (slc_subscriber_stats_get(subscriber, &stats) != SLC_FORKED) return 12;
  if (slc_publisher_open(client, CHANNEL, NULL, &new_publisher) != SLC_FORKED) return 13;
  if (slc_subscriber_open(client, CHANNEL, NULL, &new_subscriber) != SLC_FORKED) return 14;
  if (slc_channel_list(client, &info, &count) != SLC_FORKED) return 15;
  if (slc_channel_inspect(client, CHANNEL, &info) != SLC_FORKED) return 16;
  if (slc_subscriber_take_many(subscriber, &message, 1, &count) != SLC_FORKED) return 17;
  if (slc_subscriber_find(subscriber, 1, 1, &message) != SLC_FORKED) return 18;
  if (slc_subscriber_find_time(subscriber, 1, 1, &message) != SLC_FORKED) return 19;
  if (slc_subscriber_take_weak(subscriber, 1, 0, &message) != SLC_FORKED) return 30;
  if (slc_channel_create(client, CHANNEL, NULL) != SLC_FORKED) return 31;
  if (slc_channel_remove(client, CHANNEL, 1) != SLC_FORKED) return 32;
  return 0;
}

/* The same of what is not in that one. */
static int child_calls_more(slc_publisher *publisher, slc_subscriber *subscriber, slc_waitset *set) {
  slc_retired retired = {.ordinal = 1};
  slc_loan loan;
  slc_waitset_event event;
  size_t count;
  int fd;
  if (slc_publisher_retired(publisher, &retired, 1, &count) != SLC_FORKED) return 40;
  if (slc_publisher_loan_slot(publisher, &retired, 1, &loan) != SLC_FORKED) return 41;
  if (slc_publisher_fd(publisher, &fd) != SLC_FORKED) return 42;
  if (slc_waitset_add_subscriber(set, subscriber, NULL) != SLC_FORKED) return 43;
  if (slc_waitset_remove_subscriber(set, subscriber) != SLC_FORKED) return 44;
  if (slc_waitset_add_fd(set, STDIN_FILENO, POLLIN, NULL) != SLC_FORKED) return 45;
  if (slc_waitset_remove_fd(set, STDIN_FILENO) != SLC_FORKED) return 46;
  if (slc_waitset_wait(set, 0, &event, 1, &count) != SLC_FORKED) return 47;
  if (slc_waitset_fd(set, &fd) != SLC_FORKED) return 48;
  return 0;
}

/* A client of its own works in the child, and the parent's handles still don't. */
static int child_own_client(slc_publisher *inherited) {
  slc_client *client;
  slc_subscriber *subscriber;
  slc_message message;
  if (slc_client_open(NULL, &client) != 0) return 20;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  if (slc_subscriber_open(client, CHANNEL, &options, &subscriber) != 0) return 21;
  if (slc_subscriber_take(subscriber, &message) != 0 || message.ordinal != 1) return 22;
  if (slc_publisher_send(inherited, "x", 1, NULL) != SLC_FORKED) return 23;
  slc_client_close(client);
  return 0;
}

static void test_fork_guard(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  send_pattern(publisher, 1, 40);
  slc_loan loan;
  slc_waitset *set = NULL;
  check_ok(slc_publisher_loan(publisher, 40, &loan));
  check_ok(slc_waitset_new(&set));
  check_ok(slc_waitset_add_subscriber(set, subscriber, NULL));
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    int failed = child_calls(client, publisher, subscriber, &loan);
    if (failed == 0) failed = child_calls_more(publisher, subscriber, set);
    if (failed == 0) failed = child_own_client(publisher);
    slc_waitset_free(set);
    slc_subscriber_close(subscriber); /* of the inherited: frees memory, and nothing else */
    slc_client_close(client);
    _exit(failed);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  slc_waitset_event event;
  size_t count = 0;
  check_ok(slc_publisher_publish(publisher, &loan, 1, NULL)); /* the child has disturbed nothing */
  check_ok(slc_waitset_wait(set, SLC_WAIT_FOREVER, &event, 1, &count));
  assert_ptr_equal(event.subscriber, subscriber);
  slc_waitset_free(set);
  take_pattern(subscriber, 1, 40);
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_int_equal(message.ordinal, 2);
  slc_client_close(client);
}

/* ---- without the broker ---- */

static void test_broker_killed_data_goes_on(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_client *other = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(other, NULL);
  slc_client *early = client_open();
  slc_subscriber *unattached = NULL;
  check_ok(slc_subscriber_open(early, "test/other", NULL, &unattached));
  for (uint64_t n = 1; n <= 100; n++) {
    send_pattern(publisher, n, 40);
    take_pattern(subscriber, n, 40);
  }
  test_broker_kill(broker);
  for (uint64_t n = 101; n <= 5000; n++) {
    send_pattern(publisher, n, 40);
    check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
    take_pattern(subscriber, n, 40);
  }
  check_status(slc_subscriber_wait(subscriber, 120 * MS), SLC_TIMED_OUT);
  slc_publisher *late = NULL;
  check_status(slc_publisher_open(client, "test/late", NULL, &late), SLC_BROKER_GONE);
  assert_non_null(strstr(slc_error_detail(), broker->socket));
  slc_channel_info *list = NULL;
  size_t count = 0;
  check_status(slc_channel_list(client, &list, &count), SLC_BROKER_GONE);
  check_status(slc_subscriber_wait(unattached, SLC_WAIT_FOREVER), SLC_BROKER_GONE);
  send_pattern(publisher, 5001, 40);
  take_pattern(subscriber, 5001, 40);
  slc_client_close(early);
  slc_client_close(other);
  slc_client_close(client);
}

/* A reliable subscriber that closes while there is no broker must not hold its publisher back. */
static void test_broker_killed_reliable_subscriber_leaves(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = 1;
  options.slots = 16;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options reliable = SLC_SUBSCRIBER_OPTIONS_INIT;
  reliable.reliable = 1;
  slc_subscriber *subscriber = subscriber_open(client, &reliable);
  int status;
  uint64_t sent = 0;
  while ((status = slc_publisher_send(publisher, "x", 1, NULL)) == 0) assert_true(++sent < 1000);
  check_status(status, SLC_WOULD_BLOCK);
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message)); /* still held when it closes */
  test_broker_kill(broker);
  slc_subscriber_close(subscriber);
  for (int i = 0; i < 100; i++) {
    while ((status = slc_publisher_send(publisher, "x", 1, NULL)) == SLC_WOULD_BLOCK)
      check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
    check_ok(status);
  }
  slc_client_close(client);
}

/* ---- closing ---- */

static void test_close_orders(void **state) {
  (void)state;
  for (int order = 0; order < 4; order++) {
    slc_client *client = client_open();
    slc_publisher *publisher = publisher_open(client, NULL);
    slc_subscriber *subscriber = subscriber_open(client, NULL);
    check_ok(slc_publisher_send(publisher, "x", 1, NULL));
    slc_message message;
    check_ok(slc_subscriber_take(subscriber, &message));
    if (order == 0 || order == 2) slc_publisher_close(publisher);
    if (order == 1 || order == 2) slc_subscriber_close(subscriber);
    slc_client_close(client);
  }
  slc_client_close(NULL);
  slc_publisher_close(NULL);
  slc_subscriber_close(NULL);
  slc_channel_info_free(NULL);
  slc_channel_list_free(NULL, 0);
}

static void test_budget_comes_back(void **state) {
  (void)state;
  slc_client *client = client_open();
  for (int i = 0; i < 200; i++) { /* many more than the channel has slots for at once */
    slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
    options.slots = 16;
    options.max_loans = 2;
    slc_publisher *publisher = publisher_open(client, &options);
    slc_subscriber *subscriber = subscriber_open(client, NULL);
    slc_loan loan;
    check_ok(slc_publisher_loan(publisher, 1, &loan));
    check_ok(slc_publisher_send(publisher, "x", 1, NULL));
    slc_message message;
    check_ok(slc_subscriber_take(subscriber, &message));
    slc_publisher_close(publisher);
    slc_subscriber_close(subscriber);
  }
  slc_client_close(client);
}

/* ---- too few descriptors ---- */

static void test_descriptors_run_out(void **state) {
  (void)state;
  slc_client *client = client_open();
  struct rlimit before, tight;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  tight = before;
  tight.rlim_cur = 100;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
  slc_publisher *publisher = NULL;
  check_status(slc_publisher_open(client, CHANNEL, NULL, &publisher), SLC_NO_DESCRIPTORS);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  publisher = publisher_open(client, NULL); /* nothing is left of the attempt */
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  assert_int_equal(info->publishers, 1);
  slc_channel_info_free(info);
  slc_client_close(client);
}

/* ---- inspection ---- */

static void test_inspection(void **state) {
  (void)state;
  slc_client *client = NULL;
  slc_client_options named = SLC_CLIENT_OPTIONS_INIT;
  named.name = "the inspector";
  check_ok(slc_client_open(&named, &client));
  slc_channel_info *list = NULL, *info = NULL;
  size_t count = 7;
  check_ok(slc_channel_list(client, &list, &count));
  assert_int_equal(count, 0);
  slc_channel_list_free(list, count);
  check_status(slc_channel_inspect(client, "none", &info), SLC_NOT_FOUND);

  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_subscriber *early = NULL;
  check_ok(slc_subscriber_open(client, "a/first", NULL, &early));
  send_pattern(publisher, 1, 100);
  send_pattern(publisher, 2, 100);
  take_pattern(subscriber, 1, 100);

  check_ok(slc_channel_list(client, &list, &count));
  assert_int_equal(count, 2);
  assert_string_equal(list[0].name, "a/first");
  assert_int_equal(list[0].is_shaped, 0);
  assert_string_equal(list[1].name, CHANNEL);
  assert_int_equal(list[1].slots, 64);
  assert_int_equal(list[1].messages, 2);
  slc_channel_list_free(list, count);

  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  assert_string_equal(info->name, CHANNEL);
  assert_int_equal(info->bytes, 200);
  assert_int_equal(info->user_count, 2);
  assert_int_equal(info->slots_free + info->slots_owned + info->slots_published, info->slots);
  for (uint32_t i = 0; i < info->user_count; i++) {
    const slc_user_info *user = &info->users[i];
    assert_int_equal(user->pid, getpid());
    assert_int_equal(user->uid, getuid());
    assert_string_equal(user->client_name, "the inspector");
    assert_int_equal(user->is_connected, 1);
    assert_int_equal(user->messages, user->is_publisher ? 2 : 1);
    assert_int_equal(user->lag, user->is_publisher ? 0 : 1);
  }
  slc_channel_info_free(info);
  slc_client_close(client);
}

static size_t count_channels(slc_client *client) {
  slc_channel_info *list = NULL;
  size_t count = 0;
  check_ok(slc_channel_list(client, &list, &count));
  slc_channel_list_free(list, count);
  return count;
}

/* So little time may be over before a busy broker has answered: asked again, it has. */
static slc_client *open_impatiently(const slc_client_options *options) {
  slc_client *client = NULL;
  int status;
  do status = slc_client_open(options, &client);
  while (status == SLC_TIMED_OUT);
  check_ok(status);
  return client;
}

static slc_publisher *publish_impatiently(slc_client *client) {
  slc_publisher *publisher = NULL;
  int status;
  do status = slc_publisher_open(client, CHANNEL, NULL, &publisher);
  while (status == SLC_TIMED_OUT);
  check_ok(status);
  return publisher;
}

static slc_subscriber *subscribe_impatiently(slc_client *client) {
  slc_subscriber *subscriber = NULL;
  int status;
  do status = slc_subscriber_open(client, CHANNEL, NULL, &subscriber);
  while (status == SLC_TIMED_OUT);
  check_ok(status);
  return subscriber;
}

/* A stopped broker: requests end, closing does not wait for each handle, the streams go on; when it goes on, what it
 * opened for those who no longer waited goes. */
static void test_broker_hangs(void **state) {
  const struct test_broker *broker = *state;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.request_timeout_ns = 20000000;
  slc_client *client = open_impatiently(&options), *other = NULL;
  slc_publisher *nobody = NULL;
  slc_channel_info *list = NULL;
  size_t count = 0;
  slc_publisher *publisher = publish_impatiently(client);
  slc_subscriber *subscriber = subscribe_impatiently(client);
  stop(broker->pid);
  check_status(slc_channel_list(client, &list, &count), SLC_TIMED_OUT);
  assert_non_null(strstr(slc_error_detail(), "has not answered within 0.020 s"));
  check_status(slc_publisher_open(client, "another", NULL, &nobody), SLC_TIMED_OUT);
  check_status(slc_client_open(&options, &other), SLC_TIMED_OUT);
  send_pattern(publisher, 1, 100);
  take_pattern(subscriber, 1, 100);
  slc_subscriber_close(subscriber);
  kill(broker->pid, SIGCONT);
  options.request_timeout_ns = SLC_WAIT_FOREVER;
  check_ok(slc_client_open(&options, &other));
  while (slc_channel_list(client, &list, &count) == SLC_TIMED_OUT) {
  }
  slc_channel_list_free(list, count);
  while (count_channels(other) > 1) {
  }
  slc_client_close(client);
  while (count_channels(other) > 0) {
  }
  slc_client_close(other);
}

/* A listener whose queue is full: nobody is let in, and nobody says so. */
static void test_broker_takes_nobody(void **state) {
  (void)state;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "/tmp/slotcast-full-%d.sock", (int)getpid());
  int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0),
      first = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(listener, (const struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(listen(listener, 0), 0);
  assert_int_equal(connect(first, (const struct sockaddr *)&address, sizeof address), 0);
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.socket = address.sun_path;
  options.request_timeout_ns = 1;
  slc_client *client = NULL;
  check_status(slc_client_open(&options, &client), SLC_TIMED_OUT);
  close(first);
  close(listener);
  unlink(address.sun_path);
}

/* 200 messages through 64 slots past a subscriber that does not take, then everybody but the last publisher goes. */
static void test_totals_keep_who_has_left(void **state) {
  (void)state;
  enum { MESSAGES = 200, SIZE = 10 };
  slc_client *client = client_open();
  slc_publisher *leaves = publisher_open(client, NULL), *stays = publisher_open(client, NULL);
  slc_subscriber *late = subscriber_open(client, NULL);
  slc_subscriber_stats stats = {.size = sizeof stats};
  slc_message message;
  for (uint64_t n = 1; n <= MESSAGES; n++) send_pattern(n % 2 == 0 ? leaves : stays, n, SIZE);
  check_ok(slc_subscriber_take(late, &message));
  check_ok(slc_subscriber_release(late, &message));
  check_ok(slc_subscriber_stats_get(late, &stats));
  assert_true(stats.dropped > 0);
  slc_publisher_close(leaves);
  slc_subscriber_close(late);

  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  assert_int_equal(info->user_count, 1);
  assert_int_equal(info->messages, MESSAGES);
  assert_int_equal(info->bytes, MESSAGES * SIZE);
  assert_int_equal(info->drops, stats.dropped);
  slc_channel_info_free(info);

  leaves = publisher_open(client, NULL); /* with the id of the one that has left */
  send_pattern(leaves, MESSAGES + 1, SIZE);
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  assert_int_equal(info->bytes, (MESSAGES + 1) * SIZE);
  slc_channel_info_free(info);
  slc_client_close(client);
}

static void test_many_channels_in_pages(void **state) {
  (void)state;
  enum { COUNT = 300 };
  slc_client *client = client_open();
  for (int i = 0; i < COUNT; i++) {
    char name[256];
    snprintf(name, sizeof name, "many/%03d/%0200d", i, i);
    slc_subscriber *subscriber = NULL;
    check_ok(slc_subscriber_open(client, name, NULL, &subscriber));
  }
  slc_channel_info *list = NULL;
  size_t count = 0;
  check_ok(slc_channel_list(client, &list, &count));
  assert_int_equal(count, COUNT);
  for (size_t i = 1; i < count; i++) assert_true(strcmp(list[i - 1].name, list[i].name) < 0);
  slc_channel_list_free(list, count);
  slc_client_close(client);
}

/* Membership of more subscribers than one table or one message has room for, and each with a doorbell. */
static void test_many_subscribers_of_one_channel(void **state) {
  (void)state;
  enum { COUNT = 100 };
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 1024;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscribers[COUNT];
  for (int i = 0; i < COUNT; i++) {
    subscribers[i] = subscriber_open(client, NULL);
    int fd;
    check_ok(slc_subscriber_fd(subscribers[i], &fd));
  }
  slc_publisher *second = publisher_open(client, NULL); /* gets everybody at once */
  for (uint64_t n = 1; n <= 2000; n++) {
    send_pattern(n % 2 != 0 ? publisher : second, n, 40);
    for (int i = 0; i < COUNT; i++) take_pattern(subscribers[i], n, 40);
  }
  for (int i = 0; i < COUNT; i += 2) slc_subscriber_close(subscribers[i]);
  for (uint64_t n = 2001; n <= 4000; n++) {
    send_pattern(n % 2 != 0 ? publisher : second, n, 40);
    for (int i = 1; i < COUNT; i += 2) take_pattern(subscribers[i], n, 40);
  }
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open_without_broker),
      BROKER_TEST(test_open_paths),
      BROKER_TEST(test_names_that_can_not_be),
      BROKER_TEST(test_fork_guard),
      BROKER_TEST(test_broker_killed_data_goes_on),
      BROKER_TEST(test_broker_killed_reliable_subscriber_leaves),
      BROKER_TEST(test_close_orders),
      BROKER_TEST(test_budget_comes_back),
      BROKER_TEST(test_descriptors_run_out),
      BROKER_TEST(test_inspection),
      BROKER_TEST(test_totals_keep_who_has_left),
      BROKER_TEST(test_broker_hangs),
      cmocka_unit_test(test_broker_takes_nobody),
      BROKER_TEST(test_many_channels_in_pages),
      BROKER_TEST(test_many_subscribers_of_one_channel),
  };
  return cmocka_run_group_tests_name("client_lifecycle", tests, NULL, NULL);
}

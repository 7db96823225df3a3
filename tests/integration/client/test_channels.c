/* The life of channels and what is settled for all of their users: created, lingering, removed, limited. */
#include "common.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- looking ---- */

/* Whether the channel is there, and its figures; the strings are not to be looked at. */
static bool look(slc_client *client, slc_channel_info *ret_info) {
  slc_channel_info *info;
  int status = slc_channel_inspect(client, CHANNEL, &info);
  if (status == SLC_NOT_FOUND) return false;
  check_ok(status);
  if (ret_info != NULL) *ret_info = *info;
  slc_channel_info_free(info);
  return true;
}

static void check_sentence(const char *word) {
  if (strstr(slc_error_detail(), word) == NULL) fail_msg("\"%s\" does not say \"%s\"", slc_error_detail(), word);
}

/* ---- persistent channels ---- */

static void test_created_channel_stays(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_channel_options options = SLC_CHANNEL_OPTIONS_INIT;
  slc_channel_info info = {0};
  options.slots = 16;
  options.slot_size = 100;
  options.type = "number";
  check_ok(slc_channel_create(client, CHANNEL, &options));
  assert_true(look(client, &info));
  assert_true(info.is_persistent);
  assert_false(info.is_lingering);
  assert_int_equal(info.slots, 16);
  assert_int_equal(info.user_count, 0);
  slc_publisher *publisher = publisher_open(client, NULL);
  for (uint64_t i = 1; i <= 3; i++) send_pattern(publisher, i, 100);
  slc_publisher_close(publisher);
  slc_client_close(client); /* whoever created it may go */
  client = client_open();
  slc_subscriber_options oldest = SLC_SUBSCRIBER_OPTIONS_INIT;
  oldest.start = SLC_START_OLDEST;
  slc_subscriber *subscriber = subscriber_open(client, &oldest);
  for (uint64_t i = 1; i <= 3; i++) take_pattern(subscriber, i, 100);
  slc_subscriber_close(subscriber);
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  assert_false(look(client, NULL));
  check_status(slc_channel_remove(client, CHANNEL, 0), SLC_NOT_FOUND);
  slc_client_close(client);
}

static void test_create_again(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_channel_options options = SLC_CHANNEL_OPTIONS_INIT;
  slc_channel_info info = {0};
  slc_publisher *publisher = publisher_open(client, NULL);
  assert_true(look(client, &info));
  assert_false(info.is_persistent);
  check_ok(slc_channel_create(client, CHANNEL, &options)); /* as it is: it stays from now on */
  options.slots = info.slots;
  options.slot_size = info.slot_size;
  check_ok(slc_channel_create(client, CHANNEL, &options));
  slc_publisher_close(publisher);
  assert_true(look(client, &info));
  assert_true(info.is_persistent);
  options.slots = info.slots / 2; /* which a publisher may ask for */
  check_status(slc_channel_create(client, CHANNEL, &options), SLC_INCOMPATIBLE);
  check_sentence("exists with 64 slots of 1024 bytes");
  options.slots = 0;
  options.reliable = 1;
  check_status(slc_channel_create(client, CHANNEL, &options), SLC_INCOMPATIBLE);
  options.reliable = 0;
  options.keep_last = 4;
  check_status(slc_channel_create(client, CHANNEL, &options), SLC_INCOMPATIBLE);
  options.keep_last = 0;
  options.slots = 3;
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  check_status(slc_channel_create(client, CHANNEL, &options), SLC_INVALID);
  assert_false(look(client, NULL)); /* what could not be shaped does not stay */
  check_status(slc_channel_create(client, ".slotcast/mine", NULL), SLC_NAME_INVALID);
  slc_client_close(client);
}

static void test_create_shapes_it_for_who_waits(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  check_ok(slc_channel_create(client, CHANNEL, NULL));
  while (subscriber_stats(subscriber).attached == 0) check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  slc_publisher *publisher = publisher_open(client, NULL);
  send_pattern(publisher, 1, 10);
  take_pattern(subscriber, 1, 10);
  slc_client_close(client);
}

static void test_remove_with_users(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_channel_info info = {0};
  check_ok(slc_channel_create(client, CHANNEL, NULL));
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  check_status(slc_channel_remove(client, CHANNEL, 0), SLC_BUSY);
  char pid[32];
  snprintf(pid, sizeof pid, "pid %d", (int)getpid());
  check_sentence(pid);
  check_sentence("publisher");
  check_sentence("subscriber");
  check_ok(slc_channel_remove(client, CHANNEL, 1));
  assert_true(look(client, &info));
  assert_false(info.is_persistent);
  send_pattern(publisher, 1, 10); /* its users go on */
  take_pattern(subscriber, 1, 10);
  slc_publisher_close(publisher);
  assert_true(look(client, NULL));
  slc_subscriber_close(subscriber);
  assert_false(look(client, NULL));
  slc_client_close(client);
}

/* ---- whose it is ---- */

enum { OTHER_UID = 65534 };

/* In a process of another uid: what removing gives it. */
static int remove_as_other(int force) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    slc_client *client;
    if (setresgid(OTHER_UID, OTHER_UID, OTHER_UID) != 0 || setresuid(OTHER_UID, OTHER_UID, OTHER_UID) != 0) _exit(1);
    if (slc_client_open(NULL, &client) != 0) _exit(2);
    _exit(-slc_channel_remove(client, CHANNEL, force));
  }
  int ended;
  assert_int_equal(waitpid(pid, &ended, 0), pid);
  assert_true(WIFEXITED(ended));
  return -WEXITSTATUS(ended);
}

/* Needs root, to be somebody else, and a backend that serves others. */
static void test_others_do_not_remove(void **state) {
  const struct test_broker *broker = *state;
  if (geteuid() != 0 || strcmp(test_backend(), "memfd") != 0) skip();
  assert_int_equal(chmod(broker->directory, 0711), 0);
  assert_int_equal(chmod(broker->socket, 0666), 0);
  slc_client *client = client_open();
  check_ok(slc_channel_create(client, CHANNEL, NULL));
  assert_int_equal(remove_as_other(0), SLC_DENIED);
  assert_int_equal(remove_as_other(1), SLC_DENIED);
  assert_true(look(client, NULL));
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

/* ---- types ---- */

static void test_type_is_agreed_whoever_comes_first(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber_options reads = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_publisher_options writes = SLC_PUBLISHER_OPTIONS_INIT;
  slc_channel_options made = SLC_CHANNEL_OPTIONS_INIT;
  slc_publisher *none;
  reads.type = "point/1";
  slc_subscriber *subscriber = subscriber_open(client, &reads);
  writes.type = "point/2";
  check_status(slc_publisher_open(client, CHANNEL, &writes, &none), SLC_INCOMPATIBLE);
  check_sentence("\"point/1\", not \"point/2\"");
  made.type = "point/2";
  check_status(slc_channel_create(client, CHANNEL, &made), SLC_INCOMPATIBLE);
  writes.type = NULL; /* any */
  slc_publisher_close(publisher_open(client, &writes));
  writes.type = "point/1";
  slc_publisher_close(publisher_open(client, &writes));
  slc_subscriber_close(subscriber);
  check_ok(slc_channel_create(client, CHANNEL, &made)); /* with its last user the type went, too */
  check_status(slc_subscriber_open(client, CHANNEL, &reads, &subscriber), SLC_INCOMPATIBLE);
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

/* ---- lingering ---- */

#define LONG_NS (INT64_C(3600) * 1000 * MS)

static void test_lingering_channel_keeps_messages(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_channel_info info = {0};
  options.linger_ns = LONG_NS;
  slc_publisher *publisher = publisher_open(client, &options);
  send_pattern(publisher, 1, 10);
  slc_publisher_close(publisher);
  assert_true(look(client, &info));
  assert_true(info.is_lingering);
  assert_int_equal(info.user_count, 0);
  slc_subscriber_options oldest = SLC_SUBSCRIBER_OPTIONS_INIT;
  oldest.start = SLC_START_OLDEST;
  for (int i = 0; i < 2; i++) { /* it lingers again after each */
    slc_subscriber *subscriber = subscriber_open(client, &oldest);
    assert_true(look(client, &info));
    assert_false(info.is_lingering);
    take_pattern(subscriber, 1, 10);
    slc_subscriber_close(subscriber);
    assert_true(look(client, &info));
    assert_true(info.is_lingering);
  }
  oldest.type = "unheard of";
  oldest.max_holds = 1000; /* a refusal does not end it */
  slc_subscriber *none;
  check_status(slc_subscriber_open(client, CHANNEL, &oldest, &none), SLC_NO_BUDGET);
  assert_true(look(client, &info));
  assert_true(info.is_lingering);
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  assert_false(look(client, NULL));
  slc_client_close(client);
}

static void test_lingering_ends(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.linger_ns = 30 * MS;
  slc_publisher *publisher = publisher_open(client, &options);
  options.linger_ns = 40 * MS;
  slc_publisher *none;
  check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_INCOMPATIBLE);
  check_sentence("lingers for 30000000 ns");
  options.linger_ns = -1;
  check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_INVALID);
  slc_publisher_close(publisher);
  while (look(client, NULL)) continue; /* the watchdog's business if it never goes */
  slc_client_close(client);
}

/* Its last user dies instead of saying goodbye. */
static void test_lingering_begins_with_a_death(void **state) {
  (void)state;
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    slc_client *client;
    slc_publisher *publisher;
    slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
    options.linger_ns = LONG_NS;
    if (slc_client_open(NULL, &client) != 0 || slc_publisher_open(client, CHANNEL, &options, &publisher) != 0) _exit(1);
    if (slc_publisher_send(publisher, "left", 4, NULL) != 0 || write(ready[1], "", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte;
  assert_int_equal(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  close(ready[1]);
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  slc_client *client = client_open();
  slc_channel_info info = {0};
  do {
    assert_true(look(client, &info));
  } while (!info.is_lingering);
  slc_subscriber_options oldest = SLC_SUBSCRIBER_OPTIONS_INIT;
  oldest.start = SLC_START_OLDEST;
  slc_subscriber *subscriber = subscriber_open(client, &oldest);
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_memory_equal(message.data, "left", 4);
  check_ok(slc_channel_remove(client, CHANNEL, 1));
  slc_client_close(client);
}

/* ---- limits ---- */

static void test_max_subscribers(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber *first = subscriber_open(client, NULL), *second = subscriber_open(client, NULL), *third;
  slc_publisher *publisher, *other;
  options.max_subscribers = 1;
  check_status(slc_publisher_open(client, CHANNEL, &options, &publisher), SLC_LIMIT);
  check_sentence("has 2 subscribers already");
  options.max_subscribers = 2;
  publisher = publisher_open(client, &options);
  char who[64];
  snprintf(who, sizeof who, "(pid %d, ", (int)getpid());
  check_status(slc_subscriber_open(client, CHANNEL, NULL, &third), SLC_LIMIT);
  check_sentence("all of its 2 subscribers");
  check_sentence(who);
  options.max_subscribers = 3;
  check_status(slc_publisher_open(client, CHANNEL, &options, &other), SLC_INCOMPATIBLE);
  options.max_subscribers = 0;
  check_ok(slc_publisher_open(client, CHANNEL, &options, &other));
  slc_subscriber_close(second);
  third = subscriber_open(client, NULL);
  assert_non_null(first);
  assert_non_null(publisher);
  slc_client_close(client);
}

static void test_max_publishers(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_channel_options options = SLC_CHANNEL_OPTIONS_INIT;
  slc_publisher *none;
  options.max_publishers = 1;
  check_ok(slc_channel_create(client, CHANNEL, &options));
  slc_publisher *publisher = publisher_open(client, NULL);
  char who[64];
  snprintf(who, sizeof who, "(pid %d, ", (int)getpid());
  check_status(slc_publisher_open(client, CHANNEL, NULL, &none), SLC_LIMIT);
  check_sentence("all of its 1 publishers");
  check_sentence(who);
  slc_publisher_close(publisher);
  publisher_open(client, NULL);
  check_ok(slc_channel_remove(client, CHANNEL, 1));
  slc_client_close(client);
}

static void test_max_loans_and_holds(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_channel_options options = SLC_CHANNEL_OPTIONS_INIT;
  slc_publisher_options loans = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options holds = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  options.max_loans = 3;
  options.max_holds = 5;
  check_ok(slc_channel_create(client, CHANNEL, &options));
  loans.max_loans = 4;
  check_status(slc_publisher_open(client, CHANNEL, &loans, &publisher), SLC_LIMIT);
  loans.max_loans = 2;
  publisher_open(client, &loans);
  check_status(slc_publisher_open(client, CHANNEL, &loans, &publisher), SLC_LIMIT);
  check_sentence("allows 3 loans together, of which 2 are taken; 2 more do not fit; publisher");
  holds.max_holds = 3;
  subscriber_open(client, &holds);
  check_status(slc_subscriber_open(client, CHANNEL, &holds, &subscriber), SLC_LIMIT);
  check_sentence("allows 5 holds together, of which 3 are taken; 3 more do not fit; subscriber");
  holds.max_holds = 2;
  subscriber_open(client, &holds);
  options.max_holds = 6;
  check_status(slc_channel_create(client, CHANNEL, &options), SLC_INCOMPATIBLE);
  slc_client_close(client);
}

static void test_fixed_size_is_agreed(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options fixed = SLC_PUBLISHER_OPTIONS_INIT;
  slc_channel_info info = {0};
  slc_publisher *none;
  fixed.fixed_size = 1;
  slc_publisher *publisher = publisher_open(client, &fixed);
  assert_true(look(client, &info));
  assert_true(info.is_fixed_size);
  check_status(slc_publisher_open(client, CHANNEL, NULL, &none), SLC_INCOMPATIBLE);
  check_sentence("has a fixed size");
  slc_publisher *second = publisher_open(client, &fixed);
  slc_publisher_close(publisher);
  slc_publisher_close(second);
  publisher_open(client, NULL);
  check_status(slc_publisher_open(client, CHANNEL, &fixed, &none), SLC_INCOMPATIBLE);
  check_sentence("may grow");
  slc_client_close(client);
}

/* What is kept is promised, too. */
static void test_keep_last_is_in_the_budget(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options holds = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *none;
  slc_channel_info info = {0};
  options.slots = 16;
  options.keep_last = 8;
  slc_publisher *publisher = publisher_open(client, &options);
  assert_true(look(client, &info));
  assert_int_equal(info.keep_last, 8);
  assert_true(info.budget_used >= 8 + 1 + 2);
  holds.max_holds = 16 - info.budget_used;
  check_status(slc_subscriber_open(client, CHANNEL, &holds, &none), SLC_NO_BUDGET);
  holds.max_holds--;
  subscriber_open(client, &holds);
  slc_publisher_close(publisher);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_created_channel_stays),
      BROKER_TEST(test_create_again),
      BROKER_TEST(test_create_shapes_it_for_who_waits),
      BROKER_TEST(test_remove_with_users),
      BROKER_TEST(test_others_do_not_remove),
      BROKER_TEST(test_type_is_agreed_whoever_comes_first),
      BROKER_TEST(test_lingering_channel_keeps_messages),
      BROKER_TEST(test_lingering_ends),
      BROKER_TEST(test_lingering_begins_with_a_death),
      BROKER_TEST(test_max_subscribers),
      BROKER_TEST(test_max_publishers),
      BROKER_TEST(test_max_loans_and_holds),
      BROKER_TEST(test_fixed_size_is_agreed),
      BROKER_TEST(test_keep_last_is_in_the_budget),
  };
  return cmocka_run_group_tests_name("client_channels", tests, NULL, NULL);
}

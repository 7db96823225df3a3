/* Wait-sets over subscribers, publishers and descriptors: what is ready is reported, as long as it is, and nothing
 * else. */
#include "common.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64 };

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 * MS + now.tv_nsec;
}

static slc_waitset *waitset_new(void) {
  slc_waitset *set = NULL;
  check_ok(slc_waitset_new(&set));
  return set;
}

/* Exactly one thing is ready. */
static slc_waitset_event wait_one(slc_waitset *set) {
  slc_waitset_event events[EVENTS];
  size_t count = 0;
  check_ok(slc_waitset_wait(set, SLC_WAIT_FOREVER, events, EVENTS, &count));
  assert_int_equal(count, 1);
  return events[0];
}

static void wait_none(slc_waitset *set) {
  slc_waitset_event event;
  size_t count = 77;
  check_status(slc_waitset_wait(set, 0, &event, 1, &count), SLC_TIMED_OUT);
  assert_int_equal(count, 77); /* written only on success */
}

static void set_event(int fd) {
  assert_int_equal(write(fd, &(uint64_t){1}, sizeof(uint64_t)), sizeof(uint64_t));
}

static void clear_event(int fd) {
  uint64_t value;
  assert_int_equal(read(fd, &value, sizeof value), sizeof value);
}

/* ---- what is reported ---- */

static void test_one_subscriber(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_waitset *set = waitset_new();
  int mark;
  check_ok(slc_waitset_add_subscriber(set, subscriber, &mark));
  wait_none(set);
  for (uint64_t n = 1; n <= 50; n += 2) {
    send_pattern(publisher, n, 40);
    send_pattern(publisher, n + 1, 40);
    for (uint64_t i = n; i <= n + 1; i++) { /* ready as long as it is */
      slc_waitset_event event = wait_one(set);
      assert_ptr_equal(event.user_data, &mark);
      assert_ptr_equal(event.subscriber, subscriber);
      assert_int_equal(event.fd, -1);
      assert_int_equal(event.events, POLLIN);
      take_pattern(subscriber, i, 40);
    }
    wait_none(set);
  }
  check_ok(slc_waitset_remove_subscriber(set, subscriber));
  send_pattern(publisher, 51, 40);
  wait_none(set);
  slc_waitset_free(set);
  slc_client_close(client);
}

static void test_foreign_descriptors(void **state) {
  (void)state;
  slc_waitset *set = waitset_new();
  int counter = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), pipes[2];
  assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
  int mark;
  check_ok(slc_waitset_add_fd(set, counter, POLLIN, &mark));
  check_ok(slc_waitset_add_fd(set, pipes[0], POLLIN, NULL));
  wait_none(set);
  set_event(counter);
  for (int i = 0; i < 3; i++) {
    slc_waitset_event event = wait_one(set);
    assert_ptr_equal(event.user_data, &mark);
    assert_null(event.subscriber);
    assert_int_equal(event.fd, counter);
    assert_int_equal(event.events, POLLIN);
  }
  clear_event(counter);
  wait_none(set);
  check_ok(slc_waitset_add_fd(set, pipes[1], POLLOUT, NULL));
  assert_int_equal(wait_one(set).events, POLLOUT);
  check_ok(slc_waitset_remove_fd(set, pipes[1]));
  close(pipes[1]);
  assert_int_equal(wait_one(set).events, POLLHUP); /* asked for or not */
  check_ok(slc_waitset_remove_fd(set, pipes[0]));
  close(pipes[0]);
  close(counter); /* before it is removed: it is out already */
  check_ok(slc_waitset_remove_fd(set, counter));
  slc_waitset_free(set);
}

static void test_what_is_refused(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_waitset *set = waitset_new();
  int counter = eventfd(0, EFD_CLOEXEC);
  int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), own = -1;
  check_ok(slc_waitset_add_fd(set, counter, POLLIN, NULL));
  check_status(slc_waitset_add_fd(set, counter, POLLIN, NULL), SLC_INVALID);
  check_status(slc_waitset_add_fd(set, -1, POLLIN, NULL), SLC_INVALID);
  check_status(slc_waitset_add_fd(set, file, POLLIN, NULL), SLC_INVALID); /* always readable: nothing to wait for */
  check_status(slc_waitset_add_fd(set, file, 1u << 30, NULL), SLC_INVALID);
  check_ok(slc_waitset_fd(set, &own));
  check_status(slc_waitset_add_fd(set, own, POLLIN, NULL), SLC_INVALID);
  check_status(slc_waitset_remove_fd(set, file), SLC_NOT_FOUND);
  check_status(slc_waitset_remove_subscriber(set, subscriber), SLC_NOT_FOUND);
  check_ok(slc_waitset_add_subscriber(set, subscriber, NULL));
  check_status(slc_waitset_add_subscriber(set, subscriber, NULL), SLC_INVALID);
  slc_waitset_event event;
  size_t count;
  check_status(slc_waitset_wait(set, 0, &event, 0, &count), SLC_INVALID);
  check_status(slc_waitset_wait(set, 0, NULL, 1, &count), SLC_INVALID);
  check_status(slc_waitset_wait(set, 0, &event, 1, NULL), SLC_INVALID);
  check_status(slc_waitset_new(NULL), SLC_INVALID);
  slc_waitset_free(NULL);
  slc_waitset_free(set);
  close(file);
  close(counter);
  slc_client_close(client);
}

/* More are ready than there is room for: all come in turn. */
static void test_all_have_their_turn(void **state) {
  (void)state;
  enum { MANY = 150, ROOM = 8 };
  slc_waitset *set = waitset_new();
  int counters[MANY];
  int seen[MANY] = {0};
  for (int i = 0; i < MANY; i++) {
    counters[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    check_ok(slc_waitset_add_fd(set, counters[i], POLLIN, &seen[i]));
  }
  for (int told = 0; told < MANY;) {
    slc_waitset_event events[ROOM];
    size_t count = 0;
    check_ok(slc_waitset_wait(set, 0, events, ROOM, &count));
    assert_in_range(count, 1, ROOM);
    for (size_t i = 0; i < count; i++) ++*(int *)events[i].user_data;
    told += (int)count;
  }
  for (int i = 0; i < MANY; i++) {
    assert_in_range(seen[i], 1, 2); /* a round is not a whole number of calls */
    check_ok(slc_waitset_remove_fd(set, counters[i]));
    close(counters[i]);
  }
  slc_waitset_free(set);
}

static void test_many_subscribers_of_two_clients(void **state) {
  (void)state;
  enum { MANY = 100 };
  slc_client *clients[2] = {client_open(), client_open()};
  slc_publisher *publishers[MANY];
  slc_subscriber *subscribers[MANY];
  slc_waitset *set = waitset_new();
  for (int i = 0; i < MANY; i++) {
    char channel[32];
    snprintf(channel, sizeof channel, "test/%d", i);
    check_ok(slc_publisher_open(clients[i % 2], channel, NULL, &publishers[i]));
    check_ok(slc_subscriber_open(clients[(i + 1) % 2], channel, NULL, &subscribers[i]));
    check_ok(slc_waitset_add_subscriber(set, subscribers[i], NULL));
  }
  for (int i = 0; i < 3 * MANY; i++) {
    int at = (i * 37) % MANY;
    uint64_t ordinal = 1 + (uint64_t)i / MANY;
    send_pattern(publishers[at], ordinal, 40);
    assert_ptr_equal(wait_one(set).subscriber, subscribers[at]);
    take_pattern(subscribers[at], ordinal, 40);
  }
  wait_none(set);
  slc_waitset_free(set);
  slc_client_close(clients[0]);
  slc_client_close(clients[1]);
}

/* One that came before its channel has a shape, and one whose last publisher leaves. */
static void test_publishers_come_and_go(void **state) {
  (void)state;
  slc_client *client = client_open(), *other = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_waitset *set = waitset_new();
  check_ok(slc_waitset_add_subscriber(set, subscriber, NULL));
  wait_none(set);
  slc_publisher *publisher = publisher_open(other, NULL);
  send_pattern(publisher, 1, 40);
  slc_message message;
  do wait_one(set); /* perhaps first because a publisher has come */
  while (slc_subscriber_take(subscriber, &message) == SLC_EMPTY);
  check_pattern(&message, 1, 40);
  wait_none(set);
  slc_publisher_close(publisher);
  wait_one(set); /* once */
  assert_int_equal(subscriber_stats(subscriber).publishers, 0);
  wait_none(set);
  slc_waitset_free(set);
  slc_client_close(other);
  slc_client_close(client);
}

/* ---- publishers ---- */

static slc_publisher *reliable_publisher(slc_client *client, int retirement) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = 1;
  options.slots = 8;
  options.max_publishers = 1;
  options.retirement = retirement;
  return publisher_open(client, &options);
}

static slc_subscriber *reliable_subscriber(slc_client *client) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  options.max_holds = 1;
  return subscriber_open(client, &options);
}

/* Until there is no slot left. */
static uint64_t fill(slc_publisher *publisher, uint64_t ordinal) {
  slc_loan loan;
  int status;
  while ((status = slc_publisher_loan(publisher, 40, &loan)) == 0) {
    ordinal++;
    for (size_t i = 0; i < 40; i++) ((uint8_t *)loan.data)[i] = pattern(ordinal, i);
    check_ok(slc_publisher_publish(publisher, &loan, 40, NULL));
  }
  check_status(status, SLC_WOULD_BLOCK);
  return ordinal;
}

static void test_publisher_may_go_on(void **state) {
  (void)state;
  slc_client *client = client_open(), *other = client_open();
  slc_publisher *publisher = reliable_publisher(client, 0);
  slc_subscriber *subscriber = reliable_subscriber(other);
  slc_waitset *set = waitset_new();
  int mark;
  check_ok(slc_waitset_add_publisher(set, publisher, &mark));
  check_status(slc_waitset_add_publisher(set, publisher, NULL), SLC_INVALID);
  uint64_t published = 0, taken = 0;
  for (int i = 0; i < 30; i++) {
    slc_waitset_event event = wait_one(set); /* as long as nothing has been refused */
    assert_ptr_equal(event.publisher, publisher);
    assert_null(event.subscriber);
    assert_int_equal(event.fd, -1);
    assert_int_equal(event.events, POLLIN);
    assert_ptr_equal(event.user_data, &mark);
    published = fill(publisher, published);
    wait_none(set);
    for (int n = i % 3; n >= 0; n--) take_pattern(subscriber, ++taken, 40);
  }
  check_ok(slc_waitset_remove_publisher(set, publisher));
  check_status(slc_waitset_remove_publisher(set, publisher), SLC_NOT_FOUND);
  wait_none(set);
  slc_waitset_free(set);
  slc_client_close(other);
  slc_client_close(client);
}

static void test_publisher_learns_of_retirement(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = reliable_publisher(client, 1);
  slc_subscriber *subscriber = reliable_subscriber(client);
  slc_waitset *set = waitset_new();
  check_ok(slc_waitset_add_publisher(set, publisher, NULL));
  wait_none(set);
  uint64_t told = 0;
  for (uint64_t n = 1; n <= 60; n++) {
    send_pattern(publisher, n, 40);
    take_pattern(subscriber, n, 40);
    while (told < n) {
      assert_ptr_equal(wait_one(set).publisher, publisher);
      slc_retired retired[4];
      size_t count = 0;
      int status = slc_publisher_retired(publisher, retired, 4, &count);
      if (status == SLC_EMPTY) continue;
      check_ok(status);
      for (size_t i = 0; i < count; i++) assert_int_equal(retired[i].ordinal, ++told);
    }
    wait_none(set);
  }
  slc_waitset_free(set);
  slc_client_close(client);
}

struct taker {
  slc_subscriber *subscriber;
  uint64_t taken;
};

static void *take_one_run(void *argument) {
  struct taker *taker = argument;
  take_pattern(taker->subscriber, ++taker->taken, 40);
  return NULL;
}

/* Asleep when another thread, with a handle of another client, makes room. */
static void test_sleeping_publisher_is_woken(void **state) {
  (void)state;
  slc_client *client = client_open(), *other = client_open();
  slc_publisher *publisher = reliable_publisher(client, 0);
  struct taker taker = {.subscriber = reliable_subscriber(other)};
  slc_waitset *set = waitset_new();
  check_ok(slc_waitset_add_publisher(set, publisher, NULL));
  uint64_t published = 0;
  for (int i = 0; i < 50; i++) {
    published = fill(publisher, published);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, take_one_run, &taker), 0);
    assert_ptr_equal(wait_one(set).publisher, publisher);
    pthread_join(thread, NULL);
  }
  slc_waitset_free(set);
  slc_client_close(other);
  slc_client_close(client);
}

/* ---- time ---- */

static void on_alarm(int signal) {
  (void)signal;
}

/* Signals, too, end no wait before its time. */
static void test_time_outs(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_waitset *set = waitset_new();
  check_ok(slc_waitset_add_subscriber(set, subscriber_open(client, NULL), NULL));
  publisher_open(client, NULL);
  slc_waitset_event event;
  size_t count;
  while (slc_waitset_wait(set, 20 * MS, &event, 1, &count) == 0) { /* the publisher has come */
  }
  const struct sigaction action = {.sa_handler = on_alarm};
  const struct itimerval often = {.it_interval.tv_usec = 700, .it_value.tv_usec = 700}, never = {0};
  struct sigaction before;
  assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
  assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
  static const int64_t timeouts[] = {0, 1, 999, 50000, 1000001, 30 * MS};
  for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
    int64_t start = now_ns();
    check_status(slc_waitset_wait(set, timeouts[i], &event, 1, &count), SLC_TIMED_OUT);
    assert_true(now_ns() - start >= timeouts[i]);
  }
  setitimer(ITIMER_REAL, &never, NULL);
  sigaction(SIGALRM, &before, NULL);
  slc_waitset_free(set);
  slc_client_close(client);
}

static void *set_event_run(void *argument) {
  set_event(*(const int *)argument);
  return NULL;
}

static void test_sleeper_is_woken(void **state) {
  (void)state;
  slc_waitset *set = waitset_new();
  int counter = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  check_ok(slc_waitset_add_fd(set, counter, POLLIN, NULL));
  for (int i = 0; i < 100; i++) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, set_event_run, &counter), 0);
    assert_int_equal(wait_one(set).fd, counter);
    pthread_join(thread, NULL);
    clear_event(counter);
    wait_none(set);
  }
  slc_waitset_free(set);
  close(counter);
}

/* ---- between processes ---- */

enum { CHANNELS = 5, MESSAGES = 2000 };

static int send_to_all(void) {
  slc_client *client = NULL;
  slc_publisher *publishers[CHANNELS] = {NULL};
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = 1;
  options.slots = 16;
  options.max_publishers = 1;
  int status = slc_client_open(NULL, &client);
  for (int i = 0; i < CHANNELS && status == 0; i++) {
    char channel[32];
    snprintf(channel, sizeof channel, "test/%d", i);
    status = slc_publisher_open(client, channel, &options, &publishers[i]);
  }
  for (uint64_t n = 1; status == 0 && n <= MESSAGES; n++) {
    for (int i = 0; status == 0 && i < CHANNELS; i++) {
      uint8_t bytes[40];
      for (size_t at = 0; at < sizeof bytes; at++) bytes[at] = pattern(n, at);
      while ((status = slc_publisher_send(publishers[i], bytes, sizeof bytes, NULL)) == SLC_WOULD_BLOCK)
        slc_publisher_wait(publishers[i], SLC_WAIT_FOREVER);
    }
  }
  slc_client_close(client);
  return status;
}

/* A foreign descriptor beside them: the death of the sender. */
static void test_all_of_several_channels(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_waitset *set = waitset_new();
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  struct reader {
    slc_subscriber *subscriber;
    uint64_t taken;
  } readers[CHANNELS] = {0};
  for (int i = 0; i < CHANNELS; i++) {
    char channel[32];
    snprintf(channel, sizeof channel, "test/%d", i);
    check_ok(slc_subscriber_open(client, channel, &options, &readers[i].subscriber));
    check_ok(slc_waitset_add_subscriber(set, readers[i].subscriber, &readers[i]));
  }
  int pipes[2];
  assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
  pid_t sender = fork();
  assert_true(sender >= 0);
  if (sender == 0) _exit(send_to_all() == 0 ? 0 : 3);
  close(pipes[1]);
  check_ok(slc_waitset_add_fd(set, pipes[0], POLLIN, NULL));
  uint64_t total = 0;
  for (bool is_over = false; !is_over || total < CHANNELS * MESSAGES;) {
    slc_waitset_event events[2]; /* fewer than there are */
    size_t count = 0;
    check_ok(slc_waitset_wait(set, SLC_WAIT_FOREVER, events, 2, &count));
    for (size_t i = 0; i < count; i++) {
      struct reader *reader = events[i].user_data;
      if (reader == NULL) {
        is_over = true;
        check_ok(slc_waitset_remove_fd(set, pipes[0]));
        continue;
      }
      slc_message message;
      int status = slc_subscriber_take(events[i].subscriber, &message);
      if (status == SLC_EMPTY) continue; /* its publisher came or went */
      check_ok(status);
      check_pattern(&message, ++reader->taken, 40);
      check_ok(slc_subscriber_release(events[i].subscriber, &message));
      total++;
    }
  }
  int ended = 0;
  assert_int_equal(waitpid(sender, &ended, 0), sender);
  assert_int_equal(ended, 0);
  close(pipes[0]);
  slc_waitset_free(set);
  slc_client_close(client);
}

/* Without a broker, messages are told of as before. */
static void test_broker_gone(void **state) {
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_waitset *set = waitset_new();
  check_ok(slc_waitset_add_subscriber(set, subscriber, NULL));
  test_broker_kill(*state);
  for (uint64_t n = 1; n <= 20; n++) {
    send_pattern(publisher, n, 40);
    wait_one(set);
    take_pattern(subscriber, n, 40);
  }
  slc_waitset_event event;
  size_t count;
  check_status(slc_waitset_wait(set, 120 * MS, &event, 1, &count), SLC_TIMED_OUT);
  slc_waitset_free(set);
  slc_client_close(client);
}

static void test_set_in_another_loop(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_waitset *inner = waitset_new(), *outer = waitset_new();
  int fd = -1;
  check_ok(slc_waitset_add_subscriber(inner, subscriber, NULL));
  check_ok(slc_waitset_fd(inner, &fd));
  check_ok(slc_waitset_add_fd(outer, fd, POLLIN, inner));
  for (uint64_t n = 1; n <= 20; n++) {
    wait_none(outer);
    send_pattern(publisher, n, 40);
    assert_ptr_equal(wait_one(outer).user_data, inner);
    assert_ptr_equal(wait_one(inner).subscriber, subscriber);
    take_pattern(subscriber, n, 40);
  }
  slc_waitset_free(outer);
  slc_waitset_free(inner);
  slc_client_close(client);
}

static int statuses_in_child(slc_waitset *set, slc_subscriber *subscriber, int fd) {
  slc_waitset_event event;
  size_t count;
  if (slc_waitset_wait(set, 0, &event, 1, &count) != SLC_FORKED) return 1;
  if (slc_waitset_add_subscriber(set, subscriber, NULL) != SLC_FORKED) return 2;
  if (slc_waitset_remove_subscriber(set, subscriber) != SLC_FORKED) return 3;
  if (slc_waitset_add_fd(set, fd, POLLIN, NULL) != SLC_FORKED) return 4;
  if (slc_waitset_remove_fd(set, fd) != SLC_FORKED) return 5;
  if (slc_waitset_fd(set, &fd) != SLC_FORKED) return 6;
  slc_waitset_free(set);
  return 0;
}

/* A child's free leaves the parent's set as it is, although both have the same descriptor. */
static void test_fork(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_waitset *set = waitset_new();
  int counter = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  check_ok(slc_waitset_add_subscriber(set, subscriber, NULL));
  check_ok(slc_waitset_add_fd(set, counter, POLLIN, NULL));
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(statuses_in_child(set, subscriber, counter));
  int ended = 0;
  assert_int_equal(waitpid(child, &ended, 0), child);
  assert_int_equal(ended, 0);
  send_pattern(publisher, 1, 40);
  assert_ptr_equal(wait_one(set).subscriber, subscriber);
  take_pattern(subscriber, 1, 40);
  set_event(counter);
  assert_int_equal(wait_one(set).fd, counter);
  slc_waitset_free(set);
  close(counter);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_one_subscriber),
      BROKER_TEST(test_foreign_descriptors),
      BROKER_TEST(test_what_is_refused),
      BROKER_TEST(test_all_have_their_turn),
      BROKER_TEST(test_many_subscribers_of_two_clients),
      BROKER_TEST(test_publishers_come_and_go),
      BROKER_TEST(test_publisher_may_go_on),
      BROKER_TEST(test_publisher_learns_of_retirement),
      BROKER_TEST(test_sleeping_publisher_is_woken),
      BROKER_TEST(test_time_outs),
      BROKER_TEST(test_sleeper_is_woken),
      BROKER_TEST(test_all_of_several_channels),
      BROKER_TEST(test_broker_gone),
      BROKER_TEST(test_set_in_another_loop),
      BROKER_TEST(test_fork),
  };
  return cmocka_run_group_tests_name("client_waitset", tests, NULL, NULL);
}

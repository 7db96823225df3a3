/* Waiting: time-outs, sleepers and their wake-up, reliable publishers, the readiness descriptor, subscribers that came
 * first. */
#include "common.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 * MS + now.tv_nsec;
}

static bool readable(int fd, int timeout_ms) {
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  int count;
  do count = poll(&poll_fd, 1, timeout_ms);
  while (count < 0);
  return count == 1;
}

/* Waits on to what take says, whatever else wakes it. */
static void take_waiting(slc_subscriber *subscriber, uint64_t ordinal, size_t size) {
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY)
    check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  check_ok(status);
  check_pattern(&message, ordinal, size);
  check_ok(slc_subscriber_release(subscriber, &message));
}

static void test_wait_times_out(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *unattached = subscriber_open(client, NULL);
  int64_t start = now_ns();
  check_status(slc_subscriber_wait(unattached, 20 * MS), SLC_TIMED_OUT);
  assert_true(now_ns() - start >= 20 * MS);
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  static const int64_t spins[] = {0, SLC_SPIN_NEVER, SLC_SPIN_FOREVER};
  for (size_t i = 0; i < 3; i++) {
    slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
    options.spin_ns = spins[i];
    slc_subscriber *spinner = subscriber_open(client, &options);
    start = now_ns();
    check_status(slc_subscriber_wait(spinner, 20 * MS), SLC_TIMED_OUT);
    assert_true(now_ns() - start >= 20 * MS);
    check_status(slc_subscriber_wait(spinner, 0), SLC_TIMED_OUT);
    slc_subscriber_close(spinner);
  }
  check_ok(slc_publisher_send(publisher, "x", 1, NULL));
  check_ok(slc_subscriber_wait(subscriber, 0));
  slc_client_close(client);
}

/* Whatever waits for what does not come, to the nanosecond: its own status, and not before the time is over. */
static void test_time_outs_in_nanoseconds(void **state) {
  (void)state;
  static const int64_t times[] = {0, 1, 999, 1500, 50000, 999999, 1000001};
  static const int64_t spins[] = {0, 1, SLC_SPIN_NEVER, SLC_SPIN_FOREVER};
  slc_client *client = client_open();
  slc_subscriber *early = NULL;
  check_ok(slc_subscriber_open(client, "test/never", NULL, &early));
  for (int kind = 0; kind < 8; kind++) {
    slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
    slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
    shape.slots = 16;
    shape.reliable = options.reliable = 1;
    shape.spin_ns = options.spin_ns = spins[kind % 4];
    shape.locked = options.locked = kind / 4;
    slc_publisher *publisher = publisher_open(client, &shape);
    slc_subscriber *subscriber = subscriber_open(client, &options), *up_to_date = subscriber_open(client, &options);
    slc_message message;
    while (slc_publisher_send(publisher, "x", 1, NULL) == 0) { /* until it would have to wait for `subscriber` */
      check_ok(slc_subscriber_take(up_to_date, &message));
      check_ok(slc_subscriber_release(up_to_date, &message));
    }
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
      int64_t start = now_ns();
      check_status(slc_subscriber_wait(up_to_date, times[i]), SLC_TIMED_OUT);
      assert_true(now_ns() - start >= times[i]);
      start = now_ns();
      check_status(slc_publisher_wait(publisher, times[i]), SLC_TIMED_OUT);
      assert_true(now_ns() - start >= times[i]);
      start = now_ns();
      check_status(slc_subscriber_wait(early, times[i]), SLC_TIMED_OUT);
      assert_true(now_ns() - start >= times[i]);
      check_ok(slc_subscriber_wait(subscriber, times[i])); /* and what is there needs no time */
    }
    slc_subscriber_close(subscriber);
    slc_subscriber_close(up_to_date);
    slc_publisher_close(publisher);
  }
  slc_client_close(client);
}

static void test_wait_tells_of_publishers(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  check_status(slc_subscriber_wait(subscriber, 0), SLC_TIMED_OUT);
  slc_publisher_close(publisher);
  check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER)); /* the last one has left */
  assert_int_equal(subscriber_stats(subscriber).publishers, 0);
  assert_int_equal(subscriber_stats(subscriber).publishers_joined, 1);
  check_status(slc_subscriber_wait(subscriber, 0), SLC_TIMED_OUT);
  publisher_open(client, NULL);
  check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  assert_int_equal(subscriber_stats(subscriber).publishers_joined, 2);
  slc_client_close(client);
}

/* ---- two threads, each with a handle of the same client ---- */

struct echo {
  slc_client *client;
  slc_subscriber *subscriber;
  slc_publisher *publisher;
  uint64_t messages;
  int status;
};

static int echo_one(struct echo *echo) {
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(echo->subscriber, &message)) == SLC_EMPTY) {
    status = slc_subscriber_wait(echo->subscriber, SLC_WAIT_FOREVER);
    if (status != 0) return status;
  }
  if (status == 0) status = slc_publisher_send(echo->publisher, message.data, message.size, NULL);
  return status != 0 ? status : slc_subscriber_release(echo->subscriber, &message);
}

static void *echo_run(void *argument) {
  struct echo *echo = argument;
  for (uint64_t n = 0; n < echo->messages && echo->status == 0; n++) echo->status = echo_one(echo);
  return NULL;
}

static void test_two_threads_two_handles(void **state) {
  (void)state;
  slc_client *client = client_open();
  struct echo echo = {.client = client, .messages = 2000};
  slc_publisher *publisher = publisher_open(client, NULL);
  echo.subscriber = subscriber_open(client, NULL);
  slc_subscriber *subscriber = NULL;
  check_ok(slc_publisher_open(client, "test/echo", NULL, &echo.publisher));
  check_ok(slc_subscriber_open(client, "test/echo", NULL, &subscriber));
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, echo_run, &echo), 0);
  for (uint64_t n = 1; n <= echo.messages; n++) {
    send_pattern(publisher, n, 20 + n % 40);
    take_waiting(subscriber, n, 20 + n % 40);
  }
  pthread_join(thread, NULL);
  check_ok(echo.status);
  slc_client_close(client);
}

/* A control call in one thread reads what the broker pushes to the other's handle. */
static void *churn_run(void *argument) {
  struct echo *echo = argument;
  for (int i = 0; i < 200 && echo->status == 0; i++) {
    slc_subscriber *passer_by = NULL;
    echo->status = slc_subscriber_open(echo->client, CHANNEL, NULL, &passer_by);
    slc_subscriber_close(passer_by);
  }
  return NULL;
}

static void test_pushes_read_by_another_thread(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  struct echo echo = {.client = client};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, churn_run, &echo), 0);
  for (uint64_t n = 1; n <= 20000; n++) {
    slc_loan loan;
    int status;
    while ((status = slc_publisher_loan(publisher, 40, &loan)) == SLC_WOULD_BLOCK)
      check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
    check_ok(status);
    for (size_t i = 0; i < 40; i++) ((uint8_t *)loan.data)[i] = pattern(n, i);
    check_ok(slc_publisher_publish(publisher, &loan, 40, NULL));
    take_pattern(subscriber, n, 40);
  }
  pthread_join(thread, NULL);
  check_ok(echo.status);
  slc_client_close(client);
}

/* ---- reliable ---- */

static void fill_until_blocked(slc_publisher *publisher, uint64_t *sent) {
  slc_loan loan;
  int status;
  while ((status = slc_publisher_loan(publisher, 40, &loan)) == 0) {
    (*sent)++;
    for (size_t i = 0; i < 40; i++) ((uint8_t *)loan.data)[i] = pattern(*sent, i);
    check_ok(slc_publisher_publish(publisher, &loan, 40, NULL));
    assert_true(*sent < 1000);
  }
  check_status(status, SLC_WOULD_BLOCK);
}

static void test_reliable_blocks_and_waits(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = 1;
  options.slots = 16;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options reliable = SLC_SUBSCRIBER_OPTIONS_INIT;
  reliable.reliable = 1;
  slc_subscriber *subscriber = subscriber_open(client, &reliable);
  uint64_t sent = 0, taken = 0;
  fill_until_blocked(publisher, &sent);
  assert_true(sent >= 4);
  int64_t start = now_ns();
  check_status(slc_publisher_wait(publisher, 80 * MS), SLC_TIMED_OUT); /* longer than a slice */
  assert_true(now_ns() - start >= 80 * MS);
  slc_publisher_stats stats = {.size = sizeof stats};
  check_ok(slc_publisher_stats_get(publisher, &stats));
  assert_true(stats.would_block > 0);
  for (int round = 0; round < 20; round++) {
    while (taken < sent) take_pattern(subscriber, ++taken, 40);
    check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
    fill_until_blocked(publisher, &sent);
  }
  assert_int_equal(subscriber_stats(subscriber).dropped, 0);
  slc_subscriber_close(subscriber); /* nobody left to wait for */
  check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  check_ok(slc_publisher_send(publisher, "x", 1, NULL));
  slc_client_close(client);
}

struct drain {
  slc_subscriber *subscriber;
  uint64_t messages;
};

static void *drain_run(void *argument) {
  struct drain *drain = argument;
  for (uint64_t n = 1; n <= drain->messages; n++) take_waiting(drain->subscriber, n, 40);
  return NULL;
}

static void test_reliable_between_two_threads(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = 1;
  options.slots = 16;
  options.spin_ns = SLC_SPIN_NEVER;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options reliable = SLC_SUBSCRIBER_OPTIONS_INIT;
  reliable.reliable = 1;
  reliable.spin_ns = SLC_SPIN_NEVER;
  struct drain drain = {.subscriber = subscriber_open(client, &reliable), .messages = 20000};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, drain_run, &drain), 0);
  for (uint64_t n = 1; n <= drain.messages; n++) {
    slc_loan loan;
    int status;
    while ((status = slc_publisher_loan(publisher, 40, &loan)) == SLC_WOULD_BLOCK)
      check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
    check_ok(status);
    for (size_t i = 0; i < 40; i++) ((uint8_t *)loan.data)[i] = pattern(n, i);
    check_ok(slc_publisher_publish(publisher, &loan, 40, NULL));
  }
  pthread_join(thread, NULL);
  assert_int_equal(subscriber_stats(drain.subscriber).dropped, 0);
  slc_client_close(client);
}

/* ---- a subscriber that came first ---- */

static void test_subscriber_first(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_client *other = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  assert_int_equal(subscriber_stats(subscriber).attached, 0);
  slc_publisher *publisher = publisher_open(other, NULL);
  for (uint64_t n = 1; n <= 5; n++) send_pattern(publisher, n, 40); /* all of them new to who came before */
  for (uint64_t n = 1; n <= 5; n++) take_waiting(subscriber, n, 40);
  assert_int_equal(subscriber_stats(subscriber).attached, 1);
  assert_int_equal(subscriber_stats(subscriber).slots, 64);
  slc_client_close(other);
  slc_client_close(client);
}

/* What was overwritten before it even attached is as lost as what is overwritten later. */
static void test_subscriber_first_counts_what_it_lost(void **state) {
  (void)state;
  enum { MESSAGES = 200 };
  slc_client *client = client_open();
  slc_client *other = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_publisher *publisher = publisher_open(other, NULL);
  for (uint64_t n = 1; n <= MESSAGES; n++) send_pattern(publisher, n, 40);
  slc_message message;
  check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  check_ok(slc_subscriber_take(subscriber, &message));
  check_pattern(&message, message.ordinal, 40);
  assert_true(message.ordinal > MESSAGES - 64);
  assert_int_equal(subscriber_stats(subscriber).dropped, message.ordinal - 1);
  check_ok(slc_subscriber_release(subscriber, &message));
  for (uint64_t n = message.ordinal + 1; n <= MESSAGES; n++) take_waiting(subscriber, n, 40);
  assert_int_equal(subscriber_stats(subscriber).received + subscriber_stats(subscriber).dropped, MESSAGES);
  slc_client_close(other);
  slc_client_close(client);
}

/* Connects, stops, and when it goes on opens a subscriber, for which there must be message 1. */
static void open_and_take(void) {
  slc_client *client;
  slc_subscriber *subscriber;
  slc_message message;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (slc_client_open(NULL, &client) != SLC_OK) _exit(2);
  raise(SIGSTOP);
  if (slc_subscriber_open(client, CHANNEL, NULL, &subscriber) != SLC_OK) _exit(3);
  if (slc_subscriber_take(subscriber, &message) != SLC_OK || message.ordinal != 1) _exit(4);
  slc_client_close(client);
  _exit(0);
}

static void await_one_subscriber(slc_client *client) {
  uint32_t subscribers = 0;
  while (subscribers == 0) {
    slc_channel_info *info;
    int status = slc_channel_inspect(client, CHANNEL, &info);
    if (status == SLC_NOT_FOUND) continue;
    check_ok(status);
    subscribers = info->subscribers;
    slc_channel_info_free(info);
  }
}

/* The broker's answer, and the attachment because a publisher has come, are both there before the subscriber's process
 * reads the first of them.  It was first all the same. */
static void test_subscriber_first_reads_late(void **state) {
  const struct test_broker *broker = *state;
  slc_client *client = client_open();
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) open_and_take();
  await_stop(pid);
  stop(broker->pid);
  kill(pid, SIGCONT);
  await_ppoll(pid);
  stop(pid);
  kill(broker->pid, SIGCONT);
  await_one_subscriber(client);
  send_pattern(publisher_open(client, NULL), 1, 40);
  kill(pid, SIGCONT);
  int status = -1;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  slc_client_close(client);
}

static void test_subscriber_first_sleeping(void **state) {
  (void)state;
  slc_client *client = client_open();
  struct drain drain = {.subscriber = subscriber_open(client, NULL), .messages = 3};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, drain_run, &drain), 0);
  slc_publisher *publisher = publisher_open(client, NULL); /* this thread may read the other's push */
  for (uint64_t n = 1; n <= 3; n++) send_pattern(publisher, n, 40);
  pthread_join(thread, NULL);
  slc_client_close(client);
}

/* It has come and gone without a message before the subscriber looked: that is a change, too. */
static void test_subscriber_first_told_of_leaving(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_client *other = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_publisher_close(publisher_open(other, NULL));
  check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  assert_int_equal(subscriber_stats(subscriber).publishers, 0);
  assert_int_equal(subscriber_stats(subscriber).publishers_joined, 1);
  check_status(slc_subscriber_wait(subscriber, 0), SLC_TIMED_OUT);
  slc_client_close(other);
  slc_client_close(client);
}

/* ---- the readiness descriptor ---- */

static void test_descriptor_is_level_truth(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  int fd = -1, again = -1;
  check_ok(slc_subscriber_fd(subscriber, &fd));
  check_ok(slc_subscriber_fd(subscriber, &again));
  assert_int_equal(fd, again);
  assert_false(readable(fd, 0));
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  assert_false(readable(fd, 0));
  for (uint64_t n = 1; n <= 400;) {
    uint64_t first = n;
    for (uint64_t i = 0; i < 1 + n % 5; i++) send_pattern(publisher, n++, 40);
    assert_true(readable(fd, -1));
    for (uint64_t i = first; i < n; i++) {
      take_pattern(subscriber, i, 40);
      assert_int_equal(readable(fd, 0), i + 1 < n);
    }
    check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
    assert_false(readable(fd, 0));
  }
  slc_client_close(client);
}

static void test_descriptor_finds_what_was_there(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  send_pattern(publisher, 1, 40);
  int fd = -1;
  check_ok(slc_subscriber_fd(subscriber, &fd));
  assert_true(readable(fd, -1));
  take_pattern(subscriber, 1, 40);
  slc_client_close(client);
}

static void test_descriptor_before_the_first_publisher(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_client *other = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  int fd = -1;
  check_ok(slc_subscriber_fd(subscriber, &fd));
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  assert_false(readable(fd, 0));
  slc_publisher *publisher = publisher_open(other, NULL);
  for (uint64_t n = 1; n <= 3; n++) {
    send_pattern(publisher, n, 40);
    int status;
    do assert_true(readable(fd, -1)); /* also for the attachment itself */
    while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY);
    check_ok(status);
    check_pattern(&message, n, 40);
    check_ok(slc_subscriber_release(subscriber, &message));
    check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
    assert_false(readable(fd, 0));
  }
  slc_client_close(other);
  slc_client_close(client);
}

/* Another thread's control call reads the attachment: the descriptor must tell all the same. */
static void test_descriptor_when_another_thread_reads(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  int fd = -1;
  check_ok(slc_subscriber_fd(subscriber, &fd));
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  slc_publisher *publisher = publisher_open(client, NULL); /* of the same client: reads the push with its answer */
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  slc_channel_info_free(info);
  assert_true(readable(fd, -1));
  send_pattern(publisher, 1, 40);
  take_waiting(subscriber, 1, 40);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_wait_times_out),
      BROKER_TEST(test_time_outs_in_nanoseconds),
      BROKER_TEST(test_wait_tells_of_publishers),
      BROKER_TEST(test_two_threads_two_handles),
      BROKER_TEST(test_pushes_read_by_another_thread),
      BROKER_TEST(test_reliable_blocks_and_waits),
      BROKER_TEST(test_reliable_between_two_threads),
      BROKER_TEST(test_subscriber_first),
      BROKER_TEST(test_subscriber_first_counts_what_it_lost),
      BROKER_TEST(test_subscriber_first_reads_late),
      BROKER_TEST(test_subscriber_first_sleeping),
      BROKER_TEST(test_subscriber_first_told_of_leaving),
      BROKER_TEST(test_descriptor_is_level_truth),
      BROKER_TEST(test_descriptor_finds_what_was_there),
      BROKER_TEST(test_descriptor_before_the_first_publisher),
      BROKER_TEST(test_descriptor_when_another_thread_reads),
  };
  return cmocka_run_group_tests_name("client_waiting", tests, NULL, NULL);
}

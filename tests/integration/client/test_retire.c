/* Retirement, exact slots and waiting publishers, with subscribers in processes of their own: which hold, skip, leave,
 * are killed, never read. */
#include "common.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 96, MESSAGES = 100000, ROUNDS = 5000 };

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

/* ---- the publisher ---- */

/* How often each ordinal was told. */
struct told {
  uint8_t times[MESSAGES + 1];
  uint32_t total;
};

static slc_publisher *retiring_open(slc_client *client, uint32_t slots, bool reliable) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = slots;
  options.slot_size = SIZE;
  options.reliable = reliable;
  options.retirement = 1;
  return publisher_open(client, &options);
}

static int publisher_fd(slc_publisher *publisher) {
  int fd = -1;
  check_ok(slc_publisher_fd(publisher, &fd));
  return fd;
}

/* Takes what there is, to the last. */
static uint32_t collect(slc_publisher *publisher, struct told *told) {
  slc_retired some[7];
  size_t count;
  uint32_t sum = 0;
  int status;
  while ((status = slc_publisher_retired(publisher, some, 7, &count)) == 0) {
    assert_in_range(count, 1, 7);
    for (size_t i = 0; i < count; i++) {
      assert_in_range(some[i].ordinal, 1, MESSAGES);
      assert_int_equal(told->times[some[i].ordinal]++, 0);
    }
    sum += (uint32_t)count;
  }
  check_status(status, SLC_EMPTY);
  told->total += sum;
  return sum;
}

/* By the descriptor alone: what it does not tell is never found, and the watchdog ends the test. */
static void await(slc_publisher *publisher, int fd, struct told *told, uint32_t total) {
  while (told->total < total) {
    readable(fd, -1);
    collect(publisher, told);
  }
  assert_int_equal(told->total, total);
}

/* ---- subscribers in other processes ---- */

struct child {
  pid_t pid;
  int said; /* what it has to say: a byte when it is there, one when it has done something */
};

/* In the child: what goes wrong ends it with a status that the parent sees. */
static void expect(bool condition, const char *what) {
  if (condition) return;
  fprintf(stderr, "subscriber %d: %s: %s\n", (int)getpid(), what, slc_error_detail());
  _exit(3);
}

static void say(int out) {
  expect(write(out, "", 1) == 1, "the parent has gone");
}

typedef void (*child_run)(slc_client *client, slc_subscriber *subscriber, int out);

static struct child child_start(int start, uint32_t max_holds, bool reliable, child_run run) {
  int said[2];
  assert_int_equal(pipe(said), 0);
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    slc_client *client;
    slc_subscriber *subscriber;
    slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
    options.start = start;
    options.max_holds = max_holds;
    options.reliable = reliable;
    close(said[0]);
    expect(slc_client_open(NULL, &client) == 0, "open");
    expect(slc_subscriber_open(client, CHANNEL, &options, &subscriber) == 0, "subscribe");
    run(client, subscriber, said[1]);
    slc_client_close(client);
    _exit(0);
  }
  close(said[1]);
  return (struct child){.pid = pid, .said = said[0]};
}

static void child_heard(const struct child *child) {
  char byte;
  assert_int_equal(read(child->said, &byte, 1), 1);
}

static int child_end(struct child *child) {
  int status = 0;
  assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
  close(child->said);
  return status;
}

static void child_kill(struct child *child) {
  kill(child->pid, SIGKILL);
  int status = child_end(child);
  assert_true(WIFSIGNALED(status));
  assert_int_equal(WTERMSIG(status), SIGKILL);
}

static bool is_whole(const slc_message *message) {
  if (message->size != SIZE) return false;
  for (size_t i = 0; i < SIZE; i++)
    if (((const uint8_t *)message->data)[i] != pattern(message->ordinal, i)) return false;
  return true;
}

static slc_message child_take(slc_subscriber *subscriber) {
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY)
    expect(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER) == 0, "wait");
  expect(status == 0, "take");
  expect(is_whole(&message), "a torn message");
  return message;
}

static void child_release(slc_subscriber *subscriber, slc_message *message) {
  expect(is_whole(message), "a message that changed while it was held");
  expect(slc_subscriber_release(subscriber, message) == 0, "release");
}

/* ---- one thing at a time ---- */

static void test_retired_needs_the_option(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_retired retired;
  size_t count;
  check_status(slc_publisher_retired(publisher, &retired, 1, &count), SLC_INVALID);
  slc_publisher_close(publisher);
  publisher = retiring_open(client, 0, false);
  check_status(slc_publisher_retired(publisher, &retired, 0, &count), SLC_INVALID);
  check_status(slc_publisher_retired(publisher, &retired, 1, &count), SLC_EMPTY);
  slc_client_close(client);
}

static void test_readable_exactly_when_told(void **state) {
  (void)state;
  struct told told = {0};
  slc_client *client = client_open();
  slc_publisher *publisher = retiring_open(client, 16, false);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = 2;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  int fd = publisher_fd(publisher);
  assert_int_equal(publisher_fd(publisher), fd);
  assert_int_equal(collect(publisher, &told), 0);
  assert_false(readable(fd, 0));
  send_pattern(publisher, 1, SIZE);
  assert_false(readable(fd, 0)); /* unread */
  slc_message first, second;
  check_ok(slc_subscriber_take(subscriber, &first));
  assert_false(readable(fd, 0)); /* held */
  check_ok(slc_subscriber_release(subscriber, &first));
  assert_true(readable(fd, 0));
  assert_int_equal(collect(publisher, &told), 1);
  assert_false(readable(fd, 0));
  send_pattern(publisher, 2, SIZE);
  send_pattern(publisher, 3, SIZE);
  check_ok(slc_subscriber_take_newest(subscriber, &second));
  assert_true(readable(fd, 0)); /* 2 was skipped */
  assert_int_equal(collect(publisher, &told), 1);
  assert_int_equal(told.times[2], 1);
  slc_subscriber_close(subscriber); /* leaves with what it holds */
  await(publisher, fd, &told, 3);
  send_pattern(publisher, 4, SIZE);
  assert_true(readable(fd, 0)); /* nobody is there */
  assert_int_equal(collect(publisher, &told), 1);
  assert_false(readable(fd, 0));
  slc_client_close(client);
}

static void hold_two(slc_client *client, slc_subscriber *subscriber, int out) {
  (void)client;
  slc_message first = child_take(subscriber), second = child_take(subscriber);
  expect(second.ordinal == first.ordinal + 1, "the next");
  say(out);
  pause();
}

static void test_killed_holder(void **state) {
  (void)state;
  struct told told = {0};
  slc_client *client = client_open();
  slc_publisher *publisher = retiring_open(client, 32, false);
  int fd = publisher_fd(publisher);
  send_pattern(publisher, 1, SIZE);
  send_pattern(publisher, 2, SIZE);
  struct child holders[3];
  for (int i = 0; i < 3; i++) {
    holders[i] = child_start(SLC_START_OLDEST, 2, false, hold_two);
    child_heard(&holders[i]);
  }
  for (uint64_t n = 3; n <= 100; n++) send_pattern(publisher, n, SIZE);
  collect(publisher, &told);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(told.times[1] + told.times[2], 0);
    child_kill(&holders[i]);
  }
  await(publisher, fd, &told, 100);
  assert_int_equal(collect(publisher, &told), 0);
  slc_client_close(client);
}

/* ---- a hundred thousand messages ---- */

static void read_all(slc_client *client, slc_subscriber *subscriber, int out) {
  (void)client;
  slc_message held = {0}, message;
  say(out);
  do {
    message = child_take(subscriber);
    if (held.ordinal != 0) child_release(subscriber, &held);
    held = message;
  } while (held.ordinal < MESSAGES);
  child_release(subscriber, &held);
}

static void read_newest(slc_client *client, slc_subscriber *subscriber, int out) {
  (void)client;
  say(out);
  for (uint64_t last = 0; last < MESSAGES;) {
    slc_message message;
    int status = slc_subscriber_take_newest(subscriber, &message);
    if (status == SLC_EMPTY) {
      expect(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER) == 0, "wait");
      continue;
    }
    expect(status == 0 && is_whole(&message), "take the newest");
    last = message.ordinal;
    child_release(subscriber, &message);
  }
}

static void read_nothing(slc_client *client, slc_subscriber *subscriber, int out) {
  (void)client;
  (void)subscriber;
  say(out);
  pause();
}

/* Joins and leaves, now and then with a message in its hand, until it is killed. */
static void come_and_go(slc_client *client, slc_subscriber *subscriber, int out) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  options.max_holds = 4;
  say(out);
  for (int visit = 1;; visit++) {
    for (int i = 0; i < 3; i++) {
      slc_message message = child_take(subscriber);
      if ((visit + i) % 3 != 0) child_release(subscriber, &message);
    }
    slc_subscriber_close(subscriber);
    expect(slc_subscriber_open(client, CHANNEL, &options, &subscriber) == 0, "subscribe again");
  }
}

/* Works until it is killed. */
static void read_until_killed(slc_client *client, slc_subscriber *subscriber, int out) {
  (void)client;
  say(out);
  for (;;) {
    slc_message first = child_take(subscriber), second = child_take(subscriber);
    child_release(subscriber, &second);
    child_release(subscriber, &first);
  }
}

enum { VICTIMS_EVERY = 2500 };

static void send_waiting(slc_publisher *publisher, int fd, struct told *told, uint64_t ordinal) {
  uint8_t bytes[SIZE];
  uint64_t published = 0;
  int status;
  for (size_t i = 0; i < SIZE; i++) bytes[i] = pattern(ordinal, i);
  while ((status = slc_publisher_send(publisher, bytes, SIZE, &published)) == SLC_WOULD_BLOCK) {
    readable(fd, -1);
    collect(publisher, told);
  }
  check_ok(status);
  assert_int_equal(published, ordinal);
}

static void whatever_they_do(bool reliable) {
  static struct told told;
  memset(&told, 0, sizeof told);
  slc_client *client = client_open();
  slc_publisher *publisher = retiring_open(client, 128, reliable);
  int fd = publisher_fd(publisher);
  struct child all = child_start(SLC_START_OLDEST, 2, reliable, read_all);
  struct child newest = child_start(SLC_START_NEWEST, 1, false, read_newest);
  struct child nothing = child_start(SLC_START_NEWEST, 1, false, read_nothing);
  struct child guest = child_start(SLC_START_OLDEST, 4, false, come_and_go);
  struct child victim = child_start(SLC_START_NEWEST, 2, reliable, read_until_killed);
  child_heard(&all);
  child_heard(&newest);
  child_heard(&nothing);
  child_heard(&guest);
  child_heard(&victim);
  for (uint64_t n = 1; n <= MESSAGES; n++) {
    send_waiting(publisher, fd, &told, n);
    if (n % 64 == 0 && readable(fd, 0)) collect(publisher, &told);
    if (n == MESSAGES / 2) child_kill(&nothing); /* before, messages go only when their slots are needed */
    if (n % VICTIMS_EVERY != 0) continue;
    child_kill(&victim);
    victim = child_start(SLC_START_OLDEST, 2, reliable, read_until_killed);
    child_heard(&victim);
  }
  assert_int_equal(child_end(&all), 0);
  assert_int_equal(child_end(&newest), 0);
  child_kill(&guest);
  child_kill(&victim);
  await(publisher, fd, &told, MESSAGES);
  assert_int_equal(collect(publisher, &told), 0);
  slc_client_close(client);
}

static void test_each_once_unreliable(void **state) {
  (void)state;
  whatever_they_do(false);
}

static void test_each_once_reliable(void **state) {
  (void)state;
  whatever_they_do(true);
}

/* The descriptor alone, message by message: one wake-up that is lost, and this hangs. */
static void test_no_wake_up_is_lost(void **state) {
  (void)state;
  static struct told told;
  memset(&told, 0, sizeof told);
  slc_client *client = client_open();
  slc_publisher *publisher = retiring_open(client, 16, false);
  struct child reader = child_start(SLC_START_OLDEST, 2, false, read_until_killed);
  child_heard(&reader);
  struct child other = child_start(SLC_START_OLDEST, 2, false, read_until_killed);
  child_heard(&other);
  int fd = publisher_fd(publisher); /* after they have come: they learn of it */
  for (uint64_t n = 1; n <= ROUNDS; n += 2) {
    send_pattern(publisher, n, SIZE);
    send_pattern(publisher, n + 1, SIZE);
    await(publisher, fd, &told, (uint32_t)n + 1);
  }
  child_kill(&reader);
  child_kill(&other);
  slc_client_close(client);
}

/* ---- without a broker ---- */

static void leave_when_told(slc_client *client, slc_subscriber *subscriber, int out) {
  slc_message first = child_take(subscriber);
  say(out);
  while (kill(getppid(), 0) == 0 && slc_channel_list(client, &(slc_channel_info *){NULL}, &(size_t){0}) == 0) {
  }
  child_release(subscriber, &first);
  first = child_take(subscriber);
  slc_subscriber_close(subscriber); /* with what it holds */
}

static void test_goes_on_without_a_broker(void **state) {
  struct test_broker *broker = *state;
  struct told told = {0};
  slc_client *client = client_open();
  slc_publisher *publisher = retiring_open(client, 16, false);
  int fd = publisher_fd(publisher);
  send_pattern(publisher, 1, SIZE);
  send_pattern(publisher, 2, SIZE);
  struct child child = child_start(SLC_START_OLDEST, 1, false, leave_when_told);
  child_heard(&child);
  assert_int_equal(collect(publisher, &told), 0);
  assert_int_equal(test_broker_stop(broker), 0);
  await(publisher, fd, &told, 2);
  assert_int_equal(child_end(&child), 0);
  send_pattern(publisher, 3, SIZE);
  await(publisher, fd, &told, 3);
  slc_client_close(client);
}

/* ---- other publishers ---- */

/* Overruns the channel. */
static void publish_many(slc_client *client, slc_subscriber *subscriber, int out) {
  slc_publisher *publisher;
  slc_subscriber_close(subscriber);
  expect(slc_publisher_open(client, CHANNEL, NULL, &publisher) == 0, "publish");
  for (int i = 0; i < 200; i++) expect(slc_publisher_send(publisher, "x", 1, NULL) == 0, "send");
  say(out);
  pause();
}

static void test_evicted_by_another(void **state) {
  (void)state;
  struct told told = {0};
  slc_client *client = client_open();
  slc_publisher *publisher = retiring_open(client, 32, false);
  subscriber_open(client, NULL); /* reads nothing */
  int fd = publisher_fd(publisher);
  for (uint64_t n = 1; n <= 5; n++) send_pattern(publisher, n, SIZE);
  assert_int_equal(collect(publisher, &told), 0);
  assert_false(readable(fd, 0));
  struct child other = child_start(SLC_START_NEWEST, 1, false, publish_many);
  await(publisher, fd, &told, 5);
  child_heard(&other);
  child_kill(&other);
  slc_client_close(client);
}

/* Takes every slot that it may and keeps it. */
static void loan_all(slc_client *client, slc_subscriber *subscriber, int out) {
  slc_publisher *publisher;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_loan loan;
  options.reliable = 1;
  options.max_loans = 8;
  slc_subscriber_close(subscriber);
  expect(slc_publisher_open(client, CHANNEL, &options, &publisher) == 0, "publish");
  for (int i = 0; i < 8; i++) expect(slc_publisher_loan(publisher, 1, &loan) == 0, "loan");
  say(out);
  pause();
}

static void test_waits_by_descriptor(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 32;
  options.reliable = 1;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options reliable = SLC_SUBSCRIBER_OPTIONS_INIT;
  reliable.reliable = 1;
  slc_subscriber *subscriber = subscriber_open(client, &reliable);
  int fd = publisher_fd(publisher);
  assert_true(readable(fd, 0));
  struct child other = child_start(SLC_START_NEWEST, 1, false, loan_all);
  child_heard(&other);
  broker_settle(client); /* it rings publishers after it has answered a newcomer */
  uint64_t sent = 0;
  while (slc_publisher_send(publisher, &sent, sizeof sent, NULL) == 0) sent++;
  assert_false(readable(fd, 0));
  check_status(slc_publisher_wait(publisher, 0), SLC_TIMED_OUT);
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_false(readable(fd, 0));
  check_ok(slc_subscriber_release(subscriber, &message));
  assert_true(readable(fd, 0));
  while (slc_publisher_send(publisher, &sent, sizeof sent, NULL) == 0) sent++;
  assert_false(readable(fd, 0));
  child_kill(&other); /* its slots are anybody's */
  uint64_t before = sent;
  while (sent < before + 8) {
    readable(fd, -1);
    while (slc_publisher_send(publisher, &sent, sizeof sent, NULL) == 0) sent++;
  }
  slc_client_close(client);
}

/* A publisher with a descriptor that comes and goes leaves none behind, neither here nor with the broker. */
static void test_descriptors_go(void **state) {
  const struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_publisher *stays = retiring_open(client, 64, false);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  int here = 0, there = 0;
  for (int i = 0; i < 20; i++) {
    struct told told = {0};
    slc_publisher *publisher = retiring_open(client, 0, false);
    int fd = publisher_fd(publisher);
    assert_int_equal(collect(publisher, &told), 0);
    check_ok(slc_publisher_send(publisher, "x", 1, NULL));
    slc_message message;
    check_ok(slc_subscriber_take(subscriber, &message));
    check_ok(slc_subscriber_release(subscriber, &message));
    assert_true(readable(fd, 0));
    slc_publisher_close(publisher);
    check_ok(slc_subscriber_wait(subscriber, 0)); /* publishers have come and gone */
    check_status(slc_subscriber_wait(subscriber, 0), SLC_TIMED_OUT);
    if (i == 2) {
      here = test_descriptors_of(getpid());
      there = test_descriptors_of(broker->pid);
    }
  }
  assert_int_equal(test_descriptors_of(getpid()), here);
  assert_int_equal(test_descriptors_of(broker->pid), there);
  slc_publisher_close(stays);
  slc_client_close(client);
}

/* ---- loans ---- */

static void test_several_loans(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.max_loans = 5;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  static const int order[5] = {3, 0, 4, 1, 2};
  for (int round = 0; round < 50; round++) {
    slc_loan loans[5], more, stale;
    for (int i = 0; i < 5; i++) {
      check_ok(slc_publisher_loan(publisher, SIZE, &loans[i]));
      memset(loans[i].data, i + 1, SIZE);
    }
    check_status(slc_publisher_loan(publisher, SIZE, &more), SLC_LOAN_LIMIT);
    check_status(slc_publisher_publish(publisher, &loans[1], 0, NULL), SLC_INVALID); /* the loan stays */
    check_status(slc_publisher_publish(publisher, &loans[1], loans[1].capacity + 1, NULL), SLC_INVALID);
    for (int i = 0; i < 4; i++) {
      slc_message message;
      stale = loans[order[i]];
      check_ok(slc_publisher_publish(publisher, &loans[order[i]], SIZE, NULL));
      check_status(slc_publisher_publish(publisher, &stale, SIZE, NULL), SLC_STALE);
      check_status(slc_publisher_discard(publisher, &stale), SLC_STALE);
      check_ok(slc_subscriber_take(subscriber, &message));
      for (size_t at = 0; at < SIZE; at++) assert_int_equal(((const uint8_t *)message.data)[at], order[i] + 1);
      check_ok(slc_subscriber_release(subscriber, &message));
    }
    stale = loans[order[4]];
    check_ok(slc_publisher_discard(publisher, &loans[order[4]]));
    check_ok(slc_publisher_loan(publisher, SIZE, &more)); /* the same entry, most likely the same slot */
    check_status(slc_publisher_publish(publisher, &stale, SIZE, NULL), SLC_STALE);
    check_status(slc_publisher_discard(publisher, &stale), SLC_STALE);
    check_ok(slc_publisher_discard(publisher, &more));
  }
  slc_client_close(client);
}

static void test_the_very_slot(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = retiring_open(client, 32, false);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_retired retired;
  slc_loan loan;
  slc_message message;
  size_t count;
  send_pattern(publisher, 1, SIZE);
  check_ok(slc_subscriber_take(subscriber, &message));
  const slc_retired held = {.ordinal = 1, .slot = message.slot};
  check_status(slc_publisher_loan_slot(publisher, &held, SIZE, &loan), SLC_STALE);
  check_ok(slc_subscriber_release(subscriber, &message));
  for (uint64_t n = 1; n <= 20; n++) {
    check_ok(slc_publisher_retired(publisher, &retired, 1, &count));
    assert_int_equal(count, 1);
    assert_int_equal(retired.ordinal, n);
    check_ok(slc_publisher_loan_slot(publisher, &retired, SIZE, &loan));
    assert_int_equal(loan.slot, retired.slot);
    for (size_t i = 0; i < SIZE; i++) assert_int_equal(((uint8_t *)loan.data)[i], pattern(n, i)); /* as it was */
    check_status(slc_publisher_loan_slot(publisher, &retired, SIZE, &loan), SLC_LOAN_LIMIT);
    for (size_t i = 0; i < SIZE; i++) ((uint8_t *)loan.data)[i] = pattern(n + 1, i);
    check_ok(slc_publisher_publish(publisher, &loan, SIZE, NULL));
    check_ok(slc_subscriber_take(subscriber, &message));
    assert_int_equal(message.slot, retired.slot);
    check_pattern(&message, n + 1, SIZE);
    check_ok(slc_subscriber_release(subscriber, &message));
    check_status(slc_publisher_loan_slot(publisher, &retired, SIZE, &loan), SLC_STALE); /* another message's by now */
  }
  const slc_retired none = {.ordinal = 0, .slot = 0}, outside = {.ordinal = 21, .slot = 1000000};
  check_status(slc_publisher_loan_slot(publisher, &none, SIZE, &loan), SLC_STALE);
  check_status(slc_publisher_loan_slot(publisher, &outside, SIZE, &loan), SLC_STALE);
  slc_client_close(client);
}

/* ---- waiting ---- */

static void test_time_outs(void **state) {
  (void)state;
  static const int64_t timeouts[] = {0, 1, 1500, 700001, 20 * MS};
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 16;
  options.reliable = 1;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options reliable = SLC_SUBSCRIBER_OPTIONS_INIT;
  reliable.reliable = 1;
  slc_subscriber *subscriber = subscriber_open(client, &reliable);
  uint64_t sent = 0, taken = 0;
  while (slc_publisher_send(publisher, &sent, sizeof sent, NULL) == 0) sent++;
  for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
    int64_t start = now_ns();
    check_status(slc_publisher_wait(publisher, timeouts[i]), SLC_TIMED_OUT);
    assert_true(now_ns() - start >= timeouts[i]);
  }
  slc_message message;
  while (slc_subscriber_take(subscriber, &message) == 0) {
    assert_int_equal(*(const uint64_t *)message.data, taken++);
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  assert_int_equal(taken, sent);
  check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
    int64_t start = now_ns();
    check_status(slc_subscriber_wait(subscriber, timeouts[i]), SLC_TIMED_OUT);
    assert_true(now_ns() - start >= timeouts[i]);
  }
  slc_client_close(client);
}

static void test_needs_a_subscriber(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = 1;
  options.needs_subscriber = 1;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_loan loan;
  int fd = publisher_fd(publisher);
  check_status(slc_publisher_loan(publisher, 1, &loan), SLC_WOULD_BLOCK);
  check_status(slc_publisher_send(publisher, "x", 1, NULL), SLC_WOULD_BLOCK);
  assert_false(readable(fd, 0));
  int64_t start = now_ns();
  check_status(slc_publisher_wait(publisher, 5 * MS), SLC_TIMED_OUT);
  assert_true(now_ns() - start >= 5 * MS);
  struct child child = child_start(SLC_START_OLDEST, 2, true, hold_two);
  check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  readable(fd, -1);
  send_pattern(publisher, 1, SIZE);
  send_pattern(publisher, 2, SIZE);
  child_heard(&child);
  child_kill(&child);
  while (slc_publisher_loan(publisher, 1, &loan) == 0) check_ok(slc_publisher_discard(publisher, &loan));
  check_status(slc_publisher_wait(publisher, 0), SLC_TIMED_OUT);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  check_ok(slc_publisher_send(publisher, "x", 1, NULL));
  slc_subscriber_close(subscriber);
  check_status(slc_publisher_send(publisher, "x", 1, NULL), SLC_WOULD_BLOCK);
  slc_client_close(client);
}

/* ---- in a wait-set ---- */

static slc_waitset_event set_next(slc_waitset *set) {
  slc_waitset_event event;
  size_t count = 0;
  check_ok(slc_waitset_wait(set, SLC_WAIT_FOREVER, &event, 1, &count));
  assert_int_equal(count, 1);
  return event;
}

static void check_nothing(slc_waitset *set) {
  slc_waitset_event event;
  size_t count;
  check_status(slc_waitset_wait(set, 0, &event, 1, &count), SLC_TIMED_OUT);
}

static void test_in_a_wait_set(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = retiring_open(client, 16, true);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  slc_waitset *set;
  int tag;
  struct told told = {0};
  check_ok(slc_waitset_new(&set));
  check_ok(slc_waitset_add_publisher(set, publisher, &tag));
  check_status(slc_waitset_add_publisher(set, publisher, &tag), SLC_INVALID);
  check_nothing(set);
  send_pattern(publisher, 1, SIZE);
  check_nothing(set);
  take_pattern(subscriber, 1, SIZE);
  for (int i = 0; i < 2; i++) { /* as long as it is ready */
    slc_waitset_event event = set_next(set);
    assert_ptr_equal(event.publisher, publisher);
    assert_ptr_equal(event.user_data, &tag);
    assert_null(event.subscriber);
    assert_int_equal(event.fd, -1);
    assert_int_equal(event.events, POLLIN);
  }
  assert_int_equal(collect(publisher, &told), 1);
  check_nothing(set);
  uint64_t sent = 0;
  while (slc_publisher_send(publisher, &sent, sizeof sent, NULL) == 0) sent++;
  check_nothing(set);
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  check_ok(slc_subscriber_release(subscriber, &message));
  assert_ptr_equal(set_next(set).publisher, publisher);
  check_ok(slc_waitset_remove_publisher(set, publisher));
  check_status(slc_waitset_remove_publisher(set, publisher), SLC_NOT_FOUND);
  check_nothing(set);
  slc_waitset_free(set);
  slc_client_close(client);
}

/* Without retirement it is about loans. */
static void test_loans_in_a_wait_set(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = options.needs_subscriber = 1;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_waitset *set;
  check_ok(slc_waitset_new(&set));
  check_ok(slc_waitset_add_publisher(set, publisher, NULL));
  check_nothing(set); /* nobody subscribes */
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  assert_ptr_equal(set_next(set).publisher, publisher);
  slc_subscriber_close(subscriber);
  check_nothing(set);
  slc_waitset_free(set);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_retired_needs_the_option),
      BROKER_TEST(test_readable_exactly_when_told),
      BROKER_TEST(test_killed_holder),
      BROKER_TEST(test_each_once_unreliable),
      BROKER_TEST(test_each_once_reliable),
      BROKER_TEST(test_no_wake_up_is_lost),
      BROKER_TEST(test_goes_on_without_a_broker),
      BROKER_TEST(test_evicted_by_another),
      BROKER_TEST(test_waits_by_descriptor),
      BROKER_TEST(test_descriptors_go),
      BROKER_TEST(test_several_loans),
      BROKER_TEST(test_the_very_slot),
      BROKER_TEST(test_time_outs),
      BROKER_TEST(test_needs_a_subscriber),
      BROKER_TEST(test_in_a_wait_set),
      BROKER_TEST(test_loans_in_a_wait_set),
  };
  return cmocka_run_group_tests_name("client_retire", tests, NULL, NULL);
}

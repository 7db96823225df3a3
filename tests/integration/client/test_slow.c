/* Channels that disconnect slow subscribers: who is slow, what it is told, what it keeps, and who goes on.
 *
 * Nobody subscribes to events unless a test says so: such a channel is watched for its own sake. */
#include "common.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 16, SIZE = 100, LAPS = 30, HOLD_MS = 1000 /* the broker's own limit */ };

static slc_publisher_options disconnecting(bool is_reliable) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = SLOTS;
  options.reliable = is_reliable;
  options.slow_policy = SLC_SLOW_DISCONNECT;
  return options;
}

static slc_subscriber_options reliably(void) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  return options;
}

/* Waits for slots as long as it takes; the watchdog's business if nobody gives any. */
static void send_waiting(slc_publisher *publisher, uint64_t ordinal) {
  slc_loan loan;
  int status;
  while ((status = slc_publisher_loan(publisher, SIZE, &loan)) == SLC_WOULD_BLOCK)
    check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  check_ok(status);
  for (size_t i = 0; i < SIZE; i++) ((uint8_t *)loan.data)[i] = pattern(ordinal, i);
  uint64_t published;
  check_ok(slc_publisher_publish(publisher, &loan, SIZE, &published));
  assert_int_equal(published, ordinal);
}

static void check_disconnected(slc_subscriber *subscriber, const char *why) {
  slc_message message;
  size_t count;
  check_status(slc_subscriber_take(subscriber, &message), SLC_DISCONNECTED);
  assert_non_null(strstr(slc_error_detail(), why));
  check_status(slc_subscriber_take_newest(subscriber, &message), SLC_DISCONNECTED);
  check_status(slc_subscriber_take_many(subscriber, &message, 1, &count), SLC_DISCONNECTED);
  check_status(slc_subscriber_find(subscriber, 1, 1, &message), SLC_DISCONNECTED);
  check_status(slc_subscriber_find_time(subscriber, 1, 1, &message), SLC_DISCONNECTED);
  check_status(slc_subscriber_take_weak(subscriber, 1, 0, &message), SLC_DISCONNECTED);
  check_status(slc_subscriber_wait(subscriber, 0), SLC_DISCONNECTED);
  check_status(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER), SLC_DISCONNECTED);
}

/* ---- processes that stop ---- */

struct child {
  pid_t pid;
  int ready, go; /* it has said so; it may go on */
};

typedef void (*child_fn)(int ready, int go);

static struct child child_begin(child_fn work) {
  struct child child;
  int ready[2], go[2];
  char byte;
  assert_int_equal(pipe(ready), 0);
  assert_int_equal(pipe(go), 0);
  child.pid = fork();
  assert_true(child.pid >= 0);
  if (child.pid == 0) {
    work(ready[1], go[0]);
    _exit(0);
  }
  close(ready[1]);
  close(go[0]);
  child.ready = ready[0];
  child.go = go[1];
  assert_int_equal(read(child.ready, &byte, 1), 1);
  return child;
}

static void child_stop(const struct child *child) {
  int status;
  assert_int_equal(kill(child->pid, SIGSTOP), 0);
  assert_int_equal(waitpid(child->pid, &status, WUNTRACED), child->pid);
  assert_true(WIFSTOPPED(status));
}

static void child_go_on(const struct child *child) {
  assert_int_equal(kill(child->pid, SIGCONT), 0);
  assert_int_equal(write(child->go, "", 1), 1);
}

static int child_end(struct child *child) {
  int status;
  assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
  close(child->ready);
  close(child->go);
  return status;
}

static void child_pause(int ready, int go) {
  char byte;
  if (write(ready, "", 1) != 1 || read(go, &byte, 1) != 1) _exit(10);
}

/* Fails by its exit code: cmocka's failures belong to the parent. */
static void child_check(bool is_so, int code) {
  if (!is_so) _exit(code);
}

static bool has_pattern(const slc_message *message, uint64_t ordinal) {
  bool is_whole = message->ordinal == ordinal && message->size == SIZE;
  for (size_t i = 0; is_whole && i < SIZE; i++) is_whole = ((const uint8_t *)message->data)[i] == pattern(ordinal, i);
  return is_whole;
}

/* Holds a message through everything. */
static void hold_through(int ready, int go, int is_reliable, const char *why) {
  slc_client *client;
  slc_subscriber *subscriber, *another;
  slc_message held, message;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = is_reliable;
  options.start = SLC_START_OLDEST;
  child_check(slc_client_open(NULL, &client) == 0, 11);
  child_check(slc_subscriber_open(client, CHANNEL, &options, &subscriber) == 0, 12);
  child_check(slc_subscriber_take(subscriber, &held) == 0 && has_pattern(&held, 1), 13);
  child_pause(ready, go);
  child_check(has_pattern(&held, 1), 14);
  child_check(slc_subscriber_take(subscriber, &message) == SLC_DISCONNECTED, 15);
  child_check(strstr(slc_error_detail(), why) != NULL, 16);
  child_check(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER) == SLC_DISCONNECTED, 17);
  child_check(has_pattern(&held, 1), 18);
  child_check(slc_subscriber_release(subscriber, &held) == 0, 19);
  child_check(slc_subscriber_release(subscriber, &held) == SLC_STALE, 20);
  child_check(slc_subscriber_take(subscriber, &message) == SLC_DISCONNECTED, 21);
  slc_subscriber_close(subscriber);
  child_check(slc_subscriber_open(client, CHANNEL, &options, &another) == 0, 22);
  child_check(slc_subscriber_take(another, &message) == 0, 23);
  child_check(has_pattern(&message, message.ordinal), 24);
  slc_client_close(client);
}

static void hold_reliably(int ready, int go) {
  hold_through(ready, go, 1, "did not release");
}

static void hold_unreliably(int ready, int go) {
  hold_through(ready, go, 0, "");
}

static void check_user(slc_client *client, pid_t pid, bool is_too_slow, uint32_t holds) {
  slc_channel_info *info;
  bool is_there = false;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  for (uint32_t i = 0; i < info->user_count; i++) {
    if (info->users[i].is_publisher || info->users[i].pid != (int32_t)pid) continue;
    is_there = true;
    assert_int_equal(info->users[i].is_too_slow, is_too_slow);
    assert_int_equal(info->users[i].holds, holds);
  }
  assert_true(is_there);
  slc_channel_info_free(info);
}

/* The publisher goes on, the one who keeps up misses nothing, and what the stopped one holds stays as it is. */
static void test_stopped_reliable_subscriber(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = disconnecting(true);
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options wishes = reliably();
  slc_subscriber *quick = subscriber_open(client, &wishes);
  send_waiting(publisher, 1);
  take_pattern(quick, 1, SIZE);
  struct child child = child_begin(hold_reliably);
  child_stop(&child);
  check_user(client, child.pid, false, 1);
  for (uint64_t i = 2; i <= LAPS * SLOTS; i++) {
    send_waiting(publisher, i);
    take_pattern(quick, i, SIZE);
  }
  check_user(client, child.pid, true, 1);
  child_go_on(&child);
  assert_int_equal(child_end(&child), 0);
  assert_int_equal(subscriber_stats(quick).dropped, 0);
  slc_client_close(client);
}

/* ---- overrun ---- */

static void test_stopped_unreliable_subscriber(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = disconnecting(false);
  slc_publisher *publisher = publisher_open(client, &options);
  send_waiting(publisher, 1);
  struct child child = child_begin(hold_unreliably);
  child_stop(&child);
  slc_channel_info *info;
  uint64_t sent = 1;
  for (bool is_told = false; !is_told;) { /* keeps it overrun; ends when the broker has seen it */
    for (int i = 0; i < SLOTS; i++) send_waiting(publisher, ++sent);
    check_ok(slc_channel_inspect(client, CHANNEL, &info));
    for (uint32_t i = 0; i < info->user_count; i++) is_told = is_told || info->users[i].is_too_slow;
    slc_channel_info_free(info);
    poll(NULL, 0, 10);
  }
  child_go_on(&child);
  assert_int_equal(child_end(&child), 0);
  slc_client_close(client);
}

/* It finds itself what it has lost, and goes on until the broker has seen that, too. */
static void test_overrun_subscriber_that_goes_on(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = disconnecting(false);
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *slow = subscriber_open(client, NULL), *quick = subscriber_open(client, NULL);
  slc_message message;
  for (uint64_t i = 1; i <= 3 * SLOTS; i++) {
    send_waiting(publisher, i);
    take_pattern(quick, i, SIZE);
  }
  int status;
  while ((status = slc_subscriber_take(slow, &message)) == 0) check_ok(slc_subscriber_release(slow, &message));
  if (status == SLC_EMPTY) status = slc_subscriber_wait(slow, SLC_WAIT_FOREVER);
  while (status == 0) status = slc_subscriber_wait(slow, SLC_WAIT_FOREVER); /* it may be rung for another reason */
  check_status(status, SLC_DISCONNECTED);
  check_disconnected(slow, "lost messages");
  assert_true(subscriber_stats(slow).dropped > 0);
  send_waiting(publisher, 3 * SLOTS + 1);
  take_pattern(quick, 3 * SLOTS + 1, SIZE);
  slc_client_close(client);
}

/* ---- publishers that wait ---- */

static uint64_t next_event(slc_subscriber *events, uint32_t kind, slc_event *ret_event) {
  slc_message message;
  for (;;) {
    int status = slc_subscriber_take(events, &message);
    if (status == SLC_EMPTY) {
      check_ok(slc_subscriber_wait(events, SLC_WAIT_FOREVER));
      continue;
    }
    check_ok(status);
    ret_event->size = sizeof *ret_event;
    check_ok(slc_event_read(&message, ret_event));
    check_ok(slc_subscriber_release(events, &message));
    if (ret_event->kind == kind && strcmp(ret_event->channel, CHANNEL) == 0) return message.ordinal;
  }
}

static slc_subscriber *events_open(slc_client *client) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *events = NULL;
  options.start = SLC_START_OLDEST;
  check_ok(slc_subscriber_open(client, SLC_EVENTS_CHANNEL, &options, &events));
  return events;
}

/* It holds nothing and takes nothing.  Two of them, so that the second is hindmost when the first has gone. */
static void test_subscribers_that_publishers_wait_for(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = disconnecting(true);
  options.needs_subscriber = 1;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options wishes = reliably();
  slc_subscriber *one = subscriber_open(client, &wishes), *two = subscriber_open(client, &wishes);
  slc_subscriber *unreliable = subscriber_open(client, NULL);
  send_waiting(publisher, 1);
  take_pattern(two, 1, SIZE);
  for (uint64_t i = 2; i <= 2 * SLOTS; i++) {
    send_waiting(publisher, i);
    take_pattern(unreliable, i == 2 ? 1 : i - 1, SIZE);
  }
  check_disconnected(one, "kept publishers waiting");
  check_disconnected(two, "kept publishers waiting");
  slc_subscriber *events = events_open(client); /* of what happened when nobody asked */
  slc_event event;
  for (int i = 0; i < 2; i++) {
    uint64_t stalls = next_event(events, SLC_EVENT_SUBSCRIBER_STALLS, &event);
    assert_true(event.held_ns >= HOLD_MS * MS && event.is_reliable && event.lag > 0);
    assert_int_equal(event.pid, getpid());
    uint64_t user = event.user;
    assert_true(next_event(events, SLC_EVENT_SUBSCRIBER_DISCONNECTED, &event) > stalls);
    if (i > 0) assert_int_equal(event.user, user);
  }
  slc_subscriber_close(unreliable);
  slc_loan loan; /* those two still have their places, and are nobody to publish for */
  check_status(slc_publisher_loan(publisher, SIZE, &loan), SLC_WOULD_BLOCK);
  slc_client_close(client);
}

/* Without the policy it is told, and all else stays as it is. */
static void test_tell_only_tells(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = disconnecting(true);
  options.slow_policy = SLC_SLOW_TELL;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options wishes = reliably();
  slc_subscriber *slow = subscriber_open(client, &wishes);
  slc_message held;
  slc_loan loan;
  uint64_t sent = 0;
  slc_subscriber *events = events_open(client);
  send_waiting(publisher, ++sent);
  check_ok(slc_subscriber_take(slow, &held));
  while (slc_publisher_loan(publisher, SIZE, &loan) == 0) {
    check_ok(slc_publisher_discard(publisher, &loan));
    send_waiting(publisher, ++sent);
  }
  check_status(slc_publisher_wait(publisher, 1), SLC_TIMED_OUT);
  slc_event event;
  next_event(events, SLC_EVENT_SUBSCRIBER_STALLS, &event);
  assert_int_equal(event.held_ordinal, 2);
  check_status(slc_publisher_loan(publisher, SIZE, &loan), SLC_WOULD_BLOCK);
  check_pattern(&held, 1, SIZE);
  check_ok(slc_subscriber_release(slow, &held));
  for (uint64_t i = 2; i <= sent; i++) take_pattern(slow, i, SIZE);
  assert_int_equal(subscriber_stats(slow).dropped, 0);
  send_waiting(publisher, sent + 1);
  take_pattern(slow, sent + 1, SIZE);
  slc_client_close(client);
}

/* ---- who waits is told ---- */

struct waiter {
  pthread_t thread;
  slc_subscriber *subscriber;
  int fd;
  slc_waitset *set;
  int status;
};

static void *wait_plainly(void *arg) {
  struct waiter *waiter = arg;
  do {
    waiter->status = slc_subscriber_wait(waiter->subscriber, SLC_WAIT_FOREVER);
  } while (waiter->status == 0);
  return NULL;
}

/* Readable for good: other rings are taken away by a take that finds nothing. */
static void *wait_by_descriptor(void *arg) {
  struct waiter *waiter = arg;
  slc_message message;
  struct pollfd polled = {.fd = waiter->fd, .events = POLLIN};
  do {
    poll(&polled, 1, -1);
    waiter->status = slc_subscriber_take(waiter->subscriber, &message);
  } while (waiter->status == SLC_EMPTY);
  return NULL;
}

static void *wait_in_a_set(void *arg) {
  struct waiter *waiter = arg;
  slc_message message;
  slc_waitset_event event;
  size_t count;
  do {
    waiter->status = slc_waitset_wait(waiter->set, SLC_WAIT_FOREVER, &event, 1, &count);
    if (waiter->status == 0) waiter->status = slc_subscriber_take(waiter->subscriber, &message);
  } while (waiter->status == SLC_EMPTY);
  return NULL;
}

static void test_waiters_are_told(void **state) {
  (void)state;
  enum { PLAIN, SPINNING, LOCKED, DESCRIPTOR, SET, WAITERS };
  static void *(*const work[WAITERS])(void *) = {
      [PLAIN] = wait_plainly, [SPINNING] = wait_plainly, [LOCKED] = wait_plainly, [DESCRIPTOR] = wait_by_descriptor,
      [SET] = wait_in_a_set,
  };
  slc_client *client = client_open();
  slc_publisher_options options = disconnecting(false);
  slc_publisher *publisher = publisher_open(client, &options);
  struct waiter waiters[WAITERS] = {0};
  slc_message held[WAITERS];
  for (int i = 0; i < WAITERS; i++) {
    slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
    wishes.locked = i == LOCKED;
    wishes.spin_ns = i == SPINNING ? SLC_SPIN_FOREVER : SLC_SPIN_NEVER;
    waiters[i].subscriber = subscriber_open(client, &wishes);
  }
  check_ok(slc_subscriber_fd(waiters[DESCRIPTOR].subscriber, &waiters[DESCRIPTOR].fd));
  check_ok(slc_waitset_new(&waiters[SET].set));
  check_ok(slc_waitset_add_subscriber(waiters[SET].set, waiters[SET].subscriber, NULL));
  send_waiting(publisher, 1);
  for (int i = 0; i < WAITERS; i++) {
    check_ok(slc_subscriber_take(waiters[i].subscriber, &held[i]));
    assert_int_equal(pthread_create(&waiters[i].thread, NULL, work[i], &waiters[i]), 0);
  }
  for (int i = 0; i < WAITERS; i++) {
    assert_int_equal(pthread_join(waiters[i].thread, NULL), 0);
    check_status(waiters[i].status, SLC_DISCONNECTED);
    check_disconnected(waiters[i].subscriber, "did not release");
    check_pattern(&held[i], 1, SIZE);
  }
  struct pollfd polled = {.fd = waiters[DESCRIPTOR].fd, .events = POLLIN};
  assert_int_equal(poll(&polled, 1, 0), 1); /* still */
  slc_waitset_event event;
  size_t count;
  check_ok(slc_waitset_wait(waiters[SET].set, 0, &event, 1, &count));
  for (int i = 0; i < WAITERS; i++) check_ok(slc_subscriber_release(waiters[i].subscriber, &held[i]));
  check_ok(slc_waitset_remove_subscriber(waiters[SET].set, waiters[SET].subscriber));
  slc_waitset_free(waiters[SET].set);
  slc_client_close(client);
}

/* ---- death meanwhile ---- */

static void hold_for_ever(int ready, int go) {
  slc_client *client;
  slc_subscriber *subscriber;
  slc_message held;
  slc_subscriber_options options = reliably();
  options.start = SLC_START_OLDEST;
  options.max_holds = 5;
  child_check(slc_client_open(NULL, &client) == 0, 11);
  child_check(slc_subscriber_open(client, CHANNEL, &options, &subscriber) == 0, 12);
  for (int i = 0; i < 3; i++) child_check(slc_subscriber_take(subscriber, &held) == 0, 13);
  child_pause(ready, go);
}

static void check_slots(slc_client *client, uint32_t held, uint32_t budget) {
  slc_channel_info *info;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  assert_int_equal(info->slots_held, held);
  assert_int_equal(info->budget_used, budget);
  slc_channel_info_free(info);
}

/* What it holds, and what it was promised, come back when it has died, and not before. */
static void test_disconnected_subscriber_is_killed(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = disconnecting(true);
  slc_publisher *publisher = publisher_open(client, &options);
  slc_channel_info *info;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  uint32_t budget = info->budget_used;
  slc_channel_info_free(info);
  for (uint64_t i = 1; i <= 3; i++) send_waiting(publisher, i);
  struct child child = child_begin(hold_for_ever);
  child_stop(&child);
  for (uint64_t i = 4; i <= LAPS * SLOTS; i++) send_waiting(publisher, i);
  check_slots(client, 3, budget + 5);
  slc_subscriber *events = events_open(client);
  slc_event event;
  next_event(events, SLC_EVENT_SUBSCRIBER_DISCONNECTED, &event);
  assert_int_equal(event.pid, child.pid);
  assert_int_equal(kill(child.pid, SIGKILL), 0);
  assert_true(WIFSIGNALED(child_end(&child)));
  next_event(events, SLC_EVENT_SUBSCRIBER_DIED, &event);
  check_slots(client, 0, budget);
  for (uint64_t i = 1; i <= SLOTS; i++) send_waiting(publisher, LAPS * SLOTS + i);
  slc_subscriber_options wishes = reliably(); /* in the very line of the dead */
  wishes.max_holds = 5;
  slc_subscriber *next = subscriber_open(client, &wishes);
  send_waiting(publisher, (LAPS + 1) * SLOTS + 1);
  take_pattern(next, (LAPS + 1) * SLOTS + 1, SIZE);
  slc_client_close(client);
}

/* ---- who is not slow ---- */

/* Its own idea of the checksum: every message is damaged to it. */
static void other_checksum(void *ctx, const void *payload, size_t payload_size, const void *metadata,
                           size_t metadata_size, void *checksum, size_t checksum_size) {
  (void)payload;
  (void)payload_size;
  (void)metadata;
  (void)metadata_size;
  memset(checksum, *(const int *)ctx, checksum_size);
}

/* The looks at a subscriber that holds a message are the clock: when it is found slow, the others were looked at. */
static void test_damaged_messages_are_no_slowness(void **state) {
  (void)state;
  static int good = 1, bad = 2;
  slc_client *client = client_open();
  slc_publisher_options options = disconnecting(false);
  options.checksum = SLC_CHECKSUM_OWN;
  options.checksum_size = 4;
  options.compute_checksum = other_checksum;
  options.callback_ctx = &good;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *holder = subscriber_open(client, &wishes);
  wishes.compute_checksum = other_checksum;
  wishes.callback_ctx = &bad;
  slc_subscriber *fussy = subscriber_open(client, &wishes);
  slc_message held, message;
  for (uint64_t i = 1; i <= 3; i++) {
    send_waiting(publisher, i);
    check_status(slc_subscriber_take(fussy, &message), SLC_CHECKSUM);
  }
  check_ok(slc_subscriber_take(holder, &held));
  while (slc_subscriber_wait(holder, SLC_WAIT_FOREVER) == 0) {
    if (slc_subscriber_take(holder, &message) == 0) check_ok(slc_subscriber_release(holder, &message));
  }
  check_disconnected(holder, "did not release");
  assert_int_equal(subscriber_stats(fussy).dropped, 3);
  check_status(slc_subscriber_take(fussy, &message), SLC_EMPTY);
  slc_client_close(client);
}

/* Who sleeps until something comes on a virtual channel has lost nothing when much has come on others. */
static void test_messages_of_others_are_no_slowness(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = disconnecting(false);
  slc_publisher *busy = NULL, *quiet = NULL;
  slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *idle = NULL, *holder = NULL;
  options.multiplexer = wishes.multiplexer = "test/many";
  check_ok(slc_publisher_open(client, "busy", &options, &busy));
  check_ok(slc_publisher_open(client, "quiet", &options, &quiet));
  check_ok(slc_subscriber_open(client, "quiet", &wishes, &idle));
  check_ok(slc_subscriber_open(client, "quiet", &wishes, &holder));
  int fd;
  slc_message held, message;
  check_ok(slc_subscriber_fd(idle, &fd));
  check_ok(slc_publisher_send(quiet, "1", 1, NULL));
  check_ok(slc_subscriber_take(holder, &held));
  check_ok(slc_subscriber_take(idle, &message));
  check_ok(slc_subscriber_release(idle, &message));
  check_status(slc_subscriber_take(idle, &message), SLC_EMPTY);
  for (int i = 0; i < LAPS * SLOTS; i++) check_ok(slc_publisher_send(busy, "x", 1, NULL));
  while (slc_subscriber_wait(holder, SLC_WAIT_FOREVER) == 0) {
  }
  check_disconnected(holder, "did not release");
  check_status(slc_subscriber_take(idle, &message), SLC_EMPTY);
  check_ok(slc_publisher_send(quiet, "2", 1, NULL));
  check_ok(slc_subscriber_take(idle, &message));
  assert_int_equal(message.virtual_ordinal, 2);
  slc_client_close(client);
}

/* ---- terms ---- */

static int policy_of(slc_client *client) {
  slc_channel_info *info;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  int policy = info->slow_policy;
  slc_channel_info_free(info);
  return policy;
}

static void test_policy_is_settled_once(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options cut = disconnecting(false), wrong = disconnecting(false);
  slc_channel_options shape = SLC_CHANNEL_OPTIONS_INIT;
  slc_publisher *none;
  wrong.slow_policy = 2;
  check_status(slc_publisher_open(client, CHANNEL, &wrong, &none), SLC_INVALID);
  wrong.slow_policy = -1;
  check_status(slc_publisher_open(client, CHANNEL, &wrong, &none), SLC_INVALID);
  slc_publisher *publisher = publisher_open(client, NULL);
  check_status(slc_publisher_open(client, CHANNEL, &cut, &none), SLC_INCOMPATIBLE);
  shape.slow_policy = SLC_SLOW_DISCONNECT;
  check_status(slc_channel_create(client, CHANNEL, &shape), SLC_INCOMPATIBLE);
  assert_int_equal(policy_of(client), SLC_SLOW_TELL);
  slc_publisher_close(publisher);
  check_ok(slc_channel_create(client, CHANNEL, &shape));
  assert_int_equal(policy_of(client), SLC_SLOW_DISCONNECT);
  slc_publisher_close(publisher_open(client, NULL));
  cut.slots = 0;
  slc_publisher_close(publisher_open(client, &cut));
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

/* It was there before the channel had a policy, and has never done anything since. */
static void test_subscriber_that_came_first(void **state) {
  (void)state;
  slc_client *client = client_open(), *other = client_open();
  slc_subscriber_options wishes = reliably();
  slc_subscriber *first = subscriber_open(other, &wishes);
  slc_publisher_options options = disconnecting(true);
  slc_publisher *publisher = publisher_open(client, &options);
  for (uint64_t i = 1; i <= 2 * SLOTS; i++) send_waiting(publisher, i);
  check_disconnected(first, "kept publishers waiting");
  slc_client_close(other);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_stopped_reliable_subscriber),
      BROKER_TEST(test_stopped_unreliable_subscriber),
      BROKER_TEST(test_overrun_subscriber_that_goes_on),
      BROKER_TEST(test_subscribers_that_publishers_wait_for),
      BROKER_TEST(test_tell_only_tells),
      BROKER_TEST(test_waiters_are_told),
      BROKER_TEST(test_disconnected_subscriber_is_killed),
      BROKER_TEST(test_damaged_messages_are_no_slowness),
      BROKER_TEST(test_messages_of_others_are_no_slowness),
      BROKER_TEST(test_policy_is_settled_once),
      BROKER_TEST(test_subscriber_that_came_first),
  };
  return cmocka_run_group_tests_name("client_slow", tests, NULL, NULL);
}

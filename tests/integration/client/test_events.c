/* The channel of events: what is told of channels and their users, to whom, and what it is not. */
#include "common.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- reading ---- */

static slc_subscriber *events_open(slc_client *client, int start) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *events = NULL;
  options.start = start;
  options.type = SLC_EVENTS_TYPE;
  check_ok(slc_subscriber_open(client, SLC_EVENTS_CHANNEL, &options, &events));
  return events;
}

/* The next event about this channel; the watchdog's business if it never comes. */
static slc_event next_about(slc_subscriber *events, const char *channel) {
  slc_event event = {.size = sizeof event};
  slc_message message;
  for (;;) {
    int status = slc_subscriber_take(events, &message);
    if (status == SLC_EMPTY) {
      check_ok(slc_subscriber_wait(events, SLC_WAIT_FOREVER));
      continue;
    }
    check_ok(status);
    check_ok(slc_event_read(&message, &event));
    check_ok(slc_subscriber_release(events, &message));
    assert_true(event.realtime_ns > 0);
    if (strcmp(event.channel, channel) == 0) return event;
  }
}

static slc_event expect(slc_subscriber *events, enum slc_event_kind kind) {
  slc_event event = next_about(events, CHANNEL);
  if (event.kind != (uint32_t)kind)
    fail_msg("%s was told, wanted was %s", slc_event_name(event.kind), slc_event_name((uint32_t)kind));
  return event;
}

static void expect_nothing(slc_subscriber *events) {
  slc_message message;
  check_status(slc_subscriber_take(events, &message), SLC_EMPTY);
}

/* ---- coming and going ---- */

static void check_user(const slc_event *event, pid_t pid, uint64_t user) {
  assert_int_equal(event->pid, pid);
  assert_int_equal(event->uid, getuid());
  assert_true(event->user != 0);
  if (user != 0) assert_int_equal(event->user, user);
  assert_true(event->program[0] != '\0');
}

static void test_users_come_and_go(void **state) {
  (void)state;
  slc_client_options named = SLC_CLIENT_OPTIONS_INIT;
  slc_client *client = client_open(), *other = NULL;
  named.name = "the other";
  check_ok(slc_client_open(&named, &other));
  slc_subscriber *events = events_open(client, SLC_START_NEWEST);
  slc_subscriber_close(events_open(other, SLC_START_OLDEST));
  expect_nothing(events); /* of those who only look nothing is told */
  slc_subscriber *subscriber = subscriber_open(other, NULL);
  slc_event event = expect(events, SLC_EVENT_CHANNEL_CREATED);
  assert_int_equal(event.slot_size, 0);
  assert_int_equal(event.user, 0);
  event = expect(events, SLC_EVENT_SUBSCRIBER_JOINED);
  check_user(&event, getpid(), 0);
  assert_string_equal(event.client_name, "the other");
  uint64_t subscriber_id = event.user;
  slc_publisher_options reliable = SLC_PUBLISHER_OPTIONS_INIT;
  reliable.reliable = 1;
  slc_publisher *publisher = publisher_open(client, &reliable);
  event = expect(events, SLC_EVENT_PUBLISHER_JOINED);
  check_user(&event, getpid(), 0);
  assert_true(event.is_reliable);
  slc_publisher_close(publisher);
  uint64_t publisher_id = event.user;
  event = expect(events, SLC_EVENT_PUBLISHER_LEFT);
  check_user(&event, getpid(), publisher_id);
  slc_subscriber_close(subscriber);
  event = expect(events, SLC_EVENT_SUBSCRIBER_LEFT);
  check_user(&event, getpid(), subscriber_id);
  expect(events, SLC_EVENT_CHANNEL_REMOVED);
  expect_nothing(events);
  slc_client_close(other);
  slc_client_close(client);
}

/* Who is refused has not come. */
static void test_refusals_are_not_told(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *events = events_open(client, SLC_START_NEWEST), *none;
  slc_publisher *publisher;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 3;
  check_status(slc_publisher_open(client, CHANNEL, &options, &publisher), SLC_INVALID);
  expect_nothing(events);
  slc_channel_options created = SLC_CHANNEL_OPTIONS_INIT;
  created.slots = 16;
  created.slot_size = 100;
  check_ok(slc_channel_create(client, CHANNEL, &created));
  slc_event event = expect(events, SLC_EVENT_CHANNEL_CREATED);
  assert_int_equal(event.slot_size, 100);
  check_ok(slc_channel_create(client, CHANNEL, &created)); /* once only */
  slc_subscriber_options holds = SLC_SUBSCRIBER_OPTIONS_INIT;
  holds.max_holds = 1000;
  check_status(slc_subscriber_open(client, CHANNEL, &holds, &none), SLC_NO_BUDGET);
  expect_nothing(events);
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  expect(events, SLC_EVENT_CHANNEL_REMOVED);
  slc_client_close(client);
}

static void live_until_killed(int ready) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  if (slc_client_open(NULL, &client) != 0 || slc_publisher_open(client, CHANNEL, NULL, &publisher) != 0 ||
      slc_subscriber_open(client, CHANNEL, NULL, &subscriber) != 0 || write(ready, "", 1) != 1)
    _exit(1);
  for (;;) pause();
}

static void test_the_dead_are_told_from_those_who_left(void **state) {
  (void)state;
  int ready[2];
  char byte;
  assert_int_equal(pipe(ready), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) live_until_killed(ready[1]);
  slc_client *client = client_open();
  slc_subscriber *events = events_open(client, SLC_START_OLDEST);
  assert_int_equal(read(ready[0], &byte, 1), 1);
  expect(events, SLC_EVENT_CHANNEL_CREATED);
  uint64_t publisher = expect(events, SLC_EVENT_PUBLISHER_JOINED).user;
  uint64_t subscriber = expect(events, SLC_EVENT_SUBSCRIBER_JOINED).user;
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  for (int i = 0; i < 2; i++) {
    slc_event event = next_about(events, CHANNEL);
    bool is_publisher = event.kind == SLC_EVENT_PUBLISHER_DIED;
    assert_true(is_publisher || event.kind == SLC_EVENT_SUBSCRIBER_DIED);
    check_user(&event, pid, is_publisher ? publisher : subscriber);
  }
  expect(events, SLC_EVENT_CHANNEL_REMOVED);
  close(ready[0]);
  close(ready[1]);
  slc_client_close(client);
}

static void test_growth_is_told(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *events = events_open(client, SLC_START_NEWEST);
  send_pattern(publisher, 1, 5000);
  slc_event event = expect(events, SLC_EVENT_CHANNEL_GREW);
  assert_int_equal(event.generation, 2);
  assert_in_range(event.slot_size, 5000, 10000);
  send_pattern(publisher, 2, 5000);
  expect_nothing(events);
  slc_client_close(client);
}

/* ---- slow subscribers ---- */

/* That it was held for long is told as well, if we are that slow. */
static uint64_t lost_next(slc_subscriber *events) {
  slc_event event;
  do event = next_about(events, CHANNEL);
  while (event.kind == SLC_EVENT_SUBSCRIBER_HOLDS);
  assert_int_equal(event.kind, SLC_EVENT_SUBSCRIBER_OVERRUN);
  check_user(&event, getpid(), 0);
  assert_true(event.lost > 0 && event.lag > 0);
  return event.lost;
}

/* Nobody calls the library for it: what it has lost is seen from outside. */
static void test_overrun_is_told(void **state) {
  (void)state;
  enum { SENT = 100, SLOTS = 16 };
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = SLOTS;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *slow = subscriber_open(client, NULL);
  slc_subscriber *events = events_open(client, SLC_START_NEWEST);
  for (uint64_t i = 1; i <= SENT; i++) send_pattern(publisher, i, 10);
  uint64_t lost = 0;
  while (lost < SENT - SLOTS) lost += lost_next(events);
  slc_message message;
  check_ok(slc_subscriber_take(slow, &message));
  check_ok(slc_subscriber_release(slow, &message));
  while (lost < message.ordinal - 1) lost += lost_next(events); /* it was looked at in the middle of it */
  assert_int_equal(lost, message.ordinal - 1);
  assert_int_equal(subscriber_stats(slow).dropped, lost); /* it finds the same missing: that is not told again */
  for (uint64_t i = 1; i <= SENT; i++) send_pattern(publisher, SENT + i, 10);
  while (lost < 2 * SENT - SLOTS - 1) lost += lost_next(events);
  assert_true(lost < 2 * SENT);
  slc_client_close(client);
}

static void test_long_hold_is_told(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *slow = subscriber_open(client, NULL);
  slc_subscriber *events = events_open(client, SLC_START_NEWEST);
  slc_message first, second;
  for (uint64_t i = 1; i <= 3; i++) send_pattern(publisher, i, 10);
  check_ok(slc_subscriber_take(slow, &first));
  check_ok(slc_subscriber_take(slow, &second));
  check_ok(slc_subscriber_release(slow, &first));
  slc_event event;
  do {
    event = expect(events, SLC_EVENT_SUBSCRIBER_HOLDS);
  } while (event.held_ordinal != 2); /* of the first, too, if we were that slow */
  check_user(&event, getpid(), 0);
  assert_true(event.held_ns >= 1000 * MS);
  assert_int_equal(event.lag, 1);
  check_pattern(&second, 2, 10); /* it may go on */
  check_ok(slc_subscriber_release(slow, &second));
  slc_client_close(client);
}

/* ---- a channel of the broker's own ---- */

static void test_history_is_kept_without_subscribers(void **state) {
  (void)state;
  slc_client *client = client_open();
  for (int i = 0; i < 200; i++) { /* four events each: more than there are slots */
    slc_publisher_close(publisher_open(client, NULL));
  }
  slc_subscriber *events = events_open(client, SLC_START_OLDEST);
  slc_message message;
  uint64_t count = 0, last = 0;
  int status;
  while ((status = slc_subscriber_take(events, &message)) == SLC_OK) {
    if (count > 0) assert_int_equal(message.ordinal, last + 1);
    last = message.ordinal;
    count++;
    check_ok(slc_subscriber_release(events, &message));
  }
  check_status(status, SLC_EMPTY);
  assert_int_equal(last, 800);
  assert_true(count >= SLC_EVENTS_KEPT);
  assert_int_equal(subscriber_stats(events).publishers, 1);
  slc_client_close(client);
}

/* Who takes and never releases holds on to what it has, and nobody else notices. */
static void test_stuck_reader_is_in_nobodys_way(void **state) {
  (void)state;
  enum { HELD = 100, ROUNDS = 200 };
  slc_client *client = client_open();
  slc_subscriber_options many = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *stuck = NULL, *events = events_open(client, SLC_START_NEWEST);
  slc_message held[HELD];
  many.max_holds = HELD;
  check_ok(slc_subscriber_open(client, SLC_EVENTS_CHANNEL, &many, &stuck));
  for (int i = 0; i < ROUNDS; i++) { /* four events each: more than there are slots, in the end */
    slc_publisher_close(publisher_open(client, NULL));
    for (int k = 4 * i; k < 4 * (i + 1) && k < HELD; k++) check_ok(slc_subscriber_take(stuck, &held[k]));
    expect(events, SLC_EVENT_CHANNEL_CREATED);
    expect(events, SLC_EVENT_PUBLISHER_JOINED);
    expect(events, SLC_EVENT_PUBLISHER_LEFT);
    expect(events, SLC_EVENT_CHANNEL_REMOVED);
  }
  assert_int_equal(subscriber_stats(events).dropped, 0);
  for (int k = 0; k < HELD; k++) {
    static const uint32_t kinds[] = {SLC_EVENT_CHANNEL_CREATED, SLC_EVENT_PUBLISHER_JOINED, SLC_EVENT_PUBLISHER_LEFT,
                                     SLC_EVENT_CHANNEL_REMOVED};
    slc_event event = {.size = sizeof event};
    assert_int_equal(held[k].ordinal, (uint64_t)k + 1);
    check_ok(slc_event_read(&held[k], &event));
    assert_int_equal(event.kind, kinds[k % 4]);
  }
  slc_client_close(client);
}

static void test_only_the_broker_publishes(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher;
  slc_subscriber *none, *events = events_open(client, SLC_START_NEWEST);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  check_status(slc_publisher_open(client, SLC_EVENTS_CHANNEL, NULL, &publisher), SLC_NAME_INVALID);
  check_status(slc_channel_create(client, SLC_EVENTS_CHANNEL, NULL), SLC_NAME_INVALID);
  check_status(slc_channel_remove(client, SLC_EVENTS_CHANNEL, 1), SLC_NAME_INVALID);
  check_status(slc_subscriber_open(client, ".slotcast/other", NULL, &none), SLC_NAME_INVALID);
  options.reliable = 1; /* nobody keeps the broker waiting */
  check_status(slc_subscriber_open(client, SLC_EVENTS_CHANNEL, &options, &none), SLC_INCOMPATIBLE);
  slc_channel_info *channels, *info;
  size_t count;
  check_ok(slc_channel_list(client, &channels, &count));
  assert_int_equal(count, 0);
  slc_channel_list_free(channels, count);
  check_ok(slc_channel_inspect(client, SLC_EVENTS_CHANNEL, &info));
  assert_string_equal(info->type, SLC_EVENTS_TYPE);
  assert_int_equal(info->keep_last, SLC_EVENTS_KEPT);
  assert_int_equal(info->subscribers, 1);
  slc_channel_info_free(info);
  slc_subscriber_close(events);
  slc_client_close(client);
}

/* Sleepers on the bell and in an event loop are woken by the broker as by any publisher. */
static void test_events_wake(void **state) {
  (void)state;
  slc_client *client = client_open(), *other = client_open();
  slc_subscriber *events = events_open(client, SLC_START_NEWEST), *second = events_open(client, SLC_START_NEWEST);
  slc_subscriber_close(second); /* a doorbell that has gone is in nobody's way */
  int fd;
  check_ok(slc_subscriber_fd(events, &fd));
  expect_nothing(events);
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  slc_publisher *publisher = publisher_open(other, NULL);
  assert_int_equal(poll(&poll_fd, 1, -1), 1);
  expect(events, SLC_EVENT_CHANNEL_CREATED);
  expect(events, SLC_EVENT_PUBLISHER_JOINED);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    slc_client *third;
    slc_subscriber *subscriber;
    if (slc_client_open(NULL, &third) != 0 || slc_subscriber_open(third, CHANNEL, NULL, &subscriber) != 0) _exit(1);
    _exit(0);
  }
  expect(events, SLC_EVENT_SUBSCRIBER_JOINED); /* waits */
  expect(events, SLC_EVENT_SUBSCRIBER_DIED);
  int ended;
  assert_int_equal(waitpid(pid, &ended, 0), pid);
  assert_int_equal(ended, 0);
  slc_publisher_close(publisher);
  slc_client_close(other);
  slc_client_close(client);
}

/* The last event is that there are no more: the publisher has left. */
static void test_orderly_end_is_seen(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_subscriber *events = events_open(client, SLC_START_NEWEST);
  assert_int_equal(test_broker_stop(broker), 0);
  assert_int_equal(subscriber_stats(events).publishers, 0);
  expect_nothing(events);
  slc_client_close(client);
}

/* ---- what is no event ---- */

static void test_read_refuses_what_is_no_event(void **state) {
  (void)state;
  slc_event event = {.size = sizeof event, .kind = 77}, ret = {.size = sizeof ret};
  slc_message message = {.data = &event, .size = sizeof event};
  memset(event.channel, 'x', sizeof event.channel); /* without an end */
  check_ok(slc_event_read(&message, &ret));
  assert_int_equal(ret.kind, 77);
  assert_int_equal(strlen(ret.channel), sizeof ret.channel - 1);
  assert_string_equal(slc_event_name(ret.kind), "?");
  assert_string_equal(slc_event_name(SLC_EVENT_SUBSCRIBER_DIED), "subscriber-died");
  message.size--;
  check_status(slc_event_read(&message, &ret), SLC_INVALID);
  message.size++;
  event.size++;
  check_status(slc_event_read(&message, &ret), SLC_INVALID);
  event.size--;
  ret.size = 0;
  check_status(slc_event_read(&message, &ret), SLC_INVALID);
  check_status(slc_event_read(NULL, &ret), SLC_INVALID);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_users_come_and_go),
      BROKER_TEST(test_refusals_are_not_told),
      BROKER_TEST(test_the_dead_are_told_from_those_who_left),
      BROKER_TEST(test_growth_is_told),
      BROKER_TEST(test_overrun_is_told),
      BROKER_TEST(test_long_hold_is_told),
      BROKER_TEST(test_history_is_kept_without_subscribers),
      BROKER_TEST(test_stuck_reader_is_in_nobodys_way),
      BROKER_TEST(test_only_the_broker_publishes),
      BROKER_TEST(test_events_wake),
      BROKER_TEST(test_orderly_end_is_seen),
      cmocka_unit_test(test_read_refuses_what_is_no_event),
  };
  return cmocka_run_group_tests_name("client_events", tests, NULL, NULL);
}

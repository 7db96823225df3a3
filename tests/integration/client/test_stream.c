/* Messages through a real broker's channel: content, order, sizes, loans, holds, starts, drops. */
#include "common.h"

#include <string.h>

static void test_stream_content_and_order(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  for (uint64_t n = 1; n <= 1000; n++) { /* many times around the 64 slots */
    send_pattern(publisher, n, 1 + (size_t)(n * 37 % 1024));
    take_pattern(subscriber, n, 1 + (size_t)(n * 37 % 1024));
  }
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  slc_subscriber_stats stats = subscriber_stats(subscriber);
  assert_int_equal(stats.received, 1000);
  assert_int_equal(stats.dropped, 0);
  assert_int_equal(stats.lag, 0);
  assert_int_equal(stats.publishers, 1);
  slc_publisher_stats published = {.size = sizeof published};
  check_ok(slc_publisher_stats_get(publisher, &published));
  assert_int_equal(published.messages, 1000);
  assert_int_equal(published.subscribers, 1);
  slc_subscriber_close(subscriber);
  slc_publisher_close(publisher);
  slc_client_close(client);
}

static void test_stream_sizes_inside_and_behind_the_prefix(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 31, 32, 33, 64, 999, 1000};
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slot_size = 1000;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  uint64_t ordinal = 0;
  for (size_t loaned = 0; loaned < sizeof sizes / sizeof sizes[0]; loaned++) {
    for (size_t sent = 0; sent <= loaned; sent++) { /* also fewer bytes than were asked for */
      slc_loan loan;
      ordinal++;
      check_ok(slc_publisher_loan(publisher, sizes[loaned], &loan));
      assert_true(loan.capacity >= sizes[loaned]);
      assert_int_equal((uintptr_t)loan.data % (loan.capacity > 32 ? 64 : 32), 0);
      memset(loan.data, 0xee, loan.capacity);
      for (size_t i = 0; i < sizes[sent]; i++) ((uint8_t *)loan.data)[i] = pattern(ordinal, i);
      check_ok(slc_publisher_publish(publisher, &loan, sizes[sent], NULL));
      take_pattern(subscriber, ordinal, sizes[sent]);
    }
  }
  check_status(slc_publisher_send(publisher, "", 0, NULL), SLC_INVALID);
  slc_client_close(client); /* closes both handles too */
}

static void test_stream_slots_smaller_than_the_prefix(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slot_size = 8;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_loan loan;
  check_ok(slc_publisher_loan(publisher, 0, &loan));
  assert_int_equal(loan.capacity, 8);
  check_status(slc_publisher_publish(publisher, &loan, 9, NULL), SLC_INVALID);
  memcpy(loan.data, "12345678", 8);
  check_ok(slc_publisher_publish(publisher, &loan, 8, NULL));
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_int_equal(message.size, 8);
  assert_memory_equal(message.data, "12345678", 8);
  slc_client_close(client);
}

static void test_stream_timestamps(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_publisher_options untimed_options = SLC_PUBLISHER_OPTIONS_INIT;
  untimed_options.no_timestamp = 1;
  slc_publisher *untimed = publisher_open(client, &untimed_options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  check_ok(slc_publisher_send(publisher, "a", 1, NULL));
  check_ok(slc_publisher_send(publisher, "b", 1, NULL));
  check_ok(slc_publisher_send(untimed, "c", 1, NULL));
  slc_message a, b;
  check_ok(slc_subscriber_take(subscriber, &a));
  check_ok(slc_subscriber_take(subscriber, &b));
  assert_true(a.timestamp_ns > 0);
  assert_true(b.timestamp_ns >= a.timestamp_ns);
  assert_int_equal(a.publisher, b.publisher);
  uint32_t first = a.publisher;
  check_ok(slc_subscriber_release(subscriber, &a));
  check_ok(slc_subscriber_take(subscriber, &a));
  assert_int_equal(a.timestamp_ns, 0);
  assert_int_not_equal(a.publisher, first);
  slc_client_close(client);
}

static void test_loans_out_of_order(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.max_loans = 2;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_loan first, second, third;
  check_ok(slc_publisher_loan(publisher, 100, &first));
  check_ok(slc_publisher_loan(publisher, 100, &second));
  assert_int_not_equal(first.slot, second.slot);
  check_status(slc_publisher_loan(publisher, 100, &third), SLC_LOAN_LIMIT);
  memcpy(first.data, "first", 5);
  memcpy(second.data, "second", 6);
  uint64_t ordinal;
  check_ok(slc_publisher_publish(publisher, &second, 6, &ordinal));
  assert_int_equal(ordinal, 1);
  check_ok(slc_publisher_publish(publisher, &first, 5, &ordinal));
  assert_int_equal(ordinal, 2);
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_memory_equal(message.data, "second", 6);
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_memory_equal(message.data, "first", 5);
  slc_client_close(client);
}

static void test_loans_stale(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_loan loan, never = {0};
  check_status(slc_publisher_publish(publisher, &never, 1, NULL), SLC_STALE);
  check_ok(slc_publisher_loan(publisher, 100, &loan));
  check_status(slc_publisher_publish(publisher, &loan, 0, NULL), SLC_INVALID);
  check_status(slc_publisher_publish(publisher, &loan, loan.capacity + 1, NULL), SLC_INVALID);
  slc_loan copy = loan;
  check_ok(slc_publisher_publish(publisher, &loan, 1, NULL)); /* the refusals left it as it was */
  check_status(slc_publisher_publish(publisher, &loan, 1, NULL), SLC_STALE);
  check_status(slc_publisher_discard(publisher, &copy), SLC_STALE);
  check_ok(slc_publisher_loan(publisher, 100, &loan)); /* the same entry, with another token */
  check_status(slc_publisher_publish(publisher, &copy, 1, NULL), SLC_STALE);
  check_ok(slc_publisher_discard(publisher, &loan));
  check_status(slc_publisher_discard(publisher, &loan), SLC_STALE);
  check_ok(slc_publisher_loan(publisher, 100, &loan)); /* left on loan: close discards it */
  slc_client_close(client);
}

static void test_holds_limit_and_stale_messages(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = 3;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  slc_message held[3], message;
  for (uint64_t n = 1; n <= 4; n++) send_pattern(publisher, n, 40);
  for (int i = 0; i < 3; i++) check_ok(slc_subscriber_take(subscriber, &held[i]));
  check_status(slc_subscriber_take(subscriber, &message), SLC_HOLD_LIMIT);
  for (uint64_t n = 5; n <= 300; n++) send_pattern(publisher, n, 40); /* all around, over everything but what is held */
  for (int i = 0; i < 3; i++) check_pattern(&held[i], (uint64_t)i + 1, 40);
  slc_message copy = held[1];
  check_ok(slc_subscriber_release(subscriber, &held[1]));
  check_status(slc_subscriber_release(subscriber, &copy), SLC_STALE);
  check_ok(slc_subscriber_take(subscriber, &message)); /* in the hold that has become free */
  check_status(slc_subscriber_release(subscriber, &copy), SLC_STALE);
  slc_client_close(client);
}

static void test_more_holds_than_a_line_has(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = 20;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  slc_message held[20], message;
  for (uint64_t n = 1; n <= 20; n++) {
    send_pattern(publisher, n, 40);
    check_ok(slc_subscriber_take(subscriber, &held[n - 1]));
  }
  for (uint64_t n = 21; n <= 300; n++) send_pattern(publisher, n, 40);
  check_status(slc_subscriber_take(subscriber, &message), SLC_HOLD_LIMIT);
  for (int i = 19; i >= 0; i--) {
    check_pattern(&held[i], (uint64_t)i + 1, 40);
    check_ok(slc_subscriber_release(subscriber, &held[i]));
  }
  slc_client_close(client);
}

static void test_start_newest_and_oldest(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  for (uint64_t n = 1; n <= 10; n++) send_pattern(publisher, n, 50);
  slc_subscriber *newest = subscriber_open(client, NULL);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  slc_subscriber *oldest = subscriber_open(client, &options);
  slc_message message;
  check_status(slc_subscriber_take(newest, &message), SLC_EMPTY);
  for (uint64_t n = 1; n <= 10; n++) take_pattern(oldest, n, 50);
  send_pattern(publisher, 11, 50);
  take_pattern(newest, 11, 50);
  take_pattern(oldest, 11, 50);
  slc_client_close(client);
}

static void test_take_newest_skips(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  check_status(slc_subscriber_take_newest(subscriber, &message), SLC_EMPTY);
  for (uint64_t n = 1; n <= 9; n++) send_pattern(publisher, n, 50);
  check_ok(slc_subscriber_take_newest(subscriber, &message));
  check_pattern(&message, 9, 50);
  check_ok(slc_subscriber_release(subscriber, &message));
  check_status(slc_subscriber_take_newest(subscriber, &message), SLC_EMPTY);
  assert_int_equal(subscriber_stats(subscriber).dropped, 0);
  slc_client_close(client);
}

/* Every ordinal is either received, in order, or counted as dropped. */
static void test_drops_are_exact(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 16;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  uint64_t sent = 0, received = 0, last = 0;
  for (int round = 1; round <= 40; round++) {
    for (int i = 0; i < round; i++) send_pattern(publisher, ++sent, 50);
    slc_message message;
    for (int i = 0; i < 3 && slc_subscriber_take(subscriber, &message) == 0; i++) {
      assert_true(message.ordinal > last);
      last = message.ordinal;
      check_pattern(&message, last, 50);
      check_ok(slc_subscriber_release(subscriber, &message));
      received++;
    }
    assert_int_equal(received + subscriber_stats(subscriber).dropped, last);
  }
  assert_true(subscriber_stats(subscriber).dropped > 0);
  assert_int_equal(subscriber_stats(subscriber).lag, sent - last);
  slc_client_close(client);
}

static void test_refusals(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = NULL;
  slc_subscriber *subscriber = NULL;
  check_status(slc_publisher_open(client, "", NULL, &publisher), SLC_NAME_INVALID);
  check_status(slc_publisher_open(client, ".slotcast/x", NULL, &publisher), SLC_NAME_INVALID);
  slc_publisher_options typed = SLC_PUBLISHER_OPTIONS_INIT;
  typed.type = "point";
  publisher = publisher_open(client, &typed);
  slc_subscriber_options other = SLC_SUBSCRIBER_OPTIONS_INIT;
  other.type = "line";
  check_status(slc_subscriber_open(client, CHANNEL, &other, &subscriber), SLC_INCOMPATIBLE);
  other.type = NULL;
  other.reliable = 1;
  check_status(slc_subscriber_open(client, CHANNEL, &other, &subscriber), SLC_INCOMPATIBLE);
  other.reliable = 0;
  other.max_holds = 4000;
  check_status(slc_subscriber_open(client, CHANNEL, &other, &subscriber), SLC_NO_BUDGET);
  other.start = 7;
  check_status(slc_subscriber_open(client, CHANNEL, &other, &subscriber), SLC_INVALID);
  slc_publisher_options broken = {0};
  check_status(slc_publisher_open(client, CHANNEL, &broken, &publisher), SLC_INVALID);
  struct {
    slc_publisher_options known;
    uint64_t unknown;
  } newer = {.known = SLC_PUBLISHER_OPTIONS_INIT, .unknown = 1};
  newer.known.size = sizeof newer;
  check_status(slc_publisher_open(client, CHANNEL, &newer.known, &publisher), SLC_INVALID);
  newer.unknown = 0;
  slc_publisher *newer_publisher = NULL;
  check_ok(slc_publisher_open(client, CHANNEL, &newer.known, &newer_publisher));
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_stream_content_and_order),
      BROKER_TEST(test_stream_sizes_inside_and_behind_the_prefix),
      BROKER_TEST(test_stream_slots_smaller_than_the_prefix),
      BROKER_TEST(test_stream_timestamps),
      BROKER_TEST(test_loans_out_of_order),
      BROKER_TEST(test_loans_stale),
      BROKER_TEST(test_holds_limit_and_stale_messages),
      BROKER_TEST(test_more_holds_than_a_line_has),
      BROKER_TEST(test_start_newest_and_oldest),
      BROKER_TEST(test_take_newest_skips),
      BROKER_TEST(test_drops_are_exact),
      BROKER_TEST(test_refusals),
  };
  return cmocka_run_group_tests_name("client_stream", tests, NULL, NULL);
}

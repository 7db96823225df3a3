/* Where a subscriber starts, many messages at once, looking back, weak references, exact drops, what is kept for those
 * who come late, and what a channel begins with. */
#include "common.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SIZE = 40 };

static void send_up_to(slc_publisher *publisher, uint64_t *sent, uint64_t last) {
  while (*sent < last) send_pattern(publisher, ++*sent, SIZE);
}

static slc_subscriber *subscriber_start(slc_client *client, int start, uint64_t number) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = start;
  options.start_ordinal = start == SLC_START_ORDINAL ? number : 0;
  options.start_count = start == SLC_START_LAST ? number : 0;
  return subscriber_open(client, &options);
}

/* The first ordinal that take gives; everything up to `last` follows it. */
static uint64_t take_all(slc_subscriber *subscriber, uint64_t last) {
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  uint64_t first = message.ordinal;
  check_pattern(&message, first, SIZE);
  check_ok(slc_subscriber_release(subscriber, &message));
  for (uint64_t n = first + 1; n <= last; n++) take_pattern(subscriber, n, SIZE);
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  return first;
}

/* ---- where to start ---- */

static void test_start(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  uint64_t sent = 0;
  slc_subscriber *nothing_yet = subscriber_start(client, SLC_START_LAST, 3);
  send_up_to(publisher, &sent, 30); /* none is gone: there are 64 slots */
  static const struct {
    int start;
    uint64_t number, first;
  } cases[] = {
      {SLC_START_OLDEST, 0, 1},  {SLC_START_LAST, 0, 30},   {SLC_START_LAST, 1, 30},     {SLC_START_LAST, 7, 24},
      {SLC_START_LAST, 1000, 1}, {SLC_START_ORDINAL, 1, 1}, {SLC_START_ORDINAL, 12, 12}, {SLC_START_ORDINAL, 30, 30},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    slc_subscriber *subscriber = subscriber_start(client, cases[i].start, cases[i].number);
    assert_int_equal(take_all(subscriber, sent), cases[i].first);
    assert_int_equal(subscriber_stats(subscriber).dropped, 0);
    slc_subscriber_close(subscriber);
  }
  slc_subscriber *newest = subscriber_start(client, SLC_START_NEWEST, 0);
  slc_subscriber *future = subscriber_start(client, SLC_START_ORDINAL, 35);
  slc_message message;
  check_status(slc_subscriber_take(newest, &message), SLC_EMPTY);
  check_status(slc_subscriber_take(future, &message), SLC_EMPTY);
  send_up_to(publisher, &sent, 40);
  assert_int_equal(take_all(newest, sent), 31);
  assert_int_equal(take_all(future, sent), 35);
  assert_int_equal(take_all(nothing_yet, sent), 1);
  slc_client_close(client);
}

static void test_start_at_what_is_gone(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  uint64_t sent = 0;
  send_up_to(publisher, &sent, 1000);
  slc_subscriber *oldest = subscriber_start(client, SLC_START_OLDEST, 0);
  uint64_t first = take_all(oldest, sent);
  assert_in_range(first, 1000 - 63, 990);
  slc_subscriber *subscriber = subscriber_start(client, SLC_START_ORDINAL, 2);
  assert_int_equal(take_all(subscriber, sent), first);
  assert_int_equal(subscriber_stats(subscriber).dropped, 0); /* they were gone before it came */
  slc_client_close(client);
}

static void test_start_before_the_channel(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *last = subscriber_start(client, SLC_START_LAST, 2);
  slc_subscriber *ordinal = subscriber_start(client, SLC_START_ORDINAL, 4);
  slc_publisher *publisher = publisher_open(client, NULL);
  uint64_t sent = 0;
  send_up_to(publisher, &sent, 9);
  assert_int_equal(take_all(last, sent), 1); /* all came after it */
  assert_int_equal(take_all(ordinal, sent), 4);
  slc_client_close(client);
}

static void test_start_refused(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *subscriber = NULL;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_ORDINAL;
  check_status(slc_subscriber_open(client, CHANNEL, &options, &subscriber), SLC_INVALID);
  options.start_ordinal = UINT64_MAX;
  check_status(slc_subscriber_open(client, CHANNEL, &options, &subscriber), SLC_INVALID);
  options.start = SLC_START_ORDINAL + 1;
  check_status(slc_subscriber_open(client, CHANNEL, &options, &subscriber), SLC_INVALID);
  slc_client_close(client);
}

/* ---- many at once ---- */

static void test_take_many(void **state) {
  (void)state;
  enum { HOLDS = 100 };
  slc_client *client = client_open();
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.slots = 512;
  slc_publisher *publisher = publisher_open(client, &shape);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = HOLDS;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  slc_message messages[2 * HOLDS];
  size_t count = 77;
  check_status(slc_subscriber_take_many(subscriber, messages, 4, &count), SLC_EMPTY);
  check_status(slc_subscriber_take_many(subscriber, messages, 0, &count), SLC_INVALID);
  assert_int_equal(count, 77);
  uint64_t sent = 0, taken = 0;
  static const size_t asked[] = {1, 2, 31, 32, 33, 64, 65, HOLDS, 2 * HOLDS};
  for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
    send_up_to(publisher, &sent, sent + HOLDS + 5);
    while (taken < sent) {
      size_t expected = sent - taken < asked[i] ? sent - taken : asked[i];
      check_ok(slc_subscriber_take_many(subscriber, messages, asked[i], &count));
      assert_int_equal(count, expected < HOLDS ? expected : HOLDS);
      for (size_t k = 0; k < count; k++) check_pattern(&messages[k], ++taken, SIZE);
      if (count == HOLDS && taken < sent)
        check_status(slc_subscriber_take_many(subscriber, messages, 1, &count), SLC_HOLD_LIMIT);
      while (count > 0) check_ok(slc_subscriber_release(subscriber, &messages[--count]));
    }
  }
  assert_int_equal(subscriber_stats(subscriber).received, sent);
  assert_int_equal(subscriber_stats(subscriber).dropped, 0);
  slc_client_close(client);
}

/* Each message in another generation of buffers than the one before: all of them stay mapped. */
static void test_take_many_across_growth(void **state) {
  (void)state;
  enum { COUNT = 8, FIRST_SIZE = 3000 };
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = COUNT + 2;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  for (uint64_t n = 0; n < COUNT; n++) send_pattern(publisher, n + 1, (size_t)FIRST_SIZE << n);
  slc_message messages[COUNT];
  size_t count = 0;
  check_ok(slc_subscriber_take_many(subscriber, messages, COUNT, &count));
  assert_int_equal(count, COUNT);
  for (uint64_t n = 0; n < COUNT; n++) check_pattern(&messages[n], n + 1, (size_t)FIRST_SIZE << n);
  slc_message again;
  check_ok(slc_subscriber_take_weak(subscriber, messages[3].ordinal, messages[3].slot, &again));
  check_ok(slc_subscriber_release(subscriber, &messages[3]));
  check_pattern(&again, 4, (size_t)FIRST_SIZE << 3);
  slc_client_close(client);
}

/* ---- looking back ---- */

static void test_find_by_ordinal(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message found, message;
  check_status(slc_subscriber_find(subscriber, 1, 0, &found), SLC_EMPTY);
  check_status(slc_subscriber_find(subscriber, 0, 1, &found), SLC_INVALID);
  check_status(slc_subscriber_find(subscriber, UINT64_MAX, 1, &found), SLC_INVALID);
  uint64_t sent = 0;
  send_up_to(publisher, &sent, 500);
  check_status(slc_subscriber_find(subscriber, 3, 0, &found), SLC_GONE);
  check_status(slc_subscriber_find(subscriber, 501, 0, &found), SLC_EMPTY);
  check_status(slc_subscriber_find(subscriber, 501, 1, &found), SLC_EMPTY);
  check_ok(slc_subscriber_find(subscriber, 3, 1, &found)); /* the oldest that is retained */
  uint64_t oldest = found.ordinal;
  assert_true(oldest > 500 - 64);
  check_pattern(&found, oldest, SIZE);
  check_ok(slc_subscriber_release(subscriber, &found));
  assert_int_equal(take_all(subscriber, sent), oldest); /* finding moves nothing, and what was taken is found again */
  for (uint64_t n = oldest; n <= sent; n++) {
    check_ok(slc_subscriber_find(subscriber, n, n % 2 == 0, &found));
    check_pattern(&found, n, SIZE);
    check_ok(slc_subscriber_release(subscriber, &found));
  }
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  slc_message second;
  check_ok(slc_subscriber_find(subscriber, sent, 0, &found)); /* twice the same: two holds */
  check_ok(slc_subscriber_find(subscriber, sent, 0, &second));
  assert_int_not_equal(found.hold, second.hold);
  check_status(slc_subscriber_find(subscriber, sent, 0, &message), SLC_HOLD_LIMIT);
  check_ok(slc_subscriber_release(subscriber, &found));
  check_status(slc_subscriber_release(subscriber, &found), SLC_STALE);
  send_up_to(publisher, &sent, 1000); /* held: not written over, though it is not in the log any more */
  check_pattern(&second, 500, SIZE);
  check_status(slc_subscriber_find(subscriber, 500, 0, &message), SLC_GONE);
  slc_client_close(client);
}

static void test_find_before_the_channel(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  size_t count;
  check_status(slc_subscriber_find(subscriber, 1, 1, &message), SLC_EMPTY);
  check_status(slc_subscriber_find_time(subscriber, 1, 1, &message), SLC_EMPTY);
  check_status(slc_subscriber_take_weak(subscriber, 1, 0, &message), SLC_GONE);
  check_status(slc_subscriber_take_many(subscriber, &message, 1, &count), SLC_EMPTY);
  slc_client_close(client);
}

static void test_find_by_time(void **state) {
  (void)state;
  enum { COUNT = 20 };
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_start(client, SLC_START_OLDEST, 0);
  uint64_t times[COUNT + 1], sent = 0;
  for (uint64_t n = 1; n <= COUNT; n++) {
    send_up_to(publisher, &sent, n);
    slc_message message;
    check_ok(slc_subscriber_take(subscriber, &message));
    times[n] = message.timestamp_ns;
    assert_true(n == 1 || times[n] > times[n - 1]);
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  slc_message found;
  for (uint64_t n = 1; n <= COUNT; n++) {
    for (int or_later = 0; or_later < 2; or_later++) {
      check_ok(slc_subscriber_find_time(subscriber, times[n], or_later, &found));
      check_pattern(&found, n, SIZE);
      check_ok(slc_subscriber_release(subscriber, &found));
    }
    check_ok(
        slc_subscriber_find_time(subscriber, times[n - (n > 1)] + (n > 1), 1, &found)); /* just after the one before */
    check_pattern(&found, n, SIZE);
    check_ok(slc_subscriber_release(subscriber, &found));
  }
  check_status(slc_subscriber_find_time(subscriber, times[1] - 1, 0, &found), SLC_GONE);
  check_status(slc_subscriber_find_time(subscriber, times[COUNT] + 1, 0, &found), SLC_EMPTY);
  check_status(slc_subscriber_find_time(subscriber, times[COUNT] + 1, 1, &found), SLC_EMPTY);
  check_status(slc_subscriber_find_time(subscriber, 0, 1, &found), SLC_INVALID);
  slc_client_close(client);
}

static void test_weak_references(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.slots = 16;
  slc_publisher *publisher = publisher_open(client, &shape);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message, again;
  uint64_t sent = 0;
  bool was_reused = false;
  for (int round = 0; round < 50; round++) {
    send_up_to(publisher, &sent, sent + 1);
    check_ok(slc_subscriber_take(subscriber, &message));
    uint64_t ordinal = message.ordinal;
    uint32_t slot = message.slot;
    check_ok(slc_subscriber_release(subscriber, &message));
    check_ok(slc_subscriber_take_weak(subscriber, ordinal, slot, &again));
    check_pattern(&again, ordinal, SIZE);
    check_ok(slc_subscriber_release(subscriber, &again));
    check_status(slc_subscriber_take_weak(subscriber, ordinal, slot + 1, &again), SLC_GONE);
    check_status(slc_subscriber_take_weak(subscriber, ordinal, UINT32_MAX, &again), SLC_GONE);
    check_status(slc_subscriber_take_weak(subscriber, 0, slot, &again), SLC_GONE);
    for (int i = 0; i < 40; i++) { /* until it is another message's */
      send_up_to(publisher, &sent, sent + 1);
      check_ok(slc_subscriber_take(subscriber, &message));
      was_reused = was_reused || message.slot == slot;
      check_ok(slc_subscriber_release(subscriber, &message));
    }
    check_status(slc_subscriber_take_weak(subscriber, ordinal, slot, &again), SLC_GONE);
  }
  assert_true(was_reused);
  slc_client_close(client);
}

/* ---- drops ---- */

struct gaps {
  uint64_t count, ordinals, first, last;
};

static void note_gap(void *ctx, uint32_t virtual_id, uint64_t first, uint64_t count) {
  struct gaps *gaps = ctx;
  assert_int_equal(virtual_id, 0);
  assert_true(count > 0 && first > gaps->last);
  *gaps = (struct gaps){gaps->count + 1, gaps->ordinals + count, first, first + count - 1};
}

/* Every ordinal since the start is received, or told in a gap, or still to be taken. */
static void test_drops_are_exact(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  struct gaps gaps = {0};
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.on_drop = note_gap;
  options.callback_ctx = &gaps;
  slc_subscriber *counting = subscriber_open(client, &options);
  options.no_drop_count = 1;
  slc_subscriber *careless = subscriber_open(client, &options);
  slc_message message;
  uint64_t sent = 0, received = 0;
  for (uint64_t round = 1; round <= 200; round++) {
    send_up_to(publisher, &sent, sent + 1 + round * 13 % 150);
    for (uint64_t i = 0; i < round % 7; i++) {
      uint64_t told = gaps.ordinals;
      int status = slc_subscriber_take(counting, &message);
      if (status == SLC_EMPTY) break;
      check_ok(status);
      check_pattern(&message, ++received + gaps.ordinals, SIZE);
      if (gaps.ordinals > told) assert_int_equal(gaps.last, message.ordinal - 1);
      check_ok(slc_subscriber_release(counting, &message));
      assert_int_equal(subscriber_stats(counting).dropped, gaps.ordinals);
    }
    if (slc_subscriber_take(careless, &message) == 0) check_ok(slc_subscriber_release(careless, &message));
  }
  assert_true(gaps.count > 50);
  assert_int_equal(subscriber_stats(counting).lag, sent - received - gaps.ordinals);
  assert_int_equal(subscriber_stats(counting).received, received);
  assert_int_equal(subscriber_stats(careless).dropped, 0);
  slc_client_close(client);
}

/* A publisher in a thread of its own. */
struct flood {
  slc_publisher *publisher;
  int messages;
  int status;
};

static void *flood_run(void *ctx) {
  struct flood *flood = ctx;
  for (int i = 0; i < flood->messages && flood->status == 0; i++) {
    while ((flood->status = slc_publisher_send(flood->publisher, "x", 1, NULL)) == SLC_WOULD_BLOCK)
      slc_publisher_wait(flood->publisher, SLC_WAIT_FOREVER);
  }
  return NULL;
}

/* The same while it happens, one by one and in batches: what was taken and what was told are all there has been. */
static void test_drops_are_exact_under_load(void **state) {
  (void)state;
  enum { MESSAGES = 200000, HOLDS = 12 };
  slc_client *client = client_open();
  struct gaps gaps = {0};
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = HOLDS;
  options.on_drop = note_gap;
  options.callback_ctx = &gaps;
  struct flood flood = {.publisher = publisher_open(client, NULL), .messages = MESSAGES};
  slc_subscriber *subscriber = subscriber_open(client, &options);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, flood_run, &flood), 0);
  uint64_t received = 0, last = 0;
  for (uint64_t round = 0; last < MESSAGES; round++) {
    slc_message messages[HOLDS];
    size_t count = 1;
    int status = round % 3 == 0 ? slc_subscriber_take(subscriber, messages)
                                : slc_subscriber_take_many(subscriber, messages, 1 + round % HOLDS, &count);
    if (status == SLC_EMPTY) {
      check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
      continue;
    }
    check_ok(status);
    received += count;
    assert_true(messages[0].ordinal > last);
    last = messages[count - 1].ordinal;
    assert_int_equal(received + gaps.ordinals, last);
    while (count > 0) check_ok(slc_subscriber_release(subscriber, &messages[--count]));
  }
  pthread_join(thread, NULL);
  check_ok(flood.status);
  assert_int_equal(last, MESSAGES);
  assert_int_equal(subscriber_stats(subscriber).dropped, gaps.ordinals);
  slc_client_close(client);
}

static void test_drops_before_the_first_take(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *early = subscriber_open(client, NULL); /* before there is a channel */
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *newest = subscriber_open(client, NULL);
  uint64_t sent = 0;
  send_up_to(publisher, &sent, 1000);
  uint64_t first = take_all(newest, sent);
  assert_true(first > 900);
  assert_int_equal(subscriber_stats(newest).dropped, first - 1);
  first = take_all(early, sent);
  assert_int_equal(subscriber_stats(early).dropped, first - 1);
  slc_client_close(client);
}

/* Skipping by reading the newest is no loss; being overrun is. */
static void test_drops_and_take_newest(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  uint64_t sent = 0;
  for (int round = 0; round < 20; round++) {
    send_up_to(publisher, &sent, sent + 10);
    check_ok(slc_subscriber_take_newest(subscriber, &message));
    check_pattern(&message, sent, SIZE);
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  assert_int_equal(subscriber_stats(subscriber).dropped, 0);
  slc_client_close(client);
}

/* ---- what is kept for those who come late ---- */

static void test_keep_last(void **state) {
  (void)state;
  enum { KEPT = 20 };
  slc_client *client = client_open();
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.slots = 32;
  shape.keep_last = KEPT;
  slc_publisher *publisher = publisher_open(client, &shape);
  slc_publisher *second = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  for (uint64_t n = 1; n <= 1000; n++) {
    send_pattern(n % 3 == 0 ? second : publisher, n, SIZE);
    if (n % 5 == 0) continue;
    uint64_t kept = n < KEPT ? 1 : n - KEPT + 1;
    for (uint64_t k = kept; k <= n; k += KEPT - 1) {
      slc_message found;
      check_ok(slc_subscriber_find(subscriber, k, 0, &found));
      check_pattern(&found, k, SIZE);
      check_ok(slc_subscriber_release(subscriber, &found));
    }
  }
  slc_subscriber_close(subscriber);
  slc_subscriber *late = subscriber_start(client, SLC_START_LAST, KEPT);
  assert_int_equal(take_all(late, 1000), 1000 - KEPT + 1);
  slc_client_close(client);
}

/* As many are held as the budget allows, in each round others: slots that were held come back one by one, and until
 * they are found only the log has some. */
static void test_keep_last_under_load(void **state) {
  (void)state;
  enum { KEPT = 60, HELD = 55, PUBLISHERS = 3, ROUNDS = 60 };
  slc_client *client = client_open();
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.slots = 128;
  shape.keep_last = KEPT;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = HELD;
  slc_subscriber *holder = subscriber_open(client, &options), *looker = subscriber_open(client, NULL);
  struct flood floods[PUBLISHERS]; /* with what is left, so little that every slot is promised */
  for (int i = 0; i < PUBLISHERS; i++)
    floods[i] = (struct flood){.publisher = publisher_open(client, &shape), .messages = 100};
  for (int round = 0; round < ROUNDS; round++) {
    slc_message held[HELD], newest, found;
    size_t count = 0;
    int status = slc_subscriber_take_many(holder, held, HELD, &count);
    assert_true(status == 0 || (status == SLC_EMPTY && round == 0));
    pthread_t threads[PUBLISHERS];
    for (int i = 0; i < PUBLISHERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, flood_run, &floods[i]), 0);
    for (int i = 0; i < PUBLISHERS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < PUBLISHERS; i++) check_ok(floods[i].status);
    while (count > 0) check_ok(slc_subscriber_release(holder, &held[--count]));
    check_ok(slc_subscriber_take_newest(looker, &newest));
    for (uint64_t n = newest.ordinal - KEPT + 1; n <= newest.ordinal; n++) {
      check_ok(slc_subscriber_find(looker, n, 0, &found));
      assert_int_equal(found.ordinal, n);
      check_ok(slc_subscriber_release(looker, &found));
    }
    check_ok(slc_subscriber_release(looker, &newest));
  }
  slc_client_close(client);
}

/* What is kept counts against the budget: no user gets in whose slots would have to come from there. */
static void test_keep_last_refusals(void **state) {
  (void)state;
  slc_client *client = NULL;
  slc_client_options named = SLC_CLIENT_OPTIONS_INIT;
  named.name = "the archivist";
  check_ok(slc_client_open(&named, &client));
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.slots = 32;
  shape.keep_last = 30;
  slc_publisher *publisher = NULL, *second = NULL;
  slc_subscriber *subscriber = NULL;
  check_status(slc_publisher_open(client, CHANNEL, &shape, &publisher), SLC_INVALID);
  shape.keep_last = 24;
  publisher = publisher_open(client, &shape);
  shape.keep_last = 23;
  check_status(slc_publisher_open(client, CHANNEL, &shape, &second), SLC_INCOMPATIBLE);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = 8;
  check_status(slc_subscriber_open(client, CHANNEL, &options, &subscriber), SLC_NO_BUDGET);
  assert_non_null(strstr(slc_error_detail(), "the archivist"));
  assert_non_null(strstr(slc_error_detail(), "24 newest"));
  options.max_holds = 1;
  subscriber = subscriber_open(client, &options);
  slc_message held;
  uint64_t sent = 0;
  send_up_to(publisher, &sent, 1);
  check_ok(slc_subscriber_take(subscriber, &held));
  send_up_to(publisher, &sent, 500); /* never blocked: its own slots are its own */
  check_pattern(&held, 1, SIZE);
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  assert_int_equal(info->keep_last, 24);
  slc_channel_info_free(info);
  slc_client_close(client);
}

/* ---- what a channel begins with ---- */

static bool is_readable(int fd) {
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  return poll(&poll_fd, 1, 0) == 1;
}

static void test_activation(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.activation = 1;
  shape.reliable = 1;
  slc_publisher *publisher = publisher_open(client, &shape);
  publisher_open(client, &shape); /* the channel is not new to this one */
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  options.reliable = 1;
  slc_subscriber *plain = subscriber_open(client, &options);
  options.show_activation = 1;
  slc_subscriber *shown = subscriber_open(client, &options);
  slc_message message;
  int plain_fd = -1, shown_fd = -1;
  check_ok(slc_subscriber_fd(plain, &plain_fd));
  check_ok(slc_subscriber_fd(shown, &shown_fd));
  assert_true(is_readable(shown_fd));
  assert_false(is_readable(plain_fd)); /* something is there, but not for this one */
  check_ok(slc_subscriber_wait(shown, 0));
  check_status(slc_subscriber_wait(plain, 0), SLC_TIMED_OUT);
  check_status(slc_subscriber_take(plain, &message), SLC_EMPTY);
  check_ok(slc_subscriber_take(shown, &message));
  assert_int_equal(message.ordinal, 1);
  assert_int_equal(message.flags, SLC_MESSAGE_ACTIVATION);
  check_ok(slc_subscriber_release(shown, &message));
  check_status(slc_subscriber_take(shown, &message), SLC_EMPTY);
  check_status(slc_subscriber_wait(plain, 1), SLC_TIMED_OUT);
  send_pattern(publisher, 2, SIZE);
  assert_true(is_readable(plain_fd));
  check_ok(slc_subscriber_wait(plain, 0));
  check_ok(slc_subscriber_take(plain, &message));
  check_pattern(&message, 2, SIZE);
  assert_int_equal(message.flags, 0);
  take_pattern(shown, 2, SIZE);
  assert_int_equal(subscriber_stats(plain).dropped, 0);
  slc_client_close(client);
}

/* One that was created beforehand is new to its first publisher; one that has gone and come again is new again. */
static void test_activation_once_in_a_channel(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.activation = 1;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  options.show_activation = 1;
  slc_message message;
  for (int round = 0; round < 2; round++) {
    slc_publisher *publisher = publisher_open(client, &shape);
    slc_subscriber *subscriber = subscriber_open(client, &options);
    check_ok(slc_subscriber_take(subscriber, &message));
    assert_int_equal(message.flags, SLC_MESSAGE_ACTIVATION);
    slc_publisher_close(publisher);
    slc_subscriber_close(subscriber);
  }
  check_ok(slc_channel_create(client, CHANNEL, NULL));
  slc_subscriber *subscriber = subscriber_open(client, &options);
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  for (int round = 0; round < 2; round++) slc_publisher_close(publisher_open(client, &shape));
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_int_equal(message.ordinal, 1);
  assert_int_equal(message.flags, SLC_MESSAGE_ACTIVATION);
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  slc_subscriber_close(subscriber);
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_start),
      BROKER_TEST(test_start_at_what_is_gone),
      BROKER_TEST(test_start_before_the_channel),
      BROKER_TEST(test_start_refused),
      BROKER_TEST(test_take_many),
      BROKER_TEST(test_take_many_across_growth),
      BROKER_TEST(test_find_by_ordinal),
      BROKER_TEST(test_find_before_the_channel),
      BROKER_TEST(test_find_by_time),
      BROKER_TEST(test_weak_references),
      BROKER_TEST(test_drops_are_exact),
      BROKER_TEST(test_drops_are_exact_under_load),
      BROKER_TEST(test_drops_before_the_first_take),
      BROKER_TEST(test_drops_and_take_newest),
      BROKER_TEST(test_keep_last),
      BROKER_TEST(test_keep_last_under_load),
      BROKER_TEST(test_keep_last_refusals),
      BROKER_TEST(test_activation),
      BROKER_TEST(test_activation_once_in_a_channel),
  };
  return cmocka_run_group_tests_name("client_take", tests, NULL, NULL);
}

/* Where a subscriber starts, what it loses, what it does not see, and what it finds again: beside the plain order of
 * test_slotlog.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/words.h"
#include "slotcast/status.h"
#include "support/channel.h"
#include "support/stream.h"

/* One channel, a publisher and a subscriber that starts somewhere, with a few messages of that publisher before. */
struct pair {
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  uint64_t sent;
};

enum { HOLDS = 16 };

/* That the channel has: of one alone, messages taken many at a time are looked for where they announce each other. */
static uint32_t publishers;

static void pair_send(struct pair *pair, uint64_t messages) {
  for (uint64_t ordinal, i = 0; i < messages; i++, pair->sent++) {
    assert_int_equal(test_message_send(&pair->pub, pair->sent, &ordinal), SLC_OK);
    assert_int_equal(ordinal, pair->sent);
  }
}

static void pair_send_flagged(struct pair *pair, uint32_t flags, uint64_t timestamp) {
  uint32_t slot;
  uint64_t ordinal;
  assert_int_equal(slc__pub_loan(&pair->pub, &slot), SLC_OK);
  *(uint8_t *)slc__pub_payload(&pair->pub, slot, 1) = 0;
  const struct slc__sending sending = {.size = 1, .timestamp = timestamp, .flags = SLC__FLAG_INLINE | flags};
  assert_int_equal(slc__pub_publish(&pair->pub, slot, &sending, &ordinal), SLC_OK);
  assert_int_equal(ordinal, pair->sent++);
}

static void pair_init(struct pair *pair, uint32_t slots, uint64_t before, enum slc__start start) {
  *pair = (struct pair){0};
  test_channel_init(&pair->channel, slots, 64, 0, 2);
  atomic_store(&pair->channel.control.page->publishers, publishers);
  uint32_t line = test_channel_admit(&pair->channel, HOLDS, false);
  test_channel_publisher(&pair->channel, &pair->pub, 1);
  pair_send(pair, before);
  test_channel_subscriber(&pair->channel, &pair->sub, line, HOLDS, start);
}

static void pair_deinit(struct pair *pair) {
  slc__pub_leave(&pair->pub);
  slc__pub_deinit(&pair->pub);
  test_channel_check_slots(&pair->channel);
  test_channel_deinit(&pair->channel);
}

static uint64_t oldest_retained(const struct pair *pair) {
  struct slc__slot_states states;
  slc__slot_states(&pair->channel.control, &states);
  return pair->sent - states.published;
}

static void check_is(struct pair *pair, const struct slc__taken *taken, uint64_t ordinal) {
  struct test_message message;
  assert_int_equal(taken->ordinal, ordinal);
  assert_true(test_message_read(&pair->sub, taken, &message));
  assert_int_equal(message.sequence, ordinal);
  assert_int_equal(slc__log_slot(*slc__log_at(&pair->channel.control, ordinal)), taken->slot);
}

static void release(struct pair *pair, const struct slc__taken *taken) {
  assert_int_equal(slc__sub_release(&pair->sub, taken->hold), SLC_OK);
}

static void take_is(struct pair *pair, uint64_t ordinal) {
  struct slc__taken taken;
  assert_int_equal(slc__sub_take(&pair->sub, &taken), SLC_OK);
  check_is(pair, &taken, ordinal);
  release(pair, &taken);
}

static void take_gives(struct pair *pair, int status) {
  struct slc__taken taken;
  assert_int_equal(slc__sub_take(&pair->sub, &taken), status);
}

/* ---- where to start ---- */

static void test_find_start_last(void **state) {
  (void)state;
  struct pair pair;
  pair_init(&pair, 32, 0, SLC__START_LAST); /* there is none */
  pair_send(&pair, 2);
  take_is(&pair, 0);
  take_is(&pair, 1);
  pair_deinit(&pair);
  pair_init(&pair, 32, 500, SLC__START_LAST);
  take_is(&pair, 499);
  take_gives(&pair, SLC_EMPTY);
  pair_send(&pair, 1);
  take_is(&pair, 500);
  /* Far behind, the hint does not mislead. */
  pair.channel.control.page->tail = 3;
  test_channel_subscriber(&pair.channel, &pair.sub, 0, HOLDS, SLC__START_LAST);
  take_is(&pair, 500);
  /* All evicted, none to come yet: the next one. */
  for (uint64_t n = oldest_retained(&pair); n < pair.sent; n++) {
    uint32_t slot = slc__log_slot(*slc__log_at(&pair.channel.control, n));
    pair.channel.control.own[slot] = slc__own_free(n);
    *slc__log_at(&pair.channel.control, n) = slc__log_evicted(slc__lap_of(&pair.channel.control, n));
  }
  test_channel_subscriber(&pair.channel, &pair.sub, 0, HOLDS, SLC__START_LAST);
  take_gives(&pair, SLC_EMPTY);
  assert_int_equal(pair.sub.next, 501);
  pair_deinit(&pair);
}

static void test_find_start_ordinal(void **state) {
  (void)state;
  struct pair pair;
  pair_init(&pair, 32, 500, SLC__START_OLDEST);
  slc__sub_start_at(&pair.sub, 3); /* gone: the oldest retained */
  take_is(&pair, oldest_retained(&pair));
  test_channel_subscriber(&pair.channel, &pair.sub, 0, HOLDS, SLC__START_OLDEST);
  slc__sub_start_at(&pair.sub, 495);
  take_is(&pair, 495);
  /* In the future, laps away: it waits for that one, and what comes before is not its loss. */
  test_channel_subscriber(&pair.channel, &pair.sub, 0, HOLDS, SLC__START_OLDEST);
  uint64_t wanted = 500 + UINT64_C(2) * pair.channel.geometry.log_size;
  slc__sub_start_at(&pair.sub, wanted);
  take_gives(&pair, SLC_EMPTY);
  assert_int_equal(slc__sub_lag(&pair.sub), 0);
  pair_send(&pair, wanted - pair.sent);
  assert_false(slc__sub_ready(&pair.sub));
  take_gives(&pair, SLC_EMPTY);
  pair_send(&pair, 1);
  take_is(&pair, wanted);
  assert_int_equal(pair.sub.dropped, 0);
  pair_deinit(&pair);
}

/* ---- drops ---- */

struct gaps {
  uint64_t count, first, ordinals, total;
};

static void note_gap(void *ctx, uint32_t virtual_id, uint64_t first, uint64_t count) {
  struct gaps *gaps = ctx;
  assert_int_equal(virtual_id, 0);
  gaps->count++;
  gaps->first = first;
  gaps->ordinals = count;
  gaps->total += count;
}

/* What is published after its start and lost is its loss, also before its first message; what was there before is not,
 * until it has taken some of it. */
static void test_find_drops_are_exact(void **state) {
  (void)state;
  static const struct {
    enum slc__start start;
    uint64_t before, claim;
  } cases[] = {{SLC__START_NEWEST, 100, 100},
               {SLC__START_LAST, 100, 100},
               {SLC__START_OLDEST, 100, 100},
               {SLC__START_FIRST, 0, 0},
               {SLC__START_FIRST, 100, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct pair pair;
    struct gaps gaps = {0};
    pair_init(&pair, 32, cases[i].before, cases[i].start);
    pair.sub.on_drop = note_gap;
    pair.sub.drop_ctx = &gaps;
    pair_send(&pair, 200);
    uint64_t oldest = oldest_retained(&pair);
    take_is(&pair, oldest);
    assert_int_equal(pair.sub.dropped, oldest - cases[i].claim);
    assert_int_equal(gaps.count, 1);
    assert_int_equal(gaps.first, cases[i].claim);
    assert_int_equal(gaps.ordinals, oldest - cases[i].claim);
    pair_send(&pair, 200); /* a second gap, from the next on */
    struct slc__taken taken;
    assert_int_equal(slc__sub_take(&pair.sub, &taken), SLC_OK);
    release(&pair, &taken);
    assert_int_equal(gaps.count, 2);
    assert_int_equal(gaps.first, oldest + 1);
    assert_int_equal(gaps.first + gaps.ordinals, taken.ordinal);
    assert_int_equal(gaps.total, pair.sub.dropped);
    assert_int_equal(pair.sub.line->dropped, pair.sub.dropped);
    assert_int_equal(pair.sub.line->received, 2);
    pair_deinit(&pair);
  }
}

static void test_find_drops_ignored(void **state) {
  (void)state;
  struct pair pair;
  struct gaps gaps = {0};
  pair_init(&pair, 32, 1, SLC__START_OLDEST);
  pair.sub.on_drop = note_gap;
  pair.sub.drop_ctx = &gaps;
  pair.sub.ignore_drops = true;
  take_is(&pair, 0);
  pair_send(&pair, 200);
  struct slc__taken taken[HOLDS];
  size_t count;
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, HOLDS, &count), SLC_OK);
  assert_true(taken[0].ordinal > 1);
  assert_int_equal(pair.sub.dropped + pair.sub.line->dropped + gaps.count, 0);
  pair_deinit(&pair);
}

/* ---- hidden messages ---- */

static void test_find_hidden(void **state) {
  (void)state;
  struct pair pair;
  struct slc__taken taken[4];
  size_t count;
  pair_init(&pair, 32, 0, SLC__START_NEWEST);
  pair.sub.hidden_flags = SLC__FLAG_ACTIVATION;
  pair_send_flagged(&pair, SLC__FLAG_ACTIVATION, 1);
  take_gives(&pair, SLC_EMPTY);
  assert_false(slc__sub_ready(&pair.sub));
  /* Found by its announcement, in a batch, by the newest: passed over every time. */
  pair_send(&pair, 1);
  pair_send_flagged(&pair, SLC__FLAG_ACTIVATION, 2);
  pair_send(&pair, 1);
  take_is(&pair, 1);
  take_is(&pair, 3);
  pair_send(&pair, 1);
  pair_send_flagged(&pair, SLC__FLAG_ACTIVATION, 5);
  pair_send(&pair, 1);
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, 4, &count), SLC_OK);
  assert_int_equal(count, 2);
  check_is(&pair, &taken[0], 4);
  check_is(&pair, &taken[1], 6);
  release(&pair, &taken[0]);
  release(&pair, &taken[1]);
  pair_send_flagged(&pair, SLC__FLAG_ACTIVATION, 7);
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, 4, &count), SLC_EMPTY);
  pair_send(&pair, 1);
  pair_send_flagged(&pair, SLC__FLAG_ACTIVATION, 9);
  assert_int_equal(slc__sub_take_newest(&pair.sub, taken), SLC_OK);
  check_is(&pair, &taken[0], 8);
  release(&pair, &taken[0]);
  take_gives(&pair, SLC_EMPTY);
  /* Nor is it found. */
  assert_int_equal(slc__sub_find(&pair.sub, 9, false, taken), SLC_GONE);
  assert_int_equal(slc__sub_find(&pair.sub, 9, true, taken), SLC_EMPTY);
  assert_int_equal(slc__sub_find_time(&pair.sub, 9, true, taken), SLC_EMPTY);
  assert_int_equal(pair.sub.line->received, 5);
  assert_int_equal(pair.sub.dropped + pair.sub.held, 0);
  /* Who wants to sees it. */
  test_channel_subscriber(&pair.channel, &pair.sub, 0, HOLDS, SLC__START_LAST);
  assert_int_equal(slc__sub_take(&pair.sub, taken), SLC_OK);
  assert_int_equal(taken[0].ordinal, 9);
  assert_true((taken[0].flags & SLC__FLAG_ACTIVATION) != 0);
  release(&pair, &taken[0]);
  pair_deinit(&pair);
}

/* ---- many at once ---- */

static void test_find_take_many(void **state) {
  (void)state;
  struct pair pair;
  struct slc__taken taken[2 * HOLDS];
  size_t count = 77;
  pair_init(&pair, 64, 0, SLC__START_NEWEST);
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, HOLDS, &count), SLC_EMPTY);
  pair_send(&pair, 5);
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, 3, &count), SLC_OK);
  assert_int_equal(count, 3);
  pair_send(&pair, HOLDS);
  size_t more;
  assert_int_equal(slc__sub_take_many(&pair.sub, taken + 3, HOLDS, &more), SLC_OK); /* as many as it may hold */
  assert_int_equal(count + more, HOLDS);
  assert_int_equal(slc__sub_take_many(&pair.sub, taken + HOLDS, 1, &more), SLC_HOLD_LIMIT);
  pair_send(&pair, 1000);
  for (uint64_t i = 0; i < HOLDS; i++) {
    struct test_message message;
    assert_int_equal(taken[i].ordinal, i);
    assert_true(test_message_read(&pair.sub, &taken[i], &message) && message.sequence == i); /* held all that time */
    for (uint64_t k = 0; k < i; k++) assert_int_not_equal(taken[i].hold, taken[k].hold);
    release(&pair, &taken[i]);
  }
  /* Overrun: goes on with what is left, and counts. */
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, 4, &count), SLC_OK);
  assert_int_equal(pair.sub.dropped, taken[0].ordinal - HOLDS);
  for (size_t i = 0; i < count; i++) release(&pair, &taken[i]);
  /* Mixed with single takes, through laps. */
  while (pair.sent < UINT64_C(3) * pair.channel.geometry.log_size) {
    pair_send(&pair, 7);
    while (slc__sub_take_many(&pair.sub, taken, 3, &count) == SLC_OK) {
      for (size_t i = 0; i < count; i++) release(&pair, &taken[i]);
      if (slc__sub_take(&pair.sub, taken) == SLC_OK) release(&pair, &taken[0]);
    }
    assert_int_equal(pair.sub.line->received + pair.sub.dropped, pair.sent);
  }
  pair_deinit(&pair);
}

/* A damaged one among them is left out, and counts as dropped; alone it is told. */
static void test_find_take_many_corrupt(void **state) {
  (void)state;
  struct pair pair;
  struct slc__taken taken[HOLDS];
  size_t count;
  pair_init(&pair, 32, 0, SLC__START_NEWEST);
  pair_send(&pair, 4);
  slc__buffers_prefix(&pair.channel.buffers, slc__log_slot(*slc__log_at(&pair.channel.control, 1)))->size = 0;
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, HOLDS, &count), SLC_OK);
  assert_int_equal(count, 3);
  check_is(&pair, &taken[0], 0);
  check_is(&pair, &taken[1], 2);
  check_is(&pair, &taken[2], 3);
  assert_int_equal(pair.sub.dropped, 1);
  assert_int_equal(pair.sub.held, 3);
  for (size_t i = 0; i < count; i++) release(&pair, &taken[i]);
  pair_send(&pair, 1);
  uint64_t *word = (uint64_t *)slc__log_at(&pair.channel.control, 4);
  uint64_t good = *word;
  *word = good | SLC__LOG_SLOT_MASK; /* a slot that is not there */
  pair.sub.guess = 0;
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, HOLDS, &count), SLC_CORRUPT);
  *word = good;
  assert_int_equal(pair.sub.dropped, 2);
  assert_int_equal(pair.sub.held, 0);
  pair_deinit(&pair);
}

/* ---- looking back ---- */

static void test_find_by_ordinal(void **state) {
  (void)state;
  struct pair pair;
  struct slc__taken taken, all[HOLDS];
  pair_init(&pair, 32, 0, SLC__START_NEWEST);
  assert_int_equal(slc__sub_find(&pair.sub, 0, false, &taken), SLC_EMPTY);
  assert_int_equal(slc__sub_find(&pair.sub, 0, true, &taken), SLC_EMPTY);
  pair_send(&pair, 9000); /* more than two laps */
  uint64_t oldest = oldest_retained(&pair), position = pair.sub.next;
  for (uint64_t n = oldest; n < pair.sent; n++) {
    for (int or_later = 0; or_later < 2; or_later++) {
      assert_int_equal(slc__sub_find(&pair.sub, n, or_later != 0, &taken), SLC_OK);
      check_is(&pair, &taken, n);
      release(&pair, &taken);
    }
  }
  assert_int_equal(slc__sub_find(&pair.sub, oldest - 1, false, &taken), SLC_GONE);
  assert_int_equal(slc__sub_find(&pair.sub, 0, false, &taken), SLC_GONE);
  assert_int_equal(slc__sub_find(&pair.sub, pair.sent, false, &taken), SLC_EMPTY);
  assert_int_equal(slc__sub_find(&pair.sub, SLC__ORDINAL_MAX, true, &taken), SLC_EMPTY);
  for (uint64_t from = 0; from < oldest; from += oldest - 1) {
    assert_int_equal(slc__sub_find(&pair.sub, from, true, &taken), SLC_OK);
    check_is(&pair, &taken, oldest);
    release(&pair, &taken);
  }
  /* A head that lies does not lead past what is there. */
  uint64_t head = pair.channel.control.page->head;
  pair.channel.control.page->head = pair.sent + 1000;
  assert_int_equal(slc__sub_find(&pair.sub, oldest - 1, true, &taken), SLC_OK);
  check_is(&pair, &taken, oldest);
  release(&pair, &taken);
  pair.channel.control.page->head = head;
  /* What is found is held like what is taken, and moves and counts nothing. */
  for (size_t i = 0; i < HOLDS; i++) assert_int_equal(slc__sub_find(&pair.sub, oldest + i, false, &all[i]), SLC_OK);
  assert_int_equal(slc__sub_find(&pair.sub, oldest, false, &taken), SLC_HOLD_LIMIT);
  assert_int_equal(slc__sub_find_time(&pair.sub, oldest, false, &taken), SLC_HOLD_LIMIT);
  assert_int_equal(slc__sub_take_weak(&pair.sub, oldest, all[0].slot, &taken), SLC_HOLD_LIMIT);
  assert_int_equal(pair.sub.next, position);
  assert_int_equal(pair.sub.line->received + pair.sub.dropped, 0);
  pair_send(&pair, 500);
  for (size_t i = 0; i < HOLDS; i++) {
    struct test_message message;
    assert_true(test_message_read(&pair.sub, &all[i], &message) && message.sequence == oldest + i);
    release(&pair, &all[i]);
  }
  pair_deinit(&pair);
}

static void test_find_by_time(void **state) {
  (void)state;
  /* Publishers set their own times: they need not grow. */
  static const uint64_t times[] = {100, 300, 200, 0, 400, 300};
  struct {
    uint64_t time;
    int exact_status;
    uint64_t exact;
    int from_status;
    uint64_t from;
  } cases[] = {
      {50, SLC_GONE, 0, SLC_OK, 0}, {100, SLC_OK, 0, SLC_OK, 0},       {150, SLC_GONE, 0, SLC_OK, 1},
      {200, SLC_OK, 2, SLC_OK, 1},  {300, SLC_OK, 1, SLC_OK, 1},       {350, SLC_GONE, 0, SLC_OK, 4},
      {400, SLC_OK, 4, SLC_OK, 4},  {401, SLC_EMPTY, 0, SLC_EMPTY, 0},
  };
  struct pair pair;
  struct slc__taken taken;
  pair_init(&pair, 32, 0, SLC__START_NEWEST);
  assert_int_equal(slc__sub_find_time(&pair.sub, 1, true, &taken), SLC_EMPTY);
  for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) pair_send_flagged(&pair, 0, times[i]);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int status = slc__sub_find_time(&pair.sub, cases[i].time, false, &taken);
    assert_int_equal(status, cases[i].exact_status);
    if (status == SLC_OK) assert_int_equal(taken.ordinal, cases[i].exact);
    if (status == SLC_OK) release(&pair, &taken);
    status = slc__sub_find_time(&pair.sub, cases[i].time, true, &taken);
    assert_int_equal(status, cases[i].from_status);
    if (status == SLC_OK) assert_int_equal(taken.ordinal, cases[i].from);
    if (status == SLC_OK) release(&pair, &taken);
  }
  pair_send(&pair, 9000); /* time stamps as the ordinals */
  uint64_t oldest = oldest_retained(&pair);
  assert_int_equal(slc__sub_find_time(&pair.sub, 300, false, &taken), SLC_GONE);
  assert_int_equal(slc__sub_find_time(&pair.sub, 300, true, &taken), SLC_OK);
  check_is(&pair, &taken, oldest);
  release(&pair, &taken);
  assert_int_equal(slc__sub_find_time(&pair.sub, oldest + 5, false, &taken), SLC_OK);
  check_is(&pair, &taken, oldest + 5);
  release(&pair, &taken);
  assert_int_equal(pair.sub.held, 0);
  pair_deinit(&pair);
}

static void test_find_weak(void **state) {
  (void)state;
  struct pair pair;
  struct slc__taken taken, again;
  pair_init(&pair, 32, 0, SLC__START_NEWEST);
  pair_send(&pair, 3);
  assert_int_equal(slc__sub_take(&pair.sub, &taken), SLC_OK);
  const uint64_t n = taken.ordinal;
  const uint32_t slot = taken.slot;
  assert_int_equal(slc__sub_take_weak(&pair.sub, n, slot, &again), SLC_OK); /* also while it is held */
  release(&pair, &taken);
  check_is(&pair, &again, n);
  release(&pair, &again);
  assert_int_equal(slc__sub_take_weak(&pair.sub, n, slot, &again), SLC_OK);
  check_is(&pair, &again, n);
  release(&pair, &again);
  assert_int_equal(slc__sub_take_weak(&pair.sub, n, slot + 1, &again), SLC_GONE); /* the slot of another */
  assert_int_equal(slc__sub_take_weak(&pair.sub, 1000, slot, &again), SLC_GONE);  /* not published here */
  /* The slot is used again: that is another message. */
  pair_send(&pair, 500);
  assert_int_equal(slc__sub_take_weak(&pair.sub, n, slot, &again), SLC_GONE);
  pair_send(&pair, UINT64_C(2) * pair.channel.geometry.log_size);
  assert_int_equal(slc__sub_take_weak(&pair.sub, n, slot, &again), SLC_GONE);
  assert_int_equal(pair.sub.held, 0);
  pair_deinit(&pair);
}

/* ---- payloads in later generations ---- */

struct later {
  struct pair *pair;
  int status;
  uint32_t evicts; /* messages sent while the subscriber asks, so that what it holds is evicted */
  uint32_t asked;
  uint8_t payload[64];
};

static int later_payload(void *ctx, uint32_t generation, uint32_t slot, const uint8_t **ret_payload,
                         uint64_t *ret_capacity) {
  struct later *later = ctx;
  (void)slot;
  assert_int_equal(generation, 7);
  later->asked++;
  if (later->evicts > 0) pair_send(later->pair, later->evicts);
  later->evicts = 0;
  *ret_payload = later->payload;
  *ret_capacity = sizeof later->payload;
  return later->status;
}

static void move_to_later(struct pair *pair, uint64_t n) {
  struct slc__prefix *prefix =
      slc__buffers_prefix(&pair->channel.buffers, slc__log_slot(*slc__log_at(&pair->channel.control, n)));
  prefix->flags = (prefix->flags & ~SLC__FLAG_INLINE) | SLC__FLAG_GROWN;
  prefix->ext.generation = 7;
}

static void later_init(struct later *later, struct pair *pair) {
  *later = (struct later){.pair = pair};
  pair_init(pair, 32, 0, SLC__START_NEWEST);
  pair->sub.payload_of = later_payload;
  pair->sub.payload_ctx = later;
}

/* What can't be read now stays unread, with all behind it; nothing is lost or held. */
static void test_find_later_not_now(void **state) {
  (void)state;
  struct pair pair;
  struct later later;
  struct slc__taken taken[HOLDS];
  size_t count;
  later_init(&later, &pair);
  pair_send(&pair, 4);
  move_to_later(&pair, 2);
  later.status = SLC_BROKER_GONE;
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, HOLDS, &count), SLC_OK);
  assert_int_equal(count, 2);
  for (size_t i = 0; i < count; i++) release(&pair, &taken[i]);
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, HOLDS, &count), SLC_BROKER_GONE);
  assert_int_equal(slc__sub_take(&pair.sub, taken), SLC_BROKER_GONE);
  assert_int_equal(slc__sub_find(&pair.sub, 2, false, taken), SLC_BROKER_GONE);
  assert_int_equal(pair.sub.held, 0);
  later.status = SLC_OK;
  assert_int_equal(slc__sub_take_many(&pair.sub, taken, HOLDS, &count), SLC_OK);
  assert_int_equal(count, 2);
  assert_int_equal(taken[0].ordinal, 2);
  assert_ptr_equal(taken[0].payload, later.payload);
  assert_int_equal(pair.sub.dropped, 0);
  for (size_t i = 0; i < count; i++) release(&pair, &taken[i]);
  pair_deinit(&pair);
}

/* A generation that nobody has: rubbish while the message is retained, and else a message that was lost. */
static void test_find_later_gone(void **state) {
  (void)state;
  struct pair pair;
  struct later later;
  struct slc__taken taken;
  later_init(&later, &pair);
  later.status = SLC_GONE;
  pair_send(&pair, 2);
  move_to_later(&pair, 0);
  assert_int_equal(slc__sub_find(&pair.sub, 0, false, &taken), SLC_CORRUPT);
  assert_int_equal(slc__sub_take(&pair.sub, &taken), SLC_CORRUPT);
  move_to_later(&pair, 1);
  later.evicts = 100;
  assert_int_equal(slc__sub_take(&pair.sub, &taken), SLC_OK);
  assert_true(taken.ordinal > 1);
  assert_int_equal(pair.sub.dropped, taken.ordinal);
  assert_int_equal(later.asked, 3);
  release(&pair, &taken);
  pair_deinit(&pair);
}

/* What can't be, found: said, and nothing is left held. */
static void test_find_corrupt(void **state) {
  (void)state;
  struct pair pair;
  struct slc__taken taken;
  pair_init(&pair, 32, 3, SLC__START_NEWEST);
  uint64_t *word = (uint64_t *)slc__log_at(&pair.channel.control, 1);
  uint64_t good = *word;
  struct slc__prefix *prefix = slc__buffers_prefix(&pair.channel.buffers, slc__log_slot(good));
  prefix->size = 1000;
  assert_int_equal(slc__sub_find(&pair.sub, 1, false, &taken), SLC_CORRUPT);
  assert_int_equal(slc__sub_find_time(&pair.sub, 1, false, &taken), SLC_CORRUPT);
  assert_int_equal(slc__sub_take_weak(&pair.sub, 1, slc__log_slot(good), &taken), SLC_CORRUPT);
  *word = good | SLC__LOG_SLOT_MASK;
  assert_int_equal(slc__sub_find(&pair.sub, 1, false, &taken), SLC_CORRUPT);
  assert_int_equal(slc__sub_find_time(&pair.sub, 1, false, &taken), SLC_GONE); /* its time can't be seen */
  assert_int_equal(slc__sub_take_weak(&pair.sub, 1, SLC__LOG_SLOT_MASK, &taken), SLC_CORRUPT);
  *word = good;
  assert_int_equal(pair.sub.held, 0);
  for (uint32_t hold = 0; hold < HOLDS; hold++) assert_int_equal(slc__sub_release(&pair.sub, hold), SLC_STALE);
  pair_deinit(&pair);
}

/* ---- what is kept ---- */

static void test_find_keep_last(void **state) {
  (void)state;
  enum { SLOTS = 32, KEEP = 15, PUBLISHERS = 2 };
  struct pair pair;
  struct slc__pub other;
  pair_init(&pair, SLOTS, 0, SLC__START_NEWEST);
  slc__pub_leave(&pair.pub);
  slc__pub_deinit(&pair.pub);
  pair.channel.control.geometry.keep_last = KEEP;
  test_channel_publisher(&pair.channel, &pair.pub, 1);
  test_channel_publisher(&pair.channel, &other, 2);
  struct slc__slot_states states;
  for (uint64_t ordinal; pair.sent < 9000;) {
    pair_send(&pair, 1 + pair.sent % 3);
    assert_int_equal(test_message_send(&other, pair.sent, &ordinal), SLC_OK);
    pair.sent++;
    slc__slot_states(&pair.channel.control, &states);
    assert_true(states.published >= KEEP || states.published == pair.sent);
    assert_true(slc__presence(&pair.channel.control, *slc__log_at(&pair.channel.control, pair.sent - 1),
                              pair.sent - 1) == SLC__PRESENT);
    if (pair.sent < KEEP) continue;
    uint64_t oldest_kept = pair.sent - KEEP;
    assert_true(slc__presence(&pair.channel.control, *slc__log_at(&pair.channel.control, oldest_kept), oldest_kept) ==
                SLC__PRESENT);
  }
  /* A tail that lags keeps more, never less. */
  pair.channel.control.page->tail = pair.sent - 3;
  uint32_t slots[SLOTS], loans = 0;
  while (slc__pub_loan(&pair.pub, &slots[loans]) == SLC_OK) loans++;
  slc__slot_states(&pair.channel.control, &states);
  assert_int_equal(states.published, KEEP + 3);
  while (loans > 0) slc__pub_discard(&pair.pub, slots[--loans]);
  slc__pub_leave(&other);
  slc__pub_deinit(&other);
  pair_deinit(&pair);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_find_start_last),
      cmocka_unit_test(test_find_start_ordinal),
      cmocka_unit_test(test_find_drops_are_exact),
      cmocka_unit_test(test_find_drops_ignored),
      cmocka_unit_test(test_find_hidden),
      cmocka_unit_test(test_find_take_many),
      cmocka_unit_test(test_find_take_many_corrupt),
      cmocka_unit_test(test_find_by_ordinal),
      cmocka_unit_test(test_find_by_time),
      cmocka_unit_test(test_find_weak),
      cmocka_unit_test(test_find_later_not_now),
      cmocka_unit_test(test_find_later_gone),
      cmocka_unit_test(test_find_corrupt),
      cmocka_unit_test(test_find_keep_last),
  };
  int failed = 0;
  for (publishers = 1; publishers <= 2; publishers++) failed += cmocka_run_group_tests(tests, NULL, NULL);
  return failed;
}

/* The slot log in one process: what is published is taken, in order and whole; what is held stays; what is lost is
 * counted; and nothing is reused that somebody unknown may hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "shm/publish.h"
#include "shm/words.h"
#include "slotcast/status.h"
#include "support/channel.h"
#include "support/stream.h"

static void take_message(struct slc__sub *sub, struct slc__taken *taken, struct test_message *message) {
  assert_int_equal(slc__sub_take(sub, taken), SLC_OK);
  assert_true(test_message_read(sub, taken, message));
}

/* Takes, checks and releases one message. */
static uint64_t receive(struct slc__sub *sub, uint32_t publisher, uint64_t sequence) {
  struct slc__taken taken;
  struct test_message message;
  take_message(sub, &taken, &message);
  assert_int_equal(message.publisher, publisher);
  assert_int_equal(message.sequence, sequence);
  assert_int_equal(slc__sub_release(sub, taken.hold), SLC_OK);
  return taken.ordinal;
}

static uint64_t send_ok(struct slc__pub *pub, uint64_t sequence) {
  uint64_t ordinal;
  assert_int_equal(test_message_send(pub, sequence, &ordinal), SLC_OK);
  return ordinal;
}

static void leave(struct slc__pub *pub) {
  slc__pub_leave(pub);
  slc__pub_deinit(pub);
}

/* ---- order and content ---- */

static void test_slotlog_order_and_content(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 16, 500, 0, 1);
  uint32_t line = test_channel_admit(&channel, 2, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 2, SLC__START_NEWEST);
  struct slc__taken taken;
  assert_int_equal(slc__sub_take(&sub, &taken), SLC_EMPTY);
  bool in_prefix = false, behind = false;
  for (uint64_t i = 0; i < 1000; i++) {
    assert_int_equal(send_ok(&pub, i), i);
    assert_true(slc__sub_ready(&sub));
    struct test_message message;
    take_message(&sub, &taken, &message);
    assert_int_equal(message.sequence, i);
    assert_int_equal(taken.ordinal, i);
    *(taken.size <= SLC__INLINE ? &in_prefix : &behind) = true;
    assert_int_equal(slc__sub_release(&sub, taken.hold), SLC_OK);
    assert_int_equal(slc__sub_take(&sub, &taken), SLC_EMPTY);
  }
  assert_true(in_prefix && behind);
  assert_int_equal(sub.dropped, 0);
  assert_int_equal(channel.control.publishers[0].messages, 1000);
  assert_int_equal(sub.line->received, 1000);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* The smallest channel, through many laps of its log: every word and every slot is used again and again. */
static void test_slotlog_wraps(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, SLC__SLOTS_MIN, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 1, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_OLDEST);
  const uint64_t messages = UINT64_C(20) * channel.geometry.log_size + 3;
  for (uint64_t i = 0; i < messages; i++) {
    assert_int_equal(send_ok(&pub, i), i);
    if (i % 2 != 0) { /* behind by two, now and then by one */
      receive(&sub, 1, i - 1);
      receive(&sub, 1, i);
    }
  }
  receive(&sub, 1, messages - 1);
  assert_int_equal(sub.dropped, 0);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

static void test_slotlog_publishers_interleave(void **state) {
  (void)state;
  enum { PUBLISHERS = 5 };
  struct test_channel channel;
  struct slc__pub pubs[PUBLISHERS];
  struct slc__sub sub;
  uint64_t sent[PUBLISHERS] = {0}, seen[PUBLISHERS] = {0};
  test_channel_init(&channel, 64, 100, 0, 1);
  uint32_t line = test_channel_admit(&channel, 3, false);
  for (uint32_t p = 0; p < PUBLISHERS; p++) test_channel_publisher(&channel, &pubs[p], p + 1);
  test_channel_subscriber(&channel, &sub, line, 3, SLC__START_NEWEST);
  uint32_t random = 1;
  for (uint64_t i = 0; i < 20000; i++) {
    random = random * 1664525 + 1013904223;
    uint32_t p = (random >> 16) % PUBLISHERS;
    assert_int_equal(send_ok(&pubs[p], sent[p]++), i);
    if (i % 7 != 6) continue;
    for (int k = 0; k < 7; k++) {
      struct slc__taken taken;
      struct test_message message;
      take_message(&sub, &taken, &message);
      assert_int_equal(message.sequence, seen[message.publisher - 1]++);
      assert_int_equal(slc__sub_release(&sub, taken.hold), SLC_OK);
    }
  }
  assert_int_equal(sub.dropped, 0);
  for (uint32_t p = 0; p < PUBLISHERS; p++) leave(&pubs[p]);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* A wrong guess, and a message whose announcement never came (its publisher died there): the log word leads to both. */
static void test_slotlog_log_path(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub one, two;
  struct slc__sub sub;
  test_channel_init(&channel, 32, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 1, false);
  test_channel_publisher(&channel, &one, 1);
  test_channel_publisher(&channel, &two, 2);
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  send_ok(&one, 0);
  receive(&sub, 1, 0);
  assert_int_not_equal(sub.guess, 0);
  uint32_t guess = sub.guess;
  send_ok(&two, 0);
  receive(&sub, 2, 0);
  uint32_t slot;
  assert_int_equal(slc__pub_loan(&one, &slot), SLC_OK);
  assert_int_equal(slot + 1, guess); /* what was announced is what the next loan is */
  slc__pub_discard(&one, slot);
  uint64_t n = send_ok(&one, 1);
  struct slc__prefix *prefix = slc__buffers_prefix(&channel.buffers, guess - 1);
  assert_int_equal(prefix->seq, n + 1);
  prefix->seq = SLC__SEQ_PENDING | (n + 1);
  receive(&sub, 1, 1);
  leave(&one);
  leave(&two);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* ---- holds ---- */

static void test_slotlog_holds_keep(void **state) {
  (void)state;
  enum { HOLDS = 15 }; /* more than a line has, and not a multiple of it */
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 32, 200, 0, 2);
  uint32_t line = test_channel_admit(&channel, HOLDS, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, HOLDS, SLC__START_NEWEST);
  struct slc__taken taken[HOLDS], one_more;
  struct test_message message;
  for (uint64_t i = 0; i < HOLDS; i++) {
    send_ok(&pub, i);
    take_message(&sub, &taken[i], &message);
  }
  assert_int_equal(slc__sub_take(&sub, &one_more), SLC_EMPTY);
  send_ok(&pub, HOLDS);
  assert_int_equal(slc__sub_take(&sub, &one_more), SLC_HOLD_LIMIT);
  assert_int_equal(slc__sub_take_newest(&sub, &one_more), SLC_HOLD_LIMIT);
  for (uint64_t i = 0; i < 10000; i++) send_ok(&pub, HOLDS + 1 + i);
  for (uint64_t i = 0; i < HOLDS; i++) {
    assert_true(test_message_read(&sub, &taken[i], &message));
    assert_int_equal(message.sequence, i);
  }
  assert_int_equal(slc__sub_release(&sub, taken[3].hold), SLC_OK);
  assert_int_equal(slc__sub_release(&sub, taken[3].hold), SLC_STALE);
  assert_int_equal(slc__sub_release(&sub, HOLDS), SLC_STALE);
  take_message(&sub, &one_more, &message); /* the one place left serves again */
  assert_int_equal(one_more.hold, taken[3].hold);
  assert_int_equal(sub.dropped, one_more.ordinal - HOLDS);
  assert_int_equal(slc__sub_take(&sub, &taken[3]), SLC_HOLD_LIMIT);
  slc__line_close(channel.table, line, HOLDS);
  for (uint64_t i = 0; i < 200; i++) send_ok(&pub, 20000 + i);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* With every slot held a publisher would block, also of an unreliable channel, and goes on when one is released. */
static void test_slotlog_all_held(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 8, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 8, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 8, SLC__START_NEWEST);
  struct slc__taken taken[8];
  for (uint64_t i = 0; i < 8; i++) {
    send_ok(&pub, i);
    assert_int_equal(slc__sub_take(&sub, &taken[i]), SLC_OK);
  }
  uint32_t slot;
  assert_int_equal(slc__pub_loan(&pub, &slot), SLC_WOULD_BLOCK);
  assert_int_equal(slc__pub_wait(&pub, slc__clock_ns(), 0), SLC_TIMED_OUT);
  assert_int_equal(pub.line->would_block, 1);
  assert_int_equal(slc__sub_release(&sub, taken[5].hold), SLC_OK);
  assert_int_equal(slc__pub_wait(&pub, SLC__DEADLINE_NEVER, 0), SLC_OK);
  send_ok(&pub, 8);
  assert_int_equal(slc__pub_loan(&pub, &slot), SLC_OK); /* 8 itself is the only one that nobody holds */
  struct test_message message;
  for (uint64_t i = 0; i < 8; i++) {
    if (i != 5) assert_true(test_message_read(&sub, &taken[i], &message) && message.sequence == i);
  }
  assert_int_equal(slc__sub_take(&sub, &taken[5]), SLC_EMPTY);
  assert_int_equal(sub.dropped, 1);
  slc__pub_discard(&pub, slot);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* ---- loans ---- */

static void test_slotlog_loans(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 32, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 1, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  struct slc__slot_states states;
  uint32_t slots[6];
  for (int i = 0; i < 6; i++) {
    assert_int_equal(slc__pub_loan(&pub, &slots[i]), SLC_OK);
    for (int k = 0; k < i; k++) assert_int_not_equal(slots[i], slots[k]);
  }
  /* In any order; two given back, one of them when the list is full. */
  uint64_t ordinal;
  const int order[] = {3, 0, 5, 1};
  for (uint64_t i = 0; i < 4; i++) {
    assert_int_equal(test_message_publish(&pub, slots[order[i]], i, &ordinal), SLC_OK);
    assert_int_equal(ordinal, i);
  }
  slc__pub_discard(&pub, slots[2]);
  for (uint32_t slot = 0; slot < 32 && pub.free_count < pub.batch; slot++) { /* fill the list to the brim */
    if (channel.control.own[slot] != 0) continue;
    channel.control.own[slot] = slc__own_owned(1, 0);
    slc__pub_discard(&pub, slot);
  }
  assert_int_equal(pub.free_count, pub.batch);
  slc__slot_states(&channel.control, &states);
  uint32_t owned = states.owned;
  slc__pub_discard(&pub, slots[4]);
  slc__slot_states(&channel.control, &states);
  assert_int_equal(states.owned, owned - 1);
  assert_int_equal(states.published, 4);
  assert_int_equal(states.free + states.owned + states.published, 32);
  for (uint64_t i = 0; i < 4; i++) receive(&sub, 1, i);
  leave(&pub);
  slc__slot_states(&channel.control, &states);
  assert_int_equal(states.owned, 0);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* The most free slots that it had in hand over so many messages, read `behind` messages late. */
static uint32_t most_in_hand(struct slc__pub *pub, struct slc__sub *sub, uint64_t messages, uint64_t behind) {
  uint32_t most = 0;
  for (uint64_t i = 0; i < messages; i++) {
    uint64_t ordinal = send_ok(pub, i);
    if (pub->free_count > most) most = pub->free_count;
    while (sub->next + behind <= ordinal) {
      struct slc__taken taken;
      assert_int_equal(slc__sub_take(sub, &taken), SLC_OK);
      assert_int_equal(slc__sub_release(sub, taken.hold), SLC_OK);
    }
  }
  return most;
}

/* Little for one whose messages are answered one by one, more for a stream, and little again. */
static void test_slotlog_batches(void **state) {
  (void)state;
  enum { SLOTS = 1024, SOME = 2 * SLOTS };
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, SLOTS, 100, 1, 1);
  uint32_t line = test_channel_admit(&channel, 2, true);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 2, SLC__START_NEWEST);
  most_in_hand(&pub, &sub, SOME, 0); /* while most slots are nobody's it takes what it meets */
  assert_int_equal(most_in_hand(&pub, &sub, SOME, 0), 8);
  assert_int_equal(most_in_hand(&pub, &sub, SOME, 100), 32);
  most_in_hand(&pub, &sub, SLOTS / 4, 0);
  assert_int_equal(most_in_hand(&pub, &sub, SOME, 0), 8);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* A failed publish leaves the loan as it was: it can be published later. */
static void test_slotlog_exhausted(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  test_channel_init(&channel, 8, 64, 0, 1);
  channel.control.page->tail = SLC__ORDINAL_MAX;
  channel.control.page->head = SLC__ORDINAL_MAX;
  test_channel_publisher(&channel, &pub, 1);
  struct slc__sub sub;
  uint32_t line = test_channel_admit(&channel, 1, false);
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  assert_int_equal(send_ok(&pub, 0), SLC__ORDINAL_MAX);
  receive(&sub, 1, 0);
  uint32_t slot;
  uint64_t ordinal;
  assert_int_equal(slc__pub_loan(&pub, &slot), SLC_OK);
  assert_int_equal(test_message_publish(&pub, slot, 1, &ordinal), SLC_EXHAUSTED);
  assert_int_equal(slc__own_publisher(channel.control.own[slot]), 1);
  assert_false(slc__own_is_at(channel.control.own[slot]));
  assert_int_equal(test_message_publish(&pub, slot, 1, &ordinal), SLC_EXHAUSTED);
  slc__pub_discard(&pub, slot);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* ---- where to start, newest ---- */

static void test_slotlog_starts(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub oldest, newest;
  test_channel_init(&channel, 16, 64, 0, 2);
  uint32_t first = test_channel_admit(&channel, 1, false), second = test_channel_admit(&channel, 1, false);
  test_channel_publisher(&channel, &pub, 1);
  for (uint64_t i = 0; i < 1000; i++) send_ok(&pub, i);
  test_channel_subscriber(&channel, &oldest, first, 1, SLC__START_OLDEST);
  test_channel_subscriber(&channel, &newest, second, 1, SLC__START_NEWEST);
  struct slc__slot_states states;
  slc__slot_states(&channel.control, &states);
  assert_int_equal(slc__sub_lag(&oldest), states.published);
  assert_int_equal(slc__sub_lag(&newest), 0);
  struct slc__taken taken;
  assert_int_equal(slc__sub_take(&newest, &taken), SLC_EMPTY);
  for (uint64_t i = 1000 - states.published; i < 1000; i++) receive(&oldest, 1, i);
  assert_int_equal(slc__sub_take(&oldest, &taken), SLC_EMPTY);
  send_ok(&pub, 1000);
  receive(&oldest, 1, 1000);
  receive(&newest, 1, 1000);
  assert_int_equal(oldest.dropped + newest.dropped, 0);
  /* The hints are only hints: far behind, the start is the same. */
  channel.control.page->head = 0;
  channel.control.page->tail = 0;
  slc__slot_states(&channel.control, &states);
  test_channel_subscriber(&channel, &newest, second, 1, SLC__START_NEWEST);
  assert_int_equal(newest.next, 1001);
  test_channel_subscriber(&channel, &oldest, first, 1, SLC__START_OLDEST);
  receive(&oldest, 1, 1001 - states.published);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

static void test_slotlog_newest(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 16, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 2, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 2, SLC__START_NEWEST);
  struct slc__taken taken;
  struct test_message message;
  assert_int_equal(slc__sub_take_newest(&sub, &taken), SLC_EMPTY);
  for (uint64_t i = 0; i < 5; i++) send_ok(&pub, i);
  assert_int_equal(slc__sub_take_newest(&sub, &taken), SLC_OK);
  assert_true(test_message_read(&sub, &taken, &message));
  assert_int_equal(message.sequence, 4);
  assert_int_equal(slc__sub_release(&sub, taken.hold), SLC_OK);
  assert_int_equal(slc__sub_take_newest(&sub, &taken), SLC_EMPTY);
  for (uint64_t i = 5; i < 500; i++) send_ok(&pub, i); /* far more than are retained */
  assert_int_equal(slc__sub_take_newest(&sub, &taken), SLC_OK);
  assert_int_equal(taken.ordinal, 499);
  assert_int_equal(sub.dropped, 0); /* skipped, not lost */
  assert_int_equal(slc__sub_release(&sub, taken.hold), SLC_OK);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* ---- overrun ---- */

static void test_slotlog_overrun(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 16, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 1, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  struct slc__taken taken;
  struct test_message message;
  uint64_t sent = 0, received = 0, last = 0;
  send_ok(&pub, sent++);
  receive(&sub, 1, 0);
  received++;
  for (uint64_t burst = 1; burst < 200; burst++) {
    for (uint64_t i = 0; i < burst; i++) send_ok(&pub, sent++);
    for (uint64_t i = 0; i < burst % 5; i++) {
      int status = slc__sub_take(&sub, &taken);
      if (status == SLC_EMPTY) break;
      assert_int_equal(status, SLC_OK);
      assert_true(test_message_read(&sub, &taken, &message));
      assert_int_equal(message.sequence, taken.ordinal);
      assert_true(taken.ordinal > last);
      last = taken.ordinal;
      received++;
      assert_int_equal(received + sub.dropped, last + 1);
      assert_int_equal(slc__sub_release(&sub, taken.hold), SLC_OK);
    }
  }
  assert_true(sub.dropped > 0);
  assert_int_equal(sub.line->dropped, sub.dropped);
  while (slc__sub_take(&sub, &taken) == SLC_OK) {
    received++;
    slc__sub_release(&sub, taken.hold);
  }
  assert_int_equal(received + sub.dropped, sent);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* A whole lap and more behind: the log word of the wanted ordinal is already that of a later one. */
static void test_slotlog_overrun_by_laps(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 8, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 1, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  send_ok(&pub, 0);
  receive(&sub, 1, 0);
  const uint64_t sent = UINT64_C(3) * channel.geometry.log_size + 100;
  for (uint64_t i = 1; i < sent; i++) send_ok(&pub, i);
  uint64_t received = 1;
  struct slc__taken taken;
  while (slc__sub_take(&sub, &taken) == SLC_OK) {
    received++;
    slc__sub_release(&sub, taken.hold);
  }
  assert_true(received > 1);
  assert_int_equal(received + sub.dropped, sent);
  leave(&pub);
  test_channel_deinit(&channel);
}

/* ---- reliable ---- */

static void test_slotlog_reliable(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub reliable, other;
  test_channel_init(&channel, 16, 64, 1, 2);
  uint32_t first = test_channel_admit(&channel, 1, true), second = test_channel_admit(&channel, 1, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &reliable, first, 1, SLC__START_NEWEST);
  test_channel_subscriber(&channel, &other, second, 1, SLC__START_NEWEST);
  uint64_t sent = 0, taken_count = 0;
  uint32_t slot;
  for (int round = 0; round < 1000; round++) {
    uint64_t ordinal;
    while (test_message_send(&pub, sent, &ordinal) == SLC_OK) sent++;
    assert_int_equal(sent, taken_count + 16);
    assert_int_equal(slc__pub_loan(&pub, &slot), SLC_WOULD_BLOCK);
    assert_int_equal(slc__pub_wait(&pub, slc__clock_ns(), 0), SLC_TIMED_OUT);
    for (int i = 0; i <= round % 16; i++) receive(&reliable, 1, taken_count++);
  }
  assert_int_equal(reliable.dropped, 0);
  /* Its end frees the publisher: the unreliable one holds nobody back. */
  slc__line_close(channel.table, first, 1);
  channel.scan_table.lines[first] = 0;
  for (int i = 0; i < 100; i++) send_ok(&pub, sent++);
  struct slc__taken taken;
  assert_int_equal(slc__sub_take(&other, &taken), SLC_OK);
  assert_int_equal(slc__sub_release(&other, taken.hold), SLC_OK);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* A reliable newcomer's cursor is 0 until it has chosen: it gates everything. */
static void test_slotlog_reliable_newcomer_gates(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 8, 64, 1, 1);
  test_channel_publisher(&channel, &pub, 1);
  for (uint64_t i = 0; i < 100; i++) send_ok(&pub, i);
  uint32_t line = test_channel_admit(&channel, 1, true);
  channel.membership.epoch++;
  channel.control.page->epoch++;
  uint64_t ordinal, sent = 100;
  while (test_message_send(&pub, sent, &ordinal) == SLC_OK) sent++;
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_OLDEST);
  for (uint64_t i = sub.next; i < sent; i++) receive(&sub, 1, i);
  assert_int_equal(sent - sub.next, 0);
  send_ok(&pub, sent);
  receive(&sub, 1, sent);
  assert_int_equal(sub.dropped, 0);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* ---- subscribers that are too slow ---- */

/* What the broker does with one of them. */
static void shut(struct test_channel *channel, uint32_t line) {
  slc__line_shut(channel->table, line, SLC__CLOSED_STALLS);
  channel->scan_table.lines[line] = (uint8_t)((channel->scan_table.lines[line] & SLC__SCAN_HOLDS) | SLC__SCAN_CLOSED);
  channel->membership.epoch++;
  atomic_fetch_add(&channel->control.page->epoch, 1);
}

/* Nobody waits for it, nothing is given to it, and what it holds stays. */
static void test_slotlog_closed_subscriber(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 16, 64, 1, 1);
  uint32_t line = test_channel_admit(&channel, 2, true);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 2, SLC__START_NEWEST);
  uint64_t ordinal, bell, sent = 0;
  struct slc__taken held, taken;
  struct test_message message;
  size_t count;
  while (test_message_send(&pub, sent, &ordinal) == SLC_OK) sent++;
  take_message(&sub, &held, &message);
  while (test_message_send(&pub, sent, &ordinal) == SLC_OK) sent++;
  shut(&channel, line);
  for (int i = 0; i < 1000; i++) send_ok(&pub, sent++);
  assert_int_equal(slc__sub_take(&sub, &taken), SLC_DISCONNECTED);
  assert_int_equal(slc__sub_take_newest(&sub, &taken), SLC_DISCONNECTED);
  assert_int_equal(slc__sub_take_many(&sub, &taken, 1, &count), SLC_DISCONNECTED);
  assert_int_equal(slc__sub_find(&sub, sent - 1, false, &taken), SLC_DISCONNECTED);
  assert_true(slc__sub_ready(&sub));
  assert_int_equal(slc__sub_wait(&sub, INT64_MAX, 0), SLC_OK);
  assert_false(slc__sub_sleep_begin(&sub, &bell));
  assert_false(slc__sub_arm(&sub));
  assert_true(test_message_read(&sub, &held, &message));
  assert_int_equal(message.sequence, 0);
  assert_false(slc__pub_has_readers(&pub));
  assert_int_equal(slc__sub_release(&sub, held.hold), SLC_OK);
  assert_int_equal(sub.dropped, 0);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* ---- membership ---- */

struct sync {
  struct slc__pub *pub;
  const struct slc__membership *newer; /* NULL: nothing has come */
  int calls;
};

static bool sync_newer(void *ctx, uint64_t epoch) {
  struct sync *sync = ctx;
  (void)epoch;
  sync->calls++;
  if (sync->newer == NULL) return false;
  slc__pub_set_membership(sync->pub, sync->newer);
  return true;
}

static void sync_publisher(struct test_channel *channel, struct slc__pub *pub, struct sync *sync) {
  *sync = (struct sync){.pub = pub};
  assert_int_equal(slc__pub_init(pub, &channel->control, &channel->buffers, 1,
                                 slc__geometry_batch(channel->geometry.slots), &channel->membership, sync_newer, sync),
                   SLC_OK);
}

/* While somebody unknown may hold: nothing is evicted, nothing reused, what was claimed is FREE again. */
static void test_slotlog_membership_not_current(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct sync sync;
  test_channel_init(&channel, 16, 64, 0, 2);
  sync_publisher(&channel, &pub, &sync);
  for (uint64_t i = 0; i < 100; i++) send_ok(&pub, i);
  struct slc__slot_states before, after;
  channel.control.page->epoch = 1;
  uint64_t sent = 100, ordinal;
  while (pub.free_count > 0) send_ok(&pub, sent++); /* it lives on its free list */
  slc__slot_states(&channel.control, &before);
  assert_int_equal(test_message_send(&pub, sent, &ordinal), SLC_WOULD_BLOCK);
  assert_int_equal(slc__pub_wait(&pub, slc__clock_ns(), 0), SLC_TIMED_OUT);
  assert_true(sync.calls > 0);
  slc__slot_states(&channel.control, &after);
  assert_memory_equal(&before, &after, sizeof before);
  assert_int_equal(after.published + after.free, 16);
  test_channel_check_slots(&channel);
  /* The push arrives: the newcomer's holds are honoured. */
  uint32_t line = test_channel_admit(&channel, 1, false);
  struct slc__membership newer = channel.membership;
  newer.epoch = 1;
  struct slc__sub sub;
  struct slc__taken taken;
  struct test_message message;
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_OLDEST);
  take_message(&sub, &taken, &message);
  sync.newer = &newer;
  for (uint64_t i = 0; i < 100; i++) send_ok(&pub, sent++);
  assert_true(test_message_read(&sub, &taken, &message) && message.sequence == taken.ordinal);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* A set that came with a push for a still older epoch is not enough. */
static void test_slotlog_membership_still_older(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct sync sync;
  test_channel_init(&channel, 16, 64, 0, 1);
  sync_publisher(&channel, &pub, &sync);
  send_ok(&pub, 0);
  uint64_t sent = 1, ordinal;
  struct slc__membership newer = channel.membership;
  newer.epoch = 1;
  sync.newer = &newer;
  channel.control.page->epoch = 2;
  while (pub.free_count > 0) send_ok(&pub, sent++);
  assert_int_equal(test_message_send(&pub, sent, &ordinal), SLC_WOULD_BLOCK);
  newer.epoch = 2;
  send_ok(&pub, sent);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* The broker pushes before it raises the epoch in control: in between, a publisher knows more than it needs, and goes
 * on. */
static void test_slotlog_membership_ahead(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct sync sync;
  test_channel_init(&channel, 16, 64, 0, 1);
  sync_publisher(&channel, &pub, &sync);
  channel.membership.epoch = 1;
  for (uint64_t i = 0; i < 100; i++) send_ok(&pub, i);
  assert_int_equal(sync.calls, 0);
  leave(&pub);
  test_channel_deinit(&channel);
}

/* ---- messages that can't be ---- */

static void test_slotlog_corrupt_message_is_skipped(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 32, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 1, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  const uint64_t sizes[] = {0, 65, UINT64_MAX, SLC__INLINE + 1};
  struct slc__taken taken;
  uint64_t sent = 0;
  for (uint64_t i = 0; i < 4; i++) {
    send_ok(&pub, sent++);
    uint64_t word = *slc__log_at(&channel.control, sent - 1);
    struct slc__prefix *prefix = slc__buffers_prefix(&channel.buffers, slc__log_slot(word));
    prefix->size = sizes[i];
    prefix->flags = sizes[i] == SLC__INLINE + 1 ? SLC__FLAG_INLINE : 0;
    assert_int_equal(slc__sub_take(&sub, &taken), SLC_CORRUPT);
    assert_int_equal(sub.dropped, i + 1);
    assert_int_equal(slc__sub_take(&sub, &taken), SLC_EMPTY);
  }
  assert_int_equal(sub.held, 0);
  send_ok(&pub, sent);
  receive(&sub, 1, sent);
  leave(&pub);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
}

/* A split channel has no payloads behind its prefixes, nor in them: a publisher that says so is not believed. */
static void test_slotlog_split_reads_no_buffers(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  test_channel_init(&channel, 32, 64, 0, 1);
  channel.geometry.split = 1;
  slc__control_init(&channel.control, &channel.geometry, channel.control_mapping.base);
  slc__buffers_init(&channel.buffers, &channel.geometry, channel.buffers_mapping.base);
  uint32_t line = test_channel_admit(&channel, 1, false);
  test_channel_publisher(&channel, &pub, 1);
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  static const uint32_t flags[] = {0, SLC__FLAG_INLINE, SLC__FLAG_GROWN};
  for (uint32_t i = 0; i < 3; i++) {
    const struct slc__sending sending = {.size = 1, .flags = flags[i], .generation = 1};
    struct slc__taken taken;
    uint32_t slot;
    uint64_t ordinal;
    assert_int_equal(slc__pub_loan(&pub, &slot), SLC_OK);
    assert_int_equal(slc__pub_publish(&pub, slot, &sending, &ordinal), SLC_OK);
    assert_int_equal(slc__sub_take(&sub, &taken), SLC_CORRUPT);
  }
  leave(&pub);
  test_channel_deinit(&channel);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_slotlog_order_and_content),
      cmocka_unit_test(test_slotlog_wraps),
      cmocka_unit_test(test_slotlog_split_reads_no_buffers),
      cmocka_unit_test(test_slotlog_publishers_interleave),
      cmocka_unit_test(test_slotlog_log_path),
      cmocka_unit_test(test_slotlog_holds_keep),
      cmocka_unit_test(test_slotlog_all_held),
      cmocka_unit_test(test_slotlog_loans),
      cmocka_unit_test(test_slotlog_batches),
      cmocka_unit_test(test_slotlog_exhausted),
      cmocka_unit_test(test_slotlog_starts),
      cmocka_unit_test(test_slotlog_newest),
      cmocka_unit_test(test_slotlog_overrun),
      cmocka_unit_test(test_slotlog_overrun_by_laps),
      cmocka_unit_test(test_slotlog_reliable),
      cmocka_unit_test(test_slotlog_reliable_newcomer_gates),
      cmocka_unit_test(test_slotlog_closed_subscriber),
      cmocka_unit_test(test_slotlog_membership_not_current),
      cmocka_unit_test(test_slotlog_membership_still_older),
      cmocka_unit_test(test_slotlog_membership_ahead),
      cmocka_unit_test(test_slotlog_corrupt_message_is_skipped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Retirement in the slot log: each message of a publisher that wants to know is told once it is evicted and nobody
 * holds it, exactly once, whatever subscribers and other publishers do; its very slot can be had again; and those who
 * free something ring the publishers that wait, and only those. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/retire.h"
#include "shm/words.h"
#include "slotcast/status.h"
#include "support/channel.h"
#include "support/stream.h"

enum { SLOTS = 32, HOLDS = 4, MESSAGES_MAX = 20000 };

/* How often each ordinal was told. */
struct told {
  uint8_t times[MESSAGES_MAX];
  uint32_t slot[MESSAGES_MAX];
  size_t total;
};

static uint64_t send_ok(struct slc__pub *pub, uint64_t sequence) {
  uint64_t ordinal;
  assert_int_equal(test_message_send(pub, sequence, &ordinal), SLC_OK);
  return ordinal;
}

static size_t collect(struct slc__pub *pub, struct told *told) {
  struct slc__retired some[3];
  size_t count, sum = 0;
  slc__retire_look(pub);
  while ((count = slc__retire_take(pub, some, 3)) > 0) {
    for (size_t i = 0; i < count; i++) {
      assert_true(some[i].ordinal < MESSAGES_MAX);
      assert_int_equal(told->times[some[i].ordinal]++, 0);
      told->slot[some[i].ordinal] = some[i].slot;
    }
    sum += count;
  }
  told->total += sum;
  return sum;
}

static uint64_t take_ok(struct slc__sub *sub, struct slc__taken *taken) {
  struct test_message message;
  assert_int_equal(slc__sub_take(sub, taken), SLC_OK);
  assert_true(test_message_read(sub, taken, &message));
  return taken->ordinal;
}

static void receive(struct slc__sub *sub) {
  struct slc__taken taken;
  take_ok(sub, &taken);
  assert_int_equal(slc__sub_release(sub, taken.hold), SLC_OK);
}

static void pub_close(struct slc__pub *pub) {
  slc__pub_leave(pub);
  slc__pub_deinit(pub);
}

/* A channel with one subscriber and one publisher that wants to know. */
struct fixture {
  struct test_channel channel;
  struct slc__pub pub;
  struct slc__sub sub;
  uint32_t line;
  struct told told;
};

static void fixture_open(struct fixture *f, uint32_t keep_last) {
  memset(f, 0, sizeof *f);
  test_channel_init(&f->channel, SLOTS, 200, 0, 8);
  f->channel.geometry.keep_last = f->channel.control.geometry.keep_last = keep_last;
  f->line = test_channel_admit(&f->channel, HOLDS, false);
  test_channel_publisher(&f->channel, &f->pub, 1);
  assert_int_equal(slc__retire_open(&f->pub), SLC_OK);
  test_channel_subscriber(&f->channel, &f->sub, f->line, HOLDS, SLC__START_NEWEST);
}

static void fixture_close(struct fixture *f) {
  pub_close(&f->pub);
  test_channel_check_slots(&f->channel);
  test_channel_deinit(&f->channel);
}

static struct fixture f; /* large */

static void test_retire_when_read_and_released(void **state) {
  (void)state;
  fixture_open(&f, 0);
  uint64_t ordinal = send_ok(&f.pub, 0);
  assert_int_equal(collect(&f.pub, &f.told), 0); /* unread */
  struct slc__taken taken;
  take_ok(&f.sub, &taken);
  assert_int_equal(collect(&f.pub, &f.told), 0); /* held */
  assert_int_equal(slc__sub_release(&f.sub, taken.hold), SLC_OK);
  assert_int_equal(collect(&f.pub, &f.told), 1);
  assert_int_equal(f.told.times[ordinal], 1);
  assert_int_equal(f.told.slot[ordinal], taken.slot);
  assert_int_equal(collect(&f.pub, &f.told), 0); /* once */
  fixture_close(&f);
}

/* What is held does not keep back what comes after it. */
static void test_retire_passes_what_is_held(void **state) {
  (void)state;
  fixture_open(&f, 0);
  struct slc__taken held;
  send_ok(&f.pub, 0);
  take_ok(&f.sub, &held);
  for (uint64_t i = 1; i <= 1000; i++) {
    send_ok(&f.pub, i);
    receive(&f.sub);
    assert_int_equal(collect(&f.pub, &f.told), 1);
    assert_int_equal(f.told.times[i], 1);
  }
  struct test_message message;
  assert_true(test_message_read(&f.sub, &held, &message));
  assert_int_equal(message.sequence, 0);
  assert_int_equal(slc__sub_release(&f.sub, held.hold), SLC_OK);
  assert_int_equal(collect(&f.pub, &f.told), 1);
  assert_int_equal(f.told.times[0], 1);
  fixture_close(&f);
}

static void test_retire_without_subscribers(void **state) {
  (void)state;
  fixture_open(&f, 0);
  slc__line_close(f.channel.table, f.line, HOLDS);
  for (uint64_t i = 0; i < 100; i++) {
    send_ok(&f.pub, i);
    assert_int_equal(collect(&f.pub, &f.told), 1);
  }
  fixture_close(&f);
}

static void test_retire_leaves_what_the_channel_keeps(void **state) {
  (void)state;
  enum { KEEP = 5 };
  fixture_open(&f, KEEP);
  for (uint64_t i = 0; i < 100; i++) {
    send_ok(&f.pub, i);
    receive(&f.sub);
    assert_int_equal(collect(&f.pub, &f.told), i < KEEP ? 0 : 1);
    if (i >= KEEP) assert_int_equal(f.told.times[i - KEEP], 1);
  }
  fixture_close(&f);
}

/* Nobody reads: they go when their slots are needed, and the publisher never waits. */
static void test_retire_what_nobody_reads(void **state) {
  (void)state;
  enum { MESSAGES = 5000 };
  fixture_open(&f, 0);
  for (uint64_t i = 0; i < MESSAGES; i++) send_ok(&f.pub, i); /* nor does it ask: all are kept for it */
  collect(&f.pub, &f.told);
  assert_true(f.told.total >= MESSAGES - SLOTS);
  assert_true(f.told.total < MESSAGES);
  slc__line_close(f.channel.table, f.line, HOLDS);
  collect(&f.pub, &f.told);
  assert_int_equal(f.told.total, MESSAGES);
  fixture_close(&f);
}

static void test_retire_what_is_skipped(void **state) {
  (void)state;
  enum { MESSAGES = 6000 };
  fixture_open(&f, 0);
  for (uint64_t i = 0; i < MESSAGES; i++) {
    send_ok(&f.pub, i);
    if (i % 7 != 6) continue;
    struct slc__taken taken;
    assert_int_equal(slc__sub_take_newest(&f.sub, &taken), SLC_OK);
    assert_int_equal(taken.ordinal, i);
    collect(&f.pub, &f.told);
    assert_int_equal(f.told.total, i); /* all but the one that is held */
    assert_int_equal(slc__sub_release(&f.sub, taken.hold), SLC_OK);
    collect(&f.pub, &f.told);
    assert_int_equal(f.told.total, i + 1);
  }
  fixture_close(&f);
}

/* A newcomer gates everything until it has its start. */
static void test_retire_with_late_joiners(void **state) {
  (void)state;
  fixture_open(&f, 0);
  for (uint64_t i = 0; i < 10; i++) send_ok(&f.pub, i);
  for (uint64_t i = 0; i < 5; i++) receive(&f.sub);
  uint32_t line = test_channel_admit(&f.channel, HOLDS, false);
  f.channel.control.page->epoch = ++f.channel.membership.epoch;
  assert_int_equal(collect(&f.pub, &f.told), 0);
  struct slc__sub late;
  test_channel_subscriber(&f.channel, &late, line, HOLDS, SLC__START_OLDEST);
  for (uint64_t i = 5; i < 10; i++) receive(&f.sub);
  assert_int_equal(collect(&f.pub, &f.told), 0); /* nothing had been evicted: it begins at the first */
  for (uint64_t i = 0; i < 10; i++) {
    receive(&late);
    assert_int_equal(collect(&f.pub, &f.told), 1);
    assert_int_equal(f.told.times[i], 1);
  }
  fixture_close(&f);
}

/* Another publisher evicts and reuses: each of the two is told of its own, and of all its own. */
static void test_retire_beside_others(void **state) {
  (void)state;
  enum { MESSAGES = 8000 };
  static struct told others;
  static uint8_t owner[MESSAGES_MAX];
  fixture_open(&f, 0);
  memset(&others, 0, sizeof others);
  struct slc__pub other, plain;
  test_channel_publisher(&f.channel, &other, 2);
  test_channel_publisher(&f.channel, &plain, 3);
  assert_int_equal(slc__retire_open(&other), SLC_OK);
  uint32_t random = 7;
  size_t expected = 0, expected_others = 0;
  for (uint64_t i = 0; i < MESSAGES; i++) {
    random = random * 1664525 + 1013904223;
    uint32_t who = random >> 28;
    owner[send_ok(who < 6 ? &f.pub : who < 12 ? &other : &plain, i)] = who < 6 ? 1 : who < 12 ? 2 : 3;
    expected += who < 6;
    expected_others += who >= 6 && who < 12;
    struct slc__taken taken;
    if ((random >> 16 & 1) != 0 && slc__sub_take(&f.sub, &taken) == SLC_OK)
      assert_int_equal(slc__sub_release(&f.sub, taken.hold), SLC_OK);
    if ((random >> 17 & 31) == 0) collect(&f.pub, &f.told);
    if ((random >> 22 & 31) == 0) collect(&other, &others);
  }
  slc__line_close(f.channel.table, f.line, HOLDS);
  collect(&f.pub, &f.told);
  collect(&other, &others);
  assert_int_equal(f.told.total, expected);
  assert_int_equal(others.total, expected_others);
  for (uint64_t i = 0; i < MESSAGES; i++) {
    assert_int_equal(f.told.times[i], owner[i] == 1);
    assert_int_equal(others.times[i], owner[i] == 2);
  }
  pub_close(&other);
  pub_close(&plain);
  fixture_close(&f);
}

/* ---- everything at once ---- */

enum { SUBS = 4 };
struct reader {
  struct slc__sub sub;
  uint32_t line;
  bool is_there;
  struct slc__taken held[HOLDS + 1]; /* one more, for a take that is refused */
  uint32_t held_count;
};

static void reader_step(struct test_channel *channel, struct reader *reader, uint32_t random) {
  if (!reader->is_there) {
    slc__line_open(channel->table, reader->line, HOLDS);
    channel->control.page->epoch = ++channel->membership.epoch;
    test_channel_subscriber(channel, &reader->sub, reader->line, HOLDS,
                            (random & 1) != 0 ? SLC__START_OLDEST : SLC__START_NEWEST);
    reader->is_there = true;
    reader->held_count = 0;
    return;
  }
  struct slc__taken *next = &reader->held[reader->held_count];
  uint32_t what = random % 64;
  if (what == 0) { /* dies with what it holds, and the broker clears its line */
    slc__line_close(channel->table, reader->line, HOLDS);
    reader->is_there = false;
  } else if (what < 9) {
    reader->held_count += slc__sub_take_newest(&reader->sub, next) == SLC_OK;
  } else if (what < 33) {
    reader->held_count += slc__sub_take(&reader->sub, next) == SLC_OK;
  } else if (what < 57 && reader->held_count > 0) {
    assert_int_equal(slc__sub_release(&reader->sub, reader->held[--reader->held_count].hold), SLC_OK);
  } /* else it is slow */
}

/* Held messages are whole, and none of them has been told. */
static void check_held(const struct reader *reader, const struct told *told) {
  struct test_message message;
  for (uint32_t i = 0; reader->is_there && i < reader->held_count; i++) {
    assert_true(test_message_read(&reader->sub, &reader->held[i], &message));
    assert_int_equal(told->times[reader->held[i].ordinal], 0);
  }
}

static void test_retire_whatever_happens(void **state) {
  (void)state;
  static struct reader readers[SUBS];
  fixture_open(&f, 2);
  memset(readers, 0, sizeof readers);
  slc__line_close(f.channel.table, f.line, HOLDS);
  for (uint32_t s = 0; s < SUBS; s++) {
    readers[s].line = test_channel_admit(&f.channel, HOLDS, false);
    slc__line_close(f.channel.table, readers[s].line, HOLDS);
  }
  uint32_t random = 99;
  uint64_t sent = 0;
  while (sent < MESSAGES_MAX) {
    random = random * 1664525 + 1013904223;
    uint32_t what = random >> 24;
    if (what < 80) {
      struct slc__retired wish = {.ordinal = random % (sent + 1), .slot = f.told.slot[random % (sent + 1)]};
      uint64_t ordinal;
      if (what < 10 && slc__pub_loan_slot(&f.pub, &wish) == SLC_OK) {
        assert_int_equal(test_message_publish(&f.pub, wish.slot, sent, &ordinal), SLC_OK);
      } else {
        assert_int_equal(test_message_send(&f.pub, sent, &ordinal), SLC_OK);
      }
      sent++;
    } else if (what < 100) {
      collect(&f.pub, &f.told);
      for (uint32_t s = 0; s < SUBS; s++) check_held(&readers[s], &f.told);
    } else {
      reader_step(&f.channel, &readers[what % SUBS], random >> 8 & 0xffff);
    }
  }
  for (uint32_t s = 0; s < SUBS; s++) slc__line_close(f.channel.table, readers[s].line, HOLDS);
  collect(&f.pub, &f.told);
  assert_int_equal(f.told.total, MESSAGES_MAX - 2); /* the two newest are kept */
  fixture_close(&f);
}

/* ---- the very slot ---- */

static void test_loan_slot_again(void **state) {
  (void)state;
  fixture_open(&f, 0);
  uint64_t sequence = 0;
  struct slc__retired mine = {.ordinal = send_ok(&f.pub, sequence++)};
  assert_int_equal(slc__pub_loan_slot(&f.pub, &mine), SLC_STALE); /* it is in the log */
  struct slc__taken taken;
  take_ok(&f.sub, &taken);
  mine.slot = taken.slot;
  assert_int_equal(slc__pub_loan_slot(&f.pub, &mine), SLC_STALE);
  slc__retire_look(&f.pub);
  assert_int_equal(slc__pub_loan_slot(&f.pub, &mine), SLC_STALE); /* evicted, and held */
  assert_int_equal(slc__sub_release(&f.sub, taken.hold), SLC_OK);
  assert_int_equal(collect(&f.pub, &f.told), 1);
  for (int i = 0; i < 100; i++) { /* again and again in the same slot */
    assert_int_equal(slc__pub_loan_slot(&f.pub, &mine), SLC_OK);
    assert_int_equal(slc__pub_loan_slot(&f.pub, &mine), SLC_STALE); /* on loan */
    assert_int_equal(test_message_publish(&f.pub, mine.slot, sequence++, &mine.ordinal), SLC_OK);
    take_ok(&f.sub, &taken);
    assert_int_equal(taken.slot, mine.slot);
    assert_int_equal(slc__sub_release(&f.sub, taken.hold), SLC_OK);
    assert_int_equal(collect(&f.pub, &f.told), 1);
  }
  const struct slc__retired before = {.ordinal = mine.ordinal - 1, .slot = mine.slot};
  const struct slc__retired no_slot = {.ordinal = mine.ordinal, .slot = SLOTS};
  const struct slc__retired no_ordinal = {.ordinal = UINT64_MAX, .slot = mine.slot};
  assert_int_equal(slc__pub_loan_slot(&f.pub, &before), SLC_STALE);
  assert_int_equal(slc__pub_loan_slot(&f.pub, &no_slot), SLC_STALE);
  assert_int_equal(slc__pub_loan_slot(&f.pub, &no_ordinal), SLC_STALE);
  for (int i = 0; i < 3 * SLOTS; i++) { /* used by other messages */
    send_ok(&f.pub, sequence++);
    receive(&f.sub);
    slc__retire_look(&f.pub);
  }
  assert_int_equal(slc__pub_loan_slot(&f.pub, &mine), SLC_STALE);
  fixture_close(&f);
}

/* What the publisher has in hand already counts, too: those that it evicted for its own use. */
static void test_loan_slot_in_hand(void **state) {
  (void)state;
  fixture_open(&f, 0);
  slc__line_close(f.channel.table, f.line, HOLDS);
  uint32_t in_hand = 0;
  for (uint64_t i = 0; i < 300; i++) {
    send_ok(&f.pub, i);
    if (i % (2 * SLOTS) != 0) continue;
    collect(&f.pub, &f.told);
    for (uint64_t n = i > SLOTS ? i - SLOTS : 0; n <= i && f.pub.free_count > 0; n++) {
      const struct slc__retired wish = {.ordinal = n, .slot = f.told.slot[n]};
      uint32_t before = f.pub.free_count;
      if (slc__pub_loan_slot(&f.pub, &wish) != SLC_OK) continue;
      in_hand += f.pub.free_count < before;
      slc__pub_discard(&f.pub, wish.slot);
    }
  }
  assert_true(in_hand > 0);
  fixture_close(&f);
}

/* ---- who rings whom ---- */

static int bell_count(int fd) {
  uint8_t byte;
  int count = 0;
  while (recv(fd, &byte, sizeof byte, MSG_DONTWAIT) == 1) count++;
  return count;
}

struct bells {
  struct slc__watcher list[2];
  struct slc__watchers set;
  int fd[2]; /* of publishers 1 and 2 */
  uint64_t asked;
};

/* The broker has sent the set, and whoever needs it finds it. */
static void bells_sync(void *ctx, struct slc__watch *watch, uint64_t number) {
  struct bells *bells = ctx;
  bells->asked = number;
  watch->set = &bells->set;
}

static void bells_open(struct bells *bells, struct test_channel *channel) {
  memset(bells, 0, sizeof *bells);
  for (uint32_t i = 0; i < 2; i++) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    bells->fd[i] = pair[0];
    bells->list[i] = (struct slc__watcher){.publisher = i + 1, .fd = pair[1]};
  }
  bells->set = (struct slc__watchers){.number = 3, .count = 2, .list = bells->list};
  channel->control.page->watchers = bells->set.number;
  channel->control.page->watched = 2;
}

static void bells_close(const struct bells *bells) {
  for (int i = 0; i < 2; i++) {
    close(bells->fd[i]);
    close(bells->list[i].fd);
  }
}

static void bells_use(struct bells *bells, struct slc__watch *watch) {
  watch->sync = bells_sync;
  watch->ctx = bells;
}

static void test_ring_on_release(void **state) {
  (void)state;
  fixture_open(&f, 0);
  struct bells bells;
  bells_open(&bells, &f.channel);
  bells_use(&bells, &f.sub.watch);
  struct slc__pub other;
  test_channel_publisher(&f.channel, &other, 2);
  send_ok(&f.pub, 0);
  receive(&f.sub);
  assert_int_equal(bells.asked, 0); /* nobody waits */
  slc__pub_arm(&f.pub, SLC__WANTS_EVICTED);
  for (uint64_t i = 1; i < 4; i++) send_ok(&f.pub, i);
  struct slc__taken taken;
  take_ok(&f.sub, &taken);
  assert_int_equal(bell_count(bells.fd[0]), 0);
  assert_int_equal(slc__sub_release(&f.sub, taken.hold), SLC_OK);
  assert_int_equal(bells.asked, 3);
  assert_int_equal(bell_count(bells.fd[0]), 1);
  assert_int_equal(bell_count(bells.fd[1]), 0);
  receive(&f.sub); /* rung once per arming */
  assert_int_equal(bell_count(bells.fd[0]), 0);
  slc__pub_arm(&f.pub, SLC__WANTS_EVICTED);
  slc__pub_arm(&other, SLC__WANTS_SLOT);
  assert_int_equal(slc__sub_take_newest(&f.sub, &taken), SLC_OK);
  assert_int_equal(slc__sub_release(&f.sub, taken.hold), SLC_OK);
  assert_int_equal(bell_count(bells.fd[0]), 1);
  assert_int_equal(bell_count(bells.fd[1]), 1);
  f.channel.control.page->watched = 0;
  slc__pub_arm(&f.pub, SLC__WANTS_EVICTED);
  send_ok(&f.pub, 4);
  uint64_t released = f.channel.table->released;
  receive(&f.sub);
  assert_int_equal(bell_count(bells.fd[0]), 0);
  assert_int_equal(f.channel.table->released, released);
  pub_close(&other);
  bells_close(&bells);
  fixture_close(&f);
}

/* A hold that comes to nothing may have been seen by the publisher's scan. */
static void test_ring_after_a_hold_that_came_to_nothing(void **state) {
  (void)state;
  fixture_open(&f, 0);
  struct bells bells;
  bells_open(&bells, &f.channel);
  bells_use(&bells, &f.sub.watch);
  send_ok(&f.pub, 0);
  slc__buffers_prefix(&f.channel.buffers, slc__log_slot(f.channel.control.log[0]))->size = 0;
  slc__pub_arm(&f.pub, SLC__WANTS_EVICTED);
  struct slc__taken taken;
  assert_int_equal(slc__sub_take(&f.sub, &taken), SLC_CORRUPT);
  assert_true(bell_count(bells.fd[0]) > 0);
  assert_int_equal(collect(&f.pub, &f.told), 1);
  bells_close(&bells);
  fixture_close(&f);
}

/* Whoever evicts a message rings its publisher, itself included; and nobody else. */
static void test_ring_on_eviction(void **state) {
  (void)state;
  fixture_open(&f, 0);
  struct bells bells;
  bells_open(&bells, &f.channel);
  struct slc__pub other;
  test_channel_publisher(&f.channel, &other, 2);
  bells_use(&bells, &other.watch);
  bells_use(&bells, &f.pub.watch);
  slc__pub_arm(&f.pub, SLC__WANTS_EVICTED);
  slc__pub_arm(&other, SLC__WANTS_EVICTED);
  send_ok(&f.pub, 0);
  assert_int_equal(bell_count(bells.fd[0]), 0);
  for (uint64_t i = 0; i < SLOTS; i++) send_ok(&other, i); /* needs the slot */
  assert_int_equal(bell_count(bells.fd[0]), 1);
  assert_int_equal(bell_count(bells.fd[1]), 1); /* it evicted one of its own, too */
  assert_int_equal(collect(&f.pub, &f.told), 1);
  slc__pub_arm(&f.pub, SLC__WANTS_EVICTED);
  for (uint64_t i = 1; i < 2 * SLOTS; i++) send_ok(&f.pub, i);
  assert_int_equal(bell_count(bells.fd[0]), 1);
  pub_close(&other);
  bells_close(&bells);
  fixture_close(&f);
}

/* What is published can make others retired. */
static void test_ring_on_publish(void **state) {
  (void)state;
  fixture_open(&f, 1);
  struct bells bells;
  bells_open(&bells, &f.channel);
  struct slc__pub other;
  test_channel_publisher(&f.channel, &other, 2);
  bells_use(&bells, &other.watch);
  send_ok(&f.pub, 0);
  receive(&f.sub);
  assert_int_equal(collect(&f.pub, &f.told), 0); /* kept */
  slc__pub_arm(&f.pub, SLC__WANTS_EVICTED);
  send_ok(&other, 0);
  assert_int_equal(bell_count(bells.fd[0]), 1);
  assert_int_equal(collect(&f.pub, &f.told), 1);
  pub_close(&other);
  bells_close(&bells);
  fixture_close(&f);

  fixture_open(&f, 0);
  bells_open(&bells, &f.channel);
  bells_use(&bells, &f.pub.watch);
  slc__pub_arm(&f.pub, SLC__WANTS_EVICTED);
  send_ok(&f.pub, 0);
  assert_int_equal(bell_count(bells.fd[0]), 0); /* somebody has still to read it */
  slc__line_close(f.channel.table, f.line, HOLDS);
  send_ok(&f.pub, 1);
  assert_int_equal(bell_count(bells.fd[0]), 1); /* nobody has */
  bells_close(&bells);
  fixture_close(&f);
}

/* A slot that one publisher gives up is what another waits for. */
static void test_ring_on_a_slot_given_up(void **state) {
  (void)state;
  fixture_open(&f, 0);
  struct bells bells;
  bells_open(&bells, &f.channel);
  struct slc__pub other;
  test_channel_publisher(&f.channel, &other, 2);
  bells_use(&bells, &other.watch);
  slc__pub_arm(&f.pub, SLC__WANTS_SLOT);
  send_ok(&other, 0);
  assert_int_equal(bell_count(bells.fd[0]), 0);
  slc__pub_leave(&other);
  assert_int_equal(bell_count(bells.fd[0]), 1);
  slc__pub_deinit(&other);
  bells_close(&bells);
  fixture_close(&f);
}

static void test_needs_subscriber(void **state) {
  (void)state;
  struct test_channel channel;
  struct slc__pub pub;
  uint32_t slot;
  test_channel_init(&channel, SLOTS, 200, 1, 2);
  test_channel_publisher(&channel, &pub, 1);
  assert_int_equal(slc__pub_loan(&pub, &slot), SLC_OK);
  slc__pub_discard(&pub, slot);
  pub.needs_subscriber = true;
  assert_int_equal(slc__pub_loan(&pub, &slot), SLC_WOULD_BLOCK);
  assert_false(slc__pub_ready(&pub));
  assert_int_equal(slc__pub_wait(&pub, 0, 0), SLC_TIMED_OUT);
  uint32_t line = test_channel_admit(&channel, 1, false);
  atomic_store(&channel.control.page->subscribers, 0); /* admitted, and its first message not settled */
  assert_int_equal(slc__pub_loan(&pub, &slot), SLC_WOULD_BLOCK);
  atomic_store(&channel.control.page->subscribers, 1);
  assert_int_equal(slc__pub_wait(&pub, 0, 0), SLC_OK);
  assert_int_equal(slc__pub_loan(&pub, &slot), SLC_OK);
  slc__line_close(channel.table, line, 1);
  assert_int_equal(test_message_publish(&pub, slot, 0, &(uint64_t){0}), SLC_OK); /* what is on loan goes out */
  assert_int_equal(slc__pub_loan(&pub, &slot), SLC_WOULD_BLOCK);
  pub_close(&pub);
  test_channel_deinit(&channel);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_retire_when_read_and_released),
      cmocka_unit_test(test_retire_passes_what_is_held),
      cmocka_unit_test(test_retire_without_subscribers),
      cmocka_unit_test(test_retire_leaves_what_the_channel_keeps),
      cmocka_unit_test(test_retire_what_nobody_reads),
      cmocka_unit_test(test_retire_what_is_skipped),
      cmocka_unit_test(test_retire_with_late_joiners),
      cmocka_unit_test(test_retire_beside_others),
      cmocka_unit_test(test_retire_whatever_happens),
      cmocka_unit_test(test_loan_slot_again),
      cmocka_unit_test(test_loan_slot_in_hand),
      cmocka_unit_test(test_ring_on_release),
      cmocka_unit_test(test_ring_after_a_hold_that_came_to_nothing),
      cmocka_unit_test(test_ring_on_eviction),
      cmocka_unit_test(test_ring_on_publish),
      cmocka_unit_test(test_ring_on_a_slot_given_up),
      cmocka_unit_test(test_needs_subscriber),
  };
  return cmocka_run_group_tests_name("slotlog_retire", tests, NULL, NULL);
}

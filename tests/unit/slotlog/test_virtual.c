/* Virtual channels in one log: their own ordinals, what a subscriber to one or to all takes, and what it has lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/virtual.h"
#include "shm/words.h"
#include "slotcast/status.h"
#include "support/channel.h"

enum { VIRTUAL_MAX = 1000, SLOTS = 64, HOLDS = 4, SEEN_MAX = VIRTUAL_MAX + 1 };

/* A payload says which message of which virtual channel it is. */
struct content {
  uint32_t id;
  uint32_t base; /* of whom it is that has the id */
  uint64_t ordinal;
};

/* ---- a multiplexer, a publisher that changes its virtual channel, subscribers ---- */

struct mux {
  struct test_channel channel;
  struct slc__pub pub;
  uint64_t bases[SEEN_MAX];
  uint64_t sent[SEEN_MAX]; /* of the one that has the id */
};

static void mux_init(struct mux *mux, uint32_t slots, bool reliable) {
  *mux = (struct mux){0};
  test_multiplexer_init(&mux->channel, slots, 64, reliable, 8, VIRTUAL_MAX);
}

static void mux_open(struct mux *mux) {
  test_channel_publisher(&mux->channel, &mux->pub, 1);
}

static void mux_deinit(struct mux *mux) {
  if (mux->pub.free_slots != NULL) {
    slc__pub_leave(&mux->pub);
    slc__pub_deinit(&mux->pub);
  }
  test_channel_check_slots(&mux->channel);
  test_channel_deinit(&mux->channel);
}

static int publish_flagged(struct slc__pub *pub, struct content content, uint32_t flags) {
  uint32_t slot;
  uint64_t ordinal;
  int status = slc__pub_loan(pub, &slot);
  if (status != SLC_OK) return status;
  memcpy(slc__pub_payload(pub, slot, sizeof content), &content, sizeof content);
  const struct slc__sending sending = {.size = sizeof content, .flags = flags};
  return slc__pub_publish(pub, slot, &sending, &ordinal);
}

static int publish(struct slc__pub *pub, struct content content) {
  return publish_flagged(pub, content, 0);
}

static void mux_send(struct mux *mux, uint32_t id, uint64_t messages) {
  slc__pub_set_virtual(&mux->pub, id, mux->bases[id]);
  for (; messages > 0; messages--) {
    struct content content = {.id = id, .base = (uint32_t)mux->bases[id], .ordinal = ++mux->sent[id]};
    assert_int_equal(publish(&mux->pub, content), SLC_OK);
  }
}

struct reader {
  struct slc__sub sub;
  struct slc__virtual_view view;
  struct slc__virtual_count counts[SEEN_MAX];
  uint64_t told[SEEN_MAX]; /* lost, by the callback */
  uint64_t told_all;
  uint64_t expected[SEEN_MAX]; /* the next ordinal, counting those told as lost */
  uint64_t bases[SEEN_MAX];
};

static void note_lost(void *ctx, uint32_t id, uint64_t first, uint64_t count) {
  struct reader *reader = ctx;
  assert_true(id >= 1 && id <= VIRTUAL_MAX);
  assert_true(count > 0);
  if (reader->expected[id] != 0) assert_int_equal(first + 1, reader->expected[id]);
  reader->expected[id] = first + count + 1;
  reader->told[id] += count;
  reader->told_all += count;
}

/* Admitted before the publisher opens, which learns of it in no other way here. */
static struct reader *reader_new(struct mux *mux, uint32_t line, uint32_t wanted, enum slc__start start) {
  struct reader *reader = calloc(1, sizeof *reader);
  assert_non_null(reader);
  test_channel_subscriber(&mux->channel, &reader->sub, line, HOLDS, start);
  reader->sub.on_drop = note_lost;
  reader->sub.drop_ctx = reader;
  reader->view = (struct slc__virtual_view){.wanted = wanted, .base = mux->bases[wanted], .counts = reader->counts};
  if (wanted != 0) reader->counts[0].base = mux->bases[wanted];
  slc__sub_set_view(&reader->sub, &reader->view);
  return reader;
}

static uint32_t admit(struct mux *mux) {
  return test_channel_admit(&mux->channel, HOLDS, mux->channel.geometry.reliable != 0);
}

/* Takes the next message, checks it against what it says of itself and against those before.  0: there is none. */
static uint32_t reader_take(struct reader *reader) {
  struct slc__taken taken;
  struct content content;
  int status = slc__sub_take(&reader->sub, &taken);
  if (status == SLC_EMPTY) return 0;
  assert_int_equal(status, SLC_OK);
  struct slc__virtual_name name = slc__virtual_name(&reader->sub, taken.slot);
  memcpy(&content, taken.payload, sizeof content);
  assert_int_equal(taken.size, sizeof content);
  assert_int_equal(name.id, content.id);
  assert_int_equal(name.ordinal, content.ordinal);
  if (content.base != reader->bases[name.id]) { /* another has the id now */
    reader->expected[name.id] = 0;
    reader->bases[name.id] = content.base;
  }
  if (reader->expected[name.id] != 0) assert_int_equal(content.ordinal, reader->expected[name.id]);
  reader->expected[name.id] = content.ordinal + 1;
  assert_int_equal(slc__sub_release(&reader->sub, taken.hold), SLC_OK);
  return name.id;
}

static uint64_t reader_drain(struct reader *reader) {
  uint64_t taken = 0;
  while (reader_take(reader) != 0) taken++;
  return taken;
}

static const struct slc__virtual_count *count_of(const struct reader *reader, uint32_t id) {
  const struct slc__virtual_count *count = slc__virtual_count_of(&reader->sub, id);
  assert_non_null(count);
  return count;
}

/* ---- ordinals ---- */

static void test_virtual_ordinals_are_their_own(void **state) {
  (void)state;
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  uint32_t lines[2] = {admit(&mux), admit(&mux)};
  mux_open(&mux);
  struct reader *all = reader_new(&mux, lines[0], 0, SLC__START_NEWEST);
  struct reader *one = reader_new(&mux, lines[1], 7, SLC__START_NEWEST);
  for (int i = 0; i < 1000; i++) {
    mux_send(&mux, 7, 1);
    mux_send(&mux, 1000, 2);
    mux_send(&mux, 1, 1);
    assert_int_equal(reader_drain(all), 4);
    assert_int_equal(reader_take(one), 7);
    assert_int_equal(reader_take(one), 0);
  }
  assert_int_equal(count_of(all, 1000)->received, 2000);
  assert_int_equal(count_of(all, 7)->received, 1000);
  assert_int_equal(count_of(one, 7)->received, 1000);
  assert_null(slc__virtual_count_of(&one->sub, 1));
  assert_null(slc__virtual_count_of(&all->sub, VIRTUAL_MAX + 1));
  assert_int_equal(all->told_all + one->told_all, 0);
  free(all);
  free(one);
  mux_deinit(&mux);
}

/* ---- losses ---- */

/* Every ordinal of every virtual channel was received or told as lost, also of those that have fallen silent. */
static void test_virtual_drops_are_exact(void **state) {
  (void)state;
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  uint32_t lines[2] = {admit(&mux), admit(&mux)};
  mux_open(&mux);
  struct reader *all = reader_new(&mux, lines[0], 0, SLC__START_NEWEST);
  struct reader *one = reader_new(&mux, lines[1], 3, SLC__START_NEWEST);
  uint64_t total = 0;
  srand(1);
  for (int i = 0; i < 30000; i++) {
    uint32_t id = 1 + (uint32_t)(rand() % (i < 15000 ? VIRTUAL_MAX : VIRTUAL_MAX / 2));
    uint32_t messages = (uint32_t)(rand() % 3);
    mux_send(&mux, id, messages);
    total += messages;
    if (rand() % 4 == 0) reader_take(all);
    if (rand() % 400 == 0) reader_take(one);
  }
  mux_send(&mux, 3, 1);
  mux_send(&mux, 4, 2 * SLOTS); /* and so the last of 3 is lost without a successor */
  total += 1 + 2 * SLOTS;
  reader_drain(all);
  reader_drain(one);
  uint64_t received = 0;
  for (uint32_t id = 1; id <= VIRTUAL_MAX; id++) {
    const struct slc__virtual_count *count = count_of(all, id);
    assert_int_equal(count->received + count->dropped, mux.sent[id]);
    assert_int_equal(count->dropped, all->told[id]);
    received += count->received;
  }
  assert_true(all->told_all > 0);
  assert_int_equal(received + all->sub.dropped, total);
  assert_int_equal(all->sub.dropped, all->told_all);
  assert_true(one->told[3] > 0);
  assert_int_equal(count_of(one, 3)->received + one->told[3], mux.sent[3]);
  assert_int_equal(one->sub.dropped, one->told[3]);
  assert_int_equal(one->told_all, one->told[3]);
  free(all);
  free(one);
  mux_deinit(&mux);
}

static void test_virtual_drops_count_from_the_start(void **state) {
  (void)state;
  static const struct {
    enum slc__start start;
    uint64_t promised; /* of the ten messages of id 5 that are there before */
  } cases[] = {{SLC__START_NEWEST, 0}, {SLC__START_OLDEST, 0}, {SLC__START_LAST, 0}, {SLC__START_FIRST, 10}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    for (uint32_t wanted = 0; wanted <= 5; wanted += 5) {
      struct mux mux;
      mux_init(&mux, SLOTS, false);
      uint32_t line = admit(&mux);
      mux_open(&mux);
      mux_send(&mux, 6, 5);
      mux_send(&mux, 5, 10);
      struct reader *reader = reader_new(&mux, line, wanted, cases[i].start);
      mux_send(&mux, 5, 100);
      mux_send(&mux, 6, 100);
      reader_drain(reader);
      const struct slc__virtual_count *count = count_of(reader, 5);
      assert_int_equal(count->received + count->dropped, 100 + cases[i].promised);
      assert_int_equal(count->dropped, reader->told[5]);
      free(reader);
      mux_deinit(&mux);
    }
  }
}

/* Who has begun with a message that was there before it came loses from then on what a plain subscriber would. */
static void test_virtual_drops_count_from_the_first_taken(void **state) {
  (void)state;
  for (uint32_t wanted = 0; wanted <= 5; wanted += 5) {
    struct mux mux;
    mux_init(&mux, SLOTS, false);
    uint32_t line = admit(&mux);
    mux_open(&mux);
    mux_send(&mux, 5, 3);
    mux_send(&mux, 6, 5);
    mux_send(&mux, 5, 7);
    struct reader *reader = reader_new(&mux, line, wanted, SLC__START_OLDEST);
    assert_int_equal(reader_take(reader), 5);
    assert_int_equal(reader_take(reader), 5);
    mux_send(&mux, 6, 100);
    mux_send(&mux, 5, 1);
    reader_drain(reader);
    assert_int_equal(count_of(reader, 5)->received, 3);
    assert_int_equal(count_of(reader, 5)->dropped, 8);
    assert_int_equal(reader->told[5], 8);
    /* Of 6 it has begun with none of those. */
    if (wanted == 0) assert_int_equal(count_of(reader, 6)->received + count_of(reader, 6)->dropped, 100);
    free(reader);
    mux_deinit(&mux);
  }
}

static void test_virtual_start_at_an_ordinal_to_come(void **state) {
  (void)state;
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  uint32_t line = admit(&mux);
  mux_open(&mux);
  mux_send(&mux, 5, 10);
  struct reader *reader = calloc(1, sizeof *reader);
  assert_non_null(reader);
  test_channel_subscriber(&mux.channel, &reader->sub, line, HOLDS, SLC__START_OLDEST);
  slc__sub_start_at(&reader->sub, 20);
  reader->sub.on_drop = note_lost;
  reader->sub.drop_ctx = reader;
  reader->view = (struct slc__virtual_view){.counts = reader->counts};
  slc__sub_set_view(&reader->sub, &reader->view);
  mux_send(&mux, 5, 10);
  assert_int_equal(reader_drain(reader), 0);
  mux_send(&mux, 5, 3);
  assert_int_equal(reader_drain(reader), 3);
  assert_int_equal(count_of(reader, 5)->dropped, 0);
  mux_send(&mux, 5, 3 * SLOTS);
  reader_drain(reader);
  assert_int_equal(count_of(reader, 5)->received + count_of(reader, 5)->dropped, 3 + 3 * SLOTS);
  free(reader);
  mux_deinit(&mux);
}

/* What is skipped for the newest is no loss; what is lost afterwards is. */
static void test_virtual_newest_skips(void **state) {
  (void)state;
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  uint32_t lines[2] = {admit(&mux), admit(&mux)};
  mux_open(&mux);
  struct reader *readers[2] = {reader_new(&mux, lines[0], 0, SLC__START_NEWEST),
                               reader_new(&mux, lines[1], 2, SLC__START_NEWEST)};
  mux_send(&mux, 1, 5);
  mux_send(&mux, 2, 5);
  mux_send(&mux, 1, 3);
  struct slc__taken taken;
  assert_int_equal(slc__sub_take_newest(&readers[0]->sub, &taken), SLC_OK);
  assert_int_equal(slc__virtual_name(&readers[0]->sub, taken.slot).id, 1);
  assert_int_equal(slc__virtual_name(&readers[0]->sub, taken.slot).ordinal, 8);
  slc__sub_release(&readers[0]->sub, taken.hold);
  assert_int_equal(slc__sub_take_newest(&readers[1]->sub, &taken), SLC_OK);
  assert_int_equal(slc__virtual_name(&readers[1]->sub, taken.slot).id, 2);
  assert_int_equal(slc__virtual_name(&readers[1]->sub, taken.slot).ordinal, 5);
  slc__sub_release(&readers[1]->sub, taken.hold);
  for (int i = 0; i < 2; i++) readers[i]->expected[1] = readers[i]->expected[2] = 0;
  mux_send(&mux, 2, 2);
  mux_send(&mux, 1, 2 * SLOTS);
  mux_send(&mux, 2, 1);
  for (int i = 0; i < 2; i++) {
    reader_drain(readers[i]);
    assert_int_equal(count_of(readers[i], 2)->dropped, 2);
    assert_int_equal(count_of(readers[i], 2)->received, 2 - (uint64_t)(i == 0)); /* id 2 was not what it took */
    free(readers[i]);
  }
  mux_deinit(&mux);
}

/* ---- filters ---- */

static void test_virtual_take_many_and_find(void **state) {
  (void)state;
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  uint32_t line = admit(&mux);
  mux_open(&mux);
  struct reader *one = reader_new(&mux, line, 9, SLC__START_NEWEST);
  mux_send(&mux, 8, 3); /* log ordinals 0 .. 2 */
  mux_send(&mux, 9, 3);
  mux_send(&mux, 8, 2);
  mux_send(&mux, 9, 1);
  struct slc__taken taken[HOLDS];
  size_t count = 0, all = 0;
  uint64_t expected[HOLDS] = {3, 4, 5, 8};
  while (all < HOLDS) {
    assert_int_equal(slc__sub_take_many(&one->sub, taken + all, HOLDS - all, &count), SLC_OK);
    all += count;
  }
  for (size_t i = 0; i < HOLDS; i++) {
    assert_int_equal(taken[i].ordinal, expected[i]);
    assert_int_equal(slc__virtual_name(&one->sub, taken[i].slot).ordinal, i + 1);
    slc__sub_release(&one->sub, taken[i].hold);
  }
  assert_int_equal(slc__sub_take_many(&one->sub, taken, HOLDS, &count), SLC_EMPTY);
  assert_int_equal(slc__sub_find(&one->sub, 0, false, taken), SLC_GONE); /* another's */
  assert_int_equal(slc__sub_find(&one->sub, 0, true, taken), SLC_OK);
  assert_int_equal(taken[0].ordinal, 3);
  slc__sub_release(&one->sub, taken[0].hold);
  assert_int_equal(count_of(one, 9)->received, 4); /* what is found is not taken */
  free(one);
  mux_deinit(&mux);
}

/* The message that the channel begins with is hidden, and no loss. */
static void test_virtual_hidden_beginning(void **state) {
  (void)state;
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  uint32_t lines[2] = {admit(&mux), admit(&mux)};
  mux_open(&mux);
  struct reader *readers[2];
  for (uint32_t i = 0; i < 2; i++) {
    readers[i] = reader_new(&mux, lines[i], i == 0 ? 0 : 5, SLC__START_FIRST);
    readers[i]->sub.hidden_flags |= SLC__FLAG_ACTIVATION;
  }
  slc__pub_set_virtual(&mux.pub, 5, 0);
  assert_int_equal(publish_flagged(&mux.pub, (struct content){.id = 5, .ordinal = ++mux.sent[5]}, SLC__FLAG_ACTIVATION),
                   SLC_OK);
  for (int i = 0; i < 2; i++) assert_false(slc__sub_ready(&readers[i]->sub));
  mux_send(&mux, 6, 1);
  assert_false(slc__sub_ready(&readers[1]->sub));
  mux_send(&mux, 5, 2);
  for (int i = 0; i < 2; i++) {
    assert_true(slc__sub_ready(&readers[i]->sub));
    reader_drain(readers[i]);
    assert_int_equal(count_of(readers[i], 5)->received, 2);
    assert_int_equal(readers[i]->told_all, 0);
    free(readers[i]);
  }
  mux_deinit(&mux);
}

static void test_virtual_ready_and_lag(void **state) {
  (void)state;
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  uint32_t line = admit(&mux);
  mux_open(&mux);
  mux_send(&mux, 2, 4);
  struct reader *one = reader_new(&mux, line, 2, SLC__START_NEWEST);
  mux_send(&mux, 1, 10);
  assert_false(slc__sub_ready(&one->sub));
  assert_int_equal(slc__sub_lag(&one->sub), 0);
  mux_send(&mux, 2, 3);
  mux_send(&mux, 1, 4);
  assert_true(slc__sub_ready(&one->sub));
  assert_int_equal(slc__sub_lag(&one->sub), 3);
  assert_int_equal(reader_take(one), 2);
  assert_int_equal(slc__sub_lag(&one->sub), 2);
  assert_int_equal(slc__sub_wait(&one->sub, INT64_MAX, 0), SLC_OK);
  assert_int_equal(reader_drain(one), 2);
  assert_int_equal(slc__sub_lag(&one->sub), 0);
  mux_send(&mux, 1, 4);
  assert_int_not_equal(slc__sub_wait(&one->sub, 0, 1000), SLC_OK);
  free(one);
  mux_deinit(&mux);
}

/* ---- waking ---- */

static int rings(int fd) {
  char bytes[8];
  int count = 0;
  while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) count++;
  return count;
}

static void test_virtual_doorbell_is_silent_for_others(void **state) {
  (void)state;
  struct mux mux;
  int pair[2];
  mux_init(&mux, SLOTS, false);
  uint32_t line = admit(&mux);
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  struct slc__scan_doorbell doorbell = {.line = line, .fd = pair[1], .virtual_id = 2};
  mux.channel.membership.doorbells = &doorbell;
  mux.channel.membership.doorbell_count = 1;
  mux_open(&mux);
  struct reader *one = reader_new(&mux, line, 2, SLC__START_NEWEST);
  mux_send(&mux, 2, 1);
  assert_int_equal(rings(pair[0]), 0); /* not armed */
  assert_false(slc__sub_arm(&one->sub));
  assert_int_equal(reader_drain(one), 1);
  assert_true(slc__sub_arm(&one->sub));
  mux_send(&mux, 1, 5);
  mux_send(&mux, 3, 3 * SLOTS);
  assert_int_equal(rings(pair[0]), 0);
  mux_send(&mux, 2, 3);
  assert_int_equal(rings(pair[0]), 1); /* once for each arming */
  assert_int_equal(reader_drain(one), 3);
  assert_true(slc__sub_arm(&one->sub));
  mux_send(&mux, 2, 1);
  assert_int_equal(rings(pair[0]), 1);
  free(one);
  mux_deinit(&mux);
  close(pair[0]);
  close(pair[1]);
}

/* A reliable subscriber to one virtual channel sleeps while others fill the log: before the publisher has to wait, it
 * is told to go on past them. */
static void test_virtual_reliable_sleeper_is_nudged(void **state) {
  (void)state;
  struct mux mux;
  int pair[2];
  mux_init(&mux, SLOTS, true);
  uint32_t line = admit(&mux);
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  struct slc__scan_doorbell doorbell = {.line = line, .fd = pair[1], .virtual_id = 2};
  mux.channel.membership.doorbells = &doorbell;
  mux.channel.membership.doorbell_count = 1;
  mux_open(&mux);
  struct reader *one = reader_new(&mux, line, 2, SLC__START_NEWEST);
  mux_send(&mux, 2, 1);
  assert_int_equal(reader_drain(one), 1);
  assert_true(slc__sub_arm(&one->sub));
  slc__pub_set_virtual(&mux.pub, 1, 0);
  struct content content = {.id = 1};
  int status;
  do {
    content.ordinal = ++mux.sent[1];
    status = publish(&mux.pub, content);
  } while (status == SLC_OK);
  assert_int_equal(status, SLC_WOULD_BLOCK);
  mux.sent[1]--;
  assert_int_equal(rings(pair[0]), 1);
  assert_int_equal(reader_take(one), 0); /* goes past them */
  mux_send(&mux, 1, 10);
  mux_send(&mux, 2, 1);
  assert_int_equal(reader_take(one), 2);
  assert_int_equal(one->told_all, 0);
  free(one);
  mux_deinit(&mux);
  close(pair[0]);
  close(pair[1]);
}

/* ---- an id with a new owner ---- */

static void test_virtual_id_used_again(void **state) {
  (void)state;
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  uint32_t lines[3] = {admit(&mux), admit(&mux), admit(&mux)};
  mux_open(&mux);
  struct reader *all = reader_new(&mux, lines[0], 0, SLC__START_NEWEST);
  struct reader *former = reader_new(&mux, lines[1], 4, SLC__START_NEWEST);
  mux_send(&mux, 4, 10);
  reader_take(all);
  reader_take(former);
  mux_send(&mux, 1, 2 * SLOTS); /* the other nine are lost to both */
  mux.bases[4] = atomic_load(&mux.channel.control.maxima[4]);
  mux.sent[4] = 0;
  struct reader *latter = reader_new(&mux, lines[2], 4, SLC__START_FIRST);
  mux_send(&mux, 4, 5);
  reader_drain(all);
  assert_int_equal(all->told[4], 9);
  assert_int_equal(count_of(all, 4)->received, 5);
  assert_int_equal(count_of(all, 4)->dropped, 0);
  assert_int_equal(reader_drain(former), 0);
  assert_int_equal(former->sub.next, 10 + 2 * SLOTS + 5);
  assert_int_equal(reader_drain(latter), 5);
  assert_int_equal(count_of(latter, 4)->dropped, 0);
  free(all);
  free(former);
  free(latter);
  mux_deinit(&mux);
}

/* ---- many publishers, and their deaths ---- */

enum { PROCESSES = 6, SHARED_ID = 11, OWN_ID = 100, MESSAGES = 8000 };

/* Publishes in turn as a virtual channel that all share and as one of its own.  The content does not say the ordinal,
 * which only the log knows. */
static void publish_until_killed(struct mux *mux, uint32_t id, bool endlessly) {
  struct slc__pub pub;
  test_channel_publisher(&mux->channel, &pub, id);
  for (uint64_t i = 1; endlessly || i <= MESSAGES; i++) {
    slc__pub_set_virtual(&pub, i % 2 == 0 ? SHARED_ID : OWN_ID + id, 0);
    if (publish(&pub, (struct content){.id = id, .ordinal = i}) != SLC_OK) _exit(1);
  }
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
  _exit(0);
}

/* Received and lost make up 1, 2, 3 .. without a hole or a duplicate. */
static uint64_t drain_numbers(struct reader *reader) {
  struct slc__taken taken;
  uint64_t count = 0;
  int status;
  while ((status = slc__sub_take(&reader->sub, &taken)) == SLC_OK) {
    struct slc__virtual_name name = slc__virtual_name(&reader->sub, taken.slot);
    assert_true(name.id == SHARED_ID || (name.id > OWN_ID && name.id <= OWN_ID + 2 * PROCESSES));
    assert_int_equal(name.ordinal, reader->expected[name.id] != 0 ? reader->expected[name.id] : 1);
    reader->expected[name.id] = name.ordinal + 1;
    assert_int_equal(slc__sub_release(&reader->sub, taken.hold), SLC_OK);
    count++;
  }
  assert_int_equal(status, SLC_EMPTY);
  return count;
}

static pid_t publisher_start(struct mux *mux, uint32_t id, bool endlessly) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) publish_until_killed(mux, id, endlessly);
  return pid;
}

static void test_virtual_publishers_share_the_log(void **state) {
  (void)state;
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  struct reader *all = reader_new(&mux, admit(&mux), 0, SLC__START_NEWEST);
  for (uint32_t i = 1; i <= PROCESSES; i++) publisher_start(&mux, i, false);
  for (int ended = 0, status; ended < PROCESSES; drain_numbers(all)) {
    pid_t pid = waitpid(-1, &status, WNOHANG);
    assert_true(pid >= 0);
    if (pid == 0) continue;
    assert_int_equal(status, 0);
    ended++;
  }
  drain_numbers(all);
  assert_int_equal(count_of(all, SHARED_ID)->received + count_of(all, SHARED_ID)->dropped, PROCESSES * MESSAGES / 2);
  for (uint32_t i = 1; i <= PROCESSES; i++) {
    const struct slc__virtual_count *count = count_of(all, OWN_ID + i);
    assert_int_equal(count->received + count->dropped, MESSAGES / 2);
    assert_int_equal(count->dropped, all->told[OWN_ID + i]);
  }
  assert_int_equal(atomic_load(&mux.channel.control.page->applied), PROCESSES * MESSAGES);
  free(all);
  mux_deinit(&mux);
}

/* Killed anywhere, again and again; others go on beside them. */
static void test_virtual_publishers_die(void **state) {
  (void)state;
  enum { DEATHS = 60 };
  struct mux mux;
  mux_init(&mux, SLOTS, false);
  struct reader *all = reader_new(&mux, admit(&mux), 0, SLC__START_NEWEST);
  pid_t bystander = publisher_start(&mux, PROCESSES, true);
  for (int death = 0; death < DEATHS; death++) {
    uint32_t id = 1 + (uint32_t)death % (PROCESSES - 1);
    pid_t pid = publisher_start(&mux, id, true);
    uint64_t published = atomic_load(&mux.channel.control.publishers[id - 1].messages);
    while (atomic_load(&mux.channel.control.publishers[id - 1].messages) == published) drain_numbers(all);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    slc__repair(&mux.channel.control, id);
  }
  kill(bystander, SIGKILL);
  assert_int_equal(waitpid(bystander, NULL, 0), bystander);
  slc__repair(&mux.channel.control, PROCESSES);
  mux_open(&mux);
  drain_numbers(all);
  uint64_t shared = all->expected[SHARED_ID];
  slc__pub_set_virtual(&mux.pub, SHARED_ID, 0);
  assert_int_equal(publish(&mux.pub, (struct content){.id = SHARED_ID, .ordinal = shared}), SLC_OK);
  assert_int_equal(drain_numbers(all), 1);
  assert_int_equal(all->expected[SHARED_ID], shared + 1);
  uint64_t total = 0;
  for (uint32_t id = 1; id <= VIRTUAL_MAX; id++) total += count_of(all, id)->received + count_of(all, id)->dropped;
  assert_int_equal(total, all->sub.next);
  free(all);
  mux_deinit(&mux);
}

/* ---- rubbish ---- */

static void test_virtual_rubbish_is_refused(void **state) {
  (void)state;
  static const struct {
    uint32_t id;
    uint64_t number, base;
  } cases[] = {{0, 1, 0}, {VIRTUAL_MAX + 1, 1, 0}, {UINT32_MAX, 5, 0},          {1, 0, 0}, {1, UINT64_MAX, 0},
               {1, 3, 3}, {1, 3, UINT64_MAX},      {1, SLC__ORDINAL_MAX + 1, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct mux mux;
    struct slc__taken taken;
    mux_init(&mux, SLOTS, false);
    uint32_t line = admit(&mux);
    mux_open(&mux);
    struct reader *all = reader_new(&mux, line, 0, SLC__START_NEWEST);
    mux_send(&mux, 1, 2);
    struct slc__prefix_ext *ext =
        &slc__buffers_prefix(&mux.channel.buffers, slc__log_slot(mux.channel.control.log[1]))->ext;
    atomic_store(&ext->virtual_id, cases[i].id);
    atomic_store(&ext->virtual_ordinal, cases[i].number);
    atomic_store(&ext->virtual_base, cases[i].base);
    assert_int_equal(slc__sub_take(&all->sub, &taken), SLC_OK);
    slc__sub_release(&all->sub, taken.hold);
    assert_int_equal(slc__sub_take(&all->sub, &taken), SLC_CORRUPT);
    assert_int_equal(slc__sub_take(&all->sub, &taken), SLC_EMPTY);
    assert_int_equal(all->told[1], 1);
    assert_int_equal(all->sub.held, 0);
    mux_send(&mux, 1, 3 * SLOTS); /* and everything goes on */
    free(all);
    mux_deinit(&mux);
  }
}

/* `applied` and the maxima are for publishers to write: whatever is there, everybody comes back. */
static void test_virtual_hostile_words_end(void **state) {
  (void)state;
  static const uint64_t values[] = {0, 1, 5, 1000, SLC__ORDINAL_MAX, SLC__ORDINAL_MAX + 1, UINT64_MAX};
  enum { VALUES = sizeof values / sizeof values[0] };
  for (size_t i = 0; i < VALUES * VALUES; i++) {
    struct mux mux;
    struct slc__taken taken;
    mux_init(&mux, SLOTS, false);
    uint32_t line = admit(&mux);
    mux_open(&mux);
    mux_send(&mux, 1, 100);
    atomic_store(&mux.channel.control.page->applied, values[i % VALUES]);
    for (uint32_t id = 0; id <= VIRTUAL_MAX; id++) atomic_store(&mux.channel.control.maxima[id], values[i / VALUES]);
    struct reader *all = reader_new(&mux, line, 0, SLC__START_OLDEST);
    all->sub.on_drop = NULL; /* what it would tell is rubbish, too */
    for (uint64_t n = 0; n < SLOTS; n++) publish(&mux.pub, (struct content){.id = 1});
    for (int n = 0; n < 10; n++) {
      if (slc__sub_take(&all->sub, &taken) == SLC_OK) slc__sub_release(&all->sub, taken.hold);
    }
    if (slc__sub_take_newest(&all->sub, &taken) == SLC_OK) slc__sub_release(&all->sub, taken.hold);
    slc__pub_deinit(&mux.pub);
    test_channel_deinit(&mux.channel);
    free(all);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_virtual_ordinals_are_their_own),
      cmocka_unit_test(test_virtual_drops_are_exact),
      cmocka_unit_test(test_virtual_drops_count_from_the_start),
      cmocka_unit_test(test_virtual_drops_count_from_the_first_taken),
      cmocka_unit_test(test_virtual_start_at_an_ordinal_to_come),
      cmocka_unit_test(test_virtual_newest_skips),
      cmocka_unit_test(test_virtual_take_many_and_find),
      cmocka_unit_test(test_virtual_hidden_beginning),
      cmocka_unit_test(test_virtual_ready_and_lag),
      cmocka_unit_test(test_virtual_doorbell_is_silent_for_others),
      cmocka_unit_test(test_virtual_reliable_sleeper_is_nudged),
      cmocka_unit_test(test_virtual_id_used_again),
      cmocka_unit_test(test_virtual_publishers_share_the_log),
      cmocka_unit_test(test_virtual_publishers_die),
      cmocka_unit_test(test_virtual_rubbish_is_refused),
      cmocka_unit_test(test_virtual_hostile_words_end),
  };
  return cmocka_run_group_tests_name("slotlog_virtual", tests, NULL, NULL);
}

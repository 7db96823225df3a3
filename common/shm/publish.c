/* The publisher's side of the slot log: loan, publish, evict, refill.
 *
 * A publisher has a free list of slots that it owns and that nobody holds.  A loan takes the first; a publish puts one
 * ordinal into the log; when the list runs low, after a publish, it is filled up in one batch: FREE slots and the
 * oldest messages are claimed, then all holds are scanned once.  So the cost of a publish does not grow with slots, and
 * hardly with subscribers.
 *
 * Owner words and log alone say what a publisher had when it dies at any instruction (see control.c, slc__repair).
 * One thread at a time per struct slc__pub; any number of publishers beside each other. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "shm/enter.h"
#include "shm/gate.h"
#include "shm/publish.h"
#include "shm/retire.h"
#include "shm/slotlog.h"
#include "shm/virtual.h"
#include "shm/words.h"
#include "slotcast/status.h"

enum {
  BATCH_LEAST = 8, /* evict at least so many at once, where the budget allows */
  BATCH_MOST = 32, /* in a stream; more gain nothing */
  SWEEP_STEP = 8,  /* owner words looked at per refill for FREE slots: one cache line */
  SCAN_AHEAD = 8,  /* hold lines asked for in advance: a thousand don't stay in the first-level cache */
  CLAIM_TRIES = 8, /* an honest owner word changes once or twice while it is looked at */
  WAIT_SLICE_NS =
      20000000, /* a subscriber of another uid could move a sleeping publisher (FUTEX_REQUEUE): look again */
};

int slc__pub_init(struct slc__pub *pub, const struct slc__control *control, const struct slc__buffers *buffers,
                  uint32_t id, uint32_t batch, const struct slc__membership *membership, slc__pub_sync_fn sync,
                  void *sync_ctx) {
  *pub = (struct slc__pub){
      .control = *control,
      .buffers = *buffers,
      .id = id,
      .batch = batch,
      .membership = membership,
      .sync = sync,
      .sync_ctx = sync_ctx,
      .free_slots = calloc(batch, sizeof *pub->free_slots),
      .candidates = calloc(batch, sizeof *pub->candidates),
      .stamps = calloc(control->geometry.slots, sizeof *pub->stamps),
      .unswept = control->geometry.slots,
      .pace = BATCH_LEAST,
      .wanted.epoch = UINT64_MAX,
      .unread.epoch = UINT64_MAX,
      .line = &control->publishers[id - 1],
      .watch.can_disarm = true,
      .is_told = control->geometry.keep_last > 0,
      .is_alone = control->geometry.max_publishers == 1 && control->geometry.virtual_max == 0,
  };
  if (pub->free_slots == NULL || pub->candidates == NULL || pub->stamps == NULL) {
    slc__pub_deinit(pub);
    return SLC_NO_MEMORY;
  }
  atomic_store_explicit(&pub->line->messages, 0, memory_order_relaxed);
  atomic_store_explicit(&pub->line->bytes, 0, memory_order_relaxed);
  atomic_store_explicit(&pub->line->would_block, 0, memory_order_relaxed);
  atomic_store_explicit(&pub->line->wakes, 0, memory_order_relaxed);
  atomic_store_explicit(&pub->line->generation, 0, memory_order_relaxed);
  atomic_store_explicit(&pub->line->armed, 0, memory_order_relaxed);
  return SLC_OK;
}

void slc__pub_deinit(struct slc__pub *pub) {
  free(pub->free_slots);
  free(pub->candidates);
  free(pub->stamps);
  pub->free_slots = pub->candidates = pub->stamps = NULL;
  slc__retire_close(pub);
}

void slc__pub_set_membership(struct slc__pub *pub, const struct slc__membership *membership) {
  pub->membership = membership;
  if (pub->virtual_id != 0) slc__virtual_adopt(pub);
}

/* ---- the free list: a ring of `batch` slots ---- */

static uint32_t wrap(const struct slc__pub *pub, uint32_t index) {
  return index >= pub->batch ? index - pub->batch : index;
}

static void free_push(struct slc__pub *pub, uint32_t slot) {
  pub->free_slots[wrap(pub, pub->free_first + pub->free_count)] = slot;
  pub->free_count++;
}

static void free_push_front(struct slc__pub *pub, uint32_t slot) {
  pub->free_first = pub->free_first == 0 ? pub->batch - 1 : pub->free_first - 1;
  pub->free_slots[pub->free_first] = slot;
  pub->free_count++;
}

static uint32_t free_pop(struct slc__pub *pub) {
  uint32_t slot = pub->free_slots[pub->free_first];
  pub->free_first = wrap(pub, pub->free_first + 1);
  pub->free_count--;
  return slot;
}

/* A slot of ours goes to nobody: the ordinal in its owner word stays, as the tag against ABA. */
static void give_back(struct slc__pub *pub, uint32_t slot) {
  uint64_t own = atomic_load_explicit(&pub->control.own[slot], memory_order_relaxed);
  atomic_store_explicit(&pub->control.own[slot], slc__own_free(slc__own_ordinal(own)), memory_order_release);
}

static void count(_Atomic uint64_t *figure, uint64_t more) {
  atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + more, memory_order_relaxed);
}

/* Slots have become nobody's: whoever waits for one by its descriptor is rung. */
static void tell_freed(struct slc__pub *pub) {
  if (__builtin_expect(atomic_load_explicit(&pub->control.page->watched, memory_order_relaxed) == 0, 1)) return;
  atomic_thread_fence(memory_order_seq_cst);
  count(&pub->line->wakes, slc__watch_ring(&pub->watch, &pub->control, 0, SLC__WANTS_SLOT));
}

/* The message that owner word `own` was about (0: nobody here knows it) has been evicted, by a seq_cst
 * compare-and-swap. */
static void tell_evicted(struct slc__pub *pub, uint64_t own) {
  const struct slc__control *control = &pub->control;
  if (__builtin_expect(atomic_load_explicit(&control->page->watched, memory_order_seq_cst) == 0, 1)) return;
  uint32_t owner = slc__own_publisher(own);
  if (owner > control->geometry.max_publishers) return;
  count(&pub->line->wakes, slc__watch_ring(&pub->watch, control, owner, SLC__WANTS_EVICTED));
}

void slc__pub_give_back(struct slc__pub *pub, uint32_t slot) {
  give_back(pub, slot);
  tell_freed(pub);
}

void slc__pub_leave(struct slc__pub *pub) {
  while (pub->free_count > 0) give_back(pub, free_pop(pub));
  tell_freed(pub);
}

/* By hand and in order: the next message's announcement has named the first of those that stay. */
bool slc__pub_free_take(struct slc__pub *pub, uint32_t slot) {
  for (uint32_t i = 0; i < pub->free_count; i++) {
    if (pub->free_slots[wrap(pub, pub->free_first + i)] != slot) continue;
    for (; i > 0; i--)
      pub->free_slots[wrap(pub, pub->free_first + i)] = pub->free_slots[wrap(pub, pub->free_first + i - 1)];
    free_pop(pub);
    return true;
  }
  return false;
}

/* ---- membership ---- */

/* Whether we know of everybody who subscribes as of now; if not, tries to learn it without waiting.  We may know more:
 * the broker pushes a membership before it announces the epoch. */
bool slc__pub_is_current(struct slc__pub *pub) {
  uint64_t epoch = atomic_load_explicit(&pub->control.page->epoch, memory_order_seq_cst);
  if (__builtin_expect(epoch <= pub->membership->epoch, 1)) return true;
  return pub->sync(pub->sync_ctx, epoch) && pub->membership->epoch >= epoch;
}

/* A line that was given up gates nothing; of those that are looked at, the first is in use most of the time. */
bool slc__pub_has_readers(struct slc__pub *pub) {
  slc__pub_is_current(pub);
  for (uint32_t t = 0; t < pub->membership->table_count; t++) {
    const struct slc__scan_table *table = &pub->membership->tables[t];
    for (uint32_t i = 0; i < table->line_count; i++) {
      if (table->lines[i] == 0 || (table->lines[i] & SLC__SCAN_CLOSED) != 0) continue;
      if (atomic_load_explicit(&slc__table_line(table->table, i)->cursor, memory_order_acquire) != SLC__CURSOR_NONE)
        return true;
    }
  }
  return false;
}

/* Of the lines that have one of the bits of `mask`, and whose subscriber still takes. */
static uint64_t smallest_cursor(const struct slc__membership *membership, uint8_t mask) {
  uint64_t smallest = SLC__CURSOR_NONE;
  for (uint32_t t = 0; t < membership->table_count; t++) {
    const struct slc__scan_table *table = &membership->tables[t];
    for (uint32_t i = 0; i < table->line_count; i++) {
      if ((table->lines[i] & mask) == 0 || (table->lines[i] & SLC__SCAN_CLOSED) != 0) continue;
      uint64_t cursor = atomic_load_explicit(&slc__table_line(table->table, i)->cursor, memory_order_acquire);
      if (cursor < smallest) smallest = cursor;
    }
  }
  return smallest;
}

__attribute__((noinline)) static bool is_ahead_now(struct slc__pub *pub, uint64_t h, struct slc__known_min *known,
                                                   uint8_t mask) {
  if (!slc__pub_is_current(pub)) return true;
  known->epoch = pub->membership->epoch;
  known->cursor = smallest_cursor(pub->membership, mask);
  return h >= known->cursor;
}

/* Whether ordinal h is at or beyond the smallest of those cursors.  After the log word was read, for each ordinal: a
 * newcomer's line gates everything before its epoch is announced (tests/model/reliable.pml). */
static inline bool is_ahead(struct slc__pub *pub, uint64_t h, struct slc__known_min *known, uint8_t mask) {
  uint64_t epoch = atomic_load_explicit(&pub->control.page->epoch, memory_order_seq_cst);
  return !(epoch == known->epoch && h < known->cursor) && is_ahead_now(pub, h, known, mask);
}

/* Whether reliable subscribers still want ordinal h. */
static bool is_wanted(struct slc__pub *pub, uint64_t h) {
  return is_ahead(pub, h, &pub->wanted, SLC__SCAN_RELIABLE);
}

/* Whether any subscriber has still to come to ordinal h. */
static bool is_unread(struct slc__pub *pub, uint64_t h) {
  return is_ahead(pub, h, &pub->unread, SLC__SCAN_RELIABLE | SLC__SCAN_HOLDS);
}

/* Head or tail. */
static void raise_hint(const struct slc__pub *pub, _Atomic uint64_t *hint, uint64_t value) {
  uint64_t seen = atomic_load_explicit(hint, memory_order_relaxed);
  while (seen < value && !slc__replace(pub, hint, &seen, value)) {
  }
}

/* ---- claiming slots ---- */

static uint32_t room(const struct slc__pub *pub) {
  return pub->batch - pub->free_count - pub->candidate_count;
}

static void add_candidate(struct slc__pub *pub, uint32_t slot) {
  pub->candidates[pub->candidate_count++] = slot;
}

/* Looks at so many owner words for FREE slots, going round. */
static void claim_free(struct slc__pub *pub, uint32_t looks) {
  uint32_t slots = pub->control.geometry.slots, slot = pub->sweep, left = room(pub), looked = 0;
  for (; looked < looks && left > 0; looked++) {
    uint64_t own = atomic_load_explicit(&pub->control.own[slot], memory_order_relaxed);
    if (slc__own_is_free(own) && slc__replace(pub, &pub->control.own[slot], &own, slc__own_owned(pub->id, own))) {
      add_candidate(pub, slot);
      left--;
    }
    slot = slot + 1 == slots ? 0 : slot + 1;
  }
  pub->sweep = slot;
  pub->unswept -= looked < pub->unswept ? looked : pub->unswept;
}

/* Claims the slot of ordinal h: AT(anybody, h) -> OWNED(me, h), and gives the word that was there.  False: another has
 * it. */
static inline __attribute__((always_inline)) bool claim_owner(struct slc__pub *pub, uint32_t slot, uint64_t h,
                                                              uint64_t *ret_own) {
  _Atomic uint64_t *word = &pub->control.own[slot];
  uint64_t own = atomic_load_explicit(word, memory_order_acquire);
  for (int i = 0; i < CLAIM_TRIES; i++) {
    if (!slc__own_is_at(own) || slc__own_ordinal(own) != h) return false;
    if (slc__replace(pub, word, &own, slc__own_owned(pub->id, h))) {
      *ret_own = own;
      return true;
    }
  }
  return false;
}

/* Whether ordinal h is one of the newest, of which the channel keeps so many.  Tail may lag behind by the messages of
 * publishers that have not raised it yet: then a few more are kept, for which those publishers' loans made room. */
static bool is_kept(const struct slc__pub *pub, uint64_t h) {
  uint64_t keep_last = pub->control.geometry.keep_last;
  if (__builtin_expect(keep_last == 0, 1)) return false;
  return h + keep_last >= atomic_load_explicit(&pub->control.page->tail, memory_order_relaxed);
}

/* A slot that was just evicted: to be settled, or else anybody's. */
static void evicted(struct slc__pub *pub, uint32_t slot, bool to_keep) {
  if (to_keep) {
    add_candidate(pub, slot);
    return;
  }
  atomic_store_explicit(&slc__buffers_prefix(&pub->buffers, slot)->seq, 0, memory_order_relaxed);
  give_back(pub, slot);
}

/* Evicts the oldest retained ordinal that is not `needed`, or helps whoever is about to.  False: there is nothing that
 * may be evicted. */
static inline __attribute__((always_inline)) bool
evict_oldest(struct slc__pub *pub, bool (*needed)(struct slc__pub *pub, uint64_t h), bool to_keep) {
  uint64_t h = pub->head, lap = slc__lap_of(&pub->control, h);
  _Atomic uint64_t *word_at = slc__log_at(&pub->control, h);
  uint64_t word = atomic_load_explicit(word_at, memory_order_seq_cst);
  enum slc__presence presence = slc__presence_in(word, lap);
  if (presence == SLC__ABSENT) return false;
  uint32_t slot = slc__log_slot(word);
  if (presence == SLC__PRESENT && slot < pub->control.geometry.slots) {
    /* Of virtual channels' messages, only those from which the next ordinals are reckoned already. */
    if (pub->virtual_id != 0 && slc__virtual_help(&pub->control, &pub->buffers, h + 1) != SLC_OK) return false;
    if (is_kept(pub, h) || needed(pub, h)) return false;
    uint64_t own = 0;
    bool won = claim_owner(pub, slot, h, &own);
    /* Winner and losers alike, before anybody goes on: nobody passes an ordinal that is half evicted. */
    slc__replace(pub, word_at, &word, slc__log_evicted(lap));
    tell_evicted(pub, own); /* losers too: the winner may be stopped before it does */
    if (won) evicted(pub, slot, to_keep);
  }
  pub->head = h + 1;
  return true;
}

static void evict_begin(struct slc__pub *pub) {
  uint64_t hint = atomic_load_explicit(&pub->control.page->head, memory_order_relaxed);
  if (hint > pub->head && hint <= SLC__ORDINAL_MAX) pub->head = hint;
}

static void evict(struct slc__pub *pub, uint32_t wanted) {
  evict_begin(pub);
  for (uint64_t steps = slc__steps_max(&pub->control); steps > 0; steps--) {
    if (pub->free_count + pub->candidate_count >= wanted || !evict_oldest(pub, is_wanted, true)) break;
  }
  raise_hint(pub, &pub->control.page->head, pub->head);
}

/* The slots go to nobody: it is not for want of one that this publisher evicts. */
void slc__pub_evict_read(struct slc__pub *pub) {
  uint64_t before;
  evict_begin(pub);
  before = pub->head;
  for (uint64_t steps = slc__steps_max(&pub->control); steps > 0; steps--) {
    if (!evict_oldest(pub, is_unread, false)) break;
  }
  if (pub->head == before) return;
  raise_hint(pub, &pub->control.page->head, pub->head);
  tell_freed(pub);
}

/* ---- settling: which candidates does nobody hold ---- */

/* What readers have read is theirs, too, so that each of these stores has to wait for its line, and any locked
 * instruction behind it waits along.  One behind another they wait for all lines at once (docs/adr/0017). */

/* Before the holds are scanned; the order against the readers' hold is made by the fence of slc__pub_scan. */
static void clear_all(const struct slc__pub *pub, const uint32_t *slots, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    atomic_store_explicit(&slc__buffers_prefix(&pub->buffers, slots[i])->seq, 0, memory_order_relaxed);
}

/* Whether the lines where payloads begin are to be had back from readers.  Not while slots that were never used may be
 * among them: of those not even the page is there. */
static bool has_payload_lines(const struct slc__pub *pub) {
  return pub->unswept == 0 && pub->buffers.capacity > pub->buffers.inline_max;
}

/* Of a slot that is ours alone.  Its contents stay: they may be wanted again (slc_publisher_loan_slot).  A prefetch for
 * writing would do nothing to a line that is there for reading. */
static void own_payload_line(const struct slc__pub *pub, uint32_t slot) {
  volatile uint8_t *first = (uint8_t *)slc__buffers_prefix(&pub->buffers, slot) + pub->buffers.payload_offset;
  uint8_t kept = *first;
  *first = kept;
}

/* What a reader read from a slot that it has released comes before what is written there next: acquire, for each hold.
 * One fence after the scan would do as well, but ThreadSanitizer does not see fences. */
static void strike_held(struct slc__pub *pub, const struct slc__scan_table *table) {
  uint32_t slots = pub->control.geometry.slots;
  for (uint32_t i = 0; i < table->line_count; i++) {
    uint32_t holds = table->lines[i] & SLC__SCAN_HOLDS;
    const struct slc__hold_line *line = slc__table_line(table->table, i);
    __builtin_prefetch(line + SCAN_AHEAD);
    uint64_t cursor = atomic_load_explicit(&line->cursor, memory_order_relaxed);
    if (cursor != SLC__CURSOR_NONE && cursor > pub->newest_cursor) pub->newest_cursor = cursor;
    for (uint32_t k = 0; k < holds && k < SLC__LINE_HOLDS; k++) {
      uint32_t hold = atomic_load_explicit(&line->holds[k], memory_order_acquire); /* pairs with unhold() */
      if (hold != 0 && hold <= slots) pub->stamps[hold - 1] = 0;
    }
  }
}

static void return_candidates(struct slc__pub *pub) {
  while (pub->candidate_count > 0) give_back(pub, pub->candidates[--pub->candidate_count]);
  tell_freed(pub);
}

/* The fence pairs with the reader's seq_cst store of its hold and second look: at least one of the two sees the other.
 */
bool slc__pub_scan(struct slc__pub *pub, const uint32_t *slots, uint32_t count) {
  atomic_thread_fence(memory_order_seq_cst);
  if (!slc__pub_is_current(pub)) return false;
  uint32_t *stamps = pub->stamps, stamp = ++pub->stamp;
  if (stamp == 0) {
    memset(stamps, 0, pub->control.geometry.slots * sizeof *stamps);
    pub->stamp = stamp = 1;
  }
  for (uint32_t i = 0; i < count; i++) stamps[slots[i]] = stamp;
  pub->newest_cursor = 0;
  for (uint32_t t = 0; t < pub->membership->table_count; t++) strike_held(pub, &pub->membership->tables[t]);
  return true;
}

bool slc__pub_is_unheld(const struct slc__pub *pub, uint32_t slot) {
  return pub->stamps[slot] == pub->stamp;
}

/* One scan of all holds for the whole batch.  False: somebody may hold that we don't know of, so nothing is reused. */
static bool settle(struct slc__pub *pub) {
  const uint32_t *candidates = pub->candidates;
  uint32_t count = pub->candidate_count;
  if (count == 0) return true;
  clear_all(pub, candidates, count);
  if (!slc__pub_scan(pub, candidates, count)) {
    return_candidates(pub);
    return false;
  }
  bool any_held = false, has_lines = has_payload_lines(pub);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t slot = candidates[i];
    if (slc__pub_is_unheld(pub, slot)) {
      free_push(pub, slot);
      if (has_lines) own_payload_line(pub, slot);
    } else {
      give_back(pub, slot);
      any_held = true;
    }
  }
  pub->candidate_count = 0;
  if (any_held) tell_freed(pub); /* its holder may have released it before it was anybody's */
  return true;
}

/* ---- refilling the free list ---- */

/* Large enough that the scan costs little per message, however many subscribe; as small as that allows, so that much is
 * retained. */
static uint32_t batch_wanted(const struct slc__pub *pub) {
  uint32_t lines = 0;
  for (uint32_t t = 0; t < pub->membership->table_count; t++) lines += pub->membership->tables[t].line_count;
  uint32_t wanted = lines / 2 > pub->pace ? lines / 2 : pub->pace;
  return wanted < pub->batch ? wanted : pub->batch;
}

/* How many at once from now on.  A look at the holds takes their lines away from readers, who change them with every
 * message: seldom, then, while they are some messages behind.  Who has had all but the last may be answering each, and
 * waits for every refill. */
static void choose_pace(struct slc__pub *pub) {
  bool is_stream = slc__hint(&pub->control.page->tail) > pub->newest_cursor + 1;
  uint32_t most = pub->batch / 4 < BATCH_MOST ? pub->batch / 4 : BATCH_MOST;
  uint32_t pace = is_stream ? 2 * pub->pace : pub->pace / 2;
  if (pace > most) pace = most;
  pub->pace = pace > BATCH_LEAST ? pace : BATCH_LEAST;
}

/* Once round all slots before the first message is evicted: in a fresh channel most are FREE, but not where one looks
 * first, because other publishers have looked there, too.  Later a few looks are enough, and cost the same in any
 * channel. */
static uint32_t looks_wanted(const struct slc__pub *pub) {
  return pub->unswept > SWEEP_STEP ? pub->unswept : SWEEP_STEP;
}

static void refill(struct slc__pub *pub) {
  if (pub->visit != NULL) pub->visit(pub->sync_ctx);
  if (!slc__pub_is_current(pub)) return;
  claim_free(pub, looks_wanted(pub));
  evict(pub, batch_wanted(pub));
  if (settle(pub)) choose_pace(pub);
}

/* When that gave nothing: every FREE slot, then every message, until one is found that nobody holds.  Only a publisher
 * that would have to wait comes here. */
static void refill_exhaustively(struct slc__pub *pub) {
  for (uint32_t looked = 0; looked < pub->control.geometry.slots && pub->free_count == 0; looked += pub->batch) {
    claim_free(pub, pub->batch);
    if (!settle(pub)) return;
  }
  for (uint32_t evicted = 0; evicted < pub->control.geometry.slots && pub->free_count == 0; evicted++) {
    evict(pub, batch_wanted(pub));
    if (pub->candidate_count == 0 || !settle(pub)) return;
  }
}

/* Twice: between the look at the FREE slots and that at the log, another publisher may have moved what we want. */
static bool refill_for_loan(struct slc__pub *pub) {
  refill(pub);
  for (int i = 0; i < 2 && pub->free_count == 0; i++) refill_exhaustively(pub);
  if (pub->free_count == 0 && pub->virtual_id != 0) slc__virtual_nudge(pub);
  return pub->free_count > 0;
}

/* ---- loan, discard ---- */

/* A subscriber counts when it is settled which message is its first; its membership may have come before that. */
static bool has_subscribers(struct slc__pub *pub) {
  return atomic_load_explicit(&pub->control.page->subscribers, memory_order_acquire) != 0 && slc__pub_has_readers(pub);
}

/* Whether a loan would be refused for want of a subscriber. */
static bool lacks_subscriber(struct slc__pub *pub) {
  return __builtin_expect(pub->needs_subscriber, 0) && !has_subscribers(pub);
}

bool slc__pub_ready(struct slc__pub *pub) {
  return !lacks_subscriber(pub) && (pub->free_count > 0 || refill_for_loan(pub));
}

int slc__pub_loan(struct slc__pub *pub, uint32_t *ret_slot) {
  if (lacks_subscriber(pub) || (pub->free_count == 0 && !refill_for_loan(pub))) {
    count(&pub->line->would_block, 1);
    return SLC_WOULD_BLOCK;
  }
  *ret_slot = free_pop(pub);
  return SLC_OK;
}

void *slc__pub_payload(const struct slc__pub *pub, uint32_t slot, uint64_t size) {
  struct slc__prefix *prefix = slc__buffers_prefix(&pub->buffers, slot);
  return size <= pub->buffers.inline_max ? prefix->inline_payload : (uint8_t *)prefix + pub->buffers.payload_offset;
}

uint8_t *slc__pub_extra(const struct slc__pub *pub, uint32_t slot) {
  return (uint8_t *)slc__buffers_prefix(&pub->buffers, slot) + SLC__PAYLOAD_OFFSET;
}

void slc__pub_discard(struct slc__pub *pub, uint32_t slot) {
  if (pub->free_count + pub->candidate_count < pub->batch) {
    free_push_front(pub, slot);
  } else {
    slc__pub_give_back(pub, slot);
  }
}

/* ---- publish ---- */

static void write_prefix(struct slc__pub *pub, struct slc__prefix *prefix, const struct slc__sending *sending) {
  uint32_t next = __builtin_expect(pub->free_count > 0, 1) ? pub->free_slots[pub->free_first] + 1 : 0;
  uint32_t flags = pub->id << 16 | sending->flags;
  atomic_store_explicit(&prefix->next, next, memory_order_relaxed);
  atomic_store_explicit(&prefix->flags, flags, memory_order_relaxed);
  if (__builtin_expect(sending->generation != 0, 0))
    atomic_store_explicit(&prefix->ext.generation, sending->generation, memory_order_relaxed);
  atomic_store_explicit(&prefix->size, sending->size, memory_order_relaxed);
  atomic_store_explicit(&prefix->timestamp, sending->timestamp, memory_order_relaxed);
}

/* Puts the slot into the log at the first free ordinal. */
static int enter_log(struct slc__pub *pub, uint32_t slot, struct slc__prefix *prefix, uint64_t *ret_n) {
  uint64_t n = atomic_load_explicit(&pub->control.page->tail, memory_order_relaxed);
  for (uint64_t steps = slc__steps_max(&pub->control); steps > 0; steps--) {
    if (n > SLC__ORDINAL_MAX) return SLC_EXHAUSTED;
    _Atomic uint64_t *word_at = slc__log_at(&pub->control, n);
    uint64_t word = atomic_load_explicit(word_at, memory_order_acquire);
    if (slc__presence(&pub->control, word, n) != SLC__ABSENT) {
      uint64_t tail = atomic_load_explicit(&pub->control.page->tail, memory_order_relaxed);
      n = tail > n + 1 && tail <= SLC__ORDINAL_MAX ? tail : n + 1;
      continue;
    }
    /* Evictions go in order and the log has at least as many words as there are slots, so what was here a lap ago
     * has gone. */
    if (word != 0 && !slc__log_is_evicted(word)) return SLC_CORRUPT;
    if (slc__enter(pub, slot, prefix, n, word_at, word)) {
      *ret_n = n;
      return SLC_OK;
    }
  }
  return SLC_CORRUPT;
}

/* The fast path's announcement.  It fails when the message has been evicted meanwhile: then the slot is another's. */
static void announce(const struct slc__pub *pub, struct slc__prefix *prefix, uint64_t n) {
  uint64_t pending = SLC__SEQ_PENDING | (n + 1);
  slc__replace(pub, &prefix->seq, &pending, n + 1);
}

static void ring_doorbells(struct slc__pub *pub, uint32_t table, uint64_t bell) {
  for (uint32_t i = 0; i < pub->membership->doorbell_count; i++) {
    const struct slc__scan_doorbell *doorbell = &pub->membership->doorbells[i];
    if (doorbell->table != table || doorbell->virtual_id != 0) continue;
    const struct slc__hold_line *line = slc__table_line(pub->membership->tables[table].table, doorbell->line);
    if (atomic_load_explicit(&line->armed, memory_order_seq_cst) != bell) continue;
    slc__doorbell_ring(doorbell->fd);
    count(&pub->line->wakes, 1);
  }
}

/* After the log's compare-and-swap.  One look per hold table; nothing else while nobody sleeps. */
static void ring(struct slc__pub *pub) {
  slc__pub_is_current(pub);
  for (uint32_t t = 0; t < pub->membership->table_count; t++) {
    const struct slc__scan_table *table = &pub->membership->tables[t];
    if (__builtin_expect(!slc__gate_is_armed(&table->table->armed, &table->bell->bell), 1)) continue;
    /* Not the value looked at: another may have rung since, and somebody armed with what this ring replaces. */
    uint64_t replaced = slc__gate_ring(&table->bell->bell);
    count(&pub->line->wakes, 1);
    ring_doorbells(pub, t, replaced);
  }
}

void slc__pub_wake_all(struct slc__pub *pub) {
  for (uint32_t t = 0; t < pub->membership->table_count; t++)
    ring_doorbells(pub, t, slc__gate_ring(&pub->membership->tables[t].bell->bell));
}

/* With a message more, another may no longer be among those that the channel keeps; where nobody subscribes it is
 * retired at once; and this publisher may have found out about others by itself. */
static void tell_published(struct slc__pub *pub) {
  uint32_t whom;
  if (atomic_load_explicit(&pub->control.page->watched, memory_order_relaxed) == 0) return;
  if (pub->control.geometry.keep_last > 0)
    whom = 0;
  else if (slc__retire_found(pub) || !slc__pub_has_readers(pub))
    whom = pub->id;
  else
    return;
  atomic_thread_fence(memory_order_seq_cst);
  count(&pub->line->wakes, slc__watch_ring(&pub->watch, &pub->control, whom, SLC__WANTS_EVICTED));
}

/* Apart and without a pointer to a local, so that a plain channel pays for it with one branch. */
static __attribute__((noinline, cold)) int enter_virtual(struct slc__pub *pub, uint32_t slot,
                                                         struct slc__prefix *prefix) {
  int status = slc__virtual_enter(pub, slot, prefix, &pub->entered);
  if (status != SLC_OK) return status;
  slc__pub_is_current(pub);
  slc__virtual_ring(pub);
  return SLC_OK;
}

/* For what a message may mean to those who wait for others to be retired.  It may have been evicted since: no matter.
 */
__attribute__((noinline, cold)) static void after_publish(struct slc__pub *pub, uint64_t n, uint32_t slot) {
  if (pub->retire != NULL) slc__retire_note(pub, n, slot);
  tell_published(pub);
}

int slc__pub_publish(struct slc__pub *pub, uint32_t slot, const struct slc__sending *sending, uint64_t *ret_ordinal) {
  struct slc__prefix *prefix = slc__buffers_prefix(&pub->buffers, slot);
  if (__builtin_expect(pub->retire != NULL, 0)) {
    int reserved = slc__retire_reserve(pub);
    if (reserved != SLC_OK) return reserved;
  }
  write_prefix(pub, prefix, sending);
  uint64_t n;
  int status = SLC_OK;
  if (__builtin_expect(pub->virtual_id == 0, 1)) {
    status = enter_log(pub, slot, prefix, &n);
  } else {
    status = enter_virtual(pub, slot, prefix);
    n = pub->entered;
  }
  if (__builtin_expect(status != SLC_OK, 0)) {
    uint64_t own = atomic_load_explicit(&pub->control.own[slot], memory_order_relaxed);
    atomic_store_explicit(&pub->control.own[slot], slc__own_owned(pub->id, slc__own_ordinal(own)),
                          memory_order_release);
    return status;
  }
  announce(pub, prefix, n);
  raise_hint(pub, &pub->control.page->tail, n + 1);
  if (pub->is_alone) atomic_thread_fence(memory_order_seq_cst); /* in place of the log's compare-and-swap */
  ring(pub);
  count(&pub->line->messages, 1);
  count(&pub->line->bytes, sending->size);
  /* One slot stays in hand, the one that the next message's announcement has named. */
  if (pub->free_count <= 1) refill(pub);
  if (__builtin_expect(pub->is_told, 0)) after_publish(pub, n, slot);
  *ret_ordinal = n;
  return SLC_OK;
}

/* ---- waiting for a slot ---- */

static bool spin_for_slot(struct slc__pub *pub, int64_t until) {
  do {
    for (int i = 0; i < 16; i++) slc__pause();
    if (lacks_subscriber(pub)) continue;
    if (pub->free_count > 0) return true;
    refill(pub);
    if (pub->free_count > 0) return true;
  } while (slc__clock_ns() < until);
  return false;
}

static uint32_t arm_all(struct slc__pub *pub, struct slc__gate_wait *waits) {
  uint32_t n = 0;
  for (uint32_t t = 0; t < pub->membership->table_count && n < SLC__GATE_SLEEP_MAX; t++, n++) {
    const struct slc__scan_table *table = &pub->membership->tables[t];
    waits[n].bell = &table->table->released;
    waits[n].value = slc__gate_arm(&table->bell->waiting, &table->table->released);
  }
  return n;
}

int slc__pub_wait(struct slc__pub *pub, int64_t deadline, int64_t spin_ns) {
  if (slc__pub_ready(pub)) return SLC_OK;
  if (spin_ns > 0) {
    int64_t until = slc__deadline_after(spin_ns);
    if (spin_for_slot(pub, until < deadline ? until : deadline)) return SLC_OK;
  }
  struct slc__gate_wait waits[SLC__GATE_SLEEP_MAX];
  for (;;) {
    uint32_t n = arm_all(pub, waits);
    if (slc__pub_ready(pub)) return SLC_OK;
    int64_t now = slc__clock_ns();
    if (now >= deadline) return SLC_TIMED_OUT;
    int64_t slice = now + WAIT_SLICE_NS;
    slc__gate_sleep_any(waits, n, slice < deadline ? slice : deadline);
  }
}

/* The line before the gates: whoever rings a gate looks at the line afterwards, so that of two who arm the same gate
 * none is passed over. */
void slc__pub_arm(struct slc__pub *pub, uint32_t wants) {
  slc__pub_is_current(pub);
  atomic_store_explicit(&pub->line->armed, wants, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  for (uint32_t t = 0; t < pub->membership->table_count; t++) {
    const struct slc__scan_table *table = &pub->membership->tables[t];
    slc__gate_arm(&table->bell->waiting, &table->table->released);
  }
}

/* The subscriber's side of the slot log: take, release, wait.
 *
 * A message is held by naming its slot in one of the subscriber's own holds and then looking again: if it is still what
 * it was, no publisher rewrites it until the hold is cleared.  Two ways lead to a message: the slot where the last one
 * said the next will most likely appear (one cache line), and the log word, which is the truth; "empty" is said, and
 * sleep begun, only after a look at the log word.
 *
 * A subscriber writes nothing but its own line and its table's two words.  One thread at a time per struct slc__sub. */
#include "base/clock.h"
#include "shm/gate.h"
#include "shm/slotlog.h"
#include "shm/words.h"
#include "slotcast/status.h"

enum {
  SPINS_PER_LOOK = 64, /* looks at the announced slot between two looks at log word and clock */
  ARM_TRIES = 64,      /* an honest bell moves once or twice while it is armed for */
};

static _Atomic uint32_t *hold_at(const struct slc__sub *sub, uint32_t hold) {
  return &sub->line[hold / SLC__LINE_HOLDS].holds[hold % SLC__LINE_HOLDS];
}

static uint64_t log_word(const struct slc__sub *sub, uint64_t n, memory_order order) {
  return atomic_load_explicit(slc__log_at(&sub->control, n), order);
}

/* ---- where to start ---- */

/* The first ordinal from `from` on that is not yet published. */
static uint64_t first_absent(const struct slc__sub *sub, uint64_t from) {
  uint64_t n = from;
  for (uint64_t steps = slc__steps_max(&sub->control); steps > 0; steps--, n++) {
    if (slc__presence(&sub->control, log_word(sub, n, memory_order_seq_cst), n) == SLC__ABSENT) break;
  }
  return n;
}

/* The first ordinal from `from` on that is retained, or not yet published. */
static uint64_t first_not_gone(const struct slc__sub *sub, uint64_t from) {
  uint64_t n = from;
  for (uint64_t steps = slc__steps_max(&sub->control); steps > 0; steps--, n++) {
    if (slc__presence(&sub->control, log_word(sub, n, memory_order_seq_cst), n) != SLC__GONE) break;
  }
  return n;
}

static uint64_t hint(const _Atomic uint64_t *word) {
  uint64_t value = atomic_load_explicit(word, memory_order_acquire);
  return value <= SLC__ORDINAL_MAX ? value : 0;
}

static void set_next(struct slc__sub *sub, uint64_t next) {
  sub->next = next;
  atomic_store_explicit(&sub->line->cursor, next, memory_order_release);
}

/* Tells waiting publishers that something may be evicted or reused now; after a seq_cst store or fence. */
static void tell_publishers(struct slc__sub *sub) {
  if (slc__gate_is_armed(&sub->bell->waiting, &sub->table->released)) slc__gate_ring(&sub->table->released);
}

/* The cursor has jumped: what lay between may be evicted at once. */
static void tell_of_jump(struct slc__sub *sub) {
  if (!sub->ring_on_release) return;
  atomic_thread_fence(memory_order_seq_cst);
  tell_publishers(sub);
}

void slc__sub_init(struct slc__sub *sub, const struct slc__control *control, const struct slc__buffers *buffers,
                   struct slc__table_page *table, struct slc__bell_page *bell, uint32_t line, uint32_t max_holds,
                   enum slc__start start) {
  *sub = (struct slc__sub){
      .control = *control,
      .buffers = *buffers,
      .table = table,
      .bell = bell,
      .line = slc__table_line(table, line),
      .max_holds = max_holds,
      .ring_on_release = control->geometry.reliable != 0,
  };
  if (start == SLC__START_OLDEST) {
    set_next(sub, first_not_gone(sub, hint(&control->page->head)));
  } else {
    set_next(sub, first_absent(sub, hint(&control->page->tail)));
  }
  tell_of_jump(sub);
}

/* ---- holding ---- */

static uint32_t find_unused_hold(struct slc__sub *sub) {
  uint32_t hold = sub->free_hold;
  while (atomic_load_explicit(hold_at(sub, hold), memory_order_relaxed) != 0) {
    hold = hold + 1 == sub->max_holds ? 0 : hold + 1;
    if (hold == sub->free_hold) break;
  }
  return hold;
}

static void unhold(struct slc__sub *sub, uint32_t hold) {
  atomic_store_explicit(hold_at(sub, hold), 0, memory_order_release);
}

/* By the announcement: held when seq is still the same after the hold was stored.  Pairs with settle() in publish.c. */
static bool hold_announced(struct slc__sub *sub, uint32_t slot, uint32_t hold) {
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slot);
  if (atomic_load_explicit(&prefix->seq, memory_order_acquire) != sub->next + 1) return false;
  atomic_store_explicit(hold_at(sub, hold), slot + 1, memory_order_seq_cst);
  if (atomic_load_explicit(&prefix->seq, memory_order_seq_cst) == sub->next + 1) return true;
  unhold(sub, hold);
  return false;
}

/* By the log word: the same with the word. */
static bool hold_logged(struct slc__sub *sub, uint64_t n, uint64_t word, uint32_t hold) {
  atomic_store_explicit(hold_at(sub, hold), slc__log_slot(word) + 1, memory_order_seq_cst);
  if (log_word(sub, n, memory_order_seq_cst) == word) return true;
  unhold(sub, hold);
  return false;
}

/* ---- what was held ---- */

static void count_dropped(struct slc__sub *sub, uint64_t ordinals) {
  sub->dropped += ordinals;
  atomic_store_explicit(&sub->line->dropped, sub->dropped, memory_order_relaxed);
}

/* Reads the prefix of a held slot, checks it, and goes on to the next ordinal.  A prefix that can't be is skipped. */
static int accept(struct slc__sub *sub, uint64_t n, uint32_t slot, uint32_t hold, struct slc__taken *ret) {
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slot);
  uint64_t size = atomic_load_explicit(&prefix->size, memory_order_relaxed);
  uint32_t flags = atomic_load_explicit(&prefix->flags, memory_order_relaxed);
  uint32_t next = atomic_load_explicit(&prefix->next, memory_order_relaxed);
  bool in_prefix = (flags & SLC__FLAG_INLINE) != 0;
  uint64_t capacity = in_prefix ? sub->buffers.inline_max : sub->control.geometry.slot_size;
  sub->started = true;
  sub->guess = next <= sub->control.geometry.slots ? next : 0;
  if (__builtin_expect(size == 0 || size > capacity, 0)) {
    unhold(sub, hold);
    count_dropped(sub, 1);
    set_next(sub, n + 1);
    return SLC_CORRUPT;
  }
  ret->ordinal = n;
  ret->timestamp = atomic_load_explicit(&prefix->timestamp, memory_order_relaxed);
  ret->size = size;
  ret->payload = in_prefix ? prefix->inline_payload : (const uint8_t *)prefix + sub->buffers.payload_offset;
  ret->extra = (const uint8_t *)prefix + SLC__PAYLOAD_OFFSET;
  ret->publisher = flags >> 16;
  ret->flags = flags & 0xffff;
  ret->hold = hold;
  sub->held++;
  sub->free_hold = hold + 1 == sub->max_holds ? 0 : hold + 1;
  atomic_store_explicit(&sub->line->received, atomic_load_explicit(&sub->line->received, memory_order_relaxed) + 1,
                        memory_order_relaxed);
  set_next(sub, n + 1);
  return SLC_OK;
}

/* ---- overrun ---- */

/* From an ordinal that is gone to the older ones of those that are left: a quarter of them is left aside, or else a
 * slow reader would chase the head and get nothing.  The target must follow an ordinal that the log itself says
 * existed. */
static void skip_gone(struct slc__sub *sub) {
  uint64_t n = sub->next;
  uint64_t head = hint(&sub->control.page->head), tail = hint(&sub->control.page->tail);
  uint64_t target = head > n ? head : n + 1;
  if (sub->started && tail > target) target += (tail - target) / 4;
  if (slc__presence(&sub->control, log_word(sub, target - 1, memory_order_acquire), target - 1) == SLC__ABSENT) {
    target = n + 1;
  }
  /* Until its first message a subscriber has no claim to any: its start was a wish. */
  if (sub->started) count_dropped(sub, target - n);
  sub->guess = 0;
  set_next(sub, target);
}

/* ---- take ---- */

static int take_logged(struct slc__sub *sub, uint32_t hold, struct slc__taken *ret) {
  for (uint64_t steps = slc__steps_max(&sub->control); steps > 0; steps--) {
    uint64_t n = sub->next;
    uint64_t word = log_word(sub, n, memory_order_acquire);
    switch (slc__presence(&sub->control, word, n)) {
    case SLC__ABSENT:
      return SLC_EMPTY;
    case SLC__GONE:
      skip_gone(sub);
      break;
    case SLC__PRESENT:
      if (slc__log_slot(word) >= sub->control.geometry.slots) {
        count_dropped(sub, 1);
        set_next(sub, n + 1);
        return SLC_CORRUPT;
      }
      if (hold_logged(sub, n, word, hold)) return accept(sub, n, slc__log_slot(word), hold, ret);
      break;
    }
  }
  return SLC_CORRUPT;
}

static int no_hold_left(const struct slc__sub *sub) {
  return slc__sub_ready(sub) ? SLC_HOLD_LIMIT : SLC_EMPTY;
}

int slc__sub_take(struct slc__sub *sub, struct slc__taken *ret) {
  if (__builtin_expect(sub->held == sub->max_holds, 0)) return no_hold_left(sub);
  uint32_t hold = find_unused_hold(sub);
  uint32_t guess = sub->guess;
  if (guess != 0 && hold_announced(sub, guess - 1, hold)) return accept(sub, sub->next, guess - 1, hold, ret);
  return take_logged(sub, hold, ret);
}

int slc__sub_take_newest(struct slc__sub *sub, struct slc__taken *ret) {
  if (sub->held == sub->max_holds) return no_hold_left(sub);
  uint32_t hold = find_unused_hold(sub);
  uint64_t first = sub->next, tail = hint(&sub->control.page->tail);
  uint64_t end = first_absent(sub, tail > first ? tail : first);
  for (uint64_t n = end; n-- > first;) {
    uint64_t word = log_word(sub, n, memory_order_acquire);
    if (slc__presence(&sub->control, word, n) != SLC__PRESENT) break;
    uint32_t slot = slc__log_slot(word);
    if (slot >= sub->control.geometry.slots || !hold_logged(sub, n, word, hold)) continue;
    int status = accept(sub, n, slot, hold, ret);
    if (n > first) tell_of_jump(sub);
    return status;
  }
  return slc__sub_take(sub, ret); /* all between is gone: the ordinary way counts and goes on */
}

int slc__sub_release(struct slc__sub *sub, uint32_t hold) {
  if (hold >= sub->max_holds || atomic_load_explicit(hold_at(sub, hold), memory_order_relaxed) == 0) return SLC_STALE;
  if (sub->ring_on_release) {
    /* seq_cst on both sides: with release alone both missed each other 8,008 times of 2,000,000. */
    atomic_store_explicit(hold_at(sub, hold), 0, memory_order_seq_cst);
    tell_publishers(sub);
  } else {
    unhold(sub, hold);
  }
  sub->held--;
  return SLC_OK;
}

/* ---- waiting ---- */

bool slc__sub_ready(const struct slc__sub *sub) {
  uint64_t word = log_word(sub, sub->next, memory_order_seq_cst);
  return slc__presence(&sub->control, word, sub->next) != SLC__ABSENT;
}

/* The payload's line is asked for as soon as the announcement is seen, before the hold is stored: measured, 64-byte
 * round trips 300 -> 260 ns. */
static bool is_announced(const struct slc__sub *sub) {
  if (sub->guess == 0) return false;
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, sub->guess - 1);
  uint64_t seq = atomic_load_explicit(&prefix->seq, memory_order_acquire);
  if ((seq & ~SLC__SEQ_PENDING) == sub->next + 1) __builtin_prefetch((const uint8_t *)prefix + SLC__PAYLOAD_OFFSET);
  return seq == sub->next + 1;
}

/* Looks mostly at the one line that a publisher writes anyway: polling the log word would take it away from under the
 * publisher's compare-and-swap. */
static bool spin_for_message(const struct slc__sub *sub, int64_t until) {
  do {
    for (int i = 0; i < SPINS_PER_LOOK; i++) {
      if (is_announced(sub)) return true;
      slc__pause();
    }
    if (slc__sub_ready(sub)) return true;
  } while (slc__clock_ns() < until);
  return false;
}

/* While polling may do, the log word is left alone: a look at it would take its line away from the publisher that is
 * about to change it. */
int slc__sub_wait(struct slc__sub *sub, int64_t deadline, int64_t spin_ns) {
  bool polls = spin_ns > 0;
  if (is_announced(sub)) return SLC_OK;
  if ((!polls || sub->guess == 0) && slc__sub_ready(sub)) return SLC_OK;
  if (polls) {
    int64_t until = slc__deadline_after(spin_ns);
    if (spin_for_message(sub, until < deadline ? until : deadline)) return SLC_OK;
  }
  uint64_t bell = slc__gate_arm(&sub->table->armed, &sub->bell->bell);
  if (slc__sub_ready(sub)) return SLC_OK;
  bool rung = slc__gate_sleep(&sub->bell->bell, bell, deadline);
  if (slc__sub_ready(sub)) return SLC_OK;
  return rung ? SLC__SUB_RUNG : SLC_TIMED_OUT;
}

/* The line's word and the table's must name the same value, and the bell still have it: a bell that has moved meanwhile
 * would never match again. */
bool slc__sub_arm(struct slc__sub *sub) {
  for (int i = 0; i < ARM_TRIES; i++) {
    uint64_t bell = atomic_load_explicit(&sub->bell->bell, memory_order_seq_cst);
    atomic_store_explicit(&sub->line->armed, bell, memory_order_seq_cst);
    bool is_armed = slc__gate_arm(&sub->table->armed, &sub->bell->bell) == bell;
    if (slc__sub_ready(sub)) return false;
    if (is_armed) return true;
  }
  return false; /* a bell that never rests: whoever rings it so has something to say, or is hostile */
}

uint64_t slc__sub_lag(const struct slc__sub *sub) {
  uint64_t tail = hint(&sub->control.page->tail);
  return tail > sub->next ? tail - sub->next : 0;
}

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
#include "shm/hold.h"
#include "shm/slotlog.h"
#include "shm/virtual.h"
#include "shm/words.h"
#include "slotcast/status.h"

#define PASSED 1    /* beside the statuses: the message was passed over, go on */
#define ANNOUNCED 0 /* in place of a candidate's log word, which is never 0 */

enum {
  SPINS_PER_LOOK = 64, /* looks at the announced slot between two looks at log word and clock */
  GATHER_MAX = 32,     /* pauses before a stream is looked at again */
  ARM_TRIES = 64,      /* an honest bell moves once or twice while it is armed for */
};

/* ---- where to start ---- */

/* The first ordinal from `from` on that is retained, or not yet published. */
static uint64_t first_not_gone(const struct slc__sub *sub, uint64_t from) {
  uint64_t n = from;
  for (uint64_t steps = slc__steps_max(&sub->control); steps > 0; steps--, n++) {
    if (slc__presence(&sub->control, slc__sub_log_word(sub, n, memory_order_seq_cst), n) != SLC__GONE) break;
  }
  return n;
}

/* The latest message before `since`; `since` when it is not retained. */
static uint64_t last_before(const struct slc__sub *sub, uint64_t since) {
  if (since == 0) return 0;
  uint64_t word = slc__sub_log_word(sub, since - 1, memory_order_seq_cst);
  return slc__presence(&sub->control, word, since - 1) == SLC__PRESENT ? since - 1 : since;
}

static void set_next(struct slc__sub *sub, uint64_t next) {
  sub->next = next;
  atomic_store_explicit(&sub->line->cursor, next, memory_order_release);
}

/* Tells waiting publishers that something may be evicted or reused now; after a seq_cst store or fence. */
static void tell_publishers(struct slc__sub *sub) {
  if (!slc__gate_is_armed(&sub->bell->waiting, &sub->table->released)) return;
  slc__gate_ring(&sub->table->released);
  slc__watch_ring(&sub->watch, &sub->control, 0, SLC__WANTS_EVICTED | SLC__WANTS_SLOT);
}

/* Whether some publisher may want to know.  A relaxed load, made after the change that it is about: a publisher that
 * begins to wait sees to the order (slc__watch_begin). */
static bool is_watched(const struct slc__sub *sub) {
  atomic_signal_fence(memory_order_seq_cst);
  return sub->ring_on_release || atomic_load_explicit(&sub->control.page->watched, memory_order_relaxed) != 0;
}

/* The cursor has jumped, or a hold that came to nothing is cleared: what others waited for may be there. */
void slc__sub_tell(struct slc__sub *sub) {
  if (__builtin_expect(!is_watched(sub), 1)) return;
  atomic_thread_fence(memory_order_seq_cst);
  tell_publishers(sub);
}

void slc__sub_init(struct slc__sub *sub, const struct slc__control *control, const struct slc__buffers *buffers,
                   struct slc__table_page *table, struct slc__bell_page *bell, uint32_t line, uint32_t max_holds,
                   enum slc__start start, uint64_t since) {
  *sub = (struct slc__sub){
      .control = *control,
      .buffers = *buffers,
      .table = table,
      .bell = bell,
      .line = slc__table_line(table, line),
      .max_holds = max_holds,
      .ring_on_release = control->geometry.reliable != 0,
  };
  sub->claim = since; /* what was there already may go before it is taken, and was not promised */
  uint64_t oldest;
  switch (start) {
  case SLC__START_FIRST:
    sub->claim = 0;
    set_next(sub, 0);
    break;
  case SLC__START_OLDEST:
    oldest = first_not_gone(sub, slc__hint(&control->page->head));
    set_next(sub, oldest < since ? oldest : since);
    break;
  case SLC__START_LAST:
    set_next(sub, last_before(sub, since));
    break;
  case SLC__START_NEWEST:
    set_next(sub, since);
    break;
  }
}

void slc__sub_start_at(struct slc__sub *sub, uint64_t ordinal) {
  if (ordinal <= sub->next) return;
  if (ordinal > sub->claim) sub->claim = ordinal;
  set_next(sub, ordinal);
  slc__sub_tell(sub);
}

/* ---- holding ---- */

/* By the announcement: held when seq is still the same after the hold was stored.  Pairs with settle() in publish.c. */
static bool hold_announced(struct slc__sub *sub, uint32_t slot, uint32_t hold) {
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slot);
  if (atomic_load_explicit(&prefix->seq, memory_order_acquire) != sub->next + 1) return false;
  atomic_store_explicit(slc__hold_at(sub, hold), slot + 1, memory_order_seq_cst);
  if (atomic_load_explicit(&prefix->seq, memory_order_seq_cst) == sub->next + 1) return true;
  slc__hold_drop(sub, hold);
  return false;
}

/* ---- what was held ---- */

/* The prefix says which generation; it is read only now that the slot is held.  A generation goes only when no retained
 * message is in it: if it is gone and the message is not, nobody but a publisher that writes rubbish can have done it.
 */
int slc__held_payload_of_later(struct slc__sub *sub, uint64_t n, uint32_t slot, struct slc__taken *ret,
                               uint64_t *ret_capacity) {
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slot);
  const uint8_t *payload = NULL;
  int status = SLC_GONE;
  ret->generation = atomic_load_explicit(&prefix->ext.generation, memory_order_relaxed);
  if (sub->payload_of != NULL)
    status = sub->payload_of(sub->payload_ctx, ret->generation, slot, &payload, ret_capacity);
  ret->payload = payload;
  if (status != SLC_GONE) return status;
  uint64_t word = slc__sub_log_word(sub, n, memory_order_acquire);
  return slc__presence(&sub->control, word, n) == SLC__PRESENT ? SLC_CORRUPT : SLC_GONE;
}

static void tell_gap(struct slc__sub *sub) {
  uint64_t first = sub->gap_first, count = sub->gap_end - first;
  sub->gap_first = sub->gap_end = 0;
  if (count > 0 && sub->on_drop != NULL) sub->on_drop(sub->drop_ctx, 0, first, count);
}

/* Ordinals first .. end - 1 are lost.  A gap that is found in pieces, because it grows meanwhile, is told as one.  On a
 * multiplexer it is counted by the ordinals of the virtual channels. */
static void count_dropped(struct slc__sub *sub, uint64_t first, uint64_t end) {
  if (first < sub->claim) first = sub->claim;
  if (first >= end || sub->ignore_drops) return;
  if (sub->view != NULL) {
    sub->view->is_behind = true;
    return;
  }
  sub->dropped += end - first;
  atomic_store_explicit(&sub->line->dropped, sub->dropped, memory_order_release);
  if (sub->gap_end != first) {
    tell_gap(sub);
    sub->gap_first = first;
  }
  sub->gap_end = end;
}

/* One that will count as dropped, and is no sign of slowness: before it does, so that others never see too few. */
static void count_damaged(struct slc__sub *sub) {
  uint64_t damaged = atomic_load_explicit(&sub->line->damaged, memory_order_relaxed);
  atomic_store_explicit(&sub->line->damaged, damaged + 1, memory_order_release);
}

/* The message wanted next is there and can't be. */
static int pass_corrupt(struct slc__sub *sub, uint64_t n) {
  count_damaged(sub);
  if (sub->claim > n) sub->claim = n;
  count_dropped(sub, n, n + 1);
  set_next(sub, n + 1);
  slc__sub_tell(sub);
  tell_gap(sub);
  return SLC_CORRUPT;
}

/* The message wanted next was evicted after the hold had been stored, and its buffers have gone with it. */
static int pass_gone(struct slc__sub *sub, uint64_t n) {
  if (slc__sub_is_closed(sub)) return SLC_DISCONNECTED;
  count_dropped(sub, n, n + 1);
  set_next(sub, n + 1);
  slc__sub_tell(sub);
  return PASSED;
}

/* The message wanted next is there and not for this subscriber. */
static int pass_hidden(struct slc__sub *sub, uint64_t n, uint32_t hold) {
  slc__hold_clear(sub, hold);
  set_next(sub, n + 1);
  slc__sub_tell(sub);
  return PASSED;
}

static int pass_unreadable(struct slc__sub *sub, uint64_t n, int status) {
  if (status == SLC_GONE) return pass_gone(sub, n);
  return status == SLC_CORRUPT ? pass_corrupt(sub, n) : status;
}

/* Goes on to the next ordinal with what is in the held slot of this one, or passes it over (PASSED, SLC_CORRUPT).  With
 * another status it stays the next. */
static inline __attribute__((always_inline)) int accept_seen(struct slc__sub *sub, uint64_t n, uint32_t slot,
                                                             uint32_t hold, struct slc__taken *ret) {
  sub->started = true;
  int status = slc__held_read(sub, n, slot, hold, ret);
  if (__builtin_expect(status != SLC_OK, 0)) return pass_unreadable(sub, n, status);
  if (sub->claim > n) sub->claim = n + 1;
  atomic_store_explicit(&sub->line->received, atomic_load_explicit(&sub->line->received, memory_order_relaxed) + 1,
                        memory_order_relaxed);
  set_next(sub, n + 1);
  return SLC_OK;
}

/* The same for a message that is to be hidden, or that is of a multiplexer: apart, so that others pay one branch. */
static __attribute__((noinline)) int accept_special(struct slc__sub *sub, uint64_t n, uint32_t slot, uint32_t hold,
                                                    struct slc__taken *ret) {
  if (slc__held_is_hidden(sub, slot)) {
    if (sub->view != NULL) slc__virtual_pass(sub, n, slc__log_present(slc__lap_of(&sub->control, n), slot));
    return pass_hidden(sub, n, hold);
  }
  if (!slc__virtual_is_possible(sub, slot)) {
    slc__hold_clear(sub, hold);
    return pass_corrupt(sub, n);
  }
  int status = accept_seen(sub, n, slot, hold, ret);
  if (status == SLC_OK) slc__virtual_account(sub, slot);
  return status;
}

/* Takes the message, or passes it over (PASSED, SLC_CORRUPT).  With another status it stays the next. */
static int accept(struct slc__sub *sub, uint64_t n, uint32_t slot, uint32_t hold, struct slc__taken *ret) {
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slot);
  uint32_t next = atomic_load_explicit(&prefix->next, memory_order_relaxed);
  sub->guess = next <= sub->control.geometry.slots ? next : 0;
  if (__builtin_expect(slc__held_special(sub, slot) != 0, 0)) return accept_special(sub, n, slot, hold, ret);
  return accept_seen(sub, n, slot, hold, ret);
}

/* ---- overrun ---- */

/* From an ordinal that is gone to the older ones of those that are left: a quarter of them is left aside, or else a
 * slow reader would chase the head and get nothing.  The target must follow an ordinal that the log itself says
 * existed. */
static void skip_gone(struct slc__sub *sub) {
  uint64_t n = sub->next;
  uint64_t head = slc__hint(&sub->control.page->head), tail = slc__hint(&sub->control.page->tail);
  uint64_t target = head > n ? head : n + 1;
  if (sub->started && tail > target) target += (tail - target) / 4;
  if (slc__presence(&sub->control, slc__sub_log_word(sub, target - 1, memory_order_acquire), target - 1) ==
      SLC__ABSENT) {
    target = n + 1;
  }
  count_dropped(sub, n, target);
  sub->guess = 0;
  set_next(sub, target);
  slc__sub_tell(sub);
}

/* ---- virtual channels ---- */

/* Whether the next message, seen in `word`, is one that the channel began with, and hidden: no later one can be.
 * Without a hold: what was read is of that message when its log word is still the same afterwards (as in find.c). */
static bool is_hidden_beginning(const struct slc__sub *sub, uint64_t word) {
  uint32_t slot = slc__log_slot(word);
  uint32_t hidden = sub->hidden_flags & ~SLC__FLAG_VIRTUAL;
  if (sub->next != 0 || hidden == 0 || slot >= sub->control.geometry.slots) return false;
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slot);
  uint32_t flags = atomic_load_explicit(&prefix->flags, memory_order_relaxed);
  atomic_thread_fence(memory_order_acquire);
  return (flags & hidden) != 0 && slc__sub_log_word(sub, 0, memory_order_relaxed) == word;
}

/* Goes past what is hidden and messages of other virtual channels, without holding them, to the next that may be taken.
 * False: there is none.  Waiting publishers are told when the cursor has moved. */
static bool pass_others(struct slc__sub *sub) {
  uint64_t from = sub->next;
  enum slc__presence presence = SLC__PRESENT;
  for (uint64_t steps = slc__steps_max(&sub->control); steps > 0; steps--) {
    uint64_t word = slc__sub_log_word(sub, sub->next, memory_order_seq_cst);
    presence = slc__presence(&sub->control, word, sub->next);
    if (presence == SLC__GONE) {
      if (slc__sub_is_closed(sub)) break;
      skip_gone(sub);
    } else if (presence == SLC__PRESENT && is_hidden_beginning(sub, word)) {
      slc__virtual_pass(sub, sub->next, word);
      set_next(sub, sub->next + 1);
    } else if (presence == SLC__PRESENT && slc__virtual_is_others(sub, sub->next, word, &sub->guess)) {
      set_next(sub, sub->next + 1);
    } else {
      break;
    }
  }
  if (sub->next != from) slc__sub_tell(sub);
  return presence != SLC__ABSENT;
}

void slc__sub_set_view(struct slc__sub *sub, struct slc__virtual_view *view) {
  sub->view = view;
  sub->hidden_flags |= SLC__FLAG_VIRTUAL;
  slc__virtual_begin(sub);
}

/* ---- starting with the latest ---- */

/* The ordinal of the count-th latest message before the claim that is of the virtual channel subscribed to, or of the
 * first one; else the claim. */
static uint64_t last_of_ours(const struct slc__sub *sub, uint64_t count) {
  uint64_t found = sub->claim;
  uint32_t next;
  for (uint64_t n = sub->claim; count > 0 && n-- > sub->next;) {
    uint64_t word = slc__sub_log_word(sub, n, memory_order_acquire);
    enum slc__presence presence = slc__presence(&sub->control, word, n);
    if (presence == SLC__GONE) break;
    if (presence == SLC__ABSENT || slc__virtual_is_others(sub, n, word, &next)) continue;
    found = n;
    count--;
  }
  return found;
}

void slc__sub_start_last(struct slc__sub *sub, uint64_t count) {
  uint64_t first = sub->claim > count ? sub->claim - count : 0;
  slc__sub_start_at(sub, slc__virtual_is_filtered(sub) ? last_of_ours(sub, count) : first);
}

/* ---- take ---- */

static int find_logged(struct slc__sub *sub, uint32_t hold, struct slc__taken *ret) {
  for (uint64_t steps = slc__steps_max(&sub->control); steps > 0; steps--) {
    uint64_t n = sub->next;
    uint64_t word = slc__sub_log_word(sub, n, memory_order_acquire);
    uint32_t slot = slc__log_slot(word);
    switch (slc__presence(&sub->control, word, n)) {
    case SLC__ABSENT:
      return SLC_EMPTY;
    case SLC__GONE:
      if (slc__sub_is_closed(sub)) return SLC_DISCONNECTED; /* publishers wait for it no more */
      skip_gone(sub);
      break;
    case SLC__PRESENT:
      if (slot >= sub->control.geometry.slots) return pass_corrupt(sub, n);
      if (!slc__hold_logged(sub, n, word, hold)) break;
      int status = accept(sub, n, slot, hold, ret);
      if (status != PASSED) return status;
      break;
    }
  }
  return SLC_CORRUPT;
}

static int take_logged(struct slc__sub *sub, uint32_t hold, struct slc__taken *ret) {
  if (__builtin_expect(slc__virtual_is_filtered(sub), 0)) pass_others(sub);
  int status = find_logged(sub, hold, ret);
  if (sub->gap_end != 0) tell_gap(sub);
  if (status == SLC_EMPTY && sub->view != NULL) slc__virtual_catch_up(sub);
  return status;
}

static int no_hold_left(struct slc__sub *sub) {
  return slc__sub_ready(sub) ? SLC_HOLD_LIMIT : SLC_EMPTY;
}

int slc__sub_take(struct slc__sub *sub, struct slc__taken *ret) {
  if (slc__sub_is_closed(sub)) return SLC_DISCONNECTED;
  if (__builtin_expect(sub->held == sub->max_holds, 0)) return no_hold_left(sub);
  uint32_t hold = slc__hold_unused(sub);
  uint32_t guess = sub->guess;
  if (guess != 0 && hold_announced(sub, guess - 1, hold)) {
    int status = accept(sub, sub->next, guess - 1, hold, ret);
    if (__builtin_expect(status != PASSED, 1)) return status;
  }
  return take_logged(sub, hold, ret);
}

/* ---- take many ---- */

/* A message whose slot is named in a hold that counts for nothing until it is looked at again. */
static void name_candidate(struct slc__sub *sub, uint64_t n, uint32_t slot, uint64_t word, struct slc__taken *ret) {
  uint32_t hold = slc__hold_unused(sub);
  atomic_store_explicit(slc__hold_at(sub, hold), slot + 1, memory_order_relaxed);
  sub->free_hold = hold + 1 == sub->max_holds ? 0 : hold + 1;
  ret->ordinal = n;
  ret->size = word;
  ret->slot = slot;
  ret->hold = hold;
}

/* As many as announce each other, from the next on.  The log is left alone, so that its lines stay the publisher's. */
static size_t name_announced(struct slc__sub *sub, struct slc__taken *ret, size_t max) {
  size_t count = 0;
  for (uint32_t guess = sub->guess; count < max && guess != 0; count++) {
    const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, guess - 1);
    uint64_t n = sub->next + count;
    if (atomic_load_explicit(&prefix->seq, memory_order_acquire) != n + 1) break;
    name_candidate(sub, n, guess - 1, ANNOUNCED, &ret[count]);
    uint32_t next = atomic_load_explicit(&prefix->next, memory_order_relaxed);
    guess = next <= sub->control.geometry.slots ? next : 0;
  }
  return count;
}

/* As many as the log has, from the next on.  Each candidate's log word is kept in `size`. */
static size_t name_logged(struct slc__sub *sub, struct slc__taken *ret, size_t max) {
  size_t count = 0;
  for (uint64_t n = sub->next; count < max; n++, count++) {
    uint64_t word = slc__sub_log_word(sub, n, memory_order_acquire);
    uint32_t slot = slc__log_slot(word);
    if (slc__presence(&sub->control, word, n) != SLC__PRESENT || slot >= sub->control.geometry.slots) break;
    name_candidate(sub, n, slot, word, &ret[count]);
    __builtin_prefetch(slc__buffers_prefix(&sub->buffers, slot));
  }
  return count;
}

/* The messages of several publishers hardly ever announce each other. */
static size_t name_candidates(struct slc__sub *sub, struct slc__taken *ret, size_t max) {
  size_t count = 0;
  if (atomic_load_explicit(&sub->control.page->publishers, memory_order_relaxed) == 1)
    count = name_announced(sub, ret, max);
  return count > 0 ? count : name_logged(sub, ret, max);
}

/* The second look, after the fence. */
static bool is_unchanged(const struct slc__sub *sub, const struct slc__taken *candidate) {
  if (candidate->size != ANNOUNCED)
    return slc__sub_log_word(sub, candidate->ordinal, memory_order_seq_cst) == candidate->size;
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, candidate->slot);
  return atomic_load_explicit(&prefix->seq, memory_order_seq_cst) == candidate->ordinal + 1;
}

/* Those that are still what they were are held; the others are given up, and the ordinals lost before one that is
 * taken count as dropped.  What is lost at the end is for the next take to find, and so is one that can't be read now,
 * with all behind it. */
static size_t accept_candidates(struct slc__sub *sub, struct slc__taken *ret, size_t candidates) {
  size_t count = 0;
  bool is_blocked = false;
  for (size_t i = 0; i < candidates; i++) {
    const struct slc__taken candidate = ret[i];
    if (candidate.ordinal != sub->next && slc__sub_is_closed(sub)) is_blocked = true;
    if (is_blocked || !is_unchanged(sub, &candidate)) {
      slc__hold_drop(sub, candidate.hold);
      continue;
    }
    if (candidate.ordinal != sub->next) {
      count_dropped(sub, sub->next, candidate.ordinal);
      set_next(sub, candidate.ordinal);
    }
    int status = accept(sub, candidate.ordinal, candidate.slot, candidate.hold, &ret[count]);
    if (status == SLC_OK) count++;
    is_blocked = sub->next == candidate.ordinal;
  }
  if (sub->gap_end != 0) tell_gap(sub);
  return count;
}

/* One fence between all holds and all second looks: it pairs with that of settle() in publish.c just as the seq_cst
 * store of a single hold does.  Either our look sees the eviction, or the publisher's scan sees the hold. */
int slc__sub_take_many(struct slc__sub *sub, struct slc__taken *ret, size_t max, size_t *ret_count) {
  uint32_t room = sub->max_holds - sub->held;
  if (slc__sub_is_closed(sub)) return SLC_DISCONNECTED;
  if (room == 0) return no_hold_left(sub);
  size_t count = 0, candidates = name_candidates(sub, ret, max < room ? max : room);
  if (candidates > 0) {
    atomic_thread_fence(memory_order_seq_cst);
    count = accept_candidates(sub, ret, candidates);
  }
  if (count == 0) { /* nothing there, or all gone, damaged or hidden: the ordinary way goes on and says what it is */
    int status = slc__sub_take(sub, ret);
    if (status != SLC_OK) return status;
    count = 1;
  }
  *ret_count = count;
  return SLC_OK;
}

/* ---- take the newest ---- */

int slc__sub_take_newest(struct slc__sub *sub, struct slc__taken *ret) {
  if (slc__sub_is_closed(sub)) return SLC_DISCONNECTED;
  if (sub->held == sub->max_holds) return no_hold_left(sub);
  uint32_t hold = slc__hold_unused(sub);
  uint64_t first = sub->next, tail = slc__hint(&sub->control.page->tail);
  uint64_t end = slc__first_absent(&sub->control, tail > first ? tail : first);
  for (uint64_t n = end; n-- > first;) {
    uint64_t word = slc__sub_log_word(sub, n, memory_order_acquire);
    if (slc__presence(&sub->control, word, n) != SLC__PRESENT) break;
    uint32_t slot = slc__log_slot(word);
    if (slot >= sub->control.geometry.slots || !slc__hold_logged(sub, n, word, hold)) continue;
    if (slc__held_is_hidden(sub, slot)) {
      slc__hold_drop(sub, hold);
      continue;
    }
    if (n > first && sub->view != NULL) slc__virtual_look(sub); /* what lies between is skipped, not lost */
    int status = accept(sub, n, slot, hold, ret);
    if (n > first) slc__sub_tell(sub);
    if (status == PASSED) break;
    return status;
  }
  return slc__sub_take(sub, ret); /* all between is gone: the ordinary way counts and goes on */
}

int slc__sub_release(struct slc__sub *sub, uint32_t hold) {
  if (hold >= sub->max_holds || atomic_load_explicit(slc__hold_at(sub, hold), memory_order_relaxed) == 0)
    return SLC_STALE;
  if (sub->ring_on_release) {
    /* seq_cst on both sides: with release alone both missed each other 8,008 times of 2,000,000. */
    atomic_store_explicit(slc__hold_at(sub, hold), 0, memory_order_seq_cst);
    tell_publishers(sub);
  } else {
    slc__hold_drop(sub, hold);
  }
  sub->held--;
  return SLC_OK;
}

void slc__sub_reject(struct slc__sub *sub, const struct slc__taken *taken) {
  uint64_t received = atomic_load_explicit(&sub->line->received, memory_order_relaxed);
  atomic_store_explicit(&sub->line->received, received - 1, memory_order_relaxed);
  count_damaged(sub);
  if (sub->view != NULL) slc__virtual_reject(sub, taken->slot);
  slc__sub_release(sub, taken->hold);
  if (sub->claim > taken->ordinal) sub->claim = taken->ordinal;
  count_dropped(sub, taken->ordinal, taken->ordinal + 1);
  tell_gap(sub);
}

/* ---- waiting ---- */

uint32_t slc__sub_closed(const struct slc__sub *sub) {
  return atomic_load_explicit(&sub->line->closed, memory_order_seq_cst);
}

/* Also when it has been closed: there is something to be told, and nobody is to sleep any more. */
bool slc__sub_ready(struct slc__sub *sub) {
  if (slc__sub_closed(sub) != SLC__OPEN) return true;
  if (__builtin_expect(slc__virtual_is_filtered(sub), 0)) return pass_others(sub);
  uint64_t n = sub->next, word = slc__sub_log_word(sub, n, memory_order_seq_cst);
  enum slc__presence presence = slc__presence(&sub->control, word, n);
  if (presence == SLC__PRESENT && is_hidden_beginning(sub, word))
    presence = slc__presence(&sub->control, slc__sub_log_word(sub, 1, memory_order_seq_cst), 1);
  return presence != SLC__ABSENT;
}

/* The payload's line is asked for as soon as the announcement is seen, before the hold is stored: measured, 64-byte
 * round trips 300 -> 260 ns. */
bool slc__sub_is_announced(struct slc__sub *sub) {
  if (sub->guess == 0) return false;
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, sub->guess - 1);
  uint64_t seq = atomic_load_explicit(&prefix->seq, memory_order_acquire);
  if ((seq & ~SLC__SEQ_PENDING) == sub->next + 1) __builtin_prefetch((const uint8_t *)prefix + SLC__PAYLOAD_OFFSET);
  return seq == sub->next + 1 && (!slc__virtual_is_filtered(sub) || slc__sub_ready(sub));
}

static bool publishers_differ(const struct slc__sub *sub) {
  const struct slc__control_page *page = sub->control.page;
  return atomic_load_explicit(&page->publishers, memory_order_seq_cst) != sub->seen_publishers ||
         atomic_load_explicit(&page->publishers_joined, memory_order_seq_cst) != sub->seen_joined;
}

bool slc__sub_publishers_changed(struct slc__sub *sub) {
  if (!publishers_differ(sub)) return false;
  const struct slc__control_page *page = sub->control.page;
  sub->seen_publishers = atomic_load_explicit(&page->publishers, memory_order_seq_cst);
  sub->seen_joined = atomic_load_explicit(&page->publishers_joined, memory_order_seq_cst);
  return true;
}

/* Looks mostly at the one line that a publisher writes anyway: polling the log word would take it away from under the
 * publisher's compare-and-swap. */
static bool spin_for_message(struct slc__sub *sub, int64_t until) {
  do {
    for (int i = 0; i < SPINS_PER_LOOK; i++) {
      if (slc__sub_is_announced(sub)) return true;
      slc__pause();
    }
    if (slc__sub_ready(sub)) return true;
  } while (slc__clock_ns() < until && !publishers_differ(sub));
  return false;
}

/* A stream that has been read dry: its publisher is writing the next messages at this moment.  Who polls their lines
 * takes each away from under it, and both get on only one message per round trip; a moment later many are there, and
 * cost one line each.  As long as the last run was long, so that whoever gets messages one by one waits for nothing;
 * not so long that a part of a small channel's history might go meanwhile (docs/adr/0017). */
static void let_gather(struct slc__sub *sub) {
  uint64_t run = sub->next - sub->ran_dry_at, most = sub->control.geometry.slots / 8;
  sub->ran_dry_at = sub->next;
  if (run < 2) return;
  if (most > GATHER_MAX) most = GATHER_MAX;
  for (uint64_t pauses = run < most ? run : most; pauses > 0; pauses--) slc__pause();
}

/* Publishers' coming and going is looked at like the log word: between arming and sleep.
 * While polling may do, the log word is left alone: a look at it would take its line away from the publisher that is
 * about to change it. */
int slc__sub_wait(struct slc__sub *sub, int64_t deadline, int64_t spin_ns) {
  bool polls = spin_ns > 0;
  if (slc__sub_is_announced(sub)) return SLC_OK;
  if ((!polls || sub->guess == 0) && slc__sub_ready(sub)) return SLC_OK;
  if (polls) {
    let_gather(sub);
    int64_t until = slc__deadline_after(spin_ns);
    if (spin_for_message(sub, until < deadline ? until : deadline)) return SLC_OK;
  }
  uint64_t bell = slc__gate_arm(&sub->table->armed, &sub->bell->bell);
  if (slc__sub_ready(sub)) return SLC_OK;
  if (publishers_differ(sub)) return SLC__SUB_RUNG; /* the broker has rung for it before the bell was read */
  bool rung = slc__gate_sleep(&sub->bell->bell, bell, deadline);
  if (slc__sub_ready(sub)) return SLC_OK;
  return rung ? SLC__SUB_RUNG : SLC_TIMED_OUT;
}

bool slc__sub_sleep_begin(struct slc__sub *sub, uint64_t *ret_bell) {
  *ret_bell = slc__gate_arm(&sub->table->armed, &sub->bell->bell);
  return !slc__sub_ready(sub);
}

void slc__sub_sleep(const struct slc__sub *sub, uint64_t bell, int64_t deadline) {
  slc__gate_sleep(&sub->bell->bell, bell, deadline);
}

/* The line's word and the table's must name the same value, and the bell still have it: a bell that has moved meanwhile
 * would never match again. */
bool slc__sub_arm(struct slc__sub *sub) {
  if (slc__virtual_is_filtered(sub)) {
    /* A number of its own for each arming: messages of others advance the bell, and must not disarm (virtual.c). */
    atomic_store_explicit(&sub->line->armed, ++sub->view->armings, memory_order_seq_cst);
    return !slc__sub_ready(sub);
  }
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
  uint64_t tail = slc__hint(&sub->control.page->tail);
  uint64_t lag = tail > sub->next ? tail - sub->next : 0;
  return slc__virtual_is_filtered(sub) ? slc__virtual_lag(sub, lag) : lag;
}

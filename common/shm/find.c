/* Looking back: a subscriber finds and holds messages that are retained, beside those that it takes in order.
 *
 * Nothing here moves the subscriber's position or counts.  What is found is held as by take (hold.h) and
 * released in the same way.  One thread at a time per struct slc__sub. */
#include "shm/hold.h"
#include "shm/slotlog.h"
#include "shm/words.h"
#include "slotcast/status.h"

#define LOST 1 /* beside the statuses: gone since the look at its log word, or hidden */

/* Holds ordinal n, which was seen in `word`, and reads it. */
static int hold_and_read(struct slc__sub *sub, uint64_t n, uint64_t word, struct slc__taken *ret) {
  uint32_t slot = slc__log_slot(word);
  if (slot >= sub->control.geometry.slots) return SLC_CORRUPT;
  uint32_t hold = slc__hold_unused(sub);
  if (!slc__hold_logged(sub, n, word, hold)) return LOST;
  if (slc__held_is_hidden(sub, slot)) {
    slc__hold_drop(sub, hold);
    return LOST;
  }
  int status = slc__held_read(sub, n, slot, hold, ret);
  return status == SLC_GONE ? LOST : status;
}

/* The oldest ordinal from n on that may be retained.  Head is a hint, so it is believed only where the log itself says
 * that what is before it existed. */
static uint64_t skip_to_head(const struct slc__sub *sub, uint64_t n) {
  uint64_t head = slc__hint(&sub->control.page->head);
  if (head <= n) return n;
  uint64_t word = slc__sub_log_word(sub, head - 1, memory_order_acquire);
  return slc__presence(&sub->control, word, head - 1) == SLC__ABSENT ? n : head;
}

int slc__sub_find(struct slc__sub *sub, uint64_t ordinal, bool or_later, struct slc__taken *ret) {
  if (slc__sub_is_closed(sub)) return SLC_DISCONNECTED;
  if (sub->held == sub->max_holds) return SLC_HOLD_LIMIT;
  uint64_t n = or_later ? skip_to_head(sub, ordinal) : ordinal;
  for (uint64_t steps = slc__steps_max(&sub->control); steps > 0 && n <= SLC__ORDINAL_MAX; steps--, n++) {
    uint64_t word = slc__sub_log_word(sub, n, memory_order_acquire);
    enum slc__presence presence = slc__presence(&sub->control, word, n);
    if (presence == SLC__ABSENT) return SLC_EMPTY;
    int status = presence == SLC__PRESENT ? hold_and_read(sub, n, word, ret) : LOST;
    if (status != LOST) return status;
    if (!or_later) return SLC_GONE;
  }
  return SLC_CORRUPT;
}

/* The time stamp of ordinal n, seen in `word`, without a hold: what was read is n's when the log word is still the same
 * afterwards, since a publisher writes a slot only after it has evicted what was there.  The fence pairs with that of
 * settle() in publish.c. */
static bool peek_time(const struct slc__sub *sub, uint64_t n, uint64_t word, uint64_t *ret_timestamp) {
  uint32_t slot = slc__log_slot(word);
  if (slot >= sub->control.geometry.slots) return false;
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slot);
  uint64_t timestamp = atomic_load_explicit(&prefix->timestamp, memory_order_relaxed);
  atomic_thread_fence(memory_order_acquire);
  if (slc__sub_log_word(sub, n, memory_order_relaxed) != word) return false;
  *ret_timestamp = timestamp;
  return true;
}

int slc__sub_find_time(struct slc__sub *sub, uint64_t timestamp, bool or_later, struct slc__taken *ret) {
  if (slc__sub_is_closed(sub)) return SLC_DISCONNECTED;
  if (sub->held == sub->max_holds) return SLC_HOLD_LIMIT;
  bool is_past = false; /* a message of this time would have come already */
  uint64_t n = skip_to_head(sub, 0);
  for (uint64_t steps = slc__steps_max(&sub->control); steps > 0 && n <= SLC__ORDINAL_MAX; steps--, n++) {
    uint64_t word = slc__sub_log_word(sub, n, memory_order_acquire);
    enum slc__presence presence = slc__presence(&sub->control, word, n);
    if (presence == SLC__ABSENT) return is_past && !or_later ? SLC_GONE : SLC_EMPTY;
    uint64_t found;
    if (presence != SLC__PRESENT || !peek_time(sub, n, word, &found)) continue;
    if (found >= timestamp) is_past = true;
    if (found == 0 || found < timestamp || (found > timestamp && !or_later)) continue;
    int status = hold_and_read(sub, n, word, ret);
    if (status != LOST) return status;
  }
  return SLC_CORRUPT;
}

int slc__sub_take_weak(struct slc__sub *sub, uint64_t ordinal, uint32_t slot, struct slc__taken *ret) {
  if (slc__sub_is_closed(sub)) return SLC_DISCONNECTED;
  if (sub->held == sub->max_holds) return SLC_HOLD_LIMIT;
  uint64_t word = slc__sub_log_word(sub, ordinal, memory_order_acquire);
  if (slc__presence(&sub->control, word, ordinal) != SLC__PRESENT || slc__log_slot(word) != slot) return SLC_GONE;
  int status = hold_and_read(sub, ordinal, word, ret);
  return status == LOST ? SLC_GONE : status;
}

/* Holding one message: what take.c and find.c share.  Private to the two.  Thread: the subscriber's. */
#ifndef SLC__SHM_HOLD_H
#define SLC__SHM_HOLD_H

#include "shm/slotlog.h"
#include "shm/virtual.h"
#include "shm/words.h"
#include "slotcast/status.h"

static inline _Atomic uint32_t *slc__hold_at(const struct slc__sub *sub, uint32_t hold) {
  if (__builtin_expect(hold < SLC__LINE_HOLDS, 1)) return &sub->line->holds[hold]; /* without a division */
  return &sub->line[hold / SLC__LINE_HOLDS].holds[hold % SLC__LINE_HOLDS];
}

static inline uint64_t slc__sub_log_word(const struct slc__sub *sub, uint64_t n, memory_order order) {
  return atomic_load_explicit(slc__log_at(&sub->control, n), order);
}

/* The one word that the broker writes in its line, next to those that only it writes: always in its cache.  Relaxed: a
 * take that misses it holds one message more, safely; what a reliable one may not miss is looked at again where a
 * message is found gone. */
static inline bool slc__sub_is_closed(const struct slc__sub *sub) {
  return __builtin_expect(atomic_load_explicit(&sub->line->closed, memory_order_relaxed) != SLC__OPEN, 0);
}

/* Only while held < max_holds. */
static inline uint32_t slc__hold_unused(const struct slc__sub *sub) {
  uint32_t hold = sub->free_hold;
  while (atomic_load_explicit(slc__hold_at(sub, hold), memory_order_relaxed) != 0) {
    hold = hold + 1 == sub->max_holds ? 0 : hold + 1;
    if (hold == sub->free_hold) break;
  }
  return hold;
}

static inline void slc__hold_clear(const struct slc__sub *sub, uint32_t hold) {
  atomic_store_explicit(slc__hold_at(sub, hold), 0, memory_order_release); /* pairs with strike_held() */
}

/* The same, telling publishers that wait: one that has looked meanwhile has taken the slot for held. */
static inline void slc__hold_drop(struct slc__sub *sub, uint32_t hold) {
  slc__hold_clear(sub, hold);
  slc__sub_tell(sub);
}

/* By the log word, whose slot was checked: held when it is still the same after the hold was stored.  Pairs with
 * settle() in publish.c. */
static inline bool slc__hold_logged(struct slc__sub *sub, uint64_t n, uint64_t word, uint32_t hold) {
  atomic_store_explicit(slc__hold_at(sub, hold), slc__log_slot(word) + 1, memory_order_seq_cst);
  if (slc__sub_log_word(sub, n, memory_order_seq_cst) == word) return true;
  slc__hold_drop(sub, hold);
  return false;
}

/* The one look that every message pays: whether the message in a held slot is one to be hidden or, on a multiplexer,
 * numbered. */
static inline uint32_t slc__held_special(const struct slc__sub *sub, uint32_t slot) {
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slot);
  return atomic_load_explicit(&prefix->flags, memory_order_relaxed) & sub->hidden_flags;
}

/* Whether a slot that is held has a message that this subscriber does not want to see. */
static inline bool slc__held_is_hidden(const struct slc__sub *sub, uint32_t slot) {
  uint32_t special = slc__held_special(sub, slot);
  if (__builtin_expect(special == 0, 1)) return false;
  return special != SLC__FLAG_VIRTUAL || !slc__virtual_is_ours(sub, slot);
}

/* The payload of a held message in a later generation of buffers (see take.c).  Apart, since the others need nothing on
 * the stack. */
__attribute__((noinline)) int slc__held_payload_of_later(struct slc__sub *sub, uint64_t n, uint32_t slot,
                                                         struct slc__taken *ret, uint64_t *ret_capacity);

/* Where the payload of a held message lies, and how much room there is. */
static inline int slc__held_payload(struct slc__sub *sub, uint64_t n, uint32_t slot, const struct slc__prefix *prefix,
                                    struct slc__taken *ret, uint64_t *ret_capacity) {
  ret->generation = 0;
  if ((ret->flags & SLC__FLAG_INLINE) != 0) {
    ret->payload = prefix->inline_payload;
    *ret_capacity = sub->buffers.inline_max;
    return SLC_OK;
  }
  if (__builtin_expect((ret->flags & SLC__FLAG_GROWN) != 0, 0))
    return slc__held_payload_of_later(sub, n, slot, ret, ret_capacity);
  ret->payload = (const uint8_t *)prefix + sub->buffers.payload_offset;
  *ret_capacity = sub->buffers.capacity;
  return SLC_OK;
}

/* What lies in a held slot, checked; the hold is then in use.  Otherwise the hold is cleared: SLC_CORRUPT, it can't be;
 * SLC_GONE, the message has been evicted meanwhile, and its buffers with it; other statuses of payload_of, not now. */
static inline int slc__held_read(struct slc__sub *sub, uint64_t n, uint32_t slot, uint32_t hold,
                                 struct slc__taken *ret) {
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slot);
  uint64_t size = atomic_load_explicit(&prefix->size, memory_order_relaxed);
  uint32_t flags = atomic_load_explicit(&prefix->flags, memory_order_relaxed);
  ret->flags = flags & 0xffff;
  int status = slc__held_payload(sub, n, slot, prefix, ret, &ret->size); /* how much it could be */
  if (__builtin_expect(status != SLC_OK || size - 1 >= ret->size, 0)) {
    slc__hold_drop(sub, hold);
    return status == SLC_OK ? SLC_CORRUPT : status;
  }
  ret->ordinal = n;
  ret->timestamp = atomic_load_explicit(&prefix->timestamp, memory_order_relaxed);
  ret->size = size;
  ret->extra = (const uint8_t *)prefix + SLC__PAYLOAD_OFFSET;
  ret->publisher = flags >> 16;
  ret->slot = slot;
  ret->hold = hold;
  sub->held++;
  sub->free_hold = hold + 1 == sub->max_holds ? 0 : hold + 1;
  return SLC_OK;
}

#endif

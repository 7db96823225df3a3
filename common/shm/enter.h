/* The three stores by which a message comes to exist.  The owner word and `pending` are written after ordinal n was
 * seen free (word) and before the compare-and-swap; once that has won, the slot is no longer the publisher's. */
#ifndef SLC__SHM_ENTER_H
#define SLC__SHM_ENTER_H

#include "shm/words.h"

/* *word from `*seen` to `value`; false, and what is there in *seen: another has changed it.  Where there is no other a
 * store does, and costs no lock: what is looked at afterwards, and must be, comes after a fence of its own. */
static inline bool slc__replace(const struct slc__pub *pub, _Atomic uint64_t *word, uint64_t *seen, uint64_t value) {
  if (pub->is_alone) {
    atomic_store_explicit(word, value, memory_order_release);
    return true;
  }
  return atomic_compare_exchange_strong_explicit(word, seen, value, memory_order_seq_cst, memory_order_acquire);
}

/* False: ordinal n, in *word_at, is another's. */
static inline bool slc__enter(const struct slc__pub *pub, uint32_t slot, struct slc__prefix *prefix, uint64_t n,
                              _Atomic uint64_t *word_at, uint64_t word) {
  atomic_store_explicit(&pub->control.own[slot], slc__own_at(pub->id, n), memory_order_release);
  atomic_store_explicit(&prefix->seq, SLC__SEQ_PENDING | (n + 1), memory_order_release);
  return slc__replace(pub, word_at, &word, slc__log_present(slc__lap_of(&pub->control, n), slot));
}

#endif

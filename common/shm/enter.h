/* The three stores by which a message comes to exist.  The owner word and `pending` are written after ordinal n was
 * seen free (word) and before the compare-and-swap; once that has won, the slot is no longer the publisher's. */
#ifndef SLC__SHM_ENTER_H
#define SLC__SHM_ENTER_H

#include "shm/words.h"

/* False: ordinal n, in *word_at, is another's. */
static inline bool slc__enter(const struct slc__pub *pub, uint32_t slot, struct slc__prefix *prefix, uint64_t n,
                              _Atomic uint64_t *word_at, uint64_t word) {
  atomic_store_explicit(&pub->control.own[slot], slc__own_at(pub->id, n), memory_order_release);
  atomic_store_explicit(&prefix->seq, SLC__SEQ_PENDING | (n + 1), memory_order_release);
  return atomic_compare_exchange_strong_explicit(word_at, &word, slc__log_present(slc__lap_of(&pub->control, n), slot),
                                                 memory_order_seq_cst, memory_order_relaxed);
}

#endif

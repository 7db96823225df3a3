/* The words of the slot log: how laps, slots, owners and ordinals are packed (layout.h has the bit fields), and the few
 * operations on them that everybody needs.  Pure functions of their arguments. */
#ifndef SLC__SHM_WORDS_H
#define SLC__SHM_WORDS_H

#include <stdbool.h>

#include "shm/slotlog.h"

/* ---- log words ---- */

static inline uint64_t slc__log_present(uint64_t lap, uint32_t slot) {
  return lap << SLC__LOG_LAP_SHIFT | slot;
}
static inline uint64_t slc__log_evicted(uint64_t lap) {
  return lap << SLC__LOG_LAP_SHIFT | SLC__LOG_EVICTED;
}
static inline uint64_t slc__log_lap(uint64_t word) {
  return word >> SLC__LOG_LAP_SHIFT;
}
static inline bool slc__log_is_evicted(uint64_t word) {
  return (word & SLC__LOG_EVICTED) != 0;
}
static inline uint32_t slc__log_slot(uint64_t word) {
  return (uint32_t)(word & SLC__LOG_SLOT_MASK);
}

static inline uint64_t slc__lap_of(const struct slc__control *control, uint64_t n) {
  return (n >> control->log_shift) + 1;
}
static inline _Atomic uint64_t *slc__log_at(const struct slc__control *control, uint64_t n) {
  return &control->log[n & (control->geometry.log_size - 1)];
}

/* ---- owner words ---- */

static inline uint64_t slc__own_free(uint64_t n) {
  return n & SLC__OWN_ORDINAL_MASK;
}
static inline uint64_t slc__own_owned(uint32_t publisher, uint64_t n) {
  return (uint64_t)publisher << SLC__OWN_PUBLISHER_SHIFT | (n & SLC__OWN_ORDINAL_MASK);
}
static inline uint64_t slc__own_at(uint32_t publisher, uint64_t n) {
  return SLC__OWN_AT | slc__own_owned(publisher, n);
}
static inline uint64_t slc__own_ordinal(uint64_t own) {
  return own & SLC__OWN_ORDINAL_MASK;
}
static inline uint32_t slc__own_publisher(uint64_t own) {
  return (uint32_t)(own >> SLC__OWN_PUBLISHER_SHIFT & SLC__OWN_PUBLISHER_MASK);
}
static inline bool slc__own_is_free(uint64_t own) {
  return own >> SLC__OWN_PUBLISHER_SHIFT == 0;
}
static inline bool slc__own_is_at(uint64_t own) {
  return (own & SLC__OWN_AT) != 0;
}

/* ---- words that only grow ---- */

static inline void slc__raise(_Atomic uint64_t *word, uint64_t value, memory_order order) {
  uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);
  while (seen < value && !atomic_compare_exchange_weak_explicit(word, &seen, value, order, memory_order_relaxed)) {
  }
}

/* Where the eviction or the search for the oldest begins, and where the next ordinal is: hints, so the loops that use
 * them are bounded by this many steps, whatever they say. */
static inline uint64_t slc__steps_max(const struct slc__control *control) {
  return (uint64_t)control->geometry.log_size * 2 + control->geometry.slots;
}

/* Head or tail; what can't be an ordinal counts for nothing. */
static inline uint64_t slc__hint(const _Atomic uint64_t *word) {
  uint64_t value = atomic_load_explicit(word, memory_order_acquire);
  return value <= SLC__ORDINAL_MAX ? value : 0;
}

static inline void slc__pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* The slot where ordinal n is, if it is retained: what one look at its log word says. */
enum slc__presence {
  SLC__ABSENT,  /* not published yet */
  SLC__PRESENT, /* there, in slc__log_slot(word) */
  SLC__GONE,    /* evicted, or overtaken by a later lap */
};
static inline enum slc__presence slc__presence_in(uint64_t word, uint64_t lap) {
  if ((word ^ slc__log_present(lap, 0)) <= SLC__LOG_SLOT_MASK) return SLC__PRESENT;
  return slc__log_lap(word) < lap ? SLC__ABSENT : SLC__GONE;
}
static inline enum slc__presence slc__presence(const struct slc__control *control, uint64_t word, uint64_t n) {
  return slc__presence_in(word, slc__lap_of(control, n));
}

#endif

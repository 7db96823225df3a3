/* Sleeping and waking across processes, without a lost wake-up and without a system call when nobody sleeps.
 *
 * Two words with different writers: `bell`, which a sleeper waits on and a ringer advances, and `armed`, where sleepers
 * say on which bell value they went to sleep.  A ringer rings only when both are equal: once per arming, however many
 * sleep, and the word of a dead sleeper costs one ring.  Used in both directions: subscribers sleep on the bell that
 * publishers write; publishers that want a slot sleep on `released` that subscribers write.
 *
 * What makes it right (tests/model/wake.pml): the sleeper reads the bell, then arms, then looks once more at what it
 * waits for, then sleeps on the value it read; the ringer makes the change, then looks at armed, then advances, then
 * wakes.  All seq_cst.
 *
 * FUTEX_WAIT and FUTEX_WAKE need no write permission, so every side can have the other's word mapped read-only. */
#ifndef SLC__SHM_GATE_H
#define SLC__SHM_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Arms for the bell's value, which is returned: look again, then sleep on it. */
uint64_t slc__gate_arm(_Atomic uint64_t *armed, const _Atomic uint64_t *bell);

/* Sleeps while *bell is `value`, until `deadline` (CLOCK_MONOTONIC, ns).  False: the deadline has passed. */
bool slc__gate_sleep(const _Atomic uint64_t *bell, uint64_t value, int64_t deadline);

/* The same on the first of several bells to change; at most SLC__GATE_SLEEP_MAX, which is FUTEX_WAITV_MAX. */
#define SLC__GATE_SLEEP_MAX 128
struct slc__gate_wait {
  const _Atomic uint64_t *bell;
  uint64_t value;
};
bool slc__gate_sleep_any(const struct slc__gate_wait *waits, size_t count, int64_t deadline);

/* Whether somebody sleeps on the bell's present value.  Inline: this is what every publish pays. */
static inline bool slc__gate_is_armed(const _Atomic uint64_t *armed, const _Atomic uint64_t *bell) {
  return __atomic_load_n((const uint64_t *)armed, __ATOMIC_SEQ_CST) ==
         __atomic_load_n((const uint64_t *)bell, __ATOMIC_SEQ_CST);
}
/* Advances the bell and wakes every sleeper.  Returns the value that it replaced: whoever is armed with that, and
 * sleeps on something else than the futex, is for the caller to wake. */
uint64_t slc__gate_ring(_Atomic uint64_t *bell);

/* Makes a doorbell, one end of a socket pair, readable at the other end.  Does not wait. */
void slc__doorbell_ring(int fd);

#endif

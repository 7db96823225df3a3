/* Sleeping and waking: the futex calls behind gate.h.  Any thread of any process. */
#include "shm/gate.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/words.h"

enum { DOORBELL_TRIES = 8 };

/* Linux 5.16; the number is the same on every architecture.  Debian 12's libc headers have it, older ones do not. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

/* A futex is 32 bits; a bell has 64, so that a value never comes back.  The futex is its low half. */
static const uint32_t *low_half(const _Atomic uint64_t *bell) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return (const uint32_t *)(const void *)bell;
#else
  return (const uint32_t *)(const void *)bell + 1;
#endif
}

uint64_t slc__gate_arm(_Atomic uint64_t *armed, const _Atomic uint64_t *bell) {
  uint64_t value = atomic_load_explicit(bell, memory_order_seq_cst);
  /* A plain store of an older value would un-arm another sleeper, hence the maximum. */
  slc__raise(armed, value, memory_order_seq_cst);
  /* slc__raise makes no store when another has armed already: the look that follows must not be ordered before. */
  atomic_thread_fence(memory_order_seq_cst);
  return value;
}

bool slc__gate_sleep(const _Atomic uint64_t *bell, uint64_t value, int64_t deadline) {
  struct timespec until = slc__clock_timespec(deadline);
  const struct timespec *timeout = deadline == SLC__DEADLINE_NEVER ? NULL : &until;
  /* FUTEX_WAIT_BITSET takes an absolute time, so that a spurious return does not prolong the wait. */
  long result =
      syscall(SYS_futex, low_half(bell), FUTEX_WAIT_BITSET, (uint32_t)value, timeout, NULL, FUTEX_BITSET_MATCH_ANY);
  return !(result != 0 && errno == ETIMEDOUT);
}

bool slc__gate_sleep_any(const struct slc__gate_wait *waits, size_t count, int64_t deadline) {
  if (count == 1) return slc__gate_sleep(waits[0].bell, waits[0].value, deadline);
  struct timespec until = slc__clock_timespec(deadline);
  const struct timespec *timeout = deadline == SLC__DEADLINE_NEVER ? NULL : &until;
  if (count == 0) {
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    return false;
  }
  struct futex_waitv list[SLC__GATE_SLEEP_MAX];
  if (count > SLC__GATE_SLEEP_MAX) count = SLC__GATE_SLEEP_MAX;
  for (size_t i = 0; i < count; i++) {
    list[i] = (struct futex_waitv){
        .val = (uint32_t)waits[i].value, .uaddr = (uintptr_t)low_half(waits[i].bell), .flags = FUTEX_32};
  }
  long result = syscall(SYS_futex_waitv, list, (unsigned)count, 0U, timeout, CLOCK_MONOTONIC);
  return !(result < 0 && errno == ETIMEDOUT);
}

uint64_t slc__gate_ring(_Atomic uint64_t *bell) {
  uint64_t replaced = atomic_fetch_add_explicit(bell, 1, memory_order_seq_cst);
  syscall(SYS_futex, low_half(bell), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
  return replaced;
}

/* Full (EAGAIN): then it is readable already.  Gone: nobody is there to hear it.  Otherwise the kernel had no memory
 * for one byte, for a moment; whoever sleeps there would sleep until the next message. */
void slc__doorbell_ring(int fd) {
  for (int i = 0; i < DOORBELL_TRIES; i++) {
    if (send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return;
    if (errno != ENOMEM && errno != ENOBUFS && errno != EINTR) return;
  }
}

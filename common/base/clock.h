/* Time: CLOCK_MONOTONIC in nanoseconds, and deadlines.  Thread: any. */
#ifndef SLC__BASE_CLOCK_H
#define SLC__BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define SLC__NS_PER_S INT64_C(1000000000)
#define SLC__DEADLINE_NEVER INT64_MAX

static inline int64_t slc__clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * SLC__NS_PER_S + now.tv_nsec;
}
/* The moment `timeout_ns` from now; negative: never. */
static inline int64_t slc__deadline_after(int64_t timeout_ns) {
  if (timeout_ns < 0) return SLC__DEADLINE_NEVER;
  int64_t now = slc__clock_ns();
  return timeout_ns > SLC__DEADLINE_NEVER - now ? SLC__DEADLINE_NEVER : now + timeout_ns;
}
static inline struct timespec slc__clock_timespec(int64_t ns) {
  return (struct timespec){.tv_sec = (time_t)(ns / SLC__NS_PER_S), .tv_nsec = (long)(ns % SLC__NS_PER_S)};
}

#endif

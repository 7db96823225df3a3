/* Processors that this process may run on.  Thread: any. */
#ifndef SLC__BASE_PROCESSORS_H
#define SLC__BASE_PROCESSORS_H

#include <sched.h>
#include <stdbool.h>

/* Whether to poll for what another process does can help: on an only processor it gets on when we sleep.  A system
 * call, to be made once. */
static inline bool slc__processors_are_many(void) {
  cpu_set_t processors;
  return sched_getaffinity(0, sizeof processors, &processors) != 0 || CPU_COUNT(&processors) > 1;
}

#endif

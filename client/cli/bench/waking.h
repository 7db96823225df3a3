/* What it costs to wake processes that sleep, and how long until they run: with Slotcast, or with what the kernel has.
 * Thread: main. */
#ifndef SLOTCAST_CLI_BENCH_WAKING_H
#define SLOTCAST_CLI_BENCH_WAKING_H

#include "bench.h"

enum { SLEEPERS_MAX = 128 };

/* With what they are woken. */
enum waking_by {
  WAKING_WAIT,    /* slc_subscriber_wait */
  WAKING_FD,      /* poll on the readiness descriptor */
  WAKING_EVENTFD, /* bare: an eventfd for each sleeper */
  WAKING_FUTEX,   /* bare: one futex word for all of them */
};

/* Measures, reports and plots a case for each number of sleepers and each size, beside the bare `limit`.  A message is
 * sent when all sleep, which the kernel is asked.  The exit code. */
int waking_measure(struct bench *bench, const char *name, const char *title, enum waking_by limit,
                   const struct list *sleepers);

#endif

/* One process that publishes, or publishes and takes, with nobody busy beside it: what a call costs by itself, by the
 * channel's slots, its idle subscribers and its generations of buffers.  Thread: main, of each process. */
#ifndef SLOTCAST_CLI_BENCH_ALONE_H
#define SLOTCAST_CLI_BENCH_ALONE_H

#include "crew.h"
#include "report.h"
#include "traffic.h"

struct alone {
  struct barrier barrier;
  struct traffic traffic;
  uint64_t subscribers; /* idle ones */
  uint64_t size, count, repetitions;
  uint32_t generation; /* wanted; then that of the measured messages */
  int64_t stamp_ns;
  bool is_touched, takes_one;
  uint64_t lost;
  double ns[REPETITIONS_MAX], limit_ns[REPETITIONS_MAX]; /* a message */
};

/* In the measuring process: a publisher of a channel that has all its generations and idle subscribers. */
slc_publisher *alone_enter(struct alone *alone, slc_client *client);
/* Its last step: lets the idle ones go. */
void alone_leave(struct alone *alone);

/* What differs between the measurements of this kind. */
struct alone_kind {
  const char *name, *title, *limit;
  role_fn run; /* the measuring process; shares a struct alone */
  int (*limit_of)(const struct bench *bench, size_t slots, size_t touched, uint64_t count, double *ret_ns);
  uint64_t usual_count;
};
/* All cases that were asked for, else each of slots, subscribers and generations by itself; the exit code. */
int alone_measure(struct bench *bench, const struct alone_kind *kind);

#endif

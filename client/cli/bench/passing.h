/* What the machine does without us when a process is given many descriptors: the limit of a restart.  Thread: main, of
 * each process. */
#ifndef SLOTCAST_CLI_BENCH_PASSING_H
#define SLOTCAST_CLI_BENCH_PASSING_H

#include "bench.h"

extern const char passing_name[];
/* One process passes so many descriptors (a page of memory each) to another over a SEQPACKET socket, two a datagram;
 * that maps them all.  Nanoseconds in all; the exit code. */
int bare_passing(const struct bench *bench, uint64_t descriptors, double *ret_ns);

#endif

/* What the machine can do without us, measured by the same kind of processes in the same run: the limits beside which
 * the figures stand.  Thread: main. */
#ifndef SLOTCAST_CLI_BENCH_LIMITS_H
#define SLOTCAST_CLI_BENCH_LIMITS_H

#include "bench.h"
#include "measure.h"

enum bare_kind {
  BARE_LINES,   /* two words, each on a pair of cache lines of its own, each written by one side and polled by the other
                 */
  BARE_EVENTFD, /* two eventfds, each read by one sleeper */
  BARE_SOCKET,  /* a pair of SEQPACKET sockets, 64 bytes each way */
};
const char *bare_name(enum bare_kind kind);
/* One repetition of round trips; with `touched` bytes, each side also writes so many into a shared mapping, round as
 * many buffers as a channel has slots, and reads the other's.  The exit code. */
int bare_round_trips(const struct bench *bench, enum bare_kind kind, size_t touched, size_t slots,
                     const struct schedule *schedule, struct repeated *into);

/* How near each other the processors are, on which two processes are pinned: p50 of a bare pair of cache lines' round
 * trip; 0 of one processor.  Virtual machines move theirs: it holds for now.  The exit code. */
int bare_pair(const struct bench *bench, double *ret_ns);
/* What that says about them. */
const char *pair_name(double ns);

/* A stream of messages through a bare ring of at least `slots` of them, one writer, one reader; with `touched` bytes
 * each is that large, else one line.  Nanoseconds a message. */
int bare_stream(const struct bench *bench, size_t touched, size_t slots, uint64_t count, double *ret_ns);

/* The least that a log of messages needs, by one process alone, round `slots` of them.  Writing: a word into the
 * message's line (or `touched` bytes) and a compare-and-swap of the log word.  Reading: the log word, a store of the
 * hold that everybody sees before the next read, the message.  Nanoseconds a message. */
int bare_log_write(const struct bench *bench, size_t slots, size_t touched, uint64_t count, double *ret_ns);
int bare_log_read(const struct bench *bench, size_t slots, size_t touched, uint64_t count, double *ret_ns);

#endif

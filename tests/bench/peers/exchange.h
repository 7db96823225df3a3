/* What is measured of every peer, and of the bare machine beside.  Thread: main. */
#ifndef SLOTCAST_TESTS_BENCH_PEERS_EXCHANGE_H
#define SLOTCAST_TESTS_BENCH_PEERS_EXCHANGE_H

#include "bench/histogram.h"
#include "peer.h"

enum exchange_kind { EXCHANGE_TRIPS, EXCHANGE_STREAM, EXCHANGE_PUBLISH };
struct exchange {
  const char *title, *name; /* the column's, and in JSON */
  enum exchange_kind kind;
  size_t size;
  bool is_touched, blocks;
  unsigned subscribers; /* EXCHANGE_PUBLISH: idle ones */
};
enum { EXCHANGES = 9 };
extern const struct exchange exchanges[EXCHANGES];

enum measured { MEASURED_NOT, MEASURED_YES, MEASURED_FAILED };
struct result {
  enum measured measured;
  unsigned repetitions;
  double values[REPETITIONS_MAX]; /* ns: the trips' median, or a message's; messages received a second */
  double p99[REPETITIONS_MAX], p999[REPETITIONS_MAX]; /* EXCHANGE_TRIPS */
  uint64_t sent, lost;                                /* EXCHANGE_STREAM, of all repetitions */
};

/* One repetition more, with new processes; publishing has all of its repetitions in the first, because so many
 * subscribers are long in coming.  After a failure there are none.  The exit code. */
int exchange_repeat(struct bench *bench, const struct peer *peer, const struct exchange *exchange,
                    const char *directory, struct result *result);
/* The machine by memory alone, or by a pair of sockets; some exchanges have no counterpart there. */
int exchange_repeat_bare(struct bench *bench, const struct exchange *exchange, bool by_socket, struct result *result);

#endif

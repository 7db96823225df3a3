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
  double value;        /* ns: the trips' median, or a message's; messages received a second.  Medians of repetitions */
  double p99, p999;    /* EXCHANGE_TRIPS */
  uint64_t sent, lost; /* EXCHANGE_STREAM, of all repetitions */
};

/* A peer that has been started; the exit code of the process that failed. */
int exchange_measure(struct bench *bench, const struct peer *peer, const struct exchange *exchange,
                     const char *directory, struct result *ret);
/* The machine by memory alone, or by a pair of sockets; some exchanges have no counterpart there. */
int exchange_measure_bare(struct bench *bench, const struct exchange *exchange, bool by_socket, struct result *ret);

#endif

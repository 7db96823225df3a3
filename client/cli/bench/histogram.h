/* Counts of values (nanoseconds), in buckets whose width is at most 1/256 of the value: 0 .. 2^42, an hour and more.
 * Plain memory, so that it may lie in what processes share.  Thread: its owner's. */
#ifndef SLOTCAST_CLI_BENCH_HISTOGRAM_H
#define SLOTCAST_CLI_BENCH_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
  HISTOGRAM_HALF = 256, /* buckets of each power of two; twice as many values are exact */
  HISTOGRAM_BITS = 42,
  HISTOGRAM_BUCKETS = (HISTOGRAM_BITS - 7) * HISTOGRAM_HALF,
  REPETITIONS_MAX = 100,
};

struct histogram {
  uint64_t count, min, max, sum;
  uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *histogram);
/* Negative values count as 0, those beyond the last bucket in it. */
void histogram_record(struct histogram *histogram, int64_t value);
void histogram_add(struct histogram *into, const struct histogram *from);
/* The least value that `quantile` (0 .. 1) of all are not above, as its bucket's middle; 0 of none. */
double histogram_at(const struct histogram *histogram, double quantile);
/* 0 of none. */
double histogram_mean(const struct histogram *histogram);

/* What several repetitions of one measurement gave. */
struct repeated {
  unsigned repetitions;
  double p50[REPETITIONS_MAX], p99[REPETITIONS_MAX], p999[REPETITIONS_MAX];
  struct histogram all;
};
void repeated_clear(struct repeated *repeated);
void repeated_add(struct repeated *repeated, const struct histogram *histogram);

/* Of an odd count the middle one, else the mean of the two in the middle; leaves them as they are.  Up to
 * REPETITIONS_MAX values. */
double median(const double *values, size_t count);

#endif

/* Buckets as HDR histograms have them: a value's highest nine bits say which.  Thread: the owner's. */
#include "histogram.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void histogram_clear(struct histogram *histogram) {
  memset(histogram, 0, sizeof *histogram);
}

/* Values below 2 * HISTOGRAM_HALF are their own bucket; later ones lose their lowest bits. */
static unsigned lost_bits(uint64_t value) {
  return value < UINT64_C(2) * HISTOGRAM_HALF ? 0 : 64 - 9 - (unsigned)__builtin_clzll(value);
}

static size_t bucket_of(uint64_t value) {
  unsigned lost = lost_bits(value);
  size_t bucket = (size_t)lost * HISTOGRAM_HALF + (size_t)(value >> lost);
  return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static double bucket_middle(size_t bucket) {
  if (bucket < (size_t)2 * HISTOGRAM_HALF) return (double)bucket;
  unsigned lost = (unsigned)(bucket / HISTOGRAM_HALF) - 1;
  uint64_t first = (uint64_t)(bucket - (size_t)lost * HISTOGRAM_HALF) << lost;
  return (double)first + (double)((UINT64_C(1) << lost) - 1) / 2;
}

void histogram_record(struct histogram *histogram, int64_t value) {
  uint64_t number = value > 0 ? (uint64_t)value : 0;
  if (histogram->count == 0 || number < histogram->min) histogram->min = number;
  if (number > histogram->max) histogram->max = number;
  histogram->count++;
  histogram->sum += number;
  histogram->counts[bucket_of(number)]++;
}

void histogram_add(struct histogram *into, const struct histogram *from) {
  if (from->count == 0) return;
  if (into->count == 0 || from->min < into->min) into->min = from->min;
  if (from->max > into->max) into->max = from->max;
  into->count += from->count;
  into->sum += from->sum;
  for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) into->counts[i] += from->counts[i];
}

/* A bucket's middle may lie outside what was recorded. */
static double clamped(const struct histogram *histogram, double value) {
  if (value < (double)histogram->min) return (double)histogram->min;
  return value > (double)histogram->max ? (double)histogram->max : value;
}

double histogram_at(const struct histogram *histogram, double quantile) {
  uint64_t below = 0;
  for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    below += histogram->counts[i];
    if (below > 0 && (double)below >= quantile * (double)histogram->count) return clamped(histogram, bucket_middle(i));
  }
  return (double)histogram->max;
}

double histogram_mean(const struct histogram *histogram) {
  return histogram->count > 0 ? (double)histogram->sum / (double)histogram->count : 0;
}

void repeated_clear(struct repeated *repeated) {
  memset(repeated, 0, sizeof *repeated);
}

void repeated_add(struct repeated *repeated, const struct histogram *histogram) {
  unsigned i = repeated->repetitions;
  if (i == REPETITIONS_MAX) return;
  repeated->p50[i] = histogram_at(histogram, 0.5);
  repeated->p99[i] = histogram_at(histogram, 0.99);
  repeated->p999[i] = histogram_at(histogram, 0.999);
  repeated->repetitions++;
  histogram_add(&repeated->all, histogram);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double median(const double *values, size_t count) {
  double sorted[REPETITIONS_MAX];
  if (count > REPETITIONS_MAX) count = REPETITIONS_MAX;
  if (count == 0) return 0;
  memcpy(sorted, values, count * sizeof *values);
  qsort(sorted, count, sizeof *sorted, compare);
  return count % 2 != 0 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

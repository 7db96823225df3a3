/* Time taken around single exchanges, the reading of the clock subtracted.  Thread: the measuring one. */
#ifndef SLOTCAST_CLI_BENCH_MEASURE_H
#define SLOTCAST_CLI_BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "histogram.h"

/* What one reading of the clock costs here and now: the median of many. */
int64_t stamp_cost(void);

struct schedule {
  uint64_t warm_up, count;
  int64_t stamp_ns;
};
/* Sends message `number` and has its answer when it returns; numbers count from 1 on, warming up included. */
typedef void (*exchange_fn)(void *ctx, uint64_t number);
void measure_exchanges(const struct schedule *schedule, exchange_fn exchange, void *ctx, struct histogram *histogram);

/* Payloads: the number first, and if they are touched, all the rest written, or read. */
void payload_write(void *data, size_t size, uint64_t number, bool is_touched);
uint64_t payload_read(const void *data, size_t size, bool is_touched);

/* What a process has, -1 where it can't be seen: its own memory, without what it maps with others; its descriptors. */
int64_t process_memory_kib(pid_t pid);
int64_t process_descriptors(pid_t pid);

#endif

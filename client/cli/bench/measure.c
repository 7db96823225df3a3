/* Time taken around single exchanges.  Thread: the measuring one. */
#include "measure.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

int64_t stamp_cost(void) {
  enum { READINGS = 2001 };
  struct histogram histogram;
  histogram_clear(&histogram);
  for (int64_t i = 0, before = now_ns(); i < READINGS; i++) {
    int64_t after = now_ns();
    histogram_record(&histogram, after - before);
    before = after;
  }
  return (int64_t)histogram_at(&histogram, 0.5);
}

void measure_exchanges(const struct schedule *schedule, exchange_fn exchange, void *ctx, struct histogram *histogram) {
  uint64_t number = 0;
  while (number < schedule->warm_up) exchange(ctx, ++number);
  for (uint64_t i = 0; i < schedule->count; i++) {
    int64_t before = now_ns();
    exchange(ctx, ++number);
    histogram_record(histogram, now_ns() - before - schedule->stamp_ns);
  }
}

void payload_write(void *data, size_t size, uint64_t number, bool is_touched) {
  if (is_touched) memset(data, (int)(number & 0x7f), size);
  memcpy(data, &number, sizeof number);
}

/* Where nobody looks, and the compiler does not know. */
static uint64_t unused;

uint64_t payload_read(const void *data, size_t size, bool is_touched) {
  uint64_t number;
  memcpy(&number, data, sizeof number);
  if (!is_touched) return number;
  uint64_t sum = 0, word;
  const char *bytes = data;
  for (size_t i = 0; i + sizeof word <= size; i += sizeof word) {
    memcpy(&word, bytes + i, sizeof word);
    sum += word;
  }
  *(volatile uint64_t *)&unused = sum;
  return number;
}

int64_t process_memory_kib(pid_t pid) {
  char path[64], line[128];
  long kib = -1;
  snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
  FILE *status = fopen(path, "re");
  if (status == NULL) return -1;
  while (fgets(line, sizeof line, status) != NULL) {
    if (sscanf(line, "RssAnon: %ld kB", &kib) == 1) break;
  }
  fclose(status);
  return kib;
}

int64_t process_descriptors(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
  DIR *directory = opendir(path);
  if (directory == NULL) return -1;
  int64_t count = 0;
  for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) count += entry->d_name[0] != '.';
  closedir(directory);
  return count;
}

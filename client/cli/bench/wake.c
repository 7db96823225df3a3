/* slotcast bench wake: one process that sleeps until a message comes.  Thread: main. */
#include "waking.h"

int bench_wake(struct bench *bench) {
  static const struct list one = {.count = 1, .values = {1}};
  return waking_measure(bench, "wake", "Waking one that sleeps, beside a bare eventfd", WAKING_EVENTFD, &one);
}

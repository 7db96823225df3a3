/* slotcast bench fanout: one message wakes many.  Thread: main. */
#include "cli.h"
#include "waking.h"

int bench_fanout(struct bench *bench) {
  static const uint64_t usual[] = {1, 2, 4, 8, 16, 32, 64};
  struct list sleepers = bench_list(&bench->settings.subscribers, sizeof usual / sizeof usual[0], usual);
  for (size_t i = 0; i < sleepers.count; i++) {
    if (sleepers.values[i] < 1 || sleepers.values[i] > SLEEPERS_MAX)
      return fail(EXIT_USAGE, "bench fanout has 1 to %d subscribers", SLEEPERS_MAX);
  }
  return waking_measure(bench, "fanout", "Waking many that sleep, beside a bare futex word for all", WAKING_FUTEX,
                        &sleepers);
}

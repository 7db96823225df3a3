/* slotcast bench publish: what loan and publish cost by themselves.  Thread: main, of each process. */
#include "alone.h"
#include "cli.h"
#include "limits.h"

static double cost_of(slc_publisher *publisher, const struct alone *alone, uint64_t count) {
  int64_t before = now_ns();
  for (uint64_t i = 1; i <= count; i++) traffic_send(publisher, alone->size, i, alone->is_touched);
  return (double)(now_ns() - before - alone->stamp_ns) / (double)count;
}

static void publish(void *shared, unsigned number) {
  struct alone *alone = shared;
  (void)number;
  slc_publisher *publisher = alone_enter(alone, traffic_connect(&alone->traffic));
  cost_of(publisher, alone, 2 * (uint64_t)alone->traffic.slots); /* the memory is there from then on */
  for (uint64_t i = 0; i < alone->repetitions; i++) alone->ns[i] = cost_of(publisher, alone, alone->count);
  alone_leave(alone);
}

int bench_publish(struct bench *bench) {
  static const struct alone_kind kind = {
      .name = "publish",
      .title = "Loan and publish, beside writing a line and a compare-and-swap",
      .limit = "bare line and compare-and-swap",
      .run = publish,
      .limit_of = bare_log_write,
      .usual_count = 500000,
  };
  return alone_measure(bench, &kind);
}

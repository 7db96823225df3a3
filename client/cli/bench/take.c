/* slotcast bench take: what take and release cost by themselves, of messages that this process has published itself.
 * Thread: main, of each process. */
#include "alone.h"
#include "cli.h"
#include "limits.h"
#include "measure.h"

enum { BATCH = 16, RUN_MAX = 1024 };

/* Some messages at a time, of which none is evicted before it is taken; only the taking counts. */
static uint64_t run_of(uint64_t slots) {
  return slots / 4 < RUN_MAX ? slots / 4 : RUN_MAX;
}

/* Takes all that is there, and adds up how many they were; the time it took. */
static int64_t take_run(slc_subscriber *subscriber, const struct alone *alone, uint64_t run, size_t max,
                        uint64_t *taken) {
  slc_message messages[BATCH];
  int64_t before = now_ns();
  for (uint64_t left = run; left > 0;) {
    size_t count = traffic_take(subscriber, messages, max);
    if (count == 0) break; /* the rest was lost, which is told in the end */
    for (size_t i = 0; i < count; i++) payload_read(messages[i].data, messages[i].size, alone->is_touched);
    traffic_release(subscriber, messages, count);
    *taken += count;
    left -= count;
  }
  return now_ns() - before - alone->stamp_ns;
}

static double cost_of(slc_publisher *publisher, slc_subscriber *subscriber, const struct alone *alone, uint64_t count) {
  uint64_t run = run_of(alone->traffic.slots), taken = 0;
  int64_t elapsed = 0;
  while (taken < count) {
    for (uint64_t i = 1; i <= run; i++) traffic_send(publisher, alone->size, i, alone->is_touched);
    elapsed += take_run(subscriber, alone, run, alone->takes_one ? 1 : alone->traffic.holds, &taken);
  }
  return (double)elapsed / (double)taken;
}

static void take(void *shared, unsigned number) {
  struct alone *alone = shared;
  slc_subscriber_stats stats = {.size = sizeof stats};
  (void)number;
  alone->traffic.holds = (uint32_t)(run_of(alone->traffic.slots) < BATCH ? run_of(alone->traffic.slots) : BATCH);
  slc_client *client = traffic_connect(&alone->traffic);
  slc_publisher *publisher = alone_enter(alone, client);
  slc_subscriber *subscriber = traffic_subscriber(client, &alone->traffic);
  cost_of(publisher, subscriber, alone, 2 * (uint64_t)alone->traffic.slots);
  for (uint64_t i = 0; i < alone->repetitions; i++) alone->ns[i] = cost_of(publisher, subscriber, alone, alone->count);
  worker_check("cannot see the losses", slc_subscriber_stats_get(subscriber, &stats));
  alone->lost = stats.dropped;
  alone_leave(alone);
}

int bench_take(struct bench *bench) {
  static const struct alone_kind kind = {
      .name = "take",
      .title = "Take and release, beside reading a log word and a line under a hold",
      .limit = "bare line under a hold",
      .run = take,
      .limit_of = bare_log_read,
      .usual_count = 500000,
  };
  return alone_measure(bench, &kind);
}

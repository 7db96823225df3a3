/* slotcast bench all: each measurement in short, one line a figure.  The measurements are the same as by themselves,
 * with fewer messages.  Thread: main. */
#include <stdio.h>

#include "cli.h"
#include "report.h"

/* What is asked for differs from the rest in these settings; `figure` and `limit` are fields of the case. */
struct step {
  const char *what;
  int (*run)(struct bench *bench);
  struct settings settings;
  bool polls; /* wants two processors */
  const char *figure, *limit, *ratio;
  enum format format;
};

#define ONE(value)                                                                                                     \
  {                                                                                                                    \
    .count = 1, .values = { value }                                                                                    \
  }
#define LATENCY "rtt_ns.p50", "limit_ns.p50", "ratio_p50", FORMAT_NS
#define RATE "received_per_s", "limit_per_s", "ratio", FORMAT_RATE
#define COST "ns_per_message", "limit_ns_per_message", "ratio", FORMAT_NS
#define WAKING "delivered_ns.p50", "limit_ns.p50", "ratio_p50", FORMAT_NS

enum {
  POLLED = 20000,
  SLEPT = 2000,
  WOKEN = 300,
  STREAMED = 500000,
  ALONE = 200000,
  LARGE = 1 << 20,
  QUICKER = 1000,
};

static const struct step steps[] = {
    {"round trip, polling, 8 B", bench_latency, {.sizes = ONE(8), .count = POLLED}, true, LATENCY},
    {"round trip, polling, 64 B", bench_latency, {.sizes = ONE(64), .count = POLLED}, true, LATENCY},
    {"round trip, polling, 1 MiB untouched", bench_latency, {.sizes = ONE(LARGE), .count = POLLED}, true, LATENCY},
    {"round trip, polling, 1 MiB written, read",
     bench_latency,
     {.sizes = ONE(LARGE), .count = WOKEN, .is_touched = true},
     true,
     LATENCY},
    {"round trip, spin then block, 64 B",
     bench_latency,
     {.sizes = ONE(64), .waiting = WAIT_SPIN, .count = SLEPT},
     true,
     LATENCY},
    {"round trip, blocking, 64 B",
     bench_latency,
     {.sizes = ONE(64), .waiting = WAIT_BLOCKING, .count = SLEPT},
     false,
     LATENCY},
    {"stream 1 -> 1, reliable, take many", bench_throughput, {.count = STREAMED}, false, RATE},
    {"stream 1 -> 1, reliable, take one", bench_throughput, {.count = STREAMED, .takes_one = true}, false, RATE},
    {"stream 1 -> 1, unreliable, take many", bench_throughput, {.count = STREAMED, .is_unreliable = true}, false, RATE},
    {"stream 1 -> 4, reliable, each", bench_throughput, {.subscribers = ONE(4), .count = STREAMED / 20}, false, RATE},
    {"stream 4 -> 1, reliable", bench_throughput, {.publishers = ONE(4), .count = STREAMED / 20}, false, RATE},
    {"publish, exclusive",
     bench_publish,
     {.slots = ONE(4096), .subscribers = ONE(0), .is_exclusive = true, .count = ALONE},
     false,
     COST},
    {"publish, one of several",
     bench_publish,
     {.slots = ONE(4096), .subscribers = ONE(0), .count = ALONE},
     false,
     COST},
    {"publish, 100 idle subscribers",
     bench_publish,
     {.slots = ONE(4096), .subscribers = ONE(100), .count = ALONE},
     false,
     COST},
    {"take", bench_take, {.slots = ONE(4096), .subscribers = ONE(0), .count = ALONE}, false, COST},
    {"wake one that sleeps, until it runs", bench_wake, {.count = WOKEN}, false, WAKING},
    {"wake 8 that sleep, until the last runs", bench_fanout, {.subscribers = ONE(8), .count = WOKEN}, false, WAKING},
    {"open a publisher and its channel",
     bench_control,
     {.channels = ONE(10), .count = WOKEN},
     false,
     "open_ns.p50",
     "limit_ns.p50",
     "ratio_p50",
     FORMAT_NS},
};

static void print_figure(const json_t *value, enum format format) {
  char text[32], whole[40];
  snprintf(whole, sizeof whole, "%s%s", report_cell(value, format, text), format == FORMAT_RATE ? "/s" : " ns");
  printf(" %12s", whole);
}

static void print_step(const struct step *step, const json_t *result) {
  char text[32];
  printf("%-42s", step->what);
  print_figure(report_field(result, step->figure), step->format);
  print_figure(report_field(result, step->limit), step->format);
  printf(" %10s", report_cell(report_field(result, step->ratio), FORMAT_RATIO, text));
  printf("  %-10s  %s\n", report_cores(result, text), json_string_value(report_field(result, "limit")));
  fflush(stdout); /* the next one takes a while */
}

/* Not for figures.  Few round trips, of which warming up is the most with many slots: on a busy machine each is a wait
 * for both processors. */
static void make_quick(struct settings *settings, const struct step *step) {
  static const struct list few_slots = ONE(8);
  settings->is_quick = true;
  settings->count = settings->count / QUICKER + 20;
  if (step->run == bench_latency) settings->slots = few_slots;
}

static int run_step(struct bench *bench, const struct step *step) {
  const struct settings asked = bench->settings;
  bench->settings = step->settings;
  bench->settings.backend = asked.backend;
  bench->settings.socket = asked.socket;
  bench->settings.repetitions = asked.repetitions;
  if (asked.is_quick) make_quick(&bench->settings, step);
  int code = step->run(bench);
  bench->settings = asked;
  return code;
}

static void begin(const struct bench *bench) {
  puts("Slotcast beside what the machine does without it");
  report_conditions(bench);
  printf("%-42s %12s %12s %10s  %-10s  %s\n", "", "SLOTCAST", "LIMIT", "RATIO", "CORES, ns", "THE LIMIT");
}

int bench_all(struct bench *bench) {
  struct report *report = bench->report;
  report->is_silent = true;
  if (!report->is_json) begin(bench);
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
    if (steps[i].polls && bench->processor_count < 2) continue;
    int code = run_step(bench, &steps[i]);
    if (code != EXIT_OK) return code;
    if (!report->is_json) print_step(&steps[i], json_array_get(report->cases, json_array_size(report->cases) - 1));
  }
  return EXIT_OK;
}

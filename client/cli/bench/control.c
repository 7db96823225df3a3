/* slotcast bench control: how fast publishers and subscribers are opened and closed, beside channels that are there
 * already, and what those cost the broker.  Thread: main, of each process. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "cli.h"
#include "crew.h"
#include "limits.h"
#include "measure.h"
#include "plot.h"
#include "report.h"
#include "traffic.h"

enum {
  USUAL_COUNT = 2000, /* opened and closed a repetition */
  LEAST_COUNT = 5,
  FILL_EACH =
      500, /* channels of one filling process: a process has a limit of mappings, CREW_MAX processes are enough */
  DESCRIPTORS_EACH = 5, /* of the broker for a channel, rather too many */
  UNKNOWN = -1,
};

struct office {
  struct barrier barrier;
  struct traffic traffic;
  uint64_t channels, count, repetitions;
  pid_t broker; /* 0: not ours to look at */
  bool opens_readers;
  int64_t stamp_ns;
  double fill_ns;                        /* until all channels were there */
  int64_t memory_kib[2], descriptors[2]; /* of the broker, before and with the channels */
  uint64_t shared_bytes;                 /* of one channel */
  double opened_per_s[REPETITIONS_MAX], closed_per_s[REPETITIONS_MAX];
  struct repeated opening, closing;
};

static void channel_name(const struct office *office, const char *kind, uint64_t number, struct traffic *ret) {
  *ret = office->traffic;
  snprintf(ret->channel, sizeof ret->channel, "%.40s/%s-%llu", office->traffic.channel, kind,
           (unsigned long long)number);
}

/* ---- what the broker has ---- */

static void look_at_broker(struct office *office, int when) {
  office->memory_kib[when] = office->broker > 0 ? process_memory_kib(office->broker) : UNKNOWN;
  office->descriptors[when] = office->broker > 0 ? process_descriptors(office->broker) : UNKNOWN;
}

/* ---- the processes ---- */

/* A publisher and a subscriber for each of its channels, kept until the end. */
static void fill(void *shared, unsigned number) {
  struct office *office = shared;
  uint64_t first = (uint64_t)number * FILL_EACH, end = first + FILL_EACH;
  barrier_wait(&office->barrier);
  slc_client *client = traffic_connect(&office->traffic);
  for (uint64_t i = first; i < end && i < office->channels; i++) {
    struct traffic traffic;
    channel_name(office, "there", i, &traffic);
    traffic_publisher(client, &traffic);
    traffic_subscriber(client, &traffic);
  }
  barrier_wait(&office->barrier);
  barrier_wait(&office->barrier);
}

/* Each publisher makes a channel of its own; subscribers join those that are there. */
static void open_and_close(slc_client *client, struct office *office, uint64_t number, struct histogram *opening,
                           struct histogram *closing) {
  struct traffic traffic;
  slc_publisher *publisher = NULL;
  slc_subscriber *subscriber = NULL;
  if (office->opens_readers)
    channel_name(office, "there", number % (office->channels > 0 ? office->channels : 1), &traffic);
  else
    channel_name(office, "new", number, &traffic);
  int64_t before = now_ns();
  if (office->opens_readers)
    subscriber = traffic_subscriber(client, &traffic);
  else
    publisher = traffic_publisher(client, &traffic);
  int64_t opened = now_ns();
  slc_subscriber_close(subscriber);
  slc_publisher_close(publisher);
  int64_t closed = now_ns();
  histogram_record(opening, opened - before - office->stamp_ns);
  histogram_record(closing, closed - opened - office->stamp_ns);
}

static void repeat(slc_client *client, struct office *office, uint64_t repetition) {
  static struct histogram opening, closing; /* large */
  histogram_clear(&opening);
  histogram_clear(&closing);
  for (uint64_t i = 0; i < office->count; i++) open_and_close(client, office, i, &opening, &closing);
  repeated_add(&office->opening, &opening);
  repeated_add(&office->closing, &closing);
  office->opened_per_s[repetition] = histogram_mean(&opening) > 0 ? 1e9 / histogram_mean(&opening) : 0;
  office->closed_per_s[repetition] = histogram_mean(&closing) > 0 ? 1e9 / histogram_mean(&closing) : 0;
}

static void look_at_channel(slc_client *client, struct office *office) {
  struct traffic traffic;
  slc_channel_info *info;
  channel_name(office, "there", 0, &traffic);
  worker_check("cannot look at a channel", slc_channel_inspect(client, traffic.channel, &info));
  office->shared_bytes = info->memory;
  slc_channel_info_free(info);
}

static void run_office(void *shared, unsigned number) {
  struct office *office = shared;
  (void)number;
  slc_client *client = traffic_connect(&office->traffic);
  look_at_broker(office, 0);
  int64_t before = now_ns();
  barrier_wait(&office->barrier);
  barrier_wait(&office->barrier); /* all channels are there */
  office->fill_ns = (double)(now_ns() - before);
  look_at_broker(office, 1);
  if (office->channels > 0) look_at_channel(client, office);
  for (uint64_t i = 0; i < office->repetitions; i++) repeat(client, office, i);
  barrier_wait(&office->barrier);
}

/* ---- one case ---- */

/* NULL in JSON where it cannot be known. */
static json_t *per_channel(const struct office *office, const int64_t values[2], double unit) {
  if (values[0] < 0 || values[1] < 0 || office->channels == 0) return json_null();
  return json_real((double)(values[1] - values[0]) * unit / (double)office->channels);
}

static json_t *case_to_json(const struct office *office, const struct repeated *limit) {
  size_t repetitions = office->repetitions;
  double bare = repeated_p50(limit), channels = (double)office->channels;
  return json_pack("{s:I, s:s, s:f, s:f, s:o, s:o, s:f, s:o, s:o, s:o, s:s, s:o, s:f}", "channels",
                   (json_int_t)office->channels, "opened", office->opens_readers ? "subscribers" : "publishers",
                   "opened_per_s", median(office->opened_per_s, repetitions), "closed_per_s",
                   median(office->closed_per_s, repetitions), "open_ns", repeated_to_json(&office->opening), "close_ns",
                   repeated_to_json(&office->closing), "filled_per_s",
                   office->channels > 0 ? 2 * channels * 1e9 / office->fill_ns : 0, "broker_bytes_per_channel",
                   per_channel(office, office->memory_kib, 1024), "broker_descriptors_per_channel",
                   per_channel(office, office->descriptors, 1), "shared_bytes_per_channel",
                   office->channels > 0 ? json_integer((json_int_t)office->shared_bytes) : json_null(), "limit",
                   bare_name(BARE_SOCKET), "limit_ns", repeated_to_json(limit), "ratio_p50",
                   bare > 0 ? repeated_p50(&office->opening) / bare : 0);
}

static int measure_limit(struct bench *bench, uint64_t count, struct repeated *limit) {
  const struct schedule schedule = {.warm_up = count / 10, .count = count, .stamp_ns = bench->stamp_ns};
  repeated_clear(limit);
  int code = EXIT_OK;
  for (uint64_t i = 0; i < bench->settings.repetitions && code == EXIT_OK; i++)
    code = bare_round_trips(bench, BARE_SOCKET, 0, 1, &schedule, limit);
  return code;
}

static int measure_case(struct bench *bench, struct office *office, uint64_t channels) {
  static struct repeated limit; /* large */
  const struct settings *settings = &bench->settings;
  unsigned fillers = (unsigned)((channels + FILL_EACH - 1) / FILL_EACH);
  const struct role roles[] = {{run_office, 1, true}, {fill, fillers, false}};
  memset(office, 0, sizeof *office);
  office->traffic = (struct traffic){.holds = 1};
  office->barrier.parties = 1 + fillers;
  office->channels = channels;
  office->count = bench_count(bench, USUAL_COUNT, LEAST_COUNT);
  office->repetitions = settings->repetitions;
  office->broker = settings->socket == NULL ? bench->session.broker.pid : 0;
  office->opens_readers = settings->opens_readers;
  office->stamp_ns = bench->stamp_ns;
  traffic_name(bench, "control", &office->traffic);
  int code = measure_limit(bench, office->count, &limit);
  if (code == EXIT_OK) code = crew_run(bench, roles, 2, office);
  if (code != EXIT_OK) return code;
  static const struct plot_kind by_channels = {
      "Opening: median by channels that are there", "channels", "a call", PLOT_STEPS, PLOT_COUNT, PLOT_NS};
  plot_panel(bench->plot, &by_channels);
  plot_point(bench->plot, "open", (double)channels, repeated_p50(&office->opening));
  plot_point(bench->plot, "close", (double)channels, repeated_p50(&office->closing));
  plot_point(bench->plot, bare_name(BARE_SOCKET), (double)channels, repeated_p50(&limit));
  plot_limit(bench->plot, bare_name(BARE_SOCKET));
  return report_add(bench, "control", 1, office->count, case_to_json(office, &limit));
}

/* ---- all cases ---- */

static const struct column columns[] = {{"CHANNELS", "channels", FORMAT_COUNT},
                                        {"OPENED/s", "opened_per_s", FORMAT_RATE},
                                        {"CLOSED/s", "closed_per_s", FORMAT_RATE},
                                        {"OPEN P50 ns", "open_ns.p50", FORMAT_NS},
                                        {"P99 ns", "open_ns.p99", FORMAT_NS},
                                        {"LIMIT P50", "limit_ns.p50", FORMAT_NS},
                                        {"RATIO", "ratio_p50", FORMAT_RATIO},
                                        {"BROKER/CH.", "broker_bytes_per_channel", FORMAT_BYTES},
                                        {"FDS/CH.", "broker_descriptors_per_channel", FORMAT_NS},
                                        {"SHARED/CH.", "shared_bytes_per_channel", FORMAT_BYTES},
                                        {NULL, NULL, FORMAT_TEXT}};

/* As many channels as a private broker has descriptors for. */
static uint64_t most_channels(void) {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max / DESCRIPTORS_EACH : UINT64_MAX;
}

int bench_control(struct bench *bench) {
  static const uint64_t usual[] = {10, 100, 1000, 10000};
  uint64_t most = bench->settings.socket == NULL ? most_channels() : UINT64_MAX;
  size_t fitting = sizeof usual / sizeof usual[0];
  while (fitting > 1 && usual[fitting - 1] > most) fitting--;
  struct list channels = bench_list(&bench->settings.channels, fitting, usual);
  for (size_t i = 0; i < channels.count; i++) {
    if (channels.values[i] > most)
      return fail(EXIT_FAILED, "a broker has descriptors for %llu channels here, not for %llu: raise ulimit -Hn",
                  (unsigned long long)most, (unsigned long long)channels.values[i]);
  }
  struct office *office = shared_new(sizeof *office);
  int code = office != NULL ? EXIT_OK : EXIT_FAILED;
  report_begin(bench,
               bench->settings.opens_readers ? "Subscribers opened and closed, beside a bare socket round trip"
                                             : "Publishers with a channel each, opened and closed, beside a bare "
                                               "socket round trip",
               columns);
  for (size_t i = 0; i < channels.count && code == EXIT_OK; i++) code = measure_case(bench, office, channels.values[i]);
  shared_free(office, sizeof *office);
  return code;
}

/* slotcast bench throughput: a stream of messages, as fast as it goes, from publishers to subscribers in a process
 * each. Thread: main, of each process. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "crew.h"
#include "json.h"
#include "limits.h"
#include "plot.h"
#include "report.h"
#include "traffic.h"

enum {
  MESSAGES = 2000000, /* from one publisher to one subscriber, a repetition */
  LEAST_MESSAGES = 64,
  UNPINNED_PART = 4,
  BATCH = 16, /* messages that take-many asks for */
  USUAL_SLOTS = 1024,
  ENDS_MAX = 64, /* publishers, and subscribers */
};

struct stream {
  struct barrier barrier;
  struct traffic traffic;
  uint64_t size, each; /* messages of each publisher */
  unsigned publishers;
  bool is_touched, takes_one;
  struct {
    int64_t begun, ended; /* of the clock */
  } writers[ENDS_MAX];
  struct {
    uint64_t received, lost;
    int64_t ended;
  } readers[ENDS_MAX];
};

/* ---- the processes ---- */

static void publish_all(void *shared, unsigned number) {
  struct stream *stream = shared;
  slc_publisher *publisher = traffic_publisher(traffic_connect(&stream->traffic), &stream->traffic);
  barrier_wait(&stream->barrier); /* the channel has its shape */
  barrier_wait(&stream->barrier); /* all subscribe */
  stream->writers[number].begun = now_ns();
  for (uint64_t i = 1; i <= stream->each; i++) traffic_send(publisher, stream->size, i, stream->is_touched);
  stream->writers[number].ended = now_ns();
  barrier_wait(&stream->barrier); /* who waits for messages sees us leave only when there are no more */
}

/* The ordinals of a channel count its messages, so the last one is known.  Whoever is overrun gets it in any case. */
static void receive_all(void *shared, unsigned number) {
  struct stream *stream = shared;
  slc_message messages[BATCH];
  slc_subscriber_stats stats = {.size = sizeof stats};
  barrier_wait(&stream->barrier);
  slc_subscriber *subscriber = traffic_subscriber(traffic_connect(&stream->traffic), &stream->traffic);
  barrier_wait(&stream->barrier);
  size_t max = stream->takes_one ? 1 : BATCH;
  uint64_t last = stream->each * stream->publishers, ordinal = 0, received = 0;
  while (ordinal < last) {
    size_t count = traffic_receive(subscriber, messages, max);
    for (size_t i = 0; i < count; i++) payload_read(messages[i].data, messages[i].size, stream->is_touched);
    ordinal = messages[count - 1].ordinal;
    received += count;
    traffic_release(subscriber, messages, count);
  }
  stream->readers[number].ended = now_ns();
  worker_check("cannot see the losses", slc_subscriber_stats_get(subscriber, &stats));
  stream->readers[number].received = received;
  stream->readers[number].lost = stats.dropped;
  barrier_wait(&stream->barrier);
}

/* ---- one case ---- */

struct throughput {
  unsigned publishers, subscribers;
  uint64_t sent, received, lost; /* in all repetitions */
  double received_per_s[REPETITIONS_MAX], slowest_per_s[REPETITIONS_MAX], published_per_s[REPETITIONS_MAX];
  double limit_ns[REPETITIONS_MAX];
};

static double per_second(uint64_t count, int64_t elapsed_ns) {
  return elapsed_ns > 0 ? (double)count * 1e9 / (double)elapsed_ns : 0;
}

/* All rates count from the first publisher's beginning: a reader that had no processor then was no faster for that. */
static int64_t beginning(const struct stream *stream) {
  int64_t first = stream->writers[0].begun;
  for (unsigned i = 1; i < stream->publishers; i++) {
    if (stream->writers[i].begun < first) first = stream->writers[i].begun;
  }
  return first;
}

/* Adds up one repetition; every ordinal was either received or lost. */
static int collect(const struct stream *stream, struct throughput *throughput, uint64_t repetition) {
  double sum = 0, slowest = 0;
  int64_t begun = beginning(stream), published = begun;
  uint64_t sent = stream->each * stream->publishers;
  for (unsigned i = 0; i < throughput->subscribers; i++) {
    uint64_t received = stream->readers[i].received, lost = stream->readers[i].lost;
    if (received + lost != sent)
      return fail(EXIT_FAILED, "subscriber %u received %llu and lost %llu of %llu messages", i,
                  (unsigned long long)received, (unsigned long long)lost, (unsigned long long)sent);
    double rate = per_second(received, stream->readers[i].ended - begun);
    sum += rate;
    if (i == 0 || rate < slowest) slowest = rate;
    throughput->received += received;
    throughput->lost += lost;
  }
  for (unsigned i = 0; i < stream->publishers; i++) {
    if (stream->writers[i].ended > published) published = stream->writers[i].ended;
  }
  throughput->sent += sent;
  throughput->received_per_s[repetition] = sum / throughput->subscribers;
  throughput->slowest_per_s[repetition] = slowest;
  throughput->published_per_s[repetition] = per_second(sent, published - begun);
  return EXIT_OK;
}

static int repeat_once(struct bench *bench, struct stream *stream, struct throughput *throughput, uint64_t repetition) {
  const struct role roles[] = {{publish_all, stream->publishers, true}, {receive_all, throughput->subscribers, true}};
  int code = bare_stream(bench, stream->is_touched ? stream->size : 0, stream->traffic.slots,
                         stream->each * stream->publishers, &throughput->limit_ns[repetition]);
  if (code != EXIT_OK) return code;
  traffic_name(bench, "stream", &stream->traffic);
  code = crew_run(bench, roles, 2, stream);
  return code == EXIT_OK ? collect(stream, throughput, repetition) : code;
}

static json_t *case_to_json(const struct bench *bench, const struct stream *stream, const struct throughput *result) {
  size_t repetitions = bench->settings.repetitions;
  double received = median(result->received_per_s, repetitions), limit = median(result->limit_ns, repetitions);
  json_t *asked =
      json_pack("{s:i, s:i, s:I, s:I, s:b, s:b, s:s, s:s}", "publishers", (int)result->publishers, "subscribers",
                (int)result->subscribers, "size", (json_int_t)stream->size, "slots", (json_int_t)stream->traffic.slots,
                "reliable", stream->traffic.is_reliable, "touched", stream->is_touched, "waiting",
                waiting_name(stream->traffic.waiting), "take", stream->takes_one ? "one" : "many");
  json_t *came = json_pack("{s:f, s:f, s:f, s:I, s:I, s:I, s:s, s:f, s:f}", "received_per_s", received,
                           "slowest_received_per_s", median(result->slowest_per_s, repetitions), "published_per_s",
                           median(result->published_per_s, repetitions), "sent", (json_int_t)result->sent, "received",
                           (json_int_t)result->received, "lost", (json_int_t)result->lost, "limit",
                           "bare ring of cache lines, 1 to 1", "limit_per_s", limit > 0 ? 1e9 / limit : 0, "ratio",
                           limit > 0 && received > 0 ? 1e9 / limit / received : 0);
  return json_joined(asked, came);
}

static int measure_case(struct bench *bench, struct stream *stream, uint64_t publishers, uint64_t subscribers,
                        uint64_t size) {
  const struct settings *settings = &bench->settings;
  struct throughput result = {.publishers = (unsigned)publishers, .subscribers = (unsigned)subscribers};
  unsigned ends = (unsigned)(publishers + subscribers);
  /* So that it ends, where all wait for each other and for processors. */
  uint64_t usual = MESSAGES / (publishers * subscribers) / (crew_is_pinned(bench, ends) ? 1 : UNPINNED_PART);
  uint64_t count = bench_count(bench, usual, LEAST_MESSAGES);
  stream->traffic = (struct traffic){
      .slots = (uint32_t)(settings->slots.count > 0 ? settings->slots.values[0] : USUAL_SLOTS),
      .slot_size = size,
      .is_reliable = !settings->is_unreliable,
      .is_exclusive = settings->is_exclusive,
      .waiting = settings->waiting != WAIT_USUAL ? settings->waiting
                 : crew_is_pinned(bench, ends)   ? WAIT_POLLING
                                                 : WAIT_SPIN, /* who polls would keep the others from running */
      .holds = settings->takes_one ? 1 : BATCH,
  };
  stream->barrier.parties = ends;
  stream->size = size;
  stream->publishers = (unsigned)publishers;
  stream->each = (count + publishers - 1) / publishers;
  stream->is_touched = settings->is_touched;
  stream->takes_one = settings->takes_one;
  int code = EXIT_OK;
  for (uint64_t i = 0; i < settings->repetitions && code == EXIT_OK; i++) code = repeat_once(bench, stream, &result, i);
  if (code != EXIT_OK) return code;
  double rate = median(result.received_per_s, settings->repetitions);
  char line[32];
  snprintf(line, sizeof line, "%u to %u", result.publishers, result.subscribers);
  plot_panel(bench->plot, "Throughput: received by each reader, by size", "bytes", "messages a second", PLOT_STEPS);
  plot_point(bench->plot, line, (double)size, rate);
  return report_add(bench, "throughput", ends, stream->each * publishers, case_to_json(bench, stream, &result));
}

/* ---- all cases ---- */

static const struct column columns[] = {{"PUBLISHERS", "publishers", FORMAT_COUNT},
                                        {"SUBSCRIBERS", "subscribers", FORMAT_COUNT},
                                        {"SIZE", "size", FORMAT_BYTES},
                                        {"RECEIVED/s", "received_per_s", FORMAT_RATE},
                                        {"SLOWEST/s", "slowest_received_per_s", FORMAT_RATE},
                                        {"PUBLISHED/s", "published_per_s", FORMAT_RATE},
                                        {"LOST", "lost", FORMAT_COUNT},
                                        {"LIMIT/s", "limit_per_s", FORMAT_RATE},
                                        {"RATIO", "ratio", FORMAT_RATIO},
                                        {NULL, NULL, FORMAT_TEXT}};

static bool are_within(const struct list *list, uint64_t max) {
  for (size_t i = 0; i < list->count; i++) {
    if (list->values[i] < 1 || list->values[i] > max) return false;
  }
  return true;
}

int bench_throughput(struct bench *bench) {
  static const uint64_t one[] = {1}, usual_size[] = {64};
  const struct settings *settings = &bench->settings;
  struct list publishers = bench_list(&settings->publishers, 1, one);
  struct list subscribers = bench_list(&settings->subscribers, 1, one);
  struct list sizes = bench_list(&settings->sizes, 1, usual_size);
  if (settings->is_exclusive && !are_within(&publishers, 1))
    return fail(EXIT_USAGE, "a channel that admits one publisher can't have more: drop --exclusive or --publishers");
  if (!are_within(&publishers, ENDS_MAX) || !are_within(&subscribers, ENDS_MAX))
    return fail(EXIT_USAGE, "bench throughput has 1 to %d publishers and 1 to %d subscribers", ENDS_MAX, ENDS_MAX);
  struct stream *stream = shared_new(sizeof *stream);
  int code = stream != NULL ? EXIT_OK : EXIT_FAILED;
  char title[160];
  snprintf(title, sizeof title, "Streams, %s, take %s, payload %s, beside a bare ring of cache lines",
           settings->is_unreliable ? "unreliable" : "reliable", settings->takes_one ? "one" : "many",
           settings->is_touched ? "written and read" : "untouched");
  report_begin(bench, title, columns);
  for (size_t p = 0; p < publishers.count; p++) {
    for (size_t s = 0; s < subscribers.count; s++) {
      for (size_t i = 0; i < sizes.count && code == EXIT_OK; i++)
        code = measure_case(bench, stream, publishers.values[p], subscribers.values[s], sizes.values[i]);
    }
  }
  shared_free(stream, sizeof *stream);
  return code;
}

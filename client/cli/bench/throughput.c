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
  ENDS_MAX = 64,         /* publishers, and subscribers */
  PUBLISHER_SLOTS = 512, /* that a publisher keeps at most */
  SUBSCRIBER_SLOTS = 32, /* that a subscriber holds, and some more */
  SECOND_NS = 1000000000,
  SLOW_NS = 500000000, /* that a slow subscriber, for whom publishers wait, takes for a repetition */
  LOSSY_TIMES = 4,     /* so many more where nobody waits: a share of something that lasts */
  PARTS_MAX = 32,      /* of a stream: who loses messages should receive as many of each */
  PART_LAPS = 8,       /* a part is at least so many times round all slots */
};

/* Nothing in it is written while messages go: what a process finds out it tells in the end. */
struct stream {
  struct barrier barrier;
  struct traffic traffic;
  uint64_t size, each; /* messages of each publisher */
  unsigned publishers, subscribers;
  bool is_touched, takes_one;
  int64_t slow_ns, pause_ns; /* of the last subscriber, for a message; between two messages of a publisher */
  unsigned part_bits;        /* a part of the stream has 2^part_bits messages */
  uint64_t parts;            /* whole ones; 0: not looked at */
  struct {
    int64_t begun, ended; /* of the clock */
  } writers[ENDS_MAX];
  struct reader {
    uint64_t received, lost;
    int64_t ended;
    uint64_t of_part[PARTS_MAX + 1]; /* received */
  } readers[ENDS_MAX];
};

/* ---- the processes ---- */

static void spin_until(int64_t when) {
  while (now_ns() < when) {
  }
}

static void publish_all(void *shared, unsigned number) {
  struct stream *stream = shared;
  slc_publisher *publisher = traffic_publisher(traffic_connect(&stream->traffic), &stream->traffic);
  barrier_wait(&stream->barrier); /* the channel has its shape */
  barrier_wait(&stream->barrier); /* all subscribe */
  int64_t begun = now_ns();
  for (uint64_t i = 1; i <= stream->each; i++) {
    if (stream->pause_ns > 0) spin_until(begun + (int64_t)i * stream->pause_ns);
    traffic_send(publisher, stream->size, i, stream->is_touched);
  }
  stream->writers[number].begun = begun;
  stream->writers[number].ended = now_ns();
  barrier_wait(&stream->barrier); /* who waits for messages sees us leave only when there are no more */
}

/* A message of a subscriber with so much to do for it. */
static void read_message(const struct stream *stream, const slc_message *message, int64_t slow_ns) {
  if (slow_ns > 0) spin_until(now_ns() + slow_ns);
  payload_read(message->data, message->size, stream->is_touched);
}

static void count_parts(const struct stream *stream, struct reader *reader, const slc_message *messages, size_t count) {
  for (size_t i = 0; i < count; i++) reader->of_part[(messages[i].ordinal - 1) >> stream->part_bits]++;
}

/* The ordinals of a channel count its messages, so the last one is known.  Whoever is overrun gets it in any case. */
static void receive_all(void *shared, unsigned number) {
  struct stream *stream = shared;
  static struct reader reader;
  slc_message messages[BATCH];
  slc_subscriber_stats stats = {.size = sizeof stats};
  barrier_wait(&stream->barrier);
  slc_subscriber *subscriber = traffic_subscriber(traffic_connect(&stream->traffic), &stream->traffic);
  int64_t slow_ns = number + 1 == stream->subscribers ? stream->slow_ns : 0;
  size_t max = stream->takes_one ? 1 : BATCH;
  uint64_t last = stream->each * stream->publishers, ordinal = 0;
  barrier_wait(&stream->barrier);
  while (ordinal < last) {
    size_t count = traffic_receive(subscriber, messages, max);
    for (size_t i = 0; i < count; i++) read_message(stream, &messages[i], slow_ns);
    ordinal = messages[count - 1].ordinal;
    reader.received += count;
    if (stream->parts > 0) count_parts(stream, &reader, messages, count);
    traffic_release(subscriber, messages, count);
  }
  reader.ended = now_ns();
  worker_check("cannot see the losses", slc_subscriber_stats_get(subscriber, &stats));
  reader.lost = stats.dropped;
  stream->readers[number] = reader;
  barrier_wait(&stream->barrier);
}

/* ---- one case ---- */

struct throughput {
  uint64_t sent, received, lost, slowest_lost; /* in all repetitions */
  double received_per_s[REPETITIONS_MAX], slowest_per_s[REPETITIONS_MAX], published_per_s[REPETITIONS_MAX];
  double limit_ns[REPETITIONS_MAX];
  /* Of the slowest reader: what it received of the stream, and of the parts of which it received least and most. */
  double share[REPETITIONS_MAX], least_share[REPETITIONS_MAX], most_share[REPETITIONS_MAX];
  double part_share[PARTS_MAX]; /* in the last repetition */
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

/* Of a whole stream to which nobody listened in parts, the share is that of all. */
static void collect_shares(const struct stream *stream, const struct reader *reader, struct throughput *throughput,
                           uint64_t repetition) {
  double all = (double)reader->received / (double)(stream->each * stream->publishers), least = all, most = all;
  for (uint64_t i = 0; i < stream->parts; i++) {
    double share = (double)reader->of_part[i] / (double)(UINT64_C(1) << stream->part_bits);
    throughput->part_share[i] = share;
    if (share < least) least = share;
    if (share > most) most = share;
  }
  throughput->share[repetition] = all;
  throughput->least_share[repetition] = least;
  throughput->most_share[repetition] = most;
}

/* Adds up one repetition; every ordinal was either received or lost. */
static int collect(const struct stream *stream, struct throughput *throughput, uint64_t repetition) {
  const struct reader *slowest = &stream->readers[0];
  double sum = 0, slowest_rate = 0;
  int64_t begun = beginning(stream), published = begun;
  uint64_t sent = stream->each * stream->publishers;
  for (unsigned i = 0; i < stream->subscribers; i++) {
    const struct reader *reader = &stream->readers[i];
    if (reader->received + reader->lost != sent)
      return fail(EXIT_FAILED, "subscriber %u received %llu and lost %llu of %llu messages", i,
                  (unsigned long long)reader->received, (unsigned long long)reader->lost, (unsigned long long)sent);
    double rate = per_second(reader->received, reader->ended - begun);
    sum += rate;
    if (i == 0 || rate < slowest_rate) {
      slowest_rate = rate;
      slowest = reader;
    }
    throughput->received += reader->received;
    throughput->lost += reader->lost;
  }
  for (unsigned i = 0; i < stream->publishers; i++) {
    if (stream->writers[i].ended > published) published = stream->writers[i].ended;
  }
  throughput->sent += sent;
  throughput->slowest_lost += slowest->lost;
  throughput->received_per_s[repetition] = sum / stream->subscribers;
  throughput->slowest_per_s[repetition] = slowest_rate;
  throughput->published_per_s[repetition] = per_second(sent, published - begun);
  collect_shares(stream, slowest, throughput, repetition);
  return EXIT_OK;
}

static int repeat_once(struct bench *bench, struct stream *stream, struct throughput *throughput, uint64_t repetition) {
  const struct role roles[] = {{publish_all, stream->publishers, true}, {receive_all, stream->subscribers, true}};
  int code = bare_stream(bench, stream->is_touched ? stream->size : 0, stream->traffic.slots,
                         stream->each * stream->publishers, &throughput->limit_ns[repetition]);
  if (code != EXIT_OK) return code;
  traffic_name(bench, "stream", &stream->traffic);
  code = crew_run(bench, roles, 2, stream);
  return code == EXIT_OK ? collect(stream, throughput, repetition) : code;
}

static json_t *asked_to_json(const struct bench *bench, const struct stream *stream) {
  return json_pack("{s:i, s:i, s:I, s:I, s:b, s:b, s:b, s:s, s:s, s:I, s:I}", "publishers", (int)stream->publishers,
                   "subscribers", (int)stream->subscribers, "size", (json_int_t)stream->size, "slots",
                   (json_int_t)stream->traffic.slots, "reliable", stream->traffic.is_reliable, "exclusive",
                   stream->traffic.is_exclusive, "touched", stream->is_touched, "waiting",
                   waiting_name(stream->traffic.waiting), "take", stream->takes_one ? "one" : "many", "rate",
                   (json_int_t)bench->settings.rate, "slow_ns", (json_int_t)stream->slow_ns);
}

static json_t *case_to_json(const struct bench *bench, const struct stream *stream, const struct throughput *result) {
  size_t repetitions = bench->settings.repetitions;
  double received = median(result->received_per_s, repetitions), limit = median(result->limit_ns, repetitions);
  json_t *came = json_pack("{s:f, s:f, s:f, s:I, s:I, s:I, s:s, s:f, s:f}", "received_per_s", received,
                           "slowest_received_per_s", median(result->slowest_per_s, repetitions), "published_per_s",
                           median(result->published_per_s, repetitions), "sent", (json_int_t)result->sent, "received",
                           (json_int_t)result->received, "lost", (json_int_t)result->lost, "limit",
                           "bare ring of cache lines, 1 to 1", "limit_per_s", limit > 0 ? 1e9 / limit : 0, "ratio",
                           limit > 0 && received > 0 ? 1e9 / limit / received : 0);
  json_t *slowest =
      json_pack("{s:I, s:I, s:f, s:f, s:f}", "slowest_lost", (json_int_t)result->slowest_lost, "parts",
                (json_int_t)stream->parts, "slowest_share", median(result->share, repetitions), "slowest_share_min",
                median(result->least_share, repetitions), "slowest_share_max", median(result->most_share, repetitions));
  return json_joined(asked_to_json(bench, stream), json_joined(came, slowest));
}

/* Parts that are large beside the channel's slots, and not too many; without a whole one there is nothing to see. */
static void divide(struct stream *stream) {
  uint64_t all = stream->each * stream->publishers;
  stream->part_bits = 0;
  while (all >> stream->part_bits > PARTS_MAX || UINT64_C(1) << stream->part_bits < PART_LAPS * stream->traffic.slots)
    stream->part_bits++;
  stream->parts = stream->traffic.is_reliable ? 0 : all >> stream->part_bits;
}

/* Enough for what all have in hand. */
static uint32_t usual_slots(const struct stream *stream) {
  uint32_t slots = USUAL_SLOTS;
  while (slots < stream->publishers * PUBLISHER_SLOTS + stream->subscribers * SUBSCRIBER_SLOTS) slots *= 2;
  return slots;
}

static void prepare(const struct bench *bench, struct stream *stream, uint64_t size) {
  const struct settings *settings = &bench->settings;
  unsigned ends = stream->publishers + stream->subscribers;
  /* So that it ends, where all wait for each other and for processors, or take their time. */
  uint64_t usual = settings->is_unreliable ? MESSAGES * LOSSY_TIMES : MESSAGES / stream->subscribers;
  usual /= stream->publishers;
  if (!settings->is_unreliable && !crew_is_pinned(bench, ends)) usual /= UNPINNED_PART;
  if (!settings->is_unreliable && settings->slow_ns > 0 && usual > SLOW_NS / settings->slow_ns)
    usual = SLOW_NS / settings->slow_ns;
  if (usual > settings->rate && settings->rate > 0) usual = settings->rate;
  uint64_t count = bench_count(bench, usual, LEAST_MESSAGES);
  stream->traffic = (struct traffic){
      .slots = settings->slots.count > 0 ? (uint32_t)settings->slots.values[0] : usual_slots(stream),
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
  stream->each = (count + stream->publishers - 1) / stream->publishers;
  stream->is_touched = settings->is_touched;
  stream->takes_one = settings->takes_one;
  stream->slow_ns = (int64_t)settings->slow_ns;
  stream->pause_ns = settings->rate > 0 ? (int64_t)(SECOND_NS * stream->publishers / settings->rate) : 0;
  divide(stream);
}

static void plot_case(struct bench *bench, const struct stream *stream, const struct throughput *result) {
  static const struct plot_kind by_size = {"Throughput: received by each reader, by size",
                                           "payload",
                                           "messages a second",
                                           PLOT_STEPS,
                                           PLOT_BYTES,
                                           PLOT_RATE},
                                along = {"Unreliable: what the slowest reader received, along the stream",
                                         "messages published",
                                         "received of each part",
                                         PLOT_NUMBERS,
                                         PLOT_COUNT,
                                         PLOT_PER_CENT};
  char line[64];
  snprintf(line, sizeof line, "%u to %u", stream->publishers, stream->subscribers);
  plot_panel(bench->plot, &by_size);
  plot_point(bench->plot, line, (double)stream->size, median(result->received_per_s, bench->settings.repetitions));
  plot_point(bench->plot, "bare ring, 1 to 1", (double)stream->size,
             1e9 / median(result->limit_ns, bench->settings.repetitions));
  plot_limit(bench->plot, "bare ring, 1 to 1");
  if (stream->parts < 2) return;
  char size[32];
  snprintf(line, sizeof line, "%u to %u, %s", stream->publishers, stream->subscribers, plot_size(stream->size, size));
  plot_panel(bench->plot, &along);
  for (uint64_t i = 0; i < stream->parts; i++)
    plot_point(bench->plot, line, ((double)i + 0.5) * (double)(UINT64_C(1) << stream->part_bits),
               100 * result->part_share[i]);
}

static int measure_case(struct bench *bench, struct stream *stream, uint64_t size) {
  struct throughput result = {.sent = 0};
  int code = EXIT_OK;
  prepare(bench, stream, size);
  for (uint64_t i = 0; i < bench->settings.repetitions && code == EXIT_OK; i++)
    code = repeat_once(bench, stream, &result, i);
  if (code != EXIT_OK) return code;
  plot_case(bench, stream, &result);
  return report_add(bench, "throughput", stream->publishers + stream->subscribers, stream->each * stream->publishers,
                    case_to_json(bench, stream, &result));
}

/* ---- all cases ---- */

#define RATES                                                                                                          \
  {"PUB", "publishers", FORMAT_COUNT}, {"SUB", "subscribers", FORMAT_COUNT}, {"SIZE", "size", FORMAT_BYTES},           \
      {"RECEIVED/s", "received_per_s", FORMAT_RATE}, {"SLOWEST/s", "slowest_received_per_s", FORMAT_RATE},             \
      {"PUBLISHED/s", "published_per_s", FORMAT_RATE}, {                                                               \
    "LOST", "lost", FORMAT_COUNT                                                                                       \
  }
#define LIMITS                                                                                                         \
  {"LIMIT/s", "limit_per_s", FORMAT_RATE}, {"RATIO", "ratio", FORMAT_RATIO}, {                                         \
    NULL, NULL, FORMAT_TEXT                                                                                            \
  }
static const struct column reliable_columns[] = {RATES, LIMITS};
static const struct column unreliable_columns[] = {RATES,
                                                   {"BY SLOWEST", "slowest_lost", FORMAT_COUNT},
                                                   {"ITS SHARE", "slowest_share", FORMAT_PART},
                                                   {"LEAST", "slowest_share_min", FORMAT_PART},
                                                   {"MOST", "slowest_share_max", FORMAT_PART},
                                                   LIMITS};

static bool are_within(const struct list *list, uint64_t max) {
  for (size_t i = 0; i < list->count; i++) {
    if (list->values[i] < 1 || list->values[i] > max) return false;
  }
  return true;
}

int bench_throughput(struct bench *bench) {
  static const uint64_t one[] = {1}, usual_size[] = {64}, usual_sizes[] = {8, 32, 64, 256, 1024, 4096, 16384};
  const struct settings *settings = &bench->settings;
  struct list publishers = bench_list(&settings->publishers, 1, one);
  struct list subscribers = bench_list(&settings->subscribers, 1, one);
  struct list sizes = bench->plot != NULL /* which shall show something */
                          ? bench_list(&settings->sizes, sizeof usual_sizes / sizeof usual_sizes[0], usual_sizes)
                          : bench_list(&settings->sizes, 1, usual_size);
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
  report_begin(bench, title, settings->is_unreliable ? unreliable_columns : reliable_columns);
  for (size_t p = 0; p < publishers.count; p++) {
    for (size_t s = 0; s < subscribers.count; s++) {
      for (size_t i = 0; i < sizes.count && code == EXIT_OK; i++) {
        stream->publishers = (unsigned)publishers.values[p];
        stream->subscribers = (unsigned)subscribers.values[s];
        code = measure_case(bench, stream, sizes.values[i]);
      }
    }
  }
  shared_free(stream, sizeof *stream);
  return code;
}

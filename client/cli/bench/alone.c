/* One process alone, beside idle subscribers.  Thread: main, of each process. */
#include "alone.h"

#include <stdio.h>

#include "cli.h"
#include "plot.h"

enum {
  USUAL_SLOTS = 64,
  USUAL_SIZE = 64,
  LEAST_COUNT = 64,
  IDLE_EACH = 500, /* subscribers of one idle process */
};

/* ---- the processes ---- */

slc_publisher *alone_enter(struct alone *alone, slc_client *client) {
  slc_publisher_stats stats = {.size = sizeof stats};
  slc_publisher *publisher = traffic_publisher(client, &alone->traffic);
  barrier_wait(&alone->barrier); /* the channel has its shape */
  barrier_wait(&alone->barrier); /* all subscribe */
  /* Each message is twice as large as the slots are: a generation more. */
  for (uint32_t i = 1; i < alone->generation; i++) {
    alone->size *= 2;
    traffic_send(publisher, alone->size, i, false);
  }
  worker_check("cannot see the channel", slc_publisher_stats_get(publisher, &stats));
  alone->generation = stats.generation;
  return publisher;
}

void alone_leave(struct alone *alone) {
  barrier_wait(&alone->barrier);
}

static void idle(void *shared, unsigned number) {
  struct alone *alone = shared;
  uint64_t first = (uint64_t)number * IDLE_EACH, end = first + IDLE_EACH;
  slc_client *client = traffic_connect(&alone->traffic);
  struct traffic traffic = alone->traffic;
  traffic.holds = 1;
  barrier_wait(&alone->barrier);
  for (uint64_t i = first; i < end && i < alone->subscribers; i++) traffic_subscriber(client, &traffic);
  barrier_wait(&alone->barrier);
  barrier_wait(&alone->barrier);
}

/* ---- one case ---- */

struct shape {
  uint64_t slots, subscribers, generations;
};

static json_t *case_to_json(const struct alone *alone, const struct alone_kind *kind) {
  double ns = median(alone->ns, alone->repetitions), limit = median(alone->limit_ns, alone->repetitions);
  return json_pack("{s:I, s:I, s:I, s:I, s:b, s:b, s:s, s:f, s:I, s:s, s:f, s:f}", "size", (json_int_t)alone->size,
                   "slots", (json_int_t)alone->traffic.slots, "subscribers", (json_int_t)alone->subscribers,
                   "generation", (json_int_t)alone->generation, "exclusive", alone->traffic.is_exclusive, "touched",
                   alone->is_touched, "take", alone->takes_one ? "one" : "many", "ns_per_message", ns, "lost",
                   (json_int_t)alone->lost, "limit", kind->limit, "limit_ns_per_message", limit, "ratio",
                   limit > 0 ? ns / limit : 0);
}

static void prepare(struct bench *bench, const struct alone_kind *kind, const struct shape *shape,
                    struct alone *alone) {
  const struct settings *settings = &bench->settings;
  uint64_t size = settings->sizes.count > 0 ? settings->sizes.values[0] : USUAL_SIZE;
  *alone = (struct alone){
      .traffic = {.slots = (uint32_t)shape->slots, .slot_size = size, .is_exclusive = settings->is_exclusive},
      .subscribers = shape->subscribers,
      .size = size,
      .count = bench_count(bench, kind->usual_count, LEAST_COUNT),
      .repetitions = settings->repetitions,
      .generation = (uint32_t)shape->generations,
      .stamp_ns = bench->stamp_ns,
      .is_touched = settings->is_touched,
      .takes_one = settings->takes_one,
  };
  traffic_name(bench, kind->name, &alone->traffic);
}

static int measure_case(struct bench *bench, const struct alone_kind *kind, const struct shape *shape,
                        struct alone *alone) {
  prepare(bench, kind, shape, alone);
  unsigned idlers = (unsigned)((shape->subscribers + IDLE_EACH - 1) / IDLE_EACH);
  const struct role roles[] = {{kind->run, 1, true}, {idle, idlers, false}};
  alone->barrier.parties = 1 + idlers;
  int code = crew_run(bench, roles, 2, alone);
  for (uint64_t i = 0; i < alone->repetitions && code == EXIT_OK; i++)
    code = kind->limit_of(bench, shape->slots, alone->is_touched ? alone->size : 0, alone->count, &alone->limit_ns[i]);
  if (code != EXIT_OK) return code;
  return report_add(bench, kind->name, 1, alone->count, case_to_json(alone, kind));
}

/* ---- all cases ---- */

static const struct column columns[] = {{"SIZE", "size", FORMAT_BYTES},
                                        {"SLOTS", "slots", FORMAT_COUNT},
                                        {"SUBSCRIBERS", "subscribers", FORMAT_COUNT},
                                        {"GENERATION", "generation", FORMAT_COUNT},
                                        {"ns/MESSAGE", "ns_per_message", FORMAT_NS},
                                        {"LIMIT", "limit_ns_per_message", FORMAT_NS},
                                        {"RATIO", "ratio", FORMAT_RATIO},
                                        {NULL, NULL, FORMAT_TEXT}};

/* One of the three numbers takes each of these values, and the others stay as they are. */
struct sweep {
  struct plot_kind plot;
  struct list values;
  size_t field; /* of a shape */
};

static int measure_sweep(struct bench *bench, const struct alone_kind *kind, const struct sweep *sweep,
                         struct shape shape, struct alone *alone) {
  uint64_t *const fields[] = {&shape.slots, &shape.subscribers, &shape.generations};
  for (size_t i = 0; i < sweep->values.count; i++) {
    *fields[sweep->field] = sweep->values.values[i];
    int code = measure_case(bench, kind, &shape, alone);
    if (code != EXIT_OK) return code;
    plot_panel(bench->plot, &sweep->plot);
    plot_point(bench->plot, kind->name, (double)sweep->values.values[i], median(alone->ns, alone->repetitions));
    plot_point(bench->plot, kind->limit, (double)sweep->values.values[i], median(alone->limit_ns, alone->repetitions));
    plot_limit(bench->plot, kind->limit);
  }
  return EXIT_OK;
}

/* The first value of each list holds while another list is gone through; a list of one value has no sweep of its own,
 * unless nothing else has. */
static int measure_all(struct bench *bench, const struct alone_kind *kind, struct alone *alone) {
  static const uint64_t slots[] = {16, 64, 256, 1024, 4096, 16384, 65536}, subscribers[] = {0, 1, 10, 100, 1000},
                        generations[] = {1, 2, 4, 8};
  const struct settings *settings = &bench->settings;
  bool is_asked = settings->slots.count + settings->subscribers.count + settings->generations.count > 0;
  struct sweep sweeps[] = {
      {{"Cost by slots", "slots", "a message", PLOT_STEPS, PLOT_COUNT, PLOT_NS}, settings->slots, 0},
      {{"Cost by idle subscribers", "subscribers", "a message", PLOT_STEPS, PLOT_COUNT, PLOT_NS},
       settings->subscribers,
       1},
      {{"Cost by generation of buffers", "generation", "a message", PLOT_STEPS, PLOT_COUNT, PLOT_NS},
       settings->generations,
       2}};
  struct shape shape = {.slots = USUAL_SLOTS, .subscribers = 0, .generations = 1};
  if (settings->slots.count > 0) shape.slots = settings->slots.values[0];
  if (settings->subscribers.count > 0) shape.subscribers = settings->subscribers.values[0];
  if (settings->generations.count > 0) shape.generations = settings->generations.values[0];
  if (!is_asked) {
    sweeps[0].values = bench_list(&settings->slots, sizeof slots / sizeof slots[0], slots);
    sweeps[1].values = bench_list(&settings->subscribers, sizeof subscribers / sizeof subscribers[0], subscribers);
    sweeps[2].values = bench_list(&settings->generations, sizeof generations / sizeof generations[0], generations);
  }
  int code = EXIT_OK;
  bool has_swept = false;
  for (size_t i = 0; i < 3 && code == EXIT_OK; i++) {
    if (sweeps[i].values.count < 2) continue;
    has_swept = true;
    /* With many subscribers the channel has slots for them. */
    if (i == 1 && !is_asked) shape.slots = 4096;
    if (i == 2 && !is_asked) shape.slots = USUAL_SLOTS;
    code = measure_sweep(bench, kind, &sweeps[i], shape, alone);
  }
  return code == EXIT_OK && !has_swept ? measure_case(bench, kind, &shape, alone) : code;
}

int alone_measure(struct bench *bench, const struct alone_kind *kind) {
  struct alone *alone = shared_new(sizeof *alone);
  if (alone == NULL) return EXIT_FAILED;
  report_begin(bench, kind->title, columns);
  int code = measure_all(bench, kind, alone);
  shared_free(alone, sizeof *alone);
  return code;
}

/* slotcast bench latency: round trips of one message between two processes.  Thread: main, of each process. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "crew.h"
#include "limits.h"
#include "plot.h"
#include "report.h"
#include "traffic.h"

enum {
  POLLED_TRIPS = 100000, /* a repetition */
  SLEPT_TRIPS = 5000,
  LEAST_TRIPS = 20,
  BUSY = 2,
};
/* Large payloads that are written and read are measured with fewer trips, and all of them with fewer slots. */
#define TOUCHED_BYTES (UINT64_C(256) << 20)
#define LARGE_SIZE (UINT64_C(64) << 10)

struct game {
  struct barrier barrier;
  struct schedule schedule;
  struct traffic ping, pong; /* the channels of either direction */
  uint64_t size;
  bool is_touched;
  _Alignas(APART) struct histogram histogram;
};

/* ---- the two processes ---- */

struct player {
  slc_publisher *out;
  slc_subscriber *in;
  const struct game *game;
};

/* Publishers first, so that both channels have their shape; nobody plays before everybody is there. */
static void player_enter(struct player *player, struct game *game, const struct traffic *out,
                         const struct traffic *in) {
  slc_client *client = traffic_connect(out);
  player->game = game;
  player->out = traffic_publisher(client, out);
  barrier_wait(&game->barrier);
  player->in = traffic_subscriber(client, in);
  barrier_wait(&game->barrier);
}

static void player_send(const struct player *player, uint64_t number) {
  traffic_send(player->out, player->game->size, number, player->game->is_touched);
}
static uint64_t player_receive(const struct player *player) {
  slc_message message;
  traffic_receive(player->in, &message, 1);
  uint64_t number = payload_read(message.data, message.size, player->game->is_touched);
  traffic_release(player->in, &message, 1);
  return number;
}

static void player_exchange(void *ctx, uint64_t number) {
  const struct player *player = ctx;
  player_send(player, number);
  while (player_receive(player) != number) {
  }
}

static void ping(void *shared, unsigned number) {
  struct game *game = shared;
  struct player player;
  (void)number;
  player_enter(&player, game, &game->ping, &game->pong);
  measure_exchanges(&game->schedule, player_exchange, &player, &game->histogram);
}
static void pong(void *shared, unsigned number) {
  struct game *game = shared;
  struct player player;
  (void)number;
  player_enter(&player, game, &game->pong, &game->ping);
  for (uint64_t i = 0; i < game->schedule.warm_up + game->schedule.count; i++)
    player_send(&player, player_receive(&player));
}

/* ---- one case: a size ---- */

struct latency {
  struct repeated rtt, limit;
};

static enum bare_kind limit_of(enum waiting waiting) {
  return waiting == WAIT_BLOCKING ? BARE_EVENTFD : BARE_LINES;
}

enum { LIMIT_NAME_MAX = 64 };
static const char *limit_name(const struct settings *settings, char name[LIMIT_NAME_MAX]) {
  snprintf(name, LIMIT_NAME_MAX, "%s%s", bare_name(limit_of(settings->waiting)),
           settings->is_touched ? ", written and read" : "");
  return name;
}

static uint64_t trips(const struct bench *bench, uint64_t size) {
  const struct settings *settings = &bench->settings;
  uint64_t usual = settings->waiting == WAIT_BLOCKING ? SLEPT_TRIPS : POLLED_TRIPS;
  if (settings->is_touched && usual > TOUCHED_BYTES / size) usual = TOUCHED_BYTES / size;
  return bench_count(bench, usual, LEAST_TRIPS);
}

static void prepare(const struct bench *bench, struct game *game, uint64_t size, uint64_t slots) {
  const struct traffic traffic = {.slots = (uint32_t)slots,
                                  .slot_size = size,
                                  .waiting = bench->settings.waiting,
                                  .is_exclusive = bench->settings.is_exclusive,
                                  .holds = 2};
  game->barrier.parties = BUSY;
  game->size = size;
  game->is_touched = bench->settings.is_touched;
  game->ping = game->pong = traffic;
  /* Warming up goes round all slots, so that their memory is there. */
  uint64_t count = trips(bench, size);
  game->schedule = (struct schedule){.warm_up = count / 10 + 2 * slots, .count = count, .stamp_ns = bench->stamp_ns};
}

static int repeat_once(struct bench *bench, struct game *game, struct latency *latency) {
  static const struct role roles[] = {{ping, 1, true}, {pong, 1, true}};
  int code = bare_round_trips(bench, limit_of(bench->settings.waiting), game->is_touched ? game->size : 0,
                              game->ping.slots, &game->schedule, &latency->limit);
  if (code != EXIT_OK) return code;
  traffic_name(bench, "ping", &game->ping);
  traffic_name(bench, "pong", &game->pong);
  histogram_clear(&game->histogram);
  code = crew_run(bench, roles, 2, game);
  if (code == EXIT_OK) repeated_add(&latency->rtt, &game->histogram);
  return code;
}

/* The distribution of the limit is drawn once: it is the same for all sizes, unless they are touched. */
static void plot_case(struct bench *bench, uint64_t size, const struct latency *latency, bool is_first) {
  static const struct plot_kind distribution = {.title = "Round trips: distribution",
                                                .x_label = "so many of all round trips take no longer",
                                                .y_label = "round trip",
                                                .axis = PLOT_QUANTILES,
                                                .y_unit = PLOT_NS},
                                by_size = {.title = "Round trips: median by size",
                                           .x_label = "payload",
                                           .y_label = "round trip",
                                           .axis = PLOT_STEPS,
                                           .x_unit = PLOT_BYTES,
                                           .y_unit = PLOT_NS};
  const struct settings *settings = &bench->settings;
  char bytes[32], limit[LIMIT_NAME_MAX];
  plot_panel(bench->plot, &distribution);
  plot_distribution(bench->plot, plot_size(size, bytes), &latency->rtt.all);
  limit_name(settings, limit);
  if (is_first && !settings->is_touched) {
    plot_distribution(bench->plot, limit, &latency->limit.all);
    plot_limit(bench->plot, limit);
  }
  plot_panel(bench->plot, &by_size);
  plot_point(bench->plot, "Slotcast", (double)size, repeated_p50(&latency->rtt));
  plot_point(bench->plot, limit, (double)size, repeated_p50(&latency->limit));
  plot_limit(bench->plot, limit);
}

static int report_case(struct bench *bench, const struct game *game, const struct latency *latency) {
  const struct settings *settings = &bench->settings;
  double limit = repeated_p50(&latency->limit);
  char name[LIMIT_NAME_MAX];
  json_t *result = json_pack("{s:I, s:I, s:s, s:b, s:o, s:s, s:o, s:f}", "size", (json_int_t)game->size, "slots",
                             (json_int_t)game->ping.slots, "waiting", waiting_name(settings->waiting), "touched",
                             settings->is_touched, "rtt_ns", repeated_to_json(&latency->rtt), "limit",
                             limit_name(settings, name), "limit_ns", repeated_to_json(&latency->limit), "ratio_p50",
                             limit > 0 ? repeated_p50(&latency->rtt) / limit : 0);
  return report_add(bench, "latency", BUSY, game->schedule.count, result);
}

static int measure_case(struct bench *bench, struct game *game, struct latency *latency, uint64_t size, uint64_t slots,
                        bool is_first) {
  prepare(bench, game, size, slots);
  repeated_clear(&latency->rtt);
  repeated_clear(&latency->limit);
  int code = EXIT_OK;
  for (uint64_t i = 0; i < bench->settings.repetitions && code == EXIT_OK; i++)
    code = repeat_once(bench, game, latency);
  if (code != EXIT_OK) return code;
  plot_case(bench, size, latency, is_first);
  return report_case(bench, game, latency);
}

/* ---- all cases ---- */

static const struct column columns[] = {
    {"SIZE", "size", FORMAT_BYTES},           {"P50 ns", "rtt_ns.p50", FORMAT_NS},
    {"P99 ns", "rtt_ns.p99", FORMAT_NS},      {"P99.9 ns", "rtt_ns.p999", FORMAT_NS},
    {"LIMIT P50", "limit_ns.p50", FORMAT_NS}, {"LIMIT P99", "limit_ns.p99", FORMAT_NS},
    {"P50 RATIO", "ratio_p50", FORMAT_RATIO}, {NULL, NULL, FORMAT_TEXT}};

static void begin(struct bench *bench) {
  const struct settings *settings = &bench->settings;
  char title[160], limit[LIMIT_NAME_MAX];
  snprintf(title, sizeof title, "Round trips, %s, payload %s, beside a %s", waiting_name(settings->waiting),
           settings->is_touched ? "written and read" : "untouched", limit_name(settings, limit));
  report_begin(bench, title, columns);
}

int bench_latency(struct bench *bench) {
  static const uint64_t usual[] = {8, 32, 64, 1024, 64 << 10, 1 << 20, 16 << 20};
  struct settings *settings = &bench->settings;
  if (settings->waiting == WAIT_USUAL) settings->waiting = WAIT_POLLING;
  if (settings->waiting == WAIT_POLLING && bench->processor_count < BUSY)
    return fail(EXIT_USAGE, "two processes that poll need two processors: use --wait blocking");
  struct list sizes = bench_list(&settings->sizes, sizeof usual / sizeof usual[0], usual);
  struct game *game = shared_new(sizeof *game);
  static struct latency latency; /* large */
  int code = game != NULL ? EXIT_OK : EXIT_FAILED;
  begin(bench);
  for (size_t i = 0; i < sizes.count && code == EXIT_OK; i++) {
    uint64_t size = sizes.values[i];
    uint64_t slots = settings->slots.count > 0 ? settings->slots.values[0] : size > LARGE_SIZE ? 8 : 64;
    code = measure_case(bench, game, &latency, size, slots, i == 0);
  }
  shared_free(game, sizeof *game);
  return code;
}

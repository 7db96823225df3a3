/* The exchanges, each in processes of its own for every repetition.  How often a thing is done follows from how long it
 * takes, because the peers differ by some orders of magnitude.  Thread: main, of each process. */
#include "exchange.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/crew.h"
#include "bench/limits.h"
#include "bench/measure.h"
#include "cli.h"

enum {
  KIB = 1024,
  MIB = 1024 * 1024,
  TRIPS_MAX = 100000, /* what slotcast bench does in a repetition */
  SLEPT_TRIPS_MAX = 5000,
  STREAM_MAX = 2000000,
  PUBLISH_MAX = 500000,
  FIRST_TRIPS = 200, /* to see how long one takes; so many go round all slots */
  FIRST_PUBLISHED = 4096,
  LEAST = 20,
  GROWTH = 8,
  QUICK_PART = 100,
  BUDGET_NS = 250000000, /* of a repetition */
  ASK_EVERY = 64,        /* messages between two looks at the clock */
  REPEAT_EVERY_NS = 1000000,
  HANGS_AFTER_S = 120,
};
/* Numbers count from 1 on. */
#define GREETING UINT64_C(0)
#define FAREWELL UINT64_MAX

const struct exchange exchanges[EXCHANGES] = {
    {"64 B", "rtt_64", EXCHANGE_TRIPS, 64, false, false, 0},
    {"64 KiB", "rtt_64K", EXCHANGE_TRIPS, 64 * KIB, false, false, 0},
    {"1 MiB", "rtt_1M", EXCHANGE_TRIPS, MIB, false, false, 0},
    {"1 MiB w+r", "rtt_1M_touched", EXCHANGE_TRIPS, MIB, true, false, 0},
    {"sleeping", "rtt_64_blocking", EXCHANGE_TRIPS, 64, false, true, 0},
    {"received/s", "stream", EXCHANGE_STREAM, 64, false, false, 0},
    {"publish 1", "publish_1", EXCHANGE_PUBLISH, 64, false, false, 1},
    {"8", "publish_8", EXCHANGE_PUBLISH, 64, false, false, 8},
    {"64", "publish_64", EXCHANGE_PUBLISH, 64, false, false, 64},
};

/* A number said again and again: how many have heard it, and whether nobody says it any more. */
struct call {
  _Atomic uint32_t heard;
  _Atomic bool is_over;
};

/* What the processes of one repetition share. */
struct place {
  struct barrier barrier;
  const struct peer *peer;
  const struct exchange *exchange;
  struct topic there, back; /* back: EXCHANGE_TRIPS */
  int64_t stamp_ns;
  bool is_quick;
  struct call coming, coming_back, going; /* coming_back: EXCHANGE_TRIPS; going: EXCHANGE_PUBLISH */
  /* the results */
  int64_t begun, ended;
  uint64_t sent, received;
  unsigned repetitions;
  double ns[REPETITIONS_MAX];
  _Alignas(APART) struct histogram histogram;
};

/* ---- how often ---- */

/* How often, so that it takes the budget's time. */
static uint64_t within_budget(const struct place *place, int64_t taken_ns, uint64_t times, uint64_t most) {
  int64_t budget = place->is_quick ? BUDGET_NS / QUICK_PART : BUDGET_NS;
  uint64_t count = (uint64_t)((double)budget * (double)times / (double)(taken_ns > 0 ? taken_ns : 1));
  return count < LEAST ? LEAST : count > most ? most : count;
}

/* The same of what is not known yet: it is done more and more often, `first` times unless that would be too long. */
static uint64_t find_count(struct place *place, int64_t (*take_time)(struct place *, uint64_t), uint64_t first,
                           uint64_t most) {
  for (uint64_t count = LEAST;;) {
    uint64_t fitting = within_budget(place, take_time(place, count), count, most);
    if (fitting <= count || count >= first) return fitting;
    count = fitting < GROWTH * count ? fitting : GROWTH * count;
  }
}

/* ---- coming and going ---- */

static void pause_between(void) {
  nanosleep(&(struct timespec){.tv_nsec = REPEAT_EVERY_NS}, NULL);
}

/* Nobody tells a publisher when its subscribers are there, or have gone, in the same way with every peer: it says so
 * again and again until as many as shall have heard it.  They take on until it is over: where they have no room it
 * would wait for them for ever. */
static void tell_all(const struct peer *peer, uint64_t number, struct call *call, uint32_t all) {
  while (atomic_load_explicit(&call->heard, memory_order_acquire) < all) {
    peer->send(number);
    pause_between();
  }
  atomic_store_explicit(&call->is_over, true, memory_order_release);
}
static void hear(const struct peer *peer, uint64_t number, struct call *call) {
  uint64_t got = ~number;
  while (got != number) peer->receive(&got, 1, true);
  atomic_fetch_add_explicit(&call->heard, 1, memory_order_release);
  while (!atomic_load_explicit(&call->is_over, memory_order_acquire)) {
    if (peer->receive(&got, 1, false) == 0) pause_between();
  }
}

/* Who sends: its subscribers come when the channel has its shape, and have heard from it when this returns. */
static void come_sending(struct place *place, unsigned subscribers) {
  alarm(HANGS_AFTER_S);
  place->peer->publish_on(&place->there);
  barrier_wait(&place->barrier);
  tell_all(place->peer, GREETING, &place->coming, subscribers);
}
static void come_receiving(struct place *place) {
  alarm(HANGS_AFTER_S);
  barrier_wait(&place->barrier);
  place->peer->subscribe_to(&place->there);
  hear(place->peer, GREETING, &place->coming);
}
/* Who sends and receives. */
static void come(struct place *place, const struct topic *out, const struct topic *in) {
  alarm(HANGS_AFTER_S);
  place->peer->publish_on(out);
  barrier_wait(&place->barrier);
  place->peer->subscribe_to(in);
  barrier_wait(&place->barrier);
}
/* Nobody goes before all has been read. */
static void leave(struct place *place) {
  barrier_wait(&place->barrier);
  if (place->peer->leave != NULL) place->peer->leave();
}

/* ---- round trips ---- */

static void trip(void *ctx, uint64_t number) {
  const struct peer *peer = ctx;
  uint64_t got = GREETING;
  peer->send(number);
  while (got != number) peer->receive(&got, 1, true);
}

static int64_t time_of_trips(struct place *place, uint64_t count) {
  const struct schedule schedule = {.count = count, .stamp_ns = place->stamp_ns};
  int64_t before = now_ns();
  measure_exchanges(&schedule, trip, (void *)(uintptr_t)place->peer, &place->histogram);
  return now_ns() - before;
}

static void ping(void *shared, unsigned which) {
  struct place *place = shared;
  void *peer = (void *)(uintptr_t)place->peer;
  (void)which;
  come(place, &place->there, &place->back);
  tell_all(peer, GREETING, &place->coming, 1);
  hear(peer, GREETING, &place->coming_back);
  uint64_t count = find_count(place, time_of_trips, FIRST_TRIPS, place->exchange->blocks ? SLEPT_TRIPS_MAX : TRIPS_MAX);
  const struct schedule schedule = {.warm_up = count / 10, .count = count, .stamp_ns = place->stamp_ns};
  histogram_clear(&place->histogram);
  measure_exchanges(&schedule, trip, peer, &place->histogram);
  trip(peer, FAREWELL);
  leave(place);
}
static void pong(void *shared, unsigned which) {
  struct place *place = shared;
  (void)which;
  come(place, &place->back, &place->there);
  hear(place->peer, GREETING, &place->coming);
  tell_all(place->peer, GREETING, &place->coming_back, 1);
  for (uint64_t number = GREETING; number != FAREWELL;) {
    if (place->peer->receive(&number, 1, true) > 0 && number != GREETING) place->peer->send(number);
  }
  leave(place);
}

/* ---- a stream ---- */

static void stream_out(void *shared, unsigned which) {
  struct place *place = shared;
  const struct peer *peer = place->peer;
  (void)which;
  come_sending(place, 1);
  barrier_wait(&place->barrier); /* who has heard waits for the first message */
  int64_t end = now_ns() + (place->is_quick ? BUDGET_NS / QUICK_PART : BUDGET_NS);
  uint64_t number = 0;
  place->begun = now_ns();
  do {
    for (int i = 0; i < ASK_EVERY; i++) peer->send(++number);
  } while (number < STREAM_MAX && now_ns() < end);
  place->sent = number;
  peer->send(FAREWELL);
  leave(place);
}
static void stream_in(void *shared, unsigned which) {
  struct place *place = shared;
  const struct peer *peer = place->peer;
  uint64_t numbers[RECEIVE_MAX], last = 0, received = 0;
  (void)which;
  come_receiving(place);
  barrier_wait(&place->barrier);
  while (last != FAREWELL) {
    size_t count = peer->receive(numbers, RECEIVE_MAX, true);
    for (size_t i = 0; i < count; i++) {
      last = numbers[i];
      received += last != GREETING && last != FAREWELL;
    }
  }
  place->ended = now_ns();
  place->received = received;
  leave(place);
}

/* ---- publishing beside idle subscribers ---- */

static int64_t time_of_sends(struct place *place, uint64_t count) {
  int64_t before = now_ns();
  for (uint64_t i = 1; i <= count; i++) place->peer->send(i);
  return now_ns() - before - place->stamp_ns;
}

static void publish(void *shared, unsigned which) {
  struct place *place = shared;
  const struct peer *peer = place->peer;
  (void)which;
  come_sending(place, place->exchange->subscribers);
  uint64_t count = find_count(place, time_of_sends, FIRST_PUBLISHED, PUBLISH_MAX);
  for (unsigned i = 0; i < place->repetitions; i++) place->ns[i] = (double)time_of_sends(place, count) / (double)count;
  if (peer->has_threads) tell_all(peer, FAREWELL, &place->going, place->exchange->subscribers);
  leave(place);
}
static void idle(void *shared, unsigned which) {
  struct place *place = shared;
  const struct peer *peer = place->peer;
  (void)which;
  come_receiving(place);
  if (peer->has_threads) hear(peer, FAREWELL, &place->going);
  leave(place);
}

/* ---- repetitions ---- */

static void name_topic(struct bench *bench, struct topic *topic) {
  snprintf(topic->name, sizeof topic->name, "peers-%d-%u", (int)getpid(), ++bench->channels);
}

static void prepare(struct bench *bench, struct place *place, const char *directory) {
  static const enum purpose purposes[] = {PURPOSE_TRIPS, PURPOSE_STREAM, PURPOSE_FAN_OUT};
  const struct exchange *exchange = place->exchange;
  const struct peer *peer = place->peer;
  place->there = (struct topic){.purpose = purposes[exchange->kind],
                                .directory = directory,
                                .size = exchange->size,
                                .is_touched = exchange->is_touched,
                                .blocks = exchange->blocks || peer->has_threads || exchange->kind == EXCHANGE_PUBLISH};
  place->back = place->there;
  name_topic(bench, &place->there);
  name_topic(bench, &place->back);
  place->barrier.parties = exchange->kind == EXCHANGE_PUBLISH ? 1 + exchange->subscribers : 2;
  place->stamp_ns = bench->stamp_ns;
  place->is_quick = bench->settings.is_quick;
  place->repetitions = (unsigned)bench->settings.repetitions;
}

static void add_trips(struct result *result, const struct histogram *trips) {
  unsigned i = result->repetitions++;
  result->values[i] = histogram_at(trips, 0.5);
  result->p99[i] = histogram_at(trips, 0.99);
  result->p999[i] = histogram_at(trips, 0.999);
}

static int repeat_trips(struct bench *bench, struct place *place, struct result *result) {
  static const struct role roles[] = {{ping, 1, true}, {pong, 1, true}};
  int code = crew_run(bench, roles, 2, place);
  if (code == EXIT_OK) add_trips(result, &place->histogram);
  return code;
}

static int repeat_stream(struct bench *bench, struct place *place, struct result *result) {
  static const struct role roles[] = {{stream_out, 1, true}, {stream_in, 1, true}};
  int code = crew_run(bench, roles, 2, place);
  if (code != EXIT_OK) return code;
  result->values[result->repetitions++] = (double)place->received * 1e9 / (double)(place->ended - place->begun);
  result->sent += place->sent;
  result->lost += place->sent - place->received;
  return code;
}

static int measure_publish(struct bench *bench, struct place *place, struct result *result) {
  const struct role roles[] = {{publish, 1, true}, {idle, place->exchange->subscribers, false}};
  int code = crew_run(bench, roles, 2, place);
  if (code != EXIT_OK) return code;
  memcpy(result->values, place->ns, sizeof place->ns);
  result->repetitions = place->repetitions;
  return code;
}

static bool is_complete(const struct bench *bench, const struct result *result) {
  return result->measured == MEASURED_FAILED || result->repetitions == bench->settings.repetitions;
}

/* What runs beside is new, too: nothing is left in it of an earlier repetition, least of all of one that failed. */
static int run_beside(struct bench *bench, struct place *place, struct result *result) {
  static int (*const repeat[])(struct bench *, struct place *, struct result *) = {repeat_trips, repeat_stream,
                                                                                   measure_publish};
  const struct peer *peer = place->peer;
  int code = peer->start != NULL ? peer->start(bench) : EXIT_OK;
  if (code == EXIT_OK) code = repeat[place->exchange->kind](bench, place, result);
  if (peer->stop != NULL) peer->stop(bench);
  return code;
}

int exchange_repeat(struct bench *bench, const struct peer *peer, const struct exchange *exchange,
                    const char *directory, struct result *result) {
  if (is_complete(bench, result)) return EXIT_OK;
  struct place *place = shared_new(sizeof *place);
  if (place == NULL) return EXIT_FAILED;
  place->peer = peer;
  place->exchange = exchange;
  prepare(bench, place, directory);
  int code = run_beside(bench, place, result);
  result->measured = code == EXIT_OK ? MEASURED_YES : MEASURED_FAILED;
  shared_free(place, sizeof *place);
  return code;
}

/* ---- the bare machine ---- */

static int bare_trips(struct bench *bench, const struct exchange *exchange, enum bare_kind kind,
                      struct result *result) {
  enum { SLOTS = 8, TOUCHED_TRIPS = 256 };
  static struct repeated trips; /* large */
  uint64_t count = exchange->is_touched ? TOUCHED_TRIPS : kind == BARE_LINES ? TRIPS_MAX : SLEPT_TRIPS_MAX;
  if (bench->settings.is_quick) count = LEAST;
  const struct schedule schedule = {.warm_up = 2 * SLOTS, .count = count, .stamp_ns = bench->stamp_ns};
  repeated_clear(&trips);
  int code = bare_round_trips(bench, kind, exchange->is_touched ? exchange->size : 0, SLOTS, &schedule, &trips);
  if (code == EXIT_OK) add_trips(result, &trips.all);
  return code;
}

/* A ring of lines for the stream; a line written and a compare-and-swap for publishing. */
static int bare_messages(struct bench *bench, bool is_stream, struct result *result) {
  enum { SLOTS = 1024 };
  double ns = 0;
  uint64_t count = bench->settings.is_quick ? STREAM_MAX / QUICK_PART : STREAM_MAX;
  int code = (is_stream ? bare_stream : bare_log_write)(bench, 0, SLOTS, count, &ns);
  if (code != EXIT_OK) return code;
  if (is_stream) result->sent += count;
  result->values[result->repetitions++] = is_stream ? 1e9 / ns : ns;
  return code;
}

int exchange_repeat_bare(struct bench *bench, const struct exchange *exchange, bool by_socket, struct result *result) {
  bool is_trip = exchange->kind == EXCHANGE_TRIPS;
  if (is_complete(bench, result) || (by_socket && !exchange->blocks)) return EXIT_OK;
  enum bare_kind kind = by_socket ? BARE_SOCKET : exchange->blocks ? BARE_EVENTFD : BARE_LINES;
  int code = is_trip ? bare_trips(bench, exchange, kind, result)
                     : bare_messages(bench, exchange->kind == EXCHANGE_STREAM, result);
  result->measured = code == EXIT_OK ? MEASURED_YES : MEASURED_FAILED;
  return code;
}

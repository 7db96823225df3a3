/* One process wakes, others sleep.  A message is sent when the kernel says that all of them sleep, and the next one not
 * before all have told that they have it; in between nobody is timed.  Thread: main, of each process. */
#include "waking.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli.h"
#include "crew.h"
#include "histogram.h"
#include "plot.h"
#include "report.h"
#include "traffic.h"

enum { USUAL_COUNT = 2000, LEAST_COUNT = 10, WARM_UP = 10, USUAL_SIZE = 64, USUAL_SLOTS = 1024 };

struct dormitory {
  struct barrier barrier;
  struct traffic traffic;
  enum waking_by by;
  unsigned sleepers;
  uint64_t size, count, wakes;
  int64_t stamp_ns;
  int fds[SLEEPERS_MAX]; /* WAKING_EVENTFD */
  pid_t pids[SLEEPERS_MAX];
  /* What follows is written while others run, and lies apart from what they read, and by whom. */
  _Alignas(APART) _Atomic uint32_t bell; /* WAKING_FUTEX; the waker's */
  _Alignas(APART) _Atomic uint32_t awake, round;
  struct {
    _Alignas(APART) int64_t at; /* when it ran again */
  } arrived[SLEEPERS_MAX];
  _Alignas(APART) struct histogram call, delivered; /* the waker's */
};

static const char *waking_name(enum waking_by by) {
  static const char *const names[] = {"wait", "fd", "bare eventfd for each", "bare futex for all"};
  return names[by];
}

static bool is_bare(enum waking_by by) {
  return by == WAKING_EVENTFD || by == WAKING_FUTEX;
}

/* ---- those who sleep ---- */

struct sleeper {
  slc_subscriber *subscriber;
  int fd;        /* to be polled, or read */
  uint32_t bell; /* as it was last seen */
};

static void poll_until_readable(int fd) {
  struct pollfd entry = {.fd = fd, .events = POLLIN};
  while (poll(&entry, 1, -1) < 0) {
    if (errno != EINTR) worker_fail("cannot poll");
  }
}

static void sleep_once(struct dormitory *dormitory, struct sleeper *sleeper) {
  slc_message message;
  eventfd_t value;
  switch (dormitory->by) {
  case WAKING_FD:
    poll_until_readable(sleeper->fd);
    traffic_receive(sleeper->subscriber, &message, 1);
    traffic_release(sleeper->subscriber, &message, 1);
    break;
  case WAKING_WAIT:
    traffic_receive(sleeper->subscriber, &message, 1);
    traffic_release(sleeper->subscriber, &message, 1);
    break;
  case WAKING_EVENTFD:
    if (eventfd_read(sleeper->fd, &value) != 0) worker_fail("cannot read an eventfd");
    break;
  case WAKING_FUTEX:
    word_wait(&dormitory->bell, sleeper->bell++);
    break;
  }
}

static void sleeper_enter(struct dormitory *dormitory, unsigned number, struct sleeper *sleeper) {
  *sleeper = (struct sleeper){.fd = dormitory->fds[number]};
  if (is_bare(dormitory->by)) return;
  sleeper->subscriber = traffic_subscriber(traffic_connect(&dormitory->traffic), &dormitory->traffic);
  if (dormitory->by == WAKING_FD)
    worker_check("cannot have a descriptor", slc_subscriber_fd(sleeper->subscriber, &sleeper->fd));
}

static void sleeper_run(void *shared, unsigned number) {
  struct dormitory *dormitory = shared;
  struct sleeper sleeper;
  dormitory->pids[number] = getpid();
  barrier_wait(&dormitory->barrier); /* the channel has its shape */
  sleeper_enter(dormitory, number, &sleeper);
  barrier_wait(&dormitory->barrier);
  for (uint64_t i = 0; i < WARM_UP + dormitory->count; i++) {
    sleep_once(dormitory, &sleeper);
    dormitory->arrived[number].at = now_ns();
    if (atomic_fetch_add_explicit(&dormitory->awake, 1, memory_order_acq_rel) + 1 < dormitory->sleepers) continue;
    atomic_store_explicit(&dormitory->awake, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&dormitory->round, 1, memory_order_release);
    word_wake(&dormitory->round);
  }
  barrier_wait(&dormitory->barrier);
}

/* ---- the one who wakes ---- */

struct waker {
  slc_publisher *publisher;
  int states[SLEEPERS_MAX]; /* the kernel's account of each sleeper */
};

static void waker_enter(struct dormitory *dormitory, struct waker *waker) {
  if (!is_bare(dormitory->by))
    waker->publisher = traffic_publisher(traffic_connect(&dormitory->traffic), &dormitory->traffic);
  barrier_wait(&dormitory->barrier);
  for (unsigned i = 0; i < dormitory->sleepers; i++) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)dormitory->pids[i]);
    waker->states[i] = open(path, O_RDONLY | O_CLOEXEC);
    if (waker->states[i] < 0) worker_fail("cannot see whether a process sleeps");
  }
  barrier_wait(&dormitory->barrier);
}

/* "PID (name) S ..": the state comes after the last parenthesis. */
static bool is_asleep(int state) {
  char text[128];
  ssize_t size = pread(state, text, sizeof text - 1, 0);
  if (size <= 0) worker_fail("cannot see whether a process sleeps");
  text[size] = '\0';
  const char *end = strrchr(text, ')');
  return end != NULL && end[1] == ' ' && end[2] == 'S';
}

static void wait_until_all_sleep(const struct waker *waker, unsigned sleepers) {
  for (unsigned i = 0; i < sleepers; i++) {
    while (!is_asleep(waker->states[i])) sched_yield();
  }
}

static void wake(struct dormitory *dormitory, const struct waker *waker, uint64_t number) {
  switch (dormitory->by) {
  case WAKING_EVENTFD:
    for (unsigned i = 0; i < dormitory->sleepers; i++) {
      if (eventfd_write(dormitory->fds[i], 1) != 0) worker_fail("cannot write an eventfd");
    }
    break;
  case WAKING_FUTEX:
    atomic_fetch_add_explicit(&dormitory->bell, 1, memory_order_release);
    word_wake(&dormitory->bell);
    break;
  default:
    traffic_send(waker->publisher, dormitory->size, number, false);
    break;
  }
}

static int64_t last_arrival(const struct dormitory *dormitory) {
  int64_t last = 0;
  for (unsigned i = 0; i < dormitory->sleepers; i++) {
    if (dormitory->arrived[i].at > last) last = dormitory->arrived[i].at;
  }
  return last;
}

static void waker_run(void *shared, unsigned which) {
  struct dormitory *dormitory = shared;
  struct waker waker = {.publisher = NULL};
  slc_publisher_stats stats = {.size = sizeof stats};
  (void)which;
  waker_enter(dormitory, &waker);
  for (uint64_t i = 0; i < WARM_UP + dormitory->count; i++) {
    uint32_t round = atomic_load_explicit(&dormitory->round, memory_order_acquire);
    wait_until_all_sleep(&waker, dormitory->sleepers);
    int64_t before = now_ns();
    wake(dormitory, &waker, i + 1);
    int64_t after = now_ns();
    word_wait(&dormitory->round, round);
    if (i < WARM_UP) continue;
    histogram_record(&dormitory->call, after - before - dormitory->stamp_ns);
    histogram_record(&dormitory->delivered, last_arrival(dormitory) - before - dormitory->stamp_ns);
  }
  if (waker.publisher != NULL) {
    worker_check("cannot count the wakes", slc_publisher_stats_get(waker.publisher, &stats));
    dormitory->wakes = stats.wakes;
  }
  barrier_wait(&dormitory->barrier);
}

/* ---- one repetition ---- */

struct waking {
  struct repeated call;      /* the call that wakes */
  struct repeated delivered; /* from before it until the last sleeper runs */
  uint64_t messages, wakes;  /* of all repetitions; wakes: system calls that Slotcast made for that */
};

static int open_eventfds(struct dormitory *dormitory) {
  for (unsigned i = 0; i < dormitory->sleepers; i++) dormitory->fds[i] = -1;
  if (dormitory->by != WAKING_EVENTFD) return EXIT_OK;
  for (unsigned i = 0; i < dormitory->sleepers; i++) {
    dormitory->fds[i] = eventfd(0, EFD_CLOEXEC);
    if (dormitory->fds[i] < 0) return fail(EXIT_FAILED, "cannot make an eventfd: %s", strerror(errno));
  }
  return EXIT_OK;
}
static void close_eventfds(const struct dormitory *dormitory) {
  for (unsigned i = 0; i < dormitory->sleepers; i++) {
    if (dormitory->fds[i] >= 0) close(dormitory->fds[i]);
  }
}

static int repeat_once(struct bench *bench, enum waking_by by, unsigned sleepers, uint64_t size, uint64_t count,
                       struct waking *into) {
  /* Sleepers that are more than there are processors run where the kernel wants; who wakes has one for itself. */
  const struct role roles[] = {{waker_run, 1, true}, {sleeper_run, sleepers, crew_is_pinned(bench, 1 + sleepers)}};
  struct dormitory *dormitory = shared_new(sizeof *dormitory);
  if (dormitory == NULL) return EXIT_FAILED;
  dormitory->traffic = (struct traffic){.slots = USUAL_SLOTS, .slot_size = size, .waiting = WAIT_BLOCKING, .holds = 1};
  dormitory->barrier.parties = 1 + sleepers;
  dormitory->by = by;
  dormitory->sleepers = sleepers;
  dormitory->size = size;
  dormitory->count = count;
  dormitory->stamp_ns = bench->stamp_ns;
  traffic_name(bench, "waking", &dormitory->traffic);
  int code = open_eventfds(dormitory);
  if (code == EXIT_OK) code = crew_run(bench, roles, 2, dormitory);
  if (code == EXIT_OK) {
    repeated_add(&into->call, &dormitory->call);
    repeated_add(&into->delivered, &dormitory->delivered);
    into->messages += WARM_UP + count;
    into->wakes += dormitory->wakes;
  }
  close_eventfds(dormitory);
  shared_free(dormitory, sizeof *dormitory);
  return code;
}

static void clear(struct waking *waking) {
  repeated_clear(&waking->call);
  repeated_clear(&waking->delivered);
  waking->messages = waking->wakes = 0;
}

/* ---- cases ---- */

static json_t *case_to_json(const struct waking *ours, const struct waking *bare, enum waking_by by,
                            enum waking_by limit, unsigned sleepers, uint64_t size) {
  double call = repeated_p50(&bare->call), delivered = repeated_p50(&bare->delivered);
  return json_pack("{s:I, s:i, s:s, s:o, s:o, s:f, s:s, s:o, s:o, s:f, s:f}", "size", (json_int_t)size, "subscribers",
                   (int)sleepers, "by", waking_name(by), "publish_ns", repeated_to_json(&ours->call), "delivered_ns",
                   repeated_to_json(&ours->delivered), "wakes_per_message",
                   (double)ours->wakes / (double)ours->messages, "limit", waking_name(limit), "limit_call_ns",
                   repeated_to_json(&bare->call), "limit_ns", repeated_to_json(&bare->delivered), "ratio_publish_p50",
                   call > 0 ? repeated_p50(&ours->call) / call : 0, "ratio_p50",
                   delivered > 0 ? repeated_p50(&ours->delivered) / delivered : 0);
}

static void plot_case(struct bench *bench, const struct waking *ours, const struct waking *bare, enum waking_by limit,
                      unsigned sleepers, bool is_only) {
  static const struct plot_kind distribution = {.title = "Waking: until the last one runs, distribution",
                                                .x_label = "so many of all messages take no longer",
                                                .y_label = "from the call on",
                                                .axis = PLOT_QUANTILES,
                                                .y_unit = PLOT_NS},
                                by_sleepers = {"Waking: median by subscribers",
                                               "subscribers",
                                               "from the call on",
                                               PLOT_STEPS,
                                               PLOT_COUNT,
                                               PLOT_NS};
  char line[64];
  snprintf(line, sizeof line, "%u subscriber%s", sleepers, sleepers == 1 ? "" : "s");
  plot_panel(bench->plot, &distribution);
  plot_distribution(bench->plot, line, &ours->delivered.all);
  if (is_only) {
    plot_distribution(bench->plot, waking_name(limit), &bare->delivered.all);
    plot_limit(bench->plot, waking_name(limit));
  }
  plot_panel(bench->plot, &by_sleepers);
  plot_point(bench->plot, "until the last one runs", sleepers, repeated_p50(&ours->delivered));
  plot_point(bench->plot, waking_name(limit), sleepers, repeated_p50(&bare->delivered));
  plot_limit(bench->plot, waking_name(limit));
  plot_point(bench->plot, "publish returns", sleepers, repeated_p50(&ours->call));
  plot_point(bench->plot, "bare call returns", sleepers, repeated_p50(&bare->call));
  plot_limit(bench->plot, "bare call returns");
}

static int measure_case(struct bench *bench, const char *name, enum waking_by limit, unsigned sleepers, uint64_t size,
                        bool is_only) {
  static struct waking ours, bare; /* large */
  enum waking_by by = bench->settings.by_descriptor ? WAKING_FD : WAKING_WAIT;
  uint64_t count = bench_count(bench, USUAL_COUNT, LEAST_COUNT);
  clear(&ours);
  clear(&bare);
  int code = EXIT_OK;
  for (uint64_t i = 0; i < bench->settings.repetitions && code == EXIT_OK; i++) {
    code = repeat_once(bench, limit, sleepers, size, count, &bare);
    if (code == EXIT_OK) code = repeat_once(bench, by, sleepers, size, count, &ours);
  }
  if (code != EXIT_OK) return code;
  plot_case(bench, &ours, &bare, limit, sleepers, is_only);
  return report_add(bench, name, 1 + sleepers, count, case_to_json(&ours, &bare, by, limit, sleepers, size));
}

int waking_measure(struct bench *bench, const char *name, const char *title, enum waking_by limit,
                   const struct list *sleepers) {
  static const struct column columns[] = {{"SIZE", "size", FORMAT_BYTES},
                                          {"SUBSCRIBERS", "subscribers", FORMAT_COUNT},
                                          {"PUBLISH ns", "publish_ns.p50", FORMAT_NS},
                                          {"BARE CALL", "limit_call_ns.p50", FORMAT_NS},
                                          {"RATIO", "ratio_publish_p50", FORMAT_RATIO},
                                          {"ARRIVED P50", "delivered_ns.p50", FORMAT_NS},
                                          {"P99 ns", "delivered_ns.p99", FORMAT_NS},
                                          {"LIMIT P50", "limit_ns.p50", FORMAT_NS},
                                          {"RATIO", "ratio_p50", FORMAT_RATIO},
                                          {"WAKES/MSG", "wakes_per_message", FORMAT_NS},
                                          {NULL, NULL, FORMAT_TEXT}};
  static const uint64_t usual_size[] = {USUAL_SIZE};
  struct list sizes = bench_list(&bench->settings.sizes, 1, usual_size);
  report_begin(bench, title, columns);
  int code = EXIT_OK;
  for (size_t i = 0; i < sleepers->count; i++) {
    for (size_t k = 0; k < sizes.count && code == EXIT_OK; k++)
      code = measure_case(bench, name, limit, (unsigned)sleepers->values[i], sizes.values[k],
                          sleepers->count * sizes.count == 1);
  }
  return code;
}

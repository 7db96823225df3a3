/* slotcast bench touch: what it costs to write and to read memory for the first time, by backend, pages and prefault,
 * beside the same a second time.  Each repetition has a process and a channel of its own, or the memory would be there.
 * Thread: main, of each process. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "crew.h"
#include "histogram.h"
#include "json.h"
#include "measure.h"
#include "report.h"
#include "traffic.h"

#define HUGE (UINT64_C(2) << 20)
enum { USUAL_SIZE = 1 << 20, USUAL_SLOTS = 256, LEAST_SLOTS = 16, ROUNDS = 2, TEXT_MAX = 512 };

struct kind {
  int backend;
  uint64_t pages;
  bool prefault;
};

/* Medians of these are shown; ns, of one message but for the opening. */
enum figure { OPEN, WRITE_FIRST, WRITE_AGAIN, READ_FIRST, READ_AGAIN, FIGURES };

struct touch {
  struct traffic traffic;
  struct kind kind;
  size_t size;
  uint64_t count; /* messages measured: fewer than there are slots, so that each has one that nobody has used */
  double ns[FIGURES];
  bool is_lacking; /* the system does not have such memory */
  char why[TEXT_MAX];
};

/* ---- one process ---- */

static double write_all(slc_publisher *publisher, const struct touch *touch, uint64_t count) {
  int64_t before = now_ns();
  for (uint64_t i = 1; i <= count; i++) traffic_send(publisher, touch->size, i, true);
  return (double)(now_ns() - before) / (double)count;
}

static double read_all(slc_subscriber *subscriber, const struct touch *touch) {
  int64_t before = now_ns();
  for (uint64_t i = 1; i <= touch->count; i++) {
    slc_message message;
    worker_check("cannot find a message", slc_subscriber_find(subscriber, i, 0, &message));
    payload_read(message.data, message.size, true);
    traffic_release(subscriber, &message, 1);
  }
  return (double)(now_ns() - before) / (double)touch->count;
}

/* NULL: the system does not have such memory. */
static slc_publisher *open_publisher(slc_client *client, struct touch *touch) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher *publisher = NULL;
  options.slots = touch->traffic.slots;
  options.slot_size = touch->size;
  options.backend = touch->kind.backend;
  options.pages = touch->kind.pages;
  options.prefault = touch->kind.prefault;
  int status = slc_publisher_open(client, touch->traffic.channel, &options, &publisher);
  touch->is_lacking = status == SLC_NO_MEMORY;
  if (!touch->is_lacking) worker_check("cannot publish", status);
  if (touch->is_lacking) snprintf(touch->why, sizeof touch->why, "%s", slc_error_detail());
  return publisher;
}

static void work(void *shared, unsigned number) {
  struct touch *touch = shared;
  slc_client *client = traffic_connect(&touch->traffic);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *subscriber;
  (void)number;
  int64_t before = now_ns();
  slc_publisher *publisher = open_publisher(client, touch);
  touch->ns[OPEN] = (double)(now_ns() - before);
  if (publisher == NULL) return;
  options.prefault = touch->kind.prefault;
  worker_check("cannot subscribe", slc_subscriber_open(client, touch->traffic.channel, &options, &subscriber));
  touch->ns[WRITE_FIRST] = write_all(publisher, touch, touch->count);
  touch->ns[READ_FIRST] = read_all(subscriber, touch);
  touch->ns[READ_AGAIN] = read_all(subscriber, touch);
  write_all(publisher, touch, ROUNDS * (uint64_t)touch->traffic.slots); /* every slot has been used then */
  touch->ns[WRITE_AGAIN] = write_all(publisher, touch, touch->count);
}

/* ---- one kind ---- */

static const char *const names[FIGURES] = {"open_ns", "write_first_ns", "write_again_ns", "read_first_ns",
                                           "read_again_ns"};

static int report_case(struct bench *bench, const struct touch *touch, double ns[FIGURES][REPETITIONS_MAX]) {
  char pages[32];
  double medians[FIGURES];
  for (int i = 0; i < FIGURES; i++) medians[i] = median(ns[i], bench->settings.repetitions);
  json_t *result = json_pack("{s:I, s:I, s:s, s:s, s:b, s:s, s:f, s:f}", "size", (json_int_t)touch->size, "slots",
                             (json_int_t)touch->traffic.slots, "backend", backend_text(touch->kind.backend), "pages",
                             pages_text(touch->kind.pages, pages), "prefault", touch->kind.prefault, "limit",
                             "the same again", "ratio_write", medians[WRITE_FIRST] / medians[WRITE_AGAIN], "ratio_read",
                             medians[READ_FIRST] / medians[READ_AGAIN]);
  for (int i = 0; i < FIGURES; i++) {
    json_t *figure = json_pack("{s:f}", names[i], medians[i]);
    result = json_joined(result, figure);
  }
  return report_add(bench, "touch", 1, touch->count, result);
}

static int measure_kind(struct bench *bench, struct touch *touch, const struct kind *kind) {
  static double ns[FIGURES][REPETITIONS_MAX];
  const struct role roles[] = {{work, 1, true}};
  char pages[32];
  touch->kind = *kind;
  for (uint64_t i = 0; i < bench->settings.repetitions; i++) {
    traffic_name(bench, "touch", &touch->traffic);
    int code = crew_run(bench, roles, 1, touch);
    if (code != EXIT_OK) return code;
    for (int figure = 0; figure < FIGURES; figure++) ns[figure][i] = touch->ns[figure];
    if (!touch->is_lacking) continue;
    fprintf(stderr, "%s, %s: %s\n", backend_text(kind->backend), pages_text(kind->pages, pages), touch->why);
    return EXIT_OK;
  }
  return report_case(bench, touch, ns);
}

static const struct column columns[] = {{"BACKEND", "backend", FORMAT_TEXT},
                                        {"PAGES", "pages", FORMAT_TEXT},
                                        {"PREFAULT", "prefault", FORMAT_TEXT},
                                        {"OPEN ns", "open_ns", FORMAT_NS},
                                        {"WRITE FIRST", "write_first_ns", FORMAT_NS},
                                        {"AGAIN", "write_again_ns", FORMAT_NS},
                                        {"RATIO", "ratio_write", FORMAT_RATIO},
                                        {"READ FIRST", "read_first_ns", FORMAT_NS},
                                        {"AGAIN", "read_again_ns", FORMAT_NS},
                                        {"RATIO", "ratio_read", FORMAT_RATIO},
                                        {NULL, NULL, FORMAT_TEXT}};

static int measure_all(struct bench *bench, struct touch *touch) {
  static const int backends[] = {SLC_BACKEND_MEMFD, SLC_BACKEND_SHM};
  static const uint64_t pages[] = {SLC_PAGES_SMALL, SLC_PAGES_TRANSPARENT, HUGE};
  int code = EXIT_OK;
  for (int i = 0; i < 2 * 3 * 2 && code == EXIT_OK; i++) {
    struct kind kind = {.backend = backends[i / 6], .pages = pages[i / 2 % 3], .prefault = i % 2 == 1};
    code = measure_kind(bench, touch, &kind);
  }
  return code;
}

int bench_touch(struct bench *bench) {
  const struct settings *settings = &bench->settings;
  uint64_t slots = settings->slots.count > 0 ? settings->slots.values[0] : bench_count(bench, USUAL_SLOTS, LEAST_SLOTS);
  uint64_t size = settings->sizes.count > 0 ? settings->sizes.values[0] : USUAL_SIZE;
  struct touch *touch = shared_new(sizeof *touch);
  char title[160], bytes[32];
  if (touch == NULL) return EXIT_FAILED;
  touch->traffic.slots = (uint32_t)slots;
  touch->size = size;
  touch->count = slots / 2;
  snprintf(title, sizeof title, "First touch of %llu messages of %s, beside the second, ns each",
           (unsigned long long)touch->count, human_bytes((double)size, bytes));
  report_begin(bench, title, columns);
  int code = measure_all(bench, touch);
  shared_free(touch, sizeof *touch);
  return code;
}

/* The JSON objects are the results; the table is a view of them.  Thread: main. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "crew.h"
#include "json.h"
#include "limits.h"

struct report *report_new(bool is_json) {
  struct report *report = calloc(1, sizeof *report);
  if (report == NULL) return NULL;
  report->is_json = is_json;
  report->cases = json_array();
  if (report->cases != NULL) return report;
  free(report);
  return NULL;
}
void report_free(struct report *report) {
  if (report == NULL) return;
  json_decref(report->cases);
  free(report);
}

/* ---- the table ---- */

enum { COLUMN_LEAST = 9 };

const json_t *report_field(const json_t *result, const char *path) {
  const char *dot = strchr(path, '.');
  if (dot == NULL) return json_object_get(result, path);
  char outer[32];
  snprintf(outer, sizeof outer, "%.*s", (int)(dot - path), path);
  return json_object_get(json_object_get(result, outer), dot + 1);
}

static void format_number(double number, enum format format, char text[32]) {
  switch (format) {
  case FORMAT_BYTES:
    human_bytes(number, text);
    break;
  case FORMAT_NS:
    snprintf(text, 32, number < 100 ? "%.1f" : "%.0f", number);
    break;
  case FORMAT_US:
    snprintf(text, 32, "%.1f", number / 1e3);
    break;
  case FORMAT_MS:
    snprintf(text, 32, "%.2f", number / 1e6);
    break;
  case FORMAT_RATE:
    snprintf(text, 32, number < 1e6 ? "%.0f" : "%.2f M", number < 1e6 ? number : number / 1e6);
    break;
  case FORMAT_PART:
    snprintf(text, 32, "%.1f %%", number * 100);
    break;
  case FORMAT_RATIO:
    snprintf(text, 32, "%.2f x", number);
    break;
  default:
    snprintf(text, 32, "%.0f", number);
    break;
  }
}

const char *report_cell(const json_t *value, enum format format, char text[32]) {
  snprintf(text, 32, "-");
  if (json_is_string(value)) snprintf(text, 32, "%s", json_string_value(value));
  if (json_is_boolean(value)) snprintf(text, 32, "%s", json_is_true(value) ? "yes" : "no");
  if (json_is_number(value)) format_number(json_number_value(value), format, text);
  return text;
}

static int width_of(const char *title) {
  int length = (int)strlen(title);
  return length > COLUMN_LEAST ? length : COLUMN_LEAST;
}

const char *report_cores(const json_t *result, char text[32]) {
  char pair[32];
  if (json_is_true(report_field(result, "pinned")))
    snprintf(text, 32, "%.12s, %.12s", json_string_value(report_field(result, "cores")),
             report_cell(report_field(result, "pair_ns"), FORMAT_NS, pair));
  else
    snprintf(text, 32, "not pinned");
  return text;
}

static void print_row(struct report *report, const json_t *result) {
  char text[32];
  if (!report->has_head) {
    for (const struct column *column = report->columns; column->title != NULL; column++)
      printf(" %*s", width_of(column->title), column->title);
    puts("  CORES, ns");
    report->has_head = true;
  }
  for (const struct column *column = report->columns; column->title != NULL; column++)
    printf(" %*s", width_of(column->title), report_cell(report_field(result, column->path), column->format, text));
  printf("  %s\n", report_cores(result, text));
  fflush(stdout); /* the next case takes a while */
}

void report_begin(struct bench *bench, const char *title, const struct column *columns) {
  struct report *report = bench->report;
  report->columns = columns;
  report->has_head = false;
  if (report->is_json || report->is_silent) return;
  printf("%s\n", title);
  report_conditions(bench);
}

void report_conditions(const struct bench *bench) {
  const struct settings *settings = &bench->settings;
  printf(
      "(medians of %u repetitions; broker: %s; reading the clock, %lld ns, is subtracted; CORES: how near, and a bare "
      "pair of lines to and fro)\n",
      (unsigned)settings->repetitions, settings->socket != NULL ? settings->socket : settings->backend,
      (long long)bench->stamp_ns);
}

/* ---- the objects ---- */

static json_t *common_to_json(const struct bench *bench, const char *name, unsigned busy, uint64_t count, double pair) {
  const struct settings *settings = &bench->settings;
  return json_pack("{s:s, s:s?, s:i, s:b, s:s, s:o, s:I, s:I, s:I}", "bench", name, "backend",
                   settings->socket != NULL ? NULL : settings->backend, "processors", bench->processor_count, "pinned",
                   crew_is_pinned(bench, busy), "cores", pair_name(pair), "pair_ns",
                   pair > 0 ? json_real(pair) : json_null(), "repetitions", (json_int_t)settings->repetitions, "count",
                   (json_int_t)count, "stamp_ns", (json_int_t)bench->stamp_ns);
}

int report_add(struct bench *bench, const char *name, unsigned busy, uint64_t count, json_t *result) {
  struct report *report = bench->report;
  double pair;
  int code = bare_pair(bench, &pair);
  if (code != EXIT_OK) {
    json_decref(result);
    return code;
  }
  json_t *whole = json_joined(common_to_json(bench, name, busy, count, pair), result);
  if (whole == NULL || json_array_append_new(report->cases, whole) != 0)
    return fail(EXIT_FAILED, "there is no memory for the report");
  if (!report->is_json && !report->is_silent) print_row(report, whole);
  return EXIT_OK;
}

const char *report_caption(const struct bench *bench, char text[REPORT_CAPTION_MAX]) {
  const json_t *last = json_array_get(bench->report->cases, json_array_size(bench->report->cases) - 1);
  const char *name = json_string_value(report_field(last, "bench")),
             *cores = json_string_value(report_field(last, "cores"));
  char pair[32];
  snprintf(
      text, REPORT_CAPTION_MAX,
      "slotcast bench %s: medians of %u repetitions; %d processors, %s: a bare pair of cache lines to and fro takes "
      "%s ns",
      name != NULL ? name : "", (unsigned)bench->settings.repetitions, bench->processor_count,
      cores != NULL ? cores : "", report_cell(report_field(last, "pair_ns"), FORMAT_NS, pair));
  return text;
}

int report_end(const struct report *report) {
  if (!report->is_json) return EXIT_OK;
  json_t *only = json_array_get(report->cases, 0);
  return print_json(json_incref(json_array_size(report->cases) == 1 ? only : report->cases));
}

double repeated_p50(const struct repeated *repeated) {
  return median(repeated->p50, repeated->repetitions);
}

json_t *repeated_to_json(const struct repeated *repeated) {
  return json_pack("{s:f, s:f, s:f, s:I, s:I}", "p50", repeated_p50(repeated), "p99",
                   median(repeated->p99, repeated->repetitions), "p999", median(repeated->p999, repeated->repetitions),
                   "min", (json_int_t)repeated->all.min, "max", (json_int_t)repeated->all.max);
}

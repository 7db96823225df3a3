/* The JSON objects are the results; the table is a view of them.  Thread: main. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "crew.h"
#include "json.h"

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

enum { COLUMN_WIDTH = 11 };

/* A field of an object in the object is named "outer.inner". */
static const json_t *field(const json_t *result, const char *path) {
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
  case FORMAT_RATIO:
    snprintf(text, 32, "%.2f x", number);
    break;
  default:
    snprintf(text, 32, "%.0f", number);
    break;
  }
}

static void print_cell(const json_t *value, enum format format) {
  char text[32] = "-";
  if (json_is_string(value)) snprintf(text, sizeof text, "%s", json_string_value(value));
  if (json_is_boolean(value)) snprintf(text, sizeof text, "%s", json_is_true(value) ? "yes" : "no");
  if (json_is_number(value)) format_number(json_number_value(value), format, text);
  printf(" %*s", COLUMN_WIDTH, text);
}

static void print_row(struct report *report, const json_t *result) {
  if (!report->has_head) {
    for (const struct column *column = report->columns; column->title != NULL; column++)
      printf(" %*s", COLUMN_WIDTH, column->title);
    printf(" %*s\n", COLUMN_WIDTH, "PINNED");
    report->has_head = true;
  }
  for (const struct column *column = report->columns; column->title != NULL; column++)
    print_cell(field(result, column->path), column->format);
  print_cell(field(result, "pinned"), FORMAT_TEXT);
  putchar('\n');
  fflush(stdout); /* the next case takes a while */
}

void report_begin(struct bench *bench, const char *title, const struct column *columns) {
  struct report *report = bench->report;
  report->columns = columns;
  report->has_head = false;
  if (report->is_json) return;
  const struct settings *settings = &bench->settings;
  printf("%s; medians of %u repetitions, broker: %s; reading the clock, %lld ns, is subtracted\n", title,
         (unsigned)settings->repetitions, settings->socket != NULL ? settings->socket : settings->backend,
         (long long)bench->stamp_ns);
}

/* ---- the objects ---- */

static json_t *common_to_json(const struct bench *bench, const char *name, unsigned busy, uint64_t count) {
  const struct settings *settings = &bench->settings;
  return json_pack("{s:s, s:s?, s:i, s:b, s:I, s:I, s:I}", "bench", name, "backend",
                   settings->socket != NULL ? NULL : settings->backend, "processors", bench->processor_count, "pinned",
                   crew_is_pinned(bench, busy), "repetitions", (json_int_t)settings->repetitions, "count",
                   (json_int_t)count, "stamp_ns", (json_int_t)bench->stamp_ns);
}

int report_add(struct bench *bench, const char *name, unsigned busy, uint64_t count, json_t *result) {
  struct report *report = bench->report;
  json_t *whole = json_joined(common_to_json(bench, name, busy, count), result);
  if (whole == NULL || json_array_append_new(report->cases, whole) != 0)
    return fail(EXIT_FAILED, "there is no memory for the report");
  if (!report->is_json) print_row(report, whole);
  return EXIT_OK;
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

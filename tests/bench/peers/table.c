/* The table and the JSON object.  Thread: main. */
#include "table.h"

#include <jansson.h>
#include <stdio.h>

#include "cli.h"

enum { NAME_WIDTH = 27, CELL_WIDTH = 10, LOST_WIDTH = 7 };

/* 0: it was not measured. */
static double value_of(const struct result *result) {
  return result->measured == MEASURED_YES ? median(result->values, result->repetitions) : 0;
}

/* How many times as dear; 0: cannot be said. */
static double ratio_of(const struct table *table, const struct row *row, int which) {
  double theirs = value_of(&row->results[which]), own = value_of(&table->rows[0].results[which]);
  if (theirs <= 0 || own <= 0) return 0;
  return exchanges[which].kind == EXCHANGE_STREAM ? own / theirs : theirs / own;
}

static double lost_of(const struct result *result) {
  return result->sent > 0 ? (double)result->lost / (double)result->sent : 0;
}

static void print_value(const struct result *result, enum exchange_kind kind) {
  char text[32] = "-";
  if (result->measured == MEASURED_FAILED) snprintf(text, sizeof text, "failed");
  if (result->measured == MEASURED_YES && kind == EXCHANGE_STREAM) {
    snprintf(text, sizeof text, "%.2f M", value_of(result) / 1e6);
  } else if (result->measured == MEASURED_YES) {
    snprintf(text, sizeof text, value_of(result) < 100 ? "%.1f" : "%.0f", value_of(result));
  }
  printf(" %*s", CELL_WIDTH, text);
}
static void print_ratio(double ratio) {
  char text[32] = "";
  if (ratio > 0) snprintf(text, sizeof text, ratio < 10 ? "%.2f x" : "%.0f x", ratio);
  printf(" %*s", CELL_WIDTH, text);
}
static void print_lost(const struct result *result) {
  char text[32] = "-";
  if (result->measured == MEASURED_YES) snprintf(text, sizeof text, "%.3g %%", 100 * lost_of(result));
  printf(" %*s", LOST_WIDTH, text);
}

static void print_row(const struct table *table, const struct row *row) {
  char name[64];
  snprintf(name, sizeof name, "%s %s%s", row->title, row->kind == ROW_PEER ? row->peer->version : "",
           row->kind == ROW_PEER && row->peer->has_threads ? " *" : "");
  printf("%-*s", NAME_WIDTH, name);
  if (row->kind == ROW_ABSENT) {
    puts(" not installed");
    return;
  }
  for (int i = 0; i < EXCHANGES; i++) {
    print_value(&row->results[i], exchanges[i].kind);
    if (exchanges[i].kind == EXCHANGE_STREAM) print_lost(&row->results[i]);
  }
  putchar('\n');
  if (row == table->rows) return;
  printf("%-*s", NAME_WIDTH, "");
  for (int i = 0; i < EXCHANGES; i++) {
    print_ratio(ratio_of(table, row, i));
    if (exchanges[i].kind == EXCHANGE_STREAM) printf(" %*s", LOST_WIDTH, "");
  }
  putchar('\n');
}

void table_print(const struct table *table, const struct bench *bench) {
  const struct settings *settings = &bench->settings;
  printf("Medians of %u repetitions, two processes pinned to a processor each; reading the clock, %lld ns, is "
         "subtracted.\n"
         "Round trips in ns: by polling where the peer can, of untouched payloads or (w+r) written and read, and of\n"
         "processes that sleep. A stream of 64 bytes from one to one; ns to publish 64 bytes beside so many idle\n"
         "subscribers (*: they take what comes). Below each figure, how many times as dear as with Slotcast.\n\n",
         (unsigned)settings->repetitions, (long long)bench->stamp_ns);
  printf("%-*s", NAME_WIDTH, "");
  for (int i = 0; i < EXCHANGES; i++) {
    printf(" %*s", CELL_WIDTH, exchanges[i].title);
    if (exchanges[i].kind == EXCHANGE_STREAM) printf(" %*s", LOST_WIDTH, "lost");
  }
  putchar('\n');
  for (size_t i = 0; i < table->count; i++) print_row(table, &table->rows[i]);
}

/* ---- JSON ---- */

static json_t *result_to_json(const struct result *result, enum exchange_kind kind, double ratio) {
  if (result->measured == MEASURED_NOT) return json_null();
  if (result->measured == MEASURED_FAILED) return json_pack("{s:b}", "failed", true);
  switch (kind) {
  case EXCHANGE_TRIPS:
    return json_pack("{s:f, s:f, s:f, s:f}", "p50", value_of(result), "p99", median(result->p99, result->repetitions),
                     "p999", median(result->p999, result->repetitions), "ratio", ratio);
  case EXCHANGE_STREAM:
    return json_pack("{s:f, s:I, s:I, s:f}", "received_per_s", value_of(result), "sent", (json_int_t)result->sent,
                     "lost", (json_int_t)result->lost, "ratio", ratio);
  default:
    return json_pack("{s:f, s:f}", "ns_per_message", value_of(result), "ratio", ratio);
  }
}

static json_t *row_to_json(const struct table *table, const struct row *row) {
  json_t *object = json_pack("{s:s, s:s?, s:b, s:b}", "name", row->title, "version",
                             row->kind == ROW_PEER ? row->peer->version : NULL, "installed", row->kind != ROW_ABSENT,
                             "bare", row->kind == ROW_MEMORY || row->kind == ROW_SOCKET);
  for (int i = 0; i < EXCHANGES && row->kind != ROW_ABSENT; i++)
    json_object_set_new(object, exchanges[i].name,
                        result_to_json(&row->results[i], exchanges[i].kind, ratio_of(table, row, i)));
  return object;
}

int table_print_json(const struct table *table, const struct bench *bench) {
  const struct settings *settings = &bench->settings;
  json_t *rows = json_array();
  for (size_t i = 0; i < table->count; i++) json_array_append_new(rows, row_to_json(table, &table->rows[i]));
  json_t *whole = json_pack("{s:s, s:s, s:i, s:I, s:I, s:o}", "bench", "peers", "backend", settings->backend,
                            "processors", bench->processor_count, "repetitions", (json_int_t)settings->repetitions,
                            "stamp_ns", (json_int_t)bench->stamp_ns, "rows", rows);
  int failed = whole == NULL ? -1 : json_dumpf(whole, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
  if (failed == 0) putchar('\n');
  json_decref(whole);
  return failed == 0 ? EXIT_OK : fail(EXIT_FAILED, "there is no memory for the report");
}

/* The table and the JSON object.  Thread: main. */
#include "table.h"

#include <jansson.h>
#include <stdio.h>

#include "cli.h"

enum { NAME_WIDTH = 27, CELL_WIDTH = 10, LOST_WIDTH = 7 };

void table_begin(struct table *table, const struct bench *bench) {
  const struct settings *settings = &bench->settings;
  table->bench = bench;
  if (settings->is_json) return;
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
  fflush(stdout);
}

struct row *table_row(struct table *table, const char *name, enum row_kind kind) {
  struct row *row = &table->rows[table->count++];
  *row = (struct row){.name = name, .kind = kind};
  return row;
}

/* ---- lines ---- */

static const struct row *ours(const struct table *table) {
  for (size_t i = 0; i < table->count; i++) {
    if (table->rows[i].kind == ROW_PEER) return &table->rows[i];
  }
  return NULL;
}

/* How many times as dear; 0: cannot be said. */
static double ratio_of(const struct table *table, const struct row *row, int which) {
  const struct row *base = ours(table);
  if (base == NULL || row->results[which].measured != MEASURED_YES) return 0;
  double theirs = row->results[which].value, own = base->results[which].value;
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
    snprintf(text, sizeof text, "%.2f M", result->value / 1e6);
  } else if (result->measured == MEASURED_YES) {
    snprintf(text, sizeof text, result->value < 100 ? "%.1f" : "%.0f", result->value);
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
  snprintf(name, sizeof name, "%s%s%s%s", row->name, row->version != NULL ? " " : "",
           row->version != NULL ? row->version : "", row->takes ? " *" : "");
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
  if (row == ours(table)) return;
  printf("%-*s", NAME_WIDTH, "");
  for (int i = 0; i < EXCHANGES; i++) {
    print_ratio(ratio_of(table, row, i));
    if (exchanges[i].kind == EXCHANGE_STREAM) printf(" %*s", LOST_WIDTH, "");
  }
  putchar('\n');
}

void table_show(struct table *table) {
  if (table->bench->settings.is_json) return;
  while (table->shown < table->count) print_row(table, &table->rows[table->shown++]);
  fflush(stdout); /* the next one takes a while */
}

/* ---- JSON ---- */

static json_t *result_to_json(const struct result *result, enum exchange_kind kind, double ratio) {
  if (result->measured != MEASURED_YES) return json_null();
  switch (kind) {
  case EXCHANGE_TRIPS:
    return json_pack("{s:f, s:f, s:f, s:f}", "p50", result->value, "p99", result->p99, "p999", result->p999, "ratio",
                     ratio);
  case EXCHANGE_STREAM:
    return json_pack("{s:f, s:I, s:I, s:f}", "received_per_s", result->value, "sent", (json_int_t)result->sent, "lost",
                     (json_int_t)result->lost, "ratio", ratio);
  default:
    return json_pack("{s:f, s:f}", "ns_per_message", result->value, "ratio", ratio);
  }
}

static json_t *row_to_json(const struct table *table, const struct row *row) {
  json_t *object = json_pack("{s:s, s:s?, s:b, s:b}", "name", row->name, "version", row->version, "installed",
                             row->kind != ROW_ABSENT, "bare", row->kind == ROW_BARE);
  for (int i = 0; i < EXCHANGES && row->kind != ROW_ABSENT; i++)
    json_object_set_new(object, exchanges[i].name,
                        result_to_json(&row->results[i], exchanges[i].kind, ratio_of(table, row, i)));
  return object;
}

int table_end(const struct table *table) {
  const struct settings *settings = &table->bench->settings;
  if (!settings->is_json) return EXIT_OK;
  json_t *rows = json_array();
  for (size_t i = 0; i < table->count; i++) json_array_append_new(rows, row_to_json(table, &table->rows[i]));
  json_t *whole =
      json_pack("{s:s, s:s, s:i, s:I, s:I, s:o}", "bench", "peers", "backend", settings->backend, "processors",
                table->bench->processor_count, "repetitions", (json_int_t)settings->repetitions, "stamp_ns",
                (json_int_t)table->bench->stamp_ns, "rows", rows);
  int failed = whole == NULL ? -1 : json_dumpf(whole, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
  if (failed == 0) putchar('\n');
  json_decref(whole);
  return failed == 0 ? EXIT_OK : fail(EXIT_FAILED, "there is no memory for the report");
}

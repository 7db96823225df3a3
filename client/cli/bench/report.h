/* What was measured: one JSON object a case, and a table that shows some of its fields.  Thread: main. */
#ifndef SLOTCAST_CLI_BENCH_REPORT_H
#define SLOTCAST_CLI_BENCH_REPORT_H

#include <jansson.h>

#include "bench.h"
#include "histogram.h"

/* FORMAT_US and FORMAT_MS show nanoseconds so; FORMAT_PART a part of 1 in per cent. */
enum format {
  FORMAT_TEXT,
  FORMAT_COUNT,
  FORMAT_BYTES,
  FORMAT_NS,
  FORMAT_US,
  FORMAT_MS,
  FORMAT_RATE,
  FORMAT_PART,
  FORMAT_RATIO
};

/* A column of the table: a field of the cases, "rtt_ns.p50" one of an object in it.  A title of NULL ends them. */
struct column {
  const char *title, *path;
  enum format format;
};

struct report {
  const struct column *columns;
  bool is_json, has_head;
  bool is_silent; /* neither table nor JSON: the cases are looked at by who measures */
  json_t *cases;
};
/* NULL when there is no memory. */
struct report *report_new(bool is_json);
void report_free(struct report *report);

/* What a case has there, "rtt_ns.p50" in an object of it; NULL: nothing. */
const json_t *report_field(const json_t *result, const char *path);
/* A field as a cell of a table has it, "-" where it has none; `text` is used for it. */
const char *report_cell(const json_t *value, enum format format, char text[32]);

/* How near the processors were, which counts only for who was pinned. */
const char *report_cores(const json_t *result, char text[32]);

/* The columns; a last one says how near each other the processors were.  The table begins with the first case. */
void report_begin(struct bench *bench, const char *title, const struct column *columns);
/* The line of a table that says how it was measured. */
void report_conditions(const struct bench *bench);
/* The case of so many busy processes with what is common to all; takes it (NULL: memory was short).  The exit code. */
int report_add(struct bench *bench, const char *name, unsigned busy, uint64_t count, json_t *result);
/* In a line what was measured, and how. */
enum { REPORT_CAPTION_MAX = 256 };
const char *report_caption(const struct bench *bench, char text[REPORT_CAPTION_MAX]);
/* One object for one case, an array for several; nothing for a table.  The exit code. */
int report_end(const struct report *report);

/* Medians over the repetitions, least and most of all: {"p50", "p99", "p999", "min", "max"}, in ns. */
json_t *repeated_to_json(const struct repeated *repeated);
double repeated_p50(const struct repeated *repeated);

#endif

/* What was measured: a table that grows line by line, or one JSON object in the end.  Thread: main. */
#ifndef SLOTCAST_TESTS_BENCH_PEERS_TABLE_H
#define SLOTCAST_TESTS_BENCH_PEERS_TABLE_H

#include "exchange.h"

enum { ROWS_MAX = 16 };

enum row_kind { ROW_BARE, ROW_PEER, ROW_ABSENT };
struct row {
  const char *name;
  enum row_kind kind;
  const char *version; /* ROW_PEER */
  bool takes;          /* ROW_PEER: its subscribers cannot idle */
  struct result results[EXCHANGES];
};

struct table {
  const struct bench *bench;
  size_t count, shown;
  struct row rows[ROWS_MAX];
};

void table_begin(struct table *table, const struct bench *bench);
/* A new row, to be filled in. */
struct row *table_row(struct table *table, const char *name, enum row_kind kind);
/* Prints what has been filled in since; the first peer is the one that the others are compared with. */
void table_show(struct table *table);
/* The rest of it; the exit code. */
int table_end(const struct table *table);

#endif

/* What was measured, as a table or as JSON.  Thread: main. */
#ifndef SLOTCAST_TESTS_BENCH_PEERS_TABLE_H
#define SLOTCAST_TESTS_BENCH_PEERS_TABLE_H

#include "exchange.h"

enum { ROWS_MAX = 16 };

enum row_kind { ROW_PEER, ROW_ABSENT, ROW_MEMORY, ROW_SOCKET };
struct row {
  const char *title;
  enum row_kind kind;
  const struct peer *peer; /* ROW_PEER */
  struct result results[EXCHANGES];
};
/* The first row is Slotcast, which the others are compared with. */
struct table {
  size_t count;
  struct row rows[ROWS_MAX];
};

void table_print(const struct table *table, const struct bench *bench);
/* The same as one JSON object; the exit code. */
int table_print_json(const struct table *table, const struct bench *bench);

#endif

/* Slotcast and what else Debian packages, measured in one run by the same code: slotcast-bench-peers [OPTION]..
 * [PEER].. Thread: main. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/measure.h"
#include "cli.h"
#include "exchange.h"
#include "peer.h"
#include "table.h"

enum { DIRECTORY_MAX = 64 };

/* ---- what was asked for ---- */

static void print_help(void) {
  fputs("Usage: slotcast-bench-peers [OPTION].. [PEER]..\n\n"
        "Measures Slotcast, the machine without it, and those of these peers that this program was built with\n"
        "(all, or the ones named):",
        stdout);
  for (size_t i = 0; i < peer_count; i++) printf(" %s", peer_entries[i].name);
  fputs("\n\n"
        "  --repeat N      repetitions, 5 (the default) to 100: figures are their medians\n"
        "  --quick         few exchanges: to see that it works, not for figures\n"
        "  --json          one object\n"
        "  --backend NAME  of Slotcast's broker: memfd (the default) or shm\n",
        stdout);
}

static bool is_peer(const char *name) {
  for (size_t i = 0; i < peer_count; i++) {
    if (strcmp(name, peer_entries[i].name) == 0) return true;
  }
  return false;
}

/* Leaves the peers' names at optind; *ret_is_done: it was --help. */
static int parse(int argc, char **argv, struct settings *ret, bool *ret_is_done) {
  static const struct option options[] = {
      {"repeat", required_argument, NULL, 'R'},  {"quick", no_argument, NULL, 'q'}, {"json", no_argument, NULL, 'j'},
      {"backend", required_argument, NULL, 'b'}, {"help", no_argument, NULL, 'h'},  {NULL, 0, NULL, 0}};
  *ret = (struct settings){.repetitions = 5, .backend = "memfd"};
  *ret_is_done = false;
  for (int key; (key = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    switch (key) {
    case 'R':
      if (!parse_number(optarg, 5, REPETITIONS_MAX, &ret->repetitions))
        return fail(EXIT_USAGE, "--repeat takes a number from 5 to %d, not '%s'", REPETITIONS_MAX, optarg);
      break;
    case 'q':
      ret->is_quick = true;
      break;
    case 'j':
      ret->is_json = true;
      break;
    case 'b':
      ret->backend = optarg;
      break;
    case 'h':
      print_help();
      *ret_is_done = true;
      return EXIT_OK;
    default:
      return EXIT_USAGE; /* getopt has said why */
    }
  }
  for (int i = optind; i < argc; i++) {
    if (!is_peer(argv[i])) return fail(EXIT_USAGE, "there is no peer '%s': --help lists them", argv[i]);
  }
  return EXIT_OK;
}

static bool is_wanted(const char *name, char *const *wanted) {
  if (*wanted == NULL) return true;
  for (; *wanted != NULL; wanted++) {
    if (strcmp(name, *wanted) == 0) return true;
  }
  return false;
}

/* ---- where sockets have names ---- */

static int make_directory(char directory[DIRECTORY_MAX]) {
  snprintf(directory, DIRECTORY_MAX, "/tmp/slotcast-peers-XXXXXX");
  if (mkdtemp(directory) != NULL) return EXIT_OK;
  return fail(EXIT_FAILED, "cannot make a directory in /tmp: %s", strerror(errno));
}
static void remove_directory(const char *directory) {
  char path[DIRECTORY_MAX + NAME_MAX + 2];
  DIR *entries = opendir(directory);
  if (entries == NULL) return;
  for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
    snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
    unlink(path);
  }
  closedir(entries);
  rmdir(directory);
}

/* ---- measuring ---- */

/* Slotcast, which all are compared with, the machine without it, and the others that are wanted. */
static void fill_rows(struct table *table, char *const *wanted) {
  for (size_t i = 0; i < peer_count; i++) {
    const struct peer_entry *entry = &peer_entries[i];
    if (i > 0 && !is_wanted(entry->name, wanted)) continue;
    table->rows[table->count++] =
        (struct row){.title = entry->title, .kind = entry->peer != NULL ? ROW_PEER : ROW_ABSENT, .peer = entry->peer};
    if (i > 0) continue;
    table->rows[table->count++] = (struct row){.title = "bare memory", .kind = ROW_MEMORY};
    table->rows[table->count++] = (struct row){.title = "bare socket", .kind = ROW_SOCKET};
  }
}

static int repeat(struct bench *bench, int which, const char *directory, struct row *row) {
  if (row->kind == ROW_ABSENT) return EXIT_OK;
  if (row->kind == ROW_PEER)
    return exchange_repeat(bench, row->peer, &exchanges[which], directory, &row->results[which]);
  return exchange_repeat_bare(bench, &exchanges[which], row->kind == ROW_SOCKET, &row->results[which]);
}

/* All take turns, so that what changes meanwhile on a machine changes for all.  One that fails in an exchange is
 * measured in the next; the last failure's exit code. */
static int measure_all(struct bench *bench, const char *directory, struct table *table) {
  int worst = EXIT_OK;
  for (int which = 0; which < EXCHANGES; which++) {
    for (uint64_t i = 0; i < bench->settings.repetitions; i++) {
      for (size_t k = 0; k < table->count; k++) {
        int code = repeat(bench, which, directory, &table->rows[k]);
        if (code != EXIT_OK) worst = code;
        if (code == EXIT_INTERRUPTED) return code;
      }
    }
  }
  return worst;
}

int main(int argc, char **argv) {
  enum { BUSY = 2 };
  static struct bench bench;
  static struct table table;
  char directory[DIRECTORY_MAX];
  bool is_done;
  int code = parse(argc, argv, &bench.settings, &is_done);
  if (code != EXIT_OK || is_done) return code;
  CPU_ZERO(&bench.processors);
  sched_getaffinity(0, sizeof bench.processors, &bench.processors);
  bench.processor_count = CPU_COUNT(&bench.processors);
  if (bench.processor_count < BUSY) return fail(EXIT_USAGE, "two processes that poll need two processors");
  bench.stamp_ns = stamp_cost();
  code = make_directory(directory);
  if (code != EXIT_OK) return code;
  session_begin(&bench.session);
  fill_rows(&table, argv + optind);
  code = measure_all(&bench, directory, &table);
  remove_directory(directory);
  if (code == EXIT_INTERRUPTED) return code;
  if (!bench.settings.is_json) table_print(&table, &bench);
  int told = bench.settings.is_json ? table_print_json(&table, &bench) : EXIT_OK;
  return code != EXIT_OK ? code : told;
}

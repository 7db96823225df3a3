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

/* A peer that fails in one exchange is measured in the next; the worst exit code. */
static int measure_peer(struct bench *bench, const struct peer *peer, const char *directory, struct row *row) {
  int worst = peer->start != NULL ? peer->start(bench) : EXIT_OK;
  for (int i = 0; i < EXCHANGES && worst != EXIT_INTERRUPTED; i++) {
    int code = exchange_measure(bench, peer, &exchanges[i], directory, &row->results[i]);
    if (code != EXIT_OK) worst = code;
  }
  if (peer->stop != NULL) peer->stop(bench);
  return worst;
}

static int measure_bare(struct bench *bench, bool by_socket, struct row *row) {
  int code = EXIT_OK;
  for (int i = 0; i < EXCHANGES && code == EXIT_OK; i++)
    code = exchange_measure_bare(bench, &exchanges[i], by_socket, &row->results[i]);
  return code;
}

static int measure_entry(struct bench *bench, const struct peer_entry *entry, const char *directory,
                         struct table *table) {
  const struct peer *peer = entry->peer;
  struct row *row = table_row(table, entry->title, peer != NULL ? ROW_PEER : ROW_ABSENT);
  int code = EXIT_OK;
  if (peer != NULL) {
    row->version = peer->version;
    row->takes = peer->has_threads;
    code = measure_peer(bench, peer, directory, row);
  }
  table_show(table);
  return code;
}

/* Slotcast, which all are compared with, then the machine, then the others; the worst exit code. */
static int measure_all(struct bench *bench, char *const *wanted, const char *directory, struct table *table) {
  int worst = measure_entry(bench, &peer_entries[0], directory, table);
  for (int by_socket = 0; by_socket < 2 && worst == EXIT_OK; by_socket++) {
    worst = measure_bare(bench, by_socket, table_row(table, by_socket ? "bare socket" : "bare memory", ROW_BARE));
    table_show(table);
  }
  for (size_t i = 1; i < peer_count && worst != EXIT_INTERRUPTED; i++) {
    if (!is_wanted(peer_entries[i].name, wanted)) continue;
    int code = measure_entry(bench, &peer_entries[i], directory, table);
    if (code != EXIT_OK) worst = code;
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
  table_begin(&table, &bench);
  code = measure_all(&bench, argv + optind, directory, &table);
  int told = table_end(&table);
  remove_directory(directory);
  return code != EXIT_OK ? code : told;
}

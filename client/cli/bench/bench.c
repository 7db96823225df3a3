/* slotcast bench: one word chooses the measurement; the options are parsed here for all of them, and each says which it
 * takes.  Thread: main. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "measure.h"
#include "plot.h"
#include "report.h"

/* ---- options ---- */

enum option_key {
  KEY_SIZE = 's',
  KEY_SLOTS = 'l',
  KEY_PUBLISHERS = 'p',
  KEY_SUBSCRIBERS = 'u',
  KEY_GENERATIONS = 'g',
  KEY_CHANNELS = 'C',
  KEY_WAIT = 'w',
  KEY_TOUCH = 't',
  KEY_RELIABLE = 'r',
  KEY_UNRELIABLE = 'U',
  KEY_TAKE = 'k',
  KEY_EXCLUSIVE = 'x',
  KEY_RATE = 'a',
  KEY_SLOW = 'd',
  KEY_BY = 'y',
  KEY_OPEN = 'o',
  KEY_COUNT = 'c',
  KEY_REPEAT = 'R',
  KEY_QUICK = 'q',
  KEY_JSON = 'j',
  KEY_PLOT = 'P',
  KEY_BACKEND = 'b',
  KEY_SOCKET = 'S',
  KEY_HELP = 'h',
};
static const char common_keys[] = "Rqjbh";

/* Name, what it takes (NULL: nothing) and what it means. */
static const struct {
  enum option_key key;
  const char *name, *argument, *what;
} descriptions[] = {
    {KEY_SIZE, "size", "BYTES,..", "payloads from 8 bytes on (K, M: powers of 1,024)"},
    {KEY_SLOTS, "slots", "N,..", "of the channel"},
    {KEY_PUBLISHERS, "publishers", "N,..", "in a process each; default 1"},
    {KEY_SUBSCRIBERS, "subscribers", "N,..", "of the channel"},
    {KEY_GENERATIONS, "generations", "N,..", "of larger buffers, 1 to 10: the messages are of the newest's size"},
    {KEY_CHANNELS, "channels", "N,..", "that there are already"},
    {KEY_WAIT, "wait", "HOW", "polling, blocking or spin (then block)"},
    {KEY_TOUCH, "touch", NULL, "payloads are written and read as a whole, else only their first word"},
    {KEY_RELIABLE, "reliable", NULL, "publishers wait for the subscribers (the default)"},
    {KEY_UNRELIABLE, "unreliable", NULL, "publishers overrun slow subscribers"},
    {KEY_TAKE, "take", "one|many", "messages a call; default many"},
    {KEY_RATE, "rate", "N", "messages a second, of all publishers; default as many as there can be"},
    {KEY_SLOW, "slow", "NS", "the last subscriber spends so many ns over each message, 1 to 1000000000"},
    {KEY_EXCLUSIVE, "exclusive", NULL, "the channel admits one publisher"},
    {KEY_BY, "by", "wait|fd", "sleepers wait in the library (the default), or poll the readiness descriptor"},
    {KEY_OPEN, "open", "ROLE", "publishers (the default), each of a channel of its own, or subscribers"},
    {KEY_COUNT, "count", "N", "measured a repetition"},
    {KEY_REPEAT, "repeat", "N", "repetitions, 5 (the default) to 100: figures are their medians"},
    {KEY_QUICK, "quick", NULL, "a hundredth of the usual counts: to see that it works, not for figures"},
    {KEY_JSON, "json", NULL, "an object, or an array of them for several cases"},
    {KEY_PLOT, "plot", "FILE.svg", "curves of it, too"},
    {KEY_BACKEND, "backend", "NAME", "of the private broker: memfd (the default) or shm"},
    {KEY_SOCKET, "socket", "PATH", "a broker that runs already instead of a private one"},
    {KEY_HELP, "help", NULL, ""},
};
enum { DESCRIPTIONS = sizeof descriptions / sizeof descriptions[0] };

static const struct measurement {
  const char *name, *what, *keys;
  int (*run)(struct bench *bench);
  bool has_own_brokers; /* starts and ends them itself */
} measurements[] = {
    {"all", "most of these in short, a line a figure (the default)", "S", bench_all, false},
    {"latency", "round trips between two processes", "slwtxcPS", bench_latency, false},
    {"throughput", "streams from publishers to subscribers", "slpurUktwxadcPS", bench_throughput, false},
    {"publish", "loan and publish by themselves, beside idle subscribers", "slugtxcPS", bench_publish, false},
    {"take", "take and release by themselves, beside idle subscribers", "slugktxcPS", bench_take, false},
    {"fanout", "one message that wakes many subscribers", "suycPS", bench_fanout, false},
    {"wake", "one message that wakes one subscriber", "sycPS", bench_wake, false},
    {"control", "opening and closing, beside channels that are there already", "CocPS", bench_control, false},
    {"recover", "a broker killed and started again, beside a shadow", "CuP", bench_recover, true},
    {"touch", "the first touch of a channel's memory, by backend, pages and prefault", "slcS", bench_touch, false},
};
enum { MEASUREMENTS = sizeof measurements / sizeof measurements[0] };

static bool takes(const struct measurement *measurement, int key) {
  return strchr(common_keys, key) != NULL || strchr(measurement->keys, key) != NULL;
}

static void print_help(void) {
  fputs("Usage: slotcast bench [MEASUREMENT] [OPTION]...\n\n"
        "Measures this machine: Slotcast, and in the same run what the machine can do without it.\n\n",
        stdout);
  for (int i = 0; i < MEASUREMENTS; i++) printf("  %-11s %s\n", measurements[i].name, measurements[i].what);
  fputs("\n  slotcast bench MEASUREMENT --help lists its options.\n", stdout);
}

static void print_measurement_help(const struct measurement *measurement) {
  printf("Usage: slotcast bench %s [OPTION]...\n\nMeasures %s.\n\n", measurement->name, measurement->what);
  for (int i = 0; i < DESCRIPTIONS; i++) {
    char name[64];
    if (!takes(measurement, descriptions[i].key)) continue;
    const char *argument = descriptions[i].argument;
    snprintf(name, sizeof name, "--%s%s%s", descriptions[i].name, argument != NULL ? " " : "",
             argument != NULL ? argument : "");
    printf("  %-20s %s\n", name, descriptions[i].what);
  }
}

/* ---- their values ---- */

/* "8,64K,1M" */
static bool parse_list(const char *text, uint64_t min, uint64_t max, struct list *ret_list) {
  struct list list = {0};
  for (;;) {
    char number[32];
    size_t length = strcspn(text, ",");
    if (length >= sizeof number || list.count == LIST_MAX) return false;
    memcpy(number, text, length);
    number[length] = '\0';
    if (!parse_number(number, min, max, &list.values[list.count++])) return false;
    if (text[length] == '\0') break;
    text += length + 1;
  }
  *ret_list = list;
  return true;
}

/* An option that takes a list: its place in the settings, and its bounds. */
struct numbers {
  struct list *list;
  uint64_t min, max;
};
static bool numbers_of(struct settings *settings, int key, struct numbers *ret) {
  switch (key) {
  case KEY_SIZE:
    *ret = (struct numbers){&settings->sizes, 8, UINT64_C(1) << 30};
    return true;
  case KEY_SLOTS:
    *ret = (struct numbers){&settings->slots, 8, 1048576};
    return true;
  case KEY_PUBLISHERS:
    *ret = (struct numbers){&settings->publishers, 1, 64};
    return true;
  case KEY_SUBSCRIBERS:
    *ret = (struct numbers){&settings->subscribers, 0, 10000};
    return true;
  case KEY_GENERATIONS:
    *ret = (struct numbers){&settings->generations, 1, 10};
    return true;
  case KEY_CHANNELS:
    *ret = (struct numbers){&settings->channels, 0, 100000};
    return true;
  default:
    return false;
  }
}

/* The number of a word among those an option may take; else -1. */
static int word_of(const char *text, const char *const *words) {
  for (int i = 0; words[i] != NULL; i++) {
    if (strcmp(text, words[i]) == 0) return i;
  }
  return -1;
}

static int parse_word(struct settings *settings, int key, const char *text) {
  static const char *const waits[] = {"polling", "blocking", "spin", NULL}, *const takings[] = {"many", "one", NULL},
                           *const ways[] = {"wait", "fd", NULL}, *const roles[] = {"publishers", "subscribers", NULL},
                           *const backends[] = {"memfd", "shm", NULL};
  int word;
  switch (key) {
  case KEY_WAIT:
    if ((word = word_of(text, waits)) < 0)
      return fail(EXIT_USAGE, "--wait is polling, blocking or spin, not '%s'", text);
    settings->waiting = (enum waiting)(word + WAIT_POLLING);
    return EXIT_OK;
  case KEY_TAKE:
    if ((word = word_of(text, takings)) < 0) return fail(EXIT_USAGE, "--take is one or many, not '%s'", text);
    settings->takes_one = word == 1;
    return EXIT_OK;
  case KEY_BY:
    if ((word = word_of(text, ways)) < 0) return fail(EXIT_USAGE, "--by is wait or fd, not '%s'", text);
    settings->by_descriptor = word == 1;
    return EXIT_OK;
  case KEY_OPEN:
    if ((word = word_of(text, roles)) < 0)
      return fail(EXIT_USAGE, "--open is publishers or subscribers, not '%s'", text);
    settings->opens_readers = word == 1;
    return EXIT_OK;
  default:
    if (word_of(text, backends) < 0) return fail(EXIT_USAGE, "--backend is memfd or shm, not '%s'", text);
    settings->backend = text;
    return EXIT_OK;
  }
}

enum { MAX_RATE = 1000000000, MAX_SLOW_NS = 1000000000 };

static int parse_option(struct settings *settings, int key, const char *name, const char *text) {
  struct numbers numbers;
  if (numbers_of(settings, key, &numbers))
    return parse_list(text, numbers.min, numbers.max, numbers.list)
               ? EXIT_OK
               : fail(EXIT_USAGE, "--%s takes numbers from %llu to %llu, separated by commas, not '%s'", name,
                      (unsigned long long)numbers.min, (unsigned long long)numbers.max, text);
  switch (key) {
  case KEY_TOUCH:
    settings->is_touched = true;
    return EXIT_OK;
  case KEY_RELIABLE:
    settings->is_unreliable = false;
    return EXIT_OK;
  case KEY_UNRELIABLE:
    settings->is_unreliable = true;
    return EXIT_OK;
  case KEY_EXCLUSIVE:
    settings->is_exclusive = true;
    return EXIT_OK;
  case KEY_QUICK:
    settings->is_quick = true;
    return EXIT_OK;
  case KEY_JSON:
    settings->is_json = true;
    return EXIT_OK;
  case KEY_PLOT:
    settings->plot = text;
    return EXIT_OK;
  case KEY_SOCKET:
    settings->socket = text;
    return EXIT_OK;
  case KEY_RATE:
    return parse_number(text, 1, MAX_RATE, &settings->rate)
               ? EXIT_OK
               : fail(EXIT_USAGE, "--rate takes a number from 1 to %d, not '%s'", MAX_RATE, text);
  case KEY_SLOW:
    return parse_number(text, 1, MAX_SLOW_NS, &settings->slow_ns)
               ? EXIT_OK
               : fail(EXIT_USAGE, "--slow takes a number from 1 to %d, not '%s'", MAX_SLOW_NS, text);
  case KEY_COUNT:
    return parse_number(text, 1, UINT64_C(1) << 40, &settings->count)
               ? EXIT_OK
               : fail(EXIT_USAGE, "--count takes a number from 1 on, not '%s'", text);
  case KEY_REPEAT:
    return parse_number(text, 5, REPETITIONS_MAX, &settings->repetitions)
               ? EXIT_OK
               : fail(EXIT_USAGE, "--repeat takes a number from 5 to %d, not '%s'", REPETITIONS_MAX, text);
  default:
    return parse_word(settings, key, text);
  }
}

/* *ret_is_done: it was --help. */
static int parse(const struct measurement *measurement, int argc, char **argv, struct settings *ret,
                 bool *ret_is_done) {
  struct option options[DESCRIPTIONS + 1] = {{NULL, 0, NULL, 0}};
  for (int i = 0; i < DESCRIPTIONS; i++)
    options[i] =
        (struct option){descriptions[i].name, descriptions[i].argument != NULL ? required_argument : no_argument, NULL,
                        (int)descriptions[i].key};
  *ret = (struct settings){.repetitions = 5, .backend = "memfd"};
  *ret_is_done = false;
  optind = 1;
  int index = 0;
  for (int key; (key = getopt_long(argc, argv, "", options, &index)) != -1;) {
    if (key == '?') {
      fprintf(stderr, "Try 'slotcast bench %s --help'.\n", measurement->name);
      return EXIT_USAGE;
    }
    if (!takes(measurement, key))
      return fail(EXIT_USAGE, "bench %s has no --%s: slotcast bench %s --help lists its options", measurement->name,
                  options[index].name, measurement->name);
    if (key == KEY_HELP) {
      print_measurement_help(measurement);
      *ret_is_done = true;
      return EXIT_OK;
    }
    int code = parse_option(ret, key, options[index].name, optarg);
    if (code != EXIT_OK) return code;
  }
  if (optind < argc) return fail(EXIT_USAGE, "bench %s takes no argument '%s'", measurement->name, argv[optind]);
  return EXIT_OK;
}

/* ---- running ---- */

const char *waiting_name(enum waiting waiting) {
  static const char *const names[] = {"usual", "polling", "blocking", "spin"};
  return names[waiting];
}

uint64_t bench_count(const struct bench *bench, uint64_t usual, uint64_t least) {
  const struct settings *settings = &bench->settings;
  uint64_t count = settings->count > 0 ? settings->count : settings->is_quick ? usual / BENCH_QUICK_PART : usual;
  return count > least ? count : least;
}

struct list bench_list(const struct list *asked, size_t count, const uint64_t *usual) {
  if (asked->count > 0) return *asked;
  struct list list = {.count = count};
  memcpy(list.values, usual, count * sizeof *usual);
  return list;
}

static int run_measurement(const struct measurement *measurement, struct bench *bench) {
  int code = measurement->run(bench);
  if (code == EXIT_OK) code = report_end(bench->report);
  char caption[REPORT_CAPTION_MAX];
  return code == EXIT_OK ? plot_write(bench->plot, report_caption(bench, caption)) : code;
}

/* A broker that isn't there is told of once, not by each process. */
static int find_broker(const char *socket) {
  slc_client *client;
  int code = connect_broker(socket, &client);
  if (code == EXIT_OK) slc_client_close(client);
  return code;
}

int bench_start_broker(struct bench *bench, int shadows) {
  /* The default limits are a user's share; here the user has the broker for itself. */
  static const char *const broker_options[] = {"--max-channels", "1000000",       "--max-users", "2000000",
                                               "--max-memory",   "1099511627776", NULL};
  bench->socket = bench->session.broker.socket;
  return session_start_broker(&bench->session, bench->settings.backend, shadows, broker_options);
}

static int run_with_broker(const struct measurement *measurement, struct bench *bench) {
  session_begin(&bench->session);
  int code = EXIT_OK;
  if (bench->settings.socket != NULL) {
    bench->socket = bench->settings.socket;
    code = find_broker(bench->socket);
  } else if (!measurement->has_own_brokers) {
    code = bench_start_broker(bench, 0);
  }
  if (code == EXIT_OK) code = run_measurement(measurement, bench);
  session_end(&bench->session);
  return code;
}

static int run(const struct measurement *measurement, const struct settings *settings) {
  struct bench bench = {.settings = *settings};
  CPU_ZERO(&bench.processors);
  sched_getaffinity(0, sizeof bench.processors, &bench.processors);
  bench.processor_count = CPU_COUNT(&bench.processors);
  bench.stamp_ns = stamp_cost();
  bench.report = report_new(settings->is_json);
  int code = bench.report != NULL ? EXIT_OK : fail(EXIT_FAILED, "there is no memory for the report");
  if (code == EXIT_OK && settings->plot != NULL) code = plot_open(settings->plot, &bench.plot);
  if (code == EXIT_OK) code = run_with_broker(measurement, &bench);
  plot_free(bench.plot);
  report_free(bench.report);
  return code;
}

int command_bench(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--help") == 0) {
    print_help();
    return EXIT_OK;
  }
  /* Without a word it is the first, which is all of them. */
  bool is_named = argc > 1 && argv[1][0] != '-';
  for (int i = 0; i < MEASUREMENTS; i++) {
    if (is_named && strcmp(argv[1], measurements[i].name) != 0) continue;
    struct settings settings;
    bool is_done;
    int code = parse(&measurements[i], argc - is_named, argv + is_named, &settings, &is_done);
    return code != EXIT_OK || is_done ? code : run(&measurements[i], &settings);
  }
  return fail(EXIT_USAGE, "there is no measurement '%s': slotcast bench --help lists them", argv[1]);
}

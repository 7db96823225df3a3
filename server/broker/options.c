/* The command line of slotcastd: strict, and every mistake gets a sentence.  Thread: main. */
#include "broker/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slotcast/status.h"

enum { SLOW_HOLD_DEFAULT_MS = 1000, SLOW_HOLD_MAX_MS = 1000000000, OPTION_LIMIT = 1000 };
enum {
  OPTION_SOCKET = 256,
  OPTION_MODE,
  OPTION_GROUP,
  OPTION_BACKEND,
  OPTION_LEVEL,
  OPTION_TARGET,
  OPTION_SLOW_HOLD,
  OPTION_HELPER,
  OPTION_SHADOW,
  OPTION_FDSTORE
};

static const char help_text[] =
    "Usage: slotcastd [OPTION]...\n"
    "\n"
    "The broker of Slotcast: sets channels up, hands out shared memory, cleans up after the dead.\n"
    "\n"
    "  --socket PATH         where to listen; default $SLOTCAST_SOCKET, else $XDG_RUNTIME_DIR/slotcast/broker.sock,\n"
    "                        else /run/slotcast/broker.sock\n"
    "  --socket-mode OCTAL   permissions of the socket; default 0600\n"
    "  --socket-group NAME   group of the socket\n"
    "  --backend NAME        memfd (sealed, the default) or shm (/dev/shm, for one user's processes)\n"
    "  --log-level NAME      error, warning, notice (the default), info or debug\n"
    "  --log-target NAME     auto (the default: the journal when started by systemd), stderr or journal\n"
    "  --max-connections N   limits for each user: connections (default 1024),\n"
    "  --max-channels N      channels (4096),\n"
    "  --max-users N         publishers and subscribers (16384),\n"
    "  --max-memory BYTES    shared memory (68719476736),\n"
    "  --max-descriptors N   descriptors of registered payloads (65536)\n"
    "  --slow-hold MS        who holds a message, or keeps publishers waiting, so long is slow (default 1000; 0: "
    "nobody is):\n"
    "                        that is told as an event, and channels may disconnect it\n"
    "  --free-helper PROGRAM run with CHANNEL GENERATION when memory that publishers allocated themselves is not\n"
    "                        needed any more; gets lines SLOT HANDLE OFFSET SIZE on its standard input\n"
    "  --shadow PATH         the socket of a slotcast-shadow, which keeps what the broker knows for the broker after "
    "it;\n"
    "                        up to two\n"
    "  --fdstore             the service manager keeps it (FileDescriptorStoreMax= in the unit)\n"
    "  --help, --version\n"
    "\n"
    "SIGTERM and SIGINT end it; publishers and subscribers go on without it.  At SIGUSR2 it hands over to the program\n"
    "that lies at its path by then.\n"
    "Exit status: 0 ended as asked, 1 could not serve, 2 wrong usage.\n";

static int usage_error(const char *what, const char *value) {
  return slc__daemon_usage_error("slotcastd", what, value);
}

/* 0 of an option's reader means: go on. */
static int run_or(int result) {
  return result == 0 ? PARSE_RUN : result;
}

static bool default_socket(char *socket, size_t size) {
  const char *given = getenv("SLOTCAST_SOCKET");
  if (given == NULL || given[0] == '\0') return slc__daemon_runtime_path("broker.sock", socket, size);
  int length = snprintf(socket, size, "%s", given);
  return length > 0 && (size_t)length < size;
}

static int take_limit(struct limits *limits, enum limit_kind kind, const char *text) {
  if (slc__daemon_parse_number(text, 10, INT64_MAX, limit_field(limits, kind))) return PARSE_RUN;
  char what[64];
  snprintf(what, sizeof what, "--%s takes a number", limit_option(kind));
  return usage_error(what, text);
}

static int take_shadow(const char *path, struct broker_options *options) {
  for (size_t i = 0; i < SLC__STORE_KEEPERS_MAX; i++) {
    if (options->shadows[i] != NULL && strcmp(options->shadows[i], path) == 0)
      return usage_error("--shadow: the same one twice", path);
    if (options->shadows[i] != NULL) continue;
    options->shadows[i] = path;
    return PARSE_RUN;
  }
  return usage_error("--shadow: there are at most two", path);
}

static int take(int option, const char *value, struct command_line *line) {
  static const char *const backends[] = {"memfd", "shm", NULL};
  int choice;
  if (option >= OPTION_LIMIT) return take_limit(&line->broker.limits, (enum limit_kind)(option - OPTION_LIMIT), value);
  switch (option) {
  case OPTION_SOCKET:
    line->broker.socket = value;
    return PARSE_RUN;
  case OPTION_MODE:
    return run_or(slc__daemon_take_mode("slotcastd", value, &line->broker.socket_mode));
  case OPTION_GROUP:
    return run_or(slc__daemon_take_group("slotcastd", value, &line->broker.socket_gid));
  case OPTION_BACKEND:
    if (!slc__daemon_choose(value, backends, &choice)) return usage_error("--backend is memfd or shm", value);
    line->broker.backend = choice == 0 ? SLC__BACKEND_MEMFD : SLC__BACKEND_SHM;
    return PARSE_RUN;
  case OPTION_LEVEL:
    return run_or(slc__daemon_take_log_level("slotcastd", value, &line->log_level));
  case OPTION_TARGET:
    return run_or(slc__daemon_take_log_target("slotcastd", value, &line->log_target));
  case OPTION_SLOW_HOLD:
    if (!slc__daemon_parse_number(value, 10, SLOW_HOLD_MAX_MS, &line->broker.slow_hold_ms))
      return usage_error("--slow-hold takes milliseconds", value);
    return PARSE_RUN;
  case OPTION_HELPER:
    line->broker.free_helper = value;
    return PARSE_RUN;
  case OPTION_SHADOW:
    return take_shadow(value, &line->broker);
  case OPTION_FDSTORE:
    line->broker.fdstore = true;
    return PARSE_RUN;
  case 'h':
    fputs(help_text, stdout);
    return 0;
  case 'v':
    printf("slotcastd %s\n", SLOTCAST_VERSION);
    return 0;
  default:
    fprintf(stderr, "Try 'slotcastd --help'.\n");
    return SLC__EXIT_USAGE;
  }
}

int command_line_parse(int argc, char **argv, struct command_line *ret) {
  static const struct option options[] = {
      {"socket", required_argument, NULL, OPTION_SOCKET},
      {"socket-mode", required_argument, NULL, OPTION_MODE},
      {"socket-group", required_argument, NULL, OPTION_GROUP},
      {"backend", required_argument, NULL, OPTION_BACKEND},
      {"log-level", required_argument, NULL, OPTION_LEVEL},
      {"log-target", required_argument, NULL, OPTION_TARGET},
      {"slow-hold", required_argument, NULL, OPTION_SLOW_HOLD},
      {"free-helper", required_argument, NULL, OPTION_HELPER},
      {"shadow", required_argument, NULL, OPTION_SHADOW},
      {"fdstore", no_argument, NULL, OPTION_FDSTORE},
#define LIMIT_OPTION(field, option, standard, what) {option, required_argument, NULL, OPTION_LIMIT + LIMIT_##field},
      SLC__LIMIT_MAP(LIMIT_OPTION)
#undef LIMIT_OPTION
          {"help", no_argument, NULL, 'h'},
      {"version", no_argument, NULL, 'v'},
      {NULL, 0, NULL, 0},
  };
  *ret = (struct command_line){
      .broker = {.socket_mode = 0600,
                 .socket_gid = (gid_t)-1,
                 .backend = SLC__BACKEND_MEMFD,
                 .slow_hold_ms = SLOW_HOLD_DEFAULT_MS},
      .log_level = SLC__LOG_NOTICE,
  };
  limits_init(&ret->broker.limits);
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    int result = take(option, optarg, ret);
    if (result != PARSE_RUN) return result;
  }
  if (optind < argc) return usage_error("an argument that is no option", argv[optind]);
  if (ret->broker.socket == NULL) {
    if (!default_socket(ret->socket, sizeof ret->socket))
      return usage_error("the socket path is too long", "SLOTCAST_SOCKET or XDG_RUNTIME_DIR");
    ret->broker.socket = ret->socket;
  }
  return PARSE_RUN;
}

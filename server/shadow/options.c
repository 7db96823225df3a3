/* The command line of slotcast-shadow: strict, and every mistake gets a sentence.  Thread: main. */
#include "shadow/options.h"

#include <getopt.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define PROGRAM "slotcast-shadow"
#define MEMORY_DEFAULT (UINT64_C(1) << 30)
#define RECORDS_DEFAULT UINT64_C(1000000)
enum { MODE_OWN = 0600, MODE_SHARED = 0666, MODE_UNSET = 07777 };
enum {
  OPTION_SOCKET = 256,
  OPTION_MODE,
  OPTION_GROUP,
  OPTION_USER,
  OPTION_MEMORY,
  OPTION_RECORDS,
  OPTION_DESCRIPTORS,
  OPTION_LEVEL,
  OPTION_TARGET
};

static const char help_text[] =
    "Usage: slotcast-shadow [OPTION]...\n"
    "\n"
    "Keeps what a Slotcast broker knows, in memory, and gives it to the next broker: slotcastd --shadow PATH.\n"
    "\n"
    "  --socket PATH         where to listen; default $XDG_RUNTIME_DIR/slotcast/shadow.sock, else\n"
    "                        /run/slotcast/shadow.sock\n"
    "  --socket-mode OCTAL   permissions of the socket; default 0600, with --user 0666\n"
    "  --socket-group NAME   group of the socket\n"
    "  --user NAME           another user, by name or number, whose broker is served; default: its own user's alone\n"
    "  --max-memory BYTES    what it keeps at most: memory (default 1073741824),\n"
    "  --max-records N       records (1000000),\n"
    "  --max-descriptors N   descriptors (as many as the process may have open)\n"
    "  --log-level NAME      error, warning, notice (the default), info or debug\n"
    "  --log-target NAME     auto (the default: the journal when started by systemd), stderr or journal\n"
    "  --help, --version\n"
    "\n"
    "SIGTERM and SIGINT end it, and what it kept is gone.\n"
    "Exit status: 0 ended as asked, 1 could not serve, 2 wrong usage.\n";

static int usage_error(const char *what, const char *value) {
  return slc__daemon_usage_error(PROGRAM, what, value);
}

/* 0 of an option's reader means: go on. */
static int run_or(int result) {
  return result == 0 ? SHADOW_RUN : result;
}

static int take_user(const char *name, uid_t *ret) {
  uint64_t number;
  if (slc__daemon_parse_number(name, 10, UINT32_MAX - 1, &number)) {
    *ret = (uid_t)number;
    return SHADOW_RUN;
  }
  const struct passwd *user = getpwnam(name);
  if (user == NULL) return usage_error("--user: there is no such user", name);
  *ret = user->pw_uid;
  return SHADOW_RUN;
}

static int take_number(const char *what, const char *text, uint64_t *ret) {
  return slc__daemon_parse_number(text, 10, INT64_MAX, ret) ? SHADOW_RUN : usage_error(what, text);
}

static int take(int option, const char *value, struct shadow_command_line *line) {
  struct shadow_options *shadow = &line->shadow;
  switch (option) {
  case OPTION_SOCKET:
    shadow->listen.path = value;
    return SHADOW_RUN;
  case OPTION_MODE:
    return run_or(slc__daemon_take_mode(PROGRAM, value, &shadow->listen.mode));
  case OPTION_GROUP:
    return run_or(slc__daemon_take_group(PROGRAM, value, &shadow->listen.gid));
  case OPTION_USER:
    return take_user(value, &shadow->user);
  case OPTION_MEMORY:
    return take_number("--max-memory takes a number of bytes", value, &shadow->limits.bytes);
  case OPTION_RECORDS:
    return take_number("--max-records takes a number", value, &shadow->limits.records);
  case OPTION_DESCRIPTORS:
    return take_number("--max-descriptors takes a number", value, &shadow->limits.descriptors);
  case OPTION_LEVEL:
    return run_or(slc__daemon_take_log_level(PROGRAM, value, &line->log_level));
  case OPTION_TARGET:
    return run_or(slc__daemon_take_log_target(PROGRAM, value, &line->log_target));
  case 'h':
    fputs(help_text, stdout);
    return 0;
  case 'v':
    printf(PROGRAM " %s\n", SLOTCAST_VERSION);
    return 0;
  default:
    fprintf(stderr, "Try '" PROGRAM " --help'.\n");
    return SLC__EXIT_USAGE;
  }
}

static int complete(struct shadow_command_line *line) {
  struct shadow_options *shadow = &line->shadow;
  if (shadow->listen.mode == MODE_UNSET) shadow->listen.mode = shadow->user == geteuid() ? MODE_OWN : MODE_SHARED;
  if (shadow->listen.path != NULL) return SHADOW_RUN;
  if (!slc__daemon_runtime_path("shadow.sock", line->socket, sizeof line->socket))
    return usage_error("the socket path is too long", "XDG_RUNTIME_DIR");
  shadow->listen.path = line->socket;
  return SHADOW_RUN;
}

int shadow_command_line_parse(int argc, char **argv, struct shadow_command_line *ret) {
  static const struct option options[] = {
      {"socket", required_argument, NULL, OPTION_SOCKET},
      {"socket-mode", required_argument, NULL, OPTION_MODE},
      {"socket-group", required_argument, NULL, OPTION_GROUP},
      {"user", required_argument, NULL, OPTION_USER},
      {"max-memory", required_argument, NULL, OPTION_MEMORY},
      {"max-records", required_argument, NULL, OPTION_RECORDS},
      {"max-descriptors", required_argument, NULL, OPTION_DESCRIPTORS},
      {"log-level", required_argument, NULL, OPTION_LEVEL},
      {"log-target", required_argument, NULL, OPTION_TARGET},
      {"help", no_argument, NULL, 'h'},
      {"version", no_argument, NULL, 'v'},
      {NULL, 0, NULL, 0},
  };
  *ret = (struct shadow_command_line){
      .shadow = {.listen = {.mode = MODE_UNSET, .gid = (gid_t)-1},
                 .user = geteuid(),
                 .limits = {.bytes = MEMORY_DEFAULT, .records = RECORDS_DEFAULT, .descriptors = DESCRIPTORS_ALL}},
      .log_level = SLC__LOG_NOTICE,
  };
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    int result = take(option, optarg, ret);
    if (result != SHADOW_RUN) return result;
  }
  if (optind < argc) return usage_error("an argument that is no option", argv[optind]);
  return complete(ret);
}

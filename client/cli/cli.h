/* What the commands share: options, messages, numbers, interruption, progress.  Thread: main. */
#ifndef SLOTCAST_CLI_H
#define SLOTCAST_CLI_H

#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <slotcast/slotcast.h>

enum exit_code {
  EXIT_OK = 0,
  EXIT_FAILED = 1,
  EXIT_USAGE = 2,
  EXIT_NO_BROKER = 3,
  EXIT_NO_CHANNEL = 4,
  EXIT_INTERRUPTED = 130,
};

/* One command: runs with argv[0] its name. */
typedef int (*command_fn)(int argc, char **argv);
int command_run(int argc, char **argv);
int command_pub(int argc, char **argv);
int command_sub(int argc, char **argv);
int command_ls(int argc, char **argv);
int command_info(int argc, char **argv);
int command_create(int argc, char **argv);
int command_rm(int argc, char **argv);
int command_events(int argc, char **argv);
int command_bench(int argc, char **argv);

/* "slotcast: ..." on stderr, and the exit code. */
int fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a failed call of the library: its sentence, and the exit code that belongs to the status. */
int fail_status(const char *what, int status);
/* For an option that getopt has refused already with a message of its own. */
int fail_usage(const char *command);

/* A number with an optional suffix K, M or G (powers of 1,024); within the bounds, else false. */
bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number);
/* What --count is given.  EXIT_OK, or EXIT_USAGE after saying why. */
int take_count(const char *text, uint64_t *ret_count);

/* Of what memory a channel is made, and how it is mapped. */
struct memory_options {
  int backend; /* enum slc_backend; 0: as it is */
  bool prefault, lock;
  uint64_t pages;
};
enum { OPTION_MEMORY_BACKEND = 1024, OPTION_MEMORY_PAGES, OPTION_MEMORY_PREFAULT, OPTION_MEMORY_LOCK };
#define MEMORY_SHAPE_OPTIONS                                                                                           \
  {"backend", required_argument, NULL, OPTION_MEMORY_BACKEND}, {                                                       \
    "pages", required_argument, NULL, OPTION_MEMORY_PAGES                                                              \
  }
#define MEMORY_PREFAULT_OPTION                                                                                         \
  { "prefault", no_argument, NULL, OPTION_MEMORY_PREFAULT }
#define MEMORY_LOCK_OPTION                                                                                             \
  { "lock-memory", no_argument, NULL, OPTION_MEMORY_LOCK }
bool is_memory_option(int option);
/* One of those; the exit code. */
int take_memory_option(int option, const char *value, struct memory_options *ret);
/* As the options have them; `text` may be used for it. */
const char *pages_text(uint64_t pages, char text[32]);
const char *backend_text(int backend); /* "": none yet */

/* "tell" or "disconnect" as enum slc_slow_policy, else false; and back. */
bool parse_slow(const char *text, int *ret_policy);
const char *slow_name(int policy);

/* Connects, with the socket given or found as the library finds it. */
int connect_broker(const char *socket, slc_client **ret_client);

/* SIGINT and SIGTERM end the work in good order. */
void catch_interrupts(void);
bool interrupted(void);
int64_t now_ns(void);

/* What has gone through, shown while it does on a terminal, and summed up in the end. */
struct progress {
  const char *verb; /* "published", "received" */
  bool is_quiet;
  bool is_live;
  int damage;           /* why something was skipped, enum slc_status; 0: nothing was */
  int64_t begun, shown; /* ns */
  uint64_t messages, bytes;
};
void progress_begin(struct progress *progress, const char *verb, bool is_quiet);
void progress_add(struct progress *progress, uint64_t bytes);
void progress_end(struct progress *progress, const char *more);
/* "1.25 GiB" */
const char *human_bytes(double bytes, char text[32]);

enum {
  WAIT_SLICE_NS = 100000000, /* between two looks at whether we were interrupted */
  SILENCE_NS = 1000000000    /* between two looks at whether a broker that says nothing is there */
};

#endif

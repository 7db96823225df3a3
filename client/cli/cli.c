/* What the commands share.  Thread: main. */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SHOW_EVERY_NS = 200000000 };

int fail(int exit_code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("slotcast: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return exit_code;
}

int fail_status(const char *what, int status) {
  int code = status == SLC_NO_BROKER || status == SLC_BROKER_GONE ? EXIT_NO_BROKER
             : status == SLC_NOT_FOUND                            ? EXIT_NO_CHANNEL
                                                                  : EXIT_FAILED;
  return fail(code, "%s: %s", what, slc_error_detail());
}

int fail_usage(const char *command) {
  fprintf(stderr, "Try 'slotcast %s --help'.\n", command);
  return EXIT_USAGE;
}

bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number) {
  static const char suffixes[] = "KMG";
  char *end;
  if (text[0] < '0' || text[0] > '9') return false;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  if (errno != 0) return false;
  const char *suffix = *end != '\0' ? strchr(suffixes, *end) : NULL;
  if (suffix != NULL) {
    unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);
    if (number > UINT64_MAX >> shift) return false;
    number <<= shift;
    end++;
  }
  if (*end != '\0' || number < min || number > max) return false;
  *ret_number = number;
  return true;
}

int take_count(const char *text, uint64_t *ret_count) {
  if (parse_number(text, 1, UINT64_MAX, ret_count)) return EXIT_OK;
  return fail(EXIT_USAGE, "--count takes a number from 1 on, not '%s'", text);
}

bool parse_slow(const char *text, int *ret_policy) {
  bool is_disconnect = strcmp(text, slow_name(SLC_SLOW_DISCONNECT)) == 0;
  *ret_policy = is_disconnect ? SLC_SLOW_DISCONNECT : SLC_SLOW_TELL;
  return is_disconnect || strcmp(text, slow_name(SLC_SLOW_TELL)) == 0;
}

const char *slow_name(int policy) {
  return policy == SLC_SLOW_DISCONNECT ? "disconnect" : "tell";
}

int connect_broker(const char *socket, slc_client **ret_client) {
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.socket = socket;
  int status = slc_client_open(&options, ret_client);
  return status == SLC_OK ? EXIT_OK : fail_status("cannot connect", status);
}

/* ---- interruption ---- */

static volatile sig_atomic_t was_interrupted;

/* A read or write that began just after a look at the flag would block regardless; the alarms that follow interrupt it,
 * too. */
static void on_interrupt(int number) {
  (void)number;
  was_interrupted = 1;
  alarm(1);
}

void catch_interrupts(void) {
  struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: a blocked call is to return */
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGALRM, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
}

bool interrupted(void) {
  return was_interrupted != 0;
}

int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- progress ---- */

const char *human_bytes(double bytes, char text[32]) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; unit++) bytes /= 1024;
  snprintf(text, 32, unit == 0 ? "%.0f %s" : "%.2f %s", bytes, units[unit]);
  return text;
}

void progress_begin(struct progress *progress, const char *verb, bool is_quiet) {
  *progress = (struct progress){.verb = verb, .is_quiet = is_quiet, .is_live = !is_quiet && isatty(STDERR_FILENO) == 1};
}

static void progress_show(struct progress *progress, int64_t now) {
  char bytes[32], rate[32];
  double seconds = (double)(now - progress->begun) / 1e9;
  fprintf(stderr, "\r\033[K%s %llu messages, %s, %s/s", progress->verb, (unsigned long long)progress->messages,
          human_bytes((double)progress->bytes, bytes),
          human_bytes(seconds > 0 ? (double)progress->bytes / seconds : 0, rate));
  progress->shown = now;
}

/* The clock starts with the first message: waiting for the other side is no work. */
void progress_add(struct progress *progress, uint64_t bytes) {
  if (progress->messages == 0) progress->begun = progress->shown = now_ns();
  progress->messages++;
  progress->bytes += bytes;
  if (!progress->is_live) return;
  int64_t now = now_ns();
  if (now - progress->shown >= SHOW_EVERY_NS) progress_show(progress, now);
}

void progress_end(struct progress *progress, const char *more) {
  if (progress->is_quiet) return;
  char bytes[32], rate[32];
  double seconds = progress->messages > 0 ? (double)(now_ns() - progress->begun) / 1e9 : 0;
  fprintf(stderr, "%s%s %llu messages, %s in %.3f s: %s/s%s\n", progress->is_live ? "\r\033[K" : "", progress->verb,
          (unsigned long long)progress->messages, human_bytes((double)progress->bytes, bytes), seconds,
          human_bytes(seconds > 0 ? (double)progress->bytes / seconds : 0, rate), more);
}

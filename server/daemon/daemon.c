/* See daemon.h.  Thread: main. */
#include "daemon/daemon.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-journal.h>

/* ---- the process ---- */

static void log_to_stderr(void *ctx, enum slc__log_level level, const char *text) {
  static const char *const names[] = {"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"};
  const char *program = ctx;
  fprintf(stderr, "%s: %s: %s\n", program, names[level], text);
}

static void log_to_journal(void *ctx, enum slc__log_level level, const char *text) {
  (void)ctx;
  sd_journal_print((int)level, "%s", text);
}

void slc__daemon_log_open(const char *program, enum slc__log_target target, enum slc__log_level level) {
  bool journal =
      target == SLC__LOG_TARGET_JOURNAL || (target == SLC__LOG_TARGET_AUTO && getenv("JOURNAL_STREAM") != NULL);
  slc__log_set(journal ? log_to_journal : log_to_stderr, (void *)(uintptr_t)program, level);
}

/* The soft limit is there for programs that use select(), which we don't. */
void slc__daemon_raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void slc__daemon_ignore_signals(void) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN); /* an object beyond our own file size limit is a refusal */
}

/* ---- options ---- */

int slc__daemon_usage_error(const char *program, const char *what, const char *value) {
  fprintf(stderr, "%s: %s: %s (see %s --help)\n", program, what, value, program);
  return SLC__EXIT_USAGE;
}

bool slc__daemon_parse_number(const char *text, int base, uint64_t max, uint64_t *ret) {
  char *end;
  if (text[0] < '0' || text[0] > '9') return false;
  errno = 0;
  unsigned long long value = strtoull(text, &end, base);
  if (errno != 0 || *end != '\0' || value > max) return false;
  *ret = value;
  return true;
}

bool slc__daemon_choose(const char *text, const char *const *names, int *ret) {
  for (int i = 0; names[i] != NULL; i++) {
    if (strcmp(text, names[i]) != 0) continue;
    *ret = i;
    return true;
  }
  return false;
}

bool slc__daemon_runtime_path(const char *name, char *path, size_t size) {
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  bool is_set = runtime != NULL && runtime[0] != '\0';
  int length = snprintf(path, size, "%s/slotcast/%s", is_set ? runtime : "/run", name);
  return length > 0 && (size_t)length < size;
}

int slc__daemon_take_mode(const char *program, const char *text, mode_t *ret) {
  uint64_t mode;
  if (!slc__daemon_parse_number(text, 8, 0777, &mode))
    return slc__daemon_usage_error(program, "--socket-mode takes an octal number up to 0777", text);
  *ret = (mode_t)mode;
  return 0;
}

int slc__daemon_take_group(const char *program, const char *name, gid_t *ret) {
  const struct group *group = getgrnam(name);
  if (group == NULL) return slc__daemon_usage_error(program, "--socket-group: there is no such group", name);
  *ret = group->gr_gid;
  return 0;
}

int slc__daemon_take_log_level(const char *program, const char *text, enum slc__log_level *ret) {
  static const char *const levels[] = {"error", "warning", "notice", "info", "debug", NULL};
  int choice;
  if (!slc__daemon_choose(text, levels, &choice))
    return slc__daemon_usage_error(program, "--log-level is error .. debug", text);
  *ret = (enum slc__log_level)(SLC__LOG_ERROR + choice);
  return 0;
}

int slc__daemon_take_log_target(const char *program, const char *text, enum slc__log_target *ret) {
  static const char *const targets[] = {"auto", "stderr", "journal", NULL};
  int choice;
  if (!slc__daemon_choose(text, targets, &choice))
    return slc__daemon_usage_error(program, "--log-target is auto, stderr or journal", text);
  *ret = (enum slc__log_target)choice;
  return 0;
}

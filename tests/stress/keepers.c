/* See keepers.h.  The broker is given a file as its stderr, which nobody else writes to: its size before something was
 * started separates what was said of it from what was said of its predecessor.  Single-threaded. */
#include "keepers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the log ---- */

static long log_size(const struct keepers *keepers) {
  return (long)lseek(keepers->log, 0, SEEK_END);
}

static bool was_said(const struct keepers *keepers, long since, const char *text) {
  long size = log_size(keepers) - since;
  char *log = calloc(1, (size_t)size + 1);
  assert_non_null(log);
  ssize_t length = pread(keepers->log, log, (size_t)size, since);
  bool found = length > 0 && strstr(log, text) != NULL;
  free(log);
  return found;
}

/* Calls `launch` with the log in the place of stderr. */
static void launch_logged(struct keepers *keepers, void (*launch)(struct keepers *keepers)) {
  assert_int_equal(dup2(keepers->log, STDERR_FILENO), STDERR_FILENO);
  launch(keepers);
  assert_int_equal(dup2(keepers->own, STDERR_FILENO), STDERR_FILENO);
}

static bool is_up_to_date(const struct keepers *keepers, int number) {
  char text[160];
  snprintf(text, sizeof text, "%s keeps the broker's records", keepers->broker->shadows[number].socket);
  return was_said(keepers, keepers->since[number], text);
}

/* How many are up to date with the present broker. */
static int look(struct keepers *keepers) {
  int count = 0;
  for (int i = 0; i < keepers->broker->shadow_count; i++) {
    if (!is_up_to_date(keepers, i)) continue;
    keepers->has_all[i] = true;
    count++;
  }
  return count;
}

static bool has_anyone_all(struct keepers *keepers) {
  look(keepers);
  for (int i = 0; i < keepers->broker->shadow_count; i++)
    if (keepers->has_all[i]) return true;
  return false;
}

/* ---- what happens to them ---- */

static int shadows_wanted;

static void start(struct keepers *keepers) {
  test_broker_start_shadowed(keepers->broker, shadows_wanted, NULL);
}

static void resume(struct keepers *keepers) {
  test_broker_resume(keepers->broker);
}

static void nothing(void) {}

void keepers_start(struct keepers *keepers, struct test_broker *broker, int shadows) {
  *keepers = (struct keepers){.broker = broker, .log = memfd_create("log", MFD_CLOEXEC)};
  keepers->own = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
  assert_true(keepers->log >= 0 && keepers->own >= 0);
  assert_int_equal(fcntl(keepers->log, F_SETFL, O_APPEND), 0);
  shadows_wanted = shadows;
  launch_logged(keepers, start);
  keepers_settle(keepers, nothing);
  for (int i = 0; i < shadows; i++) keepers->descriptors[i] = test_descriptors_of(broker->shadows[i].pid);
}

void keepers_settle(struct keepers *keepers, void (*meanwhile)(void)) {
  while (look(keepers) < keepers->broker->shadow_count) {
    meanwhile();
    sched_yield();
  }
}

static void revive(struct keepers *keepers) {
  test_broker_revive(keepers->broker);
}

static void begin_anew(struct keepers *keepers, void (*launch)(struct keepers *keepers)) {
  for (int i = 0; i < keepers->broker->shadow_count; i++) keepers->since[i] = log_size(keepers);
  launch_logged(keepers, launch);
}

void keepers_revive_broker(struct keepers *keepers) {
  test_broker_kill(keepers->broker);
  begin_anew(keepers, revive);
}

void keepers_broker_is_dead(struct keepers *keepers) {
  begin_anew(keepers, resume);
}

void keepers_shadow_is_dead(struct keepers *keepers, int number) {
  keepers->has_all[number] = false;
  keepers->since[number] = log_size(keepers);
  test_shadow_restart(&keepers->broker->shadows[number]);
}

bool keepers_is_up_to_date(const struct keepers *keepers, int number) {
  return is_up_to_date(keepers, number);
}

void keepers_kill_broker(struct keepers *keepers, void (*meanwhile)(void)) {
  while (!has_anyone_all(keepers)) {
    meanwhile();
    sched_yield();
  }
  test_broker_kill(keepers->broker);
  begin_anew(keepers, resume);
}

void keepers_kill_shadow(struct keepers *keepers, int number, void (*meanwhile)(void)) {
  keepers_settle(keepers, meanwhile);
  test_shadow_kill(&keepers->broker->shadows[number]);
  keepers_shadow_is_dead(keepers, number);
}

void keepers_nothing_left(const struct keepers *keepers) {
  for (int i = 0; i < keepers->broker->shadow_count; i++) {
    while (test_descriptors_of(keepers->broker->shadows[i].pid) != keepers->descriptors[i]) sched_yield();
  }
}

void keepers_finish(struct keepers *keepers) {
  close(keepers->log);
  close(keepers->own);
}

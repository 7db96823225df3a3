/* See shadow.h. */
#include "support/shadow.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/daemon.h"

#define SOCKET_NAME "shadow.sock"
enum { FIXED_ARGUMENTS = 3, ARGUMENTS_MAX = 16 };

static void launch(struct test_shadow *shadow) {
  const char *arguments[ARGUMENTS_MAX + 1] = {test_program("slotcast-shadow"), "--socket", shadow->socket};
  int count = FIXED_ARGUMENTS;
  for (int i = 0; shadow->options != NULL && shadow->options[i] != NULL; i++) {
    if (count == ARGUMENTS_MAX) test_give_up("too many options for a shadow");
    arguments[count++] = shadow->options[i];
  }
  shadow->pid = test_daemon_launch(arguments, shadow->directory, SOCKET_NAME);
}

void test_shadow_start(struct test_shadow *shadow) {
  test_shadow_start_with(shadow, NULL);
}

void test_shadow_start_with(struct test_shadow *shadow, const char *const *options) {
  *shadow = (struct test_shadow){.directory = "/tmp/slotcast-test-XXXXXX", .options = options};
  if (mkdtemp(shadow->directory) == NULL) test_give_up("mkdtemp");
  snprintf(shadow->socket, sizeof shadow->socket, "%s/" SOCKET_NAME, shadow->directory);
  launch(shadow);
}

int test_shadow_stop(struct test_shadow *shadow) {
  if (shadow->pid == 0) return 0;
  kill(shadow->pid, SIGTERM);
  int status = test_daemon_reap(shadow->pid);
  shadow->pid = 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  fprintf(stderr, "the shadow ended with wait status 0x%x\n", (unsigned)status);
  return 1;
}

void test_shadow_kill(struct test_shadow *shadow) {
  kill(shadow->pid, SIGKILL);
  test_daemon_reap(shadow->pid);
  shadow->pid = 0;
}

void test_shadow_restart(struct test_shadow *shadow) {
  launch(shadow);
}

/* One that was killed has left its socket and its lock. */
int test_shadow_finish(struct test_shadow *shadow) {
  char lock[sizeof shadow->socket + sizeof ".lock"];
  bool was_killed = shadow->pid == 0;
  int faults = test_shadow_stop(shadow);
  snprintf(lock, sizeof lock, "%s.lock", shadow->socket);
  if (was_killed) {
    unlink(shadow->socket);
    unlink(lock);
  }
  if (rmdir(shadow->directory) == 0) return faults;
  fprintf(stderr, "the shadow left files in %s: %s\n", shadow->directory, strerror(errno));
  return faults + 1;
}

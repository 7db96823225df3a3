/* See daemon.h.
 *
 * "It listens" is seen as its socket file appearing, by inotify, beside the process's pidfd: no polling, no sleep.  The
 * program dies with the test (PR_SET_PDEATHSIG), also when the watchdog ends that.
 * Single-threaded. */
#include "support/daemon.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

_Noreturn void test_give_up(const char *what) {
  fprintf(stderr, "test support: %s: %s\n", what, strerror(errno));
  exit(TEST_STATUS_GAVE_UP);
}

const char *test_program(const char *name) {
  static char path[PATH_MAX];
  const char *directory = getenv("SLOTCAST_BIN_DIR");
  snprintf(path, sizeof path, "%s/%s", directory != NULL ? directory : SLOTCAST_TEST_BIN_DIR, name);
  return path;
}

static _Noreturn void become(const char *const *arguments, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  execv(arguments[0], (char *const *)(uintptr_t)arguments);
  fprintf(stderr, "test support: %s: %s\n", arguments[0], strerror(errno));
  _exit(127);
}

static bool socket_appeared(int watch, const char *name) {
  _Alignas(struct inotify_event) char buffer[4096];
  ssize_t length = read(watch, buffer, sizeof buffer);
  for (ssize_t at = 0; at < length;) {
    const struct inotify_event *event = (const struct inotify_event *)(const void *)(buffer + at);
    if (event->len > 0 && strcmp(event->name, name) == 0) return true;
    at += (ssize_t)(sizeof *event + event->len);
  }
  return false;
}

/* It makes its socket under another name and moves it here once it listens. */
static void socket_await(pid_t pid, int watch, const char *name) {
  int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (pidfd < 0) test_give_up("pidfd_open");
  struct pollfd fds[] = {{.fd = watch, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
  bool appeared = false;
  while (!appeared) {
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[0].revents != 0) appeared = socket_appeared(watch, name);
    if (!appeared && fds[1].revents != 0) {
      errno = ESRCH;
      test_give_up("it ended before it listened");
    }
  }
  close(pidfd);
}

pid_t test_daemon_spawn(const char *const *arguments) {
  pid_t self = getpid();
  pid_t pid = fork();
  if (pid < 0) test_give_up("fork");
  if (pid == 0) become(arguments, self);
  return pid;
}

pid_t test_daemon_launch(const char *const *arguments, const char *directory, const char *socket_name) {
  int watch = inotify_init1(IN_CLOEXEC);
  if (watch < 0 || inotify_add_watch(watch, directory, IN_MOVED_TO | IN_CREATE) < 0) test_give_up("inotify");
  pid_t pid = test_daemon_spawn(arguments);
  socket_await(pid, watch, socket_name);
  close(watch);
  return pid;
}

int test_daemon_reap(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

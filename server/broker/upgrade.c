/* See upgrade.h.
 *
 * While the old one waits it does nothing else: what it has told the new one stays so, and clients wait in their
 * sockets.  They see the end of their connections when it ends, come back to the same listening socket, which was never
 * closed, and reclaim what they have.  The lock belongs to the open file, of which both have a descriptor.
 *
 * The new one touches nothing that is shared before it was told that the old one is over.  Thread: the loop's. */
#include "broker/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"

#define VARIABLE "SLOTCAST_HANDOVER"
enum {
  PATIENCE_S = 20, /* of the old one: nobody is served meanwhile */
  STEP_S = 1,      /* within that, the watchdog is fed */
  NEW_FD = 3,
  BARRIER_US = 5 * 1000 * 1000,
};

static struct {
  char path[PATH_MAX]; /* empty: unknown */
  char **argv;
} self;

void upgrade_note(char **argv) {
  ssize_t length = readlink("/proc/self/exe", self.path, sizeof self.path - 1);
  self.path[length > 0 ? length : 0] = '\0';
  self.argv = argv;
}

static int set_patience(int socket, int seconds) {
  struct timeval patience = {.tv_sec = seconds};
  if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
      setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0)
    return SLC_OK;
  return slc__fail(SLC_SYSTEM, "cannot set a socket's time-out: %s", strerror(errno));
}

/* ---- the old one: starting the new one ---- */

static bool is_for_us_alone(const char *entry) {
  static const char *const names[] = {
      "WATCHDOG_PID=", "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=", "SLOTCAST_HANDOVER="};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (strncmp(entry, names[i], strlen(names[i])) == 0) return true;
  }
  return false;
}

/* The watchdog is that of whoever is the main process: without a pid. */
static char **environment_new(char *variable) {
  size_t count = 0, kept = 0;
  while (environ[count] != NULL) count++;
  char **environment = calloc(count + 2, sizeof(char *));
  if (environment == NULL) return NULL;
  for (size_t i = 0; i < count; i++) {
    if (!is_for_us_alone(environ[i])) environment[kept++] = environ[i];
  }
  environment[kept] = variable;
  return environment;
}

static int start(int socket, pid_t *ret_pid) {
  char variable[sizeof VARIABLE + 16];
  posix_spawn_file_actions_t actions;
  snprintf(variable, sizeof variable, VARIABLE "=%d", NEW_FD);
  SLC__CLEANUP_FREE char **environment = environment_new(variable);
  if (environment == NULL || posix_spawn_file_actions_init(&actions) != 0)
    return slc__fail(SLC_NO_MEMORY, "no memory to start another broker");
  int error = posix_spawn_file_actions_adddup2(&actions, socket, NEW_FD);
  if (error == 0) error = posix_spawn(ret_pid, self.path, &actions, NULL, self.argv, environment);
  posix_spawn_file_actions_destroy(&actions);
  if (error == 0) return SLC_OK;
  return slc__fail(slc__status_of_errno(error), "cannot start %s: %s", self.path, strerror(error));
}

/* ---- the old one: handing over ---- */

static int wait_until_ready(int socket) {
  int status = SLC_TIMED_OUT;
  for (int waited = 0; status == SLC_TIMED_OUT && waited < PATIENCE_S; waited += STEP_S) {
    sd_notify(0, "WATCHDOG=1");
    status = slc__handover_hear(socket, SLC__HANDOVER_READY);
  }
  return status;
}

static void tell_main(pid_t pid) {
  sd_notifyf(0, "MAINPID=%d", (int)pid);
}

/* The manager has to know whom it minds before we end. */
static int let_go(int socket, pid_t pid) {
  tell_main(pid);
  if (getenv("NOTIFY_SOCKET") != NULL) sd_notify_barrier(0, BARRIER_US);
  int status = slc__handover_say(socket, SLC__HANDOVER_GO);
  if (status != SLC_OK) tell_main(getpid());
  return status;
}

static int hand_over(struct broker *broker, int socket, pid_t pid) {
  struct slc__handover handover;
  slc__handover_init(&handover);
  handover.listen_fd = broker->listener.fd;
  handover.lock_fd = broker->listener.lock_fd;
  handover.is_managers = broker->options.handed != NULL && broker->options.handed->is_managers;
  int status = broker_snapshot(broker, &handover.image);
  if (status == SLC_OK) status = slc__handover_send(socket, &handover);
  slc__handover_deinit(&handover);
  if (status == SLC_OK) status = wait_until_ready(socket);
  return status == SLC_OK ? let_go(socket, pid) : status;
}

/* One that has closed its socket is about to end. */
static bool await_end(pid_t pid) {
  int pidfd = (int)syscall(SYS_pidfd_open, pid, 0U);
  struct pollfd end = {.fd = pidfd, .events = POLLIN};
  bool has_ended = pidfd >= 0 && poll(&end, 1, STEP_S * 1000) == 1;
  slc__fd_close(&pidfd);
  return has_ended;
}

/* Whatever it is doing.  How it ended tells more than that it says nothing. */
static void end_new(pid_t pid) {
  int how = 0;
  bool has_ended = await_end(pid);
  if (!has_ended) kill(pid, SIGKILL);
  while (waitpid(pid, &how, 0) < 0 && errno == EINTR) {
  }
  if (has_ended && WIFEXITED(how))
    slc__log(SLC__LOG_ERROR, "%s, started to take over, ended with status %d", self.path, WEXITSTATUS(how));
  if (has_ended && WIFSIGNALED(how))
    slc__log(SLC__LOG_ERROR, "%s, started to take over, was ended by signal %d", self.path, WTERMSIG(how));
}

int upgrade_run(struct broker *broker, pid_t *ret_pid) {
  int ends[2];
  if (self.path[0] == '\0') return slc__fail(SLC_SYSTEM, "it is not known where this program lies");
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return slc__fail(slc__status_of_errno(errno), "cannot make a pair of sockets: %s", strerror(errno));
  SLC__CLEANUP_FD int mine = ends[0];
  SLC__CLEANUP_FD int others = ends[1];
  int status = set_patience(mine, STEP_S);
  if (status == SLC_OK) status = start(others, ret_pid);
  if (status != SLC_OK) return status;
  slc__fd_close(&others);
  status = hand_over(broker, mine, *ret_pid);
  if (status != SLC_OK) end_new(*ret_pid);
  return status;
}

/* ---- the new one ---- */

/* The old one may take its time to say how it goes on. */
int upgrade_receive(struct upgrade *ret_upgrade) {
  const char *given = getenv(VARIABLE);
  *ret_upgrade = (struct upgrade){.socket = -1};
  slc__handover_init(&ret_upgrade->handover);
  if (given == NULL) return SLC_OK;
  bool is_right = strtol(given, NULL, 10) == NEW_FD && fcntl(NEW_FD, F_SETFD, FD_CLOEXEC) == 0;
  unsetenv(VARIABLE); /* what we start is not meant */
  if (!is_right) return slc__fail(SLC_INVALID, VARIABLE " is set, and nobody hands over");
  ret_upgrade->socket = NEW_FD;
  int status = set_patience(NEW_FD, PATIENCE_S);
  return status == SLC_OK ? slc__handover_receive(NEW_FD, &ret_upgrade->handover) : status;
}

int upgrade_confirm(struct upgrade *upgrade) {
  int status = slc__handover_say(upgrade->socket, SLC__HANDOVER_READY);
  if (status == SLC_OK) status = slc__handover_hear(upgrade->socket, SLC__HANDOVER_GO);
  slc__fd_close(&upgrade->socket);
  return status;
}

/* Starts and ends slotcastd and its shadows, and looks at what they leave.  Single-threaded. */
#include "support/broker.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIXED_ARGUMENTS = 5, ARGUMENTS_MAX = 16, SWEEP_MS = 1000 };
#define SOCKET_NAME "broker.sock"
#define GENERATION_SUFFIX ".generation"
#define SHM_DIRECTORY "/dev/shm"
#define SHM_PREFIX "slotcast-"

const char *test_backend(void) {
  const char *backend = getenv("SLOTCAST_TEST_BACKEND");
  return backend != NULL ? backend : "memfd";
}

/* ---- starting --------------------------------------------------------------------------------------------------- */

/* "slotcast-<session>-<serial>" or "slotcast-<session>.lock" among the broker's descriptors or the names that it has
 * now. */
static void session_take(struct test_broker *broker, const char *name) {
  if (strncmp(name, SHM_PREFIX, strlen(SHM_PREFIX)) != 0) return;
  const char *session = name + strlen(SHM_PREFIX);
  size_t length = strcspn(session, "-.");
  if (length >= sizeof broker->session) return;
  memcpy(broker->session, session, length);
  broker->session[length] = '\0';
}

static void session_find(struct test_broker *broker) {
  char path[64];
  if (broker->pid == 0 || broker->session[0] != '\0') return;
  snprintf(path, sizeof path, "/proc/%d/fd", (int)broker->pid);
  DIR *directory = opendir(path);
  if (directory == NULL) return; /* it has ended: that is told by others */
  for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    char target[PATH_MAX];
    ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
    if (length <= 0) continue;
    target[length] = '\0';
    if (strncmp(target, SHM_DIRECTORY "/", strlen(SHM_DIRECTORY "/")) == 0)
      session_take(broker, target + strlen(SHM_DIRECTORY "/"));
  }
  closedir(directory);
}

static void broker_begin(struct test_broker *broker, bool waits) {
  const char *arguments[ARGUMENTS_MAX + 1] = {test_program("slotcastd"), "--socket", broker->socket, "--backend",
                                              test_backend()};
  int count = FIXED_ARGUMENTS;
  for (int i = 0; i < broker->shadow_count; i++) {
    arguments[count++] = "--shadow";
    arguments[count++] = broker->shadows[i].socket;
  }
  for (int i = 0; broker->options != NULL && broker->options[i] != NULL; i++) {
    if (count == ARGUMENTS_MAX) test_give_up("too many options for a broker");
    arguments[count++] = broker->options[i];
  }
  broker->pid = waits ? test_daemon_launch(arguments, broker->directory, SOCKET_NAME) : test_daemon_spawn(arguments);
}

static void broker_launch(struct test_broker *broker) {
  broker_begin(broker, true);
}

void test_broker_start(struct test_broker *broker) {
  test_broker_start_with(broker, NULL);
}

void test_broker_start_with(struct test_broker *broker, const char *const *options) {
  test_broker_start_shadowed(broker, 0, options);
}

void test_broker_start_shadowed(struct test_broker *broker, int shadows, const char *const *options) {
  memset(broker, 0, sizeof *broker);
  broker->options = options;
  test_watchdog(TEST_WATCHDOG_SECONDS);
  test_leaks_note(&broker->leaks);
  for (; broker->shadow_count < shadows; broker->shadow_count++)
    test_shadow_start(&broker->shadows[broker->shadow_count]);
  snprintf(broker->directory, sizeof broker->directory, "/tmp/slotcast-test-XXXXXX");
  if (mkdtemp(broker->directory) == NULL) test_give_up("mkdtemp");
  snprintf(broker->socket, sizeof broker->socket, "%s/" SOCKET_NAME, broker->directory);
  broker_launch(broker);
  session_find(broker);
  setenv("SLOTCAST_SOCKET", broker->socket, 1);
}

/* ---- ending ----------------------------------------------------------------------------------------------------- */

static int broker_reap(struct test_broker *broker) {
  int status = test_daemon_reap(broker->pid);
  broker->pid = 0;
  return status;
}

int test_broker_stop(struct test_broker *broker) {
  if (broker->pid == 0) return 0;
  session_find(broker); /* one that keeps its memory in memfds gets names with the first channel that has some */
  kill(broker->pid, SIGTERM);
  int status = broker_reap(broker);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  fprintf(stderr, "the broker ended with wait status 0x%x\n", (unsigned)status);
  return 1;
}

void test_broker_kill(struct test_broker *broker) {
  session_find(broker);
  kill(broker->pid, SIGKILL);
  broker_reap(broker);
  broker->was_killed = true;
}

static int shm_count(const struct test_broker *broker, bool tell) {
  if (broker->session[0] == '\0') return 0;
  char mine[96];
  snprintf(mine, sizeof mine, SHM_PREFIX "%s", broker->session);
  DIR *directory = opendir(SHM_DIRECTORY);
  if (directory == NULL) test_give_up(SHM_DIRECTORY);
  int left = 0;
  for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    if (strncmp(entry->d_name, mine, strlen(mine)) != 0) continue;
    if (tell) fprintf(stderr, "the broker left " SHM_DIRECTORY "/%s\n", entry->d_name);
    left++;
  }
  closedir(directory);
  return left;
}

int test_broker_names(const struct test_broker *broker) {
  struct test_broker now = *broker;
  session_find(&now);
  return shm_count(&now, false);
}

/* Begins, which is when a broker sweeps, and ends. */
static void another_broker(void) {
  struct test_broker other = {.directory = "/tmp/slotcast-test-XXXXXX"};
  if (mkdtemp(other.directory) == NULL) test_give_up("mkdtemp");
  snprintf(other.socket, sizeof other.socket, "%s/" SOCKET_NAME, other.directory);
  broker_launch(&other);
  kill(other.pid, SIGTERM);
  broker_reap(&other);
  rmdir(other.directory);
}

/* After a kill the broker of another test may be sweeping the same session: ours leaves that to it, and its end is seen
 * by inotify.  If that one is killed in the middle of it, the next one to begin sweeps the rest.  The watchdog ends
 * what never comes. */
static void sweep_await(const struct test_broker *broker) {
  _Alignas(struct inotify_event) char buffer[4096];
  int watch = inotify_init1(IN_CLOEXEC);
  if (watch < 0 || inotify_add_watch(watch, SHM_DIRECTORY, IN_DELETE) < 0) test_give_up("inotify");
  struct pollfd deleted = {.fd = watch, .events = POLLIN};
  while (shm_count(broker, false) > 0) {
    if (poll(&deleted, 1, SWEEP_MS) == 0)
      another_broker();
    else if (read(watch, buffer, sizeof buffer) < 0)
      test_give_up("inotify");
  }
  close(watch);
}

static int shm_check(const struct test_broker *broker) {
  if (broker->was_killed) sweep_await(broker);
  return shm_count(broker, true) > 0;
}

int test_broker_restart(struct test_broker *broker) {
  broker_launch(broker);
  int faults = shm_check(broker);
  broker->was_killed = false;
  broker->session[0] = '\0';
  session_find(broker);
  return faults;
}

void test_broker_resume(struct test_broker *broker) {
  broker_launch(broker);
  broker->was_killed = false;
  session_find(broker);
}

void test_broker_revive(struct test_broker *broker) {
  broker_begin(broker, false);
  broker->was_killed = false;
}

/* The generation of its records stays on purpose. */
static int directory_remove(const struct test_broker *broker) {
  char generation[sizeof broker->socket + sizeof GENERATION_SUFFIX];
  snprintf(generation, sizeof generation, "%s" GENERATION_SUFFIX, broker->socket);
  unlink(generation);
  if (rmdir(broker->directory) == 0) return 0;
  fprintf(stderr, "the broker left files in %s: %s\n", broker->directory, strerror(errno));
  return 1;
}

/* What they kept is nobody's then: the next broker sweeps up. */
static int shadows_finish(struct test_broker *broker) {
  int faults = 0;
  if (broker->shadow_count == 0) return 0;
  for (int i = 0; i < broker->shadow_count; i++) faults += test_shadow_finish(&broker->shadows[i]);
  broker->shadow_count = 0;
  broker_launch(broker);
  faults += test_broker_stop(broker);
  broker->was_killed = true; /* as after a kill, it may be left to another one to sweep */
  return faults;
}

int test_broker_finish(struct test_broker *broker) {
  int faults = test_broker_stop(broker);
  if (broker->was_killed) { /* on the same path: it must replace the socket and sweep up after its predecessor */
    broker_launch(broker);
    faults += test_broker_stop(broker);
  }
  faults += shadows_finish(broker);
  faults += shm_check(broker);
  faults += directory_remove(broker);
  faults += test_leaks_check(&broker->leaks);
  unsetenv("SLOTCAST_SOCKET");
  test_watchdog(0);
  return faults;
}

int test_broker_setup(void **state) {
  struct test_broker *broker = malloc(sizeof *broker);
  if (broker == NULL) return -1;
  test_broker_start(broker);
  *state = broker;
  return 0;
}

int test_broker_teardown(void **state) {
  struct test_broker *broker = *state;
  int faults = test_broker_finish(broker);
  free(broker);
  return faults;
}

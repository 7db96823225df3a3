/* Every allocation, and every call of the kernel on the control path, fails once: first the first, then the second, and
 * so on until a run needs no failure; in the client library, and in the broker while it serves.
 *
 * The client of each run is a forked child, which does what scenario.c says and looks for what is left behind: memory,
 * descriptors, mappings.  The broker is one for all runs, so it has to survive each; afterwards it has as many
 * descriptors and as much memory as before, and serves a fresh client.
 *
 *   test_faults            a sample
 *   test_faults --all      every call with every error
 *
 * Single-threaded.  Runs itself again with preload.c's object in LD_PRELOAD. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/faults.h"
#include "fault/scenario.h"
#include "support/broker.h"
#include "support/check.h"

enum {
  QUIET_TRIES = 20000,
  ERRORS_MAX = 8,
  STATUS_LEFT_SOMETHING = 3,
  CALL_STRIDE = 3, /* of a sample; each error begins with another call */
  STAYS_STRIDE = 5,
};

/* What each call may say.  `harmless`: the first so many are nobody's failure, and must not be felt. */
static const struct row {
  const char *name;
  int harmless;
  int errors[ERRORS_MAX];
} rows[FAULT_CALLS] = {
    [FAULT_allocation] = {"allocation", 0, {ENOMEM}},
    [FAULT_socket] = {"socket", 0, {EMFILE, ENFILE, ENOMEM, EACCES}},
    [FAULT_socketpair] = {"socketpair", 0, {EMFILE, ENFILE, ENOMEM}},
    [FAULT_connect] = {"connect", 1, {EINTR, ECONNREFUSED, EAGAIN, EACCES, ENOENT}},
    [FAULT_accept4] = {"accept4", 3, {EINTR, EAGAIN, ECONNABORTED, EMFILE, ENFILE, ENOMEM, ENOBUFS}},
    [FAULT_sendmsg] = {"sendmsg", 4, {EINTR, EAGAIN, ENOBUFS, ETOOMANYREFS, ENOMEM, EPIPE, EMSGSIZE}},
    [FAULT_recvmsg] = {"recvmsg", 3, {EINTR, EAGAIN, ECONNRESET, ENOMEM}},
    [FAULT_send] = {"send", 2, {ENOMEM, ENOBUFS}},
    [FAULT_recv] = {"recv", 2, {EINTR, EAGAIN, ENOMEM}},
    [FAULT_getsockopt] = {"getsockopt", 0, {ENOMEM}},
    [FAULT_peerpidfd] = {"getsockopt(SO_PEERPIDFD)", 1, {ENOPROTOOPT, EMFILE, ENFILE, ENOMEM, ESRCH}},
    [FAULT_pidfd_open] = {"pidfd_open", 0, {EMFILE, ENFILE, ENOMEM, ESRCH}},
    [FAULT_memfd_create] = {"memfd_create", 1, {EINVAL, EMFILE, ENFILE, ENOMEM, EACCES}},
    [FAULT_ftruncate] = {"ftruncate", 1, {EINTR, EFBIG, ENOMEM, EPERM}},
    [FAULT_posix_fallocate] = {"posix_fallocate", 1, {EINTR, ENOSPC, ENOMEM, EOPNOTSUPP}},
    [FAULT_pwrite] = {"pwrite", 1, {EINTR, ENOSPC, ENOMEM}},
    [FAULT_fchmod] = {"fchmod", 0, {EPERM, ENOMEM}},
    [FAULT_fcntl] = {"fcntl", 0, {EMFILE, EPERM, ENOMEM}},
    [FAULT_fstat] = {"fstat", 0, {ENOMEM, EIO}},
    [FAULT_fstatfs] = {"fstatfs", 0, {ENOMEM, EIO}},
    [FAULT_mmap] = {"mmap", 0, {ENOMEM, EAGAIN, ENFILE}},
    [FAULT_madvise] = {"madvise", 0, {ENOMEM, EAGAIN}},
    [FAULT_epoll_create1] = {"epoll_create1", 0, {EMFILE, ENFILE, ENOMEM}},
    [FAULT_epoll_ctl] = {"epoll_ctl", 0, {ENOMEM, ENOSPC}},
    [FAULT_poll] = {"poll", 1, {EINTR, ENOMEM}},
    [FAULT_ppoll] = {"ppoll", 2, {EINTR, ENOMEM}},
    [FAULT_open] = {"open", 0, {EMFILE, ENFILE, ENOMEM, EACCES, ENOSPC}},
    [FAULT_opendir] = {"opendir", 0, {EMFILE, ENOMEM}},
    [FAULT_read] = {"read", 2, {EINTR, EIO}},
    [FAULT_readlink] = {"readlink", 0, {ENOMEM}},
    [FAULT_unlink] = {"unlink", 0, {ENOMEM}},
    [FAULT_getrandom] = {"getrandom", 0, {EINTR, ENOSYS}},
    [FAULT_getrlimit] = {"getrlimit", 0, {EPERM}},
};

/* Shared with the children. */
struct shared {
  struct fault_page faults;
  struct scenario_result result;
};

static struct shared *shared;
static bool every_one;

/* What the broker has when nobody uses it but this test. */
struct standing {
  int descriptors;
  int64_t live;
};

struct world {
  struct test_broker broker;
  slc_client *client;
  struct standing quiet;
};

/* ---- one client, in a child ------------------------------------------------------------------------------------- */

static void arm(struct fault_target *target, const struct fault_plan *plan) {
  atomic_store(&target->armed, 0);
  atomic_store(&target->fired, 0);
  target->where[0] = '\0';
  for (int i = 0; i < FAULT_CALLS; i++) atomic_store(&target->calls[i], 0);
  if (plan == NULL) return;
  target->plan = *plan;
  atomic_store(&target->armed, 1);
}

static int live_check(int64_t before, int64_t after) {
  if (after == before) return 0;
  fprintf(stderr, "the client left %lld allocations\n", (long long)(after - before));
  return 1;
}

static _Noreturn void child_run(const struct fault_plan *plan) {
  struct fault_target *target = &shared->faults.client;
  struct test_leaks leaks;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  test_leaks_note(&leaks);
  atomic_store(&target->pid, getpid());
  int64_t live = atomic_load(&target->live);
  arm(target, plan);
  scenario_run(&shared->result);
  atomic_store(&target->armed, 0);
  int faults = live_check(live, atomic_load(&target->live)) + test_leaks_check(&leaks);
  _exit(faults == 0 ? 0 : STATUS_LEFT_SOMETHING);
}

/* 0: the child ended well, whatever the library told it. */
static int client_run(const struct fault_plan *plan) {
  pid_t pid = fork();
  if (pid == 0) child_run(plan);
  assert_true(pid > 0);
  int status = 0;
  pid_t ended;
  do ended = waitpid(pid, &status, 0);
  while (ended < 0 && errno == EINTR);
  atomic_store(&shared->faults.client.pid, 0);
  if (status == 0) return 0;
  fprintf(stderr, "the client ended with wait status %#x\n", (unsigned)status);
  return 1;
}

/* ---- the broker ------------------------------------------------------------------------------------------------- */

static int broker_descriptors(const struct world *world) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)world->broker.pid);
  DIR *directory = opendir(path);
  assert_non_null(directory);
  int count = 0;
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}

static struct standing broker_standing(const struct world *world) {
  return (struct standing){broker_descriptors(world), atomic_load(&shared->faults.broker.live)};
}

static int broker_alive(const struct world *world) {
  int status = 0;
  if (waitpid(world->broker.pid, &status, WNOHANG) == 0) return 0;
  fprintf(stderr, "the broker ended with wait status %#x\n", (unsigned)status);
  return 1;
}

/* How many channels the broker has, asked until it answers: a fault may close the connection of this test, too.
 * Negative: it has ended. */
static int broker_channels(struct world *world) {
  for (;;) {
    slc_channel_info *channels = NULL;
    size_t count = 0;
    int status = world->client != NULL ? 0 : slc_client_open(NULL, &world->client);
    if (status == 0) status = slc_channel_list(world->client, &channels, &count);
    if (status == 0) {
      slc_channel_list_free(channels, count);
      return (int)count;
    }
    slc_client_close(world->client);
    world->client = NULL;
    if (broker_alive(world) != 0) return -1;
  }
}

/* The broker hears of the end of processes and connections in its own time; each question gives it some.  What has
 * ended before a question is met in the same turn of its loop at the latest, so with one question more it is done. */
static int broker_forget_all(struct world *world) {
  int channels = 1;
  for (int i = 0; i < QUIET_TRIES && channels > 0; i++) channels = broker_channels(world);
  if (channels > 0) fprintf(stderr, "the broker still has %d channels of processes that have ended\n", channels);
  return channels != 0 || broker_channels(world) != 0;
}

static int broker_as_before(struct world *world) {
  struct standing now = broker_standing(world);
  for (int i = 0; i < QUIET_TRIES; i++) {
    if (now.descriptors == world->quiet.descriptors && now.live == world->quiet.live) return 0;
    if (broker_channels(world) < 0) return 1;
    now = broker_standing(world);
  }
  fprintf(stderr, "the broker has %d descriptors where it had %d, and %lld allocations more\n", now.descriptors,
          world->quiet.descriptors, (long long)(now.live - world->quiet.live));
  return 1;
}

/* ---- one step --------------------------------------------------------------------------------------------------- */

static bool is_harmless(const struct fault_plan *plan) {
  const struct row *row = &rows[plan->call];
  for (int i = 0; i < row->harmless; i++)
    if (row->errors[i] == plan->error) return !plan->stays;
  return false;
}

/* A failure is a status with a name and a sentence; one that nobody should feel is none. */
static int result_check(const struct fault_plan *plan) {
  const struct scenario_result *result = &shared->result;
  if (result->status == 0) return 0;
  bool is_told = result->status < 0 && slc_status_name(result->status)[0] != '?' && result->detail[0] != '\0';
  if (is_told && result->status != SLC_TIMED_OUT && (plan == NULL || !is_harmless(plan))) return 0;
  fprintf(stderr, "\"%s\" gave %d %s: \"%s\"\n", result->step, result->status, slc_status_name(result->status),
          result->detail);
  return 1;
}

static void tell(const char *who, const struct fault_target *target, const struct fault_plan *plan) {
  fprintf(stderr, "... when in the %s %s number %u%s failed with %s, at %s; the client's result: %d at \"%s\": %s\n",
          who, rows[plan->call].name, plan->number, plan->stays ? " and all later ones" : "",
          strerrorname_np(plan->error), target->where, shared->result.status, shared->result.step,
          shared->result.detail);
}

static int fresh_client(void) {
  int faults = client_run(NULL);
  if (shared->result.status == 0) return faults;
  fprintf(stderr, "a fresh client got %s at \"%s\": %s\n", slc_status_name(shared->result.status), shared->result.step,
          shared->result.detail);
  return faults + 1;
}

/* True: there was such a call. */
static bool client_step(struct world *world, const struct fault_plan *plan) {
  struct fault_target *target = &shared->faults.client;
  int faults = client_run(plan);
  faults += result_check(plan);
  bool fired = atomic_load(&target->fired) > 0;
  if (!fired && shared->result.status != 0) faults++;
  faults += broker_alive(world);
  if (faults != 0) tell("client", target, plan);
  assert_int_equal(faults, 0);
  return fired;
}

static bool broker_step(struct world *world, const struct fault_plan *plan) {
  struct fault_target *target = &shared->faults.broker;
  arm(target, plan);
  int faults = client_run(NULL);
  struct scenario_result result = shared->result;
  if (plan->stays) atomic_store(&target->armed, 0);
  faults += result_check(plan) + broker_forget_all(world);
  atomic_store(&target->armed, 0);
  bool fired = atomic_load(&target->fired) > 0;
  if (!fired && result.status != 0) faults++;
  if (faults == 0) faults += fresh_client() + broker_forget_all(world) + broker_as_before(world);
  if (faults != 0) tell("broker", target, plan);
  assert_int_equal(faults, 0);
  return fired;
}

/* ---- all steps -------------------------------------------------------------------------------------------------- */

typedef bool (*step_fn)(struct world *world, const struct fault_plan *plan);

static uint32_t step_through(struct world *world, step_fn step, struct fault_plan plan, uint32_t stride) {
  uint32_t steps = 0;
  while (step(world, &plan)) {
    plan.number += stride;
    steps++;
  }
  return steps;
}

/* What is used up stays so for a while.  (A broker that can't accept, or a process that can't poll, waits until it can;
 * a doorbell that the kernel never has a byte for stays silent.) */
static bool may_stay(const struct fault_plan *plan) {
  if (plan->call == FAULT_accept4 || plan->call == FAULT_poll || plan->call == FAULT_ppoll || plan->call == FAULT_send)
    return false;
  return plan->error == ENOMEM || plan->error == EMFILE || plan->error == ENOSPC;
}

static uint32_t step_errors(struct world *world, step_fn step, enum fault_call call, uint32_t stride) {
  uint32_t steps = 0;
  for (uint32_t i = 0; i < ERRORS_MAX && rows[call].errors[i] != 0; i++) {
    struct fault_plan plan = {.call = call, .number = i % stride, .error = rows[call].errors[i]};
    steps += step_through(world, step, plan, stride);
    plan.stays = 1;
    if (may_stay(&plan)) steps += step_through(world, step, plan, stride);
  }
  return steps;
}

static void step_calls(struct world *world, step_fn step) {
  uint32_t steps = 0, stride = every_one ? 1 : CALL_STRIDE;
  for (int call = FAULT_allocation + 1; call < FAULT_CALLS; call++)
    steps += step_errors(world, step, (enum fault_call)call, stride);
  print_message("%u steps\n", steps);
  assert_true(steps > 50);
}

static void step_allocations(struct world *world, step_fn step) {
  struct fault_plan plan = {.call = FAULT_allocation, .error = ENOMEM};
  uint32_t steps = step_through(world, step, plan, 1);
  plan.stays = 1;
  steps += step_through(world, step, plan, every_one ? 1 : STAYS_STRIDE);
  print_message("%u steps\n", steps);
  assert_true(steps > 20);
}

static void test_client_allocations(void **state) {
  step_allocations(*state, client_step);
}

static void test_client_calls(void **state) {
  step_calls(*state, client_step);
}

static void test_broker_allocations(void **state) {
  step_allocations(*state, broker_step);
}

static void test_broker_calls(void **state) {
  step_calls(*state, broker_step);
}

/* ---- setup ------------------------------------------------------------------------------------------------------ */

/* What is made once and kept (by libraries, in tables that only grow) is made before anything is counted. */
static int world_setup(void **state) {
  struct world *world = calloc(1, sizeof *world);
  if (world == NULL) return -1;
  *state = world;
  test_broker_start(&world->broker);
  test_watchdog(every_one ? 3000 : 100);
  atomic_store(&shared->faults.broker.pid, world->broker.pid);
  arm(&shared->faults.broker, NULL);
  for (int i = 0; i < 3; i++) {
    if (fresh_client() + broker_forget_all(world) != 0) return -1;
  }
  world->quiet = broker_standing(world);
  return broker_as_before(world);
}

static int world_teardown(void **state) {
  struct world *world = *state;
  slc_client_close(world->client);
  int faults = test_broker_finish(&world->broker);
  atomic_store(&shared->faults.broker.pid, 0);
  free(world);
  return faults;
}

/* The page lies in a memfd that the broker finds below /proc. */
static int shared_make(void) {
  char path[64];
  int fd = memfd_create("faults", 0);
  if (fd < 0 || ftruncate(fd, sizeof *shared) != 0) return -1;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), fd);
  return setenv(FAULTS_VARIABLE, path, 1);
}

static _Noreturn void run_preloaded(char **argv) {
  const char *options = getenv("ASAN_OPTIONS");
  char asan[512];
  snprintf(asan, sizeof asan, "%s:verify_asan_link_order=0", options != NULL ? options : "");
  if (shared_make() != 0 || setenv("LD_PRELOAD", SLOTCAST_FAULTS_OBJECT, 1) != 0 ||
      setenv("ASAN_OPTIONS", asan, 1) != 0)
    exit(TEST_STATUS_GAVE_UP);
  execv("/proc/self/exe", argv);
  exit(TEST_STATUS_GAVE_UP);
}

int main(int argc, char **argv) {
  const char *path = getenv(FAULTS_VARIABLE);
  if (path == NULL) run_preloaded(argv);
  every_one = argc > 1 && strcmp(argv[1], "--all") == 0;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return TEST_STATUS_GAVE_UP;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (shared == MAP_FAILED) return TEST_STATUS_GAVE_UP;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_client_allocations, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_client_calls, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_broker_allocations, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_broker_calls, world_setup, world_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

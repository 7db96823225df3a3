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
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/plan.h"
#include "fault/scenario.h"
#include "fault/watched.h"

enum { STATUS_LEFT_SOMETHING = 3 };

/* Shared with the children. */
static struct scenario_result *result;

/* ---- one client, in a child ------------------------------------------------------------------------------------- */

static int live_check(int64_t before, int64_t after) {
  if (after == before) return 0;
  fprintf(stderr, "the client left %lld allocations\n", (long long)(after - before));
  return 1;
}

static _Noreturn void child_run(const struct fault_plan *plan) {
  struct fault_target *target = &fault_page->client;
  struct test_leaks leaks;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  test_leaks_note(&leaks);
  atomic_store(&target->pid, getpid());
  int64_t live = atomic_load(&target->live);
  fault_arm(target, plan);
  scenario_run(result);
  fault_disarm(target);
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
  atomic_store(&fault_page->client.pid, 0);
  if (status == 0) return 0;
  fprintf(stderr, "the client ended with wait status %#x\n", (unsigned)status);
  return 1;
}

/* ---- one step --------------------------------------------------------------------------------------------------- */

/* A failure is a status with a name and a sentence; one that nobody should feel is none. */
static int result_check(const struct fault_plan *plan) {
  if (result->status == 0) return 0;
  bool is_told = result->status < 0 && slc_status_name(result->status)[0] != '?' && result->detail[0] != '\0';
  if (is_told && (plan == NULL || !fault_is_harmless(plan))) return 0;
  fprintf(stderr, "\"%s\" gave %d %s: \"%s\"\n", result->step, result->status, slc_status_name(result->status),
          result->detail);
  return 1;
}

static void tell(const char *who, const struct fault_target *target, const struct fault_plan *plan) {
  fprintf(stderr, "the client's result: %d at \"%s\": %s\n", result->status, result->step, result->detail);
  fault_tell(who, target, plan);
}

static int fresh_client(void) {
  int faults = client_run(NULL);
  if (result->status == 0) return faults;
  fprintf(stderr, "a fresh client got %s at \"%s\": %s\n", slc_status_name(result->status), result->step,
          result->detail);
  return faults + 1;
}

/* True: there was such a call. */
static bool client_step(void *ctx, const struct fault_plan *plan) {
  const struct watched *watched = ctx;
  struct fault_target *target = &fault_page->client;
  int faults = client_run(plan);
  faults += result_check(plan);
  bool fired = atomic_load(&target->fired) > 0;
  if (!fired && result->status != 0) faults++;
  faults += watched_alive(watched);
  if (faults != 0) tell("client", target, plan);
  assert_int_equal(faults, 0);
  return fired;
}

static bool broker_step(void *ctx, const struct fault_plan *plan) {
  struct watched *watched = ctx;
  struct fault_target *target = &fault_page->broker;
  fault_arm(target, plan);
  int faults = client_run(NULL);
  bool failed = result->status != 0;
  if (plan->stays) fault_disarm(target);
  faults += result_check(plan) + watched_forget_others(watched);
  fault_disarm(target);
  bool fired = atomic_load(&target->fired) > 0;
  if (!fired && failed) faults++;
  if (faults == 0) faults += fresh_client() + watched_forget_others(watched) + watched_as_before(watched);
  if (faults != 0) tell("broker", target, plan);
  assert_int_equal(faults, 0);
  return fired;
}

static void test_client_allocations(void **state) {
  fault_step_allocations(*state, client_step, 20);
}

static void test_client_calls(void **state) {
  fault_step_calls(*state, client_step, 50);
}

static void test_broker_allocations(void **state) {
  fault_step_allocations(*state, broker_step, 20);
}

static void test_broker_calls(void **state) {
  fault_step_calls(*state, broker_step, 50);
}

/* ---- setup ------------------------------------------------------------------------------------------------------ */

/* What is made once and kept (by libraries, in tables that only grow) is made before anything is counted. */
static int setup(void **state) {
  struct watched *watched = malloc(sizeof *watched);
  if (watched == NULL) return -1;
  *state = watched;
  watched_start(watched);
  for (int i = 0; i < 3; i++) {
    if (fresh_client() + watched_forget_others(watched) != 0) return -1;
  }
  return watched_note(watched);
}

static int teardown(void **state) {
  struct watched *watched = *state;
  int faults = watched_finish(watched);
  free(watched);
  return faults;
}

int main(int argc, char **argv) {
  fault_begin(argc, argv);
  result = mmap(NULL, sizeof *result, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (result == MAP_FAILED) return TEST_STATUS_GAVE_UP;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_client_allocations, setup, teardown),
      cmocka_unit_test_setup_teardown(test_client_calls, setup, teardown),
      cmocka_unit_test_setup_teardown(test_broker_allocations, setup, teardown),
      cmocka_unit_test_setup_teardown(test_broker_calls, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

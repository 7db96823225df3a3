/* The fork guard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard.h"
#include "slotcast/status.h"

static int child_status(pid_t child) {
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_guard_same_process(void **state) {
  (void)state;
  struct slc__guard first, second;
  assert_int_equal(slc__guard_init(&first), 0);
  assert_int_equal(slc__guard_init(&second), 0);
  assert_false(slc__guard_forked(&first));
  assert_int_equal(first.value, second.value);
  uint8_t instance[16], again[16];
  slc__guard_instance(instance);
  slc__guard_instance(again);
  assert_memory_equal(instance, again, sizeof instance);
  assert_int_equal(slc__guard_fail(), SLC_FORKED);
}

/* In a child of each generation: the handles of all ancestors are foreign, its own is not, its instance is new. */
static int generation_check(const struct slc__guard *inherited, int count, const uint8_t *instance) {
  struct slc__guard own;
  uint8_t own_instance[16];
  for (int i = 0; i < count; i++)
    if (!slc__guard_forked(&inherited[i])) return 1;
  if (slc__guard_init(&own) != 0 || slc__guard_forked(&own)) return 2;
  for (int i = 0; i < count; i++)
    if (!slc__guard_forked(&inherited[i])) return 3;
  slc__guard_instance(own_instance);
  return memcmp(own_instance, instance, sizeof own_instance) == 0 ? 4 : 0;
}

static void test_guard_child_and_grandchild(void **state) {
  (void)state;
  struct slc__guard guards[2];
  uint8_t instance[16];
  assert_int_equal(slc__guard_init(&guards[0]), 0);
  slc__guard_instance(instance);
  pid_t child = fork();
  if (child == 0) {
    int failed = generation_check(guards, 1, instance);
    if (failed == 0) failed = slc__guard_init(&guards[1]) == 0 ? 0 : 5;
    slc__guard_instance(instance);
    pid_t grandchild = fork();
    if (grandchild == 0) _exit(generation_check(guards, 2, instance));
    int status = 0;
    waitpid(grandchild, &status, 0);
    if (failed == 0 && status != 0) failed = 10 + WEXITSTATUS(status);
    if (failed == 0 && slc__guard_forked(&guards[1])) failed = 6;
    _exit(failed);
  }
  assert_int_equal(child_status(child), 0);
  assert_false(slc__guard_forked(&guards[0]));
}

/* Where pthread_atfork handlers don't run. */
static void test_guard_raw_clone(void **state) {
  (void)state;
  struct slc__guard guard;
  assert_int_equal(slc__guard_init(&guard), 0);
  pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
  if (child == 0) _exit(slc__guard_forked(&guard) ? 0 : 1);
  assert_int_equal(child_status(child), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_guard_same_process),
      cmocka_unit_test(test_guard_child_and_grandchild),
      cmocka_unit_test(test_guard_raw_clone),
  };
  return cmocka_run_group_tests_name("client_guard", tests, NULL, NULL);
}

/* Many publishers and subscribers, a process each, in every combination: each message is checked, each loss counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "roles.h"

/* The machine may be slow: then the rest of the matrix is left out, and the test says so. */
static const int64_t budget_ns = 120 * SLC__NS_PER_S;

enum { MESSAGES = 100000, MESSAGES_CROWDED = 30000 };

static pid_t start(void (*role)(struct roles *, uint32_t), struct roles *roles, uint32_t number) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    role(roles, number);
    _exit(0);
  }
  return pid;
}

static void run(const struct roles_shape *shape) {
  static struct roles roles;
  pid_t children[2 * ROLES_MAX];
  uint32_t count = 0;
  int64_t began = slc__clock_ns();
  roles_init(&roles, shape);
  for (uint32_t i = 0; i < shape->subscribers; i++) children[count++] = start(roles_subscribe, &roles, i);
  for (uint32_t i = 0; i < shape->publishers; i++) children[count++] = start(roles_publish, &roles, i);
  for (uint32_t ended = 0; ended < count; ended++) {
    int status;
    pid_t pid = wait(&status);
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    for (uint32_t i = 0; i < count; i++) kill(children[i], SIGKILL); /* the others would wait for it for ever */
    while (wait(NULL) > 0) {
    }
    fail_msg("a child ended with status %#x", (unsigned)status);
  }
  print_message("%u -> %2u %s, %3u slots: received %llu, dropped %llu, would block %llu, %lld ms\n", shape->publishers,
                shape->subscribers, shape->reliable ? "reliable  " : "unreliable", roles.channel.geometry.slots,
                (unsigned long long)roles.shared->received, (unsigned long long)roles.shared->dropped,
                (unsigned long long)roles.shared->would_block, (long long)(slc__clock_ns() - began) / 1000000);
  roles_deinit(&roles);
}

static void run_matrix(bool reliable) {
  static const uint32_t publishers[] = {1, 2, 4, 8}, subscribers[] = {1, 4, 16};
  int64_t end = slc__clock_ns() + budget_ns;
  for (int p = 0; p < 4; p++) {
    for (int s = 0; s < 3; s++) {
      for (int roomy = 0; roomy < 2; roomy++) {
        if (slc__clock_ns() > end) {
          print_message("%u -> %u left out: out of time\n", publishers[p], subscribers[s]);
          continue;
        }
        uint64_t messages = subscribers[s] > 4 || !roomy ? MESSAGES_CROWDED : MESSAGES;
        run(&(struct roles_shape){.publishers = publishers[p],
                                  .subscribers = subscribers[s],
                                  .reliable = reliable,
                                  .roomy = roomy,
                                  .messages = messages / publishers[p]});
      }
    }
  }
}

static void test_matrix_unreliable(void **state) {
  (void)state;
  run_matrix(false);
}

static void test_matrix_reliable(void **state) {
  (void)state;
  run_matrix(true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_matrix_unreliable),
      cmocka_unit_test(test_matrix_reliable),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A real child process, run one machine instruction at a time.  It can be copied where it stands: the copy is a process
 * at the same instruction, with the same private memory, to be killed there or let go; the original goes on being
 * stepped. */
#ifndef SLC_TEST_STEP_H
#define SLC_TEST_STEP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct test_step {
  pid_t pid;
  uint64_t steps; /* instructions so far */
  bool done;      /* the work is done */
  struct test_step_page *page;
};

typedef void (*test_step_fn)(void *ctx);

/* Forks a child that has done `prepare` and stands before the first instruction of `work`.  Aborts the test on failure.
 */
void test_step_start(struct test_step *step, test_step_fn prepare, test_step_fn work, void *ctx);
/* One instruction.  False: the work is done. */
bool test_step_once(struct test_step *step);
/* So many; false: it was done before. */
bool test_step_many(struct test_step *step, uint64_t count);
/* SIGKILL where it stands, and reaped. */
void test_step_kill(struct test_step *step);
/* To the end of its work at full speed, and reaped; aborts the test unless it exits with 0. */
void test_step_finish(struct test_step *step);

/* A copy, stopped; while the work is not done. */
pid_t test_step_copy(struct test_step *step);
void test_step_copy_kill(pid_t copy);
/* Lets it go, to the end of the work; aborts the test unless it exits with 0. */
void test_step_copy_finish(pid_t copy);

#endif

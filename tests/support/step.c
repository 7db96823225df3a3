/* See step.h.  ptrace: the child stops itself with SIGSTOP before and after the work, each instruction ends in SIGTRAP.
 * Any other stop is a failure of what is tested (a crash), and ends the test. */
#include "support/step.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
  perror(what);
  abort();
}

static int wait_for_stop(struct test_step *step) {
  int status = 0;
  if (waitpid(step->pid, &status, 0) != step->pid) die("waitpid of the stepped child");
  if (WIFSTOPPED(status)) return WSTOPSIG(status);
  fprintf(stderr, "the stepped child ended with status %#x after %llu steps\n", (unsigned)status,
          (unsigned long long)step->steps);
  abort();
}

static _Noreturn void child(test_step_fn prepare, test_step_fn work, void *ctx) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prepare(ctx);
  if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) die("PTRACE_TRACEME");
  raise(SIGSTOP);
  work(ctx);
  raise(SIGSTOP);
  _exit(0);
}

void test_step_start(struct test_step *step, test_step_fn prepare, test_step_fn work, void *ctx) {
  *step = (struct test_step){.pid = fork()};
  if (step->pid < 0) die("fork");
  if (step->pid == 0) child(prepare, work, ctx);
  if (wait_for_stop(step) != SIGSTOP) die("first stop of the stepped child");
}

/* Goes on, and sees where it stopped. */
static void resume(struct test_step *step, int request) {
  if (ptrace(request, step->pid, NULL, NULL) != 0) die("ptrace");
  int signal = wait_for_stop(step);
  if (signal == SIGSTOP) {
    step->done = true;
  } else if (signal != SIGTRAP) {
    fprintf(stderr, "the stepped child got signal %d after %llu steps\n", signal, (unsigned long long)step->steps);
    abort();
  }
}

bool test_step_once(struct test_step *step) {
  if (step->done) return false;
  resume(step, PTRACE_SINGLESTEP);
  step->steps++;
  return !step->done;
}

bool test_step_many(struct test_step *step, uint64_t count) {
  while (count > 0 && test_step_once(step)) count--;
  return count == 0;
}

void test_step_run(struct test_step *step) {
  if (!step->done) resume(step, PTRACE_CONT);
}

void test_step_kill(struct test_step *step) {
  int status;
  kill(step->pid, SIGKILL);
  if (waitpid(step->pid, &status, 0) != step->pid || !WIFSIGNALED(status)) die("waitpid of the killed child");
}

void test_step_finish(struct test_step *step) {
  test_step_run(step);
  int status;
  if (ptrace(PTRACE_CONT, step->pid, NULL, NULL) != 0) die("ptrace");
  if (waitpid(step->pid, &status, 0) != step->pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fprintf(stderr, "the stepped child ended with status %#x\n", (unsigned)status);
    abort();
  }
}

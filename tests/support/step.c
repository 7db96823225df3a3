/* See step.h.  ptrace: the child stops itself with SIGSTOP before and after the work, each instruction ends in SIGTRAP.
 * Any other stop is a failure of what is tested (a crash), and ends the test.
 *
 * Copies: the tracer delivers SIGUSR1, whose handler forks (as a child of the test) and raises SIGUSR2, which is
 * blocked until the handler returns.  So the original stops for SIGUSR2 at the very instruction where it stood, and the
 * copy, which stops in its handler, will go on from there.
 *
 * On processors with load-exclusive and store-exclusive a stepped compare-and-swap never succeeds; ours are single
 * instructions (x86-64; ARM with LSE). */
#include "support/step.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Shared between the test and the child. */
struct test_step_page {
  pid_t copy;
  _Atomic pid_t done; /* who has done its work */
};

static struct test_step_page *page_of_child; /* the child's */
static bool is_copy;

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

static void expect_exit(pid_t pid, const char *who) {
  int status = 0;
  if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  fprintf(stderr, "%s ended with status %#x\n", who, (unsigned)status);
  abort();
}

static void expect_killed(pid_t pid) {
  int status;
  kill(pid, SIGKILL);
  if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)) die("waitpid of a killed child");
}

/* ---- in the child ---- */

static void make_copy(int number) {
  (void)number;
  pid_t pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    is_copy = true;
    kill(getpid(), SIGSTOP);
    return;
  }
  page_of_child->copy = pid;
  kill(getpid(), SIGUSR2);
}

static void let_copies_be_made(struct test_step_page *page) {
  struct sigaction action = {.sa_handler = make_copy};
  page_of_child = page;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGUSR2);
  sigaction(SIGUSR1, &action, NULL);
}

static _Noreturn void child(struct test_step_page *page, test_step_fn prepare, test_step_fn work, void *ctx) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  let_copies_be_made(page);
  prepare(ctx);
  if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) die("PTRACE_TRACEME");
  raise(SIGSTOP);
  work(ctx);
  page->done = getpid();
  if (is_copy) _exit(0); /* after the store: until then copies are made */
  raise(SIGSTOP);
  _exit(0);
}

/* ---- in the test ---- */

void test_step_start(struct test_step *step, test_step_fn prepare, test_step_fn work, void *ctx) {
  struct test_step_page *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) die("mmap");
  *step = (struct test_step){.pid = fork(), .page = page};
  if (step->pid < 0) die("fork");
  if (step->pid == 0) child(page, prepare, work, ctx);
  if (wait_for_stop(step) != SIGSTOP) die("first stop of the stepped child");
}

/* Goes on, and sees where it stopped. */
static void resume(struct test_step *step, int request, int signal, int expected) {
  if (ptrace(request, step->pid, NULL, (void *)(intptr_t)signal) != 0) die("ptrace");
  int stop = wait_for_stop(step);
  step->done = step->page->done == step->pid;
  if (stop == expected) return;
  fprintf(stderr, "the stepped child got signal %d after %llu steps\n", stop, (unsigned long long)step->steps);
  abort();
}

bool test_step_once(struct test_step *step) {
  if (step->done) return false;
  resume(step, PTRACE_SINGLESTEP, 0, SIGTRAP);
  step->steps++;
  return !step->done;
}

bool test_step_many(struct test_step *step, uint64_t count) {
  while (count > 0 && test_step_once(step)) count--;
  return count == 0;
}

void test_step_kill(struct test_step *step) {
  expect_killed(step->pid);
  munmap(step->page, sizeof *step->page);
}

void test_step_finish(struct test_step *step) {
  resume(step, PTRACE_CONT, 0, SIGSTOP);
  if (ptrace(PTRACE_CONT, step->pid, NULL, NULL) != 0) die("ptrace");
  expect_exit(step->pid, "the stepped child");
  munmap(step->page, sizeof *step->page);
}

pid_t test_step_copy(struct test_step *step) {
  resume(step, PTRACE_CONT, SIGUSR1, SIGUSR2);
  pid_t copy = step->page->copy;
  int status;
  if (copy <= 0 || waitpid(copy, &status, WUNTRACED) != copy || !WIFSTOPPED(status)) die("waitpid of a copy");
  return copy;
}

void test_step_copy_kill(pid_t copy) {
  expect_killed(copy);
}

void test_step_copy_finish(pid_t copy) {
  kill(copy, SIGCONT);
  expect_exit(copy, "a copy of the stepped child");
}

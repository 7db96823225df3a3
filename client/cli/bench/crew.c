/* Processes that measure together.  Invariant: every process that was forked has been waited for when crew_run returns.
 * Signals are fetched, not caught: those that end a program end the crew.  Thread: main, of each process. */
#include "crew.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

struct crew {
  pid_t pids[CREW_MAX]; /* 0: has ended */
  size_t count, running;
};

/* In memory that the crew shares: what fails for one fails for many, and one of them tells.  NULL: there is no crew. */
static _Atomic bool *is_told;

/* ---- processors ---- */

bool crew_is_pinned(const struct bench *bench, unsigned busy) {
  return busy > 0 && busy <= (unsigned)bench->processor_count;
}

static void pin(const struct bench *bench, unsigned which) {
  cpu_set_t one;
  CPU_ZERO(&one);
  for (unsigned cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &bench->processors) && seen++ == which) CPU_SET(cpu, &one);
  }
  sched_setaffinity(0, sizeof one, &one);
}

static unsigned busy_count(const struct role *roles, size_t count) {
  unsigned busy = 0;
  for (size_t i = 0; i < count; i++) busy += roles[i].is_busy ? roles[i].count : 0;
  return busy;
}

/* ---- the life of a crew ---- */

static int crew_start(struct crew *crew, const struct bench *bench, const struct role *roles, size_t count,
                      void *shared) {
  bool is_pinned = crew_is_pinned(bench, busy_count(roles, count));
  unsigned busy = 0;
  pid_t parent = getpid();
  for (size_t i = 0; i < count; i++) {
    for (unsigned number = 0; number < roles[i].count; number++) {
      if (crew->count == CREW_MAX) return fail(EXIT_USAGE, "at most %d processes measure together", CREW_MAX);
      unsigned processor = busy;
      if (roles[i].is_busy) busy++;
      pid_t pid = fork();
      if (pid < 0) return fail(EXIT_FAILED, "cannot fork: %s", strerror(errno));
      if (pid == 0) {
        session_become_child(&bench->session, parent);
        if (is_pinned && roles[i].is_busy) pin(bench, processor);
        roles[i].run(shared, number);
        _exit(EXIT_OK);
      }
      crew->pids[crew->count++] = pid;
      crew->running++;
    }
  }
  return EXIT_OK;
}

static void crew_kill(const struct crew *crew) {
  for (size_t i = 0; i < crew->count; i++) {
    if (crew->pids[i] != 0) kill(crew->pids[i], SIGKILL);
  }
}

/* A process's own exit code; one that a signal ended did not tell why. */
static int code_of(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return fail(EXIT_FAILED, "a measuring process was ended by signal %d", WTERMSIG(status));
}

/* Notes those that have ended; the first failure's code. */
static int crew_reap(struct crew *crew, int options) {
  int code = EXIT_OK;
  for (size_t i = 0; i < crew->count; i++) {
    int status;
    if (crew->pids[i] == 0 || waitpid(crew->pids[i], &status, options) != crew->pids[i]) continue;
    crew->pids[i] = 0;
    crew->running--;
    if (code == EXIT_OK) code = code_of(status);
  }
  return code;
}

/* Others' children, if somebody sees to them. */
struct tended {
  struct bench *bench;
  void *shared;
  tend_fn tend;
};

static int crew_attend(struct crew *crew, const sigset_t *fetched, const struct tended *others) {
  int code = EXIT_OK;
  while (crew->running > 0 && code == EXIT_OK) {
    int number = sigwaitinfo(fetched, NULL);
    if (number == SIGCHLD) code = crew_reap(crew, WNOHANG);
    if (number == SIGCHLD && code == EXIT_OK && others != NULL) code = others->tend(others->bench, others->shared);
    if (number > 0 && number != SIGCHLD) code = EXIT_INTERRUPTED;
  }
  return code;
}

static void crew_end(struct crew *crew) {
  crew_kill(crew);
  for (size_t i = 0; i < crew->count; i++) {
    while (crew->pids[i] != 0 && waitpid(crew->pids[i], NULL, 0) < 0 && errno == EINTR) {
    }
  }
}

static int run(const struct bench *bench, const struct role *roles, size_t count, void *shared,
               const struct tended *others) {
  struct crew crew = {.count = 0};
  is_told = shared_new(sizeof *is_told);
  if (is_told == NULL) return EXIT_FAILED;
  fflush(stdout); /* what is printed already is ours alone */
  int code = crew_start(&crew, bench, roles, count, shared);
  if (code == EXIT_OK) code = crew_attend(&crew, &bench->session.fetched, others);
  if (code != EXIT_OK) crew_end(&crew);
  shared_free(is_told, sizeof *is_told);
  is_told = NULL;
  return code;
}

int crew_run(const struct bench *bench, const struct role *roles, size_t count, void *shared) {
  return run(bench, roles, count, shared, NULL);
}
int crew_run_tended(struct bench *bench, const struct role *roles, size_t count, void *shared, tend_fn tend) {
  const struct tended others = {.bench = bench, .shared = shared, .tend = tend};
  return run(bench, roles, count, shared, &others);
}

/* The others leave the end to the first, whose exit code shall be the crew's. */
static void worker_tells(void) {
  while (is_told != NULL && atomic_exchange(is_told, true)) pause();
}
void worker_check(const char *what, int status) {
  if (status >= 0) return;
  worker_tells();
  _exit(fail_status(what, status));
}
void worker_fail(const char *what) {
  int error = errno;
  worker_tells();
  _exit(fail(EXIT_FAILED, "%s: %s", what, strerror(error)));
}

/* ---- what they share ---- */

void *shared_new(size_t size) {
  void *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared != MAP_FAILED) return shared;
  fail(EXIT_FAILED, "no memory to measure with: %s", strerror(errno));
  return NULL;
}
void shared_free(void *shared, size_t size) {
  if (shared != NULL) munmap(shared, size);
}

void word_wait(_Atomic uint32_t *word, uint32_t seen) {
  while (atomic_load_explicit(word, memory_order_acquire) == seen)
    syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}
void word_wake(_Atomic uint32_t *word) {
  syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void barrier_wait(struct barrier *barrier) {
  uint32_t round = atomic_load_explicit(&barrier->round, memory_order_acquire);
  if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) + 1 < barrier->parties) {
    word_wait(&barrier->round, round);
    return;
  }
  atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
  atomic_store_explicit(&barrier->round, round + 1, memory_order_release);
  word_wake(&barrier->round);
}

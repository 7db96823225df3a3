/* See crew.h.  Single-threaded. */
#include "crew.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

void crew_start(struct crew *crew, uint32_t number, crew_fn run) {
  assert_true(number < CREW_MAX && crew->pids[number] == 0);
  fflush(NULL); /* or the member would say it again */
  pid_t parent = getpid(), pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(CREW_FAILED);
    run(number);
    _exit(0);
  }
  crew->pids[number] = pid;
  if (crew->count <= number) crew->count = number + 1;
}

static void fail_all(struct crew *crew, uint32_t number, int status) {
  for (uint32_t i = 0; i < crew->count; i++) {
    if (crew->pids[i] == 0 || i == number) continue;
    kill(crew->pids[i], SIGKILL);
    waitpid(crew->pids[i], NULL, 0);
  }
  *crew = (struct crew){0};
  fail_msg("member %u ended with wait status %#x", number, (unsigned)status);
}

void crew_kill(struct crew *crew, uint32_t number) {
  int status;
  pid_t pid = crew->pids[number];
  assert_true(pid > 0);
  assert_int_equal(kill(pid, SIGKILL), 0);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  /* And not of what it had found itself. */
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) fail_all(crew, number, status);
  crew->pids[number] = 0;
}

void crew_look(struct crew *crew) {
  for (uint32_t i = 0; i < crew->count; i++) {
    int status;
    if (crew->pids[i] != 0 && waitpid(crew->pids[i], &status, WNOHANG) != 0) fail_all(crew, i, status);
  }
}

static uint32_t find(const struct crew *crew, pid_t pid) {
  uint32_t i = 0;
  while (i < crew->count && crew->pids[i] != pid) i++;
  return i;
}

static uint32_t living(const struct crew *crew) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < crew->count; i++) count += crew->pids[i] != 0;
  return count;
}

/* In the order in which they end: a failure is to be seen at once. */
void crew_join(struct crew *crew) {
  for (uint32_t left = living(crew); left > 0; left--) {
    int status;
    pid_t pid = waitpid(-1, &status, 0);
    assert_true(pid > 0);
    uint32_t number = find(crew, pid); /* not a member: then it is the broker that has ended */
    if (status != 0 || number == crew->count) fail_all(crew, number, status);
    crew->pids[number] = 0;
  }
  crew->count = 0;
}

/* See plan.h.  The page lies in a memfd that a preloaded process finds below /proc of this one.  Single-threaded. */
#include "fault/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/broker.h"

enum {
  ERRORS_MAX = 8,
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
    [FAULT_read] = {"read", 1, {EINTR, EIO}},
    [FAULT_readlink] = {"readlink", 0, {ENOMEM}},
    [FAULT_unlink] = {"unlink", 0, {ENOMEM}},
    [FAULT_getrandom] = {"getrandom", 0, {EINTR, ENOSYS}},
    [FAULT_getrlimit] = {"getrlimit", 0, {EPERM}},
    [FAULT_bind] = {"bind", 0, {EACCES, EADDRINUSE, ENOMEM}},
    [FAULT_listen] = {"listen", 0, {EADDRINUSE}},
    [FAULT_flock] = {"flock", 0, {ENOLCK}},
    [FAULT_rename] = {"rename", 0, {EACCES, ENOSPC}},
    [FAULT_chmod] = {"chmod", 0, {EPERM, ENOMEM}},
    [FAULT_mkdir] = {"mkdir", 0, {EACCES, ENOSPC}},
    [FAULT_stat] = {"stat", 0, {EACCES, ENOMEM}},
    [FAULT_lstat] = {"lstat", 0, {EACCES, ENOMEM}},
    [FAULT_eventfd] = {"eventfd", 0, {EMFILE, ENFILE, ENOMEM}},
    [FAULT_fork] = {"fork", 0, {EAGAIN, ENOMEM}},
    [FAULT_dup] = {"dup", 0, {EMFILE}},
    [FAULT_mkdtemp] = {"mkdtemp", 0, {EACCES, ENOSPC}},
};

struct fault_page *fault_page;
static bool every_one;

bool fault_is_all(void) {
  return every_one;
}

/* ---- one plan --------------------------------------------------------------------------------------------------- */

void fault_arm(struct fault_target *target, const struct fault_plan *plan) {
  atomic_store(&target->armed, 0);
  atomic_store(&target->fired, 0);
  target->where[0] = '\0';
  for (int i = 0; i < FAULT_CALLS; i++) atomic_store(&target->calls[i], 0);
  if (plan == NULL) return;
  target->plan = *plan;
  atomic_store(&target->armed, 1);
}

void fault_disarm(struct fault_target *target) {
  atomic_store(&target->armed, 0);
}

bool fault_is_harmless(const struct fault_plan *plan) {
  const struct row *row = &rows[plan->call];
  for (int i = 0; i < row->harmless; i++)
    if (row->errors[i] == plan->error) return !plan->stays;
  return false;
}

void fault_tell(const char *who, const struct fault_target *target, const struct fault_plan *plan) {
  fprintf(stderr, "... when in the %s %s number %u%s failed with %s, at %s\n", who, rows[plan->call].name, plan->number,
          plan->stays ? " and all later ones" : "", strerrorname_np(plan->error), target->where);
}

/* ---- all steps -------------------------------------------------------------------------------------------------- */

static uint32_t step_through(void *ctx, fault_step_fn step, struct fault_plan plan, uint32_t stride) {
  uint32_t steps = 0;
  while (step(ctx, &plan)) {
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

static uint32_t step_errors(void *ctx, fault_step_fn step, enum fault_call call, uint32_t stride) {
  uint32_t steps = 0;
  for (uint32_t i = 0; i < ERRORS_MAX && rows[call].errors[i] != 0; i++) {
    struct fault_plan plan = {.call = call, .number = i % stride, .error = rows[call].errors[i]};
    steps += step_through(ctx, step, plan, stride);
    plan.stays = 1;
    if (may_stay(&plan)) steps += step_through(ctx, step, plan, stride);
  }
  return steps;
}

/* Fewer steps than there must be: what is tested has slipped away. */
static void tell_steps(uint32_t steps, uint32_t least) {
  print_message("%u steps\n", steps);
  assert_true(steps >= least);
}

void fault_step_calls(void *ctx, fault_step_fn step, uint32_t least) {
  uint32_t steps = 0;
  for (int call = FAULT_allocation + 1; call < FAULT_CALLS; call++)
    steps += step_errors(ctx, step, (enum fault_call)call, every_one ? 1 : CALL_STRIDE);
  tell_steps(steps, least);
}

void fault_step_allocations(void *ctx, fault_step_fn step, uint32_t least) {
  struct fault_plan plan = {.call = FAULT_allocation, .error = ENOMEM};
  uint32_t steps = step_through(ctx, step, plan, 1);
  plan.stays = 1;
  steps += step_through(ctx, step, plan, every_one ? 1 : STAYS_STRIDE);
  tell_steps(steps, least);
}

/* ---- the page --------------------------------------------------------------------------------------------------- */

static int page_make(void) {
  char path[64];
  int fd = memfd_create("faults", 0);
  if (fd < 0 || ftruncate(fd, sizeof *fault_page) != 0) return -1;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), fd);
  return setenv(FAULTS_VARIABLE, path, 1);
}

static _Noreturn void run_preloaded(char **argv) {
  const char *options = getenv("ASAN_OPTIONS");
  char asan[512];
  snprintf(asan, sizeof asan, "%s:verify_asan_link_order=0", options != NULL ? options : "");
  if (page_make() == 0 && setenv("LD_PRELOAD", SLOTCAST_FAULTS_OBJECT, 1) == 0 && setenv("ASAN_OPTIONS", asan, 1) == 0)
    execv("/proc/self/exe", argv);
  exit(TEST_STATUS_GAVE_UP);
}

void fault_begin(int argc, char **argv) {
  const char *path = getenv(FAULTS_VARIABLE);
  if (path == NULL) run_preloaded(argv);
  every_one = argc > 1 && strcmp(argv[1], "--all") == 0;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *fault_page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) exit(TEST_STATUS_GAVE_UP);
  close(fd);
  fault_page = page;
}

/* See attempts.h.  An attempt gives 0 when it succeeded, the errno that it failed with, or minus the signal that it
 * died of; what could harm this process is tried in a child.  Single-threaded. */
#include "attempts.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY /* Linux 5.11 */
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif
#ifndef F_SEAL_FUTURE_WRITE /* Linux 5.1 */
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum { EXPECTED_MAX = 3, ATTEMPT_FAILED = 255 };

struct attempt {
  const char *name;
  int (*run)(const struct target *target);
  bool needs_fd;
  int expected[EXPECTED_MAX]; /* any of these; unused ones are 0, like the first where it should succeed */
};

static _Noreturn void give_up(const char *what) {
  fprintf(stderr, "rights: %s: %s\n", what, strerror(errno));
  _exit(ATTEMPT_FAILED);
}

void become(uid_t uid) {
  if (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0) give_up("setresuid");
  if (prctl(PR_SET_DUMPABLE, 1) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) give_up("prctl");
}

static int outcome(long result) {
  return result < 0 ? errno : 0;
}

static const char *own_path(int fd) {
  static char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return path;
}

static int open_outcome(const char *path, int flags) {
  int fd = open(path, flags | O_CLOEXEC);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

/* What `run` gives in a child. */
static int in_child(int (*run)(const struct target *), const struct target *target) {
  fflush(NULL);
  pid_t child = fork();
  if (child < 0) give_up("fork");
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL); /* the test framework's handlers came along */
    signal(SIGBUS, SIG_DFL);
    _exit(run(target));
  }
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) give_up("waitpid");
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- mapping ----------------------------------------------------------------------------------------------------- */

static int map_outcome(const struct target *target, int protection, int flags) {
  void *base = mmap(NULL, target->size, protection, flags, target->fd, 0);
  if (base == MAP_FAILED) return errno;
  munmap(base, target->size);
  return 0;
}

static int map_writable(const struct target *target) {
  return map_outcome(target, PROT_READ | PROT_WRITE, MAP_SHARED);
}

static int map_write_only(const struct target *target) {
  return map_outcome(target, PROT_WRITE, MAP_SHARED_VALIDATE);
}

/* Allowed, and harmless: what is written is a copy of one's own. */
static int map_private_and_write(const struct target *target) {
  uint8_t *copy = mmap(NULL, target->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, target->fd, 0);
  if (copy == MAP_FAILED) return errno;
  memset(copy, 0x5a, target->size);
  msync(copy, target->size, MS_SYNC);
  munmap(copy, target->size);
  return 0;
}

static int protect(const struct target *target) {
  return outcome(mprotect(target->base, target->size, PROT_READ | PROT_WRITE));
}

/* Length 0 maps the same shared pages a second time. */
static int protect_a_second_mapping(const struct target *target) {
  void *again = mremap(target->base, 0, target->size, MREMAP_MAYMOVE);
  if (again == MAP_FAILED) return errno;
  int result = outcome(mprotect(again, target->size, PROT_READ | PROT_WRITE));
  munmap(again, target->size);
  return result;
}

static int store_in_child(const struct target *target) {
  *(volatile uint8_t *)target->base ^= 0xff;
  return 0;
}

int attempt_store(const struct target *target) {
  return in_child(store_in_child, target);
}

static int advise_remove(const struct target *target) {
  return outcome(madvise(target->base, target->size, MADV_REMOVE));
}

static int advise_populate_write(const struct target *target) {
  return outcome(madvise(target->base, target->size, MADV_POPULATE_WRITE));
}

/* ---- reopening --------------------------------------------------------------------------------------------------- */

int attempt_reopen(const struct target *target) {
  return open_outcome(own_path(target->fd), O_RDWR);
}

static int reopen_write_only(const struct target *target) {
  return open_outcome(own_path(target->fd), O_WRONLY);
}

static int reopen_truncating(const struct target *target) {
  return open_outcome(own_path(target->fd), O_RDONLY | O_TRUNC);
}

static int reopen_by_path_descriptor(const struct target *target) {
  int path = open(own_path(target->fd), O_PATH | O_CLOEXEC);
  if (path < 0) return errno;
  int result = open_outcome(own_path(path), O_RDWR);
  close(path);
  return result;
}

static int reopen_by_map_files(const struct target *target) {
  char path[96];
  uintptr_t base = (uintptr_t)target->base;
  snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (unsigned long)base,
           (unsigned long)(base + target->size));
  return open_outcome(path, O_RDWR);
}

static int reopen_by_handle(const struct target *target) {
  struct {
    struct file_handle handle;
    unsigned char bytes[MAX_HANDLE_SZ];
  } named = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
  int mount;
  if (name_to_handle_at(target->fd, "", &named.handle, &mount, AT_EMPTY_PATH) != 0) return errno;
  int fd = open_by_handle_at(target->fd, &named.handle, O_RDWR | O_CLOEXEC);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

static bool write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  close(fd);
  return written;
}

/* Root of a user namespace of one's own has every capability there is, but not over an inode of somebody outside. */
static int reopen_as_namespace_root_in_child(const struct target *target) {
  char map[64];
  snprintf(map, sizeof map, "0 %u 1", (unsigned)geteuid());
  if (unshare(CLONE_NEWUSER) != 0) return errno;
  if (!write_file("/proc/self/uid_map", map) || geteuid() != 0) return errno;
  if (fchmod(target->fd, 0666) == 0) return 0;
  return attempt_reopen(target);
}

static int reopen_as_namespace_root(const struct target *target) {
  return in_child(reopen_as_namespace_root_in_child, target);
}

/* ---- system calls that write ------------------------------------------------------------------------------------- */

static int write_at(const struct target *target) {
  return outcome(pwrite(target->fd, "x", 1, 0));
}

static int write_after_setting_flags(const struct target *target) {
  int flags = fcntl(target->fd, F_GETFL);
  fcntl(target->fd, F_SETFL, (flags & ~O_ACCMODE) | O_RDWR);
  return write_at(target);
}

static int write_from_file(const struct target *target) {
  int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  if (zero < 0) give_up("/dev/zero");
  int result = outcome(sendfile(target->fd, zero, NULL, 4096));
  close(zero);
  return result;
}

static int write_from_pipe(const struct target *target) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0 || write(ends[1], "x", 1) != 1) give_up("pipe");
  loff_t offset = 0;
  int result = outcome(splice(ends[0], NULL, target->fd, &offset, 1, 0));
  close(ends[0]);
  close(ends[1]);
  return result;
}

static int copy_within(const struct target *target) {
  loff_t from = 0, to = (loff_t)(target->size / 2);
  return outcome(copy_file_range(target->fd, &from, target->fd, &to, 64, 0));
}

static int write_asynchronously(const struct target *target) {
  aio_context_t context = 0;
  struct iocb request = {.aio_lio_opcode = IOCB_CMD_PWRITE,
                         .aio_fildes = (uint32_t)target->fd,
                         .aio_buf = (uint64_t)(uintptr_t) "x",
                         .aio_nbytes = 1};
  struct iocb *requests[] = {&request};
  if (syscall(SYS_io_setup, 1, &context) != 0) return errno;
  int result = outcome(syscall(SYS_io_submit, context, 1, requests));
  syscall(SYS_io_destroy, context);
  return result;
}

static int shrink(const struct target *target) {
  return outcome(ftruncate(target->fd, 0));
}

int attempt_shrink(const struct target *target) {
  return shrink(target);
}

static int shrink_by_path(const struct target *target) {
  return outcome(truncate(own_path(target->fd), 0));
}

static int punch(const struct target *target) {
  return outcome(fallocate(target->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)target->size));
}

static int allocate(const struct target *target) {
  return outcome(fallocate(target->fd, 0, 0, (off_t)target->size));
}

/* ---- the kernel as one's hand ------------------------------------------------------------------------------------ */

/* /proc/self/mem writes to read-only private mappings; shared ones it leaves alone. */
static int write_own_memory(const struct target *target) {
  int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  if (memory < 0) return errno;
  int result = outcome(pwrite(memory, "x", 1, (off_t)(uintptr_t)target->base));
  close(memory);
  return result;
}

static int write_to_process(pid_t pid, void *address) {
  char byte = 'x';
  struct iovec from = {.iov_base = &byte, .iov_len = 1}, to = {.iov_base = address, .iov_len = 1};
  return outcome(process_vm_writev(pid, &from, 1, &to, 1, 0));
}

static int write_own_process(const struct target *target) {
  return write_to_process(getpid(), target->base);
}

/* As a debugger of one's own child, which has the same mapping. */
static int poke_as_debugger(const struct target *target) {
  fflush(NULL);
  pid_t child = fork();
  if (child < 0) give_up("fork");
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    _exit(0);
  }
  int status;
  if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status)) give_up("ptrace");
  int result = outcome(ptrace(PTRACE_POKEDATA, child, target->base, NULL));
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return result;
}

static int read_into(const struct target *target) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0 || write(ends[1], "x", 1) != 1) give_up("pipe");
  int result = outcome(read(ends[0], target->base, 1));
  close(ends[0]);
  close(ends[1]);
  return result;
}

static int futex_wake_op(const struct target *target) {
  uint32_t own = 0;
  return outcome(syscall(SYS_futex, &own, FUTEX_WAKE_OP, 0, 0, target->base, FUTEX_OP(FUTEX_OP_ADD, 1, 0, 0)));
}

static int futex_lock(const struct target *target) {
  struct timespec never = {0};
  return outcome(syscall(SYS_futex, target->base, FUTEX_LOCK_PI, 0, &never));
}

/* Whoever handles the faults of a mapping says what its pages hold. */
static int handle_faults(const struct target *target) {
  int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
  if (fd < 0) return errno;
  struct uffdio_api api = {.api = UFFD_API};
  struct uffdio_register range = {.range = {.start = (uintptr_t)target->base, .len = target->size},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};
  int result = outcome(ioctl(fd, UFFDIO_API, &api));
  if (result == 0) result = outcome(ioctl(fd, UFFDIO_REGISTER, &range));
  close(fd);
  return result;
}

/* ---- rights ------------------------------------------------------------------------------------------------------ */

static int add_seal_write(const struct target *target) {
  return outcome(fcntl(target->fd, F_ADD_SEALS, F_SEAL_WRITE));
}

static int add_seal_future_write(const struct target *target) {
  return outcome(fcntl(target->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
}

static int change_mode(const struct target *target) {
  return outcome(fchmod(target->fd, 0666));
}

static int change_mode_by_path(const struct target *target) {
  return outcome(chmod(own_path(target->fd), 0666));
}

static int change_owner(const struct target *target) {
  return outcome(fchown(target->fd, geteuid(), (gid_t)-1));
}

/* A lease would make the broker wait when it opens the object again. */
static int take_lease(const struct target *target) {
  return outcome(fcntl(target->fd, F_SETLEASE, F_RDLCK));
}

/* ---- the owner's process ----------------------------------------------------------------------------------------- */

static int owner_open(const struct target *target, const char *format) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)target->owner, format);
  return open_outcome(path, O_RDWR);
}

static int owner_descriptor_open(const struct target *target) {
  char name[32];
  snprintf(name, sizeof name, "fd/%d", target->owner_fd);
  return owner_open(target, name);
}

static int owner_descriptor_get(const struct target *target) {
  int pidfd = (int)syscall(SYS_pidfd_open, target->owner, 0);
  if (pidfd < 0) return errno;
  int fd = (int)syscall(SYS_pidfd_getfd, pidfd, target->owner_fd, 0);
  int result = outcome(fd);
  if (fd >= 0) close(fd);
  close(pidfd);
  return result;
}

static int owner_memory_open(const struct target *target) {
  return owner_open(target, "mem");
}

static int owner_memory_write(const struct target *target) {
  return write_to_process(target->owner, target->base);
}

static int owner_attach(const struct target *target) {
  return outcome(ptrace(PTRACE_SEIZE, target->owner, NULL, NULL));
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static const struct attempt writes[] = {
    {"mmap(PROT_READ | PROT_WRITE, MAP_SHARED)", map_writable, true, {EACCES}},
    {"mmap(PROT_WRITE, MAP_SHARED_VALIDATE)", map_write_only, true, {EACCES}},
    {"mmap(MAP_PRIVATE), then store", map_private_and_write, true, {0}},
    {"mprotect(PROT_WRITE)", protect, false, {EACCES}},
    {"mremap to a second mapping, then mprotect", protect_a_second_mapping, false, {EACCES}},
    {"a plain store", attempt_store, false, {-SIGSEGV}},
    {"madvise(MADV_REMOVE)", advise_remove, false, {EACCES}},
    {"madvise(MADV_POPULATE_WRITE)", advise_populate_write, false, {EINVAL, EFAULT}},
    {"open /proc/self/fd/N O_RDWR", attempt_reopen, true, {EACCES}},
    {"open /proc/self/fd/N O_WRONLY", reopen_write_only, true, {EACCES}},
    {"open /proc/self/fd/N O_TRUNC", reopen_truncating, true, {EACCES}},
    {"open O_PATH, then that O_RDWR", reopen_by_path_descriptor, true, {EACCES}},
    {"open /proc/self/map_files/.. O_RDWR", reopen_by_map_files, false, {EPERM, EACCES, ENOENT}},
    {"open_by_handle_at O_RDWR", reopen_by_handle, true, {EPERM, EOPNOTSUPP}},
    {"open O_RDWR as root of a user namespace", reopen_as_namespace_root, true, {EACCES, EPERM, ENOSPC}},
    {"pwrite", write_at, true, {EBADF}},
    {"fcntl(F_SETFL, O_RDWR), then pwrite", write_after_setting_flags, true, {EBADF}},
    {"sendfile to it", write_from_file, true, {EBADF}},
    {"splice to it", write_from_pipe, true, {EBADF}},
    {"copy_file_range within it", copy_within, true, {EBADF}},
    {"io_submit(IOCB_CMD_PWRITE)", write_asynchronously, true, {EBADF, ENOSYS}},
    {"ftruncate", shrink, true, {EINVAL}},
    {"truncate /proc/self/fd/N", shrink_by_path, true, {EACCES}},
    {"fallocate(PUNCH_HOLE)", punch, true, {EBADF}},
    {"fallocate", allocate, true, {EBADF}},
    {"pwrite to /proc/self/mem", write_own_memory, false, {EIO}},
    {"process_vm_writev to oneself", write_own_process, false, {EFAULT}},
    {"ptrace(PTRACE_POKEDATA)", poke_as_debugger, false, {EIO, EPERM}},
    {"read from a pipe into it", read_into, false, {EFAULT}},
    {"futex(FUTEX_WAKE_OP)", futex_wake_op, false, {EFAULT}},
    {"futex(FUTEX_LOCK_PI)", futex_lock, false, {EFAULT}},
    {"userfaultfd on it", handle_faults, false, {EPERM, ENOSYS}},
    {"fcntl(F_ADD_SEALS, F_SEAL_WRITE)", add_seal_write, true, {EPERM}},
    {"fchmod 0666", change_mode, true, {EPERM}},
    {"chmod /proc/self/fd/N", change_mode_by_path, true, {EPERM}},
    {"fchown to oneself", change_owner, true, {EPERM}},
    {"fcntl(F_SETLEASE)", take_lease, true, {EACCES}},
    {"open /proc/OWNER/fd/N", owner_descriptor_open, false, {EACCES}},
    {"pidfd_getfd from the owner", owner_descriptor_get, false, {EPERM}},
    {"open /proc/OWNER/mem", owner_memory_open, false, {EACCES}},
    {"process_vm_writev to the owner", owner_memory_write, false, {EPERM}},
    {"ptrace(PTRACE_SEIZE) the owner", owner_attach, false, {EPERM}},
};

static int grow(const struct target *target) {
  return outcome(ftruncate(target->fd, (off_t)target->size * 2));
}

static int allocate_beyond(const struct target *target) {
  return outcome(fallocate(target->fd, 0, (off_t)target->size, 4096));
}

static int allocate_beyond_keeping_size(const struct target *target) {
  return outcome(fallocate(target->fd, FALLOC_FL_KEEP_SIZE, (off_t)target->size, 4096));
}

static int write_beyond(const struct target *target) {
  return outcome(pwrite(target->fd, "x", 1, (off_t)target->size));
}

static int collapse(const struct target *target) {
  return outcome(fallocate(target->fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096));
}

static int insert(const struct target *target) {
  return outcome(fallocate(target->fd, FALLOC_FL_INSERT_RANGE, 0, 4096));
}

static const struct attempt resizes[] = {
    {"ftruncate to 0", shrink, true, {EPERM}},
    {"ftruncate to twice the size", grow, true, {EPERM}},
    {"truncate /proc/self/fd/N", shrink_by_path, true, {EACCES}},
    {"open /proc/self/fd/N O_TRUNC", reopen_truncating, true, {EACCES}},
    {"fallocate beyond the end", allocate_beyond, true, {EPERM}},
    {"fallocate(KEEP_SIZE) beyond the end", allocate_beyond_keeping_size, true, {EPERM}},
    {"fallocate(COLLAPSE_RANGE)", collapse, true, {EOPNOTSUPP}},
    {"fallocate(INSERT_RANGE)", insert, true, {EOPNOTSUPP}},
    {"pwrite beyond the end", write_beyond, true, {EPERM}},
    {"fcntl(F_ADD_SEALS, F_SEAL_WRITE)", add_seal_write, true, {EPERM}},
    {"fcntl(F_ADD_SEALS, F_SEAL_FUTURE_WRITE)", add_seal_future_write, true, {EPERM}},
    {"fchmod 0666", change_mode, true, {EPERM}},
    {"chmod /proc/self/fd/N", change_mode_by_path, true, {EPERM}},
    {"fchown to oneself", change_owner, true, {EPERM}},
    {"fcntl(F_SETLEASE)", take_lease, true, {EACCES}},
};

/* ---- trying ------------------------------------------------------------------------------------------------------ */

static const char *outcome_name(int result) {
  if (result == 0) return "done";
  if (result < 0) return sigabbrev_np(-result);
  const char *name = strerrorname_np(result);
  return name != NULL ? name : "?";
}

static bool is_expected(const struct attempt *attempt, int result) {
  if (result == 0) return attempt->expected[0] == 0;
  for (int i = 0; i < EXPECTED_MAX; i++)
    if (attempt->expected[i] == result) return true;
  return false;
}

static bool size_is_right(const struct target *target) {
  struct stat info;
  return target->fd < 0 || (fstat(target->fd, &info) == 0 && (uint64_t)info.st_size == target->size);
}

static bool try(const struct target *target, const struct attempt *attempt, const uint8_t *bytes) {
  int result = attempt->run(target);
  bool refused = is_expected(attempt, result);
  bool same = size_is_right(target) && memcmp(bytes, target->base, target->size) == 0;
  printf("  %-10s %-42s %-10s %s%s\n", target->what, attempt->name, outcome_name(result),
         same ? "unchanged" : "CHANGED", refused ? "" : ", ANOTHER OUTCOME THAN EXPECTED");
  return refused && same;
}

static int try_all(const struct target *target, const struct attempt *attempts, size_t count) {
  uint8_t *bytes = malloc(target->size);
  if (bytes == NULL) give_up("malloc");
  memcpy(bytes, target->base, target->size);
  int failures = 0;
  for (size_t i = 0; i < count; i++)
    if (target->fd >= 0 || !attempts[i].needs_fd) failures += !try(target, &attempts[i], bytes);
  free(bytes);
  fflush(stdout);
  return failures;
}

int attempt_writes(const struct target *target) {
  return try_all(target, writes, sizeof writes / sizeof *writes);
}

int attempt_resizes(const struct target *target) {
  return try_all(target, resizes, sizeof resizes / sizeof *resizes);
}

/* Sits between a program and the C library, and lets one call fail.  Nothing else changes: every call is counted, and
 * goes on to whoever is next (the C library, or a sanitizer's interceptor).
 *
 * Loaded with LD_PRELOAD, before anything else is: so it is built without sanitizers, and allocates nothing.
 * Threads: any; a process that is to fail is expected to make its calls in a fixed order. */
#include "fault/faults.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD /* Linux 6.5 */
#define SO_PEERPIDFD 77
#endif

static struct fault_page *page;
static bool begun; /* main is reached: what libraries do while they are loaded is not what is tested */

/* ---- whether this call fails ------------------------------------------------------------------------------------ */

static struct fault_target *target_of_process(void) {
  if (page == NULL || !begun) return NULL;
  pid_t self = getpid();
  if (atomic_load(&page->client.pid) == self) return &page->client;
  if (atomic_load(&page->broker.pid) == self) return &page->broker;
  return NULL;
}

static void note_where(struct fault_target *target, void *caller) {
  Dl_info info;
  if (dladdr(caller, &info) == 0) return;
  snprintf(target->where, sizeof target->where, "%s+%#lx", info.dli_fname,
           (unsigned long)((uintptr_t)caller - (uintptr_t)info.dli_fbase));
}

/* True: errno is set, and the call must not be made. */
static bool fails(enum fault_call call, void *caller) {
  struct fault_target *target = target_of_process();
  if (target == NULL) return false;
  uint32_t number = atomic_fetch_add(&target->calls[call], 1);
  if (!atomic_load(&target->armed) || target->plan.call != call) return false;
  bool hit = target->plan.stays ? number >= target->plan.number : number == target->plan.number;
  if (!hit) return false;
  if (atomic_fetch_add(&target->fired, 1) == 0) note_where(target, caller);
  errno = target->plan.error;
  return true;
}

static void count_live(int change) {
  struct fault_target *target = target_of_process();
  if (target != NULL) atomic_fetch_add(&target->live, change);
}

static void *resolve(const char *name) {
  void *next = dlsym(RTLD_NEXT, name);
  if (next == NULL) abort();
  return next;
}

__attribute__((constructor)) static void page_map(void) {
  const char *path = getenv(FAULTS_VARIABLE);
  int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *base = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (base != MAP_FAILED) page = base;
}

typedef int (*main_fn)(int argc, char **argv, char **environment);

int __libc_start_main(main_fn main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end);

int __libc_start_main(main_fn main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end) {
  int (*next)(main_fn, int, char **, void (*)(void), void (*)(void), void (*)(void), void *) =
      resolve("__libc_start_main");
  begun = true;
  return next(main, argc, argv, init, fini, loader_fini, stack_end);
}

#define CALLER __builtin_return_address(0)

/* ---- memory ----------------------------------------------------------------------------------------------------- */

/* The next function may itself allocate while it is looked for: that is served from here, and never given back. */
static _Alignas(max_align_t) char early[16384];
static size_t early_used;
static volatile bool resolving; /* dlsym is declared not to call back, which it does */

static void *early_alloc(size_t size) {
  size_t rounded = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
  if (rounded > sizeof early - early_used) abort();
  void *memory = early + early_used;
  early_used += rounded;
  return memory;
}

static bool is_early(const void *memory) {
  return (const char *)memory >= early && (const char *)memory < early + sizeof early;
}

static void *resolve_memory(const char *name) {
  resolving = true;
  void *next = resolve(name);
  resolving = false;
  return next;
}

static void *counted(void *memory) {
  if (memory != NULL) count_live(1);
  return memory;
}

void *malloc(size_t size) {
  static void *(*next)(size_t);
  if (next == NULL && resolving) return early_alloc(size);
  if (next == NULL) next = resolve_memory("malloc");
  return fails(FAULT_allocation, CALLER) ? NULL : counted(next(size));
}

void *calloc(size_t count, size_t size) {
  static void *(*next)(size_t, size_t);
  if (next == NULL && resolving) return early_alloc(count * size); /* zero: it is used once */
  if (next == NULL) next = resolve_memory("calloc");
  return fails(FAULT_allocation, CALLER) ? NULL : counted(next(count, size));
}

void *realloc(void *memory, size_t size) {
  static void *(*next)(void *, size_t);
  if (next == NULL) next = resolve_memory("realloc");
  if (is_early(memory)) abort();
  if (fails(FAULT_allocation, CALLER)) return NULL;
  void *grown = next(memory, size);
  return memory == NULL ? counted(grown) : grown;
}

void *reallocarray(void *memory, size_t count, size_t size) {
  static void *(*next)(void *, size_t, size_t);
  if (next == NULL) next = resolve_memory("reallocarray");
  if (fails(FAULT_allocation, CALLER)) return NULL;
  /* The C library's own goes by realloc, which is ours, and would count twice. */
  struct fault_target *target = target_of_process();
  uint32_t before = target != NULL ? atomic_load(&target->calls[FAULT_allocation]) : 0;
  void *grown = next(memory, count, size);
  if (target == NULL || atomic_load(&target->calls[FAULT_allocation]) != before) return grown;
  return memory == NULL ? counted(grown) : grown;
}

/* A sanitizer's would not come by our malloc. */
char *strdup(const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = malloc(size);
  return copy != NULL ? memcpy(copy, text, size) : NULL;
}

int posix_memalign(void **ret_memory, size_t alignment, size_t size) {
  static int (*next)(void **, size_t, size_t);
  if (next == NULL) next = resolve_memory("posix_memalign");
  if (fails(FAULT_allocation, CALLER)) return ENOMEM;
  int status = next(ret_memory, alignment, size);
  if (status == 0) count_live(1);
  return status;
}

void *aligned_alloc(size_t alignment, size_t size) {
  static void *(*next)(size_t, size_t);
  if (next == NULL) next = resolve_memory("aligned_alloc");
  return fails(FAULT_allocation, CALLER) ? NULL : counted(next(alignment, size));
}

void free(void *memory) {
  static void (*next)(void *);
  if (memory == NULL || is_early(memory)) return;
  if (next == NULL && resolving) return; /* dlsym's own last error: it is here already, and being freed */
  if (next == NULL) next = resolve_memory("free");
  count_live(-1);
  next(memory);
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

/* A function of the C library whose failure is `failure`, with errno. */
// NOLINTBEGIN(bugprone-macro-parentheses): types and lists of parameters
#define INTERPOSE(type, failure, name, parameters, arguments)                                                          \
  type name parameters {                                                                                               \
    static type(*next) parameters;                                                                                     \
    if (fails(FAULT_##name, CALLER)) return (failure);                                                                 \
    if (next == NULL) next = resolve(#name);                                                                           \
    return next arguments;                                                                                             \
  }

INTERPOSE(int, -1, socket, (int domain, int kind, int protocol), (domain, kind, protocol))
INTERPOSE(int, -1, socketpair, (int domain, int kind, int protocol, int fds[2]), (domain, kind, protocol, fds))
INTERPOSE(int, -1, connect, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
INTERPOSE(int, -1, accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags), (fd, address, size, flags))
INTERPOSE(ssize_t, -1, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
INTERPOSE(ssize_t, -1, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
INTERPOSE(ssize_t, -1, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
INTERPOSE(ssize_t, -1, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags))
INTERPOSE(int, -1, memfd_create, (const char *name, unsigned flags), (name, flags))
INTERPOSE(int, -1, ftruncate, (int fd, off_t size), (fd, size))
INTERPOSE(int, errno, posix_fallocate, (int fd, off_t offset, off_t size), (fd, offset, size))
INTERPOSE(ssize_t, -1, pwrite, (int fd, const void *data, size_t size, off_t offset), (fd, data, size, offset))
INTERPOSE(int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
INTERPOSE(int, -1, fstat, (int fd, struct stat *ret_info), (fd, ret_info))
INTERPOSE(int, -1, fstatfs, (int fd, struct statfs *ret_info), (fd, ret_info))
INTERPOSE(void *, MAP_FAILED, mmap, (void *at, size_t size, int protection, int flags, int fd, off_t offset),
          (at, size, protection, flags, fd, offset))
INTERPOSE(int, -1, madvise, (void *at, size_t size, int advice), (at, size, advice))
INTERPOSE(int, -1, epoll_create1, (int flags), (flags))
INTERPOSE(int, -1, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))
INTERPOSE(int, -1, ppoll, (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
          (fds, count, timeout, mask))
INTERPOSE(DIR *, NULL, opendir, (const char *path), (path))
INTERPOSE(ssize_t, -1, readlink, (const char *path, char *ret_target, size_t size), (path, ret_target, size))
INTERPOSE(int, -1, unlink, (const char *path), (path))
INTERPOSE(ssize_t, -1, getrandom, (void *data, size_t size, unsigned flags), (data, size, flags))
INTERPOSE(int, -1, getrlimit, (__rlimit_resource_t resource, struct rlimit *ret_limit), (resource, ret_limit))
INTERPOSE(int, -1, bind, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
INTERPOSE(int, -1, listen, (int fd, int backlog), (fd, backlog))
INTERPOSE(int, -1, flock, (int fd, int operation), (fd, operation))
INTERPOSE(int, -1, rename, (const char *from, const char *to), (from, to))
INTERPOSE(int, -1, chmod, (const char *path, mode_t mode), (path, mode))
INTERPOSE(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
INTERPOSE(int, -1, stat, (const char *path, struct stat *ret_info), (path, ret_info))
INTERPOSE(int, -1, lstat, (const char *path, struct stat *ret_info), (path, ret_info))
INTERPOSE(int, -1, eventfd, (unsigned value, int flags), (value, flags))
INTERPOSE(pid_t, -1, fork, (void), ())
INTERPOSE(int, -1, dup, (int fd), (fd))
INTERPOSE(char *, NULL, mkdtemp, (char *template), (template))
// NOLINTEND(bugprone-macro-parentheses)

/* A file's can fail; a pipe within one process can't. */
ssize_t read(int fd, void *data, size_t size) {
  static ssize_t (*next)(int, void *, size_t);
  if (next == NULL) next = resolve("read");
  return lseek(fd, 0, SEEK_CUR) >= 0 && fails(FAULT_read, CALLER) ? -1 : next(fd, data, size);
}

/* Only adding needs memory, and what is there already is found before. */
int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event) {
  static int (*next)(int, int, int, struct epoll_event *);
  if (next == NULL) next = resolve("epoll_ctl");
  int result = next(epoll_fd, operation, fd, event);
  if (operation != EPOLL_CTL_ADD || result != 0 || !fails(FAULT_epoll_ctl, CALLER)) return result;
  int error = errno;
  next(epoll_fd, EPOLL_CTL_DEL, fd, event);
  errno = error;
  return -1;
}

/* A plan for pidfd_open makes the kernel one that has to be asked so. */
static bool is_old_kernel(void) {
  const struct fault_target *target = target_of_process();
  return target != NULL && atomic_load(&target->armed) && target->plan.call == FAULT_pidfd_open;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
  static int (*next)(int, int, int, void *, socklen_t *);
  bool is_peerpidfd = level == SOL_SOCKET && name == SO_PEERPIDFD;
  if (is_peerpidfd && is_old_kernel()) {
    errno = ENOPROTOOPT;
    return -1;
  }
  if (fails(is_peerpidfd ? FAULT_peerpidfd : FAULT_getsockopt, CALLER)) return -1;
  if (next == NULL) next = resolve("getsockopt");
  return next(fd, level, name, value, size);
}

long syscall(long number, ...) {
  static long (*next)(long, ...);
  long arguments[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
  va_end(list);
  if (number == SYS_pidfd_open && fails(FAULT_pidfd_open, CALLER)) return -1;
  if (next == NULL) next = resolve("syscall");
  return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

/* With one argument more, of whatever kind; a pointer has room for an int. */
int fcntl(int fd, int command, ...) {
  static int (*next)(int, int, ...);
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (fails(FAULT_fcntl, CALLER)) return -1;
  if (next == NULL) next = resolve("fcntl");
  return next(fd, command, argument);
}

int open(const char *path, int flags, ...) {
  static int (*next)(const char *, int, ...);
  va_list list;
  va_start(list, flags);
  mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  if (fails(FAULT_open, CALLER)) return -1;
  if (next == NULL) next = resolve("open");
  return next(path, flags, mode);
}

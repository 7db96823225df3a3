/* Which call of which process is to fail: a page shared between a test and the processes that preload.c sits in.
 *
 * The test names a process by its pid and one call of it, counted from the moment of arming; every other process, its
 * children among them, is left alone. */
#ifndef SLC_TEST_FAULTS_H
#define SLC_TEST_FAULTS_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

/* The path of the page, for preload.c. */
#define FAULTS_VARIABLE "SLOTCAST_FAULTS"

/* X(name): every allocation there is counts as one kind; peerpidfd is getsockopt(SO_PEERPIDFD), and pidfd_open is what
 * comes after it on a kernel that does not have it; the others are functions of the C library.  (pipe2 is missing: the
 * first that libuv makes is one that it aborts without, before there is a loop.) */
#define FAULT_CALL_MAP(X)                                                                                              \
  X(allocation)                                                                                                        \
  X(socket)                                                                                                            \
  X(socketpair)                                                                                                        \
  X(connect)                                                                                                           \
  X(accept4)                                                                                                           \
  X(sendmsg)                                                                                                           \
  X(recvmsg)                                                                                                           \
  X(send)                                                                                                              \
  X(recv)                                                                                                              \
  X(getsockopt)                                                                                                        \
  X(peerpidfd)                                                                                                         \
  X(pidfd_open)                                                                                                        \
  X(memfd_create)                                                                                                      \
  X(ftruncate)                                                                                                         \
  X(posix_fallocate)                                                                                                   \
  X(pwrite)                                                                                                            \
  X(fchmod)                                                                                                            \
  X(fcntl)                                                                                                             \
  X(fstat)                                                                                                             \
  X(fstatfs)                                                                                                           \
  X(mmap)                                                                                                              \
  X(madvise)                                                                                                           \
  X(epoll_create1)                                                                                                     \
  X(epoll_ctl)                                                                                                         \
  X(poll)                                                                                                              \
  X(ppoll)                                                                                                             \
  X(open)                                                                                                              \
  X(opendir)                                                                                                           \
  X(read)                                                                                                              \
  X(readlink)                                                                                                          \
  X(unlink)                                                                                                            \
  X(getrandom)                                                                                                         \
  X(getrlimit)                                                                                                         \
  X(bind)                                                                                                              \
  X(listen)                                                                                                            \
  X(flock)                                                                                                             \
  X(rename)                                                                                                            \
  X(chmod)                                                                                                             \
  X(mkdir)                                                                                                             \
  X(stat)                                                                                                              \
  X(lstat)                                                                                                             \
  X(eventfd)                                                                                                           \
  X(fork)                                                                                                              \
  X(dup)                                                                                                               \
  X(mkdtemp)

enum fault_call {
#define FAULT_NAME(name) FAULT_##name,
  FAULT_CALL_MAP(FAULT_NAME)
#undef FAULT_NAME
      FAULT_CALLS
};

/* The first call of its kind that a fault plan may hit is number 0. */
struct fault_plan {
  enum fault_call call;
  uint32_t number;
  int error;
  int stays; /* non-zero: all later ones fail, too */
};

struct fault_target {
  _Atomic pid_t pid;                   /* 0: nobody */
  _Atomic uint32_t armed;              /* 0: count only */
  struct fault_plan plan;              /* not changed while armed */
  _Atomic uint32_t fired;              /* failures so far */
  char where[128];                     /* the caller of the first that failed: object+offset */
  _Atomic int64_t live;                /* allocations made less those given back */
  _Atomic uint32_t calls[FAULT_CALLS]; /* of each kind since it was armed */
};

/* Whoever tests has one of each. */
struct fault_page {
  struct fault_target client, broker;
};

#endif

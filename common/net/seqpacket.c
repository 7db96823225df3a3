/* AF_UNIX SOCK_SEQPACKET with descriptors.  See seqpacket.h for what each call promises.
 *
 * Invariants: a descriptor is CLOEXEC from birth; a receive that fails has closed all that it got; nothing here raises
 * SIGPIPE.  A socket belongs to one thread at a time. */
#include "net/seqpacket.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/error.h"

#ifndef SCM_PIDFD /* Linux 6.5 */
#define SCM_PIDFD 4
#endif

enum { BACKLOG = 512, SOCKET_TYPE = SOCK_SEQPACKET | SOCK_CLOEXEC };

/* ---- descriptors ---- */

void slc__fds_init(struct slc__fds *fds) {
  fds->count = 0;
}

void slc__fds_deinit(struct slc__fds *fds) {
  for (size_t i = 0; i < fds->count; i++) slc__fd_close(&fds->fd[i]);
  fds->count = 0;
}

int slc__fds_take(struct slc__fds *fds, size_t index) {
  return index < fds->count ? slc__fd_take(&fds->fd[index]) : -1;
}

/* RLIMIT_NOFILE bounds the numbers of descriptors, not how many there are: what can still be had is the numbers below
 * the limit that nobody has.  The kernel gives out the lowest first, so almost always the run just below the limit is
 * free, and one poll sees that: it answers POLLNVAL for what is not open.  (F_DUPFD would tell of one number only, and
 * would make the kernel enlarge the table up to it.)  Otherwise the open ones are counted. */
static bool is_run_free(size_t limit, size_t wanted) {
  struct pollfd run[2 * (SLC__NET_DESCRIPTORS_MAX + 1)];
  if (wanted > sizeof run / sizeof run[0]) return false;
  for (size_t i = 0; i < wanted; i++) run[i] = (struct pollfd){.fd = (int)(limit - wanted + i)};
  if (poll(run, wanted, 0) != (int)wanted) return false;
  for (size_t i = 0; i < wanted; i++) {
    if (run[i].revents != POLLNVAL) return false;
  }
  return true;
}

/* The numbers below `limit` that are open; all of them when that can't be found out, which is the careful answer. */
static size_t count_open(size_t limit) {
  DIR *directory = opendir("/proc/self/fd"); /* fails when not even one is free */
  if (directory == NULL) return limit;
  size_t count = 0;
  for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    unsigned long fd = strtoul(entry->d_name, NULL, 10);
    if (fd < limit && fd != (unsigned long)dirfd(directory)) count++;
  }
  closedir(directory);
  return count;
}

int slc__net_descriptors_free(size_t wanted) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  size_t numbers = limit.rlim_cur > INT_MAX ? INT_MAX : limit.rlim_cur;
  if (numbers < wanted) return 0;
  return is_run_free(numbers, wanted) || count_open(numbers) <= numbers - wanted;
}

/* ---- addresses ---- */

static int address_of(const char *path, struct sockaddr_un *ret) {
  *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (path[0] == '\0' || strlen(path) >= sizeof ret->sun_path)
    return slc__fail(SLC_INVALID, "a socket path has 1 to %zu bytes, this one %zu: choose a shorter one: %s",
                     sizeof ret->sun_path - 1, strlen(path), path);
  memcpy(ret->sun_path, path, strlen(path) + 1);
  return SLC_OK;
}

/* ---- listening ---- */

static int make_last_directory(const char *path) {
  SLC__CLEANUP_FREE char *copy = strdup(path);
  if (copy == NULL) return SLC_NO_MEMORY;
  const char *directory = dirname(copy);
  if (mkdir(directory, 0700) == 0 || errno == EEXIST) return SLC_OK;
  return slc__fail(slc__status_of_errno(errno), "cannot make the directory %s: %s", directory, strerror(errno));
}

static int check_same_file(int fd, const char *path, bool *ret_same) {
  struct stat opened, named = {0};
  int result = fstat(fd, &opened);
  if (result == 0) result = stat(path, &named);
  if (result != 0 && errno != ENOENT)
    return slc__fail(slc__status_of_errno(errno), "cannot look at %s: %s", path, strerror(errno));
  *ret_same = result == 0 && opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
  return SLC_OK;
}

/* Whoever ends removes the file while it still has the lock; so a lock on a file that has lost its name is none. */
static int take_lock(const char *path, int *ret_fd) {
  for (;;) {
    SLC__CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return slc__fail(slc__status_of_errno(errno), "cannot open %s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK)
        return slc__fail(SLC_BUSY, "another broker serves this address (it holds %s): stop it, or use another --socket",
                         path);
      return slc__fail(SLC_SYSTEM, "cannot lock %s: %s", path, strerror(errno));
    }
    bool has_name;
    int status = check_same_file(fd, path, &has_name);
    if (status != SLC_OK) return status;
    if (!has_name) continue;
    *ret_fd = slc__fd_take(&fd);
    return SLC_OK;
  }
}

/* What lies at the path is ours to replace only if it is a socket to which nobody listens any more.  We have the lock,
 * but somebody may have removed the lock file of a broker that still serves. */
static int check_replaceable(const char *path, const struct sockaddr_un *address) {
  struct stat info;
  if (lstat(path, &info) != 0) {
    if (errno == ENOENT) return SLC_OK;
    return slc__fail(slc__status_of_errno(errno), "cannot look at %s: %s", path, strerror(errno));
  }
  if (!S_ISSOCK(info.st_mode))
    return slc__fail(SLC_INVALID, "%s is there and not a socket: remove it, or use another --socket", path);
  SLC__CLEANUP_FD int fd = socket(AF_UNIX, SOCKET_TYPE | SOCK_NONBLOCK, 0);
  if (fd < 0) return slc__fail(slc__status_of_errno(errno), "cannot make a socket: %s", strerror(errno));
  if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) {
    if (errno == ECONNREFUSED || errno == ENOENT) return SLC_OK;
    if (errno == EACCES || errno == EPERM)
      return slc__fail(SLC_DENIED, "%s is somebody else's socket: use another --socket", path);
  }
  return slc__fail(SLC_BUSY, "somebody listens at %s: stop that, or use another --socket", path);
}

/* Made under a temporary name with its final owner and mode, then renamed: nobody ever meets one that is not ready. */
static int bind_at(int fd, const char *path, mode_t mode, gid_t gid) {
  char temporary[sizeof(((struct sockaddr_un *)0)->sun_path)];
  int length = snprintf(temporary, sizeof temporary, "%s.new", path);
  if (length < 0 || (size_t)length >= sizeof temporary)
    return slc__fail(SLC_INVALID, "the socket path is too long: choose a shorter one: %s", path);
  struct sockaddr_un address;
  int status = address_of(temporary, &address);
  if (status != SLC_OK) return status;
  unlink(temporary); /* of a broker that died here; we have the lock */
  /* The file takes the socket's own mode, so that it is nobody else's from its first moment; an umask would do that for
   * all threads. */
  if (fchmod(fd, 0600) != 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0)
    return slc__fail(slc__status_of_errno(errno), "cannot make the socket %s: %s", temporary, strerror(errno));
  if ((gid != (gid_t)-1 && chown(temporary, (uid_t)-1, gid) != 0) || chmod(temporary, mode) != 0 ||
      listen(fd, BACKLOG) != 0 || rename(temporary, path) != 0) {
    status = slc__fail(slc__status_of_errno(errno), "cannot set up the socket %s: %s", path, strerror(errno));
    unlink(temporary);
    return status;
  }
  return SLC_OK;
}

static void lock_path_of(const char *path, char *lock_path, size_t size) {
  snprintf(lock_path, size, "%s.lock", path);
}

int slc__net_listen(const char *path, mode_t mode, gid_t gid, int *ret_fd, int *ret_lock_fd) {
  char lock_path[PATH_MAX];
  struct sockaddr_un address;
  SLC__CLEANUP_FD int lock_fd = -1;
  int status = address_of(path, &address);
  if (status == SLC_OK) status = make_last_directory(path);
  if (status == SLC_OK) {
    lock_path_of(path, lock_path, sizeof lock_path);
    status = take_lock(lock_path, &lock_fd);
  }
  if (status != SLC_OK) return status;
  SLC__CLEANUP_FD int fd = socket(AF_UNIX, SOCKET_TYPE | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    status = slc__fail(slc__status_of_errno(errno), "cannot make a socket: %s", strerror(errno));
  } else {
    status = check_replaceable(path, &address);
    if (status == SLC_OK) status = bind_at(fd, path, mode, gid);
  }
  if (status != SLC_OK) {
    unlink(lock_path);
    return status;
  }
  *ret_fd = slc__fd_take(&fd);
  *ret_lock_fd = slc__fd_take(&lock_fd);
  return SLC_OK;
}

/* ---- a socket that somebody else made ---- */

static bool has_value(int fd, int option, int value) {
  int is;
  socklen_t size = sizeof is;
  return getsockopt(fd, SOL_SOCKET, option, &is, &size) == 0 && is == value;
}

int slc__net_path_of(int fd, char *path, size_t size) {
  struct sockaddr_un address = {.sun_family = AF_UNSPEC};
  socklen_t length = sizeof address;
  if (!has_value(fd, SO_DOMAIN, AF_UNIX) || !has_value(fd, SO_TYPE, SOCK_SEQPACKET) || !has_value(fd, SO_ACCEPTCONN, 1))
    return slc__fail(SLC_INVALID,
                     "the socket that was handed over is none to serve at: it has to be of the unix domain, "
                     "SOCK_SEQPACKET (ListenSequentialPacket=) and listening (Accept=no)");
  if (getsockname(fd, (struct sockaddr *)&address, &length) != 0 || length <= offsetof(struct sockaddr_un, sun_path) ||
      address.sun_path[0] == '\0')
    return slc__fail(SLC_INVALID, "the socket that was handed over has no path: listen at one");
  snprintf(path, size, "%.*s", (int)(length - offsetof(struct sockaddr_un, sun_path)), address.sun_path);
  return SLC_OK;
}

int slc__net_adopt(int fd, const char *path, int *ret_lock_fd) {
  char at[sizeof(((struct sockaddr_un *)0)->sun_path) + 1], lock_path[PATH_MAX];
  int status = slc__net_path_of(fd, at, sizeof at);
  if (status != SLC_OK) return status;
  if (strcmp(at, path) != 0)
    return slc__fail(SLC_INVALID, "the socket that was handed over listens at %s, and --socket is %s", at, path);
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
    return slc__fail(SLC_SYSTEM, "cannot use the socket that was handed over: %s", strerror(errno));
  lock_path_of(path, lock_path, sizeof lock_path);
  return take_lock(lock_path, ret_lock_fd);
}

/* ---- the end ---- */

void slc__net_unlock(const char *path, int *lock_fd) {
  char lock_path[PATH_MAX];
  lock_path_of(path, lock_path, sizeof lock_path);
  unlink(lock_path);
  slc__fd_close(lock_fd);
}

void slc__net_unlisten(const char *path, int *fd, int *lock_fd) {
  unlink(path);
  slc__fd_close(fd);
  slc__net_unlock(path, lock_fd);
}

/* ---- connecting ---- */

/* A connect waits while the listener's queue is full, as long as a send may. */
static int limit_connect(int fd, int64_t timeout_ns) {
  if (timeout_ns < 0) return SLC_OK;
  int64_t us = timeout_ns / 1000;
  if (us == 0) us = 1; /* 0 would be for ever */
  struct timeval timeout = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};
  if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0) return SLC_OK;
  return slc__fail(slc__status_of_errno(errno), "cannot set a socket's time-out: %s", strerror(errno));
}

int slc__net_connect(const char *path, int64_t timeout_ns, int *ret_fd) {
  struct sockaddr_un address;
  int status = address_of(path, &address);
  if (status != SLC_OK) return status;
  SLC__CLEANUP_FD int fd = socket(AF_UNIX, SOCKET_TYPE, 0);
  if (fd < 0) return slc__fail(slc__status_of_errno(errno), "cannot make a socket: %s", strerror(errno));
  status = limit_connect(fd, timeout_ns);
  if (status != SLC_OK) return status;
  int result;
  do result = connect(fd, (const struct sockaddr *)&address, sizeof address);
  while (result != 0 && errno == EINTR);
  if (result != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED)
      return slc__fail(SLC_NO_BROKER,
                       "no broker at %s (%s): start slotcastd, use `slotcast run`, or set SLOTCAST_SOCKET", path,
                       strerror(errno));
    if (errno == EAGAIN)
      return slc__fail(SLC_TIMED_OUT, "the broker at %s takes no connection: it hangs, or has too much to do", path);
    return slc__fail(slc__status_of_errno(errno), "cannot connect to %s: %s", path, strerror(errno));
  }
  *ret_fd = slc__fd_take(&fd);
  return SLC_OK;
}

bool slc__net_connect_now(const char *path, int *ret_fd) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return false;
  memcpy(address.sun_path, path, strlen(path) + 1);
  SLC__CLEANUP_FD int fd = socket(AF_UNIX, SOCKET_TYPE | SOCK_NONBLOCK, 0);
  if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) return false;
  *ret_fd = slc__fd_take(&fd);
  return true;
}

int slc__net_accept(int listen_fd, int *ret_fd) {
  int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) {
    *ret_fd = fd;
    return SLC_OK;
  }
  switch (errno) {
  case EAGAIN:
  case EINTR:
  case ECONNABORTED:
    return SLC__NET_AGAIN;
  default:
    return slc__fail(slc__status_of_errno(errno), "cannot accept a connection: %s", strerror(errno));
  }
}

/* ---- sending ---- */

int slc__net_send(int fd, const void *data, size_t size, const int *fds, size_t fd_count, int flags) {
  if (fd_count > SLC__NET_DESCRIPTORS_MAX) return slc__fail(SLC_INVALID, "%zu descriptors in one message", fd_count);
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(SLC__NET_DESCRIPTORS_MAX * sizeof(int))];
  } control;
  struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd_count > 0) {
    memset(&control, 0, CMSG_SPACE(fd_count * sizeof(int)));
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
  }
  ssize_t sent;
  do sent = sendmsg(fd, &message, flags | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return SLC_OK; /* SEQPACKET: whole or not at all */
  switch (errno) {
  case EAGAIN:
  case ENOBUFS:
  case ETOOMANYREFS:
    return SLC__NET_AGAIN;
  case EPIPE:
  case ECONNRESET:
  case ENOTCONN:
    return SLC__NET_CLOSED;
  case EMSGSIZE:
    return slc__fail(SLC_TOO_LARGE, "a message of %zu bytes does not fit into the socket's buffer", size);
  default:
    return slc__fail(slc__status_of_errno(errno), "cannot send: %s", strerror(errno));
  }
}

/* ---- receiving ---- */

/* Takes every descriptor out of a control message; those for which there is no room are closed.  False: not what a
 * message may carry.  A SCM_PIDFD, which only somebody who set an option on our socket could have us get, is one, too,
 * that must not stay open. */
static bool collect(const struct cmsghdr *header, struct slc__fds *fds) {
  if (header->cmsg_level != SOL_SOCKET) return false;
  if (header->cmsg_type != SCM_RIGHTS && header->cmsg_type != SCM_PIDFD) return false;
  size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t i = 0; i < count; i++) {
    int fd;
    memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
    if (fds->count < SLC__NET_DESCRIPTORS_MAX) {
      fds->fd[fds->count++] = fd;
    } else {
      slc__fd_close(&fd);
    }
  }
  return header->cmsg_type == SCM_RIGHTS;
}

static bool collect_all(struct msghdr *message, struct slc__fds *fds) {
  bool only_rights = true;
  for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h != NULL; h = CMSG_NXTHDR(message, h)) {
    if (!collect(h, fds)) only_rights = false;
  }
  return only_rights;
}

/* ECONNRESET says, once, that the peer went without having read all that we sent; what it sent itself is still here:
 * the refusal, say, that tells why. */
static ssize_t receive(int fd, struct msghdr *message, int flags) {
  ssize_t received;
  do received = recvmsg(fd, message, flags);
  while (received < 0 && (errno == EINTR || errno == ECONNRESET));
  return received;
}

static int receive_failed(void) {
  if (errno == EAGAIN) return SLC__NET_AGAIN;
  return slc__fail(slc__status_of_errno(errno), "cannot receive: %s", strerror(errno));
}

enum look { LOOK_WHOLE, LOOK_SHORT, LOOK_LONG, LOOK_FOREIGN };

/* What is next, with new descriptors for what comes with it; it stays in the socket.  Of what is not whole nothing is
 * kept. */
static ssize_t look(int fd, struct iovec *part, struct slc__fds *fds, int flags, enum look *ret_look) {
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(SLC__NET_DESCRIPTORS_MAX * sizeof(int)) + CMSG_SPACE(128)];
  } control;
  struct msghdr message = {.msg_iov = part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t received = receive(fd, &message, flags | MSG_PEEK | MSG_CMSG_CLOEXEC);
  if (received < 0) return received;
  bool only_rights = collect_all(&message, fds);
  *ret_look = !only_rights                            ? LOOK_FOREIGN
              : (message.msg_flags & MSG_TRUNC) != 0  ? LOOK_LONG
              : (message.msg_flags & MSG_CTRUNC) != 0 ? LOOK_SHORT
                                                      : LOOK_WHOLE;
  if (*ret_look != LOOK_WHOLE) slc__fds_deinit(fds);
  return received;
}

static bool has_room(void) {
  return slc__net_descriptors_free(SLC__NET_DESCRIPTORS_MAX + 1) != 0;
}

static int look_failed(enum look look) {
  if (look == LOOK_SHORT && !has_room())
    return slc__fail(SLC_NO_DESCRIPTORS, "too few file descriptors are free for those of a message: raise the limit "
                                         "(ulimit -n)");
  return slc__fail(SLC_PROTOCOL, "a message was refused: %s",
                   look == LOOK_FOREIGN ? "it carries something other than descriptors"
                   : look == LOOK_LONG  ? "it is too long"
                                        : "its descriptors did not arrive whole");
}

/* What a look has shown, without its descriptors. */
static int consume(int fd, int flags) {
  struct msghdr nothing = {.msg_iov = NULL};
  return receive(fd, &nothing, flags) < 0 ? receive_failed() : SLC_OK;
}

/* The kernel drops what there are no free descriptors for, and to count those beforehand takes longer than all of this:
 * a message is consumed when a look at it has had all of it. */
int slc__net_receive(int fd, void *buffer, size_t capacity, size_t *ret_size, struct slc__fds *fds, int flags) {
  fds->count = 0;
  struct iovec part = {.iov_base = buffer, .iov_len = capacity};
  enum look result;
  ssize_t received = look(fd, &part, fds, flags, &result);
  /* Another thread may have closed some since. */
  if (received >= 0 && result == LOOK_SHORT && has_room()) received = look(fd, &part, fds, flags, &result);
  if (received < 0) return receive_failed();
  if (result != LOOK_WHOLE) return look_failed(result);
  /* An empty datagram looks like the end; no message is empty, so it is one. */
  int status = received == 0 ? SLC__NET_CLOSED : consume(fd, flags);
  if (status != SLC_OK) {
    slc__fds_deinit(fds);
    return status;
  }
  *ret_size = (size_t)received;
  return SLC_OK;
}

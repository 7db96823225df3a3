/* AF_UNIX SOCK_SEQPACKET with descriptors: one datagram is one message, and its descriptors come with it or not at
 * all.  Knows nothing of what is in a message.  Thread: a socket belongs to one thread at a time. */
#ifndef SLC__NET_SEQPACKET_H
#define SLC__NET_SEQPACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SLC__NET_DATAGRAM_MAX (UINT32_C(128) * 1024) /* bytes; the default socket buffers carry 200 KiB */
#define SLC__NET_DESCRIPTORS_MAX 253                 /* SCM_MAX_FD */

/* Descriptors received and not yet taken: whatever is left is closed by deinit. */
struct slc__fds {
  size_t count;
  int fd[SLC__NET_DESCRIPTORS_MAX];
};
void slc__fds_init(struct slc__fds *fds);
void slc__fds_deinit(struct slc__fds *fds);
int slc__fds_take(struct slc__fds *fds, size_t index); /* the descriptor, now the caller's; -1: none there */

/* A listening socket at `path` (a file of that mode, group unless gid is -1), non-blocking, CLOEXEC.  Takes an
 * exclusive flock on "<path>.lock" first, which the caller keeps in *ret_lock_fd as long as it serves; a stale socket
 * file is replaced, a live one never.  The file is made under a temporary name with its final mode and renamed into
 * place. Makes the last directory of `path` (0700) when it is missing. Statuses: SLC_BUSY (another holds the lock),
 * SLC_INVALID (path too long, or something not a socket lies there), SLC_DENIED, SLC_NO_DESCRIPTORS, SLC_SYSTEM; with
 * slc__fail's sentence. */
int slc__net_listen(const char *path, mode_t mode, gid_t gid, int *ret_fd, int *ret_lock_fd);
/* Takes over a socket that the service manager listens with at `path`: checks that it is that (SEQPACKET, listening,
 * bound there), makes it non-blocking and CLOEXEC, and takes the lock as slc__net_listen does.  The socket stays the
 * caller's in every case.  The same statuses. */
int slc__net_adopt(int fd, const char *path, int *ret_lock_fd);
/* The path at which a socket listens; SLC_INVALID: it does not, or has no path, or is of another kind. */
int slc__net_path_of(int fd, char *path, size_t size);
/* Removes the lock file (while the lock is held) and closes it: of a socket that stays. */
void slc__net_unlock(const char *path, int *lock_fd);
/* Removes socket and lock file, closes both. */
void slc__net_unlisten(const char *path, int *fd, int *lock_fd);
/* Blocking connect, at most so long (negative: for ever); SLC_NO_BROKER when nobody listens, SLC_TIMED_OUT, SLC_DENIED,
 * SLC_INVALID, SLC_NO_DESCRIPTORS, SLC_SYSTEM. */
int slc__net_connect(const char *path, int64_t timeout_ns, int *ret_fd);
/* The same without waiting and without a sentence; false: not now. */
bool slc__net_connect_now(const char *path, int *ret_fd);
/* One connection of a listening socket, non-blocking, CLOEXEC; 1: none waiting.  SLC_NO_DESCRIPTORS: see reserve. */
int slc__net_accept(int listen_fd, int *ret_fd);

enum { SLC__NET_AGAIN = 1, SLC__NET_CLOSED = 2 };

/* Sends one datagram with descriptors (which stay the caller's).  0: sent whole.  SLC__NET_AGAIN: the peer's queue is
 * full (also ETOOMANYREFS), nothing was sent.  SLC__NET_CLOSED: the peer is gone.  Never SIGPIPE.  Negative: status. */
int slc__net_send(int fd, const void *data, size_t size, const int *fds, size_t fd_count, int flags);

/* Receives one datagram (at most SLC__NET_DATAGRAM_MAX) into buffer.  0: received, *ret_size and fds set.
 * SLC__NET_AGAIN: nothing there (MSG_DONTWAIT in flags).  SLC__NET_CLOSED: orderly end.
 * SLC_PROTOCOL: MSG_TRUNC, MSG_CTRUNC or a control message that is not SCM_RIGHTS: everything received is closed.
 * SLC_NO_DESCRIPTORS: this process has too few free descriptors for those that come with it: nothing was consumed. */
int slc__net_receive(int fd, void *buffer, size_t capacity, size_t *ret_size, struct slc__fds *fds, int flags);

/* 1 when so many more descriptors can be had, else 0 (counts against RLIMIT_NOFILE; 3 us, mostly). */
int slc__net_descriptors_free(size_t wanted);

#endif

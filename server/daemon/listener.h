/* A socket that a daemon serves at: its own with a lock, or one that was handed to it.  Thread: the loop's. */
#ifndef SLC__DAEMON_LISTENER_H
#define SLC__DAEMON_LISTENER_H

#include <sys/types.h>
#include <uv.h>

#include "daemon/service.h"

struct slc__listener_options {
  const char *path;                        /* stays the caller's, and must stay */
  const struct slc__handed_socket *handed; /* listens there already; NULL: it makes its own */
  mode_t mode;
  gid_t gid; /* -1: as it comes */
};

struct slc__listener {
  struct slc__listener_options options;
  int fd, lock_fd;
  int reserve_fd;
  uv_poll_t poll;
  int (*accepted)(void *owner, int fd);
  void *owner;
};

/* `accepted` takes each connection over; when it fails, the descriptor is closed, and slc__error_detail says why.
 * Statuses as slc__net_listen. */
int slc__listener_open(struct slc__listener *listener, uv_loop_t *loop, const struct slc__listener_options *options,
                       int (*accepted)(void *owner, int fd), void *owner);
void slc__listener_close(struct slc__listener *listener);

#endif

/* See watch.h.
 *
 * libuv (1.44) grows its table of watchers in uv_poll_start and adds the descriptor to its epoll set when the loop next
 * polls; where there is no memory for the one, or no place for the other (ENOMEM, ENOSPC: max_user_watches), it aborts.
 * So both are made sure of before: the descriptor is added here, and libuv takes one that is there already as its own.
 */
#include "loop/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/error.h"

/* The table is as long as the power of two above the largest descriptor.  What can be had beside the old one can be had
 * again at once: nobody else allocates in this thread. */
static int table_probe(const uv_loop_t *loop, int fd) {
  if ((unsigned)fd < loop->nwatchers) return SLC_OK;
  void *probe = malloc(2 * ((size_t)fd + 3) * sizeof *loop->watchers); // NOLINT(bugprone-sizeof-expression)
  if (probe == NULL) return slc__fail(SLC_NO_MEMORY, "no memory to watch descriptor %d", fd);
  free(probe);
  return SLC_OK;
}

int slc__loop_watch(uv_poll_t *poll, int fd, int events, uv_poll_cb callback) {
  uv_poll_stop(poll);
  if (events == 0) return SLC_OK;
  int status = table_probe(poll->loop, fd);
  if (status != SLC_OK) return status;
  uv_poll_start(poll, events, callback); /* takes the descriptor out of the set, so it is added afterwards */
  struct epoll_event nothing = {.data.fd = fd};
  if (epoll_ctl(uv_backend_fd(poll->loop), EPOLL_CTL_ADD, fd, &nothing) == 0) return SLC_OK;
  status = slc__fail(slc__status_of_errno(errno), "cannot watch a descriptor: %s", strerror(errno));
  uv_poll_stop(poll);
  return status;
}

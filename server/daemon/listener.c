/* See listener.h.
 *
 * One descriptor is in reserve: when all are used up, it makes room to accept a connection and close it at once, so
 * that the peer is told and the listener does not spin.  Thread: the loop's. */
#include "daemon/listener.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "loop/watch.h"
#include "net/seqpacket.h"

enum { ACCEPTS_AT_ONCE = 64 };

/* ---- connections ---- */

static void open_reserve(struct slc__listener *listener) {
  listener->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void turn_away(struct slc__listener *listener) {
  slc__log(SLC__LOG_ERROR, "a connection was turned away: no file descriptor is left (raise LimitNOFILE=)");
  slc__fd_close(&listener->reserve_fd);
  int fd;
  if (slc__net_accept(listener->fd, &fd) == SLC_OK) close(fd);
  open_reserve(listener);
}

static void on_connection(uv_poll_t *poll, int poll_status, int events) {
  struct slc__listener *listener = poll->data;
  (void)poll_status;
  (void)events;
  if (listener->reserve_fd < 0) open_reserve(listener); /* it could not be had when it was used last */
  for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
    int fd;
    int status = slc__net_accept(listener->fd, &fd);
    if (status == SLC__NET_AGAIN) return;
    if (status == SLC_NO_DESCRIPTORS) {
      turn_away(listener);
      return;
    }
    if (status == SLC_OK) status = listener->accepted(listener->owner, fd);
    if (status != SLC_OK) {
      slc__log(SLC__LOG_WARNING, "a connection was refused: %s", slc__error_detail());
      return;
    }
  }
}

/* ---- the socket ---- */

static int take_socket(struct slc__listener *listener) {
  const struct slc__listener_options *options = &listener->options;
  if (options->handed == NULL)
    return slc__net_listen(options->path, options->mode, options->gid, &listener->fd, &listener->lock_fd);
  listener->lock_fd = options->handed->lock_fd;
  int status = SLC_OK;
  if (listener->lock_fd < 0) status = slc__net_adopt(options->handed->listen_fd, options->path, &listener->lock_fd);
  if (status == SLC_OK) listener->fd = options->handed->listen_fd;
  return status;
}

/* Whoever connects to a socket of the manager's while nobody serves waits there for the next of us. */
static void leave_socket(struct slc__listener *listener) {
  const struct slc__listener_options *options = &listener->options;
  if (options->handed != NULL && options->handed->is_shared) {
    slc__fd_close(&listener->fd);
    slc__fd_close(&listener->lock_fd);
    return;
  }
  if (options->handed == NULL || !options->handed->is_managers) {
    slc__net_unlisten(options->path, &listener->fd, &listener->lock_fd);
    return;
  }
  slc__net_unlock(options->path, &listener->lock_fd);
  slc__fd_close(&listener->fd);
}

static int watch(struct slc__listener *listener, uv_loop_t *loop) {
  if (uv_poll_init(loop, &listener->poll, listener->fd) != 0)
    return slc__fail(SLC_SYSTEM, "cannot watch the socket %s", listener->options.path);
  listener->poll.data = listener;
  return slc__loop_watch(&listener->poll, listener->fd, UV_READABLE, on_connection);
}

int slc__listener_open(struct slc__listener *listener, uv_loop_t *loop, const struct slc__listener_options *options,
                       int (*accepted)(void *owner, int fd), void *owner) {
  *listener = (struct slc__listener){
      .options = *options, .fd = -1, .lock_fd = -1, .reserve_fd = -1, .accepted = accepted, .owner = owner};
  int status = take_socket(listener);
  if (status != SLC_OK) return status;
  status = watch(listener, loop);
  if (status != SLC_OK) {
    leave_socket(listener);
    return status;
  }
  open_reserve(listener);
  return SLC_OK;
}

void slc__listener_close(struct slc__listener *listener) {
  uv_close((uv_handle_t *)&listener->poll, NULL);
  leave_socket(listener);
  slc__fd_close(&listener->reserve_fd);
}

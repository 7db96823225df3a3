/* The broker as a whole: listens, accepts, ends.  Thread: the loop's. */
#include "broker/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "loop/watch.h"

enum { ACCEPTS_AT_ONCE = 64 };

/* One descriptor in reserve: when all are used up, it makes room to accept a connection and close it at once, so that
 * the client is told and the listener does not spin. */
static void open_reserve(struct broker *broker) {
  broker->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void turn_away(struct broker *broker) {
  slc__log(SLC__LOG_ERROR, "a connection was turned away: no file descriptor is left (raise LimitNOFILE=)");
  slc__fd_close(&broker->reserve_fd);
  int fd;
  if (slc__net_accept(broker->listen_fd, &fd) == SLC_OK) close(fd);
  open_reserve(broker);
}

static void on_connection(uv_poll_t *poll, int poll_status, int events) {
  struct broker *broker = poll->data;
  (void)poll_status;
  (void)events;
  if (broker->reserve_fd < 0) open_reserve(broker); /* it could not be had when it was used last */
  for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
    int fd;
    int status = slc__net_accept(broker->listen_fd, &fd);
    if (status == SLC__NET_AGAIN) return;
    if (status == SLC_NO_DESCRIPTORS) {
      turn_away(broker);
      return;
    }
    if (status == SLC_OK) status = client_open(broker, fd);
    if (status != SLC_OK) {
      slc__log(SLC__LOG_WARNING, "a connection was refused: %s", slc__error_detail());
      return;
    }
  }
}

static int begin_session(struct broker *broker) {
  if (getrandom(broker->session, sizeof broker->session, 0) != (ssize_t)sizeof broker->session)
    return slc__fail(SLC_SYSTEM, "no random numbers: %s", strerror(errno));
  int removed = slc__object_sweep();
  if (removed > 0) slc__log(SLC__LOG_NOTICE, "removed %d files of dead sessions from /dev/shm", removed);
  return broker->options.backend == SLC__BACKEND_SHM ? broker_lock_session(broker) : SLC_OK;
}

int broker_lock_session(struct broker *broker) {
  return broker->session_lock >= 0 ? SLC_OK : slc__object_session_lock(broker->session, &broker->session_lock);
}

static void end_session(struct broker *broker) {
  if (broker->session_lock < 0) return;
  slc__object_session_unlock(broker->session, broker->session_lock);
  broker->session_lock = -1;
}

/* ---- the socket ---- */

static int listener_open(struct broker *broker) {
  const struct broker_options *options = &broker->options;
  if (options->handed == NULL)
    return slc__net_listen(options->socket, options->socket_mode, options->socket_gid, &broker->listen_fd,
                           &broker->lock_fd);
  int status = slc__net_adopt(options->handed->listen_fd, options->socket, &broker->lock_fd);
  if (status == SLC_OK) broker->listen_fd = options->handed->listen_fd;
  return status;
}

/* Whoever connects to a socket of the manager's while nobody serves waits there for the next broker. */
static void listener_close(struct broker *broker) {
  if (broker->options.handed == NULL || !broker->options.handed->is_managers) {
    slc__net_unlisten(broker->options.socket, &broker->listen_fd, &broker->lock_fd);
    return;
  }
  slc__net_unlock(broker->options.socket, &broker->lock_fd);
  slc__fd_close(&broker->listen_fd);
}

static int watch_listener(struct broker *broker) {
  if (uv_poll_init(broker->loop, &broker->listener, broker->listen_fd) != 0)
    return slc__fail(SLC_SYSTEM, "cannot watch the socket %s", broker->options.socket);
  broker->listener.data = broker;
  return slc__loop_watch(&broker->listener, broker->listen_fd, UV_READABLE, on_connection);
}

int broker_open(struct broker *broker, uv_loop_t *loop, const struct broker_options *options) {
  *broker = (struct broker){
      .loop = loop, .options = *options, .session_lock = -1, .listen_fd = -1, .lock_fd = -1, .reserve_fd = -1};
  LIST_INIT(&broker->processes);
  LIST_INIT(&broker->accounts);
  int status = begin_session(broker);
  if (status == SLC_OK) status = listener_open(broker);
  if (status == SLC_OK) {
    status = watch_listener(broker);
    if (status != SLC_OK) listener_close(broker);
  }
  if (status != SLC_OK) {
    end_session(broker);
    return status;
  }
  open_reserve(broker);
  uv_timer_init(loop, &broker->sweeper);
  broker->sweeper.data = broker;
  events_open(broker);
  watch_init(broker);
  LIST_INIT(&broker->helpers);
  return SLC_OK;
}

void broker_close(struct broker *broker) {
  uv_close((uv_handle_t *)&broker->listener, NULL);
  uv_close((uv_handle_t *)&broker->sweeper, NULL);
  uv_close((uv_handle_t *)&broker->watch, NULL);
  listener_close(broker);
  slc__fd_close(&broker->reserve_fd);
  broker->is_closing = true;
  events_close(broker);
  process_forget_all(broker);
  channel_forget_all(broker);
  helpers_forget(broker);
  end_session(broker);
}

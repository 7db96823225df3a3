/* A connection on the loop: reads while there is something, queues little, never waits.
 *
 * Invariants: the queue goes out in order and is bounded; while it is not empty nothing overtakes it; what is held in
 * it is behind what is not, and nothing is polled for while its first is held; while descriptors are short the
 * connection is not read, and tried again by a timer.  Thread: the loop's. */
#include "loop/connection.h"

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "loop/watch.h"

enum {
  QUEUE_BYTES_MAX = 8 * 1024 * 1024, /* a client that lets so much wait does not read its answers */
  READS_AT_ONCE = 16,                /* then the others have their turn */
  RETRY_MS = 100,                    /* while descriptors are short */
  STALL_MS = 2,                      /* while too many descriptors are on their way (ETOOMANYREFS) */
};

struct datagram {
  STAILQ_ENTRY(datagram) link;
  uint64_t stage; /* that it waits for */
  size_t size;
  size_t fd_count;
  int *fds;
  uint8_t data[];
};

struct slc__connection {
  uv_poll_t poll;
  uv_timer_t retry;
  int handles; /* of libuv, not yet closed */
  int fd;
  const struct slc__connection_events *events;
  void *owner;
  bool closing;
  bool wants_writable; /* a try_send was refused */
  bool is_finishing;   /* its writing side ends with the queue */
  bool is_stalled;     /* nothing can be sent although the socket is writable: a timer tries again */
  bool is_paused;      /* too few descriptors to receive */
  bool is_pause_told;  /* and that it waits has been logged, once until it can receive again */
  STAILQ_HEAD(, datagram) queue;
  size_t queued_bytes;
  uint64_t sent;          /* datagrams */
  struct slc__hold *hold; /* NULL: nothing is held */
  bool is_waiting;        /* in the hold's list */
  uint64_t last_stage;    /* of what was queued last */
  LIST_ENTRY(slc__connection) waiting;
};

/* One for all: a datagram has been handled when the next is received. */
static uint8_t receive_buffer[SLC__NET_DATAGRAM_MAX];

static void on_poll(uv_poll_t *poll, int status, int events);

/* ---- the queue ---- */

static void datagram_free(struct datagram *datagram) {
  for (size_t i = 0; i < datagram->fd_count; i++) slc__fd_close(&datagram->fds[i]);
  free(datagram->fds);
  free(datagram);
}

static struct datagram *datagram_new(const void *data, size_t size, const int *fds, size_t fd_count) {
  struct datagram *datagram = malloc(sizeof *datagram + size);
  if (datagram == NULL) return NULL;
  *datagram = (struct datagram){.size = size};
  memcpy(datagram->data, data, size);
  datagram->fds = calloc(fd_count + 1, sizeof *datagram->fds);
  for (; datagram->fds != NULL && datagram->fd_count < fd_count; datagram->fd_count++) {
    int copy = fcntl(fds[datagram->fd_count], F_DUPFD_CLOEXEC, 3);
    if (copy < 0) break;
    datagram->fds[datagram->fd_count] = copy;
  }
  if (datagram->fds != NULL && datagram->fd_count == fd_count) return datagram;
  datagram_free(datagram);
  return NULL;
}

static void queue_drop_first(struct slc__connection *connection) {
  struct datagram *first = STAILQ_FIRST(&connection->queue);
  STAILQ_REMOVE_HEAD(&connection->queue, link);
  connection->queued_bytes -= first->size;
  datagram_free(first);
}

/* ---- what is held ---- */

/* What is sent now has to wait. */
static bool is_holding(const struct slc__connection *connection) {
  return connection->hold != NULL && connection->hold->stage > connection->hold->released;
}

/* The first that is queued has to wait, and so all of them. */
static bool is_held(const struct slc__connection *connection) {
  const struct datagram *first = STAILQ_FIRST(&connection->queue);
  return first != NULL && connection->hold != NULL && first->stage > connection->hold->released;
}

static void wait_for_release(struct slc__connection *connection) {
  if (connection->is_waiting) return;
  connection->is_waiting = true;
  LIST_INSERT_HEAD(&connection->hold->waiting, connection, waiting);
}

static void wait_no_more(struct slc__connection *connection) {
  if (!connection->is_waiting) return;
  connection->is_waiting = false;
  LIST_REMOVE(connection, waiting);
}

/* ---- what to poll for ---- */

static bool has_to_write(const struct slc__connection *connection) {
  return !is_held(connection) && (connection->wants_writable || !STAILQ_EMPTY(&connection->queue));
}

static int watch(struct slc__connection *connection) {
  bool write = has_to_write(connection) && !connection->is_stalled;
  int events = (connection->is_paused ? 0 : UV_READABLE | UV_DISCONNECT) | (write ? UV_WRITABLE : 0);
  return slc__loop_watch(&connection->poll, connection->fd, events, on_poll);
}

static void on_retry(uv_timer_t *timer);

/* Where it can't be polled now, it is tried again. */
static void watch_or_retry(struct slc__connection *connection) {
  if (watch(connection) == SLC_OK) return;
  slc__log(SLC__LOG_WARNING, "%s: a client waits", slc__error_detail());
  uv_timer_start(&connection->retry, on_retry, RETRY_MS, 0);
}

static void on_retry(uv_timer_t *timer) {
  struct slc__connection *connection = timer->data;
  connection->is_paused = connection->is_stalled = false;
  watch_or_retry(connection);
}

static void pause_reading(struct slc__connection *connection) {
  if (!connection->is_pause_told)
    slc__log(SLC__LOG_WARNING, "file descriptors are short: a client waits (raise LimitNOFILE=, or ulimit -n)");
  connection->is_pause_told = connection->is_paused = true;
  uv_timer_start(&connection->retry, on_retry, RETRY_MS, 0);
  watch_or_retry(connection);
}

/* ---- in ---- */

/* What a message asks for takes descriptors, too: it waits until there are enough for that. */
static void read_some(struct slc__connection *connection) {
  for (int i = 0; i < READS_AT_ONCE && !connection->closing; i++) {
    struct slc__fds fds;
    size_t size;
    slc__fds_init(&fds);
    int status = SLC_NO_DESCRIPTORS;
    if (slc__net_descriptors_free(SLC__NET_DESCRIPTORS_MAX + 1))
      status = slc__net_receive(connection->fd, receive_buffer, sizeof receive_buffer, &size, &fds, MSG_DONTWAIT);
    if (status == SLC__NET_AGAIN) return;
    if (status == SLC_NO_DESCRIPTORS) {
      pause_reading(connection);
      return;
    }
    if (status != SLC_OK) {
      connection->events->ended(connection->owner, status == SLC__NET_CLOSED ? 0 : status);
      return;
    }
    connection->is_pause_told = false;
    connection->events->received(connection->owner, receive_buffer, size, &fds);
    slc__fds_deinit(&fds);
  }
}

/* ---- out ---- */

static int flush(struct slc__connection *connection) {
  while (!STAILQ_EMPTY(&connection->queue) && !is_held(connection)) {
    struct datagram *first = STAILQ_FIRST(&connection->queue);
    int status = slc__net_send(connection->fd, first->data, first->size, first->fds, first->fd_count, MSG_DONTWAIT);
    if (status == SLC__NET_AGAIN) return SLC_OK;
    if (status != SLC_OK) return status;
    connection->sent++;
    queue_drop_first(connection);
  }
  return SLC_OK;
}

/* The kernel bounds how many descriptors of a user are on their way (as many as the sender may have open), and no event
 * tells when there are fewer: a socket that is writable and takes nothing is tried again a little later. */
static void stall_writing(struct slc__connection *connection) {
  connection->is_stalled = true;
  if (!uv_is_active((uv_handle_t *)&connection->retry)) uv_timer_start(&connection->retry, on_retry, STALL_MS, 0);
  watch_or_retry(connection);
}

static void write_waiting(struct slc__connection *connection) {
  int status = flush(connection);
  if (status != SLC_OK) {
    connection->events->ended(connection->owner, status == SLC__NET_CLOSED ? 0 : status);
    return;
  }
  if (is_held(connection)) watch_or_retry(connection);
  if (!STAILQ_EMPTY(&connection->queue)) return;
  if (connection->is_finishing) shutdown(connection->fd, SHUT_WR);
  bool asked = connection->wants_writable;
  connection->wants_writable = false;
  watch_or_retry(connection);
  if (asked) connection->events->writable(connection->owner);
}

static void write_some(struct slc__connection *connection) {
  uint64_t sent = connection->sent;
  write_waiting(connection);
  if (!connection->closing && has_to_write(connection) && connection->sent == sent) stall_writing(connection);
}

/* A peer that reads no more is waiting for nothing: reading tells its end, also where only its writing side is left. */
static int send_now(struct slc__connection *connection, const void *data, size_t size, const int *fds,
                    size_t fd_count) {
  int status = slc__net_send(connection->fd, data, size, fds, fd_count, MSG_DONTWAIT);
  if (status == SLC_OK) connection->sent++;
  if (status == SLC__NET_CLOSED) slc__connection_abort(connection);
  return status;
}

/* SLC_LIMIT, SLC_NO_MEMORY: it is not queued. */
static int queue_add(struct slc__connection *connection, const void *data, size_t size, const int *fds,
                     size_t fd_count) {
  if (connection->queued_bytes + size > QUEUE_BYTES_MAX)
    return slc__fail(SLC_LIMIT, "the client does not read its answers: %zu bytes wait", connection->queued_bytes);
  struct datagram *datagram = datagram_new(data, size, fds, fd_count);
  if (datagram == NULL) return slc__fail(SLC_NO_MEMORY, "no memory or descriptors to queue an answer");
  if (connection->hold != NULL) datagram->stage = connection->last_stage = connection->hold->stage;
  STAILQ_INSERT_TAIL(&connection->queue, datagram, link);
  connection->queued_bytes += size;
  if (is_holding(connection)) wait_for_release(connection);
  return SLC_OK;
}

/* Behind what the socket had no room for nothing is tried. */
static int try_now(struct slc__connection *connection, const void *data, size_t size, const int *fds, size_t fd_count) {
  bool is_full = !STAILQ_EMPTY(&connection->queue) && !is_held(connection);
  if (is_full) return SLC__NET_AGAIN;
  if (!is_holding(connection)) return send_now(connection, data, size, fds, fd_count);
  return queue_add(connection, data, size, fds, fd_count) == SLC_OK ? SLC_OK : SLC__NET_AGAIN;
}

int slc__connection_try_send(struct slc__connection *connection, const void *data, size_t size, const int *fds,
                             size_t fd_count) {
  int status = try_now(connection, data, size, fds, fd_count);
  if (status == SLC__NET_AGAIN && !connection->wants_writable) {
    connection->wants_writable = true;
    watch_or_retry(connection);
  }
  return status;
}

int slc__connection_send(struct slc__connection *connection, const void *data, size_t size, const int *fds,
                         size_t fd_count) {
  if (STAILQ_EMPTY(&connection->queue) && !is_holding(connection)) {
    int status = send_now(connection, data, size, fds, fd_count);
    if (status != SLC__NET_AGAIN) return status;
  }
  int status = queue_add(connection, data, size, fds, fd_count);
  if (status == SLC_OK && !is_held(connection)) watch_or_retry(connection);
  return status;
}

/* ---- holding ---- */

void slc__hold_init(struct slc__hold *hold) {
  *hold = (struct slc__hold){0};
  LIST_INIT(&hold->waiting);
}

void slc__connection_hold(struct slc__connection *connection, struct slc__hold *hold) {
  connection->hold = hold;
}

/* One that can't be sent to is told of it by its poll, not from here: this may be in the middle of anything. */
static void release(struct slc__connection *connection) {
  if (flush(connection) != SLC_OK) slc__connection_abort(connection);
  bool is_more = !STAILQ_EMPTY(&connection->queue) && connection->last_stage > connection->hold->released;
  if (!is_more) wait_no_more(connection);
  watch_or_retry(connection);
}

void slc__hold_release(struct slc__hold *hold, uint64_t stage) {
  struct slc__connection *connection, *next;
  hold->released = stage;
  for (connection = LIST_FIRST(&hold->waiting); connection != NULL; connection = next) {
    next = LIST_NEXT(connection, waiting);
    release(connection);
  }
}

/* ---- life ---- */

static void on_poll(uv_poll_t *poll, int status, int events) {
  struct slc__connection *connection = poll->data;
  if (status < 0) {
    connection->events->ended(connection->owner, 0);
    return;
  }
  if ((events & UV_WRITABLE) != 0) write_some(connection);
  /* After a disconnect what the peer sent before is still read; the end comes as SLC__NET_CLOSED. */
  if (!connection->closing && !connection->is_paused && (events & (UV_READABLE | UV_DISCONNECT)) != 0)
    read_some(connection);
}

static void on_handle_closed(uv_handle_t *handle) {
  struct slc__connection *connection = handle->data;
  if (--connection->handles > 0) return;
  slc__fd_close(&connection->fd);
  free(connection);
}

int slc__connection_open(uv_loop_t *loop, int fd, const struct slc__connection_events *events, void *owner,
                         struct slc__connection **ret_connection) {
  struct slc__connection *connection = malloc(sizeof *connection);
  if (connection == NULL || uv_poll_init(loop, &connection->poll, fd) != 0) {
    free(connection);
    close(fd);
    return slc__fail(SLC_NO_MEMORY, "no memory for one more connection");
  }
  uv_timer_init(loop, &connection->retry);
  connection->poll.data = connection->retry.data = connection;
  connection->handles = 2;
  connection->fd = fd;
  connection->events = events;
  connection->owner = owner;
  connection->closing = connection->wants_writable = connection->is_paused = connection->is_pause_told = false;
  connection->is_stalled = connection->is_finishing = false;
  connection->sent = 0;
  connection->queued_bytes = 0;
  connection->hold = NULL;
  connection->is_waiting = false;
  connection->last_stage = 0;
  STAILQ_INIT(&connection->queue);
  int status = watch(connection);
  if (status != SLC_OK) {
    slc__connection_close(connection);
    return status;
  }
  *ret_connection = connection;
  return SLC_OK;
}

bool slc__connection_is_over(const struct slc__connection *connection) {
  struct pollfd poll_fd = {.fd = connection->fd, .events = POLLRDHUP};
  return poll(&poll_fd, 1, 0) == 1;
}

void slc__connection_abort(struct slc__connection *connection) {
  shutdown(connection->fd, SHUT_RDWR);
}

void slc__connection_finish(struct slc__connection *connection) {
  connection->is_finishing = true;
  if (STAILQ_EMPTY(&connection->queue)) shutdown(connection->fd, SHUT_WR);
}

void slc__connection_close(struct slc__connection *connection) {
  if (connection == NULL || connection->closing) return;
  connection->closing = true;
  wait_no_more(connection);
  while (!STAILQ_EMPTY(&connection->queue)) queue_drop_first(connection);
  uv_close((uv_handle_t *)&connection->poll, on_handle_closed);
  uv_close((uv_handle_t *)&connection->retry, on_handle_closed);
  /* The peer sees the end now, not when the loop comes round. */
  shutdown(connection->fd, SHUT_RDWR);
}

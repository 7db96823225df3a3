/* The shadow as a whole: listens, accepts, ends.  Thread: the loop's. */
#include "shadow/shadow.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "loop/watch.h"

/* Descriptors that are not for records: connections and their pidfds, the loop's, and room to receive. */
enum { ACCEPTS_AT_ONCE = 16, DESCRIPTORS_ASIDE = SLC__NET_DESCRIPTORS_MAX + 4 * LINKS_MAX };

/* ---- the listener ---- */

/* One descriptor in reserve: when all are used up, it makes room to accept a connection and close it at once, so that
 * the peer is told and the listener does not spin. */
static void open_reserve(struct shadow *shadow) {
  shadow->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void turn_away(struct shadow *shadow) {
  slc__log(SLC__LOG_ERROR, "a connection was turned away: no file descriptor is left (raise LimitNOFILE=)");
  slc__fd_close(&shadow->reserve_fd);
  int fd;
  if (slc__net_accept(shadow->listen_fd, &fd) == SLC_OK) close(fd);
  open_reserve(shadow);
}

static void on_connection(uv_poll_t *poll, int poll_status, int events) {
  struct shadow *shadow = poll->data;
  (void)poll_status;
  (void)events;
  if (shadow->reserve_fd < 0) open_reserve(shadow);
  for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
    int fd;
    int status = slc__net_accept(shadow->listen_fd, &fd);
    if (status == SLC__NET_AGAIN) return;
    if (status == SLC_NO_DESCRIPTORS) {
      turn_away(shadow);
      return;
    }
    if (status == SLC_OK) status = link_open(shadow, fd);
    if (status != SLC_OK) slc__log(SLC__LOG_WARNING, "a connection was refused: %s", slc__error_detail());
  }
}

static int watch_listener(struct shadow *shadow) {
  if (uv_poll_init(shadow->loop, &shadow->listener, shadow->listen_fd) != 0)
    return slc__fail(SLC_SYSTEM, "cannot watch the socket %s", shadow->options.socket);
  shadow->listener.data = shadow;
  return slc__loop_watch(&shadow->listener, shadow->listen_fd, UV_READABLE, on_connection);
}

/* ---- life ---- */

/* More than the process can have must not be promised: a broker that relies on it would wait for ever. */
static void bound_descriptors(struct record_limits *limits) {
  struct rlimit process;
  if (getrlimit(RLIMIT_NOFILE, &process) != 0) return;
  uint64_t room = process.rlim_cur > DESCRIPTORS_ASIDE ? process.rlim_cur - DESCRIPTORS_ASIDE : 0;
  if (limits->descriptors <= room) return;
  if (limits->descriptors != DESCRIPTORS_ALL)
    slc__log(SLC__LOG_WARNING, "at most %llu descriptors can be kept: this process may have %llu open (LimitNOFILE=)",
             (unsigned long long)room, (unsigned long long)process.rlim_cur);
  limits->descriptors = room;
}

int shadow_open(struct shadow *shadow, uv_loop_t *loop, const struct shadow_options *options) {
  *shadow = (struct shadow){.loop = loop, .options = *options, .listen_fd = -1, .lock_fd = -1, .reserve_fd = -1};
  LIST_INIT(&shadow->links);
  bound_descriptors(&shadow->options.limits);
  records_init(&shadow->records, &shadow->options.limits);
  int status =
      slc__net_listen(options->socket, options->socket_mode, options->socket_gid, &shadow->listen_fd, &shadow->lock_fd);
  if (status != SLC_OK) return status;
  status = watch_listener(shadow);
  if (status != SLC_OK) {
    slc__net_unlisten(options->socket, &shadow->listen_fd, &shadow->lock_fd);
    return status;
  }
  open_reserve(shadow);
  return SLC_OK;
}

void shadow_close(struct shadow *shadow) {
  uv_close((uv_handle_t *)&shadow->listener, NULL);
  slc__net_unlisten(shadow->options.socket, &shadow->listen_fd, &shadow->lock_fd);
  slc__fd_close(&shadow->reserve_fd);
  for (struct link *link = LIST_FIRST(&shadow->links), *next; link != NULL; link = next) {
    next = LIST_NEXT(link, of_shadow);
    link_close(link);
  }
  records_deinit(&shadow->records);
}

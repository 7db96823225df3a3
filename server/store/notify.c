/* See notify.h.
 *
 * The socket is connected, so that it is writable when the manager's queue has room.  A barrier is a pipe whose write
 * end is sent: the manager closes it when its turn comes, which is seen at the read end.  Thread: the loop's. */
#include "store/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "loop/watch.h"
#include "net/seqpacket.h"

enum { RETRY_MS = 10 /* while too many descriptors are under way */ };

struct barrier {
  uv_poll_t poll;
  int fd;
  struct slc__notify *notify; /* NULL: called off */
};

struct slc__notify {
  uv_poll_t poll;
  uv_timer_t retry;
  int handles;
  int fd;
  const struct slc__notify_events *events;
  void *owner;
  struct barrier *barrier; /* under way */
};

/* ---- the address ---- */

bool slc__notify_is_there(void) {
  const char *path = getenv("NOTIFY_SOCKET");
  return path != NULL && path[0] != '\0';
}

/* "@..." is in the abstract name space. */
static int connect_to_manager(int fd) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char *path = getenv("NOTIFY_SOCKET");
  size_t length = path == NULL ? 0 : strlen(path);
  if (length == 0) return slc__fail(SLC_INVALID, "there is no service manager: $NOTIFY_SOCKET is not set");
  if (length >= sizeof address.sun_path) return slc__fail(SLC_INVALID, "$NOTIFY_SOCKET is too long: %s", path);
  memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] == '@' ? 0 : 1));
  if (connect(fd, (const struct sockaddr *)&address, size) == 0) return SLC_OK;
  return slc__fail(slc__status_of_errno(errno), "cannot reach the service manager at %s: %s", path, strerror(errno));
}

/* ---- sending ---- */

static void on_writable(uv_poll_t *poll, int status, int events) {
  struct slc__notify *notify = poll->data;
  (void)status;
  (void)events;
  uv_poll_stop(poll);
  notify->events->writable(notify->owner);
}

static void on_retry(uv_timer_t *timer) {
  struct slc__notify *notify = timer->data;
  notify->events->writable(notify->owner);
}

/* Of a full queue the socket tells when it has room; of too many descriptors under way nobody does. */
static int wait_for_room(struct slc__notify *notify, int error) {
  if (error != EAGAIN || slc__loop_watch(&notify->poll, notify->fd, UV_WRITABLE, on_writable) != SLC_OK)
    uv_timer_start(&notify->retry, on_retry, RETRY_MS, 0);
  return SLC__NET_AGAIN;
}

int slc__notify_send(struct slc__notify *notify, const char *text, int fd) {
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof fd)];
  } control = {.room = {0}};
  struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control.room;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
  }
  ssize_t sent;
  do sent = sendmsg(notify->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return SLC_OK;
  if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS) return wait_for_room(notify, errno);
  return slc__fail(slc__status_of_errno(errno), "cannot tell the service manager: %s", strerror(errno));
}

/* ---- barriers ---- */

static void on_barrier_closed(uv_handle_t *handle) {
  struct barrier *barrier = handle->data;
  slc__fd_close(&barrier->fd);
  free(barrier);
}

static void barrier_close(struct slc__notify *notify) {
  if (notify->barrier == NULL) return;
  uv_close((uv_handle_t *)&notify->barrier->poll, on_barrier_closed);
  notify->barrier->notify = NULL;
  notify->barrier = NULL;
}

static void on_barrier(uv_poll_t *poll, int status, int events) {
  struct barrier *barrier = poll->data;
  struct slc__notify *notify = barrier->notify;
  (void)status;
  (void)events;
  if (notify == NULL) return;
  barrier_close(notify);
  notify->events->reached(notify->owner);
}

static struct barrier *barrier_new(struct slc__notify *notify, int fd) {
  struct barrier *barrier = malloc(sizeof *barrier);
  if (barrier == NULL || uv_poll_init(notify->poll.loop, &barrier->poll, fd) != 0) {
    free(barrier);
    close(fd);
    slc__error_set(SLC_NO_MEMORY, "no memory to wait for the service manager");
    return NULL;
  }
  barrier->poll.data = barrier;
  barrier->fd = fd;
  barrier->notify = notify;
  return barrier;
}

int slc__notify_barrier(struct slc__notify *notify) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    return slc__fail(slc__status_of_errno(errno), "cannot make a pipe: %s", strerror(errno));
  notify->barrier = barrier_new(notify, ends[0]);
  int status = notify->barrier == NULL ? SLC_NO_MEMORY : slc__notify_send(notify, "BARRIER=1", ends[1]);
  close(ends[1]);
  /* Watched only now that the manager has the only other end, or nobody. */
  if (status == SLC_OK)
    status = slc__loop_watch(&notify->barrier->poll, notify->barrier->fd, UV_READABLE | UV_DISCONNECT, on_barrier);
  if (status != SLC_OK) barrier_close(notify);
  return status;
}

/* ---- life ---- */

static void on_closed(uv_handle_t *handle) {
  struct slc__notify *notify = handle->data;
  if (--notify->handles > 0) return;
  slc__fd_close(&notify->fd);
  free(notify);
}

int slc__notify_open(uv_loop_t *loop, const struct slc__notify_events *events, void *owner,
                     struct slc__notify **ret_notify) {
  SLC__CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return slc__fail(slc__status_of_errno(errno), "cannot make a socket: %s", strerror(errno));
  int status = connect_to_manager(fd);
  if (status != SLC_OK) return status;
  struct slc__notify *notify = calloc(1, sizeof *notify);
  if (notify == NULL || uv_poll_init(loop, &notify->poll, fd) != 0) {
    free(notify);
    return slc__fail(SLC_NO_MEMORY, "no memory to speak to the service manager");
  }
  uv_timer_init(loop, &notify->retry);
  notify->poll.data = notify->retry.data = notify;
  notify->handles = 2;
  notify->fd = slc__fd_take(&fd);
  notify->events = events;
  notify->owner = owner;
  *ret_notify = notify;
  return SLC_OK;
}

void slc__notify_close(struct slc__notify *notify) {
  if (notify == NULL) return;
  barrier_close(notify);
  uv_close((uv_handle_t *)&notify->poll, on_closed);
  uv_close((uv_handle_t *)&notify->retry, on_closed);
}

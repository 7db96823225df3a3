/* What a service manager (systemd's protocol) gives us, and is told.  Without one nothing of this does anything.
 * Thread: the loop's. */
#ifndef SLC__DAEMON_SERVICE_H
#define SLC__DAEMON_SERVICE_H

#include <stdbool.h>
#include <uv.h>

/* A socket that listens already. */
struct slc__handed_socket {
  int listen_fd;
  bool is_managers; /* the service manager's, which keeps it when we end */
};

struct slc__service {
  uv_timer_t watchdog;
  bool is_watched;
};

/* The socket that the manager listens with, and where; listen_fd is -1 where it gave none.  SLC_INVALID (several, or
 * none to serve at), SLC_SYSTEM. */
int slc__service_take_socket(struct slc__handed_socket *ret_socket, char *path, size_t size);
/* We serve at `path`: tells it so, and from now on that we live, as often as it wants to hear that. */
void slc__service_begin(struct slc__service *service, uv_loop_t *loop, const char *path);
/* We end. */
void slc__service_end(struct slc__service *service);

#endif

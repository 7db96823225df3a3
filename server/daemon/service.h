/* What a service manager (systemd's protocol) gives us, and is told.  Without one nothing of this does anything.
 * Thread: the loop's. */
#ifndef SLC__DAEMON_SERVICE_H
#define SLC__DAEMON_SERVICE_H

#include <stdbool.h>
#include <uv.h>

/* A socket that listens already. */
struct slc__handed_socket {
  int listen_fd;
  int lock_fd;      /* the lock, which is held; -1: it is still to be taken */
  bool is_managers; /* the service manager's, which keeps it when we end */
  bool is_shared;   /* whoever handed it over still serves: then it stays when we end */
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
/* We serve nobody for a moment; it ends with slc__service_goes_on, or with the READY of whom we hand over to. */
void slc__service_reload(void);
void slc__service_goes_on(const char *path);
/* We end. */
void slc__service_end(struct slc__service *service);

#endif

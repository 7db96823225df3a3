/* What a service manager (systemd's protocol) gives us, and is told.  Without one nothing of this does anything.
 * Thread: the loop's. */
#ifndef SLC__BROKER_SERVICE_H
#define SLC__BROKER_SERVICE_H

#include "broker/options.h"

struct service {
  uv_timer_t watchdog;
  bool is_watched;
};

/* The socket that the manager listens with, where it gave one: line->broker.handed is *socket then, and where no
 * --socket was given line->broker.socket is where that listens.  SLC_INVALID (several, or none to serve at),
 * SLC_SYSTEM.
 */
int service_take_socket(struct command_line *line, struct handed_socket *socket);
/* We serve at `path`: tells it so, and from now on that we live, as often as it wants to hear that. */
void service_begin(struct service *service, uv_loop_t *loop, const char *path);
/* We end. */
void service_end(struct service *service);

#endif

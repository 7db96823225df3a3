/* The shadow: keeps records for one broker at a time and gives them to the next.  Thread: the loop's. */
#ifndef SLC__SHADOW_SHADOW_H
#define SLC__SHADOW_SHADOW_H

#include <sys/types.h>
#include <uv.h>

#include "loop/connection.h"
#include "shadow/records.h"

enum { LINKS_MAX = 16 };
#define DESCRIPTORS_ALL ((uint64_t)INT64_MAX) /* as a limit: as many as the process may have */

struct shadow_options {
  const char *socket;
  mode_t socket_mode;
  gid_t socket_gid; /* -1: as it comes */
  uid_t user;       /* who may speak to it, besides its own */
  struct record_limits limits;
};

/* One connection. */
struct link {
  LIST_ENTRY(link) of_shadow;
  struct shadow *shadow;
  struct slc__connection *connection;
  struct kept *loading; /* the next to be sent */
  bool is_loading;
  bool has_ended; /* refused: it is read to its end and nothing of it counts */
  uv_timer_t linger;
};

struct shadow {
  uv_loop_t *loop;
  struct shadow_options options;
  struct records records;
  int listen_fd, lock_fd, reserve_fd;
  uv_poll_t listener;
  LIST_HEAD(, link) links;
  unsigned link_count;
  struct link *broker; /* the one that is served; NULL: none */
};

/* Serves at options->socket; strings stay the caller's and must stay.  Statuses as slc__net_listen, SLC_NO_MEMORY. */
int shadow_open(struct shadow *shadow, uv_loop_t *loop, const struct shadow_options *options);
/* Everything that it kept is gone; the loop ends when its handles are closed. */
void shadow_close(struct shadow *shadow);

/* Takes the connection over; SLC_DENIED and others: it is closed. */
int link_open(struct shadow *shadow, int fd);
void link_close(struct link *link);

#endif

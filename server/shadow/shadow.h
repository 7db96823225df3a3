/* The shadow: keeps records for one broker at a time and gives them to the next.  Thread: the loop's. */
#ifndef SLC__SHADOW_SHADOW_H
#define SLC__SHADOW_SHADOW_H

#include <sys/types.h>
#include <uv.h>

#include "daemon/listener.h"
#include "loop/connection.h"
#include "shadow/records.h"

enum { LINKS_MAX = 16 };                      /* connections; more than two, so that one of them is not the broker's */
#define DESCRIPTORS_ALL ((uint64_t)INT64_MAX) /* as a limit: as many as the process may have */

struct shadow_options {
  struct slc__listener_options listen;
  uid_t user; /* who may speak to it, besides its own */
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
  struct slc__listener listener;
  LIST_HEAD(, link) links;
  unsigned link_count;
  struct link *broker; /* the one that is served; NULL: none */
};

/* Statuses as slc__net_listen. */
int shadow_open(struct shadow *shadow, uv_loop_t *loop, const struct shadow_options *options);
/* Everything that it kept is gone; the loop ends when its handles are closed. */
void shadow_close(struct shadow *shadow);

/* Takes the connection over; where it fails, it is closed. */
int link_open(struct shadow *shadow, int fd);
void link_close(struct link *link);

#endif

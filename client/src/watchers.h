/* The doorbells of publishers, as one publisher or subscriber was told: pages from the broker become a struct
 * slc__watchers.
 *
 * Thread: under the client's lock; the set in use is read by the handle's own thread without it. */
#ifndef SLC__CLIENT_WATCHERS_H
#define SLC__CLIENT_WATCHERS_H

#include "connection.h"
#include "received.h"
#include "shm/watchers.h"

struct slc__watcher_set;

struct slc__watcher_sets {
  struct slc__watcher_set *incoming; /* pages are missing */
  struct slc__watcher_set *latest;   /* whole, not yet in use */
  struct slc__watcher_set *in_use;   /* borrowed by the slot log */
};

/* One page.  SLC_PROTOCOL, SLC_NO_MEMORY: then the set has a hole, and the connection is of no more use. */
int slc__watchers_page(struct slc__watcher_sets *sets, const Slotcast__Watchers *page, struct slc__received *received);
/* Puts the newest set into use for `watch`, when there is one newer than what it has; takes what has come first. */
void slc__watchers_sync(struct slc__watcher_sets *sets, slc_client *client, struct slc__watch *watch, uint64_t number);
/* The connection has ended: the pages that are missing will not come. */
void slc__watchers_cut_off(struct slc__watcher_sets *sets);
/* When no push finds them any more: without the lock. */
void slc__watchers_deinit(struct slc__watcher_sets *sets);

#endif

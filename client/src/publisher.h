/* What the connection needs of publishers. */
#ifndef SLC__CLIENT_PUBLISHER_H
#define SLC__CLIENT_PUBLISHER_H

#include "connection.h"

struct slc__watcher_sets;

/* A Membership pushed; the lock is held.  One for a publisher that has just been closed is ignored. */
int slc__publisher_pushed(slc_client *client, struct slc__received *received);
/* Where the doorbells pushed to this publisher go; NULL: it is none of ours.  The lock is held. */
struct slc__watcher_sets *slc__publisher_watchers(slc_client *client, uint64_t user);

#endif

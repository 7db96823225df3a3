/* What the connection and wait-sets need of publishers. */
#ifndef SLC__CLIENT_PUBLISHER_H
#define SLC__CLIENT_PUBLISHER_H

#include <stdbool.h>

#include "connection.h"

struct slc__watcher_sets;

/* A Membership pushed; the lock is held.  One for a publisher that has just been closed is ignored. */
int slc__publisher_pushed(slc_client *client, struct slc__received *received);
/* Where the doorbells pushed to this publisher go; NULL: it is none of ours.  The lock is held. */
struct slc__watcher_sets *slc__publisher_watchers(slc_client *client, uint64_t user);
/* For a wait-set: sees whether the broker has something to say to its client, or has gone.  Takes the handle's turn. */
void slc__publisher_look_around(slc_publisher *publisher);
/* For a wait-set: whether there is something to do for one that has a readiness descriptor; when not, that is not
 * readable until there may be.  Takes the handle's turn. */
bool slc__publisher_look(slc_publisher *publisher);

#endif

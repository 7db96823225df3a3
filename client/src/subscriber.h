/* What the connection, find.c and the wait-sets need of subscribers. */
#ifndef SLC__CLIENT_SUBSCRIBER_H
#define SLC__CLIENT_SUBSCRIBER_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"
#include "shm/slotlog.h"

struct slc__watcher_sets;

/* A SubscriberAttached pushed; the lock is held.  One for a subscriber that has just been closed is ignored. */
int slc__subscriber_pushed(slc_client *client, struct slc__received *received);
/* Where the publishers' doorbells pushed to this subscriber go; NULL: it is none of ours.  The lock is held. */
struct slc__watcher_sets *slc__subscriber_watchers(slc_client *client, uint64_t user);

/* The client's descriptor in the readiness descriptors of its subscribers: EPOLL_CTL_*.  The lock is held. */
void slc__subscribers_watch(slc_client *client, int operation);

/* Begins a call and gives the slot log's side; to be ended unless it fails.  SLC_EMPTY: there is no channel yet.
 * SLC_FORKED, and the statuses of slc_subscriber_open. */
int slc__subscriber_begin(slc_subscriber *subscriber, struct slc__sub **ret_sub);
/* Returns `status`. */
int slc__subscriber_end(slc_subscriber *subscriber, int status);
/* In between, after SLC_EMPTY: whether the handle has gone over to where there may be more; what else there is to say,
 * in *status. */
bool slc__subscriber_goes_on(slc_subscriber *subscriber, int *status);
/* In between: while several messages are taken, what the first of them lie in is not unmapped for the later ones. */
void slc__subscriber_pin(slc_subscriber *subscriber, bool is_pinned);
/* In between: what the slot log took becomes the caller's.  SLC_CHECKSUM: it does not, and counts as dropped. */
int slc__subscriber_hold(slc_subscriber *subscriber, const struct slc__taken *taken, slc_message *ret_message);
/* In between: the same for what was found, beside the messages taken: nothing is counted. */
int slc__subscriber_hold_found(slc_subscriber *subscriber, const struct slc__taken *taken, slc_message *ret_message);
/* In between, after a take that brought something: the readiness descriptor is readable exactly while there is more. */
void slc__subscriber_took(slc_subscriber *subscriber);
/* In between: the status of a take that brought nothing, with its sentence. */
int slc__subscriber_hold_nothing(slc_subscriber *subscriber, int status);

/* Whether a subscriber whose readiness descriptor has been asked for has something to tell: a message, a failure, or
 * that publishers came or went since the last look or wait.  When not, the descriptor is not readable until it has. */
bool slc__subscriber_look(slc_subscriber *subscriber);
/* Sees whether the broker has something to say to its client, or has gone.  How long one may sleep, ns, until the next
 * visit and look. */
int64_t slc__subscriber_visit(slc_subscriber *subscriber);

#endif

/* What the connection needs of subscribers. */
#ifndef SLC__CLIENT_SUBSCRIBER_H
#define SLC__CLIENT_SUBSCRIBER_H

#include "connection.h"

/* A SubscriberAttached pushed; the lock is held.  One for a subscriber that has just been closed is ignored. */
int slc__subscriber_pushed(slc_client *client, struct slc__received *received);

#endif

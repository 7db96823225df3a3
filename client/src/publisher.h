/* What the connection needs of publishers. */
#ifndef SLC__CLIENT_PUBLISHER_H
#define SLC__CLIENT_PUBLISHER_H

#include "connection.h"

/* A Membership pushed; the lock is held.  One for a publisher that has just been closed is ignored. */
int slc__publisher_pushed(slc_client *client, struct slc__received *received);

#endif

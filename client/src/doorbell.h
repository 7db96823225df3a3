/* A publisher's doorbell: its readiness descriptor, rung by whoever makes something happen that it waits for.
 *
 * Thread: the publisher's. */
#ifndef SLC__CLIENT_DOORBELL_H
#define SLC__CLIENT_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"
#include "shm/slotlog.h"

struct slc__doorbell {
  int fd;          /* receiving end of a socket pair; -1: none was asked for */
  int ring_fd;     /* sending end */
  bool is_blocked; /* the last loan was refused for want of a slot or of a subscriber */
};

/* Makes it and gives it to the broker, for everybody who uses the channel; readable until somebody has looked.
 * SLC_BROKER_GONE, SLC_NO_DESCRIPTORS, SLC_LIMIT, SLC_SYSTEM. */
int slc__doorbell_open(struct slc__doorbell *doorbell, slc_client *client, uint64_t user);
void slc__doorbell_close(struct slc__doorbell *doorbell);
/* Readable until somebody has looked. */
void slc__doorbell_wake(const struct slc__doorbell *doorbell);
/* Not readable until there may be something for this publisher; false when there is something already, and it is
 * readable still. */
bool slc__doorbell_rearm(struct slc__doorbell *doorbell, struct slc__pub *pub);

#endif

/* A message from the broker and the descriptors that came with it, consumed in the order of its manifest.
 *
 * Thread: under the client's lock. */
#ifndef SLC__CLIENT_RECEIVED_H
#define SLC__CLIENT_RECEIVED_H

#include <stdbool.h>
#include <stdint.h>

#include "net/seqpacket.h"
#include "proto/codec.h"
#include "shm/layout.h"
#include "shm/object.h"

/* What the broker said in its hello: against this every object is checked. */
struct slc__origin {
  uint8_t session[16];
};

struct slc__received {
  const Slotcast__Message *message;
  struct slc__fds *fds;
  const struct slc__origin *origin;
  size_t next;               /* the first descriptor not yet consumed */
  struct slc__memory memory; /* of the channel that it is about; set before the first object is mapped */
};

/* The next descriptor, which the manifest must call a doorbell.  It is the caller's. */
int slc__received_doorbell(struct slc__received *received, int *ret_fd);
/* The same for the pidfd of a process. */
int slc__received_process(struct slc__received *received, int *ret_fd);
/* Maps the next descriptor, which the manifest must call an object of that kind, access and size (0: what the manifest
 * says), and closes it.  The mapping is the caller's.  SLC_PROTOCOL and the statuses of slc__object_map. */
int slc__received_map(struct slc__received *received, enum slc__object_kind kind, enum slc__access access,
                      uint64_t size, struct slc__mapping *ret_mapping);
/* SLC_PROTOCOL when descriptors are left over. */
int slc__received_finish(const struct slc__received *received);

/* The shape that the broker names, checked.  SLC_PROTOCOL. */
int slc__received_geometry(const Slotcast__Geometry *geometry, struct slc__geometry *ret_geometry);

#endif

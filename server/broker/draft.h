/* A message on its way out, with its descriptors and their manifest. */
#ifndef SLC__BROKER_DRAFT_H
#define SLC__BROKER_DRAFT_H

#include "broker/state.h"
#include "net/seqpacket.h"
#include "proto/codec.h"

#define SLC__DRAFT_DESCRIPTORS 250

struct slc__draft {
  Slotcast__Message message;
  Slotcast__Descriptor entries[SLC__DRAFT_DESCRIPTORS];
  Slotcast__Descriptor *manifest[SLC__DRAFT_DESCRIPTORS];
  int fds[SLC__DRAFT_DESCRIPTORS];
  bool is_ours[SLC__DRAFT_DESCRIPTORS]; /* the draft's own, closed with it; else somebody's who outlives it */
  size_t count;
};

void slc__draft_init(struct slc__draft *draft, uint64_t serial);
void slc__draft_deinit(struct slc__draft *draft);
size_t slc__draft_room(const struct slc__draft *draft); /* descriptors that still fit */
/* An object: the descriptor that made it, or a fresh one without write permission.  SLC_NO_DESCRIPTORS, SLC_SYSTEM. */
int slc__draft_object(struct slc__draft *draft, Slotcast__DescriptorKind kind, const struct slc__owned *owned,
                      enum slc__access access);
void slc__draft_doorbell(struct slc__draft *draft, int fd);

#endif

/* Shared-memory objects of the broker's own making: charged, made, mapped where we look inside; and given back whole. */
#ifndef SLC__BROKER_OWNED_H
#define SLC__BROKER_OWNED_H

#include "broker/state.h"

void slc__owned_init(struct slc__owned *owned);
/* Nothing is left behind on failure.  SLC_LIMIT, SLC_NO_MEMORY, SLC_NO_DESCRIPTORS, SLC_SYSTEM. */
int slc__owned_make(struct slc__broker *broker, enum slc__object_kind kind, uint64_t size, uid_t uid, bool map,
                    struct slc__owned *ret_owned);
void slc__owned_deinit(struct slc__broker *broker, struct slc__owned *owned); /* takes one that was never made */

#endif

/* Completes a generation of a split channel: fetches what is registered, registers memory for what isn't.
 *
 * Thread: that of the handle. */
#ifndef SLC__CLIENT_SPLIT_H
#define SLC__CLIENT_SPLIT_H

#include "payloads.h"

struct slc__completion {
  slc_client *client;
  uint64_t user;
  uint32_t generation;
  uint32_t registered; /* slots that have memory, as the broker said last */
  struct slc__payloads *payloads;
};

/* From the first page on, which is mapped, too, and its descriptors closed.  On success every slot is mapped. SLC_GONE:
 * the generation is not there any more.  SLC_REFUSED (a callback), SLC_INVALID (memory that can't be), SLC_DENIED
 * (memory of another user that isn't sealed), SLC_LIMIT, SLC_BROKER_GONE, SLC_TIMED_OUT, SLC_NO_DESCRIPTORS,
 * SLC_NO_MEMORY, SLC_PROTOCOL, SLC_SYSTEM. */
int slc__split_complete(struct slc__completion *completion, struct slc__payload_page *first);

#endif

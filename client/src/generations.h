/* The later generations of a channel's buffers, as far as one publisher or subscriber has them mapped: payloads in
 * larger slots.  The prefixes stay in the first generation's buffers.
 *
 * Thread: that of the handle. */
#ifndef SLC__CLIENT_GENERATIONS_H
#define SLC__CLIENT_GENERATIONS_H

#include "payloads.h"

struct slc__generation {
  uint32_t number;
  uint32_t users; /* loans or held messages that lie in it; it stays mapped for them */
  uint64_t slot_size;
  struct slc__mapping mapping;    /* empty for the first generation, which has no object here */
  struct slc__payloads *payloads; /* of a split channel, also of the first generation; else NULL */
};

struct slc__generations {
  struct slc__generation *list; /* by rising number */
  uint32_t count;
  const struct slc__allocator *allocator; /* of a publisher to a split channel */
  bool is_pinned; /* nothing is unmapped: messages are being taken that are not counted in `users` yet */
};

/* Where slot `slot` begins. */
uint8_t *slc__generation_slot(const struct slc__generation *generation, uint32_t slot);
/* NULL: not mapped. */
struct slc__generation *slc__generations_find(const struct slc__generations *generations, uint32_t number);
/* The newest that is mapped; NULL: none. */
struct slc__generation *slc__generations_newest(const struct slc__generations *generations);

/* Asks the broker for a generation (0: the newest), and maps it unless it is mapped, or is the first
 * (of a plain channel).  Unmaps those
 * that nobody uses but the two newest.   SLC_GONE: there is none of this number; the statuses of slc__request and
 * slc__received_map. */
int slc__generations_fetch(struct slc__generations *generations, slc_client *client, uint64_t user,
                           const struct slc__geometry *shape, struct slc__memory memory, enum slc__access access,
                           uint32_t number);
/* The same after asking for slots of `slot_size` bytes, for a message of `wanted`. */
int slc__generations_grow(struct slc__generations *generations, slc_client *client, uint64_t user,
                          const struct slc__geometry *shape, struct slc__memory memory, uint64_t wanted,
                          uint64_t slot_size);
/* The handle of the payload that `address` lies in, with its generation and slot.  SLC_NOT_FOUND. */
int slc__generations_payload(const struct slc__generations *generations, const void *address,
                             slc_payload_info *ret_info);
/* The payloads that are mapped, up to `max`, by generation and slot; *ret_count is how many there are. */
void slc__generations_payloads(const struct slc__generations *generations, slc_payload_info *ret_infos, size_t max,
                               size_t *ret_count);
void slc__generations_deinit(struct slc__generations *generations);
/* In a forked child, where writable mappings are not there: only memory is freed. */
void slc__generations_forget(struct slc__generations *generations);

#endif

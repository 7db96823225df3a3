/* The later generations of a channel's buffers, as far as one publisher or subscriber has them mapped: payloads in
 * larger slots.  The prefixes stay in the first generation's buffers.
 *
 * Thread: that of the handle. */
#ifndef SLC__CLIENT_GENERATIONS_H
#define SLC__CLIENT_GENERATIONS_H

#include "connection.h"

struct slc__generation {
  uint32_t number;
  uint32_t users; /* loans or held messages that lie in it; it stays mapped for them */
  uint64_t slot_size;
  struct slc__mapping mapping; /* empty for the first generation, which has no object here */
};

struct slc__generations {
  struct slc__generation *list; /* by rising number */
  uint32_t count;
  bool is_pinned; /* nothing is unmapped: messages are being taken that are not counted in `users` yet */
};

/* Where slot `slot` begins. */
uint8_t *slc__generation_slot(const struct slc__generation *generation, uint32_t slot);
/* NULL: not mapped. */
struct slc__generation *slc__generations_find(const struct slc__generations *generations, uint32_t number);
/* The newest that is mapped; NULL: none. */
struct slc__generation *slc__generations_newest(const struct slc__generations *generations);

/* Asks the broker for a generation (0: the newest), and maps it unless it is mapped, or is the first.  Unmaps those
 * that nobody uses but the two newest.   SLC_GONE: there is none of this number; the statuses of slc__request and
 * slc__received_map. */
int slc__generations_fetch(struct slc__generations *generations, slc_client *client, uint64_t user,
                           const struct slc__geometry *shape, struct slc__memory memory, enum slc__access access,
                           uint32_t number);
/* The same after asking for slots of `slot_size` bytes, for a message of `wanted`. */
int slc__generations_grow(struct slc__generations *generations, slc_client *client, uint64_t user,
                          const struct slc__geometry *shape, struct slc__memory memory, uint64_t wanted,
                          uint64_t slot_size);
void slc__generations_deinit(struct slc__generations *generations);
/* In a forked child, where writable mappings are not there: only memory is freed. */
void slc__generations_forget(struct slc__generations *generations);

#endif

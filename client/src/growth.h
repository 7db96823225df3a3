/* A publisher's loans in later generations of buffers: which generation a message goes to, when the channel grows, and
 * what the publisher's line says of it, so that the broker knows which generations nobody writes to any more.
 *
 * Thread: that of the publisher. */
#ifndef SLC__CLIENT_GROWTH_H
#define SLC__CLIENT_GROWTH_H

#include "generations.h"
#include "shm/slotlog.h"

struct slc__growth {
  struct slc__generations generations;
  const struct slc__control *control;
  struct slc__publisher_line *line;
  struct slc__memory memory;
  slc_client *client;
  uint64_t user;
  slc_growth_fn on_growth; /* NULL: grows without asking */
  void *ctx;
};

/* Counts one loan of `size` bytes, more than the first generation's slots have, in a generation that is large enough,
 * and which the channel gets when it has none.  The generation is borrowed until the next call.  SLC_REFUSED (by
 * on_growth), SLC_TOO_LARGE, SLC_INVALID, SLC_LIMIT, SLC_BROKER_GONE, SLC_NO_DESCRIPTORS, SLC_NO_MEMORY, SLC_PROTOCOL.
 */
int slc__growth_enter(struct slc__growth *growth, uint64_t size, struct slc__generation **ret_generation);
/* For a split channel, before the first loan: its newest generation is mapped, and made where there is none.  The
 * statuses of slc__split_complete. */
int slc__growth_begin(struct slc__growth *growth);
/* The loan has been published or discarded. */
void slc__growth_leave(struct slc__growth *growth, uint32_t number);

#endif

/* A channel's checksums: computed when a message is published, compared when it is taken.  Thread: the handle's. */
#ifndef SLC__CLIENT_CHECKSUM_H
#define SLC__CLIENT_CHECKSUM_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"
#include "slotcast/slotcast.h"

/* How the messages of one channel are checked, and by what this handle does it. */
struct slc__checking {
  uint32_t kind; /* enum slc__checksum; SLC__CHECKSUM_NONE: this handle has nothing to compute */
  uint32_t checksum_size;
  uint32_t metadata_size;
  slc_checksum_fn own; /* with SLC__CHECKSUM_OWN */
  void *ctx;
};

/* What a checksum is of. */
struct slc__checked {
  uint64_t size;
  uint64_t timestamp;
  const void *payload; /* `size` bytes */
};

/* Of the options of a publisher that asks for this.  SLC_INVALID, and why. */
int slc__checksum_options(int checksum, uint32_t checksum_size, slc_checksum_fn own);
void slc__checking_init(struct slc__checking *checking, const struct slc__geometry *shape, slc_checksum_fn own,
                        void *ctx);
/* Writes the checksum behind the metadata that lies at `extra`. */
void slc__checksum_write(const struct slc__checking *checking, const struct slc__checked *checked, uint8_t *extra);
/* Whether what lies behind the metadata at `extra` is the checksum. */
bool slc__checksum_matches(const struct slc__checking *checking, const struct slc__checked *checked,
                           const uint8_t *extra);

#endif

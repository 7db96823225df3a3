/* Everything on record as it is now, to be handed to another process: a log of the records, whose names are places in
 * a list of descriptors; and what the service manager has stored.  Thread: the loop's. */
#ifndef SLC__STORE_IMAGE_H
#define SLC__STORE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/loaded.h"
#include "store/log.h"
#include "store/stored.h"

struct slc__image_stored {
  int fd;
  char name[SLC__STORED_NAME_MAX];
};

struct slc__image {
  struct slc__log log;
  int *fds;
  size_t count, room;
  struct slc__image_stored *stored;
  size_t stored_count, stored_room;
  bool is_ours; /* the descriptors, too, and not only the log's */
};

void slc__image_init(struct slc__image *image);
void slc__image_deinit(struct slc__image *image);

/* SLC_NO_MEMORY: the descriptor stays the caller's. */
int slc__image_add(struct slc__image *image, int fd);
int slc__image_add_stored(struct slc__image *image, const char *name, int fd);

/* Of an image that is ours: its records; descriptors go over to them.  SLC_INVALID, SLC_VERSION, SLC_NO_MEMORY,
 * SLC_SYSTEM; SLC_PROTOCOL: it is not whole. */
int slc__image_load(struct slc__image *image, struct slc__loaded *loaded, uint64_t *ret_generation);

#endif

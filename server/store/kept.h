/* What the log has of each record, and which stored descriptors belong to it.  Thread: the loop's. */
#ifndef SLC__STORE_KEPT_H
#define SLC__STORE_KEPT_H

#include "store/log.h"
#include "store/records.h"
#include "store/stored.h"

struct slc__kept {
  size_t key_size;
  unsigned char key[SLC__STORE_KEY_MAX];
  struct slc__log_extent extent, copy;
  size_t count;
  struct slc__stored *stored[];
};

struct slc__kept_tree {
  void *by_key;
  uint64_t size; /* of all in the log */
  struct slc__stored_table *table;
};

/* Room for it; in no tree yet.  NULL: no memory. */
struct slc__kept *slc__kept_new(const struct slc__record *record);
/* Takes it over, and references what is stored; what had the key goes.  False: no memory, it stays the caller's. */
bool slc__kept_put(struct slc__kept_tree *tree, struct slc__kept *kept);
/* Whether there was one. */
bool slc__kept_drop(struct slc__kept_tree *tree, const struct slc__record *record);
void slc__kept_clear(struct slc__kept_tree *tree);

/* Copies all that is kept into another log; the extents are those in it afterwards.  On failure as before. */
int slc__kept_copy(struct slc__kept_tree *tree, const struct slc__log *from, struct slc__log *to);

#endif

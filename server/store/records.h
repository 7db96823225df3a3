/* The records as they are now, found by key, and in the order of their last change.
 *
 * A place in that order says how far somebody has read it: what is behind the place is all that changed since, each
 * record once, in its latest state.  A dropped record stays in the order, as a tombstone, while a place is behind it
 * that was there before the drop.  Thread: the loop's. */
#ifndef SLC__STORE_RECORDS_H
#define SLC__STORE_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "store/store.h"

struct slc__record {
  TAILQ_ENTRY(slc__record) by_change;
  TAILQ_ENTRY(slc__record) by_drop; /* of tombstones */
  uint64_t change;                  /* when it was last changed; grows along the order */
  bool is_dropped;                  /* a tombstone: only the key counts */
  void *body;                       /* memory of the next two */
  const void *value;
  size_t value_size;
  const int *fds; /* the descriptors themselves are the owner's */
  size_t fd_count;
  size_t key_size;
  unsigned char key[SLC__STORE_KEY_MAX];
};

TAILQ_HEAD(slc__record_order, slc__record);

struct slc__place {
  LIST_ENTRY(slc__place) link;
  struct slc__record *next; /* the first one not passed; NULL: at the end */
  uint64_t opened;          /* the last change before it was opened */
};

struct slc__records {
  void *by_key; /* of tsearch */
  struct slc__record_order order;
  struct slc__record_order tombstones; /* in the same order */
  LIST_HEAD(, slc__place) places;
  uint64_t changes; /* so far */
};

void slc__records_init(struct slc__records *records);
void slc__records_deinit(struct slc__records *records);

/* Copies key, value and the numbers of the descriptors.  SLC_NO_MEMORY: nothing has changed. */
int slc__records_put(struct slc__records *records, const void *key, size_t key_size, const void *value,
                     size_t value_size, const int *fds, size_t fd_count);
/* Whether there was one. */
bool slc__records_drop(struct slc__records *records, const void *key, size_t key_size);

/* At the beginning: everything is behind it. */
void slc__place_open(struct slc__records *records, struct slc__place *place);
void slc__place_close(struct slc__records *records, struct slc__place *place);
/* What comes next, NULL at the end.  Not what was dropped before the place was opened. */
const struct slc__record *slc__place_next(struct slc__records *records, struct slc__place *place);
/* The next one has been read. */
void slc__place_pass(struct slc__records *records, struct slc__place *place);

#endif

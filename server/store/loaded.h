/* The records of a set that is being loaded: collected whole, since half a set is none, then brought into the
 * order of their keys.  Thread: the loop's. */
#ifndef SLC__STORE_LOADED_H
#define SLC__STORE_LOADED_H

#include <stdbool.h>
#include <stddef.h>

#include "store/store.h"

struct slc__loaded {
  struct slc__store_record **records;
  size_t count;
  size_t room;
};

void slc__loaded_init(struct slc__loaded *loaded);
/* Closes every descriptor that nobody took. */
void slc__loaded_deinit(struct slc__loaded *loaded);

/* Copies key and value, and takes the descriptors over: they are -1 afterwards.  SLC_NO_MEMORY: they stay the
 * caller's. */
int slc__loaded_add(struct slc__loaded *loaded, const struct slc__store_record *record);
/* Into the byte order of the keys; a key that is the beginning of another comes first.  False: two have the same key,
 * which no set has. */
bool slc__loaded_sort(struct slc__loaded *loaded);

#endif

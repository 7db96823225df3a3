/* The store's own: what its parts share.
 *
 * The set is who is up to date.  Its generation grows whenever somebody comes into it or leaves it, and goes along with
 * every commit; what is kept is what everybody of the set has acknowledged under the present generation, and the file
 * names that generation before anybody is told.  So, whatever dies and whenever: what was told to be kept is in every
 * complete set whose generation is not older than the file.  Thread: the loop's. */
#ifndef SLC__STORE_PARTS_H
#define SLC__STORE_PARTS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "store/image.h"
#include "store/keeper.h"
#include "store/records.h"
#include "store/store.h"

enum { SLC__KEEPERS_MAX = SLC__STORE_KEEPERS_MAX + 1 /* the service manager */ };

struct slc__store {
  uv_loop_t *loop;
  uv_idle_t feeder; /* runs while somebody can be given more at once */
  const struct slc__store_events *events;
  void *owner;
  struct slc__records records;
  struct slc__keeper *keepers[SLC__KEEPERS_MAX];
  size_t keeper_count;

  bool is_changed;    /* since the last commit; in the beginning, since there has been none */
  uint64_t committed; /* the last commit */
  uint64_t kept;      /* the last one that is kept */
  bool is_alone;      /* the set is empty, and this has been said */
  bool is_fenced;

  uint64_t generation;       /* of the set */
  uint64_t generation_seen;  /* the highest that any keeper had: ours are higher */
  uint64_t generation_begin; /* the first commit under it */
  char *generation_path;     /* NULL: no file */
  uint64_t generation_written;
  bool is_write_failure_told;

  struct slc__image *image; /* the owner's, to be loaded; NULL: none */
};

/* ---- feed.c: what has changed goes to the keepers ---- */

/* Gives each what it lacks, as much as it takes and a turn of the loop allows; the rest follows from the loop. */
void slc__feed(struct slc__store *store);
void slc__feed_on_idle(uv_idle_t *feeder);

/* ---- set.c: who is up to date, and what is kept therefore ---- */

void slc__set_join(struct slc__keeper *keeper);
void slc__set_leave(struct slc__keeper *keeper);
/* Finds out what is kept now.  True: more than before, and the owner does not know yet. */
bool slc__set_settle(struct slc__store *store);

#endif

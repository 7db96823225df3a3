/* What the parts of the publisher's side share: publish.c has them, retire.c uses them.  Thread: the publisher's. */
#ifndef SLC__SHM_PUBLISH_H
#define SLC__SHM_PUBLISH_H

#include "shm/slotlog.h"

/* Whether we know of everybody who subscribes as of now; if not, tries to learn it without waiting. */
bool slc__pub_is_current(struct slc__pub *pub);
/* Whether anybody subscribes. */
bool slc__pub_has_readers(struct slc__pub *pub);
/* Evicts the oldest messages up to the first that some subscriber has not come to, or that the channel keeps. */
void slc__pub_evict_read(struct slc__pub *pub);
/* Looks through all holds for these slots, which have been evicted and whose announcement has been cleared: afterwards
 * slc__pub_is_unheld says of each of them whether nobody names it.  False: somebody may hold that we don't know of. */
bool slc__pub_scan(struct slc__pub *pub, const uint32_t *slots, uint32_t count);
bool slc__pub_is_unheld(const struct slc__pub *pub, uint32_t slot);
/* Takes this very slot out of the free list.  False: it is not there. */
bool slc__pub_free_take(struct slc__pub *pub, uint32_t slot);
/* A slot of ours goes to nobody, and whoever waits for one is told. */
void slc__pub_give_back(struct slc__pub *pub, uint32_t slot);

#endif

/* Retirement: which of a publisher's own messages have been evicted and are held by nobody since.
 *
 * That is stable: who takes a message stores its hold and looks again, and finds it evicted.  Each message is told
 * exactly once, in the order in which it was found out.  The publisher keeps them by itself, in memory of its own, so
 * that whatever others do, die or never read costs it nothing but time: what they hold back the next eviction for want
 * of slots gets.  Thread: the publisher's. */
#ifndef SLC__SHM_RETIRE_H
#define SLC__SHM_RETIRE_H

#include "shm/slotlog.h"

struct slc__retired {
  uint64_t ordinal;
  uint32_t slot;
};

/* From now on this publisher wants to know; before its first message.  SLC_NO_MEMORY. */
int slc__retire_open(struct slc__pub *pub);
void slc__retire_close(struct slc__pub *pub); /* also when it was never opened */

/* Makes room for one more message, so that nothing can fail once it is published.  SLC_NO_MEMORY; SLC_CORRUPT: more
 * messages than there are slots can't be in the log. */
int slc__retire_reserve(struct slc__pub *pub);
/* A message of this publisher now exists. */
void slc__retire_note(struct slc__pub *pub, uint64_t ordinal, uint32_t slot);

/* Evicts what every subscriber has read, and finds out what is retired.  Whether there is something to tell. */
bool slc__retire_look(struct slc__pub *pub);
/* Whether there is something to tell, without looking for it. */
bool slc__retire_found(const struct slc__pub *pub);
/* Up to `max` of those found out, each once. */
size_t slc__retire_take(struct slc__pub *pub, struct slc__retired *ret_retired, size_t max);

/* The slot of a retired message on loan, if it has not been used since.  SLC_STALE: it has, or is another's, or is
 * held; SLC_WOULD_BLOCK: it can't be told now. */
int slc__pub_loan_slot(struct slc__pub *pub, const struct slc__retired *retired);

#endif

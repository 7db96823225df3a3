/* Virtual channels: many names share one log and its slots, a multiplexer.
 *
 * A virtual channel's ordinals are derived from the log, never taken in advance: maxima[v] is the greatest ordinal of v
 * among the log ordinals below `applied`, and everybody helps to apply what others have published before he publishes
 * himself.  So a publisher that dies at any instruction leaves nothing to repair, no hole and no duplicate.
 * tests/model/vord.pml is the model; docs/protocol.md has the steps.
 *
 * An id may be used again when its virtual channel has gone; its numbers go on, and those of the new channel begin
 * behind `base`, which its messages carry.  What is written in shared memory and counted here are these numbers; the
 * ordinals that users see are number - base. */
#ifndef SLC__SHM_VIRTUAL_H
#define SLC__SHM_VIRTUAL_H

#include "shm/slotlog.h"

/* ---- publisher ---- */

/* Applies what lies below log ordinal n.  SLC_CORRUPT: the words of the log can't be. */
int slc__virtual_help(const struct slc__control *control, const struct slc__buffers *buffers, uint64_t n);
/* Puts the slot into the log as the next message of the publisher's virtual channel, and applies it.  0 and the log's
 * ordinal; SLC_CORRUPT, SLC_EXHAUSTED. */
int slc__virtual_enter(struct slc__pub *pub, uint32_t slot, struct slc__prefix *prefix, uint64_t *ret_n);
/* Rings the doorbells of those who subscribe to the publisher's virtual channel alone and have armed; after the log's
 * compare-and-swap and a look at the epoch. */
void slc__virtual_ring(struct slc__pub *pub);
/* A publisher that would have to wait: reliable subscribers to single virtual channels, whose doorbells are silent for
 * messages of others, are to go on past those. */
void slc__virtual_nudge(struct slc__pub *pub);
/* To be called for each new membership of a publisher with a virtual channel. */
void slc__virtual_adopt(struct slc__pub *pub);

/* ---- broker ---- */

/* The id is to be that of a new virtual channel, of the old one of which nobody publishes any more: its base. */
uint64_t slc__virtual_reserve(const struct slc__control *control, uint32_t id);

/* ---- subscriber ---- */

/* What was counted of one virtual channel. */
struct slc__virtual_count {
  uint64_t received;
  uint64_t dropped;
  uint64_t last; /* number up to which all were received, lost, or none of ours; SLC__NUMBER_UNKNOWN */
  uint64_t base; /* of the virtual channel that has the id */
};
#define SLC__NUMBER_UNKNOWN UINT64_MAX /* it starts in the future */

/* How a subscriber looks at a multiplexer.  The counts are the caller's: one, or virtual_max + 1, all zero but for
 * `base` of the one subscribed to. */
struct slc__virtual_view {
  uint32_t wanted; /* the virtual channel subscribed to; 0: all */
  uint64_t base;   /* of the one subscribed to */
  struct slc__virtual_count *counts;
  uint64_t taken;   /* the number taken last, of the one subscribed to; 0: none yet */
  uint64_t armings; /* of the doorbell */
  bool is_behind;   /* something was lost since all were counted */
};

/* Number and virtual channel of a message that is held. */
struct slc__virtual_name {
  uint32_t id;
  uint64_t ordinal; /* from 1 on */
};
struct slc__virtual_name slc__virtual_name(const struct slc__sub *sub, uint32_t slot);
/* Whether a message that is held is of a virtual channel subscribed to; on a plain channel, too. */
bool slc__virtual_is_ours(const struct slc__sub *sub, uint32_t slot);
/* Whether id and number of a message that is held can be; on a plain channel, too. */
bool slc__virtual_is_possible(const struct slc__sub *sub, uint32_t slot);
/* Whether the message in this log word, present at n, is of another virtual channel; then *ret_next is what it says
 * about the next slot.  Not held: false when that has changed meanwhile. */
bool slc__virtual_is_others(const struct slc__sub *sub, uint64_t n, uint64_t word, uint32_t *ret_next);

static inline bool slc__virtual_is_filtered(const struct slc__sub *sub) {
  return sub->view != NULL && sub->view->wanted != 0;
}
/* Where the counts begin: at the subscriber's claim, or with the first message of a virtual channel that is received
 * from before it. */
void slc__virtual_begin(struct slc__sub *sub);
/* Counts from now on: what was published before is neither received nor lost, unless it is received. */
void slc__virtual_look(struct slc__sub *sub);
/* Counts a message that was taken, and what was lost before it. */
void slc__virtual_account(struct slc__sub *sub, uint32_t slot);
/* The message in this log word, present at n, is passed over, and not lost. */
void slc__virtual_pass(struct slc__sub *sub, uint64_t n, uint64_t word);
/* A message that was taken, and is still held, counts as lost after all. */
void slc__virtual_reject(struct slc__sub *sub, uint32_t slot);
/* Nothing is left to be taken: counts what was lost at the end. */
void slc__virtual_catch_up(struct slc__sub *sub);
/* Of the virtual channel subscribed to; `most`: of all. */
uint64_t slc__virtual_lag(const struct slc__sub *sub, uint64_t most);
/* What has been counted of virtual channel `id`; NULL: it is not subscribed to. */
const struct slc__virtual_count *slc__virtual_count_of(const struct slc__sub *sub, uint32_t id);

#endif

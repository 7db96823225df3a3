/* Who subscribes, as one publisher was told: pages from the broker become a struct slc__membership.
 *
 * Thread: under the client's lock; the set in use is read by the publisher's own thread without it. */
#ifndef SLC__CLIENT_MEMBERSHIP_H
#define SLC__CLIENT_MEMBERSHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "received.h"
#include "shm/slotlog.h"

struct slc__member_set;

struct slc__members {
  struct slc__member_set *incoming; /* pages are missing */
  struct slc__member_set *latest;   /* whole, not yet in use */
  struct slc__member_set *in_use;   /* borrowed by the publisher's slot log */
};

/* One page.  SLC_PROTOCOL, SLC_NO_MEMORY and the statuses of slc__received_map: then the set has a hole, and the
 * connection is of no more use. */
int slc__members_page(struct slc__members *members, const Slotcast__Membership *page, struct slc__received *received);
/* Whether there is a whole set of `epoch` or later that is not in use yet. */
bool slc__members_pending(const struct slc__members *members, uint64_t epoch);
/* Puts the latest set into use; what was in use before is given to the caller, to be freed once nobody reads it. */
const struct slc__membership *slc__members_adopt(struct slc__members *members, struct slc__member_set **ret_old);
/* The set in use; NULL: none yet. */
const struct slc__membership *slc__members_view(const struct slc__members *members);
/* The connection has ended: the pages that are missing will not come. */
void slc__members_cut_off(struct slc__members *members);
/* The reliable subscribers whose processes have died are not waited for any more: for when there is no broker to take
 * them out of the set.  Whether there was one.  In the publisher's own thread, without the lock. */
bool slc__members_forget_dead(struct slc__members *members);
void slc__member_set_free(struct slc__member_set *set); /* takes NULL */
void slc__members_deinit(struct slc__members *members);

#endif

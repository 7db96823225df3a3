/* Ringing the doorbells of publishers that sleep on a descriptor of their own.
 *
 * A publisher says in its line of control what it wants to be rung for (slc__pub_arm); whoever makes such a thing
 * happen, a subscriber that releases or another publisher that evicts, looks there and rings.  The descriptors come
 * from the broker, numbered: whoever needs to ring and knows only an older set brings the newer one first. */
#ifndef SLC__SHM_WATCHERS_H
#define SLC__SHM_WATCHERS_H

#include <stdbool.h>
#include <stdint.h>

struct slc__control;

/* What a publisher's `armed` asks for; a release rings for any of them. */
enum {
  SLC__WANTS_EVICTED = 1, /* one of its messages has been evicted */
  SLC__WANTS_SLOT = 2,    /* a slot has become nobody's */
};

struct slc__watcher {
  uint32_t publisher; /* 1 .. max_publishers */
  int fd;             /* SEQPACKET, rung with send(MSG_DONTWAIT | MSG_NOSIGNAL) */
};

/* All publishers of a channel that have a doorbell.  Built by the caller, borrowed until replaced. */
struct slc__watchers {
  uint64_t number; /* of the set; 0: none was ever sent */
  uint32_t count;
  struct slc__watcher *list;
};

/* Called when control names a newer set: brings it (`watch->set` replaced from inside) if it is there, without
 * waiting. */
struct slc__watch;
typedef void (*slc__watch_sync_fn)(void *ctx, struct slc__watch *watch, uint64_t number);

/* One participant's view; all zero: it knows of nobody.  Thread: its own. */
struct slc__watch {
  const struct slc__watchers *set;
  slc__watch_sync_fn sync;
  void *ctx;
  bool can_disarm; /* has control writable: rings once per arming by itself, where a subscriber's gate sees to that */
};

/* Before a publisher begins to wait by a descriptor, once `watched` counts it: from now on everybody who frees
 * something sees that.  Those who do so look at `watched` with a plain load after a plain store, which costs nothing
 * while nobody waits; the order that is missing there is made here, by a barrier in every running thread of the
 * machine. */
void slc__watch_begin(void);

/* Rings `publisher` (0: all) if it is armed for one of `wants`.  After a seq_cst store, compare-and-swap or fence that
 * follows what it is rung for (pairs with slc__pub_arm).  The number of system calls made. */
uint32_t slc__watch_ring(struct slc__watch *watch, const struct slc__control *control, uint32_t publisher,
                         uint32_t wants);

#endif

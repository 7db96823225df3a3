/* Feeding: what has changed goes to the keepers, each from its own place in the order of changes, and at its end the
 * commit.  Nothing goes out while the owner is in the middle of a change, so that the end of the order is always a
 * commit's; and a keeper that comes is fed in the same way from the beginning.
 *
 * A turn of the loop feeds each a bounded number of records; while there is more for somebody who takes it, the idle
 * handle brings the next turn at once.  Thread: the loop's. */
#include "net/seqpacket.h"
#include "store/parts.h"

enum { RECORDS_AT_ONCE = 128 };

enum progress {
  BLOCKED, /* it takes nothing now, and says when it does */
  DONE,    /* it has been sent everything */
  MORE,
};

static enum progress begin(struct slc__keeper *keeper) {
  if (keeper->class->begin(keeper) != 0) return BLOCKED;
  slc__place_open(&keeper->store->records, &keeper->place);
  keeper->stage = SLC__KEEPER_BEHIND;
  return MORE;
}

static enum progress send_changes(struct slc__keeper *keeper) {
  struct slc__records *records = &keeper->store->records;
  for (int i = 0; i < RECORDS_AT_ONCE; i++) {
    const struct slc__record *record = slc__place_next(records, &keeper->place);
    if (record == NULL) return DONE;
    int status = record->is_dropped ? keeper->class->drop(keeper, record) : keeper->class->put(keeper, record);
    if (status != 0) return BLOCKED;
    slc__place_pass(records, &keeper->place);
  }
  return MORE;
}

static enum progress send_commit(struct slc__keeper *keeper) {
  struct slc__store *store = keeper->store;
  if (keeper->sent == store->committed) return DONE;
  if (keeper->class->commit(keeper, store->committed, store->generation) != 0) return BLOCKED;
  keeper->sent = store->committed;
  return DONE;
}

static enum progress feed_keeper(struct slc__keeper *keeper) {
  if (keeper->stage == SLC__KEEPER_GONE) return DONE;
  if (keeper->stage == SLC__KEEPER_COMING && begin(keeper) == BLOCKED) return BLOCKED;
  enum progress progress = send_changes(keeper);
  if (progress != DONE) return progress;
  if (keeper->stage == SLC__KEEPER_UP_TO_DATE) return send_commit(keeper);
  slc__set_join(keeper);
  return MORE; /* the others, too, commit under the set's new generation */
}

void slc__feed(struct slc__store *store) {
  bool more = false;
  if (store->is_changed || store->is_fenced) {
    uv_idle_stop(&store->feeder);
    return;
  }
  for (size_t i = 0; i < store->keeper_count; i++) {
    if (feed_keeper(store->keepers[i]) == MORE) more = true;
  }
  if (more) {
    uv_idle_start(&store->feeder, slc__feed_on_idle);
  } else {
    uv_idle_stop(&store->feeder);
  }
}

void slc__feed_on_idle(uv_idle_t *feeder) {
  slc__feed(feeder->data);
}

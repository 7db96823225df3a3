/* What keepers say: they come, take more, acknowledge and leave.  The owner hears of it last, because it may close the
 * store in answer.  Thread: the loop's. */
#include "store/keeper.h"

#include "base/log.h"
#include "store/parts.h"

static void tell_what_is_kept(struct slc__store *store) {
  if (slc__set_settle(store)) store->events->kept(store->owner, store->kept);
}

void slc__keeper_came(struct slc__keeper *keeper, uint64_t generation) {
  struct slc__store *store = keeper->store;
  keeper->stage = SLC__KEEPER_COMING;
  keeper->sent = keeper->acknowledged = 0;
  if (store->generation_seen < generation) store->generation_seen = generation;
  slc__feed(store);
}

void slc__keeper_writable(struct slc__keeper *keeper) {
  slc__feed(keeper->store);
}

bool slc__keeper_acknowledged(struct slc__keeper *keeper, uint64_t number) {
  if (number > keeper->sent || number <= keeper->acknowledged) return false;
  if (keeper->acknowledged == 0) slc__log(SLC__LOG_NOTICE, "%s keeps the broker's records", keeper->name);
  keeper->acknowledged = number;
  tell_what_is_kept(keeper->store);
  return true;
}

void slc__keeper_left(struct slc__keeper *keeper) {
  struct slc__store *store = keeper->store;
  slc__set_leave(keeper);
  slc__feed(store);
  tell_what_is_kept(store);
}

void slc__keeper_fenced(struct slc__keeper *keeper) {
  struct slc__store *store = keeper->store;
  slc__set_leave(keeper);
  if (store->is_fenced) return;
  store->is_fenced = true;
  slc__log(SLC__LOG_ERROR, "%s serves a newer broker: this one must stop", keeper->name);
  store->events->fenced(store->owner);
}

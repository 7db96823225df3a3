/* The set of keepers that are up to date, its generation, and what is kept therefore (the rule is told in parts.h).
 *
 * Keepers that are catching up hold nobody back, as long as another one is up to date.  While none is, what is kept
 * waits for the first; and where none is there at all everything is kept at once, because nobody could be waited for:
 * the file then says that what they have is old.
 *
 * It is a sum over at most three keepers, found out anew each time rather than kept in step.  Thread: the loop's. */
#include <inttypes.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "store/generation.h"
#include "store/parts.h"

/* No number is taken twice, though an earlier broker may have given one to a keeper that does not answer now, and died
 * before the file knew: two different sets of one generation could not be told apart.  So it is a time.  Under the new
 * one everybody acknowledges once more. */
static void begin_generation(struct slc__store *store) {
  uint64_t now = (uint64_t)slc__clock_ns();
  if (store->generation < store->generation_seen) store->generation = store->generation_seen;
  store->generation++;
  if (store->generation < now) store->generation = now;
  store->generation_begin = ++store->committed;
}

void slc__set_join(struct slc__keeper *keeper) {
  struct slc__store *store = keeper->store;
  keeper->stage = SLC__KEEPER_UP_TO_DATE;
  store->is_alone = false;
  begin_generation(store);
}

void slc__set_leave(struct slc__keeper *keeper) {
  if (keeper->stage == SLC__KEEPER_UP_TO_DATE) begin_generation(keeper->store);
  if (keeper->stage >= SLC__KEEPER_BEHIND) slc__place_close(&keeper->store->records, &keeper->place);
  keeper->stage = SLC__KEEPER_GONE;
}

static size_t count(const struct slc__store *store, enum slc__keeper_stage at_least) {
  size_t found = 0;
  for (size_t i = 0; i < store->keeper_count; i++) {
    if (store->keepers[i]->stage >= at_least) found++;
  }
  return found;
}

static uint64_t acknowledged_by_all(const struct slc__store *store) {
  uint64_t least = store->committed;
  for (size_t i = 0; i < store->keeper_count; i++) {
    const struct slc__keeper *keeper = store->keepers[i];
    if (keeper->stage == SLC__KEEPER_UP_TO_DATE && keeper->acknowledged < least) least = keeper->acknowledged;
  }
  return least;
}

static void be_alone(struct slc__store *store) {
  if (store->is_alone || store->keeper_count == 0) return;
  store->is_alone = true;
  begin_generation(store);
  slc__log(SLC__LOG_WARNING, "nobody keeps the broker's records now: when it dies, clients have to begin anew");
}

/* The number of the last commit that is kept, or of none that is new. */
static uint64_t find_kept(struct slc__store *store) {
  if (count(store, SLC__KEEPER_UP_TO_DATE) > 0) return acknowledged_by_all(store);
  if (count(store, SLC__KEEPER_COMING) > 0) return 0;
  be_alone(store);
  return store->committed;
}

/* Without the file an old set could be taken for a new one, but only when all newer ones are lost: no reason to stop
 * serving. */
static void write_generation(struct slc__store *store) {
  if (store->generation_path == NULL || store->generation_written == store->generation) return;
  int status = slc__generation_write(store->generation_path, store->generation);
  if (status == SLC_OK) {
    store->generation_written = store->generation;
  } else if (!store->is_write_failure_told) {
    slc__log(SLC__LOG_ERROR, "%s: after a restart an old set of records may be taken for the newest",
             slc__error_detail());
  }
  store->is_write_failure_told = status != SLC_OK;
}

bool slc__set_settle(struct slc__store *store) {
  if (store->is_fenced) return false;
  uint64_t kept = find_kept(store);
  if (kept < store->generation_begin || kept <= store->kept) return false;
  write_generation(store);
  store->kept = kept;
  return true;
}

/* Loading: asks every keeper what it has, takes the newest set that is complete and not old, and where that keeper
 * fails meanwhile, the next.  Thread: the loop's, before it runs. */
#include <inttypes.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "store/generation.h"
#include "store/parts.h"

#define ASK_NS (5 * SLC__NS_PER_S)
#define LOAD_NS (60 * SLC__NS_PER_S)

/* An unreadable one says nothing: then every complete set may be taken. */
static void read_generation(struct slc__store *store) {
  uint64_t generation = 0;
  if (store->generation_path == NULL) return;
  if (slc__generation_read(store->generation_path, &generation) != SLC_OK)
    slc__log(SLC__LOG_WARNING, "%s: a set of records that is old would not be known as such", slc__error_detail());
  store->generation = store->generation_written = generation;
}

/* A set that may be taken; the others are none. */
static bool is_usable(const struct slc__keeper *keeper, const struct slc__keeper_set *set) {
  if (!set->is_complete) return false;
  if (set->generation >= keeper->store->generation) return true;
  slc__log(SLC__LOG_NOTICE,
           "%s: its records are not taken: they are old (of generation %" PRIu64 ", where %" PRIu64 " is known)",
           keeper->name, set->generation, keeper->store->generation);
  return false;
}

/* What each has; a keeper that is not there has none. */
static int ask_all(struct slc__store *store, struct slc__keeper_set *sets) {
  for (size_t i = 0; i < store->keeper_count; i++) {
    struct slc__keeper *keeper = store->keepers[i];
    sets[i] = (struct slc__keeper_set){0};
    int status = keeper->class->ask(keeper, slc__deadline_after(ASK_NS), &sets[i]);
    if (status < 0) return status;
    if (status == SLC__KEEPER_AWAY) continue;
    if (store->generation_seen < sets[i].generation) store->generation_seen = sets[i].generation;
    sets[i].is_complete = is_usable(keeper, &sets[i]);
  }
  return SLC_OK;
}

/* NULL: none is left. */
static struct slc__keeper *take_newest(const struct slc__store *store, struct slc__keeper_set *sets) {
  size_t newest = store->keeper_count;
  for (size_t i = 0; i < store->keeper_count; i++) {
    if (!sets[i].is_complete) continue;
    if (newest == store->keeper_count || sets[i].generation > sets[newest].generation) newest = i;
  }
  if (newest == store->keeper_count) return NULL;
  sets[newest].is_complete = false;
  return store->keepers[newest];
}

static int load_from(struct slc__keeper *keeper, struct slc__loaded *loaded) {
  int status = keeper->class->load(keeper, slc__deadline_after(LOAD_NS), loaded);
  if (status != SLC_OK) return status;
  if (!slc__loaded_sort(loaded)) {
    slc__log(SLC__LOG_WARNING, "%s: its records are not taken: two have the same key", keeper->name);
    return SLC__KEEPER_AWAY;
  }
  slc__log(SLC__LOG_NOTICE, "%s had %zu records", keeper->name, loaded->count);
  return SLC_OK;
}

static int load_newest(struct slc__store *store, struct slc__keeper_set *sets, struct slc__loaded *loaded) {
  struct slc__keeper *keeper;
  while ((keeper = take_newest(store, sets)) != NULL) {
    int status = load_from(keeper, loaded);
    if (status != SLC__KEEPER_AWAY) return status;
    slc__loaded_deinit(loaded);
  }
  return SLC_OK;
}

static void start_all(struct slc__store *store) {
  for (size_t i = 0; i < store->keeper_count; i++) store->keepers[i]->class->start(store->keepers[i]);
}

static int load_from_keepers(struct slc__store *store, struct slc__loaded *loaded) {
  struct slc__keeper_set sets[SLC__KEEPERS_MAX];
  int status = ask_all(store, sets);
  return status == SLC_OK ? load_newest(store, sets, loaded) : status;
}

static int load_image(struct slc__store *store, struct slc__loaded *loaded) {
  uint64_t generation = 0;
  int status = slc__image_load(store->image, loaded, &generation);
  if (status == SLC_OK && !slc__loaded_sort(loaded)) status = slc__fail(SLC_PROTOCOL, "two records have the same key");
  if (store->generation_seen < generation) store->generation_seen = generation;
  return status;
}

int slc__store_load(struct slc__store *store, void (*visit)(void *ctx, struct slc__store_record *record), void *ctx,
                    size_t *ret_count) {
  struct slc__loaded loaded;
  slc__loaded_init(&loaded);
  read_generation(store);
  int status = store->image != NULL ? load_image(store, &loaded) : load_from_keepers(store, &loaded);
  if (status == SLC_OK) {
    *ret_count = loaded.count;
    for (size_t i = 0; i < loaded.count; i++) visit(ctx, loaded.records[i]);
    if (store->image == NULL) start_all(store);
  }
  slc__loaded_deinit(&loaded);
  return status;
}

/* They are asked so that they count from the first commit on; what they have is what was handed over, or older. */
void slc__store_start(struct slc__store *store) {
  for (size_t i = 0; i < store->keeper_count; i++) {
    struct slc__keeper *keeper = store->keepers[i];
    struct slc__keeper_set set = {0};
    int status = keeper->class->ask(keeper, slc__deadline_after(ASK_NS), &set);
    if (status < 0) slc__log(SLC__LOG_ERROR, "%s: %s", keeper->name, slc__error_detail());
    if (store->generation_seen < set.generation) store->generation_seen = set.generation;
  }
  start_all(store);
  store->image = NULL;
}

/* The store: its life, and what the owner does with it.
 *
 * Invariants: while is_changed nothing goes to a keeper, so that what a keeper commits is always a whole; an event
 * comes from the loop only.  Thread: the loop's. */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "store/fdstore.h"
#include "store/parts.h"
#include "store/shadow.h"

/* ---- records ---- */

static bool is_key(size_t key_size) {
  return key_size > 0 && key_size <= SLC__STORE_KEY_MAX;
}

int slc__store_put(struct slc__store *store, const void *key, size_t key_size, const void *value, size_t value_size,
                   const int *fds, size_t fd_count) {
  if (!is_key(key_size) || value_size > SLC__STORE_VALUE_MAX || fd_count > SLC__STORE_DESCRIPTORS_MAX)
    return slc__fail(SLC_INVALID, "a record with a key of %zu bytes, %zu bytes and %zu descriptors", key_size,
                     value_size, fd_count);
  int status = slc__records_put(&store->records, key, key_size, value, value_size, fds, fd_count);
  if (status == SLC_OK) store->is_changed = true;
  return status;
}

void slc__store_drop(struct slc__store *store, const void *key, size_t key_size) {
  if (is_key(key_size) && slc__records_drop(&store->records, key, key_size)) store->is_changed = true;
}

uint64_t slc__store_commit(struct slc__store *store) {
  if (!store->is_changed) return store->committed;
  store->is_changed = false;
  store->committed++;
  slc__feed(store);
  (void)slc__set_settle(store); /* the owner asks when it wants to know */
  return store->committed;
}

uint64_t slc__store_kept(const struct slc__store *store) {
  return store->kept;
}

bool slc__store_has_keeper(const struct slc__store *store) {
  for (size_t i = 0; i < store->keeper_count; i++) {
    if (store->keepers[i]->stage != SLC__KEEPER_GONE) return true;
  }
  return false;
}

/* ---- life ---- */

static int add_keeper(struct slc__store *store, int opened, struct slc__keeper *keeper) {
  if (opened != SLC_OK) return opened;
  keeper->store = store;
  store->keepers[store->keeper_count++] = keeper;
  return SLC_OK;
}

static int add_keepers(struct slc__store *store, const struct slc__store_options *options) {
  int status = SLC_OK;
  for (size_t i = 0; status == SLC_OK && i < SLC__STORE_KEEPERS_MAX; i++) {
    struct slc__keeper *keeper = NULL;
    if (options->shadows[i] == NULL) continue;
    status = slc__shadow_open(store->loop, options->shadows[i], &keeper);
    status = add_keeper(store, status, keeper);
  }
  if (status == SLC_OK && options->fdstore) {
    struct slc__keeper *keeper = NULL;
    status = slc__fdstore_open(store->loop, &keeper);
    status = add_keeper(store, status, keeper);
  }
  return status;
}

static int keep_path(struct slc__store *store, const char *path) {
  if (path == NULL) return SLC_OK;
  store->generation_path = strdup(path);
  return store->generation_path != NULL ? SLC_OK : slc__fail(SLC_NO_MEMORY, "no memory for a path");
}

int slc__store_open(uv_loop_t *loop, const struct slc__store_options *options, const struct slc__store_events *events,
                    void *owner, struct slc__store **ret_store) {
  struct slc__store *store = calloc(1, sizeof *store);
  if (store == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for the store");
  store->loop = loop;
  store->events = events;
  store->owner = owner;
  store->image = options->image;
  store->is_changed = true;
  slc__records_init(&store->records);
  uv_idle_init(loop, &store->feeder);
  store->feeder.data = store;
  int status = keep_path(store, options->generation_path);
  if (status == SLC_OK) status = add_keepers(store, options);
  if (status != SLC_OK) {
    slc__store_close(store);
    return status;
  }
  *ret_store = store;
  return SLC_OK;
}

static void on_closed(uv_handle_t *handle) {
  struct slc__store *store = handle->data;
  free(store->generation_path);
  free(store);
}

void slc__store_close(struct slc__store *store) {
  if (store == NULL) return;
  for (size_t i = 0; i < store->keeper_count; i++) {
    slc__set_leave(store->keepers[i]);
    store->keepers[i]->class->close(store->keepers[i]);
  }
  store->keeper_count = 0;
  slc__records_deinit(&store->records);
  uv_close((uv_handle_t *)&store->feeder, on_closed);
}

/* Sets of publishers' doorbells: counted descriptors, because one set takes over from another what stays.
 *
 * Invariants:
 *   - A set is complete: a doorbell that its pages do not name is not in it.  A page names one that is known (then the
 *     descriptor is that of the newest set before) or brings it (fresh).
 *   - A set in use is never changed; a new one replaces it, and its descriptors are closed when no set has them.
 * Threads: entered under the client's lock, but for slc__watchers_sync, which takes it. */
#include "watchers.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"

struct bell {
  uint32_t references;
  uint32_t id;
  int fd;
};

/* The arrays of the view and of the references run side by side. */
struct slc__watcher_set {
  struct slc__watchers view;
  struct bell **bells;
};

static void bell_unref(struct bell *bell) {
  if (--bell->references > 0) return;
  slc__fd_close(&bell->fd);
  free(bell);
}

static void set_free(struct slc__watcher_set *set) {
  if (set == NULL) return;
  for (uint32_t i = 0; i < set->view.count; i++) bell_unref(set->bells[i]);
  free(set->view.list);
  free(set->bells);
  free(set);
}

/* ---- building --------------------------------------------------------------------------------------------------- */

static int bell_receive(uint32_t id, struct slc__received *received, struct bell **ret_bell) {
  struct bell *bell = malloc(sizeof *bell);
  if (bell == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for the doorbell of a publisher");
  *bell = (struct bell){.references = 1, .id = id, .fd = -1};
  int status = slc__received_doorbell(received, &bell->fd);
  if (status != 0) {
    bell_unref(bell);
    return status;
  }
  *ret_bell = bell;
  return 0;
}

/* One that is known is looked for in the newest whole set. */
static int bell_get(const struct slc__watcher_sets *sets, const Slotcast__Watcher *entry,
                    struct slc__received *received, struct bell **ret_bell) {
  if (entry->fresh) return bell_receive(entry->id, received, ret_bell);
  const struct slc__watcher_set *known = sets->latest != NULL ? sets->latest : sets->in_use;
  for (uint32_t i = 0; known != NULL && i < known->view.count; i++) {
    if (known->bells[i]->id != entry->id) continue;
    known->bells[i]->references++;
    *ret_bell = known->bells[i];
    return 0;
  }
  return slc__fail(SLC_PROTOCOL, "the broker names a publisher's doorbell %u, which it never sent", entry->id);
}

static int set_reserve(struct slc__watcher_set *set, size_t more) {
  size_t room = set->view.count + more + 1;
  struct slc__watcher *list = reallocarray(set->view.list, room, sizeof *list);
  if (list != NULL) set->view.list = list;
  struct bell **bells = reallocarray(set->bells, room, sizeof(struct bell *));
  if (bells != NULL) set->bells = bells;
  if (list == NULL || bells == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %zu publishers' doorbells", room);
  return 0;
}

static int incoming_begin(struct slc__watcher_sets *sets, uint64_t number) {
  if (sets->incoming == NULL) {
    sets->incoming = calloc(1, sizeof *sets->incoming);
    if (sets->incoming == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for publishers' doorbells");
    sets->incoming->view.number = number;
  }
  if (sets->incoming->view.number != number)
    return slc__fail(SLC_PROTOCOL, "the broker mixed the pages of two sets of doorbells");
  return 0;
}

int slc__watchers_page(struct slc__watcher_sets *sets, const Slotcast__Watchers *page, struct slc__received *received) {
  int status = incoming_begin(sets, page->number);
  if (status == 0) status = set_reserve(sets->incoming, page->n_watchers);
  for (size_t i = 0; status == 0 && i < page->n_watchers; i++) {
    struct slc__watchers *view = &sets->incoming->view;
    struct bell *bell = NULL;
    status = bell_get(sets, page->watchers[i], received, &bell);
    if (bell == NULL) return status;
    view->list[view->count] = (struct slc__watcher){.publisher = page->watchers[i]->publisher, .fd = bell->fd};
    sets->incoming->bells[view->count++] = bell;
  }
  if (status != 0 || page->more) return status;
  set_free(sets->latest);
  sets->latest = slc__pointer_take(&sets->incoming);
  return 0;
}

/* ---- using ------------------------------------------------------------------------------------------------------ */

void slc__watchers_sync(struct slc__watcher_sets *sets, slc_client *client, struct slc__watch *watch, uint64_t number) {
  pthread_mutex_lock(&client->lock);
  if (sets->latest == NULL || sets->latest->view.number < number) slc__connection_drain(client);
  if (sets->latest != NULL) {
    set_free(sets->in_use);
    sets->in_use = slc__pointer_take(&sets->latest);
    watch->set = &sets->in_use->view;
  }
  pthread_mutex_unlock(&client->lock);
}

void slc__watchers_cut_off(struct slc__watcher_sets *sets) {
  set_free(slc__pointer_take(&sets->incoming));
}

void slc__watchers_deinit(struct slc__watcher_sets *sets) {
  set_free(slc__pointer_take(&sets->incoming));
  set_free(slc__pointer_take(&sets->latest));
  set_free(slc__pointer_take(&sets->in_use));
}

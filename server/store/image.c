/* See image.h.  Thread: the loop's. */
#include "store/image.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "store/parts.h"

/* ---- life ---- */

void slc__image_init(struct slc__image *image) {
  *image = (struct slc__image){.log = {.fd = -1}};
}

void slc__image_deinit(struct slc__image *image) {
  for (size_t i = 0; image->is_ours && i < image->count; i++) slc__fd_close(&image->fds[i]);
  for (size_t i = 0; image->is_ours && i < image->stored_count; i++) slc__fd_close(&image->stored[i].fd);
  slc__log_deinit(&image->log);
  free(image->fds);
  free(image->stored);
  slc__image_init(image);
}

/* ---- adding ---- */

/* One more, of so many bytes each. */
static bool make_room(void *list, size_t count, size_t *room, size_t size) {
  if (count < *room) return true;
  size_t wanted = *room == 0 ? 64 : 2 * *room;
  void *grown = reallocarray(*(void **)list, wanted, size);
  if (grown == NULL) return false;
  *(void **)list = grown;
  *room = wanted;
  return true;
}

int slc__image_add(struct slc__image *image, int fd) {
  if (!make_room(&image->fds, image->count, &image->room, sizeof *image->fds))
    return slc__fail(SLC_NO_MEMORY, "no memory to hand %zu descriptors over", image->count + 1);
  image->fds[image->count++] = fd;
  return SLC_OK;
}

int slc__image_add_stored(struct slc__image *image, const char *name, int fd) {
  if (!make_room(&image->stored, image->stored_count, &image->stored_room, sizeof *image->stored))
    return slc__fail(SLC_NO_MEMORY, "no memory to hand %zu descriptors over", image->stored_count + 1);
  struct slc__image_stored *stored = &image->stored[image->stored_count++];
  stored->fd = fd;
  snprintf(stored->name, sizeof stored->name, "%s", name);
  return SLC_OK;
}

/* ---- of a store ---- */

static int add_record(struct slc__image *image, const struct slc__record *record) {
  uint32_t names[SLC__STORE_DESCRIPTORS_MAX];
  struct slc__log_extent extent;
  struct slc__log_put put = {.key = record->key,
                             .key_size = record->key_size,
                             .value = record->value,
                             .value_size = record->value_size,
                             .names = names,
                             .name_count = record->fd_count};
  int status = SLC_OK;
  for (size_t i = 0; status == SLC_OK && i < record->fd_count; i++) {
    names[i] = (uint32_t)image->count;
    status = slc__image_add(image, record->fds[i]);
  }
  return status == SLC_OK ? slc__log_put(&image->log, &put, &extent) : status;
}

int slc__store_image(const struct slc__store *store, struct slc__image *image) {
  const struct slc__record *record;
  int status = slc__log_create(1, &image->log);
  TAILQ_FOREACH(record, &store->records.order, by_change) {
    if (status == SLC_OK && !record->is_dropped) status = add_record(image, record);
  }
  if (status == SLC_OK) status = slc__log_commit(&image->log, store->generation);
  return status == SLC_OK ? slc__log_count(&image->log, image->log.size) : status;
}

int slc__store_hand_over(struct slc__store *store, struct slc__image *image) {
  int status = SLC_OK;
  for (size_t i = 0; status == SLC_OK && i < store->keeper_count; i++) {
    struct slc__keeper *keeper = store->keepers[i];
    if (keeper->class->hand_over != NULL) status = keeper->class->hand_over(keeper, image);
  }
  return status;
}

/* ---- loading ---- */

static int load_one(struct slc__image *image, const struct slc__log_put *put, struct slc__loaded *loaded) {
  int fds[SLC__STORE_DESCRIPTORS_MAX];
  struct slc__store_record record = {.key = put->key,
                                     .key_size = put->key_size,
                                     .value = put->value,
                                     .value_size = put->value_size,
                                     .fds = fds,
                                     .fd_count = put->name_count};
  for (size_t i = 0; i < put->name_count; i++) {
    if (put->names[i] >= image->count) return slc__fail(SLC_PROTOCOL, "a record's descriptor was not handed over");
    fds[i] = image->fds[put->names[i]];
  }
  int status = slc__loaded_add(loaded, &record);
  for (size_t i = 0; status == SLC_OK && i < put->name_count; i++) image->fds[put->names[i]] = -1;
  return status;
}

int slc__image_load(struct slc__image *image, struct slc__loaded *loaded, uint64_t *ret_generation) {
  SLC__CLEANUP(slc__log_set_deinit) struct slc__log_set set = {0};
  int status = slc__log_read(image->log.fd, &set);
  if (status == SLC_OK && set.damaged > 0) status = slc__fail(SLC_PROTOCOL, "the records are damaged");
  for (size_t i = 0; status == SLC_OK && i < set.count; i++) status = load_one(image, &set.puts[i], loaded);
  if (status == SLC_OK) *ret_generation = set.generation;
  return status;
}

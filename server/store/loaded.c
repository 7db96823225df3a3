/* A set while it is loaded.  Each record is one piece of memory that owns its descriptors.  Thread: the loop's. */
#include "store/loaded.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"

static void record_free(struct slc__store_record *record) {
  for (size_t i = 0; i < record->fd_count; i++) slc__fd_close(&record->fds[i]);
  free(record);
}

static struct slc__store_record *record_copy(const struct slc__store_record *from) {
  size_t fds_size = from->fd_count * sizeof *from->fds;
  struct slc__store_record *record = malloc(sizeof *record + fds_size + from->key_size + from->value_size);
  if (record == NULL) return NULL;
  *record = *from;
  record->fds = (int *)(record + 1);
  char *key = (char *)record->fds + fds_size, *value = key + from->key_size;
  if (fds_size > 0) memcpy(record->fds, from->fds, fds_size);
  if (from->key_size > 0) memcpy(key, from->key, from->key_size);
  if (from->value_size > 0) memcpy(value, from->value, from->value_size);
  record->key = key;
  record->value = value;
  return record;
}

static bool make_room(struct slc__loaded *loaded) {
  if (loaded->count < loaded->room) return true;
  size_t room = loaded->room == 0 ? 64 : 2 * loaded->room;
  struct slc__store_record **records = reallocarray(loaded->records, room, sizeof(struct slc__store_record *));
  if (records == NULL) return false;
  loaded->records = records;
  loaded->room = room;
  return true;
}

int slc__loaded_add(struct slc__loaded *loaded, const struct slc__store_record *record) {
  struct slc__store_record *copy = make_room(loaded) ? record_copy(record) : NULL;
  if (copy == NULL) return slc__fail(SLC_NO_MEMORY, "no memory to load %zu records", loaded->count + 1);
  for (size_t i = 0; i < record->fd_count; i++) record->fds[i] = -1;
  loaded->records[loaded->count++] = copy;
  return SLC_OK;
}

static int compare(const void *left, const void *right) {
  const struct slc__store_record *a = *(struct slc__store_record *const *)left;
  const struct slc__store_record *b = *(struct slc__store_record *const *)right;
  size_t common = a->key_size < b->key_size ? a->key_size : b->key_size;
  int order = common == 0 ? 0 : memcmp(a->key, b->key, common);
  if (order != 0) return order;
  return (a->key_size > b->key_size) - (a->key_size < b->key_size);
}

bool slc__loaded_sort(struct slc__loaded *loaded) {
  if (loaded->count == 0) return true;
  qsort(loaded->records, loaded->count, sizeof(struct slc__store_record *), compare);
  for (size_t i = 1; i < loaded->count; i++) {
    if (compare(&loaded->records[i - 1], &loaded->records[i]) == 0) return false;
  }
  return true;
}

void slc__loaded_init(struct slc__loaded *loaded) {
  *loaded = (struct slc__loaded){0};
}

void slc__loaded_deinit(struct slc__loaded *loaded) {
  for (size_t i = 0; i < loaded->count; i++) record_free(loaded->records[i]);
  free(loaded->records);
  slc__loaded_init(loaded);
}

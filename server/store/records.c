/* The records: a tree by key (tsearch: balanced, and nothing to grow), and two lists in the order of change, of all
 * records and of the tombstones among them.
 *
 * Invariants: `change` grows along both lists; a place's next is in the order or NULL; a tombstone is there only while
 * a place needs it, and since what a place needs is always the end of the order, those that nobody needs are the first.
 * Thread: the loop's. */
#include "store/records.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* ---- by key ---- */

static int compare(const void *left, const void *right) {
  const struct slc__record *a = left, *b = right;
  if (a->key_size != b->key_size) return a->key_size < b->key_size ? -1 : 1;
  return memcmp(a->key, b->key, a->key_size);
}

static void key_set(struct slc__record *record, const void *key, size_t key_size) {
  record->key_size = key_size;
  memcpy(record->key, key, key_size);
}

static struct slc__record *find(const struct slc__records *records, const void *key, size_t key_size) {
  struct slc__record wanted;
  key_set(&wanted, key, key_size);
  struct slc__record *const *node = tfind(&wanted, &records->by_key, compare);
  return node == NULL ? NULL : *node;
}

/* ---- by change ---- */

/* Whoever was to read the record next reads what follows it. */
static void order_remove(struct slc__records *records, struct slc__record *record) {
  struct slc__place *place;
  LIST_FOREACH(place, &records->places, link) {
    if (place->next == record) place->next = TAILQ_NEXT(record, by_change);
  }
  TAILQ_REMOVE(&records->order, record, by_change);
  if (record->is_dropped) TAILQ_REMOVE(&records->tombstones, record, by_drop);
}

static void order_append(struct slc__records *records, struct slc__record *record) {
  struct slc__place *place;
  record->change = ++records->changes;
  TAILQ_INSERT_TAIL(&records->order, record, by_change);
  if (record->is_dropped) TAILQ_INSERT_TAIL(&records->tombstones, record, by_drop);
  LIST_FOREACH(place, &records->places, link) {
    if (place->next == NULL) place->next = record;
  }
}

/* ---- bodies ---- */

/* One piece of memory: the descriptors' numbers come first, since they are to be aligned. */
static void *body_new(const void *value, size_t value_size, const int *fds, size_t fd_count) {
  size_t fds_size = fd_count * sizeof *fds;
  char *body = malloc(fds_size + value_size + 1);
  if (body == NULL) return NULL;
  if (fds_size > 0) memcpy(body, fds, fds_size);
  if (value_size > 0) memcpy(body + fds_size, value, value_size);
  return body;
}

static void body_drop(struct slc__record *record) {
  free(record->body);
  record->value = record->body = NULL;
  record->fds = NULL;
  record->value_size = record->fd_count = 0;
}

static void body_set(struct slc__record *record, void *body, size_t value_size, size_t fd_count) {
  body_drop(record);
  record->body = body;
  record->fds = body;
  record->fd_count = fd_count;
  record->value = (const char *)body + fd_count * sizeof *record->fds;
  record->value_size = value_size;
}

/* ---- tombstones ---- */

/* A place has to read the tombstones that it has not passed and that were no tombstones yet when it was opened. */
static bool is_needed(const struct slc__records *records, const struct slc__record *tombstone) {
  const struct slc__place *place;
  LIST_FOREACH(place, &records->places, link) {
    if (place->next != NULL && place->next->change <= tombstone->change && place->opened < tombstone->change)
      return true;
  }
  return false;
}

static void record_free(struct slc__records *records, struct slc__record *record) {
  order_remove(records, record);
  tdelete(record, &records->by_key, compare);
  body_drop(record);
  free(record);
}

static void bury(struct slc__records *records) {
  struct slc__record *first;
  while ((first = TAILQ_FIRST(&records->tombstones)) != NULL && !is_needed(records, first)) record_free(records, first);
}

/* ---- put, drop ---- */

static struct slc__record *record_new(struct slc__records *records, const void *key, size_t key_size) {
  struct slc__record *record = calloc(1, sizeof *record);
  if (record == NULL) return NULL;
  key_set(record, key, key_size);
  if (tsearch(record, &records->by_key, compare) == NULL) {
    free(record);
    return NULL;
  }
  return record;
}

int slc__records_put(struct slc__records *records, const void *key, size_t key_size, const void *value,
                     size_t value_size, const int *fds, size_t fd_count) {
  void *body = body_new(value, value_size, fds, fd_count);
  struct slc__record *record = body == NULL ? NULL : find(records, key, key_size);
  if (record != NULL) {
    order_remove(records, record);
  } else if (body != NULL) {
    record = record_new(records, key, key_size);
  }
  if (record == NULL) {
    free(body);
    return slc__fail(SLC_NO_MEMORY, "no memory for one more record");
  }
  body_set(record, body, value_size, fd_count);
  record->is_dropped = false;
  order_append(records, record);
  return SLC_OK;
}

bool slc__records_drop(struct slc__records *records, const void *key, size_t key_size) {
  struct slc__record *record = find(records, key, key_size);
  if (record == NULL || record->is_dropped) return false;
  order_remove(records, record);
  body_drop(record);
  record->is_dropped = true;
  order_append(records, record);
  bury(records);
  return true;
}

/* ---- places ---- */

void slc__place_open(struct slc__records *records, struct slc__place *place) {
  place->next = TAILQ_FIRST(&records->order);
  place->opened = records->changes;
  LIST_INSERT_HEAD(&records->places, place, link);
}

void slc__place_close(struct slc__records *records, struct slc__place *place) {
  LIST_REMOVE(place, link);
  bury(records);
}

const struct slc__record *slc__place_next(struct slc__records *records, struct slc__place *place) {
  while (place->next != NULL && place->next->is_dropped && place->next->change <= place->opened)
    slc__place_pass(records, place);
  return place->next;
}

void slc__place_pass(struct slc__records *records, struct slc__place *place) {
  place->next = TAILQ_NEXT(place->next, by_change);
  bury(records);
}

/* ---- life ---- */

void slc__records_init(struct slc__records *records) {
  records->by_key = NULL;
  records->changes = 0;
  TAILQ_INIT(&records->order);
  TAILQ_INIT(&records->tombstones);
  LIST_INIT(&records->places);
}

void slc__records_deinit(struct slc__records *records) {
  struct slc__record *first;
  while ((first = TAILQ_FIRST(&records->order)) != NULL) record_free(records, first);
}

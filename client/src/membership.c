/* Membership sets: hold tables, bells and doorbells, counted, because one set takes over from another what stays.
 *
 * Invariants:
 *   - A set is complete: what its pages do not name is not in it.  A page names what is known (then the object is that
 * of the newest set before) or brings it with descriptors (fresh).
 *   - A set in use is never changed; a new one replaces it, and its objects go when no set has them.
 *   - The set in use is read without the lock; reference counts are touched only under it.
 * Threads: entered under the client's lock. */
#include "membership.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"

struct member_table {
  uint32_t references;
  uint32_t id;
  uint32_t capacity; /* lines that the object has */
  struct slc__mapping table, bell;
};

struct member_doorbell {
  uint32_t references;
  uint32_t id;
  int fd;
};

/* The arrays of the view and of the references run side by side. */
struct slc__member_set {
  struct slc__membership view;
  struct member_table **tables;
  struct member_doorbell **doorbells;
};

/* ---- counted objects -------------------------------------------------------------------------------------------- */

static void table_unref(struct member_table *table) {
  if (table == NULL || --table->references > 0) return;
  slc__mapping_deinit(&table->table);
  slc__mapping_deinit(&table->bell);
  free(table);
}

static void table_drop(struct member_table **table) {
  table_unref(*table);
}

static void doorbell_unref(struct member_doorbell *doorbell) {
  if (doorbell == NULL || --doorbell->references > 0) return;
  slc__fd_close(&doorbell->fd);
  free(doorbell);
}

static void doorbell_drop(struct member_doorbell **doorbell) {
  doorbell_unref(*doorbell);
}

static int table_receive(uint32_t id, struct slc__received *received, struct member_table **ret_table) {
  SLC__CLEANUP(table_drop) struct member_table *table = calloc(1, sizeof *table);
  if (table == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for the hold table of new subscribers");
  table->references = 1;
  table->id = id;
  int status = slc__received_map(received, SLC__OBJECT_TABLE, SLC__READ_ONLY, 0, &table->table);
  if (status == 0)
    status = slc__received_map(received, SLC__OBJECT_BELL, SLC__READ_WRITE, slc__layout_bell_size(), &table->bell);
  if (status != 0) return status;
  table->capacity = slc__layout_table_lines(table->table.size);
  *ret_table = slc__pointer_take(&table);
  return 0;
}

static int doorbell_receive(uint32_t id, struct slc__received *received, struct member_doorbell **ret_doorbell) {
  SLC__CLEANUP(doorbell_drop) struct member_doorbell *doorbell = calloc(1, sizeof *doorbell);
  if (doorbell == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for the doorbell of a new subscriber");
  doorbell->references = 1;
  doorbell->id = id;
  doorbell->fd = -1;
  int status = slc__received_doorbell(received, &doorbell->fd);
  if (status != 0) return status;
  *ret_doorbell = slc__pointer_take(&doorbell);
  return 0;
}

/* ---- looking up ------------------------------------------------------------------------------------------------- */

/* The index of `id` among `count` of them, looked for from `start` on, where it is when the order has stayed; `count`:
 * not there. */
static uint32_t table_find(const struct slc__member_set *set, uint32_t id, uint32_t start) {
  uint32_t count = set != NULL ? set->view.table_count : 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t at = (start + i) % count;
    if (set->tables[at]->id == id) return at;
  }
  return count;
}

static uint32_t doorbell_find(const struct slc__member_set *set, uint32_t id, uint32_t start) {
  uint32_t count = set != NULL ? set->view.doorbell_count : 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t at = (start + i) % count;
    if (set->doorbells[at]->id == id) return at;
  }
  return count;
}

/* The newest whole set: what a page takes as known lies there. */
static const struct slc__member_set *newest(const struct slc__members *members) {
  return members->latest != NULL ? members->latest : members->in_use;
}

/* A table that a page names: brought by it, or known.  The reference is the caller's. */
static int table_get(const struct slc__members *members, const Slotcast__Table *entry, struct slc__received *received,
                     struct member_table **ret_table) {
  if (entry->fresh) return table_receive(entry->id, received, ret_table);
  const struct slc__member_set *known = newest(members);
  uint32_t at = table_find(known, entry->id, members->incoming->view.table_count);
  if (known == NULL || at == known->view.table_count)
    return slc__fail(SLC_PROTOCOL, "the broker names hold table %u, which it never sent", entry->id);
  known->tables[at]->references++;
  *ret_table = known->tables[at];
  return 0;
}

static int doorbell_get(const struct slc__members *members, const Slotcast__Doorbell *entry,
                        struct slc__received *received, struct member_doorbell **ret_doorbell) {
  if (entry->fresh) return doorbell_receive(entry->id, received, ret_doorbell);
  const struct slc__member_set *known = newest(members);
  uint32_t at = doorbell_find(known, entry->id, members->incoming->view.doorbell_count);
  if (known == NULL || at == known->view.doorbell_count)
    return slc__fail(SLC_PROTOCOL, "the broker names doorbell %u, which it never sent", entry->id);
  known->doorbells[at]->references++;
  *ret_doorbell = known->doorbells[at];
  return 0;
}

/* ---- building --------------------------------------------------------------------------------------------------- */

/* Makes room for `more` elements behind `count`. */
static int reserve(void *array, size_t element, size_t count, size_t more) {
  void **place = array;
  void *grown = reallocarray(*place, count + more + 1, element);
  if (grown == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %zu subscribers' tables", count + more);
  *place = grown;
  return 0;
}

static int set_reserve(struct slc__member_set *set, size_t tables, size_t doorbells) {
  struct slc__membership *view = &set->view;
  int status = reserve(&view->tables, sizeof *view->tables, view->table_count, tables);
  if (status == 0)
    status =
        reserve(&set->tables, sizeof *set->tables, view->table_count, tables); // NOLINT(bugprone-sizeof-expression)
  if (status == 0) status = reserve(&view->doorbells, sizeof *view->doorbells, view->doorbell_count, doorbells);
  if (status == 0)
    status = reserve(&set->doorbells, sizeof *set->doorbells, view->doorbell_count,
                     doorbells); // NOLINT(bugprone-sizeof-expression)
  return status;
}

static int lines_check(const Slotcast__Table *entry, uint32_t capacity) {
  if (entry->lines.len > capacity)
    return slc__fail(SLC_PROTOCOL, "the broker names %zu lines of hold table %u, which has %u", entry->lines.len,
                     entry->id, capacity);
  for (size_t i = 0; i < entry->lines.len; i++) {
    if ((entry->lines.data[i] & SLC__SCAN_HOLDS) > SLC__LINE_HOLDS)
      return slc__fail(SLC_PROTOCOL, "the broker admits more holds in a line of hold table %u than it has", entry->id);
  }
  return 0;
}

static int table_append(struct slc__members *members, const Slotcast__Table *entry, struct slc__received *received) {
  struct slc__member_set *set = members->incoming;
  SLC__CLEANUP(table_drop) struct member_table *table = NULL;
  int status = table_get(members, entry, received, &table);
  if (table == NULL) return status;
  status = lines_check(entry, table->capacity);
  if (status != 0) return status;
  uint8_t *lines = malloc(entry->lines.len + 1);
  if (lines == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %zu subscribers", entry->lines.len);
  if (entry->lines.len > 0) memcpy(lines, entry->lines.data, entry->lines.len);
  uint32_t index = set->view.table_count++;
  set->view.tables[index] = (struct slc__scan_table){
      .id = entry->id,
      .line_count = (uint32_t)entry->lines.len,
      .lines = lines,
      .table = table->table.base,
      .bell = table->bell.base,
  };
  set->tables[index] = slc__pointer_take(&table);
  return 0;
}

static int doorbell_append(struct slc__members *members, const Slotcast__Doorbell *entry,
                           struct slc__received *received) {
  struct slc__member_set *set = members->incoming;
  uint32_t table = table_find(set, entry->table, 0);
  if (table == set->view.table_count || entry->line >= set->view.tables[table].line_count)
    return slc__fail(SLC_PROTOCOL, "the broker names a doorbell of line %u of hold table %u, which is not there",
                     entry->line, entry->table);
  struct member_doorbell *doorbell = NULL;
  int status = doorbell_get(members, entry, received, &doorbell);
  if (doorbell == NULL) return status;
  uint32_t index = set->view.doorbell_count++;
  set->view.doorbells[index] = (struct slc__scan_doorbell){.table = table, .line = entry->line, .fd = doorbell->fd};
  set->doorbells[index] = doorbell;
  return 0;
}

/* The set that a page belongs to: the one whose pages are coming, or a new one. */
static int incoming_begin(struct slc__members *members, uint64_t epoch) {
  if (members->incoming == NULL) {
    members->incoming = calloc(1, sizeof *members->incoming);
    if (members->incoming == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a membership");
    members->incoming->view.epoch = epoch;
  }
  if (members->incoming->view.epoch != epoch)
    return slc__fail(SLC_PROTOCOL, "the broker mixed the pages of two memberships");
  return 0;
}

int slc__members_page(struct slc__members *members, const Slotcast__Membership *page, struct slc__received *received) {
  int status = incoming_begin(members, page->epoch);
  if (status == 0) status = set_reserve(members->incoming, page->n_tables, page->n_doorbells);
  for (size_t i = 0; status == 0 && i < page->n_tables; i++) status = table_append(members, page->tables[i], received);
  for (size_t i = 0; status == 0 && i < page->n_doorbells; i++)
    status = doorbell_append(members, page->doorbells[i], received);
  if (status != 0 || page->more) return status;
  slc__member_set_free(members->latest);
  members->latest = slc__pointer_take(&members->incoming);
  return 0;
}

/* ---- using ------------------------------------------------------------------------------------------------------ */

bool slc__members_pending(const struct slc__members *members, uint64_t epoch) {
  return members->latest != NULL && members->latest->view.epoch >= epoch;
}

const struct slc__membership *slc__members_adopt(struct slc__members *members, struct slc__member_set **ret_old) {
  *ret_old = members->in_use;
  members->in_use = slc__pointer_take(&members->latest);
  return &members->in_use->view;
}

void slc__member_set_free(struct slc__member_set *set) {
  if (set == NULL) return;
  for (uint32_t i = 0; i < set->view.table_count; i++) {
    free(set->view.tables[i].lines);
    table_unref(set->tables[i]);
  }
  for (uint32_t i = 0; i < set->view.doorbell_count; i++) doorbell_unref(set->doorbells[i]);
  free(set->view.tables);
  free(set->view.doorbells);
  free(set->tables);
  free(set->doorbells);
  free(set);
}

void slc__members_deinit(struct slc__members *members) {
  slc__member_set_free(slc__pointer_take(&members->incoming));
  slc__member_set_free(slc__pointer_take(&members->latest));
  slc__member_set_free(slc__pointer_take(&members->in_use));
}

/* Membership sets: hold tables, bells, doorbells and pidfds, counted, because one set takes over from another what
 * stays.
 *
 * Invariants:
 *   - A set is complete: what its pages do not name is not in it.  A page names what is known (then the object is that
 * of the newest set before) or brings it with descriptors (fresh).
 *   - A set in use is never changed, but that the dead are waited for no more when there is no broker to say so; a new
 *     one replaces it, and its objects go when no set has them.
 *   - The set in use is read without the lock; reference counts are touched only under it.
 * Threads: entered under the client's lock. */
#include "membership.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "net/peer.h"

struct member_table {
  uint32_t references;
  uint32_t id;
  uint32_t capacity; /* lines that the object has */
  struct slc__mapping table, bell;
};

/* A doorbell, or a pidfd. */
struct member_fd {
  uint32_t references;
  uint32_t id;
  int fd;
};

/* A reliable subscriber and where it lives; several may live in one. */
struct member_process {
  uint32_t table; /* index */
  uint32_t line;
  struct member_fd *process;
};

/* The arrays of the view and of the references run side by side. */
struct slc__member_set {
  struct slc__membership view;
  struct member_table **tables;
  struct member_fd **doorbells;
  struct member_process *processes;
  uint32_t process_count;
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

static void fd_unref(struct member_fd *counted) {
  if (counted == NULL || --counted->references > 0) return;
  slc__fd_close(&counted->fd);
  free(counted);
}

static void fd_drop(struct member_fd **counted) {
  fd_unref(*counted);
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

typedef int (*receive_fn)(struct slc__received *received, int *ret_fd);

static int fd_receive(uint32_t id, receive_fn receive, struct slc__received *received, struct member_fd **ret_counted) {
  SLC__CLEANUP(fd_drop) struct member_fd *counted = calloc(1, sizeof *counted);
  if (counted == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for the descriptor of a new subscriber");
  counted->references = 1;
  counted->id = id;
  counted->fd = -1;
  int status = receive(received, &counted->fd);
  if (status != 0) return status;
  *ret_counted = slc__pointer_take(&counted);
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

static struct member_fd *process_find(const struct slc__member_set *set, uint32_t id) {
  for (uint32_t i = set != NULL ? set->process_count : 0; i-- > 0;) {
    if (set->processes[i].process->id == id) return set->processes[i].process;
  }
  return NULL;
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
                        struct slc__received *received, struct member_fd **ret_doorbell) {
  if (entry->fresh) return fd_receive(entry->id, slc__received_doorbell, received, ret_doorbell);
  const struct slc__member_set *known = newest(members);
  uint32_t at = doorbell_find(known, entry->id, members->incoming->view.doorbell_count);
  if (known == NULL || at == known->view.doorbell_count)
    return slc__fail(SLC_PROTOCOL, "the broker names doorbell %u, which it never sent", entry->id);
  known->doorbells[at]->references++;
  *ret_doorbell = known->doorbells[at];
  return 0;
}

/* Known may be also what came with an entry before. */
static int process_get(const struct slc__members *members, const Slotcast__Process *entry,
                       struct slc__received *received, struct member_fd **ret_process) {
  if (entry->fresh) return fd_receive(entry->id, slc__received_process, received, ret_process);
  struct member_fd *known = process_find(members->incoming, entry->id);
  if (known == NULL) known = process_find(newest(members), entry->id);
  if (known == NULL) return slc__fail(SLC_PROTOCOL, "the broker names process %u, which it never sent", entry->id);
  known->references++;
  *ret_process = known;
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

static int set_reserve(struct slc__member_set *set, size_t tables, size_t doorbells, size_t processes) {
  struct slc__membership *view = &set->view;
  int status = reserve(&view->tables, sizeof *view->tables, view->table_count, tables);
  if (status == 0)
    status =
        reserve(&set->tables, sizeof *set->tables, view->table_count, tables); // NOLINT(bugprone-sizeof-expression)
  if (status == 0) status = reserve(&view->doorbells, sizeof *view->doorbells, view->doorbell_count, doorbells);
  if (status == 0)
    status = reserve(&set->doorbells, sizeof *set->doorbells, view->doorbell_count,
                     doorbells); // NOLINT(bugprone-sizeof-expression)
  if (status == 0) status = reserve(&set->processes, sizeof *set->processes, set->process_count, processes);
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

/* Whose a descriptor is. */
static int line_find(const struct slc__member_set *set, uint32_t id, uint32_t line, uint32_t *ret_table) {
  *ret_table = table_find(set, id, 0);
  if (*ret_table < set->view.table_count && line < set->view.tables[*ret_table].line_count) return 0;
  return slc__fail(SLC_PROTOCOL, "the broker names a descriptor of line %u of hold table %u, which is not there", line,
                   id);
}

static int doorbell_append(struct slc__members *members, const Slotcast__Doorbell *entry,
                           struct slc__received *received) {
  struct slc__member_set *set = members->incoming;
  uint32_t table;
  struct member_fd *doorbell = NULL;
  int status = line_find(set, entry->table, entry->line, &table);
  if (status == 0) status = doorbell_get(members, entry, received, &doorbell);
  if (doorbell == NULL) return status;
  uint32_t index = set->view.doorbell_count++;
  set->view.doorbells[index] = (struct slc__scan_doorbell){
      .table = table, .line = entry->line, .fd = doorbell->fd, .virtual_id = entry->virtual_id};
  set->doorbells[index] = doorbell;
  return 0;
}

static int process_append(struct slc__members *members, const Slotcast__Process *entry,
                          struct slc__received *received) {
  struct slc__member_set *set = members->incoming;
  struct member_process fresh = {.line = entry->line};
  int status = line_find(set, entry->table, entry->line, &fresh.table);
  if (status == 0) status = process_get(members, entry, received, &fresh.process);
  if (status == 0) set->processes[set->process_count++] = fresh;
  return status;
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
  if (status == 0) status = set_reserve(members->incoming, page->n_tables, page->n_doorbells, page->n_processes);
  for (size_t i = 0; status == 0 && i < page->n_tables; i++) status = table_append(members, page->tables[i], received);
  for (size_t i = 0; status == 0 && i < page->n_doorbells; i++)
    status = doorbell_append(members, page->doorbells[i], received);
  for (size_t i = 0; status == 0 && i < page->n_processes; i++)
    status = process_append(members, page->processes[i], received);
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

const struct slc__membership *slc__members_view(const struct slc__members *members) {
  return members->in_use != NULL ? &members->in_use->view : NULL;
}

void slc__members_cut_off(struct slc__members *members) {
  slc__member_set_free(slc__pointer_take(&members->incoming));
}

/* The line's holds stay: a slot that the dead one holds is not reused before the broker has cleared them. */
bool slc__members_forget_dead(struct slc__members *members) {
  const struct slc__member_set *set = members->in_use;
  bool found = false;
  for (uint32_t i = 0; set != NULL && i < set->process_count; i++) {
    const struct member_process *member = &set->processes[i];
    uint8_t *line = &set->view.tables[member->table].lines[member->line];
    if ((*line & SLC__SCAN_RELIABLE) == 0 || !slc__pidfd_dead(member->process->fd)) continue;
    *line &= (uint8_t)~SLC__SCAN_RELIABLE;
    found = true;
  }
  return found;
}

void slc__member_set_free(struct slc__member_set *set) {
  if (set == NULL) return;
  for (uint32_t i = 0; i < set->view.table_count; i++) {
    free(set->view.tables[i].lines);
    table_unref(set->tables[i]);
  }
  for (uint32_t i = 0; i < set->view.doorbell_count; i++) fd_unref(set->doorbells[i]);
  for (uint32_t i = 0; i < set->process_count; i++) fd_unref(set->processes[i].process);
  free(set->view.tables);
  free(set->view.doorbells);
  free(set->tables);
  free(set->doorbells);
  free(set->processes);
  free(set);
}

void slc__members_deinit(struct slc__members *members) {
  slc__member_set_free(slc__pointer_take(&members->incoming));
  slc__member_set_free(slc__pointer_take(&members->latest));
  slc__member_set_free(slc__pointer_take(&members->in_use));
}

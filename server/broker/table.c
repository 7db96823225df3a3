/* Hold tables: a subscriber's line in a table of its uid, made when the others are full.  Thread: the loop's. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "broker/broker.h"

enum { FIRST_TABLE_LINES = 29 /* one page */, TABLE_GROWTH = 8, TABLE_LINES_MAX = 4096 };

void table_free(const struct channel *channel, struct table *table) {
  if (table == NULL) return;
  record_gone(&table->record);
  slc__mapping_deinit(&table->mapping);
  slc__mapping_deinit(&table->bell_mapping);
  channel_object_close(channel, &table->fd);
  channel_object_close(channel, &table->bell_fd);
  free(table->lines);
  free(table);
}

static int table_fill(struct broker *broker, const struct channel *channel, struct table *table, uint64_t size) {
  table->line_count = slc__layout_table_lines(size);
  table->lines = calloc(table->line_count, 1);
  if (table->lines == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a hold table");
  int status = channel_object_mapped(broker, channel, SLC__OBJECT_TABLE, size, &table->fd, &table->mapping);
  if (status == SLC_OK)
    status = channel_object_mapped(broker, channel, SLC__OBJECT_BELL, slc__layout_bell_size(), &table->bell_fd,
                                   &table->bell_mapping);
  if (status != SLC_OK) return status;
  slc__table_format(table->mapping.base, table->line_count);
  slc__bell_format(table->bell_mapping.base);
  return SLC_OK;
}

/* Much larger than the uid's last one: every publish looks at a word of each table (measured: six tables for a thousand
 * subscribers made it 1.3 times as dear, three 1.1 times). */
static uint32_t lines_of_next(const struct channel *channel, uid_t uid, uint32_t lines) {
  uint32_t wanted = FIRST_TABLE_LINES;
  for (uint32_t i = 0; i < channel->table_count; i++) {
    if (channel->tables[i]->uid == uid) wanted = channel->tables[i]->line_count * TABLE_GROWTH;
  }
  if (wanted > TABLE_LINES_MAX) wanted = TABLE_LINES_MAX;
  return wanted > lines ? wanted : lines;
}

static int table_make(struct broker *broker, struct channel *channel, struct account *account, uint32_t lines,
                      struct table **ret_table) {
  uint64_t size = slc__layout_table_size(lines_of_next(channel, account->uid, lines));
  uint64_t memory = size + slc__layout_bell_size();
  int status = charge(broker, channel->account, LIMIT_memory, memory);
  if (status != SLC_OK) return status;
  struct table **tables = reallocarray(channel->tables, channel->table_count + 1, sizeof *tables);
  struct table *table = calloc(1, sizeof *table);
  if (tables != NULL) channel->tables = tables;
  if (table != NULL) table->fd = table->bell_fd = -1;
  status = tables == NULL || table == NULL ? slc__fail(SLC_NO_MEMORY, "no memory for a hold table")
                                           : table_fill(broker, channel, table, size);
  if (status != SLC_OK) {
    table_free(channel, table);
    discharge(channel->account, LIMIT_memory, memory);
    return status;
  }
  table->uid = account->uid;
  table->id = channel->table_count + 1;
  record_init(&table->record, broker, RECORD_TABLE, channel);
  record_changed(&table->record);
  channel->tables[channel->table_count++] = table;
  channel->memory += memory;
  *ret_table = table;
  return SLC_OK;
}

/* The first of so many unused lines in a row; line_count: there are none. */
static uint32_t find_lines(const struct table *table, uint32_t lines) {
  uint32_t run = 0;
  for (uint32_t i = 0; i < table->line_count; i++) {
    run = table->lines[i] == 0 ? run + 1 : 0;
    if (run == lines) return i + 1 - lines;
  }
  return table->line_count;
}

void table_mark(struct user *user) {
  uint8_t *lines = user->table->lines + user->line;
  uint32_t left = user->max;
  for (uint32_t i = 0; i < slc__layout_lines_for(user->max); i++) {
    lines[i] = (uint8_t)(left < SLC__LINE_HOLDS ? left : SLC__LINE_HOLDS);
    left -= lines[i];
  }
  if (user->is_too_slow) {
    lines[0] |= SLC__SCAN_CLOSED;
  } else if (user->is_reliable) {
    lines[0] |= SLC__SCAN_RELIABLE;
  }
}

static void admit(struct table *table, struct user *user, uint32_t line) {
  slc__line_open(table->mapping.base, line, user->max);
  user->table = table;
  user->line = line;
  table_mark(user);
  record_changed(&user->record);
}

static int find_place(struct broker *broker, struct channel *channel, struct user *user) {
  uint32_t lines = slc__layout_lines_for(user->max);
  struct table *table = NULL;
  for (uint32_t i = 0; i < channel->table_count; i++) {
    if (channel->tables[i]->uid != user->process->account->uid) continue;
    uint32_t line = find_lines(channel->tables[i], lines);
    if (line == channel->tables[i]->line_count) continue;
    admit(channel->tables[i], user, line);
    return SLC_OK;
  }
  int status = table_make(broker, channel, user->process->account, lines, &table);
  if (status != SLC_OK) return status;
  admit(table, user, 0);
  return SLC_OK;
}

int table_admit(struct broker *broker, struct channel *channel, struct user *user) {
  int status = lifeline_join(user);
  if (status == SLC_OK) status = find_place(broker, channel, user);
  if (status != SLC_OK) lifeline_leave(user);
  return status;
}

void table_shut(struct user *user) {
  lifeline_leave(user);
  table_mark(user);
}

void table_dismiss(struct user *user) {
  lifeline_leave(user);
  if (user->table == NULL) return;
  slc__line_close(user->table->mapping.base, user->line, user->max);
  memset(user->table->lines + user->line, 0, slc__layout_lines_for(user->max));
  user->table = NULL;
}

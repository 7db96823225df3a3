/* Each thing as it was, from its record.
 *
 * A record is bytes that somebody else has kept, and descriptors that others can write through: all of it is checked
 * like what comes from a client, before anything is done with it.  What follows from the rest (counts, lines, costs) is
 * made again as it is made for newcomers.  Thread: the loop's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "broker/split.h"
#include "proto/codec.h"

/* ---- checks ---- */

static int damaged(const char *what) {
  return slc__fail(SLC_PROTOCOL, "%s", what);
}

static bool is_seqpacket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

static bool is_pidfd(int fd) {
  char path[64], target[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(path, target, sizeof target - 1);
  if (length <= 0) return false;
  target[length] = '\0';
  return strcmp(target, "anon_inode:[pidfd]") == 0 || strncmp(target, "pidfd:", 6) == 0;
}

static int take(struct slc__store_record *stored, size_t index) {
  return slc__fd_take(&stored->fds[index]);
}

/* ---- the broker, processes ---- */

int restore_broker(struct broker *broker, const Slotcast__BrokerRecord *body, struct slc__store_record *stored) {
  if (body->session.len != sizeof broker->session || stored->fd_count > 1)
    return damaged("it does not name the session");
  int status = SLC_OK;
  if (stored->fd_count == 1)
    status = slc__object_session_adopt(body->session.data, &stored->fds[0], &broker->session_lock);
  if (status != SLC_OK) return status;
  memcpy(broker->session, body->session.data, sizeof broker->session);
  broker->last_user = body->last_user;
  broker->last_channel = body->last_channel;
  broker->last_process = body->last_process;
  return SLC_OK;
}

int restore_process(struct broker *broker, uint64_t serial, const Slotcast__ProcessRecord *body,
                    struct slc__store_record *stored, struct process **ret_process) {
  if (stored->fd_count != 1 || !is_pidfd(stored->fds[0])) return damaged("its descriptor is no process");
  struct slc__peer peer = {.pid = body->pid, .uid = body->uid, .gid = body->gid, .pidfd = take(stored, 0)};
  snprintf(peer.program, sizeof peer.program, "%s", body->program);
  int status = process_make(broker, &peer, ret_process);
  slc__peer_deinit(&peer);
  if (status == SLC_OK) (*ret_process)->serial = serial;
  return status;
}

/* ---- channels ---- */

static void restore_terms(struct channel *channel, const Slotcast__ChannelRecord *body) {
  channel->epoch = body->epoch;
  channel->last_pending = body->last_pending;
  channel->last_doorbell = body->last_doorbell;
  channel->last_lifeline = body->last_lifeline;
  channel->watchers_number = body->watchers_number;
  channel->had_publisher = body->had_publisher != 0;
  channel->bytes_of_gone = body->bytes_of_gone;
  channel->drops_of_gone = body->drops_of_gone;
  channel->virtual_leavings = body->virtual_leavings;
  channel->is_fixed = body->fixed != 0;
  channel->is_prefaulted = body->prefaulted != 0;
  channel->max_subscribers = body->max_subscribers;
  channel->max_loans = body->max_loans;
  channel->max_holds = body->max_holds;
  channel->linger_ns = body->linger_ns;
  channel->slow_policy = body->slow_policy;
  channel->is_told = body->told != 0;
  channel->is_persistent = body->persistent != 0;
  channel->lingers_until = body->lingers_until;
}

static int restore_buffers(struct channel *channel, struct slc__store_record *stored) {
  const struct slc__geometry *geometry = &channel->geometry;
  struct slc__mapping mapping = {0};
  int status = slc__object_map(stored->fds[1], slc__memory_of(geometry), SLC__OBJECT_BUFFERS,
                               slc__layout_buffers_size(geometry), SLC__READ_WRITE, channel->broker->session, &mapping);
  slc__mapping_deinit(&mapping); /* what is in it is the users' */
  if (status == SLC_OK) channel->buffers_fd = take(stored, 1);
  return status;
}

static int restore_control(struct channel *channel, struct slc__store_record *stored) {
  const struct slc__geometry *geometry = &channel->geometry;
  uint64_t size = slc__layout_control_size(geometry);
  int status = slc__object_map(stored->fds[0], slc__memory_of(geometry), SLC__OBJECT_CONTROL, size, SLC__READ_WRITE,
                               channel->broker->session, &channel->control_mapping);
  if (status != SLC_OK) return status;
  channel->control_fd = take(stored, 0);
  slc__control_init(&channel->control, geometry, channel->control_mapping.base);
  return SLC_OK;
}

static int restore_shape(struct channel *channel, const Slotcast__ChannelRecord *body,
                         struct slc__store_record *stored) {
  struct slc__geometry *geometry = &channel->geometry;
  if (body->geometry.len == 0) return stored->fd_count == 0 ? SLC_OK : damaged("it has memory and no shape");
  if (body->geometry.len != sizeof *geometry || stored->fd_count != 2) return damaged("it has no whole shape");
  memcpy(geometry, body->geometry.data, sizeof *geometry);
  if (slc__geometry_check(geometry) != SLC_OK) return damaged("its shape can't be");
  channel->publisher_ids = calloc(geometry->max_publishers + 1, 1);
  if (channel->publisher_ids == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %s", channel->name);
  channel->memory = slc__layout_control_size(geometry) + slc__layout_buffers_size(geometry);
  charge_again(channel->account, LIMIT_memory, channel->memory);
  int status = virtuals_shape(channel);
  if (status == SLC_OK) status = restore_control(channel, stored);
  if (status == SLC_OK) status = restore_buffers(channel, stored);
  if (status != SLC_OK) return status;
  channel->virtual_next = body->virtual_next <= geometry->virtual_max ? body->virtual_next : geometry->virtual_max;
  channel->generation = geometry->split != 0 ? 0 : 1;
  channel->is_shaped = true;
  return SLC_OK;
}

int restore_channel(struct broker *broker, uint64_t serial, const Slotcast__ChannelRecord *body,
                    struct slc__store_record *stored, struct channel **ret_channel) {
  if (slc__channel_name_check_readable(body->name) != SLC_OK || channel_find(broker, body->name) != NULL)
    return damaged("its name can't be");
  struct account *account = body->own ? account_own(broker) : account_ref(broker, body->uid);
  if (account == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for one more account");
  charge_again(account, LIMIT_channels, 1);
  struct channel *channel;
  int status = channel_add(broker, account, body->name, serial, &channel);
  if (status != SLC_OK) discharge(account, LIMIT_channels, 1);
  account_unref(account); /* which the channel has taken one of */
  if (status != SLC_OK) return status;
  *ret_channel = channel;
  channel_adopt_type(channel, body->type);
  restore_terms(channel, body);
  return restore_shape(channel, body, stored);
}

/* ---- generations, in the order of their numbers ---- */

static int restore_plain(struct channel *channel, struct generation *fresh, struct slc__store_record *stored) {
  const struct slc__geometry *geometry = &channel->geometry;
  struct slc__mapping mapping = {0};
  uint64_t size = slc__layout_payloads_size(geometry, fresh->slot_size);
  if (stored->fd_count != 1) return damaged("it has no memory");
  int status = slc__object_map(stored->fds[0], slc__memory_of(geometry), SLC__OBJECT_PAYLOADS, size, SLC__READ_WRITE,
                               channel->broker->session, &mapping);
  slc__mapping_deinit(&mapping);
  if (status != SLC_OK) return status;
  charge_again(channel->account, LIMIT_memory, size);
  channel->memory += size;
  fresh->memory = size;
  fresh->fd = take(stored, 0);
  return SLC_OK;
}

static int add_generation(struct channel *channel, uint32_t number, const Slotcast__GenerationRecord *body,
                          struct slc__store_record *stored) {
  struct generation fresh = {.number = number, .fd = -1, .slot_size = body->slot_size};
  if (body->slot_size == 0 || body->slot_size > SLC__SLOT_SIZE_MAX || number <= channel->generation)
    return damaged("it can't be the next one");
  int status = generation_reserve(channel);
  if (status == SLC_OK)
    status = channel->geometry.split != 0 ? split_new(channel->broker, channel, &fresh, 0)
                                          : restore_plain(channel, &fresh, stored);
  if (status != SLC_OK) return status;
  channel->generations[channel->generation_count++] = fresh;
  channel->generation = number;
  return SLC_OK;
}

int restore_generation(struct channel *channel, uint32_t number, uint32_t first, const Slotcast__GenerationRecord *body,
                       struct slc__store_record *stored) {
  if (!channel->is_shaped) return damaged("its channel has no shape");
  int status = first == 0 ? add_generation(channel, number, body, stored) : SLC_OK;
  if (status != SLC_OK || channel->geometry.split == 0) return status;
  struct generation *generation = generation_find(channel, number);
  if (generation == NULL || generation->slot_size != body->slot_size) return damaged("a part of it is missing");
  return split_restore(channel, generation, body, stored);
}

/* ---- tables ---- */

static int map_table(const struct channel *channel, struct table *table, struct slc__store_record *stored) {
  struct slc__memory memory = slc__memory_of(&channel->geometry);
  const uint8_t *session = channel->broker->session;
  int status = slc__object_map(stored->fds[0], memory, SLC__OBJECT_TABLE, slc__layout_table_size(table->line_count),
                               SLC__READ_WRITE, session, &table->mapping);
  if (status == SLC_OK)
    status = slc__object_map(stored->fds[1], memory, SLC__OBJECT_BELL, slc__layout_bell_size(), SLC__READ_WRITE,
                             session, &table->bell_mapping);
  if (status != SLC_OK) return status;
  table->fd = take(stored, 0);
  table->bell_fd = take(stored, 1);
  return SLC_OK;
}

static int fill_table(struct channel *channel, struct table *table, const Slotcast__TableRecord *body,
                      struct slc__store_record *stored) {
  table->uid = body->uid;
  table->line_count = body->lines;
  table->lines = calloc(table->line_count, 1);
  if (table->lines == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a hold table");
  int status = map_table(channel, table, stored);
  if (status != SLC_OK) return status;
  uint64_t memory = table->mapping.size + table->bell_mapping.size;
  charge_again(channel->account, LIMIT_memory, memory);
  channel->memory += memory;
  return SLC_OK;
}

int restore_table(struct channel *channel, uint32_t id, const Slotcast__TableRecord *body,
                  struct slc__store_record *stored) {
  if (!channel->is_shaped || id != channel->table_count + 1 || stored->fd_count != 2)
    return damaged("a hold table is missing");
  if (body->lines == 0 || slc__layout_table_lines(slc__layout_table_size(body->lines)) != body->lines)
    return damaged("a hold table has lines that can't be");
  struct table **tables = reallocarray(channel->tables, channel->table_count + 1, sizeof *tables);
  struct table *table = calloc(1, sizeof *table);
  if (tables != NULL) channel->tables = tables;
  if (table != NULL) table->fd = table->bell_fd = -1;
  if (table != NULL) record_init(&table->record, channel->broker, RECORD_TABLE, channel);
  int status = tables == NULL || table == NULL ? slc__fail(SLC_NO_MEMORY, "no memory for a hold table")
                                               : fill_table(channel, table, body, stored);
  if (status != SLC_OK) {
    table_free(channel, table);
    return status;
  }
  table->id = id;
  record_changed(&table->record);
  channel->tables[channel->table_count++] = table;
  return SLC_OK;
}

/* ---- users ---- */

static void describe(struct user *user, const Slotcast__UserRecord *body) {
  user->is_publisher = body->publisher != 0;
  user->is_reliable = body->reliable != 0;
  user->max = body->max;
  snprintf(user->name, sizeof user->name, "%s", body->name);
  memcpy(user->instance, body->instance.data, sizeof user->instance);
  user_remember(user, &body->token);
  user->doorbell_id = body->doorbell_id;
  user->is_the_first = body->first != 0;
  user->batch = body->batch;
  user->metadata_size = body->metadata_size;
  user->is_too_slow = body->too_slow != 0;
  user->since = body->since;
}

static int place_publisher(struct user *user, const Slotcast__UserRecord *body) {
  struct channel *channel = user->channel;
  uint32_t id = body->publisher_id;
  if (!channel->is_shaped || id == 0 || id > channel->geometry.max_publishers || channel->publisher_ids[id] != 0)
    return damaged("a publisher's place can't be");
  channel->publisher_ids[id] = 1;
  user->publisher_id = id;
  return SLC_OK;
}

static bool are_free(const struct table *table, uint32_t line, uint32_t count) {
  if (count > table->line_count || line > table->line_count - count) return false;
  for (uint32_t i = 0; i < count; i++) {
    if (table->lines[line + i] != 0) return false;
  }
  return true;
}

static int place_subscriber(struct user *user, const Slotcast__UserRecord *body) {
  struct channel *channel = user->channel;
  if (body->table == 0) return SLC_OK;
  if (body->table > channel->table_count || user->max == 0 ||
      !are_free(channel->tables[body->table - 1], body->line, slc__layout_lines_for(user->max)))
    return damaged("a subscriber's place can't be");
  user->table = channel->tables[body->table - 1];
  user->line = body->line;
  user->is_attached = true; /* who was not told will say so */
  table_mark(user);
  return lifeline_restore(user, body->lifeline);
}

static int place(struct user *user, const Slotcast__UserRecord *body, struct slc__store_record *stored) {
  struct channel *channel = user->channel;
  if (body->virtual_channel[0] != '\0') {
    struct virtual *virtual = virtual_find(channel, body->virtual_channel);
    if (virtual == NULL) return damaged("a user's virtual channel is missing");
    virtual->users++;
    user->virtual = virtual;
  }
  if (stored->fd_count > 1 || (stored->fd_count == 1 && !is_seqpacket(stored->fds[0])))
    return damaged("a doorbell is no socket");
  if (stored->fd_count == 1) user->doorbell = take(stored, 0);
  return user->is_publisher ? place_publisher(user, body) : place_subscriber(user, body);
}

int restore_user(struct channel *channel, struct process *process, uint64_t id, const Slotcast__UserRecord *body,
                 struct slc__store_record *stored) {
  struct user *user;
  if (body->instance.len != sizeof user->instance || id > channel->broker->last_user ||
      known_by_id(process, id) != NULL)
    return damaged("a user can't be");
  int status = user_add(channel, process, id, &user);
  if (status != SLC_OK) return status;
  charge_again(process->account, LIMIT_users, 1);
  describe(user, body);
  status = place(user, body, stored);
  if (status == SLC_OK) user_count(user, 1);
  return status; /* one that has no place goes with its channel */
}

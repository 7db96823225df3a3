/* Channels: found by name, shaped by their first publisher, gone with their last user.  Thread: the loop's. */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"
#include "shm/gate.h"

/* ---- finding ---- */

static int by_name(const void *a, const void *b) {
  return strcmp(((const struct channel *)a)->name, ((const struct channel *)b)->name);
}

struct channel *channel_find(struct broker *broker, const char *name) {
  struct channel key = {.name = (char *)(uintptr_t)name};
  struct channel **found = tfind(&key, &broker->channels, by_name);
  return found == NULL ? NULL : *found;
}

struct visit {
  void (*visit)(struct channel *channel, void *ctx);
  void *ctx;
};

static void visit_node(const void *node, VISIT order, void *closure) {
  const struct visit *visit = closure;
  if (order == postorder || order == leaf) visit->visit(*(struct channel *const *)node, visit->ctx);
}

void channel_for_each(struct broker *broker, void (*visit)(struct channel *channel, void *ctx), void *ctx) {
  struct visit closure = {.visit = visit, .ctx = ctx};
  twalk_r(broker->channels, visit_node, &closure);
}

/* ---- making and freeing ---- */

int channel_add(struct broker *broker, struct account *account, const char *name, uint64_t serial,
                struct channel **ret_channel) {
  struct channel *channel = calloc(1, sizeof *channel);
  if (channel != NULL) {
    channel->name = strdup(name);
    channel->type = strdup("");
    channel->control_fd = channel->buffers_fd = -1;
    LIST_INIT(&channel->users);
    channel->broker = broker;
    channel->serial = serial;
    record_init(&channel->record, broker, RECORD_CHANNEL, channel);
  }
  if (channel == NULL || channel->name == NULL || channel->type == NULL ||
      tsearch(channel, &broker->channels, by_name) == NULL) {
    if (channel != NULL) {
      free(channel->name);
      free(channel->type);
    }
    free(channel);
    return slc__fail(SLC_NO_MEMORY, "no memory for the channel %s", name);
  }
  channel->account = account;
  account->references++;
  record_changed(&channel->record);
  *ret_channel = channel;
  return SLC_OK;
}

int channel_make(struct broker *broker, struct account *account, const char *name, struct channel **ret_channel) {
  int status = charge(broker, account, LIMIT_channels, 1);
  if (status != SLC_OK) return status;
  status = channel_add(broker, account, name, broker->last_channel + 1, ret_channel);
  if (status != SLC_OK) {
    discharge(account, LIMIT_channels, 1);
    return status;
  }
  broker->last_channel++;
  record_changed(&broker->record);
  return SLC_OK;
}

void channel_unshape(struct channel *channel) {
  record_changed(&channel->record);
  generations_free(channel);
  for (uint32_t i = 0; i < channel->table_count; i++) table_free(channel, channel->tables[i]);
  free(channel->tables);
  channel->tables = NULL;
  channel->table_count = 0;
  slc__mapping_deinit(&channel->control_mapping);
  channel_object_close(channel, &channel->control_fd);
  channel_object_close(channel, &channel->buffers_fd);
  virtuals_unshape(channel);
  free(channel->publisher_ids);
  channel->publisher_ids = NULL;
  channel->is_shaped = false;
  discharge(channel->account, LIMIT_memory, channel->memory);
  channel->memory = 0;
}

void channel_free(struct broker *broker, struct channel *channel) {
  if (channel->is_told) event_of_channel(broker, channel, SLC_EVENT_CHANNEL_REMOVED);
  tdelete(channel, &broker->channels, by_name);
  record_ring_not(channel);
  channel_unshape(channel);
  record_gone(&channel->record);
  discharge(channel->account, LIMIT_channels, 1);
  account_unref(channel->account);
  slc__log(SLC__LOG_DEBUG, "channel %s has gone", channel->name);
  free(channel->name);
  free(channel->type);
  free(channel);
}

/* ---- shape ---- */

static int make_control(struct broker *broker, struct channel *channel) {
  uint64_t size = slc__layout_control_size(&channel->geometry);
  int status = channel_object_mapped(broker, channel, SLC__OBJECT_CONTROL, size, &channel->control_fd,
                                     &channel->control_mapping);
  if (status != SLC_OK) return status;
  slc__control_format(&channel->geometry, channel->control_mapping.base);
  slc__control_init(&channel->control, &channel->geometry, channel->control_mapping.base);
  /* Epoch 0 is nobody's: a publisher without a membership has that. */
  channel->epoch = 1;
  channel->generation = channel->geometry.split != 0 ? 0 : 1; /* of a split channel publishers bring the first */
  atomic_store_explicit(&channel->control.page->epoch, channel->epoch, memory_order_relaxed);
  return SLC_OK;
}

int channel_shape(struct broker *broker, struct channel *channel, const struct slc__geometry *geometry) {
  uint64_t memory = slc__layout_control_size(geometry) + slc__layout_buffers_size(geometry);
  int status = charge(broker, channel->account, LIMIT_memory, memory);
  if (status != SLC_OK) return status;
  channel->memory = memory;
  channel->geometry = *geometry;
  channel->publisher_ids = calloc(geometry->max_publishers + 1, 1);
  if (channel->publisher_ids == NULL) status = slc__fail(SLC_NO_MEMORY, "no memory for %s", channel->name);
  if (status == SLC_OK) status = virtuals_shape(channel);
  if (status == SLC_OK) status = make_control(broker, channel);
  if (status == SLC_OK)
    status =
        channel_object(broker, channel, SLC__OBJECT_BUFFERS, slc__layout_buffers_size(geometry), &channel->buffers_fd);
  if (status != SLC_OK) {
    channel_unshape(channel);
    return status;
  }
  channel->is_shaped = true;
  record_changed(&channel->record);
  return SLC_OK;
}

/* ---- type ---- */

int channel_check_type(const struct channel *channel, const char *type) {
  if (type[0] == '\0' || channel->type[0] == '\0' || strcmp(type, channel->type) == 0) return SLC_OK;
  return slc__fail(SLC_INCOMPATIBLE, "the channel %s carries the type \"%s\", not \"%s\"", channel->name, channel->type,
                   type);
}

void channel_adopt_type(struct channel *channel, const char *type) {
  if (type[0] == '\0' || channel->type[0] != '\0') return;
  char *copy = strdup(type);
  if (copy == NULL) return;
  free(channel->type);
  channel->type = copy;
  record_changed(&channel->record);
}

/* ---- budget ---- */

static uint64_t share_of(const struct user *user) {
  return user->is_publisher ? (uint64_t)user->max + user->batch : user->max;
}

uint64_t channel_budget(const struct channel *channel) {
  uint64_t sum = channel->own_share + (channel->is_shaped ? channel->geometry.keep_last : 0);
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) sum += share_of(user);
  return sum;
}

/* A multiplexer has many publishers, each with little to publish: none takes more than its share, or those who come
 * first would leave no room for the others. */
static uint64_t share_of_multiplexer(const struct channel *channel, uint32_t slots, uint32_t max_loans) {
  uint32_t share = (slots - 1) / channel->geometry.max_publishers;
  return share > max_loans ? share - max_loans : 0;
}

uint32_t channel_batch(const struct channel *channel, uint32_t slots, uint32_t max_loans) {
  uint64_t promised = channel_budget(channel) + max_loans + 1;
  uint64_t left = promised < slots ? slots - promised : 0;
  uint64_t share = channel->geometry.virtual_max != 0 ? share_of_multiplexer(channel, slots, max_loans) : left / 4;
  if (share > left) share = left;
  uint32_t good = slc__geometry_batch(slots);
  if (share >= good) return good;
  return share > PUBLISHER_BATCH_MIN ? (uint32_t)share : PUBLISHER_BATCH_MIN;
}

static void append_user(char text[WHO_TEXT_MAX], const struct user *user) {
  size_t length = strlen(text);
  snprintf(text + length, WHO_TEXT_MAX - length, "; %s %s (pid %d, %s) has %llu",
           user->is_publisher ? "publisher" : "subscriber", user->process->peer.program, (int)user->process->peer.pid,
           user->name, (unsigned long long)share_of(user));
}

void channel_name_users(const struct channel *channel, enum channel_users which, char text[WHO_TEXT_MAX]) {
  enum { NAMED_MAX = 4 };
  int named = 0;
  const struct user *user;
  text[0] = '\0';
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (which != ALL_USERS && user->is_publisher != (which == PUBLISHERS)) continue;
    if (named++ < NAMED_MAX) append_user(text, user);
  }
  size_t length = strlen(text);
  if (named > NAMED_MAX) snprintf(text + length, WHO_TEXT_MAX - length, "; and %d more", named - NAMED_MAX);
}

static uint32_t slots_that_would_do(const struct channel *channel, uint64_t more) {
  uint32_t slots = SLC__SLOTS_MIN;
  while (slots < SLC__SLOTS_MAX && channel_budget(channel) + more > slots - 1) slots *= 2;
  return slots;
}

int channel_check_budget(const struct channel *channel, uint32_t slots, uint64_t more) {
  uint64_t used = channel_budget(channel);
  if (used + more <= slots - 1) return SLC_OK;
  char who[WHO_TEXT_MAX], kept[64] = "";
  channel_name_users(channel, ALL_USERS, who);
  if (channel->is_shaped && channel->geometry.keep_last > 0)
    snprintf(kept, sizeof kept, "; the %u newest messages are kept", channel->geometry.keep_last);
  return slc__fail(SLC_NO_BUDGET,
                   "the channel %s has %u slots, of which %llu are promised and one stays; %llu more do not fit: make "
                   "it with %u slots%s%s",
                   channel->name, slots, (unsigned long long)used, (unsigned long long)more,
                   slots_that_would_do(channel, more), kept, who);
}

/* ---- waking ---- */

void channel_ring_all(const struct channel *channel) {
  for (uint32_t i = 0; i < channel->table_count; i++)
    slc__ring_all(channel->tables[i]->mapping.base, channel->tables[i]->bell_mapping.base);
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->doorbell >= 0) slc__doorbell_ring(user->doorbell);
  }
}

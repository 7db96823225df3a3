/* The channel .slotcast/events: the broker is its one publisher, and publishes like any other through the slot log.
 *
 * It is made with the broker and stays until its end, subscribed to or not; its shape is fixed.  What it costs is an
 * account of the broker's own, so that nobody's limits are touched.  A broker that can't make it goes on without.
 *
 * We are who announces its members, so that our membership is made anew for each event and is never out of date.
 * Thread: the loop's. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"
#include "slotcast/event.h"

enum {
  EVENT_SLOTS = 256,
  EVENT_SLOT_SIZE = 704, /* with the prefix a multiple of two cache lines */
  OWN_ID = 1,
  OWN_BATCH = PUBLISHER_BATCH_MIN,
  OWN_SHARE = 1 + OWN_BATCH, /* one loan */
};

/* Others read these bytes: no padding, and nothing moves. */
static_assert(sizeof(slc_event) <= EVENT_SLOT_SIZE, "event");
static_assert(offsetof(slc_event, realtime_ns) == 8, "event");
static_assert(offsetof(slc_event, held_ordinal) == 56, "event");
static_assert(offsetof(slc_event, generation) == 64, "event");
static_assert(offsetof(slc_event, channel) == 80, "event");
static_assert(offsetof(slc_event, program) == 336, "event");
static_assert(offsetof(slc_event, client_name) == 400, "event");
static_assert(sizeof(slc_event) == 656, "event");

struct events {
  struct channel *channel;
  struct account *account;
  struct slc__mapping buffers_mapping;
  struct slc__pub pub;
  bool has_pub;
  struct slc__membership membership;
  uint32_t table_room, doorbell_room;
  bool is_failing; /* the last event could not be published, which is logged once */
};

/* ---- who subscribes ---- */

static bool reserve(void **list, uint32_t *room, uint32_t wanted, size_t size) {
  if (wanted <= *room) return true;
  void *larger = reallocarray(*list, wanted, size);
  if (larger == NULL) return false;
  *list = larger;
  *room = wanted;
  return true;
}

static uint32_t table_index(const struct channel *channel, const struct table *table) {
  uint32_t i = 0;
  while (channel->tables[i] != table) i++;
  return i;
}

static bool membership_build(struct events *events) {
  const struct channel *channel = events->channel;
  struct slc__membership *membership = &events->membership;
  void *tables = membership->tables, *doorbells = membership->doorbells;
  bool has_room = reserve(&tables, &events->table_room, channel->table_count, sizeof *membership->tables) &&
                  reserve(&doorbells, &events->doorbell_room, channel->subscribers, sizeof *membership->doorbells);
  membership->tables = tables;
  membership->doorbells = doorbells;
  membership->table_count = membership->doorbell_count = 0;
  if (!has_room) return false;
  for (uint32_t i = 0; i < channel->table_count; i++) {
    const struct table *table = channel->tables[i];
    membership->tables[i] = (struct slc__scan_table){.id = table->id,
                                                     .line_count = table->line_count,
                                                     .lines = table->lines,
                                                     .table = table->mapping.base,
                                                     .bell = table->bell_mapping.base};
  }
  membership->table_count = channel->table_count;
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->doorbell < 0 || user->table == NULL || !user->is_counted) continue; /* half there, or half gone */
    membership->doorbells[membership->doorbell_count++] = (struct slc__scan_doorbell){
        .table = table_index(channel, user->table), .line = user->line, .fd = user->doorbell};
  }
  membership->epoch = channel->epoch;
  return true;
}

/* Ours is that of the epoch in control, which only we write. */
static bool sync_nothing(void *ctx, uint64_t epoch) {
  (void)ctx;
  (void)epoch;
  return false;
}

/* ---- publishing ---- */

static int publish(struct events *events, const slc_event *event) {
  uint32_t slot;
  uint64_t ordinal;
  if (!membership_build(events)) return SLC_NO_MEMORY;
  int status = slc__pub_loan(&events->pub, &slot);
  if (status != SLC_OK) return status;
  memcpy(slc__pub_payload(&events->pub, slot, sizeof *event), event, sizeof *event);
  struct slc__sending sending = {.size = sizeof *event, .timestamp = (uint64_t)slc__clock_ns()};
  status = slc__pub_publish(&events->pub, slot, &sending, &ordinal);
  if (status != SLC_OK) slc__pub_discard(&events->pub, slot);
  return status;
}

static void tell(const struct broker *broker, slc_event *event, const struct channel *channel) {
  struct events *events = broker->events;
  /* Those who only look leave no trace: what is remembered is what they came for. */
  if (events == NULL || channel == events->channel || broker->is_closing) return;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  event->size = sizeof *event;
  event->realtime_ns = (uint64_t)now.tv_sec * (uint64_t)SLC__NS_PER_S + (uint64_t)now.tv_nsec;
  snprintf(event->channel, sizeof event->channel, "%s", channel->name);
  int status = publish(events, event);
  if (status != SLC_OK && !events->is_failing)
    slc__log(SLC__LOG_WARNING, "an event could not be told: %s", slc__status_text(status));
  events->is_failing = status != SLC_OK;
}

void event_of_channel(const struct broker *broker, const struct channel *channel, enum slc_event_kind kind) {
  slc_event event = {.kind = kind, .uid = channel->account->uid};
  if (channel->is_shaped && kind != SLC_EVENT_CHANNEL_REMOVED) event.slot_size = generation_largest(channel);
  if (kind == SLC_EVENT_CHANNEL_GREW) event.generation = channel->generation;
  tell(broker, &event, channel);
}

void event_of_user(const struct user *user, slc_event *event) {
  event->user = user->id;
  event->is_reliable = user->is_reliable;
  event->pid = user->process->peer.pid;
  event->uid = user->process->peer.uid;
  snprintf(event->program, sizeof event->program, "%s", user->process->peer.program);
  snprintf(event->client_name, sizeof event->client_name, "%s", user->name);
  tell(user->process->broker, event, user->channel);
}

bool events_are_wanted(const struct broker *broker) {
  return broker->events != NULL && broker->events->channel->subscribers > 0;
}

/* ---- the channel ---- */

/* One that was there before has left nothing but what its repair frees. */
static int make_publisher(struct broker *broker, struct events *events, bool is_recovered) {
  struct channel *channel = events->channel;
  struct slc__buffers buffers;
  uint64_t size = slc__layout_buffers_size(&channel->geometry);
  int status = slc__object_map(channel->buffers_fd, slc__memory_of(&channel->geometry), SLC__OBJECT_BUFFERS, size,
                               SLC__READ_WRITE, broker->session, &events->buffers_mapping);
  if (status != SLC_OK) return status;
  slc__buffers_init(&buffers, &channel->geometry, events->buffers_mapping.base);
  if (is_recovered) slc__repair(&channel->control, OWN_ID);
  events->membership.epoch = channel->epoch;
  status = slc__pub_init(&events->pub, &channel->control, &buffers, OWN_ID, OWN_BATCH, &events->membership,
                         sync_nothing, NULL);
  if (status != SLC_OK) return slc__fail(status, "no memory for the publisher of %s", channel->name);
  events->has_pub = true;
  channel->publisher_ids[OWN_ID] = 1;
  channel->own_share = OWN_SHARE;
  channel->publishers = 1;
  if (!is_recovered) atomic_fetch_add_explicit(&channel->control.page->publishers_joined, 1, memory_order_relaxed);
  atomic_store_explicit(&channel->control.page->publishers, 1, memory_order_relaxed);
  return SLC_OK;
}

static int make_channel(struct broker *broker, struct events *events) {
  struct slc__geometry geometry = {.slots = EVENT_SLOTS,
                                   .log_size = slc__geometry_log_size(EVENT_SLOTS),
                                   .max_publishers = 1,
                                   .slot_size = EVENT_SLOT_SIZE,
                                   .backend = (uint8_t)broker->options.backend,
                                   .keep_last = SLC_EVENTS_KEPT};
  int status = channel_make(broker, events->account, SLC_EVENTS_CHANNEL, &events->channel);
  if (status != SLC_OK) return status;
  channel_adopt_type(events->channel, SLC_EVENTS_TYPE);
  events->channel->is_fixed = true;
  events->channel->is_persistent = true;
  return channel_shape(broker, events->channel, &geometry);
}

/* Its subscribers are clients like others: they go on with it. */
static int find_channel(struct broker *broker, struct events *events) {
  events->channel = channel_find(broker, SLC_EVENTS_CHANNEL);
  bool is_recovered = events->channel != NULL;
  int status = SLC_OK;
  if (is_recovered) {
    events->account = events->channel->account;
    events->account->references++;
  } else {
    events->account = account_own(broker);
    status = events->account == NULL ? SLC_NO_MEMORY : make_channel(broker, events);
  }
  return status == SLC_OK ? make_publisher(broker, events, is_recovered) : status;
}

static void events_free(struct events *events) {
  if (events->has_pub) slc__pub_deinit(&events->pub);
  slc__mapping_deinit(&events->buffers_mapping);
  free(events->membership.tables);
  free(events->membership.doorbells);
  account_unref(events->account);
  free(events);
}

void events_open(struct broker *broker) {
  struct events *events = calloc(1, sizeof *events);
  int status = SLC_NO_MEMORY;
  if (events != NULL) status = find_channel(broker, events);
  if (status == SLC_OK) {
    broker->events = events;
    return;
  }
  slc__log(SLC__LOG_WARNING, "there will be no events: %s", slc__error_detail());
  if (events == NULL) return;
  if (events->channel != NULL) channel_free(broker, events->channel);
  events_free(events);
}

/* Subscribers see that the publisher has left, as they would see it of another. */
void events_close(struct broker *broker) {
  struct events *events = broker->events;
  if (events == NULL) return;
  broker->events = NULL;
  if (!is_left_to_successor(broker)) {
    slc__pub_leave(&events->pub);
    atomic_store_explicit(&events->channel->control.page->publishers, 0, memory_order_seq_cst);
    channel_ring_all(events->channel);
  }
  events->channel->publishers = 0;
  events_free(events);
}

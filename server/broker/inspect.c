/* Inspection: what `slotcast ls` and `slotcast info` show.  Reads shared memory, disturbs nobody.  Thread: the loop's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "broker/broker.h"

enum { CHANNELS_PER_PAGE = 100, USERS_PER_PAGE = 100, VIRTUALS_PER_PAGE = 200 };

void geometry_to_message(const struct slc__geometry *geometry, Slotcast__Geometry *message) {
  slotcast__geometry__init(message);
  message->slots = geometry->slots;
  message->log_size = geometry->log_size;
  message->max_publishers = geometry->max_publishers;
  message->reliable = geometry->reliable != 0;
  message->slot_size = geometry->slot_size;
  message->keep_last = geometry->keep_last;
  message->metadata_size = geometry->metadata_size;
  message->checksum = geometry->checksum;
  message->checksum_size = geometry->checksum_size;
  message->virtual_max = geometry->virtual_max;
  message->backend = geometry->backend;
  message->pages = slc__pages_to(geometry->pages);
  message->split = geometry->split != 0;
}

static uint64_t tail_of(const struct channel *channel) {
  return channel->is_shaped ? atomic_load_explicit(&channel->control.page->tail, memory_order_relaxed) : 0;
}

static void summarize(const struct channel *channel, Slotcast__ChannelSummary *summary, Slotcast__Geometry *geometry) {
  slotcast__channel_summary__init(summary);
  summary->name = channel->name;
  summary->type = channel->type;
  summary->publishers = channel->publishers;
  summary->subscribers = channel->subscribers;
  summary->messages = tail_of(channel);
  summary->memory = channel->memory;
  summary->persistent = channel->is_persistent;
  summary->lingering = channel->linger != NULL;
  summary->fixed_size = channel->is_fixed;
  summary->max_subscribers = channel->max_subscribers;
  summary->max_loans = channel->max_loans;
  summary->max_holds = channel->max_holds;
  summary->linger_ns = channel->linger_ns;
  summary->slow_policy = channel->slow_policy;
  if (!channel->is_shaped) return;
  geometry_to_message(&channel->geometry, geometry);
  summary->geometry = geometry;
  summary->generation = channel->generation;
  summary->generations = channel->generation_count + (channel->geometry.split != 0 ? 0 : 1);
  summary->largest = generation_largest(channel);
  summary->virtual_channels = channel->virtual_count;
}

/* ---- the list ---- */

struct list_page {
  const char *after;
  size_t count;
  bool more;
  Slotcast__ChannelSummary entries[CHANNELS_PER_PAGE];
  Slotcast__ChannelSummary *list[CHANNELS_PER_PAGE];
  Slotcast__Geometry geometries[CHANNELS_PER_PAGE];
};

static void list_one(struct channel *channel, void *ctx) {
  struct list_page *list = ctx;
  /* The broker's own is known by its name, and no business of those who look at theirs. */
  if (strcmp(channel->name, SLC_EVENTS_CHANNEL) == 0 || strcmp(channel->name, list->after) <= 0) return;
  if (list->count == CHANNELS_PER_PAGE) {
    list->more = true;
    return;
  }
  size_t i = list->count++;
  summarize(channel, &list->entries[i], &list->geometries[i]);
  list->list[i] = &list->entries[i];
}

int send_channel_list(struct client *client, uint64_t serial, const Slotcast__ListChannels *request) {
  static struct list_page list;
  list.after = request->after;
  list.count = 0;
  list.more = false;
  channel_for_each(client->broker, list_one, &list);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__ChannelList body = SLOTCAST__CHANNEL_LIST__INIT;
  body.channels = list.list;
  body.n_channels = list.count;
  body.more = list.more;
  message.serial = serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_CHANNEL_LIST;
  message.channel_list = &body;
  return client_send(client, &message, NULL, 0);
}

/* ---- one channel ---- */

static void describe_publisher(const struct user *user, Slotcast__User *entry) {
  const struct slc__publisher_line *line = &user->channel->control.publishers[user->publisher_id - 1];
  entry->messages = atomic_load_explicit(&line->messages, memory_order_relaxed);
  entry->bytes = atomic_load_explicit(&line->bytes, memory_order_relaxed);
  entry->would_block = atomic_load_explicit(&line->would_block, memory_order_relaxed);
}

static uint32_t holds_in_use(const struct user *user) {
  uint32_t holds = 0;
  for (uint32_t i = 0; i < user->max; i++) {
    const struct slc__hold_line *line = slc__table_line(user->table->mapping.base, user->line + i / SLC__LINE_HOLDS);
    if (atomic_load_explicit(&line->holds[i % SLC__LINE_HOLDS], memory_order_relaxed) != 0) holds++;
  }
  return holds;
}

static void describe_subscriber(const struct user *user, Slotcast__User *entry) {
  if (user->table == NULL) return;
  const struct slc__hold_line *line = slc__table_line(user->table->mapping.base, user->line);
  uint64_t cursor = atomic_load_explicit(&line->cursor, memory_order_relaxed), tail = tail_of(user->channel);
  entry->messages = atomic_load_explicit(&line->received, memory_order_relaxed);
  entry->drops = atomic_load_explicit(&line->dropped, memory_order_relaxed);
  entry->lag = tail > cursor ? tail - cursor : 0;
  entry->holds = holds_in_use(user);
}

static void describe(const struct user *user, Slotcast__User *entry) {
  slotcast__user__init(entry);
  entry->user = user->id;
  entry->publisher = user->is_publisher;
  entry->reliable = user->is_reliable;
  entry->pid = user->process->peer.pid;
  entry->uid = user->process->peer.uid;
  entry->program = user->process->peer.program;
  entry->client_name = (char *)(uintptr_t)user->name;
  entry->virtual_id = user->virtual != NULL ? user->virtual->id : 0;
  entry->max = user->max;
  entry->connected = user->client != NULL;
  entry->too_slow = user->is_too_slow;
  if (user->is_publisher) {
    describe_publisher(user, entry);
  } else {
    describe_subscriber(user, entry);
  }
}

/* A publisher's line has its predecessor's figures until it sets its own: so they are taken out. */
void totals_keep(const struct user *user) {
  struct channel *channel = user->channel;
  if (!channel->is_shaped || (user->is_publisher && user->publisher_id == 0)) return;
  Slotcast__User entry;
  describe(user, &entry);
  channel->bytes_of_gone += entry.bytes;
  channel->drops_of_gone += entry.drops;
  if (!user->is_publisher) return;
  struct slc__publisher_line *line = &channel->control.publishers[user->publisher_id - 1];
  atomic_store_explicit(&line->messages, 0, memory_order_relaxed);
  atomic_store_explicit(&line->bytes, 0, memory_order_relaxed);
  atomic_store_explicit(&line->would_block, 0, memory_order_relaxed);
}

static void add_totals(const struct channel *channel, Slotcast__ChannelReport *report) {
  const struct user *user;
  report->bytes = channel->bytes_of_gone;
  report->drops = channel->drops_of_gone;
  LIST_FOREACH(user, &channel->users, of_channel) {
    Slotcast__User entry;
    describe(user, &entry);
    report->bytes += entry.bytes;
    report->drops += entry.drops;
    report->slots_held += entry.holds;
  }
  if (!channel->is_shaped) return;
  struct slc__slot_states states;
  slc__slot_states(&channel->control, &states);
  report->slots_free = states.free;
  report->slots_owned = states.owned;
  report->slots_published = states.published;
  report->epoch = channel->epoch;
  report->budget_used = (uint32_t)channel_budget(channel);
}

/* New users are put at the head, so ids fall along the list; pages go by rising id from its end. */
static const struct user *next_user(const struct channel *channel, uint64_t after) {
  const struct user *user, *best = NULL;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->id <= after) break;
    best = user;
  }
  return best;
}

static void describe_virtual(const struct channel *channel, const struct virtual *virtual,
                             Slotcast__VirtualChannel *entry) {
  uint64_t last = atomic_load_explicit(&channel->control.maxima[virtual->id], memory_order_relaxed);
  slotcast__virtual_channel__init(entry);
  entry->id = virtual->id;
  entry->name = virtual->name;
  entry->type = virtual->type;
  entry->messages = last > virtual->base ? last - virtual->base : 0;
  entry->publishers = virtual->publishers;
  entry->subscribers = virtual->subscribers;
}

static void add_virtuals(const struct channel *channel, uint32_t after, Slotcast__ChannelReport *report) {
  static Slotcast__VirtualChannel entries[VIRTUALS_PER_PAGE];
  static Slotcast__VirtualChannel *list[VIRTUALS_PER_PAGE];
  uint32_t most = channel->virtual_ids != NULL ? channel->geometry.virtual_max : 0;
  report->virtual_channels = list;
  for (uint32_t id = after < most ? after + 1 : most + 1; id <= most; id++) {
    if (channel->virtual_ids[id] == NULL) continue;
    if (report->n_virtual_channels == VIRTUALS_PER_PAGE) {
      report->more = true;
      break;
    }
    size_t i = report->n_virtual_channels++;
    list[i] = &entries[i];
    describe_virtual(channel, channel->virtual_ids[id], &entries[i]);
  }
}

int send_channel_report(struct client *client, uint64_t serial, const Slotcast__InspectChannel *request) {
  static Slotcast__User entries[USERS_PER_PAGE];
  static Slotcast__User *list[USERS_PER_PAGE];
  struct channel *channel = channel_find(client->broker, request->channel);
  if (channel == NULL)
    return slc__fail(SLC_NOT_FOUND, "there is no channel %s: `slotcast ls` lists them", request->channel);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__ChannelReport report = SLOTCAST__CHANNEL_REPORT__INIT;
  Slotcast__ChannelSummary summary;
  Slotcast__Geometry geometry;
  summarize(channel, &summary, &geometry);
  report.summary = &summary;
  report.taken_at = (uint64_t)slc__clock_ns();
  report.users = list;
  add_totals(channel, &report);
  uint64_t after = request->after_user;
  const struct user *user;
  while ((user = next_user(channel, after)) != NULL) {
    if (report.n_users == USERS_PER_PAGE) {
      report.more = true;
      break;
    }
    list[report.n_users] = &entries[report.n_users];
    describe(user, &entries[report.n_users++]);
    after = user->id;
  }
  add_virtuals(channel, request->after_virtual, &report);
  message.serial = serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_CHANNEL_REPORT;
  message.channel_report = &report;
  return client_send(client, &message, NULL, 0);
}

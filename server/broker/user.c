/* Publishers and subscribers: admission and leaving.
 *
 * A join that fails leaves nothing behind: the user is made first and leaves again.  Thread: the loop's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"
#include "proto/codec.h"
#include "shm/words.h"

enum {
  DEFAULT_SLOTS = 64,
  DEFAULT_SLOT_SIZE = 1024,
  DEFAULT_PUBLISHERS = 64,
  DEFAULT_HOLDS = 2,
  HOLDS_MAX = 4096,
  DEFAULT_VIRTUAL_MAX = 1024,
};

/* ---- a user without a place yet ---- */

int user_add(struct channel *channel, struct process *process, uint64_t id, struct user **ret_user) {
  struct user *user = calloc(1, sizeof *user);
  if (user == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for one more user of %s", channel->name);
  user->id = id;
  user->channel = channel;
  user->process = process;
  user->doorbell = -1;
  if (!known_add(user)) {
    free(user);
    return slc__fail(SLC_NO_MEMORY, "no memory for one more user of %s", channel->name);
  }
  record_init(&user->record, process->broker, RECORD_USER, channel);
  record_changed(&process->record);
  record_changed(&user->record);
  LIST_INSERT_HEAD(&channel->users, user, of_channel);
  LIST_INSERT_HEAD(&process->users, user, of_process);
  *ret_user = user;
  return SLC_OK;
}

static int user_make(struct client *client, struct channel *channel, struct user **ret_user) {
  struct broker *broker = client->broker;
  int status = charge(broker, client->process->account, LIMIT_users, 1);
  if (status != SLC_OK) return status;
  struct user *user;
  status = user_add(channel, client->process, broker->last_user + 1, &user);
  if (status != SLC_OK) {
    discharge(client->process->account, LIMIT_users, 1);
    return status;
  }
  broker->last_user++;
  record_changed(&broker->record);
  user->client = client;
  snprintf(user->name, sizeof user->name, "%s", client->name);
  memcpy(user->instance, client->instance, sizeof user->instance);
  channel_revive(channel);
  *ret_user = user;
  return SLC_OK;
}

static void adopt_type(struct channel *channel, struct virtual *virtual, const char *type) {
  if (virtual != NULL) {
    virtual_adopt_type(virtual, type);
  } else {
    channel_adopt_type(channel, type);
  }
}

void user_count(struct user *user, int change) {
  *(user->is_publisher ? &user->channel->publishers : &user->channel->subscribers) += (uint32_t)change;
  if (user->virtual != NULL)
    *(user->is_publisher ? &user->virtual->publishers : &user->virtual->subscribers) += (uint32_t)change;
  user->is_counted = change > 0;
}

void channel_set_counts(const struct channel *channel) {
  if (!channel->is_shaped) return;
  struct slc__control_page *page = channel->control.page;
  atomic_store_explicit(&page->publishers, channel->publishers, memory_order_seq_cst);
  atomic_store_explicit(&page->subscribers, channel->subscribers, memory_order_seq_cst);
}

/* ---- telling ---- */

static void tell_joined(const struct user *user) {
  slc_event event = {.kind = user->is_publisher ? SLC_EVENT_PUBLISHER_JOINED : SLC_EVENT_SUBSCRIBER_JOINED};
  channel_tell(user->process->broker, user->channel);
  event_of_user(user, &event);
}

/* Not of one that was refused: it had not joined. */
static void tell_left(const struct user *user, bool has_died) {
  slc_event event = {.kind = user->is_publisher ? SLC_EVENT_PUBLISHER_LEFT : SLC_EVENT_SUBSCRIBER_LEFT};
  if (has_died) event.kind = user->is_publisher ? SLC_EVENT_PUBLISHER_DIED : SLC_EVENT_SUBSCRIBER_DIED;
  if (user->is_counted) event_of_user(user, &event);
}

/* ---- shape ---- */

static const struct user *find_reliable_subscriber(const struct channel *channel) {
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (!user->is_publisher && user->is_reliable) return user;
  }
  return NULL;
}

/* The smallest power of two from the default on in which those who wait already and this one have room, beside what is
 * to be kept. */
static uint32_t slots_for_waiting(const struct channel *channel, uint32_t max_loans, uint32_t keep_last) {
  uint32_t slots = DEFAULT_SLOTS;
  uint64_t promised = channel_budget(channel) + max_loans + keep_last;
  while (slots < SLC__SLOTS_MAX && promised + slc__geometry_batch(slots) > slots - 1) {
    slots *= 2;
  }
  return slots;
}

/* Subscribers that came before there was a shape have said what metadata they expect. */
static int check_against_waiting(const struct channel *channel, uint32_t metadata_size) {
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->metadata_size == 0 || user->metadata_size == metadata_size) continue;
    return slc__fail(
        SLC_INCOMPATIBLE, "a subscriber, %s (pid %d), waits on %s for %u bytes of metadata, and asked for were %u",
        user->process->peer.program, (int)user->process->peer.pid, channel->name, user->metadata_size, metadata_size);
  }
  return SLC_OK;
}

/* That of CRC-32C goes without saying. */
static uint32_t checksum_size(const Slotcast__OpenPublisher *request) {
  return request->checksum == SLC__CHECKSUM_CRC32C ? sizeof(uint32_t) : request->checksum_size;
}

/* Whoever creates a multiplexer says only how many; 0: a plain channel. */
static uint32_t virtual_max(const Slotcast__OpenPublisher *request) {
  bool is_default = request->max_virtual == 0 && request->multiplexer[0] != '\0';
  return is_default ? DEFAULT_VIRTUAL_MAX : request->max_virtual;
}

static int first_geometry(const struct channel *channel, const Slotcast__OpenPublisher *request, uint32_t max_loans,
                          struct slc__geometry *ret) {
  const struct user *reliable = find_reliable_subscriber(channel);
  if (!request->reliable && reliable != NULL)
    return slc__fail(SLC_INCOMPATIBLE,
                     "a reliable subscriber, %s (pid %d), waits on %s: publish reliably, or subscribe without",
                     reliable->process->peer.program, (int)reliable->process->peer.pid, channel->name);
  uint32_t slots = request->slots != 0 ? request->slots : slots_for_waiting(channel, max_loans, request->keep_last);
  *ret = (struct slc__geometry){
      .slots = slots,
      .log_size = slots <= SLC__SLOTS_MAX ? slc__geometry_log_size(slots) : 0,
      .max_publishers = request->max_publishers != 0 ? request->max_publishers : DEFAULT_PUBLISHERS,
      .reliable = request->reliable != 0,
      .slot_size = request->slot_size != 0 ? request->slot_size : DEFAULT_SLOT_SIZE,
      .keep_last = request->keep_last,
      .metadata_size = request->metadata_size,
      .checksum = request->checksum,
      .checksum_size = checksum_size(request),
      .split = request->split != 0,
      .virtual_max = virtual_max(request),
  };
  if (slc__geometry_check(ret) == SLC_OK) return check_against_waiting(channel, ret->metadata_size);
  return slc__fail(
      SLC_INVALID,
      "a channel has %d to %u slots of 1 to %llu bytes and 1 to %d publishers, keeps at most slots - 3 "
      "messages, with up to %d bytes of metadata and %d of checksum, in at most %d virtual channels; asked "
      "for were %u, %llu, %u, %u, %u, %u and %u",
      SLC__SLOTS_MIN, SLC__SLOTS_MAX, (unsigned long long)SLC__SLOT_SIZE_MAX, SLC__PUBLISHERS_MAX, SLC__METADATA_MAX,
      SLC__CHECKSUM_MAX, SLC__VIRTUAL_MAX, slots, (unsigned long long)ret->slot_size, ret->max_publishers,
      ret->keep_last, ret->metadata_size, ret->checksum_size, ret->virtual_max);
}

static int first_shape(const struct broker *broker, const struct channel *channel,
                       const Slotcast__OpenPublisher *request, uint32_t max_loans, struct slc__geometry *ret) {
  int status = first_geometry(channel, request, max_loans, ret);
  if (status == SLC_OK) status = memory_choose(broker, request, ret);
  return status == SLC_OK ? memory_check_waiting(channel, ret) : status;
}

static bool is_same(uint32_t asked, uint32_t is) {
  return asked == 0 || asked == is;
}

static int check_against_shape(const struct channel *channel, const Slotcast__OpenPublisher *request) {
  const struct slc__geometry *g = &channel->geometry;
  if ((request->reliable != 0) != (g->reliable != 0))
    return slc__fail(SLC_INCOMPATIBLE, "the publishers of %s are %s: all have to agree", channel->name,
                     g->reliable != 0 ? "reliable" : "not reliable");
  if ((request->split != 0) != (g->split != 0))
    return slc__fail(SLC_INCOMPATIBLE, "the payloads of %s lie in %s: all publishers have to agree (split)",
                     channel->name, g->split != 0 ? "memory of their own" : "its buffers");
  if (request->slots > g->slots || request->max_publishers > g->max_publishers)
    return slc__fail(SLC_INCOMPATIBLE,
                     "the channel %s has %u slots and at most %u publishers; asked for were %u and %u: ask for no "
                     "more, or for 0 (as it is)",
                     channel->name, g->slots, g->max_publishers, request->slots, request->max_publishers);
  if (channel->is_fixed && request->slot_size > g->slot_size)
    return slc__fail(SLC_INCOMPATIBLE, "the channel %s has slots of %llu bytes for good; asked for were %llu",
                     channel->name, (unsigned long long)g->slot_size, (unsigned long long)request->slot_size);
  if (request->max_virtual > g->virtual_max)
    return slc__fail(SLC_INCOMPATIBLE, "the multiplexer %s has at most %u virtual channels, asked for were %u",
                     channel->name, g->virtual_max, request->max_virtual);
  if (is_same(request->keep_last, g->keep_last) && is_same(request->metadata_size, g->metadata_size) &&
      is_same(request->checksum, g->checksum) && is_same(checksum_size(request), g->checksum_size))
    return memory_check_shape(channel, request);
  return slc__fail(SLC_INCOMPATIBLE,
                   "the messages of %s have %u bytes of metadata and a checksum of kind %u with %u bytes, and it keeps "
                   "the last %u; asked for were %u, %u, %u and %u: ask for the same, or for 0 (as it is)",
                   channel->name, g->metadata_size, g->checksum, g->checksum_size, g->keep_last, request->metadata_size,
                   request->checksum, checksum_size(request), request->keep_last);
}

static int take_publisher_id(struct channel *channel, struct user *user) {
  for (uint32_t id = 1; id <= channel->geometry.max_publishers; id++) {
    if (channel->publisher_ids[id] != 0) continue;
    channel->publisher_ids[id] = 1;
    user->publisher_id = id;
    return SLC_OK;
  }
  char who[WHO_TEXT_MAX];
  channel_name_users(channel, PUBLISHERS, who);
  return slc__fail(SLC_LIMIT, "the channel %s has all of its %u publishers: close one, or make it with more%s",
                   channel->name, channel->geometry.max_publishers, who);
}

/* A virtual channel has a place for subscribers when it has an id. */
static bool has_place(const struct user *user) {
  return user->channel->is_shaped && (user->virtual == NULL || user->virtual->id != 0);
}

/* Those who subscribed before there was a place for them get their lines now; nothing has been published yet. */
static int admit_waiting(struct broker *broker, struct channel *channel) {
  struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->is_publisher || user->table != NULL || !has_place(user)) continue;
    int status = table_admit(broker, channel, user);
    if (status != SLC_OK) return status;
  }
  return SLC_OK;
}

/* It has its lines, and does not know of them. */
static bool is_unattached(const struct user *user) {
  return !user->is_publisher && user->table != NULL && !user->is_attached;
}

void channel_attach_waiting(struct channel *channel) {
  struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (is_unattached(user)) attachment_push(user);
  }
}

/* Those who wait, wait again. */
void channel_take_back(struct channel *channel) {
  struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    lifeline_leave(user);
    user->table = NULL;
    record_changed(&user->record);
  }
  channel_unshape(channel);
}

/* Shape and lines, or neither. */
static int shape_channel(struct broker *broker, struct channel *channel, const struct slc__geometry *geometry) {
  int status = channel_shape(broker, channel, geometry);
  if (status == SLC_OK) status = admit_waiting(broker, channel);
  if (status == SLC_OK) return SLC_OK;
  channel_take_back(channel);
  return status;
}

int channel_agree_shape(const struct client *client, struct channel *channel, const Slotcast__OpenPublisher *request,
                        uint32_t max_loans, uint64_t promised, bool *ret_is_first) {
  struct broker *broker = client->broker;
  struct slc__geometry geometry = channel->geometry;
  bool is_first = !channel->is_shaped;
  int status = channel_check_type(channel, request->type);
  if (status == SLC_OK)
    status =
        is_first ? first_shape(broker, channel, request, max_loans, &geometry) : check_against_shape(channel, request);
  if (status == SLC_OK) status = memory_check_user(channel, &geometry, client->process->peer.uid);
  if (status == SLC_OK) status = channel_check_terms(channel, request);
  /* What an unshaped channel would keep is not in its budget yet. */
  if (status == SLC_OK)
    status = channel_check_budget(channel, geometry.slots, promised + (is_first ? geometry.keep_last : 0));
  if (status == SLC_OK && is_first) status = shape_channel(broker, channel, &geometry);
  *ret_is_first = is_first;
  return status;
}

/* ---- publishers ---- */

/* The virtual channel has an id from now on, and those who waited for it a place.  They are told of it when the
 * publisher counts, or they would see that there is none. */
static int begin_virtual(struct broker *broker, struct channel *channel, struct virtual *virtual, uint32_t wanted,
                         bool is_first) {
  int status = virtual_number(channel, virtual, wanted);
  if (status == SLC_OK) status = admit_waiting(broker, channel);
  struct user *user;
  bool is_news = false;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (!is_unattached(user)) continue;
    is_news = true;
    if (status != SLC_OK) table_dismiss(user);
  }
  if (status == SLC_OK && is_news && !is_first) membership_announce(channel);
  return status;
}

static int publisher_agree(const struct client *client, struct channel *channel, struct virtual *virtual,
                           const Slotcast__OpenPublisher *request, uint32_t max_loans, bool *ret_is_first) {
  int status = channel_check_loans(channel, max_loans);
  if (status == SLC_OK) status = virtual_check_request(channel, virtual != NULL);
  if (status == SLC_OK && virtual != NULL) status = virtual_check_type(channel, virtual, request->type);
  if (status == SLC_OK)
    status = channel_agree_shape(client, channel, request, max_loans, (uint64_t)max_loans + PUBLISHER_BATCH_MIN,
                                 ret_is_first);
  if (status != SLC_OK || virtual == NULL) return status;
  status = begin_virtual(client->broker, channel, virtual, request->virtual_id, *ret_is_first);
  if (status != SLC_OK && *ret_is_first) channel_take_back(channel);
  return status;
}

static int publisher_place(struct client *client, struct channel *channel, struct virtual *virtual, bool is_reliable,
                           uint32_t max_loans, bool is_first, struct user **ret_user) {
  uint32_t batch = channel_batch(channel, channel->geometry.slots, max_loans);
  struct user *user;
  int status = user_make(client, channel, &user);
  if (status != SLC_OK) {
    if (is_first)
      channel_take_back(channel);
    else
      channel_attach_waiting(channel);
    virtual_release(channel, virtual);
    return status;
  }
  user->batch = batch;
  user->is_publisher = true;
  user->is_reliable = is_reliable;
  user->max = max_loans;
  user->virtual = virtual; /* it has the one user more that was obtained */
  status = take_publisher_id(channel, user);
  if (status != SLC_OK) {
    channel_attach_waiting(channel); /* all the same, they have their lines */
    user_leave(user);
    return status;
  }
  *ret_user = user;
  return SLC_OK;
}

static int publisher_admit(struct client *client, struct channel *channel, struct virtual *virtual,
                           const Slotcast__OpenPublisher *request, struct user **ret_user) {
  uint32_t max_loans = request->max_loans != 0 ? request->max_loans : 1;
  bool is_first;
  int status = publisher_agree(client, channel, virtual, request, max_loans, &is_first);
  if (status != SLC_OK) {
    virtual_release(channel, virtual);
    return status;
  }
  status = publisher_place(client, channel, virtual, request->reliable != 0, max_loans, is_first, ret_user);
  if (status != SLC_OK) return status;
  adopt_type(channel, virtual, request->type);
  channel_adopt_terms(channel, request);
  user_count(*ret_user, 1);
  (*ret_user)->is_the_first = !channel->had_publisher;
  channel->had_publisher = true;
  record_changed(&channel->record);
  atomic_fetch_add_explicit(&channel->control.page->publishers_joined, 1, memory_order_seq_cst);
  channel_set_counts(channel);
  channel_attach_waiting(channel);
  return SLC_OK;
}

/* A refusal may leave a channel without users, or may have freed it already. */
static void release_unused(struct broker *broker, const char *name) {
  struct channel *channel = channel_find(broker, name);
  if (channel != NULL) channel_release(broker, channel);
}

/* The channel, and the virtual channel in it when that is what is asked for; else *ret_virtual is NULL. */
static int obtain(struct client *client, const char *name, const char *multiplexer, struct channel **ret_channel,
                  struct virtual **ret_virtual) {
  bool is_virtual = multiplexer[0] != '\0';
  *ret_virtual = NULL;
  int status = is_virtual ? slc__channel_name_check(name) : SLC_OK;
  if (status == SLC_OK)
    status = channel_obtain(client->broker, client->process->account, is_virtual ? multiplexer : name, ret_channel);
  if (status == SLC_OK && is_virtual) {
    status = virtual_obtain(*ret_channel, name, ret_virtual);
    if (status != SLC_OK) channel_release(client->broker, *ret_channel);
  }
  return status;
}

int publisher_join(struct client *client, const Slotcast__OpenPublisher *request, struct user **ret_user) {
  const char *name = request->multiplexer[0] != '\0' ? request->multiplexer : request->channel;
  struct channel *channel;
  struct virtual *virtual;
  int status = slc__channel_name_check(name); /* what is below .slotcast/ is ours to publish */
  if (status == SLC_OK && request->multiplexer[0] == '\0' && (request->max_virtual != 0 || request->virtual_id != 0))
    status = slc__fail(SLC_INVALID, "max_virtual and virtual_id are for a virtual channel: name its multiplexer");
  if (status == SLC_OK) status = obtain(client, request->channel, request->multiplexer, &channel, &virtual);
  if (status != SLC_OK) return status;
  status = publisher_admit(client, channel, virtual, request, ret_user);
  if (status == SLC_OK) {
    channel_ring_all(channel);
    tell_joined(*ret_user);
    watch_begin(client->broker, channel); /* some may have subscribed before there was a policy */
  } else {
    release_unused(client->broker, name);
  }
  return status;
}

/* ---- subscribers ---- */

/* What a subscriber expects beside each payload; 0: anything. */
static int check_metadata(const struct channel *channel, uint32_t metadata_size) {
  if (metadata_size > SLC__METADATA_MAX)
    return slc__fail(SLC_INVALID, "a message has at most %d bytes of metadata, not %u", SLC__METADATA_MAX,
                     metadata_size);
  if (!channel->is_shaped || is_same(metadata_size, channel->geometry.metadata_size)) return SLC_OK;
  return slc__fail(SLC_INCOMPATIBLE,
                   "the messages of %s have %u bytes of metadata, not %u: ask for the same, or for 0 (as it is)",
                   channel->name, channel->geometry.metadata_size, metadata_size);
}

static int check_subscription(const struct client *client, const struct channel *channel, const struct virtual *virtual,
                              const Slotcast__OpenSubscriber *request, uint32_t holds) {
  int status = channel_check_type(channel, request->type);
  if (status == SLC_OK) status = virtual_check_type(channel, virtual, request->type);
  if (status == SLC_OK) status = check_metadata(channel, request->metadata_size);
  if (status == SLC_OK && virtual != NULL) status = virtual_check_request(channel, true);
  if (status != SLC_OK) return status;
  if (holds > HOLDS_MAX)
    return slc__fail(SLC_INVALID, "a subscriber holds at most %d messages, not %u", HOLDS_MAX, holds);
  if (!channel->is_shaped) return SLC_OK;
  if (request->reliable && channel->geometry.reliable == 0)
    return slc__fail(SLC_INCOMPATIBLE, "the publishers of %s are not reliable: subscribe without, or publish reliably",
                     channel->name);
  status = memory_check_user(channel, &channel->geometry, client->process->peer.uid);
  return status == SLC_OK ? channel_check_budget(channel, channel->geometry.slots, holds) : status;
}

/* After the epoch that announces the line, since whatever is published from here on is then not evicted before a
 * reliable subscriber has taken it; before it is counted, so that who sees it counted knows that it will get the next
 * message. */
static void begin_subscription(struct user *user) {
  const struct slc__control *control = &user->channel->control;
  if (user->table == NULL) return;
  membership_announce(user->channel);
  user->since = slc__first_absent(control, slc__hint(&control->page->tail));
}

static int subscriber_admit(struct client *client, struct channel *channel, struct virtual *virtual,
                            const Slotcast__OpenSubscriber *request, struct user **ret_user) {
  uint32_t holds = request->max_holds != 0 ? request->max_holds : DEFAULT_HOLDS;
  int status = check_subscription(client, channel, virtual, request, holds);
  if (status == SLC_OK) status = channel_check_subscriber(channel, holds);
  struct user *user;
  if (status == SLC_OK) status = user_make(client, channel, &user);
  if (status != SLC_OK) {
    virtual_release(channel, virtual);
    return status;
  }
  user->max = holds;
  user->metadata_size = request->metadata_size;
  user->is_reliable = request->reliable != 0;
  user->virtual = virtual; /* it has the one user more that was obtained */
  status = has_place(user) ? table_admit(client->broker, channel, user) : SLC_OK;
  if (status != SLC_OK) {
    user_leave(user);
    return status;
  }
  adopt_type(channel, virtual, request->type);
  user_count(user, 1);
  begin_subscription(user);
  channel_set_counts(channel);
  *ret_user = user;
  return SLC_OK;
}

int subscriber_join(struct client *client, const Slotcast__OpenSubscriber *request, struct user **ret_user) {
  struct channel *channel;
  struct virtual *virtual;
  int status = obtain(client, request->channel, request->multiplexer, &channel, &virtual);
  if (status != SLC_OK) return status;
  status = subscriber_admit(client, channel, virtual, request, ret_user);
  if (status == SLC_OK) {
    tell_joined(*ret_user);
    watch_begin(client->broker, channel);
  } else {
    release_unused(client->broker, request->multiplexer[0] != '\0' ? request->multiplexer : request->channel);
  }
  return status;
}

/* ---- leaving ---- */

/* It is no user of anything any more. */
static void user_detach(struct user *user) {
  struct channel *channel = user->channel;
  if (user->is_counted) user_count(user, -1);
  record_gone(&user->record);
  record_changed(&channel->record); /* which has its totals */
  slc__fd_close(&user->doorbell);
  virtual_release(channel, user->virtual);
  LIST_REMOVE(user, of_channel);
  LIST_REMOVE(user, of_process);
  known_remove(user);
  if (LIST_EMPTY(&user->process->users)) record_gone(&user->process->record);
  discharge(user->process->account, LIMIT_users, 1);
}

void user_forget(struct user *user) {
  lifeline_leave(user);
  user_detach(user);
  channel_release(user->process->broker, user->channel);
  free(user);
}

static void publisher_leave(struct user *user) {
  struct channel *channel = user->channel;
  uint32_t id = user->publisher_id;
  if (id == 0) return; /* was refused for want of one */
  split_leave(user);
  slc__repair(&channel->control, id);
  atomic_store_explicit(&channel->control.publishers[id - 1].generation, 0, memory_order_seq_cst);
  /* Only now: an id with slots to repair must not be anybody's. */
  channel->publisher_ids[id] = 0;
}

static void leave(struct user *user, bool has_died) {
  struct channel *channel = user->channel;
  totals_keep(user);
  if (user->is_publisher) {
    publisher_leave(user);
  } else {
    table_dismiss(user);
  }
  tell_left(user, has_died);
  bool was_watcher = user->is_publisher && user->doorbell >= 0;
  user_detach(user);
  channel_set_counts(channel);
  if (was_watcher) watchers_announce(channel);
  channel_ring_all(channel);
  channel_release(user->process->broker, channel);
  free(user);
}

void user_leave(struct user *user) {
  leave(user, false);
}

void user_die(struct user *user) {
  leave(user, true);
}

/* The word in its line comes before the membership: whoever finds that a message of its own has gone finds why. */
void user_shut(struct user *user, enum slc__closed why) {
  user->is_too_slow = true;
  record_changed(&user->record);
  slc__line_shut(user->table->mapping.base, user->line, why);
  table_shut(user);
  membership_announce(user->channel);
  channel_ring_all(user->channel);
}

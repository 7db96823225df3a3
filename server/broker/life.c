/* The life of channels: made by their first user or by request, gone with their last user, after a while without any,
 * or when they are removed; and what is settled once for all their users.
 *
 * A channel without users is persistent, or lingers (its timer runs), or is about to be freed.  Thread: the loop's. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"
#include "proto/codec.h"

#define NS_PER_MS 1000000

/* ---- lingering ---- */

/* A timer is closed in the loop's own time, so that it outlives its channel for a moment. */
struct lingering {
  uv_timer_t timer;
  struct broker *broker;
  struct channel *channel;
};

static void on_linger_closed(uv_handle_t *handle) {
  free(handle->data);
}

void channel_revive(struct channel *channel) {
  if (channel->linger == NULL) return;
  uv_close((uv_handle_t *)&channel->linger->timer, on_linger_closed);
  channel->linger = NULL;
  record_changed(&channel->record);
}

static void on_linger_over(uv_timer_t *timer) {
  struct lingering *linger = timer->data;
  struct broker *broker = linger->broker;
  struct channel *channel = linger->channel;
  channel_revive(channel);
  channel_free(broker, channel);
}

/* False: no memory, then it goes at once. */
bool channel_linger_until(struct broker *broker, struct channel *channel, int64_t until) {
  struct lingering *linger = calloc(1, sizeof *linger);
  if (linger == NULL) return false;
  linger->broker = broker;
  linger->channel = channel;
  uv_timer_init(broker->loop, &linger->timer);
  linger->timer.data = linger;
  uv_update_time(broker->loop);
  /* Rounded up: it stays at least so long. */
  int64_t left = until - slc__clock_ns();
  uv_timer_start(&linger->timer, on_linger_over, left > 0 ? (uint64_t)left / NS_PER_MS + 2 : 0, 0);
  channel->linger = linger;
  channel->lingers_until = until;
  record_changed(&channel->record);
  return true;
}

static int64_t deadline_of(uint64_t linger_ns) {
  return slc__deadline_after(linger_ns < INT64_MAX ? (int64_t)linger_ns : INT64_MAX);
}

/* ---- coming and going ---- */

int channel_obtain(struct broker *broker, struct account *account, const char *name, struct channel **ret_channel) {
  *ret_channel = channel_find(broker, name); /* the broker's own, too, which have no such name */
  if (*ret_channel != NULL) return SLC_OK;
  int status = slc__channel_name_check(name);
  return status != SLC_OK ? status : channel_make(broker, account, name, ret_channel);
}

/* What has no shape has no messages, and lingers for nobody. */
void channel_release(struct broker *broker, struct channel *channel) {
  if (!LIST_EMPTY(&channel->users) || channel->is_persistent || channel->linger != NULL) return;
  bool lingers = channel->linger_ns > 0 && channel->is_shaped && !broker->is_closing;
  if (lingers && channel_linger_until(broker, channel, deadline_of(channel->linger_ns))) return;
  channel_free(broker, channel);
}

static void find_any(struct channel *channel, void *ctx) {
  *(struct channel **)ctx = channel;
}

void channel_forget_all(struct broker *broker) {
  for (;;) {
    struct channel *channel = NULL;
    channel_for_each(broker, find_any, &channel);
    if (channel == NULL) return;
    channel_revive(channel);
    channel_free(broker, channel);
  }
}

/* ---- terms ---- */

static int check_fixed(const struct channel *channel, const Slotcast__OpenPublisher *request) {
  if (!channel->is_shaped || (request->fixed_size != 0) == channel->is_fixed) return SLC_OK;
  return slc__fail(SLC_INCOMPATIBLE, "the channel %s %s: all publishers have to agree whether it may grow",
                   channel->name, channel->is_fixed ? "has a fixed size" : "may grow");
}

static int check_max_subscribers(const struct channel *channel, uint32_t wanted) {
  if (wanted == 0 || wanted == channel->max_subscribers) return SLC_OK;
  if (channel->max_subscribers != 0)
    return slc__fail(SLC_INCOMPATIBLE, "the channel %s has at most %u subscribers, asked for were %u: ask for the same",
                     channel->name, channel->max_subscribers, wanted);
  if (channel->subscribers <= wanted) return SLC_OK;
  char who[WHO_TEXT_MAX];
  channel_name_users(channel, SUBSCRIBERS, who);
  return slc__fail(SLC_LIMIT, "the channel %s has %u subscribers already, and at most %u are asked for%s",
                   channel->name, channel->subscribers, wanted, who);
}

static int check_slow_policy(const struct channel *channel, uint32_t wanted) {
  if (wanted > SLOTCAST__SLOW_POLICY__SLOW_DISCONNECT)
    return slc__fail(SLC_INVALID, "slow_policy is %u, which is no enum slc_slow_policy", wanted);
  if (!channel->is_shaped || wanted == SLOTCAST__SLOW_POLICY__SLOW_TELL || wanted == channel->slow_policy)
    return SLC_OK;
  return slc__fail(SLC_INCOMPATIBLE,
                   "the channel %s tells of slow subscribers and does not disconnect them: ask for that",
                   channel->name);
}

int channel_check_terms(const struct channel *channel, const Slotcast__OpenPublisher *request) {
  int status = check_fixed(channel, request);
  if (status == SLC_OK) status = check_max_subscribers(channel, request->max_subscribers);
  if (status == SLC_OK) status = check_slow_policy(channel, request->slow_policy);
  if (status != SLC_OK) return status;
  if (request->linger_ns == 0 || channel->linger_ns == 0 || request->linger_ns == channel->linger_ns) return SLC_OK;
  return slc__fail(SLC_INCOMPATIBLE, "the channel %s lingers for %llu ns, asked for were %llu: ask for the same",
                   channel->name, (unsigned long long)channel->linger_ns, (unsigned long long)request->linger_ns);
}

void channel_adopt_terms(struct channel *channel, const Slotcast__OpenPublisher *request) {
  record_changed(&channel->record);
  if (request->fixed_size) channel->is_fixed = true; /* they agree, or it is the first */
  if (request->slow_policy != 0) channel->slow_policy = request->slow_policy;
  if (channel->max_subscribers == 0) channel->max_subscribers = request->max_subscribers;
  if (channel->linger_ns == 0) channel->linger_ns = request->linger_ns;
}

/* ---- limits of the channel's own ---- */

static uint64_t sum_of(const struct channel *channel, bool publishers) {
  uint64_t sum = 0;
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->is_publisher == publishers) sum += user->max;
  }
  return sum;
}

static int check_sum(const struct channel *channel, bool publishers, uint32_t limit, uint32_t more) {
  uint64_t used = sum_of(channel, publishers);
  if (limit == 0 || used + more <= limit) return SLC_OK;
  char who[WHO_TEXT_MAX];
  channel_name_users(channel, publishers ? PUBLISHERS : SUBSCRIBERS, who);
  return slc__fail(SLC_LIMIT, "the channel %s allows %u %s together, of which %llu are taken; %u more do not fit%s",
                   channel->name, limit, publishers ? "loans" : "holds", (unsigned long long)used, more, who);
}

int channel_check_loans(const struct channel *channel, uint32_t max_loans) {
  return check_sum(channel, true, channel->max_loans, max_loans);
}

int channel_check_subscriber(const struct channel *channel, uint32_t max_holds) {
  if (channel->max_subscribers != 0 && channel->subscribers >= channel->max_subscribers) {
    char who[WHO_TEXT_MAX];
    channel_name_users(channel, SUBSCRIBERS, who);
    return slc__fail(SLC_LIMIT, "the channel %s has all of its %u subscribers: close one, or make it with more%s",
                     channel->name, channel->max_subscribers, who);
  }
  return check_sum(channel, false, channel->max_holds, max_holds);
}

/* ---- made by request ---- */

/* The first who says so settles it; what is there already has to fit. */
static int check_total(const struct channel *channel, bool publishers, uint32_t is, uint32_t wanted) {
  const char *what = publishers ? "loans" : "holds";
  if (wanted == 0 || wanted == is) return SLC_OK;
  if (is != 0)
    return slc__fail(SLC_INCOMPATIBLE, "the channel %s allows %u %s together, asked for were %u: ask for the same",
                     channel->name, is, what, wanted);
  return check_sum(channel, publishers, wanted, 0);
}

/* A publisher may ask for less than there is; whoever creates what exists asks for just that. */
static int check_same_shape(const struct channel *channel, const Slotcast__OpenPublisher *shape) {
  const struct slc__geometry *g = &channel->geometry;
  if (!channel->is_shaped) return SLC_OK;
  if ((shape->slots == 0 || shape->slots == g->slots) && (shape->slot_size == 0 || shape->slot_size == g->slot_size) &&
      (shape->max_publishers == 0 || shape->max_publishers == g->max_publishers) &&
      (shape->max_virtual == 0 || shape->max_virtual == g->virtual_max))
    return SLC_OK;
  return slc__fail(SLC_INCOMPATIBLE,
                   "the channel %s exists with %u slots of %llu bytes, at most %u publishers and %u virtual channels; "
                   "asked for were %u, %llu, %u and %u: ask for the same, or for 0 (as it is), or remove it first",
                   channel->name, g->slots, (unsigned long long)g->slot_size, g->max_publishers, g->virtual_max,
                   shape->slots, (unsigned long long)shape->slot_size, shape->max_publishers, shape->max_virtual);
}

static void discharge_all(struct account *account, struct limits *cost, int kinds) {
  for (int i = 0; i < kinds; i++) discharge(account, (enum limit_kind)i, *limit_field(cost, (enum limit_kind)i));
}

/* All or nothing. */
static int charge_all(struct broker *broker, struct account *account, struct limits *cost) {
  for (int i = 0; i < LIMIT_KINDS; i++) {
    int status = charge(broker, account, (enum limit_kind)i, *limit_field(cost, (enum limit_kind)i));
    if (status == SLC_OK) continue;
    discharge_all(account, cost, i);
    return status;
  }
  return SLC_OK;
}

/* Who makes it stay pays for it from then on. */
static int take_over(struct broker *broker, struct channel *channel, struct account *account) {
  if (channel->account == account) return SLC_OK;
  struct limits cost = {.channels = 1,
                        .memory = channel->memory + channel->virtual_memory,
                        .descriptors = generation_descriptors(channel)};
  int status = charge_all(broker, account, &cost);
  if (status != SLC_OK) return status;
  discharge_all(channel->account, &cost, LIMIT_KINDS);
  account_unref(channel->account);
  channel->account = account;
  account->references++;
  return SLC_OK;
}

static int create(struct client *client, struct channel *channel, const Slotcast__CreateChannel *request) {
  const Slotcast__OpenPublisher *shape = request->shape;
  bool is_first;
  int status = check_same_shape(channel, shape);
  if (status == SLC_OK && !channel->is_shaped) status = virtual_check_request(channel, shape->max_virtual != 0);
  if (status == SLC_OK) status = check_total(channel, true, channel->max_loans, request->max_loans);
  if (status == SLC_OK) status = check_total(channel, false, channel->max_holds, request->max_holds);
  if (status == SLC_OK) status = channel_agree_shape(client, channel, shape, 0, 0, &is_first);
  if (status != SLC_OK) return status;
  if (!channel->is_persistent) status = take_over(client->broker, channel, client->process->account);
  if (status != SLC_OK) {
    if (is_first) channel_take_back(channel);
    return status;
  }
  channel_adopt_type(channel, shape->type);
  channel_adopt_terms(channel, shape);
  if (channel->max_loans == 0) channel->max_loans = request->max_loans;
  if (channel->max_holds == 0) channel->max_holds = request->max_holds;
  channel->is_persistent = true;
  channel_revive(channel);
  if (is_first) channel_attach_waiting(channel);
  return SLC_OK;
}

void channel_tell(const struct broker *broker, struct channel *channel) {
  if (channel->is_told) return;
  channel->is_told = true;
  record_changed(&channel->record);
  event_of_channel(broker, channel, SLC_EVENT_CHANNEL_CREATED);
}

int channel_create(struct client *client, const Slotcast__CreateChannel *request) {
  struct channel *channel;
  int status = slc__channel_name_check(request->shape->channel);
  if (status == SLC_OK)
    status = channel_obtain(client->broker, client->process->account, request->shape->channel, &channel);
  if (status != SLC_OK) return status;
  bool was_prefaulted = channel->is_prefaulted;
  channel->is_prefaulted = was_prefaulted || request->prefault; /* of one that is there, what is made from now on */
  status = create(client, channel, request);
  if (status == SLC_OK) {
    channel_tell(client->broker, channel);
    watch_begin(client->broker, channel);
  } else {
    channel->is_prefaulted = was_prefaulted;
    channel_release(client->broker, channel);
  }
  return status;
}

/* ---- removed by request ---- */

/* Whoever pays for it, and whoever runs the broker. */
static bool may_remove(const struct client *client, const struct channel *channel) {
  uid_t uid = client->process->peer.uid;
  return uid == channel->account->uid || uid == geteuid() || uid == 0;
}

int channel_remove(struct client *client, const Slotcast__RemoveChannel *request) {
  struct channel *channel = channel_find(client->broker, request->channel);
  int status = slc__channel_name_check(request->channel);
  if (status != SLC_OK) return status;
  if (channel == NULL)
    return slc__fail(SLC_NOT_FOUND, "there is no channel %s: `slotcast ls` lists them", request->channel);
  if (!may_remove(client, channel))
    return slc__fail(SLC_DENIED, "the channel %s belongs to user %u, who may remove it", channel->name,
                     channel->account->uid);
  if (!LIST_EMPTY(&channel->users) && !request->force) {
    char who[WHO_TEXT_MAX];
    channel_name_users(channel, ALL_USERS, who);
    return slc__fail(SLC_BUSY,
                     "the channel %s is in use: close its users, or let it go with the last of them (force)%s",
                     channel->name, who);
  }
  channel->is_persistent = false;
  channel->linger_ns = 0;
  record_changed(&channel->record);
  channel_revive(channel);
  channel_release(client->broker, channel);
  return SLC_OK;
}

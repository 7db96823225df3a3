/* Growth: later generations of a channel's buffers, with larger slots, made when a message is larger than every slot.
 *
 * The first generation's buffers hold every prefix, so that they stay; of the later ones only the newest is needed for
 * new messages.  An older one goes when
 *   1. no publisher may still write to it: a publisher puts the oldest generation that it may write to into its line
 *      (seq_cst), and then sees that it is still the newest (seq_cst), or takes it back; we store the newer number
 *      before we read the lines, so at least one of us sees the other;
 *   2. then, everything published into it is in the log below the first absent ordinal: its end;
 *   3. everything below that end has been evicted.
 * A subscriber that holds a message has its generation mapped, and keeps it.  Thread: the loop's. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"
#include "shm/words.h"

enum { SWEEP_MS = 250 };

/* ---- making ---- */

static struct generation *newest(const struct channel *channel) {
  return channel->generation_count == 0 ? NULL : &channel->generations[channel->generation_count - 1];
}

uint64_t generation_largest(const struct channel *channel) {
  const struct generation *last = newest(channel);
  return last != NULL ? last->slot_size : channel->geometry.slot_size;
}

static void on_sweep(uv_timer_t *timer);

static void tell_grown(struct broker *broker, struct channel *channel, const struct generation *fresh) {
  channel->generation = fresh->number;
  channel->has_new_generation = true;
  record_changed(&channel->record);
  atomic_store_explicit(&channel->control.page->generation, fresh->number, memory_order_seq_cst);
  slc__log(SLC__LOG_DEBUG, "channel %s has slots of %llu bytes now (generation %u)", channel->name,
           (unsigned long long)fresh->slot_size, fresh->number);
  if (fresh->number > 1) event_of_channel(broker, channel, SLC_EVENT_CHANNEL_GREW);
}

int generation_reserve(struct channel *channel) {
  struct generation *list = reallocarray(channel->generations, channel->generation_count + 1, sizeof *list);
  if (list == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for larger slots of %s", channel->name);
  channel->generations = list;
  return SLC_OK;
}

static int generation_make(struct broker *broker, struct channel *channel, uint64_t slot_size) {
  uint64_t memory = slc__layout_payloads_size(&channel->geometry, slot_size);
  int status = charge(broker, channel->account, LIMIT_memory, memory);
  if (status != SLC_OK) return status;
  struct generation fresh = {.number = channel->generation + 1, .fd = -1, .slot_size = slot_size, .memory = memory};
  status = generation_reserve(channel);
  if (status == SLC_OK) status = channel_object(broker, channel, SLC__OBJECT_PAYLOADS, memory, &fresh.fd);
  if (status != SLC_OK) {
    discharge(channel->account, LIMIT_memory, memory);
    return status;
  }
  channel->memory += memory;
  channel->generations[channel->generation_count++] = fresh;
  tell_grown(broker, channel, &fresh);
  return SLC_OK;
}

void generations_watch(struct broker *broker, struct channel *channel) {
  generations_sweep(channel);
  if (channel->generation_count > 1 && !uv_is_active((uv_handle_t *)&broker->sweeper))
    uv_timer_start(&broker->sweeper, on_sweep, SWEEP_MS, SWEEP_MS);
}

static int check_sizes(const struct channel *channel, uint64_t wanted, uint64_t slot_size) {
  if (channel->is_fixed && wanted > channel->geometry.slot_size)
    return slc__fail(SLC_TOO_LARGE, "a message of %llu bytes: the channel %s has slots of %llu bytes and does not grow",
                     (unsigned long long)wanted, channel->name, (unsigned long long)channel->geometry.slot_size);
  if (wanted > slot_size || slot_size > SLC__SLOT_SIZE_MAX || slot_size < channel->geometry.slot_size)
    return slc__fail(SLC_TOO_LARGE, "slots of %llu bytes, for a message of %llu, can't be: the most is %llu",
                     (unsigned long long)slot_size, (unsigned long long)wanted, (unsigned long long)SLC__SLOT_SIZE_MAX);
  return SLC_OK;
}

int generation_grow(struct broker *broker, struct channel *channel, uint64_t wanted, uint64_t slot_size) {
  if (wanted <= generation_largest(channel)) return SLC_OK;
  int status = check_sizes(channel, wanted, slot_size);
  if (status == SLC_OK) status = generation_make(broker, channel, slot_size);
  if (status == SLC_OK) generations_watch(broker, channel);
  return status;
}

/* ---- split channels: completed by publishers ---- */

uint64_t generation_descriptors(const struct channel *channel) {
  uint64_t count = split_descriptors(channel->pending.split);
  for (uint32_t i = 0; i < channel->generation_count; i++) count += split_descriptors(channel->generations[i].split);
  return count;
}

static void generation_drop(struct channel *channel, struct generation *generation);

void generation_roll_back(struct channel *channel) {
  if (channel->pending.number == 0) return;
  generation_drop(channel, &channel->pending);
  channel->pending = (struct generation){.fd = -1};
}

/* What it costs is charged with what is registered, or with its directory. */
static int pending_make(struct broker *broker, struct channel *channel, const Slotcast__Grow *request) {
  struct generation fresh = {.number = channel->last_pending + 1, .fd = -1, .slot_size = request->slot_size};
  int status = generation_reserve(channel); /* so that nothing can fail any more when it is complete */
  if (status == SLC_OK) status = split_new(broker, channel, &fresh, request->slots_per_object);
  if (status != SLC_OK) return status;
  channel->last_pending = fresh.number;
  record_changed(&channel->record);
  channel->pending = fresh;
  return SLC_OK;
}

int generation_ask(struct user *user, const Slotcast__Grow *request, uint32_t *ret_number) {
  struct channel *channel = user->channel;
  uint64_t wanted = request->wanted;
  struct generation *pending = &channel->pending;
  *ret_number = channel->generation;
  if (channel->generation_count > 0 && wanted <= generation_largest(channel)) return SLC_OK;
  int status = check_sizes(channel, wanted, request->slot_size);
  if (status != SLC_OK) return status;
  /* Too small for this one: whoever completes it is told that it is gone, and asks anew. */
  if (pending->number != 0 && pending->slot_size < wanted) generation_roll_back(channel);
  if (pending->number == 0) status = pending_make(user->process->broker, channel, request);
  if (status != SLC_OK) return status;
  user->completes = *ret_number = pending->number;
  return SLC_OK;
}

void generation_settle(struct broker *broker, struct channel *channel) {
  struct generation *fresh = &channel->generations[channel->generation_count++];
  *fresh = channel->pending;
  channel->pending = (struct generation){.fd = -1};
  tell_grown(broker, channel, fresh);
  generations_watch(broker, channel);
}

/* ---- answering ---- */

struct generation *generation_find(struct channel *channel, uint32_t number) {
  if (number != 0 && channel->pending.number == number) return &channel->pending;
  for (uint32_t i = 0; i < channel->generation_count; i++) {
    if (channel->generations[i].number == number) return &channel->generations[i];
  }
  return NULL;
}

static int add_payloads(struct outgoing *outgoing, const struct user *user, const struct generation *generation) {
  Slotcast__DescriptorKind kind = SLOTCAST__DESCRIPTOR_KIND__PAYLOADS;
  return user->is_publisher ? outgoing_add(outgoing, kind, generation->fd, generation->memory, true)
                            : outgoing_add_read_only(outgoing, kind, generation->fd, generation->memory);
}

/* Of a split channel's only publishers see one that is not complete. */
static int send_split(struct user *user, uint64_t serial, uint32_t number, uint32_t first) {
  struct channel *channel = user->channel;
  const struct generation *generation = generation_find(channel, number);
  if (generation == NULL || (generation == &channel->pending && !user->is_publisher))
    return slc__fail(SLC_GONE, "generation %u of %s's payloads is not there", number, channel->name);
  return send_payloads(user, serial, generation, first);
}

int send_generation(struct user *user, uint64_t serial, uint32_t number, uint32_t first) {
  struct channel *channel = user->channel;
  uint32_t wanted = number == 0 ? channel->generation : number;
  if (channel->geometry.split != 0) return send_split(user, serial, wanted, first);
  const struct generation *generation = generation_find(channel, wanted);
  if (generation == NULL && wanted != 1)
    return slc__fail(SLC_GONE, "generation %u of %s's buffers is not there", wanted, channel->name);
  Slotcast__Generation body = SLOTCAST__GENERATION__INIT;
  struct outgoing outgoing;
  outgoing_init(&outgoing, serial);
  body.number = wanted;
  body.slot_size = generation != NULL ? generation->slot_size : channel->geometry.slot_size;
  outgoing.message.body_case = SLOTCAST__MESSAGE__BODY_GENERATION;
  outgoing.message.generation = &body;
  int status = generation != NULL ? add_payloads(&outgoing, user, generation) : SLC_OK;
  if (status == SLC_OK) status = outgoing_send(&outgoing, user->client);
  outgoing_deinit(&outgoing);
  return status;
}

/* ---- freeing ---- */

static void generation_drop(struct channel *channel, struct generation *generation) {
  record_generation_gone(channel, generation);
  channel_object_close(channel, &generation->fd);
  split_free(channel, generation);
  discharge(channel->account, LIMIT_memory, generation->memory);
  channel->memory -= generation->memory;
}

void generations_free(struct channel *channel) {
  generation_roll_back(channel);
  for (uint32_t i = 0; i < channel->generation_count; i++) generation_drop(channel, &channel->generations[i]);
  free(channel->generations);
  channel->generations = NULL;
  channel->generation_count = 0;
}

/* 1. */
static bool is_written_to(const struct channel *channel, uint32_t number) {
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (!user->is_publisher) continue;
    const struct slc__publisher_line *line = &channel->control.publishers[user->publisher_id - 1];
    uint32_t oldest = atomic_load_explicit(&line->generation, memory_order_seq_cst);
    if (oldest != 0 && oldest <= number) return true;
  }
  return false;
}

/* 2. A tail that a publisher has spoilt only keeps the generation. */
static uint64_t end_of(const struct slc__control *control) {
  return slc__first_absent(control, atomic_load_explicit(&control->page->tail, memory_order_acquire));
}

/* 3. */
static bool is_over(struct channel *channel, struct generation *generation) {
  const struct slc__control *control = &channel->control;
  if (!generation->is_ended && is_written_to(channel, generation->number)) return false;
  if (!generation->is_ended) generation->end = end_of(control);
  generation->is_ended = true;
  return atomic_load_explicit(&control->page->head, memory_order_acquire) >= generation->end;
}

void generations_sweep(struct channel *channel) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < channel->generation_count; i++) {
    struct generation *generation = &channel->generations[i];
    if (i + 1 < channel->generation_count && is_over(channel, generation)) {
      generation_drop(channel, generation);
    } else {
      channel->generations[kept++] = *generation;
    }
  }
  channel->generation_count = kept;
}

static void sweep_one(struct channel *channel, void *ctx) {
  bool *is_more = ctx;
  generations_sweep(channel);
  if (channel->generation_count > 1) *is_more = true;
}

/* Eviction goes on without us, so we look from time to time, while there is something to look for. */
static void on_sweep(uv_timer_t *timer) {
  bool is_more = false;
  channel_for_each(timer->data, sweep_one, &is_more);
  if (!is_more) uv_timer_stop(timer);
}

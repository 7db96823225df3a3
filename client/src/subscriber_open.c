/* Subscribers: opening, attaching, and what the broker says to them.
 *
 * A subscriber that comes before the channel has a shape is opened without one.  When the broker pushes it (whichever
 * thread reads that), the attachment is kept under the lock, and the subscriber's own thread puts it into use at its
 * next call.  Threads: one at a time per handle; what the broker says from any thread, under the client's lock. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "settings.h"
#include "subscriber_handle.h"

/* ---- what the broker says --------------------------------------------------------------------------------------- */

static void attachment_deinit(struct slc__attachment *attachment) {
  slc__mapping_deinit(&attachment->control);
  slc__mapping_deinit(&attachment->buffers);
  slc__mapping_deinit(&attachment->table);
  slc__mapping_deinit(&attachment->bell);
}

void slc__seat_unmap(struct slc__seat *seat) {
  attachment_deinit(&seat->attachment);
}

static int line_check(const struct slc__attachment *attachment) {
  uint32_t lines = slc__layout_table_lines(attachment->table.size);
  if (attachment->max_holds == 0 || attachment->max_holds > SLC__HOLDS_MAX)
    return slc__fail(SLC_PROTOCOL, "the broker admitted %u holds", attachment->max_holds);
  uint32_t wanted = slc__layout_lines_for(attachment->max_holds);
  if (attachment->line >= lines || wanted > lines - attachment->line)
    return slc__fail(SLC_PROTOCOL, "the broker gave line %u of a hold table of %u", attachment->line, lines);
  return 0;
}

static int since_check(const struct slc__attachment *attachment) {
  if (attachment->since <= SLC__ORDINAL_MAX + 1) return 0;
  return slc__fail(SLC_PROTOCOL, "the broker says that there are %ju messages", (uintmax_t)attachment->since);
}

static int virtual_check(const struct slc__attachment *attachment) {
  if (attachment->virtual_id <= attachment->shape.virtual_max) return 0;
  return slc__fail(SLC_PROTOCOL, "the broker names virtual channel %u of %u", attachment->virtual_id,
                   attachment->shape.virtual_max);
}

/* Of the channel, as this subscriber maps it. */
static struct slc__memory memory_of(const struct slc__geometry *shape, const slc_subscriber_options *options) {
  struct slc__memory memory = slc__memory_of(shape);
  memory.prefault = options->prefault != 0;
  memory.lock = options->lock_memory != 0;
  return memory;
}

/* `place`: what the broker says beside the shape.  Everything or nothing. */
static int attachment_receive(const Slotcast__Geometry *geometry, const struct slc__attachment *place,
                              struct slc__received *received, const slc_subscriber_options *options,
                              struct slc__attachment *ret_attachment) {
  SLC__CLEANUP(attachment_deinit) struct slc__attachment fresh = *place;
  int status = slc__received_geometry(geometry, &fresh.shape);
  received->memory = memory_of(&fresh.shape, options);
  if (status == 0)
    status = slc__received_map(received, SLC__OBJECT_CONTROL, SLC__READ_ONLY, slc__layout_control_size(&fresh.shape),
                               &fresh.control);
  if (status == 0)
    status = slc__received_map(received, SLC__OBJECT_BUFFERS, SLC__READ_ONLY, slc__layout_buffers_size(&fresh.shape),
                               &fresh.buffers);
  if (status == 0) status = slc__received_map(received, SLC__OBJECT_TABLE, SLC__READ_WRITE, 0, &fresh.table);
  if (status == 0)
    status = slc__received_map(received, SLC__OBJECT_BELL, SLC__READ_ONLY, slc__layout_bell_size(), &fresh.bell);
  if (status == 0) status = line_check(&fresh);
  if (status == 0) status = virtual_check(&fresh);
  if (status == 0) status = since_check(&fresh);
  if (status == 0) status = slc__received_finish(received);
  if (status != 0) return status;
  *ret_attachment = fresh;
  fresh = (struct slc__attachment){0};
  return 0;
}

static struct slc__seat *seat_of(slc_subscriber *subscriber, uint64_t known) {
  if (subscriber->on.user == known) return &subscriber->on;
  return subscriber->fresh != NULL && subscriber->fresh->user == known ? subscriber->fresh : NULL;
}

/* `user` as the broker has it; NULL: none of ours. */
static struct slc__seat *seat_find(const slc_client *client, uint64_t user, slc_subscriber **ret_subscriber) {
  uint64_t known = slc__reconnect_known_as(client, user);
  for (slc_subscriber *subscriber = client->subscribers; subscriber != NULL; subscriber = subscriber->next) {
    struct slc__seat *seat = seat_of(subscriber, known);
    *ret_subscriber = subscriber;
    if (seat != NULL) return seat;
  }
  return NULL;
}

struct slc__watcher_sets *slc__subscriber_watchers(slc_client *client, uint64_t user) {
  slc_subscriber *subscriber = NULL;
  struct slc__seat *seat = seat_find(client, user, &subscriber);
  return seat != NULL ? &seat->watchers : NULL;
}

/* The slot log's wish for newer doorbells of publishers: takes what has come, without waiting. */
static void sync_watchers(void *ctx, struct slc__watch *watch, uint64_t number) {
  slc_subscriber *subscriber = ctx;
  slc__watchers_sync(&subscriber->on.watchers, subscriber->client, watch, number);
}

/* A failure is the subscriber's, told at its next call; the connection is as good as before.  One that came back may be
 * told once more what it knows. */
int slc__subscriber_pushed(slc_client *client, struct slc__received *received) {
  const Slotcast__SubscriberAttached *push = received->message->subscriber_attached;
  slc_subscriber *subscriber = NULL;
  struct slc__seat *seat = seat_find(client, push->user, &subscriber);
  if (seat == NULL || (seat->attachment_there && client->back.losses > 0)) return 0;
  if (seat->attachment_there)
    return slc__fail(SLC_PROTOCOL, "the broker attached subscriber %ju twice", (uintmax_t)push->user);
  const struct slc__attachment place = {.line = push->line,
                                        .max_holds = push->max_holds,
                                        .virtual_id = push->virtual_id,
                                        .virtual_base = push->virtual_base};
  int status = attachment_receive(push->geometry, &place, received, &subscriber->options, &seat->attachment);
  if (status == SLC_PROTOCOL) return status;
  if (status == 0) {
    seat->attachment_there = true;
  } else {
    seat->attachment_status = status;
    free(seat->attachment_detail);
    seat->attachment_detail = strdup(slc__error_detail());
  }
  slc__subscriber_ring(subscriber);
  return 0;
}

/* ---- attaching -------------------------------------------------------------------------------------------------- */

/* The slot log's wish for a message in a later generation: mapped, or fetched now. */
static int payload_of(void *ctx, uint32_t number, uint32_t slot, const uint8_t **ret_payload, uint64_t *ret_capacity) {
  slc_subscriber *subscriber = ctx;
  struct slc__generation *generation = slc__generations_find(&subscriber->on.generations, number);
  if (generation == NULL) {
    int status = slc__generations_fetch(
        &subscriber->on.generations, subscriber->client, subscriber->on.user, &subscriber->on.attachment.shape,
        memory_of(&subscriber->on.attachment.shape, &subscriber->options), SLC__READ_ONLY, number);
    if (status != 0) return status;
    generation = slc__generations_find(&subscriber->on.generations, number);
  }
  if (generation == NULL) return SLC_GONE;
  *ret_payload = slc__generation_slot(generation, slot);
  *ret_capacity = generation->slot_size;
  return 0;
}

/* Of a split channel every payload is in a generation: that is there before the first message is, so that a message
 * does not need the broker.  Where it can't be had now, the message asks for it again. */
void slc__subscriber_fetch_newest(slc_subscriber *subscriber) {
  const struct slc__control_page *page = subscriber->on.sub.control.page;
  uint32_t number = atomic_load_explicit(&page->generation, memory_order_acquire);
  if (subscriber->on.looked_for == number || atomic_load(&subscriber->client->gone)) return;
  subscriber->on.looked_for = number;
  slc__generations_fetch(&subscriber->on.generations, subscriber->client, subscriber->on.user,
                         &subscriber->on.attachment.shape,
                         memory_of(&subscriber->on.attachment.shape, &subscriber->options), SLC__READ_ONLY, 0);
}

static void tell_drop(void *ctx, uint32_t virtual_id, uint64_t first, uint64_t count) {
  const slc_subscriber *subscriber = ctx;
  subscriber->options.on_drop(subscriber->options.callback_ctx, virtual_id, first + 1, count);
}

static void wishes_apply(struct slc__sub *sub, slc_subscriber *subscriber) {
  const slc_subscriber_options *options = &subscriber->options;
  sub->hidden_flags = options->show_activation ? 0 : SLC__FLAG_ACTIVATION;
  sub->ignore_drops = options->no_drop_count != 0;
  sub->on_drop = options->on_drop != NULL ? tell_drop : NULL;
  sub->drop_ctx = subscriber;
}

/* Where the slot log is to start: `was_first` when it was here before the first message, so that all are new to it. One
 * that looks back further than the latest begins with the oldest, and goes on from there. */
static enum slc__start start_of(const slc_subscriber_options *options, bool was_first, bool is_filtered) {
  if (was_first) return SLC__START_FIRST;
  switch (options->start) {
  case SLC_START_OLDEST:
  case SLC_START_ORDINAL:
    return SLC__START_OLDEST;
  case SLC_START_LAST:
    return options->start_count > 1 || is_filtered ? SLC__START_OLDEST : SLC__START_LAST;
  default:
    return SLC__START_NEWEST;
  }
}

/* The latest of a virtual channel are looked for when it is known which these are. */
static void start_go_on(struct slc__sub *sub, const slc_subscriber_options *options, bool was_first) {
  uint64_t count = options->start_count != 0 ? options->start_count : 1;
  if (options->start == SLC_START_LAST && !was_first && (count > 1 || slc__virtual_is_filtered(sub)))
    slc__sub_start_last(sub, count);
}

/* How it looks at a multiplexer.  On a plain channel nothing. */
static int view_make(slc_subscriber *subscriber) {
  const struct slc__attachment *attachment = &subscriber->on.attachment;
  uint32_t most = attachment->shape.virtual_max;
  if (most == 0) return 0;
  uint32_t counts = attachment->virtual_id != 0 ? 1 : most + 1;
  subscriber->on.view = (struct slc__virtual_view){.wanted = attachment->virtual_id,
                                                   .base = attachment->virtual_base,
                                                   .counts = calloc(counts, sizeof *subscriber->on.view.counts)};
  if (subscriber->on.view.counts == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %u virtual channels", counts);
  subscriber->on.view.counts[0].base = attachment->virtual_base;
  return 0;
}

/* What asks for more than plain takes: everything here is out of the way of those who don't. */
void slc__subscriber_note_plainness(slc_subscriber *subscriber) {
  bool is_bare = subscriber->checking.metadata_size == 0 && subscriber->checking.kind == SLC__CHECKSUM_NONE;
  subscriber->takes_plainly = subscriber->on.attached && is_bare && subscriber->on.view.counts == NULL &&
                              !subscriber->turn.is_shared && !subscriber->options.show_activation &&
                              subscriber->bell_fd < 0;
  subscriber->releases_plainly = !subscriber->turn.is_shared && subscriber->past == NULL;
}

/* From here on the attachment is the subscriber's thread's alone. */
static int attachment_use(slc_subscriber *subscriber, bool was_first) {
  const struct slc__attachment *attachment = &subscriber->on.attachment;
  subscriber->on.held = calloc(attachment->max_holds, sizeof *subscriber->on.held);
  if (subscriber->on.held == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %u holds", attachment->max_holds);
  int status = view_make(subscriber);
  if (status != 0) return status;
  struct slc__control control;
  struct slc__buffers buffers;
  slc__control_init(&control, &attachment->shape, attachment->control.base);
  slc__buffers_init(&buffers, &attachment->shape, attachment->buffers.base);
  slc__sub_init(&subscriber->on.sub, &control, &buffers, attachment->table.base, attachment->bell.base,
                attachment->line, attachment->max_holds,
                start_of(&subscriber->options, was_first, attachment->virtual_id != 0), attachment->since);
  subscriber->on.sub.payload_of = payload_of;
  subscriber->on.sub.payload_ctx = subscriber;
  subscriber->on.sub.watch = (struct slc__watch){.sync = sync_watchers, .ctx = subscriber};
  wishes_apply(&subscriber->on.sub, subscriber);
  if (subscriber->options.start == SLC_START_ORDINAL && !subscriber->on.is_anew)
    slc__sub_start_at(&subscriber->on.sub, subscriber->options.start_ordinal - 1);
  if (subscriber->on.view.counts != NULL) slc__sub_set_view(&subscriber->on.sub, &subscriber->on.view);
  start_go_on(&subscriber->on.sub, &subscriber->options, was_first);
  slc__checking_init(&subscriber->checking, &attachment->shape, subscriber->options.compute_checksum,
                     subscriber->options.callback_ctx);
  slc__sub_tell(&subscriber->on.sub);
  subscriber->on.attached = true;
  slc__subscriber_note_plainness(subscriber);
  if (attachment->shape.split != 0) slc__subscriber_fetch_newest(subscriber);
  return 0;
}

/* Looks for the attachment.  The pair is emptied before, so that a ring for what comes later stays. */
static int attachment_look(slc_subscriber *subscriber) {
  slc_client *client = subscriber->client;
  const struct slc__seat *seat = &subscriber->on;
  if (seat->attachment_there) return 0;
  if (subscriber->bell_fd >= 0) slc__subscriber_unring(subscriber);
  slc__connection_drain(client);
  if (seat->attachment_there) return 0;
  if (seat->attachment_status == 0) return SLC_EMPTY;
  return slc__fail(seat->attachment_status, "%s",
                   seat->attachment_detail != NULL ? seat->attachment_detail : "out of memory");
}

static int attachment_await(slc_subscriber *subscriber) {
  slc_client *client = subscriber->client;
  pthread_mutex_lock(&client->lock);
  int status = attachment_look(subscriber);
  pthread_mutex_unlock(&client->lock);
  slc__reconnect_tell(client);
  return status;
}

int slc__subscriber_attach(slc_subscriber *subscriber) {
  slc_client *client = subscriber->client;
  int status = attachment_await(subscriber);
  if (status != 0 && atomic_load(&subscriber->may_move)) {
    int moved = slc__subscriber_move(subscriber);
    if (moved < 0) return moved;
    if (moved > 0) status = attachment_await(subscriber);
  }
  if (status == SLC_EMPTY && atomic_load(&client->gone) && !slc__connection_is_awaited(client))
    return slc__connection_gone(client);
  if (status != 0) return status;
  status = attachment_use(subscriber, true);
  if (status != 0) return status;
  if (subscriber->epoll_fd >= 0) {
    pthread_mutex_lock(&client->lock);
    slc__subscriber_watch(subscriber, EPOLL_CTL_MOD);
    pthread_mutex_unlock(&client->lock);
    slc__subscriber_rearm(subscriber);
  }
  return 0;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

int slc__seat_receive(const slc_subscriber *subscriber, struct slc__received *received, struct slc__seat *seat) {
  if (received->message->body_case != SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED)
    return slc__answer_unexpected(received);
  const Slotcast__SubscriberOpened *opened = received->message->subscriber_opened;
  if (opened->user == 0) return slc__fail(SLC_PROTOCOL, "the broker did not say which subscriber this is");
  const struct slc__attachment place = {.line = opened->line,
                                        .max_holds = opened->max_holds,
                                        .virtual_id = opened->virtual_id,
                                        .virtual_base = opened->virtual_base,
                                        .since = opened->since};
  int status = opened->attached
                   ? attachment_receive(opened->geometry, &place, received, &subscriber->options, &seat->attachment)
                   : slc__received_finish(received);
  if (status != 0) return status;
  seat->attachment_there = opened->attached;
  seat->was_first = !opened->attached;
  seat->user = slc__reconnect_known_as(subscriber->client, opened->user);
  return 0;
}

/* Under the lock, so that pushes that follow find the subscriber. */
static int subscriber_opened(void *ctx, struct slc__received *received) {
  slc_subscriber *subscriber = ctx;
  int status = slc__seat_receive(subscriber, received, &subscriber->on);
  if (status != 0) return status;
  subscriber->next = subscriber->client->subscribers;
  subscriber->client->subscribers = subscriber;
  subscriber->listed = true;
  slc__place_list(subscriber->client, &subscriber->place, subscriber->on.user);
  return 0;
}

Slotcast__OpenSubscriber slc__subscriber_request(slc_subscriber *subscriber) {
  const slc_subscriber_options *options = &subscriber->options;
  Slotcast__OpenSubscriber body = SLOTCAST__OPEN_SUBSCRIBER__INIT;
  body.channel = subscriber->channel;
  body.token.data = subscriber->place.token;
  body.token.len = sizeof subscriber->place.token;
  if (options->type != NULL) body.type = (char *)options->type;
  body.max_holds = options->max_holds;
  body.reliable = options->reliable != 0;
  body.metadata_size = options->metadata_size;
  if (options->multiplexer != NULL) body.multiplexer = (char *)options->multiplexer;
  return body;
}

static int request_open(slc_subscriber *subscriber) {
  Slotcast__OpenSubscriber body = slc__subscriber_request(subscriber);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_SUBSCRIBER;
  message.open_subscriber = &body;
  return slc__request(subscriber->client, &message, -1, subscriber_opened, subscriber);
}

/* The options outlive the caller's strings: the handle may have to be opened again. */
static int options_keep(slc_subscriber *subscriber, const char *channel, const slc_subscriber_options *options) {
  subscriber->options = *options;
  subscriber->channel = strdup(channel);
  subscriber->options.type = options->type != NULL ? strdup(options->type) : NULL;
  subscriber->options.multiplexer = options->multiplexer != NULL ? strdup(options->multiplexer) : NULL;
  bool has_all = subscriber->channel != NULL && (subscriber->options.type != NULL) == (options->type != NULL) &&
                 (subscriber->options.multiplexer != NULL) == (options->multiplexer != NULL);
  return has_all ? 0 : slc__fail(SLC_NO_MEMORY, "no memory for a subscriber");
}

/* The attachment of one that was first may have come right behind the answer: it is still used as what came later. */
static int subscriber_make(slc_subscriber *subscriber, const char *channel, const slc_subscriber_options *options) {
  subscriber->guard = subscriber->client->guard;
  subscriber->spin_ns = slc__spin_ns(options->spin_ns);
  int status = options_keep(subscriber, channel, options);
  if (status == 0) status = slc__place_init(&subscriber->place, &slc__subscriber_place, subscriber);
  if (status != 0) return status;
  slc__subscriber_note_plainness(subscriber);
  status = request_open(subscriber);
  /* Whether it was heard is not known: a broker that has it is told that nobody wants it. */
  if (status == SLC_BROKER_GONE) slc__place_part(subscriber->client, &subscriber->place);
  if (status != 0 || subscriber->on.was_first) return status;
  status = attachment_use(subscriber, false);
  if (status == 0) slc__sub_publishers_changed(&subscriber->on.sub); /* those who are there are no news */
  return status;
}

static int options_check(const slc_subscriber_options *options) {
  if (options->start < SLC_START_NEWEST || options->start > SLC_START_ORDINAL)
    return slc__fail(SLC_INVALID, "start is %d, which is no enum slc_start", options->start);
  if (options->start == SLC_START_ORDINAL && (options->start_ordinal == 0 || options->start_ordinal > SLC__ORDINAL_MAX))
    return slc__fail(SLC_INVALID, "there is no ordinal %ju to start at", (uintmax_t)options->start_ordinal);
  if (options->max_holds > SLC__HOLDS_MAX)
    return slc__fail(SLC_INVALID, "max_holds is %u, and may be up to %d", options->max_holds, SLC__HOLDS_MAX);
  return 0;
}

int slc_subscriber_open(slc_client *client, const char *channel, const slc_subscriber_options *options,
                        slc_subscriber **ret_subscriber) {
  if (client == NULL || channel == NULL || ret_subscriber == NULL)
    return slc__fail(SLC_INVALID, "slc_subscriber_open: client, channel and ret_subscriber must be given");
  if (slc__guard_forked(&client->guard)) return slc__guard_fail();
  slc_subscriber_options chosen = SLC_SUBSCRIBER_OPTIONS_INIT;
  int status = slc__settings_copy(&chosen, sizeof chosen, options);
  if (status == 0) status = options_check(&chosen);
  if (status == 0) status = slc__channel_name_check_readable(channel);
  if (status != 0) return status;
  slc_subscriber *subscriber = calloc(1, sizeof *subscriber);
  if (subscriber == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a subscriber");
  subscriber->client = client;
  subscriber->bell_fd = subscriber->ring_fd = subscriber->epoll_fd = -1;
  slc__turn_init(&subscriber->turn, chosen.locked != 0);
  status = subscriber_make(subscriber, channel, &chosen);
  if (status != 0) {
    slc_subscriber_close(subscriber);
    return status;
  }
  *ret_subscriber = subscriber;
  return 0;
}

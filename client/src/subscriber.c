/* Subscribers: the thin public side of struct slc__sub.
 *
 * A subscriber that comes before the channel has a shape is opened without one.  When the broker pushes it (whichever
 * thread reads that), the attachment is kept under the lock, and the subscriber's own thread puts it into use at its
 * next call.
 *
 * The readiness descriptor is an epoll descriptor over the receiving end of a socket pair, whose sending end the
 * publishers have, and, before the attachment, over the client's socket.  When a take has left nothing, or found
 * nothing, the pair is emptied and armed again; if something came meanwhile the subscriber rings itself.
 *
 * Invariants:
 *   - take and release take no lock, allocate nothing and make no system call of their own, except take where it leaves
 *     nothing to a subscriber with a readiness descriptor.
 *   - A message is known by hold and ordinal, so one that has been released is refused and never obeyed.
 * Threads: one at a time per handle; slc__subscriber_pushed from any thread, under the client's lock. */
#include "subscriber.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "checksum.h"
#include "generations.h"
#include "settings.h"
#include "shm/gate.h"
#include "shm/slotlog.h"
#include "shm/virtual.h"
#include "turn.h"
#include "watchers.h"

#define SLICE_NS SLC__NS_PER_S                      /* of a sleep, while the broker lives */
#define SLICE_ALONE_NS (50 * INT64_C(1000000))      /* when it is gone: nobody rings for a publisher that dies */
#define SLICE_UNATTACHED_NS (50 * INT64_C(1000000)) /* another thread may read what this one polls for */
#define HOLDS_MAX 4096

/* What the broker gives a subscriber once the channel has a shape. */
struct attachment {
  struct slc__geometry shape;
  uint32_t line;
  uint32_t max_holds;
  uint32_t virtual_id; /* of the virtual channel; 0: a plain channel, or a whole multiplexer */
  uint64_t virtual_base;
  uint64_t since; /* the first ordinal that was not yet published when it was admitted */
  struct slc__mapping control, buffers, table, bell;
};

/* One hold, as the application has it. */
struct held {
  uint64_t ordinal;    /* counted from 1; 0: not in use */
  uint32_t generation; /* where the payload lies, when that is a later one */
};

struct slc_subscriber {
  struct slc__guard guard;
  bool attached;      /* `sub` has been made */
  bool takes_plainly; /* attached, and nothing is to be done for a message but to take it */
  struct slc__turn turn;
  struct slc__sub sub;
  struct slc__virtual_view view; /* of a multiplexer */
  struct held *held;             /* per hold */
  struct slc__generations generations;
  uint32_t looked_for; /* of a split channel: the newest generation that was asked for before it was needed */
  int bell_fd;         /* receiving end of the pair; -1: no readiness descriptor asked for */
  int ring_fd;         /* sending end */
  int epoll_fd;
  int64_t spin_ns;
  slc_subscriber_options options; /* strings are not kept */
  struct slc__checking checking;  /* made with `sub` */

  slc_client *client;
  uint64_t user;
  struct attachment attachment; /* under the client's lock until attached */
  bool attachment_there;        /* under the client's lock */
  int attachment_status;        /* under the client's lock: why there will be none */
  char *attachment_detail;
  bool was_first;                    /* the answer brought no attachment: there was no publisher yet */
  struct slc__watcher_sets watchers; /* under the client's lock */
  bool listed;                       /* under the client's lock */
  slc_subscriber *next;              /* under the client's lock */
};

/* ---- what the broker says --------------------------------------------------------------------------------------- */

static void attachment_deinit(struct attachment *attachment) {
  slc__mapping_deinit(&attachment->control);
  slc__mapping_deinit(&attachment->buffers);
  slc__mapping_deinit(&attachment->table);
  slc__mapping_deinit(&attachment->bell);
}

static int line_check(const struct attachment *attachment) {
  uint32_t lines = slc__layout_table_lines(attachment->table.size);
  if (attachment->max_holds == 0 || attachment->max_holds > HOLDS_MAX)
    return slc__fail(SLC_PROTOCOL, "the broker admitted %u holds", attachment->max_holds);
  uint32_t wanted = slc__layout_lines_for(attachment->max_holds);
  if (attachment->line >= lines || wanted > lines - attachment->line)
    return slc__fail(SLC_PROTOCOL, "the broker gave line %u of a hold table of %u", attachment->line, lines);
  return 0;
}

static int since_check(const struct attachment *attachment) {
  if (attachment->since <= SLC__ORDINAL_MAX + 1) return 0;
  return slc__fail(SLC_PROTOCOL, "the broker says that there are %ju messages", (uintmax_t)attachment->since);
}

static int virtual_check(const struct attachment *attachment) {
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
static int attachment_receive(const Slotcast__Geometry *geometry, const struct attachment *place,
                              struct slc__received *received, const slc_subscriber_options *options,
                              struct attachment *ret_attachment) {
  SLC__CLEANUP(attachment_deinit) struct attachment fresh = *place;
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
  fresh = (struct attachment){0};
  return 0;
}

/* Makes the readiness descriptor readable.  A full socket is readable already. */
static void ring_self(const slc_subscriber *subscriber) {
  if (subscriber->ring_fd >= 0) slc__doorbell_ring(subscriber->ring_fd);
}

static void doorbell_empty(const slc_subscriber *subscriber) {
  uint8_t rung[8];
  while (recv(subscriber->bell_fd, rung, sizeof rung, MSG_DONTWAIT) > 0) {
  }
}

/* Level truth: nothing to take, so not readable until the next message rings. */
static void doorbell_rearm(slc_subscriber *subscriber) {
  doorbell_empty(subscriber);
  if (!slc__sub_arm(&subscriber->sub)) ring_self(subscriber);
}

static slc_subscriber *subscriber_find(const slc_client *client, uint64_t user) {
  slc_subscriber *subscriber = client->subscribers;
  while (subscriber != NULL && subscriber->user != user) subscriber = subscriber->next;
  return subscriber;
}

struct slc__watcher_sets *slc__subscriber_watchers(slc_client *client, uint64_t user) {
  slc_subscriber *subscriber = subscriber_find(client, user);
  return subscriber != NULL ? &subscriber->watchers : NULL;
}

/* The slot log's wish for newer doorbells of publishers: takes what has come, without waiting. */
static void sync_watchers(void *ctx, struct slc__watch *watch, uint64_t number) {
  slc_subscriber *subscriber = ctx;
  slc__watchers_sync(&subscriber->watchers, subscriber->client, watch, number);
}

/* A failure is the subscriber's, told at its next call; the connection is as good as before. */
int slc__subscriber_pushed(slc_client *client, struct slc__received *received) {
  const Slotcast__SubscriberAttached *push = received->message->subscriber_attached;
  slc_subscriber *subscriber = subscriber_find(client, push->user);
  if (subscriber == NULL) return 0;
  if (subscriber->attachment_there)
    return slc__fail(SLC_PROTOCOL, "the broker attached subscriber %ju twice", (uintmax_t)push->user);
  const struct attachment place = {.line = push->line,
                                   .max_holds = push->max_holds,
                                   .virtual_id = push->virtual_id,
                                   .virtual_base = push->virtual_base};
  int status = attachment_receive(push->geometry, &place, received, &subscriber->options, &subscriber->attachment);
  if (status == SLC_PROTOCOL) return status;
  if (status == 0) {
    subscriber->attachment_there = true;
  } else {
    subscriber->attachment_status = status;
    free(subscriber->attachment_detail);
    subscriber->attachment_detail = strdup(slc__error_detail());
  }
  ring_self(subscriber);
  return 0;
}

/* ---- attaching -------------------------------------------------------------------------------------------------- */

/* The slot log's wish for a message in a later generation: mapped, or fetched now. */
static int payload_of(void *ctx, uint32_t number, uint32_t slot, const uint8_t **ret_payload, uint64_t *ret_capacity) {
  slc_subscriber *subscriber = ctx;
  struct slc__generation *generation = slc__generations_find(&subscriber->generations, number);
  if (generation == NULL) {
    int status = slc__generations_fetch(
        &subscriber->generations, subscriber->client, subscriber->user, &subscriber->attachment.shape,
        memory_of(&subscriber->attachment.shape, &subscriber->options), SLC__READ_ONLY, number);
    if (status != 0) return status;
    generation = slc__generations_find(&subscriber->generations, number);
  }
  if (generation == NULL) return SLC_GONE;
  *ret_payload = slc__generation_slot(generation, slot);
  *ret_capacity = generation->slot_size;
  return 0;
}

/* Of a split channel every payload is in a generation: that is there before the first message is, so that a message
 * does not need the broker.  Where it can't be had now, the message asks for it again. */
static void newest_fetch(slc_subscriber *subscriber) {
  const struct slc__control_page *page = subscriber->sub.control.page;
  uint32_t number = atomic_load_explicit(&page->generation, memory_order_acquire);
  if (subscriber->looked_for == number || atomic_load(&subscriber->client->gone)) return;
  subscriber->looked_for = number;
  slc__generations_fetch(&subscriber->generations, subscriber->client, subscriber->user, &subscriber->attachment.shape,
                         memory_of(&subscriber->attachment.shape, &subscriber->options), SLC__READ_ONLY, 0);
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
  const struct attachment *attachment = &subscriber->attachment;
  uint32_t most = attachment->shape.virtual_max;
  if (most == 0) return 0;
  uint32_t counts = attachment->virtual_id != 0 ? 1 : most + 1;
  subscriber->view = (struct slc__virtual_view){.wanted = attachment->virtual_id,
                                                .base = attachment->virtual_base,
                                                .counts = calloc(counts, sizeof *subscriber->view.counts)};
  if (subscriber->view.counts == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %u virtual channels", counts);
  subscriber->view.counts[0].base = attachment->virtual_base;
  return 0;
}

/* What asks for more than plain takes: everything here is out of the way of those who don't. */
static void plainness_note(slc_subscriber *subscriber) {
  bool is_bare = subscriber->checking.metadata_size == 0 && subscriber->checking.kind == SLC__CHECKSUM_NONE;
  subscriber->takes_plainly = subscriber->attached && is_bare && subscriber->view.counts == NULL &&
                              !subscriber->turn.is_shared && !subscriber->options.show_activation &&
                              subscriber->bell_fd < 0;
}

/* From here on the attachment is the subscriber's thread's alone. */
static int attachment_use(slc_subscriber *subscriber, bool was_first) {
  const struct attachment *attachment = &subscriber->attachment;
  subscriber->held = calloc(attachment->max_holds, sizeof *subscriber->held);
  if (subscriber->held == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %u holds", attachment->max_holds);
  int status = view_make(subscriber);
  if (status != 0) return status;
  struct slc__control control;
  struct slc__buffers buffers;
  slc__control_init(&control, &attachment->shape, attachment->control.base);
  slc__buffers_init(&buffers, &attachment->shape, attachment->buffers.base);
  slc__sub_init(&subscriber->sub, &control, &buffers, attachment->table.base, attachment->bell.base, attachment->line,
                attachment->max_holds, start_of(&subscriber->options, was_first, attachment->virtual_id != 0),
                attachment->since);
  subscriber->sub.payload_of = payload_of;
  subscriber->sub.payload_ctx = subscriber;
  subscriber->sub.watch = (struct slc__watch){.sync = sync_watchers, .ctx = subscriber};
  wishes_apply(&subscriber->sub, subscriber);
  if (subscriber->options.start == SLC_START_ORDINAL)
    slc__sub_start_at(&subscriber->sub, subscriber->options.start_ordinal - 1);
  if (subscriber->view.counts != NULL) slc__sub_set_view(&subscriber->sub, &subscriber->view);
  start_go_on(&subscriber->sub, &subscriber->options, was_first);
  slc__checking_init(&subscriber->checking, &attachment->shape, subscriber->options.compute_checksum,
                     subscriber->options.callback_ctx);
  slc__sub_tell(&subscriber->sub);
  subscriber->attached = true;
  plainness_note(subscriber);
  if (attachment->shape.split != 0) newest_fetch(subscriber);
  return 0;
}

/* Looks for the attachment.  The pair is emptied before, so that a ring for what comes later stays. */
static int attachment_look(slc_subscriber *subscriber) {
  slc_client *client = subscriber->client;
  if (subscriber->attachment_there) return 0;
  if (subscriber->bell_fd >= 0) doorbell_empty(subscriber);
  slc__connection_drain(client);
  if (subscriber->attachment_there) return 0;
  if (subscriber->attachment_status == 0) return SLC_EMPTY;
  return slc__fail(subscriber->attachment_status, "%s",
                   subscriber->attachment_detail != NULL ? subscriber->attachment_detail : "out of memory");
}

/* 0: attached.  SLC_EMPTY: no publisher has come yet. */
static int attach_try(slc_subscriber *subscriber) {
  slc_client *client = subscriber->client;
  pthread_mutex_lock(&client->lock);
  int status = attachment_look(subscriber);
  pthread_mutex_unlock(&client->lock);
  if (status == SLC_EMPTY && atomic_load(&client->gone)) return slc__connection_gone(client);
  if (status != 0) return status;
  status = attachment_use(subscriber, true);
  if (status != 0) return status;
  if (subscriber->epoll_fd >= 0) {
    epoll_ctl(subscriber->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
    doorbell_rearm(subscriber);
  }
  return 0;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* Under the lock, so that pushes that follow find the subscriber. */
static int subscriber_opened(void *ctx, struct slc__received *received) {
  slc_subscriber *subscriber = ctx;
  if (received->message->body_case != SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED)
    return slc__answer_unexpected(received);
  const Slotcast__SubscriberOpened *opened = received->message->subscriber_opened;
  if (opened->user == 0) return slc__fail(SLC_PROTOCOL, "the broker did not say which subscriber this is");
  const struct attachment place = {.line = opened->line,
                                   .max_holds = opened->max_holds,
                                   .virtual_id = opened->virtual_id,
                                   .virtual_base = opened->virtual_base,
                                   .since = opened->since};
  int status = opened->attached ? attachment_receive(opened->geometry, &place, received, &subscriber->options,
                                                     &subscriber->attachment)
                                : slc__received_finish(received);
  if (status != 0) return status;
  subscriber->attachment_there = opened->attached;
  subscriber->was_first = !opened->attached;
  subscriber->user = opened->user;
  subscriber->next = subscriber->client->subscribers;
  subscriber->client->subscribers = subscriber;
  subscriber->listed = true;
  return 0;
}

static int request_open(slc_subscriber *subscriber, const char *channel, const slc_subscriber_options *options) {
  Slotcast__OpenSubscriber body = SLOTCAST__OPEN_SUBSCRIBER__INIT;
  body.channel = (char *)channel;
  if (options->type != NULL) body.type = (char *)options->type;
  body.max_holds = options->max_holds;
  body.reliable = options->reliable != 0;
  body.metadata_size = options->metadata_size;
  if (options->multiplexer != NULL) body.multiplexer = (char *)options->multiplexer;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_SUBSCRIBER;
  message.open_subscriber = &body;
  return slc__request(subscriber->client, &message, -1, subscriber_opened, subscriber);
}

/* The attachment of one that was first may have come right behind the answer: it is still used as what came later. */
static int subscriber_make(slc_subscriber *subscriber, const char *channel, const slc_subscriber_options *options) {
  subscriber->guard = subscriber->client->guard;
  subscriber->spin_ns = slc__spin_ns(options->spin_ns);
  subscriber->options = *options;
  subscriber->options.type = subscriber->options.multiplexer = NULL;
  int status = request_open(subscriber, channel, options);
  if (status != 0 || subscriber->was_first) return status;
  status = attachment_use(subscriber, false);
  if (status == 0) slc__sub_publishers_changed(&subscriber->sub); /* those who are there are no news */
  return status;
}

static int options_check(const slc_subscriber_options *options) {
  if (options->start < SLC_START_NEWEST || options->start > SLC_START_ORDINAL)
    return slc__fail(SLC_INVALID, "start is %d, which is no enum slc_start", options->start);
  if (options->start == SLC_START_ORDINAL && (options->start_ordinal == 0 || options->start_ordinal > SLC__ORDINAL_MAX))
    return slc__fail(SLC_INVALID, "there is no ordinal %ju to start at", (uintmax_t)options->start_ordinal);
  if (options->max_holds > HOLDS_MAX)
    return slc__fail(SLC_INVALID, "max_holds is %u, and may be up to %d", options->max_holds, HOLDS_MAX);
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

/* ---- closing ---------------------------------------------------------------------------------------------------- */

static void subscriber_unlist(slc_subscriber *subscriber) {
  if (!subscriber->listed) return;
  for (slc_subscriber **at = &subscriber->client->subscribers; *at != NULL; at = &(*at)->next) {
    if (*at != subscriber) continue;
    *at = subscriber->next;
    break;
  }
}

/* Gives everything back by itself too: with the broker gone nobody else would, and publishers would wait for ever. */
static void subscriber_leave(slc_subscriber *subscriber) {
  if (subscriber->attached) {
    for (uint32_t hold = 0; subscriber->sub.held > 0 && hold < subscriber->sub.max_holds; hold++)
      if (subscriber->held[hold].ordinal != 0) slc__sub_release(&subscriber->sub, hold);
  }
  if (subscriber->attachment_there)
    slc__line_close(subscriber->attachment.table.base, subscriber->attachment.line, subscriber->attachment.max_holds);
  if (subscriber->attached) slc__sub_tell(&subscriber->sub);
  if (subscriber->listed && !atomic_load(&subscriber->client->gone))
    slc__request_close_user(subscriber->client, subscriber->user);
}

/* Unlisted first: no push finds it any more. */
static void subscriber_withdraw(slc_subscriber *subscriber) {
  pthread_mutex_lock(&subscriber->client->lock);
  subscriber_unlist(subscriber);
  pthread_mutex_unlock(&subscriber->client->lock);
}

void slc_subscriber_close(slc_subscriber *subscriber) {
  if (subscriber == NULL) return;
  if (slc__guard_forked(&subscriber->client->guard)) {
    /* The writable mapping is not there, its address may be somebody else's by now, and the lock may have been held by
     * a thread that was not copied: only memory is freed. */
    subscriber_unlist(subscriber);
    slc__generations_forget(&subscriber->generations);
  } else {
    subscriber_withdraw(subscriber);
    subscriber_leave(subscriber);
    attachment_deinit(&subscriber->attachment);
    slc__generations_deinit(&subscriber->generations);
    slc__turn_deinit(&subscriber->turn);
  }
  slc__watchers_deinit(&subscriber->watchers);
  slc__fd_close(&subscriber->epoll_fd);
  slc__fd_close(&subscriber->bell_fd);
  slc__fd_close(&subscriber->ring_fd);
  free(subscriber->attachment_detail);
  free(subscriber->held);
  free(subscriber->view.counts);
  free(subscriber);
}

/* ---- the data path ---------------------------------------------------------------------------------------------- */

/* Why the broker has closed it. */
static int disconnected(const slc_subscriber *subscriber) {
  static const char *const did[] = {
      [SLC__CLOSED_OVERRUN] = "did not keep up and lost messages",
      [SLC__CLOSED_HOLDS] = "did not release a message for too long",
      [SLC__CLOSED_STALLS] = "kept publishers waiting for too long",
  };
  uint32_t why = slc__sub_closed(&subscriber->sub);
  return slc__fail(SLC_DISCONNECTED, "this subscriber %s, and its channel disconnects those: close it, open a new one",
                   why < sizeof did / sizeof did[0] && did[why] != NULL ? did[why] : "was too slow");
}

/* The statuses of a take that brought nothing; those of the broker have their sentence. */
static int take_nothing(slc_subscriber *subscriber, int status) {
  if (status == SLC_DISCONNECTED) return disconnected(subscriber);
  if (status == SLC_HOLD_LIMIT || status == SLC_CORRUPT) return slc__fail(status, "%s", slc__status_text(status));
  if (status == SLC_EMPTY && subscriber->bell_fd >= 0) doorbell_rearm(subscriber);
  if (status == SLC_EMPTY && subscriber->attachment.shape.split != 0) newest_fetch(subscriber);
  return status;
}

/* A generation stays mapped while a message in it is held. */
static void generation_count(slc_subscriber *subscriber, uint32_t number, int32_t change) {
  struct slc__generation *generation = slc__generations_find(&subscriber->generations, number);
  if (generation != NULL) generation->users += (uint32_t)change;
}

static inline void message_fill(slc_subscriber *subscriber, const struct slc__taken *taken, slc_message *ret_message) {
  subscriber->held[taken->hold] = (struct held){.ordinal = taken->ordinal + 1, .generation = taken->generation};
  if (__builtin_expect(taken->generation != 0, 0)) generation_count(subscriber, taken->generation, 1);
  *ret_message = (slc_message){
      .data = taken->payload,
      .size = (size_t)taken->size,
      .ordinal = taken->ordinal + 1,
      .timestamp_ns = taken->timestamp,
      .publisher = taken->publisher,
      .hold = taken->hold,
      .slot = taken->slot,
  };
}

static int checksum_mismatch(const struct slc__taken *taken) {
  return slc__fail(SLC_CHECKSUM, "the checksum of message %ju, %ju bytes from publisher %u, does not match its bytes",
                   (uintmax_t)taken->ordinal + 1, (uintmax_t)taken->size, taken->publisher);
}

/* What the slot log holds becomes the caller's.  SLC_CHECKSUM: it does not, and the hold is still to be given back. */
static int message_accept(slc_subscriber *subscriber, const struct slc__taken *taken, slc_message *ret_message) {
  const struct slc__checking *checking = &subscriber->checking;
  const struct slc__checked checked = {.size = taken->size, .timestamp = taken->timestamp, .payload = taken->payload};
  bool matches = checking->kind == SLC__CHECKSUM_NONE || slc__checksum_matches(checking, &checked, taken->extra);
  if (!matches && !subscriber->options.flag_corrupt) return checksum_mismatch(taken);
  message_fill(subscriber, taken, ret_message);
  if (!matches) ret_message->flags |= SLC_MESSAGE_CORRUPT;
  if ((taken->flags & SLC__FLAG_ACTIVATION) != 0) ret_message->flags |= SLC_MESSAGE_ACTIVATION;
  ret_message->metadata_size = checking->metadata_size;
  if (checking->metadata_size != 0) ret_message->metadata = taken->extra;
  if (subscriber->view.counts != NULL && (taken->flags & SLC__FLAG_VIRTUAL) != 0) {
    struct slc__virtual_name name = slc__virtual_name(&subscriber->sub, taken->slot);
    ret_message->virtual_id = name.id;
    ret_message->virtual_ordinal = name.ordinal;
  }
  return 0;
}

/* Whether the handle may be used; attaches it where that is still to be done.  SLC_EMPTY: not yet.  In the turn. */
static inline int attach(slc_subscriber *subscriber) {
  return __builtin_expect(subscriber->attached, 1) ? 0 : attach_try(subscriber);
}

static inline int end(slc_subscriber *subscriber, int status) {
  slc__turn_end(&subscriber->turn);
  return status;
}

/* To be ended unless it fails. */
static inline int begin(slc_subscriber *subscriber) {
  if (slc__guard_forked(&subscriber->guard)) return slc__guard_fail();
  slc__turn_begin(&subscriber->turn);
  int status = attach(subscriber);
  return __builtin_expect(status == 0, 1) ? 0 : end(subscriber, status);
}

/* After something was taken: readable exactly while there is more. */
static void readiness_keep(slc_subscriber *subscriber) {
  if (subscriber->bell_fd >= 0 && !slc__sub_ready(&subscriber->sub)) doorbell_rearm(subscriber);
}

typedef int (*take_fn)(struct slc__sub *sub, struct slc__taken *ret);

/* All that a take may have to do. */
__attribute__((noinline, cold)) static int take_fully(slc_subscriber *subscriber, take_fn take,
                                                      slc_message *ret_message) {
  int status = begin(subscriber);
  if (status != 0) return status;
  struct slc__taken taken;
  status = take(&subscriber->sub, &taken);
  if (status != 0) return end(subscriber, take_nothing(subscriber, status));
  status = slc__subscriber_hold(subscriber, &taken, ret_message);
  readiness_keep(subscriber);
  return end(subscriber, status);
}

static inline int take_by(slc_subscriber *subscriber, take_fn take, slc_message *ret_message) {
  if (slc__guard_forked(&subscriber->guard)) return slc__guard_fail();
  if (__builtin_expect(!subscriber->takes_plainly, 0)) return take_fully(subscriber, take, ret_message);
  struct slc__taken taken;
  int status = take(&subscriber->sub, &taken);
  if (status != 0) return take_nothing(subscriber, status);
  message_fill(subscriber, &taken, ret_message);
  return 0;
}

int slc_subscriber_take(slc_subscriber *subscriber, slc_message *ret_message) {
  return take_by(subscriber, slc__sub_take, ret_message);
}

int slc_subscriber_take_newest(slc_subscriber *subscriber, slc_message *ret_message) {
  return take_by(subscriber, slc__sub_take_newest, ret_message);
}

static inline int held_release(slc_subscriber *subscriber, const slc_message *message) {
  bool is_held = subscriber->attached && message->hold < subscriber->sub.max_holds && message->ordinal != 0 &&
                 subscriber->held[message->hold].ordinal == message->ordinal;
  if (!is_held) return slc__fail(SLC_STALE, "this message is not held any more: it was released, or never taken");
  struct held *held = &subscriber->held[message->hold];
  if (__builtin_expect(held->generation != 0, 0)) generation_count(subscriber, held->generation, -1);
  held->ordinal = 0;
  return slc__sub_release(&subscriber->sub, message->hold);
}

__attribute__((noinline, cold)) static int release_in_turn(slc_subscriber *subscriber, const slc_message *message) {
  slc__turn_begin(&subscriber->turn);
  return end(subscriber, held_release(subscriber, message));
}

int slc_subscriber_release(slc_subscriber *subscriber, slc_message *message) {
  if (slc__guard_forked(&subscriber->guard)) return slc__guard_fail();
  if (__builtin_expect(subscriber->turn.is_shared, 0)) return release_in_turn(subscriber, message);
  return held_release(subscriber, message);
}

/* ---- for find.c -------------------------------------------------------------------------------------------------- */

int slc__subscriber_begin(slc_subscriber *subscriber, struct slc__sub **ret_sub) {
  *ret_sub = &subscriber->sub;
  return begin(subscriber);
}

int slc__subscriber_end(slc_subscriber *subscriber, int status) {
  return end(subscriber, status);
}

void slc__subscriber_pin(slc_subscriber *subscriber, bool is_pinned) {
  subscriber->generations.is_pinned = is_pinned;
}

int slc__subscriber_hold(slc_subscriber *subscriber, const struct slc__taken *taken, slc_message *ret_message) {
  int status = message_accept(subscriber, taken, ret_message);
  if (status != 0) slc__sub_reject(&subscriber->sub, taken);
  return status;
}

int slc__subscriber_hold_found(slc_subscriber *subscriber, const struct slc__taken *taken, slc_message *ret_message) {
  int status = message_accept(subscriber, taken, ret_message);
  if (status != 0) slc__sub_release(&subscriber->sub, taken->hold);
  return status;
}

void slc__subscriber_took(slc_subscriber *subscriber) {
  readiness_keep(subscriber);
}

int slc__subscriber_hold_nothing(slc_subscriber *subscriber, int status) {
  return take_nothing(subscriber, status);
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

static int64_t slice_of(const slc_subscriber *subscriber, int64_t deadline) {
  int64_t slice = slc__deadline_after(atomic_load(&subscriber->client->gone) ? SLICE_ALONE_NS : SLICE_NS);
  return slice < deadline ? slice : deadline;
}

/* One slice.  0 when there is something to tell, SLC_TIMED_OUT when not. */
static int wait_alone(slc_subscriber *subscriber, int64_t deadline) {
  if (slc__sub_publishers_changed(&subscriber->sub)) return 0;
  int status = slc__sub_wait(&subscriber->sub, slice_of(subscriber, deadline), subscriber->spin_ns);
  if (status == 0) return 0;
  return slc__sub_publishers_changed(&subscriber->sub) ? 0 : SLC_TIMED_OUT;
}

static bool look(slc_subscriber *subscriber) {
  return slc__sub_publishers_changed(&subscriber->sub) || slc__sub_ready(&subscriber->sub);
}

static bool look_in_turn(slc_subscriber *subscriber) {
  slc__turn_begin(&subscriber->turn);
  bool is_there = look(subscriber);
  slc__turn_end(&subscriber->turn);
  return is_there;
}

/* The same for one of several threads: looks in turns, polls and sleeps outside. */
static int wait_in_turns(slc_subscriber *subscriber, int64_t deadline) {
  int64_t until = slice_of(subscriber, deadline);
  int64_t polls_until = slc__deadline_after(subscriber->spin_ns);
  bool is_there = look(subscriber);
  slc__turn_end(&subscriber->turn);
  while (!is_there && slc__clock_ns() < (polls_until < until ? polls_until : until)) {
    slc__turn_pass();
    is_there = look_in_turn(subscriber);
  }
  slc__turn_begin(&subscriber->turn);
  uint64_t bell = 0;
  if (is_there || !slc__sub_sleep_begin(&subscriber->sub, &bell)) return 0;
  if (slc__sub_publishers_changed(&subscriber->sub)) return 0; /* the broker may have rung before the bell was read */
  slc__turn_end(&subscriber->turn);
  slc__sub_sleep(&subscriber->sub, bell, until);
  slc__turn_begin(&subscriber->turn);
  return look(subscriber) ? 0 : SLC_TIMED_OUT;
}

/* In the turn, and for one of several threads out of it in between. */
static int wait_attached(slc_subscriber *subscriber, int64_t deadline) {
  return subscriber->turn.is_shared ? wait_in_turns(subscriber, deadline) : wait_alone(subscriber, deadline);
}

static int wait_unattached(slc_subscriber *subscriber, int64_t deadline) {
  slc__connection_wait(subscriber->client, deadline, SLICE_UNATTACHED_NS);
  return SLC_TIMED_OUT;
}

int slc_subscriber_wait(slc_subscriber *subscriber, int64_t timeout_ns) {
  int64_t deadline = slc__deadline_after(timeout_ns);
  for (;;) {
    int status = begin(subscriber);
    if (status != 0 && status != SLC_EMPTY) return status;
    bool is_attached = status == 0;
    status = is_attached ? end(subscriber, wait_attached(subscriber, deadline)) : wait_unattached(subscriber, deadline);
    if (is_attached && slc__sub_closed(&subscriber->sub) != SLC__OPEN) return disconnected(subscriber);
    if (status != SLC_TIMED_OUT) return status;
    if (slc__clock_ns() >= deadline) return SLC_TIMED_OUT;
    if (is_attached && !atomic_load(&subscriber->client->gone)) slc__connection_visit(subscriber->client);
  }
}

/* ---- the readiness descriptor ----------------------------------------------------------------------------------- */

static int descriptor_failure(const char *call) {
  int status = slc__status_of_errno(errno);
  return slc__fail(status, "%s for a readiness descriptor: %s", call, strerror(errno));
}

static int epoll_make(const slc_subscriber *subscriber, int bell_fd, int *ret_fd) {
  SLC__CLEANUP_FD int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return descriptor_failure("epoll_create1");
  struct epoll_event readable = {.events = EPOLLIN};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, bell_fd, &readable) != 0) return descriptor_failure("epoll_ctl");
  if (!subscriber->attached && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, subscriber->client->fd, &readable) != 0)
    return descriptor_failure("epoll_ctl");
  *ret_fd = slc__fd_take(&epoll_fd);
  return 0;
}

static int request_doorbell(const slc_subscriber *subscriber, int ring_fd) {
  Slotcast__SetDoorbell body = SLOTCAST__SET_DOORBELL__INIT;
  body.user = subscriber->user;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_SET_DOORBELL;
  message.set_doorbell = &body;
  return slc__request_done(subscriber->client, &message, ring_fd);
}

static int doorbell_make(slc_subscriber *subscriber) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
    return descriptor_failure("socketpair");
  SLC__CLEANUP_FD int bell_fd = pair[0];
  SLC__CLEANUP_FD int ring_fd = pair[1];
  SLC__CLEANUP_FD int epoll_fd = -1;
  int status = epoll_make(subscriber, bell_fd, &epoll_fd);
  if (status == 0) status = request_doorbell(subscriber, ring_fd);
  if (status != 0) return status;
  pthread_mutex_lock(&subscriber->client->lock); /* another thread may dispatch the attachment, and then rings */
  subscriber->bell_fd = slc__fd_take(&bell_fd);
  subscriber->ring_fd = slc__fd_take(&ring_fd);
  subscriber->epoll_fd = slc__fd_take(&epoll_fd);
  pthread_mutex_unlock(&subscriber->client->lock);
  return 0;
}

/* In the turn. */
static int descriptor_get(slc_subscriber *subscriber, int *ret_fd) {
  int status = attach(subscriber);
  if (status != 0 && status != SLC_EMPTY) return status;
  if (subscriber->epoll_fd < 0) {
    status = doorbell_make(subscriber);
    if (status != 0) return status;
    plainness_note(subscriber);
    if (subscriber->attached)
      doorbell_rearm(subscriber);
    else
      ring_self(subscriber); /* whether there is something is for the first take to say */
  }
  *ret_fd = subscriber->epoll_fd;
  return 0;
}

int slc_subscriber_fd(slc_subscriber *subscriber, int *ret_fd) {
  if (slc__guard_forked(&subscriber->guard)) return slc__guard_fail();
  slc__turn_begin(&subscriber->turn);
  return end(subscriber, descriptor_get(subscriber, ret_fd));
}

/* ---- for wait-sets ---------------------------------------------------------------------------------------------- */

bool slc__subscriber_look(slc_subscriber *subscriber) {
  int status = begin(subscriber);
  if (status != 0) return status != SLC_EMPTY;
  bool is_there = look(subscriber);
  if (!is_there) doorbell_rearm(subscriber);
  end(subscriber, 0);
  return is_there;
}

int64_t slc__subscriber_visit(slc_subscriber *subscriber) {
  slc_client *client = subscriber->client;
  if (!atomic_load(&client->gone)) slc__connection_visit(client);
  return atomic_load(&client->gone) ? SLICE_ALONE_NS : SLICE_NS;
}

/* ---- statistics ------------------------------------------------------------------------------------------------- */

int slc_subscriber_stats_get(slc_subscriber *subscriber, slc_subscriber_stats *ret_stats) {
  int status = begin(subscriber);
  if (status != 0 && status != SLC_EMPTY) return status;
  slc_subscriber_stats stats = {0};
  if (status == 0) {
    const struct slc__sub *sub = &subscriber->sub;
    const struct slc__control_page *page = sub->control.page;
    stats.attached = 1;
    stats.virtual_id = subscriber->attachment.virtual_id;
    stats.max_virtual = sub->control.geometry.virtual_max;
    stats.slots = sub->control.geometry.slots;
    stats.slot_size = sub->control.geometry.slot_size;
    stats.publishers = atomic_load_explicit(&page->publishers, memory_order_acquire);
    stats.publishers_joined = atomic_load_explicit(&page->publishers_joined, memory_order_acquire);
    stats.received = atomic_load_explicit(&sub->line->received, memory_order_relaxed);
    stats.dropped = sub->dropped;
    stats.lag = slc__sub_lag(sub);
    slc__turn_end(&subscriber->turn);
  }
  return slc__stats_copy(ret_stats, &stats, sizeof stats);
}

int slc_subscriber_virtual_stats_get(slc_subscriber *subscriber, uint32_t virtual_id, slc_virtual_stats *ret_stats) {
  int status = begin(subscriber);
  if (status != 0 && status != SLC_EMPTY) return status;
  slc_virtual_stats stats = {0};
  if (status == 0) {
    const struct slc__virtual_count *count = slc__virtual_count_of(&subscriber->sub, virtual_id);
    if (count == NULL)
      return end(subscriber,
                 slc__fail(SLC_INVALID, "this subscriber does not look at a virtual channel %u", virtual_id));
    stats.received = count->received;
    stats.dropped = count->dropped;
    slc__turn_end(&subscriber->turn);
  }
  return slc__stats_copy(ret_stats, &stats, sizeof stats);
}

/* ---- payloads of split channels --------------------------------------------------------------------------------- */

int slc_subscriber_payload(slc_subscriber *subscriber, const void *address, slc_payload_info *ret_payload) {
  int status = begin(subscriber);
  if (status != 0) return status;
  return end(subscriber, slc__generations_payload(&subscriber->generations, address, ret_payload));
}

int slc_subscriber_payloads(slc_subscriber *subscriber, slc_payload_info *ret_payloads, size_t max, size_t *ret_count) {
  int status = begin(subscriber);
  if (status != 0) return status;
  slc__generations_payloads(&subscriber->generations, ret_payloads, max, ret_count);
  return end(subscriber, 0);
}

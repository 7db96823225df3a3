/* Subscribers: going over to another channel, and closing.
 *
 * A handle sits on one channel.  When the broker is back and does not know it, reconnect.c opens it anew: what the
 * answer brings is a seat beside the one in use, `fresh`.  When it has its place, and all has been taken from the
 * channel before, the handle's own thread goes over; messages that are still held stay where they are, until the last
 * of them is released.
 *
 * On the new channel it has been there since before the first message, whatever the broker knows: nothing that comes
 * there is old to it.  Threads: as in subscriber_open.c. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "subscriber_handle.h"

/* ---- seats ------------------------------------------------------------------------------------------------------ */

static void seat_free_memory(struct slc__seat *seat) {
  slc__watchers_deinit(&seat->watchers);
  free(seat->attachment_detail);
  free(seat->held);
  free(seat->view.counts);
}

static void seat_deinit(struct slc__seat *seat) {
  slc__seat_unmap(seat);
  slc__generations_deinit(&seat->generations);
  seat_free_memory(seat);
}

/* Of one that was never in use. */
static void fresh_drop(struct slc__seat *seat) {
  if (seat == NULL) return;
  seat_deinit(seat);
  free(seat);
}

/* Gives everything back by itself too: with the broker gone nobody else would, and publishers would wait for ever. */
static void seat_leave(struct slc__seat *seat) {
  if (seat->attached) {
    for (uint32_t hold = 0; seat->sub.held > 0 && hold < seat->sub.max_holds; hold++)
      if (seat->held[hold].ordinal != 0) slc__sub_release(&seat->sub, hold);
  }
  if (seat->attachment_there)
    slc__line_close(seat->attachment.table.base, seat->attachment.line, seat->attachment.max_holds);
  if (seat->attached) slc__sub_tell(&seat->sub);
}

/* ---- what reconnect.c asks -------------------------------------------------------------------------------------- */

static int place_ask(void *owner, uint64_t serial, bool is_plain, uint8_t *buffer, size_t capacity, size_t *ret_size) {
  (void)is_plain;
  Slotcast__OpenSubscriber body = slc__subscriber_request(owner);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.serial = serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_SUBSCRIBER;
  message.open_subscriber = &body;
  return slc__codec_encode(&message, buffer, capacity, ret_size);
}

static int place_joined(void *owner, struct slc__received *received) {
  slc_subscriber *subscriber = owner;
  struct slc__seat *fresh = calloc(1, sizeof *fresh);
  if (fresh == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a subscriber");
  int status = slc__seat_receive(subscriber, received, fresh);
  if (status != 0) {
    fresh_drop(fresh);
    return status;
  }
  fresh_drop(subscriber->fresh);
  fresh->is_anew = true;
  subscriber->fresh = fresh;
  subscriber->place.user = fresh->user;
  subscriber->refused = 0;
  atomic_store(&subscriber->may_move, true);
  slc__subscriber_ring(subscriber);
  return 0;
}

static void place_refused(void *owner, int status) {
  slc_subscriber *subscriber = owner;
  subscriber->refused = status;
  free(subscriber->refused_detail);
  subscriber->refused_detail = strdup(slc__error_detail());
  atomic_store(&subscriber->may_move, true);
  slc__subscriber_ring(subscriber);
}

static void place_cut_off(void *owner) {
  slc_subscriber *subscriber = owner;
  slc__watchers_cut_off(&subscriber->on.watchers);
  if (subscriber->fresh != NULL) slc__watchers_cut_off(&subscriber->fresh->watchers);
}

static int place_doorbell(void *owner) {
  const slc_subscriber *subscriber = owner;
  return subscriber->ring_fd;
}

static bool place_is_attached(void *owner) {
  const slc_subscriber *subscriber = owner;
  return subscriber->fresh != NULL ? subscriber->fresh->attachment_there : subscriber->on.attachment_there;
}

/* One that the broker has disconnected stays so. */
static bool place_is_over(void *owner) {
  const slc_subscriber *subscriber = owner;
  const struct slc__attachment *attachment = &subscriber->on.attachment;
  if (!subscriber->on.attachment_there) return false;
  const struct slc__hold_line *line = slc__table_line(attachment->table.base, attachment->line);
  return atomic_load_explicit(&line->closed, memory_order_relaxed) != SLC__OPEN;
}

const struct slc__place_ops slc__subscriber_place = {
    .is_publisher = false,
    .ask = place_ask,
    .joined = place_joined,
    .refused = place_refused,
    .cut_off = place_cut_off,
    .doorbell = place_doorbell,
    .is_attached = place_is_attached,
    .is_over = place_is_over,
};

/* ---- going over ------------------------------------------------------------------------------------------------- */

static void sync_no_watchers(void *ctx, struct slc__watch *watch, uint64_t number) {
  (void)ctx;
  (void)watch;
  (void)number;
}

/* At another address: only releases and the end are to come. */
static void seat_settle(struct slc__seat *seat) {
  seat->sub.watch.sync = sync_no_watchers;
  if (seat->sub.view != NULL) seat->sub.view = &seat->view;
}

/* It holds messages: nothing else is done with it but to release them.  Its line gates nothing from here on. */
static void seat_keep(slc_subscriber *subscriber, const struct slc__seat *old, struct slc__seat *past) {
  *past = *old;
  seat_settle(past);
  atomic_store_explicit(&past->sub.line->cursor, SLC__CURSOR_NONE, memory_order_seq_cst);
  slc__sub_tell(&past->sub);
  past->next = subscriber->past;
  subscriber->past = past;
}

/* Where it may go, under the lock: it has its place there, or here it had none. */
static bool has_where_to_go(const slc_subscriber *subscriber) {
  return subscriber->fresh != NULL && (subscriber->fresh->attachment_there || !subscriber->on.attached);
}

static int refused_locked(const slc_subscriber *subscriber) {
  if (subscriber->refused == 0) return 0;
  return slc__fail(subscriber->refused, "%s",
                   subscriber->refused_detail != NULL ? subscriber->refused_detail : "out of memory");
}

/* 1: `old` is what it was on. */
static int exchange(slc_subscriber *subscriber, struct slc__seat *ret_old) {
  slc_client *client = subscriber->client;
  struct slc__seat *fresh = NULL;
  pthread_mutex_lock(&client->lock);
  int status = refused_locked(subscriber);
  if (status == 0 && has_where_to_go(subscriber)) {
    fresh = subscriber->fresh;
    fresh->hold_base = subscriber->on.hold_base + (UINT32_C(1) << 16);
    *ret_old = subscriber->on;
    subscriber->on = *fresh;
    subscriber->fresh = NULL;
    atomic_store(&subscriber->may_move, false);
    slc__subscriber_watch(subscriber, EPOLL_CTL_MOD);
  }
  pthread_mutex_unlock(&client->lock);
  free(fresh);
  return status != 0 ? status : fresh != NULL;
}

int slc__subscriber_move(slc_subscriber *subscriber) {
  SLC__CLEANUP_FREE struct slc__seat *past = calloc(1, sizeof *past);
  struct slc__seat old = {0};
  if (past == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a subscriber");
  int status = exchange(subscriber, &old);
  if (status <= 0) return status;
  if (old.attached && old.sub.held > 0) {
    seat_keep(subscriber, &old, slc__pointer_take(&past));
  } else {
    seat_settle(&old);
    seat_leave(&old);
    seat_deinit(&old);
  }
  slc__subscriber_note_plainness(subscriber);
  return 1;
}

/* ---- messages of before ----------------------------------------------------------------------------------------- */

static bool seat_release(struct slc__seat *seat, const slc_message *message) {
  uint32_t hold = message->hold - seat->hold_base;
  if (hold >= seat->sub.max_holds || message->ordinal == 0 || seat->held[hold].ordinal != message->ordinal)
    return false;
  seat->held[hold].ordinal = 0;
  slc__sub_release(&seat->sub, hold);
  return true;
}

bool slc__subscriber_past_release(slc_subscriber *subscriber, const slc_message *message) {
  for (struct slc__seat **at = &subscriber->past; *at != NULL; at = &(*at)->next) {
    struct slc__seat *past = *at;
    if (!seat_release(past, message)) continue;
    if (past->sub.held > 0) return true;
    *at = past->next;
    seat_leave(past);
    seat_deinit(past);
    free(past);
    slc__subscriber_note_plainness(subscriber);
    return true;
  }
  return false;
}

/* ---- closing ---------------------------------------------------------------------------------------------------- */

/* From here on nothing that the broker says finds it. */
static void subscriber_unlist(slc_subscriber *subscriber) {
  if (!subscriber->listed) return;
  for (slc_subscriber **at = &subscriber->client->subscribers; *at != NULL; at = &(*at)->next) {
    if (*at != subscriber) continue;
    *at = subscriber->next;
    break;
  }
  slc__place_unlist(subscriber->client, &subscriber->place);
}

static void past_free(slc_subscriber *subscriber, void (*end)(struct slc__seat *seat)) {
  for (struct slc__seat *past = subscriber->past, *next; past != NULL; past = next) {
    next = past->next;
    end(past);
    free(past);
  }
}

static void seat_end(struct slc__seat *seat) {
  seat_leave(seat);
  seat_deinit(seat);
}

/* The writable mapping is not there, its address may be somebody else's by now: only memory is freed. */
static void seat_forget(struct slc__seat *seat) {
  slc__generations_forget(&seat->generations);
  seat_free_memory(seat);
}

static void subscriber_end(slc_subscriber *subscriber) {
  slc_client *client = subscriber->client;
  pthread_mutex_lock(&client->lock);
  subscriber_unlist(subscriber);
  pthread_mutex_unlock(&client->lock);
  seat_leave(&subscriber->on);
  if (subscriber->fresh != NULL) seat_leave(subscriber->fresh);
  if (subscriber->listed) slc__request_close_place(client, &subscriber->place);
  seat_deinit(&subscriber->on);
  fresh_drop(subscriber->fresh);
  past_free(subscriber, seat_end);
  slc__turn_deinit(&subscriber->turn);
}

/* In a forked child the lock may have been held by a thread that was not copied. */
static void subscriber_forget(slc_subscriber *subscriber) {
  subscriber_unlist(subscriber);
  seat_forget(&subscriber->on);
  past_free(subscriber, seat_forget);
  free(subscriber->fresh);
}

void slc_subscriber_close(slc_subscriber *subscriber) {
  if (subscriber == NULL) return;
  if (slc__guard_forked(&subscriber->client->guard))
    subscriber_forget(subscriber);
  else
    subscriber_end(subscriber);
  slc__fd_close(&subscriber->epoll_fd);
  slc__fd_close(&subscriber->bell_fd);
  slc__fd_close(&subscriber->ring_fd);
  free(subscriber->refused_detail);
  free(subscriber->channel);
  free((char *)subscriber->options.type);
  free((char *)subscriber->options.multiplexer);
  free(subscriber);
}

/* Publishers: going over to another channel, and closing.
 *
 * A handle stands on one channel.  When the broker is back and does not know it, reconnect.c opens it anew: what the
 * answer brings is a stand beside the one in use, `fresh`.  The handle's own thread makes it ready and goes over, at
 * the next call that wants a slot; loans stay on the stand where they were made, which goes with the last of them.
 *
 * Invariant: whoever leaves a channel that its broker has forgotten moves its epoch on, so that the other publishers
 * look for a membership that does not come, see that the broker has gone, and leave it, too; and wakes everybody.
 * Threads: as in publisher_open.c. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "publisher_handle.h"
#include "shm/retire.h"

/* ---- stands ----------------------------------------------------------------------------------------------------- */

/* Everything but what lies in shared memory. */
static void stand_deinit(slc_client *client, struct slc__stand *stand) {
  if (stand->is_ready) slc__pub_deinit(&stand->pub);
  pthread_mutex_lock(&client->lock);
  slc__members_deinit(&stand->members);
  pthread_mutex_unlock(&client->lock);
  slc__mapping_deinit(&stand->control_mapping);
  slc__mapping_deinit(&stand->buffers_mapping);
  slc__generations_deinit(&stand->growth.generations);
  slc__watchers_deinit(&stand->watchers);
  free(stand->loans);
}

/* In a forked child: the writable mappings are not there, their addresses may be somebody else's by now, and the lock
 * may have been held by a thread that was not copied.  Only memory is freed. */
static void stand_forget(struct slc__stand *stand) {
  if (stand->is_ready) slc__pub_deinit(&stand->pub);
  slc__generations_forget(&stand->growth.generations);
  slc__watchers_deinit(&stand->watchers);
  free(stand->loans);
}

/* Of a stand that was never in use; the lock is held. */
static void fresh_drop(struct slc__stand *stand) {
  if (stand == NULL) return;
  slc__members_deinit(&stand->members);
  slc__mapping_deinit(&stand->control_mapping);
  slc__mapping_deinit(&stand->buffers_mapping);
  slc__watchers_deinit(&stand->watchers);
  free(stand->loans);
  free(stand);
}

static uint32_t loans_count(const struct slc__stand *stand) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < stand->max_loans; i++) count += stand->loans[i].spot.capacity != 0;
  return count;
}

/* Gives back what lies in shared memory, so that nothing is left to repair. */
static void stand_leave(struct slc__stand *stand) {
  if (!stand->is_ready) return;
  for (uint32_t i = 0; i < stand->max_loans; i++)
    if (stand->loans[i].spot.capacity != 0) slc__pub_discard(&stand->pub, slc__loan_slot(&stand->loans[i]));
  slc__pub_leave(&stand->pub);
}

/* ---- what reconnect.c asks -------------------------------------------------------------------------------------- */

/* The shape that the channel had, so that the first to come back makes it again, whoever that is. */
static void shape_keep(const struct slc__geometry *shape, Slotcast__OpenPublisher *body) {
  body->slots = shape->slots;
  body->slot_size = shape->slot_size;
  body->max_publishers = shape->max_publishers;
  body->keep_last = shape->keep_last;
  body->metadata_size = shape->metadata_size;
  body->checksum = shape->checksum;
  body->checksum_size = shape->checksum == SLC__CHECKSUM_OWN ? shape->checksum_size : 0;
  body->max_virtual = shape->virtual_max;
  body->backend = shape->backend;
  body->pages = shape->pages;
}

static int place_ask(void *owner, uint64_t serial, bool is_plain, uint8_t *buffer, size_t capacity, size_t *ret_size) {
  slc_publisher *publisher = owner;
  Slotcast__OpenPublisher body = slc__publisher_request(publisher);
  if (!is_plain) shape_keep(&publisher->on.control.geometry, &body);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.serial = serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_PUBLISHER;
  message.open_publisher = &body;
  return slc__codec_encode(&message, buffer, capacity, ret_size);
}

static int place_joined(void *owner, struct slc__received *received) {
  slc_publisher *publisher = owner;
  struct slc__stand *fresh = calloc(1, sizeof *fresh);
  if (fresh == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a publisher");
  int status = slc__stand_receive(publisher, received, fresh);
  if (status == 0) status = slc__publisher_can_check(publisher, &fresh->control.geometry);
  if (status != 0) {
    fresh_drop(fresh);
    return status;
  }
  fresh_drop(publisher->fresh);
  publisher->fresh = fresh;
  publisher->place.user = fresh->user;
  publisher->refused = 0;
  atomic_fetch_or(&publisher->is_special, SLC__SPECIAL_MOVES);
  if (publisher->doorbell.ring_fd >= 0) slc__doorbell_wake(&publisher->doorbell);
  return 0;
}

static void place_refused(void *owner, int status) {
  slc_publisher *publisher = owner;
  publisher->refused = status;
  free(publisher->refused_detail);
  publisher->refused_detail = strdup(slc__error_detail());
  atomic_fetch_or(&publisher->is_special, SLC__SPECIAL_MOVES);
  if (publisher->doorbell.ring_fd >= 0) slc__doorbell_wake(&publisher->doorbell);
}

static void place_cut_off(void *owner) {
  slc_publisher *publisher = owner;
  struct slc__stand *stands[] = {&publisher->on, publisher->moving, publisher->fresh};
  for (size_t i = 0; i < sizeof stands / sizeof stands[0]; i++) {
    if (stands[i] == NULL) continue;
    slc__members_cut_off(&stands[i]->members);
    slc__watchers_cut_off(&stands[i]->watchers);
  }
}

static int place_doorbell(void *owner) {
  const slc_publisher *publisher = owner;
  return publisher->doorbell.ring_fd;
}

static bool place_is_attached(void *owner) {
  (void)owner;
  return true;
}

const struct slc__place_ops slc__publisher_place = {
    .is_publisher = true,
    .ask = place_ask,
    .joined = place_joined,
    .refused = place_refused,
    .cut_off = place_cut_off,
    .doorbell = place_doorbell,
    .is_attached = place_is_attached,
};

/* ---- going over ------------------------------------------------------------------------------------------------- */

/* Whoever is on the old channel learns that it is over. */
static void farewell(struct slc__stand *stand) {
  atomic_fetch_add_explicit(&stand->control.page->epoch, 1, memory_order_seq_cst);
  slc__pub_wake_all(&stand->pub);
}

static bool sync_nothing(void *ctx, uint64_t epoch) {
  (void)ctx;
  (void)epoch;
  return false;
}

static void sync_no_watchers(void *ctx, struct slc__watch *watch, uint64_t number) {
  (void)ctx;
  (void)watch;
  (void)number;
}

/* It has loans: nothing else is done with it but to give them back. */
static void stand_keep(slc_publisher *publisher, const struct slc__stand *old, struct slc__stand *past) {
  *past = *old;
  past->pub.sync = sync_nothing;
  past->pub.visit = NULL;
  past->pub.watch.sync = sync_no_watchers;
  past->growth.control = &past->control;
  past->next = publisher->past;
  publisher->past = past;
}

static uint32_t tokens_beyond(const struct slc__stand *stand, uint32_t step) {
  uint64_t greatest = 0;
  for (uint32_t i = 0; i < stand->max_loans; i++)
    if (stand->loans[i].name > greatest) greatest = stand->loans[i].name;
  return (uint32_t)(greatest >> 32) / step + 1;
}

/* `moving` is ready.  The pushes that name it find it throughout. */
static void go_over(slc_publisher *publisher, struct slc__stand *past) {
  slc_client *client = publisher->client;
  struct slc__stand *fresh = publisher->moving;
  slc__loans_number(fresh, tokens_beyond(&publisher->on, fresh->token_step));
  if (publisher->on.is_ready) {
    slc__pub_leave(&publisher->on.pub);
    if (publisher->on.user >> SLC__ERA_SHIFT != fresh->user >> SLC__ERA_SHIFT) farewell(&publisher->on);
  }
  pthread_mutex_lock(&client->lock);
  struct slc__stand old = publisher->on;
  publisher->on = *fresh;
  publisher->on.growth.control = &publisher->on.control;
  publisher->moving = NULL;
  slc__publisher_specials(publisher);
  pthread_mutex_unlock(&client->lock);
  free(fresh);
  publisher->on.pub.needs_subscriber = publisher->options.needs_subscriber != 0;
  old.loaned = loans_count(&old);
  if (old.loaned > 0) {
    stand_keep(publisher, &old, past);
  } else {
    stand_deinit(client, &old);
    free(past);
  }
}

/* Takes it out of reach of reconnect.c, which may bring another. */
static struct slc__stand *fresh_take(slc_publisher *publisher) {
  pthread_mutex_lock(&publisher->client->lock);
  struct slc__stand *fresh = publisher->fresh;
  publisher->fresh = NULL;
  publisher->moving = fresh;
  pthread_mutex_unlock(&publisher->client->lock);
  return fresh;
}

/* It could not be made ready: another time, unless there is another by now. */
static void fresh_return(slc_publisher *publisher) {
  struct slc__stand *stand = publisher->moving;
  if (stand->is_ready) slc__pub_deinit(&stand->pub);
  slc__generations_deinit(&stand->growth.generations);
  stand->is_ready = false;
  pthread_mutex_lock(&publisher->client->lock);
  publisher->moving = NULL;
  if (publisher->fresh == NULL)
    publisher->fresh = stand;
  else
    fresh_drop(stand);
  pthread_mutex_unlock(&publisher->client->lock);
}

static int refused(slc_publisher *publisher) {
  pthread_mutex_lock(&publisher->client->lock);
  int status = publisher->refused;
  if (status != 0)
    slc__fail(status, "%s", publisher->refused_detail != NULL ? publisher->refused_detail : "out of memory");
  pthread_mutex_unlock(&publisher->client->lock);
  return status;
}

int slc__publisher_move(slc_publisher *publisher) {
  int status = refused(publisher);
  if (status != 0) return status;
  struct slc__stand *past = calloc(1, sizeof *past);
  if (past == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a publisher");
  struct slc__stand *fresh = fresh_take(publisher);
  const struct slc__membership *view = fresh != NULL ? slc__stand_membership(publisher->client, fresh) : NULL;
  if (view == NULL) {
    free(past);
    if (fresh != NULL) fresh_return(publisher);
    return 0;
  }
  status = slc__stand_ready(publisher, fresh, view);
  if (status != 0) {
    fresh_return(publisher);
    free(past);
    return status;
  }
  go_over(publisher, past);
  if (publisher->options.activation && publisher->on.is_the_first) slc__publisher_send_activation(publisher);
  return 0;
}

/* Gone again: with the next broker, too. */
int slc__publisher_follow(slc_publisher *publisher) {
  slc_client *client = publisher->client;
  int status = SLC_GONE;
  while (!slc__connection_has(client, publisher->on.user)) {
    status = slc__publisher_move(publisher);
    if (status != 0 && status != SLC_GONE) return status;
    if (slc__connection_has(client, publisher->on.user)) break;
    if (atomic_load(&client->gone) && !slc__connection_is_awaited(client)) return slc__connection_gone(client);
    slc__connection_visit(client);
    slc__connection_wait(client, SLC__DEADLINE_NEVER, SLC__PUBLISHER_SLICE_NS);
  }
  return status;
}

/* ---- loans of before -------------------------------------------------------------------------------------------- */

bool slc__publisher_past_end(slc_publisher *publisher, const slc_loan *loan) {
  for (struct slc__stand **at = &publisher->past; *at != NULL; at = &(*at)->next) {
    struct slc__stand *past = *at;
    struct slc__loan_entry *entry = slc__loan_find(past, loan, 1);
    if (entry == NULL) continue;
    slc__pub_discard(&past->pub, slc__loan_slot(entry));
    entry->spot.capacity = 0;
    if (--past->loaned > 0) return true;
    *at = past->next;
    stand_leave(past);
    stand_deinit(publisher->client, past);
    free(past);
    return true;
  }
  return false;
}

/* ---- closing ---------------------------------------------------------------------------------------------------- */

/* From here on nothing that the broker says finds it. */
static void publisher_unlist(slc_publisher *publisher) {
  if (!publisher->listed) return;
  for (slc_publisher **at = &publisher->client->publishers; *at != NULL; at = &(*at)->next) {
    if (*at != publisher) continue;
    *at = publisher->next;
    break;
  }
  slc__place_unlist(publisher->client, &publisher->place);
}

static void publisher_end(slc_publisher *publisher) {
  slc_client *client = publisher->client;
  pthread_mutex_lock(&client->lock);
  publisher_unlist(publisher);
  fresh_drop(publisher->fresh);
  pthread_mutex_unlock(&client->lock);
  stand_leave(&publisher->on);
  if (publisher->listed) slc__request_close_place(client, &publisher->place);
  stand_deinit(client, &publisher->on);
  for (struct slc__stand *past = publisher->past, *next; past != NULL; past = next) {
    next = past->next;
    stand_leave(past);
    stand_deinit(client, past);
    free(past);
  }
  slc__turn_deinit(&publisher->turn);
}

static void publisher_forget(slc_publisher *publisher) {
  publisher_unlist(publisher);
  stand_forget(&publisher->on);
  for (struct slc__stand *past = publisher->past, *next; past != NULL; past = next) {
    next = past->next;
    stand_forget(past);
    free(past);
  }
  free(publisher->fresh);
}

void slc_publisher_close(slc_publisher *publisher) {
  if (publisher == NULL) return;
  if (slc__guard_forked(&publisher->client->guard))
    publisher_forget(publisher);
  else
    publisher_end(publisher);
  slc__doorbell_close(&publisher->doorbell);
  free(publisher->refused_detail);
  free(publisher->channel);
  free((char *)publisher->options.type);
  free((char *)publisher->options.multiplexer);
  free(publisher);
}

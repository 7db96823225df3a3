/* Publishers: opening, and what the broker says to them.
 *
 * Invariants:
 *   - The slot log sees only whole membership sets, exchanged in the publisher's own thread (sync).
 *   - What the broker pushes goes to the stand that it names: the one in use, or one that is to be.
 * Threads: one at a time per handle; what the broker says from any thread, under the client's lock. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "publisher_handle.h"
#include "settings.h"
#include "shm/retire.h"

/* ---- what the broker says --------------------------------------------------------------------------------------- */

static struct slc__stand *stand_of(slc_publisher *publisher, uint64_t known) {
  if (publisher->on.user == known) return &publisher->on;
  if (publisher->moving != NULL && publisher->moving->user == known) return publisher->moving;
  return publisher->fresh != NULL && publisher->fresh->user == known ? publisher->fresh : NULL;
}

/* `user` as the broker has it; NULL: none of ours. */
static struct slc__stand *stand_find(const slc_client *client, uint64_t user) {
  uint64_t known = slc__reconnect_known_as(client, user);
  for (slc_publisher *publisher = client->publishers; publisher != NULL; publisher = publisher->next) {
    struct slc__stand *stand = stand_of(publisher, known);
    if (stand != NULL) return stand;
  }
  return NULL;
}

int slc__publisher_pushed(slc_client *client, struct slc__received *received) {
  const Slotcast__Membership *page = received->message->membership;
  struct slc__stand *stand = stand_find(client, page->user);
  if (stand == NULL) return 0;
  received->memory = slc__memory_of(&stand->control.geometry); /* as needed: a push must not fail */
  int status = slc__members_page(&stand->members, page, received);
  return status != 0 ? status : slc__received_finish(received);
}

struct slc__watcher_sets *slc__publisher_watchers(slc_client *client, uint64_t user) {
  struct slc__stand *stand = stand_find(client, user);
  return stand != NULL ? &stand->watchers : NULL;
}

/* The slot log's wish for newer doorbells of publishers: takes what has come, without waiting. */
static void sync_watchers(void *ctx, struct slc__watch *watch, uint64_t number) {
  slc_publisher *publisher = ctx;
  slc__watchers_sync(&publisher->on.watchers, publisher->client, watch, number);
}

/* The slot log's wish for a newer membership: takes what has come, without waiting. */
static bool sync_membership(void *ctx, uint64_t epoch) {
  slc_publisher *publisher = ctx;
  slc_client *client = publisher->client;
  struct slc__member_set *old = NULL;
  const struct slc__membership *view = NULL;
  pthread_mutex_lock(&client->lock);
  if (!slc__members_pending(&publisher->on.members, epoch)) slc__connection_drain(client);
  if (slc__members_pending(&publisher->on.members, 0)) view = slc__members_adopt(&publisher->on.members, &old);
  if (view != NULL) slc__pub_set_membership(&publisher->on.pub, view);
  slc__member_set_free(old);
  pthread_mutex_unlock(&client->lock);
  return view != NULL;
}

/* When slots are taken back: now and then, so that one that only publishes sees its broker go.  A clock that is read
 * without looking at the hardware is exact enough. */
static void visit_now_and_then(void *ctx) {
  slc_publisher *publisher = ctx;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  int64_t now_ns = (int64_t)now.tv_sec * SLC__NS_PER_S + now.tv_nsec;
  if (now_ns - publisher->visited_at < SLC__PUBLISHER_LOOK_NS) return;
  publisher->visited_at = now_ns;
  slc__connection_visit(publisher->client);
}

/* ---- the answer ------------------------------------------------------------------------------------------------- */

void slc__loans_number(struct slc__stand *stand, uint32_t first) {
  for (uint32_t i = 0; i < stand->max_loans; i++)
    stand->loans[i].name = slc__loan_name(first * stand->token_step + i, 0);
}

static int loans_make(struct slc__stand *stand, uint32_t max_loans) {
  uint32_t step = 1;
  while (step < max_loans) step *= 2;
  stand->loans = calloc(step, sizeof *stand->loans);
  if (stand->loans == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %u loans", max_loans);
  for (uint32_t i = 1; i < max_loans; i++) stand->loans[i - 1].next = &stand->loans[i];
  stand->idle = stand->loans;
  stand->max_loans = max_loans;
  stand->token_step = step;
  slc__loans_number(stand, 1);
  return 0;
}

/* What is too large for the prefix goes behind it; where no slot has so many bytes, nothing does. */
static void rows_make(struct slc__stand *stand) {
  const struct slc__buffers *buffers = &stand->buffers;
  uint64_t in_prefix = buffers->inline_max < buffers->capacity ? buffers->inline_max : buffers->capacity;
  stand->in_prefix = (struct slc__row){.spot = {.capacity = in_prefix, .flags = SLC__FLAG_INLINE},
                                       .first = buffers->slots + offsetof(struct slc__prefix, inline_payload)};
  stand->behind =
      (struct slc__row){.spot = {.capacity = buffers->capacity}, .first = buffers->slots + buffers->payload_offset};
}

static int objects_map(struct slc__stand *stand, const struct slc__geometry *shape, struct slc__received *received) {
  stand->memory.backend = shape->backend;
  stand->memory.pages = shape->pages;
  received->memory = stand->memory;
  int status = slc__received_map(received, SLC__OBJECT_CONTROL, SLC__READ_WRITE, slc__layout_control_size(shape),
                                 &stand->control_mapping);
  if (status != 0) return status;
  status = slc__received_map(received, SLC__OBJECT_BUFFERS, SLC__READ_WRITE, slc__layout_buffers_size(shape),
                             &stand->buffers_mapping);
  if (status != 0) return status;
  slc__control_init(&stand->control, shape, stand->control_mapping.base);
  slc__buffers_init(&stand->buffers, shape, stand->buffers_mapping.base);
  stand->slot_size = shape->slot_size;
  rows_make(stand);
  return 0;
}

static int opened_check(const Slotcast__PublisherOpened *opened, const struct slc__geometry *shape) {
  if (opened->user == 0 || opened->publisher_id == 0 || opened->publisher_id > shape->max_publishers)
    return slc__fail(SLC_PROTOCOL, "the broker made this publisher number %u of %u", opened->publisher_id,
                     shape->max_publishers);
  if (opened->batch == 0 || opened->batch > shape->slots || opened->max_loans == 0 || opened->max_loans > shape->slots)
    return slc__fail(SLC_PROTOCOL, "the broker admitted %u loans and a batch of %u with %u slots", opened->max_loans,
                     opened->batch, shape->slots);
  if (opened->virtual_id > shape->virtual_max || (opened->virtual_id == 0) != (shape->virtual_max == 0))
    return slc__fail(SLC_PROTOCOL, "the broker made this publisher virtual channel %u of %u", opened->virtual_id,
                     shape->virtual_max);
  if (opened->membership == NULL) return slc__fail(SLC_PROTOCOL, "the broker did not say who subscribes");
  return 0;
}

int slc__stand_receive(const slc_publisher *publisher, struct slc__received *received, struct slc__stand *stand) {
  if (received->message->body_case != SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED) return slc__answer_unexpected(received);
  const Slotcast__PublisherOpened *opened = received->message->publisher_opened;
  struct slc__geometry shape;
  stand->memory.prefault = publisher->options.prefault != 0;
  stand->memory.lock = publisher->options.lock_memory != 0;
  int status = slc__received_geometry(opened->geometry, &shape);
  if (status == 0) status = opened_check(opened, &shape);
  if (status == 0) status = objects_map(stand, &shape, received);
  if (status == 0) status = loans_make(stand, opened->max_loans);
  received->memory = slc__memory_of(&shape);
  if (status == 0) status = slc__members_page(&stand->members, opened->membership, received);
  if (status == 0) status = slc__received_finish(received);
  if (status != 0) return status;
  stand->user = slc__reconnect_known_as(publisher->client, opened->user);
  stand->id = opened->publisher_id;
  stand->batch = opened->batch;
  stand->virtual_id = opened->virtual_id;
  stand->virtual_base = opened->virtual_base;
  stand->is_the_first = opened->first;
  return 0;
}

/* Under the lock, so that pushes that follow find the publisher. */
static int publisher_opened(void *ctx, struct slc__received *received) {
  slc_publisher *publisher = ctx;
  int status = slc__stand_receive(publisher, received, &publisher->on);
  if (status != 0) return status;
  publisher->next = publisher->client->publishers;
  publisher->client->publishers = publisher;
  publisher->listed = true;
  slc__place_list(publisher->client, &publisher->place, publisher->on.user);
  return 0;
}

/* ---- the request ------------------------------------------------------------------------------------------------ */

Slotcast__OpenPublisher slc__publisher_request(slc_publisher *publisher) {
  const slc_publisher_options *options = &publisher->options;
  Slotcast__OpenPublisher body = SLOTCAST__OPEN_PUBLISHER__INIT;
  body.channel = publisher->channel;
  body.token.data = publisher->place.token;
  body.token.len = sizeof publisher->place.token;
  if (options->type != NULL) body.type = (char *)options->type;
  body.slots = options->slots;
  body.slot_size = options->slot_size;
  body.max_loans = options->max_loans;
  body.max_publishers = options->max_publishers;
  body.reliable = options->reliable != 0;
  body.fixed_size = options->fixed_size != 0;
  body.keep_last = options->keep_last;
  body.metadata_size = options->metadata_size;
  body.checksum = (uint32_t)options->checksum;
  body.checksum_size = options->checksum_size;
  body.max_subscribers = options->max_subscribers;
  body.linger_ns = (uint64_t)options->linger_ns;
  body.slow_policy = (uint32_t)options->slow_policy;
  body.split = options->split != 0;
  if (options->multiplexer != NULL) body.multiplexer = (char *)options->multiplexer;
  body.max_virtual = options->max_virtual;
  body.virtual_id = options->virtual_id;
  body.backend = (uint32_t)options->backend;
  body.pages = options->pages;
  return body;
}

static int request_open(slc_publisher *publisher) {
  Slotcast__OpenPublisher body = slc__publisher_request(publisher);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_PUBLISHER;
  message.open_publisher = &body;
  return slc__request(publisher->client, &message, -1, publisher_opened, publisher);
}

/* ---- making it ready -------------------------------------------------------------------------------------------- */

const struct slc__membership *slc__stand_membership(slc_client *client, struct slc__stand *stand) {
  struct slc__member_set *none = NULL;
  const struct slc__membership *view = NULL;
  pthread_mutex_lock(&client->lock);
  if (!slc__members_pending(&stand->members, 0)) slc__connection_drain(client);
  if (slc__members_pending(&stand->members, 0))
    view = slc__members_adopt(&stand->members, &none);
  else
    view = slc__members_view(&stand->members);
  slc__member_set_free(none);
  pthread_mutex_unlock(&client->lock);
  return view;
}

/* The first membership may have more pages than the answer could carry.  SLC_GONE: with its broker. */
static int first_membership(slc_publisher *publisher, const struct slc__membership **ret_view) {
  slc_client *client = publisher->client;
  for (;;) {
    *ret_view = slc__stand_membership(client, &publisher->on);
    if (*ret_view != NULL) return 0;
    if (!slc__connection_has(client, publisher->on.user)) return SLC_GONE;
    if (atomic_load(&client->gone) && !slc__connection_is_awaited(client)) return slc__connection_gone(client);
    slc__connection_wait(client, SLC__DEADLINE_NEVER, SLC__PUBLISHER_SLICE_NS);
  }
}

int slc__publisher_can_check(const slc_publisher *publisher, const struct slc__geometry *shape) {
  if (shape->checksum == SLC__CHECKSUM_OWN && publisher->options.compute_checksum == NULL)
    return slc__fail(SLC_INCOMPATIBLE,
                     "the channel's checksums of %u bytes are computed by its users: give compute_checksum",
                     shape->checksum_size);
  return 0;
}

void slc__publisher_specials(slc_publisher *publisher) {
  const struct slc__geometry *shape = &publisher->on.control.geometry;
  const slc_publisher_options *options = &publisher->options;
  slc__checking_init(&publisher->checking, shape, options->compute_checksum, options->callback_ctx);
  publisher->before_send = options->before_send;
  publisher->callback_ctx = options->callback_ctx;
  bool has_work = shape->metadata_size != 0 || shape->checksum != SLC__CHECKSUM_NONE ||
                  publisher->before_send != NULL || publisher->turn.is_shared;
  bool moves = publisher->fresh != NULL || publisher->refused != 0;
  atomic_store(&publisher->is_special, (has_work ? SLC__SPECIAL_WORK : 0) | (moves ? SLC__SPECIAL_MOVES : 0));
}

/* What this publisher alone has asked for. */
static int pub_choose(slc_publisher *publisher, struct slc__stand *stand) {
  struct slc__pub *pub = &stand->pub;
  pub->visit = visit_now_and_then;
  pub->watch.sync = sync_watchers;
  pub->watch.ctx = publisher;
  if (!publisher->options.retirement || slc__retire_open(pub) == 0) return 0;
  return slc__fail(SLC_NO_MEMORY, "no memory for the retirement of %u messages", stand->control.geometry.slots);
}

/* A split channel has its memory before there is a loan. */
static int split_begin(slc_publisher *publisher, struct slc__stand *stand) {
  const slc_publisher_options *options = &publisher->options;
  if (stand->control.geometry.split == 0) return 0;
  publisher->allocator = (struct slc__allocator){
      .slots_per_object = options->slots_per_object != 0 ? options->slots_per_object : 1,
      .allocate = options->allocate_payload,
      .map = options->map_payload,
      .unmap = options->unmap_payload,
      .release = options->free_payload,
      .ctx = options->callback_ctx,
  };
  stand->growth.generations.allocator = &publisher->allocator;
  return slc__growth_begin(&stand->growth);
}

int slc__stand_ready(slc_publisher *publisher, struct slc__stand *stand, const struct slc__membership *view) {
  int status = slc__pub_init(&stand->pub, &stand->control, &stand->buffers, stand->id, stand->batch, view,
                             sync_membership, publisher);
  if (status != 0) return status;
  stand->is_ready = true;
  if (stand->virtual_id != 0) slc__pub_set_virtual(&stand->pub, stand->virtual_id, stand->virtual_base);
  stand->growth = (struct slc__growth){
      .control = &stand->control,
      .line = stand->pub.line,
      .memory = stand->memory,
      .client = publisher->client,
      .user = stand->user,
      .on_growth = publisher->options.on_growth,
      .ctx = publisher->options.callback_ctx,
  };
  status = split_begin(publisher, stand);
  return status != 0 ? status : pub_choose(publisher, stand);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* The options outlive the caller's strings: the handle may have to be opened again. */
static int options_keep(slc_publisher *publisher, const char *channel, const slc_publisher_options *options) {
  publisher->options = *options;
  publisher->channel = strdup(channel);
  publisher->options.type = options->type != NULL ? strdup(options->type) : NULL;
  publisher->options.multiplexer = options->multiplexer != NULL ? strdup(options->multiplexer) : NULL;
  bool has_all = publisher->channel != NULL && (publisher->options.type != NULL) == (options->type != NULL) &&
                 (publisher->options.multiplexer != NULL) == (options->multiplexer != NULL);
  return has_all ? 0 : slc__fail(SLC_NO_MEMORY, "no memory for a publisher");
}

static int begin(slc_publisher *publisher) {
  const struct slc__membership *view = NULL;
  int status = first_membership(publisher, &view);
  if (status == 0) status = slc__stand_ready(publisher, &publisher->on, view);
  if (status != 0) return status;
  pthread_mutex_lock(&publisher->client->lock);
  slc__publisher_specials(publisher);
  pthread_mutex_unlock(&publisher->client->lock);
  bool is_first = publisher->options.activation && publisher->on.is_the_first;
  return is_first ? slc__publisher_send_activation(publisher) : 0;
}

static int publisher_make(slc_publisher *publisher, const char *channel, const slc_publisher_options *options) {
  publisher->guard = publisher->client->guard;
  publisher->has_timestamp = !options->no_timestamp;
  publisher->spin_ns = slc__spin_ns(options->spin_ns);
  int status = options_keep(publisher, channel, options);
  if (status == 0) status = slc__place_init(&publisher->place, &slc__publisher_place, publisher);
  if (status != 0) return status;
  status = request_open(publisher);
  /* Whether it was heard is not known: a broker that has it is told that nobody wants it. */
  if (status == SLC_BROKER_GONE) slc__place_part(publisher->client, &publisher->place);
  if (status == 0) status = slc__publisher_can_check(publisher, &publisher->on.control.geometry);
  if (status != 0) return status;
  status = begin(publisher);
  return status == SLC_GONE ? slc__publisher_follow(publisher) : status;
}

int slc_publisher_open(slc_client *client, const char *channel, const slc_publisher_options *options,
                       slc_publisher **ret_publisher) {
  if (client == NULL || channel == NULL || ret_publisher == NULL)
    return slc__fail(SLC_INVALID, "slc_publisher_open: client, channel and ret_publisher must be given");
  if (slc__guard_forked(&client->guard)) return slc__guard_fail();
  slc_publisher_options chosen = SLC_PUBLISHER_OPTIONS_INIT;
  int status = slc__settings_copy(&chosen, sizeof chosen, options);
  if (status == 0) status = slc__channel_name_check(channel);
  if (status == 0 && chosen.linger_ns < 0)
    status = slc__fail(SLC_INVALID, "a channel cannot linger for less than 0 ns");
  if (status == 0) status = slc__checksum_options(chosen.checksum, chosen.checksum_size, chosen.compute_checksum);
  if (status != 0) return status;
  slc_publisher *publisher = calloc(1, sizeof *publisher);
  if (publisher == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a publisher");
  publisher->client = client;
  slc__turn_init(&publisher->turn, chosen.locked != 0);
  publisher->doorbell.fd = publisher->doorbell.ring_fd = -1;
  status = publisher_make(publisher, channel, &chosen);
  publisher->on.pub.needs_subscriber =
      chosen.needs_subscriber != 0; /* who comes first waits for nobody with its first */
  if (status != 0) {
    slc_publisher_close(publisher);
    return status;
  }
  *ret_publisher = publisher;
  return 0;
}

/* Publishers: the thin public side of struct slc__pub.
 *
 * Invariants:
 *   - loan, publish, discard and send take no lock, allocate nothing and make no system call of their own.
 *   - A loan is known by its token: index into the loan table and a count that grows each time an entry is given back,
 * so a stale one is refused and never obeyed.
 *   - The slot log sees only whole membership sets, exchanged in the publisher's own thread (sync).
 * Threads: one at a time per handle; slc__publisher_pushed from any thread, under the client's lock. */
#include "publisher.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "checksum.h"
#include "doorbell.h"
#include "growth.h"
#include "membership.h"
#include "settings.h"
#include "shm/retire.h"
#include "shm/slotlog.h"
#include "turn.h"
#include "watchers.h"

#define REFUSALS_PER_LOOK 256                 /* loans refused between two looks at the connection */
#define WAIT_SLICE_NS (50 * INT64_C(1000000)) /* between two looks at what the broker pushed */
#define TURN_SLICE_NS INT64_C(200000)         /* between two looks of one of several threads that use the handle */
#define OPEN_SLICE_NS (10 * INT64_C(1000000)) /* between two looks for the rest of a membership */

struct loan_entry {
  uint64_t capacity; /* 0: not on loan */
  void *data;
  uint32_t slot;
  uint32_t token;
  uint32_t generation; /* where the payload lies, when that is a later one; 0: the first */
  uint32_t flags;      /* SLC__FLAG_*: where that is */
};

struct slc_publisher {
  struct slc__guard guard;
  struct slc__turn turn;
  struct slc__pub pub;
  uint64_t slot_size;
  uint64_t first_capacity; /* payload bytes of a slot in the first buffers; 0: a split channel */
  struct loan_entry *loans;
  uint32_t *idle_loans; /* stack of the indices not on loan */
  uint32_t idle_count;
  uint32_t max_loans;
  uint32_t token_step; /* a power of two >= max_loans */
  bool has_timestamp;
  bool pub_ready;      /* `pub` has been made */
  bool is_the_first;   /* that the channel ever had */
  uint64_t is_special; /* not 0: has metadata, checksums, a callback before sending, or several threads */
  struct slc__checking checking;
  slc_before_send_fn before_send;
  void *callback_ctx;
  int64_t spin_ns;
  struct slc__doorbell doorbell;
  uint64_t refusals; /* loans that found no slot */

  struct slc__control control;
  struct slc__buffers buffers;
  struct slc__growth growth;
  struct slc__allocator allocator; /* of a split channel */
  struct slc__mapping control_mapping, buffers_mapping;
  struct slc__memory memory; /* of the channel, and how this publisher maps it */
  slc_client *client;
  uint64_t user;
  uint32_t id;
  uint32_t batch;
  uint32_t virtual_id;               /* 0: a plain channel */
  uint64_t virtual_base;             /* messages that had the id before */
  struct slc__members members;       /* under the client's lock */
  struct slc__watcher_sets watchers; /* under the client's lock */
  bool listed;                       /* under the client's lock */
  slc_publisher *next;               /* under the client's lock */
};

/* ---- what the broker says --------------------------------------------------------------------------------------- */

static slc_publisher *publisher_find(const slc_client *client, uint64_t user) {
  slc_publisher *publisher = client->publishers;
  while (publisher != NULL && publisher->user != user) publisher = publisher->next;
  return publisher;
}

int slc__publisher_pushed(slc_client *client, struct slc__received *received) {
  const Slotcast__Membership *page = received->message->membership;
  slc_publisher *publisher = publisher_find(client, page->user);
  if (publisher == NULL) return 0;
  received->memory = slc__memory_of(&publisher->control.geometry); /* as needed: a push must not fail */
  int status = slc__members_page(&publisher->members, page, received);
  return status != 0 ? status : slc__received_finish(received);
}

struct slc__watcher_sets *slc__publisher_watchers(slc_client *client, uint64_t user) {
  slc_publisher *publisher = publisher_find(client, user);
  return publisher != NULL ? &publisher->watchers : NULL;
}

/* The slot log's wish for newer doorbells of publishers: takes what has come, without waiting. */
static void sync_watchers(void *ctx, struct slc__watch *watch, uint64_t number) {
  slc_publisher *publisher = ctx;
  slc__watchers_sync(&publisher->watchers, publisher->client, watch, number);
}

/* The slot log's wish for a newer membership: takes what has come, without waiting. */
static bool sync_membership(void *ctx, uint64_t epoch) {
  slc_publisher *publisher = ctx;
  slc_client *client = publisher->client;
  struct slc__member_set *old = NULL;
  const struct slc__membership *view = NULL;
  pthread_mutex_lock(&client->lock);
  if (!slc__members_pending(&publisher->members, epoch)) slc__connection_drain(client);
  if (slc__members_pending(&publisher->members, 0)) view = slc__members_adopt(&publisher->members, &old);
  if (view != NULL) slc__pub_set_membership(&publisher->pub, view);
  slc__member_set_free(old);
  pthread_mutex_unlock(&client->lock);
  return view != NULL;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static int loans_make(slc_publisher *publisher, uint32_t max_loans) {
  uint32_t step = 1;
  while (step < max_loans) step *= 2;
  publisher->loans = calloc(max_loans, sizeof *publisher->loans);
  publisher->idle_loans = calloc(max_loans, sizeof *publisher->idle_loans);
  if (publisher->loans == NULL || publisher->idle_loans == NULL)
    return slc__fail(SLC_NO_MEMORY, "no memory for %u loans", max_loans);
  for (uint32_t i = 0; i < max_loans; i++) {
    publisher->loans[i].token = step + i;
    publisher->idle_loans[i] = max_loans - 1 - i;
  }
  publisher->max_loans = publisher->idle_count = max_loans;
  publisher->token_step = step;
  return 0;
}

static int objects_map(slc_publisher *publisher, const struct slc__geometry *shape, struct slc__received *received) {
  publisher->memory.backend = shape->backend;
  publisher->memory.pages = shape->pages;
  received->memory = publisher->memory;
  int status = slc__received_map(received, SLC__OBJECT_CONTROL, SLC__READ_WRITE, slc__layout_control_size(shape),
                                 &publisher->control_mapping);
  if (status != 0) return status;
  status = slc__received_map(received, SLC__OBJECT_BUFFERS, SLC__READ_WRITE, slc__layout_buffers_size(shape),
                             &publisher->buffers_mapping);
  if (status != 0) return status;
  slc__control_init(&publisher->control, shape, publisher->control_mapping.base);
  slc__buffers_init(&publisher->buffers, shape, publisher->buffers_mapping.base);
  publisher->slot_size = shape->slot_size;
  publisher->first_capacity = publisher->buffers.capacity;
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

/* Under the lock, so that pushes that follow find the publisher. */
static int publisher_opened(void *ctx, struct slc__received *received) {
  slc_publisher *publisher = ctx;
  if (received->message->body_case != SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED) return slc__answer_unexpected(received);
  const Slotcast__PublisherOpened *opened = received->message->publisher_opened;
  struct slc__geometry shape;
  int status = slc__received_geometry(opened->geometry, &shape);
  if (status == 0) status = opened_check(opened, &shape);
  if (status == 0) status = objects_map(publisher, &shape, received);
  if (status == 0) status = loans_make(publisher, opened->max_loans);
  received->memory = slc__memory_of(&shape);
  if (status == 0) status = slc__members_page(&publisher->members, opened->membership, received);
  if (status == 0) status = slc__received_finish(received);
  if (status != 0) return status;
  publisher->user = opened->user;
  publisher->id = opened->publisher_id;
  publisher->batch = opened->batch;
  publisher->virtual_id = opened->virtual_id;
  publisher->virtual_base = opened->virtual_base;
  publisher->is_the_first = opened->first;
  publisher->next = publisher->client->publishers;
  publisher->client->publishers = publisher;
  publisher->listed = true;
  return 0;
}

static int request_open(slc_publisher *publisher, const char *channel, const slc_publisher_options *options) {
  Slotcast__OpenPublisher body = SLOTCAST__OPEN_PUBLISHER__INIT;
  body.channel = (char *)channel;
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
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_PUBLISHER;
  message.open_publisher = &body;
  return slc__request(publisher->client, &message, -1, publisher_opened, publisher);
}

/* The first membership may have more pages than the answer could carry. */
static int first_membership(slc_publisher *publisher, const struct slc__membership **ret_view) {
  slc_client *client = publisher->client;
  for (;;) {
    struct slc__member_set *none = NULL;
    const struct slc__membership *view = NULL;
    pthread_mutex_lock(&client->lock);
    if (!slc__members_pending(&publisher->members, 0)) slc__connection_drain(client);
    if (slc__members_pending(&publisher->members, 0)) view = slc__members_adopt(&publisher->members, &none);
    pthread_mutex_unlock(&client->lock);
    if (view != NULL) {
      *ret_view = view;
      return 0;
    }
    if (atomic_load(&client->gone)) return slc__connection_gone(client);
    slc__connection_wait(client, SLC__DEADLINE_NEVER, OPEN_SLICE_NS);
  }
}

/* What loan and publish have to do beside fetching a slot and putting it into the log. */
static int specials_make(slc_publisher *publisher, const slc_publisher_options *options) {
  const struct slc__geometry *shape = &publisher->control.geometry;
  if (shape->checksum == SLC__CHECKSUM_OWN && options->compute_checksum == NULL)
    return slc__fail(SLC_INCOMPATIBLE,
                     "the channel's checksums of %u bytes are computed by its users: give compute_checksum",
                     shape->checksum_size);
  slc__checking_init(&publisher->checking, shape, options->compute_checksum, options->callback_ctx);
  publisher->before_send = options->before_send;
  publisher->callback_ctx = options->callback_ctx;
  publisher->is_special = shape->metadata_size != 0 || shape->checksum != SLC__CHECKSUM_NONE ||
                          publisher->before_send != NULL || publisher->turn.is_shared;
  return 0;
}

/* What this publisher alone has asked for. */
static int pub_choose(slc_publisher *publisher, const slc_publisher_options *options) {
  struct slc__pub *pub = &publisher->pub;
  pub->watch.sync = sync_watchers;
  pub->watch.ctx = publisher;
  if (!options->retirement || slc__retire_open(pub) == 0) return 0;
  return slc__fail(SLC_NO_MEMORY, "no memory for the retirement of %u messages", publisher->control.geometry.slots);
}

/* A split channel has its memory before there is a loan. */
static int split_begin(slc_publisher *publisher, const slc_publisher_options *options) {
  if (publisher->control.geometry.split == 0) return 0;
  publisher->allocator = (struct slc__allocator){
      .slots_per_object = options->slots_per_object != 0 ? options->slots_per_object : 1,
      .allocate = options->allocate_payload,
      .map = options->map_payload,
      .unmap = options->unmap_payload,
      .release = options->free_payload,
      .ctx = options->callback_ctx,
  };
  publisher->growth.generations.allocator = &publisher->allocator;
  return slc__growth_begin(&publisher->growth);
}

static int publisher_make(slc_publisher *publisher, const char *channel, const slc_publisher_options *options) {
  publisher->guard = publisher->client->guard;
  publisher->has_timestamp = !options->no_timestamp;
  publisher->spin_ns = slc__spin_ns(options->spin_ns);
  const struct slc__membership *view = NULL;
  publisher->memory.prefault = options->prefault != 0;
  publisher->memory.lock = options->lock_memory != 0;
  int status = request_open(publisher, channel, options);
  if (status == 0) status = specials_make(publisher, options);
  if (status == 0) status = first_membership(publisher, &view);
  if (status == 0)
    status = slc__pub_init(&publisher->pub, &publisher->control, &publisher->buffers, publisher->id, publisher->batch,
                           view, sync_membership, publisher);
  if (status != 0) return status;
  publisher->pub_ready = true;
  if (publisher->virtual_id != 0) slc__pub_set_virtual(&publisher->pub, publisher->virtual_id, publisher->virtual_base);
  publisher->growth = (struct slc__growth){
      .control = &publisher->control,
      .line = publisher->pub.line,
      .memory = publisher->memory,
      .client = publisher->client,
      .user = publisher->user,
      .on_growth = options->on_growth,
      .ctx = options->callback_ctx,
  };
  status = split_begin(publisher, options);
  if (status != 0) return status;
  return pub_choose(publisher, options);
}

static int send_activation(slc_publisher *publisher);

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
  if (status == 0 && chosen.activation && publisher->is_the_first) status = send_activation(publisher);
  publisher->pub.needs_subscriber = chosen.needs_subscriber != 0; /* who comes first waits for nobody with its first */
  if (status != 0) {
    slc_publisher_close(publisher);
    return status;
  }
  *ret_publisher = publisher;
  return 0;
}

/* ---- closing ---------------------------------------------------------------------------------------------------- */

static void publisher_unlist(slc_publisher *publisher) {
  if (!publisher->listed) return;
  for (slc_publisher **at = &publisher->client->publishers; *at != NULL; at = &(*at)->next) {
    if (*at != publisher) continue;
    *at = publisher->next;
    break;
  }
}

/* Gives back what lies in shared memory, so that nothing is left to repair, then says goodbye. */
static void publisher_leave(slc_publisher *publisher) {
  if (publisher->pub_ready) {
    for (uint32_t i = 0; i < publisher->max_loans; i++)
      if (publisher->loans[i].capacity != 0) slc__pub_discard(&publisher->pub, publisher->loans[i].slot);
    slc__pub_leave(&publisher->pub);
  }
  if (publisher->listed && !atomic_load(&publisher->client->gone))
    slc__request_close_user(publisher->client, publisher->user);
}

static void publisher_unmap(slc_publisher *publisher) {
  slc__turn_deinit(&publisher->turn);
  pthread_mutex_lock(&publisher->client->lock);
  publisher_unlist(publisher);
  slc__members_deinit(&publisher->members);
  pthread_mutex_unlock(&publisher->client->lock);
  slc__mapping_deinit(&publisher->control_mapping);
  slc__mapping_deinit(&publisher->buffers_mapping);
  slc__generations_deinit(&publisher->growth.generations);
}

void slc_publisher_close(slc_publisher *publisher) {
  if (publisher == NULL) return;
  bool forked = slc__guard_forked(&publisher->client->guard);
  if (!forked) publisher_leave(publisher);
  if (publisher->pub_ready) slc__pub_deinit(&publisher->pub);
  /* In a forked child the writable mappings are not there, their addresses may be somebody else's by now, and the lock
   * may have been held by a thread that was not copied: only memory is freed. */
  if (forked) {
    publisher_unlist(publisher);
    slc__generations_forget(&publisher->growth.generations);
  } else {
    publisher_unmap(publisher);
  }
  slc__watchers_deinit(&publisher->watchers);
  slc__doorbell_close(&publisher->doorbell);
  free(publisher->idle_loans);
  free(publisher->loans);
  free(publisher);
}

/* ---- the data path ---------------------------------------------------------------------------------------------- */

/* A status of the slot log, with its sentence where it has one. */
static int log_status(int status) {
  if (status == 0 || status == SLC_WOULD_BLOCK || status == SLC_TIMED_OUT) return status;
  return slc__fail(status, "%s", slc__status_text(status));
}

static struct loan_entry *loan_find(const slc_publisher *publisher, const slc_loan *loan) {
  uint32_t index = loan->token & (publisher->token_step - 1);
  if (index >= publisher->max_loans) return NULL;
  struct loan_entry *entry = &publisher->loans[index];
  return entry->capacity != 0 && entry->token == loan->token && entry->slot == loan->slot ? entry : NULL;
}

static void loan_end(slc_publisher *publisher, struct loan_entry *entry) {
  if (__builtin_expect(entry->generation != 0, 0)) slc__growth_leave(&publisher->growth, entry->generation);
  entry->capacity = 0;
  entry->token += publisher->token_step;
  publisher->idle_loans[publisher->idle_count++] = (uint32_t)(entry - publisher->loans);
}

static int stale(void) {
  return slc__fail(SLC_STALE, "this loan is not on loan any more: it was published, discarded or never made");
}

/* Where the payload of a loaned slot goes: into the prefix, behind it, or into a later generation. */
static void payload_place(const slc_publisher *publisher, struct loan_entry *entry, uint64_t wanted,
                          const struct slc__generation *later) {
  uint32_t inline_max = publisher->buffers.inline_max;
  if (__builtin_expect(later != NULL, 0)) {
    entry->generation = later->number;
    entry->flags = SLC__FLAG_GROWN;
    entry->capacity = later->slot_size;
    entry->data = slc__generation_slot(later, entry->slot);
    return;
  }
  bool in_prefix = wanted <= inline_max;
  entry->generation = 0;
  entry->flags = in_prefix ? SLC__FLAG_INLINE : 0;
  entry->capacity = in_prefix && publisher->slot_size > inline_max ? inline_max : publisher->slot_size;
  entry->data = slc__pub_payload(&publisher->pub, entry->slot, in_prefix ? 1 : SLC__INLINE + 1);
}

/* A generation for a message that does not fit into the first buffers; *ret_later stays NULL for others. */
static int later_enter(slc_publisher *publisher, uint64_t size, struct slc__generation **ret_later) {
  if (__builtin_expect(size <= publisher->first_capacity, 1)) return 0;
  return slc__growth_enter(&publisher->growth, size, ret_later);
}

/* Without a broker nobody else says who died: reliable subscribers that did are not waited for. */
static void look_for_the_dead(slc_publisher *publisher) {
  slc__connection_visit(publisher->client);
  if (atomic_load_explicit(&publisher->client->gone, memory_order_relaxed))
    slc__members_forget_dead(&publisher->members);
}

/* For callers who try again and again instead of waiting. */
static void count_refusal(slc_publisher *publisher) {
  if (++publisher->refusals % REFUSALS_PER_LOOK == 0) look_for_the_dead(publisher);
}

/* The event loop is to hear when a loan may succeed that was refused. */
__attribute__((noinline, cold)) static int loan_refused(slc_publisher *publisher, int status) {
  if (status != SLC_WOULD_BLOCK) return log_status(status);
  count_refusal(publisher);
  publisher->doorbell.is_blocked = true;
  if (publisher->doorbell.fd >= 0) slc__doorbell_rearm(&publisher->doorbell, &publisher->pub);
  return status;
}

/* Any slot, or the one of a message. */
static inline int slot_loan(slc_publisher *publisher, const struct slc__retired *wanted, uint32_t *ret_slot) {
  int status = wanted == NULL ? slc__pub_loan(&publisher->pub, ret_slot) : slc__pub_loan_slot(&publisher->pub, wanted);
  if (__builtin_expect(status != 0, 0)) return loan_refused(publisher, status);
  if (wanted != NULL) *ret_slot = wanted->slot;
  if (__builtin_expect(publisher->doorbell.is_blocked, 0)) publisher->doorbell.is_blocked = false;
  return 0;
}

/* A loan for a message of up to `size` bytes, in this slot (NULL: in any). */
static int loan_make(slc_publisher *publisher, size_t size, const struct slc__retired *wanted, slc_loan *ret_loan) {
  struct slc__generation *later = NULL;
  uint64_t wanted_size = size != 0 ? size : publisher->slot_size;
  uint32_t slot = 0;
  int status;
  if (publisher->idle_count == 0)
    status = slc__fail(SLC_LOAN_LIMIT, "all %u loans of this publisher are in use: publish or discard one first",
                       publisher->max_loans);
  else
    status = later_enter(publisher, wanted_size, &later);
  if (status == 0) status = slot_loan(publisher, wanted, &slot);
  if (status != 0) {
    if (later != NULL) slc__growth_leave(&publisher->growth, later->number);
    return status;
  }
  struct loan_entry *entry = &publisher->loans[publisher->idle_loans[--publisher->idle_count]];
  entry->slot = slot;
  payload_place(publisher, entry, wanted_size, later);
  *ret_loan = (slc_loan){
      .data = entry->data,
      .capacity = (size_t)entry->capacity,
      .slot = slot,
      .token = entry->token,
  };
  return 0;
}

/* The time that publish gives a message whose caller gave none. */
static inline uint64_t timestamp_of_now(const slc_publisher *publisher) {
  return publisher->has_timestamp ? (uint64_t)slc__clock_ns() : 0;
}

/* One copy, into which the slot log's part is inlined. */
__attribute__((noinline)) static int loan_publish(slc_publisher *publisher, struct loan_entry *entry, size_t size,
                                                  uint64_t timestamp, uint32_t flags, uint64_t *ret_ordinal) {
  const struct slc__sending sending = {
      .size = size,
      .timestamp = timestamp,
      .flags = entry->flags | flags,
      .generation = entry->generation,
  };
  uint64_t ordinal;
  int status = slc__pub_publish(&publisher->pub, entry->slot, &sending, &ordinal);
  if (status != 0) return log_status(status);
  loan_end(publisher, entry);
  if (ret_ordinal != NULL) *ret_ordinal = ordinal + 1;
  return 0;
}

/* The entry of a loan of which `size` bytes are to be published; NULL, and why not. */
static inline struct loan_entry *loan_open(const slc_publisher *publisher, const slc_loan *loan, size_t size,
                                           int *ret_status) {
  struct loan_entry *entry = loan_find(publisher, loan);
  if (entry == NULL) {
    *ret_status = stale();
    return NULL;
  }
  if (size != 0 && size <= entry->capacity) return entry;
  *ret_status = slc__fail(SLC_INVALID, "a message of %zu bytes can't be published from a loan of %ju", size,
                          (uintmax_t)entry->capacity);
  return NULL;
}

/* ---- what only those pay for who asked for it, out of the way of the others ---- */

/* To be ended unless it fails. */
static inline int begin(slc_publisher *publisher) {
  if (slc__guard_forked(&publisher->guard)) return slc__guard_fail();
  slc__turn_begin(&publisher->turn);
  return 0;
}

static inline int end(slc_publisher *publisher, int status) {
  slc__turn_end(&publisher->turn);
  return status;
}

static int call_before_send(const slc_publisher *publisher, void *payload, size_t *size) {
  size_t before = *size;
  if (publisher->before_send(publisher->callback_ctx, payload, size) != 0)
    return slc__fail(SLC_REFUSED, "before_send refused this message of %zu bytes", before);
  if (*size == 0 || *size > before)
    return slc__fail(SLC_INVALID, "before_send made %zu bytes of a message of %zu: it may only lower them, not to 0",
                     *size, before);
  return 0;
}

/* The callback has the last word about the payload, so the checksum comes after it.  What a channel begins with is none
 * of the application's messages. */
static int loan_finish(slc_publisher *publisher, struct loan_entry *entry, size_t size, uint64_t timestamp,
                       uint32_t flags, uint64_t *ret_ordinal) {
  if (publisher->before_send != NULL && (flags & SLC__FLAG_ACTIVATION) == 0) {
    int status = call_before_send(publisher, entry->data, &size);
    if (status != 0) return status;
  }
  if (timestamp == 0) timestamp = timestamp_of_now(publisher);
  if (publisher->checking.kind != SLC__CHECKSUM_NONE) {
    const struct slc__checked checked = {.size = size, .timestamp = timestamp, .payload = entry->data};
    slc__checksum_write(&publisher->checking, &checked, slc__pub_extra(&publisher->pub, entry->slot));
  }
  return loan_publish(publisher, entry, size, timestamp, flags, ret_ordinal);
}

__attribute__((noinline, cold)) static int special_loan(slc_publisher *publisher, size_t size,
                                                        const struct slc__retired *wanted, slc_loan *ret_loan) {
  slc__turn_begin(&publisher->turn);
  int status = loan_make(publisher, size, wanted, ret_loan);
  if (status == 0 && publisher->checking.metadata_size != 0)
    ret_loan->metadata = slc__pub_extra(&publisher->pub, ret_loan->slot);
  return end(publisher, status);
}

__attribute__((noinline, cold)) static int special_publish(slc_publisher *publisher, const slc_loan *loan, size_t size,
                                                           uint64_t *ret_ordinal) {
  slc__turn_begin(&publisher->turn);
  int status = 0;
  struct loan_entry *entry = loan_open(publisher, loan, size, &status);
  if (entry != NULL) status = loan_finish(publisher, entry, size, loan->timestamp_ns, 0, ret_ordinal);
  return end(publisher, status);
}

/* ---- loan, publish, discard, send ---- */

int slc_publisher_loan(slc_publisher *publisher, size_t size, slc_loan *ret_loan) {
  if (slc__guard_forked(&publisher->guard)) return slc__guard_fail();
  if (__builtin_expect(publisher->is_special != 0, 0)) return special_loan(publisher, size, NULL, ret_loan);
  return loan_make(publisher, size, NULL, ret_loan);
}

int slc_publisher_loan_slot(slc_publisher *publisher, const slc_retired *retired, size_t size, slc_loan *ret_loan) {
  if (slc__guard_forked(&publisher->guard)) return slc__guard_fail();
  if (retired->ordinal == 0) return slc__fail(SLC_STALE, "no message has ordinal 0");
  const struct slc__retired wanted = {.ordinal = retired->ordinal - 1, .slot = retired->slot};
  return special_loan(publisher, size, &wanted, ret_loan);
}

int slc_publisher_publish(slc_publisher *publisher, slc_loan *loan, size_t size, uint64_t *ret_ordinal) {
  if (slc__guard_forked(&publisher->guard)) return slc__guard_fail();
  if (__builtin_expect((loan->timestamp_ns | publisher->is_special) != 0, 0))
    return special_publish(publisher, loan, size, ret_ordinal);
  int status = 0;
  struct loan_entry *entry = loan_open(publisher, loan, size, &status);
  if (entry == NULL) return status;
  return loan_publish(publisher, entry, size, timestamp_of_now(publisher), 0, ret_ordinal);
}

static void loan_discard(slc_publisher *publisher, struct loan_entry *entry) {
  slc__pub_discard(&publisher->pub, entry->slot);
  loan_end(publisher, entry);
}

int slc_publisher_discard(slc_publisher *publisher, slc_loan *loan) {
  int status = begin(publisher);
  if (status != 0) return status;
  struct loan_entry *entry = loan_find(publisher, loan);
  if (entry == NULL) return end(publisher, stale());
  loan_discard(publisher, entry);
  return end(publisher, 0);
}

/* A copy of `data`, with metadata of zeros. */
static int send_copy(slc_publisher *publisher, const void *data, size_t size, uint32_t flags, uint64_t *ret_ordinal) {
  slc_loan loan;
  int status = loan_make(publisher, size, NULL, &loan);
  if (status != 0) return status;
  memcpy(loan.data, data, size);
  if (publisher->checking.metadata_size != 0)
    memset(slc__pub_extra(&publisher->pub, loan.slot), 0, publisher->checking.metadata_size);
  struct loan_entry *entry = loan_find(publisher, &loan);
  status = loan_finish(publisher, entry, size, 0, flags, ret_ordinal);
  if (status != 0) loan_discard(publisher, entry);
  return status;
}

int slc_publisher_send(slc_publisher *publisher, const void *data, size_t size, uint64_t *ret_ordinal) {
  int status = begin(publisher);
  if (status != 0) return status;
  if (size == 0) return end(publisher, slc__fail(SLC_INVALID, "a message has at least one byte"));
  return end(publisher, send_copy(publisher, data, size, 0, ret_ordinal));
}

/* What a channel begins with, so that who comes later finds something: a message has at least one byte. */
static int send_activation(slc_publisher *publisher) {
  return send_copy(publisher, "", 1, SLC__FLAG_ACTIVATION, NULL);
}

/* ---- retirement, readiness --------------------------------------------------------------------------------------- */

static int retired_take(slc_publisher *publisher, slc_retired *ret_retired, size_t max, size_t *ret_count) {
  enum { AT_ONCE = 64 };
  struct slc__pub *pub = &publisher->pub;
  if (pub->retire == NULL) return slc__fail(SLC_INVALID, "this publisher was opened without `retirement`");
  if (max == 0) return slc__fail(SLC_INVALID, "there is room for no retired message");
  if (!slc__retire_look(pub)) {
    if (publisher->doorbell.fd >= 0) slc__doorbell_rearm(&publisher->doorbell, pub);
    return SLC_EMPTY;
  }
  struct slc__retired some[AT_ONCE];
  size_t total = 0;
  for (size_t count = AT_ONCE; count == AT_ONCE && total < max; total += count) {
    count = slc__retire_take(pub, some, max - total < AT_ONCE ? max - total : AT_ONCE);
    for (size_t i = 0; i < count; i++)
      ret_retired[total + i] = (slc_retired){.ordinal = some[i].ordinal + 1, .slot = some[i].slot};
  }
  *ret_count = total;
  return 0;
}

int slc_publisher_retired(slc_publisher *publisher, slc_retired *ret_retired, size_t max, size_t *ret_count) {
  int status = begin(publisher);
  return status != 0 ? status : end(publisher, retired_take(publisher, ret_retired, max, ret_count));
}

int slc_publisher_fd(slc_publisher *publisher, int *ret_fd) {
  int status = begin(publisher);
  if (status != 0) return status;
  if (publisher->doorbell.fd < 0) status = slc__doorbell_open(&publisher->doorbell, publisher->client, publisher->user);
  if (status == 0) *ret_fd = publisher->doorbell.fd;
  return end(publisher, status);
}

/* Without retirement there is always something: a loan, or the end of what refuses it. */
static bool has_something(slc_publisher *publisher) {
  struct slc__pub *pub = &publisher->pub;
  if (pub->retire == NULL) {
    publisher->doorbell.is_blocked = !slc__pub_ready(pub);
    return !publisher->doorbell.is_blocked;
  }
  return slc__retire_look(pub) || (publisher->doorbell.is_blocked && slc__pub_ready(pub));
}

bool slc__publisher_look(slc_publisher *publisher) {
  if (begin(publisher) != 0) return true; /* what it says is for its caller to hear */
  bool ready = has_something(publisher) || !slc__doorbell_rearm(&publisher->doorbell, &publisher->pub);
  end(publisher, 0);
  return ready;
}

/* ---- waiting, statistics ---------------------------------------------------------------------------------------- */

static int wait_alone(slc_publisher *publisher, int64_t until) {
  return slc__pub_wait(&publisher->pub, until, publisher->spin_ns);
}

/* For one of several threads: looks in its turn, and polls or sleeps a little outside.  Not on the words of the slot
 * log: these may go while another thread learns who subscribes. */
static int wait_in_turns(slc_publisher *publisher, int64_t until) {
  for (int64_t polls_until = slc__deadline_after(publisher->spin_ns);;) {
    slc__turn_begin(&publisher->turn);
    int status = slc__pub_wait(&publisher->pub, 0, 0);
    slc__turn_end(&publisher->turn);
    int64_t now = slc__clock_ns();
    if (status != SLC_TIMED_OUT || now >= until) return status;
    if (now < polls_until) {
      slc__turn_pass();
      continue;
    }
    struct timespec pause = slc__clock_timespec(until - now < TURN_SLICE_NS ? until - now : TURN_SLICE_NS);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
  }
}

int slc_publisher_wait(slc_publisher *publisher, int64_t timeout_ns) {
  if (slc__guard_forked(&publisher->guard)) return slc__guard_fail();
  int64_t deadline = slc__deadline_after(timeout_ns);
  for (;;) {
    int64_t slice = slc__deadline_after(WAIT_SLICE_NS);
    int64_t until = slice < deadline ? slice : deadline;
    int status = publisher->turn.is_shared ? wait_in_turns(publisher, until) : wait_alone(publisher, until);
    if (status != SLC_TIMED_OUT) return log_status(status);
    if (until == deadline) return SLC_TIMED_OUT;
    slc__turn_begin(&publisher->turn);
    look_for_the_dead(publisher);
    slc__turn_end(&publisher->turn);
  }
}

int slc_publisher_stats_get(slc_publisher *publisher, slc_publisher_stats *ret_stats) {
  if (slc__guard_forked(&publisher->guard)) return slc__guard_fail();
  const struct slc__control_page *page = publisher->control.page;
  const struct slc__publisher_line *line = publisher->pub.line;
  slc_publisher_stats stats = {
      .slots = publisher->control.geometry.slots,
      .slot_size = publisher->slot_size,
      .messages = atomic_load_explicit(&line->messages, memory_order_relaxed),
      .bytes = atomic_load_explicit(&line->bytes, memory_order_relaxed),
      .would_block = atomic_load_explicit(&line->would_block, memory_order_relaxed),
      .wakes = atomic_load_explicit(&line->wakes, memory_order_relaxed),
      .subscribers = atomic_load_explicit(&page->subscribers, memory_order_acquire), /* they get what comes next */
      .publishers = atomic_load_explicit(&page->publishers, memory_order_relaxed),
      .generation = atomic_load_explicit(&page->generation, memory_order_relaxed),
      .virtual_id = publisher->virtual_id,
  };
  return slc__stats_copy(ret_stats, &stats, sizeof stats);
}

/* ---- payloads of split channels --------------------------------------------------------------------------------- */

int slc_publisher_payload(slc_publisher *publisher, const void *address, slc_payload_info *ret_payload) {
  int status = begin(publisher);
  if (status != 0) return status;
  return end(publisher, slc__generations_payload(&publisher->growth.generations, address, ret_payload));
}

int slc_publisher_payloads(slc_publisher *publisher, slc_payload_info *ret_payloads, size_t max, size_t *ret_count) {
  int status = begin(publisher);
  if (status != 0) return status;
  slc__generations_payloads(&publisher->growth.generations, ret_payloads, max, ret_count);
  return end(publisher, 0);
}

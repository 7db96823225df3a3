/* Publishers: the thin public side of struct slc__pub.
 *
 * Invariants:
 *   - loan, publish, discard and send take no lock, allocate nothing and make no system call of their own.
 *   - A loan is known by its token: index into the loan table and a count that grows each time an entry is given back,
 * so a stale one is refused and never obeyed.
 *   - The slot log sees only whole membership sets, exchanged in the publisher's own thread (sync).
 * Threads: one at a time per handle; slc__publisher_pushed from any thread, under the client's lock. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "publisher_handle.h"
#include "settings.h"
#include "shm/retire.h"

#define REFUSALS_PER_LOOK 256                 /* loans refused between two looks at the connection */
#define WAIT_SLICE_NS (50 * INT64_C(1000000)) /* between two looks at what the broker pushed */
#define TURN_SLICE_NS INT64_C(200000)         /* between two looks of one of several threads that use the handle */

/* ---- the data path ---------------------------------------------------------------------------------------------- */

static inline uint64_t specials(const slc_publisher *publisher) {
  return atomic_load_explicit(&publisher->is_special, memory_order_relaxed);
}

/* A status of the slot log, with its sentence where it has one. */
static int log_status(int status) {
  if (status == 0 || status == SLC_WOULD_BLOCK || status == SLC_TIMED_OUT) return status;
  return slc__fail(status, "%s", slc__status_text(status));
}

static void loan_end(struct slc__stand *stand, struct slc__loan_entry *entry) {
  if (__builtin_expect(entry->spot.generation != 0, 0)) slc__growth_leave(&stand->growth, entry->spot.generation);
  entry->spot.capacity = 0;
  entry->name = slc__loan_name((uint32_t)(entry->name >> 32) + stand->token_step, 0);
  entry->next = stand->idle;
  stand->idle = entry;
}

/* What is on loan from a channel that the handle has left ends where it is wanted for something. */
__attribute__((noinline, cold)) static int stale(slc_publisher *publisher, const slc_loan *loan) {
  if (slc__publisher_past_end(publisher, loan))
    return slc__fail(SLC_STALE, "this loan is of a channel that has gone with its broker: loan another");
  return slc__fail(SLC_STALE, "this loan is not on loan any more: it was published, discarded or never made");
}

/* Without a broker nobody else says who died: reliable subscribers that did are not waited for. */
static void look_for_the_dead(slc_publisher *publisher) {
  slc__connection_visit(publisher->client);
  if (atomic_load_explicit(&publisher->client->gone, memory_order_relaxed))
    slc__members_forget_dead(&publisher->on.members);
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
  if (publisher->doorbell.fd >= 0) slc__doorbell_rearm(&publisher->doorbell, &publisher->on.pub);
  return status;
}

/* Any slot, or the one of a message. */
static inline int slot_loan(slc_publisher *publisher, const struct slc__retired *wanted, uint32_t *ret_slot) {
  int status =
      wanted == NULL ? slc__pub_loan(&publisher->on.pub, ret_slot) : slc__pub_loan_slot(&publisher->on.pub, wanted);
  if (__builtin_expect(status != 0, 0)) return loan_refused(publisher, status);
  if (wanted != NULL) *ret_slot = wanted->slot;
  if (__builtin_expect(publisher->doorbell.is_blocked, 0)) publisher->doorbell.is_blocked = false;
  return 0;
}

/* An entry for a slot and a spot; there is an idle one. */
static inline void loan_begin(struct slc__stand *stand, uint32_t slot, const struct slc__spot *spot, uint8_t *data,
                              slc_loan *ret_loan) {
  struct slc__loan_entry *entry = stand->idle;
  uint64_t name = entry->name | slot;
  stand->idle = entry->next;
  entry->name = name;
  entry->spot = *spot;
  entry->data = data;
  *ret_loan = (slc_loan){
      .data = data,
      .capacity = (size_t)spot->capacity,
      .slot = (uint32_t)name,
      .token = (uint32_t)(name >> 32),
      .metadata = NULL,
      .timestamp_ns = 0,
  };
}

/* The same in the first buffers, which have room for so much. */
static inline void loan_begin_first(struct slc__stand *stand, uint32_t slot, uint64_t size, slc_loan *ret_loan) {
  const struct slc__row *row = size <= stand->in_prefix.spot.capacity ? &stand->in_prefix : &stand->behind;
  loan_begin(stand, slot, &row->spot, row->first + stand->pub.buffers.stride * slot, ret_loan);
}

static void loan_begin_later(struct slc__stand *stand, uint32_t slot, const struct slc__generation *later,
                             slc_loan *ret_loan) {
  const struct slc__spot spot = {.capacity = later->slot_size, .flags = SLC__FLAG_GROWN, .generation = later->number};
  loan_begin(stand, slot, &spot, slc__generation_slot(later, slot), ret_loan);
}

/* A generation for a message that does not fit into the first buffers; *ret_later stays NULL for others.  Where the
 * broker is lost meanwhile, and with it the channel, on the channel that follows. */
static int later_enter(slc_publisher *publisher, uint64_t size, struct slc__generation **ret_later) {
  int status = 0;
  while (status == 0 && *ret_later == NULL && size > publisher->on.behind.spot.capacity) {
    status = slc__growth_enter(&publisher->on.growth, size, ret_later);
    if (status == SLC_GONE) status = slc__publisher_follow(publisher);
  }
  return status;
}

/* A loan for a message of up to `size` bytes, in this slot (NULL: in any). */
__attribute__((noinline)) static int loan_fully(slc_publisher *publisher, size_t size,
                                                const struct slc__retired *wanted, slc_loan *ret_loan) {
  struct slc__stand *stand = &publisher->on;
  struct slc__generation *later = NULL;
  uint64_t wanted_size = size != 0 ? size : stand->slot_size;
  uint32_t slot = 0;
  if (stand->idle == NULL)
    return slc__fail(SLC_LOAN_LIMIT, "all %u loans of this publisher are in use: publish or discard one first",
                     stand->max_loans);
  int status = later_enter(publisher, wanted_size, &later);
  if (status == 0) status = slot_loan(publisher, wanted, &slot);
  if (status != 0) {
    if (later != NULL) slc__growth_leave(&stand->growth, later->number);
    return status;
  }
  if (later != NULL)
    loan_begin_later(stand, slot, later, ret_loan);
  else
    loan_begin_first(stand, slot, wanted_size, ret_loan);
  return 0;
}

/* Whether the next loan asks for nothing but an entry and a slot, and both are in hand. */
static inline bool is_in_hand(const slc_publisher *publisher, uint64_t size) {
  const struct slc__stand *stand = &publisher->on;
  return size - 1 < stand->behind.spot.capacity && stand->idle != NULL && stand->pub.free_count > 0 &&
         !stand->pub.needs_subscriber && !publisher->doorbell.is_blocked;
}

/* In any slot.  What is seldom is left to another function as a whole, so that the registers that it needs are saved
 * only there. */
static inline int loan_make(slc_publisher *publisher, size_t size, slc_loan *ret_loan) {
  uint32_t slot;
  if (__builtin_expect(!is_in_hand(publisher, size), 0)) return loan_fully(publisher, size, NULL, ret_loan);
  slc__pub_loan(&publisher->on.pub, &slot);
  loan_begin_first(&publisher->on, slot, size, ret_loan);
  return 0;
}

/* The time that publish gives a message whose caller gave none. */
static inline uint64_t timestamp_of_now(const slc_publisher *publisher) {
  return publisher->has_timestamp ? (uint64_t)slc__clock_ns() : 0;
}

/* One copy, into which the slot log's part is inlined. */
__attribute__((noinline)) static int loan_publish(slc_publisher *publisher, struct slc__loan_entry *entry, size_t size,
                                                  uint64_t timestamp, uint64_t *ret_ordinal) {
  const struct slc__sending sending = {
      .size = size,
      .timestamp = timestamp,
      .flags = entry->spot.flags,
      .generation = entry->spot.generation,
  };
  uint64_t ordinal;
  int status = slc__pub_publish(&publisher->on.pub, slc__loan_slot(entry), &sending, &ordinal);
  if (status != 0) return log_status(status);
  loan_end(&publisher->on, entry);
  if (ret_ordinal != NULL) *ret_ordinal = ordinal + 1;
  return 0;
}

/* Why `size` bytes can't be published from this loan. */
__attribute__((noinline, cold)) static int unpublishable(slc_publisher *publisher, const slc_loan *loan, size_t size) {
  const struct slc__loan_entry *entry = slc__loan_find(&publisher->on, loan, 1);
  if (entry == NULL) return stale(publisher, loan);
  return slc__fail(SLC_INVALID, "a message of %zu bytes can't be published from a loan of %ju", size,
                   (uintmax_t)entry->spot.capacity);
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

/* Before a message, with the time that it is to have (0: none): now and then, so that one that publishes seldom does
 * not go on for long where nobody is any more. */
static inline bool is_look_due(const slc_publisher *publisher, uint64_t timestamp) {
  return __builtin_expect((int64_t)timestamp - publisher->visited_at > SLC__PUBLISHER_LOOK_NS, 0);
}

__attribute__((noinline, cold)) static void look_around(slc_publisher *publisher, uint64_t timestamp) {
  publisher->visited_at = (int64_t)timestamp;
  slc__connection_visit(publisher->client);
}

/* Over to the channel that the handle is on from now on, if it is another.  In the turn. */
static inline int move(slc_publisher *publisher) {
  if (__builtin_expect((specials(publisher) & SLC__SPECIAL_MOVES) == 0, 1)) return 0;
  return slc__publisher_move(publisher);
}

/* As begin, on the channel that the handle is on from now on. */
static inline int begin_here(slc_publisher *publisher) {
  int status = begin(publisher);
  if (status != 0) return status;
  status = move(publisher);
  return status != 0 ? end(publisher, status) : 0;
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
static int loan_finish(slc_publisher *publisher, struct slc__loan_entry *entry, size_t size, uint64_t timestamp,
                       uint64_t *ret_ordinal) {
  if (publisher->before_send != NULL && (entry->spot.flags & SLC__FLAG_ACTIVATION) == 0) {
    int status = call_before_send(publisher, entry->data, &size);
    if (status != 0) return status;
  }
  if (publisher->checking.kind != SLC__CHECKSUM_NONE) {
    const struct slc__checked checked = {.size = size, .timestamp = timestamp, .payload = entry->data};
    slc__checksum_write(&publisher->checking, &checked, slc__pub_extra(&publisher->on.pub, slc__loan_slot(entry)));
  }
  return loan_publish(publisher, entry, size, timestamp, ret_ordinal);
}

__attribute__((noinline, cold)) static int special_loan(slc_publisher *publisher, size_t size,
                                                        const struct slc__retired *wanted, slc_loan *ret_loan) {
  slc__turn_begin(&publisher->turn);
  int status = move(publisher);
  if (status == 0)
    status = wanted == NULL ? loan_make(publisher, size, ret_loan) : loan_fully(publisher, size, wanted, ret_loan);
  if (status == 0 && publisher->checking.metadata_size != 0)
    ret_loan->metadata = slc__pub_extra(&publisher->on.pub, ret_loan->slot);
  return end(publisher, status);
}

__attribute__((noinline, cold)) static int special_publish(slc_publisher *publisher, const slc_loan *loan, size_t size,
                                                           uint64_t *ret_ordinal) {
  slc__turn_begin(&publisher->turn);
  uint64_t timestamp = loan->timestamp_ns != 0 ? loan->timestamp_ns : timestamp_of_now(publisher);
  if (loan->timestamp_ns == 0 && is_look_due(publisher, timestamp)) look_around(publisher, timestamp);
  int status = move(publisher);
  if (status != 0) return end(publisher, status);
  struct slc__loan_entry *entry = slc__loan_find(&publisher->on, loan, size);
  if (entry == NULL) return end(publisher, unpublishable(publisher, loan, size));
  return end(publisher, loan_finish(publisher, entry, size, timestamp, ret_ordinal));
}

/* ---- loan, publish, discard, send ---- */

int slc_publisher_loan(slc_publisher *publisher, size_t size, slc_loan *ret_loan) {
  if (slc__guard_forked(&publisher->guard)) return slc__guard_fail();
  if (__builtin_expect(specials(publisher) != 0, 0)) return special_loan(publisher, size, NULL, ret_loan);
  return loan_make(publisher, size, ret_loan);
}

int slc_publisher_loan_slot(slc_publisher *publisher, const slc_retired *retired, size_t size, slc_loan *ret_loan) {
  if (slc__guard_forked(&publisher->guard)) return slc__guard_fail();
  if (retired->ordinal == 0) return slc__fail(SLC_STALE, "no message has ordinal 0");
  const struct slc__retired wanted = {.ordinal = retired->ordinal - 1, .slot = retired->slot};
  return special_loan(publisher, size, &wanted, ret_loan);
}

static inline int plain_publish(slc_publisher *publisher, const slc_loan *loan, size_t size, uint64_t timestamp,
                                uint64_t *ret_ordinal) {
  struct slc__loan_entry *entry = slc__loan_find(&publisher->on, loan, size);
  if (entry == NULL) return unpublishable(publisher, loan, size);
  return loan_publish(publisher, entry, size, timestamp, ret_ordinal);
}

__attribute__((noinline)) static int stamped_publish(slc_publisher *publisher, const slc_loan *loan, size_t size,
                                                     uint64_t *ret_ordinal) {
  uint64_t timestamp = (uint64_t)slc__clock_ns();
  if (is_look_due(publisher, timestamp)) return special_publish(publisher, loan, size, ret_ordinal);
  return plain_publish(publisher, loan, size, timestamp, ret_ordinal);
}

int slc_publisher_publish(slc_publisher *publisher, slc_loan *loan, size_t size, uint64_t *ret_ordinal) {
  if (slc__guard_forked(&publisher->guard)) return slc__guard_fail();
  if (__builtin_expect((loan->timestamp_ns | specials(publisher)) != 0, 0))
    return special_publish(publisher, loan, size, ret_ordinal);
  if (publisher->has_timestamp) return stamped_publish(publisher, loan, size, ret_ordinal);
  return plain_publish(publisher, loan, size, 0, ret_ordinal);
}

static void loan_discard(slc_publisher *publisher, struct slc__loan_entry *entry) {
  slc__pub_discard(&publisher->on.pub, slc__loan_slot(entry));
  loan_end(&publisher->on, entry);
}

int slc_publisher_discard(slc_publisher *publisher, slc_loan *loan) {
  int status = begin(publisher);
  if (status != 0) return status;
  struct slc__loan_entry *entry = slc__loan_find(&publisher->on, loan, 1);
  if (entry == NULL && slc__publisher_past_end(publisher, loan)) return end(publisher, 0);
  if (entry == NULL) return end(publisher, stale(publisher, loan));
  loan_discard(publisher, entry);
  return end(publisher, 0);
}

/* A copy of `data`, with metadata of zeros. */
static int send_copy(slc_publisher *publisher, const void *data, size_t size, uint64_t timestamp, uint32_t flags,
                     uint64_t *ret_ordinal) {
  slc_loan loan;
  int status = loan_make(publisher, size, &loan);
  if (status != 0) return status;
  memcpy(loan.data, data, size);
  if (publisher->checking.metadata_size != 0)
    memset(slc__pub_extra(&publisher->on.pub, loan.slot), 0, publisher->checking.metadata_size);
  struct slc__loan_entry *entry = slc__loan_find(&publisher->on, &loan, size);
  entry->spot.flags |= flags;
  status = loan_finish(publisher, entry, size, timestamp, ret_ordinal);
  if (status != 0) loan_discard(publisher, entry);
  return status;
}

int slc_publisher_send(slc_publisher *publisher, const void *data, size_t size, uint64_t *ret_ordinal) {
  int status = begin(publisher);
  if (status != 0) return status;
  if (size == 0) return end(publisher, slc__fail(SLC_INVALID, "a message has at least one byte"));
  uint64_t timestamp = timestamp_of_now(publisher);
  if (is_look_due(publisher, timestamp)) look_around(publisher, timestamp);
  status = move(publisher);
  return end(publisher, status != 0 ? status : send_copy(publisher, data, size, timestamp, 0, ret_ordinal));
}

/* What a channel begins with, so that who comes later finds something: a message has at least one byte. */
int slc__publisher_send_activation(slc_publisher *publisher) {
  return send_copy(publisher, "", 1, timestamp_of_now(publisher), SLC__FLAG_ACTIVATION, NULL);
}

/* ---- retirement, readiness --------------------------------------------------------------------------------------- */

static int retired_take(slc_publisher *publisher, slc_retired *ret_retired, size_t max, size_t *ret_count) {
  enum { AT_ONCE = 64 };
  struct slc__pub *pub = &publisher->on.pub;
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
  int status = begin_here(publisher);
  return status != 0 ? status : end(publisher, retired_take(publisher, ret_retired, max, ret_count));
}

int slc_publisher_fd(slc_publisher *publisher, int *ret_fd) {
  int status = begin_here(publisher);
  if (status != 0) return status;
  if (publisher->doorbell.fd < 0)
    status = slc__doorbell_open(&publisher->doorbell, publisher->client, publisher->on.user);
  if (status == 0) *ret_fd = publisher->doorbell.fd;
  return end(publisher, status);
}

/* Without retirement there is always something: a loan, or the end of what refuses it. */
static bool has_something(slc_publisher *publisher) {
  struct slc__pub *pub = &publisher->on.pub;
  if (pub->retire == NULL) {
    publisher->doorbell.is_blocked = !slc__pub_ready(pub);
    return !publisher->doorbell.is_blocked;
  }
  return slc__retire_look(pub) || (publisher->doorbell.is_blocked && slc__pub_ready(pub));
}

void slc__publisher_look_around(slc_publisher *publisher) {
  if (begin(publisher) != 0) return;
  slc__connection_visit(publisher->client);
  end(publisher, 0);
}

bool slc__publisher_look(slc_publisher *publisher) {
  if (begin_here(publisher) != 0) return true; /* what it says is for its caller to hear */
  bool ready = has_something(publisher) || !slc__doorbell_rearm(&publisher->doorbell, &publisher->on.pub);
  end(publisher, 0);
  return ready;
}

/* ---- waiting, statistics ---------------------------------------------------------------------------------------- */

static int wait_alone(slc_publisher *publisher, int64_t until) {
  return slc__pub_wait(&publisher->on.pub, until, publisher->spin_ns);
}

/* For one of several threads: looks in its turn, and polls or sleeps a little outside.  Not on the words of the slot
 * log: these may go while another thread learns who subscribes. */
static int wait_in_turns(slc_publisher *publisher, int64_t until) {
  for (int64_t polls_until = slc__deadline_after(publisher->spin_ns);;) {
    slc__turn_begin(&publisher->turn);
    int status = slc__pub_wait(&publisher->on.pub, 0, 0);
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
    int status = begin_here(publisher);
    if (status != 0) return status;
    end(publisher, 0);
    status = publisher->turn.is_shared ? wait_in_turns(publisher, until) : wait_alone(publisher, until);
    if (status != SLC_TIMED_OUT) return log_status(status);
    if (until == deadline) return SLC_TIMED_OUT;
    slc__connection_visit_long(publisher->client, deadline);
    slc__turn_begin(&publisher->turn);
    look_for_the_dead(publisher);
    slc__turn_end(&publisher->turn);
  }
}

int slc_publisher_stats_get(slc_publisher *publisher, slc_publisher_stats *ret_stats) {
  int status = begin(publisher);
  if (status != 0) return status;
  const struct slc__control_page *page = publisher->on.control.page;
  const struct slc__publisher_line *line = publisher->on.pub.line;
  slc_publisher_stats stats = {
      .slots = publisher->on.control.geometry.slots,
      .slot_size = publisher->on.slot_size,
      .messages = atomic_load_explicit(&line->messages, memory_order_relaxed),
      .bytes = atomic_load_explicit(&line->bytes, memory_order_relaxed),
      .would_block = atomic_load_explicit(&line->would_block, memory_order_relaxed),
      .wakes = atomic_load_explicit(&line->wakes, memory_order_relaxed),
      .subscribers = atomic_load_explicit(&page->subscribers, memory_order_acquire), /* they get what comes next */
      .publishers = atomic_load_explicit(&page->publishers, memory_order_relaxed),
      .generation = atomic_load_explicit(&page->generation, memory_order_relaxed),
      .virtual_id = publisher->on.virtual_id,
  };
  return end(publisher, slc__stats_copy(ret_stats, &stats, sizeof stats));
}

/* ---- payloads of split channels --------------------------------------------------------------------------------- */

int slc_publisher_payload(slc_publisher *publisher, const void *address, slc_payload_info *ret_payload) {
  int status = begin_here(publisher);
  if (status != 0) return status;
  return end(publisher, slc__generations_payload(&publisher->on.growth.generations, address, ret_payload));
}

int slc_publisher_payloads(slc_publisher *publisher, slc_payload_info *ret_payloads, size_t max, size_t *ret_count) {
  int status = begin_here(publisher);
  if (status != 0) return status;
  slc__generations_payloads(&publisher->on.growth.generations, ret_payloads, max, ret_count);
  return end(publisher, 0);
}

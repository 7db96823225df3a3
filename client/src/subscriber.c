/* Subscribers: the thin public side of struct slc__sub.
 *
 * Invariants:
 *   - take and release take no lock, allocate nothing and make no system call of their own, except take where it leaves
 *     or finds nothing: then it keeps the readiness descriptor, and looks now and then whether the broker has gone.
 *   - A message is known by hold and ordinal, so one that has been released is refused and never obeyed; the number of
 * a hold says also on which of the handle's channels it was taken. Threads: one at a time per handle. */
#include <stdlib.h>

#include "base/error.h"
#include "settings.h"
#include "subscriber_handle.h"

/* ---- the data path ---------------------------------------------------------------------------------------------- */

int slc__subscriber_disconnected(const slc_subscriber *subscriber) {
  static const char *const did[] = {
      [SLC__CLOSED_OVERRUN] = "did not keep up and lost messages",
      [SLC__CLOSED_HOLDS] = "did not release a message for too long",
      [SLC__CLOSED_STALLS] = "kept publishers waiting for too long",
  };
  uint32_t why = slc__sub_closed(&subscriber->on.sub);
  return slc__fail(SLC_DISCONNECTED, "this subscriber %s, and its channel disconnects those: close it, open a new one",
                   why < sizeof did / sizeof did[0] && did[why] != NULL ? did[why] : "was too slow");
}

/* The statuses of a take that brought nothing; those of the broker have their sentence. */
static int take_nothing(slc_subscriber *subscriber, int status) {
  if (status == SLC_DISCONNECTED) return slc__subscriber_disconnected(subscriber);
  if (status == SLC_HOLD_LIMIT || status == SLC_CORRUPT) return slc__fail(status, "%s", slc__status_text(status));
  if (status != SLC_EMPTY) return status;
  slc__subscriber_look_around(subscriber);
  if (subscriber->on.attachment.shape.split != 0) slc__subscriber_fetch_newest(subscriber);
  return status;
}

/* A generation stays mapped while a message in it is held. */
static void generation_count(slc_subscriber *subscriber, uint32_t number, int32_t change) {
  struct slc__generation *generation = slc__generations_find(&subscriber->on.generations, number);
  if (generation != NULL) generation->users += (uint32_t)change;
}

static inline void message_fill(slc_subscriber *subscriber, const struct slc__taken *taken, slc_message *ret_message) {
  subscriber->on.held[taken->hold] = (struct slc__held){.ordinal = taken->ordinal + 1, .generation = taken->generation};
  if (__builtin_expect(taken->generation != 0, 0)) generation_count(subscriber, taken->generation, 1);
  *ret_message = (slc_message){
      .data = taken->payload,
      .size = (size_t)taken->size,
      .ordinal = taken->ordinal + 1,
      .timestamp_ns = taken->timestamp,
      .publisher = taken->publisher,
      .hold = taken->hold + subscriber->on.hold_base,
      .slot = taken->slot,
      .flags = 0,
      .metadata = NULL,
      .metadata_size = 0,
      .virtual_id = 0,
      .virtual_ordinal = 0,
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
  if (subscriber->on.view.counts != NULL && (taken->flags & SLC__FLAG_VIRTUAL) != 0) {
    struct slc__virtual_name name = slc__virtual_name(&subscriber->on.sub, taken->slot);
    ret_message->virtual_id = name.id;
    ret_message->virtual_ordinal = name.ordinal;
  }
  return 0;
}

static inline int end(slc_subscriber *subscriber, int status) {
  slc__turn_end(&subscriber->turn);
  return status;
}

/* To be ended unless it fails. */
static inline int begin(slc_subscriber *subscriber) {
  if (slc__guard_forked(&subscriber->guard)) return slc__guard_fail();
  slc__turn_begin(&subscriber->turn);
  int status = slc__subscriber_here(subscriber);
  return __builtin_expect(status == 0, 1) ? 0 : end(subscriber, status);
}

/* After something was taken: readable exactly while there is more. */
static void readiness_keep(slc_subscriber *subscriber) {
  if (subscriber->bell_fd >= 0 && !slc__sub_ready(&subscriber->on.sub)) slc__subscriber_rearm(subscriber);
}

typedef int (*take_fn)(struct slc__sub *sub, struct slc__taken *ret);

/* All that a take may have to do. */
static int take_once(slc_subscriber *subscriber, take_fn take, slc_message *ret_message) {
  int status = slc__subscriber_here(subscriber);
  if (status != 0) return status;
  status = take(&subscriber->on.sub, &subscriber->taken);
  if (status != 0) return take_nothing(subscriber, status);
  status = slc__subscriber_hold(subscriber, &subscriber->taken, ret_message);
  readiness_keep(subscriber);
  return status;
}

bool slc__subscriber_goes_on(slc_subscriber *subscriber, int *status) {
  if (*status != SLC_EMPTY || !atomic_load(&subscriber->may_move)) return false;
  int moved = slc__subscriber_move(subscriber);
  if (moved < 0) *status = moved;
  return moved > 0;
}

__attribute__((noinline, cold)) static int take_fully(slc_subscriber *subscriber, take_fn take,
                                                      slc_message *ret_message) {
  if (slc__guard_forked(&subscriber->guard)) return slc__guard_fail();
  slc__turn_begin(&subscriber->turn);
  int status;
  do status = take_once(subscriber, take, ret_message);
  while (slc__subscriber_goes_on(subscriber, &status));
  return end(subscriber, status);
}

/* One that takes plainly. */
__attribute__((noinline, cold)) static int take_failed(slc_subscriber *subscriber, int status, take_fn take,
                                                       slc_message *ret_message) {
  status = take_nothing(subscriber, status);
  return slc__subscriber_goes_on(subscriber, &status) ? take_fully(subscriber, take, ret_message) : status;
}

static inline int take_by(slc_subscriber *subscriber, take_fn take, slc_message *ret_message) {
  if (slc__guard_forked(&subscriber->guard)) return slc__guard_fail();
  if (__builtin_expect(!subscriber->takes_plainly, 0)) return take_fully(subscriber, take, ret_message);
  int status = take(&subscriber->on.sub, &subscriber->taken);
  if (__builtin_expect(status != 0, 0)) return take_failed(subscriber, status, take, ret_message);
  message_fill(subscriber, &subscriber->taken, ret_message);
  return 0;
}

int slc_subscriber_take(slc_subscriber *subscriber, slc_message *ret_message) {
  return take_by(subscriber, slc__sub_take, ret_message);
}

int slc_subscriber_take_newest(slc_subscriber *subscriber, slc_message *ret_message) {
  return take_by(subscriber, slc__sub_take_newest, ret_message);
}

static inline int held_release(slc_subscriber *subscriber, const slc_message *message) {
  uint32_t hold = message->hold - subscriber->on.hold_base;
  bool is_held = hold < subscriber->on.sub.max_holds && message->ordinal != 0 &&
                 subscriber->on.held[hold].ordinal == message->ordinal; /* before it is attached it has no holds */
  if (!is_held) return slc__fail(SLC_STALE, "this message is not held any more: it was released, or never taken");
  struct slc__held *held = &subscriber->on.held[hold];
  if (__builtin_expect(held->generation != 0, 0)) generation_count(subscriber, held->generation, -1);
  held->ordinal = 0;
  return slc__sub_release(&subscriber->on.sub, hold);
}

__attribute__((noinline, cold)) static int release_fully(slc_subscriber *subscriber, const slc_message *message) {
  slc__turn_begin(&subscriber->turn);
  int status = slc__subscriber_past_release(subscriber, message) ? 0 : held_release(subscriber, message);
  return end(subscriber, status);
}

int slc_subscriber_release(slc_subscriber *subscriber, slc_message *message) {
  if (slc__guard_forked(&subscriber->guard)) return slc__guard_fail();
  if (__builtin_expect(!subscriber->releases_plainly, 0)) return release_fully(subscriber, message);
  return held_release(subscriber, message);
}

/* ---- for find.c -------------------------------------------------------------------------------------------------- */

int slc__subscriber_begin_here(slc_subscriber *subscriber) {
  return begin(subscriber);
}

int slc__subscriber_begin(slc_subscriber *subscriber, struct slc__sub **ret_sub) {
  *ret_sub = &subscriber->on.sub;
  return begin(subscriber);
}

int slc__subscriber_end(slc_subscriber *subscriber, int status) {
  return end(subscriber, status);
}

void slc__subscriber_pin(slc_subscriber *subscriber, bool is_pinned) {
  subscriber->on.generations.is_pinned = is_pinned;
}

int slc__subscriber_hold(slc_subscriber *subscriber, const struct slc__taken *taken, slc_message *ret_message) {
  if (__builtin_expect(subscriber->takes_plainly, 1)) {
    message_fill(subscriber, taken, ret_message);
    return 0;
  }
  int status = message_accept(subscriber, taken, ret_message);
  if (status != 0) slc__sub_reject(&subscriber->on.sub, taken);
  return status;
}

int slc__subscriber_hold_found(slc_subscriber *subscriber, const struct slc__taken *taken, slc_message *ret_message) {
  int status = message_accept(subscriber, taken, ret_message);
  if (status != 0) slc__sub_release(&subscriber->on.sub, taken->hold);
  return status;
}

void slc__subscriber_took(slc_subscriber *subscriber) {
  readiness_keep(subscriber);
}

int slc__subscriber_hold_nothing(slc_subscriber *subscriber, int status) {
  return take_nothing(subscriber, status);
}

/* ---- statistics ------------------------------------------------------------------------------------------------- */

int slc_subscriber_stats_get(slc_subscriber *subscriber, slc_subscriber_stats *ret_stats) {
  int status = begin(subscriber);
  if (status != 0 && status != SLC_EMPTY) return status;
  slc_subscriber_stats stats = {0};
  if (status == 0) {
    const struct slc__sub *sub = &subscriber->on.sub;
    const struct slc__control_page *page = sub->control.page;
    stats.attached = 1;
    stats.virtual_id = subscriber->on.attachment.virtual_id;
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
    const struct slc__virtual_count *count = slc__virtual_count_of(&subscriber->on.sub, virtual_id);
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
  return end(subscriber, slc__generations_payload(&subscriber->on.generations, address, ret_payload));
}

int slc_subscriber_payloads(slc_subscriber *subscriber, slc_payload_info *ret_payloads, size_t max, size_t *ret_count) {
  int status = begin(subscriber);
  if (status != 0) return status;
  slc__generations_payloads(&subscriber->on.generations, ret_payloads, max, ret_count);
  return end(subscriber, 0);
}

/* Many messages in one call, and messages beside those that take gives: by ordinal, by time, by a weak reference.
 *
 * All of them end in a hold like that of take, which slc_subscriber_release gives back.
 * Threads: as in subscriber.c. */
#include "base/error.h"
#include "subscriber_handle.h"

enum { BATCH = 32 }; /* messages taken with one fence; more than that gain nothing */

/* Up to `max` of what the slot log has; the status of what brought none. */
static int take_some(slc_subscriber *subscriber, struct slc__sub *sub, slc_message *ret_messages, size_t max,
                     size_t *ret_count) {
  struct slc__taken taken[BATCH];
  size_t count = 0, got = BATCH;
  int refused = 0, status = 0;
  while (got == BATCH && count < max && status == 0) {
    slc__subscriber_pin(subscriber, true);
    status = slc__sub_take_many(sub, taken, max - count < BATCH ? max - count : BATCH, &got);
    slc__subscriber_pin(subscriber, false);
    for (size_t i = 0; status == 0 && i < got; i++) {
      int held = slc__subscriber_hold(subscriber, &taken[i], &ret_messages[count]);
      if (held == 0) count++;
      if (held != 0) refused = held;
    }
  }
  if (count != 0 || refused != 0) slc__subscriber_took(subscriber);
  *ret_count = count;
  if (count != 0) return 0;
  return refused != 0 ? refused : slc__subscriber_hold_nothing(subscriber, status);
}

int slc_subscriber_take_many(slc_subscriber *subscriber, slc_message *ret_messages, size_t max, size_t *ret_count) {
  struct slc__sub *sub = NULL;
  int status = slc__subscriber_begin(subscriber, &sub);
  if (status != 0) return status;
  if (max == 0) return slc__subscriber_end(subscriber, slc__fail(SLC_INVALID, "take_many takes at least one message"));
  size_t count = 0;
  do status = take_some(subscriber, sub, ret_messages, max, &count);
  while (slc__subscriber_goes_on(subscriber, &status) && (status = slc__subscriber_here(subscriber)) == 0);
  if (status == 0) *ret_count = count;
  return slc__subscriber_end(subscriber, status);
}

/* EMPTY here is no answer about what take would give, so the readiness descriptor stays as it is. */
static int found(slc_subscriber *subscriber, int status, const struct slc__taken *taken, slc_message *ret_message) {
  if (status == 0) status = slc__subscriber_hold_found(subscriber, taken, ret_message);
  if (status == SLC_DISCONNECTED) status = slc__subscriber_hold_nothing(subscriber, status);
  if (status == SLC_GONE || status == SLC_HOLD_LIMIT || status == SLC_CORRUPT)
    status = slc__fail(status, "%s", slc__status_text(status));
  return slc__subscriber_end(subscriber, status);
}

int slc_subscriber_find(slc_subscriber *subscriber, uint64_t ordinal, int or_later, slc_message *ret_message) {
  struct slc__sub *sub = NULL;
  struct slc__taken taken;
  int status = slc__subscriber_begin(subscriber, &sub);
  if (status != 0) return status;
  if (ordinal == 0 || ordinal > SLC__ORDINAL_MAX)
    return slc__subscriber_end(subscriber, slc__fail(SLC_INVALID, "there is no ordinal %ju", (uintmax_t)ordinal));
  status = slc__sub_find(sub, ordinal - 1, or_later != 0, &taken);
  return found(subscriber, status, &taken, ret_message);
}

int slc_subscriber_find_time(slc_subscriber *subscriber, uint64_t timestamp_ns, int or_later,
                             slc_message *ret_message) {
  struct slc__sub *sub = NULL;
  struct slc__taken taken;
  int status = slc__subscriber_begin(subscriber, &sub);
  if (status != 0) return status;
  if (timestamp_ns == 0)
    return slc__subscriber_end(subscriber, slc__fail(SLC_INVALID, "a time of 0 stands for a message without one"));
  status = slc__sub_find_time(sub, timestamp_ns, or_later != 0, &taken);
  return found(subscriber, status, &taken, ret_message);
}

int slc_subscriber_take_weak(slc_subscriber *subscriber, uint64_t ordinal, uint32_t slot, slc_message *ret_message) {
  struct slc__sub *sub = NULL;
  struct slc__taken taken;
  int status = slc__subscriber_begin(subscriber, &sub);
  if (status == SLC_EMPTY) return slc__fail(SLC_GONE, "%s", slc__status_text(SLC_GONE));
  if (status != 0) return status;
  status = ordinal == 0 ? SLC_GONE : slc__sub_take_weak(sub, ordinal - 1, slot, &taken);
  return found(subscriber, status, &taken, ret_message);
}

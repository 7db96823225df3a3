/* See stream.h.  The timestamp carries the sequence once more, so that the prefix is checked too. */
#include "support/stream.h"

#include <assert.h>

#include "slotcast/status.h"

static_assert((int)TEST_MESSAGE_SMALL == (int)SLC__INLINE, "half of the messages are to fit into the prefix");

int test_message_publish(struct slc__pub *pub, uint32_t slot, uint64_t sequence, uint64_t *ret_ordinal) {
  struct test_message message = {.publisher = pub->id, .sequence = sequence};
  uint64_t size = test_message_size(message, pub->control.geometry.slot_size);
  const struct slc__sending sending = {
      .size = size, .timestamp = sequence, .flags = size <= pub->buffers.inline_max ? SLC__FLAG_INLINE : 0};
  test_message_fill(slc__pub_payload(pub, slot, size), message, size);
  return slc__pub_publish(pub, slot, &sending, ret_ordinal);
}

int test_message_send(struct slc__pub *pub, uint64_t sequence, uint64_t *ret_ordinal) {
  uint32_t slot;
  int status = slc__pub_loan(pub, &slot);
  return status != SLC_OK ? status : test_message_publish(pub, slot, sequence, ret_ordinal);
}

bool test_message_read(const struct slc__sub *sub, const struct slc__taken *taken, struct test_message *ret) {
  return test_message_parse(taken->payload, taken->size, sub->control.geometry.slot_size, ret) &&
         taken->publisher == ret->publisher && taken->timestamp == ret->sequence;
}

/* See stream.h.  A message is two words, (publisher << 48 | sequence) and its size, then the pattern, byte by byte. */
#include "support/stream.h"

#include <string.h>

#include "slotcast/status.h"

enum { PUBLISHER_SHIFT = 48 };

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

static uint64_t word_of(struct test_message message) {
  return (uint64_t)message.publisher << PUBLISHER_SHIFT | message.sequence;
}

/* Half of the messages fit into the prefix where the slot allows larger ones. */
uint64_t test_message_size(struct test_message message, uint64_t slot_size) {
  uint64_t random = mix(word_of(message) + 1);
  uint64_t most = (random & 1) != 0 && slot_size > SLC__INLINE ? SLC__INLINE : slot_size;
  return TEST_MESSAGE_MIN + (random >> 1) % (most - TEST_MESSAGE_MIN + 1);
}

static uint8_t pattern_at(uint64_t seed, uint64_t i) {
  return (uint8_t)((seed + i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static void fill(uint8_t *payload, struct test_message message, uint64_t size) {
  uint64_t word = word_of(message), seed = mix(word);
  memcpy(payload, &word, 8);
  memcpy(payload + 8, &size, 8);
  for (uint64_t i = TEST_MESSAGE_MIN; i < size; i++) payload[i] = pattern_at(seed, i);
}

int test_message_publish(struct slc__pub *pub, uint32_t slot, uint64_t sequence, uint64_t *ret_ordinal) {
  struct test_message message = {.publisher = pub->id, .sequence = sequence};
  uint64_t size = test_message_size(message, pub->control.geometry.slot_size);
  fill(slc__pub_payload(pub, slot, size), message, size);
  const struct slc__sending sending = {
      .size = size, .timestamp = sequence, .flags = size <= SLC__INLINE ? SLC__FLAG_INLINE : 0};
  return slc__pub_publish(pub, slot, &sending, ret_ordinal);
}

int test_message_send(struct slc__pub *pub, uint64_t sequence, uint64_t *ret_ordinal) {
  uint32_t slot;
  int status = slc__pub_loan(pub, &slot);
  return status != SLC_OK ? status : test_message_publish(pub, slot, sequence, ret_ordinal);
}

bool test_message_read(const struct slc__sub *sub, const struct slc__taken *taken, struct test_message *ret) {
  const uint8_t *payload = taken->payload;
  uint64_t word, size;
  if (taken->size < TEST_MESSAGE_MIN) return false;
  memcpy(&word, payload, 8);
  memcpy(&size, payload + 8, 8);
  *ret = (struct test_message){.publisher = (uint32_t)(word >> PUBLISHER_SHIFT),
                               .sequence = word & ((UINT64_C(1) << PUBLISHER_SHIFT) - 1)};
  if (size != taken->size || size != test_message_size(*ret, sub->control.geometry.slot_size)) return false;
  if (taken->publisher != ret->publisher || taken->timestamp != ret->sequence) return false;
  uint64_t seed = mix(word);
  for (uint64_t i = TEST_MESSAGE_MIN; i < size; i++) {
    if (payload[i] != pattern_at(seed, i)) return false;
  }
  return true;
}

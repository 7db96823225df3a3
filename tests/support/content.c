/* See content.h.  A message is two words, (publisher << 48 | sequence) and its size, then the pattern, byte by byte. */
#include "support/content.h"

#include <string.h>

enum { PUBLISHER_SHIFT = 48 };

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

static uint64_t word_of(struct test_message message) {
  return (uint64_t)message.publisher << PUBLISHER_SHIFT | message.sequence;
}

uint64_t test_message_size(struct test_message message, uint64_t slot_size) {
  uint64_t random = mix(word_of(message) + 1);
  uint64_t most = (random & 1) != 0 && slot_size > TEST_MESSAGE_SMALL ? TEST_MESSAGE_SMALL : slot_size;
  return TEST_MESSAGE_MIN + (random >> 1) % (most - TEST_MESSAGE_MIN + 1);
}

static uint8_t pattern_at(uint64_t seed, uint64_t i) {
  return (uint8_t)((seed + i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

void test_message_fill(void *payload, struct test_message message, uint64_t size) {
  uint8_t *bytes = payload;
  uint64_t word = word_of(message), seed = mix(word);
  memcpy(bytes, &word, 8);
  memcpy(bytes + 8, &size, 8);
  for (uint64_t i = TEST_MESSAGE_MIN; i < size; i++) bytes[i] = pattern_at(seed, i);
}

bool test_message_parse(const void *payload, uint64_t size, uint64_t slot_size, struct test_message *ret) {
  const uint8_t *bytes = payload;
  uint64_t word, said;
  if (size < TEST_MESSAGE_MIN) return false;
  memcpy(&word, bytes, 8);
  memcpy(&said, bytes + 8, 8);
  *ret = (struct test_message){.publisher = (uint32_t)(word >> PUBLISHER_SHIFT),
                               .sequence = word & ((UINT64_C(1) << PUBLISHER_SHIFT) - 1)};
  if (said != size || size != test_message_size(*ret, slot_size)) return false;
  uint64_t seed = mix(word);
  for (uint64_t i = TEST_MESSAGE_MIN; i < size; i++) {
    if (bytes[i] != pattern_at(seed, i)) return false;
  }
  return true;
}

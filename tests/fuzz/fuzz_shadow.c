/* The codec of a shadow's protocol under arbitrary bytes.  An input is a number of descriptors and a datagram. */
#include <assert.h>
#include <string.h>

#include "fuzz/messages.h"
#include "fuzz/target.h"
#include "proto/codec.h"

/* Whatever was accepted is within the limits, packs into the room that there is, and is accepted again as the same. */
static void check_accepted(const Slotcast__ShadowMessage *message, size_t descriptor_count) {
  static uint8_t first[SLC__CODEC_MESSAGE_MAX], second[SLC__CODEC_MESSAGE_MAX];
  size_t first_size, second_size;
  Slotcast__ShadowMessage *again;
  assert(message->body_case != SLOTCAST__SHADOW_MESSAGE__BODY__NOT_SET);
  if (message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_RECORD) {
    assert(message->record->key.len > 0 && message->record->key.len <= SLC__CODEC_KEY_MAX);
    assert(message->record->value.len <= SLC__CODEC_VALUE_MAX);
    assert(message->record->descriptors == descriptor_count);
  } else {
    assert(descriptor_count == 0);
  }
  int status = slc__shadow_encode(message, first, sizeof first, &first_size);
  assert(status == 0);
  status = slc__shadow_decode(first, first_size, descriptor_count, &again);
  assert(status == 0);
  status = slc__shadow_encode(again, second, sizeof second, &second_size);
  assert(status == 0 && second_size == first_size && memcmp(first, second, first_size) == 0);
  slc__shadow_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  size_t descriptor_count = data[0];
  Slotcast__ShadowMessage *message;
  if (slc__shadow_decode(data + 1, size - 1, descriptor_count, &message) != 0) return 0;
  check_accepted(message, descriptor_count);
  slc__shadow_free(message);
  return 0;
}

/* A message of every kind. */
size_t fuzz_seed(size_t index, uint8_t *buffer, size_t capacity) {
  const ProtobufCFieldDescriptor *body = test_shadow_body(index);
  if (body == NULL) return 0;
  size_t descriptors = body->id == SLOTCAST__SHADOW_MESSAGE__BODY_RECORD ? 2 : 0, size;
  Slotcast__ShadowMessage *message = test_shadow_message_new(body, descriptors);
  buffer[0] = (uint8_t)descriptors;
  int status = slc__shadow_encode(message, buffer + 1, capacity - 1, &size);
  assert(status == 0);
  slc__shadow_free(message);
  return 1 + size;
}

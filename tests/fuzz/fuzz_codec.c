/* The codec under arbitrary bytes.  An input is a number of descriptors and a datagram. */
#include <assert.h>
#include <string.h>

#include "fuzz/messages.h"
#include "fuzz/target.h"
#include "proto/codec.h"

/* Whatever was accepted packs into the room that there is, and is accepted again as the same message. */
static void check_accepted(const Slotcast__Message *message, size_t descriptor_count) {
  static uint8_t first[SLC__CODEC_MESSAGE_MAX], second[SLC__CODEC_MESSAGE_MAX];
  size_t first_size, second_size;
  Slotcast__Message *again;
  assert(message->body_case != SLOTCAST__MESSAGE__BODY__NOT_SET);
  assert(message->n_descriptors == descriptor_count);
  int status = slc__codec_encode(message, first, sizeof first, &first_size);
  assert(status == 0);
  status = slc__codec_decode(first, first_size, descriptor_count, &again);
  assert(status == 0);
  status = slc__codec_encode(again, second, sizeof second, &second_size);
  assert(status == 0 && second_size == first_size && memcmp(first, second, first_size) == 0);
  slc__codec_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  size_t descriptor_count = data[0];
  Slotcast__Message *message;
  if (slc__codec_decode(data + 1, size - 1, descriptor_count, &message) != 0) return 0;
  check_accepted(message, descriptor_count);
  slc__codec_free(message);
  return 0;
}

/* A message of every kind. */
size_t fuzz_seed(size_t index, uint8_t *buffer, size_t capacity) {
  enum { DESCRIPTORS = 2 };
  const ProtobufCFieldDescriptor *body = test_body(index);
  if (body == NULL) return 0;
  Slotcast__Message *message = test_message_new(body, DESCRIPTORS);
  buffer[0] = DESCRIPTORS;
  size_t size = 1 + test_message_pack(message, buffer + 1, capacity - 1);
  slc__codec_free(message);
  return size;
}

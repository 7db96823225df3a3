/* The codec under arbitrary bytes: whatever it accepts can be packed again and is accepted again.  With libFuzzer
 * (preset fuzz) or, without, on mutations of real messages. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static uint8_t packed[SLC__CODEC_MESSAGE_MAX];
  for (size_t descriptors = 0; descriptors < 3; descriptors++) {
    Slotcast__Message *message, *again;
    size_t packed_size;
    if (slc__codec_decode(data, size, descriptors, &message) != 0) continue;
    if (slc__codec_encode(message, packed, sizeof packed, &packed_size) == 0) {
      int status = slc__codec_decode(packed, packed_size, descriptors, &again);
      assert(status == 0);
      (void)status;
      slc__codec_free(again);
    }
    slc__codec_free(message);
  }
  return 0;
}

#ifndef SLOTCAST_LIBFUZZER
enum { MUTATIONS = 200000 };

static size_t seed_message(uint8_t *buffer, size_t capacity) {
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__OpenPublisher open = SLOTCAST__OPEN_PUBLISHER__INIT;
  Slotcast__Descriptor entry = SLOTCAST__DESCRIPTOR__INIT, *manifest[] = {&entry};
  size_t size = 0;
  open.channel = (char[]){"a/channel"};
  open.type = (char[]){"type"};
  open.slots = 64;
  entry.kind = SLOTCAST__DESCRIPTOR_KIND__TABLE;
  message.descriptors = manifest;
  message.n_descriptors = 1;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_PUBLISHER;
  message.open_publisher = &open;
  if (slc__codec_encode(&message, buffer, capacity, &size) != 0) abort();
  return size;
}

int main(void) {
  uint8_t seed[512], mutated[512];
  size_t size = seed_message(seed, sizeof seed);
  Slotcast__Message *message;
  if (slc__codec_decode(seed, size, 1, &message) != 0) abort(); /* the seed itself is accepted, */
  slc__codec_free(message);
  if (slc__codec_decode(seed, size, 0, &message) == 0) abort(); /* but not with another number of descriptors */
  srand(1);
  for (int i = 0; i < MUTATIONS; i++) {
    memcpy(mutated, seed, size);
    for (int k = rand() % 4; k >= 0; k--) mutated[(size_t)rand() % size] = (uint8_t)rand();
    LLVMFuzzerTestOneInput(mutated, 1 + (size_t)rand() % size);
  }
  printf("%d mutations\n", MUTATIONS);
  return 0;
}
#endif

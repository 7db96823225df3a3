/* What is said to a shadow, and what its answers mean.  Thread: the loop's. */
#include <stdint.h>

#include "base/error.h"
#include "proto/codec.h"
#include "store/shadow.h"

/* One for all: a packet has been sent when the next is made. */
static uint8_t buffer[SLC__CODEC_MESSAGE_MAX];

static int pack(const Slotcast__ShadowMessage *message, struct slc__shadow_packet *ret_packet) {
  ret_packet->data = buffer;
  return slc__shadow_encode(message, buffer, sizeof buffer, &ret_packet->size);
}

/* protobuf-c has no pointers to const. */
static ProtobufCBinaryData bytes_of(const void *data, size_t size) {
  return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)data, .len = size};
}

int slc__shadow_pack_hello(struct slc__shadow_packet *ret_packet) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowHello hello = SLOTCAST__SHADOW_HELLO__INIT;
  hello.major = SLC__SHADOW_MAJOR;
  hello.minor = SLC__SHADOW_MINOR;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_HELLO;
  message.hello = &hello;
  return pack(&message, ret_packet);
}

int slc__shadow_pack_load(struct slc__shadow_packet *ret_packet) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowLoad load = SLOTCAST__SHADOW_LOAD__INIT;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_LOAD;
  message.load = &load;
  return pack(&message, ret_packet);
}

int slc__shadow_pack_begin(struct slc__shadow_packet *ret_packet) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowBegin begin = SLOTCAST__SHADOW_BEGIN__INIT;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_BEGIN;
  message.begin = &begin;
  return pack(&message, ret_packet);
}

int slc__shadow_pack_put(const struct slc__record *record, struct slc__shadow_packet *ret_packet) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowRecord put = SLOTCAST__SHADOW_RECORD__INIT;
  put.key = bytes_of(record->key, record->key_size);
  put.value = bytes_of(record->value, record->value_size);
  put.descriptors = (uint32_t)record->fd_count;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_RECORD;
  message.record = &put;
  return pack(&message, ret_packet);
}

int slc__shadow_pack_drop(const struct slc__record *record, struct slc__shadow_packet *ret_packet) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowDrop drop = SLOTCAST__SHADOW_DROP__INIT;
  drop.key = bytes_of(record->key, record->key_size);
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_DROP;
  message.drop = &drop;
  return pack(&message, ret_packet);
}

int slc__shadow_pack_commit(uint64_t number, uint64_t generation, struct slc__shadow_packet *ret_packet) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowCommit commit = SLOTCAST__SHADOW_COMMIT__INIT;
  commit.number = number;
  commit.generation = generation;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_COMMIT;
  message.commit = &commit;
  return pack(&message, ret_packet);
}

int slc__shadow_read_refusal(const Slotcast__ShadowRefusal *refusal) {
  bool is_status = refusal->status < 0 && slc__status_name(refusal->status)[0] != '?';
  if (!is_status) return slc__fail(SLC_PROTOCOL, "it refuses with a status that there is not: %d", refusal->status);
  return slc__fail(refusal->status, "it refuses: %s (%s)", refusal->text, slc__status_name(refusal->status));
}

int slc__shadow_unexpected(const Slotcast__ShadowMessage *message) {
  return slc__fail(SLC_PROTOCOL, "it says something that is not due (%d)", (int)message->body_case);
}

int slc__shadow_read_state(const Slotcast__ShadowMessage *message, struct slc__keeper_set *ret_set) {
  if (message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_REFUSAL) return slc__shadow_read_refusal(message->refusal);
  if (message->body_case != SLOTCAST__SHADOW_MESSAGE__BODY_STATE) return slc__shadow_unexpected(message);
  const Slotcast__ShadowState *state = message->state;
  if (state->major != SLC__SHADOW_MAJOR)
    return slc__fail(SLC_VERSION, "it speaks version %u.%u of the shadow protocol, this broker %d.%d", state->major,
                     state->minor, SLC__SHADOW_MAJOR, SLC__SHADOW_MINOR);
  *ret_set = (struct slc__keeper_set){.is_complete = state->complete, .generation = state->generation};
  return SLC_OK;
}

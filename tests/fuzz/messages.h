/* Messages of every kind with every field set, made from what the generated code says of itself: a new message or field
 * is in the tests without a line there.  Aborts when there is no memory.  Thread: any. */
#ifndef SLC_TEST_MESSAGES_H
#define SLC_TEST_MESSAGES_H

#include "proto/codec.h"

/* The kinds of body, by index; NULL past the last. */
const ProtobufCFieldDescriptor *test_body(size_t index);
/* A message with this body and a manifest of so many descriptors; freed with slc__codec_free. */
Slotcast__Message *test_message_new(const ProtobufCFieldDescriptor *body, size_t descriptor_count);
/* The same for what is said between a broker and a shadow; the number of descriptors is a record's. */
const ProtobufCFieldDescriptor *test_shadow_body(size_t index);
Slotcast__ShadowMessage *test_shadow_message_new(const ProtobufCFieldDescriptor *body, size_t descriptor_count);
/* Packs it as is, also what the codec would refuse; the size.  Aborts when that is more than `capacity`. */
size_t test_message_pack(const Slotcast__Message *message, uint8_t *buffer, size_t capacity);

/* Calls `visit` for every value that is set, at any depth; `value` is where it lies. */
typedef void (*test_visit_fn)(void *ctx, const ProtobufCFieldDescriptor *field, void *value);
void test_message_visit(Slotcast__Message *message, test_visit_fn visit, void *ctx);

#endif

/* Messages made by reflection.  protobuf-c describes a field by its type and its offset in the struct; a list has its
 * count, and a oneof its case, at a second offset. */
#include "fuzz/messages.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_ENTRIES = 2, BYTES_SIZE = 16 };

static void *make(size_t size) {
  void *memory = calloc(1, size);
  if (memory == NULL) abort();
  return memory;
}

static void *member_of(void *message, unsigned offset) {
  return (char *)message + offset;
}

/* Of the members of a oneof only the chosen one is there. */
static bool is_set(const ProtobufCFieldDescriptor *field, void *message) {
  if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) return true;
  return *(uint32_t *)member_of(message, field->quantifier_offset) == field->id;
}

/* ---- making ---- */

static void *filled_message(const ProtobufCMessageDescriptor *descriptor);

static void *empty_message(const ProtobufCMessageDescriptor *descriptor) {
  void *message = make(descriptor->sizeof_message);
  protobuf_c_message_init(descriptor, message);
  return message;
}

/* Numbers differ from field to field, and need more than one byte. */
static void fill_value(const ProtobufCFieldDescriptor *field, void *value) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_UINT32:
    *(uint32_t *)value = field->id * 1000;
    break;
  case PROTOBUF_C_TYPE_SINT32:
    *(int32_t *)value = -(int32_t)field->id * 1000;
    break;
  case PROTOBUF_C_TYPE_UINT64:
    *(uint64_t *)value = UINT64_MAX / (field->id + 1);
    break;
  case PROTOBUF_C_TYPE_BOOL:
    *(protobuf_c_boolean *)value = 1;
    break;
  case PROTOBUF_C_TYPE_ENUM:
    *(int *)value = 1;
    break;
  case PROTOBUF_C_TYPE_STRING: {
    char *text = make(64);
    snprintf(text, 64, "%s/\xc3\xa9", field->name);
    *(char **)value = text;
    break;
  }
  case PROTOBUF_C_TYPE_BYTES: {
    ProtobufCBinaryData bytes = {.len = BYTES_SIZE, .data = make(BYTES_SIZE)};
    memset(bytes.data, (int)field->id, bytes.len);
    *(ProtobufCBinaryData *)value = bytes;
    break;
  }
  case PROTOBUF_C_TYPE_MESSAGE:
    *(void **)value = filled_message(field->descriptor);
    break;
  default:
    abort(); /* a type that the protocol did not have: teach it here */
  }
}

static void fill_list(const ProtobufCFieldDescriptor *field, void *message) {
  if (field->type != PROTOBUF_C_TYPE_MESSAGE) abort(); /* as above */
  void **list = make(LIST_ENTRIES * sizeof *list);
  for (size_t i = 0; i < LIST_ENTRIES; i++) list[i] = filled_message(field->descriptor);
  *(size_t *)member_of(message, field->quantifier_offset) = LIST_ENTRIES;
  *(void ***)member_of(message, field->offset) = list;
}

static void *filled_message(const ProtobufCMessageDescriptor *descriptor) {
  void *message = empty_message(descriptor);
  for (unsigned i = 0; i < descriptor->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
      fill_list(field, message);
    } else {
      fill_value(field, member_of(message, field->offset));
    }
  }
  return message;
}

static const ProtobufCFieldDescriptor *body_of(const ProtobufCMessageDescriptor *descriptor, size_t index) {
  for (unsigned i = 0; i < descriptor->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 && index-- == 0) return field;
  }
  return NULL;
}

const ProtobufCFieldDescriptor *test_body(size_t index) {
  return body_of(&slotcast__message__descriptor, index);
}

Slotcast__Message *test_message_new(const ProtobufCFieldDescriptor *body, size_t descriptor_count) {
  Slotcast__Message *message = empty_message(&slotcast__message__descriptor);
  message->serial = UINT64_MAX;
  fill_value(body, member_of(message, body->offset));
  message->body_case = (Slotcast__Message__BodyCase)body->id;
  if (descriptor_count == 0) return message;
  message->n_descriptors = descriptor_count;
  message->descriptors = make(descriptor_count * sizeof *message->descriptors);
  for (size_t i = 0; i < descriptor_count; i++)
    message->descriptors[i] = filled_message(&slotcast__descriptor__descriptor);
  return message;
}

const ProtobufCFieldDescriptor *test_shadow_body(size_t index) {
  return body_of(&slotcast__shadow_message__descriptor, index);
}

Slotcast__ShadowMessage *test_shadow_message_new(const ProtobufCFieldDescriptor *body, size_t descriptor_count) {
  Slotcast__ShadowMessage *message = empty_message(&slotcast__shadow_message__descriptor);
  fill_value(body, member_of(message, body->offset));
  message->body_case = (Slotcast__ShadowMessage__BodyCase)body->id;
  if (message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_RECORD)
    message->record->descriptors = (uint32_t)descriptor_count;
  return message;
}

size_t test_message_pack(const Slotcast__Message *message, uint8_t *buffer, size_t capacity) {
  if (slotcast__message__get_packed_size(message) > capacity) abort();
  return slotcast__message__pack(message, buffer);
}

/* ---- visiting ---- */

static void visit_message(ProtobufCMessage *message, test_visit_fn visit, void *ctx) {
  for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
    if (!is_set(field, message)) continue;
    bool is_list = field->label == PROTOBUF_C_LABEL_REPEATED;
    size_t count = is_list ? *(size_t *)member_of(message, field->quantifier_offset) : 1;
    void *value = member_of(message, field->offset);
    void **list = is_list ? *(void ***)value : NULL;
    for (size_t k = 0; k < count; k++) {
      void *entry = is_list ? &list[k] : value;
      visit(ctx, field, entry);
      if (field->type == PROTOBUF_C_TYPE_MESSAGE && *(void **)entry != NULL) visit_message(*(void **)entry, visit, ctx);
    }
  }
}

void test_message_visit(Slotcast__Message *message, test_visit_fn visit, void *ctx) {
  visit_message(&message->base, visit, ctx);
}

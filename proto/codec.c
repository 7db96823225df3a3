/* The checked codec.  Limits come first: nothing of a message is looked at before its size, its memory, its strings and
 * lists are known to be within them.
 *
 * Fields are checked by walking the generated descriptors, so that a new message is covered without a line here. Fields
 * that this version does not know are carried along and mean nothing; so does what follows a NUL in a string, since
 * protobuf-c gives no lengths of strings: nobody here can see it.  Any thread. */
#include "proto/codec.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "slotcast/event.h"

enum {
  IDENTITY_SIZE = 16, /* Hello.instance, HelloReply.session, token */
  NESTING_MAX = 4,
  FIELD_NUMBER_MAX = (1 << 29) - 1, /* protobuf's own */
};
/* What decoding may take; freeing gives nothing back.  The longest lists that are allowed, of the largest entries, take
 * a quarter of it. */
#define MEMORY_MAX ((size_t)32 * SLC__CODEC_MESSAGE_MAX)

/* ---- an allocator with a budget ---- */

struct budget {
  size_t left;
  bool out_of_memory; /* malloc failed, rather than the budget */
};

static void *budget_alloc(void *data, size_t size) {
  struct budget *budget = data;
  if (size > budget->left) return NULL;
  budget->left -= size;
  void *memory = malloc(size);
  if (memory == NULL) budget->out_of_memory = true;
  return memory;
}

static void budget_free(void *data, void *pointer) {
  (void)data;
  free(pointer);
}

/* ---- UTF-8 ---- */

/* The length of the character at s, or 0: not UTF-8 (RFC 3629: no overlong forms, no surrogates, up to U+10FFFF), or a
 * control character. */
static size_t printable_length(const unsigned char *s) {
  if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7f ? 1 : 0;
  size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
  if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
  for (size_t i = 1; i < length; i++) {
    if ((s[i] & 0xc0) != 0x80) return 0;
  }
  if (s[0] == 0xc2 && s[1] < 0xa0) return 0; /* U+0080..U+009F are controls */
  if (s[0] == 0xe0 && s[1] < 0xa0) return 0;
  if (s[0] == 0xed && s[1] > 0x9f) return 0;
  if (s[0] == 0xf0 && s[1] < 0x90) return 0;
  if (s[0] == 0xf4 && s[1] > 0x8f) return 0;
  return length;
}

static bool is_printable(const char *text) {
  const unsigned char *s = (const unsigned char *)text;
  while (*s != '\0') {
    size_t length = printable_length(s);
    if (length == 0) return false;
    s += length;
  }
  return true;
}

/* ---- fields ---- */

static int refuse(const ProtobufCFieldDescriptor *field, const char *why) {
  return slc__fail(SLC_PROTOCOL, "the field %s of a message %s", field->name, why);
}

static int check_string(const ProtobufCFieldDescriptor *field, const char *text) {
  size_t limit = strcmp(field->name, "text") == 0 ? SLC__CODEC_TEXT_MAX : SLC__CODEC_NAME_MAX;
  if (text == NULL) return SLC_OK;
  if (strlen(text) > limit) return refuse(field, "is too long");
  return is_printable(text) ? SLC_OK : refuse(field, "is not printable UTF-8");
}

/* Of byte fields that are not identities; by name, which means one thing in all the protocols. */
static const struct {
  const char *field;
  size_t min, max;
} byte_limits[] = {
    {"lines", 0, (size_t)64 * 1024},
    {"key", 1, SLC__CODEC_KEY_MAX},
    {"value", 0, SLC__CODEC_VALUE_MAX},
};

static int check_bytes(const ProtobufCFieldDescriptor *field, const ProtobufCBinaryData *bytes) {
  for (size_t i = 0; i < sizeof byte_limits / sizeof byte_limits[0]; i++) {
    if (strcmp(field->name, byte_limits[i].field) != 0) continue;
    if (bytes->len > byte_limits[i].max) return refuse(field, "is too long");
    return bytes->len >= byte_limits[i].min ? SLC_OK : refuse(field, "is empty");
  }
  if (bytes->len == 0 && strcmp(field->name, "token") == 0) return SLC_OK; /* of one that does not come back */
  return bytes->len == IDENTITY_SIZE ? SLC_OK : refuse(field, "does not have 16 bytes");
}

static int check_enum(const ProtobufCFieldDescriptor *field, int value) {
  if (value != 0 && protobuf_c_enum_descriptor_get_value(field->descriptor, value) != NULL) return SLC_OK;
  return refuse(field, "has an unknown value");
}

static int check_message(const ProtobufCMessage *message, int depth);

/* `member`: where the value itself lies. */
static int check_value(const ProtobufCFieldDescriptor *field, const void *member, int depth) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_STRING:
    return check_string(field, *(const char *const *)member);
  case PROTOBUF_C_TYPE_BYTES:
    return check_bytes(field, member);
  case PROTOBUF_C_TYPE_ENUM:
    return check_enum(field, *(const int *)member);
  case PROTOBUF_C_TYPE_MESSAGE: {
    const ProtobufCMessage *inner = *(const ProtobufCMessage *const *)member;
    return inner == NULL ? SLC_OK : check_message(inner, depth + 1);
  }
  default:
    return SLC_OK;
  }
}

/* Lists are of messages only: that is all that the protocol has. */
static int check_list(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *message, int depth) {
  const uint8_t *base = (const uint8_t *)message;
  size_t count = *(const size_t *)(const void *)(base + field->quantifier_offset);
  if (count > SLC__CODEC_LIST_MAX) return refuse(field, "has too many entries");
  if (count > 0 && field->type != PROTOBUF_C_TYPE_MESSAGE) return refuse(field, "is a list of values");
  const void *const *list = *(const void *const *const *)(const void *)(base + field->offset);
  for (size_t i = 0; i < count; i++) {
    int status = check_value(field, &list[i], depth);
    if (status != SLC_OK) return status;
  }
  return SLC_OK;
}

/* Of a oneof only the member that was sent is there. */
static bool is_other_case(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *message) {
  if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) return false;
  const uint8_t *base = (const uint8_t *)message;
  return *(const uint32_t *)(const void *)(base + field->quantifier_offset) != field->id;
}

/* protobuf-c lets pass some encodings of numbers that no field can have, and refuses others of the same. */
static int check_unknown(const ProtobufCMessage *message) {
  for (unsigned i = 0; i < message->n_unknown_fields; i++) {
    uint32_t number = message->unknown_fields[i].tag;
    if (number == 0 || number > FIELD_NUMBER_MAX)
      return slc__fail(SLC_PROTOCOL, "a message has a field %u, which there cannot be", number);
  }
  return SLC_OK;
}

static int check_message(const ProtobufCMessage *message, int depth) {
  if (depth > NESTING_MAX) return slc__fail(SLC_PROTOCOL, "a message is nested too deeply");
  int status = check_unknown(message);
  if (status != SLC_OK) return status;
  for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
    if (is_other_case(field, message)) continue;
    status = field->label == PROTOBUF_C_LABEL_REPEATED
                 ? check_list(field, message, depth)
                 : check_value(field, (const uint8_t *)message + field->offset, depth);
    if (status != SLC_OK) return status;
  }
  return SLC_OK;
}

/* ---- decode, encode: any message ---- */

int slc__codec_unpack(const ProtobufCMessageDescriptor *kind, const void *data, size_t size,
                      ProtobufCMessage **ret_message) {
  if (size == 0 || size > SLC__CODEC_MESSAGE_MAX)
    return slc__fail(SLC_PROTOCOL, "a message has %zu bytes: 1 to %u are allowed", size, SLC__CODEC_MESSAGE_MAX);
  struct budget budget = {.left = MEMORY_MAX};
  ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free, .allocator_data = &budget};
  ProtobufCMessage *message = protobuf_c_message_unpack(kind, &allocator, size, data);
  if (message == NULL && budget.out_of_memory)
    return slc__fail(SLC_NO_MEMORY, "no memory to decode a message of %zu bytes", size);
  if (message == NULL) return slc__fail(SLC_PROTOCOL, "a message of %zu bytes cannot be decoded", size);
  int status = check_message(message, 0);
  if (status != SLC_OK) {
    slc__codec_release(message);
    return status;
  }
  *ret_message = message;
  return SLC_OK;
}

void slc__codec_release(ProtobufCMessage *message) {
  ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free};
  if (message != NULL) protobuf_c_message_free_unpacked(message, &allocator);
}

int slc__codec_pack(const ProtobufCMessage *message, void *buffer, size_t capacity, size_t *ret_size) {
  size_t size = protobuf_c_message_get_packed_size(message);
  if (size > SLC__CODEC_MESSAGE_MAX || size > capacity)
    return slc__fail(SLC_TOO_LARGE, "a message of %zu bytes is longer than the protocol allows", size);
  *ret_size = protobuf_c_message_pack(message, buffer);
  return SLC_OK;
}

/* ---- those of the two protocols ---- */

static int check_envelope(bool has_body, size_t named, size_t descriptor_count) {
  if (!has_body) return slc__fail(SLC_PROTOCOL, "a message has no body that this version knows");
  if (named != descriptor_count)
    return slc__fail(SLC_PROTOCOL, "a message names %zu descriptors and carries %zu", named, descriptor_count);
  return SLC_OK;
}

int slc__codec_decode(const void *data, size_t size, size_t descriptor_count, Slotcast__Message **ret_message) {
  ProtobufCMessage *base;
  int status = slc__codec_unpack(&slotcast__message__descriptor, data, size, &base);
  if (status != SLC_OK) return status;
  Slotcast__Message *message = (Slotcast__Message *)base;
  status =
      check_envelope(message->body_case != SLOTCAST__MESSAGE__BODY__NOT_SET, message->n_descriptors, descriptor_count);
  if (status != SLC_OK) {
    slc__codec_free(message);
    return status;
  }
  *ret_message = message;
  return SLC_OK;
}

void slc__codec_free(Slotcast__Message *message) {
  slc__codec_release(message == NULL ? NULL : &message->base);
}

int slc__codec_encode(const Slotcast__Message *message, void *buffer, size_t capacity, size_t *ret_size) {
  return slc__codec_pack(&message->base, buffer, capacity, ret_size);
}

int slc__shadow_decode(const void *data, size_t size, size_t descriptor_count, Slotcast__ShadowMessage **ret_message) {
  ProtobufCMessage *base;
  int status = slc__codec_unpack(&slotcast__shadow_message__descriptor, data, size, &base);
  if (status != SLC_OK) return status;
  Slotcast__ShadowMessage *message = (Slotcast__ShadowMessage *)base;
  bool is_record = message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_RECORD;
  status = check_envelope(message->body_case != SLOTCAST__SHADOW_MESSAGE__BODY__NOT_SET,
                          is_record ? message->record->descriptors : 0, descriptor_count);
  if (status == SLC_OK && descriptor_count > SLC__CODEC_RECORD_DESCRIPTORS_MAX)
    status = slc__fail(SLC_PROTOCOL, "a record has %zu descriptors: %d are allowed", descriptor_count,
                       SLC__CODEC_RECORD_DESCRIPTORS_MAX);
  if (status != SLC_OK) {
    slc__shadow_free(message);
    return status;
  }
  *ret_message = message;
  return SLC_OK;
}

void slc__shadow_free(Slotcast__ShadowMessage *message) {
  slc__codec_release(message == NULL ? NULL : &message->base);
}

int slc__shadow_encode(const Slotcast__ShadowMessage *message, void *buffer, size_t capacity, size_t *ret_size) {
  return slc__codec_pack(&message->base, buffer, capacity, ret_size);
}

/* ---- names ---- */

static bool has_empty_level(const char *name) {
  size_t length = strlen(name);
  return name[0] == '/' || name[length - 1] == '/' || strstr(name, "//") != NULL;
}

int slc__channel_name_check(const char *name) {
  size_t length = name == NULL ? 0 : strlen(name);
  if (length == 0 || length > SLC__CODEC_NAME_MAX)
    return slc__fail(SLC_NAME_INVALID, "a channel name has 1 to %d bytes, this one %zu", SLC__CODEC_NAME_MAX, length);
  if (!is_printable(name)) return slc__fail(SLC_NAME_INVALID, "a channel name is printable UTF-8; this one is not");
  if (has_empty_level(name))
    return slc__fail(SLC_NAME_INVALID, "a '/' in a channel name stands between two levels: %s", name);
  if (strcmp(name, ".slotcast") == 0 || strncmp(name, ".slotcast/", 10) == 0)
    return slc__fail(SLC_NAME_INVALID, "names below .slotcast/ are Slotcast's own: %s", name);
  return SLC_OK;
}

int slc__channel_name_check_readable(const char *name) {
  return name != NULL && strcmp(name, SLC_EVENTS_CHANNEL) == 0 ? SLC_OK : slc__channel_name_check(name);
}

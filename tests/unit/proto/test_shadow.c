/* The codec of what a broker and a shadow say: every kind there and back, and the limits of a record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "fuzz/messages.h"
#include "proto/codec.h"

static uint8_t packed[4 * SLC__CODEC_MESSAGE_MAX];

/* As it is, also where slc__shadow_encode would refuse. */
static size_t pack(const Slotcast__ShadowMessage *message) {
  assert_true(slotcast__shadow_message__get_packed_size(message) <= sizeof packed);
  return slotcast__shadow_message__pack(message, packed);
}

static int decode(const Slotcast__ShadowMessage *message, size_t descriptor_count) {
  Slotcast__ShadowMessage *back = NULL;
  int status = slc__shadow_decode(packed, pack(message), descriptor_count, &back);
  slc__shadow_free(back);
  return status;
}

static void test_shadow_messages_there_and_back(void **state) {
  (void)state;
  static uint8_t again[SLC__CODEC_MESSAGE_MAX];
  const ProtobufCFieldDescriptor *body;
  size_t count = 0;
  for (; (body = test_shadow_body(count)) != NULL; count++) {
    size_t descriptors = body->id == SLOTCAST__SHADOW_MESSAGE__BODY_RECORD ? 3 : 0, size, again_size;
    Slotcast__ShadowMessage *message = test_shadow_message_new(body, descriptors), *back;
    assert_int_equal(slc__shadow_encode(message, packed, sizeof packed, &size), 0);
    assert_int_equal(slc__shadow_decode(packed, size, descriptors, &back), 0);
    assert_int_equal(back->body_case, body->id);
    assert_int_equal(slc__shadow_encode(back, again, sizeof again, &again_size), 0);
    assert_int_equal(again_size, size);
    assert_memory_equal(again, packed, size);
    slc__shadow_free(back);
    slc__shadow_free(message);
  }
  assert_int_equal(count, 10);
}

static int decode_record(size_t key_size, size_t value_size, uint32_t named, size_t carried) {
  static uint8_t bytes[2 * SLC__CODEC_VALUE_MAX];
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowRecord record = SLOTCAST__SHADOW_RECORD__INIT;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_RECORD;
  message.record = &record;
  record.key = (ProtobufCBinaryData){.data = bytes, .len = key_size};
  record.value = (ProtobufCBinaryData){.data = bytes, .len = value_size};
  record.descriptors = named;
  return decode(&message, carried);
}

static void test_shadow_record_limits(void **state) {
  (void)state;
  assert_int_equal(decode_record(1, 0, 0, 0), 0);
  assert_int_equal(decode_record(SLC__CODEC_KEY_MAX, SLC__CODEC_VALUE_MAX, 240, 240), 0);
  assert_int_equal(decode_record(0, 1, 0, 0), SLC_PROTOCOL);
  assert_int_equal(decode_record(SLC__CODEC_KEY_MAX + 1, 1, 0, 0), SLC_PROTOCOL);
  assert_int_equal(decode_record(1, SLC__CODEC_VALUE_MAX + 1, 0, 0), SLC_PROTOCOL);
  assert_int_equal(decode_record(1, 1, 241, 241), SLC_PROTOCOL);
  assert_int_equal(decode_record(1, 1, 1, 0), SLC_PROTOCOL);
  assert_int_equal(decode_record(1, 1, 0, 1), SLC_PROTOCOL);
}

/* Only records have descriptors. */
static void test_shadow_descriptors_of_others(void **state) {
  (void)state;
  const ProtobufCFieldDescriptor *body;
  for (size_t i = 0; (body = test_shadow_body(i)) != NULL; i++) {
    if (body->id == SLOTCAST__SHADOW_MESSAGE__BODY_RECORD) continue;
    Slotcast__ShadowMessage *message = test_shadow_message_new(body, 0);
    assert_int_equal(decode(message, 0), 0);
    assert_int_equal(decode(message, 1), SLC_PROTOCOL);
    slc__shadow_free(message);
  }
}

static void test_shadow_without_a_body(void **state) {
  (void)state;
  Slotcast__ShadowMessage *message;
  static const uint8_t unknown[] = {0x78, 0x01}; /* a field of a later version */
  assert_int_equal(slc__shadow_decode(unknown, sizeof unknown, 0, &message), SLC_PROTOCOL);
  assert_int_equal(slc__shadow_decode(unknown, 0, 0, &message), SLC_PROTOCOL);
}

static void test_shadow_free_takes_null(void **state) {
  (void)state;
  slc__shadow_free(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shadow_messages_there_and_back), cmocka_unit_test(test_shadow_record_limits),
      cmocka_unit_test(test_shadow_descriptors_of_others),   cmocka_unit_test(test_shadow_without_a_body),
      cmocka_unit_test(test_shadow_free_takes_null),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

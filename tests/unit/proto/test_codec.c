/* The codec: what goes in comes out, and nothing gets through that a limit forbids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "fuzz/messages.h"

static uint8_t packed[4 * SLC__CODEC_MESSAGE_MAX];

/* ---- helpers ---- */

static const ProtobufCFieldDescriptor *body_named(const char *name) {
  const ProtobufCFieldDescriptor *body =
      protobuf_c_message_descriptor_get_field_by_name(&slotcast__message__descriptor, name);
  assert_non_null(body);
  return body;
}

static void assert_bytes_accepted(const uint8_t *bytes, size_t size, size_t descriptor_count) {
  Slotcast__Message *message = NULL;
  if (slc__codec_decode(bytes, size, descriptor_count, &message) != 0) fail_msg("%s", slc__error_detail());
  assert_non_null(message);
  slc__codec_free(message);
}

static void assert_bytes_refused(const uint8_t *bytes, size_t size, size_t descriptor_count) {
  Slotcast__Message *message = NULL;
  assert_int_equal(slc__codec_decode(bytes, size, descriptor_count, &message), SLC_PROTOCOL);
  assert_null(message); /* written only on success */
  assert_true(strlen(slc__error_detail()) > 0);
}

static void assert_accepted(const Slotcast__Message *message) {
  assert_bytes_accepted(packed, test_message_pack(message, packed, sizeof packed), message->n_descriptors);
}

static void assert_refused(const Slotcast__Message *message) {
  assert_bytes_refused(packed, test_message_pack(message, packed, sizeof packed), message->n_descriptors);
}

/* ---- whole messages ---- */

static void test_codec_every_kind_comes_back_as_it_was(void **state) {
  (void)state;
  static uint8_t again[SLC__CODEC_MESSAGE_MAX];
  const ProtobufCFieldDescriptor *body;
  for (size_t i = 0; (body = test_body(i)) != NULL; i++) {
    Slotcast__Message *message = test_message_new(body, 3), *back;
    size_t size, again_size;
    assert_int_equal(slc__codec_encode(message, packed, sizeof packed, &size), 0);
    assert_int_equal(slc__codec_decode(packed, size, 3, &back), 0);
    assert_int_equal(back->body_case, body->id);
    assert_int_equal(slc__codec_encode(back, again, sizeof again, &again_size), 0);
    assert_int_equal(again_size, size);
    assert_memory_equal(again, packed, size);
    slc__codec_free(back);
    slc__codec_free(message);
  }
}

static void test_codec_no_beginning_is_a_message(void **state) {
  (void)state;
  const ProtobufCFieldDescriptor *body;
  for (size_t i = 0; (body = test_body(i)) != NULL; i++) {
    Slotcast__Message *message = test_message_new(body, 1);
    size_t whole = test_message_pack(message, packed, sizeof packed);
    for (size_t size = 0; size < whole; size++) {
      uint8_t *part = malloc(size + 1); /* of that size, so that a sanitizer sees a read beyond it */
      assert_non_null(part);
      memcpy(part, packed, size);
      assert_bytes_refused(part, size, 1);
      free(part);
    }
    slc__codec_free(message);
  }
}

static void test_codec_body_that_is_missing_or_unknown(void **state) {
  (void)state;
  const uint8_t serial_only[] = {0x08, 0x01}, unknown_body[] = {0x08, 0x01, 0xba, 0x06, 0x00}; /* field 103 */
  assert_bytes_refused(serial_only, sizeof serial_only, 0);
  assert_bytes_refused(unknown_body, sizeof unknown_body, 0);
}

/* A later version may add fields. */
static void test_codec_unknown_field_is_passed_over(void **state) {
  (void)state;
  const uint8_t inside[] = {0x6a, 0x03, 0x98, 0x06, 0x42}; /* Done { 99: 66 } */
  const uint8_t beside[] = {0x6a, 0x00, 0x98, 0x06, 0x42};
  assert_bytes_accepted(inside, sizeof inside, 0);
  assert_bytes_accepted(beside, sizeof beside, 0);
}

/* Both encodings of it, and one beyond the largest: protobuf-c itself sees through the first only. */
static void test_codec_field_numbers_that_cannot_be(void **state) {
  (void)state;
  const uint8_t zero[] = {0x6a, 0x00, 0x02, 0x00}, overlong_zero[] = {0x6a, 0x00, 0x82, 0x00, 0x00};
  const uint8_t too_large[] = {0x6a, 0x00, 0x82, 0x80, 0x80, 0x80, 0x10, 0x00};
  assert_bytes_refused(zero, sizeof zero, 0);
  assert_bytes_refused(overlong_zero, sizeof overlong_zero, 0);
  assert_bytes_refused(too_large, sizeof too_large, 0);
}

static void test_codec_manifest_counts_descriptors(void **state) {
  (void)state;
  for (size_t named = 0; named < 4; named++) {
    Slotcast__Message *message = test_message_new(body_named("done"), named);
    size_t size = test_message_pack(message, packed, sizeof packed);
    for (size_t carried = 0; carried < 5; carried++)
      (carried == named ? assert_bytes_accepted : assert_bytes_refused)(packed, size, carried);
    slc__codec_free(message);
  }
}

static void test_codec_manifest_kinds(void **state) {
  (void)state;
  for (int kind = -1; kind < 8; kind++) {
    Slotcast__Message *message = test_message_new(body_named("done"), 2);
    message->descriptors[1]->kind = (Slotcast__DescriptorKind)kind;
    bool is_known = kind >= SLOTCAST__DESCRIPTOR_KIND__CONTROL && kind <= SLOTCAST__DESCRIPTOR_KIND__PROCESS;
    (is_known ? assert_accepted : assert_refused)(message);
    slc__codec_free(message);
  }
}

/* ---- sizes ---- */

/* A Done with an unknown field that makes it exactly so long. */
static void pad_to(uint8_t *bytes, size_t size) {
  static const uint8_t done[] = {0x6a, 0x00};
  memcpy(bytes, done, sizeof done);
  bytes[2] = 0x9a; /* field 99, length-delimited, */
  bytes[3] = 0x06;
  size_t length = size - 7; /* in three bytes */
  bytes[4] = (uint8_t)(0x80 | (length & 0x7f));
  bytes[5] = (uint8_t)(0x80 | ((length >> 7) & 0x7f));
  bytes[6] = (uint8_t)(length >> 14);
  memset(bytes + 7, 'x', length);
}

static void test_codec_longest_message(void **state) {
  (void)state;
  pad_to(packed, SLC__CODEC_MESSAGE_MAX);
  assert_bytes_accepted(packed, SLC__CODEC_MESSAGE_MAX, 0);
  pad_to(packed, SLC__CODEC_MESSAGE_MAX + 1);
  assert_bytes_refused(packed, SLC__CODEC_MESSAGE_MAX + 1, 0);
  assert_bytes_refused(packed, 0, 0);
}

static void test_codec_encode_keeps_to_its_room(void **state) {
  (void)state;
  Slotcast__Message *message = test_message_new(body_named("hello"), 0);
  size_t size = test_message_pack(message, packed, sizeof packed), written = 77;
  memset(packed, 0x5a, sizeof packed);
  assert_int_equal(slc__codec_encode(message, packed, size - 1, &written), SLC_TOO_LARGE);
  assert_int_equal(written, 77);
  for (size_t i = 0; i <= size; i++) assert_int_equal(packed[i], 0x5a);
  assert_int_equal(slc__codec_encode(message, packed, size, &written), 0);
  assert_int_equal(written, size);
  assert_int_equal(packed[size], 0x5a);
  slc__codec_free(message);
}

static void test_codec_encode_refuses_what_could_not_be_decoded(void **state) {
  (void)state;
  Slotcast__Message *message = test_message_new(body_named("refusal"), 0);
  size_t size;
  free(message->refusal->text);
  message->refusal->text = malloc(SLC__CODEC_MESSAGE_MAX + 1);
  assert_non_null(message->refusal->text);
  memset(message->refusal->text, 'x', SLC__CODEC_MESSAGE_MAX);
  message->refusal->text[SLC__CODEC_MESSAGE_MAX] = '\0';
  assert_int_equal(slc__codec_encode(message, packed, sizeof packed, &size), SLC_TOO_LARGE);
  slc__codec_free(message);
}

/* ---- lists ---- */

/* The smallest entries that there are. */
static size_t pack_doorbells(size_t count) {
  Slotcast__Doorbell doorbell = SLOTCAST__DOORBELL__INIT;
  Slotcast__Membership membership = SLOTCAST__MEMBERSHIP__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__Doorbell **list = calloc(count, sizeof *list);
  assert_non_null(list);
  doorbell.id = 1;
  for (size_t i = 0; i < count; i++) list[i] = &doorbell;
  membership.n_doorbells = count;
  membership.doorbells = list;
  message.body_case = SLOTCAST__MESSAGE__BODY_MEMBERSHIP;
  message.membership = &membership;
  size_t size = test_message_pack(&message, packed, sizeof packed);
  free(list);
  return size;
}

static void test_codec_longest_list(void **state) {
  (void)state;
  assert_bytes_accepted(packed, pack_doorbells(SLC__CODEC_LIST_MAX), 0);
  assert_bytes_refused(packed, pack_doorbells(SLC__CODEC_LIST_MAX + 1), 0);
}

/* The largest entries that there are, as many as fit: within the budget of memory. */
static void test_codec_longest_list_of_users(void **state) {
  (void)state;
  Slotcast__Message *message = test_message_new(body_named("channel_report"), 0);
  Slotcast__ChannelReport *report = message->channel_report;
  Slotcast__User *user = report->users[0], **own = report->users;
  size_t own_count = report->n_users;
  enum { COUNT = 1000 };
  Slotcast__User **list = calloc(COUNT, sizeof *list);
  assert_non_null(list);
  for (size_t i = 0; i < COUNT; i++) list[i] = user;
  report->users = list;
  report->n_users = COUNT;
  assert_true(slotcast__message__get_packed_size(message) > SLC__CODEC_MESSAGE_MAX / 2);
  assert_accepted(message);
  report->users = own;
  report->n_users = own_count;
  free(list);
  slc__codec_free(message);
}

/* ---- fields, wherever they are ---- */

struct planting {
  ProtobufCType type;
  size_t until; /* counts down to the value that is replaced */
  const char *text;
  size_t bytes_size;
  const char *planted_in; /* the field's name; NULL: no such value any more */
};

static void plant_text(const struct planting *planting, char **value) {
  free(*value);
  *value = strdup(planting->text);
  assert_non_null(*value);
}

static void plant_bytes(const struct planting *planting, ProtobufCBinaryData *value) {
  free(value->data);
  value->len = planting->bytes_size;
  value->data = calloc(1, planting->bytes_size + 1);
  assert_non_null(value->data);
}

static void plant(void *ctx, const ProtobufCFieldDescriptor *field, void *value) {
  struct planting *planting = ctx;
  if (field->type != planting->type || planting->until-- != 0) return;
  planting->planted_in = field->name;
  if (field->type == PROTOBUF_C_TYPE_STRING) {
    plant_text(planting, value);
  } else {
    plant_bytes(planting, value);
  }
}

/* Replaces the values of that type one by one, in messages of every kind; whether that is accepted is for `expected` to
 * say, by the field's name.  Returns how many there were. */
static size_t plant_everywhere(struct planting planting, bool (*expected)(const char *name, size_t size)) {
  size_t count = 0, size = planting.text != NULL ? strlen(planting.text) : planting.bytes_size;
  const ProtobufCFieldDescriptor *body;
  for (size_t i = 0; (body = test_body(i)) != NULL; i++) {
    for (size_t k = 0;; k++) {
      Slotcast__Message *message = test_message_new(body, 1);
      struct planting one = planting;
      one.until = k;
      test_message_visit(message, plant, &one);
      if (one.planted_in != NULL) (expected(one.planted_in, size) ? assert_accepted : assert_refused)(message);
      slc__codec_free(message);
      if (one.planted_in == NULL) break;
      count++;
    }
  }
  return count;
}

static bool never(const char *name, size_t size) {
  (void)name, (void)size;
  return false;
}

static bool always(const char *name, size_t size) {
  (void)name, (void)size;
  return true;
}

static bool fits_text(const char *name, size_t size) {
  return size <= (strcmp(name, "text") == 0 ? SLC__CODEC_TEXT_MAX : SLC__CODEC_NAME_MAX);
}

static bool fits_bytes(const char *name, size_t size) {
  return strcmp(name, "lines") == 0 || size == 16 || (size == 0 && strcmp(name, "token") == 0);
}

static void test_codec_strings_that_are_not_text(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "\x01",             /* control characters: */
      "a\n",              /* also this one */
      "\x7f",             /* DEL */
      "\xc2\x85",         /* U+0085 */
      "\x80",             /* a continuation alone */
      "\xc3",             /* nothing continues */
      "\xc3(",            /* something else does */
      "\xe2\x82",         /* the same, of three bytes */
      "\xf0\x9f\x93",     /* of four */
      "\xc0\x80",         /* overlong NUL */
      "\xc1\xbf",         /* overlong, two bytes */
      "\xe0\x9f\xbf",     /* three */
      "\xf0\x8f\xbf\xbf", /* four */
      "\xed\xa0\x80",     /* a surrogate, the first */
      "\xed\xbf\xbf",     /* and the last */
      "\xf4\x90\x80\x80", /* U+110000 */
      "\xf5\x80\x80\x80",
      "\xfe",
      "\xff",
  };
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    assert_true(plant_everywhere((struct planting){.type = PROTOBUF_C_TYPE_STRING, .text = wrong[i]}, never) > 0);
}

static void test_codec_strings_that_are_text(void **state) {
  (void)state;
  static const char *const right[] = {
      "",
      " ",
      "~",
      "\xc2\xa0",         /* U+00A0 */
      "\xdf\xbf",         /* U+07FF */
      "\xe0\xa0\x80",     /* U+0800 */
      "\xed\x9f\xbf",     /* U+D7FF */
      "\xee\x80\x80",     /* U+E000 */
      "\xef\xbf\xbf",     /* U+FFFF */
      "\xf0\x90\x80\x80", /* U+10000 */
      "\xf4\x8f\xbf\xbf", /* U+10FFFF */
  };
  for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
    assert_true(plant_everywhere((struct planting){.type = PROTOBUF_C_TYPE_STRING, .text = right[i]}, always) > 0);
}

static void test_codec_strings_of_every_length(void **state) {
  (void)state;
  static const size_t lengths[] = {SLC__CODEC_NAME_MAX, SLC__CODEC_NAME_MAX + 1, SLC__CODEC_TEXT_MAX,
                                   SLC__CODEC_TEXT_MAX + 1};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    char text[SLC__CODEC_TEXT_MAX + 2];
    memset(text, 't', lengths[i]);
    text[lengths[i]] = '\0';
    assert_true(plant_everywhere((struct planting){.type = PROTOBUF_C_TYPE_STRING, .text = text}, fits_text) > 0);
  }
}

static void test_codec_bytes_of_every_length(void **state) {
  (void)state;
  static const size_t lengths[] = {0, 1, 15, 16, 17, 4096};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
    assert_true(
        plant_everywhere((struct planting){.type = PROTOBUF_C_TYPE_BYTES, .bytes_size = lengths[i]}, fits_bytes) > 0);
}

static void test_codec_most_lines_of_a_table(void **state) {
  (void)state;
  enum { LINES_MAX = 64 * 1024 };
  for (size_t beyond = 0; beyond < 2; beyond++) {
    Slotcast__Message *message = test_message_new(body_named("membership"), 0);
    ProtobufCBinaryData *lines = &message->membership->tables[1]->lines;
    plant_bytes(&(struct planting){.bytes_size = LINES_MAX + beyond}, lines);
    (beyond == 0 ? assert_accepted : assert_refused)(message);
    slc__codec_free(message);
  }
}

static void test_codec_free_takes_null(void **state) {
  (void)state;
  slc__codec_free(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_codec_every_kind_comes_back_as_it_was),
      cmocka_unit_test(test_codec_no_beginning_is_a_message),
      cmocka_unit_test(test_codec_body_that_is_missing_or_unknown),
      cmocka_unit_test(test_codec_unknown_field_is_passed_over),
      cmocka_unit_test(test_codec_field_numbers_that_cannot_be),
      cmocka_unit_test(test_codec_manifest_counts_descriptors),
      cmocka_unit_test(test_codec_manifest_kinds),
      cmocka_unit_test(test_codec_longest_message),
      cmocka_unit_test(test_codec_encode_keeps_to_its_room),
      cmocka_unit_test(test_codec_encode_refuses_what_could_not_be_decoded),
      cmocka_unit_test(test_codec_longest_list),
      cmocka_unit_test(test_codec_longest_list_of_users),
      cmocka_unit_test(test_codec_strings_that_are_not_text),
      cmocka_unit_test(test_codec_strings_that_are_text),
      cmocka_unit_test(test_codec_strings_of_every_length),
      cmocka_unit_test(test_codec_bytes_of_every_length),
      cmocka_unit_test(test_codec_most_lines_of_a_table),
      cmocka_unit_test(test_codec_free_takes_null),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

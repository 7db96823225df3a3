/* What decoding asks for: never more than its budget, an error when there is none, and all of it given back.  The
 * linker leads the codec's malloc and free to those below. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "fuzz/messages.h"

enum { BUDGET = 32 * SLC__CODEC_MESSAGE_MAX, NEVER = -1 };

static struct {
  int until_failure; /* allocations that still succeed; NEVER: all */
  size_t bytes;
  int live;
} heap = {.until_failure = NEVER};

void *__real_malloc(size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void __wrap_free(void *memory);

void *__wrap_malloc(size_t size) {
  if (heap.until_failure == 0) return NULL;
  if (heap.until_failure > 0) heap.until_failure--;
  void *memory = __real_malloc(size);
  heap.bytes += size;
  if (memory != NULL) heap.live++;
  return memory;
}

void __wrap_free(void *memory) {
  if (memory != NULL) heap.live--;
  __real_free(memory);
}

static uint8_t packed[SLC__CODEC_MESSAGE_MAX];

/* Repeats two bytes until the message is as long as may be; what it takes to decode that. */
static size_t bytes_to_decode_repeated(uint8_t first, uint8_t second, int expected) {
  Slotcast__Message *message = NULL;
  for (size_t i = 0; i < sizeof packed; i += 2) {
    packed[i] = first;
    packed[i + 1] = second;
  }
  heap.bytes = 0;
  int live = heap.live;
  assert_int_equal(slc__codec_decode(packed, sizeof packed, 0, &message), expected);
  slc__codec_free(message);
  assert_int_equal(heap.live, live);
  return heap.bytes;
}

static void test_memory_is_bounded(void **state) {
  (void)state;
  /* Entries of the manifest that take two bytes there and dozens here; unknown fields; bodies that replace each other,
   * which is the only one of the three that is fine. */
  assert_in_range(bytes_to_decode_repeated(0x12, 0x00, SLC_PROTOCOL), 1, BUDGET);
  assert_in_range(bytes_to_decode_repeated(0x78, 0x00, SLC_PROTOCOL), 1, BUDGET);
  assert_in_range(bytes_to_decode_repeated(0x6a, 0x00, SLC_PROTOCOL), 1, BUDGET);
}

static void test_memory_failing_at_each_step(void **state) {
  (void)state;
  const ProtobufCFieldDescriptor *body;
  for (size_t i = 0; (body = test_body(i)) != NULL; i++) {
    Slotcast__Message *message = test_message_new(body, 2), *back;
    size_t size = test_message_pack(message, packed, sizeof packed);
    slc__codec_free(message);
    int status = SLC_NO_MEMORY, steps = 0;
    for (; status != 0; steps++) {
      int live = heap.live;
      back = NULL;
      heap.until_failure = steps;
      status = slc__codec_decode(packed, size, 2, &back);
      heap.until_failure = NEVER;
      assert_true(status == 0 || status == SLC_NO_MEMORY);
      assert_true((back != NULL) == (status == 0));
      slc__codec_free(back);
      assert_int_equal(heap.live, live);
    }
    assert_true(steps > 3); /* the message, its manifest and body took some */
  }
}

static void test_memory_of_what_is_refused_is_given_back(void **state) {
  (void)state;
  const ProtobufCFieldDescriptor *body;
  for (size_t i = 0; (body = test_body(i)) != NULL; i++) {
    Slotcast__Message *message = test_message_new(body, 2), *back;
    size_t size = test_message_pack(message, packed, sizeof packed);
    slc__codec_free(message);
    int live = heap.live;
    assert_int_equal(slc__codec_decode(packed, size, 3, &back), SLC_PROTOCOL);
    assert_int_equal(heap.live, live);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_memory_is_bounded),
      cmocka_unit_test(test_memory_failing_at_each_step),
      cmocka_unit_test(test_memory_of_what_is_refused_is_given_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Sizes and offsets: values worked out by hand, and what must hold for every shape up to the largest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/layout.h"
#include "slotcast/status.h"

static struct slc__geometry shape(uint32_t slots, uint64_t slot_size, uint32_t max_publishers) {
  return (struct slc__geometry){.slots = slots,
                                .log_size = slc__geometry_log_size(slots),
                                .max_publishers = max_publishers,
                                .slot_size = slot_size};
}

static struct slc__geometry largest(void) {
  return shape(SLC__SLOTS_MAX, SLC__SLOT_SIZE_MAX, SLC__PUBLISHERS_MAX);
}

static void test_layout_of_a_small_channel(void **state) {
  (void)state;
  struct slc__geometry g = shape(64, 1024, 64);
  assert_int_equal(g.log_size, 4096);
  assert_int_equal(slc__layout_publisher_lines(&g), 640);
  assert_int_equal(slc__layout_log(&g), 640 + 64 * 128);
  assert_int_equal(slc__layout_own(&g), 640 + 64 * 128 + 4096 * 8);
  assert_int_equal(slc__layout_control_size(&g), 45056); /* 640 + 8192 + 32768 + 512 = 42112, rounded up to a page */
  assert_int_equal(slc__layout_slot_stride(&g), 1152);   /* 64 + 1024 = 1088, rounded up to a line */
  assert_int_equal(slc__layout_buffers_size(&g), 77824); /* 128 + 64 * 1152 = 73856, rounded up to a page */
  assert_int_equal(slc__layout_bell_size(), 4096);
}

static void test_layout_of_the_largest_channel(void **state) {
  (void)state;
  struct slc__geometry g = largest();
  assert_int_equal(slc__geometry_check(&g), SLC_OK);
  assert_int_equal(g.log_size, UINT32_C(1) << 20);
  uint64_t stride = (UINT64_C(1) << 40) + 128;
  assert_true(slc__layout_slot_stride(&g) == stride);
  uint64_t all = 0;
  assert_false(__builtin_mul_overflow(stride, (uint64_t)g.slots, &all));
  assert_true(slc__layout_buffers_size(&g) == all + SLC__PAGE);
  assert_true(slc__layout_buffers_size(&g) <= INT64_MAX);
  assert_true(slc__layout_control_size(&g) <= INT64_MAX);
}

static void check_shape(const struct slc__geometry *g) {
  assert_int_equal(slc__geometry_check(g), SLC_OK);
  uint64_t lines = slc__layout_publisher_lines(g), log = slc__layout_log(g), own = slc__layout_own(g);
  assert_int_equal((lines | log | own) % SLC__LINE, 0);
  assert_true(lines >= sizeof(struct slc__control_page));
  assert_true(log >= lines + g->max_publishers * sizeof(struct slc__publisher_line));
  assert_true(own >= log + (uint64_t)g->log_size * sizeof(uint64_t));
  uint64_t control = slc__layout_control_size(g), maxima = slc__layout_maxima(g);
  assert_true(maxima >= own + (uint64_t)g->slots * sizeof(uint64_t));
  assert_int_equal(maxima % SLC__LINE, 0);
  assert_true(control >= maxima + (g->virtual_max == 0 ? 0 : (g->virtual_max + 1) * sizeof(uint64_t)));
  assert_int_equal(control % SLC__PAGE, 0);
  uint64_t stride = slc__layout_slot_stride(g), buffers = slc__layout_buffers_size(g);
  assert_int_equal(stride % SLC__LINE, 0);
  uint64_t offset = slc__layout_payload_offset(g);
  assert_true(offset >= SLC__PAYLOAD_OFFSET + (uint64_t)g->metadata_size + g->checksum_size);
  assert_int_equal(offset % SLC__PAYLOAD_OFFSET, 0);
  assert_true(g->slot_size <= slc__layout_inline_max(g) || stride >= offset + g->slot_size);
  assert_true(stride < offset + g->slot_size + SLC__LINE);
  assert_int_equal(buffers % SLC__PAGE, 0);
  assert_true((buffers - SLC__BUFFERS_FIRST) / g->slots >= stride);
  assert_true(buffers - SLC__BUFFERS_FIRST - stride * g->slots < SLC__PAGE);
}

static void test_layout_parts_are_aligned_and_apart(void **state) {
  (void)state;
  static const uint32_t slots[] = {4, 5, 63, 64, 1000, 4095, 4096, 4097, 65536, SLC__SLOTS_MAX};
  static const uint64_t sizes[] = {1, 32, 33, 64, 65, 1024, 4096, (1 << 20) - 1, 1 << 20, SLC__SLOT_SIZE_MAX};
  static const uint32_t publishers[] = {1, 2, 64, SLC__PUBLISHERS_MAX};
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
    for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++)
      for (size_t k = 0; k < sizeof publishers / sizeof *publishers; k++) {
        struct slc__geometry g = shape(slots[i], sizes[j], publishers[k]);
        check_shape(&g);
        g.metadata_size = 24;
        g.checksum = SLC__CHECKSUM_OWN;
        g.checksum_size = 41;
        check_shape(&g);
        g.virtual_max = SLC__VIRTUAL_MAX;
        check_shape(&g);
      }
}

static void test_layout_slot_stride_is_whole_lines(void **state) {
  (void)state;
  static const uint64_t expected[][2] = {{1, 128},   {32, 128},  {33, 128},    {64, 128},
                                         {65, 256},  {192, 256}, {193, 384},   {1 << 20, (1 << 20) + 128},
                                         {100, 256}, {320, 384}, {1024, 1152}, {4096, 4224}};
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
    struct slc__geometry g = shape(4, expected[i][0], 1);
    assert_int_equal(slc__layout_slot_stride(&g), expected[i][1]);
  }
}

static void refused(struct slc__geometry g) {
  assert_int_equal(slc__geometry_check(&g), SLC_INVALID);
}

/* Whatever its messages' size, there is nothing but prefixes in the buffers of a split channel. */
static void test_layout_split_has_no_payloads(void **state) {
  (void)state;
  static const uint64_t sizes[] = {1, 32, 33, 100000, SLC__SLOT_SIZE_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    struct slc__geometry g = shape(64, sizes[i], 1);
    g.split = 1;
    assert_int_equal(slc__geometry_check(&g), SLC_OK);
    assert_int_equal(slc__layout_inline_max(&g), 0);
    assert_int_equal(slc__layout_slot_stride(&g), SLC__LINE);
    g.metadata_size = 100;
    assert_int_equal(slc__layout_slot_stride(&g), 2 * SLC__LINE);
  }
}

/* From a shape that is right, one field at a time goes wrong. */
static void test_layout_check_refuses_each_field(void **state) {
  (void)state;
  const struct slc__geometry right = {
      .slots = 4097, .log_size = 8192, .max_publishers = 1, .reliable = 1, .slot_size = 1};
  assert_int_equal(slc__geometry_check(&right), SLC_OK);
#define REFUSED_WITH(field, value)                                                                                     \
  do {                                                                                                                 \
    struct slc__geometry wrong = right;                                                                                \
    wrong.field = (value);                                                                                             \
    refused(wrong);                                                                                                    \
  } while (0)
  REFUSED_WITH(slots, 0);
  REFUSED_WITH(slots, SLC__SLOTS_MIN - 1);
  REFUSED_WITH(slots, 8193); /* more than the log */
  REFUSED_WITH(slots, SLC__SLOTS_MAX + 1);
  REFUSED_WITH(slots, UINT32_MAX);
  REFUSED_WITH(log_size, 0);
  REFUSED_WITH(log_size, 4096); /* fewer than the slots */
  REFUSED_WITH(log_size, 8191);
  REFUSED_WITH(log_size, 12288);
  REFUSED_WITH(log_size, SLC__SLOTS_MAX * 2);
  REFUSED_WITH(log_size, UINT32_C(1) << 31);
  REFUSED_WITH(max_publishers, 0);
  REFUSED_WITH(max_publishers, SLC__PUBLISHERS_MAX + 1);
  REFUSED_WITH(max_publishers, UINT32_MAX);
  REFUSED_WITH(reliable, 2);
  REFUSED_WITH(slot_size, 0);
  REFUSED_WITH(slot_size, SLC__SLOT_SIZE_MAX + 1);
  REFUSED_WITH(slot_size, UINT64_MAX);
  REFUSED_WITH(keep_last, 4095); /* two must be left for others */
  REFUSED_WITH(keep_last, UINT32_MAX);
  REFUSED_WITH(metadata_size, SLC__METADATA_MAX + 1);
  REFUSED_WITH(checksum, SLC__CHECKSUM_CRC32C); /* without a size */
  REFUSED_WITH(checksum, SLC__CHECKSUM_OWN);
  REFUSED_WITH(checksum, 3);
  REFUSED_WITH(checksum_size, 4); /* of no checksum */
  REFUSED_WITH(virtual_max, SLC__VIRTUAL_MAX + 1);
  REFUSED_WITH(backend, 3);
  REFUSED_WITH(pages, 3);
  REFUSED_WITH(pages, SLC__PAGES_HUGE_MIN - 1);
  REFUSED_WITH(pages, SLC__PAGES_HUGE_MAX + 1);
  REFUSED_WITH(split, 2);
  REFUSED_WITH(reserved, 1);
#undef REFUSED_WITH
  struct slc__geometry few = shape(4, 1, 1);
  few.log_size = SLC__LOG_MIN / 2;
  refused(few);
}

/* Slots come from a peer before they are checked: no value may keep this from coming back. */
static void test_layout_log_size_is_the_smallest_power_of_two(void **state) {
  (void)state;
  assert_int_equal(slc__geometry_log_size(0), SLC__LOG_MIN);
  assert_int_equal(slc__geometry_log_size(4096), 4096);
  assert_int_equal(slc__geometry_log_size(4097), 8192);
  assert_int_equal(slc__geometry_log_size(SLC__SLOTS_MAX), SLC__SLOTS_MAX);
  static const uint32_t too_many[] = {SLC__SLOTS_MAX + 1, UINT32_C(1) << 31, UINT32_MAX};
  for (size_t i = 0; i < sizeof too_many / sizeof *too_many; i++) refused(shape(too_many[i], 1, 1));
}

static void test_layout_batch_is_a_share_of_the_slots(void **state) {
  (void)state;
  uint32_t before = 0;
  for (uint32_t slots = SLC__SLOTS_MIN; slots <= SLC__SLOTS_MAX; slots += slots < 10000 ? 1 : 4999) {
    uint32_t batch = slc__geometry_batch(slots);
    assert_in_range(batch, 2, 512);
    assert_true(batch <= slots / 2);
    assert_true(batch >= before);
    before = batch;
  }
  assert_int_equal(slc__geometry_batch(SLC__SLOTS_MIN), 2);
  assert_int_equal(slc__geometry_batch(1024), 128);
  assert_int_equal(slc__geometry_batch(4096), 512);
  assert_int_equal(slc__geometry_batch(SLC__SLOTS_MAX), 512);
}

static void test_layout_table_has_the_lines_that_it_was_made_for(void **state) {
  (void)state;
  static const uint32_t lines[] = {0, 1, 28, 29, 30, 61, 62, 1000, 1 << 20};
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    uint64_t size = slc__layout_table_size(lines[i]);
    assert_int_equal(size % SLC__PAGE, 0);
    assert_true(size >= sizeof(struct slc__table_page) + lines[i] * sizeof(struct slc__hold_line));
    assert_true(slc__layout_table_lines(size) >= lines[i]);
    assert_true(slc__layout_table_lines(size) < lines[i] + SLC__PAGE / sizeof(struct slc__hold_line));
  }
  assert_int_equal(slc__layout_table_size(29), 4096); /* 384 + 29 * 128 is a page to the byte */
  assert_int_equal(slc__layout_table_size(30), 8192);
  assert_true(slc__layout_table_size(UINT32_MAX) > (uint64_t)UINT32_MAX * sizeof(struct slc__hold_line));
}

/* Sizes come from a peer: lines that would lie beyond the end are not counted, nor more than can be numbered. */
static void test_layout_table_lines_of_any_size(void **state) {
  (void)state;
  assert_int_equal(slc__layout_table_lines(0), 0);
  assert_int_equal(slc__layout_table_lines(sizeof(struct slc__table_page) - 1), 0);
  assert_int_equal(slc__layout_table_lines(sizeof(struct slc__table_page)), 0);
  assert_int_equal(slc__layout_table_lines(sizeof(struct slc__table_page) + 127), 0);
  assert_int_equal(slc__layout_table_lines(sizeof(struct slc__table_page) + 128), 1);
  assert_in_range(slc__layout_table_lines(UINT64_MAX), 1, UINT32_C(1) << 20);
}

static void test_layout_lines_for_holds(void **state) {
  (void)state;
  static const uint32_t expected[][2] = {{0, 1},  {1, 1},  {12, 1},     {13, 2},
                                         {24, 2}, {25, 3}, {4096, 342}, {UINT32_MAX, 357913942}};
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
    assert_int_equal(slc__layout_lines_for(expected[i][0]), expected[i][1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_layout_of_a_small_channel),
      cmocka_unit_test(test_layout_of_the_largest_channel),
      cmocka_unit_test(test_layout_parts_are_aligned_and_apart),
      cmocka_unit_test(test_layout_slot_stride_is_whole_lines),
      cmocka_unit_test(test_layout_split_has_no_payloads),
      cmocka_unit_test(test_layout_check_refuses_each_field),
      cmocka_unit_test(test_layout_log_size_is_the_smallest_power_of_two),
      cmocka_unit_test(test_layout_batch_is_a_share_of_the_slots),
      cmocka_unit_test(test_layout_table_has_the_lines_that_it_was_made_for),
      cmocka_unit_test(test_layout_table_lines_of_any_size),
      cmocka_unit_test(test_layout_lines_for_holds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

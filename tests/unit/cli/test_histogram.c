/* The histogram of `slotcast bench`: exact where it says so, never further off than a bucket is wide. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "bench/histogram.h"

static struct histogram histogram, other; /* large */
static struct repeated repeated;

static int clear(void **state) {
  (void)state;
  histogram_clear(&histogram);
  histogram_clear(&other);
  repeated_clear(&repeated);
  return 0;
}

static void test_histogram_of_nothing(void **state) {
  (void)state;
  assert_true(histogram_at(&histogram, 0.5) == 0);
  assert_true(histogram_at(&histogram, 1) == 0);
  assert_true(histogram_mean(&histogram) == 0);
}

static void test_histogram_small_values_are_exact(void **state) {
  (void)state;
  for (int64_t value = 1; value <= 500; value++) histogram_record(&histogram, value);
  assert_true(histogram_at(&histogram, 0.5) == 250);
  assert_true(histogram_at(&histogram, 0.99) == 495);
  assert_true(histogram_at(&histogram, 0.002) == 1);
  assert_true(histogram_at(&histogram, 1) == 500);
  assert_int_equal(histogram.count, 500);
  assert_int_equal(histogram.min, 1);
  assert_int_equal(histogram.max, 500);
  assert_true(histogram_mean(&histogram) == 250.5);
}

/* One value among two larger ones, so that min and max do not help. */
static void test_histogram_error_is_bounded(void **state) {
  (void)state;
  for (uint64_t value = 2; value < UINT64_C(1) << 41; value += value / 3 + 1) {
    for (int offset = -1; offset <= 1; offset++) {
      uint64_t exact = value + (uint64_t)offset;
      histogram_clear(&histogram);
      histogram_record(&histogram, 0);
      histogram_record(&histogram, (int64_t)exact);
      histogram_record(&histogram, INT64_C(1) << 41);
      double error = histogram_at(&histogram, 0.5) - (double)exact;
      assert_true((error < 0 ? -error : error) * 512 <= (double)exact);
    }
  }
}

static void test_histogram_order_is_kept_at_every_power_of_two(void **state) {
  (void)state;
  for (unsigned bit = 1; bit < HISTOGRAM_BITS; bit++) {
    double at[3];
    for (int i = 0; i < 3; i++) {
      histogram_clear(&histogram);
      histogram_record(&histogram, 0);
      histogram_record(&histogram, (INT64_C(1) << bit) + (i - 1));
      histogram_record(&histogram, INT64_MAX);
      at[i] = histogram_at(&histogram, 0.5);
    }
    assert_true(at[0] <= at[1] && at[1] <= at[2]);
    assert_true(at[0] < at[1]); /* a power of two begins a bucket */
  }
}

static void test_histogram_values_out_of_range(void **state) {
  (void)state;
  histogram_record(&histogram, -5);
  assert_int_equal(histogram.min, 0);
  assert_true(histogram_at(&histogram, 1) == 0);
  histogram_record(&histogram, INT64_MAX);
  assert_int_equal(histogram.count, 2);
  assert_true(histogram_at(&histogram, 1) >= (double)(UINT64_C(1) << (HISTOGRAM_BITS - 1)));
}

static void test_histogram_add(void **state) {
  (void)state;
  for (int64_t value = 1; value <= 100; value++) histogram_record(value % 2 != 0 ? &histogram : &other, value);
  histogram_add(&histogram, &other);
  assert_int_equal(histogram.count, 100);
  assert_int_equal(histogram.min, 1);
  assert_int_equal(histogram.max, 100);
  assert_true(histogram_at(&histogram, 0.9) == 90);
  histogram_clear(&other);
  histogram_add(&histogram, &other);
  assert_int_equal(histogram.min, 1);
}

static void test_histogram_median(void **state) {
  (void)state;
  const double odd[] = {9, 1, 5}, even[] = {4, 1, 2, 8};
  assert_true(median(odd, 3) == 5);
  assert_true(median(even, 4) == 3);
  assert_true(odd[0] == 9); /* they stay as they are */
  assert_true(median(odd, 0) == 0);
}

static void test_histogram_repetitions(void **state) {
  (void)state;
  for (int64_t i = 1; i <= 5; i++) {
    histogram_clear(&histogram);
    for (int64_t value = 1; value <= 100; value++) histogram_record(&histogram, value + 10 * i);
    repeated_add(&repeated, &histogram);
  }
  assert_int_equal(repeated.repetitions, 5);
  assert_true(median(repeated.p50, repeated.repetitions) == 80);
  assert_true(median(repeated.p99, repeated.repetitions) == 129);
  assert_int_equal(repeated.all.count, 500);
  assert_int_equal(repeated.all.min, 11);
  assert_int_equal(repeated.all.max, 150);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_histogram_of_nothing, clear),
      cmocka_unit_test_setup(test_histogram_small_values_are_exact, clear),
      cmocka_unit_test_setup(test_histogram_error_is_bounded, clear),
      cmocka_unit_test_setup(test_histogram_order_is_kept_at_every_power_of_two, clear),
      cmocka_unit_test_setup(test_histogram_values_out_of_range, clear),
      cmocka_unit_test_setup(test_histogram_add, clear),
      cmocka_unit_test_setup(test_histogram_median, clear),
      cmocka_unit_test_setup(test_histogram_repetitions, clear),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The clock and deadlines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void test_clock_goes_forward(void **state) {
  (void)state;
  int64_t first = slc__clock_ns();
  assert_true(first > 0);
  assert_true(slc__clock_ns() >= first);
}

static void test_clock_deadline_of_a_timeout(void **state) {
  (void)state;
  int64_t before = slc__clock_ns();
  int64_t deadline = slc__deadline_after(5 * SLC__NS_PER_S);
  int64_t after = slc__clock_ns();
  assert_true(deadline >= before + 5 * SLC__NS_PER_S);
  assert_true(deadline <= after + 5 * SLC__NS_PER_S);
}

static void test_clock_deadline_never(void **state) {
  (void)state;
  assert_true(slc__deadline_after(-1) == SLC__DEADLINE_NEVER);
  assert_true(slc__deadline_after(INT64_MIN) == SLC__DEADLINE_NEVER);
  /* Longer than there is time: not a moment in the past. */
  assert_true(slc__deadline_after(INT64_MAX) == SLC__DEADLINE_NEVER);
  assert_true(slc__deadline_after(INT64_MAX - 1) == SLC__DEADLINE_NEVER);
}

static void test_clock_timespec(void **state) {
  (void)state;
  struct timespec ts = slc__clock_timespec(3 * SLC__NS_PER_S + 42);
  assert_int_equal(ts.tv_sec, 3);
  assert_int_equal(ts.tv_nsec, 42);
  ts = slc__clock_timespec(SLC__NS_PER_S - 1);
  assert_int_equal(ts.tv_sec, 0);
  assert_int_equal(ts.tv_nsec, 999999999);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_clock_goes_forward),
      cmocka_unit_test(test_clock_deadline_of_a_timeout),
      cmocka_unit_test(test_clock_deadline_never),
      cmocka_unit_test(test_clock_timespec),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

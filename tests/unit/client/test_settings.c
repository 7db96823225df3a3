/* Structs of another version's size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "settings.h"
#include "slotcast/slotcast.h"

struct newer {
  slc_client_options known;
  uint64_t unknown;
};

static void test_settings_of_this_version(void **state) {
  (void)state;
  slc_client_options given = SLC_CLIENT_OPTIONS_INIT, got = SLC_CLIENT_OPTIONS_INIT;
  given.name = "x";
  assert_int_equal(slc__settings_copy(&got, sizeof got, &given), 0);
  assert_string_equal(got.name, "x");
  assert_int_equal(slc__settings_copy(&got, sizeof got, NULL), 0);
  assert_string_equal(got.name, "x"); /* NULL leaves what is there */
}

static void test_settings_of_another_version(void **state) {
  (void)state;
  slc_client_options got = SLC_CLIENT_OPTIONS_INIT;
  struct newer newer = {.known = SLC_CLIENT_OPTIONS_INIT};
  newer.known.size = sizeof newer;
  assert_int_equal(slc__settings_copy(&got, sizeof got, &newer), 0);
  newer.unknown = 1;
  assert_int_equal(slc__settings_copy(&got, sizeof got, &newer), SLC_INVALID);
  /* Built when there was no name yet: the name it has then is not looked at. */
  slc_client_options older = {.size = offsetof(slc_client_options, name), .socket = "s", .name = "rubbish"};
  assert_int_equal(slc__settings_copy(&got, sizeof got, &older), 0);
  assert_string_equal(got.socket, "s");
  assert_null(got.name);
  slc_client_options zero = {0};
  assert_int_equal(slc__settings_copy(&got, sizeof got, &zero), SLC_INVALID);
}

static void test_stats_of_another_version(void **state) {
  (void)state;
  slc_subscriber_stats all = {.attached = 1, .slots = 2, .lag = 9}, got = {.size = sizeof got};
  assert_int_equal(slc__stats_copy(&got, &all, sizeof all), 0);
  assert_int_equal(got.size, sizeof got);
  assert_int_equal(got.lag, 9);
  slc_subscriber_stats older = {.size = offsetof(slc_subscriber_stats, publishers), .lag = 77};
  assert_int_equal(slc__stats_copy(&older, &all, sizeof all), 0);
  assert_int_equal(older.slots, 2);
  assert_int_equal(older.lag, 77); /* behind what it knows nothing is written */
  slc_subscriber_stats unset = {0};
  assert_int_equal(slc__stats_copy(&unset, &all, sizeof all), SLC_INVALID);
}

static void test_spin(void **state) {
  (void)state;
  assert_true(slc__spin_ns(0) > 0);
  assert_int_equal(slc__spin_ns(SLC_SPIN_NEVER), 0);
  assert_int_equal(slc__spin_ns(5), 5);
  assert_true(slc__spin_ns(SLC_SPIN_FOREVER) == INT64_MAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_settings_of_this_version),
      cmocka_unit_test(test_settings_of_another_version),
      cmocka_unit_test(test_stats_of_another_version),
      cmocka_unit_test(test_spin),
  };
  return cmocka_run_group_tests_name("client_settings", tests, NULL, NULL);
}

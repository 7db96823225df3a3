/* Records and the order of their changes: what a place sees, and when a tombstone goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "store/records.h"

static void put(struct slc__records *records, const char *key, const char *value) {
  assert_int_equal(slc__records_put(records, key, strlen(key), value, strlen(value), NULL, 0), 0);
}

static bool drop(struct slc__records *records, const char *key) {
  return slc__records_drop(records, key, strlen(key));
}

static void check_next(struct slc__records *records, struct slc__place *place, const char *key, const char *value) {
  const struct slc__record *record = slc__place_next(records, place);
  assert_non_null(record);
  assert_int_equal(record->key_size, strlen(key));
  assert_memory_equal(record->key, key, record->key_size);
  assert_int_equal(record->is_dropped, value == NULL);
  if (value != NULL) {
    assert_int_equal(record->value_size, strlen(value));
    assert_memory_equal(record->value, value, record->value_size);
  }
  slc__place_pass(records, place);
}

static void check_end(struct slc__records *records, struct slc__place *place) {
  assert_null(slc__place_next(records, place));
}

static bool has_tombstones(const struct slc__records *records) {
  return !TAILQ_EMPTY(&records->tombstones);
}

static void test_records_place_sees_each_change_once_in_its_latest_state(void **state) {
  struct slc__records records;
  struct slc__place place;
  (void)state;
  slc__records_init(&records);
  slc__place_open(&records, &place);
  check_end(&records, &place);
  put(&records, "a", "1");
  put(&records, "b", "1");
  put(&records, "a", "2");
  check_next(&records, &place, "b", "1");
  put(&records, "b", "2");
  check_next(&records, &place, "a", "2");
  check_next(&records, &place, "b", "2");
  check_end(&records, &place);
  put(&records, "c", "");
  check_next(&records, &place, "c", "");
  check_end(&records, &place);
  slc__place_close(&records, &place);
  slc__records_deinit(&records);
}

static void test_records_change_of_what_comes_next_moves_the_place(void **state) {
  struct slc__records records;
  struct slc__place place;
  (void)state;
  slc__records_init(&records);
  put(&records, "a", "1");
  put(&records, "b", "1");
  slc__place_open(&records, &place);
  put(&records, "a", "2");
  check_next(&records, &place, "b", "1");
  check_next(&records, &place, "a", "2");
  put(&records, "a", "3");
  put(&records, "a", "4");
  check_next(&records, &place, "a", "4");
  check_end(&records, &place);
  slc__place_close(&records, &place);
  slc__records_deinit(&records);
}

static void test_records_tombstone_stays_until_every_place_has_passed(void **state) {
  struct slc__records records;
  struct slc__place first, second, late;
  (void)state;
  slc__records_init(&records);
  put(&records, "a", "1");
  assert_true(drop(&records, "a"));
  assert_false(drop(&records, "a"));
  assert_false(has_tombstones(&records));
  put(&records, "a", "1");
  put(&records, "b", "1");
  slc__place_open(&records, &first);
  slc__place_open(&records, &second);
  drop(&records, "a");
  assert_true(has_tombstones(&records));
  slc__place_open(&records, &late);
  check_next(&records, &late, "b", "1");
  check_end(&records, &late);
  check_next(&records, &first, "b", "1");
  check_next(&records, &first, "a", NULL);
  assert_true(has_tombstones(&records));
  slc__place_close(&records, &second);
  assert_false(has_tombstones(&records));
  slc__place_close(&records, &first);
  slc__place_close(&records, &late);
  slc__records_deinit(&records);
}

static void test_records_dropped_and_put_again_is_a_record(void **state) {
  struct slc__records records;
  struct slc__place place;
  (void)state;
  slc__records_init(&records);
  put(&records, "a", "1");
  slc__place_open(&records, &place);
  drop(&records, "a");
  put(&records, "a", "2");
  assert_false(has_tombstones(&records));
  check_next(&records, &place, "a", "2");
  check_end(&records, &place);
  drop(&records, "a");
  check_next(&records, &place, "a", NULL);
  assert_false(has_tombstones(&records));
  slc__place_close(&records, &place);
  slc__records_deinit(&records);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_records_place_sees_each_change_once_in_its_latest_state),
      cmocka_unit_test(test_records_change_of_what_comes_next_moves_the_place),
      cmocka_unit_test(test_records_tombstone_stays_until_every_place_has_passed),
      cmocka_unit_test(test_records_dropped_and_put_again_is_a_record),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

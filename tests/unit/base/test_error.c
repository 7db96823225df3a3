/* Status codes, their names and sentences, errno, and the sentence of each thread's last failure. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static const struct {
  const char *name;
  int value;
  const char *text;
} statuses[] = {
#define ROW(name, value, text) {#name, value, text},
    SLC_STATUS_MAP(ROW)
#undef ROW
};
enum { STATUS_COUNT = sizeof(statuses) / sizeof(statuses[0]) };

static void test_status_values_are_stable(void **state) {
  (void)state;
  /* 0, -1, -2 .. without a gap: a code that is renumbered, or dropped, shows. */
  for (int i = 0; i < STATUS_COUNT; i++) assert_int_equal(statuses[i].value, -i);
  assert_int_equal(SLC_OK, 0);
  assert_int_equal(SLC_WOULD_BLOCK, -2);
  assert_int_equal(SLC_CORRUPT, -19);
  assert_int_equal(SLC_BUSY, -25);
}

static void test_status_name_and_text(void **state) {
  (void)state;
  for (int i = 0; i < STATUS_COUNT; i++) {
    assert_string_equal(slc__status_name(statuses[i].value), statuses[i].name);
    assert_string_equal(slc__status_text(statuses[i].value), statuses[i].text);
  }
}

static void test_status_unknown(void **state) {
  (void)state;
  const int unknown[] = {1, -STATUS_COUNT, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
    assert_string_equal(slc__status_name(unknown[i]), "?");
    assert_true(strlen(slc__status_text(unknown[i])) > 0);
  }
}

static void test_status_of_errno(void **state) {
  (void)state;
  assert_int_equal(slc__status_of_errno(ENOMEM), SLC_NO_MEMORY);
  assert_int_equal(slc__status_of_errno(EMFILE), SLC_NO_DESCRIPTORS);
  assert_int_equal(slc__status_of_errno(ENFILE), SLC_NO_DESCRIPTORS);
  assert_int_equal(slc__status_of_errno(EPERM), SLC_DENIED);
  assert_int_equal(slc__status_of_errno(EACCES), SLC_DENIED);
  assert_int_equal(slc__status_of_errno(EIO), SLC_SYSTEM);
}

static void test_error_detail_is_the_last_sentence(void **state) {
  (void)state;
  slc__error_clear();
  assert_string_equal(slc__error_detail(), slc__status_text(SLC_OK));
  assert_int_equal(slc__fail(SLC_NO_BUDGET, "%d slots, %s", 4, "all taken"), SLC_NO_BUDGET);
  assert_string_equal(slc__error_detail(), "4 slots, all taken");
  assert_int_equal(slc__fail(SLC_DENIED, "%s", ""), SLC_DENIED);
  assert_string_equal(slc__error_detail(), slc__status_text(SLC_DENIED));
}

static void test_error_detail_can_be_built_upon(void **state) {
  (void)state;
  slc__fail(SLC_SYSTEM, "no such file");
  slc__fail(SLC_SYSTEM, "broker: %s", slc__error_detail());
  assert_string_equal(slc__error_detail(), "broker: no such file");
}

static void test_error_detail_is_cut(void **state) {
  (void)state;
  char endless[4096];
  memset(endless, 'x', sizeof(endless) - 1);
  endless[sizeof(endless) - 1] = '\0';
  slc__fail(SLC_SYSTEM, "%s", endless);
  size_t length = strlen(slc__error_detail());
  assert_true(length > 255 && length < sizeof(endless) - 1);
}

static void test_error_fail_keeps_errno(void **state) {
  (void)state;
  errno = ENOSPC;
  slc__fail(SLC_SYSTEM, "%s", strerror(EIO));
  assert_int_equal(errno, ENOSPC);
}

static void *fail_elsewhere(void *seen) {
  *(int *)seen = strcmp(slc__error_detail(), slc__status_text(SLC_OK)) == 0;
  slc__fail(SLC_LIMIT, "of the other thread");
  return NULL;
}

static void test_error_detail_belongs_to_its_thread(void **state) {
  (void)state;
  pthread_t other;
  int began_clear = 0;
  slc__fail(SLC_DENIED, "of this thread");
  assert_int_equal(pthread_create(&other, NULL, fail_elsewhere, &began_clear), 0);
  assert_int_equal(pthread_join(other, NULL), 0);
  assert_true(began_clear);
  assert_string_equal(slc__error_detail(), "of this thread");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_status_values_are_stable),
      cmocka_unit_test(test_status_name_and_text),
      cmocka_unit_test(test_status_unknown),
      cmocka_unit_test(test_status_of_errno),
      cmocka_unit_test(test_error_detail_is_the_last_sentence),
      cmocka_unit_test(test_error_detail_can_be_built_upon),
      cmocka_unit_test(test_error_detail_is_cut),
      cmocka_unit_test(test_error_fail_keeps_errno),
      cmocka_unit_test(test_error_detail_belongs_to_its_thread),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Which channel names there can be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "proto/codec.h"

static void test_names_accepted(void **state) {
  (void)state;
  static const char *const names[] = {
      "a",
      "camera/left/raw",
      "with space",
      "caf\xc3\xa9",
      "\xe4\xb8\xad\xe6\x96\x87",
      "\xf0\x9f\x93\xb7",
      ".slotcastle",
      ".",
      "a/.slotcast",
      ".slotcas",
      "a.b-c_d~e",
      "\xf4\x8f\xbf\xbf",
      "*",
  };
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) assert_int_equal(slc__channel_name_check(names[i]), 0);
}

static void test_names_refused(void **state) {
  (void)state;
  static const char *const names[] = {
      "",     "/",         "/a",           "a/",
      "a//b", ".slotcast", ".slotcast/",   ".slotcast/x",
      "a\nb", "a\x7f",     "a\tb",         "a\x1b[31m",
      "\x80", "a\xc3",     "\xc0\xaf",     "\xed\xa0\x80",
      "\xff", "\xc2\x85",  "\xe0\x80\xaf", "\xf4\x90\x80\x80",
  };
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    assert_int_equal(slc__channel_name_check(names[i]), SLC_NAME_INVALID);
    assert_true(strlen(slc__error_detail()) > 0);
  }
  assert_int_equal(slc__channel_name_check(NULL), SLC_NAME_INVALID);
}

static void test_names_longest(void **state) {
  (void)state;
  char name[SLC__CODEC_NAME_MAX + 2];
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  assert_int_equal(slc__channel_name_check(name), SLC_NAME_INVALID);
  name[SLC__CODEC_NAME_MAX] = '\0';
  assert_int_equal(slc__channel_name_check(name), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_names_accepted),
      cmocka_unit_test(test_names_refused),
      cmocka_unit_test(test_names_longest),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

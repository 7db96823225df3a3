/* Checks that say what the library said. */
#ifndef SLC_TEST_CHECK_H
#define SLC_TEST_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "slotcast/slotcast.h"

static inline void test_check_status(int status, int expected, const char *what, const char *file, int line) {
  if (status == expected) return;
  print_error("%s: %s (%s), expected %s\n", what, slc_status_name(status), slc_error_detail(),
              slc_status_name(expected));
  _fail(file, line);
}

#define check_status(expression, expected) test_check_status((expression), (expected), #expression, __FILE__, __LINE__)
#define check_ok(expression) check_status(expression, 0)

#endif

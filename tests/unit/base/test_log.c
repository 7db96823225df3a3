/* The log callback: what reaches it and what does not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"

struct heard {
  int count;
  enum slc__log_level level;
  char text[4096];
};

static void hear(void *ctx, enum slc__log_level level, const char *text) {
  struct heard *heard = ctx;
  heard->count++;
  heard->level = level;
  snprintf(heard->text, sizeof(heard->text), "%s", text);
  errno = EIO;
}

static int stop_listening(void **state) {
  (void)state;
  slc__log_set(NULL, NULL, SLC__LOG_DEBUG);
  return 0;
}

static void test_log_without_callback_is_silent(void **state) {
  (void)state;
  slc__log_set(NULL, NULL, SLC__LOG_DEBUG);
  slc__log(SLC__LOG_ERROR, "to nobody");
}

static void test_log_passes_text_and_level(void **state) {
  (void)state;
  struct heard heard = {0};
  slc__log_set(hear, &heard, SLC__LOG_INFO);
  slc__log(SLC__LOG_WARNING, "client %d: %s", 7, "gone");
  assert_int_equal(heard.count, 1);
  assert_int_equal(heard.level, SLC__LOG_WARNING);
  assert_string_equal(heard.text, "client 7: gone");
}

static void test_log_stops_at_its_level(void **state) {
  (void)state;
  struct heard heard = {0};
  slc__log_set(hear, &heard, SLC__LOG_NOTICE);
  slc__log(SLC__LOG_INFO, "too much");
  assert_int_equal(heard.count, 0);
  slc__log(SLC__LOG_NOTICE, "just right");
  assert_int_equal(heard.count, 1);
}

static void test_log_cuts_long_lines(void **state) {
  (void)state;
  struct heard heard = {0};
  char endless[3000];
  memset(endless, 'x', sizeof(endless) - 1);
  endless[sizeof(endless) - 1] = '\0';
  slc__log_set(hear, &heard, SLC__LOG_INFO);
  slc__log(SLC__LOG_INFO, "%s", endless);
  assert_int_equal(heard.count, 1);
  assert_true(strlen(heard.text) > 1000 && strlen(heard.text) < sizeof(endless) - 1);
}

static void test_log_keeps_errno(void **state) {
  (void)state;
  struct heard heard = {0};
  slc__log_set(hear, &heard, SLC__LOG_INFO);
  errno = ENOSPC;
  slc__log(SLC__LOG_INFO, "a callback that sets errno");
  assert_int_equal(errno, ENOSPC);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_log_without_callback_is_silent, stop_listening),
      cmocka_unit_test_teardown(test_log_passes_text_and_level, stop_listening),
      cmocka_unit_test_teardown(test_log_stops_at_its_level, stop_listening),
      cmocka_unit_test_teardown(test_log_cuts_long_lines, stop_listening),
      cmocka_unit_test_teardown(test_log_keeps_errno, stop_listening),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* docs/status.md has every status with its value and sentence, and every exit code of the command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h" /* before cmocka, which has a macro `fail` */
#include "slotcast/status.h"

#include <cmocka.h>

static char page[32768];

static int page_read(void **state) {
  (void)state;
  char path[4096];
  snprintf(path, sizeof path, "%s/docs/status.md", getenv("SLOTCAST_SOURCE_DIR"));
  FILE *file = fopen(path, "re");
  if (file == NULL) return -1;
  size_t size = fread(page, 1, sizeof page - 1, file);
  page[size] = '\0';
  fclose(file);
  return size > 0 && size < sizeof page - 1 ? 0 : -1;
}

/* The row begins a line, and something is said behind it. */
static bool has_row(const char *row) {
  const char *found = strstr(page, row);
  if (found == NULL || found == page || found[-1] != '\n') return false;
  const char *rest = found + strlen(row);
  return *rest != '\n' && *rest != '|';
}

static void check_row(const char *row) {
  if (!has_row(row)) fail_msg("docs/status.md has no row \"%s\" that says something", row);
}

static int count_rows(const char *beginning) {
  int rows = 0;
  for (const char *at = page; (at = strstr(at, beginning)) != NULL; at++) rows++;
  return rows;
}

static void test_status_page_has_every_status(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int value;
    const char *text;
  } statuses[] = {
#define STATUS_(name, value, text) {#name, value, text},
      SLC_STATUS_MAP(STATUS_)
#undef STATUS_
  };
  enum { STATUSES = sizeof statuses / sizeof statuses[0] };
  for (int i = 0; i < STATUSES; i++) {
    char row[256];
    snprintf(row, sizeof row, "| `SLC_%s` | %d | %s | ", statuses[i].name, statuses[i].value, statuses[i].text);
    check_row(row);
  }
  assert_int_equal(count_rows("\n| `SLC_"), STATUSES); /* none that is no more */
}

static void test_status_page_has_every_exit_code(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int code;
  } codes[] = {{"EXIT_OK", EXIT_OK},
               {"EXIT_FAILED", EXIT_FAILED},
               {"EXIT_USAGE", EXIT_USAGE},
               {"EXIT_NO_BROKER", EXIT_NO_BROKER},
               {"EXIT_NO_CHANNEL", EXIT_NO_CHANNEL},
               {"EXIT_INTERRUPTED", EXIT_INTERRUPTED}};
  enum { CODES = sizeof codes / sizeof codes[0] };
  for (int i = 0; i < CODES; i++) {
    char row[64];
    snprintf(row, sizeof row, "| %d | `%s` | ", codes[i].code, codes[i].name);
    check_row(row);
  }
  assert_int_equal(count_rows("| `EXIT_"), CODES);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_status_page_has_every_status),
      cmocka_unit_test(test_status_page_has_every_exit_code),
  };
  return cmocka_run_group_tests_name("status_page", tests, page_read, NULL);
}

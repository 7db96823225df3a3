/* Owning locals: closed and freed at the end of their block, unless they were handed over. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"

static int open_something(void) {
  int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  assert_true(fd >= 0);
  return fd;
}
static bool is_open(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
}

static void test_cleanup_closes_at_end_of_block(void **state) {
  (void)state;
  int number;
  {
    SLC__CLEANUP_FD int fd = open_something();
    number = fd;
    assert_true(is_open(number));
  }
  assert_false(is_open(number));
}

static void test_cleanup_leaves_what_was_taken(void **state) {
  (void)state;
  int taken;
  {
    SLC__CLEANUP_FD int fd = open_something();
    taken = slc__fd_take(&fd);
    assert_int_equal(fd, -1);
  }
  assert_true(is_open(taken));
  slc__fd_close(&taken);
  assert_int_equal(taken, -1);
}

static void test_cleanup_keeps_errno(void **state) {
  (void)state;
  errno = ENOSPC;
  {
    SLC__CLEANUP_FD int none = -1;
    SLC__CLEANUP_FD int bad = 1 << 30; /* close gives EBADF */
    (void)none;
    (void)bad;
  }
  assert_int_equal(errno, ENOSPC);
}

static void test_cleanup_pointer_take(void **state) {
  (void)state;
  char *taken;
  {
    SLC__CLEANUP_FREE char *memory = malloc(8);
    assert_non_null(memory);
    memory[0] = 'k';
    taken = slc__pointer_take(&memory);
    assert_null(memory);
  }
  assert_int_equal(taken[0], 'k');
  free(taken);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cleanup_closes_at_end_of_block),
      cmocka_unit_test(test_cleanup_leaves_what_was_taken),
      cmocka_unit_test(test_cleanup_keeps_errno),
      cmocka_unit_test(test_cleanup_pointer_take),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What a shadow keeps: what was committed, whole, and nothing else. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "peer.h"
#include "slotcast/status.h"
#include "support/leaks.h"
#include "support/shadow.h"

static struct test_shadow shadow;
static struct test_leaks leaks;

static int setup(void **state) {
  (void)state;
  test_watchdog(TEST_WATCHDOG_SECONDS);
  test_leaks_note(&leaks);
  test_shadow_start(&shadow);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  int faults = test_shadow_finish(&shadow);
  faults += test_leaks_check(&leaks);
  test_watchdog(0);
  return faults;
}

static int hello(uint64_t records) {
  Slotcast__ShadowState state;
  int fd = peer_hello(shadow.socket, &state);
  assert_int_equal(state.records, records);
  return fd;
}

static void put_with(int fd, const char *key, const char *value, size_t fd_count) {
  int fds[8] = {-1};
  for (size_t i = 0; i < fd_count; i++) fds[i] = peer_descriptor(key, i);
  peer_put(fd, key, value, fds, fd_count);
  for (size_t i = 0; i < fd_count; i++) close(fds[i]);
}

static void test_shadow_begins_empty(void **state) {
  (void)state;
  Slotcast__ShadowState empty;
  int fd = peer_hello(shadow.socket, &empty);
  assert_false(empty.complete);
  assert_true(empty.max_bytes > 0 && empty.max_records > 0 && empty.max_descriptors > 0);
  peer_expect_records(fd, "");
  close(fd);
}

static void test_shadow_keeps_what_was_committed(void **state) {
  (void)state;
  int fd = hello(0);
  put_with(fd, "b", "two", 3);
  put_with(fd, "a", "one", 0);
  put_with(fd, "c", "", 1);
  peer_commit(fd, 7, 42);
  close(fd);
  Slotcast__ShadowState later;
  fd = peer_hello(shadow.socket, &later);
  assert_true(later.complete);
  assert_int_equal(later.generation, 42);
  peer_expect_records(fd, "a=one;b=two*3;c=*1");
  peer_expect_records(fd, "a=one;b=two*3;c=*1"); /* and still has it */
  close(fd);
}

static void test_shadow_replaces_and_drops(void **state) {
  (void)state;
  int fd = hello(0);
  put_with(fd, "a", "one", 2);
  put_with(fd, "b", "two", 2);
  put_with(fd, "c", "three", 0);
  peer_commit(fd, 1, 1);
  put_with(fd, "a", "first", 0);
  put_with(fd, "a", "second", 1); /* replaces a staged one */
  peer_drop(fd, "b");
  peer_drop(fd, "unknown");
  peer_drop(fd, "c");
  put_with(fd, "c", "again", 0); /* after a drop */
  put_with(fd, "d", "short", 1);
  peer_drop(fd, "d"); /* before it was committed */
  peer_commit(fd, 2, 1);
  peer_expect_records(fd, "a=second*1;c=again");
  close(fd);
}

static void test_shadow_forgets_what_was_not_committed(void **state) {
  (void)state;
  int fd = hello(0);
  put_with(fd, "a", "one", 1);
  put_with(fd, "b", "two", 1);
  peer_commit(fd, 1, 5);
  put_with(fd, "a", "changed", 0);
  put_with(fd, "new", "x", 4);
  peer_drop(fd, "b");
  close(fd);
  fd = hello(2);
  peer_expect_records(fd, "a=one*1;b=two*1");
  close(fd);
}

static void test_shadow_takes_a_whole_new_set(void **state) {
  (void)state;
  int fd = hello(0);
  put_with(fd, "a", "one", 1);
  put_with(fd, "b", "two", 1);
  peer_commit(fd, 1, 5);
  put_with(fd, "lost", "staged before", 0);
  peer_begin(fd);
  put_with(fd, "b", "new", 0);
  put_with(fd, "c", "new", 2);
  put_with(fd, "d", "new", 2);
  peer_drop(fd, "d");
  close(fd); /* the old one counts until the commit */
  fd = hello(2);
  peer_expect_records(fd, "a=one*1;b=two*1");
  peer_begin(fd);
  put_with(fd, "b", "new", 0);
  put_with(fd, "c", "new", 2);
  peer_commit(fd, 2, 6);
  peer_expect_records(fd, "b=new;c=new*2");
  put_with(fd, "a", "late", 0); /* and then it goes on as ever */
  peer_commit(fd, 3, 6);
  peer_expect_records(fd, "a=late;b=new;c=new*2");
  peer_begin(fd);
  peer_commit(fd, 4, 7);
  peer_expect_records(fd, "");
  close(fd);
}

static void test_shadow_newer_broker_fences_the_older(void **state) {
  (void)state;
  int older = hello(0);
  put_with(older, "a", "one", 1);
  peer_commit(older, 1, 1);
  put_with(older, "b", "staged", 1);
  int newer = hello(1);
  peer_expect_refusal(older, SLC_BUSY);
  put_with(older, "c", "too late", 0);
  peer_expect_records(newer, "a=one*1");
  put_with(newer, "n", "mine", 0);
  peer_commit(newer, 1, 2);
  peer_expect_records(newer, "a=one*1;n=mine");
  close(older);
  close(newer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_shadow_begins_empty, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shadow_keeps_what_was_committed, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shadow_replaces_and_drops, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shadow_forgets_what_was_not_committed, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shadow_takes_a_whole_new_set, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shadow_newer_broker_fences_the_older, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

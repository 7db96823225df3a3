/* The service manager's store as a keeper: what an owner that is killed leaves there, and what the next one finds.  The
 * manager is a stand-in with real sockets; the owner is this program again (owner.h), and is killed for good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "owner.h"
#include "support/manager.h"

#define OWNER(...)                                                                                                     \
  (const char *const[]) {                                                                                              \
    "owner", __VA_ARGS__, NULL                                                                                         \
  }

static void start(struct test_manager *manager, const char *const *commands) {
  manager->program = "/proc/self/exe";
  manager->options = commands;
  test_manager_start(manager);
}

/* What it did is done, and it is killed. */
static void run(struct test_manager *manager, const char *const *commands) {
  start(manager, commands);
  test_manager_await(manager, "X_DONE=1");
  test_manager_kill(manager);
}

static void check_found(struct test_manager *manager, const char *expected) {
  start(manager, OWNER("commit", "wait"));
  test_manager_await(manager, expected);
  test_manager_await(manager, "X_DONE=1");
  test_manager_kill(manager);
}

static int setup(void **state) {
  struct test_manager *manager = malloc(sizeof *manager);
  if (manager == NULL) return -1;
  test_manager_init(manager, false);
  *state = manager;
  return 0;
}

static int teardown(void **state) {
  int faults = test_manager_finish(*state);
  free(*state);
  return faults;
}

static void test_fdstore_keeps_what_was_kept(void **state) {
  struct test_manager *manager = *state;
  run(manager, OWNER("put:a:1:2", "put:b:2:0", "put:c:3:3", "commit", "wait", "drop:b", "put:c:4:1", "commit", "wait"));
  check_found(manager, "X_FOUND= a=1/2 c=4/1");
  check_found(manager, "X_FOUND= a=1/2 c=4/1");
}

static void test_fdstore_forgets_what_was_not_committed(void **state) {
  struct test_manager *manager = *state;
  run(manager, OWNER("put:a:1:1", "commit", "wait", "put:a:2:1", "put:b:1:4"));
  check_found(manager, "X_FOUND= a=1/1");
}

static void test_fdstore_has_nothing_at_first(void **state) {
  struct test_manager *manager = *state;
  check_found(manager, "X_FOUND=");
}

/* No more than what records have, and one log. */
static void test_fdstore_takes_away_what_no_record_has(void **state) {
  struct test_manager *manager = *state;
  run(manager, OWNER("put:a:1:8", "put:b:1:3", "commit", "wait", "drop:a", "put:b:2:2", "commit", "wait"));
  assert_int_equal(manager->stored_count, 3);
  run(manager, OWNER("put:c:1:5"));
  check_found(manager, "X_FOUND= b=2/2");
  assert_int_equal(manager->stored_count, 3);
  assert_int_equal(manager->refused, 0);
}

/* One that several records have is stored once, and stays until the last of them goes. */
static void test_fdstore_stores_a_descriptor_once(void **state) {
  struct test_manager *manager = *state;
  run(manager, OWNER("put:a:1:2", "same:a:b", "same:a:c", "commit", "wait"));
  assert_int_equal(manager->stored_count, 3);
  run(manager, OWNER("drop:a", "drop:b", "commit", "wait"));
  assert_int_equal(manager->stored_count, 3);
  check_found(manager, "X_FOUND= c=1/2");
  run(manager, OWNER("drop:c", "commit", "wait"));
  assert_int_equal(manager->stored_count, 1);
  assert_int_equal(manager->refused, 0);
}

/* The manager's queue has room for ten messages or so. */
static void test_fdstore_waits_for_room(void **state) {
  struct test_manager *manager = *state;
  run(manager, OWNER("many:k:100:3", "commit", "wait"));
  assert_int_equal(manager->stored_count, 301);
  start(manager, OWNER("commit", "wait"));
  test_manager_await(manager, "X_KEPT=1");
  test_manager_kill(manager);
  assert_int_equal(manager->stored_count, 301);
  assert_int_equal(manager->refused, 0);
}

static off_t log_size(const struct test_manager *manager) {
  struct stat info = {.st_size = 0};
  for (int i = 0; i < manager->stored_count; i++) {
    if (manager->stored[i].name[0] == '.') fstat(manager->stored[i].fd, &info);
  }
  return info.st_size;
}

/* Over and over the same record: the log does not grow with what was once in it. */
static void test_fdstore_compacts_its_log(void **state) {
  struct test_manager *manager = *state;
  run(manager, OWNER("put:a:1:2", "churn:b:60000:100", "commit", "wait"));
  assert_in_range(log_size(manager), 60000, 2 << 20);
  assert_int_equal(manager->stored_count, 3);
  check_found(manager, "X_FOUND= a=1/2 b=/0");
}

/* ---- killed at any moment --------------------------------------------------------------------------------------- */

struct outcome {
  const char *found;
  int stored; /* what the manager has once it is settled */
};

static void stop(pid_t pid) {
  int status;
  assert_int_equal(kill(pid, SIGSTOP), 0);
  assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
  assert_true(WIFSTOPPED(status));
}

/* The owner goes from nothing through two commits, and is killed when it has said `count` things.  What it found to be
 * kept is there, and whatever is there is a whole.  False: it was done before. */
static bool kill_after(struct test_manager *manager, int count, bool is_rest_heard) {
  static const struct outcome outcomes[] = {{"X_FOUND=", 1}, {"X_FOUND= a=1/2 b=1/1", 4}, {"X_FOUND= a=2/1 c=2/2", 4}};
  int kept = 0, found = -1;
  bool is_done = false;
  start(manager,
        OWNER("put:a:1:2", "put:b:1:1", "commit", "wait", "put:a:2:1", "drop:b", "put:c:2:2", "commit", "wait"));
  for (int i = 0; i < count && !is_done; i++) {
    assert_true(test_manager_take(manager));
    kept += test_manager_heard(manager, "X_KEPT=1");
    is_done = test_manager_heard(manager, "X_DONE=1");
  }
  stop(manager->pid); /* what it says after a word that is lost is not heard either */
  if (!is_rest_heard) test_manager_ignore(manager);
  test_manager_kill(manager);
  start(manager, OWNER("commit", "wait"));
  for (bool is_last = false; !is_last;) {
    assert_true(test_manager_take(manager));
    for (int i = 0; i < 3; i++) {
      if (test_manager_heard(manager, outcomes[i].found)) found = i;
    }
    is_last = test_manager_heard(manager, "X_DONE=1");
  }
  test_manager_kill(manager);
  assert_in_range(found, kept, 2);
  assert_int_equal(manager->stored_count, outcomes[found].stored);
  test_manager_forget(manager);
  return !is_done;
}

static void test_fdstore_is_whole_whenever_its_owner_dies(void **state) {
  for (int count = 0; kill_after(*state, count, true); count++) {
  }
}

static void test_fdstore_is_whole_when_the_last_words_are_lost(void **state) {
  for (int count = 0; kill_after(*state, count, false); count++) {
  }
}

/* ---- what goes wrong -------------------------------------------------------------------------------------------- */

/* It says so, takes back what is there, and the owner goes on without. */
static void test_fdstore_gives_up_when_the_manager_is_full(void **state) {
  struct test_manager *manager = *state;
  run(manager, OWNER("put:a:1:2", "commit", "wait"));
  setenv("FDSTORE", "5", 1);
  run(manager, OWNER("put:b:1:3", "commit", "wait"));
  unsetenv("FDSTORE");
  assert_int_equal(manager->stored_count, 0);
  check_found(manager, "X_FOUND=");
}

static void test_fdstore_tells_of_a_descriptor_that_is_missing(void **state) {
  struct test_manager *manager = *state;
  manager->store_max = 4; /* an older manager does not say so */
  run(manager, OWNER("put:a:1:2", "put:b:1:4", "commit", "wait"));
  start(manager, OWNER("drop:b", "commit", "wait"));
  test_manager_await(manager, "X_LOG=the service manager's store: a record's descriptor is missing: is "
                              "FileDescriptorStoreMax= large enough?");
  test_manager_await(manager, "X_FOUND= a=1/2 b=1/4!");
  test_manager_kill(manager);
}

static struct test_stored *log_of(const struct test_manager *manager) {
  for (int i = 0; i < manager->stored_count; i++) {
    if (manager->stored[i].name[0] == '.') return &manager->stored[i];
  }
  fail();
  return NULL;
}

static void write_log(const struct test_manager *manager, off_t offset, uint32_t value) {
  assert_int_equal(pwrite(log_of(manager)->fd, &value, sizeof value, offset), sizeof value);
}

static void test_fdstore_refuses_records_of_a_newer_release(void **state) {
  struct test_manager *manager = *state;
  run(manager, OWNER("put:a:1:2", "commit", "wait"));
  write_log(manager, 8, 2);
  start(manager, OWNER("commit", "wait"));
  int status = test_manager_await_end(manager);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
  assert_int_equal(manager->stored_count, 3);
  write_log(manager, 8, 1);
  check_found(manager, "X_FOUND= a=1/2");
}

/* Whatever is in the log, its reader lives, and what is before the damage is there. */
static void test_fdstore_survives_a_damaged_log(void **state) {
  struct test_manager *manager = *state;
  for (int i = 0; i < 4; i++) {
    run(manager, OWNER("put:a:1:1", "put:b:1:1", "commit", "wait"));
    write_log(manager, 32 + 24 + i * 4, UINT32_MAX); /* the second entry's header: "a", its value and a name take 24 */
    check_found(manager, "X_FOUND= a=1/1");
    test_manager_forget(manager);
  }
}

/* What others have stored, or the manager gives for another purpose, is not touched. */
static void test_fdstore_leaves_what_is_not_its_own(void **state) {
  struct test_manager *manager = *state;
  run(manager, OWNER("put:a:1:1", "commit", "wait"));
  struct test_stored *log = log_of(manager);
  snprintf(log->name, sizeof log->name, "another");
  check_found(manager, "X_FOUND=");
  assert_int_equal(manager->stored_count, 2);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "owner") == 0) return owner_main(argc - 2, argv + 2);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_fdstore_has_nothing_at_first, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_keeps_what_was_kept, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_forgets_what_was_not_committed, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_takes_away_what_no_record_has, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_stores_a_descriptor_once, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_waits_for_room, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_compacts_its_log, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_is_whole_whenever_its_owner_dies, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_is_whole_when_the_last_words_are_lost, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_gives_up_when_the_manager_is_full, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_tells_of_a_descriptor_that_is_missing, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_refuses_records_of_a_newer_release, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_survives_a_damaged_log, setup, teardown),
      cmocka_unit_test_setup_teardown(test_fdstore_leaves_what_is_not_its_own, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The broker's state in the service manager's store: the broker is killed, the manager starts it again with what it
 * kept, and everything is as it was. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/check.h"
#include "support/manager.h"
#include "world.h"

static void start(struct test_manager *manager) {
  test_manager_start(manager);
  test_manager_await(manager, "READY=1");
}

static int setup(void **state) {
  static const char *const options[] = {"--fdstore", NULL};
  struct test_manager *manager = malloc(sizeof *manager);
  if (manager == NULL) return -1;
  test_manager_init(manager, true);
  manager->options = options;
  start(manager);
  *state = manager;
  return 0;
}

/* What it leaves for its successor goes with the next one that has nothing to go on with. */
static int teardown(void **state) {
  struct test_manager *manager = *state;
  char path[128];
  test_manager_stop(manager);
  test_manager_forget(manager);
  snprintf(path, sizeof path, "%s.generation", manager->socket);
  unlink(path);
  start(manager);
  test_manager_stop(manager);
  unlink(path);
  int faults = test_manager_finish(manager);
  free(manager);
  return faults;
}

static char *look(struct test_manager *manager) {
  test_manager_attend(manager);
  char *seen = world_look();
  test_manager_attend_end(manager);
  return seen;
}

static void begin(struct test_manager *manager, struct world *world) {
  test_manager_attend(manager);
  world_start(world);
  test_manager_attend_end(manager);
}

static void check_as_before(struct test_manager *manager, const char *before) {
  char *after = look(manager);
  assert_string_equal(after, before);
  free(after);
}

static void end(struct test_manager *manager, struct world *world) {
  test_manager_attend(manager);
  world_read();
  world_kill(world);
  test_manager_attend_end(manager);
}

static void test_everything_is_as_it_was(void **state) {
  struct test_manager *manager = *state;
  struct world world;
  begin(manager, &world);
  char *before = look(manager);
  for (int i = 0; i < 3; i++) {
    test_manager_kill(manager);
    start(manager);
    check_as_before(manager, before);
  }
  free(before);
  end(manager, &world);
  assert_int_equal(manager->refused, 0);
}

/* Of a service that is stopped and started again, as of one that is killed. */
static void test_an_orderly_end_is_no_other(void **state) {
  struct test_manager *manager = *state;
  struct world world;
  begin(manager, &world);
  char *before = look(manager);
  assert_int_equal(test_manager_stop(manager), 0);
  start(manager);
  check_as_before(manager, before);
  free(before);
  end(manager, &world);
}

static slc_publisher *open_publisher(slc_client *client, int number) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher *publisher = NULL;
  char name[32];
  snprintf(name, sizeof name, "of/fdstore/%d", number);
  options.slots = 4;
  options.slot_size = 64;
  check_ok(slc_publisher_open(client, name, &options, &publisher));
  return publisher;
}

/* So many channels come and go.  The answer to the last request comes when all that was before is settled. */
static int stored_after(struct test_manager *manager, int channels) {
  enum { CHANNELS_MAX = 32 };
  slc_publisher *publishers[CHANNELS_MAX];
  slc_client *client;
  test_manager_attend(manager);
  check_ok(slc_client_open(NULL, &client));
  for (int i = 0; i < channels; i++) publishers[i] = open_publisher(client, i);
  for (int i = 0; i < channels; i++) slc_publisher_close(publishers[i]);
  slc_publisher *last = open_publisher(client, channels);
  test_manager_attend_end(manager);
  test_manager_drain(manager);
  int stored = manager->stored_count;
  test_manager_attend(manager);
  slc_publisher_close(last);
  slc_client_close(client);
  test_manager_attend_end(manager);
  return stored;
}

/* Descriptors that a record needs no more are not kept. */
static void test_nothing_is_stored_of_what_has_gone(void **state) {
  int stored = stored_after(*state, 1);
  assert_int_equal(stored_after(*state, 32), stored);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_everything_is_as_it_was, setup, teardown),
      cmocka_unit_test_setup_teardown(test_an_orderly_end_is_no_other, setup, teardown),
      cmocka_unit_test_setup_teardown(test_nothing_is_stored_of_what_has_gone, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* slotcastd under a service manager: a socket that is there before it, readiness, watchdog, the end.  The manager is a
 * stand-in with real sockets. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"
#include "support/check.h"
#include "support/manager.h"

static bool is_there(const char *path) {
  struct stat info;
  return lstat(path, &info) == 0;
}

static bool has_lock(const struct test_manager *manager) {
  char path[128];
  snprintf(path, sizeof path, "%s.lock", manager->socket);
  return is_there(path);
}

/* A broker answers at SLOTCAST_SOCKET. */
static void check_serves(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 4;
  options.slot_size = 64;
  check_ok(slc_client_open(NULL, &client));
  check_ok(slc_publisher_open(client, "service/test", &options, &publisher));
  slc_publisher_close(publisher);
  slc_client_close(client);
}

static int setup(void **state) {
  struct test_manager *manager = malloc(sizeof *manager);
  if (manager == NULL) return -1;
  test_manager_init(manager, true);
  *state = manager;
  return 0;
}

static int setup_without_socket(void **state) {
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

/* Whoever connects before the broker is there is served when it comes. */
static void test_service_takes_the_managers_socket(void **state) {
  struct test_manager *manager = *state;
  pid_t early = fork();
  if (early == 0) {
    check_serves();
    _exit(0);
  }
  assert_true(early > 0);
  struct pollfd listening = {.fd = manager->listen_fd, .events = POLLIN};
  assert_int_equal(poll(&listening, 1, -1), 1);
  test_manager_start(manager);
  test_manager_await(manager, "READY=1");
  int status;
  assert_int_equal(waitpid(early, &status, 0), early);
  assert_int_equal(status, 0);
  check_serves();
  assert_true(has_lock(manager));
}

static void test_service_leaves_the_managers_socket(void **state) {
  struct test_manager *manager = *state;
  for (int i = 0; i < 2; i++) {
    test_manager_start(manager);
    test_manager_await(manager, "READY=1");
    check_serves();
    assert_int_equal(test_manager_stop(manager), 0);
    assert_true(is_there(manager->socket));
    assert_false(has_lock(manager));
  }
  test_manager_start(manager);
  test_manager_await(manager, "READY=1");
  test_manager_kill(manager);
  test_manager_start(manager);
  test_manager_await(manager, "READY=1");
  check_serves();
}

static void check_refused(struct test_manager *manager) {
  test_manager_start(manager);
  int status = test_manager_await_end(manager);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 1);
}

/* It does not serve beside another, whoever made the socket. */
static void test_service_respects_the_lock(void **state) {
  struct test_manager *manager = *state;
  test_manager_start(manager);
  test_manager_await(manager, "READY=1");
  pid_t first = manager->pid;
  check_refused(manager);
  manager->pid = first;
  check_serves();
}

static void test_service_refuses_a_socket_of_another_path(void **state) {
  struct test_manager *manager = *state;
  const char *const options[] = {"--socket", "/nowhere/broker.sock", NULL};
  manager->options = options;
  check_refused(manager);
  const char *const same[] = {"--socket", manager->socket, NULL};
  manager->options = same;
  test_manager_start(manager);
  test_manager_await(manager, "READY=1");
  manager->options = NULL;
}

static void test_service_makes_a_socket_where_none_was_given(void **state) {
  struct test_manager *manager = *state;
  test_manager_start(manager);
  test_manager_await(manager, "READY=1");
  check_serves();
  assert_int_equal(test_manager_stop(manager), 0);
  assert_false(is_there(manager->socket));
}

static void test_service_says_what_it_does(void **state) {
  struct test_manager *manager = *state;
  char status[160];
  test_manager_start(manager);
  snprintf(status, sizeof status, "STATUS=Serving at %s", manager->socket);
  test_manager_await(manager, status);
  kill(manager->pid, SIGTERM);
  test_manager_await(manager, "STOPPING=1");
  assert_int_equal(test_manager_await_end(manager), 0);
}

/* Again and again, and at least twice as often as is asked for. */
static void test_service_feeds_the_watchdog(void **state) {
  struct test_manager *manager = *state;
  manager->watchdog_usec = 40000;
  test_manager_start(manager);
  test_manager_await(manager, "READY=1");
  for (int i = 0; i < 3; i++) test_manager_await(manager, "WATCHDOG=1");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_service_takes_the_managers_socket, setup, teardown),
      cmocka_unit_test_setup_teardown(test_service_leaves_the_managers_socket, setup, teardown),
      cmocka_unit_test_setup_teardown(test_service_respects_the_lock, setup, teardown),
      cmocka_unit_test_setup_teardown(test_service_refuses_a_socket_of_another_path, setup, teardown),
      cmocka_unit_test_setup_teardown(test_service_makes_a_socket_where_none_was_given, setup_without_socket, teardown),
      cmocka_unit_test_setup_teardown(test_service_says_what_it_does, setup, teardown),
      cmocka_unit_test_setup_teardown(test_service_feeds_the_watchdog, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

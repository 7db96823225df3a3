/* slotcast-shadow under a service manager, as slotcastd: a socket that is there before it, readiness, watchdog, the
 * end. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "peer.h"
#include "support/daemon.h"
#include "support/manager.h"

static void begin(struct test_manager *manager, bool is_listening) {
  test_manager_init(manager, is_listening);
  manager->program = test_program("slotcast-shadow");
}

/* Whoever connects before it is there is served when it comes; and the socket is there when it has gone. */
static void test_shadow_takes_the_managers_socket(void **state) {
  (void)state;
  struct test_manager manager;
  Slotcast__ShadowState none;
  begin(&manager, true);
  int early = peer_connect(manager.socket);
  for (int i = 0; i < 2; i++) {
    test_manager_start(&manager);
    test_manager_await(&manager, "READY=1");
    int fd = peer_hello(manager.socket, &none);
    assert_false(none.complete);
    peer_put(fd, "a", "one", NULL, 0);
    peer_commit(fd, 1, 1);
    close(fd);
    assert_int_equal(test_manager_stop(&manager), 0);
    assert_int_equal(access(manager.socket, F_OK), 0);
  }
  close(early);
  assert_int_equal(test_manager_finish(&manager), 0);
}

static void test_shadow_says_what_it_does(void **state) {
  (void)state;
  static const char *options[] = {"--socket", NULL, NULL};
  struct test_manager manager;
  char status[160];
  begin(&manager, false);
  options[1] = manager.socket;
  manager.options = options;
  manager.watchdog_usec = 40000;
  test_manager_start(&manager);
  snprintf(status, sizeof status, "STATUS=Serving at %s", manager.socket);
  test_manager_await(&manager, status);
  test_manager_await(&manager, "WATCHDOG=1");
  test_manager_await(&manager, "WATCHDOG=1");
  kill(manager.pid, SIGTERM);
  test_manager_await(&manager, "STOPPING=1");
  assert_int_equal(test_manager_await_end(&manager), 0);
  assert_int_equal(access(manager.socket, F_OK), -1);
  assert_int_equal(test_manager_finish(&manager), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shadow_takes_the_managers_socket),
      cmocka_unit_test(test_shadow_says_what_it_does),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

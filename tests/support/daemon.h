/* Programs that serve at a socket, started by a test.  What cannot be started ends the test program. */
#ifndef SLC_TEST_DAEMON_H
#define SLC_TEST_DAEMON_H

#include <sys/types.h>

#define TEST_STATUS_GAVE_UP 99 /* of a test program that could not start or look after its broker */

/* Not a fault of what is tested: a status of its own, which test_harness tells from a fault noticed. */
__attribute__((noreturn)) void test_give_up(const char *what);
/* The path of a program that was built, "slotcastd", "slotcast-shadow" or "slotcast".  Static storage. */
const char *test_program(const char *name);
/* Starts a program with these arguments (the first is its path; NULL ends them) and waits until its socket appears in
 * `directory` under that name.  It dies with the test. */
pid_t test_daemon_launch(const char *const *arguments, const char *directory, const char *socket_name);
/* The same without waiting: it may end before it listens. */
pid_t test_daemon_spawn(const char *const *arguments);
/* Waits for its end: its wait status. */
int test_daemon_reap(pid_t pid);

#endif

/* A private broker for one test: a real slotcastd on a scratch path, of the backend that SLOTCAST_TEST_BACKEND names
 * (memfd or shm; memfd when it is not set), with the --slow-hold that SLOTCAST_TEST_SLOW_HOLD gives (milliseconds), and
 * what is left of it afterwards. */
#ifndef SLC_TEST_BROKER_H
#define SLC_TEST_BROKER_H

#include <stdbool.h>
#include <sys/types.h>

#include "support/daemon.h"
#include "support/leaks.h"
#include "support/shadow.h"

struct test_broker {
  pid_t pid; /* 0: not running */
  char directory[64];
  char socket[96];
  char session[64]; /* of its names in /dev/shm; empty: it had none there when that was looked at */
  bool was_killed;
  const char *const *options; /* further ones; NULL: none */
  int shadow_count;
  struct test_shadow shadows[TEST_SHADOWS_MAX];
  struct test_leaks leaks;
};

/* The backend under test, "memfd" or "shm". */
const char *test_backend(void);

/* Notes what is there, makes a scratch directory, starts a broker there and waits until it listens.  Sets
 * SLOTCAST_SOCKET, so that clients find it, and the watchdog.  Ends the test program when that fails. */
void test_broker_start(struct test_broker *broker);
/* The same with further options of slotcastd, up to a NULL, which stay valid. */
void test_broker_start_with(struct test_broker *broker, const char *const *options);
/* The same with so many shadows (test_shadow_*, in broker->shadows), started before it and given to it as --shadow;
 * they end with test_broker_finish.  `options`: NULL: none. */
void test_broker_start_shadowed(struct test_broker *broker, int shadows, const char *const *options);
/* SIGTERM; 0 when it ended with status 0.  Nothing when it is not running. */
int test_broker_stop(struct test_broker *broker);
/* SIGKILL, and waits for its end. */
void test_broker_kill(struct test_broker *broker);
/* After a kill: another one on the same path, that must have swept what its predecessor left in /dev/shm.  0, or the
 * number of faults, each told on stderr. */
int test_broker_restart(struct test_broker *broker);
/* After a kill or a stop: another one with the same socket, options and shadows, which goes on where that one was. */
void test_broker_resume(struct test_broker *broker);
/* The same without waiting: it may end before it listens. */
void test_broker_revive(struct test_broker *broker);
/* How many names it has in /dev/shm. */
int test_broker_names(const struct test_broker *broker);
/* Stops it, removes the scratch directory and looks for what is left: descriptors, mappings and children of this
 * process, files of the broker.  After a kill, its successor must have swept what it left in /dev/shm.  0, or the
 * number of faults, each told on stderr. */
int test_broker_finish(struct test_broker *broker);

/* The same as cmocka's setup and teardown; *state is the struct test_broker. */
int test_broker_setup(void **state);
int test_broker_teardown(void **state);

#endif

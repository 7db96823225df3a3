/* A private shadow for one test: a real slotcast-shadow on a scratch path of its own. */
#ifndef SLC_TEST_SHADOW_H
#define SLC_TEST_SHADOW_H

#include <sys/types.h>

#define TEST_SHADOWS_MAX 2 /* of one broker */

struct test_shadow {
  pid_t pid; /* 0: not running */
  char directory[64];
  char socket[96];
  const char *const *options; /* further ones; NULL: none */
};

/* Makes a scratch directory, starts a shadow there and waits until it listens.  Ends the test program when that
 * fails. */
void test_shadow_start(struct test_shadow *shadow);
/* The same with further options of slotcast-shadow, up to a NULL, which stay valid. */
void test_shadow_start_with(struct test_shadow *shadow, const char *const *options);
/* SIGTERM; 0 when it ended with status 0.  Nothing when it is not running. */
int test_shadow_stop(struct test_shadow *shadow);
/* SIGKILL, and waits for its end: what it kept is gone. */
void test_shadow_kill(struct test_shadow *shadow);
/* After either: another, empty one on the same path. */
void test_shadow_restart(struct test_shadow *shadow);
/* Stops it and removes the scratch directory: 0, or the number of faults, each told on stderr. */
int test_shadow_finish(struct test_shadow *shadow);

#endif

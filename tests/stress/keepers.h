/* The broker of a storm and its shadows, killed and started again, never so that all of what they keep is lost: which
 * of them is up to date is read in the broker's log. */
#ifndef SLC_TEST_KEEPERS_H
#define SLC_TEST_KEEPERS_H

#include <stdbool.h>
#include <stdint.h>

#include "support/broker.h"

struct keepers {
  struct test_broker *broker;
  int log;                           /* what the broker says, in a file without a name */
  int own;                           /* our stderr, while the log is in its place */
  long since[TEST_SHADOWS_MAX];      /* from where in the log on a word of this shadow is of the one that runs now */
  bool has_all[TEST_SHADOWS_MAX];    /* since it was started it has been up to date */
  int descriptors[TEST_SHADOWS_MAX]; /* of each, in the beginning */
};

/* Starts the broker with so many shadows, and waits until they are up to date. */
void keepers_start(struct keepers *keepers, struct test_broker *broker, int shadows);
/* Another broker, at once; waits before for a shadow that has everything, while `meanwhile` is called. */
void keepers_kill_broker(struct keepers *keepers, void (*meanwhile)(void));
/* The same at once, and it may end before it listens. */
void keepers_revive_broker(struct keepers *keepers);
/* The broker, or a shadow, has been found dead and reaped: another one. */
void keepers_broker_is_dead(struct keepers *keepers);
void keepers_shadow_is_dead(struct keepers *keepers, int number);
/* With the present broker. */
bool keepers_is_up_to_date(const struct keepers *keepers, int number);
/* Another, empty shadow; waits before until all are up to date. */
void keepers_kill_shadow(struct keepers *keepers, int number, void (*meanwhile)(void));
/* Until all are up to date. */
void keepers_settle(struct keepers *keepers, void (*meanwhile)(void));
/* The shadows hold as many descriptors as in the beginning; waits for that as long as the watchdog does. */
void keepers_nothing_left(const struct keepers *keepers);
void keepers_finish(struct keepers *keepers);

#endif

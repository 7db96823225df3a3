/* A broker that is looked at after each step: whether it lives, and has what it had before. */
#ifndef SLC_TEST_WATCHED_H
#define SLC_TEST_WATCHED_H

#include <stdint.h>

#include "slotcast/slotcast.h"
#include "support/broker.h"

enum { WATCHDOG_SECONDS_ALL = 3000 }; /* of a test that leaves nothing out */

struct watched {
  struct test_broker broker;
  slc_client *clients[2]; /* ask by turns; NULL when the connection was ended */
  int turn;
  int channels; /* of the test's own, that stay */
  /* What the broker has when nobody uses it but the test. */
  int descriptors;
  int64_t live;
};

/* Starts it; it is the target fault_page->broker. */
void watched_start(struct watched *watched);
/* 0, or the number of faults. */
int watched_finish(struct watched *watched);

/* All of these: 0, or 1 with a word on stderr. */
int watched_alive(const struct watched *watched);
/* Waits until it has no channels but the test's, and has forgotten all processes that have ended. */
int watched_forget_others(struct watched *watched);
/* Notes what it has now. */
int watched_note(struct watched *watched);
/* Waits until it has again as many descriptors and allocations as when that was noted. */
int watched_as_before(struct watched *watched);

#endif

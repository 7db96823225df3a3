/* Publishers and subscribers of a stress test, as processes or as threads: each checks all that it sees, and aborts
 * with a sentence when something is wrong. */
#ifndef SLC_TEST_ROLES_H
#define SLC_TEST_ROLES_H

#include "support/channel.h"

enum { ROLES_MAX = 64 };

/* In shared memory. */
struct roles_shared {
  _Atomic uint32_t subscribers_ready;
  _Atomic uint32_t publishers_done, subscribers_done;
  _Atomic uint64_t would_block;
  _Atomic uint64_t front;             /* the greatest ordinal that a subscriber has taken */
  _Atomic uint64_t dropped, received; /* by all subscribers */
};

struct roles {
  struct test_channel channel;
  struct roles_shared *shared;
  uint32_t publishers, subscribers;
  uint32_t batch;
  uint64_t messages; /* of each publisher */
  uint32_t lines[ROLES_MAX], holds[ROLES_MAX];
};

struct roles_shape {
  uint32_t publishers, subscribers;
  bool reliable;
  bool roomy; /* far more slots than the budget needs */
  uint64_t messages;
};

/* A channel whose budget has room for them, each subscriber admitted.  Every third subscriber is slow. */
void roles_init(struct roles *roles, const struct roles_shape *shape);
/* Checks the slots and that the last publisher's end left everything in its place. */
void roles_deinit(struct roles *roles);

/* Publishes its messages, 0 .. publishers - 1. */
void roles_publish(struct roles *roles, uint32_t publisher);
/* Takes until everything is taken; 0 .. subscribers - 1. */
void roles_subscribe(struct roles *roles, uint32_t subscriber);

#endif

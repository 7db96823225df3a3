/* The world of one behaviour: a channel of one kind, its publishers and subscribers, and verbs that check.
 *
 * Thread: the test's. */
#ifndef SLC_TEST_WORLD_H
#define SLC_TEST_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "actor.h"
#include "support/broker.h"
#include "support/check.h"

enum {
  PUBLISHERS = 3, /* of a kind with many */
  SUBSCRIBERS = 2,
  SLOTS = 64,
  SLOT_SIZE = 256,
  SIZE = 100, /* of a message that fits and isn't small */
};

#define SECOND INT64_C(1000000000)

/* The backend, memfd or shm, is the broker's, and comes from outside. */
struct kind {
  bool is_reliable, is_virtual, is_split, has_many_publishers, is_across_processes;
};

struct world {
  const struct kind *kind;
  struct test_broker *broker;
  char channel[64];
  slc_publisher_options shape; /* what publishers ask for; behaviours may change it before they open */
  uint32_t publisher_count;
  struct actor publishers[PUBLISHERS], subscribers[SUBSCRIBERS];
  struct actor neighbour; /* publishes beside them, in another virtual channel of the same multiplexer */
  slc_client *shared;     /* of the actors in this process */
  slc_client *looker;
};

void world_open(struct world *world, const struct kind *kind, struct test_broker *broker, const char *name);
void world_close(struct world *world);

/* ---- verbs; each checks that it succeeds ---- */

void open_publishers(struct world *world);
void open_publisher(const struct world *world, struct actor *actor, const char *channel);
/* NULL: from now on, as reliable as the channel. */
void open_subscriber(struct world *world, uint32_t subscriber, const slc_subscriber_options *options);
slc_subscriber_options subscriber_options(const struct world *world);
/* Stamps stamp, stamp + 1, .. in this order, from one publisher. */
void send_from(struct world *world, uint32_t publisher, uint64_t stamp, uint64_t count, size_t size);
/* The same, message by message from one publisher after the other. */
void send_by_turns(struct world *world, uint64_t stamp, uint64_t count, size_t size);
/* Takes the next message, which has to be this one, and leaves it held.  Returns what it says of it. */
struct actor_answer take_expecting(struct world *world, uint32_t subscriber, uint64_t stamp);
/* Takes and releases stamp, stamp + 1, .. */
void take_all(struct world *world, uint32_t subscriber, uint64_t stamp, uint64_t count);
void check_held(struct world *world, uint32_t subscriber, const struct actor_answer *taken);
void release(struct world *world, uint32_t subscriber, const struct actor_answer *taken);
/* In the channel or in the virtual channel. */
uint64_t ordinal_of(const struct world *world, const slc_message *message);
/* By which the n-th message (from 1 on) is found: in a multiplexer those of all count. */
uint64_t nth_ordinal(const struct world *world, uint64_t n);
slc_subscriber_stats stats_of(struct world *world, uint32_t subscriber);
/* The channel as the broker sees it (of a virtual channel: its multiplexer). */
slc_channel_info *inspect(struct world *world);

/* ---- single calls ---- */

struct actor_answer publisher_do(struct world *world, uint32_t publisher, enum actor_op op);
struct actor_answer subscriber_do(struct world *world, uint32_t subscriber, enum actor_op op);
struct actor_answer loan_of(struct world *world, uint32_t publisher, size_t size);
struct actor_answer publish_loan(struct world *world, uint32_t publisher, uint32_t key, uint64_t stamp, size_t size);
struct actor_answer try_send(struct world *world, uint32_t publisher, uint64_t stamp, size_t size);
struct actor_answer wait_publisher(struct world *world, uint32_t publisher, int64_t timeout_ns);
struct actor_answer wait_subscriber(struct world *world, uint32_t subscriber, int64_t timeout_ns);

#endif

/* Worlds, and the verbs of behaviours. */
#include "world.h"

#include <stdio.h>
#include <string.h>

static const char multiplexer[] = "conformance/multiplexer";

enum { OF_NEIGHBOUR = 3 }; /* messages in another virtual channel, before all others */

/* ---- opening and closing ---- */

static void start_all(struct world *world) {
  actor_start(&world->neighbour, world->shared);
  for (uint32_t i = 0; i < world->publisher_count; i++) actor_start(&world->publishers[i], world->shared);
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) actor_start(&world->subscribers[i], world->shared);
}

void world_open(struct world *world, const struct kind *kind, struct test_broker *broker, const char *name) {
  *world = (struct world){.kind = kind,
                          .broker = broker,
                          .shape = SLC_PUBLISHER_OPTIONS_INIT,
                          .publisher_count = kind->has_many_publishers ? PUBLISHERS : 1};
  snprintf(world->channel, sizeof world->channel, "conformance/%.40s", name);
  world->shape.reliable = kind->is_reliable;
  world->shape.slots = SLOTS;
  world->shape.slot_size = SLOT_SIZE;
  world->shape.max_loans = 2;
  world->shape.split = kind->is_split;
  if (kind->is_virtual) world->shape.multiplexer = multiplexer;
  if (!kind->is_across_processes) check_ok(slc_client_open(NULL, &world->shared));
  start_all(world);
  check_ok(slc_client_open(NULL, &world->looker));
}

void world_close(struct world *world) {
  actor_end(&world->neighbour);
  for (uint32_t i = 0; i < world->publisher_count; i++) actor_end(&world->publishers[i]);
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) actor_end(&world->subscribers[i]);
  slc_client_close(world->shared);
  slc_client_close(world->looker);
}

/* ---- single calls ---- */

struct actor_answer publisher_do(struct world *world, uint32_t publisher, enum actor_op op) {
  return actor_do(&world->publishers[publisher], &(struct actor_call){.op = op});
}

struct actor_answer subscriber_do(struct world *world, uint32_t subscriber, enum actor_op op) {
  return actor_do(&world->subscribers[subscriber], &(struct actor_call){.op = op});
}

struct actor_answer loan_of(struct world *world, uint32_t publisher, size_t size) {
  return actor_do(&world->publishers[publisher], &(struct actor_call){.op = ACTOR_LOAN, .size = size});
}

struct actor_answer publish_loan(struct world *world, uint32_t publisher, uint32_t key, uint64_t stamp, size_t size) {
  return actor_do(&world->publishers[publisher],
                  &(struct actor_call){.op = ACTOR_PUBLISH, .key = key, .stamp = stamp, .size = size});
}

struct actor_answer try_send(struct world *world, uint32_t publisher, uint64_t stamp, size_t size) {
  return actor_do(&world->publishers[publisher],
                  &(struct actor_call){.op = ACTOR_SEND, .stamp = stamp, .count = 1, .size = size});
}

struct actor_answer wait_publisher(struct world *world, uint32_t publisher, int64_t timeout_ns) {
  return actor_do(&world->publishers[publisher],
                  &(struct actor_call){.op = ACTOR_PUBLISHER_WAIT, .timeout_ns = timeout_ns});
}

struct actor_answer wait_subscriber(struct world *world, uint32_t subscriber, int64_t timeout_ns) {
  return actor_do(&world->subscribers[subscriber],
                  &(struct actor_call){.op = ACTOR_SUBSCRIBER_WAIT, .timeout_ns = timeout_ns});
}

/* ---- verbs ---- */

void open_publisher(const struct world *world, struct actor *actor, const char *channel) {
  struct actor_call call = {.op = ACTOR_OPEN_PUBLISHER, .publisher = world->shape};
  snprintf(call.channel, sizeof call.channel, "%s", channel);
  check_ok(actor_do(actor, &call).status);
}

void open_publishers(struct world *world) {
  for (uint32_t i = 0; i < world->publisher_count; i++) open_publisher(world, &world->publishers[i], world->channel);
  if (!world->kind->is_virtual) return;
  open_publisher(world, &world->neighbour, "conformance/neighbour");
  check_ok(
      actor_do(&world->neighbour, &(struct actor_call){.op = ACTOR_SEND, .count = OF_NEIGHBOUR, .size = SIZE}).status);
}

slc_subscriber_options subscriber_options(const struct world *world) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = world->kind->is_reliable;
  if (world->kind->is_virtual) options.multiplexer = multiplexer;
  return options;
}

void open_subscriber(struct world *world, uint32_t subscriber, const slc_subscriber_options *options) {
  struct actor_call call = {.op = ACTOR_OPEN_SUBSCRIBER,
                            .subscriber = options != NULL ? *options : subscriber_options(world)};
  snprintf(call.channel, sizeof call.channel, "%s", world->channel);
  check_ok(actor_do(&world->subscribers[subscriber], &call).status);
}

/* A publisher that has not learnt yet of a subscriber that has just joined is told to wait, for a moment. */
static void send_one(struct world *world, uint32_t publisher, uint64_t stamp, size_t size) {
  struct actor_answer answer = try_send(world, publisher, stamp, size);
  while (answer.status == SLC_WOULD_BLOCK) {
    check_ok(wait_publisher(world, publisher, 30 * SECOND).status);
    answer = try_send(world, publisher, stamp, size);
  }
  check_ok(answer.status);
}

void send_from(struct world *world, uint32_t publisher, uint64_t stamp, uint64_t count, size_t size) {
  for (uint64_t i = 0; i < count; i++) send_one(world, publisher, stamp + i, size);
}

void send_by_turns(struct world *world, uint64_t stamp, uint64_t count, size_t size) {
  for (uint64_t i = 0; i < count; i++) send_one(world, (uint32_t)(i % world->publisher_count), stamp + i, size);
}

struct actor_answer take_expecting(struct world *world, uint32_t subscriber, uint64_t stamp) {
  struct actor_answer answer = subscriber_do(world, subscriber, ACTOR_TAKE);
  check_ok(answer.status);
  assert_int_equal(answer.stamp, stamp);
  assert_true(answer.is_whole);
  return answer;
}

void take_all(struct world *world, uint32_t subscriber, uint64_t stamp, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    struct actor_answer taken = take_expecting(world, subscriber, stamp + i);
    release(world, subscriber, &taken);
  }
}

void check_held(struct world *world, uint32_t subscriber, const struct actor_answer *taken) {
  struct actor_answer now =
      actor_do(&world->subscribers[subscriber], &(struct actor_call){.op = ACTOR_CHECK, .key = taken->key});
  assert_true(now.is_whole);
  assert_int_equal(now.stamp, taken->stamp);
}

void release(struct world *world, uint32_t subscriber, const struct actor_answer *taken) {
  check_held(world, subscriber, taken);
  struct actor_call call = {.op = ACTOR_RELEASE, .key = taken->key};
  check_ok(actor_do(&world->subscribers[subscriber], &call).status);
}

uint64_t ordinal_of(const struct world *world, const slc_message *message) {
  return world->kind->is_virtual ? message->virtual_ordinal : message->ordinal;
}

uint64_t nth_ordinal(const struct world *world, uint64_t n) {
  return world->kind->is_virtual ? n + OF_NEIGHBOUR : n;
}

slc_subscriber_stats stats_of(struct world *world, uint32_t subscriber) {
  struct actor_answer answer = subscriber_do(world, subscriber, ACTOR_SUBSCRIBER_STATS);
  check_ok(answer.status);
  return answer.subscriber_stats;
}

slc_channel_info *inspect(struct world *world) {
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(world->looker, world->kind->is_virtual ? multiplexer : world->channel, &info));
  return info;
}

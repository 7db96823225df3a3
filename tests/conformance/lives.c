/* Leaving, dying, and not being let in.  Across processes the dead are killed; in one process they leave. */
#include "behaviours.h"

#include <string.h>

void what_was_published_outlives_its_publisher(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 1, 10, SIZE);
  for (uint32_t i = 0; i < world->publisher_count; i++) actor_kill(&world->publishers[i]);
  take_all(world, 0, 1, 10);
}

/* After many publishers that died with two loans each, there is room for as many loans as before. */
void loans_of_the_dead_come_back(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 0, 1, SIZE);
  take_all(world, 0, 0, 1);
  for (uint64_t i = 0; i < SLOTS; i++) {
    struct actor dead;
    actor_start(&dead, world->shared);
    open_publisher(world, &dead, world->channel);
    struct actor_call loan = {.op = ACTOR_LOAN, .size = SIZE};
    check_ok(actor_do(&dead, &loan).status);
    check_ok(actor_do(&dead, &loan).status);
    actor_kill(&dead);
  }
  send_by_turns(world, 1, 20, SIZE);
  take_all(world, 0, 1, 20);
}

void holds_of_the_dead_come_back(struct world *world) {
  open_publishers(world);
  for (uint64_t i = 0; i < SLOTS; i++) {
    struct actor dead;
    actor_start(&dead, world->shared);
    struct actor_call call = {.op = ACTOR_OPEN_SUBSCRIBER, .subscriber = subscriber_options(world)};
    memcpy(call.channel, world->channel, sizeof call.channel);
    check_ok(actor_do(&dead, &call).status);
    send_by_turns(world, 2 * i, 2, SIZE);
    struct actor_call take = {.op = ACTOR_TAKE};
    check_ok(actor_do(&dead, &take).status);
    check_ok(actor_do(&dead, &take).status);
    actor_kill(&dead);
  }
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 1000, 20, SIZE);
  take_all(world, 0, 1000, 20);
}

void nobody_waits_for_a_dead_subscriber(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  open_subscriber(world, 1, NULL);
  send_by_turns(world, 0, 1, SIZE);
  take_all(world, 1, 0, 1);
  actor_kill(&world->subscribers[0]);
  for (uint64_t i = 1; i < 3 * SLOTS; i++) {
    send_by_turns(world, i, 1, SIZE);
    take_all(world, 1, i, 1);
  }
}

/* One that has died and one that lives: only the second is waited for. */
void nobody_waits_for_a_dead_subscriber_without_a_broker(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  open_subscriber(world, 1, NULL);
  send_by_turns(world, 0, PUBLISHERS, SIZE);
  take_all(world, 0, 0, PUBLISHERS);
  take_all(world, 1, 0, PUBLISHERS);
  test_broker_kill(world->broker);
  actor_kill(&world->subscribers[0]);
  for (uint64_t i = 0; i < 3 * SLOTS; i++) {
    send_by_turns(world, i, 1, SIZE);
    take_all(world, 1, i, 1);
  }
  uint64_t sent = 0;
  while (try_send(world, 0, 1000 + sent, SIZE).status == SLC_OK) sent++;
  assert_in_range(sent, 1, SLOTS);
  check_status(wait_publisher(world, 0, SECOND / 5).status, SLC_TIMED_OUT);
  take_all(world, 1, 1000, sent);
}

static void check_refused(struct world *world, const struct actor_call *call, int status) {
  struct actor extra;
  struct actor_call full = *call;
  memcpy(full.channel, world->channel, sizeof full.channel);
  actor_start(&extra, world->shared);
  check_status(actor_do(&extra, &full).status, status);
  actor_end(&extra);
}

void users_that_do_not_fit_are_refused(struct world *world) {
  world->shape.type = "conformance";
  world->shape.max_publishers = world->publisher_count + 1; /* one for the neighbour */
  open_publishers(world);
  if (!world->kind->is_virtual) open_publisher(world, &world->neighbour, world->channel);
  struct actor_call publisher = {.op = ACTOR_OPEN_PUBLISHER, .publisher = world->shape};
  check_refused(world, &publisher, SLC_LIMIT);
  publisher.publisher.type = "another";
  check_refused(world, &publisher, SLC_INCOMPATIBLE);
  publisher.publisher.type = NULL;
  publisher.publisher.reliable = !world->shape.reliable;
  check_refused(world, &publisher, SLC_INCOMPATIBLE);
  publisher.publisher.reliable = world->shape.reliable;
  publisher.publisher.slots = SLOTS + 1;
  check_refused(world, &publisher, SLC_INCOMPATIBLE);
  struct actor_call subscriber = {.op = ACTOR_OPEN_SUBSCRIBER, .subscriber = subscriber_options(world)};
  subscriber.subscriber.max_holds = SLOTS;
  check_refused(world, &subscriber, SLC_NO_BUDGET);
  subscriber.subscriber.max_holds = 1;
  subscriber.subscriber.type = "another";
  check_refused(world, &subscriber, SLC_INCOMPATIBLE);
}

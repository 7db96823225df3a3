/* Who waits for whom, and what is lost. */
#include "behaviours.h"

/* Every message is either taken or counted. */
void an_overrun_subscriber_knows_what_it_lost(struct world *world) {
  enum { COUNT = 20 * SLOTS };
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 1, COUNT, SIZE);
  uint64_t received = 0, last = 0;
  for (;;) {
    struct actor_answer taken = subscriber_do(world, 0, ACTOR_TAKE);
    if (taken.status == SLC_EMPTY) break;
    check_ok(taken.status);
    assert_true(taken.is_whole);
    assert_true(taken.stamp > last);
    assert_int_equal(ordinal_of(world, &taken.message), taken.stamp);
    last = taken.stamp;
    received++;
    release(world, 0, &taken);
  }
  assert_int_equal(last, COUNT);
  assert_true(received > 0);
  assert_int_equal(stats_of(world, 0).dropped, COUNT - received);
}

void an_unreliable_publisher_never_waits(struct world *world) {
  enum { HELD = 8 };
  open_publishers(world);
  slc_subscriber_options options = subscriber_options(world);
  options.max_holds = HELD;
  open_subscriber(world, 0, &options);
  send_by_turns(world, 0, HELD, SIZE);
  struct actor_answer held[HELD];
  for (uint64_t i = 0; i < HELD; i++) held[i] = take_expecting(world, 0, i);
  for (uint64_t i = 0; i < 10 * SLOTS; i++)
    check_ok(try_send(world, (uint32_t)(i % world->publisher_count), i, SIZE).status);
  for (uint64_t i = 0; i < HELD; i++) release(world, 0, &held[i]);
}

static uint64_t fill(struct world *world, uint32_t publisher, uint64_t stamp) {
  uint64_t sent = 0;
  while (sent <= SLOTS && try_send(world, publisher, stamp + sent, SIZE).status == SLC_OK) sent++;
  assert_in_range(sent, 1, SLOTS);
  check_status(try_send(world, publisher, stamp + sent, SIZE).status, SLC_WOULD_BLOCK);
  return sent;
}

void a_reliable_publisher_waits_for_its_subscriber(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 0, 1, SIZE); /* has learnt of the subscriber */
  take_all(world, 0, 0, 1);
  uint32_t last = world->publisher_count - 1;
  uint64_t sent = fill(world, last, 1);
  check_status(wait_publisher(world, last, SECOND / 1000).status, SLC_TIMED_OUT);
  struct actor_call wait = {.op = ACTOR_PUBLISHER_WAIT, .timeout_ns = 60 * SECOND};
  actor_begin(&world->publishers[last], &wait);
  take_all(world, 0, 1, sent);
  check_ok(actor_finish(&world->publishers[last]).status);
  check_ok(try_send(world, last, 1 + sent, SIZE).status);
  take_all(world, 0, 1 + sent, 1);
  assert_int_equal(stats_of(world, 0).dropped, 0);
}

void a_reliable_publisher_does_not_wait_for_others(struct world *world) {
  open_publishers(world);
  slc_subscriber_options options = subscriber_options(world);
  options.reliable = 0;
  open_subscriber(world, 0, &options);
  open_subscriber(world, 1, NULL);
  for (uint64_t i = 0; i < 10; i++) {
    send_by_turns(world, i * 20, 20, SIZE);
    take_all(world, 1, i * 20, 20);
  }
  assert_int_equal(stats_of(world, 1).dropped, 0);
  struct actor_answer taken = subscriber_do(world, 0, ACTOR_TAKE);
  check_ok(taken.status);
  assert_int_equal(stats_of(world, 0).dropped, taken.stamp);
}

/* Everything that the first publisher has sent before `last`, once and in whatever order. */
static uint64_t count_retired(struct world *world, bool *is_told, uint64_t end) {
  uint64_t told = 0;
  for (;;) {
    struct actor_answer answer = publisher_do(world, 0, ACTOR_RETIRED);
    if (answer.status == SLC_EMPTY) return told;
    check_ok(answer.status);
    assert_in_range(answer.message.ordinal, nth_ordinal(world, 1), nth_ordinal(world, end));
    bool *is_this_told = &is_told[answer.message.ordinal - nth_ordinal(world, 1)];
    assert_false(*is_this_told);
    *is_this_told = true;
    told++;
  }
}

/* Whatever becomes of them: taken, skipped, held for long, held by one who dies. */
void every_message_is_retired_once(struct world *world) {
  enum { COUNT = 8 * SLOTS };
  bool is_told[COUNT] = {false};
  world->shape.retirement = 1;
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  open_subscriber(world, 1, NULL);
  send_from(world, 0, 1, 2, SIZE);
  struct actor_answer held = take_expecting(world, 0, 1);
  take_expecting(world, 1, 1);
  actor_kill(&world->subscribers[1]);
  uint64_t told = 0;
  for (uint64_t i = 3; i <= COUNT; i++) {
    send_from(world, 0, i, 1, SIZE);
    struct actor_answer newest = subscriber_do(world, 0, ACTOR_TAKE_NEWEST);
    check_ok(newest.status);
    release(world, 0, &newest);
    told += count_retired(world, is_told, COUNT);
  }
  assert_false(is_told[0]);
  release(world, 0, &held);
  while (told < COUNT) told += count_retired(world, is_told, COUNT); /* when the broker has seen the death */
  assert_int_equal(told, COUNT);
}

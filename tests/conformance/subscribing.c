/* Where subscribers begin, what they hold, how they wait. */
#include "behaviours.h"

void a_subscriber_starts_at_what_comes(struct world *world) {
  open_publishers(world);
  send_by_turns(world, 1, 5, SIZE);
  open_subscriber(world, 0, NULL);
  check_status(subscriber_do(world, 0, ACTOR_TAKE).status, SLC_EMPTY);
  send_by_turns(world, 6, 5, SIZE);
  take_all(world, 0, 6, 5);
  assert_int_equal(stats_of(world, 0).dropped, 0);
}

void a_subscriber_starts_at_what_is_retained(struct world *world) {
  open_publishers(world);
  send_by_turns(world, 1, 5, SIZE);
  slc_subscriber_options options = subscriber_options(world);
  options.start = SLC_START_OLDEST;
  open_subscriber(world, 0, &options);
  send_by_turns(world, 6, 5, SIZE);
  take_all(world, 0, 1, 10);
  check_status(subscriber_do(world, 0, ACTOR_TAKE).status, SLC_EMPTY);
}

void a_subscriber_starts_at_the_last(struct world *world) {
  slc_subscriber_options options = subscriber_options(world);
  options.start = SLC_START_LAST;
  open_publishers(world);
  send_by_turns(world, 1, 5, SIZE);
  open_subscriber(world, 0, &options);
  options.start_count = 3;
  open_subscriber(world, 1, &options);
  send_by_turns(world, 6, 2, SIZE);
  take_all(world, 0, 5, 3);
  take_all(world, 1, 3, 5);
}

void a_subscriber_starts_at_an_ordinal(struct world *world) {
  slc_subscriber_options options = subscriber_options(world);
  options.start = SLC_START_ORDINAL;
  options.start_ordinal = nth_ordinal(world, 4);
  open_publishers(world);
  send_by_turns(world, 1, 5, SIZE);
  open_subscriber(world, 0, &options);
  options.start_ordinal = nth_ordinal(world, 8); /* still to come */
  open_subscriber(world, 1, &options);
  send_by_turns(world, 6, 5, SIZE);
  take_all(world, 0, 4, 7);
  take_all(world, 1, 8, 3);
}

void the_newest_are_kept_for_those_who_come_late(struct world *world) {
  enum { KEEP = 10, COUNT = 1000 };
  world->shape.keep_last = KEEP;
  open_publishers(world);
  send_by_turns(world, 1, COUNT, SIZE);
  slc_subscriber_options options = subscriber_options(world);
  options.start = SLC_START_LAST;
  options.start_count = KEEP;
  open_subscriber(world, 0, &options);
  take_all(world, 0, COUNT - KEEP + 1, KEEP);
}

void many_are_taken_at_once(struct world *world) {
  enum { HOLDS = 8 };
  open_publishers(world);
  slc_subscriber_options options = subscriber_options(world);
  options.max_holds = HOLDS;
  open_subscriber(world, 0, &options);
  struct actor_call take = {.op = ACTOR_TAKE_MANY, .count = 2 * HOLDS};
  check_status(actor_do(&world->subscribers[0], &take).status, SLC_EMPTY);
  for (uint64_t round = 0; round < 50; round++) {
    uint64_t count = 1 + round % (HOLDS + 2), taken = 0;
    send_by_turns(world, 100 * round, count, SIZE);
    while (taken < count) {
      struct actor_answer answer = actor_do(&world->subscribers[0], &take);
      check_ok(answer.status);
      assert_in_range(answer.done, 1, HOLDS);
      for (uint32_t i = 0; i < answer.done; i++, taken++) {
        struct actor_answer one = {.key = i, .stamp = 100 * round + taken};
        release(world, 0, &one);
      }
    }
    assert_int_equal(taken, count);
  }
}

static struct actor_answer find(struct world *world, enum actor_op op, uint64_t at, bool or_later) {
  return actor_do(&world->subscribers[0], &(struct actor_call){.op = op, .at = at, .or_later = or_later});
}

/* By ordinal and by time, exactly or from there on; what take gives next stays as it was. */
void retained_messages_are_found(struct world *world) {
  enum { COUNT = 8 };
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 1, COUNT, SIZE);
  for (uint64_t n = COUNT; n >= 1; n--) {
    struct actor_answer found = find(world, ACTOR_FIND, nth_ordinal(world, n), n % 2 == 0);
    check_ok(found.status);
    assert_int_equal(found.stamp, n);
    struct actor_answer same = find(world, ACTOR_FIND_TIME, found.message.timestamp_ns, n % 2 != 0);
    check_ok(same.status);
    assert_true(same.stamp <= n); /* another one of the same nanosecond may come before it */
    assert_int_equal(same.message.timestamp_ns, found.message.timestamp_ns);
    release(world, 0, &same);
    release(world, 0, &found);
  }
  check_status(find(world, ACTOR_FIND, nth_ordinal(world, COUNT + 1), false).status, SLC_EMPTY);
  take_all(world, 0, 1, COUNT);
  for (uint64_t i = 0; i < 3 * SLOTS; i++) {
    send_by_turns(world, 100 + i, 1, SIZE);
    take_all(world, 0, 100 + i, 1);
  }
  check_status(find(world, ACTOR_FIND, nth_ordinal(world, 1), false).status, SLC_GONE);
  struct actor_answer oldest = find(world, ACTOR_FIND, nth_ordinal(world, 1), true);
  check_ok(oldest.status);
  assert_true(oldest.stamp > 100);
  release(world, 0, &oldest);
}

void a_weak_reference_holds_what_is_still_there(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 1, 1, SIZE);
  struct actor_answer taken = take_expecting(world, 0, 1);
  struct actor_call weak = {.op = ACTOR_TAKE_WEAK, .at = taken.message.ordinal, .slot = taken.message.slot};
  release(world, 0, &taken);
  struct actor_answer again = actor_do(&world->subscribers[0], &weak);
  check_ok(again.status);
  assert_int_equal(again.stamp, 1);
  release(world, 0, &again);
  for (uint64_t i = 0; i < 3 * SLOTS; i++) {
    send_by_turns(world, 100 + i, 1, SIZE);
    take_all(world, 0, 100 + i, 1);
  }
  check_status(actor_do(&world->subscribers[0], &weak).status, SLC_GONE);
}

void a_subscriber_may_come_first(struct world *world) {
  open_subscriber(world, 0, NULL);
  check_status(subscriber_do(world, 0, ACTOR_TAKE).status, SLC_EMPTY);
  struct actor_call wait = {.op = ACTOR_SUBSCRIBER_WAIT, .timeout_ns = 60 * SECOND};
  actor_begin(&world->subscribers[0], &wait);
  open_publishers(world);
  send_by_turns(world, 1, 10, SIZE);
  check_ok(actor_finish(&world->subscribers[0]).status);
  for (uint64_t i = 1; i <= 10; i++) { /* it was there before them all, whenever it has learnt of the channel */
    struct actor_answer taken = subscriber_do(world, 0, ACTOR_TAKE);
    if (taken.status == SLC_EMPTY) {
      check_ok(wait_subscriber(world, 0, 60 * SECOND).status);
      taken = subscriber_do(world, 0, ACTOR_TAKE);
    }
    check_ok(taken.status);
    assert_int_equal(taken.stamp, i);
    release(world, 0, &taken);
  }
}

void the_newest_skips_without_drops(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 1, 10, SIZE);
  struct actor_answer taken = subscriber_do(world, 0, ACTOR_TAKE_NEWEST);
  check_ok(taken.status);
  assert_int_equal(taken.stamp, 10);
  release(world, 0, &taken);
  check_status(subscriber_do(world, 0, ACTOR_TAKE_NEWEST).status, SLC_EMPTY);
  send_by_turns(world, 11, 2, SIZE);
  take_all(world, 0, 11, 2);
  assert_int_equal(stats_of(world, 0).dropped, 0);
}

/* Whatever is published after them. */
void held_messages_stay_as_they_are(struct world *world) {
  enum { HELD = 10 };
  open_publishers(world);
  slc_subscriber_options options = subscriber_options(world);
  options.max_holds = HELD + 1;
  open_subscriber(world, 0, &options);
  struct actor_answer held[HELD];
  send_by_turns(world, 0, HELD, SIZE);
  for (uint64_t i = 0; i < HELD; i++) held[i] = take_expecting(world, 0, i);
  for (uint64_t i = 0; i < 5 * SLOTS; i++) {
    send_by_turns(world, 1000 + i, 1, SLOT_SIZE);
    take_all(world, 0, 1000 + i, 1);
  }
  for (uint64_t i = 0; i < HELD; i++) release(world, 0, &held[i]);
}

void holds_are_limited_and_the_message_waits(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL); /* two holds */
  send_by_turns(world, 1, 3, SIZE);
  struct actor_answer first = take_expecting(world, 0, 1), second = take_expecting(world, 0, 2);
  check_status(subscriber_do(world, 0, ACTOR_TAKE).status, SLC_HOLD_LIMIT);
  release(world, 0, &second);
  struct actor_answer third = take_expecting(world, 0, 3);
  release(world, 0, &first);
  release(world, 0, &third);
}

void a_message_is_released_once(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 1, 2, SIZE);
  struct actor_answer first = take_expecting(world, 0, 1);
  release(world, 0, &first);
  struct actor_call again = {.op = ACTOR_RELEASE, .key = first.key};
  check_status(actor_do(&world->subscribers[0], &again).status, SLC_STALE);
  take_all(world, 0, 2, 1);
}

void two_subscribers_each_get_everything(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  open_subscriber(world, 1, NULL);
  for (uint64_t i = 0; i < 10; i++) {
    send_by_turns(world, i * 20, 20, SIZE);
    take_all(world, i % 2, i * 20, 20);
    take_all(world, 1 - i % 2, i * 20, 20);
  }
}

void a_wait_ends_with_a_message_or_its_time(struct world *world) {
  struct actor_call wait = {.op = ACTOR_SUBSCRIBER_WAIT, .timeout_ns = 60 * SECOND};
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  check_status(wait_subscriber(world, 0, 0).status, SLC_TIMED_OUT);
  check_status(wait_subscriber(world, 0, SECOND / 1000).status, SLC_TIMED_OUT);
  for (uint64_t i = 0; i < 20; i++) {
    actor_begin(&world->subscribers[0], &wait);
    send_by_turns(world, i, 1, SIZE);
    check_ok(actor_finish(&world->subscribers[0]).status);
    take_all(world, 0, i, 1);
  }
}

static void check_readable(struct world *world, uint32_t subscriber, bool expected) {
  struct actor_answer answer = subscriber_do(world, subscriber, ACTOR_IS_READABLE);
  check_ok(answer.status);
  assert_int_equal(answer.done, expected ? 1 : 0);
}

/* It tells the truth after the take that said "empty". */
void the_descriptor_is_readable_while_something_may_be_taken(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  subscriber_do(world, 0, ACTOR_IS_READABLE);
  for (uint64_t i = 0; i < 20; i += 2) {
    check_status(subscriber_do(world, 0, ACTOR_TAKE).status, SLC_EMPTY);
    check_readable(world, 0, false);
    send_by_turns(world, i, 2, SIZE);
    check_readable(world, 0, true);
    take_all(world, 0, i, 1);
    check_readable(world, 0, true);
    take_all(world, 0, i + 1, 1);
  }
}

/* It learns of all of them at once, with their descriptors. */
void who_publishes_later_rings_everybody(struct world *world) {
  struct actor later;
  open_publishers(world);
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) {
    open_subscriber(world, i, NULL);
    subscriber_do(world, i, ACTOR_IS_READABLE);
    check_status(subscriber_do(world, i, ACTOR_TAKE).status, SLC_EMPTY);
    check_readable(world, i, false);
  }
  actor_start(&later, world->shared);
  open_publisher(world, &later, world->channel);
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) { /* the publishers have changed, which readers are told */
    check_status(subscriber_do(world, i, ACTOR_TAKE).status, SLC_EMPTY);
    check_readable(world, i, false);
  }
  check_ok(actor_do(&later, &(struct actor_call){.op = ACTOR_SEND, .stamp = 7, .count = 1, .size = SIZE}).status);
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) {
    check_readable(world, i, true);
    take_all(world, i, 7, 1);
  }
  actor_end(&later);
}

void figures_add_up(struct world *world) {
  enum { COUNT = 21 };
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  send_by_turns(world, 1, COUNT, SIZE);
  assert_int_equal(stats_of(world, 0).lag, COUNT);
  take_all(world, 0, 1, COUNT - 1);
  slc_subscriber_stats stats = stats_of(world, 0);
  assert_int_equal(stats.received, COUNT - 1);
  assert_int_equal(stats.lag, 1);
  uint64_t messages = 0;
  for (uint32_t i = 0; i < world->publisher_count; i++) {
    struct actor_answer answer = publisher_do(world, i, ACTOR_PUBLISHER_STATS);
    check_ok(answer.status);
    messages += answer.publisher_stats.messages;
    assert_int_equal(answer.publisher_stats.bytes, answer.publisher_stats.messages * SIZE);
  }
  assert_int_equal(messages, COUNT);
  slc_channel_info *info = inspect(world);
  assert_int_equal(info->slots_free + info->slots_owned + info->slots_published, SLOTS);
  slc_channel_info_free(info);
}

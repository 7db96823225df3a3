/* Loans, sizes, order. */
#include "behaviours.h"

#include <time.h>

/* From several publishers the order is that of publishing. */
void messages_arrive_whole_and_in_order(struct world *world) {
  enum { ROUNDS = 20, EACH = 30 };
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  for (uint64_t round = 0; round < ROUNDS; round++) {
    send_by_turns(world, round * EACH, EACH, SIZE);
    take_all(world, 0, round * EACH, EACH);
    check_status(subscriber_do(world, 0, ACTOR_TAKE).status, SLC_EMPTY);
  }
  assert_int_equal(stats_of(world, 0).dropped, 0);
}

void every_size_fits(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  for (size_t size = 8; size <= SLOT_SIZE; size++) {
    send_by_turns(world, size, 1, size);
    struct actor_answer taken = take_expecting(world, 0, size);
    assert_int_equal(taken.message.size, size);
    assert_int_equal(ordinal_of(world, &taken.message), size - 7);
    release(world, 0, &taken);
  }
}

void two_loans_are_published_in_either_order(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  for (uint64_t i = 0; i < 100; i += 2) {
    struct actor_answer first = loan_of(world, 0, SIZE), second = loan_of(world, 0, SIZE);
    check_ok(first.status);
    check_ok(second.status);
    bool is_turned = i % 4 == 0;
    check_ok(publish_loan(world, 0, is_turned ? second.key : first.key, i, SIZE).status);
    check_ok(publish_loan(world, 0, is_turned ? first.key : second.key, i + 1, SIZE).status);
    take_all(world, 0, i, 2);
  }
}

/* Also when its slot has been used again meanwhile. */
void a_loan_is_used_once(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  struct actor_answer loan = loan_of(world, 0, SIZE);
  struct actor_call discard = {.op = ACTOR_DISCARD, .key = loan.key};
  check_ok(loan.status);
  check_ok(publish_loan(world, 0, loan.key, 1, SIZE).status);
  check_status(publish_loan(world, 0, loan.key, 2, SIZE).status, SLC_STALE);
  check_status(actor_do(&world->publishers[0], &discard).status, SLC_STALE);
  take_all(world, 0, 1, 1);
  loan = loan_of(world, 0, SIZE);
  discard.key = loan.key;
  check_ok(actor_do(&world->publishers[0], &discard).status);
  for (uint64_t i = 0; i < 3 * SLOTS; i++) {
    send_from(world, 0, 100 + i, 1, SIZE);
    take_all(world, 0, 100 + i, 1);
  }
  check_status(actor_do(&world->publishers[0], &discard).status, SLC_STALE);
  check_status(publish_loan(world, 0, loan.key, 2, SIZE).status, SLC_STALE);
  check_status(subscriber_do(world, 0, ACTOR_TAKE).status, SLC_EMPTY);
}

void a_size_out_of_range_is_refused_and_the_loan_stays(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  struct actor_answer loan = loan_of(world, 0, SIZE);
  check_ok(loan.status);
  check_status(publish_loan(world, 0, loan.key, 1, 0).status, SLC_INVALID);
  check_status(publish_loan(world, 0, loan.key, 1, loan.capacity + 1).status, SLC_INVALID);
  check_status(subscriber_do(world, 0, ACTOR_TAKE).status, SLC_EMPTY);
  check_ok(publish_loan(world, 0, loan.key, 1, loan.capacity).status);
  struct actor_answer taken = take_expecting(world, 0, 1);
  assert_int_equal(taken.message.size, loan.capacity);
}

void loans_are_limited(struct world *world) {
  open_publishers(world);
  struct actor_answer first = loan_of(world, 0, SIZE), second = loan_of(world, 0, SIZE);
  check_ok(first.status);
  check_ok(second.status);
  check_status(loan_of(world, 0, SIZE).status, SLC_LOAN_LIMIT);
  check_ok(publish_loan(world, 0, first.key, 1, SIZE).status);
  check_ok(loan_of(world, 0, SIZE).status);
}

void a_larger_message_makes_the_channel_grow(struct world *world) {
  enum { STEPS = 12 };
  open_publishers(world);
  slc_subscriber_options options = subscriber_options(world);
  options.max_holds = STEPS;
  open_subscriber(world, 0, &options);
  struct actor_answer held[STEPS];
  size_t size = SIZE;
  for (uint64_t i = 0; i < STEPS; i++, size += size / 2) {
    send_by_turns(world, i, 1, size);
    held[i] = take_expecting(world, 0, i);
    assert_int_equal(held[i].message.size, size);
  }
  for (uint64_t i = 0; i < STEPS; i++) release(world, 0, &held[i]);
  send_by_turns(world, 0, 3, SIZE);
  take_all(world, 0, 0, 3);
  slc_channel_info *info = inspect(world);
  assert_true(info->generation > 1);
  slc_channel_info_free(info);
}

void a_fixed_size_is_kept(struct world *world) {
  world->shape.fixed_size = 1;
  open_publishers(world);
  check_status(loan_of(world, 0, SLOT_SIZE + 1).status, SLC_TOO_LARGE);
  check_ok(loan_of(world, 0, SLOT_SIZE).status);
}

/* The stamp again, in the metadata; the checksum covers both. */
void messages_carry_metadata_and_a_checksum(struct world *world) {
  world->shape.metadata_size = 24;
  world->shape.checksum = SLC_CHECKSUM_CRC32C;
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  for (uint64_t i = 0; i < 100; i++) {
    send_by_turns(world, i, 1, 8 + i);
    struct actor_answer taken = take_expecting(world, 0, i);
    assert_int_equal(taken.message.metadata_size, 24);
    assert_int_equal(taken.metadata_stamp, i);
    release(world, 0, &taken);
  }
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void messages_are_stamped_with_the_time(struct world *world) {
  open_publishers(world);
  open_subscriber(world, 0, NULL);
  uint64_t before = now_ns();
  for (uint64_t i = 0; i < 10; i++) {
    send_by_turns(world, i, 1, SIZE);
    struct actor_answer taken = take_expecting(world, 0, i);
    assert_in_range(taken.message.timestamp_ns, before, now_ns());
    before = taken.message.timestamp_ns;
    release(world, 0, &taken);
  }
}

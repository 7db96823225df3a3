/* Death and delay at every machine instruction.
 *
 * A real child process runs a participant's work one instruction at a time.  It is killed there, and repaired; or it is
 * left standing while others go on for laps, and then let go; or two of them stand at every pair of places and are both
 * killed. Each time nothing may be lost, torn, or taken from the living (world_check).
 *
 * Between two changes of shared memory all instructions leave the same state behind, so one place of each stretch
 * stands for all: its first instruction; and where it is let go again, its last, too, when what it has read is old. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/retire.h"
#include "shm/words.h"
#include "slotcast/status.h"
#include "support/step.h"
#include "world.h"

enum { PLACES_MAX = 512 };

/* Whose work is stepped, and what the broker does after its death. */
struct role {
  test_step_fn prepare, work;
  void (*bury)(struct world *world);
};

/* ---- a publisher's life: loans and publishes with refills and evictions between, a discard, goodbye ---- */

static struct slc__pub pub; /* the child's */

static void publisher_joins(void *ctx) {
  struct world *world = ctx;
  test_channel_publisher(&world->channel, &pub, WORLD_VICTIM);
}

static void second_publisher_joins(void *ctx) {
  struct world *world = ctx;
  test_channel_publisher(&world->channel, &pub, WORLD_SECOND_VICTIM);
}

static void publisher_works(void *ctx) {
  (void)ctx;
  uint32_t slots[2];
  uint64_t sequence = 0, ordinal;
  for (int i = 0; i < 3; i++) {
    if (test_message_send(&pub, sequence, &ordinal) == SLC_OK) sequence++;
  }
  int loans = 0;
  while (loans < 2 && slc__pub_loan(&pub, &slots[loans]) == SLC_OK) loans++;
  if (loans == 2) test_message_publish(&pub, slots[1], sequence, &ordinal);
  if (loans >= 1) slc__pub_discard(&pub, slots[0]);
  slc__pub_leave(&pub);
}

static void bury_publisher(struct world *world) {
  slc__repair(&world->channel.control, WORLD_VICTIM);
  slc__ring_all(world->channel.table, world->channel.bell);
}

static const struct role publisher = {publisher_joins, publisher_works, bury_publisher};

/* ---- the same with retirement: evicts what all have read, finds out, has a very slot again ---- */

/* Only the live subscriber is there: a line that is nobody's yet would keep everything. */
static void retiring_publisher_joins(void *ctx) {
  struct world *world = ctx;
  slc__line_close(world->channel.table, world->victim_line, WORLD_HOLDS);
  test_channel_publisher(&world->channel, &pub, WORLD_VICTIM);
  if (slc__retire_open(&pub) != SLC_OK) _exit(1);
}

static void retiring_publisher_works(void *ctx) {
  (void)ctx;
  struct slc__retired retired;
  uint64_t ordinal;
  test_message_send(&pub, 0, &ordinal);
  for (uint64_t sequence = 1; sequence < 3; sequence++) {
    slc__retire_look(&pub);
    if (slc__retire_take(&pub, &retired, 1) == 1 && slc__pub_loan_slot(&pub, &retired) == SLC_OK)
      test_message_publish(&pub, retired.slot, sequence, &ordinal);
    else
      test_message_send(&pub, sequence, &ordinal);
  }
  slc__pub_leave(&pub);
}

static const struct role retiring_publisher = {retiring_publisher_joins, retiring_publisher_works, bury_publisher};

/* ---- a subscriber's: two held at once, by the log and by the guess; released; the newest; armed ---- */

static struct slc__sub sub; /* the child's */

static void subscriber_joins(void *ctx) {
  struct world *world = ctx;
  test_channel_subscriber(&world->channel, &sub, world->victim_line, WORLD_HOLDS, SLC__START_OLDEST);
}

static bool take_whole(struct slc__taken *taken, int (*take)(struct slc__sub *, struct slc__taken *)) {
  struct test_message message;
  int status = take(&sub, taken);
  if (status == SLC_OK && !test_message_read(&sub, taken, &message)) _exit(1);
  if (status != SLC_OK && status != SLC_EMPTY) _exit(2);
  return status == SLC_OK;
}

static void check_still_whole(const struct slc__taken *taken) {
  struct test_message message;
  if (!test_message_read(&sub, taken, &message)) _exit(3);
}

static void subscriber_works(void *ctx) {
  struct slc__taken first, second;
  (void)ctx;
  if (take_whole(&first, slc__sub_take)) {
    bool two = take_whole(&second, slc__sub_take);
    check_still_whole(&first);
    slc__sub_release(&sub, first.hold);
    if (two) check_still_whole(&second);
    if (two) slc__sub_release(&sub, second.hold);
  }
  if (take_whole(&first, slc__sub_take_newest)) slc__sub_release(&sub, first.hold);
  slc__sub_arm(&sub);
}

static void bury_subscriber(struct world *world) {
  slc__line_close(world->channel.table, world->victim_line, WORLD_HOLDS);
  slc__ring_all(world->channel.table, world->channel.bell);
}

static const struct role subscriber = {subscriber_joins, subscriber_works, bury_subscriber};

/* ---- the places ---- */

struct places {
  uint32_t count;
  uint64_t after[PLACES_MAX + 1]; /* so many instructions shared memory has changed; and one more */
};

static void find_places(const struct role *role, enum world_past past, struct places *places) {
  struct world world;
  struct world_image image;
  struct test_step step;
  world_init(&world, past);
  test_step_start(&step, role->prepare, role->work, &world);
  world_save(&world, &image);
  *places = (struct places){.count = 1};
  while (test_step_once(&step)) {
    if (world_equals(&world, &image)) continue;
    world_image_free(&image);
    world_save(&world, &image);
    assert_true(places->count < PLACES_MAX);
    places->after[places->count++] = step.steps;
  }
  places->after[places->count] = places->after[places->count - 1] + 1; /* nothing of interest happens after the last */
  test_step_finish(&step);
  world_image_free(&image);
  world_deinit(&world);
  assert_true(places->count > 2); /* or else this tests nothing */
}

/* Steps to `instructions`, and does `what` with a copy of process and world; then all is as it was. */
static void try_at(struct world *world, struct test_step *step, uint64_t instructions, const struct role *role,
                   void (*what)(struct world *world, pid_t copy, const struct role *role)) {
  if (instructions > step->steps) test_step_many(step, instructions - step->steps);
  assert_false(step->done);
  struct world_image image;
  world_save(world, &image);
  struct world copy = *world;
  what(&copy, test_step_copy(step), role);
  world_restore(world, &image);
  world_image_free(&image);
}

/* ---- killed there ---- */

static void kill_there(struct world *world, pid_t copy, const struct role *role) {
  test_step_copy_kill(copy);
  role->bury(world);
  world_check(world);
}

static void kill_everywhere(const struct role *role) {
  for (int past = 0; past < WORLD_PASTS; past++) {
    struct places places;
    struct world world;
    struct test_step step;
    find_places(role, past, &places);
    world_init(&world, past);
    test_step_start(&step, role->prepare, role->work, &world);
    for (uint32_t i = 0; i < places.count; i++) try_at(&world, &step, places.after[i], role, kill_there);
    print_message("past %d: killed at %u places in %llu instructions\n", past, places.count,
                  (unsigned long long)places.after[places.count]);
    test_step_kill(&step);
    world_deinit(&world);
  }
}

static void test_repair_publisher_killed_everywhere(void **state) {
  (void)state;
  kill_everywhere(&publisher);
}

static void test_repair_retiring_publisher_killed_everywhere(void **state) {
  (void)state;
  kill_everywhere(&retiring_publisher);
}

static void test_repair_subscriber_killed_everywhere(void **state) {
  (void)state;
  kill_everywhere(&subscriber);
}

/* ---- delayed there: others go on for several laps of the slots, then it goes on ---- */

static void go_on_and_check(struct world *world, pid_t copy, const struct role *role) {
  test_step_copy_finish(copy);
  if (role == &subscriber) role->bury(world);
  world_check(world);
}

static void delay_there(struct world *world, pid_t copy, const struct role *role) {
  world_publish(world, 4 * WORLD_SLOTS, true);
  go_on_and_check(world, copy, role);
}

/* The live subscriber is up to date before and far behind after: what it expects where may be something else by now. Up
 * to date but for a message that is in the log and not yet below the tail: that one it still waits for. */
static void delay_there_overrun(struct world *world, pid_t copy, const struct role *role) {
  bool reliable = world->channel.geometry.reliable != 0;
  world_drain_to_tail(world);
  world_publish(world, 4 * WORLD_SLOTS, reliable);
  go_on_and_check(world, copy, role);
}

/* So long that the log comes round to the same words. */
static void delay_there_for_a_lap(struct world *world, pid_t copy, const struct role *role) {
  world_publish(world, world->channel.geometry.log_size + WORLD_SLOTS, true);
  go_on_and_check(world, copy, role);
}

static void delay_everywhere(const struct role *role) {
  for (int past = 0; past < WORLD_PASTS; past++) {
    struct places places;
    struct world world;
    struct test_step step;
    find_places(role, past, &places);
    world_init(&world, past);
    test_step_start(&step, role->prepare, role->work, &world);
    for (uint32_t i = 0; i < places.count; i++) {
      const uint64_t stretch[] = {places.after[i], places.after[i + 1] - 1};
      for (int k = 0; k < 2; k++) {
        try_at(&world, &step, stretch[k], role, delay_there);
        try_at(&world, &step, stretch[k], role, delay_there_overrun);
        try_at(&world, &step, stretch[k], role, delay_there_for_a_lap);
      }
    }
    test_step_kill(&step);
    world_deinit(&world);
  }
}

static void test_repair_publisher_delayed_everywhere(void **state) {
  (void)state;
  delay_everywhere(&publisher);
}

static void test_repair_retiring_publisher_delayed_everywhere(void **state) {
  (void)state;
  delay_everywhere(&retiring_publisher);
}

static void test_repair_subscriber_delayed_everywhere(void **state) {
  (void)state;
  delay_everywhere(&subscriber);
}

/* ---- two of them, at every pair of places ---- */

static void publisher_works_a_little(void *ctx) {
  (void)ctx;
  uint64_t ordinal;
  test_message_send(&pub, 0, &ordinal);
  slc__pub_leave(&pub);
}

static const struct role hasty_publisher = {publisher_joins, publisher_works_a_little, bury_publisher};

static void check_both_dead(const struct world *world, const struct world_image *image, bool second_first) {
  struct world copy = *world;
  world_restore(world, image);
  slc__repair(&copy.channel.control, second_first ? WORLD_SECOND_VICTIM : WORLD_VICTIM);
  slc__repair(&copy.channel.control, second_first ? WORLD_VICTIM : WORLD_SECOND_VICTIM);
  world_check(&copy);
}

/* The first stands there, and the second does its work: all states on its way. */
static void kill_second_everywhere(struct world *world, pid_t first, const struct role *role) {
  static struct world_image images[PLACES_MAX];
  struct test_step second;
  uint32_t count = 0;
  test_step_start(&second, second_publisher_joins, role->work, world);
  world_save(world, &images[count++]);
  while (test_step_once(&second)) {
    if (world_equals(world, &images[count - 1])) continue;
    assert_true(count < PLACES_MAX);
    world_save(world, &images[count++]);
  }
  test_step_kill(&second);
  test_step_copy_kill(first);
  for (uint32_t i = 0; i < count; i++) {
    check_both_dead(world, &images[i], i % 2 != 0);
    world_image_free(&images[i]);
  }
}

static void test_repair_two_publishers_killed_everywhere(void **state) {
  (void)state;
  const struct role *role = &hasty_publisher;
  for (int past = WORLD_FRESH; past <= WORLD_HELD; past++) {
    struct places places;
    struct world world;
    struct test_step step;
    find_places(role, past, &places);
    world_init(&world, past);
    test_step_start(&step, role->prepare, role->work, &world);
    for (uint32_t i = 0; i < places.count; i++) {
      try_at(&world, &step, places.after[i], role, kill_second_everywhere);
    }
    test_step_kill(&step);
    world_deinit(&world);
  }
}

/* ---- states made by hand, for the reader ---- */

/* A world in which the victim has published ordinal n from `slot` and given everything else back. */
static uint64_t publish_one(struct world *world, uint32_t *ret_slot) {
  uint64_t n;
  world_init(world, WORLD_FRESH);
  test_channel_publisher(&world->channel, &pub, WORLD_VICTIM);
  assert_int_equal(test_message_send(&pub, 0, &n), SLC_OK);
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
  *ret_slot = slc__log_slot(*slc__log_at(&world->channel.control, n));
  return n;
}

static void repair_and_check(struct world *world, uint32_t slot, uint64_t own, uint64_t log_n, uint64_t log) {
  struct world_image image;
  slc__repair(&world->channel.control, WORLD_VICTIM);
  assert_int_equal(world->channel.control.own[slot], own);
  assert_int_equal(*slc__log_at(&world->channel.control, log_n), log);
  world_save(world, &image);
  slc__repair(&world->channel.control, WORLD_VICTIM); /* once more: nothing changes */
  assert_true(world_equals(world, &image));
  world_image_free(&image);
  world_check(world);
  world_deinit(world);
}

static void test_repair_published_stays(void **state) {
  (void)state;
  struct world world;
  uint32_t slot;
  uint64_t n = publish_one(&world, &slot);
  uint64_t log = slc__log_present(slc__lap_of(&world.channel.control, n), slot);
  repair_and_check(&world, slot, slc__own_at(WORLD_VICTIM, n), n, log);
}

/* Between the two compare-and-swaps of an eviction. */
static void test_repair_half_evicted(void **state) {
  (void)state;
  struct world world;
  uint32_t slot;
  uint64_t n = publish_one(&world, &slot);
  world.channel.control.own[slot] = slc__own_owned(WORLD_VICTIM, n);
  repair_and_check(&world, slot, slc__own_free(n), n, slc__log_evicted(slc__lap_of(&world.channel.control, n)));
}

/* Evicted, but the announcement still stands: whoever claims the FREE slot clears it. */
static void test_repair_evicted_announcement_stands(void **state) {
  (void)state;
  struct world world;
  uint32_t slot;
  uint64_t n = publish_one(&world, &slot);
  uint64_t log = slc__log_evicted(slc__lap_of(&world.channel.control, n));
  world.channel.control.own[slot] = slc__own_owned(WORLD_VICTIM, n);
  *slc__log_at(&world.channel.control, n) = log;
  assert_int_equal(slc__buffers_prefix(&world.channel.buffers, slot)->seq, n + 1);
  repair_and_check(&world, slot, slc__own_free(n), n, log);
}

/* Put AT an ordinal that it never got: another was faster, or it died before. */
static void test_repair_at_but_not_in_log(void **state) {
  (void)state;
  for (uint64_t ahead = 0; ahead < 2; ahead++) {
    struct world world;
    uint32_t slot;
    uint64_t n = publish_one(&world, &slot);
    uint32_t spare = 0;
    while (world.channel.control.own[spare] != slc__own_free(0)) spare++;
    uint64_t log = *slc__log_at(&world.channel.control, n + ahead);
    world.channel.control.own[spare] = slc__own_at(WORLD_VICTIM, n + ahead);
    slc__buffers_prefix(&world.channel.buffers, spare)->seq = SLC__SEQ_PENDING | (n + ahead + 1);
    repair_and_check(&world, spare, slc__own_free(n + ahead), n + ahead, log);
  }
}

/* On loan, or in the free list. */
static void test_repair_owned(void **state) {
  (void)state;
  struct world world;
  uint32_t slot, spare = 0;
  uint64_t n = publish_one(&world, &slot);
  uint64_t log = *slc__log_at(&world.channel.control, n);
  while (world.channel.control.own[spare] != slc__own_free(0)) spare++;
  world.channel.control.own[spare] = slc__own_owned(WORLD_VICTIM, 0);
  repair_and_check(&world, spare, slc__own_free(0), n, log);
}

/* Of another publisher: left alone, whatever state it is in. */
static void test_repair_leaves_others_alone(void **state) {
  (void)state;
  struct world world;
  struct world_image image;
  world_init(&world, WORLD_HELD);
  world_save(&world, &image);
  for (uint32_t id = 0; id < world.channel.geometry.max_publishers; id++) {
    if (id != WORLD_BYSTANDER && id != 0) slc__repair(&world.channel.control, id);
  }
  assert_true(world_equals(&world, &image));
  world_image_free(&image);
  world_check(&world);
  world_deinit(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_repair_published_stays),
      cmocka_unit_test(test_repair_half_evicted),
      cmocka_unit_test(test_repair_evicted_announcement_stands),
      cmocka_unit_test(test_repair_at_but_not_in_log),
      cmocka_unit_test(test_repair_owned),
      cmocka_unit_test(test_repair_leaves_others_alone),
      cmocka_unit_test(test_repair_publisher_killed_everywhere),
      cmocka_unit_test(test_repair_retiring_publisher_killed_everywhere),
      cmocka_unit_test(test_repair_subscriber_killed_everywhere),
      cmocka_unit_test(test_repair_publisher_delayed_everywhere),
      cmocka_unit_test(test_repair_retiring_publisher_delayed_everywhere),
      cmocka_unit_test(test_repair_subscriber_delayed_everywhere),
      cmocka_unit_test(test_repair_two_publishers_killed_everywhere),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What the store promises its owner, with shadows that the test plays message by message: who is waited for, what a
 * set's generation says, and what a shadow may do to the broker: nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "fake.h"

#define RECORD SLOTCAST__SHADOW_MESSAGE__BODY_RECORD
#define DROP SLOTCAST__SHADOW_MESSAGE__BODY_DROP
#define BEGIN SLOTCAST__SHADOW_MESSAGE__BODY_BEGIN
#define COMMIT SLOTCAST__SHADOW_MESSAGE__BODY_COMMIT

static void check_bytes(ProtobufCBinaryData bytes, const char *expected) {
  assert_int_equal(bytes.len, strlen(expected));
  assert_memory_equal(bytes.data, expected, bytes.len);
}

static uint64_t next_commit(struct store_world *world, struct fake *fake) {
  return fake_receive(world, fake, COMMIT)->commit->number;
}

static void wait_until_kept(struct store_world *world, uint64_t commit) {
  while (slc__store_kept(world->store) < commit) store_world_turn(world);
  assert_int_equal(world->kept, slc__store_kept(world->store));
}

static void check_not_kept(struct store_world *world, uint64_t commit) {
  for (int i = 0; i < 5; i++) store_world_turn(world);
  assert_true(slc__store_kept(world->store) < commit);
}

/* One shadow that is up to date, with one record. */
static void start_one(struct store_world *world) {
  uint64_t generation;
  store_world_open(world, 1);
  fake_listen(&world->fakes[0]);
  store_world_put(world, "0broker", "x");
  slc__store_commit(world->store);
  fake_greet(world, &world->fakes[0]);
  uint64_t commit = fake_catch_up(world, &world->fakes[0], 1, &generation);
  fake_say_committed(&world->fakes[0], commit);
  wait_until_kept(world, commit);
}

/* Two of them. */
static void start_two(struct store_world *world) {
  uint64_t generation;
  store_world_open(world, 2);
  for (int i = 0; i < 2; i++) fake_listen(&world->fakes[i]);
  store_world_put(world, "0broker", "x");
  slc__store_commit(world->store);
  fake_greet(world, &world->fakes[0]);
  uint64_t first = fake_catch_up(world, &world->fakes[0], 1, &generation);
  fake_say_committed(&world->fakes[0], first);
  fake_greet(world, &world->fakes[1]);
  uint64_t second = fake_catch_up(world, &world->fakes[1], 1, &generation);
  fake_say_committed(&world->fakes[1], second);
  assert_int_equal(next_commit(world, &world->fakes[0]), second);
  fake_say_committed(&world->fakes[0], second);
  wait_until_kept(world, second);
}

static void test_store_without_keepers_keeps_at_once(void **state) {
  struct store_world *world = *state;
  store_world_open(world, 0);
  store_world_put(world, "a", "1");
  uint64_t first = slc__store_commit(world->store);
  assert_int_equal(slc__store_kept(world->store), first);
  assert_int_equal(slc__store_commit(world->store), first);
  slc__store_drop(world->store, "b", 1);
  assert_int_equal(slc__store_commit(world->store), first);
  slc__store_drop(world->store, "a", 1);
  assert_true(slc__store_commit(world->store) > first);
  assert_int_equal(store_world_generation(world), 0);
  assert_string_equal(world->log, "");
}

static void test_store_sends_changes_and_waits_for_the_acknowledgement(void **state) {
  struct store_world *world = *state;
  struct fake *fake = &world->fakes[0];
  start_one(world);
  store_world_put(world, "a", "1");
  store_world_put(world, "b", "1");
  store_world_put(world, "a", "2");
  slc__store_drop(world->store, "0broker", 7);
  uint64_t commit = slc__store_commit(world->store);
  check_bytes(fake_receive(world, fake, RECORD)->record->key, "b");
  const Slotcast__ShadowMessage *message = fake_receive(world, fake, RECORD);
  check_bytes(message->record->key, "a");
  check_bytes(message->record->value, "2");
  check_bytes(fake_receive(world, fake, DROP)->drop->key, "0broker");
  assert_int_equal(next_commit(world, fake), commit);
  check_not_kept(world, commit);
  fake_say_committed(fake, commit);
  wait_until_kept(world, commit);
}

static void test_store_sends_descriptors(void **state) {
  struct store_world *world = *state;
  struct fake *fake = &world->fakes[0];
  int pair[2];
  struct stat sent, received;
  start_one(world);
  assert_int_equal(pipe(pair), 0);
  assert_int_equal(slc__store_put(world->store, "a", 1, NULL, 0, pair, 2), 0);
  slc__store_commit(world->store);
  assert_int_equal(fake_receive(world, fake, RECORD)->record->descriptors, 2);
  assert_int_equal(fake->fds.count, 2);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(fstat(pair[i], &sent), 0);
    assert_int_equal(fstat(fake->fds.fd[i], &received), 0);
    assert_int_equal(sent.st_ino, received.st_ino);
    close(pair[i]);
  }
}

static void test_store_sends_nothing_in_the_middle_of_a_change(void **state) {
  struct store_world *world = *state;
  struct fake *fake = &world->fakes[0];
  start_one(world);
  store_world_put(world, "a", "1");
  assert_true(fake_is_quiet(world, fake));
  slc__fd_close(&fake->fd);
  fake_accept(world, fake);
  fake_receive(world, fake, SLOTCAST__SHADOW_MESSAGE__BODY_HELLO);
  fake_say_state(fake, true, 1);
  assert_true(fake_is_quiet(world, fake));
  slc__store_commit(world->store);
  fake_receive(world, fake, BEGIN);
}

static void test_store_waits_for_every_one_that_is_up_to_date(void **state) {
  struct store_world *world = *state;
  start_two(world);
  store_world_put(world, "a", "1");
  uint64_t commit = slc__store_commit(world->store);
  for (int i = 0; i < 2; i++) {
    check_not_kept(world, commit);
    fake_receive(world, &world->fakes[i], RECORD);
    assert_int_equal(next_commit(world, &world->fakes[i]), commit);
    fake_say_committed(&world->fakes[i], commit);
  }
  wait_until_kept(world, commit);
}

static void test_store_does_not_wait_for_one_that_catches_up(void **state) {
  struct store_world *world = *state;
  uint64_t generation;
  store_world_open(world, 2);
  store_world_put(world, "0broker", "x");
  slc__store_commit(world->store);
  fake_listen(&world->fakes[0]);
  fake_greet(world, &world->fakes[0]);
  uint64_t commit = fake_catch_up(world, &world->fakes[0], 1, &generation);
  fake_say_committed(&world->fakes[0], commit);
  wait_until_kept(world, commit);
  fake_listen(&world->fakes[1]);
  fake_accept(world, &world->fakes[1]); /* and that is all it does */
  store_world_put(world, "a", "1");
  commit = slc__store_commit(world->store);
  fake_receive(world, &world->fakes[0], RECORD);
  assert_int_equal(next_commit(world, &world->fakes[0]), commit);
  fake_say_committed(&world->fakes[0], commit);
  wait_until_kept(world, commit);
}

/* What is told to be kept after a member has gone, that one does not have: the file must say so before, and the other
 * must have said that it has it as a set of that generation, or the file would make an old one of its set. */
static void test_store_generation_grows_before_anything_is_kept_without_one(void **state) {
  struct store_world *world = *state;
  start_two(world);
  uint64_t before = store_world_generation(world);
  store_world_put(world, "a", "1");
  uint64_t shared = slc__store_commit(world->store);
  fake_receive(world, &world->fakes[0], RECORD);
  assert_int_equal(next_commit(world, &world->fakes[0]), shared);
  fake_say_committed(&world->fakes[0], shared);
  fake_die(&world->fakes[1]);
  const Slotcast__ShadowCommit *commit = fake_receive(world, &world->fakes[0], COMMIT)->commit;
  uint64_t number = commit->number, generation = commit->generation;
  assert_true(number > shared);
  assert_true(generation > before);
  check_not_kept(world, shared);
  assert_int_equal(store_world_generation(world), before);
  fake_say_committed(&world->fakes[0], number);
  wait_until_kept(world, number);
  assert_int_equal(store_world_generation(world), generation);
}

static void test_store_alone_goes_on_and_calls_what_is_kept_old(void **state) {
  struct store_world *world = *state;
  uint64_t generation;
  start_one(world);
  uint64_t before = store_world_generation(world);
  store_world_put(world, "a", "1");
  uint64_t commit = slc__store_commit(world->store);
  fake_die(&world->fakes[0]);
  wait_until_kept(world, commit);
  assert_true(store_world_generation(world) > before);
  assert_int_equal(store_world_said(world, "nobody keeps"), 2); /* and in the beginning */
  before = store_world_generation(world);
  fake_listen(&world->fakes[0]);
  fake_greet(world, &world->fakes[0]);
  commit = fake_catch_up(world, &world->fakes[0], 2, &generation);
  assert_true(generation > before);
  fake_say_committed(&world->fakes[0], commit);
  wait_until_kept(world, commit);
  assert_int_equal(store_world_said(world, "nobody keeps"), 2);
  assert_int_equal(store_world_said(world, "shadow0 keeps"), 2);
}

static void test_store_with_one_coming_waits_for_it(void **state) {
  struct store_world *world = *state;
  start_one(world);
  fake_die(&world->fakes[0]);
  fake_listen(&world->fakes[0]);
  fake_greet(world, &world->fakes[0]);
  store_world_put(world, "a", "1");
  check_not_kept(world, slc__store_commit(world->store));
}

static void test_store_generation_is_higher_than_any_keeper_had(void **state) {
  struct store_world *world = *state;
  uint64_t generation;
  store_world_open(world, 1);
  slc__store_commit(world->store);
  fake_listen(&world->fakes[0]);
  fake_accept(world, &world->fakes[0]);
  fake_receive(world, &world->fakes[0], SLOTCAST__SHADOW_MESSAGE__BODY_HELLO);
  fake_say_state(&world->fakes[0], true, 1000);
  fake_receive(world, &world->fakes[0], BEGIN);
  fake_catch_up(world, &world->fakes[0], 0, &generation);
  assert_true(generation > 1000);
}

/* A set that was committed, and that no file speaks of, is not to be taken for one of the next broker's. */
static void test_store_generation_is_never_taken_twice(void **state) {
  struct store_world *world = *state;
  uint64_t generation;
  store_world_open(world, 1);
  slc__store_commit(world->store);
  fake_listen(&world->fakes[0]);
  fake_greet(world, &world->fakes[0]);
  fake_catch_up(world, &world->fakes[0], 0, &generation);
  fake_die(&world->fakes[0]);
  store_world_close(world);
  store_world_open(world, 1);
  slc__store_commit(world->store);
  assert_true(store_world_generation(world) > generation);
}

static void test_store_fenced_keeps_nothing_more(void **state) {
  struct store_world *world = *state;
  start_one(world);
  uint64_t generation = store_world_generation(world);
  fake_say_refusal(&world->fakes[0], SLC_BUSY, "a newer broker has come");
  while (world->fenced == 0) store_world_turn(world);
  fake_see_end(world, &world->fakes[0]);
  store_world_put(world, "a", "1");
  check_not_kept(world, slc__store_commit(world->store));
  assert_int_equal(world->fenced, 1);
  assert_int_equal(store_world_generation(world), generation);
  assert_int_equal(store_world_said(world, "newer broker: this one must stop"), 1);
}

static void test_store_refused_is_told_once_and_serves_on(void **state) {
  struct store_world *world = *state;
  start_one(world);
  store_world_put(world, "a", "1");
  uint64_t commit = slc__store_commit(world->store);
  fake_say_refusal(&world->fakes[0], SLC_LIMIT, "more than 1 record");
  fake_see_end(world, &world->fakes[0]);
  wait_until_kept(world, commit);
  assert_int_equal(store_world_said(world, "it refuses: more than 1 record"), 1);
}

/* ---- what a shadow may do to the broker ---- */

static void say_garbage(struct fake *fake) {
  static const char garbage[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
  fake_send(fake, garbage, sizeof garbage, NULL, 0);
}

static void say_too_much(struct fake *fake) {
  static const char long_one[SLC__NET_DATAGRAM_MAX + 1];
  fake_send(fake, long_one, sizeof long_one, NULL, 0);
}

static void say_descriptors(struct fake *fake) {
  static const uint8_t committed[] = {0x92, 0x01, 0x02, 0x08, 0x01};
  int fds[] = {fake->fd, fake->fd};
  fake_send(fake, committed, sizeof committed, fds, 2);
}

static void say_future(struct fake *fake) {
  fake_say_committed(fake, 1000);
}

static void say_past(struct fake *fake) {
  fake_say_committed(fake, 1);
}

static void say_state_again(struct fake *fake) {
  fake_say_state(fake, true, 7);
}

static void say_refusal_of_no_kind(struct fake *fake) {
  fake_say_refusal(fake, 1, "?");
}

static void say_refusal_of_unknown_kind(struct fake *fake) {
  fake_say_refusal(fake, INT32_MIN, "?");
}

static void say_record(struct fake *fake) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowRecord record = SLOTCAST__SHADOW_RECORD__INIT;
  record.key = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t) "a", .len = 1};
  message.body_case = RECORD;
  message.record = &record;
  fake_say(fake, &message);
}

/* Each closes this connection and nothing else; the shadow that behaves is taken back. */
static void test_store_nonsense_costs_the_link_only(void **state) {
  static void (*const nonsense[])(struct fake * fake) = {
      say_garbage, say_too_much,    say_descriptors,        say_future,
      say_past,    say_state_again, say_refusal_of_no_kind, say_refusal_of_unknown_kind,
      say_record};
  struct store_world *world = *state;
  struct fake *fake = &world->fakes[0];
  uint64_t generation;
  start_one(world);
  for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
    nonsense[i](fake);
    fake_see_end(world, fake);
    assert_int_equal(store_world_said(world, "shadow0: "), 2 + (int)i); /* nobody listened there in the beginning */
    fake_greet(world, fake);
    uint64_t commit = fake_catch_up(world, fake, 1, &generation);
    fake_say_committed(fake, commit);
    wait_until_kept(world, commit);
  }
  assert_int_equal(world->fenced, 0);
}

static void test_store_nonsense_as_the_first_answer_costs_the_link_only(void **state) {
  struct store_world *world = *state;
  struct fake *fake = &world->fakes[0];
  store_world_open(world, 1);
  uint64_t commit = slc__store_commit(world->store);
  fake_listen(fake);
  fake_accept(world, fake);
  say_past(fake);
  fake_see_end(world, fake);
  fake_accept(world, fake);
  say_garbage(fake);
  fake_see_end(world, fake);
  assert_true(slc__store_kept(world->store) >= commit);
  fake_greet(world, fake);
}

int main(void) {
#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, store_world_setup, store_world_teardown)
  const struct CMUnitTest tests[] = {
      WORLD_TEST(test_store_without_keepers_keeps_at_once),
      WORLD_TEST(test_store_sends_changes_and_waits_for_the_acknowledgement),
      WORLD_TEST(test_store_sends_descriptors),
      WORLD_TEST(test_store_sends_nothing_in_the_middle_of_a_change),
      WORLD_TEST(test_store_waits_for_every_one_that_is_up_to_date),
      WORLD_TEST(test_store_does_not_wait_for_one_that_catches_up),
      WORLD_TEST(test_store_generation_grows_before_anything_is_kept_without_one),
      WORLD_TEST(test_store_alone_goes_on_and_calls_what_is_kept_old),
      WORLD_TEST(test_store_with_one_coming_waits_for_it),
      WORLD_TEST(test_store_generation_is_higher_than_any_keeper_had),
      WORLD_TEST(test_store_generation_is_never_taken_twice),
      WORLD_TEST(test_store_fenced_keeps_nothing_more),
      WORLD_TEST(test_store_refused_is_told_once_and_serves_on),
      WORLD_TEST(test_store_nonsense_costs_the_link_only),
      WORLD_TEST(test_store_nonsense_as_the_first_answer_costs_the_link_only),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What a shadow gives back is not what it was given: that costs the channel that it is of, and nothing else.  Records
 * of a newer release are refused; what was not on record was never told to anybody. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "record.pb-c.h"
#include "support/check.h"
#include "tamper.h"
#include "world.h"

enum { CHECKSUM_SIZE = 4 };

static int setup(void **state) {
  struct test_broker *broker = malloc(sizeof *broker);
  if (broker == NULL) return -1;
  test_broker_start_shadowed(broker, 1, NULL);
  *state = broker;
  return 0;
}

static int teardown(void **state) {
  return test_broker_teardown(state);
}
#define DAMAGE_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* ---- finding records ---- */

static Slotcast__Record *unpack(const struct tampered *record) {
  Slotcast__Record *message =
      slotcast__record__unpack(NULL, record->record.value_size - CHECKSUM_SIZE, record->value + CHECKSUM_SIZE);
  assert_non_null(message);
  return message;
}

static void repack(struct tampered *record, Slotcast__Record *message) {
  record->record.value_size = CHECKSUM_SIZE + slotcast__record__get_packed_size(message);
  slotcast__record__pack(message, record->value + CHECKSUM_SIZE);
  tamper_seal(record);
}

/* What is to be done with records of `kind` (the first character of its key), of the channel `victim`. */
struct plan {
  char kind;
  const char *victim;
  unsigned char channel[8]; /* its number, as in keys; found on the way, since channels come first */
  bool is_found;
  void (*damage)(struct tampered *record);
};

static bool is_numbered(const struct plan *plan, const struct tampered *record) {
  const unsigned char *key = record->record.key;
  for (size_t i = 0; i + sizeof plan->channel < record->record.key_size; i++) {
    if (key[i] == '/') return memcmp(key + i + 1, plan->channel, sizeof plan->channel) == 0;
  }
  return false;
}

static void look_for_victim(struct plan *plan, const struct tampered *record) {
  const unsigned char *key = record->record.key;
  if (key[0] != '2') return;
  Slotcast__Record *message = unpack(record);
  if (strcmp(message->channel->name, plan->victim) == 0) {
    memcpy(plan->channel, key + record->record.key_size - sizeof plan->channel, sizeof plan->channel);
    plan->is_found = true;
  }
  slotcast__record__free_unpacked(message, NULL);
}

static bool apply(struct tampered *record, void *ctx) {
  struct plan *plan = ctx;
  look_for_victim(plan, record);
  bool is_meant = *(const char *)record->record.key == plan->kind &&
                  (plan->kind < '2' || (plan->is_found && is_numbered(plan, record)));
  if (is_meant) plan->damage(record);
  return is_meant;
}

/* ---- damage ---- */

static void flip_bit(struct tampered *record) {
  record->value[record->record.value_size / 2] ^= 4;
}

static void cut(struct tampered *record) {
  record->record.value_size /= 2;
}

static void lose_record(struct tampered *record) {
  record->is_dropped = true;
}

static void lose_descriptors(struct tampered *record) {
  for (size_t i = 0; i < record->record.fd_count; i++) close(record->record.fds[i]);
  record->record.fd_count = 0;
}

/* Of the same kind and size, and another object. */
static void exchange_descriptor(struct tampered *record) {
  off_t size = lseek(record->record.fds[0], 0, SEEK_END);
  int other = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  assert_true(other >= 0 && size > 0);
  assert_int_equal(ftruncate(other, size), 0);
  assert_int_equal(fcntl(other, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
  close(record->record.fds[0]);
  record->record.fds[0] = other;
}

static void take_write_permission(struct tampered *record) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", record->record.fds[0]);
  int other = open(path, O_RDONLY | O_CLOEXEC);
  assert_true(other >= 0);
  close(record->record.fds[0]);
  record->record.fds[0] = other;
}

static void change_version(struct tampered *record, uint32_t by) {
  Slotcast__Record *message = unpack(record);
  message->version += by;
  repack(record, message);
  slotcast__record__free_unpacked(message, NULL);
}

static void make_newer(struct tampered *record) {
  change_version(record, 1);
}

static void make_older(struct tampered *record) {
  change_version(record, UINT32_MAX);
}

static void claim_another_place(struct tampered *record) {
  Slotcast__Record *message = unpack(record);
  message->user->table = message->user->publisher_id = 77;
  repack(record, message);
  slotcast__record__free_unpacked(message, NULL);
}

/* ---- that channel alone ---- */

static const char *const names[] = {"plain", "grown", "split", "the/mux", "reliable", "kept"};
enum { NAMES = sizeof names / sizeof *names };

static void expect_all_but(const char *victim) {
  slc_client *client = NULL;
  check_ok(slc_client_open(NULL, &client));
  for (size_t i = 0; i < NAMES; i++) {
    slc_channel_info *info = NULL;
    int expected = strcmp(names[i], victim) == 0 ? SLC_NOT_FOUND : 0;
    check_status(slc_channel_inspect(client, names[i], &info), expected);
    if (expected == 0) slc_channel_info_free(info);
  }
  /* The name is free. */
  slc_publisher *publisher = NULL;
  check_ok(slc_publisher_open(client, victim, NULL, &publisher));
  slc_client_close(client);
}

static void damage_one(struct test_broker *broker, char kind, const char *victim,
                       void (*damage)(struct tampered *record)) {
  struct plan plan = {.kind = kind, .victim = victim, .damage = damage};
  struct world world;
  world_start(&world);
  test_broker_kill(broker);
  assert_true(tamper(broker->shadows[0].socket, broker->socket, apply, &plan) > 0);
  test_broker_resume(broker);
  expect_all_but(victim);
  world_kill(&world);
}

#define ONE_CHANNEL_TEST(name, kind, victim, damage)                                                                   \
  static void name(void **state) {                                                                                     \
    damage_one(*state, kind, victim, damage);                                                                          \
  }
ONE_CHANNEL_TEST(test_a_flipped_bit_of_a_channel, '2', "plain", flip_bit)
ONE_CHANNEL_TEST(test_half_a_channel, '2', "plain", cut)
ONE_CHANNEL_TEST(test_no_memory_of_a_channel, '2', "reliable", lose_descriptors)
ONE_CHANNEL_TEST(test_other_memory_of_a_channel, '2', "plain", exchange_descriptor)
ONE_CHANNEL_TEST(test_read_only_memory_of_a_channel, '2', "plain", take_write_permission)
ONE_CHANNEL_TEST(test_a_channel_of_a_newer_release, '2', "the/mux", make_newer)
ONE_CHANNEL_TEST(test_lost_generations, '3', "grown", lose_descriptors)
ONE_CHANNEL_TEST(test_a_flipped_bit_of_a_generation, '3', "split", flip_bit)
ONE_CHANNEL_TEST(test_lost_payloads, '3', "split", lose_descriptors)
ONE_CHANNEL_TEST(test_a_lost_table, '4', "plain", lose_record)
ONE_CHANNEL_TEST(test_a_table_without_a_bell, '4', "reliable", lose_descriptors)
ONE_CHANNEL_TEST(test_a_lost_virtual_channel, '5', "the/mux", lose_record)
ONE_CHANNEL_TEST(test_a_flipped_bit_of_a_user, '6', "reliable", flip_bit)
ONE_CHANNEL_TEST(test_a_user_at_another_place, '6', "plain", claim_another_place)

/* ---- more than one ---- */

static uint32_t count_channels(void) {
  slc_client *client = NULL;
  uint32_t count = 0;
  check_ok(slc_client_open(NULL, &client));
  for (size_t i = 0; i < NAMES; i++) {
    slc_channel_info *info = NULL;
    if (slc_channel_inspect(client, names[i], &info) != 0) continue;
    count++;
    slc_channel_info_free(info);
  }
  slc_client_close(client);
  return count;
}

/* Nobody would see its end: what it uses goes; what has no users stays. */
static void test_a_process_that_cannot_be_watched(void **state) {
  struct test_broker *broker = *state;
  struct plan plan = {.kind = '1', .victim = "", .damage = lose_descriptors};
  struct world world;
  world_start(&world);
  test_broker_kill(broker);
  assert_true(tamper(broker->shadows[0].socket, broker->socket, apply, &plan) > 0);
  test_broker_resume(broker);
  assert_int_equal(count_channels(), 1); /* the one that stays without users */
  world_kill(&world);
}

static void test_the_record_of_the_broker_itself(void **state) {
  struct test_broker *broker = *state;
  struct plan plan = {.kind = '0', .victim = "", .damage = flip_bit};
  struct world world;
  world_start(&world);
  test_broker_kill(broker);
  assert_int_equal(tamper(broker->shadows[0].socket, broker->socket, apply, &plan), 1);
  test_broker_resume(broker);
  assert_int_equal(count_channels(), 0);
  world_kill(&world);
  world_start(&world); /* it serves */
  assert_int_equal(count_channels(), NAMES);
  world_kill(&world);
}

/* Another release's broker has to go on with it: this one leaves it alone. */
static void test_records_of_a_newer_release(void **state) {
  struct test_broker *broker = *state;
  struct plan newer = {.kind = '0', .victim = "", .damage = make_newer},
              older = {.kind = '0', .victim = "", .damage = make_older};
  struct world world;
  char command[512];
  world_start(&world);
  char *before = world_look();
  test_broker_kill(broker);
  assert_int_equal(tamper(broker->shadows[0].socket, broker->socket, apply, &newer), 1);
  snprintf(command, sizeof command, "exec %s --socket %s --shadow %s", test_program("slotcastd"), broker->socket,
           broker->shadows[0].socket);
  FILE *output = popen(command, "re");
  assert_non_null(output);
  int status = pclose(output);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
  assert_int_equal(tamper(broker->shadows[0].socket, broker->socket, apply, &older), 1);
  test_broker_resume(broker);
  char *after = world_look();
  assert_string_equal(after, before);
  free(before);
  free(after);
  world_kill(&world);
}

/* libuv keeps some descriptors from its first loop on. */
static void open_for_good(void) {
  uv_loop_t loop;
  if (uv_loop_init(&loop) != 0 || uv_loop_close(&loop) != 0) abort();
}

int main(void) {
  open_for_good();
  const struct CMUnitTest tests[] = {
      DAMAGE_TEST(test_a_flipped_bit_of_a_channel),
      DAMAGE_TEST(test_half_a_channel),
      DAMAGE_TEST(test_no_memory_of_a_channel),
      DAMAGE_TEST(test_other_memory_of_a_channel),
      DAMAGE_TEST(test_read_only_memory_of_a_channel),
      DAMAGE_TEST(test_a_channel_of_a_newer_release),
      DAMAGE_TEST(test_lost_generations),
      DAMAGE_TEST(test_a_flipped_bit_of_a_generation),
      DAMAGE_TEST(test_lost_payloads),
      DAMAGE_TEST(test_a_lost_table),
      DAMAGE_TEST(test_a_table_without_a_bell),
      DAMAGE_TEST(test_a_lost_virtual_channel),
      DAMAGE_TEST(test_a_flipped_bit_of_a_user),
      DAMAGE_TEST(test_a_user_at_another_place),
      DAMAGE_TEST(test_a_process_that_cannot_be_watched),
      DAMAGE_TEST(test_the_record_of_the_broker_itself),
      DAMAGE_TEST(test_records_of_a_newer_release),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

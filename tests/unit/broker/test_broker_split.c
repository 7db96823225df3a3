/* Registration of payloads as the broker sees it: what no honest library sends, and who may register for whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raw.h"
#include "shm/payload.h"

enum { SLOTS = 16, SLOT_SIZE = 1024, FDS_MAX = 4 };

#define CHANNEL "split"

/* A registration of `count` entries, entry i for slot slots[i], by the descriptor descriptors[i]. */
struct attempt {
  uint64_t user;
  uint32_t generation;
  Slotcast__DescriptorKind kind;
  size_t count, fd_count;
  uint32_t slots[SLOTS], descriptors[SLOTS];
  uint64_t offset;
  int memory; /* of all descriptors; 0: new memory for each */
};

static int attempt_memory(void) {
  int fd = -1;
  assert_int_equal(slc__payload_create(slc__memory_plain(SLC__BACKEND_MEMFD), (uint64_t)SLOTS * SLOT_SIZE, &fd), 0);
  return fd;
}

static struct attempt attempt_of(uint64_t user) {
  struct attempt attempt = {
      .user = user, .generation = 1, .kind = SLOTCAST__DESCRIPTOR_KIND__MEMORY, .count = SLOTS, .fd_count = 1};
  for (uint32_t i = 0; i < SLOTS; i++) attempt.slots[i] = i;
  return attempt;
}

static void attempt_send(struct raw *raw, const struct attempt *attempt) {
  Slotcast__RegisterPayloads body = SLOTCAST__REGISTER_PAYLOADS__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__Payload entries[SLOTS], *list[SLOTS];
  Slotcast__Descriptor descriptors[FDS_MAX], *manifest[FDS_MAX];
  uint8_t bytes[4096];
  int fds[FDS_MAX];
  size_t size = 0;
  for (size_t i = 0; i < attempt->count; i++) {
    slotcast__payload__init(list[i] = &entries[i]);
    entries[i].slot = attempt->slots[i];
    entries[i].descriptor = attempt->descriptors[i];
    entries[i].offset = attempt->offset + i * SLOT_SIZE;
    entries[i].handle = 100 + i;
  }
  for (size_t i = 0; i < attempt->fd_count; i++) {
    slotcast__descriptor__init(manifest[i] = &descriptors[i]);
    descriptors[i].kind = attempt->kind;
    fds[i] = attempt->memory != 0 ? dup(attempt->memory) : attempt_memory();
  }
  body.user = attempt->user;
  body.generation = attempt->generation;
  body.payloads = list;
  body.n_payloads = attempt->count;
  message.serial = ++raw->serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_REGISTER_PAYLOADS;
  message.register_payloads = &body;
  message.descriptors = manifest;
  message.n_descriptors = attempt->fd_count;
  assert_int_equal(slc__codec_encode(&message, bytes, sizeof bytes, &size), 0);
  raw_send_bytes(raw, bytes, size, fds, attempt->fd_count);
  for (size_t i = 0; i < attempt->fd_count; i++) close(fds[i]);
}

/* A publisher that has asked for the first generation, and has seen that it is empty. */
static uint64_t join_on(struct raw *raw, const char *channel, enum slc__backend backend) {
  struct raw_answer answer;
  Slotcast__OpenPublisher request = raw_publisher(channel);
  request.backend = backend;
  request.split = true;
  request.slots = SLOTS;
  request.slot_size = SLOT_SIZE;
  request.max_loans = 1;
  raw_publish(raw, &request, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
  uint64_t user = answer.message->publisher_opened->user;
  raw_answer_free(&answer);
  return user;
}

static uint64_t join(struct raw *raw, const char *channel) {
  return join_on(raw, channel, SLC__BACKEND_MEMFD);
}

static void ask_for_objects(struct raw *raw, uint64_t user, uint32_t slots_per_object, struct raw_answer *ret_answer) {
  Slotcast__Grow body = SLOTCAST__GROW__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  body.user = user;
  body.wanted = body.slot_size = SLOT_SIZE;
  body.slots_per_object = slots_per_object;
  message.body_case = SLOTCAST__MESSAGE__BODY_GROW;
  message.grow = &body;
  raw_send(raw, &message, -1);
  raw_await(raw, ret_answer);
}

static void ask(struct raw *raw, uint64_t user, struct raw_answer *ret_answer) {
  ask_for_objects(raw, user, 0, ret_answer);
}

static void expect_page(struct raw_answer *answer, size_t entries, uint32_t registered, uint32_t handled) {
  assert_int_equal(answer->message->body_case, SLOTCAST__MESSAGE__BODY_PAYLOADS);
  const Slotcast__Payloads *page = answer->message->payloads;
  assert_int_equal(page->n_payloads, entries);
  assert_int_equal(page->registered, registered);
  assert_int_equal(page->handled, handled);
  raw_answer_free(answer);
}

/* ---- first one wins ---- */

static void test_split_the_first_one_wins(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw first, second;
  struct raw_answer answer;
  raw_broker_start(&broker, NULL);
  raw_open(&first, &broker, 1);
  raw_open(&second, &broker, 2);
  uint64_t one = join(&first, CHANNEL), two = join(&second, CHANNEL);
  ask(&first, one, &answer);
  expect_page(&answer, 0, 0, 0);
  ask(&second, two, &answer);
  expect_page(&answer, 0, 0, 0);
  struct attempt attempt = attempt_of(one);
  attempt.count = 2;
  attempt.slots[0] = 1;
  attempt.slots[1] = 3;
  attempt_send(&first, &attempt);
  raw_await(&first, &answer);
  expect_page(&answer, 0, 2, 2);
  attempt = attempt_of(two);
  attempt.offset = 0;
  attempt_send(&second, &attempt);
  raw_await(&second, &answer);
  assert_int_equal(answer.fds.count, 1); /* one of the first's serves both of its slots */
  assert_int_equal(answer.message->payloads->payloads[0]->slot, 1);
  assert_int_equal(answer.message->payloads->payloads[1]->slot, 3);
  assert_int_equal(answer.message->payloads->payloads[1]->handle, 101);
  expect_page(&answer, 2, SLOTS, SLOTS);
  /* Complete: who comes now has lost everything, and gets it. */
  attempt = attempt_of(one);
  attempt_send(&first, &attempt);
  raw_await(&first, &answer);
  assert_int_equal(answer.fds.count, 2);
  expect_page(&answer, SLOTS, SLOTS, SLOTS);
  raw_close(&first);
  raw_close(&second);
  raw_broker_stop(&broker);
}

/* Who does not know whether it was heard says the same again: then it has won what it had won, and nothing more is
 * kept.  Other words, or the same of somebody else, are an offer as any. */
static void test_split_said_again(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw first, second;
  struct raw_answer answer;
  raw_broker_start(&broker, NULL);
  raw_open(&first, &broker, 1);
  raw_open(&second, &broker, 2);
  uint64_t one = join(&first, CHANNEL), two = join(&second, CHANNEL);
  ask(&first, one, &answer);
  expect_page(&answer, 0, 0, 0);
  ask(&second, two, &answer);
  expect_page(&answer, 0, 0, 0);
  struct attempt attempt = attempt_of(one);
  attempt.memory = attempt_memory();
  attempt.count = 2;
  attempt.slots[0] = 1;
  attempt.slots[1] = 3;
  attempt_send(&first, &attempt);
  raw_await(&first, &answer);
  expect_page(&answer, 0, 2, 2);
  int before = raw_broker_descriptors(&broker);
  attempt_send(&first, &attempt);
  raw_await(&first, &answer);
  expect_page(&answer, 0, 2, 2);
  assert_int_equal(raw_broker_settle(&broker, &second, before), before);
  attempt.user = two;
  attempt_send(&second, &attempt);
  raw_await(&second, &answer);
  expect_page(&answer, 2, 2, 2);
  attempt.user = one;
  attempt.offset = SLOT_SIZE;
  attempt_send(&first, &attempt);
  raw_await(&first, &answer);
  expect_page(&answer, 2, 2, 2);
  close(attempt.memory);
  attempt.offset = attempt.memory = 0;
  attempt_send(&first, &attempt);
  raw_await(&first, &answer);
  expect_page(&answer, 2, 2, 2);
  raw_close(&first);
  raw_close(&second);
  raw_broker_stop(&broker);
}

/* ---- refusals ---- */

static void expect_refusal(struct raw *raw, int status) {
  struct raw_answer answer;
  raw_await(raw, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
  assert_int_equal(answer.message->refusal->status, status);
  raw_answer_free(&answer);
}

static void test_split_refusals_leave_nothing(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw, anchor;
  struct raw_answer answer;
  struct limits limits;
  limits_init(&limits);
  limits.descriptors = 2;
  raw_broker_start(&broker, &limits);
  raw_open(&anchor, &broker, 9);
  raw_open(&raw, &broker, 1);
  uint64_t user = join(&raw, CHANNEL);
  struct attempt attempt = attempt_of(user);
  attempt_send(&raw, &attempt); /* nobody has asked for it yet */
  expect_refusal(&raw, SLC_GONE);
  ask(&raw, user, &answer);
  expect_page(&answer, 0, 0, 0);
  int before = raw_broker_descriptors(&broker);
  attempt.offset = SLOT_SIZE; /* the last one lies beyond the end */
  attempt_send(&raw, &attempt);
  expect_refusal(&raw, SLC_INVALID);
  attempt.offset = 32;
  attempt_send(&raw, &attempt);
  expect_refusal(&raw, SLC_INVALID);
  attempt = attempt_of(user);
  attempt.fd_count = 3;
  for (uint32_t i = 0; i < 3; i++) attempt.descriptors[i] = i;
  attempt_send(&raw, &attempt);
  expect_refusal(&raw, SLC_LIMIT);
  assert_int_equal(raw_broker_settle(&broker, &anchor, before), before);
  attempt = attempt_of(user);
  attempt.fd_count = 3; /* of which one is used */
  attempt_send(&raw, &attempt);
  raw_await(&raw, &answer);
  expect_page(&answer, 0, SLOTS, SLOTS);
  assert_int_equal(raw_broker_settle(&broker, &anchor, before + 1), before + 1);
  raw_close(&raw);
  raw_close(&anchor);
  raw_broker_stop(&broker);
}

/* ---- what ends the connection ---- */

static void expect_thrown_out(const struct raw_broker *broker, struct raw *raw, const char *why) {
  struct raw_answer answer;
  char line[1024];
  while (raw_receive(raw, &answer)) raw_answer_free(&answer);
  raw_broker_log(broker, line, sizeof line);
  if (strstr(line, why) == NULL) fail_msg("the log says \"%s\", and not \"%s\"", line, why);
  raw_close(raw);
}

typedef void (*spoil_fn)(struct attempt *attempt);
static void spoil_order(struct attempt *attempt) {
  attempt->slots[1] = 0;
}
static void spoil_slot(struct attempt *attempt) {
  attempt->slots[SLOTS - 1] = SLOTS;
}
static void spoil_index(struct attempt *attempt) {
  attempt->descriptors[2] = 1;
}
static void spoil_kind(struct attempt *attempt) {
  attempt->kind = SLOTCAST__DESCRIPTOR_KIND__BUFFERS;
}
static void spoil_count(struct attempt *attempt) {
  attempt->count = 0;
}
static void spoil_way(struct attempt *attempt) {
  attempt->count = attempt->fd_count = 0;
}

static void test_split_what_ends_the_connection(void **state) {
  (void)state;
  static const struct {
    spoil_fn spoil;
    const char *why;
  } spoilt[] = {{spoil_order, "out of order"}, {spoil_slot, "not there"},    {spoil_index, "not there"},
                {spoil_kind, "not memory"},    {spoil_count, "for 0 slots"}, {spoil_way, "in another way"}};
  struct raw_broker broker;
  raw_broker_start(&broker, NULL);
  for (size_t i = 0; i < sizeof spoilt / sizeof spoilt[0]; i++) {
    struct raw raw;
    struct raw_answer answer;
    char channel[16];
    snprintf(channel, sizeof channel, "split %zu", i);
    raw_open(&raw, &broker, 1);
    uint64_t user = join(&raw, channel);
    ask(&raw, user, &answer);
    expect_page(&answer, 0, 0, 0);
    struct attempt attempt = attempt_of(user);
    spoilt[i].spoil(&attempt);
    attempt_send(&raw, &attempt);
    expect_thrown_out(&broker, &raw, spoilt[i].why);
  }
  raw_broker_stop(&broker);
}

/* Whose registration it is, the connection says: not the number in it. */
static void test_split_for_oneself_only(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw owner, thief;
  struct raw_answer answer;
  raw_broker_start(&broker, NULL);
  raw_open(&owner, &broker, 1);
  uint64_t user = join(&owner, CHANNEL);
  ask(&owner, user, &answer);
  expect_page(&answer, 0, 0, 0);
  struct attempt attempt = attempt_of(user);
  raw_open(&thief, &broker, 2);
  attempt_send(&thief, &attempt); /* another's */
  expect_thrown_out(&broker, &thief, "does not publish to");
  raw_open(&thief, &broker, 3);
  attempt.user = raw_join_subscriber(&thief, CHANNEL);
  attempt_send(&thief, &attempt); /* a subscriber's */
  expect_thrown_out(&broker, &thief, "does not publish to");
  raw_open(&thief, &broker, 4);
  attempt.user = raw_join_publisher(&thief, "whole");
  attempt_send(&thief, &attempt); /* a plain channel's */
  expect_thrown_out(&broker, &thief, "does not publish to");
  attempt = attempt_of(user);
  attempt_send(&owner, &attempt);
  raw_await(&owner, &answer);
  expect_page(&answer, 0, SLOTS, SLOTS);
  raw_close(&owner);
  raw_broker_stop(&broker);
}

/* ---- with names ---- */

/* Channels of this broker that ask for it are in shm. */
static void test_split_with_names(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw first, second;
  struct raw_answer answer;
  struct limits limits;
  limits_init(&limits);
  limits.descriptors = 1; /* one is enough */
  raw_broker_start(&broker, &limits);
  raw_open(&first, &broker, 1);
  raw_open(&second, &broker, 2);
  uint64_t one = join_on(&first, CHANNEL, SLC__BACKEND_SHM), two = join_on(&second, CHANNEL, SLC__BACKEND_SHM);
  ask_for_objects(&first, one, 5, &answer);
  assert_int_equal(answer.fds.count, 1);
  assert_int_equal(answer.message->descriptors[0]->kind, SLOTCAST__DESCRIPTOR_KIND__DIRECTORY);
  assert_int_equal(answer.message->payloads->slots_per_object, 5);
  int directory = slc__fds_take(&answer.fds, 0);
  assert_int_equal(slc__object_directory_check(directory), 0);
  expect_page(&answer, 0, 0, 0);
  ask_for_objects(&second, two, 1, &answer); /* the first one has decided */
  assert_int_equal(answer.message->payloads->slots_per_object, 5);
  expect_page(&answer, 0, 0, 0);
  struct attempt attempt = attempt_of(two);
  attempt.count = attempt.fd_count = 0;
  attempt_send(&second, &attempt);
  expect_refusal(&second, SLC_INVALID);
  for (uint32_t i = 0; i < 4; i++) {
    int fd = -1;
    uint32_t slots = i == 3 ? 1 : 5;
    assert_int_equal(slc__payload_open_named(slc__memory_plain(SLC__BACKEND_SHM), (uint64_t)slots * SLOT_SIZE,
                                             directory, i, SLC__READ_WRITE, true, &fd),
                     0);
    close(fd);
    attempt_send(&second, &attempt);
    if (i < 3) expect_refusal(&second, SLC_INVALID);
  }
  raw_await(&second, &answer);
  assert_int_equal(answer.fds.count, 0);
  expect_page(&answer, 0, SLOTS, 0);
  attempt.user = one; /* says it once more */
  attempt_send(&first, &attempt);
  raw_await(&first, &answer);
  expect_page(&answer, 0, SLOTS, 0);
  attempt = attempt_of(one);
  attempt_send(&first, &attempt);
  expect_thrown_out(&broker, &first, "in another way");
  raw_close(&second);
  raw_broker_stop(&broker);
  struct stat info;
  assert_int_equal(fstat(directory, &info), 0);
  assert_int_equal(info.st_nlink, 0); /* it has gone, with all that was in it */
  close(directory);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_split_the_first_one_wins),     cmocka_unit_test(test_split_said_again),
      cmocka_unit_test(test_split_refusals_leave_nothing), cmocka_unit_test(test_split_what_ends_the_connection),
      cmocka_unit_test(test_split_for_oneself_only),       cmocka_unit_test(test_split_with_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

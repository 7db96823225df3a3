/* Joining and leaving: who is admitted, what a refusal says, what members are sent. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "raw.h"

struct fixture {
  struct raw_broker broker;
  struct raw raw;
};

static void fixture_open(struct fixture *f, const struct limits *limits) {
  raw_broker_start(&f->broker, limits);
  raw_open(&f->raw, &f->broker, 1);
}

static void fixture_close(struct fixture *f) {
  raw_close(&f->raw);
  raw_broker_stop(&f->broker);
}

static void check_refused(struct raw_answer *answer, int status, const char *word) {
  assert_int_equal(answer->message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
  assert_int_equal(answer->message->refusal->status, status);
  if (strstr(answer->message->refusal->text, word) == NULL)
    fail_msg("the refusal \"%s\" does not say \"%s\"", answer->message->refusal->text, word);
  raw_answer_free(answer);
}

/* ---- what comes with an answer ---- */

static void check_access(const struct raw_answer *answer, size_t index, Slotcast__DescriptorKind kind, int mode) {
  assert_true(index < answer->fds.count);
  const Slotcast__Descriptor *entry = answer->message->descriptors[index];
  assert_int_equal(entry->kind, kind);
  assert_int_equal(entry->writable, mode == O_RDWR);
  assert_int_equal(fcntl(answer->fds.fd[index], F_GETFL) & O_ACCMODE, mode);
}

static void test_rights_of_members(void **state) {
  (void)state;
  struct fixture f;
  struct raw_answer answer;
  fixture_open(&f, NULL);
  Slotcast__OpenPublisher publisher = raw_publisher("a");
  raw_publish(&f.raw, &publisher, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
  assert_int_equal(answer.fds.count, 2);
  check_access(&answer, 0, SLOTCAST__DESCRIPTOR_KIND__CONTROL, O_RDWR);
  check_access(&answer, 1, SLOTCAST__DESCRIPTOR_KIND__BUFFERS, O_RDWR);
  assert_true(answer.message->publisher_opened->membership->epoch > 0);
  raw_answer_free(&answer);
  Slotcast__OpenSubscriber subscriber = raw_subscriber("a");
  raw_subscribe(&f.raw, &subscriber, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED);
  assert_true(answer.message->subscriber_opened->attached);
  assert_int_equal(answer.fds.count, 4);
  check_access(&answer, 0, SLOTCAST__DESCRIPTOR_KIND__CONTROL, O_RDONLY);
  check_access(&answer, 1, SLOTCAST__DESCRIPTOR_KIND__BUFFERS, O_RDONLY);
  check_access(&answer, 2, SLOTCAST__DESCRIPTOR_KIND__TABLE, O_RDWR);
  check_access(&answer, 3, SLOTCAST__DESCRIPTOR_KIND__BELL, O_RDONLY);
  raw_answer_free(&answer);
  fixture_close(&f);
}

/* The push lies in the publisher's socket before the subscriber has its answer; a table is sent once. */
static void test_membership_precedes_the_answer(void **state) {
  (void)state;
  struct fixture f;
  struct raw publisher;
  struct raw_answer answer;
  uint64_t epoch = 0;
  fixture_open(&f, NULL);
  raw_open(&publisher, &f.broker, 1);
  uint64_t user = raw_join_publisher(&publisher, "a");
  for (int i = 0; i < 3; i++) {
    raw_join_subscriber(&f.raw, "a");
    slc__fds_init(&answer.fds);
    assert_true(raw_receive(&publisher, &answer));
    assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_MEMBERSHIP);
    const Slotcast__Membership *page = answer.message->membership;
    assert_int_equal(page->user, user);
    assert_true(page->epoch > epoch);
    epoch = page->epoch;
    assert_int_equal(page->n_tables, 1);
    assert_int_equal(page->tables[0]->lines.len, i + 1);
    assert_int_equal(page->tables[0]->fresh, i == 0);
    assert_int_equal(answer.fds.count, i == 0 ? 2 : 0);
    if (i == 0) check_access(&answer, 0, SLOTCAST__DESCRIPTOR_KIND__TABLE, O_RDONLY);
    if (i == 0) check_access(&answer, 1, SLOTCAST__DESCRIPTOR_KIND__BELL, O_RDWR);
    raw_answer_free(&answer);
  }
  raw_close(&publisher);
  fixture_close(&f);
}

static void set_doorbell(struct raw *raw, uint64_t user, int fd) {
  Slotcast__SetDoorbell body = SLOTCAST__SET_DOORBELL__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  body.user = user;
  message.body_case = SLOTCAST__MESSAGE__BODY_SET_DOORBELL;
  message.set_doorbell = &body;
  raw_send(raw, &message, fd);
}

/* The next message is the set of that number, for that user, with so many publishers, of which so many are new. */
static void check_watchers(const struct raw *raw, uint64_t user, uint64_t number, size_t count, size_t fresh) {
  struct raw_answer answer;
  assert_true(raw_receive(raw, &answer));
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_WATCHERS);
  const Slotcast__Watchers *set = answer.message->watchers;
  assert_int_equal(set->user, user);
  assert_int_equal(set->number, number);
  assert_false(set->more);
  assert_int_equal(set->n_watchers, count);
  assert_int_equal(answer.fds.count, fresh);
  for (size_t i = 0; i < fresh; i++) assert_int_equal(send(answer.fds.fd[i], "", 1, MSG_DONTWAIT), 1);
  raw_answer_free(&answer);
}

static void check_done(const struct raw *raw) {
  struct raw_answer answer;
  assert_true(raw_receive(raw, &answer));
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_DONE);
  raw_answer_free(&answer);
}

static int rung(int fd) {
  uint8_t byte;
  int count = 0;
  while (recv(fd, &byte, 1, MSG_DONTWAIT) == 1) count++;
  return count;
}

/* A publisher's doorbell is with everybody before the publisher has its answer; a newcomer has it after its own, and
 * then it is rung; who has it, is sent it no more; and it goes with its publisher. */
static void test_doorbells_of_publishers_go_to_all(void **state) {
  (void)state;
  struct fixture f;
  struct raw publisher, newcomer;
  int pair[2], second[2];
  fixture_open(&f, NULL);
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, second), 0);
  raw_open(&publisher, &f.broker, 1);
  raw_open(&newcomer, &f.broker, 2);
  uint64_t user = raw_join_publisher(&publisher, "a"), other = raw_join_publisher(&f.raw, "a");
  set_doorbell(&publisher, user, pair[1]);
  check_watchers(&publisher, user, 1, 1, 1);
  check_done(&publisher);
  check_watchers(&f.raw, other, 1, 1, 1);
  assert_int_equal(rung(pair[0]), 2); /* by us, as the two of them */
  uint64_t subscriber = raw_join_subscriber(&newcomer, "a");
  check_watchers(&newcomer, subscriber, 1, 1, 1);
  for (int i = 0; i < 2; i++) assert_int_equal(recv(pair[0], &(uint8_t){0}, 1, 0), 1); /* by us, then by the broker */
  struct raw_answer membership;
  assert_true(raw_receive(&publisher, &membership));
  raw_answer_free(&membership);
  assert_true(raw_receive(&f.raw, &membership));
  raw_answer_free(&membership);
  set_doorbell(&f.raw, other, second[1]);
  check_watchers(&f.raw, other, 2, 2, 1);
  check_done(&f.raw);
  check_watchers(&publisher, user, 2, 2, 1);
  check_watchers(&newcomer, subscriber, 2, 2, 1);
  assert_int_equal(rung(second[0]), 3);
  struct raw_answer answer;
  raw_close_user(&publisher, user, &answer);
  raw_answer_free(&answer);
  check_watchers(&newcomer, subscriber, 3, 1, 0);
  check_watchers(&f.raw, other, 3, 1, 0);
  rung(pair[0]);
  close(pair[1]);
  assert_int_equal(recv(pair[0], &(uint8_t){0}, 1, 0), 0); /* the broker has none of it any more */
  close(pair[0]);
  close(second[0]);
  close(second[1]);
  raw_close(&publisher);
  raw_close(&newcomer);
  fixture_close(&f);
}

static void check_attached_push(const struct raw *raw, uint64_t user) {
  struct raw_answer answer;
  assert_true(raw_receive(raw, &answer));
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_SUBSCRIBER_ATTACHED);
  assert_int_equal(answer.message->subscriber_attached->user, user);
  assert_int_equal(answer.fds.count, 4);
  raw_answer_free(&answer);
}

static void test_subscriber_first_is_attached_later(void **state) {
  (void)state;
  struct fixture f;
  struct raw publisher;
  fixture_open(&f, NULL);
  raw_open(&publisher, &f.broker, 1);
  uint64_t user = raw_join_subscriber(&f.raw, "a");
  raw_join_publisher(&publisher, "a");
  check_attached_push(&f.raw, user);
  raw_close(&publisher);
  fixture_close(&f);
}

/* The publisher that gave the channel its shape was refused after all: the waiting subscriber still gets its place when
 * another one comes. */
static void test_subscriber_first_survives_a_refused_publisher(void **state) {
  (void)state;
  struct fixture f;
  struct raw publisher;
  struct raw_answer answer;
  struct limits limits;
  limits_init(&limits);
  limits.users = 2;
  fixture_open(&f, &limits);
  raw_open(&publisher, &f.broker, 1);
  uint64_t user = raw_join_subscriber(&f.raw, "a");
  uint64_t other = raw_join_subscriber(&publisher, "elsewhere");
  Slotcast__OpenPublisher request = raw_publisher("a");
  raw_publish(&publisher, &request, &answer);
  check_refused(&answer, SLC_LIMIT, "--max-users");
  raw_close_user(&publisher, other, &answer);
  raw_answer_free(&answer);
  raw_join_publisher(&publisher, "a");
  Slotcast__ListChannels list = SLOTCAST__LIST_CHANNELS__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_LIST_CHANNELS;
  message.list_channels = &list;
  raw_send(&f.raw, &message, -1); /* so that there is something to read in any case */
  check_attached_push(&f.raw, user);
  raw_await(&f.raw, &answer);
  raw_answer_free(&answer);
  raw_close(&publisher);
  fixture_close(&f);
}

/* ---- refusals ---- */

static void test_later_publishers_may_ask_for_less(void **state) {
  (void)state;
  struct fixture f;
  struct raw_answer answer;
  fixture_open(&f, NULL);
  Slotcast__OpenPublisher request = raw_publisher("a");
  request.slots = 32;
  request.slot_size = 256;
  raw_publish(&f.raw, &request, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
  raw_answer_free(&answer);
  request.slots = 16;
  request.slot_size = 128;
  raw_publish(&f.raw, &request, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
  assert_int_equal(answer.message->publisher_opened->geometry->slots, 32);
  assert_int_equal(answer.message->publisher_opened->publisher_id, 2);
  raw_answer_free(&answer);
  request.slots = 33;
  raw_publish(&f.raw, &request, &answer);
  check_refused(&answer, SLC_INCOMPATIBLE, "33");
  request.slots = 0;
  request.slot_size = 257; /* only a wish: the channel can grow */
  raw_publish(&f.raw, &request, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
  assert_int_equal(answer.message->publisher_opened->geometry->slot_size, 256);
  raw_answer_free(&answer);
  request.slot_size = 0;
  request.reliable = 1;
  raw_publish(&f.raw, &request, &answer);
  check_refused(&answer, SLC_INCOMPATIBLE, "reliable");
  fixture_close(&f);
}

static void test_shapes_are_checked(void **state) {
  (void)state;
  struct fixture f;
  struct raw_answer answer;
  fixture_open(&f, NULL);
  Slotcast__OpenPublisher request = raw_publisher("a");
  request.slots = 3;
  raw_publish(&f.raw, &request, &answer);
  check_refused(&answer, SLC_INVALID, "slots");
  request.slots = UINT32_MAX;
  raw_publish(&f.raw, &request, &answer);
  check_refused(&answer, SLC_INVALID, "slots");
  request.slots = 0;
  request.slot_size = UINT64_MAX;
  raw_publish(&f.raw, &request, &answer);
  check_refused(&answer, SLC_INVALID, "slots");
  request = raw_publisher("a");
  request.max_loans = UINT32_MAX;
  raw_publish(&f.raw, &request, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
  raw_answer_free(&answer);
  Slotcast__OpenSubscriber subscriber = raw_subscriber("a");
  subscriber.max_holds = 4097;
  raw_subscribe(&f.raw, &subscriber, &answer);
  check_refused(&answer, SLC_INVALID, "4096");
  request = raw_publisher("a//b");
  raw_publish(&f.raw, &request, &answer);
  check_refused(&answer, SLC_NAME_INVALID, "a//b");
  fixture_close(&f);
}

static void test_types_have_to_agree(void **state) {
  (void)state;
  struct fixture f;
  struct raw_answer answer;
  fixture_open(&f, NULL);
  raw_join_publisher(&f.raw, "a"); /* without one */
  Slotcast__OpenSubscriber request = raw_subscriber("a");
  request.type = (char *)(uintptr_t) "apples";
  raw_subscribe(&f.raw, &request, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED);
  raw_answer_free(&answer);
  request.type = (char *)(uintptr_t) "pears";
  raw_subscribe(&f.raw, &request, &answer);
  check_refused(&answer, SLC_INCOMPATIBLE, "apples");
  fixture_close(&f);
}

static void test_reliability_has_to_agree(void **state) {
  (void)state;
  struct fixture f;
  struct raw_answer answer;
  fixture_open(&f, NULL);
  raw_join_publisher(&f.raw, "a");
  Slotcast__OpenSubscriber subscriber = raw_subscriber("a");
  subscriber.reliable = 1;
  raw_subscribe(&f.raw, &subscriber, &answer);
  check_refused(&answer, SLC_INCOMPATIBLE, "reliable");
  subscriber = raw_subscriber("b");
  subscriber.reliable = 1;
  raw_subscribe(&f.raw, &subscriber, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED);
  raw_answer_free(&answer);
  Slotcast__OpenPublisher publisher = raw_publisher("b");
  raw_publish(&f.raw, &publisher, &answer);
  check_refused(&answer, SLC_INCOMPATIBLE, "pid");
  fixture_close(&f);
}

/* Sixteen slots, a publisher with 1 + batch, and subscribers until they are used up. */
static void test_budget_is_kept(void **state) {
  (void)state;
  struct fixture f;
  struct raw_answer answer;
  fixture_open(&f, NULL);
  Slotcast__OpenPublisher publisher = raw_publisher("a");
  publisher.slots = 16;
  raw_publish(&f.raw, &publisher, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
  uint32_t left = 15 - 1 - answer.message->publisher_opened->batch;
  raw_answer_free(&answer);
  Slotcast__OpenSubscriber subscriber = raw_subscriber("a");
  subscriber.max_holds = left;
  raw_subscribe(&f.raw, &subscriber, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED);
  uint64_t user = answer.message->subscriber_opened->user;
  raw_answer_free(&answer);
  subscriber.max_holds = 1;
  raw_subscribe(&f.raw, &subscriber, &answer);
  check_refused(&answer, SLC_NO_BUDGET, "raw"); /* who has them: the client's name */
  raw_close_user(&f.raw, user, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_DONE);
  raw_answer_free(&answer);
  raw_subscribe(&f.raw, &subscriber, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED);
  raw_answer_free(&answer);
  fixture_close(&f);
}

/* Names are shown to others: one that is cut must not be cut within a character, or the refused client could not decode
 * why, and would lose its connection for what another calls itself. */
static void test_refusals_stay_decodable_with_long_names(void **state) {
  (void)state;
  struct fixture f;
  struct raw stranger;
  struct raw_answer answer;
  char name[128] = "x"; /* so that characters of two bytes begin at odd offsets */
  uint8_t instance[16] = {7};
  for (size_t at = 1; at + 2 < sizeof name; at += 2) {
    name[at] = '\xc3';
    name[at + 1] = '\xa9';
  }
  fixture_open(&f, NULL);
  raw_connect(&stranger, &f.broker);
  Slotcast__Hello hello = SLOTCAST__HELLO__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  hello.major = SLC__PROTOCOL_MAJOR;
  hello.client_name = name;
  hello.instance.data = instance;
  hello.instance.len = sizeof instance;
  message.body_case = SLOTCAST__MESSAGE__BODY_HELLO;
  message.hello = &hello;
  raw_send(&stranger, &message, -1);
  raw_await(&stranger, &answer);
  raw_answer_free(&answer);
  Slotcast__OpenPublisher publisher = raw_publisher("a");
  publisher.slots = 16;
  raw_publish(&stranger, &publisher, &answer);
  raw_answer_free(&answer);

  static uint8_t bytes[SLC__NET_DATAGRAM_MAX];
  size_t size;
  Slotcast__OpenSubscriber subscriber = raw_subscriber("a");
  subscriber.max_holds = 100;
  Slotcast__Message request = SLOTCAST__MESSAGE__INIT;
  request.body_case = SLOTCAST__MESSAGE__BODY_OPEN_SUBSCRIBER;
  request.open_subscriber = &subscriber;
  raw_send(&f.raw, &request, -1);
  assert_int_equal(slc__net_receive(f.raw.fd, bytes, sizeof bytes, &size, &answer.fds, 0), 0);
  int status = slc__codec_decode(bytes, size, answer.fds.count, &answer.message);
  raw_close(&stranger);
  if (status != 0) fail_msg("the refusal cannot be decoded: %s", slc__error_detail());
  check_refused(&answer, SLC_NO_BUDGET, "slots");
  fixture_close(&f);
}

static void test_default_slots_make_room_for_the_waiting(void **state) {
  (void)state;
  struct fixture f;
  struct raw_answer answer;
  fixture_open(&f, NULL);
  Slotcast__OpenSubscriber subscriber = raw_subscriber("a");
  subscriber.max_holds = 300;
  raw_subscribe(&f.raw, &subscriber, &answer);
  raw_answer_free(&answer);
  Slotcast__OpenPublisher publisher = raw_publisher("a");
  publisher.slots = 64;
  raw_publish(&f.raw, &publisher, &answer);
  check_refused(&answer, SLC_NO_BUDGET, "slots");
  publisher.slots = 0;
  raw_publish(&f.raw, &publisher, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
  assert_int_equal(answer.message->publisher_opened->geometry->slots, 512);
  raw_answer_free(&answer);
  fixture_close(&f);
}

/* ---- leaving ---- */

static void test_users_of_others_are_out_of_reach(void **state) {
  (void)state;
  struct fixture f;
  struct raw other;
  struct raw_answer answer;
  fixture_open(&f, NULL);
  uint64_t user = raw_join_publisher(&f.raw, "a");
  raw_open(&other, &f.broker, 1);
  Slotcast__CloseUser body = SLOTCAST__CLOSE_USER__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  body.user = user;
  message.body_case = SLOTCAST__MESSAGE__BODY_CLOSE_USER;
  message.close_user = &body;
  raw_send(&other, &message, -1);
  while (raw_receive(&other, &answer)) { /* refused or hung up, either will do; done will not */
    assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
    raw_answer_free(&answer);
  }
  raw_close(&other);
  raw_inspect(&f.raw, "a", &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_CHANNEL_REPORT);
  assert_int_equal(answer.message->channel_report->summary->publishers, 1);
  raw_answer_free(&answer);
  fixture_close(&f);
}

static void test_channel_goes_with_its_last_user(void **state) {
  (void)state;
  struct fixture f;
  struct raw_answer answer;
  fixture_open(&f, NULL);
  int before = raw_broker_descriptors(&f.broker);
  uint64_t publisher = raw_join_publisher(&f.raw, "a");
  uint64_t subscriber = raw_join_subscriber(&f.raw, "a");
  assert_true(raw_broker_descriptors(&f.broker) > before);
  raw_close_user(&f.raw, publisher, &answer);
  raw_answer_free(&answer);
  raw_inspect(&f.raw, "a", &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_CHANNEL_REPORT);
  raw_answer_free(&answer);
  raw_close_user(&f.raw, subscriber, &answer);
  raw_answer_free(&answer);
  raw_inspect(&f.raw, "a", &answer);
  check_refused(&answer, SLC_NOT_FOUND, "a");
  assert_int_equal(raw_broker_descriptors(&f.broker), before);
  fixture_close(&f);
}

static void test_report_names_users_in_order(void **state) {
  (void)state;
  enum { USERS = 30 };
  struct fixture f;
  struct raw_answer answer;
  uint64_t users[USERS];
  fixture_open(&f, NULL);
  Slotcast__OpenPublisher request = raw_publisher("a");
  request.slots = 128;
  raw_publish(&f.raw, &request, &answer);
  users[0] = answer.message->publisher_opened->user;
  raw_answer_free(&answer);
  for (int i = 1; i < USERS; i++) users[i] = raw_join_subscriber(&f.raw, "a");
  raw_inspect(&f.raw, "a", &answer);
  const Slotcast__ChannelReport *report = answer.message->channel_report;
  assert_int_equal(report->n_users, USERS);
  for (int i = 0; i < USERS; i++) {
    assert_int_equal(report->users[i]->user, users[i]);
    assert_int_equal(report->users[i]->pid, getpid());
    assert_int_equal(report->users[i]->publisher, i == 0);
    assert_string_equal(report->users[i]->client_name, "raw");
  }
  assert_int_equal(report->slots_free + report->slots_owned + report->slots_published, 128);
  raw_answer_free(&answer);
  fixture_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rights_of_members),
      cmocka_unit_test(test_membership_precedes_the_answer),
      cmocka_unit_test(test_doorbells_of_publishers_go_to_all),
      cmocka_unit_test(test_subscriber_first_is_attached_later),
      cmocka_unit_test(test_subscriber_first_survives_a_refused_publisher),
      cmocka_unit_test(test_later_publishers_may_ask_for_less),
      cmocka_unit_test(test_shapes_are_checked),
      cmocka_unit_test(test_types_have_to_agree),
      cmocka_unit_test(test_reliability_has_to_agree),
      cmocka_unit_test(test_budget_is_kept),
      cmocka_unit_test(test_refusals_stay_decodable_with_long_names),
      cmocka_unit_test(test_default_slots_make_room_for_the_waiting),
      cmocka_unit_test(test_users_of_others_are_out_of_reach),
      cmocka_unit_test(test_channel_goes_with_its_last_user),
      cmocka_unit_test(test_report_names_users_in_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

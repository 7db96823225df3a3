/* Those who come back on another connection: whose publisher or subscriber it is, and what they are told. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "raw.h"

enum { INSTANCE = 7, OTHER_INSTANCE = 8 };

static uint8_t token_a[16] = "the first token", token_b[16] = "another token..";

static ProtobufCBinaryData token_of(uint8_t token[16]) {
  return (ProtobufCBinaryData){.data = token, .len = 16};
}

static uint64_t publish(struct raw *raw, uint8_t token[16], struct raw_answer *ret_answer) {
  Slotcast__OpenPublisher request = raw_publisher("a");
  request.token = token_of(token);
  raw_publish(raw, &request, ret_answer);
  assert_int_equal(ret_answer->message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
  return ret_answer->message->publisher_opened->user;
}

static uint64_t subscribe(struct raw *raw, const char *channel, uint8_t token[16], struct raw_answer *ret_answer) {
  Slotcast__OpenSubscriber request = raw_subscriber(channel);
  request.token = token_of(token);
  raw_subscribe(raw, &request, ret_answer);
  assert_int_equal(ret_answer->message->body_case, SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED);
  return ret_answer->message->subscriber_opened->user;
}

static void reclaim(struct raw *raw, uint8_t token[16], bool attached, struct raw_answer *ret_answer) {
  Slotcast__Reclaim body = SLOTCAST__RECLAIM__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  body.token = token_of(token);
  body.attached = attached;
  message.body_case = SLOTCAST__MESSAGE__BODY_RECLAIM;
  message.reclaim = &body;
  raw_send(raw, &message, -1);
  raw_await(raw, ret_answer);
}

static void assert_reclaim_refused(struct raw *raw, uint8_t token[16], int status) {
  struct raw_answer answer;
  reclaim(raw, token, true, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
  assert_int_equal(answer.message->refusal->status, status);
  raw_answer_free(&answer);
}

static void expect_push(struct raw *raw, Slotcast__Message__BodyCase body, struct raw_answer *ret_answer) {
  assert_true(raw_receive(raw, ret_answer));
  assert_int_equal(ret_answer->message->serial, 0);
  assert_int_equal(ret_answer->message->body_case, body);
}

static uint32_t users_of(struct raw *raw, uint32_t *ret_connected) {
  struct raw_answer answer;
  raw_inspect(raw, "a", &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_CHANNEL_REPORT);
  uint32_t count = (uint32_t)answer.message->channel_report->n_users;
  *ret_connected = 0;
  for (uint32_t i = 0; i < count; i++)
    if (answer.message->channel_report->users[i]->connected) ++*ret_connected;
  raw_answer_free(&answer);
  return count;
}

static void set_doorbell(struct raw *raw, uint64_t user, int fd) {
  struct raw_answer answer;
  Slotcast__SetDoorbell body = SLOTCAST__SET_DOORBELL__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  body.user = user;
  message.body_case = SLOTCAST__MESSAGE__BODY_SET_DOORBELL;
  message.set_doorbell = &body;
  raw_send(raw, &message, fd);
  raw_await(raw, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_DONE);
  raw_answer_free(&answer);
}

/* A publisher, and a reliable subscriber with a doorbell, whom it then knows by three kinds of descriptors. */
static void test_publisher_comes_back_and_is_told_everything(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw first, second, watcher;
  struct raw_answer answer;
  uint32_t connected;
  int bell[2];
  raw_broker_start(&broker, NULL);
  raw_open(&watcher, &broker, OTHER_INSTANCE);
  raw_open(&first, &broker, INSTANCE);
  Slotcast__OpenPublisher request = raw_publisher("a");
  request.token = token_of(token_a);
  request.reliable = 1;
  raw_publish(&first, &request, &answer);
  uint64_t user = answer.message->publisher_opened->user;
  raw_answer_free(&answer);
  Slotcast__OpenSubscriber subscriber = raw_subscriber("a");
  subscriber.reliable = 1;
  raw_subscribe(&watcher, &subscriber, &answer);
  uint64_t subscribed = answer.message->subscriber_opened->user;
  raw_answer_free(&answer);
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, bell), 0);
  set_doorbell(&watcher, subscribed, bell[0]);
  raw_close(&first);

  raw_open(&second, &broker, INSTANCE);
  reclaim(&second, token_a, true, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_RECLAIMED);
  assert_int_equal(answer.message->reclaimed->user, user);
  assert_true(answer.message->reclaimed->publisher);
  raw_answer_free(&answer);
  expect_push(&second, SLOTCAST__MESSAGE__BODY_MEMBERSHIP, &answer);
  assert_int_equal(answer.message->membership->user, user);
  assert_int_equal(answer.message->membership->n_tables, 1);
  assert_true(answer.message->membership->tables[0]->fresh);
  assert_int_equal(answer.message->membership->n_doorbells, 1);
  assert_true(answer.message->membership->doorbells[0]->fresh);
  assert_int_equal(answer.message->membership->n_processes, 1);
  assert_true(answer.message->membership->processes[0]->fresh);
  assert_int_equal(answer.fds.count, 4); /* table, bell, doorbell, pidfd */
  raw_answer_free(&answer);
  assert_int_equal(users_of(&watcher, &connected), 2);
  assert_int_equal(connected, 2);
  raw_close_user(&second, user, &answer); /* it is this connection's to close */
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_DONE);
  raw_answer_free(&answer);
  assert_reclaim_refused(&second, token_a, SLC_NOT_FOUND);
  close(bell[0]);
  close(bell[1]);
  raw_close(&second);
  raw_close(&watcher);
  raw_broker_stop(&broker);
}

/* It was given its place while it was away, or with the connection that ended: only it knows whether it knows. */
static void test_subscriber_is_told_its_place_if_it_does_not_know_it(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw, publisher;
  struct raw_answer answer;
  raw_broker_start(&broker, NULL);
  raw_open(&raw, &broker, INSTANCE);
  uint64_t user = subscribe(&raw, "a", token_a, &answer);
  assert_false(answer.message->subscriber_opened->attached);
  raw_answer_free(&answer);
  raw_close(&raw);
  raw_open(&publisher, &broker, INSTANCE);
  raw_join_publisher(&publisher, "a");
  for (int i = 0; i < 2; i++) {
    raw_open(&raw, &broker, INSTANCE);
    reclaim(&raw, token_a, false, &answer);
    assert_int_equal(answer.message->reclaimed->user, user);
    assert_false(answer.message->reclaimed->publisher);
    assert_true(answer.message->reclaimed->attached);
    raw_answer_free(&answer);
    expect_push(&raw, SLOTCAST__MESSAGE__BODY_SUBSCRIBER_ATTACHED, &answer);
    assert_int_equal(answer.message->subscriber_attached->user, user);
    assert_int_equal(answer.fds.count, 4);
    raw_answer_free(&answer);
    raw_close(&raw);
  }
  raw_open(&raw, &broker, INSTANCE);
  reclaim(&raw, token_a, true, &answer);
  raw_answer_free(&answer);
  raw_inspect(&raw, "a", &answer); /* nothing is between the two answers */
  raw_answer_free(&answer);
  raw_close(&raw);
  raw_close(&publisher);
  raw_broker_stop(&broker);
}

/* The answer was lost with its connection: the same request again is the same user. */
static void test_repeated_open_is_the_same_user(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw, watcher;
  struct raw_answer first, second;
  uint32_t connected;
  raw_broker_start(&broker, NULL);
  raw_open(&watcher, &broker, INSTANCE);
  raw_open(&raw, &broker, INSTANCE);
  uint64_t publisher = publish(&raw, token_a, &first);
  raw_answer_free(&first);
  uint64_t subscriber = subscribe(&raw, "a", token_b, &first);
  assert_int_equal(publish(&raw, token_a, &second), publisher); /* on the same connection, too */
  raw_answer_free(&second);
  raw_close(&raw);
  raw_open(&raw, &broker, INSTANCE);
  assert_int_equal(publish(&raw, token_a, &second), publisher);
  assert_true(second.message->publisher_opened->first);
  assert_int_equal(second.message->publisher_opened->membership->n_tables, 1);
  assert_true(second.message->publisher_opened->membership->tables[0]->fresh);
  raw_answer_free(&second);
  assert_int_equal(subscribe(&raw, "a", token_b, &second), subscriber);
  assert_int_equal(second.message->subscriber_opened->line, first.message->subscriber_opened->line);
  raw_answer_free(&second);
  raw_answer_free(&first);
  assert_int_equal(users_of(&watcher, &connected), 2);
  assert_int_equal(connected, 2);

  Slotcast__OpenSubscriber request = raw_subscriber("b"); /* somebody else's */
  request.token = token_of(token_b);
  raw_subscribe(&raw, &request, &second);
  assert_int_equal(second.message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
  assert_int_equal(second.message->refusal->status, SLC_INVALID);
  raw_answer_free(&second);
  raw_close(&raw);
  raw_close(&watcher);
  raw_broker_stop(&broker);
}

static void test_nobody_takes_what_another_connection_has(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw, other;
  struct raw_answer answer;
  raw_broker_start(&broker, NULL);
  raw_open(&raw, &broker, INSTANCE);
  publish(&raw, token_a, &answer);
  raw_answer_free(&answer);
  raw_open(&other, &broker, INSTANCE);
  assert_reclaim_refused(&other, token_a, SLC_BUSY);
  assert_reclaim_refused(&other, token_b, SLC_NOT_FOUND);
  Slotcast__OpenPublisher request = raw_publisher("a");
  request.token = token_of(token_a);
  raw_publish(&other, &request, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
  assert_int_equal(answer.message->refusal->status, SLC_BUSY);
  raw_answer_free(&answer);
  raw_close(&other);
  raw_close(&raw);
  raw_broker_stop(&broker);
}

/* Another process with the token, and the same one as another program, have nothing by it. */
static void test_token_is_nothing_without_its_process(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw, watcher;
  struct raw_answer answer;
  uint32_t connected;
  int wstatus;
  raw_broker_start(&broker, NULL);
  raw_open(&watcher, &broker, INSTANCE);
  raw_join_subscriber(&watcher, "a");
  raw_open(&raw, &broker, INSTANCE);
  publish(&raw, token_a, &answer);
  raw_answer_free(&answer);
  raw_close(&raw);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    raw_open(&raw, &broker, INSTANCE);
    reclaim(&raw, token_a, true, &answer);
    _exit(answer.message->body_case == SLOTCAST__MESSAGE__BODY_REFUSAL &&
                  answer.message->refusal->status == SLC_NOT_FOUND
              ? 0
              : 1);
  }
  assert_int_equal(waitpid(child, &wstatus, 0), child);
  assert_int_equal(wstatus, 0);
  assert_int_equal(users_of(&watcher, &connected), 2);
  raw_open(&raw, &broker, OTHER_INSTANCE);
  assert_reclaim_refused(&raw, token_a, SLC_NOT_FOUND);
  assert_int_equal(users_of(&watcher, &connected), 1); /* the program that had it is no more */
  raw_close(&raw);
  raw_close(&watcher);
  raw_broker_stop(&broker);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_publisher_comes_back_and_is_told_everything),
      cmocka_unit_test(test_subscriber_is_told_its_place_if_it_does_not_know_it),
      cmocka_unit_test(test_repeated_open_is_the_same_user),
      cmocka_unit_test(test_nobody_takes_what_another_connection_has),
      cmocka_unit_test(test_token_is_nothing_without_its_process),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

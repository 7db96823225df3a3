/* What clients can rely on across a broker's end, seen by one that speaks the protocol itself: nobody is told what is
 * not on record; who comes back has what it had; what is settled, promised and counted goes on. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "slotcast/slotcast.h"
#include "support/broker.h"
#include "support/check.h"
#include "unit/broker/raw.h"

enum { INSTANCE = 5 };

static struct test_broker *start(int shadows, const char *const *options) {
  struct test_broker *broker = malloc(sizeof *broker);
  assert_non_null(broker);
  test_broker_start_shadowed(broker, shadows, options);
  return broker;
}

static void finish(struct test_broker *broker) {
  assert_int_equal(test_broker_finish(broker), 0);
  free(broker);
}

static void kill_and_resume(struct test_broker *broker) {
  test_broker_kill(broker);
  test_broker_resume(broker);
}

/* ---- a client of its own ---- */

static struct raw_broker raw_broker_of(const struct test_broker *broker) {
  struct raw_broker raw = {.pid = broker->pid};
  snprintf(raw.socket, sizeof raw.socket, "%s", broker->socket);
  return raw;
}

static void open_client(struct raw *raw, const struct test_broker *broker) {
  struct raw_broker at = raw_broker_of(broker);
  raw_open(raw, &at, INSTANCE);
}

static int descriptors_of(const struct test_broker *broker) {
  struct raw_broker at = raw_broker_of(broker);
  return raw_broker_descriptors(&at);
}

static void ask_to_publish(struct raw *raw, const char *channel) {
  Slotcast__OpenPublisher body = raw_publisher(channel);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_PUBLISHER;
  message.open_publisher = &body;
  raw_send(raw, &message, -1);
}

/* The channel's memory is there: the request has been handled. */
static void await_handled(const struct test_broker *broker, int before) {
  while (descriptors_of(broker) < before + 2) {
  }
}

static bool is_there(const struct test_broker *broker, const char *channel) {
  struct raw raw;
  struct raw_answer answer;
  open_client(&raw, broker);
  raw_inspect(&raw, channel, &answer);
  bool is = answer.message->body_case == SLOTCAST__MESSAGE__BODY_CHANNEL_REPORT;
  raw_answer_free(&answer);
  raw_close(&raw);
  return is;
}

/* ---- nobody is told what is not on record ---- */

static void stop(pid_t pid) {
  int status;
  assert_int_equal(kill(pid, SIGSTOP), 0);
  assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
  assert_true(WIFSTOPPED(status));
}

static void test_what_is_not_on_record_was_never_told(void **state) {
  (void)state;
  struct test_broker *broker = start(1, NULL);
  struct raw raw;
  struct raw_answer answer;
  open_client(&raw, broker);
  assert_false(is_there(broker, "a")); /* its hello is behind it */
  int before = descriptors_of(broker);
  stop(broker->shadows[0].pid);
  ask_to_publish(&raw, "a");
  await_handled(broker, before);
  test_broker_kill(broker);
  kill(broker->shadows[0].pid, SIGCONT);
  assert_false(raw_receive(&raw, &answer)); /* the end, and nothing before it */
  raw_close(&raw);
  test_broker_resume(broker);
  finish(broker);
}

/* The answer waits for the slower of two. */
static void test_every_shadow_has_it_first(void **state) {
  (void)state;
  struct test_broker *broker = start(2, NULL);
  for (int stopped = 0; stopped < 2; stopped++) {
    struct raw raw;
    struct raw_answer answer;
    char byte;
    const char *channel = stopped == 0 ? "a" : "b";
    open_client(&raw, broker);
    int before = descriptors_of(broker);
    stop(broker->shadows[stopped].pid);
    ask_to_publish(&raw, channel);
    await_handled(broker, before);
    assert_int_equal(recv(raw.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
    kill(broker->shadows[stopped].pid, SIGCONT);
    raw_await(&raw, &answer);
    assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
    raw_answer_free(&answer);
    kill_and_resume(broker);
    assert_true(is_there(broker, channel));
    raw_close(&raw);
  }
  finish(broker);
}

/* ---- who comes back ---- */

static uint8_t token[16] = "come back again";

static Slotcast__OpenPublisher returning_publisher(void) {
  Slotcast__OpenPublisher request = raw_publisher("a");
  request.reliable = 1;
  request.token.data = token;
  request.token.len = sizeof token;
  return request;
}

static void reclaim(struct raw *raw, struct raw_answer *ret_answer) {
  Slotcast__Reclaim body = SLOTCAST__RECLAIM__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  body.token.data = token;
  body.token.len = sizeof token;
  message.body_case = SLOTCAST__MESSAGE__BODY_RECLAIM;
  message.reclaim = &body;
  raw_send(raw, &message, -1);
  raw_await(raw, ret_answer);
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
  raw_answer_free(&answer);
}

static uint64_t publish(struct raw *raw, uint32_t *ret_publisher, uint64_t *ret_epoch) {
  struct raw_answer answer;
  Slotcast__OpenPublisher request = returning_publisher();
  raw_publish(raw, &request, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED);
  uint64_t user = answer.message->publisher_opened->user;
  *ret_publisher = answer.message->publisher_opened->publisher_id;
  *ret_epoch = answer.message->publisher_opened->membership->epoch;
  raw_answer_free(&answer);
  return user;
}

static void subscribe_with_doorbell(struct raw *raw, int fd) {
  struct raw_answer answer;
  Slotcast__OpenSubscriber request = raw_subscriber("a");
  request.reliable = 1;
  raw_subscribe(raw, &request, &answer);
  uint64_t user = answer.message->subscriber_opened->user;
  raw_answer_free(&answer);
  set_doorbell(raw, user, fd);
}

/* With all that it had been told: table, bell, the doorbell, which rings as before, and the process. */
static void test_a_publisher_comes_back(void **state) {
  (void)state;
  struct test_broker *broker = start(1, NULL);
  struct raw raw, other;
  struct raw_answer answer;
  uint32_t publisher, again;
  uint64_t epoch, later;
  int bell[2];
  char byte;
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, bell), 0);
  open_client(&raw, broker);
  open_client(&other, broker);
  uint64_t user = publish(&raw, &publisher, &epoch);
  subscribe_with_doorbell(&other, bell[0]);
  raw_close(&raw);
  raw_close(&other);
  kill_and_resume(broker);
  while (recv(bell[1], &byte, 1, 0) != 1) { /* the new broker rings everybody */
  }
  open_client(&raw, broker);
  reclaim(&raw, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_RECLAIMED);
  assert_int_equal(answer.message->reclaimed->user, user);
  raw_answer_free(&answer);
  assert_true(raw_receive(&raw, &answer));
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_MEMBERSHIP);
  assert_true(answer.message->membership->epoch > epoch);
  assert_int_equal(answer.message->membership->n_tables, 1);
  assert_int_equal(answer.message->membership->n_doorbells, 1);
  assert_int_equal(answer.message->membership->n_processes, 1);
  assert_int_equal(answer.fds.count, 4);
  while (recv(bell[1], &byte, 1, MSG_DONTWAIT) == 1) {
  }
  assert_int_equal(send(answer.fds.fd[2], "", 1, MSG_NOSIGNAL), 1);
  assert_int_equal(recv(bell[1], &byte, 1, MSG_DONTWAIT), 1);
  raw_answer_free(&answer);
  assert_int_equal(publish(&raw, &again, &later), user); /* a request that is said again means the same one */
  assert_int_equal(again, publisher);
  raw_close(&raw);
  close(bell[0]);
  close(bell[1]);
  finish(broker);
}

/* ---- what goes on ---- */

static void test_limits_count_what_was_recovered(void **state) {
  (void)state;
  static const char *const options[] = {"--max-users", "2", NULL};
  struct test_broker *broker = start(1, options);
  struct raw raw;
  struct raw_answer answer;
  open_client(&raw, broker);
  raw_join_subscriber(&raw, "a");
  raw_join_subscriber(&raw, "a");
  raw_close(&raw);
  kill_and_resume(broker);
  open_client(&raw, broker);
  Slotcast__OpenSubscriber request = raw_subscriber("a");
  raw_subscribe(&raw, &request, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
  assert_int_equal(answer.message->refusal->status, SLC_LIMIT);
  raw_answer_free(&answer);
  raw_close(&raw);
  finish(broker);
}

static void test_lingering_goes_on_and_ends(void **state) {
  (void)state;
  struct test_broker *broker = start(1, NULL);
  struct raw raw;
  struct raw_answer answer;
  open_client(&raw, broker);
  Slotcast__OpenPublisher request = raw_publisher("a");
  request.linger_ns = UINT64_C(500) * 1000 * 1000;
  raw_publish(&raw, &request, &answer);
  uint64_t user = answer.message->publisher_opened->user;
  raw_answer_free(&answer);
  raw_close_user(&raw, user, &answer);
  raw_answer_free(&answer);
  kill_and_resume(broker);
  while (is_there(broker, "a")) {
  }
  raw_close(&raw);
  finish(broker);
}

/* The same channel, with what was told before. */
static void test_events_go_on(void **state) {
  (void)state;
  struct test_broker *broker = start(1, NULL);
  slc_client *client = NULL;
  slc_subscriber *subscriber = NULL;
  slc_message message;
  check_ok(slc_client_open(NULL, &client));
  check_ok(slc_subscriber_open(client, "first", NULL, &subscriber));
  slc_client_close(client);
  kill_and_resume(broker);
  check_ok(slc_client_open(NULL, &client));
  check_ok(slc_subscriber_open(client, "second", NULL, &subscriber));
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  check_ok(slc_subscriber_open(client, SLC_EVENTS_CHANNEL, &options, &subscriber));
  int first = 0, second = 0;
  while (slc_subscriber_take(subscriber, &message) == 0) {
    const slc_event *event = message.data;
    if (strcmp(event->channel, "first") == 0) first++;
    if (strcmp(event->channel, "second") == 0) second++;
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  assert_int_equal(first, 4); /* the channel, the subscriber, its end, the channel's */
  assert_int_equal(second, 2);
  slc_client_close(client);
  finish(broker);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_is_not_on_record_was_never_told),
      cmocka_unit_test(test_every_shadow_has_it_first),
      cmocka_unit_test(test_a_publisher_comes_back),
      cmocka_unit_test(test_limits_count_what_was_recovered),
      cmocka_unit_test(test_lingering_goes_on_and_ends),
      cmocka_unit_test(test_events_go_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

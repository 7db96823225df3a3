/* Hello, limits, and everything that a client may not send: the connection ends with a reason in the log, the others go
 * on, and the broker has as many descriptors as before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "raw.h"

/* A connection that comes and goes. */
static void broker_visit(const struct raw_broker *broker) {
  struct raw raw;
  raw_open(&raw, broker, 9);
  raw_close(&raw);
}

/* The connection ends, whatever is said before, and the log says why. */
static void check_thrown_out(const struct raw_broker *broker, const struct raw *raw, const char *reason) {
  struct raw_answer answer;
  char line[1024];
  while (raw_receive(raw, &answer)) {
    assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
    raw_answer_free(&answer);
  }
  raw_broker_log(broker, line, sizeof line);
  if (strstr(line, reason) == NULL) fail_msg("the log says \"%s\", and not \"%s\"", line, reason);
}

static void test_hello_of_another_version_is_refused(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw;
  struct raw_answer answer;
  char expected[32];
  raw_broker_start(&broker, NULL);
  raw_connect(&raw, &broker);
  raw_hello(&raw, 77, 1, &answer);
  assert_int_equal(answer.message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
  assert_int_equal(answer.message->refusal->status, SLC_VERSION);
  assert_non_null(strstr(answer.message->refusal->text, "77.0"));
  snprintf(expected, sizeof expected, "%d.%d", SLC__PROTOCOL_MAJOR, SLC__PROTOCOL_MINOR);
  assert_non_null(strstr(answer.message->refusal->text, expected));
  raw_answer_free(&answer);
  check_thrown_out(&broker, &raw, "77.0");
  raw_close(&raw);
  raw_broker_stop(&broker);
}

static void test_hello_comes_first_and_once(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw;
  Slotcast__ListChannels list = SLOTCAST__LIST_CHANNELS__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  raw_broker_start(&broker, NULL);
  message.body_case = SLOTCAST__MESSAGE__BODY_LIST_CHANNELS;
  message.list_channels = &list;
  raw_connect(&raw, &broker);
  raw_send(&raw, &message, -1);
  check_thrown_out(&broker, &raw, "hello first");
  raw_close(&raw);

  uint8_t instance[16] = {1};
  Slotcast__Hello hello = SLOTCAST__HELLO__INIT;
  hello.major = SLC__PROTOCOL_MAJOR;
  hello.instance.data = instance;
  hello.instance.len = sizeof instance;
  message.body_case = SLOTCAST__MESSAGE__BODY_HELLO;
  message.hello = &hello;
  raw_open(&raw, &broker, 1);
  raw_send(&raw, &message, -1);
  check_thrown_out(&broker, &raw, "twice");
  raw_close(&raw);
  raw_broker_stop(&broker);
}

/* ---- what cannot be decoded ---- */

static void test_garbage_ends_the_connection(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    size_t size;
  } garbage[] = {
      {"\x00", 1},                     /* no field has the number 0 */
      {"\xff\xff\xff\xff", 4},         /* a tag without an end */
      {"\x08\x01", 2},                 /* a serial, and no body */
      {"\x52\x7f", 2},                 /* a hello that is longer than the message */
      {"\x52\x04\x22\x02\xc3\x28", 6}, /* a name that is not UTF-8 */
      {"\xf2\x3f\x00", 3},             /* a body of the future */
  };
  struct raw_broker broker;
  struct raw anchor;
  raw_broker_start(&broker, NULL);
  raw_open(&anchor, &broker, 9);
  int before = raw_broker_descriptors(&broker);
  for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
    struct raw raw;
    raw_connect(&raw, &broker);
    raw_send_bytes(&raw, garbage[i].bytes, garbage[i].size, NULL, 0);
    check_thrown_out(&broker, &raw, "message");
    raw_close(&raw);
  }
  assert_int_equal(raw_broker_settle(&broker, &anchor, before), before);
  raw_close(&anchor);
  raw_broker_stop(&broker);
}

/* xorshift: the same bytes in each run. */
static uint32_t next_random(uint32_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 17;
  *seed ^= *seed << 5;
  return *seed;
}

/* Good requests with bytes changed, some with descriptors that they should not have. */
static void test_mutated_requests_leak_nothing(void **state) {
  (void)state;
  enum { ROUNDS = 2000 };
  struct raw_broker broker;
  struct raw anchor;
  uint8_t packed[256];
  uint32_t seed = 2463534242u;
  Slotcast__OpenPublisher request = raw_publisher("fuzzed/channel");
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  request.slots = 16;
  message.serial = 1;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_PUBLISHER;
  message.open_publisher = &request;
  size_t size = slotcast__message__pack(&message, packed);
  raw_broker_start(&broker, NULL);
  raw_open(&anchor, &broker, 9);
  int before = raw_broker_descriptors(&broker);
  pid_t child = fork(); /* so that its end takes all that was opened by chance */
  assert_true(child >= 0);
  if (child == 0) {
    for (int i = 0; i < ROUNDS; i++) {
      uint8_t mutated[sizeof packed];
      struct raw raw;
      int fd = STDIN_FILENO;
      memcpy(mutated, packed, size);
      for (uint32_t n = next_random(&seed) % 4; n > 0; n--)
        mutated[next_random(&seed) % size] = (uint8_t)next_random(&seed);
      raw_open(&raw, &broker, 2);
      raw_send_bytes(&raw, mutated, 1 + next_random(&seed) % size, &fd, next_random(&seed) % 2);
      raw_close(&raw);
    }
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_int_equal(raw_broker_settle(&broker, &anchor, before), before);
  raw_close(&anchor);
  raw_broker_stop(&broker);
}

/* ---- what can be decoded and is out of place ---- */

static void test_descriptors_nobody_asked_for(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw anchor;
  struct raw raw;
  Slotcast__ListChannels list = SLOTCAST__LIST_CHANNELS__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  raw_broker_start(&broker, NULL);
  raw_open(&anchor, &broker, 9);
  int before = raw_broker_descriptors(&broker);
  message.body_case = SLOTCAST__MESSAGE__BODY_LIST_CHANNELS;
  message.list_channels = &list;
  raw_open(&raw, &broker, 1);
  raw_send(&raw, &message, STDIN_FILENO);
  check_thrown_out(&broker, &raw, "descriptors");
  raw_close(&raw);

  /* Two sent, none named. */
  int fds[] = {STDIN_FILENO, STDOUT_FILENO};
  uint8_t packed[64];
  raw_open(&raw, &broker, 1);
  raw_send_bytes(&raw, packed, slotcast__message__pack(&message, packed), fds, 2);
  check_thrown_out(&broker, &raw, "descriptors");
  raw_close(&raw);
  assert_int_equal(raw_broker_settle(&broker, &anchor, before), before);
  raw_close(&anchor);
  raw_broker_stop(&broker);
}

static void test_messages_of_a_broker_are_refused(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw;
  Slotcast__Done done = SLOTCAST__DONE__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  raw_broker_start(&broker, NULL);
  message.body_case = SLOTCAST__MESSAGE__BODY_DONE;
  message.done = &done;
  raw_open(&raw, &broker, 1);
  raw_send(&raw, &message, -1);
  check_thrown_out(&broker, &raw, "broker");
  raw_close(&raw);
  raw_broker_stop(&broker);
}

/* A doorbell that is no socket, and one of a user that is none of this connection's. */
static void test_doorbells_are_checked(void **state) {
  (void)state;
  struct raw_broker broker;
  raw_broker_start(&broker, NULL);
  struct raw other;
  raw_open(&other, &broker, 1);
  uint64_t others = raw_join_publisher(&other, "bell/other");
  for (int is_others = 0; is_others < 2; is_others++) {
    struct raw raw;
    int pair[2];
    Slotcast__SetDoorbell body = SLOTCAST__SET_DOORBELL__INIT;
    Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    raw_open(&raw, &broker, 1);
    body.user = is_others ? others : raw_join_subscriber(&raw, "bell/s");
    message.body_case = SLOTCAST__MESSAGE__BODY_SET_DOORBELL;
    message.set_doorbell = &body;
    raw_send(&raw, &message, is_others ? pair[0] : STDIN_FILENO);
    check_thrown_out(&broker, &raw, "doorbell");
    raw_close(&raw);
    close(pair[0]);
    close(pair[1]);
  }
  raw_close(&other);
  raw_broker_stop(&broker);
}

/* ---- limits, addresses, numbers ---- */

static void check_limit(const struct raw_answer *answer, const char *option) {
  assert_int_equal(answer->message->body_case, SLOTCAST__MESSAGE__BODY_REFUSAL);
  assert_int_equal(answer->message->refusal->status, SLC_LIMIT);
  if (strstr(answer->message->refusal->text, option) == NULL)
    fail_msg("\"%s\" does not name %s", answer->message->refusal->text, option);
}

static void test_limits_name_their_option(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw;
  struct raw_answer answer;
  struct limits limits;
  limits_init(&limits);
  limits.channels = 1;
  limits.users = 2;
  limits.memory = 1 << 20;
  raw_broker_start(&broker, &limits);
  raw_open(&raw, &broker, 1);
  Slotcast__OpenPublisher large = raw_publisher("a");
  large.slot_size = 1 << 20;
  raw_publish(&raw, &large, &answer);
  check_limit(&answer, "--max-memory");
  raw_answer_free(&answer);
  raw_join_publisher(&raw, "a"); /* the refusal left nothing: there is room for one channel */
  Slotcast__OpenPublisher other = raw_publisher("b");
  raw_publish(&raw, &other, &answer);
  check_limit(&answer, "--max-channels");
  raw_answer_free(&answer);
  raw_join_subscriber(&raw, "a");
  Slotcast__OpenSubscriber third = raw_subscriber("a");
  raw_subscribe(&raw, &third, &answer);
  check_limit(&answer, "--max-users");
  raw_answer_free(&answer);
  raw_close(&raw);
  raw_broker_stop(&broker);
}

/* Beyond the limit, a client is told why before the connection ends. */
static void test_too_many_connections_are_told(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw first, second;
  struct raw_answer answer;
  struct limits limits;
  limits_init(&limits);
  limits.connections = 1;
  raw_broker_start(&broker, &limits);
  raw_open(&first, &broker, 1);
  raw_connect(&second, &broker);
  assert_true(raw_receive(&second, &answer));
  check_limit(&answer, "--max-connections");
  raw_answer_free(&answer);
  assert_false(raw_receive(&second, &answer));
  raw_close(&second);
  raw_close(&first);
  raw_broker_stop(&broker);
}

static void test_second_broker_is_refused(void **state) {
  (void)state;
  struct raw_broker first;
  struct broker second;
  uv_loop_t loop;
  struct broker_options options = {.socket_mode = 0600, .socket_gid = (gid_t)-1};
  raw_broker_start(&first, NULL);
  options.socket = first.socket;
  assert_int_equal(uv_loop_init(&loop), 0);
  assert_int_equal(broker_open(&second, &loop, &options), SLC_BUSY);
  assert_int_equal(uv_loop_close(&loop), 0);
  broker_visit(&first); /* the first one still serves */
  raw_broker_stop(&first);
}

static void test_thousand_connections_leave_nothing(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw anchor;
  raw_broker_start(&broker, NULL);
  raw_open(&anchor, &broker, 9);
  int before = raw_broker_descriptors(&broker);
  for (int i = 0; i < 1000; i++) broker_visit(&broker);
  assert_int_equal(raw_broker_settle(&broker, &anchor, before), before);
  raw_close(&anchor);
  raw_broker_stop(&broker);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hello_of_another_version_is_refused),
      cmocka_unit_test(test_hello_comes_first_and_once),
      cmocka_unit_test(test_garbage_ends_the_connection),
      cmocka_unit_test(test_mutated_requests_leak_nothing),
      cmocka_unit_test(test_descriptors_nobody_asked_for),
      cmocka_unit_test(test_messages_of_a_broker_are_refused),
      cmocka_unit_test(test_doorbells_are_checked),
      cmocka_unit_test(test_limits_name_their_option),
      cmocka_unit_test(test_too_many_connections_are_told),
      cmocka_unit_test(test_second_broker_is_refused),
      cmocka_unit_test(test_thousand_connections_leave_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A subscriber that the broker has admitted, and that has not begun: its process is stopped while it waits for the
 * answer.  Whoever sees it counted and publishes then publishes for it. */
#include "common.h"

#include <sched.h>
#include <unistd.h>

enum { SIZE = 40, BEFORE = 5 };

struct start_case {
  int start;
  uint64_t count, first; /* the first that it takes, while nothing is lost */
};

/* What the subscriber's process says when it has taken everything up to `last`. */
struct outcome {
  uint64_t first, received, dropped;
};

struct late {
  pid_t pid;
  int go, said; /* to it and from it */
};

static void must(bool is_right, const char *what) {
  if (is_right) return;
  fprintf(stderr, "the subscriber: %s (%s)\n", what, slc_error_detail());
  _exit(1);
}

/* ---- the process that subscribes ---- */

static uint64_t ordinal_of(const slc_message *message) {
  return message->virtual_ordinal != 0 ? message->virtual_ordinal : message->ordinal;
}

/* In order and whole, with a gap only where it is counted. */
static struct outcome take_up_to(slc_subscriber *subscriber, uint64_t last) {
  struct outcome outcome = {0};
  slc_message message = {0};
  for (uint64_t n = 0; n < last;) {
    must(slc_subscriber_take(subscriber, &message) == 0, "no message");
    must(ordinal_of(&message) > n, "out of order");
    n = ordinal_of(&message);
    must(message.size == SIZE && ((const uint8_t *)message.data)[0] == pattern(n, 0), "another message");
    if (outcome.received++ == 0) outcome.first = n;
    must(slc_subscriber_release(subscriber, &message) == 0, "not released");
  }
  must(slc_subscriber_take(subscriber, &message) == SLC_EMPTY, "a message too many");
  slc_subscriber_stats stats = {.size = sizeof stats};
  must(slc_subscriber_stats_get(subscriber, &stats) == 0, "no counts");
  outcome.dropped = stats.dropped;
  return outcome;
}

static void subscribe(const char *channel, const slc_subscriber_options *options, int go, int said) {
  slc_client *client = NULL;
  slc_subscriber *subscriber = NULL;
  uint64_t last;
  char word = 0;
  must(slc_client_open(NULL, &client) == 0, "no client");
  must(write(said, &word, 1) == 1 && read(go, &word, 1) == 1, "not told to open");
  must(slc_subscriber_open(client, channel, options, &subscriber) == 0, "no subscriber");
  must(read(go, &last, sizeof last) == sizeof last, "not told what is last");
  struct outcome outcome = take_up_to(subscriber, last);
  must(write(said, &outcome, sizeof outcome) == sizeof outcome, "nobody listens");
  slc_client_close(client);
  _exit(0);
}

static struct late late_start(const char *channel, const slc_subscriber_options *options) {
  int to[2], from[2];
  assert_int_equal(pipe(to), 0);
  assert_int_equal(pipe(from), 0);
  struct late late = {.pid = fork(), .go = to[1], .said = from[0]};
  assert_true(late.pid >= 0);
  if (late.pid == 0) subscribe(channel, options, to[0], from[1]);
  close(to[0]);
  close(from[1]);
  return late;
}

static void hear(const struct late *late, void *what, size_t size) {
  assert_int_equal(read(late->said, what, size), size);
}

static void tell(const struct late *late, const void *what, size_t size) {
  assert_int_equal(write(late->go, what, size), size);
}

static void late_finish(struct late *late, const struct outcome *expected, uint64_t last) {
  struct outcome outcome;
  int status;
  tell(late, &last, sizeof last);
  hear(late, &outcome, sizeof outcome);
  assert_int_equal(waitpid(late->pid, &status, 0), late->pid);
  assert_int_equal(status, 0);
  close(late->go);
  close(late->said);
  assert_int_equal(outcome.first, expected->first);
  assert_int_equal(outcome.received, expected->received);
  assert_int_equal(outcome.dropped, expected->dropped);
}

/* ---- stopping and going on ---- */

static uint32_t subscribers(slc_publisher *publisher) {
  slc_publisher_stats stats = {.size = sizeof stats};
  check_ok(slc_publisher_stats_get(publisher, &stats));
  return stats.subscribers;
}

/* The broker is stopped until its request is there, and goes on when it is stopped itself. */
static void admit_and_stop(const struct late *late, pid_t broker, slc_publisher *publisher) {
  char word = 0;
  uint32_t before = subscribers(publisher);
  hear(late, &word, 1);
  stop(broker);
  tell(late, &word, 1);
  await_ppoll(late->pid);
  stop(late->pid);
  kill(broker, SIGCONT);
  while (subscribers(publisher) == before) sched_yield();
}

/* For a moment the publisher may not know yet of a subscriber that has just come. */
static void send_up_to(slc_publisher *publisher, uint64_t *sent, uint64_t last) {
  while (*sent < last) {
    uint8_t bytes[SIZE] = {pattern(*sent + 1, 0)};
    int status = slc_publisher_send(publisher, bytes, SIZE, NULL);
    if (status == SLC_WOULD_BLOCK) {
      check_ok(slc_publisher_wait(publisher, INT64_MAX));
      continue;
    }
    check_ok(status);
    ++*sent;
  }
}

/* ---- the tests ---- */

static const struct start_case cases[] = {
    {SLC_START_NEWEST, 0, BEFORE + 1},
    {SLC_START_LAST, 0, BEFORE},
    {SLC_START_LAST, 3, BEFORE - 2},
    {SLC_START_OLDEST, 0, 1},
};

static slc_subscriber_options options_of(const struct start_case *each) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = each->start;
  options.start_count = each->count;
  return options;
}

static void start_plain(const struct test_broker *broker, const struct start_case *each, bool is_reliable,
                        uint64_t after) {
  slc_client *client = client_open();
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.reliable = is_reliable;
  slc_publisher *publisher = publisher_open(client, &shape);
  uint64_t sent = 0, last = BEFORE + after;
  send_up_to(publisher, &sent, BEFORE);
  slc_subscriber_options options = options_of(each);
  options.reliable = is_reliable;
  struct late late = late_start(CHANNEL, &options);
  admit_and_stop(&late, broker->pid, publisher);
  send_up_to(publisher, &sent, last);
  kill(late.pid, SIGCONT);
  struct outcome expected = {.first = each->first, .received = last - each->first + 1};
  late_finish(&late, &expected, last);
  slc_client_close(client);
}

static void test_start_since_admitted(void **state) {
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (int is_reliable = 0; is_reliable < 2; is_reliable++) start_plain(*state, &cases[i], is_reliable != 0, 20);
}

/* Where it begins is gone before it does: what it lost since it was admitted is counted, and nothing else. */
static void test_start_overrun(void **state) {
  const struct test_broker *broker = *state;
  enum { LAST = 1000 };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    slc_client *client = client_open();
    slc_publisher *publisher = publisher_open(client, NULL);
    uint64_t sent = 0;
    send_up_to(publisher, &sent, BEFORE);
    slc_subscriber_options options = options_of(&cases[i]);
    struct late late = late_start(CHANNEL, &options);
    admit_and_stop(&late, broker->pid, publisher);
    send_up_to(publisher, &sent, LAST);
    slc_subscriber *oldest = NULL; /* what is left is what it finds */
    options = (slc_subscriber_options)SLC_SUBSCRIBER_OPTIONS_INIT;
    options.start = SLC_START_OLDEST;
    check_ok(slc_subscriber_open(client, CHANNEL, &options, &oldest));
    slc_message message;
    check_ok(slc_subscriber_take(oldest, &message));
    struct outcome expected = {
        .first = message.ordinal, .received = LAST - message.ordinal + 1, .dropped = message.ordinal - BEFORE - 1};
    check_ok(slc_subscriber_release(oldest, &message));
    kill(late.pid, SIGCONT);
    late_finish(&late, &expected, LAST);
    slc_client_close(client);
  }
}

/* Numbers of its own virtual channel, among messages of another. */
static void start_virtual(const struct test_broker *broker, const struct start_case *each, bool is_all) {
  slc_client *client = client_open();
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.multiplexer = "test/mux";
  slc_publisher *mine = NULL, *other = NULL;
  check_ok(slc_publisher_open(client, "mine", &shape, &mine));
  uint64_t sent = 0, others = 0, last = BEFORE + 9;
  send_up_to(mine, &sent, BEFORE);
  if (!is_all) check_ok(slc_publisher_open(client, "other", &shape, &other));
  if (!is_all) send_up_to(other, &others, BEFORE);
  slc_subscriber_options options = options_of(each);
  if (!is_all) options.multiplexer = "test/mux";
  struct late late = late_start(is_all ? "test/mux" : "mine", &options);
  admit_and_stop(&late, broker->pid, mine);
  while (sent < last) {
    if (!is_all) send_up_to(other, &others, others + 2);
    send_up_to(mine, &sent, sent + 1);
  }
  kill(late.pid, SIGCONT);
  struct outcome expected = {.first = each->first, .received = last - each->first + 1};
  late_finish(&late, &expected, last);
  slc_client_close(client);
}

static void test_start_virtual(void **state) {
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (int is_all = 0; is_all < 2; is_all++) start_virtual(*state, &cases[i], is_all != 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_start_since_admitted),
      BROKER_TEST(test_start_overrun),
      BROKER_TEST(test_start_virtual),
  };
  return cmocka_run_group_tests_name("client_start", tests, NULL, NULL);
}

/* One client in many threads: a handle for each at full speed, and handles that several threads use in turns. */
#include "common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { PAIRS = 4, MESSAGES = 4000, SHARERS = 4 };

/* What a thread has found wrong; it can't fail the test by itself. */
struct fault {
  int status; /* 0: none */
  const char *what;
};

static bool went_wrong(struct fault *fault, int status, const char *what) {
  if (status != 0) *fault = (struct fault){status, what};
  return status != 0;
}

static void check_no_fault(const struct fault *fault) {
  if (fault->status == 0) return;
  print_error("%s: %s\n", fault->what, slc_status_name(fault->status));
  fail();
}

static void content_write(uint8_t bytes[40], uint64_t number) {
  memcpy(bytes, &number, sizeof number);
  for (size_t i = sizeof number; i < 40; i++) bytes[i] = pattern(number, i);
}

static bool content_is_right(const slc_message *message, uint64_t *ret_number) {
  uint8_t expected[40];
  if (message->size != sizeof expected) return false;
  memcpy(ret_number, message->data, sizeof *ret_number);
  content_write(expected, *ret_number);
  return memcmp(expected, message->data, sizeof expected) == 0;
}

static int send_waiting(slc_publisher *publisher, uint64_t number) {
  uint8_t bytes[40];
  content_write(bytes, number);
  int status;
  while ((status = slc_publisher_send(publisher, bytes, sizeof bytes, NULL)) == SLC_WOULD_BLOCK) {
    status = slc_publisher_wait(publisher, SLC_WAIT_FOREVER);
    if (status != 0) return status;
  }
  return status;
}

static int take_waiting(slc_subscriber *subscriber, slc_message *ret_message) {
  int status;
  while ((status = slc_subscriber_take(subscriber, ret_message)) == SLC_EMPTY) {
    status = slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER);
    if (status != 0) return status;
  }
  return status;
}

/* ---- a handle for each thread ---- */

struct part {
  slc_client *client;
  char channel[32];
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  struct fault fault;
};

static void *publish_all(void *ctx) {
  struct part *part = ctx;
  for (uint64_t n = 1; n <= MESSAGES; n++)
    if (went_wrong(&part->fault, send_waiting(part->publisher, n), "publishing")) break;
  return NULL;
}

static void *receive_all(void *ctx) {
  struct part *part = ctx;
  for (uint64_t n = 1; n <= MESSAGES; n++) {
    slc_message message;
    uint64_t number = 0;
    if (went_wrong(&part->fault, take_waiting(part->subscriber, &message), "taking")) break;
    bool is_right = content_is_right(&message, &number) && number == n && message.ordinal == n;
    if (!is_right && went_wrong(&part->fault, SLC_CORRUPT, "content")) break;
    if (went_wrong(&part->fault, slc_subscriber_release(part->subscriber, &message), "releasing")) break;
  }
  return NULL;
}

/* Opens, closes and inspects what the others use: reads what the broker pushes to their handles. */
static void *come_and_go(void *ctx) {
  struct part *part = ctx;
  for (int i = 0; i < 100; i++) {
    slc_subscriber *subscriber = NULL;
    slc_channel_info *info = NULL;
    if (went_wrong(&part->fault, slc_subscriber_open(part->client, part->channel, NULL, &subscriber), "opening")) break;
    if (went_wrong(&part->fault, slc_channel_inspect(part->client, part->channel, &info), "inspecting")) break;
    slc_channel_info_free(info);
    slc_subscriber_close(subscriber);
  }
  return NULL;
}

static void part_open(struct part *part, slc_client *client, int number) {
  *part = (struct part){.client = client};
  snprintf(part->channel, sizeof part->channel, "test/threads/%d", number);
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  shape.reliable = options.reliable = 1;
  check_ok(slc_publisher_open(client, part->channel, &shape, &part->publisher));
  check_ok(slc_subscriber_open(client, part->channel, &options, &part->subscriber));
}

static void test_a_handle_for_each_thread(void **state) {
  (void)state;
  slc_client *client = client_open();
  struct part parts[PAIRS], receivers[PAIRS], visitor;
  pthread_t threads[2 * PAIRS + 1];
  for (int i = 0; i < PAIRS; i++) part_open(&parts[i], client, i);
  visitor = parts[0];
  for (int i = 0; i < PAIRS; i++) {
    receivers[i] = parts[i];
    assert_int_equal(pthread_create(&threads[2 * i], NULL, publish_all, &parts[i]), 0);
    assert_int_equal(pthread_create(&threads[2 * i + 1], NULL, receive_all, &receivers[i]), 0);
  }
  assert_int_equal(pthread_create(&threads[2 * PAIRS], NULL, come_and_go, &visitor), 0);
  for (int i = 0; i < 2 * PAIRS + 1; i++) pthread_join(threads[i], NULL);
  check_no_fault(&visitor.fault);
  for (int i = 0; i < PAIRS; i++) {
    check_no_fault(&parts[i].fault);
    check_no_fault(&receivers[i].fault);
  }
  slc_client_close(client);
}

/* ---- a handle for several threads ---- */

struct shared {
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  _Atomic uint64_t sent, received;
  _Atomic uint8_t seen[MESSAGES + 1];
};

struct sharer {
  struct shared *shared;
  struct fault fault;
};

static void *share_publisher(void *ctx) {
  struct sharer *sharer = ctx;
  struct shared *shared = sharer->shared;
  for (;;) {
    uint64_t number = atomic_fetch_add(&shared->sent, 1) + 1;
    if (number > MESSAGES) return NULL;
    if (went_wrong(&sharer->fault, send_waiting(shared->publisher, number), "publishing in turns")) return NULL;
  }
}

static int receive_one(struct shared *shared) {
  slc_message message;
  uint64_t number = 0;
  int status = take_waiting(shared->subscriber, &message);
  if (status != 0) return status;
  bool is_right = content_is_right(&message, &number) && number > 0 && number <= MESSAGES;
  if (!is_right || atomic_fetch_add(&shared->seen[number], 1) != 0) return SLC_CORRUPT;
  return slc_subscriber_release(shared->subscriber, &message);
}

static void *share_subscriber(void *ctx) {
  struct sharer *sharer = ctx;
  while (atomic_fetch_add(&sharer->shared->received, 1) < MESSAGES)
    if (went_wrong(&sharer->fault, receive_one(sharer->shared), "receiving in turns")) break;
  return NULL;
}

static void shared_run(int64_t spin_ns) {
  static struct shared shared;
  memset(&shared, 0, sizeof shared);
  slc_client *client = client_open();
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  shape.reliable = options.reliable = shape.locked = options.locked = 1;
  shape.max_loans = options.max_holds = SHARERS;
  shape.spin_ns = options.spin_ns = spin_ns;
  shared.publisher = publisher_open(client, &shape);
  shared.subscriber = subscriber_open(client, &options);
  struct sharer sharers[2 * SHARERS];
  pthread_t threads[2 * SHARERS];
  for (int i = 0; i < 2 * SHARERS; i++) {
    sharers[i] = (struct sharer){.shared = &shared};
    void *(*role)(void *) = i < SHARERS ? share_publisher : share_subscriber;
    assert_int_equal(pthread_create(&threads[i], NULL, role, &sharers[i]), 0);
  }
  for (int i = 0; i < 2 * SHARERS; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 2 * SHARERS; i++) check_no_fault(&sharers[i].fault);
  for (uint64_t n = 1; n <= MESSAGES; n++) assert_int_equal(shared.seen[n], 1);
  assert_int_equal(subscriber_stats(shared.subscriber).received, MESSAGES);
  slc_client_close(client);
}

static void test_a_handle_for_several_threads(void **state) {
  (void)state;
  shared_run(0);
  shared_run(SLC_SPIN_NEVER);
  shared_run(SLC_SPIN_FOREVER);
}

/* A thread that waits on a shared handle must not keep the other from using it: nobody else would end the waiting. */
static void test_waiting_keeps_nobody_out(void **state) {
  (void)state;
  static struct shared shared;
  memset(&shared, 0, sizeof shared);
  slc_client *client = client_open();
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.locked = 1;
  options.spin_ns = SLC_SPIN_NEVER;
  shared.publisher = publisher_open(client, NULL);
  shared.subscriber = subscriber_open(client, &options);
  struct sharer sharer = {.shared = &shared};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, share_subscriber, &sharer), 0);
  for (uint64_t n = 1; n <= MESSAGES; n++) {
    uint8_t bytes[40];
    content_write(bytes, n);
    check_ok(slc_publisher_send(shared.publisher, bytes, sizeof bytes, NULL));
    slc_message found; /* and back, while the other thread may be waiting for the next */
    check_ok(slc_subscriber_find(shared.subscriber, n, 0, &found));
    check_ok(slc_subscriber_release(shared.subscriber, &found));
    while (subscriber_stats(shared.subscriber).received < n) {
    }
  }
  pthread_join(thread, NULL);
  check_no_fault(&sharer.fault);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_a_handle_for_each_thread),
      BROKER_TEST(test_a_handle_for_several_threads),
      BROKER_TEST(test_waiting_keeps_nobody_out),
  };
  return cmocka_run_group_tests_name("client_threads", tests, NULL, NULL);
}

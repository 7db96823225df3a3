/* Publishing goes on while there is no broker: the longest time between two messages at a busy subscriber across a
 * crash of the broker, and while the next one begins, beside the longest of as many messages without either.  All are
 * printed, and none is compared: they are the machine's, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <slotcast/slotcast.h>

#include "crew.h"
#include "support/broker.h"
#include "support/check.h"

#define CHANNEL "outage"
enum { SLOTS = 64, SLOT_SIZE = 64, MESSAGES = 400000, WATCHDOG_S = 300 };
enum phase { BEFORE, UNDISTURBED, AWAY, RETURN, AFTER, PHASES };

struct shared {
  _Atomic int phase;
  _Atomic uint32_t opened; /* the subscriber, before the first message */
  _Atomic uint64_t received;
  _Atomic int64_t gap_ns[PHASES]; /* the longest */
};

static struct test_broker broker;
static struct crew crew;
static struct shared *shared;
static uint64_t messages = MESSAGES;

static slc_client *connect_client(void) {
  slc_client *client;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.reconnect_timeout_ns = -1;
  need(slc_client_open(&options, &client) == SLC_OK, "%s", slc_error_detail());
  return client;
}

static void publish(uint32_t number) {
  (void)number;
  slc_publisher *publisher;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  options.reliable = 1;
  slc_client *client = connect_client();
  need(slc_publisher_open(client, CHANNEL, &options, &publisher) == SLC_OK, "%s", slc_error_detail());
  for (uint64_t sent = 1; atomic_load(&shared->phase) != AFTER; sent++) {
    slc_loan loan;
    int status;
    while ((status = slc_publisher_loan(publisher, sizeof sent, &loan)) == SLC_WOULD_BLOCK &&
           atomic_load(&shared->phase) != AFTER)
      sched_yield();
    if (status == SLC_WOULD_BLOCK) break;
    need(status == SLC_OK, "%s", slc_error_detail());
    *(uint64_t *)loan.data = sent;
    need(slc_publisher_publish(publisher, &loan, sizeof sent, NULL) == SLC_OK, "%s", slc_error_detail());
  }
  slc_client_close(client);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void note_gap(int phase, int64_t gap) {
  if (atomic_load(&shared->gap_ns[phase]) < gap) atomic_store(&shared->gap_ns[phase], gap);
}

static void subscribe(uint32_t number) {
  (void)number;
  slc_subscriber *subscriber;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  options.start = SLC_START_OLDEST;
  slc_client *client = connect_client();
  need(slc_subscriber_open(client, CHANNEL, &options, &subscriber) == SLC_OK, "%s", slc_error_detail());
  atomic_store(&shared->opened, 1);
  int64_t last = now_ns();
  for (uint64_t received = 0; atomic_load(&shared->phase) != AFTER;) {
    slc_message message;
    int status = slc_subscriber_take(subscriber, &message);
    if (status == SLC_EMPTY) {
      sched_yield();
      continue;
    }
    need(status == SLC_OK, "%s", slc_error_detail());
    need(*(const uint64_t *)message.data == received + 1, "%ju where %ju was due",
         (uintmax_t) * (const uint64_t *)message.data, (uintmax_t)received + 1);
    need(slc_subscriber_release(subscriber, &message) == SLC_OK, "%s", slc_error_detail());
    int64_t now = now_ns();
    note_gap(atomic_load(&shared->phase), now - last);
    last = now;
    atomic_store(&shared->received, ++received);
  }
  slc_client_close(client);
}

static void await_messages(uint64_t count) {
  uint64_t until = atomic_load(&shared->received) + count;
  while (atomic_load(&shared->received) < until) {
    crew_look(&crew);
    poll(NULL, 0, 1); /* takes no processor from those who are measured */
  }
}

static double us(enum phase phase) {
  return (double)atomic_load(&shared->gap_ns[phase]) / 1000;
}

static void test_outage(void **state) {
  (void)state;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(shared, MAP_FAILED);
  crew_start(&crew, 0, subscribe);
  while (atomic_load(&shared->opened) == 0) {
    crew_look(&crew);
    sched_yield();
  }
  crew_start(&crew, 1, publish);
  await_messages(1);
  atomic_store(&shared->phase, UNDISTURBED);
  await_messages(messages);
  atomic_store(&shared->phase, AWAY);
  test_broker_kill(&broker);
  await_messages(messages);
  atomic_store(&shared->phase, RETURN);
  test_broker_resume(&broker);
  await_messages(messages);
  atomic_store(&shared->phase, AFTER);
  crew_join(&crew);
  print_message(
      "longest gap of %ju messages: %.1f us with a broker, %.1f us from its crash on, %.1f us while it comes back\n",
      (uintmax_t)messages, us(UNDISTURBED), us(AWAY), us(RETURN));
  munmap(shared, sizeof *shared);
}

/* One that knows who subscribes need not have found the next broker: nobody came meanwhile. */
static void test_publisher_waits_for_no_broker(void **state) {
  (void)state;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_channel_info *list;
  size_t count;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  slc_client *client = connect_client();
  check_ok(slc_subscriber_open(client, CHANNEL, NULL, &subscriber));
  check_ok(slc_publisher_open(client, CHANNEL, &options, &publisher));
  test_broker_kill(&broker);
  test_broker_resume(&broker);
  slc_client *other = connect_client();
  check_ok(slc_channel_list(other, &list, &count)); /* it has recovered */
  slc_channel_list_free(list, count);
  char hidden[sizeof broker.socket + 8];
  snprintf(hidden, sizeof hidden, "%s.hidden", broker.socket);
  assert_int_equal(rename(broker.socket, hidden), 0);
  for (int i = 0; i < 4 * SLOTS; i++) {
    slc_loan loan;
    slc_message message;
    check_ok(slc_publisher_loan(publisher, SLOT_SIZE, &loan));
    check_ok(slc_publisher_publish(publisher, &loan, SLOT_SIZE, NULL));
    check_ok(slc_subscriber_take(subscriber, &message));
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  assert_int_equal(rename(hidden, broker.socket), 0);
  slc_client_close(other);
  slc_client_close(client);
}

static int setup(void **state) {
  (void)state;
  test_broker_start_shadowed(&broker, 1, NULL);
  test_watchdog(WATCHDOG_S);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  return test_broker_finish(&broker);
}

int main(int argc, char **argv) {
  if (argc > 1) messages = strtoull(argv[1], NULL, 10);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_outage, setup, teardown),
      cmocka_unit_test_setup_teardown(test_publisher_waits_for_no_broker, setup, teardown),
  };
  return cmocka_run_group_tests_name("outage", tests, NULL, NULL);
}

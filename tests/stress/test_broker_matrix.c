/* Many publishers and subscribers, a process each, through a real broker: each message is checked, each loss counted.
 *
 * Every third subscriber is slow and holds several messages, every fourth waits on its readiness descriptor.  The slots
 * are either just enough for all that the broker has promised, or many more.
 *
 * Argument: "all" for every combination of 1 to 8 publishers and 1 to 16 subscribers, instead of some. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "aftermath.h"
#include "base/clock.h"
#include "crew.h"
#include "support/check.h"
#include "traffic.h"

enum {
  SLOT_SIZE = 300,
  PUBLISHERS_MAX = 8,
  SUBSCRIBERS_MAX = 16,
  SHARE = 6, /* slots for each publisher: the broker's batches leave room for eight of them in so many */
  ROOMY = 16,
  MESSAGES = 16000,      /* in each combination, by all publishers; */
  MESSAGES_TIGHT = 8000, /* the same where slots are few, and most of the time goes into waiting */
  SLOW_HOLDS = 5,
  SLOW_LOOKS = 4,
  WATCHDOG_S = 1500,
};

struct shape {
  uint32_t publishers, subscribers;
  bool reliable, roomy;
};

struct shared {
  _Atomic uint32_t subscribers_open, publishers_open;
  _Atomic uint64_t front; /* the greatest ordinal that a subscriber has taken */
  _Atomic uint64_t received, dropped, would_block;
};

static struct test_broker broker;
static struct crew crew;
static struct shared *shared;
static struct shape shape;
static uint32_t slots;
static char channel[64];
static bool all;

static bool is_slow(uint32_t subscriber) {
  return subscriber % 3 == 2;
}

static uint32_t holds_of(uint32_t subscriber) {
  return is_slow(subscriber) ? SLOW_HOLDS : 1;
}

static uint64_t messages_each(void) {
  return (shape.roomy ? MESSAGES : MESSAGES_TIGHT) / shape.publishers;
}

static slc_client *connect_client(void) {
  slc_client *client;
  int status = slc_client_open(NULL, &client);
  need(status == SLC_OK, "client_open: %s", slc_error_detail());
  return client;
}

/* ---- publishers ---- */

/* Unreliable publishers do not wait for anybody; these do, for the foremost subscriber, or else they would be through
 * before the first has woken.  Far enough ahead to overrun even that one now and then. */
static void pace(uint64_t ordinal) {
  while (ordinal > atomic_load_explicit(&shared->front, memory_order_relaxed) + slots * UINT64_C(3) / 2) sched_yield();
}

static void publish(uint32_t number) {
  struct traffic_writer writer = {.life = number, .slot_size = SLOT_SIZE};
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher_stats stats = {.size = sizeof stats};
  options.slots = slots;
  options.slot_size = SLOT_SIZE;
  options.reliable = shape.reliable;
  slc_client *client = connect_client();
  int status = slc_publisher_open(client, channel, &options, &writer.publisher);
  need(status == SLC_OK, "publisher_open: %s", slc_error_detail());
  atomic_fetch_add(&shared->publishers_open, 1);
  while (atomic_load(&shared->publishers_open) < shape.publishers) sched_yield();
  while (atomic_load(&shared->subscribers_open) < shape.subscribers) sched_yield();
  while (writer.sequence < messages_each()) {
    uint64_t ordinal;
    traffic_send(&writer, &ordinal);
    pace(ordinal);
  }
  status = slc_publisher_stats_get(writer.publisher, &stats);
  need(status == SLC_OK && stats.messages == messages_each(), "%ju", (uintmax_t)stats.messages);
  atomic_fetch_add(&shared->would_block, stats.would_block);
  slc_client_close(client);
}

/* ---- subscribers ---- */

static void raise_front(uint64_t ordinal) {
  uint64_t front = atomic_load_explicit(&shared->front, memory_order_relaxed);
  while (front < ordinal && !atomic_compare_exchange_weak_explicit(&shared->front, &front, ordinal,
                                                                   memory_order_relaxed, memory_order_relaxed)) {
  }
}

static void seen(struct traffic_reader *reader) {
  raise_front(reader->last);
}

/* Work, not sleep: how long it takes is the machine's affair. */
static void seen_slowly(struct traffic_reader *reader) {
  raise_front(reader->last);
  for (int i = 0; i < SLOW_LOOKS; i++) traffic_look_again(reader);
}

static bool is_over(struct traffic_reader *reader) {
  slc_subscriber_stats stats = traffic_stats(reader);
  return stats.publishers == 0 && stats.publishers_joined == shape.publishers;
}

static void subscribe(uint32_t number) {
  static struct traffic_reader reader;
  uint32_t subscriber = number - PUBLISHERS_MAX;
  uint64_t total = messages_each() * shape.publishers;
  reader = (struct traffic_reader){.slot_size = SLOT_SIZE,
                                   .gapless = shape.reliable,
                                   .complete = shape.reliable,
                                   .max_held = holds_of(subscriber),
                                   .seen = is_slow(subscriber) ? seen_slowly : seen};
  slc_client *client = connect_client();
  traffic_open(&reader, client, channel, subscriber % 4 == 1);
  atomic_fetch_add(&shared->subscribers_open, 1);
  traffic_run(&reader, is_over);
  slc_subscriber_stats stats = traffic_stats(&reader);
  need(reader.last == total && stats.lag == 0, "ended at %ju of %ju, lag %ju", (uintmax_t)reader.last, (uintmax_t)total,
       (uintmax_t)stats.lag);
  need(reader.received + stats.dropped == total, "%ju received, %ju dropped of %ju", (uintmax_t)reader.received,
       (uintmax_t)stats.dropped, (uintmax_t)total);
  need(!shape.reliable || reader.received == total, "%ju received", (uintmax_t)reader.received);
  atomic_fetch_add(&shared->received, reader.received);
  atomic_fetch_add(&shared->dropped, stats.dropped);
  slc_client_close(client);
}

/* ---- one combination ---- */

/* What subscribers and publishers take, and the one more of the test's own subscriber. */
static uint32_t slots_for_all(void) {
  uint32_t budget = 1 + shape.publishers * SHARE;
  for (uint32_t i = 0; i < shape.subscribers; i++) budget += holds_of(i);
  return (budget + 1) * (shape.roomy ? ROOMY : 1);
}

/* Where the slots are few, subscribers go first: a publisher's share of what is left would leave too little for them.
 */
static void start_all(void) {
  for (uint32_t i = 0; i < shape.subscribers; i++) crew_start(&crew, PUBLISHERS_MAX + i, subscribe);
  while (!shape.roomy && atomic_load(&shared->subscribers_open) < shape.subscribers) {
    crew_look(&crew);
    sched_yield();
  }
  for (uint32_t i = 0; i < shape.publishers; i++) crew_start(&crew, i, publish);
}

static void run(slc_client *client, const struct shape *wanted) {
  slc_subscriber *keeper;
  slc_subscriber_options one = SLC_SUBSCRIBER_OPTIONS_INIT;
  one.max_holds = 1;
  int64_t began = slc__clock_ns();
  shape = *wanted;
  slots = slots_for_all();
  memset(shared, 0, sizeof *shared);
  snprintf(channel, sizeof channel, "matrix/%u-%u-%d-%d", shape.publishers, shape.subscribers, shape.reliable,
           shape.roomy);
  check_ok(slc_subscriber_open(client, channel, &one, &keeper));
  start_all();
  crew_join(&crew);
  assert_int_equal(aftermath_slots(client, channel, SLOT_SIZE), messages_each() * shape.publishers);
  slc_subscriber_close(keeper);
  print_message("%u -> %2u %s, %4u slots: received %ju, dropped %ju, would block %ju, %jd ms\n", shape.publishers,
                shape.subscribers, shape.reliable ? "reliable  " : "unreliable", slots, (uintmax_t)shared->received,
                (uintmax_t)shared->dropped, (uintmax_t)shared->would_block,
                (intmax_t)((slc__clock_ns() - began) / 1000000));
}

static bool is_chosen(uint32_t publishers, uint32_t subscribers) {
  if (all) return true;
  return (publishers == 1 || publishers == 3 || publishers == 8) &&
         (subscribers == 1 || subscribers == 5 || subscribers == 16);
}

static void run_matrix(bool reliable) {
  slc_client *client;
  check_ok(slc_client_open(NULL, &client));
  struct aftermath_before before = aftermath_note(&broker);
  for (uint32_t p = 1; p <= PUBLISHERS_MAX; p++) {
    for (uint32_t s = 1; s <= SUBSCRIBERS_MAX; s++) {
      for (int roomy = 0; is_chosen(p, s) && roomy < 2; roomy++)
        run(client, &(struct shape){.publishers = p, .subscribers = s, .reliable = reliable, .roomy = roomy != 0});
    }
  }
  aftermath_nothing_left(client, &broker, &before);
  slc_client_close(client);
}

static void test_matrix_unreliable(void **state) {
  (void)state;
  run_matrix(false);
}

static void test_matrix_reliable(void **state) {
  (void)state;
  run_matrix(true);
}

static int setup(void **state) {
  (void)state;
  test_broker_start(&broker);
  test_watchdog(WATCHDOG_S);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return shared == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state) {
  (void)state;
  munmap(shared, sizeof *shared);
  return test_broker_finish(&broker);
}

int main(int argc, char **argv) {
  all = argc > 1 && strcmp(argv[1], "all") == 0;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_matrix_unreliable, setup, teardown),
      cmocka_unit_test_setup_teardown(test_matrix_reliable, setup, teardown),
  };
  return cmocka_run_group_tests_name("broker_matrix", tests, NULL, NULL);
}

/* A broker killed in the middle of a stream, at volume.
 *
 * Two reliable publishers, and subscribers of each kind, are at work when the broker gets SIGKILL.  A million messages
 * later not one is missing, and the handles have said what the header says.  A new broker comes on another path while
 * the old stream is still going; its clients meet each other on a channel of the same name, and nobody meets the other
 * party.  Then all come to their ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "aftermath.h"
#include "crew.h"
#include "support/broker.h"
#include "support/check.h"
#include "traffic.h"

enum {
  PUBLISHERS = 2,
  SUBSCRIBERS = 4,
  OLD = PUBLISHERS + SUBSCRIBERS,
  YOUNG_PUBLISHER = OLD, /* the new broker's clients */
  YOUNG_SUBSCRIBER,
  SLOTS = 256,
  SLOT_SIZE = 64,
  WATCHDOG_S = 500,
  BEFORE = 20000, /* messages of each publisher: at least so many with the broker, */
  ALONE = 500000, /* without one, */
  BESIDE = 50000, /* and beside the new one */
  YOUNG = 20000,
};
#define CHANNEL "survival"

enum phase { WITH_BROKER, WITHOUT_BROKER, BESIDE_THE_NEW };

struct shared {
  _Atomic uint32_t opened;  /* subscribers, then publishers, then the young subscriber */
  _Atomic uint32_t phase;   /* enum phase; nobody stops for it */
  _Atomic uint32_t arrived; /* publishers that have sent what is due before the broker's death, then without */
  _Atomic uint32_t ending;  /* publishers that have one more message to send, */
  _Atomic uint64_t total;   /* and the messages of those, with that one */
  _Atomic uint64_t order[SUBSCRIBERS];
};

static struct test_broker broker, another_broker;
static struct crew crew;
static struct shared *shared;

/* The first two are reliable, the third takes the newest, the odd ones use the readiness descriptor. */
static bool is_reliable(uint32_t subscriber) {
  return subscriber < 2;
}

static slc_client *connect_client(void) {
  slc_client *client;
  int status = slc_client_open(NULL, &client);
  need(status == SLC_OK, "client_open: %s", slc_error_detail());
  return client;
}

static slc_publisher *open_publisher(slc_client *client) {
  slc_publisher *publisher;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  options.reliable = 1;
  int status = slc_publisher_open(client, CHANNEL, &options, &publisher);
  need(status == SLC_OK, "publisher_open: %s", slc_error_detail());
  return publisher;
}

/* ---- the old stream ---- */

static void check_publisher_stats(const struct traffic_writer *writer) {
  slc_publisher_stats stats = {.size = sizeof stats};
  int status = slc_publisher_stats_get(writer->publisher, &stats);
  need(status == SLC_OK, "%s", slc_error_detail());
  need(stats.messages == writer->sequence, "%ju of %ju", (uintmax_t)stats.messages, (uintmax_t)writer->sequence);
  need(stats.publishers == PUBLISHERS && stats.subscribers == SUBSCRIBERS, "%u and %u", stats.publishers,
       stats.subscribers);
}

/* Nothing of the broker's can be had, and each call says why. */
static void check_alone(slc_client *client) {
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_client *another;
  slc_channel_info *info;
  size_t count;
  int status = slc_publisher_open(client, CHANNEL, NULL, &publisher);
  need(status == SLC_BROKER_GONE, "publisher_open: %s", slc_status_name(status));
  status = slc_subscriber_open(client, CHANNEL, NULL, &subscriber);
  need(status == SLC_BROKER_GONE, "subscriber_open: %s", slc_status_name(status));
  status = slc_channel_inspect(client, CHANNEL, &info);
  need(status == SLC_BROKER_GONE, "channel_inspect: %s", slc_status_name(status));
  status = slc_channel_list(client, &info, &count);
  need(status == SLC_BROKER_GONE, "channel_list: %s", slc_status_name(status));
  status = slc_client_open(NULL, &another);
  need(status == SLC_NO_BROKER, "client_open: %s", slc_status_name(status));
}

static void send_many(struct traffic_writer *writer, uint64_t count) {
  while (count-- > 0) traffic_send(writer, NULL);
  check_publisher_stats(writer);
}

static void send_until(struct traffic_writer *writer, enum phase phase) {
  atomic_fetch_add(&shared->arrived, 1);
  while (atomic_load(&shared->phase) < (uint32_t)phase) traffic_send(writer, NULL);
}

static void publish(uint32_t number) {
  struct traffic_writer writer = {.life = number, .slot_size = SLOT_SIZE};
  slc_client *client = connect_client();
  writer.publisher = open_publisher(client);
  atomic_fetch_add(&shared->opened, 1);
  while (atomic_load(&shared->opened) < OLD) sched_yield(); /* nobody may be through before the other has come */
  send_many(&writer, BEFORE);
  send_until(&writer, WITHOUT_BROKER);
  check_alone(client);
  send_many(&writer, ALONE);
  send_until(&writer, BESIDE_THE_NEW);
  send_many(&writer, BESIDE);
  atomic_fetch_add(&shared->total, writer.sequence + 1);
  atomic_fetch_add(&shared->ending, 1);
  send_many(&writer, 1);
  slc_client_close(client);
}

/* The last message of all was sent after everybody had said how many there are. */
static bool is_over(struct traffic_reader *reader) {
  return atomic_load(&shared->ending) == PUBLISHERS && reader->last == atomic_load(&shared->total);
}

/* After the end: nothing comes, and nobody is left waiting for it. */
static void check_end(struct traffic_reader *reader, slc_client *client) {
  slc_channel_info *info;
  int fd;
  slc_subscriber_wait(reader->subscriber, 0); /* may tell of the publishers' coming, if it never had to wait before */
  int status = slc_subscriber_wait(reader->subscriber, 0);
  need(status == SLC_TIMED_OUT, "%s", slc_status_name(status));
  status = slc_channel_inspect(client, CHANNEL, &info);
  need(status == SLC_BROKER_GONE, "%s", slc_status_name(status));
  status = slc_subscriber_fd(reader->subscriber, &fd);
  need(status == (reader->fd < 0 ? SLC_BROKER_GONE : SLC_OK), "%s", slc_status_name(status));
}

static void subscribe(uint32_t number) {
  static struct traffic_reader reader;
  uint32_t subscriber = number - PUBLISHERS;
  reader = (struct traffic_reader){.slot_size = SLOT_SIZE,
                                   .gapless = is_reliable(subscriber),
                                   .complete = is_reliable(subscriber),
                                   .newest = subscriber == 2,
                                   .max_held = 1 + subscriber};
  slc_client *client = connect_client();
  traffic_open(&reader, client, CHANNEL, subscriber % 2 == 1);
  atomic_fetch_add(&shared->opened, 1);
  traffic_run(&reader, is_over);
  need(!reader.gapless || reader.received == reader.last, "%ju of %ju", (uintmax_t)reader.received,
       (uintmax_t)reader.last);
  atomic_store(&shared->order[subscriber], reader.order);
  check_end(&reader, client);
  slc_client_close(client);
}

/* ---- the new broker's clients ---- */

static void publish_young(uint32_t number) {
  struct traffic_writer writer = {.life = number, .slot_size = SLOT_SIZE};
  slc_client *client = connect_client();
  writer.publisher = open_publisher(client);
  while (writer.sequence < YOUNG) traffic_send(&writer, NULL);
  slc_client_close(client);
}

static bool is_over_young(struct traffic_reader *reader) {
  slc_subscriber_stats stats = traffic_stats(reader);
  return stats.publishers_joined == 1 && stats.publishers == 0;
}

static void subscribe_young(uint32_t number) {
  static struct traffic_reader reader = {.slot_size = SLOT_SIZE, .gapless = true, .complete = true, .max_held = 2};
  slc_client *client = connect_client();
  (void)number;
  traffic_open(&reader, client, CHANNEL, false);
  atomic_fetch_add(&shared->opened, 1);
  traffic_run(&reader, is_over_young);
  need(reader.received == YOUNG && reader.next[YOUNG_PUBLISHER] == YOUNG, "%ju", (uintmax_t)reader.received);
  slc_client_close(client);
}

/* ---- the story ---- */

static void await(const _Atomic uint32_t *word, uint32_t value) {
  while (atomic_load(word) < value) {
    crew_look(&crew);
    sched_yield();
  }
}

static void begin(void) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(shared, MAP_FAILED);
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) crew_start(&crew, PUBLISHERS + i, subscribe);
  await(&shared->opened, SUBSCRIBERS);
  for (uint32_t i = 0; i < PUBLISHERS; i++) crew_start(&crew, i, publish);
}

static void begin_young(void) {
  crew_start(&crew, YOUNG_SUBSCRIBER, subscribe_young);
  await(&shared->opened, OLD + 1);
  crew_start(&crew, YOUNG_PUBLISHER, publish_young);
}

static void test_survival(void **state) {
  (void)state;
  test_watchdog(WATCHDOG_S);
  begin();
  await(&shared->arrived, PUBLISHERS);
  test_broker_kill(&broker);
  atomic_store(&shared->phase, WITHOUT_BROKER);
  await(&shared->arrived, 2 * PUBLISHERS);
  test_broker_start(&another_broker);
  test_watchdog(WATCHDOG_S);
  slc_client *client;
  check_ok(slc_client_open(NULL, &client));
  struct aftermath_before before = aftermath_note(&another_broker);
  atomic_store(&shared->phase, BESIDE_THE_NEW);
  begin_young();
  crew_join(&crew);
  print_message("%ju messages\n", (uintmax_t)atomic_load(&shared->total));
  assert_int_equal(atomic_load(&shared->order[0]), atomic_load(&shared->order[1]));
  aftermath_nothing_left(client, &another_broker, &before);
  slc_client_close(client);
  munmap(shared, sizeof *shared);
  assert_int_equal(test_broker_finish(&another_broker), 0);
}

static int setup(void **state) {
  (void)state;
  test_broker_start(&broker);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  return test_broker_finish(&broker);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_survival, setup, teardown)};
  return cmocka_run_group_tests_name("survival", tests, NULL, NULL);
}

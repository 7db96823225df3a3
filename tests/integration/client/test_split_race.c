/* The race for the memory of a split channel: processes that open it, and make it grow, at the same instant.  All of
 * them have to use one set of payloads: what each writes every one reads, whole.
 *
 *   test_split_race [ROUNDS]   default 30 */
#include "common.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  RACERS = 8,
  SLOTS = 64,
  SLOT_SIZE = 600,
  EACH = 20, /* messages of each racer in each phase: more than there are slots, all together */
  ROUNDS = 30,
};

struct race {
  pthread_barrier_t barrier;
  pid_t broker;
  int rounds;
  bool grows;
};

struct racer {
  struct race *race;
  uint32_t number;
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  uint32_t sent, received; /* in this phase */
  uint32_t next[RACERS];   /* of each racer's messages in this phase */
};

/* Ends this process: the others wait for it, and are ended by whoever waits for all. */
#define need(condition, ...)                                                                                           \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "racer %u: " #condition ": ", racer->number);                                                    \
      fprintf(stderr, __VA_ARGS__);                                                                                    \
      fprintf(stderr, " (%s)\n", slc_error_detail());                                                                  \
      _exit(1);                                                                                                        \
    }                                                                                                                  \
  } while (0)

static void together(const struct racer *racer) {
  pthread_barrier_wait(&racer->race->barrier);
}

/* ---- messages: who, which one, and a payload full of that ---- */

struct content {
  uint32_t racer, number, size;
};

static uint8_t filling(const struct content *content, size_t at) {
  return (uint8_t)(content->racer * 37 + content->number * 11 + at * 3 + 1);
}

static void content_write(uint8_t *data, const struct content *content) {
  memcpy(data, content, sizeof *content);
  for (size_t i = sizeof *content; i < content->size; i++) data[i] = filling(content, i);
}

static void content_check(struct racer *racer, const slc_message *message) {
  struct content content;
  const uint8_t *data = message->data;
  need(message->size >= sizeof content, "message %ju has %zu bytes", (uintmax_t)message->ordinal, message->size);
  memcpy(&content, data, sizeof content);
  need(content.racer < RACERS && content.size == message->size, "message %ju is not what a racer wrote",
       (uintmax_t)message->ordinal);
  need(content.number == racer->next[content.racer], "message %u of racer %u where %u is due", content.number,
       content.racer, racer->next[content.racer]);
  racer->next[content.racer]++;
  for (size_t i = sizeof content; i < content.size; i++)
    need(data[i] == filling(&content, i), "message %ju, byte %zu of %zu", (uintmax_t)message->ordinal, i,
         message->size);
}

/* ---- one phase: everybody sends, everybody reads everything ---- */

static void take_all(struct racer *racer) {
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(racer->subscriber, &message)) == 0) {
    content_check(racer, &message);
    need(slc_subscriber_release(racer->subscriber, &message) == 0, "release");
    racer->received++;
  }
  need(status == SLC_EMPTY, "take: %s", slc_status_name(status));
}

static void try_send(struct racer *racer, uint32_t size) {
  const struct content content = {.racer = racer->number, .number = racer->sent, .size = size};
  slc_loan loan;
  int status = slc_publisher_loan(racer->publisher, size, &loan);
  if (status == SLC_WOULD_BLOCK) return;
  need(status == 0, "loan: %s", slc_status_name(status));
  content_write(loan.data, &content);
  need(slc_publisher_publish(racer->publisher, &loan, size, NULL) == 0, "publish");
  racer->sent++;
}

static void exchange(struct racer *racer, uint32_t size) {
  racer->sent = racer->received = 0;
  memset(racer->next, 0, sizeof racer->next);
  while (racer->sent < EACH || racer->received < RACERS * EACH) {
    if (racer->sent < EACH) try_send(racer, size);
    take_all(racer);
    if (racer->sent == EACH && racer->received < RACERS * EACH) slc_subscriber_wait(racer->subscriber, MS);
  }
  together(racer);
  take_all(racer);
  need(racer->received == RACERS * EACH, "%u messages", racer->received);
  together(racer);
}

/* ---- rounds ---- */

static void open_at_once(struct racer *racer, const char *channel) {
  slc_subscriber_options reading = SLC_SUBSCRIBER_OPTIONS_INIT;
  reading.reliable = 1;
  need(slc_subscriber_open(racer->client, channel, &reading, &racer->subscriber) == 0, "subscribe");
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  options.reliable = 1;
  options.slots_per_object = racer->number % 3 + 1; /* whose memory it is differs from slot to slot */
  together(racer);
  need(slc_publisher_open(racer->client, channel, &options, &racer->publisher) == 0, "publish");
}

/* The channel has gone, and with it all that was registered: won, lost, or superseded. */
static void check_leaks(struct racer *racer, int mine, int of_broker) {
  int now = test_descriptors_of(getpid());
  need(now == mine, "%d descriptors where there were %d", now, mine);
  if (racer->number != 0) return;
  int broker_now = test_descriptors_of(racer->race->broker);
  need(broker_now == of_broker, "the broker has %d descriptors and had %d", broker_now, of_broker);
}

static void round_run(struct racer *racer, int number) {
  char channel[64];
  snprintf(channel, sizeof channel, "race/%d", number);
  int mine = test_descriptors_of(getpid()), of_broker = test_descriptors_of(racer->race->broker);
  together(racer);
  open_at_once(racer, channel);
  exchange(racer, SLOT_SIZE - racer->number);
  if (racer->race->grows) {
    exchange(racer, 2 * SLOT_SIZE + 300 * racer->number); /* each wants another size */
    exchange(racer, 20000);
  }
  slc_publisher_close(racer->publisher);
  slc_subscriber_close(racer->subscriber);
  together(racer);
  check_leaks(racer, mine, of_broker);
  together(racer);
}

static _Noreturn void racer_run(struct race *race, uint32_t number) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct racer instance = {.race = race, .number = number}, *racer = &instance;
  need(slc_client_open(NULL, &racer->client) == 0, "client");
  together(racer);
  for (int i = 0; i < race->rounds; i++) round_run(racer, i);
  slc_client_close(racer->client);
  _exit(0);
}

/* ---- the tests ---- */

static int rounds_wanted = ROUNDS;

static void run_race(const struct test_broker *broker, bool grows) {
  struct race *race = mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(race != MAP_FAILED);
  *race = (struct race){.broker = broker->pid, .rounds = rounds_wanted, .grows = grows};
  pthread_barrierattr_t attributes;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&race->barrier, &attributes, RACERS);
  test_watchdog(TEST_WATCHDOG_SECONDS + 2 * (unsigned)rounds_wanted);
  pid_t racers[RACERS];
  for (uint32_t i = 0; i < RACERS; i++) {
    racers[i] = fork();
    assert_true(racers[i] >= 0);
    if (racers[i] == 0) racer_run(race, i);
  }
  int failed = 0;
  for (int i = 0; i < RACERS; i++) {
    int status = 0;
    wait(&status);
    if (status == 0) continue;
    if (failed++ > 0) continue;
    for (int k = 0; k < RACERS; k++) kill(racers[k], SIGKILL); /* they wait for the one that failed */
  }
  munmap(race, sizeof *race);
  assert_int_equal(failed, 0);
}

static void test_split_race_to_open(void **state) {
  run_race(*state, false);
}

static void test_split_race_to_grow(void **state) {
  run_race(*state, true);
}

int main(int argc, char **argv) {
  if (argc > 1) rounds_wanted = atoi(argv[1]);
  const struct CMUnitTest tests[] = {BROKER_TEST(test_split_race_to_open), BROKER_TEST(test_split_race_to_grow)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}

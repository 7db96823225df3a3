/* A thousand deaths among the clients of a real broker, at random moments: while they connect, open, publish, take,
 * hold, wait.
 *
 * Two channels, one reliable and one not.  On each, some publishers and subscribers live through all of it and their
 * streams must stay whole; beside them others are killed with SIGKILL wherever they happen to be, and replaced.  At the
 * end every message and every slot is accounted for, and nothing is left: no user, no channel, no descriptor of the
 * broker's, no name in /dev/shm.
 *
 * Arguments: the number of kills, and the seed that an earlier run has printed.  The moments of death are the
 * machine's, so a seed brings the same victims back, and not the same interleaving. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "aftermath.h"
#include "crew.h"
#include "support/broker.h"
#include "support/check.h"
#include "traffic.h"

enum {
  SLOTS = 128,
  SLOT_SIZE = 200,
  CHANNELS = 2,
  WATCHDOG_S = 800,
  YIELD_EACH = 8,         /* unreliable publishers wait for nobody: let others run */
  PROGRESS_MAX = 30,      /* messages that a victim may see first */
  SPIN_OPENING = 2000000, /* a while that may end anywhere between fork and the first message */
  SPIN_WORKING = 4000,
};

static const char *const channels[CHANNELS] = {"storm/reliable", "storm/unreliable"};

enum role { PUBLISHER, SUBSCRIBER };

struct seat {
  uint32_t channel; /* 0 is the reliable one */
  enum role role;
  bool survives;
  uint32_t max_held;
  bool gapless, newest, use_fd;
};

static const struct seat seats[] = {
    {.channel = 0, .role = SUBSCRIBER, .survives = true, .max_held = 1, .gapless = true},
    {.channel = 0, .role = SUBSCRIBER, .survives = true, .max_held = 4, .gapless = true, .use_fd = true},
    {.channel = 0, .role = SUBSCRIBER, .survives = true, .max_held = 2, .newest = true},
    {.channel = 1, .role = SUBSCRIBER, .survives = true, .max_held = 3},
    {.channel = 1, .role = SUBSCRIBER, .survives = true, .max_held = 1, .newest = true, .use_fd = true},
    {.channel = 0, .role = PUBLISHER, .survives = true},
    {.channel = 0, .role = PUBLISHER, .survives = true},
    {.channel = 1, .role = PUBLISHER, .survives = true},
    {.channel = 0, .role = PUBLISHER},
    {.channel = 0, .role = PUBLISHER},
    {.channel = 0, .role = SUBSCRIBER, .max_held = 3, .gapless = true},
    {.channel = 0, .role = SUBSCRIBER, .max_held = 2, .gapless = true, .use_fd = true},
    {.channel = 0, .role = SUBSCRIBER, .max_held = 5, .use_fd = true},
    {.channel = 1, .role = PUBLISHER},
    {.channel = 1, .role = PUBLISHER},
    {.channel = 1, .role = SUBSCRIBER, .max_held = 4},
    {.channel = 1, .role = SUBSCRIBER, .max_held = 1, .newest = true},
    {.channel = 1, .role = SUBSCRIBER, .max_held = 2, .use_fd = true},
};
enum { SEATS = sizeof seats / sizeof seats[0], FIRST_PUBLISHER = 5, FIRST_MORTAL = 8 };

/* What a surviving subscriber leaves behind. */
struct testament {
  uint64_t received, dropped, last, order;
  uint64_t next[TRAFFIC_LIVES];
};

struct shared {
  _Atomic uint32_t opened;                   /* subscribers, before the first publisher */
  _Atomic uint32_t stop;                     /* the survivors end */
  _Atomic uint64_t progress[SEATS];          /* messages of the present incarnation */
  _Atomic uint64_t published[TRAFFIC_LIVES]; /* of each life, as far as it knew itself */
  struct testament testaments[SEATS];
};

static struct test_broker broker;
static struct crew crew;
static struct shared *shared;
static uint32_t lives, life_of[SEATS];
static uint32_t life_channel[TRAFFIC_LIVES];
static uint64_t seed;
static uint32_t kills = 1000, early_kills;

/* ---- the participants ---- */

static slc_client *connect_client(void) {
  slc_client *client;
  int status = slc_client_open(NULL, &client);
  need(status == SLC_OK, "client_open: %s", slc_error_detail());
  return client;
}

static void publish(uint32_t number) {
  const struct seat *seat = &seats[number];
  struct traffic_writer writer = {.life = life_of[number], .slot_size = SLOT_SIZE};
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  options.reliable = seat->channel == 0;
  slc_client *client = connect_client();
  int status = slc_publisher_open(client, channels[seat->channel], &options, &writer.publisher);
  need(status == SLC_OK, "publisher_open: %s", slc_error_detail());
  bool last;
  do {
    last = atomic_load(&shared->stop) != 0; /* one more after the storm: the channel still works */
    traffic_send(&writer, NULL);
    atomic_store(&shared->published[writer.life], writer.sequence);
    atomic_fetch_add(&shared->progress[number], 1);
    if (seat->channel != 0 && writer.sequence % YIELD_EACH == 0) sched_yield();
  } while (!last);
  slc_client_close(client);
}

static bool is_over(struct traffic_reader *reader) {
  return atomic_load(&shared->stop) != 0 && traffic_stats(reader).publishers == 0;
}

static void bequeath(struct testament *testament, struct traffic_reader *reader) {
  testament->received = reader->received;
  testament->dropped = traffic_stats(reader).dropped;
  testament->last = reader->last;
  testament->order = reader->order;
  memcpy(testament->next, reader->next, sizeof testament->next);
}

static struct traffic_reader reader;
static uint32_t reader_seat;

static void progress(struct traffic_reader *self) {
  atomic_store(&shared->progress[reader_seat], self->received);
}

static void subscribe(uint32_t number) {
  const struct seat *seat = &seats[number];
  reader_seat = number;
  reader = (struct traffic_reader){.slot_size = SLOT_SIZE,
                                   .gapless = seat->gapless,
                                   .complete = seat->gapless && seat->survives,
                                   .newest = seat->newest,
                                   .max_held = seat->max_held,
                                   .seen = progress};
  slc_client *client = connect_client();
  traffic_open(&reader, client, channels[seat->channel], seat->use_fd);
  atomic_fetch_add(&shared->opened, 1);
  traffic_run(&reader, is_over);
  bequeath(&shared->testaments[number], &reader);
  slc_client_close(client);
}

static void sit_down(uint32_t number) {
  atomic_store(&shared->progress[number], 0);
  if (seats[number].role == SUBSCRIBER) {
    crew_start(&crew, number, subscribe);
    return;
  }
  assert_true(lives < TRAFFIC_LIVES);
  life_of[number] = lives;
  life_channel[lives++] = seats[number].channel;
  crew_start(&crew, number, publish);
}

/* ---- the storm ---- */

static uint32_t random_below(uint32_t bound) {
  seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
  return (uint32_t)(seed >> 33) % bound;
}

static void spin(uint32_t most) {
  for (volatile uint32_t left = random_below(most); left > 0; left--) {
  }
}

/* One time in four it may not even have connected; else it has done something, and then a little more. */
static void let_it_live(uint32_t number) {
  uint64_t enough = random_below(PROGRESS_MAX);
  if (random_below(4) == 0) {
    spin(SPIN_OPENING);
    return;
  }
  while (atomic_load(&shared->progress[number]) < enough) {
    crew_look(&crew);
    sched_yield();
  }
  spin(SPIN_WORKING);
}

static void kill_somebody(void) {
  uint32_t victim = FIRST_MORTAL + random_below(SEATS - FIRST_MORTAL);
  let_it_live(victim);
  early_kills += atomic_load(&shared->progress[victim]) == 0;
  crew_kill(&crew, victim);
  sit_down(victim);
}

static void begin(void) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(shared, MAP_FAILED);
  for (uint32_t i = 0; i < FIRST_PUBLISHER; i++) sit_down(i);
  while (atomic_load(&shared->opened) < FIRST_PUBLISHER) {
    crew_look(&crew);
    sched_yield();
  }
  for (uint32_t i = FIRST_PUBLISHER; i < SEATS; i++) sit_down(i);
}

static void end(void) {
  for (uint32_t i = FIRST_MORTAL; i < SEATS; i++) crew_kill(&crew, i);
  crew_look(&crew);
  atomic_store(&shared->stop, 1);
  crew_join(&crew);
}

/* ---- afterwards: the messages ---- */

/* A life that was killed may have published one more than it knew of. */
static bool is_all_of(uint32_t life, uint64_t count) {
  uint64_t known = atomic_load(&shared->published[life]);
  bool survived = life < FIRST_MORTAL - FIRST_PUBLISHER;
  return count == known || (!survived && count == known + 1);
}

static void check_gapless(uint32_t number) {
  const struct testament *testament = &shared->testaments[number];
  uint64_t sum = 0;
  for (uint32_t life = 0; life < lives; life++) {
    uint64_t count = testament->next[life];
    sum += count;
    if (life_channel[life] != seats[number].channel)
      assert_int_equal(count, 0);
    else if (!is_all_of(life, count))
      fail_msg("subscriber %u has %ju messages of publisher %u, who published %ju", number, (uintmax_t)count, life,
               (uintmax_t)atomic_load(&shared->published[life]));
  }
  assert_int_equal(sum, testament->received);
  assert_int_equal(testament->last, testament->received);
}

/* It was there before the first message: what it did not get was dropped. */
static void check_counted(uint32_t number, uint64_t messages) {
  const struct testament *testament = &shared->testaments[number];
  assert_int_equal(testament->last, messages);
  if (!seats[number].newest) assert_int_equal(testament->received + testament->dropped, messages);
}

static void check_messages(uint32_t channel, uint64_t messages) {
  for (uint32_t i = 0; i < FIRST_PUBLISHER; i++) {
    if (seats[i].channel != channel) continue;
    check_counted(i, messages);
    if (!seats[i].gapless) continue;
    check_gapless(i);
    assert_int_equal(shared->testaments[i].order, shared->testaments[0].order); /* all saw the same, in one order */
  }
}

/* ---- afterwards: the slots ---- */

/* A newcomer can still use every slot but those that it keeps in hand. */
static void check_every_slot_serves(slc_client *client, uint32_t channel) {
  struct traffic_writer writer = {.life = TRAFFIC_LIVES - 1, .slot_size = SLOT_SIZE};
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = channel == 0;
  check_ok(slc_publisher_open(client, channels[channel], &options, &writer.publisher));
  for (int i = 0; i < 3 * SLOTS; i++) traffic_send(&writer, NULL);
  slc_channel_info *info = aftermath_inspect(client, channels[channel], 2);
  uint32_t share = info->budget_used - info->users[0].max; /* the publisher's; the keeper came first */
  assert_false(info->users[0].is_publisher);
  assert_int_equal(info->slots_free, 0);
  assert_true(info->slots_owned <= share);
  assert_int_equal(info->slots_owned + info->slots_published, SLOTS);
  slc_channel_info_free(info);
  slc_publisher_close(writer.publisher);
  aftermath_slots(client, channels[channel], SLOT_SIZE);
}

static void test_storm(void **state) {
  (void)state;
  test_watchdog(WATCHDOG_S);
  slc_client *client;
  slc_subscriber *keepers[CHANNELS];
  check_ok(slc_client_open(NULL, &client));
  struct aftermath_before before = aftermath_note(&broker);
  print_message("%u kills, seed %ju\n", kills, (uintmax_t)seed);
  begin();
  for (uint32_t i = 0; i < kills; i++) kill_somebody();
  print_message("%u of them before the first message\n", early_kills);
  for (uint32_t i = 0; i < CHANNELS; i++) check_ok(slc_subscriber_open(client, channels[i], NULL, &keepers[i]));
  end();
  for (uint32_t i = 0; i < CHANNELS; i++) {
    uint64_t messages = aftermath_slots(client, channels[i], SLOT_SIZE);
    print_message("%s: %ju messages\n", channels[i], (uintmax_t)messages);
    check_messages(i, messages);
    check_every_slot_serves(client, i);
    slc_subscriber_close(keepers[i]);
  }
  aftermath_nothing_left(client, &broker, &before);
  slc_client_close(client);
  munmap(shared, sizeof *shared);
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

int main(int argc, char **argv) {
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed) return CREW_FAILED;
  if (argc > 1) kills = (uint32_t)strtoul(argv[1], NULL, 10);
  if (argc > 2) seed = strtoull(argv[2], NULL, 10);
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_storm, setup, teardown)};
  return cmocka_run_group_tests_name("broker_storm", tests, NULL, NULL);
}

/* Nothing is lost and nobody notices, while brokers, shadows and clients are killed at random moments, all mixed, and
 * started again.
 *
 * Four channels: a plain one, a split one and a multiplexer that are reliable, and a plain one that is not.  On each a
 * publisher and a subscriber live through all of it; beside them others are killed wherever they happen to be, and
 * replaced.  Only what cannot be survived is left out: that all shadows who have everything die (keepers.h).  At the
 * end every reliable subscriber has had every message of those who lived, once and in order; every slot is accounted
 * for; and nothing is left: no user, no channel, no name in /dev/shm, no descriptor of any process.
 *
 * Arguments: how often the broker, a shadow and a client are killed; how many shadows; and the seed that an earlier run
 * has printed.  The moments of death are the machine's, so a seed brings the same victims back, and not the same
 * interleaving. */
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
#include <sys/resource.h>

#include "aftermath.h"
#include "crew.h"
#include "keepers.h"
#include "support/broker.h"
#include "support/check.h"
#include "traffic.h"

enum {
  SLOTS = 128,
  SLOT_SIZE = 200,
  CHANNELS = 4,
  WATCHDOG_S = 3600,
  YIELD_EACH = 8,         /* unreliable publishers wait for nobody: let others run */
  PROGRESS_MAX = 30,      /* messages that a victim may see first */
  SPIN_OPENING = 2000000, /* a while that may end anywhere between fork and the first message */
  SPIN_WORKING = 4000,
};

struct kind {
  const char *name;
  const char *multiplexer; /* that publishers open `name` in; subscribers have the whole of it */
  int split;
  bool reliable;
};
static const struct kind kinds[CHANNELS] = {
    {.name = "storm/plain", .reliable = true},
    {.name = "storm/split", .reliable = true, .split = 1},
    {.name = "left", .reliable = true, .multiplexer = "storm/virtual"},
    {.name = "storm/unreliable"},
};

static const char *channel_name(uint32_t channel) {
  return kinds[channel].multiplexer != NULL ? kinds[channel].multiplexer : kinds[channel].name;
}

enum role { PUBLISHER, SUBSCRIBER };

struct seat {
  uint32_t channel;
  enum role role;
  bool survives;
  uint32_t max_held;
  bool gapless, newest, use_fd;
};

static const struct seat seats[] = {
    {.channel = 0, .role = SUBSCRIBER, .survives = true, .max_held = 4, .gapless = true, .use_fd = true},
    {.channel = 1, .role = SUBSCRIBER, .survives = true, .max_held = 2, .gapless = true},
    {.channel = 2, .role = SUBSCRIBER, .survives = true, .max_held = 3, .gapless = true},
    {.channel = 3, .role = SUBSCRIBER, .survives = true, .max_held = 3},
    {.channel = 0, .role = PUBLISHER, .survives = true},
    {.channel = 1, .role = PUBLISHER, .survives = true},
    {.channel = 2, .role = PUBLISHER, .survives = true},
    {.channel = 3, .role = PUBLISHER, .survives = true},
    {.channel = 0, .role = PUBLISHER},
    {.channel = 1, .role = PUBLISHER},
    {.channel = 2, .role = PUBLISHER},
    {.channel = 3, .role = PUBLISHER},
    {.channel = 0, .role = SUBSCRIBER, .max_held = 3, .gapless = true},
    {.channel = 1, .role = SUBSCRIBER, .max_held = 2, .gapless = true, .use_fd = true},
    {.channel = 2, .role = SUBSCRIBER, .max_held = 5, .gapless = true, .use_fd = true},
    {.channel = 2, .role = SUBSCRIBER, .max_held = 5, .use_fd = true},
    {.channel = 3, .role = SUBSCRIBER, .max_held = 1, .newest = true},
};
enum { SEATS = sizeof seats / sizeof seats[0], FIRST_PUBLISHER = 4, FIRST_MORTAL = 8 };

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
static struct keepers keepers;
static slc_client *watcher; /* the test's own */
static struct crew crew;
static struct shared *shared;
static uint32_t lives, life_of[SEATS];
static uint32_t life_channel[TRAFFIC_LIVES];
static uint64_t seed;
static uint32_t kills[3] = {30, 10, 30}; /* of brokers, shadows, clients */
static int shadows = 2;

/* ---- the participants ---- */

/* There are many more of them than processors: brokers, shadows and the test itself go first. */
static void stand_back(void) {
  need(setpriority(PRIO_PROCESS, 0, 15) == 0, "setpriority");
}

static slc_client *connect_client(void) {
  slc_client *client;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.reconnect_timeout_ns = -1;
  int status = slc_client_open(&options, &client);
  /* Who comes where there is no broker is told so, and has nothing that could outlive it. */
  while (status == SLC_NO_BROKER || status == SLC_BROKER_GONE) {
    sched_yield();
    status = slc_client_open(&options, &client);
  }
  need(status == SLC_OK, "client_open: %s", slc_error_detail());
  return client;
}

/* A client that has closed has no descriptor more than before it opened. */
static void close_client(slc_client *client, int descriptors) {
  slc_client_close(client);
  need(test_descriptors_of(getpid()) == descriptors, "%d descriptors, and %d before", test_descriptors_of(getpid()),
       descriptors);
}

static void publish(uint32_t number) {
  stand_back();
  const struct seat *seat = &seats[number];
  struct traffic_writer writer = {.life = life_of[number], .slot_size = SLOT_SIZE};
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  options.reliable = kinds[seat->channel].reliable;
  options.multiplexer = kinds[seat->channel].multiplexer;
  options.split = kinds[seat->channel].split;
  int descriptors = test_descriptors_of(getpid());
  slc_client *client = connect_client();
  int status = slc_publisher_open(client, kinds[seat->channel].name, &options, &writer.publisher);
  need(status == SLC_OK, "publisher_open: %s", slc_error_detail());
  bool last;
  do {
    last = atomic_load(&shared->stop) != 0; /* one more after the storm: the channel still works */
    traffic_send(&writer, NULL);
    atomic_store(&shared->published[writer.life], writer.sequence);
    atomic_fetch_add(&shared->progress[number], 1);
    if (!options.reliable && writer.sequence % YIELD_EACH == 0) sched_yield();
  } while (!last);
  close_client(client, descriptors);
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
  stand_back();
  const struct seat *seat = &seats[number];
  reader_seat = number;
  reader = (struct traffic_reader){.slot_size = SLOT_SIZE,
                                   .gapless = seat->gapless,
                                   .complete = seat->gapless && seat->survives,
                                   .newest = seat->newest,
                                   .max_held = seat->max_held,
                                   .seen = progress};
  int descriptors = test_descriptors_of(getpid());
  slc_client *client = connect_client();
  traffic_open(&reader, client, channel_name(seat->channel), seat->use_fd);
  atomic_fetch_add(&shared->opened, 1);
  traffic_run(&reader, is_over);
  bequeath(&shared->testaments[number], &reader);
  close_client(client, descriptors);
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

static void look_at_crew(void) {
  crew_look(&crew);
}

static void kill_client(void) {
  uint32_t victim = FIRST_MORTAL + random_below(SEATS - FIRST_MORTAL);
  let_it_live(victim);
  crew_kill(&crew, victim);
  sit_down(victim);
}

/* One time in four it may not even have recovered; else it has answered somebody, and then goes on a little. */
static void let_broker_serve(void) {
  slc_channel_info *list;
  size_t count;
  if (random_below(4) != 0) {
    check_ok(slc_channel_list(watcher, &list, &count));
    slc_channel_list_free(list, count);
  }
  spin(SPIN_OPENING);
}

static void kill_somebody(void) {
  uint32_t one = random_below(kills[0] + kills[1] + kills[2]);
  if (one < kills[0]) {
    kills[0]--;
    let_broker_serve();
    keepers_kill_broker(&keepers, look_at_crew);
  } else if (one < kills[0] + kills[1]) {
    kills[1]--;
    keepers_kill_shadow(&keepers, (int)random_below((uint32_t)shadows), look_at_crew);
  } else {
    kills[2]--;
    kill_client();
  }
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
  }
}

/* ---- afterwards: the slots ---- */

/* A newcomer can still use every slot but those that it keeps in hand. */
static void check_every_slot_serves(slc_client *client, uint32_t channel) {
  struct traffic_writer writer = {.life = TRAFFIC_LIVES - 1, .slot_size = SLOT_SIZE};
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = kinds[channel].reliable;
  options.multiplexer = kinds[channel].multiplexer;
  options.split = kinds[channel].split;
  check_ok(slc_publisher_open(client, kinds[channel].name, &options, &writer.publisher));
  for (int i = 0; i < 3 * SLOTS; i++) traffic_send(&writer, NULL);
  slc_channel_info *info = aftermath_inspect(client, channel_name(channel), 2);
  uint32_t share = info->budget_used - info->users[0].max; /* the publisher's; the keeper came first */
  assert_false(info->users[0].is_publisher);
  assert_int_equal(info->slots_free, 0);
  assert_true(info->slots_owned <= share);
  assert_int_equal(info->slots_owned + info->slots_published, SLOTS);
  slc_channel_info_free(info);
  slc_publisher_close(writer.publisher);
  aftermath_slots(client, channel_name(channel), SLOT_SIZE);
}

static void check_channel(slc_client *client, uint32_t channel, slc_subscriber *keeper) {
  uint64_t messages = aftermath_slots(client, channel_name(channel), SLOT_SIZE);
  print_message("%s: %ju messages\n", channel_name(channel), (uintmax_t)messages);
  check_messages(channel, messages);
  check_every_slot_serves(client, channel);
  slc_subscriber_close(keeper);
}

static void test_storm(void **state) {
  (void)state;
  slc_subscriber *left[CHANNELS];
  slc_client *client = watcher = connect_client();
  struct aftermath_before before = aftermath_note(&broker);
  print_message("%u brokers, %u shadows, %u clients killed; %d shadows, seed %ju\n", kills[0], kills[1], kills[2],
                shadows, (uintmax_t)seed);
  begin();
  while (kills[0] + kills[1] + kills[2] > 0) kill_somebody();
  keepers_settle(&keepers, look_at_crew);
  for (uint32_t i = 0; i < CHANNELS; i++) check_ok(slc_subscriber_open(client, channel_name(i), NULL, &left[i]));
  end();
  for (uint32_t i = 0; i < CHANNELS; i++) check_channel(client, i, left[i]);
  aftermath_nothing_left(client, &broker, &before);
  keepers_nothing_left(&keepers);
  slc_client_close(client);
  munmap(shared, sizeof *shared);
}

static int setup(void **state) {
  (void)state;
  keepers_start(&keepers, &broker, shadows);
  test_watchdog(WATCHDOG_S);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  int faults = test_broker_finish(&broker);
  keepers_finish(&keepers);
  return faults;
}

int main(int argc, char **argv) {
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed) return CREW_FAILED;
  for (int i = 0; i < 3 && i + 1 < argc; i++) kills[i] = (uint32_t)strtoul(argv[i + 1], NULL, 10);
  if (argc > 4) shadows = strtoul(argv[4], NULL, 10) == 1 ? 1 : 2;
  if (argc > 5) seed = strtoull(argv[5], NULL, 10);
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_storm, setup, teardown)};
  return cmocka_run_group_tests_name("restart_storm", tests, NULL, NULL);
}

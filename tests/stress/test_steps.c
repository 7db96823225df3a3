/* A kill at each step of the protocol.  A client goes through all exchanges there are: it connects, opens, registers
 * payloads, publishes, joins, grows, closes and leaves; the broker recovers, loads, has everything put and committed,
 * and is reclaimed from.  In each round one process, the broker, a shadow or the client, is killed before or after one
 * of its messages.  Then the client, if it lives, must have done everything as if nothing had been; another client
 * must be able to; and nothing may be left of the dead: no channel, no user, no slot, no descriptor.
 *
 * Arguments: how many steps of each victim (0: all; a sample is the default), and the first one that is taken, as an
 * earlier run has printed it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aftermath.h"
#include "crew.h"
#include "keepers.h"
#include "mortal.h"
#include "support/broker.h"
#include "support/check.h"
#include "support/daemon.h"

#define PLAIN "steps/plain"
enum { SLOTS = 16, SMALL = 64, LARGE = 5000, SAMPLE = 16, WATCHDOG_S = 3600 };

static struct test_broker broker;
static struct keepers keepers;
static struct mortal_page *page;
static int page_fd;
static uint32_t steps_wanted = SAMPLE, first_step; /* 0: any */

/* ---- the client's life: an own process --------------------------------------------------------------------------- */

static slc_client *connect_client(void) {
  slc_client *client;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.reconnect_timeout_ns = -1;
  int status;
  while ((status = slc_client_open(&options, &client)) == SLC_NO_BROKER) sched_yield();
  need(status == SLC_OK, "client_open: %s", slc_error_detail());
  return client;
}

static void send(slc_publisher *publisher, size_t size) {
  slc_loan loan;
  int status = slc_publisher_loan(publisher, size, &loan);
  need(status == SLC_OK, "loan: %s", slc_error_detail());
  memset(loan.data, 'x', size);
  status = slc_publisher_publish(publisher, &loan, size, NULL);
  need(status == SLC_OK, "publish: %s", slc_error_detail());
}

static void take(slc_subscriber *subscriber, size_t size) {
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY) {
    status = slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER);
    need(status == SLC_OK, "wait: %s", slc_error_detail());
  }
  need(status == SLC_OK && message.size == size, "take: %s", slc_error_detail());
  need(slc_subscriber_release(subscriber, &message) == SLC_OK, "release: %s", slc_error_detail());
}

/* On a channel of its own: a subscriber, then a publisher with one message of each size. */
static void live_on(slc_client *client, const char *channel, slc_publisher_options options, const size_t *sizes,
                    int count) {
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_subscriber_options start = SLC_SUBSCRIBER_OPTIONS_INIT;
  int fd;
  start.start = SLC_START_OLDEST;
  start.multiplexer = options.multiplexer;
  options.slots = SLOTS;
  options.slot_size = SMALL;
  int status = slc_publisher_open(client, channel, &options, &publisher);
  need(status == SLC_OK, "publisher_open %s: %s", channel, slc_error_detail());
  send(publisher, sizes[0]);
  status = slc_subscriber_open(client, channel, &start, &subscriber);
  need(status == SLC_OK, "subscriber_open %s: %s", channel, slc_error_detail());
  status = slc_subscriber_fd(subscriber, &fd);
  need(status == SLC_OK, "subscriber_fd %s: %s", channel, slc_error_detail());
  for (int i = 1; i < count; i++) send(publisher, sizes[i]);
  for (int i = 0; i < count; i++) take(subscriber, sizes[i]);
  slc_subscriber_close(subscriber);
  slc_publisher_close(publisher);
}

static int live(void) {
  static const size_t sizes[] = {SMALL, LARGE};
  slc_client *client = connect_client();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber *subscriber;
  int status = slc_subscriber_open(client, PLAIN, NULL, &subscriber);
  need(status == SLC_OK, "subscriber_open: %s", slc_error_detail());
  live_on(client, "steps/grown", options, sizes, 2);
  options.split = 1;
  live_on(client, "steps/split", options, sizes, 2);
  options.split = 0;
  options.multiplexer = "steps/virtual";
  live_on(client, "left", options, sizes, 1);
  slc_subscriber_close(subscriber);
  slc_client_close(client);
  return 0;
}

/* ---- victims ------------------------------------------------------------------------------------------------------
 */

/* Who is started between these two is killed at that step; 0: counts its steps only. */
static void doom_begin(uint32_t step) {
  char path[64];
  atomic_store(&page->at, step);
  atomic_store(&page->count, 0);
  snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), page_fd);
  setenv(MORTAL_PAGE, path, 1);
  setenv("LD_PRELOAD", SLOTCAST_MORTAL_OBJECT, 1);
}

static void doom_end(void) {
  unsetenv(MORTAL_PAGE);
  unsetenv("LD_PRELOAD");
}

/* From now on it lives; true: it is dead, or dying. */
static bool is_doomed(uint32_t step) {
  return !atomic_compare_exchange_strong(&page->at, &step, 0);
}

static pid_t client_start(void) {
  const char *arguments[] = {"/proc/self/exe", "client", NULL};
  return test_daemon_spawn(arguments);
}

static void check_killed(int status) {
  assert_true(WIFSIGNALED(status));
  assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void check_lived(int status) {
  if (status != 0) fail_msg("a client ended with wait status %#x", (unsigned)status);
}

static void nothing(void) {}

/* Each gives back whether the victim has been killed. */

static bool round_client(uint32_t step) {
  doom_begin(step);
  pid_t pid = client_start();
  doom_end();
  int status = test_daemon_reap(pid);
  if (status == 0) return false;
  if (step == 0) check_lived(status);
  check_killed(status);
  return true;
}

/* Reaped, when it has been killed or must have been. */
static bool is_dead(pid_t pid, bool must_be) {
  int status;
  pid_t reaped = waitpid(pid, &status, must_be ? 0 : WNOHANG);
  if (reaped == pid) check_killed(status);
  return reaped == pid;
}

/* From its recovery on; the client comes while it begins. */
static bool round_broker(uint32_t step) {
  bool killed = false;
  int status;
  keepers_settle(&keepers, nothing);
  doom_begin(step);
  keepers_revive_broker(&keepers);
  doom_end();
  for (pid_t pid = client_start(); waitpid(pid, &status, WNOHANG) != pid; sched_yield()) {
    if (killed || !is_dead(broker.pid, false)) continue;
    killed = true;
    keepers_broker_is_dead(&keepers);
  }
  if (!killed && is_doomed(step)) {
    killed = is_dead(broker.pid, true);
    keepers_broker_is_dead(&keepers);
  }
  check_lived(status);
  return killed;
}

/* From its first message on; a broker that begins asks it for what it has. */
static bool round_shadow(uint32_t step) {
  keepers_settle(&keepers, nothing);
  doom_begin(step);
  keepers_kill_shadow(&keepers, 0, nothing);
  doom_end();
  bool killed = false;
  pid_t victim = broker.shadows[0].pid;
  while (!killed && !keepers_is_up_to_date(&keepers, 0)) killed = is_dead(victim, false);
  keepers_kill_broker(&keepers, nothing);
  int status = test_daemon_reap(client_start());
  if (!killed && is_doomed(step)) killed = is_dead(victim, true);
  if (killed) keepers_shadow_is_dead(&keepers, 0);
  check_lived(status);
  return killed;
}

/* ---- afterwards ---------------------------------------------------------------------------------------------------
 */

static slc_client *watcher;
static slc_publisher *publisher;
static slc_subscriber *subscriber;
static int descriptors; /* of a broker when nobody else is there */

static size_t count_channels(void) {
  slc_channel_info *list;
  size_t count;
  check_ok(slc_channel_list(watcher, &list, &count));
  slc_channel_list_free(list, count);
  return count;
}

static void start_over(void) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options reliable = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.slots = SLOTS;
  options.slot_size = SMALL;
  options.reliable = reliable.reliable = 1;
  watcher = connect_client();
  check_ok(slc_subscriber_open(watcher, PLAIN, &reliable, &subscriber));
  check_ok(slc_publisher_open(watcher, PLAIN, &options, &publisher));
  keepers_settle(&keepers, nothing);
  assert_int_equal(count_channels(), 1); /* so what it has sent is closed */
  descriptors = test_descriptors_of(broker.pid);
}

/* The broker hears of ends in its own time: each look is a turn of its loop. */
static void check_nothing_left(void) {
  enum { TURNS = 20000 };
  int turns = 0;
  slc_channel_info_free(aftermath_inspect(watcher, PLAIN, 2));
  while (count_channels() != 1) assert_true(++turns < TURNS);
  int now;
  while ((now = test_descriptors_of(broker.pid)) != descriptors && ++turns < TURNS) count_channels();
  assert_int_equal(now, descriptors);
}

static void check_every_slot_serves(void) {
  for (int i = 0; i < 3 * SLOTS; i++) {
    send(publisher, SMALL);
    take(subscriber, SMALL);
  }
  slc_channel_info *info = aftermath_inspect(watcher, PLAIN, 2);
  assert_int_equal(info->slots_held, 0);
  assert_int_equal(info->slots_free + info->slots_owned + info->slots_published, info->slots);
  slc_channel_info_free(info);
}

static void check_afterwards(void) {
  keepers_settle(&keepers, nothing);
  check_lived(test_daemon_reap(client_start()));
  check_nothing_left();
  check_every_slot_serves();
}

static uint32_t choose(uint32_t below) {
  uint32_t number;
  assert_int_equal(getrandom(&number, sizeof number, 0), sizeof number);
  return number % below;
}

static void kill_at_each(const char *victim, bool (*round)(uint32_t step)) {
  assert_false(round(0)); /* counts */
  uint32_t count = atomic_load(&page->count), killed = 0, rounds = 0;
  check_afterwards();
  uint32_t stride = steps_wanted == 0 || steps_wanted >= count ? 1 : count / steps_wanted;
  uint32_t first = first_step != 0 ? first_step : 1 + choose(stride);
  for (uint32_t step = first; step <= count; step += stride, rounds++) {
    killed += round(step);
    check_afterwards();
  }
  print_message("%s: killed at %u of its %u steps, from step %u on\n", victim, killed, count, first);
  assert_true(killed > rounds / 2); /* it has not always as many messages to send */
}

static void test_client_is_killed_at_each_step(void **state) {
  (void)state;
  kill_at_each("client", round_client);
}

static void test_broker_is_killed_at_each_step(void **state) {
  (void)state;
  kill_at_each("broker", round_broker);
}

static void test_shadow_is_killed_at_each_step(void **state) {
  (void)state;
  kill_at_each("shadow", round_shadow);
}

/* ---- one request ------------------------------------------------------------------------------------------------- */

static void *ask(void *ctx) {
  *(int *)ctx = slc_publisher_open(watcher, PLAIN, NULL, &publisher);
  return NULL;
}

/* Whoever was told to wait for ever does, however many brokers go when they have heard what it asks.  Each connection
 * gets some years first, or the next attempts would become rare. */
static void test_request_outlives_its_brokers(void **state) {
  enum { BROKERS = 20, REQUEST = 4 /* hello is heard, its answer is to be sent and has been, and then */, AGE_MS = 25 };
  (void)state;
  pthread_t thread;
  int asked, status;
  watcher = connect_client();
  test_broker_kill(&broker);
  assert_int_equal(pthread_create(&thread, NULL, ask, &asked), 0);
  atomic_store(&page->stops, 1);
  for (int i = 0; i < BROKERS; i++) {
    doom_begin(REQUEST);
    test_broker_revive(&broker);
    doom_end();
    assert_int_equal(waitpid(broker.pid, &status, WUNTRACED), broker.pid);
    assert_true(WIFSTOPPED(status));
    poll(NULL, 0, AGE_MS);
    test_broker_kill(&broker);
  }
  test_broker_resume(&broker);
  assert_int_equal(pthread_join(thread, NULL), 0);
  check_ok(asked);
  send(publisher, SMALL);
  slc_client_close(watcher);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void page_make(void) {
  page_fd = memfd_create("mortal", MFD_CLOEXEC);
  assert_int_equal(ftruncate(page_fd, sizeof *page), 0);
  page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0);
  assert_ptr_not_equal(page, MAP_FAILED);
}

static int page_free(int faults) {
  munmap(page, sizeof *page);
  close(page_fd);
  return faults;
}

static int setup(void **state) {
  (void)state;
  page_make();
  keepers_start(&keepers, &broker, 2);
  test_watchdog(WATCHDOG_S);
  start_over();
  return 0;
}

static int teardown(void **state) {
  (void)state;
  slc_client_close(watcher);
  int faults = test_broker_finish(&broker);
  keepers_finish(&keepers);
  return page_free(faults);
}

static int setup_alone(void **state) {
  (void)state;
  page_make();
  test_broker_start(&broker);
  return 0;
}

static int teardown_alone(void **state) {
  (void)state;
  return page_free(test_broker_finish(&broker));
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "client") == 0) return live();
  if (argc > 1) steps_wanted = (uint32_t)strtoul(argv[1], NULL, 10);
  if (argc > 2) first_step = (uint32_t)strtoul(argv[2], NULL, 10);
#define STEP_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
  const struct CMUnitTest tests[] = {
      STEP_TEST(test_client_is_killed_at_each_step),
      STEP_TEST(test_broker_is_killed_at_each_step),
      STEP_TEST(test_shadow_is_killed_at_each_step),
      cmocka_unit_test_setup_teardown(test_request_outlives_its_brokers, setup_alone, teardown_alone),
  };
  return cmocka_run_group_tests_name("steps", tests, NULL, NULL);
}

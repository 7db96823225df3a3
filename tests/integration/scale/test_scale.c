/* A thousand channels from twenty processes, and a thousand subscribers on one channel from ten: everything arrives,
 * and what it costs is printed (docs/performance.md quotes it). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slotcast/slotcast.h>

#include "support/broker.h"

enum { PROCESSES = 20, CHANNELS_EACH = 50, CROWDS = 10, CROWD_SIZE = 100, MESSAGES = 100, FAILED = 3 };

#define NEED(condition)                                                                                                \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "process %d: not so: %s (%s)\n", (int)getpid(), #condition, slc_error_detail());                 \
      _exit(FAILED);                                                                                                   \
    }                                                                                                                  \
  } while (0)

/* ---- processes that say when they are ready, and go on when told ---- */

struct crew {
  pid_t pids[PROCESSES];
  int count;
  int ready[2]; /* members write a byte each */
  int go[2];    /* closed by the parent */
};

static void crew_init(struct crew *crew) {
  crew->count = 0;
  assert_int_equal(pipe(crew->ready), 0);
  assert_int_equal(pipe(crew->go), 0);
}

static void crew_add(struct crew *crew, void (*run)(struct crew *crew, int number)) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(crew->go[1]);
    run(crew, crew->count);
    _exit(0);
  }
  crew->pids[crew->count++] = pid;
}

static void member_wait(const struct crew *crew) {
  char byte = 0;
  NEED(write(crew->ready[1], &byte, 1) == 1);
  NEED(read(crew->go[0], &byte, 1) == 0);
}

static void crew_wait_ready(struct crew *crew) {
  close(crew->ready[1]);
  for (int i = 0; i < crew->count; i++) {
    char byte;
    assert_int_equal(read(crew->ready[0], &byte, 1), 1);
  }
}

static void crew_finish(struct crew *crew) {
  close(crew->go[1]);
  for (int i = 0; i < crew->count; i++) {
    int status;
    assert_int_equal(waitpid(crew->pids[i], &status, 0), crew->pids[i]);
    assert_int_equal(status, 0);
  }
  close(crew->ready[0]);
  close(crew->go[0]);
}

/* ---- what a process has ---- */

static long count_lines(pid_t pid, const char *file) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
  FILE *maps = fopen(path, "re");
  assert_non_null(maps);
  long count = 0;
  for (int c; (c = getc(maps)) != EOF;) count += c == '\n';
  fclose(maps);
  return count;
}

/* RssAnon: the process's own memory; what it maps of the channels is theirs. */
static long own_memory_kib(pid_t pid) {
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
  FILE *status = fopen(path, "re");
  long kib = -1;
  assert_non_null(status);
  while (fgets(line, sizeof line, status) != NULL) sscanf(line, "RssAnon: %ld kB", &kib);
  fclose(status);
  return kib;
}

static void take_one(slc_subscriber *subscriber, uint64_t value) {
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY)
    NEED(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER) == SLC_OK);
  NEED(status == SLC_OK);
  NEED(message.size == sizeof value && memcmp(message.data, &value, sizeof value) == 0);
  NEED(slc_subscriber_release(subscriber, &message) == SLC_OK);
}

/* ---- a thousand channels ---- */

static void run_channels(struct crew *crew, int number) {
  slc_client *client;
  slc_publisher *publishers[CHANNELS_EACH];
  slc_subscriber *subscribers[CHANNELS_EACH];
  NEED(slc_client_open(NULL, &client) == SLC_OK);
  for (int i = 0; i < CHANNELS_EACH; i++) {
    char name[64];
    snprintf(name, sizeof name, "scale/%d/%d", number, i);
    NEED(slc_publisher_open(client, name, NULL, &publishers[i]) == SLC_OK);
    NEED(slc_subscriber_open(client, name, NULL, &subscribers[i]) == SLC_OK);
  }
  member_wait(crew);
  for (uint64_t i = 0; i < CHANNELS_EACH; i++) NEED(slc_publisher_send(publishers[i], &i, sizeof i, NULL) == SLC_OK);
  for (uint64_t i = 0; i < CHANNELS_EACH; i++) take_one(subscribers[i], i);
  slc_client_close(client);
}

static void test_thousand_channels(void **state) {
  const struct test_broker *broker = *state;
  enum { CHANNELS = PROCESSES * CHANNELS_EACH };
  int descriptors_before = test_descriptors_of(broker->pid);
  long memory_before = own_memory_kib(broker->pid);
  struct crew crew;
  crew_init(&crew);
  for (int i = 0; i < PROCESSES; i++) crew_add(&crew, run_channels);
  crew_wait_ready(&crew);
  slc_client *client;
  slc_channel_info *channels;
  size_t count;
  assert_int_equal(slc_client_open(NULL, &client), SLC_OK);
  assert_int_equal(slc_channel_list(client, &channels, &count), SLC_OK);
  assert_int_equal(count, CHANNELS);
  for (size_t i = 0; i < count; i++) assert_int_equal(channels[i].publishers + channels[i].subscribers, 2);
  printf(
      "%d channels: broker %.1f KiB and %.2f descriptors a channel; a process with %d of them has %d descriptors and "
      "%ld mappings; shared memory %llu KiB a channel, if all is touched\n",
      CHANNELS, (double)(own_memory_kib(broker->pid) - memory_before) / CHANNELS,
      (double)(test_descriptors_of(broker->pid) - descriptors_before) / CHANNELS, CHANNELS_EACH,
      test_descriptors_of(crew.pids[0]), count_lines(crew.pids[0], "maps"),
      (unsigned long long)channels[0].memory / 1024);
  slc_channel_list_free(channels, count);
  crew_finish(&crew);
  assert_int_equal(slc_channel_list(client, &channels, &count), SLC_OK);
  assert_int_equal(count, 0);
  slc_channel_list_free(channels, count);
  slc_client_close(client);
}

/* ---- a thousand subscribers ---- */

static void run_crowd(struct crew *crew, int number) {
  (void)number;
  slc_client *client;
  slc_subscriber *subscribers[CROWD_SIZE];
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = 1;
  options.start = SLC_START_OLDEST;
  NEED(slc_client_open(NULL, &client) == SLC_OK);
  for (int i = 0; i < CROWD_SIZE; i++)
    NEED(slc_subscriber_open(client, "scale/crowd", &options, &subscribers[i]) == SLC_OK);
  member_wait(crew);
  for (int i = 0; i < CROWD_SIZE; i++) {
    for (uint64_t n = 0; n < MESSAGES; n++) take_one(subscribers[i], n);
  }
  slc_client_close(client);
}

static void test_thousand_subscribers(void **state) {
  const struct test_broker *broker = *state;
  long memory_before = own_memory_kib(broker->pid);
  slc_client *client;
  slc_publisher *publisher;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_channel_info *info;
  options.slots = 4096;
  assert_int_equal(slc_client_open(NULL, &client), SLC_OK);
  assert_int_equal(slc_publisher_open(client, "scale/crowd", &options, &publisher), SLC_OK);
  struct crew crew;
  crew_init(&crew);
  for (int i = 0; i < CROWDS; i++) crew_add(&crew, run_crowd);
  crew_wait_ready(&crew);
  for (uint64_t n = 0; n < MESSAGES; n++) {
    int status;
    while ((status = slc_publisher_send(publisher, &n, sizeof n, NULL)) == SLC_WOULD_BLOCK)
      slc_publisher_wait(publisher, SLC_WAIT_FOREVER);
    assert_int_equal(status, SLC_OK);
  }
  assert_int_equal(slc_channel_inspect(client, "scale/crowd", &info), SLC_OK);
  assert_int_equal(info->subscribers, CROWDS * CROWD_SIZE);
  assert_int_equal(info->user_count, CROWDS * CROWD_SIZE + 1);
  printf(
      "%d subscribers on one channel: broker %.2f KiB a subscriber; a process with %d of them has %d descriptors and "
      "%ld mappings\n",
      CROWDS * CROWD_SIZE, (double)(own_memory_kib(broker->pid) - memory_before) / (CROWDS * CROWD_SIZE), CROWD_SIZE,
      test_descriptors_of(crew.pids[0]), count_lines(crew.pids[0], "maps"));
  slc_channel_info_free(info);
  crew_finish(&crew);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_thousand_channels, test_broker_setup, test_broker_teardown),
      cmocka_unit_test_setup_teardown(test_thousand_subscribers, test_broker_setup, test_broker_teardown),
  };
  return cmocka_run_group_tests_name("scale", tests, NULL, NULL);
}

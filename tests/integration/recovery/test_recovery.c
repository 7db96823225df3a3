/* A broker is killed and another one goes on: channels of every kind, their messages and users are as they were; those
 * who died meanwhile are not there, and those who live can die later. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/check.h"
#include "world.h"

static int setup(void **state) {
  struct test_broker *broker = malloc(sizeof *broker);
  if (broker == NULL) return -1;
  test_broker_start_shadowed(broker, 1, NULL);
  *state = broker;
  return 0;
}

static int teardown(void **state) {
  return test_broker_teardown(state);
}
#define RECOVERY_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

static void kill_and_resume(struct test_broker *broker) {
  test_broker_kill(broker);
  test_broker_resume(broker);
}

static int descriptors_of(pid_t pid) {
  char path[64];
  int count = 0;
  snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
  DIR *directory = opendir(path);
  assert_non_null(directory);
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}

static slc_channel_info *inspect(slc_client *client, const char *channel) {
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, channel, &info));
  return info;
}

/* ---- what is there ---- */

static void test_everything_is_as_it_was(void **state) {
  struct test_broker *broker = *state;
  struct world world;
  world_start(&world);
  char *before = world_look();
  for (int i = 0; i < 3; i++) {
    kill_and_resume(broker);
    char *after = world_look();
    assert_string_equal(after, before);
    free(after);
  }
  world_read();
  free(before);
  world_kill(&world);
}

/* One that ends in good order leaves all of it, too. */
static void test_an_orderly_end_is_no_other(void **state) {
  struct test_broker *broker = *state;
  struct world world;
  world_start(&world);
  char *before = world_look();
  assert_int_equal(test_broker_stop(broker), 0);
  test_broker_resume(broker);
  char *after = world_look();
  assert_string_equal(after, before);
  world_read();
  free(before);
  free(after);
  world_kill(&world);
}

/* Ends of connections reach the broker in its own time: each look is a turn of its loop. */
static int descriptors_settled(const struct test_broker *broker, slc_client *client, int expected) {
  enum { TURNS = 20000 };
  int count = descriptors_of(broker->pid);
  for (int i = 0; count != expected && i < TURNS; i++) {
    slc_channel_info_free(inspect(client, "plain"));
    count = descriptors_of(broker->pid);
  }
  return count;
}

/* The same for many looks in a row. */
static int descriptors_of_one(const struct test_broker *broker, slc_client *client) {
  enum { LOOKS = 100 };
  int count = -1;
  for (int same = 0; same < LOOKS; same++) {
    slc_channel_info_free(inspect(client, "plain"));
    int now = descriptors_of(broker->pid);
    if (now != count) same = 0;
    count = now;
  }
  return count;
}

/* Nobody comes back, so that each broker has the same to recover, and opens the same for it. */
static void test_recovery_leaves_no_descriptor(void **state) {
  struct test_broker *broker = *state;
  struct world world;
  slc_client *client = NULL;
  int first = 0;
  world_start(&world);
  for (int i = 0; i < 4; i++) {
    kill_and_resume(broker);
    check_ok(slc_client_open(NULL, &client));
    if (i == 0) first = descriptors_of_one(broker, client);
    if (i > 0) assert_int_equal(descriptors_settled(broker, client, first), first);
    slc_client_close(client);
  }
  world_kill(&world);
}

/* ---- who is there ---- */

static void await_gone(slc_client *client) {
  for (bool is_there = true; is_there;) {
    is_there = false;
    static const char *const names[] = {"plain", "grown", "split", "the/mux", "reliable", "early"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
      slc_channel_info *info = NULL;
      int status = slc_channel_inspect(client, names[i], &info);
      if (status == 0) slc_channel_info_free(info);
      is_there = is_there || status != SLC_NOT_FOUND;
    }
  }
  slc_channel_info *info = inspect(client, "kept");
  assert_true(info->is_persistent);
  slc_channel_info_free(info);
}

static void test_the_dead_are_gone_at_once(void **state) {
  struct test_broker *broker = *state;
  struct world world;
  slc_client *client = NULL;
  world_start(&world);
  test_broker_kill(broker);
  world_kill(&world);
  test_broker_resume(broker);
  check_ok(slc_client_open(NULL, &client));
  slc_channel_info *info = NULL;
  check_status(slc_channel_inspect(client, "plain", &info), SLC_NOT_FOUND);
  await_gone(client);
  slc_client_close(client);
}

static void test_whoever_lives_is_waited_for(void **state) {
  struct test_broker *broker = *state;
  struct world world;
  slc_client *client = NULL;
  world_start(&world);
  kill_and_resume(broker);
  check_ok(slc_client_open(NULL, &client));
  slc_channel_info *info = inspect(client, "plain");
  assert_int_equal(info->user_count, 2);
  assert_false(info->users[0].is_connected);
  slc_channel_info_free(info);
  world_kill(&world);
  await_gone(client);
  slc_client_close(client);
}

/* ---- nobody has kept it ---- */

static slc_client *client_of_patience(void) {
  slc_client *client = NULL;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.reconnect_timeout_ns = -1;
  check_ok(slc_client_open(&options, &client));
  return client;
}

static void send_word(slc_publisher *publisher, const char *word) {
  int status;
  while ((status = slc_publisher_send(publisher, word, strlen(word), NULL)) == SLC_WOULD_BLOCK)
    check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  check_ok(status);
}

/* Passes over everything else. */
static void await_word(slc_subscriber *subscriber, const char *word) {
  for (bool is_there = false; !is_there;) {
    slc_message message;
    check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
    if (slc_subscriber_take(subscriber, &message) != 0) continue;
    is_there = message.size == strlen(word) && memcmp(message.data, word, message.size) == 0;
    check_ok(slc_subscriber_release(subscriber, &message));
  }
}

static void await_anew(slc_client *client) {
  slc_client_stats stats = {.size = sizeof stats};
  while (stats.anew == 0) {
    int status = slc_client_dispatch(client);
    assert_true(status == 0 || status == SLC_BROKER_GONE);
    check_ok(slc_client_stats_get(client, &stats));
    assert_int_equal(stats.back, 0);
  }
}

/* A stream goes on while both are away, and is one again on the new broker's channel. */
static void test_broker_and_shadow_die_together(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_of_patience(), *other = client_of_patience();
  slc_publisher *publisher = NULL;
  slc_subscriber *subscriber = NULL;
  check_ok(slc_publisher_open(client, "a", NULL, &publisher));
  check_ok(slc_subscriber_open(other, "a", NULL, &subscriber));
  send_word(publisher, "before");
  await_word(subscriber, "before");
  test_broker_kill(broker);
  test_shadow_kill(&broker->shadows[0]);
  send_word(publisher, "alone");
  await_word(subscriber, "alone");
  test_shadow_restart(&broker->shadows[0]);
  test_broker_resume(broker);
  await_anew(client);
  await_anew(other);
  send_word(publisher, "again");
  await_word(subscriber, "again");
  slc_channel_info *info = inspect(client, "a");
  assert_int_equal(info->user_count, 2);
  slc_channel_info_free(info);
  slc_client_close(other);
  slc_client_close(client);
}

/* ---- numbers ---- */

static uint64_t newest_user(slc_client *client, const char *channel) {
  slc_channel_info *info = inspect(client, channel);
  uint64_t newest = 0;
  for (uint32_t i = 0; i < info->user_count; i++)
    if (info->users[i].id > newest) newest = info->users[i].id;
  slc_channel_info_free(info);
  return newest;
}

/* Somebody had them, and may still think so. */
static void test_numbers_are_not_given_again(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = NULL;
  slc_subscriber *subscriber = NULL;
  check_ok(slc_client_open(NULL, &client));
  check_ok(slc_subscriber_open(client, "a", NULL, &subscriber));
  uint64_t last = newest_user(client, "a");
  slc_client_close(client);
  kill_and_resume(broker);
  check_ok(slc_client_open(NULL, &client));
  check_ok(slc_subscriber_open(client, "a", NULL, &subscriber));
  assert_true(newest_user(client, "a") > last);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RECOVERY_TEST(test_everything_is_as_it_was),        RECOVERY_TEST(test_an_orderly_end_is_no_other),
      RECOVERY_TEST(test_recovery_leaves_no_descriptor),  RECOVERY_TEST(test_the_dead_are_gone_at_once),
      RECOVERY_TEST(test_whoever_lives_is_waited_for),    RECOVERY_TEST(test_numbers_are_not_given_again),
      RECOVERY_TEST(test_broker_and_shadow_die_together),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

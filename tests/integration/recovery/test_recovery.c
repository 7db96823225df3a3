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
      RECOVERY_TEST(test_everything_is_as_it_was),       RECOVERY_TEST(test_an_orderly_end_is_no_other),
      RECOVERY_TEST(test_recovery_leaves_no_descriptor), RECOVERY_TEST(test_the_dead_are_gone_at_once),
      RECOVERY_TEST(test_whoever_lives_is_waited_for),   RECOVERY_TEST(test_numbers_are_not_given_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

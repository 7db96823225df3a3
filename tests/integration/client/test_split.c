/* Split channels: one process, or two after the other.  Many at once are in test_split_race. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 64, SLOT_SIZE = 1000, STRIDE = 1024 };

static slc_publisher_options split_options(void) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  return options;
}

static slc_channel_info *inspect(slc_client *client) {
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  return info;
}

/* ---- the library's own memory ----------------------------------------------------------------------------------- */

static void test_split_messages(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 32, 33, SLOT_SIZE};
  slc_client *client = client_open();
  slc_subscriber *early = subscriber_open(client, NULL);
  slc_publisher_options options = split_options();
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *late = subscriber_open(client, NULL);
  for (uint64_t n = 1; n <= 3 * SLOTS; n++) {
    size_t size = sizes[n % 4];
    send_pattern(publisher, n, size);
    take_pattern(early, n, size);
    take_pattern(late, n, size);
  }
  slc_channel_info *info = inspect(client);
  assert_true(info->is_split);
  assert_int_equal(info->generation, 1);
  assert_int_equal(info->generations, 1);
  assert_int_equal(info->largest, SLOT_SIZE);
  slc_channel_info_free(info);
  slc_client_close(client);
}

/* More slots than one message has descriptors, than the rows of an object divide, and one object for all. */
static void test_split_rows(void **state) {
  (void)state;
  static const uint32_t rows[] = {1, 3, 100, 5000};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    slc_client *client = client_open(), *other_client = client_open();
    slc_publisher_options options = split_options();
    options.slots = 2100;
    options.slots_per_object = rows[i];
    slc_publisher *first = publisher_open(client, &options), *second = publisher_open(other_client, &options);
    slc_subscriber *subscriber = subscriber_open(client, NULL);
    for (uint64_t n = 1; n <= 4400; n += 2) {
      send_pattern(first, n, 40);
      send_pattern(second, n + 1, 50);
      take_pattern(subscriber, n, 40);
      take_pattern(subscriber, n + 1, 50);
    }
    slc_client_close(other_client);
    slc_client_close(client);
  }
}

static void test_split_grows(void **state) {
  (void)state;
  static const size_t sizes[] = {SLOT_SIZE, SLOT_SIZE + 1, 20, 5000, 100, 200000, 33, 3000000, 1};
  slc_client *client = client_open();
  slc_publisher_options options = split_options();
  options.slots = 16;
  slc_publisher *publisher = publisher_open(client, &options), *other = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  uint64_t n = 0;
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    send_pattern(publisher, ++n, sizes[i]);
    send_pattern(other, ++n, sizes[i]);
    take_pattern(subscriber, n - 1, sizes[i]);
    take_pattern(subscriber, n, sizes[i]);
  }
  for (int i = 0; i < 40; i++) {
    send_pattern(publisher, ++n, 10);
    take_pattern(subscriber, n, 10);
  }
  send_pattern(publisher, ++n, 4000000); /* old ones are looked at when a new one comes */
  slc_channel_info *info = inspect(client);
  assert_true(info->generation >= 5);
  assert_true(info->generations <= 3);
  slc_channel_info_free(info);
  slc_client_close(client);
}

static void test_split_all_agree(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = split_options(), plain = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher *publisher = publisher_open(client, &options), *other;
  check_status(slc_publisher_open(client, CHANNEL, &plain, &other), SLC_INCOMPATIBLE);
  assert_non_null(strstr(slc_error_detail(), "memory of their own"));
  check_ok(slc_publisher_open(client, "test/plain", &plain, &other));
  slc_publisher *refused;
  check_status(slc_publisher_open(client, "test/plain", &options, &refused), SLC_INCOMPATIBLE);
  send_pattern(publisher, 1, 10);
  slc_client_close(client);
}

/* What was published stays in a channel that was created, also when nobody is there. */
static void test_split_persistent(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_channel_options shape = SLC_CHANNEL_OPTIONS_INIT;
  shape.split = 1;
  shape.slots = SLOTS;
  shape.slot_size = SLOT_SIZE;
  check_ok(slc_channel_create(client, CHANNEL, &shape));
  slc_channel_info *info = inspect(client);
  assert_int_equal(info->generation, 0);
  slc_channel_info_free(info);
  slc_publisher_options options = split_options();
  slc_client *publishing = client_open();
  slc_publisher *publisher = publisher_open(publishing, &options);
  send_pattern(publisher, 1, 500);
  slc_client_close(publishing);
  slc_subscriber_options oldest = SLC_SUBSCRIBER_OPTIONS_INIT;
  oldest.start = SLC_START_OLDEST;
  slc_subscriber *subscriber = subscriber_open(client, &oldest);
  take_pattern(subscriber, 1, 500);
  publisher = publisher_open(client, &options);
  send_pattern(publisher, 2, 600);
  take_pattern(subscriber, 2, 600);
  slc_client_close(client);
  client = client_open();
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

/* A message needs no broker: neither the publisher's nor the subscriber's side. */
static void test_split_without_a_broker(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_subscriber *early = subscriber_open(client, NULL);
  slc_publisher_options options = split_options();
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *late = subscriber_open(client, NULL);
  slc_message message;
  check_status(slc_subscriber_take(early, &message), SLC_EMPTY);
  test_broker_kill(broker);
  send_pattern(publisher, 1, 500);
  take_pattern(early, 1, 500);
  take_pattern(late, 1, 500);
  slc_client_close(client);
}

/* Backend, pages and prefault are those of any channel.  Huge pages only where the machine has some. */
static void test_split_kinds_of_pages(void **state) {
  (void)state;
  static const struct {
    int backend;
    uint64_t pages;
  } kinds[] = {{SLC_BACKEND_MEMFD, 0}, {SLC_BACKEND_SHM, 0}, {SLC_BACKEND_MEMFD, 2 << 20}, {SLC_BACKEND_SHM, 2 << 20}};
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    slc_client *client = client_open();
    slc_publisher_options options = split_options();
    options.slots = 8;
    options.slots_per_object = 4;
    options.backend = kinds[i].backend;
    options.pages = kinds[i].pages;
    options.prefault = 1;
    slc_publisher *first = NULL;
    int status = slc_publisher_open(client, CHANNEL, &options, &first);
    if (status == SLC_NO_MEMORY && kinds[i].pages != 0) {
      print_message("skipped: no huge pages (%s)\n", slc_error_detail());
    } else {
      check_ok(status);
      slc_subscriber *subscriber = subscriber_open(client, NULL);
      for (uint64_t n = 1; n <= 20; n++) {
        send_pattern(first, n, 900);
        take_pattern(subscriber, n, 900);
      }
      send_pattern(first, 21, 5000);
      take_pattern(subscriber, 21, 5000);
    }
    slc_client_close(client);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_split_messages),       BROKER_TEST(test_split_rows),
      BROKER_TEST(test_split_grows),          BROKER_TEST(test_split_all_agree),
      BROKER_TEST(test_split_persistent),     BROKER_TEST(test_split_without_a_broker),
      BROKER_TEST(test_split_kinds_of_pages),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

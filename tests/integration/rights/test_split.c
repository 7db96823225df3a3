/* Split channels between uids: what a publisher of one has registered, a subscriber of another reads and can't change;
 * and what isn't sealed it never gets.  Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attempts.h"
#include "slotcast/slotcast.h"
#include "support/broker.h"

enum { PUBLISHER_UID = 65533, OTHER_UID = 65534, SKIPPED = 77, SLOTS = 32, SLOT_SIZE = 4096 };

#define CHANNEL "rights"

/* In a process of another uid, where the test's own checks would come back in the wrong one. */
#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (condition) break;                                                                                              \
    fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, slc_error_detail());                            \
    _exit(200);                                                                                                        \
  } while (0)

static int allocate_unsealed(void *ctx, uint32_t generation, uint32_t slot, uint64_t size, slc_payload *ret_payload) {
  (void)generation;
  *ret_payload = (slc_payload){.fd = *(int *)ctx, .offset = slot * size};
  return 0;
}

static slc_publisher_options split_options(void) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  return options;
}

static slc_client *client_of(uid_t uid) {
  slc_client *client;
  become(uid);
  REQUIRE(slc_client_open(NULL, &client) == 0);
  return client;
}

/* Publishes one message, says so, and stays until it is told to go. */
static _Noreturn void publish(int socket, bool is_sealed) {
  slc_client *client = client_of(PUBLISHER_UID);
  slc_publisher *publisher;
  slc_publisher_options options = split_options();
  int fd = memfd_create("slotcast-test", MFD_CLOEXEC);
  REQUIRE(ftruncate(fd, SLOTS * SLOT_SIZE) == 0);
  options.callback_ctx = &fd;
  if (!is_sealed) options.allocate_payload = allocate_unsealed;
  REQUIRE(slc_publisher_open(client, CHANNEL, &options, &publisher) == 0);
  REQUIRE(slc_publisher_send(publisher, "whole", 5, NULL) == 0);
  char byte = 0;
  REQUIRE(send(socket, &byte, 1, 0) == 1);
  REQUIRE(recv(socket, &byte, 1, 0) == 1);
  slc_client_close(client);
  _exit(0);
}

static int take_oldest(slc_client *client, slc_message *ret_message) {
  slc_subscriber *subscriber;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  REQUIRE(slc_subscriber_open(client, CHANNEL, &options, &subscriber) == 0);
  return slc_subscriber_take(subscriber, ret_message);
}

static _Noreturn void read_sealed(pid_t owner) {
  slc_client *client = client_of(OTHER_UID);
  slc_message message;
  REQUIRE(take_oldest(client, &message) == 0);
  REQUIRE(message.size == 5 && memcmp(message.data, "whole", 5) == 0);
  struct target target = {
      .what = "payload", .fd = -1, .base = (uint8_t *)(uintptr_t)message.data, .size = SLOT_SIZE, .owner = owner};
  int failures = attempt_writes(&target);
  slc_client_close(client);
  fflush(NULL);
  _exit(failures);
}

/* A publisher of another uid writes into the same memory, which is sealed. */
static _Noreturn void share_sealed(pid_t owner) {
  (void)owner;
  slc_client *client = client_of(OTHER_UID);
  slc_publisher *publisher;
  slc_publisher_options options = split_options();
  REQUIRE(slc_publisher_open(client, CHANNEL, &options, &publisher) == 0);
  REQUIRE(slc_publisher_send(publisher, "more", 4, NULL) == 0);
  slc_client_close(client);
  _exit(0);
}

static _Noreturn void read_unsealed(pid_t owner) {
  (void)owner;
  slc_client *client = client_of(OTHER_UID);
  slc_message message;
  slc_publisher *publisher;
  slc_publisher_options options = split_options();
  REQUIRE(take_oldest(client, &message) == SLC_DENIED);
  REQUIRE(strstr(slc_error_detail(), "not sealed") != NULL);
  REQUIRE(slc_publisher_open(client, CHANNEL, &options, &publisher) == SLC_DENIED);
  slc_client_close(client);
  _exit(0);
}

static _Noreturn void read_unsealed_as_owner(pid_t owner) {
  (void)owner;
  slc_client *client = client_of(PUBLISHER_UID);
  slc_message message;
  REQUIRE(take_oldest(client, &message) == 0);
  REQUIRE(message.size == 5 && memcmp(message.data, "whole", 5) == 0);
  slc_client_close(client);
  _exit(0);
}

static void expect_well(pid_t child) {
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

typedef void (*reader_fn)(pid_t owner);

static void run(bool is_sealed, const reader_fn *readers, size_t count) {
  int ends[2];
  char byte = 0;
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  fflush(NULL);
  pid_t publisher = fork();
  if (publisher == 0) {
    close(ends[0]);
    publish(ends[1], is_sealed);
  }
  close(ends[1]);
  assert_int_equal(recv(ends[0], &byte, 1, 0), 1);
  for (size_t i = 0; i < count; i++) {
    pid_t reader = fork();
    if (reader == 0) readers[i](publisher);
    expect_well(reader);
  }
  assert_int_equal(send(ends[0], &byte, 1, 0), 1);
  expect_well(publisher);
  close(ends[0]);
}

static void test_rights_of_sealed_payloads(void **state) {
  (void)state;
  static const reader_fn readers[] = {read_sealed, share_sealed};
  run(true, readers, 2);
}

static void test_rights_of_unsealed_payloads(void **state) {
  (void)state;
  static const reader_fn readers[] = {read_unsealed, read_unsealed_as_owner};
  run(false, readers, 2);
}

/* A broker that both can reach: its scratch directory and its socket are root's. */
static int setup(void **state) {
  if (test_broker_setup(state) != 0) return -1;
  const struct test_broker *broker = *state;
  return chmod(broker->directory, 0755) == 0 && chmod(broker->socket, 0666) == 0 ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_rights_of_sealed_payloads, setup, test_broker_teardown),
      cmocka_unit_test_setup_teardown(test_rights_of_unsealed_payloads, setup, test_broker_teardown),
  };
  if (geteuid() != 0) return SKIPPED;
  return cmocka_run_group_tests(tests, NULL, NULL);
}

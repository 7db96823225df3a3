/* What the client's integration tests share: each test has a private broker in *state. */
#ifndef SLC_TEST_CLIENT_COMMON_H
#define SLC_TEST_CLIENT_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "support/broker.h"
#include "support/check.h"

#define CHANNEL "test/channel"
#define MS INT64_C(1000000)
#define BROKER_TEST(function) cmocka_unit_test_setup_teardown(function, test_broker_setup, test_broker_teardown)

static inline slc_client *client_open(void) {
  slc_client *client = NULL;
  check_ok(slc_client_open(NULL, &client));
  return client;
}

static inline slc_publisher *publisher_open(slc_client *client, const slc_publisher_options *options) {
  slc_publisher *publisher = NULL;
  check_ok(slc_publisher_open(client, CHANNEL, options, &publisher));
  return publisher;
}

static inline slc_subscriber *subscriber_open(slc_client *client, const slc_subscriber_options *options) {
  slc_subscriber *subscriber = NULL;
  check_ok(slc_subscriber_open(client, CHANNEL, options, &subscriber));
  return subscriber;
}

/* Bytes that depend on the ordinal, so that one message can't pass for another. */
static inline uint8_t pattern(uint64_t ordinal, size_t at) {
  return (uint8_t)(ordinal * 31 + at * 7 + (at >> 8) + 1);
}

static inline void send_pattern(slc_publisher *publisher, uint64_t ordinal, size_t size) {
  slc_loan loan;
  check_ok(slc_publisher_loan(publisher, size, &loan));
  for (size_t i = 0; i < size; i++) ((uint8_t *)loan.data)[i] = pattern(ordinal, i);
  uint64_t published = 0;
  check_ok(slc_publisher_publish(publisher, &loan, size, &published));
  assert_int_equal(published, ordinal);
}

static inline void check_pattern(const slc_message *message, uint64_t ordinal, size_t size) {
  assert_int_equal(message->ordinal, ordinal);
  assert_int_equal(message->size, size);
  for (size_t i = 0; i < size; i++) assert_int_equal(((const uint8_t *)message->data)[i], pattern(ordinal, i));
}

static inline void take_pattern(slc_subscriber *subscriber, uint64_t ordinal, size_t size) {
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  check_pattern(&message, ordinal, size);
  check_ok(slc_subscriber_release(subscriber, &message));
}

static inline slc_subscriber_stats subscriber_stats(slc_subscriber *subscriber) {
  slc_subscriber_stats stats = {.size = sizeof stats};
  check_ok(slc_subscriber_stats_get(subscriber, &stats));
  return stats;
}

/* Whatever the broker still had to do for what it has answered before this, it has done. */
static inline void broker_settle(slc_client *client) {
  slc_channel_info *list;
  size_t count;
  check_ok(slc_channel_list(client, &list, &count));
  slc_channel_list_free(list, count);
}

/* ---- processes that are stopped ---- */

static inline void await_stop(pid_t pid) {
  int status;
  assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
  assert_true(WIFSTOPPED(status));
}

static inline void stop(pid_t pid) {
  assert_int_equal(kill(pid, SIGSTOP), 0);
  await_stop(pid);
}

/* Until it sleeps in ppoll, as one does who waits for the broker's answer. */
static inline void await_ppoll(pid_t pid) {
  char path[64], line[64] = "";
  snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
  while (strtol(line, NULL, 10) != SYS_ppoll) {
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    if (fgets(line, sizeof line, file) == NULL) line[0] = '\0';
    fclose(file);
  }
}

#endif

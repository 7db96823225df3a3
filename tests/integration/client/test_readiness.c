/* The readiness descriptor tells the truth: readable exactly while there is an unread message, whoever asks and how. */
#include "common.h"

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

static bool poll_says(int fd) {
  struct pollfd polled = {.fd = fd, .events = POLLIN};
  int count;
  do count = poll(&polled, 1, 0);
  while (count < 0);
  return count == 1;
}

static void wait_by_poll(int fd) {
  struct pollfd polled = {.fd = fd, .events = POLLIN};
  while (poll(&polled, 1, -1) < 0) {
  }
}

static int epoll_over(int fd, uint32_t events) {
  int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  assert_true(epoll_fd >= 0);
  struct epoll_event event = {.events = events};
  assert_int_equal(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
  return epoll_fd;
}

static bool epoll_says(int epoll_fd, int timeout_ms) {
  struct epoll_event event;
  int count;
  do count = epoll_wait(epoll_fd, &event, 1, timeout_ms);
  while (count < 0);
  return count == 1;
}

/* ---- step by step, against what is known to be unread ---- */

enum { STEPS = 3000, HOLDS = 3 };

struct steps {
  uint32_t random;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  uint64_t published;
  uint64_t position; /* the last ordinal taken or passed over */
  slc_message held[HOLDS];
  size_t held_count;
};

static uint32_t next_random(struct steps *steps) {
  steps->random = steps->random * 1664525 + 1013904223;
  return steps->random >> 16;
}

static void step_publish(struct steps *steps) {
  for (uint32_t n = next_random(steps) % 4; n > 0; n--) send_pattern(steps->publisher, ++steps->published, 40);
}

static void step_took(struct steps *steps, size_t count) {
  steps->held_count += count;
  steps->position = steps->held[steps->held_count - 1].ordinal;
}

/* A take of some kind says what the model says. */
static void step_take(struct steps *steps, uint32_t kind) {
  slc_message *to = &steps->held[steps->held_count];
  bool unread = steps->position < steps->published;
  size_t count = 1, room = HOLDS - steps->held_count;
  int status = SLC_EMPTY;
  if (kind == 0) status = slc_subscriber_take(steps->subscriber, to);
  if (kind == 1) status = slc_subscriber_take_newest(steps->subscriber, to);
  if (kind == 2) status = slc_subscriber_take_many(steps->subscriber, to, room != 0 ? room : 1, &count);
  check_status(status, !unread ? SLC_EMPTY : room == 0 ? SLC_HOLD_LIMIT : 0);
  if (status == 0) step_took(steps, count);
  if (status == 0 && kind == 1) assert_int_equal(steps->position, steps->published);
}

static void step_release(struct steps *steps) {
  if (steps->held_count == 0) return;
  check_ok(slc_subscriber_release(steps->subscriber, &steps->held[--steps->held_count]));
}

static void step(struct steps *steps) {
  uint32_t choice = next_random(steps) % 8;
  if (choice < 3)
    step_take(steps, choice);
  else if (choice < 5)
    step_publish(steps);
  else
    step_release(steps);
}

static void run_steps(int checksum, uint32_t seed) {
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 16;
  options.max_publishers = 1;
  options.checksum = checksum;
  slc_subscriber_options reader = SLC_SUBSCRIBER_OPTIONS_INIT;
  reader.max_holds = HOLDS;
  struct steps steps = {.random = seed, .publisher = publisher_open(client, &options)};
  steps.subscriber = subscriber_open(client, &reader);
  int fd = -1;
  check_ok(slc_subscriber_fd(steps.subscriber, &fd));
  int level = epoll_over(fd, EPOLLIN);
  for (int i = 0; i < STEPS; i++) {
    step(&steps);
    bool unread = steps.position < steps.published;
    assert_int_equal(poll_says(fd), unread);
    assert_int_equal(epoll_says(level, 0), unread);
  }
  close(level);
  slc_client_close(client);
}

static void test_poll_and_epoll_say_what_is_unread(void **state) {
  (void)state;
  run_steps(SLC_CHECKSUM_NONE, 1);
  run_steps(SLC_CHECKSUM_CRC32C, 2);
}

/* An edge for each time that something comes to a subscriber that has read everything; none before. */
static void test_edges(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  int fd = -1;
  check_ok(slc_subscriber_fd(subscriber, &fd));
  int edge = epoll_over(fd, EPOLLIN | EPOLLET);
  slc_message message;
  for (uint64_t n = 1; n <= 200; n++) {
    assert_false(epoll_says(edge, 0));
    send_pattern(publisher, n, 40);
    assert_true(epoll_says(edge, -1));
    take_pattern(subscriber, n, 40);
    if (n % 2 == 0) check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY); /* not needed, and no harm */
  }
  close(edge);
  slc_client_close(client);
}

/* What was unread when the descriptor was first asked for is told of; and the last publisher's leaving, until somebody
 * has looked. */
static void test_what_was_there_before(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  for (uint64_t n = 1; n <= 2; n++) send_pattern(publisher, n, 40);
  int fd = -1;
  check_ok(slc_subscriber_fd(subscriber, &fd));
  for (uint64_t n = 1; n <= 2; n++) {
    assert_true(poll_says(fd));
    take_pattern(subscriber, n, 40);
  }
  assert_false(poll_says(fd));
  slc_publisher_close(publisher);
  wait_by_poll(fd);
  slc_message message;
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  assert_false(poll_says(fd));
  slc_client_close(client);
}

/* ---- from another process, without a look at anything but the descriptor ---- */

enum { MESSAGES = 5000, SENDER_FAILED = 3 };

/* Bursts, so that the receiver is found asleep, awake and half asleep. */
static int send_bursts(void) {
  slc_client *client = NULL;
  slc_publisher *publisher = NULL;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = 1;
  options.slots = 32;
  options.max_publishers = 1;
  int status = slc_client_open(NULL, &client);
  if (status == 0) status = slc_publisher_open(client, CHANNEL, &options, &publisher);
  for (uint64_t n = 1; status == 0 && n <= MESSAGES;) {
    uint8_t bytes[40];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = pattern(n, i);
    status = slc_publisher_send(publisher, bytes, sizeof bytes, NULL);
    if (status == SLC_WOULD_BLOCK) {
      status = slc_publisher_wait(publisher, SLC_WAIT_FOREVER);
      continue;
    }
    for (uint64_t pause = n % 7 == 0 ? n % 3000 : 0; pause > 0; pause--) __asm__ volatile("");
    n++;
  }
  slc_client_close(client);
  return status;
}

static void wait_by_epoll(int epoll_fd) {
  assert_true(epoll_says(epoll_fd, -1));
}

/* `drains`: takes until EMPTY after each event; else one message for each. */
static void receive_all(uint32_t epoll_events, bool drains) {
  slc_client *client = client_open();
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  int fd = -1;
  check_ok(slc_subscriber_fd(subscriber, &fd));
  int epoll_fd = epoll_events != 0 ? epoll_over(fd, epoll_events) : -1;
  pid_t sender = fork();
  assert_true(sender >= 0);
  if (sender == 0) _exit(send_bursts() == 0 ? 0 : SENDER_FAILED);
  for (uint64_t n = 1; n <= MESSAGES;) {
    if (epoll_fd >= 0)
      wait_by_epoll(epoll_fd);
    else
      wait_by_poll(fd);
    slc_message message;
    int status;
    do {
      status = slc_subscriber_take(subscriber, &message);
      if (status == SLC_EMPTY) break;
      check_ok(status);
      check_pattern(&message, n++, 40);
      check_ok(slc_subscriber_release(subscriber, &message));
    } while (drains);
  }
  int ended = 0;
  assert_int_equal(waitpid(sender, &ended, 0), sender);
  assert_int_equal(ended, 0);
  if (epoll_fd >= 0) close(epoll_fd);
  slc_client_close(client);
}

static void test_poll_between_processes(void **state) {
  (void)state;
  receive_all(0, true);
  receive_all(0, false);
}

static void test_epoll_level_between_processes(void **state) {
  (void)state;
  receive_all(EPOLLIN, true);
  receive_all(EPOLLIN, false);
}

static void test_epoll_edge_between_processes(void **state) {
  (void)state;
  receive_all(EPOLLIN | EPOLLET, true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_poll_and_epoll_say_what_is_unread),
      BROKER_TEST(test_edges),
      BROKER_TEST(test_what_was_there_before),
      BROKER_TEST(test_poll_between_processes),
      BROKER_TEST(test_epoll_level_between_processes),
      BROKER_TEST(test_epoll_edge_between_processes),
  };
  return cmocka_run_group_tests_name("client_readiness", tests, NULL, NULL);
}

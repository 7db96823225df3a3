/* Ends without goodbye: what is recycled when, and what is left alone.
 *
 * The process at the other end is a child of the test (or, after execve, this program with arguments), told what to do
 * over a socket pair, so that each step has happened when the next begins. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "raw.h"

static void say(int fd) {
  if (send(fd, "", 1, MSG_NOSIGNAL) != 1) _exit(1);
}

static void hear(int fd) {
  char byte;
  if (recv(fd, &byte, 1, 0) != 1) _exit(1);
}

static uint32_t publishers_of(struct raw *raw, const char *channel, bool *ret_connected) {
  struct raw_answer answer;
  uint32_t count = 0;
  raw_inspect(raw, channel, &answer);
  if (answer.message->body_case == SLOTCAST__MESSAGE__BODY_CHANNEL_REPORT) {
    const Slotcast__ChannelReport *report = answer.message->channel_report;
    count = report->summary->publishers;
    if (ret_connected != NULL && report->n_users > 0) *ret_connected = report->users[0]->connected;
  }
  raw_answer_free(&answer);
  return count;
}

/* The broker learns of an end by its own poll: asking again is asking a loop that has turned once more.  One that never
 * learns of it is caught by the watchdog. */
static void await_no_publishers(struct raw *raw, const char *channel) {
  while (publishers_of(raw, channel, NULL) != 0) {
  }
}

/* ---- death ---- */

/* The grandchild has the dead one's socket, so the broker sees no end of it. */
static void test_killed_client_is_reclaimed_while_a_child_holds_its_socket(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw watcher;
  int pair[2], wstatus;
  raw_broker_start(&broker, NULL);
  raw_open(&watcher, &broker, 1);
  raw_join_subscriber(&watcher, "a");
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    struct raw raw;
    raw_open(&raw, &broker, 2);
    raw_join_publisher(&raw, "a");
    if (fork() == 0) { /* holds the socket until the test lets it go */
      say(pair[1]);
      hear(pair[1]);
      _exit(0);
    }
    pause();
  }
  hear(pair[0]);
  assert_int_equal(publishers_of(&watcher, "a", NULL), 1);
  kill(child, SIGKILL);
  assert_int_equal(waitpid(child, &wstatus, 0), child);
  await_no_publishers(&watcher, "a");
  say(pair[0]);
  close(pair[0]);
  close(pair[1]);
  raw_close(&watcher);
  raw_broker_stop(&broker);
}

/* A socket that closes is no death: what it had stays, until the process ends. */
static void test_closed_socket_is_no_death(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw watcher;
  int pair[2], wstatus;
  bool connected = true;
  raw_broker_start(&broker, NULL);
  raw_open(&watcher, &broker, 1);
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    struct raw raw;
    raw_open(&raw, &broker, 2);
    raw_join_publisher(&raw, "a");
    raw_close(&raw);
    raw_open(&raw, &broker, 2); /* the same program: another connection of it */
    say(pair[1]);
    hear(pair[1]);
    _exit(0);
  }
  hear(pair[0]);
  assert_int_equal(publishers_of(&watcher, "a", &connected), 1);
  assert_false(connected);
  say(pair[0]);
  assert_int_equal(waitpid(child, &wstatus, 0), child);
  assert_int_equal(wstatus, 0);
  await_no_publishers(&watcher, "a");
  close(pair[0]);
  close(pair[1]);
  raw_close(&watcher);
  raw_broker_stop(&broker);
}

/* ---- another program in the same process ---- */

/* What this program does after execve: says hello as another instance, and stays until it is told to go. */
static int run_as_another_program(char **argv) {
  struct raw_broker broker = {0};
  struct raw raw;
  int pair = atoi(argv[3]);
  snprintf(broker.socket, sizeof broker.socket, "%s", argv[2]);
  raw_open(&raw, &broker, 3);
  say(pair);
  hear(pair);
  return 0;
}

static void test_execve_gives_up_what_the_program_had(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw watcher;
  int pair[2], wstatus;
  raw_broker_start(&broker, NULL);
  raw_open(&watcher, &broker, 1);
  raw_join_subscriber(&watcher, "a");
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    struct raw raw;
    char number[16];
    raw_open(&raw, &broker, 2);
    raw_join_publisher(&raw, "a");
    say(pair[1]);
    hear(pair[1]);
    snprintf(number, sizeof number, "%d", pair[1]);
    execl("/proc/self/exe", "another", "--another-program", broker.socket, number, (char *)NULL);
    _exit(127);
  }
  hear(pair[0]);
  assert_int_equal(publishers_of(&watcher, "a", NULL), 1);
  say(pair[0]);
  hear(pair[0]); /* it runs, and has said hello */
  assert_int_equal(publishers_of(&watcher, "a", NULL), 0);
  say(pair[0]);
  assert_int_equal(waitpid(child, &wstatus, 0), child);
  assert_int_equal(wstatus, 0);
  close(pair[0]);
  close(pair[1]);
  raw_close(&watcher);
  raw_broker_stop(&broker);
}

/* ---- the broker's own end ---- */

/* The test is a publisher with a slot in its hand and a subscriber with a message in its own: both live, so neither may
 * lose it because the broker ends. */
static void test_members_keep_what_they_have_when_the_broker_ends(void **state) {
  (void)state;
  struct raw_broker broker;
  struct raw raw;
  struct raw_answer published, subscribed;
  raw_broker_start(&broker, NULL);
  raw_open(&raw, &broker, 1);
  Slotcast__OpenPublisher publisher = raw_publisher("a");
  raw_publish(&raw, &publisher, &published);
  Slotcast__OpenSubscriber subscriber = raw_subscriber("a");
  raw_subscribe(&raw, &subscriber, &subscribed);
  assert_int_equal(subscribed.message->body_case, SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED);

  const Slotcast__Geometry *shape = published.message->publisher_opened->geometry;
  struct slc__geometry geometry = {.slots = shape->slots,
                                   .log_size = shape->log_size,
                                   .max_publishers = shape->max_publishers,
                                   .reliable = (uint32_t)shape->reliable,
                                   .slot_size = shape->slot_size};
  size_t control_size = slc__layout_control_size(&geometry);
  size_t table_size = subscribed.message->descriptors[2]->size;
  uint8_t *control_base = mmap(NULL, control_size, PROT_READ | PROT_WRITE, MAP_SHARED, published.fds.fd[0], 0);
  struct slc__table_page *table = mmap(NULL, table_size, PROT_READ | PROT_WRITE, MAP_SHARED, subscribed.fds.fd[2], 0);
  assert_ptr_not_equal(control_base, MAP_FAILED);
  assert_ptr_not_equal(table, MAP_FAILED);
  struct slc__control control;
  slc__control_init(&control, &geometry, control_base);
  uint64_t mine = (uint64_t)published.message->publisher_opened->publisher_id << SLC__OWN_PUBLISHER_SHIFT;
  atomic_store(&control.own[5], mine);
  struct slc__hold_line *line = slc__table_line(table, subscribed.message->subscriber_opened->line);
  atomic_store(&line->cursor, 7);
  atomic_store(&line->holds[0], 1 + 6);

  raw_broker_stop(&broker);
  assert_int_equal(atomic_load(&control.own[5]), mine);
  assert_int_equal(atomic_load(&line->cursor), 7);
  assert_int_equal(atomic_load(&line->holds[0]), 1 + 6);

  munmap(control_base, control_size);
  munmap(table, table_size);
  raw_answer_free(&published);
  raw_answer_free(&subscribed);
  raw_close(&raw);
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "--another-program") == 0) return run_as_another_program(argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_killed_client_is_reclaimed_while_a_child_holds_its_socket),
      cmocka_unit_test(test_closed_socket_is_no_death),
      cmocka_unit_test(test_execve_gives_up_what_the_program_had),
      cmocka_unit_test(test_members_keep_what_they_have_when_the_broker_ends),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

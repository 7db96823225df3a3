/* The broker is killed again and again at any moment, and the next one goes on with what a shadow kept.  Publishers and
 * subscribers in processes of their own are left alone: each reliable stream arrives once and in order, requests are
 * answered sooner or later, nobody is told of anything but that the connection was lost and is back. */
#include "common.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { PUBLISHERS = 2, SUBSCRIBERS = 3, KILLS = 20, BETWEEN = 400, REQUEST_EVERY = 97 };

struct shared {
  _Atomic uint32_t opened;
  _Atomic uint32_t is_over;
  _Atomic uint64_t taken; /* by all */
};

struct note {
  uint32_t publisher;
  uint32_t is_last;
  uint64_t number;
};

static struct shared *shared;

/* In a child: what does not hold ends it. */
static void need(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "process %d: not so: %s (%s)\n", (int)getpid(), what, slc_error_detail());
  _exit(1);
}

static void tell(void *ctx, int event) {
  int *last = ctx;
  need(event == (*last == SLC_CONNECTION_LOST ? SLC_CONNECTION_BACK : SLC_CONNECTION_LOST), "lost and back in turn");
  *last = event;
}

static slc_client *connect_patiently(void) {
  static int last;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.reconnect_timeout_ns = -1;
  options.on_connection = tell;
  options.callback_ctx = &last;
  slc_client *client = NULL;
  need(slc_client_open(&options, &client) == 0, "client_open");
  return client;
}

/* A request, whose answer a kill may take away. */
static void come_and_go(slc_client *client) {
  slc_subscriber *subscriber = NULL;
  need(slc_subscriber_open(client, CHANNEL, NULL, &subscriber) == 0, "subscriber_open");
  slc_subscriber_close(subscriber);
}

static void send_note(slc_publisher *publisher, const struct note *note) {
  int status;
  while ((status = slc_publisher_send(publisher, note, sizeof *note, NULL)) == SLC_WOULD_BLOCK)
    need(slc_publisher_wait(publisher, SLC_WAIT_FOREVER) == 0, "publisher_wait");
  need(status == 0, "send");
}

static void publish(uint32_t number) {
  slc_client *client = connect_patiently();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = 1;
  options.slots = 64;
  slc_publisher *publisher = NULL;
  need(slc_publisher_open(client, CHANNEL, &options, &publisher) == 0, "publisher_open");
  shared->opened++;
  while (shared->opened < PUBLISHERS + SUBSCRIBERS) sched_yield();
  struct note note = {.publisher = number};
  while (!note.is_last) {
    note.is_last = shared->is_over;
    note.number++;
    if (note.number % REQUEST_EVERY == 0) come_and_go(client);
    send_note(publisher, &note);
  }
  slc_client_close(client);
}

static void subscribe(uint32_t number) {
  slc_client *client = connect_patiently();
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  slc_subscriber *subscriber = NULL;
  need(slc_subscriber_open(client, CHANNEL, &options, &subscriber) == 0, "subscriber_open");
  shared->opened++;
  uint64_t last[PUBLISHERS] = {0};
  for (uint32_t ended = 0; ended < PUBLISHERS;) {
    slc_message message;
    int status = slc_subscriber_take(subscriber, &message);
    if (status == SLC_EMPTY) {
      need(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER) == 0, "subscriber_wait");
      continue;
    }
    need(status == 0, "take");
    struct note note;
    memcpy(&note, message.data, sizeof note);
    need(note.publisher < PUBLISHERS && note.number == last[note.publisher] + 1, "once and in order");
    last[note.publisher] = note.number;
    ended += note.is_last;
    need(slc_subscriber_release(subscriber, &message) == 0, "release");
    if (++shared->taken % REQUEST_EVERY == number) come_and_go(client);
  }
  slc_subscriber_stats stats = {.size = sizeof stats};
  need(slc_subscriber_stats_get(subscriber, &stats) == 0 && stats.dropped == 0, "nothing dropped");
  slc_client_close(client);
}

static pid_t start(void (*run)(uint32_t), uint32_t number) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid > 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  run(number);
  _exit(0);
}

/* Until so many more have been taken; or one of them has given up, which its end tells. */
static void await_traffic(uint64_t more) {
  uint64_t until = shared->taken + more;
  while (shared->taken < until) {
    siginfo_t ended = {0};
    assert_int_equal(waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT), 0);
    assert_int_equal(ended.si_pid, 0);
    sched_yield();
  }
}

static void test_streams_across_kills(void **state) {
  struct test_broker *broker = *state;
  pid_t pids[PUBLISHERS + SUBSCRIBERS];
  uint32_t count = 0;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(shared, MAP_FAILED);
  for (uint32_t i = 0; i < PUBLISHERS; i++) pids[count++] = start(publish, i);
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) pids[count++] = start(subscribe, i);
  while (shared->opened < count) sched_yield();
  for (int i = 0; i < KILLS; i++) {
    await_traffic((uint64_t)(rand() % BETWEEN));
    test_broker_kill(broker);
    test_broker_resume(broker);
  }
  shared->is_over = 1;
  for (uint32_t i = 0; i < count; i++) {
    int status = -1;
    assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
    assert_int_equal(status, 0);
  }
  print_message("%ju messages taken\n", (uintmax_t)shared->taken);
  munmap(shared, sizeof *shared);
  slc_client *client = client_open();
  slc_channel_info *list = NULL;
  size_t channels = 1;
  while (channels > 0) { /* the last to leave may just be being reaped */
    check_ok(slc_channel_list(client, &list, &channels));
    slc_channel_list_free(list, channels);
  }
  slc_client_close(client);
}

static int setup(void **state) {
  struct test_broker *broker = malloc(sizeof *broker);
  if (broker == NULL) return -1;
  test_broker_start_shadowed(broker, 1, NULL);
  *state = broker;
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_streams_across_kills, setup, test_broker_teardown)};
  return cmocka_run_group_tests_name("client_restart", tests, NULL, NULL);
}

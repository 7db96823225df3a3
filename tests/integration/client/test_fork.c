/* Processes that fork in the middle of a stream: what parent and child do with the handles, and how they end, is no
 * matter to the other. */
#include "common.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 40 };

struct stream {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  uint64_t sent, taken;
};

static void stream_open(struct stream *stream, int locked) {
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  shape.reliable = options.reliable = 1;
  shape.locked = options.locked = locked;
  shape.max_loans = options.max_holds = 2;
  *stream = (struct stream){.client = client_open()};
  stream->publisher = publisher_open(stream->client, &shape);
  stream->subscriber = subscriber_open(stream->client, &options);
}

static void stream_go_on(struct stream *stream, int messages) {
  for (int i = 0; i < messages; i++) {
    send_pattern(stream->publisher, ++stream->sent, SIZE);
    take_pattern(stream->subscriber, ++stream->taken, SIZE);
  }
}

/* Nobody but the stream's own two is on the channel, once the broker has seen the others go. */
static void check_alone(const struct stream *stream) {
  uint32_t users = 0;
  while (users != 2) {
    slc_channel_info *info = NULL;
    check_ok(slc_channel_inspect(stream->client, CHANNEL, &info));
    users = info->user_count;
    slc_channel_info_free(info);
  }
}

typedef int (*child_fn)(struct stream *stream);

static pid_t child_start(child_fn child, struct stream *stream) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(child(stream));
  }
  return pid;
}

static int child_end(pid_t pid) {
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return status;
}

/* ---- what a child may do ---- */

static int child_tries(struct stream *stream) {
  slc_message message;
  if (slc_publisher_send(stream->publisher, "x", 1, NULL) != SLC_FORKED) return 1;
  if (slc_subscriber_take(stream->subscriber, &message) != SLC_FORKED) return 2;
  if (slc_subscriber_wait(stream->subscriber, SLC_WAIT_FOREVER) != SLC_FORKED) return 3;
  if (slc_publisher_wait(stream->publisher, SLC_WAIT_FOREVER) != SLC_FORKED) return 4;
  return 0;
}

static int child_closes(struct stream *stream) {
  slc_publisher_close(stream->publisher);
  slc_client_close(stream->client);
  return 0;
}

static int child_leaves_all_behind(struct stream *stream) {
  (void)stream;
  return 0;
}

/* A subscriber of its own, on the same channel, that takes one message and leaves without a word. */
static int child_subscribes(struct stream *stream) {
  slc_client *client;
  slc_subscriber *subscriber;
  slc_message message;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_LAST;
  if (slc_client_open(NULL, &client) != 0) return 1;
  if (slc_subscriber_open(client, CHANNEL, &options, &subscriber) != 0) return 2;
  if (slc_subscriber_take(subscriber, &message) != 0 || message.ordinal != stream->sent) return 3;
  if (slc_subscriber_take(stream->subscriber, &message) != SLC_FORKED) return 4;
  return 0;
}

/* The same, and ended in the middle: holding a message, with a loan. */
static int child_is_killed(struct stream *stream) {
  slc_publisher *publisher;
  slc_client *client;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_loan loan;
  options.reliable = 1;
  int status = child_subscribes(stream);
  if (status != 0) return status;
  if (slc_client_open(NULL, &client) != 0) return 5;
  if (slc_publisher_open(client, CHANNEL, &options, &publisher) != 0) return 6;
  if (slc_publisher_loan(publisher, 10, &loan) != 0) return 7;
  return raise(SIGKILL);
}

static void children_run(int locked) {
  static const struct {
    child_fn child;
    bool is_killed;
  } children[] = {{child_tries, false},
                  {child_closes, false},
                  {child_leaves_all_behind, false},
                  {child_subscribes, false},
                  {child_is_killed, true}};
  struct stream stream;
  stream_open(&stream, locked);
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < sizeof children / sizeof children[0]; i++) {
      stream_go_on(&stream, 30);
      slc_loan loan;
      slc_message held;
      send_pattern(stream.publisher, ++stream.sent, SIZE);
      check_ok(slc_subscriber_take(stream.subscriber, &held));
      check_ok(slc_publisher_loan(stream.publisher, SIZE, &loan));
      pid_t pid = child_start(children[i].child, &stream);
      int status = child_end(pid);
      if (children[i].is_killed)
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
      else
        assert_int_equal(status, 0);
      check_pattern(&held, ++stream.taken, SIZE);
      check_ok(slc_subscriber_release(stream.subscriber, &held));
      check_ok(slc_publisher_discard(stream.publisher, &loan));
      stream_go_on(&stream, 200); /* several times around the slots: none is lost to the child */
      check_alone(&stream);
    }
  }
  assert_int_equal(subscriber_stats(stream.subscriber).dropped, 0);
  slc_client_close(stream.client);
}

static void test_children_disturb_nobody(void **state) {
  (void)state;
  children_run(0);
  children_run(1);
}

/* ---- forks while another thread is in the middle of a call ---- */

struct streamer {
  struct stream *stream;
  _Atomic bool is_enough;
  int status;
};

static void *stream_on(void *ctx) {
  struct streamer *streamer = ctx;
  struct stream *stream = streamer->stream;
  while (!atomic_load(&streamer->is_enough) && streamer->status == 0) {
    slc_message message;
    streamer->status = slc_publisher_send(stream->publisher, "x", 1, NULL);
    if (streamer->status == 0) streamer->status = slc_subscriber_take(stream->subscriber, &message);
    if (streamer->status == 0) streamer->status = slc_subscriber_release(stream->subscriber, &message);
  }
  return NULL;
}

static void test_forks_beside_a_thread(void **state) {
  (void)state;
  struct stream stream;
  stream_open(&stream, 1); /* its lock, too, may be taken when the child is made */
  struct streamer streamer = {.stream = &stream};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, stream_on, &streamer), 0);
  for (int i = 0; i < 60; i++) {
    pid_t pid = child_start(i % 2 == 0 ? child_tries : child_closes, &stream);
    assert_int_equal(child_end(pid), 0);
  }
  atomic_store(&streamer.is_enough, true);
  pthread_join(thread, NULL);
  check_ok(streamer.status);
  check_alone(&stream);
  slc_client_close(stream.client);
}

/* ---- the parent that ends first ---- */

/* Ends when it is told to, or when nobody will. */
static void await_word(int fd) {
  char word;
  if (read(fd, &word, 1) < 0) _exit(90);
}

/* The grandchild: streams with handles of its own until the parent is dead and the test says so. */
static int grandchild(struct stream *inherited, int go_fd, int done_fd) {
  struct stream own = {0};
  slc_message message;
  if (slc_client_open(NULL, &own.client) != 0) return 1;
  if (slc_publisher_open(own.client, "test/grandchild", NULL, &own.publisher) != 0) return 2;
  if (slc_subscriber_open(own.client, "test/grandchild", NULL, &own.subscriber) != 0) return 3;
  if (write(done_fd, "r", 1) != 1) return 4;
  await_word(go_fd);
  for (uint64_t n = 1; n <= 500; n++) {
    if (slc_publisher_send(own.publisher, &n, sizeof n, NULL) != 0) return 5;
    if (slc_subscriber_take(own.subscriber, &message) != 0 || memcmp(message.data, &n, sizeof n) != 0) return 6;
    if (slc_subscriber_release(own.subscriber, &message) != 0) return 7;
  }
  if (slc_subscriber_take(inherited->subscriber, &message) != SLC_FORKED) return 8;
  slc_client_close(own.client);
  return write(done_fd, "d", 1) == 1 ? 0 : 9;
}

static _Noreturn void parent_run(const int go[2], const int done[2]) {
  struct stream stream;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  close(go[1]); /* so that the grandchild does not wait for a test that has ended */
  close(done[0]);
  stream_open(&stream, 0);
  stream_go_on(&stream, 10);
  pid_t pid = fork();
  if (pid == 0) _exit(grandchild(&stream, go[0], done[1]));
  for (;;) pause();
}

static void test_parent_dies_first(void **state) {
  (void)state;
  int go[2], done[2];
  char word;
  slc_client *client = client_open();
  assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); /* the grandchild is then ours to wait for */
  assert_int_equal(pipe(go) | pipe(done), 0);
  pid_t parent = fork();
  assert_true(parent >= 0);
  if (parent == 0) parent_run(go, done);
  assert_int_equal(read(done[0], &word, 1), 1);
  kill(parent, SIGKILL);
  assert_int_equal(WTERMSIG(child_end(parent)), SIGKILL);
  /* The broker reclaims what the dead process had, though its child has a copy of its connection. */
  for (slc_channel_info *info = NULL; slc_channel_inspect(client, CHANNEL, &info) == 0;) slc_channel_info_free(info);
  assert_int_equal(write(go[1], "g", 1), 1);
  assert_int_equal(read(done[0], &word, 1), 1);
  assert_int_equal(word, 'd');
  int status = 0;
  assert_true(waitpid(-1, &status, 0) > 0);
  assert_int_equal(status, 0);
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  for (int i = 0; i < 2; i++) close(go[i]), close(done[i]);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_children_disturb_nobody),
      BROKER_TEST(test_forks_beside_a_thread),
      BROKER_TEST(test_parent_dies_first),
  };
  return cmocka_run_group_tests_name("client_fork", tests, NULL, NULL);
}

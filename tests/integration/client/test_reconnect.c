/* The broker goes and another one comes that knows nothing; or a connection ends while its broker lives.  The clients
 * are left alone: nothing is opened again by the test. */
#include "common.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- what happens to connections ---- */

struct told {
  int events[256];
  int count;
};

static void tell(void *ctx, int event) {
  struct told *told = ctx;
  assert_true(told->count < 256);
  told->events[told->count++] = event;
}

/* What it asks while it comes back is answered, however long that takes on this machine. */
static slc_client *client_told(struct told *told) {
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.on_connection = told != NULL ? tell : NULL;
  options.callback_ctx = told;
  options.reconnect_timeout_ns = -1;
  slc_client *client = NULL;
  check_ok(slc_client_open(&options, &client));
  return client;
}

static slc_client *client_patient(void) {
  return client_told(NULL);
}

static void broker_anew(struct test_broker *broker) {
  test_broker_kill(broker);
  assert_int_equal(test_broker_restart(broker), 0);
}

static bool is_connection(int fd, const struct test_broker *broker) {
  struct sockaddr_un peer = {0};
  socklen_t size = sizeof peer;
  return getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sun_family == AF_UNIX &&
         strncmp(peer.sun_path, broker->directory, strlen(broker->directory)) == 0; /* it was renamed since */
}

/* All connections of this process end, as if the kernel had cut them. */
static int connections_cut(const struct test_broker *broker) {
  DIR *directory = opendir("/proc/self/fd");
  assert_non_null(directory);
  int count = 0;
  for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    int fd = (int)strtol(entry->d_name, NULL, 10);
    if (!is_connection(fd, broker)) continue;
    assert_int_equal(shutdown(fd, SHUT_RDWR), 0);
    count++;
  }
  closedir(directory);
  return count;
}

static slc_client_stats client_stats(slc_client *client) {
  slc_client_stats stats = {.size = sizeof stats};
  check_ok(slc_client_stats_get(client, &stats));
  return stats;
}

/* As an event loop does that has nothing else to do, until so many connections have come back. */
static void await_returns(slc_client *client, uint64_t wanted) {
  int fd = -1;
  check_ok(slc_client_fd(client, &fd));
  for (;;) {
    int status = slc_client_dispatch(client);
    assert_true(status == 0 || status == SLC_BROKER_GONE);
    slc_client_stats stats = client_stats(client);
    if (stats.back + stats.anew >= wanted && stats.connected) return;
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    assert_true(poll(&polled, 1, 10) >= 0); /* another thread may have done it since */
  }
}

static void send_number(slc_publisher *publisher, uint64_t number) {
  int status;
  while ((status = slc_publisher_send(publisher, &number, sizeof number, NULL)) == SLC_WOULD_BLOCK)
    check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  check_ok(status);
}

static uint64_t take_number(slc_subscriber *subscriber) {
  slc_message message;
  int status;
  uint64_t number;
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY)
    check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  check_ok(status);
  assert_int_equal(message.size, sizeof number);
  memcpy(&number, message.data, sizeof number);
  check_ok(slc_subscriber_release(subscriber, &message));
  return number;
}

/* ---- a broker that knows nothing ---- */

static void test_joins_anew(void **state) {
  struct test_broker *broker = *state;
  struct told told = {0};
  slc_client *client = client_told(&told);
  slc_client *other = client_patient();
  slc_publisher_options wide = SLC_PUBLISHER_OPTIONS_INIT;
  wide.slots = 32;
  wide.max_loans = 2;
  slc_publisher *publisher = publisher_open(client, &wide);
  slc_subscriber_options holds = SLC_SUBSCRIBER_OPTIONS_INIT;
  holds.max_holds = 2;
  slc_subscriber *subscriber = subscriber_open(other, &holds);
  for (uint64_t n = 1; n <= 10; n++) send_pattern(publisher, n, 40);
  take_pattern(subscriber, 1, 40);
  slc_message held, again;
  slc_loan lost, given_back;
  check_ok(slc_subscriber_take(subscriber, &held));
  check_ok(slc_publisher_loan(publisher, 40, &lost));
  check_ok(slc_publisher_loan(publisher, 40, &given_back));
  broker_anew(broker);
  await_returns(client, 1);
  await_returns(other, 1);
  memset(lost.data, 1, lost.capacity); /* is still there to be written */
  memset(given_back.data, 1, given_back.capacity);
  check_status(slc_publisher_publish(publisher, &lost, 8, NULL), SLC_STALE);
  check_ok(slc_publisher_discard(publisher, &given_back));
  check_status(slc_publisher_discard(publisher, &given_back), SLC_STALE);
  check_status(slc_publisher_discard(publisher, &lost), SLC_STALE);
  for (uint64_t n = 1; n <= 3; n++) send_pattern(publisher, n, 40); /* of another channel of that name */
  for (uint64_t n = 3; n <= 10; n++) take_pattern(subscriber, n, 40);
  take_pattern(subscriber, 1, 40);
  check_ok(slc_subscriber_take(subscriber, &again));
  check_pattern(&held, 2, 40);
  check_pattern(&again, 2, 40); /* the same ordinal, and not the same message */
  check_ok(slc_subscriber_release(subscriber, &held));
  check_status(slc_subscriber_release(subscriber, &held), SLC_STALE);
  check_pattern(&again, 2, 40);
  check_ok(slc_subscriber_release(subscriber, &again));
  take_pattern(subscriber, 3, 40);
  assert_int_equal(told.count, 2);
  assert_int_equal(told.events[0], SLC_CONNECTION_LOST);
  assert_int_equal(told.events[1], SLC_CONNECTION_ANEW);
  assert_int_equal(client_stats(client).anew, 1);
  assert_int_equal(client_stats(client).back, 0);
  slc_publisher_stats stats = {.size = sizeof stats};
  check_ok(slc_publisher_stats_get(publisher, &stats));
  assert_int_equal(stats.slots, 32);
  assert_int_equal(stats.subscribers, 1);
  slc_client_close(other);
  slc_client_close(client);
}

/* Nobody dispatches: what publishes and what waits finds out by itself. */
static void test_joins_anew_by_itself(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_patient(), *other = client_patient();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(other, NULL);
  send_number(publisher, 1);
  assert_int_equal(take_number(subscriber), 1);
  for (int round = 0; round < 3; round++) {
    broker_anew(broker);
    while (client_stats(client).anew <= (uint64_t)round) send_number(publisher, 2);
    send_number(publisher, 3);
    while (take_number(subscriber) != 3) {
    }
    slc_channel_info *info = NULL;
    check_ok(slc_channel_inspect(client, CHANNEL, &info));
    assert_int_equal(info->publishers, 1);
    assert_int_equal(info->subscribers, 1);
    slc_channel_info_free(info);
  }
  slc_client_close(other);
  slc_client_close(client);
}

/* The first to come back has asked for nothing in particular, and yet the channel is as it was. */
static void test_shape_stays(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_patient(), *other = client_patient();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 128;
  options.slot_size = 4096;
  slc_publisher *first = publisher_open(client, &options), *second = publisher_open(other, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  broker_anew(broker);
  await_returns(other, 1);
  await_returns(client, 1);
  send_number(second, 1);
  send_number(first, 2);
  assert_int_equal(take_number(subscriber), 1);
  assert_int_equal(take_number(subscriber), 2);
  slc_subscriber_stats stats = subscriber_stats(subscriber);
  assert_int_equal(stats.slots, 128);
  assert_int_equal(stats.slot_size, 4096);
  assert_int_equal(stats.publishers, 2);
  slc_client_close(other);
  slc_client_close(client);
}

/* Somebody else has made another channel of that name meanwhile. */
static void test_refused_anew(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_patient();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.type = "apples";
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options apples = SLC_SUBSCRIBER_OPTIONS_INIT;
  apples.type = "apples";
  slc_subscriber *subscriber = subscriber_open(client, &apples);
  send_number(publisher, 7);
  broker_anew(broker);
  slc_client *other = client_patient();
  options.type = "pears";
  slc_publisher *pears = publisher_open(other, &options);
  await_returns(client, 1);
  check_status(slc_publisher_send(publisher, "x", 1, NULL), SLC_INCOMPATIBLE);
  assert_non_null(strstr(slc_error_detail(), "pears"));
  assert_int_equal(take_number(subscriber), 7); /* of before */
  slc_message message;
  check_status(slc_subscriber_take(subscriber, &message), SLC_INCOMPATIBLE);
  check_status(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER), SLC_INCOMPATIBLE);
  slc_publisher_close(pears);
  slc_client_close(client);
  slc_client_close(other);
}

/* One that waits for its first publisher, and one whose publisher does not come back. */
static void test_waits_for_publisher(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_patient(), *other = client_patient();
  slc_subscriber *early = subscriber_open(client, NULL);
  slc_subscriber *watched = subscriber_open(client, NULL);
  int fd = -1;
  check_ok(slc_subscriber_fd(watched, &fd));
  slc_publisher *publisher = publisher_open(other, NULL);
  slc_publisher_close(publisher);
  broker_anew(broker);
  await_returns(client, 1);
  publisher = publisher_open(other, NULL);
  send_number(publisher, 5);
  assert_int_equal(take_number(early), 5);
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(watched, &message)) == SLC_EMPTY) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&polled, 1, -1), 1);
  }
  check_ok(status);
  slc_client_close(other);
  slc_client_close(client);
}

/* ---- event loops ---- */

/* Loops that know nothing but the readiness descriptors. */
static void test_event_loops_go_on(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_patient(), *other = client_patient();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(other, NULL), *second = subscriber_open(other, NULL);
  slc_waitset *set = NULL;
  check_ok(slc_waitset_new(&set));
  check_ok(slc_waitset_add_subscriber(set, second, NULL));
  int fd = -1, publisher_fd = -1;
  check_ok(slc_subscriber_fd(subscriber, &fd));
  check_ok(slc_publisher_fd(publisher, &publisher_fd));
  for (int round = 1; round <= 3; round++) {
    broker_anew(broker);
    await_returns(client, (uint64_t)round);
    slc_message message;
    while (client_stats(other).anew < (uint64_t)round) { /* readable by its end, and by each attempt that is due */
      struct pollfd polled = {.fd = fd, .events = POLLIN};
      assert_int_equal(poll(&polled, 1, -1), 1);
      check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
    }
    send_number(publisher, (uint64_t)round);
    int status;
    while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY) {
      struct pollfd polled = {.fd = fd, .events = POLLIN};
      assert_int_equal(poll(&polled, 1, -1), 1);
    }
    check_ok(status);
    assert_memory_equal(message.data, &(uint64_t){(uint64_t)round}, sizeof(uint64_t));
    check_ok(slc_subscriber_release(subscriber, &message));
    slc_waitset_event event;
    size_t count;
    do check_ok(slc_waitset_wait(set, SLC_WAIT_FOREVER, &event, 1, &count));
    while ((status = slc_subscriber_take(second, &message)) == SLC_EMPTY);
    check_ok(status);
    check_ok(slc_subscriber_release(second, &message));
    while (slc_subscriber_take(subscriber, &message) != SLC_EMPTY) {
    }
    check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&polled, 1, 0), 0);
    assert_int_equal(poll(&(struct pollfd){.fd = publisher_fd, .events = POLLIN}, 1, -1), 1);
  }
  slc_waitset_free(set);
  slc_client_close(other);
  slc_client_close(client);
}

/* ---- a connection that ends while its broker lives ---- */

/* Everything stays as it is: each message once, in order. */
static void test_reclaimed(void **state) {
  struct test_broker *broker = *state;
  enum { ROUNDS = 50, EACH = 40 };
  struct told told = {0};
  slc_client *client = client_patient(), *other = client_told(&told);
  slc_publisher_options reliable = SLC_PUBLISHER_OPTIONS_INIT;
  reliable.reliable = 1;
  reliable.slots = 32;
  reliable.max_loans = 2;
  slc_publisher *publisher = publisher_open(client, &reliable);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  slc_subscriber *subscriber = subscriber_open(other, &options);
  slc_loan loan;
  check_ok(slc_publisher_loan(publisher, 8, &loan));
  uint64_t sent = 0, taken = 0;
  for (uint64_t round = 1; round <= ROUNDS; round++) {
    assert_int_equal(connections_cut(broker), 2);
    for (int i = 0; i < EACH; i++) {
      if (sent - taken >= 20) assert_int_equal(take_number(subscriber), ++taken);
      send_number(publisher, ++sent);
    }
    if (round % 5 == 0) { /* somebody new: both have to learn it by what is pushed to them now */
      slc_subscriber *late = subscriber_open(other, NULL);
      send_number(publisher, ++sent);
      assert_int_equal(take_number(late), sent);
      slc_subscriber_close(late);
    }
    await_returns(client, round);
    await_returns(other, round);
  }
  while (taken < sent) assert_int_equal(take_number(subscriber), ++taken);
  memcpy(loan.data, &(uint64_t){++sent}, sizeof sent);
  check_ok(slc_publisher_publish(publisher, &loan, 8, NULL)); /* a loan from before all of it */
  assert_int_equal(take_number(subscriber), sent);
  assert_int_equal(subscriber_stats(subscriber).dropped, 0);
  assert_int_equal(client_stats(client).anew, 0);
  assert_int_equal(told.count % 2, 0);
  for (int i = 0; i < told.count; i++)
    assert_int_equal(told.events[i], i % 2 == 0 ? SLC_CONNECTION_LOST : SLC_CONNECTION_BACK);
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  assert_int_equal(info->user_count, 2);
  slc_channel_info_free(info);
  slc_client_close(other);
  slc_client_close(client);
}

/* The broker still has it, and learns that it was closed. */
static void test_closed_while_away(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_patient(), *other = client_patient();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_subscriber *stays = subscriber_open(other, NULL);
  slc_publisher *more = publisher_open(client, NULL);
  assert_int_equal(connections_cut(broker), 2);
  check_status(slc_client_dispatch(client), SLC_BROKER_GONE); /* it has seen it */
  slc_publisher_close(publisher);
  slc_subscriber_close(subscriber);
  await_returns(client, 1);
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  assert_int_equal(info->publishers, 1);
  assert_int_equal(info->subscribers, 1);
  slc_channel_info_free(info);
  send_number(more, 3);
  assert_int_equal(take_number(stays), 3);
  slc_client_close(other);
  slc_client_close(client);
}

/* A child has copies of the parent's descriptors, and of their places in its epoll sets. */
static void test_child_has_the_old_socket(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_patient();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  int fd = -1, pipes[2];
  check_ok(slc_subscriber_fd(subscriber, &fd));
  assert_int_equal(pipe(pipes), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    char byte;
    close(pipes[1]);
    if (slc_client_dispatch(client) != SLC_FORKED) _exit(1);
    if (slc_client_fd(client, &fd) != SLC_FORKED) _exit(2);
    slc_client_stats stats = {.size = sizeof stats};
    if (slc_client_stats_get(client, &stats) != SLC_FORKED) _exit(3);
    _exit(read(pipes[0], &byte, 1) == 0 ? 0 : 4);
  }
  assert_int_equal(connections_cut(broker), 1);
  slc_message message;
  do check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  while (client_stats(client).back == 0);
  /* The broker may still be ringing for the return. */
  do check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  while (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) != 0);
  send_number(publisher, 1);
  assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1), 1);
  assert_int_equal(take_number(subscriber), 1);
  close(pipes[1]);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  close(pipes[0]);
  slc_client_close(client);
}

/* ---- requests ---- */

struct asking {
  slc_client *client;
  pid_t thread;
  _Atomic bool is_asking;
  int status;
  slc_publisher *publisher;
};

static void *ask(void *ctx) {
  struct asking *asking = ctx;
  asking->thread = (pid_t)syscall(SYS_gettid);
  asking->is_asking = true;
  asking->status = slc_publisher_open(asking->client, "test/late", NULL, &asking->publisher);
  return NULL;
}

/* Asked while there is no broker, and answered by the next. */
static void test_request_waits(void **state) {
  struct test_broker *broker = *state;
  struct told told = {0};
  struct asking asking = {.client = client_told(&told)};
  test_broker_kill(broker);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, ask, &asking), 0);
  while (!asking.is_asking) sched_yield();
  await_ppoll(asking.thread);
  assert_int_equal(test_broker_restart(broker), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  check_ok(asking.status);
  send_number(asking.publisher, 1);
  slc_client_close(asking.client);
}

/* Asked of a broker that is killed before it answers. */
static void test_request_is_repeated(void **state) {
  struct test_broker *broker = *state;
  struct told told = {0};
  struct asking asking = {.client = client_told(&told)};
  stop(broker->pid);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, ask, &asking), 0);
  while (!asking.is_asking) sched_yield();
  await_ppoll(asking.thread);
  broker_anew(broker);
  assert_int_equal(pthread_join(thread, NULL), 0);
  check_ok(asking.status);
  send_number(asking.publisher, 1);
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(asking.client, "test/late", &info));
  assert_int_equal(info->publishers, 1);
  slc_channel_info_free(info);
  slc_client_close(asking.client);
}

/* No longer than it was told to; and from then on at once, until there is a broker. */
static void test_request_gives_up(void **state) {
  struct test_broker *broker = *state;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.reconnect_timeout_ns = 5 * MS;
  slc_client *client = NULL;
  check_ok(slc_client_open(&options, &client));
  slc_publisher *publisher = publisher_open(client, NULL);
  test_broker_kill(broker);
  slc_channel_info *list = NULL;
  size_t count = 0;
  for (int i = 0; i < 3; i++) {
    check_status(slc_channel_list(client, &list, &count), SLC_BROKER_GONE);
    assert_non_null(strstr(slc_error_detail(), broker->socket));
  }
  assert_int_equal(client_stats(client).connected, 0);
  assert_int_equal(test_broker_restart(broker), 0);
  await_returns(client, 1);
  check_ok(slc_channel_list(client, &list, &count));
  assert_int_equal(count, 1);
  slc_channel_list_free(list, count);
  send_number(publisher, 1);
  slc_client_close(client);
}

/* ---- channels of other kinds ---- */

/* Sends and takes one of this size, with the pattern of `n`. */
static void pass_on(slc_publisher *publisher, slc_subscriber *subscriber, uint64_t n, size_t size) {
  slc_loan loan;
  int status;
  while ((status = slc_publisher_loan(publisher, size, &loan)) == SLC_WOULD_BLOCK)
    check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  check_ok(status);
  for (size_t i = 0; i < size; i++) ((uint8_t *)loan.data)[i] = pattern(n, i);
  check_ok(slc_publisher_publish(publisher, &loan, size, NULL));
  slc_message message;
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY)
    check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  check_ok(status);
  assert_int_equal(message.size, size);
  for (size_t i = 0; i < size; i++) assert_int_equal(((const uint8_t *)message.data)[i], pattern(n, i));
  check_ok(slc_subscriber_release(subscriber, &message));
}

/* Their connections end; then their broker; and they grow. */
static void go_through_it(struct test_broker *broker, const slc_publisher_options *options,
                          const slc_subscriber_options *wishes) {
  slc_client *client = client_patient(), *other = client_patient();
  slc_publisher *publisher = publisher_open(client, options);
  slc_subscriber *subscriber = subscriber_open(other, wishes);
  uint64_t n = 0;
  for (int round = 0; round < 4; round++) {
    pass_on(publisher, subscriber, ++n, 40);
    pass_on(publisher, subscriber, ++n, (size_t)3000 << round);
    if (round % 2 == 0)
      assert_int_equal(connections_cut(broker), 2);
    else
      broker_anew(broker);
    pass_on(publisher, subscriber, ++n, (size_t)4000 << round); /* it need not have noticed */
    await_returns(client, (uint64_t)round + 1);
    await_returns(other, (uint64_t)round + 1);
    pass_on(publisher, subscriber, ++n, (size_t)5000 << round);
  }
  assert_int_equal(client_stats(client).anew, 2);
  assert_int_equal(client_stats(client).back, 2);
  slc_client_close(other);
  slc_client_close(client);
}

static void test_growing_channel(void **state) {
  go_through_it(*state, NULL, NULL);
}

static void test_split_channel(void **state) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = 16;
  go_through_it(*state, &options, NULL);
}

static void test_virtual_channel(void **state) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.multiplexer = wishes.multiplexer = "test/multiplexer";
  go_through_it(*state, &options, &wishes);
}

/* Metadata, checksums, threads that take turns, and a doorbell. */
static void test_special_channel(void **state) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.metadata_size = 16;
  options.checksum = SLC_CHECKSUM_CRC32C;
  options.locked = wishes.locked = 1;
  options.retirement = 1;
  options.activation = 1;
  go_through_it(*state, &options, &wishes);
}

/* ---- many threads ---- */

enum { PAIRS = 4, BROKERS = 4 };

struct stream {
  slc_client *client;
  const char *name;
  _Atomic uint64_t *wanted; /* the last number is to be this one; 0: none yet */
  _Atomic uint32_t *opened; /* by how many */
  bool is_publisher;
};

/* Rising numbers, until the wanted one has gone out. */
static void stream_publish(const struct stream *stream) {
  slc_publisher *publisher = NULL;
  check_ok(slc_publisher_open(stream->client, stream->name, NULL, &publisher));
  ++*stream->opened;
  for (uint64_t n = 1;; n++) {
    send_number(publisher, n);
    uint64_t wanted = *stream->wanted;
    if (wanted != 0 && n < wanted) n = wanted - 1;
    if (wanted != 0 && n > wanted) break;
    sched_yield();
  }
  slc_publisher_close(publisher);
}

/* Never back, whatever happens to the channel. */
static void stream_take(const struct stream *stream) {
  slc_subscriber *subscriber = NULL;
  check_ok(slc_subscriber_open(stream->client, stream->name, NULL, &subscriber));
  ++*stream->opened;
  for (uint64_t last = 0;;) {
    uint64_t n = take_number(subscriber);
    assert_true(n > last);
    last = n;
    uint64_t wanted = *stream->wanted;
    if (wanted != 0 && n >= wanted) break;
  }
  slc_subscriber_close(subscriber);
}

static void *stream_run(void *ctx) {
  const struct stream *stream = ctx;
  if (stream->is_publisher)
    stream_publish(stream);
  else
    stream_take(stream);
  return NULL;
}

static void test_threads(void **state) {
  struct test_broker *broker = *state;
  static const char *const names[PAIRS] = {"test/0", "test/1", "test/2", "test/3"};
  _Atomic uint64_t wanted = 0;
  _Atomic uint32_t opened = 0;
  slc_client *clients[2] = {client_patient(), client_patient()};
  struct stream streams[2 * PAIRS];
  pthread_t threads[2 * PAIRS];
  for (int i = 0; i < 2 * PAIRS; i++) {
    streams[i] = (struct stream){.client = clients[i % 2],
                                 .name = names[i / 2],
                                 .wanted = &wanted,
                                 .opened = &opened,
                                 .is_publisher = i % 4 == 0 || i % 4 == 3};
    assert_int_equal(pthread_create(&threads[i], NULL, stream_run, &streams[i]), 0);
  }
  while (opened < 2 * PAIRS) sched_yield(); /* a subscriber that came after the last message would wait for ever */
  for (int i = 1; i <= BROKERS; i++) {
    if (i % 2 == 0)
      broker_anew(broker);
    else
      assert_true(connections_cut(broker) >= 1);
    await_returns(clients[0], (uint64_t)i);
    await_returns(clients[1], (uint64_t)i);
  }
  wanted = UINT64_C(1) << 40;
  for (int i = 0; i < 2 * PAIRS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  slc_client_close(clients[0]);
  slc_client_close(clients[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_joins_anew),
      BROKER_TEST(test_joins_anew_by_itself),
      BROKER_TEST(test_shape_stays),
      BROKER_TEST(test_refused_anew),
      BROKER_TEST(test_waits_for_publisher),
      BROKER_TEST(test_event_loops_go_on),
      BROKER_TEST(test_reclaimed),
      BROKER_TEST(test_closed_while_away),
      BROKER_TEST(test_child_has_the_old_socket),
      BROKER_TEST(test_request_waits),
      BROKER_TEST(test_request_is_repeated),
      BROKER_TEST(test_request_gives_up),
      BROKER_TEST(test_growing_channel),
      BROKER_TEST(test_split_channel),
      BROKER_TEST(test_virtual_channel),
      BROKER_TEST(test_special_channel),
      BROKER_TEST(test_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Virtual channels through a real broker: names and ids, subscribers to one and to all, a thousand of them by several
 * processes, deaths and latecomers, exact losses. */
#include "common.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUX "test/mux"

static slc_publisher_options in_mux(uint32_t virtual_id) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.multiplexer = MUX;
  options.virtual_id = virtual_id;
  return options;
}

static slc_publisher *publish_to(slc_client *client, const char *name, uint32_t virtual_id) {
  slc_publisher_options options = in_mux(virtual_id);
  slc_publisher *publisher = NULL;
  check_ok(slc_publisher_open(client, name, &options, &publisher));
  return publisher;
}

static slc_subscriber *subscribe_to(slc_client *client, const char *name, int start) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = start;
  if (name != NULL) options.multiplexer = MUX;
  slc_subscriber *subscriber = NULL;
  check_ok(slc_subscriber_open(client, name != NULL ? name : MUX, &options, &subscriber));
  return subscriber;
}

static uint32_t id_of(slc_publisher *publisher) {
  slc_publisher_stats stats = {.size = sizeof stats};
  check_ok(slc_publisher_stats_get(publisher, &stats));
  return stats.virtual_id;
}

static void take_text(slc_subscriber *subscriber, uint32_t id, uint64_t ordinal, const char *text) {
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_int_equal(message.virtual_id, id);
  assert_int_equal(message.virtual_ordinal, ordinal);
  assert_int_equal(message.size, strlen(text));
  assert_memory_equal(message.data, text, message.size);
  check_ok(slc_subscriber_release(subscriber, &message));
}

static void take_nothing(slc_subscriber *subscriber) {
  slc_message message;
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
}

static void send_text(slc_publisher *publisher, const char *text) {
  check_ok(slc_publisher_send(publisher, text, strlen(text), NULL));
}

static slc_virtual_stats virtual_stats(slc_subscriber *subscriber, uint32_t id) {
  slc_virtual_stats stats = {.size = sizeof stats};
  check_ok(slc_subscriber_virtual_stats_get(subscriber, id, &stats));
  return stats;
}

/* ---- names, ids, ordinals ---- */

static void test_virtual_one_and_all(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *a = publish_to(client, "a", 0), *b = publish_to(client, "b", 7), *again = publish_to(client, "a", 0);
  assert_int_equal(id_of(a), 1);
  assert_int_equal(id_of(b), 7);
  assert_int_equal(id_of(again), 1);
  slc_subscriber *all = subscribe_to(client, NULL, SLC_START_NEWEST),
                 *one = subscribe_to(client, "a", SLC_START_NEWEST);
  send_text(a, "a1");
  send_text(b, "b1");
  send_text(again, "a2");
  send_text(b, "b2 is longer than what lies in a prefix");
  take_text(all, 1, 1, "a1");
  take_text(all, 7, 1, "b1");
  take_text(all, 1, 2, "a2");
  take_text(all, 7, 2, "b2 is longer than what lies in a prefix");
  take_nothing(all);
  take_text(one, 1, 1, "a1");
  take_text(one, 1, 2, "a2");
  take_nothing(one);
  assert_int_equal(virtual_stats(all, 7).received, 2);
  assert_int_equal(virtual_stats(one, 1).received, 2);
  slc_virtual_stats stats = {.size = sizeof stats};
  check_status(slc_subscriber_virtual_stats_get(one, 7, &stats), SLC_INVALID);
  check_status(slc_subscriber_virtual_stats_get(all, 1025, &stats), SLC_INVALID);
  assert_int_equal(subscriber_stats(one).virtual_id, 1);
  assert_int_equal(subscriber_stats(one).lag, 0);
  assert_int_equal(subscriber_stats(all).virtual_id, 0);
  assert_int_equal(subscriber_stats(all).max_virtual, 1024);
  slc_client_close(client);
}

static void test_virtual_refusals(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *a = publish_to(client, "a", 3), *refused = NULL;
  slc_publisher_options options = in_mux(3);
  check_status(slc_publisher_open(client, "b", &options, &refused), SLC_INCOMPATIBLE);
  assert_non_null(strstr(slc_error_detail(), "virtual channel a"));
  options = in_mux(4);
  check_status(slc_publisher_open(client, "a", &options, &refused), SLC_INCOMPATIBLE);
  options = in_mux(1025);
  check_status(slc_publisher_open(client, "c", &options, &refused), SLC_INCOMPATIBLE);
  options = in_mux(0);
  options.max_virtual = 1025;
  check_status(slc_publisher_open(client, "c", &options, &refused), SLC_INCOMPATIBLE);
  options.max_virtual = 65535;
  options.multiplexer = "test/other";
  check_status(slc_publisher_open(client, "c", &options, &refused), SLC_INVALID);
  check_status(slc_publisher_open(client, MUX, NULL, &refused), SLC_INCOMPATIBLE); /* it is no plain channel */
  options = in_mux(0);
  options.multiplexer = NULL;
  options.virtual_id = 1;
  check_status(slc_publisher_open(client, "c", &options, &refused), SLC_INVALID);
  options.virtual_id = 0;
  options.multiplexer = ".slotcast/mine";
  check_status(slc_publisher_open(client, "c", &options, &refused), SLC_NAME_INVALID);
  slc_publisher *plain = publisher_open(client, NULL);
  options.multiplexer = CHANNEL;
  check_status(slc_publisher_open(client, "c", &options, &refused), SLC_INCOMPATIBLE);
  slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *deaf = NULL;
  wishes.multiplexer = CHANNEL;
  check_status(slc_subscriber_open(client, "c", &wishes, &deaf), SLC_INCOMPATIBLE);
  slc_subscriber_options typed = SLC_SUBSCRIBER_OPTIONS_INIT;
  options = in_mux(0);
  options.type = "text";
  check_ok(slc_publisher_open(client, "typed", &options, &refused));
  typed.multiplexer = MUX;
  typed.type = "image";
  check_status(slc_subscriber_open(client, "typed", &typed, &deaf), SLC_INCOMPATIBLE);
  check_ok(slc_subscriber_open(client, "a", &typed, &deaf));
  slc_subscriber_close(deaf);
  typed.multiplexer = NULL;
  check_status(slc_subscriber_open(client, MUX, &typed, &deaf), SLC_INCOMPATIBLE);
  slc_publisher_close(plain);
  slc_publisher_close(a);
  slc_client_close(client);
}

/* Before the multiplexer, before the virtual channel, and what a plain publisher must not do to them. */
static void test_virtual_subscriber_comes_first(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *b = subscribe_to(client, "b", SLC_START_NEWEST), *c = subscribe_to(client, "c", SLC_START_NEWEST);
  slc_subscriber *all = subscribe_to(client, NULL, SLC_START_NEWEST);
  slc_publisher *plain = NULL;
  check_status(slc_publisher_open(client, MUX, NULL, &plain), SLC_INCOMPATIBLE);
  take_nothing(b);
  slc_publisher *a = publish_to(client, "a", 0);
  for (int i = 0; i < 1000; i++) send_text(a, "a");
  take_nothing(b);
  assert_int_equal(subscriber_stats(b).attached, 0);
  slc_publisher *publisher = publish_to(client, "b", 0);
  send_text(publisher, "b1");
  send_text(a, "a");
  take_text(b, 2, 1, "b1");
  take_nothing(b);
  take_nothing(c);
  assert_int_equal(subscriber_stats(b).dropped, 0);
  publisher = publish_to(client, "c", 9);
  for (int i = 0; i < 100; i++) send_text(publisher, "c");
  slc_message message;
  check_ok(slc_subscriber_take(c, &message));
  assert_true(message.virtual_ordinal > 1);
  assert_int_equal(subscriber_stats(c).dropped, message.virtual_ordinal - 1); /* it was here before the first */
  while (slc_subscriber_take(all, &message) == 0) check_ok(slc_subscriber_release(all, &message));
  assert_int_equal(virtual_stats(all, 1).received + virtual_stats(all, 1).dropped, 1001);
  assert_int_equal(virtual_stats(all, 9).received + virtual_stats(all, 9).dropped, 100);
  slc_client_close(client);
}

static void test_virtual_latecomers(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *a = publish_to(client, "a", 0), *b = publish_to(client, "b", 0);
  send_text(a, "a1");
  send_text(a, "a2");
  send_text(a, "a3");
  send_text(b, "b1");
  slc_subscriber *last = subscribe_to(client, "a", SLC_START_LAST),
                 *oldest = subscribe_to(client, "a", SLC_START_OLDEST);
  slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
  wishes.multiplexer = MUX;
  wishes.start = SLC_START_LAST;
  wishes.start_count = 2;
  slc_subscriber *two = NULL;
  check_ok(slc_subscriber_open(client, "a", &wishes, &two));
  take_text(last, 1, 3, "a3"); /* its own latest, not that of the multiplexer */
  take_nothing(last);
  take_text(two, 1, 2, "a2");
  take_text(two, 1, 3, "a3");
  for (uint64_t n = 1; n <= 3; n++) {
    char text[8];
    snprintf(text, sizeof text, "a%d", (int)n);
    take_text(oldest, 1, n, text);
  }
  take_nothing(oldest);
  slc_publisher_close(a);
  a = publish_to(client, "a", 0); /* the name and its ordinals have stayed */
  send_text(a, "a4");
  take_text(last, 1, 4, "a4");
  slc_subscriber *none = subscribe_to(client, "never", SLC_START_LAST);
  take_nothing(none);
  slc_client_close(client);
}

/* ---- waking ---- */

static bool is_readable(int fd) {
  struct pollfd poller = {.fd = fd, .events = POLLIN};
  return poll(&poller, 1, 0) == 1;
}

static void test_virtual_descriptor_is_silent_for_others(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *a = publish_to(client, "a", 0), *b = publish_to(client, "b", 0);
  slc_subscriber *one = subscribe_to(client, "a", SLC_START_NEWEST),
                 *first = subscribe_to(client, "c", SLC_START_NEWEST);
  int fd, first_fd;
  check_ok(slc_subscriber_fd(one, &fd));
  check_ok(slc_subscriber_fd(first, &first_fd));
  take_nothing(one);
  for (int i = 0; i < 500; i++) {
    send_text(b, "b");
    assert_false(is_readable(fd));
  }
  send_text(a, "a1");
  assert_true(is_readable(fd));
  take_text(one, 1, 1, "a1");
  take_nothing(one);
  send_text(b, "b");
  assert_false(is_readable(fd));
  slc_publisher *c = publish_to(client, "c", 0);
  assert_true(is_readable(first_fd)); /* attached */
  take_nothing(first);
  send_text(b, "b");
  assert_false(is_readable(first_fd));
  send_text(c, "c1");
  assert_true(is_readable(first_fd));
  take_text(first, 3, 1, "c1");
  slc_client_close(client);
}

/* ---- budget, limits, ids that are used again ---- */

static void test_virtual_budget_is_the_multiplexers(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = in_mux(0);
  options.slots = 16;
  slc_publisher *publisher = NULL, *last = NULL;
  char name[16] = "first";
  int status = slc_publisher_open(client, name, &options, &publisher);
  check_ok(status);
  uint32_t admitted = 1;
  while (status == 0) {
    snprintf(name, sizeof name, "v%u", admitted++);
    status = slc_publisher_open(client, name, &options, &last);
  }
  assert_int_equal(status, SLC_NO_BUDGET);
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, MUX, &info));
  assert_int_equal(info->publishers, admitted - 1);
  assert_true(info->budget_used <= 15);
  slc_channel_info_free(info);
  slc_client_close(client);
}

static void test_virtual_ids_are_used_again(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = in_mux(0);
  options.max_virtual = 2;
  slc_publisher *a = NULL, *b = NULL, *c = NULL;
  check_ok(slc_publisher_open(client, "a", &options, &a));
  check_ok(slc_publisher_open(client, "b", &options, &b));
  slc_subscriber *all = subscribe_to(client, NULL, SLC_START_NEWEST);
  check_status(slc_publisher_open(client, "c", &options, &c), SLC_LIMIT);
  for (int i = 0; i < 5; i++) send_text(a, "a");
  slc_publisher_close(a);
  check_ok(slc_publisher_open(client, "c", &options, &c));
  assert_int_equal(id_of(c), 1);
  slc_subscriber *one = subscribe_to(client, "c", SLC_START_OLDEST);
  send_text(c, "c1");
  take_text(one, 1, 1, "c1");
  take_nothing(one);
  for (uint64_t n = 1; n <= 5; n++) take_text(all, 1, n, "a");
  take_text(all, 1, 1, "c1");
  assert_int_equal(virtual_stats(all, 1).received, 1);
  check_status(slc_publisher_open(client, "a", &options, &a), SLC_LIMIT); /* "a" has gone, and b and c are there */
  slc_client_close(client);
}

static void test_virtual_inspection(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_channel_options shape = SLC_CHANNEL_OPTIONS_INIT;
  shape.max_virtual = 500;
  shape.slots = 2048;
  shape.max_publishers = 400;
  check_ok(slc_channel_create(client, MUX, &shape));
  char name[16];
  for (uint32_t i = 1; i <= 300; i++) {
    snprintf(name, sizeof name, "v%03u", i);
    slc_publisher *publisher = publish_to(client, name, 0);
    for (uint32_t n = 0; n < i % 3; n++) send_text(publisher, "x");
  }
  slc_subscriber *one = subscribe_to(client, "v007", SLC_START_NEWEST);
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, MUX, &info));
  assert_int_equal(info->max_virtual, 500);
  assert_int_equal(info->virtual_count, 300);
  for (uint32_t i = 0; i < 300; i++) {
    snprintf(name, sizeof name, "v%03u", i + 1);
    assert_string_equal(info->virtuals[i].name, name);
    assert_int_equal(info->virtuals[i].id, i + 1);
    assert_int_equal(info->virtuals[i].messages, (i + 1) % 3);
    assert_int_equal(info->virtuals[i].publishers, 1);
    assert_int_equal(info->virtuals[i].subscribers, i == 6 ? 1 : 0);
  }
  assert_int_equal(info->user_count, 301);
  slc_channel_info_free(info);
  slc_subscriber_close(one);
  slc_channel_info *list = NULL;
  size_t count = 0;
  check_ok(slc_channel_list(client, &list, &count));
  assert_int_equal(count, 1);
  assert_int_equal(list[0].virtual_count, 300);
  assert_int_equal(list[0].max_virtual, 500);
  slc_channel_list_free(list, count);
  check_ok(slc_channel_remove(client, MUX, 1));
  slc_client_close(client);
}

/* ---- a thousand, by several processes ---- */

enum { PROCESSES = 4, PER_PROCESS = 250, THOUSAND = PROCESSES * PER_PROCESS, ROUNDS = 20, SLOTS = 4096 };

/* In a child, where nobody would hear of a failed assertion. */
static void must(int status) {
  if (status >= 0) return;
  fprintf(stderr, "a publisher's process: %s (%s)\n", slc_status_name(status), slc_error_detail());
  _exit(1);
}

/* Who joins may stop a publisher for a moment, and reliable subscribers for longer. */
static void must_send(slc_publisher *publisher, const void *data, size_t size) {
  int status;
  while ((status = slc_publisher_send(publisher, data, size, NULL)) == SLC_WOULD_BLOCK)
    slc_publisher_wait(publisher, 100 * MS);
  must(status);
}

struct crew {
  pid_t pids[PROCESSES];
  int ready[2], go[2];
};

static void name_of(uint32_t id, char name[16]) {
  snprintf(name, 16, "sensor/%04u", id);
}

static slc_publisher *open_one_of_thousand(slc_client *client, uint32_t id) {
  slc_publisher_options options = in_mux(id);
  options.slots = SLOTS;
  options.slot_size = 64;
  options.max_publishers = THOUSAND + PROCESSES;
  char name[16];
  name_of(id, name);
  slc_publisher *publisher = NULL;
  must(slc_publisher_open(client, name, &options, &publisher));
  return publisher;
}

/* Publishes its ids in turn, each message its id and how many there are of this publisher so far. */
static void crew_member(struct crew *crew, uint32_t first, uint32_t rounds) {
  slc_client *client = NULL;
  must(slc_client_open(NULL, &client));
  slc_publisher *publishers[PER_PROCESS];
  for (uint32_t i = 0; i < PER_PROCESS; i++) publishers[i] = open_one_of_thousand(client, first + i);
  char byte = 0;
  if (write(crew->ready[1], "", 1) != 1 || read(crew->go[0], &byte, 1) != 1) _exit(1);
  for (uint32_t round = 1; round <= rounds; round++) {
    for (uint32_t i = 0; i < PER_PROCESS; i++) {
      uint32_t content[2] = {first + i, round};
      must_send(publishers[i], content, sizeof content);
    }
  }
  slc_client_close(client);
  _exit(0);
}

static void crew_start(struct crew *crew, uint32_t last_ones_rounds) {
  assert_int_equal(pipe(crew->ready), 0);
  assert_int_equal(pipe(crew->go), 0);
  for (uint32_t i = 0; i < PROCESSES; i++) {
    uint32_t rounds = i == PROCESSES - 1 ? last_ones_rounds : ROUNDS;
    crew->pids[i] = fork();
    assert_true(crew->pids[i] >= 0);
    if (crew->pids[i] == 0) crew_member(crew, 1 + i * PER_PROCESS, rounds);
  }
  close(crew->ready[1]); /* a member that fails is heard */
  close(crew->go[0]);
  char byte;
  for (int i = 0; i < PROCESSES; i++) assert_int_equal(read(crew->ready[0], &byte, 1), 1);
}

static void crew_go(const struct crew *crew) {
  assert_int_equal(write(crew->go[1], "1234", PROCESSES), PROCESSES);
}

static void crew_close(const struct crew *crew) {
  close(crew->ready[0]);
  close(crew->go[1]);
}

/* What one subscriber has seen of each. */
struct seen {
  uint64_t expected[THOUSAND + 1]; /* the next ordinal, when it is not lost; 0: any */
  uint64_t told[THOUSAND + 1];
  uint64_t received;
  uint32_t last_id;
};

static void note_drop(void *ctx, uint32_t virtual_id, uint64_t first, uint64_t count) {
  struct seen *seen = ctx;
  assert_true(virtual_id >= 1 && virtual_id <= THOUSAND);
  if (seen->expected[virtual_id] != 0) assert_int_equal(first, seen->expected[virtual_id]);
  seen->expected[virtual_id] = first + count;
  seen->told[virtual_id] += count;
}

static slc_subscriber *subscribe_noting(slc_client *client, const char *name, int start, struct seen *seen) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = start;
  options.on_drop = note_drop;
  options.callback_ctx = seen;
  if (name != NULL) options.multiplexer = MUX;
  slc_subscriber *subscriber = NULL;
  check_ok(slc_subscriber_open(client, name != NULL ? name : MUX, &options, &subscriber));
  return subscriber;
}

/* Takes what there is, slowly if so wished; each in its order, and with what its ordinal says. */
static void drain(slc_subscriber *subscriber, struct seen *seen) {
  slc_message message;
  uint32_t content[2];
  int status;
  while ((status = slc_subscriber_take(subscriber, &message)) == 0) {
    assert_int_equal(message.size, sizeof content);
    memcpy(content, message.data, sizeof content);
    assert_int_equal(message.virtual_id, content[0]);
    assert_int_equal(message.virtual_ordinal, content[1]);
    uint64_t *expected = &seen->expected[message.virtual_id];
    if (*expected != 0) assert_int_equal(message.virtual_ordinal, *expected);
    *expected = message.virtual_ordinal + 1;
    seen->received++;
    seen->last_id = message.virtual_id;
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  check_status(status, SLC_EMPTY);
}

static void crew_await_end(const struct crew *crew, uint32_t members) {
  for (uint32_t i = 0; i < members; i++) {
    int status = 0;
    assert_int_equal(waitpid(crew->pids[i], &status, 0), crew->pids[i]);
    assert_int_equal(status, 0);
  }
}

/* One that keeps up, one that looks only in the end, one that wants a single channel, and one that comes in the end. */
static void test_virtual_a_thousand(void **state) {
  (void)state;
  struct crew crew;
  crew_start(&crew, ROUNDS);
  slc_client *client = client_open();
  struct seen *seen = calloc(4, sizeof *seen);
  assert_non_null(seen);
  slc_subscriber *busy = subscribe_noting(client, NULL, SLC_START_NEWEST, &seen[0]);
  slc_subscriber *lazy = subscribe_noting(client, NULL, SLC_START_NEWEST, &seen[1]);
  slc_subscriber *one = subscribe_noting(client, "sensor/0777", SLC_START_NEWEST, &seen[2]);
  crew_go(&crew);
  while (seen[0].expected[1] == 0) drain(busy, &seen[0]);
  for (int i = 0; i < 1000; i++) drain(busy, &seen[0]);
  crew_await_end(&crew, PROCESSES);
  drain(busy, &seen[0]);
  drain(lazy, &seen[1]);
  drain(one, &seen[2]);
  for (uint32_t id = 1; id <= THOUSAND; id++) {
    for (int i = 0; i < 2; i++) {
      slc_virtual_stats stats = virtual_stats(i == 0 ? busy : lazy, id);
      assert_int_equal(stats.received + stats.dropped, ROUNDS);
      assert_int_equal(stats.dropped, seen[i].told[id]);
    }
  }
  assert_int_equal(seen[1].received + subscriber_stats(lazy).dropped, THOUSAND * ROUNDS);
  assert_true(subscriber_stats(lazy).dropped > 0);
  assert_int_equal(virtual_stats(one, 777).received + virtual_stats(one, 777).dropped, ROUNDS);
  assert_int_equal(subscriber_stats(one).dropped, seen[2].told[777]);
  char name[16];
  name_of(seen[0].last_id, name);
  slc_subscriber *late = subscribe_noting(client, name, SLC_START_LAST, &seen[3]);
  drain(late, &seen[3]);
  assert_int_equal(seen[3].received, 1);
  assert_int_equal(seen[3].expected[seen[0].last_id], ROUNDS + 1);
  slc_client_close(client);
  crew_close(&crew);
  free(seen);
}

/* The last of the crew never ends, and is killed in the middle: its channels go on where they were. */
static void test_virtual_a_publisher_is_killed(void **state) {
  (void)state;
  struct crew crew;
  crew_start(&crew, UINT32_MAX);
  slc_client *client = client_open();
  struct seen *seen = calloc(1, sizeof *seen);
  assert_non_null(seen);
  slc_subscriber *all = subscribe_noting(client, NULL, SLC_START_NEWEST, seen);
  crew_go(&crew);
  while (seen->expected[THOUSAND] < 10 * ROUNDS) drain(all, seen);
  kill(crew.pids[PROCESSES - 1], SIGKILL);
  assert_int_equal(waitpid(crew.pids[PROCESSES - 1], NULL, 0), crew.pids[PROCESSES - 1]);
  crew_await_end(&crew, PROCESSES - 1);
  drain(all, seen);
  for (uint32_t id = THOUSAND - PER_PROCESS + 1; id <= THOUSAND; id++) { /* no hole, no duplicate */
    uint64_t next = seen->expected[id];
    slc_publisher *successor = open_one_of_thousand(client, id);
    uint32_t content[2] = {id, (uint32_t)next};
    must_send(successor, content, sizeof content);
    slc_publisher_close(successor);
    drain(all, seen);
    assert_int_equal(seen->expected[id], next + 1);
  }
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, MUX, &info));
  assert_int_equal(info->virtual_count, THOUSAND);
  slc_channel_info_free(info);
  slc_client_close(client);
  crew_close(&crew);
  free(seen);
}

/* ---- reliable ---- */

enum { WANTED = 300, OTHERS = 20 };

static void reliable_publisher(void) {
  slc_client *client = NULL;
  must(slc_client_open(NULL, &client));
  slc_publisher_options options = in_mux(0);
  options.reliable = 1;
  slc_publisher *mine = NULL, *other = NULL;
  must(slc_publisher_open(client, "mine", &options, &mine));
  must(slc_publisher_open(client, "other", &options, &other));
  slc_publisher_stats stats = {.size = sizeof stats};
  do must(slc_publisher_stats_get(mine, &stats));
  while (stats.subscribers < 2);
  for (uint32_t n = 1; n <= WANTED * (OTHERS + 1); n++) {
    slc_publisher *publisher = n % (OTHERS + 1) == 0 ? mine : other;
    must_send(publisher, &n, sizeof n);
  }
  slc_client_close(client);
  _exit(0);
}

/* Both lose nothing: one by waiting, one by its descriptor, which is silent for what others publish, until the
 * publisher would have to wait for it. */
static void test_virtual_reliable(void **state) {
  (void)state;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) reliable_publisher();
  slc_client *client = client_open();
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.multiplexer = MUX;
  options.reliable = 1;
  slc_subscriber *subscribers[2];
  for (int i = 0; i < 2; i++) check_ok(slc_subscriber_open(client, "mine", &options, &subscribers[i]));
  int fd;
  check_ok(slc_subscriber_fd(subscribers[1], &fd));
  uint64_t taken[2] = {0};
  while (taken[0] < WANTED || taken[1] < WANTED) {
    for (int i = 0; i < 2; i++) {
      slc_message message;
      int status = slc_subscriber_take(subscribers[i], &message);
      if (status == SLC_EMPTY) continue;
      check_ok(status);
      uint32_t content;
      memcpy(&content, message.data, sizeof content);
      assert_int_equal(message.virtual_ordinal, ++taken[i]);
      assert_int_equal(content, taken[i] * (OTHERS + 1));
      check_ok(slc_subscriber_release(subscribers[i], &message));
    }
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    if (taken[1] < WANTED && taken[0] >= taken[1]) poll(&poller, 1, 10);
    if (taken[0] < WANTED) slc_subscriber_wait(subscribers[0], 1 * MS);
  }
  for (int i = 0; i < 2; i++) assert_int_equal(subscriber_stats(subscribers[i]).dropped, 0);
  slc_client_close(client); /* whatever is behind the last one wanted need not be read */
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_virtual_one_and_all),
      BROKER_TEST(test_virtual_refusals),
      BROKER_TEST(test_virtual_subscriber_comes_first),
      BROKER_TEST(test_virtual_latecomers),
      BROKER_TEST(test_virtual_descriptor_is_silent_for_others),
      BROKER_TEST(test_virtual_budget_is_the_multiplexers),
      BROKER_TEST(test_virtual_ids_are_used_again),
      BROKER_TEST(test_virtual_inspection),
      BROKER_TEST(test_virtual_a_thousand),
      BROKER_TEST(test_virtual_a_publisher_is_killed),
      BROKER_TEST(test_virtual_reliable),
  };
  return cmocka_run_group_tests_name("client_virtual", tests, NULL, NULL);
}

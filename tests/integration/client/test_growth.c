/* Growth: messages that are larger than the channel's slots. */
#include "common.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GIB (UINT64_C(1) << 30)

static slc_publisher *small_publisher(slc_client *client) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slot_size = 100;
  return publisher_open(client, &options);
}

static slc_channel_info *inspect(slc_client *client) {
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  return info;
}

static uint32_t generation_of(slc_publisher *publisher) {
  slc_publisher_stats stats = {.size = sizeof stats};
  check_ok(slc_publisher_stats_get(publisher, &stats));
  return stats.generation;
}

/* ---- one grows -------------------------------------------------------------------------------------------------- */

static void test_growth_sizes(void **state) {
  (void)state;
  static const size_t sizes[] = {100, 101, 20, 5000, 100, 101, 200000, 33, 3000000, 4000000, 1};
  slc_client *client = client_open();
  slc_publisher *publisher = small_publisher(client);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    send_pattern(publisher, i + 1, sizes[i]);
    take_pattern(subscriber, i + 1, sizes[i]);
  }
  assert_true(generation_of(publisher) > 3);
  slc_client_close(client);
}

/* At least twice as large up to 1 MiB, then a quarter more; whole units of 64 bytes. */
static void test_growth_steps(void **state) {
  (void)state;
  static const struct {
    size_t wanted;
    uint64_t largest;
  } steps[] = {{101, 256 - 56}, {300, 448}, {448, 448}, {1 << 20, 1835008}, {1835009, 2293760}};
  slc_client *client = client_open();
  slc_publisher *publisher = small_publisher(client);
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
    slc_loan loan;
    check_ok(slc_publisher_loan(publisher, steps[i].wanted, &loan));
    assert_true(loan.capacity >= steps[i].wanted);
    assert_int_equal((uintptr_t)loan.data % 64, 0);
    check_ok(slc_publisher_discard(publisher, &loan));
    slc_channel_info *info = inspect(client);
    assert_int_equal(info->largest, loan.capacity);
    assert_int_equal(info->slot_size, 100);
    slc_channel_info_free(info);
  }
  slc_client_close(client);
}

static void test_growth_is_refused_where_the_size_is_fixed(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slot_size = 100;
  options.fixed_size = 1;
  slc_publisher *publisher = publisher_open(client, &options), *other;
  slc_loan loan;
  check_status(slc_publisher_loan(publisher, 101, &loan), SLC_TOO_LARGE);
  assert_non_null(strstr(slc_error_detail(), "does not grow"));
  options.slot_size = 101;
  check_status(slc_publisher_open(client, CHANNEL, &options, &other), SLC_INCOMPATIBLE);
  options.slot_size = 0;
  other = publisher_open(client, &options);
  send_pattern(other, 1, 100);
  assert_int_equal(generation_of(publisher), 1);
  slc_client_close(client);
}

static void test_growth_held_messages_stay(void **state) {
  (void)state;
  enum { HELD = 20 };
  slc_client *client = client_open();
  slc_publisher *publisher = small_publisher(client);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = HELD;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  slc_message held[HELD];
  size_t size = 150;
  for (uint64_t n = 1; n <= HELD; n++, size += size / 3) {
    send_pattern(publisher, n, size);
    check_ok(slc_subscriber_take(subscriber, &held[n - 1]));
  }
  for (uint64_t n = HELD + 1; n < HELD + 300; n++) send_pattern(publisher, n, 10);
  size = 150;
  for (uint64_t n = 1; n <= HELD; n++, size += size / 3) {
    check_pattern(&held[n - 1], n, size);
    check_ok(slc_subscriber_release(subscriber, &held[n - 1]));
  }
  slc_client_close(client);
}

/* ---- several ---------------------------------------------------------------------------------------------------- */

static void test_growth_is_shared_by_publishers(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *first = small_publisher(client), *second = small_publisher(client);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  send_pattern(first, 1, 1000);
  uint32_t generation = generation_of(first);
  send_pattern(second, 2, 900); /* fits into what the first one got */
  assert_int_equal(generation_of(second), generation);
  take_pattern(subscriber, 1, 1000);
  take_pattern(subscriber, 2, 900);
  slc_client_close(client);
}

static void test_growth_a_late_subscriber_reads_all(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = small_publisher(client);
  static const size_t sizes[] = {50, 500, 5000, 50000};
  for (uint64_t n = 1; n <= 4; n++) send_pattern(publisher, n, sizes[n - 1]);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  slc_client *other = client_open();
  slc_subscriber *subscriber = subscriber_open(other, &options);
  for (uint64_t n = 1; n <= 4; n++) take_pattern(subscriber, n, sizes[n - 1]);
  slc_client_close(other);
  slc_client_close(client);
}

/* ---- the callback ----------------------------------------------------------------------------------------------- */

struct growth_wish {
  int refuse;
  uint64_t more; /* than wanted */
  int calls;
};

static int on_growth(void *ctx, uint64_t wanted, uint64_t *slot_size) {
  struct growth_wish *wish = ctx;
  wish->calls++;
  assert_true(*slot_size >= wanted);
  *slot_size = wanted + wish->more;
  return wish->refuse;
}

static void test_growth_callback(void **state) {
  (void)state;
  struct growth_wish wish = {.refuse = 1};
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slot_size = 100;
  options.on_growth = on_growth;
  options.callback_ctx = &wish;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_loan loan;
  check_status(slc_publisher_loan(publisher, 200, &loan), SLC_REFUSED);
  check_status(slc_publisher_send(publisher, "", 101, NULL), SLC_REFUSED);
  wish.refuse = 0;
  wish.more = UINT64_MAX - 150; /* less than wanted, after the overflow */
  check_status(slc_publisher_loan(publisher, 200, &loan), SLC_INVALID);
  wish.more = 28;
  check_ok(slc_publisher_loan(publisher, 200, &loan));
  assert_int_equal(loan.capacity, 228);
  check_ok(slc_publisher_discard(publisher, &loan));
  assert_int_equal(wish.calls, 4);
  check_ok(slc_publisher_loan(publisher, 228, &loan)); /* nothing has to grow */
  check_ok(slc_publisher_discard(publisher, &loan));
  assert_int_equal(wish.calls, 4);
  slc_client_close(client);
}

/* ---- what is left of the old ones ------------------------------------------------------------------------------- */

static void test_growth_ten_thousand_times(void **state) {
  struct test_broker *broker = *state;
  enum { GROWTHS = 10000, WARM = 100 };
  struct growth_wish wish = {.more = 0};
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slot_size = 64;
  options.slots = 16;
  options.on_growth = on_growth;
  options.callback_ctx = &wish;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message held = {0};
  struct test_leaks before = {0};
  int descriptors = 0;
  for (uint64_t n = 1; n <= GROWTHS; n++) {
    size_t size = 64 + 4 * n; /* each a little more than any before */
    slc_loan loan;
    check_ok(slc_publisher_loan(publisher, size, &loan));
    memset(loan.data, (int)(n & 0xff), size);
    check_ok(slc_publisher_publish(publisher, &loan, size, NULL));
    if (n > 1) check_ok(slc_subscriber_release(subscriber, &held)); /* held across a growth */
    check_ok(slc_subscriber_take(subscriber, &held));
    assert_int_equal(held.size, size);
    assert_int_equal(((const uint8_t *)held.data)[size - 1], n & 0xff);
    if (n == WARM) {
      test_leaks_note(&before);
      descriptors = test_descriptors_of(broker->pid);
    }
  }
  assert_int_equal(wish.calls, GROWTHS);
  struct test_leaks after;
  test_leaks_note(&after);
  assert_true(after.mappings <= before.mappings + 1 && after.descriptors == before.descriptors);
  assert_true(descriptors > 0);
  slc_channel_info *info = inspect(client);
  assert_int_equal(info->generation, GROWTHS + 1);
  /* Those of the messages that are retained, at most; no more than early in its life. */
  assert_true(info->generations <= 16 + 2);
  slc_channel_info_free(info);
  assert_true(test_descriptors_of(broker->pid) <= descriptors + 2);
  slc_client_close(client);
}

static void publish_many(slc_publisher *publisher, int count) {
  while (count-- > 0) check_ok(slc_publisher_send(publisher, "x", 1, NULL));
}

/* Goes on publishing until the broker has freed all later generations but the newest: it looks from time to time, and
 * what is retained when it first sees that an old one is not written to any more, might lie there. */
static void wait_for_one_generation(slc_client *client, slc_publisher *publisher) {
  for (;;) {
    publish_many(publisher, 10);
    slc_channel_info *info = inspect(client);
    uint32_t generations = info->generations;
    slc_channel_info_free(info);
    if (generations == 2) return;
  }
}

static void test_growth_old_ones_go_when_nothing_is_in_them(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slot_size = 100;
  options.max_loans = 2;
  slc_publisher *publisher = publisher_open(client, &options), *other = small_publisher(client);
  slc_loan old, larger;
  check_ok(slc_publisher_loan(publisher, 200, &old));
  check_ok(slc_publisher_loan(publisher, 2000, &larger));
  check_ok(slc_publisher_discard(publisher, &larger));
  check_ok(slc_publisher_send(other, "y", 1, NULL));
  publish_many(publisher, 200);
  slc_channel_info *info = inspect(client);
  assert_int_equal(info->generations, 3); /* the old one is on loan */
  slc_channel_info_free(info);
  memset(old.data, 7, old.capacity);
  check_ok(slc_publisher_publish(publisher, &old, 200, NULL));
  slc_subscriber_options late = SLC_SUBSCRIBER_OPTIONS_INIT;
  late.start = SLC_START_OLDEST;
  slc_subscriber *subscriber = subscriber_open(client, &late);
  slc_message message = {0};
  do {
    if (message.ordinal != 0) check_ok(slc_subscriber_release(subscriber, &message));
    check_ok(slc_subscriber_take(subscriber, &message));
  } while (message.size != 200);
  wait_for_one_generation(client, publisher); /* the message is evicted, and still held */
  assert_int_equal(((const uint8_t *)message.data)[199], 7);
  check_ok(slc_subscriber_release(subscriber, &message));
  slc_client_close(client);
}

static void loan_and_wait(int ready) {
  slc_client *client = client_open();
  slc_publisher *publisher = small_publisher(client);
  slc_loan loan;
  check_ok(slc_publisher_loan(publisher, 300, &loan));
  memset(loan.data, 1, 300);
  if (write(ready, "", 1) == 1) pause();
  _exit(1);
}

static void test_growth_a_dead_publisher_keeps_none(void **state) {
  (void)state;
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  slc_client *client = NULL;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) loan_and_wait(ready[1]);
  char byte;
  assert_int_equal(read(ready[0], &byte, 1), 1);
  client = client_open();
  slc_publisher *publisher = small_publisher(client);
  check_ok(slc_publisher_send(publisher, (char[3000]){0}, 3000, NULL));
  slc_channel_info *info = inspect(client);
  assert_int_equal(info->generations, 3);
  slc_channel_info_free(info);
  assert_int_equal(kill(pid, SIGKILL), 0);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  wait_for_one_generation(client, publisher);
  close(ready[0]);
  close(ready[1]);
  slc_client_close(client);
}

/* ---- several processes, all at once ----------------------------------------------------------------------------- */

enum { LOAD_PUBLISHERS = 3, LOAD_SUBSCRIBERS = 2, LOAD_MESSAGES = 1500, LOAD_HOLDS = 4 };

/* Every message says who sent it, which it is of his, and how long it is; the size grows with the stream, with larger
 * and smaller ones among each other. */
struct load_head {
  uint32_t publisher, sequence;
  uint64_t size;
};

static uint64_t load_size(uint32_t publisher, uint32_t sequence) {
  uint64_t random = (publisher * 7919 + sequence) * UINT64_C(0x9e3779b97f4a7c15) >> 40;
  return sizeof(struct load_head) + random % (64 + (uint64_t)sequence * sequence / 20);
}

static uint8_t load_byte(const struct load_head *head, uint64_t at) {
  return (uint8_t)(head->publisher * 3 + head->sequence * 5 + at * 11);
}

static void load_publish(slc_publisher *publisher, uint32_t number, uint32_t sequence) {
  struct load_head head = {.publisher = number, .sequence = sequence, .size = load_size(number, sequence)};
  slc_loan loan;
  int status;
  while ((status = slc_publisher_loan(publisher, head.size, &loan)) == SLC_WOULD_BLOCK)
    check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  check_ok(status);
  memcpy(loan.data, &head, sizeof head);
  for (uint64_t i = sizeof head; i < head.size; i++) ((uint8_t *)loan.data)[i] = load_byte(&head, i);
  check_ok(slc_publisher_publish(publisher, &loan, head.size, NULL));
}

static void load_publisher(uint32_t number, int begin) {
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slot_size = 64;
  options.reliable = 1;
  slc_publisher *publisher = publisher_open(client, &options);
  char byte;
  assert_int_equal(read(begin, &byte, 1), 0); /* until all are there */
  for (uint32_t sequence = 0; sequence < LOAD_MESSAGES; sequence++) load_publish(publisher, number, sequence);
  slc_client_close(client);
}

static void load_check(const slc_message *message, uint32_t *next) {
  struct load_head head;
  memcpy(&head, message->data, sizeof head);
  assert_true(head.publisher < LOAD_PUBLISHERS);
  assert_int_equal(head.sequence, next[head.publisher]++);
  assert_true(head.size == message->size && head.size == load_size(head.publisher, head.sequence));
  for (uint64_t i = sizeof head; i < head.size; i++)
    if (((const uint8_t *)message->data)[i] != load_byte(&head, i)) fail_msg("byte %ju is wrong", (uintmax_t)i);
}

/* Holds the last few, so that old generations are read late. */
static void load_subscriber(int ready) {
  slc_client *client = client_open();
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  options.max_holds = LOAD_HOLDS;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  assert_int_equal(write(ready, "", 1), 1);
  uint32_t next[LOAD_PUBLISHERS] = {0};
  slc_message held[LOAD_HOLDS] = {0};
  for (uint32_t i = 0; i < LOAD_PUBLISHERS * LOAD_MESSAGES; i++) {
    slc_message *message = &held[i % LOAD_HOLDS];
    if (message->ordinal != 0) {
      load_check(message, next);
      check_ok(slc_subscriber_release(subscriber, message));
    }
    int status;
    while ((status = slc_subscriber_take(subscriber, message)) == SLC_EMPTY)
      check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
    check_ok(status);
  }
  slc_client_close(client);
}

/* Runs `role` in a process of its own, which ends with 0 when nothing failed there. */
static pid_t load_start(bool is_publisher, uint32_t number, const int begin[2], int ready) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid != 0) return pid;
  test_watchdog(TEST_WATCHDOG_SECONDS);
  close(begin[1]);
  if (is_publisher) {
    load_publisher(number, begin[0]);
  } else {
    load_subscriber(ready);
  }
  _exit(0);
}

static void test_growth_under_load(void **state) {
  (void)state;
  int begin[2], ready[2];
  pid_t pids[LOAD_PUBLISHERS + LOAD_SUBSCRIBERS];
  assert_int_equal(pipe(begin), 0);
  assert_int_equal(pipe(ready), 0);
  for (uint32_t i = 0; i < LOAD_PUBLISHERS + LOAD_SUBSCRIBERS; i++)
    pids[i] = load_start(i < LOAD_PUBLISHERS, i, begin, ready[1]);
  char byte;
  for (int i = 0; i < LOAD_SUBSCRIBERS; i++) assert_int_equal(read(ready[0], &byte, 1), 1);
  close(begin[0]);
  close(begin[1]);
  for (int i = 0; i < LOAD_PUBLISHERS + LOAD_SUBSCRIBERS; i++) {
    int status;
    assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
    assert_int_equal(status, 0);
  }
  close(ready[0]);
  close(ready[1]);
}

/* ---- without a broker ------------------------------------------------------------------------------------------- */

static void test_growth_without_broker(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_publisher *publisher = small_publisher(client);
  slc_subscriber *informed = subscriber_open(client, NULL), *late = subscriber_open(client, NULL);
  send_pattern(publisher, 1, 1000);
  take_pattern(informed, 1, 1000);
  test_broker_kill(broker);
  send_pattern(publisher, 2, 1000);
  take_pattern(informed, 2, 1000);
  slc_loan loan;
  check_status(slc_publisher_loan(publisher, 1 << 20, &loan), SLC_BROKER_GONE);
  slc_message message;
  check_status(slc_subscriber_take(late, &message), SLC_BROKER_GONE);
  check_status(slc_subscriber_take(late, &message), SLC_BROKER_GONE); /* it stays unread, and is no drop */
  assert_int_equal(subscriber_stats(late).dropped, 0);
  assert_int_equal(subscriber_stats(late).lag, 2);
  slc_client_close(client);
}

/* ---- very large slots ------------------------------------------------------------------------------------------- */

/* The ends are touched, and the middle; the rest of the memory is never there. */
static void touch(uint8_t *data, uint64_t size, uint8_t value) {
  data[0] = value;
  data[size / 2] = value;
  data[size - 1] = value;
}

static void check_touched(const slc_message *message, uint64_t size, uint8_t value) {
  const uint8_t *data = message->data;
  assert_true(message->size == size);
  assert_int_equal(data[0], value);
  assert_int_equal(data[size / 2], value);
  assert_int_equal(data[size - 1], value);
}

static void send_huge(slc_publisher *publisher, slc_subscriber *subscriber, uint64_t size, uint8_t value) {
  slc_loan loan;
  slc_message message;
  check_ok(slc_publisher_loan(publisher, size, &loan));
  touch(loan.data, size, value);
  check_ok(slc_publisher_publish(publisher, &loan, size, NULL));
  check_ok(slc_subscriber_take(subscriber, &message));
  check_touched(&message, size, value);
  check_ok(slc_subscriber_release(subscriber, &message));
}

static void test_growth_slots_of_gibibytes(void **state) {
  (void)state;
  /* A file in /dev/shm is allocated when it is made, a memfd as it is touched. */
  bool is_sparse = strcmp(test_backend(), "memfd") == 0;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 8;
  options.slot_size = is_sparse ? 3 * GIB : 3 << 20;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  for (uint8_t i = 1; i <= 12; i++) send_huge(publisher, subscriber, options.slot_size, i);
  if (is_sparse) send_huge(publisher, subscriber, 4 * GIB + 5, 99); /* and one that 32 bits don't count */
  slc_loan loan;
  check_status(slc_publisher_loan(publisher, (UINT64_C(1) << 40) + 1, &loan), SLC_TOO_LARGE);
  /* 8 TiB in all, which is more than one user may have. */
  check_status(slc_publisher_loan(publisher, UINT64_C(1) << 40, &loan), SLC_LIMIT);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_growth_sizes),
      BROKER_TEST(test_growth_steps),
      BROKER_TEST(test_growth_is_refused_where_the_size_is_fixed),
      BROKER_TEST(test_growth_held_messages_stay),
      BROKER_TEST(test_growth_is_shared_by_publishers),
      BROKER_TEST(test_growth_a_late_subscriber_reads_all),
      BROKER_TEST(test_growth_callback),
      BROKER_TEST(test_growth_ten_thousand_times),
      BROKER_TEST(test_growth_old_ones_go_when_nothing_is_in_them),
      BROKER_TEST(test_growth_a_dead_publisher_keeps_none),
      BROKER_TEST(test_growth_under_load),
      BROKER_TEST(test_growth_without_broker),
      BROKER_TEST(test_growth_slots_of_gibibytes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

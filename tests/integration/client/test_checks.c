/* What lies beside the bytes of a message: checksums, metadata, the callback before it is sent, its time.
 *
 * A message is damaged through the pointer that its loan gave, which the publisher ought not to use any more. */
#include "common.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/layout.h"

enum { METADATA = 24, SIZE = 300, TINY = 5 }; /* a tiny payload lies inside the prefix */

static slc_publisher *publisher_with(slc_client *client, int checksum, uint32_t metadata_size) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.checksum = checksum;
  options.metadata_size = metadata_size;
  options.max_loans = 2;
  return publisher_open(client, &options);
}

/* The loan stays with the caller, who may damage the message. */
static slc_loan publish(slc_publisher *publisher, size_t size) {
  slc_loan loan;
  check_ok(slc_publisher_loan(publisher, size, &loan));
  memset(loan.data, 0x5a, size);
  if (loan.metadata != NULL) memset(loan.metadata, 0xa5, METADATA);
  check_ok(slc_publisher_publish(publisher, &loan, size, NULL));
  return loan;
}

static void take_and_release(slc_subscriber *subscriber, uint64_t ordinal, uint32_t flags) {
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_int_equal(message.ordinal, ordinal);
  assert_int_equal(message.flags, flags);
  check_ok(slc_subscriber_release(subscriber, &message));
}

/* ---- CRC-32C ---- */

/* Bit by bit, as RFC 3720 has it: nothing in common with what is tested. */
static uint32_t crc32c_bitwise(uint32_t crc, const void *data, size_t size) {
  const uint8_t *bytes = data;
  crc = ~crc;
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

/* What stands behind the metadata is the sum that docs/features.md describes. */
static void test_crc32c_is_the_one_described(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_CRC32C, METADATA);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  static const size_t sizes[] = {1, TINY, 32, 33, SIZE, 1024};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    publish(publisher, sizes[i]);
    slc_message message;
    check_ok(slc_subscriber_take(subscriber, &message));
    assert_int_equal(message.size, sizes[i]);
    uint8_t head[16];
    for (size_t at = 0; at < 8; at++) {
      head[at] = (uint8_t)((uint64_t)message.size >> (8 * at));
      head[8 + at] = (uint8_t)(message.timestamp_ns >> (8 * at));
    }
    uint32_t crc = crc32c_bitwise(0, head, sizeof head);
    crc = crc32c_bitwise(crc, message.metadata, METADATA);
    crc = crc32c_bitwise(crc, message.data, message.size);
    const uint8_t *stored = (const uint8_t *)message.metadata + METADATA;
    for (int at = 0; at < 4; at++) assert_int_equal(stored[at], (crc >> (8 * at)) & 0xff);
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  slc_client_close(client);
}

/* Each damages another part of what the sum is of, or the sum itself. */
static void damage_first(const slc_loan *loan, size_t size) {
  (void)size;
  *(uint8_t *)loan->data ^= 1;
}

static void damage_last(const slc_loan *loan, size_t size) {
  ((uint8_t *)loan->data)[size - 1] ^= 0x80;
}

static void damage_metadata(const slc_loan *loan, size_t size) {
  (void)size;
  ((uint8_t *)loan->metadata)[METADATA - 1] ^= 4;
}

static void damage_checksum(const slc_loan *loan, size_t size) {
  (void)size;
  ((uint8_t *)loan->metadata)[METADATA + 3] ^= 0x10;
}

static struct slc__prefix *prefix_of(const slc_loan *loan) {
  return (void *)((uint8_t *)loan->metadata - SLC__PAYLOAD_OFFSET);
}

static void damage_size(const slc_loan *loan, size_t size) {
  atomic_store(&prefix_of(loan)->size, size - 1);
}

static void damage_timestamp(const slc_loan *loan, size_t size) {
  (void)size;
  atomic_fetch_add(&prefix_of(loan)->timestamp, 1);
}

static void (*const damages[])(const slc_loan *loan, size_t size) = {
    damage_first, damage_last, damage_metadata, damage_checksum, damage_size, damage_timestamp,
};
enum { DAMAGES = sizeof damages / sizeof damages[0] };

static void test_damage_is_skipped_and_counted(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_CRC32C, METADATA);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = 1; /* a hold that stayed with the damaged message would stop the next */
  slc_subscriber *subscriber = subscriber_open(client, &options);
  uint64_t ordinal = 0;
  for (size_t i = 0; i < DAMAGES; i++) {
    size_t size = i % 2 == 0 ? SIZE : TINY;
    slc_loan damaged = publish(publisher, size);
    damages[i](&damaged, size);
    publish(publisher, size);
    slc_message message;
    check_status(slc_subscriber_take(subscriber, &message), SLC_CHECKSUM);
    assert_non_null(strstr(slc_error_detail(), "checksum of message"));
    take_and_release(subscriber, ordinal += 2, 0);
    check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
    assert_int_equal(subscriber_stats(subscriber).dropped, i + 1);
    assert_int_equal(subscriber_stats(subscriber).received, i + 1);
  }
  slc_client_close(client);
}

static bool is_readable(int fd) {
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  return poll(&poll_fd, 1, 0) == 1;
}

/* What is skipped leaves the descriptor readable as long as something is behind it, so a loop that takes once each time
 * it is told misses nothing. */
static void test_damage_leaves_readiness(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_CRC32C, METADATA);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  int fd = -1;
  check_ok(slc_subscriber_fd(subscriber, &fd));
  for (uint64_t ordinal = 3; ordinal <= 9; ordinal += 3) {
    check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
    assert_false(is_readable(fd));
    slc_loan damaged = publish(publisher, SIZE);
    damage_first(&damaged, SIZE);
    assert_true(is_readable(fd));
    damaged = publish(publisher, SIZE);
    damage_first(&damaged, SIZE);
    publish(publisher, SIZE);
    for (int i = 0; i < 2; i++) {
      check_status(slc_subscriber_take(subscriber, &message), SLC_CHECKSUM);
      assert_true(is_readable(fd));
    }
    take_and_release(subscriber, ordinal, 0);
    assert_false(is_readable(fd));
  }
  slc_client_close(client);
}

static void test_damage_is_flagged(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_CRC32C, METADATA);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.flag_corrupt = 1;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  for (size_t i = 0; i < DAMAGES; i++) {
    slc_loan damaged = publish(publisher, SIZE);
    damages[i](&damaged, SIZE);
    publish(publisher, SIZE);
    take_and_release(subscriber, 2 * i + 1, SLC_MESSAGE_CORRUPT);
    take_and_release(subscriber, 2 * i + 2, 0);
  }
  assert_int_equal(subscriber_stats(subscriber).dropped, 0);
  slc_client_close(client);
}

/* The payload lies in a later generation of buffers, the metadata and the checksum where they always do. */
static void test_grown_messages_are_checked(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_CRC32C, METADATA);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  uint64_t ordinal = 0;
  for (size_t size = 5000; size < 200000; size *= 3) {
    slc_loan damaged = publish(publisher, size);
    damage_last(&damaged, size);
    publish(publisher, size);
    slc_message message;
    check_status(slc_subscriber_take(subscriber, &message), SLC_CHECKSUM);
    take_and_release(subscriber, ordinal += 2, 0);
  }
  slc_client_close(client);
}

static void test_newest_is_checked(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_CRC32C, METADATA);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  publish(publisher, SIZE);
  slc_loan damaged = publish(publisher, SIZE);
  damage_first(&damaged, SIZE);
  slc_message message;
  check_status(slc_subscriber_take_newest(subscriber, &message), SLC_CHECKSUM);
  assert_int_equal(subscriber_stats(subscriber).dropped, 1);
  check_status(slc_subscriber_take_newest(subscriber, &message), SLC_EMPTY);
  publish(publisher, SIZE);
  check_ok(slc_subscriber_take_newest(subscriber, &message));
  assert_int_equal(message.ordinal, 3);
  slc_client_close(client);
}

static void test_many_are_checked(void **state) {
  (void)state;
  enum { SENT = 40 };
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_CRC32C, METADATA);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = 10;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  for (uint64_t n = 1; n <= SENT; n++) {
    slc_loan loan = publish(publisher, TINY);
    if (n % 4 == 0 || n > 30) damage_last(&loan, TINY);
  }
  slc_message messages[SENT];
  size_t count = 0;
  uint64_t expected = 1, taken = 0;
  while (slc_subscriber_take_many(subscriber, messages, SENT, &count) == 0) {
    for (size_t i = 0; i < count; i++, expected++, taken++) {
      if (expected % 4 == 0) expected++;
      assert_int_equal(messages[i].ordinal, expected);
      check_ok(slc_subscriber_release(subscriber, &messages[i]));
    }
  }
  assert_int_equal(taken, 30 - 7);
  assert_int_equal(subscriber_stats(subscriber).received, taken);
  check_status(slc_subscriber_take_many(subscriber, messages, SENT, &count), SLC_EMPTY); /* they were skipped */
  assert_int_equal(subscriber_stats(subscriber).dropped, SENT - taken);
  slc_client_close(client);
}

/* What is found beside the messages taken is checked, too, but is not missing when it is refused. */
static void test_found_are_checked(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_CRC32C, METADATA);
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = 1;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  slc_message message;
  slc_loan loan = publish(publisher, SIZE);
  check_ok(slc_subscriber_take(subscriber, &message));
  uint32_t slot = message.slot;
  check_ok(slc_subscriber_release(subscriber, &message));
  check_ok(slc_subscriber_find(subscriber, 1, 0, &message));
  assert_int_equal(message.metadata_size, METADATA);
  uint64_t timestamp = message.timestamp_ns;
  damage_first(&loan, SIZE);
  check_ok(slc_subscriber_release(subscriber, &message));
  for (int i = 0; i < 3; i++) {
    check_status(slc_subscriber_find(subscriber, 1, 0, &message), SLC_CHECKSUM);
    check_status(slc_subscriber_find_time(subscriber, timestamp, 0, &message), SLC_CHECKSUM);
    check_status(slc_subscriber_take_weak(subscriber, 1, slot, &message), SLC_CHECKSUM);
  }
  assert_int_equal(subscriber_stats(subscriber).dropped, 0);
  assert_int_equal(subscriber_stats(subscriber).received, 1);
  slc_client_close(client);
}

/* A reliable publisher waits for messages that are held; one that was refused for its checksum is not. */
static void test_damage_holds_nobody_up(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.reliable = 1;
  options.slots = 8;
  options.max_publishers = 1;
  options.checksum = SLC_CHECKSUM_CRC32C;
  options.metadata_size = METADATA;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options reader = SLC_SUBSCRIBER_OPTIONS_INIT;
  reader.reliable = 1;
  slc_subscriber *subscriber = subscriber_open(client, &reader);
  for (int i = 0; i < 50; i++) {
    slc_loan damaged = publish(publisher, TINY);
    damage_last(&damaged, TINY);
    slc_message message;
    check_status(slc_subscriber_take(subscriber, &message), SLC_CHECKSUM);
  }
  assert_int_equal(subscriber_stats(subscriber).dropped, 50);
  slc_client_close(client);
}

/* ---- a checksum of one's own ---- */

struct own {
  uint32_t checksum_size;
  uint32_t metadata_size;
  int calls;
};

/* The sum of all bytes, repeated; the last byte is left as it is, which is zero on both sides. */
static void own_checksum(void *ctx, const void *payload, size_t payload_size, const void *metadata,
                         size_t metadata_size, void *checksum, size_t checksum_size) {
  struct own *own = ctx;
  own->calls++;
  assert_int_equal(checksum_size, own->checksum_size);
  assert_int_equal(metadata_size, own->metadata_size);
  assert_int_equal(metadata == NULL, metadata_size == 0);
  uint8_t sum = 7;
  for (size_t i = 0; i < payload_size; i++) sum = (uint8_t)(sum * 3 + ((const uint8_t *)payload)[i]);
  for (size_t i = 0; metadata != NULL && i < metadata_size; i++)
    sum = (uint8_t)(sum * 3 + ((const uint8_t *)metadata)[i]);
  memset(checksum, sum, checksum_size == 1 ? 1 : checksum_size - 1);
}

static void check_own(slc_client *client, uint32_t checksum_size, uint32_t metadata_size) {
  struct own own = {.checksum_size = checksum_size, .metadata_size = metadata_size};
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.checksum = SLC_CHECKSUM_OWN;
  options.checksum_size = checksum_size;
  options.metadata_size = metadata_size;
  options.compute_checksum = own_checksum;
  options.callback_ctx = &own;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber_options reader = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *trusting = subscriber_open(client, &reader);
  reader.compute_checksum = own_checksum;
  reader.callback_ctx = &own;
  slc_subscriber *checking = subscriber_open(client, &reader);
  publish(publisher, SIZE);
  slc_loan damaged = publish(publisher, SIZE);
  damage_last(&damaged, SIZE);
  assert_int_equal(own.calls, 2);
  take_and_release(checking, 1, 0);
  slc_message message;
  check_status(slc_subscriber_take(checking, &message), SLC_CHECKSUM);
  assert_int_equal(own.calls, 4);
  take_and_release(trusting, 1, 0); /* it gave no callback: nothing is checked */
  take_and_release(trusting, 2, 0);
  assert_int_equal(own.calls, 4);
  slc_subscriber_close(checking);
  slc_subscriber_close(trusting);
  slc_publisher_close(publisher);
}

static void test_own_checksum(void **state) {
  (void)state;
  slc_client *client = client_open();
  check_own(client, 1, 0);
  check_own(client, 20, METADATA);
  check_own(client, 64, METADATA);
  slc_client_close(client);
}

/* ---- agreement ---- */

static int publisher_status(slc_client *client, int checksum, uint32_t checksum_size, uint32_t metadata_size,
                            slc_checksum_fn own) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.checksum = checksum;
  options.checksum_size = checksum_size;
  options.metadata_size = metadata_size;
  options.compute_checksum = own;
  slc_publisher *publisher = NULL;
  int status = slc_publisher_open(client, CHANNEL, &options, &publisher);
  slc_publisher_close(publisher);
  return status;
}

static int subscriber_status(slc_client *client, uint32_t metadata_size) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.metadata_size = metadata_size;
  slc_subscriber *subscriber = NULL;
  int status = slc_subscriber_open(client, CHANNEL, &options, &subscriber);
  slc_subscriber_close(subscriber);
  return status;
}

static void test_nonsense_is_refused(void **state) {
  (void)state;
  slc_client *client = client_open();
  check_status(publisher_status(client, 3, 0, 0, own_checksum), SLC_INVALID);
  check_status(publisher_status(client, -1, 0, 0, own_checksum), SLC_INVALID);
  check_status(publisher_status(client, SLC_CHECKSUM_OWN, 0, 0, own_checksum), SLC_INVALID);
  check_status(publisher_status(client, SLC_CHECKSUM_OWN, 65, 0, own_checksum), SLC_INVALID);
  check_status(publisher_status(client, SLC_CHECKSUM_OWN, 4, 0, NULL), SLC_INVALID);
  check_status(publisher_status(client, SLC_CHECKSUM_CRC32C, 8, 0, NULL), SLC_INVALID);
  check_status(publisher_status(client, SLC_CHECKSUM_NONE, 4, 0, NULL), SLC_INVALID);
  check_status(publisher_status(client, SLC_CHECKSUM_NONE, 0, 4097, NULL), SLC_INVALID);
  check_status(subscriber_status(client, 4097), SLC_INVALID);
  slc_client_close(client);
}

static void test_users_agree(void **state) {
  (void)state;
  slc_client *client = client_open();
  publisher_with(client, SLC_CHECKSUM_CRC32C, METADATA);
  check_ok(publisher_status(client, SLC_CHECKSUM_CRC32C, 0, METADATA, NULL));
  check_ok(publisher_status(client, SLC_CHECKSUM_NONE, 0, 0, NULL)); /* as it is */
  check_status(publisher_status(client, SLC_CHECKSUM_OWN, 4, 0, own_checksum), SLC_INCOMPATIBLE);
  check_status(publisher_status(client, SLC_CHECKSUM_NONE, 0, METADATA + 1, NULL), SLC_INCOMPATIBLE);
  check_ok(subscriber_status(client, 0));
  check_ok(subscriber_status(client, METADATA));
  check_status(subscriber_status(client, METADATA - 1), SLC_INCOMPATIBLE);
  slc_client_close(client);
}

static void test_users_agree_on_an_own_checksum(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.checksum = SLC_CHECKSUM_OWN;
  options.checksum_size = 16;
  options.compute_checksum = own_checksum;
  publisher_open(client, &options);
  check_ok(publisher_status(client, SLC_CHECKSUM_OWN, 16, 0, own_checksum));
  check_ok(publisher_status(client, SLC_CHECKSUM_NONE, 0, 0, own_checksum));
  check_status(publisher_status(client, SLC_CHECKSUM_OWN, 8, 0, own_checksum), SLC_INCOMPATIBLE);
  check_status(publisher_status(client, SLC_CHECKSUM_CRC32C, 0, 0, own_checksum), SLC_INCOMPATIBLE);
  check_status(publisher_status(client, SLC_CHECKSUM_NONE, 0, 0, NULL), SLC_INCOMPATIBLE); /* it cannot compute them */
  check_ok(subscriber_status(client, 0));
  slc_client_close(client);
}

/* A subscriber that came first has said what it expects; the publisher is told of it. */
static void test_first_subscriber_is_heard(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.metadata_size = METADATA;
  slc_subscriber *subscriber = subscriber_open(client, &options);
  check_status(publisher_status(client, SLC_CHECKSUM_NONE, 0, METADATA + 8, NULL), SLC_INCOMPATIBLE);
  char pid[32];
  snprintf(pid, sizeof pid, "pid %d", (int)getpid());
  assert_non_null(strstr(slc_error_detail(), pid));
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_NONE, METADATA);
  publish(publisher, SIZE);
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY)
    check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  check_ok(status);
  assert_int_equal(message.metadata_size, METADATA);
  slc_client_close(client);
}

/* ---- metadata ---- */

static void check_metadata(slc_client *client, uint32_t metadata_size, size_t size) {
  slc_publisher *publisher = publisher_with(client, SLC_CHECKSUM_CRC32C, metadata_size);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_loan loan;
  check_ok(slc_publisher_loan(publisher, size, &loan));
  assert_non_null(loan.metadata);
  assert_int_equal((uintptr_t)loan.metadata % 64, 0);
  for (size_t i = 0; i < metadata_size; i++) ((uint8_t *)loan.metadata)[i] = pattern(metadata_size, i);
  memset(loan.data, 1, size);
  check_ok(slc_publisher_publish(publisher, &loan, size, NULL));
  uint8_t bytes[4] = {1, 2, 3, 4};
  check_ok(slc_publisher_send(publisher, bytes, sizeof bytes, NULL));
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_int_equal(message.metadata_size, metadata_size);
  for (size_t i = 0; i < metadata_size; i++)
    assert_int_equal(((const uint8_t *)message.metadata)[i], pattern(metadata_size, i));
  for (size_t i = 0; i < size; i++) assert_int_equal(((const uint8_t *)message.data)[i], 1);
  check_ok(slc_subscriber_take(subscriber, &message)); /* one that was sent: zeros */
  for (size_t i = 0; i < metadata_size; i++) assert_int_equal(((const uint8_t *)message.metadata)[i], 0);
  slc_subscriber_close(subscriber);
  slc_publisher_close(publisher);
}

static void test_metadata(void **state) {
  (void)state;
  slc_client *client = client_open();
  static const uint32_t sizes[] = {1, 60, 61, 64, 4096};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    check_metadata(client, sizes[i], TINY);
    check_metadata(client, sizes[i], 1024);
  }
  slc_client_close(client);
}

static void test_no_metadata_unless_asked_for(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_loan loan = publish(publisher, SIZE);
  assert_null(loan.metadata);
  slc_message message = {.metadata = &loan, .metadata_size = 1, .flags = 1};
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_null(message.metadata);
  assert_int_equal(message.metadata_size, 0);
  assert_int_equal(message.flags, 0);
  slc_client_close(client);
}

/* ---- before a message is sent ---- */

struct sending {
  int calls;
  int answer;
  size_t size; /* to make of it; SIZE_MAX: leaves it */
};

static int before_send(void *ctx, void *payload, size_t *size) {
  struct sending *sending = ctx;
  sending->calls++;
  if (sending->size != SIZE_MAX) *size = sending->size;
  *(uint8_t *)payload = 0x77;
  return sending->answer;
}

static slc_publisher *publisher_before(slc_client *client, struct sending *sending) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.checksum = SLC_CHECKSUM_CRC32C; /* of what the callback left */
  options.before_send = before_send;
  options.callback_ctx = sending;
  return publisher_open(client, &options);
}

static void take_sent(slc_subscriber *subscriber, uint64_t ordinal, size_t size) {
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_int_equal(message.ordinal, ordinal);
  assert_int_equal(message.size, size);
  assert_int_equal(*(const uint8_t *)message.data, 0x77);
  check_ok(slc_subscriber_release(subscriber, &message));
}

static void test_before_send_changes(void **state) {
  (void)state;
  slc_client *client = client_open();
  struct sending sending = {.size = SIZE_MAX};
  slc_publisher *publisher = publisher_before(client, &sending);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  publish(publisher, SIZE);
  take_sent(subscriber, 1, SIZE);
  sending.size = 40;
  publish(publisher, SIZE);
  take_sent(subscriber, 2, 40);
  sending.size = 1;
  check_ok(slc_publisher_send(publisher, "abc", 3, NULL));
  take_sent(subscriber, 3, 1);
  assert_int_equal(sending.calls, 3);
  slc_client_close(client);
}

static void test_before_send_refuses(void **state) {
  (void)state;
  slc_client *client = client_open();
  struct sending sending = {.size = SIZE_MAX, .answer = 1};
  slc_publisher *publisher = publisher_before(client, &sending); /* one loan at once */
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_loan loan;
  check_ok(slc_publisher_loan(publisher, SIZE, &loan));
  check_status(slc_publisher_publish(publisher, &loan, SIZE, NULL), SLC_REFUSED);
  sending = (struct sending){.size = 0};
  check_status(slc_publisher_publish(publisher, &loan, SIZE, NULL), SLC_INVALID);
  sending = (struct sending){.size = SIZE + 1};
  check_status(slc_publisher_publish(publisher, &loan, SIZE, NULL), SLC_INVALID);
  sending = (struct sending){.size = SIZE_MAX};
  uint64_t ordinal = 0;
  check_ok(slc_publisher_publish(publisher, &loan, SIZE, &ordinal)); /* the loan stayed */
  assert_int_equal(ordinal, 1);
  take_sent(subscriber, 1, SIZE);
  sending.answer = -1;
  for (int i = 0; i < 3; i++) check_status(slc_publisher_send(publisher, "abc", 3, NULL), SLC_REFUSED);
  slc_message message;
  check_status(slc_subscriber_take(subscriber, &message), SLC_EMPTY);
  slc_client_close(client);
}

/* ---- the time of a message ---- */

static uint64_t published_at(slc_publisher *publisher, slc_subscriber *subscriber, uint64_t timestamp) {
  slc_loan loan;
  check_ok(slc_publisher_loan(publisher, 1, &loan));
  assert_int_equal(loan.timestamp_ns, 0);
  loan.timestamp_ns = timestamp;
  *(uint8_t *)loan.data = 1;
  check_ok(slc_publisher_publish(publisher, &loan, 1, NULL));
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  uint64_t taken = message.timestamp_ns;
  check_ok(slc_subscriber_release(subscriber, &message));
  return taken;
}

static void test_time_of_ones_own(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher *timing = publisher_open(client, &options);
  options.no_timestamp = 1;
  slc_publisher *timeless = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  uint64_t before = published_at(timing, subscriber, 0);
  assert_true(before > 1);
  assert_true(published_at(timing, subscriber, 0) >= before);
  assert_int_equal(published_at(timing, subscriber, 1), 1);
  assert_true(published_at(timing, subscriber, UINT64_MAX) == UINT64_MAX);
  assert_int_equal(published_at(timeless, subscriber, 0), 0);
  assert_int_equal(published_at(timeless, subscriber, 17), 17);
  slc_client_close(client);
}

/* ---- between processes ---- */

enum { MESSAGES = 2000, SENDER_FAILED = 3 };

/* In a child: each message has its number as metadata, and every tenth is damaged before anybody can take it, because
 * the callback's sum is of something else. */
static void wrong_each_tenth(void *ctx, const void *payload, size_t payload_size, const void *metadata,
                             size_t metadata_size, void *checksum, size_t checksum_size) {
  const bool *is_sender = ctx;
  uint64_t number;
  if (metadata_size != sizeof number || checksum_size != sizeof(uint32_t)) abort();
  memcpy(&number, metadata, sizeof number);
  uint32_t crc = crc32c_bitwise(0, payload, payload_size) + (*is_sender && number % 10 == 0);
  memcpy(checksum, &crc, sizeof crc);
}

static int send_all(void) {
  static bool is_sender = true;
  slc_client *client = NULL;
  slc_publisher *publisher = NULL;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 16;
  options.reliable = 1;
  options.metadata_size = sizeof(uint64_t);
  options.checksum = SLC_CHECKSUM_OWN;
  options.checksum_size = sizeof(uint32_t);
  options.compute_checksum = wrong_each_tenth;
  options.callback_ctx = &is_sender;
  int status = slc_client_open(NULL, &client);
  if (status == 0) status = slc_publisher_open(client, CHANNEL, &options, &publisher);
  for (uint64_t n = 1; status == 0 && n <= MESSAGES;) {
    slc_loan loan;
    status = slc_publisher_loan(publisher, 64, &loan);
    if (status == SLC_WOULD_BLOCK) {
      status = slc_publisher_wait(publisher, SLC_WAIT_FOREVER);
      continue;
    }
    if (status != 0) break;
    memcpy(loan.metadata, &n, sizeof n);
    for (size_t i = 0; i < 64; i++) ((uint8_t *)loan.data)[i] = pattern(n, i);
    status = slc_publisher_publish(publisher, &loan, 1 + n % 64, NULL);
    n++;
  }
  slc_client_close(client);
  return status;
}

static void check_received(const slc_message *message, uint64_t n) {
  uint64_t number;
  memcpy(&number, message->metadata, sizeof number);
  assert_int_equal(number, n);
  assert_int_equal(message->flags, n % 10 == 0 ? SLC_MESSAGE_CORRUPT : 0);
  check_pattern(message, n, 1 + n % 64);
}

static void test_between_processes(void **state) {
  (void)state;
  static bool is_sender = false;
  slc_client *client = client_open();
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  options.flag_corrupt = 1;
  options.metadata_size = sizeof(uint64_t);
  options.compute_checksum = wrong_each_tenth;
  options.callback_ctx = &is_sender;
  slc_subscriber *subscriber = subscriber_open(client, &options); /* comes before the channel has a shape */
  pid_t sender = fork();
  assert_true(sender >= 0);
  if (sender == 0) _exit(send_all() == 0 ? 0 : SENDER_FAILED);
  for (uint64_t n = 1; n <= MESSAGES; n++) {
    slc_message message;
    int status;
    while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY)
      check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
    check_ok(status);
    check_received(&message, n);
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  int ended = 0;
  assert_int_equal(waitpid(sender, &ended, 0), sender);
  assert_int_equal(ended, 0);
  slc_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_crc32c_is_the_one_described),
      BROKER_TEST(test_damage_is_skipped_and_counted),
      BROKER_TEST(test_damage_leaves_readiness),
      BROKER_TEST(test_damage_is_flagged),
      BROKER_TEST(test_grown_messages_are_checked),
      BROKER_TEST(test_newest_is_checked),
      BROKER_TEST(test_many_are_checked),
      BROKER_TEST(test_found_are_checked),
      BROKER_TEST(test_damage_holds_nobody_up),
      BROKER_TEST(test_own_checksum),
      BROKER_TEST(test_nonsense_is_refused),
      BROKER_TEST(test_users_agree),
      BROKER_TEST(test_users_agree_on_an_own_checksum),
      BROKER_TEST(test_first_subscriber_is_heard),
      BROKER_TEST(test_metadata),
      BROKER_TEST(test_no_metadata_unless_asked_for),
      BROKER_TEST(test_before_send_changes),
      BROKER_TEST(test_before_send_refuses),
      BROKER_TEST(test_time_of_ones_own),
      BROKER_TEST(test_between_processes),
  };
  return cmocka_run_group_tests_name("client_checks", tests, NULL, NULL);
}

/* See scenario.h.  Each step gives 0 or a negative status, and makes nothing of its own but what the library gives it.
 * Single-threaded. */
#include "fault/scenario.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slotcast/slotcast.h"

#define CHANNEL "fault/channel"
#define SPLIT_CHANNEL "fault/split"
#define LOAN_NS INT64_C(1000000)
#define RECONNECT_NS INT64_C(20000000)
#define FAR_NS (60 * INT64_C(1000000000)) /* what is due comes at once; a lost wake-up would take this long */

enum {
  MESSAGES = 40,
  SLOTS = 16,
  SMALL = 24,
  LARGE = 200,
  GROWN = 5000,
  GROW_EVERY = 7,
  LOAN_TRIES = (int)(FAR_NS / LOAN_NS)
};

struct scenario {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *early, *late;
  slc_publisher *split_publisher;
  slc_subscriber *split_subscriber;
  uint64_t sent;
};

static _Noreturn void wrong(const char *what) {
  fprintf(stderr, "%s (last failure: %s)\n", what, slc_error_detail());
  abort();
}

static void expect(bool condition, const char *what) {
  if (!condition) wrong(what);
}

/* ---- messages --------------------------------------------------------------------------------------------------- */

static size_t size_of(uint64_t ordinal) {
  return ordinal > MESSAGES && ordinal % GROW_EVERY == 0 ? GROWN : ordinal % 2 == 0 ? SMALL : LARGE;
}

/* Refused while a membership is on its way; a request fetches that, or says why none comes. */
static int send_bytes(struct scenario *s, slc_publisher *publisher, const void *bytes, size_t size,
                      uint64_t *ret_ordinal) {
  for (int i = 0; i < LOAN_TRIES; i++) {
    int status = slc_publisher_send(publisher, bytes, size, ret_ordinal);
    if (status != SLC_WOULD_BLOCK) return status;
    slc_channel_info *channels = NULL;
    size_t count = 0;
    status = slc_channel_list(s->client, &channels, &count);
    if (status != 0) return status;
    slc_channel_list_free(channels, count);
    status = slc_publisher_wait(publisher, LOAN_NS);
    if (status != 0 && status != SLC_TIMED_OUT) return status;
  }
  wrong("a publisher is refused slots for ever");
}

static int send_next(struct scenario *s) {
  uint8_t bytes[GROWN];
  uint64_t ordinal = s->sent + 1, published = 0;
  memset(bytes, (int)ordinal, sizeof bytes);
  int status = send_bytes(s, s->publisher, bytes, size_of(ordinal), &published);
  if (status != 0) return status;
  expect(published == ordinal, "a message has the wrong ordinal");
  s->sent = ordinal;
  return 0;
}

/* Takes one; it is the one due. */
static int take_next(slc_subscriber *subscriber, uint64_t ordinal) {
  slc_message message;
  int status = slc_subscriber_wait(subscriber, FAR_NS);
  expect(status != SLC_TIMED_OUT, "a wake-up was lost");
  if (status == 0) status = slc_subscriber_take(subscriber, &message);
  if (status == SLC_EMPTY) return status;
  if (status != 0) return status;
  const uint8_t *bytes = message.data;
  expect(message.ordinal == ordinal && message.size == size_of(ordinal), "another message came");
  for (size_t i = 0; i < message.size; i++) expect(bytes[i] == (uint8_t)ordinal, "a message is torn");
  return slc_subscriber_release(subscriber, &message);
}

/* wait may say that publishers have changed, and then there is nothing to take yet. */
static int take_due(slc_subscriber *subscriber, uint64_t ordinal) {
  int status;
  do status = take_next(subscriber, ordinal);
  while (status == SLC_EMPTY);
  return status;
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

/* In many runs the connection ends, and the same call fails in each try to come back: that takes its time in all of
 * them. */
static int open_client(struct scenario *s) {
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.reconnect_timeout_ns = RECONNECT_NS;
  return slc_client_open(&options, &s->client);
}

static int open_early(struct scenario *s) {
  return slc_subscriber_open(s->client, CHANNEL, NULL, &s->early);
}

static int early_fd(struct scenario *s) {
  int fd;
  return slc_subscriber_fd(s->early, &fd);
}

static int open_publisher(struct scenario *s) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = SLOTS;
  options.slot_size = LARGE;
  return slc_publisher_open(s->client, CHANNEL, &options, &s->publisher);
}

static int open_late(struct scenario *s) {
  return slc_subscriber_open(s->client, CHANNEL, NULL, &s->late);
}

static int late_fd(struct scenario *s) {
  int fd;
  return slc_subscriber_fd(s->late, &fd);
}

static int stream(struct scenario *s) {
  int status = 0;
  for (int i = 0; status == 0 && i < MESSAGES; i++) {
    status = send_next(s);
    if (status == 0) status = take_due(s->early, s->sent);
    if (status == 0) status = take_due(s->late, s->sent);
  }
  return status;
}

/* Readable after a message, and no longer after EMPTY. */
static int readiness(struct scenario *s) {
  struct pollfd readable = {.events = POLLIN};
  slc_message message;
  int status = slc_subscriber_fd(s->late, &readable.fd);
  if (status == 0) status = slc_subscriber_take(s->late, &message);
  if (status != SLC_EMPTY) return status;
  status = send_next(s);
  if (status != 0) return status;
  int ready;
  do ready = poll(&readable, 1, (int)(FAR_NS / 1000000));
  while (ready < 0);
  expect(ready == 1, "the readiness descriptor stays silent");
  status = take_due(s->late, s->sent);
  return status != 0 ? status : take_due(s->early, s->sent);
}

/* Among the others, messages that are larger than the slots. */
static int grow(struct scenario *s) {
  int status = 0;
  for (int i = 0; status == 0 && i < GROW_EVERY; i++) {
    status = send_next(s);
    if (status == 0) status = take_due(s->late, s->sent);
    if (status == 0) status = take_due(s->early, s->sent);
  }
  return status;
}

static int inspect(struct scenario *s) {
  slc_channel_info *channel = NULL;
  int status = slc_channel_inspect(s->client, CHANNEL, &channel);
  if (status != 0) return status;
  expect(channel->user_count == 3 && channel->messages == s->sent, "the channel is shown wrongly");
  slc_channel_info_free(channel);
  return 0;
}

static int list(struct scenario *s) {
  slc_channel_info *channels = NULL;
  size_t count = 0;
  int status = slc_channel_list(s->client, &channels, &count);
  if (status != 0) return status;
  expect(count == 1 && strcmp(channels[0].name, CHANNEL) == 0, "the list of channels is wrong");
  slc_channel_list_free(channels, count);
  return 0;
}

/* The other two go on, with another membership. */
static int close_early(struct scenario *s) {
  slc_subscriber_close(s->early);
  s->early = NULL;
  int status = 0;
  for (int i = 0; status == 0 && i < SLOTS; i++) {
    status = send_next(s);
    if (status == 0) status = take_due(s->late, s->sent);
  }
  return status;
}

static int open_split(struct scenario *s) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = SLOTS;
  options.slot_size = LARGE;
  options.slots_per_object = 3;
  int status = slc_publisher_open(s->client, SPLIT_CHANNEL, &options, &s->split_publisher);
  return status != 0 ? status : slc_subscriber_open(s->client, SPLIT_CHANNEL, NULL, &s->split_subscriber);
}

/* The last one makes it grow. */
static int split(struct scenario *s) {
  static const size_t sizes[] = {SMALL, LARGE, GROWN};
  uint8_t bytes[GROWN];
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    slc_message message;
    memset(bytes, (int)i + 1, sizeof bytes);
    int status = send_bytes(s, s->split_publisher, bytes, sizes[i], NULL);
    if (status != 0) return status;
    status = slc_subscriber_take(s->split_subscriber, &message);
    if (status != 0) return status;
    expect(message.size == sizes[i] && memcmp(message.data, bytes, sizes[i]) == 0, "a split message is not whole");
    slc_subscriber_release(s->split_subscriber, &message);
  }
  return 0;
}

static const struct {
  const char *name;
  int (*run)(struct scenario *s);
} steps[] = {
    {"open a client", open_client},
    {"open a subscriber that waits", open_early},
    {"its readiness descriptor", early_fd},
    {"open a publisher", open_publisher},
    {"open a subscriber", open_late},
    {"a readiness descriptor", late_fd},
    {"send and take", stream},
    {"readiness", readiness},
    {"grow", grow},
    {"inspect", inspect},
    {"list", list},
    {"close a subscriber and go on", close_early},
    {"open a split channel", open_split},
    {"send and take in memory of their own", split},
};

void scenario_run(struct scenario_result *ret_result) {
  struct scenario s = {0};
  *ret_result = (struct scenario_result){0};
  for (size_t i = 0; ret_result->status == 0 && i < sizeof steps / sizeof steps[0]; i++) {
    ret_result->step = steps[i].name;
    ret_result->status = steps[i].run(&s);
  }
  if (ret_result->status != 0) snprintf(ret_result->detail, sizeof ret_result->detail, "%s", slc_error_detail());
  slc_subscriber_close(s.split_subscriber);
  slc_publisher_close(s.split_publisher);
  slc_publisher_close(s.publisher);
  slc_subscriber_close(s.late);
  slc_subscriber_close(s.early);
  slc_client_close(s.client);
}

/* See traffic.h.  Each handle is used by the one thread of its process. */
#include "traffic.h"

#include <poll.h>

#include "crew.h"

static const char *why(int status) {
  return status == SLC_OK || status == SLC_EMPTY ? slc_status_name(status) : slc_error_detail();
}

/* ---- publishing ---- */

static int send_one(struct traffic_writer *writer, uint64_t *ret_ordinal) {
  struct test_message message = {.publisher = writer->life, .sequence = writer->sequence};
  uint64_t size = test_message_size(message, writer->slot_size);
  slc_loan loan;
  int status = slc_publisher_loan(writer->publisher, size, &loan);
  if (status != SLC_OK) return status;
  test_message_fill(loan.data, message, size);
  status = slc_publisher_publish(writer->publisher, &loan, size, ret_ordinal);
  need(status == SLC_OK, "publish: %s", why(status));
  writer->sequence++;
  return SLC_OK;
}

void traffic_send(struct traffic_writer *writer, uint64_t *ret_ordinal) {
  int status;
  while ((status = send_one(writer, ret_ordinal)) == SLC_WOULD_BLOCK) {
    status = slc_publisher_wait(writer->publisher, SLC_WAIT_FOREVER);
    need(status == SLC_OK, "publisher_wait: %s", why(status));
  }
  need(status == SLC_OK, "loan: %s", why(status));
}

/* ---- what a subscriber sees ---- */

void traffic_open(struct traffic_reader *reader, slc_client *client, const char *channel, bool use_fd) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = reader->max_held;
  options.start = SLC_START_OLDEST;
  options.reliable = reader->gapless;
  int status = slc_subscriber_open(client, channel, &options, &reader->subscriber);
  need(status == SLC_OK, "subscriber_open: %s", why(status));
  reader->fd = -1;
  if (!use_fd) return;
  status = slc_subscriber_fd(reader->subscriber, &reader->fd);
  need(status == SLC_OK, "subscriber_fd: %s", why(status));
}

slc_subscriber_stats traffic_stats(struct traffic_reader *reader) {
  slc_subscriber_stats stats = {.size = sizeof stats};
  int status = slc_subscriber_stats_get(reader->subscriber, &stats);
  need(status == SLC_OK, "stats_get: %s", why(status));
  return stats;
}

static struct test_message check_whole(const struct traffic_reader *reader, const slc_message *message,
                                       const char *when) {
  struct test_message content;
  need(test_message_parse(message->data, message->size, reader->slot_size, &content), "ordinal %ju %s",
       (uintmax_t)message->ordinal, when);
  need(content.publisher < TRAFFIC_LIVES, "life %u", content.publisher);
  return content;
}

/* Messages of one publisher come in its order, and on a reliable channel all of them. */
static void check_series(struct traffic_reader *reader, struct test_message content, uint32_t number) {
  uint64_t *next = &reader->next[content.publisher];
  bool is_known = *next != 0;
  need(content.sequence >= *next, "message %ju of publisher %u after %ju", (uintmax_t)content.sequence,
       content.publisher, (uintmax_t)*next - 1);
  if (reader->gapless && (is_known || reader->complete))
    need(content.sequence == *next, "message %ju of publisher %u where %ju was due", (uintmax_t)content.sequence,
         content.publisher, (uintmax_t)*next);
  need(!is_known || reader->number[content.publisher] == number, "publisher %u is number %u and %u", content.publisher,
       reader->number[content.publisher], number);
  *next = content.sequence + 1;
  reader->number[content.publisher] = number;
}

/* From its start on every ordinal is taken or counted as dropped; what take_newest passes over is neither. */
static void check_counts(struct traffic_reader *reader) {
  slc_subscriber_stats stats = traffic_stats(reader);
  need(stats.received == reader->received, "%ju, and took %ju", (uintmax_t)stats.received, (uintmax_t)reader->received);
  uint64_t passed = reader->last - reader->start + 1;
  if (reader->gapless) need(stats.dropped == 0, "%ju", (uintmax_t)stats.dropped);
  need(reader->newest ? reader->received + stats.dropped <= passed : reader->received + stats.dropped == passed,
       "%ju received, %ju dropped of %ju", (uintmax_t)reader->received, (uintmax_t)stats.dropped, (uintmax_t)passed);
}

/* What has been dropped before the first message lay between its start and that. */
static uint64_t start_of(struct traffic_reader *reader, uint64_t ordinal) {
  uint64_t dropped = traffic_stats(reader).dropped;
  need(ordinal >= 1 && dropped < ordinal, "%ju dropped before ordinal %ju", (uintmax_t)dropped, (uintmax_t)ordinal);
  return ordinal - dropped;
}

static void check_message(struct traffic_reader *reader, const slc_message *message) {
  struct test_message content = check_whole(reader, message, "is torn");
  uint64_t ordinal = message->ordinal;
  need(message->timestamp_ns != 0, "ordinal %ju has no time", (uintmax_t)ordinal);
  if (reader->received++ == 0) {
    reader->start = start_of(reader, ordinal);
    need(!reader->complete || ordinal == 1, "begins with ordinal %ju", (uintmax_t)ordinal);
  } else {
    need(ordinal > reader->last, "ordinal %ju after %ju", (uintmax_t)ordinal, (uintmax_t)reader->last);
    if (reader->gapless)
      need(ordinal == reader->last + 1, "ordinal %ju after %ju", (uintmax_t)ordinal, (uintmax_t)reader->last);
  }
  reader->last = ordinal;
  check_series(reader, content, message->publisher);
  reader->order = (reader->order ^ ordinal ^ (uint64_t)content.publisher << 48 ^ content.sequence << 20) *
                  UINT64_C(0x9e3779b97f4a7c15);
  check_counts(reader);
}

/* ---- take, release, wait ---- */

static void release_oldest(struct traffic_reader *reader) {
  slc_message *oldest = &reader->held[reader->held_first];
  check_whole(reader, oldest, "was rewritten while held");
  int status = slc_subscriber_release(reader->subscriber, oldest);
  need(status == SLC_OK, "release: %s", why(status));
  reader->held_first = (reader->held_first + 1) % TRAFFIC_HOLDS;
  reader->held_count--;
}

void traffic_look_again(const struct traffic_reader *reader) {
  for (uint32_t i = 0; i < reader->held_count; i++)
    check_whole(reader, &reader->held[(reader->held_first + i) % TRAFFIC_HOLDS], "was rewritten while held");
}

void traffic_release_all(struct traffic_reader *reader) {
  while (reader->held_count > 0) release_oldest(reader);
}

bool traffic_take(struct traffic_reader *reader) {
  slc_message *message = &reader->held[(reader->held_first + reader->held_count) % TRAFFIC_HOLDS];
  int status = reader->newest ? slc_subscriber_take_newest(reader->subscriber, message)
                              : slc_subscriber_take(reader->subscriber, message);
  if (status == SLC_EMPTY) return false;
  need(status == SLC_OK, "take: %s", why(status));
  reader->held_count++;
  check_message(reader, message);
  if (reader->seen != NULL) reader->seen(reader);
  if (reader->held_count == reader->max_held) release_oldest(reader);
  return true;
}

void traffic_wait(struct traffic_reader *reader) {
  traffic_release_all(reader);
  if (reader->fd < 0) {
    int status = slc_subscriber_wait(reader->subscriber, SLC_WAIT_FOREVER);
    need(status == SLC_OK, "subscriber_wait: %s", why(status));
    return;
  }
  struct pollfd readable = {.fd = reader->fd, .events = POLLIN};
  need(poll(&readable, 1, -1) == 1, "poll");
}

/* Whether it is over is asked after "empty", which has emptied the readiness descriptor: what changes from then on will
 * be rung for.  And then once more, for what came before the end and after "empty". */
void traffic_run(struct traffic_reader *reader, bool (*over)(struct traffic_reader *reader)) {
  for (;;) {
    while (traffic_take(reader)) {
    }
    if (over(reader)) break;
    traffic_wait(reader);
  }
  while (traffic_take(reader)) {
  }
  traffic_release_all(reader);
}

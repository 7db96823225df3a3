/* What a measuring process does with the library.  Every failure ends it, with the library's sentence.
 * Thread: main, of each process. */
#ifndef SLOTCAST_CLI_BENCH_TRAFFIC_H
#define SLOTCAST_CLI_BENCH_TRAFFIC_H

#include <slotcast/slotcast.h>

#include "bench.h"

enum { CHANNEL_NAME_MAX = 96 };

/* A channel to measure with, and how its users are. */
struct traffic {
  const char *socket;
  char channel[CHANNEL_NAME_MAX];
  uint32_t slots;
  uint64_t slot_size;
  bool is_reliable, is_exclusive;
  enum waiting waiting;
  uint32_t holds;
};

/* A channel that was not used before, of this kind of measurement. */
void traffic_name(struct bench *bench, const char *kind, struct traffic *traffic);

slc_client *traffic_connect(const struct traffic *traffic);
slc_publisher *traffic_publisher(slc_client *client, const struct traffic *traffic);
slc_subscriber *traffic_subscriber(slc_client *client, const struct traffic *traffic);

/* A loan, waiting while it would block. */
void traffic_loan(slc_publisher *publisher, size_t size, slc_loan *ret_loan);
/* One message with its number in its first word. */
void traffic_send(slc_publisher *publisher, size_t size, uint64_t number, bool is_touched);
/* Up to `max` messages that are there, or 0. */
size_t traffic_take(slc_subscriber *subscriber, slc_message *messages, size_t max);
/* The same, at least one, waiting for it. */
size_t traffic_receive(slc_subscriber *subscriber, slc_message *messages, size_t max);
void traffic_release(slc_subscriber *subscriber, slc_message *messages, size_t count);

#endif

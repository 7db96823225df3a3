/* One message after the other through a channel, for counting instructions: ci/instructions runs this under callgrind
 * and counts inside publish_one and take_one.  The argument says what the channel has: nothing (plain), one publisher
 * (exclusive), payloads in memory of their own (split), metadata, crc32c, a callback before sending, or a virtual
 * channel, to which both belong. Here nothing is measured and nothing printed.
 *
 * Needs a broker ($SLOTCAST_SOCKET).  One publisher, one subscriber, one thread; so the count is the same each time. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slotcast/slotcast.h"

enum { MESSAGES = 10000, SIZE = 64 };

static void check(const char *what, int status) {
  if (status >= 0) return;
  fprintf(stderr, "%s: %s (%s)\n", what, slc_status_name(status), slc_error_detail());
  exit(1);
}

/* Not static and never inlined: callgrind knows them by name. */
void publish_one(slc_publisher *publisher);
void take_one(slc_subscriber *subscriber);

__attribute__((noinline)) void publish_one(slc_publisher *publisher) {
  slc_loan loan;
  check("loan", slc_publisher_loan(publisher, SIZE, &loan));
  *(uint8_t *)loan.data = 1;
  check("publish", slc_publisher_publish(publisher, &loan, SIZE, NULL));
}

__attribute__((noinline)) void take_one(slc_subscriber *subscriber) {
  slc_message message;
  check("take", slc_subscriber_take(subscriber, &message));
  check("release", slc_subscriber_release(subscriber, &message));
}

static int leave_as_it_is(void *ctx, void *payload, size_t *size) {
  (void)ctx;
  (void)payload;
  (void)size;
  return 0;
}

static void choose(const char *kind, slc_publisher_options *options, slc_subscriber_options *wishes) {
  options->no_timestamp = 1; /* how the clock is read is the system's affair */
  if (strcmp(kind, "metadata") == 0) {
    options->metadata_size = 16;
  } else if (strcmp(kind, "exclusive") == 0) {
    options->max_publishers = 1;
  } else if (strcmp(kind, "crc32c") == 0) {
    options->checksum = SLC_CHECKSUM_CRC32C;
  } else if (strcmp(kind, "callback") == 0) {
    options->before_send = leave_as_it_is;
  } else if (strcmp(kind, "split") == 0) {
    options->split = 1;
  } else if (strcmp(kind, "virtual") == 0) {
    options->multiplexer = wishes->multiplexer = "bench/multiplexer";
  } else if (strcmp(kind, "plain") != 0) {
    fprintf(stderr, "%s: none of plain, exclusive, split, metadata, crc32c, callback, virtual\n", kind);
    exit(2);
  }
}

/* What happens only at the beginning is counted, too, and stays below an instruction a message. */
int main(int argc, char **argv) {
  slc_client *client = NULL;
  slc_publisher *publisher = NULL;
  slc_subscriber *subscriber = NULL;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
  choose(argc > 1 ? argv[1] : "plain", &options, &wishes);
  check("client", slc_client_open(NULL, &client));
  check("publisher", slc_publisher_open(client, "bench/instructions", &options, &publisher));
  check("subscriber", slc_subscriber_open(client, "bench/instructions", &wishes, &subscriber));
  for (int i = 0; i < MESSAGES; i++) {
    publish_one(publisher);
    take_one(subscriber);
  }
  slc_client_close(client);
  return 0;
}

/* What a measuring process does with the library.  Thread: main, of each process. */
#include "traffic.h"

#include <stdio.h>

#include "cli.h"
#include "crew.h"
#include "measure.h"

void traffic_name(struct bench *bench, const char *kind, struct traffic *traffic) {
  /* The process id, because a given broker may have other measurements. */
  snprintf(traffic->channel, sizeof traffic->channel, "bench/%s/%d-%u", kind, (int)getpid(), ++bench->channels);
  traffic->socket = bench->socket;
}

static int64_t spin_of(enum waiting waiting) {
  static const int64_t spins[] = {
      [WAIT_USUAL] = 0, [WAIT_POLLING] = SLC_SPIN_FOREVER, [WAIT_BLOCKING] = SLC_SPIN_NEVER, [WAIT_SPIN] = 0};
  return spins[waiting];
}

slc_client *traffic_connect(const struct traffic *traffic) {
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  slc_client *client;
  options.socket = traffic->socket;
  worker_check("cannot connect", slc_client_open(&options, &client));
  return client;
}

slc_publisher *traffic_publisher(slc_client *client, const struct traffic *traffic) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher *publisher;
  options.slots = traffic->slots;
  options.slot_size = traffic->slot_size;
  options.reliable = traffic->is_reliable;
  options.max_publishers = traffic->is_exclusive ? 1 : 0;
  options.no_timestamp = 1;
  options.spin_ns = spin_of(traffic->waiting);
  worker_check("cannot publish", slc_publisher_open(client, traffic->channel, &options, &publisher));
  return publisher;
}

slc_subscriber *traffic_subscriber(slc_client *client, const struct traffic *traffic) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *subscriber;
  options.max_holds = traffic->holds;
  options.reliable = traffic->is_reliable;
  options.spin_ns = spin_of(traffic->waiting);
  worker_check("cannot subscribe", slc_subscriber_open(client, traffic->channel, &options, &subscriber));
  return subscriber;
}

void traffic_loan(slc_publisher *publisher, size_t size, slc_loan *ret_loan) {
  int status;
  while ((status = slc_publisher_loan(publisher, size, ret_loan)) == SLC_WOULD_BLOCK)
    worker_check("cannot wait for a slot", slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  worker_check("cannot lend", status);
}

void traffic_send(slc_publisher *publisher, size_t size, uint64_t number, bool is_touched) {
  slc_loan loan;
  traffic_loan(publisher, size, &loan);
  payload_write(loan.data, size, number, is_touched);
  worker_check("cannot publish", slc_publisher_publish(publisher, &loan, size, NULL));
}

size_t traffic_take(slc_subscriber *subscriber, slc_message *messages, size_t max) {
  size_t count = 1;
  int status = max == 1 ? slc_subscriber_take(subscriber, messages)
                        : slc_subscriber_take_many(subscriber, messages, max, &count);
  if (status == SLC_EMPTY) return 0;
  worker_check("cannot take", status);
  return count;
}

/* Waiting comes first: a wait that polls leaves the log alone, while a take in vain reads its word, which then has to
 * be fetched back by who publishes next. */
size_t traffic_receive(slc_subscriber *subscriber, slc_message *messages, size_t max) {
  size_t count;
  do {
    worker_check("cannot wait", slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
    count = traffic_take(subscriber, messages, max);
  } while (count == 0);
  return count;
}

void traffic_release(slc_subscriber *subscriber, slc_message *messages, size_t count) {
  for (size_t i = 0; i < count; i++) worker_check("cannot release", slc_subscriber_release(subscriber, &messages[i]));
}

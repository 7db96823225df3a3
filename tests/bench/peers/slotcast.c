/* Slotcast, through its public API, as `slotcast bench` uses it.  Thread: main, of each process. */
#include "bench/crew.h"
#include "bench/measure.h"
#include "bench/traffic.h"
#include "cli.h"
#include "peer.h"

enum { SMALL_SLOTS = 64, LARGE_SLOTS = 8, MANY_SLOTS = 1024, LARGE_SIZE = 65536, HELD = 2 };

static const struct topic *sent, *received;
static slc_client *client;
static slc_publisher *publisher;
static slc_subscriber *subscriber;
static const char *broker; /* its socket; set before anybody is forked */

static int start(struct bench *bench) {
  static const char *const options[] = {NULL};
  int code = session_start_broker(&bench->session, bench->settings.backend, 0, options);
  broker = bench->session.broker.socket;
  return code;
}
static void stop(struct bench *bench) {
  session_end(&bench->session);
}

static struct traffic traffic_of(const struct topic *topic) {
  uint32_t slots = topic->purpose != PURPOSE_TRIPS ? MANY_SLOTS : topic->size > LARGE_SIZE ? LARGE_SLOTS : SMALL_SLOTS;
  struct traffic traffic = {.socket = broker,
                            .slots = slots,
                            .slot_size = topic->size,
                            .is_reliable = topic->purpose == PURPOSE_STREAM,
                            .waiting = topic->blocks ? WAIT_BLOCKING : WAIT_POLLING,
                            .holds = topic->purpose == PURPOSE_STREAM ? RECEIVE_MAX : HELD};
  snprintf(traffic.channel, sizeof traffic.channel, "%s", topic->name);
  return traffic;
}
static void connect_once(const struct traffic *traffic) {
  if (client == NULL) client = traffic_connect(traffic);
}

static void publish_on(const struct topic *topic) {
  struct traffic traffic = traffic_of(topic);
  connect_once(&traffic);
  publisher = traffic_publisher(client, &traffic);
  sent = topic;
}
static void subscribe_to(const struct topic *topic) {
  struct traffic traffic = traffic_of(topic);
  connect_once(&traffic);
  subscriber = traffic_subscriber(client, &traffic);
  received = topic;
}

static void send_message(uint64_t number) {
  traffic_send(publisher, sent->size, number, sent->is_touched);
}
static size_t receive(uint64_t *numbers, size_t max, bool waits) {
  slc_message messages[RECEIVE_MAX];
  size_t count = waits ? traffic_receive(subscriber, messages, max) : traffic_take(subscriber, messages, max);
  for (size_t i = 0; i < count; i++)
    numbers[i] = payload_read(messages[i].data, messages[i].size, received->is_touched);
  traffic_release(subscriber, messages, count);
  return count;
}

static void leave(void) {
  if (subscriber != NULL) slc_subscriber_close(subscriber);
  if (publisher != NULL) slc_publisher_close(publisher);
  slc_client_close(client);
}

const struct peer peer_slotcast = {
    .version = SLC_VERSION_STRING,
    .start = start,
    .stop = stop,
    .publish_on = publish_on,
    .subscribe_to = subscribe_to,
    .send = send_message,
    .receive = receive,
    .leave = leave,
};

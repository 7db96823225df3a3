/* iceoryx through its C binding: chunks are lent on both sides, nothing is copied.  Who polls asks the subscriber's
 * queue; who sleeps waits at a wait set.  A stream blocks its publisher where the queue is full; otherwise the oldest
 * is discarded, as is the default.  Thread: main, of each process. */
#include <sched.h>
#include <string.h>
#include <unistd.h>

/* The binding's headers name their enums and classes by macros that C needs. */
#include <iceoryx_binding_c/log.h>
#include <iceoryx_binding_c/publisher.h>
#include <iceoryx_binding_c/runtime.h>
#include <iceoryx_binding_c/subscriber.h>
#include <iceoryx_binding_c/wait_set.h>

#include "bench/measure.h"
#include "cli.h"
#include "peer.h"
#include "roudi.h"

static const struct topic *sent, *received;
static bool is_connected;
static iox_pub_storage_t publisher_storage;
static iox_sub_storage_t subscriber_storage;
static iox_ws_storage_t wait_set_storage;
static iox_pub_t publisher;
static iox_sub_t subscriber;
static iox_ws_t wait_set;

static void connect_once(void) {
  char name[TOPIC_NAME_MAX];
  if (is_connected) return;
  snprintf(name, sizeof name, "slotcast-bench-%d-", (int)getpid());
  iox_set_loglevel(Iceoryx_LogLevel_Off);
  iox_runtime_init(name);
  is_connected = true;
}

static void publish_on(const struct topic *topic) {
  iox_pub_options_t options;
  connect_once();
  iox_pub_options_init(&options);
  if (topic->purpose == PURPOSE_STREAM) options.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
  publisher = iox_pub_init(&publisher_storage, "slotcast", "bench", topic->name, &options);
  sent = topic;
}
static void subscribe_to(const struct topic *topic) {
  iox_sub_options_t options;
  connect_once();
  iox_sub_options_init(&options);
  if (topic->purpose == PURPOSE_STREAM) options.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
  subscriber = iox_sub_init(&subscriber_storage, "slotcast", "bench", topic->name, &options);
  received = topic;
  if (!topic->blocks) return;
  wait_set = iox_ws_init(&wait_set_storage);
  enum iox_WaitSetResult result =
      iox_ws_attach_subscriber_state(wait_set, subscriber, SubscriberState_HAS_DATA, 0, NULL);
  if (result != WaitSetResult_SUCCESS) peer_fail("iox_ws_attach_subscriber_state", "refused");
}

/* While chunks lie in full queues the publisher may have to try again. */
static void send_message(uint64_t number) {
  void *payload;
  enum iox_AllocationResult result;
  while ((result = iox_pub_loan_chunk(publisher, &payload, (uint32_t)sent->size)) ==
         AllocationResult_RUNNING_OUT_OF_CHUNKS)
    sched_yield();
  if (result != AllocationResult_SUCCESS) peer_fail("iox_pub_loan_chunk", "no chunk of this size");
  payload_write(payload, sent->size, number, sent->is_touched);
  iox_pub_publish_chunk(publisher, payload);
}

static bool take(uint64_t *number, bool sleeps) {
  const void *payload;
  iox_notification_info_t notified;
  uint64_t missed;
  if (sleeps) iox_ws_wait(wait_set, &notified, 1, &missed);
  enum iox_ChunkReceiveResult result = iox_sub_take_chunk(subscriber, &payload);
  if (result == ChunkReceiveResult_NO_CHUNK_AVAILABLE) return false;
  if (result != ChunkReceiveResult_SUCCESS) peer_fail("iox_sub_take_chunk", "failed");
  *number = payload_read(payload, received->size, received->is_touched);
  iox_sub_release_chunk(subscriber, payload);
  return true;
}
static size_t receive(uint64_t *numbers, size_t max, bool waits) {
  return receive_one_by_one(take, received, numbers, max, waits);
}

static void leave(void) {
  if (wait_set != NULL) iox_ws_deinit(wait_set);
  if (subscriber != NULL) iox_sub_deinit(subscriber);
  if (publisher != NULL) iox_pub_deinit(publisher);
  iox_runtime_shutdown();
}

const struct peer peer_iceoryx = {
    .version = PEERS_ICEORYX,
    .start = roudi_start,
    .stop = roudi_stop,
    .publish_on = publish_on,
    .subscribe_to = subscribe_to,
    .send = send_message,
    .receive = receive,
    .leave = leave,
};

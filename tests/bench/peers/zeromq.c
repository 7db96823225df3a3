/* ZeroMQ over ipc://, publisher and subscribers.  The publisher does not drop what a subscriber has no room for, but
 * waits (ZMQ_XPUB_NODROP): the messages are to arrive.  Thread: main, of each process; ZeroMQ has one of its own. */
#include <errno.h>
#include <string.h>

#include <zmq.h>

#include "bench/measure.h"
#include "cli.h"
#include "peer.h"

static const struct topic *sent, *received;
static void *context, *publisher, *subscriber;

static _Noreturn void fail_at(const char *call) {
  peer_fail(call, zmq_strerror(zmq_errno()));
}

static void *open_socket(int type) {
  if (context == NULL) context = zmq_ctx_new();
  if (context == NULL) fail_at("zmq_ctx_new");
  void *socket = zmq_socket(context, type);
  if (socket == NULL) fail_at("zmq_socket");
  return socket;
}

static void publish_on(const struct topic *topic) {
  const int is_patient = 1;
  publisher = open_socket(ZMQ_XPUB);
  if (zmq_setsockopt(publisher, ZMQ_XPUB_NODROP, &is_patient, sizeof is_patient) != 0) fail_at("ZMQ_XPUB_NODROP");
  if (zmq_bind(publisher, address_of(topic)) != 0) fail_at("zmq_bind");
  sent = topic;
}
static void subscribe_to(const struct topic *topic) {
  subscriber = open_socket(ZMQ_SUB);
  if (zmq_setsockopt(subscriber, ZMQ_SUBSCRIBE, "", 0) != 0) fail_at("ZMQ_SUBSCRIBE");
  if (zmq_connect(subscriber, address_of(topic)) != 0) fail_at("zmq_connect");
  received = topic;
}

/* The payload is written into the message that goes. */
static void send_message(uint64_t number) {
  zmq_msg_t message;
  if (zmq_msg_init_size(&message, sent->size) != 0) fail_at("zmq_msg_init_size");
  payload_write(zmq_msg_data(&message), sent->size, number, sent->is_touched);
  while (zmq_msg_send(&message, publisher, 0) < 0) {
    if (zmq_errno() != EINTR && zmq_errno() != EAGAIN) fail_at("zmq_msg_send");
  }
}
static bool take(uint64_t *number, bool sleeps) {
  zmq_msg_t message;
  zmq_msg_init(&message);
  if (zmq_msg_recv(&message, subscriber, sleeps ? 0 : ZMQ_DONTWAIT) < 0) {
    if (zmq_errno() != EINTR && zmq_errno() != EAGAIN) fail_at("zmq_msg_recv");
    return false;
  }
  *number = payload_read(zmq_msg_data(&message), zmq_msg_size(&message), received->is_touched);
  zmq_msg_close(&message);
  return true;
}
static size_t receive(uint64_t *numbers, size_t max, bool waits) {
  return receive_one_by_one(take, received, numbers, max, waits);
}

const struct peer peer_zeromq = {
    .version = PEERS_ZEROMQ,
    .publish_on = publish_on,
    .subscribe_to = subscribe_to,
    .send = send_message,
    .receive = receive,
    .has_threads = true,
};

/* nng over ipc://: pairs from one to one, because its publisher drops what does not fit; publisher and subscribers for
 * many.  Messages are handed over, not copied, on both sides.  Thread: main, of each process; nng has its own.  The
 * sockets stay open until the process ends: nng_close may wait for ever where both sides close at once. */
#include <string.h>

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>

#include "bench/measure.h"
#include "cli.h"
#include "peer.h"

static const struct topic *sent, *received;
static nng_socket publisher = NNG_SOCKET_INITIALIZER, subscriber = NNG_SOCKET_INITIALIZER;

static void check(const char *call, int error) {
  if (error != 0) peer_fail(call, nng_strerror(error));
}

static void publish_on(const struct topic *topic) {
  if (topic->purpose == PURPOSE_FAN_OUT) {
    check("nng_pub0_open", nng_pub0_open(&publisher));
  } else {
    check("nng_pair0_open", nng_pair0_open(&publisher));
  }
  check("nng_listen", nng_listen(publisher, address_of(topic), NULL, 0));
  sent = topic;
}
static void subscribe_to(const struct topic *topic) {
  if (topic->purpose == PURPOSE_FAN_OUT) {
    check("nng_sub0_open", nng_sub0_open(&subscriber));
    check("NNG_OPT_SUB_SUBSCRIBE", nng_socket_set(subscriber, NNG_OPT_SUB_SUBSCRIBE, "", 0));
  } else {
    check("nng_pair0_open", nng_pair0_open(&subscriber));
  }
  check("NNG_OPT_RECVMAXSZ", nng_socket_set_size(subscriber, NNG_OPT_RECVMAXSZ, 0)); /* as large as they are */
  check("nng_dial", nng_dial(subscriber, address_of(topic), NULL, 0));
  received = topic;
}

static void send_message(uint64_t number) {
  nng_msg *message;
  check("nng_msg_alloc", nng_msg_alloc(&message, sent->size));
  payload_write(nng_msg_body(message), sent->size, number, sent->is_touched);
  check("nng_sendmsg", nng_sendmsg(publisher, message, 0));
}
static bool take(uint64_t *number, bool sleeps) {
  nng_msg *message;
  int error = nng_recvmsg(subscriber, &message, sleeps ? 0 : NNG_FLAG_NONBLOCK);
  if (error == NNG_EAGAIN) return false;
  check("nng_recvmsg", error);
  *number = payload_read(nng_msg_body(message), nng_msg_len(message), received->is_touched);
  nng_msg_free(message);
  return true;
}
static size_t receive(uint64_t *numbers, size_t max, bool waits) {
  return receive_one_by_one(take, received, numbers, max, waits);
}

const struct peer peer_nng = {
    .version = PEERS_NNG,
    .publish_on = publish_on,
    .subscribe_to = subscribe_to,
    .send = send_message,
    .receive = receive,
    .has_threads = true,
};

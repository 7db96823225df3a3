/* CycloneDDS, by its sockets or through iceoryx's shared memory: two rows, because the second needs a daemon and a
 * setting.  Readers and writers are reliable; by sockets they keep everything, which shared memory does not admit, so
 * that a stream through it may lose messages.  Thread: main, of each process; CycloneDDS has its own. */
#include <stdlib.h>
#include <string.h>

#include <dds/dds.h>
#include <dds/ddsc/dds_loan_api.h>

#include "bench/measure.h"
#include "bytes.h"
#include "cli.h"
#include "peer.h"
#include "roudi.h"

/* Samples in a reader's queue through shared memory, where it may hold 256 at most; by sockets, how far a writer is
 * ahead. */
enum { SHARED_QUEUE = 64, AHEAD = 400, BLOCKED_S = 10 };

static const struct topic *sent, *received;
static bool is_shared;
static dds_entity_t participant, writer, reader, wait_set;
static void *sample; /* what is written when nothing is lent */
static bool has_loans;

static dds_entity_t check(const char *call, dds_entity_t entity) {
  if (entity < 0) peer_fail(call, dds_strretcode(entity));
  return entity;
}

/* ---- entities ---- */

#define CONFIGURATION(more)                                                                                            \
  "<CycloneDDS><Domain id=\"any\">"                                                                                    \
  "<General><Interfaces><NetworkInterface name=\"lo\" multicast=\"true\"/></Interfaces>"                               \
  "<AllowMulticast>true</AllowMulticast><MaxMessageSize>65500B</MaxMessageSize></General>" more                        \
  "</Domain></CycloneDDS>"

static void connect_once(void) {
  if (participant > 0) return;
  setenv("CYCLONEDDS_URI",
         is_shared ? CONFIGURATION("<SharedMemory><Enable>true</Enable><LogLevel>off</LogLevel></SharedMemory>")
                   : CONFIGURATION(""),
         1);
  participant = check("dds_create_participant", dds_create_participant(DDS_DOMAIN_DEFAULT, NULL, NULL));
}

static dds_entity_t topic_of(const struct topic *topic) {
  const dds_topic_descriptor_t *type = topic->size <= sizeof(peers_Small)    ? &peers_Small_desc
                                       : topic->size <= sizeof(peers_Medium) ? &peers_Medium_desc
                                                                             : &peers_Large_desc;
  char name[TOPIC_NAME_MAX];
  snprintf(name, sizeof name, "%s", topic->name);
  for (char *dash = name; (dash = strchr(dash, '-')) != NULL;) *dash = '_';
  return check("dds_create_topic", dds_create_topic(participant, type, name, NULL, NULL));
}

static dds_qos_t *qos_of(const struct topic *topic) {
  dds_qos_t *qos = dds_create_qos();
  dds_qset_reliability(qos, DDS_RELIABILITY_RELIABLE, DDS_SECS(BLOCKED_S));
  dds_qset_durability(qos, DDS_DURABILITY_VOLATILE);
  if (is_shared) {
    dds_qset_history(qos, DDS_HISTORY_KEEP_LAST, topic->purpose == PURPOSE_TRIPS ? 1 : SHARED_QUEUE);
  } else {
    dds_qset_history(qos, DDS_HISTORY_KEEP_ALL, 0);
    dds_qset_resource_limits(qos, AHEAD, DDS_LENGTH_UNLIMITED, DDS_LENGTH_UNLIMITED);
  }
  return qos;
}

static void publish_on(const struct topic *topic) {
  connect_once();
  dds_qos_t *qos = qos_of(topic);
  writer = check("dds_create_writer", dds_create_writer(participant, topic_of(topic), qos, NULL));
  dds_delete_qos(qos);
  has_loans = dds_is_loan_available(writer);
  if (is_shared && !has_loans) peer_fail("dds_is_loan_available", "no shared memory");
  if (!has_loans) sample = calloc(1, topic->size);
  if (!has_loans && sample == NULL) peer_fail("calloc", "no memory");
  sent = topic;
}
static void subscribe_to(const struct topic *topic) {
  connect_once();
  dds_qos_t *qos = qos_of(topic);
  reader = check("dds_create_reader", dds_create_reader(participant, topic_of(topic), qos, NULL));
  dds_delete_qos(qos);
  check("dds_set_status_mask", dds_set_status_mask(reader, DDS_DATA_AVAILABLE_STATUS));
  wait_set = check("dds_create_waitset", dds_create_waitset(participant));
  check("dds_waitset_attach", dds_waitset_attach(wait_set, reader, 0));
  received = topic;
}

/* ---- messages ---- */

static void send_message(uint64_t number) {
  void *data = sample;
  if (has_loans) check("dds_loan_sample", dds_loan_sample(writer, &data));
  payload_write(data, sent->size, number, sent->is_touched);
  check("dds_write", dds_write(writer, data));
}

/* The samples stay the reader's: they are lent to us. */
static size_t take(uint64_t *numbers, size_t max) {
  void *samples[RECEIVE_MAX] = {NULL};
  dds_sample_info_t infos[RECEIVE_MAX];
  dds_return_t count = check("dds_take", dds_take(reader, samples, infos, max, (uint32_t)max));
  size_t valid = 0;
  for (dds_return_t i = 0; i < count; i++) {
    if (infos[i].valid_data) numbers[valid++] = payload_read(samples[i], received->size, received->is_touched);
  }
  if (count > 0) check("dds_return_loan", dds_return_loan(reader, samples, count));
  return valid;
}
static size_t receive(uint64_t *numbers, size_t max, bool waits) {
  size_t count;
  while ((count = take(numbers, max)) == 0 && waits) {
    if (received->blocks) check("dds_waitset_wait", dds_waitset_wait(wait_set, NULL, 0, DDS_INFINITY));
  }
  return count;
}

static void leave(void) {
  dds_delete(participant);
  free(sample);
}

const struct peer peer_cyclonedds = {
    .version = PEERS_CYCLONEDDS,
    .publish_on = publish_on,
    .subscribe_to = subscribe_to,
    .send = send_message,
    .receive = receive,
    .leave = leave,
    .has_threads = true,
};

#ifdef PEERS_ROUDI
static void publish_shared(const struct topic *topic) {
  is_shared = true;
  publish_on(topic);
}
static void subscribe_shared(const struct topic *topic) {
  is_shared = true;
  subscribe_to(topic);
}
const struct peer peer_cyclonedds_shared = {
    .version = PEERS_CYCLONEDDS,
    .start = roudi_start,
    .stop = roudi_stop,
    .publish_on = publish_shared,
    .subscribe_to = subscribe_shared,
    .send = send_message,
    .receive = receive,
    .leave = leave,
    .has_threads = true,
};
#endif

/* Connections to a shadow, and what is said over them.
 *
 * Invariants: only shadow->broker stages, commits and loads; what it staged goes with it.  A connection that is refused
 * is told why and then read to its end, or for a bounded time: closing at once, with something unread, would take the
 * refusal from the peer.  Thread: the loop's. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "net/peer.h"
#include "proto/codec.h"
#include "shadow/shadow.h"

enum { LINGER_MS = 2000 };

/* One buffer for all: a message is packed and sent before the next is. */
static uint8_t packed[SLC__CODEC_MESSAGE_MAX];

/* ---- out ---- */

static int send_message(struct link *link, const Slotcast__ShadowMessage *message) {
  size_t size;
  int status = slc__shadow_encode(message, packed, sizeof packed, &size);
  return status != SLC_OK ? status : slc__connection_send(link->connection, packed, size, NULL, 0);
}

static int send_state(struct link *link) {
  const struct records *records = &link->shadow->records;
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowState state = SLOTCAST__SHADOW_STATE__INIT;
  state.major = SLC__SHADOW_MAJOR;
  state.minor = SLC__SHADOW_MINOR;
  state.complete = records->is_complete;
  state.generation = records->generation;
  state.records = records->committed;
  state.max_bytes = records->limits.bytes;
  state.max_records = records->limits.records;
  state.max_descriptors = records->limits.descriptors;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_STATE;
  message.state = &state;
  return send_message(link, &message);
}

static int send_committed(struct link *link, uint64_t number) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowCommitted committed = SLOTCAST__SHADOW_COMMITTED__INIT;
  committed.number = number;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_COMMITTED;
  message.committed = &committed;
  return send_message(link, &message);
}

static int send_refusal(struct link *link, int why, const char *text) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowRefusal refusal = SLOTCAST__SHADOW_REFUSAL__INIT;
  refusal.status = why;
  refusal.text = (char *)(uintptr_t)text;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_REFUSAL;
  message.refusal = &refusal;
  return send_message(link, &message);
}

/* ---- refusing ---- */

static void on_linger(uv_timer_t *timer) {
  link_close(timer->data);
}

/* It is no broker any more: what it staged and what it was loading are forgotten. */
static void step_down(struct link *link) {
  link->is_loading = false;
  link->loading = NULL;
  if (link->shadow->broker != link) return;
  records_abort(&link->shadow->records);
  link->shadow->broker = NULL;
}

/* The sentence is slc__error_detail(). */
static void refuse(struct link *link, int why) {
  slc__log(SLC__LOG_WARNING, "a connection is refused: %s", slc__error_detail());
  step_down(link);
  link->has_ended = true;
  uv_timer_start(&link->linger, on_linger, LINGER_MS, 0);
  if (send_refusal(link, why, slc__error_detail()) == SLC_OK) {
    slc__connection_finish(link->connection);
  } else {
    slc__connection_abort(link->connection);
  }
}

/* ---- loading ---- */

static int send_record(struct link *link, const struct kept *kept) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowRecord body = SLOTCAST__SHADOW_RECORD__INIT;
  const struct record *record = kept->committed;
  size_t size;
  body.key = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)kept->key, .len = kept->key_size};
  body.value = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)record->value, .len = record->value_size};
  body.descriptors = (uint32_t)record->descriptors->count;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_RECORD;
  message.record = &body;
  int status = slc__shadow_encode(&message, packed, sizeof packed, &size);
  if (status != SLC_OK) return status;
  return slc__connection_try_send(link->connection, packed, size, record->descriptors->fds, record->descriptors->count);
}

static int send_loaded(struct link *link) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowLoaded loaded = SLOTCAST__SHADOW_LOADED__INIT;
  loaded.generation = link->shadow->records.generation;
  loaded.records = link->shadow->records.committed;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_LOADED;
  message.loaded = &loaded;
  return send_message(link, &message);
}

/* From the list itself, as the socket takes it.  The list stays as it is meanwhile: nothing may be staged. */
static int load_some(struct link *link) {
  while (link->loading != NULL) {
    int status = send_record(link, link->loading);
    if (status == SLC__NET_AGAIN || status == SLC__NET_CLOSED) return SLC_OK; /* `writable` or `ended` comes */
    if (status != SLC_OK) return status;
    link->loading = TAILQ_NEXT(link->loading, link);
  }
  link->is_loading = false;
  return send_loaded(link);
}

/* ---- what a broker says ---- */

static int on_hello(struct link *link, const Slotcast__ShadowHello *hello) {
  struct shadow *shadow = link->shadow;
  if (hello->major != SLC__SHADOW_MAJOR)
    return slc__fail(SLC_VERSION, "the broker speaks version %u of the shadow's protocol, this shadow version %d",
                     hello->major, SLC__SHADOW_MAJOR);
  if (shadow->broker == link) return slc__fail(SLC_PROTOCOL, "a second hello");
  if (shadow->broker != NULL) {
    slc__error_set(SLC_BUSY, "a newer broker has come to this shadow: this one has to stop serving");
    refuse(shadow->broker, SLC_BUSY);
  }
  shadow->broker = link;
  slc__log(SLC__LOG_NOTICE, "a broker has come; %" PRIu64 " records are kept for it", shadow->records.committed);
  return send_state(link);
}

static int on_load(struct link *link) {
  struct records *records = &link->shadow->records;
  if (!TAILQ_EMPTY(&records->staged) || records->is_whole)
    return slc__fail(SLC_PROTOCOL, "a load while something is staged");
  link->is_loading = true;
  link->loading = TAILQ_FIRST(&records->all);
  return load_some(link);
}

static int on_record(struct link *link, const Slotcast__ShadowRecord *record, struct slc__fds *fds) {
  return records_put(&link->shadow->records, record->key.data, record->key.len, record->value.data, record->value.len,
                     fds);
}

static int on_commit(struct link *link, const Slotcast__ShadowCommit *commit) {
  records_commit(&link->shadow->records, commit->generation);
  return send_committed(link, commit->number);
}

static int handle(struct link *link, const Slotcast__ShadowMessage *message, struct slc__fds *fds) {
  struct records *records = &link->shadow->records;
  if (message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_HELLO) return on_hello(link, message->hello);
  if (link->shadow->broker != link) return slc__fail(SLC_PROTOCOL, "a connection begins with a hello");
  if (link->is_loading) return slc__fail(SLC_PROTOCOL, "a request in the middle of a load");
  switch (message->body_case) {
  case SLOTCAST__SHADOW_MESSAGE__BODY_LOAD:
    return on_load(link);
  case SLOTCAST__SHADOW_MESSAGE__BODY_RECORD:
    return on_record(link, message->record, fds);
  case SLOTCAST__SHADOW_MESSAGE__BODY_BEGIN:
    records_begin(records);
    return SLC_OK;
  case SLOTCAST__SHADOW_MESSAGE__BODY_DROP:
    records_drop(records, message->drop->key.data, message->drop->key.len);
    return SLC_OK;
  case SLOTCAST__SHADOW_MESSAGE__BODY_COMMIT:
    return on_commit(link, message->commit);
  default:
    return slc__fail(SLC_PROTOCOL, "a message that only a shadow sends");
  }
}

/* ---- the connection ---- */

static void on_received(void *owner, const void *data, size_t size, struct slc__fds *fds) {
  struct link *link = owner;
  if (link->has_ended) return;
  Slotcast__ShadowMessage *message = NULL;
  int status = slc__shadow_decode(data, size, fds->count, &message);
  if (status == SLC_OK) status = handle(link, message, fds);
  slc__shadow_free(message);
  if (status < 0) refuse(link, status);
}

static void on_writable(void *owner) {
  struct link *link = owner;
  int status = link->is_loading ? load_some(link) : SLC_OK;
  if (status < 0) refuse(link, status);
}

static void on_ended(void *owner, int status) {
  struct link *link = owner;
  if (status < 0) slc__log(SLC__LOG_WARNING, "a connection is closed: %s", slc__error_detail());
  link_close(link);
}

static const struct slc__connection_events events = {
    .received = on_received, .writable = on_writable, .ended = on_ended};

static int check_peer(const struct shadow *shadow, int fd) {
  struct slc__peer peer;
  int status = slc__peer_of_socket(fd, &peer);
  if (status != SLC_OK) return status;
  if (peer.uid != geteuid() && peer.uid != shadow->options.user)
    status = slc__fail(SLC_DENIED, "process %d (%s) of user %u may not speak to this shadow: see its --user",
                       (int)peer.pid, peer.program, peer.uid);
  slc__peer_deinit(&peer);
  return status;
}

/* Whoever waits longest without being served goes: those who only connect can't keep a broker out. */
static void make_room(struct shadow *shadow) {
  struct link *link, *oldest = NULL;
  LIST_FOREACH(link, &shadow->links, of_shadow) {
    if (link != shadow->broker) oldest = link;
  }
  assert(oldest != NULL); /* there are more of them than one */
  slc__log(SLC__LOG_WARNING, "more than %d connections: the oldest without a broker is closed", LINKS_MAX);
  link_close(oldest);
}

int link_open(struct shadow *shadow, int connection_fd) {
  SLC__CLEANUP_FD int fd = connection_fd;
  if (shadow->link_count == LINKS_MAX) make_room(shadow);
  struct link *link = calloc(1, sizeof *link);
  if (link == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for one more connection");
  int allowed = check_peer(shadow, fd);
  int status = slc__connection_open(shadow->loop, slc__fd_take(&fd), &events, link, &link->connection);
  if (status != SLC_OK) {
    free(link);
    return status;
  }
  link->shadow = shadow;
  uv_timer_init(shadow->loop, &link->linger);
  link->linger.data = link;
  LIST_INSERT_HEAD(&shadow->links, link, of_shadow);
  shadow->link_count++;
  if (allowed != SLC_OK) refuse(link, allowed);
  return SLC_OK;
}

static void on_timer_closed(uv_handle_t *handle) {
  free(handle->data);
}

void link_close(struct link *link) {
  if (link->shadow->broker == link) slc__log(SLC__LOG_NOTICE, "the broker has gone; what it committed is kept");
  step_down(link);
  slc__connection_close(link->connection);
  LIST_REMOVE(link, of_shadow);
  link->shadow->link_count--;
  uv_close((uv_handle_t *)&link->linger, on_timer_closed);
}

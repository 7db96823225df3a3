/* The link to a shadow: connects, says hello, streams, and when it ends tries again, at growing intervals.
 *
 * Invariants: `connection` is there or the timer runs towards the next attempt; the store knows of the shadow exactly
 * between its first answer (has_come) and the end; a shadow that owes us an answer, or room, for too long is treated as
 * gone, since every client waits for it.  Thread: the loop's. */
#include "store/shadow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/codec.h"

enum {
  RETRY_FIRST_MS = 10,
  RETRY_MAX_MS = 1000,
  RETRY_REFUSED_MS = 10 * 1000, /* until somebody has changed something about it */
  PATIENCE_MS = 10 * 1000,
};

static void on_retry(uv_timer_t *timer);
static void on_patience_over(uv_timer_t *timer);

static struct slc__shadow *shadow_of(struct slc__keeper *keeper) {
  return (struct slc__shadow *)keeper;
}

void slc__shadow_tell(struct slc__shadow *shadow, int status) {
  uint64_t bit = UINT64_C(1) << (unsigned)-status;
  if ((shadow->told & bit) != 0) return;
  shadow->told |= bit;
  slc__log(SLC__LOG_WARNING, "%s: %s", shadow->name, slc__error_detail());
}

/* ---- the end, and the next attempt ---- */

static bool is_refusal(int status) {
  return status == SLC_LIMIT || status == SLC_DENIED || status == SLC_VERSION;
}

static void retry_later(struct slc__shadow *shadow, int status) {
  if (is_refusal(status)) shadow->retry_ms = RETRY_REFUSED_MS;
  uv_timer_start(&shadow->timer, on_retry, shadow->retry_ms, 0);
  shadow->retry_ms *= 2;
  if (shadow->retry_ms > RETRY_MAX_MS) shadow->retry_ms = RETRY_MAX_MS;
}

static void disconnect(struct slc__shadow *shadow) {
  slc__connection_close(shadow->connection);
  shadow->connection = NULL;
  uv_timer_stop(&shadow->timer);
}

/* `status` with slc__fail's sentence.  The store hears of it last, because its owner may close everything in answer. */
static void leave(struct slc__shadow *shadow, int status) {
  bool had_come = shadow->has_come;
  shadow->has_come = false;
  slc__shadow_tell(shadow, status);
  disconnect(shadow);
  if (status == SLC_BUSY) {
    slc__keeper_fenced(&shadow->keeper);
    return;
  }
  retry_later(shadow, status);
  if (had_come) slc__keeper_left(&shadow->keeper);
}

/* ---- patience ---- */

static bool owes_something(const struct slc__shadow *shadow) {
  return !shadow->has_come || shadow->is_blocked || shadow->keeper.acknowledged < shadow->keeper.sent;
}

/* It has made progress: if it still owes us something, from now on. */
static void be_patient(struct slc__shadow *shadow) {
  if (owes_something(shadow)) {
    uv_timer_start(&shadow->timer, on_patience_over, PATIENCE_MS, 0);
  } else {
    uv_timer_stop(&shadow->timer);
  }
}

static void on_patience_over(uv_timer_t *timer) {
  leave(timer->data,
        slc__fail(SLC_TIMED_OUT, "it has not answered for %d s: it is not waited for any longer", PATIENCE_MS / 1000));
}

/* ---- out ---- */

static void note_blocked(struct slc__shadow *shadow) {
  if (!owes_something(shadow)) uv_timer_start(&shadow->timer, on_patience_over, PATIENCE_MS, 0);
  shadow->is_blocked = true;
}

static void note_sent(struct slc__shadow *shadow) {
  bool was_blocked = shadow->is_blocked;
  shadow->is_blocked = false;
  if (was_blocked) be_patient(shadow);
}

/* After a failure there is nothing to wait for: the end comes from the loop. */
static void note_failed(struct slc__shadow *shadow, int status) {
  shadow->is_blocked = false;
  if (status < 0) slc__shadow_tell(shadow, status);
  slc__connection_abort(shadow->connection);
}

/* `packed`: what packing it gave. */
static int send_packet(struct slc__shadow *shadow, int packed, const struct slc__shadow_packet *packet, const int *fds,
                       size_t fd_count) {
  int status = packed;
  if (status == SLC_OK)
    status = slc__connection_try_send(shadow->connection, packet->data, packet->size, fds, fd_count);
  switch (status) {
  case SLC_OK:
    note_sent(shadow);
    return SLC_OK;
  case SLC__NET_AGAIN:
    note_blocked(shadow);
    return SLC__NET_AGAIN;
  default:
    note_failed(shadow, status);
    return SLC_OK;
  }
}

static int begin(struct slc__keeper *keeper) {
  struct slc__shadow_packet packet;
  int packed = slc__shadow_pack_begin(&packet);
  return send_packet(shadow_of(keeper), packed, &packet, NULL, 0);
}

static int put(struct slc__keeper *keeper, const struct slc__record *record) {
  struct slc__shadow_packet packet;
  int packed = slc__shadow_pack_put(record, &packet);
  return send_packet(shadow_of(keeper), packed, &packet, record->fds, record->fd_count);
}

static int drop(struct slc__keeper *keeper, const struct slc__record *record) {
  struct slc__shadow_packet packet;
  int packed = slc__shadow_pack_drop(record, &packet);
  return send_packet(shadow_of(keeper), packed, &packet, NULL, 0);
}

static int commit(struct slc__keeper *keeper, uint64_t number, uint64_t generation) {
  struct slc__shadow *shadow = shadow_of(keeper);
  struct slc__shadow_packet packet;
  int packed = slc__shadow_pack_commit(number, generation, &packet);
  bool owed = owes_something(shadow);
  int status = send_packet(shadow, packed, &packet, NULL, 0);
  if (status == SLC_OK && !owed) uv_timer_start(&shadow->timer, on_patience_over, PATIENCE_MS, 0);
  return status;
}

/* ---- in ---- */

static int take_state(struct slc__shadow *shadow, const Slotcast__ShadowMessage *message) {
  struct slc__keeper_set set;
  int status = slc__shadow_read_state(message, &set);
  if (status != SLC_OK) return status;
  shadow->has_come = true;
  be_patient(shadow);
  slc__keeper_came(&shadow->keeper, set.generation);
  return SLC_OK;
}

static int take_acknowledgement(struct slc__shadow *shadow, const Slotcast__ShadowCommitted *committed) {
  uint64_t number = committed->number;
  if (!slc__keeper_acknowledged(&shadow->keeper, number))
    return slc__fail(SLC_PROTOCOL, "it acknowledges commit %llu, which is not due", (unsigned long long)number);
  if (shadow->connection == NULL) return SLC_OK; /* the owner has closed the store in answer */
  shadow->told = 0;
  shadow->retry_ms = RETRY_FIRST_MS;
  be_patient(shadow);
  return SLC_OK;
}

static int take(struct slc__shadow *shadow, const Slotcast__ShadowMessage *message) {
  if (!shadow->has_come) return take_state(shadow, message);
  switch (message->body_case) {
  case SLOTCAST__SHADOW_MESSAGE__BODY_COMMITTED:
    return take_acknowledgement(shadow, message->committed);
  case SLOTCAST__SHADOW_MESSAGE__BODY_REFUSAL:
    return slc__shadow_read_refusal(message->refusal);
  default:
    return slc__shadow_unexpected(message);
  }
}

static void on_received(void *owner, const void *data, size_t size, struct slc__fds *fds) {
  struct slc__shadow *shadow = owner;
  Slotcast__ShadowMessage *message = NULL;
  int status = slc__shadow_decode(data, size, fds->count, &message);
  if (status == SLC_OK) status = take(shadow, message);
  slc__shadow_free(message);
  if (status != SLC_OK) leave(shadow, status);
}

static void on_writable(void *owner) {
  struct slc__shadow *shadow = owner;
  slc__keeper_writable(&shadow->keeper);
}

static void on_ended(void *owner, int status) {
  leave(owner, status == SLC_OK ? slc__fail(SLC_NO_BROKER, "it has gone") : status);
}

/* ---- the beginning ---- */

static int connect_fd(struct slc__shadow *shadow, int fd) {
  static const struct slc__connection_events events = {on_received, on_writable, on_ended};
  shadow->is_blocked = false;
  return slc__connection_open(shadow->loop, fd, &events, shadow, &shadow->connection);
}

/* A socket's backlog that is full is no reason to stop the loop. */
static int connect_now(struct slc__shadow *shadow) {
  struct slc__shadow_packet hello;
  int fd;
  int status = slc__net_connect(shadow->path, 0, &fd);
  if (status == SLC_NO_BROKER) status = slc__fail(SLC_NO_BROKER, "nobody listens there");
  if (status == SLC_OK) status = connect_fd(shadow, fd);
  if (status == SLC_OK) status = slc__shadow_pack_hello(&hello);
  if (status == SLC_OK) status = slc__connection_send(shadow->connection, hello.data, hello.size, NULL, 0);
  if (status > 0) status = slc__fail(SLC_NO_BROKER, "it has gone");
  return status;
}

static void on_retry(uv_timer_t *timer) {
  struct slc__shadow *shadow = timer->data;
  int status = connect_now(shadow);
  if (status == SLC_OK) {
    be_patient(shadow);
  } else {
    leave(shadow, status);
  }
}

/* One that was asked before the loop ran is there already. */
static void start(struct slc__keeper *keeper) {
  struct slc__shadow *shadow = shadow_of(keeper);
  int status = SLC_OK;
  if (shadow->asked_fd >= 0) status = connect_fd(shadow, slc__fd_take(&shadow->asked_fd));
  if (status != SLC_OK) slc__shadow_tell(shadow, status);
  if (shadow->connection == NULL) {
    retry_later(shadow, status);
    return;
  }
  shadow->has_come = true;
  slc__keeper_came(keeper, shadow->set.generation);
}

/* ---- life ---- */

static void shadow_free(struct slc__shadow *shadow) {
  slc__fd_close(&shadow->asked_fd);
  free(shadow->path);
  free(shadow->name);
  free(shadow);
}

static void on_timer_closed(uv_handle_t *handle) {
  shadow_free(handle->data);
}

static void close_keeper(struct slc__keeper *keeper) {
  struct slc__shadow *shadow = shadow_of(keeper);
  disconnect(shadow);
  uv_close((uv_handle_t *)&shadow->timer, on_timer_closed);
}

static const struct slc__keeper_class shadow_class = {
    .ask = slc__shadow_ask,
    .load = slc__shadow_load,
    .start = start,
    .begin = begin,
    .put = put,
    .drop = drop,
    .commit = commit,
    .close = close_keeper,
};

int slc__shadow_open(uv_loop_t *loop, const char *path, struct slc__keeper **ret_keeper) {
  struct slc__shadow *shadow = calloc(1, sizeof *shadow);
  if (shadow == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a shadow");
  shadow->asked_fd = -1;
  shadow->path = strdup(path);
  if (shadow->path == NULL || asprintf(&shadow->name, "the shadow at %s", path) < 0) {
    shadow->name = NULL;
    shadow_free(shadow);
    return slc__fail(SLC_NO_MEMORY, "no memory for a shadow");
  }
  shadow->keeper.class = &shadow_class;
  shadow->keeper.name = shadow->name;
  shadow->loop = loop;
  shadow->retry_ms = RETRY_FIRST_MS;
  uv_timer_init(loop, &shadow->timer);
  shadow->timer.data = shadow;
  *ret_keeper = &shadow->keeper;
  return SLC_OK;
}

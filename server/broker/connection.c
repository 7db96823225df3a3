/* Connections.
 *
 * Invariants:
 *   - Messages leave in the order in which they were sent; a push is made only when nothing is queued, so the queue holds
 *     at most QUEUE_MAX answers and one membership.
 *   - Sending never ends a connection: whoever sends may be walking a list.  It ends from the loop (slc__wire_fail).
 * Thread: the loop's. */
#include "broker/connection.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/process.h"
#include "broker/push.h"
#include "broker/request.h"
#include "loop/wire.h"

enum { QUEUE_MAX = 128 };

struct outgoing {
  struct slc__list link;
  size_t size, fd_count;
  int *fds; /* its own */
  uint8_t data[];
};

/* ---- the queue -------------------------------------------------------------------------------------------------- */

static void outgoing_free(struct outgoing *outgoing) {
  if (outgoing == NULL) return;
  for (size_t i = 0; i < outgoing->fd_count; i++) slc__fd_close(&outgoing->fds[i]);
  free(outgoing->fds);
  free(outgoing);
}

static void outgoing_drop(struct outgoing **outgoing) {
  outgoing_free(*outgoing);
}

/* Descriptors are duplicated: their owner may go before the socket has room. */
static int outgoing_make(const struct slc__draft *draft, const uint8_t *data, size_t size, struct outgoing **ret) {
  SLC__CLEANUP(outgoing_drop) struct outgoing *made = calloc(1, sizeof *made + size);
  if (made == NULL) return slc__fail(SLC_NO_MEMORY, "the broker has no memory for an answer");
  memcpy(made->data, data, size);
  made->size = size;
  made->fds = calloc(draft->count + 1, sizeof *made->fds);
  if (made->fds == NULL) return slc__fail(SLC_NO_MEMORY, "the broker has no memory for an answer");
  for (; made->fd_count < draft->count; made->fd_count++) {
    int fd = fcntl(draft->fds[made->fd_count], F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return slc__fail(SLC_NO_DESCRIPTORS, "the broker has no descriptors for an answer");
    made->fds[made->fd_count] = fd;
  }
  *ret = slc__pointer_take(&made);
  return 0;
}

static void queue_pop(struct slc__conn *conn) {
  struct outgoing *first = SLC__LIST_MEMBER(conn->queue.next, struct outgoing, link);
  slc__list_remove(&first->link);
  conn->queue_count--;
  outgoing_free(first);
}

static void queue_flush(struct slc__conn *conn) {
  while (!slc__conn_is_clear(conn)) {
    const struct outgoing *first = SLC__LIST_MEMBER(conn->queue.next, struct outgoing, link);
    if (slc__wire_send(conn->wire, first->data, first->size, first->fds, first->fd_count) != 0) return;
    queue_pop(conn);
  }
}

bool slc__conn_is_clear(const struct slc__conn *conn) {
  return slc__list_is_empty(&conn->queue);
}

/* ---- sending ---------------------------------------------------------------------------------------------------- */

static int send_or_queue(struct slc__conn *conn, const struct slc__draft *draft) {
  uint8_t *data = conn->broker->send_buffer;
  size_t size;
  int status = slc__codec_encode(&draft->message, data, SLC__CODEC_MESSAGE_MAX, &size);
  if (status != 0) return status;
  if (slc__conn_is_clear(conn)) {
    status = slc__wire_send(conn->wire, data, size, draft->fds, draft->count);
    if (status != SLC__NET_AGAIN) return 0; /* a failure has its own way */
  }
  struct outgoing *outgoing;
  status = outgoing_make(draft, data, size, &outgoing);
  if (status != 0) return status;
  slc__list_append(&conn->queue, &outgoing->link);
  conn->queue_count++;
  return 0;
}

void slc__conn_send(struct slc__conn *conn, const struct slc__draft *draft) {
  int status = send_or_queue(conn, draft);
  if (status != 0) slc__wire_fail(conn->wire, status, slc__error_detail());
}

void slc__conn_answer(struct slc__conn *conn, const struct slc__draft *draft) {
  if (conn->queue_count >= QUEUE_MAX)
    slc__wire_fail(conn->wire, SLC_LIMIT, "the client asks on and does not read its answers");
  else
    slc__conn_send(conn, draft);
}

/* A sentence that was cut may end in the middle of a character, which the codec at the other end would refuse. */
static void cut_to_whole_characters(char *text) {
  size_t end = strlen(text), lead = end;
  while (lead > 0 && end - lead < 4 && ((unsigned char)text[lead - 1] & 0xc0) == 0x80) lead--;
  if (lead == 0) return;
  unsigned char first = (unsigned char)text[lead - 1];
  size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
  if (end - (lead - 1) < length) text[lead - 1] = '\0';
}

static void refusal_fill(Slotcast__Message *message, Slotcast__Refusal *body, int status, char *text) {
  cut_to_whole_characters(text);
  slotcast__refusal__init(body);
  body->status = status;
  body->text = text;
  message->body_case = SLOTCAST__MESSAGE__BODY_REFUSAL;
  message->refusal = body;
}

void slc__conn_refuse(struct slc__conn *conn, uint64_t serial, int status) {
  SLC__CLEANUP_FREE char *text = strdup(slc__error_detail());
  if (text == NULL) {
    slc__wire_fail(conn->wire, SLC_NO_MEMORY, "the broker has no memory for an answer");
    return;
  }
  slc__log(SLC__LOG_INFO, "refused %s of process %d (%s): %s", slc__status_name(status), (int)conn->process->pid,
           conn->process->program, text);
  struct slc__draft draft;
  slc__draft_init(&draft, serial);
  Slotcast__Refusal body;
  refusal_fill(&draft.message, &body, status, text);
  slc__conn_answer(conn, &draft);
}

/* What the broker says before it hangs up: a refusal that answers no request.  0 bytes: nothing. */
static size_t last_words(struct slc__broker *broker, int status, const char *why) {
  if (status == 0) return 0;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__Refusal body;
  SLC__CLEANUP_FREE char *text = strdup(why);
  if (text == NULL) return 0;
  refusal_fill(&message, &body, status, text);
  size_t size;
  return slc__codec_encode(&message, broker->send_buffer, SLC__CODEC_MESSAGE_MAX, &size) == 0 ? size : 0;
}

/* ---- the wire's events ------------------------------------------------------------------------------------------ */

static int on_received(void *ctx, const uint8_t *data, size_t size, struct slc__fds *fds) {
  return slc__request_handle(ctx, data, size, fds);
}

static void on_writable(void *ctx) {
  struct slc__conn *conn = ctx;
  queue_flush(conn);
  slc__push_flush(conn, true);
}

static void on_ended(void *ctx, int status, const char *why) {
  struct slc__conn *conn = ctx;
  if (status != 0)
    slc__log(SLC__LOG_WARNING, "closing the connection of process %d (%s, uid %u): %s", (int)conn->process->pid,
             conn->process->program, (unsigned)conn->uid, why);
  slc__conn_close(conn, status, why);
}

static const struct slc__wire_events events = {.received = on_received, .writable = on_writable, .ended = on_ended};

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static void turn_away(struct slc__broker *broker, int fd, int status) {
  SLC__CLEANUP_FREE char *why = strdup(slc__error_detail());
  slc__log(SLC__LOG_WARNING, "turned a connection away: %s", why != NULL ? why : slc__status_text(status));
  size_t size = last_words(broker, status, why != NULL ? why : slc__status_text(status));
  slc__wire_turn_away(fd, size > 0 ? broker->send_buffer : NULL, size);
}

/* Peers that a sealed object protects from each other are not protected here. */
static int check_uid(const struct slc__broker *broker, uid_t uid) {
  if (broker->backend != SLC__BACKEND_SHM || uid == geteuid()) return 0;
  return slc__fail(SLC_DENIED, "this broker uses named shared memory, which is for clients of user %u only; user %u "
                   "needs one with --backend memfd",
                   (unsigned)geteuid(), (unsigned)uid);
}

static int conn_make(struct slc__broker *broker, const struct slc__peer *peer, struct slc__process *process, int fd) {
  struct slc__conn *conn = calloc(1, sizeof *conn);
  if (conn == NULL) return slc__fail(SLC_NO_MEMORY, "the broker has no memory for a connection");
  conn->broker = broker;
  conn->uid = peer->uid;
  conn->process = process;
  int status = slc__wire_open(broker->loop, fd, broker->receive_buffer, &events, conn, &conn->wire);
  if (status != 0) {
    free(conn);
    return status;
  }
  slc__list_init(&conn->users);
  slc__list_init(&conn->pending);
  slc__list_init(&conn->queue);
  slc__list_append(&broker->connections, &conn->link);
  slc__list_append(&process->connections, &conn->process_link);
  return 0;
}

static int conn_open(struct slc__broker *broker, struct slc__peer *peer, int fd) {
  int status = check_uid(broker, peer->uid);
  if (status == 0) status = slc__limits_charge(&broker->limits, peer->uid, SLC__LIMIT_CONNECTIONS, 1);
  if (status != 0) return status;
  struct slc__process *process = NULL;
  status = slc__process_get(broker, peer, &process);
  if (status == 0) status = conn_make(broker, peer, process, fd);
  if (status == 0) return 0;
  slc__limits_release(&broker->limits, peer->uid, SLC__LIMIT_CONNECTIONS, 1);
  if (process != NULL) slc__process_drop_if_unused(process);
  return status;
}

void slc__conn_accept(struct slc__broker *broker, int fd) {
  struct slc__peer peer;
  int status = slc__peer_of_socket(fd, &peer);
  if (status == 0) {
    status = conn_open(broker, &peer, fd);
    slc__peer_deinit(&peer);
  }
  if (status != 0) turn_away(broker, fd, status);
}

/* ---- closing ---------------------------------------------------------------------------------------------------- */

static void users_leave_behind(struct slc__conn *conn) {
  SLC__LIST_EACH(&conn->users, at) {
    struct slc__user *user = SLC__LIST_MEMBER(at, struct slc__user, conn_link);
    slc__list_remove(&user->conn_link);
    slc__list_remove(&user->pending_link);
    user->conn = NULL;
  }
}

void slc__conn_close(struct slc__conn *conn, int status, const char *why) {
  struct slc__broker *broker = conn->broker;
  struct slc__process *process = conn->process;
  users_leave_behind(conn);
  slc__list_remove(&conn->link);
  slc__list_remove(&conn->process_link);
  while (!slc__conn_is_clear(conn)) queue_pop(conn);
  size_t size = last_words(broker, status, why);
  slc__wire_close(conn->wire, size > 0 ? broker->send_buffer : NULL, size);
  slc__limits_release(&broker->limits, conn->uid, SLC__LIMIT_CONNECTIONS, 1);
  free(conn->client_name);
  free(conn);
  slc__process_reclaim_superseded(process);
  slc__process_drop_if_unused(process);
}

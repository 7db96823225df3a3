/* One SEQPACKET socket, read by whoever needs it.
 *
 * Invariants:
 *   - `lock` is held only for work that does not wait, so a publisher's data path may take it.  A thread that waits for
 *     an answer waits in poll with no lock but request_lock, which nobody on the data path takes.
 *   - An answer is consumed where it is read, before the next datagram is: what the broker pushes to a new user right
 *     after its answer is never met by a handle that does not exist yet.
 *   - A user that the broker opened for us and that we can't use is given back at once.
 *   - After a protocol error nothing more is read on that connection; the data path goes on, and another one is made.
 *   - A request is sent, and its answer awaited, on one connection: `losses` tells whether it is still that one.
 *
 * Another thread may read the very answer that a poll waits for; then poll may go to sleep again with nothing left to
 * read.  So polls go in slices.
 * Threads: any. */
#include "connection.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/processors.h"
#include "publisher.h"
#include "subscriber.h"
#include "turn.h"
#include "watchers.h"

#define ANSWER_SLICE_NS (10 * INT64_C(1000000))
#define ANSWER_POLL_NS (100 * INT64_C(1000)) /* an answer comes within that, mostly; to be woken takes as long */
#define SETTLE_NS (50 * INT64_C(1000000))    /* that a wait spends at most with having its places back */
#define IN_FLIGHT_TRIES 100                  /* sends refused for descriptors in flight, a millisecond apart */
#define REPETITIONS 16                       /* of a request whose connection ended each time; a broker may die of it */
#define SERIAL_NOBODY UINT64_MAX             /* of requests whose answer nobody wants */

struct slc__request {
  uint64_t serial;
  uint64_t losses; /* of the client when it was sent */
  bool is_lost;    /* its connection has ended */
  bool is_repeated;
  slc__answer_fn answer;
  void *ctx;
  bool answered;
  int status;
  char *detail; /* of a failed answer: its sentence was made in the thread that read it */
};

/* ---- the end of a connection ------------------------------------------------------------------------------------ */

void slc__connection_lose(slc_client *client, const char *why) {
  if (client->back.link == SLC__LINK_DOWN) return;
  free(client->why_gone);
  client->why_gone = why != NULL ? strdup(why) : NULL;
  shutdown(client->fd, SHUT_RDWR); /* a forked child may have it, too */
  atomic_store(&client->gone, true);
  atomic_store(&client->is_late, false);
  client->losses++;
  slc__reconnect_lost(client);
}

void slc__connection_found(slc_client *client) {
  atomic_store(&client->gone, false);
}

static int gone_locked(const slc_client *client) {
  if (client->why_gone != NULL)
    return slc__fail(SLC_BROKER_GONE, "the connection to the broker at %s has ended: %s", client->socket_path,
                     client->why_gone);
  return slc__fail(SLC_BROKER_GONE,
                   "the broker at %s has gone: what is open goes on, nothing new can be opened before it is back",
                   client->socket_path);
}

static bool is_awaited_locked(const slc_client *client) {
  const struct slc__reconnect *back = &client->back;
  if (!back->comes_back) return false;
  return back->timeout_ns < 0 || slc__clock_ns() - back->lost_at < back->timeout_ns;
}

bool slc__connection_is_awaited(slc_client *client) {
  pthread_mutex_lock(&client->lock);
  bool is_awaited = is_awaited_locked(client);
  pthread_mutex_unlock(&client->lock);
  return is_awaited;
}

bool slc__connection_has(slc_client *client, uint64_t user) {
  uint64_t wire;
  pthread_mutex_lock(&client->lock);
  bool has = slc__reconnect_user(client, user, &wire);
  pthread_mutex_unlock(&client->lock);
  return has;
}

int slc__connection_gone(slc_client *client) {
  pthread_mutex_lock(&client->lock);
  int status = gone_locked(client);
  pthread_mutex_unlock(&client->lock);
  return status;
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

uint64_t slc__user_opened(const Slotcast__Message *message) {
  switch (message->body_case) {
  case SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED:
    return message->publisher_opened->user;
  case SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED:
    return message->subscriber_opened->user;
  case SLOTCAST__MESSAGE__BODY_RECLAIMED:
    return message->reclaimed->user;
  default:
    return 0;
  }
}

/* Without waiting for the answer: this runs where nothing may wait.  Where the broker's queue is full the user stays
 * until this client goes. */
void slc__connection_give_back(slc_client *client, uint64_t wire_user) {
  Slotcast__CloseUser body = SLOTCAST__CLOSE_USER__INIT;
  body.user = wire_user;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.serial = SERIAL_NOBODY;
  message.body_case = SLOTCAST__MESSAGE__BODY_CLOSE_USER;
  message.close_user = &body;
  uint8_t bytes[64];
  size_t size;
  if (slc__codec_encode(&message, bytes, sizeof bytes, &size) == 0)
    slc__net_send(client->fd, bytes, size, NULL, 0, MSG_DONTWAIT);
}

int slc__refusal_status(const Slotcast__Refusal *refusal) {
  if (refusal->status >= 0) return slc__fail(SLC_PROTOCOL, "the broker refused with status %d", refusal->status);
  if (refusal->text == NULL || refusal->text[0] == '\0')
    return slc__fail(refusal->status, "%s", slc__status_text(refusal->status));
  return slc__fail(refusal->status, "%s", refusal->text);
}

static int answer_consume(const struct slc__request *request, struct slc__received *received) {
  if (received->message->body_case == SLOTCAST__MESSAGE__BODY_REFUSAL)
    return slc__refusal_status(received->message->refusal);
  int status = request->answer(request->ctx, received);
  return status != 0 ? status : slc__received_finish(received);
}

static int answer_dispatch(slc_client *client, struct slc__received *received) {
  if (slc__reconnect_is_asked(client, received->message->serial)) return slc__reconnect_answered(client, received);
  struct slc__request *request = client->waiting;
  uint64_t user = slc__user_opened(received->message);
  if (request == NULL || request->answered || request->serial != received->message->serial) {
    if (user != 0) slc__connection_give_back(client, user); /* whoever asked has given up */
    return 0;
  }
  request->answered = true;
  request->status = answer_consume(request, received);
  if (request->status == 0) return 0;
  request->detail = strdup(slc__error_detail());
  if (user != 0) slc__connection_give_back(client, user);
  return 0;
}

/* For a publisher or a subscriber; ids are of both.  A page for one that has just been closed is ignored. */
static int watchers_dispatch(slc_client *client, struct slc__received *received) {
  const Slotcast__Watchers *page = received->message->watchers;
  struct slc__watcher_sets *sets = slc__publisher_watchers(client, page->user);
  if (sets == NULL) sets = slc__subscriber_watchers(client, page->user);
  if (sets == NULL) return 0;
  int status = slc__watchers_page(sets, page, received);
  return status != 0 ? status : slc__received_finish(received);
}

/* A push that can't be used ends the connection: without it the membership of a publisher would have a hole. */
static int push_dispatch(slc_client *client, struct slc__received *received) {
  switch (received->message->body_case) {
  case SLOTCAST__MESSAGE__BODY_MEMBERSHIP:
    return slc__publisher_pushed(client, received);
  case SLOTCAST__MESSAGE__BODY_SUBSCRIBER_ATTACHED:
    return slc__subscriber_pushed(client, received);
  case SLOTCAST__MESSAGE__BODY_WATCHERS:
    return watchers_dispatch(client, received);
  case SLOTCAST__MESSAGE__BODY_REFUSAL:
    return slc__refusal_status(received->message->refusal);
  default:
    return slc__fail(SLC_PROTOCOL, "the broker pushed a message of kind %d", (int)received->message->body_case);
  }
}

static int datagram_dispatch(slc_client *client, size_t size, struct slc__fds *fds) {
  Slotcast__Message *message = NULL;
  int status = slc__codec_decode(client->receive_buffer, size, fds->count, &message);
  if (status != 0) return status;
  struct slc__received received = {.message = message, .fds = fds, .origin = &client->origin};
  if (message->serial != 0)
    status = answer_dispatch(client, &received);
  else
    status = push_dispatch(client, &received);
  slc__codec_free(message);
  return status;
}

/* One datagram.  0: dispatched.  Else there is nothing more to read now. */
static int datagram_next(slc_client *client) {
  SLC__CLEANUP(slc__fds_deinit) struct slc__fds fds;
  slc__fds_init(&fds);
  size_t size = 0;
  int status = slc__net_receive(client->fd, client->receive_buffer, SLC__NET_DATAGRAM_MAX, &size, &fds, MSG_DONTWAIT);
  if (status == SLC__NET_AGAIN || status == SLC_NO_DESCRIPTORS) return status; /* nothing was consumed */
  if (status == SLC__NET_CLOSED) {
    slc__connection_lose(client, NULL);
    return status;
  }
  if (status == 0) status = datagram_dispatch(client, size, &fds);
  if (status != 0) slc__connection_lose(client, slc__error_detail());
  return status;
}

int slc__connection_drain(slc_client *client) {
  int status = 0;
  if (atomic_load_explicit(&client->gone, memory_order_relaxed) || client->back.owes_request)
    slc__reconnect_advance(client);
  while (status == 0 && client->back.link != SLC__LINK_DOWN) status = datagram_next(client);
  return status;
}

void slc__connection_visit(slc_client *client) {
  pthread_mutex_lock(&client->lock);
  slc__connection_drain(client);
  pthread_mutex_unlock(&client->lock);
  slc__reconnect_tell(client);
}

static bool is_under_way(slc_client *client) {
  pthread_mutex_lock(&client->lock);
  bool is_under_way = client->back.link == SLC__LINK_HELLO || client->back.link == SLC__LINK_BACK;
  pthread_mutex_unlock(&client->lock);
  return is_under_way;
}

void slc__connection_visit_long(slc_client *client, int64_t deadline) {
  int64_t until = slc__deadline_after(SETTLE_NS);
  if (deadline < until) until = deadline;
  slc__connection_visit(client);
  while (atomic_load(&client->gone) && slc__clock_ns() < until && is_under_way(client)) {
    slc__connection_wait(client, until, ANSWER_SLICE_NS);
    slc__connection_visit(client);
  }
}

void slc__connection_wait(slc_client *client, int64_t deadline, int64_t slice_ns) {
  int64_t now = slc__clock_ns();
  int64_t until = deadline - now < slice_ns ? deadline : now + slice_ns;
  if (until <= now) return;
  struct pollfd poll_socket = {.fd = client->fd, .events = POLLIN};
  struct timespec timeout = slc__clock_timespec(until - now);
  ppoll(&poll_socket, 1, &timeout, NULL);
  /* The end of a connection that could not be replaced by a timer is always there to be read. */
  if ((poll_socket.revents & POLLHUP) != 0 && atomic_load(&client->gone)) poll(NULL, 0, 1);
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

/* Encodes, and looks at the result as the broker will: a string that it would refuse is the caller's error, and not
 * worth the connection. */
static int request_encode(slc_client *client, const Slotcast__Message *message, size_t fd_count, size_t *ret_size) {
  size_t size;
  int status = slc__codec_encode(message, client->send_buffer, SLC__CODEC_MESSAGE_MAX, &size);
  if (status != 0) return status;
  Slotcast__Message *copy = NULL;
  status = slc__codec_decode(client->send_buffer, size, fd_count, &copy);
  slc__codec_free(copy);
  if (status == SLC_PROTOCOL) return slc__fail(SLC_INVALID, "%s", slc__error_detail());
  if (status != 0) return status;
  *ret_size = size;
  return 0;
}

static int late(slc_client *client) {
  atomic_store(&client->is_late, true);
  return slc__fail(SLC_TIMED_OUT, "the broker at %s has not answered within %.3f s: it hangs, or has too much to do",
                   client->socket_path, (double)client->request_timeout_ns / (double)SLC__NS_PER_S);
}

/* For poll, rounded up: milliseconds until then, -1 for never. */
static int poll_timeout(int64_t deadline) {
  if (deadline == SLC__DEADLINE_NEVER) return -1;
  int64_t left = deadline - slc__clock_ns();
  if (left <= 0) return 0;
  return left > INT_MAX * INT64_C(1000000) ? INT_MAX : (int)((left + 999999) / 1000000);
}

/* On the connection that the request was encoded for, or not at all. */
static int send_once(slc_client *client, struct slc__request *request, size_t size, const int *fds, size_t fd_count) {
  pthread_mutex_lock(&client->lock);
  request->is_lost = client->losses != request->losses;
  int status = request->is_lost ? gone_locked(client)
                                : slc__net_send(client->fd, client->send_buffer, size, fds, fd_count, MSG_DONTWAIT);
  pthread_mutex_unlock(&client->lock);
  return status;
}

/* Waits while the broker's queue is full; a limit on descriptors in flight may be another process's doing, so that is
 * tried for a while only. */
static int request_send(slc_client *client, struct slc__request *request, size_t size, const int *fds, size_t fd_count,
                        int64_t deadline) {
  for (int refused = 0; refused < IN_FLIGHT_TRIES;) {
    int status = send_once(client, request, size, fds, fd_count);
    if (status == SLC__NET_CLOSED) {
      slc__connection_visit(client); /* the broker may have said why */
      request->is_lost = true;
      return slc__connection_gone(client);
    }
    if (status != SLC__NET_AGAIN) return status;
    struct pollfd poll_socket = {.fd = client->fd, .events = POLLOUT};
    int ready = poll(&poll_socket, 1, poll_timeout(deadline));
    if (ready <= 0 && slc__clock_ns() >= deadline) return late(client);
    if (ready > 0 && fd_count > 0) {
      poll(NULL, 0, 1);
      refused++;
    }
  }
  return slc__fail(SLC_LIMIT, "too many descriptors are in flight: raise RLIMIT_NOFILE, or try again");
}

/* 0: answered.  Else the answer will not come, or can't be received: whoever reads it later drops it. */
static int request_await(slc_client *client, struct slc__request *request, int64_t deadline) {
  for (int64_t polls_until = slc__deadline_after(client->answer_poll_ns);;) {
    pthread_mutex_lock(&client->lock);
    bool can_receive = slc__connection_drain(client) != SLC_NO_DESCRIPTORS;
    bool answered = request->answered;
    request->is_lost = !answered && client->losses != request->losses;
    int status = request->is_lost ? gone_locked(client) : 0;
    pthread_mutex_unlock(&client->lock);
    if (answered || status != 0) return status;
    if (!can_receive)
      return slc__fail(SLC_NO_DESCRIPTORS, "the broker's answer needs up to %d free descriptors: raise the limit",
                       SLC__NET_DESCRIPTORS_MAX + 1);
    int64_t now = slc__clock_ns();
    if (now >= deadline) return late(client);
    if (now < polls_until)
      slc__turn_pass();
    else
      slc__connection_wait(client, deadline, ANSWER_SLICE_NS);
  }
}

static void request_set(slc_client *client, struct slc__request *request) {
  pthread_mutex_lock(&client->lock);
  client->waiting = request;
  pthread_mutex_unlock(&client->lock);
}

/* Where a request names one of our users; NULL: nowhere. */
static uint64_t *user_named(const Slotcast__Message *message) {
  switch (message->body_case) {
  case SLOTCAST__MESSAGE__BODY_SET_DOORBELL:
    return &message->set_doorbell->user;
  case SLOTCAST__MESSAGE__BODY_CLOSE_USER:
    return &message->close_user->user;
  case SLOTCAST__MESSAGE__BODY_GROW:
    return &message->grow->user;
  case SLOTCAST__MESSAGE__BODY_FETCH_GENERATION:
    return &message->fetch_generation->user;
  case SLOTCAST__MESSAGE__BODY_REGISTER_PAYLOADS:
    return &message->register_payloads->user;
  case SLOTCAST__MESSAGE__BODY_ABANDON_GENERATION:
    return &message->abandon_generation->user;
  default:
    return NULL;
  }
}

/* `known`: the user as this client knows it.  Notes the connection that the request is for. */
static int request_address(slc_client *client, Slotcast__Message *message, uint64_t known,
                           struct slc__request *request) {
  uint64_t *user = user_named(message);
  pthread_mutex_lock(&client->lock);
  bool is_gone = atomic_load(&client->gone);
  bool is_here = user == NULL || slc__reconnect_user(client, known, user);
  int status = is_gone ? gone_locked(client) : 0;
  request->losses = client->losses;
  request->is_lost = is_gone;
  pthread_mutex_unlock(&client->lock);
  if (status != 0 || is_here) return status;
  return slc__fail(SLC_GONE, "the channel has gone with the broker that had it: the present one has another");
}

/* Entered with request_lock held; once. */
static int request_exchange(slc_client *client, Slotcast__Message *message, const int *fds, size_t fd_count,
                            struct slc__request *request, int64_t deadline) {
  if (!slc__net_descriptors_free(SLC__NET_DESCRIPTORS_MAX + 1))
    return slc__fail(SLC_NO_DESCRIPTORS, "the broker's answer needs up to %d free descriptors: raise the limit",
                     SLC__NET_DESCRIPTORS_MAX + 1);
  message->serial = request->serial = ++client->serial;
  size_t size = 0;
  int status = request_encode(client, message, fd_count, &size);
  if (status != 0) return status;
  request_set(client, request);
  status = request_send(client, request, size, fds, fd_count, deadline);
  if (status == 0) status = request_await(client, request, deadline);
  request_set(client, NULL);
  if (request->answered) atomic_store(&client->is_late, false);
  /* Another thread may have read the answer just when this one gave up: then it counts. */
  if (request->answered) status = request->status;
  if (request->answered) request->is_lost = false;
  if (request->answered && status != 0)
    status = slc__fail(status, "%s", request->detail != NULL ? request->detail : "out of memory");
  free(request->detail);
  request->detail = NULL;
  return status;
}

/* Until requests can be made; gives up when the broker has been away for too long. */
static int link_await(slc_client *client, int64_t deadline) {
  while (atomic_load(&client->gone)) {
    slc__connection_visit(client);
    if (!atomic_load(&client->gone)) break;
    if (!slc__connection_is_awaited(client)) return slc__connection_gone(client);
    if (slc__clock_ns() >= deadline) return late(client);
    slc__connection_wait(client, deadline, ANSWER_SLICE_NS);
  }
  return 0;
}

/* Whether it can be said again when nobody knows whether it was heard: it says what is to be, not what is to be done.
 * A user that is closed is nobody's. */
static bool may_repeat(const Slotcast__Message *message) {
  return message->body_case != SLOTCAST__MESSAGE__BODY_CLOSE_USER;
}

/* Whoever waits for ever for a broker does, however many go. */
static bool is_worth_repeating(slc_client *client, int times) {
  bool is_patient = client->back.timeout_ns < 0;
  return (times < REPETITIONS || is_patient) && slc__connection_is_awaited(client);
}

/* Entered with request_lock held. */
static int request_make(slc_client *client, Slotcast__Message *message, const int *fds, size_t fd_count,
                        struct slc__request *request) {
  const uint64_t *user = user_named(message);
  uint64_t known = user != NULL ? *user : 0;
  int64_t deadline = slc__deadline_after(client->request_timeout_ns);
  for (int times = 0;; times++) {
    int status = link_await(client, deadline);
    if (status != 0) return status;
    status = request_address(client, message, known, request);
    if (status == 0) status = request_exchange(client, message, fds, fd_count, request, deadline);
    /* Heard before, and the answer was lost. */
    if (times > 0 && status == SLC_NOT_FOUND && message->body_case == SLOTCAST__MESSAGE__BODY_REMOVE_CHANNEL) return 0;
    if (status != SLC_BROKER_GONE || !request->is_lost || !may_repeat(message)) return status;
    if (!is_worth_repeating(client, times)) return status;
    request->is_repeated = true;
  }
}

int slc__request_with(slc_client *client, Slotcast__Message *message, const int *fds, size_t fd_count,
                      slc__answer_fn answer, void *ctx, bool *ret_is_repeated) {
  struct slc__request request = {.answer = answer, .ctx = ctx};
  pthread_mutex_lock(&client->request_lock);
  int status = request_make(client, message, fds, fd_count, &request);
  pthread_mutex_unlock(&client->request_lock);
  *ret_is_repeated = request.is_repeated;
  return status;
}

int slc__request(slc_client *client, Slotcast__Message *message, int fd, slc__answer_fn answer, void *ctx) {
  Slotcast__Descriptor entry = SLOTCAST__DESCRIPTOR__INIT;
  Slotcast__Descriptor *manifest[] = {&entry};
  size_t fd_count = fd >= 0 ? 1 : 0;
  if (fd_count > 0) { /* the one kind of descriptor that goes alone */
    entry.kind = SLOTCAST__DESCRIPTOR_KIND__DOORBELL;
    entry.writable = 1;
    message->n_descriptors = fd_count;
    message->descriptors = manifest;
  }
  bool is_repeated;
  return slc__request_with(client, message, &fd, fd_count, answer, ctx, &is_repeated);
}

int slc__answer_unexpected(const struct slc__received *received) {
  return slc__fail(SLC_PROTOCOL, "the broker answered with a message of kind %d", (int)received->message->body_case);
}

static int answer_done(void *ctx, struct slc__received *received) {
  (void)ctx;
  return received->message->body_case == SLOTCAST__MESSAGE__BODY_DONE ? 0 : slc__answer_unexpected(received);
}

int slc__request_done(slc_client *client, Slotcast__Message *message, int fd) {
  return slc__request(client, message, fd, answer_done, NULL);
}

/* The broker hangs: whatever it answers, nobody waits. */
static bool close_at_once(slc_client *client, uint64_t user) {
  pthread_mutex_lock(&client->lock);
  uint64_t wire;
  bool is_late = atomic_load(&client->is_late) && !atomic_load(&client->gone);
  if (is_late && slc__reconnect_user(client, user, &wire)) slc__connection_give_back(client, wire);
  pthread_mutex_unlock(&client->lock);
  return is_late;
}

/* Whether nobody but a broker that is away can be told. */
static bool is_away(slc_client *client) {
  pthread_mutex_lock(&client->lock);
  bool is_away = client->back.comes_back && atomic_load(&client->gone);
  pthread_mutex_unlock(&client->lock);
  return is_away;
}

void slc__request_close_place(slc_client *client, const struct slc__place *place) {
  if (close_at_once(client, place->user)) return;
  int status = SLC_BROKER_GONE;
  if (!atomic_load(&client->gone)) {
    Slotcast__CloseUser body = SLOTCAST__CLOSE_USER__INIT;
    body.user = place->user;
    Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
    message.body_case = SLOTCAST__MESSAGE__BODY_CLOSE_USER;
    message.close_user = &body;
    status = slc__request_done(client, &message, -1);
  }
  if (status == SLC_BROKER_GONE && is_away(client)) slc__place_part(client, place);
}

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

int slc__connection_open(slc_client *client) {
  client->fd = client->epoll_fd = -1;
  client->answer_poll_ns = slc__processors_are_many() ? ANSWER_POLL_NS : 0;
  pthread_mutex_init(&client->request_lock, NULL);
  pthread_mutex_init(&client->lock, NULL);
  client->send_buffer = malloc(SLC__CODEC_MESSAGE_MAX);
  client->receive_buffer = malloc(SLC__NET_DATAGRAM_MAX);
  if (client->socket_path == NULL || client->name == NULL || client->send_buffer == NULL ||
      client->receive_buffer == NULL)
    return slc__fail(SLC_NO_MEMORY, "no memory for a client");
  return slc__net_connect(client->socket_path, client->request_timeout_ns, &client->fd);
}

void slc__connection_close(slc_client *client) {
  slc__fd_close(&client->epoll_fd);
  slc__fd_close(&client->fd);
  slc__reconnect_deinit(client);
  free(client->name);
  free(client->receive_buffer);
  free(client->send_buffer);
  free(client->why_gone);
  free(client->socket_path);
  /* A forked child may have copied a mutex while another thread held it: those are left alone. */
  if (client->guard.word != NULL && !slc__guard_forked(&client->guard)) {
    pthread_mutex_destroy(&client->request_lock);
    pthread_mutex_destroy(&client->lock);
  }
}

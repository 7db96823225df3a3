/* Coming back to the broker.
 *
 *   UP -> DOWN       the connection has ended
 *   DOWN -> HELLO    when an attempt is due: connected without waiting, hello sent; else the next attempt is later
 *   HELLO -> BACK    the same broker, or one with its records: each place is reclaimed.  One that knows nothing: each
 * is opened anew BACK -> UP       all are had back, or refused
 *
 * One request at a time is under way, and each step is made where the answer to the last is read.  So whoever reads the
 * socket, for whatever reason, drives it on.
 *
 * Invariants:
 *   - The client's descriptor keeps its number: other threads may be polling it.  While there is no connection it is a
 *     timer that makes it readable when the next attempt is due.
 *   - A descriptor is taken out of each epoll set before it is replaced: a forked child may have a copy of the old one,
 *     which would keep its registration alive under a number that means something else.
 *   - Users of a broker that knew nothing of those before have another era in their number, so that no request for
 *     one reaches the namesake of another.
 *   - The application is told by one thread at a time, without the lock.
 * Threads: any, under the client's lock. */
#include "reconnect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "connection.h"
#include "subscriber.h"

#define PAUSE_FIRST_NS INT64_C(1000000)
#define PAUSE_LAST_NS SLC__NS_PER_S
#define STEADY_NS (20 * INT64_C(1000000)) /* a connection that lasted so long was a good one */
#define USER_MASK ((UINT64_C(1) << SLC__ERA_SHIFT) - 1)
#define SERIAL_OURS (UINT64_C(1) << 62)

enum { REQUEST_MAX = 4096 };

struct slc__parting {
  struct slc__parting *next;
  uint8_t token[SLC__TOKEN_SIZE];
};

/* ---- numbers of users ------------------------------------------------------------------------------------------- */

uint64_t slc__reconnect_known_as(const slc_client *client, uint64_t wire) {
  return client->back.era << SLC__ERA_SHIFT | (wire & USER_MASK);
}

bool slc__reconnect_user(const slc_client *client, uint64_t user, uint64_t *ret_wire) {
  if (user >> SLC__ERA_SHIFT != client->back.era) return false;
  *ret_wire = user & USER_MASK;
  return true;
}

/* ---- places ----------------------------------------------------------------------------------------------------- */

int slc__place_init(struct slc__place *place, const struct slc__place_ops *ops, void *owner) {
  *place = (struct slc__place){.ops = ops, .owner = owner};
  if (getrandom(place->token, sizeof place->token, 0) == (ssize_t)sizeof place->token) return 0;
  return slc__fail(SLC_SYSTEM, "getrandom: %s", strerror(errno));
}

void slc__place_list(slc_client *client, struct slc__place *place, uint64_t user) {
  place->user = user;
  place->next = client->back.places;
  client->back.places = place;
}

void slc__place_unlist(slc_client *client, struct slc__place *place) {
  struct slc__reconnect *back = &client->back;
  struct slc__place **at = &back->places;
  while (*at != NULL && *at != place) at = &(*at)->next;
  if (*at != NULL) *at = place->next;
  if (back->asked == place) back->asked = NULL;
}

static void parting_drop(struct slc__reconnect *back) {
  struct slc__parting *first = back->partings;
  back->partings = first->next;
  free(first);
}

/* ---- the descriptor --------------------------------------------------------------------------------------------- */

uint32_t slc__reconnect_events(const slc_client *client, bool waits_for_place) {
  return waits_for_place || client->back.link != SLC__LINK_UP ? EPOLLIN : 0;
}

static void epoll_each(slc_client *client, int operation) {
  if (client->epoll_fd >= 0) {
    struct epoll_event readable = {.events = EPOLLIN};
    epoll_ctl(client->epoll_fd, operation, client->fd, &readable);
  }
  slc__subscribers_watch(client, operation);
}

/* `fd` takes the number of the client's descriptor, whatever that was. */
static bool descriptor_replace(slc_client *client, int fd) {
  epoll_each(client, EPOLL_CTL_DEL);
  int result;
  do result = dup3(fd, client->fd, O_CLOEXEC);
  while (result < 0 && (errno == EINTR || errno == EBUSY));
  epoll_each(client, EPOLL_CTL_ADD);
  return result >= 0;
}

static void timer_set(const slc_client *client) {
  struct itimerspec when = {.it_value = slc__clock_timespec(client->back.next_attempt)};
  if (client->back.is_timer) timerfd_settime(client->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void timer_put(slc_client *client) {
  if (client->back.is_timer) return;
  SLC__CLEANUP_FD int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  client->back.is_timer = fd >= 0 && descriptor_replace(client, fd);
}

/* ---- attempts --------------------------------------------------------------------------------------------------- */

static void attempt_later(slc_client *client) {
  struct slc__reconnect *back = &client->back;
  back->next_attempt = slc__clock_ns() + back->pause;
  back->pause = back->pause * 2 < PAUSE_LAST_NS ? back->pause * 2 : PAUSE_LAST_NS;
  timer_set(client);
}

void slc__reconnect_lost(slc_client *client) {
  struct slc__reconnect *back = &client->back;
  bool was_up = back->link == SLC__LINK_UP;
  back->link = SLC__LINK_DOWN;
  back->asked = NULL;
  back->asked_for_parting = back->owes_request = false;
  for (struct slc__place *place = back->places; place != NULL; place = place->next) place->ops->cut_off(place->owner);
  if (!back->comes_back) return;
  timer_put(client);
  if (!was_up) {
    attempt_later(client);
    return;
  }
  int64_t now = slc__clock_ns();
  back->lost_at = now;
  back->losses++;
  back->is_anew = false;
  back->is_lost = true;
  if (!back->was_told_lost) back->owes_lost = true;
  if (now - back->up_at > STEADY_NS) back->pause = PAUSE_FIRST_NS;
  back->next_attempt = now;
  if (back->pause > PAUSE_FIRST_NS) attempt_later(client);
  timer_set(client);
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

/* Encoded already, with the serial that is awaited. */
static void request_send(slc_client *client, const uint8_t *bytes, size_t size, int fd) {
  int status = slc__net_send(client->fd, bytes, size, &fd, fd >= 0 ? 1 : 0, MSG_DONTWAIT);
  client->back.owes_request = status == SLC__NET_AGAIN;
  if (status != 0 && status != SLC__NET_AGAIN) slc__connection_lose(client, NULL);
}

static int encode(uint64_t serial, Slotcast__Message *message, uint8_t *buffer, size_t *ret_size) {
  message->serial = serial;
  return slc__codec_encode(message, buffer, REQUEST_MAX, ret_size);
}

static int encode_reclaim(uint64_t serial, uint8_t *token, bool is_attached, uint8_t *buffer, size_t *ret_size) {
  Slotcast__Reclaim body = SLOTCAST__RECLAIM__INIT;
  body.token.data = token;
  body.token.len = SLC__TOKEN_SIZE;
  body.attached = is_attached;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_RECLAIM;
  message.reclaim = &body;
  return encode(serial, &message, buffer, ret_size);
}

static int encode_doorbell(uint64_t serial, uint64_t user, uint8_t *buffer, size_t *ret_size) {
  Slotcast__Descriptor entry = SLOTCAST__DESCRIPTOR__INIT;
  Slotcast__Descriptor *manifest[] = {&entry};
  entry.kind = SLOTCAST__DESCRIPTOR_KIND__DOORBELL;
  entry.writable = 1;
  Slotcast__SetDoorbell body = SLOTCAST__SET_DOORBELL__INIT;
  body.user = user & USER_MASK;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.n_descriptors = 1;
  message.descriptors = manifest;
  message.body_case = SLOTCAST__MESSAGE__BODY_SET_DOORBELL;
  message.set_doorbell = &body;
  return encode(serial, &message, buffer, ret_size);
}

/* What is to be asked for this place. */
static int place_encode(struct slc__place *place, uint64_t serial, uint8_t *buffer, size_t *ret_size, int *ret_fd) {
  switch (place->state) {
  case SLC__PLACE_RECLAIM:
    return encode_reclaim(serial, place->token, place->ops->is_attached(place->owner), buffer, ret_size);
  case SLC__PLACE_JOIN:
    return place->ops->ask(place->owner, serial, place->is_plain, buffer, REQUEST_MAX, ret_size);
  default:
    *ret_fd = place->ops->doorbell(place->owner);
    return encode_doorbell(serial, place->user, buffer, ret_size);
  }
}

/* Those before the one that was asked for are done. */
static struct slc__place *place_next(const struct slc__reconnect *back) {
  struct slc__place *place = back->asked != NULL ? back->asked : back->places;
  while (place != NULL && (place->state == SLC__PLACE_HERE || place->state == SLC__PLACE_REFUSED)) place = place->next;
  return place;
}

static void come_back(slc_client *client) {
  struct slc__reconnect *back = &client->back;
  back->link = SLC__LINK_UP;
  back->up_at = slc__clock_ns();
  back->returns += !back->is_anew;
  back->joins += back->is_anew;
  back->is_lost = false;
  back->owes_anew |= back->is_anew;
  epoll_each(client, EPOLL_CTL_MOD);
  slc__connection_found(client);
}

/* The first of those that were closed is had back, to be given up. */
static void ask_parting(slc_client *client) {
  struct slc__reconnect *back = &client->back;
  uint8_t buffer[REQUEST_MAX];
  size_t size = 0;
  back->serial = ++client->back_serial | SERIAL_OURS;
  back->asked = NULL;
  back->asked_for_parting = true;
  int status = encode_reclaim(back->serial, back->partings->token, true, buffer, &size);
  if (status != 0)
    slc__connection_lose(client, slc__error_detail());
  else
    request_send(client, buffer, size, -1);
}

void slc__place_part(slc_client *client, const struct slc__place *place) {
  struct slc__parting *parting = malloc(sizeof *parting);
  if (parting == NULL) return; /* it stays with the broker until this process ends */
  memcpy(parting->token, place->token, sizeof parting->token);
  pthread_mutex_lock(&client->lock);
  struct slc__parting **last = &client->back.partings; /* the first may be under way */
  while (*last != NULL) last = &(*last)->next;
  parting->next = NULL;
  *last = parting;
  /* It may be back by now, without this one: then nobody else says it. */
  if (client->back.link == SLC__LINK_UP && !client->back.asked_for_parting) ask_parting(client);
  pthread_mutex_unlock(&client->lock);
}

/* What opening it, or having it back, takes next. */
static void ask_place(slc_client *client, struct slc__place *place) {
  struct slc__reconnect *back = &client->back;
  uint8_t buffer[REQUEST_MAX];
  size_t size = 0;
  int fd = -1;
  back->serial = ++client->back_serial | SERIAL_OURS;
  back->asked = place;
  int status = place_encode(place, back->serial, buffer, &size, &fd);
  if (status != 0)
    slc__connection_lose(client, slc__error_detail());
  else
    request_send(client, buffer, size, fd);
}

/* The next request, for the next one that is not back yet. */
static void ask_next(slc_client *client) {
  struct slc__reconnect *back = &client->back;
  struct slc__place *place = place_next(back);
  back->asked_for_parting = false;
  if (back->partings != NULL)
    ask_parting(client);
  else if (place != NULL)
    ask_place(client, place);
  else if (back->link != SLC__LINK_UP)
    come_back(client);
}

static void say_hello(slc_client *client) {
  uint8_t buffer[REQUEST_MAX];
  size_t size = 0;
  client->back.serial = ++client->back_serial | SERIAL_OURS;
  if (slc__hello_encode(client, client->back.serial, buffer, sizeof buffer, &size) == 0)
    request_send(client, buffer, size, -1);
  else
    slc__connection_lose(client, NULL);
}

void slc__reconnect_advance(slc_client *client) {
  struct slc__reconnect *back = &client->back;
  if (back->owes_request) {
    if (back->link == SLC__LINK_HELLO)
      say_hello(client);
    else
      ask_next(client);
    return;
  }
  if (back->link != SLC__LINK_DOWN || !back->comes_back || slc__clock_ns() < back->next_attempt) return;
  SLC__CLEANUP_FD int fd = -1;
  if (!slc__net_connect_now(client->socket_path, &fd) || !descriptor_replace(client, fd)) {
    attempt_later(client);
    return;
  }
  back->is_timer = false;
  back->link = SLC__LINK_HELLO;
  say_hello(client);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

static enum slc__place_state join_state(const struct slc__place *place) {
  bool is_over = place->ops->is_over != NULL && place->ops->is_over(place->owner);
  return is_over ? SLC__PLACE_HERE : SLC__PLACE_JOIN;
}

static void partings_forget(struct slc__reconnect *back) {
  while (back->partings != NULL) parting_drop(back);
}

static int hello_answered(slc_client *client, struct slc__received *received) {
  struct slc__reconnect *back = &client->back;
  struct slc__origin before = client->origin;
  int status = slc__hello_answered(client, received);
  if (status != 0) return status;
  bool is_same = memcmp(&before, &client->origin, sizeof before) == 0;
  if (!is_same) {
    back->era++;
    partings_forget(back);
  }
  for (struct slc__place *place = back->places; place != NULL; place = place->next) {
    place->is_plain = false;
    place->state = is_same ? SLC__PLACE_RECLAIM : join_state(place);
  }
  back->link = SLC__LINK_BACK;
  ask_next(client);
  return 0;
}

static int reclaim_answered(slc_client *client, struct slc__place *place, const struct slc__received *received) {
  const Slotcast__Message *message = received->message;
  if (message->body_case == SLOTCAST__MESSAGE__BODY_REFUSAL) {
    if (message->refusal->status == SLC_BUSY) return slc__fail(SLC_BUSY, "the old connection has not ended yet");
    place->state = join_state(place);
    return 0;
  }
  if (message->body_case != SLOTCAST__MESSAGE__BODY_RECLAIMED) return slc__answer_unexpected(received);
  const Slotcast__Reclaimed *reclaimed = message->reclaimed;
  if ((reclaimed->publisher != 0) != place->ops->is_publisher)
    return slc__fail(SLC_PROTOCOL, "the broker took a publisher for a subscriber");
  place->user = slc__reconnect_known_as(client, reclaimed->user);
  place->state = SLC__PLACE_HERE;
  return 0;
}

static void place_refuse(struct slc__place *place, int status) {
  place->state = SLC__PLACE_REFUSED;
  place->ops->refused(place->owner, status);
}

/* Another shape than before may have come first: then that is the channel's. */
static int join_answered(slc_client *client, struct slc__place *place, struct slc__received *received) {
  client->back.is_anew = true;
  if (received->message->body_case == SLOTCAST__MESSAGE__BODY_REFUSAL) {
    int status = slc__refusal_status(received->message->refusal);
    if (!place->is_plain)
      place->is_plain = true;
    else
      place_refuse(place, status);
    return 0;
  }
  int status = place->ops->joined(place->owner, received);
  if (status == SLC_PROTOCOL) return status;
  if (status != 0) {
    slc__connection_give_back(client, slc__user_opened(received->message));
    place_refuse(place, status);
    return 0;
  }
  place->state = place->ops->doorbell(place->owner) >= 0 ? SLC__PLACE_BELL : SLC__PLACE_HERE;
  return 0;
}

static int bell_answered(struct slc__place *place, const struct slc__received *received) {
  place->state = SLC__PLACE_HERE;
  if (received->message->body_case == SLOTCAST__MESSAGE__BODY_REFUSAL)
    place_refuse(place, slc__refusal_status(received->message->refusal));
  return 0;
}

/* Whatever the broker gave to one that has been closed meanwhile, or was to be closed: it gets it back. */
static void unwanted(slc_client *client, const struct slc__received *received) {
  uint64_t user = slc__user_opened(received->message);
  if (user != 0) slc__connection_give_back(client, user);
  if (client->back.asked_for_parting) parting_drop(&client->back);
}

bool slc__reconnect_is_asked(const slc_client *client, uint64_t serial) {
  const struct slc__reconnect *back = &client->back;
  bool is_under_way = back->link == SLC__LINK_HELLO || back->link == SLC__LINK_BACK || back->asked_for_parting;
  return is_under_way && serial == back->serial;
}

int slc__reconnect_answered(slc_client *client, struct slc__received *received) {
  struct slc__reconnect *back = &client->back;
  if (back->link == SLC__LINK_HELLO) {
    if (received->message->body_case == SLOTCAST__MESSAGE__BODY_REFUSAL)
      return slc__refusal_status(received->message->refusal);
    return hello_answered(client, received);
  }
  struct slc__place *place = back->asked;
  int status = 0;
  if (place == NULL)
    unwanted(client, received);
  else if (place->state == SLC__PLACE_RECLAIM)
    status = reclaim_answered(client, place, received);
  else if (place->state == SLC__PLACE_JOIN)
    status = join_answered(client, place, received);
  else
    status = bell_answered(place, received);
  if (status == 0) ask_next(client);
  return status;
}

/* ---- telling, beginning, ending --------------------------------------------------------------------------------- */

/* What is to be told next; 0: nothing.  What was lost and back again before it was told of either is lost once. */
static int owed_take(struct slc__reconnect *back) {
  if (!back->was_told_lost) {
    if (!back->owes_lost) return 0;
    back->owes_lost = false;
    back->was_told_lost = true;
    return SLC_CONNECTION_LOST;
  }
  if (back->is_lost) return 0;
  int event = back->owes_anew ? SLC_CONNECTION_ANEW : SLC_CONNECTION_BACK;
  back->was_told_lost = back->owes_anew = false;
  return event;
}

void slc__reconnect_tell(slc_client *client) {
  struct slc__reconnect *back = &client->back;
  if (back->on_connection == NULL) return;
  pthread_mutex_lock(&client->lock);
  bool is_mine = !back->is_telling;
  int event = is_mine ? owed_take(back) : 0;
  while (event != 0) {
    back->is_telling = true;
    pthread_mutex_unlock(&client->lock);
    back->on_connection(back->ctx, event);
    pthread_mutex_lock(&client->lock);
    event = owed_take(back);
  }
  if (is_mine) back->is_telling = false;
  pthread_mutex_unlock(&client->lock);
}

bool slc__reconnect_begin(slc_client *client, const struct slc__reconnect_plan *plan) {
  pthread_mutex_lock(&client->lock);
  bool comes_back = client->back.comes_back = client->back.link == SLC__LINK_UP;
  client->back.timeout_ns = plan->timeout_ns;
  client->back.on_connection = plan->on_connection;
  client->back.ctx = plan->ctx;
  client->back.pause = PAUSE_FIRST_NS;
  client->back.up_at = slc__clock_ns();
  pthread_mutex_unlock(&client->lock);
  return comes_back;
}

void slc__reconnect_deinit(slc_client *client) {
  partings_forget(&client->back);
}

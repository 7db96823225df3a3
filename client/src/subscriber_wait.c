/* Subscribers: waiting, and the readiness descriptor.
 *
 * The readiness descriptor is an epoll descriptor over the receiving end of a socket pair, whose sending end the
 * publishers have, and over the client's descriptor: for all that comes there before the attachment and while the
 * connection is being had back, else only for its end.  When a take has left nothing, or found nothing, the pair is
 * emptied and armed again; if something came meanwhile the subscriber rings itself.
 * Threads: one at a time per handle; where it is said to be under the client's lock, any. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "shm/gate.h"
#include "subscriber_handle.h"

#define SLICE_NS SLC__NS_PER_S                      /* of a sleep, while the broker lives */
#define SLICE_ALONE_NS (50 * INT64_C(1000000))      /* when it is gone: nobody rings for a publisher that dies */
#define SLICE_UNATTACHED_NS (50 * INT64_C(1000000)) /* another thread may read what this one polls for */
#define LOOK_NS (20 * INT64_C(1000000))             /* between two visits of one that waits for less than a slice */
enum { EMPTIES_PER_LOOK = 64 };                     /* takes that find nothing between two visits */

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

static int64_t slice_of(const slc_subscriber *subscriber, int64_t deadline) {
  int64_t slice = slc__deadline_after(atomic_load(&subscriber->client->gone) ? SLICE_ALONE_NS : SLICE_NS);
  return slice < deadline ? slice : deadline;
}

/* One slice.  0 when there is something to tell, SLC_TIMED_OUT when not. */
static int wait_alone(slc_subscriber *subscriber, int64_t deadline) {
  if (slc__sub_publishers_changed(&subscriber->on.sub) || slc__sub_is_announced(&subscriber->on.sub)) return 0;
  int status = slc__sub_wait(&subscriber->on.sub, slice_of(subscriber, deadline), subscriber->spin_ns);
  if (status == 0) return 0;
  return slc__sub_publishers_changed(&subscriber->on.sub) ? 0 : SLC_TIMED_OUT;
}

static bool look(slc_subscriber *subscriber) {
  return slc__sub_publishers_changed(&subscriber->on.sub) || slc__sub_ready(&subscriber->on.sub);
}

static bool look_in_turn(slc_subscriber *subscriber) {
  slc__turn_begin(&subscriber->turn);
  bool is_there = look(subscriber);
  slc__turn_end(&subscriber->turn);
  return is_there;
}

/* The same for one of several threads: looks in turns, polls and sleeps outside. */
static int wait_in_turns(slc_subscriber *subscriber, int64_t deadline) {
  int64_t until = slice_of(subscriber, deadline);
  int64_t polls_until = slc__deadline_after(subscriber->spin_ns);
  bool is_there = look(subscriber);
  slc__turn_end(&subscriber->turn);
  while (!is_there && slc__clock_ns() < (polls_until < until ? polls_until : until)) {
    slc__turn_pass();
    is_there = look_in_turn(subscriber);
  }
  slc__turn_begin(&subscriber->turn);
  uint64_t bell = 0;
  if (is_there || !slc__sub_sleep_begin(&subscriber->on.sub, &bell)) return 0;
  if (slc__sub_publishers_changed(&subscriber->on.sub))
    return 0; /* the broker may have rung before the bell was read */
  slc__turn_end(&subscriber->turn);
  slc__sub_sleep(&subscriber->on.sub, bell, until);
  slc__turn_begin(&subscriber->turn);
  return look(subscriber) ? 0 : SLC_TIMED_OUT;
}

/* In the turn, and for one of several threads out of it in between.  Ends the call. */
static int wait_attached(slc_subscriber *subscriber, int64_t deadline) {
  int status = subscriber->turn.is_shared ? wait_in_turns(subscriber, deadline) : wait_alone(subscriber, deadline);
  if (slc__sub_closed(&subscriber->on.sub) != SLC__OPEN) status = slc__subscriber_disconnected(subscriber);
  return slc__subscriber_end(subscriber, status);
}

static int wait_unattached(slc_subscriber *subscriber, int64_t deadline) {
  slc__connection_wait(subscriber->client, deadline, SLICE_UNATTACHED_NS);
  return SLC_TIMED_OUT;
}

/* Nothing has come in a slice: what has become of the broker?  Callers may wait less than a slice each time. */
static void visit_for(slc_subscriber *subscriber, int64_t deadline) {
  int64_t now = slc__clock_ns();
  int64_t visited_at = atomic_load_explicit(&subscriber->visited_at, memory_order_relaxed);
  if (now >= deadline && now - visited_at < LOOK_NS) return;
  atomic_store_explicit(&subscriber->visited_at, now, memory_order_relaxed);
  slc__connection_visit_long(subscriber->client, deadline);
}

/* Goes over where all has been taken; what is to be told then is for a take to say. */
static int begin_where_it_goes_on(slc_subscriber *subscriber) {
  int status = slc__subscriber_begin_here(subscriber);
  if (status != 0 || !atomic_load(&subscriber->may_move) || slc__sub_ready(&subscriber->on.sub)) return status;
  status = SLC_EMPTY;
  if (slc__subscriber_goes_on(subscriber, &status)) status = slc__subscriber_here(subscriber);
  if (status == SLC_EMPTY && subscriber->on.attached) status = 0;
  return status != 0 ? slc__subscriber_end(subscriber, status) : 0;
}

int slc_subscriber_wait(slc_subscriber *subscriber, int64_t timeout_ns) {
  int64_t deadline = slc__deadline_after(timeout_ns);
  for (;;) {
    int status = begin_where_it_goes_on(subscriber);
    if (status != 0 && status != SLC_EMPTY) return status;
    status = status == 0 ? wait_attached(subscriber, deadline) : wait_unattached(subscriber, deadline);
    if (status != SLC_TIMED_OUT) return status;
    visit_for(subscriber, deadline);
    if (slc__clock_ns() >= deadline) return SLC_TIMED_OUT;
  }
}

/* ---- the readiness descriptor ----------------------------------------------------------------------------------- */

/* A full socket is readable already. */
void slc__subscriber_ring(const slc_subscriber *subscriber) {
  if (subscriber->ring_fd >= 0) slc__doorbell_ring(subscriber->ring_fd);
}

bool slc__subscriber_unring(const slc_subscriber *subscriber) {
  uint8_t rung[8];
  bool was_rung = false;
  while (recv(subscriber->bell_fd, rung, sizeof rung, MSG_DONTWAIT) > 0) was_rung = true;
  return was_rung;
}

bool slc__subscriber_rearm(slc_subscriber *subscriber) {
  bool was_rung = slc__subscriber_unring(subscriber);
  if (!slc__sub_arm(&subscriber->on.sub)) slc__subscriber_ring(subscriber);
  return was_rung;
}

/* A readiness descriptor that is readable, and nobody has rung: then it is the end of the connection, or an attempt to
 * have another that is due. */
void slc__subscriber_look_around(slc_subscriber *subscriber) {
  bool is_due =
      subscriber->bell_fd >= 0 ? !slc__subscriber_rearm(subscriber) : ++subscriber->empties % EMPTIES_PER_LOOK == 0;
  if (is_due) slc__connection_visit(subscriber->client);
}

static int descriptor_failure(const char *call) {
  int status = slc__status_of_errno(errno);
  return slc__fail(status, "%s for a readiness descriptor: %s", call, strerror(errno));
}

/* Whether it sleeps until the broker says something. */
static bool waits_for_broker(const slc_subscriber *subscriber) {
  return !subscriber->on.attached || (subscriber->fresh != NULL && !subscriber->fresh->attachment_there);
}

void slc__subscriber_watch(slc_subscriber *subscriber, int operation) {
  if (subscriber->epoll_fd < 0) return;
  const slc_client *client = subscriber->client;
  struct epoll_event event = {.events = slc__reconnect_events(client, waits_for_broker(subscriber))};
  epoll_ctl(subscriber->epoll_fd, operation, client->fd, &event);
}

void slc__subscribers_watch(slc_client *client, int operation) {
  for (slc_subscriber *subscriber = client->subscribers; subscriber != NULL; subscriber = subscriber->next)
    slc__subscriber_watch(subscriber, operation);
}

static int epoll_make(int bell_fd, int *ret_fd) {
  SLC__CLEANUP_FD int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return descriptor_failure("epoll_create1");
  struct epoll_event readable = {.events = EPOLLIN};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, bell_fd, &readable) != 0) return descriptor_failure("epoll_ctl");
  *ret_fd = slc__fd_take(&epoll_fd);
  return 0;
}

static int request_doorbell(const slc_subscriber *subscriber, int ring_fd) {
  Slotcast__SetDoorbell body = SLOTCAST__SET_DOORBELL__INIT;
  body.user = subscriber->place.user;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_SET_DOORBELL;
  message.set_doorbell = &body;
  return slc__request_done(subscriber->client, &message, ring_fd);
}

static int doorbell_make(slc_subscriber *subscriber) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
    return descriptor_failure("socketpair");
  SLC__CLEANUP_FD int bell_fd = pair[0];
  SLC__CLEANUP_FD int ring_fd = pair[1];
  SLC__CLEANUP_FD int epoll_fd = -1;
  int status = epoll_make(bell_fd, &epoll_fd);
  if (status == 0) status = request_doorbell(subscriber, ring_fd);
  if (status != 0) return status;
  pthread_mutex_lock(&subscriber->client->lock); /* another thread may dispatch the attachment, and then rings */
  subscriber->bell_fd = slc__fd_take(&bell_fd);
  subscriber->ring_fd = slc__fd_take(&ring_fd);
  subscriber->epoll_fd = slc__fd_take(&epoll_fd);
  slc__subscriber_watch(subscriber, EPOLL_CTL_ADD);
  pthread_mutex_unlock(&subscriber->client->lock);
  return 0;
}

/* In the turn. */
static int descriptor_get(slc_subscriber *subscriber, int *ret_fd) {
  int status = slc__subscriber_here(subscriber);
  if (status != 0 && status != SLC_EMPTY) return status;
  if (subscriber->epoll_fd < 0) {
    status = doorbell_make(subscriber);
    if (status != 0) return status;
    slc__subscriber_note_plainness(subscriber);
    if (subscriber->on.attached)
      slc__subscriber_rearm(subscriber);
    else
      slc__subscriber_ring(subscriber); /* whether there is something is for the first take to say */
  }
  *ret_fd = subscriber->epoll_fd;
  return 0;
}

int slc_subscriber_fd(slc_subscriber *subscriber, int *ret_fd) {
  if (slc__guard_forked(&subscriber->guard)) return slc__guard_fail();
  slc__turn_begin(&subscriber->turn);
  return slc__subscriber_end(subscriber, descriptor_get(subscriber, ret_fd));
}

/* ---- for wait-sets ---------------------------------------------------------------------------------------------- */

bool slc__subscriber_look(slc_subscriber *subscriber) {
  int status = begin_where_it_goes_on(subscriber);
  if (status != 0) return status != SLC_EMPTY;
  bool is_there = look(subscriber);
  if (!is_there) slc__subscriber_look_around(subscriber);
  slc__subscriber_end(subscriber, 0);
  return is_there;
}

int64_t slc__subscriber_visit(slc_subscriber *subscriber) {
  slc_client *client = subscriber->client;
  slc__connection_visit(client);
  return atomic_load(&client->gone) ? SLICE_ALONE_NS : SLICE_NS;
}

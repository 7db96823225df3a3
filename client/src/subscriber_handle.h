/* What the parts of a subscriber share: its handle, and what it has of the channel that it is on.
 *
 * A handle outlives its channel: when the broker comes back and knows nothing of it, the handle is opened anew
 * (`fresh`), goes over when it has taken all that there is, and what is still held stays where it was (`past`). */
#ifndef SLC__CLIENT_SUBSCRIBER_HANDLE_H
#define SLC__CLIENT_SUBSCRIBER_HANDLE_H

#include "checksum.h"
#include "connection.h"
#include "generations.h"
#include "shm/virtual.h"
#include "subscriber.h"
#include "turn.h"
#include "watchers.h"

#define SLC__HOLDS_MAX 4096

/* What the broker gives a subscriber once the channel has a shape. */
struct slc__attachment {
  struct slc__geometry shape;
  uint32_t line;
  uint32_t max_holds;
  uint32_t virtual_id; /* of the virtual channel; 0: a plain channel, or a whole multiplexer */
  uint64_t virtual_base;
  uint64_t since; /* the first ordinal that was not yet published when it was admitted */
  struct slc__mapping control, buffers, table, bell;
};

/* One hold, as the application has it. */
struct slc__held {
  uint64_t ordinal;    /* counted from 1; 0: not in use */
  uint32_t generation; /* where the payload lies, when that is a later one */
};

/* A subscriber on one channel. */
struct slc__seat {
  bool attached; /* `sub` has been made */
  bool is_anew;  /* the handle was on another channel before */
  struct slc__sub sub;
  struct slc__virtual_view view; /* of a multiplexer */
  struct slc__held *held;        /* per hold */
  struct slc__generations generations;
  uint32_t looked_for; /* of a split channel: the newest generation that was asked for before it was needed */
  uint32_t hold_base;  /* added to a hold's number, as the application has it */
  uint64_t user;       /* 0: not opened */
  struct slc__attachment attachment; /* under the client's lock until attached */
  bool attachment_there;             /* under the client's lock */
  int attachment_status;             /* under the client's lock: why there will be none */
  char *attachment_detail;
  bool was_first;                    /* the answer brought no attachment: there was no publisher yet */
  struct slc__watcher_sets watchers; /* under the client's lock */
  struct slc__seat *next;            /* of those past */
};

struct slc_subscriber {
  struct slc__guard guard;
  bool takes_plainly;      /* attached, and nothing is to be done for a message but to take it */
  bool releases_plainly;   /* one thread, and nothing is held elsewhere */
  struct slc__taken taken; /* by the take under way: with nothing of its own on the stack, that needs no canary */
  struct slc__seat on;
  struct slc__turn turn;
  int bell_fd; /* receiving end of the pair; -1: no readiness descriptor asked for */
  int ring_fd; /* sending end */
  int epoll_fd;
  int64_t spin_ns;
  _Atomic int64_t visited_at;     /* when it looked at its connection last, CLOCK_MONOTONIC, ns */
  uint32_t empties;               /* takes that found nothing */
  slc_subscriber_options options; /* its strings are the handle's own */
  struct slc__checking checking;  /* made with `sub` */

  slc_client *client;
  char *channel;
  bool listed; /* under the client's lock, as all of these */
  struct slc__place place;
  struct slc__seat *fresh; /* opened anew, and not yet in use */
  int refused;             /* why it could not be opened anew; 0: it could */
  char *refused_detail;
  _Atomic bool may_move; /* set under the lock when one of these is: read anywhere */
  slc_subscriber *next;

  struct slc__seat *past; /* with held messages; the handle's own thread's */
};

/* ---- subscriber_open.c --- */

/* 0: attached.  SLC_EMPTY: no publisher has come yet.  In the handle's thread and turn. */
int slc__subscriber_attach(slc_subscriber *subscriber);
/* Of a split channel every payload is in a generation: that is there before the first message is. */
void slc__subscriber_fetch_newest(slc_subscriber *subscriber);
/* What the handle has to do for a message but to take it. */
void slc__subscriber_note_plainness(slc_subscriber *subscriber);
/* What a SubscriberOpened brings.  Under the lock. */
int slc__seat_receive(const slc_subscriber *subscriber, struct slc__received *received, struct slc__seat *seat);
void slc__seat_unmap(struct slc__seat *seat);
Slotcast__OpenSubscriber slc__subscriber_request(slc_subscriber *subscriber);

/* ---- subscriber_move.c --- */

extern const struct slc__place_ops slc__subscriber_place;
/* When all has been taken: goes over to the channel that it was opened on anew.  1: it did; 0: there is none; negative:
 * why it can't.  In the handle's thread and turn, as the following. */
int slc__subscriber_move(slc_subscriber *subscriber);
/* Releases what is held on an earlier channel; false: it is not. */
bool slc__subscriber_past_release(slc_subscriber *subscriber, const slc_message *message);

/* ---- subscriber.c --- */

/* Begins a call; to be ended unless it fails. */
int slc__subscriber_begin_here(slc_subscriber *subscriber);
/* SLC_DISCONNECTED: why the broker has closed it. */
int slc__subscriber_disconnected(const slc_subscriber *subscriber);

/* ---- subscriber_wait.c --- */

/* Level truth: nothing to take, so the readiness descriptor is not readable until the next message rings.  True: it had
 * been rung. */
bool slc__subscriber_rearm(slc_subscriber *subscriber);
/* Takes the rings away; true: there were some. */
bool slc__subscriber_unring(const slc_subscriber *subscriber);
/* Makes the readiness descriptor readable. */
void slc__subscriber_ring(const slc_subscriber *subscriber);
/* A take has found nothing: keeps the readiness descriptor, and sees now and then whether the broker has gone. */
void slc__subscriber_look_around(slc_subscriber *subscriber);
/* The client's descriptor in the readiness descriptor; the lock is held. */
void slc__subscriber_watch(slc_subscriber *subscriber, int operation);

static inline int slc__subscriber_here(slc_subscriber *subscriber) {
  return __builtin_expect(subscriber->on.attached, 1) ? 0 : slc__subscriber_attach(subscriber);
}

#endif

/* Coming back to the broker: what a client does when its connection has ended, a step at a time, in whatever call comes
 * next, without waiting.
 *
 * Each publisher and subscriber has a place on the list of its client: what it is known by on another connection, and
 * how it opens again with a broker that knows nothing of it.  Thread: under the client's lock, where not said
 * otherwise. */
#ifndef SLC__CLIENT_RECONNECT_H
#define SLC__CLIENT_RECONNECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "received.h"
#include "slotcast/slotcast.h"

enum {
  SLC__TOKEN_SIZE = 16,
  SLC__ERA_SHIFT = 48 /* a user as the client knows it: the broker's number, and which broker's above that */
};

struct slc__place;

/* What publishers and subscribers do each in their way. */
struct slc__place_ops {
  bool is_publisher;
  /* Encodes the request that opens it anew; `is_plain`: with nothing but the options that it was opened with. */
  int (*ask)(void *owner, uint64_t serial, bool is_plain, uint8_t *buffer, size_t capacity, size_t *ret_size);
  /* The answer to it: what it brings is kept beside what is in use. */
  int (*joined)(void *owner, struct slc__received *received);
  /* It can't be opened there: its sentence is slc__error_detail(). */
  void (*refused)(void *owner, int status);
  /* What was coming on the connection that has ended will not be completed. */
  void (*cut_off)(void *owner);
  /* The sending end of its readiness descriptor; -1: it has none. */
  int (*doorbell)(void *owner);
  bool (*is_attached)(void *owner);
  /* It is not to be opened anew; NULL: always. */
  bool (*is_over)(void *owner);
};

enum slc__place_state {
  SLC__PLACE_HERE = 0, /* nothing is to be done for it */
  SLC__PLACE_RECLAIM,  /* the broker is to be told whose it is */
  SLC__PLACE_JOIN,     /* it is to be opened anew */
  SLC__PLACE_BELL,     /* and its doorbell set */
  SLC__PLACE_REFUSED   /* it could not be opened anew */
};

struct slc__place {
  struct slc__place *next;
  const struct slc__place_ops *ops;
  void *owner;
  uint8_t token[SLC__TOKEN_SIZE];
  uint64_t user; /* on the present connection, or the last */
  enum slc__place_state state;
  bool is_plain; /* opening it anew with its former shape was refused */
};

/* One that was closed while there was no connection: the broker is told when there is one. */
struct slc__parting;

enum slc__link {
  SLC__LINK_UP = 0, /* requests may be made */
  SLC__LINK_DOWN,
  SLC__LINK_HELLO, /* connected, and hello not answered yet */
  SLC__LINK_BACK   /* the places are being had back */
};

struct slc__reconnect {
  enum slc__link link;
  bool comes_back;    /* the first hello has been answered: from then on a lost connection is made again */
  bool owes_request;  /* the socket was full */
  bool is_timer;      /* the client's descriptor is a timer, which says when the next attempt is due */
  bool is_anew;       /* a place has been opened anew since the connection was lost */
  int64_t timeout_ns; /* that requests wait for the broker to come back, from when it was lost; negative: for ever */
  int64_t lost_at;    /* CLOCK_MONOTONIC, ns, as all of these */
  int64_t up_at;      /* when it came back last */
  int64_t next_attempt;
  int64_t pause;   /* before the next but one */
  uint64_t serial; /* of the request that is being answered */
  uint64_t era;    /* counts the brokers that knew nothing of those before */
  struct slc__place *places;
  struct slc__place *asked; /* whose request is being answered; NULL: it has been closed */
  struct slc__parting *partings;
  bool asked_for_parting;
  uint64_t losses, returns, joins;

  slc_connection_fn on_connection;
  void *ctx;
  bool is_telling; /* one thread tells, in order */
  bool is_lost;
  bool was_told_lost; /* that was the last event told */
  bool owes_lost;     /* it has been lost since it was told to be back */
  bool owes_anew;     /* something was opened anew since */
};

struct slc__reconnect_plan {
  int64_t timeout_ns;
  slc_connection_fn on_connection;
  void *ctx;
};
/* From now on it comes back.  False: it has been lost already.  Takes the lock. */
bool slc__reconnect_begin(slc_client *client, const struct slc__reconnect_plan *plan);
void slc__reconnect_deinit(slc_client *client);

/* A new place, with a token of its own; not on the list yet.  SLC_SYSTEM. */
int slc__place_init(struct slc__place *place, const struct slc__place_ops *ops, void *owner);
/* The broker has opened it. */
void slc__place_list(slc_client *client, struct slc__place *place, uint64_t user);
/* Nothing comes for it any more. */
void slc__place_unlist(slc_client *client, struct slc__place *place);
/* It has been closed and the broker could not be told.  Takes the lock. */
void slc__place_part(slc_client *client, const struct slc__place *place);

/* The connection has just ended. */
void slc__reconnect_lost(slc_client *client);
/* Makes the next attempt when it is due, and sends what is owed. */
void slc__reconnect_advance(slc_client *client);
/* An answer to a request of reconnect.c.  Not 0: the connection is of no use. */
bool slc__reconnect_is_asked(const slc_client *client, uint64_t serial);
int slc__reconnect_answered(slc_client *client, struct slc__received *received);
/* A request for a user that was known by `user` then: the same number, as the broker has it; false: of another broker.
 */
bool slc__reconnect_user(const slc_client *client, uint64_t user, uint64_t *ret_wire);
/* The number that the client knows a broker's user by. */
uint64_t slc__reconnect_known_as(const slc_client *client, uint64_t wire);

/* Tells the application what has happened to the connection.  Without the lock. */
void slc__reconnect_tell(slc_client *client);
/* What the client's descriptor is to be polled for by a handle that may sleep: 0 says only its end. */
uint32_t slc__reconnect_events(const slc_client *client, bool waits_for_place);

#endif

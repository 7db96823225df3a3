/* What publisher.c and publisher_open.c share: a publisher's handle, and what it has of the channel that it is on.
 *
 * A handle outlives its channel: when the broker comes back and knows nothing of it, the handle is opened anew
 * (`fresh`), goes over at its next call, and what is still on loan stays where it was (`past`). */
#ifndef SLC__CLIENT_PUBLISHER_HANDLE_H
#define SLC__CLIENT_PUBLISHER_HANDLE_H

#include "checksum.h"
#include "connection.h"
#include "doorbell.h"
#include "growth.h"
#include "membership.h"
#include "publisher.h"
#include "turn.h"
#include "watchers.h"

/* Where the payload of a loan lies. */
struct slc__spot {
  uint64_t capacity;   /* 0: not on loan */
  uint32_t flags;      /* SLC__FLAG_*: where that is */
  uint32_t generation; /* when that is a later one; 0: the first */
};

/* Two to a cache line. */
struct slc__loan_entry {
  uint64_t name; /* the slot, and above it the token, as the loan has them; not on loan: no slot, the next token */
  struct slc__spot spot;
  union {
    uint8_t *data;
    struct slc__loan_entry *next; /* not on loan: of those that are not, either */
  };
};

/* The payloads of the first buffers' slots: those that lie in the prefix, or those behind it. */
struct slc__row {
  struct slc__spot spot; /* of each; capacity 0: there are none */
  uint8_t *first;        /* that of slot 0 */
};

/* A publisher on one channel.  When it is ready, that of its own thread but for what is said to be the lock's.  First
 * what every loan and publish needs. */
struct slc__stand {
  struct slc__row in_prefix, behind;
  struct slc__loan_entry *loans; /* `token_step` of them, of which the first `max_loans` are in use */
  struct slc__loan_entry *idle;  /* the list of those not on loan */
  uint32_t token_step;           /* a power of two >= max_loans */
  uint32_t max_loans;
  struct slc__pub pub;

  uint64_t slot_size;
  uint32_t loaned;   /* when it is past: how many are still on loan */
  bool is_ready;     /* `pub` has been made */
  bool is_the_first; /* that the channel ever had */
  struct slc__control control;
  struct slc__buffers buffers;
  struct slc__growth growth;
  struct slc__mapping control_mapping, buffers_mapping;
  struct slc__memory memory; /* of the channel, and how this publisher maps it */
  uint64_t user;             /* 0: not opened */
  uint32_t id;
  uint32_t batch;
  uint32_t virtual_id;               /* 0: a plain channel */
  uint64_t virtual_base;             /* messages that had the id before */
  struct slc__members members;       /* under the client's lock */
  struct slc__watcher_sets watchers; /* under the client's lock */
  struct slc__stand *next;           /* of those past */
};

/* Why calls take the long way. */
enum {
  SLC__SPECIAL_WORK = 1, /* metadata, checksums, a callback before sending, or several threads */
  SLC__SPECIAL_MOVES = 2 /* the handle is to go over to another channel, or can't */
};

struct slc_publisher {
  struct slc__guard guard;
  _Atomic uint64_t is_special; /* SLC__SPECIAL_*; written under the client's lock */
  int64_t visited_at;          /* when it looked at its connection last, CLOCK_MONOTONIC, ns */
  struct slc__doorbell doorbell;
  bool has_timestamp;
  struct slc__stand on; /* the channel */

  struct slc__turn turn;
  struct slc__checking checking;
  slc_before_send_fn before_send;
  void *callback_ctx;
  int64_t spin_ns;
  uint64_t refusals; /* loans that found no slot */

  struct slc__allocator allocator; /* of a split channel */
  slc_client *client;
  char *channel;
  slc_publisher_options options; /* its strings are the handle's own */
  bool listed;                   /* under the client's lock, as all of these */
  struct slc__place place;
  struct slc__stand *fresh;  /* opened anew, and not yet in use */
  struct slc__stand *moving; /* the same while the handle's thread makes it ready; NULL: none */
  int refused;               /* why it could not be opened anew; 0: it could */
  char *refused_detail;
  slc_publisher *next;

  struct slc__stand *past; /* with loans; the handle's own thread's */
};

#define SLC__PUBLISHER_SLICE_NS (10 * INT64_C(1000000)) /* between two looks of one that waits for an answer */
#define SLC__PUBLISHER_LOOK_NS (20 * INT64_C(1000000))  /* between two looks of one that only publishes */

/* ---- publisher_open.c --- */

/* The request that opens it, with the handle's own strings. */
Slotcast__OpenPublisher slc__publisher_request(slc_publisher *publisher);
/* What a PublisherOpened brings; when it fails the stand is still to be deinitialised.  Under the lock. */
int slc__stand_receive(const slc_publisher *publisher, struct slc__received *received, struct slc__stand *stand);
/* SLC_INCOMPATIBLE: the channel has checksums that this publisher can't compute. */
int slc__publisher_can_check(const slc_publisher *publisher, const struct slc__geometry *shape);
/* Takes its first membership into use; NULL: not all of its pages have come.  Takes the lock. */
const struct slc__membership *slc__stand_membership(slc_client *client, struct slc__stand *stand);
/* From then on loans can be made on it, but that `growth` has to know where it lies.  May ask the broker. */
int slc__stand_ready(slc_publisher *publisher, struct slc__stand *stand, const struct slc__membership *view);
/* What loan and publish have to do on the channel beside fetching a slot and putting it into the log.  Under the lock.
 */
void slc__publisher_specials(slc_publisher *publisher);
/* Tokens of its loans begin at `first`, a count. */
void slc__loans_number(struct slc__stand *stand, uint32_t first);

/* ---- publisher_move.c --- */

extern const struct slc__place_ops slc__publisher_place;
/* Goes over to the channel that it was opened on anew, as far as all is there that is needed.  The statuses of
 * slc_publisher_open: it can't.  In the handle's thread and turn, as the following. */
int slc__publisher_move(slc_publisher *publisher);
/* For a call that needs what a broker that is no more had: waits for the next one, and goes over.  0: it has; SLC_GONE:
 * it is where it belongs; else as slc__publisher_move, SLC_BROKER_GONE. */
int slc__publisher_follow(slc_publisher *publisher);
/* Ends a loan on an earlier channel; false: it is none. */
bool slc__publisher_past_end(slc_publisher *publisher, const slc_loan *loan);

/* ---- publisher.c --- */

/* What a channel begins with. */
int slc__publisher_send_activation(slc_publisher *publisher);

static inline uint64_t slc__loan_name(uint32_t token, uint32_t slot) {
  return (uint64_t)token << 32 | slot;
}

static inline uint32_t slc__loan_slot(const struct slc__loan_entry *entry) {
  return (uint32_t)entry->name;
}

/* The entry of a loan from which `size` bytes, at least one, can be published; NULL: it has not so many, or is none of
 * this stand's. */
static inline struct slc__loan_entry *slc__loan_find(const struct slc__stand *stand, const slc_loan *loan,
                                                     uint64_t size) {
  struct slc__loan_entry *entry = &stand->loans[loan->token & (stand->token_step - 1)];
  bool is_found = entry->name == slc__loan_name(loan->token, loan->slot) && size - 1 < entry->spot.capacity;
  return is_found ? entry : NULL;
}

#endif

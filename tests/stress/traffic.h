/* Publishers and subscribers on the public API, for processes of a crew: what they send knows whether it is whole, and
 * they check all that they see.  A failed check ends the process (crew.h). */
#ifndef SLC_TEST_TRAFFIC_H
#define SLC_TEST_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#include <slotcast/slotcast.h>

#include "support/content.h"

enum { TRAFFIC_LIVES = 2048, TRAFFIC_HOLDS = 8 };

/* A publisher and its series of messages.  Each publisher there ever is in a test has a number of its own, its life;
 * its messages count from 0. */
struct traffic_writer {
  slc_publisher *publisher;
  uint32_t life;
  uint64_t sequence;  /* of the next message */
  uint64_t slot_size; /* of the channel */
};

/* Waits for a slot where it must. */
void traffic_send(struct traffic_writer *writer, uint64_t *ret_ordinal);

struct traffic_reader {
  slc_subscriber *subscriber;
  uint64_t slot_size;                          /* of the channel */
  bool gapless;                                /* reliable: nothing may be missing since its first message */
  bool complete;                               /* and its first message is the channel's first */
  bool newest;                                 /* takes the newest only; not gapless then */
  uint32_t max_held;                           /* keeps as many before it gives the oldest back, 1 .. TRAFFIC_HOLDS */
  void (*seen)(struct traffic_reader *reader); /* called with each message while it is held; NULL: nothing */
  int fd;                                      /* the readiness descriptor to wait on; -1: slc_subscriber_wait */
  slc_message held[TRAFFIC_HOLDS];             /* a ring, the oldest first */
  uint32_t held_first, held_count;
  uint64_t received;
  uint64_t start, last;           /* the first ordinal that it has a claim to, and the latest it got */
  uint64_t order;                 /* a hash of all (ordinal, life, sequence): equal for those who saw the same */
  uint64_t next[TRAFFIC_LIVES];   /* per life, the least sequence that may come; 0: none came yet */
  uint32_t number[TRAFFIC_LIVES]; /* per life, the publisher's number on the channel */
};

/* After slot_size and the flags: opens it as they say, and its readiness descriptor if `use_fd`. */
void traffic_open(struct traffic_reader *reader, slc_client *client, const char *channel, bool use_fd);
/* One message, checked; when max_held are held then, the oldest is checked again and given back.  False: empty. */
bool traffic_take(struct traffic_reader *reader);
/* Checks what is held once more. */
void traffic_look_again(const struct traffic_reader *reader);
void traffic_release_all(struct traffic_reader *reader);
/* Until there may be something; holds nothing meanwhile. */
void traffic_wait(struct traffic_reader *reader);
/* Takes until `over` says so and nothing is left. */
void traffic_run(struct traffic_reader *reader, bool (*over)(struct traffic_reader *reader));
slc_subscriber_stats traffic_stats(struct traffic_reader *reader);

#endif

/* Actors: a publisher or a subscriber that does what a test tells it, in the test's own process or in one of its own.
 * A behaviour is written once in their terms and doesn't see where they live.
 *
 * A process of its own is forked before anybody connects; what it is told and what it answers goes over a socket pair.
 * Options may point to static data and functions: the image is the same.  Thread: the test's, but for what
 * actor_begin runs. */
#ifndef SLC_TEST_ACTOR_H
#define SLC_TEST_ACTOR_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "slotcast/slotcast.h"

enum {
  ACTOR_MESSAGES = 64, /* held, or on loan, at once */
};

enum actor_op {
  ACTOR_OPEN_PUBLISHER,
  ACTOR_OPEN_SUBSCRIBER,
  ACTOR_CLOSE,
  ACTOR_LOAN,
  ACTOR_PUBLISH,
  ACTOR_DISCARD,
  ACTOR_SEND,
  ACTOR_RETIRED,
  ACTOR_PUBLISHER_WAIT,
  ACTOR_TAKE,
  ACTOR_TAKE_NEWEST,
  ACTOR_TAKE_MANY,
  ACTOR_FIND,
  ACTOR_FIND_TIME,
  ACTOR_TAKE_WEAK,
  ACTOR_CHECK,
  ACTOR_RELEASE,
  ACTOR_SUBSCRIBER_WAIT,
  ACTOR_IS_READABLE,
  ACTOR_PUBLISHER_STATS,
  ACTOR_SUBSCRIBER_STATS,
};

/* What is asked of an actor; each op reads what it needs. */
struct actor_call {
  enum actor_op op;
  char channel[64];
  slc_publisher_options publisher;
  slc_subscriber_options subscriber;
  uint32_t key;   /* of a loan or a message */
  uint64_t stamp; /* what to write: makes the bytes of a message, together with their size */
  uint64_t count; /* of messages: stamp, stamp + 1, .. */
  size_t size;
  int64_t timeout_ns;
  uint64_t at; /* an ordinal, or a time in ns */
  uint32_t slot;
  bool or_later;
};

/* What it says. */
struct actor_answer {
  int status;
  uint32_t key;
  size_t capacity;
  uint64_t done; /* messages sent before status; taken, with the keys from `key` on */
  uint64_t stamp;
  bool is_whole; /* the bytes are those of stamp and size */
  uint64_t metadata_stamp;
  slc_message message;
  slc_publisher_stats publisher_stats;
  slc_subscriber_stats subscriber_stats;
};

/* One actor's things, in whichever process they are. */
struct actor_state {
  slc_client *client;
  bool is_client_own;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_loan loans[ACTOR_MESSAGES];
  slc_message messages[ACTOR_MESSAGES];
  bool is_on_loan[ACTOR_MESSAGES], is_held[ACTOR_MESSAGES];
};

struct actor {
  pid_t pid; /* 0: lives here */
  int socket;
  struct actor_state state; /* when it lives here */
  pthread_t thread;         /* of a call begun here */
  struct actor_call call;
  struct actor_answer answer;
};

/* `client`: shared with others in this process; NULL: a process of its own, with its own client. */
void actor_start(struct actor *actor, slc_client *client);
/* Closes what it has open and ends it. */
void actor_end(struct actor *actor);
/* SIGKILL, and waits for its end; what lives here closes its handles instead. */
void actor_kill(struct actor *actor);

struct actor_answer actor_do(struct actor *actor, const struct actor_call *call);
/* The same in two: what is begun goes on meanwhile. */
void actor_begin(struct actor *actor, const struct actor_call *call);
struct actor_answer actor_finish(struct actor *actor);

#endif

/* The connection to the broker: requests, their answers, and what the broker pushes.
 *
 * Whoever needs something from the broker reads the socket, and dispatches whatever lies there, also for others: an
 * answer to the request that waits for it, a push to the handle that it names. */
#ifndef SLC__CLIENT_CONNECTION_H
#define SLC__CLIENT_CONNECTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guard.h"
#include "received.h"
#include "slotcast/slotcast.h"

/* Consumes an answer; runs under the lock in whichever thread reads it, so that a push that follows at once already
 * finds what the answer made.  Never called for a Refusal. */
typedef int (*slc__answer_fn)(void *ctx, struct slc__received *received);

struct slc__request;

struct slc_client {
  struct slc__guard guard;
  char *socket_path;
  int fd; /* open until the client is closed, also when the broker has gone: other threads may be polling it */
  struct slc__origin origin;

  pthread_mutex_t request_lock; /* one request at a time; taken before `lock` */
  uint64_t serial;              /* under request_lock */
  int64_t request_timeout_ns;   /* negative: none */
  _Atomic bool is_late;         /* the broker has not answered the last request in time */
  uint8_t *send_buffer;         /* under request_lock */

  pthread_mutex_t lock; /* never held while waiting for anything */
  uint8_t *receive_buffer;
  struct slc__request *waiting;
  slc_publisher *publishers;
  slc_subscriber *subscribers;
  char *why_gone;    /* the sentence; NULL: the broker just went */
  _Atomic bool gone; /* set under lock, read anywhere */
};

/* Connects to socket_path (NULL: there was no memory for it) within request_timeout_ns, without saying hello.  The
 * statuses of slc_client_open.
 */
int slc__connection_open(slc_client *client);
void slc__connection_close(slc_client *client);

/* Sends a request and waits for its answer.  The message's serial is set here.  A Refusal becomes its status and
 * sentence; SLC_INVALID, SLC_BROKER_GONE, SLC_TIMED_OUT, SLC_NO_DESCRIPTORS; else what `answer` returned.  Takes both
 * locks. */
int slc__request(slc_client *client, Slotcast__Message *message, int fd, slc__answer_fn answer, void *ctx);
/* The same with descriptors, which the message's manifest names; they stay the caller's. */
int slc__request_with(slc_client *client, Slotcast__Message *message, const int *fds, size_t fd_count,
                      slc__answer_fn answer, void *ctx);
/* For requests whose answer is Done. */
int slc__request_done(slc_client *client, Slotcast__Message *message, int fd);
/* Says goodbye for one publisher or subscriber; where the broker hangs, without waiting for its answer. */
int slc__request_close_user(slc_client *client, uint64_t user);
/* The sentence for an answer that does not belong to its request. */
int slc__answer_unexpected(const struct slc__received *received);

/* Dispatches everything that lies in the socket, without waiting; the lock must be held. */
void slc__connection_drain(slc_client *client);
/* The same, taking the lock. */
void slc__connection_visit(slc_client *client);
/* Waits until the socket may have something, another thread may have read it, or the deadline; at most `slice_ns`. */
void slc__connection_wait(slc_client *client, int64_t deadline, int64_t slice_ns);
/* SLC_BROKER_GONE with its sentence; takes the lock. */
int slc__connection_gone(slc_client *client);

#endif

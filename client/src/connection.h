/* The connection to the broker: requests, their answers, and what the broker pushes.
 *
 * Whoever needs something from the broker reads the socket, and dispatches whatever lies there, also for others: an
 * answer to the request that waits for it, a push to the handle that it names.  When the connection has ended, whoever
 * reads makes it anew (reconnect.h). */
#ifndef SLC__CLIENT_CONNECTION_H
#define SLC__CLIENT_CONNECTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guard.h"
#include "received.h"
#include "reconnect.h"
#include "slotcast/slotcast.h"

/* Consumes an answer; runs under the lock in whichever thread reads it, so that a push that follows at once already
 * finds what the answer made.  Never called for a Refusal. */
typedef int (*slc__answer_fn)(void *ctx, struct slc__received *received);

struct slc__request;

struct slc_client {
  struct slc__guard guard;
  char *socket_path;
  char *name;   /* as the broker is told */
  int fd;       /* the socket, or what tells when to try again: the same number until the client is closed */
  int epoll_fd; /* over it, for the application's loop; -1: not asked for.  Under lock */
  struct slc__origin origin;

  pthread_mutex_t request_lock; /* one request at a time; taken before `lock` */
  uint64_t serial;              /* under request_lock */
  int64_t request_timeout_ns;   /* negative: none */
  int64_t answer_poll_ns;       /* an answer is polled for so long before anybody sleeps */
  _Atomic bool is_late;         /* the broker has not answered the last request in time */
  uint8_t *send_buffer;         /* under request_lock */

  pthread_mutex_t lock; /* never held while waiting for anything */
  uint8_t *receive_buffer;
  struct slc__request *waiting;
  slc_publisher *publishers;
  slc_subscriber *subscribers;
  char *why_gone;       /* the sentence; NULL: the broker just went */
  _Atomic bool gone;    /* no requests can be made now; set under lock, read anywhere */
  uint64_t losses;      /* counts the ends of connections: an answer comes on that of its request or not at all */
  uint64_t back_serial; /* of the requests of reconnect.c */
  struct slc__reconnect back;
};

/* Connects to socket_path (NULL: there was no memory for it) within request_timeout_ns, without saying hello.  The
 * statuses of slc_client_open.
 */
int slc__connection_open(slc_client *client);
void slc__connection_close(slc_client *client);

/* Sends a request and waits for its answer; where there is no connection, waits for one first, and where it ends, says
 * the request again, unless it is one that must not be.  The message's serial is set here, and the user that it names
 * is replaced by the broker's number.  A Refusal becomes its status and sentence; SLC_INVALID, SLC_BROKER_GONE,
 * SLC_TIMED_OUT, SLC_NO_DESCRIPTORS; SLC_GONE: for a user of a broker that is no more; else what `answer` returned.
 * Takes both locks. */
int slc__request(slc_client *client, Slotcast__Message *message, int fd, slc__answer_fn answer, void *ctx);
/* The same with descriptors, which the message's manifest names; they stay the caller's.  *ret_is_repeated, also when
 * it fails: it was said more than once, and a broker may have done what a later one, or a later try, has refused. */
int slc__request_with(slc_client *client, Slotcast__Message *message, const int *fds, size_t fd_count,
                      slc__answer_fn answer, void *ctx, bool *ret_is_repeated);
/* For requests whose answer is Done. */
int slc__request_done(slc_client *client, Slotcast__Message *message, int fd);
/* Says goodbye for one publisher or subscriber; where the broker hangs, without waiting for its answer, and where it
 * has gone, when it is back. */
void slc__request_close_place(slc_client *client, const struct slc__place *place);
/* The sentence for an answer that does not belong to its request. */
int slc__answer_unexpected(const struct slc__received *received);

/* Dispatches everything that lies in the socket, without waiting; the lock must be held.  Why there is nothing more to
 * read now: SLC__NET_AGAIN, SLC__NET_CLOSED, SLC_NO_DESCRIPTORS (something is there), another failure; 0: there is no
 * connection. */
int slc__connection_drain(slc_client *client);
/* The same, taking the lock; then tells the application. */
void slc__connection_visit(slc_client *client);
/* For those who wait anyway: where the connection is being made anew, goes on with that for a little while. */
void slc__connection_visit_long(slc_client *client, int64_t deadline);
/* Waits until the socket may have something, another thread may have read it, or the deadline; at most `slice_ns`. */
void slc__connection_wait(slc_client *client, int64_t deadline, int64_t slice_ns);
/* SLC_BROKER_GONE with its sentence; takes the lock. */
int slc__connection_gone(slc_client *client);
/* Whether requests would still wait for the broker to come back. */
bool slc__connection_is_awaited(slc_client *client);
/* Whether this user is one of the broker's that answers now, or of none yet; false: of one that is no more. */
bool slc__connection_has(slc_client *client, uint64_t user);

/* For reconnect.c, under the lock: nothing more comes on this connection; `why` may be NULL. */
void slc__connection_lose(slc_client *client, const char *why);
/* Requests may be made again. */
void slc__connection_found(slc_client *client);
/* A user that can't be used goes again; without waiting. */
void slc__connection_give_back(slc_client *client, uint64_t wire_user);
/* The user that an answer opened or gave back, in the broker's number; 0: none. */
uint64_t slc__user_opened(const Slotcast__Message *message);
/* Its status, with its sentence. */
int slc__refusal_status(const Slotcast__Refusal *refusal);

/* client.c: the hello, and what its answer says. */
int slc__hello_encode(const slc_client *client, uint64_t serial, uint8_t *buffer, size_t capacity, size_t *ret_size);
int slc__hello_answered(void *client, struct slc__received *received);

#endif

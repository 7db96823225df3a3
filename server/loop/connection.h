/* One SEQPACKET connection on a libuv loop: datagrams with descriptors in and out.
 *
 * libuv's own pipes carry only its own handle types and never look at MSG_CTRUNC, so this is recvmsg and sendmsg behind
 * uv_poll_t.  Knows nothing of what is in a datagram.  Thread: the loop's. */
#ifndef SLC__LOOP_CONNECTION_H
#define SLC__LOOP_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "net/seqpacket.h"

struct slc__connection;

struct slc__connection_events {
  /* A datagram; descriptors that are not taken are closed afterwards. */
  void (*received)(void *owner, const void *data, size_t size, struct slc__fds *fds);
  /* A send that answered SLC__NET_AGAIN may succeed now. */
  void (*writable)(void *owner);
  /* The peer has closed (status 0) or broke the rules (negative; slc__error_detail says how).  The owner closes. */
  void (*ended)(void *owner, int status);
};

/* What may not go out yet: a datagram carries the stage that it was sent in, and waits until that is released.  Its
 * owner raises the stage while something is going on that peers must not know of before it is on record. */
struct slc__hold {
  uint64_t stage;                       /* of what is sent now */
  uint64_t released;                    /* stages up to this one go out at once */
  LIST_HEAD(, slc__connection) waiting; /* those with datagrams that are held */
};
void slc__hold_init(struct slc__hold *hold);
/* Sends what waited for stages up to this one. */
void slc__hold_release(struct slc__hold *hold, uint64_t stage);

/* Takes over `fd`.  SLC_NO_MEMORY, SLC_SYSTEM: then fd is closed. */
int slc__connection_open(uv_loop_t *loop, int fd, const struct slc__connection_events *events, void *owner,
                         struct slc__connection **ret_connection);
/* From now on everything that is sent is subject to this hold, which outlives the connection. */
void slc__connection_hold(struct slc__connection *connection, struct slc__hold *hold);
/* No event comes afterwards; what was queued is lost. */
void slc__connection_close(struct slc__connection *connection);

/* The peer has closed, though what it sent before may still be there to be read. */
bool slc__connection_is_over(const struct slc__connection *connection);

/* Ends the conversation from the middle of something: `ended` comes later, from the loop. */
void slc__connection_abort(struct slc__connection *connection);

/* Nothing more will be sent: the peer sees the end after what is queued, and what it says is read until its own end.
 * (A close with something unread would take from the peer what it has not read yet.) */
void slc__connection_finish(struct slc__connection *connection);

/* Sends now, or answers SLC__NET_AGAIN and calls `writable` later.  Nothing is sent past what is queued.  While it is
 * held, it is queued like any other. */
int slc__connection_try_send(struct slc__connection *connection, const void *data, size_t size, const int *fds,
                             size_t fd_count);
/* Sends now or queues a copy (descriptors duplicated).  SLC_LIMIT: the queue is full, the peer does not read. */
int slc__connection_send(struct slc__connection *connection, const void *data, size_t size, const int *fds,
                         size_t fd_count);

#endif

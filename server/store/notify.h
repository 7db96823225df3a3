/* The socket of the service manager (systemd's notify protocol), without waiting: messages with descriptors, and
 * barriers, which say when the manager has taken all that was sent before.  sd_notify(3) waits where the socket is
 * full. Thread: the loop's. */
#ifndef SLC__STORE_NOTIFY_H
#define SLC__STORE_NOTIFY_H

#include <stdbool.h>
#include <uv.h>

struct slc__notify;

struct slc__notify_events {
  void (*writable)(void *owner); /* after an SLC__NET_AGAIN */
  void (*reached)(void *owner);  /* the barrier was */
};

/* Whether there is a manager. */
bool slc__notify_is_there(void);
/* SLC_INVALID (there is none), SLC_DENIED, SLC_NO_MEMORY, SLC_NO_DESCRIPTORS, SLC_SYSTEM. */
int slc__notify_open(uv_loop_t *loop, const struct slc__notify_events *events, void *owner,
                     struct slc__notify **ret_notify);
/* Takes NULL.  No event comes afterwards. */
void slc__notify_close(struct slc__notify *notify);

/* `fd`: -1: none.  SLC__NET_AGAIN: `writable` comes.  SLC_SYSTEM..: the manager does not listen. */
int slc__notify_send(struct slc__notify *notify, const char *text, int fd);
/* `reached` comes; one at a time.  The same statuses. */
int slc__notify_barrier(struct slc__notify *notify);

#endif

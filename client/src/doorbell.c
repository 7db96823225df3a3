/* The readiness descriptor of a publisher is the receiving end of a SEQPACKET pair.  The sending end goes, by way of
 * the broker, to everybody who may free a slot or evict a message, and they ring it when the publisher's line in
 * control says so; the broker rings it when users come or go.
 *
 * It is emptied only to be armed anew, and then looked at what is waited for once more: so it is readable whenever
 * there may be something, and a ring that comes at any moment between is not lost.  Thread: the publisher's. */
#include "doorbell.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "shm/retire.h"

void slc__doorbell_wake(const struct slc__doorbell *doorbell) {
  send(doorbell->ring_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int give_to_broker(slc_client *client, uint64_t user, int ring_fd) {
  Slotcast__SetDoorbell body = SLOTCAST__SET_DOORBELL__INIT;
  body.user = user;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_SET_DOORBELL;
  message.set_doorbell = &body;
  return slc__request_done(client, &message, ring_fd);
}

int slc__doorbell_open(struct slc__doorbell *doorbell, slc_client *client, uint64_t user) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
    return slc__fail(slc__status_of_errno(errno), "socketpair for a readiness descriptor: %s", strerror(errno));
  SLC__CLEANUP_FD int fd = pair[0];
  SLC__CLEANUP_FD int ring_fd = pair[1];
  int status = give_to_broker(client, user, ring_fd);
  if (status != 0) return status;
  slc__watch_begin();
  pthread_mutex_lock(&client->lock); /* another thread may be opening the publisher anew, and gives it to the broker */
  doorbell->fd = slc__fd_take(&fd);
  doorbell->ring_fd = slc__fd_take(&ring_fd);
  pthread_mutex_unlock(&client->lock);
  slc__doorbell_wake(doorbell);
  return 0;
}

void slc__doorbell_close(struct slc__doorbell *doorbell) {
  slc__fd_close(&doorbell->fd);
  slc__fd_close(&doorbell->ring_fd);
}

bool slc__doorbell_rearm(struct slc__doorbell *doorbell, struct slc__pub *pub) {
  uint8_t rung[8];
  uint32_t wants = (pub->retire != NULL ? SLC__WANTS_EVICTED : 0) | (doorbell->is_blocked ? SLC__WANTS_SLOT : 0);
  while (recv(doorbell->fd, rung, sizeof rung, MSG_DONTWAIT) > 0) {
  }
  slc__pub_arm(pub, wants);
  bool found = (pub->retire != NULL && slc__retire_look(pub)) || (doorbell->is_blocked && slc__pub_ready(pub));
  if (found) slc__doorbell_wake(doorbell);
  return !found;
}

/* From one broker to the next, over a SEQPACKET socket between them: where it listens, the lock, and what it knows.
 * Then a word in each direction: the new one says that it understood everything, the old one that it is over.  Each
 * waits only as long as the socket's time-outs say.  Thread: main. */
#ifndef SLC__STORE_HANDOVER_H
#define SLC__STORE_HANDOVER_H

#include "store/image.h"

struct slc__handover {
  int listen_fd, lock_fd;
  bool is_managers; /* the socket is the service manager's */
  struct slc__image image;
};

enum slc__handover_word { SLC__HANDOVER_READY = 1, SLC__HANDOVER_GO = 2 };

void slc__handover_init(struct slc__handover *handover);
/* Closes what it has: of one that was sent only the log. */
void slc__handover_deinit(struct slc__handover *handover);

/* SLC_TIMED_OUT, SLC_NO_BROKER (the other one has gone), SLC_SYSTEM.. */
int slc__handover_send(int socket, const struct slc__handover *handover);
/* Those and SLC_VERSION, SLC_PROTOCOL, SLC_NO_MEMORY, SLC_NO_DESCRIPTORS.  All of it is ours then. */
int slc__handover_receive(int socket, struct slc__handover *ret_handover);

int slc__handover_say(int socket, enum slc__handover_word word);
int slc__handover_hear(int socket, enum slc__handover_word word);

#endif

/* Who is at the other end of a socket, as the kernel says.  Thread: any. */
#ifndef SLC__NET_PEER_H
#define SLC__NET_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct slc__peer {
  pid_t pid; /* 0: in a pid namespace that we don't see */
  uid_t uid;
  gid_t gid;
  int pidfd;        /* SO_PEERPIDFD, else pidfd_open of the peer's pid; owned */
  char program[64]; /* of /proc/pid/comm, printable; "?" when unknown */
};

/* 0, or a status (SLC_NO_DESCRIPTORS, SLC_SYSTEM).  The pidfd of a peer already dead is readable at once; one that has
 * been reaped, too, is SLC_SYSTEM where the kernel (before 6.16) has no pidfd of it. */
int slc__peer_of_socket(int fd, struct slc__peer *ret_peer);
void slc__peer_deinit(struct slc__peer *peer);
/* Whether the process of this pidfd has ended (poll readable). */
bool slc__pidfd_dead(int pidfd);

#endif

/* Who is at the other end, as the kernel says.  Never by what a client reports of itself.  Any thread. */
#include "net/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/error.h"

#ifndef SO_PEERPIDFD /* Linux 6.5 */
#define SO_PEERPIDFD 77
#endif

/* SO_PEERPIDFD names the process that connected, even if its pid has been used again since.  Only a kernel that does
 * not know it may be asked by pid: any other error (the process is gone and reaped, no descriptor is free) would come
 * back as somebody else's pidfd. */
static int open_pidfd(int fd, pid_t pid) {
  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0) return pidfd;
  if (errno != ENOPROTOOPT || pid <= 0) return -1;
  return (int)syscall(SYS_pidfd_open, pid, 0U);
}

/* The name is the process's own choice: only printable ASCII is kept, whatever the locale.  A pid names the peer only
 * while that lives; so whether it does is looked at afterwards. */
static void read_program(pid_t pid, int pidfd, char *program, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
  SLC__CLEANUP_FD int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  ssize_t length = fd >= 0 ? read(fd, program, size - 1) : 0;
  program[length > 0 ? length : 0] = '\0';
  program[strcspn(program, "\n")] = '\0';
  if (program[0] == '\0' || slc__pidfd_dead(pidfd)) snprintf(program, size, "?");
  for (char *c = program; *c != '\0'; c++) {
    if (*c < ' ' || *c > '~') *c = '?';
  }
}

int slc__peer_of_socket(int fd, struct slc__peer *ret_peer) {
  struct ucred credentials;
  socklen_t size = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return slc__fail(SLC_SYSTEM, "cannot ask who a peer is: %s", strerror(errno));
  int pidfd = open_pidfd(fd, credentials.pid);
  if (pidfd < 0)
    return slc__fail(slc__status_of_errno(errno), "cannot watch process %d: %s", (int)credentials.pid, strerror(errno));
  *ret_peer =
      (struct slc__peer){.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid, .pidfd = pidfd};
  read_program(credentials.pid, pidfd, ret_peer->program, sizeof ret_peer->program);
  return SLC_OK;
}

void slc__peer_deinit(struct slc__peer *peer) {
  slc__fd_close(&peer->pidfd);
}

bool slc__pidfd_dead(int pidfd) {
  struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
  return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLIN) != 0;
}

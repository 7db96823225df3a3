/* Descriptors passed and mapped.  Nothing here knows Slotcast.  The sender has all of them before the time begins, the
 * receiver keeps them until it ends, as a broker would.  Thread: main, of each process. */
#include "passing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"
#include "crew.h"

enum { TOGETHER = 2, PACKET = 128, PAGE = 4096 };

const char passing_name[] = "as many descriptors over a bare socket, mapped";

struct passing {
  struct barrier barrier;
  uint64_t descriptors;
  int sockets[2];
  int64_t elapsed_ns;
};

/* With its room for descriptors, of which the first `count` count. */
struct packet {
  char data[PACKET];
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(TOGETHER * sizeof(int))];
  struct iovec part;
  struct msghdr message;
};

static void packet_init(struct packet *packet, size_t count) {
  memset(packet, 0, sizeof *packet);
  packet->part = (struct iovec){.iov_base = packet->data, .iov_len = sizeof packet->data};
  packet->message = (struct msghdr){.msg_iov = &packet->part,
                                    .msg_iovlen = 1,
                                    .msg_control = packet->control,
                                    .msg_controllen = CMSG_SPACE(count * sizeof(int))};
}

static size_t part_at(const struct passing *passing, uint64_t done) {
  uint64_t left = passing->descriptors - done;
  return left < TOGETHER ? (size_t)left : TOGETHER;
}

/* ---- the sender ---- */

static int page_new(void) {
  int fd = memfd_create("slotcast-bench", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, PAGE) != 0) worker_fail("cannot make memory to pass");
  return fd;
}

static void pass(int socket, const int *fds, size_t count) {
  struct packet packet;
  packet_init(&packet, count);
  struct cmsghdr *header = CMSG_FIRSTHDR(&packet.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  if (sendmsg(socket, &packet.message, MSG_NOSIGNAL) < 0) worker_fail("cannot pass descriptors");
}

static void run_sender(void *shared, unsigned number) {
  struct passing *passing = shared;
  int *fds = calloc(passing->descriptors + 1, sizeof *fds);
  (void)number;
  if (fds == NULL) worker_fail("no memory for descriptors");
  for (uint64_t i = 0; i < passing->descriptors; i++) fds[i] = page_new();
  barrier_wait(&passing->barrier);
  for (uint64_t i = 0; i < passing->descriptors; i += TOGETHER) pass(passing->sockets[0], fds + i, part_at(passing, i));
  free(fds);
}

/* ---- the receiver ---- */

static void map(int fd) {
  if (mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED) worker_fail("cannot map");
}

static void receive(int socket, size_t count) {
  struct packet packet;
  int fds[TOGETHER];
  packet_init(&packet, TOGETHER);
  if (recvmsg(socket, &packet.message, MSG_CMSG_CLOEXEC) < 0) worker_fail("cannot receive descriptors");
  const struct cmsghdr *header = CMSG_FIRSTHDR(&packet.message);
  errno = EMFILE;
  if (header == NULL || header->cmsg_len != CMSG_LEN(count * sizeof(int))) worker_fail("descriptors are missing");
  memcpy(fds, CMSG_DATA(header), count * sizeof(int));
  for (size_t i = 0; i < count; i++) map(fds[i]);
}

static void run_receiver(void *shared, unsigned number) {
  struct passing *passing = shared;
  (void)number;
  barrier_wait(&passing->barrier);
  int64_t before = now_ns();
  for (uint64_t i = 0; i < passing->descriptors; i += TOGETHER) receive(passing->sockets[1], part_at(passing, i));
  passing->elapsed_ns = now_ns() - before;
}

int bare_passing(const struct bench *bench, uint64_t descriptors, double *ret_ns) {
  static const struct role roles[] = {{run_sender, 1, true}, {run_receiver, 1, true}};
  struct passing *passing = shared_new(sizeof *passing);
  if (passing == NULL) return EXIT_FAILED;
  passing->barrier.parties = 2;
  passing->descriptors = descriptors;
  int code = EXIT_OK;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, passing->sockets) != 0) {
    code = fail(EXIT_FAILED, "cannot make a pair of sockets: %s", strerror(errno));
  } else {
    code = crew_run(bench, roles, 2, passing);
    close(passing->sockets[0]);
    close(passing->sockets[1]);
  }
  if (code == EXIT_OK) *ret_ns = (double)passing->elapsed_ns;
  shared_free(passing, sizeof *passing);
  return code;
}

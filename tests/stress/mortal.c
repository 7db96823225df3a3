/* Preloaded into a process: it is killed before or after one of its messages, which one a page says.  Any thread. */
#include "stress/mortal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct mortal_page *page;

/* Its children live. */
__attribute__((constructor)) static void find_page(void) {
  const char *path = getenv(MORTAL_PAGE);
  int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *mapped = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (mapped != MAP_FAILED) page = mapped;
  unsetenv(MORTAL_PAGE);
  unsetenv("LD_PRELOAD");
}

static void pass_moment(void) {
  if (page == NULL) return;
  uint32_t now = atomic_fetch_add(&page->count, 1) + 1;
  if (atomic_compare_exchange_strong(&page->at, &now, MORTAL_DIES))
    kill(getpid(), atomic_load(&page->stops) != 0 ? SIGSTOP : SIGKILL);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  pass_moment();
  ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
  if (sent >= 0) pass_moment();
  return sent;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  ssize_t received = syscall(SYS_recvmsg, fd, message, flags);
  if (received > 0) pass_moment();
  return received;
}

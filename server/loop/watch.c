/* See watch.h.
 *
 * libuv (1.44) grows its table of watchers in uv_poll_start and adds the descriptor to its epoll set when the loop next
 * polls; where there is no memory for the one, or no place for the other (ENOMEM, ENOSPC: max_user_watches), it aborts.
 * So both are made sure of before: memory is kept in reserve that its realloc falls back to, and the descriptor is
 * added here, since libuv takes one that is there already as its own.  Thread: the loop's; there is one. */
#include "loop/watch.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/error.h"

enum { FIRST_DESCRIPTORS = 64 };

static struct {
  void *memory;
  size_t size;
} reserve;

/* Room for a table with `fd` in it: that is as long as the power of two above it. */
static int reserve_for(int fd) {
  size_t size = 2 * ((size_t)fd + 3) * sizeof(void *);
  if (size <= reserve.size) return SLC_OK;
  void *memory = malloc(size);
  if (memory == NULL) return slc__fail(SLC_NO_MEMORY, "no memory to watch descriptor %d", fd);
  free(reserve.memory);
  reserve.memory = memory;
  reserve.size = size;
  return SLC_OK;
}

static void *realloc_or_reserve(void *memory, size_t size) {
  void *grown = realloc(memory, size);
  if (grown != NULL || size == 0 || size > reserve.size) return grown;
  grown = reserve.memory;
  reserve.memory = NULL;
  reserve.size = 0;
  size_t old = malloc_usable_size(memory);
  if (memory != NULL) memcpy(grown, memory, old < size ? old : size);
  free(memory);
  return grown;
}

static int add_to_set(const uv_loop_t *loop, int fd) {
  struct epoll_event nothing = {.data.fd = fd};
  if (epoll_ctl(uv_backend_fd(loop), EPOLL_CTL_ADD, fd, &nothing) == 0) return SLC_OK;
  return slc__fail(slc__status_of_errno(errno), "cannot watch a descriptor: %s", strerror(errno));
}

int slc__loop_init(uv_loop_t *loop) {
  uv_replace_allocator(malloc, realloc_or_reserve, calloc, free);
  int status = reserve_for(FIRST_DESCRIPTORS);
  if (status != SLC_OK) return status;
  int error = uv_loop_init(loop);
  if (error != 0) return slc__fail(slc__status_of_errno(-error), "cannot make an event loop: %s", strerror(-error));
  /* Its own: signals, and wake-ups by other threads. */
  for (unsigned fd = 0; fd < loop->nwatchers && status == SLC_OK; fd++)
    if (loop->watchers[fd] != NULL) status = add_to_set(loop, (int)fd);
  return status;
}

int slc__loop_watch(uv_poll_t *poll, int fd, int events, uv_poll_cb callback) {
  uv_poll_stop(poll);
  if (events == 0) return SLC_OK;
  if ((unsigned)fd >= poll->loop->nwatchers) {
    int status = reserve_for(fd);
    if (status != SLC_OK) return status;
  }
  uv_poll_start(poll, events, callback); /* takes the descriptor out of the set, so it is added afterwards */
  int status = add_to_set(poll->loop, fd);
  if (status != SLC_OK) uv_poll_stop(poll);
  return status;
}

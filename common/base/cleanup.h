/* Owning locals: a cleanup attribute from birth, handed over with a take-helper. */
#ifndef SLC__BASE_CLEANUP_H
#define SLC__BASE_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static inline void slc__fd_close(int *fd) {
  int saved = errno;
  if (*fd >= 0) close(*fd);
  *fd = -1;
  errno = saved;
}
static inline int slc__fd_take(int *fd) {
  int taken = *fd;
  *fd = -1;
  return taken;
}
static inline void slc__memory_free(void *pointer) {
  void *memory = *(void **)pointer;
  free(memory);
}
static inline void *slc__pointer_take(void *pointer) {
  void *taken = *(void **)pointer;
  *(void **)pointer = NULL;
  return taken;
}

#define SLC__CLEANUP_FD __attribute__((cleanup(slc__fd_close)))
#define SLC__CLEANUP_FREE __attribute__((cleanup(slc__memory_free)))
#define SLC__CLEANUP(function) __attribute__((cleanup(function)))

#endif

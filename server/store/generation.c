/* The generation file: a decimal number and a newline.  Written beside and renamed, so that it is never half there.  It
 * is not synced: what it speaks of lives in memory, and ends with the machine as it does.  Thread: any. */
#include "store/generation.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"

enum { TEXT_MAX = 32 };

static int fail(const char *what, const char *path) {
  return slc__fail(slc__status_of_errno(errno), "cannot %s %s: %s", what, path, strerror(errno));
}

static int parse(const char *text, const char *path, uint64_t *ret_generation) {
  char *end;
  errno = 0;
  uint64_t generation = strtoull(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || errno != 0 || strcmp(end, "\n") != 0)
    return slc__fail(SLC_INVALID, "no number is in %s", path);
  *ret_generation = generation;
  return SLC_OK;
}

int slc__generation_read(const char *path, uint64_t *ret_generation) {
  char text[TEXT_MAX];
  SLC__CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 && errno == ENOENT) {
    *ret_generation = 0;
    return SLC_OK;
  }
  ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (size < 0) return fail("read", path);
  text[size] = '\0';
  return parse(text, path, ret_generation);
}

static int write_at(const char *path, uint64_t generation) {
  char text[TEXT_MAX];
  int size = snprintf(text, sizeof text, "%" PRIu64 "\n", generation);
  SLC__CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 || write(fd, text, (size_t)size) != size) return fail("write", path);
  return SLC_OK;
}

int slc__generation_write(const char *path, uint64_t generation) {
  char beside[PATH_MAX];
  int length = snprintf(beside, sizeof beside, "%s.new", path);
  if (length < 0 || (size_t)length >= sizeof beside) return slc__fail(SLC_INVALID, "the path is too long: %s", path);
  int status = write_at(beside, generation);
  if (status == SLC_OK && rename(beside, path) != 0) status = fail("rename to", path);
  if (status != SLC_OK) unlink(beside);
  return status;
}

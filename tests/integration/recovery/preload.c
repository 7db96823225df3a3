/* Lies to a broker about what it was handed: $SLOTCAST_TEST_FAULT is "newer" (the log is of a later version than it
 * knows) or "damaged" (a byte of a channel's record is another).  For LD_PRELOAD. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t pread64(int fd, void *buffer, size_t size, off_t offset);

enum { HEADER_SIZE = 32, VERSION_AT = 8, LATER = 99 };

static void damage(unsigned char *bytes, size_t size) {
  static const char key[] = "2channel/";
  unsigned char *record = size > HEADER_SIZE ? memmem(bytes, size, key, sizeof key - 1) : NULL;
  if (record != NULL) record[sizeof key + 16] ^= 1U;
}

ssize_t pread(int fd, void *buffer, size_t size, off_t offset) {
  const char *fault = getenv("SLOTCAST_TEST_FAULT");
  uint32_t later = LATER;
  ssize_t got = syscall(SYS_pread64, fd, buffer, size, offset);
  if (fault == NULL || got < HEADER_SIZE || offset != 0 || memcmp(buffer, "slcrecs\n", VERSION_AT) != 0) return got;
  if (strcmp(fault, "newer") == 0) memcpy((char *)buffer + VERSION_AT, &later, sizeof later);
  if (strcmp(fault, "damaged") == 0) damage(buffer, (size_t)got);
  return got;
}

ssize_t pread64(int fd, void *buffer, size_t size, off_t offset) {
  return pread(fd, buffer, size, offset);
}

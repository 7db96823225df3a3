/* Payload memory: making, looking at, mapping.  See payload.h for what each promises.
 *
 * What is not ours may be of any kind that can be mapped; whom it may be shown to is for the callers to decide, by
 * is_sealed and uid.  Any thread. */
#include "shm/payload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "shm/pages.h"

#ifndef DMA_BUF_MAGIC /* since Linux 5.3's headers */
#define DMA_BUF_MAGIC 0x444d4142
#endif
#ifndef F_SEAL_FUTURE_WRITE /* Linux 5.1 */
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum {
  SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
  MODE_SEALED = 0644, /* others may read: the broker, which has to reopen it; nobody else finds it */
  MODE_OWN = 0600,
  NAME_MAX_DIGITS = 12,
};

/* ---- making ---- */

static uint64_t round_up(uint64_t value, uint64_t granule) {
  return (value + granule - 1) / granule * granule;
}

uint64_t slc__payload_rounded(uint32_t pages, uint64_t size) {
  return round_up(size, slc__pages_size(pages));
}

static int open_nameless(uint32_t pages, int *ret_fd) {
  char directory[SLC__MOUNT_MAX] = "/dev/shm";
  int status = slc__pages_are_huge(pages) ? slc__pages_mount(pages, directory) : SLC_OK;
  if (status != SLC_OK) return status;
  int fd = open(directory, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, MODE_OWN);
  if (fd < 0)
    return slc__fail(slc__status_of_errno(errno), "cannot make a file without a name in %s: %s", directory,
                     strerror(errno));
  *ret_fd = fd;
  return SLC_OK;
}

int slc__payload_create(struct slc__memory memory, uint64_t size, int *ret_fd) {
  SLC__CLEANUP_FD int fd = -1;
  bool is_shm = memory.backend == SLC__BACKEND_SHM, is_huge = slc__pages_are_huge(memory.pages);
  int status = memory.pages == SLC__PAGES_TRANSPARENT ? slc__pages_check_transparent(memory.backend) : SLC_OK;
  if (status == SLC_OK) status = is_shm ? open_nameless(memory.pages, &fd) : slc__object_memfd(memory.pages, &fd);
  if (status != SLC_OK) return status;
  status = slc__object_set_size(fd, memory.pages, slc__payload_rounded(memory.pages, size),
                                memory.prefault || is_shm || is_huge);
  if (status != SLC_OK) return status;
  if (!is_shm && (fchmod(fd, MODE_SEALED) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0))
    return slc__fail(SLC_SYSTEM, "cannot seal shared memory: %s", strerror(errno));
  *ret_fd = slc__fd_take(&fd);
  return SLC_OK;
}

/* ---- with names ---- */

/* Of an object in its directory. */
static void name_of(uint32_t number, char name[NAME_MAX_DIGITS]) {
  snprintf(name, NAME_MAX_DIGITS, "%u", number);
}

static int refuse_named(uint32_t number, uint64_t size) {
  return slc__fail(SLC_INVALID, "what is called %u among the payloads is no file of ours of %ju bytes", number,
                   (uintmax_t)size);
}

static int check_named(const struct stat *info, uint32_t number, uint64_t size) {
  bool is_ours = info->st_uid == geteuid() || info->st_uid == 0;
  return S_ISREG(info->st_mode) && is_ours && (uint64_t)info->st_size == size ? SLC_OK : refuse_named(number, size);
}

/* SLC_GONE: there is none. */
static int open_named(int directory, uint32_t number, uint64_t size, enum slc__access access, int *ret_fd) {
  char name[NAME_MAX_DIGITS];
  struct stat info;
  name_of(number, name);
  int mode = access == SLC__READ_WRITE ? O_RDWR : O_RDONLY;
  SLC__CLEANUP_FD int fd = openat(directory, name, mode | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return slc__fail(SLC_GONE, "object %u of the payloads is not there", number);
  if (fd < 0 && (errno == ELOOP || errno == EISDIR || errno == ENXIO)) return refuse_named(number, size);
  if (fd < 0)
    return slc__fail(slc__status_of_errno(errno), "cannot open object %u of the payloads: %s", number, strerror(errno));
  if (fstat(fd, &info) != 0)
    return slc__fail(slc__status_of_errno(errno), "cannot look at object %u of the payloads: %s", number,
                     strerror(errno));
  int status = check_named(&info, number, size);
  if (status == SLC_OK) *ret_fd = slc__fd_take(&fd);
  return status;
}

/* Without the capability, and before Linux 6.10, only the way through /proc gives a file its name. */
static int link_named(int fd, int directory, const char *name) {
  char path[64];
  int result = linkat(fd, "", directory, name, AT_EMPTY_PATH);
  if (result == 0 || errno == EEXIST) return result;
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return linkat(AT_FDCWD, path, directory, name, AT_SYMLINK_FOLLOW);
}

/* ENOENT means that the directory has gone, unless it is still there. */
static int fail_named(int directory, uint32_t number) {
  int error = errno;
  struct stat info;
  if (error == ENOENT && fstat(directory, &info) == 0 && info.st_nlink == 0)
    return slc__fail(SLC_GONE, "the directory of the payloads is not there any more");
  int status = error == ENOENT ? SLC_SYSTEM : slc__status_of_errno(error);
  return slc__fail(status, "cannot make object %u of the payloads: %s", number, strerror(error));
}

/* *ret_fd -1: another one was first. */
static int create_named(struct slc__memory memory, uint64_t size, int directory, uint32_t number, int *ret_fd) {
  char name[NAME_MAX_DIGITS];
  SLC__CLEANUP_FD int fd = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, MODE_OWN);
  if (fd < 0) return fail_named(directory, number);
  int status = slc__object_set_size(fd, memory.pages, size, true);
  if (status != SLC_OK) return status;
  name_of(number, name);
  *ret_fd = -1;
  if (link_named(fd, directory, name) == 0) {
    *ret_fd = slc__fd_take(&fd);
    return SLC_OK;
  }
  return errno == EEXIST ? SLC_OK : fail_named(directory, number);
}

int slc__payload_open_named(struct slc__memory memory, uint64_t size, int directory, uint32_t number,
                            enum slc__access access, bool may_create, int *ret_fd) {
  uint64_t rounded = slc__payload_rounded(memory.pages, size);
  int status = memory.pages == SLC__PAGES_TRANSPARENT ? slc__pages_check_transparent(memory.backend) : SLC_OK;
  if (status == SLC_OK) status = open_named(directory, number, rounded, access, ret_fd);
  if (status != SLC_GONE || !may_create) return status;
  status = create_named(memory, rounded, directory, number, ret_fd);
  if (status != SLC_OK || *ret_fd >= 0) return status;
  return open_named(directory, number, rounded, access, ret_fd);
}

int slc__payload_check_named(int directory, uint32_t pages, uint32_t count, uint64_t size, uint64_t last_size) {
  for (uint32_t i = 0; i < count; i++) {
    char name[NAME_MAX_DIGITS];
    struct stat info;
    name_of(i, name);
    if (fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
      return slc__fail(SLC_INVALID, "object %u of %u payloads' is not there: %s", i, count, strerror(errno));
    int status = check_named(&info, i, slc__payload_rounded(pages, i + 1 < count ? size : last_size));
    if (status != SLC_OK) return status;
  }
  return SLC_OK;
}

/* ---- looking ---- */

static int refuse(const char *why) {
  return slc__fail(SLC_INVALID, "a descriptor can't hold payloads: %s", why);
}

static int look_at_file_system(int fd, const struct stat *info, struct slc__payload_file *file) {
  struct statfs file_system;
  if (fstatfs(fd, &file_system) != 0)
    return slc__fail(slc__status_of_errno(errno), "cannot look at a descriptor: %s", strerror(errno));
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals > 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) return refuse("it is sealed against writing");
  switch (file_system.f_type) {
  case TMPFS_MAGIC:
    file->granule = SLC__PAGE;
    file->is_sealed = seals > 0 && (seals & SEALS) == SEALS;
    break;
  case HUGETLBFS_MAGIC: /* whose pages may run out: an access can fail in spite of seals */
    file->granule = (uint64_t)file_system.f_bsize;
    break;
  case DMA_BUF_MAGIC:
    file->granule = SLC__PAGE;
    break;
  default:
    return refuse("it is neither in tmpfs nor in hugetlbfs, and no DMA-BUF");
  }
  return file_system.f_type == DMA_BUF_MAGIC || S_ISREG(info->st_mode) ? SLC_OK : refuse("it is not a file");
}

int slc__payload_look(int fd, struct slc__payload_file *ret) {
  struct stat info;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY) return refuse("it cannot be read");
  if (fstat(fd, &info) != 0)
    return slc__fail(slc__status_of_errno(errno), "cannot look at a descriptor: %s", strerror(errno));
  struct slc__payload_file file = {
      .uid = info.st_uid, .device = info.st_dev, .inode = info.st_ino, .is_writable = (flags & O_ACCMODE) == O_RDWR};
  int status = look_at_file_system(fd, &info, &file);
  if (status != SLC_OK) return status;
  if (info.st_size <= 0) return refuse("it is empty");
  file.size = (uint64_t)info.st_size;
  *ret = file;
  return SLC_OK;
}

/* ---- mapping ---- */

int slc__payload_map(int fd, const struct slc__payload_file *file, uint64_t offset, uint64_t length,
                     struct slc__memory memory, enum slc__access access, struct slc__mapping *ret,
                     uint8_t **ret_address) {
  if (offset > file->size || length == 0 || length > file->size - offset)
    return slc__fail(SLC_INVALID, "%ju bytes at %ju lie beyond the end of their memory, %ju", (uintmax_t)length,
                     (uintmax_t)offset, (uintmax_t)file->size);
  uint64_t begin = offset / file->granule * file->granule;
  uint64_t size = round_up(offset + length - begin, file->granule);
  void *base =
      slc__object_map_shared(fd, memory.pages, begin, size, PROT_READ | (access == SLC__READ_WRITE ? PROT_WRITE : 0));
  if (base == MAP_FAILED)
    return slc__fail(slc__status_of_errno(errno),
                     "cannot map %ju bytes of payloads: %s; where it has too many mappings, give more slots to an "
                     "object, or raise vm.max_map_count",
                     (uintmax_t)size, strerror(errno));
  int status = slc__object_settle(base, memory, size, access);
  if (status != SLC_OK) {
    munmap(base, size);
    return status;
  }
  *ret = (struct slc__mapping){.base = base, .size = size};
  *ret_address = (uint8_t *)base + (offset - begin);
  return SLC_OK;
}

/* Shared-memory objects: making, naming, sealing, checking, mapping.  See object.h for what each promises.
 *
 * An object is never seen by anybody before it has its final size, mode, seals and header.  A received one is checked
 * from the outside in: what could make an access fail (seals, size, type) before what is written in it.  Any thread. */
#include "shm/object.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "shm/pages.h"

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define SHM_DIRECTORY "/dev/shm"
#define SHM_PREFIX "slotcast-"
#define SESSION_HEX 32
enum {
  REQUIRED_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
  OBJECT_MODE = 0600,
  DIRECTORY_MODE = 0700,
  REMOVE_TRIES = 1000,
  SHM_NAME_MAX = SLC__MOUNT_MAX + 96,
};

/* The pages of an object: those of its channel for payloads, else small ones. */
static uint32_t pages_for(struct slc__memory memory, enum slc__object_kind kind) {
  bool has_payloads = kind == SLC__OBJECT_BUFFERS || kind == SLC__OBJECT_PAYLOADS;
  return has_payloads && memory.pages != 0 ? memory.pages : SLC__PAGES_SMALL;
}

/* ---- names of the shm backend: slotcast-<session>-<serial>, slotcast-<session>.lock ---- */

static void session_hex(const uint8_t session[16], char hex[SESSION_HEX + 1]) {
  for (int i = 0; i < 16; i++) snprintf(hex + (size_t)2 * (size_t)i, 3, "%02x", session[i]);
}

static void lock_path(const char *hex, char path[SHM_NAME_MAX]) {
  snprintf(path, SHM_NAME_MAX, SHM_DIRECTORY "/" SHM_PREFIX "%.32s.lock", hex);
}

/* The 32 digits of the session in a name of ours, else NULL; any rest that we don't write makes it somebody else's. */
static const char *name_session(const char *name, bool *ret_is_lock) {
  static const char prefix[] = SHM_PREFIX;
  if (strncmp(name, prefix, sizeof prefix - 1) != 0) return NULL;
  const char *hex = name + sizeof prefix - 1;
  if (strspn(hex, "0123456789abcdef") != SESSION_HEX) return NULL;
  const char *rest = hex + SESSION_HEX;
  *ret_is_lock = strcmp(rest, ".lock") == 0;
  if (*ret_is_lock) return hex;
  bool is_serial = rest[0] == '-' && rest[1] != '\0' && rest[1 + strspn(rest + 1, "0123456789")] == '\0';
  return is_serial ? hex : NULL;
}

static int name_new(uint32_t pages, const uint8_t session[16], char path[SHM_NAME_MAX]) {
  static _Atomic uint64_t serial;
  char hex[SESSION_HEX + 1], directory[SLC__MOUNT_MAX] = SHM_DIRECTORY;
  int status = slc__pages_are_huge(pages) ? slc__pages_mount(pages, directory) : SLC_OK;
  if (status != SLC_OK) return status;
  session_hex(session, hex);
  snprintf(path, SHM_NAME_MAX, "%s/" SHM_PREFIX "%s-%llu", directory, hex,
           (unsigned long long)atomic_fetch_add_explicit(&serial, 1, memory_order_relaxed));
  return SLC_OK;
}

/* A session that goes on has names that this process does not know. */
static int shm_open_new(uint32_t pages, const uint8_t session[16], int *ret_fd) {
  char path[SHM_NAME_MAX];
  int fd, status;
  do {
    status = name_new(pages, session, path);
    fd = status == SLC_OK ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, OBJECT_MODE) : -1;
  } while (status == SLC_OK && fd < 0 && errno == EEXIST);
  if (status != SLC_OK) return status;
  if (fd < 0) return slc__fail(slc__status_of_errno(errno), "cannot make %s: %s", path, strerror(errno));
  *ret_fd = fd;
  return SLC_OK;
}

int slc__object_memfd(uint32_t pages, int *ret_fd) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (slc__pages_are_huge(pages)) flags |= MFD_HUGETLB | pages << MAP_HUGE_SHIFT;
  int fd = memfd_create("slotcast", flags | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create("slotcast", flags);
  if (fd < 0 && slc__pages_are_huge(pages) && errno != EMFILE && errno != ENFILE)
    return slc__pages_fail(pages, slc__pages_size(pages));
  if (fd < 0) return slc__fail(slc__status_of_errno(errno), "cannot make a memfd: %s", strerror(errno));
  *ret_fd = fd;
  return SLC_OK;
}

/* ---- making ---- */

void *slc__object_map_shared(int fd, uint32_t pages, uint64_t offset, uint64_t size, int protection) {
  void *base = mmap(NULL, size, protection, MAP_SHARED, fd, (off_t)offset);
  /* Advice only: where it is not taken, there are small pages. */
  if (base != MAP_FAILED && pages == SLC__PAGES_TRANSPARENT) madvise(base, size, MADV_HUGEPAGE);
  return base;
}

static int allocate_plainly(int fd, uint64_t size) {
  int error;
  do error = posix_fallocate(fd, 0, (off_t)size);
  while (error == EINTR);
  errno = error;
  return error == 0 ? 0 : -1;
}

/* Only a fault in a mapping with that advice gets a transparent huge page. */
static int allocate_transparently(int fd, uint64_t size) {
  void *base = slc__object_map_shared(fd, SLC__PAGES_TRANSPARENT, 0, size, PROT_READ | PROT_WRITE);
  if (base == MAP_FAILED) return -1;
  int status = slc__pages_prefault(base, size, true);
  munmap(base, size);
  if (status == SLC_NO_MEMORY) errno = ENOSPC;
  return status == SLC_OK ? 0 : -1;
}

/* Not only ftruncate where it counts: an overcommitted page would be a SIGBUS at the first store. */
int slc__object_set_size(int fd, uint32_t pages, uint64_t size, bool allocate) {
  int result;
  do result = ftruncate(fd, (off_t)size);
  while (result != 0 && errno == EINTR);
  if (result == 0 && allocate)
    result = pages == SLC__PAGES_TRANSPARENT ? allocate_transparently(fd, size) : allocate_plainly(fd, size);
  if (result == 0) return SLC_OK;
  if (slc__pages_are_huge(pages)) return slc__pages_fail(pages, size);
  int status = errno == ENOSPC ? SLC_NO_MEMORY : slc__status_of_errno(errno);
  return slc__fail(status, "cannot get %llu bytes of shared memory: %s", (unsigned long long)size, strerror(errno));
}

/* Huge pages can't be written to by system calls, and one that were would get a small page where a transparent huge one
 * is to be. */
static ssize_t write_mapped(int fd, uint32_t pages, const struct slc__header *header) {
  void *base = slc__object_map_shared(fd, pages, 0, header->total_size, PROT_READ | PROT_WRITE);
  if (base == MAP_FAILED) return -1;
  int status = slc__pages_prefault(base, slc__pages_size(pages), true);
  if (status == SLC_OK) memcpy(base, header, sizeof *header);
  munmap(base, header->total_size);
  return status == SLC_OK ? (ssize_t)sizeof *header : -1;
}

static int write_header(int fd, uint32_t pages, enum slc__object_kind kind, uint64_t size, const uint8_t session[16]) {
  struct slc__header header = {.magic = SLC__LAYOUT_MAGIC,
                               .major = SLC__LAYOUT_MAJOR,
                               .minor = SLC__LAYOUT_MINOR,
                               .byte_order = SLC__LAYOUT_BYTE_ORDER,
                               .kind = kind,
                               .header_size = sizeof header,
                               .total_size = size,
                               .ready = 1};
  memcpy(header.session, session, sizeof header.session);
  ssize_t written;
  do written = pages == SLC__PAGES_SMALL ? pwrite(fd, &header, sizeof header, 0) : write_mapped(fd, pages, &header);
  while (written < 0 && errno == EINTR);
  if (written == (ssize_t)sizeof header) return SLC_OK;
  return slc__fail(SLC_NO_MEMORY, "cannot write to shared memory: %s", strerror(errno));
}

/* A memfd's inode has mode 0777 or 0666 at birth: with that, any uid could reopen a read-only descriptor writable. */
static int protect(int fd, enum slc__backend backend) {
  if (fchmod(fd, OBJECT_MODE) != 0)
    return slc__fail(SLC_SYSTEM, "cannot set the mode of shared memory: %s", strerror(errno));
  if (backend != SLC__BACKEND_SHM && fcntl(fd, F_ADD_SEALS, REQUIRED_SEALS) != 0)
    return slc__fail(SLC_SYSTEM, "cannot seal shared memory: %s", strerror(errno));
  return SLC_OK;
}

int slc__object_create(struct slc__memory memory, enum slc__object_kind kind, uint64_t size, const uint8_t session[16],
                       int *ret_fd) {
  SLC__CLEANUP_FD int fd = -1;
  uint32_t pages = pages_for(memory, kind);
  bool is_shm = memory.backend == SLC__BACKEND_SHM;
  int status = pages == SLC__PAGES_TRANSPARENT ? slc__pages_check_transparent(memory.backend) : SLC_OK;
  if (status == SLC_OK) status = is_shm ? shm_open_new(pages, session, &fd) : slc__object_memfd(pages, &fd);
  if (status != SLC_OK) return status;
  status = slc__object_set_size(fd, pages, size, memory.prefault || is_shm || slc__pages_are_huge(pages));
  if (status == SLC_OK) status = write_header(fd, pages, kind, size, session);
  if (status == SLC_OK) status = protect(fd, memory.backend);
  if (status != SLC_OK) {
    int saved = errno;
    slc__object_unlink(fd);
    errno = saved;
    return status;
  }
  *ret_fd = slc__fd_take(&fd);
  return SLC_OK;
}

/* A memfd's link is "/memfd:slotcast (deleted)": only our own files are removed, and only where they can be. */
static bool name_find(int fd, char path[SHM_NAME_MAX]) {
  char link[64];
  struct statfs file_system;
  bool is_lock;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, SHM_NAME_MAX - 1);
  if (length <= 0) return false;
  path[length] = '\0';
  const char *slash = strrchr(path, '/');
  if (slash == NULL || name_session(slash + 1, &is_lock) == NULL || is_lock) return false;
  static const char prefix[] = SHM_DIRECTORY "/" SHM_PREFIX;
  if (strncmp(path, prefix, sizeof prefix - 1) == 0) return true;
  return fstatfs(fd, &file_system) == 0 && file_system.f_type == HUGETLBFS_MAGIC;
}

void slc__object_unlink(int fd) {
  char path[SHM_NAME_MAX];
  if (name_find(fd, path)) unlink(path);
}

/* ---- directories ---- */

int slc__object_directory(uint32_t pages, const uint8_t session[16], int *ret_fd) {
  char path[SHM_NAME_MAX];
  int made, status;
  do {
    status = name_new(pages, session, path);
    made = status == SLC_OK ? mkdir(path, DIRECTORY_MODE) : -1;
  } while (status == SLC_OK && made != 0 && errno == EEXIST);
  if (status != SLC_OK) return status;
  if (made != 0) return slc__fail(slc__status_of_errno(errno), "cannot make %s: %s", path, strerror(errno));
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) {
    status = slc__fail(slc__status_of_errno(errno), "cannot open %s: %s", path, strerror(errno));
    rmdir(path);
    return status;
  }
  *ret_fd = fd;
  return SLC_OK;
}

int slc__object_directory_check(int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0)
    return slc__fail(slc__status_of_errno(errno), "cannot look at a directory: %s", strerror(errno));
  bool is_ours = info.st_uid == geteuid() || info.st_uid == 0;
  if (S_ISDIR(info.st_mode) && is_ours && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0) return SLC_OK;
  return slc__fail(SLC_PROTOCOL, "what should be a directory of payloads is none, or others may write to it");
}

static void directory_empty(int fd) {
  int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* with a position of its own */
  DIR *directory = own < 0 ? NULL : fdopendir(own);              /* closes it, too */
  if (directory == NULL) {
    slc__fd_close(&own);
    return;
  }
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (unlinkat(fd, entry->d_name, 0) != 0 && errno == EISDIR) unlinkat(fd, entry->d_name, AT_REMOVEDIR);
  }
  closedir(directory);
}

/* Somebody who has not heard yet that it goes may still put names into it: they are slower than we are. */
void slc__object_directory_remove(int fd) {
  char path[SHM_NAME_MAX];
  bool is_named = name_find(fd, path);
  for (int tries = 0; tries < REMOVE_TRIES; tries++) {
    directory_empty(fd);
    if (!is_named || rmdir(path) == 0 || (errno != ENOTEMPTY && errno != EEXIST)) return;
  }
}

/* 1: it has gone, whatever it is. */
static int entry_remove(int parent, const char *name) {
  if (unlinkat(parent, name, 0) == 0) return 1;
  if (errno != EISDIR) return 0;
  SLC__CLEANUP_FD int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return 0;
  directory_empty(fd);
  return unlinkat(parent, name, AT_REMOVEDIR) == 0 ? 1 : 0;
}

/* ---- sessions of the shm backend ----
 *
 * A session lives while its lock file is locked.  Whoever removes a lock file holds its lock, and whoever takes the
 * lock then looks whether the file still has its name: so a sweep can never take away the name of a lock that is in
 * use. */

static int lock_wait(int fd) {
  int result;
  do result = flock(fd, LOCK_EX);
  while (result != 0 && errno == EINTR);
  return result;
}

/* SLC_OK with *ret_fd -1: a sweep removed the file between its making and its locking. */
static int session_lock_once(const char *path, int *ret_fd) {
  SLC__CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, OBJECT_MODE);
  if (fd < 0) return slc__fail(slc__status_of_errno(errno), "cannot make %s: %s", path, strerror(errno));
  if (lock_wait(fd) != 0) {
    int status = slc__fail(slc__status_of_errno(errno), "cannot lock %s: %s", path, strerror(errno));
    unlink(path);
    return status;
  }
  struct stat info;
  if (fstat(fd, &info) != 0) {
    int status = slc__fail(slc__status_of_errno(errno), "cannot look at %s: %s", path, strerror(errno));
    unlink(path);
    return status;
  }
  *ret_fd = info.st_nlink != 0 ? slc__fd_take(&fd) : -1;
  return SLC_OK;
}

int slc__object_session_lock(const uint8_t session[16], int *ret_fd) {
  char hex[SESSION_HEX + 1], path[SHM_NAME_MAX];
  session_hex(session, hex);
  lock_path(hex, path);
  int fd = -1;
  while (fd < 0) {
    int status = session_lock_once(path, &fd);
    if (status != SLC_OK) return status;
  }
  *ret_fd = fd;
  return SLC_OK;
}

int slc__object_session_adopt(const uint8_t session[16], int *fd, int *ret_fd) {
  char hex[SESSION_HEX + 1], path[SHM_NAME_MAX];
  struct stat ours, named;
  session_hex(session, hex);
  lock_path(hex, path);
  if (lstat(path, &named) != 0 && errno == ENOENT) return slc__object_session_lock(session, ret_fd);
  if (fstat(*fd, &ours) != 0 || lstat(path, &named) != 0 || ours.st_ino != named.st_ino ||
      ours.st_dev != named.st_dev || flock(*fd, LOCK_EX | LOCK_NB) != 0)
    return slc__fail(SLC_PROTOCOL, "%s is not the lock of its session", path);
  *ret_fd = slc__fd_take(fd);
  return SLC_OK;
}

struct others {
  const char *hex;
  const ino_t *inodes;
  size_t count;
  int removed;
};

static int by_inode(const void *a, const void *b) {
  ino_t first = *(const ino_t *)a, second = *(const ino_t *)b;
  return first < second ? -1 : first > second;
}

static void remove_others(const char *path, void *ctx) {
  struct others *others = ctx;
  DIR *directory = opendir(path);
  if (directory == NULL) return;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    bool is_lock;
    struct stat info;
    const char *session = name_session(entry->d_name, &is_lock);
    if (session == NULL || is_lock || strncmp(session, others->hex, SESSION_HEX) != 0 ||
        fstatat(dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
      continue;
    bool is_kept =
        others->count > 0 && bsearch(&info.st_ino, others->inodes, others->count, sizeof info.st_ino, by_inode) != NULL;
    if (!is_kept && entry_remove(dirfd(directory), entry->d_name) == 1) others->removed++;
  }
  closedir(directory);
}

int slc__object_sweep_session(const uint8_t session[16], ino_t *inodes, size_t count) {
  char hex[SESSION_HEX + 1];
  session_hex(session, hex);
  if (count > 0) qsort(inodes, count, sizeof *inodes, by_inode);
  struct others others = {.hex = hex, .inodes = inodes, .count = count};
  remove_others(SHM_DIRECTORY, &others);
  slc__pages_for_each_mount(remove_others, &others);
  return others.removed;
}

/* Objects that could not be unlinked when they went. */
static void remove_objects(const char *path, void *ctx) {
  const char *hex = ctx;
  DIR *directory = opendir(path);
  if (directory == NULL) return;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    bool is_lock;
    const char *session = name_session(entry->d_name, &is_lock);
    if (session != NULL && !is_lock && strncmp(session, hex, SESSION_HEX) == 0)
      entry_remove(dirfd(directory), entry->d_name);
  }
  closedir(directory);
}

void slc__object_session_unlock(const uint8_t session[16], int fd) {
  char hex[SESSION_HEX + 1], path[SHM_NAME_MAX];
  session_hex(session, hex);
  lock_path(hex, path);
  remove_objects(SHM_DIRECTORY, hex);
  slc__pages_for_each_mount(remove_objects, hex);
  unlink(path);
  close(fd);
}

/* True: the session is dead, and stays so while *ret_lock_fd is open (-1 where its lock file has gone: the lock is made
 * before the first object, so what is left belongs to nobody). */
static bool session_seize(const char *hex, int *ret_lock_fd) {
  char path[SHM_NAME_MAX];
  lock_path(hex, path);
  SLC__CLEANUP_FD int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno == ENOENT;
  struct stat info;
  if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &info) != 0 || info.st_nlink == 0) return false;
  *ret_lock_fd = slc__fd_take(&fd);
  return true;
}

static int sweep_name(DIR *directory, const char *name, bool locks) {
  bool is_lock;
  const char *hex = name_session(name, &is_lock);
  if (hex == NULL || is_lock != locks) return 0;
  SLC__CLEANUP_FD int lock_fd = -1;
  if (!session_seize(hex, &lock_fd) || (is_lock && lock_fd < 0)) return 0;
  return entry_remove(dirfd(directory), name);
}

static int sweep_names(const char *path, bool locks) {
  int removed = 0;
  DIR *directory = opendir(path);
  if (directory == NULL) return 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    removed += sweep_name(directory, entry->d_name, locks);
  closedir(directory);
  return removed;
}

static void sweep_huge(const char *path, void *ctx) {
  *(int *)ctx += sweep_names(path, false);
}

/* Objects first, locks last: a sweep that ends half-way leaves a lock that tells the next one whose the objects were.
 */
int slc__object_sweep(void) {
  int removed = sweep_names(SHM_DIRECTORY, false);
  slc__pages_for_each_mount(sweep_huge, &removed);
  return removed + sweep_names(SHM_DIRECTORY, true);
}

int slc__object_reopen_read_only(int fd, int *ret_fd) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int read_only = open(path, O_RDONLY | O_CLOEXEC);
  if (read_only < 0)
    return slc__fail(slc__status_of_errno(errno), "cannot reopen shared memory read-only: %s", strerror(errno));
  *ret_fd = read_only;
  return SLC_OK;
}

/* ---- checking and mapping ---- */

static int refuse(const char *why) {
  return slc__fail(SLC_PROTOCOL, "a shared-memory descriptor was refused: %s", why);
}

/* Our own trouble, and not the fault of whoever sent it. */
static int cannot_look(void) {
  return slc__fail(slc__status_of_errno(errno), "cannot look at a shared-memory descriptor: %s", strerror(errno));
}

static int check_file_system(int fd, uint32_t pages) {
  struct statfs file_system;
  if (fstatfs(fd, &file_system) != 0) return cannot_look();
  if (!slc__pages_are_huge(pages)) return file_system.f_type == TMPFS_MAGIC ? SLC_OK : refuse("it is not in tmpfs");
  if (file_system.f_type != HUGETLBFS_MAGIC || (uint64_t)file_system.f_bsize != slc__pages_size(pages))
    return refuse("it is not of the agreed huge pages");
  return SLC_OK;
}

static int check_descriptor(int fd, enum slc__backend backend, uint32_t pages, uint64_t size, enum slc__access access) {
  bool is_shm = backend == SLC__BACKEND_SHM; /* what is not said is checked as a memfd is */
  if (!is_shm) {
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & REQUIRED_SEALS) != REQUIRED_SEALS)
      return refuse("it is not sealed against shrinking, growing and sealing");
  }
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0) return refuse("it cannot be read");
  int mode = flags & O_ACCMODE;
  if (mode != (access == SLC__READ_WRITE ? O_RDWR : O_RDONLY)) return refuse("its access mode is not the agreed one");
  struct stat info;
  if (fstat(fd, &info) != 0) return cannot_look();
  if (!S_ISREG(info.st_mode)) return refuse("it is not a file");
  if (info.st_size < 0 || (uint64_t)info.st_size != size) return refuse("its size is not the agreed one");
  if (!is_shm && info.st_nlink != 0) return refuse("it has a name");
  /* What can't be sealed is taken from ourselves and from root only: they could harm us without it, too.  And of huge
   * pages: where one is punched, another process may take it, and the next access is a SIGBUS in spite of the seals. */
  if ((is_shm || slc__pages_are_huge(pages)) && info.st_uid != geteuid() && info.st_uid != 0)
    return refuse("it can be taken away and belongs to another user");
  return check_file_system(fd, pages);
}

static int check_header(const struct slc__header *shared, enum slc__object_kind kind, uint64_t size,
                        const uint8_t session[16]) {
  if (atomic_load_explicit(&shared->ready, memory_order_acquire) != 1) return refuse("its header is not complete");
  struct slc__header header;
  memcpy(&header, shared, sizeof header);
  if (header.magic != SLC__LAYOUT_MAGIC || header.byte_order != SLC__LAYOUT_BYTE_ORDER)
    return refuse("it is not Slotcast's, or of another byte order");
  if (header.major != SLC__LAYOUT_MAJOR)
    return slc__fail(SLC_VERSION, "shared memory of layout %u.%u, this side knows %u.%u: use the same release on both",
                     header.major, header.minor, SLC__LAYOUT_MAJOR, SLC__LAYOUT_MINOR);
  if ((header.features & ~SLC__LAYOUT_FEATURES) != 0)
    return slc__fail(SLC_VERSION, "shared memory needs features %#llx, this side knows %#llx: use a newer release",
                     (unsigned long long)header.features, (unsigned long long)SLC__LAYOUT_FEATURES);
  if (header.kind != kind || header.header_size != sizeof header) return refuse("it is of another kind");
  if (header.total_size != size) return refuse("its header names another size");
  if (memcmp(header.session, session, sizeof header.session) != 0) return refuse("it is another broker's");
  return SLC_OK;
}

/* A forked child must not be able to forge its parent's claims. */
int slc__object_settle(void *base, struct slc__memory memory, uint64_t size, enum slc__access access) {
  bool is_writable = access == SLC__READ_WRITE;
  if (is_writable && madvise(base, size, MADV_DONTFORK) != 0)
    return slc__fail(SLC_SYSTEM, "madvise(MADV_DONTFORK): %s", strerror(errno));
  int status = memory.prefault ? slc__pages_prefault(base, size, is_writable) : SLC_OK;
  if (status == SLC_OK && memory.lock) status = slc__pages_lock(base, size);
  return status;
}

static int map_whole(int fd, struct slc__memory memory, enum slc__object_kind kind, uint64_t size,
                     enum slc__access access, const uint8_t session[16], struct slc__mapping *ret) {
  int protection = PROT_READ | (access == SLC__READ_WRITE ? PROT_WRITE : 0);
  void *base = slc__object_map_shared(fd, pages_for(memory, kind), 0, size, protection);
  if (base == MAP_FAILED)
    return slc__fail(slc__status_of_errno(errno), "cannot map %llu bytes: %s", (unsigned long long)size,
                     strerror(errno));
  struct slc__mapping mapping = {.base = base, .size = size};
  int status = check_header(base, kind, size, session);
  if (status == SLC_OK) status = slc__object_settle(base, memory, size, access);
  if (status != SLC_OK) {
    slc__mapping_deinit(&mapping);
    return status;
  }
  *ret = mapping;
  return SLC_OK;
}

int slc__object_map(int fd, struct slc__memory memory, enum slc__object_kind kind, uint64_t size,
                    enum slc__access access, const uint8_t session[16], struct slc__mapping *ret) {
  int status = check_descriptor(fd, memory.backend, pages_for(memory, kind), size, access);
  return status == SLC_OK ? map_whole(fd, memory, kind, size, access, session, ret) : status;
}

int slc__object_map_made(int fd, struct slc__memory memory, enum slc__object_kind kind, uint64_t size,
                         const uint8_t session[16], struct slc__mapping *ret) {
  return map_whole(fd, memory, kind, size, SLC__READ_WRITE, session, ret);
}

void slc__mapping_deinit(struct slc__mapping *m) {
  if (m->base != NULL) munmap(m->base, m->size);
  *m = (struct slc__mapping){0};
}

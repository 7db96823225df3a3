/* What the system has of memory pages, read from /proc and /sys at the moment: see pages.h.
 *
 * Nothing here is remembered, because an administrator may change all of it while we run.  Any thread. */
#include "shm/pages.h"

#include <errno.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error.h"

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define MOUNTS "/proc/self/mounts"
#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
enum { LINE_MAX_BYTES = 1024 };

const char *slc__pages_text(uint64_t bytes, char text[32]) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (unit + 1 < sizeof units / sizeof units[0] && bytes >= 1024 && bytes % 1024 == 0) {
    bytes /= 1024;
    unit++;
  }
  snprintf(text, 32, "%llu %s", (unsigned long long)bytes, units[unit]);
  return text;
}

/* The first line of a small file; empty where there is none. */
static void read_line(const char *path, char line[LINE_MAX_BYTES]) {
  line[0] = '\0';
  FILE *file = fopen(path, "re");
  if (file == NULL) return;
  if (fgets(line, LINE_MAX_BYTES, file) == NULL) line[0] = '\0';
  fclose(file);
}

/* ---- mounts ---- */

/* Calls `visit` for each mount until one is what it wants. */
static bool find_mount(bool (*visit)(const struct mntent *mount, void *ctx), void *ctx) {
  FILE *mounts = setmntent(MOUNTS, "re");
  if (mounts == NULL) return false;
  struct mntent mount;
  char buffer[4 * LINE_MAX_BYTES];
  bool is_found = false;
  while (!is_found && getmntent_r(mounts, &mount, buffer, sizeof buffer) != NULL) is_found = visit(&mount, ctx);
  endmntent(mounts);
  return is_found;
}

struct wanted_mount {
  uint64_t page_size;
  char *path;
};

static bool is_wanted(const struct mntent *mount, void *ctx) {
  struct wanted_mount *wanted = ctx;
  struct statfs info;
  if (strcmp(mount->mnt_type, "hugetlbfs") != 0 || strlen(mount->mnt_dir) >= SLC__MOUNT_MAX) return false;
  if (statfs(mount->mnt_dir, &info) != 0 || info.f_type != HUGETLBFS_MAGIC) return false;
  if ((uint64_t)info.f_bsize != wanted->page_size || access(mount->mnt_dir, W_OK | X_OK) != 0) return false;
  snprintf(wanted->path, SLC__MOUNT_MAX, "%s", mount->mnt_dir);
  return true;
}

int slc__pages_mount(uint32_t pages, char ret_path[SLC__MOUNT_MAX]) {
  struct wanted_mount wanted = {.page_size = slc__pages_size(pages), .path = ret_path};
  if (find_mount(is_wanted, &wanted)) return SLC_OK;
  char text[32];
  return slc__fail(SLC_NO_MEMORY,
                   "no directory of huge pages of %s is mounted that this process may write to: `mount -t hugetlbfs "
                   "-o pagesize=%lluK,mode=1777 none /dev/hugepages`, or use the backend memfd",
                   slc__pages_text(wanted.page_size, text), (unsigned long long)(wanted.page_size >> 10));
}

struct each_mount {
  void (*visit)(const char *path, void *ctx);
  void *ctx;
};

static bool visit_hugetlbfs(const struct mntent *mount, void *ctx) {
  const struct each_mount *each = ctx;
  if (strcmp(mount->mnt_type, "hugetlbfs") == 0) each->visit(mount->mnt_dir, each->ctx);
  return false;
}

void slc__pages_for_each_mount(void (*visit)(const char *path, void *ctx), void *ctx) {
  struct each_mount each = {.visit = visit, .ctx = ctx};
  find_mount(visit_hugetlbfs, &each);
}

/* ---- transparent huge pages ---- */

/* A mount of its own may have them where the memory of the kernel's has not. */
static bool has_huge_option(const struct mntent *mount, void *ctx) {
  bool *is_huge = ctx;
  if (strcmp(mount->mnt_dir, "/dev/shm") != 0) return false;
  const char *option = hasmntopt(mount, "huge");
  *is_huge = option != NULL && strncmp(option, "huge=never", strlen("huge=never")) != 0;
  return false; /* the last one is what is seen there */
}

int slc__pages_check_transparent(enum slc__backend backend) {
  char line[LINE_MAX_BYTES];
  read_line(SHMEM_ENABLED, line);
  if (strstr(line, "[force]") != NULL) return SLC_OK;
  bool is_denied = line[0] == '\0' || strstr(line, "[deny]") != NULL;
  bool is_huge = false;
  if (backend == SLC__BACKEND_SHM) find_mount(has_huge_option, &is_huge);
  if (backend == SLC__BACKEND_MEMFD) is_huge = strstr(line, "[never]") == NULL;
  if (is_huge && !is_denied) return SLC_OK;
  if (backend == SLC__BACKEND_SHM && !is_denied)
    return slc__fail(SLC_NO_MEMORY, "/dev/shm has no transparent huge pages: `mount -o remount,huge=advise /dev/shm`, "
                                    "or use the backend memfd");
  return slc__fail(SLC_NO_MEMORY,
                   "shared memory has no transparent huge pages on this machine: write `advise` to "
                   "%s",
                   SHMEM_ENABLED);
}

/* ---- huge pages ---- */

static void read_free_pages(uint64_t page_size, char line[LINE_MAX_BYTES]) {
  char path[128];
  snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%llukB/free_hugepages",
           (unsigned long long)(page_size >> 10));
  read_line(path, line);
  line[strcspn(line, "\n")] = '\0';
}

int slc__pages_fail(uint32_t pages, uint64_t bytes) {
  int error = errno;
  uint64_t size = slc__pages_size(pages);
  char text[32], free_pages[LINE_MAX_BYTES];
  read_free_pages(size, free_pages);
  slc__pages_text(size, text);
  int status;
  if (free_pages[0] == '\0') {
    status = slc__fail(SLC_NO_MEMORY,
                       "this machine has no huge pages of %s: /sys/kernel/mm/hugepages has one directory "
                       "for each size that it has",
                       text);
  } else {
    status = slc__fail(SLC_NO_MEMORY,
                       "%llu huge pages of %s are needed, and %s are free (%s): raise vm.nr_hugepages, or "
                       "/sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
                       (unsigned long long)((bytes + size - 1) / size), text, free_pages, strerror(error),
                       (unsigned long long)(size >> 10));
  }
  errno = error;
  return status;
}

/* ---- mappings ---- */

int slc__pages_prefault(void *base, uint64_t bytes, bool writable) {
  int result;
  do result = madvise(base, bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
  while (result != 0 && (errno == EINTR || errno == EAGAIN));
  if (result == 0) return SLC_OK;
  bool is_memory = errno == ENOMEM || errno == EFAULT || errno == EHWPOISON; /* EFAULT: it would have been SIGBUS */
  return slc__fail(is_memory ? SLC_NO_MEMORY : SLC_SYSTEM, "cannot prefault %llu bytes of shared memory: %s",
                   (unsigned long long)bytes, is_memory ? "there is not so much" : strerror(errno));
}

int slc__pages_lock(void *base, uint64_t bytes) {
  if (mlock(base, bytes) == 0) return SLC_OK;
  int error = errno;
  struct rlimit limit = {0};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  int status = slc__fail(SLC_NO_MEMORY,
                         "cannot lock %llu bytes of shared memory (%s): this process may lock %llu in all: raise "
                         "RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=), or give it CAP_IPC_LOCK",
                         (unsigned long long)bytes, strerror(error), (unsigned long long)limit.rlim_cur);
  errno = error;
  return status;
}

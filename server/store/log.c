/* See log.h.
 *
 * Invariants: an entry is a multiple of 8 bytes; the header's `committed` is the end of a commit, or 0, and is stored
 * after everything before it.  It is written and read by calls, not through a mapping: a call fails where a mapping
 * would kill.  A reader believes nothing: it bounds every size by what there is. */
#include "store/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "store/store.h"

enum { ALIGN = 8, KIND_PUT = 1, KIND_DROP = 2, KIND_COMMIT = 3, PARTS = 5 };

struct header {
  char magic[8];
  uint32_t version, reserved;
  uint64_t sequence;
  uint64_t committed; /* 0: no set is complete */
};
_Static_assert(sizeof(struct header) == 32, "as it is in memory that others read");
_Static_assert(offsetof(struct header, committed) % ALIGN == 0, "stored at once");

struct entry {
  uint32_t kind, key_size, value_size, name_count;
};
_Static_assert(sizeof(struct entry) == 16, "as it is in memory that others read");

static const char magic[8] = {'s', 'l', 'c', 'r', 'e', 'c', 's', '\n'};

/* ---- writing ---- */

static int fail_write(void) {
  int error = errno == ENOSPC ? ENOMEM : errno;
  return slc__fail(slc__status_of_errno(error), "cannot write records to a memfd: %s", strerror(errno));
}

int slc__log_create(uint64_t sequence, struct slc__log *ret_log) {
  struct header header = {.version = SLC__LOG_VERSION, .sequence = sequence};
  memcpy(header.magic, magic, sizeof magic);
  SLC__CLEANUP_FD int fd = memfd_create("slotcast-records", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return slc__fail(slc__status_of_errno(errno), "cannot make a memfd for records: %s", strerror(errno));
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) != 0 ||
      pwrite(fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
    return fail_write();
  *ret_log = (struct slc__log){.fd = slc__fd_take(&fd), .size = sizeof header};
  return SLC_OK;
}

void slc__log_deinit(struct slc__log *log) {
  slc__fd_close(&log->fd);
}

static size_t padding_of(size_t size) {
  return (ALIGN - size % ALIGN) % ALIGN;
}

static int append(struct slc__log *log, struct entry entry, const struct slc__log_put *put) {
  static const char zeros[ALIGN];
  size_t names_size = put->name_count * sizeof *put->names;
  size_t size = sizeof entry + names_size + put->key_size + put->value_size;
  struct iovec parts[PARTS] = {
      {.iov_base = &entry, .iov_len = sizeof entry},
      {.iov_base = (void *)(uintptr_t)put->names, .iov_len = names_size},
      {.iov_base = (void *)(uintptr_t)put->key, .iov_len = put->key_size},
      {.iov_base = (void *)(uintptr_t)put->value, .iov_len = put->value_size},
      {.iov_base = (void *)(uintptr_t)zeros, .iov_len = padding_of(size)},
  };
  size += padding_of(size);
  ssize_t written = pwritev(log->fd, parts, PARTS, (off_t)log->size);
  if (written >= 0 && (size_t)written < size) errno = ENOSPC; /* what is there will be written over */
  if (written != (ssize_t)size) return fail_write();
  log->size += size;
  return SLC_OK;
}

static struct entry entry_of(uint32_t kind, const struct slc__log_put *put) {
  return (struct entry){.kind = kind,
                        .key_size = (uint32_t)put->key_size,
                        .value_size = (uint32_t)put->value_size,
                        .name_count = (uint32_t)put->name_count};
}

int slc__log_put(struct slc__log *log, const struct slc__log_put *put, struct slc__log_extent *ret_extent) {
  uint64_t offset = log->size;
  int status = append(log, entry_of(KIND_PUT, put), put);
  if (status == SLC_OK) *ret_extent = (struct slc__log_extent){.offset = offset, .size = log->size - offset};
  return status;
}

int slc__log_drop(struct slc__log *log, const void *key, size_t key_size) {
  struct slc__log_put put = {.key = key, .key_size = key_size};
  return append(log, entry_of(KIND_DROP, &put), &put);
}

int slc__log_commit(struct slc__log *log, uint64_t generation) {
  struct slc__log_put put = {.value = &generation, .value_size = sizeof generation};
  return append(log, entry_of(KIND_COMMIT, &put), &put);
}

int slc__log_count(const struct slc__log *log, uint64_t size) {
  if (pwrite(log->fd, &size, sizeof size, offsetof(struct header, committed)) == (ssize_t)sizeof size) return SLC_OK;
  return fail_write();
}

int slc__log_copy(struct slc__log *log, const struct slc__log *from, struct slc__log_extent *extent) {
  static char buffer[16 * 1024];
  for (uint64_t done = 0; done < extent->size;) {
    size_t part = extent->size - done < sizeof buffer ? (size_t)(extent->size - done) : sizeof buffer;
    if (pread(from->fd, buffer, part, (off_t)(extent->offset + done)) != (ssize_t)part ||
        pwrite(log->fd, buffer, part, (off_t)(log->size + done)) != (ssize_t)part)
      return fail_write();
    done += part;
  }
  extent->offset = log->size;
  log->size += extent->size;
  return SLC_OK;
}

/* ---- reading ---- */

void slc__log_set_deinit(struct slc__log_set *set) {
  free(set->puts);
  free(set->memory);
  *set = (struct slc__log_set){0};
}

static int read_header(int fd, struct header *ret_header) {
  struct stat info;
  if (pread(fd, ret_header, sizeof *ret_header, 0) != (ssize_t)sizeof *ret_header ||
      memcmp(ret_header->magic, magic, sizeof magic) != 0)
    return slc__fail(SLC_INVALID, "this is no log of records");
  if (ret_header->version > SLC__LOG_VERSION)
    return slc__fail(SLC_VERSION, "the records are of version %u, of a newer release; this one reads up to %d",
                     ret_header->version, SLC__LOG_VERSION);
  if (ret_header->committed < sizeof *ret_header || fstat(fd, &info) != 0 ||
      ret_header->committed > (uint64_t)info.st_size)
    return slc__fail(SLC_INVALID, "the log has no complete set of records");
  return SLC_OK;
}

static int read_all(int fd, size_t size, void *memory) {
  for (size_t done = 0; done < size;) {
    ssize_t got = pread(fd, (char *)memory + done, size - done, (off_t)done);
    if (got <= 0) return slc__fail(SLC_SYSTEM, "cannot read records: %s", got < 0 ? strerror(errno) : "they end");
    done += (size_t)got;
  }
  return SLC_OK;
}

/* The entry at `offset`, and where the next one is.  False: it can't be one. */
static bool parse(const char *memory, size_t size, size_t *offset, struct entry *ret_entry, struct slc__log_put *ret) {
  struct entry entry;
  size_t left = size - *offset;
  const char *at = memory + *offset;
  if (left < sizeof entry) return false;
  memcpy(&entry, at, sizeof entry);
  if (entry.kind < KIND_PUT || entry.kind > KIND_COMMIT || entry.key_size > SLC__STORE_KEY_MAX ||
      entry.value_size > SLC__STORE_VALUE_MAX || entry.name_count > SLC__STORE_DESCRIPTORS_MAX)
    return false;
  size_t names_size = entry.name_count * sizeof(uint32_t);
  size_t whole = sizeof entry + names_size + entry.key_size + entry.value_size;
  whole += padding_of(whole);
  if (whole > left) return false;
  at += sizeof entry;
  *ret = (struct slc__log_put){.names = (const uint32_t *)(const void *)at,
                               .name_count = entry.name_count,
                               .key = at + names_size,
                               .key_size = entry.key_size,
                               .value = at + names_size + entry.key_size,
                               .value_size = entry.value_size};
  *ret_entry = entry;
  *offset += whole;
  return true;
}

/* A drop, among the puts: it has a key only. */
static bool is_drop(const struct slc__log_put *put) {
  return put->value == NULL;
}

static bool add(struct slc__log_set *set, size_t *room, const struct slc__log_put *put) {
  if (set->count == *room) {
    size_t wanted = *room == 0 ? 64 : 2 * *room;
    struct slc__log_put *grown = reallocarray(set->puts, wanted, sizeof *grown);
    if (grown == NULL) return false;
    set->puts = grown;
    *room = wanted;
  }
  set->puts[set->count++] = *put;
  return true;
}

/* Everything that counts, in the order in which it was written. */
static int collect(struct slc__log_set *set, size_t size) {
  size_t room = 0;
  for (size_t offset = sizeof(struct header); offset < size;) {
    struct entry entry;
    struct slc__log_put put;
    if (!parse(set->memory, size, &offset, &entry, &put)) {
      set->damaged++;
      return SLC_OK;
    }
    if (entry.kind == KIND_COMMIT) {
      if (put.value_size == sizeof set->generation) memcpy(&set->generation, put.value, sizeof set->generation);
      continue;
    }
    if (entry.kind == KIND_DROP) put.value = NULL;
    if (!add(set, &room, &put)) return slc__fail(SLC_NO_MEMORY, "no memory to read %zu records", set->count);
  }
  return SLC_OK;
}

static int compare(const void *left, const void *right) {
  const struct slc__log_put *a = left, *b = right;
  size_t common = a->key_size < b->key_size ? a->key_size : b->key_size;
  int order = memcmp(a->key, b->key, common);
  if (order != 0) return order;
  if (a->key_size != b->key_size) return a->key_size < b->key_size ? -1 : 1;
  return (const char *)a->key < (const char *)b->key ? -1 : 1; /* as they were written */
}

static bool same_key(const struct slc__log_put *a, const struct slc__log_put *b) {
  return a->key_size == b->key_size && memcmp(a->key, b->key, a->key_size) == 0;
}

/* The last word on each key. */
static void settle(struct slc__log_set *set) {
  size_t kept = 0;
  if (set->count > 0) qsort(set->puts, set->count, sizeof *set->puts, compare);
  for (size_t i = 0; i < set->count; i++) {
    bool is_last = i + 1 == set->count || !same_key(&set->puts[i], &set->puts[i + 1]);
    if (is_last && !is_drop(&set->puts[i])) set->puts[kept++] = set->puts[i];
  }
  set->count = kept;
}

int slc__log_read(int fd, struct slc__log_set *ret_set) {
  struct header header;
  int status = read_header(fd, &header);
  if (status != SLC_OK) return status;
  SLC__CLEANUP(slc__log_set_deinit) struct slc__log_set set = {.sequence = header.sequence};
  set.memory = malloc(header.committed);
  if (set.memory == NULL) return slc__fail(SLC_NO_MEMORY, "no memory to read records");
  status = read_all(fd, header.committed, set.memory);
  if (status == SLC_OK) status = collect(&set, header.committed);
  if (status != SLC_OK) return status;
  settle(&set);
  *ret_set = set;
  set = (struct slc__log_set){0};
  return SLC_OK;
}

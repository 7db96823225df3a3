/* A log of records in a memfd, which outlives whoever writes it in the hands of somebody else: the service manager, or
 * the next broker.  Descriptors are only named in it, by numbers; they lie elsewhere.
 *
 *   header | put | put | drop | commit | put .. commit | ..
 *
 * The header says how far it counts: what a writer that died had not committed is not there.  A put of a key replaces
 * the one before.  Thread: one at a time. */
#ifndef SLC__STORE_LOG_H
#define SLC__STORE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SLC__LOG_VERSION = 1 };

/* ---- writing ---- */

struct slc__log {
  int fd;        /* -1: none */
  uint64_t size; /* up to where it has been written */
};

struct slc__log_put {
  const void *key;
  size_t key_size;
  const void *value;
  size_t value_size;
  const uint32_t *names; /* of its descriptors */
  size_t name_count;
};

/* A new one.  Of several complete ones the one with the highest sequence counts.  SLC_NO_MEMORY, SLC_NO_DESCRIPTORS,
 * SLC_SYSTEM. */
int slc__log_create(uint64_t sequence, struct slc__log *ret_log);
void slc__log_deinit(struct slc__log *log);

/* Each fails with SLC_NO_MEMORY or SLC_SYSTEM, and then has written nothing that counts.  Where the entry lies, and how
 * much room it takes, for slc__log_copy. */
struct slc__log_extent {
  uint64_t offset, size;
};
int slc__log_put(struct slc__log *log, const struct slc__log_put *put, struct slc__log_extent *ret_extent);
int slc__log_drop(struct slc__log *log, const void *key, size_t key_size);
/* A put as it stands in another log; *extent becomes where it is in this one. */
int slc__log_copy(struct slc__log *log, const struct slc__log *from, struct slc__log_extent *extent);
/* The end of a whole set of that generation.  It counts when slc__log_count is told log->size as it is then. */
int slc__log_commit(struct slc__log *log, uint64_t generation);
int slc__log_count(const struct slc__log *log, uint64_t size);

/* ---- reading ---- */

/* What of a log counts: its records in the order of their keys, each once, and none that was dropped. */
struct slc__log_set {
  uint64_t sequence, generation;
  struct slc__log_put *puts;
  size_t count;
  size_t damaged; /* entries that could not be read: everything behind the first such is missing */
  void *memory;
};

/* SLC_INVALID: it is no log, or has no complete set.  SLC_VERSION: of a newer release.  SLC_NO_MEMORY, SLC_SYSTEM. */
int slc__log_read(int fd, struct slc__log_set *ret_set);
void slc__log_set_deinit(struct slc__log_set *set);

#endif

/* Records, kept by key: a committed set, and what is staged to become the next one.
 *
 * Everything that a commit needs is there before it: it moves pointers and cannot fail.  Bytes, records and descriptors
 * are bounded, and charged before they are kept, staged ones included; descriptors that a record has as the one before
 * it had them are kept once.  Thread: the loop's. */
#ifndef SLC__SHADOW_RECORDS_H
#define SLC__SHADOW_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "net/seqpacket.h"

struct record_limits {
  uint64_t bytes; /* of memory: keys, values and what it takes to keep them */
  uint64_t records;
  uint64_t descriptors;
};

/* Of one record, or of two: a record that is put anew with the same open files as before goes on with those. */
struct descriptors {
  unsigned records;
  size_t count;
  int fds[];
};

struct record {
  struct descriptors *descriptors;
  size_t value_size;
  uint8_t value[];
};

/* One key: what is committed under it, what is staged. */
struct kept {
  TAILQ_ENTRY(kept) link;        /* of all, in the order in which they came */
  TAILQ_ENTRY(kept) staged_link; /* of those with something staged */
  struct record *committed;      /* NULL: nothing */
  struct record *staged;         /* NULL: dropped, or nothing */
  bool is_staged;
  size_t key_size;
  uint8_t key[];
};

TAILQ_HEAD(kept_list, kept);

struct records {
  void *tree; /* tsearch tree of struct kept by key */
  struct kept_list all, staged;
  struct record_limits limits, used;
  bool is_whole;       /* what is staged replaces the committed set */
  uint64_t committed;  /* records in the committed set */
  bool is_complete;    /* there is one */
  uint64_t generation; /* of it */
};

void records_init(struct records *records, const struct record_limits *limits);
void records_deinit(struct records *records);

/* Stages a record under that key, and takes the descriptors.  SLC_LIMIT, SLC_NO_MEMORY: nothing has changed. */
int records_put(struct records *records, const void *key, size_t key_size, const void *value, size_t value_size,
                struct slc__fds *fds);
/* Nothing where there is none. */
void records_drop(struct records *records, const void *key, size_t key_size);
/* What is staged from now on is a set of its own; what was staged before is thrown away. */
void records_begin(struct records *records);
void records_commit(struct records *records, uint64_t generation);
void records_abort(struct records *records);

#endif

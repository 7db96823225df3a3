/* See records.h.
 *
 * Invariants: a kept is in the tree and in the list of all, or in neither; it is there as long as something is
 * committed or staged under its key; `used` is the sum over all records.  Thread: the loop's. */
#include "shadow/records.h"

#include <linux/kcmp.h>
#include <search.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "proto/codec.h"

/* What the allocator and the tree add to a kept and to a record, roughly: so that many small ones count, too. */
enum {
  KEPT_OVERHEAD = sizeof(struct kept) + 64,
  RECORD_OVERHEAD = sizeof(struct record) + sizeof(struct descriptors) + 64,
};

/* ---- charges ---- */

static struct record_limits cost_of(size_t key_size, size_t value_size, size_t fd_count) {
  return (struct record_limits){
      .bytes = KEPT_OVERHEAD + key_size + RECORD_OVERHEAD + value_size + fd_count * sizeof(int),
      .records = 1,
      .descriptors = fd_count,
  };
}

static int check_limit(const char *what, const char *option, uint64_t used, uint64_t wanted, uint64_t limit) {
  if (wanted <= limit && used <= limit - wanted) return SLC_OK;
  return slc__fail(SLC_LIMIT,
                   "the shadow keeps %llu %s, what is staged included, and %llu more are wanted; it is allowed %llu: "
                   "start slotcast-shadow with a larger --%s",
                   (unsigned long long)used, what, (unsigned long long)wanted, (unsigned long long)limit, option);
}

static int charge(struct records *records, const struct record_limits *cost) {
  struct record_limits *used = &records->used;
  const struct record_limits *limits = &records->limits;
  int status = check_limit("bytes", "max-memory", used->bytes, cost->bytes, limits->bytes);
  if (status == SLC_OK) status = check_limit("records", "max-records", used->records, cost->records, limits->records);
  if (status == SLC_OK)
    status = check_limit("descriptors", "max-descriptors", used->descriptors, cost->descriptors, limits->descriptors);
  if (status != SLC_OK) return status;
  used->bytes += cost->bytes;
  used->records += cost->records;
  used->descriptors += cost->descriptors;
  return SLC_OK;
}

static void discharge(struct records *records, const struct record_limits *cost) {
  records->used.bytes -= cost->bytes;
  records->used.records -= cost->records;
  records->used.descriptors -= cost->descriptors;
}

/* ---- descriptors ---- */

/* Takes them; NULL: no memory. */
static struct descriptors *descriptors_new(struct slc__fds *fds) {
  struct descriptors *descriptors = malloc(sizeof *descriptors + fds->count * sizeof(int));
  if (descriptors == NULL) return NULL;
  descriptors->records = 1;
  descriptors->count = fds->count;
  for (size_t i = 0; i < descriptors->count; i++) descriptors->fds[i] = slc__fds_take(fds, i);
  return descriptors;
}

static void descriptors_release(struct descriptors *descriptors) {
  if (--descriptors->records > 0) return;
  for (size_t i = 0; i < descriptors->count; i++) slc__fd_close(&descriptors->fds[i]);
  free(descriptors);
}

/* The same open file, not only the same inode: so neither can do what the other can't.  Where the system does not say,
 * none are, and both are kept. */
static bool is_same_file(int a, int b) {
  pid_t self = getpid();
  return syscall(SYS_kcmp, self, self, KCMP_FILE, a, b) == 0;
}

static bool are_same(const struct descriptors *descriptors, const struct slc__fds *fds) {
  if (descriptors->count != fds->count) return false;
  for (size_t i = 0; i < fds->count; i++) {
    if (!is_same_file(descriptors->fds[i], fds->fd[i])) return false;
  }
  return true;
}

/* ---- one record ---- */

static void record_free(struct record *record) {
  descriptors_release(record->descriptors);
  free(record);
}

/* `like`: a record with the same descriptors, which it shares; those that came are then left alone.  NULL: none. */
static struct record *record_new(const void *value, size_t value_size, const struct record *like,
                                 struct slc__fds *fds) {
  struct record *record = malloc(sizeof *record + value_size);
  if (record == NULL) return NULL;
  record->descriptors = like != NULL ? like->descriptors : descriptors_new(fds);
  if (record->descriptors == NULL) {
    free(record);
    return NULL;
  }
  if (like != NULL) record->descriptors->records++;
  record->value_size = value_size;
  if (value_size > 0) memcpy(record->value, value, value_size);
  return record;
}

/* Ends what is in `slot` and gives back what it was charged. */
static void record_remove(struct records *records, const struct kept *kept, struct record **slot) {
  if (*slot == NULL) return;
  const struct descriptors *descriptors = (*slot)->descriptors;
  struct record_limits cost =
      cost_of(kept->key_size, (*slot)->value_size, descriptors->records == 1 ? descriptors->count : 0);
  discharge(records, &cost);
  record_free(*slot);
  *slot = NULL;
}

/* ---- keys ---- */

static int by_key(const void *left, const void *right) {
  const struct kept *a = left, *b = right;
  int order = memcmp(a->key, b->key, a->key_size < b->key_size ? a->key_size : b->key_size);
  return order != 0 ? order : (a->key_size > b->key_size) - (a->key_size < b->key_size);
}

static struct kept *kept_find(const struct records *records, const void *key, size_t key_size) {
  union {
    struct kept kept;
    uint8_t room[sizeof(struct kept) + SLC__CODEC_KEY_MAX];
  } wanted;
  wanted.kept.key_size = key_size;
  memcpy(wanted.room + offsetof(struct kept, key), key, key_size);
  void *node = tfind(&wanted.kept, &records->tree, by_key);
  return node == NULL ? NULL : *(struct kept **)node;
}

static struct kept *kept_new(struct records *records, const void *key, size_t key_size) {
  struct kept *kept = calloc(1, sizeof *kept + key_size);
  if (kept == NULL) return NULL;
  kept->key_size = key_size;
  memcpy(kept->key, key, key_size);
  if (tsearch(kept, &records->tree, by_key) == NULL) {
    free(kept);
    return NULL;
  }
  TAILQ_INSERT_TAIL(&records->all, kept, link);
  return kept;
}

static void kept_release(struct records *records, struct kept *kept) {
  if (kept->committed != NULL || kept->is_staged) return;
  tdelete(kept, &records->tree, by_key);
  TAILQ_REMOVE(&records->all, kept, link);
  free(kept);
}

static void kept_stage(struct records *records, struct kept *kept, struct record *record) {
  record_remove(records, kept, &kept->staged);
  kept->staged = record;
  if (!kept->is_staged) TAILQ_INSERT_TAIL(&records->staged, kept, staged_link);
  kept->is_staged = true;
}

/* ---- staging ---- */

/* The record before, if it has the same descriptors. */
static const struct record *find_like(const struct kept *kept, const struct slc__fds *fds) {
  const struct record *before = kept == NULL ? NULL : kept->staged != NULL ? kept->staged : kept->committed;
  return before != NULL && are_same(before->descriptors, fds) ? before : NULL;
}

/* The kept is made first, and goes again with a put that fails. */
int records_put(struct records *records, const void *key, size_t key_size, const void *value, size_t value_size,
                struct slc__fds *fds) {
  struct kept *kept = kept_find(records, key, key_size);
  const struct record *like = find_like(kept, fds);
  struct record_limits cost = cost_of(key_size, value_size, like == NULL ? fds->count : 0);
  int status = charge(records, &cost);
  if (status != SLC_OK) return status;
  if (kept == NULL) kept = kept_new(records, key, key_size);
  struct record *record = kept == NULL ? NULL : record_new(value, value_size, like, fds);
  if (record != NULL) {
    kept_stage(records, kept, record);
    return SLC_OK;
  }
  if (kept != NULL) kept_release(records, kept);
  discharge(records, &cost);
  return slc__fail(SLC_NO_MEMORY, "no memory to keep one more record");
}

/* Of a set of its own nothing is left over but what is put into it. */
void records_drop(struct records *records, const void *key, size_t key_size) {
  struct kept *kept = kept_find(records, key, key_size);
  if (kept != NULL) kept_stage(records, kept, NULL);
}

void records_begin(struct records *records) {
  records_abort(records);
  records->is_whole = true;
}

void records_abort(struct records *records) {
  struct kept *kept, *next;
  for (kept = TAILQ_FIRST(&records->staged); kept != NULL; kept = next) {
    next = TAILQ_NEXT(kept, staged_link);
    record_remove(records, kept, &kept->staged);
    TAILQ_REMOVE(&records->staged, kept, staged_link);
    kept->is_staged = false;
    kept_release(records, kept);
  }
  records->is_whole = false;
}

/* ---- committing ---- */

static void kept_commit(struct records *records, struct kept *kept) {
  records->committed -= kept->committed != NULL;
  record_remove(records, kept, &kept->committed);
  kept->committed = kept->staged;
  records->committed += kept->committed != NULL;
  kept->staged = NULL;
  if (kept->is_staged) TAILQ_REMOVE(&records->staged, kept, staged_link);
  kept->is_staged = false;
  kept_release(records, kept);
}

static void commit_whole(struct records *records) {
  struct kept *kept, *next;
  for (kept = TAILQ_FIRST(&records->all); kept != NULL; kept = next) {
    next = TAILQ_NEXT(kept, link);
    kept_commit(records, kept);
  }
}

void records_commit(struct records *records, uint64_t generation) {
  if (records->is_whole) commit_whole(records);
  while (!TAILQ_EMPTY(&records->staged)) kept_commit(records, TAILQ_FIRST(&records->staged));
  records->is_whole = false;
  records->is_complete = true;
  records->generation = generation;
}

/* ---- life ---- */

void records_init(struct records *records, const struct record_limits *limits) {
  *records = (struct records){.limits = *limits};
  TAILQ_INIT(&records->all);
  TAILQ_INIT(&records->staged);
}

/* An empty set is committed: then nothing is left. */
void records_deinit(struct records *records) {
  records_begin(records);
  records_commit(records, 0);
}

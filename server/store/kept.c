/* See kept.h.  Thread: the loop's. */
#include "store/kept.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *left, const void *right) {
  const struct slc__kept *a = left, *b = right;
  if (a->key_size != b->key_size) return a->key_size < b->key_size ? -1 : 1;
  return memcmp(a->key, b->key, a->key_size);
}

static void set_key(struct slc__kept *kept, const struct slc__record *record) {
  kept->key_size = record->key_size;
  memcpy(kept->key, record->key, record->key_size);
}

struct slc__kept *slc__kept_new(const struct slc__record *record) {
  struct slc__kept *kept = calloc(1, sizeof *kept + record->fd_count * sizeof kept->stored[0]);
  if (kept != NULL) set_key(kept, record);
  return kept;
}

static void kept_free(struct slc__kept_tree *tree, struct slc__kept *kept) {
  for (size_t i = 0; i < kept->count; i++) slc__stored_unref(tree->table, kept->stored[i]);
  tree->size -= kept->extent.size;
  free(kept);
}

bool slc__kept_put(struct slc__kept_tree *tree, struct slc__kept *kept) {
  struct slc__kept **node = tsearch(kept, &tree->by_key, compare);
  if (node == NULL) return false;
  tree->size += kept->extent.size;
  for (size_t i = 0; i < kept->count; i++) slc__stored_ref(tree->table, kept->stored[i]);
  struct slc__kept *before = *node;
  *node = kept;
  if (before != kept) kept_free(tree, before);
  return true;
}

bool slc__kept_drop(struct slc__kept_tree *tree, const struct slc__record *record) {
  struct slc__kept wanted;
  set_key(&wanted, record);
  struct slc__kept *const *node = tfind(&wanted, &tree->by_key, compare);
  if (node == NULL) return false;
  struct slc__kept *kept = *node;
  tdelete(kept, &tree->by_key, compare);
  kept_free(tree, kept);
  return true;
}

void slc__kept_clear(struct slc__kept_tree *tree) {
  while (tree->by_key != NULL) {
    struct slc__kept *kept = *(struct slc__kept **)tree->by_key; /* a node begins with what it is of */
    tdelete(kept, &tree->by_key, compare);
    kept_free(tree, kept);
  }
}

/* ---- copying ---- */

struct copying {
  const struct slc__log *from;
  struct slc__log *to;
  int status;
};

static void copy_one(const void *node, VISIT visit, void *ctx) {
  struct copying *copying = ctx;
  struct slc__kept *kept = *(struct slc__kept *const *)node;
  if ((visit != preorder && visit != leaf) || copying->status != 0) return;
  kept->copy = kept->extent;
  copying->status = slc__log_copy(copying->to, copying->from, &kept->copy);
}

static void move_one(const void *node, VISIT visit, void *ctx) {
  struct slc__kept *kept = *(struct slc__kept *const *)node;
  (void)ctx;
  if (visit == preorder || visit == leaf) kept->extent = kept->copy;
}

int slc__kept_copy(struct slc__kept_tree *tree, const struct slc__log *from, struct slc__log *to) {
  struct copying copying = {.from = from, .to = to};
  twalk_r(tree->by_key, copy_one, &copying);
  if (copying.status == 0) twalk_r(tree->by_key, move_one, NULL);
  return copying.status;
}

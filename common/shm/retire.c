/* See retire.h.
 *
 * A message is in one of three lists: in the log; evicted, but perhaps held; retired, to be told.  Evictions go in the
 * order of ordinals, so the first list is looked at from its front until one is still in the log.  The second needs a
 * scan of the holds, one for all of them, unless the slot's ordinal is no longer the message's: then somebody has used
 * it again, and had looked.
 *
 * Before the scan this publisher clears the announcement by itself: an evictor changes the log word first, and until it
 * has cleared `seq`, too, a reader may still take the message by that.
 *
 * The nodes of all three lists lie in one pool that grows before a message is published and never in between, so a
 * message can't be lost for want of memory.  One thread at a time. */
#include "shm/retire.h"

#include <stdlib.h>

#include "shm/publish.h"
#include "shm/words.h"
#include "slotcast/status.h"

enum { POOL_FIRST = 64 };
#define NONE UINT32_MAX

struct node {
  uint64_t ordinal;
  uint32_t slot;
  uint32_t next;
};

struct list {
  uint32_t first, last; /* NONE: empty */
  uint32_t count;
};

struct slc__retire {
  struct node *nodes;
  uint32_t capacity;
  uint32_t *slots; /* one per slot of the channel: those to look for */
  struct list idle, logged, evicted, retired;
};

/* ---- lists ---- */

static void push(struct slc__retire *retire, struct list *list, uint32_t node) {
  retire->nodes[node].next = NONE;
  if (list->count++ == 0)
    list->first = node;
  else
    retire->nodes[list->last].next = node;
  list->last = node;
}

static uint32_t pop(struct slc__retire *retire, struct list *list) {
  uint32_t node = list->first;
  list->first = retire->nodes[node].next;
  list->count--;
  return node;
}

static bool grow(struct slc__retire *retire) {
  uint32_t capacity = retire->capacity == 0 ? POOL_FIRST : retire->capacity * 2;
  struct node *nodes = capacity > retire->capacity ? reallocarray(retire->nodes, capacity, sizeof *nodes) : NULL;
  if (nodes == NULL) return false;
  retire->nodes = nodes;
  for (uint32_t i = retire->capacity; i < capacity; i++) push(retire, &retire->idle, i);
  retire->capacity = capacity;
  return true;
}

int slc__retire_open(struct slc__pub *pub) {
  struct slc__retire *retire = calloc(1, sizeof *retire);
  if (retire == NULL) return SLC_NO_MEMORY;
  pub->retire = retire;
  pub->is_told = true;
  retire->slots = calloc(pub->control.geometry.slots, sizeof *retire->slots);
  if (retire->slots != NULL && grow(retire)) return SLC_OK;
  slc__retire_close(pub);
  return SLC_NO_MEMORY;
}

void slc__retire_close(struct slc__pub *pub) {
  if (pub->retire == NULL) return;
  free(pub->retire->nodes);
  free(pub->retire->slots);
  free(pub->retire);
  pub->retire = NULL;
}

/* ---- what becomes of a message ---- */

/* Whether it has left the log.  Where its evictor is half done, that is completed as another evictor would do. */
static bool has_left(struct slc__pub *pub, const struct node *node) {
  uint64_t lap = slc__lap_of(&pub->control, node->ordinal);
  _Atomic uint64_t *word_at = slc__log_at(&pub->control, node->ordinal);
  uint64_t present = slc__log_present(lap, node->slot);
  if (atomic_load_explicit(word_at, memory_order_seq_cst) != present) return true;
  uint64_t own = atomic_load_explicit(&pub->control.own[node->slot], memory_order_acquire);
  if (slc__own_is_at(own) && slc__own_ordinal(own) == node->ordinal) return false;
  atomic_compare_exchange_strong_explicit(word_at, &present, slc__log_evicted(lap), memory_order_seq_cst,
                                          memory_order_relaxed);
  return true;
}

/* Whoever publishes in a slot has found it unheld, and that ordinal is a later one. */
static bool is_used_again(const struct slc__pub *pub, const struct node *node) {
  uint64_t own = atomic_load_explicit(&pub->control.own[node->slot], memory_order_acquire);
  return slc__own_ordinal(own) != node->ordinal;
}

static void clear_announcement(struct slc__pub *pub, const struct node *node) {
  uint64_t announced = node->ordinal + 1;
  atomic_compare_exchange_strong_explicit(&slc__buffers_prefix(&pub->buffers, node->slot)->seq, &announced, 0,
                                          memory_order_seq_cst, memory_order_relaxed);
}

static void look_at_log(struct slc__pub *pub) {
  struct slc__retire *retire = pub->retire;
  while (retire->logged.count > 0 && has_left(pub, &retire->nodes[retire->logged.first]))
    push(retire, &retire->evicted, pop(retire, &retire->logged));
}

/* Those whose slot has been used again are done; for the others the holds are to be looked through.  At most one
 * message per slot is among them, unless somebody has damaged the owner words. */
static uint32_t look_at_owners(struct slc__pub *pub) {
  struct slc__retire *retire = pub->retire;
  uint32_t undecided = 0;
  for (uint32_t left = retire->evicted.count; left > 0; left--) {
    uint32_t node = pop(retire, &retire->evicted);
    if (is_used_again(pub, &retire->nodes[node])) {
      push(retire, &retire->retired, node);
      continue;
    }
    push(retire, &retire->evicted, node);
    if (undecided == pub->control.geometry.slots) continue;
    clear_announcement(pub, &retire->nodes[node]);
    retire->slots[undecided++] = retire->nodes[node].slot;
  }
  return undecided;
}

/* The first `undecided` of those that are left. */
static void look_at_holds(struct slc__pub *pub, uint32_t undecided) {
  struct slc__retire *retire = pub->retire;
  if (undecided == 0 || !slc__pub_scan(pub, retire->slots, undecided)) return;
  for (uint32_t left = retire->evicted.count; left > 0; left--) {
    uint32_t node = pop(retire, &retire->evicted);
    bool is_retired = undecided > 0 && slc__pub_is_unheld(pub, retire->nodes[node].slot);
    if (undecided > 0) undecided--;
    push(retire, is_retired ? &retire->retired : &retire->evicted, node);
  }
}

bool slc__retire_found(const struct slc__pub *pub) {
  return pub->retire->retired.count > 0;
}

bool slc__retire_look(struct slc__pub *pub) {
  slc__pub_evict_read(pub);
  look_at_log(pub);
  look_at_holds(pub, look_at_owners(pub));
  return slc__retire_found(pub);
}

/* ---- noting, telling ---- */

int slc__retire_reserve(struct slc__pub *pub) {
  struct slc__retire *retire = pub->retire;
  if (retire->idle.count > 0) return SLC_OK;
  /* What nobody asks for is kept for as long as it takes, but not what can't be. */
  slc__retire_look(pub);
  if (retire->logged.count + retire->evicted.count > pub->control.geometry.slots) return SLC_CORRUPT;
  return grow(retire) ? SLC_OK : SLC_NO_MEMORY;
}

void slc__retire_note(struct slc__pub *pub, uint64_t ordinal, uint32_t slot) {
  struct slc__retire *retire = pub->retire;
  uint32_t node = pop(retire, &retire->idle);
  retire->nodes[node].ordinal = ordinal;
  retire->nodes[node].slot = slot;
  push(retire, &retire->logged, node);
}

size_t slc__retire_take(struct slc__pub *pub, struct slc__retired *ret_retired, size_t max) {
  struct slc__retire *retire = pub->retire;
  size_t count = 0;
  for (; count < max && retire->retired.count > 0; count++) {
    uint32_t node = pop(retire, &retire->retired);
    ret_retired[count] =
        (struct slc__retired){.ordinal = retire->nodes[node].ordinal, .slot = retire->nodes[node].slot};
    push(retire, &retire->idle, node);
  }
  return count;
}

/* ---- loan of a very slot ---- */

/* Nobody's and still of that ordinal: claimed, and looked for in all holds, because a caller may be wrong about what
 * is retired. */
static int claim(struct slc__pub *pub, const struct slc__retired *retired) {
  _Atomic uint64_t *word = &pub->control.own[retired->slot];
  uint64_t ordinal = retired->ordinal, own = slc__own_free(ordinal);
  if (!atomic_compare_exchange_strong_explicit(word, &own, slc__own_owned(pub->id, ordinal), memory_order_acq_rel,
                                               memory_order_relaxed))
    return SLC_STALE;
  atomic_store_explicit(&slc__buffers_prefix(&pub->buffers, retired->slot)->seq, 0, memory_order_relaxed);
  bool known = slc__pub_scan(pub, &retired->slot, 1);
  if (known && slc__pub_is_unheld(pub, retired->slot)) return SLC_OK;
  slc__pub_give_back(pub, retired->slot);
  return known ? SLC_STALE : SLC_WOULD_BLOCK;
}

int slc__pub_loan_slot(struct slc__pub *pub, const struct slc__retired *retired) {
  if (retired->slot >= pub->control.geometry.slots || retired->ordinal > SLC__ORDINAL_MAX) return SLC_STALE;
  uint64_t own = atomic_load_explicit(&pub->control.own[retired->slot], memory_order_acquire);
  if (own == slc__own_owned(pub->id, retired->ordinal) && slc__pub_free_take(pub, retired->slot)) return SLC_OK;
  return claim(pub, retired);
}

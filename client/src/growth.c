/* Growth, as a publisher sees it.
 *
 * Invariant: while there is a loan in generation g, the line says g or an older one.  A line that said nothing says g
 * before it is seen that g is still the newest, or else takes it back (both seq_cst: the broker makes a newer one known
 * before it reads the lines).  Thread: that of the publisher. */
#include "growth.h"

#include "base/error.h"

#define DOUBLES_UP_TO (UINT64_C(1) << 20)
enum {
  SIZE_UNIT = 64,
  TRIES = 64, /* each but the first is another publisher's growth */
};

static uint32_t newest_number(const struct slc__growth *growth) {
  return atomic_load_explicit(&growth->control->page->generation, memory_order_seq_cst);
}

/* ---- the line --------------------------------------------------------------------------------------------------- */

static bool line_enter(const struct slc__growth *growth, uint32_t number) {
  if (atomic_load_explicit(&growth->line->generation, memory_order_relaxed) != 0) return true;
  atomic_store_explicit(&growth->line->generation, number, memory_order_seq_cst);
  if (newest_number(growth) == number) return true;
  atomic_store_explicit(&growth->line->generation, 0, memory_order_release);
  return false;
}

static uint32_t oldest_in_use(const struct slc__generations *generations) {
  for (uint32_t i = 0; i < generations->count; i++) {
    if (generations->list[i].users > 0) return generations->list[i].number;
  }
  return 0;
}

void slc__growth_leave(struct slc__growth *growth, uint32_t number) {
  struct slc__generation *generation = slc__generations_find(&growth->generations, number);
  if (generation == NULL || --generation->users > 0) return;
  atomic_store_explicit(&growth->line->generation, oldest_in_use(&growth->generations), memory_order_release);
}

/* ---- growing ---------------------------------------------------------------------------------------------------- */

/* Larger slots than those of `size` bytes, for a message of `wanted`: at least twice as large up to 1 MiB, then a
 * quarter more, so that a channel whose messages grow slowly does not grow at each of them. */
static uint64_t larger_size(uint64_t size, uint64_t wanted) {
  while (size < wanted) size += size < DOUBLES_UP_TO ? size : size / 4;
  uint64_t rounded = (size + SIZE_UNIT - 1) / SIZE_UNIT * SIZE_UNIT;
  return rounded < SLC__SLOT_SIZE_MAX ? rounded : SLC__SLOT_SIZE_MAX;
}

static int choose_size(const struct slc__growth *growth, uint64_t largest, uint64_t wanted, uint64_t *ret_size) {
  if (wanted > SLC__SLOT_SIZE_MAX)
    return slc__fail(SLC_TOO_LARGE, "a message of %ju bytes can't be: the most is %ju", (uintmax_t)wanted,
                     (uintmax_t)SLC__SLOT_SIZE_MAX);
  uint64_t size = larger_size(largest, wanted);
  if (growth->on_growth != NULL && growth->on_growth(growth->ctx, wanted, &size) != 0)
    return slc__fail(SLC_REFUSED, "the growth callback of this publisher refused slots for a message of %ju bytes",
                     (uintmax_t)wanted);
  if (size < wanted || size > SLC__SLOT_SIZE_MAX)
    return slc__fail(SLC_INVALID, "the growth callback chose slots of %ju bytes for a message of %ju", (uintmax_t)size,
                     (uintmax_t)wanted);
  *ret_size = size;
  return 0;
}

static uint64_t largest_known(const struct slc__growth *growth) {
  const struct slc__generation *newest = slc__generations_newest(&growth->generations);
  return newest != NULL ? newest->slot_size : growth->control->geometry.slot_size;
}

/* Brings a newer generation: another publisher's if there is one that we don't know, else a new one. */
static int advance(struct slc__growth *growth, uint64_t wanted) {
  const struct slc__generation *known = slc__generations_newest(&growth->generations);
  const struct slc__geometry *shape = &growth->control->geometry;
  if (newest_number(growth) > (known != NULL ? known->number : 1))
    return slc__generations_fetch(&growth->generations, growth->client, growth->user, shape, growth->memory,
                                  SLC__READ_WRITE, 0);
  uint64_t slot_size;
  int status = choose_size(growth, largest_known(growth), wanted, &slot_size);
  if (status != 0) return status;
  return slc__generations_grow(&growth->generations, growth->client, growth->user, shape, growth->memory, wanted,
                               slot_size);
}

/* Else nothing grows any more: the next broker does not know the channel. */
static bool has_broker(const struct slc__growth *growth) {
  return slc__connection_has(growth->client, growth->user);
}

/* The first one of a split channel: complete before there is a loan. */
int slc__growth_begin(struct slc__growth *growth) {
  const struct slc__geometry *shape = &growth->control->geometry;
  int status = SLC_GONE;
  for (int i = 0; i < TRIES && status == SLC_GONE && (i == 0 || has_broker(growth)); i++)
    status = slc__generations_grow(&growth->generations, growth->client, growth->user, shape, growth->memory,
                                   shape->slot_size, shape->slot_size);
  return status;
}

int slc__growth_enter(struct slc__growth *growth, uint64_t size, struct slc__generation **ret_generation) {
  for (int i = 0; i < TRIES; i++) {
    struct slc__generation *newest = slc__generations_newest(&growth->generations);
    if (newest != NULL && newest->slot_size >= size && line_enter(growth, newest->number)) {
      newest->users++;
      *ret_generation = newest;
      return 0;
    }
    int status = advance(growth, size);
    /* Gone: others wanted larger ones, or gave up. */
    if (status != 0 && (status != SLC_GONE || !has_broker(growth))) return status;
  }
  return slc__fail(SLC_PROTOCOL, "the broker does not give slots for a message of %ju bytes", (uintmax_t)size);
}

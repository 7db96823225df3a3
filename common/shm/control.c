/* The control object and the buffers: views of a mapping, and how the broker formats, counts and repairs them.
 *
 * Everything here is entered by the broker's loop; the views also by the library.  Nothing waits, nothing trusts what
 * it reads. */
#include <string.h>

#include "shm/gate.h"
#include "shm/slotlog.h"
#include "shm/words.h"

void slc__control_init(struct slc__control *control, const struct slc__geometry *g, void *base) {
  uint8_t *bytes = base;
  *control = (struct slc__control){
      .geometry = *g,
      .log_shift = (uint32_t)__builtin_ctz(g->log_size),
      .page = base,
      .publishers = (void *)(bytes + slc__layout_publisher_lines(g)),
      .log = (void *)(bytes + slc__layout_log(g)),
      .own = (void *)(bytes + slc__layout_own(g)),
      .maxima = (void *)(bytes + slc__layout_maxima(g)),
  };
}

uint64_t slc__first_absent(const struct slc__control *control, uint64_t from) {
  uint64_t n = from;
  for (uint64_t steps = slc__steps_max(control); steps > 0 && n <= SLC__ORDINAL_MAX; steps--, n++) {
    uint64_t word = atomic_load_explicit(slc__log_at(control, n), memory_order_seq_cst);
    if (slc__presence(control, word, n) == SLC__ABSENT) break;
  }
  return n;
}

void slc__buffers_init(struct slc__buffers *buffers, const struct slc__geometry *g, void *base) {
  buffers->slots = (uint8_t *)base + SLC__BUFFERS_FIRST;
  buffers->stride = slc__layout_slot_stride(g);
  buffers->payload_offset = slc__layout_payload_offset(g);
  buffers->inline_max = slc__layout_inline_max(g);
  buffers->capacity = g->split != 0 ? 0 : g->slot_size;
}

struct slc__prefix *slc__buffers_prefix(const struct slc__buffers *buffers, uint32_t slot) {
  return (void *)(buffers->slots + buffers->stride * slot);
}

/* Zero is the beginning of all else: an empty log, every slot FREE, no user. */
void slc__control_format(const struct slc__geometry *g, void *base) {
  struct slc__control_page *page = base;
  page->geometry = *g;
  atomic_store_explicit(&page->generation, 1, memory_order_relaxed);
}

void slc__table_format(struct slc__table_page *table, uint32_t lines) {
  atomic_store_explicit(&table->released, 1, memory_order_relaxed);
  for (uint32_t i = 0; i < lines; i++) {
    atomic_store_explicit(&slc__table_line(table, i)->cursor, SLC__CURSOR_NONE, memory_order_relaxed);
  }
}

/* Bells begin at 1 and armed words at 0, so nobody is armed. */
void slc__bell_format(struct slc__bell_page *bell) {
  atomic_store_explicit(&bell->bell, 1, memory_order_relaxed);
}

struct slc__hold_line *slc__table_line(struct slc__table_page *table, uint32_t line) {
  return (struct slc__hold_line *)(void *)((uint8_t *)table + sizeof *table) + line;
}

static void line_reset(struct slc__hold_line *line, uint64_t cursor) {
  atomic_store_explicit(&line->armed, 0, memory_order_relaxed);
  for (uint32_t i = 0; i < SLC__LINE_HOLDS; i++) atomic_store_explicit(&line->holds[i], 0, memory_order_release);
  atomic_store_explicit(&line->cursor, cursor, memory_order_release);
}

void slc__line_open(struct slc__table_page *table, uint32_t line, uint32_t max_holds) {
  uint32_t lines = slc__layout_lines_for(max_holds);
  atomic_store_explicit(&slc__table_line(table, line)->received, 0, memory_order_relaxed);
  atomic_store_explicit(&slc__table_line(table, line)->dropped, 0, memory_order_relaxed);
  atomic_store_explicit(&slc__table_line(table, line)->damaged, 0, memory_order_relaxed);
  atomic_store_explicit(&slc__table_line(table, line)->closed, SLC__OPEN, memory_order_relaxed);
  for (uint32_t i = 0; i < lines; i++) line_reset(slc__table_line(table, line + i), i == 0 ? 0 : SLC__CURSOR_NONE);
}

void slc__line_shut(struct slc__table_page *table, uint32_t line, enum slc__closed why) {
  atomic_store_explicit(&slc__table_line(table, line)->closed, why, memory_order_seq_cst);
}

void slc__line_close(struct slc__table_page *table, uint32_t line, uint32_t max_holds) {
  uint32_t lines = slc__layout_lines_for(max_holds);
  for (uint32_t i = 0; i < lines; i++) line_reset(slc__table_line(table, line + i), SLC__CURSOR_NONE);
}

/* AT a live ordinal: the message was published, it stays.  AT one that is not in the log: it was never published. */
static void repair_at(const struct slc__control *control, uint32_t slot, uint64_t own) {
  uint64_t n = slc__own_ordinal(own);
  uint64_t word = atomic_load_explicit(slc__log_at(control, n), memory_order_seq_cst);
  if (word == slc__log_present(slc__lap_of(control, n), slot)) return;
  /* A compare-and-swap: an evictor may have claimed the slot since, and then it is that one's. */
  atomic_compare_exchange_strong_explicit(&control->own[slot], &own, slc__own_free(n), memory_order_acq_rel,
                                          memory_order_relaxed);
}

/* OWNED: on loan, in the free list, or half evicted; then the log word is still to be changed. */
static void repair_owned(const struct slc__control *control, uint32_t slot, uint64_t own) {
  uint64_t n = slc__own_ordinal(own), lap = slc__lap_of(control, n);
  uint64_t word = slc__log_present(lap, slot);
  atomic_compare_exchange_strong_explicit(slc__log_at(control, n), &word, slc__log_evicted(lap), memory_order_seq_cst,
                                          memory_order_relaxed);
  atomic_store_explicit(&control->own[slot], slc__own_free(n), memory_order_release);
}

void slc__repair(const struct slc__control *control, uint32_t id) {
  for (uint32_t slot = 0; slot < control->geometry.slots; slot++) {
    uint64_t own = atomic_load_explicit(&control->own[slot], memory_order_acquire);
    if (slc__own_publisher(own) != id) continue;
    if (slc__own_is_at(own)) {
      repair_at(control, slot, own);
    } else {
      repair_owned(control, slot, own);
    }
  }
}

void slc__ring_all(struct slc__table_page *table, struct slc__bell_page *bell) {
  slc__gate_ring(&bell->bell);
  slc__gate_ring(&table->released);
}

void slc__slot_states(const struct slc__control *control, struct slc__slot_states *ret) {
  *ret = (struct slc__slot_states){0};
  for (uint32_t slot = 0; slot < control->geometry.slots; slot++) {
    uint64_t own = atomic_load_explicit(&control->own[slot], memory_order_relaxed);
    if (slc__own_is_at(own)) {
      ret->published++;
    } else if (slc__own_publisher(own) != 0) {
      ret->owned++;
    } else {
      ret->free++;
    }
  }
}

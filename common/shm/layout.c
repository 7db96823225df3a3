/* Sizes and offsets of everything in shared memory, computed from a channel's shape.  Pure functions; any thread. */
#include "shm/layout.h"

#include <stdbool.h>

#include "slotcast/status.h"

enum { BATCH_MIN = 2, BATCH_SMALL = 8, BATCH_MAX = 512, TABLE_LINES_MAX = 1 << 20 };

static uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

static bool is_power_of_two(uint32_t value) {
  return value != 0 && (value & (value - 1)) == 0;
}

static bool is_checksum_possible(const struct slc__geometry *g) {
  switch (g->checksum) {
  case SLC__CHECKSUM_NONE:
    return g->checksum_size == 0;
  case SLC__CHECKSUM_CRC32C:
    return g->checksum_size == sizeof(uint32_t);
  case SLC__CHECKSUM_OWN:
    return g->checksum_size >= 1 && g->checksum_size <= SLC__CHECKSUM_MAX;
  default:
    return false;
  }
}

static bool are_pages_possible(uint32_t pages) {
  return pages <= SLC__PAGES_TRANSPARENT || slc__pages_are_huge(pages);
}

/* With these limits no product below overflows: 2^20 slots of at most 2^40 + 4,480 bytes are less than 2^61. */
int slc__geometry_check(const struct slc__geometry *g) {
  if (g->slots < SLC__SLOTS_MIN || g->slots > SLC__SLOTS_MAX) return SLC_INVALID;
  if (!is_power_of_two(g->log_size) || g->log_size < SLC__LOG_MIN || g->log_size < g->slots) return SLC_INVALID;
  if (g->log_size > SLC__SLOTS_MAX) return SLC_INVALID;
  if (g->max_publishers < 1 || g->max_publishers > SLC__PUBLISHERS_MAX) return SLC_INVALID;
  if (g->reliable > 1) return SLC_INVALID;
  if (g->slot_size < 1 || g->slot_size > SLC__SLOT_SIZE_MAX) return SLC_INVALID;
  if (g->keep_last > g->slots - 3 || g->metadata_size > SLC__METADATA_MAX) return SLC_INVALID;
  if (g->virtual_max > SLC__VIRTUAL_MAX || g->split > 1 || g->reserved != 0) return SLC_INVALID;
  if (g->backend > SLC__BACKEND_SHM || !are_pages_possible(g->pages)) return SLC_INVALID;
  return is_checksum_possible(g) ? SLC_OK : SLC_INVALID;
}

uint32_t slc__geometry_log_size(uint32_t slots) {
  uint32_t size = SLC__LOG_MIN;
  while (size < slots && size < SLC__SLOTS_MAX) size *= 2; /* more slots than that are refused by the check above */
  return size;
}

/* An eighth of the slots, and of a small channel a quarter: refilling one slot at a time would double the cost of a
 * publish. */
uint32_t slc__geometry_batch(uint32_t slots) {
  uint32_t quarter = slots / 4 < BATCH_SMALL ? slots / 4 : BATCH_SMALL;
  uint32_t batch = slots / 8 > quarter ? slots / 8 : quarter;
  if (batch < BATCH_MIN) return BATCH_MIN;
  return batch > BATCH_MAX ? BATCH_MAX : batch;
}

/* ---- pages ---- */

bool slc__pages_are_huge(uint32_t pages) {
  return pages >= SLC__PAGES_HUGE_MIN && pages <= SLC__PAGES_HUGE_MAX;
}

uint64_t slc__pages_size(uint32_t pages) {
  return slc__pages_are_huge(pages) ? UINT64_C(1) << pages : SLC__PAGE;
}

int slc__pages_of(uint64_t wanted, uint32_t *ret_pages) {
  uint32_t pages = 0;
  if (wanted > SLC__PAGES_TRANSPARENT) {
    while ((UINT64_C(1) << pages) < wanted && pages < SLC__PAGES_HUGE_MAX) pages++;
    if (UINT64_C(1) << pages != wanted || !slc__pages_are_huge(pages)) return SLC_INVALID;
  } else {
    pages = wanted == 0 ? SLC__PAGES_SMALL : (uint32_t)wanted;
  }
  *ret_pages = pages;
  return SLC_OK;
}

uint64_t slc__pages_to(uint32_t pages) {
  return slc__pages_are_huge(pages) ? slc__pages_size(pages) : pages;
}

/* ---- sizes and offsets ---- */

uint64_t slc__layout_publisher_lines(const struct slc__geometry *g) {
  (void)g;
  return sizeof(struct slc__control_page);
}

uint64_t slc__layout_log(const struct slc__geometry *g) {
  return slc__layout_publisher_lines(g) + (uint64_t)g->max_publishers * sizeof(struct slc__publisher_line);
}

uint64_t slc__layout_own(const struct slc__geometry *g) {
  return align_up(slc__layout_log(g) + (uint64_t)g->log_size * sizeof(uint64_t), SLC__LINE);
}

uint64_t slc__layout_maxima(const struct slc__geometry *g) {
  return align_up(slc__layout_own(g) + (uint64_t)g->slots * sizeof(uint64_t), SLC__LINE);
}

uint64_t slc__layout_control_size(const struct slc__geometry *g) {
  uint64_t maxima = g->virtual_max == 0 ? 0 : ((uint64_t)g->virtual_max + 1) * sizeof(uint64_t);
  return align_up(slc__layout_maxima(g) + maxima, SLC__PAGE);
}

uint64_t slc__layout_payload_offset(const struct slc__geometry *g) {
  return SLC__PAYLOAD_OFFSET + align_up((uint64_t)g->metadata_size + g->checksum_size, SLC__PAYLOAD_OFFSET);
}

uint32_t slc__layout_inline_max(const struct slc__geometry *g) {
  return g->virtual_max == 0 && g->split == 0 ? SLC__INLINE : 0;
}

uint64_t slc__layout_slot_stride(const struct slc__geometry *g) {
  bool is_behind = g->split == 0 && g->slot_size > slc__layout_inline_max(g);
  uint64_t behind = is_behind ? g->slot_size : 0;
  return align_up(slc__layout_payload_offset(g) + behind, SLC__LINE);
}

uint64_t slc__layout_buffers_size(const struct slc__geometry *g) {
  return align_up(SLC__BUFFERS_FIRST + slc__layout_slot_stride(g) * g->slots, slc__pages_size(g->pages));
}

uint64_t slc__layout_payload_stride(uint64_t slot_size) {
  return align_up(slot_size, SLC__LINE);
}

uint64_t slc__layout_payloads_size(const struct slc__geometry *g, uint64_t slot_size) {
  return align_up(SLC__BUFFERS_FIRST + slc__layout_payload_stride(slot_size) * g->slots, slc__pages_size(g->pages));
}

uint64_t slc__layout_table_size(uint32_t lines) {
  return align_up(sizeof(struct slc__table_page) + (uint64_t)lines * sizeof(struct slc__hold_line), SLC__PAGE);
}

uint32_t slc__layout_table_lines(uint64_t size) {
  if (size < sizeof(struct slc__table_page)) return 0;
  uint64_t lines = (size - sizeof(struct slc__table_page)) / sizeof(struct slc__hold_line);
  return lines > TABLE_LINES_MAX ? TABLE_LINES_MAX : (uint32_t)lines;
}

uint64_t slc__layout_bell_size(void) {
  return align_up(sizeof(struct slc__bell_page), SLC__PAGE);
}

uint32_t slc__layout_lines_for(uint32_t max_holds) {
  return max_holds <= SLC__LINE_HOLDS ? 1 : (max_holds - 1) / SLC__LINE_HOLDS + 1;
}

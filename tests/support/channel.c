/* See channel.h. */
#include "support/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/words.h"
#include "slotcast/status.h"

static void die(const char *what) {
  perror(what);
  abort();
}

static struct slc__mapping shared_memory(uint64_t size) {
  void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) die("mmap of the test channel");
  return (struct slc__mapping){.base = base, .size = size};
}

static bool never_sync(void *ctx, uint64_t epoch) {
  (void)ctx;
  (void)epoch;
  return false;
}

static void init(struct test_channel *channel, struct slc__geometry g, uint32_t lines) {
  memset(channel, 0, sizeof *channel);
  g.log_size = slc__geometry_log_size(g.slots);
  if (slc__geometry_check(&g) != SLC_OK) die("geometry of the test channel");
  channel->geometry = g;
  channel->control_mapping = shared_memory(slc__layout_control_size(&g));
  channel->buffers_mapping = shared_memory(slc__layout_buffers_size(&g));
  channel->table_mapping = shared_memory(slc__layout_table_size(lines));
  channel->bell_mapping = shared_memory(slc__layout_bell_size());
  slc__control_format(&g, channel->control_mapping.base);
  slc__control_init(&channel->control, &g, channel->control_mapping.base);
  slc__buffers_init(&channel->buffers, &g, channel->buffers_mapping.base);
  channel->table = channel->table_mapping.base;
  channel->bell = channel->bell_mapping.base;
  channel->line_capacity = slc__layout_table_lines(channel->table_mapping.size);
  slc__table_format(channel->table, channel->line_capacity);
  slc__bell_format(channel->bell);
  channel->scan_table = (struct slc__scan_table){
      .id = 1, .lines = calloc(channel->line_capacity, 1), .table = channel->table, .bell = channel->bell};
  if (channel->scan_table.lines == NULL) die("calloc");
  channel->membership = (struct slc__membership){.table_count = 1, .tables = &channel->scan_table};
}

void test_channel_init(struct test_channel *channel, uint32_t slots, uint64_t slot_size, uint32_t reliable,
                       uint32_t lines) {
  test_multiplexer_init(channel, slots, slot_size, reliable, lines, 0);
}

void test_channel_init_exclusive(struct test_channel *channel, uint32_t slots, uint64_t slot_size, uint32_t reliable,
                                 uint32_t lines) {
  const struct slc__geometry g = {.slots = slots, .max_publishers = 1, .reliable = reliable, .slot_size = slot_size};
  init(channel, g, lines);
}

void test_multiplexer_init(struct test_channel *channel, uint32_t slots, uint64_t slot_size, uint32_t reliable,
                           uint32_t lines, uint32_t virtual_max) {
  const struct slc__geometry g = {
      .slots = slots, .max_publishers = 64, .reliable = reliable, .slot_size = slot_size, .virtual_max = virtual_max};
  init(channel, g, lines);
}

void test_channel_deinit(struct test_channel *channel) {
  free(channel->scan_table.lines);
  munmap(channel->control_mapping.base, channel->control_mapping.size);
  munmap(channel->buffers_mapping.base, channel->buffers_mapping.size);
  munmap(channel->table_mapping.base, channel->table_mapping.size);
  munmap(channel->bell_mapping.base, channel->bell_mapping.size);
}

uint32_t test_channel_admit(struct test_channel *channel, uint32_t max_holds, bool reliable) {
  uint32_t line = channel->scan_table.line_count, left = max_holds;
  uint32_t lines = slc__layout_lines_for(max_holds);
  if (line + lines > channel->line_capacity) die("too few lines in the test channel");
  slc__line_open(channel->table, line, max_holds);
  for (uint32_t i = 0; i < lines; i++) {
    uint32_t holds = left < SLC__LINE_HOLDS ? left : SLC__LINE_HOLDS;
    channel->scan_table.lines[line + i] = (uint8_t)(holds | (reliable && i == 0 ? SLC__SCAN_RELIABLE : 0));
    left -= holds;
  }
  channel->scan_table.line_count += lines;
  atomic_fetch_add(&channel->control.page->subscribers, 1);
  return line;
}

void test_channel_publisher(struct test_channel *channel, struct slc__pub *pub, uint32_t id) {
  if (slc__pub_init(pub, &channel->control, &channel->buffers, id, slc__geometry_batch(channel->geometry.slots),
                    &channel->membership, never_sync, NULL) != SLC_OK) {
    die("publisher of the test channel");
  }
}

void test_channel_subscriber(struct test_channel *channel, struct slc__sub *sub, uint32_t line, uint32_t max_holds,
                             enum slc__start start) {
  slc__sub_init(sub, &channel->control, &channel->buffers, channel->table, channel->bell, line, max_holds, start,
                slc__first_absent(&channel->control, slc__hint(&channel->control.page->tail)));
}

static uint32_t places_in_log(const struct test_channel *channel, uint32_t slot) {
  uint32_t places = 0;
  for (uint32_t i = 0; i < channel->geometry.log_size; i++) {
    uint64_t word = channel->control.log[i];
    if (word != 0 && !slc__log_is_evicted(word) && slc__log_slot(word) == slot) places++;
  }
  return places;
}

void test_channel_check_slots(const struct test_channel *channel) {
  for (uint32_t slot = 0; slot < channel->geometry.slots; slot++) {
    uint64_t own = channel->control.own[slot];
    uint32_t in_log = places_in_log(channel, slot);
    bool right = slc__own_is_at(own) ? in_log == 1 : slc__own_publisher(own) == 0 && in_log == 0;
    if (!right) {
      fprintf(stderr, "slot %u: owner word %#llx, %u times in the log\n", slot, (unsigned long long)own, in_log);
      abort();
    }
  }
}

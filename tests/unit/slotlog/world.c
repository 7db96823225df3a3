/* See world.h. */
#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "shm/words.h"
#include "slotcast/status.h"

/* ---- the live subscriber ---- */

/* Takes the next message and checks it.  False: there is none. */
static bool live_take(struct world *world, struct slc__taken *taken) {
  struct test_message message;
  int status = slc__sub_take(&world->live, taken);
  if (status == SLC_EMPTY) return false;
  assert_int_equal(status, SLC_OK);
  assert_true(test_message_read(&world->live, taken, &message));
  assert_true(message.publisher <= WORLD_IDS);
  assert_true(message.sequence >= world->expected[message.publisher]);
  world->expected[message.publisher] = message.sequence + 1;
  world->received++;
  assert_int_equal(world->received + world->live.dropped, taken->ordinal + 1);
  return true;
}

static bool live_receive(struct world *world) {
  struct slc__taken taken;
  if (!live_take(world, &taken)) return false;
  assert_int_equal(slc__sub_release(&world->live, taken.hold), SLC_OK);
  return true;
}

void world_drain(struct world *world) {
  while (live_receive(world)) {
  }
}

void world_drain_to_tail(struct world *world) {
  while (slc__sub_lag(&world->live) > 0 && live_receive(world)) {
  }
}

static void live_hold(struct world *world) {
  assert_true(live_take(world, &world->held));
  world->is_holding = true;
}

static void live_unhold(struct world *world) {
  struct test_message message;
  if (!world->is_holding) return;
  assert_true(test_message_read(&world->live, &world->held, &message)); /* all that time */
  assert_int_equal(message.sequence, world->held.timestamp);
  assert_int_equal(slc__sub_release(&world->live, world->held.hold), SLC_OK);
  world->is_holding = false;
}

/* ---- publishers ---- */

static void publish_as(struct world *world, uint32_t id, uint64_t first, uint64_t messages, bool keeping_up) {
  struct slc__pub pub;
  uint64_t ordinal;
  test_channel_publisher(&world->channel, &pub, id);
  for (uint64_t i = 0; i < messages; i++) {
    assert_int_equal(test_message_send(&pub, first + i, &ordinal), SLC_OK);
    if (keeping_up) world_drain(world);
  }
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
}

void world_publish(struct world *world, uint64_t messages, bool keeping_up) {
  publish_as(world, WORLD_HELPER, world->helper_sent, messages, keeping_up);
  world->helper_sent += messages;
}

/* ---- the past ---- */

static void live_through(struct world *world, enum world_past past) {
  switch (past) {
  case WORLD_FULL:
    world_publish(world, 3 * WORLD_SLOTS, false);
    break;
  case WORLD_HELD:
    world_publish(world, 3, false);
    live_hold(world);
    world_publish(world, 3 * WORLD_SLOTS, false);
    break;
  case WORLD_LAP:
    world_publish(world, world->channel.geometry.log_size - 2, true);
    break;
  case WORLD_RELIABLE:
    world_publish(world, 2 * WORLD_SLOTS, true);
    world_publish(world, WORLD_SLOTS / 3, false);
    live_hold(world);
    break;
  default:
    break;
  }
}

void world_init(struct world *world, enum world_past past) {
  bool reliable = past == WORLD_RELIABLE;
  *world = (struct world){0};
  test_channel_init(&world->channel, WORLD_SLOTS, WORLD_SLOT_SIZE, reliable, 2);
  world->live_line = test_channel_admit(&world->channel, WORLD_HOLDS, reliable);
  world->victim_line = test_channel_admit(&world->channel, WORLD_HOLDS, false);
  test_channel_subscriber(&world->channel, &world->live, world->live_line, WORLD_HOLDS, SLC__START_NEWEST);
  test_channel_publisher(&world->channel, &world->bystander, WORLD_BYSTANDER);
  assert_int_equal(slc__pub_loan(&world->bystander, &world->loan), SLC_OK);
  assert_true(world->bystander.free_count > 0);
  live_through(world, past);
}

void world_deinit(struct world *world) {
  slc__pub_deinit(&world->bystander);
  test_channel_deinit(&world->channel);
}

/* ---- afterwards ---- */

/* Its slots are still its own.  They go back by hand, so that its private state can be used once more. */
static void bystander_leaves(const struct world *world) {
  const struct slc__pub *pub = &world->bystander;
  for (uint32_t i = 0; i <= pub->free_count; i++) {
    uint32_t slot = i == pub->free_count ? world->loan : pub->free_slots[(pub->free_first + i) % pub->batch];
    uint64_t own = world->channel.control.own[slot];
    assert_int_equal(own, slc__own_owned(WORLD_BYSTANDER, slc__own_ordinal(own)));
    world->channel.control.own[slot] = slc__own_free(slc__own_ordinal(own));
  }
}

static void check_every_slot_used_since(const struct world *world, uint64_t ordinal) {
  for (uint32_t slot = 0; slot < WORLD_SLOTS; slot++) {
    assert_true(slc__own_ordinal(world->channel.control.own[slot]) >= ordinal);
  }
}

void world_check(struct world *world) {
  bystander_leaves(world);
  test_channel_check_slots(&world->channel);
  world_drain(world);
  /* Under the id of the dead: an id may be used again after its repair. */
  uint64_t base = world->expected[WORLD_VICTIM] + 1000;
  publish_as(world, WORLD_VICTIM, base, 3 * WORLD_SLOTS, true);
  assert_int_equal(world->expected[WORLD_VICTIM], base + 3 * WORLD_SLOTS);
  test_channel_check_slots(&world->channel);
  live_unhold(world);
  uint64_t since = world->live.next;
  publish_as(world, WORLD_VICTIM, world->expected[WORLD_VICTIM], 3 * WORLD_SLOTS, true);
  check_every_slot_used_since(world, since);
  test_channel_check_slots(&world->channel);
  if (world->channel.geometry.reliable) assert_int_equal(world->live.dropped, 0);
}

/* ---- images ---- */

enum { MAPPINGS = 4 };

static const struct slc__mapping *mapping_of(const struct world *world, int i) {
  const struct slc__mapping *mappings[MAPPINGS] = {&world->channel.control_mapping, &world->channel.buffers_mapping,
                                                   &world->channel.table_mapping, &world->channel.bell_mapping};
  return mappings[i];
}

void world_save(const struct world *world, struct world_image *image) {
  image->size = 0;
  for (int i = 0; i < MAPPINGS; i++) image->size += mapping_of(world, i)->size;
  image->bytes = malloc(image->size);
  assert_non_null(image->bytes);
  uint8_t *at = image->bytes;
  for (int i = 0; i < MAPPINGS; at += mapping_of(world, i)->size, i++) {
    memcpy(at, mapping_of(world, i)->base, mapping_of(world, i)->size);
  }
}

void world_restore(const struct world *world, const struct world_image *image) {
  const uint8_t *at = image->bytes;
  for (int i = 0; i < MAPPINGS; at += mapping_of(world, i)->size, i++) {
    memcpy(mapping_of(world, i)->base, at, mapping_of(world, i)->size);
  }
}

bool world_equals(const struct world *world, const struct world_image *image) {
  const uint8_t *at = image->bytes;
  for (int i = 0; i < MAPPINGS; at += mapping_of(world, i)->size, i++) {
    if (memcmp(mapping_of(world, i)->base, at, mapping_of(world, i)->size) != 0) return false;
  }
  return true;
}

void world_image_free(struct world_image *image) {
  free(image->bytes);
  *image = (struct world_image){0};
}

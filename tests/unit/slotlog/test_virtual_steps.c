/* A publisher of a virtual channel dies, or is delayed, at every place of its work where shared memory changes: stepped
 * one machine instruction at a time.  Each time others go on, also in the same virtual channel, and its ordinals have
 * neither a hole nor a duplicate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/virtual.h"
#include "slotcast/status.h"
#include "support/channel.h"
#include "support/step.h"

enum { SLOTS = 24, SLOT_SIZE = 40, VIRTUAL_MAX = 2, HOLDS = 1, OBJECTS = 4, SENT = 3 };
enum { STEPPED = 1, OTHER = 2, LATER = 3 }; /* publishers */
enum { MINE = 1, ELSEWHERE = 2 };           /* virtual channels */

static struct test_channel channel;
static struct slc__pub stepped; /* the child's */
static uint32_t line;

/* ---- publishing ---- */

static int send_one(struct slc__pub *pub, uint32_t id) {
  uint32_t slot;
  uint64_t ordinal;
  slc__pub_set_virtual(pub, id, 0);
  int status = slc__pub_loan(pub, &slot);
  if (status != SLC_OK) return status;
  memset(slc__pub_payload(pub, slot, SLOT_SIZE), (int)id, SLOT_SIZE);
  const struct slc__sending sending = {.size = SLOT_SIZE};
  return slc__pub_publish(pub, slot, &sending, &ordinal);
}

static void prepare(void *ctx) {
  (void)ctx;
  test_channel_publisher(&channel, &stepped, STEPPED);
}

static void work(void *ctx) {
  (void)ctx;
  for (int i = 0; i < SENT; i++) {
    if (send_one(&stepped, MINE) != SLC_OK) _exit(1);
  }
  slc__pub_leave(&stepped);
}

/* As another publisher, which comes and goes. */
static void send_as(uint32_t publisher, uint32_t id, int messages) {
  struct slc__pub pub;
  test_channel_publisher(&channel, &pub, publisher);
  for (int i = 0; i < messages; i++) assert_int_equal(send_one(&pub, id), SLC_OK);
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
}

/* Takes every slot back that it can get, the latest message's too. */
static void evict_all_as(uint32_t publisher) {
  struct slc__pub pub;
  uint32_t loans[SLOTS], count = 0;
  test_channel_publisher(&channel, &pub, publisher);
  slc__pub_set_virtual(&pub, ELSEWHERE, 0);
  while (count < SLOTS && slc__pub_loan(&pub, &loans[count]) == SLC_OK) count++;
  assert_true(count > 0);
  while (count > 0) slc__pub_discard(&pub, loans[--count]);
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
}

/* ---- what must hold ---- */

struct tally {
  uint64_t expected[VIRTUAL_MAX + 1]; /* the next ordinal */
  uint64_t received;
};

static void note_lost(void *ctx, uint32_t id, uint64_t first, uint64_t count) {
  struct tally *tally = ctx;
  assert_int_equal(first + 1, tally->expected[id]);
  tally->expected[id] += count;
}

/* Reads from the beginning.  Every ordinal is received or told as lost, each once and in its order, and there are as
 * many of them as messages. */
static void check_ordinals(void) {
  struct slc__sub sub;
  struct slc__taken taken;
  struct slc__virtual_count counts[VIRTUAL_MAX + 1] = {{0}};
  struct slc__virtual_view view = {.counts = counts};
  struct tally tally = {.expected = {0, 1, 1}};
  slc__line_open(channel.table, line, HOLDS);
  test_channel_subscriber(&channel, &sub, line, HOLDS, SLC__START_FIRST);
  sub.on_drop = note_lost;
  sub.drop_ctx = &tally;
  slc__sub_set_view(&sub, &view);
  int status;
  while ((status = slc__sub_take(&sub, &taken)) == SLC_OK) {
    struct slc__virtual_name name = slc__virtual_name(&sub, taken.slot);
    assert_true(name.id == MINE || name.id == ELSEWHERE);
    assert_int_equal(*(const uint8_t *)taken.payload, name.id);
    assert_int_equal(name.ordinal, tally.expected[name.id]);
    tally.expected[name.id]++;
    tally.received++;
    assert_int_equal(slc__sub_release(&sub, taken.hold), SLC_OK);
  }
  assert_int_equal(status, SLC_EMPTY);
  assert_int_equal(tally.received + sub.dropped, sub.next);
  assert_int_equal(tally.expected[MINE] + tally.expected[ELSEWHERE] - 2, sub.next);
}

/* ---- the places ---- */

static const struct slc__mapping *object(int i) {
  const struct slc__mapping *objects[OBJECTS] = {&channel.control_mapping, &channel.buffers_mapping,
                                                 &channel.table_mapping, &channel.bell_mapping};
  return objects[i];
}

struct image {
  uint8_t *bytes[OBJECTS];
};

static void image_save(struct image *image) {
  for (int i = 0; i < OBJECTS; i++) memcpy(image->bytes[i], object(i)->base, object(i)->size);
}

static void image_restore(const struct image *image) {
  for (int i = 0; i < OBJECTS; i++) memcpy(object(i)->base, image->bytes[i], object(i)->size);
}

static bool has_changed(const struct image *image) {
  for (int i = 0; i < OBJECTS; i++) {
    if (memcmp(object(i)->base, image->bytes[i], object(i)->size) != 0) return true;
  }
  return false;
}

/* At each place a copy of the process dies or is delayed; then all is as it was. */
static void at_each_place(int past, void (*what)(pid_t copy)) {
  struct image image;
  struct test_step step;
  int places = 0;
  test_multiplexer_init(&channel, SLOTS, SLOT_SIZE, 0, 1, VIRTUAL_MAX);
  line = test_channel_admit(&channel, HOLDS, false);
  send_as(LATER, ELSEWHERE, past);
  send_as(LATER, MINE, 1);
  for (int i = 0; i < OBJECTS; i++) assert_non_null(image.bytes[i] = malloc(object(i)->size));
  image_save(&image);
  test_step_start(&step, prepare, work, NULL);
  do {
    if (places > 0 && !has_changed(&image)) continue;
    image_save(&image);
    places++;
    what(test_step_copy(&step));
    check_ordinals();
    image_restore(&image);
  } while (test_step_once(&step));
  test_step_finish(&step);
  check_ordinals();
  assert_true(places > 10 * SENT);
  for (int i = 0; i < OBJECTS; i++) free(image.bytes[i]);
  test_channel_deinit(&channel);
}

static void dies(pid_t copy) {
  test_step_copy_kill(copy);
  send_as(OTHER, MINE, 1); /* before its repair, too */
  slc__repair(&channel.control, STEPPED);
  send_as(OTHER, MINE, 2);
  send_as(STEPPED, ELSEWHERE, 1);
  test_channel_check_slots(&channel);
}

static void dies_and_all_is_evicted(pid_t copy) {
  test_step_copy_kill(copy);
  evict_all_as(OTHER);
  send_as(OTHER, MINE, 1);
  slc__repair(&channel.control, STEPPED);
  send_as(OTHER, MINE, 1);
  test_channel_check_slots(&channel);
}

static void is_delayed(pid_t copy) {
  send_as(OTHER, MINE, 2);
  send_as(OTHER, ELSEWHERE, 1);
  test_step_copy_finish(copy);
  send_as(OTHER, MINE, 1);
  test_channel_check_slots(&channel);
}

static void is_delayed_for_laps(pid_t copy) {
  send_as(OTHER, MINE, 2 * SLOTS);
  test_step_copy_finish(copy);
  send_as(OTHER, MINE, 1);
  test_channel_check_slots(&channel);
}

static void test_virtual_steps_death(void **state) {
  (void)state;
  at_each_place(2, dies);
  at_each_place(3 * SLOTS, dies);
  at_each_place(2, dies_and_all_is_evicted);
}

static void test_virtual_steps_delay(void **state) {
  (void)state;
  at_each_place(2, is_delayed);
  at_each_place(3 * SLOTS, is_delayed);
  at_each_place(2, is_delayed_for_laps);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_virtual_steps_death),
      cmocka_unit_test(test_virtual_steps_delay),
  };
  return cmocka_run_group_tests_name("slotlog_virtual_steps", tests, NULL, NULL);
}

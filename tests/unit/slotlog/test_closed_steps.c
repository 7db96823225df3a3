/* A reliable subscriber is closed, and what it has not taken evicted, at every machine instruction of its takes: it
 * never goes on behind a gap, and what it holds stays whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slotcast/status.h"
#include "support/channel.h"
#include "support/step.h"
#include "support/stream.h"

enum { SLOTS = 16, SLOT_SIZE = 64, HOLDS = 3, OBJECTS = 4 };
enum { FIRST = 1, OTHER = 2 }; /* publishers */

static struct test_channel channel;
static struct slc__sub sub; /* the child's */
static uint32_t line;
static uint64_t sent;

/* ---- the subscriber ---- */

static void prepare(void *ctx) {
  (void)ctx;
  test_channel_subscriber(&channel, &sub, line, HOLDS, SLC__START_OLDEST);
}

/* What was taken is the next, and whole; it is given back. */
static void receive(const struct slc__taken *taken, uint64_t *next) {
  struct test_message message;
  if (taken->ordinal != *next || !test_message_read(&sub, taken, &message) || message.sequence != *next) _exit(1);
  ++*next;
  if (slc__sub_release(&sub, taken->hold) != SLC_OK) _exit(2);
}

/* All ways to take that go in order: by the log, by the announcement, many. */
static void work(void *ctx) {
  (void)ctx;
  struct slc__taken taken[HOLDS];
  uint64_t next = 0;
  int status = SLC_OK;
  for (int i = 0; i < 4 && status == SLC_OK; i++) {
    size_t count = 1;
    status = i < 2 ? slc__sub_take(&sub, taken) : slc__sub_take_many(&sub, taken, HOLDS, &count);
    for (size_t k = 0; status == SLC_OK && k < count; k++) receive(&taken[k], &next);
  }
  if (status != SLC_OK && status != SLC_DISCONNECTED) _exit(3);
}

/* ---- the broker, and a publisher that goes on ---- */

static void close_and_go_on(uint64_t messages) {
  struct slc__pub pub;
  uint8_t admitted = channel.scan_table.lines[line];
  slc__line_shut(channel.table, line, SLC__CLOSED_STALLS);
  channel.scan_table.lines[line] = (uint8_t)((admitted & SLC__SCAN_HOLDS) | SLC__SCAN_CLOSED);
  channel.membership.epoch++;
  atomic_store(&channel.control.page->epoch, channel.membership.epoch);
  test_channel_publisher(&channel, &pub, OTHER);
  uint64_t ordinal;
  for (uint64_t i = 0; i < messages; i++) assert_int_equal(test_message_send(&pub, sent + i, &ordinal), SLC_OK);
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
  channel.scan_table.lines[line] = admitted;
  channel.membership.epoch--;
}

/* ---- the places ---- */

/* The oldest few are evicted, so that of those taken together some are still there; more; all. */
static const uint64_t later[] = {1, SLOTS / 2, 4 * SLOTS};
enum { CASES = sizeof later / sizeof later[0] };

static const struct slc__mapping *object(int i) {
  const struct slc__mapping *objects[OBJECTS] = {&channel.control_mapping, &channel.buffers_mapping,
                                                 &channel.table_mapping, &channel.bell_mapping};
  return objects[i];
}

static void test_closed_at_every_instruction(void **state) {
  (void)state;
  struct slc__pub pub;
  struct test_step step;
  uint8_t *image[OBJECTS];
  uint64_t ordinal;
  test_channel_init(&channel, SLOTS, SLOT_SIZE, 1, 1);
  line = test_channel_admit(&channel, HOLDS, true);
  test_channel_publisher(&channel, &pub, FIRST);
  while (test_message_send(&pub, sent, &ordinal) == SLC_OK) sent++;
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
  for (int i = 0; i < OBJECTS; i++) {
    image[i] = malloc(object(i)->size);
    assert_non_null(image[i]);
  }
  test_step_start(&step, prepare, work, NULL);
  do {
    for (int i = 0; i < OBJECTS; i++) memcpy(image[i], object(i)->base, object(i)->size);
    for (int k = 0; k < CASES; k++) {
      pid_t copy = test_step_copy(&step);
      close_and_go_on(later[k]);
      test_step_copy_finish(copy);
      for (int i = 0; i < OBJECTS; i++) memcpy(object(i)->base, image[i], object(i)->size);
    }
  } while (test_step_once(&step));
  assert_true(step.steps > 100);
  test_step_finish(&step);
  for (int i = 0; i < OBJECTS; i++) free(image[i]);
  test_channel_deinit(&channel);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_closed_at_every_instruction)};
  return cmocka_run_group_tests_name("slotlog_closed_steps", tests, NULL, NULL);
}

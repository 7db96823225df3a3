/* Two publishers ring for one subscriber that waits on its doorbell.  The first is stopped before each instruction of
 * its publish in turn; meanwhile the second publishes, and the subscriber takes all there is and arms again.  However
 * the two rings fall, the subscriber is told of what comes then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slotcast/status.h"
#include "support/channel.h"
#include "support/step.h"
#include "support/stream.h"

enum { SLOTS = 16, SLOT_SIZE = 64 };

static struct test_channel channel;
static struct slc__scan_doorbell doorbell;
static struct slc__pub stepped, other;
static struct slc__sub sub;
static uint32_t loan;
static int bell_fd;

static void prepare(void *ctx) {
  (void)ctx;
  test_channel_publisher(&channel, &stepped, 1);
  if (slc__pub_loan(&stepped, &loan) != SLC_OK) abort();
}

static void work(void *ctx) {
  const struct slc__sending sending = {.size = SLOT_SIZE, .timestamp = 1};
  uint64_t ordinal;
  (void)ctx;
  if (slc__pub_publish(&stepped, loan, &sending, &ordinal) != SLC_OK) abort();
}

static bool is_rung(void) {
  char byte;
  bool rung = false;
  while (recv(bell_fd, &byte, 1, 0) == 1) rung = true;
  return rung;
}

/* Takes everything, and is armed. */
static void drain(void) {
  struct slc__taken taken;
  is_rung();
  do {
    while (slc__sub_take(&sub, &taken) == SLC_OK) assert_int_equal(slc__sub_release(&sub, taken.hold), SLC_OK);
  } while (!slc__sub_arm(&sub));
}

static void set_up(void) {
  int pair[2];
  test_channel_init(&channel, SLOTS, SLOT_SIZE, 0, 1);
  uint32_t line = test_channel_admit(&channel, 1, false);
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  bell_fd = pair[1];
  doorbell = (struct slc__scan_doorbell){.table = 0, .line = line, .fd = pair[0]};
  channel.membership.doorbell_count = 1;
  channel.membership.doorbells = &doorbell;
  test_channel_publisher(&channel, &other, 2);
  drain();
}

static void tear_down(void) {
  slc__pub_leave(&other);
  slc__pub_deinit(&other);
  close(doorbell.fd);
  close(bell_fd);
  test_channel_deinit(&channel);
}

/* False: the publish has no so many instructions. */
static bool try_after(uint64_t instructions) {
  struct test_step step;
  uint64_t ordinal;
  set_up();
  test_step_start(&step, prepare, work, NULL);
  bool within = test_step_many(&step, instructions);
  assert_int_equal(test_message_send(&other, 0, &ordinal), SLC_OK);
  drain();
  test_step_finish(&step);
  bool rung = is_rung();
  if (slc__sub_ready(&sub) && !rung) fail_msg("not told of the first's message, %ju", (uintmax_t)instructions);
  if (!rung) {
    assert_int_equal(test_message_send(&other, 1, &ordinal), SLC_OK);
    if (!is_rung()) fail_msg("not told of the second's message, %ju", (uintmax_t)instructions);
  }
  tear_down();
  return within;
}

static void test_doorbell_two_ring(void **state) {
  (void)state;
  uint64_t instructions = 0;
  while (try_after(instructions)) instructions++;
  print_message("%ju places\n", (uintmax_t)instructions);
  assert_true(instructions > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_doorbell_two_ring)};
  return cmocka_run_group_tests_name("doorbell", tests, NULL, NULL);
}

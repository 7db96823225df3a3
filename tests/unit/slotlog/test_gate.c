/* Sleeping and waking between real processes: whoever arms is rung, whoever is rung wakes, and nobody is rung twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/gate.h"
#include "slotcast/status.h"
#include "support/channel.h"
#include "support/stream.h"

struct shared {
  _Atomic uint64_t armed, bell, other_bell, progress, go;
};

static struct shared *shared_new(void) {
  struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(shared, MAP_FAILED);
  shared->bell = shared->other_bell = 1;
  return shared;
}

static pid_t start(void (*work)(struct shared *), struct shared *shared) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    work(shared);
    _exit(0);
  }
  return pid;
}

static void finish(pid_t pid) {
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_gate_arms_for_present_value(void **state) {
  (void)state;
  _Atomic uint64_t armed = 0, bell = 1;
  assert_false(slc__gate_is_armed(&armed, &bell));
  assert_int_equal(slc__gate_arm(&armed, &bell), 1);
  assert_true(slc__gate_is_armed(&armed, &bell));
  slc__gate_ring(&bell);
  assert_false(slc__gate_is_armed(&armed, &bell)); /* once per arming */
  armed = 7;
  assert_int_equal(slc__gate_arm(&armed, &bell), 2);
  assert_int_equal(armed, 7); /* never lowered: that would un-arm another */
}

static void test_gate_does_not_sleep_when_rung(void **state) {
  (void)state;
  _Atomic uint64_t armed = 0, bell = 1, other = 5;
  uint64_t value = slc__gate_arm(&armed, &bell);
  slc__gate_ring(&bell);
  assert_true(slc__gate_sleep(&bell, value, SLC__DEADLINE_NEVER));
  const struct slc__gate_wait waits[] = {{&other, 5}, {&bell, value}};
  assert_true(slc__gate_sleep_any(waits, 2, SLC__DEADLINE_NEVER));
  assert_true(slc__gate_sleep_any(&waits[1], 1, SLC__DEADLINE_NEVER));
}

static void test_gate_times_out(void **state) {
  (void)state;
  _Atomic uint64_t bell = 1, other = 1;
  const struct slc__gate_wait waits[] = {{&bell, 1}, {&other, 1}};
  for (size_t count = 0; count <= 2; count++) {
    int64_t deadline = slc__clock_ns() + 2000000;
    while (slc__gate_sleep_any(waits, count, deadline)) {
    }
    assert_true(slc__clock_ns() >= deadline);
  }
  assert_false(slc__gate_sleep(&bell, 1, 0)); /* a deadline in the past */
}

/* A bell's high half has moved, its low half not: with 64 bits an old value never comes back. */
static void test_gate_is_64_bits(void **state) {
  (void)state;
  _Atomic uint64_t armed = 5, bell = 5 + (UINT64_C(1) << 32);
  assert_false(slc__gate_is_armed(&armed, &bell));
  bell = UINT32_MAX;
  slc__gate_ring(&bell);
  assert_int_equal(bell, UINT64_C(1) << 32);
}

/* ---- many sleepers, none missed ---- */

enum { ROUNDS = 3000, SLEEPERS = 3 };

static void sleep_for_rounds(struct shared *shared) {
  for (uint64_t seen = 0; seen < ROUNDS;) {
    uint64_t value = slc__gate_arm(&shared->armed, &shared->bell);
    uint64_t go = atomic_load(&shared->go);
    if (go == seen) {
      slc__gate_sleep(&shared->bell, value, SLC__DEADLINE_NEVER);
      continue;
    }
    seen = go;
    atomic_fetch_add(&shared->progress, 1);
  }
}

/* Lost once, lost for ever: the next round waits for all of them, so a lost wake-up hangs until the watchdog. */
static void test_gate_no_lost_wake_up(void **state) {
  (void)state;
  struct shared *shared = shared_new();
  pid_t sleepers[SLEEPERS];
  for (int i = 0; i < SLEEPERS; i++) sleepers[i] = start(sleep_for_rounds, shared);
  for (uint64_t round = 1; round <= ROUNDS; round++) {
    atomic_store(&shared->go, round);
    if (slc__gate_is_armed(&shared->armed, &shared->bell)) slc__gate_ring(&shared->bell);
    while (atomic_load(&shared->progress) < round * SLEEPERS) sched_yield();
  }
  for (int i = 0; i < SLEEPERS; i++) finish(sleepers[i]);
  munmap(shared, sizeof *shared);
}

static void sleep_on_either(struct shared *shared) {
  for (uint64_t seen = 0; seen < ROUNDS;) {
    struct slc__gate_wait waits[] = {{&shared->bell, slc__gate_arm(&shared->armed, &shared->bell)},
                                     {&shared->other_bell, atomic_load(&shared->other_bell)}};
    uint64_t go = atomic_load(&shared->go);
    if (go == seen) {
      slc__gate_sleep_any(waits, 2, SLC__DEADLINE_NEVER);
      continue;
    }
    seen = go;
    atomic_fetch_add(&shared->progress, 1);
  }
}

static void test_gate_sleeps_on_several(void **state) {
  (void)state;
  struct shared *shared = shared_new();
  pid_t sleeper = start(sleep_on_either, shared);
  for (uint64_t round = 1; round <= ROUNDS; round++) {
    atomic_store(&shared->go, round);
    slc__gate_ring(round % 2 != 0 ? &shared->bell : &shared->other_bell);
    while (atomic_load(&shared->progress) < round) sched_yield();
  }
  finish(sleeper);
  munmap(shared, sizeof *shared);
}

/* ---- over the slot log ---- */

static struct test_channel channel;

static void send_each_when_asked(struct shared *shared) {
  struct slc__pub pub;
  uint64_t ordinal;
  test_channel_publisher(&channel, &pub, 1);
  for (uint64_t i = 0; i < ROUNDS; i++) {
    while (atomic_load(&shared->go) <= i) sched_yield();
    if (test_message_send(&pub, i, &ordinal) != SLC_OK) _exit(1);
  }
  slc__pub_leave(&pub);
}

static void test_gate_subscriber_sleeps(void **state) {
  (void)state;
  struct shared *shared = shared_new();
  test_channel_init(&channel, 16, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 1, false);
  struct slc__sub sub;
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  pid_t publisher = start(send_each_when_asked, shared);
  for (uint64_t i = 0; i < ROUNDS; i++) {
    struct slc__taken taken;
    struct test_message message;
    atomic_store(&shared->go, i + 1);
    while (slc__sub_take(&sub, &taken) == SLC_EMPTY) {
      assert_true(slc__sub_wait(&sub, SLC__DEADLINE_NEVER, i % 3 == 0 ? 1000 : 0) >= 0);
    }
    assert_true(test_message_read(&sub, &taken, &message) && message.sequence == i);
    slc__sub_release(&sub, taken.hold);
  }
  finish(publisher);
  assert_int_equal(slc__sub_wait(&sub, slc__clock_ns() + 1000000, 0), SLC_TIMED_OUT);
  assert_int_equal(slc__sub_wait(&sub, slc__clock_ns() + 1000000, INT64_MAX), SLC_TIMED_OUT);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
  munmap(shared, sizeof *shared);
}

/* The broker may count and ring while a subscriber polls or is about to arm: it must not sleep through that. */
static void test_gate_publishers_change_before_sleep(void **state) {
  (void)state;
  test_channel_init(&channel, 16, 64, 0, 1);
  uint32_t line = test_channel_admit(&channel, 1, false);
  struct slc__sub sub;
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  assert_false(slc__sub_publishers_changed(&sub));
  atomic_store(&channel.control.page->publishers, 1);
  slc__ring_all(channel.table, channel.bell);
  assert_int_equal(slc__sub_wait(&sub, SLC__DEADLINE_NEVER, 0), SLC__SUB_RUNG);
  assert_int_equal(slc__sub_wait(&sub, SLC__DEADLINE_NEVER, INT64_MAX), SLC__SUB_RUNG);
  assert_true(slc__sub_publishers_changed(&sub));
  assert_false(slc__sub_publishers_changed(&sub));
  assert_int_equal(slc__sub_wait(&sub, slc__clock_ns() + 1000000, 0), SLC_TIMED_OUT);
  atomic_store(&channel.control.page->publishers_joined, 2); /* one has gone, another come */
  assert_int_equal(slc__sub_wait(&sub, SLC__DEADLINE_NEVER, 1000), SLC__SUB_RUNG);
  assert_true(slc__sub_publishers_changed(&sub));
  test_channel_deinit(&channel);
}

static void send_all_reliably(struct shared *shared) {
  struct slc__pub pub;
  uint64_t ordinal;
  (void)shared;
  test_channel_publisher(&channel, &pub, 1);
  for (uint64_t i = 0; i < ROUNDS; i++) {
    while (test_message_send(&pub, i, &ordinal) == SLC_WOULD_BLOCK) {
      if (slc__pub_wait(&pub, SLC__DEADLINE_NEVER, i % 3 == 0 ? 1000 : 0) != SLC_OK) _exit(1);
    }
  }
  slc__pub_leave(&pub);
}

/* The publisher sleeps for want of slots, the subscriber for want of messages, in turn. */
static void test_gate_publisher_sleeps(void **state) {
  (void)state;
  struct shared *shared = shared_new();
  test_channel_init(&channel, 4, 64, 1, 1);
  uint32_t line = test_channel_admit(&channel, 1, true);
  struct slc__sub sub;
  test_channel_subscriber(&channel, &sub, line, 1, SLC__START_NEWEST);
  pid_t publisher = start(send_all_reliably, shared);
  for (uint64_t i = 0; i < ROUNDS; i++) {
    struct slc__taken taken;
    struct test_message message;
    while (slc__sub_take(&sub, &taken) == SLC_EMPTY) slc__sub_wait(&sub, SLC__DEADLINE_NEVER, 0);
    assert_true(test_message_read(&sub, &taken, &message) && message.sequence == i);
    slc__sub_release(&sub, taken.hold);
  }
  finish(publisher);
  assert_int_equal(sub.dropped, 0);
  test_channel_check_slots(&channel);
  test_channel_deinit(&channel);
  munmap(shared, sizeof *shared);
}

/* The descriptor of a subscriber that armed is rung once, that of one that did not is left alone. */
static void test_gate_doorbells(void **state) {
  (void)state;
  test_channel_init(&channel, 16, 64, 0, 2);
  struct slc__sub subs[2];
  int pairs[2][2];
  struct slc__scan_doorbell doorbells[2];
  for (uint32_t i = 0; i < 2; i++) {
    uint32_t line = test_channel_admit(&channel, 1, false);
    test_channel_subscriber(&channel, &subs[i], line, 1, SLC__START_NEWEST);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pairs[i]), 0);
    doorbells[i] = (struct slc__scan_doorbell){.table = 0, .line = line, .fd = pairs[i][0]};
  }
  channel.membership.doorbell_count = 2;
  channel.membership.doorbells = doorbells;
  struct slc__pub pub;
  uint64_t ordinal;
  char byte;
  test_channel_publisher(&channel, &pub, 1);
  assert_int_equal(test_message_send(&pub, 0, &ordinal), SLC_OK);
  assert_int_equal(recv(pairs[1][1], &byte, 1, 0), -1);
  assert_false(slc__sub_arm(&subs[1])); /* something is there already */
  struct slc__taken taken;
  assert_int_equal(slc__sub_take(&subs[1], &taken), SLC_OK);
  assert_true(slc__sub_arm(&subs[1]));
  assert_int_equal(test_message_send(&pub, 1, &ordinal), SLC_OK);
  assert_int_equal(test_message_send(&pub, 2, &ordinal), SLC_OK);
  assert_int_equal(recv(pairs[1][1], &byte, 1, 0), 1);
  assert_int_equal(recv(pairs[1][1], &byte, 1, 0), -1);
  assert_int_equal(recv(pairs[0][1], &byte, 1, 0), -1);
  for (int i = 0; i < 2; i++) {
    close(pairs[i][0]);
    close(pairs[i][1]);
  }
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
  test_channel_deinit(&channel);
}

/* What the broker does for the dead: sleepers wake though nobody armed them, subscribers and publishers alike. */
static void wait_for_bell(struct shared *shared) {
  struct slc__sub sub;
  test_channel_subscriber(&channel, &sub, 0, 1, SLC__START_NEWEST);
  while (atomic_load(&shared->go) == 0) {
    atomic_fetch_add(&shared->progress, 1);
    slc__sub_wait(&sub, SLC__DEADLINE_NEVER, 0);
  }
}

static void test_gate_ring_all(void **state) {
  (void)state;
  struct shared *shared = shared_new();
  test_channel_init(&channel, 16, 64, 0, 1);
  test_channel_admit(&channel, 1, false);
  pid_t sleeper = start(wait_for_bell, shared);
  while (atomic_load(&shared->progress) == 0) sched_yield();
  atomic_store(&shared->go, 1);
  uint64_t released = channel.table->released;
  uint64_t rings = 0;
  int status;
  /* Again and again: that nothing was published is no reason for it to stay awake if it was rung before it slept. */
  for (pid_t ended = 0; ended == 0; rings++) {
    slc__ring_all(channel.table, channel.bell);
    ended = waitpid(sleeper, &status, WNOHANG);
    assert_true(ended >= 0);
  }
  assert_int_equal(status, 0);
  assert_int_equal(channel.table->released, released + rings);
  test_channel_deinit(&channel);
  munmap(shared, sizeof *shared);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_gate_arms_for_present_value),
      cmocka_unit_test(test_gate_does_not_sleep_when_rung),
      cmocka_unit_test(test_gate_times_out),
      cmocka_unit_test(test_gate_is_64_bits),
      cmocka_unit_test(test_gate_no_lost_wake_up),
      cmocka_unit_test(test_gate_sleeps_on_several),
      cmocka_unit_test(test_gate_subscriber_sleeps),
      cmocka_unit_test(test_gate_publishers_change_before_sleep),
      cmocka_unit_test(test_gate_publisher_sleeps),
      cmocka_unit_test(test_gate_doorbells),
      cmocka_unit_test(test_gate_ring_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

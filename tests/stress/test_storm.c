/* A thousand deaths on one channel, in the middle of streams.
 *
 * The test plays the broker.  Two publishers and two subscribers live through all of it, and their streams must stay
 * whole; publishers and subscribers beside them are killed with SIGKILL wherever they happen to be, repaired, and born
 * again under the same id or on the same line.  At the end every slot is accounted for and serves again.
 *
 * And the same on a channel of one publisher, which does not survive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/words.h"
#include "slotcast/status.h"
#include "support/channel.h"
#include "support/stream.h"

enum {
  KILLS = 1000,
  PUBLISHERS = 5,  /* the first two survive */
  SUBSCRIBERS = 6, /* the first two survive; the even ones are reliable */
  SURVIVORS = 2,   /* of each kind */
  BATCH = 3,
  HOLDS = 3,
  SLOT_SIZE = 300,
  SLOTS = PUBLISHERS * (1 + BATCH) + SUBSCRIBERS * HOLDS + 1,
  INCARNATION_SHIFT = 24, /* of a publisher's sequence numbers: each life begins a new series */
};

struct shared {
  _Atomic uint64_t published[PUBLISHERS], taken[SUBSCRIBERS];
  _Atomic uint32_t stop; /* the survivors end */
  _Atomic uint32_t publishers_done;
};

/* Who takes part; the first ones survive. */
static uint32_t publisher_count, publisher_survivors;

static struct test_channel channel;
static struct shared *shared;
static uint32_t lines[SUBSCRIBERS];
static pid_t publishers[PUBLISHERS], subscribers[SUBSCRIBERS];
static uint64_t incarnation[PUBLISHERS];

static void check(bool right, const char *what, uint64_t a, uint64_t b) {
  if (right) return;
  fprintf(stderr, "%s: %llu, %llu\n", what, (unsigned long long)a, (unsigned long long)b);
  abort();
}

static bool is_reliable(uint32_t subscriber) {
  return subscriber % 2 == 0;
}

/* ---- publishers ---- */

/* Every line there can be is scanned all the time, so whatever has come is known already. */
static bool sync_epoch(void *ctx, uint64_t epoch) {
  struct slc__membership *membership = ctx;
  membership->epoch = epoch;
  return true;
}

static _Noreturn void publish(uint32_t number) {
  struct slc__membership membership = channel.membership;
  struct slc__pub pub;
  uint64_t ordinal, sequence = incarnation[number] << INCARNATION_SHIFT;
  int status =
      slc__pub_init(&pub, &channel.control, &channel.buffers, number + 1, BATCH, &membership, sync_epoch, &membership);
  check(status == SLC_OK, "pub_init", 0, 0);
  while (atomic_load(&shared->stop) == 0) {
    status = test_message_send(&pub, sequence, &ordinal);
    if (status == SLC_WOULD_BLOCK) {
      slc__pub_wait(&pub, SLC__DEADLINE_NEVER, 1000);
      continue;
    }
    check(status == SLC_OK, "send", number, (uint64_t)-status);
    sequence++;
    atomic_fetch_add(&shared->published[number], 1);
  }
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
  atomic_fetch_add(&shared->publishers_done, 1);
  _exit(0);
}

/* ---- subscribers ---- */

struct watcher {
  struct slc__sub sub;
  uint32_t number;
  uint64_t received, first;
  uint64_t next[PUBLISHERS]; /* sequence numbers */
  bool seen[PUBLISHERS];
};

/* Nothing is missing within a life, when the subscriber is reliable; and a life is never seen after the next. */
static void check_order(struct watcher *w, struct test_message message, uint64_t ordinal) {
  check(message.publisher >= 1 && message.publisher <= PUBLISHERS, "publisher", message.publisher, 0);
  uint32_t p = message.publisher - 1;
  uint64_t life = message.sequence >> INCARNATION_SHIFT, expected_life = w->next[p] >> INCARNATION_SHIFT;
  if (w->seen[p]) {
    check(message.sequence >= w->next[p], "order", message.sequence, w->next[p]);
    if (is_reliable(w->number)) {
      bool begins = life > expected_life && (message.sequence & ((1u << INCARNATION_SHIFT) - 1)) == 0;
      check(message.sequence == w->next[p] || begins, "a reliable subscriber missed messages", message.sequence,
            w->next[p]);
    }
  }
  w->seen[p] = true;
  w->next[p] = message.sequence + 1;
  if (w->received++ == 0) w->first = ordinal - w->sub.dropped; /* it may have lost some before its first */
  check(w->received + w->sub.dropped == ordinal - w->first + 1, "drops", w->received, w->sub.dropped);
}

static bool receive(struct watcher *w, struct slc__taken *held, uint32_t *count) {
  struct test_message message;
  struct slc__taken *taken = &held[*count];
  int status = slc__sub_take(&w->sub, taken);
  if (status == SLC_EMPTY) return false;
  check(status == SLC_OK, "take", w->number, (uint64_t)-status);
  check(test_message_read(&w->sub, taken, &message), "torn", taken->ordinal, w->number);
  check_order(w, message, taken->ordinal);
  ++*count;
  atomic_fetch_add(&shared->taken[w->number], 1);
  return true;
}

static void release_all(struct watcher *w, struct slc__taken *held, uint32_t *count) {
  struct test_message message;
  while (*count > 0) {
    const struct slc__taken *taken = &held[--*count];
    check(test_message_read(&w->sub, taken, &message), "rewritten while held", taken->ordinal, w->number);
    check(slc__sub_release(&w->sub, taken->hold) == SLC_OK, "release", taken->hold, 0);
  }
}

static _Noreturn void subscribe(uint32_t number) {
  struct watcher w = {.number = number};
  struct slc__taken held[HOLDS];
  uint32_t count = 0;
  test_channel_subscriber(&channel, &w.sub, lines[number], HOLDS, SLC__START_OLDEST);
  for (;;) {
    /* Before the look. */
    bool over = atomic_load(&shared->stop) != 0 && atomic_load(&shared->publishers_done) == publisher_survivors;
    if (receive(&w, held, &count)) {
      if (count == 1 + number % HOLDS) release_all(&w, held, &count);
      continue;
    }
    release_all(&w, held, &count);
    if (over) break;
    slc__sub_wait(&w.sub, SLC__DEADLINE_NEVER, 1000);
  }
  check(w.received + w.sub.dropped == w.sub.next - w.first, "drops at the end", w.received, w.sub.dropped);
  if (is_reliable(number)) check(w.sub.dropped == 0, "a reliable subscriber lost messages", w.sub.dropped, 0);
  _exit(0);
}

/* ---- the broker ---- */

static pid_t start(void (*role)(uint32_t), uint32_t number) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    role(number);
  }
  return pid;
}

static void start_publisher(uint32_t number) {
  atomic_store(&shared->published[number], 0);
  incarnation[number]++;
  publishers[number] = start(publish, number);
}

static void start_subscriber(uint32_t number) {
  atomic_store(&shared->taken[number], 0);
  slc__line_open(channel.table, lines[number], HOLDS);
  atomic_fetch_add(&channel.control.page->epoch, 1);
  subscribers[number] = start(subscribe, number);
}

static void kill_and_reap(pid_t pid) {
  int status;
  assert_int_equal(kill(pid, SIGKILL), 0);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* and not of what it had found itself */
}

static void bury_publisher(uint32_t number) {
  kill_and_reap(publishers[number]);
  slc__repair(&channel.control, number + 1);
  slc__ring_all(channel.table, channel.bell);
}

static void bury_subscriber(uint32_t number) {
  kill_and_reap(subscribers[number]);
  slc__line_close(channel.table, lines[number], HOLDS);
  slc__ring_all(channel.table, channel.bell);
}

static uint32_t random_below(uint32_t bound) {
  static uint64_t state = 0x853c49e6748fea9b;
  state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
  return (uint32_t)(state >> 33) % bound;
}

static void expect_alive(pid_t pid) {
  int status;
  if (waitpid(pid, &status, WNOHANG) == 0) return;
  fail_msg("a participant ended with status %#x", (unsigned)status);
}

/* Until it has done something, and then a little more, wherever that ends. */
static void let_it_live(pid_t pid, const _Atomic uint64_t *progress) {
  uint64_t enough = random_below(40);
  for (uint32_t looks = 1; atomic_load(progress) < enough; looks++) {
    if (looks % 1024 == 0) {
      expect_alive(pid);
      for (uint32_t i = 0; i < publisher_survivors; i++) expect_alive(publishers[i]);
      for (uint32_t i = 0; i < SURVIVORS; i++) expect_alive(subscribers[i]);
    }
    sched_yield();
  }
  for (volatile uint32_t spin = random_below(5000); spin > 0; spin--) {
  }
}

static void kill_somebody(void) {
  if (random_below(2) == 0) {
    uint32_t victim = publisher_survivors + random_below(publisher_count - publisher_survivors);
    let_it_live(publishers[victim], &shared->published[victim]);
    bury_publisher(victim);
    start_publisher(victim);
  } else {
    uint32_t victim = SURVIVORS + random_below(SUBSCRIBERS - SURVIVORS);
    let_it_live(subscribers[victim], &shared->taken[victim]);
    bury_subscriber(victim);
    start_subscriber(victim);
  }
}

static void storm_begin(void) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(shared, MAP_FAILED);
  if (publisher_count == 1)
    test_channel_init_exclusive(&channel, SLOTS, SLOT_SIZE, 1, SUBSCRIBERS);
  else
    test_channel_init(&channel, SLOTS, SLOT_SIZE, 1, SUBSCRIBERS);
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) lines[i] = test_channel_admit(&channel, HOLDS, is_reliable(i));
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) start_subscriber(i);
  for (uint32_t i = 0; i < publisher_count; i++) start_publisher(i);
}

static void survivors_end(void) {
  for (uint32_t i = publisher_survivors; i < publisher_count; i++) bury_publisher(i);
  for (uint32_t i = SURVIVORS; i < SUBSCRIBERS; i++) bury_subscriber(i);
  atomic_store(&shared->stop, 1);
  /* The end is no message: a subscriber may have looked for it, and go to sleep after the ring. */
  for (uint32_t ended = 0; ended < publisher_survivors + SURVIVORS;) {
    int status;
    slc__ring_all(channel.table, channel.bell);
    pid_t pid = waitpid(-1, &status, WNOHANG);
    assert_true(pid >= 0);
    if (pid > 0) assert_int_equal(status, 0);
    ended += pid > 0;
    sched_yield();
  }
}

/* Alone in the channel, a newcomer can put every slot but those in its hand into the log. */
static void check_full_budget(void) {
  struct slc__pub pub;
  struct slc__slot_states states;
  uint64_t ordinal, since = channel.control.page->tail;
  for (uint32_t i = 0; i < SUBSCRIBERS; i++) slc__line_close(channel.table, lines[i], HOLDS);
  test_channel_check_slots(&channel);
  channel.membership.epoch = channel.control.page->epoch;
  test_channel_publisher(&channel, &pub, publisher_count);
  for (uint64_t i = 0; i < 3 * SLOTS; i++) assert_int_equal(test_message_send(&pub, i, &ordinal), SLC_OK);
  for (uint32_t slot = 0; slot < SLOTS; slot++) {
    assert_true(slc__own_ordinal(channel.control.own[slot]) >= since);
  }
  slc__slot_states(&channel.control, &states);
  assert_int_equal(states.published + pub.free_count, SLOTS);
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
  test_channel_check_slots(&channel);
}

static void storm(uint32_t count, uint32_t survivors) {
  publisher_count = count;
  publisher_survivors = survivors;
  storm_begin();
  for (int i = 0; i < KILLS; i++) kill_somebody();
  print_message("%d kills; the first two published %llu and %llu, took %llu and %llu\n", KILLS,
                (unsigned long long)shared->published[0], (unsigned long long)shared->published[1],
                (unsigned long long)shared->taken[0], (unsigned long long)shared->taken[1]);
  survivors_end();
  check_full_budget();
  test_channel_deinit(&channel);
  munmap(shared, sizeof *shared);
}

static void test_storm(void **state) {
  (void)state;
  storm(PUBLISHERS, SURVIVORS);
}

static void test_storm_exclusive(void **state) {
  (void)state;
  storm(1, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_storm), cmocka_unit_test(test_storm_exclusive)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* See roles.h. */
#include "roles.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "shm/words.h"
#include "slotcast/status.h"
#include "support/stream.h"

enum { SLOT_SIZE = 300, SLOW_EACH = 3, SLOW_HOLDS = 5, SLOW_LOOKS = 20, ROOMY = 16, SPIN_NS = 2000 };

#define check(condition, ...)                                                                                          \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                  \
      fprintf(stderr, __VA_ARGS__);                                                                                    \
      fputc('\n', stderr);                                                                                             \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

static bool is_slow(uint32_t subscriber) {
  return subscriber % SLOW_EACH == SLOW_EACH - 1;
}

void roles_init(struct roles *roles, const struct roles_shape *shape) {
  *roles = (struct roles){.publishers = shape->publishers,
                          .subscribers = shape->subscribers,
                          .batch = shape->roomy ? 8 : 2,
                          .messages = shape->messages};
  roles->shared = mmap(NULL, sizeof *roles->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  check(roles->shared != MAP_FAILED, "mmap");
  uint32_t budget = roles->publishers * (1 + roles->batch);
  for (uint32_t i = 0; i < roles->subscribers; i++) {
    roles->holds[i] = is_slow(i) ? SLOW_HOLDS : 1;
    budget += roles->holds[i];
  }
  uint32_t slots = budget + 1 < SLC__SLOTS_MIN ? SLC__SLOTS_MIN : (budget + 1) * (shape->roomy ? ROOMY : 1);
  if (roles->publishers == 1)
    test_channel_init_exclusive(&roles->channel, slots, SLOT_SIZE, shape->reliable, roles->subscribers);
  else
    test_channel_init(&roles->channel, slots, SLOT_SIZE, shape->reliable, roles->subscribers);
  for (uint32_t i = 0; i < roles->subscribers; i++) {
    roles->lines[i] = test_channel_admit(&roles->channel, roles->holds[i], shape->reliable);
  }
}

void roles_deinit(struct roles *roles) {
  test_channel_check_slots(&roles->channel);
  test_channel_deinit(&roles->channel);
  munmap(roles->shared, sizeof *roles->shared);
}

/* ---- publisher ---- */

/* No new subscriber comes. */
static bool sync_nothing(void *ctx, uint64_t epoch) {
  (void)ctx;
  (void)epoch;
  return false;
}

/* Unreliable publishers do not wait for anybody; these do, for the foremost subscriber, or else they would be through
 * before the first has woken.  Far enough ahead to overrun even that one now and then. */
static void pace(struct roles *roles, uint64_t ordinal) {
  uint64_t lead = roles->channel.geometry.slots * UINT64_C(3) / 2;
  while (ordinal > atomic_load_explicit(&roles->shared->front, memory_order_relaxed) + lead) sched_yield();
}

static void publish_one(struct roles *roles, struct slc__pub *pub, uint64_t sequence) {
  uint64_t ordinal;
  int status;
  while ((status = test_message_send(pub, sequence, &ordinal)) == SLC_WOULD_BLOCK) {
    atomic_fetch_add(&roles->shared->would_block, 1);
    status = slc__pub_wait(pub, SLC__DEADLINE_NEVER, SPIN_NS);
    check(status == SLC_OK, "pub_wait: %d", status);
  }
  check(status == SLC_OK, "publish: %d", status);
  check(ordinal < roles->publishers * roles->messages, "ordinal %llu", (unsigned long long)ordinal);
  pace(roles, ordinal);
}

void roles_publish(struct roles *roles, uint32_t publisher) {
  struct slc__pub pub;
  int status = slc__pub_init(&pub, &roles->channel.control, &roles->channel.buffers, publisher + 1, roles->batch,
                             &roles->channel.membership, sync_nothing, NULL);
  check(status == SLC_OK, "pub_init: %d", status);
  while (atomic_load(&roles->shared->subscribers_ready) < roles->subscribers) sched_yield();
  for (uint64_t i = 0; i < roles->messages; i++) publish_one(roles, &pub, i);
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
  /* The end is no message: a subscriber may have looked for it, and go to sleep after the ring. */
  if (atomic_fetch_add(&roles->shared->publishers_done, 1) + 1 < roles->publishers) return;
  while (atomic_load(&roles->shared->subscribers_done) < roles->subscribers) {
    slc__ring_all(roles->channel.table, roles->channel.bell);
    sched_yield();
  }
}

/* ---- subscriber ---- */

struct watcher {
  struct roles *roles;
  struct slc__sub sub;
  uint32_t number;
  struct slc__taken held[SLOW_HOLDS]; /* a ring, oldest first */
  uint32_t held_first, held_count;
  uint64_t looks;
  uint64_t received, last; /* messages, and the ordinal of the latest */
  uint64_t next_sequence[ROLES_MAX];
};

static void check_order(struct watcher *w, const struct slc__taken *taken, struct test_message message) {
  bool reliable = w->roles->channel.geometry.reliable != 0;
  check(message.publisher >= 1 && message.publisher <= w->roles->publishers, "publisher %u", message.publisher);
  uint64_t *next = &w->next_sequence[message.publisher - 1];
  check(reliable ? message.sequence == *next : message.sequence >= *next,
        "subscriber %u: message %llu of publisher %u, expected %llu", w->number, (unsigned long long)message.sequence,
        message.publisher, (unsigned long long)*next);
  *next = message.sequence + 1;
  check(w->received == 0 || taken->ordinal > w->last, "ordinal %llu after %llu", (unsigned long long)taken->ordinal,
        (unsigned long long)w->last);
  w->received++;
  w->last = taken->ordinal;
}

/* It was here before the first message: what it did not get was dropped. */
static void check_counts(const struct watcher *w) {
  check(w->received + w->sub.dropped == w->last + 1, "subscriber %u: %llu received, %llu dropped of %llu", w->number,
        (unsigned long long)w->received, (unsigned long long)w->sub.dropped, (unsigned long long)w->last + 1);
}

static void release_oldest(struct watcher *w) {
  struct slc__taken *oldest = &w->held[w->held_first];
  struct test_message message;
  check(test_message_read(&w->sub, oldest, &message), "subscriber %u: ordinal %llu was rewritten while held", w->number,
        (unsigned long long)oldest->ordinal);
  check(slc__sub_release(&w->sub, oldest->hold) == SLC_OK, "release");
  w->held_first = (w->held_first + 1) % SLOW_HOLDS;
  w->held_count--;
}

/* Work, not sleep: how long it takes is the machine's affair. */
static void dawdle(struct watcher *w) {
  struct test_message message;
  for (int i = 0; i < SLOW_LOOKS; i++) {
    check(test_message_read(&w->sub, &w->held[w->held_first], &message), "rewritten while held");
  }
}

static void keep(struct watcher *w, const struct slc__taken *taken) {
  struct test_message message;
  check(test_message_read(&w->sub, taken, &message), "subscriber %u: ordinal %llu is torn", w->number,
        (unsigned long long)taken->ordinal);
  w->held[(w->held_first + w->held_count++) % SLOW_HOLDS] = *taken;
  slc__raise(&w->roles->shared->front, taken->ordinal, memory_order_relaxed);
  check_order(w, taken, message);
}

/* One, and then as many as it may hold, in turn. */
static bool take_some(struct watcher *w) {
  struct slc__taken taken[SLOW_HOLDS];
  size_t count = 1;
  int status =
      w->looks++ % 2 == 0 ? slc__sub_take(&w->sub, taken) : slc__sub_take_many(&w->sub, taken, SLOW_HOLDS, &count);
  if (status == SLC_EMPTY) return false;
  check(status == SLC_OK, "take: %d", status);
  check(count >= 1 && count <= w->roles->holds[w->number] - w->held_count, "%zu taken", count);
  for (size_t i = 0; i < count; i++) keep(w, &taken[i]);
  check_counts(w);
  return true;
}

/* All publishers have gone: then "empty" is the end. */
static bool is_over(struct watcher *w) {
  if (atomic_load(&w->roles->shared->publishers_done) < w->roles->publishers) return false;
  return !slc__sub_ready(&w->sub);
}

static void watch(struct watcher *w) {
  while (!is_over(w)) {
    if (take_some(w)) {
      if (is_slow(w->number)) dawdle(w);
      if (w->held_count == w->roles->holds[w->number]) release_oldest(w);
    } else {
      while (w->held_count > 0) release_oldest(w);
      int status = slc__sub_wait(&w->sub, SLC__DEADLINE_NEVER, w->number % 2 == 0 ? SPIN_NS : 0);
      check(status == SLC_OK || status == SLC__SUB_RUNG, "sub_wait: %d", status);
    }
  }
  while (w->held_count > 0) release_oldest(w);
}

void roles_subscribe(struct roles *roles, uint32_t subscriber) {
  struct watcher w = {.roles = roles, .number = subscriber};
  uint64_t total = roles->publishers * roles->messages;
  test_channel_subscriber(&roles->channel, &w.sub, roles->lines[subscriber], roles->holds[subscriber],
                          SLC__START_NEWEST);
  atomic_fetch_add(&roles->shared->subscribers_ready, 1);
  watch(&w);
  check(w.sub.next == total, "subscriber %u ended at %llu of %llu", subscriber, (unsigned long long)w.sub.next,
        (unsigned long long)total);
  check(w.received > 0 && w.received + w.sub.dropped == total, "subscriber %u: %llu received, %llu dropped", subscriber,
        (unsigned long long)w.received, (unsigned long long)w.sub.dropped);
  if (roles->channel.geometry.reliable) check(w.received == total, "a reliable subscriber lost messages");
  atomic_fetch_add(&roles->shared->subscribers_done, 1);
  atomic_fetch_add(&roles->shared->received, w.received);
  atomic_fetch_add(&roles->shared->dropped, w.sub.dropped);
}

/* Hostile shared memory: whatever stands in control, prefixes, hold tables and bells, every call returns, nothing
 * outside the mappings is touched, and what is handed out lies inside.
 *
 * Each mapping ends at an inaccessible page and begins after one.  The memory is filled before, and changed between
 * calls; in one test also during them, by another process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/words.h"
#include "slotcast/status.h"
#include "support/channel.h"

enum { LINES = 3, HOLDS = 14, ROUNDS = 400, CALLS = 24 };

/* ---- guarded mappings ---- */

struct guarded {
  uint8_t *area;
  uint64_t size;
  void *base;
};

static struct guarded guarded_new(uint64_t size) {
  struct guarded g = {.size = size};
  g.area = mmap(NULL, size + 2 * SLC__PAGE, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(g.area, MAP_FAILED);
  g.base = g.area + SLC__PAGE;
  assert_int_equal(mprotect(g.base, size, PROT_READ | PROT_WRITE), 0);
  return g;
}

static void guarded_free(struct guarded *g) {
  munmap(g->area, g->size + 2 * SLC__PAGE);
}

static bool guarded_contains(const struct guarded *g, const void *data, uint64_t size) {
  const uint8_t *bytes = data, *base = g->base;
  return bytes >= base && size <= g->size && bytes + size <= base + g->size;
}

/* ---- a channel in them ---- */

struct hostile {
  struct slc__geometry geometry;
  struct guarded control_memory, buffers_memory, table_memory, bell_memory;
  struct slc__control control;
  struct slc__buffers buffers;
  struct slc__table_page *table;
  struct slc__bell_page *bell;
  uint8_t lines[LINES];
  struct slc__scan_table scan;
  struct slc__membership membership;
};

static bool sync_never(void *ctx, uint64_t epoch) {
  (void)ctx;
  (void)epoch;
  return false;
}

/* What an honest publisher would do after a push: the newest there is becomes its own. */
static bool sync_always(void *ctx, uint64_t epoch) {
  struct hostile *h = ctx;
  h->membership.epoch = epoch;
  return true;
}

static void hostile_init(struct hostile *h, uint32_t slots, uint64_t slot_size, uint32_t reliable) {
  *h = (struct hostile){.geometry = {.slots = slots,
                                     .log_size = slc__geometry_log_size(slots),
                                     .max_publishers = 3,
                                     .reliable = reliable,
                                     .slot_size = slot_size}};
  assert_int_equal(slc__geometry_check(&h->geometry), SLC_OK);
  h->control_memory = guarded_new(slc__layout_control_size(&h->geometry));
  h->buffers_memory = guarded_new(slc__layout_buffers_size(&h->geometry));
  h->table_memory = guarded_new(slc__layout_table_size(LINES));
  h->bell_memory = guarded_new(slc__layout_bell_size());
  slc__control_format(&h->geometry, h->control_memory.base);
  slc__control_init(&h->control, &h->geometry, h->control_memory.base);
  slc__buffers_init(&h->buffers, &h->geometry, h->buffers_memory.base);
  h->table = h->table_memory.base;
  h->bell = h->bell_memory.base;
  slc__table_format(h->table, LINES);
  slc__bell_format(h->bell);
  h->lines[0] = SLC__LINE_HOLDS | (reliable ? SLC__SCAN_RELIABLE : 0);
  h->lines[1] = HOLDS - SLC__LINE_HOLDS;
  h->lines[2] = SLC__SCAN_HOLDS; /* more than a line has: the broker would be wrong, and still */
  h->scan =
      (struct slc__scan_table){.id = 1, .line_count = LINES, .lines = h->lines, .table = h->table, .bell = h->bell};
  h->membership = (struct slc__membership){.table_count = 1, .tables = &h->scan};
}

static void hostile_free(struct hostile *h) {
  guarded_free(&h->control_memory);
  guarded_free(&h->buffers_memory);
  guarded_free(&h->table_memory);
  guarded_free(&h->bell_memory);
}

/* ---- what it is filled with ---- */

static uint64_t random_state = 88172645463325252u;

static uint64_t random_next(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static uint64_t random_word(void) {
  return random_next();
}
static uint64_t ones(void) {
  return UINT64_MAX;
}
static uint64_t zeros(void) {
  return 0;
}
/* Values at the edges of what the words can say. */
static uint64_t edge(void) {
  static const uint64_t edges[] = {0,
                                   1,
                                   SLC__ORDINAL_MAX,
                                   SLC__ORDINAL_MAX + 1,
                                   SLC__ORDINAL_MAX - 1,
                                   UINT64_C(1) << 63,
                                   (UINT64_C(1) << 63) - 1,
                                   UINT64_MAX,
                                   UINT64_MAX - 1,
                                   SLC__OWN_AT,
                                   UINT64_C(1) << SLC__LOG_LAP_SHIFT | SLC__LOG_SLOT_MASK,
                                   UINT64_C(1) << SLC__LOG_LAP_SHIFT,
                                   UINT64_C(2) << SLC__LOG_LAP_SHIFT,
                                   ~SLC__LOG_EVICTED,
                                   UINT64_C(0xffffffff00000000),
                                   UINT64_C(0x00000000ffffffff)};
  return edges[random_next() % (sizeof edges / sizeof edges[0])];
}
/* Words that are nearly right: small laps, slots in and just out of range, small ordinals, own and other publishers. */
static uint64_t plausible(void) {
  uint64_t r = random_next();
  switch (r % 4) {
  case 0:
    return slc__log_present(r >> 8 & 3, (uint32_t)(r >> 16 & 15));
  case 1:
    return slc__own_at((uint32_t)(r >> 8 & 3), r >> 16 & 31);
  case 2:
    return slc__own_owned((uint32_t)(r >> 8 & 3), r >> 16 & 31);
  default:
    return r >> 16 & 63;
  }
}

typedef uint64_t (*filling)(void);
static const filling fillings[] = {random_word, ones, zeros, edge, plausible};
enum { FILLINGS = sizeof fillings / sizeof fillings[0] };

static void fill(struct guarded *g, filling with) {
  uint64_t *words = g->base;
  for (uint64_t i = 0; i < g->size / 8; i++) __atomic_store_n(&words[i], with(), __ATOMIC_RELAXED);
}

static void fill_all(struct hostile *h, filling with) {
  fill(&h->control_memory, with);
  fill(&h->buffers_memory, with);
  fill(&h->table_memory, with);
  fill(&h->bell_memory, with);
}

/* A few words anywhere. */
static void disturb(struct hostile *h) {
  struct guarded *memories[] = {&h->control_memory, &h->buffers_memory, &h->table_memory, &h->bell_memory};
  for (int i = 0; i < 16; i++) {
    struct guarded *g = memories[random_next() % 4];
    uint64_t *words = g->base;
    __atomic_store_n(&words[random_next() % (g->size / 8)], fillings[random_next() % FILLINGS](), __ATOMIC_RELAXED);
  }
}

/* ---- everybody's calls ---- */

static void touch(const void *data, uint64_t size) {
  const volatile uint8_t *bytes = data;
  uint8_t sum = 0;
  for (uint64_t i = 0; i < size; i++) sum ^= bytes[i];
  (void)sum;
}

static void publish_something(struct hostile *h, struct slc__pub *pub) {
  uint32_t slot;
  uint64_t ordinal, size = 1 + random_next() % h->geometry.slot_size;
  int status = slc__pub_loan(pub, &slot);
  assert_true(status == SLC_OK || status == SLC_WOULD_BLOCK || status == SLC_CORRUPT);
  if (status != SLC_OK) return;
  assert_true(slot < h->geometry.slots);
  void *payload = slc__pub_payload(pub, slot, size);
  assert_true(guarded_contains(&h->buffers_memory, payload, size));
  memset(payload, 7, size);
  const struct slc__sending sending = {
      .size = size, .timestamp = 1, .flags = size <= SLC__INLINE ? SLC__FLAG_INLINE : 0};
  status = random_next() % 8 == 0 ? SLC_CORRUPT : slc__pub_publish(pub, slot, &sending, &ordinal);
  assert_true(status == SLC_OK || status == SLC_CORRUPT || status == SLC_EXHAUSTED);
  if (status != SLC_OK) slc__pub_discard(pub, slot);
}

static void take_something(struct hostile *h, struct slc__sub *sub) {
  struct slc__taken taken;
  int status = random_next() % 4 == 0 ? slc__sub_take_newest(sub, &taken) : slc__sub_take(sub, &taken);
  assert_true(status == SLC_OK || status == SLC_EMPTY || status == SLC_CORRUPT || status == SLC_HOLD_LIMIT ||
              status == SLC_DISCONNECTED);
  if (status != SLC_OK) return;
  assert_true(taken.hold < HOLDS);
  assert_true(taken.size >= 1 && guarded_contains(&h->buffers_memory, taken.payload, taken.size));
  touch(taken.payload, taken.size);
  if (random_next() % 2 == 0) slc__sub_release(sub, taken.hold);
}

static void broker_does_something(struct hostile *h) {
  struct slc__slot_states states;
  slc__slot_states(&h->control, &states);
  assert_int_equal(states.free + states.owned + states.published, h->geometry.slots);
  slc__repair(&h->control, 1 + (uint32_t)(random_next() % h->geometry.max_publishers));
  slc__ring_all(h->table, h->bell);
  slc__line_close(h->table, 0, HOLDS);
  slc__line_open(h->table, 0, HOLDS);
}

/* Whatever is written there, most subscribers are to take. */
static void reopen(struct hostile *h) {
  if (random_next() % 4 != 0) atomic_store(&slc__table_line(h->table, 0)->closed, SLC__OPEN);
}

static void call_something(struct hostile *h, struct slc__pub *pub, struct slc__sub *sub) {
  reopen(h);
  switch (random_next() % 8) {
  case 0:
  case 1:
    publish_something(h, pub);
    break;
  case 2:
  case 3:
    take_something(h, sub);
    break;
  case 4:
    slc__sub_release(sub, (uint32_t)(random_next() % (HOLDS + 1)));
    break;
  case 5:
    slc__pub_wait(pub, slc__clock_ns() + 1000, random_next() % 2 == 0 ? 500 : 0);
    break;
  case 6:
    slc__sub_wait(sub, slc__clock_ns() + 1000, random_next() % 2 == 0 ? 500 : 0);
    slc__sub_lag(sub);
    break;
  default:
    slc__sub_arm(sub);
    broker_does_something(h);
    break;
  }
}

/* As the broker makes it out, which sees the same words. */
static uint64_t since(const struct hostile *h) {
  return slc__first_absent(&h->control, slc__hint(&h->control.page->tail));
}

static void try_everything(struct hostile *h, filling with) {
  struct slc__pub pub;
  struct slc__sub sub;
  assert_int_equal(slc__pub_init(&pub, &h->control, &h->buffers, 1, slc__geometry_batch(h->geometry.slots),
                                 &h->membership, random_next() % 4 == 0 ? sync_never : sync_always, h),
                   SLC_OK);
  /* Filled between the one's beginning and the other's; so both begin in an honest channel or in none. */
  bool late = random_next() % 2 == 0;
  if (!late) fill_all(h, with);
  slc__sub_init(&sub, &h->control, &h->buffers, h->table, h->bell, 0, HOLDS,
                random_next() % 2 == 0 ? SLC__START_NEWEST : SLC__START_OLDEST, since(h));
  for (int i = 0; late && i < CALLS; i++) call_something(h, &pub, &sub);
  if (late) fill_all(h, with);
  for (int i = 0; i < CALLS; i++) {
    call_something(h, &pub, &sub);
    if (random_next() % 2 == 0) disturb(h);
  }
  slc__pub_leave(&pub);
  slc__pub_deinit(&pub);
}

static void try_shape(uint32_t slots, uint64_t slot_size, uint32_t reliable) {
  for (int round = 0; round < ROUNDS; round++) {
    struct hostile h;
    hostile_init(&h, slots, slot_size, reliable);
    try_everything(&h, fillings[round % FILLINGS]);
    hostile_free(&h);
  }
}

static void test_hostile_small(void **state) {
  (void)state;
  try_shape(4, 1, 0);
  try_shape(8, 32, 0);
}

/* Payloads up to the last byte before the guard page: slots and stride fill the pages exactly. */
static void test_hostile_last_slot(void **state) {
  (void)state;
  const uint32_t slots = 31;
  const struct slc__geometry g = {.slots = slots, .slot_size = 64};
  assert_int_equal((SLC__BUFFERS_FIRST + slc__layout_slot_stride(&g) * slots) % SLC__PAGE, 0);
  try_shape(slots, 64, 0);
}

static void test_hostile_reliable(void **state) {
  (void)state;
  try_shape(15, 100, 1);
}

/* ---- while it changes ---- */

static _Noreturn void scribble(struct hostile *h) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) {
    random_next();
    disturb(h);
  }
}

static void test_hostile_changes_meanwhile(void **state) {
  (void)state;
  struct hostile h;
  hostile_init(&h, 31, 64, 0);
  pid_t scribbler = fork();
  assert_true(scribbler >= 0);
  if (scribbler == 0) scribble(&h);
  struct slc__pub pub;
  struct slc__sub sub;
  assert_int_equal(slc__pub_init(&pub, &h.control, &h.buffers, 1, 8, &h.membership, sync_always, &h), SLC_OK);
  slc__sub_init(&sub, &h.control, &h.buffers, h.table, h.bell, 0, HOLDS, SLC__START_NEWEST, since(&h));
  for (int i = 0; i < 20000; i++) call_something(&h, &pub, &sub);
  slc__pub_deinit(&pub);
  kill(scribbler, SIGKILL);
  assert_int_equal(waitpid(scribbler, NULL, 0), scribbler);
  hostile_free(&h);
}

/* ---- what must not take long ---- */

/* The largest channel, every lap beyond reach: what each call looks at is bounded by the log, not by the ordinals. */
static void test_hostile_huge_laps(void **state) {
  (void)state;
  struct hostile h;
  hostile_init(&h, SLC__SLOTS_MAX, 1, 0);
  struct slc__pub pub;
  struct slc__sub sub;
  struct slc__taken taken;
  uint32_t slot;
  memset(h.control.log, 0xff, h.geometry.log_size * sizeof *h.control.log);
  memset(h.control.own, 0xff, h.geometry.slots * sizeof *h.control.own);
  const uint64_t hints[] = {0, SLC__ORDINAL_MAX, UINT64_MAX};
  for (int i = 0; i < 3; i++) {
    h.control.page->head = h.control.page->tail = hints[i];
    assert_int_equal(slc__pub_init(&pub, &h.control, &h.buffers, 1, slc__geometry_batch(h.geometry.slots),
                                   &h.membership, sync_always, &h),
                     SLC_OK);
    assert_int_equal(slc__pub_loan(&pub, &slot), SLC_WOULD_BLOCK);
    slc__sub_init(&sub, &h.control, &h.buffers, h.table, h.bell, 0, HOLDS, SLC__START_OLDEST, since(&h));
    int status = slc__sub_take(&sub, &taken);
    assert_true(status == SLC_CORRUPT || status == SLC_EMPTY);
    status = slc__sub_take_newest(&sub, &taken);
    assert_true(status == SLC_CORRUPT || status == SLC_EMPTY);
    slc__pub_deinit(&pub);
  }
  hostile_free(&h);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hostile_small),     cmocka_unit_test(test_hostile_last_slot),
      cmocka_unit_test(test_hostile_reliable),  cmocka_unit_test(test_hostile_changes_meanwhile),
      cmocka_unit_test(test_hostile_huge_laps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Virtual channels in the slot log: ordinals by helping, and what a subscriber makes of them.
 *
 * Invariants, for whoever keeps to the protocol:
 *   - maxima[v] is the greatest ordinal of v among the log ordinals below `applied`; both only grow.
 *   - Log ordinal n comes to exist only when applied == n, and is evicted only when n < applied.
 *   - A message's number and virtual channel are in its prefix before the log names it.
 * Values that can't be are passed over or refused, and every loop is bounded, whatever the words say.
 * One thread at a time per publisher or subscriber; any number of them beside each other. */
#include "shm/virtual.h"

#include "shm/enter.h"
#include "shm/gate.h"
#include "shm/hold.h"
#include "shm/words.h"
#include "slotcast/status.h"

enum { LOOKS_MAX = 64 }; /* the latest message is evicted while it is looked at only when everything is */

/* ---- applying ---- */

static uint64_t load_applied(const struct slc__control *control) {
  return atomic_load_explicit(&control->page->applied, memory_order_acquire);
}

/* Raises a maximum, then tells that ordinal m is in it; whoever reads `applied` afterwards sees the maximum. */
static void count_in(const struct slc__control *control, uint64_t m, uint32_t id, uint64_t number) {
  slc__raise(&control->maxima[id], number, memory_order_release);
  atomic_compare_exchange_strong_explicit(&control->page->applied, &m, m + 1, memory_order_release,
                                          memory_order_relaxed);
}

/* What a prefix says of its message. */
struct number {
  uint32_t id;
  uint64_t number, base;
};

/* Acquire: pairs with write_number, so that whoever sees what a later message wrote there sees that the one before had
 * been evicted. */
static struct number read_number(const struct slc__buffers *buffers, uint32_t slot) {
  const struct slc__prefix_ext *ext = &slc__buffers_prefix(buffers, slot)->ext;
  return (struct number){.id = atomic_load_explicit(&ext->virtual_id, memory_order_acquire),
                         .number = atomic_load_explicit(&ext->virtual_ordinal, memory_order_acquire),
                         .base = atomic_load_explicit(&ext->virtual_base, memory_order_acquire)};
}

/* The same of the message in this log word, present at n, without a hold.  False: it has gone meanwhile. */
static bool peek_number(const struct slc__control *control, const struct slc__buffers *buffers, uint64_t n,
                        uint64_t word, struct number *ret) {
  *ret = (struct number){0};
  if (slc__log_slot(word) >= control->geometry.slots) return true;
  *ret = read_number(buffers, slc__log_slot(word));
  return atomic_load_explicit(slc__log_at(control, n), memory_order_acquire) == word;
}

static bool is_possible(const struct slc__control *control, const struct number *number) {
  return number->id >= 1 && number->id <= control->geometry.virtual_max && number->number > number->base &&
         number->number <= SLC__ORDINAL_MAX;
}

/* The message in this word at m, where applied was m.  One that can't be counts for nobody. */
static void apply_present(const struct slc__control *control, const struct slc__buffers *buffers, uint64_t m,
                          uint64_t word) {
  struct number number;
  if (!peek_number(control, buffers, m, word, &number)) return; /* evicted, so applied */
  if (is_possible(control, &number)) {
    count_in(control, m, number.id, number.number);
  } else {
    atomic_compare_exchange_strong_explicit(&control->page->applied, &m, m + 1, memory_order_release,
                                            memory_order_relaxed);
  }
}

int slc__virtual_help(const struct slc__control *control, const struct slc__buffers *buffers, uint64_t n) {
  for (uint64_t steps = slc__steps_max(control); steps > 0; steps--) {
    uint64_t m = load_applied(control);
    if (m >= n) return SLC_OK;
    uint64_t word = atomic_load_explicit(slc__log_at(control, m), memory_order_acquire);
    switch (slc__presence(control, word, m)) {
    case SLC__ABSENT:
      return SLC_CORRUPT; /* ordinals below n exist */
    case SLC__GONE:
      if (load_applied(control) == m) return SLC_CORRUPT; /* only what is applied is evicted */
      break;
    case SLC__PRESENT:
      apply_present(control, buffers, m, word);
      break;
    }
  }
  return SLC_CORRUPT;
}

/* ---- publishing ---- */

void slc__pub_set_virtual(struct slc__pub *pub, uint32_t id, uint64_t base) {
  pub->virtual_id = id;
  pub->virtual_base = base;
  slc__virtual_adopt(pub);
}

/* Before the log names the slot.  Release: pairs with read_number. */
static void write_number(const struct slc__pub *pub, struct slc__prefix *prefix, uint64_t number) {
  struct slc__prefix_ext *ext = &prefix->ext;
  atomic_store_explicit(&ext->virtual_id, pub->virtual_id, memory_order_release);
  atomic_store_explicit(&ext->virtual_ordinal, number, memory_order_release);
  atomic_store_explicit(&ext->virtual_base, pub->virtual_base, memory_order_release);
  uint32_t flags = atomic_load_explicit(&prefix->flags, memory_order_relaxed);
  atomic_store_explicit(&prefix->flags, flags | SLC__FLAG_VIRTUAL, memory_order_relaxed);
}

/* n is where `applied` stands: what is there already is helped on; else the message goes there, and its number is one
 * more than the maximum, which can't be that of a later moment, since then n would exist. */
int slc__virtual_enter(struct slc__pub *pub, uint32_t slot, struct slc__prefix *prefix, uint64_t *ret_n) {
  const struct slc__control *control = &pub->control;
  for (uint64_t steps = slc__steps_max(control); steps > 0; steps--) {
    uint64_t n = load_applied(control);
    if (n > SLC__ORDINAL_MAX) return SLC_EXHAUSTED;
    _Atomic uint64_t *word_at = slc__log_at(control, n);
    uint64_t word = atomic_load_explicit(word_at, memory_order_acquire);
    if (slc__presence(control, word, n) != SLC__ABSENT) {
      int status = slc__virtual_help(control, &pub->buffers, n + 1);
      if (status != SLC_OK) return status;
      continue;
    }
    if (word != 0 && !slc__log_is_evicted(word)) return SLC_CORRUPT; /* as in enter_log */
    uint64_t last = atomic_load_explicit(&control->maxima[pub->virtual_id], memory_order_acquire);
    if (last >= SLC__ORDINAL_MAX) return SLC_EXHAUSTED;
    write_number(pub, prefix, last + 1);
    if (!slc__enter(pub, slot, prefix, n, word_at, word)) continue;
    count_in(control, n, pub->virtual_id, last + 1);
    *ret_n = n;
    return SLC_OK;
  }
  return SLC_CORRUPT;
}

/* ---- doorbells of single virtual channels ---- */

/* A doorbell of such a subscriber is armed with a number that grows, and each publisher rings it once for each: it must
 * not be disarmed by the bell, which messages of others ring too. */
static void ring_once(struct slc__pub *pub, struct slc__scan_doorbell *doorbell) {
  const struct slc__hold_line *line = slc__table_line(pub->membership->tables[doorbell->table].table, doorbell->line);
  uint64_t armed = atomic_load_explicit(&line->armed, memory_order_seq_cst); /* pairs with slc__sub_arm */
  if (armed == 0 || armed == doorbell->rung) return;
  doorbell->rung = armed;
  slc__doorbell_ring(doorbell->fd);
  atomic_store_explicit(&pub->line->wakes, atomic_load_explicit(&pub->line->wakes, memory_order_relaxed) + 1,
                        memory_order_relaxed);
}

void slc__virtual_adopt(struct slc__pub *pub) {
  pub->own_doorbells = 0;
  for (uint32_t i = 0; i < pub->membership->doorbell_count; i++) {
    struct slc__scan_doorbell *doorbell = &pub->membership->doorbells[i];
    if (doorbell->virtual_id == 0 || doorbell->virtual_id != pub->virtual_id) continue;
    doorbell->next_own = pub->own_doorbells;
    pub->own_doorbells = i + 1;
  }
}

void slc__virtual_ring(struct slc__pub *pub) {
  for (uint32_t i = pub->own_doorbells; i != 0; i = pub->membership->doorbells[i - 1].next_own)
    ring_once(pub, &pub->membership->doorbells[i - 1]);
}

void slc__virtual_nudge(struct slc__pub *pub) {
  for (uint32_t i = 0; i < pub->membership->doorbell_count; i++) {
    struct slc__scan_doorbell *doorbell = &pub->membership->doorbells[i];
    if (doorbell->virtual_id == 0) continue;
    const struct slc__scan_table *table = &pub->membership->tables[doorbell->table];
    if ((table->lines[doorbell->line] & SLC__SCAN_RELIABLE) != 0) ring_once(pub, doorbell);
  }
}

/* ---- an id that is used again ---- */

/* The maximum is final when all that was published at one moment had been applied.  When the last message stays
 * unapplied, because its publisher has died and no other came, it may be one of this id: then its number is left out.
 */
uint64_t slc__virtual_reserve(const struct slc__control *control, uint32_t id) {
  uint64_t base = 0;
  for (int i = 0; i < LOOKS_MAX; i++) {
    uint64_t n = load_applied(control);
    base = atomic_load_explicit(&control->maxima[id], memory_order_acquire);
    uint64_t word = atomic_load_explicit(slc__log_at(control, n), memory_order_acquire);
    if (slc__presence(control, word, n) == SLC__ABSENT) return base;
  }
  slc__raise(&control->maxima[id], base + 1, memory_order_release);
  return base + 1;
}

/* ---- subscribing ---- */

static bool is_wanted(const struct slc__virtual_view *view, const struct number *number) {
  return view->wanted == 0 || (number->id == view->wanted && number->base == view->base);
}

struct slc__virtual_name slc__virtual_name(const struct slc__sub *sub, uint32_t slot) {
  struct number number = read_number(&sub->buffers, slot);
  return (struct slc__virtual_name){.id = number.id, .ordinal = number.number - number.base};
}

bool slc__virtual_is_ours(const struct slc__sub *sub, uint32_t slot) {
  if (sub->view == NULL) return true;
  struct number number = read_number(&sub->buffers, slot);
  return is_wanted(sub->view, &number);
}

bool slc__virtual_is_possible(const struct slc__sub *sub, uint32_t slot) {
  if (sub->view == NULL) return true;
  struct number number = read_number(&sub->buffers, slot);
  return is_possible(&sub->control, &number);
}

bool slc__virtual_is_others(const struct slc__sub *sub, uint64_t n, uint64_t word, uint32_t *ret_next) {
  if (slc__log_slot(word) >= sub->control.geometry.slots) return false; /* for take to refuse */
  const struct slc__prefix *prefix = slc__buffers_prefix(&sub->buffers, slc__log_slot(word));
  uint32_t next = atomic_load_explicit(&prefix->next, memory_order_acquire);
  struct number number;
  if (!peek_number(&sub->control, &sub->buffers, n, word, &number) || is_wanted(sub->view, &number)) return false;
  *ret_next = next <= sub->control.geometry.slots ? next : 0;
  return true;
}

/* ---- counting ---- */

static struct slc__virtual_count *count_of(const struct slc__sub *sub, uint32_t id) {
  const struct slc__virtual_view *view = sub->view;
  if (view == NULL || id == 0 || id > sub->control.geometry.virtual_max) return NULL;
  if (view->wanted == 0) return &view->counts[id];
  return view->wanted == id ? view->counts : NULL;
}

const struct slc__virtual_count *slc__virtual_count_of(const struct slc__sub *sub, uint32_t id) {
  return count_of(sub, id);
}

static uint64_t maximum(const struct slc__sub *sub, uint32_t id) {
  return atomic_load_explicit(&sub->control.maxima[id], memory_order_acquire);
}

static void raise_last(struct slc__virtual_count *count, uint64_t number) {
  if (count->last < number && number <= SLC__ORDINAL_MAX) count->last = number;
}

/* Each id subscribed to. */
static uint32_t first_id(const struct slc__sub *sub) {
  return sub->view->wanted != 0 ? sub->view->wanted : 1;
}
static uint32_t last_id(const struct slc__sub *sub) {
  return sub->view->wanted != 0 ? sub->view->wanted : sub->control.geometry.virtual_max;
}

/* The one message that may not be in the maxima yet, since the next is published only when it is.  False: it has been
 * applied and evicted meanwhile. */
static bool look_at_unapplied(const struct slc__sub *sub, uint64_t applied) {
  uint64_t word = atomic_load_explicit(slc__log_at(&sub->control, applied), memory_order_acquire);
  enum slc__presence presence = slc__presence(&sub->control, word, applied);
  if (presence == SLC__ABSENT) return true;
  struct number number;
  if (presence == SLC__GONE || !peek_number(&sub->control, &sub->buffers, applied, word, &number)) return false;
  struct slc__virtual_count *count = count_of(sub, number.id);
  if (count != NULL && is_wanted(sub->view, &number)) raise_last(count, number.number);
  return true;
}

void slc__virtual_look(struct slc__sub *sub) {
  for (int i = 0; i < LOOKS_MAX; i++) {
    uint64_t applied = load_applied(&sub->control);
    for (uint32_t id = first_id(sub); id <= last_id(sub); id++) raise_last(count_of(sub, id), maximum(sub, id));
    if (look_at_unapplied(sub, applied)) break;
  }
}

/* Whether the claim begins behind all that there is. */
static bool begins_later(const struct slc__sub *sub) {
  uint64_t word = slc__sub_log_word(sub, sub->claim - 1, memory_order_acquire);
  return slc__presence(&sub->control, word, sub->claim - 1) == SLC__ABSENT;
}

/* The maxima were read after the claim began: what is there from then on is still to be received.  What has gone of
 * that already is left out. */
static void look_back(struct slc__sub *sub) {
  uint64_t n = sub->claim;
  for (uint64_t steps = slc__steps_max(&sub->control); steps > 0 && n <= SLC__ORDINAL_MAX; steps--, n++) {
    uint64_t word = slc__sub_log_word(sub, n, memory_order_acquire);
    enum slc__presence presence = slc__presence(&sub->control, word, n);
    if (presence == SLC__ABSENT) return;
    struct number number;
    if (presence == SLC__GONE || !peek_number(&sub->control, &sub->buffers, n, word, &number) ||
        !is_possible(&sub->control, &number))
      continue;
    struct slc__virtual_count *count = count_of(sub, number.id);
    if (count != NULL && is_wanted(sub->view, &number) && count->last >= number.number) count->last = number.number - 1;
  }
}

void slc__virtual_begin(struct slc__sub *sub) {
  if (sub->claim > 0 && begins_later(sub)) {
    for (uint32_t id = first_id(sub); id <= last_id(sub); id++) count_of(sub, id)->last = SLC__NUMBER_UNKNOWN;
    return;
  }
  struct slc__virtual_view *view = sub->view;
  if (view->wanted != 0) raise_last(view->counts, view->base);
  if (sub->claim > 0) slc__virtual_look(sub);
  if (sub->claim > 0) look_back(sub);
  if (view->wanted != 0 && sub->next == sub->claim) view->taken = view->counts->last;
}

/* Ordinals from `first` on, counted from 0. */
static void count_dropped(struct slc__sub *sub, uint32_t id, struct slc__virtual_count *count, uint64_t first,
                          uint64_t lost) {
  if (sub->ignore_drops) return;
  count->dropped += lost;
  sub->dropped += lost;
  atomic_store_explicit(&sub->line->dropped, sub->dropped, memory_order_release);
  if (sub->on_drop != NULL) sub->on_drop(sub->drop_ctx, id, first, lost);
}

/* Numbers up to this one that were not received are lost. */
static void count_lost(struct slc__sub *sub, uint32_t id, struct slc__virtual_count *count, uint64_t end) {
  if (end <= count->last || end > SLC__ORDINAL_MAX) return;
  uint64_t first = count->last - count->base, lost = end - count->last;
  count->last = end;
  count_dropped(sub, id, count, first, lost);
}

/* Another virtual channel has the id now: what is missing up to its base was the old one's. */
static void begin_anew(struct slc__sub *sub, uint32_t id, struct slc__virtual_count *count, uint64_t base) {
  count_lost(sub, id, count, base);
  count->received = count->dropped = 0;
  count->base = base;
}

void slc__virtual_account(struct slc__sub *sub, uint32_t slot) {
  struct number number = read_number(&sub->buffers, slot);
  struct slc__virtual_count *count = count_of(sub, number.id);
  if (count == NULL) return; /* a publisher that writes rubbish has changed it since is_possible */
  /* It begins with one that was there before the claim, or to which no number was known: whatever follows counts. */
  if (count->received == 0 && count->last >= number.number) count->last = number.number - 1;
  if (number.base > count->base) begin_anew(sub, number.id, count, number.base);
  count_lost(sub, number.id, count, number.number - 1);
  raise_last(count, number.number);
  count->received++;
  sub->view->taken = number.number;
}

void slc__virtual_pass(struct slc__sub *sub, uint64_t n, uint64_t word) {
  struct number number;
  if (!peek_number(&sub->control, &sub->buffers, n, word, &number) || !is_possible(&sub->control, &number)) return;
  struct slc__virtual_count *count = count_of(sub, number.id);
  if (count != NULL && is_wanted(sub->view, &number)) raise_last(count, number.number);
}

void slc__virtual_reject(struct slc__sub *sub, uint32_t slot) {
  struct number number = read_number(&sub->buffers, slot);
  struct slc__virtual_count *count = count_of(sub, number.id);
  if (count == NULL || count->received == 0) return;
  count->received--;
  count_dropped(sub, number.id, count, number.number - number.base - 1, 1);
}

/* The maxima are exact when nothing follows the subscriber's position after they were read: what came before that has
 * been applied, or it is the last and has been received. */
void slc__virtual_catch_up(struct slc__sub *sub) {
  if (!sub->view->is_behind) return;
  for (uint32_t id = first_id(sub); id <= last_id(sub); id++) {
    struct slc__virtual_count *count = count_of(sub, id);
    uint64_t number = maximum(sub, id), word = slc__sub_log_word(sub, sub->next, memory_order_acquire);
    if (slc__presence(&sub->control, word, sub->next) != SLC__ABSENT) return;
    if (count->last != SLC__NUMBER_UNKNOWN) count_lost(sub, id, count, number);
    if (sub->view->wanted != 0) sub->view->taken = count->last;
  }
  sub->view->is_behind = false;
}

uint64_t slc__virtual_lag(const struct slc__sub *sub, uint64_t most) {
  const struct slc__virtual_view *view = sub->view;
  uint64_t number = maximum(sub, view->wanted), taken = view->taken > view->base ? view->taken : view->base;
  uint64_t lag = number > taken ? number - taken : 0;
  return lag < most ? lag : most;
}

/* Slow subscribers, told on the channel of events: those that messages were taken from, and those that do not release.
 *
 * Looks at the hold tables twice a second, and only while somebody subscribes to events: what a stuck process does not
 * say itself is seen from outside.  Everything read is a figure that its owner may change meanwhile or may have made
 * up; it goes into what is told, and nowhere else.  Thread: the loop's. */
#include "base/clock.h"
#include "broker/broker.h"
#include "shm/words.h"

enum { LOOK_MS = 500 };
#define NS_PER_MS UINT64_C(1000000)
#define NOTHING_HELD UINT64_MAX

/* Ordinals that have gone unread: those that it has counted, and those that it has yet to find missing. */
static uint64_t lost_by(const struct user *user, const struct slc__hold_line *line) {
  uint64_t cursor = atomic_load_explicit(&line->cursor, memory_order_relaxed);
  uint64_t head = atomic_load_explicit(&user->channel->control.page->head, memory_order_relaxed);
  uint64_t dropped = atomic_load_explicit(&line->dropped, memory_order_relaxed);
  return dropped + (head > cursor ? head - cursor : 0);
}

static uint64_t lag_of(const struct user *user, const struct slc__hold_line *line) {
  uint64_t cursor = atomic_load_explicit(&line->cursor, memory_order_relaxed);
  uint64_t tail = atomic_load_explicit(&user->channel->control.page->tail, memory_order_relaxed);
  return tail > cursor ? tail - cursor : 0;
}

/* The ordinal in an owner word stays while the slot is held, evicted or not. */
static uint64_t oldest_held(const struct user *user) {
  const struct slc__control *control = &user->channel->control;
  uint64_t oldest = NOTHING_HELD;
  for (uint32_t i = 0; i < user->max; i++) {
    const struct slc__hold_line *line = slc__table_line(user->table->mapping.base, user->line + i / SLC__LINE_HOLDS);
    uint32_t hold = atomic_load_explicit(&line->holds[i % SLC__LINE_HOLDS], memory_order_relaxed);
    if (hold == 0 || hold > control->geometry.slots) continue;
    uint64_t ordinal = slc__own_ordinal(atomic_load_explicit(&control->own[hold - 1], memory_order_relaxed));
    if (ordinal < oldest) oldest = ordinal;
  }
  return oldest;
}

static void look_for_loss(struct user *user, const struct slc__hold_line *line) {
  uint64_t lost = lost_by(user, line);
  if (lost > user->watch.lost) {
    slc_event event = {
        .kind = SLC_EVENT_SUBSCRIBER_OVERRUN, .lost = lost - user->watch.lost, .lag = lag_of(user, line)};
    event_of_user(user, &event);
  }
  user->watch.lost = lost;
}

static void look_for_hold(struct user *user, const struct slc__hold_line *line) {
  uint64_t oldest = oldest_held(user), now = (uint64_t)slc__clock_ns();
  uint64_t limit = user->process->broker->options.slow_hold_ms * NS_PER_MS;
  if (oldest != user->watch.held_ordinal) {
    user->watch.held_ordinal = oldest;
    user->watch.held_since = now;
    user->watch.is_hold_told = false;
    return;
  }
  uint64_t held = now - user->watch.held_since;
  if (oldest == NOTHING_HELD || user->watch.is_hold_told || limit == 0 || held < limit) return;
  slc_event event = {.kind = SLC_EVENT_SUBSCRIBER_HOLDS,
                     .held_ns = held,
                     .held_ordinal = oldest + 1, /* they count from 1 in public */
                     .lag = lag_of(user, line)};
  user->watch.is_hold_told = true;
  event_of_user(user, &event);
}

/* A newcomer's line is open before it has chosen where to start. */
static bool is_starting(const struct user *user, const struct slc__hold_line *line) {
  return !user->watch.is_known && atomic_load_explicit(&line->cursor, memory_order_relaxed) == 0;
}

static void for_each_subscriber(struct channel *channel,
                                void (*visit)(struct user *user, const struct slc__hold_line *line)) {
  struct user *user;
  if (channel->own_share > 0) return; /* what is told of the channel of events would only make it slower */
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->is_publisher || user->table == NULL) continue;
    visit(user, slc__table_line(user->table->mapping.base, user->line));
    user->watch.is_known = true;
  }
}

static void look(struct user *user, const struct slc__hold_line *line) {
  if (is_starting(user, line)) return;
  if (!user->watch.is_known) user->watch.held_ordinal = NOTHING_HELD;
  look_for_loss(user, line);
  look_for_hold(user, line);
}

static void look_at(struct channel *channel, void *ctx) {
  (void)ctx;
  for_each_subscriber(channel, look);
}

/* What happened while nobody wanted to know is no news. */
static void note(struct user *user, const struct slc__hold_line *line) {
  user->watch.lost = lost_by(user, line);
  user->watch.held_ordinal = NOTHING_HELD;
}

static void take_note(struct channel *channel, void *ctx) {
  (void)ctx;
  for_each_subscriber(channel, note);
}

static void on_look(uv_timer_t *timer) {
  struct broker *broker = timer->data;
  if (events_are_wanted(broker)) {
    channel_for_each(broker, look_at, NULL);
  } else {
    uv_timer_stop(timer);
  }
}

void watch_init(struct broker *broker) {
  uv_timer_init(broker->loop, &broker->watch);
  broker->watch.data = broker;
}

void watch_begin(struct broker *broker) {
  if (uv_is_active((uv_handle_t *)&broker->watch) || !events_are_wanted(broker)) return;
  channel_for_each(broker, take_note, NULL);
  uv_timer_start(&broker->watch, on_look, LOOK_MS, LOOK_MS);
}

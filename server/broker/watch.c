/* Slow subscribers, told on the channel of events, and disconnected where their channel has that policy: those that
 * messages were taken from, those that do not release, and those that publishers wait for.
 *
 * Looks at the hold tables twice a second (more often where the limit is smaller), and only while somebody subscribes
 * to events, or at channels that disconnect: what a stuck process does not say itself is seen from outside.  Everything
 * read is a figure that its owner may change meanwhile or may have made up; it goes into what is told, and into a
 * verdict about its owner, and nowhere else.  A publisher may so have reliable subscribers disconnected: it could spoil
 * the channel for them in any case. Thread: the loop's. */
#include "broker/broker.h"
#include "shm/gate.h"
#include "shm/words.h"

enum { LOOK_MS_MIN = 10, LOOK_MS_MAX = 500 };
#define NS_PER_MS UINT64_C(1000000)
#define NOTHING UINT64_MAX

static bool disconnects(const struct channel *channel) {
  return channel->slow_policy == SLOTCAST__SLOW_POLICY__SLOW_DISCONNECT;
}

static uint64_t cursor_of(const struct slc__hold_line *line) {
  return atomic_load_explicit(&line->cursor, memory_order_relaxed);
}

static uint64_t head_of(const struct user *user) {
  return atomic_load_explicit(&user->channel->control.page->head, memory_order_relaxed);
}

/* By its own count, without those that were there and damaged.  Dropped is written after damaged. */
static uint64_t counted_lost(const struct slc__hold_line *line) {
  uint64_t dropped = atomic_load_explicit(&line->dropped, memory_order_acquire);
  uint64_t damaged = atomic_load_explicit(&line->damaged, memory_order_relaxed);
  return dropped > damaged ? dropped - damaged : 0;
}

/* Ordinals that it has yet to find missing.  Of a virtual channel only its subscriber knows which were its own. */
static uint64_t unseen_lost(const struct user *user, const struct slc__hold_line *line) {
  uint64_t cursor = cursor_of(line), head = head_of(user);
  return user->virtual == NULL && head > cursor ? head - cursor : 0;
}

static uint64_t lost_by(const struct user *user, const struct slc__hold_line *line) {
  return counted_lost(line) + unseen_lost(user, line);
}

static uint64_t lag_of(const struct user *user, const struct slc__hold_line *line) {
  uint64_t cursor = cursor_of(line);
  uint64_t tail = atomic_load_explicit(&user->channel->control.page->tail, memory_order_relaxed);
  return tail > cursor ? tail - cursor : 0;
}

/* The ordinal in an owner word stays while the slot is held, evicted or not. */
static uint64_t oldest_held(const struct user *user) {
  const struct slc__control *control = &user->channel->control;
  uint64_t oldest = NOTHING;
  for (uint32_t i = 0; i < user->max; i++) {
    const struct slc__hold_line *line = slc__table_line(user->table->mapping.base, user->line + i / SLC__LINE_HOLDS);
    uint32_t hold = atomic_load_explicit(&line->holds[i % SLC__LINE_HOLDS], memory_order_relaxed);
    if (hold == 0 || hold > control->geometry.slots) continue;
    uint64_t ordinal = slc__own_ordinal(atomic_load_explicit(&control->own[hold - 1], memory_order_relaxed));
    if (ordinal < oldest) oldest = ordinal;
  }
  return oldest;
}

static uint64_t limit_of(const struct user *user) {
  uint64_t limit_ms = user->process->broker->options.slow_hold_ms;
  return limit_ms == 0 ? UINT64_MAX : limit_ms * NS_PER_MS;
}

/* How long something has been so, ns, seen at `at` (NOTHING: it is not so) at every look. */
static uint64_t lasting(const struct user *user, struct span *span, uint64_t at) {
  uint64_t now = user->process->broker->watched_ns;
  if (at != span->at) *span = (struct span){.at = at, .since = now};
  return at == NOTHING ? 0 : now - span->since;
}

/* True: it is slow.  One that has not counted a loss yet may be about to look for its start, or to skip to the newest:
 * so it has to stand there for a while. */
static bool look_for_loss(struct user *user, const struct slc__hold_line *line) {
  uint64_t unseen = unseen_lost(user, line), lost = counted_lost(line) + unseen;
  if (lost > user->watch.lost) {
    slc_event event = {
        .kind = SLC_EVENT_SUBSCRIBER_OVERRUN, .lost = lost - user->watch.lost, .lag = lag_of(user, line)};
    event_of_user(user, &event);
  }
  user->watch.lost = lost;
  uint64_t stood = lasting(user, &user->watch.overrun, unseen > 0 ? cursor_of(line) : NOTHING);
  return !user->is_reliable && (lost > unseen || stood >= limit_of(user));
}

/* True: it has lasted too long, which is told once. */
static bool look_for_span(struct user *user, const struct slc__hold_line *line, struct span *span, uint64_t at,
                          enum slc_event_kind kind) {
  uint64_t lasted = lasting(user, span, at);
  if (lasted < limit_of(user) || at == NOTHING) return false;
  if (span->is_told) return true;
  slc_event event = {.kind = kind,
                     .held_ns = lasted,
                     .held_ordinal = at + 1 /* counted from 1 in public */,
                     .lag = lag_of(user, line)};
  span->is_told = true;
  event_of_user(user, &event);
  return true;
}

static bool look_for_hold(struct user *user, const struct slc__hold_line *line) {
  return look_for_span(user, line, &user->watch.held, oldest_held(user), SLC_EVENT_SUBSCRIBER_HOLDS);
}

/* Publishers evict up to the cursor of the hindmost reliable subscriber, and no further: head says whose that is. */
static bool is_waited_for(const struct user *user, const struct slc__hold_line *line) {
  return user->channel->watch.is_waiting && user->is_reliable && cursor_of(line) <= head_of(user) &&
         lag_of(user, line) > 0;
}

static bool look_for_stall(struct user *user, const struct slc__hold_line *line) {
  uint64_t at = is_waited_for(user, line) ? cursor_of(line) : NOTHING;
  return look_for_span(user, line, &user->watch.stalled, at, SLC_EVENT_SUBSCRIBER_STALLS);
}

/* Loans were refused since the last look, or somebody sleeps until a slot is released.  Who has given up sleeping
 * counts, too, until somebody releases. */
static bool is_waiting(struct channel *channel) {
  uint64_t refused = 0;
  bool is_asleep = false;
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (!user->is_publisher || user->publisher_id == 0) continue;
    refused +=
        atomic_load_explicit(&channel->control.publishers[user->publisher_id - 1].would_block, memory_order_relaxed);
  }
  for (uint32_t i = 0; i < channel->table_count && !is_asleep; i++) {
    struct slc__table_page *table = channel->tables[i]->mapping.base;
    struct slc__bell_page *bell = channel->tables[i]->bell_mapping.base;
    is_asleep = slc__gate_is_armed(&bell->waiting, &table->released);
  }
  bool is_refused = refused > channel->watch.refused;
  channel->watch.refused = refused;
  return is_refused || is_asleep;
}

static void begin(struct user *user) {
  user->watch.held.at = user->watch.stalled.at = user->watch.overrun.at = NOTHING;
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

/* Of each kind, so that all are told. */
static enum slc__closed judge(struct user *user, const struct slc__hold_line *line) {
  bool has_lost = look_for_loss(user, line), holds = look_for_hold(user, line), stalls = look_for_stall(user, line);
  return has_lost ? SLC__CLOSED_OVERRUN : holds ? SLC__CLOSED_HOLDS : stalls ? SLC__CLOSED_STALLS : SLC__OPEN;
}

static void look(struct user *user, const struct slc__hold_line *line) {
  if (user->is_too_slow) return;
  if (!user->watch.is_known) {
    begin(user);
    if (cursor_of(line) == 0) return; /* a newcomer's line is open before it has chosen where to start */
  }
  enum slc__closed why = judge(user, line);
  if (why == SLC__OPEN || !disconnects(user->channel)) return;
  slc_event event = {.kind = SLC_EVENT_SUBSCRIBER_DISCONNECTED, .lag = lag_of(user, line)};
  user_shut(user, why);
  event_of_user(user, &event);
}

/* What happened while nobody wanted to know is no news. */
static void note(struct user *user, const struct slc__hold_line *line) {
  user->watch.lost = lost_by(user, line);
  begin(user);
}

static void take_note(struct channel *channel, void *ctx) {
  (void)ctx;
  if (!disconnects(channel)) for_each_subscriber(channel, note); /* else it was looked at all the time */
}

struct looking {
  bool is_telling;
  bool is_needed; /* some channel needs to be looked at */
};

static void look_at(struct channel *channel, void *ctx) {
  struct looking *looking = ctx;
  if (channel->subscribers == 0 || (!looking->is_telling && !disconnects(channel))) return;
  looking->is_needed = true;
  channel->watch.is_waiting = channel->is_shaped && channel->geometry.reliable != 0 && is_waiting(channel);
  for_each_subscriber(channel, look);
}

/* So that what lasts longer than the limit is seen before it has lasted twice as long, within bounds. */
static uint64_t look_ms(const struct broker *broker) {
  uint64_t half = broker->options.slow_hold_ms / 2;
  if (half == 0 || half > LOOK_MS_MAX) return LOOK_MS_MAX;
  return half < LOOK_MS_MIN ? LOOK_MS_MIN : half;
}

/* Time is counted by looks: where the whole machine has stood still, nobody was slow meanwhile. */
static void on_look(uv_timer_t *timer) {
  struct broker *broker = timer->data;
  broker->watched_ns += look_ms(broker) * NS_PER_MS;
  broker->is_telling = events_are_wanted(broker);
  struct looking looking = {.is_telling = broker->is_telling};
  channel_for_each(broker, look_at, &looking);
  if (!looking.is_telling && !looking.is_needed) uv_timer_stop(timer);
}

void watch_init(struct broker *broker) {
  uv_timer_init(broker->loop, &broker->watch);
  broker->watch.data = broker;
}

void watch_begin(struct broker *broker, const struct channel *channel) {
  if (!broker->is_telling && events_are_wanted(broker)) {
    broker->is_telling = true;
    channel_for_each(broker, take_note, NULL);
  }
  bool is_wanted = broker->is_telling || (disconnects(channel) && channel->subscribers > 0);
  if (is_wanted && !uv_is_active((uv_handle_t *)&broker->watch))
    uv_timer_start(&broker->watch, on_look, look_ms(broker), look_ms(broker));
}

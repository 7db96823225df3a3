/* What must outlive the broker is on record with its keepers: here is what has changed since the last commit, and what
 * clients must not be told before it is kept.
 *
 * Whatever changes is only marked.  Once in each turn of the loop, before it waits for more to do, all that is marked
 * is put and committed: so a commit is never the middle of a handler.  From a mark on, what is sent to clients is of
 * the present stage, and held until the commit of that stage is kept.  Nobody has anything that a recovered broker does
 * not know; the other way round it may be, and recovery copes.  Without keepers there are no records, and nothing
 * waits.
 *
 * A push that names a newcomer may so come after the newcomer's own answer, and a ring between the two is lost: so
 * everybody is rung afterwards.  Thread: the loop's. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"

enum { RETRY_MS = 100 }; /* after a lack of memory */

/* A stage and the commit that has it. */
struct committed {
  STAILQ_ENTRY(committed) link;
  uint64_t stage, commit;
};

struct records {
  struct broker *broker;
  struct slc__store *store; /* NULL: closed */
  char *generation_path;
  uv_prepare_t prepare;
  uv_timer_t retry;
  int handles; /* of libuv, not yet closed */
  TAILQ_HEAD(, record) changed;
  uint64_t stage;                     /* the next to be committed, from 1 on */
  STAILQ_HEAD(, committed) committed; /* and not kept yet */
  struct slc__hold hold;
  TAILQ_HEAD(, channel) ringing;
  bool is_failing; /* to put, which is logged once */
  bool is_left;    /* closed, and somebody keeps them */
  bool is_fenced;  /* somebody else goes on with them already */
};

/* ---- marking ---- */

static bool is_open(const struct records *records) {
  return records != NULL && records->store != NULL;
}

void record_init(struct record *record, struct broker *broker, enum record_kind kind, const struct channel *channel) {
  *record = (struct record){.records = broker->records, .kind = kind, .channel = channel};
}

void record_changed(struct record *record) {
  struct records *records = record->records;
  if (!is_open(records)) return;
  records->hold.stage = records->stage;
  if (record->is_changed) return;
  record->is_changed = true;
  TAILQ_INSERT_TAIL(&records->changed, record, link);
}

void record_gone(struct record *record) {
  struct records *records = record->records;
  struct record_key key;
  if (!is_open(records)) return;
  records->hold.stage = records->stage;
  if (record->is_changed) TAILQ_REMOVE(&records->changed, record, link);
  record->is_changed = false;
  record_key(record, &key);
  slc__store_drop(records->store, key.bytes, key.size);
}

void record_generation_gone(struct channel *channel, const struct generation *generation) {
  struct records *records = channel->record.records;
  if (!is_open(records)) return;
  records->hold.stage = records->stage;
  record_drop_generation(records->store, channel, generation);
}

void record_ring(struct channel *channel) {
  struct records *records = channel->record.records;
  if (!is_open(records)) return;
  channel->ring_last = records->stage;
  if (channel->ring_first != 0) return;
  channel->ring_first = records->stage;
  TAILQ_INSERT_TAIL(&records->ringing, channel, ringing);
}

void record_ring_not(struct channel *channel) {
  struct records *records = channel->record.records;
  if (channel->ring_first != 0) TAILQ_REMOVE(&records->ringing, channel, ringing);
  channel->ring_first = 0;
}

void records_hold(const struct broker *broker, struct slc__connection *connection) {
  if (broker->records != NULL) slc__connection_hold(connection, &broker->records->hold);
}

bool is_left_to_successor(const struct broker *broker) {
  return broker->is_closing && broker->records != NULL && broker->records->is_left;
}

/* ---- putting ---- */

static int put_generations(struct records *records, struct channel *channel) {
  int status = SLC_OK;
  for (uint32_t i = 0; status == SLC_OK && channel->has_new_generation && i < channel->generation_count; i++)
    status = record_put_generation(records->store, channel, &channel->generations[i]);
  if (status == SLC_OK) channel->has_new_generation = false;
  return status;
}

static int put(struct records *records, struct record *record) {
  int status = record_put(records->store, record);
  if (status == SLC_OK && record->kind == RECORD_CHANNEL)
    status = put_generations(records, (struct channel *)(uintptr_t)record->channel);
  return status;
}

static int put_changed(struct records *records) {
  struct record *record;
  while ((record = TAILQ_FIRST(&records->changed)) != NULL) {
    int status = put(records, record);
    if (status != SLC_OK) return status;
    TAILQ_REMOVE(&records->changed, record, link);
    record->is_changed = false;
  }
  return SLC_OK;
}

void record_now(struct record *record) {
  if (is_open(record->records)) put(record->records, record);
}

/* ---- committing ---- */

static void ring_released(struct records *records) {
  struct channel *channel, *next;
  for (channel = TAILQ_FIRST(&records->ringing); channel != NULL; channel = next) {
    next = TAILQ_NEXT(channel, ringing);
    if (channel->ring_first > records->hold.released) continue;
    channel_ring_all(channel);
    bool is_more = channel->ring_last > records->hold.released;
    channel->ring_first = channel->ring_last;
    if (!is_more) record_ring_not(channel);
  }
}

static void settle(struct records *records, uint64_t kept) {
  struct committed *first;
  uint64_t stage = 0;
  while ((first = STAILQ_FIRST(&records->committed)) != NULL && first->commit <= kept) {
    stage = first->stage;
    STAILQ_REMOVE_HEAD(&records->committed, link);
    free(first);
  }
  if (stage == 0) return;
  slc__hold_release(&records->hold, stage);
  ring_released(records);
}

static void on_kept(void *owner, uint64_t commit) {
  settle(owner, commit);
}

static void on_fenced(void *owner) {
  struct records *records = owner;
  records->is_fenced = true;
  slc__log(SLC__LOG_ERROR, "a newer broker has taken over what this one keeps: ending");
  kill(getpid(), SIGTERM); /* the way in which it ends in good order */
}

/* False: not now, for want of memory. */
static bool commit(struct records *records) {
  struct committed *committed = malloc(sizeof *committed);
  int status = committed == NULL ? slc__fail(SLC_NO_MEMORY, "no memory for a commit") : put_changed(records);
  if (status != SLC_OK) {
    if (!records->is_failing)
      slc__log(SLC__LOG_ERROR, "%s: clients wait until what they asked for is on record", slc__error_detail());
    records->is_failing = true;
    free(committed);
    return false;
  }
  records->is_failing = false;
  *committed = (struct committed){.stage = records->stage++, .commit = slc__store_commit(records->store)};
  STAILQ_INSERT_TAIL(&records->committed, committed, link);
  return true;
}

static void on_retry(uv_timer_t *timer) {
  (void)timer; /* the loop turns, and that is all */
}

static void on_prepare(uv_prepare_t *prepare) {
  struct records *records = prepare->data;
  if (records->hold.stage != records->stage) return; /* nothing has changed */
  if (!commit(records)) {
    uv_timer_start(&records->retry, on_retry, RETRY_MS, 0);
    return;
  }
  settle(records, slc__store_kept(records->store));
}

/* ---- life ---- */

static void on_handle_closed(uv_handle_t *handle) {
  struct records *records = handle->data;
  if (--records->handles > 0) return;
  free(records->generation_path);
  free(records);
}

bool records_are_wanted(const struct broker *broker) {
  const struct broker_options *options = &broker->options;
  return options->fdstore || options->shadows[0] != NULL || options->shadows[1] != NULL;
}

static int open_store(struct records *records) {
  const struct broker_options *options = &records->broker->options;
  static const struct slc__store_events events = {.kept = on_kept, .fenced = on_fenced};
  if (asprintf(&records->generation_path, "%s.generation", options->socket) < 0) {
    records->generation_path = NULL;
    return slc__fail(SLC_NO_MEMORY, "no memory for records");
  }
  struct slc__store_options of = {
      .fdstore = options->fdstore, .generation_path = records->generation_path, .image = options->image};
  for (size_t i = 0; i < SLC__STORE_KEEPERS_MAX; i++) of.shadows[i] = options->shadows[i];
  return slc__store_open(records->broker->loop, &of, &events, records, &records->store);
}

int records_open(struct broker *broker) {
  struct records *records = calloc(1, sizeof *records);
  if (records == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for records");
  records->broker = broker;
  records->stage = 1;
  TAILQ_INIT(&records->changed);
  TAILQ_INIT(&records->ringing);
  STAILQ_INIT(&records->committed);
  slc__hold_init(&records->hold);
  int status = open_store(records);
  if (status != SLC_OK) {
    free(records->generation_path);
    free(records);
    return status;
  }
  uv_prepare_init(broker->loop, &records->prepare);
  uv_timer_init(broker->loop, &records->retry);
  records->prepare.data = records->retry.data = records;
  records->handles = 2;
  uv_prepare_start(&records->prepare, on_prepare);
  broker->records = records;
  return SLC_OK;
}

int records_load(struct broker *broker, void (*visit)(void *ctx, struct slc__store_record *record), void *ctx,
                 size_t *ret_count) {
  static const struct slc__store_events events;
  const struct slc__store_options nobody = {.image = broker->options.image};
  struct slc__store *store;
  if (broker->records != NULL) return slc__store_load(broker->records->store, visit, ctx, ret_count);
  int status = slc__store_open(broker->loop, &nobody, &events, NULL, &store);
  if (status != SLC_OK) return status;
  status = slc__store_load(store, visit, ctx, ret_count);
  slc__store_close(store);
  return status;
}

int records_hand_over(const struct broker *broker, struct slc__image *image) {
  return broker->records != NULL ? slc__store_hand_over(broker->records->store, image) : SLC_OK;
}

void records_start(const struct broker *broker) {
  if (broker->records != NULL) slc__store_start(broker->records->store);
}

void records_close(struct broker *broker) {
  struct records *records = broker->records;
  struct committed *first;
  if (records == NULL) return;
  if (records->hold.stage == records->stage) commit(records);
  records->is_left = records->is_fenced || slc__store_has_keeper(records->store);
  slc__store_close(records->store);
  records->store = NULL;
  while ((first = STAILQ_FIRST(&records->committed)) != NULL) {
    STAILQ_REMOVE_HEAD(&records->committed, link);
    free(first);
  }
  uv_close((uv_handle_t *)&records->prepare, on_handle_closed);
  uv_close((uv_handle_t *)&records->retry, on_handle_closed);
}

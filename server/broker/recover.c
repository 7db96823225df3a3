/* A broker that begins where another one ended.
 *
 * Everything is loaded first, in the order of keys, so that what a record refers to is there.  A record that is
 * damaged, or whose descriptors are, costs its channel: the users of it are told that they are unknown, and join anew.
 * Then what shared memory says is brought in line with the records, which it may be ahead of by what was not committed;
 * those who died meanwhile go as they always do; and everybody is rung, since a ring may have been due that nobody
 * made.
 *
 * A lack of our own (memory, descriptors) is no damage: then the broker does not start, and what is kept stays.
 * Thread: the loop's. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/split.h"

#define AHEAD_MAX (UINT64_C(1) << 32) /* more than shared memory can be ahead by: a publisher has written it */

struct entry {
  uint64_t number;
  void *thing; /* NULL: lost */
};

/* By rising numbers, as keys come. */
struct entries {
  struct entry *list;
  size_t count, room;
};

struct recovery {
  struct broker *broker;
  struct entries processes, channels;
  bool has_broker, is_hopeless;
  size_t users, lost;
  int status; /* for which the broker can't start */
};

/* ---- what was loaded ---- */

static int entries_add(struct entries *entries, uint64_t number, void *thing) {
  if (entries->count == entries->room) {
    size_t room = entries->room * 2 + 64;
    struct entry *list = reallocarray(entries->list, room, sizeof *list);
    if (list == NULL) return slc__fail(SLC_NO_MEMORY, "no memory to recover");
    entries->list = list;
    entries->room = room;
  }
  entries->list[entries->count++] = (struct entry){.number = number, .thing = thing};
  return SLC_OK;
}

static int by_number(const void *a, const void *b) {
  uint64_t first = ((const struct entry *)a)->number, second = ((const struct entry *)b)->number;
  return first < second ? -1 : first > second;
}

static struct entry *entries_find(const struct entries *entries, uint64_t number) {
  struct entry key = {.number = number};
  return entries->count == 0 ? NULL : bsearch(&key, entries->list, entries->count, sizeof key, by_number);
}

/* ---- what is lost ---- */

static bool is_own_trouble(int status) {
  return status == SLC_NO_MEMORY || status == SLC_NO_DESCRIPTORS;
}

/* Its users, if they live, go on with what they have mapped; here nothing of it stays. */
static void lose(struct recovery *recovery, struct entry *entry, const char *why) {
  struct channel *channel = entry->thing;
  recovery->lost++;
  if (channel == NULL) {
    slc__log(SLC__LOG_ERROR, "a channel is lost: %s", why);
    return;
  }
  entry->thing = NULL;
  slc__log(SLC__LOG_ERROR, "the channel %s is lost: %s", channel->name, why);
  channel->is_lost = true;
  channel->is_persistent = true; /* so that its last user does not take it along */
  while (!LIST_EMPTY(&channel->users)) {
    user_forget(LIST_FIRST(&channel->users));
    recovery->users--;
  }
  virtuals_lose(channel);
  channel_free(recovery->broker, channel);
}

/* ---- loading ---- */

static int load_broker(struct recovery *recovery, const Slotcast__Record *record, struct slc__store_record *stored) {
  if (record->body_case != SLOTCAST__RECORD__BODY_BROKER) return slc__fail(SLC_PROTOCOL, "it is of something else");
  return restore_broker(recovery->broker, record->broker, stored);
}

static int load_process(struct recovery *recovery, uint64_t number, const Slotcast__Record *record,
                        struct slc__store_record *stored) {
  struct process *process = NULL;
  if (record->body_case != SLOTCAST__RECORD__BODY_PROCESS) return slc__fail(SLC_PROTOCOL, "it is of something else");
  int status = restore_process(recovery->broker, number, record->process, stored, &process);
  return status == SLC_OK ? entries_add(&recovery->processes, number, process) : status;
}

/* Its entry comes first: what is wrong with it is then said of it. */
static int load_channel(struct recovery *recovery, uint64_t number, const Slotcast__Record *record,
                        struct slc__store_record *stored) {
  struct channel *channel = NULL;
  int status = entries_add(&recovery->channels, number, NULL);
  if (status != SLC_OK) return status;
  struct entry *entry = &recovery->channels.list[recovery->channels.count - 1];
  if (record->body_case != SLOTCAST__RECORD__BODY_CHANNEL) return slc__fail(SLC_PROTOCOL, "it is of something else");
  status = restore_channel(recovery->broker, number, record->channel, stored, &channel);
  entry->thing = channel;
  return status;
}

static int load_user(struct recovery *recovery, struct channel *channel, uint64_t id, const Slotcast__UserRecord *body,
                     struct slc__store_record *stored) {
  const struct entry *process = entries_find(&recovery->processes, body->process);
  if (process == NULL) return slc__fail(SLC_PROTOCOL, "the process of one of its users is not on record");
  recovery->users++;
  return restore_user(channel, process->thing, id, body, stored);
}

static int load_part(struct recovery *recovery, struct channel *channel, const struct record_name *name,
                     const Slotcast__Record *record, struct slc__store_record *stored) {
  switch (record->body_case) {
  case SLOTCAST__RECORD__BODY_GENERATION:
    if (name->id[0] > UINT32_MAX || name->id[1] > UINT32_MAX) break;
    return restore_generation(channel, (uint32_t)name->id[0], (uint32_t)name->id[1], record->generation, stored);
  case SLOTCAST__RECORD__BODY_TABLE:
    if (name->id[0] > UINT32_MAX) break;
    return restore_table(channel, (uint32_t)name->id[0], record->table, stored);
  case SLOTCAST__RECORD__BODY_VIRTUAL_CHANNEL:
    return virtual_restore(channel, name->id[0], record->virtual_channel);
  case SLOTCAST__RECORD__BODY_USER:
    return load_user(recovery, channel, name->id[0], record->user, stored);
  default:
    break;
  }
  return slc__fail(SLC_PROTOCOL, "it has a part that can't be");
}

static int load(struct recovery *recovery, const struct record_name *name, struct slc__store_record *stored) {
  Slotcast__Record *record = NULL;
  const struct entry *entry = name->kind >= '3' ? entries_find(&recovery->channels, name->number) : NULL;
  if (name->kind >= '3' && (entry == NULL || entry->thing == NULL)) return SLC_OK; /* it is lost already */
  int status = record_decode(stored, &record);
  if (status != SLC_OK) {
    if (name->kind != '2') return status;
    int added = entries_add(&recovery->channels, name->number, NULL);
    return added == SLC_OK ? status : added;
  }
  if (entry != NULL) {
    status = load_part(recovery, entry->thing, name, record, stored);
  } else if (name->kind == '2') {
    status = load_channel(recovery, name->number, record, stored);
  } else if (name->kind == '1') {
    status = load_process(recovery, name->number, record, stored);
  } else {
    status = load_broker(recovery, record, stored);
  }
  slotcast__record__free_unpacked(record, NULL);
  return status;
}

static void fail(struct recovery *recovery, const struct record_name *name, int status) {
  if (is_own_trouble(status) || (name->kind == '0' && status == SLC_VERSION)) {
    recovery->status = status;
  } else if (name->kind == '0') {
    slc__log(SLC__LOG_ERROR, "everything on record is lost: the record of the broker itself is damaged: %s",
             slc__error_detail());
    recovery->is_hopeless = true;
  } else if (name->kind == '1') {
    slc__log(SLC__LOG_ERROR, "a process can't be watched any more: %s", slc__error_detail());
  } else {
    lose(recovery, entries_find(&recovery->channels, name->number), slc__error_detail());
  }
}

static void visit(void *ctx, struct slc__store_record *stored) {
  struct recovery *recovery = ctx;
  struct record_name name;
  if (recovery->status != SLC_OK || recovery->is_hopeless) return;
  if (!record_name(stored->key, stored->key_size, &name)) {
    slc__log(SLC__LOG_WARNING, "a record of something that this release does not know is left alone");
    return;
  }
  if (name.kind == '0') recovery->has_broker = true;
  if (!recovery->has_broker) {
    slc__error_set(SLC_PROTOCOL, "it is missing");
    name.kind = '0';
    fail(recovery, &name, SLC_PROTOCOL);
    return;
  }
  int status = load(recovery, &name, stored);
  if (status != SLC_OK) fail(recovery, &name, status);
}

/* ---- checks of the whole ---- */

static bool is_whole(const struct channel *channel) {
  for (uint32_t i = 0; i < channel->generation_count; i++) {
    const struct split *split = channel->generations[i].split;
    if (split != NULL && !split_is_complete(channel, split)) return false;
  }
  return true;
}

static void check_all(struct recovery *recovery) {
  for (size_t i = 0; i < recovery->channels.count; i++) {
    struct entry *entry = &recovery->channels.list[i];
    if (entry->thing != NULL && !is_whole(entry->thing)) lose(recovery, entry, "a part of its payloads is missing");
  }
  for (size_t i = 0; i < recovery->processes.count; i++) process_release(recovery->processes.list[i].thing);
}

/* ---- shared memory, in line with the records ---- */

/* One that nobody has seen yet, whatever was done and not committed. */
static uint64_t next_of(uint64_t recorded, uint64_t shared) {
  return (shared > recorded && shared - recorded < AHEAD_MAX ? shared : recorded) + 1;
}

static void settle_page(struct channel *channel) {
  struct slc__control_page *page = channel->control.page;
  uint32_t newest = channel->generation != 0 ? channel->generation : 1, watched = 0;
  uint64_t watchers = atomic_load_explicit(&page->watchers, memory_order_relaxed);
  uint64_t epoch = atomic_load_explicit(&page->epoch, memory_order_relaxed);
  if (watchers != channel->watchers_number) channel->watchers_number = next_of(channel->watchers_number, watchers);
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->is_publisher && user->doorbell >= 0) watched++;
  }
  atomic_store_explicit(&page->generation, newest, memory_order_seq_cst);
  atomic_store_explicit(&page->watchers, channel->watchers_number, memory_order_seq_cst);
  atomic_store_explicit(&page->watched, watched, memory_order_seq_cst);
  /* The page is never behind what was committed, and is told first: where they agree, nobody came since, and the
   * publishers who know this epoch know everybody who may hold a slot.  They go on, and need not find us first. */
  if (epoch != channel->epoch) {
    channel->epoch = next_of(channel->epoch, epoch);
    atomic_store_explicit(&page->epoch, channel->epoch, memory_order_seq_cst);
  }
  channel_set_counts(channel);
}

/* Of whoever was about to come, and has not been answered. */
static void settle_lines(const struct channel *channel) {
  for (uint32_t i = 0; i < channel->table_count; i++) {
    const struct table *table = channel->tables[i];
    for (uint32_t line = 0; line < table->line_count; line++) {
      if (table->lines[line] == 0) slc__line_close(table->mapping.base, line, 1);
    }
  }
}

static void settle_publishers(const struct channel *channel) {
  const struct slc__control *control = &channel->control;
  for (uint32_t id = 1; id <= channel->geometry.max_publishers; id++) {
    if (channel->publisher_ids[id] != 0) continue;
    struct slc__publisher_line *line = &control->publishers[id - 1];
    if (atomic_load_explicit(&line->generation, memory_order_relaxed) != 0)
      atomic_store_explicit(&line->generation, 0, memory_order_seq_cst);
  }
}

static void settle(struct channel *channel, void *ctx) {
  struct broker *broker = ctx;
  record_changed(&channel->record);
  channel->has_new_generation = true;
  if (channel->is_shaped) {
    settle_page(channel);
    settle_lines(channel);
    settle_publishers(channel);
  }
  generations_watch(broker, channel);
  if (LIST_EMPTY(&channel->users) && channel->lingers_until != 0)
    channel_linger_until(broker, channel, channel->lingers_until);
}

/* ---- names that nobody has any more ---- */

struct inodes {
  ino_t *list;
  size_t count, room;
  bool is_short; /* of memory: then nothing is removed */
};

static void inodes_add(struct inodes *inodes, int fd) {
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0) return;
  if (inodes->count == inodes->room) {
    size_t room = inodes->room * 2 + 256;
    ino_t *list = reallocarray(inodes->list, room, sizeof *list);
    if (list == NULL) {
      inodes->is_short = true;
      return;
    }
    inodes->list = list;
    inodes->room = room;
  }
  inodes->list[inodes->count++] = info.st_ino;
}

static void add_objects(struct channel *channel, void *ctx) {
  inodes_add(ctx, channel->control_fd);
  inodes_add(ctx, channel->buffers_fd);
  for (uint32_t i = 0; i < channel->generation_count; i++) {
    const struct split *split = channel->generations[i].split;
    inodes_add(ctx, split != NULL ? split->names.directory : channel->generations[i].fd);
  }
  for (uint32_t i = 0; i < channel->table_count; i++) {
    inodes_add(ctx, channel->tables[i]->fd);
    inodes_add(ctx, channel->tables[i]->bell_fd);
  }
}

static void sweep_names(struct broker *broker) {
  struct inodes inodes = {0};
  if (broker->session_lock < 0) return;
  channel_for_each(broker, add_objects, &inodes);
  int removed = inodes.is_short ? 0 : slc__object_sweep_session(broker->session, inodes.list, inodes.count);
  if (removed > 0) slc__log(SLC__LOG_NOTICE, "removed %d files of channels that were never finished", removed);
  free(inodes.list);
}

/* ---- all ---- */

/* Whoever hands over has all of it, and had better go on than give up what we don't understand. */
static int check_handed(const struct recovery *recovery) {
  if (recovery->broker->options.image == NULL) return SLC_OK;
  if (recovery->lost == 0 && !recovery->is_hopeless && recovery->has_broker) return SLC_OK;
  return slc__fail(SLC_INCOMPATIBLE, "what was handed over is not understood: %zu channels would be lost",
                   recovery->lost);
}

int recover(struct broker *broker) {
  struct recovery recovery = {.broker = broker};
  size_t count = 0;
  int status = records_load(broker, visit, &recovery, &count);
  if (status == SLC_OK) status = recovery.status;
  if (status == SLC_OK) {
    check_all(&recovery);
    if (count > 0)
      slc__log(SLC__LOG_NOTICE, "recovered %zu channels with %zu publishers and subscribers; %zu channels were lost",
               recovery.channels.count - recovery.lost, recovery.users, recovery.lost);
  }
  if (status == SLC_OK) status = check_handed(&recovery);
  free(recovery.processes.list);
  free(recovery.channels.list);
  return status;
}

static void ring_one(struct channel *channel, void *ctx) {
  (void)ctx;
  channel_ring_all(channel);
}

static void watch_one(struct channel *channel, void *ctx) {
  watch_begin(ctx, channel);
}

void recover_finish(struct broker *broker) {
  sweep_names(broker);
  record_changed(&broker->record); /* all else is marked since it was made: the keepers get it anew */
  channel_for_each(broker, settle, broker);
  process_reap(broker);
  channel_for_each(broker, ring_one, NULL);
  channel_for_each(broker, watch_one, broker);
}

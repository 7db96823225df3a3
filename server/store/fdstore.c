/* See fdstore.h.
 *
 * A commit is complete in three steps: the manager has every descriptor that was sent for it (a barrier says so), the
 * log counts up to it, and what no record needs since then is taken away from the manager.  So whenever we die, the log
 * names nothing that the manager does not have.  What it has and no record names is taken away by the next one.
 *
 * A whole new set (begin) is a new log, and so is a log that has become much longer than what is in it; the old one
 * counts until the first commit of the new one is complete.
 *
 * Where something fails (the manager is silent, its store is full, memory is short) everything is taken away from the
 * manager, and after a while it is tried from the beginning.  Thread: the loop's. */
#include "store/fdstore.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "net/seqpacket.h"
#include "store/kept.h"
#include "store/log.h"
#include "store/notify.h"
#include "store/parts.h"
#include "store/stored.h"

enum {
  PATIENCE_MS = 10 * 1000, /* every client waits for the manager */
  RETRY_MS = 30 * 1000,    /* all of it has to be sent anew */
};
#define COMPACT_SIZE (UINT64_C(1) << 20) /* shorter logs are left as they are */

struct commit {
  uint64_t number, size; /* of the log */
};

struct fdstore {
  struct slc__keeper keeper;
  uv_loop_t *loop;
  uv_timer_t turn;  /* what must not be done from within the store's call */
  uv_timer_t timer; /* how long the manager may be silent, or until it is tried again */
  int handles;
  struct slc__notify *notify; /* NULL: to be opened again */
  struct slc__stored_table table;
  struct slc__kept_tree kept;
  uint64_t sequence; /* of the newest log */

  struct slc__log log;
  struct slc__stored *log_stored;            /* NULL: there is no log yet */
  struct slc__stored *complete_log;          /* whose set counts; NULL: none */
  struct slc__log_set found;                 /* in it, between ask and load */
  struct commit appended, covered, complete; /* all of log; numbers are 0 where there is none */
  bool has_sent;                             /* descriptors, since the last barrier */
  bool is_under_way;                         /* a barrier, for `covered` */
  bool is_there;                             /* the store counts on us */
  bool has_failed;
  bool is_failure_told;
};

static struct fdstore *fdstore_of(struct slc__keeper *keeper) {
  return (struct fdstore *)keeper;
}

/* ---- failing ---- */

static void on_turn(uv_timer_t *timer);

/* slc__error_detail says why.  The store hears of it in a turn of the loop's own. */
static void fail(struct fdstore *f) {
  if (f->has_failed) return;
  f->has_failed = true;
  if (!f->is_failure_told) slc__log(SLC__LOG_ERROR, "%s: %s", f->keeper.name, slc__error_detail());
  f->is_failure_told = true;
  uv_timer_start(&f->turn, on_turn, 0, 0);
}

static void drop_log(struct fdstore *f) {
  slc__log_deinit(&f->log);
  f->log_stored = NULL;
  f->appended = f->covered = f->complete = (struct commit){0};
}

static void release(struct fdstore *f) {
  if (f->notify != NULL) (void)slc__stored_release(&f->table, f->notify, f->complete.number);
}

static void on_retry(uv_timer_t *timer);

static void give_up(struct fdstore *f) {
  slc__kept_clear(&f->kept);
  drop_log(f);
  f->complete_log = NULL;
  slc__stored_retire_all(&f->table);
  release(f);
  uv_timer_start(&f->timer, on_retry, RETRY_MS, 0);
  if (!f->is_there) return;
  f->is_there = false;
  slc__keeper_left(&f->keeper);
}

/* ---- a commit becomes complete ---- */

static void on_patience_over(uv_timer_t *timer) {
  struct fdstore *f = timer->data;
  slc__error_set(SLC_TIMED_OUT, "it has not answered for %d s", PATIENCE_MS / 1000);
  fail(f);
}

static void complete(struct fdstore *f, struct commit commit) {
  if (slc__log_count(&f->log, commit.size) != SLC_OK) {
    fail(f);
    return;
  }
  f->complete = commit;
  if (f->complete_log != f->log_stored) {
    if (f->complete_log != NULL) slc__stored_retire(&f->table, f->complete_log);
    f->complete_log = f->log_stored;
  }
  f->is_failure_told = false;
  release(f);
}

/* Where nothing was sent for it, the manager has all that it needs already. */
static void advance(struct fdstore *f) {
  if (f->has_failed || f->is_under_way || f->appended.number == f->complete.number) return;
  if (!f->has_sent) {
    uv_timer_start(&f->turn, on_turn, 0, 0);
    return;
  }
  int status = slc__notify_barrier(f->notify);
  if (status == SLC__NET_AGAIN) return; /* on_writable */
  if (status != SLC_OK) {
    fail(f);
    return;
  }
  f->covered = f->appended;
  f->has_sent = false;
  f->is_under_way = true;
  uv_timer_start(&f->timer, on_patience_over, PATIENCE_MS, 0);
}

/* The store is told last: its owner may close everything in answer. */
static void acknowledge(struct fdstore *f, struct commit commit) {
  complete(f, commit);
  advance(f);
  if (!f->has_failed) slc__keeper_acknowledged(&f->keeper, commit.number);
}

static void on_turn(uv_timer_t *timer) {
  struct fdstore *f = timer->data;
  if (f->has_failed) {
    give_up(f);
  } else if (f->has_sent) {
    advance(f);
  } else if (!f->is_under_way && f->appended.number != f->complete.number) {
    acknowledge(f, f->appended);
  }
}

/* A barrier whose log is not written any more was for nobody. */
static void on_reached(void *owner) {
  struct fdstore *f = owner;
  struct commit covered = f->covered;
  f->is_under_way = false;
  f->covered = (struct commit){0};
  if (f->has_failed) return;
  uv_timer_stop(&f->timer);
  if (covered.number != 0) {
    acknowledge(f, covered);
  } else {
    advance(f);
  }
}

static void on_writable(void *owner) {
  struct fdstore *f = owner;
  release(f);
  if (f->has_failed) return;
  advance(f);
  slc__keeper_writable(&f->keeper);
}

static const struct slc__notify_events notify_events = {.writable = on_writable, .reached = on_reached};

/* ---- the stream ---- */

/* True: stored, and sent where the manager did not have it.  Otherwise *ret_status is what the store is told. */
static bool store(struct fdstore *f, int fd, bool is_log, struct slc__stored **ret_stored, int *ret_status) {
  bool is_sent;
  int status = slc__stored_send(&f->table, f->notify, fd, is_log, ret_stored, &is_sent);
  if (status == SLC_OK) {
    f->has_sent = f->has_sent || is_sent;
    return true;
  }
  if (status != SLC__NET_AGAIN) fail(f);
  *ret_status = status == SLC__NET_AGAIN ? status : 0;
  return false;
}

/* From now on this one is written.  The one before counts, or never did. */
static void replace_log(struct fdstore *f, struct slc__log log, struct slc__stored *stored) {
  if (f->log_stored != NULL && f->log_stored != f->complete_log) slc__stored_retire(&f->table, f->log_stored);
  drop_log(f);
  f->log = log;
  f->log_stored = stored;
  f->sequence++;
  slc__stored_ref(&f->table, stored);
}

/* 0: *ret_log is the manager's, too. */
static bool new_log(struct fdstore *f, struct slc__log *ret_log, struct slc__stored **ret_stored, int *ret_status) {
  *ret_status = 0;
  if (slc__log_create(f->sequence + 1, ret_log) != SLC_OK) {
    fail(f);
    return false;
  }
  if (store(f, ret_log->fd, true, ret_stored, ret_status)) return true;
  slc__log_deinit(ret_log);
  return false;
}

static int fdstore_begin(struct slc__keeper *keeper) {
  struct fdstore *f = fdstore_of(keeper);
  struct slc__log log;
  struct slc__stored *stored;
  int status;
  if (f->has_failed) return 0;
  if (!new_log(f, &log, &stored, &status)) return status;
  slc__kept_clear(&f->kept);
  replace_log(f, log, stored);
  return 0;
}

static int append(struct fdstore *f, const struct slc__record *record, struct slc__kept *kept) {
  uint32_t names[SLC__STORE_DESCRIPTORS_MAX];
  for (size_t i = 0; i < kept->count; i++) names[i] = kept->stored[i]->name;
  struct slc__log_put put = {.key = record->key,
                             .key_size = record->key_size,
                             .value = record->value,
                             .value_size = record->value_size,
                             .names = names,
                             .name_count = kept->count};
  int status = slc__log_put(&f->log, &put, &kept->extent);
  if (status == SLC_OK && !slc__kept_put(&f->kept, kept)) status = slc__fail(SLC_NO_MEMORY, "no memory for a record");
  return status;
}

/* What was stored before there was no room any more is found again at the next try. */
static int fdstore_put(struct slc__keeper *keeper, const struct slc__record *record) {
  struct fdstore *f = fdstore_of(keeper);
  int status = 0;
  if (f->has_failed) return 0;
  SLC__CLEANUP_FREE struct slc__kept *kept = slc__kept_new(record);
  if (kept == NULL) {
    slc__error_set(SLC_NO_MEMORY, "no memory for a record");
    fail(f);
    return 0;
  }
  for (; kept->count < record->fd_count; kept->count++) {
    if (!store(f, record->fds[kept->count], false, &kept->stored[kept->count], &status)) return status;
  }
  if (append(f, record, kept) != SLC_OK) {
    fail(f);
  } else {
    slc__pointer_take(&kept);
  }
  return 0;
}

static int fdstore_drop(struct slc__keeper *keeper, const struct slc__record *record) {
  struct fdstore *f = fdstore_of(keeper);
  if (f->has_failed || !slc__kept_drop(&f->kept, record)) return 0;
  if (slc__log_drop(&f->log, record->key, record->key_size) != SLC_OK) fail(f);
  return 0;
}

/* Where the manager takes nothing just now, or memory is short, the log goes on growing. */
static void compact(struct fdstore *f) {
  struct slc__log log;
  struct slc__stored *stored;
  bool is_sent;
  if (f->log.size < COMPACT_SIZE || f->kept.size > f->log.size / 2) return;
  if (slc__log_create(f->sequence + 1, &log) != SLC_OK) return;
  if (slc__kept_copy(&f->kept, &f->log, &log) != SLC_OK ||
      slc__stored_send(&f->table, f->notify, log.fd, true, &stored, &is_sent) != SLC_OK) {
    slc__log_deinit(&log);
    return;
  }
  f->has_sent = true;
  replace_log(f, log, stored);
}

static int fdstore_commit(struct slc__keeper *keeper, uint64_t number, uint64_t generation) {
  struct fdstore *f = fdstore_of(keeper);
  if (f->has_failed) return 0;
  compact(f);
  if (slc__log_commit(&f->log, generation) != SLC_OK) {
    fail(f);
    return 0;
  }
  f->appended = (struct commit){.number = number, .size = f->log.size};
  slc__stored_mark(&f->table, number);
  advance(f);
  return 0;
}

/* ---- what the manager gives back ---- */

static void free_names(char ***names) {
  for (char **name = *names; name != NULL && *name != NULL; name++) free(*name);
  free(*names);
}

static int adopt(struct fdstore *f, const char *name, int fd) {
  int status = slc__stored_adopt(&f->table, name, fd);
  if (status == SLC_OK || status == SLC_NO_MEMORY) return status;
  slc__log(SLC__LOG_WARNING, "%s: %s", f->keeper.name, slc__error_detail());
  return SLC__KEEPER_AWAY;
}

/* Sockets are not the store's, and what has no name of ours is not, either. */
static int adopt_given(struct fdstore *f) {
  SLC__CLEANUP(free_names) char **names = NULL;
  int count = sd_listen_fds_with_names(0, &names);
  if (count < 0) return slc__fail(SLC_SYSTEM, "cannot take the manager's descriptors: %s", strerror(-count));
  for (int i = 0; i < count; i++) {
    int fd = SD_LISTEN_FDS_START + i;
    if (sd_is_socket(fd, AF_UNSPEC, 0, 1) > 0) continue;
    int status = adopt(f, names[i], fd);
    if (status < 0) return status;
  }
  return SLC_OK;
}

/* The manager has them, too, but gave them to the process before us. */
static int adopt_handed(struct fdstore *f, struct slc__image *image) {
  for (size_t i = 0; i < image->stored_count; i++) {
    int status = adopt(f, image->stored[i].name, image->stored[i].fd);
    if (status < 0) return status;
    if (status == SLC_OK) image->stored[i].fd = -1;
  }
  return SLC_OK;
}

/* The newest complete one, of at most two. */
static int find_log(struct fdstore *f) {
  for (uint32_t name = 0; name < f->table.room; name++) {
    struct slc__stored *stored = slc__stored_find(&f->table, name);
    struct slc__log_set set;
    if (stored == NULL || !stored->is_log) continue;
    int status = slc__log_read(stored->fd, &set);
    if (status == SLC_INVALID) continue;
    if (status != SLC_OK) return status;
    if (f->complete_log != NULL && f->sequence > set.sequence) {
      slc__log_set_deinit(&set);
      continue;
    }
    slc__log_set_deinit(&f->found);
    f->found = set;
    f->sequence = set.sequence;
    f->complete_log = stored;
  }
  if (f->complete_log != NULL) slc__stored_ref(&f->table, f->complete_log);
  return SLC_OK;
}

static int fdstore_ask(struct slc__keeper *keeper, int64_t deadline_ns, struct slc__keeper_set *ret_set) {
  struct fdstore *f = fdstore_of(keeper);
  (void)deadline_ns;
  struct slc__image *image = keeper->store->image;
  int status = image != NULL ? adopt_handed(f, image) : adopt_given(f);
  if (status == SLC_OK) status = find_log(f);
  if (status != SLC_OK) return status;
  if (f->found.damaged > 0)
    slc__log(SLC__LOG_ERROR, "%s: its log of records is damaged, the end of it is lost", keeper->name);
  *ret_set = (struct slc__keeper_set){.is_complete = f->complete_log != NULL, .generation = f->found.generation};
  return SLC_OK;
}

/* A record gets duplicates, because another record may have the same.  -1: the manager has lost it. */
static int duplicate(const struct fdstore *f, uint32_t name, int *ret_fd) {
  const struct slc__stored *stored = slc__stored_find(&f->table, name);
  *ret_fd = -1;
  if (stored == NULL || stored->is_log) {
    slc__log(SLC__LOG_ERROR, "%s: a record's descriptor is missing: is FileDescriptorStoreMax= large enough?",
             f->keeper.name);
    return SLC_OK;
  }
  *ret_fd = fcntl(stored->fd, F_DUPFD_CLOEXEC, 3);
  return *ret_fd >= 0 ? SLC_OK
                      : slc__fail(slc__status_of_errno(errno), "cannot take a descriptor over: %s", strerror(errno));
}

static int load_one(const struct fdstore *f, const struct slc__log_put *put, struct slc__loaded *loaded) {
  int fds[SLC__STORE_DESCRIPTORS_MAX];
  struct slc__store_record record = {
      .key = put->key, .key_size = put->key_size, .value = put->value, .value_size = put->value_size, .fds = fds};
  int status = SLC_OK;
  for (; status == SLC_OK && record.fd_count < put->name_count; record.fd_count++)
    status = duplicate(f, put->names[record.fd_count], &fds[record.fd_count]);
  if (status == SLC_OK) status = slc__loaded_add(loaded, &record);
  if (status != SLC_OK) {
    for (size_t i = 0; i < record.fd_count; i++) slc__fd_close(&fds[i]);
  }
  return status;
}

static int fdstore_load(struct slc__keeper *keeper, int64_t deadline_ns, struct slc__loaded *loaded) {
  struct fdstore *f = fdstore_of(keeper);
  int status = SLC_OK;
  (void)deadline_ns;
  for (size_t i = 0; status == SLC_OK && i < f->found.count; i++) status = load_one(f, &f->found.puts[i], loaded);
  return status;
}

/* ---- handing over ---- */

static int fdstore_hand_over(struct slc__keeper *keeper, struct slc__image *image) {
  return slc__stored_list(&fdstore_of(keeper)->table, image);
}

/* ---- life ---- */

static void come(struct fdstore *f, uint64_t generation) {
  f->has_failed = false;
  f->is_there = true;
  slc__keeper_came(&f->keeper, generation);
}

/* The manager may be another one by now. */
static void on_retry(uv_timer_t *timer) {
  struct fdstore *f = timer->data;
  slc__notify_close(f->notify);
  f->notify = NULL;
  f->is_under_way = false;
  if (slc__notify_open(f->loop, &notify_events, f, &f->notify) != SLC_OK) {
    uv_timer_start(&f->timer, on_retry, RETRY_MS, 0);
    return;
  }
  release(f);
  come(f, 0);
}

static void fdstore_start(struct slc__keeper *keeper) {
  struct fdstore *f = fdstore_of(keeper);
  uint64_t generation = f->found.generation;
  slc__log_set_deinit(&f->found);
  come(f, generation);
}

static void on_closed(uv_handle_t *handle) {
  struct fdstore *f = handle->data;
  if (--f->handles == 0) free(f);
}

static void fdstore_close(struct slc__keeper *keeper) {
  struct fdstore *f = fdstore_of(keeper);
  f->has_failed = true; /* and does nothing more */
  slc__log_set_deinit(&f->found);
  slc__kept_clear(&f->kept);
  slc__log_deinit(&f->log);
  slc__stored_deinit(&f->table);
  slc__notify_close(f->notify);
  uv_close((uv_handle_t *)&f->turn, on_closed);
  uv_close((uv_handle_t *)&f->timer, on_closed);
}

static const struct slc__keeper_class class = {
    .ask = fdstore_ask,
    .load = fdstore_load,
    .start = fdstore_start,
    .begin = fdstore_begin,
    .put = fdstore_put,
    .drop = fdstore_drop,
    .commit = fdstore_commit,
    .hand_over = fdstore_hand_over,
    .close = fdstore_close,
};

int slc__fdstore_open(uv_loop_t *loop, struct slc__keeper **ret_keeper) {
  struct fdstore *f = calloc(1, sizeof *f);
  if (f == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for the manager's store");
  f->keeper.class = &class;
  f->keeper.name = "the service manager's store";
  f->loop = loop;
  f->kept.table = &f->table;
  f->log.fd = -1;
  int status = slc__stored_init(&f->table);
  if (status == SLC_OK) status = slc__notify_open(loop, &notify_events, f, &f->notify);
  if (status != SLC_OK) {
    free(f);
    return status;
  }
  uv_timer_init(loop, &f->turn);
  uv_timer_init(loop, &f->timer);
  f->turn.data = f->timer.data = f;
  f->handles = 2;
  *ret_keeper = &f->keeper;
  return SLC_OK;
}

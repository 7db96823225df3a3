/* See owner.h.  A process of its own, which ends where anything fails. */
#include "owner.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "loop/watch.h"
#include "store/store.h"

enum { RECORDS_MAX = 4096, FDS_MAX = 8, TEXT_MAX = 96, FOUND_MAX = 2048 };

struct owned {
  char key[TEXT_MAX], value[TEXT_MAX];
  int fds[FDS_MAX];
  int count; /* of descriptors */
};

static struct {
  uv_loop_t loop;
  struct slc__store *store;
  struct owned records[RECORDS_MAX];
  int count;
  uint64_t committed;
  char found[FOUND_MAX];
} owner;

static void check(bool is_good, const char *what) {
  if (is_good) return;
  fprintf(stderr, "owner: %s: %s\n", what, slc__error_detail());
  exit(1);
}

/* ---- records ---- */

static struct owned *owned_of(const char *key) {
  for (int i = 0; i < owner.count; i++) {
    if (strcmp(owner.records[i].key, key) == 0) return &owner.records[i];
  }
  check(owner.count < RECORDS_MAX, "too many records");
  struct owned *owned = &owner.records[owner.count++];
  snprintf(owned->key, sizeof owned->key, "%s", key);
  return owned;
}

static void owned_close(struct owned *owned) {
  while (owned->count > 0) close(owned->fds[--owned->count]);
}

static void text_of(const struct owned *owned, int index, char text[3 * TEXT_MAX]) {
  snprintf(text, 3 * TEXT_MAX, "%s/%s/%d", owned->key, owned->value, index);
}

static void add_descriptor(struct owned *owned) {
  char text[3 * TEXT_MAX];
  text_of(owned, owned->count, text);
  int fd = memfd_create("owned", MFD_CLOEXEC);
  check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "memfd");
  owned->fds[owned->count++] = fd;
}

static void owned_put(const struct owned *owned) {
  check(slc__store_put(owner.store, owned->key, strlen(owned->key), owned->value, strlen(owned->value), owned->fds,
                       (size_t)owned->count) == SLC_OK,
        owned->key);
}

/* The record first, then the descriptors of the one before: as the store wants it. */
static void put(const char *key, const char *value, int count) {
  struct owned *owned = owned_of(key);
  struct owned before = *owned;
  owned->count = 0;
  snprintf(owned->value, sizeof owned->value, "%s", value);
  while (owned->count < count) add_descriptor(owned);
  owned_put(owned);
  owned_close(&before);
}

static void drop(const char *key) {
  slc__store_drop(owner.store, key, strlen(key));
  owned_close(owned_of(key));
}

static void put_same(const char *key, const char *other) {
  struct owned *from = owned_of(key), *to = owned_of(other);
  snprintf(to->value, sizeof to->value, "%s", from->value);
  for (to->count = 0; to->count < from->count; to->count++)
    to->fds[to->count] = fcntl(from->fds[to->count], F_DUPFD_CLOEXEC, 3);
  owned_put(to);
}

static void wait_until_kept(void) {
  while (slc__store_kept(owner.store) < owner.committed) uv_run(&owner.loop, UV_RUN_ONCE);
}

/* One record, so many times, each a commit that is waited for. */
static void churn(const char *key, size_t size, int times) {
  static char bytes[SLC__STORE_VALUE_MAX];
  for (int i = 0; i < times; i++) {
    check(slc__store_put(owner.store, key, strlen(key), bytes, size, NULL, 0) == SLC_OK, key);
    owner.committed = slc__store_commit(owner.store);
    wait_until_kept();
  }
}

static void put_many(const char *prefix, int records, int count) {
  char key[TEXT_MAX];
  for (int i = 0; i < records; i++) {
    snprintf(key, sizeof key, "%s%d", prefix, i);
    put(key, "x", count);
  }
}

/* ---- loading ---- */

/* Of another record's, too: then the key in it is that one's. */
static bool is_whole(const struct owned *owned, int index) {
  char expected[3 * TEXT_MAX], text[3 * TEXT_MAX] = "";
  text_of(owned, index, expected);
  return owned->fds[index] >= 0 && pread(owned->fds[index], text, sizeof text - 1, 0) > 0 &&
         strcmp(strchr(text, '/'), strchr(expected, '/')) == 0;
}

static void on_found(void *ctx, struct slc__store_record *record) {
  char key[TEXT_MAX];
  bool all = true;
  (void)ctx;
  snprintf(key, sizeof key, "%.*s", (int)record->key_size, (const char *)record->key);
  struct owned *owned = owned_of(key);
  snprintf(owned->value, sizeof owned->value, "%.*s", (int)record->value_size, (const char *)record->value);
  check(record->fd_count <= FDS_MAX, "too many descriptors");
  for (; owned->count < (int)record->fd_count; owned->count++) {
    owned->fds[owned->count] = record->fds[owned->count];
    record->fds[owned->count] = -1;
    all = is_whole(owned, owned->count) && all;
  }
  size_t length = strlen(owner.found);
  snprintf(owner.found + length, sizeof owner.found - length, " %s=%s/%d%s", key, owned->value, owned->count,
           all ? "" : "!");
}

static void load(void) {
  size_t count;
  int status = slc__store_load(owner.store, on_found, NULL, &count);
  check(status == SLC_OK, "load");
  sd_notifyf(0, "X_FOUND=%s", owner.found);
  for (int i = 0; i < owner.count; i++) owned_put(&owner.records[i]);
}

/* ---- commands ---- */

/* It may come from a timer, after which the loop would wait for something else. */
static void on_kept(void *ctx, uint64_t commit) {
  (void)ctx;
  (void)commit;
  uv_stop(&owner.loop);
}

static void on_fenced(void *ctx) {
  (void)ctx;
}

static void command(char *text) {
  char *rest = text;
  const char *name = strsep(&rest, ":");
  const char *key = strsep(&rest, ":"), *value = strsep(&rest, ":"), *number = strsep(&rest, ":");
  if (strcmp(name, "put") == 0) {
    put(key, value, atoi(number));
  } else if (strcmp(name, "churn") == 0) {
    churn(key, (size_t)atoi(value), atoi(number));
  } else if (strcmp(name, "many") == 0) {
    put_many(key, atoi(value), atoi(number));
  } else if (strcmp(name, "same") == 0) {
    put_same(key, value);
  } else if (strcmp(name, "drop") == 0) {
    drop(key);
  } else if (strcmp(name, "commit") == 0) {
    owner.committed = slc__store_commit(owner.store);
  } else if (strcmp(name, "wait") == 0) {
    wait_until_kept();
    sd_notify(0, "X_KEPT=1");
  } else {
    check(false, name);
  }
}

static void log_to_stderr(void *ctx, enum slc__log_level level, const char *text) {
  (void)ctx;
  if (level <= SLC__LOG_WARNING) sd_notifyf(0, "X_LOG=%s", text);
}

int owner_main(int argc, char **argv) {
  static const struct slc__store_events events = {.kept = on_kept, .fenced = on_fenced};
  const struct slc__store_options options = {.fdstore = true};
  slc__log_set(log_to_stderr, NULL, SLC__LOG_DEBUG);
  check(slc__loop_init(&owner.loop) == SLC_OK, "loop");
  check(slc__store_open(&owner.loop, &options, &events, NULL, &owner.store) == SLC_OK, "open");
  load();
  for (int i = 0; i < argc; i++) command(argv[i]);
  sd_notify(0, "X_DONE=1");
  for (;;) uv_run(&owner.loop, UV_RUN_ONCE);
}

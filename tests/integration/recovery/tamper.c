/* See tamper.h. */
#include "tamper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc32c.h"

enum { RECORDS_MAX = 256, CHECKSUM_SIZE = 4 };

struct copy {
  unsigned char key[SLC__STORE_KEY_MAX];
  unsigned char *value;
  int fds[SLC__STORE_DESCRIPTORS_MAX];
  struct tampered record;
};

struct tampering {
  struct copy copies[RECORDS_MAX];
  size_t count, changed;
  bool (*change)(struct tampered *record, void *ctx);
  void *ctx;
  uint64_t commit;
  uv_loop_t loop;
};

static void take(void *ctx, struct slc__store_record *stored) {
  struct tampering *of = ctx;
  assert_true(of->count < RECORDS_MAX);
  struct copy *copy = &of->copies[of->count++];
  copy->value = malloc(2 * stored->value_size + 64);
  assert_non_null(copy->value);
  memcpy(copy->key, stored->key, stored->key_size);
  memcpy(copy->value, stored->value, stored->value_size);
  for (size_t i = 0; i < stored->fd_count; i++) {
    copy->fds[i] = stored->fds[i];
    stored->fds[i] = -1;
  }
  copy->record = (struct tampered){.record = {.key = copy->key,
                                              .key_size = stored->key_size,
                                              .value = copy->value,
                                              .value_size = stored->value_size,
                                              .fds = copy->fds,
                                              .fd_count = stored->fd_count},
                                   .value = copy->value};
  if (of->change(&copy->record, of->ctx)) of->changed++;
}

static void put_all(struct tampering *of, struct slc__store *store) {
  for (size_t i = 0; i < of->count; i++) {
    const struct tampered *record = &of->copies[i].record;
    if (record->is_dropped) continue;
    assert_int_equal(slc__store_put(store, record->record.key, record->record.key_size, record->record.value,
                                    record->record.value_size, record->record.fds, record->record.fd_count),
                     0);
  }
}

static void on_kept(void *owner, uint64_t commit) {
  struct tampering *of = owner;
  if (commit >= of->commit) uv_stop(&of->loop);
}

static void on_fenced(void *owner) {
  (void)owner;
}

static void free_all(struct tampering *of) {
  for (size_t i = 0; i < of->count; i++) {
    struct copy *copy = &of->copies[i];
    for (size_t at = 0; at < copy->record.record.fd_count; at++) close(copy->fds[at]);
    free(copy->value);
  }
}

size_t tamper(const char *shadow, const char *socket, bool (*change)(struct tampered *record, void *ctx), void *ctx) {
  static const struct slc__store_events events = {.kept = on_kept, .fenced = on_fenced};
  struct tampering *of = calloc(1, sizeof *of);
  struct slc__store *store = NULL;
  char path[256];
  size_t count;
  assert_non_null(of);
  of->change = change;
  of->ctx = ctx;
  snprintf(path, sizeof path, "%s.generation", socket);
  struct slc__store_options options = {.shadows = {shadow}, .generation_path = path};
  assert_int_equal(uv_loop_init(&of->loop), 0);
  assert_int_equal(slc__store_open(&of->loop, &options, &events, of, &store), 0);
  assert_int_equal(slc__store_load(store, take, of, &count), 0);
  put_all(of, store);
  of->commit = slc__store_commit(store);
  if (slc__store_kept(store) < of->commit) uv_run(&of->loop, UV_RUN_DEFAULT);
  slc__store_close(store);
  uv_run(&of->loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&of->loop), 0);
  size_t changed = of->changed;
  free_all(of);
  free(of);
  return changed;
}

void tamper_seal(struct tampered *record) {
  const struct slc__store_record *of = &record->record;
  uint32_t checksum =
      slc__crc32c(slc__crc32c(0, of->key, of->key_size), record->value + CHECKSUM_SIZE, of->value_size - CHECKSUM_SIZE);
  for (size_t i = 0; i < CHECKSUM_SIZE; i++) record->value[i] = (unsigned char)(checksum >> (8 * i));
}

/* A store on a loop of its own, and shadows played by the test. */
#include "fake.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "loop/watch.h"

enum { MOMENT_MS = 1 };

/* ---- the store's side ---- */

void store_world_on_kept(void *owner, uint64_t commit) {
  struct store_world *world = owner;
  assert_true(commit > world->kept);
  world->kept = commit;
  world->events++;
}

void store_world_on_fenced(void *owner) {
  ((struct store_world *)owner)->fenced++;
}

static void on_log(void *ctx, enum slc__log_level level, const char *text) {
  struct store_world *world = ctx;
  size_t length = strlen(world->log);
  (void)level;
  snprintf(world->log + length, sizeof world->log - length, "%s\n", text);
}

static void on_record(void *ctx, struct slc__store_record *record) {
  struct store_world *world = ctx;
  size_t length = strlen(world->loaded_keys);
  snprintf(world->loaded_keys + length, sizeof world->loaded_keys - length, "%.*s ", (int)record->key_size,
           (const char *)record->key);
}

int store_world_try_open(struct store_world *world, int shadows) {
  static const struct slc__store_events events = {store_world_on_kept, store_world_on_fenced};
  struct slc__store_options options = {.generation_path = world->generation_path};
  size_t count;
  for (int i = 0; i < shadows; i++) options.shadows[i] = world->fakes[i].path;
  world->kept = 0;
  world->loaded_keys[0] = '\0';
  assert_int_equal(slc__store_open(&world->loop, &options, &events, world, &world->store), 0);
  return slc__store_load(world->store, on_record, world, &count);
}

void store_world_open(struct store_world *world, int shadows) {
  assert_int_equal(store_world_try_open(world, shadows), 0);
}

void store_world_close(struct store_world *world) {
  slc__store_close(world->store);
  world->store = NULL;
  uv_run(&world->loop, UV_RUN_DEFAULT);
}

void store_world_turn(struct store_world *world) {
  uv_run(&world->loop, UV_RUN_NOWAIT);
  poll(NULL, 0, MOMENT_MS);
}

uint64_t store_world_generation(const struct store_world *world) {
  char text[32] = "";
  FILE *file = fopen(world->generation_path, "re");
  if (file == NULL) return 0;
  if (fgets(text, sizeof text, file) == NULL) text[0] = '\0';
  fclose(file);
  return strtoull(text, NULL, 10);
}

int store_world_said(const struct store_world *world, const char *text) {
  int count = 0;
  for (const char *at = strstr(world->log, text); at != NULL; at = strstr(at + 1, text)) count++;
  return count;
}

void store_world_put(struct store_world *world, const char *key, const char *value) {
  assert_int_equal(slc__store_put(world->store, key, strlen(key), value, strlen(value), NULL, 0), 0);
}

/* What libuv opens once for the whole process is no leak. */
static void open_loop(struct store_world *world) {
  assert_int_equal(slc__loop_init(&world->loop), 0);
  assert_int_equal(uv_loop_close(&world->loop), 0);
  test_leaks_note(&world->leaks);
  assert_int_equal(slc__loop_init(&world->loop), 0);
}

int store_world_setup(void **state) {
  struct store_world *world = calloc(1, sizeof *world);
  assert_non_null(world);
  *state = world;
  test_watchdog(TEST_WATCHDOG_SECONDS);
  open_loop(world);
  char directory[] = "/tmp/slotcast-store-XXXXXX";
  assert_non_null(mkdtemp(directory));
  snprintf(world->directory, sizeof world->directory, "%s", directory);
  snprintf(world->generation_path, sizeof world->generation_path, "%s/generation", directory);
  for (int i = 0; i < FAKES; i++) {
    struct fake *fake = &world->fakes[i];
    snprintf(fake->path, sizeof fake->path, "%s/shadow%d", directory, i);
    fake->fd = fake->listen_fd = fake->lock_fd = -1;
    slc__fds_init(&fake->fds);
  }
  slc__log_set(on_log, world, SLC__LOG_NOTICE);
  return 0;
}

int store_world_teardown(void **state) {
  struct store_world *world = *state;
  if (world->store != NULL) store_world_close(world);
  for (int i = 0; i < FAKES; i++) fake_die(&world->fakes[i]);
  assert_int_equal(uv_loop_close(&world->loop), 0);
  slc__log_set(NULL, NULL, SLC__LOG_NOTICE);
  unlink(world->generation_path);
  assert_int_equal(rmdir(world->directory), 0);
  int faults = test_leaks_check(&world->leaks);
  test_watchdog(0);
  free(world);
  return faults;
}

/* ---- the shadow's side ---- */

void fake_listen(struct fake *fake) {
  assert_int_equal(slc__net_listen(fake->path, 0600, (gid_t)-1, &fake->listen_fd, &fake->lock_fd), 0);
}

static void forget_message(struct fake *fake) {
  slc__shadow_free(fake->message);
  fake->message = NULL;
  slc__fds_deinit(&fake->fds);
}

void fake_die(struct fake *fake) {
  forget_message(fake);
  slc__fd_close(&fake->fd);
  if (fake->listen_fd >= 0) slc__net_unlisten(fake->path, &fake->listen_fd, &fake->lock_fd);
}

void fake_accept(struct store_world *world, struct fake *fake) {
  slc__fd_close(&fake->fd);
  while (slc__net_accept(fake->listen_fd, &fake->fd) != 0) store_world_turn(world);
}

/* 0, or SLC__NET_AGAIN after a turn of the loop, or SLC__NET_CLOSED. */
static int receive(struct store_world *world, struct fake *fake) {
  static uint8_t buffer[SLC__NET_DATAGRAM_MAX];
  size_t size;
  forget_message(fake);
  int status = slc__net_receive(fake->fd, buffer, sizeof buffer, &size, &fake->fds, MSG_DONTWAIT);
  if (status == SLC__NET_AGAIN) store_world_turn(world);
  if (status == SLC_OK) assert_int_equal(slc__shadow_decode(buffer, size, fake->fds.count, &fake->message), 0);
  return status;
}

const Slotcast__ShadowMessage *fake_receive(struct store_world *world, struct fake *fake,
                                            Slotcast__ShadowMessage__BodyCase kind) {
  int status;
  while ((status = receive(world, fake)) == SLC__NET_AGAIN) {
  }
  assert_int_equal(status, SLC_OK);
  assert_int_equal(fake->message->body_case, kind);
  return fake->message;
}

void fake_see_end(struct store_world *world, struct fake *fake) {
  while (receive(world, fake) != SLC__NET_CLOSED) {
  }
}

bool fake_is_quiet(struct store_world *world, struct fake *fake) {
  for (int i = 0; i < 5; i++) {
    if (receive(world, fake) != SLC__NET_AGAIN) return false;
  }
  return true;
}

/* A broker that has closed meanwhile hears nothing. */
void fake_send(struct fake *fake, const void *data, size_t size, const int *fds, size_t fd_count) {
  int status = slc__net_send(fake->fd, data, size, fds, fd_count, 0);
  assert_true(status == SLC_OK || status == SLC__NET_CLOSED);
}

void fake_say(struct fake *fake, const Slotcast__ShadowMessage *message) {
  static uint8_t buffer[SLC__NET_DATAGRAM_MAX];
  size_t size;
  assert_int_equal(slc__shadow_encode(message, buffer, sizeof buffer, &size), 0);
  fake_send(fake, buffer, size, NULL, 0);
}

void fake_say_state(struct fake *fake, bool complete, uint64_t generation) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowState state = SLOTCAST__SHADOW_STATE__INIT;
  state.major = SLC__SHADOW_MAJOR;
  state.complete = complete;
  state.generation = generation;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_STATE;
  message.state = &state;
  fake_say(fake, &message);
}

void fake_say_committed(struct fake *fake, uint64_t number) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowCommitted committed = SLOTCAST__SHADOW_COMMITTED__INIT;
  committed.number = number;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_COMMITTED;
  message.committed = &committed;
  fake_say(fake, &message);
}

void fake_say_refusal(struct fake *fake, int status, const char *text) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowRefusal refusal = SLOTCAST__SHADOW_REFUSAL__INIT;
  refusal.status = status;
  refusal.text = (char *)(uintptr_t)text;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_REFUSAL;
  message.refusal = &refusal;
  fake_say(fake, &message);
}

void fake_greet(struct store_world *world, struct fake *fake) {
  fake_accept(world, fake);
  fake_receive(world, fake, SLOTCAST__SHADOW_MESSAGE__BODY_HELLO);
  fake_say_state(fake, false, 0);
  fake_receive(world, fake, SLOTCAST__SHADOW_MESSAGE__BODY_BEGIN);
}

uint64_t fake_catch_up(struct store_world *world, struct fake *fake, int records, uint64_t *ret_generation) {
  for (int i = 0; i < records; i++) fake_receive(world, fake, SLOTCAST__SHADOW_MESSAGE__BODY_RECORD);
  const Slotcast__ShadowCommit *commit = fake_receive(world, fake, SLOTCAST__SHADOW_MESSAGE__BODY_COMMIT)->commit;
  *ret_generation = commit->generation;
  return commit->number;
}

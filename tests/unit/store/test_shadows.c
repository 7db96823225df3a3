/* The store with two real shadows that are killed at random moments, and an owner that is: whatever is loaded then is
 * one of the wholes that were committed, byte for byte and descriptor by descriptor, and none older than the last one
 * that was told to be kept.
 *
 *   test_unit_store_shadows [ROUNDS [SEED]]   further and other ones; cmocka's own filter is not used then */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fake.h"
#include "store/parts.h"
#include "support/shadow.h"

enum { KEYS = 40, COMMITS = 120, CHANGES_MAX = 12, DESCRIPTORS_MAX = 5, ROUNDS = 12 };

static unsigned rounds = ROUNDS;
static uint64_t seed = 4;

static uint32_t roll(uint32_t below) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((seed >> 33) % below);
}

/* ---- what the owner has ---- */

/* One record, as it was at a commit: what it says follows from its version. */
struct version {
  uint32_t version; /* 0: there is none */
  int fd_count;
  ino_t inodes[DESCRIPTORS_MAX];
};

struct whole {
  struct version records[KEYS];
};

/* What the owner did, over all its lives; ordinals of commits go on through them. */
struct model {
  struct whole now;
  int fds[KEYS][DESCRIPTORS_MAX];
  uint32_t versions;     /* so far */
  struct whole *history; /* by ordinal; 0: nothing */
  uint64_t *numbers;     /* the store's, by ordinal */
  int commits;
  int life; /* the first ordinal of this life */
  int kept; /* the last one that was told to be kept */
};

static void key_of(int which, char key[16]) {
  snprintf(key, 16, "%dkey/%d", which % 7, which);
}

/* Begins with the version; sometimes as long as it can be. */
static size_t value_of(uint32_t version, char *value) {
  size_t size = version % 29 == 0 ? SLC__STORE_VALUE_MAX : sizeof version + version % 500;
  memcpy(value, &version, sizeof version);
  for (size_t i = sizeof version; i < size; i++) value[i] = (char)(version + i * (version % 7 + 1));
  return size;
}

static void close_descriptors(struct model *model, int which) {
  for (int i = 0; i < model->now.records[which].fd_count; i++) slc__fd_close(&model->fds[which][i]);
  model->now.records[which] = (struct version){0};
}

static void put_one(struct store_world *world, struct model *model, int which) {
  static char value[SLC__STORE_VALUE_MAX];
  struct version *record = &model->now.records[which];
  struct stat info;
  char key[16];
  int fds[DESCRIPTORS_MAX];
  uint32_t version = ++model->versions;
  int fd_count = (int)roll(DESCRIPTORS_MAX + 1);
  for (int i = 0; i < fd_count; i++) assert_true((fds[i] = memfd_create("kept", MFD_CLOEXEC)) >= 0);
  size_t size = value_of(version, value);
  key_of(which, key);
  assert_int_equal(slc__store_put(world->store, key, strlen(key), value, size, fds, (size_t)fd_count), 0);
  close_descriptors(model, which); /* the old ones are the owner's to close once they are replaced */
  *record = (struct version){.version = version, .fd_count = fd_count};
  for (int i = 0; i < fd_count; i++) {
    assert_int_equal(fstat(fds[i], &info), 0);
    model->fds[which][i] = fds[i];
    record->inodes[i] = info.st_ino;
  }
}

static void drop_one(struct store_world *world, struct model *model, int which) {
  char key[16];
  key_of(which, key);
  slc__store_drop(world->store, key, strlen(key));
  close_descriptors(model, which);
}

static void commit_now(struct store_world *world, struct model *model) {
  model->history[++model->commits] = model->now;
  model->numbers[model->commits] = slc__store_commit(world->store);
}

/* Key 0 changes each time, so that no two wholes are the same. */
static void change_some(struct store_world *world, struct model *model) {
  put_one(world, model, 0);
  for (uint32_t i = roll(CHANGES_MAX); i > 0; i--) {
    int which = 1 + (int)roll(KEYS - 1);
    if (roll(3) == 0) {
      drop_one(world, model, which);
    } else {
      put_one(world, model, which);
    }
  }
}

static void note_kept(const struct store_world *world, struct model *model) {
  uint64_t kept = slc__store_kept(world->store);
  int next = model->kept < model->life ? model->life : model->kept + 1;
  while (next <= model->commits && model->numbers[next] <= kept) model->kept = next++;
}

/* ---- what is loaded ---- */

struct loaded {
  struct whole whole;
  int fds[KEYS][DESCRIPTORS_MAX];
  int count;
};

static int find_key(const struct slc__store_record *record) {
  for (int i = 0; i < KEYS; i++) {
    char key[16];
    key_of(i, key);
    if (record->key_size == strlen(key) && memcmp(record->key, key, record->key_size) == 0) return i;
  }
  fail_msg("a record that was never put");
  return 0;
}

static void check_value(const struct slc__store_record *record, uint32_t *ret_version) {
  static char value[SLC__STORE_VALUE_MAX];
  assert_true(record->value_size >= sizeof *ret_version);
  memcpy(ret_version, record->value, sizeof *ret_version);
  assert_int_equal(value_of(*ret_version, value), record->value_size);
  assert_memory_equal(value, record->value, record->value_size);
}

static void take_record(void *ctx, struct slc__store_record *record) {
  struct loaded *loaded = ctx;
  int which = find_key(record);
  struct version *version = &loaded->whole.records[which];
  check_value(record, &version->version);
  version->fd_count = (int)record->fd_count;
  for (size_t i = 0; i < record->fd_count; i++) {
    struct stat info;
    assert_int_equal(fstat(record->fds[i], &info), 0);
    version->inodes[i] = info.st_ino;
    loaded->fds[which][i] = slc__fd_take(&record->fds[i]);
  }
  loaded->count++;
}

static bool is_same(const struct whole *a, const struct whole *b) {
  for (int i = 0; i < KEYS; i++) {
    const struct version *one = &a->records[i], *other = &b->records[i];
    if (one->version != other->version || one->fd_count != other->fd_count) return false;
    for (int k = 0; k < one->fd_count; k++) {
      if (one->inodes[k] != other->inodes[k]) return false;
    }
  }
  return true;
}

/* One of the wholes since the last one that was told to be kept. */
static void check_whole(const struct model *model, const struct whole *whole) {
  int ordinal = model->commits;
  while (ordinal >= model->kept && !is_same(whole, &model->history[ordinal])) ordinal--;
  if (ordinal < model->kept)
    fail_msg("what was loaded is none of the commits from %d to %d", model->kept, model->commits);
}

/* ---- the owner's lives ---- */

struct storm {
  struct store_world *world;
  struct model model;
  struct test_shadow shadows[2];
  bool is_hit[2];      /* killed or cut off, and the store has not noticed */
  bool is_cut[2];      /* it lives, with what it had, and cannot be reached */
  bool may_be_nothing; /* the only one that had everything was killed together with the owner */
  int kills, cuts, losses;
};

static void open_store(struct storm *storm, const char *first, const char *second, struct loaded *ret_loaded) {
  static const struct slc__store_events events = {store_world_on_kept, store_world_on_fenced};
  struct store_world *world = storm->world;
  struct slc__store_options options = {.shadows = {first, second}, .generation_path = world->generation_path};
  size_t count;
  *ret_loaded = (struct loaded){0};
  world->log[0] = '\0';
  world->kept = 0;
  assert_int_equal(slc__store_open(&world->loop, &options, &events, world, &world->store), 0);
  assert_int_equal(slc__store_load(world->store, take_record, ret_loaded, &count), 0);
  assert_int_equal(count, ret_loaded->count);
}

/* Goes on with what was loaded, as a broker does. */
static void live_on(struct storm *storm) {
  static char value[SLC__STORE_VALUE_MAX];
  struct model *model = &storm->model;
  struct loaded loaded;
  open_store(storm, storm->shadows[0].socket, storm->shadows[1].socket, &loaded);
  bool is_lost = storm->may_be_nothing && loaded.count == 0;
  if (!is_lost) check_whole(model, &loaded.whole);
  model->now = loaded.whole;
  memcpy(model->fds, loaded.fds, sizeof model->fds);
  model->life = model->commits + 1;
  for (int i = 0; i < KEYS; i++) {
    const struct version *record = &model->now.records[i];
    char key[16];
    if (record->version == 0) continue;
    key_of(i, key);
    size_t size = value_of(record->version, value);
    assert_int_equal(
        slc__store_put(storm->world->store, key, strlen(key), value, size, model->fds[i], (size_t)record->fd_count), 0);
  }
  commit_now(storm->world, model);
  if (is_lost) model->kept = model->commits; /* from here on it is the nothing that must not be older */
  storm->losses += is_lost;
  storm->may_be_nothing = false;
  storm->is_hit[0] = storm->is_hit[1] = false;
}

/* What was on its way stays on its way, as when it is killed. */
static void die(struct storm *storm) {
  note_kept(storm->world, &storm->model);
  store_world_close(storm->world);
  for (int i = 0; i < KEYS; i++) close_descriptors(&storm->model, i);
}

/* ---- the shadows' ---- */

/* A shadow that was hit counts again once the store has noticed, and has brought it up to date anew. */
static void turn(struct storm *storm) {
  store_world_turn(storm->world);
  for (int i = 0; i < 2; i++) {
    if (storm->world->store->keepers[i]->stage == SLC__KEEPER_GONE) storm->is_hit[i] = false;
  }
  note_kept(storm->world, &storm->model);
}

static bool is_up_to_date(const struct storm *storm, int which) {
  const struct slc__keeper *keeper = storm->world->store->keepers[which];
  return !storm->is_hit[which] && keeper->stage == SLC__KEEPER_UP_TO_DATE && keeper->acknowledged > 0;
}

static void kill_shadow(struct storm *storm, int which) {
  test_shadow_kill(&storm->shadows[which]);
  storm->is_hit[which] = true;
  storm->kills++;
}

/* Its path leads nowhere for a while. */
static void path_away(const struct storm *storm, int which, char *away, size_t size) {
  snprintf(away, size, "%s.away", storm->shadows[which].socket);
}

/* The connection is in this process, and has no other name than its peer's, which was bound beside its path. */
static void shut_connections(const char *path) {
  for (int fd = 3; fd < 200; fd++) {
    struct sockaddr_un peer = {0};
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && strncmp(peer.sun_path, path, strlen(path)) == 0)
      assert_int_equal(shutdown(fd, SHUT_RDWR), 0);
  }
}

static void cut_shadow(struct storm *storm, int which) {
  char away[128];
  path_away(storm, which, away, sizeof away);
  assert_int_equal(rename(storm->shadows[which].socket, away), 0);
  shut_connections(storm->shadows[which].socket);
  storm->is_hit[which] = true;
  storm->is_cut[which] = true;
  storm->cuts++;
}

/* Never the last one that has everything. */
static void hit_one(struct storm *storm, void (*hit)(struct storm *storm, int which)) {
  int which = (int)roll(2);
  if (storm->shadows[which].pid != 0 && !storm->is_cut[which] && is_up_to_date(storm, 1 - which)) hit(storm, which);
}

static void revive(struct storm *storm) {
  for (int i = 0; i < 2; i++) {
    char away[128];
    path_away(storm, i, away, sizeof away);
    if (storm->is_cut[i]) assert_int_equal(rename(away, storm->shadows[i].socket), 0);
    storm->is_cut[i] = false;
    if (storm->shadows[i].pid == 0) test_shadow_restart(&storm->shadows[i]);
  }
}

static void step(struct storm *storm) {
  change_some(storm->world, &storm->model);
  commit_now(storm->world, &storm->model);
  if (roll(16) == 0) hit_one(storm, kill_shadow);
  if (roll(8) == 0) hit_one(storm, cut_shadow);
  if (roll(12) == 0) revive(storm);
  for (uint32_t i = roll(4); i > 0; i--) turn(storm);
}

/* Only a set that is old is left. */
static void lose_everything_new(struct storm *storm) {
  for (int i = 0; i < 2; i++) {
    if (!storm->is_cut[i] || storm->shadows[1 - i].pid == 0) continue;
    kill_shadow(storm, 1 - i);
    storm->may_be_nothing = true;
  }
}

/* Each, alone, has all. */
static void check_each(struct storm *storm) {
  struct model *model = &storm->model;
  revive(storm);
  while (model->kept < model->commits || !is_up_to_date(storm, 0) || !is_up_to_date(storm, 1)) turn(storm);
  struct whole whole = model->now;
  die(storm);
  for (int i = 0; i < 2; i++) {
    struct loaded loaded;
    open_store(storm, storm->shadows[i].socket, NULL, &loaded);
    assert_true(is_same(&loaded.whole, &whole));
    store_world_close(storm->world);
    for (int k = 0; k < KEYS; k++) {
      for (int fd = 0; fd < loaded.whole.records[k].fd_count; fd++) slc__fd_close(&loaded.fds[k][fd]);
    }
  }
}

static void live(struct storm *storm) {
  live_on(storm);
  for (uint32_t i = roll(COMMITS); i > 0; i--) step(storm);
  if (roll(2) == 0) {
    check_each(storm);
  } else {
    if (roll(2) == 0) hit_one(storm, roll(2) == 0 ? kill_shadow : cut_shadow);
    die(storm);
    if (roll(2) == 0) lose_everything_new(storm);
    revive(storm);
  }
}

/* However late they are: in a life of chance both may never be up to date at once. */
static void wait_for_both(struct storm *storm) {
  live_on(storm);
  step(storm);
  revive(storm);
  while (!is_up_to_date(storm, 0) || !is_up_to_date(storm, 1)) turn(storm);
}

/* A life in which one dies, and one after which only an old set is left. */
static void live_as_told(struct storm *storm) {
  wait_for_both(storm);
  kill_shadow(storm, 0);
  step(storm);
  die(storm);
  revive(storm);

  wait_for_both(storm);
  cut_shadow(storm, 0);
  change_some(storm->world, &storm->model);
  commit_now(storm->world, &storm->model);
  while (storm->model.kept < storm->model.commits) turn(storm);
  die(storm);
  lose_everything_new(storm);
  revive(storm);
  int before = storm->losses;
  live_on(storm);
  assert_int_equal(storm->losses, before + 1);
  die(storm);
}

static void test_shadows_have_what_was_kept_whoever_dies(void **state) {
  struct storm *storm = calloc(1, sizeof *storm);
  size_t room = (size_t)(rounds + 1) * (2 * COMMITS) + 1;
  assert_non_null(storm);
  storm->world = *state;
  storm->model.history = calloc(room, sizeof *storm->model.history);
  storm->model.numbers = calloc(room, sizeof *storm->model.numbers);
  assert_non_null(storm->model.history);
  assert_non_null(storm->model.numbers);
  for (int i = 0; i < 2; i++) test_shadow_start(&storm->shadows[i]);
  for (unsigned i = 0; i < rounds; i++) live(storm);
  live_as_told(storm);
  printf("%u lives and some more, %d commits, %d shadows killed, %d cut off; %d times only an old set was left\n",
         rounds, storm->model.commits, storm->kills, storm->cuts, storm->losses);
  for (int i = 0; i < 2; i++) assert_int_equal(test_shadow_finish(&storm->shadows[i]), 0);
  free(storm->model.history);
  free(storm->model.numbers);
  free(storm);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_shadows_have_what_was_kept_whoever_dies, store_world_setup,
                                      store_world_teardown),
  };
  if (argc > 1) rounds = (unsigned)strtoul(argv[1], NULL, 10);
  if (argc > 2) seed = strtoull(argv[2], NULL, 10);
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Loading: the newest complete set that is not old, in the order of the keys, or nothing; and what a shadow can say
 * then that is none.  The shadows are children that say what they have to say, one after the other, and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "fake.h"
#include "store/loaded.h"
#include "store/shadow.h"

/* ---- what a child says ---- */

struct line {
  enum { STATE, REFUSE, NONSENSE, RECORD, LOADED, END } what;
  const char *key;     /* of RECORD */
  uint64_t generation; /* STATE, LOADED */
  uint64_t records;    /* LOADED */
  int status;          /* REFUSE */
  unsigned major;      /* STATE; 0: ours */
};

#define SAY_STATE(with_generation)                                                                                     \
  { .what = STATE, .generation = (with_generation) }
#define SAY_REFUSAL(with_status)                                                                                       \
  { .what = REFUSE, .status = (with_status) }
#define SAY_NONSENSE                                                                                                   \
  { .what = NONSENSE }
#define SAY_RECORD(with_key)                                                                                           \
  { .what = RECORD, .key = (with_key) }
#define SAY_LOADED(with_generation, with_records)                                                                      \
  { .what = LOADED, .generation = (with_generation), .records = (with_records) }
#define SAY_NO_MORE                                                                                                    \
  { .what = END }

static void say_record(struct fake *fake, const char *key) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowRecord record = SLOTCAST__SHADOW_RECORD__INIT;
  static uint8_t buffer[1024];
  size_t size;
  record.key = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)key, .len = strlen(key)};
  record.value = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t) "value", .len = 5};
  record.descriptors = 1;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_RECORD;
  message.record = &record;
  assert_int_equal(slc__shadow_encode(&message, buffer, sizeof buffer, &size), 0);
  fake_send(fake, buffer, size, &fake->lock_fd, 1);
}

static void say_loaded(struct fake *fake, uint64_t generation, uint64_t records) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowLoaded loaded = SLOTCAST__SHADOW_LOADED__INIT;
  loaded.generation = generation;
  loaded.records = records;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_LOADED;
  message.loaded = &loaded;
  fake_say(fake, &message);
}

static void say_state(struct fake *fake, uint64_t generation, unsigned major) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowState state = SLOTCAST__SHADOW_STATE__INIT;
  state.major = major == 0 ? SLC__SHADOW_MAJOR : major;
  state.complete = generation != 0;
  state.generation = generation;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_STATE;
  message.state = &state;
  fake_say(fake, &message);
}

/* A broker that has gone is none to talk to. */
static void hear(struct fake *fake) {
  uint8_t buffer[1024];
  size_t size;
  struct slc__fds fds;
  struct pollfd poll_fd = {.fd = fake->fd, .events = POLLIN};
  poll(&poll_fd, 1, -1);
  if (slc__net_receive(fake->fd, buffer, sizeof buffer, &size, &fds, 0) != 0) _exit(0);
}

static void say(struct fake *fake, const struct line *line) {
  switch (line->what) {
  case STATE:
    say_state(fake, line->generation, line->major);
    break;
  case REFUSE:
    fake_say_refusal(fake, line->status, "so it is");
    break;
  case NONSENSE:
    fake_send(fake, "\xff\xff", 2, NULL, 0);
    break;
  case RECORD:
    say_record(fake, line->key);
    break;
  case LOADED:
    say_loaded(fake, line->generation, line->records);
    break;
  case END:
    break;
  }
}

/* What a shadow says after its state, it says because it was asked to. */
static bool is_answer_to_load(const struct line *lines, int which) {
  return which > 0 && lines[which - 1].what == STATE && (lines[which].what == RECORD || lines[which].what == LOADED);
}

static _Noreturn void serve(struct fake *fake, const struct line *lines) {
  struct pollfd listener = {.fd = fake->listen_fd, .events = POLLIN};
  poll(&listener, 1, -1);
  if (slc__net_accept(fake->listen_fd, &fake->fd) != 0) _exit(1);
  hear(fake);
  for (int i = 0; lines[i].what != END; i++) {
    if (is_answer_to_load(lines, i)) hear(fake);
    say(fake, &lines[i]);
  }
  _exit(0);
}

/* ---- the test's side ---- */

static pid_t children[FAKES];

static void start_child(struct store_world *world, int which, const struct line *lines) {
  fake_listen(&world->fakes[which]);
  children[which] = fork();
  assert_true(children[which] >= 0);
  if (children[which] == 0) serve(&world->fakes[which], lines);
}

static void end_children(struct store_world *world) {
  for (int i = 0; i < FAKES; i++) {
    int status = 0;
    if (children[i] == 0) continue;
    assert_int_equal(waitpid(children[i], &status, 0), children[i]);
    assert_int_equal(status, 0);
    children[i] = 0;
    fake_die(&world->fakes[i]);
  }
}

static int open_with(struct store_world *world, const struct line *first, const struct line *second) {
  start_child(world, 0, first);
  if (second != NULL) start_child(world, 1, second);
  int status = store_world_try_open(world, second == NULL ? 1 : 2);
  end_children(world);
  return status;
}

static void check_loaded(struct store_world *world, const char *keys) {
  assert_string_equal(world->loaded_keys, keys);
}

static void test_load_in_the_order_of_the_keys(void **state) {
  static const struct line lines[] = {SAY_STATE(3),
                                      SAY_RECORD("2channel/b"),
                                      SAY_RECORD("2channel/ab"),
                                      SAY_RECORD("0broker"),
                                      SAY_RECORD("2channel/a"),
                                      SAY_RECORD("1process/\xff"),
                                      SAY_LOADED(3, 5),
                                      SAY_NO_MORE};
  struct store_world *world = *state;
  assert_int_equal(open_with(world, lines, NULL), 0);
  check_loaded(world, "0broker 1process/\xff 2channel/a 2channel/ab 2channel/b ");
}

static void test_load_of_nobody_is_nothing(void **state) {
  struct store_world *world = *state;
  assert_int_equal(store_world_try_open(world, 2), 0);
  check_loaded(world, "");
  assert_int_equal(store_world_said(world, "nobody listens"), 2);
}

static void test_load_takes_the_newest(void **state) {
  static const struct line older[] = {SAY_STATE(3), SAY_NO_MORE};
  static const struct line newer[] = {SAY_STATE(4), SAY_RECORD("b"), SAY_LOADED(4, 1), SAY_NO_MORE};
  struct store_world *world = *state;
  assert_int_equal(open_with(world, older, newer), 0);
  check_loaded(world, "b ");
}

static void test_load_takes_the_next_where_the_newest_fails(void **state) {
  static const struct line newer[] = {SAY_STATE(4), SAY_RECORD("b"), SAY_NONSENSE, SAY_NO_MORE};
  static const struct line older[] = {SAY_STATE(3), SAY_RECORD("a"), SAY_LOADED(3, 1), SAY_NO_MORE};
  struct store_world *world = *state;
  assert_int_equal(open_with(world, newer, older), 0);
  check_loaded(world, "a ");
}

static void write_generation(const struct store_world *world, const char *text) {
  FILE *file = fopen(world->generation_path, "we");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static void test_load_of_an_old_set_is_nothing(void **state) {
  static const struct line old[] = {SAY_STATE(3), SAY_NO_MORE};
  struct store_world *world = *state;
  write_generation(world, "4\n");
  assert_int_equal(open_with(world, old, NULL), 0);
  check_loaded(world, "");
  assert_int_equal(store_world_said(world, "its records are not taken: they are old"), 1);
}

static void test_load_with_a_damaged_file_takes_what_there_is(void **state) {
  static const char *const texts[] = {"", "4", "four\n", "-1\n", "4\n4\n", "99999999999999999999\n"};
  static const struct line lines[] = {SAY_STATE(3), SAY_RECORD("a"), SAY_LOADED(3, 1), SAY_NO_MORE};
  struct store_world *world = *state;
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    write_generation(world, texts[i]);
    assert_int_equal(open_with(world, lines, NULL), 0);
    check_loaded(world, "a ");
    assert_int_equal(store_world_said(world, "no number is in"), (int)i + 1);
    store_world_close(world);
  }
}

/* A set that is not whole is none, and the broker serves without. */
static void test_load_of_half_a_set_is_nothing(void **state) {
  static const struct line nothing[] = {SAY_NO_MORE};
  static const struct line nonsense[] = {SAY_NONSENSE, SAY_NO_MORE};
  static const struct line loaded_first[] = {SAY_LOADED(3, 0), SAY_NO_MORE};
  static const struct line limited[] = {SAY_REFUSAL(SLC_LIMIT), SAY_NO_MORE};
  static const struct line unfinished[] = {SAY_STATE(3), SAY_RECORD("a"), SAY_NO_MORE};
  static const struct line miscounted[] = {SAY_STATE(3), SAY_RECORD("a"), SAY_LOADED(3, 2), SAY_NO_MORE};
  static const struct line changed[] = {SAY_STATE(3), SAY_RECORD("a"), SAY_LOADED(4, 1), SAY_NO_MORE};
  static const struct line twice[] = {SAY_STATE(3), SAY_RECORD("a"), SAY_RECORD("a"), SAY_LOADED(3, 2), SAY_NO_MORE};
  static const struct line state_again[] = {SAY_STATE(3), SAY_RECORD("a"), SAY_STATE(3), SAY_NO_MORE};
  static const struct line keyless[] = {SAY_STATE(3), SAY_RECORD(""), SAY_LOADED(3, 1), SAY_NO_MORE};
  static const struct line *const scripts[] = {nothing,    nonsense, loaded_first, limited,     unfinished,
                                               miscounted, changed,  twice,        state_again, keyless};
  struct store_world *world = *state;
  for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
    world->log[0] = '\0';
    assert_int_equal(open_with(world, scripts[i], NULL), 0);
    check_loaded(world, "");
    assert_int_equal(store_world_said(world, "shadow0: "), 1);
    store_world_close(world);
  }
}

/* Time may be over because nobody has run meanwhile. */
static void test_load_waits_a_moment_when_time_is_over(void **state) {
  struct store_world *world = *state;
  const struct line lines[] = {SAY_STATE(7), SAY_RECORD("1process"), SAY_LOADED(7, 1), SAY_NO_MORE};
  struct slc__keeper *keeper = NULL;
  struct slc__keeper_set set = {0};
  struct slc__loaded loaded;
  start_child(world, 0, lines);
  assert_int_equal(slc__shadow_open(&world->loop, world->fakes[0].path, &keeper), 0);
  assert_int_equal(keeper->class->ask(keeper, 0, &set), 0);
  assert_int_equal(set.generation, 7);
  slc__loaded_init(&loaded);
  assert_int_equal(keeper->class->load(keeper, 0, &loaded), 0);
  assert_int_equal(loaded.count, 1);
  slc__loaded_deinit(&loaded);
  keeper->class->close(keeper);
  uv_run(&world->loop, UV_RUN_DEFAULT);
  end_children(world);
}

static void test_load_fails_where_a_start_would_hide_a_mistake(void **state) {
  static const struct line denied[] = {SAY_REFUSAL(SLC_DENIED), SAY_NO_MORE};
  static const struct line newer[] = {{.what = STATE, .generation = 3, .major = SLC__SHADOW_MAJOR + 1}, SAY_NO_MORE};
  static const struct line older[] = {SAY_REFUSAL(SLC_VERSION), SAY_NO_MORE};
  struct store_world *world = *state;
  assert_int_equal(open_with(world, denied, NULL), SLC_DENIED);
  assert_non_null(strstr(slc__error_detail(), "shadow0: it refuses: so it is"));
  store_world_close(world);
  assert_int_equal(open_with(world, newer, NULL), SLC_VERSION);
  store_world_close(world);
  assert_int_equal(open_with(world, older, NULL), SLC_VERSION);
}

int main(void) {
#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, store_world_setup, store_world_teardown)
  const struct CMUnitTest tests[] = {
      WORLD_TEST(test_load_in_the_order_of_the_keys),
      WORLD_TEST(test_load_of_nobody_is_nothing),
      WORLD_TEST(test_load_takes_the_newest),
      WORLD_TEST(test_load_takes_the_next_where_the_newest_fails),
      WORLD_TEST(test_load_of_an_old_set_is_nothing),
      WORLD_TEST(test_load_with_a_damaged_file_takes_what_there_is),
      WORLD_TEST(test_load_of_half_a_set_is_nothing),
      WORLD_TEST(test_load_fails_where_a_start_would_hide_a_mistake),
      WORLD_TEST(test_load_waits_a_moment_when_time_is_over),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

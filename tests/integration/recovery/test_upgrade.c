/* An upgrade: the broker hands over to the program that lies at its path by now.  Nothing is lost, whether somebody
 * keeps its records or not; and where the new program is not up to it, the old broker goes on. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/check.h"
#include "support/manager.h"
#include "support/shadow.h"
#include "world.h"

enum { PATH_SIZE = 160, OPTIONS_MAX = 8 };

/* Who keeps the broker's records meanwhile. */
enum keeper { NOBODY, SHADOW, FDSTORE };

struct stage {
  struct test_manager manager;
  struct test_shadow shadow;
  bool has_shadow;
  const char *options[OPTIONS_MAX];
  char program[PATH_SIZE]; /* what the broker was started from */
  struct world world;
  char *before;
};

/* ---- the program ------------------------------------------------------------------------------------------------ */

/* As an installer does it: the running one keeps its own file. */
static FILE *install_begin(const struct stage *stage) {
  char beside[PATH_SIZE + 8];
  snprintf(beside, sizeof beside, "%s.new", stage->program);
  FILE *file = fopen(beside, "we");
  assert_non_null(file);
  return file;
}

static void install_end(const struct stage *stage, FILE *file) {
  char beside[PATH_SIZE + 8];
  snprintf(beside, sizeof beside, "%s.new", stage->program);
  assert_int_equal(fchmod(fileno(file), 0755), 0);
  assert_int_equal(fclose(file), 0);
  assert_int_equal(rename(beside, stage->program), 0);
}

static void install_slotcastd(const struct stage *stage) {
  char bytes[16 * 1024];
  FILE *from = fopen(test_program("slotcastd"), "re"), *to = install_begin(stage);
  assert_non_null(from);
  for (size_t size; (size = fread(bytes, 1, sizeof bytes, from)) > 0;)
    assert_int_equal(fwrite(bytes, 1, size, to), size);
  fclose(from);
  install_end(stage, to);
}

static void install_script(const struct stage *stage, const char *text) {
  FILE *file = install_begin(stage);
  assert_true(fputs(text, file) >= 0);
  install_end(stage, file);
}

/* ---- the stage -------------------------------------------------------------------------------------------------- */

static void start(struct stage *stage) {
  test_manager_start(&stage->manager);
  test_manager_await(&stage->manager, "READY=1");
}

static char *look(struct stage *stage) {
  test_manager_attend(&stage->manager);
  char *seen = world_look();
  test_manager_attend_end(&stage->manager);
  return seen;
}

static int begin(void **state, enum keeper keeper) {
  struct stage *stage = calloc(1, sizeof *stage);
  if (stage == NULL) return -1;
  struct test_manager *manager = &stage->manager;
  test_manager_init(manager, keeper != NOBODY);
  snprintf(stage->program, sizeof stage->program, "%s/slotcastd", manager->directory);
  install_slotcastd(stage);
  int count = 0;
  stage->options[count++] = "--backend";
  stage->options[count++] = test_backend();
  stage->has_shadow = keeper == SHADOW;
  if (keeper == FDSTORE) stage->options[count++] = "--fdstore";
  if (keeper == SHADOW) {
    test_shadow_start(&stage->shadow);
    stage->options[count++] = "--shadow";
    stage->options[count++] = stage->shadow.socket;
  }
  manager->program = stage->program;
  manager->options = stage->options;
  start(stage);
  test_manager_attend(manager);
  world_start(&stage->world);
  test_manager_attend_end(manager);
  stage->before = look(stage);
  *state = stage;
  return 0;
}

static int setup_nobody(void **state) {
  return begin(state, NOBODY);
}

static int setup_shadow(void **state) {
  return begin(state, SHADOW);
}

static int setup_fdstore(void **state) {
  return begin(state, FDSTORE);
}

/* What a broker leaves for its successor goes with one that has nothing to go on with. */
static int clean_up(struct stage *stage) {
  struct test_manager *manager = &stage->manager;
  char path[PATH_SIZE];
  test_manager_stop(manager);
  test_manager_forget(manager);
  int faults = stage->has_shadow ? test_shadow_finish(&stage->shadow) : 0;
  stage->options[2] = NULL;
  install_slotcastd(stage);
  start(stage);
  test_manager_stop(manager);
  unlink(stage->program);
  snprintf(path, sizeof path, "%s.generation", manager->socket);
  unlink(path);
  return faults;
}

static int teardown(void **state) {
  struct stage *stage = *state;
  world_kill(&stage->world);
  int faults = clean_up(stage);
  faults += test_manager_finish(&stage->manager);
  free(stage->before);
  free(stage);
  return faults;
}

static void check_as_before(struct stage *stage) {
  char *after = look(stage);
  assert_string_equal(after, stage->before);
  free(after);
}

static void read_all(struct stage *stage) {
  test_manager_attend(&stage->manager);
  world_read();
  test_manager_attend_end(&stage->manager);
}

/* ---- upgrades --------------------------------------------------------------------------------------------------- */

static void test_upgrade_loses_nothing(void **state) {
  struct stage *stage = *state;
  for (int i = 0; i < 3; i++) {
    install_slotcastd(stage);
    assert_true(test_manager_upgrade(&stage->manager));
    check_as_before(stage);
  }
  read_all(stage);
  assert_int_equal(stage->manager.refused, 0);
}

/* Whoever keeps the records keeps those of the new one, from its first answer on. */
static void test_upgrade_is_kept(void **state) {
  struct stage *stage = *state;
  for (int i = 0; i < 3; i++) {
    assert_true(test_manager_upgrade(&stage->manager));
    check_as_before(stage);
    test_manager_kill(&stage->manager);
    start(stage);
    check_as_before(stage);
  }
  read_all(stage);
}

/* ---- under way -------------------------------------------------------------------------------------------------- */

#define STREAM "of/upgrade"
enum { UPGRADES = 3 };

struct stream {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  uint64_t sent, received;
  int lost, back, anew;
};

static void on_connection(void *ctx, int event) {
  struct stream *stream = ctx;
  stream->lost += event == SLC_CONNECTION_LOST;
  stream->back += event == SLC_CONNECTION_BACK;
  stream->anew += event == SLC_CONNECTION_ANEW;
}

static void stream_open(struct stream *stream) {
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  slc_publisher_options publishing = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options subscribing = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.on_connection = on_connection;
  options.callback_ctx = stream;
  options.reconnect_timeout_ns = -1; /* an upgrade takes as long as it takes */
  publishing.slots = 16;
  publishing.slot_size = 64;
  publishing.reliable = 1;
  subscribing.reliable = 1;
  check_ok(slc_client_open(&options, &stream->client));
  check_ok(slc_publisher_open(stream->client, STREAM, &publishing, &stream->publisher));
  check_ok(slc_subscriber_open(stream->client, STREAM, &subscribing, &stream->subscriber));
}

/* One message, which comes next. */
static void stream_pass(struct stream *stream) {
  slc_message message;
  stream->sent++;
  check_ok(slc_publisher_send(stream->publisher, &stream->sent, sizeof stream->sent, NULL));
  check_ok(slc_subscriber_take(stream->subscriber, &message));
  stream->received++;
  assert_memory_equal(message.data, &stream->received, sizeof stream->received);
  check_ok(slc_subscriber_release(stream->subscriber, &message));
}

/* What needs the broker: it knows both, and that they are back. */
static void stream_check(struct stream *stream) {
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(stream->client, STREAM, &info));
  assert_int_equal(info->publishers, 1);
  assert_int_equal(info->subscribers, 1);
  assert_int_equal(info->messages, stream->sent);
  for (uint32_t i = 0; i < info->user_count; i++) assert_true(info->users[i].is_connected);
  slc_channel_info_free(info);
}

/* In a process of its own, at each word of the test's: some thousand messages, and the broker is asked now and then. At
 * its end it has been lost and back as often as there were upgrades. */
static _Noreturn void stream_run(int words) {
  enum { ROUNDS = 20, MESSAGES = 500 };
  struct stream stream = {.lost = 0};
  char word;
  stream_open(&stream);
  while (read(words, &word, 1) == 1) {
    for (int i = 0; i < ROUNDS; i++) {
      for (int j = 0; j < MESSAGES; j++) stream_pass(&stream);
      stream_check(&stream);
    }
    assert_int_equal(write(words, &word, 1), 1);
  }
  assert_int_equal(stream.lost, UPGRADES);
  assert_int_equal(stream.back, UPGRADES);
  assert_int_equal(stream.anew, 0);
  slc_client_close(stream.client);
  exit(EXIT_SUCCESS);
}

static void stream_ask(int words) {
  assert_int_equal(write(words, "m", 1), 1);
}

static void stream_await(struct stage *stage, int words) {
  char word;
  test_manager_attend(&stage->manager);
  assert_int_equal(read(words, &word, 1), 1);
  test_manager_attend_end(&stage->manager);
}

/* Publishers and subscribers go on, and have what they had. */
static void test_upgrade_ends_no_stream(void **state) {
  struct stage *stage = *state;
  int words[2], status = 0;
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, words), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    close(words[0]);
    stream_run(words[1]);
  }
  close(words[1]);
  stream_ask(words[0]);
  stream_await(stage, words[0]);
  for (int i = 0; i < UPGRADES; i++) {
    stream_ask(words[0]);
    assert_true(test_manager_upgrade(&stage->manager));
    stream_await(stage, words[0]);
    stream_ask(words[0]); /* whatever it did during the upgrade: now it is back */
    stream_await(stage, words[0]);
  }
  test_manager_attend(&stage->manager);
  close(words[0]);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  test_manager_attend_end(&stage->manager);
  assert_int_equal(status, 0);
}

/* The watchdog's pid was the old one's. */
static void test_upgrade_goes_on_feeding_the_watchdog(void **state) {
  struct stage *stage = *state;
  test_manager_stop(&stage->manager);
  stage->manager.watchdog_usec = 100000;
  start(stage);
  assert_true(test_manager_upgrade(&stage->manager));
  test_manager_drain(&stage->manager);
  for (int i = 0; i < 3; i++) test_manager_await(&stage->manager, "WATCHDOG=1");
}

/* ---- new programs that are not up to it ------------------------------------------------------------------------- */

/* The old one goes on: also those are served that were before. */
static void check_refused(struct stage *stage) {
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  slc_client *client = NULL;
  slc_channel_info *info = NULL;
  options.reconnect_timeout_ns = -1;
  test_manager_attend(&stage->manager);
  check_ok(slc_client_open(&options, &client));
  test_manager_attend_end(&stage->manager);
  pid_t before = stage->manager.pid;
  assert_false(test_manager_upgrade(&stage->manager));
  assert_int_equal(stage->manager.pid, before);
  check_ok(slc_channel_inspect(client, "plain", &info));
  slc_channel_info_free(info);
  slc_client_close(client);
  check_as_before(stage);
}

static void test_upgrade_to_what_fails_is_none(void **state) {
  struct stage *stage = *state;
  install_script(stage, "#!/bin/sh\nexit 1\n");
  check_refused(stage);
  install_script(stage, "#!/bin/sh\nkill -KILL $$\n");
  check_refused(stage);
  install_script(stage, "neither a program nor a script");
  check_refused(stage);
  unlink(stage->program);
  check_refused(stage);
  install_slotcastd(stage);
  assert_true(test_manager_upgrade(&stage->manager));
  check_as_before(stage);
  read_all(stage);
}

/* `fault`: see preload.c; with another one it is as good as any. */
static void install_with(const struct stage *stage, const char *fault) {
  char script[1024];
  snprintf(script, sizeof script, "#!/bin/sh\nLD_PRELOAD=%s SLOTCAST_TEST_FAULT=%s exec %s \"$@\"\n",
           getenv("SLOTCAST_TEST_PRELOAD"), fault, test_program("slotcastd"));
  install_script(stage, script);
}

static void test_upgrade_to_what_does_not_understand_is_none(void **state) {
  struct stage *stage = *state;
  const char *preload = getenv("SLOTCAST_TEST_PRELOAD");
  if (preload == NULL || preload[0] == '\0') skip();
  install_with(stage, "newer");
  check_refused(stage);
  install_with(stage, "damaged");
  check_refused(stage);
  install_with(stage, "none");
  assert_true(test_manager_upgrade(&stage->manager));
  check_as_before(stage);
  read_all(stage);
}

int main(void) {
#define UPGRADE_TEST(function, keeper) cmocka_unit_test_setup_teardown(function, setup_##keeper, teardown)
  const struct CMUnitTest tests[] = {
      UPGRADE_TEST(test_upgrade_loses_nothing, nobody),
      UPGRADE_TEST(test_upgrade_loses_nothing, shadow),
      UPGRADE_TEST(test_upgrade_loses_nothing, fdstore),
      UPGRADE_TEST(test_upgrade_is_kept, shadow),
      UPGRADE_TEST(test_upgrade_is_kept, fdstore),
      UPGRADE_TEST(test_upgrade_ends_no_stream, nobody),
      UPGRADE_TEST(test_upgrade_ends_no_stream, shadow),
      UPGRADE_TEST(test_upgrade_ends_no_stream, fdstore),
      UPGRADE_TEST(test_upgrade_goes_on_feeding_the_watchdog, shadow),
      UPGRADE_TEST(test_upgrade_to_what_fails_is_none, nobody),
      UPGRADE_TEST(test_upgrade_to_what_fails_is_none, shadow),
      UPGRADE_TEST(test_upgrade_to_what_fails_is_none, fdstore),
      UPGRADE_TEST(test_upgrade_to_what_does_not_understand_is_none, nobody),
      UPGRADE_TEST(test_upgrade_to_what_does_not_understand_is_none, shadow),
      UPGRADE_TEST(test_upgrade_to_what_does_not_understand_is_none, fdstore),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Who may speak to a shadow, and what becomes of those who speak nonsense: told why, and nothing is kept of it. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "peer.h"
#include "slotcast/status.h"
#include "support/leaks.h"
#include "support/shadow.h"

enum { OTHER_UID = 61234, ANOTHER_UID = 61235, SILENT_CONNECTIONS = 50 };

static struct test_shadow shadow;
static struct test_leaks leaks;

static void begin(const char *const *options) {
  test_watchdog(TEST_WATCHDOG_SECONDS);
  test_leaks_note(&leaks);
  test_shadow_start_with(&shadow, options);
}

static void end(void) {
  assert_int_equal(test_shadow_finish(&shadow), 0);
  assert_int_equal(test_leaks_check(&leaks), 0);
  test_watchdog(0);
}

static int hello(uint64_t records) {
  Slotcast__ShadowState state;
  int fd = peer_hello(shadow.socket, &state);
  assert_int_equal(state.records, records);
  return fd;
}

static int shadow_descriptors(void) {
  char path[64];
  int count = 0;
  snprintf(path, sizeof path, "/proc/%d/fd", (int)shadow.pid);
  DIR *directory = opendir(path);
  assert_non_null(directory);
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}

/* ---- nonsense --------------------------------------------------------------------------------------------------- */

struct nonsense {
  const char *what;
  const char *bytes;
  size_t size;
  size_t descriptors; /* sent with it */
  int status;
};

/* Written by hand: what is here is what comes over the socket. */
#define NONSENSE(text, bytes_, descriptors_, status_)                                                                  \
  { .what = (text), .bytes = (bytes_), .size = sizeof(bytes_) - 1, .descriptors = (descriptors_), .status = (status_) }
static const struct nonsense nonsenses[] = {
    NONSENSE("no protobuf", "\xff\xff\xff\xff", 1, SLC_PROTOCOL),
    NONSENSE("no body", "\x78\x01", 0, SLC_PROTOCOL),
    NONSENSE("cut off", "\x6a\x10\x0a", 1, SLC_PROTOCOL),
    NONSENSE("a record without a key", "\x6a\x02\x18\x01", 1, SLC_PROTOCOL),
    NONSENSE("a drop without a key", "\x82\x01\x00", 0, SLC_PROTOCOL),
    NONSENSE("a record that names a descriptor too many", "\x6a\x05\x0a\x01\x61\x18\x02", 1, SLC_PROTOCOL),
    NONSENSE("a record that names none and has one", "\x6a\x03\x0a\x01\x61", 1, SLC_PROTOCOL),
    NONSENSE("a record with too many descriptors", "\x6a\x06\x0a\x01\x61\x18\xf1\x01", 241, SLC_PROTOCOL),
    NONSENSE("a commit with a descriptor", "\x8a\x01\x02\x08\x01", 1, SLC_PROTOCOL),
    NONSENSE("what only a shadow sends", "\x92\x01\x00", 0, SLC_PROTOCOL),
    NONSENSE("a second hello", "\x52\x02\x08\x01", 0, SLC_PROTOCOL),
    NONSENSE("a hello of another version", "\x52\x02\x08\x63", 0, SLC_VERSION),
};

static void say(int fd, const struct nonsense *nonsense) {
  int same[SLC__NET_DESCRIPTORS_MAX];
  int descriptor = peer_descriptor("nonsense", 0);
  for (size_t i = 0; i < nonsense->descriptors; i++) same[i] = descriptor;
  assert_int_equal(slc__net_send(fd, nonsense->bytes, nonsense->size, same, nonsense->descriptors, 0), 0);
  close(descriptor);
}

/* Several turns of its loop later, so that what was closed is closed. */
static void check_harmless(int descriptors) {
  int fd = hello(1);
  peer_expect_records(fd, "a=one*1");
  assert_int_equal(shadow_descriptors(), descriptors);
  close(fd);
}

/* The one that says it is refused, with what it staged; what was committed stays. */
static void test_shadow_refuses_nonsense(void **state) {
  (void)state;
  begin(NULL);
  int descriptor = peer_descriptor("a", 0);
  int fd = hello(0);
  peer_put(fd, "a", "one", &descriptor, 1);
  peer_commit(fd, 1, 1);
  int descriptors = shadow_descriptors();
  close(fd);
  for (size_t i = 0; i < sizeof nonsenses / sizeof nonsenses[0]; i++) {
    print_message("%s\n", nonsenses[i].what);
    fd = hello(1);
    peer_put(fd, "b", "staged", &descriptor, 1);
    say(fd, &nonsenses[i]);
    peer_put(fd, "c", "afterwards", &descriptor, 1);
    peer_expect_refusal(fd, nonsenses[i].status);
    close(fd);
    check_harmless(descriptors);
  }
  close(descriptor);
  end();
}

/* Only a hello makes a broker of a connection, and only a broker has a say. */
static void test_shadow_wants_a_hello_first(void **state) {
  (void)state;
  begin(NULL);
  int served = hello(0);
  int fd = peer_connect(shadow.socket);
  peer_put(fd, "x", "from nobody", NULL, 0);
  peer_expect_refusal(fd, SLC_PROTOCOL);
  close(fd);
  peer_put(served, "a", "one", NULL, 0);
  peer_commit(served, 1, 1);
  peer_expect_records(served, "a=one");
  close(served);
  end();
}

static void test_shadow_refuses_requests_during_a_load(void **state) {
  (void)state;
  begin(NULL);
  int fd = hello(0);
  peer_put(fd, "staged", "", NULL, 0);
  peer_load(fd);
  peer_expect_refusal(fd, SLC_PROTOCOL);
  close(fd);
  fd = hello(0);
  for (int i = 0; i < 1000; i++) { /* more than a socket takes, so the load is not over when the next comes */
    char key[16];
    snprintf(key, sizeof key, "%d", i);
    peer_put(fd, key, "some value that fills the socket", NULL, 0);
  }
  peer_commit(fd, 1, 1);
  peer_load(fd);
  peer_load(fd);
  peer_expect_refusal(fd, SLC_PROTOCOL);
  close(fd);
  fd = hello(1000);
  close(fd);
  end();
}

/* Connections that never say anything are bounded; they keep nobody out, and do not take a broker's place. */
static void test_shadow_bounds_connections(void **state) {
  (void)state;
  begin(NULL);
  int fds[SILENT_CONNECTIONS];
  int broker = hello(0);
  int descriptors = shadow_descriptors();
  for (int i = 0; i < SILENT_CONNECTIONS; i++) fds[i] = peer_connect(shadow.socket);
  struct answer answer;
  peer_receive(fds[0], &answer);
  assert_null(answer.message); /* closed: the oldest goes first */
  answer_deinit(&answer);
  peer_put(broker, "a", "one", NULL, 0);
  peer_commit(broker, 1, 1);
  assert_true(shadow_descriptors() < descriptors + SILENT_CONNECTIONS);
  close(hello(1)); /* fences the other */
  peer_expect_refusal(broker, SLC_BUSY);
  close(broker);
  for (int i = 0; i < SILENT_CONNECTIONS; i++) close(fds[i]);
  end();
}

/* ---- others ----------------------------------------------------------------------------------------------------- */

enum { EXIT_STATE = 10, EXIT_DENIED = 11, EXIT_NO_WAY = 12, EXIT_ELSE = 13 };

/* In a process of its own, which is somebody else. */
static _Noreturn void hello_as(uid_t uid) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT, *back;
  Slotcast__ShadowHello hello_body = SLOTCAST__SHADOW_HELLO__INIT;
  uint8_t bytes[1024];
  size_t size;
  struct slc__fds fds;
  int fd;
  hello_body.major = SLC__SHADOW_MAJOR;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_HELLO;
  message.hello = &hello_body;
  if (setgid(uid) != 0 || setuid(uid) != 0) _exit(EXIT_ELSE);
  if (slc__net_connect(shadow.socket, -1, &fd) != 0) _exit(EXIT_NO_WAY);
  slc__shadow_encode(&message, bytes, sizeof bytes, &size);
  slc__net_send(fd, bytes, size, NULL, 0, 0); /* its end may have come already */
  slc__fds_init(&fds);
  if (slc__net_receive(fd, bytes, sizeof bytes, &size, &fds, 0) != 0 || slc__shadow_decode(bytes, size, 0, &back) != 0)
    _exit(EXIT_ELSE);
  if (back->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_STATE) _exit(EXIT_STATE);
  bool is_denied = back->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_REFUSAL && back->refusal->status == SLC_DENIED;
  _exit(is_denied ? EXIT_DENIED : EXIT_ELSE);
}

static int outcome_as(uid_t uid) {
  int status;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) hello_as(uid);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool can_be_others(void) {
  if (geteuid() == 0) return true;
  print_message("skipped: a process of another uid needs root to be started\n");
  return false;
}

static void test_shadow_serves_its_own_user_alone(void **state) {
  (void)state;
  if (!can_be_others()) skip();
  static const char *const open_to_all[] = {"--socket-mode", "0666", NULL};
  begin(NULL);
  assert_int_equal(chmod(shadow.directory, 0755), 0);
  assert_int_equal(outcome_as(OTHER_UID), EXIT_NO_WAY); /* the socket's permissions */
  end();
  begin(open_to_all);
  assert_int_equal(chmod(shadow.directory, 0755), 0);
  int broker = hello(0);
  assert_int_equal(outcome_as(OTHER_UID), EXIT_DENIED);
  peer_commit(broker, 1, 1); /* it was not fenced */
  close(broker);
  end();
}

static void test_shadow_serves_the_user_that_it_is_told(void **state) {
  (void)state;
  if (!can_be_others()) skip();
  static const char *const options[] = {"--user", "61235", NULL};
  begin(options);
  assert_int_equal(chmod(shadow.directory, 0755), 0);
  assert_int_equal(outcome_as(OTHER_UID), EXIT_DENIED);
  assert_int_equal(outcome_as(ANOTHER_UID), EXIT_STATE);
  close(hello(0));
  end();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shadow_refuses_nonsense),
      cmocka_unit_test(test_shadow_wants_a_hello_first),
      cmocka_unit_test(test_shadow_refuses_requests_during_a_load),
      cmocka_unit_test(test_shadow_bounds_connections),
      cmocka_unit_test(test_shadow_serves_its_own_user_alone),
      cmocka_unit_test(test_shadow_serves_the_user_that_it_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

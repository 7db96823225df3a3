/* A shadow's limits: what goes beyond them is refused with a sentence and loses nothing that was committed.  And how
 * much it can keep: tens of thousands of records and descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "peer.h"
#include "slotcast/status.h"
#include "support/leaks.h"
#include "support/shadow.h"

enum {
  MANY = 40000,
  ASIDE = 1000,        /* descriptors of the test and of the shadow that are not records' */
  ON_THEIR_WAY = 3000, /* at most, of the user */
  AT_ONCE = 250,
  LOOK_MS = 300,
};

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

static void put_numbered(int fd, unsigned number, const char *value, int descriptor) {
  char key[16];
  snprintf(key, sizeof key, "%06u", number);
  peer_put(fd, key, value, &descriptor, descriptor >= 0);
}

/* ---- beyond ----------------------------------------------------------------------------------------------------- */

/* With one record committed, a second that does not fit is refused; that one stays, and the place is free again. */
static void check_limit(const char *option, const char *value, size_t value_size, int descriptors) {
  const char *const options[] = {option, value, NULL};
  char *large = calloc(1, value_size + 1);
  assert_non_null(large);
  memset(large, 'x', value_size);
  begin(options);
  int fds[2] = {peer_descriptor("a", 0), peer_descriptor("a", 1)};
  for (int round = 0; round < 3; round++) {
    int fd = hello(round == 0 ? 0 : 1);
    if (round == 0) {
      peer_put(fd, "a", "one", fds, 2);
      peer_commit(fd, 1, 1);
    }
    peer_put(fd, "b", large, fds, (size_t)descriptors);
    peer_expect_refusal(fd, SLC_LIMIT);
    close(fd);
  }
  int fd = hello(1);
  peer_expect_records(fd, "a=one*2");
  close(fd);
  close(fds[0]);
  close(fds[1]);
  free(large);
  end();
}

static void test_shadow_bounds_memory(void **state) {
  (void)state;
  check_limit("--max-memory", "30000", 30000, 0);
}

static void test_shadow_bounds_records(void **state) {
  (void)state;
  check_limit("--max-records", "1", 1, 0);
}

static void test_shadow_bounds_descriptors(void **state) {
  (void)state;
  check_limit("--max-descriptors", "3", 1, 2);
}

/* What is staged counts, and is given back with the connection that staged it, and with what it replaces. */
static void test_shadow_gives_back_what_was_staged(void **state) {
  (void)state;
  static const char *const options[] = {"--max-records", "3", "--max-descriptors", "3", "--max-memory", "200000", NULL};
  static char large[60000];
  memset(large, 'x', sizeof large - 1);
  begin(options);
  int descriptor = peer_descriptor("000001", 0);
  int fd = hello(0);
  for (int round = 0; round < 100; round++) { /* each replaces the one before, committed or staged */
    put_numbered(fd, 1, round % 3 == 0 ? large : "small", descriptor);
    if (round % 2 == 0) peer_commit(fd, (uint64_t)round, 1);
  }
  put_numbered(fd, 1, "last", descriptor);
  peer_commit(fd, 1, 1);
  for (int round = 0; round < 20; round++) {
    close(fd);
    fd = hello(1);
    put_numbered(fd, 2, large, descriptor);
    put_numbered(fd, 3, large, descriptor);
    if (round % 2 == 1) peer_begin(fd);
  }
  close(fd);
  fd = hello(1);
  peer_expect_records(fd, "000001=last*1");
  close(fd);
  close(descriptor);
  end();
}

/* A record that comes again with the same open files goes on with those that are kept, so that bringing a shadow up to
 * date takes no second set of descriptors. */
static void test_shadow_keeps_the_same_descriptors_once(void **state) {
  (void)state;
  static const char *const options[] = {"--max-descriptors", "3", NULL};
  begin(options);
  int fds[2] = {peer_descriptor("a", 0), peer_descriptor("a", 1)};
  int fd = hello(0);
  for (int round = 0; round < 3; round++) { /* staged anew, committed anew, as a whole set */
    if (round == 2) peer_begin(fd);
    peer_put(fd, "a", "first", fds, 2);
    peer_put(fd, "a", "second", fds, 2);
    if (round > 0) peer_commit(fd, (uint64_t)round, 1);
  }
  peer_put(fd, "a", "never committed", fds, 2);
  close(fd);
  fd = hello(1);
  peer_expect_records(fd, "a=second*2");
  peer_put(fd, "a", "the other way round", (const int[]){fds[1], fds[0]}, 2); /* others, so two more: too many */
  peer_expect_refusal(fd, SLC_LIMIT);
  close(fd);
  fd = hello(1);
  peer_drop(fd, "a");
  peer_commit(fd, 3, 1);
  peer_put(fd, "a", "third", fds, 2); /* all that there were have been given back */
  peer_commit(fd, 4, 1);
  peer_expect_records(fd, "a=third*2");
  close(fd);
  close(fds[0]);
  close(fds[1]);
  end();
}

/* The same inode opened anew is another open file: what it may do stays as it is. */
static void test_shadow_keeps_what_was_opened_anew(void **state) {
  (void)state;
  static const char *const options[] = {"--max-descriptors", "2", NULL};
  char path[64];
  begin(options);
  int writable = peer_descriptor("a", 0);
  snprintf(path, sizeof path, "/proc/self/fd/%d", writable);
  int readable = open(path, O_RDONLY | O_CLOEXEC);
  assert_true(readable >= 0);
  int fd = hello(0);
  peer_put(fd, "a", "writable", &writable, 1);
  peer_commit(fd, 1, 1);
  peer_put(fd, "a", "readable", &readable, 1);
  peer_commit(fd, 2, 1);
  struct answer answer;
  peer_load(fd);
  peer_receive(fd, &answer);
  assert_int_equal(answer.fds.count, 1);
  assert_int_equal(fcntl(answer.fds.fd[0], F_GETFL) & O_ACCMODE, O_RDONLY);
  answer_deinit(&answer);
  close(fd);
  close(readable);
  close(writable);
  end();
}

/* ---- much ------------------------------------------------------------------------------------------------------- */

/* The hard limit as well, where that is allowed: how many may be open. */
static rlim_t raise_limit(rlim_t wanted) {
  struct rlimit limit = {wanted, wanted}, now;
  if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return wanted;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
  now.rlim_cur = now.rlim_max;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
  return now.rlim_cur;
}

static void receive_all(int fd, size_t expected, size_t expected_descriptors) {
  size_t records = 0, descriptors = 0;
  bool *seen = calloc(expected, sizeof *seen);
  assert_non_null(seen);
  for (bool more = true; more;) {
    struct answer answer;
    peer_receive(fd, &answer);
    assert_non_null(answer.message);
    more = answer.message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_RECORD;
    if (more) {
      char key[16] = "";
      memcpy(key, answer.message->record->key.data, 6);
      unsigned long number = strtoul(key, NULL, 10);
      assert_true(number < expected && !seen[number]);
      seen[number] = true;
      records++;
      descriptors += answer.fds.count;
    } else {
      assert_int_equal(answer.message->body_case, SLOTCAST__SHADOW_MESSAGE__BODY_LOADED);
      assert_int_equal(answer.message->loaded->records, expected);
    }
    answer_deinit(&answer);
  }
  free(seen);
  assert_int_equal(records, expected);
  assert_int_equal(descriptors, expected_descriptors);
}

/* Each with a descriptor, as far as there may be so many; committed at once, loaded by the next broker. */
static void test_shadow_keeps_many(void **state) {
  (void)state;
  struct rlimit before;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlim_t limit = raise_limit(MANY + ASIDE);
  size_t descriptors = limit >= MANY + ASIDE ? MANY : limit - ASIDE;
  begin(NULL);
  int descriptor = peer_descriptor("many", 0);
  int fd = hello(0);
  for (unsigned i = 0; i < MANY; i++) put_numbered(fd, i, "value", i < descriptors ? descriptor : -1);
  peer_commit(fd, 1, 1);
  close(fd);
  fd = hello(MANY);
  peer_load(fd);
  receive_all(fd, MANY, descriptors);
  close(fd);
  close(descriptor);
  end();
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* ---- descriptors on their way ----------------------------------------------------------------------------------- */

/* Time that it has spent on a processor. */
static uint64_t cpu_ns(pid_t pid) {
  char path[64];
  unsigned long long ns = 0;
  snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
  FILE *file = fopen(path, "re");
  assert_non_null(file);
  assert_int_equal(fscanf(file, "%llu", &ns), 1);
  fclose(file);
  return ns;
}

/* Descriptors sent and not received: nobody of this user may have more on their way than it may have open. */
static void park(int fd) {
  int same[AT_ONCE];
  for (int i = 0; i < AT_ONCE; i++) same[i] = fd;
  for (int sent = 0; sent <= ON_THEIR_WAY; sent += AT_ONCE)
    assert_int_equal(slc__net_send(fd, "", 1, same, AT_ONCE, 0), 0);
}

/* Whoever loads has nothing for as long as that lasts, and then everything; the shadow does not spin meanwhile. */
static void test_shadow_waits_for_descriptors_on_their_way(void **state) {
  (void)state;
  int parked[2];
  begin(NULL);
  struct rlimit few = {ON_THEIR_WAY, ON_THEIR_WAY};
  assert_int_equal(prlimit(shadow.pid, RLIMIT_NOFILE, &few, NULL), 0);
  int fd = hello(0);
  int descriptor = peer_descriptor("000000", 0);
  put_numbered(fd, 0, "first", descriptor);
  for (unsigned i = 1; i < 100; i++) put_numbered(fd, i, "value", descriptor);
  peer_commit(fd, 1, 1);
  close(fd);

  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, parked), 0);
  park(parked[0]);
  fd = hello(100);
  peer_load(fd);
  uint64_t before = cpu_ns(shadow.pid), begun = (uint64_t)slc__clock_ns();
  struct pollfd readable = {.fd = fd, .events = POLLIN};
  assert_int_equal(poll(&readable, 1, LOOK_MS), 0);
  uint64_t spent = cpu_ns(shadow.pid) - before, passed = (uint64_t)slc__clock_ns() - begun;
  print_message("%llu us of processor time in %llu ms\n", (unsigned long long)spent / 1000,
                (unsigned long long)passed / 1000000);
  assert_true(spent < passed / 8);
  close(parked[0]);
  close(parked[1]);
  receive_all(fd, 100, 100);
  close(fd);
  close(descriptor);
  end();
}

/* Who may do anything has no bound of descriptors on their way. */
static void give_up_privileges(void) {
  prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0);
  prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shadow_bounds_memory),
      cmocka_unit_test(test_shadow_bounds_records),
      cmocka_unit_test(test_shadow_bounds_descriptors),
      cmocka_unit_test(test_shadow_gives_back_what_was_staged),
      cmocka_unit_test(test_shadow_keeps_the_same_descriptors_once),
      cmocka_unit_test(test_shadow_keeps_what_was_opened_anew),
      cmocka_unit_test(test_shadow_keeps_many),
      cmocka_unit_test(test_shadow_waits_for_descriptors_on_their_way),
  };
  give_up_privileges();
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* An object of one uid in the hands of another, passed over a socket: what was handed out read-only can't be written by
 * any route, and what was handed out writable can't be resized.
 *
 * The receiving process is forked before the object exists, so that it has only what it is sent.  Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attempts.h"
#include "net/seqpacket.h"
#include "shm/object.h"
#include "support/leaks.h"

enum {
  OTHER_UID = 65534,
  SKIPPED = 77,
  SIZE = 8 * SLC__PAGE,
  REQUIRED_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL
};

static const uint8_t session[16] = "rights test 0001";

/* ---- the other uid's process ------------------------------------------------------------------------------------- */

/* What it is told beside the descriptor. */
struct handed {
  enum slc__object_kind kind;
  enum slc__access access;
  int owner_fd;
};

typedef int (*work_fn)(const struct target *target);

struct other {
  pid_t pid;
  int socket;
};

static int receive_and_work(int socket, pid_t owner, work_fn work) {
  struct handed handed;
  struct slc__fds fds;
  size_t size;
  slc__fds_init(&fds);
  if (slc__net_receive(socket, &handed, sizeof handed, &size, &fds, 0) != 0 || size != sizeof handed) return 200;
  struct target target = {.fd = slc__fds_take(&fds, 0), .size = SIZE, .owner = owner, .owner_fd = handed.owner_fd};
  int protection = PROT_READ | (handed.access == SLC__READ_WRITE ? PROT_WRITE : 0);
  target.what = handed.kind == SLC__OBJECT_CONTROL ? "control" : "buffers";
  target.base = mmap(NULL, SIZE, protection, MAP_SHARED, target.fd, 0);
  return target.base == MAP_FAILED ? 201 : work(&target);
}

static struct other other_start(work_fn work) {
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  fflush(NULL);
  pid_t owner = getpid(), child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    become(OTHER_UID);
    close(ends[0]);
    _exit(receive_and_work(ends[1], owner, work));
  }
  close(ends[1]);
  return (struct other){.pid = child, .socket = ends[0]};
}

static void other_hand(const struct other *other, int fd, struct handed handed) {
  assert_int_equal(slc__net_send(other->socket, &handed, sizeof handed, &fd, 1, 0), 0);
}

/* Its exit status. */
static int other_finish(const struct other *other) {
  int status;
  assert_int_equal(waitpid(other->pid, &status, 0), other->pid);
  close(other->socket);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/* ---- the owner's object ------------------------------------------------------------------------------------------ */

static uint8_t pattern(size_t at) {
  return (uint8_t)(at * 167 + at / 4096 + 1);
}

static uint8_t *fill(int fd) {
  uint8_t *base = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  assert_true(base != MAP_FAILED);
  for (size_t i = sizeof(struct slc__header); i < SIZE; i++) base[i] = pattern(i);
  return base;
}

static void check_filled(const uint8_t *base) {
  assert_memory_equal(base, "SLOTCAST", 8);
  for (size_t i = sizeof(struct slc__header); i < SIZE; i++)
    if (base[i] != pattern(i)) fail_msg("byte %zu has changed", i);
}

static void check_inode(int fd) {
  struct stat info;
  assert_int_equal(fstat(fd, &info), 0);
  assert_int_equal(info.st_size, SIZE);
  assert_int_equal(info.st_mode & 07777, 0600);
  assert_int_equal(info.st_uid, geteuid());
  assert_int_equal(fcntl(fd, F_GET_SEALS) & (REQUIRED_SEALS | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE), REQUIRED_SEALS);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void hand_out_and_check(enum slc__object_kind kind, enum slc__access access, work_fn work) {
  struct other other = other_start(work);
  int fd = -1, read_only = -1;
  assert_int_equal(slc__object_create(slc__memory_plain(SLC__BACKEND_MEMFD), kind, SIZE, session, &fd), 0);
  assert_int_equal(slc__object_reopen_read_only(fd, &read_only), 0);
  uint8_t *base = fill(fd);
  other_hand(&other, access == SLC__READ_WRITE ? fd : read_only,
             (struct handed){.kind = kind, .access = access, .owner_fd = fd});
  assert_int_equal(other_finish(&other), 0);
  check_filled(base);
  check_inode(fd);
  munmap(base, SIZE);
  close(fd);
  close(read_only);
}

static void test_rights_read_only_control_cannot_be_written(void **state) {
  (void)state;
  hand_out_and_check(SLC__OBJECT_CONTROL, SLC__READ_ONLY, attempt_writes);
}

static void test_rights_read_only_buffers_cannot_be_written(void **state) {
  (void)state;
  hand_out_and_check(SLC__OBJECT_BUFFERS, SLC__READ_ONLY, attempt_writes);
}

static int attempt_writes_by_mapping(const struct target *target) {
  struct target mapped = *target;
  close(target->fd);
  mapped.fd = -1;
  return attempt_writes(&mapped);
}

static void test_rights_read_only_mapping_cannot_be_written(void **state) {
  (void)state;
  hand_out_and_check(SLC__OBJECT_BUFFERS, SLC__READ_ONLY, attempt_writes_by_mapping);
}

static void test_rights_writable_control_cannot_be_resized(void **state) {
  (void)state;
  hand_out_and_check(SLC__OBJECT_CONTROL, SLC__READ_WRITE, attempt_resizes);
}

static void test_rights_writable_buffers_cannot_be_resized(void **state) {
  (void)state;
  hand_out_and_check(SLC__OBJECT_BUFFERS, SLC__READ_WRITE, attempt_resizes);
}

/* A publisher may fill its channel with garbage, and holes are a kind of it: zeros, not SIGBUS, for whoever reads. */
static int punch_everything(const struct target *target) {
  return fallocate(target->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE) == 0 ? 0 : errno;
}

static void test_rights_holes_read_as_zeros(void **state) {
  (void)state;
  struct other other = other_start(punch_everything);
  int fd = -1;
  assert_int_equal(slc__object_create(slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_BUFFERS, SIZE, session, &fd),
                   0);
  uint8_t *base = fill(fd);
  other_hand(&other, fd, (struct handed){.kind = SLC__OBJECT_BUFFERS, .access = SLC__READ_WRITE});
  assert_int_equal(other_finish(&other), 0);
  for (size_t i = 0; i < SIZE; i++) assert_int_equal(base[i], 0);
  munmap(base, SIZE);
  close(fd);
}

/* ---- attempts that must succeed: or those above would prove nothing ---------------------------------------------- */

enum { SUCCEEDED = 42 };

static int reopen_succeeds(const struct target *target) {
  return attempt_reopen(target) == 0 ? SUCCEEDED : 1;
}

static int shrink_succeeds(const struct target *target) {
  return attempt_shrink(target) == 0 && attempt_store(target) == -SIGBUS ? SUCCEEDED : 1;
}

/* A memfd as the kernel makes it, without what slc__object_create does. */
static void hand_out_bare(enum slc__access access, work_fn work) {
  struct other other = other_start(work);
  int fd = memfd_create("bare", MFD_CLOEXEC | MFD_ALLOW_SEALING), read_only = -1;
  assert_true(fd >= 0);
  assert_int_equal(ftruncate(fd, SIZE), 0);
  assert_int_equal(slc__object_reopen_read_only(fd, &read_only), 0);
  other_hand(&other, access == SLC__READ_WRITE ? fd : read_only,
             (struct handed){.kind = SLC__OBJECT_BUFFERS, .access = access});
  assert_int_equal(other_finish(&other), SUCCEEDED);
  close(fd);
  close(read_only);
}

static void test_rights_without_the_mode_a_reopen_succeeds(void **state) {
  (void)state;
  hand_out_bare(SLC__READ_ONLY, reopen_succeeds);
}

static void test_rights_without_the_seals_a_shrink_kills(void **state) {
  (void)state;
  hand_out_bare(SLC__READ_WRITE, shrink_succeeds);
}

static struct test_leaks before;

static int note(void **state) {
  (void)state;
  test_watchdog(TEST_WATCHDOG_SECONDS);
  test_leaks_note(&before);
  return 0;
}

static int nothing_left(void **state) {
  (void)state;
  test_watchdog(0);
  return test_leaks_check(&before);
}

#define RIGHTS_TEST(test) cmocka_unit_test_setup_teardown(test, note, nothing_left)

int main(void) {
  const struct CMUnitTest tests[] = {
      RIGHTS_TEST(test_rights_read_only_control_cannot_be_written),
      RIGHTS_TEST(test_rights_read_only_buffers_cannot_be_written),
      RIGHTS_TEST(test_rights_read_only_mapping_cannot_be_written),
      RIGHTS_TEST(test_rights_writable_control_cannot_be_resized),
      RIGHTS_TEST(test_rights_writable_buffers_cannot_be_resized),
      RIGHTS_TEST(test_rights_holes_read_as_zeros),
      RIGHTS_TEST(test_rights_without_the_mode_a_reopen_succeeds),
      RIGHTS_TEST(test_rights_without_the_seals_a_shrink_kills),
  };
  if (geteuid() != 0) {
    printf("skipped: a process of another uid needs root to be started\n");
    return SKIPPED;
  }
  return cmocka_run_group_tests(tests, NULL, NULL);
}

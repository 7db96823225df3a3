/* Datagrams with descriptors, between real sockets: whole or not at all, and nothing leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "net/seqpacket.h"
#include "slotcast/status.h"

static int open_descriptors(void) {
  DIR *directory = opendir("/proc/self/fd");
  int count = -3;
  assert_non_null(directory);
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}

static void make_pair(int pair[2]) {
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(int pair[2]) {
  slc__fd_close(&pair[0]);
  slc__fd_close(&pair[1]);
}

static void test_seqpacket_carries_descriptors(void **state) {
  (void)state;
  static const size_t counts[] = {0, 1, 2, SLC__NET_DESCRIPTORS_MAX};
  int before = open_descriptors(), pair[2], many[SLC__NET_DESCRIPTORS_MAX];
  for (int i = 0; i < SLC__NET_DESCRIPTORS_MAX; i++) many[i] = STDIN_FILENO;
  make_pair(pair);
  for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
    struct slc__fds fds;
    char buffer[16];
    size_t size;
    assert_int_equal(slc__net_send(pair[0], "hello", 5, many, counts[i], 0), 0);
    assert_int_equal(slc__net_receive(pair[1], buffer, sizeof buffer, &size, &fds, 0), 0);
    assert_int_equal(size, 5);
    assert_memory_equal(buffer, "hello", 5);
    assert_int_equal(fds.count, counts[i]);
    for (size_t k = 0; k < fds.count; k++) assert_int_equal(fcntl(fds.fd[k], F_GETFD), FD_CLOEXEC);
    slc__fds_deinit(&fds);
  }
  assert_int_equal(slc__net_send(pair[0], "x", 1, many, SLC__NET_DESCRIPTORS_MAX + 1, 0), SLC_INVALID);
  close_pair(pair);
  assert_int_equal(open_descriptors(), before);
}

static void test_seqpacket_too_long_leaves_nothing(void **state) {
  (void)state;
  int before = open_descriptors(), pair[2], fd = STDIN_FILENO;
  struct slc__fds fds;
  char buffer[4];
  size_t size;
  make_pair(pair);
  assert_int_equal(slc__net_send(pair[0], "too long", 8, &fd, 1, 0), 0);
  assert_int_equal(slc__net_receive(pair[1], buffer, sizeof buffer, &size, &fds, 0), SLC_PROTOCOL);
  close_pair(pair);
  assert_int_equal(open_descriptors(), before);
}

static void test_seqpacket_foreign_control_is_refused(void **state) {
  (void)state;
  int pair[2], on = 1;
  struct slc__fds fds;
  char buffer[16];
  size_t size;
  make_pair(pair);
  assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
  assert_int_equal(slc__net_send(pair[0], "x", 1, NULL, 0, 0), 0);
  assert_int_equal(slc__net_receive(pair[1], buffer, sizeof buffer, &size, &fds, 0), SLC_PROTOCOL);
  close_pair(pair);
}

static void test_seqpacket_full_empty_and_closed(void **state) {
  (void)state;
  int pair[2], status;
  struct slc__fds fds;
  static char big[64 * 1024];
  size_t size;
  make_pair(pair);
  assert_int_equal(slc__net_receive(pair[1], big, sizeof big, &size, &fds, MSG_DONTWAIT), SLC__NET_AGAIN);
  while ((status = slc__net_send(pair[0], big, sizeof big, NULL, 0, MSG_DONTWAIT)) == 0) {
  }
  assert_int_equal(status, SLC__NET_AGAIN);
  slc__fd_close(&pair[1]);
  assert_int_equal(slc__net_send(pair[0], big, 1, NULL, 0, MSG_DONTWAIT), SLC__NET_CLOSED);
  close_pair(pair);
}

/* The limits with which 0 .. count more can be had. */
static void limits_of_room(rlim_t *ret_limits, int count) {
  for (int i = 0; i < count; i++) {
    int fd = dup(STDIN_FILENO);
    assert_true(fd >= 0);
    ret_limits[i] = (rlim_t)fd;
  }
  ret_limits[count] = ret_limits[count - 1] + 1;
  for (int i = 0; i < count; i++) close((int)ret_limits[i]);
}

/* With room for fewer descriptors than come, the message is still there afterwards; as many as come are enough. */
static void test_seqpacket_short_of_descriptors_consumes_nothing(void **state) {
  (void)state;
  enum { COME = 3 };
  static const int coming[COME] = {STDIN_FILENO, STDIN_FILENO, STDIN_FILENO};
  struct rlimit limit;
  int pair[2];
  struct slc__fds fds;
  char buffer[16];
  size_t size;
  make_pair(pair);
  int before = open_descriptors();
  rlim_t limits[COME + 1];
  limits_of_room(limits, COME);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  assert_int_equal(slc__net_send(pair[0], "x", 1, coming, COME, 0), 0);
  for (int room = 0; room <= COME; room++) {
    struct rlimit low = {.rlim_cur = limits[room], .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int status = slc__net_receive(pair[1], buffer, sizeof buffer, &size, &fds, MSG_DONTWAIT);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(status, room < COME ? SLC_NO_DESCRIPTORS : 0);
    assert_int_equal(fds.count, room < COME ? 0 : COME);
    assert_int_equal(open_descriptors(), before + (int)fds.count);
  }
  assert_int_equal(slc__net_receive(pair[1], buffer, sizeof buffer, &size, &fds, MSG_DONTWAIT), SLC__NET_AGAIN);
  slc__fds_deinit(&fds);
  close_pair(pair);
}

static void test_listen_modes_locks_and_stale_sockets(void **state) {
  (void)state;
  char directory[] = "/tmp/slotcast-net-XXXXXX", path[64], lock[80];
  int before = open_descriptors(), listener, lock_fd, second, second_lock, client;
  struct stat info;
  assert_non_null(mkdtemp(directory));
  snprintf(path, sizeof path, "%s/made/b.sock", directory);
  snprintf(lock, sizeof lock, "%s.lock", path);
  assert_int_equal(slc__net_connect(path, -1, &client), SLC_NO_BROKER);
  assert_int_equal(slc__net_listen(path, 0640, (gid_t)-1, &listener, &lock_fd), 0);
  assert_int_equal(stat(path, &info), 0);
  assert_true(S_ISSOCK(info.st_mode));
  assert_int_equal(info.st_mode & 07777, 0640);
  assert_int_equal(info.st_uid, geteuid());
  assert_int_equal(slc__net_listen(path, 0640, (gid_t)-1, &second, &second_lock), SLC_BUSY);
  assert_int_equal(slc__net_connect(path, -1, &client), 0); /* the first one still serves */
  slc__fd_close(&client);
  slc__fd_close(&listener); /* as if it had been killed: the file stays, the lock goes */
  slc__fd_close(&lock_fd);
  assert_int_equal(slc__net_connect(path, -1, &client), SLC_NO_BROKER);
  assert_int_equal(slc__net_listen(path, 0600, (gid_t)-1, &listener, &lock_fd), 0);
  assert_int_equal(slc__net_connect(path, -1, &client), 0);
  slc__fd_close(&client);
  slc__net_unlisten(path, &listener, &lock_fd);
  assert_int_not_equal(access(path, F_OK), 0);
  assert_int_not_equal(access(lock, F_OK), 0);
  int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  assert_true(file >= 0);
  slc__fd_close(&file);
  assert_int_equal(slc__net_listen(path, 0600, (gid_t)-1, &listener, &lock_fd), SLC_INVALID);
  assert_int_equal(unlink(path), 0);
  path[strlen(path) - strlen("/b.sock")] = '\0';
  assert_int_equal(rmdir(path), 0);
  assert_int_equal(rmdir(directory), 0);
  assert_int_equal(open_descriptors(), before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_seqpacket_carries_descriptors),
      cmocka_unit_test(test_seqpacket_too_long_leaves_nothing),
      cmocka_unit_test(test_seqpacket_foreign_control_is_refused),
      cmocka_unit_test(test_seqpacket_full_empty_and_closed),
      cmocka_unit_test(test_seqpacket_short_of_descriptors_consumes_nothing),
      cmocka_unit_test(test_listen_modes_locks_and_stale_sockets),
  };
  return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}

/* Payloads with names: made once, whole or not at all, and gone with their directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "shm/payload.h"

enum { SIZE = 10000, ROUNDED = 12288, MAKERS = 4, OBJECTS = 300 };

static uint8_t session[16]; /* locked, or a broker that starts meanwhile would sweep it away */

static int session_begin(void **state) {
  static int lock = -1;
  *state = &lock;
  if (getrandom(session, sizeof session, 0) != sizeof session) return -1;
  return slc__object_session_lock(session, &lock);
}

static int session_end(void **state) {
  slc__object_session_unlock(session, *(int *)*state);
  return 0;
}

static struct slc__memory in_shm(void) {
  return slc__memory_plain(SLC__BACKEND_SHM);
}

static int open_object(int directory, uint32_t number, enum slc__access access, bool may_create, int *ret_fd) {
  return slc__payload_open_named(in_shm(), SIZE, directory, number, access, may_create, ret_fd);
}

static int directory_new(void) {
  int directory = -1;
  assert_int_equal(slc__object_directory(SLC__PAGES_SMALL, session, &directory), SLC_OK);
  assert_int_equal(slc__object_directory_check(directory), SLC_OK);
  return directory;
}

static ino_t inode_of(int fd) {
  struct stat info;
  assert_int_equal(fstat(fd, &info), 0);
  return info.st_ino;
}

static void test_names_are_made_once(void **state) {
  (void)state;
  int directory = directory_new(), first = -1, second = -1, reading = -1;
  assert_int_equal(open_object(directory, 3, SLC__READ_ONLY, false, &first), SLC_GONE);
  assert_int_equal(open_object(directory, 3, SLC__READ_WRITE, true, &first), SLC_OK);
  assert_int_equal(open_object(directory, 3, SLC__READ_WRITE, true, &second), SLC_OK);
  assert_int_equal(open_object(directory, 3, SLC__READ_ONLY, false, &reading), SLC_OK);
  assert_int_equal(inode_of(first), inode_of(second));
  assert_int_equal(inode_of(first), inode_of(reading));
  struct stat info;
  assert_int_equal(fstat(first, &info), 0);
  assert_int_equal(info.st_size, ROUNDED);
  assert_true(info.st_blocks * 512 >= ROUNDED); /* allocated: an access can't fail */
  assert_int_equal(info.st_mode, S_IFREG | 0600);
  assert_int_equal(write(reading, "", 1), -1);
  int other = -1; /* what is there has another size */
  assert_int_equal(slc__payload_open_named(in_shm(), 2 * SIZE, directory, 3, SLC__READ_WRITE, true, &other),
                   SLC_INVALID);
  assert_int_equal(slc__payload_check_named(directory, SLC__PAGES_SMALL, 1, SIZE, SIZE), SLC_INVALID);
  slc__object_directory_remove(directory);
  assert_int_equal(write(first, "still", 5), 5); /* who has it keeps it */
  close(first);
  close(second);
  close(reading);
  close(directory);
}

static void test_names_go_with_their_directory(void **state) {
  (void)state;
  int directory = directory_new(), fd = -1;
  assert_int_equal(open_object(directory, 0, SLC__READ_WRITE, true, &fd), SLC_OK);
  close(fd);
  slc__object_directory_remove(directory);
  struct stat info;
  assert_int_equal(fstat(directory, &info), 0);
  assert_int_equal(info.st_nlink, 0);
  assert_int_equal(open_object(directory, 0, SLC__READ_WRITE, false, &fd), SLC_GONE);
  assert_int_equal(open_object(directory, 0, SLC__READ_WRITE, true, &fd), SLC_GONE);
  close(directory);
}

/* Makes objects until they are not wanted any more. */
static _Noreturn void make_until_gone(int directory, int told) {
  int status = SLC_OK;
  for (uint32_t i = 0; status == SLC_OK; i++) {
    int fd = -1;
    status = open_object(directory, i % OBJECTS, SLC__READ_WRITE, true, &fd);
    if (fd >= 0) close(fd);
    if (i == OBJECTS / 2 && write(told, "", 1) != 1) _exit(2);
  }
  _exit(status == SLC_GONE ? 0 : 1);
}

static void test_names_go_while_some_are_made(void **state) {
  (void)state;
  for (int round = 0; round < 10; round++) {
    int directory = directory_new(), told[2];
    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    pid_t makers[MAKERS];
    for (int i = 0; i < MAKERS; i++) {
      makers[i] = fork();
      assert_true(makers[i] >= 0);
      if (makers[i] == 0) make_until_gone(directory, told[1]);
    }
    char byte;
    for (int i = 0; i < MAKERS; i++) assert_int_equal(read(told[0], &byte, 1), 1);
    slc__object_directory_remove(directory);
    struct stat info;
    assert_int_equal(fstat(directory, &info), 0);
    assert_int_equal(info.st_nlink, 0);
    for (int i = 0; i < MAKERS; i++) {
      int status = 0;
      assert_int_equal(waitpid(makers[i], &status, 0), makers[i]);
      assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    close(told[0]);
    close(told[1]);
    close(directory);
  }
}

/* Nobody of another user may put something there. */
static void test_names_directory_of_others(void **state) {
  (void)state;
  int directory = directory_new();
  assert_int_equal(fchmod(directory, 0770), 0);
  assert_int_equal(slc__object_directory_check(directory), SLC_PROTOCOL);
  assert_int_equal(fchmod(directory, 0700), 0);
  int file = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  assert_int_equal(slc__object_directory_check(file), SLC_PROTOCOL);
  close(file);
  if (geteuid() == 0) { /* ours would be root's as well */
    pid_t child = fork();
    if (child == 0) {
      if (fchown(directory, 65533, 65533) != 0 || setresuid(65534, 65534, 65534) != 0) _exit(2);
      _exit(slc__object_directory_check(directory) == SLC_PROTOCOL ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  slc__object_directory_remove(directory);
  close(directory);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_names_are_made_once),
      cmocka_unit_test(test_names_go_with_their_directory),
      cmocka_unit_test(test_names_go_while_some_are_made),
      cmocka_unit_test(test_names_directory_of_others),
  };
  return cmocka_run_group_tests(tests, session_begin, session_end);
}

/* Objects: what making one promises, that every wrong one is refused for its own reason, and that nothing is left.
 *
 * A refusal is known by its sentence, not only by its status: a check that never runs must not hide behind another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "shm/object.h"
#include "support/leaks.h"

#define SIZE (2 * SLC__PAGE)
#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define UNTOUCHED (-12345)

static const uint8_t session[16] = "object test 0001", other_session[16] = "object test 0002";

static void check(int status, int expected, int line) {
  if (status == expected) return;
  print_error("line %d: %s (%s), expected %s\n", line, slc__status_name(status), slc__error_detail(),
              slc__status_name(expected));
  fail();
}
#define check_status(expression, expected) check((expression), (expected), __LINE__)

static int make(enum slc__backend backend) {
  int fd = -1;
  check_status(slc__object_create(slc__memory_plain(backend), SLC__OBJECT_CONTROL, SIZE, session, &fd), SLC_OK);
  return fd;
}

static int reopen(int fd, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int again = open(path, flags | O_CLOEXEC);
  assert_true(again >= 0);
  return again;
}

/* ---- nothing left ------------------------------------------------------------------------------------------------ */

static struct test_leaks before;

static int note(void **state) {
  (void)state;
  test_watchdog(TEST_WATCHDOG_SECONDS);
  test_leaks_note(&before);
  return 0;
}

/* The names of a session in /dev/shm. */
static int names_of(const uint8_t of[16]) {
  char prefix[64] = "slotcast-";
  for (int i = 0; i < 16; i++) snprintf(prefix + strlen(prefix), 3, "%02x", of[i]);
  DIR *directory = opendir("/dev/shm");
  assert_non_null(directory);
  int count = 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0) count++;
  closedir(directory);
  return count;
}

static int nothing_left(void **state) {
  (void)state;
  test_watchdog(0);
  int left = test_leaks_check(&before);
  if (names_of(session) + names_of(other_session) == 0) return left;
  fprintf(stderr, "names are left in /dev/shm\n");
  return left + 1;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

static void check_fresh(int fd, uint64_t size, enum slc__object_kind kind) {
  struct slc__header header;
  assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
  assert_memory_equal(&header, "SLOTCAST", 8);
  assert_int_equal(header.major, SLC__LAYOUT_MAJOR);
  assert_int_equal(header.minor, SLC__LAYOUT_MINOR);
  assert_int_equal(header.byte_order, SLC__LAYOUT_BYTE_ORDER);
  assert_int_equal(header.kind, kind);
  assert_int_equal(header.header_size, sizeof header);
  assert_int_equal(header.total_size, size);
  assert_int_equal(header.features, 0);
  assert_memory_equal(header.session, session, sizeof session);
  assert_int_equal(atomic_load(&header.ready), 1);
  uint8_t page[SLC__PAGE];
  for (uint64_t at = sizeof header; at < size;) {
    ssize_t length = pread(fd, page, sizeof page, (off_t)at);
    assert_true(length > 0);
    for (ssize_t i = 0; i < length; i++) assert_int_equal(page[i], 0);
    at += (uint64_t)length;
  }
}

static void check_file(int fd, uint64_t size) {
  struct stat info;
  assert_int_equal(fstat(fd, &info), 0);
  assert_int_equal(info.st_mode, S_IFREG | 0600);
  assert_int_equal(info.st_size, size);
  assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
  assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
}

static void test_object_memfd_is_sealed_private_and_ready(void **state) {
  (void)state;
  mode_t old = umask(0);
  for (int kind = SLC__OBJECT_CONTROL; kind <= SLC__OBJECT_BELL; kind++) {
    int fd = -1;
    uint64_t size = (uint64_t)kind * SLC__PAGE;
    check_status(slc__object_create(slc__memory_plain(SLC__BACKEND_MEMFD), kind, size, session, &fd), SLC_OK);
    check_file(fd, size);
    check_fresh(fd, size, kind);
    assert_int_equal(fcntl(fd, F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    assert_int_equal(info.st_nlink, 0);
    close(fd);
  }
  umask(old);
}

/* Not even its maker can, root or not. */
static void test_object_memfd_keeps_its_size_and_seals(void **state) {
  (void)state;
  int fd = make(SLC__BACKEND_MEMFD);
  assert_int_equal(ftruncate(fd, 0), -1);
  assert_int_equal(errno, EPERM);
  assert_int_equal(ftruncate(fd, SIZE + SLC__PAGE), -1);
  assert_int_equal(errno, EPERM);
  assert_int_equal(fallocate(fd, 0, SIZE, SLC__PAGE), -1);
  assert_int_equal(errno, EPERM);
  assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
  assert_int_equal(errno, EPERM);
  check_file(fd, SIZE);
  close(fd);
}

static uint64_t allocated(int fd) {
  struct stat info;
  assert_int_equal(fstat(fd, &info), 0);
  return (uint64_t)info.st_blocks * 512;
}

static void test_object_memory_is_allocated_when_asked(void **state) {
  (void)state;
  const uint64_t size = 64 * SLC__PAGE;
  int lazy = -1, eager = -1;
  check_status(slc__object_create(slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_BUFFERS, size, session, &lazy),
               SLC_OK);
  check_status(slc__object_create((struct slc__memory){.backend = SLC__BACKEND_MEMFD, .prefault = true},
                                  SLC__OBJECT_BUFFERS, size, session, &eager),
               SLC_OK);
  assert_true(allocated(lazy) < size);
  assert_true(allocated(eager) >= size);
  close(lazy);
  close(eager);
}

static void path_of(int fd, char *path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, size - 1);
  assert_true(length > 0);
  path[length] = '\0';
}

/* The session's lock is held, or a broker that starts meanwhile would sweep the object away. */
static void test_object_shm_is_a_private_allocated_file(void **state) {
  (void)state;
  int lock = -1;
  check_status(slc__object_session_lock(session, &lock), SLC_OK);
  mode_t old = umask(0777);
  int first = make(SLC__BACKEND_SHM), second = make(SLC__BACKEND_SHM);
  umask(old);
  char first_path[128], second_path[128];
  path_of(first, first_path, sizeof first_path);
  path_of(second, second_path, sizeof second_path);
  static const char stem[] = "/dev/shm/slotcast-6f626a656374207465737420303030";
  assert_memory_equal(first_path, stem, sizeof stem - 1);
  assert_string_not_equal(first_path, second_path);
  check_file(first, SIZE);
  check_fresh(first, SIZE, SLC__OBJECT_CONTROL);
  assert_true(allocated(first) >= SIZE);
  slc__object_unlink(first);
  assert_int_equal(access(first_path, F_OK), -1);
  assert_int_equal(access(second_path, F_OK), 0);
  check_fresh(first, SIZE, SLC__OBJECT_CONTROL); /* the name has gone, not the memory */
  slc__object_unlink(first);                     /* the link now ends in " (deleted)" */
  slc__object_unlink(second);
  assert_int_equal(names_of(session), 1);
  close(first);
  close(second);
  slc__object_session_unlock(session, lock);
}

static void test_object_unlink_removes_nothing_else(void **state) {
  (void)state;
  char named[] = "/dev/shm/test-object-XXXXXX";
  int fd = mkostemp(named, O_CLOEXEC), memfd = make(SLC__BACKEND_MEMFD);
  assert_true(fd >= 0);
  slc__object_unlink(fd);
  slc__object_unlink(memfd);
  slc__object_unlink(-1);
  assert_int_equal(access(named, F_OK), 0);
  unlink(named);
  close(fd);
  close(memfd);
}

/* Runs `body` with room for `spare` more descriptors. */
static void with_descriptors(int spare, void (*body)(void)) {
  struct rlimit old, tight;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
  int lowest = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0); /* the lowest that is free */
  close(lowest);
  tight = (struct rlimit){.rlim_cur = (rlim_t)(lowest + spare), .rlim_max = old.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
  body();
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void make_without_descriptors(void) {
  static const enum slc__backend backends[] = {SLC__BACKEND_MEMFD, SLC__BACKEND_SHM};
  for (int i = 0; i < 2; i++) {
    int fd = UNTOUCHED;
    check_status(slc__object_create(slc__memory_plain(backends[i]), SLC__OBJECT_BELL, SIZE, session, &fd),
                 SLC_NO_DESCRIPTORS);
    assert_int_equal(errno, EMFILE);
    assert_int_equal(fd, UNTOUCHED);
  }
  int lock = UNTOUCHED;
  check_status(slc__object_session_lock(session, &lock), SLC_NO_DESCRIPTORS);
  assert_int_equal(lock, UNTOUCHED);
}

static void test_object_create_without_descriptors(void **state) {
  (void)state;
  with_descriptors(0, make_without_descriptors);
}

/* The object exists by then, and its name: both must go again. */
static void test_object_create_of_an_impossible_size(void **state) {
  (void)state;
  int fd = UNTOUCHED;
  check_status(slc__object_create(slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_BELL, UINT64_MAX, session, &fd),
               SLC_SYSTEM);
  assert_int_equal(errno, EINVAL);
  check_status(slc__object_create(slc__memory_plain(SLC__BACKEND_SHM), SLC__OBJECT_BELL, UINT64_MAX, session, &fd),
               SLC_SYSTEM);
  assert_int_equal(errno, EINVAL);
  assert_int_equal(fd, UNTOUCHED);
  assert_int_equal(names_of(session), 0);
}

static void test_object_create_in_a_full_file_system(void **state) {
  (void)state;
  struct statvfs shm;
  assert_int_equal(statvfs("/dev/shm", &shm), 0);
  if (shm.f_blocks == 0) {
    print_message("skipped: /dev/shm has no limit here\n");
    skip();
  }
  int fd = UNTOUCHED;
  uint64_t size = (uint64_t)shm.f_blocks * shm.f_frsize + SLC__PAGE;
  check_status(slc__object_create(slc__memory_plain(SLC__BACKEND_SHM), SLC__OBJECT_BELL, size, session, &fd),
               SLC_NO_MEMORY);
  assert_int_equal(errno, ENOSPC);
  assert_int_equal(fd, UNTOUCHED);
  assert_int_equal(names_of(session), 0);
}

/* ---- read-only descriptors --------------------------------------------------------------------------------------- */

static void test_object_reopen_is_the_same_object_without_writing(void **state) {
  (void)state;
  int fd = make(SLC__BACKEND_MEMFD), read_only = -1;
  check_status(slc__object_reopen_read_only(fd, &read_only), SLC_OK);
  struct stat one, two;
  assert_int_equal(fstat(fd, &one), 0);
  assert_int_equal(fstat(read_only, &two), 0);
  assert_int_equal(one.st_ino, two.st_ino);
  assert_int_equal(fcntl(read_only, F_GETFL) & O_ACCMODE, O_RDONLY);
  assert_int_equal(fcntl(read_only, F_GETFD), FD_CLOEXEC);
  assert_int_equal(pwrite(read_only, "x", 1, 0), -1);
  assert_int_equal(errno, EBADF);
  close(fd);
  check_fresh(read_only, SIZE, SLC__OBJECT_CONTROL); /* lives on without the first */
  close(read_only);
}

static int reopen_of;
static void reopen_without_descriptors(void) {
  int read_only = UNTOUCHED;
  check_status(slc__object_reopen_read_only(reopen_of, &read_only), SLC_NO_DESCRIPTORS);
  assert_int_equal(read_only, UNTOUCHED);
}

static void test_object_reopen_fails_cleanly(void **state) {
  (void)state;
  int read_only = UNTOUCHED;
  check_status(slc__object_reopen_read_only(-1, &read_only), SLC_SYSTEM);
  assert_int_equal(read_only, UNTOUCHED);
  reopen_of = make(SLC__BACKEND_MEMFD);
  with_descriptors(0, reopen_without_descriptors);
  close(reopen_of);
}

/* ---- mapping ----------------------------------------------------------------------------------------------------- */

static void check_mapping_shares(enum slc__backend backend) {
  int fd = make(backend), read_only = -1;
  check_status(slc__object_reopen_read_only(fd, &read_only), SLC_OK);
  struct slc__mapping writer = {0}, reader = {0};
  check_status(
      slc__object_map(fd, slc__memory_plain(backend), SLC__OBJECT_CONTROL, SIZE, SLC__READ_WRITE, session, &writer),
      SLC_OK);
  check_status(slc__object_map(read_only, slc__memory_plain(backend), SLC__OBJECT_CONTROL, SIZE, SLC__READ_ONLY,
                               session, &reader),
               SLC_OK);
  assert_int_equal(writer.size, SIZE);
  assert_int_equal(reader.size, SIZE);
  slc__object_unlink(fd);
  close(fd); /* a mapping needs no descriptor */
  close(read_only);
  ((volatile uint8_t *)writer.base)[SIZE - 1] = 42;
  assert_int_equal(((volatile uint8_t *)reader.base)[SIZE - 1], 42);
  slc__mapping_deinit(&writer);
  slc__mapping_deinit(&reader);
  assert_null(writer.base);
  slc__mapping_deinit(&writer); /* empty by now */
}

static void test_object_map_shares_memfd(void **state) {
  (void)state;
  check_mapping_shares(SLC__BACKEND_MEMFD);
}

static void test_object_map_shares_shm(void **state) {
  (void)state;
  int lock = -1;
  check_status(slc__object_session_lock(session, &lock), SLC_OK);
  check_mapping_shares(SLC__BACKEND_SHM);
  slc__object_session_unlock(session, lock);
}

static bool is_mapped(void *base) {
  unsigned char resident[SIZE / SLC__PAGE];
  return mincore(base, SIZE, resident) == 0;
}

static int status_of_child(pid_t child) {
  int status = 0;
  assert_true(child > 0);
  assert_int_equal(waitpid(child, &status, 0), child);
  return status;
}

/* A child must not be able to forge its parent's claims; what it can only read may be inherited. */
static void test_object_map_writable_is_not_inherited(void **state) {
  (void)state;
  int fd = make(SLC__BACKEND_MEMFD), read_only = -1;
  check_status(slc__object_reopen_read_only(fd, &read_only), SLC_OK);
  struct slc__mapping writer = {0}, reader = {0};
  check_status(slc__object_map(fd, slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_CONTROL, SIZE, SLC__READ_WRITE,
                               session, &writer),
               SLC_OK);
  check_status(slc__object_map(read_only, slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_CONTROL, SIZE,
                               SLC__READ_ONLY, session, &reader),
               SLC_OK);
  assert_true(is_mapped(writer.base));
  pid_t child = fork();
  if (child == 0) _exit(!is_mapped(writer.base) && is_mapped(reader.base) ? 0 : 1);
  assert_int_equal(status_of_child(child), 0);
  slc__mapping_deinit(&writer);
  slc__mapping_deinit(&reader);
  close(fd);
  close(read_only);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

struct offer {
  int fd;
  enum slc__backend backend;
  enum slc__object_kind kind;
  uint64_t size;
  enum slc__access access;
};

static struct offer offer_of(int fd, enum slc__access access) {
  return (struct offer){.fd = fd, .kind = SLC__OBJECT_CONTROL, .size = SIZE, .access = access};
}

/* Refused with this status and a sentence that has these words; the descriptor is still ours and *ret untouched. Closes
 * it. */
static void refused_at(struct offer offer, int expected, const char *words, int line) {
  struct slc__mapping mapping = {.base = &mapping, .size = 1};
  slc__error_clear();
  check(slc__object_map(offer.fd, slc__memory_plain(offer.backend), offer.kind, offer.size, offer.access, session,
                        &mapping),
        expected, line);
  if (strstr(slc__error_detail(), words) == NULL) {
    print_error("line %d: \"%s\" does not say \"%s\"\n", line, slc__error_detail(), words);
    fail();
  }
  assert_ptr_equal(mapping.base, &mapping);
  assert_int_equal(mapping.size, 1);
  if (offer.fd >= 0) assert_int_equal(close(offer.fd), 0);
}
#define refused(offer, status, words) refused_at((offer), (status), (words), __LINE__)

static struct slc__header right_header(void) {
  struct slc__header header = {.magic = SLC__LAYOUT_MAGIC,
                               .major = SLC__LAYOUT_MAJOR,
                               .minor = SLC__LAYOUT_MINOR,
                               .byte_order = SLC__LAYOUT_BYTE_ORDER,
                               .kind = SLC__OBJECT_CONTROL,
                               .header_size = sizeof header,
                               .total_size = SIZE,
                               .ready = 1};
  memcpy(header.session, session, sizeof header.session);
  return header;
}

/* A memfd of our own making, without the library. */
static int forge(const struct slc__header *header, uint64_t size, int seals) {
  int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  assert_true(fd >= 0);
  assert_int_equal(ftruncate(fd, (off_t)size), 0);
  assert_int_equal(pwrite(fd, header, sizeof *header, 0), sizeof *header);
  if (seals != 0) assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
  return fd;
}

/* The forger's header is right: everything else that is refused below is refused for what is wrong with it. */
static void test_object_map_takes_a_right_forgery(void **state) {
  (void)state;
  struct slc__header header = right_header();
  header.minor = UINT16_MAX; /* a later minor version is compatible */
  int fd = forge(&header, SIZE, ALL_SEALS);
  struct slc__mapping mapping = {0};
  check_status(slc__object_map(fd, slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_CONTROL, SIZE, SLC__READ_WRITE,
                               session, &mapping),
               SLC_OK);
  slc__mapping_deinit(&mapping);
  close(fd);
}

static void test_object_map_refuses_a_missing_seal(void **state) {
  (void)state;
  struct slc__header header = right_header();
  static const int incomplete[] = {0, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_SEAL,
                                   F_SEAL_GROW | F_SEAL_SEAL, F_SEAL_SEAL | F_SEAL_WRITE};
  for (size_t i = 0; i < sizeof incomplete / sizeof *incomplete; i++)
    refused(offer_of(forge(&header, SIZE, incomplete[i]), SLC__READ_WRITE), SLC_PROTOCOL, "not sealed");
}

/* More seals than needed are welcome to a reader; a writer learns why it can't. */
static void test_object_map_of_what_is_sealed_against_writing(void **state) {
  (void)state;
  struct slc__header header = right_header();
  int fd = forge(&header, SIZE, ALL_SEALS | F_SEAL_WRITE), read_only = reopen(fd, O_RDONLY);
  struct slc__mapping mapping = {0};
  check_status(slc__object_map(read_only, slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_CONTROL, SIZE,
                               SLC__READ_ONLY, session, &mapping),
               SLC_OK);
  slc__mapping_deinit(&mapping);
  close(read_only);
  refused(offer_of(fd, SLC__READ_WRITE), SLC_DENIED, "cannot map");
}

static void test_object_map_refuses_another_size(void **state) {
  (void)state;
  struct slc__header header = right_header();
  static const uint64_t sizes[] = {sizeof(struct slc__header), SIZE - 1, SIZE + 1, 2 * SIZE};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    refused(offer_of(forge(&header, sizes[i], ALL_SEALS), SLC__READ_WRITE), SLC_PROTOCOL, "size is not the agreed");
  struct offer huge = offer_of(make(SLC__BACKEND_MEMFD), SLC__READ_WRITE);
  huge.size = UINT64_MAX;
  refused(huge, SLC_PROTOCOL, "size is not the agreed");
}

static void test_object_map_refuses_another_access_mode(void **state) {
  (void)state;
  int fd = make(SLC__BACKEND_MEMFD);
  refused(offer_of(reopen(fd, O_RDONLY), SLC__READ_WRITE), SLC_PROTOCOL, "access mode");
  refused(offer_of(reopen(fd, O_WRONLY), SLC__READ_WRITE), SLC_PROTOCOL, "access mode");
  refused(offer_of(reopen(fd, O_WRONLY), SLC__READ_ONLY), SLC_PROTOCOL, "access mode");
  refused(offer_of(reopen(fd, O_PATH), SLC__READ_ONLY), SLC_PROTOCOL, "");
  refused(offer_of(fd, SLC__READ_ONLY), SLC_PROTOCOL, "access mode"); /* we were promised one that can't be written */
}

static void test_object_map_refuses_what_is_no_memfd(void **state) {
  (void)state;
  int pipes[2], sockets[2];
  assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
  char named[] = "/dev/shm/test-object-XXXXXX";
  int file = mkostemp(named, O_CLOEXEC);
  assert_true(file >= 0);
  assert_int_equal(ftruncate(file, SIZE), 0);
  refused(offer_of(-1, SLC__READ_ONLY), SLC_PROTOCOL, "");
  refused(offer_of(pipes[0], SLC__READ_ONLY), SLC_PROTOCOL, "not sealed");
  refused(offer_of(pipes[1], SLC__READ_ONLY), SLC_PROTOCOL, "not sealed");
  refused(offer_of(sockets[0], SLC__READ_WRITE), SLC_PROTOCOL, "not sealed");
  refused(offer_of(sockets[1], SLC__READ_WRITE), SLC_PROTOCOL, "not sealed");
  refused(offer_of(open("/dev/shm", O_RDONLY | O_CLOEXEC), SLC__READ_ONLY), SLC_PROTOCOL, "not sealed");
  refused(offer_of(open("/dev/zero", O_RDWR | O_CLOEXEC), SLC__READ_WRITE), SLC_PROTOCOL, "not sealed");
  refused(offer_of(file, SLC__READ_WRITE), SLC_PROTOCOL, "not sealed");
  unlink(named);
}

/* A punched huge page can be taken by somebody else meanwhile: SIGBUS in spite of the seals. */
static void test_object_map_refuses_huge_pages(void **state) {
  (void)state;
  const uint64_t huge = UINT64_C(2) << 20;
  int fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
  if (fd < 0) {
    print_message("skipped: no huge pages here: %s\n", strerror(errno));
    skip();
  }
  assert_int_equal(ftruncate(fd, (off_t)huge), 0);
  assert_int_equal(fcntl(fd, F_ADD_SEALS, ALL_SEALS), 0);
  struct offer offer = offer_of(fd, SLC__READ_WRITE);
  offer.size = huge;
  refused(offer, SLC_PROTOCOL, "not in tmpfs");
}

/* A channel's pages are agreed on, too: a promise of huge ones must not be met with small ones, nor the other way. */
static void test_object_map_refuses_other_pages(void **state) {
  (void)state;
  const uint64_t huge = UINT64_C(2) << 20;
  struct slc__memory small = slc__memory_plain(SLC__BACKEND_MEMFD), large = small;
  struct slc__mapping mapping = {0};
  int fd = -1;
  large.pages = 21;
  check_status(slc__object_create(small, SLC__OBJECT_BUFFERS, huge, session, &fd), SLC_OK);
  check_status(slc__object_map(fd, large, SLC__OBJECT_BUFFERS, huge, SLC__READ_WRITE, session, &mapping), SLC_PROTOCOL);
  assert_non_null(strstr(slc__error_detail(), "not of the agreed huge pages"));
  check_status(slc__object_map(fd, small, SLC__OBJECT_BUFFERS, huge, SLC__READ_WRITE, session, &mapping), SLC_OK);
  slc__mapping_deinit(&mapping);
  if (fchown(fd, 65534, (gid_t)-1) == 0) { /* root: sealed and in small pages it may be anybody's, else not */
    check_status(slc__object_map(fd, small, SLC__OBJECT_BUFFERS, huge, SLC__READ_WRITE, session, &mapping), SLC_OK);
    slc__mapping_deinit(&mapping);
    check_status(slc__object_map(fd, large, SLC__OBJECT_BUFFERS, huge, SLC__READ_WRITE, session, &mapping),
                 SLC_PROTOCOL);
    assert_non_null(strstr(slc__error_detail(), "belongs to another user"));
  }
  close(fd);
}

/* Only payloads are in the channel's pages: the rest is small enough. */
static void test_object_of_another_kind_is_in_small_pages(void **state) {
  (void)state;
  struct slc__memory large = slc__memory_plain(SLC__BACKEND_MEMFD);
  struct slc__mapping mapping = {0};
  int fd = -1;
  large.pages = 21;
  check_status(slc__object_create(large, SLC__OBJECT_CONTROL, SIZE, session, &fd), SLC_OK);
  check_status(slc__object_map(fd, large, SLC__OBJECT_CONTROL, SIZE, SLC__READ_WRITE, session, &mapping), SLC_OK);
  slc__mapping_deinit(&mapping);
  close(fd);
}

static void header_refused_at(struct slc__header header, int status, const char *words, int line) {
  refused_at(offer_of(forge(&header, SIZE, ALL_SEALS), SLC__READ_WRITE), status, words, line);
}

static void test_object_map_refuses_each_header_field(void **state) {
  (void)state;
#define REFUSED_WITH(field, value, status, words)                                                                      \
  do {                                                                                                                 \
    struct slc__header wrong = right_header();                                                                         \
    wrong.field = (value);                                                                                             \
    header_refused_at(wrong, (status), (words), __LINE__);                                                             \
  } while (0)
  REFUSED_WITH(ready, 0, SLC_PROTOCOL, "not complete");
  REFUSED_WITH(ready, 2, SLC_PROTOCOL, "not complete");
  REFUSED_WITH(magic, 0, SLC_PROTOCOL, "not Slotcast's");
  REFUSED_WITH(magic, __builtin_bswap64(SLC__LAYOUT_MAGIC), SLC_PROTOCOL, "not Slotcast's");
  REFUSED_WITH(byte_order, __builtin_bswap32(SLC__LAYOUT_BYTE_ORDER), SLC_PROTOCOL, "byte order");
  REFUSED_WITH(major, SLC__LAYOUT_MAJOR + 1, SLC_VERSION, "layout 2.0, this side knows 1.0");
  REFUSED_WITH(major, 0, SLC_VERSION, "layout 0.0, this side knows 1.0");
  REFUSED_WITH(features, 1, SLC_VERSION, "features 0x1");
  REFUSED_WITH(features, UINT64_C(1) << 63, SLC_VERSION, "features 0x8000000000000000");
  REFUSED_WITH(kind, SLC__OBJECT_BUFFERS, SLC_PROTOCOL, "another kind");
  REFUSED_WITH(kind, 0, SLC_PROTOCOL, "another kind");
  REFUSED_WITH(header_size, sizeof(struct slc__header) + 8, SLC_PROTOCOL, "another kind");
  REFUSED_WITH(total_size, SIZE - 1, SLC_PROTOCOL, "another size");
  REFUSED_WITH(total_size, UINT64_MAX, SLC_PROTOCOL, "another size");
  REFUSED_WITH(session[15], '2', SLC_PROTOCOL, "another broker's");
#undef REFUSED_WITH
  struct slc__header empty = {0};
  header_refused_at(empty, SLC_PROTOCOL, "not complete", __LINE__);
}

static void test_object_map_refuses_the_wrong_one_of_ours(void **state) {
  (void)state;
  for (int kind = SLC__OBJECT_BUFFERS; kind <= SLC__OBJECT_BELL; kind++) {
    struct offer offer = offer_of(make(SLC__BACKEND_MEMFD), SLC__READ_WRITE);
    offer.kind = kind;
    refused(offer, SLC_PROTOCOL, "another kind");
  }
  int fd = -1;
  check_status(slc__object_create(slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_CONTROL, SIZE, other_session, &fd),
               SLC_OK);
  refused(offer_of(fd, SLC__READ_WRITE), SLC_PROTOCOL, "another broker's");
}

/* A file without a name, of the right size and with the right header. */
static int forge_in(const char *directory) {
  struct slc__header header = right_header();
  int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  assert_true(fd >= 0);
  assert_int_equal(ftruncate(fd, SIZE), 0);
  assert_int_equal(pwrite(fd, &header, sizeof header, 0), sizeof header);
  return fd;
}

/* Where nothing can be sealed, only our own memory and root's is mapped. */
static void test_object_map_refuses_foreign_shm(void **state) {
  (void)state;
  struct offer offer = offer_of(forge_in("/dev/shm"), SLC__READ_WRITE);
  offer.backend = SLC__BACKEND_SHM;
  if (fchown(offer.fd, 65534, (gid_t)-1) != 0) {
    print_message("skipped: another user's file needs root\n");
    close(offer.fd);
    skip();
  }
  refused(offer, SLC_PROTOCOL, "belongs to another user");
}

static void test_object_map_refuses_files_on_disk(void **state) {
  (void)state;
  struct offer offer = offer_of(forge_in("/var/tmp"), SLC__READ_WRITE);
  offer.backend = SLC__BACKEND_SHM;
  struct statfs file_system;
  assert_int_equal(fstatfs(offer.fd, &file_system), 0);
  if (file_system.f_type == TMPFS_MAGIC) {
    print_message("skipped: /var/tmp is in memory here\n");
    close(offer.fd);
    skip();
  }
  refused(offer, SLC_PROTOCOL, "not in tmpfs");
}

/* The check asks the kernel and reads a copy: a page that can't be had must come back as a status, not a signal. */
static void test_object_map_of_more_than_there_is(void **state) {
  (void)state;
  const uint64_t size = UINT64_C(1) << 62; /* more than an address space */
  struct slc__header header = right_header();
  header.total_size = size;
  struct offer offer = offer_of(forge(&header, size, ALL_SEALS), SLC__READ_WRITE);
  offer.size = size;
  refused(offer, SLC_NO_MEMORY, "cannot map");
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

static void test_object_session_has_one_lock(void **state) {
  (void)state;
  int lock = -1, second = UNTOUCHED;
  check_status(slc__object_session_lock(session, &lock), SLC_OK);
  assert_int_equal(fcntl(lock, F_GETFD), FD_CLOEXEC);
  assert_int_equal(names_of(session), 1);
  check_status(slc__object_session_lock(session, &second), SLC_SYSTEM);
  assert_int_equal(errno, EEXIST);
  assert_int_equal(second, UNTOUCHED);
  assert_int_equal(names_of(session), 1);
  slc__object_session_unlock(session, lock);
  assert_int_equal(names_of(session), 0);
}

/* A broker in a child: locks its session, makes two objects, tells so, and stays until it is killed. */
static pid_t start_session(const uint8_t of[16]) {
  int told[2];
  assert_int_equal(pipe2(told, O_CLOEXEC), 0);
  pid_t parent = getpid(), child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    int lock = -1, fd[2];
    if (slc__object_session_lock(of, &lock) != SLC_OK) _exit(1);
    for (int i = 0; i < 2; i++)
      if (slc__object_create(slc__memory_plain(SLC__BACKEND_SHM), SLC__OBJECT_BELL, SIZE, of, &fd[i]) != SLC_OK)
        _exit(1);
    if (write(told[1], "", 1) != 1) _exit(1);
    close(told[1]);
    while (getppid() == parent) pause();
    _exit(1);
  }
  close(told[1]);
  char byte;
  assert_int_equal(read(told[0], &byte, 1), 1);
  close(told[0]);
  return child;
}

static void end_session(pid_t child) {
  kill(child, SIGKILL);
  int status = status_of_child(child);
  assert_true(WIFSIGNALED(status));
}

/* Other brokers start and die on this machine: one that is sweeping the same session has its lock, and the name that it
 * is at is left to it.  So also what a sweep counts is not ours alone. */
static void sweep_up(const uint8_t of[16]) {
  do slc__object_sweep();
  while (names_of(of) > 0);
}

static void test_object_sweep_takes_the_dead_and_leaves_the_living(void **state) {
  (void)state;
  pid_t dead = start_session(session), living = start_session(other_session);
  slc__object_sweep();
  assert_int_equal(names_of(session), 3);
  assert_int_equal(names_of(other_session), 3);
  end_session(dead);
  sweep_up(session);
  assert_int_equal(names_of(other_session), 3);
  end_session(living);
  sweep_up(other_session);
}

static void test_object_sweep_takes_objects_whose_lock_has_gone(void **state) {
  (void)state;
  int fd = make(SLC__BACKEND_SHM);
  sweep_up(session);
  close(fd);
}

static void test_object_sweep_leaves_what_is_not_ours(void **state) {
  (void)state;
  static const char *const names[] = {
      "slotcast-test",
      "slotcast-6f626a6563742074657374203030303",      /* a digit short */
      "slotcast-6f626a6563742074657374203030303100-0", /* two too many */
      "slotcast-6f626a656374207465737420303030310",    /* a digit where the dash belongs */
      "slotcast-6f626a65637420746573742030303031-",    /* no serial */
      "slotcast-6f626a65637420746573742030303031-0.bak",
      "slotcast-6f626a65637420746573742030303031.lock2",
      "slotcast-6F626A65637420746573742030303031-0",
      "notslotcast-6f626a65637420746573742030303031-0",
  };
  int directory = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  assert_true(directory >= 0);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    close(openat(directory, names[i], O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
  slc__object_sweep();
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (faccessat(directory, names[i], F_OK, 0) != 0) print_error("%s was removed\n", names[i]);
    assert_int_equal(unlinkat(directory, names[i], 0), 0);
  }
  close(directory);
}

/* Sessions begin while others sweep: whoever has the lock must find its file in place, the very one that it locked. */
enum { BEGINNINGS = 3000, SWEEPERS = 2 };

static bool lock_has_its_name(int lock) {
  struct stat by_descriptor, by_name;
  return fstat(lock, &by_descriptor) == 0 &&
         stat("/dev/shm/slotcast-6f626a65637420746573742030303031.lock", &by_name) == 0 &&
         by_descriptor.st_ino == by_name.st_ino;
}

static void test_object_sweep_never_takes_a_beginning_session(void **state) {
  (void)state;
  pid_t sweeper[SWEEPERS], parent = getpid();
  for (int i = 0; i < SWEEPERS; i++) {
    sweeper[i] = fork();
    assert_true(sweeper[i] >= 0);
    while (sweeper[i] == 0 && getppid() == parent) slc__object_sweep();
    if (sweeper[i] == 0) _exit(1);
  }
  int lost = 0;
  for (int i = 0; i < BEGINNINGS; i++) {
    int lock = -1;
    check_status(slc__object_session_lock(session, &lock), SLC_OK);
    for (int look = 0; look < 10; look++) lost += !lock_has_its_name(lock);
    slc__object_session_unlock(session, lock);
  }
  for (int i = 0; i < SWEEPERS; i++) end_session(sweeper[i]);
  assert_int_equal(lost, 0);
}

#define OBJECT_TEST(test) cmocka_unit_test_setup_teardown(test, note, nothing_left)

int main(void) {
  const struct CMUnitTest tests[] = {
      OBJECT_TEST(test_object_memfd_is_sealed_private_and_ready),
      OBJECT_TEST(test_object_memfd_keeps_its_size_and_seals),
      OBJECT_TEST(test_object_memory_is_allocated_when_asked),
      OBJECT_TEST(test_object_shm_is_a_private_allocated_file),
      OBJECT_TEST(test_object_unlink_removes_nothing_else),
      OBJECT_TEST(test_object_create_without_descriptors),
      OBJECT_TEST(test_object_create_of_an_impossible_size),
      OBJECT_TEST(test_object_create_in_a_full_file_system),
      OBJECT_TEST(test_object_reopen_is_the_same_object_without_writing),
      OBJECT_TEST(test_object_reopen_fails_cleanly),
      OBJECT_TEST(test_object_map_shares_memfd),
      OBJECT_TEST(test_object_map_shares_shm),
      OBJECT_TEST(test_object_map_writable_is_not_inherited),
      OBJECT_TEST(test_object_map_takes_a_right_forgery),
      OBJECT_TEST(test_object_map_refuses_a_missing_seal),
      OBJECT_TEST(test_object_map_of_what_is_sealed_against_writing),
      OBJECT_TEST(test_object_map_refuses_another_size),
      OBJECT_TEST(test_object_map_refuses_another_access_mode),
      OBJECT_TEST(test_object_map_refuses_what_is_no_memfd),
      OBJECT_TEST(test_object_map_refuses_huge_pages),
      OBJECT_TEST(test_object_map_refuses_other_pages),
      OBJECT_TEST(test_object_of_another_kind_is_in_small_pages),
      OBJECT_TEST(test_object_map_refuses_each_header_field),
      OBJECT_TEST(test_object_map_refuses_the_wrong_one_of_ours),
      OBJECT_TEST(test_object_map_refuses_foreign_shm),
      OBJECT_TEST(test_object_map_refuses_files_on_disk),
      OBJECT_TEST(test_object_map_of_more_than_there_is),
      OBJECT_TEST(test_object_session_has_one_lock),
      OBJECT_TEST(test_object_sweep_takes_the_dead_and_leaves_the_living),
      OBJECT_TEST(test_object_sweep_takes_objects_whose_lock_has_gone),
      OBJECT_TEST(test_object_sweep_leaves_what_is_not_ours),
      OBJECT_TEST(test_object_sweep_never_takes_a_beginning_session),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

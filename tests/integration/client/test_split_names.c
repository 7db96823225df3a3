/* Split channels in shm whose memory has names: publishers make the objects in a directory of the broker's, and find
 * each other's there, without asking.  The first name wins; who is killed in the middle leaves whole objects or none.
 *
 * Stands in for sendmsg, to count messages, and for linkat, to be killed or to do harm at a certain object. */
#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 600, SLOT_SIZE = 1000, PAGE = 4096, ELSE_UID = 65534 };

/* ---- standing in --------------------------------------------------------------------------------------------------
 */

static unsigned messages;

__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  messages++;
  return syscall(SYS_sendmsg, fd, message, flags);
}

/* What happens when object `at` is about to get its name, or has just got it. */
static struct {
  void (*harm)(int directory, const char *name);
  int at;
  bool after;
} plan;

__attribute__((visibility("default"))) int linkat(int old_directory, const char *old, int directory, const char *name,
                                                  int flags) {
  bool is_due = plan.harm != NULL && atoi(name) == plan.at;
  if (is_due && !plan.after) plan.harm(directory, name);
  int result = (int)syscall(SYS_linkat, old_directory, old, directory, name, flags);
  if (is_due && plan.after && result == 0) plan.harm(directory, name);
  return result;
}

/* ---- directories --------------------------------------------------------------------------------------------------
 */

struct found {
  int directories, objects, broken; /* broken: not a whole object, only ours */
};

/* The broker may be removing just that. */
static void look_into(const char *path, uint64_t size, struct found *found) {
  DIR *directory = opendir(path);
  if (directory == NULL) {
    assert_int_equal(errno, ENOENT);
    return;
  }
  found->directories++;
  struct stat info;
  assert_int_equal(fstat(dirfd(directory), &info), 0);
  assert_int_equal(info.st_mode & 0777, 0700);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    int status = fstatat(dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW);
    if (status != 0 && errno == ENOENT) continue;
    assert_int_equal(status, 0);
    found->objects++;
    bool is_whole = S_ISREG(info.st_mode) && (info.st_mode & 0777) == 0600 && (uint64_t)info.st_size == size &&
                    (uint64_t)info.st_blocks * 512 >= size;
    if (!is_whole) found->broken++;
  }
  closedir(directory);
}

/* What the names of this broker begin with: it has its lock open, from its first name on.  Stays as it was when it is
 * dead. */
static char prefix[64];

static void prefix_find(const struct test_broker *broker) {
  char path[64], target[512];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)broker->pid);
  DIR *directory = broker->pid != 0 ? opendir(path) : NULL;
  if (directory == NULL) return;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = '\0';
    char *end = strstr(target, ".lock");
    if (strncmp(target, "/dev/shm/slotcast-", 18) != 0 || end == NULL) continue;
    *end = '\0';
    snprintf(prefix, sizeof prefix, "%.50s-", target + strlen("/dev/shm/"));
  }
  closedir(directory);
}

/* Those of this test's broker. */
static struct found look(const struct test_broker *broker, uint64_t size) {
  struct found found = {0};
  char path[512];
  prefix_find(broker);
  assert_true(prefix[0] != '\0');
  DIR *shm = opendir("/dev/shm");
  assert_non_null(shm);
  for (struct dirent *entry; (entry = readdir(shm)) != NULL;) {
    struct stat info;
    if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0) continue;
    snprintf(path, sizeof path, "/dev/shm/%s", entry->d_name);
    if (lstat(path, &info) != 0 || !S_ISDIR(info.st_mode)) continue;
    look_into(path, size, &found);
  }
  closedir(shm);
  return found;
}

static void expect(const struct test_broker *broker, int directories, int objects, uint64_t size) {
  struct found found = look(broker, size);
  assert_int_equal(found.directories, directories);
  assert_int_equal(found.objects, objects);
  assert_int_equal(found.broken, 0);
}

static slc_publisher_options named_options(uint32_t slots, uint32_t each) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.backend = SLC_BACKEND_SHM;
  options.slots = slots;
  options.slot_size = SLOT_SIZE;
  options.slots_per_object = each;
  return options;
}

static void exchange(slc_publisher *publisher, slc_subscriber *subscriber, uint64_t from, uint64_t count, size_t size) {
  for (uint64_t n = from; n < from + count; n++) {
    send_pattern(publisher, n, size);
    take_pattern(subscriber, n, size);
  }
}

/* ---- the tests ----------------------------------------------------------------------------------------------------
 */

/* How many messages it takes to open the first publisher, the next and a subscriber. */
static void count_messages(uint32_t slots, unsigned counts[3]) {
  slc_client *client = client_open();
  slc_publisher_options options = named_options(slots, 1);
  unsigned before = messages;
  publisher_open(client, &options);
  counts[0] = messages - before;
  before = messages;
  publisher_open(client, &options);
  counts[1] = messages - before;
  before = messages;
  subscriber_open(client, NULL);
  counts[2] = messages - before;
  slc_client_close(client);
}

static void test_names_cost_no_messages(void **state) {
  (void)state;
  unsigned few[3], many[3];
  count_messages(16, few);
  count_messages(2100, many);
  assert_memory_equal(few, many, sizeof few);
  assert_int_equal(many[0], 3); /* to open, to ask for memory, to say that it is there */
  assert_int_equal(many[1], 2);
  assert_int_equal(many[2], 2);
}

static void test_names_go_with_their_generation(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open(), *watching = client_open();
  slc_publisher_options options = named_options(10, 4);
  slc_publisher *publisher = publisher_open(client, &options), *second;
  int descriptors = test_descriptors_of(broker->pid);
  struct found found = look(broker, 4L * PAGE);
  assert_int_equal(found.directories, 1);
  assert_int_equal(found.objects, 3);
  options.slots_per_object = 1; /* too late */
  second = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(watching, NULL);
  exchange(publisher, subscriber, 1, 25, 900);
  exchange(second, subscriber, 26, 25, 900);
  for (uint64_t i = 0, n = 51; i < 4; i++, n += 25) exchange(second, subscriber, n, 25, (size_t)5000 << i);
  found = look(broker, 0);
  assert_true(found.directories >= 1 && found.directories <= 3);
  assert_true(test_descriptors_of(broker->pid) <= descriptors + 8); /* and not one for each slot */
  slc_client_close(watching);
  slc_client_close(client);
  client = client_open();
  slc_client_close(client);
  assert_int_equal(look(broker, 0).directories, 0);
}

/* Whoever makes a generation decides how its memory is had; the others take what is there. */
static int own_allocations;

static int own_allocate(void *ctx, uint32_t generation, uint32_t slot, uint64_t size, slc_payload *ret_payload) {
  (void)generation;
  own_allocations++;
  *ret_payload = (slc_payload){.fd = *(int *)ctx, .offset = slot * size, .handle = slot};
  return 0;
}

static void test_names_and_callbacks_on_one_channel(void **state) {
  struct test_broker *broker = *state;
  int pool = memfd_create("slotcast-test-pool", MFD_CLOEXEC);
  assert_int_equal(ftruncate(pool, 1 << 20), 0);
  slc_publisher_options named = named_options(10, 1), with_callback = named;
  with_callback.allocate_payload = own_allocate;
  with_callback.callback_ctx = &pool;
  for (int named_first = 0; named_first < 2; named_first++) {
    slc_client *client = client_open();
    own_allocations = 0;
    slc_publisher *first = publisher_open(client, named_first ? &named : &with_callback);
    slc_publisher *second = publisher_open(client, named_first ? &with_callback : &named);
    slc_subscriber *subscriber = subscriber_open(client, NULL);
    assert_int_equal(own_allocations, named_first ? 0 : 10);
    assert_int_equal(look(broker, PAGE).directories, named_first);
    exchange(first, subscriber, 1, 15, 800);
    exchange(second, subscriber, 16, 15, 700);
    slc_client_close(client);
  }
  close(pool);
}

/* ---- killed in the middle -----------------------------------------------------------------------------------------
 */

static void be_killed(int directory, const char *name) {
  (void)directory;
  (void)name;
  kill(getpid(), SIGKILL);
}

/* A publisher in a process of its own that is killed at object `at`. */
static void kill_at(int at, bool after, bool grows) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    slc_publisher_options options = named_options(MANY, 1);
    slc_client *client = client_open();
    if (!grows) plan.harm = be_killed, plan.at = at, plan.after = after;
    slc_publisher *publisher = publisher_open(client, &options);
    plan.harm = be_killed, plan.at = at, plan.after = after;
    slc_loan loan;
    slc_publisher_loan(publisher, 5000, &loan);
    _exit(0);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The broker has seen that it is dead.  Never, when it does not: then the watchdog ends this. */
static void await_publishers(slc_client *client, uint32_t count) {
  for (uint32_t now = count + 1; now != count;) {
    slc_channel_info *info = NULL;
    check_ok(slc_channel_inspect(client, CHANNEL, &info));
    now = info->publishers;
    slc_channel_info_free(info);
  }
}

static void test_names_killed_in_the_middle(void **state) {
  struct test_broker *broker = *state;
  static const int at[] = {0, 1, 300, MANY - 1};
  slc_client *client = client_open();
  slc_channel_options shape = SLC_CHANNEL_OPTIONS_INIT;
  shape.split = 1;
  shape.backend = SLC_BACKEND_SHM;
  shape.slots = MANY;
  shape.slot_size = SLOT_SIZE;
  check_ok(slc_channel_create(client, CHANNEL, &shape));
  for (size_t i = 0; i < 2 * sizeof at / sizeof at[0]; i++) {
    kill_at(at[i / 2], i % 2, false);
    await_publishers(client, 0);
    expect(broker, 0, 0, 0); /* nobody wants it */
  }
  slc_publisher_options options = named_options(MANY, 1);
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
    kill_at(at[i], i % 2, true);
    await_publishers(client, 1);
    expect(broker, 1, MANY, PAGE); /* the channel stays as it was */
  }
  exchange(publisher, subscriber, 1, MANY + 10, 900);
  exchange(publisher, subscriber, MANY + 11, MANY + 10, 5000);
  slc_client_close(client);
  client = client_open();
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  expect(broker, 0, 0, 0);
  slc_client_close(client);
}

/* While one is stopped in the middle, another completes what there is, and the first goes on with that. */
static int stopped_at[2];

static void be_stopped(int directory, const char *name) {
  (void)directory;
  (void)name;
  char byte = 0;
  plan.harm = NULL;
  assert_int_equal(write(stopped_at[1], &byte, 1), 1);
  raise(SIGSTOP);
}

static void test_names_completed_by_another(void **state) {
  struct test_broker *broker = *state;
  assert_int_equal(pipe2(stopped_at, O_CLOEXEC), 0);
  slc_publisher_options options = named_options(MANY, 1);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    plan.harm = be_stopped, plan.at = 300;
    slc_client *client = client_open();
    slc_publisher *publisher = publisher_open(client, &options);
    for (int i = 0; i < MANY; i++) {
      if (slc_publisher_send(publisher, "from the first", 14, NULL) != 0) _exit(1);
    }
    slc_client_close(client);
    _exit(0);
  }
  char byte;
  assert_int_equal(read(stopped_at[0], &byte, 1), 1);
  int status;
  assert_int_equal(waitpid(child, &status, WUNTRACED), child);
  assert_true(WIFSTOPPED(status));
  expect(broker, 1, 300, PAGE);
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, &options);
  expect(broker, 1, MANY, PAGE);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  exchange(publisher, subscriber, 1, MANY, 900);
  kill(child, SIGCONT);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  slc_message message;
  check_ok(slc_subscriber_take(subscriber, &message));
  assert_memory_equal(message.data, "from the first", 14); /* one set of payloads */
  check_ok(slc_subscriber_release(subscriber, &message));
  slc_client_close(client);
  close(stopped_at[0]);
  close(stopped_at[1]);
}

/* The directory that there is. */
static void directory_path(char path[512]) {
  path[0] = '\0';
  DIR *shm = opendir("/dev/shm");
  assert_non_null(shm);
  for (struct dirent *entry; (entry = readdir(shm)) != NULL;) {
    struct stat info;
    if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0) continue;
    if (fstatat(dirfd(shm), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode))
      snprintf(path, 512, "/dev/shm/%s", entry->d_name);
  }
  closedir(shm);
}

/* Its dead are found by the next broker, directories and all. */
static void test_names_after_all_were_killed(void **state) {
  struct test_broker *broker = *state;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    slc_publisher_options options = named_options(MANY, 1);
    publisher_open(client_open(), &options);
    kill(getppid(), SIGUSR1);
    for (;;) pause();
  }
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  int signal;
  assert_int_equal(sigwait(&signals, &signal), 0);
  expect(broker, 1, MANY, PAGE);
  char path[512];
  directory_path(path);
  assert_int_equal(access(path, F_OK), 0);
  test_broker_kill(broker);
  kill(child, SIGKILL);
  assert_int_equal(waitpid(child, NULL, 0), child);
  assert_int_equal(test_broker_restart(broker), 0);
  while (access(path, F_OK) == 0) sched_yield(); /* the broker of another test was first, and is still at it */
}

/* ---- what is in the way -------------------------------------------------------------------------------------------
 */

static void put_file(int directory, const char *name) {
  int fd = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0 && ftruncate(fd, PAGE / 2) == 0) close(fd);
}

static void put_fifo(int directory, const char *name) {
  mkfifoat(directory, name, 0600);
}

static void put_link(int directory, const char *name) {
  symlinkat("/etc/passwd", directory, name);
}

static void put_directory(int directory, const char *name) {
  mkdirat(directory, name, 0700);
}

static void put_foreign(int directory, const char *name) {
  int fd = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0 && ftruncate(fd, PAGE) == 0 && fchown(fd, ELSE_UID, ELSE_UID) == 0) close(fd);
}

static void test_names_in_the_way(void **state) {
  struct test_broker *broker = *state;
  static void (*const harms[])(int directory, const char *name) = {put_file, put_fifo, put_link, put_directory,
                                                                   put_foreign};
  slc_client *client = client_open();
  slc_publisher_options options = named_options(MANY, 1);
  for (size_t i = 0; i < sizeof harms / sizeof harms[0]; i++) {
    if (harms[i] == put_foreign && geteuid() != 0) continue;
    plan.harm = harms[i], plan.at = 200, plan.after = false;
    slc_publisher *publisher;
    check_status(slc_publisher_open(client, CHANNEL, &options, &publisher), SLC_INVALID);
    assert_non_null(strstr(slc_error_detail(), "200"));
    plan.harm = NULL;
    expect(broker, 0, 0, 0);
  }
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  exchange(publisher, subscriber, 1, 2 * MANY, 900);
  slc_client_close(client);
}

/* An object that goes before the broker was told of all is missed by the broker; nobody uses such a generation. */
static void take_away(int directory, const char *name) {
  (void)name;
  unlinkat(directory, "7", 0);
}

static void test_names_are_counted_by_the_broker(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_publisher_options options = named_options(20, 1);
  plan.harm = take_away, plan.at = 19, plan.after = true;
  slc_publisher *publisher;
  check_status(slc_publisher_open(client, CHANNEL, &options, &publisher), SLC_INVALID);
  assert_non_null(strstr(slc_error_detail(), "object 7"));
  plan.harm = NULL;
  expect(broker, 0, 0, 0);
  slc_client_close(client);
}

int main(void) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_names_cost_no_messages),
      BROKER_TEST(test_names_go_with_their_generation),
      BROKER_TEST(test_names_and_callbacks_on_one_channel),
      BROKER_TEST(test_names_killed_in_the_middle),
      BROKER_TEST(test_names_completed_by_another),
      BROKER_TEST(test_names_after_all_were_killed),
      BROKER_TEST(test_names_in_the_way),
      BROKER_TEST(test_names_are_counted_by_the_broker),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Of what memory a channel is made: backends of its own, whatever the broker's; huge pages; prefaulted and locked
 * mappings.  What is mapped is seen in /proc, not believed. */
#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HUGE (UINT64_C(2) << 20)
#define FREE_HUGE "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
enum { OTHER_UID = 65534, SLOTS = 64, SLOT_SIZE = 64 * 1024, LOCK = 1 /* the session's own name */ };

/* ---- looking ----------------------------------------------------------------------------------------------------- */

static void check_sentence(const char *word) {
  if (strstr(slc_error_detail(), word) == NULL) fail_msg("\"%s\" does not say \"%s\"", slc_error_detail(), word);
}

/* Sums over the mappings of Slotcast's objects in this process, KiB. */
struct mapped {
  uint64_t memfds, files; /* how many, by what they are */
  uint64_t size, resident, locked;
  int huge_pages, transparent; /* mappings that are of huge pages, or are advised to be */
};

static bool begins_mapping(const char *line, bool *ret_is_ours, struct mapped *ret) {
  unsigned long long from, to;
  if (sscanf(line, "%llx-%llx ", &from, &to) != 2) return false;
  bool is_memfd = strstr(line, "/memfd:slotcast") != NULL, is_file = strstr(line, "/slotcast-") != NULL;
  *ret_is_ours = is_memfd || is_file;
  ret->memfds += is_memfd;
  ret->files += is_file;
  return true;
}

/* By the process as a whole: what is said of a mapping is shared out among those who have it, too. */
static uint64_t locked_by_this_process(void) {
  char line[512];
  unsigned long long kib = 0;
  FILE *status = fopen("/proc/self/status", "re");
  assert_non_null(status);
  while (fgets(line, sizeof line, status) != NULL && sscanf(line, "VmLck: %llu", &kib) != 1) {
  }
  fclose(status);
  return kib;
}

static struct mapped look_at_mappings(void) {
  struct mapped sums = {0};
  char line[512];
  bool is_ours = false;
  FILE *smaps = fopen("/proc/self/smaps", "re");
  assert_non_null(smaps);
  while (fgets(line, sizeof line, smaps) != NULL) {
    unsigned long long kib;
    if (begins_mapping(line, &is_ours, &sums) || !is_ours) continue;
    if (sscanf(line, "Size: %llu", &kib) == 1) sums.size += kib;
    if (sscanf(line, "Rss: %llu", &kib) == 1) sums.resident += kib;
    if (sscanf(line, "KernelPageSize: %llu", &kib) == 1 && kib > 4) sums.huge_pages++;
    if (strncmp(line, "VmFlags:", strlen("VmFlags:")) == 0 && strstr(line, " hg") != NULL) sums.transparent++;
  }
  fclose(smaps);
  sums.locked = locked_by_this_process();
  return sums;
}

static slc_channel_info look(slc_client *client) {
  slc_channel_info *info, copy;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  copy = *info;
  slc_channel_info_free(info);
  return copy;
}

/* KiB that the broker's objects have allocated. */
static uint64_t allocated_by(const struct test_broker *broker) {
  char path[64], link[128];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)broker->pid);
  DIR *directory = opendir(path);
  assert_non_null(directory);
  uint64_t blocks = 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    struct stat info;
    ssize_t length = readlinkat(dirfd(directory), entry->d_name, link, sizeof link - 1);
    if (length <= 0) continue;
    link[length] = '\0';
    if (strstr(link, "slotcast") == NULL || fstatat(dirfd(directory), entry->d_name, &info, 0) != 0) continue;
    if (S_ISREG(info.st_mode)) blocks += (uint64_t)info.st_blocks;
  }
  closedir(directory);
  return blocks / 2;
}

static int broker_backend(void) {
  return strcmp(test_backend(), "shm") == 0 ? SLC_BACKEND_SHM : SLC_BACKEND_MEMFD;
}
static int other_backend(void) {
  return broker_backend() == SLC_BACKEND_SHM ? SLC_BACKEND_MEMFD : SLC_BACKEND_SHM;
}
static const char *name_of(int backend) {
  return backend == SLC_BACKEND_SHM ? "shm" : "memfd";
}

/* Of a channel of 4 MiB. */
static slc_publisher_options large_options(void) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  return options;
}

/* ---- other processes --------------------------------------------------------------------------------------------- */

typedef int (*child_fn)(slc_client *client);

/* Runs `work` with a client of its own, as another user when `uid` is not 0; its result, 100 where it came to nothing.
 */
static pid_t child_start(child_fn work, uid_t uid) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child > 0) return child;
  slc_client *client = NULL;
  if (uid != 0 && setresuid(uid, uid, uid) != 0) _exit(100);
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* some go on for ever; after setresuid, which clears it */
  if (slc_client_open(NULL, &client) != 0) _exit(100);
  int result = work(client);
  slc_client_close(client);
  _exit(result);
}

static int child_result(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

static int run_child(child_fn work, uid_t uid) {
  return child_result(child_start(work, uid));
}

/* Takes messages of any size, checks that each byte is as it should be, until one of 1 byte comes. */
static int take_until_end(slc_client *client) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *subscriber = NULL;
  options.start = SLC_START_OLDEST;
  options.reliable = 1;
  if (slc_subscriber_open(client, CHANNEL, &options, &subscriber) != 0) return 1;
  for (uint64_t ordinal = 1;; ordinal++) {
    slc_message message;
    int status;
    while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY)
      slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER);
    if (status != 0 || message.ordinal != ordinal) return 2;
    for (size_t i = 0; i < message.size; i++) {
      if (((const uint8_t *)message.data)[i] != pattern(ordinal, i)) return 3;
    }
    bool is_last = message.size == 1;
    slc_subscriber_release(subscriber, &message);
    if (is_last) break;
  }
  slc_subscriber_close(subscriber);
  return 0;
}

static void send_waiting(slc_publisher *publisher, uint64_t ordinal, size_t size) {
  slc_loan loan;
  int status;
  while ((status = slc_publisher_loan(publisher, size, &loan)) == SLC_WOULD_BLOCK)
    check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  check_ok(status);
  for (size_t i = 0; i < size; i++) ((uint8_t *)loan.data)[i] = pattern(ordinal, i);
  check_ok(slc_publisher_publish(publisher, &loan, size, NULL));
}

/* Through a whole round of slots, and beyond what they hold, to a subscriber in another process. */
static void send_everything(slc_client *client, slc_publisher_options options) {
  options.reliable = 1;
  options.needs_subscriber = 1;
  slc_publisher *publisher = publisher_open(client, &options);
  pid_t child = child_start(take_until_end, 0);
  uint64_t ordinal = 1;
  for (; ordinal <= SLOTS + 3; ordinal++)
    send_waiting(publisher, ordinal, ordinal % 8 == 0 ? (size_t)SLOT_SIZE : 100 + (size_t)ordinal);
  send_waiting(publisher, ordinal++, (size_t)SLOT_SIZE * 2); /* grows */
  send_waiting(publisher, ordinal, 1);
  assert_int_equal(child_result(child), 0);
  slc_publisher_close(publisher);
}

/* ---- backends ---------------------------------------------------------------------------------------------------- */

static void test_channel_has_a_backend_of_its_own(void **state) {
  const struct test_broker *broker = *state;
  slc_client *client = client_open(); /* by now the broker has made what it has for itself */
  int before = test_broker_names(broker);
  slc_publisher_options options = large_options();
  options.backend = other_backend();
  slc_publisher *publisher = publisher_open(client, &options);
  struct mapped mapped = look_at_mappings();
  assert_int_equal(look(client).backend, other_backend());
  assert_int_equal(mapped.memfds > 0, other_backend() == SLC_BACKEND_MEMFD);
  assert_int_equal(mapped.files > 0, other_backend() == SLC_BACKEND_SHM);
  assert_int_equal(test_broker_names(broker) - before, other_backend() == SLC_BACKEND_SHM ? 2 + LOCK : 0);
  slc_publisher_close(publisher);
  send_everything(client, options);
  slc_client_close(client);
}

static void test_channel_without_a_wish_has_the_brokers(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = large_options();
  slc_publisher *publisher = publisher_open(client, &options);
  assert_int_equal(look(client).backend, broker_backend());
  assert_int_equal(look(client).pages, SLC_PAGES_SMALL);
  struct mapped mapped = look_at_mappings();
  assert_int_equal(mapped.memfds > 0, broker_backend() == SLC_BACKEND_MEMFD);
  assert_int_equal(mapped.files > 0, broker_backend() == SLC_BACKEND_SHM);
  slc_publisher_close(publisher);
  slc_client_close(client);
}

/* Who waits learns it with the shape, too. */
static void test_subscriber_that_came_first_learns_the_backend(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_publisher_options options = large_options();
  options.backend = other_backend();
  slc_publisher *publisher = publisher_open(client, &options);
  for (uint64_t i = 1; i <= 3; i++) {
    size_t size = SLOT_SIZE * i; /* grows twice */
    send_pattern(publisher, i, size);
    check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
    take_pattern(subscriber, i, size);
  }
  slc_client_close(client);
}

static void test_another_backend_is_refused(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_channel_options created = SLC_CHANNEL_OPTIONS_INIT;
  slc_publisher *none = NULL, *first;
  options.backend = SLC_BACKEND_SHM + 1;
  check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_INVALID);
  options.backend = 0;
  options.pages = 3;
  check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_INVALID);
  options.pages = 0;
  options.backend = other_backend();
  first = publisher_open(client, &options);
  char sentence[64];
  snprintf(sentence, sizeof sentence, "kept in %s, asked for was %s", name_of(other_backend()),
           name_of(broker_backend()));
  options.backend = created.backend = broker_backend();
  check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_INCOMPATIBLE);
  check_sentence(sentence);
  check_status(slc_channel_create(client, CHANNEL, &created), SLC_INCOMPATIBLE);
  check_sentence(sentence);
  options.backend = 0;
  options.pages = SLC_PAGES_TRANSPARENT;
  check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_INCOMPATIBLE);
  check_sentence("kept in small pages, asked for were transparent huge pages");
  options.pages = SLC_PAGES_SMALL;
  slc_publisher_close(publisher_open(client, &options));
  created.backend = other_backend();
  check_ok(slc_channel_create(client, CHANNEL, &created));
  slc_publisher_close(first);
  publisher_open(client, NULL); /* as it is */
  assert_int_equal(look(client).backend, other_backend());
  slc_client_close(client);
}

/* Names, modes, and that they go with the channel.  While others make and remove files there, the same one may be read
 * twice. */
static int check_names(const char *prefix) {
  enum { NAMES = 64 };
  ino_t seen[NAMES];
  DIR *directory = opendir("/dev/shm");
  assert_non_null(directory);
  int count = 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    struct stat info;
    if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0) continue;
    assert_int_equal(fstatat(dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(info.st_mode, S_IFREG | 0600);
    assert_int_equal(info.st_uid, geteuid());
    int i = 0;
    while (i < count && seen[i] != info.st_ino) i++;
    if (i < count) continue;
    assert_true(count < NAMES);
    seen[count++] = info.st_ino;
  }
  closedir(directory);
  return count;
}

static void session_of_mappings(char prefix[64]) {
  char line[512];
  FILE *maps = fopen("/proc/self/maps", "re");
  assert_non_null(maps);
  prefix[0] = '\0';
  while (fgets(line, sizeof line, maps) != NULL) {
    const char *name = strstr(line, "/dev/shm/slotcast-");
    if (name != NULL) snprintf(prefix, 64, "%.41s", name + strlen("/dev/shm/"));
  }
  fclose(maps);
  assert_int_equal(strlen(prefix), 41);
}

static void test_names_go_with_their_channel(void **state) {
  const struct test_broker *broker = *state;
  slc_client *client = client_open();
  int before = broker_backend() == SLC_BACKEND_SHM ? test_broker_names(broker) : LOCK;
  slc_publisher_options options = large_options();
  options.backend = SLC_BACKEND_SHM;
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  send_pattern(publisher, 1, SLOT_SIZE * 4);
  take_pattern(subscriber, 1, SLOT_SIZE * 4);
  char prefix[64];
  session_of_mappings(prefix);
  assert_int_equal(check_names(prefix), before + 5); /* control, buffers, generation, table, bell */
  slc_publisher_close(publisher);
  slc_subscriber_close(subscriber);
  assert_int_equal(check_names(prefix), before);
  slc_client_close(client);
}

static int publish_and_stay(slc_client *client) {
  slc_publisher_options options = large_options();
  slc_publisher *publisher = NULL;
  slc_subscriber *subscriber = NULL;
  options.backend = SLC_BACKEND_SHM;
  if (slc_publisher_open(client, CHANNEL, &options, &publisher) != 0) return 1;
  if (slc_subscriber_open(client, CHANNEL, NULL, &subscriber) != 0) return 1;
  uint64_t wide[SLOT_SIZE / 4];
  memset(wide, 1, sizeof wide);
  while (slc_publisher_send(publisher, wide, sizeof wide, NULL) == 0) {
  }
  return 1;
}

/* Nobody is left to tidy up, until there is a broker again. */
static void test_names_go_after_all_were_killed(void **state) {
  struct test_broker *broker = *state;
  pid_t child = child_start(publish_and_stay, 0);
  slc_client *client = client_open();
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_message message;
  check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  while (slc_subscriber_take(subscriber, &message) != 0) check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  char prefix[64];
  session_of_mappings(prefix);
  slc_client_close(client);
  assert_true(check_names(prefix) >= 2 + LOCK); /* later the broker of another test may be sweeping, too */
  kill(child, SIGKILL);
  test_broker_kill(broker);
  child_result(child);
  assert_int_equal(test_broker_restart(broker), 0);
  assert_int_equal(check_names(prefix), 0);
}

/* ---- for whom ---------------------------------------------------------------------------------------------------- */

static int open_both(slc_client *client) {
  slc_publisher *publisher = NULL;
  slc_subscriber *subscriber = NULL;
  int published = slc_publisher_open(client, CHANNEL, NULL, &publisher);
  int subscribed = slc_subscriber_open(client, CHANNEL, NULL, &subscriber);
  if (published == 0 && subscribed == 0) return 0;
  return published == SLC_DENIED && subscribed == SLC_DENIED && strstr(slc_error_detail(), "/dev/shm") != NULL ? 1 : 2;
}

static int make_in_shm(slc_client *client) {
  slc_channel_options options = SLC_CHANNEL_OPTIONS_INIT;
  options.backend = SLC_BACKEND_SHM;
  return slc_channel_create(client, CHANNEL, &options) == SLC_DENIED ? 0 : 1;
}

/* Needs root, to be somebody else, and a broker that serves others. */
static void test_shm_is_for_the_brokers_user(void **state) {
  const struct test_broker *broker = *state;
  if (geteuid() != 0 || broker_backend() != SLC_BACKEND_MEMFD) skip();
  assert_int_equal(chmod(broker->directory, 0711), 0);
  assert_int_equal(chmod(broker->socket, 0666), 0);
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher *publisher = publisher_open(client, &options);
  assert_int_equal(run_child(open_both, OTHER_UID), 0);
  slc_publisher_close(publisher);
  options.backend = SLC_BACKEND_SHM;
  publisher = publisher_open(client, &options);
  assert_int_equal(run_child(open_both, OTHER_UID), 1);
  assert_int_equal(run_child(open_both, 0), 0);
  slc_publisher_close(publisher);
  assert_int_equal(run_child(make_in_shm, OTHER_UID), 0);
  slc_client_close(client);
}

static int subscribe_and_stay(slc_client *client) {
  slc_subscriber *subscriber = NULL;
  if (slc_subscriber_open(client, CHANNEL, NULL, &subscriber) != 0) return 1;
  return slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER) == 0 ? 0 : 2;
}

/* Who waits must not be given what it can't trust. */
static void test_shm_is_refused_where_another_user_waits(void **state) {
  const struct test_broker *broker = *state;
  if (geteuid() != 0 || broker_backend() != SLC_BACKEND_MEMFD) skip();
  assert_int_equal(chmod(broker->directory, 0711), 0);
  assert_int_equal(chmod(broker->socket, 0666), 0);
  slc_client *client = client_open();
  pid_t child = child_start(subscribe_and_stay, OTHER_UID);
  slc_channel_info *info;
  while (slc_channel_inspect(client, CHANNEL, &info) != 0 || info->subscribers == 0) assert_true(kill(child, 0) == 0);
  slc_channel_info_free(info);
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher *none;
  options.backend = SLC_BACKEND_SHM;
  check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_DENIED);
  options.backend = SLC_BACKEND_MEMFD;
  slc_publisher *publisher = publisher_open(client, &options);
  send_pattern(publisher, 1, 10);
  assert_int_equal(child_result(child), 0);
  slc_client_close(client);
}

/* ---- there before it is used ------------------------------------------------------------------------------------- */

/* All that has been added is there, but for the few pages that the kernel may have taken back meanwhile. */
static bool is_added_resident(const struct mapped *before, const struct mapped *now) {
  uint64_t size = now->size - before->size;
  return now->resident + size / 64 >= before->resident + size;
}

static void check_prefaulted(int backend) {
  slc_client *client = client_open();
  slc_publisher_options options = large_options();
  options.backend = backend;
  slc_publisher *publisher = publisher_open(client, &options);
  struct mapped lazy = look_at_mappings();
  assert_true(lazy.size >= SLOTS * SLOT_SIZE / 1024);
  assert_true(lazy.resident < lazy.size / 2);
  assert_int_equal(lazy.locked, 0);
  options.prefault = 1;
  slc_publisher *second = publisher_open(client, &options);
  struct mapped eager = look_at_mappings();
  assert_true(is_added_resident(&lazy, &eager));
  send_pattern(second, 1, SLOT_SIZE * 2); /* and what it grows by */
  eager = look_at_mappings();
  assert_true(is_added_resident(&lazy, &eager));
  slc_subscriber_options reads = SLC_SUBSCRIBER_OPTIONS_INIT;
  reads.prefault = 1;
  reads.start = SLC_START_OLDEST;
  slc_subscriber *subscriber = subscriber_open(client, &reads);
  take_pattern(subscriber, 1, SLOT_SIZE * 2);
  struct mapped both = look_at_mappings();
  assert_true(is_added_resident(&eager, &both));
  slc_publisher_close(publisher);
  slc_client_close(client);
}

static void test_prefault_leaves_nothing_to_be_touched(void **state) {
  (void)state;
  check_prefaulted(broker_backend());
  check_prefaulted(other_backend());
}

static void test_created_prefaulted_is_allocated(void **state) {
  const struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_channel_options options = SLC_CHANNEL_OPTIONS_INIT;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  options.backend = SLC_BACKEND_MEMFD;
  uint64_t before = allocated_by(broker);
  check_ok(slc_channel_create(client, CHANNEL, &options));
  uint64_t lazily = allocated_by(broker);
  assert_true(lazily - before < SLOTS * SLOT_SIZE / 1024);
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  options.prefault = 1;
  check_ok(slc_channel_create(client, CHANNEL, &options));
  assert_true(allocated_by(broker) - before >= SLOTS * SLOT_SIZE / 1024);
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

/* ---- locked ------------------------------------------------------------------------------------------------------ */

/* Sanitizers have an mlock that does nothing. */
static bool does_lock(void) {
  static _Alignas(4096) uint8_t page[4096];
  bool is_locked = mlock(page, sizeof page) == 0 && locked_by_this_process() > 0;
  munlock(page, sizeof page);
  if (!is_locked) print_message("skipped: mlock does nothing here\n");
  return is_locked;
}

static void test_locked_memory_is_locked(void **state) {
  (void)state;
  if (!does_lock()) skip();
  struct rlimit limit;
  assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
  if (geteuid() != 0 && limit.rlim_cur < UINT64_C(16) << 20) skip();
  slc_client *client = client_open();
  slc_publisher_options options = large_options();
  slc_subscriber_options reads = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.lock_memory = reads.lock_memory = 1;
  slc_publisher *publisher = publisher_open(client, &options);
  struct mapped mapped = look_at_mappings();
  assert_int_equal(mapped.locked, mapped.size);
  slc_publisher_close(publisher);
  assert_int_equal(look_at_mappings().locked, 0);
  options.lock_memory = 0;
  publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, &reads);
  mapped = look_at_mappings();
  assert_in_range(mapped.locked, SLOTS * SLOT_SIZE / 1024, mapped.size - SLOTS * SLOT_SIZE / 1024);
  send_pattern(publisher, 1, 10);
  take_pattern(subscriber, 1, 10);
  slc_client_close(client);
}

static void lose_the_right_to_lock(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{0}};
  struct rlimit limit = {.rlim_cur = 65536, .rlim_max = 65536};
  if (syscall(SYS_capget, &header, data) != 0) _exit(100);
  data[CAP_IPC_LOCK / 32].effective &= ~(1U << (CAP_IPC_LOCK % 32));
  if (syscall(SYS_capset, &header, data) != 0 || setrlimit(RLIMIT_MEMLOCK, &limit) != 0) _exit(100);
}

static int lock_too_much(slc_client *client) {
  slc_publisher_options options = large_options();
  slc_subscriber_options reads = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_publisher *publisher = NULL;
  slc_subscriber *subscriber = NULL;
  options.lock_memory = reads.lock_memory = 1;
  lose_the_right_to_lock();
  if (slc_publisher_open(client, CHANNEL, &options, &publisher) != SLC_NO_MEMORY || publisher != NULL) return 1;
  if (strstr(slc_error_detail(), "RLIMIT_MEMLOCK") == NULL) return 2;
  if (look_at_mappings().size != 0) return 3;
  options.lock_memory = 0;
  if (slc_publisher_open(client, CHANNEL, &options, &publisher) != 0) return 4;
  if (slc_subscriber_open(client, CHANNEL, &reads, &subscriber) != SLC_NO_MEMORY || subscriber != NULL) return 5;
  return look(client).subscribers == 0 ? 0 : 6; /* what the broker had given is given back */
}

static void test_locking_without_the_right_to(void **state) {
  (void)state;
  if (!does_lock()) skip();
  assert_int_equal(run_child(lock_too_much, 0), 0);
}

/* ---- huge pages -------------------------------------------------------------------------------------------------- */

static uint64_t free_huge_pages(void) {
  unsigned long long count = 0;
  FILE *file = fopen(FREE_HUGE, "re");
  if (file == NULL) return 0;
  if (fscanf(file, "%llu", &count) != 1) count = 0;
  fclose(file);
  return count;
}

/* More than there are, on a machine with or without. */
static void test_huge_pages_that_are_not_there(void **state) {
  (void)state;
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher *none = NULL;
  options.backend = SLC_BACKEND_MEMFD;
  options.slots = 4;
  options.slot_size = (free_huge_pages() + 1) * HUGE / 4;
  options.pages = HUGE;
  if (access(FREE_HUGE, F_OK) == 0) {
    check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_NO_MEMORY);
    check_sentence("raise vm.nr_hugepages");
  }
  options.pages = UINT64_C(1) << 33; /* no machine has those */
  check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_NO_MEMORY);
  check_sentence("/sys/kernel/mm/hugepages");
  options.backend = SLC_BACKEND_SHM;
  check_status(slc_publisher_open(client, CHANNEL, &options, &none), SLC_NO_MEMORY);
  check_sentence("mount -t hugetlbfs");
  assert_null(none);
  slc_channel_info *info;
  check_status(slc_channel_inspect(client, CHANNEL, &info), SLC_NOT_FOUND);
  options.pages = 0; /* nothing stayed of what failed */
  options.slot_size = 0;
  slc_publisher_close(publisher_open(client, &options));
  slc_client_close(client);
}

/* Where the machine has some: `sysctl vm.nr_hugepages=32`; for shm a hugetlbfs, too. */
static void send_in_huge_pages(const struct test_broker *broker, int backend) {
  slc_client *client = client_open();
  slc_publisher_options options = large_options();
  slc_publisher *publisher = NULL;
  uint64_t before = free_huge_pages();
  options.backend = backend;
  options.pages = HUGE;
  int status = before >= 16 ? slc_publisher_open(client, CHANNEL, &options, &publisher) : SLC_NO_MEMORY;
  if (status == SLC_NO_MEMORY) {
    print_message("skipped: no 16 huge pages of 2 MiB for %s\n", name_of(backend));
    slc_client_close(client);
    skip();
  }
  check_ok(status);
  assert_int_equal(look(client).pages, HUGE);
  assert_int_equal(look_at_mappings().huge_pages, 1);
  assert_true(free_huge_pages() < before);
  assert_true(look(client).memory % HUGE != 0); /* the log and the tables are in small ones */
  slc_publisher_close(publisher);
  assert_int_equal(free_huge_pages(), before);
  send_everything(client, options);
  if (geteuid() == 0 && broker_backend() == SLC_BACKEND_MEMFD) {
    assert_int_equal(chmod(broker->directory, 0711), 0);
    assert_int_equal(chmod(broker->socket, 0666), 0);
    publisher = publisher_open(client, &options);
    assert_int_not_equal(run_child(open_both, OTHER_UID), 0);
    slc_publisher_close(publisher);
  }
  slc_client_close(client);
  assert_int_equal(free_huge_pages(), before);
}

static void test_huge_pages_of_memfds(void **state) {
  send_in_huge_pages(*state, SLC_BACKEND_MEMFD);
}

static void test_huge_pages_of_a_mount(void **state) {
  send_in_huge_pages(*state, SLC_BACKEND_SHM);
}

static char huge_name[256]; /* of the file of huge pages that this process has mapped */

static void huge_name_find(void) {
  char line[512];
  FILE *maps = fopen("/proc/self/maps", "re");
  assert_non_null(maps);
  huge_name[0] = '\0';
  while (fgets(line, sizeof line, maps) != NULL) {
    const char *path = strchr(line, '/');
    if (path == NULL || strstr(path, "/slotcast-") == NULL || strncmp(path, "/dev/shm/", strlen("/dev/shm/")) == 0)
      continue;
    snprintf(huge_name, sizeof huge_name, "%.*s", (int)strcspn(path, "\n"), path);
  }
  fclose(maps);
}

static void test_huge_names_go_after_all_were_killed(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_publisher_options options = large_options();
  slc_publisher *publisher = NULL;
  options.backend = SLC_BACKEND_SHM;
  options.pages = HUGE;
  int status = free_huge_pages() >= 16 ? slc_publisher_open(client, CHANNEL, &options, &publisher) : SLC_NO_MEMORY;
  if (status == SLC_NO_MEMORY) {
    print_message("skipped: no 16 huge pages of 2 MiB in a mount\n");
    slc_client_close(client);
    skip();
  }
  check_ok(status);
  huge_name_find();
  struct stat info;
  assert_int_equal(stat(huge_name, &info), 0);
  assert_int_equal(info.st_mode, S_IFREG | 0600);
  test_broker_kill(broker);
  slc_client_close(client);
  assert_int_equal(test_broker_restart(broker), 0);
  while (access(huge_name, F_OK) == 0) sched_yield(); /* the broker of another test may have been first */
}

/* Either the kernel may, and is asked, or the sentence says where it is told so. */
static void check_transparent(int backend, const char *word) {
  slc_client *client = client_open();
  slc_publisher_options options = large_options();
  slc_publisher *publisher;
  options.backend = backend;
  options.pages = SLC_PAGES_TRANSPARENT;
  options.prefault = 1;
  int status = slc_publisher_open(client, CHANNEL, &options, &publisher);
  if (status == 0) {
    assert_int_equal(look(client).pages, SLC_PAGES_TRANSPARENT);
    assert_int_equal(look_at_mappings().transparent, 1); /* the log and the tables are in small ones */
    slc_publisher_close(publisher);
    send_everything(client, options);
  } else {
    check_status(status, SLC_NO_MEMORY);
    check_sentence(word);
  }
  slc_client_close(client);
}

static void test_transparent_huge_pages_or_what_to_set(void **state) {
  (void)state;
  check_transparent(SLC_BACKEND_MEMFD, "shmem_enabled");
  check_transparent(SLC_BACKEND_SHM, "huge");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_channel_has_a_backend_of_its_own),
      BROKER_TEST(test_channel_without_a_wish_has_the_brokers),
      BROKER_TEST(test_subscriber_that_came_first_learns_the_backend),
      BROKER_TEST(test_another_backend_is_refused),
      BROKER_TEST(test_names_go_with_their_channel),
      BROKER_TEST(test_names_go_after_all_were_killed),
      BROKER_TEST(test_shm_is_for_the_brokers_user),
      BROKER_TEST(test_shm_is_refused_where_another_user_waits),
      BROKER_TEST(test_prefault_leaves_nothing_to_be_touched),
      BROKER_TEST(test_created_prefaulted_is_allocated),
      BROKER_TEST(test_locked_memory_is_locked),
      BROKER_TEST(test_locking_without_the_right_to),
      BROKER_TEST(test_huge_pages_that_are_not_there),
      BROKER_TEST(test_huge_pages_of_memfds),
      BROKER_TEST(test_huge_pages_of_a_mount),
      BROKER_TEST(test_huge_names_go_after_all_were_killed),
      BROKER_TEST(test_transparent_huge_pages_or_what_to_set),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Memory of the application's own in split channels, and what goes wrong with it: callbacks that fail, descriptors that
 * run out, publishers that are killed in the middle. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

enum { SLOTS = 64, MANY = 600, SLOT_SIZE = 1000, STRIDE = 1024, POOL_OFFSET = 8192 };

/* ---- a pool, as an application may have one ---------------------------------------------------------------------- */

/* One file for all slots: slot s of generation g at some offset, its handle 1000 * g + s. */
struct pool {
  int fd;
  uint64_t used;    /* bytes handed out */
  uint32_t fail_at; /* allocations until one fails; 0: none does */
  bool is_fatal;    /* that one kills this process */
  uint32_t allocated, kept, freed, mapped, unmapped;
};

static int pool_allocate(void *ctx, uint32_t generation, uint32_t slot, uint64_t size, slc_payload *ret_payload) {
  struct pool *pool = ctx;
  if (pool->fail_at != 0 && pool->allocated + 1 == pool->fail_at) {
    if (pool->is_fatal) kill(getpid(), SIGKILL);
    return -1;
  }
  pool->allocated++;
  assert_int_equal(size % 128, 0);
  *ret_payload = (slc_payload){.fd = pool->fd, .offset = POOL_OFFSET + pool->used, .handle = 1000 * generation + slot};
  pool->used += size;
  return 0;
}

static void pool_free(void *ctx, const slc_payload *payload, int is_kept) {
  struct pool *pool = ctx;
  assert_int_equal(payload->fd, pool->fd);
  assert_int_equal(payload->handle % 1000, payload->slot);
  if (is_kept) {
    pool->kept++;
  } else {
    pool->freed++;
  }
}

static void *pool_map(void *ctx, const slc_payload *payload, uint64_t size) {
  struct pool *pool = ctx;
  uint64_t begin = payload->offset / 4096 * 4096;
  uint8_t *base = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_SHARED, payload->fd, (off_t)begin);
  if (base == MAP_FAILED) return NULL;
  pool->mapped++;
  return base + (payload->offset - begin);
}

static void pool_unmap(void *ctx, void *address, uint64_t size) {
  struct pool *pool = ctx;
  pool->unmapped++;
  munmap((void *)((uintptr_t)address / 4096 * 4096), size + 4096);
}

static int pool_fd(uint64_t size) {
  int fd = memfd_create("slotcast-test-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  assert_true(fd >= 0);
  assert_int_equal(ftruncate(fd, (off_t)size), 0);
  return fd;
}

static slc_publisher_options pool_options(struct pool *pool, uint32_t slots) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = slots;
  options.slot_size = SLOT_SIZE;
  options.allocate_payload = pool_allocate;
  options.free_payload = pool_free;
  options.callback_ctx = pool;
  return options;
}

static slc_publisher_options own_options(uint32_t slots) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = slots;
  options.slot_size = SLOT_SIZE;
  return options;
}

/* Memory that is registered on both backends: in shm the library's own has names (test_split_names). */
static slc_publisher_options memfd_options(uint32_t slots) {
  slc_publisher_options options = own_options(slots);
  options.backend = SLC_BACKEND_MEMFD;
  return options;
}

static uint64_t memory_of(slc_client *client) {
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, CHANNEL, &info));
  uint64_t memory = info->memory;
  slc_channel_info_free(info);
  return memory;
}

static void persist(slc_client *client, uint32_t slots, int backend) {
  slc_channel_options shape = SLC_CHANNEL_OPTIONS_INIT;
  shape.split = 1;
  shape.slots = slots;
  shape.slot_size = SLOT_SIZE;
  shape.backend = backend;
  check_ok(slc_channel_create(client, CHANNEL, &shape));
}

/* Every slot is used, and what is written is read. */
static void exchange(slc_publisher *publisher, slc_subscriber *subscriber, uint64_t from, uint64_t count, size_t size) {
  for (uint64_t n = from; n < from + count; n++) {
    send_pattern(publisher, n, size);
    take_pattern(subscriber, n, size);
  }
}

/* ---- callbacks -------------------------------------------------------------------------------------------------- */

static void test_split_pool(void **state) {
  (void)state;
  struct pool pool = {.fd = pool_fd(1 << 24)}, late = {.fd = pool_fd(1 << 24)};
  slc_client *client = client_open(), *other = client_open();
  slc_publisher_options options = pool_options(&pool, SLOTS);
  options.map_payload = pool_map;
  options.unmap_payload = pool_unmap;
  slc_publisher *publisher = publisher_open(client, &options);
  assert_int_equal(pool.allocated, SLOTS);
  assert_int_equal(pool.kept, SLOTS);
  assert_int_equal(pool.mapped, SLOTS);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  exchange(publisher, subscriber, 1, 2 * SLOTS, 900);
  /* Who comes late needs none of its own. */
  options = pool_options(&late, SLOTS);
  slc_publisher *second = publisher_open(other, &options);
  assert_int_equal(late.allocated, 0);
  exchange(second, subscriber, 2 * SLOTS + 1, SLOTS, 700);
  /* Larger messages need more of it. */
  send_pattern(second, 3 * SLOTS + 1, 3000);
  take_pattern(subscriber, 3 * SLOTS + 1, 3000);
  assert_int_equal(late.kept, SLOTS);
  slc_client_close(other);
  slc_client_close(client);
  assert_int_equal(pool.unmapped, pool.mapped);
  assert_int_equal(pool.freed + late.freed, 0);
  close(pool.fd);
  close(late.fd);
}

static void test_split_handles(void **state) {
  (void)state;
  struct pool pool = {.fd = pool_fd(1 << 20)};
  slc_client *client = client_open();
  slc_publisher_options options = pool_options(&pool, SLOTS);
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  slc_payload_info infos[SLOTS], info;
  size_t count = 0;
  check_ok(slc_publisher_payloads(publisher, infos, SLOTS, &count));
  assert_int_equal(count, SLOTS);
  for (uint32_t i = 0; i < SLOTS; i++) {
    assert_int_equal(infos[i].handle, 1000 + i);
    assert_int_equal(infos[i].slot, i);
    check_ok(slc_publisher_payload(publisher, (const uint8_t *)infos[i].address + SLOT_SIZE - 1, &info));
    assert_int_equal(info.handle, infos[i].handle);
  }
  for (uint64_t n = 1; n <= 2 * SLOTS; n++) {
    slc_loan loan;
    slc_message message;
    check_ok(slc_publisher_loan(publisher, 100, &loan));
    check_ok(slc_publisher_payload(publisher, loan.data, &info));
    assert_int_equal(info.handle, 1000 + loan.slot);
    check_ok(slc_publisher_publish(publisher, &loan, 100, NULL));
    check_ok(slc_subscriber_take(subscriber, &message));
    check_ok(slc_subscriber_payload(subscriber, message.data, &info));
    assert_int_equal(info.handle, 1000 + message.slot);
    assert_ptr_equal(info.address, message.data);
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  check_status(slc_subscriber_payload(subscriber, &pool, &info), SLC_NOT_FOUND);
  check_ok(slc_subscriber_payloads(subscriber, NULL, 0, &count));
  assert_int_equal(count, SLOTS);
  slc_client_close(client);
  close(pool.fd);
}

/* ---- what fails ------------------------------------------------------------------------------------------------- */

/* At the first slot, in the first page, at its end, in a later page: nothing is left, and the next one succeeds. */
static void test_split_allocation_fails(void **state) {
  struct test_broker *broker = *state;
  static const uint32_t at[] = {1, 2, 200, 254, MANY};
  slc_client *client = client_open();
  persist(client, MANY, 0);
  uint64_t memory = memory_of(client);
  int before = test_descriptors_of(broker->pid); /* after an answer: those that it sent before are closed */
  for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
    struct pool pool = {.fd = pool_fd(1 << 20), .fail_at = at[i]};
    slc_publisher_options options = pool_options(&pool, MANY);
    slc_publisher *refused;
    check_status(slc_publisher_open(client, CHANNEL, &options, &refused), SLC_REFUSED);
    assert_non_null(strstr(slc_error_detail(), "allocate_payload"));
    assert_int_equal(pool.allocated, at[i] - 1);
    assert_int_equal(pool.kept + pool.freed, pool.allocated);
    assert_int_equal(test_descriptors_of(broker->pid), before);
    assert_int_equal(memory_of(client), memory);
    close(pool.fd);
  }
  slc_publisher_options options = own_options(MANY);
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  exchange(publisher, subscriber, 1, MANY + 10, 100);
  slc_client_close(client);
  client = client_open();
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

/* The channel goes on as it is, for those who don't need more; others can make it grow. */
static void test_split_growth_fails(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  struct pool pool = {.fd = pool_fd(1 << 24), .fail_at = MANY + 400};
  slc_publisher_options options = pool_options(&pool, MANY), own = own_options(MANY);
  slc_publisher *publisher = publisher_open(client, &options), *other = publisher_open(client, &own);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  uint64_t memory = memory_of(client);
  int before = test_descriptors_of(broker->pid); /* after an answer: those that it sent before are closed */
  slc_loan loan;
  check_status(slc_publisher_loan(publisher, 5000, &loan), SLC_REFUSED);
  assert_int_equal(test_descriptors_of(broker->pid), before);
  assert_int_equal(memory_of(client), memory);
  exchange(publisher, subscriber, 1, 3, SLOT_SIZE);
  exchange(other, subscriber, 4, 3, SLOT_SIZE);
  exchange(other, subscriber, 7, 3, 5000);
  exchange(publisher, subscriber, 10, 3, 5000); /* has the other one's now */
  slc_client_close(client);
  close(pool.fd);
}

static void expect_invalid(slc_client *client, int fd, uint64_t used, const char *why) {
  struct pool pool = {.fd = fd, .used = used};
  slc_publisher_options options = pool_options(&pool, SLOTS);
  slc_publisher *refused;
  check_status(slc_publisher_open(client, CHANNEL, &options, &refused), SLC_INVALID);
  assert_non_null(strstr(slc_error_detail(), why));
  assert_int_equal(pool.kept, 0);
}

static void test_split_memory_that_cannot_be(void **state) {
  (void)state;
  slc_client *client = client_open();
  int fd = pool_fd(POOL_OFFSET + SLOTS * STRIDE);
  expect_invalid(client, fd, STRIDE, "within its memory");
  expect_invalid(client, fd, 32, "multiple of 64");
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int reading = open(path, O_RDONLY | O_CLOEXEC);
  expect_invalid(client, reading, 0, "writable");
  assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
  expect_invalid(client, fd, 0, "sealed against writing");
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  expect_invalid(client, ends[0], 0, "descriptor");
  expect_invalid(client, -1, 0, "cannot be read");
  close(ends[0]);
  close(ends[1]);
  close(reading);
  close(fd);
  slc_client_close(client);
}

static void limit_descriptors(pid_t pid, rlim_t limit, struct rlimit *ret_before) {
  assert_int_equal(prlimit(pid, RLIMIT_NOFILE, NULL, ret_before), 0);
  struct rlimit fewer = {.rlim_cur = limit, .rlim_max = ret_before->rlim_max};
  assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &fewer, NULL), 0);
}

/* With few descriptors it takes more messages, with too few it is refused: nothing is left either way. */
static void test_split_few_descriptors_here(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  persist(client, MANY, SLC_BACKEND_MEMFD);
  int mine = test_descriptors_of(getpid()), of_broker = test_descriptors_of(broker->pid);
  slc_publisher_options options = memfd_options(MANY);
  slc_publisher *publisher;
  struct rlimit before;
  limit_descriptors(getpid(), 254 + (rlim_t)mine, &before);
  check_status(slc_publisher_open(client, CHANNEL, &options, &publisher), SLC_NO_DESCRIPTORS);
  assert_int_equal(prlimit(getpid(), RLIMIT_NOFILE, &before, NULL), 0);
  assert_int_equal(test_descriptors_of(getpid()), mine);
  assert_int_equal(test_descriptors_of(broker->pid), of_broker);
  limit_descriptors(getpid(), 300 + (rlim_t)mine, &before);
  publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  exchange(publisher, subscriber, 1, MANY + 10, 100);
  assert_int_equal(prlimit(getpid(), RLIMIT_NOFILE, &before, NULL), 0);
  assert_int_equal(test_descriptors_of(getpid()), mine);
  slc_client_close(client);
  client = client_open();
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

static void test_split_few_descriptors_of_the_broker(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  persist(client, MANY, SLC_BACKEND_MEMFD);
  int of_broker = test_descriptors_of(broker->pid);
  slc_publisher_options options = memfd_options(MANY);
  slc_publisher *publisher;
  struct rlimit before;
  limit_descriptors(broker->pid, 900, &before);
  check_status(slc_publisher_open(client, CHANNEL, &options, &publisher), SLC_LIMIT);
  assert_non_null(strstr(slc_error_detail(), "slots_per_object"));
  assert_int_equal(test_descriptors_of(broker->pid), of_broker);
  options.slots_per_object = 50;
  publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  exchange(publisher, subscriber, 1, MANY + 10, 100);
  assert_int_equal(prlimit(broker->pid, RLIMIT_NOFILE, &before, NULL), 0);
  slc_client_close(client);
  client = client_open();
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

/* ---- killed in the middle --------------------------------------------------------------------------------------- */

/* A publisher in a process of its own that is killed at its `fail_at`th allocation: while it opens, or while it makes
 * the channel grow. */
static void be_killed(uint32_t fail_at, bool grows) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    struct pool pool = {.fd = pool_fd(1 << 24), .fail_at = fail_at, .is_fatal = true};
    slc_client *client = client_open();
    slc_publisher_options options = pool_options(&pool, MANY);
    slc_publisher *publisher = publisher_open(client, &options);
    slc_loan loan;
    if (grows) slc_publisher_loan(publisher, 5000, &loan);
    _exit(0);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The broker has seen its end: it has as many users and descriptors as before.  Never, when something is left: then the
 * watchdog ends this. */
static void await_as_before(slc_client *client, const struct test_broker *broker, uint32_t users, int descriptors) {
  for (;;) {
    slc_channel_info *info = NULL;
    check_ok(slc_channel_inspect(client, CHANNEL, &info));
    uint32_t now = info->publishers + info->subscribers;
    slc_channel_info_free(info);
    if (now == users && test_descriptors_of(broker->pid) == descriptors) return;
  }
}

static void test_split_killed_while_it_opens(void **state) {
  struct test_broker *broker = *state;
  static const uint32_t at[] = {1, 200, 300, MANY};
  slc_client *client = client_open();
  persist(client, MANY, 0);
  uint64_t memory = memory_of(client);
  int before = test_descriptors_of(broker->pid); /* after an answer: those that it sent before are closed */
  for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
    be_killed(at[i], false);
    await_as_before(client, broker, 0, before);
    assert_int_equal(memory_of(client), memory);
  }
  slc_publisher_options options = own_options(MANY);
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  exchange(publisher, subscriber, 1, MANY + 10, 100);
  slc_client_close(client);
  client = client_open();
  check_ok(slc_channel_remove(client, CHANNEL, 0));
  slc_client_close(client);
}

static void test_split_killed_while_it_grows(void **state) {
  struct test_broker *broker = *state;
  slc_client *client = client_open();
  slc_publisher_options options = own_options(MANY);
  slc_publisher *publisher = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  uint64_t memory = memory_of(client);
  int before = test_descriptors_of(broker->pid); /* after an answer: those that it sent before are closed */
  be_killed(300, true);
  await_as_before(client, broker, 2, before);
  assert_int_equal(memory_of(client), memory);
  exchange(publisher, subscriber, 1, MANY, SLOT_SIZE);
  exchange(publisher, subscriber, MANY + 1, MANY, 5000);
  slc_client_close(client);
}

/* ---- memory of other kinds -------------------------------------------------------------------------------------- */

/* -1: this system has none. */
static int huge_fd(uint64_t size) {
  int fd = memfd_create("slotcast-test-huge", MFD_CLOEXEC | MFD_HUGETLB);
  if (fd < 0) return -1;
  struct stat info;
  uint64_t page = fstat(fd, &info) == 0 ? (uint64_t)info.st_blksize : 1;
  uint64_t whole = (size + page - 1) / page * page;
  void *probe = ftruncate(fd, (off_t)whole) == 0 ? mmap(NULL, whole, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
  if (probe != MAP_FAILED) {
    munmap(probe, whole);
    return fd;
  }
  close(fd);
  return -1;
}

struct udmabuf_wish { /* struct udmabuf_create of linux/udmabuf.h */
  uint32_t memfd, flags;
  uint64_t offset, size;
};

static int dma_fd(uint64_t size) {
  int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
  if (device < 0) return -1;
  uint64_t whole = (size + 4095) / 4096 * 4096;
  int memory = pool_fd(whole);
  assert_int_equal(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK), 0);
  const struct udmabuf_wish wish = {.memfd = (uint32_t)memory, .flags = 1, .size = whole};
  int fd = ioctl(device, _IOW('u', 0x42, struct udmabuf_wish), &wish);
  close(memory);
  close(device);
  return fd;
}

static void exchange_through(int fd) {
  struct pool pool = {.fd = fd};
  slc_client *client = client_open(), *other = client_open();
  slc_publisher_options options = pool_options(&pool, SLOTS);
  options.fixed_size = 1;
  slc_publisher *publisher = publisher_open(client, &options);
  assert_int_equal(pool.kept, SLOTS);
  close(fd); /* the channel has its own */
  options = own_options(SLOTS);
  options.fixed_size = 1;
  slc_publisher *second = publisher_open(other, &options);
  slc_subscriber *subscriber = subscriber_open(other, NULL);
  exchange(publisher, subscriber, 1, 2 * SLOTS, 900);
  exchange(second, subscriber, 2 * SLOTS + 1, SLOTS, 700);
  slc_client_close(other);
  slc_client_close(client);
}

static void test_split_memory_kinds(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int (*make)(uint64_t size);
  } kinds[] = {{"memfds", pool_fd}, {"huge pages", huge_fd}, {"/dev/udmabuf", dma_fd}};
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    int fd = kinds[i].make(POOL_OFFSET + SLOTS * STRIDE);
    if (fd >= 0)
      exchange_through(fd);
    else
      print_message("skipped: this system has no %s\n", kinds[i].name);
  }
}

/* ---- the free helper -------------------------------------------------------------------------------------------- */

/* A script in a directory of its own, which is where it starts. */
static void helper_write(char directory[], char script[128], const char *what) {
  assert_non_null(mkdtemp(directory));
  snprintf(script, 128, "%s/helper", directory);
  FILE *out = fopen(script, "we");
  assert_non_null(out);
  fprintf(out, "#!/bin/sh\ncd %s\n%s\n", directory, what);
  assert_int_equal(fclose(out), 0);
  assert_int_equal(chmod(script, 0700), 0);
}

static void helper_expect(const char *fifo, uint32_t generation, uint64_t size) {
  FILE *in = fopen(fifo, "re"); /* waits for the helper */
  assert_non_null(in);
  char channel[64];
  unsigned number;
  assert_int_equal(fscanf(in, "%63s %u", channel, &number), 2);
  assert_string_equal(channel, CHANNEL);
  assert_int_equal(number, generation);
  uint32_t count = 0, slot;
  unsigned long long handle, offset, bytes;
  while (fscanf(in, "%u %llx %llu %llu", &slot, &handle, &offset, &bytes) == 4) {
    assert_int_equal(slot, count++);
    assert_int_equal(handle, 1000 * generation + slot);
    assert_int_equal(offset % STRIDE, 0);
    assert_int_equal(bytes, size);
  }
  assert_int_equal(count, SLOTS);
  fclose(in);
}

static void test_split_free_helper(void **state) {
  (void)state;
  char directory[] = "/tmp/slotcast-helper-XXXXXX", script[128], fifo[128];
  helper_write(directory, script, "{ echo \"$1 $2\"; cat; } > fifo");
  snprintf(fifo, sizeof fifo, "%s/fifo", directory);
  assert_int_equal(mkfifo(fifo, 0600), 0);
  const char *const options[] = {"--free-helper", script, NULL};
  struct test_broker broker;
  test_broker_start_with(&broker, options);
  struct pool pool = {.fd = pool_fd(1 << 20)};
  slc_client *client = client_open();
  slc_publisher_options shape = pool_options(&pool, SLOTS);
  slc_publisher *publisher = publisher_open(client, &shape);
  send_pattern(publisher, 1, 10);
  slc_client_close(client);
  helper_expect(fifo, 1, SLOT_SIZE);
  /* Its owner is killed in the middle: what was registered is told, too; what is the library's own is not. */
  pid_t child = fork();
  if (child == 0) {
    publisher_open(client_open(), &shape);
    kill(getpid(), SIGKILL);
  }
  assert_int_equal(waitpid(child, NULL, 0), child);
  helper_expect(fifo, 1, SLOT_SIZE);
  close(pool.fd);
  assert_int_equal(test_broker_finish(&broker), 0);
  unlink(fifo);
  unlink(script);
  rmdir(directory);
}

static bool has_children(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
  FILE *in = fopen(path, "re");
  assert_non_null(in);
  bool has = fgetc(in) != EOF;
  fclose(in);
  return has;
}

/* The broker goes on, and runs it the next time. */
static void test_split_free_helper_is_killed(void **state) {
  (void)state;
  char directory[] = "/tmp/slotcast-helper-XXXXXX", script[128], word[128];
  helper_write(directory, script, "> has-run; kill -9 $$");
  snprintf(word, sizeof word, "%s/has-run", directory);
  const char *const options[] = {"--free-helper", script, NULL};
  struct test_broker broker;
  test_broker_start_with(&broker, options);
  struct pool pool = {.fd = pool_fd(1 << 20)};
  slc_publisher_options shape = pool_options(&pool, SLOTS);
  for (int i = 0; i < 3; i++) {
    slc_client *client = client_open();
    send_pattern(publisher_open(client, &shape), 1, 10);
    slc_client_close(client);
    while (unlink(word) != 0) assert_int_equal(errno, ENOENT);
    while (has_children(broker.pid)) {
    }
  }
  close(pool.fd);
  assert_int_equal(test_broker_finish(&broker), 0);
  unlink(script);
  rmdir(directory);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_split_pool),
      BROKER_TEST(test_split_handles),
      BROKER_TEST(test_split_allocation_fails),
      BROKER_TEST(test_split_growth_fails),
      BROKER_TEST(test_split_memory_that_cannot_be),
      BROKER_TEST(test_split_few_descriptors_here),
      BROKER_TEST(test_split_few_descriptors_of_the_broker),
      BROKER_TEST(test_split_killed_while_it_opens),
      BROKER_TEST(test_split_killed_while_it_grows),
      BROKER_TEST(test_split_memory_kinds),
      cmocka_unit_test(test_split_free_helper),
      cmocka_unit_test(test_split_free_helper_is_killed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

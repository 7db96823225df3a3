/* What slotcastd, run by root, hands to a publisher of one uid and a subscriber of another: the rights that each has
 * are those of docs/shared-memory.md, in /proc/self/maps and against every attempt.
 *
 * Twice: with the library, whose descriptors are closed once they are mapped; and with raw clients, which keep what
 * they are handed.  A side speaks to the test by a byte on its socket; while one side tries, the other is still.  Needs
 * root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attempts.h"
#include "shm/layout.h"
#include "slotcast/slotcast.h"
#include "support/broker.h"
#include "unit/broker/raw.h"

enum { PUBLISHER_UID = 65533, SUBSCRIBER_UID = 65534, SKIPPED = 77, KINDS = SLC__OBJECT_BELL + 1 };
enum { SLOTS = 32, SLOT_SIZE = 3000, MESSAGES = 9 };

#define CHANNEL "rights"

static const char *const kind_names[KINDS] = {"", "control", "buffers", "table", "bell"};
static const char *const publisher_rights[KINDS] = {"", "rw-s", "rw-s", "r--s", "rw-s"};
static const char *const subscriber_rights[KINDS] = {"", "r--s", "r--s", "rw-s", "r--s"};

static struct test_broker *broker;

/* ---- sides: processes of other uids ------------------------------------------------------------------------------ */

struct side {
  pid_t pid;
  int socket;
};

/* In a side, where the test's own checks would come back in the wrong process. */
#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (condition) break;                                                                                              \
    fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, slc_error_detail());                            \
    _exit(200);                                                                                                        \
  } while (0)

static void tell(int socket) {
  if (send(socket, "", 1, MSG_NOSIGNAL) != 1) perror("send");
}

static bool hear(int socket) {
  char byte;
  return recv(socket, &byte, 1, 0) == 1;
}

static struct side side_start(uid_t uid, int (*work)(int socket)) {
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    become(uid);
    close(ends[0]);
    int failures = work(ends[1]);
    fflush(NULL);
    _exit(failures);
  }
  close(ends[1]);
  return (struct side){.pid = child, .socket = ends[0]};
}

static void side_await(const struct side *side) {
  assert_true(hear(side->socket));
}

static void side_finish(const struct side *side) {
  int status;
  assert_int_equal(waitpid(side->pid, &status, 0), side->pid);
  close(side->socket);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- by the library ---------------------------------------------------------------------------------------------- */

struct region {
  uint8_t *base;
  uint64_t size;
  char rights[8];
};

/* This process's mappings of Slotcast's objects, by kind; each once. */
static void regions_find(struct region regions[KINDS]) {
  FILE *maps = fopen("/proc/self/maps", "re");
  REQUIRE(maps != NULL);
  char line[512];
  memset(regions, 0, KINDS * sizeof *regions);
  while (fgets(line, sizeof line, maps) != NULL) {
    if (strstr(line, "/memfd:slotcast") == NULL) continue;
    struct region region = {0};
    unsigned long long from, to;
    REQUIRE(sscanf(line, "%llx-%llx %7s", &from, &to, region.rights) == 3);
    region.base = (uint8_t *)(uintptr_t)from;
    region.size = to - from;
    uint32_t kind = ((const struct slc__header *)(const void *)region.base)->kind;
    REQUIRE(kind >= SLC__OBJECT_CONTROL && kind < KINDS);
    REQUIRE(regions[kind].base == NULL);
    regions[kind] = region;
  }
  fclose(maps);
}

static int check_regions(const char *const rights[KINDS]) {
  struct region regions[KINDS];
  regions_find(regions);
  int failures = 0;
  for (int kind = SLC__OBJECT_CONTROL; kind < KINDS; kind++) {
    printf("  %-10s mapped %s\n", kind_names[kind], regions[kind].rights);
    if (strcmp(regions[kind].rights, rights[kind]) != 0) failures++;
    if (regions[kind].base == NULL || rights[kind][1] == 'w') continue;
    struct target target = {.what = kind_names[kind],
                            .fd = -1,
                            .base = regions[kind].base,
                            .size = regions[kind].size,
                            .owner = broker->pid};
    failures += attempt_writes(&target);
  }
  return failures;
}

static void message_fill(uint8_t *bytes, uint64_t number) {
  for (size_t i = 0; i < SLOT_SIZE; i++) bytes[i] = (uint8_t)(number * 31 + i * 7 + i / 256);
}

static void message_send(slc_publisher *publisher, uint64_t number) {
  uint8_t bytes[SLOT_SIZE];
  message_fill(bytes, number);
  REQUIRE(slc_publisher_send(publisher, bytes, sizeof bytes, NULL) == 0);
}

static void message_take(slc_subscriber *subscriber, uint64_t number) {
  uint8_t bytes[SLOT_SIZE];
  slc_message message;
  message_fill(bytes, number);
  REQUIRE(slc_subscriber_take(subscriber, &message) == 0);
  REQUIRE(message.size == SLOT_SIZE && memcmp(message.data, bytes, SLOT_SIZE) == 0);
  REQUIRE(slc_subscriber_release(subscriber, &message) == 0);
}

/* The last message comes when the subscriber is there: by then its hold table is known. */
static int publish_and_try(int socket) {
  slc_client *client;
  slc_publisher *publisher;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = SLOTS;
  options.slot_size = SLOT_SIZE;
  REQUIRE(slc_client_open(NULL, &client) == 0);
  REQUIRE(slc_publisher_open(client, CHANNEL, &options, &publisher) == 0);
  for (uint64_t i = 1; i < MESSAGES; i++) message_send(publisher, i);
  tell(socket);
  REQUIRE(hear(socket));
  message_send(publisher, MESSAGES);
  int failures = check_regions(publisher_rights);
  tell(socket);
  REQUIRE(hear(socket));
  slc_publisher_close(publisher);
  slc_client_close(client);
  return failures;
}

static int subscribe_and_try(int socket) {
  slc_client *client;
  slc_subscriber *subscriber;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  REQUIRE(slc_client_open(NULL, &client) == 0);
  REQUIRE(slc_subscriber_open(client, CHANNEL, &options, &subscriber) == 0);
  message_take(subscriber, 1);
  tell(socket);
  REQUIRE(hear(socket));
  int failures = check_regions(subscriber_rights);
  for (uint64_t i = 2; i <= MESSAGES; i++) message_take(subscriber, i);
  slc_subscriber_close(subscriber);
  slc_client_close(client);
  return failures;
}

static void test_rights_of_the_library(void **state) {
  broker = *state;
  struct side publisher = side_start(PUBLISHER_UID, publish_and_try);
  side_await(&publisher);
  struct side subscriber = side_start(SUBSCRIBER_UID, subscribe_and_try);
  side_await(&subscriber);
  tell(publisher.socket);
  side_await(&publisher);
  tell(subscriber.socket);
  side_finish(&subscriber);
  tell(publisher.socket);
  side_finish(&publisher);
}

/* ---- by raw clients ---------------------------------------------------------------------------------------------- */

static int try_descriptor(int fd, const Slotcast__Descriptor *entry, const char *rights) {
  bool writable = rights[1] == 'w';
  REQUIRE((fcntl(fd, F_GETFL) & O_ACCMODE) == (writable ? O_RDWR : O_RDONLY));
  REQUIRE((entry->writable != 0) == writable);
  struct target target = {.what = kind_names[entry->kind], .fd = fd, .size = entry->size, .owner = broker->pid};
  target.base = mmap(NULL, target.size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  REQUIRE(target.base != MAP_FAILED);
  int failures = writable ? attempt_resizes(&target) : attempt_writes(&target);
  munmap(target.base, target.size);
  return failures;
}

/* Tries every object that came with a message, which must be of these kinds, in this order. */
static int try_answer(struct raw_answer *answer, const uint8_t *kinds, size_t count, const char *const rights[KINDS]) {
  int failures = 0;
  REQUIRE(answer->fds.count == count && answer->message->n_descriptors == count);
  for (size_t i = 0; i < count; i++) {
    const Slotcast__Descriptor *entry = answer->message->descriptors[i];
    REQUIRE((uint32_t)entry->kind == kinds[i]);
    failures += try_descriptor(answer->fds.fd[i], entry, rights[kinds[i]]);
  }
  raw_answer_free(answer);
  return failures;
}

static void open_raw(struct raw *raw, uint8_t instance) {
  struct raw_broker address = {.pid = broker->pid};
  snprintf(address.socket, sizeof address.socket, "%s", broker->socket);
  raw_open(raw, &address, instance);
}

static int publish_raw_and_try(int socket) {
  static const uint8_t at_once[] = {SLC__OBJECT_CONTROL, SLC__OBJECT_BUFFERS};
  static const uint8_t pushed[] = {SLC__OBJECT_TABLE, SLC__OBJECT_BELL};
  struct raw raw;
  struct raw_answer answer;
  open_raw(&raw, 1);
  Slotcast__OpenPublisher request = raw_publisher(CHANNEL);
  raw_publish(&raw, &request, &answer);
  int failures = try_answer(&answer, at_once, sizeof at_once, publisher_rights);
  tell(socket);
  REQUIRE(raw_receive(&raw, &answer)); /* of the subscriber that has joined */
  failures += try_answer(&answer, pushed, sizeof pushed, publisher_rights);
  tell(socket);
  REQUIRE(hear(socket));
  raw_close(&raw);
  return failures;
}

static int subscribe_raw_and_try(int socket) {
  static const uint8_t kinds[] = {SLC__OBJECT_CONTROL, SLC__OBJECT_BUFFERS, SLC__OBJECT_TABLE, SLC__OBJECT_BELL};
  struct raw raw;
  struct raw_answer answer;
  open_raw(&raw, 2);
  Slotcast__OpenSubscriber request = raw_subscriber(CHANNEL);
  raw_subscribe(&raw, &request, &answer);
  tell(socket);
  REQUIRE(hear(socket));
  int failures = try_answer(&answer, kinds, sizeof kinds, subscriber_rights);
  raw_close(&raw);
  return failures;
}

static void test_rights_of_descriptors(void **state) {
  broker = *state;
  struct side publisher = side_start(PUBLISHER_UID, publish_raw_and_try);
  side_await(&publisher);
  struct side subscriber = side_start(SUBSCRIBER_UID, subscribe_raw_and_try);
  side_await(&subscriber);
  side_await(&publisher);
  tell(subscriber.socket);
  side_finish(&subscriber);
  tell(publisher.socket);
  side_finish(&publisher);
}

/* ---- the stage --------------------------------------------------------------------------------------------------- */

/* As with --socket-mode 0666 in a directory that all may enter. */
static int setup(void **state) {
  if (test_broker_setup(state) != 0) return -1;
  const struct test_broker *started = *state;
  return chmod(started->directory, 0755) == 0 && chmod(started->socket, 0666) == 0 ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_rights_of_the_library, setup, test_broker_teardown),
      cmocka_unit_test_setup_teardown(test_rights_of_descriptors, setup, test_broker_teardown),
  };
  if (geteuid() != 0) {
    printf("skipped: a process of another uid needs root to be started\n");
    return SKIPPED;
  }
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The harness under test: each fault that it must notice, as an argument.  A child commits it, and must fail with
 * exactly that one; a child that failed for another reason does not count. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"

static void leak_nothing(struct test_broker *broker) {
  (void)broker;
}

static void leak_descriptor(struct test_broker *broker) {
  (void)broker;
  if (dup(STDIN_FILENO) < 0) exit(TEST_STATUS_GAVE_UP);
}

static void leak_mapping(struct test_broker *broker) {
  (void)broker;
  int fd = memfd_create("leak", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, 4096) != 0) exit(TEST_STATUS_GAVE_UP);
  if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) exit(TEST_STATUS_GAVE_UP);
  close(fd);
}

static void leak_child(struct test_broker *broker) {
  (void)broker;
  if (fork() == 0) _exit(TEST_STATUS_GAVE_UP);
}

static void leak_shm_entry(struct test_broker *broker) {
  char path[128];
  snprintf(path, sizeof path, "/dev/shm/slotcast-%s-leak", broker->session);
  int fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY, 0600);
  if (fd < 0) exit(TEST_STATUS_GAVE_UP);
  close(fd);
  int faults = test_broker_finish(broker);
  unlink(path);
  exit(faults);
}

static void leak_scratch_file(struct test_broker *broker) {
  char path[128];
  snprintf(path, sizeof path, "%s/leak", broker->directory);
  int fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY, 0600);
  if (fd < 0) exit(TEST_STATUS_GAVE_UP);
  close(fd);
  int faults = test_broker_finish(broker);
  unlink(path);
  rmdir(broker->directory);
  exit(faults);
}

static void hang(struct test_broker *broker) {
  test_broker_finish(broker);
  test_watchdog(1);
  for (;;) pause();
}

static const struct {
  const char *name;
  void (*fault)(struct test_broker *broker);
  int status; /* the number of faults to be noticed, or the watchdog's */
} faults[] = {
    {"clean", leak_nothing, 0},           {"descriptor", leak_descriptor, 1},
    {"mapping", leak_mapping, 1},         {"child", leak_child, 1},
    {"shm_entry", leak_shm_entry, 1},     {"scratch_file", leak_scratch_file, 1},
    {"hang", hang, TEST_STATUS_WATCHDOG},
};

static _Noreturn void fault_run(void (*fault)(struct test_broker *broker)) {
  struct test_broker broker;
  test_broker_start(&broker);
  fault(&broker);
  exit(test_broker_finish(&broker));
}

/* In a process of its own, since it is to end badly. */
static int fault_check(const char *name, void (*fault)(struct test_broker *broker), int expected) {
  pid_t child = fork();
  if (child == 0) fault_run(fault);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return 1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == expected) return 0;
  fprintf(stderr, "%s: ended with wait status 0x%x where exit status %d was due\n", name, (unsigned)status, expected);
  return 1;
}

int main(int argc, char **argv) {
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
    if (argc == 2 && strcmp(argv[1], faults[i].name) == 0)
      return fault_check(faults[i].name, faults[i].fault, faults[i].status);
  }
  fprintf(stderr, "usage: %s FAULT\n", argv[0]);
  return 2;
}

/* The harness under test: each fault that it must notice, as an argument.  Ends with the number of faults noticed, so
 * all but "clean" must fail. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/broker.h"

static void leak_nothing(struct test_broker *broker) {
  (void)broker;
}

static void leak_descriptor(struct test_broker *broker) {
  (void)broker;
  if (dup(STDIN_FILENO) < 0) exit(0);
}

static void leak_mapping(struct test_broker *broker) {
  (void)broker;
  int fd = memfd_create("leak", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, 4096) != 0) exit(0);
  if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) exit(0);
  close(fd);
}

static void leak_child(struct test_broker *broker) {
  (void)broker;
  if (fork() == 0) _exit(0);
}

static void leak_shm_entry(struct test_broker *broker) {
  char path[128];
  snprintf(path, sizeof path, "/dev/shm/slotcast-%s-leak", broker->session);
  int fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY, 0600);
  if (fd < 0) exit(0);
  close(fd);
  int faults = test_broker_finish(broker);
  unlink(path);
  exit(faults);
}

static void leak_scratch_file(struct test_broker *broker) {
  char path[128];
  snprintf(path, sizeof path, "%s/leak", broker->directory);
  int fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY, 0600);
  if (fd < 0) exit(0);
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
} faults[] = {
    {"clean", leak_nothing}, {"descriptor", leak_descriptor}, {"mapping", leak_mapping},
    {"child", leak_child},   {"shm_entry", leak_shm_entry},   {"scratch_file", leak_scratch_file},
    {"hang", hang},
};

int main(int argc, char **argv) {
  struct test_broker broker;
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
    if (argc < 2 || strcmp(argv[1], faults[i].name) != 0) continue;
    test_broker_start(&broker);
    faults[i].fault(&broker);
    return test_broker_finish(&broker);
  }
  fprintf(stderr, "usage: %s FAULT\n", argv[0]);
  return 0; /* a mistake here must not look like a fault noticed */
}

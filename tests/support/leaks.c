/* Leak checks by /proc/self, and an alarm as watchdog.  Single-threaded at the time of each call. */
#include "support/leaks.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Calls `visit` for each descriptor but the one that reads the directory. */
static int descriptors_visit(pid_t pid, void (*visit)(int fd, const char *target)) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
  DIR *directory = opendir(path);
  if (directory == NULL) abort();
  int count = 0;
  for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || (pid == getpid() && fd == dirfd(directory))) continue;
    count++;
    if (visit == NULL) continue;
    char target[PATH_MAX];
    ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
    target[length > 0 ? length : 0] = '\0';
    visit(fd, target);
  }
  closedir(directory);
  return count;
}

int test_descriptors_of(pid_t pid) {
  return descriptors_visit(pid, NULL);
}

static void descriptor_tell(int fd, const char *target) {
  fprintf(stderr, "  descriptor %d: %s\n", fd, target);
}

static bool is_shared_object(const char *line) {
  return strstr(line, "/memfd:") != NULL || strstr(line, "/dev/shm/") != NULL;
}

static int mappings_visit(bool tell) {
  FILE *maps = fopen("/proc/self/maps", "re");
  if (maps == NULL) abort();
  char line[PATH_MAX + 128];
  int count = 0;
  while (fgets(line, sizeof line, maps) != NULL) {
    if (!is_shared_object(line)) continue;
    count++;
    if (tell) fprintf(stderr, "  mapping %s", line);
  }
  fclose(maps);
  return count;
}

void test_leaks_note(struct test_leaks *ret_leaks) {
  ret_leaks->descriptors = test_descriptors_of(getpid());
  ret_leaks->mappings = mappings_visit(false);
}

int test_leaks_check(const struct test_leaks *before) {
  int kinds = 0;
  int descriptors = test_descriptors_of(getpid());
  if (descriptors != before->descriptors) {
    fprintf(stderr, "%d descriptors where there were %d:\n", descriptors, before->descriptors);
    descriptors_visit(getpid(), descriptor_tell);
    kinds++;
  }
  int mappings = mappings_visit(false);
  if (mappings != before->mappings) {
    fprintf(stderr, "%d mappings of shared objects where there were %d:\n", mappings, before->mappings);
    mappings_visit(true);
    kinds++;
  }
  pid_t child = waitpid(-1, NULL, WNOHANG);
  if (child >= 0 || errno != ECHILD) {
    fprintf(stderr, "a child is left: %s\n", child > 0 ? "ended, not waited for" : "running");
    kinds++;
  }
  return kinds;
}

static void watchdog_bite(int signal_number) {
  (void)signal_number;
  static const char words[] = "the watchdog has ended this test\n";
  ssize_t written = write(STDERR_FILENO, words, sizeof words - 1);
  _exit(written < 0 ? TEST_STATUS_WATCHDOG + 1 : TEST_STATUS_WATCHDOG);
}

void test_watchdog(unsigned seconds) {
  signal(SIGALRM, watchdog_bite);
  alarm(seconds);
}

/* See watched.h.  Asks the broker by the library; a fault of the broker may close that connection, too, and then it is
 * made again.  Single-threaded. */
#include "fault/watched.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "fault/plan.h"

enum { TRIES = 20000, QUIET_TRIES = 10 };

void watched_start(struct watched *watched) {
  *watched = (struct watched){0};
  test_broker_start(&watched->broker);
  test_watchdog(fault_is_all() ? WATCHDOG_SECONDS_ALL : TEST_WATCHDOG_SECONDS);
  atomic_store(&fault_page->broker.pid, watched->broker.pid);
  fault_arm(&fault_page->broker, NULL);
}

int watched_finish(struct watched *watched) {
  for (int i = 0; i < 2; i++) slc_client_close(watched->clients[i]);
  int faults = test_broker_finish(&watched->broker);
  atomic_store(&fault_page->broker.pid, 0);
  return faults;
}

int watched_alive(const struct watched *watched) {
  int status = 0;
  if (waitpid(watched->broker.pid, &status, WNOHANG) == 0) return 0;
  fprintf(stderr, "the broker ended with wait status %#x\n", (unsigned)status);
  return 1;
}

/* How many channels it has, asked until it answers.  Negative: it has ended. */
static int count_channels(struct watched *watched) {
  slc_client **client = &watched->clients[watched->turn];
  watched->turn ^= 1;
  for (;;) {
    slc_channel_info *channels = NULL;
    size_t count = 0;
    int status = *client != NULL ? 0 : slc_client_open(NULL, client);
    if (status == 0) status = slc_channel_list(*client, &channels, &count);
    if (status == 0) {
      slc_channel_list_free(channels, count);
      return (int)count;
    }
    slc_client_close(*client);
    *client = NULL;
    if (watched_alive(watched) != 0) return -1;
  }
}

/* The broker hears of the end of processes and connections in its own time; each question gives it some.  What has
 * ended before a question is met in the same turn of its loop at the latest; the next question comes by the other
 * connection, and so in a later turn (by the same it might be met in the same one). */
int watched_forget_others(struct watched *watched) {
  int channels = -1;
  for (int i = 0; i < TRIES && channels != watched->channels; i++) {
    channels = count_channels(watched);
    if (channels < 0) return 1;
  }
  if (channels == watched->channels) return count_channels(watched) != channels;
  fprintf(stderr, "the broker has %d channels where %d are in use\n", channels, watched->channels);
  return 1;
}

static int count_descriptors(const struct watched *watched) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)watched->broker.pid);
  DIR *directory = opendir(path);
  if (directory == NULL) exit(TEST_STATUS_GAVE_UP);
  int count = 0;
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}

/* Noted when several questions in a row have changed nothing: the broker is through with those who went before. */
int watched_note(struct watched *watched) {
  watched->descriptors = -1;
  watched->live = -1;
  for (int same = 0, i = 0; same < QUIET_TRIES && i < TRIES; i++) {
    int descriptors = count_descriptors(watched);
    int64_t live = atomic_load(&fault_page->broker.live);
    same = descriptors == watched->descriptors && live == watched->live ? same + 1 : 0;
    watched->descriptors = descriptors;
    watched->live = live;
    if (count_channels(watched) < 0) return 1;
  }
  return watched_as_before(watched);
}

int watched_as_before(struct watched *watched) {
  int descriptors = 0;
  int64_t live = 0;
  for (int i = 0; i < TRIES; i++) {
    descriptors = count_descriptors(watched);
    live = atomic_load(&fault_page->broker.live);
    if (descriptors == watched->descriptors && live == watched->live) return 0;
    if (count_channels(watched) < 0) return 1;
  }
  fprintf(stderr, "the broker has %d descriptors where it had %d, and %lld allocations more\n", descriptors,
          watched->descriptors, (long long)(live - watched->live));
  return 1;
}

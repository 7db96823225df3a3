/* What it costs to attach to a channel, plain and split: time, messages to the broker, mappings, descriptors.
 *
 *   attach [SLOTS]   default 1024; needs a broker (SLOTCAST_SOCKET), whose descriptors it counts
 *
 * Messages are counted by standing in for sendmsg, which the library calls once for each. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "slotcast/slotcast.h"

enum { SLOT_SIZE = 16384, TIMES = 21 };

static unsigned messages;

__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  messages++;
  return syscall(SYS_sendmsg, fd, message, flags);
}

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int mappings(void) {
  FILE *maps = fopen("/proc/self/maps", "re");
  char line[512];
  int count = 0;
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
    count += strstr(line, "/memfd:") != NULL || strstr(line, "/dev/shm/") != NULL;
  if (maps != NULL) fclose(maps);
  return count;
}

static int descriptors(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
  DIR *directory = opendir(path);
  int count = 0;
  while (directory != NULL && readdir(directory) != NULL) count++;
  if (directory != NULL) closedir(directory);
  return count;
}

static pid_t broker_of(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct ucred peer = {0};
  socklen_t size = sizeof peer;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
  close(fd);
  return peer.pid;
}

static void check(int status) {
  if (status == 0) return;
  fprintf(stderr, "attach: %s\n", slc_error_detail());
  exit(EXIT_FAILURE);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double median(double *values) {
  qsort(values, TIMES, sizeof *values, by_value);
  return values[TIMES / 2];
}

struct cost {
  double ms[TIMES];
  unsigned messages;
  int mappings;
};

struct attached {
  slc_publisher *first, *second;
  slc_subscriber *subscriber;
};

static void measure_one(slc_client *client, const slc_publisher_options *options, int round, struct cost costs[3],
                        struct attached *attached) {
  for (int i = 0; i < 3; i++) {
    unsigned messages_before = messages;
    int mappings_before = mappings();
    double start = now_ms();
    if (i == 0) check(slc_publisher_open(client, "attach", options, &attached->first));
    if (i == 1) check(slc_publisher_open(client, "attach", options, &attached->second));
    if (i == 2) check(slc_subscriber_open(client, "attach", NULL, &attached->subscriber));
    costs[i].ms[round] = now_ms() - start;
    costs[i].messages = messages - messages_before;
    costs[i].mappings = mappings() - mappings_before;
  }
}

static void measure(slc_client *client, pid_t broker, const char *name, const slc_publisher_options *options) {
  static const char *const who[] = {"first publisher", "next publisher", "subscriber"};
  struct cost costs[3];
  int of_broker = 0;
  for (int round = 0; round < TIMES; round++) {
    struct attached attached;
    int before = descriptors(broker);
    measure_one(client, options, round, costs, &attached);
    of_broker = descriptors(broker) - before;
    slc_subscriber_close(attached.subscriber);
    slc_publisher_close(attached.second);
    slc_publisher_close(attached.first);
  }
  for (int i = 0; i < 3; i++)
    printf("%-24s %-16s %8.2f ms %6u messages %6d mappings %6d descriptors of the broker\n", name, who[i],
           median(costs[i].ms), costs[i].messages, costs[i].mappings, of_broker);
}

int main(int argc, char **argv) {
  uint32_t slots = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1024;
  slc_client *client;
  check(slc_client_open(NULL, &client));
  pid_t broker = broker_of(slc_client_socket(client));
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = slots;
  options.slot_size = SLOT_SIZE;
  measure(client, broker, "plain", &options);
  options.split = 1;
  measure(client, broker, "split, 1 slot/object", &options);
  options.slots_per_object = 64;
  measure(client, broker, "split, 64 slots/object", &options);
  options.slots_per_object = slots;
  measure(client, broker, "split, one object", &options);
  slc_client_close(client);
  return 0;
}

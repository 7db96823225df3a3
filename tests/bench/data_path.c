/* What the data path costs, beside what the machine costs, in one run:
 *
 *   round trip   64 and 32 bytes by polling between two processes, beside a bare pair of cache lines
 *   publish      one publisher alone: by number of idle subscribers, and by number of slots
 *
 * Needs a broker ($SLOTCAST_SOCKET): slotcast run -- slotcast-bench-data-path [round-trip|publish].
 * Every figure is the median of several repetitions; each side is pinned to a processor of its own when there are two.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "slotcast/slotcast.h"

enum {
  ROUND_TRIPS = 100000, /* per repetition */
  WARM_UP = 10000,
  REPETITIONS = 5,
  PUBLISHES = 200000, /* per repetition */
  IDLE_SUBSCRIBERS = 1000,
};

/* ---- small tools ---- */

static void die(const char *what, int status) {
  fprintf(stderr, "%s: %s (%s)\n", what, slc_status_name(status), slc_error_detail());
  exit(1);
}
static void check(const char *what, int status) {
  if (status < 0) die(what, status);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void nap(void) {
  nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* The processors that we may use, as they were when we started: a child inherits its parent's pinning. */
static cpu_set_t processors;

static void pin(int which) {
  if (CPU_COUNT(&processors) < 2) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &processors) && seen++ == which) CPU_SET(cpu, &one);
  }
  sched_setaffinity(0, sizeof one, &one);
}

static int compare_double(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}
static double median(double *values, size_t count) {
  qsort(values, count, sizeof *values, compare_double);
  return values[count / 2];
}

static pid_t child(void) {
  pid_t pid = fork();
  if (pid < 0) {
    perror("fork");
    exit(1);
  }
  if (pid == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
  return pid;
}
static void end_child(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

/* ---- round trips ---- */

struct latency {
  double p50[REPETITIONS], p99[REPETITIONS], p999[REPETITIONS];
};

static int compare_u32(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

/* One exchange of one repetition: sends, waits for the answer. */
typedef void (*exchange_fn)(void *ctx, uint64_t number);

static void measure(struct latency *latency, int repetition, exchange_fn exchange, void *ctx) {
  static uint32_t samples[ROUND_TRIPS];
  static uint64_t number;
  for (int i = 0; i < WARM_UP; i++) exchange(ctx, ++number);
  int64_t before = now_ns();
  for (int i = 0; i < ROUND_TRIPS; i++) {
    exchange(ctx, ++number);
    int64_t after = now_ns();
    samples[i] = (uint32_t)(after - before);
    before = after;
  }
  qsort(samples, ROUND_TRIPS, sizeof samples[0], compare_u32);
  latency->p50[repetition] = samples[ROUND_TRIPS / 2];
  latency->p99[repetition] = samples[(size_t)ROUND_TRIPS * 99 / 100];
  latency->p999[repetition] = samples[(size_t)ROUND_TRIPS * 999 / 1000];
}

static void print_latency(const char *what, struct latency *latency, double bare_p50) {
  double p50 = median(latency->p50, REPETITIONS);
  printf("%-34s %8.0f %8.0f %8.0f", what, p50, median(latency->p99, REPETITIONS), median(latency->p999, REPETITIONS));
  if (bare_p50 > 0) printf("   %.2f x", p50 / bare_p50);
  printf("\n");
}

/* The limit: two words, each on a pair of lines of its own, each written by one side. */
struct bare {
  _Alignas(128) _Atomic uint64_t ping;
  _Alignas(128) _Atomic uint64_t pong;
};

static void bare_exchange(void *ctx, uint64_t number) {
  struct bare *bare = ctx;
  atomic_store_explicit(&bare->ping, number, memory_order_release);
  while (atomic_load_explicit(&bare->pong, memory_order_acquire) != number) {
  }
}
static void bare_answer(struct bare *bare) {
  for (uint64_t number = 0;;) {
    uint64_t seen = atomic_load_explicit(&bare->ping, memory_order_acquire);
    if (seen == number) continue;
    number = seen;
    atomic_store_explicit(&bare->pong, number, memory_order_release);
  }
}

struct pair {
  slc_publisher *out;
  slc_subscriber *in;
  size_t size;
};

static void pair_open(struct pair *pair, slc_client *client, const char *out, const char *in, size_t size) {
  slc_publisher_options pub = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options sub = SLC_SUBSCRIBER_OPTIONS_INIT;
  pub.slots = 64;
  pub.slot_size = size;
  pub.no_timestamp = 1;
  sub.start = SLC_START_OLDEST;
  sub.spin_ns = SLC_SPIN_FOREVER;
  pair->size = size;
  check(in, slc_subscriber_open(client, in, &sub, &pair->in));
  check(out, slc_publisher_open(client, out, &pub, &pair->out));
}

static void pair_send(struct pair *pair, uint64_t number) {
  slc_loan loan;
  check("loan", slc_publisher_loan(pair->out, pair->size, &loan));
  memcpy(loan.data, &number, sizeof number);
  check("publish", slc_publisher_publish(pair->out, &loan, pair->size, NULL));
}

static uint64_t pair_receive(struct pair *pair) {
  slc_message message;
  int status;
  do {
    check("wait", slc_subscriber_wait(pair->in, SLC_WAIT_FOREVER));
    status = slc_subscriber_take(pair->in, &message);
  } while (status == SLC_EMPTY);
  check("take", status);
  uint64_t number;
  memcpy(&number, message.data, sizeof number);
  slc_subscriber_release(pair->in, &message);
  return number;
}

static void pair_exchange(void *ctx, uint64_t number) {
  struct pair *pair = ctx;
  pair_send(pair, number);
  while (pair_receive(pair) != number) {
  }
}

static slc_client *client_open(void) {
  slc_client *client;
  check("connect", slc_client_open(NULL, &client));
  return client;
}

static void wait_for_subscribers(slc_publisher *publisher, uint32_t wanted) {
  slc_publisher_stats stats = {.size = sizeof stats};
  do {
    nap();
    check("stats", slc_publisher_stats_get(publisher, &stats));
  } while (stats.subscribers < wanted);
}

static pid_t pair_start(struct pair *pair, size_t size) {
  char out[64], in[64];
  snprintf(out, sizeof out, "bench/ping-%zu", size);
  snprintf(in, sizeof in, "bench/pong-%zu", size);
  pid_t pid = child();
  if (pid == 0) {
    pin(1);
    struct pair other;
    pair_open(&other, client_open(), in, out, size);
    for (;;) pair_send(&other, pair_receive(&other));
  }
  pair_open(pair, client_open(), out, in, size);
  wait_for_subscribers(pair->out, 1);
  return pid;
}

static void round_trips(void) {
  struct bare *bare = mmap(NULL, sizeof *bare, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (bare == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  static struct latency bare_latency, latency_64, latency_32;
  pin(0);
  for (int i = 0; i < REPETITIONS; i++) {
    struct pair pair_64, pair_32;
    pid_t pid = child();
    if (pid == 0) {
      pin(1);
      bare_answer(bare);
    }
    measure(&bare_latency, i, bare_exchange, bare);
    end_child(pid);
    pid = pair_start(&pair_64, 64);
    measure(&latency_64, i, pair_exchange, &pair_64);
    end_child(pid);
    pid = pair_start(&pair_32, 32);
    measure(&latency_32, i, pair_exchange, &pair_32);
    end_child(pid);
    slc_publisher_close(pair_64.out);
    slc_subscriber_close(pair_64.in);
    slc_publisher_close(pair_32.out);
    slc_subscriber_close(pair_32.in);
  }
  printf("round trip by polling, ns (medians of %d x %d)\n", REPETITIONS, ROUND_TRIPS);
  printf("%-34s %8s %8s %8s   p50 to bare\n", "", "p50", "p99", "p99.9");
  double bare_p50 = median(bare_latency.p50, REPETITIONS);
  print_latency("bare pair of cache lines", &bare_latency, 0);
  print_latency("Slotcast, 32 bytes", &latency_32, bare_p50);
  print_latency("Slotcast, 64 bytes", &latency_64, bare_p50);
  munmap(bare, sizeof *bare);
}

/* ---- publishing ---- */

static pid_t idle_subscribers(const char *channel, int count) {
  pid_t pid = child();
  if (pid != 0) return pid;
  slc_client *client = client_open();
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = 1;
  for (int i = 0; i < count; i++) {
    slc_subscriber *subscriber;
    check("subscribe", slc_subscriber_open(client, channel, &options, &subscriber));
  }
  for (;;) pause();
}

static double publish_cost(uint32_t slots, int subscribers) {
  char channel[64];
  snprintf(channel, sizeof channel, "bench/publish-%u-%d", slots, subscribers);
  slc_client *client = client_open();
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = slots;
  options.slot_size = 64;
  options.no_timestamp = 1;
  slc_publisher *publisher;
  check(channel, slc_publisher_open(client, channel, &options, &publisher));
  pid_t pid = subscribers > 0 ? idle_subscribers(channel, subscribers) : 0;
  if (pid > 0) wait_for_subscribers(publisher, (uint32_t)subscribers);
  double cost[REPETITIONS + 1];
  for (int i = 0; i <= REPETITIONS; i++) {
    int64_t before = now_ns();
    for (uint64_t k = 0; k < PUBLISHES; k++) {
      slc_loan loan;
      int status;
      /* Would block: it has not learnt of all new subscribers yet. */
      while ((status = slc_publisher_loan(publisher, 64, &loan)) == SLC_WOULD_BLOCK) {
        slc_publisher_wait(publisher, SLC_WAIT_FOREVER);
      }
      check("loan", status);
      memcpy(loan.data, &k, sizeof k);
      check("publish", slc_publisher_publish(publisher, &loan, 64, NULL));
    }
    cost[i] = (double)(now_ns() - before) / PUBLISHES;
  }
  if (pid > 0) end_child(pid);
  slc_client_close(client);
  return median(cost + 1, REPETITIONS); /* the first repetition touches the memory */
}

static void publishing(void) {
  static const uint32_t slots[] = {16, 64, 256, 1024, 4096, 16384};
  enum { ROWS = sizeof slots / sizeof slots[0] };
  pin(0);
  printf("publish of 64 bytes, loan and publish, ns a message (medians of %d x %d)\n", REPETITIONS, PUBLISHES);
  double cost[ROWS], least = 0, most = 0;
  for (int i = 0; i < ROWS; i++) {
    cost[i] = publish_cost(slots[i], 0);
    if (i == 0 || cost[i] < least) least = cost[i];
    if (cost[i] > most) most = cost[i];
    printf("  %6u slots, no subscriber      %8.1f\n", slots[i], cost[i]);
  }
  printf("  dearest to cheapest by slots      %8.2f x\n", most / least);
  double idle = publish_cost(4096, IDLE_SUBSCRIBERS);
  printf("    4096 slots, %d idle       %8.1f   %.2f x of none\n", IDLE_SUBSCRIBERS, idle, idle / cost[4]);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  sched_getaffinity(0, sizeof processors, &processors);
  bool all = argc < 2;
  if (!all && strcmp(argv[1], "round-trip") != 0 && strcmp(argv[1], "publish") != 0) {
    fprintf(stderr, "usage: slotcast run -- %s [round-trip|publish]\n", argv[0]);
    return 2;
  }
  if (all || strcmp(argv[1], "round-trip") == 0) round_trips();
  if (all || strcmp(argv[1], "publish") == 0) publishing();
  return 0;
}

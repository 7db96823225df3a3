/* Nobody is woken for nothing, and nobody makes a system call to wake who is awake.
 *
 * One process sleeps until there is a message, in each of the ways to sleep, and the next message is sent when the
 * kernel says that it sleeps again.  It counts how often it was told of a message that was not there, and the kernel
 * counts how often it slept. */
#include "common.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGES = 500, WARM_UP = 20, BUSY_MESSAGES = 20000 };

enum way { BY_WAIT, BY_DESCRIPTOR, BY_WAITSET };

/* Shared memory. */
struct bedroom {
  _Atomic uint64_t taken;
  _Atomic bool is_there;
  uint64_t in_vain; /* told of, and not there */
  int64_t sleeps;   /* by the kernel's count */
  int64_t elapsed_ns;
};

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 * MS + now.tv_nsec;
}

/* ---- the one who sleeps ---- */

/* In a child, where nobody would hear of a failed assertion. */
static void must(int status) {
  if (status >= 0) return;
  fprintf(stderr, "the sleeper: %s (%s)\n", slc_status_name(status), slc_error_detail());
  _exit(1);
}

struct sleeper {
  enum way way;
  slc_subscriber *subscriber;
  slc_waitset *set;
  int fd;
};

static void sleeper_open(struct sleeper *sleeper, enum way way) {
  slc_client *client = NULL;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.spin_ns = SLC_SPIN_NEVER;
  sleeper->way = way;
  must(slc_client_open(NULL, &client));
  must(slc_subscriber_open(client, CHANNEL, &options, &sleeper->subscriber));
  if (way == BY_DESCRIPTOR) must(slc_subscriber_fd(sleeper->subscriber, &sleeper->fd));
  if (way != BY_WAITSET) return;
  must(slc_waitset_new(&sleeper->set));
  must(slc_waitset_add_subscriber(sleeper->set, sleeper->subscriber, NULL));
}

static void sleep_once(const struct sleeper *sleeper) {
  struct pollfd polled = {.fd = sleeper->fd, .events = POLLIN};
  slc_waitset_event event;
  size_t count;
  switch (sleeper->way) {
  case BY_WAIT:
    must(slc_subscriber_wait(sleeper->subscriber, SLC_WAIT_FOREVER));
    break;
  case BY_DESCRIPTOR:
    while (poll(&polled, 1, -1) != 1) {
    }
    break;
  case BY_WAITSET:
    must(slc_waitset_wait(sleeper->set, SLC_WAIT_FOREVER, &event, 1, &count));
    break;
  }
}

/* How often it was told of one that was not there. */
static uint64_t receive(const struct sleeper *sleeper, struct bedroom *bedroom, uint64_t messages) {
  uint64_t in_vain = 0;
  for (uint64_t i = 0; i < messages;) {
    slc_message message;
    sleep_once(sleeper);
    int status = slc_subscriber_take(sleeper->subscriber, &message);
    must(status == SLC_EMPTY ? 0 : status);
    if (status == SLC_EMPTY) {
      in_vain++;
      continue;
    }
    must(slc_subscriber_release(sleeper->subscriber, &message));
    atomic_fetch_add(&bedroom->taken, 1);
    i++;
  }
  return in_vain;
}

static int64_t sleeps_so_far(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nvcsw;
}

/* While warming up it is told that the publisher is there. */
static void sleeper_run(enum way way, struct bedroom *bedroom) {
  struct sleeper sleeper = {.fd = -1};
  sleeper_open(&sleeper, way);
  atomic_store(&bedroom->is_there, true);
  receive(&sleeper, bedroom, WARM_UP);
  int64_t begun = now_ns(), sleeps = sleeps_so_far();
  bedroom->in_vain = receive(&sleeper, bedroom, MESSAGES);
  bedroom->sleeps = sleeps_so_far() - sleeps;
  bedroom->elapsed_ns = now_ns() - begun;
  _exit(0);
}

/* ---- the one who wakes ---- */

/* "PID (name) S ..": the state comes after the last parenthesis. */
static bool is_asleep(pid_t pid) {
  char path[64], text[256];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  assert_true(fd >= 0);
  ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  assert_true(size > 0);
  text[size] = '\0';
  const char *end = strrchr(text, ')');
  assert_non_null(end);
  assert_true(end[2] != 'Z'); /* it has failed, and said why */
  return end[2] == 'S';
}

static void await_asleep(pid_t pid, const struct bedroom *bedroom, uint64_t taken) {
  while (!atomic_load(&bedroom->is_there) || atomic_load(&bedroom->taken) < taken || !is_asleep(pid)) sched_yield();
}

static uint64_t wakes_so_far(slc_publisher *publisher) {
  slc_publisher_stats stats = {.size = sizeof stats};
  check_ok(slc_publisher_stats_get(publisher, &stats));
  return stats.wakes;
}

/* One message at a time, each to one that sleeps.  The system calls made to wake it. */
static uint64_t send_to_sleeper(slc_publisher *publisher, pid_t pid, const struct bedroom *bedroom) {
  uint64_t before = 0;
  for (uint64_t n = 0; n < WARM_UP + MESSAGES; n++) {
    await_asleep(pid, bedroom, n);
    if (n == WARM_UP) before = wakes_so_far(publisher);
    check_ok(slc_publisher_send(publisher, "x", 1, NULL));
  }
  return wakes_so_far(publisher) - before;
}

static void check_way(enum way way, uint64_t calls_per_message) {
  struct bedroom *bedroom = mmap(NULL, sizeof *bedroom, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(bedroom != MAP_FAILED);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) sleeper_run(way, bedroom);
  slc_client *client = client_open();
  slc_publisher *publisher = publisher_open(client, NULL);
  uint64_t wakes = send_to_sleeper(publisher, pid, bedroom);
  int ended;
  assert_int_equal(waitpid(pid, &ended, 0), pid);
  assert_int_equal(ended, 0);
  slc_client_close(client);
  assert_int_equal(bedroom->in_vain, 0);
  /* Once a second it looks whether the broker is there: a message that comes just then needs no call. */
  uint64_t looks = (uint64_t)bedroom->elapsed_ns / (1000 * MS) + 1;
  assert_in_range(wakes, (MESSAGES - looks) * calls_per_message, MESSAGES * calls_per_message);
  /* Who stops the process (a debugger, a frozen machine) makes it sleep once more.  How seldom it may sleep is nobody's
   * to say: woken before it has lost its processor, it has not slept. */
  assert_true((uint64_t)bedroom->sleeps <= MESSAGES + MESSAGES / 10 + looks);
  munmap(bedroom, sizeof *bedroom);
}

static void test_wakes_who_waits(void **state) {
  (void)state;
  check_way(BY_WAIT, 1);
}

static void test_wakes_who_polls_a_descriptor(void **state) {
  (void)state;
  check_way(BY_DESCRIPTOR, 2);
}

static void test_wakes_a_waitset(void **state) {
  (void)state;
  check_way(BY_WAITSET, 2);
}

/* ---- nobody sleeps ---- */

/* From here on a system call that wakes or that sleeps is the end of this process.  (What the broker still pushes about
 * those who have just come is read by the others.) */
static void allow_no_wake(void) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendto, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  const struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    _exit(2);
}

struct busy {
  slc_publisher *publisher;
  struct sleeper waits, polls; /* the one waits for each message, the other always leaves one unread */
};

static void busy_open(struct busy *busy, int reliable) {
  slc_client *client = NULL;
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  busy->waits.way = BY_WAIT;
  busy->polls.way = BY_DESCRIPTOR;
  shape.reliable = options.reliable = reliable;
  must(slc_client_open(NULL, &client));
  must(slc_publisher_open(client, CHANNEL, &shape, &busy->publisher));
  must(slc_subscriber_open(client, CHANNEL, &options, &busy->waits.subscriber));
  must(slc_subscriber_open(client, CHANNEL, &options, &busy->polls.subscriber));
  must(slc_subscriber_fd(busy->polls.subscriber, &busy->polls.fd));
}

static void be_busy(const struct busy *busy, uint64_t messages) {
  slc_message message;
  for (uint64_t n = 0; n < messages; n++) {
    must(slc_publisher_send(busy->publisher, "x", 1, NULL));
    must(slc_subscriber_wait(busy->waits.subscriber, SLC_WAIT_FOREVER));
    must(slc_subscriber_take(busy->waits.subscriber, &message));
    must(slc_subscriber_release(busy->waits.subscriber, &message));
    must(slc_subscriber_take(busy->polls.subscriber, &message));
    must(slc_subscriber_release(busy->polls.subscriber, &message));
  }
}

static void run_busy(int reliable) {
  struct busy busy = {.publisher = NULL};
  slc_message message;
  busy_open(&busy, reliable);
  must(slc_publisher_send(busy.publisher, "x", 1, NULL)); /* rings the descriptor, which stays readable from now on */
  sleep_once(&busy.polls);
  must(slc_subscriber_take(busy.waits.subscriber, &message)); /* and this one has read everything, and is awake */
  must(slc_subscriber_release(busy.waits.subscriber, &message));
  be_busy(&busy, WARM_UP);
  allow_no_wake();
  be_busy(&busy, BUSY_MESSAGES);
  _exit(0);
}

static void check_busy(int reliable) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) run_busy(reliable);
  int ended;
  assert_int_equal(waitpid(pid, &ended, 0), pid);
  assert_int_equal(ended, 0);
}

static void test_wakes_nobody_who_is_awake(void **state) {
  (void)state;
  check_busy(0);
  check_busy(1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BROKER_TEST(test_wakes_who_waits),
      BROKER_TEST(test_wakes_who_polls_a_descriptor),
      BROKER_TEST(test_wakes_a_waitset),
      BROKER_TEST(test_wakes_nobody_who_is_awake),
  };
  return cmocka_run_group_tests_name("client_wakes", tests, NULL, NULL);
}

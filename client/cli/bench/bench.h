/* What the measurements share: what was asked for, where the broker is, and what comes out.  Thread: main. */
#ifndef SLOTCAST_CLI_BENCH_BENCH_H
#define SLOTCAST_CLI_BENCH_BENCH_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "session.h"

/* How a process waits; WAIT_USUAL is the measurement's own choice. */
enum waiting { WAIT_USUAL, WAIT_POLLING, WAIT_BLOCKING, WAIT_SPIN };
const char *waiting_name(enum waiting waiting);

/* An option that may name several values, one measurement each; none: the measurement's own choice. */
enum { LIST_MAX = 16 };
struct list {
  size_t count;
  uint64_t values[LIST_MAX];
};

struct settings {
  struct list sizes, slots, publishers, subscribers, generations, channels;
  enum waiting waiting;
  bool is_touched;    /* payloads are written and read as a whole, else only their first word */
  bool is_unreliable; /* throughput */
  bool takes_one;     /* one message a call, else many */
  bool is_exclusive;  /* the channel admits one publisher */
  bool by_descriptor; /* sleepers poll the readiness descriptor */
  bool opens_readers; /* control: subscribers instead of publishers */
  bool is_quick;
  bool is_json;
  uint64_t count;   /* a repetition; 0: the measurement's own choice */
  uint64_t slow_ns; /* throughput: what the last subscriber spends over each message */
  uint64_t rate;    /* throughput: messages a second; 0: as many as there can be */
  uint64_t repetitions;
  const char *backend, *socket, *plot;
};

struct bench {
  struct settings settings;
  struct session session;
  const char *socket;   /* of the broker in use */
  cpu_set_t processors; /* that we may use */
  int processor_count;
  int64_t stamp_ns;  /* what reading the clock costs */
  unsigned channels; /* named so far: each measurement has a channel of its own */
  struct report *report;
  struct plot *plot; /* NULL: none was asked for */
};

/* One for each kind of measurement; the exit code. */
int bench_all(struct bench *bench); /* in short */
int bench_latency(struct bench *bench);
int bench_throughput(struct bench *bench);
int bench_publish(struct bench *bench);
int bench_take(struct bench *bench);
int bench_touch(struct bench *bench);
int bench_fanout(struct bench *bench);
int bench_wake(struct bench *bench);
int bench_control(struct bench *bench);
int bench_recover(struct bench *bench);

/* A private broker with so many shadows; the exit code.  bench->socket is its. */
int bench_start_broker(struct bench *bench, int shadows);

enum { BENCH_QUICK_PART = 100 };
/* What was asked for, else so many messages, or a hundredth with --quick; at least `least`. */
uint64_t bench_count(const struct bench *bench, uint64_t usual, uint64_t least);
/* What was asked for, else the values given. */
struct list bench_list(const struct list *asked, size_t count, const uint64_t *usual);

#endif

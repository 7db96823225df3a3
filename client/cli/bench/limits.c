/* Bare round trips, streams and logs.  Nothing here knows Slotcast.  Thread: main, of each process. */
#include "limits.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"
#include "crew.h"

enum { LINE = 64 };

/* ---- round trips ---- */

struct bare {
  struct barrier barrier;
  struct schedule schedule;
  enum bare_kind kind;
  size_t touched, slots;
  int fds[2]; /* what side 0 and side 1 read from */
  _Alignas(APART) struct histogram histogram;
  struct {
    _Alignas(APART) _Atomic uint64_t word;
  } lines[2];      /* what side 0 and side 1 write */
  char payloads[]; /* the same, `slots` buffers of `touched` bytes each */
};

const char *bare_name(enum bare_kind kind) {
  static const char *const names[] = {"bare pair of cache lines", "bare eventfd round trip", "bare socket round trip"};
  return names[kind];
}

static void bare_signal(struct bare *bare, int side, uint64_t number) {
  char packet[LINE] = {0};
  switch (bare->kind) {
  case BARE_LINES:
    atomic_store_explicit(&bare->lines[side].word, number, memory_order_release);
    break;
  case BARE_EVENTFD:
    if (eventfd_write(bare->fds[1 - side], 1) != 0) worker_fail("cannot write an eventfd");
    break;
  case BARE_SOCKET:
    if (send(bare->fds[side], packet, sizeof packet, MSG_NOSIGNAL) < 0) worker_fail("cannot send");
    break;
  }
}

static void bare_await(struct bare *bare, int side, uint64_t number) {
  char packet[LINE];
  eventfd_t value;
  switch (bare->kind) {
  case BARE_LINES:
    while (atomic_load_explicit(&bare->lines[1 - side].word, memory_order_acquire) != number) {
    }
    break;
  case BARE_EVENTFD:
    if (eventfd_read(bare->fds[side], &value) != 0) worker_fail("cannot read an eventfd");
    break;
  case BARE_SOCKET:
    if (recv(bare->fds[side], packet, sizeof packet, 0) <= 0) worker_fail("cannot receive");
    break;
  }
}

static char *bare_payload(struct bare *bare, int side, uint64_t number) {
  return bare->payloads + ((size_t)side * bare->slots + number % bare->slots) * bare->touched;
}
static void bare_send(struct bare *bare, int side, uint64_t number) {
  if (bare->touched > 0) payload_write(bare_payload(bare, side, number), bare->touched, number, true);
  bare_signal(bare, side, number);
}
static void bare_receive(struct bare *bare, int side, uint64_t number) {
  bare_await(bare, side, number);
  if (bare->touched > 0) payload_read(bare_payload(bare, 1 - side, number), bare->touched, true);
}

static void bare_exchange(void *ctx, uint64_t number) {
  bare_send(ctx, 0, number);
  bare_receive(ctx, 0, number);
}

static void bare_ping(void *shared, unsigned number) {
  struct bare *bare = shared;
  (void)number;
  barrier_wait(&bare->barrier);
  measure_exchanges(&bare->schedule, bare_exchange, bare, &bare->histogram);
}
static void bare_pong(void *shared, unsigned number) {
  struct bare *bare = shared;
  (void)number;
  barrier_wait(&bare->barrier);
  for (uint64_t i = 1; i <= bare->schedule.warm_up + bare->schedule.count; i++) {
    bare_receive(bare, 1, i);
    bare_send(bare, 1, i);
  }
}

static int bare_open(struct bare *bare) {
  bare->fds[0] = bare->fds[1] = -1;
  if (bare->kind == BARE_SOCKET && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, bare->fds) != 0)
    return fail(EXIT_FAILED, "cannot make a pair of sockets: %s", strerror(errno));
  if (bare->kind != BARE_EVENTFD) return EXIT_OK;
  for (int i = 0; i < 2; i++) {
    bare->fds[i] = eventfd(0, EFD_CLOEXEC);
    if (bare->fds[i] < 0) return fail(EXIT_FAILED, "cannot make an eventfd: %s", strerror(errno));
  }
  return EXIT_OK;
}
static void bare_close(const struct bare *bare) {
  for (int i = 0; i < 2; i++) {
    if (bare->fds[i] >= 0) close(bare->fds[i]);
  }
}

int bare_round_trips(const struct bench *bench, enum bare_kind kind, size_t touched, size_t slots,
                     const struct schedule *schedule, struct repeated *into) {
  static const struct role roles[] = {{bare_ping, 1, true}, {bare_pong, 1, true}};
  size_t size = sizeof(struct bare) + 2 * slots * touched;
  struct bare *bare = shared_new(size);
  if (bare == NULL) return EXIT_FAILED;
  bare->barrier.parties = 2;
  bare->schedule = *schedule;
  bare->kind = kind;
  bare->touched = touched;
  bare->slots = slots;
  int code = bare_open(bare);
  if (code == EXIT_OK) code = crew_run(bench, roles, 2, bare);
  if (code == EXIT_OK) repeated_add(into, &bare->histogram);
  bare_close(bare);
  shared_free(bare, size);
  return code;
}

int bare_pair(const struct bench *bench, double *ret_ns) {
  enum { TRIPS = 2000 };
  static struct repeated pair; /* large */
  uint64_t count = bench->settings.is_quick ? TRIPS / BENCH_QUICK_PART : TRIPS;
  const struct schedule schedule = {.warm_up = count / 2, .count = count, .stamp_ns = bench->stamp_ns};
  *ret_ns = 0;
  if (!crew_is_pinned(bench, 2)) return EXIT_OK;
  repeated_clear(&pair);
  int code = bare_round_trips(bench, BARE_LINES, 0, 1, &schedule, &pair);
  if (code == EXIT_OK) *ret_ns = pair.p50[0];
  return code;
}

const char *pair_name(double ns) {
  /* Where threads of a core have the line in its first cache, near cores in one that they share, and others must ask
   * across the chip, or another one: on common machines of today these are far enough apart. */
  enum { THREADS_NS = 70, NEAR_NS = 250 };
  if (ns <= 0) return "one";
  return ns < THREADS_NS ? "threads" : ns < NEAR_NS ? "near" : "far";
}

/* ---- a stream ---- */

/* A ring of messages, each with its number in its first word; the reader says now and then how far it is. */
enum { TOLD_EVERY = 4 /* times a lap */ };

struct ring {
  struct barrier barrier;
  uint64_t count, capacity; /* a power of two */
  size_t stride, touched;
  int64_t elapsed_ns;
  _Alignas(APART) _Atomic uint64_t taken;
  _Alignas(APART) char messages[];
};

static _Atomic uint64_t *ring_at(struct ring *ring, uint64_t number) {
  return (_Atomic uint64_t *)(void *)(ring->messages + (number & (ring->capacity - 1)) * ring->stride);
}

static void ring_write(void *shared, unsigned which) {
  struct ring *ring = shared;
  (void)which;
  barrier_wait(&ring->barrier);
  for (uint64_t number = 1, taken = 0; number <= ring->count; number++) {
    while (number - taken > ring->capacity) taken = atomic_load_explicit(&ring->taken, memory_order_acquire);
    _Atomic uint64_t *message = ring_at(ring, number);
    if (ring->touched > 0) memset(message + 1, (int)(number & 0x7f), ring->touched - sizeof *message);
    atomic_store_explicit(message, number, memory_order_release);
  }
}
static void ring_read(void *shared, unsigned which) {
  struct ring *ring = shared;
  (void)which;
  uint64_t told_every = ring->capacity / TOLD_EVERY;
  barrier_wait(&ring->barrier);
  int64_t before = now_ns();
  for (uint64_t number = 1; number <= ring->count; number++) {
    _Atomic uint64_t *message = ring_at(ring, number);
    while (atomic_load_explicit(message, memory_order_acquire) != number) {
    }
    if (ring->touched > 0) payload_read(message, ring->touched, true);
    if (number % told_every == 0) atomic_store_explicit(&ring->taken, number, memory_order_release);
  }
  ring->elapsed_ns = now_ns() - before;
}

int bare_stream(const struct bench *bench, size_t touched, size_t slots, uint64_t count, double *ret_ns) {
  static const struct role roles[] = {{ring_write, 1, true}, {ring_read, 1, true}};
  size_t stride = (touched > LINE ? touched : LINE) + LINE - 1;
  stride -= stride % LINE;
  uint64_t capacity = TOLD_EVERY;
  while (capacity < slots) capacity *= 2;
  size_t size = sizeof(struct ring) + capacity * stride;
  struct ring *ring = shared_new(size);
  if (ring == NULL) return EXIT_FAILED;
  ring->barrier.parties = 2;
  ring->count = count;
  ring->capacity = capacity;
  ring->stride = stride;
  ring->touched = touched;
  int code = crew_run(bench, roles, 2, ring);
  if (code == EXIT_OK) *ret_ns = (double)ring->elapsed_ns / (double)count;
  shared_free(ring, size);
  return code;
}

/* ---- a log, by one process alone ---- */

struct bare_log {
  uint64_t count;
  size_t slots, stride, touched;
  int64_t elapsed_ns;
  _Atomic uint64_t *words;
  char *messages;
  _Alignas(APART) _Atomic uint64_t hold;
  _Alignas(APART) char memory[];
};

static void log_write(struct bare_log *log, uint64_t count) {
  for (uint64_t number = 1, at = 0; number <= count; number++, at = at + 1 < log->slots ? at + 1 : 0) {
    payload_write(log->messages + at * log->stride, log->touched, number, log->touched > 0);
    uint64_t seen = atomic_load_explicit(&log->words[at], memory_order_acquire);
    atomic_compare_exchange_strong(&log->words[at], &seen, number);
  }
}
static void log_writer(void *shared, unsigned which) {
  struct bare_log *log = shared;
  (void)which;
  log_write(log, 2 * log->slots); /* the memory is there from then on */
  int64_t before = now_ns();
  log_write(log, log->count);
  log->elapsed_ns = now_ns() - before;
}

static void log_read(struct bare_log *log, uint64_t count) {
  for (uint64_t number = 1, at = 0; number <= count; number++, at = at + 1 < log->slots ? at + 1 : 0) {
    uint64_t word = atomic_load_explicit(&log->words[at], memory_order_acquire);
    atomic_store_explicit(&log->hold, word, memory_order_seq_cst);
    if (atomic_load_explicit(&log->words[at], memory_order_seq_cst) != word) continue;
    payload_read(log->messages + at * log->stride, log->touched, log->touched > 0);
    atomic_store_explicit(&log->hold, 0, memory_order_release);
  }
}
static void log_reader(void *shared, unsigned which) {
  struct bare_log *log = shared;
  (void)which;
  log_write(log, 2 * log->slots);
  int64_t before = now_ns();
  log_read(log, log->count);
  log->elapsed_ns = now_ns() - before;
}

static int bare_log(const struct bench *bench, role_fn run, size_t slots, size_t touched, uint64_t count,
                    double *ret_ns) {
  const struct role role = {run, 1, true};
  size_t stride = (touched > LINE ? touched : LINE) + LINE - 1;
  stride -= stride % LINE;
  size_t size = sizeof(struct bare_log) + slots * (sizeof(uint64_t) + stride);
  struct bare_log *log = shared_new(size);
  if (log == NULL) return EXIT_FAILED;
  log->count = count;
  log->slots = slots;
  log->stride = stride;
  log->touched = touched;
  log->messages = log->memory;
  log->words = (_Atomic uint64_t *)(void *)(log->memory + slots * stride);
  int code = crew_run(bench, &role, 1, log);
  if (code == EXIT_OK) *ret_ns = (double)log->elapsed_ns / (double)count;
  shared_free(log, size);
  return code;
}

int bare_log_write(const struct bench *bench, size_t slots, size_t touched, uint64_t count, double *ret_ns) {
  return bare_log(bench, log_writer, slots, touched, count, ret_ns);
}
int bare_log_read(const struct bench *bench, size_t slots, size_t touched, uint64_t count, double *ret_ns) {
  return bare_log(bench, log_reader, slots, touched, count, ret_ns);
}

/* Something that carries messages between processes: Slotcast, or another that Debian packages.  Each is a file of its
 * own that fills a struct peer; what is measured, and how, is the same for all (exchange.c).  A process has one
 * publisher and one subscriber at most, so an adapter keeps them in variables of its file.  Every failure ends the
 * process with worker_fail, worker_check or peer_fail.  Thread: main, of each process. */
#ifndef SLOTCAST_TESTS_BENCH_PEERS_PEER_H
#define SLOTCAST_TESTS_BENCH_PEERS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/bench.h"

enum {
  TOPIC_NAME_MAX = 64,
  ADDRESS_MAX = 256,
  RECEIVE_MAX = 16, /* messages that a stream's reader asks for at once */
};

/* What messages are for decides how publishers and subscribers are configured. */
enum purpose {
  PURPOSE_TRIPS,   /* one at a time to one subscriber, which takes it at once */
  PURPOSE_STREAM,  /* to one subscriber, as fast as it takes them: nothing is to be lost */
  PURPOSE_FAN_OUT, /* to many: subscribers that do not take are overrun, if the peer can */
};

struct topic {
  enum purpose purpose;
  char name[TOPIC_NAME_MAX]; /* new: letters, digits and hyphens */
  const char *directory;     /* for sockets that have names */
  size_t size;
  bool is_touched; /* payloads are written and read as a whole, else only their first word */
  bool blocks;     /* who waits sleeps, else it asks again and again */
};

struct peer {
  const char *version;
  /* In the parent: what has to run beside, if anything, for a repetition.  The exit code; stopped in any case, whatever
   * became of the processes, and nothing is left. */
  int (*start)(struct bench *bench);
  void (*stop)(struct bench *bench);
  /* In a process of its own, until it leaves; the topic stays. */
  void (*publish_on)(const struct topic *topic);
  void (*subscribe_to)(const struct topic *topic);
  /* A message with its number, written by payload_write; waits while the peer wants it to. */
  void (*send)(uint64_t number);
  /* Up to `max` messages, each read by payload_read; their numbers.  0 if none is there and it shall not wait. */
  size_t (*receive)(uint64_t *numbers, size_t max, bool waits);
  void (*leave)(void); /* NULL: the end of the process is enough */
  /* It has threads of its own that receive.  Who asks again and again keeps them from running where processors are
   * few, so its waiting is always sleeping; and its subscribers cannot idle: they take what comes. */
  bool has_threads;
};

/* In the order of the table, Slotcast first. */
struct peer_entry {
  const char *name;        /* for the command line */
  const char *title;       /* for the table */
  const struct peer *peer; /* NULL: this program was built without it */
};
extern const struct peer_entry peer_entries[];
extern const size_t peer_count;

/* `receive` for those that give one message at a time: `take` gives one, if it shall sleeps until there is one, and is
 * false where there is none. */
size_t receive_one_by_one(bool (*take)(uint64_t *number, bool sleeps), const struct topic *topic, uint64_t *numbers,
                          size_t max, bool waits);
/* "ipc://..", for sockets that have names; in memory that the next call changes. */
const char *address_of(const struct topic *topic);

/* Ends this process: the call failed, for this reason. */
_Noreturn void peer_fail(const char *call, const char *reason);

#endif

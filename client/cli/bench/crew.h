/* Processes that measure together.  Each is forked before it connects, and pinned to a processor of its own when there
 * are enough for all that are busy; what they share is memory from shared_new.  When one fails, all are ended, so that
 * none waits for ever.  Thread: main, of each process. */
#ifndef SLOTCAST_CLI_BENCH_CREW_H
#define SLOTCAST_CLI_BENCH_CREW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench.h"

enum {
  CREW_MAX = 256,
  APART = 128, /* bytes: what one process writes while others read lies so far from what they read */
};

/* What a process does: `number` counts those of its role from 0 on.  Returning is success; worker_check and
 * worker_fail end the process otherwise. */
typedef void (*role_fn)(void *shared, unsigned number);
struct role {
  role_fn run;
  unsigned count;
  bool is_busy; /* wants a processor of its own, unlike one that sleeps or idles */
};

/* Runs them all to their end; the exit code. */
int crew_run(const struct bench *bench, const struct role *roles, size_t count, void *shared);
/* The same, with somebody who sees to children that are none of the crew's: called after each SIGCHLD; the exit code.
 */
typedef int (*tend_fn)(struct bench *bench, void *shared);
int crew_run_tended(struct bench *bench, const struct role *roles, size_t count, void *shared, tend_fn tend);
/* Whether so many busy processes have a processor each. */
bool crew_is_pinned(const struct bench *bench, unsigned busy);

/* Ends this process when the call of the library has failed, with its sentence. */
void worker_check(const char *what, int status);
/* The same for a call of the system, with errno. */
_Noreturn void worker_fail(const char *what);

/* Zeroed memory that children share; NULL (told on stderr) when there is none. */
void *shared_new(size_t size);
void shared_free(void *shared, size_t size);

/* All of `parties` come, then all go on. */
struct barrier {
  uint32_t parties;
  _Atomic uint32_t arrived, round;
};
void barrier_wait(struct barrier *barrier);
/* Sleeps until the word differs from `seen`; wakes all who do. */
void word_wait(_Atomic uint32_t *word, uint32_t seen);
void word_wake(_Atomic uint32_t *word);

#endif

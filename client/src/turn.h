/* Turns: what a handle's option `locked` adds, and nothing but a branch where it is not set.
 *
 * Nobody sleeps in his turn: who waits gives it up first, so that others can do what he waits for.
 * Thread: any; never before the fork guard has been looked at, since a forked child may find the turn taken for ever.
 */
#ifndef SLC__CLIENT_TURN_H
#define SLC__CLIENT_TURN_H

#include <pthread.h>
#include <stdbool.h>

#include "shm/words.h"

struct slc__turn {
  bool is_shared; /* several threads use the handle */
  pthread_mutex_t mutex;
};

static inline void slc__turn_init(struct slc__turn *turn, bool is_shared) {
  turn->is_shared = is_shared;
  pthread_mutex_init(&turn->mutex, NULL);
}

/* Not in a forked child. */
static inline void slc__turn_deinit(struct slc__turn *turn) {
  pthread_mutex_destroy(&turn->mutex);
}

static inline void slc__turn_begin(struct slc__turn *turn) {
  if (__builtin_expect(turn->is_shared, 0)) pthread_mutex_lock(&turn->mutex);
}

static inline void slc__turn_end(struct slc__turn *turn) {
  if (__builtin_expect(turn->is_shared, 0)) pthread_mutex_unlock(&turn->mutex);
}

/* Between two looks of one that polls: long enough for another to get his turn, which the mutex does not see to. */
static inline void slc__turn_pass(void) {
  for (int i = 0; i < 64; i++) slc__pause();
}

#endif

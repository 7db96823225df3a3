/* A loop that was just spoken to polls for a while before it sleeps: who speaks often does not wake it each time.
 * Thread: the loop's. */
#ifndef SLC__LOOP_AWAKE_H
#define SLC__LOOP_AWAKE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct slc__awake {
  uv_idle_t idle; /* active: the loop does not sleep */
  int64_t until;
  bool helps; /* there is more than one processor */
};
void slc__awake_init(struct slc__awake *awake, uv_loop_t *loop);
/* Somebody has spoken, and may do so again soon. */
void slc__awake_stay(struct slc__awake *awake);
/* What it lies in stays until the loop has closed its handle. */
void slc__awake_close(struct slc__awake *awake);

#endif

/* One process with a channel of every kind, which lives while its broker ends, and what can be seen of it from outside.
 */
#ifndef SLC_TEST_WORLD_H
#define SLC_TEST_WORLD_H

#include <sys/types.h>

#include "support/broker.h"

enum { WORLD_MESSAGES = 10, WORLD_WHOLE_SIZE = 100 };

struct world {
  pid_t pid;
  int pipe; /* it ends when this does */
};

/* A child that opens and publishes, then does nothing until it is told to. */
void world_start(struct world *world);
/* It ends as it is, without goodbyes. */
void world_kill(struct world *world);

/* What `slotcast ls --json` says, and all that is to be known of each channel, but for who is connected.  The caller
 * frees it. */
char *world_look(void);
/* Reads, as a newcomer, everything that was published, up to what its channels keep. */
void world_read(void);

#endif

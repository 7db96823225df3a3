/* Processes: who is alive, as the kernel says. */
#ifndef SLC__BROKER_PROCESS_H
#define SLC__BROKER_PROCESS_H

#include "broker/state.h"

/* The process at the other end of a socket: the one that we know, or a new one, which takes over the peer's pidfd. */
int slc__process_get(struct slc__broker *broker, struct slc__peer *peer, struct slc__process **ret_process);
/* Its hello: when it runs another program than before, what the old program had is reclaimed. */
void slc__process_greet(struct slc__process *process, const uint8_t instance[16]);
/* Reclaims users without a connection that belong to a program which this process no longer runs. */
void slc__process_reclaim_superseded(struct slc__process *process);
/* Forgets one that has neither connections nor users. */
void slc__process_drop_if_unused(struct slc__process *process);

#endif

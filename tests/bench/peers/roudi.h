/* The daemon that iceoryx, and CycloneDDS's shared memory, need.  Thread: main. */
#ifndef SLOTCAST_TESTS_BENCH_PEERS_ROUDI_H
#define SLOTCAST_TESTS_BENCH_PEERS_ROUDI_H

#include "bench/bench.h"

/* With the memory that roudi.toml has; it says nothing.  Clients wait by themselves until it is ready. */
int roudi_start(struct bench *bench);
void roudi_stop(struct bench *bench);

#endif

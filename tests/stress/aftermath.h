/* What is left of a channel, and of a broker, when the crew has gone; looked at by the test itself, through the public
 * API and /proc. */
#ifndef SLC_TEST_AFTERMATH_H
#define SLC_TEST_AFTERMATH_H

#include <stdint.h>

#include <slotcast/slotcast.h>

#include "support/broker.h"

struct aftermath_before {
  int descriptors; /* of the broker */
  int names;       /* of the broker in /dev/shm */
};

/* While the client that will look afterwards is connected already. */
struct aftermath_before aftermath_note(const struct test_broker *broker);

/* What the broker says once it has seen that only `users` are left; it needs a few round trips at most. */
slc_channel_info *aftermath_inspect(slc_client *client, const char *channel, uint32_t users);
/* One subscriber is left, who holds nothing: each slot is free, or in the log and to be read there, whole.  Returns how
 * many messages there have been. */
uint64_t aftermath_slots(slc_client *client, const char *channel, uint64_t slot_size);
/* No channel, no descriptor, no name more than before. */
void aftermath_nothing_left(slc_client *client, const struct test_broker *broker,
                            const struct aftermath_before *before);

#endif

/* Messages that say of themselves whether they are whole: who sent them, the how-manieth of that sender, and a pattern
 * over every byte that follows from both.  Sizes vary from inside the prefix to the whole slot. */
#ifndef SLC_TEST_STREAM_H
#define SLC_TEST_STREAM_H

#include "shm/slotlog.h"

enum { TEST_MESSAGE_MIN = 16 }; /* smallest slot_size that will do */

struct test_message {
  uint32_t publisher;
  uint64_t sequence;
};

/* How long the message is.  Pure. */
uint64_t test_message_size(struct test_message message, uint64_t slot_size);
/* Fills a loaned slot and publishes it; `sequence` counts this publisher's messages.  The loan stays when it fails. */
int test_message_publish(struct slc__pub *pub, uint32_t slot, uint64_t sequence, uint64_t *ret_ordinal);
/* Loan, fill, publish. */
int test_message_send(struct slc__pub *pub, uint64_t sequence, uint64_t *ret_ordinal);
/* False: torn, or not one of ours. */
bool test_message_read(const struct slc__sub *sub, const struct slc__taken *taken, struct test_message *ret);

#endif

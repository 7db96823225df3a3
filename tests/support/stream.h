/* The messages of content.h, sent and read at the level of the slot log. */
#ifndef SLC_TEST_STREAM_H
#define SLC_TEST_STREAM_H

#include "shm/slotlog.h"
#include "support/content.h"

/* Fills a loaned slot and publishes it; `sequence` counts this publisher's messages.  The loan stays when it fails. */
int test_message_publish(struct slc__pub *pub, uint32_t slot, uint64_t sequence, uint64_t *ret_ordinal);
/* Loan, fill, publish. */
int test_message_send(struct slc__pub *pub, uint64_t sequence, uint64_t *ret_ordinal);
/* False: torn, or not one of ours. */
bool test_message_read(const struct slc__sub *sub, const struct slc__taken *taken, struct test_message *ret);

#endif

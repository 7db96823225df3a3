/* Messages that say of themselves whether they are whole: who sent them, the how-manieth of that sender, and a pattern
 * over every byte that follows from both.  Sizes vary from inside the prefix to the whole slot.  Pure functions. */
#ifndef SLC_TEST_CONTENT_H
#define SLC_TEST_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

enum {
  TEST_MESSAGE_MIN = 16,   /* smallest slot_size that will do */
  TEST_MESSAGE_SMALL = 32, /* half of the messages are no larger: what fits into a slot's prefix */
};

struct test_message {
  uint32_t publisher; /* below 2^16 */
  uint64_t sequence;  /* below 2^48 */
};

/* How long the message is. */
uint64_t test_message_size(struct test_message message, uint64_t slot_size);
/* `size` is what test_message_size said. */
void test_message_fill(void *payload, struct test_message message, uint64_t size);
/* False: torn, or not one of ours. */
bool test_message_parse(const void *payload, uint64_t size, uint64_t slot_size, struct test_message *ret);

#endif

/* A channel without a broker: the objects of one channel in shared anonymous memory, for tests and measurements of the
 * slot log alone.  Made before fork, used by every child; the test plays the broker.  Ordinals count from 0. */
#ifndef SLC_TEST_CHANNEL_H
#define SLC_TEST_CHANNEL_H

#include "shm/slotlog.h"

struct test_channel {
  struct slc__geometry geometry;
  struct slc__control control;
  struct slc__buffers buffers;
  struct slc__mapping control_mapping, buffers_mapping, table_mapping, bell_mapping;
  struct slc__table_page *table;
  struct slc__bell_page *bell;
  uint32_t line_capacity;
  /* The membership that every publisher is given: all lines there are, as admitted by test_channel_admit. */
  struct slc__membership membership;
  struct slc__scan_table scan_table;
};

/* Room for `lines` subscriber lines, none admitted.  Exits the test on failure. */
void test_channel_init(struct test_channel *channel, uint32_t slots, uint64_t slot_size, uint32_t reliable,
                       uint32_t lines);
/* The same for one publisher, which knows that it is alone. */
void test_channel_init_exclusive(struct test_channel *channel, uint32_t slots, uint64_t slot_size, uint32_t reliable,
                                 uint32_t lines);
/* The same with so many virtual channels. */
void test_multiplexer_init(struct test_channel *channel, uint32_t slots, uint64_t slot_size, uint32_t reliable,
                           uint32_t lines, uint32_t virtual_max);
void test_channel_deinit(struct test_channel *channel);
/* Admits a subscriber to the next line(s), as the broker does; before fork, or the publishers must be told. */
uint32_t test_channel_admit(struct test_channel *channel, uint32_t max_holds, bool reliable);
/* A publisher with this id and the batch that the broker would give. */
void test_channel_publisher(struct test_channel *channel, struct slc__pub *pub, uint32_t id);
void test_channel_subscriber(struct test_channel *channel, struct slc__sub *sub, uint32_t line, uint32_t max_holds,
                             enum slc__start start);
/* Every slot in exactly one place: FREE, or AT an ordinal that the log has.  Aborts the test otherwise, saying which.
 */
void test_channel_check_slots(const struct test_channel *channel);

#endif

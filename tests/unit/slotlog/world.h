/* A small channel with a past, a live publisher that has slots in hand, and a live subscriber that holds a message: the
 * world in which another participant dies or is delayed.  Afterwards everything must go on as if it had never been. */
#ifndef SLC_TEST_WORLD_H
#define SLC_TEST_WORLD_H

#include "support/channel.h"
#include "support/stream.h"

/* Budget: four publishers with a loan and a batch of three each, two holds, one more. */
enum { WORLD_SLOTS = 19, WORLD_SLOT_SIZE = 48, WORLD_HOLDS = 2, WORLD_IDS = 8 };
/* Publisher ids.  The helper comes and goes: it writes the past and whatever is needed later. */
enum { WORLD_VICTIM = 1, WORLD_SECOND_VICTIM = 2, WORLD_BYSTANDER = 3, WORLD_HELPER = 4 };

enum world_past {
  WORLD_FRESH,    /* nothing yet: every slot FREE */
  WORLD_FULL,     /* as many messages as there is room for */
  WORLD_HELD,     /* the same, and the oldest is held */
  WORLD_LAP,      /* at the end of the log's first lap */
  WORLD_RELIABLE, /* the live subscriber is reliable and somewhat behind */
  WORLD_PASTS,
};

struct world {
  struct test_channel channel;
  struct slc__pub bystander;
  uint32_t loan; /* the bystander's */
  struct slc__sub live;
  struct slc__taken held;
  bool is_holding;
  uint32_t live_line, victim_line;
  uint64_t helper_sent;
  uint64_t received;                /* messages, by the live subscriber */
  uint64_t expected[WORLD_IDS + 1]; /* of each publisher: the smallest sequence number that may come */
};

void world_init(struct world *world, enum world_past past);
void world_deinit(struct world *world);
/* The helper publishes so many messages, and the live subscriber takes each if it is `keeping up`; all must succeed. */
void world_publish(struct world *world, uint64_t messages, bool keeping_up);
/* The live subscriber takes what there is. */
void world_drain(struct world *world);
void world_drain_to_tail(struct world *world);
/* After the victims' end: nobody else's slot was touched, none is lost, what is there is whole, every slot is used
 * again. Leaves the world's private state as it was when `world` is a copy. */
void world_check(struct world *world);

/* All of shared memory at one moment. */
struct world_image {
  uint64_t size;
  uint8_t *bytes;
};
void world_save(const struct world *world, struct world_image *image); /* allocates */
void world_restore(const struct world *world, const struct world_image *image);
bool world_equals(const struct world *world, const struct world_image *image);
void world_image_free(struct world_image *image);

#endif

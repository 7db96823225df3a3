/* What the broker tells on the channel `.slotcast/events`: one struct slc_event is one message.
 *
 * The channel is like any other to its subscribers, and is the broker's alone to publish.  Of them nothing is told.  It
 * is not reliable: whoever is slow loses events, and sees that they have gone by their ordinals.  The newest
 * SLC_EVENTS_KEPT are always retained, so that a newcomer can begin with those (SLC_START_OLDEST).
 *
 * All fields are in the machine's byte order; later versions append to them.  slc_event_read takes one out of a message
 * of any version. */
#ifndef SLOTCAST_EVENT_H
#define SLOTCAST_EVENT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLC_EVENTS_CHANNEL ".slotcast/events"
#define SLC_EVENTS_TYPE "slotcast/event"
#define SLC_EVENTS_KEPT 64

/* X(NAME, value, "name").  Values are never used again; new ones are appended. */
#define SLC_EVENT_MAP(X)                                                                                               \
  X(CHANNEL_CREATED, 1, "channel-created") /* it has its first user, or was created by request */                      \
  X(CHANNEL_REMOVED, 2, "channel-removed") /* with its last user, when its time was over, or by request */             \
  X(CHANNEL_GREW, 3, "channel-grew")       /* slot_size, generation: it has larger slots from now on */                \
  X(PUBLISHER_JOINED, 4, "publisher-joined")                                                                           \
  X(PUBLISHER_LEFT, 5, "publisher-left") /* it said goodbye */                                                         \
  X(PUBLISHER_DIED, 6, "publisher-died") /* its process ended, or became another program, without a goodbye */         \
  X(SUBSCRIBER_JOINED, 7, "subscriber-joined")                                                                         \
  X(SUBSCRIBER_LEFT, 8, "subscriber-left")                                                                             \
  X(SUBSCRIBER_DIED, 9, "subscriber-died")                                                                             \
  X(SUBSCRIBER_OVERRUN, 10, "subscriber-overrun") /* lost, lag: messages went before it took them */                   \
  X(SUBSCRIBER_HOLDS, 11, "subscriber-holds")     /* held_ns, held_ordinal, lag: it does not release a message */      \
  X(SUBSCRIBER_STALLS, 12, "subscriber-stalls")   /* held_ns, held_ordinal, lag: publishers wait for it to take one */ \
  X(SUBSCRIBER_DISCONNECTED, 13, "subscriber-disconnected") /* lag: its channel does so with the slow; the cause was   \
                                                               told before */

enum slc_event_kind {
#define SLC_EVENT_ENUM_(name, value, text) SLC_EVENT_##name = (value),
  SLC_EVENT_MAP(SLC_EVENT_ENUM_)
#undef SLC_EVENT_ENUM_
};

typedef struct slc_event {
  uint32_t size;         /* sizeof(slc_event), of whoever wrote it */
  uint32_t kind;         /* enum slc_event_kind; pass over those that you don't know */
  uint64_t realtime_ns;  /* CLOCK_REALTIME; the message's own time is of CLOCK_MONOTONIC */
  uint64_t user;         /* the publisher or subscriber, as in slc_user_info; 0: the channel itself */
  uint64_t slot_size;    /* bytes; CHANNEL_CREATED (0: no publisher came yet), CHANNEL_GREW */
  uint64_t lost;         /* SUBSCRIBER_OVERRUN: messages, since it was last told */
  uint64_t lag;          /* SUBSCRIBER_OVERRUN and later kinds: messages published and not yet taken */
  uint64_t held_ns;      /* SUBSCRIBER_HOLDS, SUBSCRIBER_STALLS: for so long */
  uint64_t held_ordinal; /* SUBSCRIBER_HOLDS; SUBSCRIBER_STALLS: that it does not take */
  uint32_t generation;   /* CHANNEL_GREW: of buffers */
  uint32_t is_reliable;  /* PUBLISHER_.., SUBSCRIBER_.. */
  int32_t pid;           /* of the user, as the kernel says; 0: in another pid namespace, or the channel itself */
  uint32_t uid;          /* of the user, or of whoever pays for the channel */
  char channel[256];     /* zero-terminated UTF-8, as the following */
  char program[64];      /* of the user */
  char client_name[256]; /* of the user */
} slc_event;

#ifdef __cplusplus
}
#endif
#endif

/* The slot log: how a message is published, taken and released, and what is left to do for the dead.
 *
 * The protocol is docs/protocol.md (each store, in order, with the failure that it prevents); tests/model has the
 * models that found it out.  The same code runs in every process.  In one sentence: the log word says whether ordinal
 * n exists and where; the owner word says whose slot it is; ownership is claimed before the log is changed.
 *
 * Ordinals are counted from 0 here and from 1 in the public API.
 *
 * No value in shared memory is trusted: every index is copied once, checked against the geometry that came from the
 * broker, and only the copy is used; every loop is bounded by the geometry.  Nothing here allocates after init, logs,
 * locks, or makes a system call but futex calls when somebody sleeps. */
#ifndef SLC__SHM_SLOTLOG_H
#define SLC__SHM_SLOTLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/layout.h"
#include "shm/object.h"
#include "shm/watchers.h"

/* The control object, mapped: pointers into it and this process's own copy of the shape. */
struct slc__control {
  struct slc__geometry geometry;
  uint32_t log_shift; /* log2(log_size) */
  struct slc__control_page *page;
  struct slc__publisher_line *publishers;
  _Atomic uint64_t *log;
  _Atomic uint64_t *own;
  _Atomic uint64_t *maxima; /* by virtual channel */
};
/* `base` maps slc__layout_control_size(g) bytes. */
void slc__control_init(struct slc__control *control, const struct slc__geometry *g, void *base);
/* The first ordinal from `from` on, head or tail, that is not yet published; no more than SLC__ORDINAL_MAX + 1 unless
 * `from` is. */
uint64_t slc__first_absent(const struct slc__control *control, uint64_t from);

/* The buffers, mapped. */
struct slc__buffers {
  uint8_t *slots; /* the first slot's prefix */
  uint64_t stride;
  uint64_t payload_offset; /* from the prefix */
  uint32_t inline_max;     /* payload bytes that the prefix may hold */
  uint64_t capacity;       /* payload bytes behind it; 0: a split channel */
};
void slc__buffers_init(struct slc__buffers *buffers, const struct slc__geometry *g, void *base);
struct slc__prefix *slc__buffers_prefix(const struct slc__buffers *buffers, uint32_t slot); /* slot < slots */

/* ---- publisher ------------------------------------------------------------------------------------------------- */

/* One hold table as a publisher sees it: what the broker admitted, never what the table says. */
struct slc__scan_table {
  uint32_t id;
  uint32_t line_count;
  uint8_t *lines; /* one byte per line: SLC__SCAN_* | holds admitted; owned by whoever built the membership */
  struct slc__table_page *table; /* mapped read-only, at least line_count lines */
  struct slc__bell_page *bell;   /* mapped writable */
};
#define SLC__SCAN_RELIABLE 0x80u
#define SLC__SCAN_CLOSED 0x40u /* takes nothing any more: its holds count, its cursor does not */
#define SLC__SCAN_HOLDS 0x0fu

struct slc__scan_doorbell {
  uint32_t table; /* index into the membership's tables */
  uint32_t line;
  int fd;              /* SEQPACKET, rung with send(MSG_DONTWAIT | MSG_NOSIGNAL) */
  uint32_t virtual_id; /* of a subscriber to one virtual channel; 0: is to know of every message */
  /* The publisher's own (virtual.c). */
  uint32_t next_own; /* 1 + the next doorbell of its virtual channel; 0: none */
  uint64_t rung;     /* what the line was armed with when it rang last */
};

/* Everybody who subscribes, as of `epoch`.  Built by the caller, borrowed by the publisher until replaced. */
struct slc__membership {
  uint64_t epoch;
  uint32_t table_count;
  struct slc__scan_table *tables;
  uint32_t doorbell_count;
  struct slc__scan_doorbell *doorbells;
};

/* Called when the epoch in control is not that of the membership: brings a newer one whole if it is there, without
 * waiting (slc__pub_set_membership from inside), and returns true when one was set. */
typedef bool (*slc__pub_sync_fn)(void *ctx, uint64_t epoch);

/* The smallest cursor of some subscribers when it was last read; cursors only grow within an epoch. */
struct slc__known_min {
  uint64_t cursor;
  uint64_t epoch;
};

struct slc__pub {
  struct slc__control control;
  struct slc__buffers buffers;
  uint32_t id;    /* 1 .. max_publishers */
  uint32_t batch; /* most free slots in hand */
  bool is_alone;  /* the channel has never another: nobody else changes the words that it changes */
  const struct slc__membership *membership;
  slc__pub_sync_fn sync;
  void (*visit)(void *ctx); /* called before slots are taken back, with sync_ctx; NULL: nobody.  Set after init */
  void *sync_ctx;

  uint32_t *free_slots; /* ring of `batch` capacity, in the order of use */
  uint32_t free_first, free_count;
  uint32_t *candidates; /* `batch`: claimed or evicted, not yet known to be unheld */
  uint32_t candidate_count;
  uint32_t pace;          /* so many are taken back at once, or more where many subscribe */
  uint64_t newest_cursor; /* of those whose holds it scanned last */
  uint32_t *stamps;       /* per slot: the number of the scan it is a candidate of */
  uint32_t stamp;
  uint32_t sweep;               /* where the next look for FREE slots begins */
  uint32_t unswept;             /* slots not looked at since it joined */
  uint64_t head;                /* where the next eviction looks */
  struct slc__known_min wanted; /* by the reliable subscribers */
  struct slc__known_min unread; /* by any subscriber */
  struct slc__publisher_line *line;
  bool needs_subscriber; /* set by the caller after init: loans are refused while nobody subscribes */
  struct slc__watch watch;
  bool is_told;               /* a message more may mean that another is retired */
  struct slc__retire *retire; /* its messages until they are retired; NULL: it does not want to know */
  /* Set by slc__pub_set_virtual. */
  uint32_t virtual_id;    /* 0: a plain channel */
  uint32_t own_doorbells; /* 1 + the first doorbell of the virtual channel; 0: none */
  uint64_t virtual_base;  /* messages that had the id before this virtual channel */
  uint64_t entered;       /* the log's ordinal of its last message */
};

/* SLC_NO_MEMORY.  Control and buffers stay mapped, and membership valid, until deinit. */
int slc__pub_init(struct slc__pub *pub, const struct slc__control *control, const struct slc__buffers *buffers,
                  uint32_t id, uint32_t batch, const struct slc__membership *membership, slc__pub_sync_fn sync,
                  void *sync_ctx);
/* Gives the free list back (own = FREE); loaned slots are the caller's to discard first. */
void slc__pub_leave(struct slc__pub *pub);
void slc__pub_deinit(struct slc__pub *pub);
void slc__pub_set_membership(struct slc__pub *pub, const struct slc__membership *membership);
/* On a multiplexer, before the first loan: publishes as virtual channel `id`, 1 .. virtual_max. */
void slc__pub_set_virtual(struct slc__pub *pub, uint32_t id, uint64_t base);

/* A slot to write, OWNED by this publisher.  SLC_WOULD_BLOCK. */
int slc__pub_loan(struct slc__pub *pub, uint32_t *ret_slot);
/* Where the payload of a loaned slot goes: inside the prefix when `size` fits there, else behind it. */
void *slc__pub_payload(const struct slc__pub *pub, uint32_t slot, uint64_t size);
void slc__pub_discard(struct slc__pub *pub, uint32_t slot);
/* Metadata, then checksum, of a loaned slot: metadata_size + checksum_size bytes. */
uint8_t *slc__pub_extra(const struct slc__pub *pub, uint32_t slot);
/* A message beside its bytes. */
struct slc__sending {
  uint64_t size;       /* of the payload, bytes */
  uint64_t timestamp;  /* CLOCK_MONOTONIC, ns; 0: none */
  uint32_t flags;      /* SLC__FLAG_*: SLC__FLAG_INLINE when the payload was written inside the prefix */
  uint32_t generation; /* with SLC__FLAG_GROWN: where the payload was written */
};
/* Publishes a loaned slot.  0 and the ordinal; SLC_CORRUPT and SLC_EXHAUSTED leave the loan as it was.  Rings sleepers
 * and fills up the free list afterwards. */
int slc__pub_publish(struct slc__pub *pub, uint32_t slot, const struct slc__sending *sending, uint64_t *ret_ordinal);
/* Waits until a loan may succeed; `deadline` on CLOCK_MONOTONIC, ns.  0, SLC_TIMED_OUT, SLC_CORRUPT. */
int slc__pub_wait(struct slc__pub *pub, int64_t deadline, int64_t spin_ns);
/* Whether a loan would succeed now: fills up the free list if need be. */
bool slc__pub_ready(struct slc__pub *pub);
/* Wakes everybody who sleeps until there is a message. */
void slc__pub_wake_all(struct slc__pub *pub);
/* Asks for the doorbell to be rung once for what is wanted (SLC__WANTS_*) and for any release: look again afterwards.
 */
void slc__pub_arm(struct slc__pub *pub, uint32_t wants);

/* ---- subscriber ------------------------------------------------------------------------------------------------ */

/* Called in the middle of a take, once for each gap: ordinals first .. first + count - 1 were lost, of virtual channel
 * `virtual_id` on a multiplexer. */
typedef void (*slc__sub_drop_fn)(void *ctx, uint32_t virtual_id, uint64_t first, uint64_t count);

struct slc__virtual_view; /* virtual.h */

/* Where slot `slot` of a later generation lies, for a message that is held, and the bytes that it has.  May ask the
 * broker.  SLC_GONE: the broker has no such generation (any more); another negative status: not now. */
typedef int (*slc__sub_payload_fn)(void *ctx, uint32_t generation, uint32_t slot, const uint8_t **ret_payload,
                                   uint64_t *ret_capacity);

struct slc__sub {
  struct slc__control control;
  struct slc__buffers buffers;
  struct slc__table_page *table; /* writable */
  struct slc__bell_page *bell;   /* read-only */
  struct slc__hold_line *line;   /* the first of ours */
  uint32_t max_holds;
  uint32_t held;       /* in use */
  uint64_t next;       /* the next ordinal wanted */
  uint64_t ran_dry_at; /* where it last had to wait */
  uint32_t guess;      /* 1 + the slot where it will most likely appear; 0: unknown */
  uint32_t free_hold;  /* where to look for an unused hold */
  uint64_t dropped;
  uint64_t claim;              /* what it misses from this ordinal on is dropped; before, it was only a wish */
  uint64_t gap_first, gap_end; /* dropped, and not yet told */
  bool started;                /* has taken its first message */
  bool ring_on_release;        /* publishers of this channel may wait */
  uint32_t seen_publishers;    /* the broker's counts, as of the last slc__sub_publishers_changed */
  uint64_t seen_joined;
  struct slc__watch watch;
  struct slc__virtual_view *view; /* of a multiplexer (slc__sub_set_view); NULL: a plain channel */

  /* Set by the caller after init. */
  uint32_t hidden_flags;    /* messages with one of these SLC__FLAG_* are passed over, or looked at twice: see hold.h */
  bool ignore_drops;        /* neither counted nor told */
  slc__sub_drop_fn on_drop; /* NULL: nobody wants to know */
  void *drop_ctx;
  slc__sub_payload_fn payload_of; /* NULL: later generations can't be reached */
  void *payload_ctx;
};

struct slc__taken {
  uint64_t ordinal;
  uint64_t timestamp;
  uint64_t size;
  const void *payload;
  const uint8_t *extra; /* metadata, then checksum */
  uint32_t publisher;
  uint32_t flags; /* SLC__FLAG_* */
  uint32_t slot;
  uint32_t generation; /* of the payload; 0: in the first one's buffers */
  uint32_t hold;       /* to release */
};

enum slc__start {
  SLC__START_NEWEST = 0, /* what has been published since it was admitted */
  SLC__START_OLDEST = 1, /* the oldest retained, then what comes */
  SLC__START_LAST = 2,   /* the latest before it was admitted, then what comes */
  SLC__START_FIRST = 3,  /* the first there ever was: it has been here since before; `since` means nothing */
};

/* Picks the start (the broker has answered: the line is admitted and its cursor 0 gates).  `since`: the first ordinal
 * that was not yet published when it was admitted.  Then `watch` is to be set, and slc__sub_tell says that the line
 * gates no more than it has to. */
void slc__sub_init(struct slc__sub *sub, const struct slc__control *control, const struct slc__buffers *buffers,
                   struct slc__table_page *table, struct slc__bell_page *bell, uint32_t line, uint32_t max_holds,
                   enum slc__start start, uint64_t since);
/* Subscribes to a multiplexer, or to one of its virtual channels; after init, start_at and the fields that the caller
 * sets.  The view stays valid. */
void slc__sub_set_view(struct slc__sub *sub, struct slc__virtual_view *view);
/* Goes on to a later ordinal than the start it has got; once, before the first take. */
void slc__sub_start_at(struct slc__sub *sub, uint64_t ordinal);
/* The same, to the latest `count` of what was there when it was made. */
void slc__sub_start_last(struct slc__sub *sub, uint64_t count);
/* 0; SLC_DISCONNECTED; SLC_EMPTY (has looked at the log word); SLC_HOLD_LIMIT (the message stays unread); SLC_CORRUPT
 * (this message is skipped and counted as dropped); the statuses of payload_of (the message stays unread). */
int slc__sub_take(struct slc__sub *sub, struct slc__taken *ret);
/* The latest message that is there and not yet taken, skipping those before it (not counted as dropped). */
int slc__sub_take_newest(struct slc__sub *sub, struct slc__taken *ret);
/* Up to `max` messages in order, with one fence for all of them.  0 and how many there are, at least one; else the
 * status of slc__sub_take. */
int slc__sub_take_many(struct slc__sub *sub, struct slc__taken *ret, size_t max, size_t *ret_count);
/* A message just taken (not found) that the caller does not want after all: released, and dropped instead of received.
 */
void slc__sub_reject(struct slc__sub *sub, const struct slc__taken *taken);
/* SLC_STALE when this hold is not in use. */
int slc__sub_release(struct slc__sub *sub, uint32_t hold);
/* enum slc__closed: other than SLC__OPEN when the broker has closed it; then whatever takes gives SLC_DISCONNECTED. */
uint32_t slc__sub_closed(const struct slc__sub *sub);
/* Tells publishers that wait that this subscriber's cursor or holds have changed: when it has joined or left. */
void slc__sub_tell(struct slc__sub *sub);
/* Whether the next message is where the last one said it would be: true only where there is one. */
bool slc__sub_is_announced(struct slc__sub *sub);
/* Whether something may be taken: looks at the log word.  Goes past what is there for other virtual channels. */
bool slc__sub_ready(struct slc__sub *sub);
/* Whether publishers have come or gone since it was last asked; before that there were none. */
bool slc__sub_publishers_changed(struct slc__sub *sub);
/* Polls for spin_ns (INT64_MAX: never sleeps), then sleeps.  0: something may be taken.  SLC__SUB_RUNG: publishers have
 * changed, or woken for another reason (a ring of others, a signal).  SLC_TIMED_OUT. */
enum { SLC__SUB_RUNG = 1 };
int slc__sub_wait(struct slc__sub *sub, int64_t deadline, int64_t spin_ns);
/* The two halves of a sleep, for several threads that take turns: the look in the turn, the sleep outside.  False:
 * something may be taken.  True: a message that comes now changes the bell that *ret_bell is the value of. */
bool slc__sub_sleep_begin(struct slc__sub *sub, uint64_t *ret_bell);
void slc__sub_sleep(const struct slc__sub *sub, uint64_t bell, int64_t deadline);
/* Asks for the doorbell to be rung once for the next message.  True: armed.  False: something is there already. */
bool slc__sub_arm(struct slc__sub *sub);
/* Ordinals published and not yet taken; of one virtual channel, where that is what it subscribes to. */
uint64_t slc__sub_lag(const struct slc__sub *sub);

/* ---- subscriber: looking back (find.c) --- */

/* All of these hold a retained message beside those taken, and leave the position where it is: 0, SLC_GONE,
 * SLC_HOLD_LIMIT, SLC_CORRUPT (this message, or the log), and SLC_EMPTY where it is still to come. */

/* By ordinal: this one, or else (`or_later`) the first retained after it. */
int slc__sub_find(struct slc__sub *sub, uint64_t ordinal, bool or_later, struct slc__taken *ret);
/* By time stamp: the oldest retained that has exactly this one, or else (`or_later`) this one or a later one.  Looks at
 * each retained message: publishers may set their own times, so that these need not grow with the ordinals.  Those
 * without a time are passed over. */
int slc__sub_find_time(struct slc__sub *sub, uint64_t timestamp, bool or_later, struct slc__taken *ret);
/* A message that is known by ordinal and slot: never SLC_EMPTY. */
int slc__sub_take_weak(struct slc__sub *sub, uint64_t ordinal, uint32_t slot, struct slc__taken *ret);

/* ---- broker ---------------------------------------------------------------------------------------------------- */

/* Initialises a fresh control object behind its header. */
void slc__control_format(const struct slc__geometry *g, void *base);
/* Initialises every line of a fresh table as nobody's, and a fresh bell. */
void slc__table_format(struct slc__table_page *table, uint32_t lines);
void slc__bell_format(struct slc__bell_page *bell);
struct slc__hold_line *slc__table_line(struct slc__table_page *table, uint32_t line);
/* A subscriber's lines before it is announced: cursor 0 in the first (it gates everything), no holds. */
void slc__line_open(struct slc__table_page *table, uint32_t line, uint32_t max_holds);
/* It is to take nothing any more.  What it holds stays its own.  Before the membership that says that it gates nothing:
 * then no reliable subscriber misses a message and goes on. */
void slc__line_shut(struct slc__table_page *table, uint32_t line, enum slc__closed why);
/* After its death or goodbye: holds cleared, cursors gate nothing. */
void slc__line_close(struct slc__table_page *table, uint32_t line, uint32_t max_holds);
/* Everything that publisher `id` had goes back into use.  Idempotent, beside everybody's work; only after the process
 * is dead or has said goodbye.  Afterwards ring every table. */
void slc__repair(const struct slc__control *control, uint32_t id);
/* Wakes the sleepers of a table, subscribers and waiting publishers, whether armed or not. */
void slc__ring_all(struct slc__table_page *table, struct slc__bell_page *bell);

struct slc__slot_states {
  uint32_t free;
  uint32_t owned;     /* on loan, or in a publisher's hand */
  uint32_t published; /* in the log */
};
void slc__slot_states(const struct slc__control *control, struct slc__slot_states *ret);

#endif

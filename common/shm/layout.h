/* The layout of everything that lies in shared memory: one header, because every process of every version must agree.
 *
 * Fixed-width integers only; no pointer, enum, bool, bit-field or hidden padding.  Words written by different
 * processes are 128 bytes apart (two cache lines: the adjacent-line prefetcher couples them).  Each struct has its
 * byte diagram, who writes each field, and a static assert on every offset.  docs/shared-memory.md tells the story.
 *
 * Who may write is decided by the kernel, per object:
 *
 *   object      publishers   subscribers        broker
 *   control     RW           R                  RW
 *   buffers     RW           R                  not mapped
 *   hold table  R            RW (own uid only)  RW
 *   bell        RW           R  (own uid only)  RW
 */
#ifndef SLC__SHM_LAYOUT_H
#define SLC__SHM_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLC__LAYOUT_MAGIC UINT64_C(0x54534143544f4c53) /* "SLOTCAST" in memory on a little-endian machine */
#define SLC__LAYOUT_MAJOR 1
#define SLC__LAYOUT_MINOR 0
#define SLC__LAYOUT_BYTE_ORDER UINT32_C(0x01020304)
#define SLC__LAYOUT_FEATURES UINT64_C(0) /* required features that this version knows */

#define SLC__LINE 128 /* spacing of words with different writers, bytes */

#define SLC__SLOTS_MIN 4
#define SLC__SLOTS_MAX (UINT32_C(1) << 20)
#define SLC__LOG_MIN 4096 /* smallest log, words */
#define SLC__PUBLISHERS_MAX 4095
#define SLC__SLOT_SIZE_MAX (UINT64_C(1) << 40) /* bytes */
#define SLC__METADATA_MAX 4096                 /* bytes per message */
#define SLC__CHECKSUM_MAX 64                   /* bytes per message */
#define SLC__VIRTUAL_MAX 65534                 /* virtual channels of a multiplexer; ids are 1 .. that */
#define SLC__ORDINAL_MAX ((UINT64_C(1) << 51) - 1)

enum slc__object_kind {
  SLC__OBJECT_CONTROL = 1,
  SLC__OBJECT_BUFFERS = 2,
  SLC__OBJECT_TABLE = 3,
  SLC__OBJECT_BELL = 4,
  SLC__OBJECT_PAYLOADS = 5, /* a later generation of buffers: payloads only */
};

enum slc__checksum { SLC__CHECKSUM_NONE = 0, SLC__CHECKSUM_CRC32C = 1, SLC__CHECKSUM_OWN = 2 };

/* At offset 0 of every object.  Written once by its creator, `ready` last.
 *
 *   0        8     10     12           16    20           24          32        40        56        60     64
 *   | magic  | major| minor| byte_order | kind | header_size| total_size| features| session | reserved| ready |
 */
struct slc__header {
  uint64_t magic;
  uint16_t major;
  uint16_t minor;
  uint32_t byte_order;
  uint32_t kind;        /* enum slc__object_kind */
  uint32_t header_size; /* sizeof(struct slc__header) */
  uint64_t total_size;  /* of the object, bytes */
  uint64_t features;    /* a reader that does not know one of these must refuse the object */
  uint8_t session[16];  /* random, of the broker that made it */
  uint32_t reserved;
  _Atomic uint32_t ready; /* 1 when all else is written; pairs with slc__object_map */
};
static_assert(sizeof(struct slc__header) == 64, "header");
static_assert(offsetof(struct slc__header, magic) == 0, "header");
static_assert(offsetof(struct slc__header, major) == 8, "header");
static_assert(offsetof(struct slc__header, minor) == 10, "header");
static_assert(offsetof(struct slc__header, byte_order) == 12, "header");
static_assert(offsetof(struct slc__header, kind) == 16, "header");
static_assert(offsetof(struct slc__header, header_size) == 20, "header");
static_assert(offsetof(struct slc__header, total_size) == 24, "header");
static_assert(offsetof(struct slc__header, features) == 32, "header");
static_assert(offsetof(struct slc__header, session) == 40, "header");
static_assert(offsetof(struct slc__header, reserved) == 56, "header");
static_assert(offsetof(struct slc__header, ready) == 60, "header");

/* Where the objects of a channel lie. */
enum slc__backend {
  SLC__BACKEND_MEMFD = 1, /* anonymous, sealed: for peers that need not trust each other */
  SLC__BACKEND_SHM = 2,   /* a file in /dev/shm: can't be sealed, so only for peers of one uid */
};

/* The pages of which a channel's buffers are made.  Everything else is in small ones. */
enum slc__pages {
  SLC__PAGES_SMALL = 1,
  SLC__PAGES_TRANSPARENT = 2, /* small ones, where the kernel is asked to use huge ones */
  SLC__PAGES_HUGE_MIN = 16,   /* from here on: huge ones (hugetlbfs) of 2^pages bytes */
  SLC__PAGES_HUGE_MAX = 34,
};

/* The shape of a channel, from which every offset is computed.  Comes from the broker's answer; the copy in control
 * is there to be compared with it, never to be used. */
struct slc__geometry {
  uint32_t slots;          /* SLC__SLOTS_MIN .. SLC__SLOTS_MAX */
  uint32_t log_size;       /* words: a power of two >= slots and >= SLC__LOG_MIN */
  uint32_t max_publishers; /* 1 .. SLC__PUBLISHERS_MAX; publisher ids are 1 .. max_publishers */
  uint32_t reliable;       /* 1: publishers wait for reliable subscribers */
  uint64_t slot_size;      /* payload bytes per slot of the first generation, 1 .. SLC__SLOT_SIZE_MAX */
  uint32_t keep_last;      /* newest messages that are never evicted, 0 .. slots - 3 */
  uint32_t metadata_size;  /* bytes beside each payload, 0 .. SLC__METADATA_MAX */
  uint32_t checksum;       /* enum slc__checksum */
  uint32_t checksum_size;  /* bytes behind the metadata, 0 .. SLC__CHECKSUM_MAX */
  uint32_t virtual_max;    /* virtual channels, 0 .. SLC__VIRTUAL_MAX; 0: a plain channel */
  uint8_t backend;         /* enum slc__backend; 0: not said, which no channel of a broker is */
  uint8_t pages;           /* of the buffers: enum slc__pages, or the logarithm of the size of huge ones; 0: small */
  uint8_t split;           /* 1: payloads lie in memory of their own, none in the buffers */
  uint8_t reserved;        /* 0 */
};
static_assert(sizeof(struct slc__geometry) == 48, "geometry");
static_assert(offsetof(struct slc__geometry, slots) == 0, "geometry");
static_assert(offsetof(struct slc__geometry, log_size) == 4, "geometry");
static_assert(offsetof(struct slc__geometry, max_publishers) == 8, "geometry");
static_assert(offsetof(struct slc__geometry, reliable) == 12, "geometry");
static_assert(offsetof(struct slc__geometry, slot_size) == 16, "geometry");
static_assert(offsetof(struct slc__geometry, keep_last) == 24, "geometry");
static_assert(offsetof(struct slc__geometry, metadata_size) == 28, "geometry");
static_assert(offsetof(struct slc__geometry, checksum) == 32, "geometry");
static_assert(offsetof(struct slc__geometry, checksum_size) == 36, "geometry");
static_assert(offsetof(struct slc__geometry, virtual_max) == 40, "geometry");
static_assert(offsetof(struct slc__geometry, backend) == 44, "geometry");
static_assert(offsetof(struct slc__geometry, pages) == 45, "geometry");
static_assert(offsetof(struct slc__geometry, split) == 46, "geometry");
static_assert(offsetof(struct slc__geometry, reserved) == 47, "geometry");

/* Control: this page, then max_publishers publisher lines, then log[log_size], then own[slots], then
 * maxima[virtual_max + 1] (the greatest ordinal of each virtual channel among those applied).
 *
 *   0        64         128    256    384                512       640
 *   | header | geometry | head | tail | epoch and counts | applied | publisher lines ...
 *
 * head and tail are hints that only grow: publishers raise them, nobody trusts them. */
struct slc__control_page {
  struct slc__header header;
  struct slc__geometry geometry;
  uint8_t pad0[16];
  _Atomic uint64_t head; /* publishers: no retained ordinal is smaller */
  uint8_t pad1[120];
  _Atomic uint64_t tail; /* publishers: every ordinal below it has existed */
  uint8_t pad2[120];
  _Atomic uint64_t epoch;             /* broker: the number of the membership; pairs with slc__pub_refill */
  _Atomic uint64_t publishers_joined; /* broker: publishers that ever joined */
  _Atomic uint32_t publishers;        /* broker: publishers that are there now */
  _Atomic uint32_t subscribers;       /* broker: subscribers that are there now */
  _Atomic uint32_t generation;        /* broker: the newest generation of buffers; the first is 1 */
  _Atomic uint32_t watched;           /* broker: publishers that want to know of releases */
  _Atomic uint64_t watchers;          /* broker: the number of the set of their doorbells */
  uint8_t pad3[88];
  _Atomic uint64_t applied; /* publishers: every ordinal below it is in the maxima of the virtual channels */
  uint8_t pad4[120];
};
static_assert(sizeof(struct slc__control_page) == 640, "control");
static_assert(offsetof(struct slc__control_page, geometry) == 64, "control");
static_assert(offsetof(struct slc__control_page, head) == 128, "control");
static_assert(offsetof(struct slc__control_page, tail) == 256, "control");
static_assert(offsetof(struct slc__control_page, epoch) == 384, "control");
static_assert(offsetof(struct slc__control_page, publishers_joined) == 392, "control");
static_assert(offsetof(struct slc__control_page, publishers) == 400, "control");
static_assert(offsetof(struct slc__control_page, subscribers) == 404, "control");
static_assert(offsetof(struct slc__control_page, generation) == 408, "control");
static_assert(offsetof(struct slc__control_page, watched) == 412, "control");
static_assert(offsetof(struct slc__control_page, watchers) == 416, "control");
static_assert(offsetof(struct slc__control_page, applied) == 512, "control");

/* One per publisher id, written by that publisher alone, read by observers.  Relaxed: figures, not synchronisation,
 * but for `generation` and `armed` (pairs with slc__watch_ring). */
struct slc__publisher_line {
  _Atomic uint64_t messages;
  _Atomic uint64_t bytes;
  _Atomic uint64_t would_block; /* loans refused for want of a slot */
  _Atomic uint64_t wakes;       /* system calls made to wake sleepers */
  _Atomic uint32_t generation;  /* the oldest later generation that it may write to; 0: none (docs/protocol.md) */
  _Atomic uint32_t armed;       /* what it wants its doorbell rung for: SLC__WANTS_*; cleared by publishers that ring */
  uint8_t pad[88];
};
static_assert(sizeof(struct slc__publisher_line) == SLC__LINE, "publisher line");

/* A log word: [lap 43 | evicted 1 | slot 20].  Ordinal n lives in log[n % log_size]; lap = n / log_size + 1.
 * The word 0 is "never used". */
#define SLC__LOG_SLOT_BITS 20
#define SLC__LOG_EVICTED (UINT64_C(1) << SLC__LOG_SLOT_BITS)
#define SLC__LOG_SLOT_MASK (SLC__LOG_EVICTED - 1)
#define SLC__LOG_LAP_SHIFT (SLC__LOG_SLOT_BITS + 1)

/* An owner word: [at 1 | publisher 12 | ordinal 51].  publisher 0: FREE.  at: AT the ordinal, put there by the
 * publisher; else OWNED by it, and the ordinal is the last one that the slot was at (the tag against ABA). */
#define SLC__OWN_ORDINAL_BITS 51
#define SLC__OWN_ORDINAL_MASK ((UINT64_C(1) << SLC__OWN_ORDINAL_BITS) - 1)
#define SLC__OWN_PUBLISHER_SHIFT SLC__OWN_ORDINAL_BITS
#define SLC__OWN_PUBLISHER_MASK UINT64_C(0xfff)
#define SLC__OWN_AT (UINT64_C(1) << 63)

/* A slot in a buffer object: prefix, metadata, checksum, padding to 64, payload; slots SLC__LINE-aligned.  Messages up
 * to SLC__INLINE bytes may lie in the prefix itself: then a message is one cache line.  A message that is larger than
 * the first generation's slots has its payload in a later generation; its prefix stays here.
 *
 *   0     8      12      16     24          32              64
 *   | seq | next | flags | size | timestamp | inline or ext | metadata, checksum | payload ...
 *
 * Written by the publisher that owns the slot; seq also by whoever evicts it. */
#define SLC__INLINE 32
#define SLC__PAYLOAD_OFFSET 64 /* without metadata and checksum; see slc__layout_payload_offset */
/* Where no payload lies in the prefix: with SLC__FLAG_GROWN, on a multiplexer, and in a split channel. */
struct slc__prefix_ext {
  _Atomic uint32_t generation;      /* of the payload, with SLC__FLAG_GROWN */
  _Atomic uint32_t virtual_id;      /* 1 .. virtual_max; 0: a plain channel */
  _Atomic uint64_t virtual_ordinal; /* among all messages that ever had this id, from 1 on */
  _Atomic uint64_t virtual_base;    /* of those, the ones before this virtual channel had the id */
  uint8_t reserved[8];
};
static_assert(sizeof(struct slc__prefix_ext) == SLC__INLINE, "prefix ext");
static_assert(offsetof(struct slc__prefix_ext, generation) == 0, "prefix ext");
static_assert(offsetof(struct slc__prefix_ext, virtual_id) == 4, "prefix ext");
static_assert(offsetof(struct slc__prefix_ext, virtual_ordinal) == 8, "prefix ext");
static_assert(offsetof(struct slc__prefix_ext, virtual_base) == 16, "prefix ext");
struct slc__prefix {
  _Atomic uint64_t seq;       /* 0: nothing.  n + 1: ordinal n is announced.  SLC__SEQ_PENDING | n + 1: about to be */
  _Atomic uint32_t next;      /* 1 + the slot that this publisher will most likely use next; 0: unknown */
  _Atomic uint32_t flags;     /* SLC__FLAG_*; publisher id << 16 */
  _Atomic uint64_t size;      /* payload bytes */
  _Atomic uint64_t timestamp; /* CLOCK_MONOTONIC, ns; 0: none */
  union {
    uint8_t inline_payload[SLC__INLINE];
    struct slc__prefix_ext ext;
  };
};
static_assert(sizeof(struct slc__prefix) == SLC__PAYLOAD_OFFSET, "prefix");
static_assert(offsetof(struct slc__prefix, seq) == 0, "prefix");
static_assert(offsetof(struct slc__prefix, next) == 8, "prefix");
static_assert(offsetof(struct slc__prefix, flags) == 12, "prefix");
static_assert(offsetof(struct slc__prefix, size) == 16, "prefix");
static_assert(offsetof(struct slc__prefix, timestamp) == 24, "prefix");
static_assert(offsetof(struct slc__prefix, inline_payload) == 32, "prefix");
#define SLC__SEQ_PENDING (UINT64_C(1) << 63)
#define SLC__FLAG_INLINE UINT32_C(1)     /* the payload is in the prefix */
#define SLC__FLAG_GROWN UINT32_C(2)      /* the payload is in the generation that ext names */
#define SLC__FLAG_ACTIVATION UINT32_C(4) /* the message that was made with the channel; hidden by default */
#define SLC__FLAG_VIRTUAL UINT32_C(8)    /* ext says of which virtual channel it is: every message of a multiplexer */

/* Buffers: header (padded to SLC__BUFFERS_FIRST), then the slots.  Payloads of a later generation: the same without
 * prefixes, slot s at SLC__BUFFERS_FIRST + s * slc__layout_payload_stride(size). */
#define SLC__BUFFERS_FIRST SLC__LINE

/* A hold table, one or more per subscribing uid: written by the subscribers of that uid.
 *
 *   0        128     256        384
 *   | header | armed | released | lines ...
 *
 * armed:    the greatest bell value that a sleeper of this table has gone to sleep on (pairs with slc__bell_ring)
 * released: the word that publishers sleep on when they wait for a slot (rung by slc__sub_release) */
struct slc__table_page {
  struct slc__header header;
  uint8_t pad0[64];
  _Atomic uint64_t armed;
  uint8_t pad1[120];
  _Atomic uint64_t released;
  uint8_t pad2[120];
};
static_assert(sizeof(struct slc__table_page) == 384, "table");
static_assert(offsetof(struct slc__table_page, armed) == 128, "table");
static_assert(offsetof(struct slc__table_page, released) == 256, "table");

/* One line per subscriber; one that may hold more than SLC__LINE_HOLDS messages has several lines in a row, of which
 * only the first has a cursor.  The first half is what publishers scan.
 *
 *   0        8          16 ............ 64      72        80        88       92
 *   | cursor | received | holds[12]     | armed | dropped | damaged | closed | pad
 *
 * All of it is the subscriber's to write, but for `closed`, which is the broker's.
 */
#define SLC__LINE_HOLDS 12
#define SLC__CURSOR_NONE UINT64_MAX /* gates nothing: no subscriber here, or a further line of one */
struct slc__hold_line {
  _Atomic uint64_t cursor; /* the next ordinal it wants; publishers do not evict past that of a reliable one */
  _Atomic uint64_t received;
  _Atomic uint32_t holds[SLC__LINE_HOLDS]; /* 1 + slot; 0: none */
  _Atomic uint64_t armed;                  /* the bell value for which this subscriber wants its doorbell rung */
  _Atomic uint64_t dropped;                /* ordinals lost */
  _Atomic uint64_t damaged;                /* of those, the ones that were there and could not be read */
  _Atomic uint32_t closed;                 /* enum slc__closed; broker, once */
  uint8_t pad[36];
};
/* Why a subscriber gets nothing any more: it was too slow for its channel. */
enum slc__closed {
  SLC__OPEN = 0,
  SLC__CLOSED_OVERRUN = 1,
  SLC__CLOSED_HOLDS = 2, /* did not release a message */
  SLC__CLOSED_STALLS = 3 /* kept publishers waiting */
};
static_assert(sizeof(struct slc__hold_line) == SLC__LINE, "hold line");
static_assert(offsetof(struct slc__hold_line, cursor) == 0, "hold line");
static_assert(offsetof(struct slc__hold_line, received) == 8, "hold line");
static_assert(offsetof(struct slc__hold_line, holds) == 16, "hold line");
static_assert(offsetof(struct slc__hold_line, armed) == 64, "hold line");
static_assert(offsetof(struct slc__hold_line, dropped) == 72, "hold line");
static_assert(offsetof(struct slc__hold_line, damaged) == 80, "hold line");
static_assert(offsetof(struct slc__hold_line, closed) == 88, "hold line");

/* A bell, one per hold table: written by publishers, so that no subscriber of another uid can reach the sleepers.
 *
 *   0        128    256
 *   | header | bell | waiting
 *
 * bell:    the word that this table's sleepers wait on; starts at 1
 * waiting: the greatest value of the table's `released` that a publisher went to sleep on (pairs with slc__sub_release)
 */
struct slc__bell_page {
  struct slc__header header;
  uint8_t pad0[64];
  _Atomic uint64_t bell;
  uint8_t pad1[120];
  _Atomic uint64_t waiting;
  uint8_t pad2[120];
};
static_assert(sizeof(struct slc__bell_page) == 384, "bell");
static_assert(offsetof(struct slc__bell_page, bell) == 128, "bell");
static_assert(offsetof(struct slc__bell_page, waiting) == 256, "bell");

/* Sizes and offsets, all in bytes, all multiples of the page size where they are an object's. */
#define SLC__PAGE 4096

bool slc__pages_are_huge(uint32_t pages);
/* Bytes, of what an object made of them is a multiple. */
uint64_t slc__pages_size(uint32_t pages);
/* As users and messages say it: 0 or 1 for small ones, 2 for transparent ones, the size of huge ones.  SLC_INVALID. */
int slc__pages_of(uint64_t wanted, uint32_t *ret_pages);
uint64_t slc__pages_to(uint32_t pages);

/* 0 when every field is within its limits and consistent, else SLC_INVALID. */
int slc__geometry_check(const struct slc__geometry *g);
/* The log for so many slots: the smallest power of two that will do. */
uint32_t slc__geometry_log_size(uint32_t slots);
/* Free slots that each publisher of such a channel may keep in hand besides its loans (its share of the budget). */
uint32_t slc__geometry_batch(uint32_t slots);

uint64_t slc__layout_publisher_lines(const struct slc__geometry *g); /* offset in control */
uint64_t slc__layout_log(const struct slc__geometry *g);             /* offset in control */
uint64_t slc__layout_own(const struct slc__geometry *g);             /* offset in control */
uint64_t slc__layout_maxima(const struct slc__geometry *g);          /* offset in control */
uint64_t slc__layout_control_size(const struct slc__geometry *g);
uint64_t slc__layout_payload_offset(const struct slc__geometry *g); /* from the prefix */
uint32_t slc__layout_inline_max(const struct slc__geometry *g);     /* payload bytes that the prefix may hold */
uint64_t slc__layout_slot_stride(const struct slc__geometry *g);
uint64_t slc__layout_buffers_size(const struct slc__geometry *g);
/* A generation with slots of `slot_size` bytes: what each takes (in a split channel, too), and all of them. */
uint64_t slc__layout_payload_stride(uint64_t slot_size);
uint64_t slc__layout_payloads_size(const struct slc__geometry *g, uint64_t slot_size);
uint64_t slc__layout_table_size(uint32_t lines);
uint32_t slc__layout_table_lines(uint64_t size); /* lines that a table of this size has */
uint64_t slc__layout_bell_size(void);
/* Lines that a subscriber with so many holds occupies. */
uint32_t slc__layout_lines_for(uint32_t max_holds);

#endif

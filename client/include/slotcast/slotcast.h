/* Slotcast: publish/subscribe between the processes of one machine, through shared memory.
 *
 * A publisher writes a message into a slot (loan, publish); subscribers read it where it lies (take, release).  Neither
 * copies it, takes a lock or makes a system call unless the other is asleep.  A broker (slotcastd) sets channels up
 * and is not on that path: it may go, and messages keep flowing.
 *
 * Conventions, for every function:
 *   - Fallible functions return 0 (or a count) or a negative slc_status (slotcast/status.h); slc_error_detail() then
 *     has the sentence that says what happened and what to do.
 *   - Results come back through the last parameters, named ret_*, written only on success.
 *   - Options structs are made by their initialiser macro (it sets `size`); zero means the default everywhere.  A NULL
 *     options pointer means all defaults.
 *   - Times are nanoseconds.  A time-out that is negative waits for ever; 0 does not wait.
 *   - A client comes back to a broker that has gone, by itself; what asks it meanwhile waits for reconnect_timeout_ns,
 *     then gives SLC_BROKER_GONE.  Only where the broker that comes knows nothing there is something to see: "anew"
 * below.
 *   - What asks the broker gives SLC_TIMED_OUT when it does not answer within request_timeout_ns of the client; what it
 *     opened for an answer that came too late is given back.
 *   - Threads: a publisher or subscriber handle belongs to one thread at a time, unless its option `locked` is set;
 *     different handles, also of one client, may be used by different threads at once, and don't slow each other down.
 *     None is closed while another thread uses it.
 *   - A handle belongs to the process that opened it: in a forked child every call gives SLC_FORKED.
 *   - Strings are UTF-8 and zero-terminated.
 *
 * Since: 0.1, unless a comment says otherwise. */
#ifndef SLOTCAST_SLOTCAST_H
#define SLOTCAST_SLOTCAST_H

#include <stddef.h>
#include <stdint.h>

#include "slotcast/event.h"
#include "slotcast/status.h"

#if defined(__GNUC__)
#define SLC_EXPORT __attribute__((visibility("default")))
#else
#define SLC_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SLC_VERSION_MAJOR 0
#define SLC_VERSION_MINOR 1
#define SLC_VERSION_PATCH 0
#define SLC_VERSION_STRING "0.1.0"

#define SLC_WAIT_FOREVER INT64_C(-1)
#define SLC_SPIN_FOREVER INT64_MAX /* spin_ns: never sleep */
#define SLC_SPIN_NEVER INT64_C(-1) /* spin_ns: sleep at once */

/* The version of the library in use, "major.minor.patch".  Any thread; static storage. */
SLC_EXPORT const char *slc_version(void);
/* "WOULD_BLOCK" for SLC_WOULD_BLOCK; "?" for an unknown value.  Any thread; static storage. */
SLC_EXPORT const char *slc_status_name(int status);
/* A sentence that says what the status means and what to do.  Any thread; static storage. */
SLC_EXPORT const char *slc_status_text(int status);
/* The sentence that belongs to the last failure in this thread, more exact than slc_status_text: names, sizes, who has
 * what.  Valid until the thread's next call.  EMPTY, WOULD_BLOCK, and TIMED_OUT of a wait, leave it as it was. */
SLC_EXPORT const char *slc_error_detail(void);

/* ---- client: a connection to a broker --------------------------------------------------------------------------- */

typedef struct slc_client slc_client;

/* What has happened to a client's connection (docs/features.md, "When the broker restarts"). */
enum slc_connection {
  SLC_CONNECTION_LOST = 1, /* it has ended; what is open goes on */
  SLC_CONNECTION_BACK = 2, /* it is back, and everything is as it was */
  SLC_CONNECTION_ANEW = 3 /* it is back, but the broker did not know what was open (all of it, or some): that was opened
                             anew, on new channels of the same names.  Loans from before are SLC_STALE; what was
                             published before is taken first; ordinals begin anew, and those kept from before (weak
                             references, retired messages) mean nothing any more */
};
/* Told of that, lost and back in turn, in whichever thread calls something that notices it; losses that follow each
 * other before they could be told are told as one.  No lock is held, but the thread may be in the middle of a call:
 * must use neither the client nor a handle of it. */
typedef void (*slc_connection_fn)(void *ctx, int event);

typedef struct slc_client_options {
  uint32_t size;
  /* Path; NULL: $SLOTCAST_SOCKET, else $XDG_RUNTIME_DIR/slotcast/broker.sock if there, else /run/slotcast/broker.sock.
   */
  const char *socket;
  const char *name; /* what this client is called in `slotcast info`, up to 255 bytes; NULL: the program's name */
  int64_t request_timeout_ns; /* the longest wait for the broker to answer; 0: the default, 60 s; negative: for ever */
  /* While the broker is away, calls that need it wait for it, until so long after its loss was noticed; then they give
   * SLC_BROKER_GONE at once, and it is still looked for.  So do those over which 17 brokers have gone one after the
   * other.  0: the default, 1 s; negative: for ever, and however many (request_timeout_ns still holds). */
  int64_t reconnect_timeout_ns;
  slc_connection_fn on_connection;
  void *callback_ctx; /* passed to it */
} slc_client_options;
#define SLC_CLIENT_OPTIONS_INIT                                                                                        \
  { sizeof(slc_client_options), NULL, NULL, 0, 0, NULL, NULL }

/* Connects.  SLC_NO_BROKER, SLC_TIMED_OUT, SLC_DENIED, SLC_VERSION, SLC_PROTOCOL, SLC_NO_DESCRIPTORS, SLC_NO_MEMORY,
 * SLC_INVALID, SLC_SYSTEM.  The client is the caller's, to be closed after all its publishers and subscribers.  Any
 * thread. */
SLC_EXPORT int slc_client_open(const slc_client_options *options, slc_client **ret_client);
/* Takes NULL.  What is still open is closed too; those handles are then invalid. */
SLC_EXPORT void slc_client_close(slc_client *client);
/* The broker's socket path that this client uses.  Valid as long as the client. */
SLC_EXPORT const char *slc_client_socket(const slc_client *client);
/* Does what is to be done for the connection: reads what the broker has said, and when it has gone looks for it,
 * without waiting.  Every call that waits, asks the broker, or finds nothing does so by itself; this is for a program
 * that does none of that for a while.  0; SLC_BROKER_GONE: there is no connection now.  SLC_FORKED.  Any thread. */
SLC_EXPORT int slc_client_dispatch(slc_client *client);
/* A descriptor for the caller's own event loop: readable when slc_client_dispatch has something to do, which includes
 * the end of the connection and the next attempt to have another.  Poll it, never read or close it; valid until the
 * client is closed.  SLC_NO_DESCRIPTORS, SLC_LIMIT, SLC_FORKED, SLC_SYSTEM.  Any thread. */
SLC_EXPORT int slc_client_fd(slc_client *client, int *ret_fd);

typedef struct slc_client_stats {
  uint32_t size;      /* set by the caller: sizeof(slc_client_stats) */
  uint32_t connected; /* 0: there is no connection, or it is being had back */
  uint64_t lost;      /* connections that have ended */
  uint64_t back;      /* of those, how often everything was as it was */
  uint64_t anew;      /* and how often something had to be opened anew */
} slc_client_stats;
/* As far as it has been noticed.  SLC_INVALID, SLC_FORKED.  Any thread. */
SLC_EXPORT int slc_client_stats_get(slc_client *client, slc_client_stats *ret_stats);

/* ---- publisher --------------------------------------------------------------------------------------------------- */

typedef struct slc_publisher slc_publisher;

enum slc_checksum {
  SLC_CHECKSUM_NONE = 0,
  SLC_CHECKSUM_CRC32C = 1, /* CRC-32C (Castagnoli), little-endian; the same on every processor */
  SLC_CHECKSUM_OWN = 2     /* by a callback of publishers and subscribers, of the size that they agree on */
};

/* Where the memory of a channel lies. */
enum slc_backend {
  SLC_BACKEND_MEMFD = 1, /* sealed memfds, for any processes */
  SLC_BACKEND_SHM = 2    /* files in /dev/shm, for processes of the broker's own user; SLC_DENIED for others */
};
/* The pages of a channel's payloads, or the size in bytes of huge pages that the machine has (2 or 1,024 MiB on most).
 */
#define SLC_PAGES_SMALL UINT64_C(1)
#define SLC_PAGES_TRANSPARENT UINT64_C(2) /* huge ones where the kernel can, small ones else */

/* Computes the checksum of a message's payload and metadata (NULL and 0: the channel has none) into `checksum`
 * (checksum_size bytes, zero before).  Called in the thread that publishes or takes; must give the same for the same
 * bytes in every process, read no more than it is given, and use no handle. */
typedef void (*slc_checksum_fn)(void *ctx, const void *payload, size_t payload_size, const void *metadata,
                                size_t metadata_size, void *checksum, size_t checksum_size);
/* Called by publish and send, before the message exists: may change the payload and lower *size (not to 0).  Non-zero:
 * the message is refused (SLC_REFUSED), the loan stays.  In the thread that publishes; must use no handle.  It is
 * called again when a loan is published again after a failure. */
typedef int (*slc_before_send_fn)(void *ctx, void *payload, size_t *size);
/* Called before a channel grows for a message of `wanted` bytes, *slot_size being what the new slots would have: may
 * choose another size from `wanted` on.  Non-zero: no growth (SLC_REFUSED). */
typedef int (*slc_growth_fn)(void *ctx, uint64_t wanted, uint64_t *slot_size);

/* What is done about subscribers that are too slow: those that lost messages (not reliable ones), did not release one
 * for `slotcastd --slow-hold`, or have kept publishers waiting so long without taking anything (reliable ones). */
enum slc_slow_policy {
  SLC_SLOW_TELL = 0,      /* it is told on the channel of events */
  SLC_SLOW_DISCONNECT = 1 /* also, it takes nothing any more (SLC_DISCONNECTED), and nobody waits for it */
};

/* Memory of a slot's payload in a split channel. */
typedef struct slc_payload {
  int fd;          /* a file of tmpfs or hugetlbfs (a memfd, say), or a DMA-BUF, open for reading and writing */
  uint32_t slot;   /* set by the library */
  uint64_t offset; /* of the payload in it, bytes, a multiple of 64 */
  uint64_t handle; /* the allocator's own: carried to all publishers and subscribers, and to the broker's free helper */
} slc_payload;
/* Callbacks of publishers to split channels; they run in the thread that opens, loans or closes, and must use no
 * handle.  All of them get callback_ctx. */

/* Fills *ret_payload with memory for `size` bytes (a multiple of 128) of one slot; the same descriptor may serve many.
 * The descriptor is the caller's and stays open until `free_payload` has been called for every slot that it serves.
 * Non-zero: there is none (SLC_REFUSED). */
typedef int (*slc_allocate_fn)(void *ctx, uint32_t generation, uint32_t slot, uint64_t size, slc_payload *ret_payload);
/* Called once for each payload allocated, in the same call of the library.  is_kept: it has become the channel's, and
 * the broker keeps a descriptor (or, when the broker has gone in the middle, may do so): the caller may close its own,
 * and leaves the memory.  0: it is not used; another publisher was first for this slot, or it failed. */
typedef void (*slc_free_fn)(void *ctx, const slc_payload *payload, int is_kept);
/* Maps a payload, this publisher's own or another's, for reading and writing; payload->fd is open only during the call.
 * The address is a multiple of 64.  NULL: it can't (SLC_REFUSED). */
typedef void *(*slc_map_fn)(void *ctx, const slc_payload *payload, uint64_t size);
typedef void (*slc_unmap_fn)(void *ctx, void *address, uint64_t size);

typedef struct slc_publisher_options {
  uint32_t size;
  uint32_t slots;          /* of the channel, 4..1048576; 0: as it is, or 64.  The first publisher decides */
  uint64_t slot_size;      /* bytes; 0: as the channel is, or 1024.  A larger message makes the channel grow */
  uint32_t max_loans;      /* slots on loan at once; 0: 1 */
  uint32_t max_publishers; /* of the channel, 1..4095; 0: as it is, or 64 */
  int reliable;     /* non-zero: loans wait (WOULD_BLOCK) for reliable subscribers; all publishers of a channel agree */
  int no_timestamp; /* non-zero: messages carry no time (saves a clock reading each) */
  const char *type; /* what the bytes are, up to 255 bytes; first non-empty wins, another is refused; NULL: any */
  int64_t spin_ns;  /* slc_publisher_wait polls so long before it sleeps; 0: the default, 20 us */
  /* The rest of the channel's shape: the first publisher decides, others ask for the same or for 0 (as it is). */
  int fixed_size;           /* non-zero: the channel does not grow; all publishers agree */
  uint32_t keep_last;       /* so many newest messages are always retained, for those who come late; up to slots - 3 */
  uint32_t metadata_size;   /* bytes beside each payload, 0..4096 */
  int checksum;             /* enum slc_checksum */
  uint32_t checksum_size;   /* bytes, 1..64, with SLC_CHECKSUM_OWN */
  uint32_t max_subscribers; /* of the channel; 0: as many as there is room for */
  int64_t linger_ns;        /* the channel stays so long after its last user has left; 0: it goes with it */
  int activation;           /* non-zero: a new channel begins with one marked message (ordinal 1), hidden by default */
  int slow_policy;          /* enum slc_slow_policy */
  /* Virtual channels: the name opened is one of `multiplexer`, a channel whose log and slots many share.  Shape and
   * limits are the multiplexer's, `type` is the virtual channel's. */
  const char *multiplexer; /* NULL: a plain channel */
  uint32_t max_virtual;    /* of the multiplexer, 1..65534; 0: as it is, or 1024 */
  uint32_t virtual_id; /* of the virtual channel, 1..max_virtual; 0: as it is, or assigned.  It keeps the id, and goes
                          on with its ordinals, as long as the multiplexer lives; only when all ids were given, that
                          of the one longest without users goes to a new name.  All in use: SLC_LIMIT */
  /* This publisher alone. */
  int retirement;                   /* non-zero: tells which messages are retired (slc_publisher_retired) */
  int needs_subscriber;             /* non-zero: loans give SLC_WOULD_BLOCK while nobody subscribes */
  int locked;                       /* non-zero: several threads may use the handle at once: calls take turns */
  slc_checksum_fn compute_checksum; /* with SLC_CHECKSUM_OWN */
  slc_before_send_fn before_send;
  slc_growth_fn on_growth;
  void *callback_ctx; /* passed to the callbacks */
  /* The channel's memory: the first publisher decides, others ask for the same or for 0 (as it is). */
  int backend;    /* enum slc_backend; 0: as the channel is, or as the broker has it */
  uint64_t pages; /* SLC_PAGES_SMALL, SLC_PAGES_TRANSPARENT, or the size of huge pages, which must be free, and whose
                     channel is for processes of the broker's own user; 0: as the channel is, or small */
  /* This publisher alone. */
  int prefault;    /* non-zero: all that it maps is there before it is used, so that no first touch costs a fault */
  int lock_memory; /* non-zero: and stays, locked (RLIMIT_MEMLOCK) */
  /* Split channels: each slot's payload lies in memory of its own. */
  int split;                        /* non-zero: it is one; all publishers agree */
  uint32_t slots_per_object;        /* of the memory that the library allocates; 0: 1 */
  slc_allocate_fn allocate_payload; /* NULL: the library allocates, on the channel's backend */
  slc_free_fn free_payload;         /* with allocate_payload */
  slc_map_fn map_payload;           /* NULL: mmap */
  slc_unmap_fn unmap_payload;       /* with map_payload */
} slc_publisher_options;
#define SLC_PUBLISHER_OPTIONS_INIT                                                                                     \
  {                                                                                                                    \
    sizeof(slc_publisher_options), 0, 0, 0, 0, 0, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, 0, 0, 0, NULL,    \
        NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL                                                     \
  }

/* Opens a publisher, creating the channel when it is new.  SLC_NAME_INVALID, SLC_INCOMPATIBLE, SLC_NO_BUDGET,
 * SLC_LIMIT, SLC_DENIED, SLC_INVALID, SLC_BROKER_GONE, SLC_PROTOCOL, SLC_NO_DESCRIPTORS, SLC_NO_MEMORY, SLC_FORKED,
 * SLC_SYSTEM; SLC_REFUSED (allocate_payload or map_payload).  The publisher is the caller's.  Any thread. */
SLC_EXPORT int slc_publisher_open(slc_client *client, const char *channel, const slc_publisher_options *options,
                                  slc_publisher **ret_publisher);
/* Discards what is on loan and leaves the channel; published messages stay.  Takes NULL. */
SLC_EXPORT void slc_publisher_close(slc_publisher *publisher);

/* A slot on loan: write up to `capacity` bytes at `data`.  The rest is the library's. */
typedef struct slc_loan {
  void *data;      /* 32-byte aligned, 64-byte where capacity is more than 32; holds whatever was there before */
  size_t capacity; /* bytes */
  uint32_t slot;
  uint32_t token;
  void *metadata;        /* metadata_size bytes, 64-byte aligned, to be written until publish; hold whatever was there
                            before; NULL: the channel has none */
  uint64_t timestamp_ns; /* 0: publish takes the time; the caller may set another */
} slc_loan;

/* Borrows a slot for a message of up to `size` bytes (0: the channel's first slot size).  On a channel that is not
 * reliable SLC_WOULD_BLOCK comes only for a moment, while this publisher has not learnt yet of subscribers that have
 * just joined.  A size above the channel's slots makes it grow by a generation of larger slots (on_growth is asked),
 * through the broker: then also SLC_REFUSED, SLC_LIMIT, SLC_BROKER_GONE, SLC_NO_DESCRIPTORS, SLC_NO_MEMORY,
 * SLC_PROTOCOL, SLC_INVALID (on_growth chose too small a size), SLC_TOO_LARGE (the channel's size is fixed, or 1 TiB).
 * SLC_WOULD_BLOCK, SLC_LOAN_LIMIT, SLC_CORRUPT, SLC_FORKED.  The memory is the caller's until publish, discard or
 * close.
 */
SLC_EXPORT int slc_publisher_loan(slc_publisher *publisher, size_t size, slc_loan *ret_loan);
/* Publishes the first `size` bytes (1..capacity) of a loan; from then on the memory must not be written.  *ret_ordinal
 * (may be NULL): 1, 2, 3 .. per channel.  SLC_STALE: not on loan (any more), or of a channel that was opened anew
 * since (it is given back by this).  SLC_INVALID: size is 0 or more than the capacity, or before_send made it so; the
 * loan stays.  SLC_REFUSED (before_send), SLC_CORRUPT, SLC_EXHAUSTED, SLC_FORKED: the loan stays. */
SLC_EXPORT int slc_publisher_publish(slc_publisher *publisher, slc_loan *loan, size_t size, uint64_t *ret_ordinal);
/* Gives a loan back.  SLC_STALE, SLC_FORKED. */
SLC_EXPORT int slc_publisher_discard(slc_publisher *publisher, slc_loan *loan);
/* loan, copy, publish in one call; metadata are zeros.  When it fails, nothing stays on loan.  Statuses of
 * slc_publisher_loan and slc_publisher_publish. */
SLC_EXPORT int slc_publisher_send(slc_publisher *publisher, const void *data, size_t size, uint64_t *ret_ordinal);
/* Waits until a loan may succeed: a slot is free and, with `needs_subscriber`, somebody subscribes.  SLC_TIMED_OUT,
 * SLC_FORKED. */
SLC_EXPORT int slc_publisher_wait(slc_publisher *publisher, int64_t timeout_ns);

/* A message of this publisher that nobody can take or hold any more. */
typedef struct slc_retired {
  uint64_t ordinal;
  uint32_t slot; /* where it lay */
} slc_retired;
/* With `retirement`: which of this publisher's messages have been retired since the last call, up to `max`; each is
 * told exactly once, not necessarily in the order of ordinals.  A message is retired when it has been evicted from the
 * channel and, after that, nobody holds it, whatever subscribers do: read it, skip it, leave, die, or never read it
 * (then it goes when its slot is needed).  So that this happens soon, such a publisher evicts what every subscriber has
 * gone past, except for the newest `keep_last`; who comes later finds no more than those.  0 and *ret_count, at least
 * one; SLC_EMPTY, SLC_INVALID (opened without `retirement`, max is 0), SLC_FORKED. */
SLC_EXPORT int slc_publisher_retired(slc_publisher *publisher, slc_retired *ret_retired, size_t max, size_t *ret_count);
/* Borrows the very slot of a retired message, with what it wrote there still in it, as long as no other message has
 * used it.  SLC_STALE: it has been used since, by this publisher or another, or is not retired.  Else as
 * slc_publisher_loan. */
SLC_EXPORT int slc_publisher_loan_slot(slc_publisher *publisher, const slc_retired *retired, size_t size,
                                       slc_loan *ret_loan);
/* A descriptor for the caller's own event loop: readable when there may be something to do.  That is: a loan may
 * succeed, until one has given SLC_WOULD_BLOCK; with `retirement`: a message may be retired, until
 * slc_publisher_retired has given SLC_EMPTY, or a loan may succeed that was refused before.  Poll it, never read or
 * close it; valid until the publisher is closed.  SLC_BROKER_GONE, SLC_NO_DESCRIPTORS, SLC_LIMIT, SLC_FORKED,
 * SLC_SYSTEM. */
SLC_EXPORT int slc_publisher_fd(slc_publisher *publisher, int *ret_fd);

typedef struct slc_publisher_stats {
  uint32_t size;        /* set by the caller: sizeof(slc_publisher_stats) */
  uint32_t slots;       /* of the channel */
  uint64_t slot_size;   /* bytes */
  uint64_t messages;    /* published by this publisher */
  uint64_t bytes;       /* published by this publisher */
  uint64_t would_block; /* loans refused for want of a slot */
  uint64_t wakes;       /* system calls made to wake sleepers */
  uint32_t subscribers; /* of the channel, now: they get what is published next (enum slc_start) */
  uint32_t publishers;  /* of the channel, now */
  uint32_t generation;  /* of the channel's buffers, the newest: 1 until it has grown */
  uint32_t virtual_id;  /* of the virtual channel; 0: a plain channel */
} slc_publisher_stats;
/* Reads shared memory only.  SLC_INVALID, SLC_FORKED. */
SLC_EXPORT int slc_publisher_stats_get(slc_publisher *publisher, slc_publisher_stats *ret_stats);

/* A payload of a split channel. */
typedef struct slc_payload_info {
  uint64_t handle;     /* as its allocator gave it; 0 of the library's own */
  const void *address; /* in this process */
  uint64_t size;       /* bytes that a message may have */
  uint32_t generation;
  uint32_t slot;
} slc_payload_info;
/* The payload that an address lies in: of a loan, say.  SLC_NOT_FOUND: none (of a channel that is not split, too).
 * SLC_FORKED. */
SLC_EXPORT int slc_publisher_payload(slc_publisher *publisher, const void *address, slc_payload_info *ret_payload);
/* All that this publisher has mapped, up to `max`, by generation and slot; *ret_count is how many there are, which may
 * be more.  Others come when the channel grows.  SLC_FORKED. */
SLC_EXPORT int slc_publisher_payloads(slc_publisher *publisher, slc_payload_info *ret_payloads, size_t max,
                                      size_t *ret_count);

/* ---- subscriber -------------------------------------------------------------------------------------------------- */

typedef struct slc_subscriber slc_subscriber;

/* "What comes" is all that is published after the broker has admitted the subscriber, which may be before
 * slc_subscriber_open returns; it is counted (slc_publisher_stats, slc_channel_info, the channel of events) only when
 * it is admitted.  So who publishes after having seen it counted publishes for it, wherever it starts, and what of that
 * it loses is dropped. */
enum slc_start {
  SLC_START_NEWEST = 0, /* what comes */
  SLC_START_OLDEST = 1, /* everything that is still there, then what comes */
  SLC_START_LAST = 2,   /* the latest message there is, or the `start_count` latest, then what comes */
  SLC_START_ORDINAL = 3 /* the message `start_ordinal`, or the first later one that is still there, then what comes */
};

/* Called in the middle of a take, once for each gap: the `count` ordinals from `first` on were lost (of the virtual
 * channel `virtual_id`; 0: a plain channel).  The counts add up to `dropped` of the statistics.  In the thread that
 * takes; must use no handle. */
typedef void (*slc_drop_fn)(void *ctx, uint32_t virtual_id, uint64_t first, uint64_t count);

typedef struct slc_subscriber_options {
  uint32_t size;
  uint32_t max_holds; /* messages held at once, 1..4096; 0: 2 */
  int start;          /* enum slc_start */
  int reliable;       /* non-zero: publishers wait for this subscriber; refused where the channel's publishers are not
                         reliable */
  const char *type;   /* refused when the channel's is another; NULL: any */
  int64_t spin_ns;    /* slc_subscriber_wait polls so long before it sleeps; 0: the default, 20 us */
  uint64_t start_ordinal;  /* with SLC_START_ORDINAL: 1, 2, 3 ..; may be still to come */
  uint64_t start_count;    /* with SLC_START_LAST; 0: 1.  Fewer where not so many are retained */
  uint32_t metadata_size;  /* refused when the channel's is another; 0: any */
  int flag_corrupt;        /* non-zero: a message whose checksum is wrong is taken, with SLC_MESSAGE_CORRUPT; else
                              SLC_CHECKSUM, and it counts as dropped */
  int no_drop_count;       /* non-zero: drops are neither counted nor told */
  int show_activation;     /* non-zero: the message that a channel begins with is taken like any other */
  int locked;              /* non-zero: several threads may use the handle at once: calls take turns */
  const char *multiplexer; /* the name opened is a virtual channel of this one; NULL: a plain channel, or a whole
                              multiplexer */
  slc_checksum_fn compute_checksum; /* for channels with SLC_CHECKSUM_OWN; NULL: theirs are not checked */
  slc_drop_fn on_drop;
  void *callback_ctx; /* passed to the callbacks */
  int prefault;       /* non-zero: all that it maps is there before it is used, so that no first touch costs a fault */
  int lock_memory;    /* non-zero: and stays, locked (RLIMIT_MEMLOCK) */
} slc_subscriber_options;
#define SLC_SUBSCRIBER_OPTIONS_INIT                                                                                    \
  { sizeof(slc_subscriber_options), 0, 0, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, 0, 0 }

/* Opens a subscriber.  It may come before any publisher: then nothing can be taken until one comes, and the caller need
 * do nothing about it.  Statuses as slc_publisher_open.  The subscriber is the caller's.  Any thread. */
SLC_EXPORT int slc_subscriber_open(slc_client *client, const char *channel, const slc_subscriber_options *options,
                                   slc_subscriber **ret_subscriber);
/* Releases everything held and leaves.  Takes NULL. */
SLC_EXPORT void slc_subscriber_close(slc_subscriber *subscriber);

/* A message taken: read-only, unchanged, the subscriber's until released. */
typedef struct slc_message {
  const void *data;
  size_t size;           /* bytes */
  uint64_t ordinal;      /* 1, 2, 3 .. per channel; of a virtual channel: among all of its multiplexer */
  uint64_t timestamp_ns; /* CLOCK_MONOTONIC when it was published; 0: none */
  uint32_t publisher;    /* the publisher's number on this channel */
  uint32_t hold;         /* the library's */
  uint32_t slot;         /* where it lies: a message is known by ordinal and slot */
  uint32_t flags;        /* enum slc_message_flags */
  const void *metadata;  /* metadata_size bytes; NULL: the channel has none */
  uint32_t metadata_size;
  uint32_t virtual_id;      /* 0: a plain channel */
  uint64_t virtual_ordinal; /* 1, 2, 3 .. per virtual channel */
} slc_message;

enum slc_message_flags {
  SLC_MESSAGE_CORRUPT = 1,   /* its checksum does not match */
  SLC_MESSAGE_ACTIVATION = 2 /* the channel began with it */
};

/* Takes the next message in order of ordinals.  An overrun subscriber goes on with the older of what is left, and the
 * ordinals skipped count as dropped.  The first message after the channel has grown is fetched through the broker; if
 * that fails the message stays unread: SLC_BROKER_GONE, SLC_NO_DESCRIPTORS, SLC_NO_MEMORY, SLC_PROTOCOL.  SLC_EMPTY,
 * SLC_HOLD_LIMIT (the message stays unread), SLC_DISCONNECTED (it was too slow: nothing can be taken any more, what is
 * held stays until it is released), SLC_CORRUPT and SLC_CHECKSUM (this message is skipped and counts as
 * dropped: take again; see flag_corrupt), SLC_FORKED; while waiting for the first publisher also the statuses of
 * slc_subscriber_open. */
SLC_EXPORT int slc_subscriber_take(slc_subscriber *subscriber, slc_message *ret_message);
/* Takes the latest message, skipping unread ones before it (they don't count as dropped).  Statuses as take. */
SLC_EXPORT int slc_subscriber_take_newest(slc_subscriber *subscriber, slc_message *ret_message);
/* Takes up to `max` messages, in order, faster than as many calls of take where other cores have written them: 0 and
 * *ret_count of them, at least one, each to be released by itself.  As many as are there and as there are holds free.
 * One that can't be (SLC_CORRUPT, SLC_CHECKSUM) counts as dropped, and is told only when it is the first, or when there
 * is no other. SLC_INVALID: max is 0.  Else the statuses of take. */
SLC_EXPORT int slc_subscriber_take_many(slc_subscriber *subscriber, slc_message *ret_messages, size_t max,
                                        size_t *ret_count);
/* The following hold a retained message, whether it was taken before or not, and leave alone what take gives next. Each
 * uses up one hold, to be released like one taken.  SLC_DISCONNECTED as for take. */

/* By ordinal: that one, or with `or_later` the first from there on that is retained.  SLC_GONE: not retained any more.
 * SLC_EMPTY: still to come.  SLC_HOLD_LIMIT, SLC_CORRUPT, SLC_CHECKSUM, SLC_INVALID (ordinal 0), SLC_FORKED. */
SLC_EXPORT int slc_subscriber_find(slc_subscriber *subscriber, uint64_t ordinal, int or_later,
                                   slc_message *ret_message);
/* By time stamp: the oldest that has exactly this one, or with `or_later` the oldest that has this one or a later one.
 * Looks at all that are retained, since publishers may set times of their own; those without a time don't count.
 * SLC_GONE: a later one is there, and this one is not.  SLC_EMPTY: still to come.  SLC_HOLD_LIMIT, SLC_CORRUPT,
 * SLC_INVALID (time 0), SLC_FORKED. */
SLC_EXPORT int slc_subscriber_find_time(slc_subscriber *subscriber, uint64_t timestamp_ns, int or_later,
                                        slc_message *ret_message);
/* A weak reference: `ordinal` and `slot` of a message that was held before, kept without holding it.  Holds it again if
 * it is still there; a slot that has been used for another message since is another message.  SLC_GONE, SLC_HOLD_LIMIT,
 * SLC_CORRUPT, SLC_FORKED. */
SLC_EXPORT int slc_subscriber_take_weak(slc_subscriber *subscriber, uint64_t ordinal, uint32_t slot,
                                        slc_message *ret_message);
/* Gives a message back; its memory must not be read any more.  SLC_STALE, SLC_FORKED. */
SLC_EXPORT int slc_subscriber_release(slc_subscriber *subscriber, slc_message *message);
/* Waits until something may be taken, or the channel's publishers have changed (so that a caller can see the last one
 * leave): 0, then take may still give SLC_EMPTY.  SLC_TIMED_OUT, SLC_DISCONNECTED, SLC_FORKED, SLC_BROKER_GONE (only
 * before the first publisher came); where it could not be opened anew, the statuses of slc_subscriber_open. */
SLC_EXPORT int slc_subscriber_wait(slc_subscriber *subscriber, int64_t timeout_ns);
/* A descriptor for the caller's own event loop: readable as long as there is an unread message, also while the holds
 * are all in use; when the publishers have changed, until the next take; before the first publisher came, when the
 * broker has said something, until the next take; when the broker has gone, and when it is time to look for it again,
 * until a take has given SLC_EMPTY.  That of a reliable subscriber to a virtual channel also before a publisher would
 * have to wait for it to go past what is for others; that of one that was disconnected for good.  With edge-triggered
 * loops take until SLC_EMPTY.  While the broker is away, a message of a publisher that is killed while it publishes may
 * be told of only with the next one; the wait of a subscriber or of a wait-set looks by itself.  Poll it, never read or
 * close it; valid until the subscriber is closed.  SLC_BROKER_GONE, SLC_NO_DESCRIPTORS,
 * SLC_LIMIT, SLC_FORKED, SLC_SYSTEM. */
SLC_EXPORT int slc_subscriber_fd(slc_subscriber *subscriber, int *ret_fd);

/* As slc_publisher_payload and slc_publisher_payloads; before the first publisher came SLC_EMPTY. */
SLC_EXPORT int slc_subscriber_payload(slc_subscriber *subscriber, const void *address, slc_payload_info *ret_payload);
SLC_EXPORT int slc_subscriber_payloads(slc_subscriber *subscriber, slc_payload_info *ret_payloads, size_t max,
                                       size_t *ret_count);

typedef struct slc_subscriber_stats {
  uint32_t size;     /* set by the caller: sizeof(slc_subscriber_stats) */
  uint32_t attached; /* 0: no publisher has come yet; slots, slot_size and the counts below are then 0 */
  uint32_t slots;
  uint32_t publishers; /* of the channel, or of the whole multiplexer, now */
  uint64_t slot_size;
  uint64_t publishers_joined; /* publishers that ever joined */
  uint64_t received;          /* messages taken by this subscriber */
  uint64_t dropped;           /* ordinals lost to overruns; on a multiplexer as far as they were told to on_drop */
  uint64_t lag;               /* ordinals published and not yet taken */
  uint32_t virtual_id;        /* of the virtual channel; 0: a plain channel, or a whole multiplexer */
  uint32_t max_virtual;       /* of the multiplexer; 0: a plain channel */
} slc_subscriber_stats;
/* Reads shared memory only.  SLC_INVALID, SLC_FORKED. */
SLC_EXPORT int slc_subscriber_stats_get(slc_subscriber *subscriber, slc_subscriber_stats *ret_stats);

typedef struct slc_virtual_stats {
  uint32_t size;     /* set by the caller: sizeof(slc_virtual_stats) */
  uint64_t received; /* messages of the virtual channel taken by this subscriber */
  uint64_t dropped;  /* its ordinals lost, as far as they were told to on_drop */
} slc_virtual_stats;
/* Of one virtual channel: that which is subscribed to, or any of a whole multiplexer.  When an id is given to another
 * virtual channel, its counts begin anew.  SLC_INVALID: this subscriber does not look at it.  SLC_FORKED. */
SLC_EXPORT int slc_subscriber_virtual_stats_get(slc_subscriber *subscriber, uint32_t virtual_id,
                                                slc_virtual_stats *ret_stats);

/* ---- channels ---------------------------------------------------------------------------------------------------- */

typedef struct slc_channel_options {
  uint32_t size;
  /* The shape, as a publisher's options have it; 0: as the channel is, or the default. */
  uint32_t slots;
  uint64_t slot_size; /* bytes */
  uint32_t max_publishers;
  uint32_t max_subscribers; /* 0: as it is, or as many as there is room for */
  int reliable;             /* publishers have to ask for the same */
  int fixed_size;           /* publishers have to ask for the same */
  uint32_t keep_last;
  uint32_t metadata_size; /* bytes */
  int checksum;           /* enum slc_checksum */
  uint32_t checksum_size; /* bytes */
  const char *type;       /* NULL: as it is, or any */
  uint32_t max_loans;     /* of all publishers together; 0: as it is, or what the slots allow */
  uint32_t max_holds;     /* of all subscribers together; 0: as it is, or what the slots allow */
  uint32_t max_virtual;   /* 1..65534: a multiplexer with so many virtual channels; 0: as it is, or a plain channel */
  int backend;            /* enum slc_backend; 0: as it is, or as the broker has it */
  uint64_t pages;         /* as a publisher's options have it */
  int prefault;           /* non-zero: the broker allocates the channel's memory when it makes it, and does nothing else
                             meanwhile; that of one that is there only when it grows */
  int slow_policy;        /* enum slc_slow_policy */
  int split;              /* payloads lie in memory of their own; publishers have to ask for the same */
} slc_channel_options;
#define SLC_CHANNEL_OPTIONS_INIT                                                                                       \
  { sizeof(slc_channel_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Creates a channel that stays, with its messages, also while it has no users, until slc_channel_remove or the end of
 * the broker; or makes one stay that exists with just this shape.  SLC_NAME_INVALID, SLC_INCOMPATIBLE (it exists with
 * another shape), SLC_NO_BUDGET (its subscribers don't fit into this shape), SLC_LIMIT, SLC_INVALID, SLC_BROKER_GONE,
 * SLC_PROTOCOL, SLC_NO_MEMORY, SLC_NO_DESCRIPTORS, SLC_FORKED, SLC_SYSTEM.  Any thread. */
SLC_EXPORT int slc_channel_create(slc_client *client, const char *channel, const slc_channel_options *options);
/* Removes a channel that has no users, or with `force` lets it go with the last of them, as if nobody had created it.
 * SLC_NOT_FOUND, SLC_BUSY (it has users; the sentence names them), SLC_DENIED (it is another user's), SLC_NAME_INVALID,
 * SLC_INVALID, SLC_BROKER_GONE, SLC_PROTOCOL, SLC_NO_DESCRIPTORS, SLC_FORKED.  Any thread. */
SLC_EXPORT int slc_channel_remove(slc_client *client, const char *channel, int force);

/* ---- wait-set: many at once -------------------------------------------------------------------------------------- */

/* Waits for any of many subscribers and publishers, of one or several clients, and other descriptors.  Level-triggered:
 * what is ready is reported as long as it is.  A wait-set belongs to one thread at a time, which waiting makes the
 * thread of its subscribers and publishers, too. */
typedef struct slc_waitset slc_waitset;

typedef struct slc_waitset_event {
  void *user_data;            /* as given when it was added */
  slc_subscriber *subscriber; /* both NULL: a descriptor */
  slc_publisher *publisher;
  int fd;          /* -1: a subscriber or a publisher */
  uint32_t events; /* of a descriptor: POLLIN, POLLOUT, POLLERR, POLLHUP ..; else POLLIN */
} slc_waitset_event;

/* SLC_NO_DESCRIPTORS, SLC_NO_MEMORY, SLC_INVALID, SLC_SYSTEM.  The wait-set is the caller's.  Any thread. */
SLC_EXPORT int slc_waitset_new(slc_waitset **ret_set);
/* What is in it stays as it is.  Takes NULL. */
SLC_EXPORT void slc_waitset_free(slc_waitset *set);
/* Waits for this subscriber, too: it is ready when a take would not give SLC_EMPTY, and once when its channel's
 * publishers have changed.  Remove it before it is closed.  SLC_INVALID (is there already), the statuses of
 * slc_subscriber_fd. */
SLC_EXPORT int slc_waitset_add_subscriber(slc_waitset *set, slc_subscriber *subscriber, void *user_data);
/* SLC_NOT_FOUND, SLC_FORKED. */
SLC_EXPORT int slc_waitset_remove_subscriber(slc_waitset *set, slc_subscriber *subscriber);
/* Waits for this publisher, too: it is ready when a loan would not give SLC_WOULD_BLOCK; with `retirement` when there
 * is a retired message to be told, or when a loan would succeed that was refused before.  Remove it before it is
 * closed. SLC_INVALID (is there already), the statuses of slc_publisher_fd. */
SLC_EXPORT int slc_waitset_add_publisher(slc_waitset *set, slc_publisher *publisher, void *user_data);
/* SLC_NOT_FOUND, SLC_FORKED. */
SLC_EXPORT int slc_waitset_remove_publisher(slc_waitset *set, slc_publisher *publisher);
/* Waits for a descriptor of the caller's, too, for `events` of poll(2): POLLIN, POLLPRI, POLLOUT, POLLRDHUP; POLLERR
 * and POLLHUP always.  Remove it before it is closed.  SLC_INVALID (is there already, is not open, cannot be waited
 * for), SLC_NO_MEMORY, SLC_LIMIT, SLC_FORKED, SLC_SYSTEM. */
SLC_EXPORT int slc_waitset_add_fd(slc_waitset *set, int fd, uint32_t events, void *user_data);
/* SLC_NOT_FOUND, SLC_FORKED. */
SLC_EXPORT int slc_waitset_remove_fd(slc_waitset *set, int fd);
/* Waits until something is ready: 0, then ret_events has *ret_count of them, 1 .. max; what found no room comes first
 * the next time.  SLC_TIMED_OUT, SLC_INVALID, SLC_FORKED, SLC_SYSTEM. */
SLC_EXPORT int slc_waitset_wait(slc_waitset *set, int64_t timeout_ns, slc_waitset_event *ret_events, size_t max,
                                size_t *ret_count);
/* A descriptor for another loop or wait-set: readable when something may be ready; slc_waitset_wait with a time-out of
 * 0 then says what, and makes it unreadable when it is nothing.  Never read or close it; valid as long as the wait-set.
 * SLC_FORKED. */
SLC_EXPORT int slc_waitset_fd(slc_waitset *set, int *ret_fd);

/* ---- inspection -------------------------------------------------------------------------------------------------- */

typedef struct slc_user_info {
  uint64_t id;
  int is_publisher; /* else a subscriber */
  int is_reliable;
  int is_connected; /* 0: its connection has gone, its process has not */
  int32_t pid;      /* as the kernel says; 0: in another pid namespace */
  uint32_t uid;
  const char *program;
  const char *client_name;
  uint64_t messages; /* published or received */
  uint64_t bytes;    /* published */
  uint64_t drops;
  uint64_t lag;
  uint64_t would_block;
  uint32_t holds;      /* in use */
  uint32_t max;        /* loans or holds */
  uint32_t virtual_id; /* 0: of a plain channel, or of a whole multiplexer */
  int is_too_slow;     /* a subscriber that was disconnected by its channel's slow_policy */
} slc_user_info;

typedef struct slc_virtual_info {
  uint32_t id;
  uint32_t publishers;
  uint32_t subscribers; /* to it alone */
  const char *name;
  const char *type;
  uint64_t messages;
} slc_virtual_info;

typedef struct slc_channel_info {
  const char *name;
  const char *type;
  int is_shaped; /* 0: no publisher came yet, the figures are 0 */
  int is_reliable;
  uint32_t slots;
  uint32_t max_publishers;
  uint64_t slot_size;
  uint32_t publishers;
  uint32_t subscribers;
  uint64_t messages;
  uint64_t memory;   /* bytes of all shared objects */
  int is_persistent; /* stays without users until it is removed */
  int is_lingering;  /* has no users, and goes when its time is over */
  int is_fixed_size;
  int checksum; /* enum slc_checksum */
  uint32_t checksum_size;
  uint32_t keep_last;
  uint32_t metadata_size;
  uint32_t max_subscribers; /* 0: no limit */
  uint32_t max_loans;       /* of all publishers together; 0: no limit */
  uint32_t max_holds;       /* of all subscribers together; 0: no limit */
  int64_t linger_ns;
  uint64_t largest;       /* payload bytes per slot of the newest generation of buffers */
  uint32_t generation;    /* its number: 1 until the channel has grown; 0: split, and no publisher came yet */
  uint32_t generations;   /* that there are now */
  uint32_t max_virtual;   /* of a multiplexer; 0: a plain channel */
  uint32_t virtual_count; /* virtual channels that it has */
  int backend;            /* enum slc_backend; 0: not known before the first publisher comes */
  uint64_t pages;         /* SLC_PAGES_SMALL, SLC_PAGES_TRANSPARENT, or the size of its huge pages */
  int slow_policy;        /* enum slc_slow_policy */
  int is_split;           /* payloads lie in memory of their own */
  /* the following only from slc_channel_inspect */
  uint64_t bytes; /* published and, by all subscribers together, lost: by those who have left, too */
  uint64_t drops;
  uint64_t taken_at_ns; /* CLOCK_MONOTONIC of these figures */
  uint32_t slots_free;
  uint32_t slots_owned;
  uint32_t slots_published;
  uint32_t slots_held;
  uint32_t budget_used; /* slots promised to users */
  uint32_t user_count;
  const slc_user_info *users;
  const slc_virtual_info *virtuals; /* virtual_count of them, by id */
} slc_channel_info;

/* All channels but the broker's own, by name; to be freed with slc_channel_list_free.  SLC_BROKER_GONE, SLC_PROTOCOL,
 * SLC_NO_MEMORY, SLC_FORKED. */
SLC_EXPORT int slc_channel_list(slc_client *client, slc_channel_info **ret_channels, size_t *ret_count);
SLC_EXPORT void slc_channel_list_free(slc_channel_info *channels, size_t count);
/* One channel and its users; to be freed with slc_channel_info_free.  Also SLC_NOT_FOUND. */
SLC_EXPORT int slc_channel_inspect(slc_client *client, const char *channel, slc_channel_info **ret_channel);
SLC_EXPORT void slc_channel_info_free(slc_channel_info *channel);

/* ---- events ------------------------------------------------------------------------------------------------------ */

/* What happens to channels and their users, to be subscribed to as SLC_EVENTS_CHANNEL (slotcast/event.h).  Copies the
 * event of a message into *ret_event, whose `size` the caller has set to sizeof(slc_event); what the broker did not
 * know of yet is 0.  SLC_INVALID: the message is no event.  Any thread. */
SLC_EXPORT int slc_event_read(const slc_message *message, slc_event *ret_event);
/* "subscriber-died" for SLC_EVENT_SUBSCRIBER_DIED; "?" for an unknown value.  Any thread; static storage. */
SLC_EXPORT const char *slc_event_name(uint32_t kind);

#ifdef __cplusplus
}
#endif
#endif

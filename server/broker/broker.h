/* The broker: channels, the users of each, the clients they came by, the processes they live in.
 *
 *   process  a peer process, watched by its pidfd; its users are cleaned up when that fires
 *   client   a connection; its users stay, disconnected, when it ends while the process lives
 *   channel  shape, shared objects, users
 *   user     one publisher or subscriber
 *   account  what one uid has, against its limits
 *
 * Everything lives on one loop thread. */
#ifndef SLC__BROKER_H
#define SLC__BROKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "daemon/listener.h"
#include "loop/awake.h"
#include "loop/connection.h"
#include "net/peer.h"
#include "record.pb-c.h"
#include "shm/object.h"
#include "shm/slotlog.h"
#include "slotcast.pb-c.h"
#include "slotcast/event.h"
#include "slotcast/status.h"
#include "store/store.h"

/* ---- limits ---- */

/* X(field, option, default, what): each per uid. */
#define SLC__LIMIT_MAP(X)                                                                                              \
  X(connections, "max-connections", 1024, "connections")                                                               \
  X(channels, "max-channels", 4096, "channels")                                                                        \
  X(users, "max-users", 16384, "publishers and subscribers")                                                           \
  X(memory, "max-memory", UINT64_C(64) << 30, "bytes of shared memory")                                                \
  X(descriptors, "max-descriptors", 65536, "descriptors of payloads")

struct limits {
#define SLC__LIMIT_FIELD_(field, option, standard, what) uint64_t field;
  SLC__LIMIT_MAP(SLC__LIMIT_FIELD_)
#undef SLC__LIMIT_FIELD_
};

enum limit_kind {
#define SLC__LIMIT_KIND_(field, option, standard, what) LIMIT_##field,
  SLC__LIMIT_MAP(SLC__LIMIT_KIND_)
#undef SLC__LIMIT_KIND_
};
enum { LIMIT_KINDS = LIMIT_descriptors + 1 };

struct account {
  LIST_ENTRY(account) link;
  uid_t uid;
  uint32_t references;
  bool is_unlimited; /* the broker's own, found by no uid */
  struct limits used;
};

struct broker_options {
  const char *socket;
  const struct slc__handed_socket *handed; /* at `socket`; NULL: it makes its own */
  mode_t socket_mode;
  gid_t socket_gid; /* -1: as it comes */
  enum slc__backend backend;
  const char *free_helper; /* run when registered memory is not needed any more; NULL: none is */
  uint64_t slow_hold_ms;   /* who holds a message, or keeps publishers waiting, so long is slow; 0: nobody is */
  struct limits limits;
  const char *shadows[SLC__STORE_KEEPERS_MAX]; /* sockets of who keeps the records; NULL: nobody */
  bool fdstore;                                /* the service manager keeps them */
  struct slc__image *image;                    /* what another broker hands over; NULL: none does */
  int (*confirm)(void);                        /* then: we understand all of it; 0: the other one does nothing more */
};

/* ---- who and what ---- */

struct broker;
struct client;
struct user;
struct channel;

enum record_kind { RECORD_BROKER, RECORD_PROCESS, RECORD_CHANNEL, RECORD_TABLE, RECORD_VIRTUAL, RECORD_USER };

/* In each thing that outlives the broker: what the keepers have of it (record.c). */
struct records;
struct record {
  TAILQ_ENTRY(record) link;      /* of those that have changed since the last commit */
  struct records *records;       /* NULL: nobody keeps any */
  const struct channel *channel; /* that it is of; NULL: of none */
  enum record_kind kind;
  bool is_changed;
};

struct process {
  LIST_ENTRY(process) link;
  uv_poll_t poll; /* of the pidfd */
  struct broker *broker;
  struct record record; /* while it has users */
  uint64_t serial;
  struct slc__peer peer;
  struct account *account;
  LIST_HEAD(, client) clients;
  LIST_HEAD(, user) users;
  void *users_by_id, *users_by_token; /* tsearch trees of them */
};

struct client {
  LIST_ENTRY(client) link; /* of its process */
  struct broker *broker;
  struct process *process;
  struct slc__connection *connection;
  bool said_hello;
  uint8_t instance[16];
  char name[256];
};

struct table {
  struct record record;
  uint32_t id; /* 1, 2, 3 .. per channel */
  uid_t uid;
  int fd, bell_fd;
  struct slc__mapping mapping, bell_mapping;
  uint32_t line_count;
  uint8_t *lines; /* as in the Membership message */
};

/* A later generation of a channel's buffers: payloads in larger slots.  In a split channel the first one, too. */
struct split;
struct generation {
  uint32_t number; /* 2, 3 .. */
  int fd;
  struct split *split; /* where each slot's payload lies, in a split channel; else NULL */
  uint64_t slot_size;
  uint64_t memory;
  bool is_ended; /* nobody will publish into it any more */
  uint64_t end;  /* then: every message in it has a smaller ordinal */
};

/* A process with reliable subscribers of a channel. */
struct lifeline {
  LIST_ENTRY(lifeline) link; /* of the channel */
  const struct process *process;
  uint32_t id;       /* 1, 2, 3 .. per channel */
  uint32_t users;    /* that subscribe reliably */
  uint64_t named_in; /* the last snapshot that brought its pidfd */
};

struct channel {
  struct broker *broker;
  struct record record;
  bool has_new_generation; /* that is not on record yet */
  uint64_t serial;
  char *name;
  char *type;              /* "": any */
  struct account *account; /* of whoever made it: pays for the memory */
  bool is_shaped;
  struct slc__geometry geometry;
  struct slc__control control;
  uint64_t epoch; /* our own; publishers can write the one in control */
  struct slc__mapping control_mapping;
  int control_fd, buffers_fd;
  struct generation *generations; /* by rising number; the last is the newest */
  uint32_t generation_count;
  uint32_t generation; /* the number of the newest; the first one's buffers are not in the list; 0: none is complete */
  struct generation pending; /* of a split channel: being registered, and nobody's to use; number 0: none */
  uint32_t last_pending;     /* the number that was given last */
  uint64_t memory;           /* bytes of all objects */
  struct table **tables;
  uint32_t table_count;
  uint32_t last_doorbell, last_lifeline;
  LIST_HEAD(, lifeline) lifelines;
  uint64_t watchers_number; /* of the set of publishers' doorbells; 0: there never was one */
  uint8_t *publisher_ids;   /* 1: in use; by id */
  uint32_t publishers, subscribers;
  bool had_publisher;
  uint64_t bytes_of_gone, drops_of_gone; /* what users that have left have published and lost */
  LIST_HEAD(, user) users;
  void *virtuals;               /* tsearch tree of struct virtual by name; of a plain channel empty */
  struct virtual **virtual_ids; /* by id */
  uint32_t virtual_count;       /* of those with an id */
  uint32_t virtual_next;        /* ids up to this one were given */
  uint64_t virtual_serials, virtual_leavings;
  uint64_t virtual_memory; /* bytes of their records */
  /* What the first who said it has settled (life.c); 0: nobody has, there is no limit. */
  bool is_fixed;      /* does not grow */
  bool is_prefaulted; /* its memory is allocated when it is made */
  uint32_t max_subscribers;
  uint32_t max_loans, max_holds; /* of all its publishers, of all its subscribers together */
  uint64_t linger_ns;
  uint32_t slow_policy; /* SlowPolicy; the first publisher, or whoever creates it */
  struct {
    uint64_t refused;       /* loans, by all publishers together */
    bool is_waiting;        /* some publisher, for a slot */
  } watch;                  /* watch.c: at the last look */
  uint32_t own_share;       /* slots promised to the broker's own publisher */
  bool is_lost;             /* its record is damaged: its memory may be in use, and is nobody's to free */
  bool is_told;             /* on the events channel: it has or had users */
  bool is_persistent;       /* stays without users until it is removed */
  struct lingering *linger; /* NULL: it has users, or stays without */
  int64_t lingers_until;    /* then, CLOCK_MONOTONIC, ns */
  /* Whoever it was told of at these stages of the records is rung when that has gone out; 0: nobody. */
  uint64_t ring_first, ring_last;
  TAILQ_ENTRY(channel) ringing;
};

/* One of a multiplexer. */
struct virtual {
  struct record record;
  uint64_t serial; /* 1, 2, 3 .. per channel */
  char *name;
  char *type;    /* "": any */
  uint32_t id;   /* 0: no publisher came yet */
  uint64_t base; /* messages that had the id before */
  uint32_t users;
  uint32_t publishers, subscribers;
  uint64_t left; /* the number of its last user's leaving */
};

/* Something that has been so since then (watched_ns), at an ordinal (watch.c). */
struct span {
  uint64_t at, since;
  bool is_told;
};

struct user {
  LIST_ENTRY(user) of_channel, of_process;
  struct record record;
  uint64_t id;
  struct channel *channel;
  struct process *process;
  struct client *client; /* NULL: disconnected */
  bool is_publisher;
  bool is_reliable;
  bool is_counted;         /* in its channel's publishers or subscribers */
  struct virtual *virtual; /* NULL: of a plain channel, or of a whole multiplexer */
  uint32_t max;            /* loans or holds */
  char name[256];
  uint8_t instance[16]; /* of the program that it belongs to */
  bool has_token;
  uint8_t token[16]; /* by which it is known on another connection of that program */
  int doorbell;      /* -1: none */
  uint32_t doorbell_id;
  uint32_t watchers_sent; /* it has the publishers' doorbells with ids up to this */
  bool owes_watchers;     /* its socket was full */
  /* publisher */
  uint32_t publisher_id;
  bool is_the_first;                                    /* that its channel ever had */
  uint32_t batch;                                       /* free slots that it may keep in hand */
  uint32_t tables_sent, doorbells_sent, lifelines_sent; /* it has those with ids up to these */
  bool owes_membership;                                 /* its socket was full */
  uint32_t completes;                                   /* the pending generation that it asked for */
  /* subscriber */
  uint32_t metadata_size; /* that it expects; 0: any */
  struct table *table;    /* NULL: not attached, the channel has no shape */
  uint32_t line;
  uint64_t since;            /* the first ordinal not yet published when it was admitted */
  struct lifeline *lifeline; /* NULL: not attached, or not reliable */
  bool owes_attachment;
  bool is_attached; /* it was told its place */
  bool is_too_slow; /* takes nothing any more, and nobody waits for it; what it holds stays */
  struct {
    bool is_known; /* it was looked at before */
    uint64_t lost;
    struct span overrun, held, stalled;
  } watch; /* watch.c */
};

struct broker {
  uv_loop_t *loop;
  struct broker_options options;
  uint8_t session[16];
  int session_lock; /* -1: nothing of ours has had a name yet */
  struct slc__listener listener;
  struct slc__awake awake;
  uv_timer_t sweeper; /* of old generations */
  LIST_HEAD(, helper) helpers;
  struct events *events; /* NULL: none are told */
  uv_timer_t watch;      /* for slow subscribers */
  uint64_t watched_ns;   /* time that has passed between its looks, counted by looks */
  bool is_telling;       /* somebody subscribed to events at the last look for them */
  void *channels;        /* tsearch tree by name */
  bool is_closing;
  struct record record;
  struct records *records; /* NULL: nobody keeps any, and who is left goes on without a successor */
  uint64_t last_user, last_channel, last_process;
  LIST_HEAD(, process) processes;
  LIST_HEAD(, account) accounts;
};

/* ---- broker.c ---- */

/* Listens; statuses of slc__net_listen and slc__object_session_lock.  Serves when the loop runs. */
int broker_open(struct broker *broker, uv_loop_t *loop, const struct broker_options *options);
/* Before the first object that has a name, so that nobody sweeps it away.  The statuses of slc__object_session_lock. */
int broker_lock_session(struct broker *broker);
/* Closes everything; the loop ends when the handles are closed. */
void broker_close(struct broker *broker);

/* ---- record.c ---- */

bool records_are_wanted(const struct broker *broker); /* keepers are configured */
/* From now on there are records, of nothing yet.  Statuses of slc__store_open. */
int records_open(struct broker *broker);
/* What was committed stays with the keepers. */
void records_close(struct broker *broker);
/* What an earlier broker left, as slc__store_load. */
int records_load(struct broker *broker, void (*visit)(void *ctx, struct slc__store_record *record), void *ctx,
                 size_t *ret_count);
/* It is of this channel or (NULL) of none; unchanged. */
void record_init(struct record *record, struct broker *broker, enum record_kind kind, const struct channel *channel);
/* It will be on record, as it is at the end of this turn of the loop; and from now on, what is sent to clients waits
 * for that.  So this comes before the sending. */
void record_changed(struct record *record);
/* At once, since a descriptor that is on record is to be closed. */
void record_now(struct record *record);
/* It is on record no more; before its descriptors are closed. */
void record_gone(struct record *record);
void record_generation_gone(struct channel *channel, const struct generation *generation);
/* Who is named in what waits may have missed a ring meanwhile: rings everybody when it has gone out. */
void record_ring(struct channel *channel);
void record_ring_not(struct channel *channel); /* it goes */
/* What the keepers alone know, to be handed over. */
int records_hand_over(const struct broker *broker, struct slc__image *image);
/* After an image: the keepers come. */
void records_start(const struct broker *broker);
/* What a connection sends waits for the records. */
void records_hold(const struct broker *broker, struct slc__connection *connection);
/* The broker ends, and another one goes on with what is kept: names and registered memory stay. */
bool is_left_to_successor(const struct broker *broker);

/* ---- snapshot.c ---- */

/* Everything that a broker needs to go on in our place.  SLC_NO_MEMORY, SLC_NO_DESCRIPTORS, SLC_SYSTEM. */
int broker_snapshot(struct broker *broker, struct slc__image *image);

/* ---- encode.c ---- */

enum { RECORD_VERSION = 1 };
struct record_key {
  size_t size;
  unsigned char bytes[SLC__STORE_KEY_MAX];
};
/* What a key says. */
struct record_name {
  char kind;       /* its first character: '0' broker, '1' process .. in the order of recovery */
  uint64_t number; /* of a process, or of a channel */
  uint64_t id[2];  /* in the channel; of a generation its number and the page's first slot */
};
void record_key(const struct record *record, struct record_key *ret_key);
bool record_name(const void *key, size_t size, struct record_name *ret_name);
/* Puts it as it is.  Statuses of slc__store_put. */
int record_put(struct slc__store *store, const struct record *record);
int record_put_generation(struct slc__store *store, const struct channel *channel, const struct generation *generation);
void record_drop_generation(struct slc__store *store, const struct channel *channel,
                            const struct generation *generation);
/* A record as it was put: bytes as written, and the descriptors that went with it.  SLC_PROTOCOL: it is damaged;
 * SLC_VERSION: of a newer release; SLC_NO_MEMORY. */
int record_decode(const struct slc__store_record *stored, Slotcast__Record **ret_record);

/* ---- restore.c: each thing from its record, unless it is damaged (SLC_PROTOCOL ..); takes the descriptors ---- */

int restore_broker(struct broker *broker, const Slotcast__BrokerRecord *body, struct slc__store_record *stored);
int restore_process(struct broker *broker, uint64_t serial, const Slotcast__ProcessRecord *body,
                    struct slc__store_record *stored, struct process **ret_process);
/* *ret_channel is set also where that fails, if there is so much of it that users of it can be. */
int restore_channel(struct broker *broker, uint64_t serial, const Slotcast__ChannelRecord *body,
                    struct slc__store_record *stored, struct channel **ret_channel);
int restore_generation(struct channel *channel, uint32_t number, uint32_t first, const Slotcast__GenerationRecord *body,
                       struct slc__store_record *stored);
int restore_table(struct channel *channel, uint32_t id, const Slotcast__TableRecord *body,
                  struct slc__store_record *stored);
int restore_user(struct channel *channel, struct process *process, uint64_t id, const Slotcast__UserRecord *body,
                 struct slc__store_record *stored);

/* ---- recover.c ---- */

/* What an earlier broker left is here again, as its records say; nobody is told anything yet.  SLC_VERSION: they are a
 * newer release's; the statuses of slc__store_load. */
int recover(struct broker *broker);
/* Goes on with it: those who ended meanwhile go, everybody is rung. */
void recover_finish(struct broker *broker);

/* ---- memory.c ---- */

/* Makes an object of a channel whose geometry says of what.  The statuses of slc__object_create, or of
 * slc__object_session_lock. */
int channel_object(struct broker *broker, const struct channel *channel, enum slc__object_kind kind, uint64_t size,
                   int *ret_fd);
/* And maps it writable; what was made is the caller's also when that fails. */
/* Where a channel's objects can have names that its publishers give them. */
int channel_directory(struct broker *broker, const struct channel *channel, int *ret_fd);
int channel_object_mapped(struct broker *broker, const struct channel *channel, enum slc__object_kind kind,
                          uint64_t size, int *ret_fd, struct slc__mapping *ret_mapping);
/* Closes it, and takes its name away, unless another broker goes on with it. */
void channel_object_close(const struct channel *channel, int *fd);
/* Backend and pages of a new channel: as the request says, else as the broker has it.  SLC_INVALID. */
int memory_choose(const struct broker *broker, const Slotcast__OpenPublisher *request, struct slc__geometry *geometry);
/* SLC_INCOMPATIBLE: the channel has another backend or other pages. */
int memory_check_shape(const struct channel *channel, const Slotcast__OpenPublisher *request);
/* SLC_DENIED: such memory is not for processes of this user, or of one of the channel's users. */
int memory_check_user(const struct channel *channel, const struct slc__geometry *geometry, uid_t uid);
int memory_check_waiting(const struct channel *channel, const struct slc__geometry *geometry);

/* ---- limits.c ---- */

struct account *account_ref(struct broker *broker, uid_t uid); /* NULL: no memory */
struct account *account_own(struct broker *broker);            /* the broker's; NULL: no memory */
void account_unref(struct account *account);                   /* takes NULL */
/* SLC_LIMIT with a sentence that names the limit, its value and its option. */
int charge(struct broker *broker, struct account *account, enum limit_kind kind, uint64_t amount);
void discharge(struct account *account, enum limit_kind kind, uint64_t amount);
/* What was there before the broker began, whatever the limit. */
void charge_again(struct account *account, enum limit_kind kind, uint64_t amount);
void limits_init(struct limits *limits);
uint64_t *limit_field(struct limits *limits, enum limit_kind kind);
const char *limit_option(enum limit_kind kind);

/* ---- process.c ---- */

/* Another process, watched from now on.  Takes the peer's pidfd over, unless it fails. */
int process_make(struct broker *broker, struct slc__peer *peer, struct process **ret_process);
/* The processes that have ended while nobody looked. */
void process_reap(struct broker *broker);
/* The process at the other end of a connection, watched from now on.  Takes the peer's pidfd over. */
int process_find(struct broker *broker, struct slc__peer *peer, struct process **ret_process);
/* Forgets a process that has neither clients nor users. */
void process_release(struct process *process);
/* At the end of the broker: records go, shared memory stays as it is. */
void process_forget_all(struct broker *broker);

/* ---- client.c ---- */

/* Takes the descriptor over, also when it fails. */
int client_open(struct broker *broker, int fd);
/* The connection ends; users stay with the process, disconnected. */
void client_close(struct client *client);
int client_send(struct client *client, const Slotcast__Message *message, const int *fds, size_t fd_count);

/* ---- request.c ---- */

/* One message of a client; negative: the client broke the protocol and is to be closed. */
int request_handle(struct client *client, const Slotcast__Message *message, struct slc__fds *fds);
/* The thread's last failure as the answer to a request. */
int answer_refusal(struct client *client, uint64_t serial, int status);

/* ---- channel.c ---- */

struct channel *channel_find(struct broker *broker, const char *name);
int channel_make(struct broker *broker, struct account *account, const char *name, struct channel **ret_channel);
/* The same, charged for and numbered already.  SLC_NO_MEMORY. */
int channel_add(struct broker *broker, struct account *account, const char *name, uint64_t serial,
                struct channel **ret_channel);
void channel_free(struct broker *broker, struct channel *channel);
/* Control and buffers for this shape; the geometry is checked. */
int channel_shape(struct broker *broker, struct channel *channel, const struct slc__geometry *geometry);
/* Takes shape and tables back, and what they cost. */
void channel_unshape(struct channel *channel);
/* In the order of names. */
void channel_for_each(struct broker *broker, void (*visit)(struct channel *channel, void *ctx), void *ctx);
/* Wakes everybody who sleeps on this channel: on bells, on doorbells, waiting for slots. */
void channel_ring_all(const struct channel *channel);
int channel_check_type(const struct channel *channel, const char *type);
void channel_adopt_type(struct channel *channel, const char *type);
/* "; publisher NAME (pid .., client) has N" for each of those, the first few of them. */
enum channel_users { ALL_USERS, PUBLISHERS, SUBSCRIBERS };
enum { WHO_TEXT_MAX = 2048 };
void channel_name_users(const struct channel *channel, enum channel_users which, char text[WHO_TEXT_MAX]);
/* Slots promised to the channel's users. */
uint64_t channel_budget(const struct channel *channel);
/* The batch of one more publisher: what is good for so many slots, but at most a quarter of what is not promised (on a
 * multiplexer: its share, were there max_publishers), so that others still have room; at least PUBLISHER_BATCH_MIN. */
enum { PUBLISHER_BATCH_MIN = 2 };
uint32_t channel_batch(const struct channel *channel, uint32_t slots, uint32_t max_loans);
/* SLC_NO_BUDGET, saying who has what, when `more` slots do not fit. */
int channel_check_budget(const struct channel *channel, uint32_t slots, uint64_t more);

/* ---- generation.c ---- */

/* The newest generation, after growing where that is needed for a message of `wanted` bytes. */
int generation_grow(struct broker *broker, struct channel *channel, uint64_t wanted, uint64_t slot_size);
/* Answers with a generation (0: the newest), in a split channel with a page of it; SLC_GONE. */
int send_generation(struct user *user, uint64_t serial, uint32_t number, uint32_t first);
/* Room in the list for one more.  SLC_NO_MEMORY. */
int generation_reserve(struct channel *channel);
/* Old ones may go now, and are looked for as long as there are any. */
void generations_watch(struct broker *broker, struct channel *channel);
/* Frees the generations in which no message is left, nor can come to be. */
void generations_sweep(struct channel *channel);
void generations_free(struct channel *channel);
uint64_t generation_largest(const struct channel *channel); /* payload bytes per slot of the newest */
/* Of this number, also the pending one; NULL: it is not there. */
struct generation *generation_find(struct channel *channel, uint32_t number);
/* For a split channel: *ret_number is the generation to be completed, or the newest where that will do. */
int generation_ask(struct user *user, const Slotcast__Grow *request, uint32_t *ret_number);
/* The pending generation is complete: from now on it is the newest. */
void generation_settle(struct broker *broker, struct channel *channel);
/* Descriptors of registered memory that all generations keep open. */
uint64_t generation_descriptors(const struct channel *channel);
/* The pending generation goes. */
void generation_roll_back(struct channel *channel);

/* ---- split.c ---- */

/* Room for a channel's slots, none of which has memory yet; `slots_per_object` as in Grow.  SLC_NO_MEMORY; where memory
 * has names (names.c), what charging and making say. */
int split_new(struct broker *broker, struct channel *channel, struct generation *generation, uint32_t slots_per_object);
/* Closes every descriptor, and tells whoever frees what is not ours; nothing where there is none. */
void split_free(struct channel *channel, struct generation *generation);
bool split_is_complete(const struct channel *channel, const struct split *split);
uint32_t split_descriptors(const struct split *split); /* that it keeps open; 0 for NULL */
/* Answers with those of a page of a generation from slot `first` on. */
int send_payloads(struct user *user, uint64_t serial, const struct generation *generation, uint32_t first);
/* A publisher's RegisterPayloads.  Negative: the client broke the protocol. */
int split_register(struct user *user, const Slotcast__Message *message, struct slc__fds *fds);
/* A publisher works at the pending generation no more: with the last one it goes. */
void split_leave(struct user *leaving);

/* ---- names.c ---- */

/* Of a generation whose objects have names, where publishers make and find them. */
struct names {
  int directory; /* -1: each slot's memory is registered */
  uint32_t slots_per_object;
};
/* Whether a publisher that asks for so many slots to an object (0: it allocates itself) makes them in a directory. */
bool names_are_for(const struct channel *channel, uint32_t slots_per_object);
/* A directory, paid for with all that will be in it. */
int names_make(struct broker *broker, struct channel *channel, struct generation *generation, uint32_t slots_per_object,
               struct names *ret_names);
/* One that was there before; takes the directory.  SLC_PROTOCOL: it can't be. */
int names_restore(struct channel *channel, struct generation *generation, uint32_t slots_per_object, int *fd,
                  struct names *ret_names);
/* Every name goes, and with the last user of each object its memory; unless another broker goes on with them. */
void names_free(const struct channel *channel, struct names *names);
/* Whether every object is there.  SLC_INVALID. */
int names_check(const struct channel *channel, const struct generation *generation, const struct names *names);

/* ---- helper.c ---- */

/* Runs the helper for what `lines` (SLOT HANDLE OFFSET SIZE, one a line) says. */
void helper_run(struct broker *broker, const char *channel, uint32_t generation, const char *lines, size_t size);
void helpers_forget(struct broker *broker);

/* ---- table.c ---- */

/* Lines for a subscriber in a table of its uid, opened and admitted. */
int table_admit(struct broker *broker, struct channel *channel, struct user *user);
/* What publishers are told of its lines, which are its own. */
void table_mark(struct user *user);
void table_dismiss(struct user *user);
/* Its line gates nothing any more, and its holds still count. */
void table_shut(struct user *user);
void table_free(const struct channel *channel, struct table *table);

/* ---- virtual.c ---- */

/* Found, or made; one user more. */
int virtual_obtain(struct channel *channel, const char *name, struct virtual **ret_virtual);
/* One user less.  Takes NULL. */
void virtual_release(struct channel *channel, struct virtual *virtual);
/* It has an id from now on, `wanted` or (0) any.  SLC_INCOMPATIBLE, SLC_LIMIT. */
int virtual_number(struct channel *channel, struct virtual *virtual, uint32_t wanted);
/* One that was there before.  SLC_PROTOCOL: it can't be. */
int virtual_restore(struct channel *channel, uint64_t serial, const Slotcast__VirtualRecord *body);
/* All of a channel whose users are gone: also those that were waited for. */
void virtuals_lose(struct channel *channel);
struct virtual *virtual_find(const struct channel *channel, const char *name); /* NULL: there is none */
/* With the channel's shape, and without it again. */
int virtuals_shape(struct channel *channel);
void virtuals_unshape(struct channel *channel);
/* Whether the channel is, or may become, what a request takes it for. */
int virtual_check_request(const struct channel *channel, bool is_multiplexer);
/* `virtual` NULL: all of them. */
int virtual_check_type(const struct channel *channel, const struct virtual *virtual, const char *type);
void virtual_adopt_type(struct virtual *virtual, const char *type);

/* ---- user.c ---- */

int publisher_join(struct client *client, const Slotcast__OpenPublisher *request, struct user **ret_user);
int subscriber_join(struct client *client, const Slotcast__OpenSubscriber *request, struct user **ret_user);
/* A user without a place yet, charged for and numbered already.  SLC_NO_MEMORY. */
int user_add(struct channel *channel, struct process *process, uint64_t id, struct user **ret_user);
/* After its goodbye or its process's death: everything that it had goes back into use; the channel goes with its last
 * user. */
void user_leave(struct user *user);
/* The same for one whose process ended, or became another program, without a goodbye. */
void user_die(struct user *user);
/* A subscriber that is too slow: takes nothing any more, and nobody waits for it.  What it has in shared memory, and
 * its share of the budget, stay its own until it leaves, since it may be reading. */
void user_shut(struct user *user, enum slc__closed why);
/* Its record goes; what it has in shared memory is not touched. */
void user_forget(struct user *user);

/* One more, or one less, in its channel's counts; and those for everybody to see. */
void user_count(struct user *user, int change);
void channel_set_counts(const struct channel *channel);

/* The channel takes the shape that is asked for, or has it already: SLC_INCOMPATIBLE.  Room for `promised` more slots:
 * SLC_NO_BUDGET.  Those who waited for a shape have their lines then, and are told by channel_attach_waiting.
 * *ret_is_first: it had none; channel_take_back undoes that. */
int channel_agree_shape(const struct client *client, struct channel *channel, const Slotcast__OpenPublisher *request,
                        uint32_t max_loans, uint64_t promised, bool *ret_is_first);
void channel_attach_waiting(struct channel *channel);
void channel_take_back(struct channel *channel);

/* ---- known.c ---- */

/* A user of its process, for as long as that has it; false: no memory, or there is one of that id. */
bool known_add(struct user *user);
/* With a token, if there is memory and no other has it; of a user with its instance. */
void known_add_token(struct user *user, const uint8_t *token);
void known_remove(const struct user *user);
/* NULL: none. */
struct user *known_by_id(const struct process *process, uint64_t id);
struct user *known_by_token(const struct process *process, const uint8_t *token, const uint8_t *instance);

/* ---- reclaim.c ---- */

struct returning {
  bool is_publisher;
  const char *channel, *multiplexer; /* as in the request */
};
/* The program's own user of that token, who is this connection's from now on and was sent nothing on it yet; *ret_user
 * NULL: there is none.  SLC_BUSY: another connection has it, and lives; SLC_INVALID: it is somebody else. */
int user_return(struct client *client, const ProtobufCBinaryData *token, const struct returning *as,
                struct user **ret_user);
/* It can return by this token, unless memory is short. */
void user_remember(struct user *user, const ProtobufCBinaryData *token);
/* The answer to Reclaim, and everything that is pushed to a newcomer. */
int user_reclaim(struct client *client, uint64_t serial, const Slotcast__Reclaim *request);

/* ---- life.c ---- */

/* Found, or made for this account. */
int channel_obtain(struct broker *broker, struct account *account, const char *name, struct channel **ret_channel);
/* It lingers until then (CLOCK_MONOTONIC, ns).  False: no memory. */
bool channel_linger_until(struct broker *broker, struct channel *channel, int64_t until);
/* Goes, lingers or stays: what is to be done with a channel that may have no users any more. */
void channel_release(struct broker *broker, struct channel *channel);
/* It has its first user, or was created by request: tells so once. */
void channel_tell(const struct broker *broker, struct channel *channel);
/* A user has come: it lingers no more. */
void channel_revive(struct channel *channel);
int channel_create(struct client *client, const Slotcast__CreateChannel *request);
int channel_remove(struct client *client, const Slotcast__RemoveChannel *request);
/* At the end of the broker: those that stay without users. */
void channel_forget_all(struct broker *broker);
/* What a publisher or whoever creates it asks for beside its shape, against what has been settled.  SLC_INCOMPATIBLE,
 * SLC_LIMIT. */
int channel_check_terms(const struct channel *channel, const Slotcast__OpenPublisher *request);
void channel_adopt_terms(struct channel *channel, const Slotcast__OpenPublisher *request);
/* Room for one more; SLC_LIMIT, saying who is there. */
int channel_check_loans(const struct channel *channel, uint32_t max_loans);
int channel_check_subscriber(const struct channel *channel, uint32_t max_holds);

/* ---- events.c ---- */

/* The channel of events, if it can be made. */
void events_open(struct broker *broker);
void events_close(struct broker *broker);
void event_of_channel(const struct broker *broker, const struct channel *channel, enum slc_event_kind kind);
/* Kind and figures are given, who it is is filled in. */
void event_of_user(const struct user *user, slc_event *event);

/* Whether anybody subscribes to them. */
bool events_are_wanted(const struct broker *broker);

/* ---- watch.c ---- */

void watch_init(struct broker *broker);
/* A user has come to this channel: looks for slow subscribers from now on, if somebody wants to know of them or the
 * channel disconnects them. */
void watch_begin(struct broker *broker, const struct channel *channel);

/* ---- outgoing.c ---- */

/* A message being composed with its descriptors and their manifest. */
enum { OUTGOING_MAX = SLC__NET_DESCRIPTORS_MAX };
struct outgoing {
  Slotcast__Message message;
  Slotcast__Descriptor entries[OUTGOING_MAX];
  Slotcast__Descriptor *manifest[OUTGOING_MAX];
  int fds[OUTGOING_MAX];
  bool owned[OUTGOING_MAX];
  size_t count;
};
void outgoing_init(struct outgoing *outgoing, uint64_t serial);
void outgoing_deinit(struct outgoing *outgoing);
/* SLC_LIMIT when there is no room. */
int outgoing_add(struct outgoing *outgoing, Slotcast__DescriptorKind kind, int fd, uint64_t size, bool writable);
/* The same with a read-only descriptor of the object, made for this message. */
int outgoing_add_read_only(struct outgoing *outgoing, Slotcast__DescriptorKind kind, int fd, uint64_t size);
int outgoing_send(struct outgoing *outgoing, struct client *client);
/* The same without a queue: SLC__NET_AGAIN when the socket is full. */
int outgoing_try_send(struct outgoing *outgoing, struct client *client);

/* ---- lifeline.c ---- */

/* For a subscriber that publishers will wait for.  SLC_NO_MEMORY. */
int lifeline_join(struct user *user);
/* The same for one that was there before, with the number that it had. */
int lifeline_restore(struct user *user, uint32_t id);
/* It does not any more; nothing for others. */
void lifeline_leave(struct user *user);

/* ---- membership.c ---- */

/* The answer to OpenPublisher, and the membership that goes with it. */
int send_publisher_opened(struct user *user, uint64_t serial);
int send_subscriber_opened(struct user *user, uint64_t serial);
/* To every publisher of a channel, as of the epoch to come; then that epoch begins. */
void membership_announce(struct channel *channel);
/* To one publisher, as of the present epoch; owed when its socket is full. */
void membership_push(struct user *publisher);
/* To a subscriber that was there before the channel had a shape. */
void attachment_push(struct user *user);
/* What is owed to the users of a client whose socket has room again. */
void pushes_resume(struct client *client);

/* A push that can't be made: the user's connection ends, because its view of the channel would have a hole. */
void push_give_up(struct user *user);

/* ---- watchers.c ---- */

/* A publisher has a doorbell now, or has gone with it: everybody gets the new set, and then it counts. */
void watchers_announce(struct channel *channel);
/* To one user; owed when its socket is full. */
void watchers_push(struct user *user);
/* To a user who has just been answered. */
void watchers_welcome(struct user *user);
/* The publishers that wait by a descriptor look again. */
void watchers_ring(const struct channel *channel);

/* ---- inspect.c ---- */

int send_channel_list(struct client *client, uint64_t serial, const Slotcast__ListChannels *request);
/* A user leaves: its part of the totals stays the channel's.  Before its lines are anybody else's. */
void totals_keep(const struct user *user);
int send_channel_report(struct client *client, uint64_t serial, const Slotcast__InspectChannel *request);
void geometry_to_message(const struct slc__geometry *geometry, Slotcast__Geometry *message);

#endif

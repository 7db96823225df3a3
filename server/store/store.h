/* What must outlive the process: records, each a key, bytes and descriptors, kept by up to two shadows or by the
 * service manager's descriptor store.
 *
 * The owner puts and drops records as its own state changes, and says at a quiet moment that the whole is consistent
 * (slc__store_commit).  What a keeper has is always one such consistent whole: it stages what comes between two
 * commits. A keeper that comes, or comes back, is given every record and a commit in the same way, in the background,
 * while the other one goes on.
 *
 * Descriptors stay the owner's, and must stay open until their record is put anew with others or dropped.
 * Thread: the loop's. */
#ifndef SLC__STORE_H
#define SLC__STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct slc__store;
struct slc__image;

enum {
  SLC__STORE_KEEPERS_MAX = 2,
  SLC__STORE_KEY_MAX = 64,          /* bytes */
  SLC__STORE_VALUE_MAX = 64 * 1024, /* bytes of a record */
  SLC__STORE_DESCRIPTORS_MAX = 240, /* of a record */
};

struct slc__store_options {
  const char *shadows[SLC__STORE_KEEPERS_MAX]; /* their sockets; NULL: none */
  bool fdstore;                                /* the service manager's ($NOTIFY_SOCKET) */
  const char *generation_path;                 /* a file that says which record sets are old */
  struct slc__image *image; /* what was handed over, taken by slc__store_load instead of what keepers have; or NULL */
};

/* They come from the loop, never from within a call of the owner's. */
struct slc__store_events {
  /* Every keeper that is there and up to date has what was committed up to and including `commit`. */
  void (*kept)(void *owner, uint64_t commit);
  /* Another broker, newer than this one, has come to a keeper: nothing is kept any more, and the owner must stop
   * serving. Once. */
  void (*fenced)(void *owner);
};

/* One record, while it is loaded: descriptors that are not taken (set to -1) are closed afterwards. */
struct slc__store_record {
  const void *key;
  size_t key_size;
  const void *value;
  size_t value_size;
  int *fds;
  size_t fd_count;
};

/* Nothing is kept by anybody before the first commit: until then the keepers have what an earlier process left.
 * SLC_NO_MEMORY, SLC_INVALID. */
int slc__store_open(uv_loop_t *loop, const struct slc__store_options *options, const struct slc__store_events *events,
                    void *owner, struct slc__store **ret_store);
/* Once, before the loop runs and before the first commit: asks the keepers, waiting for them a bounded time, for what
 * an earlier process left, and calls `visit` for each record of the newest complete set, in the byte order of the keys.
 * 0: *ret_count records, 0 where nobody has any.  A set that is known to be old, or incomplete, is not taken. None of
 * the records is in this store afterwards: the owner puts what it goes on with.
 * SLC_NO_MEMORY, SLC_NO_DESCRIPTORS, SLC_VERSION (a keeper or a set of a newer release), SLC_DENIED; with slc__fail's
 * sentence. */
int slc__store_load(struct slc__store *store, void (*visit)(void *ctx, struct slc__store_record *record), void *ctx,
                    size_t *ret_count);
/* After an image was loaded, when whoever handed it over does nothing more: now the keepers are asked, and come. */
void slc__store_start(struct slc__store *store);
/* What is to be handed over: everything on record; and what only keepers know.  The descriptors in it stay the owner's
 * and the store's: it is to be sent before anything changes.  SLC_NO_MEMORY, SLC_NO_DESCRIPTORS, SLC_SYSTEM. */
int slc__store_image(const struct slc__store *store, struct slc__image *image);
int slc__store_hand_over(struct slc__store *store, struct slc__image *image);
/* The keepers keep what they have.  Takes NULL.  The loop has to run until its handles are closed. */
void slc__store_close(struct slc__store *store);

/* Copies key and value.  A record of that key is replaced.  SLC_NO_MEMORY, SLC_INVALID (sizes). */
int slc__store_put(struct slc__store *store, const void *key, size_t key_size, const void *value, size_t value_size,
                   const int *fds, size_t fd_count);
/* Nothing where there is none. */
void slc__store_drop(struct slc__store *store, const void *key, size_t key_size);
/* Everything up to now is one consistent whole: its number, which grows.  Without a change since the last, that one's.
 * Nothing is sent between a change and the commit after it, so leave none without a commit in the same turn of the
 * loop. */
uint64_t slc__store_commit(struct slc__store *store);
/* The last commit that every keeper has; without a keeper the last one. */
uint64_t slc__store_kept(const struct slc__store *store);
/* Whether some keeper is there, so that a successor may find something. */
bool slc__store_has_keeper(const struct slc__store *store);

#endif

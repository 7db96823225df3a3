/* The descriptors that the service manager keeps for us, each under a short name of its own.
 *
 * A descriptor is known again by what it refers to, not by its number: the manager keeps of several that refer to the
 * same only the first (and so one that several records have is stored once).  What no record needs any more is taken
 * away from the manager only when a set without it is complete.  Thread: the loop's. */
#ifndef SLC__STORE_STORED_H
#define SLC__STORE_STORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "store/notify.h"

struct slc__stored {
  TAILQ_ENTRY(slc__stored) link; /* of the loose ones */
  int fd;                        /* our own duplicate */
  uint32_t name;
  bool is_log;
  uint32_t references; /* of records; 0: it is loose */
  uint64_t until;      /* a loose one: goes when this commit is complete; 0: when one that is yet to come is */
  bool is_retired;     /* a loose one: goes as soon as the manager can be told; those are the first of the list */
};

TAILQ_HEAD(slc__stored_list, slc__stored);

struct slc__stored_table {
  void *by_file; /* of tsearch */
  struct slc__stored **by_name;
  size_t room, first_free, count;
  size_t names_size; /* of all, as they are given back in $LISTEN_FDNAMES */
  struct slc__stored_list loose;
  bool is_filling; /* that has been said */
};

enum { SLC__STORED_NAME_MAX = 8 };

/* SLC_SYSTEM: this kernel can't tell whether two descriptors are the same. */
int slc__stored_init(struct slc__stored_table *table);
/* Closes our duplicates; the manager keeps its. */
void slc__stored_deinit(struct slc__stored_table *table);

/* One that the manager has given back; `fd` is the table's now, or closed: SLC_INVALID: not a name of ours, or there
 * twice; then it is the caller's. */
int slc__stored_adopt(struct slc__stored_table *table, const char *name, int fd);
struct slc__stored *slc__stored_find(const struct slc__stored_table *table, uint32_t name);

/* The stored one that refers to the same as `fd`; it is sent to the manager, *ret_sent then, where it is not there yet;
 * loose until it is referenced.  SLC__NET_AGAIN, SLC_LIMIT (the manager can't give back so many),
 * SLC_NO_DESCRIPTORS, SLC_NO_MEMORY, SLC_SYSTEM. */
int slc__stored_send(struct slc__stored_table *table, struct slc__notify *notify, int fd, bool is_log,
                     struct slc__stored **ret_stored, bool *ret_sent);
void slc__stored_ref(struct slc__stored_table *table, struct slc__stored *stored);
void slc__stored_unref(struct slc__stored_table *table, struct slc__stored *stored);

/* Whoever references it: it goes. */
void slc__stored_retire(struct slc__stored_table *table, struct slc__stored *stored);
void slc__stored_retire_all(struct slc__stored_table *table);

/* All of them, to be handed over; they stay the table's.  SLC_NO_MEMORY. */
struct slc__image;
int slc__stored_list(const struct slc__stored_table *table, struct slc__image *image);

/* Those that are loose now are not needed from this commit on. */
void slc__stored_mark(struct slc__stored_table *table, uint64_t commit);
/* That commit is complete: takes away what is not needed from it on.  SLC__NET_AGAIN: there is more to do. */
int slc__stored_release(struct slc__stored_table *table, struct slc__notify *notify, uint64_t commit);

#endif

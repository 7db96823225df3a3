/* A keeper, as the store sees it: something outside this process that takes a stream of changes and holds the last
 * whole set of it.  A shadow is one (shadow.c), the service manager's descriptor store another.
 *
 * Before the loop runs the store asks each what it has (ask, load); afterwards (start) a keeper comes and goes as it
 * likes, and says so with the functions at the end.  While it is there the store streams to it: begin, every record as
 * a put, commit; then puts and drops and further commits.  What comes after a begin replaces everything, but like all
 * the rest only with the commit after it.
 *
 * Thread: the loop's.  None of the functions at the end is called from within one of the class, but for start. */
#ifndef SLC__STORE_KEEPER_H
#define SLC__STORE_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "store/loaded.h"
#include "store/records.h"
#include "store/store.h"

struct slc__keeper;

enum { SLC__KEEPER_AWAY = 1 };

/* What a keeper has before anything is sent to it. */
struct slc__keeper_set {
  bool is_complete; /* there is one */
  uint64_t generation;
};

struct slc__keeper_class {
  /* 0, or SLC__KEEPER_AWAY: nobody is there, or not in time, or talks nonsense, which has been logged.  Negative, with
   * slc__fail's sentence: the owner must not start (SLC_VERSION, SLC_DENIED, SLC_NO_MEMORY, SLC_NO_DESCRIPTORS). */
  int (*ask)(struct slc__keeper *keeper, int64_t deadline_ns, struct slc__keeper_set *ret_set);
  /* Adds every record of its set, after an ask that found one; statuses as of ask.  What was added before a failure is
   * the caller's to forget. */
  int (*load)(struct slc__keeper *keeper, int64_t deadline_ns, struct slc__loaded *loaded);
  /* From now on it comes and goes.  One that has been asked and is there comes within this call, so that it counts from
   * the first commit on. */
  void (*start)(struct slc__keeper *keeper);

  /* The stream: 0, or SLC__NET_AGAIN: nothing was taken, and slc__keeper_writable will be called.  A keeper that fails
   * otherwise says 0 and leaves later. */
  int (*begin)(struct slc__keeper *keeper);
  int (*put)(struct slc__keeper *keeper, const struct slc__record *record);
  int (*drop)(struct slc__keeper *keeper, const struct slc__record *record);
  int (*commit)(struct slc__keeper *keeper, uint64_t number, uint64_t generation);

  /* Adds what another process needs to go on in its place.  NULL: nothing. */
  int (*hand_over)(struct slc__keeper *keeper, struct slc__image *image);

  /* No call of it comes afterwards; it keeps what it has.  Frees the keeper, now or when its handles are closed. */
  void (*close)(struct slc__keeper *keeper);
};

enum slc__keeper_stage {
  SLC__KEEPER_GONE,
  SLC__KEEPER_COMING,     /* is there; the next thing for it is a begin */
  SLC__KEEPER_BEHIND,     /* is being given everything, and does not count yet */
  SLC__KEEPER_UP_TO_DATE, /* counts: what is kept is what it, too, has acknowledged */
};

/* The head of every keeper.  The implementation sets the first two before it hands the keeper to the store, and leaves
 * the rest alone. */
struct slc__keeper {
  const struct slc__keeper_class *class;
  const char *name; /* for the log; lives as long as the keeper */
  struct slc__store *store;
  enum slc__keeper_stage stage;
  struct slc__place place; /* of BEHIND and UP_TO_DATE: what it has been sent */
  uint64_t sent;           /* the last commit sent to it */
  uint64_t acknowledged;   /* the last commit that it has said to have */
};

/* It is there, and has a set of that generation (0: none): it will be brought up to date. */
void slc__keeper_came(struct slc__keeper *keeper, uint64_t generation);
/* There may be room again after an SLC__NET_AGAIN. */
void slc__keeper_writable(struct slc__keeper *keeper);
/* It has the set up to that commit.  False: there was no such commit, it talks nonsense. */
bool slc__keeper_acknowledged(struct slc__keeper *keeper, uint64_t number);
/* It is not there any more; until it comes again nothing is sent to it. */
void slc__keeper_left(struct slc__keeper *keeper);
/* It has left because it serves a newer broker now. */
void slc__keeper_fenced(struct slc__keeper *keeper);

#endif

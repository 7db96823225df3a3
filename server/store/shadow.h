/* A slotcast-shadow as a keeper.  Its parts: what is said (shadow_message.c), the questions before the loop runs
 * (shadow_ask.c), and the link that comes and goes (shadow.c).  Thread: the loop's. */
#ifndef SLC__STORE_SHADOW_H
#define SLC__STORE_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "loop/connection.h"
#include "net/seqpacket.h"
#include "shadow.pb-c.h"
#include "store/keeper.h"

/* The keeper behind the socket at `path`, to which nobody has spoken yet.  SLC_NO_MEMORY, SLC_INVALID. */
int slc__shadow_open(uv_loop_t *loop, const char *path, struct slc__keeper **ret_keeper);

/* ---- for its parts only ---- */

struct slc__shadow {
  struct slc__keeper keeper;
  uv_loop_t *loop;
  char *path;
  char *name;

  int asked_fd;               /* connected before the loop runs; -1: not */
  struct slc__keeper_set set; /* what it said then */

  struct slc__connection *connection; /* NULL: away */
  uv_timer_t timer;                   /* away: the next attempt.  Connected: how long it may still owe us something */
  uint64_t retry_ms;
  bool has_come;   /* it has said what it has */
  bool is_blocked; /* the last thing sent was not taken */
  uint64_t told;   /* which statuses have been logged as its failures since it was well: bits */
};

/* Static storage until the next one. */
struct slc__shadow_packet {
  const void *data;
  size_t size;
};
int slc__shadow_pack_hello(struct slc__shadow_packet *ret_packet);
int slc__shadow_pack_load(struct slc__shadow_packet *ret_packet);
int slc__shadow_pack_begin(struct slc__shadow_packet *ret_packet);
int slc__shadow_pack_put(const struct slc__record *record, struct slc__shadow_packet *ret_packet);
int slc__shadow_pack_drop(const struct slc__record *record, struct slc__shadow_packet *ret_packet);
int slc__shadow_pack_commit(uint64_t number, uint64_t generation, struct slc__shadow_packet *ret_packet);

/* What its answer to a hello says.  SLC_VERSION; what a refusal says; SLC_PROTOCOL for any other message. */
int slc__shadow_read_state(const Slotcast__ShadowMessage *message, struct slc__keeper_set *ret_set);
/* The status of a refusal, and its sentence for slc__error_detail. */
int slc__shadow_read_refusal(const Slotcast__ShadowRefusal *refusal);
/* SLC_PROTOCOL, with a sentence: it should not have said this now. */
int slc__shadow_unexpected(const Slotcast__ShadowMessage *message);

/* Logs slc__error_detail; each kind of failure once, until it is well again. */
void slc__shadow_tell(struct slc__shadow *shadow, int status);

/* struct slc__keeper_class. */
int slc__shadow_ask(struct slc__keeper *keeper, int64_t deadline_ns, struct slc__keeper_set *ret_set);
int slc__shadow_load(struct slc__keeper *keeper, int64_t deadline_ns, struct slc__loaded *loaded);

#endif

/* A store on a loop of its own, and shadows that the test plays itself, message by message. */
#ifndef SLC_TEST_STORE_FAKE_H
#define SLC_TEST_STORE_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "net/seqpacket.h"
#include "proto/codec.h"
#include "store/store.h"
#include "support/leaks.h"

enum { FAKES = 2 };

/* A shadow that is only there as far as the test goes along with it. */
struct fake {
  char path[96];
  int listen_fd; /* -1: away */
  int lock_fd;
  int fd; /* of the broker's connection; -1: none */
  struct slc__fds fds;
  Slotcast__ShadowMessage *message; /* the last one received */
};

struct store_world {
  char directory[64];
  char generation_path[96];
  uv_loop_t loop;
  struct slc__store *store;
  struct fake fakes[FAKES];
  uint64_t kept; /* of the last event */
  int events;    /* how many of those there were */
  int fenced;
  char log[64 * 1024];    /* what has been logged, a line each */
  char loaded_keys[1024]; /* of the last load, each with a space behind it */
  struct test_leaks leaks;
};

int store_world_setup(void **state);
int store_world_teardown(void **state);

/* A store with so many shadows, loaded from nobody: call it while none of them listens, or while a child serves. */
void store_world_open(struct store_world *world, int shadows);
int store_world_try_open(struct store_world *world, int shadows);
/* struct slc__store_events, for a store that the test opens itself. */
void store_world_on_kept(void *owner, uint64_t commit);
void store_world_on_fenced(void *owner);
void store_world_close(struct store_world *world);
/* One turn of the loop, waiting a moment at most. */
void store_world_turn(struct store_world *world);
/* What the file says. */
uint64_t store_world_generation(const struct store_world *world);
/* How often a text was logged. */
int store_world_said(const struct store_world *world, const char *text);
void store_world_put(struct store_world *world, const char *key, const char *value);

void fake_listen(struct fake *fake);
/* Closes everything: the shadow is gone. */
void fake_die(struct fake *fake);
/* The broker's next connection. */
void fake_accept(struct store_world *world, struct fake *fake);
/* Its next message, which must be of that kind; valid until the next one. */
const Slotcast__ShadowMessage *fake_receive(struct store_world *world, struct fake *fake,
                                            Slotcast__ShadowMessage__BodyCase kind);
/* Until it has closed. */
void fake_see_end(struct store_world *world, struct fake *fake);
/* Nothing waits to be read. */
bool fake_is_quiet(struct store_world *world, struct fake *fake);

/* Bytes as they are. */
void fake_send(struct fake *fake, const void *data, size_t size, const int *fds, size_t fd_count);
void fake_say(struct fake *fake, const Slotcast__ShadowMessage *message);
void fake_say_state(struct fake *fake, bool complete, uint64_t generation);
void fake_say_committed(struct fake *fake, uint64_t number);
void fake_say_refusal(struct fake *fake, int status, const char *text);
/* accept, hello, state, begin. */
void fake_greet(struct store_world *world, struct fake *fake);
/* So many records, then a commit: its number. */
uint64_t fake_catch_up(struct store_world *world, struct fake *fake, int records, uint64_t *ret_generation);

#endif

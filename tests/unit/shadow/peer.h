/* What a broker says to a shadow, said by a test; also what no broker would.  A failure ends the test. */
#ifndef SLC_TEST_SHADOW_PEER_H
#define SLC_TEST_SHADOW_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/seqpacket.h"
#include "proto/codec.h"

struct answer {
  Slotcast__ShadowMessage *message; /* NULL: the connection has ended */
  struct slc__fds fds;
};

int peer_connect(const char *socket);
/* Connects and says hello: the shadow's state. */
int peer_hello(const char *socket, Slotcast__ShadowState *ret_state);

void peer_send(int fd, const Slotcast__ShadowMessage *message, const int *fds, size_t fd_count);
void peer_put(int fd, const char *key, const char *value, const int *fds, size_t fd_count);
void peer_drop(int fd, const char *key);
void peer_begin(int fd);
void peer_load(int fd);
/* Commits and waits until that is acknowledged. */
void peer_commit(int fd, uint64_t number, uint64_t generation);

void peer_receive(int fd, struct answer *ret_answer);
void answer_deinit(struct answer *answer);

/* Waits for a refusal with this status, and then for the end of the connection; what else comes before is passed
 * over. */
void peer_expect_refusal(int fd, int status);
/* Loads; the records as "key=value;..", each with "*N" where it has N descriptors, in the order of the keys.  Each
 * descriptor must be the one of that key and place (peer_descriptor). */
void peer_expect_records(int fd, const char *records);

/* A file of its own that says which it is; the caller closes it. */
int peer_descriptor(const char *key, size_t place);

#endif

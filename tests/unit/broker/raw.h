/* A broker in a child process, and a client that speaks the control protocol without the library.
 *
 * Whatever should not happen ends the test program with a word on stderr: a helper that goes on after a failure would
 * only fail elsewhere. */
#ifndef SLC_TEST_RAW_H
#define SLC_TEST_RAW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/broker.h"
#include "proto/codec.h"

struct raw_broker {
  pid_t pid;
  int log; /* what it logs at warning and worse, a line a datagram */
  char directory[64];
  char socket[96];
};

/* `limits` may be NULL: the defaults. */
void raw_broker_start(struct raw_broker *broker, const struct limits *limits);
/* SIGTERM, its end with status 0, and an empty scratch directory. */
void raw_broker_stop(struct raw_broker *broker);
/* Waits for the next line of its log. */
void raw_broker_log(const struct raw_broker *broker, char *line, size_t size);
int raw_broker_descriptors(const struct raw_broker *broker);

struct raw {
  int fd;
  uint64_t serial;
};
struct raw_answer {
  Slotcast__Message *message;
  struct slc__fds fds;
};

void raw_connect(struct raw *raw, const struct raw_broker *broker);
void raw_close(struct raw *raw);
/* connect, and hello as an instance of sixteen such bytes. */
void raw_open(struct raw *raw, const struct raw_broker *broker, uint8_t instance);
void raw_send_bytes(const struct raw *raw, const void *data, size_t size, const int *fds, size_t fd_count);
/* Sends with the next serial; `fd`: a doorbell, or -1. */
void raw_send(struct raw *raw, Slotcast__Message *message, int fd);
/* The next message; false: the broker has hung up. */
bool raw_receive(const struct raw *raw, struct raw_answer *ret_answer);
void raw_answer_free(struct raw_answer *answer);
/* Receives until the answer to the last request; pushes in between are dropped. */
void raw_await(const struct raw *raw, struct raw_answer *ret_answer);

/* The broker's descriptors, once it has as many as expected or its loop has turned often enough (each turn answers the
 * anchor, a connection that stays): the ends of connections and processes reach it in its own time. */
int raw_broker_settle(const struct raw_broker *broker, struct raw *anchor, int expected);

/* Each sends a request and gives the answer; the caller frees it. */
void raw_hello(struct raw *raw, uint32_t major, uint8_t instance, struct raw_answer *ret_answer);
void raw_publish(struct raw *raw, const Slotcast__OpenPublisher *request, struct raw_answer *ret_answer);
void raw_subscribe(struct raw *raw, const Slotcast__OpenSubscriber *request, struct raw_answer *ret_answer);
void raw_close_user(struct raw *raw, uint64_t user, struct raw_answer *ret_answer);
void raw_inspect(struct raw *raw, const char *channel, struct raw_answer *ret_answer);

/* Requests with the channel's name and defaults elsewhere. */
Slotcast__OpenPublisher raw_publisher(const char *channel);
Slotcast__OpenSubscriber raw_subscriber(const char *channel);

/* The same, admitted for sure: the user. */
uint64_t raw_join_publisher(struct raw *raw, const char *channel);
uint64_t raw_join_subscriber(struct raw *raw, const char *channel);

#endif

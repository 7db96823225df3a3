/* What actors do, and how they are told. */
#include "actor.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the bytes of a message ---- */

enum { STAMP_SIZE = 8 }; /* the least that a message has */

static uint8_t byte_at(uint64_t stamp, size_t size, size_t at) {
  return (uint8_t)(stamp * 31 + size * 3 + at * 7 + (at >> 8) + 1);
}

static void content_write(void *data, uint64_t stamp, size_t size) {
  uint8_t *bytes = data;
  memcpy(bytes, &stamp, size < STAMP_SIZE ? size : STAMP_SIZE);
  for (size_t i = STAMP_SIZE; i < size; i++) bytes[i] = byte_at(stamp, size, i);
}

static bool content_read(const void *data, size_t size, uint64_t *ret_stamp) {
  const uint8_t *bytes = data;
  if (size < STAMP_SIZE) return false;
  memcpy(ret_stamp, bytes, STAMP_SIZE);
  for (size_t i = STAMP_SIZE; i < size; i++) {
    if (bytes[i] != byte_at(*ret_stamp, size, i)) return false;
  }
  return true;
}

/* ---- doing ---- */

static uint32_t unused(const bool *in_use) {
  uint32_t key = 0;
  while (key < ACTOR_MESSAGES && in_use[key]) key++;
  return key;
}

static void loan(struct actor_state *state, const struct actor_call *call, struct actor_answer *answer) {
  uint32_t key = unused(state->is_on_loan);
  if (key == ACTOR_MESSAGES) {
    answer->status = SLC_LOAN_LIMIT;
    return;
  }
  answer->status = slc_publisher_loan(state->publisher, call->size, &state->loans[key]);
  if (answer->status != SLC_OK) return;
  state->is_on_loan[key] = true;
  answer->key = key;
  answer->capacity = state->loans[key].capacity;
}

static void loan_write(slc_loan *used, uint64_t stamp, size_t size) {
  content_write(used->data, stamp, size);
  if (used->metadata != NULL) memcpy(used->metadata, &stamp, sizeof stamp);
}

static void publish(struct actor_state *state, const struct actor_call *call, struct actor_answer *answer) {
  slc_loan *used = &state->loans[call->key];
  if (state->is_on_loan[call->key] && call->size <= used->capacity) loan_write(used, call->stamp, call->size);
  answer->status = slc_publisher_publish(state->publisher, used, call->size, &answer->message.ordinal);
  if (answer->status == SLC_OK) state->is_on_loan[call->key] = false;
}

static void send_all(struct actor_state *state, const struct actor_call *call, struct actor_answer *answer) {
  for (; answer->status == SLC_OK && answer->done < call->count; answer->done++) {
    slc_loan one;
    answer->status = slc_publisher_loan(state->publisher, call->size, &one);
    if (answer->status != SLC_OK) return;
    loan_write(&one, call->stamp + answer->done, call->size);
    answer->status = slc_publisher_publish(state->publisher, &one, call->size, &answer->message.ordinal);
  }
}

static void retired(struct actor_state *state, struct actor_answer *answer) {
  slc_retired one;
  size_t count;
  answer->status = slc_publisher_retired(state->publisher, &one, 1, &count);
  if (answer->status == SLC_OK) answer->message.ordinal = one.ordinal;
}

static void read_message(struct actor_state *state, uint32_t key, struct actor_answer *answer) {
  answer->key = key;
  answer->message = state->messages[key];
  answer->is_whole = content_read(answer->message.data, answer->message.size, &answer->stamp);
  if (answer->message.metadata != NULL)
    memcpy(&answer->metadata_stamp, answer->message.metadata, sizeof answer->metadata_stamp);
}

typedef int (*take_fn)(slc_subscriber *subscriber, slc_message *ret_message);

static void take(struct actor_state *state, take_fn function, struct actor_answer *answer) {
  uint32_t key = unused(state->is_held);
  slc_message rest;
  answer->status = function(state->subscriber, key < ACTOR_MESSAGES ? &state->messages[key] : &rest);
  if (answer->status != SLC_OK) return;
  state->is_held[key] = true;
  read_message(state, key, answer);
}

/* Their keys are those that were free; all are released by the caller before it calls this. */
static void take_many(struct actor_state *state, const struct actor_call *call, struct actor_answer *answer) {
  size_t count = 0;
  answer->status = slc_subscriber_take_many(state->subscriber, state->messages, call->count, &count);
  answer->done = count;
  for (size_t i = 0; i < count; i++) state->is_held[i] = true;
}

static void look_back(struct actor_state *state, const struct actor_call *call, struct actor_answer *answer) {
  uint32_t key = unused(state->is_held);
  slc_message *message = &state->messages[key];
  if (call->op == ACTOR_FIND)
    answer->status = slc_subscriber_find(state->subscriber, call->at, call->or_later, message);
  else if (call->op == ACTOR_FIND_TIME)
    answer->status = slc_subscriber_find_time(state->subscriber, call->at, call->or_later, message);
  else
    answer->status = slc_subscriber_take_weak(state->subscriber, call->at, call->slot, message);
  if (answer->status != SLC_OK) return;
  state->is_held[key] = true;
  read_message(state, key, answer);
}

static void release(struct actor_state *state, const struct actor_call *call, struct actor_answer *answer) {
  answer->status = slc_subscriber_release(state->subscriber, &state->messages[call->key]);
  if (answer->status == SLC_OK) state->is_held[call->key] = false;
}

static void is_readable(struct actor_state *state, struct actor_answer *answer) {
  struct pollfd pollfd = {.events = POLLIN};
  answer->status = slc_subscriber_fd(state->subscriber, &pollfd.fd);
  if (answer->status == SLC_OK) answer->done = (uint64_t)poll(&pollfd, 1, 0);
}

static void close_handles(struct actor_state *state) {
  slc_publisher_close(state->publisher);
  slc_subscriber_close(state->subscriber);
  state->publisher = NULL;
  state->subscriber = NULL;
  memset(state->is_on_loan, 0, sizeof state->is_on_loan);
  memset(state->is_held, 0, sizeof state->is_held);
}

static struct actor_answer perform(struct actor_state *state, const struct actor_call *call) {
  struct actor_answer answer = {.publisher_stats.size = sizeof answer.publisher_stats,
                                .subscriber_stats.size = sizeof answer.subscriber_stats};
  switch (call->op) {
  case ACTOR_OPEN_PUBLISHER:
    answer.status = slc_publisher_open(state->client, call->channel, &call->publisher, &state->publisher);
    break;
  case ACTOR_OPEN_SUBSCRIBER:
    answer.status = slc_subscriber_open(state->client, call->channel, &call->subscriber, &state->subscriber);
    break;
  case ACTOR_CLOSE:
    close_handles(state);
    break;
  case ACTOR_LOAN:
    loan(state, call, &answer);
    break;
  case ACTOR_PUBLISH:
    publish(state, call, &answer);
    break;
  case ACTOR_DISCARD:
    answer.status = slc_publisher_discard(state->publisher, &state->loans[call->key]);
    if (answer.status == SLC_OK) state->is_on_loan[call->key] = false;
    break;
  case ACTOR_SEND:
    send_all(state, call, &answer);
    break;
  case ACTOR_RETIRED:
    retired(state, &answer);
    break;
  case ACTOR_PUBLISHER_WAIT:
    answer.status = slc_publisher_wait(state->publisher, call->timeout_ns);
    break;
  case ACTOR_TAKE:
    take(state, slc_subscriber_take, &answer);
    break;
  case ACTOR_TAKE_NEWEST:
    take(state, slc_subscriber_take_newest, &answer);
    break;
  case ACTOR_TAKE_MANY:
    take_many(state, call, &answer);
    break;
  case ACTOR_FIND:
  case ACTOR_FIND_TIME:
  case ACTOR_TAKE_WEAK:
    look_back(state, call, &answer);
    break;
  case ACTOR_CHECK:
    read_message(state, call->key, &answer);
    break;
  case ACTOR_RELEASE:
    release(state, call, &answer);
    break;
  case ACTOR_SUBSCRIBER_WAIT:
    answer.status = slc_subscriber_wait(state->subscriber, call->timeout_ns);
    break;
  case ACTOR_IS_READABLE:
    is_readable(state, &answer);
    break;
  case ACTOR_PUBLISHER_STATS:
    answer.status = slc_publisher_stats_get(state->publisher, &answer.publisher_stats);
    break;
  case ACTOR_SUBSCRIBER_STATS:
    answer.status = slc_subscriber_stats_get(state->subscriber, &answer.subscriber_stats);
    break;
  }
  return answer;
}

/* ---- living ---- */

static _Noreturn void actor_live(int socket) {
  struct actor_state state = {0};
  struct actor_call call;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (recv(socket, &call, sizeof call, 0) == (ssize_t)sizeof call) {
    struct actor_answer answer = {0};
    if (state.client == NULL) answer.status = slc_client_open(NULL, &state.client);
    if (answer.status == SLC_OK) answer = perform(&state, &call);
    if (send(socket, &answer, sizeof answer, MSG_NOSIGNAL) != (ssize_t)sizeof answer) break;
  }
  slc_client_close(state.client);
  _exit(0);
}

void actor_start(struct actor *actor, slc_client *client) {
  *actor = (struct actor){.socket = -1, .state.client = client};
  if (client != NULL) return;
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  actor->pid = fork();
  assert_true(actor->pid >= 0);
  if (actor->pid == 0) {
    close(ends[0]);
    actor_live(ends[1]);
  }
  close(ends[1]);
  actor->socket = ends[0];
}

static void process_await(struct actor *actor) {
  int status;
  close(actor->socket);
  assert_int_equal(waitpid(actor->pid, &status, 0), actor->pid);
  assert_true((WIFEXITED(status) && WEXITSTATUS(status) == 0) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
  actor->socket = -1;
}

void actor_end(struct actor *actor) {
  if (actor->pid == 0) close_handles(&actor->state);
  if (actor->socket < 0) return;
  shutdown(actor->socket, SHUT_RDWR);
  process_await(actor);
}

void actor_kill(struct actor *actor) {
  if (actor->pid == 0) {
    close_handles(&actor->state);
    return;
  }
  kill(actor->pid, SIGKILL);
  process_await(actor);
}

/* ---- telling ---- */

static void *perform_here(void *argument) {
  struct actor *actor = argument;
  actor->answer = perform(&actor->state, &actor->call);
  return NULL;
}

void actor_begin(struct actor *actor, const struct actor_call *call) {
  actor->call = *call;
  if (actor->pid == 0)
    assert_int_equal(pthread_create(&actor->thread, NULL, perform_here, actor), 0);
  else
    assert_int_equal(send(actor->socket, call, sizeof *call, MSG_NOSIGNAL), sizeof *call);
}

struct actor_answer actor_finish(struct actor *actor) {
  if (actor->pid == 0)
    assert_int_equal(pthread_join(actor->thread, NULL), 0);
  else
    assert_int_equal(recv(actor->socket, &actor->answer, sizeof actor->answer, 0), sizeof actor->answer);
  return actor->answer;
}

struct actor_answer actor_do(struct actor *actor, const struct actor_call *call) {
  if (actor->pid == 0) return perform(&actor->state, call);
  actor_begin(actor, call);
  return actor_finish(actor);
}

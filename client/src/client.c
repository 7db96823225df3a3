/* Clients: where the broker is, the hello, and the end of everything that a client opened.
 *
 * Threads: open from any; close when no other thread uses the client or a handle of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "connection.h"
#include "settings.h"

#define SYSTEM_SOCKET "/run/slotcast/broker.sock"
#define REQUEST_TIMEOUT_NS (60 * SLC__NS_PER_S)
#define RECONNECT_TIMEOUT_NS SLC__NS_PER_S /* systemd starts a service again after 0.1 s */

const char *slc_version(void) {
  return SLC_VERSION_STRING;
}
const char *slc_status_name(int status) {
  return slc__status_name(status);
}
const char *slc_status_text(int status) {
  return slc__status_text(status);
}
const char *slc_error_detail(void) {
  return slc__error_detail();
}

/* ---- where the broker is ---------------------------------------------------------------------------------------- */

/* $XDG_RUNTIME_DIR/slotcast/broker.sock, when something is there.  NULL otherwise. */
static char *session_socket(void) {
  const char *directory = secure_getenv("XDG_RUNTIME_DIR");
  char *path;
  if (directory == NULL || directory[0] == '\0') return NULL;
  if (asprintf(&path, "%s/slotcast/broker.sock", directory) < 0) return NULL;
  if (access(path, F_OK) == 0) return path;
  free(path);
  return NULL;
}

static char *socket_choose(const char *given) {
  if (given != NULL) return strdup(given);
  const char *named = secure_getenv("SLOTCAST_SOCKET");
  if (named != NULL && named[0] != '\0') return strdup(named);
  char *path = session_socket();
  return path != NULL ? path : strdup(SYSTEM_SOCKET);
}

/* ---- hello ------------------------------------------------------------------------------------------------------ */

/* The program's name, in characters that any broker takes. */
static void program_name(char *ret_name, size_t capacity) {
  size_t length = 0;
  for (const char *c = program_invocation_short_name; *c != '\0' && length + 1 < capacity; c++)
    ret_name[length++] = *c > ' ' && *c < 0x7f ? *c : '?';
  ret_name[length] = '\0';
}

int slc__hello_answered(void *ctx, struct slc__received *received) {
  slc_client *client = ctx;
  if (received->message->body_case != SLOTCAST__MESSAGE__BODY_HELLO_REPLY) return slc__answer_unexpected(received);
  const Slotcast__HelloReply *reply = received->message->hello_reply;
  if (reply->major != SLC__PROTOCOL_MAJOR)
    return slc__fail(SLC_VERSION, "the broker speaks protocol %u.%u, this library (%s) %d.%d", reply->major,
                     reply->minor, SLC_VERSION_STRING, SLC__PROTOCOL_MAJOR, SLC__PROTOCOL_MINOR);
  if (reply->session.len != sizeof client->origin.session)
    return slc__fail(SLC_PROTOCOL, "the broker's session has %zu bytes", reply->session.len);
  if (reply->backend != SLC__BACKEND_MEMFD && reply->backend != SLC__BACKEND_SHM)
    return slc__fail(SLC_VERSION, "the broker keeps its memory in a way (%u) that this library (%s) does not know",
                     reply->backend, SLC_VERSION_STRING);
  memcpy(client->origin.session, reply->session.data, sizeof client->origin.session);
  return 0;
}

/* `instance` has room for 16 bytes. */
static void hello_fill(const slc_client *client, uint8_t *instance, Slotcast__Hello *body) {
  slc__guard_instance(instance);
  body->major = SLC__PROTOCOL_MAJOR;
  body->minor = SLC__PROTOCOL_MINOR;
  body->features = SLC__PROTOCOL_FEATURES;
  body->client_name = client->name;
  body->instance.data = instance;
  body->instance.len = 16;
}

int slc__hello_encode(const slc_client *client, uint64_t serial, uint8_t *buffer, size_t capacity, size_t *ret_size) {
  uint8_t instance[16];
  Slotcast__Hello body = SLOTCAST__HELLO__INIT;
  hello_fill(client, instance, &body);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.serial = serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_HELLO;
  message.hello = &body;
  return slc__codec_encode(&message, buffer, capacity, ret_size);
}

static int hello(slc_client *client) {
  uint8_t instance[16];
  Slotcast__Hello body = SLOTCAST__HELLO__INIT;
  hello_fill(client, instance, &body);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_HELLO;
  message.hello = &body;
  return slc__request(client, &message, -1, slc__hello_answered, client);
}

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

static int client_make(slc_client *client, const slc_client_options *options) {
  char program[64];
  program_name(program, sizeof program);
  client->socket_path = socket_choose(options->socket);
  client->name = strdup(options->name != NULL ? options->name : program);
  client->request_timeout_ns = options->request_timeout_ns != 0 ? options->request_timeout_ns : REQUEST_TIMEOUT_NS;
  int status = slc__connection_open(client);
  if (status == 0) status = hello(client);
  /* One that goes in the middle of the hello was never ours. */
  if (status == SLC_BROKER_GONE) return slc__fail(SLC_NO_BROKER, "%s", slc__error_detail());
  if (status != 0) return status;
  const struct slc__reconnect_plan plan = {
      .timeout_ns = options->reconnect_timeout_ns != 0 ? options->reconnect_timeout_ns : RECONNECT_TIMEOUT_NS,
      .on_connection = options->on_connection,
      .ctx = options->callback_ctx,
  };
  if (!slc__reconnect_begin(client, &plan)) return slc__fail(SLC_NO_BROKER, "the broker has gone before it was had");
  return 0;
}

int slc_client_open(const slc_client_options *options, slc_client **ret_client) {
  if (ret_client == NULL) return slc__fail(SLC_INVALID, "slc_client_open: ret_client must be given");
  slc_client_options chosen = SLC_CLIENT_OPTIONS_INIT;
  int status = slc__settings_copy(&chosen, sizeof chosen, options);
  if (status != 0) return status;
  struct slc__guard guard;
  status = slc__guard_init(&guard);
  if (status != 0) return status;
  slc_client *client = calloc(1, sizeof *client);
  if (client == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a client");
  client->guard = guard;
  status = client_make(client, &chosen);
  if (status != 0) {
    slc_client_close(client);
    return status;
  }
  *ret_client = client;
  return 0;
}

/* Each close takes its handle off the list. */
void slc_client_close(slc_client *client) {
  if (client == NULL) return;
  while (client->publishers != NULL) slc_publisher_close(client->publishers);
  while (client->subscribers != NULL) slc_subscriber_close(client->subscribers);
  slc__connection_close(client);
  free(client);
}

const char *slc_client_socket(const slc_client *client) {
  return client->socket_path;
}

/* ---- the connection, for event loops ---------------------------------------------------------------------------- */

int slc_client_dispatch(slc_client *client) {
  if (slc__guard_forked(&client->guard)) return slc__guard_fail();
  slc__connection_visit(client);
  return atomic_load(&client->gone) ? slc__connection_gone(client) : 0;
}

static int epoll_make(slc_client *client) {
  SLC__CLEANUP_FD int fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event readable = {.events = EPOLLIN};
  if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, client->fd, &readable) != 0)
    return slc__fail(slc__status_of_errno(errno), "epoll for a client's descriptor: %s", strerror(errno));
  client->epoll_fd = slc__fd_take(&fd);
  return 0;
}

/* One over the socket, which is another one after each loss. */
int slc_client_fd(slc_client *client, int *ret_fd) {
  if (slc__guard_forked(&client->guard)) return slc__guard_fail();
  pthread_mutex_lock(&client->lock);
  int status = client->epoll_fd < 0 ? epoll_make(client) : 0;
  if (status == 0) *ret_fd = client->epoll_fd;
  pthread_mutex_unlock(&client->lock);
  return status;
}

int slc_client_stats_get(slc_client *client, slc_client_stats *ret_stats) {
  if (slc__guard_forked(&client->guard)) return slc__guard_fail();
  pthread_mutex_lock(&client->lock);
  const slc_client_stats stats = {
      .connected = !atomic_load(&client->gone),
      .lost = client->back.losses,
      .back = client->back.returns,
      .anew = client->back.joins,
  };
  pthread_mutex_unlock(&client->lock);
  return slc__stats_copy(ret_stats, &stats, sizeof stats);
}

/* Clients: where the broker is, the hello, and the end of everything that a client opened.
 *
 * Threads: open from any; close when no other thread uses the client or a handle of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "connection.h"
#include "settings.h"

#define SYSTEM_SOCKET "/run/slotcast/broker.sock"
#define REQUEST_TIMEOUT_NS (60 * SLC__NS_PER_S)

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

static int hello_answered(void *ctx, struct slc__received *received) {
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

static int hello(slc_client *client, const char *name) {
  char program[64];
  uint8_t instance[16];
  program_name(program, sizeof program);
  slc__guard_instance(instance);
  Slotcast__Hello body = SLOTCAST__HELLO__INIT;
  body.major = SLC__PROTOCOL_MAJOR;
  body.minor = SLC__PROTOCOL_MINOR;
  body.features = SLC__PROTOCOL_FEATURES;
  body.client_name = name != NULL ? (char *)name : program;
  body.instance.data = instance;
  body.instance.len = sizeof instance;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_HELLO;
  message.hello = &body;
  return slc__request(client, &message, -1, hello_answered, client);
}

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

static int client_make(slc_client *client, const slc_client_options *options) {
  client->socket_path = socket_choose(options->socket);
  client->request_timeout_ns = options->request_timeout_ns != 0 ? options->request_timeout_ns : REQUEST_TIMEOUT_NS;
  int status = slc__connection_open(client);
  if (status == 0) status = hello(client, options->name);
  /* One that goes in the middle of the hello was never ours. */
  return status == SLC_BROKER_GONE ? slc__fail(SLC_NO_BROKER, "%s", slc__error_detail()) : status;
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

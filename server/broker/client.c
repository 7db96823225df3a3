/* Clients: one connection each.  What they send is decoded here and handled in request.c.  Thread: the loop's. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"
#include "proto/codec.h"

/* One buffer for all: a message is packed and sent before the next is. */
static uint8_t packed[SLC__CODEC_MESSAGE_MAX];

static void end_with_reason(struct client *client, const char *reason) {
  slc__log(SLC__LOG_WARNING, "process %d (%s, uid %u): %s; its connection is closed", (int)client->process->peer.pid,
           client->process->peer.program, client->process->peer.uid, reason);
  client_close(client);
}

static void on_received(void *owner, const void *data, size_t size, struct slc__fds *fds) {
  struct client *client = owner;
  Slotcast__Message *message = NULL;
  slc__awake_stay(&client->broker->awake);
  int status = slc__codec_decode(data, size, fds->count, &message);
  if (status == SLC_OK) status = request_handle(client, message, fds);
  slc__codec_free(message);
  if (status < 0) end_with_reason(client, slc__error_detail());
}

static void on_writable(void *owner) {
  pushes_resume(owner);
}

static void on_ended(void *owner, int status) {
  struct client *client = owner;
  if (status < 0) {
    end_with_reason(client, slc__error_detail());
  } else {
    client_close(client);
  }
}

static const struct slc__connection_events events = {
    .received = on_received, .writable = on_writable, .ended = on_ended};

/* Answers a hello that we have not read: it is the first request, so its serial is 1. */
static void turn_away(int fd, int status) {
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__Refusal refusal = SLOTCAST__REFUSAL__INIT;
  size_t size;
  refusal.status = status;
  refusal.text = (char *)(uintptr_t)slc__error_detail();
  message.serial = 1;
  message.body_case = SLOTCAST__MESSAGE__BODY_REFUSAL;
  message.refusal = &refusal;
  if (slc__codec_encode(&message, packed, sizeof packed, &size) == SLC_OK)
    slc__net_send(fd, packed, size, NULL, 0, MSG_DONTWAIT);
}

/* A client of this process, or a refusal; the descriptor is the connection's from then on. */
static int client_make(struct broker *broker, struct process *process, int *fd) {
  int status = charge(broker, process->account, LIMIT_connections, 1);
  if (status != SLC_OK) return status;
  struct client *client = calloc(1, sizeof *client);
  status = client == NULL ? slc__fail(SLC_NO_MEMORY, "no memory for one more client")
                          : slc__connection_open(broker->loop, slc__fd_take(fd), &events, client, &client->connection);
  if (status != SLC_OK) {
    discharge(process->account, LIMIT_connections, 1);
    free(client);
    return status;
  }
  client->broker = broker;
  client->process = process;
  records_hold(broker, client->connection);
  LIST_INSERT_HEAD(&process->clients, client, link);
  return SLC_OK;
}

int client_open(struct broker *broker, int connection_fd) {
  SLC__CLEANUP_FD int fd = connection_fd;
  struct slc__peer peer;
  struct process *process = NULL;
  int status = slc__peer_of_socket(fd, &peer);
  if (status != SLC_OK) return status;
  status = process_find(broker, &peer, &process);
  slc__peer_deinit(&peer);
  if (status != SLC_OK) return status;
  status = client_make(broker, process, &fd);
  if (status == SLC_OK) return SLC_OK;
  if (fd >= 0) turn_away(fd, status);
  process_release(process);
  return status;
}

void client_close(struct client *client) {
  struct process *process = client->process;
  struct user *user;
  LIST_FOREACH(user, &process->users, of_process) {
    if (user->client == client) user->client = NULL;
  }
  slc__connection_close(client->connection);
  discharge(process->account, LIMIT_connections, 1);
  LIST_REMOVE(client, link);
  free(client);
  process_release(process);
}

int client_send(struct client *client, const Slotcast__Message *message, const int *fds, size_t fd_count) {
  size_t size;
  int status = slc__codec_encode(message, packed, sizeof packed, &size);
  return status != SLC_OK ? status : slc__connection_send(client->connection, packed, size, fds, fd_count);
}

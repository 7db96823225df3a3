/* Requests: what a client may say, checked against the connection that says it, and answered.
 *
 * A refusal (no budget, another type ..) is an answer, and the client goes on.  A message that no honest library sends
 * (out of place, somebody else's user, descriptors that were not asked for) ends the connection.  Thread: the loop's.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"
#include "proto/codec.h"

/* ---- answers without content ---- */

/* A text that was cut may end inside a character, which no client would decode. */
static void drop_partial_character(char *text) {
  size_t length = strlen(text), tail = 0;
  while (tail < 4 && tail < length && ((unsigned char)text[length - 1 - tail] & 0xc0) == 0x80) tail++;
  if (tail == length) return;
  unsigned char lead = (unsigned char)text[length - 1 - tail];
  size_t wanted = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
  if (tail < wanted) text[length - 1 - tail] = '\0';
}

int answer_refusal(struct client *client, uint64_t serial, int status) {
  char text[SLC__CODEC_TEXT_MAX + 1];
  snprintf(text, sizeof text, "%s", slc__error_detail());
  drop_partial_character(text);
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__Refusal refusal = SLOTCAST__REFUSAL__INIT;
  refusal.status = status;
  refusal.text = text;
  message.serial = serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_REFUSAL;
  message.refusal = &refusal;
  slc__log(SLC__LOG_INFO, "process %d (%s) refused: %s", (int)client->process->peer.pid, client->process->peer.program,
           text);
  return client_send(client, &message, NULL, 0);
}

static int answer_done(struct client *client, uint64_t serial) {
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__Done done = SLOTCAST__DONE__INIT;
  message.serial = serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_DONE;
  message.done = &done;
  return client_send(client, &message, NULL, 0);
}

/* ---- hello ---- */

/* The same process with another instance has called execve: its mappings are gone, and with them what it had.  Clients
 * of the same instance are further connections of one program, and those still connected speak for themselves. */
static void forget_earlier_image(struct client *client) {
  struct user *user, *next;
  for (user = LIST_FIRST(&client->process->users); user != NULL; user = next) {
    next = LIST_NEXT(user, of_process);
    if (user->client == NULL && memcmp(user->instance, client->instance, sizeof user->instance) != 0) user_die(user);
  }
}

static int answer_hello(struct client *client, uint64_t serial) {
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__HelloReply reply = SLOTCAST__HELLO_REPLY__INIT;
  reply.major = SLC__PROTOCOL_MAJOR;
  reply.minor = SLC__PROTOCOL_MINOR;
  reply.features = SLC__PROTOCOL_FEATURES;
  reply.session.data = client->broker->session;
  reply.session.len = sizeof client->broker->session;
  reply.backend = client->broker->options.backend;
  message.serial = serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_HELLO_REPLY;
  message.hello_reply = &reply;
  return client_send(client, &message, NULL, 0);
}

/* What can't be sealed is for peers of one uid: any other could shrink it under its readers. */
static int check_uid(const struct client *client) {
  if (client->broker->options.backend == SLC__BACKEND_MEMFD || client->process->peer.uid == geteuid()) return SLC_OK;
  return slc__fail(SLC_DENIED,
                   "this broker's memory is in /dev/shm, which is for processes of user %u only: run it with "
                   "--backend memfd to serve others",
                   geteuid());
}

static int handle_hello(struct client *client, uint64_t serial, const Slotcast__Hello *hello) {
  if (client->said_hello) return slc__fail(SLC_PROTOCOL, "it said hello twice");
  if (hello->major != SLC__PROTOCOL_MAJOR) {
    int status = slc__fail(SLC_VERSION, "the client speaks protocol %u.%u, this broker %u.%u: use the same release",
                           hello->major, hello->minor, SLC__PROTOCOL_MAJOR, SLC__PROTOCOL_MINOR);
    answer_refusal(client, serial, status);
    return status;
  }
  int admitted = check_uid(client);
  if (admitted != SLC_OK) {
    answer_refusal(client, serial, admitted);
    return admitted;
  }
  memcpy(client->instance, hello->instance.data, sizeof client->instance);
  snprintf(client->name, sizeof client->name, "%s", hello->client_name);
  forget_earlier_image(client);
  client->said_hello = true;
  return answer_hello(client, serial);
}

/* ---- users ---- */

static int handle_open_publisher(struct client *client, uint64_t serial, const Slotcast__OpenPublisher *request) {
  struct user *user;
  struct returning as = {.is_publisher = true, .channel = request->channel, .multiplexer = request->multiplexer};
  int status = user_return(client, &request->token, &as, &user);
  if (status == SLC_OK && user == NULL) {
    status = publisher_join(client, request, &user);
    if (status == SLC_OK) user_remember(user, &request->token);
  }
  if (status != SLC_OK) return answer_refusal(client, serial, status);
  status = send_publisher_opened(user, serial);
  if (status >= 0) {
    watchers_welcome(user);
    return SLC_OK;
  }
  user_leave(user);
  return answer_refusal(client, serial, status);
}

static int handle_open_subscriber(struct client *client, uint64_t serial, const Slotcast__OpenSubscriber *request) {
  struct user *user;
  struct returning as = {.channel = request->channel, .multiplexer = request->multiplexer};
  int status = user_return(client, &request->token, &as, &user);
  if (status == SLC_OK && user == NULL) {
    status = subscriber_join(client, request, &user);
    if (status == SLC_OK) user_remember(user, &request->token);
  }
  if (status != SLC_OK) return answer_refusal(client, serial, status);
  status = send_subscriber_opened(user, serial);
  if (status >= 0) {
    watchers_welcome(user);
    return SLC_OK;
  }
  user_leave(user);
  return answer_refusal(client, serial, status);
}

/* A user of this very connection; ids of others' mean nothing here. */
static struct user *find_user(struct client *client, uint64_t id) {
  struct user *user = known_by_id(client->process, id);
  return user != NULL && user->client == client ? user : NULL;
}

static int handle_close_user(struct client *client, uint64_t serial, const Slotcast__CloseUser *request) {
  struct user *user = find_user(client, request->user);
  if (user == NULL) return slc__fail(SLC_PROTOCOL, "it closed a user that it does not have");
  user_leave(user);
  return answer_done(client, serial);
}

static bool is_seqpacket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

static int handle_set_doorbell(struct client *client, uint64_t serial, const Slotcast__Message *message,
                               struct slc__fds *fds) {
  struct user *user = find_user(client, message->set_doorbell->user);
  if (user == NULL || message->n_descriptors != 1 ||
      message->descriptors[0]->kind != SLOTCAST__DESCRIPTOR_KIND__DOORBELL || !is_seqpacket(fds->fd[0]))
    return slc__fail(SLC_PROTOCOL, "its doorbell is not a SEQPACKET socket of one of its users");
  SLC__CLEANUP_FD int old = user->doorbell;
  user->doorbell = slc__fds_take(fds, 0);
  user->doorbell_id = ++user->channel->last_doorbell;
  record_changed(&user->channel->record);
  record_changed(&user->record);
  if (old >= 0) record_now(&user->record);
  if (user->is_publisher)
    watchers_announce(user->channel);
  else if (user->table != NULL)
    membership_announce(user->channel);
  return answer_done(client, serial);
}

/* ---- channels ---- */

static int handle_create_channel(struct client *client, uint64_t serial, const Slotcast__CreateChannel *request) {
  if (request->shape == NULL) return slc__fail(SLC_PROTOCOL, "it wants a channel of which it does not say the name");
  int status = channel_create(client, request);
  return status == SLC_OK ? answer_done(client, serial) : answer_refusal(client, serial, status);
}

static int handle_remove_channel(struct client *client, uint64_t serial, const Slotcast__RemoveChannel *request) {
  int status = channel_remove(client, request);
  return status == SLC_OK ? answer_done(client, serial) : answer_refusal(client, serial, status);
}

/* ---- growth ---- */

static int handle_grow(struct client *client, uint64_t serial, const Slotcast__Grow *request) {
  struct user *user = find_user(client, request->user);
  if (user == NULL || !user->is_publisher)
    return slc__fail(SLC_PROTOCOL, "it grew a channel that it does not publish to");
  uint32_t number = 0;
  int status = user->channel->geometry.split != 0
                   ? generation_ask(user, request, &number)
                   : generation_grow(client->broker, user->channel, request->wanted, request->slot_size);
  if (status == SLC_OK) status = send_generation(user, serial, number, 0);
  return status < 0 ? answer_refusal(client, serial, status) : status;
}

static int handle_fetch_generation(struct client *client, uint64_t serial, const Slotcast__FetchGeneration *request) {
  struct user *user = find_user(client, request->user);
  if (user == NULL || !user->channel->is_shaped)
    return slc__fail(SLC_PROTOCOL, "it asked for the buffers of a channel that it does not use");
  int status = send_generation(user, serial, request->number, request->first);
  return status < 0 ? answer_refusal(client, serial, status) : status;
}

/* A publisher of a split channel, by this very connection; NULL: it is none. */
static struct user *find_registrar(struct client *client, uint64_t id) {
  struct user *user = find_user(client, id);
  return user != NULL && user->is_publisher && user->channel->geometry.split != 0 ? user : NULL;
}

static int handle_register_payloads(struct client *client, const Slotcast__Message *message, struct slc__fds *fds) {
  struct user *user = find_registrar(client, message->register_payloads->user);
  if (user == NULL) return slc__fail(SLC_PROTOCOL, "it registered memory for a channel that it does not publish to");
  return split_register(user, message, fds);
}

static int handle_abandon(struct client *client, uint64_t serial, const Slotcast__AbandonGeneration *request) {
  struct user *user = find_registrar(client, request->user);
  if (user == NULL) return slc__fail(SLC_PROTOCOL, "it abandoned memory of a channel that it does not publish to");
  if (user->completes == request->generation) split_leave(user);
  return answer_done(client, serial);
}

/* The messages that bring descriptors. */
static bool brings_descriptors(const Slotcast__Message *message) {
  return message->body_case == SLOTCAST__MESSAGE__BODY_SET_DOORBELL ||
         message->body_case == SLOTCAST__MESSAGE__BODY_REGISTER_PAYLOADS;
}

/* ---- all ---- */

int request_handle(struct client *client, const Slotcast__Message *message, struct slc__fds *fds) {
  uint64_t serial = message->serial;
  if (!client->said_hello && message->body_case != SLOTCAST__MESSAGE__BODY_HELLO)
    return slc__fail(SLC_PROTOCOL, "it did not say hello first");
  if (message->n_descriptors != 0 && !brings_descriptors(message))
    return slc__fail(SLC_PROTOCOL, "it sent descriptors that nobody asked for");
  switch (message->body_case) {
  case SLOTCAST__MESSAGE__BODY_HELLO:
    return handle_hello(client, serial, message->hello);
  case SLOTCAST__MESSAGE__BODY_OPEN_PUBLISHER:
    return handle_open_publisher(client, serial, message->open_publisher);
  case SLOTCAST__MESSAGE__BODY_OPEN_SUBSCRIBER:
    return handle_open_subscriber(client, serial, message->open_subscriber);
  case SLOTCAST__MESSAGE__BODY_SET_DOORBELL:
    return handle_set_doorbell(client, serial, message, fds);
  case SLOTCAST__MESSAGE__BODY_CLOSE_USER:
    return handle_close_user(client, serial, message->close_user);
  case SLOTCAST__MESSAGE__BODY_CREATE_CHANNEL:
    return handle_create_channel(client, serial, message->create_channel);
  case SLOTCAST__MESSAGE__BODY_REMOVE_CHANNEL:
    return handle_remove_channel(client, serial, message->remove_channel);
  case SLOTCAST__MESSAGE__BODY_GROW:
    return handle_grow(client, serial, message->grow);
  case SLOTCAST__MESSAGE__BODY_FETCH_GENERATION:
    return handle_fetch_generation(client, serial, message->fetch_generation);
  case SLOTCAST__MESSAGE__BODY_REGISTER_PAYLOADS:
    return handle_register_payloads(client, message, fds);
  case SLOTCAST__MESSAGE__BODY_ABANDON_GENERATION:
    return handle_abandon(client, serial, message->abandon_generation);
  case SLOTCAST__MESSAGE__BODY_RECLAIM:
    return user_reclaim(client, serial, message->reclaim);
  case SLOTCAST__MESSAGE__BODY_LIST_CHANNELS:
    return send_channel_list(client, serial, message->list_channels);
  case SLOTCAST__MESSAGE__BODY_INSPECT_CHANNEL: {
    int status = send_channel_report(client, serial, message->inspect_channel);
    return status == SLC_NOT_FOUND ? answer_refusal(client, serial, status) : status;
  }
  default:
    return slc__fail(SLC_PROTOCOL, "it sent a message that only a broker sends");
  }
}

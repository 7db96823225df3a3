/* Those who come back: a connection may end while its process lives, and the process says on another one which of its
 * publishers and subscribers it goes on with.
 *
 * Each has a token, chosen by the program before its first request.  A token alone is nothing: the process has to be
 * the same, by its pidfd, and the program in it, by its instance.  So a request that was answered into a connection
 * that had ended can be said again, and means the same user and not a second one.  Thread: the loop's. */
#include <string.h>

#include "base/error.h"
#include "broker/broker.h"

static struct user *find(const struct client *client, const ProtobufCBinaryData *token) {
  struct user *user;
  return token->len == sizeof user->token ? known_by_token(client->process, token->data, client->instance) : NULL;
}

void user_remember(struct user *user, const ProtobufCBinaryData *token) {
  record_changed(&user->record);
  if (token->len == sizeof user->token) known_add_token(user, token->data);
}

/* The end of the old connection may not have reached us yet, though the peer has seen it. */
static int detach_from_old(const struct client *client, struct user *user) {
  if (user->client == NULL || user->client == client) return SLC_OK;
  if (!slc__connection_is_over(user->client->connection))
    return slc__fail(SLC_BUSY, "this %s of %s is another connection's, which has not ended",
                     user->is_publisher ? "publisher" : "subscriber", user->channel->name);
  client_close(user->client);
  return SLC_OK;
}

/* From now on it is this connection's, which was sent nothing yet. */
static int take_back(struct client *client, struct user *user) {
  int status = detach_from_old(client, user);
  if (status != SLC_OK) return status;
  user->client = client;
  user->tables_sent = user->doorbells_sent = user->lifelines_sent = user->watchers_sent = 0;
  user->owes_membership = user->owes_watchers = user->owes_attachment = false;
  return SLC_OK;
}

static bool is_of(const struct user *user, const char *channel, const char *multiplexer) {
  if (user->virtual == NULL) return multiplexer[0] == '\0' && strcmp(user->channel->name, channel) == 0;
  return strcmp(user->channel->name, multiplexer) == 0 && strcmp(user->virtual->name, channel) == 0;
}

int user_return(struct client *client, const ProtobufCBinaryData *token, const struct returning *as,
                struct user **ret_user) {
  struct user *user = find(client, token);
  *ret_user = user;
  if (user == NULL) return SLC_OK;
  if (user->is_publisher == as->is_publisher && is_of(user, as->channel, as->multiplexer))
    return take_back(client, user);
  return slc__fail(SLC_INVALID, "this token is that of a %s of %s: each publisher and subscriber has its own",
                   user->is_publisher ? "publisher" : "subscriber", user->channel->name);
}

static int answer_reclaimed(struct user *user, uint64_t serial) {
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  Slotcast__Reclaimed reclaimed = SLOTCAST__RECLAIMED__INIT;
  reclaimed.user = user->id;
  reclaimed.publisher = user->is_publisher;
  reclaimed.attached = user->table != NULL;
  message.serial = serial;
  message.body_case = SLOTCAST__MESSAGE__BODY_RECLAIMED;
  message.reclaimed = &reclaimed;
  return client_send(user->client, &message, NULL, 0);
}

/* Newcomers whom it did not know may have missed a ring, as after any late membership. */
static void welcome_back(struct user *user, bool knows_its_place) {
  if (user->is_publisher) membership_push(user);
  if (!user->is_publisher && user->table != NULL && !knows_its_place) attachment_push(user);
  if (user->channel->watchers_number > 0) watchers_push(user);
  channel_ring_all(user->channel);
}

int user_reclaim(struct client *client, uint64_t serial, const Slotcast__Reclaim *request) {
  struct user *user = find(client, &request->token);
  int status = user == NULL ? slc__fail(SLC_NOT_FOUND, "this broker knows no publisher or subscriber of that token")
                            : take_back(client, user);
  if (status != SLC_OK) return answer_refusal(client, serial, status);
  status = answer_reclaimed(user, serial);
  if (status >= 0) welcome_back(user, request->attached != 0);
  return status;
}

/* Channels that stay without users: created and removed by request.  Threads: any. */
#include "base/error.h"
#include "connection.h"
#include "proto/codec.h"
#include "settings.h"
#include "slotcast/slotcast.h"

static int request_create(slc_client *client, const char *channel, const slc_channel_options *options) {
  Slotcast__OpenPublisher shape = SLOTCAST__OPEN_PUBLISHER__INIT;
  shape.channel = (char *)channel;
  if (options->type != NULL) shape.type = (char *)options->type;
  shape.slots = options->slots;
  shape.slot_size = options->slot_size;
  shape.max_publishers = options->max_publishers;
  shape.max_subscribers = options->max_subscribers;
  shape.reliable = options->reliable != 0;
  shape.fixed_size = options->fixed_size != 0;
  shape.keep_last = options->keep_last;
  shape.metadata_size = options->metadata_size;
  shape.checksum = (uint32_t)options->checksum;
  shape.checksum_size = options->checksum_size;
  shape.backend = (uint32_t)options->backend;
  shape.pages = options->pages;
  shape.max_virtual = options->max_virtual;
  shape.slow_policy = (uint32_t)options->slow_policy;
  shape.split = options->split != 0;
  Slotcast__CreateChannel body = SLOTCAST__CREATE_CHANNEL__INIT;
  body.shape = &shape;
  body.max_loans = options->max_loans;
  body.max_holds = options->max_holds;
  body.prefault = options->prefault != 0;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_CREATE_CHANNEL;
  message.create_channel = &body;
  return slc__request_done(client, &message, -1);
}

int slc_channel_create(slc_client *client, const char *channel, const slc_channel_options *options) {
  if (client == NULL || channel == NULL)
    return slc__fail(SLC_INVALID, "slc_channel_create: client and channel must be given");
  if (slc__guard_forked(&client->guard)) return slc__guard_fail();
  slc_channel_options chosen = SLC_CHANNEL_OPTIONS_INIT;
  int status = slc__settings_copy(&chosen, sizeof chosen, options);
  if (status == 0) status = slc__channel_name_check(channel);
  return status != 0 ? status : request_create(client, channel, &chosen);
}

int slc_channel_remove(slc_client *client, const char *channel, int force) {
  if (client == NULL || channel == NULL)
    return slc__fail(SLC_INVALID, "slc_channel_remove: client and channel must be given");
  if (slc__guard_forked(&client->guard)) return slc__guard_fail();
  int status = slc__channel_name_check(channel);
  if (status != 0) return status;
  Slotcast__RemoveChannel body = SLOTCAST__REMOVE_CHANNEL__INIT;
  body.channel = (char *)channel;
  body.force = force != 0;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_REMOVE_CHANNEL;
  message.remove_channel = &body;
  return slc__request_done(client, &message, -1);
}

/* Inspection: the broker's lists, page by page, as structs that are the caller's.
 *
 * Invariants:
 *   - Pages come in order; one that does not lead on is a protocol error, so no list is endless.
 *   - Nothing that was sent lives longer than its message: strings are copied.
 * Threads: any. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "connection.h"

static int no_memory(void) {
  return slc__fail(SLC_NO_MEMORY, "no memory for the broker's lists");
}

/* An absent string is an empty one.  NULL: no memory. */
static char *text_copy(const char *text) {
  return strdup(text != NULL ? text : "");
}

static void channel_deinit(slc_channel_info *channel) {
  for (uint32_t i = 0; i < channel->user_count; i++) {
    free((char *)channel->users[i].program);
    free((char *)channel->users[i].client_name);
  }
  free((slc_user_info *)channel->users);
  for (uint32_t i = 0; channel->virtuals != NULL && i < channel->virtual_count; i++) {
    free((char *)channel->virtuals[i].name);
    free((char *)channel->virtuals[i].type);
  }
  free((slc_virtual_info *)channel->virtuals);
  free((char *)channel->name);
  free((char *)channel->type);
}

/* On failure too the channel is one that channel_deinit takes. */
static int channel_fill(slc_channel_info *channel, const Slotcast__ChannelSummary *summary) {
  *channel = (slc_channel_info){
      .name = text_copy(summary->name),
      .type = text_copy(summary->type),
      .publishers = summary->publishers,
      .subscribers = summary->subscribers,
      .messages = summary->messages,
      .memory = summary->memory,
      .is_persistent = summary->persistent,
      .is_lingering = summary->lingering,
      .is_fixed_size = summary->fixed_size,
      .max_subscribers = summary->max_subscribers,
      .max_loans = summary->max_loans,
      .max_holds = summary->max_holds,
      .linger_ns = (int64_t)summary->linger_ns,
      .slow_policy = (int)summary->slow_policy,
  };
  if (summary->geometry != NULL) {
    channel->is_shaped = 1;
    channel->is_reliable = summary->geometry->reliable;
    channel->slots = summary->geometry->slots;
    channel->max_publishers = summary->geometry->max_publishers;
    channel->slot_size = summary->geometry->slot_size;
    channel->keep_last = summary->geometry->keep_last;
    channel->metadata_size = summary->geometry->metadata_size;
    channel->checksum = (int)summary->geometry->checksum;
    channel->checksum_size = summary->geometry->checksum_size;
    channel->max_virtual = summary->geometry->virtual_max;
    channel->is_split = summary->geometry->split;
    channel->virtual_count = summary->virtual_channels;
    channel->backend = (int)summary->geometry->backend;
    channel->pages = summary->geometry->pages;
    channel->largest = summary->largest;
    channel->generation = summary->generation;
    channel->generations = summary->generations;
  }
  return channel->name != NULL && channel->type != NULL ? 0 : no_memory();
}

/* ---- the list of channels --------------------------------------------------------------------------------------- */

struct channel_list {
  slc_channel_info *channels;
  size_t count;
  bool more;
};

static void channel_list_deinit(struct channel_list *list) {
  slc_channel_list_free(list->channels, list->count);
}

static int channel_append(struct channel_list *list, const Slotcast__ChannelSummary *summary) {
  const char *last = list->count > 0 ? list->channels[list->count - 1].name : "";
  if (summary->name == NULL || strcmp(summary->name, last) <= 0)
    return slc__fail(SLC_PROTOCOL, "the broker's list of channels is not in order after \"%s\"", last);
  slc_channel_info *grown = reallocarray(list->channels, list->count + 1, sizeof *grown);
  if (grown == NULL) return no_memory();
  list->channels = grown;
  return channel_fill(&list->channels[list->count++], summary);
}

static int list_page(void *ctx, struct slc__received *received) {
  struct channel_list *list = ctx;
  if (received->message->body_case != SLOTCAST__MESSAGE__BODY_CHANNEL_LIST) return slc__answer_unexpected(received);
  const Slotcast__ChannelList *page = received->message->channel_list;
  if (page->more && page->n_channels == 0)
    return slc__fail(SLC_PROTOCOL, "the broker sent an empty page and says that more follows");
  for (size_t i = 0; i < page->n_channels; i++) {
    int status = channel_append(list, page->channels[i]);
    if (status != 0) return status;
  }
  list->more = page->more;
  return 0;
}

int slc_channel_list(slc_client *client, slc_channel_info **ret_channels, size_t *ret_count) {
  if (client == NULL || ret_channels == NULL || ret_count == NULL)
    return slc__fail(SLC_INVALID, "slc_channel_list: client, ret_channels and ret_count must be given");
  if (slc__guard_forked(&client->guard)) return slc__guard_fail();
  SLC__CLEANUP(channel_list_deinit) struct channel_list list = {0};
  do {
    Slotcast__ListChannels body = SLOTCAST__LIST_CHANNELS__INIT;
    if (list.count > 0) body.after = (char *)list.channels[list.count - 1].name;
    Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
    message.body_case = SLOTCAST__MESSAGE__BODY_LIST_CHANNELS;
    message.list_channels = &body;
    int status = slc__request(client, &message, -1, list_page, &list);
    if (status != 0) return status;
  } while (list.more);
  *ret_count = list.count;
  *ret_channels = slc__pointer_take(&list.channels);
  return 0;
}

void slc_channel_list_free(slc_channel_info *channels, size_t count) {
  if (channels == NULL) return;
  for (size_t i = 0; i < count; i++) channel_deinit(&channels[i]);
  free(channels);
}

/* ---- one channel ------------------------------------------------------------------------------------------------ */

struct report {
  slc_channel_info *channel; /* NULL: no page came yet */
  slc_user_info *users;      /* the channel's, while it grows */
  slc_virtual_info *virtuals;
  bool more;
};

static void report_deinit(struct report *report) {
  slc_channel_info_free(report->channel);
}

static int user_fill(slc_user_info *info, const Slotcast__User *user) {
  *info = (slc_user_info){
      .id = user->user,
      .is_publisher = user->publisher,
      .is_reliable = user->reliable,
      .is_connected = user->connected,
      .pid = user->pid,
      .uid = user->uid,
      .program = text_copy(user->program),
      .client_name = text_copy(user->client_name),
      .messages = user->messages,
      .bytes = user->bytes,
      .drops = user->drops,
      .lag = user->lag,
      .would_block = user->would_block,
      .holds = user->holds,
      .max = user->max,
      .virtual_id = user->virtual_id,
      .is_too_slow = user->too_slow,
  };
  return info->program != NULL && info->client_name != NULL ? 0 : no_memory();
}

static uint64_t last_user(const struct report *report) {
  uint32_t count = report->channel != NULL ? report->channel->user_count : 0;
  return count > 0 ? report->users[count - 1].id : 0;
}

static int user_append(struct report *report, const Slotcast__User *user) {
  slc_channel_info *channel = report->channel;
  if (user->user <= last_user(report)) return slc__fail(SLC_PROTOCOL, "the broker's list of users is not in order");
  slc_user_info *grown = reallocarray(report->users, channel->user_count + 1, sizeof *grown);
  if (grown == NULL) return no_memory();
  channel->users = report->users = grown;
  return user_fill(&report->users[channel->user_count++], user);
}

static uint32_t last_virtual(const struct report *report) {
  uint32_t count = report->virtuals != NULL ? report->channel->virtual_count : 0;
  return count > 0 ? report->virtuals[count - 1].id : 0;
}

static int virtual_append(struct report *report, const Slotcast__VirtualChannel *virtual) {
  slc_channel_info *channel = report->channel;
  if (virtual->id <= last_virtual(report))
    return slc__fail(SLC_PROTOCOL, "the broker's list of virtual channels is not in order");
  slc_virtual_info *grown = reallocarray(report->virtuals, channel->virtual_count + 1, sizeof *grown);
  if (grown == NULL) return no_memory();
  channel->virtuals = report->virtuals = grown;
  slc_virtual_info *info = &report->virtuals[channel->virtual_count++];
  *info = (slc_virtual_info){
      .id = virtual->id,
      .publishers = virtual->publishers,
      .subscribers = virtual->subscribers,
      .name = text_copy(virtual->name),
      .type = text_copy(virtual->type),
      .messages = virtual->messages,
  };
  return info->name != NULL && info->type != NULL ? 0 : no_memory();
}

/* The figures of the first page; further pages only bring more users and virtual channels. */
static int report_begin(struct report *report, const Slotcast__ChannelReport *page) {
  if (report->channel != NULL) return 0;
  if (page->summary == NULL) return slc__fail(SLC_PROTOCOL, "the broker's report lacks its summary");
  report->channel = calloc(1, sizeof *report->channel);
  if (report->channel == NULL) return no_memory();
  slc_channel_info *channel = report->channel;
  int status = channel_fill(channel, page->summary);
  channel->virtual_count = 0; /* those that follow are counted */
  channel->bytes = page->bytes;
  channel->drops = page->drops;
  channel->taken_at_ns = page->taken_at;
  channel->slots_free = page->slots_free;
  channel->slots_owned = page->slots_owned;
  channel->slots_published = page->slots_published;
  channel->slots_held = page->slots_held;
  channel->budget_used = page->budget_used;
  return status;
}

static int report_page(void *ctx, struct slc__received *received) {
  struct report *report = ctx;
  if (received->message->body_case != SLOTCAST__MESSAGE__BODY_CHANNEL_REPORT) return slc__answer_unexpected(received);
  const Slotcast__ChannelReport *page = received->message->channel_report;
  if (page->more && page->n_users == 0 && page->n_virtual_channels == 0)
    return slc__fail(SLC_PROTOCOL, "the broker sent an empty page and says that more follows");
  int status = report_begin(report, page);
  for (size_t i = 0; status == 0 && i < page->n_users; i++) status = user_append(report, page->users[i]);
  for (size_t i = 0; status == 0 && i < page->n_virtual_channels; i++)
    status = virtual_append(report, page->virtual_channels[i]);
  report->more = page->more;
  return status;
}

int slc_channel_inspect(slc_client *client, const char *channel, slc_channel_info **ret_channel) {
  if (client == NULL || channel == NULL || ret_channel == NULL)
    return slc__fail(SLC_INVALID, "slc_channel_inspect: client, channel and ret_channel must be given");
  if (slc__guard_forked(&client->guard)) return slc__guard_fail();
  int status = slc__channel_name_check_readable(channel);
  if (status != 0) return status;
  SLC__CLEANUP(report_deinit) struct report report = {0};
  do {
    Slotcast__InspectChannel body = SLOTCAST__INSPECT_CHANNEL__INIT;
    body.channel = (char *)channel;
    body.after_user = last_user(&report);
    body.after_virtual = last_virtual(&report);
    Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
    message.body_case = SLOTCAST__MESSAGE__BODY_INSPECT_CHANNEL;
    message.inspect_channel = &body;
    status = slc__request(client, &message, -1, report_page, &report);
    if (status != 0) return status;
  } while (report.more);
  *ret_channel = slc__pointer_take(&report.channel);
  return 0;
}

void slc_channel_info_free(slc_channel_info *channel) {
  if (channel == NULL) return;
  channel_deinit(channel);
  free(channel);
}

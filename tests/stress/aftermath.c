/* See aftermath.h.  Single-threaded.
 *
 * The broker hears of a death from the kernel before it can read a request that was sent later, but it closes what
 * belongs to the dead in its own time; so it is asked again: each look is a turn of its loop. */
#include "aftermath.h"

#include "support/check.h"
#include "support/content.h"

enum { ROUND_TRIPS = 20000 };

struct aftermath_before aftermath_note(const struct test_broker *broker) {
  return (struct aftermath_before){.descriptors = test_descriptors_of(broker->pid), .names = test_broker_names(broker)};
}

slc_channel_info *aftermath_inspect(slc_client *client, const char *channel, uint32_t users) {
  slc_channel_info *info = NULL;
  for (int i = 0; i < ROUND_TRIPS; i++) {
    check_ok(slc_channel_inspect(client, channel, &info));
    if (info->user_count == users) return info;
    slc_channel_info_free(info);
  }
  fail_msg("the broker does not come to %u users of %s", users, channel);
  return NULL;
}

static uint64_t count_retained(slc_client *client, const char *channel, uint64_t slot_size) {
  slc_subscriber *subscriber;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_message message;
  uint64_t count = 0;
  int status;
  options.start = SLC_START_OLDEST;
  check_ok(slc_subscriber_open(client, channel, &options, &subscriber));
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_OK) {
    struct test_message content;
    assert_true(test_message_parse(message.data, message.size, slot_size, &content));
    check_ok(slc_subscriber_release(subscriber, &message));
    count++;
  }
  check_status(status, SLC_EMPTY);
  slc_subscriber_close(subscriber);
  return count;
}

uint64_t aftermath_slots(slc_client *client, const char *channel, uint64_t slot_size) {
  slc_channel_info *info = aftermath_inspect(client, channel, 1);
  assert_int_equal(info->publishers, 0);
  assert_int_equal(info->subscribers, 1);
  assert_int_equal(info->slots_held, 0);
  assert_int_equal(info->slots_owned, 0);
  assert_int_equal(info->slots_free + info->slots_published, info->slots);
  assert_int_equal(count_retained(client, channel, slot_size), info->slots_published);
  uint64_t messages = info->messages;
  slc_channel_info_free(info);
  return messages;
}

static size_t count_channels(slc_client *client) {
  slc_channel_info *list;
  size_t count;
  check_ok(slc_channel_list(client, &list, &count));
  slc_channel_list_free(list, count);
  return count;
}

void aftermath_nothing_left(slc_client *client, const struct test_broker *broker,
                            const struct aftermath_before *before) {
  struct aftermath_before now;
  size_t channels;
  int tries = 0;
  do {
    channels = count_channels(client);
    now = aftermath_note(broker);
  } while (++tries < ROUND_TRIPS && (channels > 0 || now.descriptors != before->descriptors));
  assert_int_equal(channels, 0);
  assert_int_equal(now.descriptors, before->descriptors);
  assert_int_equal(now.names, before->names);
}

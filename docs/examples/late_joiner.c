/* Who comes late gets the latest values, and looks up earlier ones: the channel keeps its last three messages.
 * Build: cc late_joiner.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdint.h>
#include <stdio.h>

static void print(const char *how, const slc_message *message) {
  printf("%s: message %llu is %.*s\n", how, (unsigned long long)message->ordinal, (int)message->size,
         (const char *)message->data);
}

static int publish(slc_client *client, slc_publisher **ret_publisher) {
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.keep_last = 3;
  int status = slc_publisher_open(client, "demo/temperature", &shape, ret_publisher);
  for (int i = 1; status == SLC_OK && i <= 1000; i++) {
    char text[32];
    int length = snprintf(text, sizeof text, "%d.%d degrees", 20 + i % 7, i % 10);
    status = slc_publisher_send(*ret_publisher, text, (size_t)length, NULL);
  }
  return status;
}

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_message message;
  if (slc_client_open(NULL, &client) != SLC_OK || publish(client, &publisher) != SLC_OK) return 1;

  /* It comes after all has been published. */
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_LAST;
  options.start_count = 2;
  if (slc_subscriber_open(client, "demo/temperature", &options, &subscriber) != SLC_OK) return 1;
  uint64_t time = 0, ordinal = 0;
  uint32_t slot = 0;
  while (slc_subscriber_take(subscriber, &message) == SLC_OK) {
    print("taken", &message);
    time = message.timestamp_ns;
    ordinal = message.ordinal; /* with the slot, a weak reference: costs nothing, holds nothing */
    slot = message.slot;
    slc_subscriber_release(subscriber, &message);
  }

  if (slc_subscriber_find(subscriber, 998, 0, &message) == SLC_OK) {
    print("found by ordinal", &message);
    slc_subscriber_release(subscriber, &message);
  }
  if (slc_subscriber_find_time(subscriber, time, 0, &message) == SLC_OK) {
    print("found by time", &message);
    slc_subscriber_release(subscriber, &message);
  }
  if (slc_subscriber_take_weak(subscriber, ordinal, slot, &message) == SLC_OK) {
    print("held again", &message);
    slc_subscriber_release(subscriber, &message);
  }
  if (slc_subscriber_find(subscriber, 1, 0, &message) == SLC_GONE) printf("message 1: %s\n", slc_error_detail());
  slc_client_close(client);
  return 0;
}

/* A channel that stays without users, with a limit; who comes later finds what was sent, and who is too much is told who
 * has what.  Build: cc channels.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdio.h>

#define CHANNEL "demo/channels"

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber, *another;
  slc_message message;
  slc_channel_options shape = SLC_CHANNEL_OPTIONS_INIT;
  shape.slots = 16;
  shape.slot_size = 256;
  shape.max_subscribers = 1;
  shape.type = "text";
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_channel_create(client, CHANNEL, &shape) != SLC_OK) return 1;

  /* A publisher comes, sends and goes. */
  if (slc_publisher_open(client, CHANNEL, NULL, &publisher) != SLC_OK) return 1;
  if (slc_publisher_send(publisher, "still here", 10, NULL) != SLC_OK) return 1;
  slc_publisher_close(publisher);

  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.start = SLC_START_OLDEST;
  options.type = "text";
  if (slc_subscriber_open(client, CHANNEL, &options, &subscriber) != SLC_OK) return 1;
  if (slc_subscriber_take(subscriber, &message) != SLC_OK) return 1;
  printf("%.*s\n", (int)message.size, (const char *)message.data);

  int status = slc_subscriber_open(client, CHANNEL, &options, &another);
  printf("a second subscriber: %s\n", slc_status_name(status));
  status = slc_channel_remove(client, CHANNEL, 0);
  printf("removed while there is one: %s\n", slc_status_name(status));
  slc_subscriber_close(subscriber);
  status = slc_channel_remove(client, CHANNEL, 0);
  printf("removed: %s\n", slc_status_name(status));
  slc_client_close(client);
  return 0;
}

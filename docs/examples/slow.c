/* A channel that disconnects who is too slow for it; the subscriber opens another and goes on.
 * Build: cc slow.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdio.h>

#define CHANNEL "demo/slow"

/* Takes until there is an end to it. */
static int take_all(slc_subscriber *subscriber) {
  for (;;) {
    slc_message message;
    int status = slc_subscriber_take(subscriber, &message);
    if (status == SLC_OK) status = slc_subscriber_release(subscriber, &message);
    else if (status == SLC_EMPTY) status = slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER);
    if (status != SLC_OK) return status;
  }
}

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_message message;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 16;
  options.slow_policy = SLC_SLOW_DISCONNECT;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, CHANNEL, &options, &publisher) != SLC_OK) return 1;
  if (slc_subscriber_open(client, CHANNEL, NULL, &subscriber) != SLC_OK) return 1;
  for (int i = 0; i < 1000; i++) { /* far more than are retained */
    if (slc_publisher_send(publisher, &i, sizeof i, NULL) != SLC_OK) return 1;
  }
  int status = take_all(subscriber);
  printf("%s: %s\n", slc_status_name(status), slc_status_text(status));

  slc_subscriber_close(subscriber);
  if (slc_subscriber_open(client, CHANNEL, NULL, &subscriber) != SLC_OK) return 1;
  if (slc_publisher_send(publisher, "once more", 9, NULL) != SLC_OK) return 1;
  if (slc_subscriber_take(subscriber, &message) != SLC_OK) return 1;
  printf("%.*s\n", (int)message.size, (const char *)message.data);
  slc_client_close(client);
  return 0;
}

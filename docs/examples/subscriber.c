/* Prints what comes.  Build: cc subscriber.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdio.h>

int main(void) {
  slc_client *client;
  slc_subscriber *subscriber;
  slc_message message;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_subscriber_open(client, "demo/greeting", NULL, &subscriber) != SLC_OK) return 1;
  while (slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER) == SLC_OK) {
    if (slc_subscriber_take(subscriber, &message) != SLC_OK) continue;
    printf("%llu: %.*s\n", (unsigned long long)message.ordinal, (int)message.size, (const char *)message.data);
    slc_subscriber_release(subscriber, &message);
  }
  slc_client_close(client);
  return 0;
}

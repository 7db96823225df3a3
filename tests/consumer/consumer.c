/* An outside program: one message to itself, through whatever broker $SLOTCAST_SOCKET names. */
#include <stdio.h>
#include <string.h>

#include <slotcast/slotcast.h>

#define TRY(call)                                                                                                      \
  do {                                                                                                                 \
    if ((call) < 0) {                                                                                                  \
      fprintf(stderr, "%s: %s\n", #call, slc_error_detail());                                                          \
      return 1;                                                                                                        \
    }                                                                                                                  \
  } while (0)

int main(void) {
  static const char text[] = "hello from an outside program";
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_message message;

  if (strcmp(slc_version(), SLC_VERSION_STRING) != 0) return 1;
  TRY(slc_client_open(NULL, &client));
  TRY(slc_publisher_open(client, "greetings", NULL, &publisher));
  TRY(slc_subscriber_open(client, "greetings", NULL, &subscriber));
  TRY(slc_publisher_send(publisher, text, sizeof(text), NULL));
  TRY(slc_subscriber_take(subscriber, &message));
  puts((const char *)message.data);
  TRY(slc_subscriber_release(subscriber, &message));
  slc_subscriber_close(subscriber);
  slc_publisher_close(publisher);
  slc_client_close(client);
  return 0;
}

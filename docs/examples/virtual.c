/* Virtual channels: many names in one physical channel, for those who want one of them and for those who want all.
 * Build: cc virtual.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdio.h>

#define MULTIPLEXER "demo/sensors"

static slc_publisher *sensor(slc_client *client, const char *name) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_publisher *publisher = NULL;
  options.multiplexer = MULTIPLEXER;
  slc_publisher_open(client, name, &options, &publisher);
  return publisher;
}

static void print_messages(const char *who, slc_subscriber *subscriber) {
  slc_message message;
  while (slc_subscriber_take(subscriber, &message) == SLC_OK) {
    printf("%s: %.*s, number %llu of virtual channel %u\n", who, (int)message.size, (const char *)message.data,
           (unsigned long long)message.virtual_ordinal, message.virtual_id);
    slc_subscriber_release(subscriber, &message);
  }
}

/* The ids have names. */
static void print_names(slc_client *client) {
  slc_channel_info *info;
  if (slc_channel_inspect(client, MULTIPLEXER, &info) != SLC_OK) return;
  for (uint32_t i = 0; i < info->virtual_count; i++)
    printf("virtual channel %u is %s\n", info->virtuals[i].id, info->virtuals[i].name);
  slc_channel_info_free(info);
}

int main(void) {
  slc_client *client;
  slc_subscriber *all, *one;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.multiplexer = MULTIPLEXER;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_subscriber_open(client, MULTIPLEXER, NULL, &all) != SLC_OK) return 1;
  if (slc_subscriber_open(client, "pressure", &options, &one) != SLC_OK) return 1;
  slc_publisher *temperature = sensor(client, "temperature"), *pressure = sensor(client, "pressure");
  if (temperature == NULL || pressure == NULL) return 1;
  slc_publisher_send(temperature, "20.5 C", 6, NULL);
  slc_publisher_send(temperature, "20.6 C", 6, NULL);
  slc_publisher_send(pressure, "1013 hPa", 8, NULL);
  print_messages("all", all);
  print_messages("one", one);
  print_names(client);
  slc_client_close(client);
  return 0;
}

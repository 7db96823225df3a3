/* A message that is larger than the channel's slots makes the channel grow, unless the publisher vetoes it.
 * Build: cc growth.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Up to a mebibyte, and not a byte more. */
static int approve(void *ctx, uint64_t wanted, uint64_t *slot_size) {
  (void)ctx;
  (void)slot_size; /* what the new slots would have is fine */
  return wanted > 1 << 20;
}

static int send(slc_publisher *publisher, size_t size) {
  slc_loan loan;
  int status = slc_publisher_loan(publisher, size, &loan);
  if (status != SLC_OK) return status;
  memset(loan.data, 'x', size);
  return slc_publisher_publish(publisher, &loan, size, NULL);
}

static void print_shape(slc_client *client) {
  slc_channel_info *info;
  if (slc_channel_inspect(client, "demo/growth", &info) != SLC_OK) return;
  printf("slots of %llu bytes, grown to %llu in generation %u\n", (unsigned long long)info->slot_size,
         (unsigned long long)info->largest, info->generation);
  slc_channel_info_free(info);
}

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slot_size = 1000;
  options.on_growth = approve;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, "demo/growth", &options, &publisher) != SLC_OK) return 1;
  if (slc_subscriber_open(client, "demo/growth", NULL, &subscriber) != SLC_OK) return 1;
  size_t sizes[] = {1000, 1500, 100000, 2000000};
  for (size_t i = 0; i < 4; i++) {
    int status = send(publisher, sizes[i]);
    slc_message message;
    if (status != SLC_OK) {
      printf("%zu bytes: refused\n", sizes[i]);
    } else if (slc_subscriber_take(subscriber, &message) == SLC_OK) {
      printf("%zu bytes: taken\n", message.size);
      slc_subscriber_release(subscriber, &message);
    }
  }
  print_shape(client);
  slc_client_close(client);
  return 0;
}

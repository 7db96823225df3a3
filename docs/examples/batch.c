/* A slow reader takes all that has come meanwhile at once, and is told exactly what it has missed.
 * Build: cc batch.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdint.h>
#include <stdio.h>

enum { BATCH = 16 };

static void on_drop(void *ctx, uint32_t virtual_id, uint64_t first, uint64_t count) {
  uint64_t *lost = ctx;
  (void)virtual_id, (void)first;
  *lost += count;
}

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  uint64_t lost = 0, received = 0;
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.slots = 64;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.max_holds = BATCH;
  options.on_drop = on_drop;
  options.callback_ctx = &lost;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, "demo/ticks", &shape, &publisher) != SLC_OK) return 1;
  if (slc_subscriber_open(client, "demo/ticks", &options, &subscriber) != SLC_OK) return 1;

  for (uint64_t tick = 1; tick <= 1000; tick++) {
    if (slc_publisher_send(publisher, &tick, sizeof tick, NULL) != SLC_OK) return 1;
    if (tick % 30 != 0 && tick < 600) continue; /* for a while it looks now and then; then not until the end */
    if (tick > 600 && tick < 1000) continue;
    slc_message messages[BATCH];
    size_t count;
    while (slc_subscriber_take_many(subscriber, messages, BATCH, &count) == SLC_OK) {
      received += count;
      for (size_t i = 0; i < count; i++) slc_subscriber_release(subscriber, &messages[i]);
    }
  }
  printf("received and lost are all: %s\n", received + lost == 1000 ? "yes" : "no");
  printf("some were lost: %s\n", lost > 300 ? "yes" : "no");
  slc_client_close(client);
  return 0;
}

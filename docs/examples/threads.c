/* One client, a handle for each thread, no lock: four publish and one receives.
 * Build: cc threads.c $(pkg-config --cflags --libs slotcast) */
#include <pthread.h>
#include <slotcast/slotcast.h>
#include <stdint.h>
#include <stdio.h>

#define CHANNEL "demo/threads"
#define THREADS 4
#define EACH 10000

static void *publish(void *client) {
  slc_publisher *publisher;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 256;
  options.reliable = 1;
  if (slc_publisher_open(client, CHANNEL, &options, &publisher) != SLC_OK) return NULL;
  for (uint64_t number = 1; number <= EACH;) {
    int status = slc_publisher_send(publisher, &number, sizeof number, NULL);
    if (status == SLC_OK) number++;
    if (status == SLC_WOULD_BLOCK) slc_publisher_wait(publisher, SLC_WAIT_FOREVER);
  }
  slc_publisher_close(publisher);
  return client;
}

int main(void) {
  slc_client *client;
  slc_subscriber *subscriber;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  pthread_t threads[THREADS];
  uint64_t sum = 0;
  options.reliable = 1;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_subscriber_open(client, CHANNEL, &options, &subscriber) != SLC_OK) return 1;
  for (int i = 0; i < THREADS; i++) {
    if (pthread_create(&threads[i], NULL, publish, client) != 0) return 1;
  }
  for (int received = 0; received < THREADS * EACH;) {
    slc_message message;
    int status = slc_subscriber_take(subscriber, &message);
    if (status == SLC_EMPTY) status = slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER);
    else if (status == SLC_OK) {
      sum += *(const uint64_t *)message.data;
      received++;
      slc_subscriber_release(subscriber, &message);
    }
    if (status != SLC_OK) return 1;
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  printf("%d messages, sum %llu\n", THREADS * EACH, (unsigned long long)sum);
  slc_client_close(client);
  return 0;
}

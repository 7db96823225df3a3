/* A reliable channel: the publisher waits for its subscriber, which loses nothing, in another process.
 * Build: cc reliable.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNEL "demo/reliable"
#define MESSAGES 100000

/* The next number, waiting for it; 0 when something is wrong. */
static uint64_t receive(slc_subscriber *subscriber) {
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY) {
    if (slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER) != SLC_OK) return 0;
  }
  if (status != SLC_OK) return 0;
  uint64_t number = *(const uint64_t *)message.data;
  slc_subscriber_release(subscriber, &message);
  return number;
}

static int subscribe(void) {
  slc_client *client;
  slc_subscriber *subscriber;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.reliable = 1;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_subscriber_open(client, CHANNEL, &options, &subscriber) != SLC_OK) return 1;
  for (uint64_t expected = 1; expected <= MESSAGES; expected++) {
    if (receive(subscriber) != expected) return 1;
  }
  slc_client_close(client);
  return 0;
}

/* `needs_subscriber`: nothing is sent before somebody listens. */
static int publish(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 64;
  options.reliable = 1;
  options.needs_subscriber = 1;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, CHANNEL, &options, &publisher) != SLC_OK) return 1;
  for (uint64_t number = 1; number <= MESSAGES;) {
    int status = slc_publisher_send(publisher, &number, sizeof number, NULL);
    if (status == SLC_OK) number++;
    if (status == SLC_WOULD_BLOCK) status = slc_publisher_wait(publisher, SLC_WAIT_FOREVER);
    if (status != SLC_OK) return 1;
  }
  slc_client_close(client);
  return 0;
}

int main(void) {
  pid_t child = fork(); /* before anything is opened */
  if (child == 0) return subscribe();
  int status = publish(), ended;
  if (status != 0 || waitpid(child, &ended, 0) != child || ended != 0) return 1;
  printf("%d sent, %d received in order\n", MESSAGES, MESSAGES);
  return 0;
}

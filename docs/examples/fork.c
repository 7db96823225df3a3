/* A handle used in a forked child is refused, and the parent is not disturbed; the child opens its own.
 * Build: cc fork.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNEL "demo/fork"

static int in_child(slc_client *client, slc_publisher *publisher) {
  int refused = slc_publisher_send(publisher, "no", 2, NULL);
  slc_publisher_close(publisher); /* frees its memory and says nothing to the broker */
  slc_client_close(client);
  printf("the parent's publisher in the child: %s\n", slc_status_name(refused));
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, CHANNEL, NULL, &publisher) != SLC_OK) return 1;
  if (slc_publisher_send(publisher, "from the child", 14, NULL) != SLC_OK) return 1;
  slc_client_close(client);
  fflush(stdout);
  return 0;
}

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_message message;
  int ended;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, CHANNEL, NULL, &publisher) != SLC_OK) return 1;
  if (slc_subscriber_open(client, CHANNEL, NULL, &subscriber) != SLC_OK) return 1;
  pid_t child = fork();
  if (child == 0) _exit(in_child(client, publisher));
  if (waitpid(child, &ended, 0) != child || ended != 0) return 1;
  if (slc_publisher_send(publisher, "from the parent", 15, NULL) != SLC_OK) return 1;
  while (slc_subscriber_take(subscriber, &message) == SLC_OK) {
    printf("%.*s\n", (int)message.size, (const char *)message.data);
    slc_subscriber_release(subscriber, &message);
  }
  slc_client_close(client);
  return 0;
}

/* Who comes and goes on a channel, and who dies there: a watcher that reads the broker's own channel of events.
 * Build: cc events.c $(pkg-config --cflags --libs slotcast) */
#include <signal.h>
#include <slotcast/slotcast.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNEL "demo/watched"

/* Waits for the next event of our channel. */
static int next_event(slc_subscriber *events, slc_event *ret_event) {
  slc_message message;
  for (;;) {
    int status = slc_subscriber_take(events, &message);
    if (status == SLC_EMPTY) {
      status = slc_subscriber_wait(events, SLC_WAIT_FOREVER);
      if (status == SLC_OK) continue;
    }
    if (status != SLC_OK) return status;
    ret_event->size = sizeof *ret_event;
    status = slc_event_read(&message, ret_event);
    slc_subscriber_release(events, &message);
    if (status != SLC_OK || strcmp(ret_event->channel, CHANNEL) == 0) return status;
  }
}

/* Another process, which publishes until it is killed. */
static pid_t publisher_start(void) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  slc_client *client;
  slc_publisher *publisher;
  if (slc_client_open(NULL, &client) != SLC_OK) _exit(1);
  if (slc_publisher_open(client, CHANNEL, NULL, &publisher) != SLC_OK) _exit(1);
  for (;;) pause();
}

int main(void) {
  slc_client *client;
  slc_subscriber *events;
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.type = SLC_EVENTS_TYPE;
  options.start = SLC_START_OLDEST; /* also what happened before */
  pid_t pid = publisher_start();
  if (pid < 0 || slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_subscriber_open(client, SLC_EVENTS_CHANNEL, &options, &events) != SLC_OK) return 1;
  for (;;) {
    slc_event event;
    int status = next_event(events, &event);
    if (status != SLC_OK) {
      fprintf(stderr, "%s\n", slc_error_detail());
      return 1;
    }
    printf("%s %s\n", slc_event_name(event.kind), event.channel);
    if (event.kind == SLC_EVENT_PUBLISHER_JOINED) kill(pid, SIGKILL);
    if (event.kind == SLC_EVENT_PUBLISHER_DIED && event.pid == pid) printf("that was our child\n");
    if (event.kind == SLC_EVENT_CHANNEL_REMOVED) break;
  }
  waitpid(pid, NULL, 0);
  slc_client_close(client);
  return 0;
}

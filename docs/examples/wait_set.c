/* Waits for two subscribers and the end of a timer at once.
 * Build: cc wait_set.c $(pkg-config --cflags --libs slotcast) */
#include <poll.h>
#include <slotcast/slotcast.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int publish(slc_client *client, const char *channel, const char *text) {
  slc_publisher *publisher;
  int status = slc_publisher_open(client, channel, NULL, &publisher);
  if (status == SLC_OK) status = slc_publisher_send(publisher, text, strlen(text), NULL);
  return status;
}

/* What is ready is reported until it has been taken: one message each time is enough. */
static void take_one(slc_subscriber *subscriber, const char *name) {
  slc_message message;
  if (slc_subscriber_take(subscriber, &message) != SLC_OK) return; /* a publisher has come or gone */
  printf("%s: %.*s\n", name, (int)message.size, (const char *)message.data);
  slc_subscriber_release(subscriber, &message);
}

static char news_name[] = "news", weather_name[] = "weather", timer_name[] = "timer";

int main(void) {
  slc_client *client;
  slc_waitset *set;
  slc_subscriber *news, *weather;
  if (slc_client_open(NULL, &client) != SLC_OK || slc_waitset_new(&set) != SLC_OK) return 1;
  if (slc_subscriber_open(client, "demo/news", NULL, &news) != SLC_OK) return 1;
  if (slc_subscriber_open(client, "demo/weather", NULL, &weather) != SLC_OK) return 1;
  if (slc_waitset_add_subscriber(set, news, news_name) != SLC_OK) return 1;
  if (slc_waitset_add_subscriber(set, weather, weather_name) != SLC_OK) return 1;
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  const struct itimerspec soon = {.it_value.tv_nsec = 50000000};
  if (timerfd_settime(timer, 0, &soon, NULL) != 0 || slc_waitset_add_fd(set, timer, POLLIN, timer_name) != SLC_OK)
    return 1;

  if (publish(client, "demo/weather", "rain") != SLC_OK) return 1;
  for (int is_over = 0; !is_over;) {
    slc_waitset_event events[4];
    size_t count;
    if (slc_waitset_wait(set, SLC_WAIT_FOREVER, events, 4, &count) != SLC_OK) return 1;
    for (size_t i = 0; i < count; i++) {
      if (events[i].subscriber != NULL) {
        take_one(events[i].subscriber, events[i].user_data);
      } else {
        printf("%s\n", (const char *)events[i].user_data);
        is_over = 1;
      }
    }
  }
  slc_waitset_event event;
  size_t count;
  slc_waitset_remove_fd(set, timer);
  printf("%s\n", slc_status_name(slc_waitset_wait(set, 1000, &event, 1, &count))); /* a microsecond */
  slc_waitset_free(set);
  close(timer);
  slc_client_close(client);
  return 0;
}

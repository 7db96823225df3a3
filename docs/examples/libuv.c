/* A subscriber in a libuv loop, beside a timer of the loop's.
 * Build: cc libuv.c $(pkg-config --cflags --libs slotcast libuv) */
#include <slotcast/slotcast.h>
#include <stdio.h>
#include <uv.h>

enum { MESSAGES = 3 };

struct receiver {
  slc_subscriber *subscriber;
  uv_timer_t *timer;
};

static void publish(uv_timer_t *timer) {
  static int number = 0;
  char text[32];
  int length = snprintf(text, sizeof text, "tick %d", ++number);
  if (slc_publisher_send(timer->data, text, (size_t)length, NULL) != SLC_OK) uv_stop(timer->loop);
}

/* The loop asks again as long as there is something; so it matters little how many are taken at once. */
static void receive(uv_poll_t *poll, int status, int events) {
  struct receiver *receiver = poll->data;
  slc_message message;
  (void)events;
  if (status != 0) uv_stop(poll->loop);
  while (slc_subscriber_take(receiver->subscriber, &message) == SLC_OK) {
    printf("%.*s\n", (int)message.size, (const char *)message.data);
    int is_last = message.ordinal == MESSAGES;
    slc_subscriber_release(receiver->subscriber, &message);
    if (!is_last) continue;
    uv_close((uv_handle_t *)poll, NULL); /* the descriptor itself is the subscriber's */
    uv_close((uv_handle_t *)receiver->timer, NULL);
    return;
  }
}

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  struct receiver receiver;
  int fd;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, "demo/ticks", NULL, &publisher) != SLC_OK) return 1;
  if (slc_subscriber_open(client, "demo/ticks", NULL, &receiver.subscriber) != SLC_OK) return 1;
  if (slc_subscriber_fd(receiver.subscriber, &fd) != SLC_OK) return 1;

  uv_loop_t loop;
  uv_timer_t timer = {.data = publisher};
  uv_poll_t poll = {.data = &receiver};
  receiver.timer = &timer;
  if (uv_loop_init(&loop) != 0 || uv_timer_init(&loop, &timer) != 0 || uv_poll_init(&loop, &poll, fd) != 0) return 1;
  uv_timer_start(&timer, publish, 0, 10); /* every 10 ms */
  uv_poll_start(&poll, UV_READABLE, receive);
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  slc_client_close(client);
  return 0;
}

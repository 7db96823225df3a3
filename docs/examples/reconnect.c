/* The broker is killed and another one started: the client finds it, and what was open goes on.
 * Build: cc reconnect.c $(pkg-config --cflags --libs slotcast); slotcastd must be in $PATH */
#include <slotcast/slotcast.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t broker_start(const char *socket) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  if (freopen("/dev/null", "w", stderr) != NULL) execlp("slotcastd", "slotcastd", "--socket", socket, (char *)NULL);
  _exit(127);
}

/* The first time there is nothing to come back to: it may still be starting. */
static int client_open(const slc_client_options *options, slc_client **ret_client) {
  int status;
  while ((status = slc_client_open(options, ret_client)) == SLC_NO_BROKER) poll(NULL, 0, 1);
  return status;
}

static void tell(void *ctx, int event) {
  (void)ctx;
  printf("%s\n", event == SLC_CONNECTION_LOST   ? "the broker has gone"
                 : event == SLC_CONNECTION_BACK ? "it is back, and everything is as it was"
                                                : "it is back, knew nothing, and all has been opened anew");
}

static int send_and_take(slc_publisher *publisher, slc_subscriber *subscriber, const char *text) {
  slc_message message;
  int status = slc_publisher_send(publisher, text, strlen(text), NULL);
  if (status == SLC_OK) status = slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER);
  if (status == SLC_OK) status = slc_subscriber_take(subscriber, &message);
  if (status != SLC_OK) return status;
  printf("message %llu: %.*s\n", (unsigned long long)message.ordinal, (int)message.size, (const char *)message.data);
  return slc_subscriber_release(subscriber, &message);
}

/* As an event loop does.  Calls that wait, or ask the broker, would do it by themselves. */
static int await_broker(slc_client *client) {
  struct pollfd polled = {.events = POLLIN};
  int status = slc_client_fd(client, &polled.fd);
  while (status == SLC_OK && (status = slc_client_dispatch(client)) == SLC_BROKER_GONE)
    status = poll(&polled, 1, -1) < 0 ? SLC_SYSTEM : SLC_OK;
  return status;
}

int main(void) {
  char directory[] = "/tmp/reconnect-XXXXXX", socket[64];
  if (mkdtemp(directory) == NULL) return 1;
  snprintf(socket, sizeof socket, "%s/broker.sock", directory);
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.socket = socket;
  options.on_connection = tell;

  pid_t broker = broker_start(socket);
  int status = client_open(&options, &client);
  if (status == SLC_OK) status = slc_publisher_open(client, "demo/words", NULL, &publisher);
  if (status == SLC_OK) status = slc_subscriber_open(client, "demo/words", NULL, &subscriber);
  if (status == SLC_OK) status = send_and_take(publisher, subscriber, "with a broker");

  kill(broker, SIGKILL);
  waitpid(broker, NULL, 0);
  if (status == SLC_OK) status = slc_client_dispatch(client) == SLC_BROKER_GONE ? SLC_OK : SLC_SYSTEM;
  if (status == SLC_OK) status = send_and_take(publisher, subscriber, "without one");

  broker = broker_start(socket);
  if (status == SLC_OK) status = await_broker(client);
  if (status == SLC_OK) status = send_and_take(publisher, subscriber, "with the next one");
  slc_client_close(client);

  kill(broker, SIGTERM);
  waitpid(broker, NULL, 0);
  rmdir(directory);
  if (status != SLC_OK) fprintf(stderr, "%s\n", slc_error_detail());
  return status != SLC_OK;
}

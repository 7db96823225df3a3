/* Checksums and metadata: each message has 16 bytes beside its payload, and a CRC-32C over both.
 * Build: cc checksum.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdio.h>
#include <string.h>

static int check(const char *what, int status) {
  if (status < 0) fprintf(stderr, "%s: %s\n", what, slc_error_detail());
  return status;
}

/* Before each message becomes one: here the line end goes. */
static int trim(void *ctx, void *payload, size_t *size) {
  (void)ctx;
  if (*size > 1 && ((const char *)payload)[*size - 1] == '\n') --*size;
  return 0;
}

static int publish(slc_publisher *publisher, const char *text, const char *origin, slc_loan *loan) {
  int status = check("loan", slc_publisher_loan(publisher, strlen(text), loan));
  if (status != 0) return status;
  memcpy(loan->data, text, strlen(text));
  strncpy(loan->metadata, origin, 16);
  return check("publish", slc_publisher_publish(publisher, loan, strlen(text), NULL));
}

static void take(slc_subscriber *subscriber) {
  slc_message message;
  int status = slc_subscriber_take(subscriber, &message);
  if (status != 0) {
    printf("%s\n", slc_status_name(status));
    return;
  }
  printf("%.*s (from %.16s)\n", (int)message.size, (const char *)message.data, (const char *)message.metadata);
  slc_subscriber_release(subscriber, &message);
}

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_loan loan;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.checksum = SLC_CHECKSUM_CRC32C;
  options.metadata_size = 16;
  options.before_send = trim;
  if (check("client", slc_client_open(NULL, &client)) != 0) return 1;
  if (check("publisher", slc_publisher_open(client, "demo/checksum", &options, &publisher)) != 0) return 1;
  if (check("subscriber", slc_subscriber_open(client, "demo/checksum", NULL, &subscriber)) != 0) return 1;

  if (publish(publisher, "as it was sent\n", "sensor 1", &loan) != 0) return 1;
  take(subscriber);
  if (publish(publisher, "written to after it was published\n", "sensor 2", &loan) != 0) return 1;
  *(char *)loan.data = '?'; /* what no publisher may do: the checksum finds it */
  take(subscriber);
  take(subscriber); /* that one was skipped, and counts as dropped */

  slc_subscriber_stats stats = {.size = sizeof stats};
  check("statistics", slc_subscriber_stats_get(subscriber, &stats));
  printf("%d received, %d dropped\n", (int)stats.received, (int)stats.dropped);
  slc_client_close(client);
  return 0;
}

/* A publisher that wants its buffers back: it is told which messages nobody can read any more, and writes the next one
 * into the very slot of one of them.  Build: cc retirement.c $(pkg-config --cflags --libs slotcast) */
#include <poll.h>
#include <slotcast/slotcast.h>
#include <stdio.h>

/* Waits on the descriptor, as an event loop would. */
static int await_retired(slc_publisher *publisher, slc_retired *retired) {
  struct pollfd readiness = {.events = POLLIN};
  size_t count;
  int status = slc_publisher_fd(publisher, &readiness.fd);
  while (status == SLC_OK) {
    status = slc_publisher_retired(publisher, retired, 1, &count);
    if (status != SLC_EMPTY) return status;
    status = poll(&readiness, 1, -1) < 0 ? SLC_SYSTEM : SLC_OK;
  }
  return status;
}

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_loan loan;
  slc_message held;
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.retirement = 1;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, "demo/retirement", &options, &publisher) != SLC_OK) return 1;
  if (slc_subscriber_open(client, "demo/retirement", NULL, &subscriber) != SLC_OK) return 1;

  slc_retired retired;
  size_t count;
  for (int i = 1; i <= 3; i++) slc_publisher_send(publisher, "picture", 8, NULL);
  if (slc_subscriber_take_newest(subscriber, &held) != SLC_OK) return 1; /* 3; it skips the others */
  while (slc_publisher_retired(publisher, &retired, 1, &count) == SLC_OK)
    printf("message %llu is retired\n", (unsigned long long)retired.ordinal);
  printf("message %llu is held\n", (unsigned long long)held.ordinal);

  slc_subscriber_close(subscriber); /* leaves with what it holds; being killed would do as well */
  if (await_retired(publisher, &retired) != SLC_OK) return 1;
  printf("message %llu is retired\n", (unsigned long long)retired.ordinal);

  if (slc_publisher_loan_slot(publisher, &retired, 8, &loan) != SLC_OK) return 1;
  printf("its slot again: %s, with what was there: %s\n", loan.slot == retired.slot ? "yes" : "no",
         (const char *)loan.data);
  slc_publisher_publish(publisher, &loan, 8, NULL);
  if (slc_publisher_loan_slot(publisher, &retired, 8, &loan) == SLC_STALE) printf("and not twice\n");
  slc_client_close(client);
  return 0;
}

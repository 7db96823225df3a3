/* Sends one message.  Build: cc publisher.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_loan loan;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, "demo/greeting", NULL, &publisher) != SLC_OK) return 1;
  if (slc_publisher_loan(publisher, 64, &loan) != SLC_OK) return 1;
  int length = snprintf(loan.data, loan.capacity, "hello from %d", (int)getpid());
  slc_publisher_publish(publisher, &loan, (size_t)length, NULL);
  slc_client_close(client);
  return 0;
}

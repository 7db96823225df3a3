/* Payloads in memory of the application's own: one pool, of which each slot of the channel gets a piece.  A subscriber
 * needs to know nothing of it; one that does finds the pool's own number for what it has taken.
 * Build: cc -D_GNU_SOURCE split.c $(pkg-config --cflags --libs slotcast) */
#include <slotcast/slotcast.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct pool {
  int fd;
  uint64_t size, used;
};

/* The piece's number is its handle. */
static int pool_allocate(void *ctx, uint32_t generation, uint32_t slot, uint64_t size, slc_payload *ret_payload) {
  struct pool *pool = ctx;
  (void)generation;
  (void)slot;
  if (size > pool->size - pool->used) return -1;
  *ret_payload = (slc_payload){.fd = pool->fd, .offset = pool->used, .handle = 5000 + pool->used / size};
  pool->used += size;
  return 0;
}

/* A pool that frees nothing but all at once needs to know only what it may use again. */
static void pool_free(void *ctx, const slc_payload *payload, int is_kept) {
  (void)ctx;
  if (!is_kept) printf("piece %llu is not used\n", (unsigned long long)payload->handle);
}

int main(void) {
  slc_client *client;
  slc_publisher *publisher;
  slc_subscriber *subscriber;
  slc_message message;
  slc_payload_info info;
  struct pool pool = {.fd = memfd_create("pool", MFD_CLOEXEC), .size = 16 * 4096};
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = 16;
  options.slot_size = 4096;
  options.allocate_payload = pool_allocate;
  options.free_payload = pool_free;
  options.callback_ctx = &pool;
  if (pool.fd < 0 || ftruncate(pool.fd, (off_t)pool.size) != 0) return 1;
  if (slc_client_open(NULL, &client) != SLC_OK) return 1;
  if (slc_publisher_open(client, "demo/split", &options, &publisher) != SLC_OK) return 1;
  close(pool.fd); /* the channel has its own descriptor */
  if (slc_subscriber_open(client, "demo/split", NULL, &subscriber) != SLC_OK) return 1;
  for (int i = 0; i < 3; i++) {
    if (slc_publisher_send(publisher, "from the pool", 14, NULL) != SLC_OK) return 1;
    if (slc_subscriber_take(subscriber, &message) != SLC_OK) return 1;
    if (slc_subscriber_payload(subscriber, message.data, &info) != SLC_OK) return 1;
    printf("\"%s\" in slot %u is %s\n", (const char *)message.data, message.slot,
           info.handle == 5000 + message.slot ? "the piece of that number" : "another piece");
    slc_subscriber_release(subscriber, &message);
  }
  /* Larger messages would need more than the pool has: the channel stays as it is. */
  slc_loan loan;
  if (slc_publisher_loan(publisher, 10000, &loan) == SLC_REFUSED) printf("no memory for 10000 bytes\n");
  slc_client_close(client);
  return 0;
}

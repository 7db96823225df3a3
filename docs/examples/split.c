/* Payloads in memory of the application's own: one pool, of which each slot of the channel gets a piece.  The pool is a
 * DMA-BUF (by /dev/udmabuf), as a device would have it; where there are none, it is in huge pages, and else in small
 * ones.  A subscriber needs to know nothing of it; one that does finds the pool's own number for what it has taken.
 * Build: cc -D_GNU_SOURCE split.c $(pkg-config --cflags --libs slotcast) */
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <slotcast/slotcast.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct pool {
  const char *kind;
  int fd;
  uint64_t size, used;
};

/* A DMA-BUF of small pages; -1 where the kernel has no udmabuf. */
static int open_dma_buf(uint64_t size) {
  int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
  int memory = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING), fd = -1;
  if (device >= 0 && ftruncate(memory, (off_t)size) == 0 && fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0) {
    struct udmabuf_create wish = {.memfd = (unsigned)memory, .flags = UDMABUF_FLAGS_CLOEXEC, .size = size};
    fd = ioctl(device, UDMABUF_CREATE, &wish);
  }
  close(memory);
  if (device >= 0) close(device);
  return fd;
}

/* -1 where the machine has no huge pages left: that shows when they are mapped. */
static int open_huge(uint64_t size) {
  struct stat info;
  int fd = memfd_create("pool", MFD_CLOEXEC | MFD_HUGETLB);
  if (fd >= 0 && fstat(fd, &info) == 0) {
    uint64_t page = (uint64_t)info.st_blksize, whole = (size + page - 1) / page * page;
    void *trial = ftruncate(fd, (off_t)whole) == 0 ? mmap(NULL, whole, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (trial != MAP_FAILED) {
      munmap(trial, whole);
      return fd;
    }
  }
  if (fd >= 0) close(fd);
  return -1;
}

static int open_small(uint64_t size) {
  int fd = memfd_create("pool", MFD_CLOEXEC);
  return fd >= 0 && ftruncate(fd, (off_t)size) == 0 ? fd : -1;
}

static int pool_open(struct pool *pool) {
  static const struct {
    const char *kind;
    int (*open)(uint64_t size);
  } kinds[] = {{"a DMA-BUF", open_dma_buf}, {"huge pages", open_huge}, {"small pages", open_small}};
  pool->fd = -1;
  for (int i = 0; i < 3 && pool->fd < 0; i++) {
    pool->fd = kinds[i].open(pool->size);
    pool->kind = kinds[i].kind;
  }
  return pool->fd < 0 ? -1 : 0;
}

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
  struct pool pool = {.size = 16 * 4096};
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = 16;
  options.slot_size = 4096;
  options.allocate_payload = pool_allocate;
  options.free_payload = pool_free;
  options.callback_ctx = &pool;
  if (pool_open(&pool) != 0) return 1;
  fprintf(stderr, "the pool is %s\n", pool.kind);
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

/* Where the payloads of one generation of a split channel lie, as far as this process has them mapped, and the pages
 * in which they are told and registered.
 *
 * Thread: that of the handle. */
#ifndef SLC__CLIENT_PAYLOADS_H
#define SLC__CLIENT_PAYLOADS_H

#include "connection.h"
#include "shm/payload.h"

/* How a publisher gets memory; without callbacks it is the library that makes objects of so many slots each. */
struct slc__allocator {
  uint32_t slots_per_object;
  slc_allocate_fn allocate;
  slc_map_fn map; /* NULL: mmap */
  slc_unmap_fn unmap;
  slc_free_fn release;
  void *ctx;
};

enum { SLC__PAYLOADS_PAGE = 2000 }; /* entries of one message */

struct slc__payload_entry {
  uint32_t slot;
  uint32_t descriptor; /* index */
  uint64_t offset, handle;
};

struct slc__payload_page {
  uint32_t generation;
  uint64_t slot_size;
  uint32_t next, registered, handled; /* as in Payloads */
  uint32_t slots_per_object;          /* not 0: the one descriptor is the directory where memory has its names */
  size_t count;
  struct slc__payload_entry entries[SLC__PAYLOADS_PAGE];
  struct slc__fds fds;
  bool is_borrowed; /* the descriptors are somebody else's to close */
  struct slc__payload_file files[SLC__NET_DESCRIPTORS_MAX];
};
/* Too large for a stack; to be freed.  NULL, with its sentence: no memory. */
struct slc__payload_page *slc__payload_page_new(void);
void slc__payload_page_free(struct slc__payload_page *page); /* takes NULL */
/* Takes the descriptors of a Payloads message, whose entries have to be possible for `slots`.  SLC_PROTOCOL and what
 * slc__payload_look says. */
int slc__payload_page_receive(struct slc__payload_page *page, struct slc__received *received, uint32_t slots,
                              enum slc__access access);

struct slc__payloads {
  uint32_t slots;
  uint32_t mapped; /* slots that have an address */
  uint64_t size;   /* of each */
  enum slc__access access;
  uint8_t **addresses; /* by slot; NULL: not yet */
  uint64_t *handles;   /* by slot */
  uint32_t *sorted;    /* slots by address; NULL: not all are mapped */
  struct slc__mapping *mappings;
  uint32_t mapping_count;
  struct slc__memory memory;              /* what the library allocates, and how it maps */
  const struct slc__allocator *allocator; /* of a publisher; else NULL */
};
struct slc__payloads *slc__payloads_new(uint32_t slots, uint64_t slot_size, struct slc__memory memory,
                                        enum slc__access access, const struct slc__allocator *allocator);
void slc__payloads_free(struct slc__payloads *payloads);   /* takes NULL */
void slc__payloads_forget(struct slc__payloads *payloads); /* the same without unmapping */
/* Maps the first `count` entries of a page, those that are not mapped yet: one mapping for each descriptor. */
int slc__payloads_map(struct slc__payloads *payloads, const struct slc__payload_page *page, size_t count);
uint32_t slc__payloads_missing(const struct slc__payloads *payloads, uint32_t from); /* the first; or `slots` */
/* All are mapped.  SLC_NO_MEMORY. */
int slc__payloads_sort(struct slc__payloads *payloads);
/* The slot whose payload `address` lies in; `slots`: none. */
uint32_t slc__payloads_find(const struct slc__payloads *payloads, const void *address);

#endif

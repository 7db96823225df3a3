/* What a split channel's generation is made of: for split.c, and for the record of it (split_record.c). */
#ifndef SLC__BROKER_SPLIT_H
#define SLC__BROKER_SPLIT_H

#include "broker/broker.h"

struct payload {
  uint32_t file; /* 1 + index; 0: no memory yet */
  uint64_t offset, handle;
};

struct memory_file {
  int fd;
  uint64_t size;
  dev_t device; /* with `inode`: which file it is */
  ino_t inode;
  uid_t uid;     /* of the process that registered it */
  uint64_t user; /* that did: what it says again, it has registered already */
  bool is_sealed;
  bool is_external;
};

struct split {
  struct broker *broker;
  struct payload *slots;
  uint32_t registered;
  struct memory_file *files;
  uint32_t file_count;
  struct names names;
};

/* ---- split_record.c ---- */

enum { SPLIT_PAGE_PAYLOADS = 1500 }; /* 36 bytes each at most */
/* A part of a generation, as its record has it. */
struct split_page {
  int fds[SLC__STORE_DESCRIPTORS_MAX];
  Slotcast__FileRecord files[SLC__STORE_DESCRIPTORS_MAX];
  Slotcast__FileRecord *file_list[SLC__STORE_DESCRIPTORS_MAX];
  size_t file_count;
  Slotcast__PayloadRecord payloads[SPLIT_PAGE_PAYLOADS];
  Slotcast__PayloadRecord *payload_list[SPLIT_PAGE_PAYLOADS];
  size_t payload_count;
};
/* The page from slot `first` on; where the next one begins, 0: there is none. */
uint32_t split_page(const struct channel *channel, const struct generation *generation, uint32_t first,
                    struct split_page *ret_page);
/* Adds a page to a generation that is being recovered, pages in order; takes the descriptors that it needs.
 * SLC_PROTOCOL: it can't be. */
int split_restore(struct channel *channel, struct generation *generation, const Slotcast__GenerationRecord *page,
                  struct slc__store_record *stored);

#endif

/* Memory of split channels: objects of payloads only, without a header.  Made by whoever registers them at the broker,
 * or somebody else's altogether (another pool, huge pages, a DMA-BUF).
 *
 * Thread: any; a descriptor belongs to one thread at a time. */
#ifndef SLC__SHM_PAYLOAD_H
#define SLC__SHM_PAYLOAD_H

#include <sys/types.h>

#include "shm/object.h"

enum { SLC__PAYLOAD_ALIGN = 64 }; /* of where a payload begins, in its object and in memory */

/* Makes an object of `size` bytes (rounded up to whole pages of its kind), zero everywhere.  memfd: sealed like any
 * other; its inode lets others read, so that the broker of another uid can make read-only descriptors of it.  shm:
 * allocated, and never with a name, so that nothing can be left behind.  The statuses of slc__object_create. */
int slc__payload_create(struct slc__memory memory, uint64_t size, int *ret_fd);

/* The object `number` of a directory (slc__object_directory), of `size` bytes (rounded up as above): opened, or where
 * it is not there and `may_create`, made.  A name always means a whole object: it gets its name last, and the first one
 * that does is everybody's.  SLC_GONE: the object, or the directory, is not there (any more).  SLC_INVALID: what has
 * the name is no such object, or another user's.  Else the statuses of slc__object_create. */
int slc__payload_open_named(struct slc__memory memory, uint64_t size, int directory, uint32_t number,
                            enum slc__access access, bool may_create, int *ret_fd);
/* Whether objects 0 to `count` - 1 are there, the last one of `last_size` bytes and the others of `size`.  SLC_INVALID.
 */
int slc__payload_check_named(int directory, uint32_t pages, uint32_t count, uint64_t size, uint64_t last_size);
uint64_t slc__payload_rounded(uint32_t pages, uint64_t size); /* what an object of so many bytes takes */

/* What a descriptor is, seen from outside. */
struct slc__payload_file {
  uint64_t size;
  uint64_t granule; /* of its mappings, bytes */
  uid_t uid;        /* its owner */
  dev_t device;     /* with `inode`: which file it is */
  ino_t inode;
  bool is_sealed;   /* nobody can make an access to it fail: for peers that need not trust each other */
  bool is_writable; /* by this descriptor */
};
/* SLC_INVALID: it can't hold payloads, because it is no memory (a file of tmpfs or hugetlbfs, or a DMA-BUF), can't be
 * read, or is sealed against writing.  SLC_SYSTEM. */
int slc__payload_look(int fd, struct slc__payload_file *ret);

/* Maps `length` bytes at `offset`, of any alignment, as `memory` says; the mapping is wider.  SLC_INVALID: beyond its
 * end.  SLC_NO_MEMORY (also where the process has too many mappings), SLC_DENIED, SLC_SYSTEM. */
int slc__payload_map(int fd, const struct slc__payload_file *file, uint64_t offset, uint64_t length,
                     struct slc__memory memory, enum slc__access access, struct slc__mapping *ret,
                     uint8_t **ret_address);

#endif

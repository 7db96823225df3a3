/* What the system has of memory pages: huge ones, transparent huge ones, and how many may be locked.  Asked when an
 * object is made or mapped, and when that fails, so that the sentence names what is to be set.
 *
 * Thread: any. */
#ifndef SLC__SHM_PAGES_H
#define SLC__SHM_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"

enum { SLC__MOUNT_MAX = 256 };

/* "2 MiB" for bytes; `text` has room for 32. */
const char *slc__pages_text(uint64_t bytes, char text[32]);

/* SLC_NO_MEMORY where the kernel would not use huge pages in an object of this backend if it was asked to. */
int slc__pages_check_transparent(enum slc__backend backend);
/* A directory of huge pages of this kind that we may write to.  SLC_NO_MEMORY: none is mounted. */
int slc__pages_mount(uint32_t pages, char ret_path[SLC__MOUNT_MAX]);
/* The failure to get `bytes` of huge pages, by errno: SLC_NO_MEMORY and what to set. */
int slc__pages_fail(uint32_t pages, uint64_t bytes);
/* Every directory of huge pages that is mounted. */
void slc__pages_for_each_mount(void (*visit)(const char *path, void *ctx), void *ctx);

/* Makes the memory of a mapping be there, as if every page had been written to (or read).  SLC_NO_MEMORY, SLC_SYSTEM;
 * never a signal. */
int slc__pages_prefault(void *base, uint64_t bytes, bool writable);
/* Keeps a mapping in memory until it is unmapped.  SLC_NO_MEMORY and what to set. */
int slc__pages_lock(void *base, uint64_t bytes);

#endif

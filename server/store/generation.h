/* The file with the generation of the set of those who keep records: an older set is not to be loaded.  Thread: any. */
#ifndef SLC__STORE_GENERATION_H
#define SLC__STORE_GENERATION_H

#include <stdint.h>

/* 0: *ret_generation, 0 where there is no file.  SLC_INVALID: no number is in it; SLC_DENIED, SLC_SYSTEM.. */
int slc__generation_read(const char *path, uint64_t *ret_generation);
/* Whole or not at all; a process that comes later reads the old one or this.  SLC_DENIED, SLC_SYSTEM.. */
int slc__generation_write(const char *path, uint64_t generation);

#endif

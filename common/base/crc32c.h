/* CRC-32C (Castagnoli): the same value on every processor, by its own instructions where it has them.  Thread: any. */
#ifndef SLC__BASE_CRC32C_H
#define SLC__BASE_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The checksum of `size` bytes that follow those of which `crc` is the checksum; 0 to begin with.  So it can be
 * computed piece by piece: crc32c(crc32c(0, a), b) is that of a and b in a row. */
uint32_t slc__crc32c(uint32_t crc, const void *data, size_t size);
/* The same without the processor's help. */
uint32_t slc__crc32c_portable(uint32_t crc, const void *data, size_t size);
bool slc__crc32c_is_accelerated(void);

#endif

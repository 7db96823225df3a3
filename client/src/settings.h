/* Structs that grow at the end from version to version: options in, statistics out.  Thread: any. */
#ifndef SLC__CLIENT_SETTINGS_H
#define SLC__CLIENT_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

/* Copies the caller's options (NULL: leaves the defaults) whatever version they are of.  SLC_INVALID when they ask for
 * something that this version does not know. */
int slc__settings_copy(void *ret_options, size_t known_size, const void *options);
/* Copies as much of the statistics as the caller's `size` has room for.  SLC_INVALID when that is nothing. */
int slc__stats_copy(void *ret_stats, const void *stats, size_t known_size);
/* The public spin_ns (0: the default, negative: never) as the slot log wants it. */
int64_t slc__spin_ns(int64_t spin_ns);

#endif

/* The size-tagged structs of the public header.  All begin with `uint32_t size`.  Threads: any. */
#include "settings.h"

#include <string.h>

#include "base/error.h"
#include "slotcast/slotcast.h"

#define SPIN_DEFAULT_NS (20 * INT64_C(1000))

int slc__settings_copy(void *ret_options, size_t known_size, const void *options) {
  if (options == NULL) return 0;
  uint32_t size;
  memcpy(&size, options, sizeof size);
  if (size <= sizeof size)
    return slc__fail(SLC_INVALID, "the options have a size of %u: make them with their initialiser macro", size);
  const uint8_t *bytes = options;
  for (size_t i = known_size; i < size; i++) {
    if (bytes[i] != 0)
      return slc__fail(SLC_INVALID, "the options ask for something that this library (%s) does not know",
                       SLC_VERSION_STRING);
  }
  /* Shorter ones come from a program that was built when there were fewer: the rest stays as it is by default. */
  memcpy(ret_options, options, size < known_size ? size : known_size);
  return 0;
}

int slc__stats_copy(void *ret_stats, const void *stats, size_t known_size) {
  uint32_t size;
  memcpy(&size, ret_stats, sizeof size);
  if (size <= sizeof size) return slc__fail(SLC_INVALID, "set `size` of the statistics before asking for them");
  size_t copied = size < known_size ? size : known_size;
  memcpy((uint8_t *)ret_stats + sizeof size, (const uint8_t *)stats + sizeof size, copied - sizeof size);
  return 0;
}

int64_t slc__spin_ns(int64_t spin_ns) {
  if (spin_ns == 0) return SPIN_DEFAULT_NS;
  return spin_ns < 0 ? 0 : spin_ns;
}

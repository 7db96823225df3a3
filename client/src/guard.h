/* Tells whether a handle is used in the process that opened it, at the price of one load and one compare.
 *
 * Thread: any. */
#ifndef SLC__CLIENT_GUARD_H
#define SLC__CLIENT_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct slc__guard {
  const _Atomic uint64_t *word; /* in a page that the kernel clears in a forked child */
  uint64_t value;               /* what it was when the handle was opened; never 0 */
};

/* SLC_NO_MEMORY, SLC_SYSTEM. */
int slc__guard_init(struct slc__guard *guard);
/* 16 random bytes that name this process image; only after a guard has been made. */
void slc__guard_instance(uint8_t ret_instance[16]);
/* SLC_FORKED with its sentence. */
int slc__guard_fail(void);

static inline bool slc__guard_forked(const struct slc__guard *guard) {
  return __builtin_expect(atomic_load_explicit(guard->word, memory_order_relaxed) != guard->value, 0);
}

#endif

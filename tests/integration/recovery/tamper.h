/* Changes what a shadow keeps, between two brokers: like a broker this takes all of it, and puts it anew but for what
 * is changed. */
#ifndef SLC_TEST_TAMPER_H
#define SLC_TEST_TAMPER_H

#include <stddef.h>

#include "store/store.h"

struct tampered {
  struct slc__store_record record; /* to be changed; the value has room for as much again */
  unsigned char *value;
  bool is_dropped;
};

/* Of every record that is kept `change` is asked; how many it has changed. */
size_t tamper(const char *shadow, const char *socket, bool (*change)(struct tampered *record, void *ctx), void *ctx);
/* The checksum of what it has now. */
void tamper_seal(struct tampered *record);

#endif

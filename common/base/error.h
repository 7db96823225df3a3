/* errno to status, and the sentence that belongs to this thread's last failure.  Thread: any. */
#ifndef SLC__BASE_ERROR_H
#define SLC__BASE_ERROR_H

#include <errno.h>

#include "slotcast/status.h"

/* ENOMEM: NO_MEMORY.  EMFILE, ENFILE: NO_DESCRIPTORS.  EPERM, EACCES: DENIED.  Else SYSTEM. */
static inline int slc__status_of_errno(int error) {
  switch (error) {
  case ENOMEM:
    return SLC_NO_MEMORY;
  case EMFILE:
  case ENFILE:
    return SLC_NO_DESCRIPTORS;
  case EPERM:
  case EACCES:
    return SLC_DENIED;
  default:
    return SLC_SYSTEM;
  }
}
const char *slc__status_name(int status); /* "WOULD_BLOCK"; "?" when unknown */
const char *slc__status_text(int status); /* the sentence */

/* Records the sentence for this thread and gives back `status`: `return slc__fail(SLC_NO_BUDGET, "...", ...);`
 * A macro, so that the compiler sees which status comes back: with a call it would have to think that a function that
 * failed may have returned 0 without having set its results. */
#define slc__fail(status, ...)                                                                                         \
  __extension__({                                                                                                      \
    const int slc__failed_with = (status);                                                                             \
    slc__error_set(slc__failed_with, __VA_ARGS__);                                                                     \
    slc__failed_with;                                                                                                  \
  })
void slc__error_set(int status, const char *format, ...) __attribute__((cold, format(printf, 2, 3)));
/* The thread's last sentence, or the status's own when there is none. */
const char *slc__error_detail(void);
void slc__error_clear(void);

#endif

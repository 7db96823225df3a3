/* errno to status, and the sentence that belongs to this thread's last failure.  Thread: any. */
#ifndef SLC__BASE_ERROR_H
#define SLC__BASE_ERROR_H

#include "slotcast/status.h"

/* ENOMEM: NO_MEMORY.  EMFILE, ENFILE: NO_DESCRIPTORS.  EPERM, EACCES: DENIED.  Else SYSTEM. */
int slc__status_of_errno(int error);
const char *slc__status_name(int status); /* "WOULD_BLOCK"; "?" when unknown */
const char *slc__status_text(int status); /* the sentence */

/* Records the sentence for this thread and gives back `status`: `return slc__fail(SLC_NO_BUDGET, "...", ...);` */
int slc__fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The thread's last sentence, or the status's own when there is none. */
const char *slc__error_detail(void);
void slc__error_clear(void);

#endif

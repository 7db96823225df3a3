/* The service manager's descriptor store (FDSTORE=1 of systemd, 246 or later) as a keeper: the records are a log in a
 * memfd, which it keeps together with the records' descriptors.  Thread: the loop's. */
#ifndef SLC__STORE_FDSTORE_H
#define SLC__STORE_FDSTORE_H

#include "store/keeper.h"

/* SLC_INVALID (there is no manager), SLC_DENIED, SLC_NO_MEMORY, SLC_NO_DESCRIPTORS, SLC_SYSTEM. */
int slc__fdstore_open(uv_loop_t *loop, struct slc__keeper **ret_keeper);

#endif

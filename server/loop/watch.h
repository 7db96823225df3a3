/* uv_poll_start, with a failure where libuv would abort. */
#ifndef SLC__LOOP_WATCH_H
#define SLC__LOOP_WATCH_H

#include <uv.h>

/* Begins or changes what an initialised handle of `fd` is polled for; 0: nothing.  SLC_NO_MEMORY, SLC_SYSTEM: it is
 * polled for nothing, and may be tried again or closed.  Thread: the loop's. */
int slc__loop_watch(uv_poll_t *poll, int fd, int events, uv_poll_cb callback);

#endif

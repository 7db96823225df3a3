/* libuv, with a failure where it would abort. */
#ifndef SLC__LOOP_WATCH_H
#define SLC__LOOP_WATCH_H

#include <uv.h>

/* uv_loop_init, once per process and before anything else of libuv.  SLC_NO_MEMORY, SLC_NO_DESCRIPTORS, SLC_SYSTEM. */
int slc__loop_init(uv_loop_t *loop);
/* Begins or changes what an initialised handle of `fd` is polled for; 0: nothing.  SLC_NO_MEMORY, SLC_SYSTEM: it is
 * polled for nothing, and may be tried again or closed.  Thread: the loop's. */
int slc__loop_watch(uv_poll_t *poll, int fd, int events, uv_poll_cb callback);

#endif

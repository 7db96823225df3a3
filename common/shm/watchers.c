/* See watchers.h.  Entered by the threads of publishers and subscribers, off the paths that are taken while nobody
 * waits.  Nothing here waits; what lies in control is only compared. */
#include "shm/watchers.h"

#include <linux/membarrier.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shm/slotlog.h"

#define PAUSE_NS 10000000

/* Once per arming, however many have something to tell: its descriptor stays readable until it arms anew. */
static bool disarm(struct slc__publisher_line *line, uint32_t wants, bool can_disarm) {
  if ((atomic_load_explicit(&line->armed, memory_order_seq_cst) & wants) == 0) return false;
  return !can_disarm || atomic_exchange_explicit(&line->armed, 0, memory_order_seq_cst) != 0;
}

/* Where the kernel has none (nohz_full), stores that were made before have long become visible after a pause: store
 * buffers drain within microseconds. */
void slc__watch_begin(void) {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0) return;
  const struct timespec pause = {.tv_nsec = PAUSE_NS};
  nanosleep(&pause, NULL);
}

uint32_t slc__watch_ring(struct slc__watch *watch, const struct slc__control *control, uint32_t publisher,
                         uint32_t wants) {
  uint64_t number = atomic_load_explicit(&control->page->watchers, memory_order_seq_cst);
  uint64_t known = watch->set != NULL ? watch->set->number : 0;
  if (number > known && watch->sync != NULL) watch->sync(watch->ctx, watch, number);
  uint32_t rung = 0;
  for (uint32_t i = 0; watch->set != NULL && i < watch->set->count; i++) {
    const struct slc__watcher *watcher = &watch->set->list[i];
    if (publisher != 0 && watcher->publisher != publisher) continue;
    if (watcher->publisher == 0 || watcher->publisher > control->geometry.max_publishers) continue;
    if (!disarm(&control->publishers[watcher->publisher - 1], wants, watch->can_disarm)) continue;
    /* Full: then it is readable already.  Gone: its owner is. */
    send(watcher->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    rung++;
  }
  return rung;
}

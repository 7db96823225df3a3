/* See service.h.
 *
 * The watchdog is fed by the loop itself: a loop that hangs is a broker that hangs, and the manager ends it and starts
 * another.  Thread: the loop's. */
#include "daemon/service.h"

#include <errno.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/error.h"
#include "net/seqpacket.h"

enum { US_PER_MS = 1000 };

/* ---- what it gives ---- */

/* What else it gave is not ours to serve at. */
static int find_socket(int *ret_fd) {
  int count = sd_listen_fds(0);
  if (count < 0) return slc__fail(SLC_SYSTEM, "cannot take the manager's descriptors: %s", strerror(-count));
  *ret_fd = -1;
  for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + count; fd++) {
    if (sd_is_socket(fd, AF_UNSPEC, 0, 1) <= 0) continue;
    if (*ret_fd >= 0) return slc__fail(SLC_INVALID, "the manager gave several sockets: serve at one");
    *ret_fd = fd;
  }
  return SLC_OK;
}

int slc__service_take_socket(struct slc__handed_socket *ret_socket, char *path, size_t size) {
  int fd;
  int status = find_socket(&fd);
  if (status == SLC_OK && fd >= 0) status = slc__net_path_of(fd, path, size);
  if (status == SLC_OK) *ret_socket = (struct slc__handed_socket){.listen_fd = fd, .lock_fd = -1, .is_managers = true};
  return status;
}

/* ---- what it is told ---- */

static void on_watchdog(uv_timer_t *timer) {
  (void)timer;
  sd_notify(0, "WATCHDOG=1");
}

/* Managers from 253 on want to know when. */
void slc__service_reload(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Handing over",
             (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
}

void slc__service_goes_on(const char *path) {
  sd_notifyf(0, "READY=1\nSTATUS=Serving at %s", path);
}

void slc__service_begin(struct slc__service *service, uv_loop_t *loop, const char *path) {
  uint64_t usec;
  slc__service_goes_on(path);
  if (sd_watchdog_enabled(0, &usec) <= 0) return;
  uint64_t half = usec / US_PER_MS / 2;
  uv_timer_init(loop, &service->watchdog);
  uv_timer_start(&service->watchdog, on_watchdog, half, half > 0 ? half : 1);
  service->is_watched = true;
}

void slc__service_end(struct slc__service *service) {
  sd_notify(0, "STOPPING=1\nSTATUS=Ending");
  if (service->is_watched) uv_close((uv_handle_t *)&service->watchdog, NULL);
  service->is_watched = false;
}

/* Wait-sets: an epoll descriptor over readiness descriptors.
 *
 * A readiness descriptor may be readable for nothing (publishers came or went, or another thread has read what it told
 * of): so each that epoll names is looked at, which makes it unreadable again when there was nothing.  Hence what is
 * reported is ready, and what is ready stays reported.
 *
 * Sleeps have slices, as those of a subscriber alone: when the broker has gone, nobody rings for a publisher that died
 * between publishing and ringing, so every subscriber is looked at.
 *
 * Threads: one at a time per set, which then is the thread of its subscribers and publishers, too. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "guard.h"
#include "publisher.h"
#include "slotcast/slotcast.h"
#include "subscriber.h"

enum { LOOKED_AT_ONCE = 64 };
#define SLICE_NS SLC__NS_PER_S

/* poll's events are epoll's. */
#define EVENTS_KNOWN ((uint32_t)(POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLERR | POLLHUP))
_Static_assert(POLLIN == EPOLLIN && POLLPRI == EPOLLPRI && POLLOUT == EPOLLOUT, "poll and epoll");
_Static_assert(POLLRDHUP == EPOLLRDHUP && POLLERR == EPOLLERR && POLLHUP == EPOLLHUP, "poll and epoll");

struct entry {
  struct entry *next;
  slc_subscriber *subscriber; /* both NULL: a descriptor of the caller's */
  slc_publisher *publisher;
  int fd; /* that is polled */
  void *user_data;
};

struct slc_waitset {
  struct slc__guard guard;
  int epoll_fd;
  struct entry *entries;
  int64_t visit_at; /* when all handles are looked at next; callers may wait less than a slice each time */
};

int slc_waitset_new(slc_waitset **ret_set) {
  if (ret_set == NULL) return slc__fail(SLC_INVALID, "slc_waitset_new: ret_set must be given");
  struct slc__guard guard;
  int status = slc__guard_init(&guard);
  if (status != 0) return status;
  slc_waitset *set = calloc(1, sizeof *set);
  if (set == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a wait-set");
  set->guard = guard;
  set->visit_at = slc__deadline_after(SLICE_NS);
  set->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (set->epoll_fd < 0) {
    status = slc__fail(slc__status_of_errno(errno), "epoll_create1 for a wait-set: %s", strerror(errno));
    free(set);
    return status;
  }
  *ret_set = set;
  return 0;
}

void slc_waitset_free(slc_waitset *set) {
  if (set == NULL) return;
  for (struct entry *entry = set->entries, *next; entry != NULL; entry = next) {
    next = entry->next;
    free(entry);
  }
  slc__fd_close(&set->epoll_fd);
  free(set);
}

/* ---- entries ---------------------------------------------------------------------------------------------------- */

static bool is_handle(const struct entry *entry) {
  return entry->subscriber != NULL || entry->publisher != NULL;
}

static bool is_same(const struct entry *entry, const struct entry *wanted) {
  return entry->subscriber == wanted->subscriber && entry->publisher == wanted->publisher &&
         (is_handle(wanted) || entry->fd == wanted->fd);
}

/* Where the entry hangs; what it points to is NULL when there is none. */
static struct entry **entry_find(slc_waitset *set, const struct entry *wanted) {
  struct entry **at = &set->entries;
  while (*at != NULL && !is_same(*at, wanted)) at = &(*at)->next;
  return at;
}

static int entry_add(slc_waitset *set, const struct entry *wanted, uint32_t events) {
  if (*entry_find(set, wanted) != NULL) return slc__fail(SLC_INVALID, "the wait-set has this entry already");
  struct entry *entry = malloc(sizeof *entry);
  if (entry == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for an entry of a wait-set");
  *entry = *wanted;
  struct epoll_event event = {.events = events, .data.ptr = entry};
  if (epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, entry->fd, &event) != 0) {
    int error = errno;
    free(entry);
    bool is_callers = error == EBADF || error == EPERM || error == EEXIST || error == EINVAL || error == ELOOP;
    return slc__fail(is_callers ? SLC_INVALID : slc__status_of_errno(error),
                     "descriptor %d cannot be waited for in this wait-set: %s", wanted->fd, strerror(error));
  }
  entry->next = set->entries;
  set->entries = entry;
  return 0;
}

static int entry_remove(slc_waitset *set, const struct entry *wanted) {
  if (slc__guard_forked(&set->guard)) return slc__guard_fail();
  struct entry **at = entry_find(set, wanted), *entry = *at;
  if (entry == NULL) return slc__fail(SLC_NOT_FOUND, "the wait-set has no such entry");
  epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, entry->fd, NULL); /* fails when it has been closed: then it is out already */
  *at = entry->next;
  free(entry);
  return 0;
}

int slc_waitset_add_subscriber(slc_waitset *set, slc_subscriber *subscriber, void *user_data) {
  if (slc__guard_forked(&set->guard)) return slc__guard_fail();
  struct entry entry = {.subscriber = subscriber, .user_data = user_data};
  int status = slc_subscriber_fd(subscriber, &entry.fd);
  return status == 0 ? entry_add(set, &entry, EPOLLIN) : status;
}

int slc_waitset_remove_subscriber(slc_waitset *set, slc_subscriber *subscriber) {
  return entry_remove(set, &(struct entry){.subscriber = subscriber});
}

int slc_waitset_add_publisher(slc_waitset *set, slc_publisher *publisher, void *user_data) {
  if (slc__guard_forked(&set->guard)) return slc__guard_fail();
  struct entry entry = {.publisher = publisher, .user_data = user_data};
  int status = slc_publisher_fd(publisher, &entry.fd);
  return status == 0 ? entry_add(set, &entry, EPOLLIN) : status;
}

int slc_waitset_remove_publisher(slc_waitset *set, slc_publisher *publisher) {
  return entry_remove(set, &(struct entry){.publisher = publisher});
}

int slc_waitset_add_fd(slc_waitset *set, int fd, uint32_t events, void *user_data) {
  if (slc__guard_forked(&set->guard)) return slc__guard_fail();
  if ((events & ~EVENTS_KNOWN) != 0)
    return slc__fail(SLC_INVALID, "0x%x is no set of POLLIN, POLLPRI, POLLOUT, POLLRDHUP", events);
  const struct entry entry = {.fd = fd, .user_data = user_data};
  return entry_add(set, &entry, events);
}

int slc_waitset_remove_fd(slc_waitset *set, int fd) {
  return entry_remove(set, &(struct entry){.fd = fd});
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

/* A handle's own word on whether it is ready. */
static bool look(const struct entry *entry) {
  return entry->subscriber != NULL ? slc__subscriber_look(entry->subscriber) : slc__publisher_look(entry->publisher);
}

static void report(const struct entry *entry, uint32_t events, slc_waitset_event *ret_event) {
  *ret_event = (slc_waitset_event){
      .user_data = entry->user_data,
      .subscriber = entry->subscriber,
      .publisher = entry->publisher,
      .fd = is_handle(entry) ? -1 : entry->fd,
      .events = events,
  };
}

/* What is ready, or becomes so until then; a signal ends it, too.  The count, or a negative status.  The kernel goes
 * round: what finds no room this time comes first the next. */
static int collect(const slc_waitset *set, int64_t until, slc_waitset_event *ret_events, size_t max) {
  struct epoll_event found[LOOKED_AT_ONCE];
  int64_t left = until - slc__clock_ns();
  struct timespec timeout = slc__clock_timespec(left > 0 ? left : 0);
  int count = epoll_pwait2(set->epoll_fd, found, max < LOOKED_AT_ONCE ? (int)max : LOOKED_AT_ONCE, &timeout, NULL);
  if (count < 0 && errno != EINTR)
    return slc__fail(slc__status_of_errno(errno), "epoll_pwait2 for a wait-set: %s", strerror(errno));
  int ready = 0;
  for (int i = 0; i < count; i++) {
    const struct entry *entry = found[i].data.ptr;
    if (is_handle(entry) && !look(entry)) continue;
    report(entry, found[i].events, &ret_events[ready++]);
  }
  return ready;
}

/* Looks at every subscriber and publisher, rung for or not. */
static int visit_all(slc_waitset *set, slc_waitset_event *ret_events, size_t max) {
  int ready = 0;
  int64_t next = SLICE_NS;
  for (const struct entry *entry = set->entries; entry != NULL && (size_t)ready < max; entry = entry->next) {
    if (!is_handle(entry)) continue;
    if (entry->publisher != NULL) slc__publisher_look_around(entry->publisher);
    int64_t slice = entry->subscriber != NULL ? slc__subscriber_visit(entry->subscriber) : SLICE_NS;
    if (slice < next) next = slice;
    if (look(entry)) report(entry, POLLIN, &ret_events[ready++]);
  }
  set->visit_at = slc__deadline_after(next);
  return ready;
}

int slc_waitset_wait(slc_waitset *set, int64_t timeout_ns, slc_waitset_event *ret_events, size_t max,
                     size_t *ret_count) {
  if (slc__guard_forked(&set->guard)) return slc__guard_fail();
  if (ret_events == NULL || max == 0 || ret_count == NULL)
    return slc__fail(SLC_INVALID, "slc_waitset_wait: there must be room for at least one event");
  int64_t deadline = slc__deadline_after(timeout_ns);
  for (;;) {
    int ready = collect(set, set->visit_at < deadline ? set->visit_at : deadline, ret_events, max);
    int64_t now = slc__clock_ns();
    if (ready == 0 && now >= set->visit_at) ready = visit_all(set, ret_events, max);
    if (ready < 0) return ready;
    if (ready > 0) {
      *ret_count = (size_t)ready;
      return 0;
    }
    if (now >= deadline) return SLC_TIMED_OUT;
  }
}

int slc_waitset_fd(slc_waitset *set, int *ret_fd) {
  if (slc__guard_forked(&set->guard)) return slc__guard_fail();
  *ret_fd = set->epoll_fd;
  return 0;
}

/* Of what a channel's objects are made: settled with its shape, and the one place where the broker makes objects.
 *
 * What is sealed and in small pages is for anybody; the rest could be taken away under its readers, and is only for
 * processes of the broker's own user.  Thread: the loop's. */
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "broker/broker.h"
#include "shm/pages.h"

enum { TEXT_MAX = 64 };

/* ---- objects ---- */

int channel_object(struct broker *broker, const struct channel *channel, enum slc__object_kind kind, uint64_t size,
                   int *ret_fd) {
  struct slc__memory memory = slc__memory_of(&channel->geometry);
  memory.prefault = channel->is_prefaulted;
  int status = memory.backend == SLC__BACKEND_SHM ? broker_lock_session(broker) : SLC_OK;
  if (status != SLC_OK) return status;
  return slc__object_create(memory, kind, size, broker->session, ret_fd);
}

int channel_directory(struct broker *broker, const struct channel *channel, int *ret_fd) {
  int status = broker_lock_session(broker);
  return status == SLC_OK ? slc__object_directory(channel->geometry.pages, broker->session, ret_fd) : status;
}

int channel_object_mapped(struct broker *broker, const struct channel *channel, enum slc__object_kind kind,
                          uint64_t size, int *ret_fd, struct slc__mapping *ret_mapping) {
  int status = channel_object(broker, channel, kind, size, ret_fd);
  if (status != SLC_OK) return status;
  return slc__object_map_made(*ret_fd, slc__memory_of(&channel->geometry), kind, size, broker->session, ret_mapping);
}

/* To find out whether it has a name takes as long as to make it: only those of the shm backend have one. */
void channel_object_close(const struct channel *channel, int *fd) {
  bool has_name = *fd >= 0 && channel->geometry.backend == SLC__BACKEND_SHM;
  if (has_name && !is_left_to_successor(channel->broker)) slc__object_unlink(*fd);
  slc__fd_close(fd);
}

/* ---- what is asked for ---- */

static const char *backend_name(uint32_t backend) {
  return backend == SLC__BACKEND_SHM ? "shm" : backend == SLC__BACKEND_MEMFD ? "memfd" : "another backend";
}

static const char *pages_name(uint32_t pages, char text[TEXT_MAX]) {
  char size[32];
  if (slc__pages_are_huge(pages)) {
    snprintf(text, TEXT_MAX, "huge pages of %s", slc__pages_text(slc__pages_size(pages), size));
  } else {
    snprintf(text, TEXT_MAX, "%s pages", pages == SLC__PAGES_TRANSPARENT ? "transparent huge" : "small");
  }
  return text;
}

int memory_choose(const struct broker *broker, const Slotcast__OpenPublisher *request, struct slc__geometry *geometry) {
  uint32_t pages;
  if (request->backend > SLC__BACKEND_SHM)
    return slc__fail(SLC_INVALID, "there is no backend %u: memfd is %d, shm is %d", request->backend,
                     SLC__BACKEND_MEMFD, SLC__BACKEND_SHM);
  if (slc__pages_of(request->pages, &pages) != SLC_OK)
    return slc__fail(SLC_INVALID,
                     "pages are small (%d), transparent (%d), or huge ones of a power of two bytes from %d KiB on, and "
                     "not %llu",
                     SLC__PAGES_SMALL, SLC__PAGES_TRANSPARENT, 1 << (SLC__PAGES_HUGE_MIN - 10),
                     (unsigned long long)request->pages);
  geometry->backend = (uint8_t)(request->backend != 0 ? request->backend : broker->options.backend);
  geometry->pages = (uint8_t)pages;
  return SLC_OK;
}

int memory_check_shape(const struct channel *channel, const Slotcast__OpenPublisher *request) {
  const struct slc__geometry *g = &channel->geometry;
  char is[TEXT_MAX], asked[TEXT_MAX];
  uint32_t pages;
  if (request->backend != 0 && request->backend != g->backend)
    return slc__fail(SLC_INCOMPATIBLE,
                     "the channel %s is kept in %s, asked for was %s: ask for the same, or for 0 (as "
                     "it is)",
                     channel->name, backend_name(g->backend), backend_name(request->backend));
  if (request->pages == 0) return SLC_OK;
  bool is_known = slc__pages_of(request->pages, &pages) == SLC_OK;
  if (is_known && pages == g->pages) return SLC_OK;
  return slc__fail(SLC_INCOMPATIBLE,
                   "the channel %s is kept in %s, asked for were %s: ask for the same, or for 0 (as it "
                   "is)",
                   channel->name, pages_name(g->pages, is), is_known ? pages_name(pages, asked) : "others");
}

/* ---- for whom ---- */

static bool is_for_all(const struct slc__geometry *geometry) {
  return geometry->backend == SLC__BACKEND_MEMFD && !slc__pages_are_huge(geometry->pages);
}

int memory_check_user(const struct channel *channel, const struct slc__geometry *geometry, uid_t uid) {
  if (uid == geteuid() || is_for_all(geometry)) return SLC_OK;
  return slc__fail(SLC_DENIED,
                   "the channel %s is kept in %s, which can be taken away from its readers, and is therefore for "
                   "processes of user %u only, not %u: make it with the backend memfd and without huge pages",
                   channel->name, geometry->backend == SLC__BACKEND_SHM ? "/dev/shm" : "huge pages", geteuid(), uid);
}

int memory_check_waiting(const struct channel *channel, const struct slc__geometry *geometry) {
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    int status = memory_check_user(channel, geometry, user->process->peer.uid);
    if (status != SLC_OK) return status;
  }
  return SLC_OK;
}

/* Shared-memory objects: the charge comes first and goes last.  Thread: the loop's. */
#include "broker/owned.h"

#include "base/cleanup.h"
#include "base/error.h"

void slc__owned_init(struct slc__owned *owned) {
  *owned = (struct slc__owned){.fd = -1};
}

static int make(struct slc__broker *broker, enum slc__object_kind kind, bool map, struct slc__owned *owned) {
  int status = slc__object_create(broker->backend, kind, owned->size, broker->session, false, &owned->fd);
  if (status != 0 || !map) return status;
  return slc__object_map(owned->fd, broker->backend, kind, owned->size, SLC__READ_WRITE, broker->session,
                         &owned->mapping);
}

int slc__owned_make(struct slc__broker *broker, enum slc__object_kind kind, uint64_t size, uid_t uid, bool map,
                    struct slc__owned *ret_owned) {
  int status = slc__limits_charge(&broker->limits, uid, SLC__LIMIT_MEMORY, size);
  if (status != 0) return status;
  struct slc__owned owned = {.fd = -1, .uid = uid, .size = size};
  status = make(broker, kind, map, &owned);
  if (status != 0)
    slc__owned_deinit(broker, &owned);
  else
    *ret_owned = owned;
  return status;
}

void slc__owned_deinit(struct slc__broker *broker, struct slc__owned *owned) {
  slc__mapping_deinit(&owned->mapping);
  if (owned->fd >= 0) slc__object_unlink(owned->fd);
  slc__fd_close(&owned->fd);
  if (owned->size > 0) slc__limits_release(&broker->limits, owned->uid, SLC__LIMIT_MEMORY, owned->size);
  owned->size = 0;
}

/* Drafts: the manifest grows with the descriptors, so that it always matches.  Thread: the loop's. */
#include "broker/draft.h"

#include <assert.h>

#include "base/cleanup.h"

void slc__draft_init(struct slc__draft *draft, uint64_t serial) {
  slotcast__message__init(&draft->message);
  draft->message.serial = serial;
  draft->message.descriptors = draft->manifest;
  draft->count = 0;
}

void slc__draft_deinit(struct slc__draft *draft) {
  for (size_t i = 0; i < draft->count; i++)
    if (draft->is_ours[i]) slc__fd_close(&draft->fds[i]);
  draft->count = 0;
}

size_t slc__draft_room(const struct slc__draft *draft) {
  return SLC__DRAFT_DESCRIPTORS - draft->count;
}

static void add(struct slc__draft *draft, Slotcast__DescriptorKind kind, uint64_t size, bool writable, int fd,
                bool is_ours) {
  assert(slc__draft_room(draft) > 0);
  size_t at = draft->count++;
  slotcast__descriptor__init(&draft->entries[at]);
  draft->entries[at].kind = kind;
  draft->entries[at].size = size;
  draft->entries[at].writable = writable;
  draft->manifest[at] = &draft->entries[at];
  draft->fds[at] = fd;
  draft->is_ours[at] = is_ours;
  draft->message.n_descriptors = draft->count;
}

int slc__draft_object(struct slc__draft *draft, Slotcast__DescriptorKind kind, const struct slc__owned *owned,
                      enum slc__access access) {
  int fd = owned->fd;
  if (access == SLC__READ_ONLY) {
    int status = slc__object_reopen_read_only(owned->fd, &fd);
    if (status != 0) return status;
  }
  add(draft, kind, owned->size, access == SLC__READ_WRITE, fd, access == SLC__READ_ONLY);
  return 0;
}

void slc__draft_doorbell(struct slc__draft *draft, int fd) {
  add(draft, SLOTCAST__DESCRIPTOR_KIND__DOORBELL, 0, true, fd, false);
}

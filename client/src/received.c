/* Takes the descriptors of one message, each exactly as its manifest and the caller expect it.
 *
 * Invariant: a descriptor is closed as soon as its object is mapped, so that a process pays with mappings and not with
 * descriptors for what it uses; what is not consumed is closed with the message.
 * Threads: entered under the client's lock. */
#include "received.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "slotcast/slotcast.h"

static const char *kind_name(Slotcast__DescriptorKind kind) {
  switch (kind) {
  case SLOTCAST__DESCRIPTOR_KIND__CONTROL:
    return "control";
  case SLOTCAST__DESCRIPTOR_KIND__BUFFERS:
    return "buffers";
  case SLOTCAST__DESCRIPTOR_KIND__TABLE:
    return "hold table";
  case SLOTCAST__DESCRIPTOR_KIND__BELL:
    return "bell";
  case SLOTCAST__DESCRIPTOR_KIND__DOORBELL:
    return "doorbell";
  case SLOTCAST__DESCRIPTOR_KIND__PAYLOADS:
    return "later generation of buffers";
  case SLOTCAST__DESCRIPTOR_KIND__PROCESS:
    return "pidfd";
  default:
    return "unknown";
  }
}

static Slotcast__DescriptorKind kind_of_object(enum slc__object_kind kind) {
  switch (kind) {
  case SLC__OBJECT_CONTROL:
    return SLOTCAST__DESCRIPTOR_KIND__CONTROL;
  case SLC__OBJECT_BUFFERS:
    return SLOTCAST__DESCRIPTOR_KIND__BUFFERS;
  case SLC__OBJECT_TABLE:
    return SLOTCAST__DESCRIPTOR_KIND__TABLE;
  case SLC__OBJECT_BELL:
    return SLOTCAST__DESCRIPTOR_KIND__BELL;
  case SLC__OBJECT_PAYLOADS:
    return SLOTCAST__DESCRIPTOR_KIND__PAYLOADS;
  }
  return SLOTCAST__DESCRIPTOR_KIND__DESCRIPTOR_KIND_UNSPECIFIED;
}

/* The manifest's next entry and its descriptor, when it is of that kind; NULL when not. */
static const Slotcast__Descriptor *entry_next(struct slc__received *received, Slotcast__DescriptorKind kind,
                                              int *ret_fd) {
  size_t index = received->next;
  if (index >= received->message->n_descriptors || index >= received->fds->count) {
    slc__fail(SLC_PROTOCOL, "the broker's message lacks a descriptor: %s", kind_name(kind));
    return NULL;
  }
  const Slotcast__Descriptor *entry = received->message->descriptors[index];
  if (entry->kind != kind) {
    slc__fail(SLC_PROTOCOL, "descriptor %zu of the broker's message is %s, and not %s", index, kind_name(entry->kind),
              kind_name(kind));
    return NULL;
  }
  *ret_fd = slc__fds_take(received->fds, index);
  received->next = index + 1;
  return entry;
}

int slc__received_doorbell(struct slc__received *received, int *ret_fd) {
  return entry_next(received, SLOTCAST__DESCRIPTOR_KIND__DOORBELL, ret_fd) != NULL ? 0 : SLC_PROTOCOL;
}

int slc__received_process(struct slc__received *received, int *ret_fd) {
  return entry_next(received, SLOTCAST__DESCRIPTOR_KIND__PROCESS, ret_fd) != NULL ? 0 : SLC_PROTOCOL;
}

int slc__received_map(struct slc__received *received, enum slc__object_kind kind, enum slc__access access,
                      uint64_t size, struct slc__mapping *ret_mapping) {
  SLC__CLEANUP_FD int fd = -1;
  const Slotcast__Descriptor *entry = entry_next(received, kind_of_object(kind), &fd);
  if (entry == NULL) return SLC_PROTOCOL;
  if (size != 0 && entry->size != size)
    return slc__fail(SLC_PROTOCOL, "the broker's %s has %ju bytes where its shape needs %ju", kind_name(entry->kind),
                     (uintmax_t)entry->size, (uintmax_t)size);
  if ((entry->writable != 0) != (access == SLC__READ_WRITE))
    return slc__fail(SLC_PROTOCOL, "the broker's %s is %s", kind_name(entry->kind),
                     entry->writable ? "writable and should not be" : "read-only and should not be");
  return slc__object_map(fd, received->memory, kind, entry->size, access, received->origin->session, ret_mapping);
}

int slc__received_finish(const struct slc__received *received) {
  if (received->next != received->fds->count)
    return slc__fail(SLC_PROTOCOL, "the broker sent %zu descriptors where %zu are due", received->fds->count,
                     received->next);
  return 0;
}

int slc__received_geometry(const Slotcast__Geometry *geometry, struct slc__geometry *ret_geometry) {
  if (geometry == NULL) return slc__fail(SLC_PROTOCOL, "the broker did not say what shape the channel has");
  uint32_t pages;
  if (geometry->backend != SLC__BACKEND_MEMFD && geometry->backend != SLC__BACKEND_SHM)
    return slc__fail(SLC_VERSION, "the channel is kept in a way (%u) that this library (%s) does not know",
                     geometry->backend, SLC_VERSION_STRING);
  if (slc__pages_of(geometry->pages, &pages) != 0)
    return slc__fail(SLC_PROTOCOL, "the broker named impossible pages: %ju", (uintmax_t)geometry->pages);
  struct slc__geometry shape = {
      .slots = geometry->slots,
      .log_size = geometry->log_size,
      .max_publishers = geometry->max_publishers,
      .reliable = geometry->reliable ? 1 : 0,
      .slot_size = geometry->slot_size,
      .keep_last = geometry->keep_last,
      .metadata_size = geometry->metadata_size,
      .checksum = geometry->checksum,
      .checksum_size = geometry->checksum_size,
      .virtual_max = geometry->virtual_max,
      .backend = (uint8_t)geometry->backend,
      .pages = (uint8_t)pages,
      .split = geometry->split ? 1 : 0,
  };
  if (slc__geometry_check(&shape) != 0)
    return slc__fail(SLC_PROTOCOL, "the broker named an impossible shape: %u slots of %ju bytes, a log of %u",
                     shape.slots, (uintmax_t)shape.slot_size, shape.log_size);
  *ret_geometry = shape;
  return 0;
}

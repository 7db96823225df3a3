/* The record of a split channel's generation: in pages, each with the slots that follow those of the page before and
 * the files in which their payloads lie.  A file that several pages name comes with each of them.  Thread: the loop's.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "broker/split.h"
#include "shm/payload.h"

/* ---- to be kept ---- */

static bool has_file(const struct split_page *page, uint32_t number) {
  for (size_t i = page->file_count; i-- > 0;) { /* almost always the last */
    if (page->files[i].number == number) return true;
  }
  return false;
}

static void add_file(struct split_page *page, const struct memory_file *file, uint32_t number) {
  size_t i = page->file_count++;
  Slotcast__FileRecord *entry = page->file_list[i] = &page->files[i];
  slotcast__file_record__init(entry);
  entry->number = number;
  entry->uid = file->uid;
  entry->user = file->user;
  entry->external = file->is_external;
  page->fds[i] = file->fd;
}

static void add_payload(struct split_page *page, const struct payload *payload, uint32_t slot) {
  size_t i = page->payload_count++;
  Slotcast__PayloadRecord *entry = page->payload_list[i] = &page->payloads[i];
  slotcast__payload_record__init(entry);
  entry->slot = slot;
  entry->file = payload->file - 1;
  entry->offset = payload->offset;
  entry->handle = payload->handle;
}

uint32_t split_page(const struct channel *channel, const struct generation *generation, uint32_t first,
                    struct split_page *ret_page) {
  const struct split *split = generation->split;
  ret_page->file_count = ret_page->payload_count = 0;
  for (uint32_t slot = first; slot < channel->geometry.slots; slot++) {
    const struct payload *payload = &split->slots[slot];
    if (payload->file == 0) continue;
    bool is_new = !has_file(ret_page, payload->file - 1);
    if (ret_page->payload_count == SPLIT_PAGE_PAYLOADS ||
        (is_new && ret_page->file_count == SLC__STORE_DESCRIPTORS_MAX))
      return slot;
    if (is_new) add_file(ret_page, &split->files[payload->file - 1], payload->file - 1);
    add_payload(ret_page, payload, slot);
  }
  return 0;
}

/* ---- recovered ---- */

static int damaged(void) {
  return slc__fail(SLC_PROTOCOL, "its payloads can't lie where their record says");
}

/* A pool that is named in one message after the other was paid for once. */
static uint64_t cost_of(const struct split *split, const struct slc__payload_file *file) {
  const struct memory_file *last = split->file_count > 0 ? &split->files[split->file_count - 1] : NULL;
  return last != NULL && last->device == file->device && last->inode == file->inode ? 0 : file->size;
}

static int restore_file(struct channel *channel, struct generation *generation, const Slotcast__FileRecord *entry,
                        int *fd) {
  struct split *split = generation->split;
  struct slc__payload_file file;
  int status = slc__payload_look(*fd, &file);
  if (status != SLC_OK) return status;
  if (entry->number < split->file_count) {
    const struct memory_file *known = &split->files[entry->number];
    return known->device == file.device && known->inode == file.inode ? SLC_OK : damaged();
  }
  if (entry->number > split->file_count || !file.is_writable) return damaged();
  struct memory_file *files = reallocarray(split->files, (size_t)split->file_count + 1, sizeof *files);
  if (files == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for the payloads of %s", channel->name);
  split->files = files;
  uint64_t cost = cost_of(split, &file);
  charge_again(channel->account, LIMIT_descriptors, 1);
  charge_again(channel->account, LIMIT_memory, cost);
  channel->memory += cost;
  generation->memory += cost;
  split->files[split->file_count++] = (struct memory_file){.fd = slc__fd_take(fd),
                                                           .size = file.size,
                                                           .device = file.device,
                                                           .inode = file.inode,
                                                           .uid = entry->uid,
                                                           .user = entry->user,
                                                           .is_sealed = file.is_sealed,
                                                           .is_external = entry->external != 0};
  return SLC_OK;
}

static int restore_payload(const struct channel *channel, const struct generation *generation,
                           const Slotcast__PayloadRecord *entry) {
  struct split *split = generation->split;
  uint64_t size = slc__layout_payload_stride(generation->slot_size);
  if (entry->slot >= channel->geometry.slots || entry->file >= split->file_count) return damaged();
  uint64_t whole = split->files[entry->file].size;
  if (split->slots[entry->slot].file != 0 || entry->offset % SLC__PAYLOAD_ALIGN != 0 || size > whole ||
      entry->offset > whole - size)
    return damaged();
  split->slots[entry->slot] =
      (struct payload){.file = entry->file + 1, .offset = entry->offset, .handle = entry->handle};
  split->registered++;
  return SLC_OK;
}

int split_restore(struct channel *channel, struct generation *generation, const Slotcast__GenerationRecord *page,
                  struct slc__store_record *stored) {
  struct split *split = generation->split;
  if (page->slots_per_object != 0) {
    if (stored->fd_count != 1 || split->registered != 0) return damaged();
    split->registered = channel->geometry.slots;
    return names_restore(channel, generation, page->slots_per_object, &stored->fds[0], &split->names);
  }
  if (page->n_files != stored->fd_count) return damaged();
  int status = SLC_OK;
  for (size_t i = 0; status == SLC_OK && i < page->n_files; i++)
    status = restore_file(channel, generation, page->files[i], &stored->fds[i]);
  for (size_t i = 0; status == SLC_OK && i < page->n_payloads; i++)
    status = restore_payload(channel, generation, page->payloads[i]);
  return status;
}

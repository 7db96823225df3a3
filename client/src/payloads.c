/* Payloads: received in pages, mapped, found again by their address.
 *
 * Invariants:
 *   - A slot that has an address keeps it as long as the generation is mapped.
 *   - What a page says is checked before it is used: slots and descriptors by receive, offsets when it is mapped.
 * Threads: slc__payload_page_receive under the client's lock; the rest that of the handle. */
#include "payloads.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/error.h"

/* ---- pages ------------------------------------------------------------------------------------------------------ */

struct slc__payload_page *slc__payload_page_new(void) {
  struct slc__payload_page *page = malloc(sizeof *page);
  if (page == NULL) {
    slc__fail(SLC_NO_MEMORY, "no memory for a page of payloads");
    return NULL;
  }
  page->generation = page->next = page->registered = page->handled = page->slots_per_object = 0;
  page->slot_size = 0;
  page->count = 0;
  page->is_borrowed = false;
  slc__fds_init(&page->fds);
  return page;
}

void slc__payload_page_free(struct slc__payload_page *page) {
  if (page != NULL && !page->is_borrowed) slc__fds_deinit(&page->fds);
  free(page);
}

/* What isn't sealed is taken from ourselves and from root only. */
static int file_check(const struct slc__payload_file *file, bool is_publisher) {
  if (is_publisher && !file->is_writable)
    return slc__fail(SLC_PROTOCOL, "the broker sent a publisher memory that it can't write");
  if (file->is_sealed || file->uid == geteuid() || file->uid == 0) return 0;
  return slc__fail(SLC_PROTOCOL, "the broker sent memory of user %u that is not sealed", file->uid);
}

static int directory_check(const struct slc__payload_page *page, const struct slc__received *received) {
  if (page->fds.count == 1 && received->message->payloads->n_payloads == 0 &&
      received->message->descriptors[0]->kind == SLOTCAST__DESCRIPTOR_KIND__DIRECTORY)
    return slc__object_directory_check(page->fds.fd[0]);
  return slc__fail(SLC_PROTOCOL, "the broker told of payloads with names, and not of one directory");
}

static int files_take(struct slc__payload_page *page, struct slc__received *received, bool is_publisher) {
  page->fds = *received->fds;
  slc__fds_init(received->fds);
  if (page->slots_per_object != 0) return directory_check(page, received);
  for (size_t i = 0; i < page->fds.count; i++) {
    if (received->message->descriptors[i]->kind != SLOTCAST__DESCRIPTOR_KIND__MEMORY)
      return slc__fail(SLC_PROTOCOL, "the broker sent a descriptor that is no memory of payloads");
    int status = slc__payload_look(page->fds.fd[i], &page->files[i]);
    if (status == 0) status = file_check(&page->files[i], is_publisher);
    if (status != 0) return status;
  }
  return 0;
}

int slc__payload_page_receive(struct slc__payload_page *page, struct slc__received *received, uint32_t slots,
                              enum slc__access access) {
  if (received->message->body_case != SLOTCAST__MESSAGE__BODY_PAYLOADS) return slc__answer_unexpected(received);
  const Slotcast__Payloads *body = received->message->payloads;
  if (body->n_payloads > SLC__PAYLOADS_PAGE || body->registered > slots || body->next >= slots)
    return slc__fail(SLC_PROTOCOL, "the broker told of %zu payloads of %u", body->n_payloads, slots);
  page->slots_per_object = body->slots_per_object;
  int status = files_take(page, received, access == SLC__READ_WRITE);
  if (status != 0) return status;
  for (size_t i = 0; i < body->n_payloads; i++) {
    const Slotcast__Payload *entry = body->payloads[i];
    if (entry->slot >= slots || entry->descriptor >= page->fds.count || entry->offset % SLC__PAYLOAD_ALIGN != 0)
      return slc__fail(SLC_PROTOCOL, "the broker told of a payload of slot %u, descriptor %u, that can't be",
                       entry->slot, entry->descriptor);
    page->entries[i] = (struct slc__payload_entry){entry->slot, entry->descriptor, entry->offset, entry->handle};
  }
  page->count = body->n_payloads;
  page->generation = body->generation;
  page->slot_size = body->slot_size;
  page->next = body->next;
  page->registered = body->registered;
  page->handled = body->handled;
  return 0;
}

/* ---- mapped payloads -------------------------------------------------------------------------------------------- */

struct slc__payloads *slc__payloads_new(uint32_t slots, uint64_t slot_size, struct slc__memory memory,
                                        enum slc__access access, const struct slc__allocator *allocator) {
  struct slc__payloads *payloads = calloc(1, sizeof *payloads);
  if (payloads != NULL) {
    payloads->slots = slots;
    payloads->size = slc__layout_payload_stride(slot_size);
    payloads->access = access;
    payloads->memory = memory;
    payloads->allocator = allocator;
    payloads->addresses = calloc(slots, sizeof *payloads->addresses); // NOLINT(bugprone-sizeof-expression)
    payloads->handles = calloc(slots, sizeof *payloads->handles);
  }
  if (payloads != NULL && payloads->addresses != NULL && payloads->handles != NULL) return payloads;
  slc__payloads_forget(payloads);
  slc__fail(SLC_NO_MEMORY, "no memory for %u payloads", slots);
  return NULL;
}

void slc__payloads_forget(struct slc__payloads *payloads) {
  if (payloads == NULL) return;
  free(payloads->addresses);
  free(payloads->handles);
  free(payloads->sorted);
  free(payloads->mappings);
  free(payloads);
}

static bool is_mapped_by_callback(const struct slc__payloads *payloads) {
  return payloads->allocator != NULL && payloads->allocator->map != NULL;
}

void slc__payloads_free(struct slc__payloads *payloads) {
  if (payloads == NULL) return;
  for (uint32_t i = 0; i < payloads->mapping_count; i++) slc__mapping_deinit(&payloads->mappings[i]);
  if (is_mapped_by_callback(payloads) && payloads->allocator->unmap != NULL) {
    for (uint32_t slot = 0; slot < payloads->slots; slot++) {
      if (payloads->addresses[slot] == NULL) continue;
      payloads->allocator->unmap(payloads->allocator->ctx, payloads->addresses[slot], payloads->size);
    }
  }
  slc__payloads_forget(payloads);
}

uint32_t slc__payloads_missing(const struct slc__payloads *payloads, uint32_t from) {
  while (from < payloads->slots && payloads->addresses[from] != NULL) from++;
  return from;
}

static void slot_set(struct slc__payloads *payloads, const struct slc__payload_entry *entry, uint8_t *address) {
  payloads->addresses[entry->slot] = address;
  payloads->handles[entry->slot] = entry->handle;
  payloads->mapped++;
}

/* ---- mapping ---------------------------------------------------------------------------------------------------- */

static int map_by_callback(struct slc__payloads *payloads, const struct slc__payload_page *page, size_t count) {
  const struct slc__allocator *allocator = payloads->allocator;
  for (size_t i = 0; i < count; i++) {
    const struct slc__payload_entry *entry = &page->entries[i];
    if (payloads->addresses[entry->slot] != NULL) continue;
    const slc_payload payload = {
        .fd = page->fds.fd[entry->descriptor], .slot = entry->slot, .offset = entry->offset, .handle = entry->handle};
    void *address = allocator->map(allocator->ctx, &payload, payloads->size);
    if (address == NULL || (uintptr_t)address % SLC__PAYLOAD_ALIGN != 0)
      return slc__fail(SLC_REFUSED, "map_payload gave no address, or one that is not aligned to %d bytes, for slot %u",
                       SLC__PAYLOAD_ALIGN, entry->slot);
    slot_set(payloads, entry, address);
  }
  return 0;
}

/* What of a descriptor is to be mapped, and where it is then. */
struct span {
  uint64_t begin, end;
  uint8_t *address; /* of `begin` */
};

static int spans_find(const struct slc__payloads *payloads, const struct slc__payload_page *page, size_t count,
                      struct span spans[SLC__NET_DESCRIPTORS_MAX]) {
  for (size_t i = 0; i < page->fds.count; i++) spans[i] = (struct span){.begin = UINT64_MAX};
  for (size_t i = 0; i < count; i++) {
    const struct slc__payload_entry *entry = &page->entries[i];
    uint64_t whole = page->files[entry->descriptor].size;
    if (payloads->addresses[entry->slot] != NULL) continue;
    if (payloads->size > whole || entry->offset > whole - payloads->size)
      return slc__fail(SLC_INVALID, "the payload of slot %u lies beyond the end of its memory", entry->slot);
    struct span *span = &spans[entry->descriptor];
    if (entry->offset < span->begin) span->begin = entry->offset;
    if (entry->offset + payloads->size > span->end) span->end = entry->offset + payloads->size;
  }
  return 0;
}

static int span_map(struct slc__payloads *payloads, const struct slc__payload_page *page, size_t descriptor,
                    struct span *span) {
  struct slc__mapping *list = reallocarray(payloads->mappings, payloads->mapping_count + 1, sizeof *list);
  if (list == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for the mappings of %u payloads", payloads->slots);
  payloads->mappings = list;
  int status =
      slc__payload_map(page->fds.fd[descriptor], &page->files[descriptor], span->begin, span->end - span->begin,
                       payloads->memory, payloads->access, &list[payloads->mapping_count], &span->address);
  if (status == 0) payloads->mapping_count++;
  return status;
}

int slc__payloads_map(struct slc__payloads *payloads, const struct slc__payload_page *page, size_t count) {
  struct span spans[SLC__NET_DESCRIPTORS_MAX];
  if (is_mapped_by_callback(payloads)) return map_by_callback(payloads, page, count);
  int status = spans_find(payloads, page, count, spans);
  for (size_t i = 0; status == 0 && i < page->fds.count; i++) {
    if (spans[i].begin < spans[i].end) status = span_map(payloads, page, i, &spans[i]);
  }
  for (size_t i = 0; status == 0 && i < count; i++) {
    const struct slc__payload_entry *entry = &page->entries[i];
    if (payloads->addresses[entry->slot] != NULL) continue;
    const struct span *span = &spans[entry->descriptor];
    slot_set(payloads, entry, span->address + (entry->offset - span->begin));
  }
  return status;
}

/* ---- by address ------------------------------------------------------------------------------------------------- */

static int by_address(const void *a, const void *b, void *ctx) {
  const struct slc__payloads *payloads = ctx;
  const uint8_t *x = payloads->addresses[*(const uint32_t *)a], *y = payloads->addresses[*(const uint32_t *)b];
  return x < y ? -1 : x > y;
}

int slc__payloads_sort(struct slc__payloads *payloads) {
  payloads->sorted = calloc(payloads->slots, sizeof *payloads->sorted);
  if (payloads->sorted == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for %u payloads", payloads->slots);
  for (uint32_t i = 0; i < payloads->slots; i++) payloads->sorted[i] = i;
  qsort_r(payloads->sorted, payloads->slots, sizeof *payloads->sorted, by_address, payloads);
  return 0;
}

uint32_t slc__payloads_find(const struct slc__payloads *payloads, const void *address) {
  const uint8_t *at = address;
  uint32_t low = 0, high = payloads->slots; /* the last that begins at or before `at` */
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (payloads->addresses[payloads->sorted[middle]] <= at) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return payloads->slots;
  uint32_t slot = payloads->sorted[low - 1];
  return (uint64_t)(at - payloads->addresses[slot]) < payloads->size ? slot : payloads->slots;
}

/* Later generations of buffers: fetched when a message is met, or to be sent, that lies in one that is not mapped.
 *
 * Invariants:
 *   - What lies in a generation's slots counts as its user, and a generation with users stays mapped.
 *   - Besides those only the two newest stay: messages in an older one may still come, but not for long.
 * Threads: that of the handle; the answers are consumed under the client's lock. */
#include "generations.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "shm/layout.h"
#include "split.h"

enum { KEPT_UNUSED = 2 };

uint8_t *slc__generation_slot(const struct slc__generation *generation, uint32_t slot) {
  if (generation->payloads != NULL) return generation->payloads->addresses[slot];
  uint64_t stride = slc__layout_payload_stride(generation->slot_size);
  return (uint8_t *)generation->mapping.base + SLC__BUFFERS_FIRST + stride * slot;
}

struct slc__generation *slc__generations_find(const struct slc__generations *generations, uint32_t number) {
  for (uint32_t i = generations->count; i-- > 0;) {
    if (generations->list[i].number == number) return &generations->list[i];
  }
  return NULL;
}

struct slc__generation *slc__generations_newest(const struct slc__generations *generations) {
  return generations->count == 0 ? NULL : &generations->list[generations->count - 1];
}

/* ---- one more, fewer old ones ----------------------------------------------------------------------------------- */

static void generation_unmap(struct slc__generation *generation) {
  slc__mapping_deinit(&generation->mapping);
  slc__payloads_free(generation->payloads);
  generation->payloads = NULL;
}

static void drop_unused(struct slc__generations *generations) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < generations->count; i++) {
    struct slc__generation *generation = &generations->list[i];
    if (generation->users == 0 && i + KEPT_UNUSED < generations->count) {
      generation_unmap(generation);
    } else {
      generations->list[kept++] = *generation;
    }
  }
  generations->count = kept;
}

/* There is room for one more. */
static void insert(struct slc__generations *generations, const struct slc__generation *fresh) {
  uint32_t at = generations->count++;
  for (; at > 0 && generations->list[at - 1].number > fresh->number; at--)
    generations->list[at] = generations->list[at - 1];
  generations->list[at] = *fresh;
}

static int reserve(struct slc__generations *generations) {
  struct slc__generation *list = reallocarray(generations->list, generations->count + 1, sizeof *list);
  if (list == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for one more generation of buffers");
  generations->list = list;
  return 0;
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

struct wanted {
  struct slc__generations *generations;
  const struct slc__geometry *shape;
  struct slc__memory memory;
  enum slc__access access;
  struct slc__payload_page *page; /* of a split channel */
};

static int size_check(const Slotcast__Generation *answer, const struct slc__geometry *shape) {
  if (answer->slot_size > shape->slot_size && answer->slot_size <= SLC__SLOT_SIZE_MAX) return 0;
  return slc__fail(SLC_PROTOCOL, "the broker says that generation %u has slots of %ju bytes, after some of %ju",
                   answer->number, (uintmax_t)answer->slot_size, (uintmax_t)shape->slot_size);
}

static int generation_receive(const struct wanted *wanted, struct slc__received *received) {
  const Slotcast__Generation *answer = received->message->generation;
  struct slc__generation fresh = {.number = answer->number, .slot_size = answer->slot_size};
  received->memory = wanted->memory;
  int status = size_check(answer, wanted->shape);
  if (status == 0) status = reserve(wanted->generations);
  if (status == 0)
    status = slc__received_map(received, SLC__OBJECT_PAYLOADS, wanted->access,
                               slc__layout_payloads_size(wanted->shape, answer->slot_size), &fresh.mapping);
  if (status == 0) status = slc__received_finish(received);
  if (status != 0) {
    slc__mapping_deinit(&fresh.mapping);
    return status;
  }
  if (slc__generations_find(wanted->generations, fresh.number) != NULL) {
    slc__mapping_deinit(&fresh.mapping);
  } else {
    insert(wanted->generations, &fresh);
  }
  return 0;
}

static int answered(void *ctx, struct slc__received *received) {
  struct wanted *wanted = ctx;
  if (wanted->page != NULL)
    return slc__payload_page_receive(wanted->page, received, wanted->shape->slots, wanted->access);
  if (received->message->body_case != SLOTCAST__MESSAGE__BODY_GENERATION) return slc__answer_unexpected(received);
  if (received->message->generation->number <= 1) return slc__received_finish(received);
  return generation_receive(wanted, received);
}

/* Of a split channel the answer is the first page. */
static int split_obtain(struct wanted *wanted, slc_client *client, uint64_t user) {
  struct slc__payload_page *page = wanted->page;
  const struct slc__geometry *shape = wanted->shape;
  if (page->generation == 0 || page->slot_size < shape->slot_size || page->slot_size > SLC__SLOT_SIZE_MAX)
    return slc__fail(SLC_PROTOCOL, "the broker says that generation %u has slots of %ju bytes", page->generation,
                     (uintmax_t)page->slot_size);
  if (slc__generations_find(wanted->generations, page->generation) != NULL) return 0;
  int status = reserve(wanted->generations);
  if (status != 0) return status;
  struct slc__generation fresh = {
      .number = page->generation,
      .slot_size = page->slot_size,
      .payloads = slc__payloads_new(shape->slots, page->slot_size, wanted->memory, wanted->access,
                                    wanted->generations->allocator),
  };
  if (fresh.payloads == NULL) return SLC_NO_MEMORY;
  struct slc__completion completion = {
      .client = client, .user = user, .generation = fresh.number, .payloads = fresh.payloads};
  status = slc__split_complete(&completion, page);
  if (status != 0) {
    slc__payloads_free(fresh.payloads);
    return status;
  }
  insert(wanted->generations, &fresh);
  return 0;
}

static int ask(struct wanted *wanted, slc_client *client, uint64_t user, Slotcast__Message *message) {
  if (!wanted->generations->is_pinned) drop_unused(wanted->generations); /* before: what comes may be an old one */
  if (wanted->shape->split == 0) return slc__request(client, message, -1, answered, wanted);
  wanted->page = slc__payload_page_new();
  if (wanted->page == NULL) return SLC_NO_MEMORY;
  int status = slc__request(client, message, -1, answered, wanted);
  if (status == 0) status = split_obtain(wanted, client, user);
  slc__payload_page_free(wanted->page);
  return status;
}

int slc__generations_fetch(struct slc__generations *generations, slc_client *client, uint64_t user,
                           const struct slc__geometry *shape, struct slc__memory memory, enum slc__access access,
                           uint32_t number) {
  struct wanted wanted = {.generations = generations, .shape = shape, .memory = memory, .access = access};
  Slotcast__FetchGeneration body = SLOTCAST__FETCH_GENERATION__INIT;
  body.user = user;
  body.number = number;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_FETCH_GENERATION;
  message.fetch_generation = &body;
  return ask(&wanted, client, user, &message);
}

int slc__generations_grow(struct slc__generations *generations, slc_client *client, uint64_t user,
                          const struct slc__geometry *shape, struct slc__memory memory, uint64_t wanted_size,
                          uint64_t slot_size) {
  struct wanted wanted = {.generations = generations, .shape = shape, .memory = memory, .access = SLC__READ_WRITE};
  Slotcast__Grow body = SLOTCAST__GROW__INIT;
  body.user = user;
  body.wanted = wanted_size;
  body.slot_size = slot_size;
  const struct slc__allocator *allocator = generations->allocator;
  if (allocator != NULL && allocator->allocate == NULL) body.slots_per_object = allocator->slots_per_object;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_GROW;
  message.grow = &body;
  return ask(&wanted, client, user, &message);
}

/* ---- payloads by address and by handle -------------------------------------------------------------------------- */

static slc_payload_info info_of(const struct slc__generation *generation, uint32_t slot) {
  return (slc_payload_info){
      .handle = generation->payloads->handles[slot],
      .address = generation->payloads->addresses[slot],
      .size = generation->slot_size,
      .generation = generation->number,
      .slot = slot,
  };
}

int slc__generations_payload(const struct slc__generations *generations, const void *address,
                             slc_payload_info *ret_info) {
  for (uint32_t i = generations->count; i-- > 0;) {
    const struct slc__generation *generation = &generations->list[i];
    if (generation->payloads == NULL) continue;
    uint32_t slot = slc__payloads_find(generation->payloads, address);
    if (slot == generation->payloads->slots) continue;
    *ret_info = info_of(generation, slot);
    return 0;
  }
  return slc__fail(SLC_NOT_FOUND, "no payload of this channel lies there: is it split?");
}

void slc__generations_payloads(const struct slc__generations *generations, slc_payload_info *ret_infos, size_t max,
                               size_t *ret_count) {
  size_t count = 0;
  for (uint32_t i = 0; i < generations->count; i++) {
    const struct slc__generation *generation = &generations->list[i];
    for (uint32_t slot = 0; generation->payloads != NULL && slot < generation->payloads->slots; slot++, count++) {
      if (count < max) ret_infos[count] = info_of(generation, slot);
    }
  }
  *ret_count = count;
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

void slc__generations_deinit(struct slc__generations *generations) {
  for (uint32_t i = 0; i < generations->count; i++) generation_unmap(&generations->list[i]);
  slc__generations_forget(generations);
}

void slc__generations_forget(struct slc__generations *generations) {
  for (uint32_t i = 0; i < generations->count; i++) slc__payloads_forget(generations->list[i].payloads);
  free(generations->list);
  *generations = (struct slc__generations){0};
}

/* Registration, first one wins: whoever needs a generation that is not complete offers memory for the slots that have
 * none, page by page, and takes over what others have registered meanwhile.  Where memory has names, whoever gives an
 * object its name first has won, and the others open it: the broker is told when all are there.
 *
 * Invariants:
 *   - Each allocation of the application's is given back exactly once, as soon as it is known whose the slot is.
 *   - What fails leaves the generation to the others: they go on with it, or, when there are none, the broker forgets
 *     it.
 * Threads: that of the handle; answers are read under the client's lock. */
#include "split.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"

static void page_drop(struct slc__payload_page **page) {
  slc__payload_page_free(*page);
}
#define CLEANUP_PAGE SLC__CLEANUP(page_drop)

/* ---- what the broker says --------------------------------------------------------------------------------------- */

struct answer {
  const struct slc__completion *completion;
  struct slc__payload_page *page;
};

static int answered(void *ctx, struct slc__received *received) {
  struct answer *answer = ctx;
  const struct slc__payloads *payloads = answer->completion->payloads;
  int status = slc__payload_page_receive(answer->page, received, payloads->slots, payloads->access);
  if (status != 0 || answer->page->generation == answer->completion->generation) return status;
  return slc__fail(SLC_PROTOCOL, "the broker told of generation %u and not %u", answer->page->generation,
                   answer->completion->generation);
}

/* ---- fetching --------------------------------------------------------------------------------------------------- */

static int fetch_page(struct slc__completion *completion, uint32_t first, uint32_t *ret_next) {
  CLEANUP_PAGE struct slc__payload_page *page = slc__payload_page_new();
  if (page == NULL) return SLC_NO_MEMORY;
  struct answer answer = {.completion = completion, .page = page};
  Slotcast__FetchGeneration body = SLOTCAST__FETCH_GENERATION__INIT;
  body.user = completion->user;
  body.number = completion->generation;
  body.first = first;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_FETCH_GENERATION;
  message.fetch_generation = &body;
  int status = slc__request(completion->client, &message, -1, answered, &answer);
  if (status == 0) status = slc__payloads_map(completion->payloads, page, page->count);
  if (status != 0) return status;
  if (page->next != 0 && page->next <= first)
    return slc__fail(SLC_PROTOCOL, "the broker's pages of payloads do not lead on");
  completion->registered = page->registered;
  *ret_next = page->next;
  return 0;
}

/* Everything that is registered from slot `first` on. */
static int fetch_from(struct slc__completion *completion, uint32_t first) {
  int status;
  do status = fetch_page(completion, first, &first);
  while (status == 0 && first != 0);
  return status;
}

/* ---- allocating ------------------------------------------------------------------------------------------------- */

/* The place of a descriptor among those of the page; most often the last. */
static size_t descriptor_find(const struct slc__payload_page *page, int fd) {
  size_t i = page->fds.count;
  while (i > 0 && page->fds.fd[i - 1] != fd) i--;
  return i == 0 ? page->fds.count : i - 1;
}

static int descriptor_add(struct slc__payload_page *page, int fd, size_t *ret_index) {
  size_t index = descriptor_find(page, fd);
  if (index == page->fds.count) {
    int status = slc__payload_look(fd, &page->files[index]);
    if (status != 0) return status;
    page->fds.fd[page->fds.count++] = fd;
  }
  *ret_index = index;
  return 0;
}

static void entry_add(struct slc__payload_page *page, const slc_payload *payload, size_t descriptor) {
  page->entries[page->count++] = (struct slc__payload_entry){
      .slot = payload->slot, .descriptor = (uint32_t)descriptor, .offset = payload->offset, .handle = payload->handle};
}

static int allocate_by_callback(const struct slc__completion *completion, uint32_t slot,
                                struct slc__payload_page *page) {
  const struct slc__allocator *allocator = completion->payloads->allocator;
  slc_payload payload = {.fd = -1};
  if (allocator->allocate(allocator->ctx, completion->generation, slot, completion->payloads->size, &payload) != 0)
    return slc__fail(SLC_REFUSED, "allocate_payload gave no memory for slot %u of %u, %ju bytes", slot,
                     completion->payloads->slots, (uintmax_t)completion->payloads->size);
  payload.slot = slot;
  size_t descriptor = 0;
  int status =
      payload.offset % SLC__PAYLOAD_ALIGN == 0
          ? descriptor_add(page, payload.fd, &descriptor)
          : slc__fail(SLC_INVALID, "allocate_payload gave an offset that is not a multiple of %d", SLC__PAYLOAD_ALIGN);
  if (status == 0)
    entry_add(page, &payload, descriptor);
  else if (allocator->release != NULL)
    allocator->release(allocator->ctx, &payload, 0);
  return status;
}

/* One object for a row of slots. */
static int allocate_object(const struct slc__completion *completion, uint32_t slot, struct slc__payload_page *page) {
  const struct slc__payloads *payloads = completion->payloads;
  uint32_t each = payloads->allocator->slots_per_object, first = slot / each * each;
  bool is_open = page->count > 0 && page->entries[page->count - 1].slot >= first;
  if (!is_open) {
    uint32_t count = payloads->slots - first < each ? payloads->slots - first : each;
    int fd = -1;
    int status = slc__payload_create(payloads->memory, payloads->size * count, &fd);
    if (status != 0) return status;
    page->fds.fd[page->fds.count] = fd;
    status = slc__payload_look(fd, &page->files[page->fds.count++]);
    if (status != 0) return status;
  }
  const slc_payload payload = {.slot = slot, .offset = payloads->size * (slot - first)};
  entry_add(page, &payload, page->fds.count - 1);
  return 0;
}

/* As much as one message takes of the slots that have no memory.  What there is of it on failure is the caller's, too.
 */
static int page_fill(const struct slc__completion *completion, struct slc__payload_page *page) {
  const struct slc__payloads *payloads = completion->payloads;
  bool has_callback = payloads->allocator->allocate != NULL;
  page->is_borrowed = has_callback;
  /* As many as one page takes, and as many as the answer may bring. */
  bool is_roomy = slc__net_descriptors_free(2 * (SLC__NET_DESCRIPTORS_MAX + 1));
  uint32_t slot = slc__payloads_missing(payloads, 0);
  for (; slot < payloads->slots; slot = slc__payloads_missing(payloads, slot + 1)) {
    if (page->count == SLC__PAYLOADS_PAGE || page->fds.count == SLC__NET_DESCRIPTORS_MAX) break;
    /* With less room there are more pages. */
    if (!is_roomy && !slc__net_descriptors_free(SLC__NET_DESCRIPTORS_MAX + 2)) {
      if (page->count > 0) break;
      return slc__fail(SLC_NO_DESCRIPTORS, "to register payloads takes up to %d free descriptors: raise the limit",
                       SLC__NET_DESCRIPTORS_MAX + 2);
    }
    int status = has_callback ? allocate_by_callback(completion, slot, page) : allocate_object(completion, slot, page);
    if (status != 0) return status;
  }
  return 0;
}

/* Those that the registration has won are the channel's.  Where it isn't known, they may be. */
static void page_release(const struct slc__completion *completion, const struct slc__payload_page *page,
                         const bool *is_kept) {
  const struct slc__allocator *allocator = completion->payloads->allocator;
  if (allocator->allocate == NULL || allocator->release == NULL) return;
  for (size_t i = 0; i < page->count; i++) {
    const struct slc__payload_entry *entry = &page->entries[i];
    const slc_payload payload = {
        .fd = page->fds.fd[entry->descriptor], .slot = entry->slot, .offset = entry->offset, .handle = entry->handle};
    allocator->release(allocator->ctx, &payload, is_kept[i]);
  }
}

/* ---- registering ------------------------------------------------------------------------------------------------ */

/* The message's parts, for as long as it is sent. */
struct registration {
  Slotcast__Payload entries[SLC__PAYLOADS_PAGE];
  Slotcast__Payload *list[SLC__PAYLOADS_PAGE];
  Slotcast__Descriptor descriptors[SLC__NET_DESCRIPTORS_MAX];
  Slotcast__Descriptor *manifest[SLC__NET_DESCRIPTORS_MAX];
  bool is_kept[SLC__PAYLOADS_PAGE];
};

static void registration_fill(struct registration *registration, const struct slc__payload_page *page) {
  for (size_t i = 0; i < page->count; i++) {
    Slotcast__Payload *entry = registration->list[i] = &registration->entries[i];
    slotcast__payload__init(entry);
    entry->slot = page->entries[i].slot;
    entry->descriptor = page->entries[i].descriptor;
    entry->offset = page->entries[i].offset;
    entry->handle = page->entries[i].handle;
  }
  for (size_t i = 0; i < page->fds.count; i++) {
    Slotcast__Descriptor *descriptor = registration->manifest[i] = &registration->descriptors[i];
    slotcast__descriptor__init(descriptor);
    descriptor->kind = SLOTCAST__DESCRIPTOR_KIND__MEMORY;
    descriptor->size = page->files[i].size;
    descriptor->writable = 1;
  }
}

static int page_register(const struct slc__completion *completion, const struct slc__payload_page *page,
                         struct registration *registration, struct slc__payload_page *ret_answer,
                         bool *ret_is_repeated) {
  struct answer answer = {.completion = completion, .page = ret_answer};
  registration_fill(registration, page);
  Slotcast__RegisterPayloads body = SLOTCAST__REGISTER_PAYLOADS__INIT;
  body.user = completion->user;
  body.generation = completion->generation;
  body.external = page->is_borrowed;
  body.payloads = registration->list;
  body.n_payloads = page->count;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.descriptors = registration->manifest;
  message.n_descriptors = page->fds.count;
  message.body_case = SLOTCAST__MESSAGE__BODY_REGISTER_PAYLOADS;
  message.register_payloads = &body;
  int status = slc__request_with(completion->client, &message, page->fds.fd, page->fds.count, answered, &answer,
                                 ret_is_repeated);
  if (status != 0) return status;
  if (ret_answer->handled > 0 && ret_answer->handled <= page->count) return 0;
  return slc__fail(SLC_PROTOCOL, "the broker registered %u payloads of %zu", ret_answer->handled, page->count);
}

/* Whether the broker may have registered what it has not confirmed. */
static bool is_open(int status, bool is_repeated) {
  return is_repeated || status == SLC_TIMED_OUT || status == SLC_BROKER_GONE || status == SLC_PROTOCOL ||
         status == SLC_NO_DESCRIPTORS;
}

/* Maps what others have registered, then what was ours to register. */
static int page_adopt(struct slc__completion *completion, const struct slc__payload_page *own,
                      const struct slc__payload_page *answer, bool *is_kept) {
  struct slc__payloads *payloads = completion->payloads;
  for (size_t i = 0; i < answer->handled; i++) is_kept[i] = true;
  for (size_t i = 0, lost = 0; i < answer->handled && lost < answer->count; i++) {
    if (answer->entries[lost].slot != own->entries[i].slot) continue; /* both are in the order of slots */
    is_kept[i] = false;
    lost++;
  }
  completion->registered = answer->registered;
  int status = slc__payloads_map(payloads, answer, answer->count);
  return status != 0 ? status : slc__payloads_map(payloads, own, answer->handled);
}

static int register_some(struct slc__completion *completion) {
  CLEANUP_PAGE struct slc__payload_page *own = slc__payload_page_new();
  CLEANUP_PAGE struct slc__payload_page *answer = slc__payload_page_new();
  SLC__CLEANUP_FREE struct registration *registration = malloc(sizeof *registration);
  if (own == NULL || answer == NULL || registration == NULL)
    return slc__fail(SLC_NO_MEMORY, "no memory to register payloads");
  memset(registration->is_kept, 0, sizeof registration->is_kept);
  int status = page_fill(completion, own);
  if (status == 0) {
    bool is_repeated = false;
    status = page_register(completion, own, registration, answer, &is_repeated);
    if (status == 0)
      status = page_adopt(completion, own, answer, registration->is_kept);
    else if (is_open(status, is_repeated))
      memset(registration->is_kept, 1, sizeof registration->is_kept);
  }
  page_release(completion, own, registration->is_kept);
  return status;
}

/* ---- with names ------------------------------------------------------------------------------------------------- */

/* The slots [first, first + count) are what the page's one descriptor holds. */
static int object_map(struct slc__payloads *payloads, struct slc__payload_page *page, uint32_t first, uint32_t count) {
  int status = slc__payload_look(page->fds.fd[0], &page->files[0]);
  for (uint32_t done = 0; status == 0 && done < count; done += (uint32_t)page->count) {
    page->count = count - done < SLC__PAYLOADS_PAGE ? count - done : SLC__PAYLOADS_PAGE;
    for (uint32_t i = 0; i < page->count; i++)
      page->entries[i] = (struct slc__payload_entry){.slot = first + done + i, .offset = payloads->size * (done + i)};
    status = slc__payloads_map(payloads, page, page->count);
  }
  return status;
}

/* Each object is opened, or made where a publisher comes first, and mapped: no message to the broker. */
static int objects_map(const struct slc__completion *completion, const struct slc__payload_page *first) {
  struct slc__payloads *payloads = completion->payloads;
  bool may_create = payloads->allocator != NULL && first->registered < payloads->slots;
  uint32_t each = first->slots_per_object;
  CLEANUP_PAGE struct slc__payload_page *page = slc__payload_page_new();
  if (page == NULL) return SLC_NO_MEMORY;
  int status = 0;
  for (uint32_t slot = 0; status == 0 && slot < payloads->slots; slot += each) {
    uint32_t count = payloads->slots - slot < each ? payloads->slots - slot : each;
    status = slc__payload_open_named(payloads->memory, payloads->size * count, first->fds.fd[0], slot / each,
                                     payloads->access, may_create, &page->fds.fd[0]);
    if (status != 0) return status;
    page->fds.count = 1;
    status = object_map(payloads, page, slot, count);
    slc__fds_deinit(&page->fds);
  }
  return status;
}

/* Every object is there: from now on the generation is everybody's.  Says so once, however many slots it has. */
static int announce(struct slc__completion *completion) {
  CLEANUP_PAGE struct slc__payload_page *page = slc__payload_page_new();
  if (page == NULL) return SLC_NO_MEMORY;
  struct answer answer = {.completion = completion, .page = page};
  Slotcast__RegisterPayloads body = SLOTCAST__REGISTER_PAYLOADS__INIT;
  body.user = completion->user;
  body.generation = completion->generation;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_REGISTER_PAYLOADS;
  message.register_payloads = &body;
  int status = slc__request(completion->client, &message, -1, answered, &answer);
  if (status != 0 || page->registered == completion->payloads->slots) return status;
  return slc__fail(SLC_PROTOCOL, "the broker has not seen that all payloads are there");
}

static int complete_named(struct slc__completion *completion, const struct slc__payload_page *first) {
  if (first->slots_per_object > completion->payloads->slots)
    return slc__fail(SLC_PROTOCOL, "the broker told of objects of %u slots", first->slots_per_object);
  int status = objects_map(completion, first);
  if (status != 0 || first->registered == completion->payloads->slots) return status;
  if (completion->payloads->allocator != NULL) return announce(completion);
  return slc__fail(SLC_PROTOCOL, "the broker showed a subscriber payloads that are not complete");
}

/* ---- completing ------------------------------------------------------------------------------------------------- */

/* Each round maps at least one slot more, or the broker is not to be trusted. */
static int round_of(struct slc__completion *completion) {
  struct slc__payloads *payloads = completion->payloads;
  uint32_t before = payloads->mapped;
  int status;
  if (completion->registered > before)
    status = fetch_from(completion, slc__payloads_missing(payloads, 0));
  else if (payloads->allocator != NULL)
    status = register_some(completion);
  else
    status = slc__fail(SLC_PROTOCOL, "the broker showed a subscriber payloads that are not complete");
  if (status != 0 || payloads->mapped > before) return status;
  return slc__fail(SLC_PROTOCOL, "the broker told of no more payloads than before");
}

/* The sentence of the failure stays. */
static void abandon(const struct slc__completion *completion, int status) {
  SLC__CLEANUP_FREE char *detail = strdup(slc__error_detail());
  Slotcast__AbandonGeneration body = SLOTCAST__ABANDON_GENERATION__INIT;
  body.user = completion->user;
  body.generation = completion->generation;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_ABANDON_GENERATION;
  message.abandon_generation = &body;
  slc__request_done(completion->client, &message, -1);
  slc__error_set(status, "%s", detail != NULL ? detail : slc__status_text(status));
}

static int complete_registered(struct slc__completion *completion, struct slc__payload_page *first) {
  struct slc__payloads *payloads = completion->payloads;
  int status = slc__payloads_map(payloads, first, first->count);
  slc__fds_deinit(&first->fds); /* the next page needs as many */
  if (status == 0 && first->next != 0) status = fetch_from(completion, first->next);
  while (status == 0 && payloads->mapped < payloads->slots) status = round_of(completion);
  return status;
}

int slc__split_complete(struct slc__completion *completion, struct slc__payload_page *first) {
  struct slc__payloads *payloads = completion->payloads;
  completion->registered = first->registered;
  int status =
      first->slots_per_object != 0 ? complete_named(completion, first) : complete_registered(completion, first);
  if (status == 0) status = slc__payloads_sort(payloads);
  bool is_over = status == SLC_GONE || status == SLC_BROKER_GONE || status == SLC_TIMED_OUT;
  if (status != 0 && payloads->allocator != NULL && !is_over) abandon(completion, status);
  return status;
}

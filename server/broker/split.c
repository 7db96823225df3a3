/* Split channels: each slot's payload lies in memory that a publisher has registered, the first one for each slot.
 *
 * A generation is pending until every slot has memory, and nobody's to use until then: so what fails half-way harms
 * nobody.  Whoever asks for slots of that size completes it; when nobody works at it any more it goes.
 *
 * Invariants:
 *   - A message registers whole entries or none: descriptors, charge and records are there before the first is changed.
 *   - What can't be sealed is shown to processes of the uid that registered it only.
 *   - A generation has registered memory or names (names.c), as its first publisher would allocate; never both.
 *   - Subscribers get read-only descriptors, or where the kernel can't make one (a DMA-BUF), and the uid is the same,
 *     the one that was registered.
 * Thread: the loop's. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/split.h"
#include "shm/payload.h"

enum {
  ENTRIES_MAX = 2000,                             /* of one message: 36 bytes each at most */
  KEPT_FREE = 2 * (SLC__NET_DESCRIPTORS_MAX + 1), /* descriptors that registered ones never use up */
};

/* ---- life ---- */

static bool has_names(const struct split *split) {
  return split->names.directory >= 0;
}

int split_new(struct broker *broker, struct channel *channel, struct generation *generation,
              uint32_t slots_per_object) {
  struct split *split = calloc(1, sizeof *split);
  if (split != NULL) split->slots = calloc(channel->geometry.slots, sizeof *split->slots);
  int status = SLC_OK;
  if (split == NULL || split->slots == NULL) {
    status = slc__fail(SLC_NO_MEMORY, "no memory for the %u payloads of %s", channel->geometry.slots, channel->name);
  } else {
    split->broker = broker;
    split->names.directory = -1;
    if (names_are_for(channel, slots_per_object))
      status = names_make(broker, channel, generation, slots_per_object, &split->names);
  }
  if (status == SLC_OK) {
    generation->split = split;
  } else {
    if (split != NULL) free(split->slots);
    free(split);
  }
  return status;
}

/* What is not the library's own may need more than a closed descriptor to be freed. */
static void tell_helper(const struct channel *channel, const struct split *split, const struct generation *generation) {
  SLC__CLEANUP_FREE char *lines = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&lines, &size);
  if (out == NULL) return;
  for (uint32_t slot = 0; slot < channel->geometry.slots; slot++) {
    const struct payload *payload = &split->slots[slot];
    if (payload->file == 0 || !split->files[payload->file - 1].is_external) continue;
    fprintf(out, "%" PRIu32 " 0x%016" PRIx64 " %" PRIu64 " %" PRIu64 "\n", slot, payload->handle, payload->offset,
            generation->slot_size);
  }
  if (fclose(out) == 0 && size > 0) helper_run(split->broker, channel->name, generation->number, lines, size);
}

void split_free(struct channel *channel, struct generation *generation) {
  struct split *split = generation->split;
  if (split == NULL) return;
  if (split->broker->options.free_helper != NULL && !channel->is_lost && !is_left_to_successor(split->broker))
    tell_helper(channel, split, generation);
  for (uint32_t i = 0; i < split->file_count; i++) slc__fd_close(&split->files[i].fd);
  discharge(channel->account, LIMIT_descriptors, split_descriptors(split));
  names_free(channel, &split->names);
  free(split->files);
  free(split->slots);
  free(split);
  generation->split = NULL;
}

bool split_is_complete(const struct channel *channel, const struct split *split) {
  return split->registered == channel->geometry.slots;
}

uint32_t split_descriptors(const struct split *split) {
  return split == NULL ? 0 : split->file_count + (has_names(split) ? 1 : 0);
}

/* ---- telling ---- */

/* A page being composed: which of the generation's files has which place in the manifest. */
struct page {
  struct outgoing outgoing;
  Slotcast__Payloads body;
  Slotcast__Payload entries[ENTRIES_MAX];
  Slotcast__Payload *list[ENTRIES_MAX];
  uint32_t files[OUTGOING_MAX];
};

static struct page *page_begin(const struct generation *generation, uint64_t serial) {
  static struct page page; /* one at a time: too large for a stack */
  outgoing_init(&page.outgoing, serial);
  slotcast__payloads__init(&page.body);
  page.body.generation = generation->number;
  page.body.slot_size = generation->slot_size;
  page.body.payloads = page.list;
  page.outgoing.message.body_case = SLOTCAST__MESSAGE__BODY_PAYLOADS;
  page.outgoing.message.payloads = &page.body;
  return &page;
}

static int check_trust(const struct user *user, const struct memory_file *file) {
  if (file->is_sealed || file->uid == user->process->peer.uid) return SLC_OK;
  return slc__fail(SLC_DENIED,
                   "payloads of %s lie in memory of user %u that is not sealed, which is for that user's processes "
                   "only: register sealed memfds to share with others",
                   user->channel->name, file->uid);
}

/* A descriptor for a subscriber. */
static int add_for_reading(struct outgoing *outgoing, const struct user *user, const struct memory_file *file) {
  Slotcast__DescriptorKind kind = SLOTCAST__DESCRIPTOR_KIND__MEMORY;
  int status = outgoing_add_read_only(outgoing, kind, file->fd, file->size);
  if (status != SLC_SYSTEM && status != SLC_DENIED) return status;
  if (file->uid != user->process->peer.uid) return status;
  return outgoing_add(outgoing, kind, file->fd, file->size, true);
}

/* The file's place in the manifest, where it is added unless it is there; SLC__NET_AGAIN: there is no room. */
static int page_add_file(struct page *page, const struct user *user, const struct split *split, uint32_t file,
                         uint32_t *ret_index) {
  size_t count = page->outgoing.count;
  for (size_t i = count; i-- > 0;) { /* almost always the last */
    if (page->files[i] != file) continue;
    *ret_index = (uint32_t)i;
    return SLC_OK;
  }
  if (count == OUTGOING_MAX) return SLC__NET_AGAIN;
  const struct memory_file *found = &split->files[file];
  int status = check_trust(user, found);
  if (status == SLC_OK)
    status = user->is_publisher
                 ? outgoing_add(&page->outgoing, SLOTCAST__DESCRIPTOR_KIND__MEMORY, found->fd, found->size, true)
                 : add_for_reading(&page->outgoing, user, found);
  if (status != SLC_OK) return status;
  page->files[count] = file;
  *ret_index = (uint32_t)count;
  return SLC_OK;
}

static int page_add(struct page *page, const struct user *user, const struct split *split, uint32_t slot) {
  const struct payload *payload = &split->slots[slot];
  if (page->body.n_payloads == ENTRIES_MAX) return SLC__NET_AGAIN;
  uint32_t index = 0;
  int status = page_add_file(page, user, split, payload->file - 1, &index);
  if (status != SLC_OK) return status;
  Slotcast__Payload *entry = &page->entries[page->body.n_payloads];
  slotcast__payload__init(entry);
  entry->slot = slot;
  entry->descriptor = index;
  entry->offset = payload->offset;
  entry->handle = payload->handle;
  page->list[page->body.n_payloads++] = entry;
  return SLC_OK;
}

static int page_send(struct page *page, const struct user *user, const struct split *split) {
  page->body.registered = split->registered;
  int status = outgoing_send(&page->outgoing, user->client);
  outgoing_deinit(&page->outgoing);
  return status;
}

static int send_names(const struct user *user, uint64_t serial, const struct generation *generation) {
  const struct split *split = generation->split;
  struct page *page = page_begin(generation, serial);
  page->body.slots_per_object = split->names.slots_per_object;
  int status = outgoing_add(&page->outgoing, SLOTCAST__DESCRIPTOR_KIND__DIRECTORY, split->names.directory, 0, false);
  return status == SLC_OK ? page_send(page, user, split) : status;
}

int send_payloads(struct user *user, uint64_t serial, const struct generation *generation, uint32_t first) {
  const struct split *split = generation->split;
  if (has_names(split)) return send_names(user, serial, generation);
  struct page *page = page_begin(generation, serial);
  int status = SLC_OK;
  for (uint32_t slot = first; status == SLC_OK && slot < user->channel->geometry.slots; slot++) {
    if (split->slots[slot].file == 0) continue;
    status = page_add(page, user, split, slot);
    if (status == SLC__NET_AGAIN) page->body.next = slot; /* not 0: at least one is on this page */
  }
  if (status < 0) {
    outgoing_deinit(&page->outgoing);
    return status;
  }
  return page_send(page, user, split);
}

/* ---- registering ---- */

struct registration {
  struct user *user;
  const Slotcast__RegisterPayloads *request;
  const Slotcast__Message *message;
  struct slc__fds *fds;
  struct generation *generation;
  struct slc__payload_file files[SLC__NET_DESCRIPTORS_MAX];
  bool is_used[SLC__NET_DESCRIPTORS_MAX]; /* by a slot that it is the first for */
  uint32_t place[SLC__NET_DESCRIPTORS_MAX];
  size_t handled;
  bool is_applied;
};

/* What no honest library sends. */
static int check_form(const struct registration *of) {
  uint32_t after = 0;
  for (size_t i = 0; i < of->message->n_descriptors; i++) {
    if (of->message->descriptors[i]->kind != SLOTCAST__DESCRIPTOR_KIND__MEMORY)
      return slc__fail(SLC_PROTOCOL, "it registered what is not memory");
  }
  for (size_t i = 0; i < of->request->n_payloads; i++) {
    const Slotcast__Payload *entry = of->request->payloads[i];
    if (entry->slot < after || entry->slot >= of->user->channel->geometry.slots ||
        entry->descriptor >= of->message->n_descriptors)
      return slc__fail(SLC_PROTOCOL, "it registered memory for slots out of order, or that are not there");
    after = entry->slot + 1;
  }
  if (of->request->n_payloads > ENTRIES_MAX || (of->request->n_payloads == 0) != (of->message->n_descriptors == 0))
    return slc__fail(SLC_PROTOCOL, "it registered memory for %zu slots", of->request->n_payloads);
  return SLC_OK;
}

static int look_at_files(struct registration *of) {
  if (!slc__net_descriptors_free(KEPT_FREE))
    return slc__fail(SLC_LIMIT,
                     "the broker is short of descriptors for the payloads of %s: raise its "
                     "LimitNOFILE=, or give more slots to an object (slots_per_object)",
                     of->user->channel->name);
  for (size_t i = 0; i < of->fds->count; i++) {
    int status = slc__payload_look(of->fds->fd[i], &of->files[i]);
    if (status != SLC_OK) return status;
    if (!of->files[i].is_writable) return slc__fail(SLC_INVALID, "memory for payloads has to be writable");
  }
  return SLC_OK;
}

static int check_entries(const struct registration *of) {
  uint64_t size = slc__layout_payload_stride(of->generation->slot_size);
  for (size_t i = 0; i < of->request->n_payloads; i++) {
    const Slotcast__Payload *entry = of->request->payloads[i];
    uint64_t whole = of->files[entry->descriptor].size;
    if (entry->offset % SLC__PAYLOAD_ALIGN == 0 && size <= whole && entry->offset <= whole - size) continue;
    return slc__fail(SLC_INVALID,
                     "the payload of slot %u, %llu bytes at %llu, has to be aligned to %d bytes and within its memory "
                     "of %llu",
                     entry->slot, (unsigned long long)size, (unsigned long long)entry->offset, SLC__PAYLOAD_ALIGN,
                     (unsigned long long)whole);
  }
  return SLC_OK;
}

/* It was registered by this very request, whose answer was lost with its connection or its broker. */
static bool is_said_again(const struct registration *of, const Slotcast__Payload *entry) {
  const struct split *split = of->generation->split;
  const struct payload *payload = &split->slots[entry->slot];
  const struct memory_file *file = &split->files[payload->file - 1];
  const struct slc__payload_file *offered = &of->files[entry->descriptor];
  return file->user == of->user->id && file->device == offered->device && file->inode == offered->inode &&
         payload->offset == entry->offset && payload->handle == entry->handle;
}

/* Which entries are the first for their slots; the others' winners go on the page.  Where that has no room, the rest
 * waits for another message.  Changes nothing. */
static int decide(struct registration *of, struct page *page) {
  const struct split *split = of->generation->split;
  int status = SLC_OK;
  for (of->handled = 0; status == SLC_OK && of->handled < of->request->n_payloads;) {
    const Slotcast__Payload *entry = of->request->payloads[of->handled];
    bool is_first = split->slots[entry->slot].file == 0;
    if (!is_first && !is_said_again(of, entry)) status = page_add(page, of->user, split, entry->slot);
    if (status == SLC_OK && is_first) of->is_used[entry->descriptor] = true;
    if (status == SLC_OK) of->handled++;
  }
  return status == SLC__NET_AGAIN ? SLC_OK : status;
}

/* A pool that is named in one message after the other is paid for once. */
static bool is_last_file(const struct split *split, const struct slc__payload_file *file) {
  const struct memory_file *last = split->file_count > 0 ? &split->files[split->file_count - 1] : NULL;
  return last != NULL && last->device == file->device && last->inode == file->inode;
}

static int charge_files(const struct registration *of) {
  struct channel *channel = of->user->channel;
  struct broker *broker = of->generation->split->broker;
  uint64_t memory = 0;
  uint32_t count = 0;
  for (size_t i = 0; i < of->fds->count; i++) {
    if (!of->is_used[i]) continue;
    uint64_t size = is_last_file(of->generation->split, &of->files[i]) ? 0 : of->files[i].size;
    memory = size > UINT64_MAX - memory ? UINT64_MAX : memory + size;
    count++;
  }
  int status = charge(broker, channel->account, LIMIT_descriptors, count);
  if (status != SLC_OK) return status;
  status = charge(broker, channel->account, LIMIT_memory, memory);
  if (status != SLC_OK) {
    discharge(channel->account, LIMIT_descriptors, count);
    return status;
  }
  channel->memory += memory;
  of->generation->memory += memory;
  return SLC_OK;
}

static int reserve_files(const struct registration *of) {
  struct split *split = of->generation->split;
  size_t most = (size_t)split->file_count + of->fds->count + 1;
  struct memory_file *files = reallocarray(split->files, most, sizeof *files);
  if (files == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for the payloads of %s", of->user->channel->name);
  split->files = files;
  return SLC_OK;
}

/* Room and charge for the files that are used; then they are the generation's. */
static int take_files(struct registration *of) {
  struct split *split = of->generation->split;
  int status = reserve_files(of);
  if (status == SLC_OK) status = charge_files(of);
  if (status != SLC_OK) return status;
  for (size_t i = 0; i < of->fds->count; i++) {
    if (!of->is_used[i]) continue;
    split->files[split->file_count] = (struct memory_file){.fd = slc__fds_take(of->fds, i),
                                                           .size = of->files[i].size,
                                                           .device = of->files[i].device,
                                                           .inode = of->files[i].inode,
                                                           .uid = of->user->process->peer.uid,
                                                           .user = of->user->id,
                                                           .is_sealed = of->files[i].is_sealed,
                                                           .is_external = of->request->external};
    of->place[i] = ++split->file_count;
  }
  return SLC_OK;
}

static void apply(const struct registration *of) {
  struct split *split = of->generation->split;
  for (size_t i = 0; i < of->handled; i++) {
    const Slotcast__Payload *entry = of->request->payloads[i];
    struct payload *payload = &split->slots[entry->slot];
    if (payload->file != 0) continue;
    *payload = (struct payload){.file = of->place[entry->descriptor], .offset = entry->offset, .handle = entry->handle};
    split->registered++;
  }
}

static void settle_complete(const struct registration *of) {
  struct channel *channel = of->user->channel;
  const struct split *split = of->generation->split;
  if (of->generation == &channel->pending && split_is_complete(channel, split))
    generation_settle(split->broker, channel);
}

static int register_all(struct registration *of) {
  const struct split *split = of->generation->split;
  int status = look_at_files(of);
  if (status == SLC_OK) status = check_entries(of);
  if (status != SLC_OK) return status;
  struct page *page = page_begin(of->generation, of->message->serial);
  status = decide(of, page);
  if (status == SLC_OK) status = take_files(of);
  if (status != SLC_OK) {
    outgoing_deinit(&page->outgoing);
    return status;
  }
  apply(of);
  page->body.handled = (uint32_t)of->handled;
  settle_complete(of);
  status = page_send(page, of->user, split);
  of->is_applied = true;
  return status;
}

/* Publishers have made all of it, and say so. */
static int complete_names(struct registration *of) {
  struct split *split = of->generation->split;
  int status = names_check(of->user->channel, of->generation, &split->names);
  if (status != SLC_OK) return status;
  split->registered = of->user->channel->geometry.slots;
  struct page *page = page_begin(of->generation, of->message->serial);
  settle_complete(of);
  status = page_send(page, of->user, split);
  of->is_applied = true;
  return status;
}

int split_register(struct user *user, const Slotcast__Message *message, struct slc__fds *fds) {
  struct registration of = {.user = user, .request = message->register_payloads, .message = message, .fds = fds};
  int status = check_form(&of);
  if (status != SLC_OK) return status;
  of.generation = generation_find(user->channel, of.request->generation);
  if (of.generation == NULL) {
    status =
        slc__fail(SLC_GONE, "generation %u of %s's payloads is not there", of.request->generation, user->channel->name);
  } else if (has_names(of.generation->split) != (of.request->n_payloads == 0)) {
    return slc__fail(SLC_PROTOCOL, "it registered memory in another way than the generation's");
  } else {
    status = has_names(of.generation->split) ? complete_names(&of) : register_all(&of);
  }
  /* A registration that was made and can't be answered is no refusal: its memory is the channel's. */
  bool is_refused = status < 0 && !of.is_applied;
  return is_refused ? answer_refusal(user->client, message->serial, status) : status;
}

/* ---- rolling back ---- */

void split_leave(struct user *leaving) {
  struct channel *channel = leaving->channel;
  uint32_t pending = channel->pending.number;
  if (pending == 0 || leaving->completes != pending) return;
  leaving->completes = 0;
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->completes == pending) return;
  }
  generation_roll_back(channel);
}

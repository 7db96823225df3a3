/* Generations of split channels whose memory has names: the broker makes a directory, publishers make the objects in it
 * without asking (the first one to give an object its name wins, shm/payload.h), everybody opens them there.
 *
 * Only for channels in shm, whose users are all the broker's own: whoever else can't enter the directory.
 * Invariants:
 *   - A name means a whole object, so that a publisher that is killed in the middle leaves nothing to repair.
 *   - The broker keeps the directory and no object; it is paid for as if all were there from the beginning.
 * Thread: the loop's. */
#include "base/cleanup.h"
#include "base/error.h"
#include "broker/broker.h"
#include "shm/payload.h"

static uint64_t size_of(const struct generation *generation, uint32_t slots) {
  return slc__layout_payload_stride(generation->slot_size) * slots;
}

static uint32_t object_count(const struct channel *channel, uint32_t slots_per_object) {
  return (channel->geometry.slots - 1) / slots_per_object + 1;
}

static uint32_t slots_of_last(const struct channel *channel, uint32_t slots_per_object) {
  return (channel->geometry.slots - 1) % slots_per_object + 1;
}

bool names_are_for(const struct channel *channel, uint32_t slots_per_object) {
  return slots_per_object != 0 && channel->geometry.backend == SLC__BACKEND_SHM;
}

static uint64_t memory_of(const struct channel *channel, const struct generation *generation, uint32_t each) {
  uint32_t pages = channel->geometry.pages;
  uint64_t others = object_count(channel, each) - 1;
  return others * slc__payload_rounded(pages, size_of(generation, each)) +
         slc__payload_rounded(pages, size_of(generation, slots_of_last(channel, each)));
}

int names_make(struct broker *broker, struct channel *channel, struct generation *generation, uint32_t slots_per_object,
               struct names *ret_names) {
  uint32_t slots = channel->geometry.slots, each = slots_per_object < slots ? slots_per_object : slots;
  uint64_t memory = memory_of(channel, generation, each);
  struct names names = {.directory = -1, .slots_per_object = each};
  int status = charge(broker, channel->account, LIMIT_descriptors, 1);
  if (status != SLC_OK) return status;
  status = charge(broker, channel->account, LIMIT_memory, memory);
  if (status == SLC_OK) {
    status = channel_directory(broker, channel, &names.directory);
    if (status != SLC_OK) discharge(channel->account, LIMIT_memory, memory);
  }
  if (status != SLC_OK) {
    discharge(channel->account, LIMIT_descriptors, 1);
    return status;
  }
  channel->memory += memory;
  generation->memory += memory;
  *ret_names = names;
  return SLC_OK;
}

int names_restore(struct channel *channel, struct generation *generation, uint32_t slots_per_object, int *fd,
                  struct names *ret_names) {
  if (channel->geometry.backend != SLC__BACKEND_SHM || slots_per_object > channel->geometry.slots)
    return slc__fail(SLC_PROTOCOL, "its payloads can't have names");
  int status = slc__object_directory_check(*fd);
  if (status != SLC_OK) return status;
  uint64_t memory = memory_of(channel, generation, slots_per_object);
  charge_again(channel->account, LIMIT_descriptors, 1);
  charge_again(channel->account, LIMIT_memory, memory);
  channel->memory += memory;
  generation->memory += memory;
  *ret_names = (struct names){.directory = slc__fd_take(fd), .slots_per_object = slots_per_object};
  return SLC_OK;
}

void names_free(const struct channel *channel, struct names *names) {
  if (names->directory < 0) return;
  if (!is_left_to_successor(channel->broker)) slc__object_directory_remove(names->directory);
  slc__fd_close(&names->directory);
}

int names_check(const struct channel *channel, const struct generation *generation, const struct names *names) {
  uint32_t each = names->slots_per_object;
  return slc__payload_check_named(names->directory, channel->geometry.pages, object_count(channel, each),
                                  size_of(generation, each), size_of(generation, slots_of_last(channel, each)));
}

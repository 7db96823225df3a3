/* Virtual channels of a multiplexer: their names and ids.
 *
 * A virtual channel begins with its first user, and has an id from its first publisher on.  Then it stays, with its
 * ordinals, as long as its multiplexer; when all ids have been given, that of the one longest without users goes to the
 * next name.  Thread: the loop's. */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "broker/broker.h"
#include "proto/codec.h"
#include "shm/virtual.h"

/* ---- names ---- */

static int by_name(const void *a, const void *b) {
  return strcmp(((const struct virtual *)a)->name, ((const struct virtual *)b)->name);
}

struct virtual *virtual_find(const struct channel *channel, const char *name) {
  struct virtual key = {.name = (char *)(uintptr_t)name};
  struct virtual **found = tfind(&key, &channel->virtuals, by_name);
  return found != NULL ? *found : NULL;
}

static uint64_t memory_of(const char *name) {
  return sizeof(struct virtual) + strlen(name) + 1;
}

/* It has been charged for. */
static int make(struct channel *channel, const char *name, const char *type, uint64_t serial,
                struct virtual **ret_virtual) {
  struct virtual *virtual = calloc(1, sizeof *virtual);
  if (virtual != NULL) {
    virtual->name = strdup(name);
    virtual->type = strdup(type);
  }
  if (virtual == NULL || virtual->name == NULL || virtual->type == NULL ||
      tsearch(virtual, &channel->virtuals, by_name) == NULL) {
    if (virtual != NULL) {
      free(virtual->name);
      free(virtual->type);
    }
    free(virtual);
    return slc__fail(SLC_NO_MEMORY, "no memory for the virtual channel %s of %s", name, channel->name);
  }
  channel->virtual_memory += memory_of(name);
  virtual->serial = serial;
  if (serial > channel->virtual_serials) channel->virtual_serials = serial;
  record_init(&virtual->record, channel->broker, RECORD_VIRTUAL, channel);
  record_changed(&virtual->record);
  *ret_virtual = virtual;
  return SLC_OK;
}

static int make_new(struct channel *channel, const char *name, struct virtual **ret_virtual) {
  int status = charge(channel->broker, channel->account, LIMIT_memory, memory_of(name));
  if (status != SLC_OK) return status;
  status = make(channel, name, "", channel->virtual_serials + 1, ret_virtual);
  if (status != SLC_OK) discharge(channel->account, LIMIT_memory, memory_of(name));
  return status;
}

static void forget(struct channel *channel, struct virtual *virtual) {
  record_gone(&virtual->record);
  tdelete(virtual, &channel->virtuals, by_name);
  if (virtual->id != 0) {
    channel->virtual_ids[virtual->id] = NULL;
    channel->virtual_count--;
  }
  channel->virtual_memory -= memory_of(virtual->name);
  discharge(channel->account, LIMIT_memory, memory_of(virtual->name));
  free(virtual->name);
  free(virtual->type);
  free(virtual);
}

int virtual_obtain(struct channel *channel, const char *name, struct virtual **ret_virtual) {
  struct virtual *virtual = virtual_find(channel, name);
  int status = virtual != NULL ? SLC_OK : make_new(channel, name, &virtual);
  if (status != SLC_OK) return status;
  virtual->users++;
  *ret_virtual = virtual;
  return SLC_OK;
}

void virtual_release(struct channel *channel, struct virtual *virtual) {
  if (virtual == NULL || --virtual->users > 0) return;
  virtual->left = ++channel->virtual_leavings;
  record_changed(&channel->record);
  record_changed(&virtual->record);
  if (virtual->id == 0) forget(channel, virtual);
}

/* ---- ids ---- */

static int check_ids(const struct channel *channel, const struct virtual *virtual, uint32_t wanted) {
  if (wanted > channel->geometry.virtual_max)
    return slc__fail(SLC_INCOMPATIBLE, "the multiplexer %s has ids up to %u, asked for was %u", channel->name,
                     channel->geometry.virtual_max, wanted);
  if (virtual->id != 0 && wanted != 0 && wanted != virtual->id)
    return slc__fail(SLC_INCOMPATIBLE, "the virtual channel %s of %s has the id %u, asked for was %u", virtual->name,
                     channel->name, virtual->id, wanted);
  const struct virtual *other = wanted != 0 ? channel->virtual_ids[wanted] : NULL;
  if (other == NULL || other == virtual || other->users == 0) return SLC_OK;
  return slc__fail(SLC_INCOMPATIBLE, "the id %u of %s is that of the virtual channel %s: ask for another, or for 0",
                   wanted, channel->name, other->name);
}

/* The next that was never given, or that of the one longest without users; 0: all are in use. */
static uint32_t find_id(struct channel *channel) {
  uint32_t most = channel->geometry.virtual_max;
  while (channel->virtual_next < most) {
    if (channel->virtual_ids[++channel->virtual_next] == NULL) return channel->virtual_next;
  }
  const struct virtual *longest = NULL;
  for (uint32_t id = 1; id <= most; id++) {
    const struct virtual *virtual = channel->virtual_ids[id];
    if (virtual == NULL) return id;
    if (virtual->users == 0 && (longest == NULL || virtual->left < longest->left)) longest = virtual;
  }
  return longest != NULL ? longest->id : 0;
}

int virtual_number(struct channel *channel, struct virtual *virtual, uint32_t wanted) {
  int status = check_ids(channel, virtual, wanted);
  if (status != SLC_OK || virtual->id != 0) return status;
  uint32_t id = wanted != 0 ? wanted : find_id(channel);
  if (id == 0)
    return slc__fail(SLC_LIMIT,
                     "all %u virtual channels of %s are in use: close the users of one, or make it with a larger "
                     "max_virtual",
                     channel->geometry.virtual_max, channel->name);
  if (channel->virtual_ids[id] != NULL) forget(channel, channel->virtual_ids[id]);
  virtual->id = id;
  virtual->base = slc__virtual_reserve(&channel->control, id);
  channel->virtual_ids[id] = virtual;
  channel->virtual_count++;
  record_changed(&channel->record);
  record_changed(&virtual->record);
  return SLC_OK;
}

/* ---- recovered ---- */

int virtual_restore(struct channel *channel, uint64_t serial, const Slotcast__VirtualRecord *body) {
  struct virtual *virtual;
  bool has_id = body->id != 0;
  if (slc__channel_name_check(body->name) != SLC_OK || virtual_find(channel, body->name) != NULL ||
      (has_id && (channel->virtual_ids == NULL || body->id > channel->geometry.virtual_max ||
                  channel->virtual_ids[body->id] != NULL)))
    return slc__fail(SLC_PROTOCOL, "the virtual channel %s can't be", body->name);
  charge_again(channel->account, LIMIT_memory, memory_of(body->name));
  int status = make(channel, body->name, body->type, serial, &virtual);
  if (status != SLC_OK) {
    discharge(channel->account, LIMIT_memory, memory_of(body->name));
    return status;
  }
  virtual->id = body->id;
  virtual->base = body->before;
  virtual->left = body->left;
  if (has_id) channel->virtual_ids[body->id] = virtual;
  if (has_id) channel->virtual_count++;
  return SLC_OK;
}

static void find_any(const void *node, VISIT order, void *closure) {
  if (order == postorder || order == leaf) *(struct virtual **)closure = *(struct virtual *const *)node;
}

void virtuals_lose(struct channel *channel) {
  while (channel->virtuals != NULL) {
    struct virtual *virtual = NULL;
    twalk_r(channel->virtuals, find_any, &virtual);
    forget(channel, virtual);
  }
}

/* ---- the multiplexer's shape ---- */

int virtuals_shape(struct channel *channel) {
  uint32_t most = channel->geometry.virtual_max;
  if (most == 0) return SLC_OK;
  channel->virtual_ids = calloc((size_t)most + 1, sizeof(struct virtual *));
  return channel->virtual_ids != NULL ? SLC_OK : slc__fail(SLC_NO_MEMORY, "no memory for %s", channel->name);
}

void virtuals_unshape(struct channel *channel) {
  for (uint32_t id = 1; channel->virtual_ids != NULL && id <= channel->geometry.virtual_max; id++) {
    struct virtual *virtual = channel->virtual_ids[id];
    if (virtual == NULL) continue;
    if (virtual->users == 0) {
      forget(channel, virtual);
    } else { /* its subscribers wait again */
      virtual->id = 0;
      virtual->base = 0;
      record_changed(&virtual->record);
    }
  }
  free(channel->virtual_ids);
  channel->virtual_ids = NULL;
  channel->virtual_count = channel->virtual_next = 0;
}

/* ---- what may be asked for ---- */

int virtual_check_request(const struct channel *channel, bool is_multiplexer) {
  bool is = channel->is_shaped ? channel->geometry.virtual_max != 0 : channel->virtuals != NULL;
  if (is == is_multiplexer || (!channel->is_shaped && !is)) return SLC_OK;
  if (!is)
    return slc__fail(SLC_INCOMPATIBLE, "%s is a plain channel, and no multiplexer: use it without", channel->name);
  if (channel->is_shaped)
    return slc__fail(SLC_INCOMPATIBLE, "%s is a multiplexer: publish to a virtual channel of it", channel->name);
  return slc__fail(SLC_INCOMPATIBLE, "subscribers wait for virtual channels of %s: publish to one of these",
                   channel->name);
}

static int type_mismatch(const struct channel *channel, const char *name, const char *type, const char *wanted) {
  return slc__fail(SLC_INCOMPATIBLE, "the virtual channel %s of %s carries the type \"%s\", not \"%s\"", name,
                   channel->name, type, wanted);
}

int virtual_check_type(const struct channel *channel, const struct virtual *virtual, const char *type) {
  if (type[0] == '\0') return SLC_OK;
  if (virtual != NULL && virtual->type[0] != '\0' && strcmp(virtual->type, type) != 0)
    return type_mismatch(channel, virtual->name, virtual->type, type);
  for (uint32_t id = 1; virtual == NULL && channel->virtual_ids != NULL && id <= channel->geometry.virtual_max; id++) {
    const struct virtual *each = channel->virtual_ids[id];
    if (each != NULL && each->type[0] != '\0' && strcmp(each->type, type) != 0)
      return type_mismatch(channel, each->name, each->type, type);
  }
  return SLC_OK;
}

void virtual_adopt_type(struct virtual *virtual, const char *type) {
  if (type[0] == '\0' || virtual->type[0] != '\0') return;
  char *copy = strdup(type);
  if (copy == NULL) return;
  free(virtual->type);
  virtual->type = copy;
  record_changed(&virtual->record);
}

/* Records as bytes: key, checksum and message.
 *
 * A key begins with a digit, so that what others refer to comes before them in the order of keys, in which records are
 * loaded; numbers in it are big-endian.  The checksum is of key and message; the message has the inodes of the
 * descriptors, so that one that is not the one that was put is found out.  Thread: the loop's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "broker/broker.h"
#include "broker/split.h"

enum { CHECKSUM_SIZE = 4, NUMBER_SIZE = 8 };

#define RECORD_OF(type, record) ((const type *)(const void *)((const char *)(record)-offsetof(type, record)))

/* ---- keys ---- */

static const struct {
  const char *prefix;
  size_t numbers;
} kinds[] = {
    {"0broker", 0}, {"1process/", 1}, {"2channel/", 1}, {"3generation/", 3},
    {"4table/", 2}, {"5virtual/", 2}, {"6user/", 2},
};
enum { KIND_COUNT = sizeof kinds / sizeof *kinds, KIND_GENERATION = 3 };

static void key_make(struct record_key *key, size_t kind, const uint64_t numbers[3]) {
  size_t length = strlen(kinds[kind].prefix);
  memcpy(key->bytes, kinds[kind].prefix, length);
  for (size_t i = 0; i < kinds[kind].numbers; i++) {
    for (size_t byte = 0; byte < NUMBER_SIZE; byte++)
      key->bytes[length++] = (unsigned char)(numbers[i] >> (8 * (NUMBER_SIZE - 1 - byte)));
  }
  key->size = length;
}

void record_key(const struct record *record, struct record_key *ret_key) {
  uint64_t channel = record->channel != NULL ? record->channel->serial : 0;
  switch (record->kind) {
  case RECORD_BROKER:
    key_make(ret_key, 0, (uint64_t[3]){0});
    break;
  case RECORD_PROCESS:
    key_make(ret_key, 1, (uint64_t[3]){RECORD_OF(struct process, record)->serial});
    break;
  case RECORD_CHANNEL:
    key_make(ret_key, 2, (uint64_t[3]){channel});
    break;
  case RECORD_TABLE:
    key_make(ret_key, 4, (uint64_t[3]){channel, RECORD_OF(struct table, record)->id});
    break;
  case RECORD_VIRTUAL:
    key_make(ret_key, 5, (uint64_t[3]){channel, RECORD_OF(struct virtual, record)->serial});
    break;
  case RECORD_USER:
    key_make(ret_key, 6, (uint64_t[3]){channel, RECORD_OF(struct user, record)->id});
    break;
  }
}

bool record_name(const void *key, size_t size, struct record_name *ret_name) {
  const unsigned char *bytes = key;
  uint64_t numbers[3] = {0};
  size_t kind = size > 0 ? (size_t)(bytes[0] - '0') : KIND_COUNT;
  size_t length = kind < KIND_COUNT ? strlen(kinds[kind].prefix) : 0;
  if (length == 0 || size != length + kinds[kind].numbers * NUMBER_SIZE ||
      memcmp(bytes, kinds[kind].prefix, length) != 0)
    return false;
  for (size_t i = 0; i < kinds[kind].numbers * NUMBER_SIZE; i++)
    numbers[i / NUMBER_SIZE] = numbers[i / NUMBER_SIZE] << 8 | bytes[length + i];
  *ret_name = (struct record_name){.kind = (char)bytes[0], .number = numbers[0], .id = {numbers[1], numbers[2]}};
  return true;
}

/* ---- values ---- */

static int put(struct slc__store *store, const struct record_key *key, Slotcast__Record *record, const int *fds,
               size_t fd_count) {
  static uint8_t value[SLC__STORE_VALUE_MAX];
  uint64_t inodes[SLC__STORE_DESCRIPTORS_MAX];
  for (size_t i = 0; i < fd_count; i++) {
    struct stat info;
    inodes[i] = fstat(fds[i], &info) == 0 ? info.st_ino : 0;
  }
  record->version = RECORD_VERSION;
  record->inodes = inodes;
  record->n_inodes = fd_count;
  size_t size = slotcast__record__get_packed_size(record);
  bool fits = size <= sizeof value - CHECKSUM_SIZE;
  if (fits) slotcast__record__pack(record, value + CHECKSUM_SIZE);
  record->inodes = NULL;
  record->n_inodes = 0;
  if (!fits) return slc__fail(SLC_TOO_LARGE, "a record of %zu bytes is too long", size);
  uint32_t checksum = slc__crc32c(slc__crc32c(0, key->bytes, key->size), value + CHECKSUM_SIZE, size);
  for (size_t i = 0; i < CHECKSUM_SIZE; i++) value[i] = (uint8_t)(checksum >> (8 * i));
  return slc__store_put(store, key->bytes, key->size, value, CHECKSUM_SIZE + size, fds, fd_count);
}

static bool has_checksum(const struct slc__store_record *stored) {
  const uint8_t *bytes = stored->value;
  uint32_t checksum = 0;
  if (stored->value_size <= CHECKSUM_SIZE) return false;
  for (size_t i = 0; i < CHECKSUM_SIZE; i++) checksum |= (uint32_t)bytes[i] << (8 * i);
  return checksum == slc__crc32c(slc__crc32c(0, stored->key, stored->key_size), bytes + CHECKSUM_SIZE,
                                 stored->value_size - CHECKSUM_SIZE);
}

static bool has_descriptors(const Slotcast__Record *record, const struct slc__store_record *stored) {
  if (record->n_inodes != stored->fd_count) return false;
  for (size_t i = 0; i < stored->fd_count; i++) {
    struct stat info;
    if (fstat(stored->fds[i], &info) != 0 || info.st_ino != record->inodes[i]) return false;
  }
  return true;
}

static int check(const Slotcast__Record *record, const struct slc__store_record *stored) {
  if (record->version > RECORD_VERSION)
    return slc__fail(SLC_VERSION, "it was written by a newer release (records of version %u, this one knows %d)",
                     record->version, RECORD_VERSION);
  if (!has_descriptors(record, stored)) return slc__fail(SLC_PROTOCOL, "its descriptors are not those that were kept");
  return SLC_OK;
}

int record_decode(const struct slc__store_record *stored, Slotcast__Record **ret_record) {
  if (!has_checksum(stored)) return slc__fail(SLC_PROTOCOL, "its checksum is wrong");
  Slotcast__Record *record = slotcast__record__unpack(NULL, stored->value_size - CHECKSUM_SIZE,
                                                      (const uint8_t *)stored->value + CHECKSUM_SIZE);
  if (record == NULL) return slc__fail(SLC_PROTOCOL, "it can't be decoded");
  int status = check(record, stored);
  if (status != SLC_OK) {
    slotcast__record__free_unpacked(record, NULL);
    return status;
  }
  *ret_record = record;
  return SLC_OK;
}

/* ---- what each has ---- */

static ProtobufCBinaryData bytes_of(const void *data, size_t size) {
  return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)data, .len = size};
}

static int put_broker(struct slc__store *store, const struct record_key *key, const struct broker *broker) {
  Slotcast__Record record = SLOTCAST__RECORD__INIT;
  Slotcast__BrokerRecord body = SLOTCAST__BROKER_RECORD__INIT;
  body.session = bytes_of(broker->session, sizeof broker->session);
  body.last_user = broker->last_user;
  body.last_channel = broker->last_channel;
  body.last_process = broker->last_process;
  record.body_case = SLOTCAST__RECORD__BODY_BROKER;
  record.broker = &body;
  return put(store, key, &record, &broker->session_lock, broker->session_lock >= 0 ? 1 : 0);
}

static int put_process(struct slc__store *store, const struct record_key *key, const struct process *process) {
  Slotcast__Record record = SLOTCAST__RECORD__INIT;
  Slotcast__ProcessRecord body = SLOTCAST__PROCESS_RECORD__INIT;
  body.pid = process->peer.pid;
  body.uid = process->peer.uid;
  body.gid = process->peer.gid;
  body.program = (char *)(uintptr_t)process->peer.program;
  record.body_case = SLOTCAST__RECORD__BODY_PROCESS;
  record.process = &body;
  return put(store, key, &record, &process->peer.pidfd, 1);
}

static void describe_channel(const struct channel *channel, Slotcast__ChannelRecord *body) {
  body->name = channel->name;
  body->type = channel->type;
  body->uid = channel->account->uid;
  body->own = channel->account->is_unlimited;
  if (channel->is_shaped) body->geometry = bytes_of(&channel->geometry, sizeof channel->geometry);
  body->epoch = channel->epoch;
  body->last_pending = channel->last_pending;
  body->last_doorbell = channel->last_doorbell;
  body->last_lifeline = channel->last_lifeline;
  body->watchers_number = channel->watchers_number;
  body->had_publisher = channel->had_publisher;
  body->bytes_of_gone = channel->bytes_of_gone;
  body->drops_of_gone = channel->drops_of_gone;
  body->virtual_next = channel->virtual_next;
  body->virtual_leavings = channel->virtual_leavings;
  body->fixed = channel->is_fixed;
  body->prefaulted = channel->is_prefaulted;
  body->max_subscribers = channel->max_subscribers;
  body->max_loans = channel->max_loans;
  body->max_holds = channel->max_holds;
  body->linger_ns = channel->linger_ns;
  body->slow_policy = channel->slow_policy;
  body->told = channel->is_told;
  body->persistent = channel->is_persistent;
  body->lingers_until = channel->linger != NULL ? channel->lingers_until : 0;
}

static int put_channel(struct slc__store *store, const struct record_key *key, const struct channel *channel) {
  Slotcast__Record record = SLOTCAST__RECORD__INIT;
  Slotcast__ChannelRecord body = SLOTCAST__CHANNEL_RECORD__INIT;
  int fds[] = {channel->control_fd, channel->buffers_fd};
  describe_channel(channel, &body);
  record.body_case = SLOTCAST__RECORD__BODY_CHANNEL;
  record.channel = &body;
  return put(store, key, &record, fds, channel->is_shaped ? 2 : 0);
}

static int put_table(struct slc__store *store, const struct record_key *key, const struct table *table) {
  Slotcast__Record record = SLOTCAST__RECORD__INIT;
  Slotcast__TableRecord body = SLOTCAST__TABLE_RECORD__INIT;
  int fds[] = {table->fd, table->bell_fd};
  body.uid = table->uid;
  body.lines = table->line_count;
  record.body_case = SLOTCAST__RECORD__BODY_TABLE;
  record.table = &body;
  return put(store, key, &record, fds, 2);
}

static int put_virtual(struct slc__store *store, const struct record_key *key, const struct virtual *virtual) {
  Slotcast__Record record = SLOTCAST__RECORD__INIT;
  Slotcast__VirtualRecord body = SLOTCAST__VIRTUAL_RECORD__INIT;
  body.name = virtual->name;
  body.type = virtual->type;
  body.id = virtual->id;
  body.before = virtual->base;
  body.left = virtual->left;
  record.body_case = SLOTCAST__RECORD__BODY_VIRTUAL_CHANNEL;
  record.virtual_channel = &body;
  return put(store, key, &record, NULL, 0);
}

static void describe_user(const struct user *user, Slotcast__UserRecord *body) {
  body->process = user->process->serial;
  body->publisher = user->is_publisher;
  body->reliable = user->is_reliable;
  if (user->virtual != NULL) body->virtual_channel = user->virtual->name;
  body->max = user->max;
  body->name = (char *)(uintptr_t)user->name;
  body->instance = bytes_of(user->instance, sizeof user->instance);
  if (user->has_token) body->token = bytes_of(user->token, sizeof user->token);
  body->doorbell_id = user->doorbell_id;
  body->publisher_id = user->publisher_id;
  body->first = user->is_the_first;
  body->batch = user->batch;
  body->metadata_size = user->metadata_size;
  body->table = user->table != NULL ? user->table->id : 0;
  body->line = user->line;
  body->lifeline = user->lifeline != NULL ? user->lifeline->id : 0;
  body->too_slow = user->is_too_slow;
  body->since = user->since;
}

static int put_user(struct slc__store *store, const struct record_key *key, const struct user *user) {
  Slotcast__Record record = SLOTCAST__RECORD__INIT;
  Slotcast__UserRecord body = SLOTCAST__USER_RECORD__INIT;
  describe_user(user, &body);
  record.body_case = SLOTCAST__RECORD__BODY_USER;
  record.user = &body;
  return put(store, key, &record, &user->doorbell, user->doorbell >= 0 ? 1 : 0);
}

int record_put(struct slc__store *store, const struct record *record) {
  struct record_key key;
  record_key(record, &key);
  switch (record->kind) {
  case RECORD_BROKER:
    return put_broker(store, &key, RECORD_OF(struct broker, record));
  case RECORD_PROCESS:
    return put_process(store, &key, RECORD_OF(struct process, record));
  case RECORD_CHANNEL:
    return put_channel(store, &key, RECORD_OF(struct channel, record));
  case RECORD_TABLE:
    return put_table(store, &key, RECORD_OF(struct table, record));
  case RECORD_VIRTUAL:
    return put_virtual(store, &key, RECORD_OF(struct virtual, record));
  case RECORD_USER:
    return put_user(store, &key, RECORD_OF(struct user, record));
  }
  return SLC_OK;
}

/* ---- generations, which have several in a split channel ---- */

static void generation_key(struct record_key *key, const struct channel *channel, const struct generation *generation,
                           uint32_t first) {
  key_make(key, KIND_GENERATION, (uint64_t[3]){channel->serial, generation->number, first});
}

static int put_page(struct slc__store *store, const struct channel *channel, const struct generation *generation,
                    uint32_t first, const struct split_page *page, const int *fds, size_t fd_count) {
  struct record_key key;
  Slotcast__Record record = SLOTCAST__RECORD__INIT;
  Slotcast__GenerationRecord body = SLOTCAST__GENERATION_RECORD__INIT;
  body.slot_size = generation->slot_size;
  body.files = (Slotcast__FileRecord **)(uintptr_t)page->file_list;
  body.n_files = page->file_count;
  if (generation->split != NULL) body.slots_per_object = generation->split->names.slots_per_object;
  body.payloads = (Slotcast__PayloadRecord **)(uintptr_t)page->payload_list;
  body.n_payloads = page->payload_count;
  record.body_case = SLOTCAST__RECORD__BODY_GENERATION;
  record.generation = &body;
  generation_key(&key, channel, generation, first);
  return put(store, &key, &record, fds, fd_count);
}

int record_put_generation(struct slc__store *store, const struct channel *channel,
                          const struct generation *generation) {
  static struct split_page page; /* too large for a stack */
  const struct split *split = generation->split;
  if (split == NULL || split->names.directory >= 0) {
    page.file_count = page.payload_count = 0;
    return put_page(store, channel, generation, 0, &page, split == NULL ? &generation->fd : &split->names.directory, 1);
  }
  uint32_t first = 0;
  int status = SLC_OK;
  do {
    uint32_t next = split_page(channel, generation, first, &page);
    status = put_page(store, channel, generation, first, &page, page.fds, page.file_count);
    first = next;
  } while (status == SLC_OK && first != 0);
  return status;
}

void record_drop_generation(struct slc__store *store, const struct channel *channel,
                            const struct generation *generation) {
  static struct split_page page;
  uint32_t first = 0;
  do {
    struct record_key key;
    generation_key(&key, channel, generation, first);
    slc__store_drop(store, key.bytes, key.size);
    first = generation->split != NULL ? split_page(channel, generation, first, &page) : 0;
  } while (first != 0);
}

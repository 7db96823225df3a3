/* Messages with descriptors: the manifest grows with them.  Thread: the loop's. */
#include <unistd.h>

#include "base/error.h"
#include "broker/broker.h"
#include "proto/codec.h"

void outgoing_init(struct outgoing *outgoing, uint64_t serial) {
  slotcast__message__init(&outgoing->message);
  outgoing->message.serial = serial;
  outgoing->count = 0;
}

void outgoing_deinit(struct outgoing *outgoing) {
  for (size_t i = 0; i < outgoing->count; i++) {
    if (outgoing->owned[i]) close(outgoing->fds[i]);
  }
  outgoing->count = 0;
}

int outgoing_add(struct outgoing *outgoing, Slotcast__DescriptorKind kind, int fd, uint64_t size, bool writable) {
  if (outgoing->count == OUTGOING_MAX)
    return slc__fail(SLC_LIMIT, "more than %d descriptors in one message", OUTGOING_MAX);
  size_t i = outgoing->count++;
  Slotcast__Descriptor *entry = &outgoing->entries[i];
  slotcast__descriptor__init(entry);
  entry->kind = kind;
  entry->size = size;
  entry->writable = writable;
  outgoing->manifest[i] = entry;
  outgoing->fds[i] = fd;
  outgoing->owned[i] = false;
  return SLC_OK;
}

int outgoing_add_read_only(struct outgoing *outgoing, Slotcast__DescriptorKind kind, int fd, uint64_t size) {
  int read_only;
  int status = slc__object_reopen_read_only(fd, &read_only);
  if (status == SLC_OK) {
    status = outgoing_add(outgoing, kind, read_only, size, false);
    if (status == SLC_OK) {
      outgoing->owned[outgoing->count - 1] = true;
    } else {
      close(read_only);
    }
  }
  return status;
}

int outgoing_send(struct outgoing *outgoing, struct client *client) {
  outgoing->message.descriptors = outgoing->manifest;
  outgoing->message.n_descriptors = outgoing->count;
  return client_send(client, &outgoing->message, outgoing->fds, outgoing->count);
}

int outgoing_try_send(struct outgoing *outgoing, struct client *client) {
  static uint8_t packed[SLC__CODEC_MESSAGE_MAX];
  size_t size;
  outgoing->message.descriptors = outgoing->manifest;
  outgoing->message.n_descriptors = outgoing->count;
  int status = slc__codec_encode(&outgoing->message, packed, sizeof packed, &size);
  if (status != SLC_OK) return status;
  return slc__connection_try_send(client->connection, packed, size, outgoing->fds, outgoing->count);
}

/* See handover.h.  Thread: main. */
#include "store/handover.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "net/seqpacket.h"

enum { VERSION = 1, DESCRIPTORS_AT_ONCE = 200 };

enum kind { BEGIN = 1, DESCRIPTORS, STORED, END, WORD };

/* One datagram.  The descriptors come with it; the names are as many. */
struct part {
  uint32_t kind, version;
  uint32_t is_managers, word;
  char names[DESCRIPTORS_AT_ONCE][SLC__STORED_NAME_MAX];
};

void slc__handover_init(struct slc__handover *handover) {
  *handover = (struct slc__handover){.listen_fd = -1, .lock_fd = -1};
  slc__image_init(&handover->image);
}

void slc__handover_deinit(struct slc__handover *handover) {
  if (handover->image.is_ours) {
    slc__fd_close(&handover->listen_fd);
    slc__fd_close(&handover->lock_fd);
  }
  slc__image_deinit(&handover->image);
}

/* ---- sending ---- */

static int send_part(int socket, const struct part *part, const int *fds, size_t count) {
  size_t size = part->kind == STORED ? sizeof *part : offsetof(struct part, names);
  int status = slc__net_send(socket, part, size, fds, count, 0);
  if (status == SLC__NET_AGAIN) return slc__fail(SLC_TIMED_OUT, "the other broker takes nothing");
  if (status == SLC__NET_CLOSED) return slc__fail(SLC_NO_BROKER, "the other broker has ended");
  return status;
}

static int send_begin(int socket, const struct slc__handover *handover) {
  struct part part = {.kind = BEGIN, .version = VERSION, .is_managers = handover->is_managers};
  int fds[] = {handover->listen_fd, handover->lock_fd, handover->image.log.fd};
  return send_part(socket, &part, fds, sizeof fds / sizeof fds[0]);
}

static size_t at_once(size_t left) {
  return left < DESCRIPTORS_AT_ONCE ? left : DESCRIPTORS_AT_ONCE;
}

static int send_descriptors(int socket, const struct slc__image *image) {
  struct part part = {.kind = DESCRIPTORS};
  int status = SLC_OK;
  for (size_t i = 0, count; status == SLC_OK && i < image->count; i += count) {
    count = at_once(image->count - i);
    status = send_part(socket, &part, image->fds + i, count);
  }
  return status;
}

static int send_stored(int socket, const struct slc__image *image) {
  struct part part = {.kind = STORED};
  int fds[DESCRIPTORS_AT_ONCE], status = SLC_OK;
  for (size_t i = 0, count; status == SLC_OK && i < image->stored_count; i += count) {
    count = at_once(image->stored_count - i);
    for (size_t j = 0; j < count; j++) {
      fds[j] = image->stored[i + j].fd;
      memcpy(part.names[j], image->stored[i + j].name, sizeof part.names[j]);
    }
    status = send_part(socket, &part, fds, count);
  }
  return status;
}

int slc__handover_send(int socket, const struct slc__handover *handover) {
  struct part end = {.kind = END};
  int status = send_begin(socket, handover);
  if (status == SLC_OK) status = send_descriptors(socket, &handover->image);
  if (status == SLC_OK) status = send_stored(socket, &handover->image);
  return status == SLC_OK ? send_part(socket, &end, NULL, 0) : status;
}

/* ---- receiving ---- */

static int receive_part(int socket, struct part *ret_part, struct slc__fds *fds) {
  size_t size = 0;
  int status = slc__net_receive(socket, ret_part, sizeof *ret_part, &size, fds, 0);
  if (status == SLC__NET_AGAIN) return slc__fail(SLC_TIMED_OUT, "the other broker says nothing");
  if (status == SLC__NET_CLOSED) return slc__fail(SLC_NO_BROKER, "the other broker has ended");
  if (status != SLC_OK) return status;
  bool is_whole = size >= offsetof(struct part, names) && (ret_part->kind != STORED || size == sizeof *ret_part);
  if (is_whole && fds->count <= DESCRIPTORS_AT_ONCE) return SLC_OK;
  slc__fds_deinit(fds);
  return slc__fail(SLC_PROTOCOL, "the other broker talks nonsense");
}

static int take_begin(struct slc__handover *handover, const struct part *part, struct slc__fds *fds) {
  if (part->version > VERSION)
    return slc__fail(SLC_VERSION, "the broker that hands over is of a newer release (%u, this one knows %d)",
                     part->version, VERSION);
  if (fds->count != 3) return slc__fail(SLC_PROTOCOL, "the other broker does not hand over where it listens");
  handover->listen_fd = slc__fds_take(fds, 0);
  handover->lock_fd = slc__fds_take(fds, 1);
  handover->image.log.fd = slc__fds_take(fds, 2);
  handover->is_managers = part->is_managers != 0;
  return SLC_OK;
}

static int take_descriptors(struct slc__handover *handover, const struct part *part, struct slc__fds *fds) {
  int status = SLC_OK;
  for (size_t i = 0; status == SLC_OK && i < fds->count; i++) {
    if (part->kind == DESCRIPTORS) {
      status = slc__image_add(&handover->image, fds->fd[i]);
    } else {
      char name[SLC__STORED_NAME_MAX];
      snprintf(name, sizeof name, "%.*s", (int)sizeof name - 1, part->names[i]);
      status = slc__image_add_stored(&handover->image, name, fds->fd[i]);
    }
    if (status == SLC_OK) slc__fds_take(fds, i);
  }
  return status;
}

static int take_part(struct slc__handover *handover, const struct part *part, struct slc__fds *fds) {
  switch (part->kind) {
  case BEGIN:
    return take_begin(handover, part, fds);
  case DESCRIPTORS:
  case STORED:
    return take_descriptors(handover, part, fds);
  case END:
    return SLC_OK;
  default:
    return slc__fail(SLC_PROTOCOL, "the other broker talks nonsense");
  }
}

int slc__handover_receive(int socket, struct slc__handover *ret_handover) {
  static struct part part;
  struct slc__fds fds;
  int status;
  slc__handover_init(ret_handover);
  ret_handover->image.is_ours = true;
  do {
    status = receive_part(socket, &part, &fds);
    if (status == SLC_OK) {
      bool is_due = (part.kind == BEGIN) == (ret_handover->listen_fd < 0);
      status =
          is_due ? take_part(ret_handover, &part, &fds) : slc__fail(SLC_PROTOCOL, "the other broker talks nonsense");
      slc__fds_deinit(&fds);
    }
  } while (status == SLC_OK && part.kind != END);
  if (status != SLC_OK) slc__handover_deinit(ret_handover);
  return status;
}

/* ---- words ---- */

int slc__handover_say(int socket, enum slc__handover_word word) {
  struct part part = {.kind = WORD, .word = word};
  return send_part(socket, &part, NULL, 0);
}

int slc__handover_hear(int socket, enum slc__handover_word word) {
  static struct part part;
  struct slc__fds fds;
  int status = receive_part(socket, &part, &fds);
  if (status != SLC_OK) return status;
  slc__fds_deinit(&fds);
  if (part.kind == WORD && part.word == word) return SLC_OK;
  return slc__fail(SLC_PROTOCOL, "the other broker talks nonsense");
}

/* The questions to a shadow before the loop runs: what it has, and that.  They wait, each until its deadline; the
 * connection then becomes the link's.
 *
 * A shadow that is away, too slow or talks nonsense is done without.  One that speaks another version, or denies us, is
 * somebody's mistake that a start must not hide; and so is too little memory or too few descriptors of our own.
 * Thread: the loop's, before it runs. */
#include <poll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "proto/codec.h"
#include "store/shadow.h"

enum {
  NS_PER_MS = 1000 * 1000,
  LAST_MS = 1000, /* that it is given when the time is over */
};

static uint8_t receive_buffer[SLC__NET_DATAGRAM_MAX];

/* ---- waiting ---- */

static int64_t left_until(int64_t deadline_ns) {
  int64_t left = deadline_ns - slc__clock_ns();
  return left > 0 ? left : 0;
}

/* SLC__NET_AGAIN: it is not. */
static int ready(int fd, short events, int64_t timeout_ms) {
  struct pollfd poll_fd = {.fd = fd, .events = events};
  int count = poll(&poll_fd, 1, (int)timeout_ms);
  if (count < 0 && errno != EINTR) return slc__fail(slc__status_of_errno(errno), "cannot wait for it");
  return count == 0 ? SLC__NET_AGAIN : SLC_OK;
}

/* Time passes for a machine that is stopped, too: when it is over, it may be that neither of us has run.  To do without
 * it is to lose all that it keeps; so it gets a moment more. */
static int wait_for(int fd, short events, int64_t deadline_ns) {
  int status = ready(fd, events, left_until(deadline_ns) / NS_PER_MS + 1);
  if (status == SLC__NET_AGAIN) status = ready(fd, events, LAST_MS);
  return status == SLC__NET_AGAIN ? slc__fail(SLC_TIMED_OUT, "it does not answer in time") : status;
}

static int gone(void) {
  return slc__fail(SLC_NO_BROKER, "it has gone");
}

static int say(int fd, const struct slc__shadow_packet *packet, int64_t deadline_ns) {
  for (;;) {
    int status = slc__net_send(fd, packet->data, packet->size, NULL, 0, MSG_DONTWAIT);
    if (status == SLC__NET_CLOSED) return gone();
    if (status != SLC__NET_AGAIN) return status;
    status = wait_for(fd, POLLOUT, deadline_ns);
    if (status != SLC_OK) return status;
  }
}

static int hear(int fd, int64_t deadline_ns, struct slc__fds *fds, Slotcast__ShadowMessage **ret_message) {
  for (;;) {
    size_t size;
    int status = slc__net_receive(fd, receive_buffer, sizeof receive_buffer, &size, fds, MSG_DONTWAIT);
    if (status == SLC_OK) return slc__shadow_decode(receive_buffer, size, fds->count, ret_message);
    if (status == SLC__NET_CLOSED) return gone();
    if (status != SLC__NET_AGAIN) return status;
    status = wait_for(fd, POLLIN, deadline_ns);
    if (status != SLC_OK) return status;
  }
}

/* ---- what it has ---- */

static int greet(struct slc__shadow *shadow, int64_t deadline_ns) {
  struct slc__shadow_packet packet;
  struct slc__fds fds;
  Slotcast__ShadowMessage *answer = NULL;
  slc__fds_init(&fds);
  int status = slc__net_connect(shadow->path, left_until(deadline_ns), &shadow->asked_fd);
  if (status == SLC_NO_BROKER) status = slc__fail(SLC_NO_BROKER, "nobody listens there");
  if (status == SLC_OK) status = slc__shadow_pack_hello(&packet);
  if (status == SLC_OK) status = say(shadow->asked_fd, &packet, deadline_ns);
  if (status == SLC_OK) status = hear(shadow->asked_fd, deadline_ns, &fds, &answer);
  if (status == SLC_OK) status = slc__shadow_read_state(answer, &shadow->set);
  slc__shadow_free(answer);
  slc__fds_deinit(&fds);
  return status;
}

static bool is_ours_to_fail(int status) {
  switch (status) {
  case SLC_VERSION:
  case SLC_DENIED:
  case SLC_INVALID:
  case SLC_NO_MEMORY:
  case SLC_NO_DESCRIPTORS:
    return true;
  default:
    return false;
  }
}

static int give_up(struct slc__shadow *shadow, int status) {
  slc__fd_close(&shadow->asked_fd);
  if (is_ours_to_fail(status)) {
    char why[SLC__CODEC_TEXT_MAX];
    snprintf(why, sizeof why, "%s", slc__error_detail());
    return slc__fail(status, "%s: %s", shadow->name, why);
  }
  slc__shadow_tell(shadow, status);
  return SLC__KEEPER_AWAY;
}

int slc__shadow_ask(struct slc__keeper *keeper, int64_t deadline_ns, struct slc__keeper_set *ret_set) {
  struct slc__shadow *shadow = (struct slc__shadow *)keeper;
  int status = greet(shadow, deadline_ns);
  if (status != SLC_OK) return give_up(shadow, status);
  *ret_set = shadow->set;
  return SLC_OK;
}

/* ---- all of it ---- */

static int add_record(struct slc__loaded *loaded, const Slotcast__ShadowRecord *record, struct slc__fds *fds) {
  struct slc__store_record loaded_record = {
      .key = record->key.data,
      .key_size = record->key.len,
      .value = record->value.data,
      .value_size = record->value.len,
      .fds = fds->fd,
      .fd_count = fds->count,
  };
  return slc__loaded_add(loaded, &loaded_record);
}

static int check_whole(const struct slc__shadow *shadow, const Slotcast__ShadowLoaded *said,
                       const struct slc__loaded *loaded) {
  if (said->records == loaded->count && said->generation == shadow->set.generation) return SLC_OK;
  return slc__fail(SLC_PROTOCOL, "it has sent %zu records and speaks of %llu", loaded->count,
                   (unsigned long long)said->records);
}

/* 0, and whether that was the last. */
static int take_one(struct slc__shadow *shadow, int64_t deadline_ns, struct slc__loaded *loaded, bool *ret_last) {
  struct slc__fds fds;
  Slotcast__ShadowMessage *message = NULL;
  slc__fds_init(&fds);
  int status = hear(shadow->asked_fd, deadline_ns, &fds, &message);
  if (status == SLC_OK) {
    *ret_last = message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_LOADED;
    switch (message->body_case) {
    case SLOTCAST__SHADOW_MESSAGE__BODY_RECORD:
      status = add_record(loaded, message->record, &fds);
      break;
    case SLOTCAST__SHADOW_MESSAGE__BODY_LOADED:
      status = check_whole(shadow, message->loaded, loaded);
      break;
    case SLOTCAST__SHADOW_MESSAGE__BODY_REFUSAL:
      status = slc__shadow_read_refusal(message->refusal);
      break;
    default:
      status = slc__shadow_unexpected(message);
    }
  }
  slc__shadow_free(message);
  slc__fds_deinit(&fds);
  return status;
}

int slc__shadow_load(struct slc__keeper *keeper, int64_t deadline_ns, struct slc__loaded *loaded) {
  struct slc__shadow *shadow = (struct slc__shadow *)keeper;
  struct slc__shadow_packet packet;
  bool is_last = false;
  int status = slc__shadow_pack_load(&packet);
  if (status == SLC_OK) status = say(shadow->asked_fd, &packet, deadline_ns);
  while (status == SLC_OK && !is_last) status = take_one(shadow, deadline_ns, loaded, &is_last);
  return status == SLC_OK ? SLC_OK : give_up(shadow, status);
}

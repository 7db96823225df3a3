/* The broker as a whole: listens, ends.  Thread: the loop's. */
#include "broker/broker.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"

static int lock_if_needed(struct broker *broker) {
  return broker->options.backend == SLC__BACKEND_SHM ? broker_lock_session(broker) : SLC_OK;
}

/* A session that is to be recovered is not swept: whoever keeps it has its lock. */
static int begin_session(struct broker *broker) {
  if (getrandom(broker->session, sizeof broker->session, 0) != (ssize_t)sizeof broker->session)
    return slc__fail(SLC_SYSTEM, "no random numbers: %s", strerror(errno));
  int removed = slc__object_sweep();
  if (removed > 0) slc__log(SLC__LOG_NOTICE, "removed %d files of dead sessions from /dev/shm", removed);
  return broker->options.image != NULL || records_are_wanted(broker) ? SLC_OK : lock_if_needed(broker);
}

int broker_lock_session(struct broker *broker) {
  if (broker->session_lock >= 0) return SLC_OK;
  record_changed(&broker->record);
  return slc__object_session_lock(broker->session, &broker->session_lock);
}

static void end_session(struct broker *broker) {
  if (broker->session_lock < 0) return;
  if (is_left_to_successor(broker)) {
    slc__fd_close(&broker->session_lock); /* the keepers have it */
    return;
  }
  slc__object_session_unlock(broker->session, broker->session_lock);
  broker->session_lock = -1;
}

static int accepted(void *owner, int fd) {
  return client_open(owner, fd);
}

static int serve(struct broker *broker) {
  const struct broker_options *options = &broker->options;
  struct slc__listener_options at = {
      .path = options->socket, .handed = options->handed, .mode = options->socket_mode, .gid = options->socket_gid};
  return slc__listener_open(&broker->listener, broker->loop, &at, accepted, broker);
}

/* From now on nobody else touches what is shared. */
static int take_charge(struct broker *broker) {
  int status = broker->options.confirm();
  if (status == SLC_OK) records_start(broker);
  broker->options.image = NULL;
  return status;
}

/* With the lock of the socket held, so that nobody takes from a living broker what it keeps.  The session may be
 * another one then. */
static int take_over(struct broker *broker) {
  bool is_handed = broker->options.image != NULL;
  int status = records_are_wanted(broker) ? records_open(broker) : SLC_OK;
  record_init(&broker->record, broker, RECORD_BROKER, NULL);
  if (status == SLC_OK && (is_handed || records_are_wanted(broker))) status = recover(broker);
  if (status == SLC_OK && is_handed) status = take_charge(broker);
  return status == SLC_OK ? lock_if_needed(broker) : status;
}

int broker_open(struct broker *broker, uv_loop_t *loop, const struct broker_options *options) {
  *broker = (struct broker){.loop = loop, .options = *options, .session_lock = -1};
  LIST_INIT(&broker->processes);
  LIST_INIT(&broker->accounts);
  LIST_INIT(&broker->helpers);
  int status = begin_session(broker);
  if (status == SLC_OK) status = serve(broker);
  if (status != SLC_OK) {
    end_session(broker);
    return status;
  }
  status = take_over(broker);
  if (status != SLC_OK) { /* what was recovered so far stays as it is: the process ends */
    slc__listener_close(&broker->listener);
    return status;
  }
  slc__awake_init(&broker->awake, loop);
  uv_timer_init(loop, &broker->sweeper);
  broker->sweeper.data = broker;
  events_open(broker);
  watch_init(broker);
  recover_finish(broker);
  return SLC_OK;
}

void broker_close(struct broker *broker) {
  slc__listener_close(&broker->listener);
  slc__awake_close(&broker->awake);
  uv_close((uv_handle_t *)&broker->sweeper, NULL);
  uv_close((uv_handle_t *)&broker->watch, NULL);
  broker->is_closing = true;
  records_close(broker);
  events_close(broker);
  process_forget_all(broker);
  channel_forget_all(broker);
  helpers_forget(broker);
  end_session(broker);
}

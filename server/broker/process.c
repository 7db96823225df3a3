/* Processes: who is dead, as the pidfd says.  A socket's end is no death: a forked child may keep it open, or it may
 * close before the process stops writing.  Thread: the loop's. */
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"
#include "loop/watch.h"

static void on_poll_closed(uv_handle_t *handle) {
  struct process *process = handle->data;
  slc__peer_deinit(&process->peer);
  free(process);
}

static void process_free(struct process *process) {
  LIST_REMOVE(process, link);
  account_unref(process->account);
  uv_close((uv_handle_t *)&process->poll, on_poll_closed);
}

void process_release(struct process *process) {
  if (LIST_EMPTY(&process->clients) && LIST_EMPTY(&process->users)) process_free(process);
}

/* Everything that a process had goes, in this way; the end of its last client releases it. */
static void process_end(struct process *process, void (*end_user)(struct user *user)) {
  while (!LIST_EMPTY(&process->users)) end_user(LIST_FIRST(&process->users));
  if (LIST_EMPTY(&process->clients)) {
    process_free(process);
    return;
  }
  bool more;
  do {
    struct client *client = LIST_FIRST(&process->clients);
    more = LIST_NEXT(client, link) != NULL;
    client_close(client);
  } while (more);
}

static void on_pidfd(uv_poll_t *poll, int status, int events) {
  struct process *process = poll->data;
  (void)status;
  (void)events;
  if (!slc__pidfd_dead(process->peer.pidfd)) return;
  slc__log(SLC__LOG_DEBUG, "process %d (%s) has ended", (int)process->peer.pid, process->peer.program);
  process_end(process, user_die);
}

/* A pid is not used again while its process has not ended, which the pidfd tells. */
static bool is_same_process(const struct slc__peer *a, const struct slc__peer *b) {
  return a->pid != 0 && a->pid == b->pid && a->uid == b->uid;
}

static struct process *find_living(struct broker *broker, const struct slc__peer *peer) {
  struct process *process, *next;
  for (process = LIST_FIRST(&broker->processes); process != NULL; process = next) {
    next = LIST_NEXT(process, link);
    if (!is_same_process(&process->peer, peer)) continue;
    if (!slc__pidfd_dead(process->peer.pidfd)) return process;
    process_end(process, user_die); /* its event is still to come, and its pid is another's already */
  }
  return NULL;
}

int process_make(struct broker *broker, struct slc__peer *peer, struct process **ret_process) {
  struct process *process = calloc(1, sizeof *process);
  struct account *account = account_ref(broker, peer->uid);
  if (process == NULL || account == NULL || uv_poll_init(broker->loop, &process->poll, peer->pidfd) != 0) {
    free(process);
    account_unref(account);
    return slc__fail(SLC_NO_MEMORY, "no memory for one more process");
  }
  process->broker = broker;
  process->peer = *peer;
  peer->pidfd = -1;
  process->account = account;
  record_init(&process->record, broker, RECORD_PROCESS, NULL);
  process->poll.data = process;
  LIST_INIT(&process->clients);
  LIST_INIT(&process->users);
  LIST_INSERT_HEAD(&broker->processes, process, link);
  int status = slc__loop_watch(&process->poll, process->peer.pidfd, UV_READABLE, on_pidfd);
  if (status != SLC_OK) {
    process_free(process);
    return status;
  }
  *ret_process = process;
  return SLC_OK;
}

int process_find(struct broker *broker, struct slc__peer *peer, struct process **ret_process) {
  *ret_process = find_living(broker, peer);
  if (*ret_process != NULL) return SLC_OK;
  int status = process_make(broker, peer, ret_process);
  if (status != SLC_OK) return status;
  (*ret_process)->serial = ++broker->last_process;
  record_changed(&broker->record);
  return SLC_OK;
}

void process_reap(struct broker *broker) {
  struct process *process, *next;
  for (process = LIST_FIRST(&broker->processes); process != NULL; process = next) {
    next = LIST_NEXT(process, link);
    if (slc__pidfd_dead(process->peer.pidfd)) process_end(process, user_die);
  }
}

/* Whoever lives goes on without us, so that nothing of theirs is touched. */
void process_forget_all(struct broker *broker) {
  while (!LIST_EMPTY(&broker->processes)) process_end(LIST_FIRST(&broker->processes), user_forget);
}

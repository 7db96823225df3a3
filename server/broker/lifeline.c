/* Lifelines: the pidfds of processes with reliable subscribers, one for each process and channel, which publishers are
 * given so that they needn't wait for the dead while there is no broker.  Thread: the loop's. */
#include <stdlib.h>

#include "base/error.h"
#include "broker/broker.h"

static struct lifeline *find(const struct channel *channel, const struct process *process) {
  struct lifeline *lifeline;
  LIST_FOREACH(lifeline, &channel->lifelines, link) {
    if (lifeline->process == process) return lifeline;
  }
  return NULL;
}

static int join(struct user *user, uint32_t id) {
  struct channel *channel = user->channel;
  struct lifeline *lifeline = find(channel, user->process);
  if (lifeline == NULL) {
    lifeline = calloc(1, sizeof *lifeline);
    if (lifeline == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a reliable subscriber of %s", channel->name);
    lifeline->process = user->process;
    lifeline->id = id;
    if (id > channel->last_lifeline) channel->last_lifeline = id;
    record_changed(&channel->record);
    LIST_INSERT_HEAD(&channel->lifelines, lifeline, link);
  }
  lifeline->users++;
  user->lifeline = lifeline;
  return SLC_OK;
}

int lifeline_join(struct user *user) {
  return user->is_reliable ? join(user, user->channel->last_lifeline + 1) : SLC_OK;
}

int lifeline_restore(struct user *user, uint32_t id) {
  return id != 0 ? join(user, id) : SLC_OK;
}

void lifeline_leave(struct user *user) {
  struct lifeline *lifeline = user->lifeline;
  user->lifeline = NULL;
  if (lifeline == NULL || --lifeline->users > 0) return;
  LIST_REMOVE(lifeline, link);
  free(lifeline);
}

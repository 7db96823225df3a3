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

int lifeline_join(struct user *user) {
  struct channel *channel = user->channel;
  if (!user->is_reliable) return SLC_OK;
  struct lifeline *lifeline = find(channel, user->process);
  if (lifeline == NULL) {
    lifeline = calloc(1, sizeof *lifeline);
    if (lifeline == NULL) return slc__fail(SLC_NO_MEMORY, "no memory for a reliable subscriber of %s", channel->name);
    lifeline->process = user->process;
    lifeline->id = ++channel->last_lifeline;
    LIST_INSERT_HEAD(&channel->lifelines, lifeline, link);
  }
  lifeline->users++;
  user->lifeline = lifeline;
  return SLC_OK;
}

void lifeline_leave(struct user *user) {
  struct lifeline *lifeline = user->lifeline;
  user->lifeline = NULL;
  if (lifeline == NULL || --lifeline->users > 0) return;
  LIST_REMOVE(lifeline, link);
  free(lifeline);
}

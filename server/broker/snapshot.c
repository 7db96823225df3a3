/* Everything that would be on record, at one moment, whether anybody keeps records or not: for the broker after us.
 * Thread: the loop's. */
#include <search.h>

#include "base/error.h"
#include "broker/broker.h"
#include "store/image.h"

struct snapshot {
  struct slc__store *store; /* of nobody's: it only collects */
  int status;
};

static void put(struct snapshot *snapshot, const struct record *record) {
  if (snapshot->status == SLC_OK) snapshot->status = record_put(snapshot->store, record);
}

static void put_virtual(const void *node, VISIT order, void *ctx) {
  const struct virtual *virtual = *(struct virtual *const *)node;
  if (order == postorder || order == leaf) put(ctx, &virtual->record);
}

static void put_channel(struct channel *channel, void *ctx) {
  struct snapshot *snapshot = ctx;
  const struct user *user;
  put(snapshot, &channel->record);
  for (uint32_t i = 0; snapshot->status == SLC_OK && i < channel->generation_count; i++)
    snapshot->status = record_put_generation(snapshot->store, channel, &channel->generations[i]);
  for (uint32_t i = 0; i < channel->table_count; i++) put(snapshot, &channel->tables[i]->record);
  twalk_r(channel->virtuals, put_virtual, snapshot);
  LIST_FOREACH(user, &channel->users, of_channel) put(snapshot, &user->record);
}

static void put_all(struct broker *broker, struct snapshot *snapshot) {
  const struct process *process;
  put(snapshot, &broker->record);
  LIST_FOREACH(process, &broker->processes, link) {
    if (!LIST_EMPTY(&process->users)) put(snapshot, &process->record);
  }
  channel_for_each(broker, put_channel, snapshot);
}

int broker_snapshot(struct broker *broker, struct slc__image *image) {
  static const struct slc__store_options nobody;
  static const struct slc__store_events events;
  struct snapshot snapshot = {.status = SLC_OK};
  int status = slc__store_open(broker->loop, &nobody, &events, NULL, &snapshot.store);
  if (status != SLC_OK) return status;
  put_all(broker, &snapshot);
  status = snapshot.status;
  if (status == SLC_OK) status = slc__store_image(snapshot.store, image);
  slc__store_close(snapshot.store);
  return status == SLC_OK ? records_hand_over(broker, image) : status;
}

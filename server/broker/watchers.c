/* The doorbells of publishers, told to everybody who can make what they wait for happen: the channel's subscribers and
 * other publishers.
 *
 * Sets are numbered.  A change is pushed to all first and named in control afterwards, so that whoever has to ring and
 * finds a newer number there has the set in its socket.  Where a set can't be there yet (the socket is full, or its
 * user has only just been answered), the publishers' doorbells are rung once it is: they look again.  As with
 * memberships, pushes are states, and descriptors go only with what the receiver does not have yet.
 *
 * Thread: the loop's. */
#include <sys/socket.h>

#include "base/error.h"
#include "broker/broker.h"

enum { PAGE_WATCHERS = 200 }; /* per page: below SCM_MAX_FD */

struct page {
  Slotcast__Watchers body;
  Slotcast__Watcher watchers[PAGE_WATCHERS];
  Slotcast__Watcher *list[PAGE_WATCHERS];
};

static struct page page;

static bool is_watcher(const struct user *user) {
  return user->is_publisher && user->doorbell >= 0;
}

static int add_watcher(struct outgoing *outgoing, const struct user *receiver, const struct user *watcher) {
  size_t i = page.body.n_watchers++;
  Slotcast__Watcher *entry = page.list[i] = &page.watchers[i];
  slotcast__watcher__init(entry);
  entry->publisher = watcher->publisher_id;
  entry->id = watcher->doorbell_id;
  entry->fresh = watcher->doorbell_id > receiver->watchers_sent;
  if (!entry->fresh) return SLC_OK;
  return outgoing_add(outgoing, SLOTCAST__DESCRIPTOR_KIND__DOORBELL, watcher->doorbell, 0, true);
}

/* As many as one message carries, from *at on, which is moved. */
static int fill_page(struct outgoing *outgoing, const struct user *receiver, const struct user **at) {
  slotcast__watchers__init(&page.body);
  page.body.user = receiver->id;
  page.body.number = receiver->channel->watchers_number;
  page.body.watchers = page.list;
  outgoing_init(outgoing, 0);
  outgoing->message.body_case = SLOTCAST__MESSAGE__BODY_WATCHERS;
  outgoing->message.watchers = &page.body;
  int status = SLC_OK;
  for (; status == SLC_OK && *at != NULL && page.body.n_watchers < PAGE_WATCHERS; *at = LIST_NEXT(*at, of_channel))
    if (is_watcher(*at)) status = add_watcher(outgoing, receiver, *at);
  page.body.more = *at != NULL;
  return status;
}

/* Only the first page may find the socket full: then nothing has gone, and all is owed.  The others are queued. */
static int push_pages(const struct user *receiver) {
  const struct user *at = LIST_FIRST(&receiver->channel->users);
  struct outgoing outgoing;
  int status = fill_page(&outgoing, receiver, &at);
  if (status == SLC_OK) status = outgoing_try_send(&outgoing, receiver->client);
  outgoing_deinit(&outgoing);
  while (status == SLC_OK && page.body.more) {
    status = fill_page(&outgoing, receiver, &at);
    if (status == SLC_OK) status = outgoing_send(&outgoing, receiver->client);
    outgoing_deinit(&outgoing);
  }
  return status;
}

void watchers_push(struct user *user) {
  if (user->client == NULL) return;
  int status = push_pages(user);
  user->owes_watchers = status == SLC__NET_AGAIN;
  if (status == SLC_OK) user->watchers_sent = user->channel->last_doorbell;
  if (status < 0) push_give_up(user);
}

void watchers_announce(struct channel *channel) {
  uint32_t watched = 0;
  struct user *user;
  channel->watchers_number++;
  record_changed(&channel->record);
  record_ring(channel);
  LIST_FOREACH(user, &channel->users, of_channel) {
    watchers_push(user);
    if (is_watcher(user)) watched++;
  }
  struct slc__control_page *control = channel->control.page;
  atomic_store_explicit(&control->watchers, channel->watchers_number, memory_order_seq_cst);
  atomic_store_explicit(&control->watched, watched, memory_order_seq_cst);
}

/* It may have released a message before it knew whom to ring. */
void watchers_welcome(struct user *user) {
  if (user->channel->watchers_number == 0) return;
  watchers_push(user);
  watchers_ring(user->channel);
}

void watchers_ring(const struct channel *channel) {
  const struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (is_watcher(user)) send(user->doorbell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

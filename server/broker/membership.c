/* Who subscribes, told to those who publish; and shape, told to those who came before it.
 *
 * Pushes are states, not events: when a socket is full we remember that we owe one and send the state of then, so
 * nothing queues up behind a publisher that does not look, and nobody waits for it.  A snapshot names everybody;
 * descriptors go with what the publisher does not have yet, which its high-water marks tell, since ids only grow.
 *
 * The order of a join (docs/protocol.md): line written, membership pushed, epoch + 1, start chosen, counted, answer.
 * Thread: the loop's. */
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"

enum {
  PAGE_DESCRIPTORS = 200, /* per page: below SCM_MAX_FD with those of PublisherOpened beside */
  PAGE_BYTES = 64 * 1024, /* of line bytes and entries */
  PAGE_ITEMS = 2048,      /* of each kind */
  DOORBELL_BYTES = 32,
  PROCESS_BYTES = 24,
};

/* ---- one snapshot, page by page ---- */

struct page {
  Slotcast__Membership body;
  Slotcast__Table tables[PAGE_ITEMS];
  Slotcast__Table *table_list[PAGE_ITEMS];
  Slotcast__Doorbell doorbells[PAGE_ITEMS];
  Slotcast__Doorbell *doorbell_list[PAGE_ITEMS];
  Slotcast__Process processes[PAGE_ITEMS];
  Slotcast__Process *process_list[PAGE_ITEMS];
  /* What comes with fresh ones: all doorbells, then all pidfds, as the receiver takes them. */
  int doorbell_fds[PAGE_DESCRIPTORS], pidfds[PAGE_DESCRIPTORS];
  size_t doorbell_fd_count, pidfd_count;
  size_t bytes;
  uint32_t tables_sent; /* what the publisher has once this page has gone */
};

/* Where the next page goes on. */
struct snapshot {
  struct user *publisher;
  uint64_t epoch;
  uint64_t serial;                         /* of this snapshot, among all */
  uint32_t table;                          /* index of the next table */
  const struct user *at;                   /* the next user to look at */
  uint32_t doorbells_sent, lifelines_sent; /* the greatest ids of those in the pages so far */
};

static struct page page;

static bool page_has_room(const struct outgoing *outgoing, size_t items, size_t bytes) {
  return items < PAGE_ITEMS && page.bytes + bytes <= PAGE_BYTES &&
         outgoing->count + page.doorbell_fd_count + page.pidfd_count + 2 <= PAGE_DESCRIPTORS;
}

static int add_table(struct outgoing *outgoing, const struct user *publisher, const struct table *table) {
  size_t i = page.body.n_tables++;
  Slotcast__Table *entry = page.table_list[i] = &page.tables[i];
  slotcast__table__init(entry);
  entry->id = table->id;
  entry->lines.data = table->lines;
  entry->lines.len = table->line_count;
  while (entry->lines.len > 0 && table->lines[entry->lines.len - 1] == 0) entry->lines.len--;
  page.bytes += entry->lines.len + sizeof *entry;
  entry->fresh = table->id > publisher->tables_sent;
  if (!entry->fresh) return SLC_OK;
  page.tables_sent = table->id;
  int status = outgoing_add_read_only(outgoing, SLOTCAST__DESCRIPTOR_KIND__TABLE, table->fd, table->mapping.size);
  if (status != SLC_OK) return status;
  return outgoing_add(outgoing, SLOTCAST__DESCRIPTOR_KIND__BELL, table->bell_fd, table->bell_mapping.size, true);
}

static void add_doorbell(struct snapshot *snapshot, const struct user *user) {
  size_t i = page.body.n_doorbells++;
  Slotcast__Doorbell *entry = page.doorbell_list[i] = &page.doorbells[i];
  slotcast__doorbell__init(entry);
  entry->table = user->table->id;
  entry->line = user->line;
  entry->id = user->doorbell_id;
  entry->virtual_id = user->virtual != NULL ? user->virtual->id : 0;
  page.bytes += DOORBELL_BYTES;
  entry->fresh = user->doorbell_id > snapshot->publisher->doorbells_sent;
  if (!entry->fresh) return;
  if (user->doorbell_id > snapshot->doorbells_sent) snapshot->doorbells_sent = user->doorbell_id;
  page.doorbell_fds[page.doorbell_fd_count++] = user->doorbell;
}

/* Several users of a process have one pidfd, which comes with the first of them. */
static void add_process(struct snapshot *snapshot, const struct user *user) {
  struct lifeline *lifeline = user->lifeline;
  size_t i = page.body.n_processes++;
  Slotcast__Process *entry = page.process_list[i] = &page.processes[i];
  slotcast__process__init(entry);
  entry->table = user->table->id;
  entry->line = user->line;
  entry->id = lifeline->id;
  page.bytes += PROCESS_BYTES;
  entry->fresh = lifeline->id > snapshot->publisher->lifelines_sent && lifeline->named_in != snapshot->serial;
  if (!entry->fresh) return;
  lifeline->named_in = snapshot->serial;
  if (lifeline->id > snapshot->lifelines_sent) snapshot->lifelines_sent = lifeline->id;
  page.pidfds[page.pidfd_count++] = lifeline->process->peer.pidfd;
}

static int add_descriptors(struct outgoing *outgoing) {
  int status = SLC_OK;
  for (size_t i = 0; status == SLC_OK && i < page.doorbell_fd_count; i++)
    status = outgoing_add(outgoing, SLOTCAST__DESCRIPTOR_KIND__DOORBELL, page.doorbell_fds[i], 0, true);
  for (size_t i = 0; status == SLC_OK && i < page.pidfd_count; i++)
    status = outgoing_add(outgoing, SLOTCAST__DESCRIPTOR_KIND__PROCESS, page.pidfds[i], 0, true);
  return status;
}

/* Fills the page with as much as goes; tables first, since doorbells and processes name them. */
static int fill_page(struct snapshot *snapshot, struct outgoing *outgoing) {
  const struct user *publisher = snapshot->publisher;
  const struct channel *channel = publisher->channel;
  slotcast__membership__init(&page.body);
  page.body.epoch = snapshot->epoch;
  page.body.tables = page.table_list;
  page.body.doorbells = page.doorbell_list;
  page.body.processes = page.process_list;
  page.bytes = page.doorbell_fd_count = page.pidfd_count = 0;
  page.tables_sent = publisher->tables_sent;
  int status = SLC_OK;
  for (; status == SLC_OK && snapshot->table < channel->table_count; snapshot->table++) {
    const struct table *table = channel->tables[snapshot->table];
    if (!page_has_room(outgoing, page.body.n_tables, page.body.n_tables == 0 ? 0 : table->line_count)) break;
    status = add_table(outgoing, publisher, table);
  }
  bool tables_done = snapshot->table == channel->table_count;
  for (; tables_done && status == SLC_OK && snapshot->at != NULL; snapshot->at = LIST_NEXT(snapshot->at, of_channel)) {
    if (snapshot->at->is_publisher || snapshot->at->table == NULL) continue;
    size_t items = page.body.n_doorbells > page.body.n_processes ? page.body.n_doorbells : page.body.n_processes;
    if (!page_has_room(outgoing, items, DOORBELL_BYTES + PROCESS_BYTES)) break;
    if (snapshot->at->doorbell >= 0) add_doorbell(snapshot, snapshot->at);
    if (snapshot->at->lifeline != NULL) add_process(snapshot, snapshot->at);
  }
  if (status == SLC_OK) status = add_descriptors(outgoing);
  page.body.more = !tables_done || snapshot->at != NULL;
  return status;
}

static struct snapshot snapshot_begin(struct user *publisher, uint64_t epoch) {
  static uint64_t last_serial;
  last_serial++;
  return (struct snapshot){
      .publisher = publisher, .epoch = epoch, .serial = last_serial, .at = LIST_FIRST(&publisher->channel->users)};
}

/* The remaining pages are queued if need be: half a snapshot is none. */
static int send_rest(struct snapshot *snapshot) {
  int status = SLC_OK;
  while (page.body.more && status == SLC_OK) {
    struct outgoing outgoing;
    outgoing_init(&outgoing, 0);
    outgoing.message.body_case = SLOTCAST__MESSAGE__BODY_MEMBERSHIP;
    status = fill_page(snapshot, &outgoing);
    page.body.user = snapshot->publisher->id;
    outgoing.message.membership = &page.body;
    if (status == SLC_OK) status = outgoing_send(&outgoing, snapshot->publisher->client);
    snapshot->publisher->tables_sent = page.tables_sent;
    outgoing_deinit(&outgoing);
  }
  return status;
}

/* Ids of doorbells and processes don't come in order, so the marks move only when the whole snapshot has gone. */
static void mark_sent(const struct snapshot *snapshot) {
  struct user *publisher = snapshot->publisher;
  if (snapshot->doorbells_sent > publisher->doorbells_sent) publisher->doorbells_sent = snapshot->doorbells_sent;
  if (snapshot->lifelines_sent > publisher->lifelines_sent) publisher->lifelines_sent = snapshot->lifelines_sent;
}

/* ---- pushing ---- */

void push_give_up(struct user *user) {
  slc__log(SLC__LOG_WARNING, "process %d (%s): %s; its connection is closed", (int)user->process->peer.pid,
           user->process->peer.program, slc__error_detail());
  /* Not at once: this may be the client whose request is being handled. */
  slc__connection_abort(user->client->connection);
}

static void push_as_of(struct user *publisher, uint64_t epoch) {
  if (publisher->client == NULL) return;
  struct snapshot snapshot = snapshot_begin(publisher, epoch);
  struct outgoing outgoing;
  outgoing_init(&outgoing, 0);
  outgoing.message.body_case = SLOTCAST__MESSAGE__BODY_MEMBERSHIP;
  int status = fill_page(&snapshot, &outgoing);
  page.body.user = publisher->id;
  outgoing.message.membership = &page.body;
  if (status == SLC_OK) status = outgoing_try_send(&outgoing, publisher->client);
  outgoing_deinit(&outgoing);
  publisher->owes_membership = status == SLC__NET_AGAIN;
  if (status == SLC_OK) {
    publisher->tables_sent = page.tables_sent;
    status = send_rest(&snapshot);
    if (status == SLC_OK) mark_sent(&snapshot);
  }
  if (status < 0) push_give_up(publisher);
}

void membership_push(struct user *publisher) {
  push_as_of(publisher, publisher->channel->epoch);
}

void membership_announce(struct channel *channel) {
  uint64_t epoch = ++channel->epoch;
  record_changed(&channel->record);
  record_ring(channel);
  struct user *user;
  LIST_FOREACH(user, &channel->users, of_channel) {
    if (user->is_publisher) push_as_of(user, epoch);
  }
  atomic_store_explicit(&channel->control.page->epoch, epoch, memory_order_seq_cst);
}

/* ---- answers ---- */

static void shape_message(const struct channel *channel, Slotcast__Geometry *geometry) {
  geometry_to_message(&channel->geometry, geometry);
}

int send_publisher_opened(struct user *user, uint64_t serial) {
  const struct channel *channel = user->channel;
  Slotcast__PublisherOpened opened;
  Slotcast__Geometry geometry;
  struct outgoing outgoing;
  struct snapshot snapshot = snapshot_begin(user, channel->epoch);
  slotcast__publisher_opened__init(&opened);
  shape_message(channel, &geometry);
  opened.user = user->id;
  opened.publisher_id = user->publisher_id;
  opened.geometry = &geometry;
  opened.batch = user->batch;
  opened.first = user->is_the_first;
  opened.max_loans = user->max;
  if (user->virtual != NULL) {
    opened.virtual_id = user->virtual->id;
    opened.virtual_base = user->virtual->base;
  }
  opened.membership = &page.body;
  outgoing_init(&outgoing, serial);
  outgoing.message.body_case = SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED;
  outgoing.message.publisher_opened = &opened;
  int status = outgoing_add(&outgoing, SLOTCAST__DESCRIPTOR_KIND__CONTROL, channel->control_fd,
                            slc__layout_control_size(&channel->geometry), true);
  if (status == SLC_OK)
    status = outgoing_add(&outgoing, SLOTCAST__DESCRIPTOR_KIND__BUFFERS, channel->buffers_fd,
                          slc__layout_buffers_size(&channel->geometry), true);
  if (status == SLC_OK) status = fill_page(&snapshot, &outgoing);
  if (status == SLC_OK) status = outgoing_send(&outgoing, user->client);
  outgoing_deinit(&outgoing);
  if (status != SLC_OK) return status;
  user->tables_sent = page.tables_sent;
  status = send_rest(&snapshot);
  if (status == SLC_OK) mark_sent(&snapshot);
  return status;
}

static int add_subscriber_objects(struct outgoing *outgoing, const struct user *user) {
  const struct channel *channel = user->channel;
  int status = outgoing_add_read_only(outgoing, SLOTCAST__DESCRIPTOR_KIND__CONTROL, channel->control_fd,
                                      slc__layout_control_size(&channel->geometry));
  if (status == SLC_OK)
    status = outgoing_add_read_only(outgoing, SLOTCAST__DESCRIPTOR_KIND__BUFFERS, channel->buffers_fd,
                                    slc__layout_buffers_size(&channel->geometry));
  if (status == SLC_OK)
    status = outgoing_add(outgoing, SLOTCAST__DESCRIPTOR_KIND__TABLE, user->table->fd, user->table->mapping.size, true);
  if (status == SLC_OK)
    status = outgoing_add_read_only(outgoing, SLOTCAST__DESCRIPTOR_KIND__BELL, user->table->bell_fd,
                                    user->table->bell_mapping.size);
  return status;
}

int send_subscriber_opened(struct user *user, uint64_t serial) {
  Slotcast__SubscriberOpened opened;
  Slotcast__Geometry geometry;
  struct outgoing outgoing;
  int status = SLC_OK;
  slotcast__subscriber_opened__init(&opened);
  outgoing_init(&outgoing, serial);
  outgoing.message.body_case = SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED;
  outgoing.message.subscriber_opened = &opened;
  opened.user = user->id;
  opened.max_holds = user->max;
  opened.attached = user->table != NULL;
  if (opened.attached) {
    shape_message(user->channel, &geometry);
    opened.geometry = &geometry;
    opened.line = user->line;
    opened.since = user->since;
    if (user->virtual != NULL) {
      opened.virtual_id = user->virtual->id;
      opened.virtual_base = user->virtual->base;
    }
    status = add_subscriber_objects(&outgoing, user);
  }
  if (status == SLC_OK) status = outgoing_send(&outgoing, user->client);
  outgoing_deinit(&outgoing);
  user->is_attached = opened.attached;
  return status;
}

void attachment_push(struct user *user) {
  if (user->client == NULL) return;
  Slotcast__SubscriberAttached attached;
  Slotcast__Geometry geometry;
  struct outgoing outgoing;
  slotcast__subscriber_attached__init(&attached);
  shape_message(user->channel, &geometry);
  attached.user = user->id;
  attached.geometry = &geometry;
  attached.line = user->line;
  attached.max_holds = user->max;
  if (user->virtual != NULL) {
    attached.virtual_id = user->virtual->id;
    attached.virtual_base = user->virtual->base;
  }
  outgoing_init(&outgoing, 0);
  outgoing.message.body_case = SLOTCAST__MESSAGE__BODY_SUBSCRIBER_ATTACHED;
  outgoing.message.subscriber_attached = &attached;
  int status = add_subscriber_objects(&outgoing, user);
  if (status == SLC_OK) status = outgoing_try_send(&outgoing, user->client);
  outgoing_deinit(&outgoing);
  user->owes_attachment = status == SLC__NET_AGAIN;
  user->is_attached = true;
  if (status < 0) push_give_up(user);
}

/* After a late membership the newcomers that it names may have missed a ring, and after late doorbells those: everybody
 * looks again. */
void pushes_resume(struct client *client) {
  struct process *process = client->process;
  struct user *user;
  LIST_FOREACH(user, &process->users, of_process) {
    if (user->client != client) continue;
    if (user->owes_attachment) attachment_push(user);
    bool owed = user->owes_membership || user->owes_watchers;
    if (user->owes_membership) membership_push(user);
    if (user->owes_watchers) watchers_push(user);
    if (owed && !user->owes_membership && !user->owes_watchers) channel_ring_all(user->channel);
  }
}

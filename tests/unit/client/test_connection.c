/* The client library against a broker that answers what it should not: a scripted peer in a thread.  Whatever it says,
 * the call fails with its own status, and nothing is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/seqpacket.h"
#include "proto/codec.h"
#include "shm/layout.h"
#include "slotcast/slotcast.h"
#include "support/check.h"
#include "support/leaks.h"

/* Changes the answer to a request before it is sent; may add descriptors.  False: hang up instead. */
typedef bool (*script_fn)(const Slotcast__Message *request, Slotcast__Message *answer, int *fds, size_t *fd_count);

struct peer {
  char directory[64];
  char path[96];
  int listen_fd, lock_fd;
  script_fn script;
  pthread_t thread;
  struct test_leaks leaks;
};

static void peer_send(int fd, const Slotcast__Message *message, const int *fds, size_t fd_count) {
  static uint8_t bytes[SLC__CODEC_MESSAGE_MAX];
  size_t size;
  if (slc__codec_encode(message, bytes, sizeof bytes, &size) != 0) abort();
  if (slc__net_send(fd, bytes, size, fds, fd_count, 0) < 0) abort();
}

static void hello_reply(Slotcast__HelloReply *body) {
  static uint8_t session[16] = "0123456789abcde";
  slotcast__hello_reply__init(body);
  body->backend = SLC_BACKEND_MEMFD;
  body->major = SLC__PROTOCOL_MAJOR;
  body->session.data = session;
  body->session.len = sizeof session;
}

/* The answers of a broker that behaves, but knows only how to say hello and Done. */
static bool peer_answer(const struct peer *peer, int fd, const Slotcast__Message *request) {
  Slotcast__HelloReply hello;
  Slotcast__Done done = SLOTCAST__DONE__INIT;
  Slotcast__Message answer = SLOTCAST__MESSAGE__INIT;
  answer.serial = request->serial;
  if (request->body_case == SLOTCAST__MESSAGE__BODY_HELLO) {
    hello_reply(&hello);
    answer.body_case = SLOTCAST__MESSAGE__BODY_HELLO_REPLY;
    answer.hello_reply = &hello;
  } else {
    answer.body_case = SLOTCAST__MESSAGE__BODY_DONE;
    answer.done = &done;
  }
  int fds[4] = {-1, -1, -1, -1};
  size_t fd_count = 0;
  if (peer->script != NULL && !peer->script(request, &answer, fds, &fd_count)) return false;
  peer_send(fd, &answer, fds, fd_count);
  for (size_t i = 0; i < fd_count; i++) close(fds[i]);
  return true;
}

static void peer_serve(const struct peer *peer, int fd) {
  static uint8_t bytes[SLC__NET_DATAGRAM_MAX];
  bool on = true;
  while (on) {
    struct slc__fds fds;
    slc__fds_init(&fds);
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    poll(&readable, 1, -1);
    size_t size = 0;
    Slotcast__Message *request = NULL;
    on = slc__net_receive(fd, bytes, sizeof bytes, &size, &fds, 0) == 0 &&
         slc__codec_decode(bytes, size, fds.count, &request) == 0 && peer_answer(peer, fd, request);
    slc__codec_free(request);
    slc__fds_deinit(&fds);
  }
}

static void *peer_run(void *argument) {
  const struct peer *peer = argument;
  struct pollfd readable = {.fd = peer->listen_fd, .events = POLLIN};
  int fd = -1;
  while (poll(&readable, 1, -1) >= 0 && slc__net_accept(peer->listen_fd, &fd) != 0) {
  }
  peer_serve(peer, fd);
  close(fd);
  return NULL;
}

static struct peer the_peer;

static slc_client_options peer_start(script_fn script) {
  the_peer.script = script;
  assert_int_equal(pthread_create(&the_peer.thread, NULL, peer_run, &the_peer), 0);
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.socket = the_peer.path;
  options.reconnect_timeout_ns = 1; /* nobody comes back */
  return options;
}

/* After the client has hung up, or the script has.  It may have tried to come back. */
static void peer_end(void) {
  int fd = -1;
  pthread_join(the_peer.thread, NULL);
  while (slc__net_accept(the_peer.listen_fd, &fd) == 0) close(fd);
}

/* ---- hello ---- */

static bool script_other_major(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                               size_t *fd_count) {
  (void)request, (void)fds, (void)fd_count;
  answer->hello_reply->major = SLC__PROTOCOL_MAJOR + 1;
  return true;
}

static bool script_other_backend(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                 size_t *fd_count) {
  (void)request, (void)fds, (void)fd_count;
  answer->hello_reply->backend = 77;
  return true;
}

static bool script_hang_up(const Slotcast__Message *request, Slotcast__Message *answer, int *fds, size_t *fd_count) {
  (void)request, (void)answer, (void)fds, (void)fd_count;
  return false;
}

static bool script_surplus_descriptor(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                      size_t *fd_count) {
  (void)request;
  static Slotcast__Descriptor entry;
  static Slotcast__Descriptor *manifest[] = {&entry};
  slotcast__descriptor__init(&entry);
  entry.kind = SLOTCAST__DESCRIPTOR_KIND__DOORBELL;
  answer->descriptors = manifest;
  answer->n_descriptors = 1;
  fds[(*fd_count)++] = dup(STDERR_FILENO);
  return true;
}

static bool script_refuse(const Slotcast__Message *request, Slotcast__Message *answer, int *fds, size_t *fd_count) {
  (void)request, (void)fds, (void)fd_count;
  static Slotcast__Refusal refusal;
  slotcast__refusal__init(&refusal);
  refusal.status = SLC_LIMIT;
  refusal.text = (char *)"too many of you";
  answer->body_case = SLOTCAST__MESSAGE__BODY_REFUSAL;
  answer->refusal = &refusal;
  return true;
}

static bool script_refuse_with_success(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                       size_t *fd_count) {
  bool on = script_refuse(request, answer, fds, fd_count);
  answer->refusal->status = 1;
  return on;
}

static void open_fails(script_fn script, int expected) {
  slc_client_options options = peer_start(script);
  slc_client *client = NULL;
  check_status(slc_client_open(&options, &client), expected);
  peer_end();
}

static void test_hello_failures(void **state) {
  (void)state;
  open_fails(script_other_major, SLC_VERSION);
  assert_non_null(strstr(slc_error_detail(), "protocol"));
  open_fails(script_other_backend, SLC_VERSION);
  open_fails(script_hang_up, SLC_NO_BROKER);
  open_fails(script_surplus_descriptor, SLC_PROTOCOL);
  open_fails(script_refuse, SLC_LIMIT);
  assert_string_equal(slc_error_detail(), "too many of you");
  open_fails(script_refuse_with_success, SLC_PROTOCOL);
}

/* ---- after hello ---- */

static bool is_hello(const Slotcast__Message *request) {
  return request->body_case == SLOTCAST__MESSAGE__BODY_HELLO;
}

static Slotcast__Geometry geometry;
static Slotcast__Membership membership;
static Slotcast__PublisherOpened publisher_opened;

/* As a broker would, but without any descriptor. */
static bool script_no_objects(const Slotcast__Message *request, Slotcast__Message *answer, int *fds, size_t *fd_count) {
  (void)fds, (void)fd_count;
  if (request->body_case != SLOTCAST__MESSAGE__BODY_OPEN_PUBLISHER) return true;
  slotcast__geometry__init(&geometry);
  geometry.slots = 64;
  geometry.log_size = 4096;
  geometry.max_publishers = 64;
  geometry.slot_size = 1024;
  geometry.backend = SLC_BACKEND_MEMFD;
  slotcast__membership__init(&membership);
  slotcast__publisher_opened__init(&publisher_opened);
  publisher_opened.user = 1;
  publisher_opened.publisher_id = 1;
  publisher_opened.batch = publisher_opened.max_loans = 1;
  publisher_opened.geometry = &geometry;
  publisher_opened.membership = &membership;
  answer->body_case = SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED;
  answer->publisher_opened = &publisher_opened;
  return true;
}

static bool script_impossible_shape(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                    size_t *fd_count) {
  bool on = script_no_objects(request, answer, fds, fd_count);
  geometry.log_size = 4097;
  return on;
}

static bool script_unknown_backend(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                   size_t *fd_count) {
  bool on = script_no_objects(request, answer, fds, fd_count);
  geometry.backend = SLC_BACKEND_SHM + 1;
  return on;
}

static bool script_no_backend(const Slotcast__Message *request, Slotcast__Message *answer, int *fds, size_t *fd_count) {
  bool on = script_no_objects(request, answer, fds, fd_count);
  geometry.backend = 0;
  return on;
}

static bool script_impossible_pages(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                    size_t *fd_count) {
  bool on = script_no_objects(request, answer, fds, fd_count);
  geometry.pages = 3 << 20;
  return on;
}

static bool script_impossible_id(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                 size_t *fd_count) {
  bool on = script_no_objects(request, answer, fds, fd_count);
  publisher_opened.publisher_id = 65;
  return on;
}

/* A file in /dev/shm, which a hello that says shm does not make any better: the channel is to be in memfds. */
static bool script_wrong_backend(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                 size_t *fd_count) {
  static Slotcast__Descriptor entry;
  static Slotcast__Descriptor *manifest[] = {&entry};
  if (is_hello(request)) answer->hello_reply->backend = SLC_BACKEND_SHM;
  if (!script_no_objects(request, answer, fds, fd_count) || is_hello(request)) return true;
  struct slc__geometry shape = {.slots = 64, .log_size = 4096, .max_publishers = 64, .slot_size = 1024};
  slotcast__descriptor__init(&entry);
  entry.kind = SLOTCAST__DESCRIPTOR_KIND__CONTROL;
  entry.size = slc__layout_control_size(&shape);
  entry.writable = 1;
  answer->descriptors = manifest;
  answer->n_descriptors = *fd_count = 1;
  fds[0] = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  return fds[0] >= 0 && ftruncate(fds[0], (off_t)entry.size) == 0;
}

static bool script_hang_up_after_hello(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                       size_t *fd_count) {
  (void)answer, (void)fds, (void)fd_count;
  return is_hello(request);
}

static bool script_refuse_after_hello(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                      size_t *fd_count) {
  return is_hello(request) || script_refuse(request, answer, fds, fd_count);
}

static void publisher_fails(script_fn script, int expected) {
  slc_client_options options = peer_start(script);
  slc_client *client = NULL;
  slc_publisher *publisher = NULL;
  check_ok(slc_client_open(&options, &client));
  check_status(slc_publisher_open(client, "x", NULL, &publisher), expected);
  assert_null(publisher);
  slc_client_close(client);
  peer_end();
}

static void test_objects_are_checked_against_their_channels_backend(void **state) {
  (void)state;
  publisher_fails(script_wrong_backend, SLC_PROTOCOL);
  assert_non_null(strstr(slc_error_detail(), "it is not sealed"));
}

static void test_publisher_failures(void **state) {
  (void)state;
  publisher_fails(NULL, SLC_PROTOCOL); /* Done is no answer to this */
  publisher_fails(script_no_objects, SLC_PROTOCOL);
  publisher_fails(script_impossible_shape, SLC_PROTOCOL);
  publisher_fails(script_impossible_id, SLC_PROTOCOL);
  publisher_fails(script_unknown_backend, SLC_VERSION);
  publisher_fails(script_no_backend, SLC_VERSION);
  publisher_fails(script_impossible_pages, SLC_PROTOCOL);
  publisher_fails(script_hang_up_after_hello, SLC_BROKER_GONE);
  publisher_fails(script_refuse_after_hello, SLC_LIMIT);
}

static Slotcast__ChannelSummary summary;
static Slotcast__ChannelList channel_list;
static Slotcast__ChannelSummary *summaries[] = {&summary};

/* Always the same page, and always more. */
static bool script_endless_list(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                size_t *fd_count) {
  (void)fds, (void)fd_count;
  if (is_hello(request)) return true;
  slotcast__channel_summary__init(&summary);
  summary.name = (char *)"x";
  slotcast__channel_list__init(&channel_list);
  channel_list.channels = summaries;
  channel_list.n_channels = 1;
  channel_list.more = 1;
  answer->body_case = SLOTCAST__MESSAGE__BODY_CHANNEL_LIST;
  answer->channel_list = &channel_list;
  return true;
}

static bool script_empty_page(const Slotcast__Message *request, Slotcast__Message *answer, int *fds, size_t *fd_count) {
  bool on = script_endless_list(request, answer, fds, fd_count);
  channel_list.n_channels = 0;
  return on;
}

static void list_fails(script_fn script) {
  slc_client_options options = peer_start(script);
  slc_client *client = NULL;
  slc_channel_info *list = NULL;
  size_t count = 0;
  check_ok(slc_client_open(&options, &client));
  check_status(slc_channel_list(client, &list, &count), SLC_PROTOCOL);
  slc_client_close(client);
  peer_end();
}

static void test_endless_lists(void **state) {
  (void)state;
  list_fails(script_endless_list);
  list_fails(script_empty_page);
}

/* A push out of place ends the connection, and the next request says why. */
static bool script_push_nonsense(const Slotcast__Message *request, Slotcast__Message *answer, int *fds,
                                 size_t *fd_count) {
  (void)fds, (void)fd_count;
  if (is_hello(request)) return true;
  answer->serial = 0;
  return true;
}

static void test_push_out_of_place(void **state) {
  (void)state;
  slc_client_options options = peer_start(script_push_nonsense);
  slc_client *client = NULL;
  slc_channel_info *list = NULL;
  size_t count = 0;
  check_ok(slc_client_open(&options, &client));
  for (int i = 0; i < 2; i++) {
    check_status(slc_channel_list(client, &list, &count), SLC_BROKER_GONE);
    assert_non_null(strstr(slc_error_detail(), "pushed"));
  }
  slc_client_close(client);
  peer_end();
}

static int setup(void **state) {
  struct peer *peer = &the_peer;
  test_leaks_note(&peer->leaks);
  snprintf(peer->directory, sizeof peer->directory, "/tmp/slotcast-test-XXXXXX");
  assert_non_null(mkdtemp(peer->directory));
  snprintf(peer->path, sizeof peer->path, "%.63s/broker.sock", peer->directory);
  *state = peer;
  return slc__net_listen(peer->path, 0600, (gid_t)-1, &peer->listen_fd, &peer->lock_fd);
}

static int teardown(void **state) {
  struct peer *peer = *state;
  slc__net_unlisten(peer->path, &peer->listen_fd, &peer->lock_fd);
  rmdir(peer->directory);
  return test_leaks_check(&peer->leaks);
}

#define PEER_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      PEER_TEST(test_hello_failures),
      PEER_TEST(test_publisher_failures),
      PEER_TEST(test_objects_are_checked_against_their_channels_backend),
      PEER_TEST(test_endless_lists),
      PEER_TEST(test_push_out_of_place),
  };
  return cmocka_run_group_tests_name("client_connection", tests, NULL, NULL);
}

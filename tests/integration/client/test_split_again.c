/* The registration of a split channel's memory, and a broker that is killed, or a connection that ends, before and
 * after that very message: it is said again, and the memory that was offered is the channel's, once.
 *
 * Stands in for sendmsg, to do harm there.  The broker is killed, and followed by another, from within. */
#include "common.h"

#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/codec.h"

enum { ONE_PAGE = 64, TWO_PAGES = 300, FIRST_PAGE = 253, SLOT_SIZE = 512, LARGE = 3000 };

/* ---- harm ---------------------------------------------------------------------------------------------------------
 */

enum moment {
  BEFORE,   /* the message is sent */
  UNREAD,   /* it lies in the broker's socket */
  ANSWERED, /* and what it says has been done and is on record; its answer is lost */
  CUT,      /* the same, but it is only the connection that ends */
};

static struct {
  struct test_broker *broker; /* NULL: nothing is to happen */
  int message;                /* to which registration of memory, from 1 on */
  enum moment moment;
  bool has_keeper;
} plan;

static Slotcast__Message__BodyCase kind_of(const struct msghdr *datagram, size_t size, size_t fd_count) {
  Slotcast__Message *message = NULL;
  if (slc__codec_decode(datagram->msg_iov[0].iov_base, size, fd_count, &message) != 0)
    return SLOTCAST__MESSAGE__BODY__NOT_SET;
  Slotcast__Message__BodyCase kind = message->body_case;
  slc__codec_free(message);
  return kind;
}

static size_t descriptors_of(struct msghdr *datagram, int **ret_fds) {
  const struct cmsghdr *control = datagram->msg_controllen > 0 ? CMSG_FIRSTHDR(datagram) : NULL;
  if (control == NULL || control->cmsg_type != SCM_RIGHTS) return 0;
  *ret_fds = (int *)(void *)CMSG_DATA(control);
  return (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
}

static bool is_registration(const struct msghdr *datagram) {
  struct msghdr copy = *datagram;
  int *fds;
  size_t count = descriptors_of(&copy, &fds);
  return count > 0 && kind_of(&copy, copy.msg_iov[0].iov_len, count) == SLOTCAST__MESSAGE__BODY_REGISTER_PAYLOADS;
}

/* Reads what the client will not, up to the answer. */
static void lose_answer(int fd) {
  static uint8_t bytes[SLC__CODEC_MESSAGE_MAX];
  static _Alignas(struct cmsghdr) uint8_t control[8192];
  for (Slotcast__Message__BodyCase kind = SLOTCAST__MESSAGE__BODY__NOT_SET; kind != SLOTCAST__MESSAGE__BODY_PAYLOADS;) {
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr datagram = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int *fds;
    assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1), 1);
    ssize_t size = recvmsg(fd, &datagram, MSG_CMSG_CLOEXEC);
    assert_true(size > 0);
    size_t count = descriptors_of(&datagram, &fds);
    kind = kind_of(&datagram, (size_t)size, count);
    for (size_t i = 0; i < count; i++) close(fds[i]);
  }
}

static void another_broker(struct test_broker *broker) {
  test_broker_kill(broker);
  if (plan.has_keeper)
    test_broker_resume(broker);
  else
    assert_int_equal(test_broker_restart(broker), 0);
}

static ssize_t send_with_harm(int fd, const struct msghdr *message, int flags) {
  struct test_broker *broker = plan.broker;
  plan.broker = NULL;
  if (plan.moment == BEFORE) another_broker(broker);
  if (plan.moment == UNREAD) {
    kill(broker->pid, SIGSTOP);
    assert_int_equal(waitpid(broker->pid, NULL, WUNTRACED), broker->pid);
  }
  ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
  if (plan.moment == ANSWERED || plan.moment == CUT) lose_answer(fd);
  if (plan.moment == UNREAD || plan.moment == ANSWERED) another_broker(broker);
  if (plan.moment == CUT) shutdown(fd, SHUT_RDWR);
  return sent;
}

__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  if (plan.broker != NULL && is_registration(message) && --plan.message == 0) return send_with_harm(fd, message, flags);
  return syscall(SYS_sendmsg, fd, message, flags);
}

/* ---- memory -------------------------------------------------------------------------------------------------------
 */

/* A file for each slot. */
struct memory {
  uint32_t allocated, kept, freed;
};

static int allocate(void *ctx, uint32_t generation, uint32_t slot, uint64_t size, slc_payload *ret_payload) {
  struct memory *memory = ctx;
  int fd = memfd_create("slotcast-test-again", MFD_CLOEXEC);
  assert_true(fd >= 0);
  assert_int_equal(ftruncate(fd, (off_t)size), 0);
  *ret_payload = (slc_payload){.fd = fd, .handle = 1000 * generation + slot};
  memory->allocated++;
  return 0;
}

static void release(void *ctx, const slc_payload *payload, int is_kept) {
  struct memory *memory = ctx;
  if (is_kept) {
    memory->kept++;
  } else {
    memory->freed++;
  }
  close(payload->fd);
}

static slc_publisher_options options_of(struct memory *memory, uint32_t slots) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.split = 1;
  options.slots = slots;
  options.slot_size = SLOT_SIZE;
  options.allocate_payload = allocate;
  options.free_payload = release;
  options.callback_ctx = memory;
  return options;
}

/* ---- the cases ----------------------------------------------------------------------------------------------------
 */

struct harm_case {
  uint32_t slots;
  int message;
  enum moment moment;
  uint32_t in_vain; /* allocated for a generation that was not on record when its broker died */
};

static slc_client *client_of_patience(void) {
  slc_client *client = NULL;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.reconnect_timeout_ns = -1;
  check_ok(slc_client_open(&options, &client));
  return client;
}

static void harm(struct test_broker *broker, const struct harm_case *at) {
  plan.message = at->message;
  plan.moment = at->moment;
  plan.broker = broker;
}

static void send_sized(slc_publisher *publisher, uint64_t n, size_t size) {
  slc_loan loan;
  int status;
  while ((status = slc_publisher_loan(publisher, size, &loan)) == SLC_WOULD_BLOCK)
    check_ok(slc_publisher_wait(publisher, SLC_WAIT_FOREVER));
  check_ok(status);
  for (size_t i = 0; i < size; i++) ((uint8_t *)loan.data)[i] = pattern(n, i);
  check_ok(slc_publisher_publish(publisher, &loan, size, NULL));
}

static void take_sized(slc_subscriber *subscriber, uint64_t n, size_t size) {
  slc_message message;
  int status;
  while ((status = slc_subscriber_take(subscriber, &message)) == SLC_EMPTY)
    check_ok(slc_subscriber_wait(subscriber, SLC_WAIT_FOREVER));
  check_ok(status);
  assert_int_equal(message.size, size);
  for (size_t i = 0; i < size; i++) assert_int_equal(((const uint8_t *)message.data)[i], pattern(n, i));
  check_ok(slc_subscriber_release(subscriber, &message));
}

/* Every slot of this one, and of another publisher, whose memory they are, too. */
static void check_memory(slc_publisher *publisher, uint32_t slots, size_t size) {
  struct memory none = {0};
  slc_client *client = client_of_patience();
  slc_publisher_options options = options_of(&none, slots);
  slc_publisher *second = publisher_open(client, &options);
  slc_subscriber *subscriber = subscriber_open(client, NULL);
  for (uint64_t n = 1; n <= 2 * (uint64_t)slots; n++) {
    send_sized(n % 2 == 0 ? publisher : second, n, size);
    take_sized(subscriber, n, size);
  }
  assert_int_equal(none.allocated, 0);
  slc_client_close(client);
}

/* Where the broker comes back with what it knew. */
static void run_kept(const struct harm_case *at) {
  struct test_broker broker;
  struct memory memory = {0};
  test_broker_start_shadowed(&broker, 1, NULL);
  plan.has_keeper = true;
  slc_client *client = client_of_patience();
  slc_publisher_options options = options_of(&memory, at->slots);
  harm(&broker, at);
  slc_publisher *publisher = publisher_open(client, &options);
  assert_null(plan.broker);
  assert_int_equal(memory.allocated, at->slots + at->in_vain);
  assert_int_equal(memory.kept, memory.allocated);
  check_memory(publisher, at->slots, SLOT_SIZE);
  /* The same while it grows: a loan. */
  memory = (struct memory){0};
  harm(&broker, at);
  send_sized(publisher, 1, LARGE);
  assert_null(plan.broker);
  assert_int_equal(memory.allocated, at->slots + at->in_vain);
  assert_int_equal(memory.kept, memory.allocated);
  check_memory(publisher, at->slots, LARGE);
  slc_client_stats stats = {.size = sizeof stats};
  check_ok(slc_client_stats_get(client, &stats));
  assert_int_equal(stats.back, 2);
  assert_int_equal(stats.anew, 0);
  slc_client_close(client);
  assert_int_equal(test_broker_finish(&broker), 0);
}

static void test_said_again(void **state) {
  (void)state;
  static const struct harm_case cases[] = {
      {ONE_PAGE, 1, BEFORE, ONE_PAGE},
      {ONE_PAGE, 1, UNREAD, ONE_PAGE},
      {ONE_PAGE, 1, ANSWERED, 0},
      {ONE_PAGE, 1, CUT, 0},
      {TWO_PAGES, 1, CUT, 0},
      {TWO_PAGES, 1, ANSWERED, FIRST_PAGE},
      {TWO_PAGES, 2, BEFORE, TWO_PAGES},
      {TWO_PAGES, 2, ANSWERED, 0},
      {TWO_PAGES, 2, CUT, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) run_kept(&cases[i]);
}

/* The next broker knows nothing: it is all begun anew, and comes to its end. */
static void run_anew(const struct harm_case *at) {
  struct test_broker broker;
  struct memory memory = {0};
  test_broker_start(&broker);
  plan.has_keeper = false;
  slc_client *client = client_of_patience();
  slc_publisher_options options = options_of(&memory, at->slots);
  harm(&broker, at);
  slc_publisher *publisher = publisher_open(client, &options);
  assert_null(plan.broker);
  check_memory(publisher, at->slots, SLOT_SIZE);
  harm(&broker, at);
  send_sized(publisher, 1, LARGE);
  assert_null(plan.broker);
  check_memory(publisher, at->slots, LARGE);
  slc_client_close(client);
  assert_int_equal(memory.kept + memory.freed, memory.allocated);
  assert_int_equal(test_broker_finish(&broker), 0);
}

static void test_begun_anew(void **state) {
  (void)state;
  static const struct harm_case cases[] = {
      {ONE_PAGE, 1, BEFORE, 0},
      {ONE_PAGE, 1, ANSWERED, 0},
      {TWO_PAGES, 2, BEFORE, 0},
      {TWO_PAGES, 2, ANSWERED, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) run_anew(&cases[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_said_again),
      cmocka_unit_test(test_begun_anew),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

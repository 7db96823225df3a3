/* See raw.h.  The broker's child ends with this process (PR_SET_PDEATHSIG).  Single-threaded. */
#include "raw.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "support/leaks.h"

static _Noreturn void give_up(const char *what) {
  fprintf(stderr, "raw client: %s: %s (%s)\n", what, strerror(errno), slc__error_detail());
  _exit(1);
}

/* ---- the broker's process --------------------------------------------------------------------------------------- */

struct served {
  struct broker broker;
  uv_signal_t terminate;
};

static void log_to_socket(void *ctx, enum slc__log_level level, const char *text) {
  (void)level;
  send(*(const int *)ctx, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void on_terminate(uv_signal_t *handle, int number) {
  struct served *served = handle->data;
  (void)number;
  uv_close((uv_handle_t *)handle, NULL);
  broker_close(&served->broker);
}

static _Noreturn void serve(const struct raw_broker *broker, const struct limits *limits, int log, pid_t parent) {
  static struct served served;
  uv_loop_t loop;
  struct broker_options options = {.socket = broker->socket, .socket_mode = 0600, .socket_gid = (gid_t)-1};
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  close(broker->log);
  limits_init(&options.limits);
  if (limits != NULL) options.limits = *limits;
  if (uv_loop_init(&loop) != 0 || broker_open(&served.broker, &loop, &options) != 0) give_up("the broker");
  uv_signal_init(&loop, &served.terminate);
  served.terminate.data = &served;
  uv_signal_start(&served.terminate, on_terminate, SIGTERM);
  slc__log_set(log_to_socket, &log, SLC__LOG_WARNING);
  send(log, "ready", 5, MSG_NOSIGNAL);
  uv_run(&loop, UV_RUN_DEFAULT);
  _exit(uv_loop_close(&loop) == 0 ? 0 : 2);
}

void raw_broker_start(struct raw_broker *broker, const struct limits *limits) {
  int log[2];
  char ready[64];
  test_watchdog(TEST_WATCHDOG_SECONDS);
  memset(broker, 0, sizeof *broker);
  snprintf(broker->directory, sizeof broker->directory, "/tmp/slotcast-raw-XXXXXX");
  if (mkdtemp(broker->directory) == NULL) give_up("mkdtemp");
  snprintf(broker->socket, sizeof broker->socket, "%s/broker.sock", broker->directory);
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, log) != 0) give_up("socketpair");
  broker->log = log[0];
  pid_t self = getpid();
  broker->pid = fork();
  if (broker->pid < 0) give_up("fork");
  if (broker->pid == 0) serve(broker, limits, log[1], self);
  close(log[1]);
  raw_broker_log(broker, ready, sizeof ready);
}

void raw_broker_stop(struct raw_broker *broker) {
  int status;
  kill(broker->pid, SIGTERM);
  if (waitpid(broker->pid, &status, 0) != broker->pid) give_up("waitpid");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fprintf(stderr, "the broker ended with wait status 0x%x\n", (unsigned)status);
    _exit(1);
  }
  close(broker->log);
  if (rmdir(broker->directory) != 0) give_up("the broker left files behind");
  test_watchdog(0);
}

void raw_broker_log(const struct raw_broker *broker, char *line, size_t size) {
  ssize_t length = recv(broker->log, line, size - 1, 0);
  if (length <= 0) give_up("the broker ended, where a line of its log was due");
  line[length] = '\0';
}

int raw_broker_descriptors(const struct raw_broker *broker) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)broker->pid);
  DIR *directory = opendir(path);
  if (directory == NULL) give_up(path);
  int count = 0;
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count - 2; /* . and .. */
}

int raw_broker_settle(const struct raw_broker *broker, struct raw *anchor, int expected) {
  enum { TURNS = 20000 };
  int count = raw_broker_descriptors(broker);
  for (int i = 0; count != expected && i < TURNS; i++) {
    struct raw_answer answer;
    raw_inspect(anchor, "no/such/channel", &answer);
    raw_answer_free(&answer);
    count = raw_broker_descriptors(broker);
  }
  return count;
}

/* ---- datagrams -------------------------------------------------------------------------------------------------- */

void raw_connect(struct raw *raw, const struct raw_broker *broker) {
  raw->serial = 0;
  if (slc__net_connect(broker->socket, -1, &raw->fd) != 0) give_up("connect");
}

void raw_close(struct raw *raw) {
  close(raw->fd);
}

void raw_send_bytes(const struct raw *raw, const void *data, size_t size, const int *fds, size_t fd_count) {
  if (slc__net_send(raw->fd, data, size, fds, fd_count, 0) != 0) give_up("send");
}

void raw_send(struct raw *raw, Slotcast__Message *message, int fd) {
  static uint8_t bytes[SLC__CODEC_MESSAGE_MAX];
  Slotcast__Descriptor entry = SLOTCAST__DESCRIPTOR__INIT;
  Slotcast__Descriptor *manifest[] = {&entry};
  size_t size;
  entry.kind = SLOTCAST__DESCRIPTOR_KIND__DOORBELL;
  entry.writable = 1;
  message->serial = ++raw->serial;
  if (fd >= 0) {
    message->n_descriptors = 1;
    message->descriptors = manifest;
  }
  if (slc__codec_encode(message, bytes, sizeof bytes, &size) != 0) give_up("encode");
  message->n_descriptors = 0; /* the manifest was ours */
  message->descriptors = NULL;
  raw_send_bytes(raw, bytes, size, &fd, fd >= 0 ? 1 : 0);
}

bool raw_receive(const struct raw *raw, struct raw_answer *ret_answer) {
  static uint8_t bytes[SLC__NET_DATAGRAM_MAX];
  size_t size = 0;
  int status = slc__net_receive(raw->fd, bytes, sizeof bytes, &size, &ret_answer->fds, 0);
  if (status == SLC__NET_CLOSED) return false;
  if (status != 0) give_up("receive");
  if (slc__codec_decode(bytes, size, ret_answer->fds.count, &ret_answer->message) != 0) give_up("decode");
  return true;
}

void raw_answer_free(struct raw_answer *answer) {
  slc__codec_free(answer->message);
  slc__fds_deinit(&answer->fds);
}

void raw_await(const struct raw *raw, struct raw_answer *ret_answer) {
  for (;;) {
    if (!raw_receive(raw, ret_answer)) give_up("the broker hung up, where an answer was due");
    if (ret_answer->message->serial == raw->serial) return;
    raw_answer_free(ret_answer);
  }
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static void call(struct raw *raw, Slotcast__Message *message, struct raw_answer *ret_answer) {
  raw_send(raw, message, -1);
  raw_await(raw, ret_answer);
}

void raw_hello(struct raw *raw, uint32_t major, uint8_t instance, struct raw_answer *ret_answer) {
  uint8_t bytes[16];
  Slotcast__Hello body = SLOTCAST__HELLO__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  memset(bytes, instance, sizeof bytes);
  body.major = major;
  body.client_name = (char *)(uintptr_t) "raw";
  body.instance.data = bytes;
  body.instance.len = sizeof bytes;
  message.body_case = SLOTCAST__MESSAGE__BODY_HELLO;
  message.hello = &body;
  call(raw, &message, ret_answer);
}

void raw_open(struct raw *raw, const struct raw_broker *broker, uint8_t instance) {
  struct raw_answer answer;
  raw_connect(raw, broker);
  raw_hello(raw, SLC__PROTOCOL_MAJOR, instance, &answer);
  if (answer.message->body_case != SLOTCAST__MESSAGE__BODY_HELLO_REPLY) give_up("hello was refused");
  raw_answer_free(&answer);
}

Slotcast__OpenPublisher raw_publisher(const char *channel) {
  Slotcast__OpenPublisher request = SLOTCAST__OPEN_PUBLISHER__INIT;
  request.channel = (char *)(uintptr_t)channel;
  return request;
}

Slotcast__OpenSubscriber raw_subscriber(const char *channel) {
  Slotcast__OpenSubscriber request = SLOTCAST__OPEN_SUBSCRIBER__INIT;
  request.channel = (char *)(uintptr_t)channel;
  return request;
}

void raw_publish(struct raw *raw, const Slotcast__OpenPublisher *request, struct raw_answer *ret_answer) {
  Slotcast__OpenPublisher body = *request;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_PUBLISHER;
  message.open_publisher = &body;
  call(raw, &message, ret_answer);
}

void raw_subscribe(struct raw *raw, const Slotcast__OpenSubscriber *request, struct raw_answer *ret_answer) {
  Slotcast__OpenSubscriber body = *request;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  message.body_case = SLOTCAST__MESSAGE__BODY_OPEN_SUBSCRIBER;
  message.open_subscriber = &body;
  call(raw, &message, ret_answer);
}

void raw_close_user(struct raw *raw, uint64_t user, struct raw_answer *ret_answer) {
  Slotcast__CloseUser body = SLOTCAST__CLOSE_USER__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  body.user = user;
  message.body_case = SLOTCAST__MESSAGE__BODY_CLOSE_USER;
  message.close_user = &body;
  call(raw, &message, ret_answer);
}

void raw_inspect(struct raw *raw, const char *channel, struct raw_answer *ret_answer) {
  Slotcast__InspectChannel body = SLOTCAST__INSPECT_CHANNEL__INIT;
  Slotcast__Message message = SLOTCAST__MESSAGE__INIT;
  body.channel = (char *)(uintptr_t)channel;
  message.body_case = SLOTCAST__MESSAGE__BODY_INSPECT_CHANNEL;
  message.inspect_channel = &body;
  call(raw, &message, ret_answer);
}

uint64_t raw_join_publisher(struct raw *raw, const char *channel) {
  struct raw_answer answer;
  Slotcast__OpenPublisher request = raw_publisher(channel);
  raw_publish(raw, &request, &answer);
  if (answer.message->body_case != SLOTCAST__MESSAGE__BODY_PUBLISHER_OPENED) give_up("a publisher was refused");
  uint64_t user = answer.message->publisher_opened->user;
  raw_answer_free(&answer);
  return user;
}

uint64_t raw_join_subscriber(struct raw *raw, const char *channel) {
  struct raw_answer answer;
  Slotcast__OpenSubscriber request = raw_subscriber(channel);
  raw_subscribe(raw, &request, &answer);
  if (answer.message->body_case != SLOTCAST__MESSAGE__BODY_SUBSCRIBER_OPENED) give_up("a subscriber was refused");
  uint64_t user = answer.message->subscriber_opened->user;
  raw_answer_free(&answer);
  return user;
}

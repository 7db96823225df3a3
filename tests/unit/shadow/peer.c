/* See peer.h.  Single-threaded. */
#include "peer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
/* The order matters: cmocka needs what is above. */
#include <cmocka.h>

#define BYTES(text) ((ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)(text), .len = strlen(text)})
enum { RECORDS_MAX = 64, TEXT_MAX = 160 };

/* For cmocka's fail does not tell the compiler that it does not return. */
static _Noreturn void give_up(const char *why) {
  fail_msg("%s", why);
  abort();
}

int peer_connect(const char *socket) {
  int fd;
  if (slc__net_connect(socket, -1, &fd) != 0) give_up(slc__error_detail());
  return fd;
}

void peer_send(int fd, const Slotcast__ShadowMessage *message, const int *fds, size_t fd_count) {
  static uint8_t bytes[SLC__CODEC_MESSAGE_MAX];
  size_t size;
  assert_int_equal(slc__shadow_encode(message, bytes, sizeof bytes, &size), 0);
  int status = slc__net_send(fd, bytes, size, fds, fd_count, 0);
  if (status != 0 && status != SLC__NET_CLOSED) give_up(slc__error_detail());
}

static void send_body(int fd, Slotcast__ShadowMessage__BodyCase body, void *content) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  message.body_case = body;
  message.hello = content;
  peer_send(fd, &message, NULL, 0);
}

void peer_put(int fd, const char *key, const char *value, const int *fds, size_t fd_count) {
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  Slotcast__ShadowRecord record = SLOTCAST__SHADOW_RECORD__INIT;
  record.key = BYTES(key);
  record.value = BYTES(value);
  record.descriptors = (uint32_t)fd_count;
  message.body_case = SLOTCAST__SHADOW_MESSAGE__BODY_RECORD;
  message.record = &record;
  peer_send(fd, &message, fds, fd_count);
}

void peer_drop(int fd, const char *key) {
  Slotcast__ShadowDrop drop = SLOTCAST__SHADOW_DROP__INIT;
  drop.key = BYTES(key);
  send_body(fd, SLOTCAST__SHADOW_MESSAGE__BODY_DROP, &drop);
}

void peer_begin(int fd) {
  Slotcast__ShadowBegin begin = SLOTCAST__SHADOW_BEGIN__INIT;
  send_body(fd, SLOTCAST__SHADOW_MESSAGE__BODY_BEGIN, &begin);
}

void peer_load(int fd) {
  Slotcast__ShadowLoad load = SLOTCAST__SHADOW_LOAD__INIT;
  send_body(fd, SLOTCAST__SHADOW_MESSAGE__BODY_LOAD, &load);
}

void peer_receive(int fd, struct answer *ret_answer) {
  static uint8_t bytes[SLC__NET_DATAGRAM_MAX];
  size_t size;
  ret_answer->message = NULL;
  slc__fds_init(&ret_answer->fds);
  int status = slc__net_receive(fd, bytes, sizeof bytes, &size, &ret_answer->fds, 0);
  if (status == SLC__NET_CLOSED) return;
  if (status == 0) status = slc__shadow_decode(bytes, size, ret_answer->fds.count, &ret_answer->message);
  if (status != 0) give_up(slc__error_detail());
}

void answer_deinit(struct answer *answer) {
  slc__shadow_free(answer->message);
  slc__fds_deinit(&answer->fds);
}

static void expect(int fd, Slotcast__ShadowMessage__BodyCase body, struct answer *ret_answer) {
  peer_receive(fd, ret_answer);
  if (ret_answer->message == NULL) give_up("the shadow closed the connection");
  if (ret_answer->message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_REFUSAL)
    print_error("refused: %s\n", ret_answer->message->refusal->text);
  assert_int_equal(ret_answer->message->body_case, body);
}

int peer_hello(const char *socket, Slotcast__ShadowState *ret_state) {
  struct answer answer;
  Slotcast__ShadowHello hello = SLOTCAST__SHADOW_HELLO__INIT;
  int fd = peer_connect(socket);
  hello.major = SLC__SHADOW_MAJOR;
  send_body(fd, SLOTCAST__SHADOW_MESSAGE__BODY_HELLO, &hello);
  expect(fd, SLOTCAST__SHADOW_MESSAGE__BODY_STATE, &answer);
  *ret_state = *answer.message->state;
  answer_deinit(&answer);
  return fd;
}

void peer_commit(int fd, uint64_t number, uint64_t generation) {
  struct answer answer;
  Slotcast__ShadowCommit commit = SLOTCAST__SHADOW_COMMIT__INIT;
  commit.number = number;
  commit.generation = generation;
  send_body(fd, SLOTCAST__SHADOW_MESSAGE__BODY_COMMIT, &commit);
  expect(fd, SLOTCAST__SHADOW_MESSAGE__BODY_COMMITTED, &answer);
  assert_int_equal(answer.message->committed->number, number);
  answer_deinit(&answer);
}

void peer_expect_refusal(int fd, int status) {
  bool was_refused = false;
  for (;;) {
    struct answer answer;
    peer_receive(fd, &answer);
    if (answer.message == NULL) break;
    if (answer.message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_REFUSAL) {
      assert_int_equal(answer.message->refusal->status, status);
      assert_true(strlen(answer.message->refusal->text) > 0);
      was_refused = true;
    }
    answer_deinit(&answer);
  }
  assert_true(was_refused);
}

/* ---- records ---- */

int peer_descriptor(const char *key, size_t place) {
  int fd = memfd_create("peer", MFD_CLOEXEC);
  if (fd < 0) fail_msg("memfd_create: %s", strerror(errno));
  dprintf(fd, "%s %zu", key, place);
  return fd;
}

static void check_descriptor(int fd, const char *key, size_t place) {
  char expected[TEXT_MAX], found[TEXT_MAX] = "";
  snprintf(expected, sizeof expected, "%s %zu", key, place);
  assert_true(pread(fd, found, sizeof found - 1, 0) >= 0);
  assert_string_equal(found, expected);
}

static void describe(const struct answer *answer, char *text) {
  const Slotcast__ShadowRecord *record = answer->message->record;
  char key[SLC__CODEC_KEY_MAX + 1];
  snprintf(key, sizeof key, "%.*s", (int)record->key.len, (const char *)record->key.data);
  int length = snprintf(text, TEXT_MAX, "%s=%.*s", key, (int)record->value.len, (const char *)record->value.data);
  if (answer->fds.count > 0) snprintf(text + length, TEXT_MAX - (size_t)length, "*%zu", answer->fds.count);
  for (size_t i = 0; i < answer->fds.count; i++) check_descriptor(answer->fds.fd[i], key, i);
}

static int by_text(const void *left, const void *right) {
  return strcmp(left, right);
}

void peer_expect_records(int fd, const char *records) {
  static char texts[RECORDS_MAX][TEXT_MAX];
  char all[RECORDS_MAX * TEXT_MAX] = "";
  size_t count = 0, length = 0;
  peer_load(fd);
  for (bool more = true; more;) {
    struct answer answer;
    peer_receive(fd, &answer);
    if (answer.message == NULL) give_up("the shadow closed the connection");
    more = answer.message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_RECORD;
    assert_true(more || answer.message->body_case == SLOTCAST__SHADOW_MESSAGE__BODY_LOADED);
    assert_true(count < RECORDS_MAX);
    if (more) describe(&answer, texts[count++]);
    if (!more) assert_int_equal(answer.message->loaded->records, count);
    answer_deinit(&answer);
  }
  qsort(texts, count, sizeof texts[0], by_text);
  for (size_t i = 0; i < count; i++)
    length += (size_t)snprintf(all + length, sizeof all - length, "%s%s", i > 0 ? ";" : "", texts[i]);
  assert_string_equal(all, records);
}

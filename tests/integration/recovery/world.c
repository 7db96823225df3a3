/* See world.h. */
#include "world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "slotcast/slotcast.h"
#include "support/check.h"

enum { SLOTS = 300 /* more payloads than one record has descriptors */ };
#define MUX "the/mux"
static const char *const names[] = {"plain", "grown", "split", MUX, "reliable", "early", "kept", "lingers"};
enum { NAMES = sizeof names / sizeof *names };

static _Noreturn void give_up(const char *what) {
  fprintf(stderr, "the world: %s: %s\n", what, slc_error_detail());
  _exit(1);
}

static void must(int status, const char *what) {
  if (status != 0) give_up(what);
}

/* ---- messages ---- */

/* The sizes of a channel that grows, in the order of its messages. */
static size_t size_of(const char *channel, uint64_t ordinal) {
  static const size_t sizes[] = {100, 100, 3000, 100, 3000, 20000, 100, 20000, 50, 100};
  bool grows = strcmp(channel, "grown") == 0 || strcmp(channel, "split") == 0;
  return grows ? sizes[(ordinal - 1) % WORLD_MESSAGES] : WORLD_WHOLE_SIZE;
}

static uint8_t byte_of(const char *channel, uint64_t ordinal, size_t at) {
  return (uint8_t)((uint8_t)channel[0] + ordinal * 31 + at * 7 + (at >> 8));
}

static void publish(slc_publisher *publisher, const char *channel, uint64_t ordinal) {
  slc_loan loan;
  size_t size = size_of(channel, ordinal);
  must(slc_publisher_loan(publisher, size, &loan), channel);
  for (size_t i = 0; i < size; i++) ((uint8_t *)loan.data)[i] = byte_of(channel, ordinal, i);
  must(slc_publisher_publish(publisher, &loan, size, NULL), channel);
}

static void check(const char *channel, const slc_message *message, uint64_t ordinal) {
  assert_int_equal(message->size, size_of(channel, ordinal));
  for (size_t i = 0; i < message->size; i++)
    assert_int_equal(((const uint8_t *)message->data)[i], byte_of(channel, ordinal, i));
}

/* ---- the child ---- */

static slc_publisher *make(slc_client *client, const char *channel, slc_publisher_options options) {
  slc_publisher *publisher = NULL;
  if (options.slots == 0) options.slots = SLOTS;
  options.slot_size = WORLD_WHOLE_SIZE;
  must(slc_publisher_open(client, channel, &options, &publisher), channel);
  for (uint64_t n = 1; n <= WORLD_MESSAGES; n++) publish(publisher, channel, n);
  return publisher;
}

static slc_subscriber *subscribe(slc_client *client, const char *channel, slc_subscriber_options options) {
  slc_subscriber *subscriber = NULL;
  must(slc_subscriber_open(client, channel, &options, &subscriber), channel);
  return subscriber;
}

static void make_plain(slc_client *client) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options holder = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_message message;
  options.type = "bytes";
  options.max_subscribers = 40;
  holder.max_holds = 20; /* several lines */
  slc_subscriber *subscriber = subscribe(client, "plain", holder);
  make(client, "plain", options);
  must(slc_subscriber_take(subscriber, &message), "take");
  must(slc_subscriber_take(subscriber, &message), "take");
}

static void make_large(slc_client *client) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  make(client, "grown", options);
  options.split = 1;
  make(client, "split", options);
}

static void make_multiplexer(slc_client *client) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options waiting = SLC_SUBSCRIBER_OPTIONS_INIT;
  options.multiplexer = MUX;
  waiting.multiplexer = MUX;
  make(client, "left", options);
  options.virtual_id = 7;
  make(client, "right", options);
  subscribe(client, "left", waiting);
  subscribe(client, "later", waiting);
}

static void make_reliable(slc_client *client) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  slc_subscriber_options reliable = SLC_SUBSCRIBER_OPTIONS_INIT;
  int fd;
  options.reliable = reliable.reliable = 1;
  slc_subscriber *subscriber = subscribe(client, "reliable", reliable);
  slc_publisher *publisher = make(client, "reliable", options);
  must(slc_subscriber_fd(subscriber, &fd), "fd");
  must(slc_publisher_fd(publisher, &fd), "fd");
}

static void make_others(slc_client *client) {
  slc_subscriber_options early = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_channel_options kept = SLC_CHANNEL_OPTIONS_INIT;
  slc_publisher_options lingering = SLC_PUBLISHER_OPTIONS_INIT;
  subscribe(client, "early", early);
  kept.type = "kept";
  kept.max_holds = 50;
  must(slc_channel_create(client, "kept", &kept), "kept");
  lingering.linger_ns = INT64_C(3600) * 1000 * 1000 * 1000;
  slc_publisher_close(make(client, "lingers", lingering));
}

static _Noreturn void live(int ready, int until) {
  slc_client *client;
  char byte;
  must(slc_client_open(NULL, &client), "client");
  make_plain(client);
  make_large(client);
  make_multiplexer(client);
  make_reliable(client);
  make_others(client);
  if (write(ready, "", 1) != 1) give_up("ready");
  _exit(read(until, &byte, 1) == 0 ? 0 : 1);
}

void world_start(struct world *world) {
  int ready[2], until[2];
  char byte;
  assert_int_equal(pipe(ready), 0);
  assert_int_equal(pipe(until), 0);
  world->pid = fork();
  assert_true(world->pid >= 0);
  if (world->pid == 0) {
    close(ready[0]);
    close(until[1]);
    live(ready[1], until[0]);
  }
  close(ready[1]);
  close(until[0]);
  world->pipe = until[1];
  assert_int_equal(read(ready[0], &byte, 1), 1);
  close(ready[0]);
}

void world_kill(struct world *world) {
  int status;
  kill(world->pid, SIGKILL);
  assert_int_equal(waitpid(world->pid, &status, 0), world->pid);
  close(world->pipe);
}

/* ---- from outside ---- */

static void append_output(FILE *out, const char *command) {
  char line[512];
  FILE *pipe = popen(command, "re");
  assert_non_null(pipe);
  while (fgets(line, sizeof line, pipe) != NULL) fputs(line, out);
  assert_int_equal(pclose(pipe), 0);
}

static void append_users(FILE *out, const slc_channel_info *info) {
  for (uint32_t i = 0; i < info->user_count; i++) {
    const slc_user_info *user = &info->users[i];
    fprintf(out, " user %llu %d %d %d %s %s: %llu %llu %llu %llu %llu, %u of %u, %u %d\n", (unsigned long long)user->id,
            user->is_publisher, user->is_reliable, (int)user->pid, user->program, user->client_name,
            (unsigned long long)user->messages, (unsigned long long)user->bytes, (unsigned long long)user->drops,
            (unsigned long long)user->lag, (unsigned long long)user->would_block, user->holds, user->max,
            user->virtual_id, user->is_too_slow);
  }
}

static void append_info(FILE *out, slc_client *client, const char *channel) {
  slc_channel_info *info = NULL;
  check_ok(slc_channel_inspect(client, channel, &info));
  fprintf(out, "%s: %llu bytes, %llu drops, slots %u %u %u %u, budget %u\n", channel, (unsigned long long)info->bytes,
          (unsigned long long)info->drops, info->slots_free, info->slots_owned, info->slots_published, info->slots_held,
          info->budget_used);
  append_users(out, info);
  for (uint32_t i = 0; i < info->virtual_count; i++) {
    const slc_virtual_info *virtual = &info->virtuals[i];
    fprintf(out, " virtual %u %s \"%s\" %llu %u %u\n", virtual->id, virtual->name, virtual->type,
            (unsigned long long)virtual->messages, virtual->publishers, virtual->subscribers);
  }
  slc_channel_info_free(info);
}

char *world_look(void) {
  char *text = NULL, command[512];
  size_t size = 0;
  slc_client *client = NULL;
  FILE *out = open_memstream(&text, &size);
  assert_non_null(out);
  snprintf(command, sizeof command, "%s ls --json", test_program("slotcast"));
  append_output(out, command);
  check_ok(slc_client_open(NULL, &client));
  for (int i = 0; i < NAMES; i++) append_info(out, client, names[i]);
  slc_client_close(client);
  fclose(out);
  return text;
}

static void read_all(slc_client *client, const char *channel, const char *multiplexer) {
  slc_subscriber_options options = SLC_SUBSCRIBER_OPTIONS_INIT;
  slc_subscriber *subscriber = NULL;
  options.start = SLC_START_OLDEST;
  options.multiplexer = multiplexer;
  check_ok(slc_subscriber_open(client, channel, &options, &subscriber));
  for (uint64_t n = 1; n <= WORLD_MESSAGES; n++) {
    slc_message message;
    check_ok(slc_subscriber_take(subscriber, &message));
    check(channel, &message, n);
    check_ok(slc_subscriber_release(subscriber, &message));
  }
  slc_subscriber_close(subscriber);
}

void world_read(void) {
  slc_client *client = NULL;
  check_ok(slc_client_open(NULL, &client));
  read_all(client, "plain", NULL);
  read_all(client, "grown", NULL);
  read_all(client, "split", NULL);
  read_all(client, "left", MUX);
  read_all(client, "right", MUX);
  read_all(client, "reliable", NULL);
  read_all(client, "lingers", NULL);
  slc_client_close(client);
}

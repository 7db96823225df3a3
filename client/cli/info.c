/* slotcast info: one channel, from two looks that give its rates. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "json.h"

enum { DEFAULT_INTERVAL_MS = 500, BAR_WIDTH = 60 };

static const char help_text[] =
    "Usage: slotcast info CHANNEL [--json] [--interval MS] [--socket PATH]\n"
    "\n"
    "Shows a channel: its shape, its users with process, rates and drops, and where its slots are.\n"
    "\n"
    "  --json          one object\n"
    "  --interval MS   time between the two looks that give the rates; default 500, 0 for none\n"
    "  --socket PATH   the broker; default $SLOTCAST_SOCKET, else as `slotcastd --help` says\n"
    "  --help\n";

/* Two looks at the same channel. */
struct looks {
  const slc_channel_info *before, *after;
  double seconds; /* 0: there was one look only */
};

static double rate(uint64_t before, uint64_t after, double seconds) {
  return seconds > 0 && after >= before ? (double)(after - before) / seconds : 0;
}

static const slc_user_info *user_before(const struct looks *looks, uint64_t id) {
  for (uint32_t i = 0; i < looks->before->user_count; i++) {
    if (looks->before->users[i].id == id) return &looks->before->users[i];
  }
  return NULL;
}

static double user_rate(const struct looks *looks, const slc_user_info *user) {
  const slc_user_info *before = user_before(looks, user->id);
  return before == NULL ? 0 : rate(before->messages, user->messages, looks->seconds);
}

/* ---- JSON ---- */

static json_t *user_to_json(const struct looks *looks, const slc_user_info *user) {
  return json_pack("{s:I, s:s, s:b, s:b, s:i, s:I, s:s, s:s, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "id",
                   (json_int_t)user->id, "role", user->is_publisher ? "publisher" : "subscriber", "reliable",
                   user->is_reliable, "connected", user->is_connected, "pid", (int)user->pid, "uid",
                   (json_int_t)user->uid, "program", user->program, "client", user->client_name, "messages",
                   (json_int_t)user->messages, "messages_per_second", user_rate(looks, user), "bytes",
                   (json_int_t)user->bytes, "drops", (json_int_t)user->drops, "lag", (json_int_t)user->lag,
                   "would_block", (json_int_t)user->would_block, "holds", (json_int_t)user->holds, "max",
                   (json_int_t)user->max, "virtual_id", (json_int_t)user->virtual_id, "too_slow", user->is_too_slow);
}

/* NULL: no memory for all of them. */
static json_t *users_to_json(const struct looks *looks) {
  const slc_channel_info *channel = looks->after;
  json_t *users = json_array();
  for (uint32_t i = 0; i < channel->user_count; i++) {
    if (json_array_append_new(users, user_to_json(looks, &channel->users[i])) == 0) continue;
    json_decref(users);
    return NULL;
  }
  return users;
}

/* NULL: no memory for all of them. */
static json_t *virtuals_to_json(const slc_channel_info *channel) {
  json_t *virtuals = json_array();
  for (uint32_t i = 0; i < channel->virtual_count; i++) {
    const slc_virtual_info *each = &channel->virtuals[i];
    json_t *object = json_pack("{s:I, s:s, s:s, s:I, s:I, s:I}", "id", (json_int_t)each->id, "name", each->name, "type",
                               each->type, "publishers", (json_int_t)each->publishers, "subscribers",
                               (json_int_t)each->subscribers, "messages", (json_int_t)each->messages);
    if (json_array_append_new(virtuals, object) == 0) continue;
    json_decref(virtuals);
    return NULL;
  }
  return virtuals;
}

static int print_as_json(const struct looks *looks) {
  const slc_channel_info *channel = looks->after;
  json_t *object = channel_to_json(channel);
  json_t *more = json_pack("{s:I, s:I, s:f, s:f, s:I, s:{s:I, s:I, s:I, s:I}}", "bytes", (json_int_t)channel->bytes,
                           "drops", (json_int_t)channel->drops, "messages_per_second",
                           rate(looks->before->messages, channel->messages, looks->seconds), "bytes_per_second",
                           rate(looks->before->bytes, channel->bytes, looks->seconds), "budget_used",
                           (json_int_t)channel->budget_used, "slot_states", "free", (json_int_t)channel->slots_free,
                           "owned", (json_int_t)channel->slots_owned, "published", (json_int_t)channel->slots_published,
                           "held", (json_int_t)channel->slots_held);
  bool complete = json_object_update(object, more) == 0 &&
                  json_object_set_new(object, "users", users_to_json(looks)) == 0 &&
                  json_object_set_new(object, "virtuals", virtuals_to_json(channel)) == 0;
  json_decref(more);
  if (complete) return print_json(object);
  json_decref(object);
  return print_json(NULL);
}

/* ---- words ---- */

static uint32_t part_of_bar(uint32_t count, uint32_t slots) {
  uint32_t width = (uint32_t)((uint64_t)count * BAR_WIDTH / slots);
  return count > 0 && width == 0 ? 1 : width;
}

/* One character for every so many slots: P published, o with a publisher, . free. */
static void print_bar(const slc_channel_info *channel) {
  uint32_t published = part_of_bar(channel->slots_published, channel->slots);
  uint32_t owned = part_of_bar(channel->slots_owned, channel->slots);
  if (published + owned > BAR_WIDTH) published = BAR_WIDTH - owned;
  printf("           [");
  for (uint32_t i = 0; i < BAR_WIDTH; i++) putchar(i < published ? 'P' : i < published + owned ? 'o' : '.');
  printf("]  P published, o with a publisher, . free\n");
}

static void print_user(const struct looks *looks, const slc_user_info *user) {
  printf("  %-10s %7d %6u  %-16.16s %-16.16s %14llu %12.1f %10llu %8llu %4u/%-4u%s%s%s\n",
         user->is_publisher ? "publisher" : "subscriber", (int)user->pid, user->uid, user->program, user->client_name,
         (unsigned long long)user->messages, user_rate(looks, user), (unsigned long long)user->drops,
         (unsigned long long)user->lag, user->holds, user->max, user->is_reliable ? "  reliable" : "",
         user->is_too_slow ? "  too slow: takes nothing any more" : "", user->is_connected ? "" : "  disconnected");
}

static void print_virtuals(const slc_channel_info *channel) {
  if (channel->max_virtual == 0) return;
  printf("virtual    %u channels of at most %u\n", channel->virtual_count, channel->max_virtual);
  if (channel->virtual_count > 0) printf("  %5s %5s %5s %14s  %s\n", "ID", "PUBS", "SUBS", "MESSAGES", "NAME");
  for (uint32_t i = 0; i < channel->virtual_count; i++) {
    const slc_virtual_info *each = &channel->virtuals[i];
    printf("  %5u %5u %5u %14llu  %s\n", each->id, each->publishers, each->subscribers,
           (unsigned long long)each->messages, each->name);
  }
}

static void print_term(const char *what, uint64_t value, const char **separator) {
  if (value == 0) return;
  printf("%s%s %llu", *separator, what, (unsigned long long)value);
  *separator = ", ";
}

/* What is settled for all of its users, where anything is. */
static void print_terms(const slc_channel_info *channel) {
  const char *separator = "terms      ";
  if (channel->is_persistent) {
    printf("%sstays without users", separator);
    separator = ", ";
  } else if (channel->linger_ns > 0) {
    printf("%sstays %.3f s without users%s", separator, (double)channel->linger_ns / 1e9,
           channel->is_lingering ? " (that is now)" : "");
    separator = ", ";
  }
  if (channel->is_fixed_size) {
    printf("%sfixed size", separator);
    separator = ", ";
  }
  if (channel->slow_policy == SLC_SLOW_DISCONNECT) {
    printf("%sdisconnects slow subscribers", separator);
    separator = ", ";
  }
  if (channel->is_split) {
    printf("%ssplit: payloads in memory of their own", separator);
    separator = ", ";
  }
  print_term("keeps the last", channel->keep_last, &separator);
  print_term("subscribers up to", channel->max_subscribers, &separator);
  print_term("loans up to", channel->max_loans, &separator);
  print_term("holds up to", channel->max_holds, &separator);
  if (separator[0] == ',') putchar('\n');
}

static int print_as_words(const struct looks *looks) {
  const slc_channel_info *channel = looks->after;
  char slot_size[32], memory[32], bytes[32], byte_rate[32];
  printf("channel    %s\n", channel->name);
  if (channel->type[0] != '\0') printf("type       %s\n", channel->type);
  if (!channel->is_shaped) {
    printf("shape      none yet: no publisher has come\n");
  } else {
    printf("shape      %u slots of %s, %s, at most %u publishers, %s of shared memory\n", channel->slots,
           human_bytes((double)channel->slot_size, slot_size), channel->is_reliable ? "reliable" : "not reliable",
           channel->max_publishers, human_bytes((double)channel->memory, memory));
    printf("memory     %s, %s pages\n", backend_text(channel->backend), pages_text(channel->pages, slot_size));
    if (channel->generation > 1)
      printf("grown      to slots of %s: generation %u, %u there now\n",
             human_bytes((double)channel->largest, slot_size), channel->generation, channel->generations);
    printf("messages   %llu, %.1f/s; %s, %s/s; %llu dropped\n", (unsigned long long)channel->messages,
           rate(looks->before->messages, channel->messages, looks->seconds), human_bytes((double)channel->bytes, bytes),
           human_bytes(rate(looks->before->bytes, channel->bytes, looks->seconds), byte_rate),
           (unsigned long long)channel->drops);
    printf("slots      %u free, %u with publishers, %u published; %u held; %u of %u promised\n", channel->slots_free,
           channel->slots_owned, channel->slots_published, channel->slots_held, channel->budget_used, channel->slots);
    print_bar(channel);
    print_virtuals(channel);
  }
  print_terms(channel);
  printf("users      %u\n", channel->user_count);
  if (channel->user_count > 0)
    printf("  %-10s %7s %6s  %-16s %-16s %14s %12s %10s %8s %9s\n", "ROLE", "PID", "UID", "PROGRAM", "CLIENT",
           "MESSAGES", "PER SECOND", "DROPS", "LAG", "USED/MAX");
  for (uint32_t i = 0; i < channel->user_count; i++) print_user(looks, &channel->users[i]);
  return EXIT_OK;
}

/* ---- looking ---- */

static int look_and_print(slc_client *client, const char *name, uint64_t interval_ms, bool json) {
  slc_channel_info *before = NULL, *after = NULL;
  int status = slc_channel_inspect(client, name, &before);
  if (status == SLC_OK && interval_ms > 0) {
    nanosleep(
        &(struct timespec){.tv_sec = (time_t)(interval_ms / 1000), .tv_nsec = (long)(interval_ms % 1000) * 1000000},
        NULL);
    status = slc_channel_inspect(client, name, &after);
  }
  int code;
  if (status != SLC_OK) {
    code = fail_status("cannot inspect", status);
  } else {
    struct looks looks = {.before = before, .after = after != NULL ? after : before};
    looks.seconds = (double)(looks.after->taken_at_ns - before->taken_at_ns) / 1e9;
    code = json ? print_as_json(&looks) : print_as_words(&looks);
  }
  slc_channel_info_free(before);
  slc_channel_info_free(after);
  return code;
}

int command_info(int argc, char **argv) {
  static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                          {"interval", required_argument, NULL, 'i'},
                                          {"socket", required_argument, NULL, 'S'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  bool json = false;
  const char *socket = NULL;
  uint64_t interval_ms = DEFAULT_INTERVAL_MS;
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    switch (option) {
    case 'j':
      json = true;
      break;
    case 'S':
      socket = optarg;
      break;
    case 'i':
      if (!parse_number(optarg, 0, 3600000, &interval_ms))
        return fail(EXIT_USAGE, "--interval takes milliseconds, 0 to 3600000, not '%s'", optarg);
      break;
    case 'h':
      fputs(help_text, stdout);
      return EXIT_OK;
    default:
      return fail_usage("info");
    }
  }
  if (argc - optind != 1) return fail(EXIT_USAGE, "info takes one channel: slotcast ls lists them");
  slc_client *client;
  int code = connect_broker(socket, &client);
  if (code != EXIT_OK) return code;
  code = look_and_print(client, argv[optind], interval_ms, json);
  slc_client_close(client);
  return code;
}

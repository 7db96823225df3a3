/* slotcast events: what happens to channels and their users, a line each.  Thread: main. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "json.h"

static const char help_text[] =
    "Usage: slotcast events [OPTION]...\n"
    "\n"
    "Tells what happens: channels created and removed, publishers and subscribers that joined, left or died, slow\n"
    "subscribers, channels that grew.  Begins with what the broker still remembers, and ends with the broker.\n"
    "\n"
    "  --json            an object in a line for each\n"
    "  --channel NAME    of this channel alone\n"
    "  --from WHERE      oldest: what is remembered, then what comes (the default); newest: what comes from now on\n"
    "  --count N         end after N events\n"
    "  --socket PATH     the broker; default $SLOTCAST_SOCKET, else as `slotcastd --help` says\n"
    "  --help\n";

struct events_options {
  const char *channel, *socket;
  bool json;
  int from; /* enum slc_start */
  uint64_t count;
};

static int parse(int argc, char **argv, struct events_options *ret) {
  static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                          {"channel", required_argument, NULL, 'n'},
                                          {"from", required_argument, NULL, 'f'},
                                          {"count", required_argument, NULL, 'c'},
                                          {"socket", required_argument, NULL, 'S'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  *ret = (struct events_options){.from = SLC_START_OLDEST};
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    switch (option) {
    case 'j':
      ret->json = true;
      break;
    case 'n':
      ret->channel = optarg;
      break;
    case 'S':
      ret->socket = optarg;
      break;
    case 'c':
      if (take_count(optarg, &ret->count) != EXIT_OK) return EXIT_USAGE;
      break;
    case 'f':
      if (strcmp(optarg, "oldest") != 0 && strcmp(optarg, "newest") != 0)
        return fail(EXIT_USAGE, "--from is oldest or newest, not '%s'", optarg);
      ret->from = strcmp(optarg, "oldest") == 0 ? SLC_START_OLDEST : SLC_START_NEWEST;
      break;
    case 'h':
      fputs(help_text, stdout);
      exit(EXIT_OK);
    default:
      return fail_usage("events");
    }
  }
  if (optind < argc)
    return fail(EXIT_USAGE, "events takes no argument: of one channel alone with --channel %s", argv[optind]);
  return EXIT_OK;
}

/* ---- one event ---- */

/* "2026-01-31T12:34:56.789Z" */
static const char *time_text(uint64_t realtime_ns, char text[32]) {
  time_t seconds = (time_t)(realtime_ns / 1000000000);
  struct tm tm;
  char whole[24];
  gmtime_r(&seconds, &tm);
  strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &tm);
  snprintf(text, 32, "%s.%03uZ", whole, (unsigned)(realtime_ns % 1000000000 / 1000000));
  return text;
}

/* Who it is, where it is of a user. */
static json_t *user_to_json(const slc_event *event) {
  if (event->user == 0) return json_object();
  return json_pack("{s:I, s:i, s:s, s:s, s:b}", "user", (json_int_t)event->user, "pid", (int)event->pid, "program",
                   event->program, "client", event->client_name, "reliable", event->is_reliable != 0);
}

/* What its kind has. */
static json_t *figures_to_json(const slc_event *event) {
  switch (event->kind) {
  case SLC_EVENT_CHANNEL_CREATED:
    return json_pack("{s:I}", "slot_size", (json_int_t)event->slot_size);
  case SLC_EVENT_CHANNEL_GREW:
    return json_pack("{s:I, s:I}", "slot_size", (json_int_t)event->slot_size, "generation",
                     (json_int_t)event->generation);
  case SLC_EVENT_SUBSCRIBER_OVERRUN:
    return json_pack("{s:I, s:I}", "lost", (json_int_t)event->lost, "lag", (json_int_t)event->lag);
  case SLC_EVENT_SUBSCRIBER_DISCONNECTED:
    return json_pack("{s:I}", "lag", (json_int_t)event->lag);
  case SLC_EVENT_SUBSCRIBER_HOLDS:
  case SLC_EVENT_SUBSCRIBER_STALLS:
    return json_pack("{s:I, s:I, s:I}", "held_ns", (json_int_t)event->held_ns, "held_ordinal",
                     (json_int_t)event->held_ordinal, "lag", (json_int_t)event->lag);
  default:
    return json_object();
  }
}

static json_t *event_to_json(const slc_event *event, uint64_t ordinal) {
  char time[32];
  json_t *object = json_pack("{s:I, s:s, s:s, s:s, s:I}", "ordinal", (json_int_t)ordinal, "time",
                             time_text(event->realtime_ns, time), "event", slc_event_name(event->kind), "channel",
                             event->channel, "uid", (json_int_t)event->uid);
  return json_joined(json_joined(object, user_to_json(event)), figures_to_json(event));
}

/* In one line, which a reader may rely on. */
static int print_as_json(const slc_event *event, uint64_t ordinal) {
  json_t *object = event_to_json(event, ordinal);
  int result = object == NULL ? -1 : json_dumpf(object, stdout, JSON_COMPACT);
  json_decref(object);
  if (result != 0) return fail(EXIT_FAILED, "cannot make JSON of this");
  putchar('\n');
  return EXIT_OK;
}

static void print_figures(const slc_event *event) {
  char size[32];
  switch (event->kind) {
  case SLC_EVENT_CHANNEL_GREW:
    printf("  slots of %s, generation %u", human_bytes((double)event->slot_size, size), event->generation);
    break;
  case SLC_EVENT_SUBSCRIBER_OVERRUN:
    printf("  lost %llu, %llu behind", (unsigned long long)event->lost, (unsigned long long)event->lag);
    break;
  case SLC_EVENT_SUBSCRIBER_DISCONNECTED:
    printf("  %llu behind", (unsigned long long)event->lag);
    break;
  case SLC_EVENT_SUBSCRIBER_STALLS:
    printf("  waited for to take message %llu for %.1f s, %llu behind", (unsigned long long)event->held_ordinal,
           (double)event->held_ns / 1e9, (unsigned long long)event->lag);
    break;
  case SLC_EVENT_SUBSCRIBER_HOLDS:
    printf("  message %llu for %.1f s, %llu behind", (unsigned long long)event->held_ordinal,
           (double)event->held_ns / 1e9, (unsigned long long)event->lag);
    break;
  default:
    break;
  }
}

static int print_as_words(const slc_event *event) {
  char time[32];
  printf("%s  %-18s  %s", time_text(event->realtime_ns, time), slc_event_name(event->kind), event->channel);
  if (event->user != 0)
    printf("  %s (pid %d, uid %u, %s)%s", event->program, (int)event->pid, event->uid, event->client_name,
           event->is_reliable ? " reliable" : "");
  print_figures(event);
  putchar('\n');
  return EXIT_OK;
}

/* ---- all ---- */

/* What is there now.  EXIT_OK: go on, unless *ret_left has come to 0. */
static int print_available(slc_subscriber *events, const struct events_options *options, uint64_t *ret_left) {
  slc_message message;
  int status = SLC_OK;
  while (*ret_left > 0 && !interrupted() && (status = slc_subscriber_take(events, &message)) == SLC_OK) {
    slc_event event = {.size = sizeof event};
    status = slc_event_read(&message, &event);
    slc_subscriber_release(events, &message);
    if (status != SLC_OK) return fail_status("cannot read an event", status);
    if (options->channel != NULL && strcmp(event.channel, options->channel) != 0) continue;
    int code = options->json ? print_as_json(&event, message.ordinal) : print_as_words(&event);
    if (code != EXIT_OK) return code;
    --*ret_left;
  }
  return status == SLC_OK || status == SLC_EMPTY ? EXIT_OK : fail_status("cannot receive events", status);
}

/* A broker that was killed rings nobody: in silence it is asked whether it is still there. */
static int look_after_broker(slc_client *client) {
  slc_channel_info *info;
  int status = slc_channel_inspect(client, SLC_EVENTS_CHANNEL, &info);
  if (status != SLC_OK) return fail_status("no more events", status);
  slc_channel_info_free(info);
  return EXIT_OK;
}

static bool broker_has_ended(slc_subscriber *events) {
  slc_subscriber_stats stats = {.size = sizeof stats};
  return slc_subscriber_stats_get(events, &stats) == SLC_OK && stats.publishers == 0;
}

static int follow(slc_client *client, slc_subscriber *events, const struct events_options *options) {
  uint64_t left = options->count > 0 ? options->count : UINT64_MAX;
  int64_t heard = now_ns();
  while (!interrupted()) {
    bool is_last = broker_has_ended(events);
    int code = print_available(events, options, &left);
    if (fflush(stdout) != 0 && code == EXIT_OK)
      code = fail(EXIT_FAILED, "cannot write to standard output: %s", strerror(errno));
    if (code != EXIT_OK || left == 0 || is_last) return code;
    if (slc_subscriber_wait(events, WAIT_SLICE_NS) == SLC_OK) {
      heard = now_ns();
    } else if (now_ns() - heard >= SILENCE_NS) {
      code = look_after_broker(client);
      if (code != EXIT_OK) return code;
      heard = now_ns();
    }
  }
  return EXIT_INTERRUPTED;
}

int command_events(int argc, char **argv) {
  struct events_options options;
  slc_client *client;
  slc_subscriber *events = NULL;
  int code = parse(argc, argv, &options);
  if (code != EXIT_OK) return code;
  catch_interrupts();
  code = connect_broker(options.socket, &client);
  if (code != EXIT_OK) return code;
  slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
  wishes.start = options.from;
  wishes.type = SLC_EVENTS_TYPE;
  int status = slc_subscriber_open(client, SLC_EVENTS_CHANNEL, &wishes, &events);
  code = status == SLC_OK ? follow(client, events, &options) : fail_status("cannot subscribe to events", status);
  slc_client_close(client);
  return code;
}

/* slotcast ls: the channels of a broker. */
#include <stdlib.h>

#include "cli.h"
#include "json.h"

static const char help_text[] =
    "Usage: slotcast ls [--json] [--socket PATH]\n"
    "\n"
    "Lists the channels: virtual channels (of a multiplexer), publishers, subscribers, slots, slot size, messages so "
    "far, shared memory.\n"
    "\n"
    "  --json          an array of objects\n"
    "  --socket PATH   the broker; default $SLOTCAST_SOCKET, else as `slotcastd --help` says\n"
    "  --help\n";

json_t *json_joined(json_t *object, json_t *more) {
  bool is_whole = object != NULL && more != NULL && json_object_update(object, more) == 0;
  json_decref(more);
  if (is_whole) return object;
  json_decref(object);
  return NULL;
}

static const char *checksum_name(int checksum) {
  return checksum == SLC_CHECKSUM_CRC32C ? "crc32c" : checksum == SLC_CHECKSUM_OWN ? "own" : "none";
}

/* What is settled for all of its users; 0 where there is no limit. */
static json_t *terms_to_json(const slc_channel_info *channel) {
  char pages[32];
  return json_pack("{s:b, s:b, s:b, s:b, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s}", "persistent",
                   channel->is_persistent, "lingering", channel->is_lingering, "fixed_size", channel->is_fixed_size,
                   "split", channel->is_split, "linger_ns", (json_int_t)channel->linger_ns, "keep_last",
                   (json_int_t)channel->keep_last, "metadata_size", (json_int_t)channel->metadata_size, "checksum",
                   checksum_name(channel->checksum), "checksum_size", (json_int_t)channel->checksum_size,
                   "max_subscribers", (json_int_t)channel->max_subscribers, "max_loans", (json_int_t)channel->max_loans,
                   "max_holds", (json_int_t)channel->max_holds, "slow", slow_name(channel->slow_policy), "backend",
                   backend_text(channel->backend), "pages", pages_text(channel->pages, pages));
}

json_t *channel_to_json(const slc_channel_info *channel) {
  json_t *shape =
      json_pack("{s:s, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
                channel->name, "type", channel->type, "shaped", channel->is_shaped, "reliable", channel->is_reliable,
                "slots", (json_int_t)channel->slots, "slot_size", (json_int_t)channel->slot_size, "max_publishers",
                (json_int_t)channel->max_publishers, "publishers", (json_int_t)channel->publishers, "subscribers",
                (json_int_t)channel->subscribers, "messages", (json_int_t)channel->messages, "memory_bytes",
                (json_int_t)channel->memory, "largest", (json_int_t)channel->largest, "generation",
                (json_int_t)channel->generation, "generations", (json_int_t)channel->generations, "max_virtual",
                (json_int_t)channel->max_virtual, "virtual_channels", (json_int_t)channel->virtual_count);
  return json_joined(shape, terms_to_json(channel));
}

int print_json(json_t *value) {
  int result = value == NULL ? -1 : json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
  json_decref(value);
  if (result != 0) return fail(EXIT_FAILED, "cannot make JSON of this");
  putchar('\n');
  return EXIT_OK;
}

/* All of them, or none: a list that leaves something out says something else. */
static json_t *all_to_json(const slc_channel_info *channels, size_t count) {
  json_t *array = json_array();
  for (size_t i = 0; i < count; i++) {
    if (json_array_append_new(array, channel_to_json(&channels[i])) == 0) continue;
    json_decref(array);
    return NULL;
  }
  return array;
}

static int print_table(const slc_channel_info *channels, size_t count) {
  printf("%-32s %7s %5s %5s %8s %12s %14s %12s %6s\n", "CHANNEL", "VIRTUAL", "PUBS", "SUBS", "SLOTS", "SLOT SIZE",
         "MESSAGES", "MEMORY", "SPLIT");
  for (size_t i = 0; i < count; i++) {
    char virtual_count[16] = "-", slot_size[32], memory[32];
    if (channels[i].max_virtual > 0) snprintf(virtual_count, sizeof virtual_count, "%u", channels[i].virtual_count);
    printf("%-32s %7s %5u %5u %8u %12s %14llu %12s %6s\n", channels[i].name, virtual_count, channels[i].publishers,
           channels[i].subscribers, channels[i].slots, human_bytes((double)channels[i].slot_size, slot_size),
           (unsigned long long)channels[i].messages, human_bytes((double)channels[i].memory, memory),
           channels[i].is_split ? "split" : "-");
  }
  return EXIT_OK;
}

int command_ls(int argc, char **argv) {
  static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                          {"socket", required_argument, NULL, 'S'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  bool json = false;
  const char *socket = NULL;
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    switch (option) {
    case 'j':
      json = true;
      break;
    case 'S':
      socket = optarg;
      break;
    case 'h':
      fputs(help_text, stdout);
      return EXIT_OK;
    default:
      return fail_usage("ls");
    }
  }
  if (optind < argc) return fail(EXIT_USAGE, "ls takes no argument: slotcast info %s shows one channel", argv[optind]);
  slc_client *client;
  int code = connect_broker(socket, &client);
  if (code != EXIT_OK) return code;
  slc_channel_info *channels;
  size_t count;
  int status = slc_channel_list(client, &channels, &count);
  if (status != SLC_OK) {
    code = fail_status("cannot list the channels", status);
  } else {
    code = json ? print_json(all_to_json(channels, count)) : print_table(channels, count);
    slc_channel_list_free(channels, count);
  }
  slc_client_close(client);
  return code;
}

/* slotcast create and slotcast rm: channels that stay without users, made and removed.  Thread: main. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char create_help[] =
    "Usage: slotcast create CHANNEL [OPTION]...\n"
    "\n"
    "Creates a channel that stays, with its messages, also while nobody uses it, until `slotcast rm` or the end of "
    "the\n"
    "broker; or makes one stay that exists with the shape asked for.  What is not said is as the channel is, or the\n"
    "default.\n"
    "\n"
    "  --slots N             messages that it has room for, 4 to 1048576 (default 64)\n"
    "  --slot-size BYTES     largest message (default 1024); larger ones make it grow\n"
    "  --fixed-size          it does not grow; its publishers must ask for the same\n"
    "  --split               payloads lie in memory of their own; its publishers must ask for the same\n"
    "  --reliable            its publishers wait for reliable subscribers; they must be reliable, too\n"
    "  --type TEXT           what the bytes are; users with another type are refused\n"
    "  --keep-last N         so many newest messages are always retained\n"
    "  --metadata BYTES      beside each message, up to 4096\n"
    "  --backend NAME        memfd or shm (files in /dev/shm); default: as the broker has it\n"
    "  --pages KIND          small, transparent, or the size of huge ones (2M, 1G)\n"
    "  --prefault            its memory is allocated at once\n"
    "  --checksum KIND       crc32c, or the size in bytes of one that its users compute themselves, 1 to 64\n"
    "  --slow POLICY         tell of slow subscribers (the default), or disconnect them, too\n"
    "  --max-virtual N       a multiplexer with up to so many virtual channels, 1 to 65534\n"
    "  --max-publishers N    at most so many publishers (default 64),\n"
    "  --max-subscribers N   subscribers,\n"
    "  --max-loans N         loans of all publishers together,\n"
    "  --max-holds N         holds of all subscribers together; else as many as its slots allow\n"
    "  --socket PATH         the broker; default $SLOTCAST_SOCKET, else as `slotcastd --help` says\n"
    "  --help\n";

static const char rm_help[] =
    "Usage: slotcast rm CHANNEL [--force] [--socket PATH]\n"
    "\n"
    "Removes a channel that was created to stay, or that lingers, with the messages in it.\n"
    "\n"
    "  --force         one that is in use: it goes with the last of its users\n"
    "  --socket PATH   the broker; default $SLOTCAST_SOCKET, else as `slotcastd --help` says\n"
    "  --help\n";

/* ---- create ---- */

enum { OPTION_NUMBER = 256 };

/* Those that take a number, and where it goes. */
struct number_option {
  const char *name;
  uint64_t min, max;
  size_t offset; /* in slc_channel_options, of a uint32_t */
};
#define NUMBER_OPTION(name, min, max, field)                                                                           \
  { name, min, max, offsetof(slc_channel_options, field) }
static const struct number_option numbers[] = {
    NUMBER_OPTION("slots", 4, 1048576, slots),
    NUMBER_OPTION("max-publishers", 1, 4095, max_publishers),
    NUMBER_OPTION("max-subscribers", 1, UINT32_MAX, max_subscribers),
    NUMBER_OPTION("max-loans", 1, UINT32_MAX, max_loans),
    NUMBER_OPTION("max-holds", 1, UINT32_MAX, max_holds),
    NUMBER_OPTION("keep-last", 1, 1048573, keep_last),
    NUMBER_OPTION("max-virtual", 1, 65534, max_virtual),
    NUMBER_OPTION("metadata", 1, 4096, metadata_size),
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

static int take_number(const struct number_option *option, const char *text, slc_channel_options *shape) {
  uint64_t number;
  if (!parse_number(text, option->min, option->max, &number))
    return fail(EXIT_USAGE, "--%s takes a number from %llu to %llu, not '%s'", option->name,
                (unsigned long long)option->min, (unsigned long long)option->max, text);
  uint32_t value = (uint32_t)number;
  memcpy((char *)shape + option->offset, &value, sizeof value);
  return EXIT_OK;
}

static int take_checksum(const char *text, slc_channel_options *shape) {
  uint64_t size;
  if (strcmp(text, "crc32c") == 0) {
    shape->checksum = SLC_CHECKSUM_CRC32C;
    return EXIT_OK;
  }
  if (!parse_number(text, 1, 64, &size))
    return fail(EXIT_USAGE, "--checksum is crc32c or a number of bytes from 1 to 64, not '%s'", text);
  shape->checksum = SLC_CHECKSUM_OWN;
  shape->checksum_size = (uint32_t)size;
  return EXIT_OK;
}

struct create_options {
  const char *channel, *socket;
  struct memory_options memory;
  slc_channel_options shape;
};

static int take_option(int option, const char *value, struct create_options *ret) {
  if (is_memory_option(option)) return take_memory_option(option, value, &ret->memory);
  if (option >= OPTION_NUMBER) return take_number(&numbers[option - OPTION_NUMBER], value, &ret->shape);
  switch (option) {
  case 's':
    if (!parse_number(value, 1, UINT64_C(1) << 40, &ret->shape.slot_size))
      return fail(EXIT_USAGE, "--slot-size takes a number of bytes up to 1024G, not '%s'", value);
    return EXIT_OK;
  case 'f':
    ret->shape.fixed_size = 1;
    return EXIT_OK;
  case 'r':
    ret->shape.reliable = 1;
    return EXIT_OK;
  case 'p':
    ret->shape.split = 1;
    return EXIT_OK;
  case 't':
    ret->shape.type = value;
    return EXIT_OK;
  case 'c':
    return take_checksum(value, &ret->shape);
  case 'w':
    if (parse_slow(value, &ret->shape.slow_policy)) return EXIT_OK;
    return fail(EXIT_USAGE, "--slow is tell or disconnect, not '%s'", value);
  case 'S':
    ret->socket = value;
    return EXIT_OK;
  case 'h':
    fputs(create_help, stdout);
    exit(EXIT_OK);
  default:
    return fail_usage("create");
  }
}

static int parse_create(int argc, char **argv, struct create_options *ret) {
  static const struct option others[] = {
      {"slot-size", required_argument, NULL, 's'},
      {"fixed-size", no_argument, NULL, 'f'},
      {"split", no_argument, NULL, 'p'},
      {"reliable", no_argument, NULL, 'r'},
      {"type", required_argument, NULL, 't'},
      {"checksum", required_argument, NULL, 'c'},
      {"slow", required_argument, NULL, 'w'},
      MEMORY_SHAPE_OPTIONS,
      MEMORY_PREFAULT_OPTION,
      {"socket", required_argument, NULL, 'S'},
      {"help", no_argument, NULL, 'h'},
  };
  enum { OTHERS = sizeof others / sizeof others[0] };
  struct option options[NUMBERS + OTHERS + 1] = {{NULL, 0, NULL, 0}};
  for (int i = 0; i < NUMBERS; i++)
    options[i] = (struct option){numbers[i].name, required_argument, NULL, OPTION_NUMBER + i};
  memcpy(options + NUMBERS, others, sizeof others);
  *ret = (struct create_options){.shape = SLC_CHANNEL_OPTIONS_INIT};
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    int code = take_option(option, optarg, ret);
    if (code != EXIT_OK) return code;
  }
  if (argc - optind != 1) return fail(EXIT_USAGE, "create takes one channel: slotcast create CHANNEL");
  ret->channel = argv[optind];
  ret->shape.backend = ret->memory.backend;
  ret->shape.pages = ret->memory.pages;
  ret->shape.prefault = ret->memory.prefault;
  return EXIT_OK;
}

int command_create(int argc, char **argv) {
  struct create_options options;
  slc_client *client;
  int code = parse_create(argc, argv, &options);
  if (code == EXIT_OK) code = connect_broker(options.socket, &client);
  if (code != EXIT_OK) return code;
  int status = slc_channel_create(client, options.channel, &options.shape);
  if (status != SLC_OK) code = fail_status("cannot create the channel", status);
  slc_client_close(client);
  return code;
}

/* ---- rm ---- */

int command_rm(int argc, char **argv) {
  static const struct option options[] = {{"force", no_argument, NULL, 'f'},
                                          {"socket", required_argument, NULL, 'S'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  bool force = false;
  const char *socket = NULL;
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    switch (option) {
    case 'f':
      force = true;
      break;
    case 'S':
      socket = optarg;
      break;
    case 'h':
      fputs(rm_help, stdout);
      return EXIT_OK;
    default:
      return fail_usage("rm");
    }
  }
  if (argc - optind != 1) return fail(EXIT_USAGE, "rm takes one channel: slotcast ls lists them");
  slc_client *client;
  int code = connect_broker(socket, &client);
  if (code != EXIT_OK) return code;
  int status = slc_channel_remove(client, argv[optind], force);
  if (status != SLC_OK) code = fail_status("cannot remove the channel", status);
  slc_client_close(client);
  return code;
}

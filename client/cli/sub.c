/* slotcast sub: a channel's messages to a file or standard output, written from where they lie. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char help_text[] =
    "Usage: slotcast sub CHANNEL [OPTION]...\n"
    "\n"
    "Writes the messages of CHANNEL to standard output.  Waits for a publisher, and ends when the last one has left "
    "and\n"
    "everything that is retained has been received.\n"
    "\n"
    "  --multiplexer NAME  CHANNEL is a virtual channel of NAME; without it a multiplexer gives the messages of all\n"
    "  --ids           begin every message with its virtual channel's id and its ordinal there, each with a space\n"
    "  --reliable      lose nothing: publishers wait (they must be reliable, too)\n"
    "  --from WHERE    oldest: what is still there, then what comes (the default with --reliable);\n"
    "                  newest: what comes from now on (the default otherwise);\n"
    "                  last or last:N: the latest message, or the N latest, then what comes;\n"
    "                  ordinal:N: message N, or what is still there after it, then what comes\n"
    "  --prefault      all of the channel is there before the first message is taken\n"
    "  --lock-memory   and stays in memory\n"
    "  --count N       end after N messages\n"
    "  --follow        do not end with the last publisher\n"
    "  --out FILE      write to FILE\n"
    "  --lines         end every message with a newline, unless it has one\n"
    "  --socket PATH   the broker; default $SLOTCAST_SOCKET, else as `slotcastd --help` says\n"
    "  --quiet         no summary\n"
    "  --help\n";

struct sub_options {
  struct memory_options memory;
  const char *channel, *multiplexer, *out, *socket;
  bool ids, reliable, follow, lines, quiet;
  int from;             /* enum slc_start, -1: the default */
  uint64_t from_number; /* of "last" and "ordinal" */
  uint64_t count;
};

/* "WORD" or "WORD:NUMBER". */
static bool parse_from(const char *text, struct sub_options *ret) {
  static const struct {
    const char *word;
    int start;
    bool has_number, may_lack_it;
  } places[] = {
      {"oldest", SLC_START_OLDEST, false, true},
      {"newest", SLC_START_NEWEST, false, true},
      {"last", SLC_START_LAST, true, true},
      {"ordinal", SLC_START_ORDINAL, true, false},
  };
  size_t length = strcspn(text, ":");
  const char *number = text[length] == ':' ? text + length + 1 : NULL;
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    if (strlen(places[i].word) != length || strncmp(text, places[i].word, length) != 0) continue;
    ret->from = places[i].start;
    ret->from_number = 0;
    if (number == NULL) return places[i].may_lack_it;
    return places[i].has_number && parse_number(number, 1, INT64_MAX, &ret->from_number);
  }
  return false;
}

static int parse(int argc, char **argv, struct sub_options *ret) {
  static const struct option options[] = {
      {"reliable", no_argument, NULL, 'r'},
      {"from", required_argument, NULL, 'f'},
      {"count", required_argument, NULL, 'c'},
      {"follow", no_argument, NULL, 'F'},
      {"out", required_argument, NULL, 'o'},
      {"lines", no_argument, NULL, 'l'},
      {"socket", required_argument, NULL, 'S'},
      {"quiet", no_argument, NULL, 'q'},
      {"help", no_argument, NULL, 'h'},
      {"multiplexer", required_argument, NULL, 'm'},
      {"ids", no_argument, NULL, 'i'},
      MEMORY_PREFAULT_OPTION,
      MEMORY_LOCK_OPTION,
      {NULL, 0, NULL, 0},
  };
  *ret = (struct sub_options){.from = -1};
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    int code = is_memory_option(option) ? take_memory_option(option, optarg, &ret->memory) : EXIT_OK;
    if (code != EXIT_OK) return code;
    if (is_memory_option(option)) continue;
    switch (option) {
    case 'm':
      ret->multiplexer = optarg;
      break;
    case 'i':
      ret->ids = true;
      break;
    case 'r':
      ret->reliable = true;
      break;
    case 'F':
      ret->follow = true;
      break;
    case 'l':
      ret->lines = true;
      break;
    case 'q':
      ret->quiet = true;
      break;
    case 'o':
      ret->out = optarg;
      break;
    case 'S':
      ret->socket = optarg;
      break;
    case 'c':
      if (take_count(optarg, &ret->count) != EXIT_OK) return EXIT_USAGE;
      break;
    case 'f':
      if (!parse_from(optarg, ret))
        return fail(EXIT_USAGE, "--from is oldest, newest, last, last:N or ordinal:N, not '%s'", optarg);
      break;
    case 'h':
      fputs(help_text, stdout);
      exit(EXIT_OK);
    default:
      return fail_usage("sub");
    }
  }
  if (argc - optind != 1) return fail(EXIT_USAGE, "sub takes one channel: slotcast sub CHANNEL");
  ret->channel = argv[optind];
  if (ret->from < 0) ret->from = ret->reliable ? SLC_START_OLDEST : SLC_START_NEWEST;
  return EXIT_OK;
}

/* ---- receiving ---- */

static int write_failed(const struct sub_options *options) {
  if (interrupted()) return EXIT_INTERRUPTED; /* in the middle of a write, which is then no failure */
  return fail(EXIT_FAILED, "cannot write to %s: %s", options->out != NULL ? options->out : "standard output",
              strerror(errno));
}

/* Asked before the look that finds nothing, so that what the last publisher left behind is not missed. */
static bool publishers_have_gone(slc_subscriber *subscriber) {
  slc_subscriber_stats stats = {.size = sizeof stats};
  return slc_subscriber_stats_get(subscriber, &stats) == SLC_OK && stats.attached && stats.publishers_joined > 0 &&
         stats.publishers == 0;
}

static bool write_message(const slc_message *message, FILE *out, bool with_ids, bool as_line) {
  const char *bytes = message->data;
  if (with_ids && fprintf(out, "%u %llu ", message->virtual_id, (unsigned long long)message->virtual_ordinal) < 0)
    return false;
  if (fwrite(bytes, 1, message->size, out) != message->size) return false;
  return !as_line || (message->size > 0 && bytes[message->size - 1] == '\n') || putc('\n', out) != EOF;
}

/* Everything that is there now.  EXIT_OK: go on, *ret_done says whether the count is reached. */
static int receive_available(slc_subscriber *subscriber, FILE *out, const struct sub_options *options,
                             struct progress *progress, bool *ret_done) {
  while (!interrupted()) {
    if (options->count > 0 && progress->messages == options->count) {
      *ret_done = true;
      return EXIT_OK;
    }
    slc_message message;
    int status = slc_subscriber_take(subscriber, &message);
    if (status == SLC_EMPTY) return EXIT_OK;
    if (status == SLC_CORRUPT || status == SLC_CHECKSUM) {
      progress->damage = status; /* skipped and counted as dropped */
      continue;
    }
    if (status != SLC_OK) return fail_status("cannot receive", status);
    bool is_written = write_message(&message, out, options->ids, options->lines);
    progress_add(progress, message.size);
    slc_subscriber_release(subscriber, &message);
    if (!is_written) return write_failed(options);
  }
  return EXIT_OK;
}

static int receive(slc_subscriber *subscriber, FILE *out, const struct sub_options *options,
                   struct progress *progress) {
  bool done = false;
  while (!interrupted()) {
    bool last = publishers_have_gone(subscriber) && !options->follow;
    int code = receive_available(subscriber, out, options, progress, &done);
    if (code != EXIT_OK || done) return code;
    if (last) return EXIT_OK;
    if (fflush(out) != 0) return write_failed(options);
    int status = slc_subscriber_wait(subscriber, WAIT_SLICE_NS);
    if (status != SLC_OK && status != SLC_TIMED_OUT) return fail_status("cannot wait for messages", status);
  }
  return EXIT_INTERRUPTED;
}

static int receive_and_report(slc_subscriber *subscriber, FILE *out, const struct sub_options *options) {
  struct progress progress;
  progress_begin(&progress, "received", options->quiet);
  int code = receive(subscriber, out, options, &progress);
  slc_subscriber_stats stats = {.size = sizeof stats};
  char more[64] = "";
  if (slc_subscriber_stats_get(subscriber, &stats) == SLC_OK && stats.dropped > 0)
    snprintf(more, sizeof more, ", %llu dropped", (unsigned long long)stats.dropped);
  progress_end(&progress, more);
  if (progress.damage != 0 && code == EXIT_OK)
    code = fail(EXIT_FAILED, "messages were skipped: %s", slc_status_text(progress.damage));
  return code;
}

int command_sub(int argc, char **argv) {
  struct sub_options options;
  int code = parse(argc, argv, &options);
  if (code != EXIT_OK) return code;
  FILE *out = options.out == NULL ? stdout : fopen(options.out, "we");
  if (out == NULL) return fail(EXIT_FAILED, "cannot write to %s: %s", options.out, strerror(errno));
  catch_interrupts();
  slc_client *client = NULL;
  slc_subscriber *subscriber = NULL;
  slc_subscriber_options wishes = SLC_SUBSCRIBER_OPTIONS_INIT;
  wishes.reliable = options.reliable;
  wishes.multiplexer = options.multiplexer;
  wishes.prefault = options.memory.prefault;
  wishes.lock_memory = options.memory.lock;
  wishes.start = options.from;
  wishes.start_ordinal = wishes.start_count = options.from_number;
  code = connect_broker(options.socket, &client);
  if (code == EXIT_OK) {
    int status = slc_subscriber_open(client, options.channel, &wishes, &subscriber);
    code = status == SLC_OK ? receive_and_report(subscriber, out, &options) : fail_status("cannot subscribe", status);
  }
  slc_subscriber_close(subscriber);
  slc_client_close(client);
  if ((out == stdout ? fflush(out) : fclose(out)) != 0 && code == EXIT_OK) code = write_failed(&options);
  return code;
}

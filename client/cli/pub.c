/* slotcast pub: a file or standard input as messages, read straight into the slots. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum { DEFAULT_FRAME = 64 * 1024, LOOK_EVERY_NS = 1000000, NS_PER_MS = 1000000 };
#define LINGER_MAX_MS UINT64_C(1000000000000)

static const char help_text[] =
    "Usage: slotcast pub CHANNEL [OPTION]... [FILE]\n"
    "\n"
    "Publishes FILE, or standard input, as messages.\n"
    "\n"
    "  --multiplexer NAME     CHANNEL is a virtual channel of NAME, with whose others it shares slots\n"
    "  --reliable             wait for reliable subscribers instead of overrunning them\n"
    "  --slots N              slots of the channel, if this makes it; default 64\n"
    "  --keep-last N          the channel always retains its N newest messages, for those who come late\n"
    "  --checksum             messages carry a CRC-32C, which subscribers compare\n"
    "  --fixed-size           the channel does not grow: all its publishers must ask for that\n"
    "  --split                payloads lie in memory of their own: all its publishers must ask for that\n"
    "  --linger MS            the channel stays, with its messages, so long after its last user has left\n"
    "  --backend NAME         memfd or shm (files in /dev/shm), if this makes it; default: as the broker has it\n"
    "  --pages KIND           small, transparent, or the size of huge ones (2M, 1G), if this makes it\n"
    "  --prefault             every slot is there before the first message\n"
    "  --lock-memory          and stays in memory\n"
    "  --slow POLICY          tell of slow subscribers (the default), or disconnect them, too, if this makes it\n"
    "  --frame BYTES          one message every so many bytes (K, M, G: powers of 1,024); default 64K\n"
    "  --lines                one message a line, with its newline, up to 64 KiB\n"
    "  --wait-subscribers N   begin when so many subscribe: these miss nothing\n"
    "  --socket PATH          the broker; default $SLOTCAST_SOCKET, else as `slotcastd --help` says\n"
    "  --quiet                no summary\n"
    "  --help\n";

struct pub_options {
  struct memory_options memory;
  const char *channel, *multiplexer, *file, *socket;
  bool reliable, fixed_size, checksum, split, lines, quiet;
  int slow_policy;
  uint64_t linger_ms, slots, keep_last, frame, wait_subscribers;
};

static int parse(int argc, char **argv, struct pub_options *ret) {
  static const struct option options[] = {
      {"multiplexer", required_argument, NULL, 'm'},
      {"reliable", no_argument, NULL, 'r'},
      {"fixed-size", no_argument, NULL, 'F'},
      {"checksum", no_argument, NULL, 'C'},
      {"split", no_argument, NULL, 'P'},
      {"linger", required_argument, NULL, 'L'},
      {"slots", required_argument, NULL, 's'},
      {"slow", required_argument, NULL, 'p'},
      {"keep-last", required_argument, NULL, 'k'},
      {"frame", required_argument, NULL, 'f'},
      {"lines", no_argument, NULL, 'l'},
      MEMORY_SHAPE_OPTIONS,
      MEMORY_PREFAULT_OPTION,
      MEMORY_LOCK_OPTION,
      {"socket", required_argument, NULL, 'S'},
      {"wait-subscribers", required_argument, NULL, 'w'},
      {"quiet", no_argument, NULL, 'q'},
      {"help", no_argument, NULL, 'h'},
      {NULL, 0, NULL, 0},
  };
  *ret = (struct pub_options){0};
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    int code = is_memory_option(option) ? take_memory_option(option, optarg, &ret->memory) : EXIT_OK;
    if (code != EXIT_OK) return code;
    if (is_memory_option(option)) continue;
    switch (option) {
    case 'm':
      ret->multiplexer = optarg;
      break;
    case 'r':
      ret->reliable = true;
      break;
    case 'F':
      ret->fixed_size = true;
      break;
    case 'C':
      ret->checksum = true;
      break;
    case 'P':
      ret->split = true;
      break;
    case 'L':
      if (!parse_number(optarg, 1, LINGER_MAX_MS, &ret->linger_ms))
        return fail(EXIT_USAGE, "--linger takes milliseconds from 1 on, not '%s'", optarg);
      break;
    case 'p':
      if (!parse_slow(optarg, &ret->slow_policy))
        return fail(EXIT_USAGE, "--slow is tell or disconnect, not '%s'", optarg);
      break;
    case 'l':
      ret->lines = true;
      break;
    case 'q':
      ret->quiet = true;
      break;
    case 'S':
      ret->socket = optarg;
      break;
    case 's':
      if (!parse_number(optarg, 4, 1048576, &ret->slots))
        return fail(EXIT_USAGE, "--slots takes a number from 4 to 1048576, not '%s'", optarg);
      break;
    case 'k':
      if (!parse_number(optarg, 1, 1048573, &ret->keep_last))
        return fail(EXIT_USAGE, "--keep-last takes a number from 1 to 1048573, not '%s'", optarg);
      break;
    case 'f':
      if (!parse_number(optarg, 1, UINT64_C(1) << 40, &ret->frame))
        return fail(EXIT_USAGE, "--frame takes a number of bytes from 1 to 1024G, not '%s'", optarg);
      break;
    case 'w':
      if (!parse_number(optarg, 1, 1000000, &ret->wait_subscribers))
        return fail(EXIT_USAGE, "--wait-subscribers takes a number from 1 on, not '%s'", optarg);
      break;
    case 'h':
      fputs(help_text, stdout);
      exit(EXIT_OK);
    default:
      return fail_usage("pub");
    }
  }
  if (optind == argc || argc - optind > 2)
    return fail(EXIT_USAGE, "pub takes a channel and at most one file: slotcast pub CHANNEL [FILE]");
  if (ret->lines && ret->frame != 0) return fail(EXIT_USAGE, "--lines and --frame exclude each other: choose one");
  ret->channel = argv[optind];
  ret->file = argc - optind == 2 ? argv[optind + 1] : NULL;
  if (ret->frame == 0) ret->frame = DEFAULT_FRAME;
  return EXIT_OK;
}

/* ---- publishing ---- */

static int loan(slc_publisher *publisher, size_t size, slc_loan *ret_loan) {
  for (;;) {
    int status = slc_publisher_loan(publisher, size, ret_loan);
    if (status != SLC_WOULD_BLOCK || interrupted()) return status;
    status = slc_publisher_wait(publisher, WAIT_SLICE_NS);
    if (status != SLC_OK && status != SLC_TIMED_OUT) return status;
  }
}

/* Fills the buffer unless the input ends before; the bytes read, or -1. */
static ssize_t read_full(int fd, uint8_t *buffer, size_t size) {
  size_t filled = 0;
  while (filled < size && !interrupted()) {
    ssize_t got = read(fd, buffer + filled, size - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    filled += (size_t)got;
  }
  return (ssize_t)filled;
}

static int publish_frames(slc_publisher *publisher, int fd, size_t frame, struct progress *progress) {
  while (!interrupted()) {
    slc_loan slot;
    int status = loan(publisher, frame, &slot);
    if (status == SLC_WOULD_BLOCK) break;
    if (status != SLC_OK) return fail_status("cannot publish", status);
    ssize_t size = read_full(fd, slot.data, frame);
    if (size <= 0) {
      int error = errno;
      slc_publisher_discard(publisher, &slot);
      return size == 0 ? EXIT_OK : fail(EXIT_FAILED, "cannot read the input: %s", strerror(error));
    }
    status = slc_publisher_publish(publisher, &slot, (size_t)size, NULL);
    if (status != SLC_OK) return fail_status("cannot publish", status);
    progress_add(progress, (uint64_t)size);
  }
  return EXIT_OK;
}

static int publish_line(slc_publisher *publisher, const char *line, size_t size) {
  slc_loan slot;
  int status = loan(publisher, size, &slot);
  if (status != SLC_OK) return status;
  memcpy(slot.data, line, size);
  return slc_publisher_publish(publisher, &slot, size, NULL);
}

static int publish_lines(slc_publisher *publisher, int fd, size_t longest, struct progress *progress) {
  int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  FILE *input = own >= 0 ? fdopen(own, "r") : NULL;
  if (input == NULL) {
    int error = errno;
    if (own >= 0) close(own);
    return fail(EXIT_FAILED, "cannot read the input: %s", strerror(error));
  }
  char *line = NULL;
  size_t capacity = 0;
  int code = EXIT_OK;
  for (ssize_t size; code == EXIT_OK && !interrupted() && (size = getline(&line, &capacity, input)) > 0;) {
    int status = SLC_OK;
    if ((size_t)size > longest) {
      code = fail(EXIT_FAILED, "line %llu has %zd bytes, the slots %zu: publish with --frame instead of --lines",
                  (unsigned long long)progress->messages + 1, size, longest);
    } else if ((status = publish_line(publisher, line, (size_t)size)) == SLC_OK) {
      progress_add(progress, (uint64_t)size);
    } else if (status != SLC_WOULD_BLOCK) {
      code = fail_status("cannot publish", status);
    }
  }
  /* getline ends without the end of the file, and without an error of the file, where memory is short. */
  if (code == EXIT_OK && !feof(input) && !interrupted())
    code = fail(EXIT_FAILED, "cannot read the input: %s", strerror(errno));
  free(line);
  fclose(input);
  return code;
}

static int wait_for_subscribers(slc_publisher *publisher, uint64_t wanted) {
  slc_publisher_stats stats = {.size = sizeof stats};
  while (!interrupted()) {
    int status = slc_publisher_stats_get(publisher, &stats);
    if (status != SLC_OK) return fail_status("cannot see the subscribers", status);
    if (stats.subscribers >= wanted) return EXIT_OK;
    nanosleep(&(struct timespec){.tv_nsec = LOOK_EVERY_NS}, NULL);
  }
  return EXIT_INTERRUPTED;
}

static int publish(slc_publisher *publisher, int fd, const struct pub_options *options) {
  struct progress progress;
  progress_begin(&progress, "published", options->quiet);
  int code = options->wait_subscribers > 0 ? wait_for_subscribers(publisher, options->wait_subscribers) : EXIT_OK;
  if (code == EXIT_OK)
    code = options->lines ? publish_lines(publisher, fd, options->frame, &progress)
                          : publish_frames(publisher, fd, options->frame, &progress);
  progress_end(&progress, "");
  return code == EXIT_OK && interrupted() ? EXIT_INTERRUPTED : code;
}

int command_pub(int argc, char **argv) {
  struct pub_options options;
  int code = parse(argc, argv, &options);
  if (code != EXIT_OK) return code;
  int fd = options.file == NULL ? STDIN_FILENO : open(options.file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(EXIT_FAILED, "cannot open %s: %s", options.file, strerror(errno));
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  catch_interrupts();
  slc_client *client = NULL;
  slc_publisher *publisher = NULL;
  slc_publisher_options shape = SLC_PUBLISHER_OPTIONS_INIT;
  shape.slots = (uint32_t)options.slots;
  shape.slot_size = options.frame;
  shape.keep_last = (uint32_t)options.keep_last;
  shape.reliable = options.reliable;
  shape.checksum = options.checksum ? SLC_CHECKSUM_CRC32C : SLC_CHECKSUM_NONE;
  shape.fixed_size = options.fixed_size;
  shape.slow_policy = options.slow_policy;
  shape.split = options.split;
  shape.linger_ns = (int64_t)options.linger_ms * NS_PER_MS;
  shape.multiplexer = options.multiplexer;
  shape.backend = options.memory.backend;
  shape.pages = options.memory.pages;
  shape.prefault = options.memory.prefault;
  shape.lock_memory = options.memory.lock;
  code = connect_broker(options.socket, &client);
  if (code == EXIT_OK) {
    int status = slc_publisher_open(client, options.channel, &shape, &publisher);
    code = status == SLC_OK ? publish(publisher, fd, &options) : fail_status("cannot publish", status);
  }
  slc_publisher_close(publisher);
  slc_client_close(client);
  if (fd != STDIN_FILENO) close(fd);
  return code;
}

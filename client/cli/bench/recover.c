/* slotcast bench recover: a broker with a shadow is killed and started again, by the number of channels: how long until
 * somebody new is answered, and until those who lived have all that they had.
 *
 * Each case has a broker and a shadow of its own, which die and live as they do in use; its clients stay the same over
 * all repetitions.  This program's first process is the broker's parent and starts it again; a measuring one kills it.
 * Thread: main, of each process. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "cli.h"
#include "crew.h"
#include "json.h"
#include "measure.h"
#include "passing.h"
#include "plot.h"
#include "report.h"
#include "traffic.h"

enum {
  FILL_EACH = 500,        /* channels of one process, but for the first, which has one */
  FOR_PUBLISHER = 2,      /* descriptors of a channel: its own */
  FOR_SUBSCRIBERS = 2,    /* and those of a table of subscribers */
  FOR_ALL = 400,          /* descriptors of a broker or a shadow for itself and its connections */
  LOOK_EVERY_NS = 100000, /* for a broker that is not there yet */
  REST_NS = 50000000,     /* before the next kill: a connection that ends at once is looked for later and later */
  USUAL_SUBSCRIBERS = 1,
};
#define PATIENCE_NS INT64_C(60000000000)

/* Medians of these are shown, ns. */
enum figure { ENDED, ANSWERED, RECLAIMED, ALL_RECLAIMED, FIGURES };

struct outage {
  struct barrier barrier;
  struct traffic traffic;
  uint64_t channels, subscribers, repetitions;
  pid_t broker, shadow;
  int64_t started_ns;        /* this broker */
  _Atomic uint32_t starts;   /* after the first */
  int64_t descriptors;       /* that the shadow keeps */
  int64_t back_ns[CREW_MAX]; /* when each process had all that was its */
  double ns[FIGURES][REPETITIONS_MAX];
};

static void channel_name(const struct outage *outage, uint64_t number, struct traffic *ret) {
  *ret = outage->traffic;
  snprintf(ret->channel, sizeof ret->channel, "%.40s/%llu", outage->traffic.channel, (unsigned long long)number);
}

static unsigned process_count(uint64_t channels) {
  return (unsigned)(1 + (channels - 1 + FILL_EACH - 1) / FILL_EACH);
}

/* ---- those who live ---- */

static void on_connection(void *ctx, int event) {
  uint64_t *returns = ctx;
  if (event == SLC_CONNECTION_ANEW) _exit(fail(EXIT_FAILED, "the broker did not know its channels any more"));
  *returns += event == SLC_CONNECTION_BACK;
}

static slc_client *connect_and_tell(const struct outage *outage, uint64_t *returns) {
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  slc_client *client;
  options.socket = outage->traffic.socket;
  options.on_connection = on_connection;
  options.callback_ctx = returns;
  worker_check("cannot connect", slc_client_open(&options, &client));
  return client;
}

static void open_channel(slc_client *client, const struct outage *outage, uint64_t number) {
  struct traffic traffic;
  channel_name(outage, number, &traffic);
  traffic_publisher(client, &traffic);
  for (uint64_t i = 0; i < outage->subscribers; i++) traffic_subscriber(client, &traffic);
}

static void open_channels(slc_client *client, const struct outage *outage, unsigned number) {
  uint64_t first = number == 0 ? 0 : 1 + (uint64_t)(number - 1) * FILL_EACH;
  uint64_t end = number == 0 ? 1 : first + FILL_EACH;
  for (uint64_t i = first; i < end && i < outage->channels; i++) open_channel(client, outage, i);
}

static void await_return(slc_client *client, const uint64_t *returns, uint64_t wanted) {
  struct pollfd readable = {.events = POLLIN};
  worker_check("cannot watch the connection", slc_client_fd(client, &readable.fd));
  while (*returns < wanted) {
    if (poll(&readable, 1, -1) < 0) worker_fail("cannot wait");
    slc_client_dispatch(client); /* that the broker has gone is no failure here */
  }
}

static void run_client(void *shared, unsigned number) {
  struct outage *outage = shared;
  uint64_t returns = 0;
  slc_client *client = connect_and_tell(outage, &returns);
  open_channels(client, outage, number);
  barrier_wait(&outage->barrier);
  for (uint64_t i = 1; i <= outage->repetitions; i++) {
    await_return(client, &returns, i);
    outage->back_ns[number] = now_ns();
    barrier_wait(&outage->barrier);
  }
}

/* ---- the one that kills ---- */

static void rest(int64_t ns) {
  nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static slc_client *find_broker(const struct outage *outage) {
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  slc_client *client;
  int64_t until = now_ns() + PATIENCE_NS;
  options.socket = outage->traffic.socket;
  for (int status; (status = slc_client_open(&options, &client)) != SLC_OK;) {
    if (now_ns() > until) worker_check("the broker does not come back", status);
    rest(LOOK_EVERY_NS);
  }
  return client;
}

/* Somebody new asks for the channel that was made last. */
static void ask(const struct outage *outage) {
  struct traffic traffic;
  slc_channel_info *info;
  slc_client *client = find_broker(outage);
  channel_name(outage, outage->channels - 1, &traffic);
  worker_check("cannot look at a channel", slc_channel_inspect(client, traffic.channel, &info));
  if (info->publishers != 1 || info->subscribers != outage->subscribers)
    _exit(fail(EXIT_FAILED, "the broker has not got %s as it was", traffic.channel));
  slc_channel_info_free(info);
  slc_client_close(client);
}

static void note(struct outage *outage, uint64_t repetition, enum figure figure, int64_t from, int64_t to) {
  outage->ns[figure][repetition] = (double)(to - from);
}

static void kill_once(struct outage *outage, uint64_t repetition) {
  uint32_t seen = atomic_load(&outage->starts);
  rest(REST_NS);
  int64_t killed = now_ns();
  kill(outage->broker, SIGKILL);
  word_wait(&outage->starts, seen);
  ask(outage);
  int64_t answered = now_ns(), started = outage->started_ns;
  barrier_wait(&outage->barrier); /* all are back */
  int64_t last = outage->back_ns[0];
  for (unsigned i = 1; i < process_count(outage->channels); i++) {
    if (outage->back_ns[i] > last) last = outage->back_ns[i];
  }
  note(outage, repetition, ENDED, killed, started);
  note(outage, repetition, ANSWERED, started, answered);
  note(outage, repetition, RECLAIMED, started, outage->back_ns[0]);
  note(outage, repetition, ALL_RECLAIMED, started, last);
}

static void run_killer(void *shared, unsigned number) {
  struct outage *outage = shared;
  (void)number;
  barrier_wait(&outage->barrier); /* all channels are there */
  outage->descriptors += process_descriptors(outage->shadow);
  for (uint64_t i = 0; i < outage->repetitions; i++) kill_once(outage, i);
}

/* In the broker's parent. */
static int start_again(struct bench *bench, void *shared) {
  struct outage *outage = shared;
  const struct session_program *broker = &bench->session.broker;
  int code = session_revive_broker(&bench->session);
  if (code != EXIT_OK || broker->started_ns == outage->started_ns) return code;
  outage->broker = broker->pid;
  outage->started_ns = broker->started_ns;
  atomic_fetch_add(&outage->starts, 1);
  word_wake(&outage->starts);
  return EXIT_OK;
}

/* ---- one case ---- */

static const char *const names[FIGURES] = {"ended_ns", "answered_ns", "reclaimed_ns", "all_reclaimed_ns"};

static void draw(struct bench *bench, const struct outage *outage, const double medians[FIGURES], double limit) {
  const char *const lines[FIGURES] = {"the old one's end", "a new client answered", "one that lived", "all that lived"};
  double channels = (double)outage->channels;
  static const struct plot_kind by_channels = {
      "A broker killed and started again", "channels", "median", PLOT_STEPS, PLOT_COUNT, PLOT_NS};
  plot_panel(bench->plot, &by_channels);
  for (int i = 0; i < FIGURES; i++) plot_point(bench->plot, lines[i], channels, medians[i]);
  plot_point(bench->plot, passing_name, channels, limit);
  plot_limit(bench->plot, passing_name);
}

static int report_case(struct bench *bench, const struct outage *outage, double limit) {
  double medians[FIGURES], channels = (double)outage->channels;
  for (int i = 0; i < FIGURES; i++) medians[i] = median(outage->ns[i], outage->repetitions);
  json_t *result =
      json_pack("{s:I, s:I, s:I, s:f, s:s, s:f, s:f}", "channels", (json_int_t)outage->channels, "subscribers",
                (json_int_t)outage->subscribers, "descriptors", (json_int_t)outage->descriptors,
                "answered_ns_per_channel", medians[ANSWERED] / channels, "limit", passing_name, "limit_ns", limit,
                "ratio", limit > 0 ? medians[ANSWERED] / limit : 0);
  for (int i = 0; i < FIGURES; i++) result = json_joined(result, json_pack("{s:f}", names[i], medians[i]));
  draw(bench, outage, medians, limit);
  return report_add(bench, "recover", 0, 1, result);
}

static int measure_limit(const struct bench *bench, const struct outage *outage, double *ret_limit) {
  double ns[REPETITIONS_MAX];
  int code = EXIT_OK;
  for (uint64_t i = 0; i < outage->repetitions && code == EXIT_OK; i++)
    code = bare_passing(bench, (uint64_t)outage->descriptors, &ns[i]);
  *ret_limit = median(ns, outage->repetitions);
  return code;
}

static int measure_outages(struct bench *bench, struct outage *outage) {
  unsigned clients = process_count(outage->channels);
  const struct role roles[] = {{run_killer, 1, false}, {run_client, clients, false}};
  outage->barrier.parties = 1 + clients;
  outage->broker = bench->session.broker.pid;
  outage->shadow = bench->session.shadows[0].pid;
  outage->descriptors = -process_descriptors(outage->shadow); /* its own */
  outage->started_ns = bench->session.broker.started_ns;
  traffic_name(bench, "recover", &outage->traffic);
  return crew_run_tended(bench, roles, 2, outage, start_again);
}

static int measure_case(struct bench *bench, uint64_t channels, uint64_t subscribers) {
  struct outage *outage = shared_new(sizeof *outage);
  double limit = 0;
  if (outage == NULL) return EXIT_FAILED;
  outage->traffic.holds = 1;
  outage->channels = channels;
  outage->subscribers = subscribers;
  outage->repetitions = bench->settings.repetitions;
  int code = bench_start_broker(bench, 1);
  if (code == EXIT_OK) code = measure_outages(bench, outage);
  session_end(&bench->session);
  if (code == EXIT_OK) code = measure_limit(bench, outage, &limit);
  if (code == EXIT_OK) code = report_case(bench, outage, limit);
  shared_free(outage, sizeof *outage);
  return code;
}

/* ---- all cases ---- */

static uint64_t descriptors_for(uint64_t channels, uint64_t subscribers) {
  uint64_t each = FOR_PUBLISHER + (subscribers > 0 ? FOR_SUBSCRIBERS : 0);
  return FOR_ALL + each * channels;
}

/* As many channels as were asked for, else as there are descriptors for, which is told. */
static uint64_t fitting(uint64_t channels, uint64_t subscribers) {
  struct rlimit limit;
  uint64_t needed = descriptors_for(channels, subscribers);
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || needed <= limit.rlim_max) return channels;
  uint64_t each = descriptors_for(1, subscribers) - descriptors_for(0, subscribers);
  uint64_t most = limit.rlim_max > FOR_ALL + each ? (limit.rlim_max - FOR_ALL) / each : 1;
  fprintf(stderr, "%llu channels need %llu descriptors, %llu are allowed (ulimit -Hn): %llu channels instead\n",
          (unsigned long long)channels, (unsigned long long)needed, (unsigned long long)limit.rlim_max,
          (unsigned long long)most);
  return most;
}

static int measure_channels(struct bench *bench, const struct list *channels, uint64_t subscribers) {
  uint64_t before = 0;
  int code = EXIT_OK;
  for (size_t i = 0; i < channels->count && code == EXIT_OK; i++) {
    uint64_t count = fitting(channels->values[i], subscribers);
    if (count != before) code = measure_case(bench, count, subscribers);
    before = count;
  }
  return code;
}

static const struct column columns[] = {{"CHANNELS", "channels", FORMAT_COUNT},
                                        {"SUBSCRIBERS", "subscribers", FORMAT_COUNT},
                                        {"DESCRIPTORS", "descriptors", FORMAT_COUNT},
                                        {"ENDED ms", "ended_ns", FORMAT_MS},
                                        {"ANSWERED ms", "answered_ns", FORMAT_MS},
                                        {"RECLAIMED", "reclaimed_ns", FORMAT_MS},
                                        {"ALL ms", "all_reclaimed_ns", FORMAT_MS},
                                        {"us/CHANNEL", "answered_ns_per_channel", FORMAT_US},
                                        {"LIMIT ms", "limit_ns", FORMAT_MS},
                                        {"RATIO", "ratio", FORMAT_RATIO},
                                        {NULL, NULL, FORMAT_TEXT}};

int bench_recover(struct bench *bench) {
  static const uint64_t usual_channels[] = {1, 100, 1000, 10000}, usual_subscribers[] = {USUAL_SUBSCRIBERS};
  const struct settings *settings = &bench->settings;
  struct list channels = bench_list(&settings->channels, settings->is_quick ? 2 : 4, usual_channels);
  struct list subscribers = bench_list(&settings->subscribers, 1, usual_subscribers);
  int code = EXIT_OK;
  if (channels.values[0] == 0) return fail(EXIT_USAGE, "bench recover needs a channel: --channels from 1 on");
  report_begin(bench,
               "A broker with a shadow killed and started again: until it has ended; and from the start until a new "
               "client is answered, one that lived has its channel back, and all have theirs",
               columns);
  for (size_t i = 0; i < subscribers.count && code == EXIT_OK; i++)
    code = measure_channels(bench, &channels, subscribers.values[i]);
  return code;
}

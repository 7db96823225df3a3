/* slotcastd: options, log, signals; the rest is the broker's. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

#include "base/error.h"
#include "broker/options.h"
#include "loop/watch.h"

struct daemon {
  struct broker broker;
  uv_signal_t terminate, interrupt;
};

static void log_to_stderr(void *ctx, enum slc__log_level level, const char *text) {
  static const char *const names[] = {"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"};
  (void)ctx;
  fprintf(stderr, "slotcastd: %s: %s\n", names[level], text);
}

static void log_to_journal(void *ctx, enum slc__log_level level, const char *text) {
  (void)ctx;
  sd_journal_print((int)level, "%s", text);
}

static void open_log(const struct command_line *line) {
  bool journal = line->log_target == LOG_TARGET_JOURNAL ||
                 (line->log_target == LOG_TARGET_AUTO && getenv("JOURNAL_STREAM") != NULL);
  slc__log_set(journal ? log_to_journal : log_to_stderr, NULL, line->log_level);
}

/* Each channel costs a few descriptors; the soft limit is there for programs that use select(), which we don't. */
static void raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

static void on_signal(uv_signal_t *handle, int number) {
  struct daemon *daemon = handle->data;
  slc__log(SLC__LOG_NOTICE, "signal %d: ending; publishers and subscribers go on without a broker", number);
  sd_notify(0, "STOPPING=1");
  uv_close((uv_handle_t *)&daemon->terminate, NULL);
  uv_close((uv_handle_t *)&daemon->interrupt, NULL);
  broker_close(&daemon->broker);
}

static int watch_signal(uv_loop_t *loop, uv_signal_t *handle, int number, struct daemon *daemon) {
  int error = uv_signal_init(loop, handle);
  handle->data = daemon;
  if (error == 0) error = uv_signal_start(handle, on_signal, number);
  return error == 0 ? SLC_OK : slc__fail(SLC_SYSTEM, "cannot watch signal %d: %s", number, uv_strerror(error));
}

/* Signals before the socket is there: one from then on ends us in good order. */
static int serve_begin(struct daemon *daemon, uv_loop_t *loop, const struct broker_options *options) {
  int status = slc__loop_init(loop);
  if (status == SLC_OK) status = watch_signal(loop, &daemon->terminate, SIGTERM, daemon);
  if (status == SLC_OK) status = watch_signal(loop, &daemon->interrupt, SIGINT, daemon);
  return status == SLC_OK ? broker_open(&daemon->broker, loop, options) : status;
}

int main(int argc, char **argv) {
  struct command_line line;
  int parsed = command_line_parse(argc, argv, &line);
  if (parsed != PARSE_RUN) return parsed;
  open_log(&line);
  raise_descriptor_limit();
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN); /* an object beyond our own file size limit is a refusal, not our end */

  static struct daemon daemon;
  uv_loop_t loop;
  if (serve_begin(&daemon, &loop, &line.broker) != SLC_OK) {
    slc__log(SLC__LOG_ERROR, "%s", slc__error_detail());
    return EXIT_FAILURE;
  }
  slc__log(SLC__LOG_NOTICE, "serving at %s", line.broker.socket);
  sd_notify(0, "READY=1");
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return EXIT_SUCCESS;
}

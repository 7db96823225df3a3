/* slotcast-shadow: options, log, signals; the rest is the shadow's. */
#include <signal.h>
#include <stdlib.h>

#include "base/error.h"
#include "loop/watch.h"
#include "shadow/options.h"

struct daemon {
  struct shadow shadow;
  struct slc__service service;
  uv_signal_t terminate, interrupt;
};

static void on_signal(uv_signal_t *handle, int number) {
  struct daemon *daemon = handle->data;
  slc__log(SLC__LOG_NOTICE, "signal %d: ending, and %llu records with it", number,
           (unsigned long long)daemon->shadow.records.committed);
  slc__service_end(&daemon->service);
  uv_close((uv_handle_t *)&daemon->terminate, NULL);
  uv_close((uv_handle_t *)&daemon->interrupt, NULL);
  shadow_close(&daemon->shadow);
}

static int watch_signal(uv_loop_t *loop, uv_signal_t *handle, int number, struct daemon *daemon) {
  int error = uv_signal_init(loop, handle);
  handle->data = daemon;
  if (error == 0) error = uv_signal_start(handle, on_signal, number);
  return error == 0 ? SLC_OK : slc__fail(SLC_SYSTEM, "cannot watch signal %d: %s", number, uv_strerror(error));
}

/* Where no --socket was given, it is served where the manager's socket listens. */
static int take_socket(struct shadow_command_line *line) {
  static struct slc__handed_socket handed;
  static char path[sizeof line->socket];
  int status = slc__service_take_socket(&handed, path, sizeof path);
  if (status != SLC_OK || handed.listen_fd < 0) return status;
  if (line->shadow.listen.path == line->socket) line->shadow.listen.path = path;
  line->shadow.listen.handed = &handed;
  return SLC_OK;
}

/* Signals before the socket is there: one from then on ends us in good order. */
static int serve_begin(struct daemon *daemon, uv_loop_t *loop, struct shadow_command_line *line) {
  int status = take_socket(line);
  if (status == SLC_OK) status = slc__loop_init(loop);
  if (status == SLC_OK) status = watch_signal(loop, &daemon->terminate, SIGTERM, daemon);
  if (status == SLC_OK) status = watch_signal(loop, &daemon->interrupt, SIGINT, daemon);
  return status == SLC_OK ? shadow_open(&daemon->shadow, loop, &line->shadow) : status;
}

int main(int argc, char **argv) {
  struct shadow_command_line line;
  int parsed = shadow_command_line_parse(argc, argv, &line);
  if (parsed != SHADOW_RUN) return parsed;
  slc__daemon_log_open("slotcast-shadow", line.log_target, line.log_level);
  slc__daemon_raise_descriptor_limit();
  slc__daemon_ignore_signals();

  static struct daemon daemon;
  uv_loop_t loop;
  if (serve_begin(&daemon, &loop, &line) != SLC_OK) {
    slc__log(SLC__LOG_ERROR, "%s", slc__error_detail());
    return EXIT_FAILURE;
  }
  slc__log(SLC__LOG_NOTICE, "serving at %s", line.shadow.listen.path);
  slc__service_begin(&daemon.service, &loop, line.shadow.listen.path);
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return EXIT_SUCCESS;
}

/* slotcastd: options, log, signals; the rest is the broker's. */
#include <signal.h>
#include <stdlib.h>

#include "base/error.h"
#include "broker/options.h"
#include "broker/upgrade.h"
#include "loop/watch.h"

struct daemon {
  struct broker broker;
  struct slc__service service;
  uv_signal_t terminate, interrupt, upgrade;
};

static void on_signal(uv_signal_t *handle, int number) {
  struct daemon *daemon = handle->data;
  slc__log(SLC__LOG_NOTICE, "signal %d: ending; publishers and subscribers go on without a broker", number);
  slc__service_end(&daemon->service);
  uv_close((uv_handle_t *)&daemon->terminate, NULL);
  uv_close((uv_handle_t *)&daemon->interrupt, NULL);
  uv_close((uv_handle_t *)&daemon->upgrade, NULL);
  broker_close(&daemon->broker);
}

/* The process ends as it stands: all that it has is somebody else's. */
static void on_upgrade(uv_signal_t *handle, int number) {
  struct daemon *daemon = handle->data;
  const char *socket = daemon->broker.options.socket;
  pid_t pid;
  (void)number;
  slc__log(SLC__LOG_NOTICE, "handing over to a new program");
  slc__service_reload();
  if (upgrade_run(&daemon->broker, &pid) == SLC_OK) {
    slc__log(SLC__LOG_NOTICE, "process %d serves at %s now", (int)pid, socket);
    exit(EXIT_SUCCESS);
  }
  slc__log(SLC__LOG_ERROR, "not handed over, this one goes on: %s", slc__error_detail());
  slc__service_goes_on(socket);
}

static int watch_signal(uv_loop_t *loop, uv_signal_t *handle, int number, struct daemon *daemon,
                        uv_signal_cb callback) {
  int error = uv_signal_init(loop, handle);
  handle->data = daemon;
  if (error == 0) error = uv_signal_start(handle, callback, number);
  return error == 0 ? SLC_OK : slc__fail(SLC_SYSTEM, "cannot watch signal %d: %s", number, uv_strerror(error));
}

/* ---- where it listens ---- */

static struct {
  struct slc__handed_socket socket;
  char path[sizeof((struct command_line *)0)->socket];
  struct upgrade upgrade;
} handed;

/* Where no --socket was given, it is served where the socket listens. */
static void use_handed(struct command_line *line) {
  if (handed.socket.is_managers && line->broker.socket == line->socket) line->broker.socket = handed.path;
  line->broker.handed = &handed.socket;
}

static int take_managers_socket(struct command_line *line) {
  int status = slc__service_take_socket(&handed.socket, handed.path, sizeof handed.path);
  if (status == SLC_OK && handed.socket.listen_fd >= 0) use_handed(line);
  return status;
}

static int confirm(void) {
  int status = upgrade_confirm(&handed.upgrade);
  handed.socket.is_shared = status != SLC_OK;
  return status;
}

static int take_what_is_handed_over(struct command_line *line) {
  const struct slc__handover *from = &handed.upgrade.handover;
  handed.socket = (struct slc__handed_socket){
      .listen_fd = from->listen_fd, .lock_fd = from->lock_fd, .is_managers = from->is_managers, .is_shared = true};
  line->broker.image = &handed.upgrade.handover.image;
  line->broker.confirm = confirm;
  int status = from->is_managers ? slc__net_path_of(from->listen_fd, handed.path, sizeof handed.path) : SLC_OK;
  use_handed(line);
  return status;
}

static int take_socket(struct command_line *line) {
  int status = upgrade_receive(&handed.upgrade);
  if (status != SLC_OK) return status;
  return handed.upgrade.socket >= 0 ? take_what_is_handed_over(line) : take_managers_socket(line);
}

/* ---- life ---- */

/* Signals before the socket is there: one from then on ends us in good order, or hands over. */
static int serve_begin(struct daemon *daemon, uv_loop_t *loop, struct command_line *line) {
  int status = take_socket(line);
  if (status == SLC_OK) status = slc__loop_init(loop);
  if (status == SLC_OK) status = watch_signal(loop, &daemon->terminate, SIGTERM, daemon, on_signal);
  if (status == SLC_OK) status = watch_signal(loop, &daemon->interrupt, SIGINT, daemon, on_signal);
  if (status == SLC_OK) status = watch_signal(loop, &daemon->upgrade, SIGUSR2, daemon, on_upgrade);
  if (status == SLC_OK) status = broker_open(&daemon->broker, loop, &line->broker);
  slc__image_deinit(&handed.upgrade.handover.image); /* what was in it is the broker's */
  return status;
}

int main(int argc, char **argv) {
  struct command_line line;
  upgrade_note(argv);
  int parsed = command_line_parse(argc, argv, &line);
  if (parsed != PARSE_RUN) return parsed;
  slc__daemon_log_open("slotcastd", line.log_target, line.log_level);
  slc__daemon_raise_descriptor_limit();
  slc__daemon_ignore_signals();

  static struct daemon daemon;
  uv_loop_t loop;
  if (serve_begin(&daemon, &loop, &line) != SLC_OK) {
    slc__log(SLC__LOG_ERROR, "%s", slc__error_detail());
    return EXIT_FAILURE;
  }
  slc__log(SLC__LOG_NOTICE, "serving at %s", line.broker.socket);
  slc__service_begin(&daemon.service, &loop, line.broker.socket);
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return EXIT_SUCCESS;
}

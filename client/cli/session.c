/* A private broker for the time of a command.  Whatever ends first, nothing is left behind (after a SIGKILL of this
 * program a directory without a socket is).  Thread: main. */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum { LOOK_EVERY_NS = 2000000 };

static bool is_ignored(int number) {
  struct sigaction action;
  return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* What this program was told to ignore (nohup) stays ignored, here as in the command. */
void session_begin(struct session *session) {
  *session = (struct session){0};
  static const int passed_on[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
  sigemptyset(&session->fetched);
  signal(SIGCHLD, SIG_DFL); /* were it ignored, nobody's exit could be waited for */
  sigaddset(&session->fetched, SIGCHLD);
  for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) {
    if (!is_ignored(passed_on[i])) sigaddset(&session->fetched, passed_on[i]);
  }
  sigprocmask(SIG_BLOCK, &session->fetched, &session->original);
}

void session_become_child(const struct session *session, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(EXIT_FAILED);
  sigprocmask(SIG_SETMASK, &session->original, NULL);
}

/* ---- the broker ---- */

static int make_directory(struct session *session) {
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  const char *parent = runtime != NULL && runtime[0] != '\0' && access(runtime, W_OK) == 0 ? runtime : "/tmp";
  int length = snprintf(session->directory, sizeof session->directory, "%s/slotcast-XXXXXX", parent);
  if (length < 0 || (size_t)length >= sizeof session->directory - 16 || mkdtemp(session->directory) == NULL) {
    session->directory[0] = '\0'; /* there is none to be removed */
    return fail(EXIT_FAILED, "cannot make a directory for the broker in %s: %s", parent, strerror(errno));
  }
  snprintf(session->socket, sizeof session->socket, "%.*s/broker.sock", PATH_MAX - 16, session->directory);
  return EXIT_OK;
}

static void remove_directory(const struct session *session) {
  char lock[PATH_MAX];
  snprintf(lock, sizeof lock, "%.*s.lock", PATH_MAX - 8, session->socket);
  unlink(session->socket);
  unlink(lock);
  rmdir(session->directory);
}

static void exec_broker(const struct session *session, const char *backend, const char *const *options) {
  char beside[PATH_MAX];
  const char *given = getenv("SLOTCASTD");
  ssize_t length = readlink("/proc/self/exe", beside, sizeof beside - 16);
  char *slash = NULL;
  if (length > 0) {
    beside[length] = '\0';
    slash = strrchr(beside, '/');
  }
  const char *words[9 + SESSION_OPTIONS_MAX + 1] = {"slotcastd",   "--socket", session->socket, "--backend", backend,
                                                    "--log-level", "warning",  "--log-target",  "stderr"};
  for (int i = 0; i < SESSION_OPTIONS_MAX && options[i] != NULL; i++) words[9 + i] = options[i];
  char *const *arguments = (char *const *)(uintptr_t)words; /* exec changes nothing */
  if (slash != NULL) {
    memcpy(slash + 1, "slotcastd", sizeof "slotcastd");
    execv(beside, arguments);
  }
  if (given != NULL) execv(given, arguments);
  execvp("slotcastd", arguments);
  fprintf(stderr, "slotcast: cannot start slotcastd: %s: install it, or set SLOTCASTD\n", strerror(errno));
  _exit(EXIT_FAILED);
}

static int start(struct session *session, const char *backend, const char *const *options) {
  pid_t parent = getpid();
  session->broker = fork();
  if (session->broker < 0) return fail(EXIT_FAILED, "cannot fork: %s", strerror(errno));
  if (session->broker == 0) {
    session_become_child(session, parent);
    setpgid(0, 0); /* a Ctrl-C is for the command; the broker goes when that has gone */
    exec_broker(session, backend, options);
  }
  slc_client_options connecting = SLC_CLIENT_OPTIONS_INIT;
  connecting.socket = session->socket;
  for (;;) {
    slc_client *client;
    bool listens = access(session->socket, F_OK) == 0; /* it does when its socket has its name */
    int status = slc_client_open(&connecting, &client);
    if (status == SLC_OK) {
      slc_client_close(client);
      return EXIT_OK;
    }
    if (listens || status != SLC_NO_BROKER) return fail_status("the broker does not answer", status);
    if (waitpid(session->broker, NULL, WNOHANG) != 0) {
      session->broker = 0;
      return fail(EXIT_FAILED, "the broker did not start");
    }
    int number = sigtimedwait(&session->fetched, NULL, &(struct timespec){.tv_nsec = LOOK_EVERY_NS});
    if (number > 0 && number != SIGCHLD) return 128 + number;
  }
}

static void stop_broker(const struct session *session) {
  if (session->broker <= 0) return;
  kill(session->broker, SIGTERM);
  while (waitpid(session->broker, NULL, 0) < 0 && errno == EINTR) {
  }
}

int session_start_broker(struct session *session, const char *backend, const char *const *options) {
  int code = make_directory(session);
  return code == EXIT_OK ? start(session, backend, options) : code;
}

void session_end(struct session *session) {
  stop_broker(session);
  if (session->directory[0] != '\0') remove_directory(session);
}

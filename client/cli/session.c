/* A private broker for the time of a command, and its shadows.  Whatever ends first, nothing is left behind (after a
 * SIGKILL of this program a directory without a socket is).  Thread: main. */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum { LOOK_EVERY_NS = 2000000, NAME_MAX_LENGTH = 32 };
enum { PAUSE_MIN_NS = 10000000, PAUSE_MAX_NS = 1000000000, SERVED_NS = 1000000000 };

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

/* ---- the directory ---- */

static int make_directory(struct session *session) {
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  const char *parent = runtime != NULL && runtime[0] != '\0' && access(runtime, W_OK) == 0 ? runtime : "/tmp";
  int length = snprintf(session->directory, sizeof session->directory, "%s/slotcast-XXXXXX", parent);
  if (length < 0 || (size_t)length >= sizeof session->directory - NAME_MAX_LENGTH ||
      mkdtemp(session->directory) == NULL) {
    session->directory[0] = '\0'; /* there is none to be removed */
    return fail(EXIT_FAILED, "cannot make a directory for the broker in %s: %s", parent, strerror(errno));
  }
  return EXIT_OK;
}

static void name_socket(const struct session *session, struct session_program *program, const char *what,
                        const char *name) {
  char path[PATH_MAX]; /* the program is a part of the session, for all that the compiler knows */
  snprintf(path, sizeof path, "%.*s/%s", PATH_MAX - NAME_MAX_LENGTH, session->directory, name);
  *program = (struct session_program){.what = what};
  memcpy(program->socket, path, sizeof path);
}

static void remove_beside(const struct session_program *program, const char *suffix) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%.*s%s", PATH_MAX - NAME_MAX_LENGTH, program->socket, suffix);
  unlink(path);
}

static void remove_directory(const struct session *session) {
  for (int i = 0; i < session->shadow_count; i++) {
    remove_beside(&session->shadows[i], "");
    remove_beside(&session->shadows[i], ".lock");
  }
  remove_beside(&session->broker, "");
  remove_beside(&session->broker, ".lock");
  remove_beside(&session->broker, ".generation");
  remove_beside(&session->broker, ".generation.new"); /* of one that died in the middle of it */
  rmdir(session->directory);
}

/* ---- starting ---- */

/* Beside this program, else what the variable names, else in $PATH. */
static _Noreturn void exec_program(const char *name, const char *variable, const char *const *words) {
  char beside[PATH_MAX];
  const char *given = getenv(variable);
  ssize_t length = readlink("/proc/self/exe", beside, sizeof beside - NAME_MAX_LENGTH);
  char *slash = NULL;
  if (length > 0) {
    beside[length] = '\0';
    slash = strrchr(beside, '/');
  }
  char *const *arguments = (char *const *)(uintptr_t)words; /* exec changes nothing */
  if (slash != NULL) {
    snprintf(slash + 1, NAME_MAX_LENGTH, "%s", name);
    execv(beside, arguments);
  }
  if (given != NULL) execv(given, arguments);
  execvp(name, arguments);
  fprintf(stderr, "slotcast: cannot start %s: %s: install it, or set %s\n", name, strerror(errno), variable);
  _exit(EXIT_FAILED);
}

static _Noreturn void become_broker(const struct session *session) {
  enum { FIXED = 9 };
  const char *words[FIXED + 2 * SESSION_SHADOWS_MAX + SESSION_OPTIONS_MAX + 1] = {
      "slotcastd",   "--socket", session->broker.socket, "--backend", session->backend,
      "--log-level", "warning",  "--log-target",         "stderr"};
  int count = FIXED;
  for (int i = 0; i < session->shadow_count; i++) {
    words[count++] = "--shadow";
    words[count++] = session->shadows[i].socket;
  }
  for (int i = 0; i < SESSION_OPTIONS_MAX && session->options[i] != NULL; i++) words[count++] = session->options[i];
  exec_program("slotcastd", "SLOTCASTD", words);
}

static _Noreturn void become_shadow(const struct session_program *shadow) {
  const char *const words[] = {"slotcast-shadow", "--socket",     shadow->socket, "--log-level",
                               "warning",         "--log-target", "stderr",       NULL};
  exec_program("slotcast-shadow", "SLOTCAST_SHADOW", words);
}

static int launch(const struct session *session, struct session_program *program) {
  pid_t parent = getpid();
  program->started_ns = now_ns();
  pid_t pid = fork();
  if (pid < 0) return fail(EXIT_FAILED, "cannot fork: %s", strerror(errno));
  if (pid == 0) {
    session_become_child(session, parent);
    setpgid(0, 0); /* a Ctrl-C is for the command; the broker goes when that has gone */
    if (program == &session->broker) become_broker(session);
    become_shadow(program);
  }
  program->pid = pid;
  return EXIT_OK;
}

static int try_broker(const char *socket) {
  slc_client *client;
  slc_client_options connecting = SLC_CLIENT_OPTIONS_INIT;
  connecting.socket = socket;
  int status = slc_client_open(&connecting, &client);
  if (status == SLC_OK) slc_client_close(client);
  return status;
}

/* It listens when its socket has its name; a broker must answer, too. */
static int await(const struct session *session, struct session_program *program) {
  for (;;) {
    bool listens = access(program->socket, F_OK) == 0;
    int status = program == &session->broker ? try_broker(program->socket) : listens ? SLC_OK : SLC_NO_BROKER;
    if (status == SLC_OK) return EXIT_OK;
    if (listens || status != SLC_NO_BROKER) return fail_status("the broker does not answer", status);
    if (waitpid(program->pid, NULL, WNOHANG) != 0) {
      program->pid = 0;
      return fail(EXIT_FAILED, "%s did not start", program->what);
    }
    int number = sigtimedwait(&session->fetched, NULL, &(struct timespec){.tv_nsec = LOOK_EVERY_NS});
    if (number > 0 && number != SIGCHLD) return 128 + number;
  }
}

static int start(const struct session *session, struct session_program *program) {
  int code = launch(session, program);
  return code == EXIT_OK ? await(session, program) : code;
}

int session_start_broker(struct session *session, const char *backend, int shadows, const char *const *options) {
  static const char *const names[SESSION_SHADOWS_MAX] = {"shadow.sock", "shadow2.sock"};
  int code = make_directory(session);
  session->backend = backend;
  session->options = options;
  name_socket(session, &session->broker, "the broker", "broker.sock");
  for (int i = 0; code == EXIT_OK && i < shadows && i < SESSION_SHADOWS_MAX; i++) {
    name_socket(session, &session->shadows[i], "a shadow", names[i]);
    session->shadow_count = i + 1;
    code = start(session, &session->shadows[i]);
  }
  return code == EXIT_OK ? start(session, &session->broker) : code;
}

/* ---- starting again ---- */

/* At once when it has served for a while; one that dies again and again waits longer and longer. */
static void schedule(struct session_program *program, const char *how, int number) {
  int64_t now = now_ns();
  bool has_served = now - program->started_ns >= SERVED_NS;
  int64_t longer = program->pause_ns == 0 ? PAUSE_MIN_NS : 2 * program->pause_ns;
  program->pause_ns = has_served ? 0 : longer < PAUSE_MAX_NS ? longer : PAUSE_MAX_NS;
  program->due_ns = now + program->pause_ns;
  fprintf(stderr, "slotcast: %s ended with %s %d: it is started again\n", program->what, how, number);
}

static void notice_end(struct session_program *program) {
  int status = 0;
  if (program->pid == 0 || waitpid(program->pid, &status, WNOHANG) != program->pid) return;
  program->pid = 0;
  program->is_done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (program->is_done) return;
  if (WIFSIGNALED(status)) {
    schedule(program, "signal", WTERMSIG(status));
  } else {
    schedule(program, "status", WEXITSTATUS(status));
  }
}

/* The nanoseconds until it is to be started, -1: it is not. */
static int64_t tend(const struct session *session, struct session_program *program) {
  notice_end(program);
  if (program->pid != 0 || program->is_done) return -1;
  int64_t left = program->due_ns - now_ns();
  if (left > 0) return left;
  if (launch(session, program) == EXIT_OK) return -1;
  program->due_ns = now_ns() + PAUSE_MAX_NS; /* no process can be made now */
  return PAUSE_MAX_NS;
}

static int64_t sooner(int64_t a, int64_t b) {
  return a < 0 || (b >= 0 && b < a) ? b : a;
}

int session_revive_broker(struct session *session) {
  struct session_program *broker = &session->broker;
  int status = 0;
  if (broker->pid == 0 || waitpid(broker->pid, &status, WNOHANG) != broker->pid) return EXIT_OK;
  broker->pid = 0;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return launch(session, broker);
  return fail(EXIT_FAILED, "the broker has ended by itself");
}

int64_t session_tend(struct session *session) {
  if (session->shadow_count == 0) return -1;
  int64_t next = tend(session, &session->broker);
  for (int i = 0; i < session->shadow_count; i++) next = sooner(next, tend(session, &session->shadows[i]));
  return next;
}

/* ---- the end ---- */

static void stop(struct session_program *program) {
  if (program->pid <= 0) return;
  kill(program->pid, SIGTERM);
  while (waitpid(program->pid, NULL, 0) < 0 && errno == EINTR) {
  }
  program->pid = 0;
}

/* The broker first: it says good-bye to its shadows. */
void session_end(struct session *session) {
  stop(&session->broker);
  for (int i = 0; i < session->shadow_count; i++) stop(&session->shadows[i]);
  if (session->directory[0] != '\0') remove_directory(session);
  session->directory[0] = '\0';
  session->shadow_count = 0;
}

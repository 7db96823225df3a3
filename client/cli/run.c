/* slotcast run: a private broker for the time of a command.  Whatever ends first, nothing is left behind (after a
 * SIGKILL of this program a directory without a socket is).  Signals stay blocked and are fetched, so none comes
 * between two steps: before the command runs they end the work in good order, afterwards they are the command's.
 * Thread: main. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum { LOOK_EVERY_NS = 2000000, EXIT_NOT_FOUND = 127, EXIT_NOT_RUNNABLE = 126 };

static const char help_text[] =
    "Usage: slotcast run [--backend memfd|shm] -- COMMAND [ARGUMENT]...\n"
    "\n"
    "Starts a private broker, runs COMMAND with SLOTCAST_SOCKET set to it, and ends the broker afterwards.\n"
    "\n"
    "  --backend NAME  memfd (sealed, the default) or shm (files in /dev/shm)\n"
    "  --help\n"
    "\n"
    "Exit status: COMMAND's; 128 + N when signal N ended it; 127 when it was not found; 1 when the broker did not "
    "start.\n"
    "The broker is slotcastd beside this program, else $SLOTCASTD, else slotcastd in $PATH.\n";

struct session {
  char directory[PATH_MAX];
  char socket[PATH_MAX];
  pid_t broker;
  sigset_t fetched;  /* blocked here: SIGCHLD and what is passed on to the command */
  sigset_t original; /* the mask that broker and command get */
};

static bool is_ignored(int number) {
  struct sigaction action;
  return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* What this program was told to ignore (nohup) stays ignored, here as in the command. */
static void block_signals(struct session *session) {
  static const int passed_on[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
  sigemptyset(&session->fetched);
  signal(SIGCHLD, SIG_DFL); /* were it ignored, nobody's exit could be waited for */
  sigaddset(&session->fetched, SIGCHLD);
  for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) {
    if (!is_ignored(passed_on[i])) sigaddset(&session->fetched, passed_on[i]);
  }
  sigprocmask(SIG_BLOCK, &session->fetched, &session->original);
}

/* In a child, before it becomes something else: dies with us, and has the signals as we had them. */
static void become_child(const struct session *session, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(EXIT_FAILED);
  sigprocmask(SIG_SETMASK, &session->original, NULL);
}

/* ---- the broker ---- */

static int make_directory(struct session *session) {
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  const char *parent = runtime != NULL && runtime[0] != '\0' && access(runtime, W_OK) == 0 ? runtime : "/tmp";
  int length = snprintf(session->directory, sizeof session->directory, "%s/slotcast-XXXXXX", parent);
  if (length < 0 || (size_t)length >= sizeof session->directory - 16 || mkdtemp(session->directory) == NULL)
    return fail(EXIT_FAILED, "cannot make a directory for the broker in %s: %s", parent, strerror(errno));
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

static void exec_broker(const struct session *session, const char *backend) {
  char beside[PATH_MAX];
  const char *given = getenv("SLOTCASTD");
  ssize_t length = readlink("/proc/self/exe", beside, sizeof beside - 16);
  char *slash = NULL;
  if (length > 0) {
    beside[length] = '\0';
    slash = strrchr(beside, '/');
  }
  const char *const words[] = {"slotcastd",   "--socket", session->socket, "--backend", backend,
                               "--log-level", "warning",  "--log-target",  "stderr",    NULL};
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

static int start_broker(struct session *session, const char *backend) {
  pid_t parent = getpid();
  session->broker = fork();
  if (session->broker < 0) return fail(EXIT_FAILED, "cannot fork: %s", strerror(errno));
  if (session->broker == 0) {
    become_child(session, parent);
    setpgid(0, 0); /* a Ctrl-C is for the command; the broker goes when that has gone */
    exec_broker(session, backend);
  }
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.socket = session->socket;
  for (;;) {
    slc_client *client;
    bool listens = access(session->socket, F_OK) == 0; /* it does when its socket has its name */
    int status = slc_client_open(&options, &client);
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

/* ---- the command ---- */

/* Ctrl-C and Ctrl-\ have gone to the terminal's whole foreground group, the command included. */
static bool is_from_keyboard(const siginfo_t *info) {
  return info->si_code == SI_KERNEL && (info->si_signo == SIGINT || info->si_signo == SIGQUIT);
}

/* Passes signals on until the command has ended; its wait status. */
static int attend(const struct session *session, pid_t command) {
  for (;;) {
    siginfo_t info;
    int status, number = sigwaitinfo(&session->fetched, &info);
    if (number == SIGCHLD && waitpid(command, &status, WNOHANG) == command) return status;
    if (number > 0 && number != SIGCHLD && !is_from_keyboard(&info)) kill(command, number);
  }
}

static int run_command(const struct session *session, char **command) {
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) return fail(EXIT_FAILED, "cannot fork: %s", strerror(errno));
  if (pid == 0) {
    become_child(session, parent);
    setenv("SLOTCAST_SOCKET", session->socket, 1);
    execvp(command[0], command);
    int code = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE;
    fprintf(stderr, "slotcast: cannot run %s: %s\n", command[0], strerror(errno));
    _exit(code);
  }
  int status = attend(session, pid);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int command_run(int argc, char **argv) {
  static const struct option options[] = {
      {"backend", required_argument, NULL, 'b'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
  const char *backend = "memfd";
  for (int option; (option = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
    switch (option) {
    case 'b':
      backend = optarg;
      if (strcmp(backend, "memfd") != 0 && strcmp(backend, "shm") != 0)
        return fail(EXIT_USAGE, "--backend is memfd or shm, not '%s'", backend);
      break;
    case 'h':
      fputs(help_text, stdout);
      return EXIT_OK;
    default:
      return fail_usage("run");
    }
  }
  if (optind == argc) return fail(EXIT_USAGE, "run needs a command: slotcast run -- COMMAND [ARGUMENT]...");
  struct session session = {0};
  block_signals(&session);
  int code = make_directory(&session);
  if (code != EXIT_OK) return code;
  code = start_broker(&session, backend);
  if (code == EXIT_OK) code = run_command(&session, argv + optind);
  stop_broker(&session);
  remove_directory(&session);
  return code;
}

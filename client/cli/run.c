/* slotcast run: a private broker for the time of a command.  Until the command runs signals end the work in good order,
 * afterwards they are the command's.  Thread: main. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "session.h"

enum { EXIT_NOT_FOUND = 127, EXIT_NOT_RUNNABLE = 126, NS_PER_S = 1000000000 };

static const char help_text[] =
    "Usage: slotcast run [--backend memfd|shm] [--shadow] -- COMMAND [ARGUMENT]...\n"
    "\n"
    "Starts a private broker, runs COMMAND with SLOTCAST_SOCKET set to it, and ends the broker afterwards.\n"
    "\n"
    "  --backend NAME  memfd (sealed, the default) or shm (files in /dev/shm)\n"
    "  --shadow        starts a slotcast-shadow, too, and starts the broker again when it dies: nothing is lost\n"
    "  --shadows N     so many of them, 1 or 2\n"
    "  --help\n"
    "\n"
    "Exit status: COMMAND's; 128 + N when signal N ended it; 127 when it was not found; 1 when the broker did not "
    "start.\n"
    "The broker is slotcastd beside this program, else $SLOTCASTD, else slotcastd in $PATH; a shadow likewise, with\n"
    "$SLOTCAST_SHADOW.\n";

/* Ctrl-C and Ctrl-\ have gone to the terminal's whole foreground group, the command included. */
static bool is_from_keyboard(const siginfo_t *info) {
  return info->si_code == SI_KERNEL && (info->si_signo == SIGINT || info->si_signo == SIGQUIT);
}

/* Waits for a signal, at most so many nanoseconds (-1: for ever). */
static int next_signal(const struct session *session, int64_t timeout_ns, siginfo_t *ret_info) {
  if (timeout_ns < 0) return sigwaitinfo(&session->fetched, ret_info);
  struct timespec timeout = {.tv_sec = timeout_ns / NS_PER_S, .tv_nsec = timeout_ns % NS_PER_S};
  return sigtimedwait(&session->fetched, ret_info, &timeout);
}

/* Passes signals on until the command has ended; its wait status.  What the broker needs is seen to meanwhile. */
static int attend(struct session *session, pid_t command) {
  int64_t timeout_ns = session_tend(session); /* one may have died since it was started */
  for (;;) {
    siginfo_t info;
    int status, number = next_signal(session, timeout_ns, &info);
    if (number == SIGCHLD && waitpid(command, &status, WNOHANG) == command) return status;
    if (number > 0 && number != SIGCHLD && !is_from_keyboard(&info)) kill(command, number);
    timeout_ns = session_tend(session);
  }
}

static int run_command(struct session *session, char **command) {
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) return fail(EXIT_FAILED, "cannot fork: %s", strerror(errno));
  if (pid == 0) {
    session_become_child(session, parent);
    setenv("SLOTCAST_SOCKET", session->broker.socket, 1);
    execvp(command[0], command);
    int code = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE;
    fprintf(stderr, "slotcast: cannot run %s: %s\n", command[0], strerror(errno));
    _exit(code);
  }
  int status = attend(session, pid);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int command_run(int argc, char **argv) {
  static const struct option options[] = {{"backend", required_argument, NULL, 'b'},
                                          {"shadow", no_argument, NULL, 's'},
                                          {"shadows", required_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  const char *backend = "memfd";
  uint64_t shadows = 0;
  for (int option; (option = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
    switch (option) {
    case 'b':
      backend = optarg;
      if (strcmp(backend, "memfd") != 0 && strcmp(backend, "shm") != 0)
        return fail(EXIT_USAGE, "--backend is memfd or shm, not '%s'", backend);
      break;
    case 's':
      if (shadows == 0) shadows = 1;
      break;
    case 'n':
      if (!parse_number(optarg, 1, SESSION_SHADOWS_MAX, &shadows))
        return fail(EXIT_USAGE, "--shadows takes 1 or 2, not '%s'", optarg);
      break;
    case 'h':
      fputs(help_text, stdout);
      return EXIT_OK;
    default:
      return fail_usage("run");
    }
  }
  if (optind == argc) return fail(EXIT_USAGE, "run needs a command: slotcast run -- COMMAND [ARGUMENT]...");
  const char *const no_options = NULL;
  struct session session;
  session_begin(&session);
  int code = session_start_broker(&session, backend, (int)shadows, &no_options);
  if (code == EXIT_OK) code = run_command(&session, argv + optind);
  session_end(&session);
  return code;
}

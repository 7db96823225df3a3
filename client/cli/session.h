/* A private broker for the time of a command, its shadows where it shall have some, and the signals meanwhile.
 * Thread: main. */
#ifndef SLOTCAST_CLI_SESSION_H
#define SLOTCAST_CLI_SESSION_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { SESSION_OPTIONS_MAX = 16, SESSION_SHADOWS_MAX = 2 };

/* The broker, or a shadow of it. */
struct session_program {
  const char *what; /* in messages */
  pid_t pid;        /* 0: not running */
  char socket[PATH_MAX];
  bool is_done; /* it ended as it was asked to: it is not started again */
  int64_t started_ns, due_ns, pause_ns;
};

struct session {
  char directory[PATH_MAX];
  struct session_program broker;
  struct session_program shadows[SESSION_SHADOWS_MAX];
  int shadow_count; /* with one at least, broker and shadows are started again when they die */
  const char *backend;
  const char *const *options;
  sigset_t fetched;  /* blocked here: SIGCHLD and what ends a program; sigwaitinfo gets them */
  sigset_t original; /* the mask that broker and children get */
};

/* From here on signals stay blocked and are fetched, so that none comes between two steps. */
void session_begin(struct session *session);
/* Starts a broker with a directory of its own, so many shadows, and these options more (NULL after the last; up to
 * SESSION_OPTIONS_MAX; they stay); the exit code.  To be ended in any case. */
int session_start_broker(struct session *session, const char *backend, int shadows, const char *const *options);
/* With shadows: after a SIGCHLD, and when the time has come that the call before gave: starts again what has died, with
 * a word on stderr.  The nanoseconds until the next is to be started, -1: none is. */
int64_t session_tend(struct session *session);
/* After a SIGCHLD: a broker that was ended with SIGKILL is started again, at once and without a word; the exit code. */
int session_revive_broker(struct session *session);
/* Ends broker and shadows if there are any, and removes what belongs to them; another broker may be started then. */
void session_end(struct session *session);
/* In a child, before it becomes something else: dies with us, and has the signals as we had them. */
void session_become_child(const struct session *session, pid_t parent);

#endif

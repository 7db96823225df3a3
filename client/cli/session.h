/* A private broker for the time of a command, and the signals meanwhile.  Thread: main. */
#ifndef SLOTCAST_CLI_SESSION_H
#define SLOTCAST_CLI_SESSION_H

#include <limits.h>
#include <signal.h>
#include <sys/types.h>

struct session {
  char directory[PATH_MAX];
  char socket[PATH_MAX];
  pid_t broker;
  sigset_t fetched;  /* blocked here: SIGCHLD and what ends a program; sigwaitinfo gets them */
  sigset_t original; /* the mask that broker and children get */
};

/* From here on signals stay blocked and are fetched, so that none comes between two steps. */
void session_begin(struct session *session);
/* Starts a broker with a directory of its own and these options more (NULL after the last; up to SESSION_OPTIONS_MAX);
 * the exit code.  To be ended in any case. */
enum { SESSION_OPTIONS_MAX = 16 };
int session_start_broker(struct session *session, const char *backend, const char *const *options);
/* Ends the broker if there is one, and removes what belongs to it. */
void session_end(struct session *session);
/* In a child, before it becomes something else: dies with us, and has the signals as we had them. */
void session_become_child(const struct session *session, pid_t parent);

#endif

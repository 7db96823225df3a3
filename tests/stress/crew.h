/* The processes of a stress test: started, killed, replaced, joined.  When one ends otherwise than it should, all are
 * killed and the test fails, so that nobody waits for ever for somebody who is no more. */
#ifndef SLC_TEST_CREW_H
#define SLC_TEST_CREW_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

enum { CREW_MAX = 64, CREW_FAILED = 3 };

/* In a member: says what is wrong, and ends it. */
#define need(condition, ...)                                                                                           \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "process %d, %s:%d: not so: %s: ", (int)getpid(), __FILE__, __LINE__, #condition);               \
      fprintf(stderr, __VA_ARGS__);                                                                                    \
      fputc('\n', stderr);                                                                                             \
      _exit(CREW_FAILED);                                                                                              \
    }                                                                                                                  \
  } while (0)

struct crew {
  pid_t pids[CREW_MAX]; /* 0: nobody there */
  uint32_t count;
};

typedef void (*crew_fn)(uint32_t number);

/* Starts member `number`, whose place must be empty; it ends with `run`, or with this process. */
void crew_start(struct crew *crew, uint32_t number, crew_fn run);
/* SIGKILL, and reaped; it must have been alive. */
void crew_kill(struct crew *crew, uint32_t number);
/* Fails when somebody has ended. */
void crew_look(struct crew *crew);
/* Waits until all who are there have ended, as they should. */
void crew_join(struct crew *crew);

#endif

/* A stand-in for the service manager, which speaks systemd's protocols over real sockets: it listens for the service,
 * starts it with LISTEN_FDS and NOTIFY_SOCKET, hears only its main process, keeps what that stores (FDSTORE, FDNAME,
 * FDPOLL, FDSTOREREMOVE, as systemd 252 does) and gives it to the next. */
#ifndef SLC_TEST_MANAGER_H
#define SLC_TEST_MANAGER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "support/leaks.h"

enum { TEST_MANAGER_TEXT = 4096, TEST_MANAGER_ARGUMENTS = 16 };

struct test_stored {
  int fd;
  ino_t inode;
  char name[256];
};

struct test_manager {
  char directory[64], socket[96], notify_path[96];
  const char *program;        /* NULL: slotcastd, with a --backend */
  const char *const *options; /* further arguments; NULL: none */
  bool is_listening;          /* it gives its socket to the service; false: the service makes its own */
  uint64_t watchdog_usec;     /* 0: none */
  int store_max;              /* FileDescriptorStoreMax= */
  pid_t pid;                  /* of the main process; 0: not running */
  int listen_fd, notify_fd;
  struct test_stored *stored;
  int stored_count;
  int refused;                  /* messages of others than the main process, and descriptors beyond the limit */
  char text[TEST_MANAGER_TEXT]; /* the last message, lines separated by newlines */
  pthread_t attendant;
  int attendant_end; /* an eventfd */
  struct test_leaks leaks;
};

/* Notes what is there, makes a scratch directory with the notify socket, and the service's; sets SLOTCAST_SOCKET and
 * the watchdog of the test.  Starts nothing. */
void test_manager_init(struct test_manager *manager, bool is_listening);
/* Starts the service with what is stored. */
void test_manager_start(struct test_manager *manager);
/* Handles messages until one has this line.  Fails the test when the main process ends before. */
void test_manager_await(struct test_manager *manager, const char *line);
/* The same until the main process ends, which is reaped: its status as wait gives it. */
int test_manager_await_end(struct test_manager *manager);
/* Waits for one message and handles it.  False: the main process has ended, and said no more. */
bool test_manager_take(struct test_manager *manager);
/* Whether the last message has that line. */
bool test_manager_heard(const struct test_manager *manager, const char *line);
/* Handles what is there already. */
void test_manager_drain(struct test_manager *manager);
/* What is there already goes unheard. */
void test_manager_ignore(struct test_manager *manager);
/* A thread that handles what comes, while the test does what the service, which waits for its manager, has to answer.
 * Until the end of that nothing else is done with the manager. */
void test_manager_attend(struct test_manager *manager);
void test_manager_attend_end(struct test_manager *manager);
/* SIGUSR2, until the service is ready again.  True: another process is the main one, and the one before has ended with
 * status 0. */
bool test_manager_upgrade(struct test_manager *manager);
/* SIGKILL, reaped; what it said before is heard. */
void test_manager_kill(struct test_manager *manager);
/* SIGTERM; its exit status. */
int test_manager_stop(struct test_manager *manager);
/* Forgets what is stored. */
void test_manager_forget(struct test_manager *manager);
/* Ends it where it runs, forgets all, removes the directory, looks for what is left.  The number of faults. */
int test_manager_finish(struct test_manager *manager);

#endif

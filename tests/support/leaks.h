/* What a test must not leave behind: descriptors, mappings of shared objects, children.  And a watchdog. */
#ifndef SLC_TEST_LEAKS_H
#define SLC_TEST_LEAKS_H

#include <sys/types.h>

/* How many descriptors a process has open; this one's own, too, where the one that looks is not counted. */
int test_descriptors_of(pid_t pid);

struct test_leaks {
  int descriptors;
  int mappings; /* of memfds and of files in /dev/shm */
};

/* What is there now, and should be there again afterwards. */
void test_leaks_note(struct test_leaks *ret_leaks);
/* 0, or the number of kinds of things left behind, each told on stderr. */
int test_leaks_check(const struct test_leaks *before);

#define TEST_STATUS_WATCHDOG 124
/* Generous: it is there for what hangs, and measures nothing. */
#define TEST_WATCHDOG_SECONDS 300
/* Ends this process with TEST_STATUS_WATCHDOG, and a word on stderr, unless it is called again before `seconds` have
 * passed; 0 calls it off. */
void test_watchdog(unsigned seconds);

#endif

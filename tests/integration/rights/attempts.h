/* Every route by which a process of another uid might change an object that it was handed, tried in turn. */
#ifndef SLC_TEST_ATTEMPTS_H
#define SLC_TEST_ATTEMPTS_H

#include <stdint.h>
#include <sys/types.h>

struct target {
  const char *what; /* in the table that is printed */
  int fd;           /* -1: only the mapping */
  uint8_t *base;    /* mapped as the descriptor allows */
  uint64_t size;
  pid_t owner;  /* a process of another uid that has it writable */
  int owner_fd; /* the owner's descriptor of it */
};

/* Through a read-only descriptor or mapping: to write, by any route.  Prints a row for each attempt; returns how many
 * did not fail with the errno that they should, or changed a byte. */
int attempt_writes(const struct target *target);
/* Through a writable descriptor: to change the size, the seals, the mode. */
int attempt_resizes(const struct target *target);

/* For good, groups and capabilities too.  Keeps /proc/self as open as that of a process that began as this uid: or
 * attempts would fail for a reason that an attacker doesn't have.  Ends the process when it can't. */
void become(uid_t uid);

/* What single attempts give: 0, an errno, or minus the signal that they died of. */
int attempt_reopen(const struct target *target);
int attempt_shrink(const struct target *target);
int attempt_store(const struct target *target);

#endif

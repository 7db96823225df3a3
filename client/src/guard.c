/* The fork guard: a page with MADV_WIPEONFORK.
 *
 * pthread_atfork handlers don't run for clone, vfork and posix_spawn; the kernel's clearing of a page can't be missed.
 * In a child the page reads 0, until the child opens a client of its own and gives it a number that none of its
 * ancestors had.  The page also has the instance, which tells the broker an execve from a second connection: a forked
 * child is another instance for the same reason.
 *
 * Invariant: no lock is taken here, since the child of a thread that held one could never open a client.
 * Threads: any; the page is made once and never goes. */
#include "guard.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/error.h"
#include "shm/layout.h"

struct process_page {
  _Atomic uint64_t generation; /* 0: nothing opened in this process yet */
  _Atomic uint64_t instance[2];
};

static struct process_page *_Atomic page;
static _Atomic uint64_t generations; /* in ordinary memory, so that a child goes on counting where its parent was */

static int page_make(struct process_page **ret_page) {
  struct process_page *fresh = mmap(NULL, SLC__PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh == MAP_FAILED) return slc__fail(SLC_NO_MEMORY, "no memory for the fork guard: %s", strerror(errno));
  if (madvise(fresh, SLC__PAGE, MADV_WIPEONFORK) != 0) {
    int status = slc__fail(SLC_SYSTEM, "madvise(MADV_WIPEONFORK): %s", strerror(errno));
    munmap(fresh, SLC__PAGE);
    return status;
  }
  struct process_page *first = NULL;
  if (!atomic_compare_exchange_strong(&page, &first, fresh)) {
    munmap(fresh, SLC__PAGE);
    fresh = first;
  }
  *ret_page = fresh;
  return 0;
}

/* Whoever comes first gives the word its value; everybody uses that one. */
static uint64_t settle(_Atomic uint64_t *word, uint64_t value) {
  uint64_t there = 0;
  return atomic_compare_exchange_strong(word, &there, value) ? value : there;
}

static int instance_settle(struct process_page *process) {
  uint64_t random[2];
  if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
    return slc__fail(SLC_SYSTEM, "getrandom: %s", strerror(errno));
  settle(&process->instance[0], random[0] | 1);
  settle(&process->instance[1], random[1] | 1);
  return 0;
}

int slc__guard_init(struct slc__guard *guard) {
  struct process_page *process = atomic_load(&page);
  if (process == NULL) {
    int status = page_make(&process);
    if (status != 0) return status;
  }
  if (atomic_load(&process->generation) == 0) {
    int status = instance_settle(process);
    if (status != 0) return status;
    settle(&process->generation, atomic_fetch_add(&generations, 1) + 1);
  }
  guard->word = &process->generation;
  guard->value = atomic_load(&process->generation);
  return 0;
}

void slc__guard_instance(uint8_t ret_instance[16]) {
  struct process_page *process = atomic_load(&page);
  uint64_t instance[2] = {atomic_load(&process->instance[0]), atomic_load(&process->instance[1])};
  memcpy(ret_instance, instance, sizeof instance);
}

int slc__guard_fail(void) {
  return slc__fail(SLC_FORKED, "this handle belongs to the parent process: open a new one after fork");
}

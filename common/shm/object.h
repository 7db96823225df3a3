/* Shared-memory objects: made by the broker, sealed before anybody else sees them, checked before anybody maps them.
 *
 * Thread: any; an object belongs to one thread at a time. */
#ifndef SLC__SHM_OBJECT_H
#define SLC__SHM_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/layout.h"

enum slc__backend {
  SLC__BACKEND_MEMFD = 0, /* anonymous, sealed: for peers that need not trust each other */
  SLC__BACKEND_SHM = 1,   /* a file in /dev/shm: can't be sealed, so only for peers of one uid */
};

enum slc__access { SLC__READ_ONLY = 0, SLC__READ_WRITE = 1 };

/* Makes an object of `size` bytes (a multiple of SLC__PAGE) with its header written and ready, zero elsewhere.
 * memfd: sealed against shrinking, growing and sealing, inode mode 0600, so that a read-only descriptor stays one.
 * shm: a file "/dev/shm/slotcast-<session>-<serial>", O_EXCL, mode 0600, its memory allocated (not only sized); the
 * caller unlinks it with slc__object_unlink.  `allocate` asks the same for memfd.
 * Statuses: SLC_NO_DESCRIPTORS, SLC_NO_MEMORY, SLC_DENIED, SLC_SYSTEM (errno stays set).  Nothing is left behind on
 * failure. */
int slc__object_create(enum slc__backend backend, enum slc__object_kind kind, uint64_t size, const uint8_t session[16],
                       bool allocate, int *ret_fd);

/* Removes the name of a shm object, by its descriptor; nothing for memfd. */
void slc__object_unlink(int fd);

/* Removes every "/dev/shm/slotcast-*" whose session is no longer locked (its broker and all is gone).  Each broker
 * holds an exclusive flock on "/dev/shm/slotcast-<session>.lock" while it lives.  ret count removed. */
int slc__object_sweep(void);
/* Takes that lock for `session`; the descriptor keeps it; slc__object_session_unlock removes file and lock.
 * Statuses: SLC_NO_DESCRIPTORS, SLC_DENIED, SLC_SYSTEM (also when the session is locked already). */
int slc__object_session_lock(const uint8_t session[16], int *ret_fd);
void slc__object_session_unlock(const uint8_t session[16], int fd);

/* A second descriptor of the same object without write permission. */
int slc__object_reopen_read_only(int fd, int *ret_fd);

struct slc__mapping {
  void *base;
  uint64_t size;
};

/* Checks a received descriptor, before touching the memory, in this order: seals (memfd) or owner (shm: ours or
 * root's, and only where the broker said that the backend is shm); access mode, no O_PATH; regular file of exactly
 * `size` bytes, no name (memfd); tmpfs.  Then maps it whole (MAP_SHARED; PROT by `access`; MADV_DONTFORK for writable
 * ones) and checks the header: ready, magic, byte order, version, features, kind, size, session.
 * Statuses: SLC_PROTOCOL (not what it should be), SLC_VERSION, SLC_NO_MEMORY, SLC_DENIED (to be mapped writable, and
 * sealed against that), SLC_SYSTEM.  The descriptor stays the caller's in every case; the mapping does not need it. */
int slc__object_map(int fd, enum slc__backend backend, enum slc__object_kind kind, uint64_t size,
                    enum slc__access access, const uint8_t session[16], struct slc__mapping *ret);
void slc__mapping_deinit(struct slc__mapping *m); /* takes an empty one too */

#endif

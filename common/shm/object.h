/* Shared-memory objects: made by the broker, sealed before anybody else sees them, checked before anybody maps them.
 *
 * Thread: any; an object belongs to one thread at a time. */
#ifndef SLC__SHM_OBJECT_H
#define SLC__SHM_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/layout.h"

/* What an object is made of, and how it is mapped. */
struct slc__memory {
  uint8_t backend; /* enum slc__backend */
  uint8_t pages;   /* as in the geometry; only of payloads, everything else is in small ones */
  bool prefault;   /* made: it is allocated, and not only sized; mapped: its pages are there before it is used */
  bool lock;       /* mapped: they stay in memory */
};

/* In small pages, when they are touched. */
static inline struct slc__memory slc__memory_plain(enum slc__backend backend) {
  return (struct slc__memory){.backend = (uint8_t)backend};
}
/* Of a channel's objects. */
static inline struct slc__memory slc__memory_of(const struct slc__geometry *g) {
  return (struct slc__memory){.backend = g->backend, .pages = g->pages};
}

enum slc__access { SLC__READ_ONLY = 0, SLC__READ_WRITE = 1 };

/* Makes an object of `size` bytes (a multiple of SLC__PAGE, and of its pages) with its header written and ready, zero
 * elsewhere.
 * memfd: sealed against shrinking, growing and sealing, inode mode 0600, so that a read-only descriptor stays one.
 * shm: a file "slotcast-<session>-<serial>" in /dev/shm, or of huge pages where those are mounted, O_EXCL, mode 0600;
 * the caller unlinks it with slc__object_unlink.
 * Its memory is allocated where memory->prefault says so, and always in shm and of huge pages: an overcommitted page
 * would be a SIGBUS at the first store.
 * Statuses: SLC_NO_DESCRIPTORS, SLC_NO_MEMORY (also: the system does not have such pages; the sentence names what to
 * set), SLC_DENIED, SLC_SYSTEM (errno stays set).  Nothing is left behind on failure. */
int slc__object_create(struct slc__memory memory, enum slc__object_kind kind, uint64_t size, const uint8_t session[16],
                       int *ret_fd);

/* The steps of it that objects of other kinds need, too (payload.c): a memfd that can be sealed; its size, and with
 * `allocate` its memory. */
int slc__object_memfd(uint32_t pages, int *ret_fd);
int slc__object_set_size(int fd, uint32_t pages, uint64_t size, bool allocate);

/* Removes the name of a shm object, by its descriptor; nothing for memfd. */
void slc__object_unlink(int fd);

/* Makes a directory "slotcast-<session>-<serial>" where shm objects of such pages lie, mode 0700: for payloads whose
 * names their makers find without asking (payload.h).  The statuses of slc__object_create. */
int slc__object_directory(uint32_t pages, const uint8_t session[16], int *ret_fd);
/* SLC_PROTOCOL: it is none that only we, or root, may write to. */
int slc__object_directory_check(int fd);
/* Removes it with all names in it, by its descriptor. */
void slc__object_directory_remove(int fd);

/* Removes every "slotcast-*" in /dev/shm, and in directories of huge pages, whose session is no longer locked (its
 * broker and all is gone).  Each broker holds an exclusive flock on "/dev/shm/slotcast-<session>.lock" while it lives.
 * ret count removed. */
int slc__object_sweep(void);
/* Takes that lock for `session`; the descriptor keeps it; slc__object_session_unlock removes file and lock.
 * Statuses: SLC_NO_DESCRIPTORS, SLC_DENIED, SLC_SYSTEM (also when the session is locked already). */
int slc__object_session_lock(const uint8_t session[16], int *ret_fd);
/* The lock of a session that goes on, by the descriptor that another process had of it; taken over.  Where its file has
 * gone, it is made anew.  SLC_PROTOCOL: it is not that lock, or not ours to have. */
int slc__object_session_adopt(const uint8_t session[16], int *fd, int *ret_fd);
/* Removes the names of objects of a session that goes on, but for those with these inodes (which are sorted here). ret
 * count removed. */
int slc__object_sweep_session(const uint8_t session[16], ino_t *inodes, size_t count);
void slc__object_session_unlock(const uint8_t session[16], int fd);

/* A second descriptor of the same object without write permission. */
int slc__object_reopen_read_only(int fd, int *ret_fd);

struct slc__mapping {
  void *base;
  uint64_t size;
};

/* Checks a received descriptor, before touching the memory, in this order: seals (memfd); access mode, no O_PATH;
 * regular file of exactly `size` bytes, no name (memfd), owner (shm and huge pages: ours or root's; only what is sealed
 * and in small pages is safe from its owner); tmpfs, or hugetlbfs where the channel has huge pages, of the right size.
 * Then maps it whole (MAP_SHARED; PROT by `access`; MADV_DONTFORK for writable ones), prefaults and locks it where
 * `memory` says so, and checks the header: ready, magic, byte order, version, features, kind, size, session.
 * Statuses: SLC_PROTOCOL (not what it should be), SLC_VERSION, SLC_NO_MEMORY (also: may not be locked), SLC_DENIED (to
 * be mapped writable, and sealed against that), SLC_SYSTEM.  The descriptor stays the caller's in every case; the
 * mapping does not need it. */
int slc__object_map(int fd, struct slc__memory memory, enum slc__object_kind kind, uint64_t size,
                    enum slc__access access, const uint8_t session[16], struct slc__mapping *ret);
/* What this process has just made, writable: its descriptor needs no look. */
int slc__object_map_made(int fd, struct slc__memory memory, enum slc__object_kind kind, uint64_t size,
                         const uint8_t session[16], struct slc__mapping *ret);
/* The steps of that: mmap, with the advice that its pages need, and what `memory` wants of the mapping. */
void *slc__object_map_shared(int fd, uint32_t pages, uint64_t offset, uint64_t size, int protection);
int slc__object_settle(void *base, struct slc__memory memory, uint64_t size, enum slc__access access);
void slc__mapping_deinit(struct slc__mapping *m); /* takes an empty one too */

#endif

/* See stored.h.
 *
 * The manager gives names back in one string of an environment, which the kernel limits, and beyond that would not
 * start the service at all: so names are short, the lowest that is free, and there is a limit to how many.
 *
 * Invariants: by_file and by_name have the same; a name is free only when the manager was told to forget what had it.
 * Thread: the loop's. */
#include "store/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "net/seqpacket.h"
#include "store/image.h"

enum {
  NAMES_MAX = 128 * 1024 - 1024, /* MAX_ARG_STRLEN, less what the names of sockets may take */
  DIGIT_BITS = 6,
  DIGITS_MAX = 4,
};
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* ---- names ---- */

/* A log's begins with a dot. */
static size_t name_write(uint32_t name, bool is_log, char text[SLC__STORED_NAME_MAX]) {
  char reversed[DIGITS_MAX + 1];
  size_t count = 0, length = 0;
  do reversed[count++] = digits[name & ((1U << DIGIT_BITS) - 1)];
  while ((name >>= DIGIT_BITS) != 0 && count < DIGITS_MAX);
  if (is_log) text[length++] = '.';
  while (count > 0) text[length++] = reversed[--count];
  text[length] = '\0';
  return length;
}

static bool name_read(const char *text, uint32_t *ret_name, bool *ret_is_log) {
  char again[SLC__STORED_NAME_MAX];
  uint32_t name = 0;
  bool is_log = text[0] == '.';
  const char *digit = text + is_log;
  if (digit[0] == '\0' || strlen(digit) > DIGITS_MAX) return false;
  for (; *digit != '\0'; digit++) {
    const char *found = strchr(digits, *digit);
    if (found == NULL) return false;
    name = name << DIGIT_BITS | (uint32_t)(found - digits);
  }
  name_write(name, is_log, again);
  *ret_name = name;
  *ret_is_log = is_log;
  return strcmp(again, text) == 0;
}

/* With what separates it from the next. */
static size_t name_room(const struct slc__stored *stored) {
  char text[SLC__STORED_NAME_MAX];
  return name_write(stored->name, stored->is_log, text) + 1;
}

/* ---- what is the same ---- */

/* The kernel orders files as it likes, but always in the same way. */
static int compare_fds(int left, int right) {
  long order = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, left, right);
  return order == 1 ? -1 : order == 2 ? 1 : (int)order;
}

static int compare(const void *left, const void *right) {
  const struct slc__stored *a = left, *b = right;
  return compare_fds(a->fd, b->fd);
}

int slc__stored_init(struct slc__stored_table *table) {
  *table = (struct slc__stored_table){0};
  TAILQ_INIT(&table->loose);
  if (compare_fds(STDERR_FILENO, STDERR_FILENO) >= 0 || errno == EBADF) return SLC_OK;
  return slc__fail(SLC_SYSTEM,
                   "cannot compare descriptors (kcmp: %s), which storing them takes: keep the state in a "
                   "slotcast-shadow",
                   strerror(errno));
}

/* ---- the table ---- */

static bool make_room(struct slc__stored_table *table, size_t name) {
  if (name < table->room) return true;
  size_t room = table->room == 0 ? 64 : table->room;
  while (room <= name) room *= 2;
  struct slc__stored **grown = reallocarray(table->by_name, room, sizeof(struct slc__stored *));
  if (grown == NULL) return false;
  memset(grown + table->room, 0, (room - table->room) * sizeof(struct slc__stored *));
  table->by_name = grown;
  table->room = room;
  return true;
}

/* Takes `fd` over. */
static struct slc__stored *insert(struct slc__stored_table *table, uint32_t name, bool is_log, int fd) {
  struct slc__stored *stored = make_room(table, name) ? calloc(1, sizeof *stored) : NULL;
  if (stored == NULL) return NULL;
  stored->fd = fd;
  stored->name = name;
  stored->is_log = is_log;
  if (tsearch(stored, &table->by_file, compare) == NULL) {
    free(stored);
    return NULL;
  }
  table->by_name[name] = stored;
  table->count++;
  table->names_size += name_room(stored);
  TAILQ_INSERT_TAIL(&table->loose, stored, link);
  return stored;
}

/* The manager does not have it any more; it is loose. */
static void forget(struct slc__stored_table *table, struct slc__stored *stored) {
  tdelete(stored, &table->by_file, compare);
  TAILQ_REMOVE(&table->loose, stored, link);
  table->by_name[stored->name] = NULL;
  if (stored->name < table->first_free) table->first_free = stored->name;
  table->count--;
  table->names_size -= name_room(stored);
  slc__fd_close(&stored->fd);
  free(stored);
}

void slc__stored_deinit(struct slc__stored_table *table) {
  for (size_t i = 0; i < table->room; i++) {
    struct slc__stored *stored = table->by_name[i];
    if (stored == NULL) continue;
    if (stored->references > 0) TAILQ_INSERT_TAIL(&table->loose, stored, link);
    forget(table, stored);
  }
  free(table->by_name);
  table->by_name = NULL;
  table->room = 0;
}

struct slc__stored *slc__stored_find(const struct slc__stored_table *table, uint32_t name) {
  return name < table->room ? table->by_name[name] : NULL;
}

int slc__stored_adopt(struct slc__stored_table *table, const char *name, int fd) {
  uint32_t number;
  bool is_log;
  struct slc__stored wanted = {.fd = fd};
  if (!name_read(name, &number, &is_log) || slc__stored_find(table, number) != NULL ||
      tfind(&wanted, &table->by_file, compare) != NULL)
    return slc__fail(SLC_INVALID, "the manager has a descriptor \"%s\" that is not one of ours", name);
  if (insert(table, number, is_log, fd) == NULL)
    return slc__fail(SLC_NO_MEMORY, "no memory to take %zu descriptors from the manager", table->count + 1);
  return SLC_OK;
}

/* ---- to the manager ---- */

static int check_room(struct slc__stored_table *table) {
  const char *max = getenv("FDSTORE"); /* systemd 254 says what FileDescriptorStoreMax= is */
  if (table->names_size + DIGITS_MAX + 2 > NAMES_MAX || (max != NULL && table->count >= strtoull(max, NULL, 10)))
    return slc__fail(SLC_LIMIT,
                     "the service manager can't keep more than the %zu descriptors that it has (%s): keep the "
                     "state in a slotcast-shadow",
                     table->count,
                     max != NULL ? "FileDescriptorStoreMax=" : "it could not start the service with their names");
  if (table->names_size > NAMES_MAX / 4 * 3 && !table->is_filling) {
    slc__log(SLC__LOG_WARNING, "the service manager keeps %zu descriptors for the broker, of about %zu that it can",
             table->count, table->count * NAMES_MAX / table->names_size);
    table->is_filling = true;
  }
  return SLC_OK;
}

static uint32_t free_name(struct slc__stored_table *table) {
  while (slc__stored_find(table, (uint32_t)table->first_free) != NULL) table->first_free++;
  return (uint32_t)table->first_free;
}

static int send_one(struct slc__notify *notify, uint32_t name, bool is_log, int fd) {
  char text[64], name_text[SLC__STORED_NAME_MAX];
  name_write(name, is_log, name_text);
  /* Not watched by the manager: a pidfd is readable when its process has ended, and would be thrown away just then. */
  snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name_text);
  return slc__notify_send(notify, text, fd);
}

int slc__stored_send(struct slc__stored_table *table, struct slc__notify *notify, int fd, bool is_log,
                     struct slc__stored **ret_stored, bool *ret_sent) {
  struct slc__stored wanted = {.fd = fd};
  struct slc__stored *const *found = tfind(&wanted, &table->by_file, compare);
  if (found != NULL) {
    *ret_stored = *found;
    *ret_sent = false;
    return SLC_OK;
  }
  int status = check_room(table);
  if (status != SLC_OK) return status;
  uint32_t name = free_name(table);
  SLC__CLEANUP_FD int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return slc__fail(slc__status_of_errno(errno), "cannot store a descriptor: %s", strerror(errno));
  struct slc__stored *stored = insert(table, name, is_log, copy);
  if (stored == NULL) return slc__fail(SLC_NO_MEMORY, "no memory to store a descriptor");
  slc__fd_take(&copy);
  status = send_one(notify, name, is_log, fd);
  if (status != SLC_OK) {
    forget(table, stored);
    return status;
  }
  *ret_stored = stored;
  *ret_sent = true;
  return SLC_OK;
}

int slc__stored_list(const struct slc__stored_table *table, struct slc__image *image) {
  char name[SLC__STORED_NAME_MAX];
  int status = SLC_OK;
  for (size_t i = 0; status == SLC_OK && i < table->room; i++) {
    const struct slc__stored *stored = table->by_name[i];
    if (stored == NULL) continue;
    name_write(stored->name, stored->is_log, name);
    status = slc__image_add_stored(image, name, stored->fd);
  }
  return status;
}

void slc__stored_ref(struct slc__stored_table *table, struct slc__stored *stored) {
  if (stored->references++ > 0) return;
  TAILQ_REMOVE(&table->loose, stored, link);
  stored->until = 0;
  stored->is_retired = false;
}

void slc__stored_unref(struct slc__stored_table *table, struct slc__stored *stored) {
  if (--stored->references == 0) TAILQ_INSERT_TAIL(&table->loose, stored, link);
}

void slc__stored_retire(struct slc__stored_table *table, struct slc__stored *stored) {
  if (stored->references == 0) TAILQ_REMOVE(&table->loose, stored, link);
  stored->references = 0;
  stored->is_retired = true;
  TAILQ_INSERT_HEAD(&table->loose, stored, link);
}

void slc__stored_retire_all(struct slc__stored_table *table) {
  for (size_t i = 0; i < table->room; i++) {
    if (table->by_name[i] != NULL) slc__stored_retire(table, table->by_name[i]);
  }
}

static bool is_due(const struct slc__stored *stored, uint64_t commit) {
  return stored->is_retired || (stored->until != 0 && stored->until <= commit);
}

void slc__stored_mark(struct slc__stored_table *table, uint64_t commit) {
  struct slc__stored *stored;
  TAILQ_FOREACH_REVERSE(stored, &table->loose, slc__stored_list, link) {
    if (stored->until != 0 || stored->is_retired) return; /* and so are all before it */
    stored->until = commit;
  }
}

int slc__stored_release(struct slc__stored_table *table, struct slc__notify *notify, uint64_t commit) {
  struct slc__stored *stored;
  while ((stored = TAILQ_FIRST(&table->loose)) != NULL && is_due(stored, commit)) {
    char text[64], name[SLC__STORED_NAME_MAX];
    name_write(stored->name, stored->is_log, name);
    snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", name);
    int status = slc__notify_send(notify, text, -1);
    if (status != SLC_OK) return status;
    forget(table, stored);
  }
  return SLC_OK;
}

/* See manager.h.  Single-threaded.
 *
 * The service dies with the test program (PR_SET_PDEATHSIG); a process that it started itself, and handed over to, is
 * this program's child then (PR_SET_CHILD_SUBREAPER), as it would be systemd's. */
#include "support/manager.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"

enum { FIRST_FD = 3, FDS_MAX = 253 };

static void check(bool is_good, const char *what) {
  if (is_good) return;
  print_error("the stand-in manager: %s: %s\n", what, strerror(errno));
  fail();
}

/* ---- its sockets ------------------------------------------------------------------------------------------------ */

static int bound_socket(int type, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
  check(fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0, path);
  return fd;
}

void test_manager_init(struct test_manager *manager, bool is_listening) {
  *manager = (struct test_manager){.is_listening = is_listening, .store_max = 1 << 20, .listen_fd = -1};
  test_watchdog(TEST_WATCHDOG_SECONDS);
  test_leaks_note(&manager->leaks);
  snprintf(manager->directory, sizeof manager->directory, "/tmp/slotcast-test-XXXXXX");
  check(mkdtemp(manager->directory) != NULL, "mkdtemp");
  snprintf(manager->socket, sizeof manager->socket, "%s/broker.sock", manager->directory);
  snprintf(manager->notify_path, sizeof manager->notify_path, "%s/notify", manager->directory);
  setenv("SLOTCAST_SOCKET", manager->socket, 1);
  manager->notify_fd = bound_socket(SOCK_DGRAM, manager->notify_path);
  int on = 1;
  check(setsockopt(manager->notify_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0, "SO_PASSCRED");
  if (is_listening) {
    manager->listen_fd = bound_socket(SOCK_SEQPACKET, manager->socket);
    check(listen(manager->listen_fd, SOMAXCONN) == 0, "listen");
  }
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}

/* ---- the service ------------------------------------------------------------------------------------------------ */

/* Descriptors 3, 4 .. are those; first all of them go where none of these numbers is. */
static int place_fds(const struct test_manager *manager, char *names, size_t names_size) {
  int count = manager->stored_count + (manager->is_listening ? 1 : 0), place = 0;
  int *high = calloc((size_t)count + 1, sizeof *high);
  size_t length = 0;
  if (high == NULL) _exit(TEST_STATUS_GAVE_UP);
  for (int i = 0; i < manager->stored_count + 1; i++) {
    bool is_socket = i == manager->stored_count;
    if (is_socket && !manager->is_listening) break;
    high[i] = fcntl(is_socket ? manager->listen_fd : manager->stored[i].fd, F_DUPFD_CLOEXEC, FIRST_FD + count);
    if (high[i] < 0) _exit(TEST_STATUS_GAVE_UP);
    length += (size_t)snprintf(names + length, names_size - length, "%s%s", i > 0 ? ":" : "",
                               is_socket ? "slotcastd.socket" : manager->stored[i].name);
    if (length >= names_size) _exit(TEST_STATUS_GAVE_UP);
  }
  for (; place < count; place++) {
    if (dup2(high[place], FIRST_FD + place) < 0) _exit(TEST_STATUS_GAVE_UP);
  }
  free(high);
  return count;
}

static void set_number(const char *name, uint64_t value) {
  char text[32];
  snprintf(text, sizeof text, "%llu", (unsigned long long)value);
  setenv(name, text, 1);
}

static _Noreturn void become(const struct test_manager *manager, pid_t parent) {
  static char names[128 * 1024];
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  setenv("NOTIFY_SOCKET", manager->notify_path, 1);
  if (manager->watchdog_usec > 0) {
    set_number("WATCHDOG_USEC", manager->watchdog_usec);
    set_number("WATCHDOG_PID", (uint64_t)getpid());
  }
  int count = place_fds(manager, names, sizeof names);
  if (count > 0) {
    set_number("LISTEN_FDS", (uint64_t)count);
    set_number("LISTEN_PID", (uint64_t)getpid());
    if (setenv("LISTEN_FDNAMES", names, 1) != 0) _exit(TEST_STATUS_GAVE_UP);
  }
  const char *program = manager->program != NULL ? manager->program : test_program("slotcastd");
  const char *arguments[TEST_MANAGER_ARGUMENTS] = {program, "--backend", test_backend()};
  int at = manager->program != NULL ? 1 : 3;
  for (int i = 0; manager->options != NULL && manager->options[i] != NULL && at + 1 < TEST_MANAGER_ARGUMENTS;)
    arguments[at++] = manager->options[i++];
  arguments[at] = NULL;
  execv(program, (char *const *)(uintptr_t)arguments);
  _exit(127);
}

void test_manager_start(struct test_manager *manager) {
  pid_t self = getpid();
  manager->pid = fork();
  check(manager->pid >= 0, "fork");
  if (manager->pid == 0) become(manager, self);
}

/* ---- what it stores --------------------------------------------------------------------------------------------- */

static bool find_line(const char *text, const char *line) {
  size_t length = strlen(line);
  for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
    if (*at == '\n') at++;
    if (strncmp(at, line, length) == 0 && (at[length] == '\n' || at[length] == '\0')) return true;
  }
  return false;
}

/* What follows "KEY=". */
static bool value_of(const char *text, const char *key, char *value, size_t size) {
  size_t length = strlen(key);
  for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
    if (*at == '\n') at++;
    if (strncmp(at, key, length) != 0 || at[length] != '=') continue;
    snprintf(value, size, "%.*s", (int)strcspn(at + length + 1, "\n"), at + length + 1);
    return true;
  }
  return false;
}

/* One that is there already is not stored again, whatever it is called. */
static bool is_stored(const struct test_manager *manager, int fd, ino_t inode) {
  for (int i = 0; i < manager->stored_count; i++) {
    if (manager->stored[i].inode != inode) continue;
    if (syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, manager->stored[i].fd, fd) == 0) return true;
  }
  return false;
}

static void store(struct test_manager *manager, int fd, const char *name) {
  struct stat info = {.st_ino = 0};
  fstat(fd, &info);
  if (manager->stored_count >= manager->store_max || is_stored(manager, fd, info.st_ino)) {
    manager->refused++;
    close(fd);
    return;
  }
  struct test_stored *grown = realloc(manager->stored, ((size_t)manager->stored_count + 1) * sizeof *grown);
  if (grown == NULL) {
    close(fd);
    check(false, "memory");
    return;
  }
  manager->stored = grown;
  struct test_stored *stored = &grown[manager->stored_count++];
  stored->fd = fd;
  stored->inode = info.st_ino;
  snprintf(stored->name, sizeof stored->name, "%s", name);
}

static void store_remove(struct test_manager *manager, const char *name) {
  int kept = 0;
  for (int i = 0; i < manager->stored_count; i++) {
    if (strcmp(manager->stored[i].name, name) == 0) {
      close(manager->stored[i].fd);
    } else {
      manager->stored[kept++] = manager->stored[i];
    }
  }
  manager->stored_count = kept;
}

void test_manager_forget(struct test_manager *manager) {
  while (manager->stored_count > 0) close(manager->stored[--manager->stored_count].fd);
  free(manager->stored);
  manager->stored = NULL;
}

/* ---- what it hears ---------------------------------------------------------------------------------------------- */

struct heard {
  pid_t sender;
  int fds[FDS_MAX];
  int fd_count;
};

static void take_control(struct msghdr *message, struct heard *heard) {
  for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h != NULL; h = CMSG_NXTHDR(message, h)) {
    if (h->cmsg_type == SCM_CREDENTIALS) {
      struct ucred credentials;
      memcpy(&credentials, CMSG_DATA(h), sizeof credentials);
      heard->sender = credentials.pid;
    } else if (h->cmsg_type == SCM_RIGHTS) {
      heard->fd_count = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
      memcpy(heard->fds, CMSG_DATA(h), (size_t)heard->fd_count * sizeof(int));
    }
  }
}

/* False: there is none.  A message's text is manager->text. */
static bool hear(struct test_manager *manager, struct heard *heard) {
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
  } control;
  struct iovec part = {.iov_base = manager->text, .iov_len = sizeof manager->text - 1};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  *heard = (struct heard){0};
  ssize_t size = recvmsg(manager->notify_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return false;
  check((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0, "a message is too long");
  manager->text[size] = '\0';
  take_control(&message, heard);
  return true;
}

static void close_fds(struct heard *heard) {
  while (heard->fd_count > 0) close(heard->fds[--heard->fd_count]);
}

static void handle(struct test_manager *manager, struct heard *heard) {
  char value[256];
  if (find_line(manager->text, "BARRIER=1")) { /* systemd answers anybody: it closes the descriptor */
    check(heard->fd_count == 1 && strcmp(manager->text, "BARRIER=1") == 0,
          "a barrier comes alone, with one descriptor");
    close_fds(heard);
    return;
  }
  if (heard->sender != manager->pid) {
    manager->refused++;
    manager->text[0] = '\0';
    close_fds(heard);
    return;
  }
  if (find_line(manager->text, "FDSTOREREMOVE=1")) {
    check(value_of(manager->text, "FDNAME", value, sizeof value), "a removal without a name");
    store_remove(manager, value);
  } else if (find_line(manager->text, "FDSTORE=1")) {
    bool is_named = value_of(manager->text, "FDNAME", value, sizeof value);
    for (int i = 0; i < heard->fd_count; i++) store(manager, heard->fds[i], is_named ? value : "stored");
    heard->fd_count = 0;
  }
  if (value_of(manager->text, "MAINPID", value, sizeof value)) manager->pid = (pid_t)strtol(value, NULL, 10);
  close_fds(heard);
}

/* False: there is none now. */
static bool take_one(struct test_manager *manager) {
  struct heard heard;
  if (!hear(manager, &heard)) return false;
  handle(manager, &heard);
  return true;
}

void test_manager_drain(struct test_manager *manager) {
  while (take_one(manager)) {
  }
}

bool test_manager_heard(const struct test_manager *manager, const char *line) {
  return find_line(manager->text, line);
}

void test_manager_ignore(struct test_manager *manager) {
  struct heard heard;
  while (hear(manager, &heard)) close_fds(&heard);
}

/* Until something was said, or the main process ended: then false. */
static bool wait_for_word(const struct test_manager *manager) {
  int pidfd = (int)syscall(SYS_pidfd_open, manager->pid, 0);
  check(pidfd >= 0, "pidfd_open");
  struct pollfd fds[] = {{.fd = manager->notify_fd, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
  int ready;
  do ready = poll(fds, 2, -1);
  while (ready < 0 && errno == EINTR);
  close(pidfd);
  return fds[0].revents != 0;
}

bool test_manager_take(struct test_manager *manager) {
  if (!wait_for_word(manager)) return false;
  check(take_one(manager), "a message went away");
  return true;
}

void test_manager_await(struct test_manager *manager, const char *line) {
  do check(test_manager_take(manager), "the service has ended");
  while (!find_line(manager->text, line));
}

int test_manager_await_end(struct test_manager *manager) {
  int status;
  while (wait_for_word(manager)) test_manager_drain(manager);
  check(waitpid(manager->pid, &status, 0) == manager->pid, "waitpid");
  manager->pid = 0;
  return status;
}

static void *attend(void *ctx) {
  struct test_manager *manager = ctx;
  struct pollfd fds[] = {{.fd = manager->notify_fd, .events = POLLIN},
                         {.fd = manager->attendant_end, .events = POLLIN}};
  while (fds[1].revents == 0) {
    if (poll(fds, 2, -1) > 0 && fds[0].revents != 0) test_manager_drain(manager);
  }
  return NULL;
}

void test_manager_attend(struct test_manager *manager) {
  manager->attendant_end = eventfd(0, EFD_CLOEXEC);
  check(manager->attendant_end >= 0, "eventfd");
  check(pthread_create(&manager->attendant, NULL, attend, manager) == 0, "pthread_create");
}

void test_manager_attend_end(struct test_manager *manager) {
  uint64_t one = 1;
  check(write(manager->attendant_end, &one, sizeof one) == (ssize_t)sizeof one, "eventfd");
  pthread_join(manager->attendant, NULL);
  close(manager->attendant_end);
}

bool test_manager_upgrade(struct test_manager *manager) {
  pid_t before = manager->pid;
  int status = 0;
  kill(before, SIGUSR2);
  test_manager_await(manager, "RELOADING=1");
  test_manager_await(manager, "READY=1");
  if (manager->pid == before) return false;
  check(waitpid(before, &status, 0) == before && status == 0, "the old one's end");
  return true;
}

/* ---- its end ---------------------------------------------------------------------------------------------------- */

void test_manager_kill(struct test_manager *manager) {
  kill(manager->pid, SIGKILL);
  check(waitpid(manager->pid, NULL, 0) == manager->pid, "waitpid");
  test_manager_drain(manager);
  manager->pid = 0;
}

int test_manager_stop(struct test_manager *manager) {
  kill(manager->pid, SIGTERM);
  return test_manager_await_end(manager);
}

int test_manager_finish(struct test_manager *manager) {
  int faults = manager->pid > 0 && test_manager_stop(manager) != 0;
  test_manager_drain(manager);
  test_manager_forget(manager);
  close(manager->notify_fd);
  unlink(manager->notify_path);
  if (manager->is_listening) {
    close(manager->listen_fd);
    unlink(manager->socket);
  }
  if (rmdir(manager->directory) != 0) {
    print_error("the service left files in %s: %s\n", manager->directory, strerror(errno));
    faults++;
  }
  faults += test_leaks_check(&manager->leaks);
  unsetenv("SLOTCAST_SOCKET");
  test_watchdog(0);
  return faults;
}

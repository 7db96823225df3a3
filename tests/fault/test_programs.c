/* slotcastd, slotcast-shadow and the commands of slotcast, from their first call to their last, with every call failing
 * in turn.
 *
 * A program that fails ends with a status of its own and a sentence on stderr, and leaves no file; one that ends with 0
 * has done all that it should.  The next one does, whatever happened to the one before.
 *
 *   test_faults_programs                 a sample
 *   test_faults_programs --all [TEST]    every call with every error, in one test or all
 *
 * Single-threaded.  Runs itself again with preload.c's object in LD_PRELOAD. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/plan.h"
#include "fault/watched.h"
#include "net/seqpacket.h"
#include "proto/codec.h"
#include "support/check.h"

#define KEPT_CHANNEL "fault/kept" /* has what `sub` receives */
#define SENT_CHANNEL "fault/sent" /* what `pub` sends is received from it */

enum {
  ARGUMENTS_MAX = 12,
  TEXT_MAX = 16384,
  KEPT_MESSAGES = 5,
  SENT_BYTES = 2000 /* in fewer messages than a channel has slots */
};

/* ---- a program, and what it said -------------------------------------------------------------------------------- */

struct run {
  const char *arguments[ARGUMENTS_MAX]; /* the first names the program */
  const char *directory;                /* its XDG_RUNTIME_DIR */
  int out, err;                         /* where it writes: memfds */
};

struct outcome {
  int status; /* as wait gives it */
  char out[TEXT_MAX], err[TEXT_MAX];
};

static int text_open(void) {
  int fd = memfd_create("text", MFD_CLOEXEC);
  assert_true(fd >= 0);
  return fd;
}

static void text_take(int fd, char text[TEXT_MAX]) {
  ssize_t size = pread(fd, text, TEXT_MAX - 1, 0);
  text[size > 0 ? size : 0] = '\0';
  lseek(fd, 0, SEEK_SET);
  assert_int_equal(ftruncate(fd, 0), 0);
}

/* The target's calls are counted from exec on. */
static _Noreturn void become(const struct run *run, struct fault_target *target) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setenv("XDG_RUNTIME_DIR", run->directory, 1);
  if (dup2(run->out, STDOUT_FILENO) < 0 || dup2(run->err, STDERR_FILENO) < 0) _exit(TEST_STATUS_GAVE_UP);
  const char *program = test_program(run->arguments[0]);
  atomic_store(&target->pid, getpid());
  execv(program, (char *const *)(uintptr_t)run->arguments);
  _exit(TEST_STATUS_GAVE_UP);
}

static pid_t start(const struct run *run, struct fault_target *target, const struct fault_plan *plan) {
  fault_arm(target, plan);
  pid_t pid = fork();
  if (pid == 0) become(run, target);
  assert_true(pid > 0);
  return pid;
}

static int await(pid_t pid, struct fault_target *target) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  fault_disarm(target);
  atomic_store(&target->pid, 0);
  return status;
}

static void run_to_end(const struct run *run, const struct fault_plan *plan, struct outcome *ret_outcome) {
  struct fault_target *target = &fault_page->client;
  ret_outcome->status = await(start(run, target, plan), target);
  text_take(run->out, ret_outcome->out);
  text_take(run->err, ret_outcome->err);
}

static int count_files(const char *path, bool remove) {
  DIR *directory = opendir(path);
  assert_non_null(directory);
  int count = 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    if (remove) unlinkat(dirfd(directory), entry->d_name, entry->d_type == DT_DIR ? AT_REMOVEDIR : 0);
    count++;
  }
  closedir(directory);
  return count;
}

/* ---- slotcast --------------------------------------------------------------------------------------------------- */

struct stage {
  struct watched watched;
  slc_client *client; /* of the handles */
  slc_publisher *kept;
  slc_subscriber *sent;
  char runtime[64], input[96];
  char input_text[SENT_BYTES + 1];
  struct run run;
  struct outcome expected, outcome;
  char received[TEXT_MAX];
};

/* What has come over the channel that `pub` sends to. */
static void receive_sent(struct stage *stage) {
  size_t size = 0;
  slc_message message;
  while (slc_subscriber_take(stage->sent, &message) == 0) {
    assert_true(size + message.size < TEXT_MAX);
    memcpy(stage->received + size, message.data, message.size);
    size += message.size;
    slc_subscriber_release(stage->sent, &message);
  }
  stage->received[size] = '\0';
}

static bool is_pub(const struct stage *stage) {
  return strcmp(stage->run.arguments[1], "pub") == 0;
}

static int fault(const char *what) {
  fprintf(stderr, "%s\n", what);
  return 1;
}

/* All of its work, or a failure that is told; never half of it as if it were all. */
static int outcome_check(const struct stage *stage, bool must_work) {
  const struct outcome *outcome = &stage->outcome;
  if (!WIFEXITED(outcome->status)) return fault("it was ended by a signal");
  if (strstr(outcome->err, "Sanitizer") != NULL) return fault("a sanitizer found something");
  bool sent_all = !is_pub(stage) || strcmp(stage->received, stage->input_text) == 0;
  if (is_pub(stage) && strncmp(stage->received, stage->input_text, strlen(stage->received)) != 0)
    return fault("it sent something else");
  if (WEXITSTATUS(outcome->status) == 0) {
    if (strcmp(outcome->out, stage->expected.out) != 0)
      return fault("it says that it has worked, and has written less");
    return sent_all ? 0 : fault("it says that it has worked, and has sent less");
  }
  if (must_work) return fault("it should have worked");
  if (WEXITSTATUS(outcome->status) == 2) return fault("it says that it was used wrongly");
  return strstr(outcome->err, "slotcast: ") != NULL ? 0 : fault("it failed without a word");
}

static int stage_run(struct stage *stage, const struct fault_plan *plan) {
  run_to_end(&stage->run, plan, &stage->outcome);
  receive_sent(stage);
  bool fired = atomic_load(&fault_page->client.fired) > 0;
  int faults = outcome_check(stage, !fired || fault_is_harmless(plan));
  if (count_files(stage->runtime, true) > 0) faults += fault("it left files");
  return faults + watched_alive(&stage->watched);
}

static bool command_step(void *ctx, const struct fault_plan *plan) {
  struct stage *stage = ctx;
  int faults = stage_run(stage, plan);
  bool fired = atomic_load(&fault_page->client.fired) > 0;
  if (faults != 0) {
    fprintf(stderr, "wait status %#x, it wrote:\n%s%s", (unsigned)stage->outcome.status, stage->outcome.out,
            stage->outcome.err);
    fault_tell(stage->run.arguments[1], &fault_page->client, plan);
  }
  assert_int_equal(faults, 0);
  return fired;
}

static void step_command(struct stage *stage, const char *const arguments[]) {
  for (int i = 0; arguments[i] != NULL; i++) stage->run.arguments[i] = arguments[i];
  run_to_end(&stage->run, NULL, &stage->expected);
  stage->outcome = stage->expected;
  receive_sent(stage);
  assert_int_equal(outcome_check(stage, true), 0);
  fault_step_allocations(stage, command_step, 10);
  fault_step_calls(stage, command_step, 10);
  assert_int_equal(stage_run(stage, NULL), 0);
  assert_int_equal(watched_forget_others(&stage->watched), 0);
}

static void test_ls(void **state) {
  step_command(*state, (const char *const[]){"slotcast", "ls", "--json", NULL});
}

static void test_info(void **state) {
  step_command(*state, (const char *const[]){"slotcast", "info", KEPT_CHANNEL, "--interval", "0", "--json", NULL});
}

static void test_info_words(void **state) {
  step_command(*state, (const char *const[]){"slotcast", "info", KEPT_CHANNEL, "--interval", "0", NULL});
}

static void test_create(void **state) {
  step_command(*state, (const char *const[]){"slotcast", "create", KEPT_CHANNEL, "--slots", "16", NULL});
}

static void test_rm(void **state) {
  step_command(*state, (const char *const[]){"slotcast", "rm", KEPT_CHANNEL, "--force", NULL});
}

static void test_events(void **state) {
  step_command(*state,
               (const char *const[]){"slotcast", "events", "--json", "--channel", KEPT_CHANNEL, "--count", "2", NULL});
}

static void test_sub(void **state) {
  step_command(*state,
               (const char *const[]){"slotcast", "sub", KEPT_CHANNEL, "--from", "oldest", "--count", "5", NULL});
}

static void test_pub_lines(void **state) {
  struct stage *stage = *state;
  step_command(stage, (const char *const[]){"slotcast", "pub", SENT_CHANNEL, "--lines", stage->input, NULL});
}

static void test_pub_frames(void **state) {
  struct stage *stage = *state;
  step_command(stage, (const char *const[]){"slotcast", "pub", SENT_CHANNEL, "--frame", "100", stage->input, NULL});
}

static void test_run(void **state) {
  char program[512];
  snprintf(program, sizeof program, "%s", test_program("slotcast"));
  step_command(*state, (const char *const[]){"slotcast", "run", "--backend", test_backend(), "--", program, "ls",
                                             "--json", NULL});
}

/* ---- the stage -------------------------------------------------------------------------------------------------- */

static void input_make(struct stage *stage) {
  memset(stage->input_text, 'x', SENT_BYTES);
  for (int i = 70; i < SENT_BYTES; i += 71) stage->input_text[i] = '\n';
  snprintf(stage->input, sizeof stage->input, "%s/input", stage->watched.broker.directory);
  FILE *file = fopen(stage->input, "we");
  assert_non_null(file);
  assert_true(fputs(stage->input_text, file) >= 0 && fclose(file) == 0);
}

static void channels_make(struct stage *stage) {
  slc_publisher_options options = SLC_PUBLISHER_OPTIONS_INIT;
  options.slots = 16;
  check_ok(slc_client_open(NULL, &stage->client));
  check_ok(slc_publisher_open(stage->client, KEPT_CHANNEL, &options, &stage->kept));
  for (int i = 0; i < KEPT_MESSAGES; i++) check_ok(slc_publisher_send(stage->kept, "kept\n", 5, NULL));
  check_ok(slc_subscriber_open(stage->client, SENT_CHANNEL, NULL, &stage->sent));
  stage->watched.channels = 2;
}

static int stage_setup(void **state) {
  struct stage *stage = calloc(1, sizeof *stage);
  if (stage == NULL) return -1;
  *state = stage;
  watched_start(&stage->watched);
  snprintf(stage->runtime, sizeof stage->runtime, "/tmp/slotcast-faults-XXXXXX");
  assert_non_null(mkdtemp(stage->runtime));
  stage->run = (struct run){.directory = stage->runtime, .out = text_open(), .err = text_open()};
  input_make(stage);
  channels_make(stage);
  return 0;
}

static int stage_teardown(void **state) {
  struct stage *stage = *state;
  slc_publisher_close(stage->kept);
  slc_subscriber_close(stage->sent);
  slc_client_close(stage->client);
  close(stage->run.out);
  close(stage->run.err);
  unlink(stage->input);
  rmdir(stage->runtime);
  int faults = watched_finish(&stage->watched);
  free(stage);
  return faults;
}

/* ---- slotcastd and slotcast-shadow ------------------------------------------------------------------------------ */

struct daemon {
  const char *program;
  bool (*answers)(const char *socket); /* one attempt */
  char directory[64], socket[96];
  struct run run;
  int log; /* what it says, until it ends */
  char text[TEXT_MAX];
  bool shm_is_ours; /* nobody else has files in /dev/shm */
};

static pid_t daemon_start(struct daemon *daemon, struct fault_target *target, const struct fault_plan *plan) {
  int pipe_fds[2];
  assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
  daemon->run.err = pipe_fds[1];
  pid_t pid = start(&daemon->run, target, plan);
  close(pipe_fds[1]);
  daemon->log = pipe_fds[0];
  return pid;
}

/* Until it says so, or says no more. */
static bool daemon_serves(struct daemon *daemon) {
  size_t size = 0;
  do {
    ssize_t more = read(daemon->log, daemon->text + size, sizeof daemon->text - 1 - size);
    if (more <= 0) return false;
    size += (size_t)more;
    daemon->text[size] = '\0';
  } while (strstr(daemon->text, "serving at") == NULL);
  return true;
}

static bool broker_answers(const char *socket) {
  slc_client *client;
  slc_client_options options = SLC_CLIENT_OPTIONS_INIT;
  options.socket = socket;
  if (slc_client_open(&options, &client) != 0) return false;
  slc_client_close(client);
  return true;
}

static bool shadow_say(int fd, Slotcast__ShadowMessage__BodyCase body, void *content, int descriptor) {
  uint8_t bytes[256];
  size_t size;
  Slotcast__ShadowMessage message = SLOTCAST__SHADOW_MESSAGE__INIT;
  message.body_case = body;
  message.hello = content;
  return slc__shadow_encode(&message, bytes, sizeof bytes, &size) == 0 &&
         slc__net_send(fd, bytes, size, &descriptor, descriptor >= 0, 0) == 0;
}

static bool shadow_says(int fd, Slotcast__ShadowMessage__BodyCase body) {
  uint8_t bytes[1024];
  size_t size;
  struct slc__fds fds;
  Slotcast__ShadowMessage *message = NULL;
  slc__fds_init(&fds);
  bool is_whole = slc__net_receive(fd, bytes, sizeof bytes, &size, &fds, 0) == 0 &&
                  slc__shadow_decode(bytes, size, fds.count, &message) == 0;
  bool is_it = is_whole && message->body_case == body;
  slc__shadow_free(message);
  slc__fds_deinit(&fds);
  return is_it;
}

/* A record with a descriptor goes in, and comes out again. */
static bool shadow_keeps(int fd) {
  Slotcast__ShadowHello hello = SLOTCAST__SHADOW_HELLO__INIT;
  Slotcast__ShadowRecord record = SLOTCAST__SHADOW_RECORD__INIT;
  Slotcast__ShadowCommit commit = SLOTCAST__SHADOW_COMMIT__INIT;
  Slotcast__ShadowLoad load = SLOTCAST__SHADOW_LOAD__INIT;
  uint8_t key[] = "key";
  hello.major = SLC__SHADOW_MAJOR;
  record.key = (ProtobufCBinaryData){.data = key, .len = sizeof key};
  record.descriptors = 1;
  return shadow_say(fd, SLOTCAST__SHADOW_MESSAGE__BODY_HELLO, &hello, -1) &&
         shadow_says(fd, SLOTCAST__SHADOW_MESSAGE__BODY_STATE) &&
         shadow_say(fd, SLOTCAST__SHADOW_MESSAGE__BODY_RECORD, &record, STDERR_FILENO) &&
         shadow_say(fd, SLOTCAST__SHADOW_MESSAGE__BODY_COMMIT, &commit, -1) &&
         shadow_says(fd, SLOTCAST__SHADOW_MESSAGE__BODY_COMMITTED) &&
         shadow_say(fd, SLOTCAST__SHADOW_MESSAGE__BODY_LOAD, &load, -1) &&
         shadow_says(fd, SLOTCAST__SHADOW_MESSAGE__BODY_RECORD) &&
         shadow_says(fd, SLOTCAST__SHADOW_MESSAGE__BODY_LOADED);
}

static bool shadow_answers(const char *socket) {
  int fd;
  if (slc__net_connect(socket, -1, &fd) != 0) return false;
  bool keeps = shadow_keeps(fd);
  close(fd);
  return keeps;
}

/* Whatever failed has failed once: asked again, it answers, unless it has ended. */
static int daemon_ask(const struct daemon *daemon, pid_t pid) {
  siginfo_t info = {0};
  while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0) {
    if (daemon->answers(daemon->socket)) return 0;
  }
  return fault("it ended by itself");
}

static bool says_error(const struct daemon *daemon) {
  char error[64];
  snprintf(error, sizeof error, "%s: error: ", daemon->program);
  return strstr(daemon->text, error) != NULL;
}

static int daemon_live(struct daemon *daemon, const struct fault_plan *plan) {
  struct fault_target *target = &fault_page->broker;
  daemon->text[0] = '\0';
  pid_t pid = daemon_start(daemon, target, plan);
  bool serves = daemon_serves(daemon);
  int faults = serves && (plan == NULL || !plan->stays) ? daemon_ask(daemon, pid) : 0;
  if (serves) kill(pid, SIGTERM);
  int status = await(pid, target);
  close(daemon->log);
  bool fired = atomic_load(&target->fired) > 0;
  if (strstr(daemon->text, "Sanitizer") != NULL) faults += fault("a sanitizer found something");
  if (!WIFEXITED(status)) return faults + fault("it was ended by a signal");
  if (serves) return faults + (WEXITSTATUS(status) == 0 ? 0 : fault("it was asked to end, and failed"));
  if (!fired || fault_is_harmless(plan)) return fault("it should have served");
  if (WEXITSTATUS(status) != 1) return fault("it failed with another status than 1");
  return says_error(daemon) ? 0 : fault("it failed without a word");
}

static int daemon_run(struct daemon *daemon, const struct fault_plan *plan) {
  int faults = daemon_live(daemon, plan);
  if (faults != 0) fprintf(stderr, "it said:\n%s", daemon->text);
  return faults;
}

static int daemon_left(const struct daemon *daemon) {
  return count_files(daemon->directory, false) + (daemon->shm_is_ours ? count_files("/dev/shm", false) : 0);
}

/* It may not unlink what it can't lock or look at. */
static bool may_leave_files(const struct fault_plan *plan) {
  return plan->call == FAULT_unlink || plan->call == FAULT_flock || plan->call == FAULT_fstat ||
         plan->call == FAULT_stat;
}

/* What one has left, its successor sweeps. */
static bool daemon_step(void *ctx, const struct fault_plan *plan) {
  struct daemon *daemon = ctx;
  int faults = daemon_run(daemon, plan);
  bool fired = atomic_load(&fault_page->broker.fired) > 0;
  if (!may_leave_files(plan) && daemon_left(daemon) > 0) faults += fault("it left files");
  faults += daemon_run(daemon, NULL);
  if (daemon_left(daemon) > 0) faults += fault("files are left");
  if (faults != 0) fault_tell(daemon->program, &fault_page->broker, plan);
  assert_int_equal(faults, 0);
  return fired;
}

/* Not in a container that may not mount, or without root: then the names there are other tests', too. */
static bool shm_make_ours(void) {
  return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
         mount("none", "/dev/shm", "tmpfs", 0, NULL) == 0;
}

static void step_daemon(struct daemon *daemon) {
  daemon->run.directory = daemon->directory;
  daemon->run.out = STDERR_FILENO;
  test_watchdog(fault_is_all() ? WATCHDOG_SECONDS_ALL : TEST_WATCHDOG_SECONDS);
  fault_step_allocations(daemon, daemon_step, 10);
  fault_step_calls(daemon, daemon_step, 30);
  assert_int_equal(rmdir(daemon->directory), 0);
}

static void test_slotcastd(void **state) {
  (void)state;
  struct daemon daemon = {.program = "slotcastd",
                          .answers = broker_answers,
                          .directory = "/tmp/slotcast-faults-XXXXXX",
                          .shm_is_ours = shm_make_ours()};
  assert_non_null(mkdtemp(daemon.directory));
  snprintf(daemon.socket, sizeof daemon.socket, "%s/broker.sock", daemon.directory);
  daemon.run = (struct run){
      .arguments = {"slotcastd", "--socket", daemon.socket, "--backend", test_backend(), "--log-target", "stderr"}};
  step_daemon(&daemon);
}

static void test_slotcast_shadow(void **state) {
  (void)state;
  struct daemon daemon = {
      .program = "slotcast-shadow", .answers = shadow_answers, .directory = "/tmp/slotcast-faults-XXXXXX"};
  assert_non_null(mkdtemp(daemon.directory));
  snprintf(daemon.socket, sizeof daemon.socket, "%s/shadow.sock", daemon.directory);
  daemon.run = (struct run){.arguments = {"slotcast-shadow", "--socket", daemon.socket, "--log-target", "stderr"}};
  step_daemon(&daemon);
}

int main(int argc, char **argv) {
  fault_begin(argc, argv);
  if (argc > 2) cmocka_set_test_filter(argv[2]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_ls, stage_setup, stage_teardown),
      cmocka_unit_test_setup_teardown(test_info, stage_setup, stage_teardown),
      cmocka_unit_test_setup_teardown(test_info_words, stage_setup, stage_teardown),
      cmocka_unit_test_setup_teardown(test_create, stage_setup, stage_teardown),
      cmocka_unit_test_setup_teardown(test_rm, stage_setup, stage_teardown),
      cmocka_unit_test_setup_teardown(test_events, stage_setup, stage_teardown),
      cmocka_unit_test_setup_teardown(test_sub, stage_setup, stage_teardown),
      cmocka_unit_test_setup_teardown(test_pub_lines, stage_setup, stage_teardown),
      cmocka_unit_test_setup_teardown(test_pub_frames, stage_setup, stage_teardown),
      cmocka_unit_test_setup_teardown(test_run, stage_setup, stage_teardown),
      cmocka_unit_test(test_slotcastd),
      cmocka_unit_test(test_slotcast_shadow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

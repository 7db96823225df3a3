/* The README's two programs, as real processes: what the one sends the other prints.  And the programs that show one
 * feature each: they print what stands in docs/examples/NAME.txt. */
#include "common.h"

#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t example_start(const char *name, int output) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/example_%s", getenv("SLOTCAST_EXAMPLE_DIR"), name);
  const char *programs = getenv("SLOTCAST_BIN_DIR");
  if (programs != NULL) setenv("PATH", programs, 1); /* where one finds a broker of its own */
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* one that goes on for ever would keep the output of a failed test open */
    if (output >= 0) dup2(output, STDOUT_FILENO);
    execl(path, path, (char *)NULL);
    _exit(127);
  }
  return pid;
}

static int example_end(pid_t pid) {
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return status;
}

/* To the end, as a string that the caller frees. */
static char *read_all(FILE *stream) {
  char *text = NULL;
  size_t room = 0;
  ssize_t length = getdelim(&text, &room, '\0', stream);
  if (length < 0) text[0] = '\0';
  return text;
}

/* A terminal, so that the program's output comes line by line. */
static FILE *terminal_open(int *ret_slave) {
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  assert_true(master >= 0);
  assert_int_equal(grantpt(master), 0);
  assert_int_equal(unlockpt(master), 0);
  *ret_slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  assert_true(*ret_slave >= 0);
  FILE *stream = fdopen(master, "r");
  assert_non_null(stream);
  return stream;
}

static void await_subscriber(slc_client *client) {
  uint32_t subscribers = 0;
  while (subscribers == 0) {
    slc_channel_info *info;
    int status = slc_channel_inspect(client, "demo/greeting", &info);
    if (status == SLC_NOT_FOUND) continue;
    check_ok(status);
    subscribers = info->subscribers;
    slc_channel_info_free(info);
  }
}

static void test_examples_talk(void **state) {
  (void)state;
  slc_client *client = client_open();
  int terminal;
  FILE *output = terminal_open(&terminal);
  pid_t subscriber = example_start("subscriber", terminal);
  await_subscriber(client);
  pid_t publisher = example_start("publisher", -1);
  assert_int_equal(example_end(publisher), 0);
  char line[256], expected[64];
  assert_non_null(fgets(line, sizeof line, output));
  line[strcspn(line, "\r\n")] = '\0';
  snprintf(expected, sizeof expected, "1: hello from %d", (int)publisher);
  assert_string_equal(line, expected);
  kill(subscriber, SIGKILL); /* it goes on for ever */
  assert_true(WIFSIGNALED(example_end(subscriber)));
  close(terminal);
  fclose(output);
  slc_client_close(client);
}

/* Its output to the end, and its exit status. */
static void check_output_of(const char *name, const char *expected) {
  int ends[2];
  assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
  pid_t pid = example_start(name, ends[1]);
  close(ends[1]);
  FILE *output = fdopen(ends[0], "r");
  assert_non_null(output);
  char *printed = read_all(output);
  fclose(output);
  print_message("%s\n", name);
  assert_string_equal(printed, expected);
  assert_int_equal(example_end(pid), 0);
  free(printed);
}

static void test_examples_alone(void **state) {
  (void)state;
  char pattern[PATH_MAX];
  snprintf(pattern, sizeof pattern, "%s/*.txt", getenv("SLOTCAST_EXAMPLE_SOURCES"));
  glob_t found;
  assert_int_equal(glob(pattern, 0, NULL, &found), 0);
  for (size_t i = 0; i < found.gl_pathc; i++) {
    FILE *file = fopen(found.gl_pathv[i], "re");
    assert_non_null(file);
    char *expected = read_all(file);
    fclose(file);
    char *name = strrchr(found.gl_pathv[i], '/') + 1;
    *strrchr(name, '.') = '\0';
    check_output_of(name, expected);
    free(expected);
  }
  globfree(&found);
}

int main(void) {
  const struct CMUnitTest tests[] = {BROKER_TEST(test_examples_talk), BROKER_TEST(test_examples_alone)};
  return cmocka_run_group_tests_name("client_examples", tests, NULL, NULL);
}

/* The README's two programs, as real processes: what the one sends the other prints. */
#include "common.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t example_start(const char *name, int output) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/example_%s", getenv("SLOTCAST_EXAMPLE_DIR"), name);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
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

int main(void) {
  const struct CMUnitTest tests[] = {BROKER_TEST(test_examples_talk)};
  return cmocka_run_group_tests_name("client_examples", tests, NULL, NULL);
}

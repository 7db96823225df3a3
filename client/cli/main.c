/* slotcast: one word chooses the command. */
#include <errno.h>
#include <string.h>

#include "cli.h"

static const struct {
  const char *name;
  command_fn run;
  const char *what;
} commands[] = {
    {"run", command_run, "run a command with a private broker"},
    {"pub", command_pub, "publish a file or standard input"},
    {"sub", command_sub, "receive a channel's messages"},
    {"ls", command_ls, "list the channels"},
    {"info", command_info, "show a channel, its users and slots"},
    {"events", command_events, "tell what happens to channels and their users"},
    {"create", command_create, "create a channel that stays without users"},
    {"rm", command_rm, "remove a channel"},
    {"bench", command_bench, "measure this machine"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *out) {
  fputs("Usage: slotcast COMMAND [ARGUMENT]...\n\nPublish/subscribe between the processes of one machine.\n\n", out);
  for (int i = 0; i < COMMANDS; i++) fprintf(out, "  %-6s %s\n", commands[i].name, commands[i].what);
  fputs("\n  slotcast COMMAND --help says more.  --version prints the version.\n\n"
        "Exit status: 0 done, 1 failed, 2 wrong usage, 3 no broker, 4 no such channel, 130 interrupted;\n"
        "of `slotcast run` the command's own, 128 + N when signal N ended it.\n",
        out);
}

static int choose(int argc, char **argv) {
  if (argc < 2) {
    print_help(stderr);
    return EXIT_USAGE;
  }
  const char *name = argv[1];
  if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
    print_help(stdout);
    return EXIT_OK;
  }
  if (strcmp(name, "--version") == 0) {
    printf("slotcast %s\n", slc_version());
    return EXIT_OK;
  }
  for (int i = 0; i < COMMANDS; i++) {
    if (strcmp(name, commands[i].name) != 0) continue;
    for (int k = 2; k < argc && strcmp(argv[k], "--") != 0; k++) {
      if (strcmp(argv[k], "--version") != 0) continue;
      printf("slotcast %s\n", slc_version());
      return EXIT_OK;
    }
    return commands[i].run(argc - 1, argv + 1);
  }
  return fail(EXIT_USAGE, "there is no command '%s': slotcast --help lists them", name);
}

int main(int argc, char **argv) {
  int code = choose(argc, argv);
  /* A listing that did not reach its file is a failure; what was said already is not said twice. */
  if (fclose(stdout) != 0 && code == EXIT_OK)
    code = fail(EXIT_FAILED, "cannot write to standard output: %s", strerror(errno));
  return code;
}

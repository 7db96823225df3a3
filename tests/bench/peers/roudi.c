/* iox-roudi as a child.  One that runs already keeps ours from starting, and serves as well.  Thread: main. */
#include "roudi.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

static pid_t roudi;

int roudi_start(struct bench *bench) {
  pid_t parent = getpid();
  roudi = fork();
  if (roudi < 0) return fail(EXIT_FAILED, "cannot fork: %s", strerror(errno));
  if (roudi > 0) return EXIT_OK;
  session_become_child(&bench->session, parent);
  setpgid(0, 0); /* a Ctrl-C is for us; it goes when we have gone */
  int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(nowhere, STDOUT_FILENO);
  dup2(nowhere, STDERR_FILENO);
  execl(PEERS_ROUDI, "iox-roudi", "--log-level", "off", "--config-file", PEERS_ROUDI_MEMORY, (char *)NULL);
  _exit(EXIT_FAILED);
}

void roudi_stop(struct bench *bench) {
  (void)bench;
  if (roudi <= 0) return;
  kill(roudi, SIGTERM);
  while (waitpid(roudi, NULL, 0) < 0 && errno == EINTR) {
  }
  roudi = 0;
}

void roudi_tidy(const char *client) {
  char pattern[PATH_MAX];
  glob_t found;
  snprintf(pattern, sizeof pattern, "/tmp/%s*", client);
  if (glob(pattern, 0, NULL, &found) != 0) return;
  for (size_t i = 0; i < found.gl_pathc; i++) unlink(found.gl_pathv[i]);
  globfree(&found);
}

/* iox-roudi as a child.  One that runs already keeps ours from starting, and serves as well.  Thread: main. */
#include "roudi.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
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
  /* Unless it is told not to, it takes a client for dead that has not run for 1.5 s, and its messages go nowhere. */
  execl(PEERS_ROUDI, "iox-roudi", "--monitoring-mode", "off", "--log-level", "off", "--config-file", PEERS_ROUDI_MEMORY,
        (char *)NULL);
  _exit(EXIT_FAILED);
}

static void remove_all(const char *pattern) {
  glob_t found;
  if (glob(pattern, 0, NULL, &found) != 0) return;
  for (size_t i = 0; i < found.gl_pathc; i++) unlink(found.gl_pathv[i]);
  globfree(&found);
}

/* What it made, and what its clients did, who end without their destructors: those fail where iceoryx is used by
 * CycloneDDS.  Its segment has our group's name. */
static void remove_remains(void) {
  static const char *const patterns[] = {"/dev/shm/iceoryx_mgmt",      "/tmp/roudi",        "/tmp/roudi.lock",
                                         "/tmp/iox-unique-roudi.lock", "/tmp/iceoryx_rt_*", "/tmp/slotcast-bench-*-*"};
  char segment[PATH_MAX], names[4096];
  struct group entry, *group = NULL;
  bool is_known = getgrgid_r(getegid(), &entry, names, sizeof names, &group) == 0 && group != NULL;
  for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) remove_all(patterns[i]);
  snprintf(segment, sizeof segment, "/dev/shm/%s", is_known ? group->gr_name : "");
  unlink(segment);
}

/* Asked to end, it would abort over clients that are gone without their destructors, and leave as much behind.  Where
 * it has ended by itself another one serves, whose remains are not ours. */
void roudi_stop(struct bench *bench) {
  int status = 0;
  (void)bench;
  if (roudi <= 0) return;
  kill(roudi, SIGKILL);
  while (waitpid(roudi, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) remove_remains();
  roudi = 0;
}

/* The command line of slotcast-shadow.  Thread: main. */
#ifndef SLC__SHADOW_OPTIONS_H
#define SLC__SHADOW_OPTIONS_H

#include "daemon/daemon.h"
#include "shadow/shadow.h"

struct shadow_command_line {
  struct shadow_options shadow;
  enum slc__log_level log_level;
  enum slc__log_target log_target;
  char socket[512]; /* where shadow.listen.path points when it is a default */
};

enum { SHADOW_RUN = -1 }; /* otherwise the exit code */
int shadow_command_line_parse(int argc, char **argv, struct shadow_command_line *ret);

#endif

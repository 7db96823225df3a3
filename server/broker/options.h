/* The command line of slotcastd.  Thread: main. */
#ifndef SLC__BROKER_OPTIONS_H
#define SLC__BROKER_OPTIONS_H

#include "broker/broker.h"
#include "daemon/daemon.h"

struct command_line {
  struct broker_options broker;
  enum slc__log_level log_level;
  enum slc__log_target log_target;
  char socket[512]; /* where broker.socket points when it is a default */
};

enum { PARSE_RUN = -1 }; /* otherwise the exit code */
int command_line_parse(int argc, char **argv, struct command_line *ret);

#endif

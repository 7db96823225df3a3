/* The command line of slotcastd.  Thread: main. */
#ifndef SLC__BROKER_OPTIONS_H
#define SLC__BROKER_OPTIONS_H

#include "base/log.h"
#include "broker/broker.h"

enum log_target { LOG_TARGET_AUTO, LOG_TARGET_STDERR, LOG_TARGET_JOURNAL };

struct command_line {
  struct broker_options broker;
  enum slc__log_level log_level;
  enum log_target log_target;
  char socket[512]; /* where broker.socket points when it is a default */
};

enum { PARSE_RUN = -1 }; /* otherwise the exit code */
int command_line_parse(int argc, char **argv, struct command_line *ret);

#endif

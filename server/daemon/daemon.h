/* What slotcastd and slotcast-shadow have in common as programs: the log, limits of the process, options.
 * Thread: main, before the loop runs. */
#ifndef SLC__DAEMON_DAEMON_H
#define SLC__DAEMON_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"

enum { SLC__EXIT_USAGE = 2 };

enum slc__log_target { SLC__LOG_TARGET_AUTO, SLC__LOG_TARGET_STDERR, SLC__LOG_TARGET_JOURNAL };

/* `program`: its name at the beginning of lines on stderr; it stays. */
void slc__daemon_log_open(const char *program, enum slc__log_target target, enum slc__log_level level);
/* The soft limit of descriptors becomes the hard one. */
void slc__daemon_raise_descriptor_limit(void);
/* SIGPIPE and SIGXFSZ are failures of calls, not our end. */
void slc__daemon_ignore_signals(void);

/* Options.  Each says what is wrong on stderr and gives SLC__EXIT_USAGE, or 0. */
int slc__daemon_usage_error(const char *program, const char *what, const char *value);
int slc__daemon_take_mode(const char *program, const char *text, mode_t *ret);
int slc__daemon_take_group(const char *program, const char *name, gid_t *ret);
int slc__daemon_take_log_level(const char *program, const char *text, enum slc__log_level *ret);
int slc__daemon_take_log_target(const char *program, const char *text, enum slc__log_target *ret);

/* Digits of that base and nothing else, up to max. */
bool slc__daemon_parse_number(const char *text, int base, uint64_t max, uint64_t *ret);
/* The index in `names`, which end with NULL. */
bool slc__daemon_choose(const char *text, const char *const *names, int *ret);
/* $XDG_RUNTIME_DIR/slotcast/NAME or /run/slotcast/NAME; false: too long. */
bool slc__daemon_runtime_path(const char *name, char *path, size_t size);

#endif

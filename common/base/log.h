/* The library's one way to say something: a callback.  Programs set it (the broker: stderr or journal); without one,
 * nothing is printed.  Thread: the callback is set before other threads start; logging is from any thread. */
#ifndef SLC__BASE_LOG_H
#define SLC__BASE_LOG_H

#include <stdarg.h>

/* The syslog levels that we use. */
enum slc__log_level {
  SLC__LOG_ERROR = 3,
  SLC__LOG_WARNING = 4,
  SLC__LOG_NOTICE = 5,
  SLC__LOG_INFO = 6,
  SLC__LOG_DEBUG = 7
};

typedef void (*slc__log_fn)(void *ctx, enum slc__log_level level, const char *text);

void slc__log_set(slc__log_fn fn, void *ctx, enum slc__log_level max_level);
void slc__log(enum slc__log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

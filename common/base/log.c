/* Logging through a callback.
 *
 * Invariants: without a callback, or above its level, nothing is formatted.  A line is cut rather than allocated.
 * errno is as it was before.  Threads: slc__log_set before others start; slc__log from any. */
#include "base/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

enum { LINE_SIZE = 2048 };

static slc__log_fn sink;
static void *sink_ctx;
static enum slc__log_level sink_level;

void slc__log_set(slc__log_fn fn, void *ctx, enum slc__log_level max_level) {
  sink = fn;
  sink_ctx = ctx;
  sink_level = max_level;
}

void slc__log(enum slc__log_level level, const char *format, ...) {
  if (sink == NULL || level > sink_level) return;
  int saved = errno;
  char text[LINE_SIZE];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  errno = saved;
  if (length >= 0) sink(sink_ctx, level, text);
  errno = saved;
}

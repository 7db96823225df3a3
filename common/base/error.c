/* What went wrong: a status is a number for programs, and beside it each thread keeps one sentence for people.
 *
 * Invariants: the sentence is always terminated, and cut rather than allocated, so that "out of memory" can be said
 * without memory.  errno is as it was before: callers may look at it after having recorded the failure.
 * Threads: any; the sentence is the thread's own. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

enum { DETAIL_SIZE = 1024 };

static _Thread_local struct {
  int status;
  char text[DETAIL_SIZE];
} detail;

const char *slc__status_name(int status) {
  switch (status) {
#define STATUS_NAME(name, value, text)                                                                                 \
  case SLC_##name:                                                                                                     \
    return #name;
    SLC_STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
  default:
    return "?";
  }
}

const char *slc__status_text(int status) {
  switch (status) {
#define STATUS_TEXT(name, value, text)                                                                                 \
  case SLC_##name:                                                                                                     \
    return text;
    SLC_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
  default:
    return "a status that this version does not know";
  }
}

void slc__error_set(int status, const char *format, ...) {
  int saved = errno;
  va_list arguments;
  va_start(arguments, format);
  /* By way of a copy: an argument may be the previous sentence. */
  char text[DETAIL_SIZE];
  if (vsnprintf(text, sizeof(text), format, arguments) < 0) text[0] = '\0';
  va_end(arguments);
  snprintf(detail.text, sizeof(detail.text), "%s", text);
  detail.status = status;
  errno = saved;
}

const char *slc__error_detail(void) {
  return detail.text[0] != '\0' ? detail.text : slc__status_text(detail.status);
}

void slc__error_clear(void) {
  detail.status = SLC_OK;
  detail.text[0] = '\0';
}

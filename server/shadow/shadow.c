/* The shadow as a whole: listens, ends.  Thread: the loop's. */
#include "shadow/shadow.h"

#include <sys/resource.h>

#include "base/log.h"

/* Descriptors that are not for records: connections and their pidfds, the loop's, and room to receive. */
enum { DESCRIPTORS_ASIDE = SLC__NET_DESCRIPTORS_MAX + 4 * LINKS_MAX };

/* More than the process can have must not be promised: a broker that relies on it would wait for ever. */
static void bound_descriptors(struct record_limits *limits) {
  struct rlimit process;
  if (getrlimit(RLIMIT_NOFILE, &process) != 0) return;
  uint64_t room = process.rlim_cur > DESCRIPTORS_ASIDE ? process.rlim_cur - DESCRIPTORS_ASIDE : 0;
  if (limits->descriptors <= room) return;
  if (limits->descriptors != DESCRIPTORS_ALL)
    slc__log(SLC__LOG_WARNING, "at most %llu descriptors can be kept: this process may have %llu open (LimitNOFILE=)",
             (unsigned long long)room, (unsigned long long)process.rlim_cur);
  limits->descriptors = room;
}

static int accepted(void *owner, int fd) {
  return link_open(owner, fd);
}

int shadow_open(struct shadow *shadow, uv_loop_t *loop, const struct shadow_options *options) {
  *shadow = (struct shadow){.loop = loop, .options = *options};
  LIST_INIT(&shadow->links);
  bound_descriptors(&shadow->options.limits);
  records_init(&shadow->records, &shadow->options.limits);
  return slc__listener_open(&shadow->listener, loop, &options->listen, accepted, shadow);
}

void shadow_close(struct shadow *shadow) {
  slc__listener_close(&shadow->listener);
  for (struct link *link = LIST_FIRST(&shadow->links), *next; link != NULL; link = next) {
    next = LIST_NEXT(link, of_shadow);
    link_close(link);
  }
  records_deinit(&shadow->records);
}

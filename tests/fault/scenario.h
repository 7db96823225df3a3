/* One client's life, with everything in it that asks the kernel or the allocator for something. */
#ifndef SLC_TEST_SCENARIO_H
#define SLC_TEST_SCENARIO_H

struct scenario_result {
  int status; /* 0, or the first negative one */
  const char *step;
  char detail[512]; /* the library's sentence for it */
};

/* Opens a client and, on a channel of its own, a subscriber that is there before the first publisher, a publisher and
 * another subscriber, both with readiness descriptors; sends, takes, inspects, closes; then the
 * same in short on a split channel.  Stops at the first failure, and
 * closes what is open.  What is received is checked: a wrong message, a lost wake-up or a failure without a sentence
 * abort the process. */
void scenario_run(struct scenario_result *ret_result);

#endif

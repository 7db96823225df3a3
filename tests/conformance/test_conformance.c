/* The conformance suite: every behaviour of behaviours.h for every kind of channel.  A new kind is one more bit of
 * struct kind and a line in kind_of; it gets every test for free.  The backend comes from outside
 * (SLOTCAST_TEST_BACKEND).
 *
 *   test_conformance [PATTERN]   only tests whose name matches, as cmocka's filters do: "*growth*reliable*" */
#include "behaviours.h"

#include <stdio.h>
#include <string.h>

#include "support/broker.h"

enum { KIND_BITS = 5, KINDS = 1 << KIND_BITS };

struct behaviour {
  const char *name;
  void (*run)(struct world *world);
  enum only only;
};

static const struct behaviour behaviours[] = {
#define BEHAVIOUR_ENTRY(name, only) {#name, name, only},
    BEHAVIOURS(BEHAVIOUR_ENTRY)
#undef BEHAVIOUR_ENTRY
};
enum { BEHAVIOUR_COUNT = sizeof behaviours / sizeof behaviours[0] };

struct trial {
  const struct behaviour *behaviour;
  struct kind kind;
  char name[128];
  struct test_broker broker;
};

static struct trial trials[KINDS * BEHAVIOUR_COUNT];

static struct kind kind_of(unsigned number) {
  return (struct kind){.is_reliable = (number & 1) != 0,
                       .has_many_publishers = (number & 2) != 0,
                       .is_across_processes = (number & 4) != 0,
                       .is_split = (number & 8) != 0,
                       .is_virtual = (number & 16) != 0};
}

static bool is_for(const struct behaviour *behaviour, const struct kind *kind) {
  return behaviour->only == ONLY_ALL || (behaviour->only == ONLY_RELIABLE) == kind->is_reliable;
}

static void trial_name(struct trial *trial) {
  const struct kind *kind = &trial->kind;
  snprintf(trial->name, sizeof trial->name, "%s (%s, %s, %s, %s, %s)", trial->behaviour->name,
           kind->is_reliable ? "reliable" : "unreliable", kind->is_virtual ? "virtual" : "plain",
           kind->is_split ? "split" : "whole", kind->has_many_publishers ? "many publishers" : "one publisher",
           kind->is_across_processes ? "across processes" : "in one process");
}

static int setup(void **state) {
  struct trial *trial = *state;
  test_broker_start(&trial->broker);
  return 0;
}

static int teardown(void **state) {
  struct trial *trial = *state;
  return test_broker_finish(&trial->broker);
}

static void run(void **state) {
  struct trial *trial = *state;
  struct world world;
  world_open(&world, &trial->kind, &trial->broker, trial->behaviour->name);
  trial->behaviour->run(&world);
  world_close(&world);
}

int main(int argc, char **argv) {
  static struct CMUnitTest tests[KINDS * BEHAVIOUR_COUNT];
  size_t count = 0;
  for (size_t b = 0; b < BEHAVIOUR_COUNT; b++) {
    for (unsigned k = 0; k < KINDS; k++) {
      struct trial *trial = &trials[count];
      *trial = (struct trial){.behaviour = &behaviours[b], .kind = kind_of(k)};
      if (!is_for(trial->behaviour, &trial->kind)) continue;
      trial_name(trial);
      tests[count++] = (struct CMUnitTest){.name = trial->name,
                                           .test_func = run,
                                           .setup_func = setup,
                                           .teardown_func = teardown,
                                           .initial_state = trial};
    }
  }
  if (argc > 1) cmocka_set_test_filter(argv[1]);
  return _cmocka_run_group_tests("conformance", tests, count, NULL, NULL);
}

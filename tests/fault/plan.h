/* What can fail and with which errors, and the stepping through all of it. */
#ifndef SLC_TEST_PLAN_H
#define SLC_TEST_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "fault/faults.h"

/* Shared with the children and with preload.c. */
extern struct fault_page *fault_page;

/* First of all in main: the program runs itself again with preload.c's object in LD_PRELOAD; then the page is there.
 * With the argument --all every call fails with every error, otherwise a sample. */
void fault_begin(int argc, char **argv);
bool fault_is_all(void);

/* NULL: its calls are counted from now on, and none fails. */
void fault_arm(struct fault_target *target, const struct fault_plan *plan);
void fault_disarm(struct fault_target *target);
/* Nobody should feel this one: it is tried again. */
bool fault_is_harmless(const struct fault_plan *plan);
/* Which call failed, on stderr. */
void fault_tell(const char *who, const struct fault_target *target, const struct fault_plan *plan);

/* Runs whatever is tested with one call failing, and checks it.  True: there was such a call. */
typedef bool (*fault_step_fn)(void *ctx, const struct fault_plan *plan);
/* Every allocation in turn; then, beginning with each, all that follow.  Fails the test below `least` steps. */
void fault_step_allocations(void *ctx, fault_step_fn step, uint32_t least);
/* The same with every call of the kernel, with each of its errors. */
void fault_step_calls(void *ctx, fault_step_fn step, uint32_t least);

#endif

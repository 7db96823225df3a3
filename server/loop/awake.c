/* While an idle handle is active libuv looks for events and does not wait for them.  It is active for AWAKE_NS after a
 * message, so an idle broker uses no processor, and a loop with other work does it as ever.  Thread: the loop's. */
#include "loop/awake.h"

#include "base/clock.h"
#include "base/processors.h"

#define AWAKE_NS (100 * INT64_C(1000)) /* longer than a client takes from an answer to its next request */

void slc__awake_init(struct slc__awake *awake, uv_loop_t *loop) {
  uv_idle_init(loop, &awake->idle);
  awake->idle.data = awake;
  awake->until = 0;
  awake->helps = slc__processors_are_many();
}

static void on_idle(uv_idle_t *idle) {
  const struct slc__awake *awake = idle->data;
  if (slc__clock_ns() >= awake->until) uv_idle_stop(idle);
}

void slc__awake_stay(struct slc__awake *awake) {
  if (!awake->helps) return;
  awake->until = slc__deadline_after(AWAKE_NS);
  uv_idle_start(&awake->idle, on_idle);
}

void slc__awake_close(struct slc__awake *awake) {
  uv_close((uv_handle_t *)&awake->idle, NULL);
}

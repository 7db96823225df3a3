/* A loop polls after it was spoken to, and sleeps again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>

#include "base/clock.h"
#include "loop/awake.h"

static void on_timer(uv_timer_t *timer) {
  (void)timer;
  fail();
}

static void close_all(uv_loop_t *loop, struct slc__awake *awake, uv_timer_t *timer) {
  slc__awake_close(awake);
  uv_close((uv_handle_t *)timer, NULL);
  assert_int_equal(uv_run(loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(uv_loop_close(loop), 0);
}

/* It has something to wait for, a timer that is far away. */
static void begin(uv_loop_t *loop, struct slc__awake *awake, uv_timer_t *timer) {
  assert_int_equal(uv_loop_init(loop), 0);
  slc__awake_init(awake, loop);
  uv_timer_init(loop, timer);
  uv_timer_start(timer, on_timer, UINT64_C(3600) * 1000, 0);
  uv_run(loop, UV_RUN_NOWAIT); /* libuv's own descriptors have to be polled once */
  assert_int_not_equal(uv_backend_timeout(loop), 0);
}

static void test_awake_for_a_while(void **state) {
  (void)state;
  uv_loop_t loop;
  struct slc__awake awake;
  uv_timer_t timer;
  begin(&loop, &awake, &timer);
  awake.helps = true;
  for (int times = 0; times < 3; times++) {
    slc__awake_stay(&awake);
    slc__awake_stay(&awake);
    assert_int_equal(uv_backend_timeout(&loop), 0);
    while (uv_backend_timeout(&loop) == 0) uv_run(&loop, UV_RUN_NOWAIT);
    assert_true(slc__clock_ns() >= awake.until);
  }
  close_all(&loop, &awake, &timer);
}

/* Where there is one processor, whoever is to speak needs it. */
static void test_awake_not_on_one_processor(void **state) {
  (void)state;
  cpu_set_t all, one;
  uv_loop_t loop;
  struct slc__awake awake;
  uv_timer_t timer;
  assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
    if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
  }
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  begin(&loop, &awake, &timer);
  assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
  slc__awake_stay(&awake);
  assert_int_not_equal(uv_backend_timeout(&loop), 0);
  close_all(&loop, &awake, &timer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_awake_for_a_while),
      cmocka_unit_test(test_awake_not_on_one_processor),
  };
  return cmocka_run_group_tests_name("awake", tests, NULL, NULL);
}

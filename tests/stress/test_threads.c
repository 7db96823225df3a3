/* The same roles as threads of one process, for ThreadSanitizer: payloads are ordinary memory that the holds protect.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "roles.h"

enum { PUBLISHERS = 4, SUBSCRIBERS = 4, MESSAGES = 3000 };

struct part {
  struct roles *roles;
  void (*role)(struct roles *, uint32_t);
  uint32_t number;
};

static void *play(void *ctx) {
  struct part *part = ctx;
  part->role(part->roles, part->number);
  return NULL;
}

static void run(bool reliable, bool roomy) {
  static struct roles roles;
  struct part parts[PUBLISHERS + SUBSCRIBERS];
  pthread_t threads[PUBLISHERS + SUBSCRIBERS];
  roles_init(&roles, &(struct roles_shape){.publishers = PUBLISHERS,
                                           .subscribers = SUBSCRIBERS,
                                           .reliable = reliable,
                                           .roomy = roomy,
                                           .messages = MESSAGES});
  for (uint32_t i = 0; i < PUBLISHERS + SUBSCRIBERS; i++) {
    parts[i] = i < SUBSCRIBERS ? (struct part){&roles, roles_subscribe, i}
                               : (struct part){&roles, roles_publish, i - SUBSCRIBERS};
    assert_int_equal(pthread_create(&threads[i], NULL, play, &parts[i]), 0);
  }
  for (uint32_t i = 0; i < PUBLISHERS + SUBSCRIBERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  roles_deinit(&roles);
}

static void test_threads_unreliable(void **state) {
  (void)state;
  run(false, false);
  run(false, true);
}

static void test_threads_reliable(void **state) {
  (void)state;
  run(true, false);
  run(true, true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_threads_unreliable),
      cmocka_unit_test(test_threads_reliable),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

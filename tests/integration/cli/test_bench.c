/* Every measurement of `slotcast bench` in a small form: it ends well, and its JSON has what the manual promises, with
 * figures that can be.  How large they are is nobody's business here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/broker.h"

/* ---- running it ---- */

enum { COMMAND_MAX = 1024, ARGUMENTS_MAX = 400 };

/* Its output parsed, and its exit code.  `before`: what the shell does first. */
static json_t *run_after(const char *before, const char *arguments, int *ret_code) {
  char command[COMMAND_MAX];
  snprintf(command, sizeof command, "%s%s bench %s --quick --json", before, test_program("slotcast"), arguments);
  print_message("%s\n", command);
  FILE *output = popen(command, "r");
  assert_non_null(output);
  json_error_t error;
  json_t *result = json_loadf(output, 0, &error);
  int status = pclose(output);
  assert_true(WIFEXITED(status));
  *ret_code = WEXITSTATUS(status);
  return result;
}

static json_t *run(const char *arguments, int *ret_code) {
  return run_after("", arguments, ret_code);
}

/* With a private broker of the backend under test. */
static json_t *measure(const char *arguments) {
  char all[COMMAND_MAX / 2];
  int code;
  snprintf(all, sizeof all, "%s --backend %s", arguments, test_backend());
  json_t *result = run(all, &code);
  assert_int_equal(code, 0);
  assert_non_null(result);
  return result;
}

/* ---- looking at it ---- */

/* "rtt_ns.p50" is a field of a field. */
static const json_t *field(const json_t *result, const char *path) {
  char outer[64];
  const char *dot = strchr(path, '.');
  if (dot == NULL) return json_object_get(result, path);
  snprintf(outer, sizeof outer, "%.*s", (int)(dot - path), path);
  return json_object_get(json_object_get(result, outer), dot + 1);
}

static double number(const json_t *result, const char *path) {
  const json_t *value = field(result, path);
  if (!json_is_number(value)) fail_msg("%s is no number", path);
  return json_number_value(value);
}
static void check_text(const json_t *result, const char *path, const char *wanted) {
  const char *text = json_string_value(field(result, path));
  if (text == NULL) fail_msg("%s is no string", path);
  assert_string_equal(text, wanted);
}
/* Names, with a blank between them. */
static void check_positive(const json_t *result, const char *paths) {
  char copy[512], *rest = copy;
  snprintf(copy, sizeof copy, "%s", paths);
  for (char *path; (path = strsep(&rest, " ")) != NULL;) {
    if (number(result, path) <= 0) fail_msg("%s is %g", path, number(result, path));
  }
}

/* ---- the manual ---- */

enum { LINE_MAX_BYTES = 256, NAME_MAX_BYTES = 64 };

/* The next field that the manual names in its paragraph about `subject`: "I name" or "IR name ,". */
struct manual {
  FILE *file;
  const char *subject;
  bool is_json, is_subject;
};

static struct manual manual_open(const char *subject) {
  const char *path = getenv("SLOTCAST_MANUAL");
  assert_non_null(path); /* ctest says where it is */
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  return (struct manual){.file = file, .subject = subject};
}

static bool manual_next(struct manual *manual, char name[NAME_MAX_BYTES]) {
  char line[LINE_MAX_BYTES];
  while (fgets(line, sizeof line, manual->file) != NULL) {
    if (strncmp(line, ".SH", 3) == 0) manual->is_json = strcmp(line, ".SH MEASUREMENTS AS JSON\n") == 0;
    if (strncmp(line, ".B", 2) == 0) manual->is_subject = strstr(line, manual->subject) != NULL;
    bool is_field = sscanf(line, ".I %63[a-z0-9_]", name) == 1 || sscanf(line, ".IR %63[a-z0-9_]", name) == 1;
    if (manual->is_json && manual->is_subject && is_field) return true;
  }
  return false;
}

static bool is_in_manual(const char *subject, const char *wanted) {
  struct manual manual = manual_open(subject);
  char name[NAME_MAX_BYTES];
  bool is_there = false;
  while (!is_there && manual_next(&manual, name)) is_there = strcmp(name, wanted) == 0;
  fclose(manual.file);
  return is_there;
}

/* All fields that the manual has for these subjects, the second one only if there is one. */
static void check_fields(const json_t *object, const char *subject, const char *more) {
  const char *const subjects[] = {subject, more};
  for (size_t i = 0; i < 2 && subjects[i] != NULL; i++) {
    struct manual manual = manual_open(subjects[i]);
    char name[NAME_MAX_BYTES];
    size_t count = 0;
    for (; manual_next(&manual, name); count++) {
      if (json_object_get(object, name) == NULL) fail_msg("%s has no %s, of which the manual tells", subjects[i], name);
    }
    fclose(manual.file);
    assert_true(count > 0);
  }
}

/* The object has what the manual says, and nothing else; so have the objects in it, which are quantiles. */
static void check_schema(const json_t *object, const char *subject, const char *more) {
  const char *key;
  json_t *value;
  check_fields(object, subject, more);
  json_object_foreach((json_t *)object, key, value) {
    if (!is_in_manual(subject, key) && (more == NULL || !is_in_manual(more, key)))
      fail_msg("the manual does not tell of %s", key);
    if (json_is_object(value)) check_schema(value, "quantiles", NULL);
  }
}

static void check_common(const json_t *result, const char *name) {
  check_schema(result, "every object", name);
  check_text(result, "bench", name);
  check_text(result, "backend", test_backend());
  check_positive(result, "processors repetitions count");
  assert_true(number(result, "stamp_ns") >= 0);
  assert_true(json_is_boolean(field(result, "pinned")));
  if (number(result, "processors") > 1)
    check_positive(result, "pair_ns");
  else
    assert_true(json_is_null(field(result, "pair_ns")));
  assert_true(json_string_length(field(result, "cores")) > 0);
  assert_true(number(result, "repetitions") == 5);
  assert_true(json_string_length(field(result, "limit")) > 0);
}

/* Quantiles are in order. */
static void check_quantiles(const json_t *result, const char *name) {
  static const char *const order[] = {"min", "p50", "p99", "p999", "max"};
  double before = 0;
  for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
    char path[64];
    snprintf(path, sizeof path, "%s.%s", name, order[i]);
    assert_true(number(result, path) >= before);
    before = number(result, path);
  }
  assert_true(before > 0);
}

/* ---- latency ---- */

static void check_latency(const json_t *result, const char *waiting, double size) {
  check_common(result, "latency");
  check_text(result, "waiting", waiting);
  assert_true(number(result, "size") == size);
  check_quantiles(result, "rtt_ns");
  check_quantiles(result, "limit_ns");
  check_positive(result, "ratio_p50 slots rtt_ns.p50 limit_ns.p50");
}

static void test_bench_latency_one_size_is_one_object(void **state) {
  (void)state;
  json_t *result = measure("latency --size 64");
  check_latency(result, "polling", 64);
  assert_true(json_is_false(field(result, "touched")));
  json_decref(result);
}

static void test_bench_latency_of_every_waiting(void **state) {
  (void)state;
  static const char *const waitings[] = {"polling", "blocking", "spin"};
  for (size_t i = 0; i < 3; i++) {
    char arguments[64];
    snprintf(arguments, sizeof arguments, "latency --size 8 --count 50 --wait %s", waitings[i]);
    json_t *result = measure(arguments);
    check_latency(result, waitings[i], 8);
    json_decref(result);
  }
}

static void test_bench_latency_sizes_are_an_array(void **state) {
  (void)state;
  static const double sizes[] = {8, 4096, 1 << 20};
  json_t *result = measure("latency --size 8,4K,1M --touch --count 20");
  assert_int_equal(json_array_size(result), 3);
  for (size_t i = 0; i < 3; i++) {
    check_latency(json_array_get(result, i), "polling", sizes[i]);
    assert_true(json_is_true(field(json_array_get(result, i), "touched")));
  }
  json_decref(result);
}

/* ---- throughput ---- */

static void check_throughput(const json_t *result, double publishers, double subscribers) {
  check_common(result, "throughput");
  assert_true(number(result, "publishers") == publishers);
  assert_true(number(result, "subscribers") == subscribers);
  check_positive(result, "received_per_s slowest_received_per_s published_per_s sent received limit_per_s ratio size "
                         "slots");
  assert_true(number(result, "received") + number(result, "lost") == number(result, "sent") * subscribers);
}

static void test_bench_throughput_reliable_loses_nothing(void **state) {
  (void)state;
  json_t *result = measure("throughput --count 2000");
  check_throughput(result, 1, 1);
  assert_true(json_is_true(field(result, "reliable")));
  assert_true(number(result, "lost") == 0);
  check_text(result, "take", "many");
  json_decref(result);
}

static void test_bench_throughput_of_many(void **state) {
  (void)state;
  json_t *result = measure("throughput --publishers 1,3 --subscribers 1,2 --take one --count 600 --slots 64");
  assert_int_equal(json_array_size(result), 4);
  for (size_t i = 0; i < 4; i++) {
    check_throughput(json_array_get(result, i), i < 2 ? 1 : 3, i % 2 == 0 ? 1 : 2);
    check_text(json_array_get(result, i), "take", "one");
    assert_true(number(json_array_get(result, i), "lost") == 0);
  }
  json_decref(result);
}

static void test_bench_throughput_unreliable_accounts_for_all(void **state) {
  (void)state;
  json_t *result = measure("throughput --unreliable --count 5000 --slots 64");
  check_throughput(result, 1, 1);
  assert_true(json_is_false(field(result, "reliable")));
  json_decref(result);
}

/* Whoever is overrun loses, but receives about as much of each part of the stream. */
static void test_bench_throughput_shows_the_share_of_the_slow(void **state) {
  (void)state;
  json_t *result = measure("throughput --unreliable --subscribers 2 --slow 20000 --count 5000 --slots 64");
  check_throughput(result, 1, 2);
  check_positive(result, "lost slowest_lost slowest_share slowest_share_max");
  assert_true(number(result, "slow_ns") == 20000);
  assert_true(number(result, "parts") == 9); /* of 512 messages, eight times round the slots */
  assert_true(number(result, "slowest_lost") <= number(result, "lost"));
  assert_true(number(result, "slowest_share") < 1);
  assert_true(number(result, "slowest_share_min") <= number(result, "slowest_share"));
  assert_true(number(result, "slowest_share_max") >= number(result, "slowest_share"));
  json_decref(result);
}

/* Publishers that have a rate are not faster. */
static void test_bench_throughput_of_a_rate(void **state) {
  (void)state;
  json_t *result = measure("throughput --rate 20000 --count 500");
  check_throughput(result, 1, 1);
  assert_true(number(result, "rate") == 20000);
  assert_true(number(result, "published_per_s") <= 20001);
  assert_true(number(result, "lost") == 0);
  json_decref(result);
}

/* So many ends have slots enough without being told. */
static void test_bench_throughput_of_very_many(void **state) {
  (void)state;
  json_t *result = measure("throughput --publishers 20 --subscribers 12 --count 100");
  check_throughput(result, 20, 12);
  json_decref(result);
}

/* ---- publish and take ---- */

static void check_alone(const json_t *result, const char *name, double slots, double subscribers, double generation) {
  check_common(result, name);
  assert_true(number(result, "slots") == slots);
  assert_true(number(result, "subscribers") == subscribers);
  assert_true(number(result, "generation") == generation);
  assert_true(number(result, "lost") == 0);
  check_positive(result, "ns_per_message limit_ns_per_message ratio size");
}

static void test_bench_publish_and_take_alone(void **state) {
  (void)state;
  static const char *const names[] = {"publish", "take"};
  for (size_t i = 0; i < 2; i++) {
    char arguments[128];
    snprintf(arguments, sizeof arguments, "%s --subscribers 3 --slots 256 --count 2000", names[i]);
    json_t *result = measure(arguments);
    check_alone(result, names[i], 256, 3, 1);
    json_decref(result);
    snprintf(arguments, sizeof arguments, "%s --generations 1,2,4 --slots 16 --count 500", names[i]);
    result = measure(arguments);
    assert_int_equal(json_array_size(result), 3);
    for (size_t k = 0; k < 3; k++) check_alone(json_array_get(result, k), names[i], 16, 0, 1 << k);
    assert_true(number(json_array_get(result, 2), "size") == 8 * number(json_array_get(result, 0), "size"));
    json_decref(result);
  }
}

static void test_bench_publish_exclusive(void **state) {
  (void)state;
  json_t *result = measure("publish --exclusive --slots 64 --count 500");
  check_alone(result, "publish", 64, 0, 1);
  assert_true(json_is_true(field(result, "exclusive")));
  json_decref(result);
}

/* ---- waking ---- */

static void check_waking(const json_t *result, const char *name, const char *by, double subscribers) {
  check_common(result, name);
  check_text(result, "by", by);
  assert_true(number(result, "subscribers") == subscribers);
  check_quantiles(result, "publish_ns");
  check_quantiles(result, "delivered_ns");
  check_quantiles(result, "limit_call_ns");
  check_quantiles(result, "limit_ns");
  check_positive(result, "wakes_per_message ratio_publish_p50 ratio_p50 size"); /* they sleep when a message is sent */
}

static void test_bench_wake(void **state) {
  (void)state;
  json_t *result = measure("wake --count 20");
  check_waking(result, "wake", "wait", 1);
  json_decref(result);
  result = measure("wake --by fd --count 20");
  check_waking(result, "wake", "fd", 1);
  json_decref(result);
}

static void test_bench_fanout(void **state) {
  (void)state;
  json_t *result = measure("fanout --subscribers 1,5 --count 20");
  assert_int_equal(json_array_size(result), 2);
  check_waking(json_array_get(result, 0), "fanout", "wait", 1);
  check_waking(json_array_get(result, 1), "fanout", "wait", 5);
  json_decref(result);
  result = measure("fanout --subscribers 3 --by fd --count 20");
  check_waking(result, "fanout", "fd", 3);
  json_decref(result);
}

/* ---- control ---- */

static void check_control(const json_t *result, const char *opened, double channels) {
  check_common(result, "control");
  check_text(result, "opened", opened);
  assert_true(number(result, "channels") == channels);
  check_quantiles(result, "open_ns");
  check_quantiles(result, "close_ns");
  check_quantiles(result, "limit_ns");
  check_positive(result, "opened_per_s closed_per_s ratio_p50");
}

static void test_bench_control(void **state) {
  (void)state;
  json_t *result = measure("control --channels 0,40 --count 20");
  assert_int_equal(json_array_size(result), 2);
  check_control(json_array_get(result, 0), "publishers", 0);
  assert_true(json_is_null(field(json_array_get(result, 0), "broker_descriptors_per_channel")));
  check_control(json_array_get(result, 1), "publishers", 40);
  check_positive(json_array_get(result, 1), "filled_per_s broker_descriptors_per_channel shared_bytes_per_channel");
  assert_true(number(json_array_get(result, 1), "broker_bytes_per_channel") >= 0);
  json_decref(result);
  result = measure("control --open subscribers --channels 5 --count 20");
  check_control(result, "subscribers", 5);
  json_decref(result);
}

/* A process holds 500 channels: more are those of several. */
static void test_bench_control_with_more_channels_than_one_process_has(void **state) {
  (void)state;
  json_t *result = measure("control --channels 501 --count 5");
  check_control(result, "publishers", 501);
  json_decref(result);
}

/* ---- recover ---- */

static void check_recover(const json_t *result, double channels, double subscribers) {
  check_common(result, "recover");
  assert_true(number(result, "channels") == channels);
  assert_true(number(result, "subscribers") == subscribers);
  assert_true(number(result, "descriptors") >= channels * (subscribers > 0 ? 4 : 2));
  check_positive(result, "ended_ns answered_ns reclaimed_ns all_reclaimed_ns answered_ns_per_channel limit_ns ratio");
  assert_true(number(result, "all_reclaimed_ns") >= number(result, "reclaimed_ns"));
}

static void test_bench_recover(void **state) {
  (void)state;
  json_t *result = measure("recover --channels 1,20");
  assert_int_equal(json_array_size(result), 2);
  check_recover(json_array_get(result, 0), 1, 1);
  check_recover(json_array_get(result, 1), 20, 1);
  json_decref(result);
  result = measure("recover --channels 3 --subscribers 0,2");
  assert_int_equal(json_array_size(result), 2);
  check_recover(json_array_get(result, 0), 3, 0);
  check_recover(json_array_get(result, 1), 3, 2);
  json_decref(result);
}

/* What the limit does not allow is told, and the rest is measured. */
static void test_bench_recover_of_more_channels_than_there_are_descriptors_for(void **state) {
  const struct test_broker *broker = *state;
  char arguments[ARGUMENTS_MAX], path[160], text[512] = "";
  int code;
  snprintf(path, sizeof path, "%s/told", broker->directory);
  snprintf(arguments, sizeof arguments, "recover --channels 2,100000 --backend %s 2>%s", test_backend(), path);
  json_t *result = run_after("ulimit -n 600; ", arguments, &code);
  assert_int_equal(code, 0);
  assert_int_equal(json_array_size(result), 2);
  check_recover(json_array_get(result, 0), 2, 1);
  double most = number(json_array_get(result, 1), "channels");
  assert_true(most > 2 && most < 600);
  check_recover(json_array_get(result, 1), most, 1);
  json_decref(result);
  FILE *told = fopen(path, "r");
  assert_non_null(told);
  assert_non_null(fgets(text, sizeof text, told));
  fclose(told);
  unlink(path);
  assert_non_null(strstr(text, "100000 channels need"));
  assert_non_null(strstr(text, "600 are allowed (ulimit -Hn)"));
}

static void test_bench_recover_has_brokers_of_its_own(void **state) {
  const struct test_broker *broker = *state;
  char arguments[ARGUMENTS_MAX];
  int code;
  snprintf(arguments, sizeof arguments, "recover --channels 1 --socket %s", broker->socket);
  assert_null(run(arguments, &code));
  assert_int_equal(code, 2);
}

/* ---- first touch ---- */

static void test_bench_touch(void **state) {
  (void)state;
  json_t *result = measure("touch --slots 16 --size 4K");
  assert_true(json_array_size(result) >= 4); /* both backends in small pages, prefaulted or not */
  for (size_t i = 0; i < json_array_size(result); i++) {
    check_schema(json_array_get(result, i), "every object", "touch");
    check_positive(json_array_get(result, i), "size slots count open_ns write_first_ns write_again_ns read_first_ns "
                                              "read_again_ns ratio_write ratio_read");
  }
  json_decref(result);
}

/* ---- all in short ---- */

static void test_bench_without_a_word_is_all_in_short(void **state) {
  static const char *const names[] = {"latency", "throughput", "publish", "take", "wake", "fanout", "control"};
  (void)state;
  json_t *result = measure("");
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    size_t at = 0;
    while (at < json_array_size(result) &&
           strcmp(json_string_value(field(json_array_get(result, at), "bench")), names[i]) != 0)
      at++;
    assert_true(at < json_array_size(result));
    check_common(json_array_get(result, at), names[i]);
  }
  json_decref(result);
}

/* ---- the broker, the plot ---- */

static void test_bench_with_a_given_broker(void **state) {
  const struct test_broker *broker = *state;
  char arguments[ARGUMENTS_MAX];
  int code;
  snprintf(arguments, sizeof arguments, "latency --size 64 --count 50 --socket %s", broker->socket);
  json_t *result = run(arguments, &code);
  assert_int_equal(code, 0);
  assert_true(json_is_null(field(result, "backend")));
  check_positive(result, "ratio_p50");
  json_decref(result);
}

static void test_bench_without_its_broker_fails(void **state) {
  (void)state;
  int code;
  assert_null(run("latency --size 64 --count 50 --socket /nowhere/broker.sock", &code));
  assert_int_equal(code, 3);
  assert_null(run("publish --slots 64 --count 50 --socket /nowhere/broker.sock", &code));
  assert_int_equal(code, 3);
}

/* The whole file, which is one picture without a place that is no number. */
static void read_plot(const char *path, char *text, size_t size) {
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  size_t length = fread(text, 1, size - 1, file);
  assert_true(length < size - 1);
  text[length] = '\0';
  fclose(file);
  unlink(path);
  assert_int_equal(strncmp(text, "<svg ", 5), 0);
  assert_non_null(strstr(text, "</svg>"));
  assert_null(strstr(text, "nan"));
  assert_null(strstr(text, "inf"));
}

/* Every measurement draws something that holds together. */
static void test_bench_plots_of_all(void **state) {
  static const char *const measurements[] = {"throughput --size 8,64 --count 20",
                                             "publish --slots 16,64 --count 20",
                                             "take --slots 16,64 --count 20",
                                             "wake --count 20",
                                             "fanout --subscribers 1,2 --count 20",
                                             "control --channels 1,2 --count 20",
                                             "recover --channels 1,2"};
  const struct test_broker *broker = *state;
  for (size_t i = 0; i < sizeof measurements / sizeof measurements[0]; i++) {
    char arguments[ARGUMENTS_MAX], path[160], text[64 * 1024];
    snprintf(path, sizeof path, "%s/plot.svg", broker->directory);
    snprintf(arguments, sizeof arguments, "%s --plot %s", measurements[i], path);
    json_decref(measure(arguments));
    read_plot(path, text, sizeof text);
    assert_non_null(strstr(text, "<polyline"));
  }
}

static void test_bench_plot(void **state) {
  const struct test_broker *broker = *state;
  char arguments[ARGUMENTS_MAX], path[160];
  static char text[256 * 1024];
  snprintf(path, sizeof path, "%s/plot.svg", broker->directory);
  snprintf(arguments, sizeof arguments, "latency --size 8,64 --count 50 --plot %s", path);
  json_decref(measure(arguments));
  read_plot(path, text, sizeof text);
  assert_non_null(strstr(text, "bare pair of cache lines"));
  size_t lines = 0;
  for (const char *at = text; (at = strstr(at, "<polyline")) != NULL; at++) lines++;
  assert_int_equal(lines, 3 + 2); /* distributions of two sizes and the limit; medians of both by size */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bench_latency_one_size_is_one_object),
      cmocka_unit_test(test_bench_latency_of_every_waiting),
      cmocka_unit_test(test_bench_latency_sizes_are_an_array),
      cmocka_unit_test(test_bench_throughput_reliable_loses_nothing),
      cmocka_unit_test(test_bench_throughput_of_many),
      cmocka_unit_test(test_bench_throughput_unreliable_accounts_for_all),
      cmocka_unit_test(test_bench_throughput_shows_the_share_of_the_slow),
      cmocka_unit_test(test_bench_throughput_of_a_rate),
      cmocka_unit_test(test_bench_throughput_of_very_many),
      cmocka_unit_test(test_bench_publish_and_take_alone),
      cmocka_unit_test(test_bench_publish_exclusive),
      cmocka_unit_test(test_bench_wake),
      cmocka_unit_test(test_bench_fanout),
      cmocka_unit_test(test_bench_control),
      cmocka_unit_test(test_bench_recover),
      cmocka_unit_test_setup_teardown(test_bench_recover_of_more_channels_than_there_are_descriptors_for,
                                      test_broker_setup, test_broker_teardown),
      cmocka_unit_test_setup_teardown(test_bench_recover_has_brokers_of_its_own, test_broker_setup,
                                      test_broker_teardown),
      cmocka_unit_test(test_bench_touch),
      cmocka_unit_test(test_bench_without_a_word_is_all_in_short),
      cmocka_unit_test(test_bench_control_with_more_channels_than_one_process_has),
      cmocka_unit_test_setup_teardown(test_bench_with_a_given_broker, test_broker_setup, test_broker_teardown),
      cmocka_unit_test(test_bench_without_its_broker_fails),
      cmocka_unit_test_setup_teardown(test_bench_plots_of_all, test_broker_setup, test_broker_teardown),
      cmocka_unit_test_setup_teardown(test_bench_plot, test_broker_setup, test_broker_teardown),
  };
  return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}

/* CRC-32C: published values, and that every way to compute it gives the same.  With an argument it measures instead:
 * test_unit_base_crc32c speed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/crc32c.h"

enum { LONGEST = 20000, ALIGNMENTS = 16 };

/* A sequence of its own, so that a failure comes again. */
static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static void fill(uint8_t *bytes, size_t size, uint64_t seed) {
  for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(next_random(&seed) >> 32);
}

/* The definition itself, bit by bit. */
static uint32_t by_definition(const uint8_t *bytes, size_t size) {
  uint32_t crc = UINT32_MAX;
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ ((crc & 1) != 0 ? UINT32_C(0x82f63b78) : 0);
  }
  return ~crc;
}

static void check_value(const void *bytes, size_t size, uint32_t expected) {
  assert_int_equal(slc__crc32c(0, bytes, size), expected);
  assert_int_equal(slc__crc32c_portable(0, bytes, size), expected);
  assert_int_equal(by_definition(bytes, size), expected);
}

/* RFC 3720, B.4, and the check value of the catalogues. */
static void test_crc32c_published_values(void **state) {
  (void)state;
  uint8_t bytes[32];
  memset(bytes, 0, sizeof bytes);
  check_value(bytes, sizeof bytes, UINT32_C(0x8a9136aa));
  memset(bytes, 0xff, sizeof bytes);
  check_value(bytes, sizeof bytes, UINT32_C(0x62a8ab43));
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)i;
  check_value(bytes, sizeof bytes, UINT32_C(0x46dd794e));
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(31 - i);
  check_value(bytes, sizeof bytes, UINT32_C(0x113fdb5c));
  check_value("123456789", 9, UINT32_C(0xe3069283));
  check_value("", 0, 0);
}

static void test_crc32c_every_length_and_alignment(void **state) {
  (void)state;
  static uint8_t bytes[LONGEST + ALIGNMENTS];
  fill(bytes, sizeof bytes, 1);
  uint64_t seed = 2;
  for (size_t size = 0; size < LONGEST; size += size < 200 ? 1 : 1 + next_random(&seed) % 300) {
    size_t alignment = next_random(&seed) % ALIGNMENTS;
    uint32_t expected = by_definition(bytes + alignment, size);
    assert_int_equal(slc__crc32c_portable(0, bytes + alignment, size), expected);
    assert_int_equal(slc__crc32c(0, bytes + alignment, size), expected);
  }
}

static void test_crc32c_piece_by_piece(void **state) {
  (void)state;
  static uint8_t bytes[LONGEST];
  fill(bytes, sizeof bytes, 3);
  uint64_t seed = 4;
  for (int round = 0; round < 200; round++) {
    uint32_t crc = 0, portable = 0;
    size_t size = next_random(&seed) % LONGEST, at = 0;
    while (at < size) {
      size_t piece = next_random(&seed) % (size - at + 1);
      crc = slc__crc32c(crc, bytes + at, piece);
      portable = slc__crc32c_portable(portable, bytes + at, piece);
      at += piece;
    }
    assert_int_equal(crc, slc__crc32c(0, bytes, size));
    assert_int_equal(portable, crc);
  }
}

static void test_crc32c_sees_every_bit(void **state) {
  (void)state;
  static uint8_t bytes[2000];
  fill(bytes, sizeof bytes, 5);
  uint32_t whole = slc__crc32c(0, bytes, sizeof bytes);
  for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_int_not_equal(slc__crc32c(0, bytes, sizeof bytes), whole);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
}

/* ---- by hand: how fast ---- */

static void print_speed(const char *what, uint32_t (*crc32c)(uint32_t, const void *, size_t), size_t size) {
  enum { TOTAL = 1 << 28 };
  static uint8_t bytes[1 << 20];
  uint32_t crc = 0;
  int64_t begin = slc__clock_ns();
  for (size_t done = 0; done < TOTAL; done += size) crc = crc32c(crc, bytes, size);
  double seconds = (double)(slc__clock_ns() - begin) / 1e9;
  printf("%-12s %8zu bytes  %6.2f GB/s  (%08x)\n", what, size, (double)TOTAL / 1e9 / seconds, crc);
}

static int measure(void) {
  static const size_t sizes[] = {64, 256, 1024, 4096, 65536, 1 << 20};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    if (slc__crc32c_is_accelerated()) print_speed("accelerated", slc__crc32c, sizes[i]);
    print_speed("portable", slc__crc32c_portable, sizes[i]);
  }
  return 0;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_crc32c_published_values),
      cmocka_unit_test(test_crc32c_every_length_and_alignment),
      cmocka_unit_test(test_crc32c_piece_by_piece),
      cmocka_unit_test(test_crc32c_sees_every_bit),
  };
  if (argc > 1 && strcmp(argv[1], "speed") == 0) return measure();
  return cmocka_run_group_tests(tests, NULL, NULL);
}

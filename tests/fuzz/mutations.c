/* A fuzz target without libFuzzer, for any compiler:
 *
 *   PROGRAM COUNT [SEED]   so many mutations of the target's valid inputs; the same for the same SEED
 *   PROGRAM --seeds DIR    writes the valid inputs as files, for libFuzzer to begin with
 *   PROGRAM --run FILE..   the inputs that libFuzzer has found
 *
 * Less thorough than libFuzzer, which sees what the code does; but it runs wherever the tests run.  An input lies in
 * memory of exactly its size, so that a sanitizer sees a read beyond it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/target.h"

enum { INPUT_MAX = 256 * 1024, SEEDS_MAX = 64, CHANGES_MAX = 8, PIECE_MAX = 64 };

struct input {
  size_t size;
  uint8_t *bytes;
};

static struct input seeds[SEEDS_MAX];
static size_t seed_count;

/* ---- inputs ---- */

static void *copy_of(const void *bytes, size_t size) {
  void *copy = malloc(size);
  if (copy == NULL) abort();
  memcpy(copy, bytes, size);
  return copy;
}

static void seeds_make(void) {
  static uint8_t buffer[INPUT_MAX];
  size_t size;
  while ((size = fuzz_seed(seed_count, buffer, sizeof buffer)) > 0) {
    if (seed_count == SEEDS_MAX) abort();
    seeds[seed_count++] = (struct input){.size = size, .bytes = copy_of(buffer, size)};
  }
}

static void seeds_free(void) {
  while (seed_count > 0) free(seeds[--seed_count].bytes);
}

static void try_input(const uint8_t *bytes, size_t size) {
  uint8_t *exact = copy_of(bytes, size);
  LLVMFuzzerTestOneInput(exact, size);
  free(exact);
}

/* ---- mutations ---- */

static uint64_t random_state;

/* splitmix64; 0 for a limit of 0, of which there is none below */
static size_t random_below(size_t limit) {
  if (limit == 0) return 0;
  uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (size_t)((z ^ (z >> 31)) % limit);
}

static size_t smaller(size_t a, size_t b) {
  return a < b ? a : b;
}

static void insert(struct input *input, size_t at, const uint8_t *piece, size_t size) {
  if (input->size + size > INPUT_MAX) return;
  memmove(input->bytes + at + size, input->bytes + at, input->size - at);
  memcpy(input->bytes + at, piece, size);
  input->size += size;
}

static void cut(struct input *input, size_t at, size_t size) {
  memmove(input->bytes + at, input->bytes + at + size, input->size - at - size);
  input->size -= size;
}

/* A piece of any seed, at any place. */
static void splice(struct input *input, size_t at) {
  const struct input *donor = &seeds[random_below(seed_count)];
  size_t from = random_below(donor->size);
  insert(input, at, donor->bytes + from, smaller(1 + random_below(PIECE_MAX), donor->size - from));
}

static void repeat(struct input *input, size_t at) {
  uint8_t piece[PIECE_MAX];
  size_t size = smaller(1 + random_below(PIECE_MAX), input->size - at);
  memcpy(piece, input->bytes + at, size);
  for (size_t times = 1 + random_below(PIECE_MAX); times > 0; times--) insert(input, at, piece, size);
}

static void change(struct input *input) {
  static const uint8_t edges[] = {0x00, 0x01, 0x7f, 0x80, 0xc0, 0xff};
  static const uint8_t longest[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
  size_t at = random_below(input->size);
  switch (random_below(8)) {
  case 0:
    input->bytes[at] ^= (uint8_t)(1U << random_below(8));
    break;
  case 1:
    input->bytes[at] = (uint8_t)random_below(256);
    break;
  case 2:
    input->bytes[at] = edges[random_below(sizeof edges)];
    break;
  case 3:
    input->bytes[at] = (uint8_t)(input->bytes[at] + 8); /* the next field */
    break;
  case 4:
    if (at > 0) cut(input, at, smaller(1 + random_below(PIECE_MAX), input->size - at));
    break;
  case 5:
    splice(input, at);
    break;
  case 6:
    repeat(input, at);
    break;
  default:
    insert(input, at, longest + random_below(sizeof longest), 1);
    insert(input, at, longest, sizeof longest);
    break;
  }
}

static int run_mutations(unsigned long count, uint64_t seed) {
  static uint8_t bytes[INPUT_MAX];
  random_state = seed;
  for (size_t i = 0; i < seed_count; i++) try_input(seeds[i].bytes, seeds[i].size);
  for (unsigned long i = 0; i < count; i++) {
    const struct input *origin = &seeds[random_below(seed_count)];
    struct input input = {.size = origin->size, .bytes = bytes};
    memcpy(bytes, origin->bytes, origin->size);
    for (size_t changes = 1 + random_below(CHANGES_MAX); changes > 0; changes--) change(&input);
    try_input(input.bytes, input.size);
  }
  printf("%zu seeds and %lu mutations of them\n", seed_count, count);
  return 0;
}

/* ---- files ---- */

static int write_seeds(const char *directory) {
  for (size_t i = 0; i < seed_count; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%zu", directory, i);
    FILE *file = fopen(path, "wbe");
    if (file == NULL || fwrite(seeds[i].bytes, seeds[i].size, 1, file) != 1 || fclose(file) != 0) {
      perror(path);
      return 1;
    }
  }
  return 0;
}

static int run_file(const char *path) {
  static uint8_t bytes[INPUT_MAX];
  FILE *file = fopen(path, "rbe");
  if (file == NULL) {
    perror(path);
    return 1;
  }
  size_t size = fread(bytes, 1, sizeof bytes, file);
  fclose(file);
  try_input(bytes, size);
  return 0;
}

int main(int argc, char **argv) {
  int status = 2;
  seeds_make();
  if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
    status = write_seeds(argv[2]);
  } else if (argc > 2 && strcmp(argv[1], "--run") == 0) {
    status = 0;
    for (int i = 2; i < argc && status == 0; i++) status = run_file(argv[i]);
  } else if (argc == 2 || argc == 3) {
    status = run_mutations(strtoul(argv[1], NULL, 10), argc == 3 ? strtoull(argv[2], NULL, 10) : 1);
  } else {
    fprintf(stderr, "usage: %s COUNT [SEED] | --seeds DIR | --run FILE..\n", argv[0]);
  }
  seeds_free();
  return status;
}

/* What a fuzz target provides, for libFuzzer and for mutations.c. */
#ifndef SLC_TEST_TARGET_H
#define SLC_TEST_TARGET_H

#include <stddef.h>
#include <stdint.h>

/* Aborts when the code under test is wrong. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* The valid input of this index into `buffer`; its size, 0: there is none. */
size_t fuzz_seed(size_t index, uint8_t *buffer, size_t capacity);

#endif

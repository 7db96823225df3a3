/* CRC-32C with SSE4.2 and PCLMULQDQ, with ARMv8's CRC instructions, and by tables ("slicing by eight").
 *
 * The instruction needs three cycles for eight bytes, but can begin one in each: so large inputs are cut into three
 * streams, and the remainders put together by carry-less multiplication.  Which way is taken is asked at each call; it
 * is a load and a test.  Nothing is initialised and nothing written: any thread at any time. */
#include "base/crc32c.h"

#include <endian.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <sys/auxv.h>
#endif

/* In little-endian order, whatever the machine's. */
static inline uint64_t load64(const uint8_t *bytes) {
  uint64_t value;
  memcpy(&value, bytes, sizeof value);
  return le64toh(value);
}

/* ---- portable ---- */

/* TABLES[k][b] is the remainder of byte b followed by k zero bytes.  It is linear in b, so eight values make a row. */
#define ENTRY(b, r0, r1, r2, r3, r4, r5, r6, r7)                                                                       \
  (((b)&1 ? (r0) : 0) ^ ((b)&2 ? (r1) : 0) ^ ((b)&4 ? (r2) : 0) ^ ((b)&8 ? (r3) : 0) ^ ((b)&16 ? (r4) : 0) ^           \
   ((b)&32 ? (r5) : 0) ^ ((b)&64 ? (r6) : 0) ^ ((b)&128 ? (r7) : 0))
#define ENTRIES4(b, ...)                                                                                               \
  ENTRY(b, __VA_ARGS__), ENTRY((b) + 1, __VA_ARGS__), ENTRY((b) + 2, __VA_ARGS__), ENTRY((b) + 3, __VA_ARGS__)
#define ENTRIES16(b, ...)                                                                                              \
  ENTRIES4(b, __VA_ARGS__), ENTRIES4((b) + 4, __VA_ARGS__), ENTRIES4((b) + 8, __VA_ARGS__),                            \
      ENTRIES4((b) + 12, __VA_ARGS__)
#define ENTRIES64(b, ...)                                                                                              \
  ENTRIES16(b, __VA_ARGS__), ENTRIES16((b) + 16, __VA_ARGS__), ENTRIES16((b) + 32, __VA_ARGS__),                       \
      ENTRIES16((b) + 48, __VA_ARGS__)
#define ROW(...)                                                                                                       \
  { ENTRIES64(0, __VA_ARGS__), ENTRIES64(64, __VA_ARGS__), ENTRIES64(128, __VA_ARGS__), ENTRIES64(192, __VA_ARGS__) }
static const uint32_t tables[8][256] = {
    ROW(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78),
    ROW(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9),
    ROW(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743),
    ROW(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f),
    ROW(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c),
    ROW(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6),
    ROW(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4),
    ROW(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664),
};

uint32_t slc__crc32c_portable(uint32_t crc, const void *data, size_t size) {
  const uint8_t *bytes = data;
  crc = ~crc;
  for (; size >= 8; size -= 8, bytes += 8) {
    uint64_t eight = load64(bytes) ^ crc;
    crc = 0;
    for (int i = 0; i < 8; i++) crc ^= tables[7 - i][eight >> (8 * i) & 0xff];
  }
  for (; size > 0; size--, bytes++) crc = crc >> 8 ^ tables[0][(crc ^ *bytes) & 0xff];
  return ~crc;
}

/* ---- x86 ---- */

#if defined(__x86_64__)

#define ACCELERATED __attribute__((target("sse4.2,pclmul")))

/* Bytes per stream, and what moves a remainder past one and past two streams: x^(8 * STREAM - 33) and
 * x^(16 * STREAM - 33) modulo the polynomial, bits in reverse.  (33: one bit that the product of two reversed numbers
 * is short of, and the 32 by which the CRC instruction multiplies.) */
enum { STREAM = 512 };
#define PAST_ONE UINT32_C(0xdd7e3b0c)
#define PAST_TWO UINT32_C(0x170076fa)

bool slc__crc32c_is_accelerated(void) {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

ACCELERATED static inline uint32_t move(uint64_t crc, uint32_t past) {
  __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)crc), _mm_cvtsi32_si128((int)past), 0);
  return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

ACCELERATED static uint64_t three_streams(uint64_t crc, const uint8_t *bytes) {
  uint64_t second = 0, third = 0;
  for (size_t i = 0; i < STREAM; i += 8) {
    crc = _mm_crc32_u64(crc, load64(bytes + i));
    second = _mm_crc32_u64(second, load64(bytes + STREAM + i));
    third = _mm_crc32_u64(third, load64(bytes + 2 * STREAM + i));
  }
  return move(crc, PAST_TWO) ^ move(second, PAST_ONE) ^ third;
}

ACCELERATED static uint32_t accelerated(uint32_t begun, const uint8_t *bytes, size_t size) {
  uint64_t crc = ~begun;
  for (; size >= 3 * (size_t)STREAM; size -= 3 * (size_t)STREAM, bytes += 3 * (size_t)STREAM)
    crc = three_streams(crc, bytes);
  for (; size >= 8; size -= 8, bytes += 8) crc = _mm_crc32_u64(crc, load64(bytes));
  for (; size > 0; size--, bytes++) crc = _mm_crc32_u8((uint32_t)crc, *bytes);
  return ~(uint32_t)crc;
}

/* ---- ARM ---- */

#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

bool slc__crc32c_is_accelerated(void) {
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

/* In assembly: the compilers differ in how a single function may use these, and in what their header needs. */
static inline uint32_t step8(uint32_t crc, uint64_t eight) {
  __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(eight));
  return crc;
}

static inline uint32_t step1(uint32_t crc, uint32_t byte) {
  __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(byte));
  return crc;
}

static uint32_t accelerated(uint32_t begun, const uint8_t *bytes, size_t size) {
  uint32_t crc = ~begun;
  for (; size >= 8; size -= 8, bytes += 8) crc = step8(crc, load64(bytes));
  for (; size > 0; size--, bytes++) crc = step1(crc, *bytes);
  return ~crc;
}

/* ---- any other ---- */

#else

bool slc__crc32c_is_accelerated(void) {
  return false;
}

static uint32_t accelerated(uint32_t begun, const uint8_t *bytes, size_t size) {
  return slc__crc32c_portable(begun, bytes, size);
}

#endif

uint32_t slc__crc32c(uint32_t crc, const void *data, size_t size) {
  return slc__crc32c_is_accelerated() ? accelerated(crc, data, size) : slc__crc32c_portable(crc, data, size);
}

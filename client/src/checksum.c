/* Checksums of messages.
 *
 * CRC-32C is computed over size and timestamp (8 bytes each, little-endian), metadata and payload, in this order, and
 * stored little-endian.  Ordinal and slot are not in it: they are given while the message is published, and are checked
 * by the slot log.  Invariant: reads no more than the caller's copies of size and metadata size say. */
#include "checksum.h"

#include <endian.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"

int slc__checksum_options(int checksum, uint32_t checksum_size, slc_checksum_fn own) {
  if (checksum != SLC_CHECKSUM_NONE && checksum != SLC_CHECKSUM_CRC32C && checksum != SLC_CHECKSUM_OWN)
    return slc__fail(SLC_INVALID, "checksum is %d, which is no enum slc_checksum", checksum);
  if (checksum != SLC_CHECKSUM_OWN)
    return checksum_size == 0
               ? 0
               : slc__fail(SLC_INVALID, "checksum_size is for SLC_CHECKSUM_OWN alone: leave it 0 with any other");
  if (checksum_size == 0 || checksum_size > SLC__CHECKSUM_MAX)
    return slc__fail(SLC_INVALID, "checksum_size is %u, and is 1 to %d with SLC_CHECKSUM_OWN", checksum_size,
                     SLC__CHECKSUM_MAX);
  return own != NULL ? 0 : slc__fail(SLC_INVALID, "SLC_CHECKSUM_OWN needs compute_checksum");
}

void slc__checking_init(struct slc__checking *checking, const struct slc__geometry *shape, slc_checksum_fn own,
                        void *ctx) {
  *checking = (struct slc__checking){
      .kind = shape->checksum,
      .checksum_size = shape->checksum_size,
      .metadata_size = shape->metadata_size,
      .own = own,
      .ctx = ctx,
  };
  if (checking->kind == SLC__CHECKSUM_OWN && own == NULL) checking->kind = SLC__CHECKSUM_NONE;
}

static uint32_t crc32c_of(const struct slc__checking *checking, const struct slc__checked *checked,
                          const uint8_t *extra) {
  const uint64_t prefix[2] = {htole64(checked->size), htole64(checked->timestamp)};
  uint32_t crc = slc__crc32c(0, prefix, sizeof prefix);
  crc = slc__crc32c(crc, extra, checking->metadata_size);
  return slc__crc32c(crc, checked->payload, checked->size);
}

static void compute(const struct slc__checking *checking, const struct slc__checked *checked, const uint8_t *extra,
                    uint8_t ret_checksum[SLC__CHECKSUM_MAX]) {
  if (checking->kind == SLC__CHECKSUM_CRC32C) {
    uint32_t crc = htole32(crc32c_of(checking, checked, extra));
    memcpy(ret_checksum, &crc, sizeof crc);
  } else {
    memset(ret_checksum, 0, SLC__CHECKSUM_MAX); /* bytes that the callback leaves out are the same on both sides */
    checking->own(checking->ctx, checked->payload, checked->size, checking->metadata_size != 0 ? extra : NULL,
                  checking->metadata_size, ret_checksum, checking->checksum_size);
  }
}

void slc__checksum_write(const struct slc__checking *checking, const struct slc__checked *checked, uint8_t *extra) {
  uint8_t checksum[SLC__CHECKSUM_MAX];
  compute(checking, checked, extra, checksum);
  memcpy(extra + checking->metadata_size, checksum, checking->checksum_size);
}

bool slc__checksum_matches(const struct slc__checking *checking, const struct slc__checked *checked,
                           const uint8_t *extra) {
  uint8_t checksum[SLC__CHECKSUM_MAX];
  compute(checking, checked, extra, checksum);
  return memcmp(extra + checking->metadata_size, checksum, checking->checksum_size) == 0;
}

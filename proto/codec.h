/* The checked codec: bytes of a datagram to a message and back, limits first.
 *
 * Decoding refuses, before anything else looks at the message: more than SLC__NET_DATAGRAM_MAX bytes; more memory than
 * a fixed multiple of that (our own protobuf-c allocator counts); no body; strings that are not valid UTF-8, have
 * control characters or are longer than their limit; byte fields of the wrong length; more than SLC__CODEC_LIST_MAX
 * list entries; a manifest that does not have exactly one entry per received descriptor, or an unknown kind.  Thread:
 * any. */
#ifndef SLC__PROTO_CODEC_H
#define SLC__PROTO_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "shadow.pb-c.h"
#include "slotcast.pb-c.h"

#define SLC__PROTOCOL_MAJOR 1
#define SLC__PROTOCOL_MINOR 0
#define SLC__PROTOCOL_FEATURES UINT64_C(0)
#define SLC__SHADOW_MAJOR 1
#define SLC__SHADOW_MINOR 0
#define SLC__CODEC_NAME_MAX 255
#define SLC__CODEC_TEXT_MAX 1024
#define SLC__CODEC_LIST_MAX 4096
#define SLC__CODEC_MESSAGE_MAX (UINT32_C(128) * 1024)
/* Of a record that a shadow keeps. */
#define SLC__CODEC_KEY_MAX 64
#define SLC__CODEC_VALUE_MAX ((size_t)64 * 1024)
#define SLC__CODEC_RECORD_DESCRIPTORS_MAX 240

/* 0 and a message to be freed with slc__codec_free; SLC_PROTOCOL with slc__fail's sentence saying what is wrong;
 * SLC_NO_MEMORY. */
int slc__codec_decode(const void *data, size_t size, size_t descriptor_count, Slotcast__Message **ret_message);
void slc__codec_free(Slotcast__Message *message); /* takes NULL */
/* Fills buffer; the size, or SLC_TOO_LARGE (SLC__CODEC_MESSAGE_MAX or capacity). */
int slc__codec_encode(const Slotcast__Message *message, void *buffer, size_t capacity, size_t *ret_size);

/* The same for the protocol between a broker and its shadows: ShadowRecord.descriptors is its manifest. */
int slc__shadow_decode(const void *data, size_t size, size_t descriptor_count, Slotcast__ShadowMessage **ret_message);
void slc__shadow_free(Slotcast__ShadowMessage *message); /* takes NULL */
int slc__shadow_encode(const Slotcast__ShadowMessage *message, void *buffer, size_t capacity, size_t *ret_size);

/* The same for a message of any kind, with the checks of all fields and without those of a body and descriptors. */
int slc__codec_unpack(const ProtobufCMessageDescriptor *kind, const void *data, size_t size,
                      ProtobufCMessage **ret_message);
void slc__codec_release(ProtobufCMessage *message); /* takes NULL */
int slc__codec_pack(const ProtobufCMessage *message, void *buffer, size_t capacity, size_t *ret_size);

/* Channel names: 1..255 bytes of printable UTF-8 (no control characters), '/' separates non-empty levels; ".slotcast"
 * and ".slotcast/..." are reserved.  0 or SLC_NAME_INVALID with a sentence. */
int slc__channel_name_check(const char *name);
/* The same for who only reads: the channel of events is one more. */
int slc__channel_name_check_readable(const char *name);

#endif

/*
 * stream_tag.h: the ids of streams that this node chose, told from all others by a tag in them.
 *
 * Six bits of an id are a hash of the rest, under a key that is drawn at each start. The peer sends the
 * id back in each packet, so a packet whose id lacks the tag belongs to no stream of ours: a filter in
 * the kernel finds that out with one multiplication. It saves work and proves nothing: who was given an
 * id can send it as often as he likes, and who was given many can find the key.
 *
 * Source: udx.md 2: a packet begins with 0xff, and has the id in bytes 4 to 7, little-endian.
 */
#pragma once
#include "base/bytes.h"

#include <stdbool.h>

enum {
	OG_STREAM_BYTE = 0xff,
	OG_STREAM_ID_AT = 4,
	/* Of the id as a big-endian number, as the filter reads it: the top bits of its last byte. */
	OG_STREAM_TAG_MASK = 0xfc,
	OG_STREAM_TAG_SHIFT = 24, /* of the product */
};

static inline uint32_t og_stream_tag_of(uint32_t id_as_be, uint32_t key)
{
	return (id_as_be & ~(uint32_t)OG_STREAM_TAG_MASK) * key >> OG_STREAM_TAG_SHIFT &
	       OG_STREAM_TAG_MASK;
}

/* An id with its tag. `key` 0: there are no tags. */
static inline uint32_t og_stream_tag_put(uint32_t id, uint32_t key)
{
	const uint32_t be = __builtin_bswap32(id);

	if (key == 0)
		return id;
	return __builtin_bswap32((be & ~(uint32_t)OG_STREAM_TAG_MASK) | og_stream_tag_of(be, key));
}

/* Whether a datagram may belong to a stream of ours: all that do, and of noise one in 64. */
static inline bool og_stream_tag_fits(const uint8_t *data, size_t len_bytes, uint32_t key)
{
	uint32_t be;

	if (len_bytes == 0 || data[0] != OG_STREAM_BYTE)
		return false;
	if (key == 0)
		return true;
	if (len_bytes < OG_STREAM_ID_AT + 4)
		return false;
	be = __builtin_bswap32(og_load_le32(data + OG_STREAM_ID_AT));
	return (be & OG_STREAM_TAG_MASK) == og_stream_tag_of(be, key);
}

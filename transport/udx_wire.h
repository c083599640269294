/*
 * udx_wire.h: the UDX packet as bytes: its header, its flags, its selective blocks.
 *
 * Source:  UDX protocol version 1, udx.md 2, 3 and 6.
 * Units:   sizes are bytes of UDP payload; sequences count packets, modulo 2^32.
 * Threads: pure functions.
 */
#pragma once
#include "base/bytes.h"

enum {
	OG_UDX_MAGIC = 0xff,
	OG_UDX_VERSION = 1,
	OG_UDX_HEADER_BYTES = 20,
	OG_UDX_PACKET_MAX = 2048,
	OG_UDX_BLOCK_BYTES = 8,
	OG_UDX_BLOCKS_MAX = 50,
};

enum og_udx_flag {
	OG_UDX_DATA = 0x01,
	OG_UDX_END = 0x02,
	OG_UDX_SACK = 0x04,
	OG_UDX_MESSAGE = 0x08,
	OG_UDX_DESTROY = 0x10,
	OG_UDX_HEARTBEAT = 0x20,
};

struct og_udx_header {
	uint8_t flags;
	uint8_t data_offset; /* bytes between header and payload */
	uint32_t id;         /* chosen by the receiver of the packet */
	uint32_t window;     /* bytes the sender of the packet is willing to take */
	uint32_t seq;
	uint32_t ack; /* next sequence the sender of the packet expects */
};

/* Held by the receiver of the data: first <= seq < end. */
struct og_udx_block {
	uint32_t first;
	uint32_t end;
};

/* a - b of two sequences: above 0 when a comes after b. */
static inline int32_t og_seq_diff(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b);
}

/* False when it is not a UDX packet at all. The data offset is not checked against the length. */
static inline bool og_udx_decode(struct og_udx_header *h, const uint8_t *p, size_t len_bytes)
{
	if (len_bytes < OG_UDX_HEADER_BYTES || p[0] != OG_UDX_MAGIC || p[1] != OG_UDX_VERSION)
		return false;
	h->flags = p[2];
	h->data_offset = p[3];
	h->id = og_load_le32(p + 4);
	h->window = og_load_le32(p + 8);
	h->seq = og_load_le32(p + 12);
	h->ack = og_load_le32(p + 16);
	return true;
}

static inline void og_udx_encode(uint8_t p[OG_UDX_HEADER_BYTES], const struct og_udx_header *h)
{
	p[0] = OG_UDX_MAGIC;
	p[1] = OG_UDX_VERSION;
	p[2] = h->flags;
	p[3] = h->data_offset;
	og_store_le32(p + 4, h->id);
	og_store_le32(p + 8, h->window);
	og_store_le32(p + 12, h->seq);
	og_store_le32(p + 16, h->ack);
}

/*
 * How many selective blocks a packet carries. They fill the extension area, or with data offset 0
 * the whole rest of the packet (udx.md 3).
 */
static inline uint32_t og_udx_nb_blocks(const struct og_udx_header *h, size_t len_bytes)
{
	size_t area = len_bytes - OG_UDX_HEADER_BYTES;

	if (!(h->flags & OG_UDX_SACK))
		return 0;
	if (h->data_offset > 0 && h->data_offset < area)
		area = h->data_offset;
	return (uint32_t)OG_MIN(area / OG_UDX_BLOCK_BYTES, (size_t)OG_UDX_BLOCKS_MAX);
}

static inline struct og_udx_block og_udx_block_at(const uint8_t *packet, uint32_t idx)
{
	const uint8_t *p = packet + OG_UDX_HEADER_BYTES + (size_t)idx * OG_UDX_BLOCK_BYTES;

	return (struct og_udx_block){og_load_le32(p), og_load_le32(p + 4)};
}

static inline void og_udx_put_block(uint8_t *packet, uint32_t idx, struct og_udx_block b)
{
	uint8_t *p = packet + OG_UDX_HEADER_BYTES + (size_t)idx * OG_UDX_BLOCK_BYTES;

	og_store_le32(p, b.first);
	og_store_le32(p + 4, b.end);
}

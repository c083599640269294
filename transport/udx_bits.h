/*
 * udx_bits.h: one bit per sequence number of a window, in a ring.
 *
 * A window never spans more than OG_UDX_RING sequences, so a sequence modulo the ring names its
 * bit. Ranges are searched a word at a time.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum { OG_UDX_RING = 4096, OG_UDX_RING_MASK = OG_UDX_RING - 1 };

struct og_udx_bits {
	uint64_t words[OG_UDX_RING / 64];
};

static inline bool og_udx_bit(const struct og_udx_bits *b, uint32_t seq)
{
	uint32_t i = seq & OG_UDX_RING_MASK;

	return b->words[i / 64] >> (i % 64) & 1;
}

static inline void og_udx_bit_set(struct og_udx_bits *b, uint32_t seq)
{
	uint32_t i = seq & OG_UDX_RING_MASK;

	b->words[i / 64] |= 1ull << (i % 64);
}

static inline void og_udx_bit_clear(struct og_udx_bits *b, uint32_t seq)
{
	uint32_t i = seq & OG_UDX_RING_MASK;

	b->words[i / 64] &= ~(1ull << (i % 64));
}

/* First sequence in [seq, end) whose bit equals `value`, or end. */
static inline uint32_t og_udx_bits_next(
	const struct og_udx_bits *b, uint32_t seq, uint32_t end, bool value)
{
	uint64_t flip = value ? 0 : ~0ull;

	while (seq != end) {
		uint32_t i = seq & OG_UDX_RING_MASK;
		uint64_t word = (b->words[i / 64] ^ flip) >> (i % 64);
		uint32_t left = end - seq;
		uint32_t step = 64 - i % 64;

		if (word) {
			uint32_t skip = (uint32_t)__builtin_ctzll(word);

			return skip < left ? seq + skip : end;
		}
		if (left <= step)
			return end;
		seq += step;
	}
	return end;
}

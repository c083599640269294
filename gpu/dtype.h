/*
 * dtype.h: the element types of weights, plain and by blocks, and what their bytes mean.
 *
 * Q8_0 and Q4_0 are blocks of 32 values with one fp16 scale. The K types are blocks of 256 values
 * whose parts of 32 (Q6_K: of 16) have small integer scales, and Q4_K and Q5_K minima, below the
 * fp16 ones of the block.
 *
 * Source:  ggml's block layouts (ggml-common.h, ggml-quants.c).
 * Units:   n counts values, a whole number of blocks.
 * Threads: pure functions.
 */
#pragma once
#include "base/def.h"

#include <stdint.h>

enum og_dtype {
	OG_F32,
	OG_F16,
	OG_Q8_0,
	OG_BF16,
	OG_Q4_0,
	OG_Q4_K,
	OG_Q5_K,
	OG_Q6_K,
	OG_DTYPES,
	OG_F8_E4M3, /* in files only: matrices become BF16 as they arrive (fp8.h) */
};

enum {
	OG_Q8_0_VALUES = 32,
	OG_Q8_0_BYTES = 34, /* fp16 scale, 32 signed bytes */
	OG_Q4_0_VALUES = 32,
	OG_Q4_0_BYTES = 18, /* fp16 scale, 16 bytes: low nibbles are values 0 … 15 */
	OG_K_VALUES = 256,
	OG_K_PARTS = 8, /* of 32 values */
	OG_K_SCALES_BYTES = 12,
	OG_Q4_K_BYTES = 144, /* fp16 scale and minimum, 12 bytes of scales, 128 of nibbles */
	OG_Q5_K_BYTES = 176, /* the same, with 32 bytes of fifth bits before the nibbles */
	OG_Q6_K_BYTES =
		210, /* 128 bytes of nibbles, 64 of upper bits, 16 signed scales, fp16 scale */
};

/* Bytes of `n` values. */
uint64_t og_dtype_bytes(enum og_dtype type, uint64_t n);
/* Values of one block; 1 for plain types. */
uint32_t og_dtype_values(enum og_dtype type);
const char *og_dtype_name(enum og_dtype type);

/* The 6-bit scale and minimum of part `part` in the scales of a Q4_K or Q5_K block. */
static inline void og_k_scale(
	const uint8_t *scales, uint32_t part, uint8_t *scale, uint8_t *minimum)
{
	const uint8_t *at = scales + part % 4;

	if (part < 4) {
		*scale = at[0] & 63;
		*minimum = at[4] & 63;
	} else {
		*scale = (uint8_t)((at[8] & 15) | at[0] >> 6 << 4);
		*minimum = (uint8_t)(at[8] >> 4 | at[4] >> 6 << 4);
	}
}

/* The plain values of `n` elements at `data`. */
void og_dequantize(enum og_dtype type, const uint8_t *data, uint32_t n, float *out);

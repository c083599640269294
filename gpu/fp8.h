/*
 * fp8.h: e4m3, the 8-bit float without infinities: 4 bits of exponent, 3 of mantissa, one NaN of each
 * sign. It reaches from 2^-9 to 448.
 *
 * Source:  OCP 8-bit Floating Point Specification 1.0, E4M3.
 * Threads: pure functions.
 */
#pragma once
#include "gpu/half.h"

#define OG_E4M3_MAX 448.0f
enum { OG_E4M3_NAN = 0x7f };

static inline float og_e4m3_to_f32(uint8_t code)
{
	uint32_t sign = (uint32_t)(code & 0x80) << 24, rest = code & 0x7f;

	if (rest == OG_E4M3_NAN)
		return og_f32_from_bits(sign | 0x7fc00000);
	if (rest >= 8)
		return og_f32_from_bits(sign | ((rest << 20) + ((127u - 7) << 23)));
	/* zero and subnormals: multiples of 2^-9 */
	return og_f32_from_bits(sign | og_f32_bits((float)rest * 0x1p-9f));
}

/* Rounds to nearest even; what is beyond the largest, infinity too, becomes the largest. */
static inline uint8_t og_f32_to_e4m3(float f)
{
	uint32_t bits = og_f32_bits(f);
	uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
	uint32_t rest = bits & 0x7fffffff;

	if (rest > 0x7f800000)
		return OG_E4M3_NAN;
	if (rest >= og_f32_bits(OG_E4M3_MAX))
		return sign | 0x7e;
	if (rest < og_f32_bits(0x1p-6f)) { /* let the adder round to a multiple of 2^-9 */
		uint32_t sum = og_f32_bits(og_f32_from_bits(rest) + 0x1p14f);

		return (uint8_t)(sign | (sum - og_f32_bits(0x1p14f)));
	}
	rest += 0x7ffff + (rest >> 20 & 1);
	return (uint8_t)(sign | ((rest - ((127u - 7) << 23)) >> 20));
}

/*
 * What the scale of a row of weights is: its largest value becomes the largest code. Values are
 * divided by it, or are all zero where it is 0. NaN where one of them is no finite number.
 */
static inline float og_e4m3_row_scale(const float *x, uint32_t n)
{
	float sum = 0, largest = 0;

	for (uint32_t i = 0; i < n; i++) {
		float size = og_f32_from_bits(og_f32_bits(x[i]) & 0x7fffffff);

		sum += x[i] - x[i]; /* 0, or NaN from then on */
		largest = size > largest ? size : largest;
	}
	return largest / OG_E4M3_MAX + sum;
}

/*
 * What the scale of a key or a value of one head is: the least power of two that fits, so that codes
 * times it are exact in fp16. Larger values than that allows saturate.
 */
#define OG_E4M3_KV_MAX (128 * OG_E4M3_MAX)
static inline float og_e4m3_kv_scale(const float *x, uint32_t n)
{
	float largest = 0, scale = 0x1p-24f;

	for (uint32_t i = 0; i < n; i++) {
		float size = og_f32_from_bits(og_f32_bits(x[i]) & 0x7fffffff);

		largest = size > largest ? size : largest;
	}
	largest = largest < OG_E4M3_KV_MAX ? largest : OG_E4M3_KV_MAX;
	while (scale * OG_E4M3_MAX < largest)
		scale *= 2;
	return scale;
}

/*
 * half.h: conversions of 16-bit floats, plain and exact.
 *
 * Source:  IEEE 754 binary16; bfloat16 is the upper half of binary32.
 */
#pragma once
#include <stdint.h>
#include <string.h>

static inline float og_f32_from_bits(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline uint32_t og_f32_bits(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static inline float og_bf16_to_f32(uint16_t h)
{
	return og_f32_from_bits((uint32_t)h << 16);
}

static inline float og_f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t rest = h & 0x7fff;

	if (rest >= 0x7c00) /* infinity, NaN */
		return og_f32_from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
	if (rest >= 0x0400)
		return og_f32_from_bits(sign | ((rest << 13) + ((127u - 15) << 23)));
	/* zero and subnormals: multiples of 2^-24 */
	return og_f32_from_bits(sign | og_f32_bits((float)rest * 0x1p-24f));
}

/* Rounds to nearest even; overflow becomes infinity. */
static inline uint16_t og_f32_to_f16(float f)
{
	uint32_t bits = og_f32_bits(f);
	uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
	uint32_t rest = bits & 0x7fffffff;

	if (rest > 0x7f800000)
		return sign | 0x7e00;
	if (rest >= 0x477ff000) /* 65520 and above round to infinity */
		return sign | 0x7c00;
	if (rest < 0x38800000) { /* below 2^-14: let the adder round to a multiple of 2^-24 */
		uint32_t sum = og_f32_bits(og_f32_from_bits(rest) + 0.5f);

		return (uint16_t)(sign | (sum - og_f32_bits(0.5f)));
	}
	rest += 0xfff + (rest >> 13 & 1);
	return (uint16_t)(sign | ((rest - ((127u - 15) << 23)) >> 13));
}

static inline uint16_t og_f32_to_bf16(float f)
{
	uint32_t bits = og_f32_bits(f);

	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

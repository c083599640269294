/*
 * draw.h: how a token is drawn from logits, in operations that give the same bits on every processor.
 *
 * A candidate weighs 2^40 * 2^((logit - largest) * scale), computed with one float subtraction, one
 * float product and integers from there on, so sums are exact in whatever order they are taken. What
 * weighs less than 1 is never drawn. Candidates are ranked by logit, equal ones by id: top-k keeps
 * the first k, top-p of those the fewest that have its share, min-p of those the heavy enough ones;
 * the draw walks what is left in the order of the ids.
 *
 * Compiles as C11 and C++17, for the host and for devices.
 */
#pragma once
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define OG_DRAW_FN static __host__ __device__ __forceinline__
#else
#define OG_DRAW_FN static inline
#endif

#define OG_DRAW_ALL UINT32_MAX /* no limit, of top_k and top_p */

/* Parameters of one draw; made by og_draw_init(). */
struct og_draw {
	uint64_t random;     /* of the request's seed and the token's position */
	uint64_t weight_min; /* of min-p */
	float scale;         /* log2(e) / temperature; 0: the largest logit is taken */
	uint32_t top_k;
	uint32_t top_p; /* in units of 2^-32 */
};

/*
 * 2^40 * 2^y for y = (logit - max) * scale. Neither NaN nor -infinity weighs anything. The error of
 * the polynomial is 1.1e-8 of the weight.
 */
OG_DRAW_FN uint64_t og_draw_weight(float logit, float max, float scale)
{
	float y = (logit - max) * scale;
	uint32_t fixed, t, r;

	if (!(y >= -40))
		return 0;
	fixed = (uint32_t)(y * -0x1p26f);
	t = fixed << 6; /* the fraction, in 2^-32 */
	r = 0x00078809;
	r = 0x0054a612 - (uint32_t)((uint64_t)r * t >> 32);
	r = 0x0274f388 - (uint32_t)((uint64_t)r * t >> 32);
	r = 0x0e353290 - (uint32_t)((uint64_t)r * t >> 32);
	r = 0x3d7f7506 - (uint32_t)((uint64_t)r * t >> 32);
	r = 0xb17217df - (uint32_t)((uint64_t)r * t >> 32);
	return ((1ull << 32) - ((uint64_t)r * t >> 32)) << 8 >> (fixed >> 26);
}

/* Grows with the logit; 0 for what is no candidate: NaN and -infinity. */
OG_DRAW_FN uint32_t og_draw_key(float logit)
{
	uint32_t bits;

	if (!(logit >= -3.402823466e38f))
		return 0;
	logit += 0.0f; /* -0 is 0 */
	memcpy(&bits, &logit, sizeof(bits));
	return bits >> 31 ? ~bits : bits | 1u << 31;
}

/* The upper half of a product. */
OG_DRAW_FN uint64_t og_draw_part(uint64_t a, uint64_t b)
{
	uint64_t a_low = (uint32_t)a, a_high = a >> 32, b_low = (uint32_t)b, b_high = b >> 32;
	uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
	uint64_t other = a_low * b_high + (uint32_t)middle;

	return a_high * b_high + (middle >> 32) + (other >> 32);
}

/* What the best candidates must weigh together to be top-p's share of `total`. */
OG_DRAW_FN uint64_t og_draw_share(uint64_t total, uint32_t top_p)
{
	uint64_t share = og_draw_part(total, (uint64_t)top_p << 32);

	return share > 0 ? share : 1;
}

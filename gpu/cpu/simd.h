/*
 * simd.h: vectors of the instruction set that the file is compiled for, chosen by OG_ISA_*.
 *
 * Products and sums are fused only where vf_fma() says so (the build turns contraction off), so the
 * order of rounding is what the code says.
 *
 * Source:  GCC vector extensions; Intel intrinsics for conversions and fused products.
 */
#pragma once
#include "gpu/half.h"

#if defined(OG_ISA_AVX512)
enum { LANES = 16 };
#define OG_ISA avx512
#elif defined(OG_ISA_AVX2)
enum { LANES = 8 };
#define OG_ISA avx2
#else
enum { LANES = 4 };
#define OG_ISA generic
#endif

/* prefix ## the name of the instruction set */
#define OG_OF_ISA(prefix) OG_JOIN(prefix, OG_ISA)
#define OG_JOIN(prefix, isa) OG_JOIN_NAMES(prefix, isa)
#define OG_JOIN_NAMES(prefix, isa) prefix##isa

#if defined(OG_ISA_AVX512) || defined(OG_ISA_AVX2)
#include <immintrin.h>
#endif

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint8_t vb __attribute__((vector_size(32))); /* small integers of a block, to be widened */
typedef float v8 __attribute__((vector_size(32)));   /* one for each part of a K block */
typedef int32_t v8i __attribute__((vector_size(32)));
typedef int16_t vh __attribute__((vector_size(4 * LANES)));     /* a pair in each lane */
typedef int16_t v_half __attribute__((vector_size(2 * LANES))); /* one in each lane, narrow */

static inline vf vf_load(const float *p)
{
	vf v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void vf_store(float *p, vf v)
{
	memcpy(p, &v, sizeof(v));
}

static inline vf vf_set(float x)
{
	return (vf){0} + x;
}

static inline float vf_sum(vf v)
{
	float lanes[LANES];

	vf_store(lanes, v);
	for (int width = LANES / 2; width > 0; width /= 2)
		for (int i = 0; i < width; i++)
			lanes[i] += lanes[i + width];
	return lanes[0];
}

static inline vf vf_max(vf a, vf b)
{
	vi take_a = a > b;

	return (vf)(((vi)a & take_a) | ((vi)b & ~take_a));
}

/* The largest lane of what is not NaN. */
static inline float vf_top(vf v)
{
	float lanes[LANES];

	vf_store(lanes, v);
	for (int width = LANES / 2; width > 0; width /= 2)
		for (int i = 0; i < width; i++)
			lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
	return lanes[0];
}

static inline vi vi_load(const void *p)
{
	vi v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline vi vi_set(int32_t x)
{
	return (vi){0} + x;
}

static inline int32_t vi_sum(vi v)
{
	int32_t total = 0;

	for (int i = 0; i < LANES; i++)
		total += v[i];
	return total;
}

/* The nibbles 4 * which bits up in each of the 16-bit integers at `p`. */
static inline vh vh_nibbles(const void *p, int which)
{
	typedef uint16_t vu __attribute__((vector_size(4 * LANES)));
	vu shifted = (vu)vi_load(p) >> (4 * which);

	return (vh)(which == 3 ? shifted : shifted & 15);
}

/* `count` bits from bit `shift` on of each 16-bit integer, at bit 4 of it. */
static inline vh vh_bits_at_4(vh bits, int shift, int count)
{
	typedef uint16_t vu __attribute__((vector_size(4 * LANES)));
	vu there = shift < 4 ? (vu)bits << (4 - shift) : (vu)bits >> (shift - 4);

	return (vh)(there & (uint16_t)(((1 << count) - 1) << 4));
}

/* Lanes that fit 16 bits. */
static inline void vi_store16(int16_t *p, vi v)
{
	v_half narrow = __builtin_convertvector(v, v_half);

	memcpy(p, &narrow, sizeof(narrow));
}

#if defined(OG_ISA_AVX512)

static inline vh vh_load8(const void *p)
{
	return (vh)_mm512_cvtepi8_epi16(_mm256_loadu_si256(p));
}

/*
 * In each lane of sum, plus the products of the pairs. It is an operation that the compiler cannot put
 * off: left to itself it multiplies ahead and runs out of registers.
 */
static inline vi vi_add_dot(vi sum, vh a, vh b)
{
	sum += (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
	__asm__("" : "+v"(sum));
	return sum;
}

static inline vf vf_fma(vf a, vf b, vf c)
{
	return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

static inline vf vf_load_f16(const void *p)
{
	return (vf)_mm512_cvtph_ps(_mm256_loadu_si256(p));
}

static inline vf vf_load_bf16(const void *p)
{
	return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16);
}

static inline void vf_store_f16(uint16_t *p, vf v)
{
	_mm256_storeu_si256((void *)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}

static inline float f16_scale(const void *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return _cvtsh_ss(h);
}

#elif defined(OG_ISA_AVX2)

static inline vh vh_load8(const void *p)
{
	return (vh)_mm256_cvtepi8_epi16(_mm_loadu_si128(p));
}

static inline vi vi_add_dot(vi sum, vh a, vh b)
{
	sum += (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
	__asm__("" : "+x"(sum));
	return sum;
}

static inline vf vf_fma(vf a, vf b, vf c)
{
	return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

static inline vf vf_load_f16(const void *p)
{
	return (vf)_mm256_cvtph_ps(_mm_loadu_si128(p));
}

static inline vf vf_load_bf16(const void *p)
{
	return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16);
}

static inline void vf_store_f16(uint16_t *p, vf v)
{
	_mm_storeu_si128((void *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}

static inline float f16_scale(const void *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return _cvtsh_ss(h);
}

#else

/* Pairs of bytes, widened. */
static inline vh vh_load8(const void *p)
{
	int8_t b[2 * LANES];
	vh v;

	memcpy(b, p, sizeof(b));
	for (int i = 0; i < 2 * LANES; i++)
		v[i] = b[i];
	return v;
}

static inline vi vi_add_dot(vi sum, vh a, vh b)
{
	return sum + ((vi)a << 16 >> 16) * ((vi)b << 16 >> 16) + ((vi)a >> 16) * ((vi)b >> 16);
}

static inline vf vf_fma(vf a, vf b, vf c)
{
	return a * b + c;
}

static inline vf vf_load_f16(const void *p)
{
	uint16_t h[LANES];
	vf v;

	memcpy(h, p, sizeof(h));
	for (int i = 0; i < LANES; i++)
		v[i] = og_f16_to_f32(h[i]);
	return v;
}

static inline vf vf_load_bf16(const void *p)
{
	uint16_t h[LANES];
	vf v;

	memcpy(h, p, sizeof(h));
	for (int i = 0; i < LANES; i++)
		v[i] = og_bf16_to_f32(h[i]);
	return v;
}

static inline void vf_store_f16(uint16_t *p, vf v)
{
	for (int i = 0; i < LANES; i++)
		p[i] = og_f32_to_f16(v[i]);
}

static inline float f16_scale(const void *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return og_f16_to_f32(h);
}

#endif

/*
 * 32 small integers of a row, widened to 16 bits and multiplied with 32 activations: LANES partial
 * sums, exact. q_dot_halves() scales the sums of values 0 … 15 and of 16 … 31 apart and adds them.
 */
#if defined(OG_ISA_AVX512)

typedef __m512i q_block;

static inline q_block q_widen(const vb *values)
{
	return _mm512_cvtepi8_epi16((__m256i)*values);
}

static inline vf q_dot(q_block w, const int16_t *x)
{
	return (vf)_mm512_cvtepi32_ps(_mm512_madd_epi16(w, _mm512_loadu_si512((const void *)x)));
}

static inline vf q_dot_halves(q_block w, const int16_t *x, float low, float high, vf sum)
{
	__m512 scale = _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(low), _mm512_set1_ps(high));

	return vf_fma(q_dot(w, x), (vf)scale, sum);
}

#elif defined(OG_ISA_AVX2)

typedef struct {
	__m256i half[2];
} q_block;

static inline q_block q_widen(const vb *values)
{
	return (q_block){{
		_mm256_cvtepi8_epi16(_mm256_castsi256_si128((__m256i)*values)),
		_mm256_cvtepi8_epi16(_mm256_extracti128_si256((__m256i)*values, 1)),
	}};
}

static inline __m256i q_madd(q_block w, const int16_t *x, int half)
{
	return _mm256_madd_epi16(w.half[half], _mm256_loadu_si256((const void *)(x + 16 * half)));
}

static inline vf q_dot(q_block w, const int16_t *x)
{
	return (vf)_mm256_cvtepi32_ps(_mm256_add_epi32(q_madd(w, x, 0), q_madd(w, x, 1)));
}

static inline vf q_dot_halves(q_block w, const int16_t *x, float low, float high, vf sum)
{
	sum = vf_fma((vf)_mm256_cvtepi32_ps(q_madd(w, x, 0)), vf_set(low), sum);
	return vf_fma((vf)_mm256_cvtepi32_ps(q_madd(w, x, 1)), vf_set(high), sum);
}

#else

typedef struct {
	int8_t v[32];
} q_block;

static inline q_block q_widen(const vb *values)
{
	q_block b;

	memcpy(b.v, values, sizeof(b.v));
	return b;
}

static inline vf q_half(const q_block *w, const int16_t *x, int half)
{
	vi sum = {0};

	for (int i = 16 * half; i < 16 * half + 16; i++)
		sum[i % LANES] += w->v[i] * x[i];
	return __builtin_convertvector(sum, vf);
}

static inline vf q_dot(q_block w, const int16_t *x)
{
	return q_half(&w, x, 0) + q_half(&w, x, 1);
}

static inline vf q_dot_halves(q_block w, const int16_t *x, float low, float high, vf sum)
{
	return q_half(&w, x, 1) * high + (q_half(&w, x, 0) * low + sum);
}

#endif

static inline void vb_load(vb *v, const uint8_t *p)
{
	memcpy(v, p, sizeof(*v));
}

/* e^x to about 1 ulp for x in [-87, 88]; outside it is clamped. */
static inline vf vf_exp(vf x)
{
	const vf magic = vf_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
	vf n, r, p;
	vi exponent;

	x = vf_max(x, vf_set(-87.0f));
	x = -vf_max(-x, vf_set(-88.0f));
	n = vf_fma(x, vf_set(1.44269504f), magic) - magic;
	r = vf_fma(n, vf_set(-0.693359375f), x);
	r = vf_fma(n, vf_set(2.12194440e-4f), r);
	/* Taylor to degree 6 on |r| <= ln(2)/2. */
	p = vf_fma(r, vf_set(1.0f / 720), vf_set(1.0f / 120));
	p = vf_fma(p, r, vf_set(1.0f / 24));
	p = vf_fma(p, r, vf_set(1.0f / 6));
	p = vf_fma(p, r, vf_set(0.5f));
	p = vf_fma(p, r, vf_set(1.0f));
	p = vf_fma(p, r, vf_set(1.0f));
	exponent = (__builtin_convertvector(n, vi) + 127) << 23;
	return p * (vf)exponent;
}

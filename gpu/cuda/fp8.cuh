/*
 * fp8.cuh: e4m3 on the device. What is read becomes bf16 or fp16, which hold all of its values: the
 * bits of a code, moved to where those formats have them, are a value that is too small by a power of
 * two. That is for codes that are numbers: NaN is never written.
 *
 * Reference: gpu/fp8.h, the same bits.
 */
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <stdint.h>

#define OG_E4M3_MAX 448.0f
#define OG_E4M3_KV_MAX (128 * OG_E4M3_MAX)

struct e4m3 {
	uint8_t code;
};

__device__ __forceinline__ e4m3 to_e4m3(float v)
{
	return {__nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3)};
}

/* Codes `first` and `first` + 1 of four, in the upper bytes of two halves. */
template <int FIRST> __device__ __forceinline__ uint32_t spread_codes(uint32_t four)
{
	return __byte_perm(four, 0, FIRST == 0 ? 0x1404 : 0x3424);
}

__device__ __forceinline__ uint32_t scale_bf16(uint32_t pair, uint32_t by)
{
	__nv_bfloat162 v = __hmul2(*(__nv_bfloat162 *)&pair, *(__nv_bfloat162 *)&by);

	return *(uint32_t *)&v;
}

__device__ __forceinline__ uint32_t scale_f16(uint32_t pair, __half2 by)
{
	__half2 v = __hmul2(*(__half2 *)&pair, by);

	return *(uint32_t *)&v;
}

/* Four codes, as pairs. */
__device__ __forceinline__ uint2 e4m3_to_bf16(uint32_t four)
{
	uint32_t lo = spread_codes<0>(four), hi = spread_codes<2>(four),
		 by = 0x7b807b80; /* 2^120 */

	return make_uint2(scale_bf16((lo & 0x80008000) | (lo >> 4 & 0x07f007f0), by),
		scale_bf16((hi & 0x80008000) | (hi >> 4 & 0x07f007f0), by));
}

/* Four codes, as pairs, times 2^-8 * `by`. */
__device__ __forceinline__ uint2 e4m3_to_f16(uint32_t four, __half2 by)
{
	uint32_t lo = spread_codes<0>(four), hi = spread_codes<2>(four);

	return make_uint2(scale_f16((lo & 0x80008000) | (lo >> 1 & 0x3f803f80), by),
		scale_f16((hi & 0x80008000) | (hi >> 1 & 0x3f803f80), by));
}

/* The least power of two, from 2^-24 on, that makes `largest` at most 448. */
__device__ __forceinline__ float kv_scale(float largest)
{
	uint32_t bits = __float_as_uint(fminf(largest, OG_E4M3_KV_MAX));
	/* 448 is 1.75 * 2^8 */
	int exponent = (int)(bits >> 23) - 127 - 8 + ((bits & 0x7fffff) > 0x600000);

	return __uint_as_float((uint32_t)(max(exponent, -24) + 127) << 23);
}

/* Always a number: a masked key must not turn into NaN when it is multiplied by zero. */
__device__ __forceinline__ e4m3 to_e4m3_of_kv(float v, float scale)
{
	return to_e4m3(__fdiv_rn(fminf(fmaxf(v, -OG_E4M3_KV_MAX), OG_E4M3_KV_MAX), scale));
}

/* What becomes the largest code of a row of weights is its largest value; NaN where one is no number. */
__device__ __forceinline__ float row_scale(float largest, bool is_finite)
{
	return is_finite ? __fdiv_rn(largest, OG_E4M3_MAX) : NAN;
}

__device__ __forceinline__ e4m3 to_e4m3_of_row(float v, float scale)
{
	return to_e4m3(scale > 0 ? __fdiv_rn(v, scale) : 0);
}

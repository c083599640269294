/*
 * mma.cuh: steps of a sum on the tensor core, and what becomes of the sum.
 *
 * A step of 32 values along the summed dimension is two mma.m16n8k16. Which of the 32 goes to which
 * place in them does not matter as long as both operands agree, so each lane takes 8 consecutive
 * values (16 bytes) of its row: the first four for the first mma, the others for the second.
 */
#pragma once
#include "gpu/cuda/ptx.cuh"
#include "gpu/cuda/shapes.h"

/* d += a * b; a: 16 rows, b: 8 columns. `lo` and `hi` are rows lane/4 and lane/4 + 8 of a. */
__device__ __forceinline__ void mma_bf16_k32(float d[4], uint4 lo, uint4 hi, uint4 b)
{
	mma_bf16(d, lo.x, hi.x, lo.y, hi.y, b.x, b.y);
	mma_bf16(d, lo.z, hi.z, lo.w, hi.w, b.z, b.w);
}

__device__ __forceinline__ void mma_f16_k32(float d[4], uint4 lo, uint4 hi, uint4 b)
{
	mma_f16(d, lo.x, hi.x, lo.y, hi.y, b.x, b.y);
	mma_f16(d, lo.z, hi.z, lo.w, hi.w, b.z, b.w);
}

/* The first step of run `slice` of `steps`. */
__device__ __forceinline__ uint32_t slice_begin(uint32_t slice, uint32_t steps)
{
	return slice * steps / OG_CUDA_SLICES;
}

/* Has this epilogue pairs of gate and up? */
__device__ __forceinline__ bool is_gated(int epilogue)
{
	return epilogue >= OG_CUDA_SWIGLU;
}

/* gelu(x), by tanh, is x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)). */
__device__ __forceinline__ float gated(float gate, float up, int epilogue)
{
	float x = gate;

	if (epilogue == OG_CUDA_GEGLU)
		x = 1.5957691216f * gate * __fmaf_rn(0.044715f * gate, gate, 1.0f);
	return __fmul_rn(__fdividef(gate, 1.0f + __expf(-x)), up);
}

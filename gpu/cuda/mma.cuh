/*
 * mma.cuh: the tensor core, asynchronous copies, and exact float operations.
 *
 * A step of 32 values along the summed dimension is two mma.m16n8k16. Which of the 32 goes to which
 * place in them does not matter as long as both operands agree, so each lane takes 8 consecutive
 * values (16 bytes) of its row: the first four for the first mma, the others for the second.
 */
#pragma once
#include "shapes.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

/* d += a * b; a: 16 rows, b: 8 columns. `lo` and `hi` are rows lane/4 and lane/4 + 8 of a. */
__device__ __forceinline__ void mma_bf16_k32(float d[4], uint4 lo, uint4 hi, uint4 b)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(lo.x), "r"(hi.x), "r"(lo.y), "r"(hi.y), "r"(b.x), "r"(b.y));
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(lo.z), "r"(hi.z), "r"(lo.w), "r"(hi.w), "r"(b.z), "r"(b.w));
}

__device__ __forceinline__ void mma_f16(
	float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
		     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_f16_k32(float d[4], uint4 lo, uint4 hi, uint4 b)
{
	mma_f16(d, lo.x, hi.x, lo.y, hi.y, b.x, b.y);
	mma_f16(d, lo.z, hi.z, lo.w, hi.w, b.z, b.w);
}

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* 16 bytes to shared memory; zeros where `from` is not to be read. */
__device__ __forceinline__ void copy_async(void *to, const void *from, bool is_there)
{
	asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(
			     shared_address(to)),
		"l"(from), "r"(is_there ? 16 : 0)
		: "memory");
}

__device__ __forceinline__ void copy_commit()
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> __device__ __forceinline__ void copy_wait()
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Weights pass once: they shall not push activations out of the first-level cache. */
__device__ __forceinline__ uint4 load_weights(const void *p)
{
	uint4 v;

	asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(p));
	return v;
}

/* The first step of run `slice` of `steps`. */
__device__ __forceinline__ uint32_t slice_begin(uint32_t slice, uint32_t steps)
{
	return slice * steps / OG_CUDA_SLICES;
}

__device__ __forceinline__ float swiglu(float gate, float up)
{
	return __fmul_rn(__fdividef(gate, 1.0f + __expf(-gate)), up);
}

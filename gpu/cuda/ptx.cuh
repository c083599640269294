/*
 * ptx.cuh: single instructions that C++ has no word for: the tensor core, asynchronous copies, loads,
 * and what orders the memory of blocks.
 *
 * All inline assembly of the kernels is here, so that tests can run them on the host with another
 * file of this name (tests/gpu/host).
 *
 * Source:  PTX ISA 8; fragments of a matrix are laid out as it draws them.
 */
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

/* d += a * b; a: 16 rows of 16, b: 8 columns of 16. */
__device__ __forceinline__ void mma_bf16(
	float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_f16(
	float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
		     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8 x 8 matrices, transposed; `row` is where one of their 32 rows lies, in shared memory. */
__device__ __forceinline__ void load_matrices_transposed(uint32_t out[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
		     : "r"(shared_address(row))
		     : "memory");
}

/* 16 bytes to shared memory; zeros where `from` is not to be read. */
__device__ __forceinline__ void copy_async(void *to, const void *from, bool is_there)
{
	asm volatile(
		"cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
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

/* The line of `p` to the second-level cache. */
__device__ __forceinline__ void prefetch(const void *p)
{
	asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* What this thread and, through a barrier, its block wrote is there for who sees the sum. */
__device__ __forceinline__ void add_release(uint32_t *p, uint32_t n)
{
	asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(n) : "memory");
}

/* The other side of it; also what a first-level cache holds is read anew from here on. */
__device__ __forceinline__ uint32_t load_acquire(const uint32_t *p)
{
	uint32_t v;

	asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
	return v;
}

/* Both at once. Returns what was there. */
__device__ __forceinline__ uint32_t add_acq_rel(uint32_t *p, uint32_t n)
{
	uint32_t v;

	asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
		     : "=r"(v)
		     : "l"(p), "r"(n)
		     : "memory");
	return v;
}

/* Of this processor. */
__device__ __forceinline__ uint64_t clock_now()
{
	uint64_t t;

	asm volatile("mov.u64 %0, %%clock64;" : "=l"(t)::"memory");
	return t;
}

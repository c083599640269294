/*
 * og_cuda_host.h: CUDA C++ for a host compiler: what nvcc knows by itself and these kernels use. It is
 * included before anything else; types and conversions are NVIDIA's own.
 */
#pragma once
#include "tests/gpu/host/executor.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <vector_functions.h>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
/* Static in a function and possible with extern; the executor fills and swaps it for each block. */
#define __shared__ thread_local

/* Of the thread that runs. */
extern "C" {
extern struct og_host_idx threadIdx, blockIdx, blockDim, gridDim;
}

/* ---- Meeting others. ---- */

static inline void __syncthreads(int line = __builtin_LINE())
{
	og_host_barrier(line);
}

static inline void __syncwarp(uint32_t mask = ~0u, int line = __builtin_LINE())
{
	og_host_meet(
		mask, "__syncwarp", line, [](void *const *, uint32_t) {}, nullptr);
}

template <class T> struct og_host_shuffle {
	T value, got;
	int from; /* lane */
};

template <class T> static void og_host_exchange(void *const of[OG_HOST_WARP], uint32_t mask)
{
	for (int i = 0; i < OG_HOST_WARP; i++) {
		auto s = static_cast<og_host_shuffle<T> *>(of[i]);

		if (!(mask >> i & 1))
			continue;
		if (!(mask >> s->from & 1))
			og_host_fail("lane %d reads from lane %d, which is not in mask %#x", i,
				s->from, mask);
		s->got = static_cast<og_host_shuffle<T> *>(of[s->from])->value;
	}
}

/* `to` is beyond the lane's segment: then it keeps its own. */
template <class T>
static inline T og_host_shuffle_from(
	uint32_t mask, T v, int from, int width, const char *name, int line)
{
	int lane = (int)og_host_lane();
	bool in_segment = from >= lane / width * width && from < (lane / width + 1) * width;
	og_host_shuffle<T> s = {v, v, in_segment ? from : lane};

	og_host_meet(mask, name, line, og_host_exchange<T>, &s);
	return s.got;
}

template <class T>
static inline T __shfl_xor_sync(
	uint32_t mask, T v, int with, int width = 32, int line = __builtin_LINE())
{
	int from = (int)og_host_lane() ^ with;

	return og_host_shuffle_from(mask, v, from, width, "__shfl_xor_sync", line);
}

template <class T>
static inline T __shfl_down_sync(
	uint32_t mask, T v, unsigned by, int width = 32, int line = __builtin_LINE())
{
	int from = (int)(og_host_lane() + by);

	return og_host_shuffle_from(mask, v, from, width, "__shfl_down_sync", line);
}

template <class T>
static inline T __shfl_up_sync(
	uint32_t mask, T v, unsigned by, int width = 32, int line = __builtin_LINE())
{
	int from = (int)(og_host_lane() - by);

	return og_host_shuffle_from(mask, v, from, width, "__shfl_up_sync", line);
}

template <class T>
static inline T __shfl_sync(
	uint32_t mask, T v, int from, int width = 32, int line = __builtin_LINE())
{
	int lane = (int)og_host_lane();

	from = lane / width * width + (from & (width - 1));
	return og_host_shuffle_from(mask, v, from, width, "__shfl_sync", line);
}

/* One value of the whole mask, from those of its lanes. */
template <class T, class Join>
static inline T og_host_reduce(uint32_t mask, T v, const char *name, int line, Join)
{
	og_host_meet(
		mask, name, line,
		[](void *const of[OG_HOST_WARP], uint32_t lanes) {
			int first = __builtin_ctz(lanes);
			T all = *static_cast<T *>(of[first]);

			for (int i = first + 1; i < OG_HOST_WARP; i++)
				if (lanes >> i & 1)
					all = Join::join(all, *static_cast<T *>(of[i]));
			for (int i = first; i < OG_HOST_WARP; i++)
				if (lanes >> i & 1)
					*static_cast<T *>(of[i]) = all;
		},
		&v);
	return v;
}

struct og_host_add {
	template <class T> static T join(T a, T b)
	{
		return a + b;
	}
};
struct og_host_min {
	template <class T> static T join(T a, T b)
	{
		return b < a ? b : a;
	}
};
struct og_host_max {
	template <class T> static T join(T a, T b)
	{
		return a < b ? b : a;
	}
};
struct og_host_or {
	template <class T> static T join(T a, T b)
	{
		return a | b;
	}
};
struct og_host_and {
	template <class T> static T join(T a, T b)
	{
		return a & b;
	}
};

#define OG_HOST_REDUCE(op)                                                                         \
	template <class T>                                                                         \
	static inline T __reduce_##op##_sync(uint32_t mask, T v, int line = __builtin_LINE())      \
	{                                                                                          \
		return og_host_reduce(mask, v, "__reduce_" #op "_sync", line, og_host_##op());     \
	}
OG_HOST_REDUCE(add)
OG_HOST_REDUCE(min)
OG_HOST_REDUCE(max)
OG_HOST_REDUCE(or)
OG_HOST_REDUCE(and)

static inline uint32_t __ballot_sync(uint32_t mask, int v, int line = __builtin_LINE())
{
	return og_host_reduce(
		mask, (v ? 1u : 0) << og_host_lane(), "__ballot_sync", line, og_host_or());
}

static inline int __any_sync(uint32_t mask, int v, int line = __builtin_LINE())
{
	return og_host_reduce(mask, v ? 1 : 0, "__any_sync", line, og_host_or());
}

static inline int __all_sync(uint32_t mask, int v, int line = __builtin_LINE())
{
	return og_host_reduce(mask, v ? 1 : 0, "__all_sync", line, og_host_and());
}

static inline int __syncthreads_or(int v, int line = __builtin_LINE())
{
	static thread_local int all;

	og_host_barrier(line);
	all = 0;
	og_host_barrier(line);
	all |= v ? 1 : 0;
	og_host_barrier(line);
	return all;
}

/* ---- Memory: fibers are switched only where they wait, so all of these are whole. ---- */

template <class T> static inline T __ldg(const T *p)
{
	return *p;
}

template <class T> static inline T __ldcg(const T *p)
{
	return *p;
}

template <class T, class V> static inline T atomicAdd(T *p, V v)
{
	T old;

	if (v == 0) /* a way to look at it, in a loop */
		og_host_yield();
	old = *p;
	*p = (T)(old + (T)v);
	return old;
}

template <class T, class V> static inline T atomicMax(T *p, V v)
{
	T old = *p;

	*p = old < (T)v ? (T)v : old;
	return old;
}

template <class T, class V> static inline T atomicMin(T *p, V v)
{
	T old = *p;

	*p = (T)v < old ? (T)v : old;
	return old;
}

template <class T, class V> static inline T atomicOr(T *p, V v)
{
	T old = *p;

	*p = old | (T)v;
	return old;
}

template <class T, class V> static inline T atomicExch(T *p, V v)
{
	T old = *p;

	*p = (T)v;
	og_host_yield();
	return old;
}

template <class T, class V> static inline T atomicCAS(T *p, V expected, V v)
{
	T old;

	og_host_yield();
	old = *p;
	if (old == (T)expected)
		*p = (T)v;
	return old;
}

static inline void __threadfence()
{
}

static inline void __threadfence_block()
{
}

static inline void __threadfence_system()
{
}

static inline void __nanosleep(unsigned)
{
	og_host_yield();
}

/* ---- Arithmetic. This is compiled without contraction: what is written is what is computed. ---- */

static inline float __fadd_rn(float a, float b)
{
	return a + b;
}

static inline float __fsub_rn(float a, float b)
{
	return a - b;
}

static inline float __fmul_rn(float a, float b)
{
	return a * b;
}

static inline double __dmul_rn(double a, double b)
{
	return a * b;
}

static inline float __fdiv_rn(float a, float b)
{
	return a / b;
}

static inline float __fmaf_rn(float a, float b, float c)
{
	return fmaf(a, b, c);
}

static inline float __fsqrt_rn(float a)
{
	return sqrtf(a);
}

static inline float __frcp_rn(float a)
{
	return 1 / a;
}

/* Those that the device approximates. */
static inline float __fdividef(float a, float b)
{
	return fabsf(b) > 0x1p126f ? 0 * a : a / b;
}

static inline float og_host_expf(float a)
{
	return expf(a);
}

static inline float og_host_logf(float a)
{
	return logf(a);
}

static inline float og_host_log2f(float a)
{
	return log2f(a);
}

/* libm has these names for itself. */
#define __expf og_host_expf
#define __logf og_host_logf
#define __log2f og_host_log2f

static inline float rsqrtf(float a)
{
	return 1 / sqrtf(a);
}

static inline void sincospif(float a, float *s, float *c)
{
	double turn = M_PI * (a - 2 * rint(a / 2.0));

	*s = (float)sin(turn);
	*c = (float)cos(turn);
}

static inline float __uint_as_float(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline uint32_t __float_as_uint(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static inline int __float_as_int(float f)
{
	return (int)__float_as_uint(f);
}

static inline float __int_as_float(int bits)
{
	return __uint_as_float((uint32_t)bits);
}

static inline int __float2int_rn(float f)
{
	return (int)lrintf(f);
}

/* Four bytes of the eight of y and x, as the nibbles of `which` say. */
static inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t which)
{
	uint64_t from = (uint64_t)y << 32 | x;
	uint32_t v = 0;

	for (int i = 0; i < 4; i++)
		v |= (uint32_t)(from >> (which >> 4 * i & 7) * 8 & 0xff) << 8 * i;
	return v;
}

static inline int __popc(uint32_t v)
{
	return __builtin_popcount(v);
}

static inline int __clz(int v)
{
	return v ? __builtin_clz((unsigned)v) : 32;
}

static inline int __ffs(int v)
{
	return __builtin_ffs(v);
}

static inline uint32_t __umulhi(uint32_t a, uint32_t b)
{
	return (uint32_t)((uint64_t)a * b >> 32);
}

static inline uint64_t __umul64hi(uint64_t a, uint64_t b)
{
	return (uint64_t)((unsigned __int128)a * b >> 64);
}

#define OG_HOST_MIN_MAX(type)                                                                      \
	static inline type min(type a, type b)                                                     \
	{                                                                                          \
		return b < a ? b : a;                                                              \
	}                                                                                          \
	static inline type max(type a, type b)                                                     \
	{                                                                                          \
		return a < b ? b : a;                                                              \
	}
OG_HOST_MIN_MAX(int)
OG_HOST_MIN_MAX(unsigned)
OG_HOST_MIN_MAX(long)
OG_HOST_MIN_MAX(unsigned long)
OG_HOST_MIN_MAX(float)

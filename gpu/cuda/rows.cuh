/*
 * rows.cuh: what is done row by row: embedding, norm, rotation with the KV append, conversion of
 * weights. Block sizes are fixed, so the order of sums does not depend on the batch.
 */
#pragma once
#include "gpu/cuda/fp8.cuh"
#include "gpu/cuda/mma.cuh"

enum { ROW_THREADS = 256, HEAD_THREADS = 64, ROW_BATCH = 8 };

/*
 * A thread's values of a row, in order and in batches: all of load(k, i) before any of use(k, i), whose
 * stores would hold the next loads back. k counts in the batch.
 */
template <class LOAD, class USE>
__device__ __forceinline__ void each_of_row(uint32_t width, LOAD load, USE use)
{
	for (uint32_t i = threadIdx.x; i < width; i += ROW_BATCH * ROW_THREADS) {
#pragma unroll
		for (int k = 0; k < ROW_BATCH; k++)
			if (i + k * ROW_THREADS < width)
				load(k, i + k * ROW_THREADS);
#pragma unroll
		for (int k = 0; k < ROW_BATCH; k++)
			if (i + k * ROW_THREADS < width)
				use(k, i + k * ROW_THREADS);
	}
}

/* A row of the embedding times `scale`. */
__device__ __forceinline__ void embed_row(
	float *x, const __nv_bfloat16 *from, uint32_t width, float scale)
{
	float v[ROW_BATCH] = {};

	each_of_row(
		width, [&](int k, uint32_t i) { v[k] = __bfloat162float(from[i]); },
		[&](int k, uint32_t i) { x[i] = v[k] * scale; });
}

/* x (rows, width) f32 = embedding rows times `scale`; of tokens drawn before, where a row says so. */
extern "C" __global__ void __launch_bounds__(ROW_THREADS) embed_rows(float *__restrict__ x,
	const __nv_bfloat16 *__restrict__ embedding, const og_cuda_row *__restrict__ rows,
	const uint32_t *__restrict__ drawn, uint32_t width, uint32_t kp, float scale)
{
	uint32_t token = rows[blockIdx.x].token;

	if (token & OG_CUDA_DRAWN)
		token = drawn[token - OG_CUDA_DRAWN];
	embed_row(x + (size_t)blockIdx.x * width, embedding + (size_t)token * kp, width, scale);
}

/*
 * Of one pair at one position, times `magnitude`: of the angle in turns, whose whole part double takes
 * off exactly.
 */
__device__ __forceinline__ void rope_angle(
	float *cosine, float *sine, uint32_t pos, double turns, float magnitude)
{
	double angle = __dmul_rn(pos, turns);
	float s, c;

	angle -= rint(angle);
	sincospif((float)(2 * angle), &s, &c);
	*sine = s * magnitude;
	*cosine = c * magnitude;
}

/* cosine and sine (rows, half) */
extern "C" __global__ void rope_angles(float *__restrict__ cosine, float *__restrict__ sine,
	const double *__restrict__ turns, const og_cuda_row *__restrict__ rows, uint32_t half,
	uint32_t nb_rows, float magnitude)
{
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < half * nb_rows)
		rope_angle(cosine + i, sine + i, rows[i / half].pos, turns[i % half], magnitude);
}

/* The sum of all threads' values, in all of them. They meet before the next one. */
template <int THREADS> __device__ __forceinline__ float sum_of_block(float v)
{
	__shared__ float sums[THREADS / 32];

#pragma unroll
	for (int step = 16; step > 0; step /= 2)
		v += __shfl_xor_sync(~0u, v, step);
	if (threadIdx.x % 32 == 0)
		sums[threadIdx.x / 32] = v;
	__syncthreads();
	v = 0;
#pragma unroll
	for (int i = 0; i < THREADS / 32; i++)
		v += sums[i];
	return v;
}

/* The largest of all threads' values, in all of them. Once per launch. */
template <int THREADS> __device__ __forceinline__ float max_of_block(float v)
{
	__shared__ float largest[THREADS / 32];

#pragma unroll
	for (int step = 16; step > 0; step /= 2)
		v = fmaxf(v, __shfl_xor_sync(~0u, v, step));
	if (threadIdx.x % 32 == 0)
		largest[threadIdx.x / 32] = v;
	__syncthreads();
#pragma unroll
	for (int i = 0; i < THREADS / 32; i++)
		v = fmaxf(v, largest[i]);
	return v;
}

/* h bf16 = x / rms(x) * w: one row. */
__device__ __forceinline__ void norm_row(
	__nv_bfloat16 *h, const float *from, const float *w, uint32_t width, float eps)
{
	float sum = 0, scale, v[ROW_BATCH] = {}, factor[ROW_BATCH] = {};

	each_of_row(
		width, [&](int k, uint32_t i) { v[k] = from[i]; },
		[&](int k, uint32_t) { sum = __fmaf_rn(v[k], v[k], sum); });
	scale = rsqrtf(sum_of_block<ROW_THREADS>(sum) / width + eps);
	each_of_row(
		width,
		[&](int k, uint32_t i) {
			v[k] = from[i];
			factor[k] = w[i];
		},
		[&](int k, uint32_t i) { h[i] = __float2bfloat16_rn(v[k] * scale * factor[k]); });
}

/*
 * h (rows, kp) bf16 = x / rms(x) * w; x (rows, width) f32. With `wanted` row i of h is that of row
 * wanted[i] of x.
 */
extern "C" __global__ void __launch_bounds__(ROW_THREADS) rms_norm(__nv_bfloat16 *__restrict__ h,
	const float *__restrict__ x, const float *__restrict__ w,
	const uint32_t *__restrict__ wanted, uint32_t width, uint32_t kp, float eps)
{
	uint32_t row = wanted ? wanted[blockIdx.x] : blockIdx.x;

	norm_row(h + (size_t)blockIdx.x * kp, x + (size_t)row * width, w, width, eps);
}

/* One row of add_rows. */
__device__ __forceinline__ void add_row(
	float *x, float *delta, const float *bias, const float *w, uint32_t width, float eps)
{
	float sum = 0, scale = 1, v[ROW_BATCH] = {}, old[ROW_BATCH] = {};

	each_of_row(
		width, [&](int k, uint32_t i) { v[k] = delta[i] + (bias ? bias[i] : 0); },
		[&](int k, uint32_t i) {
			delta[i] = v[k];
			sum = __fmaf_rn(v[k], v[k], sum);
		});
	if (w)
		scale = rsqrtf(sum_of_block<ROW_THREADS>(sum) / width + eps);
	each_of_row(
		width,
		[&](int k, uint32_t i) {
			v[k] = w ? delta[i] * scale * w[i] : delta[i];
			old[k] = x[i];
		},
		[&](int k, uint32_t i) { x[i] = __fadd_rn(old[k], v[k]); });
}

/*
 * x (rows, width) f32 += delta + bias, or where there are weights the norm of that; no bias: NULL. What
 * a block of the model gives, where it is not simply added.
 */
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
	add_rows(float *__restrict__ x, float *__restrict__ delta, const float *__restrict__ bias,
		const float *__restrict__ w, uint32_t width, float eps)
{
	size_t at = (size_t)blockIdx.x * width;

	add_row(x + at, delta + at, bias, w, width, eps);
}

__device__ __forceinline__ float capped(float x, float cap)
{
	return cap * tanhf(x / cap);
}

/* x = cap * tanh(x / cap) */
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
	cap_values(float *__restrict__ x, uint64_t n, float cap)
{
	uint64_t i = blockIdx.x * (uint64_t)ROW_THREADS + threadIdx.x;

	if (i < n)
		x[i] = capped(x[i], cap);
}

/* Always finite: a masked key must not turn into NaN when it is multiplied by zero. */
__device__ __forceinline__ __half to_f16(float v)
{
	return __float2half_rn(fminf(fmaxf(v, -65504.0f), 65504.0f));
}

/* A head before rotation: bias, NULL without, then a norm, NULL without. */
struct plain_head {
	const float *values, *bias, *norm;
	float scale; /* of the norm */

	__device__ __forceinline__ float biased(uint32_t i) const
	{
		return values[i] + (bias ? bias[i] : 0);
	}

	__device__ __forceinline__ float operator[](uint32_t i) const
	{
		return norm ? biased(i) * scale * norm[i] : biased(i);
	}
};

/* Value `i` of a head after rotation: the roundings are spelt out, so every kernel gives the same bits. */
__device__ __forceinline__ float rotated(const plain_head &head, uint32_t i, const og_cuda_heads &s,
	const float *cosine, const float *sine)
{
	uint32_t half = s.rope_dims / 2, other, pair;
	float v = head[i], w;
	bool is_second;

	if (i >= s.rope_dims)
		return v;
	is_second = s.rope_halves ? i >= half : i % 2;
	pair = s.rope_halves ? i % half : i / 2;
	other = s.rope_halves ? (is_second ? i - half : i + half) : i ^ 1;
	w = head[other];
	w = is_second ? w : -w;
	return __fmaf_rn(v, cosine[pair], __fmul_rn(w, sine[pair]));
}

/* The `at`th key or value of a page; values(i) is that of its head. */
template <class V>
__device__ __forceinline__ void append_head(
	__half *to, uint32_t at, const og_cuda_heads &s, const V &values)
{
	for (uint32_t i = threadIdx.x; i < s.head_dim; i += HEAD_THREADS)
		to[at * s.head_dim + i] = to_f16(values(i));
}

template <class V>
__device__ __forceinline__ void append_head(
	e4m3 *to, uint32_t at, const og_cuda_heads &s, const V &values)
{
	__half *scales = (__half *)(to + OG_CUDA_BLOCK_TOKENS * s.head_dim);
	float largest = 0, scale;

	for (uint32_t i = threadIdx.x; i < s.head_dim; i += HEAD_THREADS)
		largest = fmaxf(largest, fabsf(values(i)));
	scale = kv_scale(max_of_block<HEAD_THREADS>(largest));
	for (uint32_t i = threadIdx.x; i < s.head_dim; i += HEAD_THREADS)
		to[at * s.head_dim + i] = to_e4m3_of_kv(values(i), scale);
	if (threadIdx.x == 0)
		scales[at] = __float2half_rn(scale);
}

#define OG_CUDA_ROPE_ARGS(T)                                                                       \
	__half *__restrict__ q, T *__restrict__ kv, const float *__restrict__ qkv,                 \
		const float *__restrict__ bias, const float *__restrict__ cosine,                  \
		const float *__restrict__ sine, const og_cuda_row *__restrict__ rows,              \
		const uint32_t *__restrict__ tables, const float *__restrict__ q_norm,             \
		const float *__restrict__ k_norm, og_cuda_heads s, float q_scale, float eps

/*
 * One block per row and head of qkv (rows, heads + 2 kv_heads, head_dim) f32. Queries are scaled, so
 * that attention works with powers of two, and go to q (rows, heads, padded_dim) fp16; keys and
 * values go to their pages.
 */
template <class T> __device__ __forceinline__ void rotate_and_append(OG_CUDA_ROPE_ARGS(T))
{
	uint32_t row = blockIdx.x, head = blockIdx.y, half = s.rope_dims / 2;
	uint32_t nb_units = s.nb_heads + 2 * s.nb_kv_heads;
	const float *from = qkv + ((size_t)row * nb_units + head) * s.head_dim;
	const float *head_bias = bias ? bias + head * s.head_dim : nullptr;
	plain_head plain = {from, head_bias, nullptr, 1};
	uint32_t pos = rows[row].pos;

	cosine += (size_t)row * half;
	sine += (size_t)row * half;
	if (q_norm && head < s.nb_heads + s.nb_kv_heads) {
		float sum = 0;

		for (uint32_t i = threadIdx.x; i < s.head_dim; i += HEAD_THREADS)
			sum = __fmaf_rn(plain.biased(i), plain.biased(i), sum);
		plain.norm = head < s.nb_heads ? q_norm : k_norm;
		plain.scale = rsqrtf(sum_of_block<HEAD_THREADS>(sum) / s.head_dim + eps);
	}
	if (head < s.nb_heads) {
		q += ((size_t)row * s.nb_heads + head) * s.padded_dim;
		for (uint32_t i = threadIdx.x; i < s.padded_dim; i += HEAD_THREADS)
			q[i] = to_f16(
				i < s.head_dim ? q_scale * rotated(plain, i, s, cosine, sine) : 0);
		return;
	}
	head -= s.nb_heads;
	kv += tables[rows[row].table + pos / OG_CUDA_BLOCK_TOKENS] * s.page_values +
	      s.layer * s.layer_values;
	if (head < s.nb_kv_heads)
		append_head(kv + 2 * head * s.head_values, pos % OG_CUDA_BLOCK_TOKENS, s,
			[&](uint32_t i) { return rotated(plain, i, s, cosine, sine); });
	else
		append_head(kv + (2 * (head - s.nb_kv_heads) + 1) * s.head_values,
			pos % OG_CUDA_BLOCK_TOKENS, s, [&](uint32_t i) { return plain[i]; });
}

extern "C" __global__ void __launch_bounds__(HEAD_THREADS) rope_append(OG_CUDA_ROPE_ARGS(__half))
{
	rotate_and_append(
		q, kv, qkv, bias, cosine, sine, rows, tables, q_norm, k_norm, s, q_scale, eps);
}

extern "C" __global__ void __launch_bounds__(HEAD_THREADS) rope_append_e4m3(OG_CUDA_ROPE_ARGS(e4m3))
{
	rotate_and_append(
		q, kv, qkv, bias, cosine, sine, rows, tables, q_norm, k_norm, s, q_scale, eps);
}

/* ---- Weights as they are in the file, to bf16. Types as in gpu/gguf.h. ---- */

__device__ __forceinline__ uint32_t load_u16(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8;
}

__device__ __forceinline__ float weight_at(const uint8_t *row, uint32_t i, int type)
{
	const uint8_t *block;

	switch (type) {
	case OG_CUDA_F32:
		return __uint_as_float(
			load_u16(row + 4 * (size_t)i) | load_u16(row + 4 * (size_t)i + 2) << 16);
	case OG_CUDA_F16:
		return __half2float(__ushort_as_half((uint16_t)load_u16(row + 2 * (size_t)i)));
	case OG_CUDA_BF16:
		return __uint_as_float(load_u16(row + 2 * (size_t)i) << 16);
	default:
		block = row + i / 32 * 34;
		return __half2float(__ushort_as_half((uint16_t)load_u16(block))) *
		       (int8_t)block[2 + i % 32];
	}
}

/* Where row `row` of a file's matrix goes: in turns of `turn` with another's, if that is not 0. */
__device__ __forceinline__ uint32_t place_of_row(uint32_t row, uint32_t turn, uint32_t offset)
{
	return (turn ? row / turn * 2 * turn + row % turn : row) + offset;
}

/* Row r of the chunk is row first + r of the file's matrix. */
extern "C" __global__ void __launch_bounds__(ROW_THREADS) convert_rows(
	__nv_bfloat16 *__restrict__ out, const uint8_t *__restrict__ chunk, uint32_t first,
	uint32_t n_in, uint32_t kp, uint32_t row_bytes, uint32_t turn, uint32_t offset, int type)
{
	const uint8_t *from = chunk + (size_t)blockIdx.x * row_bytes;

	out += (size_t)place_of_row(first + blockIdx.x, turn, offset) * kp;
	for (uint32_t i = threadIdx.x; i < n_in; i += ROW_THREADS)
		out[i] = __float2bfloat16_rn(weight_at(from, i, type));
}

/* The same to e4m3, each row with a scale of its own. */
extern "C" __global__ void __launch_bounds__(ROW_THREADS) quantize_rows(e4m3 *__restrict__ out,
	const uint8_t *__restrict__ chunk, uint32_t first, uint32_t n_in, uint32_t kp,
	uint32_t row_bytes, uint32_t turn, uint32_t offset, int type, float *__restrict__ scales)
{
	const uint8_t *from = chunk + (size_t)blockIdx.x * row_bytes;
	uint32_t row = place_of_row(first + blockIdx.x, turn, offset);
	float largest = 0, scale;
	bool is_finite = true;

	out += (size_t)row * kp;
	for (uint32_t i = threadIdx.x; i < n_in; i += ROW_THREADS) {
		float size = fabsf(weight_at(from, i, type));

		is_finite &= size < INFINITY;
		largest = fmaxf(largest, size);
	}
	scale = row_scale(max_of_block<ROW_THREADS>(largest), !__syncthreads_or(!is_finite));
	for (uint32_t i = threadIdx.x; i < n_in; i += ROW_THREADS)
		out[i] = to_e4m3_of_row(weight_at(from, i, type), scale);
	if (threadIdx.x == 0)
		scales[row] = scale;
}

/* Between -1 and 1, from a counter and a seed. */
__device__ __forceinline__ float random_value(uint64_t i, uint32_t seed)
{
	uint32_t h = (uint32_t)(i ^ i >> 32) * 0x9e3779b1u ^ seed;

	h = (h ^ h >> 16) * 0x85ebca6bu;
	h = (h ^ h >> 13) * 0xc2b2ae35u;
	h ^= h >> 16;
	return (int32_t)h * 0x1p-31f;
}

/* For benches: n values of magnitude below `scale`. */
extern "C" __global__ void random_bf16(
	__nv_bfloat16 *__restrict__ out, uint64_t n, uint32_t seed, float scale)
{
	for (uint64_t i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x; i < n;
		i += (uint64_t)gridDim.x * blockDim.x)
		out[i] = __float2bfloat16_rn(scale * random_value(i, seed));
}

/* The same in rows of kp values. */
extern "C" __global__ void random_e4m3(e4m3 *__restrict__ out, float *__restrict__ scales,
	uint64_t n, uint32_t kp, uint32_t seed, float scale)
{
	for (uint64_t i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x; i < n;
		i += (uint64_t)gridDim.x * blockDim.x) {
		out[i] = to_e4m3(OG_E4M3_MAX * random_value(i, seed));
		if (i % kp == 0)
			scales[i / kp] = scale / OG_E4M3_MAX;
	}
}

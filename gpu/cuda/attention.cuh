/*
 * attention.cuh: out[row][head] = softmax(q k / sqrt(head_dim)) v over the pages of a sequence.
 *
 * One block serves one tile (rows of one sequence at consecutive positions) and one key-value head;
 * query r of the tile is token r / group, head r % group, and each of 4 warps has 16 of them. Keys
 * are taken by pages of 64, and a split is four pages. Each split is computed from nothing, and the
 * splits of a row are merged in order: by the block itself (`serial`), or by attention_merge from
 * what blocks for one split each (`split`) left in memory. Both give the same bits, and neither
 * depends on which other rows are in the tile.
 *
 * Pages in e4m3 pass through shared memory twice: as they are, and then in fp16.
 */
#pragma once
#include "gpu/cuda/fp8.cuh"
#include "gpu/cuda/mma.cuh"

enum { ATTENTION_THREADS = 128, ATTENTION_STAGES = 2 };

/* Maximum, sum and mix of a split, all for one query; powers of two instead of e. */
struct state {
	float max, sum;
};

/* Factors for what there was and for what is added; then `a.max` is the new maximum. */
__device__ __forceinline__ void merge_factors(state &a, state b, float &keep, float &take)
{
	float max = fmaxf(a.max, b.max);

	keep = exp2f(a.max - max);
	take = exp2f(b.max - max);
	a.max = max;
	a.sum = __fmaf_rn(a.sum, keep, __fmul_rn(b.sum, take));
}

__device__ __forceinline__ float merged(float a, float b, float keep, float take)
{
	return __fmaf_rn(a, keep, __fmul_rn(b, take));
}

/* Chunk `c` (16 bytes) of row `r` of a page in shared memory, without bank conflicts in either use. */
template <int DIM> __device__ __forceinline__ uint32_t page_chunk(uint32_t r, uint32_t c)
{
	uint32_t turn = DIM == 32 ? r >> 1 & 3 : (r & 1) << 2 | (r >> 1 & 3);

	return r * (DIM / 8) + (c ^ turn);
}

/*
 * 64 rows of keys or values to shared memory, from value `first` of a head on; rows from `nb_rows` on
 * and what pads them are zero.
 */
template <int DIM, int THREADS = ATTENTION_THREADS>
__device__ __forceinline__ void fetch_page(
	uint4 *to, const __half *from, uint32_t nb_rows, const og_cuda_heads &s, uint32_t first = 0)
{
	constexpr int CHUNKS = DIM / 8;

	from += first;
#pragma unroll 2
	for (int i = 0; i < OG_CUDA_BLOCK_TOKENS * CHUNKS / THREADS; i++) {
		uint32_t k = threadIdx.x + i * THREADS, r = k / CHUNKS, c = k % CHUNKS;
		bool is_there = r < nb_rows && first + c * 8 < s.head_dim;

		if (s.is_vector) {
			copy_async(to + page_chunk<DIM>(r, c),
				is_there ? from + r * s.head_dim + c * 8 : from, is_there);
			continue;
		}
#pragma unroll 1
		for (uint32_t j = 0; j < 8; j++)
			((__half *)(to + page_chunk<DIM>(r, c)))[j] =
				is_there && first + c * 8 + j < s.head_dim
					? from[r * s.head_dim + c * 8 + j]
					: __half(0.0f);
	}
}

/* What 64 keys or values take of shared memory as they come, in chunks; e4m3 with their scales. */
template <int DIM, class T> __host__ __device__ constexpr int page_chunks()
{
	return sizeof(T) == 2 ? OG_CUDA_BLOCK_TOKENS * DIM / 8
			      : OG_CUDA_BLOCK_TOKENS * DIM / 16 + OG_CUDA_BLOCK_TOKENS / 8;
}

/* The same in e4m3, in order, and the scales of all behind them. */
template <int DIM>
__device__ __forceinline__ void fetch_page(
	uint4 *to, const e4m3 *from, uint32_t nb_rows, const og_cuda_heads &s)
{
	constexpr int CHUNKS = DIM / 16;

#pragma unroll 2
	for (int i = 0; i < OG_CUDA_BLOCK_TOKENS * CHUNKS / ATTENTION_THREADS; i++) {
		uint32_t k = threadIdx.x + i * ATTENTION_THREADS, r = k / CHUNKS, c = k % CHUNKS;
		bool is_there = r < nb_rows && c * 16 < s.head_dim;

		if (s.is_vector) {
			copy_async(
				to + k, is_there ? from + r * s.head_dim + c * 16 : from, is_there);
			continue;
		}
#pragma unroll 1
		for (uint32_t j = 0; j < 16; j++)
			((e4m3 *)(to + k))[j] = is_there && c * 16 + j < s.head_dim
							? from[r * s.head_dim + c * 16 + j]
							: e4m3{0};
	}
	if (threadIdx.x < OG_CUDA_BLOCK_TOKENS / 8)
		copy_async(to + OG_CUDA_BLOCK_TOKENS * CHUNKS + threadIdx.x,
			from + OG_CUDA_BLOCK_TOKENS * s.head_dim + threadIdx.x * 16, true);
}

/* Such a page in fp16; rows from `nb_rows` on have zeros, and any scale. */
template <int DIM>
__device__ __forceinline__ void unpack_page(uint4 *to, const uint4 *from, uint32_t nb_rows)
{
	constexpr int CHUNKS = DIM / 8;
	const __half *scales = (const __half *)(from + OG_CUDA_BLOCK_TOKENS * DIM / 16);

#pragma unroll 4
	for (int i = 0; i < OG_CUDA_BLOCK_TOKENS * CHUNKS / ATTENTION_THREADS; i++) {
		uint32_t k = threadIdx.x + i * ATTENTION_THREADS, r = k / CHUNKS, c = k % CHUNKS;
		__half scale = r < nb_rows ? __hmul(scales[r], __half(256.0f)) : __half(0.0f);
		uint2 eight = ((const uint2 *)from)[k];
		uint2 lo = e4m3_to_f16(eight.x, __half2half2(scale));
		uint2 hi = e4m3_to_f16(eight.y, __half2half2(scale));

		to[page_chunk<DIM>(r, c)] = make_uint4(lo.x, lo.y, hi.x, hi.y);
	}
}

/* score += 16 queries times 64 keys. */
template <int DIM>
__device__ __forceinline__ void score_page(
	float score[8][4], const uint4 query[DIM / 32][2], const uint4 *keys, uint32_t lane)
{
#pragma unroll
	for (int k = 0; k < DIM / 32; k++)
#pragma unroll
		for (int n = 0; n < 8; n++)
			mma_f16_k32(score[n], query[k][0], query[k][1],
				keys[page_chunk<DIM>(n * 8 + lane / 4, k * 4 + lane % 4)]);
}

__device__ __forceinline__ uint32_t pack_f16(float a, float b)
{
	__half2 h = __floats2half2_rn(a, b);

	return *(uint32_t *)&h;
}

/* mix += weights of 16 queries times 64 values: of these DIMS from `first` on. */
template <int DIM, int DIMS = DIM>
__device__ __forceinline__ void mix_page(float mix[DIMS / 8][4], const float p[8][4],
	const uint4 *values, uint32_t lane, uint32_t first = 0)
{
#pragma unroll
	for (int k = 0; k < 4; k++) {
		uint32_t a0 = pack_f16(p[2 * k][0], p[2 * k][1]);
		uint32_t a1 = pack_f16(p[2 * k][2], p[2 * k][3]);
		uint32_t a2 = pack_f16(p[2 * k + 1][0], p[2 * k + 1][1]);
		uint32_t a3 = pack_f16(p[2 * k + 1][2], p[2 * k + 1][3]);

#pragma unroll
		for (int n = 0; n < DIMS / 16; n++) {
			uint32_t b[4];

			load_matrices_transposed(
				b, values + page_chunk<DIM>(k * 16 + lane % 16,
						    first / 8 + 2 * n + lane / 16));
			mma_f16(mix[2 * n], a0, a1, a2, a3, b[0], b[1]);
			mma_f16(mix[2 * n + 1], a0, a1, a2, a3, b[2], b[3]);
		}
	}
}

/* tanh(x) is 1 - 2 / (1 + e^2x); what that loses near 0 is far below an fp16 of the cap. */
__device__ __forceinline__ void cap_scores(float p[8][4], float cap)
{
	float turn = 2 * 1.44269504f / cap;

#pragma unroll
	for (int n = 0; n < 8; n++)
#pragma unroll
		for (int j = 0; j < 4; j++)
			p[n][j] = __fmaf_rn(
				-2 * cap, __fdividef(1.0f, 1.0f + exp2f(p[n][j] * turn)), cap);
}

/* The first position that a query at `pos` sees. */
__device__ __forceinline__ uint32_t window_start(const og_cuda_heads &s, uint32_t pos)
{
	return pos >= s.window ? pos + 1 - s.window : 0;
}

/*
 * One page for one warp: scores become weights, and `mix` is scaled for what they add to it. at[i] are
 * the positions of its two queries per lane, rows lane/4 and +8.
 */
template <int DIM>
__device__ __forceinline__ void weigh_page(float p[8][4], float mix[DIM / 8][4], state st[2],
	uint32_t first_key, const uint32_t at[2], const og_cuda_heads &s, uint32_t lane)
{
	if (s.cap > 0)
		cap_scores(p, s.cap);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		float max = st[i].max, keep, base;

#pragma unroll
		for (int n = 0; n < 8; n++)
#pragma unroll
			for (int j = 0; j < 2; j++) {
				float &v = p[n][2 * i + j];

				/* Those after it are beyond any window, for this is unsigned. */
				if (at[i] - (first_key + n * 8 + lane % 4 * 2 + j) >= s.window)
					v = -INFINITY;
				max = fmaxf(max, v);
			}
		max = fmaxf(max, __shfl_xor_sync(~0u, max, 1));
		max = fmaxf(max, __shfl_xor_sync(~0u, max, 2));
		base = max == -INFINITY ? 0 : max;
		keep = exp2f(st[i].max - base);
		st[i].max = max;
		st[i].sum = __fmul_rn(st[i].sum, keep);
#pragma unroll
		for (int n = 0; n < 8; n++)
#pragma unroll
			for (int j = 0; j < 2; j++) {
				float &v = p[n][2 * i + j];

				v = exp2f(v - base);
				st[i].sum = __fadd_rn(st[i].sum, v);
			}
#pragma unroll
		for (int n = 0; n < DIM / 8; n++) {
			mix[n][2 * i] = __fmul_rn(mix[n][2 * i], keep);
			mix[n][2 * i + 1] = __fmul_rn(mix[n][2 * i + 1], keep);
		}
	}
}

/* A warp may mix DIMS values of the head only, from `first` on. */
template <int DIM, int DIMS = DIM>
__device__ __forceinline__ void attend_page(float mix[DIMS / 8][4], state st[2],
	const uint4 query[DIM / 32][2], const uint4 *keys, const uint4 *values, uint32_t first_key,
	const uint32_t at[2], const og_cuda_heads &s, uint32_t lane, uint32_t first = 0)
{
	float p[8][4] = {};

	score_page<DIM>(p, query, keys, lane);
	weigh_page<DIMS>(p, mix, st, first_key, at, s, lane);
	mix_page<DIM, DIMS>(mix, p, values, lane, first);
}

struct attention_args {
	const __half *q;
	const void *kv;
	const og_cuda_tile *tiles;
	const uint32_t *tables;
	__nv_bfloat16 *out; /* (rows, kp) */
	float *mixes;       /* (rows, heads, splits, padded_dim) */
	state *states;      /* (rows, heads, splits) */
	uint32_t kp, nb_splits;
};

/* What a warp knows of its 16 queries. */
struct warp_queries {
	bool any;
	bool is_there[2];
	uint32_t row[2], head[2], pos[2];
};

__device__ __forceinline__ warp_queries find_queries(
	const og_cuda_tile &tile, const og_cuda_heads &s, uint32_t warp, uint32_t lane)
{
	uint32_t group = s.nb_heads / s.nb_kv_heads, count = tile.nb_rows * group;
	warp_queries w;

	w.any = warp * 16 < count;
	for (int i = 0; i < 2; i++) {
		uint32_t r = warp * 16 + lane / 4 + i * 8;

		w.is_there[i] = r < count;
		r = w.is_there[i] ? r : 0;
		w.row[i] = tile.first_row + r / group;
		w.head[i] = blockIdx.y * group + r % group;
		w.pos[i] = tile.pos + r / group;
	}
	return w;
}

/*
 * A finished split of this lane's query `i` to memory, MIX values from value `first` on; attention_merge
 * takes it from there.
 */
template <int DIM, int MIX = DIM>
__device__ __forceinline__ void leave_split(const attention_args &a, const og_cuda_heads &s,
	const warp_queries &w, int i, uint32_t split, state st, const float mix[MIX / 8][4],
	uint32_t lane, uint32_t first = 0)
{
	size_t at = ((size_t)w.row[i] * s.nb_heads + w.head[i]) * a.nb_splits + split;

	if (!w.is_there[i])
		return;
	if (lane % 4 == 0 && first == 0)
		a.states[at] = st;
#pragma unroll
	for (int n = 0; n < MIX / 8; n++)
		*(float2 *)&a.mixes[at * DIM + first + n * 8 + lane % 4 * 2] =
			make_float2(mix[n][2 * i], mix[n][2 * i + 1]);
}

/*
 * The running totals of a thread's queries lie in shared memory, one float4 per 8 values of the head
 * and thread: as registers they would be too many. A split in which a query has no key leaves its
 * total as it is.
 */
template <int DIM>
__device__ __forceinline__ void add_split(float4 *total, state all[2], const float mix[DIM / 8][4],
	const state st[2], const bool has_keys[2])
{
	float keep[2] = {1, 1}, take[2] = {0, 0};

#pragma unroll
	for (int i = 0; i < 2; i++)
		if (has_keys[i])
			merge_factors(all[i], st[i], keep[i], take[i]);
#pragma unroll
	for (int n = 0; n < DIM / 8; n++) {
		float4 t = total[n * ATTENTION_THREADS + threadIdx.x];

		if (has_keys[0]) {
			t.x = merged(t.x, mix[n][0], keep[0], take[0]);
			t.y = merged(t.y, mix[n][1], keep[0], take[0]);
		}
		if (has_keys[1]) {
			t.z = merged(t.z, mix[n][2], keep[1], take[1]);
			t.w = merged(t.w, mix[n][3], keep[1], take[1]);
		}
		total[n * ATTENTION_THREADS + threadIdx.x] = t;
	}
}

/* A split is over: into the totals, or to memory; and a new one begins. */
template <int DIM, bool SERIAL, int MIX = DIM>
__device__ __forceinline__ void end_split(const attention_args &a, const og_cuda_heads &s,
	const warp_queries &w, uint32_t split, state st[2], float mix[MIX / 8][4], float4 *total,
	state all[2], uint32_t lane, uint32_t first = 0)
{
	constexpr uint32_t SPLIT_TOKENS = OG_CUDA_SPLIT_BLOCKS * OG_CUDA_BLOCK_TOKENS;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		st[i].sum = __fadd_rn(st[i].sum, __shfl_xor_sync(~0u, st[i].sum, 1));
		st[i].sum = __fadd_rn(st[i].sum, __shfl_xor_sync(~0u, st[i].sum, 2));
		if constexpr (!SERIAL)
			leave_split<DIM, MIX>(a, s, w, i, split, st[i], mix, lane, first);
	}
	if constexpr (SERIAL) {
		bool has_keys[2];

		for (int i = 0; i < 2; i++)
			has_keys[i] = split * SPLIT_TOKENS <= w.pos[i] &&
				      (split + 1) * SPLIT_TOKENS > window_start(s, w.pos[i]);
		add_split<MIX>(total, all, mix, st, has_keys);
	}
	st[0] = st[1] = {-INFINITY, 0};
#pragma unroll
	for (int n = 0; n < MIX / 8; n++)
#pragma unroll
		for (int j = 0; j < 4; j++)
			mix[n][j] = 0;
}

template <int DIM>
__device__ __forceinline__ void write_rows(const attention_args &a, const og_cuda_heads &s,
	const warp_queries &w, const float4 *total, const state all[2], uint32_t lane,
	uint32_t first = 0)
{
#pragma unroll
	for (int n = 0; n < DIM / 8; n++) {
		float4 t = total[n * ATTENTION_THREADS + threadIdx.x];
		const float v[4] = {t.x, t.y, t.z, t.w};

#pragma unroll
		for (int j = 0; j < 4; j++) {
			int i = j / 2;
			uint32_t d = first + n * 8 + lane % 4 * 2 + j % 2;

			if (w.is_there[i] && d < s.head_dim)
				a.out[(size_t)w.row[i] * a.kp + w.head[i] * s.head_dim + d] =
					__float2bfloat16_rn(__fdiv_rn(v[j], all[i].sum));
		}
	}
}

/*
 * What a block needs of shared memory: two stages of keys and values, those in use in fp16 where they
 * come in e4m3, and the totals.
 */
template <int DIM, class T> __device__ __forceinline__ float4 *totals(uint4 *pages)
{
	return (float4 *)(pages + ATTENTION_STAGES * 2 * page_chunks<DIM, T>() +
			  (sizeof(T) == 1 ? 2 * page_chunks<DIM, __half>() : 0));
}

template <int DIM, bool SERIAL, class T>
__device__ __forceinline__ void attend(const attention_args &a, const og_cuda_heads &s)
{
	constexpr int PAGE_CHUNKS = page_chunks<DIM, T>();
	constexpr int PLAIN_CHUNKS = page_chunks<DIM, __half>();
	constexpr bool IN_CODES = sizeof(T) == 1;
	extern __shared__ uint4 pages[]; /* (stages, {keys, values}) */
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const og_cuda_tile tile = a.tiles[blockIdx.x];
	const warp_queries w = find_queries(tile, s, warp, lane);
	uint32_t last = tile.pos + tile.nb_rows - 1; /* position */
	uint32_t begin = window_start(s, tile.pos) / OG_CUDA_BLOCK_TOKENS;
	uint32_t end = last / OG_CUDA_BLOCK_TOKENS + 1;
	uint4 query[DIM / 32][2];
	float mix[DIM / 8][4] = {};
	float4 *total = totals<DIM, T>(pages);
	state st[2] = {{-INFINITY, 0}, {-INFINITY, 0}}, all[2] = {{-INFINITY, 0}, {-INFINITY, 0}};

	if (!SERIAL) {
		end = min(end, (blockIdx.z + 1) * OG_CUDA_SPLIT_BLOCKS);
		begin = max(begin, blockIdx.z * OG_CUDA_SPLIT_BLOCKS);
	}
	if (begin >= end)
		return;
	auto count_rows = [&](uint32_t block) {
		return min(last + 1 - block * OG_CUDA_BLOCK_TOKENS, (uint32_t)OG_CUDA_BLOCK_TOKENS);
	};
	auto fetch = [&](uint32_t block) {
		uint4 *to = pages + block % ATTENTION_STAGES * 2 * PAGE_CHUNKS;
		const T *keys = (const T *)a.kv + a.tables[tile.table + block] * s.page_values +
				s.layer * s.layer_values + 2 * blockIdx.y * s.head_values;
		uint32_t nb_rows = count_rows(block);

		fetch_page<DIM>(to, keys, nb_rows, s);
		fetch_page<DIM>(to + PAGE_CHUNKS, keys + s.head_values, nb_rows, s);
	};
	fetch(begin);
	copy_commit();
	if constexpr (SERIAL)
		for (int n = 0; n < DIM / 8; n++)
			total[n * ATTENTION_THREADS + threadIdx.x] = make_float4(0, 0, 0, 0);
#pragma unroll
	for (int k = 0; k < DIM / 32; k++)
#pragma unroll
		for (int i = 0; i < 2; i++)
			query[k][i] =
				*(const uint4 *)(a.q +
						 ((size_t)w.row[i] * s.nb_heads + w.head[i]) * DIM +
						 k * 32 + lane % 4 * 8);
	for (uint32_t block = begin; block < end; block++) {
		const uint4 *keys = pages + block % ATTENTION_STAGES * 2 * PAGE_CHUNKS;
		uint32_t split = block / OG_CUDA_SPLIT_BLOCKS;

		if (block + 1 < end)
			fetch(block + 1);
		copy_commit();
		copy_wait<1>();
		__syncthreads();
		if constexpr (IN_CODES) {
			uint4 *plain = pages + ATTENTION_STAGES * 2 * PAGE_CHUNKS;

			unpack_page<DIM>(plain, keys, count_rows(block));
			unpack_page<DIM>(
				plain + PLAIN_CHUNKS, keys + PAGE_CHUNKS, count_rows(block));
			keys = plain;
			__syncthreads();
		}
		if (w.any)
			attend_page<DIM>(mix, st, query, keys, keys + PLAIN_CHUNKS,
				block * OG_CUDA_BLOCK_TOKENS, w.pos, s, lane);
		if constexpr (!IN_CODES)
			__syncthreads(); /* before the next but one lands here */
		if ((block + 1) % OG_CUDA_SPLIT_BLOCKS != 0 && block + 1 != end)
			continue;
		end_split<DIM, SERIAL>(a, s, w, split, st, mix, total, all, lane);
	}
	if constexpr (SERIAL)
		write_rows<DIM>(a, s, w, total, all, lane);
}

/* Grid: tiles, kv heads, splits; with `serial` one. */
#define OG_CUDA_ATTENTION(DIM, T, suffix, ...)                                                     \
	extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                  \
		attention_serial_##suffix(attention_args a, og_cuda_heads s)                       \
	{                                                                                          \
		attend<DIM, true, T>(a, s);                                                        \
	}                                                                                          \
	extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                  \
		attention_split_##suffix(attention_args a, og_cuda_heads s)                        \
	{                                                                                          \
		attend<DIM, false, T>(a, s);                                                       \
	}

OG_CUDA_ATTENTION(32, __half, 32, ATTENTION_THREADS)
OG_CUDA_ATTENTION(64, __half, 64, ATTENTION_THREADS)
OG_CUDA_ATTENTION(128, __half, 128, ATTENTION_THREADS)
OG_CUDA_ATTENTION(32, e4m3, 32_e4m3, ATTENTION_THREADS, 4)
OG_CUDA_ATTENTION(64, e4m3, 64_e4m3, ATTENTION_THREADS, 3)
OG_CUDA_ATTENTION(128, e4m3, 128_e4m3, ATTENTION_THREADS, 2)

/* Value `d` of a query whose splits first … last lie from `at` on. */
__device__ __forceinline__ float merge_splits(const attention_args &a, const og_cuda_heads &s,
	size_t at, uint32_t first, uint32_t last, uint32_t d)
{
	state all = {-INFINITY, 0};
	float total = 0;

	for (uint32_t i = first; i <= last; i++) {
		float keep, take;

		merge_factors(all, a.states[at + i], keep, take);
		total = merged(total, a.mixes[(at + i) * s.padded_dim + d], keep, take);
	}
	return __fdiv_rn(total, all.sum);
}

/* Grid: rows, heads; padded_dim threads. */
extern "C" __global__ void __launch_bounds__(OG_CUDA_HEAD_DIM_MAX)
	attention_merge(attention_args a, og_cuda_heads s, const og_cuda_row *__restrict__ rows)
{
	uint32_t row = blockIdx.x, head = blockIdx.y, d = threadIdx.x;
	uint32_t split_tokens = OG_CUDA_BLOCK_TOKENS * OG_CUDA_SPLIT_BLOCKS;
	uint32_t first = window_start(s, rows[row].pos) / split_tokens;
	uint32_t last = rows[row].pos / split_tokens;
	size_t at = ((size_t)row * s.nb_heads + head) * a.nb_splits;

	if (d < s.head_dim)
		a.out[(size_t)row * a.kp + head * s.head_dim + d] =
			__float2bfloat16_rn(merge_splits(a, s, at, first, last, d));
}

/*
 * attention_wide.cuh: attention for heads of more than 128 values, up to 256.
 *
 * As attention.cuh has it, but a block mixes 128 values of a head: a tile has one block for each half,
 * and both score the same. Otherwise the totals would fit neither registers nor, on devices with 99 KB
 * for a block, shared memory. Keys and values have one buffer each: while one is worked on the other
 * fills. Queries are read for each page anew, for they would fit no registers either.
 */
#pragma once
#include "gpu/cuda/attention.cuh"

enum { WIDE_DIM = 256, WIDE_MIX = 128, WIDE_PARTS = WIDE_DIM / WIDE_MIX };

/*
 * score += 16 queries, those of a lane at q[0] and q[1], times 64 keys. With a zero that the compiler
 * does not know queries are put together for the tensor core once for all keys, not for each.
 */
__device__ __forceinline__ void score_wide(float score[8][4], const __half *const q[2],
	const uint4 *keys, uint32_t lane, uint32_t zero)
{
#pragma unroll 2
	for (int k = 0; k < WIDE_DIM / 32; k++) {
		uint4 lo = *(const uint4 *)(q[0] + k * 32), hi = *(const uint4 *)(q[1] + k * 32);

		lo = make_uint4(lo.x ^ zero, lo.y ^ zero, lo.z ^ zero, lo.w ^ zero);
		hi = make_uint4(hi.x ^ zero, hi.y ^ zero, hi.z ^ zero, hi.w ^ zero);
#pragma unroll
		for (int n = 0; n < 8; n++)
			mma_f16_k32(score[n], lo, hi,
				keys[page_chunk<WIDE_DIM>(n * 8 + lane / 4, k * 4 + lane % 4)]);
	}
}

template <bool SERIAL>
__device__ __forceinline__ void attend_wide(const attention_args &a, const og_cuda_heads &s)
{
	extern __shared__ uint4 pages[]; /* keys, values, totals */
	uint4 *keys = pages, *values = keys + OG_CUDA_BLOCK_TOKENS * WIDE_DIM / 8;
	float4 *total = (float4 *)(values + OG_CUDA_BLOCK_TOKENS * WIDE_MIX / 8);
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	uint32_t first = blockIdx.x % WIDE_PARTS * WIDE_MIX;
	const og_cuda_tile tile = a.tiles[blockIdx.x / WIDE_PARTS];
	const warp_queries w = find_queries(tile, s, warp, lane);
	uint32_t last = tile.pos + tile.nb_rows - 1; /* position */
	uint32_t begin = window_start(s, tile.pos) / OG_CUDA_BLOCK_TOKENS;
	uint32_t end = last / OG_CUDA_BLOCK_TOKENS + 1;
	const __half *query[2];
	float mix[WIDE_MIX / 8][4] = {};
	state st[2] = {{-INFINITY, 0}, {-INFINITY, 0}}, all[2] = {{-INFINITY, 0}, {-INFINITY, 0}};

	if (!SERIAL) {
		end = min(end, (blockIdx.z + 1) * OG_CUDA_SPLIT_BLOCKS);
		begin = max(begin, blockIdx.z * OG_CUDA_SPLIT_BLOCKS);
	}
	if (begin >= end)
		return;
	auto fetch = [&](uint32_t block, bool is_value) {
		const __half *from =
			(const __half *)a.kv + a.tables[tile.table + block] * s.page_values +
			s.layer * s.layer_values + (2 * blockIdx.y + is_value) * s.head_values;
		uint32_t nb_rows = min(
			last + 1 - block * OG_CUDA_BLOCK_TOKENS, (uint32_t)OG_CUDA_BLOCK_TOKENS);

		if (is_value)
			fetch_page<WIDE_MIX>(values, from, nb_rows, s, first);
		else
			fetch_page<WIDE_DIM>(keys, from, nb_rows, s);
		copy_commit();
	};
	fetch(begin, false);
	if constexpr (SERIAL)
		for (int n = 0; n < WIDE_MIX / 8; n++)
			total[n * ATTENTION_THREADS + threadIdx.x] = make_float4(0, 0, 0, 0);
	for (int i = 0; i < 2; i++)
		query[i] =
			a.q + ((size_t)w.row[i] * s.nb_heads + w.head[i]) * WIDE_DIM + lane % 4 * 8;
	for (uint32_t block = begin; block < end; block++) {
		uint32_t split = block / OG_CUDA_SPLIT_BLOCKS;
		float p[8][4] = {};

		copy_wait<0>();
		__syncthreads(); /* the keys are there, and nobody needs the values before */
		fetch(block, true);
		if (w.any) {
			score_wide(p, query, keys, lane, s.nb_heads >> 31);
			weigh_page<WIDE_MIX>(
				p, mix, st, block * OG_CUDA_BLOCK_TOKENS, w.pos, s, lane);
		}
		copy_wait<0>();
		__syncthreads(); /* the values are there, and nobody needs the keys */
		if (block + 1 < end)
			fetch(block + 1, false);
		if (w.any)
			mix_page<WIDE_MIX>(mix, p, values, lane);
		if ((block + 1) % OG_CUDA_SPLIT_BLOCKS != 0 && block + 1 != end)
			continue;
		end_split<WIDE_DIM, SERIAL, WIDE_MIX>(
			a, s, w, split, st, mix, total, all, lane, first);
	}
	if constexpr (SERIAL)
		write_rows<WIDE_MIX>(a, s, w, total, all, lane, first);
}

/* Grid: tiles times parts, kv heads, splits; with `serial` one. */
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
	attention_serial_256(attention_args a, og_cuda_heads s)
{
	attend_wide<true>(a, s);
}

extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
	attention_split_256(attention_args a, og_cuda_heads s)
{
	attend_wide<false>(a, s);
}

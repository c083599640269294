/*
 * draw.cuh: a token of each row of logits, as gpu/draw.h says, by one block or by several that each
 * have a run of the row, and meet to add up what they found.
 *
 * Nothing is sorted: the logit down to which top-k or top-p keep candidates is found by search, eight
 * pivots a pass, and the draw descends to the part of the row, and of that, in which its target lies.
 * All sums are of integers and exact, so the token is the one that the host would have drawn.
 */
#pragma once
#include "gpu/cuda/shapes.h"

enum { DRAW_WARPS = OG_CUDA_DRAW_THREADS / 32, DRAW_PIVOTS = 8 };

struct draw_row {
	const float *logits;
	uint32_t vocab;
	uint32_t first, n; /* this block's run */
	uint32_t max_key;
	float max, scale;
	/* Kept are candidates with greater keys than this, and of those with this the ids below end. */
	uint32_t key, end;
};

struct draw_shared {
	uint64_t parts[DRAW_WARPS];
	uint64_t pivots[DRAW_WARPS][DRAW_PIVOTS];
	uint64_t brought[OG_CUDA_DRAW_BLOCKS_MAX][DRAW_PIVOTS];
};

/* The blocks of a row, all of them live at once. */
struct draw_group {
	og_cuda_draw_scratch *scratch;
	uint32_t nb_blocks, run, round;
};

/*
 * sh.brought[b][j] = what block b of the row brings, the same in all of its threads. What is brought
 * is kept for two rounds: nobody is further ahead than one.
 */
template <int N>
__device__ __forceinline__ void draw_meet(draw_shared &sh, draw_group &g, const uint64_t mine[N])
{
	uint64_t(*sums)[DRAW_PIVOTS] = g.scratch->sums[g.round % 2];

	__syncthreads(); /* all have read what was there */
	if (threadIdx.x == 0) {
		uint64_t *to = g.nb_blocks > 1 ? sums[blockIdx.x] : sh.brought[0];

#pragma unroll
		for (int j = 0; j < N; j++)
			to[j] = mine[j];
		g.round++;
		if (g.nb_blocks > 1) {
			__threadfence();
			atomicAdd(&g.scratch->nb_arrived, 1u);
			while (atomicAdd(&g.scratch->nb_arrived, 0u) < g.round * g.nb_blocks)
				;
			__threadfence();
		}
	} else {
		g.round++;
	}
	__syncthreads();
	if (g.nb_blocks == 1)
		return;
	for (uint32_t i = threadIdx.x; i < g.nb_blocks * N; i += OG_CUDA_DRAW_THREADS)
		sh.brought[i / N][i % N] = __ldcg(&sums[i / N][i % N]);
	__syncthreads();
}

/* The last to leave makes the scratch what the next launch expects. */
__device__ __forceinline__ void draw_leave(const draw_group &g)
{
	if (threadIdx.x == 0 && g.nb_blocks > 1 &&
		atomicAdd(&g.scratch->nb_arrived, 1u) == (g.round + 1) * g.nb_blocks - 1)
		g.scratch->nb_arrived = 0;
}

__device__ __forceinline__ bool draw_keeps(const draw_row &r, uint32_t key, uint32_t i)
{
	return key > r.key || (key == r.key && i < r.end);
}

__device__ __forceinline__ float draw_logit(uint32_t key)
{
	uint32_t bits = key >> 31 ? key & ~(1u << 31) : ~key;

	return __uint_as_float(bits);
}

/* sh.parts[w] = the sum of worth(i) over part w of DRAW_WARPS of [first, first + n). */
template <class F>
__device__ __forceinline__ void draw_sum(draw_shared &sh, uint32_t first, uint32_t n, F worth)
{
	uint32_t part = (n + DRAW_WARPS - 1) / DRAW_WARPS, warp = threadIdx.x / 32;
	uint32_t at = first + warp * part, end = min(at + part, first + n);
	uint64_t sum = 0;

#pragma unroll 4
	for (uint32_t i = at + threadIdx.x % 32; i < end; i += 32)
		sum += worth(i);
#pragma unroll
	for (int step = 16; step > 0; step /= 2)
		sum += __shfl_xor_sync(~0u, sum, step);
	__syncthreads(); /* all have read what was there */
	if (threadIdx.x % 32 == 0)
		sh.parts[warp] = sum;
	__syncthreads();
}

__device__ __forceinline__ uint64_t draw_total(const draw_shared &sh)
{
	uint64_t sum = 0;

	for (int i = 0; i < DRAW_WARPS; i++)
		sum += sh.parts[i];
	return sum;
}

/*
 * The first id of [first, first + n) with which the sum of worth() exceeds `target`. draw_sum() was of
 * that.
 */
template <class F>
__device__ __forceinline__ uint32_t draw_find(
	draw_shared &sh, uint32_t first, uint32_t n, uint64_t target, F worth)
{
	for (;;) {
		uint32_t part = (n + DRAW_WARPS - 1) / DRAW_WARPS, w = 0;

		while (w < DRAW_WARPS - 1 && target >= sh.parts[w])
			target -= sh.parts[w++];
		first += w * part;
		n = min(part, n - w * part);
		if (n <= 1)
			return first;
		draw_sum(sh, first, n, worth);
	}
}

/* The sum of worth() over the row; of its runs, in sh.brought. */
template <class F>
__device__ __forceinline__ uint64_t draw_sum_row(
	draw_shared &sh, draw_group &g, const draw_row &r, F worth)
{
	uint64_t mine, sum = 0;

	draw_sum(sh, r.first, r.n, worth);
	mine = draw_total(sh);
	draw_meet<1>(sh, g, &mine);
	for (uint32_t b = 0; b < g.nb_blocks; b++)
		sum += sh.brought[b][0];
	return sum;
}

/* As draw_find(), of the whole row, after draw_sum_row(). Each block for itself. */
template <class F>
__device__ __forceinline__ uint32_t draw_find_in_row(
	draw_shared &sh, const draw_group &g, const draw_row &r, uint64_t target, F worth)
{
	uint32_t b = 0, first, n;

	while (b < g.nb_blocks - 1 && target >= sh.brought[b][0])
		target -= sh.brought[b++][0];
	first = min(b * g.run, r.vocab);
	n = min(g.run, r.vocab - first);
	if (g.nb_blocks > 1)
		draw_sum(sh, first, n, worth);
	return draw_find(sh, first, n, target, worth);
}

/* Sums over the block of eight values of each thread, to sums[]. */
__device__ __forceinline__ void draw_reduce(draw_shared &sh, uint64_t sums[DRAW_PIVOTS])
{
	uint32_t lane = threadIdx.x % 32, mine = 0;

	/* Halves are exchanged until each lane has one sum, over every fourth lane. */
#pragma unroll
	for (int n = DRAW_PIVOTS / 2, step = 16; n > 0; n /= 2, step /= 2) {
		bool upper = lane & step;

#pragma unroll
		for (int j = 0; j < n; j++) {
			uint64_t given = upper ? sums[j] : sums[j + n];
			uint64_t kept = upper ? sums[j + n] : sums[j];

			sums[j] = kept + __shfl_xor_sync(~0u, given, step);
		}
		mine += upper ? n : 0;
	}
	sums[0] += __shfl_xor_sync(~0u, sums[0], 2);
	sums[0] += __shfl_xor_sync(~0u, sums[0], 1);
	__syncthreads();
	if (lane % 4 == 0)
		sh.pivots[threadIdx.x / 32][mine] = sums[0];
	__syncthreads();
#pragma unroll
	for (int j = 0; j < DRAW_PIVOTS; j++)
		sums[j] = 0;
	for (int w = 0; w < DRAW_WARPS; w++)
#pragma unroll
		for (int j = 0; j < DRAW_PIVOTS; j++)
			sums[j] += sh.pivots[w][j];
}

/*
 * Keeps the fewest of the best that are worth `goal` together: their weight, or their number. All
 * that were kept so far are worth `total`, at least the goal.
 */
template <bool WEIGHS>
__device__ __forceinline__ void draw_keep_best(
	draw_shared &sh, draw_group &g, draw_row &r, uint64_t total, uint64_t goal)
{
	/* Worth of keys from `low` on: enough, at_low; from `high` on: too little, above. */
	uint32_t low = max(r.key, 1u), high = r.max_key + 1, end;
	uint64_t at_low = total, above = 0, each, nb_ties;
	bool is_first = true;

	while (high - low > 1) {
		uint32_t step = (high - low + DRAW_PIVOTS) / (DRAW_PIVOTS + 1), below = low;
		uint32_t pivots[DRAW_PIVOTS], old_low = low, old_high = high;
		uint64_t sums[DRAW_PIVOTS], base = above;

		/* Where probabilities are likely to end first, then evenly. */
#pragma unroll
		for (int j = 0; j < DRAW_PIVOTS; j++) {
			uint32_t guess = og_draw_key(
				r.max - (float)(1 << (DRAW_PIVOTS - 1 - j)) / (4 * r.scale));

			pivots[j] = is_first ? min(max(guess, low), high)
					     : low + min((j + 1) * step, high - low);
			sums[j] = 0;
		}
		for (uint32_t i = r.first + threadIdx.x; i < r.first + r.n;
			i += OG_CUDA_DRAW_THREADS) {
			float logit = r.logits[i];
			uint32_t key = og_draw_key(logit);
			uint64_t worth;

			if (key < old_low || key >= old_high || !draw_keeps(r, key, i))
				continue;
			worth = WEIGHS ? og_draw_weight(logit, r.max, r.scale) : 1;
#pragma unroll
			for (int j = 0; j < DRAW_PIVOTS; j++)
				sums[j] += key >= pivots[j] ? worth : 0;
		}
		draw_reduce(sh, sums);
		draw_meet<DRAW_PIVOTS>(sh, g, sums);
#pragma unroll
		for (int j = 0; j < DRAW_PIVOTS; j++)
			sums[j] = 0;
		for (uint32_t b = 0; b < g.nb_blocks; b++)
#pragma unroll
			for (int j = 0; j < DRAW_PIVOTS; j++)
				sums[j] += sh.brought[b][j];
#pragma unroll
		for (int j = DRAW_PIVOTS - 1; j >= 0; j--) /* the lowest that is too little */
			if (base + sums[j] < goal) {
				high = pivots[j];
				above = base + sums[j];
			}
#pragma unroll
		for (int j = 0; j < DRAW_PIVOTS; j++) /* the highest that is enough */
			if (base + sums[j] >= goal) {
				below = pivots[j];
				at_low = base + sums[j];
			}
		low = below;
		is_first = false;
	}
	each = WEIGHS ? og_draw_weight(draw_logit(low), r.max, r.scale) : 1;
	nb_ties = (goal - above + each - 1) / each;
	end = low == r.key ? r.end : r.vocab;
	if (nb_ties * each != at_low - above) {
		auto is_tie = [&](uint32_t i) -> uint64_t {
			return og_draw_key(r.logits[i]) == low && draw_keeps(r, low, i);
		};

		draw_sum_row(sh, g, r, is_tie);
		end = draw_find_in_row(sh, g, r, nb_ties - 1, is_tie) + 1;
	}
	r.key = low;
	r.end = end;
}

__device__ __forceinline__ uint32_t draw_token(
	draw_shared &sh, draw_group &g, draw_row &r, const og_draw &how)
{
	uint64_t total, least = 0;
	auto is_kept = [&](uint32_t i) -> uint64_t {
		return draw_keeps(r, og_draw_key(r.logits[i]), i);
	};
	auto weight = [&](uint32_t i) -> uint64_t {
		float logit = r.logits[i];
		uint64_t w = 0;

		if (draw_keeps(r, og_draw_key(logit), i))
			w = og_draw_weight(logit, r.max, r.scale);
		return w >= least ? w : 0;
	};

	if (how.top_k != OG_DRAW_ALL) {
		total = draw_sum_row(sh, g, r, is_kept);
		if (total > how.top_k)
			draw_keep_best<false>(sh, g, r, total, how.top_k);
	}
	if (how.top_p != OG_DRAW_ALL) {
		total = draw_sum_row(sh, g, r, weight);
		draw_keep_best<true>(sh, g, r, total, og_draw_share(total, how.top_p));
	}
	least = how.weight_min;
	total = draw_sum_row(sh, g, r, weight);
	return draw_find_in_row(sh, g, r, og_draw_part(how.random, total), weight);
}

/* The key of the largest logit above the complement of its id; of equal ones the first. */
__device__ __forceinline__ uint64_t draw_largest(draw_shared &sh, draw_group &g, const draw_row &r)
{
	uint64_t best = 0;

#pragma unroll 4
	for (uint32_t i = r.first + threadIdx.x; i < r.first + r.n; i += OG_CUDA_DRAW_THREADS) {
		uint64_t key = og_draw_key(r.logits[i]);

		best = max(best, key << 32 | (uint32_t)~i);
	}
#pragma unroll
	for (int step = 16; step > 0; step /= 2)
		best = max(best, __shfl_xor_sync(~0u, best, step));
	if (threadIdx.x % 32 == 0)
		sh.parts[threadIdx.x / 32] = best;
	__syncthreads();
	for (int i = 0; i < DRAW_WARPS; i++)
		best = max(best, sh.parts[i]);
	draw_meet<1>(sh, g, &best);
	for (uint32_t b = 0; b < g.nb_blocks; b++)
		best = max(best, sh.brought[b][0]);
	return best;
}

/*
 * Grid: blocks of a row, rows; more than one block only where all are live at once. Row b of logits
 * (rows, vocab) f32 yields a token as draws[b] says. It goes to drawn[slot], for a
 * step behind this one, and with `number` above it to results[result], in host memory: one store, so
 * whoever finds the number there finds the token.
 */
extern "C" __global__ void __launch_bounds__(OG_CUDA_DRAW_THREADS)
	draw_tokens(uint64_t *__restrict__ results, uint32_t *__restrict__ drawn,
		const float *__restrict__ logits, const og_cuda_draw *__restrict__ draws,
		og_cuda_draw_scratch *__restrict__ scratch, uint32_t vocab, uint32_t number)
{
	__shared__ draw_shared sh;
	const og_cuda_draw &d = draws[blockIdx.y];
	draw_group g = {&scratch[blockIdx.y], gridDim.x, (vocab + gridDim.x - 1) / gridDim.x, 0};
	uint32_t first = min(blockIdx.x * g.run, vocab);
	draw_row r = {logits + (size_t)blockIdx.y * vocab, vocab, first, min(g.run, vocab - first),
		0, 0, 0, 0, 0};
	uint64_t best = draw_largest(sh, g, r);
	uint32_t key = (uint32_t)(best >> 32), token = ~(uint32_t)best;

	if (key == 0) {
		token = OG_CUDA_NO_TOKEN;
	} else if (d.how.scale > 0 && draw_logit(key) <= 3.402823466e38f) {
		r.max_key = key;
		r.max = draw_logit(key);
		r.scale = d.how.scale;
		token = draw_token(sh, g, r, d.how);
	}
	draw_leave(g);
	if (blockIdx.x == 0 && threadIdx.x == 0) {
		drawn[d.slot] = key == 0 ? 0 : token; /* what goes on from none is not looked at */
		*(volatile uint64_t *)&results[d.result] = (uint64_t)number << 32 | token;
	}
}

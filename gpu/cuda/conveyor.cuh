/*
 * conveyor.cuh: a step of few rows as one launch, whose weights never wait for its activations.
 *
 * There is one block per processor, and all are there at once. They go through the operations of a
 * schedule (conveyor.h) together and meet between those that need all of what was before. Each of 8
 * warps has one run of every sum, and of that the tiles of its block as a stream of stages of 2 KB:
 * group by group of up to 4 tiles, step by step, tile by tile, product after product to the end of the
 * step. The warp copies its stream through a ring in shared memory, and refills a stage as soon as it
 * has taken it: so while it waits at a meeting, or is busy with norms or attention, the next weights
 * are on their way, of whatever product they are.
 *
 * What that hides: of 227 KB of shared memory 160 KB are rings (with heads of 65 to 128 values; 10 stages
 * a warp), so 21.6 MB are in flight on 132 processors, which memory at 4.3 TB/s takes 5 us to deliver. (163 KB:
 * 6 stages, 99 KB: 2.) A layer has 7 meetings (norm | q,k,v | attention | output | norm | gate, up | down),
 * and one more for each sum that the model adds a bias to or norms. A meeting is an atomic and a load
 * through the second-level cache, by estimate 1 to 1.5 us. Around a norm, two meetings and a row of work,
 * that is hidden; attention over thousands of positions, which waits for its own pages and computes with
 * two warps of 8 where a key-value head has up to 16 queries, is not in full. Nor is the first step of a
 * product's activations, read through the second-level cache. None of this was measured where it was
 * written; tests/gpu/cuda_bench.c does. In particular, whether the release of a meeting waits for copies in
 * flight is not said anywhere: if it does, nothing is hidden, and the launch count is all that is saved.
 *
 * Attention takes one unit after another: a split of a row and key-value head. What precedes it is done
 * by who needs it (queries are rotated by each unit, the new key and value by the one whose page they go to),
 * and the block whose unit of a row and head comes last merges. Each row is of a sequence of its own.
 *
 * The bits are those of the other kernels: the same runs in the same order, the same splits, and the
 * same functions wherever something is rounded.
 *
 * What other blocks wrote in this launch is read after a meeting, by loads that are no `const __restrict__`;
 * only weights, rows and tables are constant.
 */
#pragma once
#include "gpu/cuda/attention.cuh"
#include "gpu/cuda/conveyor.h"
#include "gpu/cuda/matmul.cuh"
#include "gpu/cuda/rows.cuh"

static_assert((int)OG_CONVEYOR_THREADS == ROW_THREADS, "rows are done by a whole block");

template <class T> __device__ __forceinline__ T *at(uint64_t address)
{
	return (T *)(uintptr_t)address;
}

/*
 * All blocks have come here; false: one gave up, and so does this one. A block counts itself in, and waits
 * until all are counted as often as it was.
 */
__device__ __forceinline__ bool meet(const og_conveyor_args &p, uint32_t &met)
{
	__shared__ uint32_t goes_on;

	met += gridDim.x;
	__syncthreads();
	if (threadIdx.x == 0) {
		uint32_t *counter = at<uint32_t>(p.counter);
		uint64_t since = clock_now();
		int ahead;

		add_release(counter, 1);
		while ((ahead = (int)(load_acquire(counter) - met)) < 0) {
			if (clock_now() - since < p.patience)
				continue;
			*at<volatile uint32_t>(p.gave_up) = 1;
			__threadfence_system();
			atomicExch(counter, met + OG_CONVEYOR_GAVE_UP);
		}
		goes_on = ahead < OG_CONVEYOR_GAVE_UP / 2;
	}
	__syncthreads();
	return goes_on;
}

/* Vectors of the model that an operation takes, for when all have met. */
__device__ __forceinline__ void prefetch_vectors(
	const og_conveyor_args &p, const og_conveyor_op &op)
{
	const og_cuda_heads &s = p.heads;
	bool is_attention = op.kind == OG_CONVEYOR_ATTENTION;
	uint32_t n_a = is_attention ? (s.nb_heads + 2 * s.nb_kv_heads) * s.head_dim : p.width;
	uint32_t n_b = is_attention ? s.head_dim : p.width;

	/* A line has 32 values. Rows are done by the first blocks. */
	if (!is_attention && blockIdx.x >= p.nb_rows)
		return;
	for (uint32_t i = 32 * threadIdx.x; i < n_a && op.a; i += 32 * OG_CONVEYOR_THREADS)
		prefetch(at<const float>(op.a) + i);
	for (uint32_t i = 32 * threadIdx.x; i < n_b; i += 32 * OG_CONVEYOR_THREADS) {
		if (op.b)
			prefetch(at<const float>(op.b) + i);
		if (op.c)
			prefetch(at<const float>(op.c) + i);
	}
}

/* ---- The stream of a warp's weights. ---- */

/* Where chunk `c` (16 bytes) of row `r` of a stage lies: a quarter warp reads four chunks of two rows. */
__device__ __forceinline__ uint32_t stage_chunk(uint32_t r, uint32_t c)
{
	return r * 8 + (c ^ (r & 1) << 2);
}

struct belt {
	const og_conveyor_product *product, *end;
	const __nv_bfloat16 *w;
	uint32_t kp;
	uint32_t tile, group, group_end, tiles_end;
	uint32_t step, step_begin, step_end;
	uint32_t stage; /* of the ring, that is taken and filled next */
};

/* The tiles of this block, and the steps of this warp. */
__device__ __forceinline__ void find_share(const og_conveyor_product &m, uint32_t warp,
	uint32_t &tiles_begin, uint32_t &tiles_end, uint32_t &step_begin, uint32_t &step_end)
{
	uint32_t per_part = og_conveyor_part_tiles(&m), steps = m.kp / OG_CUDA_K_STEP;

	og_conveyor_share(&m, blockIdx.x, gridDim.x, &tiles_begin, &tiles_end);
	tiles_begin *= per_part;
	tiles_end *= per_part;
	step_begin = slice_begin(warp, steps);
	step_end = slice_begin(warp + 1, steps);
}

/* To the first product, from b.product on, of which this warp has any. */
__device__ __forceinline__ void turn_to_product(belt &b, uint32_t warp)
{
	for (; b.product != b.end; b.product++) {
		const og_conveyor_product m = *b.product;

		find_share(m, warp, b.group, b.tiles_end, b.step_begin, b.step_end);
		if (b.group == b.tiles_end || b.step_begin == b.step_end)
			continue;
		b.w = at<const __nv_bfloat16>(m.w);
		b.kp = m.kp;
		b.group_end = min(b.group + OG_CONVEYOR_GROUP, b.tiles_end);
		b.tile = b.group;
		b.step = b.step_begin;
		return;
	}
}

/* The next stage of the stream is on its way to b.stage; nothing at the end, which counts as a group too. */
__device__ __forceinline__ void feed(belt &b, uint4 *ring, uint32_t warp, uint32_t lane)
{
	if (b.product != b.end) {
		uint4 *to = ring + b.stage * (OG_CONVEYOR_STAGE_BYTES / 16);
		const __nv_bfloat16 *from = b.w +
					    (size_t)(b.tile * OG_CONVEYOR_TILE + lane / 8) * b.kp +
					    b.step * OG_CUDA_K_STEP + lane % 8 * 8;

#pragma unroll
		for (int i = 0; i < OG_CONVEYOR_TILE / 4; i++)
			copy_async(to + stage_chunk(i * 4 + lane / 8, lane % 8),
				from + (size_t)i * 4 * b.kp, true);
		if (++b.tile == b.group_end) {
			b.tile = b.group;
			if (++b.step == b.step_end) {
				b.step = b.step_begin;
				b.tile = b.group = b.group_end;
				b.group_end = min(b.group + OG_CONVEYOR_GROUP, b.tiles_end);
				if (b.group == b.tiles_end) {
					b.product++;
					turn_to_product(b, warp);
				}
			}
		}
	}
	copy_commit();
}

/* The stage that was filled first of `depth` is here. */
__device__ __forceinline__ void wait_for_stage(uint32_t depth)
{
	switch (depth) {
	case 2:
		copy_wait<1>();
		break;
	case 4:
		copy_wait<3>();
		break;
	case 6:
		copy_wait<5>();
		break;
	default:
		copy_wait<9>();
	}
	__syncwarp();
}

/* ---- Products. ---- */

/* Activations of one step: 16 rows of 64, as fragments. Rows that there are not are zero. */
struct fragments {
	uint4 v[2][2]; /* 8 rows, half of a step */
};

__device__ __forceinline__ fragments load_fragments(
	const __nv_bfloat16 *x, uint32_t kp, uint32_t step, uint32_t nb_rows, uint32_t lane)
{
	fragments f;

#pragma unroll
	for (int n = 0; n < 2; n++)
#pragma unroll
		for (int h = 0; h < 2; h++) {
			uint32_t row = n * 8 + lane / 4;

			f.v[n][h] = make_uint4(0, 0, 0, 0);
			if (row < nb_rows)
				f.v[n][h] = __ldcg((const uint4 *)(x + (size_t)row * kp +
								   step * OG_CUDA_K_STEP + h * 32 +
								   lane % 4 * 8));
		}
	return f;
}

/* One result; `old` is what was there, where it is added to. */
__device__ __forceinline__ void deliver(
	const og_conveyor_product &m, uint32_t row, uint32_t col, float v, float up, float old)
{
	size_t i = (size_t)row * m.ld + col;

	if (m.epilogue == OG_CUDA_STORE)
		at<float>(m.out)[i] = m.cap > 0 ? capped(v, m.cap) : v;
	else if (m.epilogue == OG_CUDA_ADD)
		at<float>(m.out)[i] = __fadd_rn(old, v);
	else
		at<__nv_bfloat16>(m.out)[i] = __float2bfloat16_rn(gated(v, up, (int)m.epilogue));
}

__device__ __forceinline__ void multiply(const og_conveyor_args &p, const og_conveyor_product &m,
	belt &b, uint4 *ring, float *sums, uint32_t warp, uint32_t lane)
{
	constexpr int AHEAD = 2; /* steps, of activations */
	uint32_t nb_rows = m.is_wanted ? p.nb_wanted : p.nb_rows;
	const __nv_bfloat16 *x = at<const __nv_bfloat16>(m.x);
	uint32_t per_part = og_conveyor_part_tiles(&m);
	uint32_t row = threadIdx.x / 16; /* of the result that this thread writes */
	uint32_t tile, tiles_end, begin, end;

	find_share(m, warp, tile, tiles_end, begin, end);
	for (; tile < tiles_end; tile += OG_CONVEYOR_GROUP) {
		uint32_t nb_tiles = min(tiles_end - tile, (uint32_t)OG_CONVEYOR_GROUP);
		float acc[OG_CONVEYOR_GROUP][2][4] = {}, old[OG_CONVEYOR_GROUP] = {}, first = 0;
		fragments f[AHEAD + 1];

		/* Of the tile at `t`, or of its pair. */
		auto column = [&](uint32_t t) {
			return (tile + t) / per_part * 16 + threadIdx.x % 16;
		};

#pragma unroll
		for (int i = 0; i < AHEAD; i++)
			f[i] = load_fragments(
				x, m.kp, begin + i, begin + i < end ? nb_rows : 0, lane);
		if (m.epilogue == OG_CUDA_ADD && row < nb_rows)
#pragma unroll
			for (int t = 0; t < OG_CONVEYOR_GROUP; t++)
				if (t < nb_tiles && column(t) < m.n_out)
					old[t] = __ldcg(at<const float>(m.out) +
							(size_t)row * m.ld + column(t));
#pragma unroll 1
		for (uint32_t step = begin; step < end; step++) {
			f[AHEAD] = load_fragments(
				x, m.kp, step + AHEAD, step + AHEAD < end ? nb_rows : 0, lane);
#pragma unroll
			for (int t = 0; t < OG_CONVEYOR_GROUP; t++) {
				uint4 a[2][2];

				if (t >= nb_tiles)
					break;
				wait_for_stage(p.depth);
#pragma unroll
				for (int r = 0; r < 2; r++)
#pragma unroll
					for (int h = 0; h < 2; h++)
						a[r][h] = ring[b.stage * (OG_CONVEYOR_STAGE_BYTES /
										 16) +
							       stage_chunk(r * 8 + lane / 4,
								       h * 4 + lane % 4)];
				__syncwarp(); /* before it is filled anew */
				feed(b, ring, warp, lane);
				b.stage = b.stage + 1 == p.depth ? 0 : b.stage + 1;
#pragma unroll
				for (int h = 0; h < 2; h++)
#pragma unroll
					for (int n = 0; n < 2; n++)
						if (n == 0 || nb_rows > 8)
							mma_bf16_k32(acc[t][n], a[0][h], a[1][h],
								f[0].v[n][h]);
			}
#pragma unroll
			for (int i = 0; i < AHEAD; i++)
				f[i] = f[i + 1];
		}
		/* One of the two tiles that there is room for is summed while another is written. */
#pragma unroll
		for (int t = 0; t < OG_CONVEYOR_GROUP; t++) {
			float *partial = sums + t % 2 * (OG_CONVEYOR_SUMS_BYTES / 2 / 4), v;

			if (t >= nb_tiles)
				break;
#pragma unroll
			for (int n = 0; n < 2; n++)
				*(float4 *)&partial[((warp * 2 + n) * 32 + lane) * 4] = make_float4(
					acc[t][n][0], acc[t][n][1], acc[t][n][2], acc[t][n][3]);
			__syncthreads();
			if (row >= nb_rows)
				continue;
			v = sum_runs<2>(partial, threadIdx.x);
			if (t % 2 == 0 && per_part == 2)
				first = v;
			else if (column(t) < m.n_out)
				deliver(m, row, column(t), per_part == 2 ? first : v, v, old[t]);
		}
	}
}

/* ---- Attention. ---- */

/* rsqrt of the mean square of a head, by one warp, in the order of HEAD_THREADS threads. */
__device__ __forceinline__ float head_scale(
	const plain_head &head, uint32_t head_dim, float eps, uint32_t lane)
{
	float sums[HEAD_THREADS / 32], total = 0;

#pragma unroll
	for (int k = 0; k < HEAD_THREADS / 32; k++) {
		sums[k] = 0;
		for (uint32_t i = k * 32 + lane; i < head_dim; i += HEAD_THREADS)
			sums[k] = __fmaf_rn(head.biased(i), head.biased(i), sums[k]);
#pragma unroll
		for (int step = 16; step > 0; step /= 2)
			sums[k] += __shfl_xor_sync(~0u, sums[k], step);
	}
#pragma unroll
	for (int k = 0; k < HEAD_THREADS / 32; k++)
		total += sums[k];
	return rsqrtf(total / head_dim + eps);
}

/* A split of row `row` and head `kv_head`, for all queries of that head. */
struct unit {
	uint32_t row, kv_head, split, first, last; /* of that row's splits */
	uint32_t pos;
	const uint32_t *table;
};

/* Head `head` of q|k|v of a row: queries first. */
__device__ __forceinline__ plain_head find_head(const og_conveyor_args &p, const og_conveyor_op &op,
	const og_cuda_heads &s, uint32_t row, uint32_t head, uint32_t lane)
{
	uint32_t nb_units = s.nb_heads + 2 * s.nb_kv_heads;
	plain_head plain = {at<const float>(p.qkv) + ((size_t)row * nb_units + head) * s.head_dim,
		op.a ? at<const float>(op.a) + head * s.head_dim : nullptr, nullptr, 1};

	if (op.b && head < s.nb_heads + s.nb_kv_heads) {
		plain.scale = head_scale(plain, s.head_dim, p.eps, lane);
		plain.norm = at<const float>(head < s.nb_heads ? op.b : op.c);
	}
	return plain;
}

/* Queries of the unit, rotated, to `q` (group, DIM); the row's new key and value, if they are its. */
template <int DIM>
__device__ __forceinline__ void rotate_unit(const og_conveyor_args &p, const og_conveyor_op &op,
	const og_cuda_heads &s, const unit &u, __half *q, uint32_t warp, uint32_t lane)
{
	uint32_t group = s.nb_heads / s.nb_kv_heads, half = s.rope_dims / 2;
	const float *cosine = at<const float>(p.cosine[op.windowed]) + (size_t)u.row * half;
	const float *sine = at<const float>(p.sine[op.windowed]) + (size_t)u.row * half;
	uint32_t nb_new = u.split == u.last ? 2 : 0;

	for (uint32_t k = warp; k < nb_new + group; k += OG_CUDA_SLICES) {
		bool is_query = k >= nb_new;
		uint32_t head = is_query ? u.kv_head * group + k - nb_new
					 : s.nb_heads + k * s.nb_kv_heads + u.kv_head;
		const plain_head plain = find_head(p, op, s, u.row, head, lane);
		float v[DIM / 32];
		__half *to;

#pragma unroll
		for (int j = 0; j < DIM / 32; j++) {
			uint32_t i = j * 32 + lane;

			v[j] = i >= s.head_dim       ? 0
			       : k == 1 && !is_query ? plain[i]
						     : rotated(plain, i, s, cosine, sine);
		}
		if (is_query)
			to = q + (k - nb_new) * DIM;
		else
			to = at<__half>(p.kv) +
			     u.table[u.pos / OG_CUDA_BLOCK_TOKENS] * s.page_values +
			     s.layer * s.layer_values + (2 * u.kv_head + k) * s.head_values +
			     u.pos % OG_CUDA_BLOCK_TOKENS * s.head_dim;
#pragma unroll
		for (int j = 0; j < DIM / 32; j++)
			if (is_query || j * 32 + lane < s.head_dim)
				to[j * 32 + lane] = to_f16(is_query ? p.q_scale * v[j] : v[j]);
	}
}

/* The last of the unit's row and head to come here merges what all have left. */
__device__ __forceinline__ void merge_if_last(
	const og_conveyor_args &p, const attention_args &a, const og_cuda_heads &s, const unit &u)
{
	__shared__ uint32_t is_last;
	uint32_t group = s.nb_heads / s.nb_kv_heads;

	__syncthreads();
	if (threadIdx.x == 0 && u.first == u.last) {
		is_last = true;
	} else if (threadIdx.x == 0) {
		uint32_t *arrived = at<uint32_t>(p.arrivals) + u.row * s.nb_kv_heads + u.kv_head;

		is_last = add_acq_rel(arrived, 1) == u.last - u.first;
		if (is_last)
			*arrived = 0;
	}
	__syncthreads();
	if (!is_last)
		return;
	for (uint32_t i = threadIdx.x; i < group * s.head_dim; i += OG_CONVEYOR_THREADS) {
		uint32_t head = u.kv_head * group + i / s.head_dim, d = i % s.head_dim;
		size_t from = ((size_t)u.row * s.nb_heads + head) * a.nb_splits;

		a.out[(size_t)u.row * a.kp + head * s.head_dim + d] =
			__float2bfloat16_rn(merge_splits(a, s, from, u.first, u.last, d));
	}
}

/*
 * As attend() in attention.cuh, of one row, by twice as many warps: two have the same 16 queries, and mix
 * one half of the head each.
 */
template <int DIM>
__device__ __forceinline__ void attend_unit(const og_conveyor_args &p, const og_conveyor_op &op,
	const og_cuda_heads &s, const attention_args &a, const unit &u, uint4 *pages, uint32_t warp,
	uint32_t lane)
{
	constexpr int PAGE_CHUNKS = OG_CUDA_BLOCK_TOKENS * DIM / 8, DIMS = DIM / 2;
	uint32_t queries = warp / 2 * 16, first = warp % 2 * DIMS;
	uint32_t group = s.nb_heads / s.nb_kv_heads, own = u.pos / OG_CUDA_BLOCK_TOKENS;
	uint32_t begin =
		max(window_start(s, u.pos) / OG_CUDA_BLOCK_TOKENS, u.split * OG_CUDA_SPLIT_BLOCKS);
	uint32_t end = min(own + 1, (u.split + 1) * OG_CUDA_SPLIT_BLOCKS);
	uint32_t page = begin + lane < end ? u.table[begin + lane] : 0; /* of lane */
	__half *q = (__half *)(pages + 2 * PAGE_CHUNKS); /* until the second page comes there */
	warp_queries w;

	auto fetch = [&](uint32_t block) {
		uint4 *to = pages + (block - begin) % 2 * (2 * PAGE_CHUNKS);
		const __half *keys = (const __half *)a.kv +
				     __shfl_sync(~0u, page, (int)(block - begin)) * s.page_values +
				     s.layer * s.layer_values + 2 * u.kv_head * s.head_values;
		uint32_t nb_rows = min(
			u.pos + 1 - block * OG_CUDA_BLOCK_TOKENS, (uint32_t)OG_CUDA_BLOCK_TOKENS);

		fetch_page<DIM, OG_CONVEYOR_THREADS>(to, keys, nb_rows, s);
		fetch_page<DIM, OG_CONVEYOR_THREADS>(
			to + PAGE_CHUNKS, keys + s.head_values, nb_rows, s);
	};
	w.any = queries < group;
	for (int i = 0; i < 2; i++) {
		uint32_t r = queries + lane / 4 + i * 8;

		w.is_there[i] = r < group;
		w.row[i] = u.row;
		w.head[i] = u.kv_head * group + (w.is_there[i] ? r : 0);
		w.pos[i] = u.pos;
	}
	if (begin != own)
		fetch(begin);
	rotate_unit<DIM>(p, op, s, u, q, warp, lane);
	__syncthreads();
	if (begin == own)
		fetch(begin);
	copy_commit();

	uint4 query[DIM / 32][2];
	float mix[DIMS / 8][4] = {};
	state st[2] = {{-INFINITY, 0}, {-INFINITY, 0}};

#pragma unroll
	for (int k = 0; k < DIM / 32; k++)
#pragma unroll
		for (int i = 0; i < 2; i++)
			query[k][i] = *(const uint4 *)(q + (w.head[i] - u.kv_head * group) * DIM +
						       k * 32 + lane % 4 * 8);
	__syncthreads();
	for (uint32_t block = begin; block < end; block++) {
		const uint4 *keys = pages + (block - begin) % 2 * (2 * PAGE_CHUNKS);

		if (block + 1 < end)
			fetch(block + 1);
		copy_commit();
		copy_wait<1>();
		__syncthreads();
		if (w.any)
			attend_page<DIM, DIMS>(mix, st, query, keys, keys + PAGE_CHUNKS,
				block * OG_CUDA_BLOCK_TOKENS, w.pos, s, lane, first);
		__syncthreads(); /* before the next but one lands here */
	}
#pragma unroll
	for (int i = 0; i < 2; i++) {
		st[i].sum = __fadd_rn(st[i].sum, __shfl_xor_sync(~0u, st[i].sum, 1));
		st[i].sum = __fadd_rn(st[i].sum, __shfl_xor_sync(~0u, st[i].sum, 2));
		leave_split<DIM, DIMS>(a, s, w, i, u.split, st[i], mix, lane, first);
	}
	merge_if_last(p, a, s, u);
}

/* Units go to blocks in turns, those of a row by splits. */
template <int DIM>
__device__ __forceinline__ void attend_rows(const og_conveyor_args &p, const og_conveyor_op &op,
	const og_cuda_row *rows, uint4 *pages, uint32_t warp, uint32_t lane)
{
	constexpr uint32_t SPLIT_TOKENS = OG_CUDA_SPLIT_BLOCKS * OG_CUDA_BLOCK_TOKENS;
	__shared__ unit u; /* as registers are short */
	uint32_t next = blockIdx.x, before = 0;
	og_cuda_heads s = p.heads;
	attention_args a = {};

	s.layer = op.layer;
	s.window = op.windowed ? s.window : (uint32_t)OG_CUDA_NO_WINDOW;
	a.kv = at<const __half>(p.kv);
	a.out = at<__nv_bfloat16>(p.att);
	a.mixes = at<float>(p.mixes);
	a.states = at<state>(p.states);
	a.kp = (s.nb_heads * s.head_dim + OG_CUDA_K_STEP - 1) / OG_CUDA_K_STEP * OG_CUDA_K_STEP;
	a.nb_splits = p.nb_splits;
	for (uint32_t row = 0; row < p.nb_rows; row++) {
		uint32_t pos = rows[row].pos, first = window_start(s, pos) / SPLIT_TOKENS;
		uint32_t count = (pos / SPLIT_TOKENS - first + 1) * s.nb_kv_heads;

		for (; next < before + count; next += gridDim.x) {
			uint32_t split = (next - before) / s.nb_kv_heads;

			__syncthreads();
			if (threadIdx.x == 0)
				u = {row, (next - before) % s.nb_kv_heads, first + split, first,
					pos / SPLIT_TOKENS, pos,
					at<const uint32_t>(p.tables) + rows[row].table};
			__syncthreads();
			attend_unit<DIM>(p, op, s, a, u, pages, warp, lane);
		}
		before += count;
	}
}

/* ---- Rows: each by one block, always the same. ---- */

__device__ __forceinline__ void embed_one(
	const og_conveyor_args &p, const og_cuda_row *rows, uint32_t kp)
{
	uint32_t half = p.heads.rope_dims / 2;

	for (uint32_t row = blockIdx.x; row < p.nb_rows; row += gridDim.x) {
		uint32_t token = rows[row].token;

		if (token & OG_CUDA_DRAWN)
			token = at<const uint32_t>(p.drawn)[token - OG_CUDA_DRAWN];
		embed_row(at<float>(p.x) + (size_t)row * p.width,
			at<const __nv_bfloat16>(p.embedding) + (size_t)token * kp, p.width,
			p.embed_scale);
		for (int r = 0; r < 2; r++) {
			if (!p.turns[r])
				continue;
			for (uint32_t i = threadIdx.x; i < half; i += OG_CONVEYOR_THREADS)
				rope_angle(at<float>(p.cosine[r]) + (size_t)row * half + i,
					at<float>(p.sine[r]) + (size_t)row * half + i,
					rows[row].pos, at<const double>(p.turns[r])[i],
					p.magnitude[r]);
		}
	}
}

__device__ __forceinline__ void norm_rows(
	const og_conveyor_args &p, const og_conveyor_op &op, uint32_t kp)
{
	bool is_wanted = op.product.is_wanted;

	for (uint32_t i = blockIdx.x; i < (is_wanted ? p.nb_wanted : p.nb_rows); i += gridDim.x) {
		uint32_t row = is_wanted ? at<const uint32_t>(p.wanted)[i] : i;

		__syncthreads();
		norm_row(at<__nv_bfloat16>(p.h) + (size_t)i * kp,
			at<const float>(p.x) + (size_t)row * p.width, at<const float>(op.a),
			p.width, p.eps);
	}
}

__device__ __forceinline__ void add_deltas(const og_conveyor_args &p, const og_conveyor_op &op)
{
	for (uint32_t row = blockIdx.x; row < p.nb_rows; row += gridDim.x) {
		__syncthreads();
		add_row(at<float>(p.x) + (size_t)row * p.width,
			at<float>(p.delta) + (size_t)row * p.width, at<const float>(op.a),
			at<const float>(op.b), p.width, p.eps);
	}
}

/* ---- The whole. ---- */

template <int DIM> __device__ __forceinline__ void convey(const og_conveyor_args &p)
{
	extern __shared__ uint4 pages[]; /* or sums; then the rings */
	__shared__ og_cuda_row rows[OG_CONVEYOR_ROWS];
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, met = p.met;
	uint32_t kp = (p.width + OG_CUDA_K_STEP - 1) / OG_CUDA_K_STEP * OG_CUDA_K_STEP;
	uint4 *ring = pages + og_conveyor_pages_bytes(DIM) / 16 +
		      warp * p.depth * (OG_CONVEYOR_STAGE_BYTES / 16);
	const og_conveyor_op *ops = at<const og_conveyor_op>(p.ops);
	belt b = {};

	b.product = at<const og_conveyor_product>(p.products);
	b.end = b.product + p.nb_products;
	turn_to_product(b, warp);
	for (; b.stage < p.depth; b.stage++)
		feed(b, ring, warp, lane);
	b.stage = 0;
	if (threadIdx.x < p.nb_rows)
		rows[threadIdx.x] = at<const og_cuda_row>(p.rows)[threadIdx.x];
	__syncthreads();
	for (uint32_t i = 0; i < p.nb_ops; i++) {
		const og_conveyor_op op = ops[i]; /* is here when all have met */

		if (op.kind != OG_CONVEYOR_PRODUCT)
			prefetch_vectors(p, op);
		if (op.meets && !meet(p, met))
			break;
		switch (op.kind) {
		case OG_CONVEYOR_EMBED:
			embed_one(p, rows, kp);
			break;
		case OG_CONVEYOR_NORM:
			norm_rows(p, op, kp);
			break;
		case OG_CONVEYOR_ADD:
			add_deltas(p, op);
			break;
		case OG_CONVEYOR_PRODUCT:
			multiply(p, op.product, b, ring, (float *)pages, warp, lane);
			break;
		case OG_CONVEYOR_ATTENTION:
			attend_rows<DIM>(p, op, rows, pages, warp, lane);
			break;
		}
	}
	copy_wait<0>();
}

/* A cooperative launch of one block per processor. */
#define OG_CUDA_CONVEYOR(DIM)                                                                      \
	extern "C" __global__ void __launch_bounds__(OG_CONVEYOR_THREADS, 1)                       \
		conveyor_##DIM(const __grid_constant__ og_conveyor_args p)                         \
	{                                                                                          \
		convey<DIM>(p);                                                                    \
	}

OG_CUDA_CONVEYOR(32)
OG_CUDA_CONVEYOR(64)
OG_CUDA_CONVEYOR(128)

/*
 * matmul.cuh: out[row][col] = sum_i x[row][i] * w[col][i], for few rows and for many.
 *
 *   w (cols, kp), x (rows, kp): bf16, padded as shapes.h says; out: see og_cuda_epilogue, `ld` values
 *   from row to row. Only cols below n_out and rows below nb_rows are written.
 *
 * Both kernels give the same bits. The skinny one reads weights straight into registers, four steps
 * ahead, each warp one run of the sum. The tiled one goes through shared memory.
 */
#pragma once
#include "gpu/cuda/mma.cuh"

/* One result, or a pair of gate and up. `col` counts those written. */
__device__ __forceinline__ void put(
	void *out, uint32_t ld, uint32_t row, uint32_t col, float v, float up, int epilogue)
{
	size_t at = (size_t)row * ld + col;

	if (epilogue == OG_CUDA_STORE)
		((float *)out)[at] = v;
	else if (epilogue == OG_CUDA_ADD)
		((float *)out)[at] = __fadd_rn(((float *)out)[at], v);
	else
		((__nv_bfloat16 *)out)[at] = __float2bfloat16_rn(gated(v, up, epilogue));
}

/* Results of all warps of one 16-col tile, summed in order. `i` counts elements (row, col). */
template <int NT> __device__ __forceinline__ float sum_runs(const float *partial, uint32_t i)
{
	uint32_t col = i % 16, row = i / 16;
	uint32_t lane = col % 8 * 4 + row % 8 / 2, reg = col / 8 * 2 + row % 2;
	float total = 0;

#pragma unroll
	for (int run = 0; run < OG_CUDA_SLICES; run++)
		total = __fadd_rn(total, partial[((run * NT + row / 8) * 32 + lane) * 4 + reg]);
	return total;
}

template <int NT, int MT>
__device__ __forceinline__ void skinny(const __nv_bfloat16 *__restrict__ w,
	const __nv_bfloat16 *__restrict__ x, void *__restrict__ out, uint32_t kp, uint32_t nb_rows,
	uint32_t n_out, uint32_t ld, int epilogue)
{
	constexpr int AHEAD = 4 / MT; /* steps in flight */
	constexpr int PER_THREAD = NT > 1 ? NT / 2 : 1;
	__shared__ float partial[OG_CUDA_SLICES * NT * 32 * 4];
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	uint32_t steps = kp / OG_CUDA_K_STEP;
	uint32_t begin = slice_begin(warp, steps), end = slice_begin(warp + 1, steps);
	const __nv_bfloat16 *a =
		w + (size_t)(blockIdx.x * 16 * MT + lane / 4) * kp + lane % 4 * 8;
	const __nv_bfloat16 *b = x + (size_t)(lane / 4) * kp + lane % 4 * 8;
	uint4 buffer[AHEAD][MT][2][2]; /* step, tile, upper or lower row, half of a step */
	float acc[MT][NT][4] = {};
	float first[PER_THREAD] = {};

	auto fetch = [&](uint4(&to)[MT][2][2], uint32_t step) {
#pragma unroll
		for (int t = 0; t < MT; t++)
#pragma unroll
			for (int r = 0; r < 2; r++)
#pragma unroll
				for (int h = 0; h < 2; h++)
					to[t][r][h] = load_weights(a + (size_t)(t * 16 + r * 8) * kp +
								   step * OG_CUDA_K_STEP + h * 32);
	};

#pragma unroll
	for (int i = 0; i < AHEAD; i++)
		if (begin + i < end)
			fetch(buffer[i], begin + i);
	for (uint32_t step = begin; step < end; step += AHEAD) {
#pragma unroll
		for (int i = 0; i < AHEAD; i++) {
			if (step + i >= end)
				break;
#pragma unroll
			for (int h = 0; h < 2; h++)
#pragma unroll
				for (int n = 0; n < NT; n++) {
					uint4 v = *(const uint4 *)(b + (size_t)n * 8 * kp +
								   (step + i) * OG_CUDA_K_STEP +
								   h * 32);

#pragma unroll
					for (int t = 0; t < MT; t++)
						mma_bf16_k32(acc[t][n], buffer[i][t][0][h],
							buffer[i][t][1][h], v);
				}
			if (step + i + AHEAD < end)
				fetch(buffer[i], step + i + AHEAD);
		}
	}
#pragma unroll
	for (int t = 0; t < MT; t++) {
		__syncthreads();
#pragma unroll
		for (int n = 0; n < NT; n++)
			*(float4 *)&partial[((warp * NT + n) * 32 + lane) * 4] = make_float4(
				acc[t][n][0], acc[t][n][1], acc[t][n][2], acc[t][n][3]);
		__syncthreads();
#pragma unroll
		for (int k = 0; k < PER_THREAD; k++) {
			uint32_t i = threadIdx.x + k * 256;
			uint32_t row = i / 16, col;
			float v;

			if (row >= nb_rows || i >= NT * 128)
				continue;
			v = sum_runs<NT>(partial, i);
			if (is_gated(epilogue) && t % 2 == 0) {
				first[k] = v;
				continue;
			}
			col = is_gated(epilogue) ? blockIdx.x * 16 * MT / 2 + t / 2 * 16
							 : (blockIdx.x * MT + t) * 16;
			col += i % 16;
			if (col < n_out)
				put(out, ld, row, col, is_gated(epilogue) ? first[k] : v, v,
					epilogue);
		}
	}
}

/* Tiles of 32 * MTW cols by 32 * NTW rows; 8 warps, 2 along cols and 4 along rows. */
template <int MTW, int NTW> struct tiled_shape {
	static constexpr int COLS = 32 * MTW, ROWS = 32 * NTW, STAGES = 3;
	static constexpr int STAGE_BYTES = (COLS + ROWS) * OG_CUDA_K_STEP * 2;
	static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES;
};

/* Where chunk `c` (16 bytes) of row `r` of a stage lies: a quarter warp reads two rows at once. */
__device__ __forceinline__ uint32_t tiled_chunk(uint32_t r, uint32_t c)
{
	return r * 8 + (c ^ (r & 1) << 2);
}

template <int MTW, int NTW>
__device__ __forceinline__ void tiled(const __nv_bfloat16 *__restrict__ w,
	const __nv_bfloat16 *__restrict__ x, void *__restrict__ out, uint32_t kp, uint32_t nb_rows,
	uint32_t n_out, uint32_t ld, int epilogue)
{
	using S = tiled_shape<MTW, NTW>;
	extern __shared__ uint4 stages[];
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	uint32_t col0 = blockIdx.y * S::COLS, row0 = blockIdx.x * S::ROWS;
	uint32_t warp_col = warp % 2 * (16 * MTW), warp_row = warp / 2 * (8 * NTW);
	uint32_t steps = kp / OG_CUDA_K_STEP, slice = 0, slice_end;
	/*
	 * A zero that the compiler does not know: what it is joined to has registers of its own, in the
	 * order of the tensor core, and is put there once for all products that take it.
	 */
	uint32_t zero = nb_rows >> 31;
	uint32_t now = 0, next = 0; /* stages: that is worked on, that is filled */
	/* What a thread copies: one chunk of every 32nd row. What it reads: a chunk of every eighth. */
	uint32_t r = threadIdx.x / 8, c = threadIdx.x % 8;
	const __nv_bfloat16 *from_w = w + (size_t)(col0 + r) * kp + c * 8;
	const __nv_bfloat16 *from_x = x + (size_t)(row0 + r) * kp + c * 8;
	uint4 *to = stages + tiled_chunk(r, c);
	const uint4 *at_a[2], *at_b[2]; /* halves of a step */
	float acc[MTW][NTW][4] = {}, total[MTW][NTW][4] = {};

	for (int h = 0; h < 2; h++) {
		at_a[h] = stages + tiled_chunk(warp_col + lane / 4, h * 4 + lane % 4);
		at_b[h] = stages + tiled_chunk(S::COLS + warp_row + lane / 4, h * 4 + lane % 4);
	}
	auto after = [](uint32_t stage) { return stage + 1 == S::STAGES ? 0 : stage + 1; };
	auto fetch = [&] {
		uint4 *stage = to + next * (S::STAGE_BYTES / 16);

#pragma unroll
		for (int i = 0; i < S::COLS / 32; i++)
			copy_async(stage + i * 32 * 8, from_w + (size_t)(i * 32) * kp, true);
#pragma unroll
		for (int i = 0; i < S::ROWS / 32; i++)
			copy_async(stage + (S::COLS + i * 32) * 8, from_x + (size_t)(i * 32) * kp,
				true);
		from_w += OG_CUDA_K_STEP;
		from_x += OG_CUDA_K_STEP;
		next = after(next);
	};

	while ((slice_end = slice_begin(slice + 1, steps)) == 0)
		slice++;
#pragma unroll
	for (int i = 0; i < S::STAGES - 1; i++) {
		if (i < steps)
			fetch();
		copy_commit();
	}
	for (uint32_t step = 0; step < steps; step++) {
		uint32_t stage = now * (S::STAGE_BYTES / 16);

		now = after(now);
		copy_wait<S::STAGES - 2>();
		__syncthreads();
		if (step + S::STAGES - 1 < steps)
			fetch();
		copy_commit();
#pragma unroll
		for (int h = 0; h < 2; h++) {
			uint4 a[MTW][2], b[NTW];

#pragma unroll
			for (int n = 0; n < NTW; n++)
				b[n] = at_b[h][stage + n * 8 * 8];
#pragma unroll
			for (int t = 0; t < MTW; t++) {
				uint4 lo = at_a[h][stage + t * 16 * 8];
				uint4 hi = at_a[h][stage + (t * 16 + 8) * 8];

				a[t][0] = make_uint4(
					lo.x ^ zero, hi.x ^ zero, lo.y ^ zero, hi.y ^ zero);
				a[t][1] = make_uint4(
					lo.z ^ zero, hi.z ^ zero, lo.w ^ zero, hi.w ^ zero);
			}
#pragma unroll
			for (int t = 0; t < MTW; t++) {
#pragma unroll
				for (int n = 0; n < NTW; n++)
					mma_bf16(acc[t][n], a[t][0].x, a[t][0].y, a[t][0].z,
						a[t][0].w, b[n].x, b[n].y);
#pragma unroll
				for (int n = 0; n < NTW; n++)
					mma_bf16(acc[t][n], a[t][1].x, a[t][1].y, a[t][1].z,
						a[t][1].w, b[n].z, b[n].w);
			}
		}
		if (step + 1 != slice_end)
			continue;
#pragma unroll
		for (int t = 0; t < MTW; t++)
#pragma unroll
			for (int n = 0; n < NTW; n++)
#pragma unroll
				for (int i = 0; i < 4; i++) {
					total[t][n][i] = __fadd_rn(total[t][n][i], acc[t][n][i]);
					acc[t][n][i] = 0;
				}
		while (slice + 1 < OG_CUDA_SLICES && slice_end <= step + 1)
			slice_end = slice_begin(++slice + 1, steps);
	}
#pragma unroll
	for (int t = 0; t < MTW; t++) {
		if (is_gated(epilogue) && t % 2 == 1)
			continue;
#pragma unroll
		for (int n = 0; n < NTW; n++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				uint32_t row = row0 + warp_row + n * 8 + lane % 4 * 2 + i % 2;
				uint32_t col = col0 + warp_col + t * 16;
				float up = total[t | 1][n][i];

				col = (is_gated(epilogue) ? col / 2 : col) + lane / 4 +
				      i / 2 * 8;
				if (row < nb_rows && col < n_out)
					put(out, ld, row, col, total[t][n][i], up, epilogue);
			}
	}
}

#define OG_CUDA_MATMUL_ARGS                                                                        \
	const __nv_bfloat16 *__restrict__ w, const __nv_bfloat16 *__restrict__ x,                  \
		void *__restrict__ out, uint32_t kp, uint32_t nb_rows, uint32_t n_out, uint32_t ld, \
		int epilogue

#define OG_CUDA_SKINNY(name, NT, MT)                                                               \
	extern "C" __global__ void __launch_bounds__(256) name(OG_CUDA_MATMUL_ARGS)                \
	{                                                                                          \
		skinny<NT, MT>(w, x, out, kp, nb_rows, n_out, ld, epilogue);                       \
	}

/* Rows, then cols of a block: 16 or 32. Pairs of gate and up need 32. */
OG_CUDA_SKINNY(matmul_8x16, 1, 1)
OG_CUDA_SKINNY(matmul_8x32, 1, 2)
OG_CUDA_SKINNY(matmul_16x16, 2, 1)
OG_CUDA_SKINNY(matmul_16x32, 2, 2)
OG_CUDA_SKINNY(matmul_32x32, 4, 2)
OG_CUDA_SKINNY(matmul_64x32, 8, 2)

extern "C" __global__ void __launch_bounds__(256) matmul_64x64(OG_CUDA_MATMUL_ARGS)
{
	tiled<2, 2>(w, x, out, kp, nb_rows, n_out, ld, epilogue);
}

extern "C" __global__ void __launch_bounds__(256, 1) matmul_128x128(OG_CUDA_MATMUL_ARGS)
{
	tiled<4, 4>(w, x, out, kp, nb_rows, n_out, ld, epilogue);
}

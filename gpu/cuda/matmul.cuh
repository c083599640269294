/*
 * matmul.cuh: out[row][col] = sum_i x[row][i] * w[col][i], for few rows and for many.
 *
 *   x (rows, kp) bf16, w (cols, kp) bf16, or e4m3 with a scale (cols) f32 of each col, padded as
 *   shapes.h says; out: see og_cuda_epilogue, `ld` values from row to row. Only cols below n_out and
 *   rows below nb_rows are written.
 *
 * Both kernels give the same bits. The skinny one reads weights straight into registers, some steps
 * ahead, each warp one run of the sum. The tiled one goes through shared memory. Weights in e4m3 become
 * bf16 on their way to the tensor core, and the scale is applied to the finished sum.
 */
#pragma once
#include "gpu/cuda/fp8.cuh"
#include "gpu/cuda/mma.cuh"

/*
 * A step's values of one row of weights that a lane multiplies: 8 of each half of the step in bf16, and
 * 16 in a row in e4m3.
 */
template <class T> struct lane_step;

template <> struct lane_step<__nv_bfloat16> {
	static constexpr int AHEAD = 4; /* steps in flight, of one tile of 16 cols */
	static constexpr int VALUES = 8;
	uint4 halves[2];

	__device__ __forceinline__ void load(const __nv_bfloat16 *step)
	{
		halves[0] = load_weights(step);
		halves[1] = load_weights(step + OG_CUDA_K_STEP / 2);
	}

	__device__ __forceinline__ uint4 half(int h) const
	{
		return halves[h];
	}
};

/* Eight codes in bf16. */
__device__ __forceinline__ uint4 eight_bf16(uint32_t a, uint32_t b)
{
	uint2 lo = e4m3_to_bf16(a), hi = e4m3_to_bf16(b);

	return make_uint4(lo.x, lo.y, hi.x, hi.y);
}

template <> struct lane_step<e4m3> {
	static constexpr int AHEAD = 8;
	static constexpr int VALUES = 16;
	uint4 codes;

	__device__ __forceinline__ void load(const e4m3 *step)
	{
		codes = load_weights(step);
	}

	__device__ __forceinline__ uint4 half(int h) const
	{
		return h == 0 ? eight_bf16(codes.x, codes.y) : eight_bf16(codes.z, codes.w);
	}
};

/* Which of a step's chunks of 8 values that half is, for lane % 4 == `lane`. */
template <class T> __device__ __forceinline__ uint32_t chunk_of_step(int h, uint32_t lane)
{
	return lane_step<T>::VALUES == 8 ? h * 4 + lane : lane * 2 + h;
}

/* The sum `v` of a col of the matrix, with its scale. */
template <class T>
__device__ __forceinline__ float scaled(float v, const float *scales, uint32_t col)
{
	if constexpr (sizeof(T) == 1)
		return __fmul_rn(v, scales[col]);
	return v;
}

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

template <int NT, int MT, class T>
__device__ __forceinline__ void skinny(const T *__restrict__ w, const __nv_bfloat16 *__restrict__ x,
	void *__restrict__ out, uint32_t kp, uint32_t nb_rows, uint32_t n_out, uint32_t ld,
	int epilogue, const float *__restrict__ scales)
{
	constexpr int AHEAD = lane_step<T>::AHEAD / MT;
	constexpr int PER_THREAD = NT > 1 ? NT / 2 : 1;
	__shared__ float partial[OG_CUDA_SLICES * NT * 32 * 4];
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	uint32_t steps = kp / OG_CUDA_K_STEP;
	uint32_t begin = slice_begin(warp, steps), end = slice_begin(warp + 1, steps);
	const T *a = w + (size_t)(blockIdx.x * 16 * MT + lane / 4) * kp +
		     lane % 4 * lane_step<T>::VALUES;
	const __nv_bfloat16 *b = x + (size_t)(lane / 4) * kp;
	lane_step<T> buffer[AHEAD][MT][2]; /* step, tile, upper or lower row */
	float acc[MT][NT][4] = {};
	float first[PER_THREAD] = {};

	auto fetch = [&](lane_step<T>(&to)[MT][2], uint32_t step) {
#pragma unroll
		for (int t = 0; t < MT; t++)
#pragma unroll
			for (int r = 0; r < 2; r++)
				to[t][r].load(
					a + (size_t)(t * 16 + r * 8) * kp + step * OG_CUDA_K_STEP);
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
			for (int h = 0; h < 2; h++) {
				uint4 lo[MT], hi[MT];

#pragma unroll
				for (int t = 0; t < MT; t++) {
					lo[t] = buffer[i][t][0].half(h);
					hi[t] = buffer[i][t][1].half(h);
				}
#pragma unroll
				for (int n = 0; n < NT; n++) {
					uint4 v =
						*(const uint4 *)(b + (size_t)n * 8 * kp +
								 (step + i) * OG_CUDA_K_STEP +
								 chunk_of_step<T>(h, lane % 4) * 8);

#pragma unroll
					for (int t = 0; t < MT; t++)
						mma_bf16_k32(acc[t][n], lo[t], hi[t], v);
				}
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
			*(float4 *)&partial[((warp * NT + n) * 32 + lane) * 4] =
				make_float4(acc[t][n][0], acc[t][n][1], acc[t][n][2], acc[t][n][3]);
		__syncthreads();
#pragma unroll
		for (int k = 0; k < PER_THREAD; k++) {
			uint32_t i = threadIdx.x + k * 256;
			uint32_t row = i / 16, col;
			float v;

			if (row >= nb_rows || i >= NT * 128)
				continue;
			v = scaled<T>(sum_runs<NT>(partial, i), scales,
				(blockIdx.x * MT + t) * 16 + i % 16);
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

/*
 * Where chunk `c` (16 bytes) of row `r` of a stage lies: a quarter warp reads two rows at once, of each
 * four chunks as chunk_of_step() says.
 */
template <class T> __device__ __forceinline__ uint32_t tiled_chunk(uint32_t r, uint32_t c)
{
	return r * 8 + (c ^ (r & 1) << (lane_step<T>::VALUES == 8 ? 2 : 0));
}

/*
 * The weights of a tile in e4m3: read into registers two steps ahead, and put into their stage in bf16
 * by who read them.
 */
template <int COLS> struct code_reader {
	static constexpr int CHUNKS = COLS * 4 / 256; /* of a thread: 16 codes each */
	const e4m3 *from;
	uint32_t kp;
	uint4 now[CHUNKS], next[CHUNKS];

	__device__ __forceinline__ void start(const e4m3 *w, uint32_t w_kp, uint32_t steps)
	{
		from = w;
		kp = w_kp;
		load(now, 0, steps);
		load(next, 1, steps);
	}

	__device__ __forceinline__ void load(
		uint4 (&to)[CHUNKS], uint32_t step, uint32_t steps) const
	{
#pragma unroll
		for (int i = 0; i < CHUNKS; i++) {
			uint32_t chunk = threadIdx.x + i * 256;
			const e4m3 *at = from + (size_t)(chunk / 4) * kp + step * OG_CUDA_K_STEP +
					 chunk % 4 * 16;

			to[i] = step < steps ? *(const uint4 *)at : make_uint4(0, 0, 0, 0);
		}
	}

	/* Those of a step, and on to the next. */
	__device__ __forceinline__ void put(uint4 *stage, uint32_t step, uint32_t steps)
	{
#pragma unroll
		for (int i = 0; i < CHUNKS; i++) {
			uint32_t chunk = threadIdx.x + i * 256, r = chunk / 4, c = chunk % 4 * 2;

			stage[tiled_chunk<e4m3>(r, c)] = eight_bf16(now[i].x, now[i].y);
			stage[tiled_chunk<e4m3>(r, c + 1)] = eight_bf16(now[i].z, now[i].w);
			now[i] = next[i];
		}
		load(next, step + 2, steps);
	}
};

template <int MTW, int NTW, class T>
__device__ __forceinline__ void tiled(const T *__restrict__ w, const __nv_bfloat16 *__restrict__ x,
	void *__restrict__ out, uint32_t kp, uint32_t nb_rows, uint32_t n_out, uint32_t ld,
	int epilogue, const float *__restrict__ scales)
{
	using S = tiled_shape<MTW, NTW>;
	constexpr bool IN_CODES = sizeof(T) == 1;
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
	const T *from_w = w + (size_t)(col0 + r) * kp + c * 8; /* but for codes: see code_reader */
	const __nv_bfloat16 *from_x = x + (size_t)(row0 + r) * kp + c * 8;
	uint4 *to = stages + tiled_chunk<T>(r, c);
	const uint4 *at_a[2], *at_b[2]; /* halves of a step */
	float acc[MTW][NTW][4] = {}, total[MTW][NTW][4] = {};

	for (int h = 0; h < 2; h++) {
		uint32_t chunk = chunk_of_step<T>(h, lane % 4);

		at_a[h] = stages + tiled_chunk<T>(warp_col + lane / 4, chunk);
		at_b[h] = stages + tiled_chunk<T>(S::COLS + warp_row + lane / 4, chunk);
	}
	auto after = [](uint32_t stage) { return stage + 1 == S::STAGES ? 0 : stage + 1; };
	auto fetch = [&] {
		uint4 *stage = to + next * (S::STAGE_BYTES / 16);

#pragma unroll
		for (int i = 0; i < S::COLS / 32 && !IN_CODES; i++)
			copy_async(stage + i * 32 * 8, from_w + (size_t)(i * 32) * kp, true);
#pragma unroll
		for (int i = 0; i < S::ROWS / 32; i++)
			copy_async(stage + (S::COLS + i * 32) * 8, from_x + (size_t)(i * 32) * kp,
				true);
		from_w += OG_CUDA_K_STEP;
		from_x += OG_CUDA_K_STEP;
		next = after(next);
	};

	[[maybe_unused]] code_reader<S::COLS> codes;

	if constexpr (IN_CODES)
		codes.start(w + (size_t)col0 * kp, kp, steps);
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

		if constexpr (IN_CODES)
			codes.put(stages + stage, step, steps);
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
				uint32_t col = col0 + warp_col + t * 16,
					 in_tile = lane / 4 + i / 2 * 8;
				float v = scaled<T>(total[t][n][i], scales, col + in_tile);
				float up = total[t | 1][n][i];

				if (is_gated(epilogue)) {
					up = scaled<T>(up, scales, col + 16 + in_tile);
					col /= 2;
				}
				col += in_tile;
				if (row < nb_rows && col < n_out)
					put(out, ld, row, col, v, up, epilogue);
			}
	}
}

#define OG_CUDA_MATMUL_ARGS(T)                                                                     \
	const T *__restrict__ w, const __nv_bfloat16 *__restrict__ x, void *__restrict__ out,      \
		uint32_t kp, uint32_t nb_rows, uint32_t n_out, uint32_t ld, int epilogue,          \
		const float *__restrict__ scales

#define OG_CUDA_SKINNY(name, NT, MT, T)                                                            \
	extern "C" __global__ void __launch_bounds__(256) name(OG_CUDA_MATMUL_ARGS(T))             \
	{                                                                                          \
		skinny<NT, MT>(w, x, out, kp, nb_rows, n_out, ld, epilogue, scales);               \
	}

/* Rows, then cols of a block: 16 or 32. Pairs of gate and up need 32. */
OG_CUDA_SKINNY(matmul_8x16, 1, 1, __nv_bfloat16)
OG_CUDA_SKINNY(matmul_8x32, 1, 2, __nv_bfloat16)
OG_CUDA_SKINNY(matmul_16x16, 2, 1, __nv_bfloat16)
OG_CUDA_SKINNY(matmul_16x32, 2, 2, __nv_bfloat16)
OG_CUDA_SKINNY(matmul_32x32, 4, 2, __nv_bfloat16)
OG_CUDA_SKINNY(matmul_64x32, 8, 2, __nv_bfloat16)
OG_CUDA_SKINNY(matmul_8x16_e4m3, 1, 1, e4m3)
OG_CUDA_SKINNY(matmul_8x32_e4m3, 1, 2, e4m3)
OG_CUDA_SKINNY(matmul_16x16_e4m3, 2, 1, e4m3)
OG_CUDA_SKINNY(matmul_16x32_e4m3, 2, 2, e4m3)
OG_CUDA_SKINNY(matmul_32x32_e4m3, 4, 2, e4m3)
OG_CUDA_SKINNY(matmul_64x32_e4m3, 8, 2, e4m3)

#define OG_CUDA_TILED(name, MTW, NTW, T, ...)                                                      \
	extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(OG_CUDA_MATMUL_ARGS(T))     \
	{                                                                                          \
		tiled<MTW, NTW>(w, x, out, kp, nb_rows, n_out, ld, epilogue, scales);              \
	}

OG_CUDA_TILED(matmul_64x64, 2, 2, __nv_bfloat16, 256)
OG_CUDA_TILED(matmul_128x128, 4, 4, __nv_bfloat16, 256, 1)
OG_CUDA_TILED(matmul_64x64_e4m3, 2, 2, e4m3, 256)
OG_CUDA_TILED(matmul_128x128_e4m3, 4, 4, e4m3, 256, 1)

/*
 * check_executor: kernels with mistakes, and without, on the executor that the kernels of the product
 * are tested on. Prints one line per check; exits 0 or 1.
 */
#include "gpu/cuda/ptx.cuh"

#include <functional>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

static std::function<void()> body;
static int nb_failed;

static void expect(bool ok, const char *what)
{
	printf("%s: %s\n", ok ? "ok  " : "FAIL", what);
	fflush(stdout);
	nb_failed += !ok;
}

static bool run(unsigned grid, unsigned threads, uint32_t shared_bytes, bool cooperative,
	std::function<void()> kernel)
{
	og_host_launch l = {"of a test", [](const void *) { body(); }, nullptr, {grid, 1, 1},
		{threads, 1, 1}, shared_bytes, cooperative};

	body = kernel;
	return og_host_run(&l);
}

static bool is_nan(float v)
{
	return v != v;
}

static void check_waiting()
{
	expect(!run(2, 64, 0, false,
		       [] {
			       if (threadIdx.x != 5)
				       __syncthreads();
		       }),
		"a thread that ends before a barrier is told");
	expect(!run(1, 64, 0, false,
		       [] {
			       if (threadIdx.x == 40)
				       __syncthreads();
			       else
				       __syncwarp();
		       }),
		"a lane at the barrier that its warp waits for is told");
	expect(!run(1, 64, 0, false,
		       [] {
			       if (threadIdx.x < 32)
				       __syncthreads();
			       else
				       __syncthreads();
		       }),
		"two barriers at once are told");
	expect(!run(1, 32, 0, false,
		       [] {
			       if (threadIdx.x < 31)
				       __shfl_xor_sync(~0u, 1.0f, 1);
		       }),
		"a shuffle without a lane of its mask is told");
	expect(!run(1, 16, 0, false, [] { __shfl_xor_sync(~0u, 1.0f, 1); }),
		"a shuffle with lanes that there are not is told");
	expect(!run(1, 32, 0, false,
		       [] {
			       if (threadIdx.x < 16)
				       __shfl_sync(0xffffu, 1, 20);
			       else
				       __shfl_sync(0xffff0000u, 1, 20);
		       }),
		"a shuffle from a lane outside of its mask is told");
	expect(run(3, 96, 0, false,
		       [] {
			       if (threadIdx.x % 32 < 10)
				       __syncwarp(0x3ff);
			       __syncthreads();
			       if (__reduce_add_sync(~0u, threadIdx.x % 32) != 496)
				       og_host_fail("a wrong sum");
		       }),
		"parts of a warp may meet");
	expect(!run(1, 32, 0, false,
		       [] {
			       static int never;

			       while (atomicAdd(&never, 0) == 0)
				       ;
		       }),
		"a loop without end is told");
}

static void check_shared()
{
	extern __shared__ uint4 pages[];
	static float got[256];

	run(2, 256, 1024, false, [] {
		__shared__ float own[256];

		got[threadIdx.x] = own[threadIdx.x];
		if (!is_nan(((float *)pages)[threadIdx.x]))
			got[0] = 0;
		own[threadIdx.x] = ((float *)pages)[threadIdx.x] = 1;
	});
	bool all = true;

	for (float v : got)
		all &= is_nan(v);
	expect(all, "shared memory is NaN until it is written, in each block");
	static int nb_wrong;

	run(16, 256, 1024, false, [] {
		float *values = (float *)pages;

		values[threadIdx.x] = 1; /* and no barrier */
		nb_wrong += is_nan(values[threadIdx.x ^ 33]);
		__syncthreads();
	});
	expect(nb_wrong > 0, "without a barrier others have not written yet");
	expect(!run(1, 32, 64, false,
		       [] {
			       static uint4 from[32];

			       copy_async(pages + threadIdx.x, from + threadIdx.x, true);
		       }),
		"copies beyond the block's shared memory are told");
}

static void check_copies()
{
	extern __shared__ uint4 pages[];
	static float at_once, after_one, after_all, zeros;
	static float from[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	expect(run(1, 1, 48, false,
		       [] {
			       float *to = (float *)pages;

			       to[8] = 1;
			       copy_async(pages, from, true);
			       copy_commit();
			       copy_async(pages + 1, from + 4, true);
			       copy_async(pages + 2, from, false);
			       copy_commit();
			       at_once = to[0];
			       copy_wait<1>();
			       after_one = to[0];
			       if (!is_nan(to[4]))
				       og_host_fail("a copy came before it was waited for");
			       copy_wait<0>();
			       after_all = to[4];
			       zeros = to[8];
		       }) && is_nan(at_once) &&
			after_one == 1 && after_all == 5 && zeros == 0,
		"copies come when they are waited for");
}

/* All blocks add up what all have left, so they have to wait for each other. */
static void check_grid(bool cooperative)
{
	static unsigned nb_there;
	static int left[4], sums[4];

	nb_there = 0;
	memset(sums, 0, sizeof(sums));
	bool ok = run(4, 64, 0, cooperative, [] {
		__shared__ int own;

		if (threadIdx.x == 0) {
			own = (int)blockIdx.x + 1;
			left[blockIdx.x] = own;
			atomicAdd(&nb_there, 1);
			while (atomicAdd(&nb_there, 0) < gridDim.x)
				__nanosleep(20);
		}
		__syncthreads();
		if (threadIdx.x == 63)
			for (int i = 0; i < 4; i++)
				sums[blockIdx.x] += left[i] * own;
	});
	for (int i = 0; i < 4; i++)
		ok &= sums[i] == 10 * (i + 1);
	expect(ok == cooperative, cooperative ? "blocks of a cooperative launch wait for each other"
					      : "blocks of another launch cannot, which is told");
}

/* A look at memory is no meeting: others may be behind, whole blocks or warps of this one. */
static void check_order()
{
	static uint32_t counter, left[4][64], nb_blocks_early, nb_warps_early;

	for (int i = 0; i < 8; i++) {
		memset(left, 0, sizeof(left));
		run(4, 64, 0, true, [] {
			if (threadIdx.x == 32)
				load_acquire(&counter);
			if (threadIdx.x == 32 && left[blockIdx.x][5] == 0)
				nb_warps_early++;
			left[blockIdx.x][threadIdx.x] = 1;
			__syncthreads();
			if (threadIdx.x == 0)
				load_acquire(&counter);
			for (int k = 0; k < 4; k++)
				nb_blocks_early += left[k][threadIdx.x] == 0;
		});
	}
	expect(nb_blocks_early > 0 && nb_warps_early > 0,
		"blocks of a cooperative launch keep no step with each other");
}

static uint16_t to_bits(float v, bool is_half)
{
	return is_half ? __half_as_ushort(__float2half_rn(v))
		       : __bfloat16_as_ushort(__float2bfloat16_rn(v));
}

/* Small whole numbers: sums of products are exact. */
static void check_mma(bool is_half)
{
	static bool half;
	static int a[16][16], b[16][8], c[16][8];
	static bool ok;

	half = is_half;
	ok = true;
	for (int i = 0; i < 256; i++)
		a[i / 16][i % 16] = rand() % 31 - 15;
	for (int i = 0; i < 128; i++) {
		b[i / 8][i % 8] = rand() % 31 - 15;
		c[i / 8][i % 8] = rand() % 31 - 15;
	}
	run(1, 32, 0, false, [] {
		int g = (int)threadIdx.x >> 2, t = (int)threadIdx.x & 3;
		auto pack = [](int low, int high) {
			return (uint32_t)to_bits((float)low, half) |
			       (uint32_t)to_bits((float)high, half) << 16;
		};
		float d[4] = {(float)c[g][2 * t], (float)c[g][2 * t + 1], (float)c[g + 8][2 * t],
			(float)c[g + 8][2 * t + 1]};

		(half ? mma_f16 : mma_bf16)(d, pack(a[g][2 * t], a[g][2 * t + 1]),
			pack(a[g + 8][2 * t], a[g + 8][2 * t + 1]),
			pack(a[g][2 * t + 8], a[g][2 * t + 9]),
			pack(a[g + 8][2 * t + 8], a[g + 8][2 * t + 9]),
			pack(b[2 * t][g], b[2 * t + 1][g]), pack(b[2 * t + 8][g], b[2 * t + 9][g]));
		for (int i = 0; i < 4; i++) {
			int row = g + i / 2 * 8, col = 2 * t + i % 2, sum = c[row][col];

			for (int k = 0; k < 16; k++)
				sum += a[row][k] * b[k][col];
			ok &= d[i] == (float)sum;
		}
	});
	expect(ok, is_half ? "mma of f16 multiplies" : "mma of bf16 multiplies");
}

int main()
{
	check_waiting();
	check_shared();
	check_copies();
	check_grid(true);
	check_grid(false);
	check_order();
	check_mma(true);
	check_mma(false);
	return nb_failed > 0;
}

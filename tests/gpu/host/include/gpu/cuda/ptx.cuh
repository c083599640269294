/*
 * ptx.cuh: what stands for gpu/cuda/ptx.cuh on the host: the same functions, in plain words.
 *
 * Source:  PTX ISA 8, "Matrix Fragments for mma.m16n8k16", "ldmatrix", "cp.async". Products of a
 *          matrix are exact and summed in f32 in the order of k; a device sums in another order.
 */
#pragma once

/* One lane's part of a * b. */
struct og_host_mma {
	uint32_t a[4], b[2];
	float *d;
};

static inline float og_host_bf16(uint16_t bits)
{
	return __uint_as_float((uint32_t)bits << 16);
}

/* As a subnormal of f32 all of f16 is there; the factor brings it up. Infinities and NaN apart. */
static inline float og_host_f16(uint16_t bits)
{
	uint32_t rest = bits & 0x7fffu;
	uint32_t f = __float_as_uint(__uint_as_float(rest << 13) * 0x1p112f);

	if (rest >= 0x7c00)
		f |= 0x7f800000;
	return __uint_as_float(f | (uint32_t)(bits & 0x8000) << 16);
}

template <float (*VALUE)(uint16_t)>
static void og_host_multiply(void *const of[OG_HOST_WARP], uint32_t)
{
	float a[16][16], b[16][8], d[16][8];

	for (int lane = 0; lane < OG_HOST_WARP; lane++) {
		auto m = static_cast<const og_host_mma *>(of[lane]);
		int group = lane / 4, pair = lane % 4 * 2;

		for (int i = 0; i < 8; i++) /* a0 … a7 */
			a[group + i / 2 % 2 * 8][pair + i % 2 + i / 4 * 8] =
				VALUE((uint16_t)(m->a[i / 2] >> i % 2 * 16));
		for (int i = 0; i < 4; i++) /* b0 … b3 */
			b[pair + i % 2 + i / 2 * 8][group] =
				VALUE((uint16_t)(m->b[i / 2] >> i % 2 * 16));
		for (int i = 0; i < 4; i++)
			d[group + i / 2 * 8][pair + i % 2] = m->d[i];
	}
	for (int row = 0; row < 16; row++)
		for (int k = 0; k < 16; k++)
			for (int col = 0; col < 8; col++)
				d[row][col] += a[row][k] * b[k][col];
	for (int lane = 0; lane < OG_HOST_WARP; lane++) {
		auto m = static_cast<const og_host_mma *>(of[lane]);

		for (int i = 0; i < 4; i++)
			m->d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
	}
}

static inline void mma_bf16(
	float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
{
	og_host_mma m = {{a0, a1, a2, a3}, {b0, b1}, d};

	og_host_meet(~0u, "mma.bf16", 0, og_host_multiply<og_host_bf16>, &m);
}

static inline void mma_f16(
	float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
{
	og_host_mma m = {{a0, a1, a2, a3}, {b0, b1}, d};

	og_host_meet(~0u, "mma.f16", 0, og_host_multiply<og_host_f16>, &m);
}

struct og_host_ldmatrix {
	const uint16_t *row;
	uint32_t *out;
};

/* Lane 8 m + r says where row r of matrix m lies. */
static void og_host_load_transposed(void *const of[OG_HOST_WARP], uint32_t)
{
	const uint16_t *rows[OG_HOST_WARP];

	for (int lane = 0; lane < OG_HOST_WARP; lane++)
		rows[lane] = static_cast<const og_host_ldmatrix *>(of[lane])->row;
	for (int lane = 0; lane < OG_HOST_WARP; lane++)
		for (int m = 0; m < 4; m++) {
			int row = 8 * m + lane % 4 * 2, col = lane / 4;

			static_cast<const og_host_ldmatrix *>(of[lane])->out[m] =
				rows[row][col] | (uint32_t)rows[row + 1][col] << 16;
		}
}

static inline void load_matrices_transposed(uint32_t out[4], const void *row)
{
	og_host_ldmatrix l = {static_cast<const uint16_t *>(row), out};

	og_host_check_shared(row, 16, 16, "ldmatrix");
	og_host_meet(~0u, "ldmatrix", 0, og_host_load_transposed, &l);
}

static inline void copy_async(void *to, const void *from, bool is_there)
{
	og_host_copy(to, is_there ? from : nullptr, 16);
}

static inline void copy_commit()
{
	og_host_copy_commit();
}

template <int N> static inline void copy_wait()
{
	og_host_copy_wait(N);
}

static inline uint4 load_weights(const void *p)
{
	if ((uintptr_t)p % 16 != 0)
		og_host_fail("a load of 16 bytes at a multiple of %u",
			1u << __builtin_ctzl((uintptr_t)p));
	return *static_cast<const uint4 *>(p);
}

/* A device does not mind, but who means it has the right address. */
static inline void prefetch(const void *p)
{
	(void)*static_cast<const volatile char *>(p);
}

/* Fibers are switched only where they wait, so these are whole and ordered. */
static inline void add_release(uint32_t *p, uint32_t n)
{
	*p += n;
}

static inline uint32_t load_acquire(const uint32_t *p)
{
	og_host_yield(); /* a way to look at it, in a loop */
	return *p;
}

static inline uint32_t add_acq_rel(uint32_t *p, uint32_t n)
{
	uint32_t old = *p;

	*p = old + n;
	return old;
}

/* 1 ms of a device at 1 GHz passes whenever somebody looks. */
static inline uint64_t clock_now()
{
	static uint64_t now;

	return now += 1000 * 1000;
}

#include "gguf_writer.h"
#include "gpu/cpu/kernels.h"

#include <criterion/criterion.h>
#include <math.h>

enum { N = 1024, ROWS = 5, COUNT = 6 };

static const char *const isas[] = {"generic", "avx2", "avx512"};

/* Random weights of a type, as in a file; x gets the values that they were made from. */
static struct og_gw encode(enum og_dtype type, float *x, uint64_t seed)
{
	uint32_t block = OG_MAX(og_dtype_values(type), 32u);
	struct og_gw w = {0};
	struct og_rand r;

	og_rand_seeded(&r, seed);
	for (uint32_t i = 0; i < N * ROWS; i++)
		x[i] = og_gw_normal(&r);
	for (uint32_t i = 0; i < N * ROWS; i += block)
		og_gw_block(&w, type, x + i, block);
	return w;
}

Test(dtype, sizes_follow_from_blocks)
{
	cr_expect_eq(og_dtype_bytes(OG_F32, 256), 1024);
	cr_expect_eq(og_dtype_bytes(OG_BF16, 256), 512);
	cr_expect_eq(og_dtype_bytes(OG_Q8_0, 256), 272);
	cr_expect_eq(og_dtype_bytes(OG_Q4_0, 256), 144);
	cr_expect_eq(og_dtype_bytes(OG_Q4_K, 256), 144);
	cr_expect_eq(og_dtype_bytes(OG_Q5_K, 256), 176);
	cr_expect_eq(og_dtype_bytes(OG_Q6_K, 256), 210);
}

/* Bit for bit by hand: one block whose fields are all different. */
Test(dtype, a_q4_k_block_means_what_the_layout_says)
{
	uint8_t block[OG_Q4_K_BYTES] = {0};
	float out[256];

	og_store_le16(block, og_f32_to_f16(0.5f));
	og_store_le16(block + 2, og_f32_to_f16(0.25f));
	block[4] = 0xc0 | 3;       /* scale of part 0, upper bits of part 4's */
	block[4 + 4] = 0x80 | 5;   /* minimum of part 0, upper bits of part 4's */
	block[4 + 8] = 7 | 9 << 4; /* lower bits of part 4's scale and minimum */
	block[16] = 0x2b;          /* value 0 of parts 0 and 1 */
	block[16 + 64] = 0x0c;     /* value 0 of part 4 */
	og_dequantize(OG_Q4_K, block, 256, out);
	cr_expect_float_eq(out[0], 0.5f * 3 * 11 - 0.25f * 5, 1e-6);
	cr_expect_float_eq(out[1], -0.25f * 5, 1e-6);
	cr_expect_float_eq(out[32], 0, 1e-6);
	cr_expect_float_eq(out[128], 0.5f * 55 * 12 - 0.25f * 41, 1e-6);
}

Test(dtype, a_q6_k_block_means_what_the_layout_says)
{
	uint8_t block[OG_Q6_K_BYTES] = {0};
	float out[256];

	og_store_le16(block + 208, og_f32_to_f16(0.5f));
	block[192 + 15] = (uint8_t)-3; /* values 240 … 255 */
	block[64 + 32 + 31] = 0x50;    /* lower bits of value 255 */
	block[128 + 32 + 31] = 0x80;   /* its upper bits */
	og_dequantize(OG_Q6_K, block, 256, out);
	cr_expect_float_eq(out[255], 0.5f * -3 * (0x25 - 32), 1e-6);
	cr_expect_float_eq(out[254], 0.5f * -3 * -32, 1e-6);
	cr_expect_float_eq(out[0], 0, 1e-6);
}

Test(dtype, decoding_gives_back_about_what_was_encoded)
{
	static const double limits[OG_DTYPES] = {[OG_F32] = 0,
		[OG_F16] = 1e-3,
		[OG_BF16] = 5e-3,
		[OG_Q8_0] = 0.01,
		[OG_Q4_0] = 0.12,
		[OG_Q4_K] = 0.12,
		[OG_Q5_K] = 0.06,
		[OG_Q6_K] = 0.03};
	static float x[N * ROWS], y[N * ROWS];

	for (int type = 0; type < OG_DTYPES; type++) {
		struct og_gw w = encode((enum og_dtype)type, x, 4);
		double error = 0, size = 0;

		cr_assert_eq(w.len, og_dtype_bytes((enum og_dtype)type, N * ROWS));
		og_dequantize((enum og_dtype)type, w.data, N * ROWS, y);
		for (int i = 0; i < N * ROWS; i++) {
			error += (y[i] - x[i]) * (y[i] - x[i]);
			size += x[i] * x[i];
		}
		cr_expect_leq(sqrt(error / size), limits[type], "%s: %g",
			og_dtype_name((enum og_dtype)type), sqrt(error / size));
		og_gw_fini(&w);
	}
}

struct activations {
	float x[COUNT * N], scale[COUNT * N / 32], sum[COUNT * N / 32];
	int16_t q[COUNT * N];
	struct og_activations view;
};

static void make_activations(struct activations *a, const struct og_cpu_kernels *k)
{
	struct og_rand r;

	og_rand_seeded(&r, 8);
	for (int i = 0; i < COUNT * N; i++)
		a->x[i] = og_gw_normal(&r) + 0.2f;
	k->quantize(a->x, a->q, a->scale, a->sum, COUNT * N);
	a->view = (struct og_activations){a->x, a->q, a->scale, a->sum, N};
}

/* Every tile that covers the product gives the bits of the others, near the plain dot product. */
static void expect_products(const struct og_cpu_kernels *k, enum og_dtype type)
{
	static struct activations a;
	static float x[N * ROWS], row[N];
	struct og_gw w = encode(type, x, 5);
	size_t row_bytes = og_dtype_bytes(type, N);
	float all[COUNT][ROWS], one;

	make_activations(&a, k);
	k->matmul[type](all[0], ROWS, w.data, row_bytes, ROWS, &a.view, 0, COUNT);
	for (uint32_t r = 0; r < ROWS; r++) {
		og_dequantize(type, w.data + r * row_bytes, N, row);
		for (uint32_t c = 0; c < COUNT; c++) {
			double want = 0, size = 0;

			for (int i = 0; i < N; i++) {
				want += (double)row[i] * a.x[c * N + i];
				size += fabs((double)row[i] * a.x[c * N + i]);
			}
			cr_expect_lt(fabs(all[c][r] - want) / size, 1e-5, "%s %s: %g, not %g",
				k->isa, og_dtype_name(type), all[c][r], want);
			k->matmul[type](
				&one, 1, w.data + r * row_bytes, row_bytes, 1, &a.view, c, 1);
			cr_expect_eq(one, all[c][r], "%s %s: other bits alone", k->isa,
				og_dtype_name(type));
		}
	}
	og_gw_fini(&w);
}

Test(dtype, every_kernel_multiplies_as_decoding_first_does)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(isas); i++)
		for (int type = 0; type < OG_DTYPES && og_cpu_kernels_pick(isas[i]); type++)
			expect_products(og_cpu_kernels_pick(isas[i]), (enum og_dtype)type);
}

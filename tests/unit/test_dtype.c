#include "gguf_writer.h"
#include "gpu/cpu/kernels.h"
#include "gpu/panels.h"

#include <criterion/criterion.h>
#include <math.h>

enum { N = 1024, ROWS = 5, COUNT = 6, PANELS_ROWS = 2 * OG_PANEL_ROWS, MANY = 17 };

static const char *const isas[] = {"generic", "avx2", "avx512"};

/* Random weights of a type, as in a file; x gets the values that they were made from. */
static struct og_gw encode_rows(enum og_dtype type, float *x, uint32_t rows, uint64_t seed)
{
	uint32_t block = OG_MAX(og_dtype_values(type), 32u);
	struct og_gw w = {0};
	struct og_rand r;

	og_rand_seeded(&r, seed);
	for (uint32_t i = 0; i < N * rows; i++)
		x[i] = og_gw_normal(&r);
	for (uint32_t i = 0; i < N * rows; i += block)
		og_gw_block(&w, type, x + i, block);
	return w;
}

static struct og_gw encode(enum og_dtype type, float *x, uint64_t seed)
{
	return encode_rows(type, x, ROWS, seed);
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
	float x[COUNT * N], scale[COUNT * N / 32];
	int16_t q[COUNT * N];
	int32_t total[COUNT * N / 32];
	struct og_activations view;
};

static void make_activations(struct activations *a, const struct og_cpu_kernels *k)
{
	struct og_rand r;

	og_rand_seeded(&r, 8);
	for (int i = 0; i < COUNT * N; i++)
		a->x[i] = og_gw_normal(&r) + 0.2f;
	k->quantize(a->x, a->q, a->scale, a->total, COUNT * N);
	a->view = (struct og_activations){a->x, a->q, a->scale, a->total, N, N};
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

/* The same rows, one by one. */
static void pack(enum og_dtype type, uint8_t *data, size_t row_bytes)
{
	uint8_t *bounce = malloc(OG_PANEL_ROWS * row_bytes);

	for (uint32_t r = 0; r < PANELS_ROWS; r += OG_PANEL_ROWS)
		og_panel_pack(type, N, data + r * row_bytes, bounce);
	free(bounce);
}

Test(dtype, a_panel_holds_its_rows)
{
	static float x[N * PANELS_ROWS], want[PANELS_ROWS][N], got[N];

	for (int type = 0; type < OG_DTYPES; type++) {
		struct og_gw w = encode_rows((enum og_dtype)type, x, PANELS_ROWS, 6);
		size_t row_bytes = og_dtype_bytes((enum og_dtype)type, N);

		if (og_panel_rows((enum og_dtype)type, N, PANELS_ROWS) == 0) {
			og_gw_fini(&w);
			continue;
		}
		for (uint32_t r = 0; r < PANELS_ROWS; r++)
			og_dequantize((enum og_dtype)type, w.data + r * row_bytes, N, want[r]);
		pack((enum og_dtype)type, w.data, row_bytes);
		for (uint32_t r = 0; r < PANELS_ROWS; r++) {
			og_panel_row((enum og_dtype)type, N,
				w.data + r / OG_PANEL_ROWS * OG_PANEL_ROWS * row_bytes,
				r % OG_PANEL_ROWS, got);
			cr_expect_arr_eq(got, want[r], sizeof(got), "%s, row %u",
				og_dtype_name((enum og_dtype)type), r);
		}
		og_gw_fini(&w);
	}
}

Test(dtype, panels_are_for_whole_ones_of_some_types)
{
	cr_expect_eq(og_panel_rows(OG_BF16, 64, 100), 96);
	cr_expect_eq(og_panel_rows(OG_BF16, 63, 100), 0);
	cr_expect_eq(og_panel_rows(OG_F16, 63, 31), 0);
	cr_expect_eq(og_panel_rows(OG_F16, 63, 32), 32);
	cr_expect_eq(og_panel_rows(OG_Q8_0, 64, 32), 32);
	cr_expect_eq(og_panel_rows(OG_Q4_K, 256, 64), 64);
	cr_expect_eq(og_panel_rows(OG_Q6_K, 512, 31), 0);
	cr_expect_eq(og_panel_rows(OG_F32, 256, 64), 0);
}

struct many {
	float x[MANY * (N + 32)], scale[MANY * N / 32];
	int16_t q[MANY * (N + 32)];
	int32_t total[MANY * N / 32];
	struct og_activations view;
};

static void make_many(struct many *a, const struct og_cpu_kernels *k)
{
	uint32_t stride = N + 32;
	struct og_rand r;

	og_rand_seeded(&r, 8);
	for (uint32_t i = 0; i < MANY * stride; i++)
		a->x[i] = og_gw_normal(&r) + 0.2f;
	for (uint32_t i = 0; i < MANY; i++)
		k->quantize(a->x + i * stride, a->q + i * stride, a->scale + i * N / 32,
			a->total + i * N / 32, N);
	a->view = (struct og_activations){a->x, a->q, a->scale, a->total, N, stride};
}

/* Near the plain dot products, and the same bits for every number of activations. */
static void expect_panels(const struct og_cpu_kernels *k, enum og_dtype type)
{
	static struct many a;
	static float x[N * PANELS_ROWS], row[N], all[MANY][PANELS_ROWS], some[MANY][PANELS_ROWS];
	struct og_gw w = encode_rows(type, x, PANELS_ROWS, 7),
		     plain = encode_rows(type, x, PANELS_ROWS, 7);
	size_t row_bytes = og_dtype_bytes(type, N);

	make_many(&a, k);
	pack(type, w.data, row_bytes);
	k->matmul_panels[type](
		all[0], PANELS_ROWS, w.data, row_bytes, PANELS_ROWS, &a.view, 0, MANY);
	for (uint32_t r = 0; r < PANELS_ROWS; r++) {
		og_dequantize(type, plain.data + r * row_bytes, N, row);
		for (uint32_t c = 0; c < MANY; c++) {
			double want = 0, size = 0;

			for (int i = 0; i < N; i++) {
				double p = (double)row[i] * a.x[c * a.view.stride + i];

				want += p;
				size += fabs(p);
			}
			cr_expect_lt(fabs(all[c][r] - want) / size, 1e-5, "%s %s: %g, not %g",
				k->isa, og_dtype_name(type), all[c][r], want);
		}
	}
	for (uint32_t count = 1; count < MANY; count++) {
		k->matmul_panels[type](some[0], PANELS_ROWS, w.data, row_bytes, PANELS_ROWS,
			&a.view, MANY - count, count);
		cr_expect_arr_eq(some, all[MANY - count], count * sizeof(some[0]),
			"%s %s: other bits in a batch of %u", k->isa, og_dtype_name(type), count);
	}
	og_gw_fini(&w);
	og_gw_fini(&plain);
}

Test(dtype, every_kernel_multiplies_panels)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(isas); i++)
		for (int type = 0; type < OG_DTYPES && og_cpu_kernels_pick(isas[i]); type++)
			if (og_panel_rows((enum og_dtype)type, N, PANELS_ROWS) > 0)
				expect_panels(og_cpu_kernels_pick(isas[i]), (enum og_dtype)type);
}

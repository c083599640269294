/*
 * cuda_check: the CUDA back end on a real device, against gpu/ref. Prints one line per check and a
 * last line "N passed, N failed"; exits 0, 1, or 77 without a device.
 *
 *   cuda_check [--small | --tiny]    all kernels, but in few shapes, or in least
 *
 * What is checked, and how close:
 *   convert    bit for bit, against the reference's values rounded to bf16, and to e4m3
 *   matmul     1e-5 of the sum of magnitudes, and all kernels the same bits
 *   cublaslt   where it is installed, as close; a row alone and as one of 512 the same bits
 *   models     logits within 3e-2 (relative L2) of the fp32 reference, every type and odd shape
 *   fp8        of weights the same against a reference that rounds as well. With a cache in e4m3 what is
 *              lost before it can become a step of 6 %, so half of what that rounding costs is added; in
 *              both cases the error against the model without is at most 1.25 times the reference's.
 *              The cache itself is the fp16 one, rounded, but for 1 code in 100
 *   attention  serial and split the same bits, over several splits, for each padded head size
 *   invariance the same bits alone, in company, cut anywhere, from any pages, after a round trip
 *   drawing    the tokens that the host draws from the same logits
 *   random     weights for benches give numbers
 *   hostile    a cache that does not fit, pages and tokens that do not exist
 */
#include "tests/gpu/checks.h"
#include "tests/unit/gguf_writer.h"

#include "gpu/cuda/cublaslt.h"
#include "gpu/cuda/forward.h"
#include "gpu/fp8.h"
#include "gpu/ref/forward.h"
#include "gpu/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>

enum { ROWS_MAX = 700, SLOTS_MAX = 80, LONG_MAX = 640, FEW = 50 };

/* What is long, and in how much company: less of both with --small, for where a device is only played. */
static uint32_t length = LONG_MAX, slots = SLOTS_MAX;
static bool is_small, is_tiny;

static char err[512];

static bool same_bits(const void *a, const void *b, size_t bytes)
{
	return memcmp(a, b, bytes) == 0;
}

/* ---- Device memory for single kernels. ---- */

static struct og_cuda_device dev;

static CUdeviceptr to_device(const void *data, size_t bytes)
{
	CUdeviceptr p = 0;

	if (og_cuda_alloc(&dev, &p, bytes) < 0 ||
		dev.cu.cuMemcpyHtoDAsync(p, data, bytes, dev.stream) != CUDA_SUCCESS ||
		og_cuda_wait(&dev, dev.stream) < 0) {
		fprintf(stderr, "cuda_check: no device memory for a test\n");
		exit(1);
	}
	return p;
}

static int from_device(void *out, CUdeviceptr p, size_t bytes)
{
	int ret = og_cuda_check(
		&dev, dev.cu.cuMemcpyDtoHAsync(out, p, bytes, dev.stream), "cuMemcpyDtoHAsync");

	return ret < 0 ? ret : og_cuda_wait(&dev, dev.stream);
}

/* From a prime number on the same again: of large matrices all would take half a minute. */
static uint16_t *random_bf16(struct og_rand *r, size_t n)
{
	enum { PRIME = 1000003 };
	uint16_t *x = malloc(n * sizeof(*x));

	for (size_t i = 0; i < n; i++)
		x[i] = i < PRIME ? og_f32_to_bf16(og_gw_normal(r)) : x[i - PRIME];
	return x;
}

/* ---- Products. ---- */

struct product_case {
	uint32_t n_in, n_out, rows;
	bool in_fp8;
};

/* The largest error in units of the sum of magnitudes. */
static double product_error(const struct product_case *p, const float *w, const float *scales,
	const uint16_t *x, const float *got)
{
	double worst = 0;

	for (uint32_t r = 0; r < p->rows; r++)
		for (uint32_t c = 0; c < p->n_out; c++) {
			double sum = 0, size = 0;

			for (uint32_t i = 0; i < p->n_in; i++) {
				double v = (double)w[(size_t)c * p->n_in + i] * scales[c] *
					   og_bf16_to_f32(x[(size_t)r * p->n_in + i]);

				sum += v;
				size += fabs(v);
			}
			worst = fmax(worst, fabs(sum - got[(size_t)r * p->n_out + c]) / size);
			if (isnan(got[(size_t)r * p->n_out + c]))
				return INFINITY;
		}
	return worst;
}

/* n_out rows of kp values as the kernels take them, and what they are. */
static void random_weights(struct og_rand *r, const struct product_case *p, uint32_t kp,
	void *padded, float *w, float *scales)
{
	for (uint32_t c = 0; c < p->n_out; c++) {
		scales[c] = p->in_fp8 ? 0.01f + (float)og_rand_below(r, 1000) / 1000 : 1;
		for (uint32_t i = 0; i < p->n_in; i++) {
			size_t at = (size_t)c * kp + i;
			/* Every code that is a number. */
			uint32_t code = og_rand_below(r, 127) | og_rand_below(r, 2) << 7;
			uint16_t half = og_f32_to_bf16(og_gw_normal(r));

			if (p->in_fp8)
				((uint8_t *)padded)[at] = (uint8_t)code;
			else
				((uint16_t *)padded)[at] = half;
			w[(size_t)c * p->n_in + i] =
				p->in_fp8 ? og_e4m3_to_f32((uint8_t)code) : og_bf16_to_f32(half);
		}
	}
}

static void check_product(const struct product_case *p)
{
	static const char *const names[] = {"auto", "skinny", "tiled 64", "tiled 128"};
	struct og_rand r;
	uint32_t kp = og_cuda_pad(p->n_in, OG_CUDA_K_STEP);
	uint32_t cols = og_cuda_pad(p->n_out, 128), rows = og_cuda_pad(p->rows, 128);
	uint16_t *x, *padded = calloc((size_t)OG_MAX(cols, rows) * kp, 2);
	float *w = malloc((size_t)p->n_in * p->n_out * sizeof(*w));
	float *scales = calloc(cols, sizeof(*scales));
	size_t out_bytes = (size_t)p->rows * p->n_out * sizeof(float);
	float *first = malloc(out_bytes), *got = malloc(out_bytes);
	struct og_cuda_matrix m = {.kp = kp, .n_out = p->n_out, .rows = cols};
	const char *type = p->in_fp8 ? ", e4m3" : "";
	CUdeviceptr dx, out;

	og_rand_seeded(&r, p->n_in + p->rows);
	random_weights(&r, p, kp, padded, w, scales);
	x = random_bf16(&r, (size_t)p->n_in * p->rows);
	m.data = to_device(padded, (p->in_fp8 ? 1 : 2) * (size_t)cols * kp);
	if (p->in_fp8)
		m.scales = to_device(scales, cols * sizeof(*scales));
	memset(padded, 0, 2 * (size_t)OG_MAX(cols, rows) * kp);
	for (uint32_t i = 0; i < p->rows; i++)
		memcpy(padded + (size_t)i * kp, x + (size_t)i * p->n_in, 2 * p->n_in);
	dx = to_device(padded, 2 * (size_t)rows * kp);
	out = to_device(first, out_bytes);
	for (int how = OG_CUDA_MATMUL_AUTO; how <= OG_CUDA_MATMUL_TILED_128; how++) {
		struct og_cuda_product product = {
			&m, dx, out, p->rows, p->n_out, OG_CUDA_STORE, (enum og_cuda_matmul)how};
		int ret;

		if (how == OG_CUDA_MATMUL_SKINNY && p->rows > OG_CUDA_SKINNY_ROWS)
			continue;
		ret = og_cuda_multiply(&dev, &product);
		if (ret == 0)
			ret = from_device(got, out, out_bytes);
		if (how == OG_CUDA_MATMUL_AUTO) {
			double error = ret < 0 ? INFINITY : product_error(p, w, scales, x, got);

			expect(error < 1e-5, "matmul %u x %u, %u rows%s: error %.2g of 1e-5",
				p->n_out, p->n_in, p->rows, type, error);
			memcpy(first, got, out_bytes);
			continue;
		}
		expect(ret == 0 && same_bits(first, got, out_bytes),
			"matmul %u x %u, %u rows%s: %s has the same bits", p->n_out, p->n_in,
			p->rows, type, names[how]);
	}
	og_cuda_free(&dev, m.data);
	og_cuda_free(&dev, m.scales);
	og_cuda_free(&dev, dx);
	og_cuda_free(&dev, out);
	free(w);
	free(scales);
	free(x);
	free(padded);
	free(first);
	free(got);
}

/* Row 0 by itself and as one of many. */
static void check_products(void)
{
	static const uint32_t rows[] = {1, 7, 8, 9, 16, 17, 32, 33, 64, 65, 128, 130};
	static const struct product_case shapes[] = {{64, 16, 1, false}, {70, 37, 5, false},
		{128, 64, 12, false}, {256, 128, 3, false}, {576, 130, 40, false},
		{2048, 515, 129, false}};

	for (int in_fp8 = 0; in_fp8 < 2; in_fp8++) {
		for (size_t i = 0; i < (is_tiny ? 7 : OG_ARRAY_LEN(rows)); i += is_small ? 3 : 1)
			check_product(&(struct product_case){
				is_small ? 576 : 1024, 272, rows[i], in_fp8});
		for (size_t i = 0; i < OG_ARRAY_LEN(shapes) - is_small; i++) {
			struct product_case p = shapes[i];

			p.in_fp8 = in_fp8;
			check_product(&p);
		}
	}
}

/* ---- Products by cuBLASLt. ---- */

/* Rows of a batch alone, and in groups: do they have the bits that they have in it? */
static bool same_in_groups(struct og_cuda_lt *lt, const struct og_cuda_product *all,
	CUdeviceptr gates, const uint8_t *want, size_t row_bytes)
{
	static const uint32_t groups[] = {1, 2, 7, 64, 129};
	uint8_t *got = malloc(groups[OG_ARRAY_LEN(groups) - 1] * row_bytes);
	bool same = true;

	for (size_t g = 0; g < OG_ARRAY_LEN(groups); g++)
		for (uint32_t at = g % 2; at + groups[g] <= all->nb_rows;
			at += 1 + all->nb_rows / 4) {
			struct og_cuda_product p = *all;

			p.nb_rows = groups[g];
			p.x += 2ull * at * p.w->kp;
			same &= og_cuda_lt_multiply(lt, &p, gates) == 0 &&
				from_device(got, p.out, groups[g] * row_bytes) == 0 &&
				same_bits(got, want + at * row_bytes, groups[g] * row_bytes);
		}
	free(got);
	return same;
}

/* Against our own kernels, whose error is known; x is not zero beyond n_in, w is. */
static void check_library_product(
	struct og_cuda_lt *lt, const struct product_case *c, enum og_cuda_epilogue epilogue)
{
	static const char *const names[] = {"stored", "added", "of SwiGLU", "of GeGLU"};
	bool is_gated = og_cuda_is_gated(epilogue);
	uint32_t kp = og_cuda_pad(c->n_in, OG_CUDA_K_STEP);
	uint32_t ld = is_gated ? og_cuda_pad(c->n_out, OG_CUDA_K_STEP) : c->n_out;
	uint32_t cols = og_cuda_pad(2 * og_cuda_pad(c->n_out, OG_CUDA_GATE_ROWS), 128);
	uint32_t rows = og_cuda_pad(c->rows, 128);
	size_t row_bytes = (is_gated ? 2ull : 4ull) * ld, out_bytes = c->rows * row_bytes;
	uint8_t *zeros = calloc(c->rows, row_bytes), *want = malloc(out_bytes);
	uint8_t *own = malloc(out_bytes);
	struct og_cuda_matrix m = {.kp = kp, .n_out = c->n_out, .rows = cols};
	struct og_cuda_product p = {&m, 0, 0, c->rows, ld, epilogue, OG_CUDA_MATMUL_AUTO};
	struct og_rand r;
	uint16_t *w, *x;
	CUdeviceptr gates = 0;
	double diff = 0, size = 0;
	int ret;

	og_rand_seeded(&r, c->n_in);
	w = random_bf16(&r, (size_t)kp * cols);
	x = random_bf16(&r, (size_t)kp * rows);
	for (uint32_t i = 0; i < cols; i++)
		memset(w + (size_t)i * kp + c->n_in, 0, 2 * (size_t)(kp - c->n_in));
	m.data = to_device(w, 2ull * kp * cols);
	p.x = to_device(x, 2ull * kp * rows);
	p.out = to_device(zeros, out_bytes);
	if (og_cuda_alloc(&dev, &gates, 4ull * c->rows * cols) < 0)
		exit(1);
	ret = og_cuda_multiply(&dev, &p);
	if (ret == 0)
		ret = from_device(own, p.out, out_bytes);
	if (ret == 0)
		ret = og_cuda_check(&dev,
			dev.cu.cuMemcpyHtoDAsync(p.out, zeros, out_bytes, dev.stream), "zeros");
	if (ret == 0)
		ret = og_cuda_lt_multiply(lt, &p, gates);
	if (ret == 0)
		ret = from_device(want, p.out, out_bytes);
	for (size_t i = 0; i < out_bytes / (is_gated ? 2 : 4); i++) {
		double a = is_gated ? og_bf16_to_f32(((uint16_t *)(void *)own)[i])
				    : ((float *)(void *)own)[i];
		double b = is_gated ? og_bf16_to_f32(((uint16_t *)(void *)want)[i])
				    : ((float *)(void *)want)[i];

		diff += (a - b) * (a - b);
		size += a * a;
	}
	expect(ret == 0 && sqrt(diff / size) < (is_gated ? 3e-3 : 1e-5),
		"cublaslt %u x %u, %u rows, %s: as our kernels but for %.2g", c->n_out, c->n_in,
		c->rows, names[epilogue], sqrt(diff / size));
	if (epilogue == OG_CUDA_ADD) /* what is added to differs */
		p.epilogue = OG_CUDA_STORE;
	expect(ret == 0 && same_in_groups(lt, &p, gates, want, row_bytes),
		"cublaslt %u x %u, of %u rows: alone and in groups the same bits", c->n_out,
		c->n_in, c->rows);
	og_cuda_free(&dev, m.data);
	og_cuda_free(&dev, p.x);
	og_cuda_free(&dev, p.out);
	og_cuda_free(&dev, gates);
	free(zeros);
	free(want);
	free(own);
	free(w);
	free(x);
}

/* Shapes of an 8B model, and small ones. */
static void check_library_products(void)
{
	static const struct {
		struct product_case of;
		enum og_cuda_epilogue epilogue;
	} cases[] = {
		{{100, 96, 70, false}, OG_CUDA_STORE},
		{{130, 72, 300, false}, OG_CUDA_ADD},
		{{70, 90, 33, false}, OG_CUDA_SWIGLU},
		{{64, 33, 130, false}, OG_CUDA_GEGLU},
		{{4096, 6144, 512, false}, OG_CUDA_STORE},
		{{4096, 4096, 512, false}, OG_CUDA_ADD},
		{{4096, 14336, 512, false}, OG_CUDA_SWIGLU},
		{{14336, 4096, 512, false}, OG_CUDA_STORE},
	};
	struct og_cuda_lt *lt;

	if (og_cuda_lt_open(&lt, &dev, err, sizeof(err)) < 0) {
		printf("skipped: cublaslt: %s\n", err);
		return;
	}
	for (size_t i = 0; i < (is_small ? 4 : OG_ARRAY_LEN(cases)); i++) {
		const struct product_case *c = &cases[i].of;
		struct og_cuda_matrix m = {.n_out = c->n_out};
		struct og_cuda_product p = {.w = &m, .epilogue = cases[i].epilogue};

		if (og_cuda_lt_add(lt, og_cuda_pad(c->n_in, OG_CUDA_K_STEP),
			    og_cuda_product_cols(&p), c->rows, err, sizeof(err)) < 0)
			expect(false, "cublaslt: %s", err);
		else
			check_library_product(lt, c, cases[i].epilogue);
	}
	og_cuda_lt_close(lt);
}

/* ---- Conversion. ---- */

static void check_conversion(enum og_dtype type)
{
	enum { ROWS = 40, N = 96 };
	struct og_gw w = {0};
	struct og_rand r;
	struct og_weight weight = {.type = type, .n_in = N, .n_out = ROWS};
	uint32_t kp = 128, first = 0, n_in = N, turn = OG_CUDA_GATE_ROWS, offset = 16, row_bytes;
	uint16_t *got = calloc(3 * ROWS * kp, 2), want;
	CUdeviceptr out = to_device(got, 2ull * 3 * ROWS * kp), chunk;
	float row[N];
	int kernel_type = (int)type;
	bool ok = true;

	og_rand_seeded(&r, type);
	for (uint32_t i = 0; i < ROWS * N / 32; i++) {
		for (uint32_t k = 0; k < 32; k++)
			row[k] = og_gw_normal(&r);
		og_gw_block(&w, type, row, 32);
	}
	weight.data = w.data;
	weight.row_bytes = w.len / ROWS;
	row_bytes = (uint32_t)weight.row_bytes;
	chunk = to_device(w.data, w.len);
	{
		void *args[] = {
			&out, &chunk, &first, &n_in, &kp, &row_bytes, &turn, &offset, &kernel_type};

		ok = og_cuda_launch(&dev, dev.stream, OG_K_convert_rows,
			     (struct og_cuda_grid){ROWS, 1, 1, 256, 0}, args) == 0 &&
		     from_device(got, out, 2ull * 3 * ROWS * kp) == 0;
	}
	for (uint32_t i = 0; i < ROWS; i++) {
		const uint16_t *at = got + (size_t)(i / 16 * 32 + i % 16 + 16) * kp;

		og_weight_row(&weight, i, row);
		for (uint32_t k = 0; k < N; k++) {
			want = og_f32_to_bf16(row[k]);
			ok &= at[k] == want;
		}
		ok &= at[N] == 0;
	}
	expect(ok, "convert %s: the reference's values in bf16", og_dtype_name(type));
	og_cuda_free(&dev, out);
	og_cuda_free(&dev, chunk);
	og_gw_fini(&w);
	free(got);
}

/* Rows of ordinary values, of zeros, of tiny ones, with a NaN, and of the middles between codes. */
static void check_quantization(void)
{
	enum { ROWS = 40, N = 300, KP = 320 };
	uint32_t first = 0, n_in = N, kp = KP, turn = 0, offset = 3, row_bytes = 4 * N;
	int type = OG_CUDA_F32;
	float *w = calloc(ROWS * N, sizeof(*w)), scale, got_scales[ROWS + 3];
	uint8_t *got = calloc(ROWS + 3, KP);
	CUdeviceptr out = to_device(got, (ROWS + 3) * KP), chunk, scales;
	bool ok;
	struct og_rand r;

	og_rand_seeded(&r, 3);
	for (uint32_t i = 0; i < ROWS * N; i++) {
		static const float sizes[] = {1, 1000, 0, 1e-6f, 1e-41f};

		w[i] = og_gw_normal(&r) * sizes[i / N % OG_ARRAY_LEN(sizes)];
	}
	for (uint32_t code = 0; code < 0x7e; code++) { /* with one of 448: the scale is 1 */
		float *at = w + 10 * N + code;

		at[0] = (og_e4m3_to_f32((uint8_t)code) + og_e4m3_to_f32((uint8_t)(code + 1))) / 2;
		at[0x7e] = -at[0];
	}
	for (uint32_t i = 2 * 0x7e; i < N; i++)
		w[10 * N + i] = OG_E4M3_MAX;
	w[7 * N + 299] = NAN;
	w[8 * N] = -INFINITY;
	chunk = to_device(w, ROWS * N * sizeof(*w));
	scales = to_device(got_scales, sizeof(got_scales));
	{
		void *args[] = {&out, &chunk, &first, &n_in, &kp, &row_bytes, &turn, &offset, &type,
			&scales};

		ok = og_cuda_launch(&dev, dev.stream, OG_K_quantize_rows,
			     (struct og_cuda_grid){ROWS, 1, 1, 256, 0}, args) == 0 &&
		     from_device(got, out, (ROWS + 3) * KP) == 0 &&
		     from_device(got_scales, scales, sizeof(got_scales)) == 0;
	}
	for (uint32_t i = 0; i < ROWS; i++) {
		const uint8_t *at = got + (i + 3) * KP;

		scale = og_e4m3_row_scale(w + i * N, N);
		ok &= isnan(scale) ? isnan(got_scales[i + 3]) : scale == got_scales[i + 3];
		for (uint32_t k = 0; k < N; k++)
			ok &= at[k] == (scale > 0 ? og_f32_to_e4m3(w[i * N + k] / scale) : 0);
		ok &= at[N] == 0;
	}
	expect(ok, "quantize: the reference's codes and scales");
	og_cuda_free(&dev, out);
	og_cuda_free(&dev, chunk);
	og_cuda_free(&dev, scales);
	free(w);
	free(got);
}

/* ---- Whole models. ---- */

static uint32_t tokens[LONG_MAX];

static struct og_model *load(const struct og_gw_model *opts)
{
	struct og_gw w = og_gw_model_file(opts);
	struct og_model *m;
	struct og_rand r;
	char path[64];

	og_gw_save(&w, path);
	og_gw_fini(&w);
	if (og_model_open(&m, path, NULL, NULL, err, sizeof(err)) < 0) {
		fprintf(stderr, "cuda_check: %s\n", err);
		exit(1);
	}
	unlink(path);
	og_rand_seeded(&r, 9);
	for (uint32_t i = 0; i < length; i++)
		tokens[i] = og_rand_below(&r, opts->vocab);
	return m;
}

/* What the back ends that are started from here on keep in e4m3, and whose products they use. */
static struct og_ref_fp8 fp8;
static bool with_cublaslt;

static struct og_backend *start(const struct og_model *m, uint32_t nb_pages)
{
	struct og_backend_opts opts = {.model = m,
		.nb_pages = nb_pages,
		.rows_max = ROWS_MAX,
		.fp8_weights = fp8.weights,
		.fp8_kv = fp8.kv,
		.cublaslt = with_cublaslt};
	struct og_backend *b;

	if (og_cuda_forward_create(&b, &opts, 0, og_log_write, NULL, err, sizeof(err)) < 0) {
		fprintf(stderr, "cuda_check: %s\n", err);
		exit(1);
	}
	return b;
}

/* Sequence `slot` has pages slot * per_slot …, scattered. */
struct run {
	const struct og_model *m;
	struct og_backend *b;
	uint32_t *tables;
	uint32_t per_slot, nb_slots;
};

static struct run begin(const struct og_gw_model *opts, uint32_t nb_slots)
{
	struct run r = {.m = load(opts), .nb_slots = nb_slots};
	uint32_t nb_pages;

	r.per_slot = length / OG_KV_PAGE_TOKENS;
	nb_pages = r.per_slot * nb_slots;
	r.tables = malloc(nb_pages * sizeof(*r.tables));
	while (nb_pages % 7 == 0)
		nb_pages++;
	r.b = start(r.m, nb_pages);
	for (uint32_t i = 0; i < r.per_slot * nb_slots; i++)
		r.tables[i] = i * 7 % nb_pages;
	return r;
}

static void end(struct run *r)
{
	r->b->ops->destroy(r->b);
	og_model_close((struct og_model *)r->m);
	free(r->tables);
}

static float *forward(const struct run *r, const struct og_row *rows, uint32_t n)
{
	float *logits = calloc((size_t)n * r->m->hp.vocab, sizeof(float));
	struct og_batch batch = {rows, n, r->tables, r->per_slot, logits, NULL};
	int ret = og_backend_forward(r->b, &batch);

	if (ret < 0) {
		expect(false, "forward of %u rows: %s", n, strerror(-ret));
		exit(1);
	}
	return logits;
}

static float *forward_prompt(const struct run *r, uint32_t slot, uint32_t n)
{
	struct og_row rows[ROWS_MAX];

	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct og_row){tokens[i], i, slot, true, NULL};
	return forward(r, rows, n);
}

/* Only into the cache. */
static void prefill(const struct run *r, uint32_t slot, uint32_t n)
{
	struct og_row rows[ROWS_MAX];

	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct og_row){tokens[i], i, slot, false, NULL};
	free(forward(r, rows, n));
}

static const char *name_of_fp8(void)
{
	return fp8.weights ? (fp8.kv ? ", fp8 weights and cache" : ", fp8 weights")
			   : (fp8.kv ? ", fp8 cache" : "");
}

/* The model `opts` computes the first n tokens as the reference does. */
static void check_model(const struct og_gw_model *opts, uint32_t n, const char *what)
{
	struct run r = begin(opts, 2);
	size_t count = (size_t)n * r.m->hp.vocab;
	float *want = malloc(count * sizeof(float)), *got = forward_prompt(&r, 1, n);
	float *plain = malloc(count * sizeof(float));
	bool in_fp8 = fp8.weights || fp8.kv;
	double error, cost = 0, bound;

	if (og_ref_forward_fp8(r.m, tokens, n, want, fp8) < 0 ||
		(in_fp8 && og_ref_forward(r.m, tokens, n, plain) < 0))
		exit(1);
	error = relative_error(got, want, count);
	if (in_fp8)
		cost = relative_error(want, plain, count);
	bound = 3e-2 + (fp8.kv ? cost / 2 : 0);
	expect(error < bound, "model, %s%s, %s, %u tokens: relative error %.2g of %.2g", what,
		name_of_fp8(), og_dtype_name(opts->type), n, error, bound);
	if (in_fp8)
		expect(relative_error(got, plain, count) < 1.25 * cost,
			"model, %s%s: %.2g from the model without, the reference %.2g", what,
			name_of_fp8(), relative_error(got, plain, count), cost);
	free(plain);
	free(want);
	free(got);
	end(&r);
}

static struct og_gw_model shape(uint32_t heads, uint32_t kv_heads, uint32_t head_dim)
{
	struct og_gw_model m = og_gw_small();

	m.type = OG_BF16;
	m.context = length;
	m.width = 128;
	m.heads = heads;
	m.kv_heads = kv_heads;
	m.head_dim = head_dim;
	m.ff = 160;
	return m;
}

static void check_models(void)
{
	static const uint32_t heads[][3] = {{4, 2, 16}, {4, 4, 32}, {8, 2, 64}, {3, 1, 22},
		{2, 1, 80}, {8, 1, 96}, {4, 1, 128}, {32, 2, 64}, {14, 2, 64}, {4, 2, 256},
		{2, 1, 162}};
	struct og_gw_model m;
	uint32_t few = is_tiny ? 10 : 40;
	char what[64];

	for (int type = is_tiny ? OG_BF16 : OG_F32; type <= OG_BF16; type++) {
		m = og_gw_small();
		m.type = (enum og_dtype)type;
		m.width = 96;
		m.tied = type % 2;
		check_model(&m, few, "small");
	}
	for (size_t i = 0; i < OG_ARRAY_LEN(heads); i += is_small ? 3 : 1) {
		m = shape(heads[i][0], heads[i][1], heads[i][2]);
		snprintf(what, sizeof(what), "heads %u/%u of %u", m.heads, m.kv_heads, m.head_dim);
		check_model(&m, is_tiny ? 10 : 70, what);
	}
	m = shape(4, 2, 64);
	m.layers = 1;
	if (!is_tiny)
		check_model(&m, length, "long");
	m = shape(3, 1, 22);
	m.width = 70;
	m.ff = 101;
	check_model(&m, few, "odd");
	m = og_gw_small();
	m.type = OG_BF16;
	m.rope_factors = true;
	check_model(&m, few, "rope factors");
	m.arch = "qwen2";
	m.biases = true;
	check_model(&m, few, "biases, halves");
}

static void check_fp8_models(void)
{
	struct og_gw_model m = og_gw_small();
	uint32_t few = is_tiny ? 10 : 40;

	m.type = OG_Q8_0;
	m.width = 96;
	check_model(&m, few, "small");
	if (is_tiny)
		return;
	m = og_gw_small();
	m.type = OG_BF16;
	check_model(&m, few, "small");
	m = shape(3, 1, 22);
	m.width = 70;
	m.ff = 101;
	check_model(&m, few, "odd");
	m = shape(4, 1, 128);
	check_model(&m, 70, "heads 4/1 of 128");
}

/* A page of layer 0 in fp16, as it would be in e4m3: how many codes and scales differ. */
static uint32_t count_different(
	const uint16_t *plain, const uint8_t *page, const struct og_hparams *hp)
{
	uint32_t n = hp->head_dim, count = 0;
	float *head = malloc(n * sizeof(*head));

	for (uint32_t unit = 0; unit < 2 * hp->nb_kv_heads; unit++) {
		const uint8_t *codes = page + (size_t)unit * OG_KV_PAGE_TOKENS * (n + 2);

		for (uint32_t t = 0; t < OG_KV_PAGE_TOKENS; t++) {
			uint16_t scale;

			memcpy(&scale, codes + OG_KV_PAGE_TOKENS * n + 2 * t, sizeof(scale));
			for (uint32_t i = 0; i < n; i++)
				head[i] = og_f16_to_f32(*plain++);
			count += og_f16_to_f32(scale) != og_e4m3_kv_scale(head, n);
			for (uint32_t i = 0; i < n; i++)
				count += codes[t * n + i] !=
					 og_f32_to_e4m3(head[i] / og_f16_to_f32(scale));
		}
	}
	free(head);
	return count;
}

/* What is rounded to fp16 first can fall to the other side of the middle between two codes. */
static void check_fp8_pages(uint32_t heads, uint32_t kv_heads, uint32_t head_dim)
{
	struct og_gw_model opts = shape(heads, kv_heads, head_dim);
	uint32_t values = 2 * kv_heads * head_dim * OG_KV_PAGE_TOKENS, different = UINT32_MAX;
	void *pages[2] = {NULL, NULL};

	for (int i = 0; i < 2; i++) {
		struct run r;

		fp8.kv = i;
		r = begin(&opts, 1);
		pages[i] = malloc(og_kv_page_bytes(&r.m->hp, i));
		prefill(&r, 0, OG_KV_PAGE_TOKENS);
		if (r.b->ops->save_page(r.b, r.tables[0], pages[i]) < 0)
			exit(1);
		if (i == 1)
			different = count_different(pages[0], pages[1], &r.m->hp);
		end(&r);
	}
	expect(different <= values / 100,
		"a page in e4m3, heads %u/%u of %u: %u of %u codes differ", heads, kv_heads,
		head_dim, different, values);
	free(pages[0]);
	free(pages[1]);
}

/* ---- The same bits, whatever else happens. ---- */

static void expect_same(const float *got, const float *want, size_t n, const char *what)
{
	expect(same_bits(got, want, n * sizeof(float)), "the same bits: %s", what);
}

static void check_pieces(const struct run *r, const float *want)
{
	static const uint32_t pieces[] = {1, 3, 8, 16, 33, 64, 65, 128, 300};
	size_t vocab = r->m->hp.vocab;
	char what[64];

	for (size_t k = 0; k < OG_ARRAY_LEN(pieces); k++) {
		uint32_t total = is_small ? OG_MIN(length, 20 * pieces[k]) : length;
		float *all = malloc(total * vocab * sizeof(float));

		for (uint32_t at = 0; at < total; at += pieces[k]) {
			uint32_t n = OG_MIN(pieces[k], total - at);
			struct og_row rows[ROWS_MAX];
			float *got;

			for (uint32_t i = 0; i < n; i++)
				rows[i] =
					(struct og_row){tokens[at + i], at + i, k % 2, true, NULL};
			got = forward(r, rows, n);
			memcpy(all + at * vocab, got, n * vocab * sizeof(float));
			free(got);
		}
		snprintf(what, sizeof(what), "a prompt in pieces of %u", pieces[k]);
		expect_same(all, want, total * vocab, what);
		free(all);
	}
}

static void check_tuned(const struct run *r, const float *want, uint32_t n)
{
	static const char *const attention[] = {"by shape", "serial", "split"};
	int how_max = is_small && n == length ? OG_CUDA_MATMUL_AUTO : OG_CUDA_MATMUL_TILED_128;
	char what[64];

	for (int how = OG_CUDA_MATMUL_AUTO; how <= how_max; how++)
		for (int a = 0; a < (is_tiny && how != OG_CUDA_MATMUL_AUTO ? 1 : 3); a++) {
			struct og_cuda_tuning t = {
				.matmul = (enum og_cuda_matmul)how, .attention = a};
			float *got;

			og_cuda_forward_tune(r->b, &t);
			got = forward_prompt(r, 2, n);
			snprintf(what, sizeof(what), "%u rows, matmul %d, attention %s", n, how,
				attention[a]);
			expect_same(got, want, (size_t)n * r->m->hp.vocab, what);
			free(got);
		}
	og_cuda_forward_tune(r->b, &(struct og_cuda_tuning){0});
}

/* Many sequences decode together, each at a position of its own; each as when it was alone. */
static void check_company(const struct run *r, const float *want)
{
	size_t vocab = r->m->hp.vocab;
	struct og_row rows[SLOTS_MAX];
	uint32_t stride = is_small ? 17 : 7;
	bool ok = true;
	float *got;

	for (uint32_t s = 0; s < slots; s++)
		prefill(r, s, 1 + s * stride);
	for (uint32_t s = 0; s < slots; s++)
		rows[s] = (struct og_row){
			tokens[1 + s * stride], 1 + s * stride, slots - 1 - s, true, NULL};
	for (uint32_t s = 0; s < slots; s++)
		rows[s].slot = s;
	got = forward(r, rows, slots);
	for (uint32_t s = 0; s < slots; s++)
		ok &= same_bits(
			got + s * vocab, want + (1 + s * stride) * vocab, vocab * sizeof(float));
	expect(ok, "the same bits: %u sequences decode together", slots);
	free(got);
}

/* All pages of a slot through host memory to those of another; the old ones are spoilt. */
static void check_preemption(const struct run *r, const float *want)
{
	uint64_t bytes = og_kv_page_bytes(&r->m->hp, fp8.kv);
	uint32_t *a = r->tables, *b = r->tables + 5 * r->per_slot;
	size_t vocab = r->m->hp.vocab;
	struct og_row last = {tokens[length - 1], length - 1, 5, true, NULL};
	void *host = malloc(bytes);
	int ret = 0;
	float *got;

	prefill(r, 0, length);
	for (uint32_t i = 0; i < r->per_slot && ret == 0; i++) {
		ret = r->b->ops->save_page(r->b, a[i], host);
		if (ret == 0)
			ret = r->b->ops->load_page(r->b, b[i], host);
		memset(host, 0xff, bytes);
		if (ret == 0)
			ret = r->b->ops->load_page(r->b, a[i], host);
	}
	got = forward(r, &last, 1);
	expect(ret == 0 && same_bits(got, want + (length - 1) * vocab, vocab * sizeof(float)),
		"the same bits: after swapping out and in");
	free(got);
	free(host);
}

static void check_invariance(uint32_t heads, uint32_t kv_heads, uint32_t head_dim)
{
	struct og_gw_model opts = shape(heads, kv_heads, head_dim);
	bool is_whole = !is_small || head_dim == 22;
	struct run r;
	float *want;

	if (is_small)
		opts.layers = 1;
	r = begin(&opts, slots);
	want = forward_prompt(&r, 3, is_whole ? length : FEW);

	printf("-- heads %u/%u of %u%s\n", heads, kv_heads, head_dim, name_of_fp8());
	check_tuned(&r, want, FEW);
	if (is_whole) {
		check_tuned(&r, want, length);
		check_preemption(&r, want);
	}
	if (is_whole && !is_tiny) {
		check_pieces(&r, want);
		check_company(&r, want);
	}
	free(want);
	end(&r);
}

/* Prompts by cuBLASLt: as close, the same bits however cut; and what is decoded keeps ours. */
static void check_library(void)
{
	enum { PROMPT = 130 };
	struct og_gw_model opts = shape(4, 2, 64);
	struct og_row rows[PROMPT + 2];
	struct run r;
	size_t vocab;
	float *own, *want, *got;

	with_cublaslt = true;
	check_model(&opts, 70, "cublaslt");
	r = begin(&opts, 6);
	with_cublaslt = false;
	vocab = r.m->hp.vocab;
	if (!og_cuda_forward_has_cublaslt(r.b)) {
		printf("skipped: models by cublaslt\n");
		end(&r);
		return;
	}
	want = forward_prompt(&r, 0, PROMPT);
	for (uint32_t at = 0; at < PROMPT; at += 65) {
		for (uint32_t i = 0; i < 65; i++)
			rows[i] = (struct og_row){tokens[at + i], at + i, 1, true, NULL};
		got = forward(&r, rows, 65);
		expect_same(got, want + at * vocab, 65 * vocab, "by cublaslt, a prompt in two");
		free(got);
	}
	/* Beside the prompt two sequences decode, before and after it. */
	for (uint32_t slot = 2; slot < 4; slot++)
		prefill(&r, slot, 20 + slot);
	rows[0] = (struct og_row){tokens[22], 22, 2, true, NULL};
	rows[1] = (struct og_row){tokens[23], 23, 3, true, NULL};
	own = forward(&r, rows, 2);
	rows[PROMPT + 1] = rows[1];
	for (uint32_t i = 0; i < PROMPT; i++)
		rows[1 + i] = (struct og_row){tokens[i], i, 4, true, NULL};
	got = forward(&r, rows, PROMPT + 2);
	expect(same_bits(got, own, vocab * sizeof(float)) &&
			same_bits(got + (PROMPT + 1) * vocab, own + vocab, vocab * sizeof(float)),
		"the same bits: what is decoded beside a prompt by cublaslt");
	expect_same(got + vocab, want, PROMPT * vocab, "by cublaslt, a prompt beside others");
	free(own);
	free(want);
	free(got);
	end(&r);
}

/* ---- What must be refused. ---- */

static void check_hostile(void)
{
	struct og_gw_model opts = shape(4, 2, 64);
	struct run r = begin(&opts, 2);
	struct og_backend_opts huge = {.model = r.m, .nb_pages = UINT32_MAX, .rows_max = 16};
	struct og_row row = {tokens[0], 0, 0, true, NULL};
	struct og_batch batch = {&row, 1, r.tables, r.per_slot, NULL, NULL};
	uint32_t wrong_page = 1u << 30;
	struct og_backend *b;
	float *before, *after;
	int ret;

	batch.logits = calloc(r.m->hp.vocab, sizeof(float));
	before = forward_prompt(&r, 0, 20);
	ret = og_cuda_forward_create(&b, &huge, 0, og_log_write, NULL, err, sizeof(err));
	expect(ret == -ENOMEM && err[0], "a cache larger than the device: %s", err);
	row.token = r.m->hp.vocab;
	expect(og_backend_forward(r.b, &batch) == -ERANGE, "a token beyond the vocabulary");
	row.token = 0;
	batch.tables = &wrong_page;
	expect(og_backend_forward(r.b, &batch) == -ERANGE, "a page that does not exist");
	batch.tables = r.tables;
	row.pos = length * 2;
	expect(og_backend_forward(r.b, &batch) == -E2BIG, "a position beyond the table");
	after = forward_prompt(&r, 1, 20);
	expect(!r.b->is_lost && same_bits(before, after, 20ull * r.m->hp.vocab * sizeof(float)),
		"after all that the device computes as before");
	free(batch.logits);
	free(before);
	free(after);
	end(&r);
}

/* In one batch rows that draw, more than are computed at a time, and rows that want logits. */
static void check_drawing(void)
{
	enum { ROWS = 200 };
	struct og_gw_model opts = shape(2, 1, 32);
	struct run r = begin(&opts, 2);
	size_t vocab = r.m->hp.vocab;
	struct og_sampler_item *scratch = calloc(vocab, sizeof(*scratch));
	float *want = forward_prompt(&r, 0, ROWS), *got = calloc(ROWS * vocab, sizeof(*got));
	uint32_t drawn[ROWS], id, nb_draws = 0;
	struct og_draw draws[ROWS];
	struct og_row rows[ROWS];
	struct og_batch batch = {rows, ROWS, r.tables, r.per_slot, got, drawn};
	struct og_infer_params p;
	bool ok = true, same = true;

	og_infer_params_default(&p);
	for (uint32_t i = 0; i < ROWS; i++) {
		p.temperature = (float)(i % 3) / 2;
		p.top_p = i % 2 ? 0.8f : 1;
		og_draw_init(&draws[i], &p, i);
		rows[i] =
			(struct og_row){tokens[i], i, 0, i % 4 == 2, i % 4 == 2 ? NULL : &draws[i]};
		nb_draws += i % 4 != 2;
	}
	ok &= og_backend_forward(r.b, &batch) == 0;
	for (uint32_t i = 0; i < ROWS && ok; i++) {
		if (rows[i].wants_logits)
			same &= same_bits(got + i * vocab, want + i * vocab, vocab * sizeof(float));
		else
			same &= og_sampler_draw(&id, &draws[i], want + i * vocab, (uint32_t)vocab,
					scratch) == 0 &&
				drawn[i] == id;
	}
	expect(ok && same, "%u rows draw what the host draws, %u get their logits", nb_draws,
		ROWS - nb_draws);
	free(scratch);
	free(want);
	free(got);
	end(&r);
}

/* Weights that the device makes itself, for benches. */
static void check_random(void)
{
	struct og_gw_model opts = shape(2, 1, 32);
	struct og_model *m = load(&opts);
	struct og_cuda_tuning tuning = {.random_weights = true};
	struct og_backend_opts of = {
		.model = m, .nb_pages = 1, .rows_max = 1, .fp8_weights = fp8.weights};
	struct og_row row = {tokens[0], 0, 0, true, NULL};
	float *logits = calloc(m->hp.vocab, sizeof(*logits)), size = 0;
	uint32_t table = 0;
	struct og_batch batch = {&row, 1, &table, 1, logits, NULL};
	struct og_backend *b;
	int ret = og_cuda_forward_create(&b, &of, 0, og_log_write, &tuning, err, sizeof(err));

	if (ret == 0) {
		ret = og_backend_forward(b, &batch);
		b->ops->destroy(b);
	}
	for (uint32_t i = 0; i < m->hp.vocab; i++)
		size += logits[i] * logits[i];
	expect(ret == 0 && size > 0 && size < INFINITY, "random weights give logits%s",
		name_of_fp8());
	free(logits);
	og_model_close(m);
}

int main(int argc, char **argv)
{
	int ret;

	if (argc > 1) {
		is_tiny = strcmp(argv[1], "--tiny") == 0;
		is_small = true;
		length = 320;
		slots = 18;
	}
	ret = og_cuda_device_open(&dev, 0, og_log_write, err, sizeof(err));

	if (ret == -ENODEV) {
		printf("skipped: %s\n", err);
		return 77;
	}
	if (ret < 0) {
		printf("FAIL: %s\n", err);
		return 1;
	}
	printf("device: %s, %d processors, compute capability %d.%d\n", dev.name, dev.nb_processors,
		dev.compute_capability / 10, dev.compute_capability % 10);
	for (int type = OG_F32; type <= OG_BF16; type++)
		check_conversion((enum og_dtype)type);
	check_quantization();
	check_products();
	check_library_products();
	check_models();
	check_invariance(4, 2, 64);
	check_invariance(8, 2, 128);
	check_invariance(4, 2, 256);
	check_invariance(3, 1, 22);
	for (int i = 1; i < 4; i++) {
		fp8 = (struct og_ref_fp8){.weights = i & 1, .kv = i & 2};
		check_fp8_models();
		check_random();
		if (is_small && i < 3)
			continue;
		check_invariance(3, 1, 22);
		if (!is_tiny)
			check_invariance(4, 2, 64);
	}
	check_fp8_pages(4, 2, 64);
	check_fp8_pages(3, 1, 22);
	fp8 = (struct og_ref_fp8){0};
	check_library();
	check_drawing();
	check_random();
	check_hostile();
	og_cuda_device_close(&dev);
	printf("%u passed, %u failed\n", nb_passed, nb_failed);
	return nb_failed == 0 ? 0 : 1;
}

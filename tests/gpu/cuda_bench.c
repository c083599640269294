/*
 * cuda_bench: what the CUDA back end reaches on this device, as JSON lines on stdout.
 *
 *   cuda_bench [--smoke]
 *
 * The shape is that of Llama 3.1 8B, with random bf16 weights made on the device and an empty KV
 * cache, which costs what a full one does. Beside it the ceilings: a copy on the device, counting
 * bytes read and written, and where cuBLASLt is installed, its product of two large matrices; prompts
 * are computed by our kernels and by it. Steps include the copy of logits to the host, or where it says
 * so, draw their tokens on the device, each step begun before the one before is over. The same once
 * more with weights, and with keys and values in e4m3. GB/s count the bytes that such a step reads.
 * Steps of up to 16 rows are timed by the plain path and as one launch (conveyor), in turns, drawn; and
 * a launch of a model with next to no weights is, which shows what it costs that processors meet.
 * Medians of RUNS.
 *
 * Exits 77 without a device. --smoke: a tiny shape, to see that it runs.
 */
#include "gpu/cuda/cublaslt.h"
#include "gpu/cuda/forward.h"
#include "gpu/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 11, CONTEXT = 2048, BATCH_MAX = 64, SEQ_PAGES = CONTEXT / OG_KV_PAGE_TOKENS };

static char err[512];
static bool smoke;
/* Less of all with --smoke. */
static int runs = RUNS, warm = 2, repeats = 20;
static uint32_t many = CONTEXT; /* rows of a long prompt */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * OG_NS_PER_S + (uint64_t)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *x, int n)
{
	qsort(x, (size_t)n, sizeof(*x), compare);
	return x[n / 2];
}

static void report(const char *name, double value, const char *unit, double seconds)
{
	printf("{\"bench\":\"cuda\",\"case\":\"%s\",\"median\":%.6g,\"unit\":\"%s\","
	       "\"seconds\":%.6g,\"runs\":%d}\n",
		name, value, unit, seconds, runs);
	fflush(stdout);
}

static void fail(const char *what, int ret)
{
	fprintf(stderr, "cuda_bench: %s: %s\n", what, strerror(-ret));
	exit(1);
}

static struct og_hparams shape(void)
{
	struct og_hparams hp = {.nb_layers = 32,
		.width = 4096,
		.ff_width = 14336,
		.nb_heads = 32,
		.nb_kv_heads = 8,
		.head_dim = 128,
		.rope_dims = 128,
		.context = 2 * CONTEXT,
		.vocab = 128256,
		.norm_eps = 1e-5f,
		.embed_scale = 1,
		.rope_halves = true};

	hp.rope[0].base = 500000;
	hp.rope[0].magnitude = 1;
	for (uint32_t i = 0; i < hp.rope_dims / 2; i++)
		hp.rope[0].factors[i] = 1;
	if (smoke) {
		hp.nb_layers = 2;
		hp.nb_heads = 4;
		hp.nb_kv_heads = 1;
		hp.width = 512;
		hp.ff_width = 1024;
		hp.vocab = 1024;
	}
	return hp;
}

/* ---- The ceiling. ---- */

static void bench_copy(struct og_cuda_device *d)
{
	size_t bytes = smoke ? 1u << 20 : 4ull << 30;
	CUdeviceptr from, to;
	double s[RUNS];
	int ret = og_cuda_alloc(d, &from, bytes);

	if (ret == 0)
		ret = og_cuda_alloc(d, &to, bytes);
	for (int i = -warm; i < runs && ret == 0; i++) {
		uint64_t start_ns = now_ns();

		ret = og_cuda_check_work(
			d, d->cu.cuMemcpyDtoDAsync(to, from, bytes, d->stream), "copy");
		if (ret == 0)
			ret = og_cuda_wait(d, d->stream);
		if (i >= 0)
			s[i] = (double)(now_ns() - start_ns) / 1e9;
	}
	if (ret < 0)
		fail("copy on the device", ret);
	og_cuda_free(d, from);
	og_cuda_free(d, to);
	report("copy on the device", 2 * (double)bytes / median(s, runs) / 1e9, "GB/s",
		median(s, runs));
}

/* ---- Single products: which kernel is how good at which number of rows. ---- */

enum { BY_LIBRARY = OG_CUDA_MATMUL_TILED_128 + 1 };

static struct og_cuda_lt *library; /* NULL: not installed */

/* Zeros would cost less power, and so less time. */
static int fill(struct og_cuda_device *d, CUdeviceptr to, uint64_t n, uint32_t seed)
{
	float scale = 1;
	void *args[] = {&to, &n, &seed, &scale};

	return og_cuda_launch(d, d->stream, OG_K_random_bf16,
		(struct og_cuda_grid){(uint32_t)d->nb_processors * 8, 1, 1, 256, 0}, args);
}

static int fill_weights(
	struct og_cuda_device *d, CUdeviceptr to, CUdeviceptr scales, uint64_t bytes, uint32_t kp)
{
	uint32_t seed = 1;
	float scale = 1;
	void *args[] = {&to, &scales, &bytes, &kp, &seed, &scale};

	if (!scales)
		return fill(d, to, bytes / 2, seed);
	return og_cuda_launch(d, d->stream, OG_K_random_e4m3,
		(struct og_cuda_grid){(uint32_t)d->nb_processors * 8, 1, 1, 256, 0}, args);
}

static void bench_product(struct og_cuda_device *d, const char *name, uint32_t n_in, uint32_t n_out,
	uint32_t rows, int how, bool in_fp8)
{
	static const char *const kernels[] = {
		"auto", "skinny", "tiled 64", "tiled 128", "cublaslt"};
	enum { COPIES = 4 }; /* several copies, or the second-level cache holds it */
	struct og_cuda_matrix m = {
		.kp = n_in, .n_out = n_out, .rows = og_cuda_pad(n_out, OG_CUDA_ROW_PAD)};
	size_t w_bytes = (in_fp8 ? 1ull : 2ull) * m.rows * n_in;
	CUdeviceptr w = 0, x = 0, out = 0, scales = 0;
	double s[RUNS], t;
	char label[96];
	int ret = og_cuda_alloc(d, &w, COPIES * w_bytes);

	if (ret == 0)
		ret = og_cuda_alloc(d, &x, 2ull * og_cuda_pad(rows, OG_CUDA_ROW_PAD) * n_in);
	if (ret == 0)
		ret = og_cuda_alloc(d, &out, 4ull * rows * n_out);
	if (ret == 0 && in_fp8)
		ret = og_cuda_alloc(d, &scales, 4ull * COPIES * m.rows);
	m.scales = scales;
	if (ret == 0)
		ret = fill_weights(d, w, scales, COPIES * w_bytes, n_in);
	if (ret == 0)
		ret = fill(d, x, (uint64_t)og_cuda_pad(rows, OG_CUDA_ROW_PAD) * n_in, 2);
	if (ret == 0 && how == BY_LIBRARY)
		ret = og_cuda_lt_add(library, n_in, n_out, rows, err, sizeof(err));
	for (int i = -(warm / 2); i < runs && ret == 0; i++) {
		uint64_t start_ns = now_ns();

		for (int k = 0; k < repeats && ret == 0; k++) {
			struct og_cuda_product p = {&m, x, out, rows, n_out, OG_CUDA_STORE,
				how == BY_LIBRARY ? OG_CUDA_MATMUL_AUTO : (enum og_cuda_matmul)how};

			m.data = w + (size_t)(k % COPIES) * w_bytes;
			ret = how == BY_LIBRARY ? og_cuda_lt_multiply(library, &p, 0)
						: og_cuda_multiply(d, &p);
		}
		if (ret == 0)
			ret = og_cuda_wait(d, d->stream);
		if (i >= 0)
			s[i] = (double)(now_ns() - start_ns) / 1e9 / repeats;
	}
	if (ret < 0)
		fail(name, ret);
	t = median(s, runs);
	snprintf(label, sizeof(label), "%s, %u rows, %s%s", name, rows, kernels[how],
		in_fp8 ? ", fp8" : "");
	if (rows <= OG_CUDA_SKINNY_ROWS)
		report(label, (double)w_bytes / t / 1e9, "GB/s of weights", t);
	else
		report(label, 2.0 * rows * n_in * n_out / t / 1e12, "TFLOP/s", t);
	og_cuda_free(d, w);
	og_cuda_free(d, x);
	og_cuda_free(d, out);
	og_cuda_free(d, scales);
}

static void bench_products(struct og_cuda_device *d, const struct og_hparams *hp)
{
	const uint32_t rows[] = {1, 8, 16, 64, 128, many};
	uint32_t q = hp->nb_heads * hp->head_dim, kv = hp->nb_kv_heads * hp->head_dim;

	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++) {
		for (int fp8 = 0; fp8 < 2; fp8++) {
			bench_product(
				d, "qkv", hp->width, q + 2 * kv, rows[i], OG_CUDA_MATMUL_AUTO, fp8);
			bench_product(d, "o", q, hp->width, rows[i], OG_CUDA_MATMUL_AUTO, fp8);
			bench_product(d, "gate_up", hp->width, 2 * hp->ff_width, rows[i],
				OG_CUDA_MATMUL_AUTO, fp8);
			bench_product(d, "down", hp->ff_width, hp->width, rows[i],
				OG_CUDA_MATMUL_AUTO, fp8);
		}
	}
	bench_product(d, "o", q, hp->width, 64, OG_CUDA_MATMUL_TILED_64, false);
	for (int fp8 = 0; fp8 < 2; fp8++) {
		bench_product(d, "gate_up", hp->width, 2 * hp->ff_width, 64,
			OG_CUDA_MATMUL_TILED_64, fp8);
		bench_product(d, "gate_up", hp->width, 2 * hp->ff_width, many,
			OG_CUDA_MATMUL_TILED_64, fp8);
		bench_product(d, "gate_up", hp->width, 2 * hp->ff_width, many,
			OG_CUDA_MATMUL_TILED_128, fp8);
	}
}

/* The ceiling of products, and what prompts need, by cuBLASLt and by us. */
static void bench_library(struct og_cuda_device *d, const struct og_hparams *hp)
{
	uint32_t n = smoke ? 512 : 8192;
	uint32_t q = hp->nb_heads * hp->head_dim, kv = hp->nb_kv_heads * hp->head_dim;

	bench_product(d, "square", n, n, n, OG_CUDA_MATMUL_AUTO, false);
	if (og_cuda_lt_open(&library, d, err, sizeof(err)) < 0) {
		fprintf(stderr, "cuda_bench: without cublaslt: %s\n", err);
		return;
	}
	bench_product(d, "bf16 square", n, n, n, BY_LIBRARY, false);
	bench_product(d, "qkv", hp->width, q + 2 * kv, many, BY_LIBRARY, false);
	bench_product(d, "o", q, hp->width, many, BY_LIBRARY, false);
	bench_product(d, "gate_up", hp->width, 2 * hp->ff_width, many, BY_LIBRARY, false);
	bench_product(d, "down", hp->ff_width, hp->width, many, BY_LIBRARY, false);
	og_cuda_lt_close(library);
}

/* ---- Tokens drawn, by one block and by several. ---- */

static void bench_draws(struct og_cuda_device *d, uint32_t vocab, uint32_t nb_rows)
{
	struct og_cuda_drawing g = {.nb_rows = nb_rows, .vocab = vocab, .number = 1};
	size_t scratch_bytes = sizeof(struct og_cuda_draw_scratch) * nb_rows;
	struct og_cuda_draw draws[BATCH_MAX] = {0};
	float *logits = malloc(sizeof(float) * nb_rows * vocab);
	struct og_infer_params p;
	int ret = logits ? 0 : -ENOMEM;

	og_infer_params_default(&p);
	p.temperature = 0.7f;
	p.top_p = 0.95f;
	for (uint32_t i = 0; i < nb_rows; i++) {
		og_draw_init(&draws[i].how, &p, i);
		draws[i].slot = draws[i].result = i;
	}
	for (size_t i = 0; logits && i < (size_t)nb_rows * vocab; i++)
		logits[i] = (float)((uint32_t)i * 0x9e3779b1u >> 8) * 0x1p-21f; /* below 8 */
	if (ret == 0)
		ret = og_cuda_alloc_host(d, &g.results, sizeof(*g.results) * nb_rows);
	if (ret == 0)
		ret = og_cuda_alloc(d, &g.logits, sizeof(float) * nb_rows * vocab);
	if (ret == 0)
		ret = og_cuda_alloc(d, &g.draws, sizeof(draws));
	if (ret == 0)
		ret = og_cuda_alloc(d, &g.drawn, sizeof(uint32_t) * nb_rows);
	if (ret == 0)
		ret = og_cuda_alloc(d, &g.scratch, scratch_bytes);
	if (ret < 0 ||
		d->cu.cuMemcpyHtoDAsync(
			g.logits, logits, sizeof(float) * nb_rows * vocab, d->stream) != 0 ||
		d->cu.cuMemcpyHtoDAsync(g.draws, draws, sizeof(draws), d->stream) != 0 ||
		d->cu.cuMemsetD8Async(g.scratch, 0, scratch_bytes, d->stream) != 0 ||
		og_cuda_wait(d, d->stream) < 0)
		fail("draw", ret < 0 ? ret : -EIO);
	for (uint32_t blocks = 0; blocks < 2; blocks++) {
		char label[64];
		double s[RUNS];

		g.nb_blocks = blocks;
		for (int i = -(warm / 2); i < runs && ret == 0; i++) {
			uint64_t start_ns = now_ns();

			for (int k = 0; k < repeats && ret == 0; k++)
				ret = og_cuda_draw_tokens(d, &g);
			if (ret == 0)
				ret = og_cuda_wait(d, d->stream);
			if (i >= 0)
				s[i] = (double)(now_ns() - start_ns) / 1e9 / repeats;
		}
		if (ret < 0)
			fail("draw", ret);
		snprintf(label, sizeof(label), "draw, %u rows of %u, %s", nb_rows, vocab,
			blocks ? "one block each" : "blocks by shape");
		report(label, nb_rows / median(s, runs), "tokens/s", median(s, runs));
	}
	og_cuda_free(d, g.logits);
	og_cuda_free(d, g.draws);
	og_cuda_free(d, g.drawn);
	og_cuda_free(d, g.scratch);
	og_cuda_free_host(d, g.results);
	free(logits);
}

/* ---- Steps of the whole model. ---- */

struct bench {
	struct og_backend *b;
	const struct og_model *m;
	uint32_t *tables;
	struct og_row *rows;
	float *logits;
	bool fp8_weights, fp8_kv;
};

/* What the cases of a back end are called after. */
static const char *name_of_fp8(const struct bench *b)
{
	return b->fp8_weights ? (b->fp8_kv ? ", fp8 weights and KV" : ", fp8 weights")
			      : (b->fp8_kv ? ", fp8 KV" : "");
}

static double time_step(struct bench *b, uint32_t nb_rows)
{
	struct og_batch batch = {b->rows, nb_rows, b->tables, SEQ_PAGES, b->logits, NULL};
	double s[RUNS];

	for (int i = -warm; i < runs; i++) {
		uint64_t start_ns = now_ns();
		int ret = og_backend_forward(b->b, &batch);

		if (ret < 0)
			fail("forward", ret);
		if (i >= 0)
			s[i] = (double)(now_ns() - start_ns) / 1e9;
	}
	return median(s, runs);
}

static void submit_drawn(struct bench *b, uint32_t batch, uint32_t pos, uint32_t *out)
{
	struct og_draw draws[BATCH_MAX];
	struct og_batch step = {b->rows, batch, b->tables, SEQ_PAGES, b->logits, out};
	struct og_infer_params p;
	int ret;

	og_infer_params_default(&p);
	p.temperature = 0.7f;
	p.top_p = 0.95f;
	p.top_k = 40;
	for (uint32_t i = 0; i < batch; i++) {
		p.seed = i;
		og_draw_init(&draws[i], &p, pos);
		b->rows[i] = (struct og_row){OG_TOKEN_DRAWN, pos, i, false, &draws[i]};
	}
	ret = b->b->ops->submit(b->b, &step);
	if (ret < 0)
		fail("submit", ret);
}

/* From one result to the next. */
static double time_ahead(struct bench *b, uint32_t batch, uint32_t pos, double *host_bytes)
{
	uint32_t tokens[OG_STEPS_MAX][BATCH_MAX], at = 0;
	uint64_t before_bytes = b->b->host_bytes_total, before_ns = 0;
	double s[RUNS];

	for (; at < OG_STEPS_MAX; at++)
		submit_drawn(b, batch, pos, tokens[at]);
	for (int i = -warm; i < runs; i++) {
		int ret = b->b->ops->collect(b->b);
		uint64_t now = now_ns();

		if (ret < 0)
			fail("collect", ret);
		if (i >= 0)
			s[i] = (double)(now - before_ns) / 1e9;
		before_ns = now;
		submit_drawn(b, batch, pos, tokens[at++ % OG_STEPS_MAX]);
	}
	for (int i = 0; i < OG_STEPS_MAX; i++)
		if (b->b->ops->collect(b->b) < 0)
			fail("collect", -EIO);
	*host_bytes = (double)(b->b->host_bytes_total - before_bytes) / at;
	return median(s, runs);
}

/* Values of the matrices of layers. */
static double layer_values(const struct og_hparams *hp)
{
	double q = hp->nb_heads * hp->head_dim, kv = hp->nb_kv_heads * hp->head_dim;

	return hp->nb_layers * (2 * q + 2 * kv + 3.0 * hp->ff_width) * hp->width;
}

/* Weights that a step streams: all but the embedding, of which it takes rows. */
static double weight_bytes(const struct bench *b)
{
	const struct og_hparams *hp = &b->m->hp;
	double head = 2.0 * hp->vocab * hp->width;
	double rows = (hp->nb_heads + 2 * hp->nb_kv_heads) * hp->head_dim + 2.0 * hp->width +
		      2.0 * hp->ff_width;

	return b->fp8_weights ? layer_values(hp) + sizeof(float) * hp->nb_layers * rows + head
			      : 2 * layer_values(hp) + head;
}

/* Keys and values of a sequence of so many tokens. */
static double kv_bytes(const struct bench *b, uint32_t tokens)
{
	return (double)og_kv_page_bytes(&b->m->hp, b->fp8_kv) / OG_KV_PAGE_TOKENS * tokens;
}

static void bench_decode(struct bench *b, uint32_t batch, uint32_t pos)
{
	double bytes = weight_bytes(b) + batch * kv_bytes(b, pos + 1), t;
	char label[96];

	for (uint32_t i = 0; i < batch; i++)
		b->rows[i] = (struct og_row){i, pos, i, true, NULL};
	t = time_step(b, batch);
	snprintf(label, sizeof(label), "decode, batch %u, context %u%s", batch, pos + 1,
		name_of_fp8(b));
	report(label, batch / t, "tokens/s", t);
	strcat(label, ", bytes");
	report(label, bytes / t / 1e9, "GB/s", t);
}

static void bench_drawn(struct bench *b, uint32_t batch, uint32_t pos)
{
	double host_bytes, t = time_ahead(b, batch, pos, &host_bytes);
	char label[96];

	snprintf(label, sizeof(label), "decode, batch %u, context %u, drawn%s", batch, pos + 1,
		name_of_fp8(b));
	report(label, batch / t, "tokens/s", t);
	strcat(label, ", to the host");
	report(label, host_bytes, "bytes/step", t);
}

/* Plain and by conveyor, each twice in turns: the better of each. */
static void bench_both(struct bench *b, uint32_t batch, uint32_t pos)
{
	static const char *const names[] = {"", "plain", "conveyor"};
	double bytes = weight_bytes(b) + batch * kv_bytes(b, pos + 1),
	       best[3] = {0, INFINITY, INFINITY}, host_bytes;
	char label[96];

	for (int i = 0; i < 4; i++) {
		int by = 1 + i % 2;
		double t;

		og_cuda_forward_tune(b->b, &(struct og_cuda_tuning){.decode = by});
		t = time_ahead(b, batch, pos, &host_bytes);
		best[by] = fmin(best[by], t);
	}
	og_cuda_forward_tune(b->b, &(struct og_cuda_tuning){.decode = 1});
	for (int by = 1; by <= 2; by++) {
		snprintf(label, sizeof(label), "%s, batch %u, context %u", names[by], batch,
			pos + 1);
		report(label, batch / best[by], "tokens/s", best[by]);
		strcat(label, ", bytes");
		report(label, bytes / best[by] / 1e9, "GB/s", best[by]);
	}
	snprintf(label, sizeof(label), "conveyor over plain, batch %u, context %u", batch, pos + 1);
	report(label, best[1] / best[2], "times as fast", best[2]);
}

static void bench_conveyor(struct bench *b)
{
	static const uint32_t batches[] = {1, 8, 16}, contexts[] = {256, CONTEXT};

	for (size_t i = 0; i < OG_ARRAY_LEN(batches); i++)
		for (size_t k = 0; k < OG_ARRAY_LEN(contexts); k++)
			bench_both(b, batches[i], contexts[k] - 1);
}

static void bench_prefill(struct bench *b, uint32_t n, const char *by)
{
	const struct og_hparams *hp = &b->m->hp;
	double flops = 2 * layer_values(hp) * n, t;
	char label[96];

	flops += 2.0 * hp->nb_layers * hp->nb_heads * hp->head_dim * n * n; /* causal: half of 4 */
	for (uint32_t i = 0; i < n; i++)
		b->rows[i] = (struct og_row){i % hp->vocab, i, 0, i == n - 1, NULL};
	t = time_step(b, n);
	snprintf(label, sizeof(label), "prefill, %u tokens%s%s", n, name_of_fp8(b), by);
	report(label, n / t, "tokens/s", t);
	strcat(label, ", flops");
	report(label, flops / t / 1e12, "TFLOP/s", t);
}

static void bench_steps(struct bench *b)
{
	static const uint32_t batches[] = {1, 8, 64};

	for (size_t i = 0; i < OG_ARRAY_LEN(batches); i++) {
		bench_decode(b, batches[i], CONTEXT - 1);
		bench_drawn(b, batches[i], CONTEXT - 1);
	}
	bench_decode(b, 1, 255);
	bench_drawn(b, 1, 255);
	bench_prefill(b, 128, "");
	bench_prefill(b, OG_MIN(512u, many), "");
	bench_prefill(b, many, "");
	if (!og_cuda_forward_has_cublaslt(b->b))
		return;
	og_cuda_forward_tune(b->b, &(struct og_cuda_tuning){.cublaslt = true, .decode = 1});
	bench_prefill(b, 128, ", cublaslt");
	bench_prefill(b, OG_MIN(512u, many), ", cublaslt");
	bench_prefill(b, many, ", cublaslt");
	og_cuda_forward_tune(b->b, &(struct og_cuda_tuning){.decode = 1});
}

static int start(struct bench *b, bool fp8_weights, bool fp8_kv)
{
	struct og_cuda_tuning tuning = {.random_weights = true,
		.cublaslt = !fp8_weights,
		.decode = fp8_weights || fp8_kv ? 1 : 2};
	struct og_backend_opts opts = {.model = b->m,
		.nb_pages = BATCH_MAX * SEQ_PAGES,
		.rows_max = CONTEXT,
		.fp8_weights = fp8_weights,
		.fp8_kv = fp8_kv};

	b->fp8_weights = fp8_weights;
	b->fp8_kv = fp8_kv;
	return og_cuda_forward_create(&b->b, &opts, 0, og_log_write, &tuning, err, sizeof(err));
}

/* With weights in e4m3, then with keys and values too. */
static void bench_fp8(struct bench *b)
{
	for (int fp8_kv = 0; fp8_kv < 2; fp8_kv++) {
		if (start(b, true, fp8_kv) < 0) {
			fprintf(stderr, "cuda_bench: %s\n", err);
			exit(1);
		}
		bench_steps(b);
		b->b->ops->destroy(b->b);
	}
}

/* What meetings take: of a model so small that it does little else. */
static void bench_meetings(void)
{
	static const uint8_t untied;
	struct og_model model = {.hp = shape(), .output.data = &untied};
	struct og_cuda_tuning tuning = {.random_weights = true, .decode = 2};
	struct og_backend_opts opts = {
		.model = &model, .nb_pages = SEQ_PAGES, .rows_max = OG_STEPS_MAX};
	struct bench b = {.m = &model};
	double host_bytes, t;
	int ret;

	model.hp.nb_layers = smoke ? 2 : 64;
	model.hp.width = model.hp.ff_width = model.hp.vocab = 512;
	model.hp.nb_heads = 4;
	model.hp.nb_kv_heads = 1;
	model.layers = calloc(model.hp.nb_layers, sizeof(*model.layers));
	b.tables = calloc(SEQ_PAGES, sizeof(*b.tables));
	b.rows = calloc(BATCH_MAX, sizeof(*b.rows));
	if (!model.layers || !b.tables || !b.rows)
		fail("meetings", -ENOMEM);
	ret = og_cuda_forward_create(&b.b, &opts, 0, og_log_write, &tuning, err, sizeof(err));
	if (ret < 0)
		fail(err, ret);
	t = time_ahead(&b, 1, 31, &host_bytes) / model.hp.nb_layers;
	report("conveyor, a layer with next to no weights", 1e6 * t, "us", t);
	report("conveyor, a seventh of that: a meeting at most", 1e6 * t / 7, "us", t / 7);
	b.b->ops->destroy(b.b);
	free(model.layers);
	free(b.tables);
	free(b.rows);
}

int main(int argc, char **argv)
{
	struct og_model model = {0};
	struct bench b = {.m = &model};
	static const uint8_t untied;
	int ret;

	smoke = argc > 1 && strcmp(argv[1], "--smoke") == 0;
	if (smoke) {
		runs = repeats = warm = 1;
		many = 130;
	}
	model.hp = shape();
	model.layers = calloc(model.hp.nb_layers, sizeof(*model.layers));
	model.output.data = &untied; /* its own matrix */
	b.tables = calloc((size_t)BATCH_MAX * SEQ_PAGES, sizeof(*b.tables));
	b.rows = calloc(CONTEXT, sizeof(*b.rows));
	b.logits = calloc((size_t)BATCH_MAX * model.hp.vocab, sizeof(*b.logits));
	if (!model.layers || !b.tables || !b.rows || !b.logits)
		fail("start", -ENOMEM);
	for (uint32_t i = 0; i < BATCH_MAX * SEQ_PAGES; i++)
		b.tables[i] = i * 7 % (BATCH_MAX * SEQ_PAGES);
	ret = start(&b, false, false);
	if (ret == -ENODEV) {
		printf("skipped: %s\n", err);
		free(model.layers);
		free(b.tables);
		free(b.rows);
		free(b.logits);
		return 77;
	}
	if (ret < 0) {
		fprintf(stderr, "cuda_bench: %s\n", err);
		return 1;
	}
	/* What is not said to be by conveyor is not. */
	og_cuda_forward_tune(b.b, &(struct og_cuda_tuning){.decode = 1});
	bench_copy(og_cuda_forward_device(b.b));
	bench_steps(&b);
	bench_conveyor(&b);
	bench_draws(og_cuda_forward_device(b.b), model.hp.vocab, 1);
	bench_draws(og_cuda_forward_device(b.b), model.hp.vocab, smoke ? 2 : BATCH_MAX);
	bench_library(og_cuda_forward_device(b.b), &model.hp);
	bench_products(og_cuda_forward_device(b.b), &model.hp);
	b.b->ops->destroy(b.b);
	bench_fp8(&b);
	bench_meetings();
	free(model.layers);
	free(b.tables);
	free(b.rows);
	free(b.logits);
	return 0;
}

#include "gpu/cuda/forward_priv.h"
#include "gpu/cuda/upload.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256 };

/* What this back end has no kernels for; NULL: it has all. */
static const char *find_lack(const struct og_backend_opts *opts)
{
	const struct og_hparams *hp = &opts->model->hp;

	return hp->head_dim > OG_CUDA_HEAD_DIM_MAX ? "heads of more than 256 values; use cpu"
	       : opts->fp8_kv && hp->head_dim > OG_CUDA_HEAD_DIM_FP8_MAX
		       ? "heads of more than 128 values with kv = fp8; use kv = f16"
	       : hp->nb_heads / hp->nb_kv_heads > OG_CUDA_TILE_QUERIES
		       ? "more than 64 heads to a key-value head; use cpu"
		       : NULL;
}

static int check_model(const struct og_backend_opts *opts, char *err, size_t err_bytes)
{
	const char *lack = find_lack(opts);

	if (!lack)
		return 0;
	snprintf(err, err_bytes, "the cuda back end has no kernels for %s", lack);
	return -EOPNOTSUPP;
}

static void describe_heads(struct og_cuda *c)
{
	const struct og_hparams *hp = &c->model->hp;
	uint32_t value_bytes = c->kv_in_fp8 ? 1 : sizeof(uint16_t);
	uint64_t head_values = (uint64_t)OG_KV_PAGE_TOKENS *
			       (hp->head_dim + (c->kv_in_fp8 ? sizeof(uint16_t) : 0));

	c->heads = (struct og_cuda_heads){
		.nb_heads = hp->nb_heads,
		.nb_kv_heads = hp->nb_kv_heads,
		.head_dim = hp->head_dim,
		.padded_dim = hp->head_dim <= 32    ? 32
			      : hp->head_dim <= 64  ? 64
			      : hp->head_dim <= 128 ? 128
						    : 256,
		.rope_dims = hp->rope_dims,
		.rope_halves = hp->rope_halves,
		.in_e4m3 = c->kv_in_fp8,
		.is_vector = hp->head_dim * value_bytes % 16 == 0,
		.page_values = c->page_bytes / value_bytes,
		.layer_values = 2 * head_values * hp->nb_kv_heads,
		.head_values = head_values,
		/* exp2 instead of exp */
		.cap = (float)(M_LOG2E * hp->attn_cap),
	};
	c->q_scale = (float)(M_LOG2E * hp->attn_scale);
}

struct carver {
	uint64_t base, used;
};

static uint64_t carve(struct carver *at, uint64_t bytes)
{
	uint64_t p = at->base + at->used;

	at->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
	return p;
}

/* Is there a layer without a window, or with one? */
static bool has_layer(const struct og_hparams *hp, bool windowed)
{
	for (uint32_t i = 0; i < hp->nb_layers; i++)
		if (hp->windowed[i] == windowed)
			return true;
	return false;
}

static bool has_delta(const struct og_model *m)
{
	for (uint32_t i = 0; i < m->hp.nb_layers; i++)
		if (m->layers[i].o_bias)
			return true;
	return m->hp.post_norms;
}

static size_t carve_scratch(struct og_cuda *c, CUdeviceptr base)
{
	const struct og_hparams *hp = &c->model->hp;
	/* What is multiplied may begin at any row, and is read in whole blocks of rows from there. */
	uint64_t rows = og_cuda_pad(c->rows_max, OG_CUDA_ROW_PAD) + (c->lt ? OG_CUDA_ROW_PAD : 0);
	uint64_t half = hp->rope_dims / 2;
	uint64_t q = (uint64_t)hp->nb_heads * hp->head_dim;
	uint64_t kv = (uint64_t)hp->nb_kv_heads * hp->head_dim;
	struct carver at = {base, 0};

	for (int r = 0; r < 2; r++) {
		if (!has_layer(hp, r))
			continue;
		c->turns[r] = carve(&at, sizeof(double) * half);
		c->cosine[r] = carve(&at, sizeof(float) * rows * half);
		c->sine[r] = carve(&at, sizeof(float) * rows * half);
	}
	if (has_delta(c->model))
		c->delta = carve(&at, sizeof(float) * rows * hp->width);
	c->x = carve(&at, sizeof(float) * rows * hp->width);
	c->h = carve(&at, 2 * rows * og_cuda_pad(hp->width, OG_CUDA_K_STEP));
	c->qkv = carve(&at, sizeof(float) * rows * (q + 2 * kv));
	c->q = carve(&at, 2 * rows * hp->nb_heads * c->heads.padded_dim);
	c->att = carve(&at, 2 * rows * og_cuda_pad((uint32_t)q, OG_CUDA_K_STEP));
	c->act = carve(&at, 2 * rows * og_cuda_pad(hp->ff_width, OG_CUDA_K_STEP));
	if (c->lt)
		c->gates = carve(&at,
			2 * sizeof(float) * rows * og_cuda_pad(hp->ff_width, OG_CUDA_GATE_ROWS));
	c->mixes = carve(&at,
		sizeof(float) * OG_CUDA_SPLIT_UNITS * hp->nb_heads * (uint64_t)c->heads.padded_dim);
	c->states = carve(&at, 2 * sizeof(float) * OG_CUDA_SPLIT_UNITS * (uint64_t)hp->nb_heads);
	c->logits = carve(&at, sizeof(float) * OG_CUDA_LOGIT_ROWS * (uint64_t)hp->vocab);
	c->draw_scratch = carve(&at, sizeof(struct og_cuda_draw_scratch) * OG_CUDA_LOGIT_ROWS);
	c->drawn = carve(&at, sizeof(uint32_t) * (uint64_t)c->rows_max);
	return at.used;
}

/* Returns the bytes of the inputs; the results lie behind them, in host memory only. */
static size_t carve_inputs(struct og_cuda *c, struct og_cuda_step *s, size_t *host_bytes)
{
	struct carver at = {(uintptr_t)s->host, 0};
	size_t tiles, wanted, draws, in_bytes;

	s->in.rows = (void *)(uintptr_t)carve(&at, sizeof(*s->in.rows) * c->rows_max);
	tiles = at.used;
	s->in.tiles = (void *)(uintptr_t)carve(&at, sizeof(*s->in.tiles) * c->rows_max);
	wanted = at.used;
	s->in.wanted = (void *)(uintptr_t)carve(&at, sizeof(*s->in.wanted) * c->rows_max);
	draws = at.used;
	s->in.draws = (void *)(uintptr_t)carve(&at, sizeof(*s->in.draws) * c->rows_max);
	c->tables_at = at.used;
	s->in.tables = (void *)(uintptr_t)carve(&at, sizeof(*s->in.tables) * c->tables_max);
	in_bytes = at.used;
	s->results = (void *)(uintptr_t)carve(&at, sizeof(*s->results) * c->rows_max);
	*host_bytes = at.used;
	s->rows = s->device_in;
	s->tiles = s->device_in + tiles;
	s->wanted = s->device_in + wanted;
	s->draws = s->device_in + draws;
	s->tables = s->device_in + c->tables_at;
	return in_bytes;
}

static int make_step(struct og_cuda *c, struct og_cuda_step *s)
{
	size_t host_bytes;
	int ret;

	carve_inputs(c, s, &host_bytes);
	ret = og_cuda_alloc_host(&c->d, &s->host, host_bytes);
	if (ret == 0)
		ret = og_cuda_alloc(&c->d, &s->device_in, c->in_bytes);
	if (ret == 0)
		ret = og_cuda_make_event(&c->d, &s->done);
	if (ret < 0)
		return ret;
	memset(s->host, 0, host_bytes);
	carve_inputs(c, s, &host_bytes);
	return 0;
}

/* Is there room, before anything is taken? */
static int check_room(
	struct og_cuda *c, uint64_t kv_bytes, uint64_t scratch_bytes, char *err, size_t err_bytes)
{
	/* The upload's buffers are gone when it ends. */
	uint64_t weights =
		og_cuda_weights_bytes(c->model, c->w.in_fp8) + og_cuda_upload_bytes(c->model);
	size_t free_bytes = 0;
	int ret = og_cuda_free_bytes(&c->d, &free_bytes);

	if (ret < 0)
		return ret;
	if (kv_bytes <= free_bytes && weights <= free_bytes && scratch_bytes <= free_bytes &&
		kv_bytes + weights + scratch_bytes <= free_bytes)
		return 0;
	snprintf(err, err_bytes,
		"%s has %.1f GB free; weights take %.1f, the KV cache %.1f and buffers %.1f: lower "
		"kv_memory, max_batch or context",
		c->d.name, (double)free_bytes / 1e9, (double)weights / 1e9, (double)kv_bytes / 1e9,
		(double)scratch_bytes / 1e9);
	return -ENOMEM;
}

/* Rotations of a pair per position, in turns: what double loses is far below what cosf() sees. */
static int send_turns(struct og_cuda *c, bool windowed)
{
	const struct og_model *m = c->model;
	const struct og_rope *r = &m->hp.rope[windowed];
	bool is_long = r->has_long && c->context > m->hp.original_context;
	const float *factors = is_long ? r->long_factors : r->factors;
	uint32_t half = m->hp.rope_dims / 2;
	double *turns = c->host_page;
	int ret;

	if (!c->turns[windowed])
		return 0;
	for (uint32_t i = 0; i < half; i++)
		turns[i] = pow(r->base, -2.0 * i / m->hp.rope_dims) / factors[i] / (2 * M_PI);
	ret = og_cuda_check_work(&c->d,
		c->d.cu.cuMemcpyHtoDAsync(
			c->turns[windowed], turns, half * sizeof(double), c->d.stream),
		"cuMemcpyHtoDAsync");
	return ret < 0 ? ret : og_cuda_wait(&c->d, c->d.stream);
}

static int clear(struct og_cuda *c, CUdeviceptr p, uint64_t bytes)
{
	return og_cuda_check_work(
		&c->d, c->d.cu.cuMemsetD8Async(p, 0, bytes, c->d.stream), "cuMemsetD8Async");
}

static int make_buffers(struct og_cuda *c, char *err, size_t err_bytes)
{
	uint64_t kv_bytes, scratch_bytes = carve_scratch(c, 0);
	size_t turns_bytes = c->model->hp.rope_dims / 2 * sizeof(double), host_bytes;
	int ret;

	if (__builtin_mul_overflow(c->page_bytes, (uint64_t)c->nb_pages, &kv_bytes)) {
		snprintf(
			err, err_bytes, "a KV cache of %u pages is beyond any memory", c->nb_pages);
		return -ENOMEM;
	}
	c->logits_at = calloc(c->rows_max, sizeof(*c->logits_at));
	c->parts = calloc(c->rows_max, sizeof(*c->parts));
	if (!c->logits_at || !c->parts)
		return -ENOMEM;
	c->in_bytes = carve_inputs(c, &c->steps[0], &host_bytes);
	ret = check_room(c, kv_bytes, scratch_bytes + OG_STEPS_MAX * c->in_bytes, err, err_bytes);
	for (uint32_t i = 0; i < OG_STEPS_MAX && ret == 0; i++)
		ret = make_step(c, &c->steps[i]);
	if (ret == 0)
		ret = og_cuda_alloc_host(&c->d, &c->host_logits,
			sizeof(float) * OG_CUDA_LOGIT_ROWS * c->model->hp.vocab);
	if (ret == 0)
		ret = og_cuda_alloc_host(&c->d, &c->host_page, OG_MAX(c->page_bytes, turns_bytes));
	if (ret == 0)
		ret = og_cuda_alloc(&c->d, &c->kv, kv_bytes);
	if (ret == 0)
		ret = og_cuda_alloc(&c->d, &c->scratch, scratch_bytes);
	if (ret < 0)
		return ret;
	carve_scratch(c, c->scratch);
	/* Padding is zero from here on: kernels write only what means something. */
	ret = clear(c, c->scratch, scratch_bytes);
	return ret == 0 ? clear(c, c->kv, kv_bytes) : ret;
}

static int add_shapes(struct og_cuda *c, char *err, size_t err_bytes)
{
	const struct og_hparams *hp = &c->model->hp;
	uint32_t q = hp->nb_heads * hp->head_dim, kv = hp->nb_kv_heads * hp->head_dim;
	const struct {
		uint32_t n_in, cols;
	} shapes[] = {
		{hp->width, q + 2 * kv},
		{q, hp->width},
		{hp->width, 2 * og_cuda_pad(hp->ff_width, OG_CUDA_GATE_ROWS)},
		{hp->ff_width, hp->width},
	};
	int ret = 0;

	for (size_t i = 0; i < OG_ARRAY_LEN(shapes) && ret == 0; i++)
		ret = og_cuda_lt_add(c->lt, og_cuda_pad(shapes[i].n_in, OG_CUDA_K_STEP),
			shapes[i].cols, c->rows_max, err, err_bytes);
	return ret;
}

/* Without it all is computed all the same. */
static void start_library(struct og_cuda *c)
{
	char why[256] = "";
	int ret = -EOPNOTSUPP;

	if (c->w.in_fp8)
		snprintf(why, sizeof(why), "weights = fp8 is not for it");
	else
		ret = og_cuda_lt_open(&c->lt, &c->d, why, sizeof(why));
	if (ret == 0)
		ret = add_shapes(c, why, sizeof(why));
	if (ret == 0)
		return;
	og_cuda_lt_close(c->lt);
	c->lt = NULL;
	if (c->d.log)
		c->d.log(OG_LOG_WARN, "cuda", "matmul = cublaslt: %s; our own kernels multiply",
			why);
}

static int create(
	struct og_cuda *c, const struct og_backend_opts *opts, char *err, size_t err_bytes)
{
	const struct og_hparams *hp = &opts->model->hp;
	uint64_t per_row = OG_MIN((uint64_t)opts->nb_pages,
		((uint64_t)hp->context + OG_KV_PAGE_TOKENS - 1) / OG_KV_PAGE_TOKENS + 1);
	int ret = check_model(opts, err, err_bytes);

	if (ret < 0)
		return ret;
	c->model = opts->model;
	c->context = opts->context;
	c->decode = opts->decode;
	c->rows_max = opts->rows_max;
	c->nb_pages = opts->nb_pages;
	c->tables_max = (uint32_t)OG_MIN(per_row * opts->rows_max, UINT32_MAX / 8);
	c->page_bytes = og_kv_page_bytes(hp, opts->fp8_kv);
	c->kv_in_fp8 = opts->fp8_kv;
	c->w.in_fp8 = opts->fp8_weights;
	describe_heads(c);
	c->tuning.cublaslt |= opts->cublaslt;
	if (c->tuning.cublaslt)
		start_library(c);
	ret = make_buffers(c, err, err_bytes);
	if (ret == 0)
		ret = c->tuning.random_weights ? og_cuda_weights_random(&c->w, &c->d, opts->model)
					       : og_cuda_weights_upload(&c->w, &c->d, opts->model);
	if (ret == 0) /* some frequencies come with the weights */
		ret = send_turns(c, false);
	if (ret == 0)
		ret = send_turns(c, true);
	if (ret == 0 && (c->decode == OG_DECODE_CONVEYOR || c->tuning.decode == 2))
		ret = og_cuda_conveyor_create(c);
	return ret;
}

int og_cuda_forward_create(struct og_backend **out, const struct og_backend_opts *opts, int device,
	og_cuda_log_fn *log, const struct og_cuda_tuning *tuning, char *err, size_t err_bytes)
{
	struct og_cuda *c = calloc(1, sizeof(*c));
	int ret;

	snprintf(err, err_bytes, "out of memory");
	if (!c)
		return -ENOMEM;
	c->base.ops = &og_cuda_ops;
	c->base.overlaps = true;
	if (tuning)
		c->tuning = *tuning;
	ret = og_cuda_device_open(&c->d, device, log, err, err_bytes);
	if (ret < 0) {
		free(c);
		return ret;
	}
	if (c->tuning.wait_ms)
		c->d.wait_ms = c->tuning.wait_ms;
	snprintf(err, err_bytes, "%s: the device failed while the back end started", c->d.name);
	ret = create(c, opts, err, err_bytes);
	if (ret < 0) {
		og_cuda_forward_destroy(&c->base);
		return ret;
	}
	*out = &c->base;
	return 0;
}

uint64_t og_cuda_forward_conveyor_steps(const struct og_backend *b)
{
	return OG_CONTAINER_OF(b, struct og_cuda, base)->conveyor.nb_steps;
}

struct og_cuda_device *og_cuda_forward_device(struct og_backend *b)
{
	return &OG_CONTAINER_OF(b, struct og_cuda, base)->d;
}

bool og_cuda_forward_has_cublaslt(struct og_backend *b)
{
	return OG_CONTAINER_OF(b, struct og_cuda, base)->lt != NULL;
}

void og_cuda_forward_tune(struct og_backend *b, const struct og_cuda_tuning *tuning)
{
	OG_CONTAINER_OF(b, struct og_cuda, base)->tuning = *tuning;
}

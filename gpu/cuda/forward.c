#include "gpu/cuda/forward.h"

#include "gpu/cuda/weights.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROW_THREADS = 256,
	HEAD_THREADS = 64,
	LOGIT_ROWS = 128,   /* computed and copied at a time */
	SPLIT_UNITS = 4096, /* rows times splits for which there is room between the two kernels */
	SPLIT_TOKENS = OG_CUDA_SPLIT_BLOCKS * OG_CUDA_BLOCK_TOKENS,
	ALIGN = 256,
};

static_assert((int)OG_CUDA_BLOCK_TOKENS == OG_KV_PAGE_TOKENS, "a block of attention is a page");
static_assert(OG_CUDA_NO_TOKEN == OG_TOKEN_NONE, "results are passed on");

/* What a step hands to the device, in pinned memory, and the same in device memory. */
struct inputs {
	struct og_cuda_row *rows;   /* (rows_max) */
	struct og_cuda_tile *tiles; /* (rows_max) */
	uint32_t *wanted; /* (rows_max): of those that draw, then of those that want logits */
	struct og_cuda_draw *draws; /* (rows_max) */
	uint32_t *tables;           /* (tables_max) */
};

/* A step from submit to collect. */
struct step {
	void *host; /* pinned: what `in` and `results` point into */
	struct inputs in;
	size_t in_use; /* bytes of it */
	CUdeviceptr device_in;
	CUdeviceptr rows, tiles, wanted, draws, tables; /* of device_in */
	uint64_t *results; /* (rows_max): of each row that draws the step's number and the token */
	CUevent done;
	uint32_t number;
	uint32_t nb_rows, nb_tiles, nb_draws, nb_logits, nb_splits;
	uint32_t *tokens; /* the batch's */
};

struct cuda {
	struct og_backend base;
	struct og_cuda_device d;
	struct og_cuda_tuning tuning;
	const struct og_model *model;
	struct og_cuda_weights w;
	struct og_cuda_heads heads;
	float q_scale;
	uint32_t context;
	uint32_t rows_max;
	uint32_t nb_pages;
	uint32_t tables_max;
	uint64_t page_bytes;

	size_t in_bytes;  /* of a step's inputs, */
	size_t tables_at; /* the tables last */
	struct step steps[OG_STEPS_MAX];
	uint32_t oldest, nb_pending, last_number;
	struct step *now;    /* the one that is being submitted */
	uint32_t *logits_at; /* (rows_max): where the logits of its rows go */
	CUdeviceptr drawn;   /* (rows_max): the last token of each slot */
	float *host_logits;  /* pinned, (LOGIT_ROWS, vocab) */
	void *host_page;     /* pinned */

	CUdeviceptr kv;
	CUdeviceptr scratch; /* what these point into */
	/* Of layers without and with a window: */
	CUdeviceptr turns[2], cosine[2], sine[2];
	CUdeviceptr x, h, qkv, q, att, act, mixes, states, logits;
	CUdeviceptr delta; /* what a block gives, where it is not simply added; 0: it is */
};

/* ---- The batch, as the kernels want it. ---- */

static bool continues(const struct og_row *row)
{
	return row->slot == row[-1].slot && row->pos == row[-1].pos + 1;
}

/* The pages of a slot up to position `last`, at the end of the tables. */
static int add_table(struct cuda *c, const struct og_batch *b, uint32_t slot, uint32_t last,
	uint32_t *used, uint32_t *at)
{
	uint32_t n = last / OG_KV_PAGE_TOKENS + 1;
	const uint32_t *from = b->tables + (size_t)slot * b->table_pages;

	if (n > b->table_pages || n > c->tables_max - *used)
		return -E2BIG;
	for (uint32_t i = 0; i < n; i++)
		if (from[i] >= c->nb_pages)
			return -ERANGE;
	memcpy(c->now->in.tables + *used, from, n * sizeof(*from));
	*at = *used;
	*used += n;
	return 0;
}

/* What the rows yield, in the order in which it is computed: tokens first, then logits. */
static int plan_results(struct cuda *c, const struct og_batch *b)
{
	struct step *s = c->now;
	uint32_t at = 0;

	for (uint32_t i = 0; i < b->nb_rows; i++) {
		const struct og_row *row = &b->rows[i];

		if (row->draw) {
			if (row->slot >= c->rows_max)
				return -ERANGE;
			s->in.wanted[s->nb_draws] = i;
			s->in.draws[s->nb_draws++] =
				(struct og_cuda_draw){*row->draw, row->slot, at++};
		} else if (row->wants_logits) {
			c->logits_at[s->nb_logits++] = at++;
		}
	}
	for (uint32_t i = 0, k = s->nb_draws; i < b->nb_rows; i++)
		if (b->rows[i].wants_logits && !b->rows[i].draw)
			s->in.wanted[k++] = i;
	return 0;
}

static int check_token(const struct cuda *c, const struct og_row *row)
{
	if (row->token == OG_TOKEN_DRAWN)
		return row->slot < c->rows_max ? 0 : -ERANGE;
	return row->token < c->model->hp.vocab ? 0 : -ERANGE;
}

/* Tiles: runs of rows at consecutive positions, cut where a block of attention is full. */
static int plan(struct cuda *c, const struct og_batch *b)
{
	uint32_t per_tile = OG_CUDA_TILE_QUERIES / (c->heads.nb_heads / c->heads.nb_kv_heads);
	uint32_t used = 0, at = 0, end;
	struct step *s = c->now;
	int ret;

	s->nb_rows = b->nb_rows;
	s->nb_tiles = s->nb_draws = s->nb_logits = s->nb_splits = 0;
	s->tokens = b->tokens;
	for (uint32_t i = 0; i < b->nb_rows; i = end) {
		for (end = i + 1; end < b->nb_rows && continues(&b->rows[end]); end++)
			;
		ret = add_table(c, b, b->rows[i].slot, b->rows[end - 1].pos, &used, &at);
		if (ret < 0)
			return ret;
		s->nb_splits = OG_MAX(s->nb_splits, b->rows[end - 1].pos / SPLIT_TOKENS + 1);
		for (uint32_t k = i; k < end; k++) {
			const struct og_row *row = &b->rows[k];

			ret = check_token(c, row);
			if (ret < 0)
				return ret;
			if ((k - i) % per_tile == 0)
				s->in.tiles[s->nb_tiles++] = (struct og_cuda_tile){
					k, OG_MIN(per_tile, end - k), row->pos, at};
			s->in.rows[k] = (struct og_cuda_row){row->token == OG_TOKEN_DRAWN
								     ? OG_CUDA_DRAWN | row->slot
								     : row->token,
				row->pos, at, s->nb_tiles - 1};
		}
	}
	s->in_use = c->tables_at + used * sizeof(*s->in.tables);
	return plan_results(c, b);
}

/* ---- The step. ---- */

static int send_inputs(struct cuda *c)
{
	return og_cuda_check_work(&c->d,
		c->d.cu.cuMemcpyHtoDAsync(
			c->now->device_in, c->now->host, c->now->in_use, c->d.stream),
		"cuMemcpyHtoDAsync");
}

static int embed(struct cuda *c)
{
	uint32_t width = c->model->hp.width, kp = c->w.embedding.kp;
	uint32_t half = c->model->hp.rope_dims / 2, nb_rows = c->now->nb_rows;
	float scale = c->model->hp.embed_scale;
	void *embed_args[] = {
		&c->x, &c->w.embedding.data, &c->now->rows, &c->drawn, &width, &kp, &scale};
	int ret = og_cuda_launch(&c->d, c->d.stream, OG_K_embed_rows,
		(struct og_cuda_grid){nb_rows, 1, 1, ROW_THREADS, 0}, embed_args);

	for (int r = 0; r < 2 && ret == 0 && half > 0; r++) {
		float magnitude = c->model->hp.rope[r].magnitude;
		void *args[] = {&c->cosine[r], &c->sine[r], &c->turns[r], &c->now->rows, &half,
			&nb_rows, &magnitude};

		if (c->turns[r])
			ret = og_cuda_launch(&c->d, c->d.stream, OG_K_rope_angles,
				(struct og_cuda_grid){
					(half * nb_rows + ROW_THREADS - 1) / ROW_THREADS, 1, 1,
					ROW_THREADS, 0},
				args);
	}
	return ret;
}

/* h = norm(x); with `wanted`, of those rows only. */
static int norm(struct cuda *c, CUdeviceptr weights, CUdeviceptr wanted, uint32_t nb_rows)
{
	uint32_t width = c->model->hp.width, kp = og_cuda_pad(width, OG_CUDA_K_STEP);
	float eps = c->model->hp.norm_eps;
	void *args[] = {&c->h, &c->x, &weights, &wanted, &width, &kp, &eps};

	return og_cuda_launch(&c->d, c->d.stream, OG_K_rms_norm,
		(struct og_cuda_grid){nb_rows, 1, 1, ROW_THREADS, 0}, args);
}

static int multiply(struct cuda *c, const struct og_cuda_matrix *w, CUdeviceptr x, CUdeviceptr out,
	uint32_t nb_rows, uint32_t ld, enum og_cuda_epilogue epilogue)
{
	struct og_cuda_product p = {.w = w,
		.x = x,
		.out = out,
		.nb_rows = nb_rows,
		.ld = ld,
		.epilogue = epilogue,
		.how = c->tuning.matmul};

	if (p.how == OG_CUDA_MATMUL_SKINNY && nb_rows > OG_CUDA_SKINNY_ROWS)
		p.how = OG_CUDA_MATMUL_AUTO;
	return og_cuda_multiply(&c->d, &p);
}

static int rotate_and_append(struct cuda *c, const struct og_cuda_layer *l)
{
	uint32_t units = c->heads.nb_heads + 2 * c->heads.nb_kv_heads;
	bool windowed = c->model->hp.windowed[c->heads.layer];
	CUdeviceptr bias = l->qkv_bias, q_norm = l->q_norm, k_norm = l->k_norm;
	float eps = c->model->hp.norm_eps;
	void *args[] = {&c->q, &c->kv, &c->qkv, &bias, &c->cosine[windowed], &c->sine[windowed],
		&c->now->rows, &c->now->tables, &q_norm, &k_norm, &c->heads, &c->q_scale, &eps};

	return og_cuda_launch(&c->d, c->d.stream, OG_K_rope_append,
		(struct og_cuda_grid){c->now->nb_rows, units, 1, HEAD_THREADS, 0}, args);
}

static int attend(struct cuda *c)
{
	struct og_cuda_attention a = {.q = c->q,
		.kv = c->kv,
		.tiles = c->now->tiles,
		.tables = c->now->tables,
		.out = c->att,
		.mixes = c->mixes,
		.states = c->states,
		.kp = og_cuda_pad(c->heads.nb_heads * c->heads.head_dim, OG_CUDA_K_STEP),
		.nb_splits = c->now->nb_splits};
	bool fits = (uint64_t)c->now->nb_rows * c->now->nb_splits <= SPLIT_UNITS;
	bool serial = c->tuning.attention == 1 || !fits;

	/* With one split there is nothing to merge; with many tiles the processors are busy anyway. */
	if (c->tuning.attention == 0)
		serial |= c->now->nb_splits == 1 || c->now->nb_tiles * c->heads.nb_kv_heads >=
							    4 * (uint32_t)c->d.nb_processors;
	return og_cuda_attend(
		&c->d, &a, &c->heads, c->now->rows, c->now->nb_rows, c->now->nb_tiles, serial);
}

/* x += a product, with what the model does to it before. */
static int add_product(struct cuda *c, const struct og_cuda_matrix *w, CUdeviceptr x,
	CUdeviceptr bias, CUdeviceptr post_norm)
{
	uint32_t width = c->model->hp.width;
	float eps = c->model->hp.norm_eps;
	void *args[] = {&c->x, &c->delta, &bias, &post_norm, &width, &eps};
	int ret;

	if (!bias && !post_norm)
		return multiply(c, w, x, c->x, c->now->nb_rows, width, OG_CUDA_ADD);
	ret = multiply(c, w, x, c->delta, c->now->nb_rows, width, OG_CUDA_STORE);
	if (ret < 0)
		return ret;
	return og_cuda_launch(&c->d, c->d.stream, OG_K_add_rows,
		(struct og_cuda_grid){c->now->nb_rows, 1, 1, ROW_THREADS, 0}, args);
}

static int attention_block(struct cuda *c, const struct og_cuda_layer *l)
{
	int ret = norm(c, l->attn_norm, 0, c->now->nb_rows);

	if (ret == 0)
		ret = multiply(
			c, &l->qkv, c->h, c->qkv, c->now->nb_rows, l->qkv.n_out, OG_CUDA_STORE);
	if (ret == 0)
		ret = rotate_and_append(c, l);
	if (ret == 0)
		ret = attend(c);
	if (ret == 0)
		ret = add_product(c, &l->o, c->att, l->o_bias, l->attn_post_norm);
	return ret;
}

static int ff_block(struct cuda *c, const struct og_cuda_layer *l)
{
	enum og_cuda_epilogue gate =
		c->model->hp.activation == OG_ACT_GELU_TANH ? OG_CUDA_GEGLU : OG_CUDA_SWIGLU;
	int ret = norm(c, l->ffn_norm, 0, c->now->nb_rows);

	if (ret == 0)
		ret = multiply(c, &l->gate_up, c->h, c->act, c->now->nb_rows, l->down.kp, gate);
	if (ret == 0)
		ret = add_product(c, &l->down, c->act, 0, l->ffn_post_norm);
	return ret;
}

static int cap_logits(struct cuda *c, uint64_t n)
{
	float cap = c->model->hp.logit_cap;
	void *args[] = {&c->logits, &n, &cap};

	if (cap == 0)
		return 0;
	return og_cuda_launch(&c->d, c->d.stream, OG_K_cap_values,
		(struct og_cuda_grid){
			(uint32_t)((n + ROW_THREADS - 1) / ROW_THREADS), 1, 1, ROW_THREADS, 0},
		args);
}

/* c->logits = those of `n` wanted rows. */
static int compute_logits(struct cuda *c, uint32_t at, uint32_t n)
{
	uint32_t vocab = c->model->hp.vocab;
	int ret = norm(c, c->w.output_norm, c->now->wanted + at * sizeof(uint32_t), n);

	if (ret == 0)
		ret = multiply(c, &c->w.output, c->h, c->logits, n, vocab, OG_CUDA_STORE);
	return ret < 0 ? ret : cap_logits(c, (uint64_t)n * vocab);
}

/* LOGIT_ROWS at a time. */
static int draw_tokens(struct cuda *c)
{
	const struct step *s = c->now;
	struct og_cuda_drawing g = {.logits = c->logits,
		.drawn = c->drawn,
		.results = s->results,
		.vocab = c->model->hp.vocab,
		.number = s->number};
	int ret = 0;

	for (uint32_t at = 0; at < s->nb_draws && ret == 0; at += LOGIT_ROWS) {
		g.nb_rows = OG_MIN(s->nb_draws - at, (uint32_t)LOGIT_ROWS);
		g.draws = s->draws + at * sizeof(struct og_cuda_draw);
		ret = compute_logits(c, at, g.nb_rows);
		if (ret == 0)
			ret = og_cuda_draw_tokens(&c->d, &g);
	}
	return ret;
}

/* LOGIT_ROWS at a time, and waits for them. */
static int write_logits(struct cuda *c, float *out)
{
	const struct step *s = c->now;
	uint32_t vocab = c->model->hp.vocab;
	int ret = 0;

	for (uint32_t at = 0; at < s->nb_logits && ret == 0; at += LOGIT_ROWS) {
		uint32_t n = OG_MIN(s->nb_logits - at, (uint32_t)LOGIT_ROWS);
		size_t row_bytes = vocab * sizeof(float);

		ret = compute_logits(c, s->nb_draws + at, n);
		if (ret == 0)
			ret = og_cuda_check_work(&c->d,
				c->d.cu.cuMemcpyDtoHAsync(
					c->host_logits, c->logits, n * row_bytes, c->d.stream),
				"cuMemcpyDtoHAsync");
		if (ret == 0)
			ret = og_cuda_wait(&c->d, c->d.stream);
		for (uint32_t i = 0; i < n && ret == 0; i++)
			memcpy(out + (size_t)c->logits_at[at + i] * vocab,
				c->host_logits + (size_t)i * vocab, row_bytes);
		c->base.host_bytes_total += n * row_bytes;
	}
	return ret;
}

static int launch_step(struct cuda *c, const struct og_batch *batch)
{
	int ret = og_cuda_device_enter(&c->d);

	if (ret == 0)
		ret = send_inputs(c);
	if (ret == 0)
		ret = embed(c);
	for (uint32_t i = 0; i < c->model->hp.nb_layers && ret == 0; i++) {
		c->heads.layer = i;
		c->heads.window =
			c->model->hp.windowed[i] ? c->model->hp.window : OG_CUDA_NO_WINDOW;
		ret = attention_block(c, &c->w.layers[i]);
		if (ret == 0)
			ret = ff_block(c, &c->w.layers[i]);
	}
	if (ret == 0)
		ret = draw_tokens(c);
	if (ret == 0)
		ret = write_logits(c, batch->logits);
	if (ret == 0)
		ret = og_cuda_check_work(
			&c->d, c->d.cu.cuEventRecord(c->now->done, c->d.stream), "cuEventRecord");
	return ret;
}

static int cuda_submit(struct og_backend *b, const struct og_batch *batch)
{
	struct cuda *c = OG_CONTAINER_OF(b, struct cuda, base);
	int ret;

	if (c->d.is_lost)
		return -EIO;
	if (c->nb_pending == OG_STEPS_MAX)
		return -EBUSY;
	if (batch->nb_rows == 0 || batch->nb_rows > c->rows_max)
		return batch->nb_rows == 0 ? -EINVAL : -E2BIG;
	c->now = &c->steps[(c->oldest + c->nb_pending) % OG_STEPS_MAX];
	ret = plan(c, batch);
	if (ret < 0)
		return ret;
	if (++c->last_number == 0) /* that is what no step has written yet */
		c->last_number = 1;
	c->now->number = c->last_number;
	ret = launch_step(c, batch);
	/* A part of it may be on its way. */
	c->d.is_lost |= ret < 0;
	c->base.is_lost = c->d.is_lost;
	c->nb_pending += ret == 0;
	return ret;
}

static int cuda_collect(struct og_backend *b)
{
	struct cuda *c = OG_CONTAINER_OF(b, struct cuda, base);
	const struct step *s = &c->steps[c->oldest];
	const struct og_cuda_words words = {s->results, s->in.draws, s->nb_draws, s->number};
	int ret;

	if (c->d.is_lost)
		return -EIO;
	if (c->nb_pending == 0)
		return -EINVAL;
	ret = og_cuda_device_enter(&c->d);
	if (ret == 0)
		ret = og_cuda_wait_event(&c->d, s->done, &words);
	c->base.is_lost = c->d.is_lost;
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < s->nb_draws; i++) {
		uint32_t at = s->in.draws[i].result;

		s->tokens[at] = (uint32_t)s->results[at];
	}
	c->base.host_bytes_total += s->nb_draws * sizeof(*s->results);
	c->oldest = (c->oldest + 1) % OG_STEPS_MAX;
	c->nb_pending--;
	return 0;
}

static int cuda_save_page(struct og_backend *b, uint32_t page, void *out)
{
	struct cuda *c = OG_CONTAINER_OF(b, struct cuda, base);
	int ret;

	if (c->d.is_lost)
		return -EIO;
	ret = og_cuda_device_enter(&c->d);
	if (ret == 0)
		ret = og_cuda_check_work(&c->d,
			c->d.cu.cuMemcpyDtoHAsync(c->host_page, c->kv + page * c->page_bytes,
				c->page_bytes, c->d.stream),
			"cuMemcpyDtoHAsync");
	if (ret == 0)
		ret = og_cuda_wait(&c->d, c->d.stream);
	if (ret == 0)
		memcpy(out, c->host_page, c->page_bytes);
	c->base.is_lost = c->d.is_lost;
	return ret;
}

static int cuda_load_page(struct og_backend *b, uint32_t page, const void *bytes)
{
	struct cuda *c = OG_CONTAINER_OF(b, struct cuda, base);
	int ret;

	if (c->d.is_lost)
		return -EIO;
	memcpy(c->host_page, bytes, c->page_bytes);
	ret = og_cuda_device_enter(&c->d);
	if (ret == 0)
		ret = og_cuda_check_work(&c->d,
			c->d.cu.cuMemcpyHtoDAsync(c->kv + page * c->page_bytes, c->host_page,
				c->page_bytes, c->d.stream),
			"cuMemcpyHtoDAsync");
	if (ret == 0)
		ret = og_cuda_wait(&c->d, c->d.stream);
	c->base.is_lost = c->d.is_lost;
	return ret;
}

static void cuda_destroy(struct og_backend *b)
{
	struct cuda *c = OG_CONTAINER_OF(b, struct cuda, base);

	if (og_cuda_device_enter(&c->d) == 0 && c->nb_pending > 0 && !c->d.is_lost)
		(void)!og_cuda_wait(&c->d, c->d.stream);
	og_cuda_free(&c->d, c->scratch);
	og_cuda_free(&c->d, c->kv);
	for (uint32_t i = 0; i < OG_STEPS_MAX; i++) {
		og_cuda_free(&c->d, c->steps[i].device_in);
		og_cuda_free_host(&c->d, c->steps[i].host);
		og_cuda_free_event(&c->d, c->steps[i].done);
	}
	free(c->logits_at);
	og_cuda_free_host(&c->d, c->host_logits);
	og_cuda_free_host(&c->d, c->host_page);
	og_cuda_weights_fini(&c->w, &c->d);
	og_cuda_device_close(&c->d);
	free(c);
}

static const struct og_backend_ops cuda_ops = {
	.name = "cuda",
	.submit = cuda_submit,
	.collect = cuda_collect,
	.save_page = cuda_save_page,
	.load_page = cuda_load_page,
	.destroy = cuda_destroy,
};

/* ---- Making it. ---- */

/* What this back end has no kernels for; NULL: it has all. */
static const char *find_lack(const struct og_model *m)
{
	const struct og_hparams *hp = &m->hp;

	return hp->head_dim > OG_CUDA_HEAD_DIM_MAX ? "heads of more than 128 values"
	       : hp->nb_heads / hp->nb_kv_heads > OG_CUDA_TILE_QUERIES
		       ? "more than 64 heads to a key-value head"
		       : NULL;
}

static int check_model(const struct og_backend_opts *opts, char *err, size_t err_bytes)
{
	const char *lack = find_lack(opts->model);

	if (!lack)
		return 0;
	snprintf(err, err_bytes, "the cuda back end has no kernels for %s; use cpu", lack);
	return -EOPNOTSUPP;
}

static void describe_heads(struct cuda *c)
{
	const struct og_hparams *hp = &c->model->hp;
	uint64_t head_values = (uint64_t)OG_KV_PAGE_TOKENS * hp->head_dim;

	c->heads = (struct og_cuda_heads){
		.nb_heads = hp->nb_heads,
		.nb_kv_heads = hp->nb_kv_heads,
		.head_dim = hp->head_dim,
		.padded_dim = hp->head_dim <= 32   ? 32
			      : hp->head_dim <= 64 ? 64
						   : 128,
		.rope_dims = hp->rope_dims,
		.rope_halves = hp->rope_halves,
		.is_vector = hp->head_dim % 8 == 0,
		.page_values = c->page_bytes / sizeof(uint16_t),
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

static size_t carve_scratch(struct cuda *c, CUdeviceptr base)
{
	const struct og_hparams *hp = &c->model->hp;
	uint64_t rows = og_cuda_pad(c->rows_max, OG_CUDA_ROW_PAD), half = hp->rope_dims / 2;
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
	c->mixes = carve(
		&at, sizeof(float) * SPLIT_UNITS * hp->nb_heads * (uint64_t)c->heads.padded_dim);
	c->states = carve(&at, 2 * sizeof(float) * SPLIT_UNITS * (uint64_t)hp->nb_heads);
	c->logits = carve(&at, sizeof(float) * LOGIT_ROWS * (uint64_t)hp->vocab);
	c->drawn = carve(&at, sizeof(uint32_t) * (uint64_t)c->rows_max);
	return at.used;
}

/* Returns the bytes of the inputs; the results lie behind them, in host memory only. */
static size_t carve_inputs(struct cuda *c, struct step *s, size_t *host_bytes)
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

static int make_step(struct cuda *c, struct step *s)
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
	struct cuda *c, uint64_t kv_bytes, uint64_t scratch_bytes, char *err, size_t err_bytes)
{
	uint64_t weights = og_cuda_weights_bytes(c->model);
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
static int send_turns(struct cuda *c, bool windowed)
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

static int clear(struct cuda *c, CUdeviceptr p, uint64_t bytes)
{
	return og_cuda_check_work(
		&c->d, c->d.cu.cuMemsetD8Async(p, 0, bytes, c->d.stream), "cuMemsetD8Async");
}

static int make_buffers(struct cuda *c, char *err, size_t err_bytes)
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
	if (!c->logits_at)
		return -ENOMEM;
	c->in_bytes = carve_inputs(c, &c->steps[0], &host_bytes);
	ret = check_room(c, kv_bytes, scratch_bytes + OG_STEPS_MAX * c->in_bytes, err, err_bytes);
	for (uint32_t i = 0; i < OG_STEPS_MAX && ret == 0; i++)
		ret = make_step(c, &c->steps[i]);
	if (ret == 0)
		ret = og_cuda_alloc_host(
			&c->d, &c->host_logits, sizeof(float) * LOGIT_ROWS * c->model->hp.vocab);
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
	if (ret == 0)
		ret = clear(c, c->kv, kv_bytes);
	if (ret == 0)
		ret = send_turns(c, false);
	return ret == 0 ? send_turns(c, true) : ret;
}

static int create(struct cuda *c, const struct og_backend_opts *opts, char *err, size_t err_bytes)
{
	const struct og_hparams *hp = &opts->model->hp;
	uint64_t per_row = OG_MIN((uint64_t)opts->nb_pages,
		((uint64_t)hp->context + OG_KV_PAGE_TOKENS - 1) / OG_KV_PAGE_TOKENS + 1);
	int ret = check_model(opts, err, err_bytes);

	if (ret == 0 && !c->tuning.random_weights)
		ret = og_model_wait(opts->model, 0); /* some frequencies come with the weights */
	if (ret < 0)
		return ret;
	c->model = opts->model;
	c->context = opts->context;
	c->rows_max = opts->rows_max;
	c->nb_pages = opts->nb_pages;
	c->tables_max = (uint32_t)OG_MIN(per_row * opts->rows_max, UINT32_MAX / 8);
	c->page_bytes = og_kv_page_bytes(hp);
	describe_heads(c);
	ret = make_buffers(c, err, err_bytes);
	if (ret == 0)
		ret = c->tuning.random_weights ? og_cuda_weights_random(&c->w, &c->d, opts->model)
					       : og_cuda_weights_upload(&c->w, &c->d, opts->model);
	return ret;
}

int og_cuda_forward_create(struct og_backend **out, const struct og_backend_opts *opts, int device,
	og_cuda_log_fn *log, const struct og_cuda_tuning *tuning, char *err, size_t err_bytes)
{
	struct cuda *c = calloc(1, sizeof(*c));
	int ret;

	snprintf(err, err_bytes, "out of memory");
	if (!c)
		return -ENOMEM;
	c->base.ops = &cuda_ops;
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
		cuda_destroy(&c->base);
		return ret;
	}
	*out = &c->base;
	return 0;
}

struct og_cuda_device *og_cuda_forward_device(struct og_backend *b)
{
	return &OG_CONTAINER_OF(b, struct cuda, base)->d;
}

void og_cuda_forward_tune(struct og_backend *b, const struct og_cuda_tuning *tuning)
{
	OG_CONTAINER_OF(b, struct cuda, base)->tuning = *tuning;
}

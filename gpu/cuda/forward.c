#include "gpu/cuda/forward_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROW_THREADS = 256,
	HEAD_THREADS = 64,
};

static_assert(OG_CUDA_NO_TOKEN == OG_TOKEN_NONE, "results are passed on");

static int send_inputs(struct og_cuda *c)
{
	return og_cuda_check_work(&c->d,
		c->d.cu.cuMemcpyHtoDAsync(
			c->now->device_in, c->now->host, c->now->in_use, c->d.stream),
		"cuMemcpyHtoDAsync");
}

static int embed(struct og_cuda *c)
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
static int norm(struct og_cuda *c, CUdeviceptr weights, CUdeviceptr wanted, uint32_t nb_rows)
{
	uint32_t width = c->model->hp.width, kp = og_cuda_pad(width, OG_CUDA_K_STEP);
	float eps = c->model->hp.norm_eps;
	void *args[] = {&c->h, &c->x, &weights, &wanted, &width, &kp, &eps};

	return og_cuda_launch(&c->d, c->d.stream, OG_K_rms_norm,
		(struct og_cuda_grid){nb_rows, 1, 1, ROW_THREADS, 0}, args);
}

static int multiply(struct og_cuda *c, const struct og_cuda_matrix *w, CUdeviceptr x,
	CUdeviceptr out, uint32_t nb_rows, uint32_t ld, enum og_cuda_epilogue epilogue)
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

/* All rows of the step, each by what its part says. */
static int multiply_rows(struct og_cuda *c, const struct og_cuda_matrix *w, CUdeviceptr x,
	CUdeviceptr out, uint32_t ld, enum og_cuda_epilogue epilogue)
{
	uint64_t out_bytes = (og_cuda_is_gated(epilogue) ? 2ull : 4ull) * ld;
	int ret = 0;

	for (uint32_t i = 0; i < c->nb_parts && ret == 0; i++) {
		const struct og_cuda_part *part = &c->parts[i];
		struct og_cuda_product p = {.w = w,
			.x = x + 2ull * part->first * w->kp,
			.out = out + part->first * out_bytes,
			.nb_rows = part->nb_rows,
			.ld = ld,
			.epilogue = epilogue};

		ret = part->by_library ? og_cuda_lt_multiply(c->lt, &p, c->gates)
				       : multiply(c, w, p.x, p.out, p.nb_rows, ld, epilogue);
	}
	return ret;
}

static int rotate_and_append(struct og_cuda *c, const struct og_cuda_layer *l)
{
	uint32_t units = c->heads.nb_heads + 2 * c->heads.nb_kv_heads;
	bool windowed = c->model->hp.windowed[c->heads.layer];
	CUdeviceptr bias = l->qkv_bias, q_norm = l->q_norm, k_norm = l->k_norm;
	float eps = c->model->hp.norm_eps;
	void *args[] = {&c->q, &c->kv, &c->qkv, &bias, &c->cosine[windowed], &c->sine[windowed],
		&c->now->rows, &c->now->tables, &q_norm, &k_norm, &c->heads, &c->q_scale, &eps};

	return og_cuda_launch(&c->d, c->d.stream,
		c->kv_in_fp8 ? OG_K_rope_append_e4m3 : OG_K_rope_append,
		(struct og_cuda_grid){c->now->nb_rows, units, 1, HEAD_THREADS, 0}, args);
}

static int attend(struct og_cuda *c)
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
	bool fits = (uint64_t)c->now->nb_rows * c->now->nb_splits <= OG_CUDA_SPLIT_UNITS;
	bool serial = c->tuning.attention == 1 || !fits;

	/* With one split there is nothing to merge; with many tiles the processors are busy anyway. */
	if (c->tuning.attention == 0)
		serial |= c->now->nb_splits == 1 || c->now->nb_tiles * c->heads.nb_kv_heads >=
							    4 * (uint32_t)c->d.nb_processors;
	return og_cuda_attend(
		&c->d, &a, &c->heads, c->now->rows, c->now->nb_rows, c->now->nb_tiles, serial);
}

/* x += a product, with what the model does to it before. */
static int add_product(struct og_cuda *c, const struct og_cuda_matrix *w, CUdeviceptr x,
	CUdeviceptr bias, CUdeviceptr post_norm)
{
	uint32_t width = c->model->hp.width;
	float eps = c->model->hp.norm_eps;
	void *args[] = {&c->x, &c->delta, &bias, &post_norm, &width, &eps};
	int ret;

	if (!bias && !post_norm)
		return multiply_rows(c, w, x, c->x, width, OG_CUDA_ADD);
	ret = multiply_rows(c, w, x, c->delta, width, OG_CUDA_STORE);
	if (ret < 0)
		return ret;
	return og_cuda_launch(&c->d, c->d.stream, OG_K_add_rows,
		(struct og_cuda_grid){c->now->nb_rows, 1, 1, ROW_THREADS, 0}, args);
}

static int attention_block(struct og_cuda *c, const struct og_cuda_layer *l)
{
	int ret = norm(c, l->attn_norm, 0, c->now->nb_rows);

	if (ret == 0)
		ret = multiply_rows(c, &l->qkv, c->h, c->qkv, l->qkv.n_out, OG_CUDA_STORE);
	if (ret == 0)
		ret = rotate_and_append(c, l);
	if (ret == 0)
		ret = attend(c);
	if (ret == 0)
		ret = add_product(c, &l->o, c->att, l->o_bias, l->attn_post_norm);
	return ret;
}

static int ff_block(struct og_cuda *c, const struct og_cuda_layer *l)
{
	enum og_cuda_epilogue gate =
		c->model->hp.activation == OG_ACT_GELU_TANH ? OG_CUDA_GEGLU : OG_CUDA_SWIGLU;
	int ret = norm(c, l->ffn_norm, 0, c->now->nb_rows);

	if (ret == 0)
		ret = multiply_rows(c, &l->gate_up, c->h, c->act, l->down.kp, gate);
	if (ret == 0)
		ret = add_product(c, &l->down, c->act, 0, l->ffn_post_norm);
	return ret;
}

static int cap_logits(struct og_cuda *c, uint64_t n)
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

/* *out: where those of `n` wanted rows lie. */
static int compute_logits(struct og_cuda *c, uint32_t at, uint32_t n, CUdeviceptr *out)
{
	uint32_t vocab = c->model->hp.vocab;
	int ret;

	*out = c->logits;
	if (c->now->has_logits) {
		*out += at * (uint64_t)vocab * sizeof(float);
		return 0;
	}
	ret = norm(c, c->w.output_norm, c->now->wanted + at * sizeof(uint32_t), n);
	if (ret == 0)
		ret = multiply(c, &c->w.output, c->h, c->logits, n, vocab, OG_CUDA_STORE);
	return ret < 0 ? ret : cap_logits(c, (uint64_t)n * vocab);
}

/* OG_CUDA_LOGIT_ROWS at a time. */
static int draw_tokens(struct og_cuda *c)
{
	const struct og_cuda_step *s = c->now;
	struct og_cuda_drawing g = {.drawn = c->drawn,
		.scratch = c->draw_scratch,
		.results = s->results,
		.vocab = c->model->hp.vocab,
		.number = s->number};
	int ret = 0;

	for (uint32_t at = 0; at < s->nb_draws && ret == 0; at += OG_CUDA_LOGIT_ROWS) {
		g.nb_rows = OG_MIN(s->nb_draws - at, (uint32_t)OG_CUDA_LOGIT_ROWS);
		g.draws = s->draws + at * sizeof(struct og_cuda_draw);
		ret = compute_logits(c, at, g.nb_rows, &g.logits);
		if (ret == 0)
			ret = og_cuda_draw_tokens(&c->d, &g);
	}
	return ret;
}

/* OG_CUDA_LOGIT_ROWS at a time, and waits for them. */
static int write_logits(struct og_cuda *c, float *out)
{
	const struct og_cuda_step *s = c->now;
	uint32_t vocab = c->model->hp.vocab;
	int ret = 0;

	for (uint32_t at = 0; at < s->nb_logits && ret == 0; at += OG_CUDA_LOGIT_ROWS) {
		uint32_t n = OG_MIN(s->nb_logits - at, (uint32_t)OG_CUDA_LOGIT_ROWS);
		size_t row_bytes = vocab * sizeof(float);
		CUdeviceptr logits;

		ret = compute_logits(c, s->nb_draws + at, n, &logits);
		if (ret == 0)
			ret = og_cuda_check_work(&c->d,
				c->d.cu.cuMemcpyDtoHAsync(
					c->host_logits, logits, n * row_bytes, c->d.stream),
				"cuMemcpyDtoHAsync");
		if (ret == 0)
			ret = og_cuda_wait(&c->d, c->d.stream);
		if (ret == 0)
			ret = og_cuda_conveyor_check(c);
		for (uint32_t i = 0; i < n && ret == 0; i++)
			memcpy(out + (size_t)c->logits_at[at + i] * vocab,
				c->host_logits + (size_t)i * vocab, row_bytes);
		c->base.host_bytes_total += n * row_bytes;
	}
	return ret;
}

/* Up to what the last layer leaves in x. */
static int compute_layers(struct og_cuda *c)
{
	int ret = embed(c);

	for (uint32_t i = 0; i < c->model->hp.nb_layers && ret == 0; i++) {
		c->heads.layer = i;
		c->heads.window =
			c->model->hp.windowed[i] ? c->model->hp.window : OG_CUDA_NO_WINDOW;
		ret = attention_block(c, &c->w.layers[i]);
		if (ret == 0)
			ret = ff_block(c, &c->w.layers[i]);
	}
	return ret;
}

static int launch_step(struct og_cuda *c, const struct og_batch *batch)
{
	int ret = og_cuda_device_enter(&c->d);

	if (ret == 0)
		ret = send_inputs(c);
	if (ret == 0)
		ret = og_cuda_conveyor_takes(c, batch) ? og_cuda_conveyor_step(c)
						       : compute_layers(c);
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
	struct og_cuda *c = OG_CONTAINER_OF(b, struct og_cuda, base);
	int ret;

	if (c->d.is_lost)
		return -EIO;
	if (c->nb_pending == OG_STEPS_MAX)
		return -EBUSY;
	if (batch->nb_rows == 0 || batch->nb_rows > c->rows_max)
		return batch->nb_rows == 0 ? -EINVAL : -E2BIG;
	c->now = &c->steps[(c->oldest + c->nb_pending) % OG_STEPS_MAX];
	ret = og_cuda_plan(c, batch);
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
	struct og_cuda *c = OG_CONTAINER_OF(b, struct og_cuda, base);
	const struct og_cuda_step *s = &c->steps[c->oldest];
	const struct og_cuda_words words = {s->results, s->in.draws, s->nb_draws, s->number};
	int ret;

	if (c->d.is_lost)
		return -EIO;
	if (c->nb_pending == 0)
		return -EINVAL;
	ret = og_cuda_device_enter(&c->d);
	if (ret == 0)
		ret = og_cuda_wait_event(&c->d, s->done, &words);
	if (ret == 0)
		ret = og_cuda_conveyor_check(c);
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
	struct og_cuda *c = OG_CONTAINER_OF(b, struct og_cuda, base);
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
	struct og_cuda *c = OG_CONTAINER_OF(b, struct og_cuda, base);
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

void og_cuda_forward_destroy(struct og_backend *b)
{
	struct og_cuda *c = OG_CONTAINER_OF(b, struct og_cuda, base);

	if (og_cuda_device_enter(&c->d) == 0 && c->nb_pending > 0 && !c->d.is_lost)
		(void)!og_cuda_wait(&c->d, c->d.stream);
	og_cuda_free(&c->d, c->scratch);
	og_cuda_free(&c->d, c->kv);
	for (uint32_t i = 0; i < OG_STEPS_MAX; i++) {
		og_cuda_free(&c->d, c->steps[i].device_in);
		og_cuda_free_host(&c->d, c->steps[i].host);
		og_cuda_free_event(&c->d, c->steps[i].done);
	}
	og_cuda_lt_close(c->lt);
	free(c->parts);
	free(c->logits_at);
	og_cuda_free_host(&c->d, c->host_logits);
	og_cuda_free_host(&c->d, c->host_page);
	og_cuda_conveyor_destroy(c);
	og_cuda_weights_fini(&c->w, &c->d);
	og_cuda_device_close(&c->d);
	free(c);
}

const struct og_backend_ops og_cuda_ops = {
	.name = "cuda",
	.submit = cuda_submit,
	.collect = cuda_collect,
	.save_page = cuda_save_page,
	.load_page = cuda_load_page,
	.destroy = og_cuda_forward_destroy,
};

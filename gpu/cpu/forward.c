/*
 * forward.c: the forward pass on the CPU: a layer is a row of parallel loops, each over output rows
 * of weights, rows of the batch, or heads.
 */
#include "gpu/backend.h"

#include "gpu/cpu/kernels.h"
#include "gpu/cpu/pool.h"
#include "gpu/kv_cache.h"
#include "gpu/panels.h"
#include "gpu/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum {
	PARTS_MAX = 3,          /* matrices multiplied in one loop */
	ITEM_BYTES = 64 * 1024, /* of weights per item: stays in the second-level cache */
	/* So many rows of a batch are worth reading from the second-level cache for several panels. */
	PANELS_FROM_ROWS = 64,
	PANELS_TOGETHER = 4,
	STRIDE_SPARE = 32,   /* values after each activation: see struct og_activations */
	ATTENTION_PAGES = 4, /* per step of attention, whatever the batch */
	ATTENTION_BLOCK = ATTENTION_PAGES * OG_KV_PAGE_TOKENS,
};

struct part {
	const struct og_weight *w;
	float *out; /* (rows, n_out) */
	const float *bias;
	uint32_t rows_per_item;
	uint32_t nb_items;
};

struct cpu {
	struct og_backend base;
	const struct og_model *model;
	const struct og_cpu_kernels *k;
	struct og_pool *pool;
	struct og_kv_cache kv;
	float *scratch; /* what the pointers below point into */
	/* Of layers without and with a window: */
	float *rope_freqs[2];             /* (rope_dims / 2) */
	float *rope_cos[2], *rope_sin[2]; /* (rows, rope_dims / 2) */
	float *x;                         /* (rows, width): the residual stream */
	float *delta;                     /* (rows, width): what a block adds to it */
	float *q, *key, *value;           /* (rows, heads * head_dim) */
	float *gate, *up;                 /* (rows, ff_width) */
	struct og_activations act;        /* input of the next products */
	float *act_x, *act_scale;
	int16_t *act_q;
	int32_t *act_total;
	uint32_t rows_max;
	uint32_t *drawn; /* (rows_max): the last token of each slot */
	struct og_sampler_item *sampler_scratch;

	/* The loop in progress. */
	const struct og_row *rows;
	const uint32_t *tables;
	uint32_t table_pages;
	uint32_t nb_rows;
	uint32_t layer;
	struct part parts[PARTS_MAX];
	uint32_t nb_parts;
	const float *norm;      /* weights for the next norm */
	const float *post_norm; /* for a norm of delta itself, or NULL */
	bool add_delta;         /* x += delta first */
	float *logits;
	bool quantize; /* some weight of the next products comes in blocks */
};

/* Items begin with a panel, so one either lies in panels whole or ends with the rows after them. */
static void multiply_rows(struct cpu *c, const struct part *p, uint32_t first, uint32_t count)
{
	const struct og_weight *w = p->w;
	const uint8_t *data = w->data + first * w->row_bytes;
	uint32_t in_panels = first < w->panel_rows ? OG_MIN(w->panel_rows - first, count) : 0;

	if (in_panels > 0)
		c->k->matmul_panels[w->type](p->out + first, w->n_out, data, w->row_bytes,
			in_panels, &c->act, 0, c->nb_rows);
	if (in_panels < count)
		c->k->matmul[w->type](p->out + first + in_panels, w->n_out,
			data + in_panels * w->row_bytes, w->row_bytes, count - in_panels, &c->act,
			0, c->nb_rows);
}

static void multiply_item(void *arg, uint32_t item)
{
	struct cpu *c = arg;
	const struct part *p = c->parts;
	uint32_t first, count;

	while (item >= p->nb_items) {
		item -= p->nb_items;
		p++;
	}
	first = item * p->rows_per_item;
	count = OG_MIN(p->rows_per_item, p->w->n_out - first);
	multiply_rows(c, p, first, count);
	if (!p->bias)
		return;
	for (uint32_t i = 0; i < c->nb_rows; i++)
		for (uint32_t r = first; r < first + count; r++)
			p->out[(size_t)i * p->w->n_out + r] += p->bias[r];
}

static void add_part(struct cpu *c, const struct og_weight *w, float *out, const float *bias)
{
	struct part *p = &c->parts[c->nb_parts++];

	*p = (struct part){.w = w, .out = out, .bias = bias};
	p->rows_per_item = (uint32_t)OG_MAX(ITEM_BYTES / w->row_bytes, 1u);
	if (w->panel_rows > 0)
		p->rows_per_item = OG_MAX(p->rows_per_item / OG_PANEL_ROWS,
					   c->nb_rows >= PANELS_FROM_ROWS ? PANELS_TOGETHER : 1u) *
				   OG_PANEL_ROWS;
	p->nb_items = (w->n_out + p->rows_per_item - 1) / p->rows_per_item;
}

/* out = w * act for each part that was added. */
static void multiply_parts(struct cpu *c)
{
	uint32_t nb_items = 0;

	for (uint32_t i = 0; i < c->nb_parts; i++)
		nb_items += c->parts[i].nb_items;
	og_pool_run(c->pool, multiply_item, c, nb_items);
	c->nb_parts = 0;
}

static bool wants_integers(const struct og_weight *w)
{
	return og_dtype_values(w->type) > 1;
}

/* The next products are of `n` values. */
static void begin_activations(struct cpu *c, uint32_t n, bool quantize)
{
	c->act.n = n;
	c->act.stride = n + STRIDE_SPARE;
	c->quantize = quantize;
}

static float *act_row(const struct cpu *c, uint32_t i)
{
	return c->act_x + (size_t)i * c->act.stride;
}

/* Make row `i` of act_x ready for the products. */
static void quantize_row(struct cpu *c, uint32_t i)
{
	size_t blocks = c->act.n / OG_ACT_BLOCK;

	if (c->quantize)
		c->k->quantize(act_row(c, i), c->act_q + (size_t)i * c->act.stride,
			c->act_scale + i * blocks, c->act_total + i * blocks, c->act.n);
}

static void norm_row(void *arg, uint32_t i)
{
	struct cpu *c = arg;
	uint32_t n = c->model->hp.width;
	float *x = c->x + (size_t)i * n;
	float *delta = c->delta + (size_t)i * n;

	if (c->add_delta && c->post_norm)
		c->k->rms_norm(delta, delta, c->post_norm, n, c->model->hp.norm_eps);
	if (c->add_delta)
		for (uint32_t j = 0; j < n; j++)
			x[j] += delta[j];
	c->k->rms_norm(act_row(c, i), x, c->norm, n, c->model->hp.norm_eps);
	quantize_row(c, i);
}

/* act = norm(x, after adding what the last block left in delta, with its own norm if it has one) */
static void norm_rows(
	struct cpu *c, const float *weights, const float *post_norm, bool add_delta, bool quantize)
{
	c->norm = weights;
	c->post_norm = post_norm;
	c->add_delta = add_delta;
	begin_activations(c, c->model->hp.width, quantize);
	og_pool_run(c->pool, norm_row, c, c->nb_rows);
}

static void embed_row(void *arg, uint32_t i)
{
	struct cpu *c = arg;
	const struct og_hparams *hp = &c->model->hp;
	uint32_t half = hp->rope_dims / 2;
	uint32_t token = c->rows[i].token;
	float pos = (float)c->rows[i].pos, *x = c->x + (size_t)i * hp->width;

	og_weight_row(&c->model->embedding,
		token == OG_TOKEN_DRAWN ? c->drawn[c->rows[i].slot] : token, x);
	for (uint32_t j = 0; hp->embed_scale != 1 && j < hp->width; j++)
		x[j] *= hp->embed_scale;
	for (int r = 0; r < 2; r++)
		for (uint32_t j = 0; j < half; j++) {
			float angle = pos * c->rope_freqs[r][j], m = hp->rope[r].magnitude;

			c->rope_cos[r][(size_t)i * half + j] = cosf(angle) * m;
			c->rope_sin[r][(size_t)i * half + j] = sinf(angle) * m;
		}
}

static void rotate(const struct cpu *c, float *head, uint32_t row)
{
	const struct og_hparams *hp = &c->model->hp;
	uint32_t half = hp->rope_dims / 2;
	bool halves = hp->rope_halves, windowed = hp->windowed[c->layer];
	const float *cosine = c->rope_cos[windowed] + (size_t)row * half;
	const float *sine = c->rope_sin[windowed] + (size_t)row * half;

	for (uint32_t j = 0; j < half; j++) {
		float *a = head + (halves ? j : 2 * j);
		float *b = head + (halves ? j + half : 2 * j + 1);
		float x = *a, y = *b;

		*a = x * cosine[j] - y * sine[j];
		*b = x * sine[j] + y * cosine[j];
	}
}

static const uint32_t *pages_of(const struct cpu *c, const struct og_row *row)
{
	return c->tables + (size_t)row->slot * c->table_pages;
}

/* A head of queries or keys: its norm, if it has one, then its rotation. */
static void prepare_head(const struct cpu *c, float *head, const float *norm, uint32_t row)
{
	if (norm)
		c->k->rms_norm(head, head, norm, c->model->hp.head_dim, c->model->hp.norm_eps);
	rotate(c, head, row);
}

/* Prepare the row's queries and keys, and file its keys and values. */
static void store_row(void *arg, uint32_t i)
{
	struct cpu *c = arg;
	const struct og_hparams *hp = &c->model->hp;
	const struct og_layer *l = &c->model->layers[c->layer];
	const struct og_row *row = &c->rows[i];
	uint32_t n = hp->head_dim, page = pages_of(c, row)[row->pos / OG_KV_PAGE_TOKENS];
	size_t at = (size_t)(row->pos % OG_KV_PAGE_TOKENS) * n;

	for (uint32_t h = 0; h < hp->nb_heads; h++)
		prepare_head(c, c->q + ((size_t)i * hp->nb_heads + h) * n, l->q_norm, i);
	for (uint32_t h = 0; h < hp->nb_kv_heads; h++) {
		float *key = c->key + ((size_t)i * hp->nb_kv_heads + h) * n;
		const float *value = c->value + ((size_t)i * hp->nb_kv_heads + h) * n;

		prepare_head(c, key, l->k_norm, i);
		c->k->to_f16(og_kv_keys(&c->kv, page, c->layer, h) + at, key, n);
		c->k->to_f16(og_kv_values(&c->kv, page, c->layer, h) + at, value, n);
	}
}

/* score[t] = q * key t over up to ATTENTION_PAGES pages, those before `skip` out of sight */
static void score_pages(const struct cpu *c, float *score, const float *q, const uint32_t *pages,
	uint32_t kv_head, uint32_t count, uint32_t skip)
{
	uint32_t n = c->model->hp.head_dim;
	float scale = c->model->hp.attn_scale, cap = c->model->hp.attn_cap;

	for (uint32_t t = 0; t < count; t += OG_KV_PAGE_TOKENS)
		c->k->scores(score + t, q,
			og_kv_keys(&c->kv, pages[t / OG_KV_PAGE_TOKENS], c->layer, kv_head),
			OG_MIN(count - t, (uint32_t)OG_KV_PAGE_TOKENS), n, scale);
	for (uint32_t t = 0; cap > 0 && t < count; t++)
		score[t] = cap * tanhf(score[t] / cap);
	for (uint32_t t = 0; t < skip; t++)
		score[t] = -INFINITY;
}

/* part = sum of score[t] * value t over the same pages */
static void mix_pages(const struct cpu *c, float *part, const float *score, const uint32_t *pages,
	uint32_t kv_head, uint32_t count)
{
	uint32_t n = c->model->hp.head_dim;

	memset(part, 0, n * sizeof(float));
	for (uint32_t t = 0; t < count; t += OG_KV_PAGE_TOKENS)
		c->k->mix(part, score + t,
			og_kv_values(&c->kv, pages[t / OG_KV_PAGE_TOKENS], c->layer, kv_head),
			OG_MIN(count - t, (uint32_t)OG_KV_PAGE_TOKENS), n);
}

/*
 * One query over positions from … count-1, by blocks of fixed size with a running maximum, so that no
 * scratch grows with the context and the order of sums depends on the positions alone.
 */
static void attend(const struct cpu *c, float *out, const float *q, const uint32_t *pages,
	uint32_t kv_head, uint32_t from, uint32_t count)
{
	uint32_t n = c->model->hp.head_dim, skip = from % OG_KV_PAGE_TOKENS;
	float max = -INFINITY, total = 0;
	float score[ATTENTION_BLOCK], part[OG_MODEL_HEAD_DIM_MAX];

	memset(out, 0, n * sizeof(float));
	pages += from / OG_KV_PAGE_TOKENS;
	for (uint32_t t = from - skip; t < count; t += ATTENTION_BLOCK, pages += ATTENTION_PAGES) {
		uint32_t block = OG_MIN(count - t, (uint32_t)ATTENTION_BLOCK);
		float new_max = max, keep;

		score_pages(c, score, q, pages, kv_head, block, skip);
		for (uint32_t j = 0; j < block; j++)
			new_max = OG_MAX(new_max, score[j]);
		keep = expf(max - new_max);
		/* Of what is out of sight e^-87 remains, less than rounding loses. */
		total = total * keep + c->k->exp_sum(score, block, new_max);
		mix_pages(c, part, score, pages, kv_head, block);
		for (uint32_t j = 0; j < n; j++)
			out[j] = out[j] * keep + part[j];
		max = new_max;
		skip = 0;
	}
	for (uint32_t j = 0; j < n; j++)
		out[j] /= total;
}

/* One row and one key-value head: all query heads that share it. */
static void attend_item(void *arg, uint32_t item)
{
	struct cpu *c = arg;
	const struct og_hparams *hp = &c->model->hp;
	uint32_t i = item / hp->nb_kv_heads, kv_head = item % hp->nb_kv_heads;
	uint32_t group = hp->nb_heads / hp->nb_kv_heads;
	const struct og_row *row = &c->rows[i];

	for (uint32_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
		const float *q = c->q + ((size_t)i * hp->nb_heads + h) * hp->head_dim;

		attend(c, act_row(c, i) + (size_t)h * hp->head_dim, q, pages_of(c, row), kv_head,
			og_window_start(hp, c->layer, row->pos), row->pos + 1);
	}
}

static void quantize_item(void *arg, uint32_t i)
{
	quantize_row(arg, i);
}

static void gate_row(void *arg, uint32_t i)
{
	struct cpu *c = arg;
	uint32_t n = c->model->hp.ff_width;
	float *gate = c->gate + (size_t)i * n;

	if (c->model->hp.activation == OG_ACT_GELU_TANH)
		c->k->geglu(gate, c->up + (size_t)i * n, n);
	else
		c->k->swiglu(gate, c->up + (size_t)i * n, n);
	memcpy(act_row(c, i), gate, n * sizeof(float));
	quantize_row(c, i);
}

/* `before`: the layer whose feed-forward output is still in delta, or NULL. */
static void attention_block(struct cpu *c, const struct og_layer *l, const struct og_layer *before)
{
	const struct og_hparams *hp = &c->model->hp;

	norm_rows(c, l->attn_norm, before ? before->ffn_post_norm : NULL, before != NULL,
		wants_integers(&l->q) || wants_integers(&l->k) || wants_integers(&l->v));
	add_part(c, &l->q, c->q, l->q_bias);
	add_part(c, &l->k, c->key, l->k_bias);
	add_part(c, &l->v, c->value, l->v_bias);
	multiply_parts(c);
	og_pool_run(c->pool, store_row, c, c->nb_rows);
	begin_activations(c, hp->nb_heads * hp->head_dim, wants_integers(&l->o));
	og_pool_run(c->pool, attend_item, c, c->nb_rows * hp->nb_kv_heads);
	og_pool_run(c->pool, quantize_item, c, c->nb_rows);
	add_part(c, &l->o, c->delta, l->o_bias);
	multiply_parts(c);
}

static void ff_block(struct cpu *c, const struct og_layer *l)
{
	norm_rows(c, l->ffn_norm, l->attn_post_norm, true,
		wants_integers(&l->gate) || wants_integers(&l->up));
	add_part(c, &l->gate, c->gate, NULL);
	add_part(c, &l->up, c->up, NULL);
	multiply_parts(c);
	begin_activations(c, c->model->hp.ff_width, wants_integers(&l->down));
	og_pool_run(c->pool, gate_row, c, c->nb_rows);
	add_part(c, &l->down, c->delta, NULL);
	multiply_parts(c);
}

static bool is_wanted(const struct og_row *row)
{
	return row->wants_logits || row->draw;
}

/* Move the rows that want logits or a token to the front. Returns how many they are. */
static uint32_t gather_wanted(struct cpu *c)
{
	size_t row_bytes = c->model->hp.width * sizeof(float);
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->nb_rows; i++) {
		if (!is_wanted(&c->rows[i]))
			continue;
		if (n != i) {
			memcpy(c->x + n * c->model->hp.width, c->x + i * c->model->hp.width,
				row_bytes);
			memcpy(c->delta + n * c->model->hp.width, c->delta + i * c->model->hp.width,
				row_bytes);
		}
		n++;
	}
	return n;
}

static void cap_row(void *arg, uint32_t i)
{
	struct cpu *c = arg;
	float cap = c->model->hp.logit_cap, *logits = c->logits + (size_t)i * c->model->hp.vocab;

	for (uint32_t j = 0; j < c->model->hp.vocab; j++)
		logits[j] = cap * tanhf(logits[j] / cap);
}

static int output_block(struct cpu *c, float *logits)
{
	const struct og_model *m = c->model;
	int ret = og_model_wait(m, m->hp.nb_layers + 1);

	if (ret < 0)
		return ret;
	norm_rows(c, m->output_norm, m->layers[m->hp.nb_layers - 1].ffn_post_norm, true,
		wants_integers(&m->output));
	add_part(c, &m->output, logits, NULL);
	multiply_parts(c);
	c->logits = logits;
	if (m->hp.logit_cap > 0)
		og_pool_run(c->pool, cap_row, c, c->nb_rows);
	return 0;
}

static void draw_tokens(struct cpu *c, const struct og_batch *batch)
{
	uint32_t vocab = c->model->hp.vocab, at = 0;

	for (uint32_t i = 0; i < batch->nb_rows; i++) {
		const struct og_row *row = &batch->rows[i];
		uint32_t id;

		if (!is_wanted(row))
			continue;
		if (row->draw && og_sampler_draw(&id, row->draw, batch->logits + (size_t)at * vocab,
					 vocab, c->sampler_scratch) == 0)
			batch->tokens[at] = c->drawn[row->slot] = id;
		else if (row->draw)
			batch->tokens[at] = OG_TOKEN_NONE;
		at++;
	}
}

static int check_slots(const struct cpu *c, const struct og_batch *batch)
{
	for (uint32_t i = 0; i < batch->nb_rows; i++) {
		const struct og_row *row = &batch->rows[i];

		if ((row->draw || row->token == OG_TOKEN_DRAWN) && row->slot >= c->rows_max)
			return -ERANGE;
	}
	return 0;
}

/* All of it before this returns. */
static int cpu_submit(struct og_backend *b, const struct og_batch *batch)
{
	struct cpu *c = OG_CONTAINER_OF(b, struct cpu, base);
	const struct og_model *m = c->model;
	int ret = check_slots(c, batch);

	if (ret < 0)
		return ret;

	c->rows = batch->rows;
	c->nb_rows = batch->nb_rows;
	c->tables = batch->tables;
	c->table_pages = batch->table_pages;
	og_pool_run(c->pool, embed_row, c, c->nb_rows);
	for (c->layer = 0; c->layer < m->hp.nb_layers; c->layer++) {
		const struct og_layer *l = &m->layers[c->layer];

		/* Its weights may still be on their way from the disk. */
		ret = og_model_wait(m, 1 + c->layer);
		if (ret < 0)
			return ret;
		attention_block(c, l, c->layer > 0 ? l - 1 : NULL);
		ff_block(c, l);
	}
	c->nb_rows = gather_wanted(c);
	if (c->nb_rows > 0)
		ret = output_block(c, batch->logits);
	if (ret == 0)
		draw_tokens(c, batch);
	return ret;
}

static int cpu_collect(struct og_backend *b)
{
	(void)b;
	return 0;
}

static int cpu_save_page(struct og_backend *b, uint32_t page, void *out)
{
	const struct cpu *c = OG_CONTAINER_OF(b, struct cpu, base);

	memcpy(out, og_kv_keys(&c->kv, page, 0, 0), c->kv.page_values * sizeof(uint16_t));
	return 0;
}

static int cpu_load_page(struct og_backend *b, uint32_t page, const void *bytes)
{
	struct cpu *c = OG_CONTAINER_OF(b, struct cpu, base);

	memcpy(og_kv_keys(&c->kv, page, 0, 0), bytes, c->kv.page_values * sizeof(uint16_t));
	return 0;
}

static void cpu_destroy(struct og_backend *b)
{
	struct cpu *c = OG_CONTAINER_OF(b, struct cpu, base);

	if (c->pool)
		og_pool_destroy(c->pool);
	og_kv_cache_fini(&c->kv);
	free(c->scratch);
	free(c->act_q);
	free(c->act_total);
	free(c->drawn);
	free(c->sampler_scratch);
	free(c);
}

static const struct og_backend_ops cpu_ops = {
	.name = "cpu",
	.submit = cpu_submit,
	.collect = cpu_collect,
	.save_page = cpu_save_page,
	.load_page = cpu_load_page,
	.destroy = cpu_destroy,
};

/* Hands out arrays of one block; without a block it only counts. */
struct carver {
	float *base;
	size_t used;
};

static float *carve(struct carver *at, size_t count)
{
	float *p = at->base ? at->base + at->used : NULL;

	at->used += (count + 15) / 16 * 16; /* each array starts on a cache line */
	return p;
}

static size_t act_width(const struct og_hparams *hp)
{
	uint32_t q_width = hp->nb_heads * hp->head_dim;

	return OG_MAX(OG_MAX(hp->width, q_width), hp->ff_width);
}

/* Lay the arrays out in `block`; returns how many floats they take. */
static size_t carve_all(struct cpu *c, size_t rows, float *block)
{
	const struct og_hparams *hp = &c->model->hp;
	size_t half = hp->rope_dims / 2, q_width = (size_t)hp->nb_heads * hp->head_dim;
	size_t kv_width = (size_t)hp->nb_kv_heads * hp->head_dim;
	struct carver at = {block, 0};

	for (int r = 0; r < 2; r++) {
		c->rope_freqs[r] = carve(&at, half);
		c->rope_cos[r] = carve(&at, rows * half);
		c->rope_sin[r] = carve(&at, rows * half);
	}
	c->x = carve(&at, rows * hp->width);
	c->delta = carve(&at, rows * hp->width);
	c->q = carve(&at, rows * q_width);
	c->key = carve(&at, rows * kv_width);
	c->value = carve(&at, rows * kv_width);
	c->gate = carve(&at, rows * hp->ff_width);
	c->up = carve(&at, rows * hp->ff_width);
	c->act_x = carve(&at, rows * (act_width(hp) + STRIDE_SPARE));
	c->act_scale = carve(&at, rows * act_width(hp) / OG_ACT_BLOCK + 1);
	return at.used;
}

static int make_scratch(struct cpu *c, size_t rows)
{
	const struct og_hparams *hp = &c->model->hp;
	size_t values = rows * (act_width(hp) + STRIDE_SPARE);

	c->scratch = aligned_alloc(64, carve_all(c, rows, NULL) * sizeof(float));
	c->act_q = aligned_alloc(64, (values * sizeof(int16_t) + 63) / 64 * 64);
	c->act_total = calloc(values / OG_ACT_BLOCK + 1, sizeof(int32_t));
	c->drawn = calloc(rows, sizeof(*c->drawn));
	c->rows_max = (uint32_t)rows;
	c->sampler_scratch = malloc(hp->vocab * sizeof(*c->sampler_scratch));
	if (!c->scratch || !c->act_q || !c->act_total || !c->drawn || !c->sampler_scratch)
		return -ENOMEM;
	carve_all(c, rows, c->scratch);
	c->act = (struct og_activations){
		.x = c->act_x, .q = c->act_q, .q_scale = c->act_scale, .q_total = c->act_total};
	return 0;
}

int og_cpu_backend_create(
	struct og_backend **out, const struct og_backend_opts *opts, const char *isa)
{
	struct cpu *c;
	int ret;

	if (opts->fp8_weights || opts->fp8_kv)
		return -EOPNOTSUPP;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->base.ops = &cpu_ops;
	c->model = opts->model;
	c->k = og_cpu_kernels_pick(isa);
	ret = c->k ? 0 : -EOPNOTSUPP;
	if (ret == 0)
		ret = make_scratch(c, opts->rows_max);
	if (ret == 0)
		ret = og_model_wait(opts->model, 0); /* some frequencies come with the weights */
	for (int r = 0; r < 2 && ret == 0; r++)
		og_rope_freqs(&opts->model->hp, &opts->model->hp.rope[r], opts->context,
			c->rope_freqs[r]);
	if (ret == 0)
		ret = og_kv_cache_init(&c->kv, &opts->model->hp, opts->nb_pages);
	if (ret == 0)
		ret = og_pool_create(&c->pool, opts->nb_threads);
	if (ret < 0) {
		cpu_destroy(&c->base);
		return ret;
	}
	*out = &c->base;
	return 0;
}

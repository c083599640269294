#include "gpu/ref/forward.h"

#include "gpu/fp8.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

struct ref {
	const struct og_model *m;
	float *keys, *values; /* (layers, positions, kv_heads * head_dim) */
	float *x, *h, *q, *att, *gate, *up, *row, *score;
	uint32_t count;
	bool in_bf16;
	struct og_ref_fp8 fp8;
};

/* What is left of a result. */
static float kept(const struct ref *f, double x)
{
	return f->in_bf16 ? og_bf16_to_f32(og_f32_to_bf16((float)x)) : (float)x;
}

static void round_row(float *row, uint32_t n)
{
	float scale = og_e4m3_row_scale(row, n);

	for (uint32_t i = 0; i < n; i++)
		row[i] = scale == 0 ? 0 : scale * og_e4m3_to_f32(og_f32_to_e4m3(row[i] / scale));
}

/* `head` of n values of a key or a value. */
static void round_head(float *head, uint32_t n)
{
	float scale = og_e4m3_kv_scale(head, n);

	for (uint32_t i = 0; i < n; i++)
		head[i] = scale * og_e4m3_to_f32(og_f32_to_e4m3(head[i] / scale));
}

static void matvec(struct ref *f, float *out, const struct og_weight *w, const float *x)
{
	bool in_fp8 = f->fp8.weights && w != &f->m->output;

	for (uint32_t r = 0; r < w->n_out; r++) {
		double sum = 0;

		og_weight_row(w, r, f->row);
		if (in_fp8)
			round_row(f->row, w->n_in);
		for (uint32_t i = 0; i < w->n_in; i++)
			sum += (double)kept(f, f->row[i]) * x[i];
		out[r] = kept(f, sum);
	}
}

static void add(const struct ref *f, float *x, const float *y, uint32_t n)
{
	for (uint32_t i = 0; y && i < n; i++)
		x[i] = kept(f, x[i] + y[i]);
}

static void rms_norm(const struct ref *f, float *out, const float *x, const float *w, uint32_t n)
{
	double sum = 0, eps = f->m->hp.norm_eps;

	for (uint32_t i = 0; i < n; i++)
		sum += (double)x[i] * x[i];
	for (uint32_t i = 0; i < n; i++)
		out[i] = kept(f, kept(f, x[i] / sqrt(sum / n + eps)) * w[i]);
}

/* The text is all of the context: it decides between a rope's two sets of factors. */
static void rope(const struct ref *f, uint32_t layer, float *head, uint32_t pos)
{
	const struct og_model *m = f->m;
	const struct og_rope *r = &m->hp.rope[m->hp.windowed[layer]];
	const float *factors =
		r->has_long && f->count > m->hp.original_context ? r->long_factors : r->factors;
	uint32_t half = m->hp.rope_dims / 2;

	for (uint32_t j = 0; j < half; j++) {
		uint32_t a = m->hp.rope_halves ? j : 2 * j;
		uint32_t b = m->hp.rope_halves ? j + half : 2 * j + 1;
		double angle = pos * pow(r->base, -2.0 * j / m->hp.rope_dims) / factors[j];
		float x = head[a], y = head[b];

		double c = r->magnitude * cos(angle), s = r->magnitude * sin(angle);

		head[a] = kept(f, x * c - y * s);
		head[b] = kept(f, x * s + y * c);
	}
}

static double capped(double x, double cap)
{
	return cap > 0 ? cap * tanh(x / cap) : x;
}

/* One head over positions from … pos. */
static void attend(struct ref *f, float *out, const float *q, const float *keys,
	const float *values, uint32_t from, uint32_t pos)
{
	const struct og_hparams *hp = &f->m->hp;
	uint32_t n = hp->head_dim, stride = hp->nb_kv_heads * n;
	double max = -INFINITY, total = 0;

	for (uint32_t t = from; t <= pos; t++) {
		double sum = 0;

		for (uint32_t i = 0; i < n; i++)
			sum += (double)q[i] * keys[(size_t)t * stride + i];
		f->score[t] = kept(f, capped(kept(f, sum * hp->attn_scale), hp->attn_cap));
		max = fmax(max, f->score[t]);
	}
	for (uint32_t t = from; t <= pos; t++) {
		f->score[t] = (float)exp(f->score[t] - max);
		total += f->score[t];
	}
	for (uint32_t i = 0; i < n; i++) {
		double sum = 0;

		for (uint32_t t = from; t <= pos; t++)
			sum += kept(f, f->score[t] / total) *
			       (double)values[(size_t)t * stride + i];
		out[i] = kept(f, sum);
	}
}

/* A head's own norm, if the model has one, and its rotation. */
static void prepare_head(
	const struct ref *f, uint32_t layer, float *head, const float *norm, uint32_t pos)
{
	if (norm)
		rms_norm(f, head, head, norm, f->m->hp.head_dim);
	rope(f, layer, head, pos);
}

/* x += what a block gives, after its norm, if it has one. */
static void add_block(struct ref *f, const float *post_norm)
{
	const struct og_hparams *hp = &f->m->hp;

	if (post_norm)
		rms_norm(f, f->h, f->h, post_norm, hp->width);
	add(f, f->x, f->h, hp->width);
}

static void attention(struct ref *f, uint32_t layer, uint32_t pos)
{
	const struct og_hparams *hp = &f->m->hp;
	const struct og_layer *l = &f->m->layers[layer];
	uint32_t n = hp->head_dim, kv_width = hp->nb_kv_heads * n, from = 0;
	float *keys = f->keys + (size_t)layer * f->count * kv_width;
	float *values = f->values + (size_t)layer * f->count * kv_width;
	float *key = keys + (size_t)pos * kv_width, *value = values + (size_t)pos * kv_width;

	rms_norm(f, f->h, f->x, l->attn_norm, hp->width);
	matvec(f, f->q, &l->q, f->h);
	matvec(f, key, &l->k, f->h);
	matvec(f, value, &l->v, f->h);
	add(f, f->q, l->q_bias, hp->nb_heads * n);
	add(f, key, l->k_bias, kv_width);
	add(f, value, l->v_bias, kv_width);
	for (uint32_t h = 0; h < hp->nb_heads; h++)
		prepare_head(f, layer, f->q + h * n, l->q_norm, pos);
	for (uint32_t h = 0; h < hp->nb_kv_heads; h++)
		prepare_head(f, layer, key + h * n, l->k_norm, pos);
	for (uint32_t h = 0; f->fp8.kv && h < hp->nb_kv_heads; h++) {
		round_head(key + h * n, n);
		round_head(value + h * n, n);
	}
	while (hp->windowed[layer] && pos - from >= hp->window)
		from++;
	for (uint32_t h = 0; h < hp->nb_heads; h++) {
		uint32_t at = h / (hp->nb_heads / hp->nb_kv_heads) * n;

		attend(f, f->att + h * n, f->q + h * n, keys + at, values + at, from, pos);
	}
	matvec(f, f->h, &l->o, f->att);
	add(f, f->h, l->o_bias, hp->width);
	add_block(f, l->attn_post_norm);
}

static float activate(enum og_activation activation, float x)
{
	if (activation == OG_ACT_SILU)
		return x / (1.0f + expf(-x));
	return 0.5f * x * (1.0f + tanhf(sqrtf(2 / (float)M_PI) * (x + 0.044715f * x * x * x)));
}

static void feed_forward(struct ref *f, uint32_t layer)
{
	const struct og_hparams *hp = &f->m->hp;
	const struct og_layer *l = &f->m->layers[layer];

	rms_norm(f, f->h, f->x, l->ffn_norm, hp->width);
	matvec(f, f->gate, &l->gate, f->h);
	matvec(f, f->up, &l->up, f->h);
	for (uint32_t i = 0; i < hp->ff_width; i++)
		f->gate[i] = kept(f, kept(f, activate(hp->activation, f->gate[i])) * f->up[i]);
	matvec(f, f->h, &l->down, f->gate);
	add_block(f, l->ffn_post_norm);
}

static void keep(const struct ref *f, float *stream, uint32_t layer, uint32_t pos)
{
	uint32_t n = f->m->hp.width;

	if (stream)
		memcpy(stream + ((size_t)layer * f->count + pos) * n, f->x, n * sizeof(float));
}

static int compute(const struct og_model *m, const uint32_t *tokens, uint32_t count, float *logits,
	float *stream, bool in_bf16, struct og_ref_fp8 fp8)
{
	const struct og_hparams *hp = &m->hp;
	size_t q_width = (size_t)hp->nb_heads * hp->head_dim;
	size_t cache = (size_t)hp->nb_layers * count * hp->nb_kv_heads * hp->head_dim;
	size_t row = OG_MAX(OG_MAX(hp->width, q_width), hp->ff_width);
	float *block = calloc(2 * cache + 2 * (size_t)hp->width + 2 * q_width +
				      2 * (size_t)hp->ff_width + row + count,
		sizeof(float));
	struct ref f = {.m = m, .count = count, .in_bf16 = in_bf16, .fp8 = fp8};

	if (!block)
		return -ENOMEM;
	f.keys = block;
	f.values = f.keys + cache;
	f.x = f.values + cache;
	f.h = f.x + hp->width;
	f.q = f.h + hp->width;
	f.att = f.q + q_width;
	f.gate = f.att + q_width;
	f.up = f.gate + hp->ff_width;
	f.row = f.up + hp->ff_width;
	f.score = f.row + row;
	for (uint32_t pos = 0; pos < count; pos++) {
		og_weight_row(&m->embedding, tokens[pos], f.x);
		for (uint32_t i = 0; i < hp->width; i++)
			f.x[i] = kept(&f, f.x[i] * hp->embed_scale);
		keep(&f, stream, 0, pos);
		for (uint32_t layer = 0; layer < hp->nb_layers; layer++) {
			attention(&f, layer, pos);
			feed_forward(&f, layer);
			keep(&f, stream, layer + 1, pos);
		}
		rms_norm(&f, f.h, f.x, m->output_norm, hp->width);
		matvec(&f, logits + (size_t)pos * hp->vocab, &m->output, f.h);
		for (size_t i = pos * (size_t)hp->vocab; i < (pos + (size_t)1) * hp->vocab; i++)
			logits[i] = kept(&f, capped(logits[i], hp->logit_cap));
	}
	free(block);
	return 0;
}

int og_ref_forward(const struct og_model *m, const uint32_t *tokens, uint32_t count, float *logits)
{
	return compute(m, tokens, count, logits, NULL, false, (struct og_ref_fp8){0});
}

int og_ref_forward_bf16(
	const struct og_model *m, const uint32_t *tokens, uint32_t count, float *logits)
{
	return compute(m, tokens, count, logits, NULL, true, (struct og_ref_fp8){0});
}

int og_ref_forward_fp8(const struct og_model *m, const uint32_t *tokens, uint32_t count,
	float *logits, struct og_ref_fp8 fp8)
{
	return compute(m, tokens, count, logits, NULL, false, fp8);
}

int og_ref_forward_layers(const struct og_model *m, const uint32_t *tokens, uint32_t count,
	float *logits, float *stream)
{
	return compute(m, tokens, count, logits, stream, false, (struct og_ref_fp8){0});
}

#include "gpu/cuda/upload.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	ALIGN = 256,
	ROW_THREADS = 256,
};

/* Hands out views of the arena; without a base it only counts. */
struct carver {
	CUdeviceptr base;
	uint64_t used;
};

static CUdeviceptr carve(struct carver *c, uint64_t bytes)
{
	CUdeviceptr p = c->base + c->used;

	c->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
	return c->base ? p : 0;
}

static void carve_matrix(struct carver *c, struct og_cuda_matrix *m, uint32_t n_in, uint32_t n_out,
	uint32_t rows, bool in_fp8)
{
	m->kp = og_cuda_pad(n_in, OG_CUDA_K_STEP);
	m->n_out = n_out;
	m->rows = og_cuda_pad(rows, OG_CUDA_ROW_PAD);
	m->data = carve(c, (in_fp8 ? 1ull : 2ull) * m->kp * m->rows);
	m->scales = in_fp8 ? carve(c, sizeof(float) * m->rows) : 0;
}

static uint32_t qkv_rows(const struct og_hparams *hp)
{
	return (hp->nb_heads + 2 * hp->nb_kv_heads) * hp->head_dim;
}

static CUdeviceptr carve_floats(struct carver *c, uint32_t n, bool is_there)
{
	return is_there ? carve(c, sizeof(float) * n) : 0;
}

static void carve_layer(struct carver *c, struct og_cuda_layer *l, const struct og_hparams *hp,
	const struct og_layer *from, bool in_fp8)
{
	uint32_t q = hp->nb_heads * hp->head_dim;

	l->attn_norm = carve_floats(c, hp->width, true);
	l->ffn_norm = carve_floats(c, hp->width, true);
	l->qkv_bias = carve_floats(c, qkv_rows(hp), from->q_bias || from->k_bias || from->v_bias);
	l->o_bias = carve_floats(c, hp->width, from->o_bias != NULL);
	l->q_norm = carve_floats(c, hp->head_dim, hp->qk_norm);
	l->k_norm = carve_floats(c, hp->head_dim, hp->qk_norm);
	l->attn_post_norm = carve_floats(c, hp->width, hp->post_norms);
	l->ffn_post_norm = carve_floats(c, hp->width, hp->post_norms);
	carve_matrix(c, &l->qkv, hp->width, qkv_rows(hp), qkv_rows(hp), in_fp8);
	carve_matrix(c, &l->o, q, hp->width, hp->width, in_fp8);
	carve_matrix(c, &l->gate_up, hp->width, hp->ff_width,
		2 * og_cuda_pad(hp->ff_width, OG_CUDA_GATE_ROWS), in_fp8);
	carve_matrix(c, &l->down, hp->ff_width, hp->width, hp->width, in_fp8);
}

/* Lay everything out; returns the bytes. */
static uint64_t carve_all(struct og_cuda_weights *w, const struct og_model *m, CUdeviceptr base)
{
	struct carver c = {base, 0};
	const struct og_hparams *hp = &m->hp;

	carve_matrix(&c, &w->embedding, hp->width, hp->vocab, hp->vocab, false);
	if (m->output.data == m->embedding.data)
		w->output = w->embedding;
	else
		carve_matrix(&c, &w->output, hp->width, hp->vocab, hp->vocab, false);
	w->output_norm = carve(&c, sizeof(float) * hp->width);
	for (uint32_t i = 0; i < hp->nb_layers; i++) {
		struct og_cuda_layer unseen;

		carve_layer(&c, w->layers ? &w->layers[i] : &unseen, hp, &m->layers[i], w->in_fp8);
	}
	return c.used;
}

uint64_t og_cuda_weights_bytes(const struct og_model *m, bool in_fp8)
{
	struct og_cuda_weights w = {.in_fp8 = in_fp8};

	/* At most 512 layers of matrices below 2^20 times 2^20: no overflow. */
	return carve_all(&w, m, 0);
}

/* The arena, all zero, and the views of it. */
static int make_arena(struct og_cuda_weights *w, struct og_cuda_device *d, const struct og_model *m)
{
	int ret;

	w->layers = calloc(m->hp.nb_layers, sizeof(*w->layers));
	if (!w->layers)
		return -ENOMEM;
	w->arena_bytes = og_cuda_weights_bytes(m, w->in_fp8);
	ret = og_cuda_alloc(d, &w->arena, w->arena_bytes);
	if (ret < 0)
		return ret;
	carve_all(w, m, w->arena);
	ret = og_cuda_check_work(d, d->cu.cuMemsetD8Async(w->arena, 0, w->arena_bytes, d->stream),
		"cuMemsetD8Async");
	return ret == 0 ? og_cuda_wait(d, d->stream) : ret;
}

int og_cuda_weights_upload(
	struct og_cuda_weights *w, struct og_cuda_device *d, const struct og_model *m)
{
	int ret = make_arena(w, d, m);

	return ret == 0 ? og_cuda_upload(w, d, m) : ret;
}

/* Scaled so that sums of n_in products stay near 1. */
static int randomise(struct og_cuda_device *d, const struct og_cuda_matrix *m, uint32_t seed)
{
	CUdeviceptr out = m->data, scales = m->scales;
	uint64_t n = (uint64_t)m->kp * m->rows;
	uint32_t kp = m->kp;
	float scale = sqrtf(3.0f / (float)m->kp);
	void *args[] = {&out, &n, &seed, &scale};
	void *args_fp8[] = {&out, &scales, &n, &kp, &seed, &scale};

	return og_cuda_launch(d, d->stream, scales ? OG_K_random_e4m3 : OG_K_random_bf16,
		(struct og_cuda_grid){(uint32_t)d->nb_processors * 8, 1, 1, ROW_THREADS, 0},
		scales ? args_fp8 : args);
}

int og_cuda_weights_random(
	struct og_cuda_weights *w, struct og_cuda_device *d, const struct og_model *m)
{
	uint32_t seed = 1, nb_ones = OG_MAX(m->hp.width, m->hp.head_dim);
	float *ones = malloc(nb_ones * sizeof(*ones));
	struct og_cuda_ring ring;
	int ret = og_cuda_ring_init(&ring, d, nb_ones * sizeof(*ones));

	if (ret == 0)
		ret = ones ? make_arena(w, d, m) : -ENOMEM;
	for (uint32_t i = 0; ones && i < nb_ones; i++)
		ones[i] = 1;
	if (ret == 0)
		ret = randomise(d, &w->embedding, seed++);
	if (ret == 0 && w->output.data != w->embedding.data)
		ret = randomise(d, &w->output, seed++);
	if (ret == 0)
		ret = og_cuda_ring_put_floats(&ring, w->output_norm, ones, m->hp.width);
	for (uint32_t i = 0; i < m->hp.nb_layers && ret == 0; i++) {
		const struct og_cuda_layer *l = &w->layers[i];
		const struct og_cuda_matrix *all[] = {&l->qkv, &l->o, &l->gate_up, &l->down};
		const struct {
			CUdeviceptr to;
			uint32_t n;
		} norms[] = {{l->attn_norm, m->hp.width}, {l->ffn_norm, m->hp.width},
			{l->q_norm, m->hp.head_dim}, {l->k_norm, m->hp.head_dim},
			{l->attn_post_norm, m->hp.width}, {l->ffn_post_norm, m->hp.width}};

		for (size_t k = 0; k < OG_ARRAY_LEN(all) && ret == 0; k++)
			ret = randomise(d, all[k], seed++);
		for (size_t k = 0; k < OG_ARRAY_LEN(norms) && ret == 0; k++)
			if (norms[k].to)
				ret = og_cuda_ring_put_floats(&ring, norms[k].to, ones, norms[k].n);
	}
	if (ret == 0)
		ret = og_cuda_ring_wait(&ring);
	if (ret == 0)
		ret = og_cuda_wait(d, d->stream);
	og_cuda_ring_fini(&ring);
	free(ones);
	return ret;
}

void og_cuda_weights_fini(struct og_cuda_weights *w, struct og_cuda_device *d)
{
	og_cuda_free(d, w->arena);
	free(w->layers);
	*w = (struct og_cuda_weights){0};
}

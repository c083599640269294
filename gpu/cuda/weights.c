#include "gpu/cuda/weights.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	CHUNK_BYTES = 16 * 1024 * 1024, /* less where no matrix has as much */
	RING = 4,
	ALIGN = 256,
	ROW_THREADS = 256,
};

static_assert((int)OG_CUDA_F32 == OG_F32 && (int)OG_CUDA_F16 == OG_F16 &&
		      (int)OG_CUDA_Q8_0 == OG_Q8_0 && (int)OG_CUDA_BF16 == OG_BF16,
	"the kernels number types as the files do");

/* One buffer of the ring, and the device's copy of it. */
struct slot {
	void *host;
	CUdeviceptr device;
	CUevent done;
	CUstream stream;
};

struct upload {
	struct og_cuda_device *d;
	struct slot slots[RING];
	uint32_t next;
	size_t chunk_bytes;
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

static void carve_matrix(
	struct carver *c, struct og_cuda_matrix *m, uint32_t n_in, uint32_t n_out, uint32_t rows)
{
	m->kp = og_cuda_pad(n_in, OG_CUDA_K_STEP);
	m->n_out = n_out;
	m->rows = og_cuda_pad(rows, OG_CUDA_ROW_PAD);
	m->data = carve(c, 2ull * m->kp * m->rows);
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
	const struct og_layer *from)
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
	carve_matrix(c, &l->qkv, hp->width, qkv_rows(hp), qkv_rows(hp));
	carve_matrix(c, &l->o, q, hp->width, hp->width);
	carve_matrix(c, &l->gate_up, hp->width, hp->ff_width,
		2 * og_cuda_pad(hp->ff_width, OG_CUDA_GATE_ROWS));
	carve_matrix(c, &l->down, hp->ff_width, hp->width, hp->width);
}

/* Lay everything out; returns the bytes. */
static uint64_t carve_all(struct og_cuda_weights *w, const struct og_model *m, CUdeviceptr base)
{
	struct carver c = {base, 0};
	const struct og_hparams *hp = &m->hp;

	carve_matrix(&c, &w->embedding, hp->width, hp->vocab, hp->vocab);
	if (m->output.data == m->embedding.data)
		w->output = w->embedding;
	else
		carve_matrix(&c, &w->output, hp->width, hp->vocab, hp->vocab);
	w->output_norm = carve(&c, sizeof(float) * hp->width);
	for (uint32_t i = 0; i < hp->nb_layers; i++) {
		struct og_cuda_layer unseen;

		carve_layer(&c, w->layers ? &w->layers[i] : &unseen, hp, &m->layers[i]);
	}
	return c.used;
}

uint64_t og_cuda_weights_bytes(const struct og_model *m)
{
	struct og_cuda_weights w = {0};

	/* At most 512 layers of matrices below 2^20 times 2^20: no overflow. */
	return carve_all(&w, m, 0);
}

/* The largest matrix decides, if it is small; vectors are no longer than a row of some matrix. */
static size_t choose_chunk(const struct og_model *m)
{
	const struct og_layer *l = m->layers;
	const struct og_weight *all[] = {&m->embedding, &m->output, &l->q, &l->gate, &l->down};
	uint64_t bytes = 4ull * OG_MODEL_WIDTH_MAX;

	for (size_t i = 0; i < OG_ARRAY_LEN(all); i++)
		bytes = OG_MAX(bytes, (uint64_t)all[i]->row_bytes * all[i]->n_out);
	bytes = OG_MAX(bytes, 4ull * m->hp.ff_width); /* a row that the host makes plain */
	bytes = OG_MAX(bytes, 4ull * m->hp.nb_heads * m->hp.head_dim);
	return (size_t)OG_MIN(bytes, (uint64_t)CHUNK_BYTES);
}

static int start_upload(struct upload *u)
{
	struct og_cuda_device *d = u->d;
	int ret = 0;

	for (int i = 0; i < RING && ret == 0; i++) {
		struct slot *s = &u->slots[i];

		ret = og_cuda_alloc_host(d, &s->host, u->chunk_bytes);
		if (ret == 0)
			ret = og_cuda_alloc(d, &s->device, u->chunk_bytes);
		if (ret == 0)
			ret = og_cuda_check(d,
				d->cu.cuEventCreate(&s->done, CU_EVENT_DISABLE_TIMING),
				"cuEventCreate");
		if (ret == 0)
			ret = og_cuda_check(d,
				d->cu.cuStreamCreate(&s->stream, CU_STREAM_NON_BLOCKING),
				"cuStreamCreate");
		if (ret == 0) /* so that the first wait for it ends at once */
			ret = og_cuda_check(
				d, d->cu.cuEventRecord(s->done, s->stream), "cuEventRecord");
	}
	return ret;
}

static void end_upload(struct upload *u)
{
	struct og_cuda_device *d = u->d;

	for (int i = 0; i < RING && !d->is_stuck; i++) {
		struct slot *s = &u->slots[i];

		if (s->stream)
			(void)d->cu.cuStreamDestroy(s->stream);
		if (s->done)
			(void)d->cu.cuEventDestroy(s->done);
		og_cuda_free(d, s->device);
		og_cuda_free_host(d, s->host);
	}
}

/* The next buffer of the ring, once the device has done with what was in it. */
static int take_slot(struct upload *u, struct slot **out)
{
	struct slot *s = &u->slots[u->next++ % RING];
	int ret = og_cuda_wait_event(u->d, s->done, NULL);

	*out = s;
	return ret;
}

static int send(struct upload *u, struct slot *s, CUdeviceptr to, size_t bytes)
{
	return og_cuda_check_work(u->d, u->d->cu.cuMemcpyHtoDAsync(to, s->host, bytes, s->stream),
		"cuMemcpyHtoDAsync");
}

/* Types that the device does not know become f32 on the way. */
static bool is_plain_type(enum og_dtype type)
{
	return type <= OG_BF16;
}

static void copy_rows(void *to, const struct og_weight *w, uint32_t first, uint32_t count)
{
	const uint8_t *from = w->data + first * w->row_bytes;

	if (is_plain_type(w->type)) {
		memcpy(to, from, count * w->row_bytes);
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		og_dequantize(w->type, from + i * w->row_bytes, w->n_in,
			(float *)to + (size_t)i * w->n_in);
}

static int mark_done(struct upload *u, struct slot *s)
{
	return og_cuda_check_work(
		u->d, u->d->cu.cuEventRecord(s->done, s->stream), "cuEventRecord");
}

static int put_floats(struct upload *u, CUdeviceptr to, const float *from, uint32_t n)
{
	struct slot *s;
	int ret = take_slot(u, &s);

	if (ret == 0 && from) {
		memcpy(s->host, from, n * sizeof(float));
		ret = send(u, s, to, n * sizeof(float));
	}
	return ret == 0 ? mark_done(u, s) : ret;
}

/*
 * Rows of `w` to rows offset … of `m`; with `turn`, in turns of so many rows with another matrix.
 * Padding stays zero.
 */
static int put_matrix(struct upload *u, const struct og_cuda_matrix *m, const struct og_weight *w,
	uint32_t offset, uint32_t turn)
{
	bool is_plain = is_plain_type(w->type);
	uint32_t row_bytes = is_plain ? (uint32_t)w->row_bytes : 4 * w->n_in;
	uint32_t per_chunk = (uint32_t)OG_MIN(u->chunk_bytes / row_bytes, w->n_out);
	uint32_t n_in = w->n_in, kp = m->kp;
	int type = is_plain ? (int)w->type : OG_CUDA_F32, ret = per_chunk > 0 ? 0 : -E2BIG;

	for (uint32_t first = 0; first < w->n_out && ret == 0; first += per_chunk) {
		uint32_t count = OG_MIN(per_chunk, w->n_out - first);
		CUdeviceptr out = m->data;
		struct slot *s;

		ret = take_slot(u, &s);
		if (ret == 0) {
			copy_rows(s->host, w, first, count);
			ret = send(u, s, s->device, (size_t)count * row_bytes);
		}
		if (ret == 0) {
			void *args[] = {&out, &s->device, &first, &n_in, &kp, &row_bytes, &turn,
				&offset, &type};

			ret = og_cuda_launch(u->d, s->stream, OG_K_convert_rows,
				(struct og_cuda_grid){count, 1, 1, ROW_THREADS, 0}, args);
		}
		if (ret == 0)
			ret = mark_done(u, s);
	}
	return ret;
}

static int put_layer(struct upload *u, const struct og_cuda_layer *to, const struct og_layer *l,
	const struct og_hparams *hp)
{
	uint32_t q = hp->nb_heads * hp->head_dim, kv = hp->nb_kv_heads * hp->head_dim;
	const struct {
		const struct og_cuda_matrix *to;
		const struct og_weight *from;
		uint32_t offset, turn;
	} matrices[] = {
		{&to->qkv, &l->q, 0, 0},
		{&to->qkv, &l->k, q, 0},
		{&to->qkv, &l->v, q + kv, 0},
		{&to->o, &l->o, 0, 0},
		{&to->gate_up, &l->gate, 0, OG_CUDA_GATE_ROWS},
		{&to->gate_up, &l->up, OG_CUDA_GATE_ROWS, OG_CUDA_GATE_ROWS},
		{&to->down, &l->down, 0, 0},
	};
	const struct {
		CUdeviceptr to;
		const float *from;
		uint32_t n;
	} vectors[] = {
		{to->attn_norm, l->attn_norm, hp->width},
		{to->ffn_norm, l->ffn_norm, hp->width},
		{to->o_bias, l->o_bias, hp->width},
		{to->q_norm, l->q_norm, hp->head_dim},
		{to->k_norm, l->k_norm, hp->head_dim},
		{to->attn_post_norm, l->attn_post_norm, hp->width},
		{to->ffn_post_norm, l->ffn_post_norm, hp->width},
		{to->qkv_bias, l->q_bias, q},
		{to->qkv_bias + sizeof(float) * q, l->k_bias, kv},
		{to->qkv_bias + sizeof(float) * (q + kv), l->v_bias, kv},
	};
	int ret = 0;

	for (size_t i = 0; i < OG_ARRAY_LEN(matrices) && ret == 0; i++)
		ret = put_matrix(
			u, matrices[i].to, matrices[i].from, matrices[i].offset, matrices[i].turn);
	for (size_t i = 0; i < OG_ARRAY_LEN(vectors) && ret == 0; i++)
		ret = put_floats(u, vectors[i].to, vectors[i].from, vectors[i].n);
	return ret;
}

static int put_all(struct upload *u, const struct og_cuda_weights *w, const struct og_model *m)
{
	/* Each as soon as it has arrived from the disk. */
	int ret = og_model_wait(m, 0);

	if (ret == 0)
		ret = put_matrix(u, &w->embedding, &m->embedding, 0, 0);
	for (uint32_t i = 0; i < m->hp.nb_layers && ret == 0; i++) {
		ret = og_model_wait(m, 1 + i);
		if (ret == 0)
			ret = put_layer(u, &w->layers[i], &m->layers[i], &m->hp);
	}
	if (ret == 0)
		ret = og_model_wait(m, m->hp.nb_layers + 1);
	if (ret == 0 && w->output.data != w->embedding.data)
		ret = put_matrix(u, &w->output, &m->output, 0, 0);
	if (ret == 0)
		ret = put_floats(u, w->output_norm, m->output_norm, m->hp.width);
	for (int i = 0; i < RING && ret == 0; i++)
		ret = og_cuda_wait_event(u->d, u->slots[i].done, NULL);
	return ret;
}

/* The arena, all zero, and the views of it. */
static int make_arena(struct og_cuda_weights *w, struct og_cuda_device *d, const struct og_model *m)
{
	int ret;

	w->layers = calloc(m->hp.nb_layers, sizeof(*w->layers));
	if (!w->layers)
		return -ENOMEM;
	w->arena_bytes = og_cuda_weights_bytes(m);
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
	struct upload u = {.d = d, .chunk_bytes = choose_chunk(m)};
	int ret = make_arena(w, d, m);

	if (ret == 0)
		ret = start_upload(&u);
	if (ret == 0)
		ret = put_all(&u, w, m);
	end_upload(&u);
	return ret;
}

/* Scaled so that sums of n_in products stay near 1. */
static int randomise(struct og_cuda_device *d, const struct og_cuda_matrix *m, uint32_t seed)
{
	CUdeviceptr out = m->data;
	uint64_t n = (uint64_t)m->kp * m->rows;
	float scale = sqrtf(3.0f / (float)m->kp);
	void *args[] = {&out, &n, &seed, &scale};

	return og_cuda_launch(d, d->stream, OG_K_random_bf16,
		(struct og_cuda_grid){(uint32_t)d->nb_processors * 8, 1, 1, ROW_THREADS, 0}, args);
}

int og_cuda_weights_random(
	struct og_cuda_weights *w, struct og_cuda_device *d, const struct og_model *m)
{
	uint32_t seed = 1;
	int ret = make_arena(w, d, m);
	struct upload u = {.d = d, .chunk_bytes = CHUNK_BYTES};
	uint32_t nb_ones = OG_MAX(m->hp.width, m->hp.head_dim);
	float *ones = malloc(nb_ones * sizeof(*ones));

	if (ret == 0 && !ones)
		ret = -ENOMEM;
	for (uint32_t i = 0; ones && i < nb_ones; i++)
		ones[i] = 1;
	if (ret == 0)
		ret = start_upload(&u);
	if (ret == 0)
		ret = randomise(d, &w->embedding, seed++);
	if (ret == 0 && w->output.data != w->embedding.data)
		ret = randomise(d, &w->output, seed++);
	if (ret == 0)
		ret = put_floats(&u, w->output_norm, ones, m->hp.width);
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
				ret = put_floats(&u, norms[k].to, ones, norms[k].n);
	}
	for (int i = 0; i < RING && ret == 0; i++)
		ret = og_cuda_wait_event(d, u.slots[i].done, NULL);
	if (ret == 0)
		ret = og_cuda_wait(d, d->stream);
	end_upload(&u);
	free(ones);
	return ret;
}

void og_cuda_weights_fini(struct og_cuda_weights *w, struct og_cuda_device *d)
{
	og_cuda_free(d, w->arena);
	free(w->layers);
	*w = (struct og_cuda_weights){0};
}

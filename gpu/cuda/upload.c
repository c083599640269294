#include "gpu/cuda/upload.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROW_THREADS = 256,
	STRIPS_PER_LAYER = 7,
};

static_assert((int)OG_CUDA_F32 == OG_F32 && (int)OG_CUDA_F16 == OG_F16 &&
		      (int)OG_CUDA_Q8_0 == OG_Q8_0 && (int)OG_CUDA_BF16 == OG_BF16,
	"the kernels number types as the files do");

/* ---- Slots and their ring. ---- */

int og_cuda_slot_init(
	struct og_cuda_slot *s, struct og_cuda_device *d, size_t host_bytes, size_t device_bytes)
{
	int ret = 0;

	*s = (struct og_cuda_slot){0};
	if (host_bytes > 0)
		ret = og_cuda_alloc_host(d, &s->host, host_bytes);
	if (ret == 0)
		ret = og_cuda_alloc(d, &s->device, device_bytes);
	if (ret == 0)
		ret = og_cuda_make_event(d, &s->done);
	if (ret == 0)
		ret = og_cuda_check(d, d->cu.cuStreamCreate(&s->stream, CU_STREAM_NON_BLOCKING),
			"cuStreamCreate");
	return ret < 0 ? ret : og_cuda_slot_mark(s, d); /* so that the first wait ends at once */
}

void og_cuda_slot_fini(struct og_cuda_slot *s, struct og_cuda_device *d)
{
	if (s->stream && !d->is_stuck)
		(void)d->cu.cuStreamDestroy(s->stream);
	og_cuda_free_event(d, s->done);
	og_cuda_free(d, s->device);
	og_cuda_free_host(d, s->host);
}

int og_cuda_slot_mark(struct og_cuda_slot *s, struct og_cuda_device *d)
{
	return og_cuda_check_work(d, d->cu.cuEventRecord(s->done, s->stream), "cuEventRecord");
}

int og_cuda_ring_init(struct og_cuda_ring *r, struct og_cuda_device *d, size_t slot_bytes)
{
	int ret = 0;

	*r = (struct og_cuda_ring){.d = d, .slot_bytes = slot_bytes};
	for (uint32_t i = 0; i < OG_CUDA_RING_SLOTS && ret == 0; i++)
		ret = og_cuda_slot_init(&r->slots[i], d, slot_bytes, slot_bytes);
	return ret;
}

void og_cuda_ring_fini(struct og_cuda_ring *r)
{
	for (uint32_t i = 0; i < OG_CUDA_RING_SLOTS; i++)
		og_cuda_slot_fini(&r->slots[i], r->d);
}

int og_cuda_ring_wait(struct og_cuda_ring *r)
{
	int ret = 0;

	for (uint32_t i = 0; i < OG_CUDA_RING_SLOTS && ret == 0; i++)
		ret = og_cuda_wait_event(r->d, r->slots[i].done, NULL);
	return ret;
}

/* The next slot of the ring, once the device has done with what was in it. */
static int take_slot(struct og_cuda_ring *r, struct og_cuda_slot **out)
{
	struct og_cuda_slot *s = &r->slots[r->next++ % OG_CUDA_RING_SLOTS];
	int ret = og_cuda_wait_event(r->d, s->done, NULL);

	*out = s;
	return ret;
}

static int send(struct og_cuda_ring *r, struct og_cuda_slot *s, CUdeviceptr to, size_t bytes)
{
	return og_cuda_check_work(r->d, r->d->cu.cuMemcpyHtoDAsync(to, s->host, bytes, s->stream),
		"cuMemcpyHtoDAsync");
}

int og_cuda_ring_put_floats(struct og_cuda_ring *r, CUdeviceptr to, const float *from, uint32_t n)
{
	struct og_cuda_slot *s;
	int ret;

	if (!from)
		return 0;
	ret = take_slot(r, &s);
	if (ret < 0)
		return ret;
	memcpy(s->host, from, n * sizeof(float));
	ret = send(r, s, to, n * sizeof(float));
	return ret == 0 ? og_cuda_slot_mark(s, r->d) : ret;
}

bool og_cuda_is_plain(enum og_dtype type)
{
	return type <= OG_BF16;
}

int og_cuda_convert_rows(struct og_cuda_device *d, CUstream stream, const struct og_cuda_strip *s,
	CUdeviceptr data, enum og_dtype type, uint32_t first, uint32_t count)
{
	CUdeviceptr out = s->to->data, scales = s->to->scales;
	uint32_t n_in = s->from->n_in, kp = s->to->kp, turn = s->turn, offset = s->offset;
	uint32_t row_bytes = (uint32_t)og_dtype_bytes(type, n_in);
	int as = (int)type;
	/* The last of quantize_rows only. */
	void *args[] = {&out, &data, &first, &n_in, &kp, &row_bytes, &turn, &offset, &as, &scales};

	return og_cuda_launch(d, stream, scales ? OG_K_quantize_rows : OG_K_convert_rows,
		(struct og_cuda_grid){count, 1, 1, ROW_THREADS, 0}, args);
}

int og_cuda_ring_put_rows(struct og_cuda_ring *r, const struct og_cuda_strip *strip,
	const uint8_t *data, uint32_t first, uint32_t count)
{
	const struct og_weight *w = strip->from;
	enum og_dtype type = og_cuda_is_plain(w->type) ? w->type : OG_F32;
	size_t row_bytes = og_dtype_bytes(type, w->n_in);
	uint32_t end = first + count, per_slot = (uint32_t)OG_MIN(r->slot_bytes / row_bytes, count);
	int ret = per_slot > 0 ? 0 : -E2BIG;

	while (first < end && ret == 0) {
		struct og_cuda_slot *s;

		count = OG_MIN(per_slot, end - first);
		ret = take_slot(r, &s);
		if (ret < 0)
			return ret;
		if (type == w->type)
			memcpy(s->host, data, count * row_bytes);
		for (uint32_t i = 0; i < count && type != w->type; i++)
			og_dequantize(w->type, data + i * w->row_bytes, w->n_in,
				(float *)s->host + (size_t)i * w->n_in);
		ret = send(r, s, s->device, count * row_bytes);
		if (ret == 0)
			ret = og_cuda_convert_rows(
				r->d, s->stream, strip, s->device, type, first, count);
		if (ret == 0)
			ret = og_cuda_slot_mark(s, r->d);
		data += count * w->row_bytes;
		first += count;
	}
	return ret;
}

static int put_layer_vectors(struct og_cuda_ring *r, const struct og_cuda_layer *to,
	const struct og_layer *l, const struct og_hparams *hp)
{
	uint32_t q = hp->nb_heads * hp->head_dim, kv = hp->nb_kv_heads * hp->head_dim;
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

	for (size_t i = 0; i < OG_ARRAY_LEN(vectors) && ret == 0; i++)
		ret = og_cuda_ring_put_floats(r, vectors[i].to, vectors[i].from, vectors[i].n);
	return ret;
}

int og_cuda_ring_put_vectors(struct og_cuda_ring *r, const struct og_cuda_weights *w,
	const struct og_model *m, uint32_t stage)
{
	if (stage == 0)
		return 0;
	if (stage == m->hp.nb_layers + 1)
		return og_cuda_ring_put_floats(r, w->output_norm, m->output_norm, m->hp.width);
	return put_layer_vectors(r, &w->layers[stage - 1], &m->layers[stage - 1], &m->hp);
}

/* ---- The whole of a model. ---- */

/* The largest matrix decides, if it is small; vectors are no longer than a row of some matrix. */
size_t og_cuda_slot_bytes(const struct og_model *m, size_t most_bytes)
{
	const struct og_layer *l = m->layers;
	const struct og_weight *all[] = {&m->embedding, &m->output, &l->q, &l->gate, &l->down};
	uint64_t bytes = 4ull * OG_MODEL_WIDTH_MAX;

	for (size_t i = 0; i < OG_ARRAY_LEN(all); i++)
		bytes = OG_MAX(bytes, (uint64_t)all[i]->row_bytes * all[i]->n_out);
	bytes = OG_MIN(bytes, (uint64_t)most_bytes);
	bytes = OG_MAX(bytes, 4ull * OG_MODEL_WIDTH_MAX);
	bytes = OG_MAX(bytes, 4ull * m->hp.ff_width); /* a row that the host makes plain */
	return (size_t)OG_MAX(bytes, 4ull * m->hp.nb_heads * m->hp.head_dim);
}

static void list_layer(struct og_cuda_strip *out, const struct og_cuda_layer *to,
	const struct og_layer *l, const struct og_hparams *hp, uint32_t stage)
{
	uint32_t q = hp->nb_heads * hp->head_dim, kv = hp->nb_kv_heads * hp->head_dim;
	const struct og_cuda_strip all[STRIPS_PER_LAYER] = {
		{&to->qkv, &l->q, 0, 0, stage},
		{&to->qkv, &l->k, q, 0, stage},
		{&to->qkv, &l->v, q + kv, 0, stage},
		{&to->o, &l->o, 0, 0, stage},
		{&to->gate_up, &l->gate, 0, OG_CUDA_GATE_ROWS, stage},
		{&to->gate_up, &l->up, OG_CUDA_GATE_ROWS, OG_CUDA_GATE_ROWS, stage},
		{&to->down, &l->down, 0, 0, stage},
	};

	memcpy(out, all, sizeof(all));
}

static int list_strips(
	struct og_cuda_strips *s, const struct og_cuda_weights *w, const struct og_model *m)
{
	uint32_t n = m->hp.nb_layers;

	s->count = 0;
	s->of = calloc(2 + (size_t)STRIPS_PER_LAYER * n, sizeof(*s->of));
	if (!s->of)
		return -ENOMEM;
	s->of[s->count++] = (struct og_cuda_strip){&w->embedding, &m->embedding, 0, 0, 0};
	for (uint32_t i = 0; i < n; i++, s->count += STRIPS_PER_LAYER)
		list_layer(&s->of[s->count], &w->layers[i], &m->layers[i], &m->hp, 1 + i);
	if (w->output.data != w->embedding.data)
		s->of[s->count++] = (struct og_cuda_strip){&w->output, &m->output, 0, 0, n + 1};
	return 0;
}

/* Each stage as soon as it has arrived from the disk. */
static int upload_from_memory(const struct og_cuda_weights *w, struct og_cuda_device *d,
	const struct og_model *m, const struct og_cuda_strips *strips)
{
	struct og_cuda_ring ring;
	int ret = og_cuda_ring_init(&ring, d, og_cuda_slot_bytes(m, OG_CUDA_SLOT_BYTES));

	for (uint32_t stage = 0, i = 0; stage < m->hp.nb_layers + 2 && ret == 0; stage++) {
		ret = og_model_wait(m, stage);
		if (ret == 0)
			ret = og_cuda_ring_put_vectors(&ring, w, m, stage);
		for (; i < strips->count && strips->of[i].stage == stage && ret == 0; i++)
			ret = og_cuda_ring_put_rows(&ring, &strips->of[i], strips->of[i].from->data,
				0, strips->of[i].from->n_out);
	}
	if (ret == 0)
		ret = og_cuda_ring_wait(&ring);
	og_cuda_ring_fini(&ring);
	return ret;
}

uint64_t og_cuda_upload_bytes(const struct og_model *m)
{
	uint64_t chunk_bytes =
		m->load_opts.chunk_bytes ? m->load_opts.chunk_bytes : OG_LOAD_CHUNK_BYTES;

	if (!m->load_opts.is_held)
		return OG_CUDA_RING_SLOTS * og_cuda_slot_bytes(m, OG_CUDA_SLOT_BYTES);
	return OG_LOAD_DEPTH * chunk_bytes +
	       OG_CUDA_RING_SLOTS * og_cuda_slot_bytes(m, OG_CUDA_SEAM_SLOT_BYTES);
}

int og_cuda_upload(struct og_cuda_weights *w, struct og_cuda_device *d, const struct og_model *m)
{
	struct og_cuda_strips strips;
	int ret = list_strips(&strips, w, m);

	if (ret == 0 && m->load_opts.is_held && og_model_is_unpacked(m))
		ret = og_model_begin(m, NULL, 0);
	if (ret == 0 && m->load_opts.is_held)
		ret = og_cuda_stream(w, d, m, &strips);
	else if (ret == 0)
		ret = upload_from_memory(w, d, m, &strips);
	free(strips.of);
	return ret;
}

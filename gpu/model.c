#include "gpu/model.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static_assert(
	__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weights are used as they lie in the file");

enum { HEADER_FIRST_READ_BYTES = 1024 * 1024, KEY_BYTES = 96 };

/* Reads of keys `<architecture>.<name>` with a range, keeping the first complaint. */
struct keys {
	const char *file;
	const struct og_gguf *gguf;
	const char *arch;
	char *err;
	size_t err_bytes;
	int ret;
};

static const struct {
	const char *name;
	bool rope_halves;
} architectures[] = {
	{"llama", false},
	{"qwen2", true},
};

OG_PRINTF(3, 4) static void complain(struct keys *k, int ret, const char *fmt, ...)
{
	va_list args;
	int n;

	if (k->ret < 0)
		return;
	k->ret = ret;
	n = snprintf(k->err, k->err_bytes, "%s: ", k->file);
	if (n < 0 || (size_t)n >= k->err_bytes)
		return;
	va_start(args, fmt);
	vsnprintf(k->err + n, k->err_bytes - (size_t)n, fmt, args);
	va_end(args);
}

static const char *full_key(const struct keys *k, const char *name, char out[KEY_BYTES])
{
	snprintf(out, KEY_BYTES, "%s.%s", k->arch, name);
	return out;
}

/* 1 … max; an absent key gives `missing`, or a complaint where that is 0. */
static uint32_t read_count(struct keys *k, const char *name, uint32_t max, uint32_t missing)
{
	char key[KEY_BYTES];
	uint64_t v = 0;
	int ret = og_gguf_u64(k->gguf, full_key(k, name, key), &v);

	if (ret == -ENOENT && missing > 0)
		return missing;
	if (ret < 0)
		complain(k, -EBADMSG, "%s is %s", key,
			ret == -ENOENT ? "missing" : "not a positive number");
	else if (v == 0 || v > max)
		complain(k, -EBADMSG, "%s is %llu; 1 to %u is possible", key, (unsigned long long)v,
			max);
	return (uint32_t)v;
}

static float read_positive(struct keys *k, const char *name, float missing)
{
	char key[KEY_BYTES];
	float v = missing;
	int ret = og_gguf_f32(k->gguf, full_key(k, name, key), &v);

	if ((ret < 0 && ret != -ENOENT) || !(v > 0))
		complain(k, -EBADMSG, "%s is not a positive number", key);
	return v;
}

static void read_architecture(struct keys *k, struct og_hparams *hp)
{
	struct og_text name;

	if (og_gguf_text(k->gguf, "general.architecture", &name) < 0) {
		complain(k, -EBADMSG, "general.architecture is missing");
		return;
	}
	for (size_t i = 0; i < OG_ARRAY_LEN(architectures); i++) {
		if (!og_text_is(name, architectures[i].name))
			continue;
		k->arch = architectures[i].name;
		hp->rope_halves = architectures[i].rope_halves;
		return;
	}
	complain(k, -EOPNOTSUPP, "architecture %.*s is not supported (llama and qwen2 are)",
		(int)OG_MIN(name.len_bytes, 64u), name.data);
}

static void read_rope(struct keys *k, struct og_hparams *hp)
{
	char key[KEY_BYTES];
	struct og_text scaling;
	float factor;

	hp->rope_dims = read_count(k, "rope.dimension_count", hp->head_dim, hp->head_dim);
	hp->rope_base = read_positive(k, "rope.freq_base", 10000.0f);
	hp->rope_scale = 1.0f;
	if (og_gguf_text(k->gguf, full_key(k, "rope.scaling.type", key), &scaling) == 0 &&
		!og_text_is(scaling, "none")) {
		if (!og_text_is(scaling, "linear"))
			complain(k, -EOPNOTSUPP, "rope scaling %.*s is not supported",
				(int)OG_MIN(scaling.len_bytes, 64u), scaling.data);
		factor = read_positive(k, "rope.scaling.factor", 1.0f);
		hp->rope_scale = 1.0f / factor;
	}
	if (hp->rope_dims % 2 != 0)
		complain(k, -EBADMSG, "%s is odd", full_key(k, "rope.dimension_count", key));
}

static void read_attention(struct keys *k, struct og_hparams *hp)
{
	uint32_t window;

	hp->nb_heads = read_count(k, "attention.head_count", OG_MODEL_HEADS_MAX, 0);
	if (k->ret < 0)
		return;
	hp->nb_kv_heads = read_count(k, "attention.head_count_kv", hp->nb_heads, hp->nb_heads);
	hp->head_dim = read_count(k, "attention.key_length", OG_MODEL_HEAD_DIM_MAX,
		OG_MAX(hp->width / hp->nb_heads, 1u));
	if (read_count(k, "attention.value_length", OG_MODEL_HEAD_DIM_MAX, hp->head_dim) !=
		hp->head_dim)
		complain(k, -EOPNOTSUPP, "keys and values of different length are not supported");
	if (k->ret < 0)
		return;
	if (hp->head_dim > OG_MODEL_HEAD_DIM_MAX || hp->head_dim % 2 != 0)
		complain(k, -EBADMSG, "heads have %u dimensions", hp->head_dim);
	if (hp->nb_heads % hp->nb_kv_heads != 0)
		complain(k, -EBADMSG, "%u heads do not share %u key-value heads evenly",
			hp->nb_heads, hp->nb_kv_heads);
	/* Within the window sliding attention is plain attention. */
	window = read_count(k, "attention.sliding_window", UINT32_MAX, UINT32_MAX);
	hp->context = OG_MIN(hp->context, window);
}

int og_hparams_read(struct og_hparams *hp, const char *file, const struct og_gguf *g, char *err,
	size_t err_bytes)
{
	struct keys k = {.file = file, .gguf = g, .err = err, .err_bytes = err_bytes};
	uint64_t experts = 0;
	char key[KEY_BYTES];

	memset(hp, 0, sizeof(*hp));
	read_architecture(&k, hp);
	if (k.ret < 0)
		return k.ret;
	hp->nb_layers = read_count(&k, "block_count", OG_MODEL_LAYERS_MAX, 0);
	hp->width = read_count(&k, "embedding_length", OG_MODEL_WIDTH_MAX, 0);
	hp->ff_width = read_count(&k, "feed_forward_length", OG_MODEL_FF_WIDTH_MAX, 0);
	hp->context = read_count(&k, "context_length", OG_MODEL_CONTEXT_MAX, 0);
	hp->norm_eps = read_positive(&k, "attention.layer_norm_rms_epsilon", 1e-5f);
	read_attention(&k, hp);
	if (k.ret == 0)
		read_rope(&k, hp);
	if (k.ret == 0 && og_gguf_u64(g, full_key(&k, "expert_count", key), &experts) == 0 &&
		experts > 0)
		complain(&k, -EOPNOTSUPP, "mixtures of experts are not supported");
	return k.ret;
}

/* Finds tensors and checks their shapes, keeping the first complaint. */
struct binder {
	struct keys k; /* for its complaint */
	struct og_model *m;
};

static const struct og_gguf_tensor *find(struct binder *b, const char *name, bool needed)
{
	const struct og_gguf_tensor *t = og_gguf_find_tensor(&b->m->gguf, name);

	if (!t && needed)
		complain(&b->k, -EBADMSG, "tensor %s is missing", name);
	return t;
}

static bool has_shape(struct binder *b, const struct og_gguf_tensor *t, const char *name,
	uint64_t n_in, uint64_t n_out)
{
	if (t->dims[0] == n_in && t->dims[1] == n_out && t->dims[2] == 1 && t->dims[3] == 1)
		return true;
	complain(&b->k, -EBADMSG, "tensor %s is %llu x %llu, not %llu x %llu", name,
		(unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
		(unsigned long long)n_in, (unsigned long long)n_out);
	return false;
}

static struct og_weight bind_matrix(
	struct binder *b, const char *name, uint32_t n_in, uint32_t n_out, bool needed)
{
	const struct og_gguf_tensor *t = find(b, name, needed);

	if (!t || !has_shape(b, t, name, n_in, n_out))
		return (struct og_weight){0};
	return (struct og_weight){
		.data = og_arena_at(&b->m->arena, t->offset),
		.type = t->type,
		.n_in = n_in,
		.n_out = n_out,
		.row_bytes = og_dtype_bytes(t->type, n_in),
	};
}

static const float *bind_vector(struct binder *b, const char *name, uint32_t n, bool needed)
{
	const struct og_gguf_tensor *t = find(b, name, needed);

	if (!t || !has_shape(b, t, name, n, 1))
		return NULL;
	if (t->type != OG_F32) {
		complain(&b->k, -EBADMSG, "tensor %s is %s, not F32", name, og_dtype_name(t->type));
		return NULL;
	}
	/* Aligned: the alignment of tensors is a multiple of 8. */
	return (const float *)(const void *)og_arena_at(&b->m->arena, t->offset);
}

static const char *layer_name(char out[KEY_BYTES], uint32_t layer, const char *part)
{
	snprintf(out, KEY_BYTES, "blk.%u.%s", layer, part);
	return out;
}

static void bind_layer(struct binder *b, uint32_t i)
{
	const struct og_hparams *hp = &b->m->hp;
	struct og_layer *l = &b->m->layers[i];
	uint32_t q_width = hp->nb_heads * hp->head_dim, kv_width = hp->nb_kv_heads * hp->head_dim;
	char name[KEY_BYTES];

	l->attn_norm = bind_vector(b, layer_name(name, i, "attn_norm.weight"), hp->width, true);
	l->q = bind_matrix(b, layer_name(name, i, "attn_q.weight"), hp->width, q_width, true);
	l->k = bind_matrix(b, layer_name(name, i, "attn_k.weight"), hp->width, kv_width, true);
	l->v = bind_matrix(b, layer_name(name, i, "attn_v.weight"), hp->width, kv_width, true);
	l->o = bind_matrix(b, layer_name(name, i, "attn_output.weight"), q_width, hp->width, true);
	l->q_bias = bind_vector(b, layer_name(name, i, "attn_q.bias"), q_width, false);
	l->k_bias = bind_vector(b, layer_name(name, i, "attn_k.bias"), kv_width, false);
	l->v_bias = bind_vector(b, layer_name(name, i, "attn_v.bias"), kv_width, false);
	l->ffn_norm = bind_vector(b, layer_name(name, i, "ffn_norm.weight"), hp->width, true);
	l->gate = bind_matrix(
		b, layer_name(name, i, "ffn_gate.weight"), hp->width, hp->ff_width, true);
	l->up = bind_matrix(b, layer_name(name, i, "ffn_up.weight"), hp->width, hp->ff_width, true);
	l->down = bind_matrix(
		b, layer_name(name, i, "ffn_down.weight"), hp->ff_width, hp->width, true);
}

/* Shapes are checked and pointers into the arena set; its bytes may not have arrived yet. */
static int bind_tensors(struct og_model *m, const char *path, char *err, size_t err_bytes)
{
	struct binder b = {{.file = path, .err = err, .err_bytes = err_bytes}, m};
	struct og_hparams *hp = &m->hp;
	const struct og_gguf_tensor *embedding = find(&b, "token_embd.weight", true);

	if (!embedding)
		return b.k.ret;
	if (embedding->dims[1] > OG_GGUF_ARRAY_MAX) {
		complain(&b.k, -EBADMSG, "the vocabulary is too large");
		return b.k.ret;
	}
	hp->vocab = (uint32_t)embedding->dims[1];
	m->embedding = bind_matrix(&b, "token_embd.weight", hp->width, hp->vocab, true);
	m->output = bind_matrix(&b, "output.weight", hp->width, hp->vocab, false);
	if (!m->output.data)
		m->output = m->embedding;
	m->output_norm = bind_vector(&b, "output_norm.weight", hp->width, true);
	m->rope_factors = bind_vector(&b, "rope_freqs.weight", hp->rope_dims / 2, false);
	for (uint32_t i = 0; i < hp->nb_layers && b.k.ret == 0; i++)
		bind_layer(&b, i);
	return b.k.ret;
}

/* Read more and more of the file's start until the parser has all of the header. */
static int read_header(
	struct og_model *m, const struct og_file *f, const char *path, char *err, size_t err_bytes)
{
	uint64_t len = OG_MIN(f->size_bytes, (uint64_t)HEADER_FIRST_READ_BYTES), have = 0;

	for (;;) {
		uint8_t *header = realloc(m->header, OG_MAX(len, 1u));
		int ret;

		if (!header)
			return -ENOMEM;
		m->header = header;
		ret = og_file_read(f, have, header + have, len - have);
		if (ret < 0) {
			snprintf(err, err_bytes, "%s: reading the header failed: %s", path,
				strerror(-ret));
			return ret;
		}
		have = len;
		ret = og_gguf_init(&m->gguf, path, header, len, f->size_bytes, err, err_bytes);
		if (ret != -EAGAIN)
			return ret;
		len = OG_MIN(len * 4, f->size_bytes);
		len = OG_MIN(len, (uint64_t)OG_GGUF_HEADER_MAX_BYTES);
	}
}

static int read_all(struct og_model *m, const struct og_file *f, const char *path,
	const struct og_load_opts *load, struct og_load_progress *progress, char *err,
	size_t err_bytes)
{
	char why[256];
	int ret = read_header(m, f, path, err, err_bytes);

	if (ret < 0)
		return ret;
	ret = og_hparams_read(&m->hp, path, &m->gguf, err, err_bytes);
	if (ret < 0)
		return ret;
	m->layers = calloc(m->hp.nb_layers, sizeof(*m->layers));
	if (!m->layers)
		return -ENOMEM;
	m->weight_bytes = m->gguf.data_end - m->gguf.data_offset;
	ret = og_arena_init(&m->arena, m->gguf.data_offset, m->gguf.data_end);
	if (ret < 0) {
		snprintf(err, err_bytes, "%s: %llu bytes of weights do not fit in memory", path,
			(unsigned long long)m->weight_bytes);
		return ret;
	}
	/* Before gigabytes are read, so that a file of the wrong kind is refused at once. */
	ret = bind_tensors(m, path, err, err_bytes);
	if (ret < 0)
		return ret;
	ret = og_load(&m->arena, f, load, progress, why, sizeof(why));
	if (ret < 0)
		snprintf(err, err_bytes, "%s: %s", path, why);
	return ret;
}

int og_model_open(struct og_model **out, const char *path, const struct og_load_opts *load,
	struct og_load_progress *progress, char *err, size_t err_bytes)
{
	struct og_model *m = calloc(1, sizeof(*m));
	struct og_file f;
	int ret;

	if (!m)
		return -ENOMEM;
	snprintf(err, err_bytes, "%s: out of memory", path);
	ret = og_file_open(&f, path, err, err_bytes);
	if (ret < 0)
		goto free_model;
	ret = read_all(m, &f, path, load, progress, err, err_bytes);
	og_file_close(&f);
	if (ret < 0)
		goto free_model;
	*out = m;
	return 0;

free_model:
	og_model_close(m);
	return ret;
}

void og_model_close(struct og_model *m)
{
	og_arena_fini(&m->arena);
	og_gguf_fini(&m->gguf);
	free(m->layers);
	free(m->header);
	free(m);
}

void og_weight_row(const struct og_weight *w, uint32_t row, float *out)
{
	og_dequantize(w->type, w->data + row * w->row_bytes, w->n_in, out);
}

#include "gpu/model_priv.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static_assert(
	__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weights are used as they lie in the file");

enum { NAME_BYTES = 160, PIECES_PER_LAYER = 32, PIECES_BESIDE = 16 };

/* The weights of a layer, and of the model, by their names in GGUF files and in folders. */
enum part {
	ATTN_NORM,
	ATTN_Q,
	ATTN_K,
	ATTN_V,
	ATTN_QKV,
	ATTN_OUT,
	Q_BIAS,
	K_BIAS,
	V_BIAS,
	OUT_BIAS,
	Q_NORM,
	K_NORM,
	ATTN_POST_NORM,
	FFN_NORM,
	FFN_GATE,
	FFN_UP,
	FFN_GATE_UP,
	FFN_DOWN,
	FFN_POST_NORM,
	EMBEDDING,
	OUTPUT_NORM,
	OUTPUT,
	ROPE_FACTORS,
	ROPE_LONG,
	ROPE_SHORT,
	PARTS,
};

static const char *const names[PARTS][2] = {
	[ATTN_NORM] = {"attn_norm.weight", "input_layernorm.weight"},
	[ATTN_Q] = {"attn_q.weight", "self_attn.q_proj.weight"},
	[ATTN_K] = {"attn_k.weight", "self_attn.k_proj.weight"},
	[ATTN_V] = {"attn_v.weight", "self_attn.v_proj.weight"},
	[ATTN_QKV] = {"attn_qkv.weight", "self_attn.qkv_proj.weight"},
	[ATTN_OUT] = {"attn_output.weight", "self_attn.o_proj.weight"},
	[Q_BIAS] = {"attn_q.bias", "self_attn.q_proj.bias"},
	[K_BIAS] = {"attn_k.bias", "self_attn.k_proj.bias"},
	[V_BIAS] = {"attn_v.bias", "self_attn.v_proj.bias"},
	[OUT_BIAS] = {"attn_output.bias", "self_attn.o_proj.bias"},
	[Q_NORM] = {"attn_q_norm.weight", "self_attn.q_norm.weight"},
	[K_NORM] = {"attn_k_norm.weight", "self_attn.k_norm.weight"},
	[ATTN_POST_NORM] = {"post_attention_norm.weight", "post_attention_layernorm.weight"},
	[FFN_NORM] = {"ffn_norm.weight", "post_attention_layernorm.weight"},
	[FFN_GATE] = {"ffn_gate.weight", "mlp.gate_proj.weight"},
	[FFN_UP] = {"ffn_up.weight", "mlp.up_proj.weight"},
	[FFN_GATE_UP] = {"ffn_up.weight", "mlp.gate_up_proj.weight"},
	[FFN_DOWN] = {"ffn_down.weight", "mlp.down_proj.weight"},
	[FFN_POST_NORM] = {"post_ffw_norm.weight", "post_feedforward_layernorm.weight"},
	[EMBEDDING] = {"token_embd.weight", "embed_tokens.weight"},
	[OUTPUT_NORM] = {"output_norm.weight", "norm.weight"},
	[OUTPUT] = {"output.weight", "lm_head.weight"},
	[ROPE_FACTORS] = {"rope_freqs.weight", NULL},
	[ROPE_LONG] = {"rope_factors_long.weight", NULL},
	[ROPE_SHORT] = {"rope_factors_short.weight", NULL},
};

/* Text models stand alone or inside a composite one; transformers 4 and 5 nest those differently. */
static const char *const folder_prefixes[] = {
	"model.", "language_model.model.", "model.language_model.", ""};

struct binder {
	struct og_complaint c;
	struct og_model *m;
	const char *prefix; /* of folders' names */
	uint32_t stage;
	char name[NAME_BYTES]; /* the last looked for */
};

static const struct og_tensor *lookup(struct binder *b, const char *fmt_prefix, enum part part)
{
	snprintf(b->name, sizeof(b->name), "%s%s", fmt_prefix, names[part][b->m->is_folder]);
	return og_tensor_find(b->m->tensors, b->m->nb_tensors, b->name);
}

/* NULL if the layer has none; b->name says what was looked for. */
static const struct og_tensor *find(struct binder *b, uint32_t layer, enum part part)
{
	char prefix[NAME_BYTES / 2];

	if (!names[part][b->m->is_folder])
		return NULL;
	if (part == FFN_NORM && b->m->is_folder && b->m->hp.post_norms) {
		snprintf(b->name, sizeof(b->name), "%slayers.%u.pre_feedforward_layernorm.weight",
			b->prefix, layer);
		return og_tensor_find(b->m->tensors, b->m->nb_tensors, b->name);
	}
	if (part >= EMBEDDING)
		snprintf(prefix, sizeof(prefix), "%s", part == OUTPUT ? "" : b->prefix);
	else if (b->m->is_folder)
		snprintf(prefix, sizeof(prefix), "%slayers.%u.", b->prefix, layer);
	else
		snprintf(prefix, sizeof(prefix), "blk.%u.", layer);
	return lookup(b, prefix, part);
}

static bool has_shape(struct binder *b, const struct og_tensor *t, uint64_t n_in, uint64_t n_out)
{
	if (t->dims[0] == n_in && t->dims[1] == n_out && t->dims[2] == 1 && t->dims[3] == 1)
		return true;
	og_complain(&b->c, -EBADMSG,
		"tensor %s is %" PRIu64 " x %" PRIu64 ", not %" PRIu64 " x %" PRIu64, b->name,
		t->dims[0], t->dims[1], n_in, n_out);
	return false;
}

/* The bytes of the tensor belong to the stage at hand. */
static void want(struct binder *b, const struct og_tensor *t)
{
	struct og_model *m = b->m;

	OG_ASSERT(m->nb_pieces < PIECES_BESIDE + PIECES_PER_LAYER * m->hp.nb_layers);
	m->pieces[m->nb_pieces++] =
		(struct og_load_piece){t->file, b->stage, t->offset, t->offset + t->size_bytes};
	m->weight_bytes += t->size_bytes;
}

static const uint8_t *bytes_of(const struct binder *b, const struct og_tensor *t)
{
	return og_arena_at(&b->m->files[t->file].arena, t->offset);
}

/* How many values of a matrix share a scale: all, those of a row, or of a block as config.json has it. */
static bool read_blocks(struct binder *b, struct og_model_unpack *u)
{
	const struct og_tensor *s = u->scale;
	uint64_t rows = b->m->hp.fp8_block[0], cols = b->m->hp.fp8_block[1];
	bool is_vector = s->dims[2] == 1 && s->dims[3] == 1 && (s->dims[0] == 1 || s->dims[1] == 1);

	u->block_rows = u->n_rows;
	u->block_cols = u->n_in;
	u->scales_per_row = 1;
	if (is_vector && s->dims[0] * s->dims[1] == 1)
		return true;
	u->block_rows = 1;
	if (is_vector && s->dims[s->nb_dims == 2] == u->n_rows)
		return true;
	u->block_rows = rows;
	u->block_cols = cols;
	if (rows == 0 || cols == 0)
		return false;
	u->scales_per_row = (u->n_in + cols - 1) / cols;
	return s->dims[0] == u->scales_per_row && s->dims[1] == (u->n_rows + rows - 1) / rows &&
	       s->dims[2] == 1 && s->dims[3] == 1;
}

/* b->name is that of the matrix, and of its scale where that is refused. */
static bool find_scale(struct binder *b, struct og_model_unpack *u)
{
	size_t n = strlen(b->name);

	for (int inv = 0; !u->scale && inv < 2; inv++) {
		snprintf(b->name + n, sizeof(b->name) - n, "%s", inv ? "_scale_inv" : "_scale");
		u->scale = og_tensor_find(b->m->tensors, b->m->nb_tensors, b->name);
	}
	if (!u->scale) {
		b->name[n] = '\0';
		og_complain(
			&b->c, -EBADMSG, "tensor %s is F8_E4M3 without a scale beside it", b->name);
	} else if (u->scale->type >= OG_DTYPES || og_dtype_values(u->scale->type) > 1) {
		og_complain(&b->c, -EBADMSG, "tensor %s is not F32, F16 or BF16", b->name);
	} else if (!read_blocks(b, u)) {
		og_complain(&b->c, -EBADMSG,
			"tensor %s is %" PRIu64 " x %" PRIu64 ": not one scale, nor one of each "
			"row, nor of each block that config.json names",
			b->name, u->scale->dims[0], u->scale->dims[1]);
	}
	b->name[n] = '\0';
	return b->c.ret == 0;
}

/* Where the BF16 of a matrix in e4m3 will lie; NULL after a complaint. */
static const uint8_t *unpack(struct binder *b, const struct og_tensor *t)
{
	struct og_model_unpack *u = b->m->unpacks;

	if (u && u->tensor == t) /* several views of one */
		return u->out.base;
	u = calloc(1, sizeof(*u));
	if (!u) {
		og_complain(&b->c, -ENOMEM, "out of memory");
		return NULL;
	}
	u->tensor = t;
	u->stage = b->stage;
	u->n_in = t->dims[0];
	u->n_rows = t->dims[1];
	u->codes = bytes_of(b, t);
	if (find_scale(b, u) && og_arena_init(&u->out, 0, 2 * t->size_bytes) < 0)
		og_complain(&b->c, -ENOMEM, "tensor %s does not fit in memory as BF16", b->name);
	if (b->c.ret < 0) {
		free(u);
		return NULL;
	}
	u->scale_data = bytes_of(b, u->scale);
	want(b, u->scale);
	u->next = b->m->unpacks;
	b->m->unpacks = u;
	return u->out.base;
}

/* Rows [first, first + n_out) of a matrix of n_rows. */
static struct og_weight view(struct binder *b, const struct og_tensor *t, uint32_t n_in,
	uint64_t n_rows, uint32_t first, uint32_t n_out)
{
	struct og_weight w = {.type = t->type, .n_in = n_in, .n_out = n_out};
	const uint8_t *data;

	if (t->type == OG_DTYPES) {
		og_complain(&b->c, -EOPNOTSUPP, "tensor %s has a dtype that is not computed with",
			b->name);
		return (struct og_weight){0};
	}
	if (!has_shape(b, t, n_in, n_rows))
		return (struct og_weight){0};
	if (t->type == OG_F8_E4M3)
		w.type = OG_BF16;
	data = t->type == OG_F8_E4M3 ? unpack(b, t) : bytes_of(b, t);
	if (!data)
		return (struct og_weight){0};
	w.row_bytes = og_dtype_bytes(w.type, n_in);
	w.data = data + first * w.row_bytes;
	return w;
}

static void missing(struct binder *b)
{
	og_complain(&b->c, -EBADMSG, "tensor %s is missing", b->name);
}

static struct og_weight bind_matrix(
	struct binder *b, uint32_t layer, enum part part, uint32_t n_in, uint32_t n_out)
{
	const struct og_tensor *t = find(b, layer, part);
	struct og_weight w = {0};

	if (!t) {
		missing(b);
		return w;
	}
	w = view(b, t, n_in, n_out, 0, n_out);
	if (w.data)
		want(b, t);
	return w;
}

/* `out` NULL: a place of its own. */
static float *bind_values(struct binder *b, const struct og_tensor *t, uint32_t n, float *out,
	float add, const char *positive)
{
	struct og_model_vector *v;

	if (t->type >= OG_DTYPES || og_dtype_values(t->type) > 1) {
		og_complain(&b->c, -EBADMSG, "tensor %s is %s, not F32, F16 or BF16", b->name,
			t->type < OG_DTYPES ? og_dtype_name(t->type) : "of another dtype");
		return NULL;
	}
	if (!has_shape(b, t, n, 1))
		return NULL;
	v = calloc(1, sizeof(*v) + (out ? 0 : n * sizeof(float)));
	if (!v) {
		og_complain(&b->c, -ENOMEM, "out of memory");
		return NULL;
	}
	*v = (struct og_model_vector){.next = b->m->vectors,
		.from = bytes_of(b, t),
		.type = t->type,
		.stage = b->stage,
		.n = n,
		.add = add,
		.positive = positive,
		.out = out ? out : v->values};
	b->m->vectors = v;
	want(b, t);
	return v->out;
}

static const float *bind_vector(struct binder *b, uint32_t layer, enum part part, uint32_t n)
{
	const struct og_tensor *t = find(b, layer, part);

	return t ? bind_values(b, t, n, NULL, 0, NULL) : NULL;
}

static const float *bind_norm(struct binder *b, uint32_t layer, enum part part, uint32_t n)
{
	const struct og_tensor *t = find(b, layer, part);

	if (!t) {
		missing(b);
		return NULL;
	}
	return bind_values(b, t, n, NULL, b->m->hp.norm_add, NULL);
}

static void bind_attention(struct binder *b, struct og_layer *l, uint32_t i)
{
	const struct og_hparams *hp = &b->m->hp;
	uint32_t q_width = hp->nb_heads * hp->head_dim, kv_width = hp->nb_kv_heads * hp->head_dim;
	uint32_t all = q_width + 2 * kv_width;
	const struct og_tensor *fused;

	l->attn_norm = bind_norm(b, i, ATTN_NORM, hp->width);
	fused = find(b, i, ATTN_QKV);
	if (fused) {
		l->q = view(b, fused, hp->width, all, 0, q_width);
		l->k = view(b, fused, hp->width, all, q_width, kv_width);
		l->v = view(b, fused, hp->width, all, q_width + kv_width, kv_width);
		want(b, fused);
	} else {
		l->q = bind_matrix(b, i, ATTN_Q, hp->width, q_width);
		l->k = bind_matrix(b, i, ATTN_K, hp->width, kv_width);
		l->v = bind_matrix(b, i, ATTN_V, hp->width, kv_width);
	}
	l->o = bind_matrix(b, i, ATTN_OUT, q_width, hp->width);
	l->q_bias = bind_vector(b, i, Q_BIAS, q_width);
	l->k_bias = bind_vector(b, i, K_BIAS, kv_width);
	l->v_bias = bind_vector(b, i, V_BIAS, kv_width);
	l->o_bias = bind_vector(b, i, OUT_BIAS, hp->width);
	if (hp->qk_norm) {
		l->q_norm = bind_norm(b, i, Q_NORM, hp->head_dim);
		l->k_norm = bind_norm(b, i, K_NORM, hp->head_dim);
	}
	if (hp->post_norms)
		l->attn_post_norm = bind_norm(b, i, ATTN_POST_NORM, hp->width);
}

static void bind_feed_forward(struct binder *b, struct og_layer *l, uint32_t i)
{
	const struct og_hparams *hp = &b->m->hp;
	const struct og_tensor *gate = find(b, i, FFN_GATE), *fused = find(b, i, FFN_GATE_UP);

	if (!gate && fused && (b->m->is_folder || fused->dims[1] == 2ull * hp->ff_width)) {
		l->gate = view(b, fused, hp->width, 2ull * hp->ff_width, 0, hp->ff_width);
		l->up = view(b, fused, hp->width, 2ull * hp->ff_width, hp->ff_width, hp->ff_width);
		want(b, fused);
	} else {
		l->gate = bind_matrix(b, i, FFN_GATE, hp->width, hp->ff_width);
		l->up = bind_matrix(b, i, FFN_UP, hp->width, hp->ff_width);
	}
	l->ffn_norm = bind_norm(b, i, FFN_NORM, hp->width);
	l->down = bind_matrix(b, i, FFN_DOWN, hp->ff_width, hp->width);
	if (hp->post_norms)
		l->ffn_post_norm = bind_norm(b, i, FFN_POST_NORM, hp->width);
}

static void bind_factors(struct binder *b)
{
	struct og_hparams *hp = &b->m->hp;

	for (int i = 0; i < 2; i++) {
		struct og_rope *r = &hp->rope[i];
		const struct og_tensor *beyond = find(b, 0, ROPE_LONG), *factors;

		if (beyond)
			(void)bind_values(b, beyond, hp->rope_dims / 2, r->long_factors, 0,
				names[ROPE_LONG][0]);
		r->has_long |= beyond != NULL;
		factors = beyond ? find(b, 0, ROPE_SHORT) : find(b, 0, ROPE_FACTORS);
		if (factors)
			(void)bind_values(b, factors, hp->rope_dims / 2, r->factors, 0,
				names[beyond ? ROPE_SHORT : ROPE_FACTORS][0]);
	}
}

static void bind_ends(struct binder *b)
{
	struct og_hparams *hp = &b->m->hp;
	const struct og_tensor *embedding = NULL;

	for (size_t i = 0; !embedding && i < (b->m->is_folder ? OG_ARRAY_LEN(folder_prefixes) : 1);
		i++) {
		b->prefix = b->m->is_folder ? folder_prefixes[i] : "";
		embedding = find(b, 0, EMBEDDING);
	}
	if (!embedding) {
		b->prefix = b->m->is_folder ? folder_prefixes[0] : "";
		(void)find(b, 0, EMBEDDING);
		missing(b);
		return;
	}
	if (embedding->dims[1] > OG_GGUF_ARRAY_MAX) {
		og_complain(&b->c, -EBADMSG, "the vocabulary is too large");
		return;
	}
	if (!b->m->is_folder)
		hp->vocab = (uint32_t)embedding->dims[1];
	b->stage = 0;
	b->m->embedding = bind_matrix(b, 0, EMBEDDING, hp->width, hp->vocab);
	bind_factors(b);
	b->stage = 1 + hp->nb_layers;
	b->m->output_norm = bind_norm(b, 0, OUTPUT_NORM, hp->width);
	if (!hp->tied_always && find(b, 0, OUTPUT))
		b->m->output = bind_matrix(b, 0, OUTPUT, hp->width, hp->vocab);
	else
		b->m->output = b->m->embedding;
}

int og_model_bind(struct og_model *m, const char *path, char *err, size_t err_bytes)
{
	struct binder b = {.c = {path, err, err_bytes, 0}, .m = m, .prefix = ""};

	m->layers = calloc(m->hp.nb_layers, sizeof(*m->layers));
	m->pieces = calloc(
		PIECES_BESIDE + (size_t)PIECES_PER_LAYER * m->hp.nb_layers, sizeof(*m->pieces));
	if (!m->layers || !m->pieces)
		return og_complain(&b.c, -ENOMEM, "out of memory");
	bind_ends(&b);
	for (uint32_t i = 0; i < m->hp.nb_layers && b.c.ret == 0; i++) {
		b.stage = 1 + i;
		bind_attention(&b, &m->layers[i], i);
		bind_feed_forward(&b, &m->layers[i], i);
	}
	return b.c.ret;
}

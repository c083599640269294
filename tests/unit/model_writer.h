/*
 * model_writer.h: tiny models of every family with random weights, each written both as a GGUF file
 * and as a folder with config.json and safetensors.
 *
 * A weight's values follow from the seed and its name in the folder, so both forms hold the same
 * model. What the formats do differently is applied on the way out: GGUF of the Llama family has the
 * rows of queries and keys permuted, its Gemma norms have 1 added, its rope factors are tensors.
 */
#pragma once
#include "gguf_writer.h"

#include "gpu/fp8.h"

#include <math.h>
#include <stdarg.h>
#include <sys/stat.h>

/* What has a scale of its own where matrices of layers are e4m3 in the folder. */
enum og_mw_fp8 { OG_MW_NO_FP8, OG_MW_FP8_TENSOR, OG_MW_FP8_ROW, OG_MW_FP8_BLOCK };
enum { OG_MW_BLOCK_ROWS = 24, OG_MW_BLOCK_COLS = 40 };

struct og_mw {
	const char *name; /* of the family */
	const char *arch; /* in GGUF */
	const char *type; /* model_type */
	uint32_t layers, width, heads, kv_heads, head_dim, ff, vocab, context;
	uint32_t rope_dims;
	float rope_base;
	float rope_base_local;
	uint32_t window;  /* 0: none */
	uint32_t pattern; /* every n-th layer is without */
	uint32_t original_context;
	bool biases, out_bias, tied, qk_norm, gemma, post_norms, fused, llama3, longrope;
	float attn_cap, logit_cap;
	enum og_dtype dtype; /* of matrices in GGUF */
	enum og_dtype folder_dtype;
	enum og_mw_fp8 fp8;
	uint32_t files;    /* of the folder */
	bool new_spelling; /* of config.json, as transformers 5 writes it */
	uint64_t seed;
};

/* What a family does not say is as in og_mw_make(). */
static const struct og_mw og_mw_families[] = {
	{.name = "llama2", .arch = "llama", .type = "llama", .kv_heads = 4},
	{.name = "tinyllama",
		.arch = "llama",
		.type = "llama",
		.heads = 8,
		.kv_heads = 1,
		.head_dim = 8},
	{.name = "llama3",
		.arch = "llama",
		.type = "llama",
		.rope_base = 500000,
		.llama3 = true,
		.original_context = 32,
		.files = 3},
	{.name = "llama3.2",
		.arch = "llama",
		.type = "llama",
		.rope_base = 500000,
		.llama3 = true,
		.original_context = 32,
		.tied = true,
		.new_spelling = true},
	{.name = "mistral", .arch = "llama", .type = "mistral", .window = 12},
	{.name = "mistral-nemo",
		.arch = "llama",
		.type = "mistral",
		.head_dim = 24,
		.rope_base = 1000000},
	{.name = "smollm2", .arch = "llama", .type = "llama", .tied = true},
	{.name = "qwen2",
		.arch = "qwen2",
		.type = "qwen2",
		.biases = true,
		.tied = true,
		.rope_base = 1000000},
	{.name = "qwen3",
		.arch = "qwen3",
		.type = "qwen3",
		.qk_norm = true,
		.head_dim = 24,
		.rope_base = 1000000,
		.new_spelling = true},
	{.name = "phi3",
		.arch = "phi3",
		.type = "phi3",
		.fused = true,
		.longrope = true,
		.rope_dims = 12,
		.original_context = 24},
	{.name = "phi3-short",
		.arch = "phi3",
		.type = "phi3",
		.fused = true,
		.longrope = true,
		.original_context = 200,
		.window = 10},
	{.name = "gemma",
		.arch = "gemma",
		.type = "gemma",
		.gemma = true,
		.tied = true,
		.head_dim = 24,
		.kv_heads = 1},
	{.name = "gemma2",
		.arch = "gemma2",
		.type = "gemma2",
		.gemma = true,
		.tied = true,
		.post_norms = true,
		.window = 8,
		.pattern = 2,
		.attn_cap = 50,
		.logit_cap = 30,
		.layers = 3},
	{.name = "gemma3",
		.arch = "gemma3",
		.type = "gemma3_text",
		.gemma = true,
		.tied = true,
		.post_norms = true,
		.qk_norm = true,
		.window = 8,
		.pattern = 6,
		.rope_base = 1000000,
		.rope_base_local = 10000,
		.layers = 7,
		.files = 2},
	{.name = "gemma3-new",
		.arch = "gemma3",
		.type = "gemma3_text",
		.gemma = true,
		.tied = true,
		.post_norms = true,
		.qk_norm = true,
		.window = 8,
		.pattern = 6,
		.rope_base = 1000000,
		.rope_base_local = 10000,
		.layers = 7,
		.new_spelling = true},
};

/* Family `i`, small. */
static inline struct og_mw og_mw_make(size_t i)
{
	struct og_mw m = og_mw_families[i];

	m.layers = m.layers ? m.layers : 2;
	m.width = 64;
	m.ff = 96;
	m.vocab = 288;
	m.context = 256;
	m.heads = m.heads ? m.heads : 4;
	m.kv_heads = m.kv_heads ? m.kv_heads : 2;
	m.head_dim = m.head_dim ? m.head_dim : 16;
	m.rope_dims = m.rope_dims ? m.rope_dims : m.head_dim;
	m.rope_base = m.rope_base > 0 ? m.rope_base : 10000;
	m.files = m.files ? m.files : 1;
	m.seed = 5;
	return m;
}

/* Shapes that K blocks need, and weights enough to matter. */
static inline void og_mw_enlarge(struct og_mw *m)
{
	m->width = 256;
	m->ff = 512;
	m->rope_dims = m->rope_dims == m->head_dim ? 64 : 48;
	m->head_dim = 64;
	m->context = 512;
	if (m->original_context > 100) /* the one with short factors */
		m->original_context = 4096;
}

/* One weight: both names, its shape in the folder's order, how it is filled. */
struct og_mw_tensor {
	char folder[96];
	char gguf[64];
	uint32_t n_in, n_out; /* n_out 1: a vector */
	float scale;
	bool norm;
	bool permuted; /* rows of heads, in GGUF of the Llama family */
};

struct og_mw_list {
	struct og_mw_tensor *items;
	uint32_t count;
};

static inline struct og_mw_tensor *og_mw_add(struct og_mw_list *l, const char *folder,
	const char *gguf, uint32_t n_in, uint32_t n_out, float scale)
{
	struct og_mw_tensor *t = &l->items[l->count++];

	snprintf(t->folder, sizeof(t->folder), "%s", folder);
	snprintf(t->gguf, sizeof(t->gguf), "%s", gguf);
	t->n_in = n_in;
	t->n_out = n_out;
	t->scale = scale;
	t->norm = strstr(folder, "norm") != NULL;
	t->permuted = strstr(folder, "q_proj") || strstr(folder, "k_proj");
	return t;
}

static inline void og_mw_layer(struct og_mw_list *l, const struct og_mw *m, uint32_t i)
{
	uint32_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
	float in = 1 / sqrtf((float)m->width);
	const struct {
		const char *folder, *gguf;
		uint32_t n_in, n_out;
		float scale;
		bool present;
	} parts[] = {
		{"input_layernorm.weight", "attn_norm.weight", m->width, 1, 0.2f, true},
		{"self_attn.q_proj.weight", "attn_q.weight", m->width, q, 2 * in, !m->fused},
		{"self_attn.k_proj.weight", "attn_k.weight", m->width, kv, 2 * in, !m->fused},
		{"self_attn.v_proj.weight", "attn_v.weight", m->width, kv, in, !m->fused},
		{"self_attn.qkv_proj.weight", "attn_qkv.weight", m->width, q + 2 * kv, 1.5f * in,
			m->fused},
		{"self_attn.o_proj.weight", "attn_output.weight", q, m->width, 1 / sqrtf((float)q),
			true},
		{"self_attn.q_proj.bias", "attn_q.bias", q, 1, 0.3f, m->biases},
		{"self_attn.k_proj.bias", "attn_k.bias", kv, 1, 0.3f, m->biases},
		{"self_attn.v_proj.bias", "attn_v.bias", kv, 1, 0.3f, m->biases},
		{"self_attn.o_proj.bias", "attn_output.bias", m->width, 1, 0.3f, m->out_bias},
		{"self_attn.q_norm.weight", "attn_q_norm.weight", m->head_dim, 1, 0.2f, m->qk_norm},
		{"self_attn.k_norm.weight", "attn_k_norm.weight", m->head_dim, 1, 0.2f, m->qk_norm},
		{"post_attention_layernorm.weight",
			m->post_norms ? "post_attention_norm.weight" : "ffn_norm.weight", m->width,
			1, 0.2f, true},
		{"pre_feedforward_layernorm.weight", "ffn_norm.weight", m->width, 1, 0.2f,
			m->post_norms},
		{"post_feedforward_layernorm.weight", "post_ffw_norm.weight", m->width, 1, 0.2f,
			m->post_norms},
		{"mlp.gate_proj.weight", "ffn_gate.weight", m->width, m->ff, 2 * in, !m->fused},
		{"mlp.up_proj.weight", "ffn_up.weight", m->width, m->ff, in, !m->fused},
		{"mlp.gate_up_proj.weight", "ffn_up.weight", m->width, 2 * m->ff, 1.5f * in,
			m->fused},
		{"mlp.down_proj.weight", "ffn_down.weight", m->ff, m->width,
			1 / sqrtf((float)m->ff), true},
	};

	for (size_t p = 0; p < OG_ARRAY_LEN(parts); p++) {
		char folder[96], gguf[64];

		if (!parts[p].present)
			continue;
		snprintf(folder, sizeof(folder), "model.layers.%u.%s", i, parts[p].folder);
		snprintf(gguf, sizeof(gguf), "blk.%u.%s", i, parts[p].gguf);
		og_mw_add(l, folder, gguf, parts[p].n_in, parts[p].n_out, parts[p].scale);
	}
}

/* The caller frees items. */
static inline struct og_mw_list og_mw_tensors(const struct og_mw *m)
{
	struct og_mw_list l = {calloc(8 + 20 * (size_t)m->layers, sizeof(*l.items)), 0};
	float in = 1 / sqrtf((float)m->width);

	og_mw_add(&l, "model.embed_tokens.weight", "token_embd.weight", m->width, m->vocab,
		m->tied ? 3 * in : 1);
	for (uint32_t i = 0; i < m->layers; i++)
		og_mw_layer(&l, m, i);
	og_mw_add(&l, "model.norm.weight", "output_norm.weight", m->width, 1, 0.2f);
	if (!m->tied)
		og_mw_add(&l, "lm_head.weight", "output.weight", m->width, m->vocab, 3 * in);
	return l;
}

static inline bool og_mw_in_fp8(const struct og_mw *m, const struct og_mw_tensor *t)
{
	return m->fp8 != OG_MW_NO_FP8 && t->n_out > 1 && strstr(t->folder, ".layers.");
}

/* How many rows and columns of a matrix share a scale, and how many scales there are each way. */
struct og_mw_blocks {
	uint32_t rows, cols, down, across;
};

static inline struct og_mw_blocks og_mw_blocks(const struct og_mw *m, const struct og_mw_tensor *t)
{
	struct og_mw_blocks b = {t->n_out, t->n_in, 0, 0};

	if (m->fp8 == OG_MW_FP8_ROW)
		b.rows = 1;
	if (m->fp8 == OG_MW_FP8_BLOCK) {
		b.rows = OG_MW_BLOCK_ROWS;
		b.cols = OG_MW_BLOCK_COLS;
	}
	b.down = (t->n_out + b.rows - 1) / b.rows;
	b.across = (t->n_in + b.cols - 1) / b.cols;
	return b;
}

/* Rounds x to e4m3; the scales are what BF16 holds, those of rows, or F32. */
static inline void og_mw_quantize(const struct og_mw *m, const struct og_mw_tensor *t, float *x,
	uint8_t *codes, float *scales)
{
	struct og_mw_blocks b = og_mw_blocks(m, t);

	for (uint32_t i = 0; i < b.down * b.across; i++) {
		uint32_t first_row = i / b.across * b.rows, first_col = i % b.across * b.cols;
		uint32_t last_row = OG_MIN(first_row + b.rows, t->n_out);
		uint32_t last_col = OG_MIN(first_col + b.cols, t->n_in);
		float largest = 0;

		for (uint32_t r = first_row; r < last_row; r++)
			for (uint32_t c = first_col; c < last_col; c++)
				largest = fmaxf(largest, fabsf(x[(size_t)r * t->n_in + c]));
		scales[i] = largest / OG_E4M3_MAX;
		if (m->fp8 == OG_MW_FP8_ROW)
			scales[i] = og_bf16_to_f32(og_f32_to_bf16(scales[i]));
		for (uint32_t r = first_row; r < last_row; r++)
			for (uint32_t c = first_col; c < last_col; c++) {
				size_t at = (size_t)r * t->n_in + c;

				codes[at] = og_f32_to_e4m3(x[at] / scales[i]);
				x[at] = og_bf16_to_f32(
					og_f32_to_bf16(og_e4m3_to_f32(codes[at]) * scales[i]));
			}
	}
}

/* The same, and what the folder holds of a matrix in e4m3 where that is asked for. */
static inline float *og_mw_values_fp8(
	const struct og_mw *m, const struct og_mw_tensor *t, uint8_t *codes, float *scales)
{
	size_t n = (size_t)t->n_in * t->n_out;
	float *x = malloc(n * sizeof(float));
	uint64_t seed = m->seed;
	struct og_rand r;

	for (const char *c = t->folder; *c; c++)
		seed = seed * 1099511628211u + (uint8_t)*c;
	og_rand_seeded(&r, seed);
	for (size_t i = 0; i < n; i++) {
		x[i] = og_gw_normal(&r) * t->scale + (t->norm && !m->gemma ? 1 : 0);
		if (m->folder_dtype == OG_BF16)
			x[i] = og_bf16_to_f32(og_f32_to_bf16(x[i]));
		if (m->folder_dtype == OG_F16)
			x[i] = og_f16_to_f32(og_f32_to_f16(x[i]));
	}
	if (og_mw_in_fp8(m, t)) {
		uint8_t *own_codes = malloc(n);
		float *own_scales = malloc(n * sizeof(float));

		og_mw_quantize(m, t, x, codes ? codes : own_codes, scales ? scales : own_scales);
		free(own_codes);
		free(own_scales);
	}
	return x;
}

/*
 * The values in the folder's order, rounded to its dtype, or to e4m3, so that both forms hold the
 * same.
 */
static inline float *og_mw_values(const struct og_mw *m, const struct og_mw_tensor *t)
{
	return og_mw_values_fp8(m, t, NULL, NULL);
}

/* Rope factors of the long and the short kind, and Llama 3's, computed from their definition. */
static inline float og_mw_long_factor(uint32_t j)
{
	return 1.0f + 0.35f * (float)j;
}

static inline float og_mw_short_factor(uint32_t j)
{
	return 1.0f + 0.05f * (float)j;
}

static inline float og_mw_llama3_factor(const struct og_mw *m, uint32_t j)
{
	double freq = pow(m->rope_base, -2.0 * j / m->rope_dims), wavelen = 2 * M_PI / freq, smooth;
	const double factor = 8, low = 1, high = 4;

	if (wavelen < m->original_context / high)
		return 1;
	if (wavelen > m->original_context / low)
		return (float)factor;
	smooth = (m->original_context / wavelen - low) / (high - low);
	return (float)(freq / ((1 - smooth) * freq / factor + smooth * freq));
}

static inline float og_mw_magnitude(const struct og_mw *m)
{
	double factor = (double)m->context / m->original_context;

	return factor <= 1 ? 1 : (float)sqrt(1 + log(factor) / log(m->original_context));
}

/* ---- GGUF ---- */

static inline void og_mw_key_u32(
	struct og_gw *w, const struct og_mw *m, uint32_t *count, const char *key, uint32_t v)
{
	char name[96];

	snprintf(name, sizeof(name), "%s.%s", m->arch, key);
	og_gw_kv_u32(w, name, v);
	++*count;
}

static inline void og_mw_key_f32(
	struct og_gw *w, const struct og_mw *m, uint32_t *count, const char *key, float v)
{
	char name[96];

	snprintf(name, sizeof(name), "%s.%s", m->arch, key);
	og_gw_kv_f32(w, name, v);
	++*count;
}

static inline uint32_t og_mw_keys(struct og_gw *w, const struct og_mw *m)
{
	uint32_t n = 0;

	og_gw_kv_text(w, "general.architecture", m->arch);
	og_gw_kv_text(w, "tokenizer.ggml.model", "gpt2");
	og_gw_kv_text(w, "tokenizer.ggml.pre", "qwen2");
	og_gw_vocabulary(w, m->vocab);
	og_gw_kv_u32(w, "tokenizer.ggml.eos_token_id", OG_GW_IM_END);
	og_mw_key_u32(w, m, &n, "block_count", m->layers);
	og_mw_key_u32(w, m, &n, "embedding_length", m->width);
	og_mw_key_u32(w, m, &n, "feed_forward_length", m->ff);
	og_mw_key_u32(w, m, &n, "context_length", m->context);
	og_mw_key_u32(w, m, &n, "attention.head_count", m->heads);
	og_mw_key_u32(w, m, &n, "attention.head_count_kv", m->kv_heads);
	og_mw_key_u32(w, m, &n, "attention.key_length", m->head_dim);
	og_mw_key_u32(w, m, &n, "attention.value_length", m->head_dim);
	og_mw_key_u32(w, m, &n, "rope.dimension_count", m->rope_dims);
	og_mw_key_f32(w, m, &n, "rope.freq_base", m->rope_base);
	og_mw_key_f32(w, m, &n, "attention.layer_norm_rms_epsilon", 1e-5f);
	if (m->window)
		og_mw_key_u32(w, m, &n, "attention.sliding_window", m->window);
	if (m->attn_cap > 0)
		og_mw_key_f32(w, m, &n, "attn_logit_softcapping", m->attn_cap);
	if (m->logit_cap > 0)
		og_mw_key_f32(w, m, &n, "final_logit_softcapping", m->logit_cap);
	if (m->longrope) {
		og_mw_key_u32(
			w, m, &n, "rope.scaling.original_context_length", m->original_context);
		og_mw_key_f32(w, m, &n, "rope.scaling.attn_factor", og_mw_magnitude(m));
	}
	return n + 7; /* those before the first og_mw_key_u32() */
}

/* Row `row` of the GGUF comes from this row of the folder. */
static inline uint32_t og_mw_row(const struct og_mw *m, const struct og_mw_tensor *t, uint32_t row)
{
	uint32_t n = m->head_dim;

	if (!t->permuted || strcmp(m->arch, "llama") != 0)
		return row;
	return row / n * n + row % 2 * (n / 2) + row % n / 2;
}

static inline void og_mw_gguf_values(
	struct og_gw *w, const struct og_mw *m, const struct og_mw_tensor *t, enum og_dtype dtype)
{
	float *x = og_mw_values(m, t), *row = malloc(t->n_in * sizeof(float));
	uint32_t block = og_dtype_values(dtype);

	for (uint32_t r = 0; r < t->n_out; r++) {
		const float *from = x + (size_t)og_mw_row(m, t, r) * t->n_in;

		for (uint32_t i = 0; i < t->n_in; i++)
			row[i] = from[i] + (t->norm && m->gemma ? 1 : 0);
		for (uint32_t i = 0; i < t->n_in; i += block)
			og_gw_block(w, dtype, row + i, block);
	}
	free(x);
	free(row);
}

static inline enum og_dtype og_mw_gguf_dtype(const struct og_mw *m, const struct og_mw_tensor *t)
{
	return t->n_out == 1 ? OG_F32 : m->dtype;
}

struct og_mw_factors {
	const char *name;
	float values[256];
};

static inline uint32_t og_mw_factor_tensors(const struct og_mw *m, struct og_mw_factors out[2])
{
	for (uint32_t j = 0; j < m->rope_dims / 2; j++) {
		out[0].values[j] = m->llama3 ? og_mw_llama3_factor(m, j) : og_mw_long_factor(j);
		out[1].values[j] = og_mw_short_factor(j);
	}
	out[0].name = m->llama3 ? "rope_freqs.weight" : "rope_factors_long.weight";
	out[1].name = "rope_factors_short.weight";
	return m->llama3 ? 1 : m->longrope ? 2 : 0;
}

/* The whole file. The caller frees it with og_gw_fini(). */
static inline struct og_gw og_mw_gguf(const struct og_mw *m)
{
	struct og_mw_list l = og_mw_tensors(m);
	struct og_mw_factors factors[2];
	uint32_t nb_factors = og_mw_factor_tensors(m, factors), nb_keys;
	struct og_gw w = {0}, keys = {0};
	uint64_t offset = 0, dims[2];

	nb_keys = og_mw_keys(&keys, m);
	og_gw_head(&w, l.count + nb_factors, nb_keys);
	og_gw_bytes(&w, keys.data, keys.len);
	og_gw_fini(&keys);
	for (uint32_t i = 0; i < nb_factors; i++) {
		dims[0] = m->rope_dims / 2;
		og_gw_tensor(&w, factors[i].name, 1, dims, 0, offset);
		offset = (offset + 4 * dims[0] + 31) / 32 * 32;
	}
	for (uint32_t i = 0; i < l.count; i++) {
		const struct og_mw_tensor *t = &l.items[i];
		enum og_dtype dtype = og_mw_gguf_dtype(m, t);

		dims[0] = t->n_in;
		dims[1] = t->n_out;
		og_gw_tensor(&w, t->gguf, t->n_out > 1 ? 2 : 1, dims, og_gw_type_id(dtype), offset);
		offset = (offset + og_dtype_bytes(dtype, t->n_in) * t->n_out + 31) / 32 * 32;
	}
	for (uint32_t i = 0; i < nb_factors; i++) {
		og_gw_pad(&w, 32);
		og_gw_bytes(&w, factors[i].values, m->rope_dims / 2 * sizeof(float));
	}
	for (uint32_t i = 0; i < l.count; i++) {
		og_gw_pad(&w, 32);
		og_mw_gguf_values(&w, m, &l.items[i], og_mw_gguf_dtype(m, &l.items[i]));
	}
	free(l.items);
	return w;
}

/* ---- A folder ---- */

static inline void og_mw_print(struct og_gw *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static inline void og_mw_print(struct og_gw *w, const char *fmt, ...)
{
	char text[512];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	og_gw_bytes(w, text, (size_t)n);
}

static inline void og_mw_print_factors(
	struct og_gw *w, const struct og_mw *m, const char *key, float (*factor)(uint32_t j))
{
	og_mw_print(w, ",\"%s\":[", key);
	for (uint32_t j = 0; j < m->rope_dims / 2; j++)
		og_mw_print(w, "%s%.9g", j ? "," : "", factor(j));
	og_mw_print(w, "]");
}

/* The members of rope_scaling or rope_parameters. */
static inline void og_mw_print_rope(struct og_gw *w, const struct og_mw *m)
{
	const char *kind = m->llama3 ? "llama3" : m->longrope ? "longrope" : "default";

	og_mw_print(w, "\"rope_type\":\"%s\"", kind);
	if (m->llama3)
		og_mw_print(w,
			",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
			"\"original_max_position_embeddings\":%u",
			m->original_context);
	if (m->longrope) {
		og_mw_print_factors(w, m, "long_factor", og_mw_long_factor);
		og_mw_print_factors(w, m, "short_factor", og_mw_short_factor);
	}
}

static inline void og_mw_print_ropes(struct og_gw *w, const struct og_mw *m)
{
	if (!m->new_spelling) {
		og_mw_print(w, ",\"rope_theta\":%.1f", m->rope_base);
		if (m->rope_base_local > 0)
			og_mw_print(w, ",\"rope_local_base_freq\":%.1f", m->rope_base_local);
		if (m->llama3 || m->longrope) {
			og_mw_print(w, ",\"rope_scaling\":{");
			og_mw_print_rope(w, m);
			og_mw_print(w, "}");
		} else {
			og_mw_print(w, ",\"rope_scaling\":null");
		}
		return;
	}
	og_mw_print(w, ",\"rope_parameters\":{");
	if (m->rope_base_local > 0)
		og_mw_print(w,
			"\"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":%.1f},"
			"\"full_attention\":{",
			m->rope_base_local);
	og_mw_print_rope(w, m);
	og_mw_print(w, ",\"rope_theta\":%.1f}%s", m->rope_base, m->rope_base_local > 0 ? "}" : "");
}

static inline const char *og_mw_dtype_name(enum og_dtype t)
{
	return t == OG_F32 ? "float32" : t == OG_F16 ? "float16" : "bfloat16";
}

static inline struct og_gw og_mw_config(const struct og_mw *m)
{
	struct og_gw w = {0};

	og_mw_print(&w,
		"{\"architectures\":[\"X\"],\"model_type\":\"%s\",\"hidden_size\":%u,"
		"\"intermediate_size\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,"
		"\"num_key_value_heads\":%u,\"rms_norm_eps\":1e-05,\"vocab_size\":%u,"
		"\"max_position_embeddings\":%u,\"eos_token_id\":[%d,%d],\"%s\":\"%s\"",
		m->type, m->width, m->ff, m->layers, m->heads, m->kv_heads, m->vocab, m->context,
		OG_GW_IM_END, OG_GW_ENDOFTEXT, m->new_spelling ? "dtype" : "torch_dtype",
		og_mw_dtype_name(m->folder_dtype));
	if (m->head_dim != m->width / m->heads || m->gemma)
		og_mw_print(&w, ",\"head_dim\":%u", m->head_dim);
	if (m->rope_dims != m->head_dim)
		og_mw_print(
			&w, ",\"partial_rotary_factor\":%.9g", (double)m->rope_dims / m->head_dim);
	og_mw_print(&w, ",\"%s\":\"%s\"", m->gemma ? "hidden_activation" : "hidden_act",
		m->gemma ? "gelu_pytorch_tanh" : "silu");
	og_mw_print(&w, ",\"tie_word_embeddings\":%s", m->tied ? "true" : "false");
	if (m->window)
		og_mw_print(&w, ",\"sliding_window\":%u", m->window);
	if (m->pattern == 6 && !m->new_spelling)
		og_mw_print(&w, ",\"sliding_window_pattern\":%u", m->pattern);
	if (m->pattern && m->new_spelling) {
		og_mw_print(&w, ",\"layer_types\":[");
		for (uint32_t i = 0; i < m->layers; i++)
			og_mw_print(&w, "%s\"%s_attention\"", i ? "," : "",
				(i + 1) % m->pattern ? "sliding" : "full");
		og_mw_print(&w, "]");
	}
	if (m->post_norms)
		og_mw_print(&w, ",\"query_pre_attn_scalar\":%u", m->head_dim);
	if (m->attn_cap > 0)
		og_mw_print(&w, ",\"attn_logit_softcapping\":%.1f,\"final_logit_softcapping\":%.1f",
			m->attn_cap, m->logit_cap);
	if (m->longrope)
		og_mw_print(&w, ",\"original_max_position_embeddings\":%u", m->original_context);
	og_mw_print_ropes(&w, m);
	if (m->fp8 == OG_MW_FP8_TENSOR)
		og_mw_print(&w, ",\"quantization_config\":{\"quant_method\":\"modelopt\","
				"\"quant_algo\":\"FP8\",\"ignore\":[\"lm_head\"]}");
	if (m->fp8 == OG_MW_FP8_ROW)
		og_mw_print(&w, ",\"quantization_config\":{\"quant_method\":"
				"\"compressed-tensors\",\"format\":\"float-quantized\","
				"\"config_groups\":{\"group_0\":{\"weights\":{\"num_bits\":8,"
				"\"type\":\"float\",\"strategy\":\"channel\"}}}}");
	if (m->fp8 == OG_MW_FP8_BLOCK)
		og_mw_print(&w,
			",\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\","
			"\"weight_block_size\":[%d,%d]}",
			OG_MW_BLOCK_ROWS, OG_MW_BLOCK_COLS);
	og_mw_print(&w, "}");
	return w;
}

/* The name of a matrix' scale in the folder. */
static inline void og_mw_scale_name(
	const struct og_mw *m, const struct og_mw_tensor *t, char out[112])
{
	snprintf(out, 112, "%s_scale%s", t->folder, m->fp8 == OG_MW_FP8_BLOCK ? "_inv" : "");
}

/* The scale's entry in a header. */
static inline void og_mw_print_scale(
	struct og_gw *header, const struct og_mw *m, const struct og_mw_tensor *t, uint64_t *at)
{
	struct og_mw_blocks b = og_mw_blocks(m, t);
	uint64_t end = *at + (m->fp8 == OG_MW_FP8_ROW ? 2ull : 4ull) * b.down * b.across;
	char name[112], shape[32];

	og_mw_scale_name(m, t, name);
	snprintf(shape, sizeof(shape), "%u,%u", b.down, b.across);
	og_mw_print(header,
		",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}", name,
		m->fp8 == OG_MW_FP8_ROW ? "BF16" : "F32", m->fp8 == OG_MW_FP8_TENSOR ? "" : shape,
		(unsigned long long)*at, (unsigned long long)end);
	*at = end;
}

/* Codes, and then their scales. */
static inline void og_mw_fp8_bytes(
	struct og_gw *w, const struct og_mw *m, const struct og_mw_tensor *t)
{
	struct og_mw_blocks b = og_mw_blocks(m, t);
	uint8_t *codes = malloc((size_t)t->n_in * t->n_out);
	float *scales = malloc((size_t)b.down * b.across * sizeof(float));

	free(og_mw_values_fp8(m, t, codes, scales));
	og_gw_bytes(w, codes, (size_t)t->n_in * t->n_out);
	og_gw_block(w, m->fp8 == OG_MW_FP8_ROW ? OG_BF16 : OG_F32, scales, b.down * b.across);
	free(codes);
	free(scales);
}

/* Tensors first, first + step, … of the list as one safetensors file. */
static inline struct og_gw og_mw_safetensors(
	const struct og_mw *m, const struct og_mw_list *l, uint32_t first, uint32_t step)
{
	static const char *const types[OG_DTYPES] = {
		[OG_F32] = "F32", [OG_F16] = "F16", [OG_BF16] = "BF16"};
	struct og_gw w = {0}, header = {0};
	uint64_t at = 0;

	og_mw_print(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (uint32_t i = first; i < l->count; i += step) {
		const struct og_mw_tensor *t = &l->items[i];
		bool in_fp8 = og_mw_in_fp8(m, t);
		uint64_t n = (uint64_t)t->n_in * t->n_out;
		uint64_t end = at + (in_fp8 ? n : og_dtype_bytes(m->folder_dtype, n));

		og_mw_print(&header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->folder,
			in_fp8 ? "F8_E4M3" : types[m->folder_dtype]);
		if (t->n_out > 1)
			og_mw_print(&header, "%u,", t->n_out);
		og_mw_print(&header, "%u],\"data_offsets\":[%llu,%llu]}", t->n_in,
			(unsigned long long)at, (unsigned long long)end);
		at = end;
		if (in_fp8)
			og_mw_print_scale(&header, m, t, &at);
	}
	og_mw_print(&header, "}");
	while (header.len % 8 != 0)
		og_mw_print(&header, " ");
	og_gw_u64(&w, header.len);
	og_gw_bytes(&w, header.data, header.len);
	og_gw_fini(&header);
	for (uint32_t i = first; i < l->count; i += step) {
		float *x;

		if (og_mw_in_fp8(m, &l->items[i])) {
			og_mw_fp8_bytes(&w, m, &l->items[i]);
			continue;
		}
		x = og_mw_values(m, &l->items[i]);
		og_gw_block(&w, m->folder_dtype, x, l->items[i].n_in * l->items[i].n_out);
		free(x);
	}
	return w;
}

static inline void og_mw_save(const char *folder, const char *name, const void *data, size_t n)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "wb");
	if (!f || (n > 0 && fwrite(data, 1, n, f) != n) || fclose(f) != 0) {
		perror(path);
		abort();
	}
}

/* Everything but a tokenizer, into an existing folder. */
static inline void og_mw_folder(const struct og_mw *m, const char *folder)
{
	static const char generation[] =
		"{\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.9,\"top_k\":20,"
		"\"eos_token_id\":[265,266]}";
	struct og_mw_list l = og_mw_tensors(m);
	struct og_gw config = og_mw_config(m), index = {0};
	char name[64];

	og_mw_save(folder, "config.json", config.data, config.len);
	og_gw_fini(&config);
	og_mw_save(folder, "generation_config.json", generation, sizeof(generation) - 1);
	og_mw_print(&index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
	for (uint32_t i = 0; i < m->files; i++) {
		struct og_gw w = og_mw_safetensors(m, &l, i, m->files);

		snprintf(name, sizeof(name), "model-%05u-of-%05u.safetensors", i + 1, m->files);
		og_mw_save(folder, m->files > 1 ? name : "model.safetensors", w.data, w.len);
		og_gw_fini(&w);
		for (uint32_t t = i; t < l.count; t += m->files) {
			char scale[112];

			og_mw_print(
				&index, "%s\"%s\":\"%s\"", t ? "," : "", l.items[t].folder, name);
			og_mw_scale_name(m, &l.items[t], scale);
			if (og_mw_in_fp8(m, &l.items[t]))
				og_mw_print(&index, ",\"%s\":\"%s\"", scale, name);
		}
	}
	og_mw_print(&index, "}}");
	if (m->files > 1)
		og_mw_save(folder, "model.safetensors.index.json", index.data, index.len);
	og_gw_fini(&index);
	free(l.items);
}

static inline void og_mw_remove(const char *folder)
{
	static const char *const names[] = {"config.json", "generation_config.json",
		"model.safetensors", "model.safetensors.index.json",
		"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
		"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
		"model-00003-of-00003.safetensors"};
	char path[512];

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
}

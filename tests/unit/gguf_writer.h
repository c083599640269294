/*
 * gguf_writer.h: writes GGUF files for tests: single fields, and whole small models with random
 * weights and a byte-level vocabulary.
 *
 * Memory:  one growing buffer; og_gw_fini() frees it.
 */
#pragma once
#include "base/rand.h"
#include "gpu/gguf.h"
#include "gpu/half.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct og_gw {
	uint8_t *data;
	size_t len;
	size_t cap;
};

static inline void og_gw_bytes(struct og_gw *w, const void *data, size_t n)
{
	if (w->len + n > w->cap) {
		w->cap = 2 * (w->len + n);
		w->data = realloc(w->data, w->cap);
	}
	if (n > 0)
		memcpy(w->data + w->len, data, n);
	w->len += n;
}

static inline void og_gw_u32(struct og_gw *w, uint32_t v)
{
	og_gw_bytes(w, &v, 4);
}

static inline void og_gw_u64(struct og_gw *w, uint64_t v)
{
	og_gw_bytes(w, &v, 8);
}

static inline void og_gw_text(struct og_gw *w, const char *s)
{
	og_gw_u64(w, strlen(s));
	og_gw_bytes(w, s, strlen(s));
}

static inline void og_gw_head(struct og_gw *w, uint64_t nb_tensors, uint64_t nb_kvs)
{
	og_gw_bytes(w, "GGUF", 4);
	og_gw_u32(w, 3);
	og_gw_u64(w, nb_tensors);
	og_gw_u64(w, nb_kvs);
}

static inline void og_gw_kv(struct og_gw *w, const char *key, enum og_gguf_kind kind)
{
	og_gw_text(w, key);
	og_gw_u32(w, kind);
}

static inline void og_gw_kv_u32(struct og_gw *w, const char *key, uint32_t v)
{
	og_gw_kv(w, key, OG_GGUF_U32);
	og_gw_u32(w, v);
}

static inline void og_gw_kv_f32(struct og_gw *w, const char *key, float v)
{
	og_gw_kv(w, key, OG_GGUF_F32);
	og_gw_bytes(w, &v, 4);
}

static inline void og_gw_kv_text(struct og_gw *w, const char *key, const char *v)
{
	og_gw_kv(w, key, OG_GGUF_STRING);
	og_gw_text(w, v);
}

static inline void og_gw_kv_bool(struct og_gw *w, const char *key, bool v)
{
	uint8_t byte = v;

	og_gw_kv(w, key, OG_GGUF_BOOL);
	og_gw_bytes(w, &byte, 1);
}

static inline void og_gw_kv_array(
	struct og_gw *w, const char *key, enum og_gguf_kind item, uint64_t count)
{
	og_gw_kv(w, key, OG_GGUF_ARRAY);
	og_gw_u32(w, item);
	og_gw_u64(w, count);
}

static inline void og_gw_tensor(struct og_gw *w, const char *name, uint32_t nb_dims,
	const uint64_t *dims, uint32_t type, uint64_t offset)
{
	og_gw_text(w, name);
	og_gw_u32(w, nb_dims);
	for (uint32_t i = 0; i < nb_dims; i++)
		og_gw_u64(w, dims[i]);
	og_gw_u32(w, type);
	og_gw_u64(w, offset);
}

static inline void og_gw_pad(struct og_gw *w, size_t alignment)
{
	while (w->len % alignment != 0)
		og_gw_bytes(w, "", 1);
}

static inline void og_gw_fini(struct og_gw *w)
{
	free(w->data);
	memset(w, 0, sizeof(*w));
}

/* Into a file of its own below $TMPDIR; the name goes to `path`. */
static inline void og_gw_save(const struct og_gw *w, char path[64])
{
	int fd;
	FILE *f;

	snprintf(path, 64, "/tmp/og_test_XXXXXX.gguf");
	fd = mkstemps(path, 5);
	f = fd < 0 ? NULL : fdopen(fd, "wb");
	if (!f || fwrite(w->data, 1, w->len, f) != w->len || fclose(f) != 0) {
		perror(path);
		abort();
	}
}

/* ---- A vocabulary: 256 bytes, what the merges make, and special tokens. ---- */

enum {
	OG_GW_MERGED = 256,   /* first merged token */
	OG_GW_IM_START = 264, /* 8 merges */
	OG_GW_IM_END,
	OG_GW_ENDOFTEXT,
	OG_GW_THINK, /* user-defined, not control */
	OG_GW_START_HEADER,
	OG_GW_END_HEADER,
	OG_GW_EOT,
	OG_GW_VOCAB,
};

static const char *const og_gw_merges[8][2] = {{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"},
	{"Ġ", "w"}, {"o", "r"}, {"Ġw", "or"}, {"l", "d"}};

/* GPT-2's character for a byte, in UTF-8. */
static inline void og_gw_byte_char(uint32_t byte, char out[3])
{
	uint32_t c = byte;

	if (byte <= 0x20)
		c = 0x100 + byte;
	else if (byte >= 0x7f && byte <= 0xa0)
		c = 0x121 + byte - 0x7f;
	else if (byte == 0xad)
		c = 0x143;
	memset(out, 0, 3);
	if (c < 0x80) {
		out[0] = (char)c;
	} else {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
	}
}

static inline void og_gw_vocabulary(struct og_gw *w, uint32_t vocab)
{
	static const char *const specials[] = {"<|im_start|>", "<|im_end|>", "<|endoftext|>",
		"<think>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
	char text[64];

	og_gw_kv_array(w, "tokenizer.ggml.tokens", OG_GGUF_STRING, vocab);
	for (uint32_t i = 0; i < vocab; i++) {
		if (i < 256)
			og_gw_byte_char(i, text);
		else if (i < OG_GW_IM_START)
			snprintf(text, sizeof(text), "%s%s", og_gw_merges[i - 256][0],
				og_gw_merges[i - 256][1]);
		else if (i < OG_GW_VOCAB)
			snprintf(text, sizeof(text), "%s", specials[i - OG_GW_IM_START]);
		else
			snprintf(text, sizeof(text), "unused%u", i);
		og_gw_text(w, text);
	}
	og_gw_kv_array(w, "tokenizer.ggml.token_type", OG_GGUF_I32, vocab);
	for (uint32_t i = 0; i < vocab; i++)
		og_gw_u32(w, i < OG_GW_IM_START ? 1
			     : i == OG_GW_THINK ? 4
			     : i < OG_GW_VOCAB  ? 3
						: 5);
	og_gw_kv_array(w, "tokenizer.ggml.merges", OG_GGUF_STRING, 8);
	for (int i = 0; i < 8; i++) {
		snprintf(text, sizeof(text), "%s %s", og_gw_merges[i][0], og_gw_merges[i][1]);
		og_gw_text(w, text);
	}
}

/* ---- A model of the Llama family with random weights. ---- */

struct og_gw_model {
	const char *arch;
	const char *pre;
	const char *chat_template;
	enum og_dtype type; /* of the matrices */
	uint32_t layers, width, heads, kv_heads, head_dim, ff, vocab, context;
	bool biases, tied, rope_factors;
	uint64_t seed;
};

static inline struct og_gw_model og_gw_small(void)
{
	return (struct og_gw_model){.arch = "llama",
		.pre = "qwen2",
		.chat_template =
			"{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + "
			"'<|im_end|>\\n' }}{% endfor %}{{ '<|im_start|>assistant\\n' }}",
		.type = OG_F32,
		.layers = 2,
		.width = 64,
		.heads = 4,
		.kv_heads = 2,
		.head_dim = 16,
		.ff = 96,
		.vocab = 288,
		.context = 128,
		.seed = 1};
}

static inline uint32_t og_gw_type_id(enum og_dtype type)
{
	static const uint32_t ids[OG_DTYPES] = {0, 1, 8, 30, 2, 12, 13, 14};

	return ids[type];
}

static inline float og_gw_normal(struct og_rand *r)
{
	float sum = 0; /* near enough to normal */

	for (int i = 0; i < 4; i++)
		sum += (float)og_rand_below(r, 1 << 20) / (1 << 20) - 0.5f;
	return sum * 1.7320508f;
}

/* The largest magnitude. */
static inline float og_gw_max(const float *x, uint32_t n)
{
	float max = 0;

	for (uint32_t i = 0; i < n; i++)
		max = OG_MAX(max, x[i] < 0 ? -x[i] : x[i]);
	return max;
}

static inline int og_gw_round(float v, int low, int high)
{
	return (int)OG_MAX((float)low, OG_MIN((float)high, v + (v < 0 ? -0.5f : 0.5f)));
}

static inline float og_gw_f16(struct og_gw *w, float v)
{
	uint16_t half = og_f32_to_f16(v);

	og_gw_bytes(w, &half, 2);
	return og_f16_to_f32(half);
}

static inline void og_gw_q8_0(struct og_gw *w, const float *x)
{
	float scale = og_gw_f16(w, og_gw_max(x, 32) / 127);

	for (uint32_t i = 0; i < 32; i++)
		og_gw_bytes(w,
			&(int8_t){(int8_t)og_gw_round(scale > 0 ? x[i] / scale : 0, -127, 127)}, 1);
}

static inline void og_gw_q4_0(struct og_gw *w, const float *x)
{
	float scale = og_gw_f16(w, og_gw_max(x, 32) / 8);
	uint8_t q[16] = {0};

	for (uint32_t i = 0; i < 32; i++)
		q[i % 16] |= (uint8_t)((og_gw_round(scale > 0 ? x[i] / scale : 0, -8, 7) + 8)
				       << (i / 16 * 4));
	og_gw_bytes(w, q, sizeof(q));
}

/*
 * Scales and minima of the parts vary, as in files of real models; the values are then near x, which
 * is all that random weights need.
 */
static inline void og_gw_q45_k(struct og_gw *w, const float *x, bool five)
{
	int top = five ? 31 : 15;
	float max = og_gw_max(x, 256), d = og_gw_f16(w, 2 * max / (float)top / 63),
	      d_min = og_gw_f16(w, max / 63);
	uint8_t scales[12] = {0}, fifth[32] = {0}, nibbles[128] = {0};

	for (uint32_t p = 0; p < 8; p++) {
		float span = og_gw_max(x + 32 * p, 32);
		int sc = og_gw_round(d > 0 ? 2 * span / (float)top / d : 0, 0, 63);
		int mn = og_gw_round(d_min > 0 ? span / d_min : 0, 0, 63);

		scales[p % 4] |= (uint8_t)(p < 4 ? sc : sc >> 4 << 6);
		scales[p % 4 + 4] |= (uint8_t)(p < 4 ? mn : mn >> 4 << 6);
		if (p >= 4)
			scales[p % 4 + 8] = (uint8_t)((sc & 15) | (mn & 15) << 4);
		for (uint32_t i = 0; i < 32; i++) {
			float step = d * (float)sc;
			int q = og_gw_round(
				step > 0 ? (x[32 * p + i] + d_min * (float)mn) / step : 0, 0, top);

			nibbles[p / 2 * 32 + i] |= (uint8_t)((q & 15) << (p % 2 * 4));
			fifth[i] |= (uint8_t)(q >> 4 << p);
		}
	}
	og_gw_bytes(w, scales, sizeof(scales));
	if (five)
		og_gw_bytes(w, fifth, sizeof(fifth));
	og_gw_bytes(w, nibbles, sizeof(nibbles));
}

static inline void og_gw_q6_k(struct og_gw *w, const float *x)
{
	uint8_t nibbles[128] = {0}, upper[64] = {0};
	int8_t scales[16];
	float d = og_f16_to_f32(og_f32_to_f16(og_gw_max(x, 256) / 32 / 127));

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t half = i / 128, quarter = i / 32 % 4;
		int q;

		if (i % 16 == 0) /* every second one negative, to try that too */
			scales[i / 16] =
				(int8_t)((i / 16 % 2 ? -1 : 1) *
					 og_gw_round(d > 0 ? og_gw_max(x + i, 16) / 31 / d : 0, 1,
						 127));
		q = og_gw_round(d > 0 ? x[i] / (d * scales[i / 16]) : 0, -32, 31) + 32;
		nibbles[half * 64 + quarter % 2 * 32 + i % 32] |=
			(uint8_t)((q & 15) << (quarter / 2 * 4));
		upper[half * 32 + i % 32] |= (uint8_t)(q >> 4 << (2 * quarter));
	}
	og_gw_bytes(w, nibbles, sizeof(nibbles));
	og_gw_bytes(w, upper, sizeof(upper));
	og_gw_bytes(w, scales, sizeof(scales));
	(void)og_gw_f16(w, d);
}

/* One block, or n values of a plain type. */
static inline void og_gw_block(struct og_gw *w, enum og_dtype type, const float *x, uint32_t n)
{
	uint16_t half;

	if (type == OG_F32)
		og_gw_bytes(w, x, 4 * (size_t)n);
	for (uint32_t i = 0; i < n && (type == OG_F16 || type == OG_BF16); i++) {
		half = type == OG_F16 ? og_f32_to_f16(x[i]) : og_f32_to_bf16(x[i]);
		og_gw_bytes(w, &half, 2);
	}
	if (type == OG_Q8_0)
		og_gw_q8_0(w, x);
	if (type == OG_Q4_0)
		og_gw_q4_0(w, x);
	if (type == OG_Q4_K || type == OG_Q5_K)
		og_gw_q45_k(w, x, type == OG_Q5_K);
	if (type == OG_Q6_K)
		og_gw_q6_k(w, x);
}

struct og_gw_plan {
	char name[48];
	uint64_t dims[2];
	enum og_dtype type;
	float scale; /* of the values; for norms they lie around 1 */
	bool norm;
};

static inline uint32_t og_gw_plan_add(struct og_gw_plan *plan, uint32_t n, const char *name,
	uint64_t n_in, uint64_t n_out, enum og_dtype type, float scale)
{
	struct og_gw_plan *p = &plan[n];

	snprintf(p->name, sizeof(p->name), "%s", name);
	p->dims[0] = n_in;
	p->dims[1] = n_out;
	p->type = type;
	p->scale = scale;
	p->norm = strstr(name, "norm") || strstr(name, "rope_freqs");
	return n + 1;
}

static inline uint32_t og_gw_plan_model(struct og_gw_plan *plan, const struct og_gw_model *m)
{
	uint32_t n = 0, q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
	/* Scaled so that logits spread over a few units: flat ones would hide errors. */
	float in = 1.0f / __builtin_sqrtf((float)m->width);
	char name[48];

	n = og_gw_plan_add(
		plan, n, "token_embd.weight", m->width, m->vocab, m->type, m->tied ? 0.3f : 1.0f);
	n = og_gw_plan_add(plan, n, "output_norm.weight", m->width, 1, OG_F32, 0.2f);
	if (!m->tied)
		n = og_gw_plan_add(plan, n, "output.weight", m->width, m->vocab, m->type, 3 * in);
	if (m->rope_factors)
		n = og_gw_plan_add(plan, n, "rope_freqs.weight", m->head_dim / 2, 1, OG_F32, 0.3f);
	for (uint32_t i = 0; i < m->layers; i++) {
		const struct {
			const char *part;
			uint64_t n_in, n_out;
			enum og_dtype type;
			float scale;
		} parts[] = {
			{"attn_norm.weight", m->width, 1, OG_F32, 0.2f},
			{"attn_q.weight", m->width, q, m->type, 2 * in},
			{"attn_k.weight", m->width, kv, m->type, 2 * in},
			{"attn_v.weight", m->width, kv, m->type, in},
			{"attn_output.weight", q, m->width, m->type,
				1.0f / __builtin_sqrtf((float)q)},
			{"ffn_norm.weight", m->width, 1, OG_F32, 0.2f},
			{"ffn_gate.weight", m->width, m->ff, m->type, 2 * in},
			{"ffn_up.weight", m->width, m->ff, m->type, in},
			{"ffn_down.weight", m->ff, m->width, m->type,
				1.0f / __builtin_sqrtf((float)m->ff)},
			{"attn_q.bias", q, 1, OG_F32, 0.3f},
			{"attn_k.bias", kv, 1, OG_F32, 0.3f},
			{"attn_v.bias", kv, 1, OG_F32, 0.3f},
		};

		for (size_t p = 0; p < OG_ARRAY_LEN(parts) - (m->biases ? 0 : 3); p++) {
			snprintf(name, sizeof(name), "blk.%u.%s", i, parts[p].part);
			n = og_gw_plan_add(plan, n, name, parts[p].n_in, parts[p].n_out,
				parts[p].type, parts[p].scale);
		}
	}
	return n;
}

static inline void og_gw_key(
	struct og_gw *w, const struct og_gw_model *m, const char *key, uint32_t value)
{
	char name[96];

	snprintf(name, sizeof(name), "%s.%s", m->arch, key);
	og_gw_kv_u32(w, name, value);
}

static inline uint64_t og_gw_plan_bytes(const struct og_gw_plan *p)
{
	return og_dtype_bytes(p->type, p->dims[0]) * p->dims[1];
}

static inline void og_gw_weights(struct og_gw *w, const struct og_gw_plan *p, struct og_rand *r)
{
	float x[256];
	uint32_t block = OG_MAX(og_dtype_values(p->type), 32u);

	for (uint64_t left = p->dims[0] * p->dims[1], n; left > 0; left -= n) {
		n = OG_MIN(left, block);
		for (uint64_t i = 0; i < n; i++)
			x[i] = og_gw_normal(r) * p->scale + (p->norm ? 1.0f : 0.0f);
		og_gw_block(w, p->type, x, (uint32_t)n);
	}
}

/* All before the weights, which lie in the order of the plan, each at a multiple of 32. */
static inline struct og_gw og_gw_model_head(
	const struct og_gw_model *m, const struct og_gw_plan *plan, uint32_t nb_tensors)
{
	uint64_t offset = 0;
	struct og_gw w = {0};
	char name[96];

	og_gw_head(&w, nb_tensors, 17);
	og_gw_kv_text(&w, "general.architecture", m->arch);
	og_gw_key(&w, m, "block_count", m->layers);
	og_gw_key(&w, m, "embedding_length", m->width);
	og_gw_key(&w, m, "feed_forward_length", m->ff);
	og_gw_key(&w, m, "context_length", m->context);
	og_gw_key(&w, m, "attention.head_count", m->heads);
	og_gw_key(&w, m, "attention.head_count_kv", m->kv_heads);
	og_gw_key(&w, m, "attention.key_length", m->head_dim);
	og_gw_key(&w, m, "attention.value_length", m->head_dim);
	snprintf(name, sizeof(name), "%s.attention.layer_norm_rms_epsilon", m->arch);
	og_gw_kv_f32(&w, name, 1e-5f);
	og_gw_kv_text(&w, "tokenizer.ggml.model", "gpt2");
	og_gw_kv_text(&w, "tokenizer.ggml.pre", m->pre);
	og_gw_vocabulary(&w, m->vocab); /* three keys */
	og_gw_kv_u32(&w, "tokenizer.ggml.eos_token_id", OG_GW_IM_END);
	og_gw_kv_text(&w, "tokenizer.chat_template", m->chat_template);
	for (uint32_t i = 0; i < nb_tensors; i++) {
		og_gw_tensor(&w, plan[i].name, plan[i].dims[1] > 1 ? 2 : 1, plan[i].dims,
			og_gw_type_id(plan[i].type), offset);
		offset = (offset + og_gw_plan_bytes(&plan[i]) + 31) / 32 * 32;
	}
	return w;
}

/* The caller frees it. */
static inline struct og_gw_plan *og_gw_model_plan(const struct og_gw_model *m, uint32_t *nb_tensors)
{
	struct og_gw_plan *plan = calloc(4 + 12 * (size_t)m->layers, sizeof(*plan));

	*nb_tensors = og_gw_plan_model(plan, m);
	return plan;
}

/* The whole file. The caller frees it with og_gw_fini(). */
static inline struct og_gw og_gw_model_file(const struct og_gw_model *m)
{
	uint32_t nb_tensors;
	struct og_gw_plan *plan = og_gw_model_plan(m, &nb_tensors);
	struct og_gw w = og_gw_model_head(m, plan, nb_tensors);
	struct og_rand r;

	og_rand_seeded(&r, m->seed);
	for (uint32_t i = 0; i < nb_tensors; i++) {
		og_gw_pad(&w, 32);
		og_gw_weights(&w, &plan[i], &r);
	}
	free(plan);
	return w;
}

/*
 * hparams.h: the shape of a model and the variations of its family, whichever file described it.
 *
 * The base is the Llama block: RMS norm, rotated queries and keys, grouped key-value heads, a gated
 * feed-forward layer. Every difference of a family from it is a field here or an optional weight
 * (model.h), so the forward pass knows no families.
 *
 * Source:  GGUF keys of llama.cpp's architectures llama, qwen2, qwen3, phi3, gemma, gemma2, gemma3;
 *          config.json of transformers 4 and 5 for the model types in hparams.c.
 * Units:   shapes in values; positions and windows in tokens.
 * Threads: a value.
 */
#pragma once
#include "gpu/gguf.h"
#include "gpu/json.h"

enum {
	OG_MODEL_LAYERS_MAX = 512,
	OG_MODEL_WIDTH_MAX = 64 * 1024,
	OG_MODEL_FF_WIDTH_MAX = 1024 * 1024,
	OG_MODEL_HEADS_MAX = 1024,
	OG_MODEL_HEAD_DIM_MAX = 512,
	OG_MODEL_CONTEXT_MAX = 16 * 1024 * 1024,
	OG_MODEL_EOS_MAX = 8,
};

enum og_activation { OG_ACT_SILU, OG_ACT_GELU_TANH };

/* How positions turn into rotations: pair j by pos / (base^(2j / rope_dims) * factors[j]). */
struct og_rope {
	float base;
	float magnitude; /* of rotated values: 1 but for yarn and longrope */
	bool has_long;
	float factors[OG_MODEL_HEAD_DIM_MAX / 2];
	float long_factors[OG_MODEL_HEAD_DIM_MAX / 2]; /* in their place beyond original_context */
};

struct og_hparams {
	uint32_t nb_layers;
	uint32_t width; /* of the residual stream */
	uint32_t ff_width;
	uint32_t nb_heads;
	uint32_t nb_kv_heads; /* divides nb_heads */
	uint32_t head_dim;    /* even */
	uint32_t rope_dims;   /* even, at most head_dim: the leading part of a head is rotated */
	uint32_t context;     /* tokens the model was trained for */
	uint32_t vocab;
	float norm_eps;
	float norm_add;    /* to the weights of norms as they are stored: 1 for Gemma's folders */
	float embed_scale; /* of embeddings on their way in */
	float attn_scale;  /* of query-key products */
	float attn_cap;    /* scores are cap * tanh(score / cap); 0: as they are */
	float logit_cap;   /* the same for logits */
	enum og_activation activation;
	/* Which values form a rotated pair: (i, i + rope_dims/2), otherwise (2i, 2i + 1). */
	bool rope_halves;
	bool qk_norm;     /* each head of queries and keys has a norm before rotation */
	bool post_norms;  /* what a block adds to the stream has a norm of its own */
	bool tied_always; /* the output is the embedding, as in every model of the family */
	uint32_t original_context; /* longer contexts take rope's long_factors */
	uint32_t window;           /* positions that windowed layers see, their own included */
	bool windowed[OG_MODEL_LAYERS_MAX];
	struct og_rope rope[2]; /* of layers without and with a window */
	uint32_t fp8_block[2];  /* of weights in e4m3 with a scale each: rows, columns; 0: none */
};

/* What generation_config.json and config.json say about the end of an answer and about sampling. */
struct og_generation {
	uint32_t eos[OG_MODEL_EOS_MAX];
	uint32_t nb_eos;
	bool has_sampling; /* the fields below are set; do_sample is true */
	float temperature;
	float top_p;
	uint32_t top_k; /* 0: off */
};

/*
 * The shape that a file claims, all of it in range but for the vocabulary, which follows from the
 * tensors in GGUF. Return 0 or -EBADMSG / -EOPNOTSUPP with a sentence that starts with `file`.
 */
int og_hparams_read_gguf(struct og_hparams *hp, const char *file, const struct og_gguf *g,
	char *err, size_t err_bytes) OG_MUST_CHECK;
int og_hparams_read_config(struct og_hparams *hp, const char *file, const struct og_json *config,
	char *err, size_t err_bytes) OG_MUST_CHECK;

/*
 * Add what a config.json or generation_config.json says; what the later call finds replaces what the
 * earlier one found. Returns 0 or -EBADMSG with a sentence.
 */
int og_generation_read(struct og_generation *g, const char *file, const struct og_json *config,
	char *err, size_t err_bytes) OG_MUST_CHECK;

/* The frequencies of rope_dims / 2 pairs, in radians per position, for sequences up to `context`. */
void og_rope_freqs(
	const struct og_hparams *hp, const struct og_rope *r, uint32_t context, float *out);

/* Positions below this are not seen from `pos` in that layer. */
static inline uint32_t og_window_start(const struct og_hparams *hp, uint32_t layer, uint32_t pos)
{
	return hp->windowed[layer] && pos >= hp->window ? pos + 1 - hp->window : 0;
}

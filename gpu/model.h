/*
 * model.h: a loaded model: its shape, its weights and the header they came with.
 *
 * Source:  GGUF keys and tensor names of architectures `llama` and `qwen2`.
 * Units:   shapes in values; a weight has n_out rows of n_in values.
 * Threads: immutable once open.
 * Memory:  owns the header and the weights; everything else points into them. Ranges and types are
 *          checked at open, so users of the struct need not.
 */
#pragma once
#include "gpu/gguf.h"
#include "gpu/loader.h"

enum {
	OG_MODEL_LAYERS_MAX = 512,
	OG_MODEL_WIDTH_MAX = 64 * 1024,
	OG_MODEL_FF_WIDTH_MAX = 1024 * 1024,
	OG_MODEL_HEADS_MAX = 1024,
	OG_MODEL_HEAD_DIM_MAX = 512,
	OG_MODEL_CONTEXT_MAX = 16 * 1024 * 1024,
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
	float rope_base;
	float rope_scale; /* positions are multiplied by it */
	/* Which values form a rotated pair: (i, i + rope_dims/2), otherwise (2i, 2i + 1). */
	bool rope_halves;
};

struct og_weight {
	const uint8_t *data;
	enum og_dtype type;
	uint32_t n_in;
	uint32_t n_out;
	size_t row_bytes;
};

struct og_layer {
	const float *attn_norm;
	struct og_weight q, k, v, o;
	const float *q_bias, *k_bias, *v_bias; /* NULL without */
	const float *ffn_norm;
	struct og_weight gate, up, down;
};

struct og_model {
	struct og_hparams hp;
	struct og_weight embedding;
	struct og_weight output; /* the embedding where the model ties them */
	const float *output_norm;
	const float *rope_factors; /* rope_dims/2 divisors of the frequencies, or NULL */
	struct og_layer *layers;
	uint64_t weight_bytes;
	struct og_gguf gguf;
	uint8_t *header;
	struct og_arena arena;
};

/* The shape that the metadata claims. Returns 0 or -EBADMSG / -EOPNOTSUPP with a sentence. */
int og_hparams_read(struct og_hparams *hp, const char *file, const struct og_gguf *g, char *err,
	size_t err_bytes) OG_MUST_CHECK;

/*
 * Read and check the file, then load its weights. Returns 0 or a negative errno with a sentence in
 * `err`. `load` and `progress` may be NULL. The caller owes og_model_close().
 */
int og_model_open(struct og_model **out, const char *path, const struct og_load_opts *load,
	struct og_load_progress *progress, char *err, size_t err_bytes) OG_MUST_CHECK;
void og_model_close(struct og_model *m);

/* Row `row` as plain floats; out has n_in of them. */
void og_weight_row(const struct og_weight *w, uint32_t row, float *out);

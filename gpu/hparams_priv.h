/*
 * hparams_priv.h: what both readers of shapes share.
 */
#pragma once
#include "gpu/complain.h"
#include "gpu/hparams.h"

struct og_family {
	const char *gguf;   /* architecture */
	const char *config; /* model_type */
	bool gguf_pairs;    /* its GGUF files have rotated pairs side by side */
	bool qk_norm;
	bool gemma; /* embeddings scaled, norms around 0, GELU, one matrix in and out */
	bool post_norms;
	uint32_t pattern; /* every n-th layer is without a window; 0: windows are for all */
	float attn_cap;   /* of the family, unless the file has its own */
	float logit_cap;
	float window_base;       /* rope's base of windowed layers; 0: that of all */
	uint32_t largest_layers; /* with so many layers, scores are scaled by width / heads */
};

extern const struct og_family og_families[];
extern const uint32_t og_nb_families;

/* What the family says by itself. */
void og_hparams_init(struct og_hparams *hp, const struct og_family *f);
/* Before anything is computed from the heads. */
void og_hparams_check_heads(const struct og_hparams *hp, struct og_complaint *c);
/* After the shape is known: checks what depends on several fields, sets what follows from them. */
void og_hparams_finish(struct og_hparams *hp, const struct og_family *f, struct og_complaint *c);

/* Rope scaling of published kinds, as divisors of frequencies. */
struct og_rope_scaling {
	float factor;
	float low_freq, high_freq;  /* llama3 */
	float beta_fast, beta_slow; /* yarn */
	float attention_factor;     /* 0: what the kind computes */
	uint32_t original_context;
};
void og_rope_plain(struct og_rope *r, float base);
void og_rope_linear(struct og_rope *r, float factor);
void og_rope_llama3(struct og_rope *r, uint32_t dims, const struct og_rope_scaling *s);
void og_rope_yarn(struct og_rope *r, uint32_t dims, const struct og_rope_scaling *s);

/*
 * forward.h: the forward pass written for reading: plain loops in 32-bit floats, one token after
 * the other, no cache but its own. Tests hold the back ends against it.
 *
 * Memory:  allocates and frees what it needs.
 */
#pragma once
#include "gpu/model.h"

/* logits (count, vocab) of each of the tokens, each seeing those before it. Returns 0 or -ENOMEM. */
int og_ref_forward(const struct og_model *m, const uint32_t *tokens, uint32_t count,
	float *logits) OG_MUST_CHECK;
/* The same as PyTorch computes it in bf16: what each operation gives is rounded. For tests of error. */
int og_ref_forward_bf16(const struct og_model *m, const uint32_t *tokens, uint32_t count,
	float *logits) OG_MUST_CHECK;
/*
 * As the first, but with what the back ends round to e4m3 rounded like that: the matrices of layers, by
 * rows; keys and values, by heads.
 */
struct og_ref_fp8 {
	bool weights, kv;
};
int og_ref_forward_fp8(const struct og_model *m, const uint32_t *tokens, uint32_t count,
	float *logits, struct og_ref_fp8 fp8) OG_MUST_CHECK;
/* As the first, and the residual stream before the first layer and after each: (layers + 1, count, width). */
int og_ref_forward_layers(const struct og_model *m, const uint32_t *tokens, uint32_t count,
	float *logits, float *stream) OG_MUST_CHECK;

/*
 * kernels.h: launches of the kernels by what they compute. Shapes are checked by who calls.
 *
 * All are asynchronous on the device's stream, in order with each other: arguments stay alive until
 * it has passed them. Activations have rows up to a multiple of OG_CUDA_ROW_PAD; those from nb_rows
 * on may hold anything finite or not, they reach no result.
 *
 * Reference: gpu/ref; tests/gpu/cuda_check.c states the tolerances.
 */
#pragma once
#include "gpu/cuda/device.h"
#include "gpu/cuda/shapes.h"
#include "gpu/cuda/weights.h"

/* Which kernel multiplies: AUTO picks by shape, all give the same bits. For tests and benches. */
enum og_cuda_matmul {
	OG_CUDA_MATMUL_AUTO,
	OG_CUDA_MATMUL_SKINNY, /* up to OG_CUDA_SKINNY_ROWS rows */
	OG_CUDA_MATMUL_TILED_64,
	OG_CUDA_MATMUL_TILED_128,
};

/*
 * out[row][col] = sum_i x[row][i] * w[col][i], for cols below w->n_out and rows below nb_rows.
 *   x (rows, w->kp) bf16; w bf16, or e4m3 with scales; out (rows, ld): f32 for STORE and ADD, bf16
 *   for the others, which take w as turns of gate and up. out does not alias x or w.
 */
struct og_cuda_product {
	const struct og_cuda_matrix *w;
	CUdeviceptr x, out;
	uint32_t nb_rows, ld;
	enum og_cuda_epilogue epilogue;
	enum og_cuda_matmul how;
};
int og_cuda_multiply(struct og_cuda_device *d, const struct og_cuda_product *p) OG_MUST_CHECK;

/* Has it pairs of gate and up? */
static inline bool og_cuda_is_gated(enum og_cuda_epilogue epilogue)
{
	return epilogue == OG_CUDA_SWIGLU || epilogue == OG_CUDA_GEGLU;
}

/* Rows of w that are multiplied: of pairs, twice as many, in whole turns. */
static inline uint32_t og_cuda_product_cols(const struct og_cuda_product *p)
{
	return og_cuda_is_gated(p->epilogue) ? 2 * og_cuda_pad(p->w->n_out, OG_CUDA_GATE_ROWS)
					     : p->w->n_out;
}

/* The parameter of the attention kernels, laid out as in attention.cuh. */
struct og_cuda_attention {
	CUdeviceptr q, kv, tiles, tables, out, mixes, states;
	uint32_t kp, nb_splits;
};

/*
 * out (rows, kp) bf16. With `serial` each block goes over all its splits; else one block per split
 * leaves (rows, heads, nb_splits, padded_dim) f32 in mixes and (rows, heads, nb_splits) pairs of f32
 * in states, and a second kernel merges. The same bits either way.
 */
int og_cuda_attend(struct og_cuda_device *d, const struct og_cuda_attention *a,
	const struct og_cuda_heads *s, CUdeviceptr rows, uint32_t nb_rows, uint32_t nb_tiles,
	bool serial) OG_MUST_CHECK;

/*
 * Row b of logits (nb_rows, vocab) f32 yields a token as draws[b] says: to drawn[slot], for a step
 * behind this one, and to word `result` of `results`, pinned memory, with `number` as its upper half.
 * OG_CUDA_NO_TOKEN where no logit is a number. As many blocks draw from a row as there are processors
 * for, if it is long; `scratch` is one og_cuda_draw_scratch for each row.
 *
 * Reference: og_sampler_draw(), the same token.
 */
struct og_cuda_drawing {
	CUdeviceptr logits, draws, drawn, scratch;
	uint64_t *results;
	uint32_t nb_rows, vocab, number;
	uint32_t nb_blocks; /* for a row, the same tokens with any; 0: by shape. For tests */
};
int og_cuda_draw_tokens(struct og_cuda_device *d, const struct og_cuda_drawing *g) OG_MUST_CHECK;

/*
 * weights.h: the weights of a model on the device: one arena, matrices as views of it.
 *
 * Whatever type a matrix has in the file, on the device it is bf16, padded as shapes.h says: Q8_0,
 * F16 and F32 lose what bf16 cannot hold. Types of smaller blocks become f32 on the host first. q, k
 * and v are one matrix, and so are gate and up, in turns of 16 rows. Norms and biases stay f32.
 *
 * If asked for, the matrices of layers are e4m3 (gpu/fp8.h) instead, with a scale of each row in f32
 * that makes its largest value the largest code: half the bytes. The embedding and what gives the
 * logits stay bf16: they are few bytes of a large model, and the rows that decide.
 *
 * Threads: one engine thread.
 * Memory:  the arena is allocated at upload; how the weights get there is upload.h's.
 */
#pragma once
#include "gpu/cuda/device.h"
#include "gpu/cuda/shapes.h"
#include "gpu/model.h"

struct og_cuda_matrix {
	CUdeviceptr data;
	CUdeviceptr scales; /* (rows) f32: then data is e4m3; 0: it is bf16 */
	uint32_t kp;        /* values from row to row */
	uint32_t n_out;     /* rows that mean something; of pairs, how many pairs */
	uint32_t rows;      /* that exist: a multiple of OG_CUDA_ROW_PAD */
};

struct og_cuda_layer {
	CUdeviceptr attn_norm, ffn_norm;
	/* 0 without: */
	CUdeviceptr qkv_bias, o_bias;
	CUdeviceptr q_norm, k_norm;
	CUdeviceptr attn_post_norm, ffn_post_norm;
	struct og_cuda_matrix qkv, o, gate_up, down;
};

struct og_cuda_weights {
	CUdeviceptr arena;
	size_t arena_bytes;
	bool in_fp8; /* set by the caller: what matrices of layers shall be */
	struct og_cuda_matrix embedding, output;
	CUdeviceptr output_norm;
	struct og_cuda_layer *layers;
};

static inline uint32_t og_cuda_pad(uint32_t n, uint32_t to)
{
	return (n + to - 1) / to * to;
}

/* Device bytes that the weights will take. */
uint64_t og_cuda_weights_bytes(const struct og_model *m, bool in_fp8);
/* Returns 0 or a negative errno; og_cuda_weights_fini() also after a failure. */
int og_cuda_weights_upload(struct og_cuda_weights *w, struct og_cuda_device *d,
	const struct og_model *m) OG_MUST_CHECK;
/* The same shapes with random values made on the device; the model's data is not read. For benches. */
int og_cuda_weights_random(struct og_cuda_weights *w, struct og_cuda_device *d,
	const struct og_model *m) OG_MUST_CHECK;
void og_cuda_weights_fini(struct og_cuda_weights *w, struct og_cuda_device *d);

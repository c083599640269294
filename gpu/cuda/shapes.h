/*
 * shapes.h: what the host code and the kernels of the CUDA back end agree on.
 *
 * Matrices are bf16 or e4m3 in rows of n_in values, padded with zeros to a multiple of OG_CUDA_K_STEP;
 * the number of rows is padded to a multiple of OG_CUDA_ROW_PAD, and so is that of activations, so no
 * kernel guards its loads. A sum over n_in is always taken the same way, whatever the kernel: cut in
 * OG_CUDA_SLICES runs of steps, each summed in order by the tensor core, and the runs added in order.
 * Therefore a row's result does not depend on how many rows are computed with it.
 *
 * Compiles as C11 and C++17.
 */
#pragma once
#include "gpu/draw.h"

#include <stdint.h>

enum {
	OG_CUDA_K_STEP = 64,
	OG_CUDA_SLICES = 8,
	OG_CUDA_ROW_PAD = 128,
	OG_CUDA_SKINNY_ROWS = 64,  /* up to so many rows the skinny kernels serve */
	OG_CUDA_BLOCK_TOKENS = 64, /* of attention: a page */
	OG_CUDA_SPLIT_BLOCKS =
		4, /* attention is cut in splits of so many blocks, and merged in order */
	OG_CUDA_TILE_QUERIES = 64, /* of one key-value head: tokens times query heads */
	OG_CUDA_HEAD_DIM_MAX = 256,
	OG_CUDA_HEAD_DIM_FP8_MAX = 128, /* where keys and values are e4m3 */
	OG_CUDA_NO_WINDOW = 1 << 30,
	OG_CUDA_GATE_ROWS = 16, /* gate and up are one matrix, in turns of so many rows */
	OG_CUDA_DRAW_THREADS = 512,
	OG_CUDA_DRAW_BLOCKS_MAX = 32, /* that draw from one row */
};

#define OG_CUDA_DRAWN (1u << 31)           /* of a row's token: the last of the slot below it */
#define OG_CUDA_NO_TOKEN (UINT32_MAX - 1u) /* no logit is a number */

/*
 * What becomes of a product: out[row][col] in f32, added to it, or silu(gate) * up, or gelu(gate) * up,
 * in bf16.
 */
enum og_cuda_epilogue { OG_CUDA_STORE, OG_CUDA_ADD, OG_CUDA_SWIGLU, OG_CUDA_GEGLU };

/* Element types of weights in the file, numbered as enum og_dtype (gpu/gguf.h) is. */
enum og_cuda_type { OG_CUDA_F32, OG_CUDA_F16, OG_CUDA_Q8_0, OG_CUDA_BF16 };

/* A row of the batch on the device. */
struct og_cuda_row {
	uint32_t token;
	uint32_t pos;
	uint32_t table; /* its sequence's pages start there in the tables */
	uint32_t tile;  /* index of its og_cuda_tile */
};

/* A row that draws, on the device. */
struct og_cuda_draw {
	struct og_draw how;
	uint32_t slot;
	uint32_t result; /* index of its word in host memory */
};

/* Where the blocks that draw from one row meet; zero before the first launch, and left as it was. */
struct og_cuda_draw_scratch {
	uint32_t nb_arrived;
	uint32_t unused[31];
	uint64_t sums[2][OG_CUDA_DRAW_BLOCKS_MAX][8];
};

/* Rows of one sequence at consecutive positions, computed together by attention. */
struct og_cuda_tile {
	uint32_t first_row;
	uint32_t nb_rows;
	uint32_t pos; /* of the first row */
	uint32_t table;
};

/*
 * The shape of attention and of a page: (layer, kv_head, {key, value}, token, head_dim) in fp16, or in
 * e4m3, and then behind the 64 tokens' codes of a key or value their 64 scales in fp16. Below, values
 * are of two bytes or of one.
 */
struct og_cuda_heads {
	uint32_t nb_heads;
	uint32_t nb_kv_heads;
	uint32_t head_dim;
	uint32_t padded_dim; /* 32, 64, 128 or 256: of a query in device memory */
	uint32_t rope_dims;
	uint32_t rope_halves;
	uint32_t layer;
	uint32_t in_e4m3;
	uint32_t is_vector; /* a head is a multiple of 16 bytes: pages are read so many at a time */
	uint32_t window; /* positions that are seen, the own one included; OG_CUDA_NO_WINDOW: all */
	float cap;       /* scores are cap * tanh(score / cap), as powers of two; 0: as they are */
	uint64_t page_values;
	uint64_t layer_values;
	uint64_t head_values; /* of one head's keys */
};

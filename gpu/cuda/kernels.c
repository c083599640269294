#include "gpu/cuda/kernels.h"

#include <assert.h>
#include <errno.h>

enum {
	MATMUL_THREADS = 256,
	ATTENTION_THREADS = 128,
	SCALES_BYTES = 2 * OG_CUDA_BLOCK_TOKENS,
	STAGE_ROW_BYTES = 3 * OG_CUDA_K_STEP * 2, /* three stages of a row of a tile */
};

static_assert(sizeof(struct og_cuda_attention) == 64, "as struct attention_args");
static_assert(sizeof(struct og_cuda_heads) == 72, "as in the kernels");
static_assert(sizeof(struct og_cuda_draw) == 40, "as in the kernels");

static uint32_t blocks(uint32_t n, uint32_t per_block)
{
	return (n + per_block - 1) / per_block;
}

/* 16 columns per block where 32 would leave processors idle; pairs need 32. */
static enum og_cuda_kernel skinny_kernel(
	const struct og_cuda_device *d, const struct og_cuda_product *p, uint32_t *cols)
{
	bool is_wide = og_cuda_is_gated(p->epilogue) ||
		       og_cuda_product_cols(p) >= 64u * (uint32_t)d->nb_processors;

	*cols = 32;
	if (p->nb_rows > 32)
		return OG_K_matmul_64x32;
	if (p->nb_rows > 16)
		return OG_K_matmul_32x32;
	if (!is_wide)
		*cols = 16;
	if (p->nb_rows > 8)
		return is_wide ? OG_K_matmul_16x32 : OG_K_matmul_16x16;
	return is_wide ? OG_K_matmul_8x32 : OG_K_matmul_8x16;
}

static enum og_cuda_matmul choose(const struct og_cuda_device *d, const struct og_cuda_product *p)
{
	uint32_t tiles = blocks(og_cuda_product_cols(p), 128) * blocks(p->nb_rows, 128);

	if (p->how != OG_CUDA_MATMUL_AUTO)
		return p->how;
	if (p->nb_rows <= OG_CUDA_SKINNY_ROWS)
		return OG_CUDA_MATMUL_SKINNY;
	return tiles >= (uint32_t)d->nb_processors ? OG_CUDA_MATMUL_TILED_128
						   : OG_CUDA_MATMUL_TILED_64;
}

/* The same kernel for the weights' type. */
static enum og_cuda_kernel for_type(enum og_cuda_kernel kernel, const struct og_cuda_matrix *w)
{
	return w->scales ? kernel + (OG_K_matmul_8x16_e4m3 - OG_K_matmul_8x16) : kernel;
}

int og_cuda_multiply(struct og_cuda_device *d, const struct og_cuda_product *p)
{
	CUdeviceptr w = p->w->data, x = p->x, out = p->out, scales = p->w->scales;
	uint32_t kp = p->w->kp, nb_rows = p->nb_rows, n_out = p->w->n_out, ld = p->ld, cols;
	int epilogue = (int)p->epilogue;
	void *args[] = {&w, &x, &out, &kp, &nb_rows, &n_out, &ld, &epilogue, &scales};
	enum og_cuda_kernel kernel;

	switch (choose(d, p)) {
	case OG_CUDA_MATMUL_SKINNY:
		if (nb_rows > OG_CUDA_SKINNY_ROWS)
			return -EINVAL;
		kernel = skinny_kernel(d, p, &cols);
		return og_cuda_launch(d, d->stream, for_type(kernel, p->w),
			(struct og_cuda_grid){
				blocks(og_cuda_product_cols(p), cols), 1, 1, MATMUL_THREADS, 0},
			args);
	case OG_CUDA_MATMUL_TILED_64:
		return og_cuda_launch(d, d->stream, for_type(OG_K_matmul_64x64, p->w),
			(struct og_cuda_grid){blocks(nb_rows, 64),
				blocks(og_cuda_product_cols(p), 64), 1, MATMUL_THREADS,
				(64 + 64) * STAGE_ROW_BYTES},
			args);
	default:
		return og_cuda_launch(d, d->stream, for_type(OG_K_matmul_128x128, p->w),
			(struct og_cuda_grid){blocks(nb_rows, 128),
				blocks(og_cuda_product_cols(p), 128), 1, MATMUL_THREADS,
				(128 + 128) * STAGE_ROW_BYTES},
			args);
	}
}

int og_cuda_attend(struct og_cuda_device *d, const struct og_cuda_attention *a,
	const struct og_cuda_heads *s, CUdeviceptr rows, uint32_t nb_rows, uint32_t nb_tiles,
	bool serial)
{
	static const enum og_cuda_kernel kernels[2][4][2] = {
		{{OG_K_attention_split_32, OG_K_attention_serial_32},
			{OG_K_attention_split_64, OG_K_attention_serial_64},
			{OG_K_attention_split_128, OG_K_attention_serial_128},
			{OG_K_attention_split_256, OG_K_attention_serial_256}},
		{{OG_K_attention_split_32_e4m3, OG_K_attention_serial_32_e4m3},
			{OG_K_attention_split_64_e4m3, OG_K_attention_serial_64_e4m3},
			{OG_K_attention_split_128_e4m3, OG_K_attention_serial_128_e4m3}},
	};
	struct og_cuda_attention args_a = *a;
	struct og_cuda_heads args_s = *s;
	void *args[] = {&args_a, &args_s, &rows};
	uint32_t dim = s->padded_dim;
	/*
	 * Two stages of keys and values, or of half as much with scales, and one in fp16; the totals of
	 * 128 threads. Of wide heads one stage, and of values and totals half of a head: two blocks do what
	 * else is one's.
	 */
	bool is_wide = dim > 128;
	uint32_t kind = is_wide ? 3 : dim / 64;
	uint32_t shared_bytes = is_wide ? 192 * dim + (serial ? 128 * dim : 0)
					: 512 * dim + (s->in_e4m3 ? 2 * 2 * SCALES_BYTES : 0) +
						  (serial ? 256 * dim : 0);
	int ret = og_cuda_launch(d, d->stream, kernels[s->in_e4m3][kind][serial],
		(struct og_cuda_grid){is_wide ? 2 * nb_tiles : nb_tiles, s->nb_kv_heads,
			serial ? 1 : a->nb_splits, ATTENTION_THREADS, shared_bytes},
		args);

	if (ret < 0 || serial)
		return ret;
	return og_cuda_launch(d, d->stream, OG_K_attention_merge,
		(struct og_cuda_grid){nb_rows, s->nb_heads, 1, dim, 0}, args);
}

/* Each has some for every thread, and all are live at once. */
static uint32_t draw_blocks(const struct og_cuda_device *d, const struct og_cuda_drawing *g)
{
	uint32_t n = OG_MIN(
		g->vocab / (8u * OG_CUDA_DRAW_THREADS), (uint32_t)d->nb_processors / g->nb_rows);

	return g->nb_blocks ? g->nb_blocks
			    : OG_MAX(OG_MIN(n, (uint32_t)OG_CUDA_DRAW_BLOCKS_MAX), 1u);
}

int og_cuda_draw_tokens(struct og_cuda_device *d, const struct og_cuda_drawing *g)
{
	struct og_cuda_drawing a = *g;
	uint32_t nb_blocks = draw_blocks(d, g);
	struct og_cuda_grid grid = {nb_blocks, a.nb_rows, 1, OG_CUDA_DRAW_THREADS, 0};
	CUdeviceptr results = (CUdeviceptr)(uintptr_t)g->results; /* one address for both */
	void *args[] = {&results, &a.drawn, &a.logits, &a.draws, &a.scratch, &a.vocab, &a.number};

	if (nb_blocks == 1)
		return og_cuda_launch(d, d->stream, OG_K_draw_tokens, grid, args);
	return og_cuda_launch_together(d, d->stream, OG_K_draw_tokens, grid, args);
}

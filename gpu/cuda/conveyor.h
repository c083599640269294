/*
 * conveyor.h: the schedule of a step of few rows as one launch: what conveyor.c makes and conveyor.cuh runs.
 *
 * A schedule is made once per model: operations in order, and of those the products once more, for
 * whoever runs ahead to load weights. Each product is cut in parts of 16 rows of its matrix, of gate and
 * up in parts of both; a block has the same parts in every step. Blocks have one part more than others
 * at most, and who has more moves on from product to product.
 *
 * Units:   addresses are of the device.
 * Threads: written at creation, then read only.
 * Compiles as C11 and C++17, for the host and for devices.
 */
#pragma once
#include "gpu/cuda/shapes.h"

#ifdef __CUDACC__
#define OG_CONVEYOR_FN static __host__ __device__ __forceinline__
#else
#define OG_CONVEYOR_FN static inline
#endif

enum {
	OG_CONVEYOR_ROWS = 16,                     /* of a step, at most */
	OG_CONVEYOR_THREADS = 32 * OG_CUDA_SLICES, /* a warp for each run of a sum */
	OG_CONVEYOR_TILE = 16,                     /* rows of a matrix */
	OG_CONVEYOR_GROUP = 4,                     /* tiles that go over the sum together */
	OG_CONVEYOR_STAGE_BYTES = OG_CONVEYOR_TILE * OG_CUDA_K_STEP * 2,
	/* Sums of two tiles, by run, of all rows. */
	OG_CONVEYOR_SUMS_BYTES = 2 * OG_CUDA_SLICES * OG_CONVEYOR_ROWS * OG_CONVEYOR_TILE * 4,
	OG_CONVEYOR_STATIC_BYTES = 1024, /* of shared memory, beside pages and rings */
};

/* Two stages of keys and values, or the sums: they are not needed at once. */
OG_CONVEYOR_FN uint32_t og_conveyor_pages_bytes(uint32_t padded_dim)
{
	uint32_t pages = 512 * padded_dim;

	return pages > OG_CONVEYOR_SUMS_BYTES ? pages : (uint32_t)OG_CONVEYOR_SUMS_BYTES;
}

struct og_conveyor_product {
	uint64_t w, x, out;
	uint32_t kp;       /* of w and x */
	uint32_t n_out;    /* columns of out that are written */
	uint32_t ld;       /* of out */
	uint32_t epilogue; /* enum og_cuda_epilogue */
	uint32_t nb_parts;
	uint32_t shift;     /* the block that has the first part */
	float cap;          /* of what is stored; 0: none */
	uint32_t is_wanted; /* of the rows that want a result only */
};

enum og_conveyor_kind {
	OG_CONVEYOR_EMBED, /* x, and the angles */
	OG_CONVEYOR_NORM,  /* h = norm(x) * a; of the wanted rows, where the product is */
	OG_CONVEYOR_ADD,   /* x += delta + a, or the norm of that, times b */
	OG_CONVEYOR_PRODUCT,
	OG_CONVEYOR_ATTENTION, /* rotation and append, with bias a and norms b and c, then attention */
};

/* What a kind does not use is 0. */
struct og_conveyor_op {
	uint32_t kind;
	uint32_t meets; /* all blocks have done what is before it, before it begins */
	uint32_t layer, windowed;
	uint64_t a, b, c;
	struct og_conveyor_product product;
};

/* The kernel's parameter. */
struct og_conveyor_args {
	/* Of the model and the device: */
	uint64_t ops, products;
	uint64_t x, h, delta, qkv, att, mixes, states, kv;
	uint64_t turns[2], cosine[2], sine[2];
	uint64_t embedding, drawn;
	uint64_t arrivals; /* (rows, kv_heads): splits that are left, 0 between steps */
	uint64_t counter;  /* of blocks that came to a meeting, ever */
	uint64_t gave_up;  /* a word of the host: not 0 after a meeting that took too long */
	struct og_cuda_heads heads; /* window: that of a windowed layer */
	float q_scale, eps, embed_scale, magnitude[2];
	uint32_t width;
	uint32_t depth;    /* of a ring: stages */
	uint64_t patience; /* clocks until a meeting is given up */
	/* Of the step: */
	uint64_t rows, tables, wanted;
	uint32_t nb_ops, nb_products;
	uint32_t nb_rows, nb_wanted, nb_splits;
	uint32_t met; /* what `counter` is at before */
};

/* Of a counter: further ahead it is not, unless somebody gave up. */
enum { OG_CONVEYOR_GAVE_UP = 1 << 28 };

/* The parts [begin, end) of a product that block `block` of `nb_blocks` has. */
OG_CONVEYOR_FN void og_conveyor_share(const struct og_conveyor_product *p, uint32_t block,
	uint32_t nb_blocks, uint32_t *begin, uint32_t *end)
{
	uint32_t each = p->nb_parts / nb_blocks, more = p->nb_parts % nb_blocks;
	uint32_t at = block >= p->shift ? block - p->shift : block + nb_blocks - p->shift;

	*begin = at * each + (at < more ? at : more);
	*end = *begin + each + (at < more ? 1 : 0);
}

/* Tiles of a part: gate and up are in turns of one each. */
OG_CONVEYOR_FN uint32_t og_conveyor_part_tiles(const struct og_conveyor_product *p)
{
	return p->epilogue >= OG_CUDA_SWIGLU ? 2 : 1;
}

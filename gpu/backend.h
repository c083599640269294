/*
 * backend.h: what computes the forward pass, and the batch it computes.
 *
 * A batch is a list of rows, each one token of one sequence. A row attends to all earlier positions
 * of its sequence, those in the same batch included, and its result does not depend on the other
 * sequences in the batch: the same tokens give the same bits alone and in company.
 *
 * Keys and values live in pages of 64 positions that the back end owns and numbers from 0. The block
 * table of a sequence says which page holds which of its positions; who hands pages out, shares them
 * and takes them back is kv_pool.h.
 *
 * Steps are computed in the order of their submits and may overlap with the caller's work: what a row
 * draws can be the token of a row of the next step before anybody has seen it. In the same order they
 * are collected. Until then nobody else gets the pages that a step writes.
 *
 * Units:   pages are indices below nb_pages; their bytes are og_kv_page_bytes().
 * Threads: one engine thread per back end.
 * Memory:  a back end owns its pages and scratch, made at create for the stated maxima.
 */
#pragma once
#include "gpu/draw.h"
#include "gpu/model.h"

enum {
	OG_KV_PAGE_TOKENS = 64,
	OG_STEPS_MAX = 2, /* submitted and not collected */
};

#define OG_TOKEN_DRAWN UINT32_MAX       /* of a row: the one drawn last in its slot */
#define OG_TOKEN_NONE (UINT32_MAX - 1u) /* of a result: no logit was a number */

struct og_row {
	uint32_t token; /* below the vocabulary, or OG_TOKEN_DRAWN */
	uint32_t pos;   /* earlier ones of the sequence are filled or in this batch */
	uint32_t slot;  /* which block table; where tokens are drawn, below rows_max */
	bool wants_logits;
	const struct og_draw *draw; /* wants a token instead, drawn like this; or NULL */
};

struct og_batch {
	const struct og_row *rows;
	uint32_t nb_rows;
	const uint32_t *tables; /* (slots, table_pages): page of positions 64 * j … of a slot */
	uint32_t table_pages;
	/*
	 * Of each row that wants logits or draws, in the order of the rows: vocab floats, written for the
	 * former, scratch for the latter; and a token, written for the latter. Alive until collected.
	 */
	float *logits;
	uint32_t *tokens;
};

/* How a device computes a step of few tokens, each of another sequence: the results are the same. */
enum og_decode {
	OG_DECODE_PLAIN,    /* as any other step */
	OG_DECODE_CONVEYOR, /* as one launch, where the device can */
};

struct og_backend_opts {
	const struct og_model *model; /* outlives the back end */
	uint32_t nb_pages;
	uint32_t rows_max; /* in one batch */
	uint32_t nb_threads;
	uint32_t
		context; /* what sequences may reach: decides between a rope's two sets of factors */
	/* In e4m3 (fp8.h), half the bytes; -EOPNOTSUPP from a back end that has no such kernels. */
	bool fp8_weights; /* of the matrices of layers */
	bool fp8_kv;
	bool cublaslt; /* of cuda: prompts are multiplied by that library, if it is installed */
	enum og_decode decode;
};

struct og_backend;

struct og_backend_ops {
	const char *name;
	/*
	 * Begin a step: at most OG_STEPS_MAX before they are collected. Rows and tables are read before it
	 * returns; where rows want logits, all is computed by then. Returns 0, or a negative errno when
	 * the device failed or the batch is none; then there is nothing to collect.
	 */
	int (*submit)(struct og_backend *b, const struct og_batch *batch);
	/* The results of the oldest step: waits for it. */
	int (*collect)(struct og_backend *b);
	/* A page's bytes, to and from host memory, in order with the steps. */
	int (*save_page)(struct og_backend *b, uint32_t page, void *out);
	int (*load_page)(struct og_backend *b, uint32_t page, const void *bytes);
	void (*destroy)(struct og_backend *b);
};

/* Written by the back end. */
struct og_backend {
	const struct og_backend_ops *ops;
	bool is_lost;              /* the device will compute nothing more */
	bool overlaps;             /* steps are computed beside the caller */
	uint64_t host_bytes_total; /* results copied from a device */
};

/* One step by itself. */
static inline int og_backend_forward(struct og_backend *b, const struct og_batch *batch)
{
	int ret = b->ops->submit(b, batch);

	return ret < 0 ? ret : b->ops->collect(b);
}

/* What a page takes, all layers together; UINT64_MAX where that overflows. */
uint64_t og_kv_page_bytes(const struct og_hparams *hp, bool in_fp8);

/* gpu/cpu. `isa` NULL: the best that this processor has; else "avx512", "avx2" or "generic". */
int og_cpu_backend_create(
	struct og_backend **out, const struct og_backend_opts *opts, const char *isa) OG_MUST_CHECK;

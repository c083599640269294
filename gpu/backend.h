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
 * Units:   pages are indices below nb_pages; their bytes are og_kv_page_bytes().
 * Threads: one engine thread per back end.
 * Memory:  a back end owns its pages and scratch, made at create for the stated maxima.
 */
#pragma once
#include "gpu/model.h"

enum { OG_KV_PAGE_TOKENS = 64 };

struct og_row {
	uint32_t token; /* below the vocabulary */
	uint32_t pos;   /* earlier ones of the sequence are filled or in this batch */
	uint32_t slot;  /* which block table */
	bool wants_logits;
};

struct og_batch {
	const struct og_row *rows;
	uint32_t nb_rows;
	const uint32_t *tables; /* (slots, table_pages): page of positions 64 * j … of a slot */
	uint32_t table_pages;
	float *logits; /* vocab floats for each row that wants them, in the order of the rows */
};

struct og_backend_opts {
	const struct og_model *model; /* outlives the back end */
	uint32_t nb_pages;
	uint32_t rows_max; /* in one batch */
	uint32_t nb_threads;
	uint32_t
		context; /* what sequences may reach: decides between a rope's two sets of factors */
};

struct og_backend;

struct og_backend_ops {
	const char *name;
	/* Returns 0, or a negative errno when the device failed. */
	int (*forward)(struct og_backend *b, const struct og_batch *batch);
	/* A page's bytes, to and from host memory, in order with the forward passes. */
	int (*save_page)(struct og_backend *b, uint32_t page, void *out);
	int (*load_page)(struct og_backend *b, uint32_t page, const void *bytes);
	void (*destroy)(struct og_backend *b);
};

struct og_backend {
	const struct og_backend_ops *ops;
	bool is_lost; /* the device will compute nothing more; written by the back end */
};

/* What a page takes, all layers together; UINT64_MAX where that overflows. */
uint64_t og_kv_page_bytes(const struct og_hparams *hp);

/* gpu/cpu. `isa` NULL: the best that this processor has; else "avx512", "avx2" or "generic". */
int og_cpu_backend_create(
	struct og_backend **out, const struct og_backend_opts *opts, const char *isa) OG_MUST_CHECK;

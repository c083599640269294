/*
 * forward_priv.h: the state of the back end, shared by the files that plan a step, take it and make
 * the whole. All of it belongs to the engine's thread.
 */
#pragma once
#include "gpu/cuda/cublaslt.h"
#include "gpu/cuda/forward.h"
#include "gpu/cuda/weights.h"

enum {
	OG_CUDA_LOGIT_ROWS = 128, /* computed and copied at a time */
	OG_CUDA_SPLIT_UNITS =
		4096, /* rows times splits for which there is room between two kernels */
};

/* What a step hands to the device, in pinned memory, and the same in device memory. */
struct og_cuda_inputs {
	struct og_cuda_row *rows;   /* (rows_max) */
	struct og_cuda_tile *tiles; /* (rows_max) */
	uint32_t *wanted; /* (rows_max): of those that draw, then of those that want logits */
	struct og_cuda_draw *draws; /* (rows_max) */
	uint32_t *tables;           /* (tables_max) */
};

/* Rows of a step that lie together and are multiplied by the same. */
struct og_cuda_part {
	uint32_t first, nb_rows;
	bool by_library;
};

/* A step from submit to collect. */
struct og_cuda_step {
	void *host; /* pinned: what `in` and `results` point into */
	struct og_cuda_inputs in;
	size_t in_use; /* bytes of it */
	CUdeviceptr device_in;
	CUdeviceptr rows, tiles, wanted, draws, tables; /* of device_in */
	uint64_t *results; /* (rows_max): of each row that draws the step's number and the token */
	CUevent done;
	uint32_t number;
	uint32_t nb_rows, nb_tiles, nb_draws, nb_logits, nb_splits;
	uint32_t *tokens; /* the batch's */
};

struct og_cuda {
	struct og_backend base;
	struct og_cuda_device d;
	struct og_cuda_tuning tuning;
	const struct og_model *model;
	struct og_cuda_weights w;
	struct og_cuda_heads heads;
	bool kv_in_fp8;
	float q_scale;
	uint32_t context;
	uint32_t rows_max;
	uint32_t nb_pages;
	uint32_t tables_max;
	uint64_t page_bytes;

	size_t in_bytes;  /* of a step's inputs, */
	size_t tables_at; /* the tables last */
	struct og_cuda_step steps[OG_STEPS_MAX];
	uint32_t oldest, nb_pending, last_number;
	struct og_cuda_step *now;   /* the one that is being submitted */
	struct og_cuda_part *parts; /* (rows_max): its rows */
	uint32_t nb_parts;
	struct og_cuda_lt *lt;    /* NULL: our own kernels multiply everything */
	uint32_t *logits_at;      /* (rows_max): where the logits of its rows go */
	CUdeviceptr draw_scratch; /* (LOGIT_ROWS) */
	CUdeviceptr drawn;        /* (rows_max): the last token of each slot */
	float *host_logits;       /* pinned, (LOGIT_ROWS, vocab) */
	void *host_page;          /* pinned */

	CUdeviceptr kv;
	CUdeviceptr scratch; /* what these point into */
	/* Of layers without and with a window: */
	CUdeviceptr turns[2], cosine[2], sine[2];
	CUdeviceptr x, h, qkv, q, att, act, mixes, states, logits;
	CUdeviceptr gates; /* where a library multiplies, what it makes of gate and up */
	CUdeviceptr delta; /* what a block gives, where it is not simply added; 0: it is */
};

/* Fills the step `c->now` from a batch; negative errno, and nothing has started, if it makes no sense. */
int og_cuda_plan(struct og_cuda *c, const struct og_batch *b) OG_MUST_CHECK;

extern const struct og_backend_ops og_cuda_ops;
void og_cuda_forward_destroy(struct og_backend *b);

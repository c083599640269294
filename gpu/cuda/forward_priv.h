/*
 * forward_priv.h: the state of the back end, shared by the files that plan a step, take it and make
 * the whole. All of it belongs to the engine's thread.
 */
#pragma once
#include "gpu/cuda/conveyor.h"
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
	bool has_logits;  /* of all wanted rows: computed with the rest */
	uint32_t *tokens; /* the batch's */
};

/* A schedule on the host, while it is made. */
struct og_conveyor_schedule {
	struct og_conveyor_op *ops;
	struct og_conveyor_product *products;
	uint32_t nb_ops, nb_products;
};

/* Steps as one launch. */
struct og_cuda_conveyor {
	bool is_there; /* else the device lacks something, or nobody asked for it */
	enum og_cuda_kernel kernel;
	uint32_t shared_bytes;
	uint32_t nb_ops, nb_products, nb_meetings, nb_end_meetings;
	uint32_t met; /* what the device's counter of meetings will be at */
	uint64_t nb_steps;
	struct og_conveyor_args args; /* those of all steps */
	CUdeviceptr memory;           /* what they point into */
	uint32_t *gave_up;            /* pinned */
};

struct og_cuda {
	struct og_backend base;
	struct og_cuda_device d;
	struct og_cuda_tuning tuning;
	enum og_decode decode;
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
	struct og_cuda_conveyor conveyor;
};

/* Fills the step `c->now` from a batch; negative errno, and nothing has started, if it makes no sense. */
int og_cuda_plan(struct og_cuda *c, const struct og_batch *b) OG_MUST_CHECK;

/*
 * All steps of the model, for blocks of that number. Returns 0, -ENOMEM, or -EINVAL where a matrix lacks
 * padding. Who made it checks it: 0, or -EINVAL where it misses or doubles a part of a product, loads
 * ahead what is not multiplied, or reads what others may not have written.
 */
int og_conveyor_schedule_make(struct og_conveyor_schedule *out, const struct og_cuda *c,
	uint32_t nb_blocks) OG_MUST_CHECK;
int og_conveyor_schedule_check(
	const struct og_conveyor_schedule *s, uint32_t nb_blocks) OG_MUST_CHECK;
void og_conveyor_schedule_fini(struct og_conveyor_schedule *s);

/* When buffers and weights are there. 0 also where the device cannot: then steps are plain. */
int og_cuda_conveyor_create(struct og_cuda *c) OG_MUST_CHECK;
void og_cuda_conveyor_destroy(struct og_cuda *c);
/* Is the step that was planned from `b` one for it? */
bool og_cuda_conveyor_takes(const struct og_cuda *c, const struct og_batch *b);
/* The planned step up to the logits of wanted rows: those that draw, then the others. */
int og_cuda_conveyor_step(struct og_cuda *c) OG_MUST_CHECK;
/* After a wait for a step: -EIO where it was given up, which loses the device. */
int og_cuda_conveyor_check(struct og_cuda *c) OG_MUST_CHECK;

extern const struct og_backend_ops og_cuda_ops;
void og_cuda_forward_destroy(struct og_backend *b);

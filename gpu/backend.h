/*
 * backend.h: what computes the forward pass, and the batch it computes.
 *
 * A batch is a list of rows, each one token of one sequence. A row attends to all earlier positions
 * of its slot, those in the same batch included, and its result does not depend on the other
 * sequences in the batch: the same tokens give the same bits alone and in company.
 *
 * Threads: one engine thread per back end.
 * Memory:  a back end owns its KV cache and scratch, made at create for the stated maxima.
 */
#pragma once
#include "gpu/model.h"

struct og_row {
	uint32_t token; /* below the vocabulary */
	uint32_t pos;  /* below the context; earlier ones of the slot are filled or in this batch */
	uint32_t slot; /* which sequence's KV cache */
	bool wants_logits;
};

struct og_batch {
	const struct og_row *rows;
	uint32_t nb_rows;
	float *logits; /* vocab floats for each row that wants them, in the order of the rows */
};

struct og_backend_opts {
	const struct og_model *model; /* outlives the back end */
	uint32_t context;             /* positions per slot */
	uint32_t nb_slots;
	uint32_t rows_max; /* in one batch */
	uint32_t nb_threads;
};

struct og_backend;

struct og_backend_ops {
	const char *name;
	/* Returns 0, or a negative errno when the device failed. */
	int (*forward)(struct og_backend *b, const struct og_batch *batch);
	void (*destroy)(struct og_backend *b);
};

struct og_backend {
	const struct og_backend_ops *ops;
};

/* gpu/cpu. `isa` NULL: the best that this processor has; else "avx512", "avx2" or "generic". */
int og_cpu_backend_create(
	struct og_backend **out, const struct og_backend_opts *opts, const char *isa) OG_MUST_CHECK;

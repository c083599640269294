/*
 * tensor.h: an entry of a model file's table of tensors, whichever the format.
 *
 * Units:   dims[0] varies fastest: a matrix of n_out rows of n_in values has dims {n_in, n_out}.
 * Memory:  the name points into the header that the table came from.
 */
#pragma once
#include "gpu/dtype.h"
#include "gpu/text.h"

enum { OG_TENSOR_DIMS_MAX = 4, OG_TENSOR_SHOWN_BYTES = 96 };

struct og_tensor {
	struct og_text name;
	enum og_dtype type; /* OG_DTYPES: one that nothing is done with */
	uint32_t file;      /* of those that the model consists of */
	uint32_t nb_dims;
	uint64_t dims[OG_TENSOR_DIMS_MAX]; /* 1 beyond nb_dims */
	uint64_t offset;                   /* in the file */
	uint64_t size_bytes;
};

/* Names come from files: the first bytes of one, with only printable ones kept. NUL-terminated. */
struct og_shown {
	char text[OG_TENSOR_SHOWN_BYTES + 1];
};
struct og_shown og_show(struct og_text name);

/* By name; sorts and searches tables. */
int og_tensor_compare(const void *a, const void *b);
/* NULL if absent; the table is in order of names. */
const struct og_tensor *og_tensor_find(
	const struct og_tensor *tensors, uint32_t nb_tensors, const char *name);

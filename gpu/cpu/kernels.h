/*
 * kernels.h: the arithmetic of the CPU back end, one table per instruction set.
 *
 * Each result is computed in an order that depends only on the lengths involved, never on how many
 * rows or activations one call covers, so a batch gives the bits that its members give alone.
 *
 * Units:   lengths in values.
 * Threads: pure functions.
 */
#pragma once
#include "gpu/gguf.h"

enum { OG_ACT_BLOCK = OG_Q8_0_VALUES };

/*
 * Activation vectors as the kernels want them: plain, and for weights in blocks also as 16-bit
 * integers with a scale per block of 32. 16 bits keep the rounding below that of fp16 weights, and the
 * dot product of a block is exact: 4 * 128 * 32767 per lane fits the 24 bits of a float.
 */
struct og_activations {
	const float *x;         /* (count, stride) */
	const int16_t *q;       /* (count, stride) */
	const float *q_scale;   /* (count, n / 32) */
	const int32_t *q_total; /* (count, n / 32): sums of a block's integers */
	uint32_t n;
	/* n, or a little more where the same places of all would share a cache set. */
	uint32_t stride;
};

/*
 * out[i * out_stride + r] = dot(row r of w, activation first + i), for nb_rows rows and count
 * activations. Where rows lie in panels, nb_rows is a number of whole ones.
 */
typedef void og_matmul_fn(float *out, size_t out_stride, const uint8_t *w, size_t row_bytes,
	uint32_t nb_rows, const struct og_activations *a, uint32_t first, uint32_t count);

struct og_cpu_kernels {
	const char *isa;
	og_matmul_fn *matmul[OG_DTYPES];    /* rows as the file has them */
	og_matmul_fn *const *matmul_panels; /* of the types that have any */
	/* n a multiple of 32 */
	void (*quantize)(const float *x, int16_t *q, float *scale, int32_t *total, uint32_t n);
	void (*rms_norm)(float *out, const float *x, const float *w, uint32_t n, float eps);
	/* out[t] = scale * dot(q, k[t]) for `count` keys of fp16, one after the other */
	void (*scores)(float *out, const float *q, const uint16_t *k, uint32_t count, uint32_t n,
		float scale);
	/* x = e^(x - max); returns their sum */
	float (*exp_sum)(float *x, uint32_t n, float max);
	/* out += sum over t of p[t] * v[t], values of fp16; one sum, whatever the calls it is cut into */
	void (*mix)(float *out, const float *p, const uint16_t *v, uint32_t count, uint32_t n);
	void (*to_f16)(uint16_t *out, const float *x, uint32_t n);
	/* gate = silu(gate) * up */
	void (*swiglu)(float *gate, const float *up, uint32_t n);
	/* gate = gelu(gate) * up, by the tanh approximation */
	void (*geglu)(float *gate, const float *up, uint32_t n);
};

/* NULL: the best that this processor runs. Returns NULL for a name that is unknown or cannot run. */
const struct og_cpu_kernels *og_cpu_kernels_pick(const char *isa);
